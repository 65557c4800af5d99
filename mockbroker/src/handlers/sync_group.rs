//! SyncGroup (14), versions 0–5.
//!
//! Does: hands the leader's assignments out, and waits for them; checks the protocol's type and name from version 5 on
//! (KIP-559).
//! Leaves out: nothing.
//! Differs from Apache Kafka: none known.

use super::access::To;
use super::groups::{coordinated, optional};
use super::{Answer, GroupResponder, Waiting};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::state::State;
use crate::state::groups::{Claim, GroupAnswer, SyncBy, Synced};
use crate::state::security::acls::Operation;
use crate::time::Time;
use crate::wire::generated::sync_group_request::SyncGroupRequest;
use crate::wire::generated::sync_group_response::SyncGroupResponse;

/// From this version on the protocol's type and name must be given.
const PROTOCOL_FROM: i16 = 5;

pub(super) fn sync_group(state: &mut State, now: Time, from: &Caller, request: SyncGroupRequest) -> Answer {
    if let Err(reject) = admit(state, from, &request) {
        return Answer::now(response(Err(reject.code)));
    }
    let assignments = request.assignments.into_iter();
    let by = SyncBy {
        claim: Claim {
            member_id: &request.member_id,
            instance_id: request.group_instance_id.as_deref(),
            generation: request.generation_id,
        },
        protocol_type: request.protocol_type.as_deref(),
        protocol: request.protocol_name.as_deref(),
        assignments: assignments.map(|one| (one.member_id.to_string(), one.assignment)).collect(),
    };
    state.groups.sync(now, &request.group_id, &by, from.ticket);
    let respond = GroupResponder::new(|answer| match answer {
        GroupAnswer::Sync(result) => response(result).into(),
        other => unreachable!("a sync is answered with {other:?}"),
    });
    Answer::Park { deadline: None, partitions: Vec::new(), waiting: Waiting::Group(respond) }
}

fn admit(state: &State, from: &Caller, request: &SyncGroupRequest) -> Result<(), Reject> {
    from.check_access(state, Operation::Read, To::Group(&request.group_id))?;
    if from.version >= PROTOCOL_FROM && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
        return Err(ErrorCode::InconsistentGroupProtocol.into());
    }
    coordinated(state, from, Operation::Read, &request.group_id)
}

fn response(result: Result<Synced, ErrorCode>) -> SyncGroupResponse {
    match result {
        Ok(synced) => SyncGroupResponse {
            protocol_type: optional(synced.protocol_type),
            protocol_name: optional(synced.protocol),
            assignment: synced.assignment,
            ..Default::default()
        },
        Err(code) => SyncGroupResponse { error_code: code.code(), ..Default::default() },
    }
}
