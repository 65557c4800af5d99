//! The configuration of [`KafkaEventBus`], from a builder, the environment, or any serde format.
//!
//! ```
//! use rehearsal_bus::config::KafkaEventBusConfig;
//!
//! let config = KafkaEventBusConfig::builder()
//!     .bootstrap_servers("kafka-1:9092,kafka-2:9092")
//!     .topic_prefix("orders")
//!     .consumer_group("order-processors")
//!     .build()?;
//! assert_eq!(config.topic_name(), "orders.stream");
//! assert_eq!(config.dlq_topic_name(), "orders.stream.dlq");
//! # Ok::<(), rehearsal_bus::ConfigError>(())
//! ```
//!
//! # Four ways to connect
//!
//! ```
//! use rehearsal_bus::config::{KafkaEventBusConfig, SaslMechanism, SecurityProtocol};
//! # type Result = std::result::Result<KafkaEventBusConfig, rehearsal_bus::ConfigError>;
//!
//! // Development. NOT for production.
//! # fn plain() -> Result {
//! KafkaEventBusConfig::builder().bootstrap_servers("localhost:9092").build()
//! # }
//!
//! // Encrypted.
//! # fn tls() -> Result {
//! KafkaEventBusConfig::builder()
//!     .bootstrap_servers("kafka:9093")
//!     .security_protocol(SecurityProtocol::Ssl)
//!     .ssl_cafile("/path/to/ca.crt")
//!     .build()
//! # }
//!
//! // Encrypted, with credentials. Recommended. (`SaslMechanism::Plain` works over TLS as well.)
//! # fn scram() -> Result {
//! KafkaEventBusConfig::builder()
//!     .bootstrap_servers("kafka:9093")
//!     .security_protocol(SecurityProtocol::SaslSsl)
//!     .sasl_mechanism(SaslMechanism::ScramSha512)
//!     .sasl_username("myuser")
//!     .sasl_password("mypassword")
//!     .ssl_cafile("/path/to/ca.crt")
//!     .build()
//! # }
//!
//! // Encrypted, with a certificate on each side.
//! # fn mutual() -> Result {
//! KafkaEventBusConfig::builder()
//!     .bootstrap_servers("kafka:9093")
//!     .security_protocol(SecurityProtocol::Ssl)
//!     .ssl_cafile("/path/to/ca.crt")
//!     .ssl_certfile("/path/to/client.crt")
//!     .ssl_keyfile("/path/to/client.key")
//!     .build()
//! # }
//! # for config in [plain(), tls(), scram(), mutual()] { config.unwrap(); }
//! ```
//!
//! [`KafkaEventBus`]: crate#backends

mod choices;
mod env;
mod error;
mod settings;
mod validate;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub use choices::{
    Acks, AutoOffsetReset, Compression, DlqScope, Preset, SaslMechanism, SecurityProtocol, TopicNaming, UnknownType,
};
pub use error::ConfigError;
use secrecy::SecretString;
pub use settings::KafkaEventBusConfigBuilder;
use settings::Settings;

use crate::engine::FloodBreaker;
use crate::retry::RetryPolicy;

