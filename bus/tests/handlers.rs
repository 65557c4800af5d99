//! What may be subscribed, and how it is called.

#![allow(clippy::disallowed_methods, reason = "the bans are for the engine")]

mod common;

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{OrderPlaced, OrderShipped, Seen, placed, shipped};
use rehearsal_bus::prelude::*;
use rehearsal_bus::{AsyncEventHandler, EventHandlerFunc, Handler, IntoHandler};

async fn ship(_: &OrderPlaced) -> io::Result<()> {
    Ok(())
}

#[tokio::test]
async fn closures_and_functions_are_handlers_sync_or_async_with_or_without_context() -> Result<(), BusError> {
    let bus = InMemoryEventBus::new();
    let seen = Seen::default();

    let s = seen.clone();
    bus.subscribe(move |event: Event<OrderPlaced>| s.note(format!("sync {}", event.order_id)))?;
    let s = seen.clone();
    bus.subscribe(move |event: Event<OrderPlaced>, cx: Ctx| {
        s.note(format!("sync {} #{}", event.order_id, cx.attempt()))
    })?;
    let s = seen.clone();
    bus.subscribe(move |event: Event<OrderPlaced>| {
        let s = s.clone();
        async move { s.note(format!("async {}", event.order_id)) }
    })?;
    let s = seen.clone();
    bus.subscribe(move |event: Event<OrderPlaced>, cx: Ctx| {
        let s = s.clone();
        async move {
            ship(&event).await?;
            s.note(format!("async {} #{}", event.order_id, cx.attempt()));
            Ok(())
        }
    })?;
    async fn by_name(event: Event<OrderPlaced>, _cx: Ctx) -> Handled {
        ship(&event).await?;
        Ok(())
    }
    bus.subscribe(by_name)?;

    bus.publish(placed("o-1")).await?;

    assert_eq!(seen.all(), ["sync o-1", "sync o-1 #1", "async o-1", "async o-1 #1"]);
    assert_eq!(bus.stats().handlers_invoked, 5);
    assert_eq!(bus.stats().handler_errors, 0);
    Ok(())
}

struct Notifications(Seen);

impl EventHandler<Event<OrderPlaced>> for Notifications {
    async fn handle(&self, event: Event<OrderPlaced>, _cx: Ctx) -> Handled {
        self.0.note(format!("mail about {}", event.order_id));
        Ok(())
    }
}

impl EventHandler<Event<OrderShipped>> for Notifications {
    async fn handle(&self, event: Event<OrderShipped>, _cx: Ctx) -> Handled {
        self.0.note(format!("text about {}", event.order_id));
        Ok(())
    }
}

#[tokio::test]
async fn an_object_may_handle_several_types_each_in_its_own_way() -> Result<(), BusError> {
    let bus = InMemoryEventBus::new();
    let seen = Seen::default();
    let notifications = Arc::new(Notifications(seen.clone()));
    bus.subscribe::<OrderPlaced, _, _>(notifications.clone())?;
    bus.subscribe::<OrderShipped, _, _>(notifications)?;

    bus.publish(events![placed("o-1"), shipped("o-1")]).await?;

    assert_eq!(seen.all(), ["mail about o-1", "text about o-1"]);
    Ok(())
}

struct AuditLogger(Seen);

impl EventHandler for AuditLogger {
    async fn handle(&self, event: AnyEvent, _cx: Ctx) -> Handled {
        self.0.note(format!("{} {}", event.event_type(), event.aggregate_id()));
        Ok(())
    }

    fn name(&self) -> Cow<'static, str> {
        "audit".into()
    }
}

#[tokio::test]
async fn a_handler_of_any_event_can_be_subscribed_to_one_type() -> Result<(), BusError> {
    let bus = InMemoryEventBus::new();
    let seen = Seen::default();
    bus.subscribe_to(EventType::of::<OrderShipped>(), AuditLogger(seen.clone()))?;

    bus.publish(events![placed("o-1"), shipped("o-1")]).await?;

    assert_eq!(seen.all(), ["OrderShipped o-1"]);
    Ok(())
}

