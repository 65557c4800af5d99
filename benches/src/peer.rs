//! The brokers that are compared.

use crate::{PARTITIONS, load};
use anyhow::{Context, Result, bail};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::DefaultProducerContext;
use rehearsal_mockbroker::testing::MockCluster;
use std::sync::atomic::{AtomicU64, Ordering};

/// Names a running Apache Kafka 4.3.0 to compare with.
const BOOTSTRAP: &str = "REHEARSAL_BOOTSTRAP";

/// A broker that is measured. One node, so that only the broker's own work counts.
pub struct Peer {
    name: &'static str,
    bootstrap: String,
    topics: Topics,
    // Held because the broker stops when it is dropped.
    _cluster: Option<MockCluster>,
}

/// How topics come and go.
enum Topics {
    ByAdmin(Box<Admin>),
    /// librdkafka's mock cluster has no admin API; its topics stay until it ends.
    ByHandle(rdkafka::mocking::MockCluster<'static, DefaultProducerContext>),
}

struct Admin {
    client: AdminClient<DefaultClientContext>,
    runtime: tokio::runtime::Runtime,
}

/// A topic that nobody else uses; deleted when it is dropped, so that a long run does not fill the memory.
pub struct Topic<'a> {
    name: String,
    peer: &'a Peer,
}

impl Peer {
    /// Everyone there is to compare: our broker, librdkafka's mock cluster, and Apache Kafka where
    /// `REHEARSAL_BOOTSTRAP` names one.
    ///
    /// # Errors
    /// When one of them cannot be started or reached.
    pub fn all() -> Result<Vec<Self>> {
        let mut peers = vec![Self::rehearsal()?];
        peers.extend(Self::running_apache_kafka()?);
        peers.push(Self::librdkafka_mock()?);
        Ok(peers)
    }

    /// Our broker, served from this process.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn rehearsal() -> Result<Self> {
        let cluster = MockCluster::builder().start()?;
        let bootstrap = cluster.bootstrap_servers();
        let topics = Topics::ByAdmin(Box::new(Admin::connect(&bootstrap)?));
        Ok(Self { name: "rehearsal", bootstrap, topics, _cluster: Some(cluster) })
    }

    /// The Apache Kafka that `REHEARSAL_BOOTSTRAP` names, if it does.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn running_apache_kafka() -> Result<Option<Self>> {
        let Ok(bootstrap) = std::env::var(BOOTSTRAP) else {
            announce(&format!("Apache Kafka is left out: {BOOTSTRAP} names none"));
            return Ok(None);
        };
        let topics = Topics::ByAdmin(Box::new(Admin::connect(&bootstrap)?));
        let peer = Self { name: "apache-kafka", bootstrap, topics, _cluster: None };
        peer.fresh_topic().with_context(|| format!("Apache Kafka at {}", peer.bootstrap))?;
        Ok(Some(peer))
    }

    /// The mock cluster that comes with librdkafka, served from this process too.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn librdkafka_mock() -> Result<Self> {
        let cluster = rdkafka::mocking::MockCluster::new(1)?;
        let bootstrap = cluster.bootstrap_servers();
        Ok(Self { name: "librdkafka-mock", bootstrap, topics: Topics::ByHandle(cluster), _cluster: None })
    }

    /// What its results are filed under.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Where clients connect.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The most records a topic of this broker holds; librdkafka's mock forgets a partition's oldest past 5 MiB.
    pub fn records_held_max(&self) -> u64 {
        match self.topics {
            Topics::ByAdmin(_) => u64::MAX,
            Topics::ByHandle(_) => (4 << 20) * PARTITIONS as u64 / (load::RECORD_BYTES as u64 + 10),
        }
    }

    /// A new topic with [`PARTITIONS`] partitions.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn fresh_topic(&self) -> Result<Topic<'_>> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bench-{}-{count}", std::process::id());
        match &self.topics {
            Topics::ByAdmin(admin) => admin.create(&name)?,
            Topics::ByHandle(cluster) => cluster.create_topic(&name, PARTITIONS, 1)?,
        }
        Ok(Topic { name, peer: self })
    }
}

impl Topic<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Topic<'_> {
    fn drop(&mut self) {
        if let Topics::ByAdmin(admin) = &self.peer.topics
            && let Err(error) = admin.delete(&self.name)
        {
            announce(&format!("{} keeps topic {}: {error:#}", self.peer.name, self.name));
        }
    }
}

impl Admin {
    fn connect(bootstrap: &str) -> Result<Self> {
        let client = ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { client, runtime })
    }

    fn create(&self, name: &str) -> Result<()> {
        let topic = NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1));
        one(self.runtime.block_on(self.client.create_topics([&topic], &AdminOptions::new()))?)
    }

    fn delete(&self, name: &str) -> Result<()> {
        one(self.runtime.block_on(self.client.delete_topics(&[name], &AdminOptions::new()))?)
    }
}

fn one(results: Vec<rdkafka::admin::TopicResult>) -> Result<()> {
    match results.into_iter().next() {
        Some(Ok(_)) => Ok(()),
        Some(Err((topic, code))) => bail!("topic {topic}: {code}"),
        None => bail!("the broker answered for no topic"),
    }
}

#[expect(clippy::print_stderr, reason = "a bench that leaves something out says so")]
fn announce(line: &str) {
    eprintln!("{line}");
}
