//! Demo 4: an aggregate's events, saved and then published, keep a projection and an audit log up to date.

use super::GRACE;
use super::events::{OrderPlaced, OrderShipped};
use super::screen::{banner, say};
use super::stage::Stage;
use super::table::Row;
use super::tally::Tally;
use anyhow::ensure;
use rehearsal_bus::aggregate::{AggregateRepository, AggregateRoot, AggregateState, InMemoryEventStore};
use rehearsal_bus::config::KafkaEventBusConfig;
use rehearsal_bus::{AggregateId, KafkaEventBus, prelude::*};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use uuid::Uuid;

pub(super) async fn run(stage: &Stage) -> anyhow::Result<Row> {
    banner("Demo 4: Integration with Projections");
    let began = Instant::now();
    let config = KafkaEventBusConfig::builder()
        .bootstrap_servers(stage.bootstrap())
        .topic_prefix(stage.name("demo4"))
        .consumer_group(stage.name("projection-consumers"))
        .build()?;
    let bus = KafkaEventBus::new(config);
    bus.connect().await?;

    let handled = Tally::default();
    let statistics = Arc::new(OrderStatistics { totals: Mutex::default(), handled: handled.clone() });
    bus.subscribe_all(statistics.clone())?;
    say!("Subscribed statistics projection");
    let auditor = Arc::new(AuditLogger { log: Mutex::default(), handled: handled.clone() });
    bus.subscribe_to_all_events(auditor.clone())?;
    say!("Subscribed audit logger to all events");

    let order_id = Uuid::new_v4();
    say!("\nProcessing order: {order_id}");
    let orders = AggregateRepository::new(InMemoryEventStore::new()).publishing_to(bus.clone());
    let mut order = AggregateRoot::<Order>::new(order_id);
    place(&mut order, OrderPlaced { order_id, customer_id: "premium-customer".into(), total_amount: 499.99 })?;
    orders.save(&mut order).await?;
    ship(&mut order, OrderShipped { order_id, tracking_number: "TRACK-12345".into() })?;
    orders.save(&mut order).await?;

    bus.start_consuming_in_background()?;
    // Two events, each for both subscribers.
    handled.reach(4, "deliveries to the projection and the audit log").await?;
    bus.shutdown(GRACE).await?;

    let totals = statistics.totals();
    let audited = auditor.entries();
    say!("\nProjection Results:");
    say!("  Total orders: {}", totals.orders);
    say!("  Total revenue: ${:.2}", totals.revenue);
    say!("  Shipped count: {}", totals.shipped);
    say!("\nAudit log entries: {}", audited.len());
    for entry in &audited {
        say!("  {} {} {}", entry.timestamp, entry.event_type, entry.aggregate_id);
    }
    ensure!((totals.orders, totals.shipped, audited.len()) == (1, 1, 2), "the projections should have seen each once");
    let shown = format!("${:.2}, {} audited", totals.revenue, audited.len());
    Ok(Row::new("4 Projections", 2, began.elapsed(), shown))
}

/// An order, as its own events tell it.
#[derive(Debug, Default, PartialEq, Eq)]
enum Order {
    #[default]
    Draft,
    Placed,
    Shipped,
}

impl AggregateState for Order {
    const AGGREGATE_TYPE: &'static str = "Order";

    fn apply(&mut self, event: &AnyEvent) {
        if event.is::<OrderPlaced>() {
            *self = Self::Placed;
        } else if event.is::<OrderShipped>() {
            *self = Self::Shipped;
        }
    }
}

fn place(order: &mut AggregateRoot<Order>, event: OrderPlaced) -> anyhow::Result<()> {
    ensure!(*order.state() == Order::Draft, "Order already placed");
    order.record(event);
    Ok(())
}

fn ship(order: &mut AggregateRoot<Order>, event: OrderShipped) -> anyhow::Result<()> {
    ensure!(*order.state() == Order::Placed, "Cannot ship order in current state");
    order.record(event);
    Ok(())
}

/// A projection: what all orders come to.
struct OrderStatistics {
    totals: Mutex<Totals>,
    handled: Tally,
}

#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    orders: u64,
    revenue: f64,
    shipped: u64,
}

impl OrderStatistics {
    fn totals(&self) -> Totals {
        *self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Totals)) {
        change(&mut self.totals.lock().unwrap_or_else(PoisonError::into_inner));
        self.handled.add(1);
    }
}

#[subscriber]
impl OrderStatistics {
    #[handles]
    fn placed(&self, event: &OrderPlaced) {
        say!("  [Stats] Order placed: ${:.2}", event.total_amount);
        self.change(|totals| {
            totals.orders += 1;
            totals.revenue += event.total_amount;
        });
    }

    #[handles]
    fn shipped(&self, event: &OrderShipped) {
        say!("  [Stats] Order shipped: {}", event.tracking_number);
        self.change(|totals| totals.shipped += 1);
    }
}

/// Keeps a line about every event of any type.
struct AuditLogger {
    log: Mutex<Vec<AuditEntry>>,
    handled: Tally,
}

#[derive(Debug, Clone)]
struct AuditEntry {
    event_type: &'static str,
    aggregate_id: AggregateId,
    timestamp: jiff::Timestamp,
}

impl AuditLogger {
    fn entries(&self) -> Vec<AuditEntry> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl EventHandler for AuditLogger {
    async fn handle(&self, event: AnyEvent, _cx: Ctx) -> Handled {
        let entry = AuditEntry {
            event_type: event.event_type(),
            aggregate_id: event.aggregate_id().clone(),
            timestamp: event.occurred_at(),
        };
        self.log.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
        self.handled.add(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_placed_once_and_shipped_only_after() {
        let order_id = Uuid::new_v4();
        let placed = || OrderPlaced { order_id, customer_id: "cust-1".into(), total_amount: 9.99 };
        let shipped = || OrderShipped { order_id, tracking_number: "TRACK-1".into() };
        let mut order = AggregateRoot::<Order>::new(order_id);

        let refusal = |refused: anyhow::Result<()>| refused.map_err(|error| error.to_string());
        assert_eq!(refusal(ship(&mut order, shipped())), Err("Cannot ship order in current state".into()));
        assert_eq!(refusal(place(&mut order, placed())), Ok(()));
        assert_eq!(refusal(place(&mut order, placed())), Err("Order already placed".into()));
        assert_eq!(refusal(ship(&mut order, shipped())), Ok(()));
        assert_eq!((order.state(), order.version()), (&Order::Shipped, 2));
    }
}
