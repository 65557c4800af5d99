//! Giving records to members (`SharePartition.acquire` in Apache Kafka 4.3).
//!
//! Members get whole batches as they were written, even if that is more than they asked for, unless they insist on a limit of
//! records (KIP-1206). Records that failed often are given in smaller numbers, and before their last attempt alone, so
//! that one that breaks its readers does not take others with it.

use super::in_flight::{Batch, Delivery, RecordState};
use super::partition::{Rules, SharePartition};
use crate::state::transaction_index::AbortedTransaction;
use crate::time::Time;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a member asks for.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The member.
    pub member: Arc<str>,
    /// Not a record more than `max_records`.
    pub strict: bool,
    /// How many records are acquired, and acknowledged, together.
    pub batch_size: i32,
    /// About how many records it wants.
    pub max_records: i32,
}

/// A batch of the log that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadBatch {
    /// Its first offset.
    pub first: i64,
    /// Its last offset.
    pub last: i64,
    /// Who wrote it within a transaction.
    pub transaction_of: Option<i64>,
    /// It ends a transaction whose records do not count.
    pub aborts: bool,
}

/// Records a member was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acquired {
    /// The first of them.
    pub first: i64,
    /// The last of them.
    pub last: i64,
    /// How often they have been delivered by now.
    pub count: i32,
}

/// From this many deliveries on, records are given in smaller numbers.
fn throttled_from(rules: &Rules) -> i32 {
    (rules.delivery_limit + 1).div_euclid(2).max(2)
}

impl SharePartition {
    /// Gives a member what it may have of the batches read from `from` on. Of aborted transactions, which are listed only
    /// for groups that read what is committed, it gets nothing.
    pub(super) fn acquire(
        &mut self,
        now: Time,
        rules: &Rules,
        ask: &Ask,
        from: i64,
        read: &[ReadBatch],
        aborted: &[AbortedTransaction],
    ) -> Vec<Acquired> {
        let (Some(first), Some(last)) = (read.first(), read.last()) else { return Vec::new() };
        if ask.max_records <= 0 || last.last < self.start_offset {
            return Vec::new();
        }
        let Some((upto, max_records)) = self.limits(rules, ask.max_records, from, last.last) else { return Vec::new() };
        self.archive_missing(from, first.first);
        let mut round = Round {
            lock_ends: now + rules.lock,
            rules,
            ask,
            read,
            first: first.first,
            upto,
            left: i64::from(max_records),
            acquired: Vec::new(),
        };
        self.acquire_between(&mut round);
        if let Some(last) = round.acquired.last() {
            self.move_gap(last.last + 1);
        }
        self.without_aborted(round.acquired, read, aborted)
    }

    /// Up to where, and how many: what is under way already is bounded.
    fn limits(&self, rules: &Rules, wanted: i32, from: i64, last: i64) -> Option<(i64, i32)> {
        let room = i64::from(rules.max_in_flight) - self.in_flight();
        if room > 0 {
            return Some((last, wanted.min(i32::try_from(room).unwrap_or(i32::MAX))));
        }
        // It may still have what others gave back.
        let behind = self.end_offset - from + 1;
        (behind > 0).then(|| (last.min(self.end_offset), wanted.min(i32::try_from(behind).unwrap_or(i32::MAX))))
    }

    fn acquire_between(&mut self, round: &mut Round<'_>) {
        let mut base = round.first;
        match self.batches.range(..=base).next_back() {
            None => base = base.max(self.start_offset),
            Some((key, batch)) if batch.last >= base => base = *key,
            Some(_) => {}
        }
        let known = self.batches.range(base.min(round.first)..).take_while(|(key, _)| **key <= round.upto);
        let keys: Vec<i64> = known.map(|(key, _)| *key).collect();
        let Some(last_key) = keys.last().copied() else {
            return self.acquire_new(round, base, round.upto);
        };
        let last_known = self.batches.get(&last_key).map_or(last_key, |batch| batch.last);
        let mut unknown_from = base;
        for key in keys {
            if round.left <= 0 {
                break;
            }
            if self.open_gap().is_some() {
                if unknown_from < key {
                    self.acquire_new(round, unknown_from, key - 1);
                }
                unknown_from = self.batches.get(&key).map_or(key, |batch| batch.last) + 1;
                if round.left <= 0 {
                    break;
                }
            }
            if let Some(batch) = self.batches.get_mut(&key) {
                round.acquire_known(batch);
            }
        }
        if round.left > 0 && last_known < round.upto {
            self.acquire_new(round, last_known + 1, round.upto);
        }
    }

