//! LeaveGroup (13), versions 0–5.
//!
//! Does: removes one member, or from version 3 on several, also by instance id alone (KIP-345).
//! Leaves out: `reason`, which Kafka only logs.
//! Differs from Apache Kafka: none known.

use super::Answer;
use super::groups::{code, coordinated};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::state::State;
use crate::state::groups::Leaver;
use crate::state::security::acls::Operation;
use crate::time::Time;
use crate::wire::generated::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use crate::wire::generated::leave_group_response::{LeaveGroupResponse, MemberResponse};

/// The first version that names several members and answers for each.
const SEVERAL_FROM: i16 = 3;

pub(super) fn leave_group(state: &mut State, now: Time, from: &Caller, mut request: LeaveGroupRequest) -> Answer {
    if from.version < SEVERAL_FROM {
        let member_id = std::mem::take(&mut request.member_id);
        request.members = vec![MemberIdentity { member_id, ..Default::default() }];
    }
    let left = match leave(state, now, from, &request) {
        Ok(left) => left,
        Err(reject) => return refused(reject.code.code()),
    };
    if from.version < SEVERAL_FROM {
        return refused(left.into_iter().map(code).next().unwrap_or_default());
    }
    let rows = request.members.into_iter().zip(left).map(|(member, left)| MemberResponse {
        member_id: member.member_id,
        group_instance_id: member.group_instance_id,
        error_code: code(left),
    });
    Answer::now(LeaveGroupResponse { members: rows.collect(), ..Default::default() })
}

fn leave(
    state: &mut State,
    now: Time,
    from: &Caller,
    request: &LeaveGroupRequest,
) -> Result<Vec<Result<(), ErrorCode>>, Reject> {
    coordinated(state, from, Operation::Read, &request.group_id)?;
    let leavers = request.members.iter();
    let leavers = leavers
        .map(|member| Leaver { member_id: &member.member_id, instance_id: member.group_instance_id.as_deref() })
        .collect::<Vec<_>>();
    state.groups.leave(now, &request.group_id, &leavers)
}

fn refused(error_code: i16) -> Answer {
    Answer::now(LeaveGroupResponse { error_code, ..Default::default() })
}
