//! The simulator: real, unmodified Kafka programs in virtual time over a simulated network, against the stand-in
//! broker's state machine. Same seed, same run, to the byte.
//!
//! - [`check`]: what a `#[test]` calls: nodes, faults and what must hold, described in a closure, for many seeds
//! - [`world`]: what exists in a running simulation, and the one way to change it: cut, heal, crash, pause …
//! - [`runner`]: runs seeds, each in a process of its own; tells where two runs part
//! - `host`: the stand-in brokers on the simulated network, without threads
//!
//! Below them is `rehearsal-sim-kernel`, the simulated operating system. Both are for Linux on x86-64 with glibc:
//! elsewhere [`SUPPORTED`] is false, and these modules are not there.

#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
pub mod check;
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
mod host;
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
pub mod runner;
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
pub mod world;

/// Whether there is a simulator for this target.
pub const SUPPORTED: bool = rehearsal_sim_kernel::SUPPORTED;
