//! Observers, and tracing.

#![allow(clippy::disallowed_methods, reason = "the bans are for the engine")]

mod common;

use std::fmt;
use std::sync::{Arc, Mutex};

use common::{OrderPlaced, Seen, placed};
use rehearsal_bus::Source;
use rehearsal_bus::hooks::{Hooks, Step};
use rehearsal_bus::prelude::*;
use tracing::span::{Attributes, Id};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

#[test]
fn an_observer_is_told_each_step_and_nothing_is_built_for_nobody() {
    let seen = Seen::default();
    let notes = seen.clone();
    let hooks = Hooks::observed_by(move |step: &Step<'_>| {
        if let Step::Committed { at } = step {
            notes.note(format!("{}/{}@{}", at.topic, at.partition, at.offset));
        }
    });
    let at = Source { topic: "orders.stream".into(), partition: 1, offset: 42 };

    hooks.tell(|| Step::Committed { at: &at });
    Hooks::none().tell(|| unreachable!("nobody watches"));

    assert_eq!(seen.all(), ["orders.stream/1@42"]);
}

/// Collects the names of spans.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, _id: &Id, _context: Context<'_, S>) {
        let mut name = SpanName(attributes.metadata().name().to_owned());
        attributes.record(&mut name);
        self.0.lock().unwrap().push(name.0);
    }
}

struct SpanName(String);

impl tracing::field::Visit for SpanName {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        if field.name() == "otel.name" {
            self.0 = format!("{value:?}").trim_matches('"').to_owned();
        }
    }
}

async fn spans_of(bus: InMemoryEventBus) -> Vec<String> {
    struct Mailer;
    impl EventHandler<Event<OrderPlaced>> for Mailer {
        async fn handle(&self, _event: Event<OrderPlaced>, _cx: Ctx) -> Handled {
            Ok(())
        }
        fn name(&self) -> std::borrow::Cow<'static, str> {
            "mailer".into()
        }
    }
    let spans = Spans::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(spans.clone()));
    bus.subscribe(Mailer).unwrap();
    bus.publish(placed("o-1")).await.unwrap();
    spans.0.lock().unwrap().clone()
}

#[tokio::test]
async fn publishing_and_each_handler_have_a_span_unless_tracing_is_off() {
    assert_eq!(spans_of(InMemoryEventBus::new()).await, ["publish OrderPlaced", "handle mailer"]);
    assert!(spans_of(InMemoryEventBus::builder().enable_tracing(false).build()).await.is_empty());
}