    /// Gives records nobody was given before.
    fn acquire_new(&mut self, round: &mut Round<'_>, first: i64, last: i64) {
        let first = if self.batches.is_empty() { first.max(self.end_offset) } else { first };
        let mut upto = last;
        if round.left < last - first + 1 {
            upto = round.end_of_batch_with(first + round.left - 1);
            if self.open_gap().is_some() {
                upto = upto.min(last);
            }
        }
        if upto < first {
            return;
        }
        let delivery = Delivery::first(&round.ask.member, round.lock_ends);
        let given = if round.ask.strict && upto - first + 1 > round.left {
            let taken = first + round.left - 1;
            self.batches.insert(first, Batch::taken_in_part(first, upto, taken, &delivery));
            self.look_back = true;
            vec![(first, taken)]
        } else {
            let parts = round.parts(first, upto);
            for (first, last) in &parts {
                self.batches.insert(*first, Batch::whole(*first, *last, delivery.clone()));
            }
            parts
        };
        if self.batches.first_key_value().is_some_and(|(key, _)| *key == first) {
            self.start_offset = first;
        }
        self.end_offset = self.end_offset.max(upto);
        for (first, last) in given {
            round.left -= last - first + 1;
            round.acquired.push(Acquired { first, last, count: 1 });
        }
        if let Some(last) = round.acquired.last() {
            self.move_gap(last.last + 1);
        }
    }

    /// Archives what belongs to aborted transactions, and takes it out of what is given.
    fn without_aborted(
        &mut self,
        acquired: Vec<Acquired>,
        read: &[ReadBatch],
        aborted: &[AbortedTransaction],
    ) -> Vec<Acquired> {
        let mut kept = acquired;
        for batch in aborted_batches(read, aborted) {
            self.complete += self.archive(batch.first, batch.last, RecordState::Acquired);
            kept = kept.into_iter().flat_map(|given| given.without(batch.first, batch.last)).collect();
        }
        kept
    }
}

/// One member's turn at one partition.
struct Round<'a> {
    lock_ends: Time,
    rules: &'a Rules,
    ask: &'a Ask,
    read: &'a [ReadBatch],
    /// The first record that was read.
    first: i64,
    /// The last record that may be given.
    upto: i64,
    /// How many records it may still have.
    left: i64,
    acquired: Vec<Acquired>,
}

