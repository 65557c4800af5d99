//! The one interface of all buses.
//!
//! [`EventBus`] is what a backend implements, and what `Arc<dyn EventBus>` holds; [`EventBusExt`] is what you
//! call, typed and available on every bus.

use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Map, Value};

use crate::dispatch::{Dispatcher, Subscription};
use crate::error::BusError;
use crate::event::{AnyEvent, DomainEvent, Event, IntoEvents};
use crate::handler::{EventSubscriber, IntoHandler, SubscriptionId};
use crate::health::Health;
use crate::registry::EventType;
use crate::stats::Stats;

/// Whether `publish` waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PublishMode {
    /// Until the events are where they should be: handled (in memory), or acknowledged by the brokers (Kafka).
    #[default]
    Wait,
    /// Not at all. Failures are logged and counted; `shutdown` waits for what is under way.
    Background,
}

/// A bus, whatever is behind it. Object safe.
pub trait EventBus: Send + Sync + 'static {
    /// The handlers of this bus.
    fn dispatcher(&self) -> &Dispatcher;

    /// Publishes events, in order. See [`EventBusExt::publish`].
    fn publish_events(&self, events: Vec<AnyEvent>, mode: PublishMode) -> BoxFuture<'_, Result<(), BusError>>;

    /// Adds a subscription. A backend that reads events from bytes learns the types from it.
    ///
    /// # Errors
    /// When the subscription is for no type, or another type has the name of one of them.
    fn add_subscription(&self, subscription: Subscription) -> Result<SubscriptionId, BusError> {
        self.dispatcher().add(subscription)
    }

    /// What the bus has done so far.
    fn stats(&self) -> Stats;

    /// How the bus is.
    fn health(&self) -> Health;

    /// Stops taking work, waits for what is under way up to `timeout`, and closes.
    fn shutdown(&self, timeout: Duration) -> BoxFuture<'_, Result<(), BusError>>;
}

/// What one calls on a bus: typed, and the same on every backend.
pub trait EventBusExt: EventBus {
    /// Publishes one event, an array or `Vec` of them, or a mixed list made by [`events!`](crate::events).
    ///
    /// In memory it returns when all handlers have run; a failing handler is logged and counted, and does not
    /// make this fail. On Kafka it returns when all events are acknowledged.
    ///
    /// # Errors
    /// When the bus is closed or not connected, or events could not be written; see [`BusError`].
    fn publish(&self, events: impl IntoEvents) -> BoxFuture<'_, Result<(), BusError>> {
        self.publish_events(events.into_events(), PublishMode::Wait)
    }

    /// As [`publish`](Self::publish), without waiting. At most a bounded number of such calls is under way at a
    /// time; beyond it, this waits after all.
    ///
    /// # Errors
    /// When the bus is closed or not connected.
    fn publish_background(&self, events: impl IntoEvents) -> BoxFuture<'_, Result<(), BusError>> {
        self.publish_events(events.into_events(), PublishMode::Background)
    }

    /// Subscribes a closure, function or object to the type of event it takes.
    ///
    /// # Errors
    /// When another type has the name of this one.
    fn subscribe<E, H, M>(&self, handler: H) -> Result<SubscriptionId, BusError>
    where
        E: DomainEvent,
        H: IntoHandler<Event<E>, M>,
    {
        self.add_subscription(Subscription::to([EventType::of::<E>()], handler.into_handler()))
    }

    /// Subscribes a handler of any event to one type.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    fn subscribe_to<H, M>(&self, kind: EventType, handler: H) -> Result<SubscriptionId, BusError>
    where
        H: IntoHandler<AnyEvent, M>,
    {
        self.add_subscription(Subscription::to([kind], handler.into_handler()))
    }

    /// Subscribes an object to all the types it declares. Keep an `Arc` of it to ask it questions later.
    ///
    /// # Errors
    /// When it declares no type; otherwise as [`subscribe`](Self::subscribe).
    fn subscribe_all(&self, subscriber: impl EventSubscriber) -> Result<SubscriptionId, BusError> {
        self.add_subscription(Subscription::of(subscriber))
    }

    /// Subscribes a handler to every event. Meant for audit, metrics and debugging.
    ///
    /// # Errors
    /// None of the buses here refuses.
    fn subscribe_to_all_events<H, M>(&self, handler: H) -> Result<SubscriptionId, BusError>
    where
        H: IntoHandler<AnyEvent, M>,
    {
        self.add_subscription(Subscription::to_all(handler.into_handler()))
    }

    /// Removes a subscription. Whether there was one.
    fn unsubscribe(&self, id: SubscriptionId) -> bool {
        self.dispatcher().remove(id)
    }

    /// Removes a wildcard subscription. Whether there was one.
    fn unsubscribe_from_all_events(&self, id: SubscriptionId) -> bool {
        self.dispatcher().remove_wildcard(id)
    }

    /// Removes all subscriptions.
    fn clear_subscribers(&self) {
        self.dispatcher().clear();
    }

    /// How many handlers are subscribed to `E`, wildcards not counted.
    fn get_subscriber_count<E: DomainEvent>(&self) -> usize {
        self.dispatcher().subscriber_count(EventType::of::<E>())
    }

    /// How many wildcard handlers there are.
    fn get_wildcard_subscriber_count(&self) -> usize {
        self.dispatcher().wildcard_count()
    }

    /// The [`stats`](EventBus::stats) as a JSON object.
    fn get_stats_dict(&self) -> Map<String, Value> {
        self.stats().to_dict()
    }
}

impl<B: EventBus + ?Sized> EventBusExt for B {}
