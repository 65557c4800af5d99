//! What logs forget by themselves. The brokers look often, so that scripts need not wait.

use bytes::Bytes;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest, TopicName};
use serde_json::Value;
use tests::batch::{Batch, Record, describe};
use tests::differential::{EARLIER, Stage};

use crate::verbs::{fetch, from, store};

/// How often the brokers look at their logs.
pub(crate) const SETTINGS: &[(&str, &str)] = &[
    ("log.retention.check.interval.ms", "300"),
    ("log.initial.task.delay.ms", "300"),
    ("log.cleaner.backoff.ms", "300"),
];

/// Records of keys and values, so many seconds after the script's start; no value is a tombstone.
fn keyed(seconds: i64, pairs: &[(&str, Option<&str>)]) -> Batch {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let record = |(key, value): &(&str, Option<&str>)| Record {
        key: Some(bytes(key)),
        value: value.map(bytes),
        ..Record::default()
    };
    Batch { records: pairs.iter().map(record).collect(), ..Batch::of(*EARLIER + seconds * 1_000, &[]) }
}

fn offsets(topic: &TopicName, timestamp: i64) -> ListOffsetsRequest {
    let row = ListOffsetsPartition::default().with_partition_index(0).with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default().with_name(topic.clone()).with_partitions(vec![row]);
    ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic])
}

/// Awaits that the log starts at `offset`, then asks what a client sees.
fn forgotten(stage: &mut Stage, label: &str, topic: &TopicName, offset: i64) {
    stage.until(label, |stage| {
        let answer = stage.quietly(5, &offsets(topic, -2)).unwrap_or_default();
        answer.topics.first().is_some_and(|topic| topic.partitions[0].offset == offset)
    });
    stage.ask(&format!("{label}: start"), 5, &offsets(topic, -2));
    stage.ask(&format!("{label}: end"), 5, &offsets(topic, -1));
    stage.ask(&format!("{label}: from 0"), 9, &fetch(topic, vec![from(0, 0)]));
    stage.ask(&format!("{label}: from the start"), 9, &fetch(topic, vec![from(0, offset)]));
}

/// All batches of the log. One fetch brings those of one segment.
fn stored(stage: &mut Stage, topic: &TopicName) -> Vec<Value> {
    let (mut all, mut offset) = (Vec::new(), 0);
    loop {
        let answer = stage.quietly(9, &fetch(topic, vec![from(0, offset)])).unwrap_or_default();
        let partition = answer.responses.first().and_then(|topic| topic.partitions.first().cloned());
        let records = partition.and_then(|partition| partition.records).unwrap_or_default();
        let batches = describe(&records).as_array().cloned().unwrap_or_default();
        let Some(last) = batches.last() else { return all };
        let number = |name: &str| last[name].as_i64().unwrap_or(0);
        offset = number("base_offset") + number("last_offset_delta") + 1;
        all.extend(batches);
    }
}

/// Awaits that the log holds `batches` batches, then notes what is left of them.
///
/// The time at which a tombstone may go is the broker's, and the times of the records beside it are told relative to it.
fn compacted(stage: &mut Stage, label: &str, topic: &TopicName, batches: usize) {
    stage.until(label, |stage| stored(stage, topic).len() == batches);
    for (index, mut batch) in stored(stage, topic).into_iter().enumerate() {
        let marked = batch["attributes"].as_i64().is_some_and(|attributes| attributes & 0x40 != 0);
        if let Some(fields) = batch.as_object_mut().filter(|_| marked) {
            fields.retain(|name, _| !["base_timestamp", "records", "bytes"].contains(&name.as_str()));
        }
        stage.note(&format!("{label}: batch {index}"), batch);
    }
}

pub(crate) fn log_upkeep(stage: &mut Stage) {
    let segments = ("segment.ms", "1");
    let old = stage.create_topic_with("old", 1, &[("retention.ms", "1800000"), segments]);
    let large = stage.create_topic_with("large", 1, &[("retention.bytes", "150"), segments]);
    for seconds in 0..4 {
        store(stage, &old, 0, &keyed(seconds, &[("a", Some("1"))]));
        store(stage, &large, 0, &keyed(seconds, &[("a", Some("1"))]));
    }
    forgotten(stage, "all is too old", &old, 4);
    forgotten(stage, "some is too much", &large, 2);

    let eager = [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.01"), segments];
    let keys = stage.create_topic_with("keys", 1, &eager);
    store(stage, &keys, 0, &keyed(0, &[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))]));
    store(stage, &keys, 0, &keyed(2, &[("a", Some("2"))]));
    store(stage, &keys, 0, &keyed(4, &[("b", Some("2")), ("a", Some("3"))]));
    store(stage, &keys, 0, &keyed(6, &[("d", Some("1"))]));
    compacted(stage, "the latest of every key", &keys, 3);
    stage.ask("from within a gap", 9, &fetch(&keys, vec![from(0, 3)]));
    store(stage, &keys, 0, &keyed(8, &[("c", None)]));
    store(stage, &keys, 0, &keyed(10, &[("e", Some("1"))]));
    compacted(stage, "a tombstone", &keys, 4);

    let producers = stage.create_topic_with("producers", 1, &eager);
    for sequence in 0..3 {
        let batch = keyed(i64::from(sequence) * 2, &[("a", Some("1"))]).from_producer(7_000, 0, sequence);
        store(stage, &producers, 0, &batch);
    }
    store(stage, &producers, 0, &keyed(8, &[("a", Some("2"))]));
    store(stage, &producers, 0, &keyed(10, &[("b", Some("1"))]));
    compacted(stage, "a producer's last batch", &producers, 3);
}
