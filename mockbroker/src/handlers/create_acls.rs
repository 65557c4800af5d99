//! CreateAcls (30), versions 1–3.
//!
//! Does: adds rules for literal names, prefixes and everything; they hold when the answer is there.
//! Leaves out: nothing.
//! Differs from Apache Kafka: none known.

use super::acl_bindings::{ANY, MATCH, UNKNOWN, authorizer, unreadable};
use super::{Answer, message};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::fault::Part;
use crate::state::State;
use crate::state::security::Principal;
use crate::state::security::acls::{Acl, CLUSTER, Operation, PatternKind, Permission, ResourceKind};
use crate::time::Time;
use crate::wire::generated::create_acls_request::{AclCreation, CreateAclsRequest};
use crate::wire::generated::create_acls_response::{AclCreationResult, CreateAclsResponse};

pub(super) fn create_acls(state: &mut State, _: Time, from: &Caller, request: CreateAclsRequest) -> Answer {
    if request.creations.iter().any(says_nothing) {
        return unreadable();
    }
    if request.creations.iter().any(means_several) && authorizer(state, from, Operation::Alter).is_ok() {
        let results = request
            .creations
            .iter()
            .map(|_| AclCreationResult { error_code: ErrorCode::UnknownServerError.code(), error_message: None });
        return Answer::now(CreateAclsResponse { results: results.collect(), ..Default::default() });
    }
    let results = request.creations.iter().map(|asked| match create(state, from, asked) {
        Ok(()) => AclCreationResult::default(),
        Err(reject) => AclCreationResult { error_code: reject.code.code(), error_message: message(&reject) },
    });
    Answer::now(CreateAclsResponse { results: results.collect(), ..Default::default() })
}

fn create(state: &mut State, from: &Caller, asked: &AclCreation) -> Result<(), Reject> {
    from.check_fault(Part::Named(&asked.resource_name))?;
    let authorizer = authorizer(state, from, Operation::Alter)?;
    authorizer.add(read(asked)?);
    Ok(())
}

fn says_nothing(asked: &AclCreation) -> bool {
    [asked.resource_type, asked.resource_pattern_type, asked.operation, asked.permission_type].contains(&UNKNOWN)
}

/// Whether this is what only filters can say. Kafka has no answer to that, for none of the rules beside it
/// (the constructors of `ResourcePattern` and `AccessControlEntry`).
fn means_several(asked: &AclCreation) -> bool {
    [asked.resource_type, asked.operation, asked.permission_type].contains(&ANY)
        || [ANY, MATCH].contains(&asked.resource_pattern_type)
}

fn read(asked: &AclCreation) -> Result<Acl, Reject> {
    let invalid = |why: &'static str| Reject::new(ErrorCode::InvalidRequest, why);
    let kind = ResourceKind::from_code(asked.resource_type).ok_or_else(|| invalid("there is no such resource type"))?;
    if kind == ResourceKind::Cluster && asked.resource_name.as_str() != CLUSTER {
        return Err(invalid("the cluster's only name is kafka-cluster"));
    }
    if asked.resource_name.is_empty() {
        return Err(invalid("a rule is about a name"));
    }
    if Principal::parse(&asked.principal).is_none() {
        return Err(invalid("a principal has a type and a name, with a colon between them"));
    }
    Ok(Acl {
        kind,
        name: asked.resource_name.to_string(),
        pattern: PatternKind::from_code(asked.resource_pattern_type)
            .ok_or_else(|| invalid("a name is literal or a prefix"))?,
        principal: asked.principal.to_string(),
        host: asked.host.to_string(),
        operation: Operation::from_code(asked.operation).ok_or_else(|| invalid("there is no such operation"))?,
        permission: Permission::from_code(asked.permission_type).ok_or_else(|| invalid("a rule allows or denies"))?,
    })
}
