//! Which transactions are open in a log, and which have ended how: what a reader of committed records needs to know
//! (`ProducerStateManager`'s transactions, `TransactionIndex`).
//!
//! It is made from the batches alone, so it can be made again wherever a log is put together anew.

use super::log::StoredBatch;
use crate::wire::marker::Marker;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The transactions of one log.
#[derive(Debug, Clone, Default)]
pub struct TransactionIndex {
    /// First offset by producer id.
    open: BTreeMap<i64, i64>,
    /// Those that have ended, in the order of their markers.
    ended: VecDeque<Ended>,
}

/// A transaction with its marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ended {
    producer_id: i64,
    first_offset: i64,
    /// The marker's.
    last_offset: i64,
    /// How far everything was decided once this transaction was.
    last_stable_offset: i64,
    committed: bool,
}

/// A transaction whose records a reader must skip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Who wrote it.
    pub producer_id: i64,
    /// Its first record.
    pub first_offset: i64,
}

impl TransactionIndex {
    /// Notes a batch that has been appended.
    pub(super) fn note(&mut self, batch: &StoredBatch) {
        let header = &batch.header;
        if !header.is_transactional() || !header.has_producer_id() {
            return;
        }
        match Marker::of(header, &batch.bytes) {
            Some(marker) => self.end(&marker, header.base_offset),
            None if header.is_control() => {}
            None => drop(self.open.entry(header.producer_id).or_insert(header.base_offset)),
        }
    }

    fn end(&mut self, marker: &Marker, last_offset: i64) {
        // A marker for a producer that wrote nothing here changes nothing for readers.
        let Some(first_offset) = self.open.remove(&marker.producer_id) else { return };
        let last_stable_offset = self.open.values().copied().min().unwrap_or(last_offset + 1);
        self.ended.push_back(Ended {
            producer_id: marker.producer_id,
            first_offset,
            last_offset,
            last_stable_offset,
            committed: marker.committed,
        });
    }

    /// Where this producer's open transaction begins.
    pub fn open_since(&self, producer_id: i64) -> Option<i64> {
        self.open.get(&producer_id).copied()
    }

    /// The first offset that belongs to a transaction whose end is not known below the high watermark.
    pub fn first_unstable_offset(&self, high_watermark: i64) -> Option<i64> {
        let copied = self.ended.partition_point(|ended| ended.last_offset < high_watermark);
        let uncopied = self.ended.range(copied..).map(|ended| ended.first_offset);
        uncopied.chain(self.open.values().copied()).min()
    }

    /// The aborted transactions that may have records from `offset` on and below `upper`, in the order of their markers.
    pub fn aborted(&self, offset: i64, upper: i64) -> Vec<AbortedTransaction> {
        let mut found = Vec::new();
        let from = self.ended.partition_point(|ended| ended.last_offset < offset);
        for ended in self.ended.range(from..).filter(|ended| !ended.committed) {
            if ended.first_offset < upper {
                let Ended { producer_id, first_offset, .. } = *ended;
                found.push(AbortedTransaction { producer_id, first_offset });
            }
            if ended.last_stable_offset >= upper {
                break;
            }
        }
        found
    }

    /// Whether what this producer wrote at `offset` was aborted.
    pub fn is_aborted(&self, producer_id: i64, offset: i64) -> bool {
        let from = self.ended.partition_point(|ended| ended.last_offset < offset);
        let own = self.ended.range(from..).find(|ended| ended.producer_id == producer_id);
        own.is_some_and(|ended| !ended.committed && ended.first_offset <= offset)
    }

    /// Forgets the aborted transactions with these markers, of which compaction left nothing.
    pub(super) fn forget(&mut self, markers: &BTreeSet<i64>) {
        self.ended.retain(|ended| ended.committed || !markers.contains(&ended.last_offset));
    }

    /// Forgets transactions that ended before the log's new start.
    pub(super) fn trim(&mut self, start_offset: i64) {
        let gone = self.ended.partition_point(|ended| ended.last_offset < start_offset);
        self.ended.drain(..gone);
    }

    /// Forgets what happened from `end_offset` on; `kept` are the batches that are left.
    pub fn truncate<'a>(&mut self, end_offset: i64, kept: impl Iterator<Item = &'a StoredBatch>) {
        let lost = self.ended.back().is_some_and(|ended| ended.last_offset >= end_offset);
        self.open.retain(|_, first_offset| *first_offset < end_offset);
        if lost {
            *self = Self::default();
            kept.for_each(|batch| self.note(batch));
        }
    }
}
