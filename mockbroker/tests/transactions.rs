//! What transactional producers and readers of committed records experience, told through `Cluster::handle`.

use rehearsal_mockbroker::cluster::Cluster;
use rehearsal_mockbroker::config::{ClusterConfig, TopicConfig};
use rehearsal_mockbroker::control::Command;
use rehearsal_mockbroker::error::ErrorCode;
use rehearsal_mockbroker::fault::Fault;
use rehearsal_mockbroker::output::{ConnId, Output};
use rehearsal_mockbroker::session::Incoming;
use rehearsal_mockbroker::state::nodes::NodeId;
use rehearsal_mockbroker::time::{Time, millis};
use rehearsal_mockbroker::wire::batch::{BatchBuilder, BatchHeader, records};
use rehearsal_mockbroker::wire::generated::add_offsets_to_txn_request::AddOffsetsToTxnRequest;
use rehearsal_mockbroker::wire::generated::add_partitions_to_txn_request::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnTopic,
};
use rehearsal_mockbroker::wire::generated::describe_producers_request::{DescribeProducersRequest, TopicRequest};
use rehearsal_mockbroker::wire::generated::describe_producers_response::ProducerState;
use rehearsal_mockbroker::wire::generated::describe_transactions_request::DescribeTransactionsRequest;
use rehearsal_mockbroker::wire::generated::describe_transactions_response::TransactionState;
use rehearsal_mockbroker::wire::generated::end_txn_request::EndTxnRequest;
use rehearsal_mockbroker::wire::generated::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use rehearsal_mockbroker::wire::generated::fetch_response::PartitionData;
use rehearsal_mockbroker::wire::generated::find_coordinator_request::FindCoordinatorRequest;
use rehearsal_mockbroker::wire::generated::init_producer_id_request::InitProducerIdRequest;
use rehearsal_mockbroker::wire::generated::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use rehearsal_mockbroker::wire::generated::list_transactions_request::ListTransactionsRequest;
use rehearsal_mockbroker::wire::generated::offset_fetch_request::{OffsetFetchRequest, OffsetFetchRequestTopic};
use rehearsal_mockbroker::wire::generated::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use rehearsal_mockbroker::wire::generated::txn_offset_commit_request::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use rehearsal_mockbroker::wire::generated::write_txn_markers_request::{
    WritableTxnMarker, WritableTxnMarkerTopic, WriteTxnMarkersRequest,
};
use rehearsal_mockbroker::wire::{ApiKey, Records, Request, Response, Str};
use std::collections::BTreeMap;

const TOPIC: &str = "orders";
const GROUP: &str = "billing";
const ID: &str = "payments";
const TIMEOUT_MS: i32 = 60_000;
/// Every client here starts at this time.
const START_MS: i64 = 1_700_000_000_000;
/// Versions of a client before KIP-890 and of one after it.
const OLD: Client = Client { produce: 9, end: 3, offsets: 3 };
const NEW: Client = Client { produce: 12, end: 5, offsets: 5 };

// ---- readers of committed records ----

#[test]
fn a_committed_reader_stops_at_the_first_open_transaction() {
    for client in [OLD, NEW] {
        let mut kafka = Kafka::new();
        let mut payments = kafka.producer(client);
        kafka.produce_plain("before");
        assert_eq!(payments.write(&mut kafka, "a"), Ok(1));
        kafka.produce_plain("after");

        assert_eq!(kafka.values(Reads::Everything), ["before", "a", "after"]);
        assert_eq!(kafka.values(Reads::Committed), ["before"]);
        assert_eq!((kafka.latest(Reads::Everything), kafka.latest(Reads::Committed)), (3, 1));

        payments.commit(&mut kafka);
        assert_eq!(kafka.values(Reads::Committed), ["before", "a", "after"]);
        assert_eq!(kafka.latest(Reads::Committed), 4, "the marker has an offset too");
    }
}

#[test]
fn aborted_records_are_fetched_with_the_means_to_skip_them() {
    for client in [OLD, NEW] {
        let mut kafka = Kafka::new();
        let mut payments = kafka.producer(client);
        payments.write(&mut kafka, "lost").unwrap();
        payments.abort(&mut kafka);
        payments.write(&mut kafka, "kept").unwrap();
        payments.commit(&mut kafka);

        let fetched = kafka.fetch(Reads::Committed, 0);
        let aborted = fetched.aborted_transactions.expect("a list");
        assert_eq!(aborted.iter().map(|one| (one.producer_id, one.first_offset)).collect::<Vec<_>>(), [(0, 0)]);
        assert_eq!(kafka.values(Reads::Committed), ["kept"]);
        assert_eq!(kafka.values(Reads::Everything), ["lost", "kept"]);
        assert_eq!(kafka.fetch(Reads::Committed, 2).aborted_transactions, Some(vec![]), "it is behind the reader");
        assert_eq!(kafka.fetch(Reads::Everything, 0).aborted_transactions, None);
        assert_eq!(kafka.fetch(Reads::Committed, 1_000).aborted_transactions, None, "an offset that is not there");
    }
}

