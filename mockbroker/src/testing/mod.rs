//! What a Rust test holds in its hand: a cluster that lives as long as the handle.
//!
//! [`MockCluster`] starts one, on loopback ports or entirely in memory; [`MockCluster::plan`] plans faults,
//! [`MockCluster::control`] and its short forms change the cluster, [`MockCluster::wait_for`] waits without polling, and
//! [`preset`] has a call for each failure teams have met in production. [`guide`] shows them one by one.

pub mod guide;
pub mod preset;
mod stream;
mod wait;

pub use crate::server::ListenAt;
pub use crate::stored::StoredRecord;
pub use stream::BrokerStream;
pub use wait::{Wait, WaitError, WaitFor};

use crate::cluster::Refused;
use crate::config::{
    ClusterConfig, ConfigError, ListenerConfig, NodeConfig, SecurityProtocol, TopicConfig, UserConfig,
};
use crate::control::{Command, CommandError};
use crate::fault::{Fault, FaultId, FaultView, ImpossibleFault, Requests};
use crate::journal::ReceivedRequest;
use crate::release::Release;
use crate::server::{Advertised, Clock, Server, ServerConfig, Shared, StartError};
use crate::state::NewTopic;
use crate::state::groups::GroupView;
use crate::state::nodes::{Endpoint, ListenerId, NodeId};
use crate::state::security::acls;
use crate::view::{ProducerView, View};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;

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
///
/// # Panics
/// When it is dropped while a planned fault has never happened, so that a test cannot pass for want of the failure it is
/// about; see [`Fault::may_not_fire`]. Not while the test is panicking anyway.
#[derive(Debug)]
pub struct MockCluster {
    shared: Arc<Shared>,
    driver: Driver,
}

#[derive(Debug)]
enum Driver {
    /// Loopback ports, a thread and a runtime of its own.
    Tcp(Server),
    /// No ports: [`BrokerStream`]s only, on the clock of the runtime it was started in.
    InMemory { keeper: AbortHandle, advertised: Advertised },
}

/// A fault that is planned. Dropping this changes nothing.
#[derive(Debug, Clone)]
pub struct PlannedFault {
    id: FaultId,
    words: String,
    shared: Arc<Shared>,
}

/// Planned faults that never happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct NeverFired(pub Vec<FaultView>);

/// Says what cluster is wanted. Every method has a default, so `MockCluster::builder().start()` is one broker without
/// topics that creates them on demand, as Kafka does.
#[derive(Debug, Clone)]
pub struct Builder {
    brokers: i32,
    first_id: i32,
    racks: bool,
    in_memory: bool,
    server: ServerConfig,
}

impl MockCluster {
    /// Begins to describe a cluster.
    pub fn builder() -> Builder {
        Builder {
            brokers: 1,
            first_id: 1,
            racks: true,
            in_memory: false,
            server: ServerConfig::new(ClusterConfig::with_brokers(1)),
        }
    }

    /// What a client's `bootstrap.servers` wants: `host:port` of every broker, comma-separated. Of the first listener.
    pub fn bootstrap_servers(&self) -> String {
        self.all_advertised().bootstrap_servers(ListenerId::default())
    }

    /// The same by the listener of this name, e.g. `SASL_PLAINTEXT`; `None` when there is none. See
    /// [`Builder::listeners`].
    pub fn bootstrap_servers_of(&self, listener: &str) -> Option<String> {
        let advertised = self.all_advertised();
        advertised.named(listener).map(|listener| advertised.bootstrap_servers(listener))
    }

    /// Every broker's id with the address clients of the first listener are told, in order of ids.
    pub fn advertised(&self) -> &[(NodeId, String)] {
        self.all_advertised().first()
    }

    fn all_advertised(&self) -> &Advertised {
        match &self.driver {
            Driver::Tcp(server) => server.all_advertised(),
            Driver::InMemory { advertised, .. } => advertised,
        }
    }

