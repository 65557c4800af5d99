//! OffsetForLeaderEpoch (23), versions 2–4.
//!
//! Does: where a leader epoch ended in this broker's log (KIP-101, KIP-279, KIP-320).
//! Leaves out: nothing.
//! Differs from Apache Kafka: none known.

use super::Answer;
use super::access::To;
use crate::cluster::Caller;
use crate::error::Reject;
use crate::state::State;
use crate::state::security::acls::Operation;
use crate::time::Time;
use crate::wire::generated::offset_for_leader_epoch_request::{OffsetForLeaderEpochRequest, OffsetForLeaderPartition};
use crate::wire::generated::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};

pub(super) fn offset_for_leader_epoch(
    state: &mut State,
    _: Time,
    from: &Caller,
    request: OffsetForLeaderEpochRequest,
) -> Answer {
    let topics = request.topics.into_iter().map(|topic| {
        let rows = topic.partitions.iter().map(|asked| row(asked, end_of_epoch(state, from, &topic.topic, asked)));
        let partitions = rows.collect();
        OffsetForLeaderTopicResult { topic: topic.topic, partitions }
    });
    Answer::now(OffsetForLeaderEpochResponse { topics: topics.collect(), ..Default::default() })
}

fn end_of_epoch(
    state: &mut State,
    from: &Caller,
    topic: &str,
    asked: &OffsetForLeaderPartition,
) -> Result<(i32, i64), Reject> {
    if !from.has_access(state, Operation::ClusterAction, To::Cluster) {
        from.check_access(state, Operation::Describe, To::Topic(topic))?;
    }
    let partition = state.topics.led_by(from.node, topic, asked.partition)?;
    partition.check_leader_epoch(asked.current_leader_epoch)?;
    let log = &partition.log;
    Ok(log.epochs().end_offset_for(asked.leader_epoch, log.end_offset()).unwrap_or((-1, -1)))
}

fn row(asked: &OffsetForLeaderPartition, found: Result<(i32, i64), Reject>) -> EpochEndOffset {
    let partition = asked.partition;
    match found {
        Ok((leader_epoch, end_offset)) => EpochEndOffset { error_code: 0, partition, leader_epoch, end_offset },
        Err(reject) => EpochEndOffset { error_code: reject.code.code(), partition, ..Default::default() },
    }
}