/// A valid configuration. See the [module](self) for how to get one.
///
/// Printing it with `{:?}` shows no secret.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KafkaEventBusConfig {
    /// The brokers to ask first: `host:port`, comma-separated.
    pub bootstrap_servers: String,
    /// What the topics are named after.
    pub topic_prefix: String,
    /// How they are named after it.
    pub topic_naming: TopicNaming,
    /// The consumer group.
    pub consumer_group: String,
    /// This member of it, and the client id: `hostname-uuid` unless given.
    pub consumer_name: String,
    /// The service this program is, if it said so.
    pub service_name: Option<String>,

    /// How many brokers must have an event.
    pub acks: Acks,
    /// How batches are compressed.
    pub compression: Compression,
    /// Bytes per batch and partition. The seeds' `batch_size`.
    pub producer_batch_bytes: u32,
    /// How long a batch waits for company.
    pub producer_linger_ms: u32,
    /// Whether the brokers drop what the producer's own retries duplicate, and keep its order. This is no
    /// exactly-once delivery.
    pub enable_idempotence: bool,
    /// How long an event may remain unacknowledged before `publish` gives up on it.
    pub delivery_timeout: Duration,
    /// How many `publish_background` calls may be under way.
    pub background_publish_max: usize,

    /// Where a new group starts.
    pub auto_offset_reset: AutoOffsetReset,
    /// A member that is silent for so long is dead.
    pub session_timeout_ms: u32,
    /// How often a member says that it lives.
    pub heartbeat_interval_ms: u32,
    /// A member that does not ask for events for so long is stuck. Slow handlers do not count.
    pub max_poll_interval_ms: u32,
    /// What to do with unknown types of event.
    pub unknown_type: UnknownType,
    /// Give up on a handler after this; `None` is never.
    pub handler_timeout: Option<Duration>,
    /// The bounds of what is in hand.
    pub limits: Limits,
    /// Resolved events are committed at the latest after this.
    pub commit_interval: Duration,
    /// … or as soon as this many are.
    pub commit_records_max: usize,
    /// Whether events that are done while an earlier one waits are committed too, beside the position, so that they do
    /// not run again after a restart. The brokers should take 4,096 bytes of `offset.metadata.max.bytes`, as by default.
    pub commit_finished: bool,

    /// Whether what handlers publish, on this bus or another one with the same `bootstrap_servers`, is written in one
    /// transaction with the positions of the events they handle: both happen, or neither does. It is readable once the
    /// position is committed, so `commit_interval` is its delay. What handlers do outside of Kafka is at least once all
    /// the same. Give each member a `consumer_name` of its own that survives restarts: transactions are named after it.
    pub exactly_once: bool,

    /// When to try a failed handler again.
    pub retry: RetryPolicy,
    /// Whether events that keep failing are kept in a topic of their own. Without it they are dropped and counted.
    pub enable_dlq: bool,
    /// What that topic's name ends in.
    pub dlq_topic_suffix: String,
    /// What a dead letter means for later events of its key.
    pub dlq_scope: DlqScope,
    /// What stops a flood of dead letters; by default nothing does.
    pub dlq_flood_breaker: Option<FloodBreaker>,
    /// How often one event may be replayed before a replay must be forced.
    pub dlq_max_replay_attempts: u32,

    /// How to speak to the brokers.
    pub security_protocol: SecurityProtocol,
    /// How credentials are sent.
    pub sasl_mechanism: Option<SaslMechanism>,
    /// The user.
    pub sasl_username: Option<String>,
    /// The user's password.
    pub sasl_password: Option<SecretString>,
    /// The certificate authority to trust, instead of the system's.
    pub ssl_cafile: Option<PathBuf>,
    /// Our certificate.
    pub ssl_certfile: Option<PathBuf>,
    /// Our certificate's key.
    pub ssl_keyfile: Option<PathBuf>,
    /// Whether the broker's certificate must be for the host we called.
    pub ssl_check_hostname: bool,

    /// Whether missing topics are created at `connect`.
    pub create_topics: bool,
    /// The partitions of a topic we create; the brokers' default unless given.
    pub topic_partitions: Option<i32>,
    /// The replicas of a topic we create; the brokers' default unless given.
    pub topic_replication: Option<i16>,
    /// Further settings for the Kafka client, by its own names.
    pub client_properties: ClientProperties,

    /// Spans for publishing, consuming and handling.
    pub enable_tracing: bool,
    /// Metrics.
    pub enable_metrics: bool,

    /// How long `connect` looks for a broker.
    pub connect_timeout: Duration,
    /// How long `shutdown` waits for what is in hand.
    pub shutdown_timeout: Duration,
    /// How long a rebalance waits for what is in hand of the partitions that go. Below the session timeout.
    pub rebalance_drain_timeout: Duration,
}

