//! The simulator: real, unmodified Kafka programs in virtual time over a simulated network, against the stand-in
//! broker's state machine. Same seed, same run, to the byte.
//!
//! A run has four stages, and each hands plain data to the next:
//!
//! 1. **Decide.** [`swarm`] draws a [`plan`] from a seed: every record and every fault, before anything happens.
//! 2. **Run.** [`drive`] carries it out with the real bus and records a [`history`].
//! 3. **Judge.** The [`checkers`], one a promise, look for a counter-example in the history; [`liveness`] says who is
//!    stuck on what when the run does not come to rest.
//! 4. **Tell.** [`shrink`] makes the plan of a failing run small; [`report`] tells a human what happened, a browser, a
//!    trace viewer and a CI; [`coverage`] says what has been tried and when to stop.
//!
//! Deciding, judging and telling is pure: no clock, no thread, no socket, and no chance but what comes from a seed.
//! Running stands on `rehearsal-sim-kernel`, the simulated operating system, and is there on x86-64 Linux with glibc:
//! [`check`] is the entry point of a `#[test]`, [`world`] what exists, [`runner`] a forked child for each seed, [`drive`]
//! what joins both halves: from a seed to a report. [`scenario`] has failures of real projects, by name; [`program`] what
//! there is around a program that is run as it is, in another language perhaps. Elsewhere [`SUPPORTED`] is false, and these
//! modules are not there.

pub mod chance;
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
pub mod check;
pub mod checkers;
pub mod coverage;
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
pub mod drive;
pub mod history;
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
mod host;
pub mod liveness;
pub mod name;
pub mod plan;
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
pub mod program;
pub mod report;
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
pub mod runner;
pub mod scenario;
pub mod shrink;
pub mod swarm;
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
pub mod world;

/// Whether there is a simulator for this target.
pub const SUPPORTED: bool = rehearsal_sim_kernel::SUPPORTED;
