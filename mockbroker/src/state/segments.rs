//! Where the segments of a log begin. Kafka deletes by whole segments and never compacts the last one, so this much of them
//! is visible (`UnifiedLog.maybeRoll`, `LogSegment.shouldRoll`).

use super::configs::TopicSettings;
use super::log::StoredBatch;
use std::collections::VecDeque;

/// The segments of a log, oldest first; the last is the one that is written to.
#[derive(Debug, Clone, Default)]
pub(super) struct Segments(VecDeque<Segment>);

/// One segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    /// The first offset it may hold.
    pub(super) base_offset: i64,
    /// The highest timestamp of its first batch, by which it is rolled; `None` before that batch, or when it has none.
    first_timestamp_ms: Option<i64>,
    created_ms: i64,
}

/// When a log goes on in a new segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollAfter {
    /// `segment.bytes`.
    pub bytes: u64,
    /// `segment.ms`, or `max.compaction.lag.ms` where a compacted log has that smaller.
    pub ms: i64,
}

impl RollAfter {
    /// What a topic's configs say. `segment.jitter.ms` spreads rolls of many logs over time and is left out.
    pub fn of(settings: &TopicSettings) -> Self {
        let ms = match settings.cleanup_compact && settings.max_compaction_lag_ms > 0 {
            true => settings.segment_ms.min(settings.max_compaction_lag_ms),
            false => settings.segment_ms,
        };
        Self { bytes: u64::try_from(settings.segment_bytes).unwrap_or(0), ms }
    }
}

/// A batch about to be appended, as far as it decides whether a segment is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incoming {
    /// How large it is.
    pub bytes: u64,
    /// Its highest timestamp, or −1.
    pub max_timestamp_ms: i64,
    /// The wall clock.
    pub now_ms: i64,
}

impl Segments {
    /// All segments, each with where the next begins.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Segment, Option<i64>)> + '_ {
        let ends = self.0.iter().skip(1).map(|next| Some(next.base_offset)).chain([None]);
        self.0.iter().copied().zip(ends)
    }

    /// The first offset of the segment that is written to.
    pub(super) fn active_base(&self) -> Option<i64> {
        self.0.back().map(|segment| segment.base_offset)
    }

    /// Where the segment ends that holds this offset; `None` for the last.
    pub(super) fn end_of(&self, offset: i64) -> Option<i64> {
        let next = self.0.partition_point(|segment| segment.base_offset <= offset);
        self.0.get(next).map(|segment| segment.base_offset)
    }

    /// Whether the last segment, `bytes` large, has no room for a batch or is too old for it.
    pub(super) fn must_roll(&self, bytes: u64, incoming: &Incoming, after: &RollAfter) -> bool {
        let Some(active) = self.0.back().filter(|_| bytes > 0) else { return false };
        let waited_ms = match active.first_timestamp_ms.filter(|_| incoming.max_timestamp_ms >= 0) {
            Some(first_ms) => incoming.max_timestamp_ms.saturating_sub(first_ms),
            None => incoming.now_ms.saturating_sub(active.created_ms),
        };
        bytes + incoming.bytes > after.bytes || waited_ms > after.ms
    }

    /// Begins a segment, unless the last one has nothing in it.
    pub(super) fn roll(&mut self, base_offset: i64, now_ms: i64) {
        if self.active_base() != Some(base_offset) {
            self.0.push_back(Segment { base_offset, first_timestamp_ms: None, created_ms: now_ms });
        }
    }

    /// Notes that a batch was appended to the last segment.
    pub(super) fn note(&mut self, batch: &StoredBatch) {
        let timestamp_ms = Some(batch.header.max_timestamp).filter(|timestamp_ms| *timestamp_ms >= 0);
        let base_offset = batch.header.base_offset;
        match self.0.back_mut() {
            None => self.0.push_back(Segment {
                base_offset,
                first_timestamp_ms: timestamp_ms,
                created_ms: batch.header.max_timestamp,
            }),
            Some(active) if active.base_offset == base_offset => active.first_timestamp_ms = timestamp_ms,
            Some(_) => {}
        }
    }

    /// Forgets segments that end at or before the log's new start.
    pub(super) fn trim(&mut self, start_offset: i64) {
        while self.0.get(1).is_some_and(|second| second.base_offset <= start_offset) {
            self.0.pop_front();
        }
    }

    /// Forgets segments that would begin at or behind the log's new end.
    pub(super) fn truncate(&mut self, end_offset: i64) {
        while self.0.len() > 1 && self.active_base().is_some_and(|base| base >= end_offset) {
            self.0.pop_back();
        }
        if self.active_base().is_some_and(|base| base > end_offset) {
            self.0.clear();
        }
    }

    /// Joins neighbours that end at or before `up_to` as long as they are together no larger than a segment may be
    /// (`Cleaner.groupSegmentsBySize`). `bytes` tells how large the part between two offsets is.
    pub(super) fn join(&mut self, up_to: i64, bytes_max: u64, bytes: impl Fn(i64, i64) -> u64) {
        let mut joined: VecDeque<Segment> = VecDeque::new();
        for (segment, end) in self.iter() {
            let fits = |group: &Segment| end.is_some_and(|end| bytes(group.base_offset, end) <= bytes_max);
            let cleaned = end.is_some_and(|end| end <= up_to);
            if !(cleaned && joined.back().is_some_and(fits)) {
                joined.push_back(segment);
            }
        }
        self.0 = joined;
    }
}
