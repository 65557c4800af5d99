//! The bus on Kafka: what its users can see.
//!
//! Runs against the stand-in broker inside the process; against any other Kafka with `REHEARSAL_BOOTSTRAP=host:port`.
#![cfg(feature = "kafka")]

mod dead_letters;
mod delivery;
mod lifecycle;
mod publishing;
mod rebalancing;
mod support;
