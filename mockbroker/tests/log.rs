//! What producers and consumers experience, told through `Cluster::handle`.

use bytes::Bytes;
use rehearsal_mockbroker::cluster::Cluster;
use rehearsal_mockbroker::config::{ClusterConfig, TopicConfig};
use rehearsal_mockbroker::control::Command;
use rehearsal_mockbroker::error::ErrorCode;
use rehearsal_mockbroker::output::{ConnId, Output};
use rehearsal_mockbroker::session::Incoming;
use rehearsal_mockbroker::state::nodes::NodeId;
use rehearsal_mockbroker::time::{Time, millis};
use rehearsal_mockbroker::wire::batch::{BatchBuilder, BatchHeader, records};
use rehearsal_mockbroker::wire::compression::Codec;
use rehearsal_mockbroker::wire::generated::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use rehearsal_mockbroker::wire::generated::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use rehearsal_mockbroker::wire::generated::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use rehearsal_mockbroker::wire::generated::fetch_response::{FetchResponse, PartitionData};
use rehearsal_mockbroker::wire::generated::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use rehearsal_mockbroker::wire::generated::metadata_request::{MetadataRequest, MetadataRequestTopic};
use rehearsal_mockbroker::wire::generated::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use rehearsal_mockbroker::wire::generated::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use rehearsal_mockbroker::wire::generated::produce_response::PartitionProduceResponse;
use rehearsal_mockbroker::wire::{Records, Request, Response, Str, Uuid, Writer};

const TOPIC: &str = "orders";
/// Every client here starts at this time.
const START_MS: i64 = 1_700_000_000_000;

#[test]
fn a_session_answers_for_what_there_is_before_what_there_is_not_and_keeps_names() {
    let mut kafka = Kafka::new();
    let (here, strange) = (kafka.topic_id(), Uuid::from_bytes([7; 16]));
    let ok = ErrorCode::None;
    let (unknown, no_id) = (ErrorCode::UnknownTopicOrPartition, ErrorCode::UnknownTopicId);

    let (session, rows) = kafka.in_session((0, 0), &[(here, 9), (strange, 0), (here, 0)]);
    assert_eq!(rows, [vec![(0, ok)], vec![(0, no_id)], vec![(9, unknown)]]);
    kafka.control(Command::DeleteTopic(TOPIC.to_owned()));
    let (_, rows) = kafka.in_session((session, 1), &[]);
    assert_eq!(rows, [vec![(0, no_id)], vec![(0, unknown), (9, unknown)]]);
}

#[test]
fn a_topic_of_neither_partitions_nor_replicas_lacks_replicas_first() {
    let mut kafka = Kafka::new();
    let topic = CreatableTopic { name: Str::from("none"), ..Default::default() };
    match kafka.ask(kafka.client, 7, CreateTopicsRequest { topics: vec![topic], ..Default::default() }) {
        Some(Response::CreateTopics(created)) => {
            assert_eq!(code(created.topics[0].error_code), ErrorCode::InvalidReplicationFactor);
        }
        other => panic!("not an answer to CreateTopics: {other:?}"),
    }
}

// ---- producing ----

#[test]
fn records_get_consecutive_offsets() {
    let mut kafka = Kafka::new();
    assert_eq!(kafka.produce(batch(["a", "b"])), Ok(0));
    assert_eq!(kafka.produce(batch(["c"])), Ok(2));
    assert_eq!(kafka.values(), ["a", "b", "c"]);
}

#[test]
fn a_repeated_batch_is_acknowledged_but_stored_once() {
    let mut kafka = Kafka::new();
    assert_eq!(kafka.produce(batch(["a", "b"]).producer(7, 0, 0)), Ok(0));
    assert_eq!(kafka.produce(batch(["c"]).producer(7, 0, 2)), Ok(2));
    assert_eq!(kafka.produce(batch(["a", "b"]).producer(7, 0, 0)), Ok(0));
    assert_eq!(kafka.values(), ["a", "b", "c"]);
}

#[test]
fn a_gap_in_the_sequence_is_refused_and_an_old_epoch_fenced() {
    let mut kafka = Kafka::new();
    assert_eq!(kafka.produce(batch(["a"]).producer(7, 1, 0)), Ok(0));
    assert_eq!(kafka.produce(batch(["c"]).producer(7, 1, 2)), Err(ErrorCode::OutOfOrderSequenceNumber));
    assert_eq!(kafka.produce(batch(["b"]).producer(7, 0, 1)), Err(ErrorCode::InvalidProducerEpoch));
    assert_eq!(kafka.values(), ["a"]);
}

