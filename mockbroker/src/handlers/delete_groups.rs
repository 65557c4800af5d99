//! DeleteGroups (42), versions 0–2.
//!
//! Does: deletes groups without members, with their offsets.
//! Leaves out: nothing.
//! Differs from Apache Kafka: the answer has the order of the request.

use super::Answer;
use super::access::To;
use super::groups::code;
use crate::cluster::Caller;
use crate::error::Reject;
use crate::fault::Part;
use crate::state::State;
use crate::state::security::acls::Operation;
use crate::time::Time;
use crate::wire::generated::delete_groups_request::DeleteGroupsRequest;
use crate::wire::generated::delete_groups_response::{DeletableGroupResult, DeleteGroupsResponse};
use indexmap::IndexSet;

pub(super) fn delete_groups(state: &mut State, _: Time, from: &Caller, request: DeleteGroupsRequest) -> Answer {
    let groups: IndexSet<_> = request.groups_names.into_iter().collect();
    let results = groups
        .into_iter()
        .map(|group_id| DeletableGroupResult { error_code: code(delete(state, from, &group_id)), group_id });
    Answer::now(DeleteGroupsResponse { results: results.collect(), ..Default::default() })
}

fn delete(state: &mut State, from: &Caller, group: &str) -> Result<(), Reject> {
    from.check_fault(Part::Named(group))?;
    from.check_access(state, Operation::Delete, To::Group(group))?;
    // Unlike most requests of groups, this one may have an empty group id.
    state.check_coordinator(from.node, group)?;
    state.delete_group(group)
}
