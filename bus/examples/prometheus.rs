//! A service whose bus is metered, and the page Prometheus reads: <http://127.0.0.1:8000/metrics>.
//!
//! `cargo run -p rehearsal-bus --example prometheus --features otel`
//!
//! What to ask of it (PromQL):
//! - publish rate: `rate(kafka_eventbus_messages_published_total[1m])`
//! - how far behind: `kafka_eventbus_consumer_lag`; an alert: `kafka_eventbus_consumer_lag > 1000`
//! - error rate: `rate(kafka_eventbus_handler_errors_total[5m])`
//! - mean time in a handler, ms: `rate(kafka_eventbus_handler_duration_sum[5m]) /
//!   rate(kafka_eventbus_handler_duration_count[5m])`
//! - rebalances: `increase(kafka_eventbus_rebalances_total[10m])`

#![allow(clippy::disallowed_methods, reason = "the bans are for the engine")]

use axum::{Router, routing::get};
use opentelemetry::global;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};
use rehearsal_bus::config::KafkaEventBusConfig;
use rehearsal_bus::{KafkaEventBus, prelude::*};
use rehearsal_mockbroker::testing::MockCluster;
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::time::Duration;

#[derive(DomainEvent, Serialize, Deserialize)]
#[event(aggregate = "Order")]
struct OrderPlaced {
    #[event(aggregate_id)]
    order: u64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Before any bus is made: they ask the global provider for their meter.
    let registry = Registry::new();
    let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone()).build()?;
    global::set_meter_provider(SdkMeterProvider::builder().with_reader(exporter).build());

    let kafka = MockCluster::builder().topic("orders.stream", 3).start()?;
    let config = KafkaEventBusConfig::builder()
        .bootstrap_servers(kafka.bootstrap_servers())
        .topic_prefix("orders")
        .consumer_group("shipping")
        .build()?;
    let bus = KafkaEventBus::new(config);
    bus.subscribe(|event: Event<OrderPlaced>| match event.order % 10 {
        0 => Err(HandlerError::fatal("every tenth order cannot be shipped")),
        _ => Handled::Ok(()),
    })?;
    bus.connect().await?;
    bus.start_consuming_in_background()?;
    tokio::spawn(async move {
        for order in 1.. {
            bus.publish(OrderPlaced { order }).await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok::<_, BusError>(())
    });

    let page = move || async move {
        TextEncoder::new().encode_to_string(&registry.gather()).unwrap_or_else(|error| format!("# {error}"))
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8000").await?;
    Ok(axum::serve(listener, Router::new().route("/metrics", get(page))).await?)
}
