//! The client's settings, its errors, and what it says between the lines.

use crate::config::{Acks, Compression, ConfigError, KafkaEventBusConfig};
use crate::error::{BusError, NotAcknowledged};
use crate::stats::Counters;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Hears what the client says about its connections.
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
            self.0.counters.reconnections.fetch_add(1, Ordering::Relaxed);
            tracing::info!("the brokers answer again");
        }
    }

    pub(super) fn is_down(&self) -> bool {
        self.0.down.load(Ordering::Relaxed)
    }

    /// The brokers said that these credentials or this certificate will not do.
    pub(super) fn was_refused(&self) -> bool {
        self.0.refused.load(Ordering::Relaxed)
    }

    pub(super) fn last_error(&self) -> Option<String> {
        self.0.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn consume_error(&self, error: &KafkaError) {
        self.0.counters.failed();
        tracing::warn!(%error, "reading failed; trying again");
    }
}

impl ClientContext for Watcher {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::warn!(target: "librdkafka", facility, "{message}");
            }
            _ => tracing::debug!(target: "librdkafka", facility, "{message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.0.down.store(true, Ordering::Relaxed);
        }
        if is_refusal(&error) {
            self.0.refused.store(true, Ordering::Relaxed);
        }
        self.0.counters.failed();
        tracing::warn!(%error, reason, "the Kafka client reports a problem");
        *self.0.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
    }
}

fn is_refusal(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed | RDKafkaErrorCode::SSL)
    )
}

/// What every client of ours needs.
pub(super) fn common(config: &KafkaEventBusConfig) -> ClientConfig {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", &config.bootstrap_servers)
        .set("client.id", config.consumer_name())
        // Errors are reported to the watcher; the client need not write them to standard error as well.
        .set("log_level", "4");
    security(config, &mut client);
    client
}

pub(super) fn producer(config: &KafkaEventBusConfig) -> ClientConfig {
    let mut client = common(config);
    client
        // Java's partitioner: a Python or Java peer puts the same aggregate on the same partition.
        .set("partitioner", "murmur2_random")
        .set("acks", match config.acks { Acks::None => "0", Acks::Leader => "1", Acks::All => "all" })
        // librdkafka's own default would let a retried batch overtake its successor.
        .set("enable.idempotence", if config.acks == Acks::All { "true" } else { "false" })
        .set("batch.size", config.batch_size.to_string())
        .set("linger.ms", config.linger_ms.to_string())
        .set("compression.type", compression(config.compression_type))
        .set("message.timeout.ms", "120000");
    client
}
