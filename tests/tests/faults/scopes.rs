//! Every kind of fault in every scope: who is meant experiences it, and who is not does not.
//!
//! Ann and Ben write to one place each. The scope says what tells Ann's request from Ben's; the kind, what becomes of it.

use crate::scene::{LONG, Sent, Stage, with_and_without};
use rdkafka::statistics::Statistics;
use rehearsal_mockbroker::error::ErrorCode;
use rehearsal_mockbroker::fault::{Fault, Requests};
use rehearsal_mockbroker::testing::MockCluster;
use rehearsal_mockbroker::wire::{ApiKey, Request, Response};

/// How a client's request is told from another's.
struct Scope {
    narrow: fn(Requests) -> Requests,
    /// Ann's topic and partition.
    ann: (&'static str, i32),
    /// Ben's; he writes first.
    ben: (&'static str, i32),
}

const BY_TOPIC: Scope = Scope { narrow: |requests| requests.topic("orders"), ann: ("orders", 0), ben: ("other", 0) };
const BY_PARTITION: Scope =
    Scope { narrow: |requests| requests.topic("orders").partition(1), ann: ("orders", 1), ben: ("orders", 0) };
const BY_CLIENT: Scope = Scope { narrow: |requests| requests.client("ann"), ann: ("orders", 0), ben: ("orders", 1) };
const BY_BROKER: Scope = Scope { narrow: |requests| requests.broker(2), ann: ("orders", 1), ben: ("orders", 0) };
const BY_PREDICATE: Scope =
    Scope { narrow: |requests| requests.matching(is_anns), ann: ("orders", 0), ben: ("other", 0) };
const BY_NUMBER: Scope = Scope { narrow: |requests| requests.skip(1), ann: ("orders", 0), ben: ("other", 0) };

fn is_anns(request: &Request) -> bool {
    matches!(request, Request::Produce(produce) if produce.topic_data[0].name.as_str() == "orders")
}

/// What Ann hears: an error, another offset, or nothing while the fault lasts.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Heard {
    Offset(i64),
    Error,
    Nothing,
}

fn heard(sent: Sent) -> Heard {
    sent.map_or(Heard::Error, Heard::Offset)
}

fn play(scope: &Scope, kind: fn(Requests) -> Fault, expected: Heard) {
    let cluster = MockCluster::builder().brokers(2).topic("orders", 2).topic("other", 1);
    let fault = kind((scope.narrow)(Fault::on(ApiKey::Produce)));
    let seen = with_and_without(cluster, fault, |stage| {
        stage
            .kafka
            .move_leader("orders", 0, 1)
            .and_then(|()| stage.kafka.move_leader("orders", 1, 2))
            .expect("both follow");
        let [ann, ben] = ["ann", "ben"].map(|name| stage.producer(&[("client.id", name)]));
        let spared = heard(ben.send_to(scope.ben.0, scope.ben.1, "ben"));
        ann.begin(scope.ann.0, scope.ann.1, "ann");
        (hears(stage, &ann, expected == Heard::Nothing), spared)
    });
    assert_eq!(seen.with, (expected, Heard::Offset(0)));
    assert_eq!(seen.without, (Heard::Offset(0), Heard::Offset(0)));
}

/// Kinds after which a request still succeeds: whoever is meant sees them in the client's own statistics.
fn play_noticed(scope: &Scope, kind: fn(Requests) -> Fault, is_noticed: fn(&Statistics) -> bool) {
    let cluster = MockCluster::builder().brokers(2).topic("orders", 2).topic("other", 1);
    let fault = kind((scope.narrow)(Fault::on(ApiKey::Produce)));
    let seen = with_and_without(cluster, fault, |stage| {
        stage
            .kafka
            .move_leader("orders", 0, 1)
            .and_then(|()| stage.kafka.move_leader("orders", 1, 2))
            .expect("both follow");
        let [ann, ben] =
            ["ann", "ben"].map(|name| stage.producer(&[("client.id", name), ("statistics.interval.ms", "20")]));
        ben.send_to(scope.ben.0, scope.ben.1, "ben").expect("it is written");
        ann.begin(scope.ann.0, scope.ann.1, "ann");
        ann.delivered().1.expect("it is written");
        let meant = stage.fault().is_some();
        if meant {
            ann.stats_until(is_noticed); // the window of some statistics closes again
        }
        (meant || is_noticed(&ann.next_stats()), is_noticed(&ben.next_stats()))
    });
    assert_eq!((seen.with, seen.without), ((true, false), (false, false)));
}

fn is_throttled(statistics: &Statistics) -> bool {
    statistics.brokers.values().any(|broker| broker.throttle.as_ref().is_some_and(|window| window.max > 0))
}

fn is_answered_twice(statistics: &Statistics) -> bool {
    statistics.brokers.values().any(|broker| broker.rxcorriderrs > 0)
}

/// Where silence is expected, it is silence at the moment when the fault has happened.
fn hears(stage: &Stage<'_>, ann: &crate::scene::Producer, silence: bool) -> Heard {
    match stage.fault() {
        Some(fault) if silence => {
            let happened = stage.kafka.wait_up_to(crate::scene::PATIENCE).hits(fault, 1).blocking();
            happened.expect("Ann's request arrives");
            ann.delivered_yet().map_or(Heard::Nothing, heard)
        }
        _ => heard(ann.delivered().1),
    }
}

fn anywhere_else(response: &mut Response) {
    if let Response::Produce(produced) = response {
        produced.responses[0].partition_responses[0].base_offset = 42;
    }
}

macro_rules! matrix {
    ($($scope:ident $constant:ident;)* => $kinds:tt and $noticed:tt) => {$(
        mod $scope {
            use super::*;
            matrix! { @kinds $constant $kinds }
            matrix! { @noticed $constant $noticed }
        }
    )*};
    (@kinds $constant:ident { $($kind:ident: $fault:expr => $heard:expr;)* }) => {$(
        #[test]
        fn $kind() {
            play(&$constant, $fault, $heard);
        }
    )*};
    (@noticed $constant:ident { $($kind:ident: $fault:expr => $noticed:expr;)* }) => {$(
        #[test]
        fn $kind() {
            play_noticed(&$constant, $fault, $noticed);
        }
    )*};
}

matrix! {
    topic BY_TOPIC;
    partition BY_PARTITION;
    client BY_CLIENT;
    broker BY_BROKER;
    predicate BY_PREDICATE;
    number BY_NUMBER;
    => {
        error: |ann| ann.error(ErrorCode::InvalidRecord) => Heard::Error;
        error_after_effect: |ann| ann.error_after_effect(ErrorCode::InvalidRecord) => Heard::Error;
        disconnect: |ann| ann.disconnect() => Heard::Error;
        disconnect_after_effect: |ann| ann.disconnect_after_effect() => Heard::Error;
        garble: |ann| ann.garble() => Heard::Error;
        cut_short: |ann| ann.cut_short() => Heard::Error;
        rewrite: |ann| ann.rewrite(anywhere_else) => Heard::Offset(42);
        delay: |ann| ann.delay(LONG) => Heard::Nothing;
        delay_answer: |ann| ann.delay_answer(LONG) => Heard::Nothing;
        hold: |ann| ann.hold() => Heard::Nothing;
        hold_answer: |ann| ann.hold_answer() => Heard::Nothing;
        ignore: |ann| ann.ignore() => Heard::Nothing;
        never_answer: |ann| ann.never_answer() => Heard::Nothing;
    } and {
        throttle: |ann| ann.throttle(LONG) => is_throttled;
        duplicate: |ann| ann.duplicate() => is_answered_twice;
    }
}
