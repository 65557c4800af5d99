//! Quotas throttle: whom they hold for, by how much, and for how long.

use crate::kafka::{Kafka, START_MS, body, code, produce};
use rehearsal_mockbroker::config::{ClusterConfig, TopicConfig};
use rehearsal_mockbroker::error::ErrorCode;
use rehearsal_mockbroker::output::ConnId;
use rehearsal_mockbroker::time::millis;
use rehearsal_mockbroker::wire::batch::BatchBuilder;
use rehearsal_mockbroker::wire::generated::alter_client_quotas_request::{
    AlterClientQuotasRequest, EntityData, EntryData, OpData,
};
use rehearsal_mockbroker::wire::generated::api_versions_request::ApiVersionsRequest;
use rehearsal_mockbroker::wire::generated::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use rehearsal_mockbroker::wire::generated::fetch_response::FetchResponse;
use rehearsal_mockbroker::wire::{Response, Str};

const TOPIC: &str = "orders";

fn kafka() -> Kafka {
    let topics = vec![TopicConfig::new(TOPIC, 1)];
    Kafka::new(&ClusterConfig { topics, ..ClusterConfig::default() })
}

type Whom<'a> = &'a [(&'a str, Option<&'a str>)];

const APP: Whom<'static> = &[("client-id", Some("app"))];

impl Kafka {
    fn limit(&mut self, whom: Whom<'_>, key: &str, value: Option<f64>) -> ErrorCode {
        let part = |(kind, name): &(&str, Option<&str>)| EntityData {
            entity_type: Str::from(*kind),
            entity_name: name.map(Str::from),
        };
        let op = OpData { key: Str::from(key), value: value.unwrap_or(0.0), remove: value.is_none() };
        let entry = EntryData { entity: whom.iter().map(part).collect(), ops: vec![op] };
        let request = AlterClientQuotasRequest { entries: vec![entry], validate_only: false };
        code(body!(self.ask(1, 1, request), AlterClientQuotas).entries[0].error_code)
    }

    /// Writes a batch in a frame of so many bytes; how long the client is told to wait, once it is answered.
    fn send(&mut self, conn: ConnId, client: &str, bytes: usize) -> Option<i32> {
        let batch = BatchBuilder::new().record(START_MS, None, Some(b"value"));
        let answer = self.ask_of_size(conn, client, 9, produce(TOPIC, 0, batch), bytes + 4)?;
        Some(body!(answer, Produce).throttle_time_ms)
    }

    fn read(&mut self, conn: ConnId, client: &str) -> FetchResponse {
        let partition = FetchPartition { partition_max_bytes: 1 << 20, ..Default::default() };
        let topics = vec![FetchTopic { topic: Str::from(TOPIC), partitions: vec![partition], ..Default::default() }];
        let request =
            FetchRequest { replica_id: -1, max_bytes: 1 << 20, session_epoch: -1, topics, ..Default::default() };
        body!(self.ask_on(conn, client, 4, request).expect("an answer"), Fetch)
    }
}

#[test]
fn a_producer_that_writes_too_much_is_told_to_wait_and_waits() {
    let mut kafka = kafka();
    assert_eq!(kafka.limit(APP, "producer_byte_rate", Some(1_000.0)), ErrorCode::None);
    let client = kafka.connect(1);
    assert_eq!(kafka.send(client, "app", 10_000), Some(0), "ten seconds' worth");
    assert_eq!(kafka.send(client, "app", 2_000), Some(2_000));
    assert_eq!(kafka.send(client, "app", 1), None, "whatever it makes of that, it is not heard before");
    kafka.advance(millis(1_999));
    assert!(kafka.take(client).is_none());
    kafka.advance(millis(1));
    assert!(kafka.take(client).is_some());
    let other = kafka.connect(1);
    assert_eq!(kafka.send(other, "another", 50_000), Some(0));
}