#[test]
fn a_waiting_committed_reader_hears_of_the_commit() {
    let mut kafka = Kafka::new();
    let mut payments = kafka.producer(NEW);
    payments.write(&mut kafka, "a").unwrap();
    let reader = kafka.connect();
    let request = FetchRequest { max_wait_ms: 500, min_bytes: 1, ..fetch(Reads::Committed, 0) };
    assert!(kafka.ask_any(reader, 12, request.into()).is_none(), "there is nothing it may read");

    payments.commit(&mut kafka);
    assert!(matches!(kafka.answers.remove(&reader), Some(Response::Fetch(_))));
}

// ---- fencing ----

#[test]
fn a_producer_that_comes_back_fences_the_one_before_and_aborts_its_transaction() {
    for client in [OLD, NEW] {
        let mut kafka = Kafka::new();
        let mut zombie = kafka.producer(client);
        zombie.write(&mut kafka, "half").unwrap();

        let refused = kafka.init(4, ID, TIMEOUT_MS, None);
        assert_eq!(refused, Err(ErrorCode::ConcurrentTransactions), "the open transaction is aborted first");
        let mut heir = kafka.producer(client);
        assert_eq!(zombie.write(&mut kafka, "more"), Err(ErrorCode::InvalidProducerEpoch));
        assert_eq!(zombie.end(&mut kafka, true), Err(ErrorCode::ProducerFenced));
        heir.write(&mut kafka, "whole").unwrap();
        heir.commit(&mut kafka);
        assert_eq!(kafka.values(Reads::Committed), ["whole"]);
    }
}

#[test]
fn older_clients_hear_of_fencing_in_words_they_know() {
    let mut kafka = Kafka::new();
    let zombie = kafka.producer(OLD);
    kafka.producer(OLD);
    let coordinator = kafka.connect();
    for (version, expected) in [(1, ErrorCode::InvalidProducerEpoch), (2, ErrorCode::ProducerFenced)] {
        let added = kafka.add_partitions(coordinator, version, &zombie, 0);
        assert_eq!(added, expected, "version {version}");
    }
}

#[test]
fn a_transaction_that_times_out_is_aborted_and_its_producer_fenced() {
    for version in [0, 2] {
        let mut kafka = Kafka::with_config(|config| config.transaction_version = version);
        let mut payments = kafka.producer(OLD);
        payments.write(&mut kafka, "late").unwrap();
        kafka.advance(i64::from(TIMEOUT_MS));
        assert_eq!(kafka.describe(ID).transaction_state.as_str(), "Ongoing");
        kafka.advance(10_000);
        assert_eq!(kafka.describe(ID).transaction_state.as_str(), "CompleteAbort");
        assert_eq!(kafka.values(Reads::Committed), [""; 0]);
        assert_eq!(payments.end(&mut kafka, true), Err(ErrorCode::ProducerFenced));
    }
}

// ---- verification (KIP-890) ----

#[test]
fn a_write_outside_of_its_transaction_is_refused_in_the_words_of_its_version() {
    for (version, expected) in [(9, ErrorCode::InvalidTxnState), (11, ErrorCode::TransactionAbortable)] {
        let mut kafka = Kafka::new();
        let mut payments = kafka.producer(Client { produce: version, ..OLD });
        payments.adds_partitions = false;
        assert_eq!(payments.write(&mut kafka, "a"), Err(expected), "version {version}");
        assert_eq!(kafka.values(Reads::Everything), [""; 0]);
    }
}

#[test]
fn from_produce_12_on_a_write_begins_the_transaction() {
    let mut kafka = Kafka::new();
    let mut payments = kafka.producer(NEW);
    assert_eq!(kafka.describe(ID).transaction_state.as_str(), "Empty");
    payments.write(&mut kafka, "a").unwrap();
    let described = kafka.describe(ID);
    assert_eq!(described.transaction_state.as_str(), "Ongoing");
    assert_eq!(described.topics[0].partitions, [0]);
    assert_eq!(described.transaction_start_time_ms, START_MS);
}

#[test]
fn every_end_raises_the_epoch_so_that_a_late_one_cannot_end_the_next_transaction() {
    let mut kafka = Kafka::new();
    let mut payments = kafka.producer(NEW);
    payments.write(&mut kafka, "a").unwrap();
    let late = payments.clone();
    payments.commit(&mut kafka);
    assert_eq!((payments.who, payments.epoch), (late.who, late.epoch + 1));

    payments.write(&mut kafka, "b").unwrap();
    assert_eq!(late.clone().end(&mut kafka, false), Err(ErrorCode::ProducerFenced));
    payments.commit(&mut kafka);
    assert_eq!(kafka.values(Reads::Committed), ["a", "b"]);
}

