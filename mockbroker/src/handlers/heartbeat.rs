//! Heartbeat (12), versions 0–4.
//!
//! Does: keeps a member's session; tells it to join again while the group prepares a rebalance.
//! Leaves out: nothing.
//! Differs from Apache Kafka: none known.

use super::Answer;
use super::groups::{code, coordinated};
use crate::cluster::Caller;
use crate::error::Reject;
use crate::state::State;
use crate::state::groups::Claim;
use crate::state::security::acls::Operation;
use crate::time::Time;
use crate::wire::generated::heartbeat_request::HeartbeatRequest;
use crate::wire::generated::heartbeat_response::HeartbeatResponse;

pub(super) fn heartbeat(state: &mut State, now: Time, from: &Caller, request: HeartbeatRequest) -> Answer {
    let error_code = code(beat(state, now, from, &request));
    Answer::now(HeartbeatResponse { error_code, ..Default::default() })
}

fn beat(state: &mut State, now: Time, from: &Caller, request: &HeartbeatRequest) -> Result<(), Reject> {
    coordinated(state, from, Operation::Read, &request.group_id)?;
    let claim = Claim {
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
        generation: request.generation_id,
    };
    state.groups.heartbeat(now, &request.group_id, &claim)
}
