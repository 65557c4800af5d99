//! The bus on Kafka: what its users can see.
//!
//! Runs against the stand-in broker inside the process; against any other Kafka with `REHEARSAL_BOOTSTRAP=host:port`.

#![allow(clippy::disallowed_methods, reason = "the bans are for the engine")]
#![cfg(feature = "kafka")]

mod dead_letters;
mod delivery;
mod exactly_once;
mod lifecycle;
mod origin;
mod publishing;
mod rebalancing;
mod retry_scopes;
mod sequences;
mod support;
