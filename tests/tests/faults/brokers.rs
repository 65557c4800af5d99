//! Brokers that crash, stop, lose their power, freeze; leaders, controllers and in-sync replicas that change.

use crate::lies::create_topic;
use crate::scene::{LONG, ORDERS, Producer, Sent, Stage, next, one_broker, struck_or_not, two_brokers};
use rdkafka::error::RDKafkaErrorCode as Code;
use rehearsal_mockbroker::control::Command;
use rehearsal_mockbroker::fault::Requests;
use rehearsal_mockbroker::state::nodes::NodeId;
use rehearsal_mockbroker::testing::{Builder, MockCluster};
use rehearsal_mockbroker::wire::{ApiKey, Request};
use std::time::Duration;

fn leader(kafka: &MockCluster) -> i32 {
    kafka.view().topic(ORDERS).expect("it exists").partitions[0].leader.expect("one leads").0
}

fn follower(kafka: &MockCluster) -> NodeId {
    NodeId(3 - leader(kafka))
}

fn control(kafka: &MockCluster, command: Command) {
    kafka.control(command).expect("it can be done");
}

fn replica(kafka: &MockCluster) -> (String, i32, NodeId) {
    (ORDERS.to_owned(), 0, follower(kafka))
}

/// A producer that gives a record up soon, but tries until then.
fn persistent(stage: &Stage<'_>) -> Producer {
    stage.producer(&[("retries", "100"), ("message.timeout.ms", "2000")])
}

#[test]
fn nobody_answers_for_a_crashed_broker() {
    let seen = struck_or_not(
        one_broker(),
        |kafka| kafka.crash(1).expect("it runs"),
        |stage| {
            let producer = persistent(stage);
            [producer.send("a"), {
                stage.strike();
                producer.send("b")
            }]
        },
    );
    assert_eq!((seen.with, seen.without), ([Ok(0), Err(Code::MessageTimedOut)], [Ok(0), Ok(1)]));
}

#[test]
fn a_restarted_broker_answers_again() {
    let seen = struck_or_not(
        one_broker(),
        |kafka| kafka.start_broker(1).expect("it is down"),
        |stage| {
            let producer = persistent(stage);
            producer.send("a").expect("it runs");
            stage.kafka.crash(1).expect("it runs");
            stage.strike();
            producer.send("b")
        },
    );
    assert_eq!((seen.with, seen.without), (Ok(1), Err(Code::MessageTimedOut)));
}

/// Whether the second record is written, and whether it went to the broker that took the first.
fn to_another(stage: &Stage<'_>) -> (Sent, bool) {
    let producer = stage.producer(&[("retries", "100"), ("message.timeout.ms", "10000")]);
    producer.send("a").expect("it runs");
    stage.strike();
    let sent = producer.send("b");
    let asked = stage.asked(ApiKey::Produce);
    (sent, asked.first() == asked.last())
}

#[test]
fn a_client_finds_the_new_leader_when_the_old_one_crashes() {
    let seen = struck_or_not(two_brokers(), |kafka| kafka.crash(leader(kafka)).expect("it runs"), to_another);
    assert_eq!((seen.with, seen.without), ((Ok(1), false), (Ok(1), true)));
}

#[test]
fn a_client_finds_the_new_leader_when_the_old_one_stops_in_order() {
    let stop = |kafka: &MockCluster| control(kafka, Command::Stop(NodeId(leader(kafka))));
    let seen = struck_or_not(two_brokers(), stop, to_another);
    assert_eq!((seen.with, seen.without), ((Ok(1), false), (Ok(1), true)));
}

#[test]
fn a_client_finds_the_new_leader_when_leadership_moves() {
    let moved = |kafka: &MockCluster| kafka.move_leader(ORDERS, 0, follower(kafka).0).expect("it is in sync");
    let seen = struck_or_not(two_brokers(), moved, to_another);
    assert_eq!((seen.with, seen.without), ((Ok(1), false), (Ok(1), true)));
}

/// The first record a reader finds after the power has come back.
fn what_is_left(stage: &Stage<'_>, flush_first: bool) -> (i64, String) {
    let producer = persistent(stage);
    producer.send("a").expect("it is written");
    if flush_first {
        control(stage.kafka, Command::Flush(NodeId(1)));
    }
    stage.strike();
    producer.send("b").expect("it runs again");
    next(&stage.reader(ORDERS, 0, &[])).expect("a record")
}

fn lose_power(kafka: &MockCluster) {
    control(kafka, Command::PowerLoss(NodeId(1)));
    kafka.start_broker(1).expect("it is down");
}

#[test]
fn a_loss_of_power_takes_what_was_not_flushed() {
    let seen = struck_or_not(one_broker(), lose_power, |stage| what_is_left(stage, false));
    assert_eq!((seen.with, seen.without), ((0, "b".into()), (0, "a".into())));
}

