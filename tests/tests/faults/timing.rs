//! Requests and answers that wait: delayed, held, throttled, never answered. Hours pass by `advance`, not by waiting.

use crate::scene::{LONG, ORDERS, Producer, Sent, Stage, one_broker, with_and_without};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::statistics::Statistics;
use rehearsal_mockbroker::fault::{Fault, Requests};
use rehearsal_mockbroker::wire::ApiKey;

fn produce() -> Requests {
    Fault::on(ApiKey::Produce)
}

fn of(client: &str) -> Requests {
    produce().client(client)
}

/// Ann sends, and when her request has arrived, Ben does; then something happens, and both have their answers.
fn overtaking(stage: &Stage<'_>, then: impl Fn()) -> (Vec<String>, [Sent; 2]) {
    let [ann, ben] = ["ann", "ben"].map(|name| stage.producer(&[("client.id", name)]));
    ann.begin(ORDERS, 0, "ann");
    stage.wait_for_requests(of("ann"), 1);
    let second = ben.send("ben");
    then();
    let first = ann.delivered().1;
    (stage.stored(ORDERS, 0), [first, second])
}

fn values(values: [&str; 2]) -> Vec<String> {
    values.map(str::to_owned).into()
}

#[test]
fn a_delayed_request_is_overtaken() {
    let seen =
        with_and_without(one_broker(), of("ann").delay(LONG), |stage| overtaking(stage, || stage.kafka.advance(LONG)));
    assert_eq!(seen.with, (values(["ben", "ann"]), [Ok(1), Ok(0)]));
    assert_eq!(seen.without, (values(["ann", "ben"]), [Ok(0), Ok(1)]));
}

#[test]
fn a_held_request_is_overtaken() {
    let seen = with_and_without(one_broker(), of("ann").hold(), |stage| overtaking(stage, || stage.release()));
    assert_eq!(seen.with, (values(["ben", "ann"]), [Ok(1), Ok(0)]));
    assert_eq!(seen.without, (values(["ann", "ben"]), [Ok(0), Ok(1)]));
}

/// Ann's answer has come or not when Ben has his; and what is stored at that moment.
fn answered_late(stage: &Stage<'_>, then: impl Fn()) -> (Vec<String>, bool) {
    let ann = stage.producer(&[("client.id", "ann")]);
    ann.begin(ORDERS, 0, "ann");
    stage.wait_for_requests(of("ann"), 1);
    // Nothing else is asked on Ann's connection, so what waits is her answer.
    let waits = stage.kafka.view().waiting_requests > 0;
    let stored = stage.stored(ORDERS, 0);
    then();
    assert_eq!(ann.delivered().1, Ok(0));
    (stored, waits)
}

#[test]
fn a_delayed_answer_is_to_what_is_stored_already() {
    let seen = with_and_without(one_broker(), of("ann").delay_answer(LONG), |stage| {
        answered_late(stage, || stage.kafka.advance(LONG))
    });
    assert_eq!(seen.with, (vec!["ann".into()], true));
    assert_eq!(seen.without, (vec!["ann".into()], false));
}

#[test]
fn a_held_answer_is_to_what_is_stored_already() {
    let seen =
        with_and_without(one_broker(), of("ann").hold_answer(), |stage| answered_late(stage, || stage.release()));
    assert_eq!(seen.with, (vec!["ann".into()], true));
    assert_eq!(seen.without, (vec!["ann".into()], false));
}

#[test]
fn a_held_request_is_given_up_by_its_client_and_takes_effect_all_the_same() {
    let seen = with_and_without(one_broker(), produce().hold(), |stage| {
        let sent = impatient(stage).send("a");
        let before = stage.stored(ORDERS, 0).len();
        stage.release();
        (sent, before, stage.stored(ORDERS, 0).len())
    });
    assert_eq!(seen.with, (Err(Code::MessageTimedOut), 0, 1), "what a broker has received it carries out");
    assert_eq!(seen.without, (Ok(0), 1, 1));
}

#[test]
fn an_ignored_request_times_out_and_did_nothing() {
    let seen = with_and_without(one_broker(), produce().ignore(), |stage| {
        (impatient(stage).send("a"), stage.stored(ORDERS, 0).len())
    });
    assert_eq!((seen.with, seen.without), ((Err(Code::MessageTimedOut), 0), (Ok(0), 1)));
}

#[test]
fn a_request_that_is_never_answered_times_out_and_was_done() {
    let seen = with_and_without(one_broker(), produce().never_answer(), |stage| impatient(stage).send("a"));
    assert_eq!((seen.with, seen.without), (Err(Code::MessageTimedOut), Ok(0)));

    let stored = with_and_without(one_broker(), produce().never_answer(), |stage| {
        let sent = stage.producer(&[("socket.timeout.ms", "1000"), ("retries", "2")]).send("a");
        (sent, stage.stored(ORDERS, 0).len())
    });
    assert_eq!((stored.with, stored.without), ((Ok(1), 2), (Ok(0), 1)), "so a client that tries again writes twice");
}

/// A producer that gives a record up soon, where there is a reason to.
fn impatient(stage: &Stage<'_>) -> Producer {
    match stage.fault() {
        Some(_) => stage.producer(&[("message.timeout.ms", "1500"), ("socket.timeout.ms", "1000")]),
        None => stage.producer(&[]),
    }
}

#[test]
fn a_throttled_client_is_told_so_and_its_next_request_waits() {
    let seen = with_and_without(one_broker(), produce().throttle(LONG), |stage| {
        let producer = stage.producer(&[("statistics.interval.ms", "20")]);
        assert_eq!(producer.send("a"), Ok(0), "it is answered at once");
        let is_throttled = |stats: &Statistics| {
            stats.brokers.values().any(|broker| broker.throttle.as_ref().is_some_and(|window| window.max > 0))
        };
        if stage.fault().is_some() {
            producer.stats_until(is_throttled);
        }
        let throttled = stage.fault().is_some() || is_throttled(&producer.next_stats());
        producer.begin(ORDERS, 0, "b");
        stage.wait_for_requests(produce(), 2);
        let stored = stage.stored(ORDERS, 0).len();
        stage.kafka.advance(LONG);
        assert_eq!(producer.delivered().1, Ok(1));
        (throttled, stored)
    });
    assert_eq!((seen.with, seen.without), ((true, 1), (false, 2)));
}
