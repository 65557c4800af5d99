//! Answers whose bytes are wrong, twice or too few, and answers that say something else.

use crate::scene::{ORDERS, next, one_broker, with_and_without};
use rdkafka::error::RDKafkaErrorCode as Code;
use rehearsal_mockbroker::fault::{Fault, Requests};
use rehearsal_mockbroker::wire::{ApiKey, Response};

fn produce() -> Requests {
    Fault::on(ApiKey::Produce)
}

#[test]
fn a_garbled_answer_cannot_be_read() {
    let seen = with_and_without(one_broker(), produce().garble(), |stage| {
        let sent = stage.producer(&[]).send("a");
        let unreadable = matches!(sent, Err(Code::BadMessage | Code::Underflow));
        (unreadable, sent.is_ok(), stage.stored(ORDERS, 0).len())
    });
    assert_eq!((seen.with, seen.without), ((true, false, 1), (false, true, 1)));
}

#[test]
fn an_answer_cut_short_is_a_broken_connection() {
    let seen = with_and_without(one_broker(), produce().cut_short(), |stage| {
        (stage.producer(&[]).send("a"), stage.stored(ORDERS, 0).len())
    });
    assert_eq!((seen.with, seen.without), ((Err(Code::BrokerTransportFailure), 1), (Ok(0), 1)));
}

#[test]
fn an_answer_sent_twice_is_one_too_many() {
    let seen = with_and_without(one_broker(), produce().duplicate(), |stage| {
        let producer = stage.producer(&[("statistics.interval.ms", "20")]);
        assert_eq!(producer.send("a"), Ok(0));
        let unexpected = |stats: &rdkafka::statistics::Statistics| {
            stats.brokers.values().map(|broker| broker.rxcorriderrs).sum::<u64>()
        };
        if stage.fault().is_some() {
            producer.stats_until(|stats| unexpected(stats) > 0);
        }
        assert_eq!(producer.send("b"), Ok(1), "the client goes on all the same");
        unexpected(&producer.next_stats())
    });
    assert_eq!((seen.with, seen.without), (1, 0));
}

#[test]
fn a_fetched_batch_that_is_corrupt_is_noticed_by_who_checks() {
    let fault = Fault::on(ApiKey::Fetch).topic(ORDERS).partition(0).corrupt_batch();
    let seen = with_and_without(one_broker(), fault, |stage| {
        let producer = stage.producer(&[]);
        producer.send("a").expect("it is written");
        next(&stage.reader(ORDERS, 0, &[("check.crcs", "true")]))
    });
    assert_eq!((seen.with, seen.without), (Err(Code::BadMessage), Ok((0, "a".into()))));
}

#[test]
fn a_rewritten_answer_is_believed() {
    let rewritten = produce().rewrite(|answer| {
        if let Response::Produce(produced) = answer {
            produced.responses[0].partition_responses[0].base_offset = 42;
        }
    });
    let seen = with_and_without(one_broker(), rewritten, |stage| stage.producer(&[]).send("a"));
    assert_eq!((seen.with, seen.without), (Ok(42), Ok(0)));
}
