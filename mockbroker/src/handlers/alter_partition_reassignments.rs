//! AlterPartitionReassignments (45), versions 0–1.
//!
//! Does: moves partitions to other brokers, whose replicas copy first; cancels; refuses another number of replicas where
//! the request does not allow it (KIP-860).
//! Leaves out: `timeout_ms` (nothing to wait for).
//! Differs from Apache Kafka: none known.

use super::access::To;
use super::{Answer, message};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::fault::Part;
use crate::state::State;
use crate::state::nodes::NodeId;
use crate::state::security::acls::Operation;
use crate::time::Time;
use crate::wire::Str;
use crate::wire::generated::alter_partition_reassignments_request::{
    AlterPartitionReassignmentsRequest, ReassignablePartition,
};
use crate::wire::generated::alter_partition_reassignments_response::{
    AlterPartitionReassignmentsResponse, ReassignablePartitionResponse, ReassignableTopicResponse,
};

pub(super) fn alter_partition_reassignments(
    state: &mut State,
    now: Time,
    from: &Caller,
    request: AlterPartitionReassignmentsRequest,
) -> Answer {
    let may_change_count = request.allow_replication_factor_change;
    let access = from.check_access(state, Operation::Alter, To::Cluster);
    // The controller is not even asked about nothing.
    let unasked = request.topics.is_empty().then(Str::default);
    let topics = request.topics.into_iter().map(|topic| {
        let rows = topic.partitions.into_iter().map(|asked| {
            let index = asked.partition_index;
            let altered = access.clone().and_then(|()| alter(state, now, from, &topic.name, asked, may_change_count));
            row(index, altered)
        });
        let partitions = rows.collect();
        ReassignableTopicResponse { name: topic.name, partitions }
    });
    let responses = topics.collect();
    Answer::now(AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: may_change_count,
        error_code: access.as_ref().err().map_or(ErrorCode::None, |reject| reject.code).code(),
        error_message: access.err().map_or(unasked, |reject| message(&reject)),
        responses,
        ..Default::default()
    })
}

fn alter(
    state: &mut State,
    now: Time,
    from: &Caller,
    topic: &str,
    asked: ReassignablePartition,
    may_change_count: bool,
) -> Result<(), Reject> {
    let index = asked.partition_index;
    from.check_fault(Part::Partition(topic, index))?;
    match asked.replicas {
        Some(replicas) => {
            let target: Vec<_> = replicas.into_iter().map(NodeId).collect();
            state.reassign(now, topic, index, &target, may_change_count)
        }
        None => state.cancel_reassignment(now, topic, index),
    }
}

fn row(partition_index: i32, altered: Result<(), Reject>) -> ReassignablePartitionResponse {
    match altered {
        Ok(()) => ReassignablePartitionResponse { partition_index, error_code: 0, error_message: None },
        Err(reject) => ReassignablePartitionResponse {
            partition_index,
            error_code: reject.code.code(),
            // What needs no explanation gets none.
            error_message: message(&reject)
                .filter(|_| reject.message.is_some() || reject.code == ErrorCode::ClusterAuthorizationFailed),
        },
    }
}
