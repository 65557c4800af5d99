//! What was asked for, before defaults and checks.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::{Deserialize, Deserializer};
use uuid::Uuid;

use super::choices::{
    Acks, AutoOffsetReset, Compression, DlqScope, Preset, SaslMechanism, SecurityProtocol, TopicNaming, UnknownType,
};
use super::{ClientProperties, ConfigError, KafkaEventBusConfig, Limits};
use crate::engine::FloodBreaker;
use crate::retry::{RetryPolicy, RetryScope};

/// Every setting, given or not. The names are those a file or the environment may use.
#[derive(Debug, Default, Deserialize, bon::Builder)]
#[builder(
    builder_type(name = KafkaEventBusConfigBuilder, vis = "pub"),
    state_mod(vis = "pub(crate)"),
    finish_fn(name = finish, vis = "pub(super)"),
    on(String, into),
    on(PathBuf, into)
)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// The brokers to ask first: `host:port`, comma-separated. `localhost:9092` by default.
    pub(super) bootstrap_servers: Option<String>,
    /// What the topics are named after. `events` by default.
    pub(super) topic_prefix: Option<String>,
    /// How they are named after it. `{prefix}.stream` by default.
    pub(super) topic_naming: Option<TopicNaming>,
    /// The consumer group. `default` by default.
    pub(super) consumer_group: Option<String>,
    /// This member of it. `hostname-uuid` by default.
    pub(super) consumer_name: Option<String>,
    /// The service this program is.
    pub(super) service_name: Option<String>,

    /// Producer settings that belong together. Explicit settings outrank them.
    pub(super) preset: Option<Preset>,
    /// How many brokers must have an event. All in sync, by default.
    pub(super) acks: Option<Acks>,
    /// How batches are compressed. gzip by default.
    pub(super) compression: Option<Compression>,
    /// Bytes per batch and partition; the seeds' `batch_size`. 16,384 by default.
    pub(super) producer_batch_bytes: Option<u32>,
    /// How long a batch waits for company. 5 ms by default.
    pub(super) producer_linger_ms: Option<u32>,
    /// Whether the brokers drop what the producer's own retries duplicate. On by default, unless `acks` rules it
    /// out.
    pub(super) enable_idempotence: Option<bool>,
    /// How long an event may remain unacknowledged. 120 s by default.
    #[serde(default, deserialize_with = "seconds")]
    pub(super) delivery_timeout: Option<Duration>,
    /// How many `publish_background` calls may be under way. 1,000 by default.
    pub(super) background_publish_max: Option<usize>,

    /// Where a new group starts. With the oldest event, by default.
    pub(super) auto_offset_reset: Option<AutoOffsetReset>,
    /// A member that is silent for so long is dead. 30,000 by default.
    pub(super) session_timeout_ms: Option<u32>,
    /// How often a member says that it lives. 10,000 by default, at most a third of the session timeout.
    pub(super) heartbeat_interval_ms: Option<u32>,
    /// A member that does not ask for events for so long is stuck. 300,000 by default.
    pub(super) max_poll_interval_ms: Option<u32>,
    /// What to do with unknown types of event. Skip them, by default.
    pub(super) unknown_type: Option<UnknownType>,
    /// Give up on a handler after this. Never, by default.
    #[serde(default, deserialize_with = "seconds")]
    pub(super) handler_timeout: Option<Duration>,
    /// The bounds of what is in hand.
    #[serde(skip)]
    pub(super) limits: Option<Limits>,
    /// Resolved events are committed at the latest after this. 0.5 s by default.
    #[serde(default, deserialize_with = "seconds")]
    pub(super) commit_interval: Option<Duration>,
    /// … or as soon as this many are. 10,000 by default.
    pub(super) commit_records_max: Option<usize>,
    /// Whether events that are done while an earlier one waits are committed too. They are, by default.
    pub(super) commit_finished: Option<bool>,
    /// Whether what handlers publish is written in one transaction with the positions of what they handle. It is not, by
    /// default.
    pub(super) exactly_once: Option<bool>,

    /// When to try a failed handler again, all in one. The single settings outrank it.
    #[serde(skip)]
    pub(super) retry: Option<RetryPolicy>,
    /// Retries after the first attempt. 3 by default.
    pub(super) max_retries: Option<u32>,
    /// The wait after the first failure. 1 s by default.
    #[serde(default, deserialize_with = "seconds")]
    pub(super) retry_base_delay: Option<Duration>,
    /// The longest wait, before jitter. 60 s by default.
    #[serde(default, deserialize_with = "seconds")]
    pub(super) retry_max_delay: Option<Duration>,
    /// The share by which waits vary at random. 0.1 by default.
    pub(super) retry_jitter: Option<f64>,
    /// What waits meanwhile. Later events of the same key, by default.
    pub(super) retry_scope: Option<RetryScope>,
    /// Whether events that keep failing are kept. They are, by default.
    pub(super) enable_dlq: Option<bool>,
    /// What the dead letters' topic ends in. `.dlq` by default.
    pub(super) dlq_topic_suffix: Option<String>,
    /// What a dead letter means for later events of its key. Nothing, by default.
    pub(super) dlq_scope: Option<DlqScope>,
    /// The share of recent events, 0.0 to 1.0, above which their becoming dead letters is a flood: then nothing is
    /// handled for a while, and what would have become one is tried again. There is no such bound by default.
    pub(super) dlq_flood_share: Option<f64>,
    /// How many recent events count for that share. 100 by default.
    pub(super) dlq_flood_window: Option<usize>,
    /// How long nothing is handled in a flood. 60 s by default.
    #[serde(default, deserialize_with = "seconds")]
    pub(super) dlq_flood_pause: Option<Duration>,
    /// How often one event may be replayed before a replay must be forced. 3 by default.
    pub(super) dlq_max_replay_attempts: Option<u32>,

    /// How to speak to the brokers. In the clear, by default.
    pub(super) security_protocol: Option<SecurityProtocol>,
    /// How credentials are sent.
    pub(super) sasl_mechanism: Option<SaslMechanism>,
    /// The user.
    pub(super) sasl_username: Option<String>,
    /// The user's password.
    #[builder(into)]
    pub(super) sasl_password: Option<SecretString>,
    /// The certificate authority to trust, instead of the system's.
    pub(super) ssl_cafile: Option<PathBuf>,
    /// Our certificate.
    pub(super) ssl_certfile: Option<PathBuf>,
    /// Our certificate's key.
    pub(super) ssl_keyfile: Option<PathBuf>,
    /// Whether the broker's certificate must be for the host we called. It must, by default.
    pub(super) ssl_check_hostname: Option<bool>,

    /// Whether missing topics are created at `connect`. They are, by default.
    pub(super) create_topics: Option<bool>,
    /// The partitions of a topic we create. The brokers' default, by default.
    pub(super) topic_partitions: Option<i32>,
    /// The replicas of a topic we create. The brokers' default, by default.
    pub(super) topic_replication: Option<i16>,
    /// Further settings for the Kafka client, by its own names.
    #[builder(into)]
    pub(super) client_properties: Option<ClientProperties>,

    /// Spans for publishing, consuming and handling. On by default.
    pub(super) enable_tracing: Option<bool>,
    /// Metrics. On by default.
    pub(super) enable_metrics: Option<bool>,

    /// How long `connect` looks for a broker. 10 s by default.
    #[serde(default, deserialize_with = "seconds")]
    pub(super) connect_timeout: Option<Duration>,
    /// How long `shutdown` waits for what is in hand. 30 s by default.
    #[serde(default, deserialize_with = "seconds")]
    pub(super) shutdown_timeout: Option<Duration>,
    /// How long a rebalance waits for what is in hand. 10 s by default, at most half the session timeout.
    #[serde(default, deserialize_with = "seconds")]
    pub(super) rebalance_drain_timeout: Option<Duration>,
}

