//! A partition as a share group reads it: which records are whose, and from where on there is something to read
//! (`SharePartition` in Apache Kafka 4.3).
//!
//! ```text
//!                acquire                    accept
//!   Available ─────────────▶ Acquired ─────────────────▶ Acknowledged
//!       ▲                       │  │  reject, a gap, the limit of deliveries
//!       └───── release, the ────┘  └───────────────────▶ Archived
//!              lock ends
//! ```
//!
//! Everything before the *start offset* is over; everything behind the *end offset* has not been given to anybody yet.

use super::in_flight::{Batch, Delivery, RecordState};
use super::persisted::{Persisted, StateBatch, Write};
use crate::time::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// How a group wants its records delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// For how long a member has a record: `share.record.lock.duration.ms`.
    pub lock: Duration,
    /// How often a record is delivered: `share.delivery.count.limit`.
    pub delivery_limit: i32,
    /// How many records may be under way in a partition: `share.partition.max.record.locks`.
    pub max_in_flight: i32,
    /// Members may prolong their locks: `share.renew.acknowledge.enable`.
    pub may_renew: bool,
}

/// One partition of one group at the broker that leads it.
#[derive(Debug)]
pub(super) struct SharePartition {
    pub(super) leader_epoch: i32,
    pub(super) state_epoch: i32,
    pub(super) batches: BTreeMap<i64, Batch>,
    pub(super) start_offset: i64,
    /// The last record somebody was given; the start offset while there is none.
    pub(super) end_offset: i64,
    /// There may be something to read before the end offset.
    pub(super) look_back: bool,
    /// Records that were under way when the last leader went, which is not written down.
    gap: Option<Gap>,
    /// How many records from the start on need not be delivered any more.
    pub(super) complete: i32,
    /// When its next lock ends, as its owner has planned for it.
    pub(super) scheduled: Option<Time>,
}

/// Offsets up to `end` that may lack a state, the first at `start`.
#[derive(Debug, Clone, Copy)]
struct Gap {
    start: i64,
    end: i64,
}

impl SharePartition {
    /// Goes on where it is written down that others stopped.
    pub(super) fn load(persisted: &Persisted, start_offset: i64, leader_epoch: i32) -> Self {
        let mut partition = Self {
            leader_epoch,
            state_epoch: persisted.state_epoch,
            batches: BTreeMap::new(),
            start_offset,
            end_offset: start_offset,
            look_back: false,
            gap: None,
            complete: 0,
            scheduled: None,
        };
        let mut expected = start_offset;
        let mut gap = None;
        for batch in persisted.batches() {
            if gap.is_none() && batch.first > expected {
                gap = Some(expected);
            }
            expected = batch.last + 1;
            if batch.state.is_final() {
                partition.complete += records(batch.first, batch.last);
            }
            let delivery = Delivery::loose(batch.state, batch.count);
            partition.batches.insert(batch.first, Batch::whole(batch.first, batch.last, delivery));
        }
        if let Some(last) = partition.batches.values().next_back() {
            partition.end_offset = last.last;
            partition.look_back = true;
            partition.gap = gap.map(|start| Gap { start, end: partition.end_offset });
            partition.move_start();
        }
        partition
    }

    // ---- what there is to read ----

    /// From where on there may be something to acquire.
    pub(super) fn next_fetch_offset(&mut self) -> i64 {
        let nothing_under_way = self.batches.values().next_back().is_none_or(|last| self.start_offset > last.last);
        if nothing_under_way {
            self.look_back = false;
            return self.end_offset;
        }
        if self.look_back {
            if let Some(offset) = self.first_available() {
                return offset;
            }
            self.look_back = false;
        }
        self.end_offset.saturating_add(1)
    }

    fn first_available(&self) -> Option<i64> {
        let mut gap = self.open_gap();
        for batch in self.batches.values() {
            if let Some(start) = &mut gap {
                if batch.first > *start {
                    return Some(*start);
                }
                *start = (batch.last + 1).max(*start);
            }
            if let Some((first, ..)) = batch.spans().find(|(.., delivery)| delivery.is_available()) {
                return Some(first);
            }
        }
        None
    }

    /// Whether a fetch may find something for somebody.
    pub(super) fn can_acquire(&mut self, rules: &Rules) -> bool {
        self.next_fetch_offset() != self.end_offset.saturating_add(1)
            || self.in_flight() < i64::from(rules.max_in_flight)
    }

    pub(super) fn in_flight(&self) -> i64 {
        if self.batches.is_empty() { 0 } else { self.end_offset - self.start_offset + 1 }
    }

    /// Where the records without a state begin, if there still are any.
    pub(super) fn open_gap(&self) -> Option<i64> {
        self.gap.filter(|gap| gap.end == self.end_offset).map(|gap| gap.start)
    }

    /// Somebody was given everything before `offset` that can be had.
    pub(super) fn move_gap(&mut self, offset: i64) {
        let end_offset = self.end_offset;
        self.gap = self.gap.filter(|gap| gap.end == end_offset && offset <= gap.end);
        if let Some(gap) = &mut self.gap {
            gap.start = offset;
        }
    }

    // ---- the log's start moves ----

    /// Records before this offset are gone.
    pub(super) fn follow_log_start(&mut self, log_start: i64) {
        if log_start <= self.start_offset {
            return;
        }
        if self.batches.is_empty() {
            (self.start_offset, self.end_offset, self.complete) = (log_start, log_start, 0);
            return;
        }
        let over = self.final_records_before(log_start);
        self.archive(self.start_offset, log_start - 1, RecordState::Available);
        self.complete -= over;
        self.start_offset = log_start;
        self.end_offset = self.end_offset.max(log_start);
    }

