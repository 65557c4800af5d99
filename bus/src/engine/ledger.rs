//! What of a partition is done, and how far it may be committed.
//!
//! Only offsets that were delivered are known here. Kafka's logs have holes (compaction, transaction markers,
//! aborted batches), so "the next number" means nothing: the watermark is the lowest delivered offset that is not
//! resolved yet, and one past the last delivered offset when all are.

use super::Offset;
use std::collections::BTreeSet;

#[derive(Debug, Default)]
pub(super) struct Ledger {
    unresolved: BTreeSet<Offset>,
    /// The first offset delivered: nothing at or below it needs a commit, the group is there already.
    first: Option<Offset>,
    /// The highest offset delivered.
    last: Option<Offset>,
    /// The highest position handed out in a commit.
    sent: Option<Offset>,
    /// The highest position a commit was confirmed for.
    acked: Option<Offset>,
}

impl Ledger {
    /// Enters an offset; `false` if it is in the books and not resolved, i.e. delivered twice.
    pub(super) fn deliver(&mut self, offset: Offset) -> bool {
        self.first.get_or_insert(offset);
        self.last = self.last.max(Some(offset));
        self.unresolved.insert(offset)
    }

    pub(super) fn resolve(&mut self, offset: Offset) {
        self.unresolved.remove(&offset);
    }

    /// The position up to which everything delivered is resolved.
    pub(super) fn watermark(&self) -> Option<Offset> {
        self.unresolved.first().copied().or_else(|| self.last.map(|last| last.saturating_add(1)))
    }

    /// The position worth committing, if it is ahead of what was sent already. Never goes back within an epoch.
    pub(super) fn commitable(&self) -> Option<Offset> {
        let behind = self.sent.max(self.first);
        self.watermark().filter(|mark| Some(*mark) > behind)
    }

    /// The position to leave behind, unless a commit is known to have left it already.
    pub(super) fn last_word(&self) -> Option<Offset> {
        let behind = self.acked.max(self.first);
        self.watermark().filter(|mark| Some(*mark) > behind)
    }

    pub(super) fn sent(&mut self, position: Offset) {
        self.sent = self.sent.max(Some(position));
    }

    pub(super) fn confirmed(&mut self, position: Offset) {
        self.acked = self.acked.max(Some(position));
    }

    /// A commit failed: what was sent counts for nothing beyond what was confirmed.
    pub(super) fn refused(&mut self) {
        self.sent = self.acked;
    }

    /// How far the last delivered offset is ahead of the watermark: what a crash would deliver again.
    pub(super) fn span(&self) -> u64 {
        match (self.unresolved.first(), self.last) {
            (Some(first), Some(last)) => last.abs_diff(*first).saturating_add(1),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivered(offsets: &[Offset]) -> Ledger {
        let mut ledger = Ledger::default();
        for offset in offsets {
            assert!(ledger.deliver(*offset));
        }
        ledger
    }

    #[test]
    fn the_watermark_stops_at_the_lowest_offset_in_work() {
        let mut ledger = delivered(&[10, 11, 12]);
        ledger.resolve(11);
        ledger.resolve(12);
        assert_eq!(ledger.watermark(), Some(10));
        assert_eq!(ledger.commitable(), None);
        ledger.resolve(10);
        assert_eq!(ledger.commitable(), Some(13));
    }

    #[test]
    fn holes_in_the_log_block_nothing() {
        let mut ledger = delivered(&[3, 900, 70_000]);
        ledger.resolve(3);
        assert_eq!(ledger.commitable(), Some(900));
        ledger.resolve(900);
        ledger.resolve(70_000);
        assert_eq!(ledger.commitable(), Some(70_001));
    }

    #[test]
    fn a_failed_commit_is_sent_again_and_a_confirmed_one_is_not() {
        let mut ledger = delivered(&[0, 1]);
        ledger.resolve(0);
        ledger.sent(1);
        assert_eq!(ledger.commitable(), None);
        ledger.refused();
        assert_eq!(ledger.commitable(), Some(1));
        ledger.sent(1);
        ledger.confirmed(1);
        ledger.refused();
        assert_eq!(ledger.commitable(), None);
    }

    #[test]
    fn a_log_that_went_back_is_handled_again_without_taking_the_commit_back() {
        let mut ledger = delivered(&[50]);
        ledger.resolve(50);
        ledger.sent(51);
        assert!(ledger.deliver(20));
        assert!(!ledger.deliver(20));
        assert_eq!(ledger.commitable(), None);
        ledger.resolve(20);
        assert_eq!(ledger.commitable(), None);
    }
}
