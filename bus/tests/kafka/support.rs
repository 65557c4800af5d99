//! A Kafka to test against, the events that travel through it, and ways to wait for what should happen.

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, TopicPartitionList};
use rehearsal_bus::KafkaEventBus;
use rehearsal_bus::config::KafkaEventBusConfig;
use rehearsal_bus::kafka::Consuming;
use rehearsal_bus::prelude::*;
use rehearsal_mockbroker::testing::{Builder, MockCluster};
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Longer than anything here takes, so that a test fails rather than hangs.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(DomainEvent, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[event(aggregate = "Account")]
pub(crate) struct Paid {
    #[event(aggregate_id)]
    pub(crate) account: String,
    pub(crate) number: u32,
}

#[derive(DomainEvent, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[event(aggregate = "Account")]
pub(crate) struct Closed {
    #[event(aggregate_id)]
    pub(crate) account: String,
}

pub(crate) fn paid(account: &str, number: u32) -> Paid {
    Paid { account: account.into(), number }
}

pub(crate) fn closed(account: &str) -> Closed {
    Closed { account: account.into() }
}

/// A Kafka, and a topic prefix that no other test uses.
pub(crate) struct Kafka {
    bootstrap: String,
    prefix: String,
    cluster: Option<MockCluster>,
}

pub(crate) fn kafka() -> Kafka {
    kafka_with([])
}

/// A Kafka whose brokers have these settings; one that runs already keeps its own.
pub(crate) fn kafka_with<const N: usize>(settings: [(&str, &str); N]) -> Kafka {
    kafka_made_by(|brokers| settings.iter().fold(brokers, |brokers, (name, value)| brokers.config(*name, *value)))
}

/// A Kafka whose brokers are made like this; one that runs already stays as it is.
pub(crate) fn kafka_made_by(make: impl FnOnce(Builder) -> Builder) -> Kafka {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
    let prefix = format!("test-{}", uuid::Uuid::now_v7().simple());
    match std::env::var("REHEARSAL_BOOTSTRAP") {
        Ok(bootstrap) => Kafka { bootstrap, prefix, cluster: None },
        Err(_) => {
            let cluster = make(MockCluster::builder().brokers(3)).start().expect("a cluster starts");
            Kafka { bootstrap: cluster.bootstrap_servers(), prefix, cluster: Some(cluster) }
        }
    }
}

/// A test that needs more than this Kafka can do says so.
#[expect(clippy::print_stderr, reason = "for who looks at what was tested")]
pub(crate) fn not_run(why: &str) {
    eprintln!("not run: {why}");
}

impl Kafka {
    /// Whether its brokers are ours, with the settings we gave them.
    pub(crate) fn is_ours(&self) -> bool {
        self.cluster.is_some()
    }

    /// Its brokers, if they are ours.
    pub(crate) fn cluster(&self) -> Option<&MockCluster> {
        self.cluster.as_ref()
    }

    pub(crate) fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    pub(crate) fn topic(&self) -> String {
        format!("{}.stream", self.prefix)
    }

    /// The full name of a group: no other test uses it either.
    pub(crate) fn group(&self, group: &str) -> String {
        format!("{}-{group}", self.prefix)
    }

    /// Four partitions, impatient retries, quick heartbeats.
    pub(crate) fn config(&self, group: &str) -> KafkaEventBusConfig {
        let mut config = KafkaEventBusConfig::builder()
            .bootstrap_servers(&*self.bootstrap)
            .topic_prefix(&*self.prefix)
            .consumer_group(self.group(group))
            .topic_partitions(4)
            .session_timeout_ms(10_000)
            .heartbeat_interval_ms(200)
            .build()
            .expect("a valid configuration");
        config.retry.base = Duration::from_millis(30);
        config.commit_interval = Duration::from_millis(50);
        config
    }

    /// Lets a topic take no batch of more bytes.
    pub(crate) async fn limit_records(&self, topic: &str, bytes_max: u32) {
        let admin: AdminClient<_> = self.client().create().unwrap();
        let bytes_max = bytes_max.to_string();
        let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set("max.message.bytes", &bytes_max);
        for changed in admin.alter_configs(&[change], &AdminOptions::new()).await.unwrap() {
            changed.unwrap();
        }
    }

    /// How far the group of this configuration has committed a partition of the main topic.
    pub(crate) fn committed(&self, config: &KafkaEventBusConfig, partition: i32) -> Option<i64> {
        let reader: BaseConsumer = self.client().set("group.id", &config.consumer_group).create().unwrap();
        let mut asked = TopicPartitionList::new();
        asked.add_partition(&config.topic_name(), partition);
        let committed = reader.committed_offsets(asked, PATIENCE).unwrap();
        committed.elements()[0].offset().to_raw().filter(|offset| *offset >= 0)
    }

    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.bootstrap);
        client
    }

    /// A connected bus of this group.
    pub(crate) async fn bus(&self, group: &str) -> KafkaEventBus {
        connected(self.config(group)).await
    }
}

/// A connected bus that knows no types but those subscribed to.
pub(crate) async fn connected(config: KafkaEventBusConfig) -> KafkaEventBus {
    let bus = KafkaEventBus::with_registry(config, &EventRegistry::new());
    bus.connect().await.expect("the brokers answer");
    bus
}

/// Starts consuming and waits until the group has given the bus its partitions.
pub(crate) async fn consume(bus: &KafkaEventBus) -> Consuming {
    let mut consuming = bus.start_consuming_in_background().expect("a connected bus");
    within("partitions", consuming.assigned()).await;
    consuming
}

/// What handlers saw, in order. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Seen<T>(Arc<watch::Sender<Vec<T>>>);

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Vec::new())))
    }
}

impl<T: Clone + Debug> Seen<T> {
    pub(crate) fn note(&self, what: T) {
        self.0.send_modify(|seen| seen.push(what));
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.0.borrow().clone()
    }

    /// Waits until so many were seen.
    pub(crate) async fn count(&self, count: usize) -> Vec<T> {
        let mut seen = self.0.subscribe();
        let reached = seen.wait_for(|seen| seen.len() >= count);
        match tokio::time::timeout(PATIENCE, reached).await {
            Ok(seen) => seen.expect("we hold the sender").clone(),
            Err(_) => panic!("{count} expected, seen: {:?}", self.all()),
        }
    }
}

/// Waits for something that is bound to happen.
pub(crate) async fn within<T>(what: &str, happens: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, happens).await.unwrap_or_else(|_| panic!("no {what} after {PATIENCE:?}"))
}

/// Asks again and again until the answer is yes: for what the bus counts but does not announce.
pub(crate) async fn until(what: &str, mut happened: impl FnMut() -> bool) {
    within(what, async {
        while !happened() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