#[test]
fn an_unknown_partition_is_refused_whatever_its_records_are() {
    let mut kafka = Kafka::new();
    let half = batch(["a"]).build().expect("a batch").slice(..50);
    let refused = kafka.produce_row_to(9, half.clone(), -1).expect("an answer");
    assert_eq!(code(refused.error_code), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(kafka.produce_bytes(half), Err(ErrorCode::InvalidRecord));

    let mut endless = batch(["a"]).build().expect("a batch").to_vec();
    endless[8] = 0xff;
    let refused = kafka.produce_row_to(9, endless.into(), -1).expect("an answer");
    assert_eq!(code(refused.error_code), ErrorCode::CorruptMessage, "a length that cannot be spoils the whole request");
}

#[test]
fn a_producer_without_an_epoch_may_write_any_sequence_but_not_be_recompressed() {
    let mut kafka = Kafka::new();
    assert_eq!(kafka.produce(batch(["a"]).producer(7, -1, 3)), Ok(0));
    assert_eq!(kafka.produce(batch(["b"]).producer(7, -1, 9)), Ok(1));
    assert_eq!(kafka.produce(batch(["c"]).producer(7, 0, 5)), Ok(2), "its first epoch starts where it likes");
    assert_eq!(kafka.produce(batch(["d"]).producer(7, 0, 7)), Err(ErrorCode::OutOfOrderSequenceNumber));

    let mut kafka = Kafka::with(&[("compression.type", "gzip")]);
    assert_eq!(kafka.produce(batch(["a"]).producer(7, -1, 0)), Err(ErrorCode::UnknownServerError));
    assert_eq!(kafka.produce(batch(["a"]).producer(7, 0, 0)), Ok(0));
}

#[test]
fn transactional_records_without_a_transactional_id_are_refused_wherever_they_go() {
    let mut kafka = Kafka::new();
    let bytes = batch(["a"]).producer(7, 0, 0).transactional().build().expect("a batch");
    for partition in [0, 9] {
        let refused = kafka.produce_row_to(partition, bytes.clone(), -1).expect("an answer");
        assert_eq!(code(refused.error_code), ErrorCode::TransactionalIdAuthorizationFailed);
    }
}

#[test]
fn corrupt_oversized_and_misdated_batches_are_refused() {
    let mut kafka = Kafka::with(&[("max.message.bytes", "200")]);
    let mut corrupt = batch(["a"]).build().expect("a batch").to_vec();
    *corrupt.last_mut().expect("bytes") ^= 1;
    assert_eq!(kafka.produce_bytes(corrupt.into()), Err(ErrorCode::CorruptMessage));

    let long = "x".repeat(200);
    assert_eq!(kafka.produce(batch([long.as_str()])), Err(ErrorCode::MessageTooLarge));

    let tomorrow = START_MS + 24 * 3_600_000;
    let misdated = BatchBuilder::new().record(tomorrow, None, Some(b"a"));
    assert_eq!(kafka.produce(misdated), Err(ErrorCode::InvalidTimestamp));

    let two = [batch(["a"]).build().expect("a batch"), batch(["b"]).build().expect("a batch")].concat();
    assert_eq!(kafka.produce_bytes(two.into()), Err(ErrorCode::InvalidRecord));
    assert_eq!(kafka.values(), [""; 0]);
}

#[test]
fn a_compacted_topic_wants_keys() {
    let mut kafka = Kafka::with(&[("cleanup.policy", "compact")]);
    let row = kafka.produce_row(batch(["no key"]).build().expect("a batch"), -1).expect("an answer");
    assert_eq!(code(row.error_code), ErrorCode::InvalidRecord);
    assert_eq!(row.record_errors.len(), 1, "the record is named");
    assert_eq!(kafka.produce(BatchBuilder::new().record(START_MS, Some(b"k"), Some(b"v"))), Ok(0));
}

#[test]
fn the_topic_decides_on_clock_and_compression() {
    let mut kafka = Kafka::with(&[("message.timestamp.type", "LogAppendTime"), ("compression.type", "lz4")]);
    let row = kafka.produce_row(batch(["a", "b"]).codec(Codec::Gzip).build().expect("a batch"), -1).expect("an answer");
    assert_eq!(row.log_append_time_ms, START_MS);
    let stored = kafka.cluster.stored_batches(TOPIC, 0).expect("the partition").remove(0);
    assert_eq!(BatchHeader::parse(&stored).expect("a batch").codec(), Ok(Codec::Lz4));
    assert!(records(&stored).expect("records").iter().all(|record| record.timestamp == START_MS));
    assert_eq!(kafka.values(), ["a", "b"]);
}

#[test]
fn a_client_that_wants_no_answer_gets_none_and_loses_its_connection_on_failure() {
    let mut kafka = Kafka::new();
    assert_eq!(kafka.produce_row(batch(["a"]).build().expect("a batch"), 0), None);
    assert_eq!(kafka.values(), ["a"]);
    kafka.produce_row(Bytes::from_static(b"nonsense"), 0);
    assert!(kafka.closed.contains(&kafka.client));
}

#[test]
fn too_few_in_sync_replicas_refuse_a_careful_producer() {
    let mut kafka = Kafka::cluster(3, &[("min.insync.replicas", "3")]);
    let leader = kafka.leader();
    let other = (1..=3).map(NodeId).find(|id| *id != leader).expect("three brokers");
    kafka.control(Command::Crash(other));
    assert_eq!(kafka.produce(batch(["a"])), Err(ErrorCode::NotEnoughReplicas));
    kafka.control(Command::Start(other));
    assert_eq!(kafka.produce(batch(["a"])), Ok(0));
}

// ---- fetching ----

#[test]
fn a_waiting_fetch_is_answered_the_moment_there_is_data() {
    let mut kafka = Kafka::new();
    let reader = kafka.connect();
    assert!(kafka.fetch(reader, waiting(0, 1, 30_000)).is_none(), "there is nothing to answer with");
    kafka.produce(batch(["a"])).expect("stored");
    let answer = kafka.answered(reader).expect("answered without a wake-up");
    assert_eq!(fetched(&answer), ["a"]);
}

#[test]
fn a_fetch_waits_for_its_minimum_or_its_deadline() {
    let mut kafka = Kafka::new();
    let reader = kafka.connect();
    kafka.produce(batch(["a"])).expect("stored");
    assert!(kafka.fetch(reader, waiting(0, 10_000, 500)).is_none());
    kafka.advance(499);
    assert!(kafka.answered(reader).is_none());
    kafka.advance(1);
    assert_eq!(fetched(&kafka.answered(reader).expect("its time is up")), ["a"]);
}

#[test]
fn several_batches_come_at_once_within_the_byte_limit() {
    let mut kafka = Kafka::new();
    for value in ["a", "b", "c"] {
        kafka.produce(batch([value])).expect("stored");
    }
    let reader = kafka.connect();
    let all = kafka.fetch(reader, waiting(0, 1, 0)).expect("an answer");
    assert_eq!(fetched(&all), ["a", "b", "c"]);

    let mut limited = waiting(0, 1, 0);
    limited.topics[0].partitions[0].partition_max_bytes = 1;
    assert_eq!(fetched(&kafka.fetch(reader, limited).expect("an answer")), ["a"], "one batch always comes");
}

#[test]
fn an_offset_that_is_not_there_is_an_error_at_once() {
    let mut kafka = Kafka::new();
    kafka.produce(batch(["a", "b", "c"])).expect("stored");
    assert_eq!(kafka.delete_records(2), Ok(2));
    let reader = kafka.connect();
    for offset in [0, 4] {
        let row = only_row(kafka.fetch(reader, waiting(offset, 1, 30_000)).expect("no waiting for an error"));
        assert_eq!(code(row.error_code), ErrorCode::OffsetOutOfRange);
    }
    let row = only_row(kafka.fetch(reader, waiting(2, 1, 0)).expect("an answer"));
    assert_eq!((row.log_start_offset, row.high_watermark), (2, 3));
    assert_eq!(kafka.delete_records(4), Err(ErrorCode::OffsetOutOfRange));
}

#[test]
fn a_session_tells_only_what_is_new() {
    let mut kafka = Kafka::new();
    kafka.produce(batch(["a"])).expect("stored");
    let reader = kafka.connect();
    let opened = kafka.fetch(reader, FetchRequest { session_epoch: 0, ..waiting(0, 1, 0) }).expect("an answer");
    assert_ne!(opened.session_id, 0);

    let next = |epoch, offset| {
        let topics = if offset < 0 { Vec::new() } else { waiting(offset, 1, 0).topics };
        FetchRequest { session_id: opened.session_id, session_epoch: epoch, topics, ..waiting(0, 1, 0) }
    };
    let quiet = kafka.fetch(reader, next(1, 1)).expect("an answer");
    assert!(quiet.responses.is_empty(), "nothing is new: {quiet:?}");
    kafka.produce(batch(["b"])).expect("stored");
    let news = kafka.fetch(reader, next(2, -1)).expect("an answer");
    assert_eq!(fetched(&news), ["b"], "the session remembers the partition");
    let out_of_step = kafka.fetch(reader, next(2, -1)).expect("an answer");
    assert_eq!(code(out_of_step.error_code), ErrorCode::InvalidFetchSessionEpoch);
}

// ---- offsets and epochs ----

#[test]
fn offsets_are_found_by_time_even_inside_a_batch() {
    let mut kafka = Kafka::new();
    let times = [0, 10, 20].map(|after| START_MS + after);
    let dated = times.iter().fold(BatchBuilder::new(), |batch, at| batch.record(*at, None, Some(b"v")));
    kafka.produce(dated).expect("stored");
    assert_eq!(kafka.offset_at(START_MS + 5), (1, START_MS + 10));
    assert_eq!(kafka.offset_at(START_MS + 21), (-1, -1));
    assert_eq!(kafka.offset_at(-1), (3, -1), "latest");
    assert_eq!(kafka.offset_at(-2), (0, -1), "earliest");
    assert_eq!(kafka.offset_at(-3), (2, START_MS + 20), "the largest timestamp");
}

#[test]
fn a_crash_moves_the_leader_and_loses_nothing_acknowledged() {
    let mut kafka = Kafka::cluster(3, &[]);
    kafka.produce(batch(["a"])).expect("stored");
    let (old, reader) = (kafka.leader(), kafka.connect());
    assert!(kafka.fetch(reader, waiting(1, 1, 30_000)).is_none());
    kafka.control(Command::Crash(old));
    assert!(kafka.closed.contains(&reader), "whoever waited at the broker is cut off");

    assert_ne!(kafka.leader(), old);
    kafka.client = kafka.connect();
    assert_eq!(kafka.produce(batch(["b"])), Ok(1));
    assert_eq!(kafka.values(), ["a", "b"]);
    assert_eq!(kafka.end_of_epoch(0), (0, 1), "the first leader's epoch ended before b");
    assert_eq!(kafka.end_of_epoch(1), (1, 2));
}

#[test]
fn the_wrong_broker_names_the_right_one() {
    let mut kafka = Kafka::cluster(3, &[]);
    let leader = kafka.leader();
    let wrong = (1..=3).map(NodeId).find(|id| *id != leader).expect("three brokers");
    kafka.client = kafka.connect_to(wrong);
    let row = kafka.produce_row(batch(["a"]).build().expect("a batch"), -1).expect("an answer");
    assert_eq!(code(row.error_code), ErrorCode::NotLeaderOrFollower);
    assert_eq!(row.current_leader.leader_id, leader.0);
}

// ---- topics on demand ----

#[test]
fn a_topic_made_on_demand_is_there_when_asked_again() {
    let mut kafka = Kafka::new();
    assert_eq!(kafka.topic_code("new"), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(kafka.topic_code("new"), ErrorCode::None);
    assert_eq!(kafka.topic_code("not a name"), ErrorCode::InvalidTopicException);
}

// ---- the harness ----

struct Kafka {
    cluster: Cluster,
    now: Time,
    /// Connected to the leader of the one partition.
    client: ConnId,
    answers: Vec<(ConnId, Response)>,
    closed: Vec<ConnId>,
}

impl Kafka {
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(topic_configs: &[(&str, &str)]) -> Self {
        Self::cluster(1, topic_configs)
    }

    fn cluster(brokers: i32, topic_configs: &[(&str, &str)]) -> Self {
        let configs = topic_configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let topics = vec![TopicConfig { configs, ..TopicConfig::new(TOPIC, 1) }];
        let config = ClusterConfig { topics, ..ClusterConfig::with_brokers(brokers) };
        let mut kafka = Self {
            cluster: Cluster::new(&config).expect("a cluster"),
            now: Time::from_millis(START_MS),
            client: ConnId(0),
            answers: Vec::new(),
            closed: Vec::new(),
        };
        kafka.client = kafka.connect();
        kafka
    }

    fn leader(&self) -> NodeId {
        let view = self.cluster.view();
        view.topic(TOPIC).expect("the topic").partitions[0].leader.expect("a leader")
    }

    fn connect(&mut self) -> ConnId {
        self.connect_to(self.leader())
    }

    fn connect_to(&mut self, node: NodeId) -> ConnId {
        self.cluster.connect(node, "/127.0.0.1").expect("the broker runs")
    }

    fn advance(&mut self, ms: i32) {
        self.now = self.now + millis(ms);
        let outputs = self.cluster.wake(self.now);
        self.carry_out(outputs);
    }

    fn control(&mut self, command: Command) {
        let outputs = self.cluster.control(self.now, command).expect("a command that can be done");
        self.carry_out(outputs);
    }

    fn ask(&mut self, conn: ConnId, version: i16, body: impl Into<Request>) -> Option<Response> {
        let request = Incoming { version, client_id: Str::from("test"), body: body.into(), frame_bytes: 0 };
        let outputs = self.cluster.handle(self.now, conn, request);
        for output in &outputs {
            if let Output::Reply { conn: to, response: Some(response), .. } = output
                && *to == conn
            {
                response.encode(version, &mut Writer::new()).expect("an answer this version has room for");
            }
        }
        self.carry_out(outputs);
        self.take(conn)
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Reply { conn, response: Some(response), .. } => self.answers.push((conn, *response)),
                Output::Close { conn, .. } => self.closed.push(conn),
                _ => {}
            }
        }
    }

    fn take(&mut self, conn: ConnId) -> Option<Response> {
        let at = self.answers.iter().position(|(to, _)| *to == conn)?;
        Some(self.answers.remove(at).1)
    }

    fn produce(&mut self, batch: BatchBuilder) -> Result<i64, ErrorCode> {
        self.produce_bytes(batch.build().expect("a batch"))
    }

    fn produce_bytes(&mut self, bytes: Bytes) -> Result<i64, ErrorCode> {
        let row = self.produce_row(bytes, -1).expect("an answer");
        match code(row.error_code) {
            ErrorCode::None => Ok(row.base_offset),
            code => Err(code),
        }
    }

    fn produce_row(&mut self, bytes: Bytes, acks: i16) -> Option<PartitionProduceResponse> {
        self.produce_row_to(0, bytes, acks)
    }

    fn produce_row_to(&mut self, index: i32, bytes: Bytes, acks: i16) -> Option<PartitionProduceResponse> {
        let partition = PartitionProduceData { index, records: Some(Records::from(bytes)) };
        let topic = TopicProduceData { name: Str::from(TOPIC), partition_data: vec![partition], ..Default::default() };
        let request = ProduceRequest { acks, timeout_ms: 1_000, topic_data: vec![topic], ..Default::default() };
        match self.ask(self.client, 12, request)? {
            Response::Produce(mut produced) => Some(produced.responses.remove(0).partition_responses.remove(0)),
            other => panic!("not an answer to Produce: {other:?}"),
        }
    }

    fn fetch(&mut self, conn: ConnId, request: FetchRequest) -> Option<FetchResponse> {
        self.ask(conn, 12, request).map(fetch_response)
    }

    fn answered(&mut self, conn: ConnId) -> Option<FetchResponse> {
        self.take(conn).map(fetch_response)
    }

    /// Everything in the log, read through a fetch.
    fn values(&mut self) -> Vec<String> {
        let reader = self.connect();
        fetched(&self.fetch(reader, waiting(0, 1, 0)).expect("an answer"))
    }

    fn delete_records(&mut self, offset: i64) -> Result<i64, ErrorCode> {
        let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset }];
        let topics = vec![DeleteRecordsTopic { name: Str::from(TOPIC), partitions }];
        match self.ask(self.client, 2, DeleteRecordsRequest { topics, ..Default::default() }) {
            Some(Response::DeleteRecords(deleted)) => {
                let row = &deleted.topics[0].partitions[0];
                if row.error_code == 0 { Ok(row.low_watermark) } else { Err(code(row.error_code)) }
            }
            other => panic!("not an answer to DeleteRecords: {other:?}"),
        }
    }

    fn offset_at(&mut self, timestamp: i64) -> (i64, i64) {
        let partitions = vec![ListOffsetsPartition { timestamp, ..Default::default() }];
        let topics = vec![ListOffsetsTopic { name: Str::from(TOPIC), partitions }];
        match self.ask(self.client, 9, ListOffsetsRequest { replica_id: -1, topics, ..Default::default() }) {
            Some(Response::ListOffsets(listed)) => {
                let row = &listed.topics[0].partitions[0];
                assert_eq!(row.error_code, 0);
                (row.offset, row.timestamp)
            }
            other => panic!("not an answer to ListOffsets: {other:?}"),
        }
    }

    fn end_of_epoch(&mut self, leader_epoch: i32) -> (i32, i64) {
        let partitions = vec![OffsetForLeaderPartition { leader_epoch, ..Default::default() }];
        let topics = vec![OffsetForLeaderTopic { topic: Str::from(TOPIC), partitions }];
        match self.ask(self.client, 4, OffsetForLeaderEpochRequest { topics, ..Default::default() }) {
            Some(Response::OffsetForLeaderEpoch(found)) => {
                let row = &found.topics[0].partitions[0];
                (row.leader_epoch, row.end_offset)
            }
            other => panic!("not an answer to OffsetForLeaderEpoch: {other:?}"),
        }
    }

    fn topic_id(&mut self) -> Uuid {
        let topics = Some(vec![MetadataRequestTopic { name: Some(Str::from(TOPIC)), ..Default::default() }]);
        match self.ask(self.client, 12, MetadataRequest { topics, ..Default::default() }) {
            Some(Response::Metadata(metadata)) => metadata.topics[0].topic_id,
            other => panic!("not an answer to Metadata: {other:?}"),
        }
    }

    /// A fetch by ids in a session: its id, and what is answered for which partition, a list a row.
    fn in_session(&mut self, session: (i32, i32), rows: &[(Uuid, i32)]) -> (i32, Vec<Vec<(i32, ErrorCode)>>) {
        let topics = rows.iter().map(|(topic_id, partition)| {
            let partition = FetchPartition { partition: *partition, ..Default::default() };
            FetchTopic { topic_id: *topic_id, partitions: vec![partition], ..Default::default() }
        });
        let (session_id, session_epoch) = session;
        let request = FetchRequest { session_id, session_epoch, topics: topics.collect(), ..waiting(0, 0, 0) };
        let answer = self.ask(self.client, 17, request).map(fetch_response).expect("an answer");
        let told = |row: &PartitionData| (row.partition_index, code(row.error_code));
        let rows = answer.responses.iter().map(|topic| topic.partitions.iter().map(told).collect());
        (answer.session_id, rows.collect())
    }

    fn topic_code(&mut self, name: &str) -> ErrorCode {
        let topics = Some(vec![MetadataRequestTopic { name: Some(Str::from(name)), ..Default::default() }]);
        let request = MetadataRequest { topics, allow_auto_topic_creation: true, ..Default::default() };
        match self.ask(self.client, 12, request) {
            Some(Response::Metadata(metadata)) => code(metadata.topics[0].error_code),
            other => panic!("not an answer to Metadata: {other:?}"),
        }
    }
}

