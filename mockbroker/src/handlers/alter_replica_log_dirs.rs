//! AlterReplicaLogDirs (34), versions 1–2.
//!
//! Does: accepts the folder a replica is in already; refuses replicas the broker does not have and folders it does not use.
//! Leaves out: several folders, and so moving between them.
//! Differs from Apache Kafka: none known.

use super::Answer;
use super::access::To;
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::fault::Part;
use crate::state::State;
use crate::state::security::acls::Operation;
use crate::time::Time;
use crate::wire::Str;
use crate::wire::generated::alter_replica_log_dirs_request::AlterReplicaLogDirsRequest;
use crate::wire::generated::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult, AlterReplicaLogDirsResponse,
};
use std::collections::BTreeMap;

pub(super) fn alter_replica_log_dirs(
    state: &mut State,
    _: Time,
    from: &Caller,
    request: AlterReplicaLogDirsRequest,
) -> Answer {
    let mut results: BTreeMap<Str, Vec<AlterReplicaLogDirPartitionResult>> = BTreeMap::new();
    for dir in request.dirs {
        for topic in dir.topics {
            let rows = results.entry(topic.name.clone()).or_default();
            for partition_index in topic.partitions {
                let moved = move_to(state, from, &topic.name, partition_index, &dir.path);
                let error_code = moved.err().map_or(ErrorCode::None, |reject| reject.code).code();
                rows.push(AlterReplicaLogDirPartitionResult { partition_index, error_code });
            }
        }
    }
    let rows = results.into_iter();
    let results = rows.map(|(topic_name, partitions)| AlterReplicaLogDirTopicResult { topic_name, partitions });
    let results = results.collect();
    Answer::now(AlterReplicaLogDirsResponse { results, ..Default::default() })
}

fn move_to(state: &State, from: &Caller, topic: &str, index: i32, path: &str) -> Result<(), Reject> {
    from.check_access(state, Operation::Alter, To::Cluster)?;
    from.check_fault(Part::Partition(topic, index))?;
    if path != state.configs.log_dir() {
        return Err(ErrorCode::LogDirNotFound.into());
    }
    let partition = state.topics.partition(topic, index)?;
    if partition.replicas.contains(&from.node) { Ok(()) } else { Err(ErrorCode::ReplicaNotAvailable.into()) }
}
