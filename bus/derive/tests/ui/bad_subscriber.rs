use rehearsal_bus::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(DomainEvent, Serialize, Deserialize)]
#[event(aggregate = "Order")]
struct OrderPlaced {
    aggregate_id: u64,
}

struct Nothing;

#[subscriber]
impl Nothing {
    async fn placed(&self, _event: &OrderPlaced) {}
}

struct Mutable;

#[subscriber]
impl Mutable {
    #[handles]
    fn placed(&mut self, _event: &OrderPlaced) {}
}

struct Twice;

#[subscriber]
impl Twice {
    #[handles]
    fn placed(&self, _event: &OrderPlaced) {}

    #[handles]
    fn placed_again(&self, _event: &OrderPlaced) {}
}

fn main() {}