fn batch<'a>(values: impl IntoIterator<Item = &'a str>) -> BatchBuilder {
    values.into_iter().fold(BatchBuilder::new(), |batch, value| batch.record(START_MS, None, Some(value.as_bytes())))
}

fn waiting(fetch_offset: i64, min_bytes: i32, max_wait_ms: i32) -> FetchRequest {
    let partition = FetchPartition { fetch_offset, partition_max_bytes: 1 << 20, ..Default::default() };
    let topic = FetchTopic { topic: Str::from(TOPIC), partitions: vec![partition], ..Default::default() };
    FetchRequest { max_wait_ms, min_bytes, topics: vec![topic], ..Default::default() }
}

fn fetch_response(response: Response) -> FetchResponse {
    match response {
        Response::Fetch(fetched) => fetched,
        other => panic!("not an answer to Fetch: {other:?}"),
    }
}

fn only_row(mut response: FetchResponse) -> PartitionData {
    response.responses.remove(0).partitions.remove(0)
}

fn fetched(response: &FetchResponse) -> Vec<String> {
    let rows = response.responses.iter().flat_map(|topic| &topic.partitions);
    let chunks = rows.flat_map(|row| row.records.iter().flat_map(Records::chunks));
    let records = chunks.filter(|chunk| !chunk.is_empty()).flat_map(|chunk| records(chunk).expect("stored records"));
    records.map(|record| String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned()).collect()
}

fn code(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).expect("a code Kafka has")
}