impl<S: kafka_event_bus_config_builder::IsComplete> KafkaEventBusConfigBuilder<S> {
    /// Fills in the defaults and checks the whole.
    ///
    /// # Errors
    /// When a setting cannot be used by itself or beside another; the error says what to write instead.
    pub fn build(self) -> Result<KafkaEventBusConfig, ConfigError> {
        self.finish().resolve()
    }
}

/// The producer settings of a preset.
struct Producer {
    batch_bytes: u32,
    linger_ms: u32,
    compression: Compression,
    acks: Acks,
}

impl Producer {
    fn of(preset: Option<Preset>) -> Self {
        let (batch_kib, linger_ms, compression, acks) = match preset {
            None => (16, 5, Compression::Gzip, Acks::All),
            Some(Preset::MaxThroughput) => (1024, 100, Compression::Lz4, Acks::Leader),
            Some(Preset::MinLatency) => (16, 0, Compression::None, Acks::Leader),
            Some(Preset::Balanced) => (32, 10, Compression::Gzip, Acks::All),
        };
        Self { batch_bytes: batch_kib * 1024, linger_ms, compression, acks }
    }
}

impl Settings {
    /// What the tutorial's production configuration falls back to.
    pub(super) fn for_production(self, hostname: Option<String>) -> Self {
        Self {
            topic_prefix: self.topic_prefix.or(Some("myapp.events".into())),
            consumer_name: self.consumer_name.or(hostname),
            preset: self.preset.or(Some(Preset::Balanced)),
            security_protocol: self.security_protocol.or(Some(SecurityProtocol::SaslSsl)),
            sasl_mechanism: self.sasl_mechanism.or(Some(SaslMechanism::ScramSha512)),
            ssl_cafile: self.ssl_cafile.or(Some("/etc/kafka/ssl/ca.crt".into())),
            ..self
        }
    }

