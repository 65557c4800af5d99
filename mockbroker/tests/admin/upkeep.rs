//! What logs forget by themselves: retention, and compaction.

use crate::kafka::{Kafka, START_MS, body, produce};
use bytes::Bytes;
use rehearsal_mockbroker::config::{ClusterConfig, TopicConfig};
use rehearsal_mockbroker::control::Command;
use rehearsal_mockbroker::time::{Time, millis};
use rehearsal_mockbroker::wire::batch::{BatchBuilder, BatchHeader, records};
use rehearsal_mockbroker::wire::generated::end_txn_request::EndTxnRequest;
use rehearsal_mockbroker::wire::generated::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use rehearsal_mockbroker::wire::generated::find_coordinator_request::FindCoordinatorRequest;
use rehearsal_mockbroker::wire::generated::init_producer_id_request::InitProducerIdRequest;
use rehearsal_mockbroker::wire::generated::produce_request::ProduceRequest;
use rehearsal_mockbroker::wire::{Response, Str};
use std::time::Duration;

const TOPIC: &str = "orders";
const HOUR: Duration = Duration::from_secs(3_600);

fn kafka(topic_configs: &[(&str, &str)]) -> Kafka {
    let configs = topic_configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let topics = vec![TopicConfig { configs, ..TopicConfig::new(TOPIC, 1) }];
    Kafka::new(&ClusterConfig { topics, ..ClusterConfig::default() })
}

/// A compacted topic in which every batch begins a segment: they are a second apart.
fn compacted(more: &[(&str, &str)]) -> Kafka {
    kafka(&[&[("cleanup.policy", "compact"), ("segment.ms", "1")], more].concat())
}

impl Kafka {
    /// Writes `key=value` pairs as one batch, a second after the last; `key` alone is a tombstone.
    fn write(&mut self, pairs: &[&str]) -> i64 {
        self.write_as(BatchBuilder::new(), pairs)
    }

    fn write_as(&mut self, batch: BatchBuilder, pairs: &[&str]) -> i64 {
        self.advance(millis(1_000));
        let now_ms = self.now.as_millis();
        let batch = pairs.iter().fold(batch, |batch, pair| match pair.split_once('=') {
            Some((key, value)) => batch.record(now_ms, Some(key.as_bytes()), Some(value.as_bytes())),
            None => batch.record(now_ms, Some(pair.as_bytes()), None),
        });
        self.produce(TOPIC, 0, batch)
    }

    /// The producer of transactional id `tx`: its id and epoch.
    fn init_transactions(&mut self) -> (i64, i16) {
        let find = FindCoordinatorRequest { key: Str::from("tx"), key_type: 1, ..Default::default() };
        self.ask(1, 3, find);
        let transactional_id = Some(Str::from("tx"));
        let request = InitProducerIdRequest {
            transactional_id,
            transaction_timeout_ms: 60_000,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        };
        let answer = body!(self.ask(1, 4, request), InitProducerId);
        assert_eq!(answer.error_code, 0);
        (answer.producer_id, answer.producer_epoch)
    }

    fn write_in_transaction(&mut self, (id, epoch): (i64, i16), pair: (&str, &str)) {
        self.advance(millis(1_000));
        let (key, value) = (pair.0.as_bytes(), pair.1.as_bytes());
        let batch = BatchBuilder::new().producer(id, epoch, 0).transactional();
        let batch = batch.record(self.now.as_millis(), Some(key), Some(value));
        let request = ProduceRequest { transactional_id: Some(Str::from("tx")), acks: -1, ..produce(TOPIC, 0, batch) };
        let answer = body!(self.ask(1, 12, request), Produce);
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    }

    /// Ends the transaction; the producer's next epoch (KIP-890).
    fn end_transaction(&mut self, (producer_id, producer_epoch): (i64, i16), committed: bool) -> (i64, i16) {
        self.advance(millis(1_000));
        let transactional_id = Str::from("tx");
        let request = EndTxnRequest { transactional_id, producer_id, producer_epoch, committed };
        let answer = body!(self.ask(1, 5, request), EndTxn);
        assert_eq!(answer.error_code, 0);
        (answer.producer_id, answer.producer_epoch)
    }

    fn compact(&mut self) {
        self.control(Command::Compact(TOPIC.into()));
    }

    /// What is in the log, as `offset:key=value`.
    fn log(&self) -> Vec<String> {
        let text = |bytes: &Option<Bytes>| bytes.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let all = self.cluster.records(TOPIC, 0).expect("the partition").into_iter();
        let shown = all.map(|stored| match (text(&stored.record.key), text(&stored.record.value)) {
            (key, Some(value)) => format!("{}:{}={value}", stored.offset, key.unwrap_or_default()),
            (key, None) => format!("{}:{}", stored.offset, key.unwrap_or_default()),
        });
        shown.collect()
    }

