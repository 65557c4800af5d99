//! DescribeShareGroupOffsets (90), versions 0–1.
//!
//! Does: how far share groups have come (KIP-932), by partition or for all they have read; the lag from version 1 on.
//! Leaves out: nothing.
//! Differs from Apache Kafka: none known.

use super::access::To;
use super::groups::{coordinated, speaking_share_protocol};
use super::{Answer, message};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::fault::Part;
use crate::state::State;
use crate::state::security::acls::Operation;
use crate::state::share::{Progress, ShareKey};
use crate::time::Time;
use crate::wire::generated::describe_share_group_offsets_request::{
    DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsRequestGroup,
};
use crate::wire::generated::describe_share_group_offsets_response::{
    DescribeShareGroupOffsetsResponse, DescribeShareGroupOffsetsResponseGroup,
    DescribeShareGroupOffsetsResponsePartition, DescribeShareGroupOffsetsResponseTopic,
};
use crate::wire::{Str, Uuid};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) fn describe_share_group_offsets(
    state: &mut State,
    _: Time,
    from: &Caller,
    request: DescribeShareGroupOffsetsRequest,
) -> Answer {
    let groups = request.groups.into_iter().map(|asked| {
        let described = describe(state, from, &asked);
        let group = DescribeShareGroupOffsetsResponseGroup { group_id: asked.group_id, ..Default::default() };
        match described {
            Ok(topics) => DescribeShareGroupOffsetsResponseGroup { topics, ..group },
            Err(reject) => DescribeShareGroupOffsetsResponseGroup {
                error_code: reject.code.code(),
                error_message: message(&reject).filter(|_| reject.code != ErrorCode::GroupAuthorizationFailed),
                ..group
            },
        }
    });
    Answer::now(DescribeShareGroupOffsetsResponse { groups: groups.collect(), ..Default::default() })
}

fn describe(
    state: &State,
    from: &Caller,
    asked: &DescribeShareGroupOffsetsRequestGroup,
) -> Result<Vec<DescribeShareGroupOffsetsResponseTopic>, Reject> {
    speaking_share_protocol(state)?;
    from.check_access(state, Operation::Describe, To::Group(&asked.group_id))?;
    from.check_fault(Part::Named(&asked.group_id))?;
    let Some(topics) = &asked.topics else {
        coordinated(state, from, Operation::Describe, &asked.group_id)?;
        let mut all = everything(state, &asked.group_id);
        all.retain(|topic| from.has_access(state, Operation::Describe, To::Topic(&topic.topic_name)));
        return Ok(all);
    };
    // What is written down can be read through any broker.
    let rows = topics.iter().map(|topic| {
        let (name, partitions) = (&topic.topic_name, &topic.partitions);
        match from.check_access(state, Operation::Describe, To::Topic(name)) {
            Ok(()) => one_topic(state, &asked.group_id, name, partitions),
            Err(reject) => hidden_topic(name, partitions, &reject),
        }
    });
    Ok(rows.collect())
}

/// All partitions the group's members can be given.
fn everything(state: &State, group: &str) -> Vec<DescribeShareGroupOffsetsResponseTopic> {
    let mut topics: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
    for (topic, index) in state.groups.share_partitions(group).1 {
        topics.entry(topic).or_default().push(index);
    }
    let named = topics.iter().filter_map(|(topic, indices)| Some((state.topics.name_of(*topic)?, indices)));
    named.map(|(name, indices)| one_topic(state, group, &Str::from(name), indices)).collect()
}

fn one_topic(state: &State, group: &str, name: &Str, indices: &[i32]) -> DescribeShareGroupOffsetsResponseTopic {
    let topic_id = state.topics.get(name).map_or_else(Uuid::default, |topic| topic.id);
    let group: Arc<str> = Arc::from(group);
    let rows = indices.iter().map(|index| {
        let key = ShareKey { group: Arc::clone(&group), topic: topic_id, index: *index };
        row(state, name, *index, state.shares.progress(&key))
    });
    DescribeShareGroupOffsetsResponseTopic { topic_name: name.clone(), topic_id, partitions: rows.collect() }
}

/// A topic the caller may not see; not even its id is told.
fn hidden_topic(name: &Str, indices: &[i32], reject: &Reject) -> DescribeShareGroupOffsetsResponseTopic {
    let rows = indices.iter().map(|index| DescribeShareGroupOffsetsResponsePartition {
        partition_index: *index,
        start_offset: -1,
        lag: -1,
        error_code: reject.code.code(),
        error_message: message(reject),
        ..Default::default()
    });
    DescribeShareGroupOffsetsResponseTopic {
        topic_name: name.clone(),
        partitions: rows.collect(),
        ..Default::default()
    }
}

fn row(
    state: &State,
    topic: &str,
    partition_index: i32,
    progress: Option<Progress>,
) -> DescribeShareGroupOffsetsResponsePartition {
    let row =
        DescribeShareGroupOffsetsResponsePartition { partition_index, start_offset: -1, lag: -1, ..Default::default() };
    let Some(progress) = progress else { return row };
    let row = DescribeShareGroupOffsetsResponsePartition { leader_epoch: progress.leader_epoch, ..row };
    let (Some(start_offset), Some(complete)) = (progress.start_offset, progress.complete) else { return row };
    let end = state.topics.partition(topic, partition_index).map_or(0, |partition| partition.log.high_watermark());
    let lag = end.saturating_sub(start_offset).saturating_sub(i64::from(complete));
    DescribeShareGroupOffsetsResponsePartition { start_offset, lag, ..row }
}
