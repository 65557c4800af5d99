//! TxnOffsetCommit (28), versions 0–5.
//!
//! Does: offsets that take effect when the transaction commits; verifies the transaction, or from version 5 on adds the
//! group's partition of the offsets topic to it (KIP-890); fences members of older generations (KIP-447).
//! Leaves out: nothing.
//! Differs from Apache Kafka: none known.

use super::Answer;
use super::access::To;
use super::groups::code;
use super::transactions::by_topic;
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::fault::Part;
use crate::state::State;
use crate::state::groups::{Claim, NewOffset};
use crate::state::security::acls::Operation;
use crate::state::topics::OFFSETS_TOPIC;
use crate::state::transactions::{Identity, InTransaction, Participation};
use crate::time::Time;
use crate::wire::generated::txn_offset_commit_request::{TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition};
use crate::wire::generated::txn_offset_commit_response::{
    TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use crate::wire::{Str, Uuid};

/// The first version whose clients know `TRANSACTION_ABORTABLE`.
const ABORTABLE_FROM: i16 = 4;
/// The first version that adds the group's partition by itself.
const IMPLIED_FROM: i16 = 5;
/// "No sequence": offsets are not numbered.
const NO_SEQUENCE: i32 = -1;

pub(super) fn txn_offset_commit(
    state: &mut State,
    now: Time,
    from: &Caller,
    mut request: TxnOffsetCommitRequest,
) -> Answer {
    if let Err(reject) = permitted(state, from, &request) {
        return refused(request, &reject);
    }
    let asked = std::mem::take(&mut request.topics).into_iter().flat_map(|topic| {
        let name = topic.name;
        topic.partitions.into_iter().map(move |partition| (name.clone(), partition))
    });
    // Partitions that may not be read or do not exist come first in the answer, as Kafka puts them.
    let (mut known, mut rows) = (Vec::new(), Vec::new());
    for (topic, offset) in asked {
        match readable(state, from, &topic, offset.partition_index) {
            Ok(()) => known.push((topic, offset)),
            Err(reject) => rows.push((topic, row(offset.partition_index, reject.code.code()))),
        }
    }
    if !known.is_empty() {
        match commit(state, now, from, &request, &known) {
            Ok(committed) => rows.extend(committed),
            Err(reject) => rows.extend(
                known.into_iter().map(|(topic, offset)| (topic, row(offset.partition_index, reject.code.code()))),
            ),
        }
    }
    let topics = by_topic(rows, |name, partitions| TxnOffsetCommitResponseTopic { name, partitions });
    Answer::now(TxnOffsetCommitResponse { topics, ..Default::default() })
}

/// Refuses who may not use the transaction or the group.
fn permitted(state: &State, from: &Caller, request: &TxnOffsetCommitRequest) -> Result<(), Reject> {
    from.check_access(state, Operation::Write, To::TransactionalId(&request.transactional_id))?;
    from.check_access(state, Operation::Read, To::Group(&request.group_id))
}

fn refused(request: TxnOffsetCommitRequest, reject: &Reject) -> Answer {
    let topics = request.topics.into_iter().map(|topic| {
        let rows = topic.partitions.iter().map(|offset| row(offset.partition_index, reject.code.code()));
        TxnOffsetCommitResponseTopic { partitions: rows.collect(), name: topic.name }
    });
    Answer::now(TxnOffsetCommitResponse { topics: topics.collect(), ..Default::default() })
}

fn readable(state: &State, from: &Caller, topic: &str, index: i32) -> Result<(), Reject> {
    from.check_access(state, Operation::Read, To::Topic(topic))?;
    state.topics.partition(topic, index).map(drop)
}

/// An offset and the topic it is for.
type Sent = (Str, TxnOffsetCommitRequestPartition);

/// A row for each offset, or a refusal of them all.
fn commit(
    state: &mut State,
    now: Time,
    from: &Caller,
    request: &TxnOffsetCommitRequest,
    sent: &[Sent],
) -> Result<Vec<(Str, TxnOffsetCommitResponsePartition)>, Reject> {
    from.check_fault(Part::Named(&request.transactional_id))?;
    from.check_fault(Part::Named(&request.group_id))?;
    if request.group_id.is_empty() {
        return Err(ErrorCode::InvalidGroupId.into());
    }
    let who = Identity { id: request.producer_id, epoch: request.producer_epoch };
    take_part(state, now, from, request, who).map_err(as_coordinator)?;
    state.check_coordinator(from.node, &request.group_id)?;
    let index = state.coordinator_partition(&request.group_id);
    let claim = Claim {
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
        generation: request.generation_id,
    };
    let mut commit = state.groups.begin_transactional_commit(now, &request.group_id, &claim, who.id)?;
    for (topic, offset) in sent {
        let topic_id = state.topics.get(topic).map(|topic| topic.id).unwrap_or_default();
        commit.check(topic_id, offset.partition_index)?;
    }
    let mut rows = Vec::with_capacity(sent.len());
    let mut any = false;
    for (topic, offset) in sent {
        let new = NewOffset {
            offset: offset.committed_offset,
            leader_epoch: offset.committed_leader_epoch,
            metadata: offset.committed_metadata.as_deref(),
        };
        let put = from
            .check_fault(Part::Partition(topic, offset.partition_index))
            // Kafka keeps no topic id with an offset that was sent in a transaction.
            .and_then(|()| commit.put(topic, Uuid::ZERO, offset.partition_index, new));
        any |= put.is_ok();
        rows.push((topic.clone(), row(offset.partition_index, code(put))));
    }
    if any {
        let now_ms = state.wall_clock_ms(now);
        state.topics.led_by(from.node, OFFSETS_TOPIC, index)?.producers.remember_offsets(now_ms, who);
        state.expect_producer_cleanup(now);
    }
    Ok(rows)
}

/// Sees to it that the group's partition of the offsets topic is part of the transaction.
fn take_part(
    state: &mut State,
    now: Time,
    from: &Caller,
    request: &TxnOffsetCommitRequest,
    who: Identity,
) -> Result<(), Reject> {
    let participation = match from.version {
        IMPLIED_FROM.. => Participation::Implied,
        ABORTABLE_FROM => Participation::VerifiedAbortable,
        _ => Participation::Verified,
    };
    let about = InTransaction { id: &request.transactional_id, who, participation };
    let partition = (OFFSETS_TOPIC.to_owned(), state.coordinator_partition(&request.group_id));
    if state.must_take_part(now, from.node, (&partition.0, partition.1), &about, NO_SEQUENCE)?
        && let Some((_, code)) = state.take_part(now, &about, &[partition]).into_iter().next()
    {
        return Err(code.into());
    }
    Ok(())
}

/// What a leader of the offsets topic says, in words a client of a group's coordinator understands
/// (`CoordinatorOperationExceptionHelper`).
fn as_coordinator(reject: Reject) -> Reject {
    match reject.code {
        ErrorCode::UnknownTopicOrPartition | ErrorCode::NotLeaderOrFollower => ErrorCode::NotCoordinator.into(),
        _ => reject,
    }
}

fn row(partition_index: i32, error_code: i16) -> TxnOffsetCommitResponsePartition {
    TxnOffsetCommitResponsePartition { partition_index, error_code }
}