    /// Fills in the defaults and checks the whole.
    pub(super) fn resolve(self) -> Result<KafkaEventBusConfig, ConfigError> {
        let producer = Producer::of(self.preset);
        let acks = self.acks.unwrap_or(producer.acks);
        let enable_idempotence = idempotence(self.enable_idempotence, acks)?;
        let session_timeout_ms = self.session_timeout_ms.unwrap_or(30_000);
        let retry = self.retry.unwrap_or_default();
        let config = KafkaEventBusConfig {
            bootstrap_servers: self.bootstrap_servers.unwrap_or_else(|| "localhost:9092".into()),
            topic_prefix: self.topic_prefix.unwrap_or_else(|| "events".into()),
            topic_naming: self.topic_naming.unwrap_or_default(),
            consumer_group: self.consumer_group.unwrap_or_else(|| "default".into()),
            consumer_name: self.consumer_name.unwrap_or_else(unique_name),
            service_name: self.service_name,
            acks,
            compression: self.compression.unwrap_or(producer.compression),
            producer_batch_bytes: self.producer_batch_bytes.unwrap_or(producer.batch_bytes),
            producer_linger_ms: self.producer_linger_ms.unwrap_or(producer.linger_ms),
            enable_idempotence,
            delivery_timeout: self.delivery_timeout.unwrap_or(Duration::from_secs(120)),
            background_publish_max: self.background_publish_max.unwrap_or(1_000),
            auto_offset_reset: self.auto_offset_reset.unwrap_or(AutoOffsetReset::Earliest),
            session_timeout_ms,
            heartbeat_interval_ms: self.heartbeat_interval_ms.unwrap_or(10_000.min(session_timeout_ms / 3)),
            max_poll_interval_ms: self.max_poll_interval_ms.unwrap_or(300_000),
            unknown_type: self.unknown_type.unwrap_or(UnknownType::Skip),
            handler_timeout: self.handler_timeout,
            limits: self.limits.unwrap_or_default(),
            commit_interval: self.commit_interval.unwrap_or(Duration::from_millis(500)),
            commit_records_max: self.commit_records_max.unwrap_or(10_000),
            commit_finished: self.commit_finished.unwrap_or(true),
            exactly_once: self.exactly_once.unwrap_or(false),
            retry: RetryPolicy {
                base: self.retry_base_delay.unwrap_or(retry.base),
                max: self.retry_max_delay.unwrap_or(retry.max),
                jitter: self.retry_jitter.unwrap_or(retry.jitter),
                max_retries: self.max_retries.unwrap_or(retry.max_retries),
                scope: self.retry_scope.unwrap_or(retry.scope),
            },
            enable_dlq: self.enable_dlq.unwrap_or(true),
            dlq_topic_suffix: self.dlq_topic_suffix.unwrap_or_else(|| ".dlq".into()),
            dlq_scope: self.dlq_scope.unwrap_or(DlqScope::Event),
            dlq_flood_breaker: self.dlq_flood_share.map(|share| FloodBreaker {
                share,
                window: self.dlq_flood_window.unwrap_or(100),
                pause: self.dlq_flood_pause.unwrap_or(Duration::from_secs(60)),
            }),
            dlq_max_replay_attempts: self.dlq_max_replay_attempts.unwrap_or(3),
            security_protocol: self.security_protocol.unwrap_or(SecurityProtocol::Plaintext),
            sasl_mechanism: self.sasl_mechanism,
            sasl_username: self.sasl_username,
            sasl_password: self.sasl_password,
            ssl_cafile: self.ssl_cafile,
            ssl_certfile: self.ssl_certfile,
            ssl_keyfile: self.ssl_keyfile,
            ssl_check_hostname: self.ssl_check_hostname.unwrap_or(true),
            create_topics: self.create_topics.unwrap_or(true),
            topic_partitions: self.topic_partitions,
            topic_replication: self.topic_replication,
            client_properties: self.client_properties.unwrap_or_default(),
            enable_tracing: self.enable_tracing.unwrap_or(true),
            enable_metrics: self.enable_metrics.unwrap_or(true),
            connect_timeout: self.connect_timeout.unwrap_or(Duration::from_secs(10)),
            shutdown_timeout: self.shutdown_timeout.unwrap_or(Duration::from_secs(30)),
            rebalance_drain_timeout: self
                .rebalance_drain_timeout
                .unwrap_or_else(|| Duration::from_secs(10).min(Duration::from_millis(session_timeout_ms.into()) / 2)),
        };
        config.check()?;
        Ok(config)
    }
}

/// The brokers cannot tell a repeated batch from a new one unless all of them acknowledge.
fn idempotence(asked: Option<bool>, acks: Acks) -> Result<bool, ConfigError> {
    match (asked, acks) {
        (Some(true), Acks::Zero | Acks::Leader) => Err(ConfigError::contradiction(
            "enable_idempotence = true",
            format_args!("acks = {acks}"),
            "set acks to all, or enable_idempotence to false",
        )),
        (None, Acks::Zero | Acks::Leader) => {
            tracing::warn!(%acks, "the idempotent producer is off: a retry may duplicate or reorder events");
            Ok(false)
        }
        (asked, Acks::All | Acks::Zero | Acks::Leader) => Ok(asked.unwrap_or(true)),
    }
}

fn unique_name() -> String {
    format!("{}-{}", gethostname::gethostname().to_string_lossy(), Uuid::new_v4())
}

fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let seconds = Option::<f64>::deserialize(from)?;
    seconds.map(Duration::try_from_secs_f64).transpose().map_err(serde::de::Error::custom)
}
