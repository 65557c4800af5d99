//! Metrics and trace context, in OpenTelemetry's terms.
//!
//! With the cargo feature `otel`, a bus on Kafka records the instruments below with the [`Meter`] it is given
//! ([`Telemetry::with_meter`]), or with the one of the global provider, and carries the trace context through the
//! records' headers by the global propagator. Without the feature, without a provider, or with `enable_metrics` off,
//! nothing is recorded and nothing complains. Only OpenTelemetry's API is used; which SDK and exporter, is the
//! program's choice: `examples/prometheus.rs` serves `/metrics`.
//!
//! | instrument | kind | what | attributes |
//! |---|---|---|---|
//! | `kafka.eventbus.messages.published` | counter | events the brokers acknowledged | `event_type` |
//! | `kafka.eventbus.messages.consumed` | counter | events read, once per delivery | `event_type` |
//! | `kafka.eventbus.handler.invocations` | counter | calls of handlers | `handler`, `event_type` |
//! | `kafka.eventbus.handler.errors` | counter | calls that failed | `handler`, `event_type`, `error.type` |
//! | `kafka.eventbus.messages.dlq` | counter | records the dead-letter topic acknowledged | `reason` |
//! | `kafka.eventbus.connection.errors` | counter | problems the client reported | |
//! | `kafka.eventbus.reconnections` | counter | times all brokers were lost and one came back | |
//! | `kafka.eventbus.rebalances` | counter | times partitions were given or taken | |
//! | `kafka.eventbus.publish.errors` | counter | events not known to be in the log | |
//! | `kafka.eventbus.publish.duration` | histogram, ms | from the call to the last acknowledgement | |
//! | `kafka.eventbus.consume.duration` | histogram, ms | one attempt: decoding and all handlers | `event_type` |
//! | `kafka.eventbus.handler.duration` | histogram, ms | one call of one handler | `handler`, `event_type` |
//! | `kafka.eventbus.batch.size` | histogram | events in one call to publish | |
//! | `kafka.eventbus.connections.active` | gauge | 1 while connected | |
//! | `kafka.eventbus.consumer.lag` | gauge | records between the committed offset and the log's end | `partition` |
//! | `kafka.eventbus.keys.parked` | gauge | keys that wait for a retry | |
//!
//! Every attribute has as many values as the program has event types, handlers and partitions; ids and keys stand on
//! spans only. Names carry no unit, so that Prometheus shows `kafka_eventbus_handler_duration_sum` and
//! `kafka_eventbus_messages_published_total`.
//!
//! OpenTelemetry's own [messaging conventions] have other names for four of them. `OTEL_SEMCONV_STABILITY_OPT_IN` in
//! the environment chooses, as the conventions ask: `messaging` for theirs alone (`messaging.client.sent.messages`,
//! `messaging.client.consumed.messages`, `messaging.client.operation.duration` and `messaging.process.duration`, in
//! seconds), `messaging/dup` for both.
//!
//! Spans are [`tracing`]'s: `kafka.publish TYPE`, `kafka.consume TYPE` and within it `handle HANDLER`, with the
//! conventions' attributes. A subscriber with a `tracing-opentelemetry` layer that activates contexts (its default)
//! exports them; then what a handler publishes belongs to the trace of the event it handles, across processes.
//!
//! [messaging conventions]: https://opentelemetry.io/docs/specs/semconv/messaging/
//! [`Meter`]: https://docs.rs/opentelemetry/0.33/opentelemetry/metrics/struct.Meter.html

#[cfg(feature = "kafka")]
mod context;
#[cfg(feature = "otel")]
mod instruments;

use crate::error::HandlerError;
#[cfg(feature = "kafka")]
pub(crate) use context::{Remote, each_trace_header};
#[cfg(feature = "otel")]
use instruments::Instruments;
use std::sync::Arc;
use std::time::Duration;

/// Where a bus records its metrics. Cloning shares it. See the [module](self).
#[derive(Clone, Default)]
pub struct Telemetry {
    #[cfg(feature = "otel")]
    instruments: Option<Arc<Instruments>>,
}

impl Telemetry {
    /// Nowhere.
    pub fn off() -> Self {
        Self::default()
    }

