//! The client's settings, its errors, and what it says between the lines.

use crate::config::{ConfigError, KafkaEventBusConfig};
use crate::error::{BusError, NotAcknowledged};
use crate::mutant::{self, Mutant};
use crate::stats::Counters;
use crate::telemetry::Note;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use secrecy::ExposeSecret;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Hears what the client says about its connections. Cloning shares it.
#[derive(Clone)]
pub(super) struct Watcher(Arc<Watched>);

struct Watched {
    counters: Arc<Counters>,
    /// All brokers were out of reach the last time we heard.
    down: AtomicBool,
    refused: AtomicBool,
    last_error: Mutex<Option<String>>,
}

impl Watcher {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        let (down, refused) = (AtomicBool::new(false), AtomicBool::new(false));
        Self(Arc::new(Watched { counters, down, refused, last_error: Mutex::new(None) }))
    }

    /// A broker has answered: if all were out of reach before, this is a reconnection.
    pub(super) fn alive(&self) {
        if self.0.down.load(Ordering::Relaxed) && self.0.down.swap(false, Ordering::Relaxed) {
            self.0.counters.reconnected();
            tracing::info!("the brokers answer again");
        }
    }

    /// What the client counts by itself: how far behind the consumer is.
    pub(super) fn statistics(&self, statistics: &Statistics) {
        for topic in statistics.topics.values() {
            for (index, partition) in &topic.partitions {
                let committed = partition.committed_offset;
                let records = (partition.desired && committed >= 0 && partition.ls_offset >= committed)
                    .then(|| partition.ls_offset.abs_diff(committed));
                self.0.counters.telemetry.note(|| Note::Lag { partition: *index, records });
            }
        }
    }

    pub(super) fn is_down(&self) -> bool {
        self.0.down.load(Ordering::Relaxed)
    }

    pub(super) fn last_error(&self) -> Option<String> {
        self.0.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn could_not_read(&self, error: &KafkaError) {
        self.0.counters.failed();
        tracing::warn!(%error, "reading failed; trying again");
    }

    /// Why nobody answered.
    pub(super) fn unreachable(&self, bootstrap: &str, waited: Duration, error: KafkaError) -> BusError {
        let said = self.last_error();
        let source = said.map_or_else(|| error.into(), Into::into);
        match self.0.refused.load(Ordering::Relaxed) {
            true => BusError::Unauthenticated { source },
            false => BusError::Unreachable { bootstrap: bootstrap.to_owned(), waited, source: Some(source) },
        }
    }
}

impl ConsumerContext for Watcher {}

impl ClientContext for Watcher {
    /// What matters comes as an error as well.
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        if code == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        if code == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.0.down.store(true, Ordering::Relaxed);
        }
        if matches!(code, Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed)) {
            self.0.refused.store(true, Ordering::Relaxed);
        }
        self.0.counters.connection_failed();
        tracing::warn!(%error, reason, "the Kafka client reports a problem");
        *self.0.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
    }
}

/// Makes a client; a setting it refuses is a mistake in the configuration.
pub(super) fn make<T, C>(settings: &ClientConfig, context: C) -> Result<T, BusError>
where
    T: FromClientConfigAndContext<C>,
    C: ClientContext,
{
    settings.create_with_context(context).map_err(|error| match error {
        KafkaError::ClientConfig(_, problem, setting, _) => BusError::Config(ConfigError::Invalid {
            setting: "a setting of the Kafka client",
            value: setting,
            remedy: client_remedy(&problem),
        }),
        error => BusError::Backend { doing: "creating the Kafka client", source: error.into() },
    })
}

/// The client's sentence names the reason but not the way out.
fn client_remedy(problem: &str) -> &'static str {
    if problem.contains("build time") || problem.contains("not available") {
        return "librdkafka was built without support for it; enable rdkafka's feature ssl, zstd or gssapi";
    }
    "librdkafka does not accept it; its documentation lists the values"
}

/// What every client of ours needs.
pub(super) fn common(config: &KafkaEventBusConfig) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", &config.bootstrap_servers).set("client.id", &config.consumer_name);
    settings.set("security.protocol", config.security_protocol.as_str());
    if let Some(mechanism) = config.sasl_mechanism.filter(|_| config.security_protocol.uses_sasl()) {
        settings.set("sasl.mechanism", mechanism.as_str());
        settings.set("sasl.username", config.sasl_username.as_deref().unwrap_or_default());
        settings.set("sasl.password", config.sasl_password.as_ref().map_or("", |password| password.expose_secret()));
    }
    if config.security_protocol.uses_tls() {
        let files = [
            ("ssl.ca.location", &config.ssl_cafile),
            ("ssl.certificate.location", &config.ssl_certfile),
            ("ssl.key.location", &config.ssl_keyfile),
        ];
        for (setting, file) in files {
            if let Some(file) = file {
                settings.set(setting, file.to_string_lossy());
            }
        }
        let check = if config.ssl_check_hostname { "https" } else { "none" };
        settings.set("ssl.endpoint.identification.algorithm", check);
    }
    settings
}

