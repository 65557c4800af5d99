//! What share consumers (KIP-932) read and acknowledge: fetches through `Cluster::handle`.

mod clients;

use clients::{Answered, Kafka, body};
use rehearsal_mockbroker::control::Command;
use rehearsal_mockbroker::error::ErrorCode;
use rehearsal_mockbroker::output::ConnId;
use rehearsal_mockbroker::state::nodes::NodeId;
use rehearsal_mockbroker::wire::Str;
use rehearsal_mockbroker::wire::batch::{BatchBuilder, records};
use rehearsal_mockbroker::wire::generated::alter_share_group_offsets_request::{
    AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsRequestPartition, AlterShareGroupOffsetsRequestTopic,
};
use rehearsal_mockbroker::wire::generated::alter_share_group_offsets_response::AlterShareGroupOffsetsResponse;
use rehearsal_mockbroker::wire::generated::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use rehearsal_mockbroker::wire::generated::delete_records_response::DeleteRecordsResponse;
use rehearsal_mockbroker::wire::generated::delete_share_group_offsets_request::{
    DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsRequestTopic,
};
use rehearsal_mockbroker::wire::generated::delete_share_group_offsets_response::DeleteShareGroupOffsetsResponse;
use rehearsal_mockbroker::wire::generated::describe_share_group_offsets_request::{
    DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsRequestGroup,
};
use rehearsal_mockbroker::wire::generated::describe_share_group_offsets_response::DescribeShareGroupOffsetsResponse;
use rehearsal_mockbroker::wire::generated::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use rehearsal_mockbroker::wire::generated::produce_response::ProduceResponse;
use rehearsal_mockbroker::wire::generated::share_acknowledge_request::{
    AcknowledgePartition, AcknowledgeTopic, AcknowledgementBatch, ShareAcknowledgeRequest,
};
use rehearsal_mockbroker::wire::generated::share_acknowledge_response::ShareAcknowledgeResponse;
use rehearsal_mockbroker::wire::generated::share_fetch_request::{self, FetchPartition, FetchTopic, ShareFetchRequest};
use rehearsal_mockbroker::wire::generated::share_fetch_response::{PartitionData, ShareFetchResponse};
use rehearsal_mockbroker::wire::generated::share_group_heartbeat_request::ShareGroupHeartbeatRequest;
use rehearsal_mockbroker::wire::generated::share_group_heartbeat_response::ShareGroupHeartbeatResponse;

const GROUP: &str = "workers";
const TOPIC: &str = "jobs";
const ACCEPT: i8 = 1;
const RELEASE: i8 = 2;
const REJECT: i8 = 3;
const RENEW: i8 = 4;

body!(ShareFetch ShareFetchResponse);
body!(ShareAcknowledge ShareAcknowledgeResponse);
body!(ShareGroupHeartbeat ShareGroupHeartbeatResponse);
body!(Produce ProduceResponse);
body!(DeleteRecords DeleteRecordsResponse);
body!(DescribeShareGroupOffsets DescribeShareGroupOffsetsResponse);
body!(AlterShareGroupOffsets AlterShareGroupOffsetsResponse);
body!(DeleteShareGroupOffsets DeleteShareGroupOffsetsResponse);

#[test]
fn two_consumers_share_a_partition_record_by_record() {
    let mut kafka = workers();
    let (mut ann, mut ben) = (Consumer::joins(&mut kafka, "ann"), Consumer::joins(&mut kafka, "ben"));
    store(&mut kafka, &["a", "b"]);
    store(&mut kafka, &["c"]);
    ann.max_records = 1;
    assert_eq!(ann.read(&mut kafka), ["a", "b"], "a batch is given whole");
    assert_eq!(ben.read(&mut kafka), ["c"]);
    assert_eq!(ann.read(&mut kafka), [""; 0], "everything is under way");
}

