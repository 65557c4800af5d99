//! Timers with a descriptor, as timerfd_create(2) has them.

use super::node::Node;
use super::object::{Kind, ObjectId, Patience, Sink, ready};
use super::timetable::Event;
use super::{Errno, Kernel, Mark, Moment, Step, ThreadId};
use std::time::Duration;

const READ: Mark = Mark::new("timerfd read");

#[derive(Debug)]
pub(crate) struct TimerFd {
    pub(crate) wall_clock: bool,
    next: Option<Moment>,
    interval: Duration,
    went_off: u64,
    /// Counts how often it was set.
    setting: u64,
}

/// When a timer goes off: in how long, and then how often. Zero is never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimerSetting {
    /// Until it goes off.
    pub in_: Duration,
    /// From then on, every so long.
    pub interval: Duration,
}

impl TimerFd {
    pub(crate) fn readiness(&self) -> u32 {
        if self.went_off > 0 { ready::IN } else { 0 }
    }
}

impl Kernel {
    /// A new timer, not set. `wall_clock` says which clock absolute times are of.
    pub fn timerfd(&mut self, node: Node, wall_clock: bool, nonblocking: bool) -> ObjectId {
        let timer = TimerFd { wall_clock, next: None, interval: Duration::ZERO, went_off: 0, setting: 0 };
        self.create(node, Kind::TimerFd(timer), nonblocking)
    }

    fn timer(&mut self, object: ObjectId) -> Result<&mut TimerFd, Errno> {
        match &mut self.objects[object.index()].kind {
            Kind::TimerFd(timer) => Ok(timer),
            _ => Err(Errno::INVAL),
        }
    }

    /// Whether absolute times of this timer are of the wall clock.
    pub fn timer_on_wall_clock(&mut self, object: ObjectId) -> Result<bool, Errno> {
        Ok(self.timer(object)?.wall_clock)
    }

    /// Sets a timer to go off at a moment (never when there is none) and then every `interval` (never when zero);
    /// returns what it was set to.
    pub fn set_timer(
        &mut self,
        object: ObjectId,
        first: Option<Moment>,
        interval: Duration,
    ) -> Result<TimerSetting, Errno> {
        let before = self.timer_setting(object)?;
        let timer = self.timer(object)?;
        timer.setting += 1;
        (timer.next, timer.interval, timer.went_off) = (first, interval, 0);
        let setting = timer.setting;
        if let Some(at) = first {
            self.timetable.plan(at.max(self.now), Event::TimerFd { object, setting });
        }
        Ok(before)
    }

    /// What a timer is set to.
    pub fn timer_setting(&mut self, object: ObjectId) -> Result<TimerSetting, Errno> {
        let now = self.now;
        let timer = self.timer(object)?;
        let in_ = timer.next.map_or(Duration::ZERO, |next| next.since(now));
        Ok(TimerSetting { in_, interval: timer.interval })
    }

    pub(crate) fn timer_due(&mut self, object: ObjectId, setting: u64) {
        let now = self.now;
        let Ok(timer) = self.timer(object) else { return };
        if timer.setting != setting {
            return;
        }
        timer.went_off += 1;
        timer.next = (!timer.interval.is_zero()).then(|| now.after(timer.interval));
        let next = timer.next;
        if let Some(at) = next {
            self.timetable.plan(at, Event::TimerFd { object, setting });
        }
        self.changed(object);
    }

    pub(crate) fn read_timerfd(
        &mut self,
        thread: ThreadId,
        object: ObjectId,
        into: &mut dyn Sink,
        how: Patience,
    ) -> Step<usize> {
        let timer = self.timer(object)?;
        if into.room() < 8 {
            return Err(Errno::INVAL.into());
        }
        if timer.went_off > 0 {
            into.put(&std::mem::take(&mut timer.went_off).to_ne_bytes());
            return Ok(8);
        }
        match self.wait_for(thread, READ, object, how)? {}
    }
}
