//! Requests and answers that are kept back: by delays, holds, throttling and frozen brokers.

use super::world::{ORDERS, World, commit, hello, produce};
use rehearsal_mockbroker::config::{ClusterConfig, TopicConfig};
use rehearsal_mockbroker::control::Command;
use rehearsal_mockbroker::fault::Fault;
use rehearsal_mockbroker::output::Frame;
use rehearsal_mockbroker::state::nodes::NodeId;
use rehearsal_mockbroker::time::Time;
use rehearsal_mockbroker::wire::{ApiKey, Response};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_delayed_request_takes_effect_when_its_time_has_come() {
    let mut world = World::new();
    world.plan(Fault::on(ApiKey::Produce).delay(SECOND));
    let client = world.connect();
    assert_eq!(world.ask(client, 9, produce(ORDERS, 0, "late")), None);
    assert_eq!(world.cluster.next_wake(), Some(world.now + SECOND));
    world.advance(999);
    assert_eq!(world.end_offset(ORDERS, 0), 1);
    world.advance(1);
    assert!(matches!(world.answer(client), Some(Response::Produce(_))));
    assert_eq!(world.end_offset(ORDERS, 0), 2);
}

#[test]
fn two_delays_of_one_request_add_up() {
    let mut world = World::new();
    world.plan(Fault::on(ApiKey::Produce).delay(SECOND));
    world.plan(Fault::on_any().topic(ORDERS).delay(SECOND));
    let client = world.connect();
    world.ask(client, 9, produce(ORDERS, 0, "late"));
    assert_eq!(world.cluster.next_wake(), Some(world.now + 2 * SECOND));
}

#[test]
fn a_delayed_answer_is_to_what_took_effect_at_once() {
    let mut world = World::new();
    world.plan(Fault::on(ApiKey::Produce).delay_answer(SECOND));
    let client = world.connect();
    assert_eq!(world.ask(client, 9, produce(ORDERS, 0, "now")), None);
    assert_eq!(world.end_offset(ORDERS, 0), 2);
    world.advance(1_000);
    assert!(world.answer(client).is_some());
}

#[test]
fn a_held_request_whose_connection_closed_still_takes_effect_when_it_is_released() {
    let mut world = World::new();
    let fault = world.plan(Fault::on(ApiKey::Produce).hold());
    let client = world.connect();
    world.ask(client, 9, produce(ORDERS, 0, "zombie"));
    world.disconnect(client);
    assert_eq!((world.end_offset(ORDERS, 0), world.fault(fault).holding), (1, 1));
    world.control(Command::Release(fault));
    assert_eq!((world.end_offset(ORDERS, 0), world.fault(fault).holding), (2, 0));
    assert_eq!(world.answer(client), None, "there is nobody to answer");
}

#[test]
fn a_delayed_request_whose_connection_closed_still_takes_effect() {
    let mut world = World::new();
    world.plan(Fault::on(ApiKey::OffsetCommit).delay(SECOND));
    let client = world.connect();
    world.ask(client, 9, commit("billing", 5));
    world.disconnect(client);
    world.advance(1_000);
    assert_eq!(world.cluster.committed("billing", ORDERS, 0).map(|committed| committed.offset), Some(5));
}

#[test]
fn what_is_held_is_released_in_the_order_in_which_it_came_and_nothing_is_held_after() {
    let mut world = World::new();
    let fault = world.plan(Fault::on(ApiKey::Produce).hold().always());
    let clients = [world.connect(), world.connect(), world.connect()];
    for client in clients {
        assert_eq!(world.ask(client, 9, produce(ORDERS, 0, "x")), None);
    }
    assert_eq!(world.fault(fault).holding, 3);
    world.control(Command::Release(fault));
    let offsets = clients.map(|client| match world.answer(client) {
        Some(Response::Produce(produced)) => produced.responses[0].partition_responses[0].base_offset,
        other => panic!("no offset: {other:?}"),
    });
    assert_eq!(offsets, [1, 2, 3]);
    assert!(world.ask(clients[0], 9, produce(ORDERS, 0, "x")).is_some(), "the fault is over");
    assert_eq!(world.fault(fault).hits, 3);
}

