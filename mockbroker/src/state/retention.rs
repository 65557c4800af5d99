//! What a log forgets by itself: whole segments that are too old or too many (`UnifiedLog.deleteOldSegments`).

use super::configs::TopicSettings;
use super::log::Log;

impl Log {
    /// Forgets the segments that `retention.ms` and `retention.bytes` give up; true when there were any. Only what every
    /// in-sync replica has is given up. A log whose last segment is too old goes on in a new one.
    pub(super) fn retain(&mut self, now_ms: i64, settings: &TopicSettings) -> bool {
        if !settings.cleanup_delete {
            return false;
        }
        let by_size = self.start_by_size(settings.retention_bytes);
        let start = self.start_by_time(now_ms, settings.retention_ms).max(by_size);
        if start <= self.start_offset() {
            return false;
        }
        if start == self.end_offset() {
            self.roll(now_ms);
        }
        self.trim(start);
        true
    }

    /// When something may be given up at the earliest, by the wall clock in milliseconds since the Unix epoch; `None` while
    /// nothing is.
    pub(super) fn given_up_at(&self, settings: &TopicSettings) -> Option<i64> {
        let oldest = self.batches().next().filter(|_| settings.cleanup_delete)?;
        let too_large = u64::try_from(settings.retention_bytes).is_ok_and(|kept| self.size() > kept);
        let too_old = oldest.header.max_timestamp.saturating_add(settings.retention_ms).saturating_add(1);
        let by_age = (settings.retention_ms >= 0).then_some(too_old);
        if too_large { Some(0) } else { by_age }
    }

    fn start_by_time(&self, now_ms: i64, retention_ms: i64) -> i64 {
        let too_old = |latest_ms: i64| now_ms.saturating_sub(latest_ms) > retention_ms;
        self.start_without(|from, to| retention_ms >= 0 && self.max_timestamp_between(from, to).is_some_and(too_old))
    }

    fn start_by_size(&self, retention_bytes: i64) -> i64 {
        let Ok(kept) = u64::try_from(retention_bytes) else { return self.start_offset() };
        let mut surplus = self.size().saturating_sub(kept);
        self.start_without(move |from, to| {
            let bytes = self.bytes_between(from, to);
            let goes = surplus > 0 && bytes <= surplus;
            surplus -= if goes { bytes } else { 0 };
            goes
        })
    }

    /// Where the log starts when the oldest segments go, up to the first that stays. One that is not copied yet, or has
    /// nothing in it, stays.
    fn start_without(&self, mut goes: impl FnMut(i64, i64) -> bool) -> i64 {
        let mut start = self.start_offset();
        for (base, end) in self.segment_bounds() {
            let empty = self.bytes_between(base, end) == 0 && end == self.end_offset();
            if empty || end > self.high_watermark() || !goes(base, end) {
                break;
            }
            start = end;
        }
        start
    }
}
