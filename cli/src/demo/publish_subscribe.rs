//! Demo 1: one event out, the same event in.

use super::GRACE;
use super::events::OrderPlaced;
use super::screen::{banner, say};
use super::stage::Stage;
use super::table::Row;
use super::tally::Tally;
use rehearsal_bus::config::KafkaEventBusConfig;
use rehearsal_bus::{KafkaEventBus, prelude::*};
use std::time::Instant;
use uuid::Uuid;

pub(super) async fn run(stage: &Stage) -> anyhow::Result<Row> {
    banner("Demo 1: Basic Publish/Subscribe");
    let began = Instant::now();
    let config = KafkaEventBusConfig::builder()
        .bootstrap_servers(stage.bootstrap())
        .topic_prefix(stage.name("demo1"))
        .consumer_group(stage.name("demo-consumers"))
        .build()?;
    let bus = KafkaEventBus::new(config);
    bus.connect().await?;
    say!("Connected to Kafka");

    let received = Tally::default();
    let tally = received.clone();
    bus.subscribe(move |event: Event<OrderPlaced>| {
        say!("  Received: {}", event.event_type());
        tally.add(1);
    })?;
    say!("Subscribed handler to OrderPlaced");

    let order_id = Uuid::new_v4();
    bus.publish(OrderPlaced { order_id, customer_id: "cust-123".into(), total_amount: 99.99 }).await?;
    say!("Published OrderPlaced for {order_id}");

    bus.start_consuming_in_background()?;
    received.reach(1, "events received").await?;
    bus.stop_consuming().await?;
    say!("Received {} event(s)", received.count());
    bus.shutdown(GRACE).await?;
    Ok(Row::new("1 Publish/subscribe", 1, began.elapsed(), format!("received {}", received.count())))
}
