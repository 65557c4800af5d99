//! Subscriptions by regular expression (KIP-848, `TopicRegexResolver`): the coordinator finds the topics.

use super::super::catalog::Catalog;
use crate::error::{ErrorCode, Reject};
use crate::time::Time;
use std::collections::BTreeSet;

/// What an expression stood for when it was last looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resolved {
    pub(super) topics: BTreeSet<String>,
    /// How many topics had been created by then.
    pub(super) version: u64,
    pub(super) at: Time,
}

impl Resolved {
    /// Looks for the topics whose whole name matches; an expression that is none matches nothing.
    pub(super) fn now(expression: &str, catalog: &Catalog, at: Time) -> Self {
        let topics = match whole(expression) {
            Ok(regex) => catalog.names().filter(|name| regex.is_match(name)).map(str::to_owned).collect(),
            Err(_) => BTreeSet::new(),
        };
        Self { topics, version: catalog.created(), at }
    }
}

/// Refuses what is no expression of RE2.
pub(super) fn check(expression: &str) -> Result<(), Reject> {
    whole(expression).map(|_| ()).map_err(|error| {
        let reason = error.to_string();
        let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
        let message = format!("`{expression}` is no expression of RE2: {reason}");
        Reject::new(ErrorCode::InvalidRegularExpression, message)
    })
}

/// The expression for a whole name. The crate's syntax is that of RE2, its matching linear as RE2's.
fn whole(expression: &str) -> Result<regex::Regex, regex::Error> {
    // By itself first, so that `)(` is no expression.
    regex::Regex::new(expression)?;
    regex::Regex::new(&format!("^(?:{expression})$"))
}
