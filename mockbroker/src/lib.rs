//! A stand-in for Apache Kafka 4.3 that speaks its wire protocol to every client, in every language.
//!
//! The heart is [`Cluster`](cluster::Cluster): a whole cluster of brokers as one deterministic state machine. It is told
//! what time it is, who connected and what was asked, and returns what a driver must carry out. It opens nothing, spawns
//! nothing, reads no clock; equal configs, times and requests give equal answers. Without features this is all there is,
//! and it builds for `wasm32-unknown-unknown`.
//!
//! The feature `server` (default) adds a driver on tokio's TCP, and [`MockCluster`](testing::MockCluster), which a test
//! holds in its hand:
//!
#![cfg_attr(feature = "server", doc = "```")]
#![cfg_attr(not(feature = "server"), doc = "```ignore")]
//! use rehearsal_mockbroker::testing::MockCluster;
//!
//! let kafka = MockCluster::builder().brokers(3).topic("orders", 6).start()?;
//! println!("point any Kafka client at {}", kafka.bootstrap_servers());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Map
//! - [`cluster`], [`control`], [`view`], [`output`]: the whole core API; [`session`] turns bytes into requests and back
//! - `handlers`: verbs, one file an API; [`state`]: nouns, which know no message
//! - [`wire`]: the codec, generated from Kafka's schemas; record batches; compression
//! - `sasl`: the door of listeners that ask who one is
//! - `parked`: requests that wait; `invariants`: what must hold after every step
//! - [`config`], [`error`], [`release`], [`time`]: plain values
//! - [`server`], [`testing`]: the driver, and what a test holds

pub mod cluster;
pub mod config;
pub mod control;
pub mod error;
pub mod fault;
mod handlers;
mod held;
#[cfg(debug_assertions)]
mod invariants;
pub mod journal;
pub mod output;
mod parked;
pub mod release;
mod sasl;
pub mod session;
pub mod state;
pub mod stored;
pub mod time;
pub mod view;
pub mod wire;

#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod testing;