#[test]
fn without_epoch_bumps_a_late_end_ends_the_next_transaction() {
    let mut kafka = Kafka::new();
    let mut payments = kafka.producer(OLD);
    payments.write(&mut kafka, "a").unwrap();
    payments.commit(&mut kafka);
    payments.write(&mut kafka, "half of b").unwrap();
    assert_eq!(payments.clone().end(&mut kafka, true), Ok(()), "sent for the first transaction, and delayed");
    assert_eq!(kafka.values(Reads::Committed), ["a", "half of b"], "Kafka cannot tell the two apart");
}

#[test]
fn a_delayed_write_hangs_where_nobody_verifies_and_an_administrator_repairs_it() {
    let mut kafka = Kafka::with_config(|config| {
        config.configs.insert("transaction.partition.verification.enable".into(), "false".into());
    });
    let mut payments = kafka.producer(OLD);
    payments.write(&mut kafka, "a").unwrap();
    let fault = kafka.cluster.plan(Fault::on(ApiKey::Produce).hold()).unwrap();
    let held = kafka.connect();
    assert!(kafka.ask_any(held, 9, payments.next_write(0, "late").into()).is_none());
    payments.abort(&mut kafka);
    kafka.control(Command::Release(fault));

    kafka.advance(1_000_000);
    kafka.produce_plain("after");
    assert_eq!(kafka.describe(ID).transaction_state.as_str(), "CompleteAbort", "nobody will end it");
    assert_eq!(kafka.latest(Reads::Committed), 2, "readers are stuck");
    let hanging = kafka.producers().remove(0);
    assert_eq!((hanging.producer_id, hanging.current_txn_start_offset), (0, 2));

    assert_eq!(kafka.write_marker(&hanging), ErrorCode::None);
    assert_eq!(kafka.values(Reads::Committed), ["after"]);
}

#[test]
fn a_write_that_is_verified_cannot_hang() {
    let mut kafka = Kafka::new();
    let mut payments = kafka.producer(OLD);
    payments.write(&mut kafka, "a").unwrap();
    let fault = kafka.cluster.plan(Fault::on(ApiKey::Produce).hold()).unwrap();
    let held = kafka.connect();
    assert!(kafka.ask_any(held, 9, payments.next_write(0, "late").into()).is_none());
    payments.abort(&mut kafka);
    kafka.control(Command::Release(fault));
    let Some(Response::Produce(refused)) = kafka.answers.remove(&held) else { panic!("no answer") };
    let code = refused.responses[0].partition_responses[0].error_code;
    assert_eq!(ErrorCode::from_code(code), Some(ErrorCode::InvalidTxnState));
    assert_eq!(kafka.latest(Reads::Committed), 2);
}

// ---- offsets ----

#[test]
fn offsets_sent_in_a_transaction_count_when_it_commits() {
    for client in [OLD, NEW] {
        let mut kafka = Kafka::new();
        let mut payments = kafka.producer(client);
        assert_eq!(payments.send_offset(&mut kafka, 5), ErrorCode::None);
        assert_eq!(kafka.committed(false), (-1, ErrorCode::None));
        assert_eq!(kafka.committed(true), (-1, ErrorCode::UnstableOffsetCommit));
        payments.commit(&mut kafka);
        assert_eq!(kafka.committed(true), (5, ErrorCode::None));

        assert_eq!(payments.send_offset(&mut kafka, 9), ErrorCode::None);
        assert_eq!(kafka.committed(false), (5, ErrorCode::None), "the old one, until the transaction is decided");
        payments.abort(&mut kafka);
        assert_eq!(kafka.committed(true), (5, ErrorCode::None));
    }
}

#[test]
fn offsets_outside_of_the_transaction_are_refused() {
    for (version, expected) in [(3, ErrorCode::InvalidTxnState), (4, ErrorCode::TransactionAbortable)] {
        let mut kafka = Kafka::new();
        let mut payments = kafka.producer(Client { offsets: version, ..OLD });
        payments.adds_partitions = false;
        assert_eq!(payments.send_offset(&mut kafka, 5), expected, "version {version}");
    }
}

#[test]
fn a_fenced_producer_sends_no_offsets() {
    let mut kafka = Kafka::new();
    let mut zombie = kafka.producer(NEW);
    zombie.send_offset(&mut kafka, 1);
    kafka.init(4, ID, TIMEOUT_MS, None).unwrap_err();
    kafka.producer(NEW);
    assert_eq!(zombie.send_offset(&mut kafka, 2), ErrorCode::InvalidProducerEpoch);
}

// ---- brokers come and go ----

