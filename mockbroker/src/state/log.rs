//! The log of one partition: stored batches, watermarks, leader epochs, and the lookups clients ask of them.
//!
//! Batches are kept as they came, each with the number of bytes before it, so that "how many bytes could this
//! fetch read" costs two binary searches and a fetch shares the stored bytes instead of copying them.

use super::segments::{Incoming, RollAfter, Segments};
use super::transaction_index::TransactionIndex;
use crate::wire::batch::{self, BatchHeader, TimestampType};
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeSet, VecDeque};

/// The default of `index.interval.bytes`.
const INDEX_INTERVAL_BYTES: usize = 4_096;

/// A partition's batches and the offsets that matter.
#[derive(Debug, Clone, Default)]
pub struct Log {
    batches: VecDeque<StoredBatch>,
    start_offset: i64,
    end_offset: i64,
    high_watermark: i64,
    end_position: u64,
    epochs: LeaderEpochs,
    transactions: TransactionIndex,
    /// Bytes since the last batch with an entry in the index.
    unindexed_bytes: usize,
    segments: Segments,
    /// Up to here the log has been compacted.
    cleaned_to: i64,
}

/// One batch at rest.
#[derive(Debug, Clone)]
pub struct StoredBatch {
    /// The parsed header, base offset and epoch as stamped.
    pub header: BatchHeader,
    /// The bytes a fetch answers with.
    pub bytes: Bytes,
    /// Bytes of all batches ever appended before this one.
    position: u64,
    /// Whether Kafka's sparse index would have an entry for it.
    indexed: bool,
}

/// What a read found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slice {
    /// The stored bytes of the batches, in order.
    pub chunks: Vec<Bytes>,
    /// Their total length.
    pub bytes: usize,
}

/// An offset found by timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampedOffset {
    /// Offset of the record.
    pub offset: i64,
    /// Its timestamp in milliseconds.
    pub timestamp: i64,
    /// Epoch of the leader that appended it.
    pub leader_epoch: i32,
}

impl Log {
    /// The first offset that can still be read.
    pub fn start_offset(&self) -> i64 {
        self.start_offset
    }

    /// The offset the next record gets.
    pub fn end_offset(&self) -> i64 {
        self.end_offset
    }

    /// One past the last record that every in-sync replica has.
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// One past the last record that no open transaction precedes.
    pub fn last_stable_offset(&self) -> i64 {
        self.last_stable_offset_at(self.high_watermark)
    }

    /// The same for a replica that knows of another high watermark.
    pub fn last_stable_offset_at(&self, high_watermark: i64) -> i64 {
        match self.transactions.first_unstable_offset(high_watermark) {
            None => high_watermark,
            // The first record of an open transaction may have been deleted.
            Some(unstable) => unstable.max(self.start_offset).min(high_watermark),
        }
    }

    /// The transactions that have records here.
    pub fn transactions(&self) -> &TransactionIndex {
        &self.transactions
    }

    /// Bytes at rest.
    pub fn size(&self) -> u64 {
        self.end_position - self.batches.front().map_or(self.end_position, |batch| batch.position)
    }

    /// Bytes at rest before this offset.
    pub fn size_below(&self, offset: i64) -> u64 {
        let first = self.batches.front().map_or(self.end_position, |batch| batch.position);
        self.position_at(self.index_of(offset)).saturating_sub(first)
    }

    /// The leader epochs and where each began.
    pub fn epochs(&self) -> &LeaderEpochs {
        &self.epochs
    }

    /// The batches at rest, oldest first.
    pub fn batches(&self) -> impl DoubleEndedIterator<Item = &StoredBatch> {
        self.batches.iter()
    }

    /// Notes that a leader with this epoch took over at the end of the log.
    pub fn begin_epoch(&mut self, epoch: i32) {
        self.epochs.begin(epoch, self.end_offset);
    }

    /// Appends a checked batch, stamping offset and epoch; `append_time_ms` when the topic keeps the broker's clock.
    /// Returns the header as stored. The high watermark moves when replicas have it: see [`Log::advance_high_watermark`].
    pub fn append(&mut self, batch: BytesMut, leader_epoch: i32, append_time_ms: Option<i64>) -> &BatchHeader {
        let mut stored = batch;
        batch::stamp(&mut stored, self.end_offset, leader_epoch);
        if let Some(now_ms) = append_time_ms {
            batch::stamp_append_time(&mut stored, now_ms);
        }
        let header = BatchHeader::parse(&stored).expect("only checked batches are appended");
        self.epochs.begin(leader_epoch, header.base_offset);
        self.end_offset = header.last_offset() + 1;
        self.push(StoredBatch { header, bytes: stored.freeze(), position: 0, indexed: false });
        &self.batches.back().expect("just pushed").header
    }

