//! The events of the demos.

use rehearsal_bus::DomainEvent;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Debug, DomainEvent, Serialize, Deserialize)]
#[event(aggregate = "Order")]
pub(super) struct OrderPlaced {
    #[event(aggregate_id)]
    pub(super) order_id: Uuid,
    pub(super) customer_id: String,
    pub(super) total_amount: f64,
}

#[derive(Debug, DomainEvent, Serialize, Deserialize)]
#[event(aggregate = "Order")]
pub(super) struct OrderShipped {
    #[event(aggregate_id)]
    pub(super) order_id: Uuid,
    pub(super) tracking_number: String,
}

/// One of the steps 1, 2, 3 … of an order: whoever sees them can tell which is missing, and which came out of order.
#[derive(Debug, DomainEvent, Serialize, Deserialize)]
#[event(aggregate = "Order")]
pub(super) struct OrderStepTaken {
    #[event(aggregate_id)]
    pub(super) order: u32,
    pub(super) step: u32,
}
