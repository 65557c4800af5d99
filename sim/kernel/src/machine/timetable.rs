//! What will happen by itself, and when.

use super::net::Packet;
use super::object::ObjectId;
use super::service::ServiceId;
use super::{Moment, ThreadId};
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// Something that becomes due.
#[derive(Debug)]
pub(crate) enum Event {
    /// A thread has waited long enough, if it still waits for the same thing.
    WaitOver { thread: ThreadId, wait: u64 },
    /// A packet arrives.
    Arrival(Packet),
    /// A timer descriptor goes off, unless it was set anew.
    TimerFd { object: ObjectId, setting: u64 },
    /// A service asked to be woken, unless it asked for another time since.
    ServiceDue { service: ServiceId, setting: u64 },
}

/// Events by time; those of one moment in the order they were planned.
#[derive(Debug, Default)]
pub(crate) struct Timetable {
    planned: BinaryHeap<Reverse<Entry>>,
    count: u64,
}

#[derive(Debug)]
struct Entry {
    at: Moment,
    number: u64,
    event: Event,
}

impl Timetable {
    pub(crate) fn plan(&mut self, at: Moment, event: Event) {
        self.count += 1;
        self.planned.push(Reverse(Entry { at, number: self.count, event }));
    }

    pub(crate) fn next_at(&self) -> Option<Moment> {
        self.planned.peek().map(|Reverse(entry)| entry.at)
    }

    pub(crate) fn take_due(&mut self, now: Moment) -> Option<Event> {
        if self.next_at()? > now {
            return None;
        }
        self.planned.pop().map(|Reverse(entry)| entry.event)
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}
