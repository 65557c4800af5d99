//! What a group acts upon beside itself.

use super::catalog::Catalog;
use super::timers::{Event, Timer, Timers};
use super::{GroupAnswer, Settings};
use crate::parked::Ticket;
use crate::time::Time;
use std::sync::Arc;
use std::time::Duration;

/// The time, the settings and the topics as they are, and where a group leaves deadlines and answers.
pub(super) struct Env<'a> {
    pub(super) now: Time,
    pub(super) settings: &'a Settings,
    pub(super) catalog: &'a Catalog,
    pub(super) timers: &'a mut Timers,
    pub(super) answers: &'a mut Vec<(Ticket, GroupAnswer)>,
}

impl Env<'_> {
    /// Expects to hear of a member again within this time; else its session is over.
    pub(super) fn expect(&mut self, group: &Arc<str>, member: &Arc<str>, within: Duration) {
        self.schedule(group, Event::Session(Arc::clone(member)), within);
    }

    /// Lets something happen to a group later, in place of an earlier deadline of the same thing.
    pub(super) fn schedule(&mut self, group: &Arc<str>, event: Event, after: Duration) {
        self.timers.schedule(Timer { group: Arc::clone(group), event }, self.now + after);
    }

    /// Lets it not happen.
    pub(super) fn cancel(&mut self, group: &Arc<str>, event: Event) {
        self.timers.cancel(&Timer { group: Arc::clone(group), event });
    }
}