#[test]
fn what_was_flushed_survives_a_loss_of_power() {
    let flush = |kafka: &MockCluster| control(kafka, Command::Flush(NodeId(1)));
    let seen = struck_or_not(one_broker(), flush, |stage| {
        let producer = persistent(stage);
        producer.send("a").expect("it is written");
        stage.strike();
        lose_power(stage.kafka);
        producer.send("b").expect("it runs again");
        next(&stage.reader(ORDERS, 0, &[])).expect("a record").1
    });
    assert_eq!((seen.with, seen.without), ("a".into(), "b".into()));
}

#[test]
fn a_frozen_broker_takes_requests_and_answers_none() {
    let seen = struck_or_not(
        one_broker(),
        |kafka| kafka.pause(1).expect("it runs"),
        |stage| {
            let producer = stage.producer(&[]);
            producer.send("a").expect("it is written");
            stage.strike();
            producer.begin(ORDERS, 0, "b");
            stage.wait_for_requests(Requests::of(ApiKey::Produce), 2);
            let stored = stage.stored(ORDERS, 0).len();
            if !stage.kafka.view().paused.is_empty() {
                stage.kafka.resume(1).expect("it is paused");
            }
            (stored, producer.delivered().1)
        },
    );
    assert_eq!((seen.with, seen.without), ((1, Ok(1)), (2, Ok(1))));
}

#[test]
fn a_resumed_broker_goes_on_with_what_it_received() {
    let seen = struck_or_not(
        one_broker(),
        |kafka| kafka.resume(1).expect("it is paused"),
        |stage| {
            let producer = stage.producer(&[("message.timeout.ms", "2500"), ("socket.timeout.ms", "2000")]);
            producer.send("a").expect("it is written");
            stage.kafka.pause(1).expect("it runs");
            producer.begin(ORDERS, 0, "b");
            stage.wait_for_requests(Requests::of(ApiKey::Produce), 2);
            stage.strike();
            producer.delivered().1
        },
    );
    assert_eq!((seen.with, seen.without), (Ok(1), Err(Code::MessageTimedOut)));
}

#[test]
fn a_fenced_consumer_learns_the_new_epoch() {
    let bump = |kafka: &MockCluster| {
        control(kafka, Command::BumpLeaderEpoch { topic: ORDERS.into(), partition: 0 });
    };
    let seen = struck_or_not(one_broker(), bump, |stage| {
        let producer = persistent(stage);
        producer.send("a").expect("it is written");
        let reader = stage.reader(ORDERS, 0, &[]);
        let first = next(&reader).expect("a record").1;
        stage.strike();
        producer.send("b").expect("it is written");
        let second = next(&reader).expect("a record").1;
        let epochs = stage.kafka.requests(Requests::of(ApiKey::Fetch)).into_iter().filter_map(|request| {
            let Request::Fetch(fetch) = &request.body else { return None };
            Some(fetch.topics.first()?.partitions.first()?.current_leader_epoch)
        });
        let last = epochs.filter(|epoch| *epoch >= 0).max();
        (first, second, last)
    });
    assert_eq!(seen.with, ("a".into(), "b".into(), Some(1)));
    assert_eq!(seen.without, ("a".into(), "b".into(), Some(0)));
}

#[test]
fn administration_goes_to_the_new_controller() {
    let moved = |kafka: &MockCluster| control(kafka, Command::MoveController(NodeId(2)));
    let seen = struck_or_not(two_brokers(), moved, |stage| {
        stage.strike();
        create_topic(stage);
        (stage.last_asked(ApiKey::CreateTopics), stage.kafka.view().topic("fresh").is_some())
    });
    assert_eq!((seen.with, seen.without), ((2, true), (1, true)));
}

// ---- replicas ----

/// Two brokers, both of which must have a record.
fn careful() -> Builder {
    two_brokers().config("min.insync.replicas", "2")
}

#[test]
fn too_few_in_sync_replicas_take_no_careful_write() {
    let shrink = |kafka: &MockCluster| {
        let (topic, partition, node) = replica(kafka);
        control(kafka, Command::ShrinkIsr { topic, partition, node });
    };
    let seen = struck_or_not(careful(), shrink, |stage| {
        stage.strike();
        ["all", "1"].map(|acks| stage.producer(&[("acks", acks)]).send("a"))
    });
    assert_eq!(seen.with, [Err(Code::NotEnoughReplicas), Ok(0)]);
    assert_eq!(seen.without, [Ok(0), Ok(1)]);
}

#[test]
fn a_replica_let_back_in_counts_again() {
    let expand = |kafka: &MockCluster| {
        let (topic, partition, node) = replica(kafka);
        control(kafka, Command::ExpandIsr { topic, partition, node });
    };
    let seen = struck_or_not(careful(), expand, |stage| {
        let (topic, partition, node) = replica(stage.kafka);
        control(stage.kafka, Command::ShrinkIsr { topic, partition, node });
        stage.strike();
        stage.producer(&[]).send("a")
    });
    assert_eq!((seen.with, seen.without), (Ok(0), Err(Code::NotEnoughReplicas)));
}

