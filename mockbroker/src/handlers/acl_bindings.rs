//! What the three ACL APIs share: rules and filters as requests write them, and who may look at them.

use super::Answer;
use super::access::To;
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::state::State;
use crate::state::security::acls::{
    AclFilter, Authorizer, FilterPattern, Operation, PatternKind, Permission, ResourceKind,
};
use crate::wire::Str;

/// What clients never send: Kafka reads no request in which an enumeration says that it says nothing
/// (the constructors of `CreateAclsRequest`, `DescribeAclsRequest` and `DeleteAclsRequest`).
pub(super) const UNKNOWN: i8 = 0;
/// "Any", in a filter, for every enumeration.
pub(super) const ANY: i8 = 1;
/// The pattern type that asks for the rules which concern a resource.
pub(super) const MATCH: i8 = 2;

/// The end of a connection on which [`UNKNOWN`] was said.
pub(super) fn unreadable() -> Answer {
    Answer::Close("a rule or a filter of rules says of a part of itself that it is unknown".into())
}

/// The authoriser, for those who may do this to the cluster.
pub(super) fn authorizer<'a>(
    state: &'a mut State,
    from: &Caller,
    operation: Operation,
) -> Result<&'a mut Authorizer, Reject> {
    from.check_access(state, operation, To::Cluster)?;
    let disabled = || Reject::new(ErrorCode::SecurityDisabled, "the brokers have no authoriser");
    state.security.authorizer.as_mut().ok_or_else(disabled)
}

/// A filter as requests write it.
pub(super) struct AskedFilter<'a> {
    pub(super) kind: i8,
    pub(super) name: Option<&'a Str>,
    pub(super) pattern: i8,
    pub(super) principal: Option<&'a Str>,
    pub(super) host: Option<&'a Str>,
    pub(super) operation: i8,
    pub(super) permission: i8,
}

impl AskedFilter<'_> {
    /// The filter; refuses what it cannot mean.
    pub(super) fn read(&self) -> Result<AclFilter, Reject> {
        let text = |text: Option<&Str>| text.map(ToString::to_string);
        Ok(AclFilter {
            kind: any_or(self.kind, ResourceKind::from_code, "resource type")?,
            name: text(self.name),
            pattern: match self.pattern {
                ANY => FilterPattern::Any,
                MATCH => FilterPattern::Match,
                other => {
                    PatternKind::from_code(other).map(FilterPattern::Only).ok_or_else(|| unknown("pattern type"))?
                }
            },
            principal: text(self.principal),
            host: text(self.host),
            operation: any_or(self.operation, Operation::from_code, "operation")?,
            permission: any_or(self.permission, Permission::from_code, "permission type")?,
        })
    }
}

fn any_or<T>(code: i8, read: fn(i8) -> Option<T>, what: &str) -> Result<Option<T>, Reject> {
    match code {
        ANY => Ok(None),
        code => read(code).map(Some).ok_or_else(|| unknown(what)),
    }
}

fn unknown(what: &str) -> Reject {
    Reject::new(ErrorCode::InvalidRequest, format!("the {what} is none that we know"))
}
