//! Groups as others may see them.

use bytes::Bytes;
use serde::Serialize;

/// A group as others may see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupView {
    /// Its id.
    pub group_id: String,
    /// Where it is in its life.
    pub state: State,
    /// The kind of its protocols; `None` for a group that only has offsets.
    pub protocol_type: Option<String>,
    /// The protocol chosen for this generation.
    pub protocol: Option<String>,
    /// How often it has been formed anew.
    pub generation: i32,
    /// The member that assigns.
    pub leader: Option<String>,
    /// Its members, in the order in which they joined.
    pub members: Vec<MemberView>,
    /// Member ids that were given out and have not come back yet.
    pub pending_members: Vec<String>,
}

/// A member as others may see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberView {
    /// The id the coordinator gave it.
    pub member_id: String,
    /// The id its user gave it, which makes it a static member (KIP-345).
    pub group_instance_id: Option<String>,
    /// The client id of its first join.
    pub client_id: String,
    /// Where that join came from, as Kafka writes addresses: `/127.0.0.1`.
    pub client_host: String,
    /// Its data for the chosen protocol; empty unless the group is stable.
    #[serde(serialize_with = "as_list")]
    pub metadata: Bytes,
    /// What the leader gave it, as it was sent.
    #[serde(serialize_with = "as_list")]
    pub assignment: Bytes,
}

/// Where a group is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum State {
    /// Nobody is in it; it may still have offsets.
    Empty,
    /// Waiting for the members to join.
    PreparingRebalance,
    /// Waiting for the leader's assignment.
    CompletingRebalance,
    /// Every member knows, or can ask for, its assignment.
    Stable,
    /// Its coordinator is gone, and no other has taken over yet.
    Dead,
}

impl State {
    /// The name in Kafka's spelling.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }

    pub(super) fn can_rebalance(self) -> bool {
        matches!(self, Self::Empty | Self::CompletingRebalance | Self::Stable)
    }
}

fn as_list<S: serde::Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(bytes.iter())
}
