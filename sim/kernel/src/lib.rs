//! The simulated operating system under the simulator: threads, clocks, sockets and randomness of a real process, one
//! thread at a time, in virtual time.
//!
//! **There is no kernel here yet**, only its place. It will be the one crate of the workspace that may hold `unsafe`:
//!
//! - `interpose`: one table of libc symbols, from which the definitions and the import audit are generated
//! - `sched`: the token scheduler and the virtual clock
//! - `net`: sockets, pipes, `epoll`, links between nodes
//! - `guard`: fails closed when a call escapes
//! - `raw`: the real symbols, resolved before any thread exists