#[test]
fn a_held_answer_is_lost_with_its_connection_and_its_effect_is_not() {
    let mut world = World::new();
    let fault = world.plan(Fault::on(ApiKey::Produce).hold_answer());
    let client = world.connect();
    world.ask(client, 9, produce(ORDERS, 0, "x"));
    assert_eq!((world.end_offset(ORDERS, 0), world.fault(fault).holding), (2, 1));
    world.disconnect(client);
    assert_eq!(world.fault(fault).holding, 0);
    world.control(Command::Release(fault));
    assert_eq!(world.end_offset(ORDERS, 0), 2);
}

#[test]
fn what_a_broker_holds_dies_with_it() {
    let mut world = World::new();
    let fault = world.plan(Fault::on(ApiKey::Produce).hold());
    let client = world.connect();
    world.ask(client, 9, produce(ORDERS, 0, "x"));
    world.control(Command::Crash(NodeId(1)));
    assert!(world.is_closed(client));
    assert_eq!(world.fault(fault).holding, 0);
    world.control(Command::Start(NodeId(1)));
    world.control(Command::Release(fault));
    assert_eq!(world.end_offset(ORDERS, 0), 1);
}

#[test]
fn a_throttled_client_is_answered_at_once_and_its_next_request_waits() {
    let mut world = World::new();
    world.plan(Fault::on(ApiKey::Produce).throttle(SECOND));
    let (client, other) = (world.connect(), world.connect());
    match world.ask(client, 9, produce(ORDERS, 0, "x")) {
        Some(Response::Produce(produced)) => assert_eq!(produced.throttle_time_ms, 1_000),
        other => panic!("not answered: {other:?}"),
    }
    assert_eq!(world.ask(client, 3, hello()), None, "of whatever API (KIP-219)");
    assert!(world.ask(other, 3, hello()).is_some(), "other connections are not concerned");
    world.advance(999);
    assert_eq!(world.answer(client), None);
    world.advance(1);
    assert!(world.answer(client).is_some());
    assert!(world.ask(client, 3, hello()).is_some());
}

#[test]
fn a_throttle_is_over_when_its_time_is() {
    let mut world = World::new();
    world.plan(Fault::on(ApiKey::Produce).throttle(SECOND));
    let client = world.connect();
    world.ask(client, 9, produce(ORDERS, 0, "x"));
    world.advance(1_000);
    assert!(world.ask(client, 3, hello()).is_some());
}

#[test]
fn a_version_that_cannot_say_it_is_throttled_is_slowed_down_all_the_same() {
    let mut world = World::new();
    let fault = world.plan(Fault::on(ApiKey::ApiVersions).throttle(SECOND));
    let client = world.connect();
    assert!(world.ask(client, 0, hello()).is_some());
    assert_eq!(world.fault(fault).hits, 1);
    assert_eq!(world.ask(client, 0, hello()), None);
}

// ---- frozen brokers ----

#[test]
fn a_paused_broker_takes_requests_and_looks_at_them_when_it_goes_on() {
    let mut world = World::new();
    let before = world.connect();
    world.control(Command::Pause(NodeId(1)));
    let after = world.connect();
    for client in [before, after] {
        assert_eq!(world.ask(client, 9, produce(ORDERS, 0, "x")), None);
    }
    world.advance(1_000);
    assert_eq!((world.end_offset(ORDERS, 0), world.cluster.view().waiting_requests), (1, 2));
    world.control(Command::Resume(NodeId(1)));
    assert!(world.answer(before).is_some() && world.answer(after).is_some());
    assert_eq!(world.end_offset(ORDERS, 0), 3);
}

#[test]
fn a_paused_broker_does_nothing_though_a_delay_ends_or_a_fault_is_released() {
    let mut world = World::new();
    world.plan(Fault::on(ApiKey::Produce).topic(ORDERS).partition(0).delay(SECOND));
    let held = world.plan(Fault::on(ApiKey::Produce).topic(ORDERS).partition(1).hold());
    let late = world.plan(Fault::on(ApiKey::ApiVersions).delay_answer(SECOND));
    let clients = [world.connect(), world.connect(), world.connect()];
    world.ask(clients[0], 9, produce(ORDERS, 0, "delayed"));
    world.ask(clients[1], 9, produce(ORDERS, 1, "held"));
    world.ask(clients[2], 3, hello());
    assert_eq!(world.fault(late).hits, 1);
    world.control(Command::Pause(NodeId(1)));
    world.advance(1_000);
    world.control(Command::Release(held));
    assert_eq!(clients.map(|client| world.answer(client).is_some()), [false; 3]);
    assert_eq!((world.end_offset(ORDERS, 0), world.end_offset(ORDERS, 1)), (1, 0));

    world.control(Command::Resume(NodeId(1)));
    assert_eq!(clients.map(|client| world.answer(client).is_some()), [true; 3]);
    assert_eq!((world.end_offset(ORDERS, 0), world.end_offset(ORDERS, 1)), (2, 1));
}

