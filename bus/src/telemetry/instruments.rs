//! OpenTelemetry's instruments, and what goes into each.

use super::{Names, Note};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The bounds the messaging conventions ask for, in seconds.
const SECONDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// Powers of two up to the largest batch the clients send by default.
const BATCHES: [f64; 15] =
    [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0];

pub(super) struct Instruments {
    published: Count,
    consumed: Count,
    publishing: Span,
    attempts: Span,
    handler_invocations: Counter<u64>,
    handler_errors: Counter<u64>,
    handler_duration: Histogram<f64>,
    dead_letters: Counter<u64>,
    connection_errors: Counter<u64>,
    reconnections: Counter<u64>,
    rebalances: Counter<u64>,
    publish_errors: Counter<u64>,
    batch_size: Histogram<u64>,
    levels: Arc<Mutex<Levels>>,
}

/// What is shown as it is when somebody looks.
#[derive(Default)]
struct Levels {
    connected: bool,
    lag: BTreeMap<i32, u64>,
    parked: u64,
}

/// A counter under one name or two.
struct Count {
    ours: Option<Counter<u64>>,
    theirs: Option<Counter<u64>>,
    operation: &'static str,
}

impl Count {
    fn add(&self, events: u64, event_type: impl Into<opentelemetry::Value>) {
        if let Some(counter) = &self.theirs {
            counter.add(events, &messaging(self.operation));
        }
        if let Some(counter) = &self.ours {
            counter.add(events, &[KeyValue::new("event_type", event_type)]);
        }
    }
}

/// A duration under one name in milliseconds, or another in seconds, or both.
struct Span {
    ours: Option<Histogram<f64>>,
    theirs: Option<Histogram<f64>>,
    operation: &'static str,
}

impl Span {
    fn record(&self, took: Duration, attributes: &[KeyValue]) {
        if let Some(histogram) = &self.theirs {
            histogram.record(took.as_secs_f64(), &messaging(self.operation));
        }
        if let Some(histogram) = &self.ours {
            histogram.record(milliseconds(took), attributes);
        }
    }
}

fn messaging(operation: &'static str) -> [KeyValue; 2] {
    [KeyValue::new("messaging.system", "kafka"), KeyValue::new("messaging.operation.name", operation)]
}