/// The user's own settings come last and outrank ours.
fn finished(mut settings: ClientConfig, config: &KafkaEventBusConfig) -> ClientConfig {
    for (name, value) in config.client_properties.iter() {
        settings.set(name, value);
    }
    settings
}

pub(super) fn admin(config: &KafkaEventBusConfig) -> ClientConfig {
    finished(common(config), config)
}

pub(super) fn producer(config: &KafkaEventBusConfig) -> ClientConfig {
    let mut settings = common(config);
    settings
        // Java's partitioner: a Python or Java peer puts the same aggregate on the same partition.
        .set("partitioner", "murmur2_random")
        .set("acks", config.acks.as_str())
        // Off by default in librdkafka, where a batch that is sent again may then overtake its successor.
        .set("enable.idempotence", if config.enable_idempotence { "true" } else { "false" })
        .set("batch.size", config.producer_batch_bytes.to_string())
        .set("linger.ms", config.producer_linger_ms.to_string())
        .set("compression.type", config.compression.as_str())
        .set("message.timeout.ms", config.delivery_timeout.as_millis().to_string());
    let leader_only = mutant::is(Mutant::WaitsForTheLeaderOnly);
    if leader_only || mutant::is(Mutant::PublishesWithoutIdempotence) {
        settings.set("acks", if leader_only { "1" } else { "all" }).set("enable.idempotence", "false");
    }
    finished(settings, config)
}

/// For what must not be lost whatever `acks` the user chose: dead letters, replays and their ledger.
pub(super) fn careful_producer(config: &KafkaEventBusConfig) -> ClientConfig {
    let mut settings = producer(config);
    settings.set("acks", "all").set("enable.idempotence", "true").set("linger.ms", "0");
    settings
}

/// For what belongs into one transaction with the positions it comes from.
pub(super) fn transactional(config: &KafkaEventBusConfig) -> ClientConfig {
    let mut settings = careful_producer(config);
    // One that comes back under its name takes over from its former self; a new name must wait out the timeout.
    settings.set("transactional.id", format!("{}.{}", config.consumer_group, config.consumer_name));
    let timeout = TRANSACTION_TIMEOUT;
    settings.set("transaction.timeout.ms", timeout.as_millis().to_string());
    // The client insists that a transaction outlasts its messages.
    settings.set("message.timeout.ms", config.delivery_timeout.min(timeout).as_millis().to_string());
    settings
}

/// After so long the brokers abort a transaction nobody ends; what is published behind it cannot be read until then.
/// Kafka's and the client's default.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

/// How often the client tells how far behind it is.
const LAG_INTERVAL_MS: &str = "5000";

pub(super) fn consumer(config: &KafkaEventBusConfig, measured: bool) -> ClientConfig {
    let mut settings = common(config);
    if measured {
        settings.set("statistics.interval.ms", LAG_INTERVAL_MS);
    }
    settings
        .set("group.id", &config.consumer_group)
        .set("auto.offset.reset", config.auto_offset_reset.as_str())
        .set("session.timeout.ms", config.session_timeout_ms.to_string())
        .set("heartbeat.interval.ms", config.heartbeat_interval_ms.to_string())
        .set("max.poll.interval.ms", config.max_poll_interval_ms.to_string())
        .set("partition.assignment.strategy", "cooperative-sticky")
        // What waits in the client is not in the engine's books. Enough that a partition alone never runs dry …
        .set("queued.min.messages", (4 * config.limits.partition_records_max).clamp(1, 10_000_000).to_string())
        // … as long as the client looks soon whether there is room again; by default it looks once a second.
        .set("fetch.queue.backoff.ms", "5");
    let mut settings = finished(settings, config);
    if config.exactly_once {
        settings.set("isolation.level", "read_committed");
    }
    // The engine decides what is committed, and when: nobody may outrank that.
    settings.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
    if mutant::is(Mutant::CommitsByItself) {
        settings.set("enable.auto.commit", "true").set("enable.auto.offset.store", "true");
    } else if mutant::is(Mutant::StartsAtTheEnd) {
        settings.set("auto.offset.reset", "latest");
    }
    settings
}

/// For looking at a topic beside the group: assigns by hand, commits nothing, is told where a partition ends.
pub(super) fn bystander(config: &KafkaEventBusConfig) -> ClientConfig {
    let mut settings = finished(common(config), config);
    settings
        // The client insists on a name even where there is no group to join.
        .set("group.id", format!("{}.bystander", config.consumer_group))
        // Where a partition ends is what it waits for.
        .set("fetch.wait.max.ms", "10")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true");
    settings
}

/// What a failed delivery leaves behind.
pub(super) fn not_acknowledged(error: KafkaError) -> NotAcknowledged {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        Some(
            Code::MessageSizeTooLarge
            | Code::InvalidMessage
            | Code::InvalidRecord
            | Code::MessageBatchTooLarge
            | Code::TopicAuthorizationFailed
            | Code::InvalidTopic
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicOrPartition
            | Code::PolicyViolation,
        ) => NotAcknowledged::Rejected(error.into()),
        Some(Code::QueueFull | Code::PurgeQueue) => NotAcknowledged::NotSent(error.into()),
        _ => NotAcknowledged::OutcomeUnknown(error.into()),
    }
}
