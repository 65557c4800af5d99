//! Records on their way to the members of a share group: batches in one state, or record by record where that is not
//! enough (`InFlightBatch`, `InFlightState`).

use crate::time::Time;
use std::sync::Arc;

/// Where a record is on its way (`RecordState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RecordState {
    /// Any member can have it.
    Available,
    /// A member has it, until its lock ends.
    Acquired,
    /// A member has dealt with it.
    Acknowledged,
    /// Nobody will have it any more.
    Archived,
}

impl RecordState {
    /// It will never change again.
    pub(super) fn is_final(self) -> bool {
        matches!(self, Self::Acknowledged | Self::Archived)
    }
}

/// A state in which records are, and how they came to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) state: RecordState,
    /// How often a member was given it.
    pub(super) count: i32,
    /// Who has it.
    pub(super) member: Option<Arc<str>>,
    /// Until when that member has it.
    pub(super) lock_ends: Option<Time>,
}

impl Delivery {
    /// Given to a member for the first time.
    pub(super) fn first(member: &Arc<str>, lock_ends: Time) -> Self {
        Self { state: RecordState::Acquired, count: 1, member: Some(Arc::clone(member)), lock_ends: Some(lock_ends) }
    }

    /// Nobody has it.
    pub(super) fn loose(state: RecordState, count: i32) -> Self {
        Self { state, count, member: None, lock_ends: None }
    }

    pub(super) fn is_available(&self) -> bool {
        self.state == RecordState::Available
    }

    pub(super) fn is_held_by(&self, member: &str) -> bool {
        self.member.as_deref() == Some(member)
    }

    /// Given to a member once more.
    pub(super) fn acquire(&mut self, member: &Arc<str>, lock_ends: Time) {
        *self = Self { count: self.count + 1, ..Self::first(member, lock_ends) };
    }

    /// Taken from the member that has it. Who had it too often loses it for all: `limit` deliveries are enough.
    pub(super) fn settle(&mut self, to: RecordState, limit: i32) {
        let worn_out = to == RecordState::Available && self.count >= limit;
        *self = Self::loose(if worn_out { RecordState::Archived } else { to }, self.count);
    }

    pub(super) fn archive(&mut self) {
        *self = Self::loose(RecordState::Archived, self.count);
    }
}

/// Records that were acquired together.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) first: i64,
    pub(super) last: i64,
    deliveries: Deliveries,
}

#[derive(Debug, Clone)]
enum Deliveries {
    Whole(Delivery),
    /// One a record, from the first on.
    Each(Vec<Delivery>),
}

impl Batch {
    pub(super) fn whole(first: i64, last: i64, delivery: Delivery) -> Self {
        Self { first, last, deliveries: Deliveries::Whole(delivery) }
    }

    /// A new batch of which only the records up to `taken` are given away.
    pub(super) fn taken_in_part(first: i64, last: i64, taken: i64, delivery: &Delivery) -> Self {
        let left = Delivery::loose(RecordState::Available, delivery.count - 1);
        let each = (first..=last).map(|offset| if offset <= taken { delivery.clone() } else { left.clone() });
        Self { first, last, deliveries: Deliveries::Each(each.collect()) }
    }

    pub(super) fn len(&self) -> i64 {
        self.last - self.first + 1
    }

    /// The state of all its records, if they have one.
    pub(super) fn as_whole(&self) -> Option<&Delivery> {
        match &self.deliveries {
            Deliveries::Whole(delivery) => Some(delivery),
            Deliveries::Each(_) => None,
        }
    }

    pub(super) fn as_whole_mut(&mut self) -> Option<&mut Delivery> {
        match &mut self.deliveries {
            Deliveries::Whole(delivery) => Some(delivery),
            Deliveries::Each(_) => None,
        }
    }

    /// From now on its records may differ.
    pub(super) fn split(&mut self) {
        if let Deliveries::Whole(delivery) = &self.deliveries {
            self.deliveries = Deliveries::Each(vec![delivery.clone(); usize::try_from(self.len()).unwrap_or(0)]);
        }
    }

    /// Its states with the offsets they are for.
    pub(super) fn spans(&self) -> impl Iterator<Item = (i64, i64, &Delivery)> {
        let (whole, each) = match &self.deliveries {
            Deliveries::Whole(delivery) => (Some((self.first, self.last, delivery)), [].as_slice()),
            Deliveries::Each(each) => (None, each.as_slice()),
        };
        whole.into_iter().chain((self.first..).zip(each).map(|(offset, delivery)| (offset, offset, delivery)))
    }

    /// The same, to be changed.
    pub(super) fn spans_mut(&mut self) -> impl Iterator<Item = (i64, i64, &mut Delivery)> {
        let (first, last) = (self.first, self.last);
        let (whole, each) = match &mut self.deliveries {
            Deliveries::Whole(delivery) => (Some((first, last, delivery)), [].as_mut_slice()),
            Deliveries::Each(each) => (None, each.as_mut_slice()),
        };
        whole.into_iter().chain((first..).zip(each).map(|(offset, delivery)| (offset, offset, delivery)))
    }

    /// The state of one record.
    pub(super) fn at(&self, offset: i64) -> Option<&Delivery> {
        match &self.deliveries {
            Deliveries::Whole(delivery) => Some(delivery),
            Deliveries::Each(each) => each.get(usize::try_from(offset - self.first).ok()?),
        }
    }

    /// Whether all of it lies between these offsets.
    pub(super) fn is_within(&self, first: i64, last: i64) -> bool {
        self.first >= first && self.last <= last
    }

    /// Whether this offset cuts it in two.
    pub(super) fn is_cut_by(&self, offset: i64) -> bool {
        self.first < offset && self.last >= offset
    }

    /// When the first lock ends.
    pub(super) fn next_lock(&self) -> Option<Time> {
        self.spans().filter_map(|(.., delivery)| delivery.lock_ends).min()
    }
}