#[test]
fn a_strict_consumer_gets_not_a_record_more_than_it_wants() {
    let mut kafka = workers();
    let (mut ann, mut ben) = (Consumer::joins(&mut kafka, "ann"), Consumer::joins(&mut kafka, "ben"));
    store(&mut kafka, &["a", "b", "c"]);
    (ann.max_records, ann.strict) = (1, true);
    ann.fetch(&mut kafka);
    assert_eq!(ann.acquired, [(0, 0, 1)]);
    ben.fetch(&mut kafka);
    assert_eq!(ben.acquired, [(1, 2, 1)], "the rest of the batch is for others");
}

#[test]
fn what_is_accepted_or_rejected_is_over_and_what_is_released_comes_again() {
    let mut kafka = workers();
    let mut ann = Consumer::joins(&mut kafka, "ann");
    store(&mut kafka, &["a", "b", "c", "d"]);
    ann.fetch(&mut kafka);
    assert_eq!(ann.acquired, [(0, 3, 1)]);
    assert_eq!(ann.acknowledge(&mut kafka, 0, 3, &[ACCEPT, RELEASE, REJECT, RELEASE]), ErrorCode::None);
    ann.fetch(&mut kafka);
    assert_eq!(ann.acquired, [(1, 1, 2), (3, 3, 2)]);
    assert_eq!(ann.acknowledge(&mut kafka, 2, 2, &[ACCEPT]), ErrorCode::InvalidRecordState, "it was rejected");
    assert_eq!(ann.acknowledge(&mut kafka, 0, 0, &[ACCEPT]), ErrorCode::None, "before the start all is over");
    assert_eq!(ann.acknowledge(&mut kafka, 1, 1, &[ACCEPT]), ErrorCode::None);
    assert_eq!(ann.acknowledge(&mut kafka, 3, 9, &[ACCEPT]), ErrorCode::InvalidRequest, "nobody was given so much");
}

#[test]
fn a_refused_acknowledgement_changes_nothing() {
    let mut kafka = workers();
    let (mut ann, mut ben) = (Consumer::joins(&mut kafka, "ann"), Consumer::joins(&mut kafka, "ben"));
    store(&mut kafka, &["a"]);
    store(&mut kafka, &["b"]);
    (ann.max_records, ben.max_records) = (1, 1);
    ann.fetch(&mut kafka);
    ben.fetch(&mut kafka);
    assert_eq!(ann.acknowledge(&mut kafka, 0, 1, &[ACCEPT]), ErrorCode::InvalidRecordState, "the second is ben's");
    assert_eq!(ann.acknowledge(&mut kafka, 0, 0, &[ACCEPT]), ErrorCode::None, "the first is still hers");
}

#[test]
fn a_lock_ends_and_others_get_the_records_at_once() {
    let mut kafka = workers();
    let (mut ann, mut ben) = (Consumer::joins(&mut kafka, "ann"), Consumer::joins(&mut kafka, "ben"));
    store(&mut kafka, &["a"]);
    ann.fetch(&mut kafka);
    kafka.advance(20_000);
    assert_eq!(ben.wait(&mut kafka, 60_000), None, "ann has the only record");
    kafka.advance(9_999);
    assert!(kafka.answered::<ShareFetchResponse>(ben.conn).is_none());
    kafka.advance(1);
    let response = kafka.answered(ben.conn).expect("the lock has ended");
    ben.take(&response);
    assert_eq!(ben.acquired, [(0, 0, 2)]);
    assert_eq!(ann.acknowledge(&mut kafka, 0, 0, &[ACCEPT]), ErrorCode::InvalidRecordState);
}

