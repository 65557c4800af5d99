//! What the handlers of groups have in common.

use super::access::To;
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::fault::Part;
use crate::state::State;
use crate::state::security::acls::Operation;
use crate::wire::Str;

/// Refuses unless the caller may do this to the group, it has a name and the broker that was asked coordinates it.
pub(super) fn coordinated(state: &State, from: &Caller, operation: Operation, group: &str) -> Result<(), Reject> {
    from.check_fault(Part::Named(group))?;
    from.check_access(state, operation, To::Group(group))?;
    if group.is_empty() {
        return Err(ErrorCode::InvalidGroupId.into());
    }
    state.check_coordinator(from.node, group)
}

/// Refuses unless the caller may see every one of these topics.
pub(super) fn seeing_all<'a>(
    state: &State,
    from: &Caller,
    topics: impl IntoIterator<Item = &'a str>,
) -> Result<(), Reject> {
    topics.into_iter().try_for_each(|topic| from.check_access(state, Operation::Describe, To::Topic(topic)))
}

/// What a group's description says instead of its members when the caller may not see all their topics.
pub(super) fn unseen_topics() -> Reject {
    Reject::new(ErrorCode::TopicAuthorizationFailed, "members of this group read topics you may not describe")
}

/// Refuses unless the brokers speak the consumer protocol (KIP-848): `group.coordinator.rebalance.protocols`, and the
/// feature `group.version`.
pub(super) fn speaking_consumer_protocol(state: &State) -> Result<(), Reject> {
    let spoken = state.configs.broker_settings().consumer_groups && state.features.level("group.version") > 0;
    if spoken { Ok(()) } else { Err(ErrorCode::UnsupportedVersion.into()) }
}

/// Refuses unless the brokers speak the protocol of share groups (KIP-932).
pub(super) fn speaking_share_protocol(state: &State) -> Result<(), Reject> {
    if state.configs.broker_settings().share_groups { Ok(()) } else { Err(ErrorCode::UnsupportedVersion.into()) }
}

/// Refuses unless the brokers speak the protocol of streams groups (KIP-1071).
pub(super) fn speaking_streams_protocol(state: &State) -> Result<(), Reject> {
    if state.configs.broker_settings().streams_groups { Ok(()) } else { Err(ErrorCode::UnsupportedVersion.into()) }
}

/// The message of a refused heartbeat; Kafka explains neither that it does not speak the protocol nor what is forbidden.
pub(super) fn explained(reject: &Reject) -> Option<Str> {
    let untold =
        [ErrorCode::UnsupportedVersion, ErrorCode::GroupAuthorizationFailed, ErrorCode::TopicAuthorizationFailed];
    super::message(reject).filter(|_| !untold.contains(&reject.code))
}

/// The code of a result without a value.
pub(super) fn code<E: Into<Reject>>(result: Result<(), E>) -> i16 {
    result.err().map_or(ErrorCode::None, |error| error.into().code).code()
}

pub(super) fn optional(text: Option<String>) -> Option<Str> {
    text.map(Str::from)
}
