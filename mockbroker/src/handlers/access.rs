//! The one place where handlers ask the authoriser, and how a refusal is called.
//!
//! As with [`Caller::check_fault`], a handler asks before it does anything; Kafka asks before it says whether a thing
//! exists, so that a refusal tells nothing.

use super::named_topic;
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::state::State;
use crate::state::security::acls::{CLUSTER, Operation, ResourceKind, Who};
use crate::wire::{Str, Uuid};

/// What somebody wants to use.
#[derive(Debug, Clone, Copy)]
pub(super) enum To<'a> {
    Topic(&'a str),
    Group(&'a str),
    TransactionalId(&'a str),
    Cluster,
}

impl<'a> To<'a> {
    fn resource(self) -> (ResourceKind, &'a str) {
        match self {
            Self::Topic(name) => (ResourceKind::Topic, name),
            Self::Group(name) => (ResourceKind::Group, name),
            Self::TransactionalId(name) => (ResourceKind::TransactionalId, name),
            Self::Cluster => (ResourceKind::Cluster, CLUSTER),
        }
    }

    fn refusal(self) -> ErrorCode {
        match self {
            Self::Topic(_) => ErrorCode::TopicAuthorizationFailed,
            Self::Group(_) => ErrorCode::GroupAuthorizationFailed,
            Self::TransactionalId(_) => ErrorCode::TransactionalIdAuthorizationFailed,
            Self::Cluster => ErrorCode::ClusterAuthorizationFailed,
        }
    }

    /// What can be done to it at all (`AclEntry.supportedOperations`).
    fn operations(self) -> &'static [Operation] {
        use Operation::*;
        match self {
            Self::Topic(_) => &[Read, Write, Create, Delete, Alter, Describe, DescribeConfigs, AlterConfigs],
            Self::Group(_) => &[Read, Delete, Describe, DescribeConfigs, AlterConfigs],
            Self::TransactionalId(_) => &[Write, Describe, TwoPhaseCommit],
            Self::Cluster => &[Create, Alter, Describe, ClusterAction, DescribeConfigs, AlterConfigs, IdempotentWrite],
        }
    }
}

impl Caller {
    /// Refuses unless the authoriser, if there is one, lets the caller do this.
    pub(super) fn check_access(&self, state: &State, operation: Operation, to: To<'_>) -> Result<(), Reject> {
        if self.has_access(state, operation, to) { Ok(()) } else { Err(to.refusal().into()) }
    }

    /// Whether the authoriser, if there is one, lets the caller do this.
    pub(super) fn has_access(&self, state: &State, operation: Operation, to: To<'_>) -> bool {
        let (kind, name) = to.resource();
        let authorizer = state.security.authorizer.as_ref();
        authorizer.is_none_or(|authorizer| authorizer.allows(&self.who(), operation, kind, name))
    }

    /// Whether the caller may create a topic of this name.
    pub(super) fn may_create(&self, state: &State, name: &str) -> bool {
        self.has_access(state, Operation::Create, To::Cluster)
            || self.has_access(state, Operation::Create, To::Topic(name))
    }

    /// Whether there may be a topic the caller can write to.
    pub(super) fn may_write_somewhere(&self, state: &State) -> bool {
        let authorizer = state.security.authorizer.as_ref();
        authorizer
            .is_none_or(|authorizer| authorizer.allows_somewhere(&self.who(), Operation::Write, ResourceKind::Topic))
    }

    /// What the caller may do to this, as the bit field of `authorized_operations` (KIP-430).
    pub(super) fn operations_on(&self, state: &State, to: To<'_>) -> i32 {
        let operations = to.operations().iter().filter(|operation| self.has_access(state, **operation, to));
        operations.fold(0, |bits, operation| bits | 1 << operation.code())
    }

    /// What the caller may do to the cluster; nothing, for somebody who may not so much as look at it.
    pub(super) fn operations_on_cluster(&self, state: &State) -> i32 {
        if self.has_access(state, Operation::Describe, To::Cluster) {
            self.operations_on(state, To::Cluster)
        } else {
            0
        }
    }

    fn who(&self) -> Who<'_> {
        Who { principal: &self.principal, host: self.client_host.trim_start_matches('/') }
    }
}

/// The topic a request names, if the caller may do this to it. Of a topic named by name nobody learns whether it exists
/// who may not use it; ids are no secret.
pub(super) fn permitted_topic(
    state: &State,
    from: &Caller,
    operation: Operation,
    by_id: bool,
    id: Uuid,
    name: &Str,
) -> Result<String, Reject> {
    if !by_id {
        from.check_access(state, operation, To::Topic(name))?;
        return named_topic(state, by_id, id, name);
    }
    let name = named_topic(state, by_id, id, name)?;
    from.check_access(state, operation, To::Topic(&name))?;
    Ok(name)
}