// ---- connections and frames ----

#[test]
fn a_connection_closes_before_or_after_the_request_took_effect() {
    for (after, stored) in [(false, 1), (true, 2)] {
        let mut world = World::new();
        let requests = Fault::on(ApiKey::Produce);
        world.plan(if after { requests.disconnect_after_effect() } else { requests.disconnect() });
        let client = world.connect();
        assert_eq!(world.ask(client, 9, produce(ORDERS, 0, "x")), None);
        assert!(world.is_closed(client));
        assert_eq!(world.end_offset(ORDERS, 0), stored);
    }
}

#[test]
fn silence_leaves_the_connection_open_and_the_request_done_or_not() {
    for (after, stored) in [(false, 1), (true, 2)] {
        let mut world = World::new();
        let requests = Fault::on(ApiKey::Produce);
        world.plan(if after { requests.never_answer() } else { requests.ignore() });
        let client = world.connect();
        assert_eq!(world.ask(client, 9, produce(ORDERS, 0, "x")), None);
        world.advance(3_600_000);
        assert_eq!(world.answer(client), None);
        assert!(!world.is_closed(client));
        assert_eq!(world.end_offset(ORDERS, 0), stored);
    }
}

#[test]
fn a_frame_is_told_to_the_driver_and_one_cut_short_ends_the_connection() {
    let faults: [(fn() -> Fault, fn(Frame) -> bool); 3] = [
        (|| Fault::on(ApiKey::Produce).garble(), |frame| matches!(frame, Frame::Garbled { .. })),
        (|| Fault::on(ApiKey::Produce).cut_short(), |frame| frame == Frame::CutShort),
        (|| Fault::on(ApiKey::Produce).duplicate(), |frame| frame == Frame::Twice),
    ];
    for (fault, expected) in faults {
        let mut world = World::new();
        world.plan(fault());
        let client = world.connect();
        assert!(world.ask(client, 9, produce(ORDERS, 0, "x")).is_some());
        assert!(world.frame(client).is_some_and(expected));
        assert_eq!(world.is_closed(client), world.frame(client) == Some(Frame::CutShort));
    }
}

#[test]
fn an_answer_a_held_frame_fault_changes_is_changed_when_it_is_released() {
    let mut world = World::new();
    let hold = world.plan(Fault::on(ApiKey::Produce).hold_answer());
    world.plan(Fault::on(ApiKey::Produce).duplicate());
    let client = world.connect();
    world.ask(client, 9, produce(ORDERS, 0, "x"));
    world.control(Command::Release(hold));
    assert_eq!(world.frame(client), Some(Frame::Twice));
}

#[test]
fn a_command_that_is_refused_loses_no_answer_that_became_due() {
    let mut config = ClusterConfig::with_brokers(3);
    config.topics = vec![TopicConfig::new(ORDERS, 1)];
    config.follower_delay = SECOND;
    let mut world = World::bare(&config);
    let leader = world.cluster.view().topic(ORDERS).expect("it exists").partitions[0].leader.expect("one leads");
    let client = world.cluster.connect(leader, "/127.0.0.1").expect("it runs");
    let mut request = produce(ORDERS, 0, "x");
    (request.acks, request.timeout_ms) = (-1, 30_000);
    assert_eq!(world.ask(client, 9, request), None, "the followers have not copied it");

    world.now = world.now + 3 * SECOND;
    assert!(world.try_control(Command::Crash(NodeId(9))).is_err());
    assert_eq!(world.cluster.next_wake(), Some(Time::ZERO), "at once");
    world.advance(0);
    assert!(world.answer(client).is_some());
}