#[tokio::test]
async fn plain_functions_and_ready_made_handlers_can_be_kept_in_lists() -> Result<(), BusError> {
    let bus = InMemoryEventBus::new();
    let quiet: EventHandlerFunc = |_| Ok(());
    let seen = Seen::default();
    let handlers: Vec<Handler> = vec![
        IntoHandler::<AnyEvent, _>::into_handler(quiet),
        IntoHandler::<AnyEvent, _>::into_handler(AuditLogger(seen.clone())),
    ];
    assert_eq!(handlers[1].name(), "audit");
    for handler in handlers {
        bus.subscribe_to_all_events(handler)?;
    }

    bus.publish(placed("o-1")).await?;

    assert_eq!(seen.all(), ["OrderPlaced o-1"]);
    assert_eq!(bus.stats().handlers_invoked, 2);
    Ok(())
}

#[derive(Default)]
struct OrderStatistics {
    placed: AtomicUsize,
    shipped: AtomicUsize,
}

#[subscriber]
impl OrderStatistics {
    #[handles]
    async fn placed(&self, event: &OrderPlaced, cx: &Ctx) -> Handled {
        assert_eq!(cx.attempt(), 1);
        ship(event).await?;
        self.placed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    #[handles]
    fn shipped(&self, event: Event<OrderShipped>) {
        assert_eq!(event.tracking_number, "TRACK-12345");
        self.shipped.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_subscriber_gets_the_types_it_declares() -> Result<(), BusError> {
    let bus = InMemoryEventBus::new();
    let statistics = Arc::new(OrderStatistics::default());
    assert_eq!(statistics.subscribed_to(), [EventType::of::<OrderPlaced>(), EventType::of::<OrderShipped>()]);
    bus.subscribe_all(statistics.clone())?;

    bus.publish(events![placed("o-1"), shipped("o-1"), placed("o-2")]).await?;

    assert_eq!(statistics.placed.load(Ordering::Relaxed), 2);
    assert_eq!(statistics.shipped.load(Ordering::Relaxed), 1);
    Ok(())
}

/// Wants only what costs something.
struct LargeOrders(Seen);

impl AsyncEventHandler for LargeOrders {
    fn event_types(&self) -> Vec<EventType> {
        vec![EventType::of::<OrderPlaced>()]
    }

    async fn handle(&self, event: AnyEvent, _cx: Ctx) -> Handled {
        self.0.note(event.aggregate_id().as_str());
        Ok(())
    }

    fn can_handle(&self, event: &AnyEvent) -> bool {
        event.payload::<OrderPlaced>().is_some_and(|order| order.total > 100.0)
    }
}

#[tokio::test]
async fn a_handler_with_a_filter_is_not_called_for_what_it_refuses() -> Result<(), BusError> {
    let bus = InMemoryEventBus::new();
    let seen = Seen::default();
    bus.subscribe_all(LargeOrders(seen.clone()))?;

    bus.publish([placed("small"), OrderPlaced { total: 499.99, ..placed("large") }]).await?;

    assert_eq!(seen.all(), ["large"]);
    assert_eq!(bus.stats().handlers_invoked, 1);
    Ok(())
}

struct Nobody;

impl EventSubscriber for Nobody {
    fn subscribed_to(&self) -> Vec<EventType> {
        Vec::new()
    }

    async fn handle(&self, _event: AnyEvent, _cx: Ctx) -> Handled {
        Ok(())
    }
}

#[test]
fn a_subscriber_of_nothing_is_refused() {
    let error = InMemoryEventBus::new().subscribe_all(Nobody).unwrap_err();
    assert!(error.to_string().ends_with("Nobody subscribes to nothing; name at least one event type"), "{error}");
}
