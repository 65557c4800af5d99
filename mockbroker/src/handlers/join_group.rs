//! JoinGroup (11), versions 0–9.
//!
//! Does: waits until the group has agreed on its next generation; tells a new member its id first from version 4 on
//! (KIP-394); static members (KIP-345); a returning static leader keeps the assignment from version 9 on (KIP-814).
//! Leaves out: `reason`, which Kafka only logs.
//! Differs from Apache Kafka: a new group's first rebalance waits for `group.initial.rebalance.delay.ms` only if that
//! is configured.

use super::groups::{coordinated, optional};
use super::{Answer, GroupResponder, Waiting};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::state::State;
use crate::state::groups::{Candidate, GroupAnswer, JoinRefusal, Joined, Protocol};
use crate::state::security::acls::Operation;
use crate::time::Time;
use crate::wire::Str;
use crate::wire::generated::join_group_request::JoinGroupRequest;
use crate::wire::generated::join_group_response::{JoinGroupResponse, JoinGroupResponseMember};

/// From this version on there is no protocol name where there was an empty one.
const NULL_PROTOCOL_FROM: i16 = 7;

pub(super) fn join_group(state: &mut State, now: Time, from: &Caller, request: JoinGroupRequest) -> Answer {
    let version = from.version;
    let candidate = candidate(from, &request);
    if let Err(refusal) = admit(state, from, &candidate) {
        return Answer::now(response(version, Err(refusal)));
    }
    state.groups.join(now, &mut state.rng, candidate, from.ticket);
    let respond = GroupResponder::new(move |answer| match answer {
        GroupAnswer::Join(result) => response(version, result).into(),
        other => unreachable!("a join is answered with {other:?}"),
    });
    Answer::Park { deadline: None, partitions: Vec::new(), waiting: Waiting::Group(respond) }
}

fn candidate<'a>(from: &'a Caller, request: &'a JoinGroupRequest) -> Candidate<'a> {
    let protocols = request.protocols.iter();
    Candidate {
        group: &request.group_id,
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
        client_id: &from.client_id,
        client_host: &from.client_host,
        session_timeout_ms: request.session_timeout_ms,
        // Version 0 had one timeout for both.
        rebalance_timeout_ms: if from.version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms },
        protocol_type: &request.protocol_type,
        protocols: protocols
            .map(|protocol| Protocol { name: protocol.name.to_string(), metadata: protocol.metadata.clone() })
            .collect(),
        knows_member_id_required: from.version >= 4,
        knows_skip_assignment: from.version >= 9,
    }
}

fn admit(state: &State, from: &Caller, candidate: &Candidate<'_>) -> Result<(), JoinRefusal> {
    let refuse = |reject: Reject| {
        // Only what is refused before a coordinator is looked for repeats the member's id.
        let unrepeated = matches!(reject.code, ErrorCode::NotCoordinator | ErrorCode::GroupAuthorizationFailed);
        let repeated = if unrepeated { "" } else { candidate.member_id };
        JoinRefusal { code: reject.code, member_id: repeated.to_owned() }
    };
    let timeouts = state.groups.check_candidate(candidate);
    let first = [ErrorCode::GroupAuthorizationFailed, ErrorCode::InvalidGroupId];
    match coordinated(state, from, Operation::Read, candidate.group) {
        // A group one may not use or without a name comes first, another broker's group last.
        Err(reject) if first.contains(&reject.code) => Err(refuse(reject)),
        coordinated => timeouts.and(coordinated).map_err(refuse),
    }
}

fn response(version: i16, result: Result<Joined, JoinRefusal>) -> JoinGroupResponse {
    let mut response = result.map_or_else(refused, joined);
    response.protocol_name = match response.protocol_name.take() {
        Some(name) if version < NULL_PROTOCOL_FROM || !name.is_empty() => Some(name),
        None if version < NULL_PROTOCOL_FROM => Some(Str::default()),
        _ => None,
    };
    response
}

fn joined(joined: Joined) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|member| JoinGroupResponseMember {
        member_id: Str::from(member.member_id),
        group_instance_id: optional(member.group_instance_id),
        metadata: member.metadata,
    });
    JoinGroupResponse {
        generation_id: joined.generation,
        protocol_type: optional(joined.protocol_type),
        protocol_name: optional(joined.protocol),
        leader: Str::from(joined.leader),
        skip_assignment: joined.skip_assignment,
        member_id: Str::from(joined.member_id),
        members: members.collect(),
        ..Default::default()
    }
}

fn refused(refusal: JoinRefusal) -> JoinGroupResponse {
    JoinGroupResponse { error_code: refusal.code.code(), member_id: Str::from(refusal.member_id), ..Default::default() }
}
