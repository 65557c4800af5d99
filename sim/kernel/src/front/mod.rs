//! The front ends: they define C functions, so that calls from Rust, C and C++ alike come here, follow their pointers, and
//! ask the [machine](crate::machine). One is for programs linked with this crate, which simulate in a forked [`child`]; the
//! other for a [`program`] as it is, into which a library made of this crate is preloaded.

mod abi;
pub mod arena;
pub mod audit;
mod c11;
mod carry;
pub mod child;
mod clock;
mod file;
mod guard;
mod identity;
mod images;
mod inline;
mod lock;
mod process;
pub mod program;
mod raw;
mod real;
pub mod reexec;
mod resolve;
mod socket;
pub mod table;
mod thread;
mod token;
mod wait;

use crate::machine::{Kernel, Node, ThreadId};
use std::fmt;

/// Whether the calling thread is in a simulation.
pub fn simulated() -> bool {
    token::simulated()
}

/// Does something with the kernel: adds nodes, cuts links, asks for the time.
///
/// The closure runs outside the simulation, so it must not wait for anything that a program in it has.
///
/// # Panics
/// Outside a simulation.
pub fn kernel<R>(act: impl FnOnce(&mut Kernel, ThreadId) -> R) -> R {
    token::kernel(act)
}

/// Threads that `act` creates belong to this node, and so do those they create.
pub fn on_node<R>(node: Node, act: impl FnOnce() -> R) -> R {
    token::on_node(node, act)
}

/// Does something outside the simulation: what it calls is real.
pub fn outside<R>(act: impl FnOnce() -> R) -> R {
    token::outside(act)
}

/// Ends the run and says why.
pub fn fail(why: fmt::Arguments<'_>) -> ! {
    child::fail(1, why)
}

/// Ends the run: the program used what is not simulated.
fn unsupported(what: fmt::Arguments<'_>) -> ! {
    let (thread, call) = token::running();
    child::fail(token::status::UNSUPPORTED, format_args!("not simulated: {what} (thread {thread}, in {call})\n"))
}
