//! What cannot be: said at once, and in words that help.

use crate::scene::{ORDERS, Stage, one_broker};
use rehearsal_mockbroker::control::Command;
use rehearsal_mockbroker::error::ErrorCode;
use rehearsal_mockbroker::fault::{Fault, Requests};
use rehearsal_mockbroker::state::nodes::NodeId;
use rehearsal_mockbroker::testing::{MockCluster, WaitError};
use rehearsal_mockbroker::wire::ApiKey;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// A cluster that creates no topics by itself, so that a misspelt one can never be.
fn strict() -> MockCluster {
    one_broker().config("auto.create.topics.enable", "false").start().expect("a free port")
}

fn never() -> Fault {
    Fault::on(ApiKey::Produce).topic(ORDERS).error(ErrorCode::KafkaStorageError).times(2)
}

#[test]
fn a_fault_that_cannot_happen_is_not_planned() {
    let kafka = strict();
    let told = |fault| kafka.plan(fault).expect_err("it cannot happen").to_string();
    let misspelt = Fault::on(ApiKey::Produce).topic("oders").disconnect();
    assert_eq!(
        told(misspelt),
        "'Produce to 'oders': connection closed before it takes effect, once' can never happen: there is no topic \
         'oders' (there are: orders) and none is created on demand"
    );
    assert_eq!(
        told(Fault::on(ApiKey::Heartbeat).topic(ORDERS).disconnect()),
        "'Heartbeat to 'orders': connection closed before it takes effect, once' can never happen: Heartbeat requests \
         name no topic; leave it out, or fault another API"
    );
    kafka.verify().expect("nothing is planned");
}

#[test]
fn a_fault_that_never_fired_fails_the_test_when_the_cluster_is_dropped() {
    let failed = catch_unwind(|| {
        let kafka = strict();
        kafka.plan(never()).expect("it can happen");
    });
    let told = failed.expect_err("dropping it panics");
    assert_eq!(
        told.downcast_ref::<String>().expect("a text"),
        "planned faults never happened, so the test did not test them:\
         \n  'Produce to 'orders': KAFKA_STORAGE_ERROR instead, 2 times' (0 requests matched)\
         \nsay `.may_not_fire()` where that is as it should be"
    );
}

#[test]
fn a_fault_that_may_not_fire_or_was_removed_fails_nothing() {
    let kafka = strict();
    kafka.plan(never().may_not_fire()).expect("it can happen");
    kafka.plan(never()).expect("it can happen").remove();
}

#[test]
fn a_test_that_fails_anyway_is_not_failed_twice() {
    let failed = catch_unwind(AssertUnwindSafe(|| {
        let kafka = strict();
        kafka.plan(never()).expect("it can happen");
        panic!("the test's own reason");
    }));
    assert_eq!(failed.expect_err("it panics").downcast_ref::<&str>(), Some(&"the test's own reason"));
}

#[test]
fn a_reset_forgets_no_fault_that_never_fired() {
    let kafka = strict();
    let fault = kafka.plan(never()).expect("it can happen");
    Stage::plain(&kafka).kafka.create_topic("fresh", 1).expect("it is not there");
    let refused = kafka.reset().expect_err("the fault would be forgotten").to_string();
    assert!(refused.starts_with("planned faults never happened"), "{refused}");
    assert!(kafka.view().topic("fresh").is_some(), "nothing was emptied");
    fault.remove();
    kafka.reset().expect("nothing waits any more");
    assert!(kafka.view().topic("fresh").is_none());
}

#[test]
fn a_wait_for_what_cannot_come_ends_at_once() {
    let kafka = strict();
    let begun = std::time::Instant::now();
    let wait = || kafka.wait_up_to(Duration::from_secs(3_600));
    let told = [
        wait().records("oders", 1).blocking().map(drop),
        wait().record("oders", |_| true).blocking().map(drop),
        wait().committed("billing", ORDERS, 7, 1).blocking().map(drop),
        wait().leader(ORDERS, 1).blocking().map(drop),
        wait().request(Requests::of(ApiKey::CreateDelegationToken)).blocking().map(drop),
        wait().requests(Requests::of(ApiKey::Produce).broker(9), 2).blocking().map(drop),
        wait().quiet(ORDERS, Duration::from_secs(7_200)).blocking().map(drop),
    ];
    let told = told.map(|outcome| outcome.expect_err("it cannot come").to_string());
    assert_eq!(
        told,
        [
            "waiting for 1 record in 'oders' would be in vain: there is no topic 'oders', and none is created on demand",
            "waiting for a record in 'oders' that fits would be in vain: there is no topic 'oders', and none is created \
             on demand",
            "waiting for group 'billing' to commit offset 1 of 'orders' partition 7 would be in vain: the last \
             partition of topic 'orders' is 0",
            "waiting for a leader of 'orders' partition 1 would be in vain: the last partition of topic 'orders' is 0",
            "waiting for a request: CreateDelegationToken would be in vain: 'CreateDelegationToken' can never happen: CreateDelegationToken is not \
             served, so clients never ask for it",
            "waiting for 2 requests: Produce at broker 9 would be in vain: 'Produce at broker 9' can never happen: there \
             is no broker 9",
            "waiting for nothing to be written to 'orders' for 7200s would be in vain: that takes longer than the 3600s \
             this wait has; use wait_up_to",
        ]
    );
    assert!(begun.elapsed() < Duration::from_secs(60), "nobody waited");
}

