//! The one way to change a cluster from outside. The Rust API, the command line and the simulator all use it, so that
//! none of them can do what a test cannot.

use crate::error::Reject;
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
    /// Tell clients another address for a broker.
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
    /// Kill a broker's process: its connections are cut and new ones refused. What it led moves to in-sync replicas when
    /// the controller notices ([`ClusterConfig::failover_delay`]); it keeps all it had stored until it starts again and
    /// finds a leader, where it drops what that leader lacks.
    ///
    /// [`ClusterConfig::failover_delay`]: crate::config::ClusterConfig::failover_delay
    Crash(NodeId),
    /// Run a stopped or crashed broker again.
    Start(NodeId),
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