    /// Carries out any [`Command`].
    ///
    /// # Errors
    /// The command is impossible; nothing has changed.
    pub fn control(&self, command: Command) -> Result<(), CommandError> {
        match &self.driver {
            Driver::Tcp(server) => server.control(command),
            Driver::InMemory { .. } => self.shared.control(command).map(drop),
        }
    }

    /// Creates a topic with this many partitions.
    ///
    /// # Errors
    /// What Kafka would refuse: it exists, its name is not one, there are too few brokers.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<(), CommandError> {
        let replicas = self.advertised().len().min(3) as i16;
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
        self.shared.with(|cluster| cluster.view())
    }

    /// The records of a partition, oldest first; `None` when there is no such partition.
    pub fn records(&self, topic: &str, partition: i32) -> Option<Vec<StoredRecord>> {
        self.shared.with(|cluster| cluster.records(topic, partition))
    }

    // ---- changing the cluster: short forms of commands ----

    /// Stops a broker in order: its leaders move first, nothing is lost. See [`Command::Stop`].
    ///
    /// # Errors
    /// There is no such broker, or it does not run.
    pub fn stop_broker(&self, broker: i32) -> Result<(), CommandError> {
        self.control(Command::Stop(NodeId(broker)))
    }

    /// Cuts a broker's power: what it had not flushed is gone. See [`Command::PowerLoss`].
    ///
    /// # Errors
    /// There is no such broker, or it does not run.
    pub fn power_loss(&self, broker: i32) -> Result<(), CommandError> {
        self.control(Command::PowerLoss(NodeId(broker)))
    }

    /// Cuts every connection of a client; it may connect again.
    ///
    /// # Errors
    /// None: a client that is not connected has nothing to lose.
    pub fn disconnect(&self, client_id: &str) -> Result<(), CommandError> {
        self.control(Command::Disconnect { node: None, client_id: Some(client_id.to_owned()) })
    }

    /// Deletes a topic and makes it again, empty, under a new id.
    ///
    /// # Errors
    /// There is no such topic.
    pub fn recreate_topic(&self, topic: &str) -> Result<(), CommandError> {
        self.control(Command::RecreateTopic(topic.to_owned()))
    }

    /// Forgets everything a group has committed.
    ///
    /// # Errors
    /// There is no such group.
    pub fn expire_offsets(&self, group: &str) -> Result<(), CommandError> {
        self.control(Command::ExpireOffsets { group: group.to_owned() })
    }

    /// Makes a running broker the one administration goes to.
    ///
    /// # Errors
    /// There is no such broker, or it does not run.
    pub fn move_controller(&self, to: i32) -> Result<(), CommandError> {
        self.control(Command::MoveController(NodeId(to)))
    }

    /// Freezes a broker; see [`Command::Pause`].
    ///
    /// # Errors
    /// There is no such broker, or it does not run.
    pub fn pause(&self, broker: i32) -> Result<(), CommandError> {
        self.control(Command::Pause(NodeId(broker)))
    }

    /// Lets a frozen broker go on.
    ///
    /// # Errors
    /// There is no such broker, or it is not frozen.
    pub fn resume(&self, broker: i32) -> Result<(), CommandError> {
        self.control(Command::Resume(NodeId(broker)))
    }

    /// Makes an in-sync replica the leader.
    ///
    /// # Errors
    /// There is no such partition, or the broker holds no in-sync replica of it.
    pub fn move_leader(&self, topic: &str, partition: i32, to: i32) -> Result<(), CommandError> {
        self.control(Command::MoveLeader { topic: topic.to_owned(), partition, to: NodeId(to) })
    }

    /// Moves a group's coordinator.
    ///
    /// # Errors
    /// The broker cannot coordinate it.
    pub fn move_coordinator(&self, group: &str, to: i32) -> Result<(), CommandError> {
        self.control(Command::MoveCoordinator { group: group.to_owned(), to: NodeId(to) })
    }

    /// Makes a group's members join again.
    ///
    /// # Errors
    /// There is no such group.
    pub fn rebalance(&self, group: &str) -> Result<(), CommandError> {
        self.control(Command::Rebalance { group: group.to_owned() })
    }

    /// Ends the session of a member: by its member id, group instance id or client id.
    ///
    /// # Errors
    /// There is no such group or member.
    pub fn expire_member(&self, group: &str, member: &str) -> Result<(), CommandError> {
        self.control(Command::ExpireMember { group: group.to_owned(), member: member.to_owned() })
    }

    /// Forgets a partition's records before this offset.
    ///
    /// # Errors
    /// There is no such partition, or the offset is past its high watermark.
    pub fn trim(&self, topic: &str, partition: i32, before: i64) -> Result<(), CommandError> {
        self.control(Command::Trim { topic: topic.to_owned(), partition, before })
    }

    /// Gives up at once what `retention.ms` and `retention.bytes` give up.
    pub fn check_retention(&self) {
        self.control(Command::CheckRetention).expect("brokers can always look at their logs");
    }

    /// Compacts a topic at once, up to what was written last; see [`Command::Compact`].
    ///
    /// # Errors
    /// There is no such topic.
    pub fn compact(&self, topic: &str) -> Result<(), CommandError> {
        self.control(Command::Compact(topic.to_owned()))
    }

    /// Adds partitions to a topic up to this total.
    ///
    /// # Errors
    /// There is no such topic, or it has as many.
    pub fn add_partitions(&self, topic: &str, total: i32) -> Result<(), CommandError> {
        self.control(Command::AddPartitions { topic: topic.to_owned(), total })
    }

    /// Lets time pass in the cluster at once: sessions, waits and delays that end within it end now.
    pub fn advance(&self, by: Duration) {
        let advanced = self.control(Command::Advance(by));
        debug_assert!(advanced.is_ok(), "time always passes");
    }

    /// Empties the cluster: no topics but those it was built with, no groups, no records, no faults. Connections close,
    /// brokers run, addresses stay.
    ///
    /// # Errors
    /// A planned fault never happened: it would be forgotten unnoticed. Nothing is emptied then.
    pub fn reset(&self) -> Result<(), NeverFired> {
        self.verify()?;
        let emptied: Result<(), ConfigError> = match &self.driver {
            Driver::Tcp(server) => server.reset(),
            Driver::InMemory { .. } => self.shared.reset().map(drop),
        };
        debug_assert!(emptied.is_ok(), "what it was built with once can be built again");
        Ok(())
    }

    // ---- faults ----

    /// Plans a fault; from the next request on it happens as it says.
    ///
    /// ```
    /// use rehearsal_mockbroker::error::ErrorCode;
    /// use rehearsal_mockbroker::fault::Fault;
    /// use rehearsal_mockbroker::testing::MockCluster;
    /// use rehearsal_mockbroker::wire::ApiKey;
    ///
    /// let kafka = MockCluster::builder().topic("orders", 1).start()?;
    /// let full = Fault::on(ApiKey::Produce).topic("orders").error(ErrorCode::KafkaStorageError);
    /// let fault = kafka.plan(full.times(2).may_not_fire())?;
    /// assert_eq!(fault.hits(), 0);
    ///
    /// let typo = kafka.plan(Fault::on(ApiKey::Produce).topic("orders").partition(7).disconnect());
    /// assert!(typo.unwrap_err().to_string().contains("topic 'orders' has partitions 0 to 0"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// It can never happen: what it names does not exist or is not served.
    pub fn plan(&self, fault: Fault) -> Result<PlannedFault, ImpossibleFault> {
        let words = fault.to_string();
        let id = self.shared.with(|cluster| cluster.plan(fault))?;
        Ok(PlannedFault { id, words, shared: Arc::clone(&self.shared) })
    }

    /// Whether every planned fault has happened that was to. Dropping the cluster asks the same, and panics.
    ///
    /// # Errors
    /// Those that have not.
    pub fn verify(&self) -> Result<(), NeverFired> {
        let mut overdue = self.shared.with(|cluster| cluster.faults());
        overdue.retain(|fault| fault.overdue);
        if overdue.is_empty() { Ok(()) } else { Err(NeverFired(overdue)) }
    }

    // ---- seeing ----

    /// The requests that arrived, oldest first.
    pub fn requests(&self, which: Requests) -> Vec<Arc<ReceivedRequest>> {
        self.shared.with(|cluster| cluster.requests(&which).cloned().collect())
    }

    /// The records of a topic, by partition and offset; none when there is no such topic.
    pub fn all_records(&self, topic: &str) -> Vec<StoredRecord> {
        self.shared.with(|cluster| cluster.all_records(topic))
    }

    /// The records of a topic with this key.
    pub fn records_with_key(&self, topic: &str, key: impl AsRef<[u8]>) -> Vec<StoredRecord> {
        let mut records = self.all_records(topic);
        records.retain(|stored| stored.key() == Some(key.as_ref()));
        records
    }

    /// The records of a topic with a header of this name and value.
    pub fn records_with_header(&self, topic: &str, name: &str, value: impl AsRef<[u8]>) -> Vec<StoredRecord> {
        let mut records = self.all_records(topic);
        records.retain(|stored| stored.header(name) == Some(value.as_ref()));
        records
    }

    /// The offset a group has committed for a partition.
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        self.shared.with(|cluster| cluster.committed(group, topic, partition).map(|committed| committed.offset))
    }

    /// A group as it is now; `None` when there is none of this name.
    pub fn group(&self, id: &str) -> Option<GroupView> {
        self.shared.with(|cluster| cluster.group(id))
    }

    /// The idempotent producers a partition remembers.
    pub fn producers(&self, topic: &str, partition: i32) -> Vec<ProducerView> {
        self.shared.with(|cluster| cluster.producers(topic, partition))
    }

    // ---- waiting ----

    /// Waits for what comes next, up to ten seconds.
    ///
    /// ```
    /// use rehearsal_mockbroker::testing::MockCluster;
    /// use std::time::Duration;
    ///
    /// let kafka = MockCluster::builder().topic("orders", 1).start()?;
    /// let none = kafka.wait_up_to(Duration::from_millis(1)).records("orders", 3).blocking();
    /// let report = none.unwrap_err().to_string();
    /// assert!(report.starts_with("waited 1ms for 3 records in 'orders', in vain\n  orders-0: offsets 0..0"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_for(&self) -> WaitFor<'_> {
        self.wait_up_to(wait::USUAL)
    }

    /// Waits for what comes next, up to this long.
    pub fn wait_up_to(&self, within: Duration) -> WaitFor<'_> {
        WaitFor { cluster: self, within }
    }

    // ---- connecting without a socket ----

    /// A byte stream to a broker, for clients that take a connector of their own. What is written is answered within
    /// the same poll.
    ///
    /// # Errors
    /// The broker does not run, or there is none of this id.
    pub fn stream(&self, broker: i32) -> Result<BrokerStream, Refused> {
        BrokerStream::connect(&self.shared, NodeId(broker), ListenerId::default())
    }

    /// A byte stream to the broker with this advertised `host:port`, by the listener it belongs to, as connectors are
    /// asked for.
    ///
    /// # Errors
    /// No broker has this address, or it does not run.
    pub fn stream_to(&self, address: &str) -> Result<BrokerStream, ConnectError> {
        let found = self.all_advertised().at(address);
        let (node, listener) = found.ok_or_else(|| ConnectError::UnknownAddress(address.to_owned()))?;
        Ok(BrokerStream::connect(&self.shared, node, listener)?)
    }
}

