//! The flood breaker: when too many records in a row of recent ones would become dead letters, the fault is hardly theirs.
//!
//! A service that is down fails every event there is. Burying them all would empty the topic into the dead-letter queue,
//! and replaying them later would cost their order. So the engine stops: nothing is started for a while, and what would
//! have been buried is tried once more afterwards. The next flood is noticed as this one was, so at most a share of a
//! window becomes dead letters per pause.

use super::Time;
use std::collections::VecDeque;
use std::time::Duration;

/// When a flood of dead letters stops the engine, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FloodBreaker {
    /// The share of recent records, 0.0 to 1.0, above which their failing is a flood.
    pub share: f64,
    /// How many recent records count. Fewer than that are no flood.
    pub window: usize,
    /// How long nothing is started.
    pub pause: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Flood {
    /// Whether each of the recent records failed for good.
    recent: VecDeque<bool>,
    failed: usize,
    until: Option<Time>,
}

impl Flood {
    /// Takes note of a record that came to its end; whether it began a flood.
    pub(super) fn weigh(&mut self, breaker: &FloodBreaker, now: Time, failed: bool) -> bool {
        self.recent.push_back(failed);
        self.failed += usize::from(failed);
        if self.recent.len() > breaker.window {
            self.failed -= usize::from(self.recent.pop_front() == Some(true));
        }
        let flooded = failed
            && self.recent.len() >= breaker.window
            && self.failed as f64 > breaker.share * self.recent.len() as f64;
        if flooded {
            *self = Self { until: Some(now + breaker.pause), ..Self::default() };
        }
        flooded
    }

    /// Until when nothing may start, if it may not now.
    pub(super) fn pause(&mut self, now: Time) -> Option<Time> {
        self.until = self.until.filter(|until| *until > now);
        self.until
    }

    pub(super) fn until(&self) -> Option<Time> {
        self.until
    }
}
