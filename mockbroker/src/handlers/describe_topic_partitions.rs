//! DescribeTopicPartitions (75), version 0.
//!
//! Does: topics in name order, page by page; eligible leaders (KIP-966).
//! Leaves out: nothing.
//! Differs from Apache Kafka: none known.

use super::access::To;
use super::{Answer, ids};
use crate::cluster::Caller;
use crate::error::ErrorCode;
use crate::state::State;
use crate::state::security::acls::Operation;
use crate::state::topics::{self, Partition, Topic};
use crate::time::Time;
use crate::wire::Str;
use crate::wire::generated::describe_topic_partitions_request::DescribeTopicPartitionsRequest;
use crate::wire::generated::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
};
use std::collections::BTreeSet;

/// Partitions a page holds at most (`max.request.partition.size.limit`).
const PAGE_MAX: i32 = 2_000;

pub(super) fn describe_topic_partitions(
    state: &mut State,
    _: Time,
    from: &Caller,
    request: DescribeTopicPartitionsRequest,
) -> Answer {
    let (first_topic, first_partition) = match &request.cursor {
        Some(cursor) => (cursor.topic_name.as_str(), cursor.partition_index),
        None => ("", 0),
    };
    let everything = request.topics.is_empty();
    let names: BTreeSet<String> = if everything {
        state.topics.iter().map(|topic| topic.name.clone()).collect()
    } else {
        request.topics.iter().map(|topic| topic.name.to_string()).collect()
    };
    // A cursor must point at a partition of a topic asked for.
    let stray = !everything && request.cursor.is_some() && !names.contains(first_topic);
    let Some(first_partition) = usize::try_from(first_partition).ok().filter(|_| !stray) else {
        let topics = request.topics.into_iter().map(|topic| DescribeTopicPartitionsResponseTopic {
            error_code: ErrorCode::InvalidRequest.code(),
            name: Some(topic.name),
            ..Default::default()
        });
        return Answer::now(DescribeTopicPartitionsResponse { topics: topics.collect(), ..Default::default() });
    };
    let mut left = request.response_partition_limit.clamp(1, PAGE_MAX) as usize;
    let (mut rows, mut unseen) = (Vec::new(), Vec::new());
    let mut next_cursor = None;
    for name in names.iter().filter(|name| name.as_str() >= first_topic) {
        if let Err(reject) = from.check_access(state, Operation::Describe, To::Topic(name)) {
            if !everything {
                unseen.push(DescribeTopicPartitionsResponseTopic {
                    error_code: reject.code.code(),
                    name: Some(Str::from(name.as_str())),
                    ..Default::default()
                });
            }
            continue;
        }
        let skip = if name == first_topic { first_partition } else { 0 };
        let Some(topic) = state.topics.get(name) else {
            rows.push(missing(name));
            continue;
        };
        if left == 0 {
            next_cursor = Some(Cursor { topic_name: Str::from(name.as_str()), partition_index: 0 });
            break;
        }
        let row = page(state, topic, skip, left);
        left -= row.partitions.len();
        let told = skip + row.partitions.len();
        rows.push(row);
        if told < topic.partitions.len() {
            next_cursor = Some(Cursor { topic_name: Str::from(name.as_str()), partition_index: told as i32 });
            break;
        }
    }
    for row in &mut rows {
        let name = row.name.as_deref().unwrap_or_default();
        row.topic_authorized_operations = from.operations_on(state, To::Topic(name));
    }
    rows.append(&mut unseen);
    Answer::now(DescribeTopicPartitionsResponse { topics: rows, next_cursor, ..Default::default() })
}

fn page(state: &State, topic: &Topic, skip: usize, limit: usize) -> DescribeTopicPartitionsResponseTopic {
    let partitions = topic.partitions.iter().enumerate().skip(skip).take(limit);
    DescribeTopicPartitionsResponseTopic {
        name: Some(Str::from(topic.name.as_str())),
        topic_id: topic.id,
        is_internal: topic.is_internal(),
        partitions: partitions.map(|(index, partition)| row(state, index as i32, partition)).collect(),
        ..Default::default()
    }
}

fn missing(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let code = match topics::check_name(name) {
        Ok(()) => ErrorCode::UnknownTopicOrPartition,
        Err(reject) => reject.code,
    };
    DescribeTopicPartitionsResponseTopic { error_code: code.code(), name: Some(Str::from(name)), ..Default::default() }
}

fn row(state: &State, index: i32, partition: &Partition) -> DescribeTopicPartitionsResponsePartition {
    let code = if partition.leader.is_none() { ErrorCode::LeaderNotAvailable } else { ErrorCode::None };
    DescribeTopicPartitionsResponsePartition {
        error_code: code.code(),
        partition_index: index,
        leader_id: partition.leader.map_or(-1, |node| node.0),
        leader_epoch: partition.leader_epoch,
        replica_nodes: ids(&partition.replicas),
        isr_nodes: ids(&partition.isr),
        eligible_leader_replicas: Some(ids(&partition.elr)),
        last_known_elr: Some(partition.last_known_leader.iter().map(|node| node.0).collect()),
        offline_replicas: partition.offline_replicas(&state.nodes).map(|node| node.0).collect(),
    }
}