    fn batches(&self) -> Vec<BatchHeader> {
        let stored = self.cluster.stored_batches(TOPIC, 0).expect("the partition");
        stored.iter().map(|bytes| BatchHeader::parse(bytes).expect("a batch")).collect()
    }

    fn start_offset(&self) -> i64 {
        self.partition(TOPIC, 0).log_start_offset
    }
}

#[test]
fn segments_that_are_too_old_go_when_brokers_look_for_them() {
    let mut kafka = kafka(&[("retention.ms", "3600000"), ("segment.ms", "600000")]);
    kafka.write(&["a=1"]);
    kafka.advance(millis(20 * 60_000));
    kafka.write(&["b=2"]);
    kafka.advance(millis(41 * 60_000));
    assert_eq!(kafka.log(), ["0:a=1", "1:b=2"], "brokers look every five minutes");
    kafka.advance(millis(5 * 60_000));
    assert_eq!((kafka.log(), kafka.start_offset()), (vec!["1:b=2".to_owned()], 1));
    kafka.advance(HOUR);
    assert_eq!((kafka.log().len(), kafka.start_offset()), (0, 2), "the last segment goes as well, for a new one");
    assert_eq!(kafka.write(&["c=3"]), 2);
}

#[test]
fn a_log_that_is_too_large_loses_its_oldest_segments() {
    let mut kafka = kafka(&[("retention.bytes", "150"), ("segment.ms", "1")]);
    for _ in 0..4 {
        kafka.write(&["a=1"]); // 71 bytes
    }
    kafka.control(Command::CheckRetention);
    assert_eq!(kafka.log(), ["1:a=1", "2:a=1", "3:a=1"], "three are too much, but two would be less than is kept");
}

#[test]
fn a_log_that_is_only_compacted_keeps_what_is_old() {
    let mut kafka = compacted(&[("retention.ms", "1")]);
    kafka.write(&["a=1"]);
    kafka.advance(HOUR);
    kafka.control(Command::CheckRetention);
    assert_eq!(kafka.log(), ["0:a=1"]);
}

#[test]
fn a_cluster_with_nothing_to_forget_is_left_alone() {
    let mut kafka = kafka(&[("retention.ms", "-1")]);
    kafka.write(&["a=1"]);
    assert_eq!(kafka.cluster.next_wake(), None);
}

#[test]
fn of_every_key_the_latest_record_stays_where_it_is() {
    let mut kafka = compacted(&[]);
    kafka.write(&["a=1", "b=1", "c=1"]);
    kafka.write(&["a=2"]);
    kafka.write(&["b=2", "a=3"]);
    kafka.compact();
    assert_eq!(kafka.log(), ["2:c=1", "4:b=2", "5:a=3"]);
    let first = &kafka.batches()[0];
    assert_eq!((first.base_offset, first.last_offset(), first.records_count), (0, 2, 1), "it covers the same offsets");
    assert_eq!(kafka.write(&["d=1"]), 6);
}

#[test]
fn the_cleaner_waits_until_enough_is_dirty_and_spares_the_active_segment() {
    let mut kafka = compacted(&[]);
    for value in ["a=1", "a=2", "a=3"] {
        kafka.write(&[value]);
    }
    kafka.advance(millis(20_000));
    assert_eq!(kafka.log(), ["1:a=2", "2:a=3"], "the last segment is not cleaned");
    for value in ["a=4", "a=5", "a=6"] {
        kafka.write(&[value]);
    }
    kafka.advance(millis(20_000));
    assert_eq!(kafka.log(), ["4:a=5", "5:a=6"]);
}

#[test]
fn little_dirt_stays_until_the_compaction_lag_is_over() {
    let mut kafka = compacted(&[("min.cleanable.dirty.ratio", "1.0"), ("max.compaction.lag.ms", "600000")]);
    kafka.write(&["a=1"]);
    kafka.write(&["a=2"]);
    kafka.write(&["a=3"]);
    kafka.advance(millis(500_000));
    assert_eq!(kafka.log().len(), 3);
    kafka.advance(millis(200_000));
    assert_eq!(kafka.log(), ["1:a=2", "2:a=3"]);
}

#[test]
fn records_younger_than_the_minimum_lag_are_spared() {
    let mut kafka = compacted(&[("min.compaction.lag.ms", "600000")]);
    kafka.write(&["a=1"]);
    kafka.advance(millis(590_000));
    kafka.write(&["a=2"]);
    kafka.write(&["a=3"]);
    kafka.compact();
    assert_eq!(kafka.log().len(), 3);
    kafka.advance(millis(700_000));
    assert_eq!(kafka.log(), ["2:a=3"], "the last segment ended when compaction was asked for");
}

