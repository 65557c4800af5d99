//! An error instead of the effect, or after it; and every way to say which requests are meant.

use crate::scene::{ORDERS, Sent, Stage, code, one_broker, with_and_without};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rehearsal_mockbroker::error::ErrorCode;
use rehearsal_mockbroker::fault::{Fault, Requests};
use rehearsal_mockbroker::testing::MockCluster;
use rehearsal_mockbroker::wire::{ApiKey, Request};

/// An error clients do not try to get over.
const DENIED: ErrorCode = ErrorCode::TopicAuthorizationFailed;
/// One they forget with the record it is about.
const SPOILT: ErrorCode = ErrorCode::InvalidRecord;
const REFUSED: Sent = Err(Code::TopicAuthorizationFailed);

fn produce() -> Requests {
    Fault::on(ApiKey::Produce)
}

#[test]
fn of_the_whole_request() {
    let seen = with_and_without(one_broker(), produce().error(DENIED), |stage| {
        let sent = stage.producer(&[]).send("a");
        (sent, stage.stored(ORDERS, 0))
    });
    assert_eq!(seen.with, (REFUSED, vec![]));
    assert_eq!(seen.without, (Ok(0), vec!["a".into()]));
}

#[test]
fn of_one_topic() {
    let cluster = one_broker().topic("other", 1);
    let seen = with_and_without(cluster, produce().topic(ORDERS).error(DENIED).always(), |stage| {
        let producer = stage.producer(&[]);
        [producer.send_to(ORDERS, 0, "a"), producer.send_to("other", 0, "a")]
    });
    assert_eq!((seen.with, seen.without), ([REFUSED, Ok(0)], [Ok(0), Ok(0)]));
}

#[test]
fn of_one_partition() {
    let cluster = MockCluster::builder().topic(ORDERS, 2);
    let seen = with_and_without(cluster, produce().partition(1).error(DENIED).always(), |stage| {
        let producer = stage.producer(&[]);
        [producer.send_to(ORDERS, 0, "a"), producer.send_to(ORDERS, 1, "a")]
    });
    assert_eq!((seen.with, seen.without), ([Ok(0), REFUSED], [Ok(0), Ok(0)]));
}

#[test]
fn of_one_group() {
    let fault = Fault::on(ApiKey::OffsetCommit).group("billing").error(ErrorCode::GroupAuthorizationFailed).always();
    let seen = with_and_without(one_broker(), fault, |stage| {
        ["billing", "shipping"].map(|group| {
            let consumer = stage.consumer(&[("group.id", group)]);
            let mut offsets = TopicPartitionList::new();
            offsets.add_partition_offset(ORDERS, 0, Offset::Offset(7)).expect("an offset");
            let committed = consumer.commit(&offsets, CommitMode::Sync).map_err(|error| code(&error));
            (committed, stage.kafka.committed(group, ORDERS, 0))
        })
    });
    let done = (Ok(()), Some(7));
    assert_eq!(seen.with, [(Err(Code::GroupAuthorizationFailed), None), done]);
    assert_eq!(seen.without, [done, done]);
}

#[test]
fn of_one_client() {
    let seen = with_and_without(one_broker(), produce().client("ann").error(DENIED).always(), |stage| {
        ["ann", "ben"].map(|name| stage.producer(&[("client.id", name)]).send("a"))
    });
    assert_eq!((seen.with, seen.without), ([REFUSED, Ok(0)], [Ok(0), Ok(1)]));
}

#[test]
fn of_one_broker() {
    let cluster = MockCluster::builder().brokers(2).topic(ORDERS, 2);
    let seen = with_and_without(cluster, produce().broker(2).error(DENIED).always(), |stage| {
        let leaders = [stage.leader(ORDERS, 0), stage.leader(ORDERS, 1)];
        let producer = stage.producer(&[]);
        [1, 2].map(|broker| {
            let partition = leaders.iter().position(|leader| *leader == broker).expect("each leads one");
            producer.send_to(ORDERS, partition as i32, "a")
        })
    });
    assert_eq!((seen.with, seen.without), ([Ok(0), REFUSED], [Ok(0), Ok(0)]));
}