    /// Moves the high watermark forward, never past the end and never back.
    pub fn advance_high_watermark(&mut self, to: i64) {
        self.high_watermark = self.high_watermark.max(to.min(self.end_offset));
    }

    /// Whether a fetch from `offset` is possible at all.
    pub fn contains_position(&self, offset: i64) -> bool {
        (self.start_offset..=self.end_offset).contains(&offset)
    }

    /// Bytes a fetch from `offset` could read below `upper`.
    pub fn readable_bytes(&self, offset: i64, upper: i64) -> u64 {
        let first = self.index_of(offset);
        let end = self.index_of(upper);
        self.position_at(end).saturating_sub(self.position_at(first))
    }

    /// Whole batches from the one that holds `offset` up to `upper`, at most `max_bytes` and all of one segment (`UnifiedLog`
    /// reads no further); the first one always, when `at_least_one`. Kafka would cut the last batch short at the limit, which clients throw away.
    pub fn read(&self, offset: i64, upper: i64, max_bytes: usize, at_least_one: bool) -> Slice {
        let mut slice = Slice::default();
        let from = self.index_of(offset);
        let segment_end = self.batches.get(from).and_then(|first| self.segments.end_of(first.header.base_offset));
        let upper = segment_end.map_or(upper, |end| upper.min(end));
        for stored in self.batches.range(from..) {
            if stored.header.base_offset >= upper {
                break;
            }
            let fits = slice.bytes.saturating_add(stored.bytes.len()) <= max_bytes;
            let owed = at_least_one && slice.chunks.is_empty();
            if !fits && !owed {
                break;
            }
            slice.bytes += stored.bytes.len();
            slice.chunks.push(stored.bytes.clone());
        }
        slice
    }

    /// The first record at or after `timestamp`, looked up inside batches too.
    pub fn find_timestamp(&self, timestamp: i64, upper: i64) -> Option<TimestampedOffset> {
        self.batches
            .iter()
            .take_while(|stored| stored.header.base_offset < upper)
            .filter(|stored| stored.header.max_timestamp >= timestamp)
            .find_map(|stored| stored.find(self.start_offset, |record_timestamp| record_timestamp >= timestamp))
    }

    /// The first record with the largest timestamp; Kafka counts markers of transactions too.
    pub fn find_max_timestamp(&self) -> Option<TimestampedOffset> {
        let stored = self.batches.iter().reduce(|best, stored| {
            if stored.header.max_timestamp > best.header.max_timestamp { stored } else { best }
        })?;
        stored.find(i64::MIN, |timestamp| timestamp == stored.header.max_timestamp)
    }

    /// Forgets everything below `offset` (DeleteRecords, retention). Batches that straddle it stay until it passes them.
    pub fn trim(&mut self, offset: i64) {
        if offset <= self.start_offset {
            return;
        }
        self.start_offset = offset.min(self.end_offset);
        while self.batches.front().is_some_and(|batch| batch.header.last_offset() < self.start_offset) {
            self.batches.pop_front();
        }
        self.segments.trim(self.start_offset);
        self.epochs.trim(self.start_offset);
        self.transactions.trim(self.start_offset);
        self.high_watermark = self.high_watermark.max(self.start_offset);
    }

    /// Sets the high watermark where another replica's log takes over, whose leader may have told it less.
    pub fn reset_high_watermark(&mut self, to: i64) {
        self.high_watermark = to.clamp(self.start_offset, self.end_offset);
    }

