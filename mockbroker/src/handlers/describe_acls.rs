//! DescribeAcls (29), versions 1–3.
//!
//! Does: the rules a filter asks for, by resource; also those that concern a resource, whatever their pattern.
//! Leaves out: nothing.
//! Differs from Apache Kafka: rules come sorted.

use super::acl_bindings::{AskedFilter, UNKNOWN, authorizer, unreadable};
use super::{Answer, message};
use crate::cluster::Caller;
use crate::error::Reject;
use crate::fault::Part;
use crate::state::State;
use crate::state::security::acls::{Acl, Operation};
use crate::time::Time;
use crate::wire::Str;
use crate::wire::generated::describe_acls_request::DescribeAclsRequest;
use crate::wire::generated::describe_acls_response::{AclDescription, DescribeAclsResource, DescribeAclsResponse};

pub(super) fn describe_acls(state: &mut State, _: Time, from: &Caller, request: DescribeAclsRequest) -> Answer {
    let said = [request.resource_type_filter, request.pattern_type_filter, request.operation, request.permission_type];
    if said.contains(&UNKNOWN) {
        return unreadable();
    }
    Answer::now(match describe(state, from, &request) {
        Ok(acls) => DescribeAclsResponse { resources: by_resource(acls), ..Default::default() },
        Err(reject) => DescribeAclsResponse {
            error_code: reject.code.code(),
            error_message: message(&reject),
            ..Default::default()
        },
    })
}

fn describe(state: &mut State, from: &Caller, asked: &DescribeAclsRequest) -> Result<Vec<Acl>, Reject> {
    from.check_fault(Part::Whole)?;
    let authorizer = authorizer(state, from, Operation::Describe)?;
    let filter = AskedFilter {
        kind: asked.resource_type_filter,
        name: asked.resource_name_filter.as_ref(),
        pattern: asked.pattern_type_filter,
        principal: asked.principal_filter.as_ref(),
        host: asked.host_filter.as_ref(),
        operation: asked.operation,
        permission: asked.permission_type,
    };
    // A kind of rules that nobody knows has none.
    let Ok(filter) = filter.read() else { return Ok(Vec::new()) };
    Ok(authorizer.matching(&filter).cloned().collect())
}

/// Rules are sorted by resource.
fn by_resource(acls: Vec<Acl>) -> Vec<DescribeAclsResource> {
    let mut resources: Vec<DescribeAclsResource> = Vec::new();
    for acl in acls {
        let (kind, pattern) = (acl.kind.code(), acl.pattern.code());
        let same = |last: &&mut DescribeAclsResource| {
            (last.resource_type, last.resource_name.as_str(), last.pattern_type) == (kind, acl.name.as_str(), pattern)
        };
        let description = AclDescription {
            principal: Str::from(acl.principal),
            host: Str::from(acl.host),
            operation: acl.operation.code(),
            permission_type: acl.permission.code(),
        };
        match resources.last_mut().filter(same) {
            Some(last) => last.acls.push(description),
            None => resources.push(DescribeAclsResource {
                resource_type: kind,
                resource_name: Str::from(acl.name),
                pattern_type: pattern,
                acls: vec![description],
            }),
        }
    }
    resources
}
