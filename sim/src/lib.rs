//! The simulator: real, unmodified Kafka programs in virtual time over a simulated network, against the stand-in
//! broker's state machine. Same seed, same run, to the byte.
//!
//! **There is no simulator here yet**, only its place: this crate depends on nothing and exports nothing. Its parts will be
//!
//! - `world`, `node`, `link`, `clock`: what exists, and when things happen
//! - `plan`, `workload`, `faults`, `swarm`: everything decided from the seed before the run
//! - `history`, `checkers`, `runner`, `shrink`: judging a run, and making a failing one small
//! - `report`: the terminal, one HTML page, a trace, JUnit
//! - `scenarios`: the named failures, one file each, vulnerable and safe side
//!
//! and below them `rehearsal-sim-kernel`, the simulated operating system.

#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
pub mod check;
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
mod host;
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
pub mod runner;
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
pub mod world;