#[test]
fn a_renewed_lock_lasts_longer() {
    let mut kafka = workers();
    let (mut ann, mut ben) = (Consumer::joins(&mut kafka, "ann"), Consumer::joins(&mut kafka, "ben"));
    store(&mut kafka, &["a"]);
    ann.fetch(&mut kafka);
    kafka.advance(20_000);
    assert_eq!(ann.acknowledge(&mut kafka, 0, 0, &[RENEW]), ErrorCode::None);
    kafka.advance(20_000);
    assert_eq!(ben.read(&mut kafka), [""; 0], "ann has renewed her lock");
    kafka.advance(10_000);
    assert_eq!(ben.read(&mut kafka), ["a"]);
    kafka.configure_group(GROUP, &[("share.renew.acknowledge.enable", "false")]);
    assert_eq!(ben.acknowledge(&mut kafka, 0, 0, &[RENEW]), ErrorCode::InvalidRecordState);
}

#[test]
fn a_record_nobody_can_deal_with_is_given_up_after_its_last_delivery() {
    let mut kafka = workers();
    kafka.configure_group(GROUP, &[("share.delivery.count.limit", "2"), ("share.record.lock.duration.ms", "15000")]);
    let mut ann = Consumer::joins(&mut kafka, "ann");
    store(&mut kafka, &["poison"]);
    for delivery in 1..=2 {
        ann.fetch(&mut kafka);
        assert_eq!(ann.acquired, [(0, 0, delivery)]);
        kafka.advance(15_000);
    }
    store(&mut kafka, &["b"]);
    assert_eq!(ann.read(&mut kafka), ["b"]);
}

#[test]
fn a_waiting_fetch_is_answered_the_moment_there_is_something() {
    let mut kafka = workers();
    let mut ann = Consumer::joins(&mut kafka, "ann");
    assert_eq!(ann.wait(&mut kafka, 60_000), None);
    store(&mut kafka, &["a"]);
    let response = kafka.answered(ann.conn).expect("there is a record");
    ann.take(&response);
    assert_eq!(ann.values, ["a"]);
}

#[test]
fn what_a_consumer_has_is_released_when_its_session_ends() {
    let mut kafka = workers();
    let (mut ann, mut ben) = (Consumer::joins(&mut kafka, "ann"), Consumer::joins(&mut kafka, "ben"));
    store(&mut kafka, &["a"]);
    ann.fetch(&mut kafka);
    assert_eq!(ben.wait(&mut kafka, 60_000), None);
    ann.close(&mut kafka);
    let response = kafka.answered(ben.conn).expect("ann has gone");
    ben.take(&response);
    assert_eq!(ben.acquired, [(0, 0, 2)]);
    kafka.disconnect(ben.conn);
    let mut cyd = Consumer::joins(&mut kafka, "cyd");
    cyd.fetch(&mut kafka);
    assert_eq!(cyd.acquired, [(0, 0, 3)], "a closed connection ends its session, too");
}

#[test]
fn requests_of_a_session_come_in_order() {
    let mut kafka = workers();
    let mut ann = Consumer::joins(&mut kafka, "ann");
    ann.epoch = 7;
    assert_eq!(ann.fetch(&mut kafka), ErrorCode::InvalidShareSessionEpoch);
    ann.epoch = 2;
    assert_eq!(ann.fetch(&mut kafka), ErrorCode::None);
    let mut bob = Consumer { name: "bob", epoch: 1, ..ann.clone() };
    assert_eq!(bob.fetch(&mut kafka), ErrorCode::ShareSessionNotFound);
    bob.name = "";
    assert_eq!(bob.fetch(&mut kafka), ErrorCode::InvalidRequest);
}

#[test]
fn a_group_begins_where_it_is_told_to() {
    let mut kafka = Kafka::with_topic(TOPIC, 1);
    store(&mut kafka, &["old"]);
    let mut ann = Consumer::joins(&mut kafka, "ann");
    store(&mut kafka, &["new"]);
    assert_eq!(ann.read(&mut kafka), ["new"], "by default with what comes");
    ann.leave(&mut kafka);
    kafka.disconnect(ann.conn);
    assert_eq!(alter(&mut kafka, 0), ErrorCode::None);
    let mut ben = Consumer::joins(&mut kafka, "ben");
    assert_eq!(ben.read(&mut kafka), ["old", "new"]);
    assert_eq!(alter(&mut kafka, 0), ErrorCode::NonEmptyGroup);
}