#[test]
fn markers_wait_for_a_leader_and_the_transaction_with_them() {
    let mut kafka = Kafka::with_config(|config| {
        *config = ClusterConfig { topics: vec![], ..ClusterConfig::with_brokers(2) };
        config.topics.push(TopicConfig { replication_factor: Some(1), ..TopicConfig::new(TOPIC, 2) });
    });
    let coordinator = kafka.coordinator(1, ID);
    let partition = kafka.partition_led_by(|leader| leader != coordinator);
    let mut payments = kafka.producer(OLD);
    payments.partition = partition;
    payments.write(&mut kafka, "a").unwrap();
    let leader = kafka.leader(partition);
    kafka.control(Command::Crash(leader));
    payments.commit(&mut kafka);
    assert_eq!(kafka.describe(ID).transaction_state.as_str(), "PrepareCommit");
    assert_eq!(kafka.init(4, ID, TIMEOUT_MS, None), Err(ErrorCode::ConcurrentTransactions));

    kafka.control(Command::Start(leader));
    assert_eq!(kafka.describe(ID).transaction_state.as_str(), "CompleteCommit");
}

#[test]
fn a_frozen_leader_takes_no_marker_until_it_thaws() {
    let mut kafka = Kafka::with_config(|config| {
        *config = ClusterConfig { topics: vec![TopicConfig::new(TOPIC, 2)], ..ClusterConfig::with_brokers(2) };
    });
    let coordinator = kafka.coordinator(1, ID);
    let mut payments = kafka.producer(OLD);
    payments.partition = kafka.partition_led_by(|leader| leader != coordinator);
    payments.write(&mut kafka, "a").unwrap();
    let leader = kafka.leader(payments.partition);
    kafka.control(Command::Pause(leader));
    payments.commit(&mut kafka);
    assert_eq!(kafka.describe(ID).transaction_state.as_str(), "PrepareCommit");
    kafka.control(Command::Resume(leader));
    assert_eq!(kafka.describe(ID).transaction_state.as_str(), "CompleteCommit");
}

#[test]
fn only_the_coordinator_answers_and_a_transaction_outlives_it() {
    let mut kafka = Kafka::with_config(|config| {
        *config = ClusterConfig { topics: vec![TopicConfig::new(TOPIC, 1)], ..ClusterConfig::with_brokers(3) };
    });
    let mut payments = kafka.producer(NEW);
    payments.write(&mut kafka, "a").unwrap();
    let first = kafka.coordinator(1, ID);
    let other = NodeId((1..=3).find(|id| NodeId(*id) != first).unwrap());
    let stranger = kafka.connect_to(other);
    assert_eq!(kafka.add_partitions(stranger, 3, &payments, 0), ErrorCode::NotCoordinator);

    kafka.control(Command::Crash(first));
    assert_ne!(kafka.coordinator(1, ID), first);
    payments.commit(&mut kafka);
    assert_eq!(kafka.values(Reads::Committed), ["a"]);
}

#[test]
fn a_marker_counts_when_the_followers_have_it() {
    let mut kafka = Kafka::with_config(|config| {
        *config = ClusterConfig { topics: vec![TopicConfig::new(TOPIC, 1)], ..ClusterConfig::with_brokers(2) };
        config.follower_delay = std::time::Duration::from_millis(100);
    });
    let mut payments = kafka.producer(NEW);
    payments.acks = 1;
    payments.write(&mut kafka, "a").unwrap();
    kafka.advance(1_000);
    payments.commit(&mut kafka);
    assert_eq!(kafka.describe(ID).transaction_state.as_str(), "PrepareCommit");
    assert_eq!(kafka.latest(Reads::Committed), 0);
    kafka.advance(1_000);
    assert_eq!(kafka.describe(ID).transaction_state.as_str(), "CompleteCommit");
    assert_eq!(kafka.latest(Reads::Committed), 2);
}

#[test]
fn partitions_of_a_deleted_topic_need_no_marker() {
    let mut kafka = Kafka::new();
    let mut payments = kafka.producer(NEW);
    payments.write(&mut kafka, "a").unwrap();
    kafka.control(Command::DeleteTopic(TOPIC.to_owned()));
    payments.commit(&mut kafka);
    assert_eq!(kafka.describe(ID).transaction_state.as_str(), "CompleteCommit");
}

#[test]
fn a_transaction_lost_with_its_unflushed_records_leaves_no_reader_stuck() {
    let mut kafka = Kafka::with_config(|config| {
        *config = ClusterConfig { topics: vec![TopicConfig::new(TOPIC, 1)], ..ClusterConfig::with_brokers(2) };
        config.follower_delay = std::time::Duration::from_millis(100);
    });
    kafka.produce_plain("before");
    kafka.advance(1_000);
    let mut payments = kafka.producer(OLD);
    payments.acks = 1;
    payments.write(&mut kafka, "lost").unwrap();
    let leader = kafka.leader(0);
    kafka.control(Command::Crash(leader));
    assert_ne!(kafka.leader(0), leader, "the follower leads, and never had the record");
    assert_eq!(kafka.values(Reads::Committed), ["before"]);
    assert_eq!(kafka.producers(), []);
    kafka.produce_plain("after");
    kafka.advance(60_000);
    assert_eq!(kafka.values(Reads::Committed), ["before", "after"]);
}