#[test]
fn a_tombstone_goes_when_its_time_is_over_and_the_log_is_cleaned_again() {
    let mut kafka = compacted(&[("delete.retention.ms", "3600000")]);
    kafka.write(&["a=1"]);
    kafka.write(&["a"]);
    kafka.write(&["b=1"]);
    kafka.compact();
    assert_eq!(kafka.log(), ["1:a", "2:b=1"]);
    let horizon = kafka.batches()[0].delete_horizon_ms();
    assert_eq!(horizon, Some(kafka.now.as_millis() + 3_600_000));

    kafka.write(&["b=2"]);
    kafka.compact();
    assert_eq!(kafka.log(), ["1:a", "3:b=2"], "whoever reads late still learns that it is gone");
    kafka.advance(HOUR);
    kafka.write(&["b=3"]);
    kafka.compact();
    assert_eq!(kafka.log(), ["4:b=3"]);
}

#[test]
fn times_of_records_survive_the_horizon_of_their_batch() {
    let mut kafka = compacted(&[]);
    kafka.write(&["a"]);
    kafka.write(&["b=1"]);
    kafka.compact();
    let stored = kafka.cluster.stored_batches(TOPIC, 0).expect("the partition").remove(0);
    assert_eq!(records(&stored).expect("records")[0].timestamp, START_MS + 1_000);
}

#[test]
fn a_producers_last_batch_and_the_last_of_all_stay_without_records() {
    let mut kafka = compacted(&[]);
    kafka.write_as(BatchBuilder::new().producer(7, 0, 0), &["a=1"]);
    kafka.write_as(BatchBuilder::new().producer(7, 0, 1), &["a=2"]);
    kafka.write(&["a=3"]);
    kafka.compact();
    let seen: Vec<_> = kafka.batches().iter().map(|b| (b.base_offset, b.base_sequence, b.records_count)).collect();
    assert_eq!(seen, [(1, 1, 0), (2, -1, 1)]);
    assert_eq!(kafka.write_as(BatchBuilder::new().producer(7, 0, 1), &["a=2"]), 1, "a repeated batch is recognised");
}

#[test]
fn aborted_records_go_and_their_marker_follows() {
    let mut kafka = compacted(&[("delete.retention.ms", "60000")]);
    kafka.write(&["a=1"]);
    let producer = kafka.init_transactions();
    kafka.write_in_transaction(producer, ("a", "2"));
    let producer = kafka.end_transaction(producer, false);
    kafka.write_in_transaction(producer, ("b", "1"));
    kafka.end_transaction(producer, true);
    kafka.write(&["c=1"]);
    kafka.compact();
    assert_eq!(kafka.log(), ["0:a=1", "3:b=1", "5:c=1"], "what was aborted neither stays nor hides anything");
    let markers =
        |kafka: &Kafka| kafka.batches().iter().filter(|b| b.is_control()).map(|b| b.base_offset).collect::<Vec<_>>();
    assert_eq!(markers(&kafka), [2, 4]);
    kafka.write(&["d=1"]);
    kafka.compact();
    assert_eq!(markers(&kafka), [2, 4], "a marker of nothing is given time, as a tombstone is");
    kafka.advance(millis(120_000));
    kafka.write(&["e=1"]);
    kafka.compact();
    assert_eq!(markers(&kafka), [4], "a commit stays as long as something of it does");
}

#[test]
fn nothing_undecided_is_compacted() {
    let mut kafka = compacted(&[]);
    kafka.write(&["a=1"]);
    let producer = kafka.init_transactions();
    kafka.write_in_transaction(producer, ("b", "1"));
    kafka.write(&["a=2"]);
    kafka.write(&["a=3"]);
    kafka.compact();
    assert_eq!(kafka.log().len(), 4, "what follows an open transaction waits for its end");
    kafka.end_transaction(producer, true);
    kafka.compact();
    assert_eq!(kafka.log(), ["1:b=1", "3:a=3"]);
}

#[test]
fn a_fetch_into_a_gap_goes_on_behind_it() {
    let mut kafka = compacted(&[]);
    for value in ["a=1", "a=2", "a=3", "b=1"] {
        kafka.write(&[value]);
    }
    kafka.compact();
    let partition = FetchPartition { fetch_offset: 1, partition_max_bytes: 1 << 20, ..Default::default() };
    let topics = vec![FetchTopic { topic: Str::from(TOPIC), partitions: vec![partition], ..Default::default() }];
    let request = FetchRequest { replica_id: -1, max_bytes: 1 << 20, session_epoch: -1, topics, ..Default::default() };
    let answer = body!(kafka.ask(1, 4, request), Fetch);
    let row = &answer.responses[0].partitions[0];
    assert_eq!(row.error_code, 0);
    let bytes = row.records.as_ref().expect("records").to_bytes();
    assert_eq!(BatchHeader::parse(&bytes).expect("a batch").base_offset, 2);
}

#[test]
fn the_wall_clock_decides_what_is_old() {
    let mut kafka = kafka(&[("retention.ms", "3600000")]);
    kafka.write(&["a=1"]);
    kafka.control(Command::JumpClock { by_ms: 7_200_000 });
    kafka.control(Command::CheckRetention);
    assert_eq!(kafka.start_offset(), 1);
    assert!(kafka.now > Time::from_millis(START_MS));
}