#[test]
fn connections_of_a_client_share_its_quota_on_each_broker() {
    let mut kafka = kafka();
    kafka.limit(APP, "producer_byte_rate", Some(1_000.0));
    let (first, second) = (kafka.connect(1), kafka.connect(1));
    assert_eq!(kafka.send(first, "app", 10_000), Some(0));
    assert_eq!(kafka.send(second, "app", 1_000), Some(1_000));
}

#[test]
fn a_consumer_that_reads_too_much_gets_nothing_until_it_has_waited() {
    let mut kafka = kafka();
    kafka.produce(TOPIC, 0, BatchBuilder::new().record(START_MS, None, Some(&[b'x'; 400])));
    kafka.limit(APP, "consumer_byte_rate", Some(60.0));
    let client = kafka.connect(1);
    assert_eq!(kafka.read(client, "app").throttle_time_ms, 0);
    let second = kafka.read(client, "app");
    assert!(second.throttle_time_ms > 1_000 && second.responses.is_empty(), "{second:?}");
    kafka.advance(millis(12_000));
    let third = kafka.read(client, "app");
    assert_eq!((third.throttle_time_ms, third.responses.len()), (0, 1));
}

#[test]
fn the_most_special_quota_holds() {
    let levels: [Whom<'_>; 5] = [
        &[("client-id", None)],
        &[("client-id", Some("app"))],
        &[("user", None)],
        &[("user", Some("ANONYMOUS"))],
        &[("user", Some("ANONYMOUS")), ("client-id", Some("app"))],
    ];
    let mut kafka = kafka();
    for (level, whom) in (1..).zip(levels) {
        // Each level gives more than the one before, so that the batch is too much for that alone.
        let rate = f64::from(level) * 1_000.0;
        kafka.limit(whom, "producer_byte_rate", Some(rate));
        kafka.advance(millis(60_000));
        let client = kafka.connect(1);
        let bytes = (level as usize) * 10_000;
        assert_eq!(kafka.send(client, "app", bytes + 1_000 * level as usize), Some(1_000), "{whom:?}");
    }
}

#[test]
fn a_default_is_a_quota_for_each() {
    let mut kafka = kafka();
    kafka.limit(&[("client-id", None)], "producer_byte_rate", Some(1_000.0));
    for client in ["a", "b"] {
        let conn = kafka.connect(1);
        assert_eq!(kafka.send(conn, client, 10_000), Some(0), "{client}");
    }
}

#[test]
fn a_quota_that_is_gone_throttles_nobody() {
    let mut kafka = kafka();
    kafka.limit(APP, "producer_byte_rate", Some(1.0));
    kafka.limit(APP, "producer_byte_rate", None);
    let client = kafka.connect(1);
    assert_eq!(kafka.send(client, "app", 1_000_000), Some(0));
}

#[test]
fn too_many_requests_are_throttled_for_a_second_at_most() {
    let mut kafka = kafka();
    kafka.limit(APP, "request_percentage", Some(0.001));
    let client = kafka.connect(1);
    let mut told = || {
        let answer = kafka.ask_on(client, "app", 2, ApiVersionsRequest::default());
        answer.map(|answer| body!(answer, ApiVersions).throttle_time_ms)
    };
    assert_eq!(told(), Some(0));
    assert_eq!(told(), Some(1_000));
    assert_eq!(told(), None);
}

#[test]
fn what_is_no_quota_is_refused() {
    let mut kafka = kafka();
    for (whom, key, value) in [
        (APP, "producer_byte_rate", 0.0),
        (APP, "producer_byte_rate", 1.5),
        (APP, "bytes", 1.0),
        (APP, "connection_creation_rate", 1.0),
        (&[], "producer_byte_rate", 1.0),
        (&[("ip", Some("10.0.0.1")), ("user", Some("a"))], "connection_creation_rate", 1.0),
    ] {
        assert_eq!(kafka.limit(whom, key, Some(value)), ErrorCode::InvalidRequest, "{whom:?} {key} {value}");
    }
}