#[test]
fn how_far_a_group_has_come_is_described_and_forgotten() {
    let mut kafka = workers();
    let mut ann = Consumer::joins(&mut kafka, "ann");
    store(&mut kafka, &["a", "b", "c"]);
    assert_eq!(progress(&mut kafka), [(0, -1, -1)], "nothing was settled yet");
    ann.fetch(&mut kafka);
    ann.acknowledge(&mut kafka, 0, 1, &[ACCEPT]);
    assert_eq!(progress(&mut kafka), [(0, 0, 1)]);
    ann.close(&mut kafka);
    assert_eq!(progress(&mut kafka), [(0, 2, 1)], "the start is written down with the next change");
    assert_eq!(forget(&mut kafka), ErrorCode::NonEmptyGroup);
    ann.leave(&mut kafka);
    assert_eq!(forget(&mut kafka), ErrorCode::None);
    assert_eq!(progress(&mut kafka), []);
}

#[test]
fn a_leader_that_takes_over_knows_what_was_settled() {
    let mut kafka = Kafka::of_brokers(2);
    kafka.configure_group(GROUP, &[("share.auto.offset.reset", "earliest")]);
    kafka.create_topic_with_replicas(TOPIC, &[&[1, 2]]);
    let mut ann = Consumer::joins(&mut kafka, "ann");
    store(&mut kafka, &["a"]);
    store(&mut kafka, &["b"]);
    store(&mut kafka, &["c"]);
    ann.fetch(&mut kafka);
    assert_eq!(ann.acknowledge(&mut kafka, 1, 1, &[ACCEPT]), ErrorCode::None);
    kafka.control(Command::Crash(NodeId(1)));
    let mut ben = Consumer::joins(&mut kafka, "ben");
    ben.conn = kafka.cluster.connect(NodeId(2), "/127.0.0.1").expect("the broker runs");
    ben.open(&mut kafka);
    ben.fetch(&mut kafka);
    assert_eq!(ben.acquired, [(0, 0, 1), (2, 2, 1)], "that ann had them was not written down");
}

#[test]
fn records_that_are_deleted_are_skipped() {
    let mut kafka = workers();
    let mut ann = Consumer::joins(&mut kafka, "ann");
    for value in ["a", "b", "c"] {
        store(&mut kafka, &[value]);
    }
    ann.fetch(&mut kafka);
    ann.acknowledge(&mut kafka, 0, 2, &[RELEASE]);
    trim(&mut kafka, 2);
    ann.fetch(&mut kafka);
    assert_eq!(ann.acquired, [], "its answer only tells the partition where the log begins");
    ann.fetch(&mut kafka);
    assert_eq!(ann.acquired, [(2, 2, 2)]);
}

#[test]
fn acknowledgements_come_with_a_fetch_and_nonsense_is_refused() {
    let mut kafka = workers();
    let mut ann = Consumer::joins(&mut kafka, "ann");
    store(&mut kafka, &["a"]);
    store(&mut kafka, &["b"]);
    ann.max_records = 1;
    ann.fetch(&mut kafka);
    let says = |first_offset, last_offset, acknowledge_types: &[i8]| share_fetch_request::AcknowledgementBatch {
        first_offset,
        last_offset,
        acknowledge_types: acknowledge_types.to_vec(),
    };
    let row = ann.fetch_saying(&mut kafka, vec![says(0, 0, &[ACCEPT])]);
    assert_eq!((row.acknowledge_error_code, row.acquired_records.len()), (0, 1));
    let invalid = [
        vec![says(1, 0, &[ACCEPT])],
        vec![says(1, 1, &[])],
        vec![says(1, 1, &[ACCEPT, ACCEPT])],
        vec![says(1, 1, &[9])],
        vec![says(1, 1, &[RENEW])],
        vec![says(1, 1, &[ACCEPT]), says(0, 1, &[ACCEPT])],
    ];
    for said in invalid {
        let row = ann.fetch_saying(&mut kafka, said);
        assert_eq!(row.acknowledge_error_code, ErrorCode::InvalidRequest.code());
    }
    assert_eq!(ann.acknowledge(&mut kafka, 1, 1, &[ACCEPT]), ErrorCode::None, "it is still hers");
}

