//! What will happen to a group by itself, and when: at most one deadline for each thing that can happen.

use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Something that happens to a group when its time has come.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Timer {
    pub(super) group: Arc<str>,
    pub(super) event: Event,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// The join phase ends, with or without those who have not come.
    Join,
    /// Members that have not asked for their assignment are dropped.
    Sync,
    /// The first members of a streams group have waited for others.
    Assign,
    /// A member, or one only given its id, was not heard of for too long.
    Session(Arc<str>),
    /// A member of a consumer group has not given up in time what it must.
    Rebalance(Arc<str>),
    /// A classic member of a consumer group has not joined again in time.
    Rejoin(Arc<str>),
    /// A classic member of a consumer group has not asked in time for its assignment.
    Resync(Arc<str>),
}

/// Deadlines by time and by timer. Timers due at the same moment fire in the order of their names, so that a run can
/// be repeated.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_time: BTreeSet<(Time, Timer)>,
    by_timer: BTreeMap<Timer, Time>,
}

impl Timers {
    /// Sets the timer, in place of an earlier deadline of the same timer.
    pub(super) fn schedule(&mut self, timer: Timer, at: Time) {
        if let Some(before) = self.by_timer.insert(timer.clone(), at) {
            self.by_time.remove(&(before, timer.clone()));
        }
        self.by_time.insert((at, timer));
    }

    /// Sets the timer unless it is set.
    pub(super) fn schedule_if_absent(&mut self, timer: Timer, at: Time) {
        if !self.by_timer.contains_key(&timer) {
            self.schedule(timer, at);
        }
    }

    pub(super) fn cancel(&mut self, timer: &Timer) {
        if let Some(at) = self.by_timer.remove(timer) {
            self.by_time.remove(&(at, timer.clone()));
        }
    }

    /// Forgets everything that was going to happen to this group.
    pub(super) fn cancel_all_of(&mut self, group: &Arc<str>) {
        let first = Timer { group: Arc::clone(group), event: Event::Join };
        let theirs: Vec<Timer> =
            self.by_timer.range(first..).map(|(timer, _)| timer.clone()).take_while(|t| t.group == *group).collect();
        for timer in &theirs {
            self.cancel(timer);
        }
    }

    pub(super) fn next(&self) -> Option<Time> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes the earliest timer that is due.
    pub(super) fn pop_due(&mut self, now: Time) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        let (_, timer) = self.by_time.pop_first()?;
        self.by_timer.remove(&timer);
        Some(timer)
    }
}
