use rehearsal_bus::DomainEvent;
use serde::{Deserialize, Serialize};

#[derive(DomainEvent, Serialize, Deserialize)]
#[event(aggregate = "Order")]
struct OrderPlaced {
    order_id: u64,
}

#[derive(DomainEvent, Serialize, Deserialize)]
#[event(aggregate = "Order", version = 0)]
struct VersionZero {
    aggregate_id: u64,
}

#[derive(DomainEvent, Serialize, Deserialize)]
#[event(aggregate = "Order", nmae = "order.placed")]
struct Misspelt {
    aggregate_id: u64,
}

fn main() {}