#[test]
fn sessions_are_bounded() {
    let mut kafka = Kafka::with_configs(&[("group.share.max.share.sessions", "1")]);
    kafka.create_topic(TOPIC, 1);
    let ann = Consumer::joins(&mut kafka, "ann");
    let mut ben = Consumer { name: "ben", conn: kafka.connect(), ..ann };
    ben.epoch = 0;
    assert_eq!(ben.wait(&mut kafka, 1_000), None, "it is kept waiting, lest it ask again at once");
    kafka.advance(1_000);
    let refused: ShareFetchResponse = kafka.answered(ben.conn).expect("its time is up");
    assert_eq!(refused.error_code, ErrorCode::ShareSessionLimitReached.code());
}

#[test]
fn a_beginning_far_off_does_no_harm() {
    for start_offset in [i64::MAX, i64::MIN, -5, 7] {
        let mut kafka = workers();
        store(&mut kafka, &["a"]);
        assert_eq!(alter(&mut kafka, start_offset), ErrorCode::None);
        let mut ann = Consumer::joins(&mut kafka, "ann");
        assert_eq!(progress(&mut kafka)[0].1, start_offset);
        let expected: &[&str] = if start_offset < 0 { &["a"] } else { &[] };
        assert_eq!(ann.read(&mut kafka), expected, "{start_offset}");
    }
}

// ---- verbs ----

/// A share consumer at the broker that leads the only partition.
#[derive(Debug, Clone)]
struct Consumer {
    name: &'static str,
    conn: ConnId,
    epoch: i32,
    max_records: i32,
    strict: bool,
    acquired: Vec<(i64, i64, i16)>,
    values: Vec<String>,
}

impl Consumer {
    /// Joins the group, so that the partition is initialised, and opens a session.
    fn joins(kafka: &mut Kafka, name: &'static str) -> Self {
        let conn = kafka.connect_to_coordinator(GROUP);
        let request = ShareGroupHeartbeatRequest {
            group_id: Str::from(GROUP),
            member_id: Str::from(name),
            subscribed_topic_names: Some(vec![Str::from(TOPIC)]),
            ..Default::default()
        };
        let joined: ShareGroupHeartbeatResponse = kafka.ask(conn, 1, request);
        assert_eq!(joined.error_code, 0);
        let mut consumer = Self {
            name,
            conn: kafka.connect(),
            epoch: 0,
            max_records: 100,
            strict: false,
            acquired: Vec::new(),
            values: Vec::new(),
        };
        consumer.open(kafka);
        consumer
    }

    fn open(&mut self, kafka: &mut Kafka) {
        self.epoch = 0;
        let request = ShareFetchRequest { max_records: 0, ..self.request(kafka) };
        let opened: ShareFetchResponse = kafka.ask(self.conn, 2, request);
        assert_eq!(opened.error_code, 0);
        self.epoch = 1;
        // A partition begins to be read with the first fetch that may have records.
        let (most, strict) = (std::mem::replace(&mut self.max_records, -1), self.strict);
        self.fetch(kafka);
        (self.max_records, self.strict) = (most, strict);
    }

    fn read(&mut self, kafka: &mut Kafka) -> Vec<String> {
        self.fetch(kafka);
        self.values.clone()
    }

    fn fetch(&mut self, kafka: &mut Kafka) -> ErrorCode {
        let response: ShareFetchResponse = kafka.ask(self.conn, 2, self.request(kafka));
        self.take(&response);
        ErrorCode::from_code(response.error_code).expect("a code Kafka has")
    }

