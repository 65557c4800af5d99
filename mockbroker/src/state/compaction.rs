//! Compaction: of every key only the latest record stays (`LogCleaner`, `LogCleanerManager`, KIP-534).
//!
//! Offsets never change. A batch keeps its first and last offset, its producer and its sequences, whatever of its records
//! stays; one that must be remembered for its producer, or because it is the last, stays without any. The first time
//! a tombstone, or the marker of a transaction without records, is met, its batch is given the time at which it may go.

use super::configs::TopicSettings;
use super::log::{Log, StoredBatch};
use super::producers::Producers;
use super::segments::RollAfter;
use crate::wire::batch::{self, BatchBuilder, BatchError, BatchHeader, Record};
use crate::wire::marker::Marker;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// What of a log is to be cleaned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Dirt {
    /// Everything before was cleaned already.
    from: i64,
    /// The first offset that is not to be cleaned: where a segment begins.
    up_to: i64,
    /// How much of what could be cleaned is not.
    ratio: f64,
    /// Whether something has been dirty for longer than `max.compaction.lag.ms`.
    overdue: bool,
}

impl Dirt {
    /// Whether there is anything to clean.
    pub(super) fn is_some(&self) -> bool {
        self.from < self.up_to
    }

    /// Whether the cleaner sets to work by itself.
    pub(super) fn is_enough(&self, settings: &TopicSettings) -> bool {
        self.is_some() && (self.overdue || self.ratio > settings.min_cleanable_dirty_ratio)
    }
}

impl Log {
    /// What could be cleaned: nothing of the last segment, nothing undecided, nothing younger than
    /// `min.compaction.lag.ms`.
    pub(super) fn dirt(&self, now_ms: i64, settings: &TopicSettings) -> Dirt {
        let from = self.cleaned_to().clamp(self.start_offset(), self.end_offset());
        let settled = self.last_stable_offset();
        let lag_ms = settings.min_compaction_lag_ms;
        let too_young = |base, end| {
            let latest = self.max_timestamp_between(base, end);
            lag_ms > 0 && end > from && latest.is_some_and(|latest| latest > now_ms.saturating_sub(lag_ms))
        };
        let mut segments = self.inactive_segments();
        let stops = segments.find(|(base, end)| *end > settled || too_young(*base, *end)).map(|(base, _)| base);
        let up_to = stops.or(self.active_base()).unwrap_or(from).max(from);
        let (clean, dirty) = (self.bytes_between(i64::MIN, from), self.bytes_between(from, up_to));
        let overdue_before = now_ms.saturating_sub(settings.max_compaction_lag_ms);
        let mut inactive = self.inactive_segments().filter(|(_, end)| *end > from);
        let overdue = inactive.any(|(base, end)| {
            self.first_timestamp_between(base, end).is_some_and(|first| 0 < first && first < overdue_before)
        });
        Dirt { from, up_to, ratio: dirty as f64 / ((clean + dirty).max(1)) as f64, overdue: overdue && dirty > 0 }
    }

    /// Cleans.
    pub(super) fn compact(&mut self, dirt: &Dirt, now_ms: i64, settings: &TopicSettings, producers: &Producers) {
        let sweep = Sweep {
            latest: self.latest_by_key(dirt),
            up_to: dirt.up_to,
            now_ms,
            horizon_ms: now_ms.saturating_add(settings.delete_retention_ms),
            producers,
            log: self,
            with_aborted_records: BTreeSet::new(),
            with_committed_records: BTreeSet::new(),
            forgotten: BTreeSet::new(),
        };
        let (batches, forgotten) = sweep.run();
        self.rewrite(batches, dirt.up_to, &forgotten);
        self.join_segments(dirt.up_to, RollAfter::of(settings).bytes);
    }

    /// The last offset of every key in what is dirty; records that were aborted do not count.
    fn latest_by_key(&self, dirt: &Dirt) -> BTreeMap<Bytes, i64> {
        let dirty = self.batches().filter(|stored| (dirt.from..dirt.up_to).contains(&stored.header.base_offset));
        let data = dirty.filter(|stored| !stored.header.is_control() && !self.is_aborted(&stored.header));
        let mut latest = BTreeMap::new();
        for stored in data {
            for record in batch::records(&stored.bytes).unwrap_or_default() {
                let offset = stored.header.base_offset + i64::from(record.offset_delta);
                record.key.map(|key| latest.insert(key, offset));
            }
        }
        latest
    }

    fn is_aborted(&self, header: &BatchHeader) -> bool {
        header.is_transactional() && self.transactions().is_aborted(header.producer_id, header.base_offset)
    }
}

