//! ConsumerGroupHeartbeat (68), versions 0–1.
//!
//! Does: members of consumer groups (KIP-848) join, beat, reconcile what they have with what they are to have, and leave;
//! static members; subscriptions by name and by expression; ids made by the broker in version 0, by the client in version
//! 1.
//! Leaves out: assignors other than `uniform` and `range`.
//! Differs from Apache Kafka: the message that says why an expression is refused.

use super::Answer;
use super::access::To;
use super::groups::{coordinated, explained, seeing_all, speaking_consumer_protocol};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::state::State;
use crate::state::groups::{Assignor, Beat, Beaten};
use crate::state::security::acls::Operation;
use crate::time::Time;
use crate::wire::Str;
use crate::wire::generated::consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest;
use crate::wire::generated::consumer_group_heartbeat_response::{
    Assignment, ConsumerGroupHeartbeatResponse, TopicPartitions,
};

/// The first version whose clients choose their member ids.
const OWN_ID_FROM: i16 = 1;
/// A member leaves.
const LEAVE: i32 = -1;
/// A static member leaves for a while.
const LEAVE_FOR_A_WHILE: i32 = -2;

pub(super) fn consumer_group_heartbeat(
    state: &mut State,
    now: Time,
    from: &Caller,
    mut request: ConsumerGroupHeartbeatRequest,
) -> Answer {
    Answer::now(match beat(state, now, from, &mut request) {
        Ok(beaten) => answered(request.member_id, beaten),
        Err(reject) => ConsumerGroupHeartbeatResponse {
            error_code: reject.code.code(),
            error_message: explained(&reject),
            ..Default::default()
        },
    })
}

fn beat(
    state: &mut State,
    now: Time,
    from: &Caller,
    request: &mut ConsumerGroupHeartbeatRequest,
) -> Result<Beaten, Reject> {
    speaking_consumer_protocol(state)?;
    from.check_access(state, Operation::Read, To::Group(&request.group_id))?;
    seeing_all(state, from, request.subscribed_topic_names.iter().flatten().map(|topic| topic.as_str()))?;
    check(state, from, request)?;
    coordinated(state, from, Operation::Read, &request.group_id)?;
    if request.member_id.is_empty() {
        request.member_id = Str::from(state.new_id().to_string());
    }
    let pace = state.consumer_pace(&request.group_id);
    let topics = request.subscribed_topic_names.as_ref();
    let owned = request.topic_partitions.as_ref();
    let beat = Beat {
        group: &request.group_id,
        member_id: &request.member_id,
        epoch: request.member_epoch,
        instance_id: request.instance_id.as_deref(),
        rack: request.rack_id.as_deref(),
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        topics: topics.map(|topics| topics.iter().map(ToString::to_string).collect()),
        regex: request.subscribed_topic_regex.as_deref(),
        assignor: request.server_assignor.as_deref(),
        owned: owned.map(|owned| owned.iter().map(|topic| (topic.topic_id, topic.partitions.clone())).collect()),
        client_id: &from.client_id,
        client_host: &from.client_host,
    };
    state.groups.beat(now, &beat, &pace)
}

/// Refuses what no client should send (`GroupCoordinatorService.throwIfConsumerGroupHeartbeatRequestIsInvalid`).
fn check(state: &State, from: &Caller, request: &ConsumerGroupHeartbeatRequest) -> Result<(), Reject> {
    let epoch = request.member_epoch;
    if (from.version >= OWN_ID_FROM || epoch > 0 || epoch == LEAVE) && is_blank(&request.member_id) {
        return invalid("member_id is blank");
    }
    if is_blank(&request.group_id) {
        return invalid("group_id is blank");
    }
    if request.instance_id.as_deref().is_some_and(is_blank) {
        return invalid("instance_id is blank");
    }
    if request.rack_id.as_deref().is_some_and(is_blank) {
        return invalid("rack_id is blank");
    }
    match epoch {
        0 => check_join(request)?,
        LEAVE_FOR_A_WHILE if request.instance_id.is_none() => {
            return invalid("only a member with an instance_id can leave for a while");
        }
        _ if epoch < LEAVE_FOR_A_WHILE => return invalid("no member can be in this member_epoch"),
        _ => {}
    }
    let supported = &state.groups.settings().assignors;
    match request.server_assignor.as_deref() {
        Some(name) if !supported.iter().any(|assignor| assignor.name() == name) => {
            let names: Vec<&str> = supported.iter().copied().map(Assignor::name).collect();
            let message = format!("there is no assignor {name}, but {}", names.join(", "));
            Err(Reject::new(ErrorCode::UnsupportedAssignor, message))
        }
        _ => Ok(()),
    }
}

fn check_join(request: &ConsumerGroupHeartbeatRequest) -> Result<(), Reject> {
    if request.rebalance_timeout_ms == -1 {
        return invalid("who joins must say its rebalance_timeout_ms");
    }
    if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) {
        return invalid("who joins owns no topic_partitions");
    }
    if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
        return invalid("who joins must subscribe by names or by an expression");
    }
    Ok(())
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

fn invalid(message: &'static str) -> Result<(), Reject> {
    Err(Reject::new(ErrorCode::InvalidRequest, message))
}

fn answered(member_id: Str, beaten: Beaten) -> ConsumerGroupHeartbeatResponse {
    let assignment = beaten.assignment.map(|assignment| {
        let topics = assignment.into_iter().map(|(topic_id, partitions)| TopicPartitions { topic_id, partitions });
        Assignment { topic_partitions: topics.collect() }
    });
    ConsumerGroupHeartbeatResponse {
        member_id: Some(member_id),
        member_epoch: beaten.epoch,
        heartbeat_interval_ms: beaten.heartbeat_interval_ms,
        assignment,
        ..Default::default()
    }
}