    /// Fetches with time to wait; `None` while it waits.
    fn wait(&mut self, kafka: &mut Kafka, max_wait_ms: i32) -> Option<ShareFetchResponse> {
        let request = ShareFetchRequest { max_wait_ms, min_bytes: 1, ..self.request(kafka) };
        kafka.try_ask(self.conn, 2, request)
    }

    fn fetch_saying(
        &mut self,
        kafka: &mut Kafka,
        acknowledgement_batches: Vec<share_fetch_request::AcknowledgementBatch>,
    ) -> PartitionData {
        let mut request = self.request(kafka);
        request.topics[0].partitions[0].acknowledgement_batches = acknowledgement_batches;
        let mut response: ShareFetchResponse = kafka.ask(self.conn, 2, request);
        self.take(&response);
        response.responses.remove(0).partitions.remove(0)
    }

    fn take(&mut self, response: &ShareFetchResponse) {
        self.acquired.clear();
        self.values.clear();
        if response.error_code != 0 {
            return;
        }
        self.epoch += 1;
        for row in response.responses.iter().flat_map(|topic| &topic.partitions) {
            let acquired = row.acquired_records.iter();
            self.acquired.extend(acquired.map(|a| (a.first_offset, a.last_offset, a.delivery_count)));
            let chunks = row.records.chunks().filter(|chunk| !chunk.is_empty());
            let found = chunks.flat_map(|chunk| records(chunk).expect("stored batches"));
            self.values
                .extend(found.map(|record| String::from_utf8_lossy(&record.value.expect("a value")).into_owned()));
        }
    }

    fn acknowledge(&mut self, kafka: &mut Kafka, first_offset: i64, last_offset: i64, outcomes: &[i8]) -> ErrorCode {
        let batch = AcknowledgementBatch { first_offset, last_offset, acknowledge_types: outcomes.to_vec() };
        let partition = AcknowledgePartition { partition_index: 0, acknowledgement_batches: vec![batch] };
        let topic = AcknowledgeTopic { topic_id: kafka.topic_id(TOPIC), partitions: vec![partition] };
        let request = ShareAcknowledgeRequest {
            group_id: Some(Str::from(GROUP)),
            member_id: Some(Str::from(self.name)),
            share_session_epoch: self.epoch,
            is_renew_ack: outcomes.contains(&RENEW),
            topics: vec![topic],
        };
        let response: ShareAcknowledgeResponse = kafka.ask(self.conn, 2, request);
        assert_eq!((response.error_code, response.acquisition_lock_timeout_ms > 0), (0, true));
        self.epoch += 1;
        ErrorCode::from_code(response.responses[0].partitions[0].error_code).expect("a code Kafka has")
    }

    fn close(&mut self, kafka: &mut Kafka) {
        let request = ShareAcknowledgeRequest {
            group_id: Some(Str::from(GROUP)),
            member_id: Some(Str::from(self.name)),
            share_session_epoch: -1,
            ..Default::default()
        };
        let response: ShareAcknowledgeResponse = kafka.ask(self.conn, 2, request);
        assert_eq!(response.error_code, 0);
    }

    fn leave(&mut self, kafka: &mut Kafka) {
        let conn = kafka.connect_to_coordinator(GROUP);
        let request = ShareGroupHeartbeatRequest {
            group_id: Str::from(GROUP),
            member_id: Str::from(self.name),
            member_epoch: -1,
            ..Default::default()
        };
        let left: ShareGroupHeartbeatResponse = kafka.ask(conn, 1, request);
        assert_eq!(left.error_code, 0);
    }