    /// Cuts off every batch from `offset` on and returns them, oldest first (`UnifiedLog.truncateTo`). `offset` lies
    /// between batches.
    pub fn split_off(&mut self, offset: i64) -> Vec<StoredBatch> {
        if offset >= self.end_offset {
            return Vec::new();
        }
        let cut = self.batches.partition_point(|stored| stored.header.base_offset < offset);
        self.end_position = self.position_at(cut);
        let tail = self.batches.split_off(cut).into();
        self.end_offset = offset;
        self.start_offset = self.start_offset.min(offset);
        self.high_watermark = self.high_watermark.min(offset);
        self.segments.truncate(offset);
        self.cleaned_to = self.cleaned_to.min(offset);
        self.epochs.truncate(offset);
        self.transactions.truncate(offset, self.batches.iter());
        let since_entry = self.batches.iter().rposition(|stored| stored.indexed).unwrap_or(0);
        self.unindexed_bytes = self.batches.range(since_entry..).map(|stored| stored.bytes.len()).sum();
        tail
    }

    /// Appends batches that have been stored before, as a follower does with what it copies; `epochs` says where the
    /// leaders that wrote them began.
    pub fn append_stored(&mut self, batches: impl IntoIterator<Item = StoredBatch>, epochs: &LeaderEpochs) {
        let from = self.end_offset;
        for batch in batches {
            self.end_offset = batch.header.last_offset() + 1;
            self.push(batch);
        }
        self.epochs.extend(epochs, from);
    }

    /// The batch that begins at `offset`.
    pub fn batch_at(&self, offset: i64) -> Option<&StoredBatch> {
        self.batches.get(self.index_of(offset)).filter(|stored| stored.header.base_offset == offset)
    }

    /// The offset of the first entry of Kafka's sparse index that lies behind a read of `bytes` from `offset`
    /// (`OffsetIndex.fetchUpperBoundOffset`). There is one entry in about `index.interval.bytes`, by default 4 KiB.
    pub fn offset_indexed_after(&self, offset: i64, bytes: usize) -> Option<i64> {
        let target = self.position_at(self.index_of(offset)) + bytes as u64;
        let behind = self.batches.partition_point(|stored| stored.position < target);
        let mut entries = self.batches.range(behind..).filter(|stored| stored.indexed);
        let found = entries.next()?;
        // Kafka's binary search does not see that the very first entry is the one it looks for.
        let first = !self.batches.range(..behind).rev().any(|stored| stored.indexed);
        let found = if first && found.position == target { entries.next()? } else { found };
        Some(found.header.last_offset())
    }

    // ---- segments ----

    /// Goes on in a new segment if a batch of this size and time does not belong into the present one.
    pub fn roll_for(&mut self, incoming: &Incoming, after: &RollAfter) {
        if self.active_base().is_none() {
            self.segments.roll(self.end_offset, incoming.now_ms);
        }
        let active = self.segments.active_base().map_or(0, |base| self.bytes_between(base, i64::MAX));
        if self.segments.must_roll(active, incoming, after) {
            self.roll(incoming.now_ms);
        }
    }

    /// Goes on in a new segment, unless the present one is empty.
    pub(super) fn roll(&mut self, now_ms: i64) {
        if !self.batches.is_empty() {
            self.segments.roll(self.end_offset, now_ms);
        }
    }

    /// Where each segment begins and ends.
    pub(super) fn segment_bounds(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.segments.iter().map(|(segment, end)| (segment.base_offset, end.unwrap_or(self.end_offset)))
    }

    /// The same of those that are not written to any more.
    pub(super) fn inactive_segments(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.segments.iter().filter_map(|(segment, end)| Some((segment.base_offset, end?)))
    }

    /// Where the segment begins that is written to.
    pub(super) fn active_base(&self) -> Option<i64> {
        self.segments.active_base()
    }

    /// Whether a segment that is not written to any more has not been compacted.
    pub(super) fn has_dirty_segments(&self) -> bool {
        self.active_base().is_some_and(|base| base > self.cleaned_to.max(self.start_offset))
    }

    /// Up to where the log has been compacted.
    pub(super) fn cleaned_to(&self) -> i64 {
        self.cleaned_to
    }

    /// Bytes of the batches that begin between two offsets.
    pub(super) fn bytes_between(&self, from: i64, to: i64) -> u64 {
        let at = |offset: i64| self.batches.partition_point(|stored| stored.header.base_offset < offset);
        self.position_at(at(to)).saturating_sub(self.position_at(at(from)))
    }

    /// The highest timestamp between two offsets.
    pub(super) fn max_timestamp_between(&self, from: i64, to: i64) -> Option<i64> {
        self.between(from, to).map(|stored| stored.header.max_timestamp).max()
    }

