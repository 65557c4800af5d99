//! An event bus with one interface in memory and on Kafka.

extern crate self as rehearsal_bus;

pub mod aggregate;
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
mod registry;
mod retry;
mod stats;

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