/// Whether a careful write waits for the follower; it is written when time passes, or the follower goes on.
fn waits_for_follower(stage: &Stage<'_>, then: impl Fn()) -> (bool, Sent) {
    let producer = stage.producer(&[]);
    producer.send("a").expect("it is written");
    stage.strike();
    producer.begin(ORDERS, 0, "b");
    stage.wait_for_requests(Requests::of(ApiKey::Produce), 2);
    let waits = stage.kafka.view().waiting_requests > 0;
    then();
    (waits, producer.delivered().1)
}

fn stop_copying(kafka: &MockCluster) {
    let (topic, partition, node) = replica(kafka);
    control(kafka, Command::StopCopying { topic, partition, node });
}

#[test]
fn a_follower_that_stops_copying_is_waited_for_until_it_is_out_of_sync() {
    let seen = struck_or_not(two_brokers(), stop_copying, |stage| {
        // Thirty seconds are `replica.lag.time.max.ms`, and the client's own patience with the request.
        waits_for_follower(stage, || (0..4).for_each(|_| stage.kafka.advance(Duration::from_secs(16))))
    });
    assert_eq!((seen.with.0, seen.without), (true, (false, Ok(1))));
}

#[test]
fn a_follower_that_copies_again_lets_a_write_be_answered() {
    let resume = |kafka: &MockCluster| {
        let (topic, partition, node) = replica(kafka);
        control(kafka, Command::ResumeCopying { topic, partition, node });
    };
    let seen = struck_or_not(two_brokers(), resume, |stage| {
        let producer = stage.producer(&[("message.timeout.ms", "2500"), ("socket.timeout.ms", "2000")]);
        stop_copying(stage.kafka);
        producer.begin(ORDERS, 0, "a");
        stage.wait_for_requests(Requests::of(ApiKey::Produce), 1);
        stage.strike();
        producer.delivered().1
    });
    assert_eq!((seen.with, seen.without), (Ok(0), Err(Code::MessageTimedOut)));
}

#[test]
fn a_slow_follower_delays_careful_writes() {
    let slow = |kafka: &MockCluster| {
        let delay = Duration::from_secs(5);
        control(kafka, Command::SetFollowerDelay { node: follower(kafka), delay });
    };
    let seen = struck_or_not(two_brokers(), slow, |stage| {
        waits_for_follower(stage, || (0..3).for_each(|_| stage.kafka.advance(Duration::from_secs(5))))
    });
    assert_eq!((seen.with, seen.without), ((true, Ok(1)), (false, Ok(1))));
}

#[test]
fn an_unclean_leader_is_a_leader_and_lacks_what_it_had_not_copied() {
    let elect = |kafka: &MockCluster| {
        control(kafka, Command::ElectUnclean { topic: ORDERS.into(), partition: 0 });
    };
    let seen = struck_or_not(two_brokers(), elect, |stage| {
        let producer = stage.producer(&[("acks", "1"), ("retries", "100"), ("message.timeout.ms", "8000")]);
        producer.send("kept").expect("it is written");
        let (topic, partition, node) = replica(stage.kafka);
        stop_copying(stage.kafka);
        control(stage.kafka, Command::ShrinkIsr { topic, partition, node });
        producer.send("lost").expect("it is written");
        stage.kafka.crash(leader(stage.kafka)).expect("it runs");
        stage.strike();
        let metadata = producer.metadata(Some(ORDERS)).expect("an answer");
        let led = metadata.topics()[0].partitions()[0].leader() > 0;
        (led.then(|| producer.send("instead")), led.then(|| stage.stored(ORDERS, 0)))
    });
    assert_eq!(seen.with, (Some(Ok(1)), Some(vec!["kept".into(), "instead".into()])));
    assert_eq!(seen.without, (None, None), "nobody leads");
}

#[test]
fn an_advance_ends_what_waits_by_time() {
    let seen = struck_or_not(
        one_broker(),
        |kafka| kafka.advance(LONG),
        |stage| {
            let delayed = rehearsal_mockbroker::fault::Fault::on(ApiKey::Produce).delay(LONG);
            stage.kafka.plan(delayed).expect("it can happen");
            let producer = stage.producer(&[("message.timeout.ms", "2500"), ("socket.timeout.ms", "2000")]);
            producer.begin(ORDERS, 0, "a");
            stage.wait_for_requests(Requests::of(ApiKey::Produce), 1);
            stage.strike();
            producer.delivered().1
        },
    );
    assert_eq!((seen.with, seen.without), (Ok(0), Err(Code::MessageTimedOut)));
}