/// One pass over a log.
struct Sweep<'a> {
    latest: BTreeMap<Bytes, i64>,
    up_to: i64,
    now_ms: i64,
    /// When what is met for the first time may go.
    horizon_ms: i64,
    producers: &'a Producers,
    log: &'a Log,
    /// Producers of whose transaction records, or batches left without any, were met since its beginning.
    with_aborted_records: BTreeSet<i64>,
    with_committed_records: BTreeSet<i64>,
    /// Markers of aborted transactions of which nothing is left.
    forgotten: BTreeSet<i64>,
}

impl Sweep<'_> {
    fn run(mut self) -> (Vec<StoredBatch>, BTreeSet<i64>) {
        let mut kept = Vec::new();
        for stored in self.log.batches() {
            if stored.header.base_offset >= self.up_to {
                kept.push(stored.clone());
            } else if let Some(bytes) = self.sweep(stored)
                && let Ok(header) = BatchHeader::parse(&bytes)
            {
                kept.push(stored.rewritten(header, bytes));
            }
        }
        (kept, self.forgotten)
    }

    /// What is left of a batch.
    fn sweep(&mut self, stored: &StoredBatch) -> Option<Bytes> {
        let header = &stored.header;
        let ended = header.is_control() && self.is_marker_of_nothing(stored);
        let passed = header.delete_horizon_ms().is_some_and(|horizon_ms| horizon_ms <= self.now_ms);
        let emptied = match header.is_control() {
            true => ended && passed,
            false => self.note_records(header),
        };
        // What cannot be read cannot be judged, and stays as it is.
        let Ok(records) = batch::records(&stored.bytes) else { return Some(stored.bytes.clone()) };
        let count = records.len();
        let left: Vec<Record> = match emptied {
            true => Vec::new(),
            false => records.into_iter().filter(|record| self.stays(header, record)).collect(),
        };
        let kept_empty = self.is_last_of_its_producer(header) || header.last_offset() + 1 == self.up_to;
        if left.is_empty() {
            return kept_empty.then(|| rewritten(stored, left, None));
        }
        let marked = header.delete_horizon_ms().is_some();
        let tombstones = !header.is_control() && left.iter().any(|record| record.value.is_none());
        let horizon_ms = (!marked && (tombstones || ended)).then_some(self.horizon_ms);
        if left.len() == count && horizon_ms.is_none() {
            return Some(stored.bytes.clone());
        }
        Some(rewritten(stored, left, horizon_ms.or(header.delete_horizon_ms())))
    }

    /// Whether no batch of the transaction that this marker ends was met.
    fn is_marker_of_nothing(&mut self, stored: &StoredBatch) -> bool {
        let Some(marker) = Marker::of(&stored.header, &stored.bytes) else { return true };
        let found = match marker.committed {
            true => self.with_committed_records.remove(&marker.producer_id),
            false => self.with_aborted_records.remove(&marker.producer_id),
        };
        if !found && !marker.committed {
            self.forgotten.insert(stored.header.base_offset);
        }
        !found
    }

    /// Notes that a batch of records was met; true when they were aborted, so that none stays.
    fn note_records(&mut self, header: &BatchHeader) -> bool {
        let aborted = self.log.is_aborted(header);
        if aborted {
            self.with_aborted_records.insert(header.producer_id);
        } else if header.is_transactional() {
            self.with_committed_records.insert(header.producer_id);
        }
        aborted
    }

    fn stays(&self, header: &BatchHeader, record: &Record) -> bool {
        if header.is_control() {
            return true;
        }
        let Some(key) = &record.key else { return false };
        let offset = header.base_offset + i64::from(record.offset_delta);
        let latest = self.latest.get(key).is_none_or(|latest| offset >= *latest);
        let expired = header.delete_horizon_ms().is_some_and(|horizon_ms| horizon_ms <= self.now_ms);
        latest && (record.value.is_some() || !expired)
    }

    /// A producer's last batch has its last sequence, or where an ended transaction left none, its epoch.
    fn is_last_of_its_producer(&self, header: &BatchHeader) -> bool {
        let producer = self.producers.iter().find(|(id, _)| *id == header.producer_id);
        let Some((_, producer)) = producer.filter(|_| header.has_producer_id()) else { return false };
        match producer.batches.back() {
            Some(last) => last.last_offset == header.last_offset(),
            None => header.is_control() && header.producer_epoch == producer.epoch,
        }
    }
}

/// A batch with fewer records, or with another time at which it may go; as it was, should it not fit into a batch.
fn rewritten(stored: &StoredBatch, records: Vec<Record>, horizon_ms: Option<i64>) -> Bytes {
    let rebuild = || -> Result<Bytes, BatchError> {
        let codec = stored.header.codec()?;
        BatchBuilder::remaining(&stored.header, records, horizon_ms).codec(codec).build()
    };
    rebuild().unwrap_or_else(|_| stored.bytes.clone())
}
