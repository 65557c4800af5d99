//! The shop that the tests trade in.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::{Arc, Mutex};

use rehearsal_bus::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(DomainEvent, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[event(aggregate = "Order", alias = "order.placed")]
pub(crate) struct OrderPlaced {
    #[event(aggregate_id)]
    pub order_id: String,
    pub customer_id: String,
    pub total: f64,
}

#[derive(DomainEvent, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[event(aggregate = "Order")]
pub(crate) struct OrderShipped {
    #[event(aggregate_id)]
    pub order_id: String,
    pub tracking_number: String,
}

pub(crate) fn placed(order: &str) -> OrderPlaced {
    OrderPlaced { order_id: order.into(), customer_id: "cust-123".into(), total: 99.99 }
}

pub(crate) fn shipped(order: &str) -> OrderShipped {
    OrderShipped { order_id: order.into(), tracking_number: "TRACK-12345".into() }
}

/// What handlers saw, in order. Cloning shares it.
#[derive(Clone, Default, Debug)]
pub(crate) struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    pub(crate) fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}
