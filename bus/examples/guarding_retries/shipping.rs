//! The service: it prints a label for every parcel of an order, in the order in which they were packed.
//!
//! Nothing here knows that it is being tested. What a test needs to replace, the printer, comes in as an argument; what
//! it needs to shorten, the back-off, is in the configuration.

use rehearsal_bus::config::KafkaEventBusConfig;
use rehearsal_bus::hooks::Hooks;
use rehearsal_bus::{KafkaEventBus, RetryPolicy, prelude::*};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A parcel was packed.
#[derive(DomainEvent, Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[event(aggregate = "Order")]
pub(crate) struct ParcelPacked {
    /// The order it belongs to: its parcels are labelled in their order, whatever happens.
    #[event(aggregate_id)]
    pub(crate) order_id: String,
    /// Which parcel of the order it is.
    pub(crate) parcel: u32,
}

/// What prints labels, and sometimes does not.
pub(crate) trait Printer: Send + Sync + 'static {
    /// Prints one; an error means that it did not.
    fn print(&self, parcel: &ParcelPacked, attempt: u32) -> impl Future<Output = Result<(), HandlerError>> + Send;
}

/// A second and a third try, then the dead letters. A real service would wait for seconds where this waits for
/// milliseconds.
pub(crate) const RETRIES: RetryPolicy =
    RetryPolicy::exponential(Duration::from_millis(20), Duration::from_millis(30)).jitter(0.0).max_retries(2);

/// How the service is set up, given its brokers.
///
/// # Errors
/// When a setting cannot be used.
pub(crate) fn configuration(bootstrap_servers: String) -> Result<KafkaEventBusConfig, BusError> {
    let config = KafkaEventBusConfig::builder()
        .bootstrap_servers(bootstrap_servers)
        .topic_prefix("parcels")
        .consumer_group("shipping")
        .consumer_name("shipping-1")
        .topic_partitions(1)
        .retry(RETRIES)
        // Soon, so that a test sees at once what is committed, and what is not.
        .commit_interval(Duration::from_millis(20))
        .session_timeout_ms(6_000)
        .heartbeat_interval_ms(100)
        .build()?;
    Ok(config)
}

/// The service, connected, and not yet consuming.
///
/// # Errors
/// When the brokers do not answer.
pub(crate) async fn service(
    config: KafkaEventBusConfig,
    printer: impl Printer,
    hooks: Hooks,
) -> Result<KafkaEventBus, BusError> {
    let bus = KafkaEventBus::builder(config).hooks(hooks).build();
    let printer = std::sync::Arc::new(printer);
    bus.subscribe(move |event: Event<ParcelPacked>, cx: Ctx| {
        let printer = printer.clone();
        async move { printer.print(event.payload(), cx.attempt()).await }
    })?;
    bus.connect().await?;
    Ok(bus)
}

/// A parcel, packed.
pub(crate) fn packed(order_id: &str, parcel: u32) -> ParcelPacked {
    ParcelPacked { order_id: order_id.into(), parcel }
}