// ---- refusals, listings ----

#[test]
fn an_unknown_partition_keeps_all_of_them_out() {
    let mut kafka = Kafka::new();
    let payments = kafka.producer(OLD);
    let request = AddPartitionsToTxnRequest {
        v3_and_below_topics: vec![AddPartitionsToTxnTopic { name: Str::from(TOPIC), partitions: vec![0, 99] }],
        ..payments.add_request()
    };
    let coordinator = kafka.connect();
    let Some(Response::AddPartitionsToTxn(answer)) = kafka.ask_any(coordinator, 3, request.into()) else {
        panic!("no answer")
    };
    let rows = &answer.results_by_topic_v3_and_below[0].results_by_partition;
    let codes: Vec<_> = rows.iter().map(|row| ErrorCode::from_code(row.partition_error_code).unwrap()).collect();
    assert_eq!(codes, [ErrorCode::OperationNotAttempted, ErrorCode::UnknownTopicOrPartition]);
}

#[test]
fn a_planned_fault_keeps_a_partition_out_before_anything_happens() {
    let mut kafka = Kafka::new();
    let mut payments = kafka.producer(OLD);
    let fault = Fault::on(ApiKey::AddPartitionsToTxn).topic(TOPIC).partition(0);
    kafka.cluster.plan(fault.error(ErrorCode::TopicAuthorizationFailed)).unwrap();
    assert_eq!(payments.write(&mut kafka, "a"), Err(ErrorCode::TopicAuthorizationFailed));
    assert_eq!(kafka.describe(ID).transaction_state.as_str(), "Empty");
    payments.write(&mut kafka, "a").unwrap();
}

#[test]
fn transactions_are_listed_by_state_and_pattern() {
    let mut kafka = Kafka::new();
    let mut payments = kafka.producer(NEW);
    payments.write(&mut kafka, "a").unwrap();
    kafka.init(4, "idle", TIMEOUT_MS, None).unwrap();
    let list = |kafka: &mut Kafka, states: &[&str], pattern: Option<&str>| {
        let request = ListTransactionsRequest {
            state_filters: states.iter().map(|state| Str::from(*state)).collect(),
            transactional_id_pattern: pattern.map(Str::from),
            duration_filter: -1,
            ..Default::default()
        };
        let client = kafka.connect();
        match kafka.ask_any(client, 2, request.into()) {
            Some(Response::ListTransactions(listed)) => {
                let ids = listed.transaction_states.iter().map(|one| one.transactional_id.to_string());
                (listed.error_code, ids.collect::<Vec<_>>(), listed.unknown_state_filters.len())
            }
            other => panic!("not listed: {other:?}"),
        }
    };
    assert_eq!(list(&mut kafka, &[], None), (0, vec!["idle".into(), ID.into()], 0));
    assert_eq!(list(&mut kafka, &["Ongoing", "Odd"], None), (0, vec![ID.into()], 1));
    assert_eq!(list(&mut kafka, &[], Some("pay")), (0, vec![], 0), "a pattern is for the whole id");
    assert_eq!(list(&mut kafka, &[], Some("pay.*")), (0, vec![ID.into()], 0));
    let invalid = ErrorCode::InvalidRegularExpression.code();
    assert_eq!(list(&mut kafka, &[], Some("(")), (invalid, vec![], 0));
}

#[test]
fn an_idempotent_producer_that_is_silent_for_long_is_forgotten() {
    let mut kafka = Kafka::new();
    let node = kafka.leader(0);
    let client = kafka.connect_to(node);
    let batch = BatchBuilder::new().producer(77, 0, 5).record(START_MS, None, Some(b"a")).build().unwrap();
    kafka.ask_any(client, 9, produce(None, 0, -1, batch.into()).into());
    assert_eq!(kafka.producers().len(), 1);
    kafka.advance(24 * 3_600_000 - 1);
    assert_eq!(kafka.producers().len(), 1);
    kafka.advance(600_000);
    assert_eq!(kafka.producers().len(), 0);
}

// ---- the stage ----

