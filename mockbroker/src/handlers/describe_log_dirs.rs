//! DescribeLogDirs (35), versions 1–5.
//!
//! Does: the size and lag of every replica on the broker that is asked; the folder is the one configs name.
//! Leaves out: several folders, moving between them, cordoned ones.
//! Differs from Apache Kafka: nothing is kept on disk: there is always as much room as on a disk of one tebibyte.

use super::Answer;
use super::access::To;
use crate::cluster::Caller;
use crate::error::ErrorCode;
use crate::state::State;
use crate::state::nodes::NodeId;
use crate::state::security::acls::Operation;
use crate::state::topics::Topic;
use crate::time::Time;
use crate::wire::Str;
use crate::wire::generated::describe_log_dirs_request::DescribeLogDirsRequest;
use crate::wire::generated::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResponse, DescribeLogDirsResult, DescribeLogDirsTopic,
};

/// How large the disk is that nothing is kept on.
const DISK_BYTES: i64 = 1 << 40;

pub(super) fn describe_log_dirs(state: &mut State, _: Time, from: &Caller, request: DescribeLogDirsRequest) -> Answer {
    if let Err(reject) = from.check_access(state, Operation::Describe, To::Cluster) {
        // Before there was a place for an error, an answer without folders had to do.
        let code = if from.version >= 3 { reject.code } else { ErrorCode::None };
        return Answer::now(DescribeLogDirsResponse { error_code: code.code(), ..Default::default() });
    }
    let all = state.topics.iter();
    let topics: Vec<_> = match &request.topics {
        None => all.map(|topic| of_topic(topic, from.node, None)).collect(),
        Some(asked) => {
            let asked = asked.iter().filter_map(|asked| Some((state.topics.get(&asked.topic)?, &asked.partitions)));
            asked.map(|(topic, partitions)| of_topic(topic, from.node, Some(partitions))).collect()
        }
    };
    let used: u64 = state.topics.iter().flat_map(|topic| &topic.partitions).filter_map(|p| p.bytes_on(from.node)).sum();
    let result = DescribeLogDirsResult {
        error_code: 0,
        log_dir: Str::from(state.configs.log_dir().as_str()),
        topics: topics.into_iter().filter(|topic| !topic.partitions.is_empty()).collect(),
        total_bytes: DISK_BYTES,
        usable_bytes: DISK_BYTES.saturating_sub_unsigned(used).max(0),
        is_cordoned: false,
    };
    Answer::now(DescribeLogDirsResponse { results: vec![result], ..Default::default() })
}

fn of_topic(topic: &Topic, node: NodeId, wanted: Option<&Vec<i32>>) -> DescribeLogDirsTopic {
    let wanted = |index: &i32| wanted.is_none_or(|wanted| wanted.contains(index));
    let partitions = (0..).zip(&topic.partitions).filter(|(index, _)| wanted(index));
    let rows = partitions.filter_map(|(partition_index, partition)| {
        let log = partition.replica_log(node)?;
        Some(DescribeLogDirsPartition {
            partition_index,
            partition_size: i64::try_from(partition.bytes_on(node)?).unwrap_or(i64::MAX),
            offset_lag: (log.high_watermark() - log.end_offset()).max(0),
            is_future_key: false,
        })
    });
    DescribeLogDirsTopic { name: Str::from(topic.name.as_str()), partitions: rows.collect() }
}