#[test]
fn of_one_version() {
    let spoken = {
        let kafka = one_broker().start().expect("a free port");
        Stage::plain(&kafka).producer(&[]).send("a").expect("it is written");
        kafka.requests(produce())[0].version
    };
    let send = |stage: &Stage<'_>| stage.producer(&[]).send("a");
    let seen = with_and_without(one_broker(), produce().versions(spoken..=spoken).error(DENIED), send);
    assert_eq!((seen.with, seen.without), (REFUSED, Ok(0)));

    let kafka = one_broker().start().expect("a free port");
    let others = kafka.plan(produce().versions(3..=spoken - 1).error(DENIED).may_not_fire()).expect("they are served");
    assert_eq!((send(&Stage::plain(&kafka)), others.hits()), (Ok(0), 0));
}

#[test]
fn of_the_third_of_its_kind() {
    let seen = with_and_without(one_broker(), produce().skip(2).error(SPOILT), |stage| {
        let producer = stage.producer(&[]);
        ["a", "b", "c", "d"].map(|value| producer.send(value))
    });
    assert_eq!(seen.with, [Ok(0), Ok(1), Err(Code::InvalidRecord), Ok(2)]);
    assert_eq!(seen.without, [Ok(0), Ok(1), Ok(2), Ok(3)]);
}

#[test]
fn of_those_that_fit_a_predicate() {
    let carefully = |request: &Request| matches!(request, Request::Produce(body) if body.acks == -1);
    let seen = with_and_without(one_broker(), produce().matching(carefully).error(DENIED).always(), |stage| {
        ["all", "1"].map(|acks| stage.producer(&[("acks", acks)]).send("a"))
    });
    assert_eq!((seen.with, seen.without), ([REFUSED, Ok(0)], [Ok(0), Ok(1)]));
}

#[test]
fn of_some_by_the_clusters_chance() {
    let fault = || produce().error(SPOILT).probability(0.5);
    let send = |stage: &Stage<'_>| {
        let producer = stage.producer(&[]);
        (0..20).filter(|_| producer.send("a").is_err()).collect::<Vec<_>>()
    };
    let seen = with_and_without(one_broker().seed(7), fault(), send);
    assert_eq!(seen.without, [0; 0]);
    assert!((1..20).contains(&seen.with.len()), "{seen:?}");
    let again = with_and_without(one_broker().seed(7), fault(), send);
    assert_eq!(again.with, seen.with, "the same seed has the same chance");
}

#[test]
fn an_error_told_after_the_effect_makes_a_client_write_twice() {
    let fault = produce().error_after_effect(ErrorCode::NotEnoughReplicasAfterAppend);
    let seen = with_and_without(one_broker(), fault, |stage| {
        let sent = stage.producer(&[("retries", "3")]).send("a");
        (sent, stage.stored(ORDERS, 0).len())
    });
    assert_eq!((seen.with, seen.without), ((Ok(1), 2), (Ok(0), 1)));
}

#[test]
fn an_error_before_the_effect_does_not() {
    let fault = produce().error(ErrorCode::NotEnoughReplicas).times(2);
    let seen = with_and_without(one_broker(), fault, |stage| {
        let sent = stage.producer(&[("retries", "5")]).send("a");
        (sent, stage.stored(ORDERS, 0).len(), stage.count(produce()))
    });
    assert_eq!((seen.with, seen.without), ((Ok(0), 1, 3), (Ok(0), 1, 1)));
}

#[test]
fn an_idempotent_producer_writes_once_whatever_it_is_told() {
    let fault = produce().error_after_effect(ErrorCode::NotEnoughReplicasAfterAppend);
    let seen = with_and_without(one_broker(), fault, |stage| {
        let sent = stage.producer(&[("enable.idempotence", "true"), ("retries", "3")]).send("a");
        (sent, stage.stored(ORDERS, 0).len(), stage.count(produce()))
    });
    assert_eq!((seen.with, seen.without), ((Ok(0), 1, 2), (Ok(0), 1, 1)));
}
