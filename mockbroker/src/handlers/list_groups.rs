//! ListGroups (16), versions 0–5.
//!
//! Does: the groups this broker coordinates, by state from version 4 on (KIP-518) and by type from version 5 on
//! (KIP-848).
//! Leaves out: nothing.
//! Differs from Apache Kafka: groups are listed in the order of their ids.

use super::Answer;
use super::access::To;
use crate::cluster::Caller;
use crate::state::State;
use crate::state::groups::Listed;
use crate::state::security::acls::Operation;
use crate::time::Time;
use crate::wire::Str;
use crate::wire::generated::list_groups_request::ListGroupsRequest;
use crate::wire::generated::list_groups_response::{ListGroupsResponse, ListedGroup};

pub(super) fn list_groups(state: &mut State, _: Time, from: &Caller, request: ListGroupsRequest) -> Answer {
    let states: Vec<&str> = request.states_filter.iter().map(|state| state.as_str()).collect();
    let types = request.types_filter;
    let of_asked_type =
        |group: &Listed<'_>| types.is_empty() || types.iter().any(|asked| asked.to_lowercase() == group.kind.name());
    let sees_all = from.has_access(state, Operation::Describe, To::Cluster);
    let may_see = |group: &str| sees_all || from.has_access(state, Operation::Describe, To::Group(group));
    let groups = state
        .groups
        .list(&states)
        .filter(|group| may_see(group.group_id))
        .filter(|group| of_asked_type(group) && state.check_coordinator(from.node, group.group_id).is_ok())
        .map(|group| ListedGroup {
            group_id: Str::from(group.group_id),
            protocol_type: Str::from(group.protocol_type),
            group_state: Str::from(group.state),
            group_type: Str::from(group.kind.name()),
        });
    Answer::now(ListGroupsResponse { groups: groups.collect(), ..Default::default() })
}
