//! AlterShareGroupOffsets (91), version 0.
//!
//! Does: lets a share group nobody is in (KIP-932) go on from other offsets; makes the group if there is none.
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
use crate::time::Time;
use crate::wire::Uuid;
use crate::wire::generated::alter_share_group_offsets_request::{
    AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsRequestPartition, AlterShareGroupOffsetsRequestTopic,
};
use crate::wire::generated::alter_share_group_offsets_response::{
    AlterShareGroupOffsetsResponse, AlterShareGroupOffsetsResponsePartition, AlterShareGroupOffsetsResponseTopic,
};

pub(super) fn alter_share_group_offsets(
    state: &mut State,
    now: Time,
    from: &Caller,
    request: AlterShareGroupOffsetsRequest,
) -> Answer {
    Answer::now(alter(state, now, from, request).unwrap_or_else(|reject| AlterShareGroupOffsetsResponse {
        error_code: reject.code.code(),
        error_message: message(&reject),
        ..Default::default()
    }))
}

fn alter(
    state: &mut State,
    now: Time,
    from: &Caller,
    request: AlterShareGroupOffsetsRequest,
) -> Result<AlterShareGroupOffsetsResponse, Reject> {
    speaking_share_protocol(state)?;
    coordinated(state, from, Operation::Read, &request.group_id)?;
    let is_new = request.topics.iter().any(|topic| {
        state.topics.get(&topic.topic_name).is_some()
            && from.has_access(state, Operation::Read, To::Topic(&topic.topic_name))
    });
    let epoch = state.groups.begin_share_alteration(now, &request.group_id, is_new)?;
    let group = request.group_id;
    let responses = request.topics.into_iter().map(|topic| {
        let topic_id = state.topics.get(&topic.topic_name).map_or_else(Uuid::default, |topic| topic.id);
        let partitions = topic.partitions.iter().map(|asked| {
            let altered = alter_one(state, from, (&group, epoch), (&topic, topic_id), asked);
            row(asked.partition_index, altered)
        });
        let partitions = partitions.collect();
        AlterShareGroupOffsetsResponseTopic { topic_name: topic.topic_name, topic_id, partitions }
    });
    Ok(AlterShareGroupOffsetsResponse { responses: responses.collect(), ..Default::default() })
}

fn alter_one(
    state: &mut State,
    from: &Caller,
    (group, epoch): (&str, i32),
    (topic, topic_id): (&AlterShareGroupOffsetsRequestTopic, Uuid),
    asked: &AlterShareGroupOffsetsRequestPartition,
) -> Result<(), Reject> {
    from.check_access(state, Operation::Read, To::Topic(&topic.topic_name))?;
    from.check_fault(Part::Partition(&topic.topic_name, asked.partition_index))?;
    let found = state.topics.partition(&topic.topic_name, asked.partition_index);
    found.map_err(|_| ErrorCode::UnknownTopicOrPartition)?;
    state.begin_share_at(group, epoch, topic_id, asked.partition_index, asked.start_offset);
    Ok(())
}

fn row(partition_index: i32, altered: Result<(), Reject>) -> AlterShareGroupOffsetsResponsePartition {
    let reject = altered.err();
    AlterShareGroupOffsetsResponsePartition {
        partition_index,
        error_code: reject.as_ref().map_or(ErrorCode::None, |reject| reject.code).code(),
        error_message: reject.as_ref().and_then(message),
    }
}
