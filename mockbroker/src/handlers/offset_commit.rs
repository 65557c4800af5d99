//! OffsetCommit (8), versions 2–10.
//!
//! Does: commits for members of the current generation and for consumers that assign themselves; metadata, leader
//! epochs, a retention of its own in versions 2 to 4; topics by id from version 10 on (KIP-848).
//! Leaves out: nothing.
//! Differs from Apache Kafka: none known.

use super::Answer;
use super::access::{To, permitted_topic};
use super::groups::code;
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::fault::Part;
use crate::state::State;
use crate::state::groups::{Claim, Commit, NewOffset};
use crate::state::security::acls::Operation;
use crate::time::{self, Time};
use crate::wire::Uuid;
use crate::wire::generated::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::wire::generated::offset_commit_response::{
    OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};

/// The first version that names topics by id.
const TOPIC_IDS_FROM: i16 = 10;
/// The first version whose clients know that a group may not exist.
const GROUP_ID_NOT_FOUND_FROM: i16 = 9;
/// The first version that may come from members of the consumer protocol.
const MEMBER_EPOCHS_FROM: i16 = 9;
/// "The broker's retention."
const DEFAULT_RETENTION: i64 = -1;

pub(super) fn offset_commit(state: &mut State, now: Time, from: &Caller, mut request: OffsetCommitRequest) -> Answer {
    let mut rows = Rows { by_id: from.version >= TOPIC_IDS_FROM, topics: Vec::new() };
    if let Err(reject) = from.check_access(state, Operation::Read, To::Group(&request.group_id)) {
        refuse_all(&reject, request.topics, &mut rows);
        return Answer::now(OffsetCommitResponse { topics: rows.topics, ..Default::default() });
    }
    let mut known = Vec::new();
    for topic in std::mem::take(&mut request.topics) {
        known.extend(only_known(state, from, topic, &mut rows));
    }
    if !known.is_empty() {
        match begin(state, now, from, &request).and_then(|commit| check_all(commit, &known)) {
            Ok(mut commit) => commit_all(from, &mut commit, known, &mut rows),
            Err(reject) => refuse_all(&reject, known, &mut rows),
        }
    }
    Answer::now(OffsetCommitResponse { topics: rows.topics, ..Default::default() })
}

/// The topic, if the caller may read it, with those of its partitions that exist, its name and id filled in; the others go straight to the answer,
/// before the rows of those that are committed, as Kafka puts them.
fn only_known(
    state: &State,
    from: &Caller,
    mut topic: OffsetCommitRequestTopic,
    rows: &mut Rows,
) -> Option<OffsetCommitRequestTopic> {
    if let Err(reject) = resolve(state, from, rows.by_id, &mut topic) {
        let code = reject.code.code();
        rows.add(&topic, topic.partitions.iter().map(|partition| (partition.partition_index, code)));
        return None;
    }
    let exists = |partition: &OffsetCommitRequestPartition| {
        state.topics.partition(&topic.name, partition.partition_index).is_ok()
    };
    let (known, unknown): (Vec<_>, Vec<_>) = std::mem::take(&mut topic.partitions).into_iter().partition(exists);
    let code = ErrorCode::UnknownTopicOrPartition.code();
    rows.add(&topic, unknown.iter().map(|partition| (partition.partition_index, code)));
    topic.partitions = known;
    Some(topic).filter(|topic| !topic.partitions.is_empty())
}

fn resolve(state: &State, from: &Caller, by_id: bool, topic: &mut OffsetCommitRequestTopic) -> Result<(), Reject> {
    topic.name = permitted_topic(state, from, Operation::Read, by_id, topic.topic_id, &topic.name)?.into();
    if !by_id {
        topic.topic_id = state.topics.get(&topic.name).ok_or(ErrorCode::UnknownTopicOrPartition)?.id;
    }
    Ok(())
}

fn begin<'a>(
    state: &'a mut State,
    now: Time,
    from: &Caller,
    request: &OffsetCommitRequest,
) -> Result<Commit<'a>, Reject> {
    // Unlike the other requests of groups, this one may have an empty group id.
    from.check_fault(Part::Whole)?;
    state.check_coordinator(from.node, &request.group_id)?;
    let claim = Claim {
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
        generation: request.generation_id_or_member_epoch,
    };
    let retention = Some(request.retention_time_ms).filter(|ms| *ms != DEFAULT_RETENTION).map(time::millis);
    let if_unknown =
        if from.version >= GROUP_ID_NOT_FOUND_FROM { ErrorCode::GroupIdNotFound } else { ErrorCode::IllegalGeneration };
    if from.version < MEMBER_EPOCHS_FROM && state.groups.speaks_consumer_protocol(&request.group_id, &request.member_id)
    {
        return Err(ErrorCode::UnsupportedVersion.into());
    }
    state.groups.begin_commit(now, &request.group_id, &claim, retention, if_unknown)
}

/// A member that is behind may commit only what it still holds; one partition it does not hold fails all.
fn check_all<'a>(commit: Commit<'a>, topics: &[OffsetCommitRequestTopic]) -> Result<Commit<'a>, Reject> {
    for topic in topics {
        for partition in &topic.partitions {
            commit.check(topic.topic_id, partition.partition_index)?;
        }
    }
    Ok(commit)
}

fn commit_all(from: &Caller, commit: &mut Commit<'_>, topics: Vec<OffsetCommitRequestTopic>, rows: &mut Rows) {
    for topic in topics {
        let committed = topic.partitions.iter().map(|partition| {
            let new = NewOffset {
                offset: partition.committed_offset,
                leader_epoch: partition.committed_leader_epoch,
                metadata: partition.committed_metadata.as_deref(),
            };
            let committed = from
                .check_fault(Part::Partition(&topic.name, partition.partition_index))
                .and_then(|()| commit.put(&topic.name, topic.topic_id, partition.partition_index, new));
            (partition.partition_index, code(committed))
        });
        rows.add(&topic, committed);
    }
}

fn refuse_all(reject: &Reject, topics: Vec<OffsetCommitRequestTopic>, rows: &mut Rows) {
    for topic in topics {
        let code = reject.code.code();
        rows.add(&topic, topic.partitions.iter().map(|partition| (partition.partition_index, code)));
    }
}

/// The answer as it grows: one row a partition, below one row a topic.
struct Rows {
    by_id: bool,
    topics: Vec<OffsetCommitResponseTopic>,
}

impl Rows {
    fn add(&mut self, topic: &OffsetCommitRequestTopic, codes: impl Iterator<Item = (i32, i16)>) {
        let mut codes = codes.peekable();
        if codes.peek().is_none() {
            return;
        }
        let rows =
            codes.map(|(partition_index, error_code)| OffsetCommitResponsePartition { partition_index, error_code });
        let same = |row: &&mut OffsetCommitResponseTopic| {
            if self.by_id { row.topic_id == topic.topic_id } else { row.name == topic.name }
        };
        match self.topics.iter_mut().find(same) {
            Some(row) => row.partitions.extend(rows),
            None => self.topics.push(OffsetCommitResponseTopic {
                name: topic.name.clone(),
                topic_id: if self.by_id { topic.topic_id } else { Uuid::ZERO },
                partitions: rows.collect(),
            }),
        }
    }
}
