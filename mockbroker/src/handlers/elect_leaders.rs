//! ElectLeaders (43), versions 0–2.
//!
//! Does: elects preferred leaders, or from version 1 on anybody for partitions without a leader (KIP-460); all partitions
//! where none is named, of which only those are answered that needed an election.
//! Leaves out: `timeout_ms` (nothing to wait for).
//! Differs from Apache Kafka: none known.

use super::access::To;
use super::{Answer, message};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::fault::Part;
use crate::state::State;
use crate::state::security::acls::Operation;
use crate::time::Time;
use crate::wire::Str;
use crate::wire::generated::elect_leaders_request::ElectLeadersRequest;
use crate::wire::generated::elect_leaders_response::{ElectLeadersResponse, PartitionResult, ReplicaElectionResult};

/// `ElectionType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Election {
    Preferred,
    Unclean,
    Unknown,
}

pub(super) fn elect_leaders(state: &mut State, now: Time, from: &Caller, request: ElectLeadersRequest) -> Answer {
    let (election, code) = match request.election_type {
        0 => (Election::Preferred, ErrorCode::None),
        1 => (Election::Unclean, ErrorCode::None),
        _ => (Election::Unknown, ErrorCode::InvalidRequest),
    };
    if let Err(reject) = from.check_access(state, Operation::Alter, To::Cluster) {
        return Answer::now(refused(request, from.version, &reject));
    }
    let named = request.topic_partitions.is_some();
    let topics: Vec<(Str, Vec<i32>)> = match request.topic_partitions {
        Some(topics) => topics.into_iter().map(|topic| (topic.topic, topic.partitions)).collect(),
        None => {
            let all = state.topics.iter();
            all.map(|topic| (Str::from(topic.name.as_str()), (0..topic.partitions.len() as i32).collect())).collect()
        }
    };
    let results = topics.into_iter().map(|(topic, partitions)| {
        let rows = partitions.into_iter().filter_map(|index| match elect(state, now, from, &topic, index, election) {
            Err(reject) if !named && reject.code == ErrorCode::ElectionNotNeeded => None,
            elected => Some(row(index, elected)),
        });
        let partition_result = rows.collect();
        ReplicaElectionResult { topic, partition_result }
    });
    let replica_election_results = results.collect();
    Answer::now(ElectLeadersResponse { error_code: code.code(), replica_election_results, ..Default::default() })
}

/// Nobody is elected for somebody who may not ask for it.
fn refused(request: ElectLeadersRequest, version: i16, reject: &Reject) -> ElectLeadersResponse {
    let results = request.topic_partitions.into_iter().flatten().map(|topic| {
        let rows = topic.partitions.into_iter().map(|index| row(index, Err(reject.clone())));
        ReplicaElectionResult { topic: topic.topic, partition_result: rows.collect() }
    });
    ElectLeadersResponse {
        // The first version has no place for it.
        error_code: if version == 0 { 0 } else { reject.code.code() },
        replica_election_results: results.collect(),
        ..Default::default()
    }
}

fn elect(
    state: &mut State,
    now: Time,
    from: &Caller,
    topic: &str,
    index: i32,
    election: Election,
) -> Result<(), Reject> {
    from.check_fault(Part::Partition(topic, index))?;
    match election {
        Election::Preferred => state.elect_preferred(now, topic, index),
        Election::Unclean => Ok(state.elect_unclean(now, topic, index)?),
        Election::Unknown => Err(ErrorCode::InvalidRequest.into()),
    }
}

fn row(partition_id: i32, elected: Result<(), Reject>) -> PartitionResult {
    match elected {
        Ok(()) => PartitionResult { partition_id, ..Default::default() },
        Err(reject) => {
            PartitionResult { partition_id, error_code: reject.code.code(), error_message: message(&reject) }
        }
    }
}
