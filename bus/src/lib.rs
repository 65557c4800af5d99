//! An event bus.

pub mod engine;