/// The versions a client speaks.
#[derive(Debug, Clone, Copy)]
struct Client {
    produce: i16,
    end: i16,
    offsets: i16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reads {
    Everything,
    Committed,
}

/// A producer as a client library drives one.
#[derive(Debug, Clone)]
struct Producer {
    client: Client,
    who: i64,
    epoch: i16,
    sequence: i32,
    partition: i32,
    acks: i16,
    adds_partitions: bool,
}

impl Producer {
    fn write(&mut self, kafka: &mut Kafka, value: &str) -> Result<i64, ErrorCode> {
        if self.client.produce < 12 && self.adds_partitions {
            let coordinator = kafka.connect_to_coordinator();
            match kafka.add_partitions(coordinator, 3, self, self.partition) {
                ErrorCode::None | ErrorCode::ProducerFenced => {}
                refused => return Err(refused),
            }
        }
        let leader = kafka.leader(self.partition);
        let conn = kafka.connect_to(leader);
        let request = self.next_write(self.partition, value);
        let Some(Response::Produce(answer)) = kafka.ask_any(conn, self.client.produce, request.into()) else {
            panic!("a produce is answered")
        };
        let row = &answer.responses[0].partition_responses[0];
        match ErrorCode::from_code(row.error_code).unwrap() {
            ErrorCode::None => {
                self.sequence += 1;
                Ok(row.base_offset)
            }
            refused => Err(refused),
        }
    }

    fn next_write(&self, partition: i32, value: &str) -> ProduceRequest {
        let batch = BatchBuilder::new()
            .producer(self.who, self.epoch, self.sequence)
            .transactional()
            .record(START_MS, None, Some(value.as_bytes()))
            .build()
            .unwrap();
        produce(Some(ID), partition, self.acks, batch.into())
    }

    fn add_request(&self) -> AddPartitionsToTxnRequest {
        AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: Str::from(ID),
            v3_and_below_producer_id: self.who,
            v3_and_below_producer_epoch: self.epoch,
            ..Default::default()
        }
    }

    fn end(&mut self, kafka: &mut Kafka, committed: bool) -> Result<(), ErrorCode> {
        let request = EndTxnRequest {
            transactional_id: Str::from(ID),
            producer_id: self.who,
            producer_epoch: self.epoch,
            committed,
        };
        let conn = kafka.connect_to_coordinator();
        let Some(Response::EndTxn(answer)) = kafka.ask_any(conn, self.client.end, request.into()) else {
            panic!("an end is answered")
        };
        if answer.error_code != 0 {
            return Err(ErrorCode::from_code(answer.error_code).unwrap());
        }
        if answer.producer_epoch >= 0 {
            (self.who, self.epoch, self.sequence) = (answer.producer_id, answer.producer_epoch, 0);
        }
        Ok(())
    }

    fn commit(&mut self, kafka: &mut Kafka) {
        self.end(kafka, true).expect("it commits");
    }

    fn abort(&mut self, kafka: &mut Kafka) {
        self.end(kafka, false).expect("it aborts");
    }

    fn send_offset(&mut self, kafka: &mut Kafka, offset: i64) -> ErrorCode {
        if self.client.offsets < 5 && self.adds_partitions {
            let request = AddOffsetsToTxnRequest {
                transactional_id: Str::from(ID),
                producer_id: self.who,
                producer_epoch: self.epoch,
                group_id: Str::from(GROUP),
            };
            let conn = kafka.connect_to_coordinator();
            assert!(matches!(kafka.ask_any(conn, 3, request.into()), Some(Response::AddOffsetsToTxn(_))));
        }
        let partition = TxnOffsetCommitRequestPartition { committed_offset: offset, ..Default::default() };
        let topic = TxnOffsetCommitRequestTopic { name: Str::from(TOPIC), partitions: vec![partition] };
        let request = TxnOffsetCommitRequest {
            transactional_id: Str::from(ID),
            group_id: Str::from(GROUP),
            producer_id: self.who,
            producer_epoch: self.epoch,
            generation_id: -1,
            topics: vec![topic],
            ..Default::default()
        };
        let node = kafka.coordinator(0, GROUP);
        let conn = kafka.connect_to(node);
        let Some(Response::TxnOffsetCommit(answer)) = kafka.ask_any(conn, self.client.offsets, request.into()) else {
            panic!("offsets are answered")
        };
        ErrorCode::from_code(answer.topics[0].partitions[0].error_code).unwrap()
    }
}

fn produce(id: Option<&str>, partition: i32, acks: i16, records: Records) -> ProduceRequest {
    let row = PartitionProduceData { index: partition, records: Some(records) };
    let topic = TopicProduceData { name: Str::from(TOPIC), partition_data: vec![row], ..Default::default() };
    ProduceRequest { transactional_id: id.map(Str::from), acks, timeout_ms: 1_000, topic_data: vec![topic] }
}

fn fetch(reads: Reads, offset: i64) -> FetchRequest {
    let partition = FetchPartition { fetch_offset: offset, partition_max_bytes: 1 << 20, ..Default::default() };
    let topic = FetchTopic { topic: Str::from(TOPIC), partitions: vec![partition], ..Default::default() };
    FetchRequest {
        max_bytes: 1 << 20,
        isolation_level: i8::from(reads == Reads::Committed),
        session_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    }
}

struct Kafka {
    cluster: Cluster,
    now: Time,
    answers: BTreeMap<ConnId, Response>,
}

impl Kafka {
    fn new() -> Self {
        Self::with_config(|_| {})
    }

