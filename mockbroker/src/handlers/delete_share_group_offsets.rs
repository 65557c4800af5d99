//! DeleteShareGroupOffsets (92), version 0.
//!
//! Does: forgets how far a share group nobody is in (KIP-932) has come with topics.
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
use crate::wire::generated::delete_share_group_offsets_request::DeleteShareGroupOffsetsRequest;
use crate::wire::generated::delete_share_group_offsets_response::{
    DeleteShareGroupOffsetsResponse, DeleteShareGroupOffsetsResponseTopic,
};
use crate::wire::{Str, Uuid};

pub(super) fn delete_share_group_offsets(
    state: &mut State,
    _: Time,
    from: &Caller,
    request: DeleteShareGroupOffsetsRequest,
) -> Answer {
    Answer::now(delete(state, from, request).unwrap_or_else(|reject| DeleteShareGroupOffsetsResponse {
        error_code: reject.code.code(),
        error_message: message(&reject),
        ..Default::default()
    }))
}

fn delete(
    state: &mut State,
    from: &Caller,
    request: DeleteShareGroupOffsetsRequest,
) -> Result<DeleteShareGroupOffsetsResponse, Reject> {
    speaking_share_protocol(state)?;
    coordinated(state, from, Operation::Delete, &request.group_id)?;
    state.groups.check_share_deletion(&request.group_id)?;
    let responses = request.topics.into_iter().map(|topic| {
        let deleted = delete_one(state, from, &request.group_id, &topic.topic_name);
        row(topic.topic_name, deleted)
    });
    Ok(DeleteShareGroupOffsetsResponse { responses: responses.collect(), ..Default::default() })
}

fn delete_one(state: &mut State, from: &Caller, group: &str, topic: &str) -> Result<Uuid, Reject> {
    from.check_access(state, Operation::Read, To::Topic(topic))?;
    from.check_fault(Part::Topic(topic))?;
    let topic = state.topics.get(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?.id;
    if state.forget_share(group, topic) {
        return Ok(topic);
    }
    Err(Reject::new(ErrorCode::UnknownTopicOrPartition, "the group has not read this topic"))
}

fn row(topic_name: Str, deleted: Result<Uuid, Reject>) -> DeleteShareGroupOffsetsResponseTopic {
    match deleted {
        Ok(topic_id) => DeleteShareGroupOffsetsResponseTopic { topic_name, topic_id, ..Default::default() },
        Err(reject) => DeleteShareGroupOffsetsResponseTopic {
            topic_name,
            error_code: reject.code.code(),
            error_message: message(&reject),
            ..Default::default()
        },
    }
}
