//! What a bus has done so far.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::dispatch::DispatchOutcome;
use crate::event::{AnyEvent, offset_text};
use crate::telemetry::{Note, Telemetry};

/// A snapshot. Counters a backend has no use for stay 0, times that did not come stay `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Events published: handed to the handlers (in memory), acknowledged by the brokers (Kafka).
    pub events_published: u64,
    /// Events read from the log, once per delivery.
    pub events_consumed: u64,
    /// Records passed over: of a type unknown here, or a replay for another group. Not among `events_consumed`.
    pub events_skipped: u64,
    /// Events all of whose handlers succeeded in the end.
    pub events_processed_success: u64,
    /// Events given up on.
    pub events_processed_failed: u64,
    /// Records acknowledged by the dead-letter topic.
    pub messages_sent_to_dlq: u64,
    /// Calls of handlers.
    pub handlers_invoked: u64,
    /// Calls of handlers that failed.
    pub handler_errors: u64,
    /// `publish_background` calls that went to the background.
    pub background_tasks_created: u64,
    /// Events that could not be published.
    pub publish_errors: u64,
    /// Times the connection was lost and came back.
    pub reconnections: u64,
    /// Times partitions were given or taken.
    pub rebalance_count: u64,
    /// When an event was last published.
    #[serde(serialize_with = "iso")]
    pub last_publish_at: Option<Timestamp>,
    /// When an event was last read.
    #[serde(serialize_with = "iso")]
    pub last_consume_at: Option<Timestamp>,
    /// When something last failed.
    #[serde(serialize_with = "iso")]
    pub last_error_at: Option<Timestamp>,
    /// When the bus last connected.
    #[serde(serialize_with = "iso")]
    pub connected_at: Option<Timestamp>,
}

impl Stats {
    /// As a JSON object: numbers, and ISO 8601 texts with offset.
    pub fn to_dict(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(dict)) => dict,
            // Numbers and texts always serialise.
            _ => Map::new(),
        }
    }
}

#[expect(clippy::ref_option, reason = "serde passes the field by reference")]
fn iso<S: Serializer>(time: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
    time.as_ref().map(offset_text).serialize(to)
}

/// What a bus counts with. Every method may be called from any thread.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Where the same is recorded for others to collect.
    pub(crate) telemetry: Telemetry,
    pub(crate) events_published: AtomicU64,
    pub(crate) events_consumed: AtomicU64,
    pub(crate) events_skipped: AtomicU64,
    pub(crate) events_processed_success: AtomicU64,
    pub(crate) events_processed_failed: AtomicU64,
    pub(crate) messages_sent_to_dlq: AtomicU64,
    pub(crate) handlers_invoked: AtomicU64,
    pub(crate) handler_errors: AtomicU64,
    pub(crate) background_tasks_created: AtomicU64,
    pub(crate) publish_errors: AtomicU64,
    pub(crate) reconnections: AtomicU64,
    pub(crate) rebalance_count: AtomicU64,
    last_publish_at: Instant,
    last_consume_at: Instant,
    last_error_at: Instant,
    connected_at: Instant,
}

#[cfg_attr(not(feature = "kafka"), expect(dead_code, reason = "only a log is consumed, connected to"))]
impl Counters {
    pub(crate) fn recorded_in(telemetry: Telemetry) -> Self {
        Self { telemetry, ..Self::default() }
    }

    pub(crate) fn published(&self, events: usize) {
        self.events_published.fetch_add(events as u64, Relaxed);
        self.last_publish_at.set_now();
    }

    pub(crate) fn publish_failed(&self, events: usize) {
        self.telemetry.note(|| Note::NotPublished { events });
        self.publish_errors.fetch_add(events as u64, Relaxed);
        self.last_error_at.set_now();
    }

    pub(crate) fn consumed(&self, events: usize) {
        self.events_consumed.fetch_add(events as u64, Relaxed);
        self.last_consume_at.set_now();
    }

    pub(crate) fn dispatched(&self, event: &AnyEvent, outcome: &DispatchOutcome) {
        for result in outcome.results() {
            let (handler, error, took) = (&result.name, result.outcome.as_ref().err(), result.took);
            self.telemetry.note(|| Note::Handled { event_type: event.metadata().event_type, handler, error, took });
        }
        let failed = outcome.failed();
        self.handlers_invoked.fetch_add(outcome.invoked() as u64, Relaxed);
        self.handler_errors.fetch_add(failed as u64, Relaxed);
        if failed > 0 {
            self.last_error_at.set_now();
        }
    }

    pub(crate) fn failed(&self) {
        self.last_error_at.set_now();
    }

    pub(crate) fn connected(&self) {
        self.connected_at.set_now();
        self.telemetry.note(|| Note::Connected(true));
    }

    pub(crate) fn connection_failed(&self) {
        self.failed();
        self.telemetry.note(|| Note::ConnectionError);
    }

    pub(crate) fn reconnected(&self) {
        self.reconnections.fetch_add(1, Relaxed);
        self.telemetry.note(|| Note::Reconnected);
    }

    pub(crate) fn rebalanced(&self) {
        self.rebalance_count.fetch_add(1, Relaxed);
        self.telemetry.note(|| Note::Rebalanced);
    }

    pub(crate) fn snapshot(&self) -> Stats {
        Stats {
            events_published: self.events_published.load(Relaxed),
            events_consumed: self.events_consumed.load(Relaxed),
            events_skipped: self.events_skipped.load(Relaxed),
            events_processed_success: self.events_processed_success.load(Relaxed),
            events_processed_failed: self.events_processed_failed.load(Relaxed),
            messages_sent_to_dlq: self.messages_sent_to_dlq.load(Relaxed),
            handlers_invoked: self.handlers_invoked.load(Relaxed),
            handler_errors: self.handler_errors.load(Relaxed),
            background_tasks_created: self.background_tasks_created.load(Relaxed),
            publish_errors: self.publish_errors.load(Relaxed),
            reconnections: self.reconnections.load(Relaxed),
            rebalance_count: self.rebalance_count.load(Relaxed),
            last_publish_at: self.last_publish_at.get(),
            last_consume_at: self.last_consume_at.get(),
            last_error_at: self.last_error_at.get(),
            connected_at: self.connected_at.get(),
        }
    }
}

/// A point in time that threads may set, in microseconds since 1970; 0 is never.
#[derive(Debug, Default)]
struct Instant(AtomicI64);

impl Instant {
    fn set_now(&self) {
        self.0.store(Timestamp::now().as_microsecond(), Relaxed);
    }

    fn get(&self) -> Option<Timestamp> {
        match self.0.load(Relaxed) {
            0 => None,
            micros => Timestamp::from_microsecond(micros).ok(),
        }
    }
}
