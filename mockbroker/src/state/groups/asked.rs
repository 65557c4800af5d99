//! What members and consumers come with when they ask something of a group.

use bytes::Bytes;

/// Somebody who asks to join a group.
#[derive(Debug, Clone)]
pub struct Candidate<'a> {
    /// The group.
    pub group: &'a str,
    /// Its member id; empty when it has none yet.
    pub member_id: &'a str,
    /// The id its user gave it, for a static member.
    pub instance_id: Option<&'a str>,
    /// Its client id.
    pub client_id: &'a str,
    /// Its address as Kafka writes it: `/127.0.0.1`.
    pub client_host: &'a str,
    /// For how long it may be silent.
    pub session_timeout_ms: i32,
    /// How long the others wait for it to join again.
    pub rebalance_timeout_ms: i32,
    /// The kind of its protocols, `consumer` for consumers.
    pub protocol_type: &'a str,
    /// The protocols it offers, best first.
    pub protocols: Vec<Protocol>,
    /// It understands that it is first told its id, and then joins with it (JoinGroup version 4).
    pub knows_member_id_required: bool,
    /// It understands that it leads without having to assign (JoinGroup version 9).
    pub knows_skip_assignment: bool,
}

/// Who a request says it comes from.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// Its member id; may be empty.
    pub member_id: &'a str,
    /// Its instance id, for a static member.
    pub instance_id: Option<&'a str>,
    /// The generation it believes to be in; negative for none.
    pub generation: i32,
}

/// A member's request for its assignment; the leader's carries everybody's.
#[derive(Debug, Clone)]
pub struct SyncBy<'a> {
    /// Who asks.
    pub claim: Claim<'a>,
    /// The protocol type it believes in; `None` before version 5.
    pub protocol_type: Option<&'a str>,
    /// The protocol it believes to be chosen; `None` before version 5.
    pub protocol: Option<&'a str>,
    /// Assignments by member id.
    pub assignments: Vec<(String, Bytes)>,
}

/// Somebody to be removed from a group.
#[derive(Debug, Clone, Copy)]
pub struct Leaver<'a> {
    /// Its member id; empty to name it by its instance id alone.
    pub member_id: &'a str,
    /// Its instance id, for a static member.
    pub instance_id: Option<&'a str>,
}

/// A way of assigning partitions that a member offers, with the member's own data for it (its subscription).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    /// The name members vote on, such as `range`.
    pub name: String,
    /// Opaque to the coordinator, except that a consumer's subscription starts with its topics.
    pub metadata: Bytes,
}
