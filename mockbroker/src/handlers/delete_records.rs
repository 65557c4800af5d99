//! DeleteRecords (21), versions 0–2.
//!
//! Does: moves the log start up to an offset, or to the high watermark.
//! Leaves out: `timeout_ms` (nothing to wait for: followers trim at once).
//! Differs from Apache Kafka: none known.

use super::Answer;
use super::access::To;
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::fault::Part;
use crate::state::State;
use crate::state::security::acls::Operation;
use crate::state::topics;
use crate::time::Time;
use crate::wire::generated::delete_records_request::DeleteRecordsRequest;
use crate::wire::generated::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsResponse, DeleteRecordsTopicResult,
};

/// "Everything there is."
const HIGH_WATERMARK: i64 = -1;

pub(super) fn delete_records(state: &mut State, _: Time, from: &Caller, request: DeleteRecordsRequest) -> Answer {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|asked| {
            let trimmed = trim(state, from, &topic.name, asked.partition_index, asked.offset);
            row(asked.partition_index, trimmed)
        });
        let partitions = partitions.collect();
        DeleteRecordsTopicResult { name: topic.name, partitions }
    });
    let topics = topics.collect();
    Answer::now(DeleteRecordsResponse { topics, ..Default::default() })
}

fn trim(state: &mut State, from: &Caller, topic: &str, index: i32, offset: i64) -> Result<i64, Reject> {
    from.check_fault(Part::Partition(topic, index))?;
    from.check_access(state, Operation::Delete, To::Topic(topic))?;
    if topics::is_internal(topic) {
        return Err(ErrorCode::InvalidTopicException.into());
    }
    let deletable = state.topics.get(topic).is_none_or(|topic| topic.settings.cleanup_delete);
    let partition = state.topics.led_by(from.node, topic, index)?;
    if !deletable {
        return Err(ErrorCode::PolicyViolation.into());
    }
    let high_watermark = partition.log.high_watermark();
    let to = if offset == HIGH_WATERMARK { high_watermark } else { offset };
    if !(0..=high_watermark).contains(&to) {
        return Err(ErrorCode::OffsetOutOfRange.into());
    }
    partition.log.trim(to);
    let low_watermark = partition.log.start_offset();
    state.partition_changed(topic, index);
    Ok(low_watermark)
}

fn row(partition_index: i32, trimmed: Result<i64, Reject>) -> DeleteRecordsPartitionResult {
    match trimmed {
        Ok(low_watermark) => DeleteRecordsPartitionResult { partition_index, low_watermark, error_code: 0 },
        Err(reject) => {
            DeleteRecordsPartitionResult { partition_index, low_watermark: -1, error_code: reject.code.code() }
        }
    }
}
