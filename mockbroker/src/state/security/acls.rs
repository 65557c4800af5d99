//! Access control lists and the rules of Kafka's `StandardAuthorizer`.

use super::Principal;
use crate::config::ConfigError;
use std::collections::{BTreeMap, BTreeSet};

/// Declares an enumeration of the protocol with its numbers.
macro_rules! coded {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $code:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i8)]
        pub enum $name { $($(#[$variant_doc])* $variant = $code),+ }

        impl $name {
            /// As requests number it.
            pub fn code(self) -> i8 {
                self as i8
            }

            /// What has this number.
            pub fn from_code(code: i8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

coded! {
    /// What kind of thing a rule is about (`ResourceType`).
    ResourceKind {
        /// A topic.
        Topic = 2,
        /// A group.
        Group = 3,
        /// The cluster, whose name is always the same.
        Cluster = 4,
        /// A transactional id.
        TransactionalId = 5,
        /// A delegation token.
        DelegationToken = 6,
        /// A user.
        User = 7,
    }
}

coded! {
    /// How a rule names its resources (`PatternType`).
    PatternKind {
        /// By the whole name; `*` is every name.
        Literal = 3,
        /// By how the name begins.
        Prefixed = 4,
    }
}

coded! {
    /// What somebody does (`AclOperation`).
    Operation {
        /// Everything, in a rule.
        All = 2,
        /// Read.
        Read = 3,
        /// Write.
        Write = 4,
        /// Create.
        Create = 5,
        /// Delete.
        Delete = 6,
        /// Alter.
        Alter = 7,
        /// Describe.
        Describe = 8,
        /// What brokers do among themselves.
        ClusterAction = 9,
        /// Describe configs.
        DescribeConfigs = 10,
        /// Alter configs.
        AlterConfigs = 11,
        /// Write with an idempotent producer.
        IdempotentWrite = 12,
        /// Create delegation tokens.
        CreateTokens = 13,
        /// Describe delegation tokens.
        DescribeTokens = 14,
        /// Begin a transaction of two phases.
        TwoPhaseCommit = 15,
    }
}

coded! {
    /// Whether a rule lets or forbids (`AclPermissionType`).
    Permission {
        /// It forbids.
        Deny = 2,
        /// It lets.
        Allow = 3,
    }
}

/// The name of the one resource of kind [`ResourceKind::Cluster`].
pub const CLUSTER: &str = "kafka-cluster";
/// Every resource, every host.
pub const ANY: &str = "*";
/// Everybody.
pub const EVERYBODY: &str = "User:*";

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acl {
    /// What kind of thing it is about.
    pub kind: ResourceKind,
    /// The resource's name, or how it begins.
    pub name: String,
    /// Which of both.
    pub pattern: PatternKind,
    /// Whom it is about, e.g. `User:alice`.
    pub principal: String,
    /// The address they come from, or `*`.
    pub host: String,
    /// What they do.
    pub operation: Operation,
    /// Whether they may.
    pub permission: Permission,
}

/// Which rules are asked for; `None` is any.
#[derive(Debug, Clone, Default)]
pub struct AclFilter {
    /// About this kind of thing.
    pub kind: Option<ResourceKind>,
    /// With this name.
    pub name: Option<String>,
    /// How the name is meant.
    pub pattern: FilterPattern,
    /// About this principal.
    pub principal: Option<String>,
    /// And this host.
    pub host: Option<String>,
    /// About this operation.
    pub operation: Option<Operation>,
    /// Which allow, or forbid.
    pub permission: Option<Permission>,
}

/// How the name of a filter is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FilterPattern {
    /// The rule's own name, whatever its pattern.
    #[default]
    Any,
    /// Rules that concern the resource of this name.
    Match,
    /// The rule's own name, and this pattern.
    Only(PatternKind),
}

impl Acl {
    fn concerns(&self, kind: ResourceKind, name: &str) -> bool {
        self.kind == kind
            && match self.pattern {
                PatternKind::Literal => self.name == name || self.name == ANY,
                PatternKind::Prefixed => name.starts_with(&self.name),
            }
    }

    fn is_about(&self, who: &Who<'_>) -> bool {
        let principal = Principal::parse(&self.principal);
        (self.principal == EVERYBODY || principal.as_ref() == Some(who.principal))
            && (self.host == ANY || self.host == who.host)
    }

    /// Whether it decides about this operation. To be let read, write, delete or alter is to be let describe; a rule that
    /// forbids implies nothing.
    fn decides(&self, operation: Operation) -> bool {
        use Operation::{Alter, AlterConfigs, Delete, Describe, DescribeConfigs, Read, Write};
        let implied = match operation {
            Describe => matches!(self.operation, Read | Write | Delete | Alter),
            DescribeConfigs => self.operation == AlterConfigs,
            _ => false,
        };
        self.operation == Operation::All
            || self.operation == operation
            || (implied && self.permission == Permission::Allow)
    }
}

impl AclFilter {
    /// Whether this rule is one of those asked for (`AclBindingFilter.matches`).
    pub fn matches(&self, acl: &Acl) -> bool {
        let name_fits = match (&self.name, self.pattern) {
            (None, FilterPattern::Only(pattern)) => acl.pattern == pattern,
            (None, _) => true,
            (Some(name), FilterPattern::Any) => acl.name == *name,
            (Some(name), FilterPattern::Only(pattern)) => acl.pattern == pattern && acl.name == *name,
            (Some(name), FilterPattern::Match) => match acl.pattern {
                PatternKind::Literal => acl.name == *name || acl.name == ANY,
                PatternKind::Prefixed => name.starts_with(&acl.name),
            },
        };
        name_fits
            && self.kind.is_none_or(|kind| kind == acl.kind)
            && self.principal.as_ref().is_none_or(|principal| *principal == acl.principal)
            && self.host.as_ref().is_none_or(|host| *host == acl.host)
            && self.operation.is_none_or(|operation| operation == acl.operation)
            && self.permission.is_none_or(|permission| permission == acl.permission)
    }
}

/// Who asks, and where from.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// Who.
    pub principal: &'a Principal,
    /// The address without a slash, e.g. `127.0.0.1`.
    pub host: &'a str,
}

/// Says who may do what.
#[derive(Debug, Clone)]
pub struct Authorizer {
    acls: BTreeSet<Acl>,
    super_users: BTreeSet<String>,
    /// Whether everybody may do everything with what no rule is about.
    open: bool,
}

/// The config that names the authoriser's class.
pub const CLASS_CONFIG: &str = "authorizer.class.name";
/// The one class of an authoriser we know.
pub const STANDARD: &str = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";
/// The authoriser's own config: who may do everything, separated by semicolons.
pub const SUPER_USERS_CONFIG: &str = "super.users";
/// The authoriser's own config: whether everybody may do everything with what no rule is about.
pub const OPEN_CONFIG: &str = "allow.everyone.if.no.acl.found";
/// Configs that only the authoriser knows; a broker keeps them without looking.
pub const OWN_CONFIGS: [&str; 2] = [SUPER_USERS_CONFIG, OPEN_CONFIG];

impl Authorizer {
    /// The authoriser these broker configs ask for, if any.
    pub fn of(configs: &BTreeMap<String, String>) -> Result<Option<Self>, ConfigError> {
        let config = |name: &str| configs.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
        match config(CLASS_CONFIG) {
            None => Ok(None),
            Some(STANDARD) => {
                let super_users = config(SUPER_USERS_CONFIG).unwrap_or_default().split(';').map(str::trim);
                Ok(Some(Self {
                    acls: BTreeSet::new(),
                    super_users: super_users.filter(|user| !user.is_empty()).map(str::to_owned).collect(),
                    open: config(OPEN_CONFIG).is_some_and(|open| open.eq_ignore_ascii_case("true")),
                }))
            }
            Some(other) => Err(ConfigError::Authorizer(other.to_owned())),
        }
    }

    /// Whether somebody may do this to the resource of this name. A rule that forbids wins over any that allows.
    pub fn allows(&self, who: &Who<'_>, operation: Operation, kind: ResourceKind, name: &str) -> bool {
        if self.super_users.contains(&who.principal.to_string()) {
            return true;
        }
        let mut known = false;
        let mut allowed = false;
        for acl in self.acls.iter().filter(|acl| acl.concerns(kind, name)) {
            known = true;
            if acl.is_about(who) && acl.decides(operation) {
                match acl.permission {
                    Permission::Deny => return false,
                    Permission::Allow => allowed = true,
                }
            }
        }
        if known { allowed } else { self.open }
    }

    /// Whether there may be a resource of this kind to which somebody may do this (`Authorizer.authorizeByResourceType`).
    pub fn allows_somewhere(&self, who: &Who<'_>, operation: Operation, kind: ResourceKind) -> bool {
        // As in Kafka a name nobody uses stands for any, which lets super users in whatever else is forbidden.
        if self.allows(who, operation, kind, "hardcode") {
            return true;
        }
        let says = |acl: &&Acl| matches!(acl.operation, op if op == operation || op == Operation::All);
        let rules = || self.acls.iter().filter(|acl| acl.kind == kind && acl.is_about(who)).filter(says);
        let forbidden: Vec<&Acl> = rules().filter(|acl| acl.permission == Permission::Deny).collect();
        let everywhere = |acl: &Acl| acl.pattern == PatternKind::Literal && acl.name == ANY;
        if forbidden.iter().any(|acl| everywhere(acl)) {
            return false;
        }
        let dominates = |deny: &Acl, allow: &Acl| match deny.pattern {
            PatternKind::Literal => allow.pattern == PatternKind::Literal && deny.name == allow.name,
            PatternKind::Prefixed => allow.name.starts_with(&deny.name),
        };
        rules()
            .filter(|acl| acl.permission == Permission::Allow)
            .any(|allow| everywhere(allow) || !forbidden.iter().any(|deny| dominates(deny, allow)))
    }

    /// Adds a rule; one that is there already stays.
    pub fn add(&mut self, acl: Acl) {
        self.acls.insert(acl);
    }

    /// The rules a filter asks for, in order.
    pub fn matching<'a>(&'a self, filter: &'a AclFilter) -> impl Iterator<Item = &'a Acl> {
        self.acls.iter().filter(|acl| filter.matches(acl))
    }

    /// Forgets a rule.
    pub fn remove(&mut self, acl: &Acl) {
        self.acls.remove(acl);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Operation::{All, Alter, Describe, Read, Write};
    use Permission::{Allow, Deny};

    fn authorizer(rules: &[(&str, PatternKind, &str, Operation, Permission)]) -> Authorizer {
        let configs = [(CLASS_CONFIG, STANDARD), (SUPER_USERS_CONFIG, "User:root; User:admin")];
        let configs = configs.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let mut authorizer = Authorizer::of(&configs).expect("a class we know").expect("an authoriser");
        for (name, pattern, principal, operation, permission) in rules {
            authorizer.add(Acl {
                kind: ResourceKind::Topic,
                name: (*name).into(),
                pattern: *pattern,
                principal: (*principal).into(),
                host: ANY.into(),
                operation: *operation,
                permission: *permission,
            });
        }
        authorizer
    }

    fn may(authorizer: &Authorizer, user: &str, operation: Operation, topic: &str) -> bool {
        let principal = Principal::user(user);
        let who = Who { principal: &principal, host: "127.0.0.1" };
        authorizer.allows(&who, operation, ResourceKind::Topic, topic)
    }

    #[test]
    fn what_no_rule_is_about_is_forbidden_unless_told_otherwise() {
        let mut rules = authorizer(&[]);
        assert!(!may(&rules, "alice", Read, "orders"));
        rules.open = true;
        assert!(may(&rules, "alice", Read, "orders"));
        rules.add(authorizer(&[("orders", PatternKind::Literal, "User:bob", Read, Allow)]).acls.pop_first().unwrap());
        assert!(!may(&rules, "alice", Read, "orders"), "there is a rule now, and it does not let her");
    }

    #[test]
    fn to_forbid_wins_whatever_allows() {
        let rules = authorizer(&[
            (ANY, PatternKind::Literal, "User:alice", All, Allow),
            ("pay", PatternKind::Prefixed, EVERYBODY, Write, Deny),
        ]);
        assert!(may(&rules, "alice", Write, "orders"));
        assert!(!may(&rules, "alice", Write, "payments"));
        assert!(may(&rules, "alice", Read, "payments"));
        assert!(may(&rules, "root", Write, "payments"), "super users may");
        assert!(may(&rules, "admin", Write, "payments"), "all of them");
    }

    #[test]
    fn to_be_let_read_is_to_be_let_describe_and_not_the_other_way_round() {
        let rules = authorizer(&[
            ("orders", PatternKind::Literal, "User:alice", Read, Allow),
            ("orders", PatternKind::Literal, "User:bob", Describe, Allow),
            ("orders", PatternKind::Literal, "User:carol", Describe, Allow),
            ("orders", PatternKind::Literal, "User:carol", Alter, Deny),
        ]);
        assert!(may(&rules, "alice", Describe, "orders"));
        assert!(!may(&rules, "bob", Read, "orders"));
        assert!(may(&rules, "carol", Describe, "orders"), "what is forbidden implies nothing");
    }

    #[test]
    fn somewhere_is_where_no_rule_that_forbids_dominates() {
        let principal = Principal::user("alice");
        let who = Who { principal: &principal, host: "127.0.0.1" };
        let somewhere = |rules: &Authorizer| rules.allows_somewhere(&who, Write, ResourceKind::Topic);
        let own = ("pay-1", PatternKind::Literal, "User:alice", Write, Allow);
        assert!(!somewhere(&authorizer(&[])));
        assert!(somewhere(&authorizer(&[own])));
        assert!(!somewhere(&authorizer(&[own, ("pay", PatternKind::Prefixed, EVERYBODY, Write, Deny)])));
        assert!(!somewhere(&authorizer(&[own, (ANY, PatternKind::Literal, EVERYBODY, Write, Deny)])));
    }
}
