//! Connections that close, before or after a request took effect.

use crate::scene::{ORDERS, one_broker, struck_or_not, with_and_without};
use rdkafka::error::RDKafkaErrorCode as Code;
use rehearsal_mockbroker::control::Command;
use rehearsal_mockbroker::fault::{Fault, Requests};
use rehearsal_mockbroker::wire::ApiKey;
use std::collections::BTreeSet;

fn produce() -> Requests {
    Fault::on(ApiKey::Produce)
}

#[test]
fn a_connection_that_closes_before_the_effect_has_stored_nothing() {
    let seen = with_and_without(one_broker(), produce().disconnect(), |stage| {
        (stage.producer(&[]).send("a"), stage.stored(ORDERS, 0).len())
    });
    assert_eq!((seen.with, seen.without), ((Err(Code::BrokerTransportFailure), 0), (Ok(0), 1)));
}

#[test]
fn a_connection_that_closes_after_the_effect_has_stored_it() {
    let seen = with_and_without(one_broker(), produce().disconnect_after_effect(), |stage| {
        let sent = stage.producer(&[("retries", "3")]).send("a");
        (sent, stage.stored(ORDERS, 0).len())
    });
    assert_eq!((seen.with, seen.without), ((Ok(1), 2), (Ok(0), 1)), "a client that tries again writes twice");
}

#[test]
fn a_connection_that_is_cut_is_made_anew() {
    let cut = |kafka: &rehearsal_mockbroker::testing::MockCluster| {
        kafka
            .control(Command::Disconnect { node: None, client_id: Some("ann".into()) })
            .expect("anybody may be cut off");
    };
    let seen = struck_or_not(one_broker(), cut, |stage| {
        let producer = stage.producer(&[("client.id", "ann"), ("retries", "3")]);
        let sent = [producer.send("a"), {
            stage.strike();
            producer.send("b")
        }];
        let connections: BTreeSet<_> = stage.kafka.requests(produce()).iter().map(|request| request.conn).collect();
        (sent, connections.len())
    });
    assert_eq!((seen.with, seen.without), (([Ok(0), Ok(1)], 2), ([Ok(0), Ok(1)], 1)));
}

#[test]
fn other_clients_keep_their_connections() {
    let cut = |kafka: &rehearsal_mockbroker::testing::MockCluster| {
        kafka
            .control(Command::Disconnect { node: None, client_id: Some("ann".into()) })
            .expect("anybody may be cut off");
    };
    let kept = struck_or_not(one_broker(), cut, |stage| {
        ["ann", "ben"].map(|name| {
            let producer = stage.producer(&[("client.id", name), ("retries", "3")]);
            producer.send("a").expect("it is written");
            stage.strike();
            producer.send("b").expect("it is written");
            let asked = stage.kafka.requests(produce().client(name));
            asked[0].conn == asked.last().expect("two").conn
        })
    });
    assert_eq!((kept.with, kept.without), ([false, true], [true, true]));
}