    fn request(&self, kafka: &Kafka) -> ShareFetchRequest {
        let partition = FetchPartition { partition_index: 0, ..Default::default() };
        let topic = FetchTopic { topic_id: kafka.topic_id(TOPIC), partitions: vec![partition] };
        ShareFetchRequest {
            group_id: Some(Str::from(GROUP)),
            member_id: Some(Str::from(self.name)),
            share_session_epoch: self.epoch,
            max_bytes: 1 << 20,
            max_records: self.max_records,
            batch_size: 100,
            share_acquire_mode: i8::from(self.strict),
            topics: vec![topic],
            ..Default::default()
        }
    }
}

/// A cluster with the topic, whose group begins at its beginning.
fn workers() -> Kafka {
    let mut kafka = Kafka::with_topic(TOPIC, 1);
    kafka.configure_group(GROUP, &[("share.auto.offset.reset", "earliest")]);
    kafka
}

/// Stores one batch.
fn store(kafka: &mut Kafka, values: &[&str]) {
    let now_ms = kafka.now.as_millis();
    let batch = values.iter().fold(BatchBuilder::new(), |batch, v| batch.record(now_ms, None, Some(v.as_bytes())));
    let row = PartitionProduceData { index: 0, records: Some(batch.build().expect("a batch").into()) };
    let topic = TopicProduceData { name: Str::from(TOPIC), partition_data: vec![row], ..Default::default() };
    let request = ProduceRequest { acks: 1, timeout_ms: 1_000, topic_data: vec![topic], ..Default::default() };
    let conn = kafka.connect();
    let stored: ProduceResponse = kafka.ask(conn, 9, request);
    assert_eq!(stored.responses[0].partition_responses[0].error_code, 0);
}

fn trim(kafka: &mut Kafka, offset: i64) {
    let partition = DeleteRecordsPartition { partition_index: 0, offset };
    let topic = DeleteRecordsTopic { name: Str::from(TOPIC), partitions: vec![partition] };
    let conn = kafka.connect();
    let trimmed: DeleteRecordsResponse =
        kafka.ask(conn, 2, DeleteRecordsRequest { topics: vec![topic], timeout_ms: 1_000 });
    assert_eq!(trimmed.topics[0].partitions[0].error_code, 0);
}

/// Partition, start offset and lag of everything the group reads.
fn progress(kafka: &mut Kafka) -> Vec<(i32, i64, i64)> {
    let conn = kafka.connect_to_coordinator(GROUP);
    let group = DescribeShareGroupOffsetsRequestGroup { group_id: Str::from(GROUP), topics: None };
    let described: DescribeShareGroupOffsetsResponse =
        kafka.ask(conn, 1, DescribeShareGroupOffsetsRequest { groups: vec![group] });
    assert_eq!(described.groups[0].error_code, 0);
    let rows = described.groups[0].topics.iter().flat_map(|topic| &topic.partitions);
    rows.map(|row| (row.partition_index, row.start_offset, row.lag)).collect()
}

fn alter(kafka: &mut Kafka, start_offset: i64) -> ErrorCode {
    let partition = AlterShareGroupOffsetsRequestPartition { partition_index: 0, start_offset };
    let topic = AlterShareGroupOffsetsRequestTopic { topic_name: Str::from(TOPIC), partitions: vec![partition] };
    let request = AlterShareGroupOffsetsRequest { group_id: Str::from(GROUP), topics: vec![topic] };
    let conn = kafka.connect_to_coordinator(GROUP);
    let altered: AlterShareGroupOffsetsResponse = kafka.ask(conn, 0, request);
    ErrorCode::from_code(altered.error_code).expect("a code Kafka has")
}

fn forget(kafka: &mut Kafka) -> ErrorCode {
    let topic = DeleteShareGroupOffsetsRequestTopic { topic_name: Str::from(TOPIC) };
    let request = DeleteShareGroupOffsetsRequest { group_id: Str::from(GROUP), topics: vec![topic] };
    let conn = kafka.connect_to_coordinator(GROUP);
    let deleted: DeleteShareGroupOffsetsResponse = kafka.ask(conn, 0, request);
    ErrorCode::from_code(deleted.error_code).expect("a code Kafka has")
}
