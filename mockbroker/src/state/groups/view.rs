//! Groups as others may see them.

use super::consumer::ConsumerState;
use crate::wire::Uuid;
use bytes::Bytes;
use serde::Serialize;

/// The kinds of groups, one for each protocol between members and coordinator (`Group.GroupType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum GroupKind {
    /// Members join and sync, one of them assigns.
    Classic,
    /// Members beat, the coordinator assigns (KIP-848).
    Consumer,
    /// Members beat, and may share partitions (KIP-932).
    Share,
    /// Members beat, the coordinator deals out tasks (KIP-1071).
    Streams,
}

impl GroupKind {
    /// The name in Kafka's spelling.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
            Self::Share => "share",
            Self::Streams => "streams",
        }
    }
}

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

/// A group of the consumer protocol as others may see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConsumerGroupView {
    /// Its id.
    pub group_id: String,
    /// Where it is in its life.
    pub state: ConsumerState,
    /// How often members, subscriptions or topics have changed.
    pub epoch: i32,
    /// The epoch its target assignment is for.
    pub assignment_epoch: i32,
    /// The assignor in use.
    pub assignor: &'static str,
    /// Its members, by id.
    pub members: Vec<ConsumerMemberView>,
}

/// A member of a group of the consumer protocol as others may see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConsumerMemberView {
    /// The id it chose.
    pub member_id: String,
    /// The id its user gave it, which makes it a static member.
    pub group_instance_id: Option<String>,
    /// Its rack.
    pub rack: Option<String>,
    /// The epoch it has reached; -2 for a static member that has left for a while.
    pub epoch: i32,
    /// Its client id.
    pub client_id: String,
    /// Where it beats from, as Kafka writes addresses: `/127.0.0.1`.
    pub client_host: String,
    /// The topics it subscribes to by name.
    pub topics: Vec<String>,
    /// The expression it subscribes with; empty for none.
    pub regex: String,
    /// What it has, and what it is still giving up.
    pub assignment: Vec<TopicShare>,
    /// What it is to have.
    pub target: Vec<TopicShare>,
    /// It speaks the classic protocol.
    pub is_classic: bool,
}

/// A share group as others may see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShareGroupView {
    /// Its id.
    pub group_id: String,
    /// `Empty` or `Stable`.
    pub state: &'static str,
    /// How often members, subscriptions or topics have changed.
    pub epoch: i32,
    /// The epoch its target assignment is for.
    pub assignment_epoch: i32,
    /// Its members, by id.
    pub members: Vec<ShareMemberView>,
}

/// A member of a share group as others may see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShareMemberView {
    /// The id it chose.
    pub member_id: String,
    /// Its rack.
    pub rack: Option<String>,
    /// The epoch it has reached.
    pub epoch: i32,
    /// Its client id.
    pub client_id: String,
    /// Where it beats from, as Kafka writes addresses: `/127.0.0.1`.
    pub client_host: String,
    /// The topics it subscribes to.
    pub topics: Vec<String>,
    /// What it may read.
    pub assignment: Vec<TopicShare>,
}

/// Partitions of one topic: its name, its id, and their indices in ascending order.
pub type TopicShare = (String, Uuid, Vec<i32>);

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
