//! The one way to change a cluster from outside. The Rust API, the command line and the simulator all use it, so that
//! none of them can do what a test cannot.

use crate::error::Reject;
use crate::state::NewTopic;
use crate::state::nodes::NodeId;

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
    /// Cut every connection to a broker and refuse new ones; what it led moves to in-sync replicas at once.
    Crash(NodeId),
    /// Run a crashed broker again.
    Start(NodeId),
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
    /// Kafka would refuse it.
    #[error("{0}")]
    Refused(Reject),
}
