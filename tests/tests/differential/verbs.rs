//! Verbs that hide the protocol's nesting where a script is not about it.

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{BrokerId, FetchRequest, ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use tests::batch::Batch;
use tests::differential::{EARLIER, Stage};

/// A string of the protocol.
pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A batch of one record a value, at the script's time.
pub(crate) fn batch(values: &[&str]) -> Batch {
    Batch::of(*EARLIER, values)
}

/// One batch to one partition, `acks=all`.
pub(crate) fn produce(topic: &TopicName, partition: i32, records: impl Into<Bytes>) -> ProduceRequest {
    produce_all(topic, vec![(partition, Some(records.into()))])
}

/// Bytes, or none, to several partitions of a topic, `acks=all`.
pub(crate) fn produce_all(topic: &TopicName, partitions: Vec<(i32, Option<Bytes>)>) -> ProduceRequest {
    let rows = partitions
        .into_iter()
        .map(|(index, records)| PartitionProduceData::default().with_index(index).with_records(records))
        .collect();
    let topic = TopicProduceData::default().with_name(topic.clone()).with_partition_data(rows);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![topic])
}

/// Stores a batch, unrecorded.
pub(crate) fn store(stage: &mut Stage, topic: &TopicName, partition: i32, batch: &Batch) {
    stage.quietly(9, &produce(topic, partition, batch.encode()));
}

/// One partition to fetch from `offset`, without limits that matter.
pub(crate) fn from(partition: i32, offset: i64) -> FetchPartition {
    FetchPartition::default()
        .with_partition(partition)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20)
        .with_current_leader_epoch(-1)
        .with_last_fetched_epoch(-1)
}

/// A fetch of some partitions of one topic, outside any session, answered at once.
pub(crate) fn fetch(topic: &TopicName, partitions: Vec<FetchPartition>) -> FetchRequest {
    let topic = FetchTopic::default().with_topic(topic.clone()).with_partitions(partitions);
    fetch_topics(vec![topic])
}

/// A fetch of some topics, outside any session, answered at once.
pub(crate) fn fetch_topics(topics: Vec<FetchTopic>) -> FetchRequest {
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(0)
        .with_min_bytes(0)
        .with_max_bytes(50 << 20)
        .with_session_id(0)
        .with_session_epoch(-1)
        .with_topics(topics)
}

/// What a consumer says of itself when it joins: version 0, one topic, some data of its own.
///
/// It must be well formed: Apache Kafka never answers the join of a group whose subscriptions it cannot read.
pub(crate) fn subscription(topic: &str, user_data: &str) -> Bytes {
    let mut bytes = vec![0, 0, 0, 0, 0, 1];
    bytes.extend(u16::try_from(topic.len()).expect("a short name").to_be_bytes());
    bytes.extend(topic.as_bytes());
    bytes.extend(u32::try_from(user_data.len()).expect("short data").to_be_bytes());
    bytes.extend(user_data.as_bytes());
    bytes.into()
}