/// Why a stream could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// No broker has this address.
    #[error("no broker has the address '{0}'; `advertised()` has those there are")]
    UnknownAddress(String),
    /// The broker does not run.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl Drop for MockCluster {
    fn drop(&mut self) {
        if let Driver::InMemory { keeper, .. } = &self.driver {
            keeper.abort();
        }
        // A wait, a stream or a planned fault may outlive the cluster; none of them may wait for it for ever.
        self.shared.stop();
        if !std::thread::panicking()
            && let Err(never) = self.verify()
        {
            panic!("{never}");
        }
    }
}

impl PlannedFault {
    /// Names it in commands.
    pub fn id(&self) -> FaultId {
        self.id
    }

    /// How often it has happened.
    pub fn hits(&self) -> u64 {
        self.shared.with(|cluster| cluster.hits(self.id)).unwrap_or(0)
    }

    /// Lets what it holds go on; it does not happen again.
    pub fn release(&self) {
        // A fault that is not planned any more holds nothing.
        let _ = self.shared.control(Command::Release(self.id));
    }

    /// Releases it and takes it out of the plan; whether it ever happened is nobody's business any more.
    pub fn remove(self) {
        let _ = self.shared.control(Command::Forget(self.id));
    }

    pub(super) fn words(&self) -> &str {
        &self.words
    }
}

