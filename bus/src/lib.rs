//! An event bus: per-aggregate order, at-least-once delivery, retry, and a dead-letter queue that can be replayed;
//! in memory, and on Kafka.
//!
//! # Quick start
//!
//! ```
//! use std::time::Duration;
//!
//! use rehearsal_bus::prelude::*;
//! use serde::{Deserialize, Serialize};
//!
//! // What happened, and to which aggregate.
//! #[derive(DomainEvent, Serialize, Deserialize)]
//! #[event(aggregate = "Order")]
//! struct OrderPlaced {
//!     #[event(aggregate_id)]
//!     order_id: String,
//!     total: f64,
//! }
//!
//! #[derive(DomainEvent, Serialize, Deserialize)]
//! #[event(aggregate = "Order")]
//! struct OrderShipped {
//!     #[event(aggregate_id)]
//!     order_id: String,
//! }
//!
//! // An object that wants several types of event.
//! struct Statistics;
//!
//! #[subscriber]
//! impl Statistics {
//!     #[handles]
//!     async fn placed(&self, event: &OrderPlaced, cx: &Ctx) -> Handled {
//!         println!("attempt {}: {} for {}", cx.attempt(), event.order_id, event.total);
//!         Ok(()) // `?` on any error would mean: try again later
//!     }
//!
//!     #[handles]
//!     fn shipped(&self, event: &Event<OrderShipped>) {
//!         println!("{} left at {}", event.order_id, event.occurred_at());
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BusError> {
//! let bus = InMemoryEventBus::new();
//! bus.subscribe(|event: Event<OrderPlaced>| async move { println!("thank you for {}", event.order_id) })?;
//! bus.subscribe_all(Statistics)?;
//! bus.subscribe_to_all_events(|event: AnyEvent| println!("audit: {} {}", event.event_type(), event.aggregate_id()))?;
//!
//! bus.publish(OrderPlaced { order_id: "o-1".into(), total: 99.99 }).await?;
//! bus.publish(events![
//!     OrderPlaced { order_id: "o-2".into(), total: 1.5 },
//!     OrderShipped { order_id: "o-1".into() },
//! ])
//! .await?;
//!
//! assert_eq!(bus.stats().events_published, 3);
//! bus.shutdown(Duration::from_secs(30)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Backends
//!
//! | bus | feature | delivery | order |
//! |---|---|---|---|
//! | [`InMemoryEventBus`] | always there | once, while the process lives | that of the publisher |
//! | `KafkaEventBus` | `kafka` (default) | at least once | per aggregate, also while events are retried |
//!
//! All are [`EventBus`]es: handlers and subscribers work on each unchanged, and `Arc<dyn EventBus>` holds whichever
//! is chosen at run time.
//!
//! # Handlers
//!
//! - Several may want one event; each is independent of the others. None may rely on another having run.
//! - A handler that returns an error, panics or hangs does not keep the event from the others. In memory that is
//!   logged and counted; on Kafka the handlers that failed, and only those, are tried again.
//! - An event may be delivered more than once. [`Event::event_id`] is what to recognise it by; setting a value is
//!   better than adding to it.
//! - [`HandlerError`] says what should happen: retry (what `?` does), retry not before a while, give up, or skip.
//! - Handlers of all events are for audit, metrics and debugging.
//! - What a handler publishes names the handled event as its cause and shares its correlation id, so that the
//!   chain can be followed. In tasks of your own, [`Event::caused_by`] does that.
//!
//! # Map
//!
//! - what is published: [`DomainEvent`], [`Event`], [`AnyEvent`], [`EventMetadata`]; how it is written: [`codec`];
//!   how it is found again: [`EventRegistry`]
//! - who gets it: [`EventBusExt::subscribe`] and its sisters, [`EventHandler`], [`EventSubscriber`],
//!   [`AsyncEventHandler`], [`Ctx`]; what came of it: [`Dispatcher`], [`DispatchOutcome`]
//! - the buses: [`EventBus`], [`EventBusExt`], [`InMemoryEventBus`]
//! - how they behave: [`config`], [`RetryPolicy`]; how they are: [`Stats`], [`Health`]; each step they take:
//!   [`hooks`]
//! - where events come from: [`aggregate`]
//! - how to test what you build on it: the page `testing`, and `examples/guarding_retries`
//! - what goes wrong: [`BusError`], [`HandlerError`], [`DecodeError`], [`ConfigError`]

#![allow(clippy::disallowed_methods, reason = "only the engine is pure; it puts the bans back")]

extern crate self as rehearsal_bus;

pub mod aggregate;
mod backend;
mod bus;
pub mod codec;
pub mod config;
mod dispatch;
pub mod dlq;
pub mod engine;
mod error;
mod event;
mod handler;
mod health;
pub mod hooks;
#[cfg(feature = "kafka")]
pub mod kafka;
mod memory;
#[doc(hidden)]
pub mod mutant;
#[cfg(feature = "kafka")]
mod outbox;
mod registry;
mod retry;
mod stats;
pub mod telemetry;
#[cfg(feature = "kafka")]
pub mod testing;

pub use backend::Backend;
pub use bus::{EventBus, EventBusExt, PublishMode};
pub use config::ConfigError;
pub use dispatch::{DispatchOutcome, Dispatcher, HandlerResult, Subscription, Verdict};
pub use error::{BusError, Disposition, Handled, HandlerError, NotAcknowledged, PublishFailure};
pub use event::{AggregateId, AnyEvent, DomainEvent, Event, EventMetadata, IntoEvent, IntoEvents, WireMetadata};
pub use handler::{
    AsyncEventHandler, Ctx, EventArgument, EventHandler, EventHandlerFunc, EventSubscriber, Handler, HandlerOutcome,
    HandlerSet, IntoHandled, IntoHandler, Source, SubscriptionId, via,
};
pub use health::{Health, HealthStatus};
#[cfg(feature = "kafka")]
pub use kafka::KafkaEventBus;
pub use memory::InMemoryEventBus;
pub use registry::{DecodeError, EventRegistry, EventType, RegistryError, register_event};
pub use rehearsal_bus_derive::{DomainEvent, subscriber};
pub use retry::{RetryPolicy, RetryScope};
pub use stats::Stats;

/// Whether this program was built with the Kafka backend: cargo feature `kafka`.
pub const KAFKA_AVAILABLE: bool = cfg!(feature = "kafka");

/// What most programs need: `use rehearsal_bus::prelude::*;`
pub mod prelude {
    pub use crate::{
        AnyEvent, BusError, Ctx, DomainEvent, Event, EventBus, EventBusExt, EventHandler, EventRegistry,
        EventSubscriber, EventType, Handled, HandlerError, InMemoryEventBus, IntoEvent, events, register_event,
        subscriber,
    };
}

/// What the derive macros refer to. No part of the interface.
#[doc(hidden)]
pub mod __private {
    pub use serde_json::Value;
}