impl Round<'_> {
    /// Gives records that were under way before.
    fn acquire_known(&mut self, batch: &mut Batch) {
        let throttled = self.is_throttled(batch);
        let before: i64 = self.acquired.iter().map(Acquired::records).sum();
        if throttled && before > 0 {
            self.left = 0;
            return;
        }
        let too_long = self.ask.strict && batch.len() > self.left;
        if batch.is_within(self.first, self.upto) && !too_long && !throttled && batch.as_whole().is_some() {
            return self.acquire_whole(batch);
        }
        if batch.as_whole().is_some_and(|whole| !whole.is_available()) {
            return;
        }
        let given = self.acquire_each(batch);
        if throttled && given {
            self.left = 0;
        }
    }

    fn is_throttled(&self, batch: &Batch) -> bool {
        let from = throttled_from(self.rules);
        let read = |first: i64, last: i64| batch.as_whole().is_some() || (first >= self.first && last <= self.upto);
        let mut available =
            batch.spans().filter(|(first, last, delivery)| delivery.is_available() && read(*first, *last));
        available.any(|(.., delivery)| delivery.count >= from)
    }

    fn acquire_whole(&mut self, batch: &mut Batch) {
        let (first, last) = (batch.first, batch.last);
        if let Some(delivery) = batch.as_whole_mut().filter(|delivery| delivery.is_available()) {
            delivery.acquire(&self.ask.member, self.lock_ends);
            self.left -= last - first + 1;
            self.acquired.push(Acquired { first, last, count: delivery.count });
        }
    }

    /// Record by record; whether there was any.
    fn acquire_each(&mut self, batch: &mut Batch) -> bool {
        let (limit, throttled_from) = (self.rules.delivery_limit, throttled_from(self.rules));
        let (size, most) = (batch.len(), self.left);
        let (mut given, mut throttled_to) = (0, None);
        let mut neighbours: Option<Acquired> = None;
        batch.split();
        for (offset, _, delivery) in batch.spans_mut() {
            if offset < self.first || offset > self.upto || !delivery.is_available() {
                continue;
            }
            let last_attempt = limit > 2 && delivery.count == limit - 1;
            if last_attempt && given > 0 {
                break;
            }
            if delivery.count >= throttled_from && throttled_to.is_none() {
                let halvings = u32::try_from(delivery.count - throttled_from + 1).unwrap_or(0);
                throttled_to = Some(size.checked_shr(halvings).unwrap_or(0).max(1));
            }
            delivery.acquire(&self.ask.member, self.lock_ends);
            given += 1;
            match &mut neighbours {
                Some(before) if before.last + 1 == offset && before.count == delivery.count => before.last = offset,
                _ => {
                    let next = Acquired { first: offset, last: offset, count: delivery.count };
                    self.acquired.extend(neighbours.replace(next));
                }
            }
            if last_attempt || (self.ask.strict && given == most) || throttled_to == Some(given) {
                break;
            }
        }
        self.acquired.extend(neighbours);
        self.left -= given;
        given > 0
    }

    /// The last record of the batch that holds this one.
    fn end_of_batch_with(&self, offset: i64) -> i64 {
        let holder = self.read.iter().rfind(|batch| batch.first <= offset);
        holder.map_or(offset, |batch| batch.last.max(offset))
    }

    /// Cuts what is given at the beginnings of batches, into parts of about the size the member wants.
    fn parts(&self, first: i64, last: i64) -> Vec<(i64, i64)> {
        let batch_size = i64::from(self.ask.batch_size);
        let (mut parts, mut from) = (Vec::new(), first);
        if !self.ask.strict && last - first + 1 > batch_size {
            for batch in self.read.iter().take_while(|batch| batch.first <= last) {
                if batch.first > from && batch.first - from >= batch_size {
                    parts.push((from, batch.first - 1));
                    from = batch.first;
                }
            }
        }
        parts.push((from, last));
        parts
    }
}

impl Acquired {
    /// How many records these are.
    pub fn records(&self) -> i64 {
        self.last - self.first + 1
    }

    /// What is left of it beside these offsets.
    fn without(self, first: i64, last: i64) -> impl Iterator<Item = Self> {
        let before = Self { last: self.last.min(first - 1), ..self };
        let behind = Self { first: self.first.max(last + 1), ..self };
        [before, behind].into_iter().filter(|part| part.first <= part.last)
    }
}

/// The batches whose transactions were aborted (`fetchAbortedTransactionRecordBatches`).
fn aborted_batches(read: &[ReadBatch], aborted: &[AbortedTransaction]) -> Vec<ReadBatch> {
    let mut begun = aborted.to_vec();
    begun.sort_by_key(|transaction| std::cmp::Reverse(transaction.first_offset));
    let (mut open, mut found) = (BTreeSet::new(), Vec::new());
    for batch in read {
        let Some(producer) = batch.transaction_of else { continue };
        while let Some(transaction) = begun.pop_if(|transaction| transaction.first_offset <= batch.last) {
            open.insert(transaction.producer_id);
        }
        if batch.aborts {
            open.remove(&producer);
        } else if open.contains(&producer) {
            found.push(*batch);
        }
    }
    found
}
