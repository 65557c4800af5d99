//! What a Rust test holds in its hand: a cluster on loopback ports that lives as long as the handle.

use crate::config::{ClusterConfig, NodeConfig, TopicConfig};
use crate::control::{Command, CommandError};
use crate::server::{Server, ServerConfig, StartError};
use crate::state::NewTopic;
use crate::state::nodes::NodeId;
use crate::view::View;
use crate::wire::batch::{self, Record};
use std::net::IpAddr;

/// A running cluster. `Send + Sync`; stops when it is dropped; independent of the caller's runtime, if there is one.
///
/// ```
/// use rehearsal_mockbroker::testing::MockCluster;
///
/// let kafka = MockCluster::builder().brokers(3).topic("orders", 6).start()?;
/// assert_eq!(kafka.bootstrap_servers().split(',').count(), 3);
/// assert_eq!(kafka.view().topic("orders").unwrap().partitions.len(), 6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct MockCluster {
    server: Server,
}

/// Says what cluster is wanted. Every method has a default, so `MockCluster::builder().start()` is one broker without
/// topics that creates them on demand, as Kafka does.
#[derive(Debug, Clone)]
pub struct Builder {
    brokers: i32,
    first_id: i32,
    racks: bool,
    server: ServerConfig,
}

/// A record as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its offset.
    pub offset: i64,
    /// Key, value, headers and timestamp.
    pub record: Record,
}

impl MockCluster {
    /// Begins to describe a cluster.
    pub fn builder() -> Builder {
        Builder { brokers: 1, first_id: 1, racks: true, server: ServerConfig::new(ClusterConfig::with_brokers(1)) }
    }

    /// What a client's `bootstrap.servers` wants: `host:port` of every broker, comma-separated.
    pub fn bootstrap_servers(&self) -> String {
        self.server.bootstrap_servers()
    }

    /// Every broker's id with the address clients are told, in order of ids.
    pub fn advertised(&self) -> &[(NodeId, String)] {
        self.server.advertised()
    }

    /// Carries out any [`Command`].
    ///
    /// # Errors
    /// The command is impossible; nothing has changed.
    pub fn control(&self, command: Command) -> Result<(), CommandError> {
        self.server.control(command)
    }

    /// Creates a topic with this many partitions.
    ///
    /// # Errors
    /// What Kafka would refuse: it exists, its name is not one, there are too few brokers.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), CommandError> {
        let replicas = self.server.advertised().len().min(3) as i16;
        self.control(Command::CreateTopic(NewTopic {
            name: name.to_owned(),
            partitions: Some(partitions),
            replication_factor: Some(replicas),
            ..Default::default()
        }))
    }

    /// Cuts every connection to a broker and refuses new ones; leaders move at once. See [`Command::Crash`].
    ///
    /// # Errors
    /// There is no such broker, or it does not run.
    pub fn crash(&self, broker: i32) -> Result<(), CommandError> {
        self.control(Command::Crash(NodeId(broker)))
    }

    /// Runs a crashed broker again, on the port it had.
    ///
    /// # Errors
    /// There is no such broker, or it runs.
    pub fn start_broker(&self, broker: i32) -> Result<(), CommandError> {
        self.control(Command::Start(NodeId(broker)))
    }

    /// What the cluster looks like now.
    pub fn view(&self) -> View {
        self.server.view()
    }

    /// The records of a partition, oldest first; `None` when there is no such partition.
    pub fn records(&self, topic: &str, partition: i32) -> Option<Vec<StoredRecord>> {
        let batches = self.server.stored_batches(topic, partition)?;
        let mut out = Vec::new();
        for bytes in batches {
            let base_offset = batch::BatchHeader::parse(&bytes).map_or(0, |header| header.base_offset);
            let records = batch::records(&bytes).unwrap_or_default().into_iter();
            out.extend(
                records.map(|record| StoredRecord { offset: base_offset + i64::from(record.offset_delta), record }),
            );
        }
        Some(out)
    }
}

impl Builder {
    /// How many brokers; ids count from 1 unless [`Builder::first_id`] says otherwise.
    pub fn brokers(mut self, count: i32) -> Self {
        self.brokers = count;
        self
    }

    /// The first broker's id.
    pub fn first_id(mut self, id: i32) -> Self {
        self.first_id = id;
        self
    }

    /// Brokers are in no rack, instead of each in its own.
    pub fn no_racks(mut self) -> Self {
        self.racks = false;
        self
    }

    /// A topic that exists from the start; three replicas, or as many as there are brokers.
    pub fn topic(self, name: impl Into<String>, partitions: i32) -> Self {
        self.topic_with(TopicConfig::new(name, partitions))
    }

    /// A topic that exists from the start, described in full.
    pub fn topic_with(mut self, topic: TopicConfig) -> Self {
        self.server.cluster.topics.push(topic);
        self
    }

    /// A broker config by Kafka's name, e.g. `("auto.create.topics.enable", "false")`.
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.server.cluster.configs.insert(name.into(), value.into());
        self
    }

    /// Where all chance comes from; equal seeds give equal topic ids, member ids and leaders.
    pub fn seed(mut self, seed: u64) -> Self {
        self.server.cluster.seed = seed;
        self
    }

    /// Broker `i` (counted from 0) listens on `port + i`; 0, the default, takes free ports.
    pub fn port(mut self, port: u16) -> Self {
        self.server.base_port = port;
        self
    }

    /// Listens on this address instead of loopback.
    pub fn bind(mut self, address: IpAddr) -> Self {
        self.server.bind = address;
        self
    }

    /// Tells clients this host instead of the address listened on.
    pub fn advertise_host(mut self, host: impl Into<String>) -> Self {
        self.server.advertise_host = Some(host.into());
        self
    }

    /// Broker `i` tells clients `port + i` instead of the port it listens on.
    pub fn advertise_port(mut self, port: u16) -> Self {
        self.server.advertise_port = Some(port);
        self
    }

    /// Threads that serve connections; 1 unless told otherwise.
    pub fn threads(mut self, threads: usize) -> Self {
        self.server.threads = threads;
        self
    }

    /// Starts the cluster; clients may connect when this returns. Needs no runtime, blocks for less than a millisecond.
    ///
    /// # Errors
    /// A port cannot be had, or the description contradicts itself.
    pub fn start(mut self) -> Result<MockCluster, StartError> {
        let nodes = (0..self.brokers).map(|index| {
            let id = self.first_id + index;
            NodeConfig { id: NodeId(id), host: String::new(), port: 0, rack: self.racks.then(|| format!("rack-{id}")) }
        });
        self.server.cluster.nodes = nodes.collect();
        Ok(MockCluster { server: Server::start(self.server)? })
    }
}
