//! CreatePartitions (37), versions 0–3.
//!
//! Does: raises the number of partitions, with or without a manual assignment; validation only.
//! Leaves out: controller mutation quotas.
//! Differs from Apache Kafka: the partitions are there when the answer is, on every broker.

use super::access::To;
use super::{Answer, message};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::fault::Part;
use crate::state::State;
use crate::state::nodes::NodeId;
use crate::state::security::acls::Operation;
use crate::time::Time;
use crate::wire::generated::create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic};
use crate::wire::generated::create_partitions_response::{CreatePartitionsResponse, CreatePartitionsTopicResult};
use std::collections::BTreeMap;

pub(super) fn create_partitions(state: &mut State, _: Time, from: &Caller, request: CreatePartitionsRequest) -> Answer {
    let mut times_named = BTreeMap::new();
    for topic in &request.topics {
        *times_named.entry(topic.name.clone()).or_insert(0) += 1;
    }
    let mut results = Vec::new();
    for topic in request.topics {
        let name = topic.name.clone();
        let added = match times_named.get_mut(&name) {
            Some(1) => add(state, from, topic, request.validate_only),
            Some(times @ 2..) => {
                *times = 0;
                Err(Reject::new(ErrorCode::InvalidRequest, "the request names this topic twice"))
            }
            _ => continue,
        };
        results.push(match added {
            Ok(()) => CreatePartitionsTopicResult { name, ..Default::default() },
            Err(reject) => CreatePartitionsTopicResult {
                name,
                error_code: reject.code.code(),
                error_message: reject.message.as_ref().and_then(|_| message(&reject)),
            },
        });
    }
    Answer::now(CreatePartitionsResponse { results, ..Default::default() })
}

fn add(state: &mut State, from: &Caller, topic: CreatePartitionsTopic, validate_only: bool) -> Result<(), Reject> {
    from.check_fault(Part::Topic(&topic.name))?;
    from.check_access(state, Operation::Alter, To::Topic(&topic.name))?;
    let assignment = topic.assignments.map(|assignments| {
        let nodes = |ids: Vec<i32>| ids.into_iter().map(NodeId).collect();
        assignments.into_iter().map(|assigned| nodes(assigned.broker_ids)).collect()
    });
    state.add_partitions(&topic.name, topic.count, assignment, validate_only)
}
