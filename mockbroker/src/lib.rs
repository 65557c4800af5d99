//! A stand-in for Apache Kafka 4.3 that speaks its wire protocol.

pub mod error;
pub mod state;
pub mod time;
pub mod wire;
