//! What a cluster is made of before its first request: brokers, topics, configs, limits, the seed.

mod security;

pub use security::{ListenerConfig, SaslMechanism, SecurityProtocol, UserConfig};

use crate::release::Release;
use crate::state::configs::InvalidConfig;
use crate::state::nodes::{Endpoint, ListenerId, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A cluster to be made.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// Its brokers; at least one.
    pub nodes: Vec<NodeConfig>,
    /// Where clients may connect, the same on every broker; at least one. Default one, `PLAINTEXT`, which asks nothing.
    pub listeners: Vec<ListenerConfig>,
    /// Who can log in by SASL from the start.
    pub users: Vec<UserConfig>,
    /// Topics that exist from the start.
    pub topics: Vec<TopicConfig>,
    /// Broker configs by Kafka's names, e.g. `num.partitions`; the same on every broker.
    pub configs: BTreeMap<String, String>,
    /// Where all chance comes from: topic ids, member ids. Equal seeds and requests give equal answers.
    pub seed: u64,
    /// How many of the most recent requests are kept for [`Cluster::requests`](crate::cluster::Cluster::requests); 0
    /// keeps none. Beside this number, frames of 16 MiB together are the bound.
    pub requests_kept: usize,
    /// The release of Kafka whose API versions and features are advertised; requests of later versions are refused as that
    /// release would. Behaviour is 4.3's in every version. Default [`Release::V4_3`].
    pub release: Release,
    /// The level of the feature `transaction.version`, 0 to 2 (KIP-890). Clients go by it, and so do coordinators where
    /// they end a transaction by themselves. 2 is what Kafka 4.3 formats new clusters with. A release
    /// before 4.0 has only 0, whatever is said here.
    pub transaction_version: i16,
    /// How long a follower's fetch takes, there and back: a record is known to be copied so long after it was
    /// appended. Default zero: followers copy at once. [`Command::SetFollowerDelay`] changes it for one broker.
    ///
    /// [`Command::SetFollowerDelay`]: crate::control::Command::SetFollowerDelay
    pub follower_delay: Duration,
    /// How long the controller takes to notice a crash; Kafka's `broker.session.timeout.ms` is nine seconds. Until then
    /// metadata still names the dead leader. Default zero: leaders move at once.
    pub failover_delay: Duration,
    /// Whether replicas outside of the in-sync set may be eligible leaders (KIP-966). Default true, as in a cluster
    /// formatted by Kafka 4.3 (`eligible.leader.replicas.version` 1); false is Kafka before 4.1, where the last in-sync
    /// replica is elected again whatever it lost.
    pub eligible_leader_replicas: bool,
    /// Whether a replica that becomes a follower cuts its log back to the high watermark it knows, as Kafka did before
    /// leader epochs (KIP-101), instead of to where its log parts from the leader's. Default false.
    pub truncate_to_high_watermark: bool,
}

/// Enough for everything a test does, and a bound for a server that runs for days.
const REQUESTS_KEPT: usize = 10_000;

/// The highest level Kafka 4.3 calls ready for production.
pub(crate) const TRANSACTION_VERSION: i16 = 2;

/// A broker to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// Its id, unique and not negative.
    pub id: NodeId,
    /// The host clients of the first listener are told.
    pub host: String,
    /// The port clients of the first listener are told; a driver that picks a free one sets it later.
    pub port: u16,
    /// Its rack.
    pub rack: Option<String>,
}

/// A topic to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicConfig {
    /// Its name.
    pub name: String,
    /// How many partitions; `None` takes `num.partitions`.
    pub partitions: Option<i32>,
    /// How many replicas of each; `None` takes `default.replication.factor`, or as many as there are brokers up to 3.
    pub replication_factor: Option<i16>,
    /// Topic configs by Kafka's names, e.g. `cleanup.policy`.
    pub configs: BTreeMap<String, String>,
}

impl TopicConfig {
    /// A topic with this many partitions and default replication.
    pub fn new(name: impl Into<String>, partitions: i32) -> Self {
        Self { name: name.into(), partitions: Some(partitions), replication_factor: None, configs: BTreeMap::new() }
    }
}

impl Default for ClusterConfig {
    /// One broker with id 1, no topics, Kafka's defaults.
    fn default() -> Self {
        Self::with_brokers(1)
    }
}

impl ClusterConfig {
    /// `count` brokers with ids from 1, each in a rack of its own.
    pub fn with_brokers(count: i32) -> Self {
        let nodes = (1..=count).map(|id| NodeConfig {
            id: NodeId(id),
            host: "127.0.0.1".into(),
            port: 0,
            rack: Some(format!("rack-{id}")),
        });
        Self {
            nodes: nodes.collect(),
            listeners: vec![ListenerConfig::new(SecurityProtocol::Plaintext)],
            users: Vec::new(),
            topics: Vec::new(),
            configs: BTreeMap::new(),
            seed: 0,
            requests_kept: REQUESTS_KEPT,
            release: Release::default(),
            transaction_version: TRANSACTION_VERSION,
            follower_delay: Duration::ZERO,
            failover_delay: Duration::ZERO,
            eligible_leader_replicas: true,
            truncate_to_high_watermark: false,
        }
    }

    /// The host and port clients of a listener are told of a broker.
    pub fn address(&self, node: &NodeConfig, listener: ListenerId) -> Endpoint {
        let own = self.listeners.get(listener.0).and_then(|listener| listener.endpoints.get(&node.id));
        own.cloned().unwrap_or_else(|| Endpoint { host: node.host.clone(), port: node.port })
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.nodes.is_empty() {
            return Err(ConfigError::NoBrokers);
        }
        let mut ids = BTreeSet::new();
        for node in &self.nodes {
            if node.id.0 < 0 || !ids.insert(node.id) {
                return Err(ConfigError::BrokerId(node.id.0));
            }
        }
        security::check(&self.listeners, &self.users)?;
        if !(0..=TRANSACTION_VERSION).contains(&self.transaction_version) {
            return Err(ConfigError::TransactionVersion(self.transaction_version));
        }
        Ok(())
    }
}

/// Why a cluster cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A cluster needs a broker.
    #[error("a cluster needs at least one broker; ask for `brokers(1)` or more")]
    NoBrokers,
    /// Ids are unique and not negative.
    #[error("broker id {0} is negative or used twice; give every broker its own id from 0 up")]
    BrokerId(i32),
    /// Clients must be able to connect.
    #[error("a cluster needs at least one listener")]
    NoListeners,
    /// Listeners are told apart by their names.
    #[error("two listeners are named '{0}'; give each a name of its own")]
    ListenerTwice(String),
    /// A user needs a name, and a password unless tokens speak for it.
    #[error("a user needs a name and a password")]
    User,
    /// A mechanism of SASL that is not there.
    #[error("'{0}' is no SASL mechanism we know; there are PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 and OAUTHBEARER")]
    Mechanism(String),
    /// An authoriser that is not there.
    #[error("'{0}' is no authoriser we know; there is org.apache.kafka.metadata.authorizer.StandardAuthorizer")]
    Authorizer(String),
    /// There are three levels.
    #[error("transaction.version is 0, 1 or 2, not {0}")]
    TransactionVersion(i16),
    /// A broker config Kafka would not start with.
    #[error("broker configuration")]
    Config(#[from] InvalidConfig),
    /// A topic Kafka would not create.
    #[error("topic '{topic}' cannot be created: {reason}")]
    Topic {
        /// Its name.
        topic: String,
        /// What Kafka would say.
        reason: String,
    },
}
