//! ShareGroupHeartbeat (76), version 1.
//!
//! Does: members of share groups (KIP-932) join, beat, learn which partitions they may read, and leave.
//! Leaves out: nothing.
//! Differs from Apache Kafka: a partition can be assigned from the heartbeat after the one that first asks for its topic;
//! Kafka's state topic may take longer to be ready.

use super::Answer;
use super::access::To;
use super::groups::{coordinated, explained, seeing_all, speaking_share_protocol};
use super::sharing::is_valid_id;
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::state::State;
use crate::state::groups::{Beaten, ShareBeat};
use crate::state::security::acls::Operation;
use crate::time::Time;
use crate::wire::Str;
use crate::wire::generated::share_group_heartbeat_request::ShareGroupHeartbeatRequest;
use crate::wire::generated::share_group_heartbeat_response::{
    Assignment, ShareGroupHeartbeatResponse, TopicPartitions,
};

/// A member leaves.
const LEAVE: i32 = -1;

pub(super) fn share_group_heartbeat(
    state: &mut State,
    now: Time,
    from: &Caller,
    request: ShareGroupHeartbeatRequest,
) -> Answer {
    Answer::now(match beat(state, now, from, &request) {
        Ok(beaten) => answered(request.member_id, beaten),
        Err(reject) => ShareGroupHeartbeatResponse {
            error_code: reject.code.code(),
            // Kafka refuses a member without an id before its coordinator looks at it, and does not explain.
            error_message: explained(&reject).filter(|_| is_valid_id(&request.member_id)),
            ..Default::default()
        },
    })
}

fn beat(state: &mut State, now: Time, from: &Caller, request: &ShareGroupHeartbeatRequest) -> Result<Beaten, Reject> {
    speaking_share_protocol(state)?;
    from.check_access(state, Operation::Read, To::Group(&request.group_id))?;
    seeing_all(state, from, request.subscribed_topic_names.iter().flatten().map(|topic| topic.as_str()))?;
    check(request)?;
    coordinated(state, from, Operation::Read, &request.group_id)?;
    let pace = state.share_pace(&request.group_id);
    let topics = request.subscribed_topic_names.as_ref();
    let beat = ShareBeat {
        group: &request.group_id,
        member_id: &request.member_id,
        epoch: request.member_epoch,
        rack: request.rack_id.as_deref(),
        topics: topics.map(|topics| topics.iter().map(ToString::to_string).collect()),
        client_id: &from.client_id,
        client_host: &from.client_host,
    };
    state.share_beat(now, &beat, &pace)
}

/// Refuses what no client should send (`GroupCoordinatorService.throwIfShareGroupHeartbeatRequestIsInvalid`).
fn check(request: &ShareGroupHeartbeatRequest) -> Result<(), Reject> {
    let is_blank = |text: &str| text.trim().is_empty();
    let problem = if !is_valid_id(&request.member_id) {
        "member_id must have 1 to 36 characters"
    } else if is_blank(&request.member_id) {
        "member_id is blank"
    } else if is_blank(&request.group_id) {
        "group_id is blank"
    } else if request.rack_id.as_deref().is_some_and(is_blank) {
        "rack_id is blank"
    } else if request.member_epoch == 0 && request.subscribed_topic_names.as_ref().is_none_or(Vec::is_empty) {
        "who joins must subscribe to topics"
    } else if request.member_epoch < LEAVE {
        "no member can be in this member_epoch"
    } else {
        return Ok(());
    };
    Err(Reject::new(ErrorCode::InvalidRequest, problem))
}

fn answered(member_id: Str, beaten: Beaten) -> ShareGroupHeartbeatResponse {
    let assignment = beaten.assignment.map(|assignment| {
        let topics = assignment.into_iter().map(|(topic_id, partitions)| TopicPartitions { topic_id, partitions });
        Assignment { topic_partitions: topics.collect() }
    });
    ShareGroupHeartbeatResponse {
        member_id: Some(member_id),
        member_epoch: beaten.epoch,
        heartbeat_interval_ms: beaten.heartbeat_interval_ms,
        assignment,
        ..Default::default()
    }
}
