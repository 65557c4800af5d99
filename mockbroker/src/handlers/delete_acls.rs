//! DeleteAcls (31), versions 1–3.
//!
//! Does: deletes the rules that filters ask for, and names them.
//! Leaves out: nothing.
//! Differs from Apache Kafka: rules come sorted.

use super::acl_bindings::{AskedFilter, UNKNOWN, authorizer, unreadable};
use super::{Answer, message};
use crate::cluster::Caller;
use crate::error::Reject;
use crate::fault::Part;
use crate::state::State;
use crate::state::security::acls::{Acl, AclFilter, Operation};
use crate::time::Time;
use crate::wire::Str;
use crate::wire::generated::delete_acls_request::{DeleteAclsFilter, DeleteAclsRequest};
use crate::wire::generated::delete_acls_response::{DeleteAclsFilterResult, DeleteAclsMatchingAcl, DeleteAclsResponse};

pub(super) fn delete_acls(state: &mut State, _: Time, from: &Caller, request: DeleteAclsRequest) -> Answer {
    if request.filters.iter().any(says_nothing) {
        return unreadable();
    }
    // All filters look at the rules as they are before any is deleted.
    let found: Vec<_> = request.filters.iter().map(|asked| find(state, from, asked)).collect();
    let filter_results = found.into_iter().map(|found| match found {
        Ok(acls) => DeleteAclsFilterResult {
            error_code: 0,
            error_message: None,
            matching_acls: acls.into_iter().map(|acl| delete(state, acl)).collect(),
        },
        Err(reject) => DeleteAclsFilterResult {
            error_code: reject.code.code(),
            error_message: message(&reject),
            ..Default::default()
        },
    });
    Answer::now(DeleteAclsResponse { filter_results: filter_results.collect(), ..Default::default() })
}

fn find(state: &mut State, from: &Caller, asked: &DeleteAclsFilter) -> Result<Vec<Acl>, Reject> {
    from.check_fault(asked.resource_name_filter.as_deref().map_or(Part::Whole, Part::Named))?;
    let authorizer = authorizer(state, from, Operation::Alter)?;
    let filter = read(asked)?;
    Ok(authorizer.matching(&filter).cloned().collect())
}

fn says_nothing(asked: &DeleteAclsFilter) -> bool {
    [asked.resource_type_filter, asked.pattern_type_filter, asked.operation, asked.permission_type].contains(&UNKNOWN)
}

fn read(asked: &DeleteAclsFilter) -> Result<AclFilter, Reject> {
    let filter = AskedFilter {
        kind: asked.resource_type_filter,
        name: asked.resource_name_filter.as_ref(),
        pattern: asked.pattern_type_filter,
        principal: asked.principal_filter.as_ref(),
        host: asked.host_filter.as_ref(),
        operation: asked.operation,
        permission: asked.permission_type,
    };
    filter.read()
}

fn delete(state: &mut State, acl: Acl) -> DeleteAclsMatchingAcl {
    if let Some(authorizer) = &mut state.security.authorizer {
        authorizer.remove(&acl);
    }
    DeleteAclsMatchingAcl {
        error_message: None,
        resource_type: acl.kind.code(),
        resource_name: Str::from(acl.name),
        pattern_type: acl.pattern.code(),
        principal: Str::from(acl.principal),
        host: Str::from(acl.host),
        operation: acl.operation.code(),
        permission_type: acl.permission.code(),
        ..Default::default()
    }
}