impl fmt::Display for NeverFired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("planned faults never happened, so the test did not test them:")?;
        for fault in &self.0 {
            write!(f, "\n  '{}' ({} requests matched)", fault.fault, fault.matched)?;
        }
        f.write_str("\nsay `.may_not_fire()` where that is as it should be")
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

    /// How long followers take to copy what a leader has; none unless told otherwise. See
    /// [`ClusterConfig::follower_delay`].
    pub fn follower_delay(mut self, delay: Duration) -> Self {
        self.server.cluster.follower_delay = delay;
        self
    }

    /// How long the controller takes to notice a crash, while metadata still names the dead leader; not at all unless
    /// told otherwise. Kafka takes nine seconds.
    pub fn failover_delay(mut self, delay: Duration) -> Self {
        self.server.cluster.failover_delay = delay;
        self
    }

    /// Where all chance comes from; equal seeds give equal topic ids, member ids and leaders.
    pub fn seed(mut self, seed: u64) -> Self {
        self.server.cluster.seed = seed;
        self
    }

    /// The listeners of every broker, named after their protocols; only `PLAINTEXT` unless told otherwise. The first is the
    /// one meant where none is named; the others take free ports. Where clients log in, say who can: [`Builder::user`].
    ///
    /// ```
    /// use rehearsal_mockbroker::config::SecurityProtocol::{Plaintext, SaslPlaintext};
    /// use rehearsal_mockbroker::testing::MockCluster;
    ///
    /// let kafka = MockCluster::builder().listeners([Plaintext, SaslPlaintext]).user("alice", "secret").start()?;
    /// println!("log in at {}", kafka.bootstrap_servers_of("SASL_PLAINTEXT").unwrap());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn listeners(mut self, protocols: impl IntoIterator<Item = SecurityProtocol>) -> Self {
        self.server.cluster.listeners = protocols.into_iter().map(ListenerConfig::new).collect();
        self
    }

    /// The listeners of every broker, each with its name, what it asks and where it is. The first one's place replaces what
    /// [`Builder::bind`], [`Builder::port`] and [`Builder::advertise_port`] say.
    pub fn listen(mut self, listeners: impl IntoIterator<Item = (ListenerConfig, ListenAt)>) -> Self {
        let (configs, places): (Vec<_>, Vec<_>) = listeners.into_iter().unzip();
        let mut places = places.into_iter();
        if let Some(first) = places.next() {
            self.server.bind = first.bind;
            self.server.base_port = first.base_port;
            self.server.advertise_port = first.advertise_port;
        }
        self.server.cluster.listeners = configs;
        self.server.other_listeners = places.collect();
        self
    }

    /// What the brokers show to clients of listeners that encrypt, and which clients they trust.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: crate::server::TlsConfig) -> Self {
        self.server.tls = Some(tls);
        self
    }

    /// Somebody who can log in with a password, by every mechanism that works with one.
    pub fn user(self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.user_with(UserConfig::new(name, password))
    }

    /// Somebody who can log in, described in full.
    pub fn user_with(mut self, user: UserConfig) -> Self {
        self.server.cluster.users.push(user);
        self
    }

    /// Kafka's standard authoriser: nobody may do anything but `super_users`, e.g. `["User:admin"]`, until ACLs say
    /// otherwise. `.config("allow.everyone.if.no.acl.found", "true")` lets everybody use what no ACL is about.
    pub fn authorizer<U: Into<String>>(self, super_users: impl IntoIterator<Item = U>) -> Self {
        let super_users: Vec<String> = super_users.into_iter().map(Into::into).collect();
        self.config(acls::CLASS_CONFIG, acls::STANDARD).config(acls::SUPER_USERS_CONFIG, super_users.join(";"))
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

    /// No ports and no thread: clients come through [`MockCluster::stream`], and the cluster's clock is that of the
    /// tokio runtime it is started in, so that a paused clock is the cluster's too. Start it within one.
    pub fn in_memory(mut self) -> Self {
        self.in_memory = true;
        self
    }

    /// Stands in for an older release: advertises the API versions and features that release had, and answers no others.
    /// `rehearsal serve --as 2.8` in Rust.
    pub fn release(mut self, release: Release) -> Self {
        self.server.cluster.release = release;
        self
    }

    /// The level of the feature `transaction.version`, 0 to 2; 2 unless told otherwise. Before 2, a transaction's end leaves
    /// its producer's epoch alone (KIP-890).
    pub fn transaction_version(mut self, level: i16) -> Self {
        self.server.cluster.transaction_version = level;
        self
    }

    /// How many of the most recent requests are kept for [`MockCluster::requests`]; 10,000 unless told otherwise.
    pub fn requests_kept(mut self, count: usize) -> Self {
        self.server.cluster.requests_kept = count;
        self
    }

    /// Starts the cluster; clients may connect when this returns. Blocks for less than a millisecond. Needs a runtime
    /// only for [`Builder::in_memory`].
    ///
    /// # Errors
    /// A port cannot be had, or the description contradicts itself.
    ///
    /// # Panics
    /// When an in-memory cluster is started outside a tokio runtime.
    pub fn start(mut self) -> Result<MockCluster, StartError> {
        let nodes = (0..self.brokers).map(|index| {
            let id = self.first_id + index;
            let rack = self.racks.then(|| format!("rack-{id}"));
            NodeConfig { id: NodeId(id), host: String::new(), port: 0, rack }
        });
        self.server.cluster.nodes = nodes.collect();
        if self.in_memory {
            return self.start_in_memory();
        }
        let server = Server::start(self.server)?;
        Ok(MockCluster { shared: Arc::clone(server.shared()), driver: Driver::Tcp(server) })
    }

    fn start_in_memory(mut self) -> Result<MockCluster, StartError> {
        let ClusterConfig { nodes, listeners, .. } = &mut self.server.cluster;
        for node in nodes {
            node.host = format!("broker-{}.mock", node.id.0);
            node.port = IN_MEMORY_PORT;
            for (listener, port) in listeners.iter_mut().zip(IN_MEMORY_PORT..) {
                listener.endpoints.insert(node.id, Endpoint { host: node.host.clone(), port });
            }
        }
        if let Some(encrypted) = self.server.cluster.listeners.iter().find(|listener| listener.protocol.uses_tls()) {
            return Err(StartError::NoCertificate { listener: encrypted.name.clone() });
        }
        let advertised = Advertised::of(&self.server.cluster);
        let shared = Arc::new(Shared::new(&self.server.cluster, Clock::tokio())?);
        let keeper = Arc::clone(&shared);
        #[expect(clippy::disallowed_methods, reason = "the driver's keeper of time")]
        let keeper = tokio::spawn(async move { keeper.keep_time().await }).abort_handle();
        Ok(MockCluster { shared, driver: Driver::InMemory { keeper, advertised } })
    }
}

/// Kafka's own port, though nothing listens there.
const IN_MEMORY_PORT: u16 = 9092;