    /// The highest timestamp of the first batch between two offsets.
    pub(super) fn first_timestamp_between(&self, from: i64, to: i64) -> Option<i64> {
        self.between(from, to).next().map(|stored| stored.header.max_timestamp)
    }

    fn between(&self, from: i64, to: i64) -> impl Iterator<Item = &StoredBatch> {
        let first = self.batches.partition_point(|stored| stored.header.base_offset < from);
        self.batches.range(first..).take_while(move |stored| stored.header.base_offset < to)
    }

    /// Replaces the batches by what compaction up to `cleaned_to` left of them. `forgotten` are the markers of aborted
    /// transactions of which nothing is left.
    pub(super) fn rewrite(&mut self, batches: Vec<StoredBatch>, cleaned_to: i64, forgotten: &BTreeSet<i64>) {
        self.batches.clear();
        self.unindexed_bytes = 0;
        for batch in batches {
            self.store(batch);
        }
        self.cleaned_to = cleaned_to;
        self.transactions.forget(forgotten);
    }

    /// Joins small segments that end at or before `up_to`.
    pub(super) fn join_segments(&mut self, up_to: i64, bytes_max: u64) {
        let mut segments = std::mem::take(&mut self.segments);
        segments.join(up_to, bytes_max, |from, to| self.bytes_between(from, to));
        self.segments = segments;
    }

    fn push(&mut self, batch: StoredBatch) {
        self.transactions.note(&batch);
        self.segments.note(&batch);
        self.store(batch);
    }

    fn store(&mut self, batch: StoredBatch) {
        let indexed = self.unindexed_bytes > INDEX_INTERVAL_BYTES;
        if indexed {
            self.unindexed_bytes = 0;
        }
        let stored = StoredBatch { position: self.end_position, indexed, ..batch };
        self.unindexed_bytes += stored.bytes.len();
        self.end_position += stored.bytes.len() as u64;
        self.batches.push_back(stored);
    }

    fn index_of(&self, offset: i64) -> usize {
        self.batches.partition_point(|stored| stored.header.last_offset() < offset)
    }

    fn position_at(&self, index: usize) -> u64 {
        self.batches.get(index).map_or(self.end_position, |stored| stored.position)
    }
}

impl StoredBatch {
    /// The same batch with other contents.
    pub(super) fn rewritten(&self, header: BatchHeader, bytes: Bytes) -> Self {
        Self { header, bytes, ..*self }
    }

    /// The first record at or after `start_offset` whose timestamp is wanted.
    fn find(&self, start_offset: i64, wanted: impl Fn(i64) -> bool) -> Option<TimestampedOffset> {
        let found = |offset, timestamp| TimestampedOffset {
            offset,
            timestamp,
            leader_epoch: self.header.partition_leader_epoch,
        };
        if self.header.timestamp_type() == TimestampType::LogAppendTime {
            let first = self.header.base_offset.max(start_offset);
            return wanted(self.header.max_timestamp).then(|| found(first, self.header.max_timestamp));
        }
        let records = batch::records(&self.bytes).ok()?;
        records
            .iter()
            .map(|record| found(self.header.base_offset + i64::from(record.offset_delta), record.timestamp))
            .find(|record| record.offset >= start_offset && wanted(record.timestamp))
    }
}

/// Which leader epoch began at which offset (`LeaderEpochFileCache`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaderEpochs(Vec<EpochStart>);

/// The first offset of a leader epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: i32,
    /// Its first offset.
    pub start_offset: i64,
}

impl LeaderEpochs {
    /// The latest epoch that has begun.
    pub fn latest(&self) -> Option<i32> {
        self.0.last().map(|entry| entry.epoch)
    }

    /// Where the epoch that `requested` belongs to ended: `(epoch, end offset)`, or `None` where Kafka answers −1 and −1.
    pub fn end_offset_for(&self, requested: i32, log_end_offset: i64) -> Option<(i32, i64)> {
        if requested < 0 {
            return None;
        }
        if self.latest() == Some(requested) {
            return Some((requested, log_end_offset));
        }
        let higher = self.0.iter().position(|entry| entry.epoch > requested)?;
        let end_offset = self.0[higher].start_offset;
        match higher.checked_sub(1) {
            Some(floor) => Some((self.0[floor].epoch, end_offset)),
            None => Some((requested, end_offset)),
        }
    }

