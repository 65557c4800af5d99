use rehearsal_bus::DomainEvent;
use serde::{Deserialize, Serialize};

#[derive(DomainEvent, Serialize, Deserialize)]
struct OrderPlaced {
    #[event(aggregate_id)]
    order_id: u64,
}

fn main() {}
