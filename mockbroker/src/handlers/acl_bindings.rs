//! What the three ACL APIs share: rules and filters as requests write them, and who may look at them.

use super::access::To;
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::state::State;
use crate::state::security::acls::{
    AclFilter, Authorizer, FilterPattern, Operation, PatternKind, Permission, ResourceKind,
};
use crate::wire::Str;

/// "Any", in a filter, for every enumeration.
const ANY: i8 = 1;
/// The pattern type that asks for the rules which concern a resource.
const MATCH: i8 = 2;

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