/// The bounds of what a consumer holds. At a partition's bound fetching from it pauses; it goes on at four fifths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Events with their handlers at one time, over all partitions. 256: enough to hide a millisecond of waiting
    /// per event at 100,000 events a second.
    pub in_flight_max: usize,
    /// Records held per partition, waiting ones included. 4,096: at a kilobyte each, 4 MiB.
    pub partition_records_max: usize,
    /// Keys of a partition that wait for a retry. 1,024: more than that is an outage, not bad events.
    pub parked_keys_max: usize,
    /// Records that wait behind one key. 1,024, so that a hot failing key stops before it fills its partition.
    pub lane_records_max: usize,
    /// Offsets between the commit and the last record read: what a crash repeats. 100,000.
    pub watermark_span_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight_max: 256,
            partition_records_max: 4_096,
            parked_keys_max: 1_024,
            lane_records_max: 1_024,
            watermark_span_max: 100_000,
        }
    }
}

/// Settings for the Kafka client by its own names. Printing shows the names only: a value may be a secret.
#[derive(Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub struct ClientProperties(BTreeMap<String, String>);

impl ClientProperties {
    /// Each name with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for ClientProperties {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(properties: I) -> Self {
        Self(properties.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl<N: Into<String>, V: Into<String>, const LEN: usize> From<[(N, V); LEN]> for ClientProperties {
    fn from(properties: [(N, V); LEN]) -> Self {
        properties.into_iter().collect()
    }
}

impl fmt::Debug for ClientProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl KafkaEventBusConfig {
    /// Starts from the defaults.
    pub fn builder() -> KafkaEventBusConfigBuilder {
        Settings::builder()
    }

    /// Reads the environment: each setting is `KAFKA_` and its name in capitals, such as `KAFKA_TOPIC_PREFIX`.
    ///
    /// Names other tools use are understood as well: `KAFKA_BROKERS`, `KAFKA_CONSUMER_GROUP_ID`,
    /// `KAFKA_USERNAME`, `KAFKA_PASSWORD`, `KAFKA_CA_FILE`, and more. Delays and timeouts without a unit in their
    /// name are in seconds.
    ///
    /// # Errors
    /// When a value cannot be read or used, or two names of one setting have different values.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_vars(std::env::vars())
    }

    /// As [`from_env`](Self::from_env), with the defaults of a service in a cluster instead of those of a laptop:
    /// SASL over TLS with SCRAM-SHA-512, the authority in `/etc/kafka/ssl/ca.crt`, the prefix `myapp.events`,
    /// balanced batches, and `HOSTNAME` as the consumer's name.
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env); also when there are no credentials.
    pub fn production_from_env() -> Result<Self, ConfigError> {
        Self::production_from_vars(std::env::vars())
    }

    /// As [`from_env`](Self::from_env), from these variables instead of the process's.
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub fn from_vars(vars: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        env::read(vars)?.resolve()
    }

    /// As [`production_from_env`](Self::production_from_env), from these variables instead of the process's.
    ///
    /// # Errors
    /// As [`production_from_env`](Self::production_from_env).
    pub fn production_from_vars(vars: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let vars: Vec<_> = vars.into_iter().collect();
        let hostname = vars.iter().find(|(name, _)| name == "HOSTNAME").map(|(_, value)| value.clone());
        env::read(vars)?.for_production(hostname).resolve()
    }

    /// The topic events are published to.
    pub fn topic_name(&self) -> String {
        self.topic_naming.main_topic(&self.topic_prefix)
    }

    /// The topic dead letters go to.
    pub fn dlq_topic_name(&self) -> String {
        format!("{}{}", self.topic_name(), self.dlq_topic_suffix)
    }
}

impl<'de> serde::Deserialize<'de> for KafkaEventBusConfig {
    /// Reads settings by name or alias, and checks them.
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let named = BTreeMap::<String, ::config::Value>::deserialize(from)?;
        env::read_named(named).and_then(Settings::resolve).map_err(serde::de::Error::custom)
    }
}

impl Default for KafkaEventBusConfig {
    fn default() -> Self {
        Settings::default().resolve().expect("the defaults are valid: a test says so")
    }
}