    /// With the global provider's meter; nowhere without the feature `otel`.
    pub fn global() -> Self {
        #[cfg(feature = "otel")]
        let telemetry = Self::with_meter(&opentelemetry::global::meter("rehearsal-bus"));
        #[cfg(not(feature = "otel"))]
        let telemetry = Self::off();
        telemetry
    }

    /// With this meter, under the names `OTEL_SEMCONV_STABILITY_OPT_IN` asks for.
    #[cfg(feature = "otel")]
    pub fn with_meter(meter: &opentelemetry::metrics::Meter) -> Self {
        Self::with_names(meter, Names::from_env())
    }

    /// With this meter, under these names.
    #[cfg(feature = "otel")]
    pub fn with_names(meter: &opentelemetry::metrics::Meter, names: Names) -> Self {
        Self { instruments: Some(Arc::new(Instruments::new(meter, names))) }
    }

    /// Whether anything is recorded: for what is dear to find out.
    pub(crate) fn is_on(&self) -> bool {
        #[cfg(feature = "otel")]
        let on = self.instruments.is_some();
        #[cfg(not(feature = "otel"))]
        let on = false;
        on
    }

    /// Records it; builds it only if it is recorded anywhere.
    pub(crate) fn note<'a>(&self, what: impl FnOnce() -> Note<'a>) {
        #[cfg(feature = "otel")]
        if let Some(instruments) = &self.instruments {
            instruments.record(what());
        }
        #[cfg(not(feature = "otel"))]
        drop(what);
    }
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_on() { "Telemetry(on)" } else { "Telemetry(off)" })
    }
}

/// Which names the metrics have, where this bus's and OpenTelemetry's differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// `kafka.eventbus.*`, in milliseconds.
    #[default]
    EventBus,
    /// `messaging.*`, in seconds.
    Messaging,
    /// Both, while dashboards move.
    Both,
}

impl Names {
    /// What `OTEL_SEMCONV_STABILITY_OPT_IN` asks for: a list with commas, in which others' words are ignored.
    pub fn from_env() -> Self {
        Self::from_opt_in(&std::env::var("OTEL_SEMCONV_STABILITY_OPT_IN").unwrap_or_default())
    }

    fn from_opt_in(list: &str) -> Self {
        let asked = |word: &str| list.split(',').any(|item| item.trim() == word);
        match (asked("messaging/dup"), asked("messaging")) {
            (true, _) => Self::Both,
            (false, true) => Self::Messaging,
            (false, false) => Self::EventBus,
        }
    }
}

/// Something to be recorded.
#[cfg_attr(
    not(all(feature = "otel", feature = "kafka")),
    expect(dead_code, reason = "without one nothing happens, without the other nobody hears")
)]
pub(crate) enum Note<'a> {
    /// One call to publish is answered.
    Publishing { events: usize, took: Duration },
    /// The brokers have so many events of a type.
    Published { event_type: &'static str, events: usize },
    /// Events that are not known to be in the log.
    NotPublished { events: usize },
    /// An event was read.
    Consumed { event_type: &'a str },
    /// One attempt at an event is over.
    Attempted { event_type: &'static str, took: Duration },
    /// A handler has run.
    Handled { event_type: &'static str, handler: &'a Arc<str>, error: Option<&'a HandlerError>, took: Duration },
    /// The dead-letter topic has a record.
    DeadLettered { reason: &'static str },
    /// The client reported a problem.
    ConnectionError,
    /// A broker answers again after all were out of reach.
    Reconnected,
    /// Partitions were given or taken.
    Rebalanced,
    /// Whether there is a connection now.
    Connected(bool),
    /// How many records lie between the committed offset and the end of the log; `None` when that is another's now.
    Lag { partition: i32, records: Option<u64> },
    /// How many keys wait for a retry.
    Parked { keys: usize },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_opt_in_is_a_list_and_dup_outranks() {
        assert_eq!(Names::from_opt_in(""), Names::EventBus);
        assert_eq!(Names::from_opt_in("http, messaging"), Names::Messaging);
        assert_eq!(Names::from_opt_in("messaging,messaging/dup"), Names::Both);
        assert_eq!(Names::from_opt_in("messaging/duplicate"), Names::EventBus);
    }
}
