//! DescribeGroups (15), versions 0–6.
//!
//! Does: state, protocol and members of classic groups; a group that does not exist is dead, and from version 6 on an
//! error (KIP-1043).
//! Leaves out: nothing.
//! Differs from Apache Kafka: a group made by a commit of which nothing was accepted is there at once; Kafka shows it
//! when something else has been written to its partition of `__consumer_offsets`.

use super::access::To;
use super::groups::optional;
use super::{Answer, NO_OPERATIONS, message};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::state::State;
use crate::state::groups::{self, GroupView, MemberView};
use crate::state::security::acls::Operation;
use crate::time::Time;
use crate::wire::Str;
use crate::wire::generated::describe_groups_request::DescribeGroupsRequest;
use crate::wire::generated::describe_groups_response::{DescribeGroupsResponse, DescribedGroup, DescribedGroupMember};

/// The first version whose clients know that a group may not exist.
const GROUP_ID_NOT_FOUND_FROM: i16 = 6;

pub(super) fn describe_groups(state: &mut State, _: Time, from: &Caller, request: DescribeGroupsRequest) -> Answer {
    let asks = request.include_authorized_operations;
    let groups = request.groups.into_iter().map(|group_id| {
        let row = match describe(state, from, &group_id) {
            Ok(view) => described(view),
            Err(reject) if reject.code == ErrorCode::GroupIdNotFound => not_found(from.version, &reject),
            Err(reject) => DescribedGroup { error_code: reject.code.code(), ..Default::default() },
        };
        let authorized_operations =
            if asks && row.error_code == 0 { from.operations_on(state, To::Group(&group_id)) } else { NO_OPERATIONS };
        DescribedGroup { group_id, authorized_operations, ..row }
    });
    Answer::now(DescribeGroupsResponse { groups: groups.collect(), ..Default::default() })
}

fn describe(state: &State, from: &Caller, group: &str) -> Result<GroupView, Reject> {
    from.check_access(state, Operation::Describe, To::Group(group))?;
    // Unlike most requests of groups, this one may have an empty group id.
    state.check_coordinator(from.node, group)?;
    state.groups.describe(group)
}

fn described(view: GroupView) -> DescribedGroup {
    let protocol = view.protocol.filter(|_| view.state == groups::State::Stable);
    DescribedGroup {
        group_state: Str::from(view.state.name()),
        protocol_type: Str::from(view.protocol_type.unwrap_or_default()),
        protocol_data: Str::from(protocol.unwrap_or_default()),
        members: view.members.into_iter().map(member).collect(),
        ..Default::default()
    }
}

fn member(member: MemberView) -> DescribedGroupMember {
    DescribedGroupMember {
        member_id: Str::from(member.member_id),
        group_instance_id: optional(member.group_instance_id),
        client_id: Str::from(member.client_id),
        client_host: Str::from(member.client_host),
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    }
}

fn not_found(version: i16, reject: &Reject) -> DescribedGroup {
    let group_state = Str::from(groups::State::Dead.name());
    if version < GROUP_ID_NOT_FOUND_FROM {
        return DescribedGroup { group_state, ..Default::default() };
    }
    DescribedGroup { group_state, error_code: reject.code.code(), error_message: message(reject), ..Default::default() }
}