    /// The epoch of the record at `offset`.
    pub fn epoch_of(&self, offset: i64) -> Option<i32> {
        self.0.iter().rev().find(|entry| entry.start_offset <= offset).map(|entry| entry.epoch)
    }

    fn begin(&mut self, epoch: i32, start_offset: i64) {
        if self.latest().is_some_and(|latest| latest >= epoch) {
            return;
        }
        // An epoch that appended nothing leaves no trace.
        self.0.retain(|entry| entry.start_offset < start_offset);
        self.0.push(EpochStart { epoch, start_offset });
    }

    /// Forgets the epochs that began at `end_offset` or later (`LeaderEpochFileCache.truncateFromEnd`).
    pub fn truncate(&mut self, end_offset: i64) {
        self.0.retain(|entry| entry.start_offset < end_offset);
    }

    /// Takes over the epochs of `other` that began at `from` or later.
    fn extend(&mut self, other: &Self, from: i64) {
        for entry in other.0.iter().filter(|entry| entry.start_offset >= from) {
            self.begin(entry.epoch, entry.start_offset);
        }
    }

    fn trim(&mut self, start_offset: i64) {
        let keep_from = self.0.iter().rposition(|entry| entry.start_offset <= start_offset).unwrap_or(0);
        self.0.drain(..keep_from);
        if let Some(first) = self.0.first_mut() {
            first.start_offset = first.start_offset.max(start_offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::batch::BatchBuilder;

    fn log_with(batches: &[&[i64]]) -> Log {
        let mut log = Log::default();
        for timestamps in batches {
            let builder =
                timestamps.iter().fold(BatchBuilder::new(), |batch, at| batch.record(*at, None, Some(b"value")));
            log.append(builder.build().expect("a batch").into(), 0, None);
        }
        log.advance_high_watermark(log.end_offset());
        log
    }

    #[test]
    fn a_read_starts_with_the_batch_that_holds_the_offset() {
        let log = log_with(&[&[1, 2], &[3, 4], &[5]]);
        let slice = log.read(3, log.high_watermark(), usize::MAX, true);
        assert_eq!(slice.chunks.len(), 2);
        assert_eq!(BatchHeader::parse(&slice.chunks[0]).expect("a batch").base_offset, 2);
        assert_eq!(log.readable_bytes(3, log.high_watermark()), slice.bytes as u64);
    }

    #[test]
    fn a_read_respects_its_byte_limit_but_gives_one_batch() {
        let log = log_with(&[&[1], &[2], &[3]]);
        let one = log.read(0, 3, 1, true);
        assert_eq!(one.chunks.len(), 1);
        assert!(log.read(0, 3, 1, false).chunks.is_empty());
        assert_eq!(log.read(0, 3, one.bytes * 2, false).chunks.len(), 2);
    }

    #[test]
    fn timestamps_are_found_inside_batches() {
        let log = log_with(&[&[10, 20, 30], &[40]]);
        let found = log.find_timestamp(15, 4).expect("a record");
        assert_eq!((found.offset, found.timestamp), (1, 20));
        assert_eq!(log.find_timestamp(41, 4), None);
        assert_eq!(log.find_max_timestamp().expect("a record").offset, 3);
    }

    #[test]
    fn trimming_forgets_batches_and_keeps_the_epoch() {
        let mut log = log_with(&[&[1, 2], &[3]]);
        log.trim(1);
        assert_eq!((log.start_offset(), log.batches().count()), (1, 2));
        log.trim(2);
        assert_eq!((log.start_offset(), log.batches().count()), (2, 1));
        assert_eq!(log.epochs().end_offset_for(0, log.end_offset()), Some((0, 3)));
    }

    #[test]
    fn epochs_answer_where_they_ended() {
        let mut log = log_with(&[&[1], &[2]]);
        log.begin_epoch(3);
        let bytes = BatchBuilder::new().record(1, None, None).build().expect("a batch");
        log.append(bytes.into(), 3, None);
        let epochs = log.epochs();
        assert_eq!(epochs.end_offset_for(0, 3), Some((0, 2)));
        assert_eq!(epochs.end_offset_for(2, 3), Some((0, 2)), "an epoch between two belongs to the one before");
        assert_eq!(epochs.end_offset_for(3, 3), Some((3, 3)));
        assert_eq!(epochs.end_offset_for(4, 3), None);
        assert_eq!(epochs.end_offset_for(-1, 3), None);
    }
}
