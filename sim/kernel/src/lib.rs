//! The simulated operating system under the simulator: threads, clocks, sockets and randomness of a real process, one
//! thread at a time, in virtual time. Same seed, same run, to the byte.
//!
//! Nothing above libc is swapped: this crate defines the C functions by which a program reaches threads, time, the
//! network and chance – [`front::table::SYMBOLS`] lists them –, so a program linked with it runs unmodified, and so does
//! one into which a library made of it is [preloaded](front::program). Outside a simulation every one of them does what
//! it always did.
//!
//! - [`machine`]: the kernel proper, pure: told which call a thread makes, it answers or makes the thread wait
//! - [`front`]: the C functions, the turn that passes between threads, the guard against what escapes
//! - [`config`]: what a simulation is made with, and what it measured
//!
//! It is for Linux on x86-64 with glibc. Elsewhere [`SUPPORTED`] is false and there is nothing else.
//!
//! # What it does not do
//! Nodes share one process. A node that crashes leaks its memory, and what it has of the process's own – the lock of
//! the standard output, a lazily made static – stays as it is. Locks in static data are the exception: a thread that
//! holds one is stopped only when it lets go. Threads are switched at calls, not between machine instructions, and work
//! between calls takes no virtual time. There are no signals, no other processes, no UDP, no IPv6.

#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
pub mod config;
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
pub mod front;
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
pub mod machine;

/// Whether there is a simulator for this target. Where it is false, tests should say aloud that they skip.
pub const SUPPORTED: bool = cfg!(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"));
