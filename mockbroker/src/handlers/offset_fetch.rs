//! OffsetFetch (9), versions 1–10.
//!
//! Does: committed offsets of named partitions or of all; −1 where there is none, also for a group never seen; several
//! groups at once from version 8 on (KIP-709); topics by id from version 10 on (KIP-848); holds back offsets which an
//! open transaction is about to change, from whoever requires stable ones (KIP-447).
//! Leaves out: nothing.
//! Differs from Apache Kafka: none known.

use super::Answer;
use super::access::To;
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::state::State;
use crate::state::groups::CommittedOffset;
use crate::state::security::acls::Operation;
use crate::time::Time;
use crate::wire::generated::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use crate::wire::generated::offset_fetch_response::{
    OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use crate::wire::{Str, Uuid};

/// The first version with an error code for the whole group.
const GROUP_ERROR_FROM: i16 = 2;
/// The first version that asks for several groups.
const SEVERAL_FROM: i16 = 8;
/// The first version that names topics by id.
const TOPIC_IDS_FROM: i16 = 10;
const NO_OFFSET: i64 = -1;

pub(super) fn offset_fetch(state: &mut State, _: Time, from: &Caller, request: OffsetFetchRequest) -> Answer {
    if from.version >= SEVERAL_FROM {
        let groups = request.groups.into_iter().map(|group| one_group(state, from, group, request.require_stable));
        return Answer::now(OffsetFetchResponse { groups: groups.collect(), ..Default::default() });
    }
    let require_stable = request.require_stable;
    let one = one_group(state, from, only_group(request), require_stable);
    Answer::now(OffsetFetchResponse {
        topics: one.topics.into_iter().map(before_several).collect(),
        error_code: one.error_code,
        ..Default::default()
    })
}

/// A request for one group in the form of one for several.
fn only_group(request: OffsetFetchRequest) -> OffsetFetchRequestGroup {
    let topics = request.topics.map(|topics| {
        let topics = topics.into_iter().map(|topic| OffsetFetchRequestTopics {
            name: topic.name,
            topic_id: Uuid::ZERO,
            partition_indexes: topic.partition_indexes,
        });
        topics.collect()
    });
    OffsetFetchRequestGroup { group_id: request.group_id, topics, ..Default::default() }
}

/// An answer's topic in the form from before there were several groups.
fn before_several(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let partitions = topic.partitions.into_iter().map(|partition| OffsetFetchResponsePartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        metadata: partition.metadata,
        error_code: partition.error_code,
    });
    OffsetFetchResponseTopic { name: topic.name, partitions: partitions.collect() }
}

fn one_group(
    state: &State,
    from: &Caller,
    group: OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    // Unlike most requests of groups, this one may have an empty group id.
    let permitted = from.check_access(state, Operation::Describe, To::Group(&group.group_id));
    let admitted = permitted.and_then(|()| state.check_coordinator(from.node, &group.group_id)).and_then(|()| {
        state.groups.check_offset_fetch(&group.group_id, group.member_id.as_deref(), group.member_epoch)
    });
    let mut topics = match (admitted, group.topics) {
        (Ok(()), None) => {
            let mut topics = all_topics(state, from, &group.group_id);
            topics.retain(|topic| from.has_access(state, Operation::Describe, To::Topic(&topic.name)));
            topics
        }
        (Ok(()), Some(topics)) => named_topics(state, from, &group.group_id, topics),
        (Err(reject), Some(topics)) if from.version < GROUP_ERROR_FROM => {
            topics.into_iter().map(|topic| refused(topic, reject.code)).collect()
        }
        (Err(reject), _) => {
            let error_code = reject.code.code();
            return OffsetFetchResponseGroup { group_id: group.group_id, error_code, ..Default::default() };
        }
    };
    if require_stable {
        hold_back(state, &group.group_id, &mut topics);
    }
    OffsetFetchResponseGroup { group_id: group.group_id, topics, error_code: 0 }
}

/// Puts an error in the place of every offset that an open transaction is about to change.
fn hold_back(state: &State, group: &str, topics: &mut [OffsetFetchResponseTopics]) {
    for topic in topics {
        for partition in &mut topic.partitions {
            if partition.error_code == 0 && state.groups.is_unstable(group, &topic.name, partition.partition_index) {
                let error_code = ErrorCode::UnstableOffsetCommit.code();
                *partition = OffsetFetchResponsePartitions { error_code, ..row(partition.partition_index, None) };
            }
        }
    }
}

/// Everything the group has committed, except, where topics are named by id, for topics that are gone.
fn all_topics(state: &State, from: &Caller, group: &str) -> Vec<OffsetFetchResponseTopics> {
    let topics = state.groups.offsets(group).map(|(name, offsets)| OffsetFetchResponseTopics {
        name: Str::from(name),
        topic_id: state.topics.get(name).map(|topic| topic.id).unwrap_or_default(),
        partitions: offsets.iter().map(|(index, committed)| row(*index, Some(committed))).collect(),
    });
    topics.filter(|topic| from.version < TOPIC_IDS_FROM || !topic.topic_id.is_zero()).collect()
}

/// What the group has committed for these topics. Topics whose id is unknown, or which the caller may not see, come last, as Kafka puts them.
fn named_topics(
    state: &State,
    from: &Caller,
    group: &str,
    topics: Vec<OffsetFetchRequestTopics>,
) -> Vec<OffsetFetchResponseTopics> {
    let (mut found, mut unknown) = (Vec::with_capacity(topics.len()), Vec::new());
    for topic in topics {
        match name(state, from, &topic) {
            Ok(name) => found.push(one_topic(state, group, name, topic)),
            Err(reject) => unknown.push(refused(topic, reject.code)),
        }
    }
    found.append(&mut unknown);
    found
}

fn name(state: &State, from: &Caller, topic: &OffsetFetchRequestTopics) -> Result<Str, Reject> {
    let name = match from.version {
        ..TOPIC_IDS_FROM => topic.name.clone(),
        _ => state.topics.name_of(topic.topic_id).map(Str::from).ok_or(ErrorCode::UnknownTopicId)?,
    };
    from.check_access(state, Operation::Describe, To::Topic(&name)).map(|()| name)
}

fn one_topic(state: &State, group: &str, name: Str, topic: OffsetFetchRequestTopics) -> OffsetFetchResponseTopics {
    let offset = |index| state.groups.offset(group, &name, topic.topic_id, index);
    let partitions = topic.partition_indexes.iter().map(|index| row(*index, offset(*index))).collect();
    OffsetFetchResponseTopics { name, topic_id: topic.topic_id, partitions }
}

fn row(partition_index: i32, committed: Option<&CommittedOffset>) -> OffsetFetchResponsePartitions {
    let row = OffsetFetchResponsePartitions { partition_index, committed_offset: NO_OFFSET, ..Default::default() };
    match committed {
        None => row,
        Some(committed) => OffsetFetchResponsePartitions {
            committed_offset: committed.offset,
            committed_leader_epoch: committed.leader_epoch,
            metadata: Some(Str::from(committed.metadata.as_str())),
            ..row
        },
    }
}

fn refused(topic: OffsetFetchRequestTopics, code: ErrorCode) -> OffsetFetchResponseTopics {
    let rows = topic
        .partition_indexes
        .iter()
        .map(|index| OffsetFetchResponsePartitions { error_code: code.code(), ..row(*index, None) });
    OffsetFetchResponseTopics { partitions: rows.collect(), name: topic.name, topic_id: topic.topic_id }
}