#[test]
fn a_wait_for_more_than_a_fault_will_do_ends_at_once() {
    let kafka = strict();
    let once = kafka.plan(never().times(1)).expect("it can happen");
    let told = |outcome: Result<(), WaitError>| outcome.expect_err("it cannot come").to_string();
    let hits = |times| told(kafka.wait_for().hits(&once, times).blocking().map(drop));
    let in_vain = "waiting for 'Produce to 'orders': KAFKA_STORAGE_ERROR instead, once' to";
    assert_eq!(hits(2), format!("{in_vain} have happened 2 times would be in vain: it happens once at most"));
    let _ = Stage::plain(&kafka).producer(&[]).send("a");
    assert_eq!(hits(2), format!("{in_vain} have happened 2 times would be in vain: it happens once and has"));
    assert_eq!(
        told(kafka.wait_for().held(&once).blocking()),
        format!(
            "{in_vain} hold something would be in vain: it is no fault that holds; say `.hold()` or `.hold_answer()`"
        )
    );
    let hold = kafka.plan(Fault::on(ApiKey::Produce).topic(ORDERS).hold().may_not_fire()).expect("it can happen");
    hold.release();
    assert_eq!(
        told(kafka.wait_for().held(&hold).blocking()),
        "waiting for 'Produce to 'orders': held before it takes effect, once' to hold something would be in vain: what \
         it held is released"
    );
}

#[test]
fn a_wait_that_was_in_vain_says_what_was_there_instead() {
    let kafka = strict();
    Stage::plain(&kafka).producer(&[("client.id", "ann")]).send("a").expect("it is written");
    let waited = kafka.wait_up_to(Duration::from_millis(1)).records(ORDERS, 3).blocking();
    let told = waited.expect_err("there is one").to_string();
    let expected = "waited 1ms for 3 records in 'orders', in vain\
                    \n  orders-0: offsets 0..1, high watermark 1, leader 1\
                    \n  0@0 key=null value=a\
                    \n  last requests:";
    assert!(told.starts_with(expected), "{told}");
    assert!(told.contains("Produce v") && told.contains("from 'ann' to broker 1"), "{told}");
}

#[test]
fn commands_about_what_is_not_there_say_what_is_missing() {
    let kafka = strict();
    let (topic, partition) = (ORDERS.to_owned(), 0);
    let refused = [
        kafka.crash(9),
        kafka.start_broker(1),
        kafka.resume(1),
        kafka.move_leader(ORDERS, 4, 1),
        kafka.rebalance("billing"),
        kafka.expire_member("billing", "ann"),
        kafka.trim(ORDERS, 0, 5),
        kafka.add_partitions("oders", 3),
        kafka.control(Command::RecreateTopic("oders".into())),
        kafka.control(Command::ElectUnclean { topic: topic.clone(), partition }),
        kafka.control(Command::ShrinkIsr { topic, partition, node: NodeId(1) }),
        kafka.control(Command::BumpProducerEpoch(7)),
    ];
    let told = refused.map(|outcome| outcome.expect_err("it cannot be done").to_string());
    assert_eq!(
        told,
        [
            "there is no broker 9; see `view().brokers` for those there are",
            "broker 1 runs already",
            "broker 1 is not paused",
            "there is no partition 4 of topic 'orders'",
            "there is no group 'billing'; see `view().groups` for those there are",
            "there is no group 'billing'; see `view().groups` for those there are",
            "OFFSET_OUT_OF_RANGE: offset 5 is not between 0 and the high watermark, 0",
            "there is no topic 'oders'; see `view().topics` for those there are",
            "there is no topic 'oders'; see `view().topics` for those there are",
            "ELECTION_NOT_NEEDED: partition 0 of topic 'orders' has a leader",
            "broker 1 does not follow 'orders' partition 0 in sync, so it cannot be taken out",
            "no partition has records of a producer with id 7",
        ]
    );
}
