//! `poll` and what is made of it.

use super::object::{ObjectId, ready};
use super::{Kernel, Mark, Moment, Step, Stop, ThreadId};

const WAIT: Mark = Mark::new("poll");

/// A descriptor somebody asks about.
#[derive(Debug, Clone, Copy)]
pub struct Polled {
    /// What it stands for.
    pub target: PollTarget,
    /// Which readiness is asked for, in the bits of `poll`.
    pub interest: u32,
    /// The answer.
    pub found: u32,
}

/// What a polled descriptor stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PollTarget {
    /// Something simulated.
    Object(ObjectId),
    /// A file of the real system, always ready.
    File,
    /// Nothing: it is not open.
    Closed,
    /// Nothing: the entry is to be skipped.
    Skip,
}

impl Kernel {
    /// Fills in what is ready and returns how many are. Blocks while none is, until the deadline.
    pub fn poll(&mut self, thread: ThreadId, polled: &mut [Polled], deadline: Option<Moment>) -> Step<usize> {
        for entry in polled.iter_mut() {
            entry.found = match entry.target {
                PollTarget::Object(object) => self.readiness(object) & (entry.interest | ready::ALWAYS),
                PollTarget::File => entry.interest & (ready::READABLE | ready::WRITABLE),
                PollTarget::Closed => ready::INVALID,
                PollTarget::Skip => 0,
            };
        }
        let found = polled.iter().filter(|entry| entry.found != 0).count();
        if found > 0 || deadline.is_some_and(|deadline| deadline <= self.now) {
            return Ok(found);
        }
        let objects = polled.iter().filter_map(|entry| match entry.target {
            PollTarget::Object(object) => Some(object),
            _ => None,
        });
        self.wait_on_objects(thread, WAIT, objects.collect::<Vec<_>>(), deadline);
        Err(Stop::Block)
    }
}
