//! The complete example of the reference: notifications, analytics, audit, a repository that publishes.

#![allow(clippy::disallowed_methods, reason = "the bans are for the engine")]

mod common;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{OrderPlaced, OrderShipped, Seen};
use rehearsal_bus::aggregate::{
    AggregateRepository, AggregateRoot, AggregateState, InMemoryEventStore, SaveError, StoreError,
};
use rehearsal_bus::prelude::*;
use uuid::Uuid;

#[derive(Default, Debug, PartialEq)]
enum Order {
    #[default]
    Draft,
    Placed {
        total: f64,
    },
    Shipped {
        tracking_number: String,
    },
}

impl AggregateState for Order {
    const AGGREGATE_TYPE: &'static str = "Order";

    fn apply(&mut self, event: &AnyEvent) {
        if let Some(placed) = event.payload::<OrderPlaced>() {
            *self = Self::Placed { total: placed.total };
        } else if let Some(shipped) = event.payload::<OrderShipped>() {
            *self = Self::Shipped { tracking_number: shipped.tracking_number.clone() };
        }
    }
}

fn place(order: &mut AggregateRoot<Order>, total: f64) -> Result<(), &'static str> {
    if order.version() > 0 {
        return Err("Order already placed");
    }
    order.record(OrderPlaced { order_id: order.id().to_string(), customer_id: "premium-customer".into(), total });
    Ok(())
}

fn ship(order: &mut AggregateRoot<Order>) -> Result<(), &'static str> {
    if !matches!(order.state(), Order::Placed { .. }) {
        return Err("Cannot ship order in current state");
    }
    order.record(OrderShipped { order_id: order.id().to_string(), tracking_number: "TRACK-12345".into() });
    Ok(())
}

#[derive(Default)]
struct OrderStatistics(Mutex<Totals>);

#[derive(Default, Clone, Debug, PartialEq)]
struct Totals {
    orders: u32,
    revenue: f64,
    shipped: u32,
}

#[subscriber]
impl OrderStatistics {
    #[handles]
    fn placed(&self, event: &OrderPlaced) {
        let mut totals = self.0.lock().unwrap();
        totals.orders += 1;
        totals.revenue += event.total;
    }

    #[handles]
    fn shipped(&self, _event: &OrderShipped) {
        self.0.lock().unwrap().shipped += 1;
    }
}

struct AuditLogger(Seen);

impl EventHandler for AuditLogger {
    async fn handle(&self, event: AnyEvent, _cx: Ctx) -> Handled {
        self.0.note(format!("{} {}", event.event_type(), event.metadata().aggregate_version));
        Ok(())
    }
}

#[tokio::test]
async fn saving_an_aggregate_publishes_its_events_to_all_who_care() -> Result<(), Box<dyn std::error::Error>> {
    let bus = InMemoryEventBus::new();
    let statistics = Arc::new(OrderStatistics::default());
    let audit = Seen::default();
    let mails = Seen::default();
    let outbox = mails.clone();
    bus.subscribe(move |event: Event<OrderPlaced>| outbox.note(format!("thank you, {}", event.customer_id)))?;
    bus.subscribe_all(Arc::clone(&statistics))?;
    bus.subscribe_to_all_events(AuditLogger(audit.clone()))?;
    let orders = AggregateRepository::<Order, _>::new(InMemoryEventStore::new()).publishing_to(bus.clone());

    let mut order = AggregateRoot::new("o-1");
    place(&mut order, 499.99)?;
    orders.save(&mut order).await?;
    let mut order = orders.load("o-1").await?.unwrap();
    ship(&mut order)?;
    orders.save(&mut order).await?;
    orders.save(&mut order).await?;
    bus.shutdown(Duration::from_secs(30)).await?;

    assert_eq!(*statistics.0.lock().unwrap(), Totals { orders: 1, revenue: 499.99, shipped: 1 });
    assert_eq!(audit.all(), ["OrderPlaced 1", "OrderShipped 2"]);
    assert_eq!(mails.all(), ["thank you, premium-customer"]);
    assert_eq!(orders.load("o-1").await?.unwrap().state(), &Order::Shipped { tracking_number: "TRACK-12345".into() });
    assert!(orders.load("o-2").await?.is_none());
    Ok(())
}

#[test]
fn an_aggregate_guards_its_rules() {
    let mut order = AggregateRoot::new("o-1");
    assert_eq!(ship(&mut order), Err("Cannot ship order in current state"));
    assert_eq!(place(&mut order, 1.0), Ok(()));
    assert_eq!(place(&mut order, 1.0), Err("Order already placed"));
    assert_eq!((order.version(), order.next_version()), (1, 2));
}

#[tokio::test]
async fn of_two_who_change_an_aggregate_at_once_the_second_is_told() {
    let bus = InMemoryEventBus::new();
    let orders = AggregateRepository::<Order, _>::new(InMemoryEventStore::new()).publishing_to(bus.clone());
    let [mut one, mut other] = [(); 2].map(|()| AggregateRoot::new("o-1"));
    place(&mut one, 1.0).unwrap();
    place(&mut other, 2.0).unwrap();

    orders.save(&mut one).await.unwrap();
    let error = orders.save(&mut other).await.unwrap_err();

    assert!(matches!(error, SaveError::NotSaved(StoreError::Conflict { expected: 0, actual: 1, .. })), "{error:?}");
    assert_eq!(bus.stats().events_published, 1);
}

#[tokio::test]
async fn events_saved_but_not_published_come_back_to_be_published_again() {
    let bus = InMemoryEventBus::new();
    bus.shutdown(Duration::ZERO).await.unwrap();
    let orders = AggregateRepository::<Order, _>::new(InMemoryEventStore::new()).publishing_to(bus);
    let mut order = AggregateRoot::new("o-1");
    place(&mut order, 1.0).unwrap();

    match orders.save(&mut order).await.unwrap_err() {
        SaveError::NotPublished { saved, source: BusError::Closed } => assert_eq!(saved.len(), 1),
        other => panic!("{other:?}"),
    }
    assert!(order.unsaved().is_empty());
}

/// Handles each event once, however often it is delivered.
#[derive(Default)]
struct Once {
    processed: Mutex<HashSet<Uuid>>,
    handled: Seen,
}

impl EventHandler for Once {
    async fn handle(&self, event: AnyEvent, _cx: Ctx) -> Handled {
        if self.processed.lock().unwrap().insert(event.event_id()) {
            self.handled.note(event.event_type());
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_handler_can_recognise_an_event_it_has_seen() -> Result<(), BusError> {
    let bus = InMemoryEventBus::new();
    let once = Arc::new(Once::default());
    bus.subscribe_to_all_events(Arc::clone(&once))?;
    let event = common::placed("o-1").into_event();
    bus.publish(vec![event.clone(), event]).await?;
    assert_eq!(once.handled.all(), ["OrderPlaced"]);
    Ok(())
}
