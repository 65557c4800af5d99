//! What the benchmarks share: the brokers they compare, and one way to load them.
//!
//! Every question is a file in `benches/`; each asks all brokers there are in the same run, through the same client
//! with the same settings, because the machines these run on are too uneven for numbers of different runs to be
//! compared. `src/bin/report.rs` turns the results into the table of `README.md`.

mod load;
mod peer;
mod raw;
mod through_bus;

pub use load::{Consumer, Producer, RECORD_BYTES, first_record_through_a_group};
pub use peer::{Peer, Topic};
pub use raw::{Frames, RawClient};
pub use through_bus::{Bare, Paid, bus, handle_slowly, handle_through_the_bus, paid, publish_through_the_bus};

/// Partitions of every topic that is measured.
pub const PARTITIONS: i32 = 6;

/// `full` when measuring, a hundredth when the benches are only tried out (`-- --test`, `cargo test --benches`).
pub fn sized(full: u64) -> u64 {
    if is_trial() { (full / 100).max(1) } else { full }
}

/// Whether the benches are only tried out; decided as criterion decides it.
pub fn is_trial() -> bool {
    let arguments: Vec<_> = std::env::args().collect();
    let has = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
    has("--test") || !has("--bench")
}
