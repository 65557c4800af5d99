//! ListPartitionReassignments (46), version 0.
//!
//! Does: the partitions that are being moved, with who is added and who goes.
//! Leaves out: `timeout_ms` (nothing to wait for).
//! Differs from Apache Kafka: none known.

use super::access::To;
use super::{Answer, ids, message};
use crate::cluster::Caller;
use crate::error::Reject;
use crate::state::State;
use crate::state::security::acls::Operation;
use crate::time::Time;
use crate::wire::Str;
use crate::wire::generated::list_partition_reassignments_request::ListPartitionReassignmentsRequest;
use crate::wire::generated::list_partition_reassignments_response::{
    ListPartitionReassignmentsResponse, OngoingPartitionReassignment, OngoingTopicReassignment,
};

pub(super) fn list_partition_reassignments(
    state: &mut State,
    _: Time,
    from: &Caller,
    request: ListPartitionReassignmentsRequest,
) -> Answer {
    if let Err(reject) = from.check_access(state, Operation::Describe, To::Cluster) {
        return Answer::now(refused(request, &reject));
    }
    let topics: Vec<_> = match request.topics {
        Some(asked) => {
            let listed = asked.into_iter().map(|topic| of_topic(state, &topic.name, Some(&topic.partition_indexes)));
            listed.collect()
        }
        None => state.topics.iter().map(|topic| of_topic(state, &topic.name, None)).collect(),
    };
    let topics = topics.into_iter().filter(|topic| !topic.partitions.is_empty()).collect();
    Answer::now(ListPartitionReassignmentsResponse { topics, error_message: None, ..Default::default() })
}

/// The partitions that were asked for, and nothing about them.
fn refused(request: ListPartitionReassignmentsRequest, reject: &Reject) -> ListPartitionReassignmentsResponse {
    let topics = request.topics.into_iter().flatten().map(|topic| {
        let indexes = topic.partition_indexes.into_iter();
        let partitions =
            indexes.map(|partition_index| OngoingPartitionReassignment { partition_index, ..Default::default() });
        OngoingTopicReassignment { name: topic.name, partitions: partitions.collect() }
    });
    ListPartitionReassignmentsResponse {
        error_code: reject.code.code(),
        error_message: message(reject),
        topics: topics.collect(),
        ..Default::default()
    }
}

fn of_topic(state: &State, name: &str, wanted: Option<&[i32]>) -> OngoingTopicReassignment {
    let moving = state.reassignments(name).filter(|moving| wanted.is_none_or(|wanted| wanted.contains(&moving.index)));
    let partitions = moving.map(|moving| OngoingPartitionReassignment {
        partition_index: moving.index,
        replicas: ids(&moving.replicas),
        adding_replicas: ids(&moving.adding),
        removing_replicas: ids(&moving.removing),
    });
    OngoingTopicReassignment { name: Str::from(name), partitions: partitions.collect() }
}