fn milliseconds(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

impl Instruments {
    pub(super) fn new(meter: &Meter, names: Names) -> Self {
        let (ours, theirs) = (names != Names::Messaging, names != Names::EventBus);
        let counter = |name: &'static str, what: &'static str| meter.u64_counter(name).with_description(what).build();
        let count = |name, standard, operation, what| Count {
            ours: ours.then(|| counter(name, what)),
            theirs: theirs.then(|| counter(standard, what)),
            operation,
        };
        // No unit: exporters would make it part of the name.
        let milliseconds =
            |name: &'static str, what: &'static str| meter.f64_histogram(name).with_description(what).build();
        let seconds = |name: &'static str, what: &'static str| {
            let histogram = meter.f64_histogram(name).with_unit("s").with_boundaries(SECONDS.to_vec());
            histogram.with_description(what).build()
        };
        let span = |name, standard, operation, what| Span {
            ours: ours.then(|| milliseconds(name, what)),
            theirs: theirs.then(|| seconds(standard, what)),
            operation,
        };
        let levels = Arc::<Mutex<Levels>>::default();
        watch(meter, &levels);
        Self {
            published: count(
                "kafka.eventbus.messages.published",
                "messaging.client.sent.messages",
                "send",
                "Events the brokers acknowledged",
            ),
            consumed: count(
                "kafka.eventbus.messages.consumed",
                "messaging.client.consumed.messages",
                "poll",
                "Events read, once per delivery",
            ),
            publishing: span(
                "kafka.eventbus.publish.duration",
                "messaging.client.operation.duration",
                "send",
                "From the call to publish to the last acknowledgement",
            ),
            attempts: span(
                "kafka.eventbus.consume.duration",
                "messaging.process.duration",
                "process",
                "One attempt at an event: decoding and all its handlers",
            ),
            handler_invocations: counter("kafka.eventbus.handler.invocations", "Calls of handlers"),
            handler_errors: counter("kafka.eventbus.handler.errors", "Calls of handlers that failed"),
            handler_duration: milliseconds("kafka.eventbus.handler.duration", "One call of one handler"),
            dead_letters: counter("kafka.eventbus.messages.dlq", "Records the dead-letter topic acknowledged"),
            connection_errors: counter("kafka.eventbus.connection.errors", "Problems the Kafka client reported"),
            reconnections: counter("kafka.eventbus.reconnections", "Times all brokers were lost and one came back"),
            rebalances: counter("kafka.eventbus.rebalances", "Times partitions were given or taken"),
            publish_errors: counter("kafka.eventbus.publish.errors", "Events not known to be in the log"),
            batch_size: meter
                .u64_histogram("kafka.eventbus.batch.size")
                .with_description("Events in one call to publish")
                .with_boundaries(BATCHES.to_vec())
                .build(),
            levels,
        }
    }

    pub(super) fn record(&self, note: Note<'_>) {
        match note {
            Note::Publishing { events, took } => {
                self.batch_size.record(events as u64, &[]);
                self.publishing.record(took, &[]);
            }
            Note::Published { event_type, events } => self.published.add(events as u64, event_type),
            Note::NotPublished { events } => self.publish_errors.add(events as u64, &[]),
            Note::Consumed { event_type } => self.consumed.add(1, event_type.to_owned()),
            Note::Attempted { event_type, took } => {
                self.attempts.record(took, &[KeyValue::new("event_type", event_type)]);
            }
            Note::Handled { event_type, handler, error, took } => {
                let of = [KeyValue::new("handler", handler.clone()), KeyValue::new("event_type", event_type)];
                self.handler_invocations.add(1, &of);
                self.handler_duration.record(milliseconds(took), &of);
                if let Some(error) = error {
                    let [handler, event_type] = of;
                    let kind = KeyValue::new("error.type", error.error_type());
                    self.handler_errors.add(1, &[handler, event_type, kind]);
                }
            }
            Note::DeadLettered { reason } => self.dead_letters.add(1, &[KeyValue::new("reason", reason)]),
            Note::ConnectionError => self.connection_errors.add(1, &[]),
            Note::Reconnected => self.reconnections.add(1, &[]),
            Note::Rebalanced => self.rebalances.add(1, &[]),
            Note::Connected(connected) => locked(&self.levels).connected = connected,
            Note::Lag { partition, records: Some(records) } => {
                locked(&self.levels).lag.insert(partition, records);
            }
            Note::Lag { partition, records: None } => {
                locked(&self.levels).lag.remove(&partition);
            }
            Note::Parked { keys } => locked(&self.levels).parked = keys as u64,
        }
    }
}

fn watch(meter: &Meter, levels: &Arc<Mutex<Levels>>) {
    let of = levels.clone();
    meter
        .u64_observable_gauge("kafka.eventbus.connections.active")
        .with_description("1 while connected")
        .with_callback(move |gauge| gauge.observe(locked(&of).connected.into(), &[]))
        .build();
    let of = levels.clone();
    meter
        .u64_observable_gauge("kafka.eventbus.consumer.lag")
        .with_description("Records between the committed offset and the end of the log")
        .with_callback(move |gauge| {
            for (partition, records) in &locked(&of).lag {
                gauge.observe(*records, &[KeyValue::new("partition", i64::from(*partition))]);
            }
        })
        .build();
    let of = levels.clone();
    meter
        .u64_observable_gauge("kafka.eventbus.keys.parked")
        .with_description("Keys that wait for a retry")
        .with_callback(move |gauge| gauge.observe(locked(&of).parked, &[]))
        .build();
}

fn locked(levels: &Mutex<Levels>) -> MutexGuard<'_, Levels> {
    levels.lock().unwrap_or_else(PoisonError::into_inner)
}
