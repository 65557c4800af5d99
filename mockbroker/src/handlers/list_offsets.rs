//! ListOffsets (2), versions 1–11.
//!
//! Does: earliest, latest (per isolation level), by timestamp exactly, maximum timestamp, local and tiered variants.
//! Leaves out: tiered storage: its offsets are answered as for a topic without it.
//! Differs from Apache Kafka: none known.

use super::Answer;
use super::access::To;
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::state::State;
use crate::state::security::acls::Operation;
use crate::time::Time;
use crate::wire::Str;
use crate::wire::generated::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest};
use crate::wire::generated::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use indexmap::IndexMap;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

pub(super) fn list_offsets(state: &mut State, _: Time, from: &Caller, request: ListOffsetsRequest) -> Answer {
    let committed_only = request.isolation_level == 1;
    let topics = request.topics.into_iter().map(|topic| {
        let permitted = from.check_access(state, Operation::Describe, To::Topic(&topic.name));
        // A partition named twice is refused once.
        let mut times: IndexMap<i32, (u32, &ListOffsetsPartition)> = IndexMap::new();
        for partition in &topic.partitions {
            times.entry(partition.partition_index).or_insert((0, partition)).0 += 1;
        }
        let rows = times.into_iter().map(|(index, (times, partition))| {
            let found = match (&permitted, times) {
                (Err(reject), _) => Err(reject.clone()),
                (Ok(()), 1) => find(state, from, committed_only, &topic.name, partition),
                (Ok(()), _) => Err(ErrorCode::InvalidRequest.into()),
            };
            row(from.version, index, found)
        });
        let partitions = rows.collect();
        ListOffsetsTopicResponse { name: topic.name, partitions }
    });
    let topics = topics.collect();
    Answer::now(ListOffsetsResponse { topics, ..Default::default() })
}

/// Offset, timestamp and leader epoch; −1 for what there is not.
type Found = (i64, i64, i32);

const NOTHING: Found = (-1, -1, -1);

fn find(
    state: &mut State,
    from: &Caller,
    committed_only: bool,
    topic: &Str,
    asked: &ListOffsetsPartition,
) -> Result<Found, Reject> {
    check_supported(asked.timestamp, from.version)?;
    let partition = state.topics.led_by(from.node, topic, asked.partition_index)?;
    partition.check_leader_epoch(asked.current_leader_epoch)?;
    let log = &partition.log;
    let upper = if committed_only { log.last_stable_offset() } else { log.high_watermark() };
    // After a change of leaders nobody knows for a moment how far consumers have read (KIP-207).
    let unknown = partition.high_watermark_lags().then(|| lagging(from.version));
    let epoch_of = |offset| log.epochs().epoch_of(offset).unwrap_or(-1);
    Ok(match asked.timestamp {
        LATEST => match unknown {
            None => (upper, -1, log.epochs().latest().unwrap_or(-1)),
            Some(code) => return Err(code.into()),
        },
        EARLIEST | EARLIEST_LOCAL => (log.start_offset(), -1, epoch_of(log.start_offset())),
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => NOTHING,
        timestamp => {
            let found = match timestamp {
                MAX_TIMESTAMP => log.find_max_timestamp().filter(|at| at.offset < upper),
                timestamp => log.find_timestamp(timestamp, upper),
            };
            match (found, unknown) {
                (Some(at), _) => (at.offset, at.timestamp, at.leader_epoch),
                (None, Some(code)) => return Err(code.into()),
                (None, None) => NOTHING,
            }
        }
    })
}

fn lagging(version: i16) -> ErrorCode {
    if version >= 5 { ErrorCode::OffsetNotAvailable } else { ErrorCode::LeaderNotAvailable }
}

/// Each special timestamp came with a version of its own.
fn check_supported(timestamp: i64, version: i16) -> Result<(), Reject> {
    let since = match timestamp {
        0.. | LATEST | EARLIEST => 0,
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        EARLIEST_PENDING_UPLOAD => 11,
        _ => i16::MAX,
    };
    if version >= since { Ok(()) } else { Err(ErrorCode::UnsupportedVersion.into()) }
}

fn row(version: i16, partition_index: i32, found: Result<Found, Reject>) -> ListOffsetsPartitionResponse {
    let (code, (offset, timestamp, leader_epoch)) = match found {
        Ok(found) => (ErrorCode::None, found),
        Err(reject) => (reject.code, NOTHING),
    };
    let leader_epoch = if version >= 4 { leader_epoch } else { -1 };
    ListOffsetsPartitionResponse { partition_index, error_code: code.code(), timestamp, offset, leader_epoch }
}