    fn with_config(configure: impl FnOnce(&mut ClusterConfig)) -> Self {
        let mut config = ClusterConfig { topics: vec![TopicConfig::new(TOPIC, 1)], ..ClusterConfig::with_brokers(1) };
        configure(&mut config);
        let cluster = Cluster::new(&config).expect("a cluster");
        Self { cluster, now: Time::from_millis(START_MS), answers: BTreeMap::new() }
    }

    fn connect(&mut self) -> ConnId {
        let node = self.leader(0);
        self.connect_to(node)
    }

    fn connect_to(&mut self, node: NodeId) -> ConnId {
        self.cluster.connect(node, "/127.0.0.1").expect("the broker runs")
    }

    fn connect_to_coordinator(&mut self) -> ConnId {
        let node = self.coordinator(1, ID);
        self.connect_to(node)
    }

    fn coordinator(&mut self, key_type: i8, key: &str) -> NodeId {
        let anywhere = self.cluster.view().controller.expect("a broker runs");
        let client = self.connect_to(anywhere);
        let request = FindCoordinatorRequest { key_type, key: Str::from(key), ..Default::default() };
        match self.ask_any(client, 3, request.into()) {
            Some(Response::FindCoordinator(found)) if found.error_code == 0 => NodeId(found.node_id),
            other => panic!("no coordinator: {other:?}"),
        }
    }

    fn leader(&self, partition: i32) -> NodeId {
        let view = self.cluster.view();
        view.topic(TOPIC).expect("the topic").partitions[partition as usize].leader.expect("a leader")
    }

    fn partition_led_by(&self, wanted: impl Fn(NodeId) -> bool) -> i32 {
        (0..2).find(|partition| wanted(self.leader(*partition))).expect("such a partition")
    }