    fn final_records_before(&self, offset: i64) -> i32 {
        let spans = self.batches.values().flat_map(Batch::spans);
        let counted = spans.filter(|(.., delivery)| delivery.state.is_final());
        counted.map(|(first, last, _)| records(first.max(self.start_offset), last.min(offset - 1))).sum()
    }

    /// Archives what is in this state between two offsets; how many records that were.
    pub(super) fn archive(&mut self, first: i64, last: i64, from: RecordState) -> i32 {
        let mut archived = 0;
        for batch in self.batches.values_mut().filter(|batch| batch.first <= last && batch.last >= first) {
            if !batch.is_within(first, last) && batch.as_whole().is_some_and(|whole| whole.state == from) {
                batch.split();
            }
            for (at, until, delivery) in batch.spans_mut() {
                if delivery.state == from && at >= first && until <= last {
                    delivery.archive();
                    archived += records(at, until);
                }
            }
        }
        self.look_back |= archived > 0;
        archived
    }

    /// A fetch from `from` found nothing before `to`: compaction took what was there.
    pub(super) fn archive_missing(&mut self, from: i64, to: i64) {
        if from < to && !self.batches.is_empty() {
            self.complete += self.archive(from, to - 1, RecordState::Available);
        }
    }

    // ---- members give records back ----

    /// A member gives back all it has.
    pub(super) fn release(&mut self, member: &str, rules: &Rules) -> Option<Write> {
        self.give_back(rules, |delivery| delivery.is_held_by(member))
    }

    /// Locks have ended.
    pub(super) fn expire(&mut self, now: Time, rules: &Rules) -> Option<Write> {
        self.give_back(rules, |delivery| delivery.lock_ends.is_some_and(|ends| ends <= now))
    }

    fn give_back(&mut self, rules: &Rules, is_meant: impl Fn(&Delivery) -> bool) -> Option<Write> {
        let start_offset = self.start_offset;
        let mut changed = Vec::new();
        for batch in self.batches.values_mut() {
            let is_meant = |delivery: &Delivery| delivery.state == RecordState::Acquired && is_meant(delivery);
            if batch.is_cut_by(start_offset) && batch.as_whole().is_some_and(is_meant) {
                batch.split();
            }
            for (first, last, delivery) in batch.spans_mut().filter(|(.., delivery)| is_meant(delivery)) {
                let to = if last < start_offset { RecordState::Archived } else { RecordState::Available };
                delivery.settle(to, rules.delivery_limit);
                changed.push(StateBatch { first, last, state: delivery.state, count: delivery.count });
            }
        }
        self.note_final(&changed);
        self.finish(changed)
    }

    /// Counts the records among these that need not be delivered any more.
    pub(super) fn note_final(&mut self, changed: &[StateBatch]) {
        let over = changed.iter().filter(|batch| batch.state.is_final());
        self.complete += over.map(|batch| records(batch.first.max(self.start_offset), batch.last)).sum::<i32>();
    }

    /// What is to be written down of a change; then the start offset moves, which is written down with the next one.
    pub(super) fn finish(&mut self, changed: Vec<StateBatch>) -> Option<Write> {
        if changed.is_empty() {
            return None;
        }
        self.look_back |= changed.iter().any(|batch| batch.state == RecordState::Available);
        let write = Write { start_offset: self.start_offset, complete: self.complete, batches: changed };
        self.move_start();
        Some(write)
    }

    // ---- the start moves ----

    /// Moves the start offset past what is over (`maybeUpdateCachedStateAndOffsets`).
    fn move_start(&mut self) {
        if !self.start_is_over() {
            return;
        }
        let Some((last_over, over)) = self.last_over() else { return };
        let last = self.batches.values().next_back().map_or(last_over, |batch| batch.last);
        if last_over == last {
            (self.start_offset, self.end_offset, self.complete) = (last + 1, last + 1, 0);
            self.batches.clear();
            return;
        }
        let Some((&key, batch)) = self.batches.range(..=last_over).next_back() else { return };
        let whole_is_over = batch.last == last_over;
        if whole_is_over {
            let next = self.batches.range(last_over + 1..).next().map_or(last_over + 1, |(key, _)| *key);
            self.start_offset = self.start_offset.max(next);
            if let Some(gap) = self.open_gap() {
                self.start_offset = self.start_offset.min(gap);
            }
        } else {
            self.start_offset = self.start_offset.max(last_over + 1);
        }
        self.complete -= over;
        self.batches = self.batches.split_off(&if whole_is_over { key + 1 } else { key });
    }

    fn start_is_over(&self) -> bool {
        let at_start = self.batches.range(..=self.start_offset).next_back();
        at_start.and_then(|(_, batch)| batch.at(self.start_offset)).is_some_and(|found| found.state.is_final())
    }

    /// The last record before which everything is over, and how many of those count as complete.
    fn last_over(&self) -> Option<(i64, i32)> {
        let (mut found, mut over) = (None, 0);
        for batch in self.batches.values() {
            if self.open_gap().is_some_and(|gap| batch.last >= gap) {
                break;
            }
            for (first, last, delivery) in batch.spans() {
                if !delivery.state.is_final() {
                    return found.map(|offset| (offset, over));
                }
                found = Some(last);
                over += records(first.max(self.start_offset), last);
            }
        }
        found.map(|offset| (offset, over))
    }

    // ---- locks ----

    /// When the first lock ends.
    pub(super) fn next_lock(&self) -> Option<Time> {
        self.batches.values().filter_map(Batch::next_lock).min()
    }
}

/// How many records lie between two offsets, both included; none when they are out of order.
pub(super) fn records(first: i64, last: i64) -> i32 {
    i32::try_from((last - first + 1).max(0)).unwrap_or(i32::MAX)
}
