//! The one way to change a cluster from outside. The Rust API, the command line and the simulator all use it, so that
//! none of them can do what a test cannot.

use crate::error::Reject;
use crate::fault::FaultId;
use crate::state::NewTopic;
use crate::state::nodes::NodeId;
use std::time::Duration;

/// Something to do to the cluster.
#[derive(Debug, Clone)]
pub enum Command {
    /// Create a topic, as an administrator would.
    CreateTopic(NewTopic),
    /// Delete a topic with everything in it.
    DeleteTopic(String),
    /// Delete a topic and create it again at once: as many partitions on the same brokers, the same configs, a new id,
    /// nothing in it.
    RecreateTopic(String),
    /// Add partitions up to this total.
    AddPartitions {
        /// The topic.
        topic: String,
        /// How many it is to have.
        total: i32,
    },
    /// Forget a partition's records before this offset, as retention or DeleteRecords does.
    Trim {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The new log start; at most the high watermark.
        before: i64,
    },
    /// Give up now the segments that `retention.ms` and `retention.bytes` give up, without waiting for
    /// `log.retention.check.interval.ms`.
    CheckRetention,
    /// Compact a topic now, however little of it is dirty. What was written last counts as a segment of its own that ends
    /// now, so that everything decided and older than `min.compaction.lag.ms` is compacted. Nothing happens where
    /// `cleanup.policy` does not say `compact`.
    Compact(String),
    /// Tell clients of the first listener another address for a broker.
    Advertise {
        /// The broker.
        node: NodeId,
        /// The host clients are told.
        host: String,
        /// The port clients are told.
        port: u16,
    },
    /// Make an in-sync replica the leader.
    MoveLeader {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The broker that is to lead.
        to: NodeId,
    },
    /// Elect the leader a partition has once more: its epoch rises, clients that know the old one are fenced (KIP-320).
    BumpLeaderEpoch {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// Make a running broker the one administration goes to.
    MoveController(NodeId),
    /// Move the partition of the offsets topic that a group falls on: whoever waits in the group hears
    /// `NOT_COORDINATOR`, and the new coordinator loads what the log has kept.
    MoveCoordinator {
        /// The group; it need not exist yet.
        group: String,
        /// The broker that is to coordinate it; an in-sync replica.
        to: NodeId,
    },
    /// Kill a broker's process: its connections are cut and new ones refused. What it led moves to in-sync replicas when
    /// the controller notices ([`ClusterConfig::failover_delay`]); it keeps all it had stored until it starts again and
    /// finds a leader, where it drops what that leader lacks.
    ///
    /// [`ClusterConfig::failover_delay`]: crate::config::ClusterConfig::failover_delay
    Crash(NodeId),
    /// Run a stopped or crashed broker again.
    Start(NodeId),
    /// Freeze a broker: connections stay and are accepted, requests arrive, nothing is answered until
    /// [`Command::Resume`].
    Pause(NodeId),
    /// Let a frozen broker go on with what it has received.
    Resume(NodeId),
    /// Cut open connections; clients may connect again.
    Disconnect {
        /// Only those to this broker.
        node: Option<NodeId>,
        /// Only those of clients that last said this id.
        client_id: Option<String>,
    },
    /// End a member's session as if it had not been heard of for too long.
    ExpireMember {
        /// The group.
        group: String,
        /// The member's id, group instance id or client id.
        member: String,
    },
    /// Make a group's members join again.
    Rebalance {
        /// The group.
        group: String,
    },
    /// Forget everything a group has committed, as `offsets.retention.minutes` does.
    ExpireOffsets {
        /// The group.
        group: String,
    },
    /// Fence an idempotent producer: partitions it wrote to expect a higher epoch than its own.
    BumpProducerEpoch(i64),
    /// Let so much time pass at once: sessions, waits and delays that end within it end now.
    Advance(Duration),
    /// Move the brokers' wall clock, which stamps records (`LogAppendTime`), forward or back. Waits and sessions, which
    /// go by a monotonic clock, notice nothing.
    JumpClock {
        /// By how many milliseconds.
        by_ms: i64,
    },
    /// Let what a fault holds go on. The fault does not happen again; its hits stay.
    Release(FaultId),
    /// Release a fault and take it out of the plan.
    Forget(FaultId),
    /// Stop a broker in order: its leaders move first, then it flushes and goes.
    Stop(NodeId),
    /// Cut a broker's power: like a crash, and everything it had not flushed is gone. Kafka flushes by `flush.messages`,
    /// by `flush.ms` and when it stops in order, and by default leaves it to the operating system: then all is lost that
    /// no [`Command::Flush`] has saved.
    PowerLoss(NodeId),
    /// Write all a broker has to its disk, as its operating system does now and then.
    Flush(NodeId),
    /// Change how long a broker's replicas take to copy what a leader has, from their next fetch on.
    SetFollowerDelay {
        /// The broker.
        node: NodeId,
        /// How long a fetch takes, there and back.
        delay: Duration,
    },
    /// Stop a follower from copying, until told to resume and even if its broker restarts: it leaves the in-sync replicas
    /// after `replica.lag.time.max.ms` unless nothing new is written.
    StopCopying {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The follower.
        node: NodeId,
    },
    /// Let a follower copy again.
    ResumeCopying {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The follower.
        node: NodeId,
    },
    /// Take a follower out of the in-sync replicas at once and keep it out; it goes on copying.
    ShrinkIsr {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The follower.
        node: NodeId,
    },
    /// Let a follower back into the in-sync replicas, at once if it has caught up and else when it does.
    ExpandIsr {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The follower.
        node: NodeId,
    },
    /// Elect a living replica of a partition without a leader, whatever it lacks. Refused while there is a leader
    /// (`ELECTION_NOT_NEEDED`) and when no replica lives (`ELIGIBLE_LEADERS_NOT_AVAILABLE`).
    ElectUnclean {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
}

/// Why a command did nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// There is no such broker.
    #[error("there is no {0}; see `view().brokers` for those there are")]
    UnknownBroker(NodeId),
    /// The broker does not run.
    #[error("{0} does not run; start it first")]
    NotRunning(NodeId),
    /// The broker runs.
    #[error("{0} runs already")]
    Running(NodeId),
    /// There is no such partition.
    #[error("there is no partition {partition} of topic '{topic}'")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// The broker is not paused.
    #[error("{0} is not paused")]
    NotPaused(NodeId),
    /// There is no such topic.
    #[error("there is no topic '{0}'; see `view().topics` for those there are")]
    UnknownTopic(String),
    /// There is no such group.
    #[error("there is no group '{0}'; see `view().groups` for those there are")]
    UnknownGroup(String),
    /// There is no such member.
    #[error("nobody in group '{group}' has the member id, instance id or client id '{member}'")]
    UnknownMember {
        /// The group.
        group: String,
        /// Who was looked for.
        member: String,
    },
    /// No partition has heard of this producer.
    #[error("no partition has records of a producer with id {0}")]
    UnknownProducer(i64),
    /// The fault is not planned.
    #[error("fault {} is not planned (any more); `faults()` has those that are", .0.0)]
    UnknownFault(FaultId),
    /// Only an in-sync replica on a running broker can lead.
    #[error("{node} holds no in-sync replica of '{topic}' partition {partition}, so it cannot lead it")]
    NotInSync {
        /// The broker.
        node: NodeId,
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// The broker has no replica of this partition.
    #[error("{node} holds no replica of '{topic}' partition {partition}")]
    NoReplica {
        /// The broker.
        node: NodeId,
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// Only a follower that is in sync with a leader can be taken out.
    #[error("{node} does not follow '{topic}' partition {partition} in sync, so it cannot be taken out")]
    NotAFollowerInSync {
        /// The broker.
        node: NodeId,
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// Kafka would refuse it.
    #[error("{0}")]
    Refused(Reject),
}

impl From<Reject> for CommandError {
    fn from(reject: Reject) -> Self {
        Self::Refused(reject)
    }
}