    fn ask_any(&mut self, conn: ConnId, version: i16, body: Request) -> Option<Response> {
        let request = Incoming { version, client_id: Str::from("worker"), body, frame_bytes: 0 };
        let outputs = self.cluster.handle(self.now, conn, request);
        self.carry_out(outputs);
        self.answers.remove(&conn)
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            if let Output::Reply { conn, response: Some(response), .. } = output {
                self.answers.insert(conn, *response);
            }
        }
    }

    fn control(&mut self, command: Command) {
        let outputs = self.cluster.control(self.now, command).expect("a command that can be done");
        self.carry_out(outputs);
    }

    /// Lets time pass, stopping wherever something happens by itself.
    fn advance(&mut self, ms: i64) {
        let end = self.now + millis(ms);
        while let Some(at) = self.cluster.next_wake().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            let outputs = self.cluster.wake(self.now);
            self.carry_out(outputs);
        }
        self.now = end;
        let outputs = self.cluster.wake(self.now);
        self.carry_out(outputs);
    }

    fn init(
        &mut self,
        version: i16,
        id: &str,
        transaction_timeout_ms: i32,
        known: Option<(i64, i16)>,
    ) -> Result<(i64, i16), ErrorCode> {
        let (producer_id, producer_epoch) = known.unwrap_or((-1, -1));
        let request = InitProducerIdRequest {
            transactional_id: Some(Str::from(id)),
            transaction_timeout_ms,
            producer_id,
            producer_epoch,
            ..Default::default()
        };
        let node = self.coordinator(1, id);
        let conn = self.connect_to(node);
        match self.ask_any(conn, version, request.into()) {
            Some(Response::InitProducerId(answer)) if answer.error_code == 0 => {
                Ok((answer.producer_id, answer.producer_epoch))
            }
            Some(Response::InitProducerId(answer)) => Err(ErrorCode::from_code(answer.error_code).unwrap()),
            other => panic!("no answer: {other:?}"),
        }
    }

    fn producer(&mut self, client: Client) -> Producer {
        let (who, epoch) = self.init(4, ID, TIMEOUT_MS, None).expect("a producer id");
        Producer { client, who, epoch, sequence: 0, partition: 0, acks: -1, adds_partitions: true }
    }

    fn add_partitions(&mut self, conn: ConnId, version: i16, who: &Producer, partition: i32) -> ErrorCode {
        let topic = AddPartitionsToTxnTopic { name: Str::from(TOPIC), partitions: vec![partition] };
        let request = AddPartitionsToTxnRequest { v3_and_below_topics: vec![topic], ..who.add_request() };
        match self.ask_any(conn, version, request.into()) {
            Some(Response::AddPartitionsToTxn(answer)) => {
                let row = &answer.results_by_topic_v3_and_below[0].results_by_partition[0];
                ErrorCode::from_code(row.partition_error_code).unwrap()
            }
            other => panic!("no answer: {other:?}"),
        }
    }

    fn produce_plain(&mut self, value: &str) {
        let batch = BatchBuilder::new().record(START_MS, None, Some(value.as_bytes())).build().unwrap();
        let conn = self.connect();
        let Some(Response::Produce(answer)) = self.ask_any(conn, 9, produce(None, 0, 1, batch.into()).into()) else {
            panic!("no answer")
        };
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    }

    fn fetch(&mut self, reads: Reads, offset: i64) -> PartitionData {
        let conn = self.connect();
        match self.ask_any(conn, 12, fetch(reads, offset).into()) {
            Some(Response::Fetch(mut answer)) => answer.responses.remove(0).partitions.remove(0),
            other => panic!("no answer: {other:?}"),
        }
    }

    /// What an application is handed: a client skips aborted records as it is told, and all markers.
    fn values(&mut self, reads: Reads) -> Vec<String> {
        let fetched = self.fetch(reads, 0);
        let mut aborted = fetched.aborted_transactions.unwrap_or_default();
        let mut skipping: Vec<i64> = Vec::new();
        let mut values = Vec::new();
        let mut bytes = fetched.records.expect("records").to_bytes();
        while !bytes.is_empty() {
            let header = BatchHeader::parse(&bytes).expect("a whole batch");
            let batch = bytes.split_to(header.size);
            aborted.retain(|one| {
                let begins = one.first_offset <= header.last_offset();
                skipping.extend(begins.then_some(one.producer_id));
                !begins
            });
            if header.is_control() {
                skipping.retain(|id| *id != header.producer_id);
            } else if !(header.is_transactional() && skipping.contains(&header.producer_id)) {
                let found = records(&batch).expect("records");
                values.extend(found.iter().map(|r| String::from_utf8_lossy(r.value.as_deref().unwrap()).into_owned()));
            }
        }
        values
    }

    fn latest(&mut self, reads: Reads) -> i64 {
        let partition = ListOffsetsPartition { timestamp: -1, ..Default::default() };
        let topic = ListOffsetsTopic { name: Str::from(TOPIC), partitions: vec![partition] };
        let isolation_level = i8::from(reads == Reads::Committed);
        let request = ListOffsetsRequest { replica_id: -1, isolation_level, topics: vec![topic], ..Default::default() };
        let conn = self.connect();
        match self.ask_any(conn, 5, request.into()) {
            Some(Response::ListOffsets(answer)) => answer.topics[0].partitions[0].offset,
            other => panic!("no answer: {other:?}"),
        }
    }

    fn describe(&mut self, id: &str) -> TransactionState {
        let request = DescribeTransactionsRequest { transactional_ids: vec![Str::from(id)] };
        let conn = self.connect_to_coordinator();
        match self.ask_any(conn, 0, request.into()) {
            Some(Response::DescribeTransactions(mut answer)) => answer.transaction_states.remove(0),
            other => panic!("no answer: {other:?}"),
        }
    }

    fn producers(&mut self) -> Vec<ProducerState> {
        let topic = TopicRequest { name: Str::from(TOPIC), partition_indexes: vec![0] };
        let conn = self.connect();
        match self.ask_any(conn, 0, DescribeProducersRequest { topics: vec![topic] }.into()) {
            Some(Response::DescribeProducers(mut answer)) => {
                answer.topics.remove(0).partitions.remove(0).active_producers
            }
            other => panic!("no answer: {other:?}"),
        }
    }

    /// Ends a producer's transaction from outside, as Kafka's tools do.
    fn write_marker(&mut self, of: &ProducerState) -> ErrorCode {
        let marker = WritableTxnMarker {
            producer_id: of.producer_id,
            producer_epoch: of.producer_epoch as i16,
            transaction_result: false,
            topics: vec![WritableTxnMarkerTopic { name: Str::from(TOPIC), partition_indexes: vec![0] }],
            coordinator_epoch: of.coordinator_epoch,
            ..Default::default()
        };
        let conn = self.connect();
        match self.ask_any(conn, 1, WriteTxnMarkersRequest { markers: vec![marker] }.into()) {
            Some(Response::WriteTxnMarkers(answer)) => {
                ErrorCode::from_code(answer.markers[0].topics[0].partitions[0].error_code).unwrap()
            }
            other => panic!("no answer: {other:?}"),
        }
    }

    /// What the group has committed for partition 0.
    fn committed(&mut self, require_stable: bool) -> (i64, ErrorCode) {
        let topic = OffsetFetchRequestTopic { name: Str::from(TOPIC), partition_indexes: vec![0] };
        let request = OffsetFetchRequest {
            group_id: Str::from(GROUP),
            topics: Some(vec![topic]),
            require_stable,
            ..Default::default()
        };
        let node = self.coordinator(0, GROUP);
        let conn = self.connect_to(node);
        match self.ask_any(conn, 7, request.into()) {
            Some(Response::OffsetFetch(answer)) => {
                let row = &answer.topics[0].partitions[0];
                (row.committed_offset, ErrorCode::from_code(row.error_code).unwrap())
            }
            other => panic!("no answer: {other:?}"),
        }
    }
}
