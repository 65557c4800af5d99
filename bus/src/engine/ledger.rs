//! What of a partition is done, and how far it may be committed.
//!
//! Only offsets that were delivered are known here. Kafka's logs have holes (compaction, transaction markers,
//! aborted batches), so "the next number" means nothing: the watermark is the lowest delivered offset that is not
//! resolved yet, and one past the last delivered offset when all are.

use super::Offset;
use super::finished::Run;
use crate::mutant::{self, Mutant};
use std::collections::VecDeque;

#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// What was delivered from the lowest unresolved offset on, in order, and whether it is resolved. The front is
    /// never resolved. Records come in the order of the log, so nearly everything happens at the two ends.
    delivered: VecDeque<(Offset, bool)>,
    /// The first offset delivered: nothing at or below it needs a commit, the group is there already.
    first: Option<Offset>,
    /// The highest offset delivered.
    last: Option<Offset>,
    /// The highest position handed out in a commit.
    sent: Option<Offset>,
    /// The highest position a commit was confirmed for.
    acked: Option<Offset>,
    /// How many offsets were resolved out of turn, and how many of those the last commit told and a confirmed one did.
    out_of_turn: u64,
    told: u64,
    known: u64,
    /// What an earlier owner had finished beyond the position it committed, in ascending order.
    remembered: VecDeque<Run>,
}

impl Ledger {
    /// Enters an offset; `false` if it is in the books and not resolved, i.e. delivered twice.
    pub(super) fn deliver(&mut self, offset: Offset) -> bool {
        self.first.get_or_insert(offset);
        self.last = self.last.max(Some(offset));
        match self.find(offset) {
            Ok(at) => std::mem::replace(&mut self.delivered[at].1, false),
            Err(at) => {
                self.delivered.insert(at, (offset, false));
                true
            }
        }
    }

    pub(super) fn resolve(&mut self, offset: Offset) {
        if let Ok(at) = self.find(offset) {
            self.delivered[at].1 = true;
            self.out_of_turn += u64::from(at > 0);
        }
        while self.delivered.front().is_some_and(|(_, resolved)| *resolved) {
            self.delivered.pop_front();
        }
    }

    /// Where an offset is, or where it would be. Logs have few holes: it mostly is as far from the front as its number.
    fn find(&self, offset: Offset) -> Result<usize, usize> {
        let (Some((first, _)), Some((last, _))) = (self.delivered.front(), self.delivered.back()) else {
            return Err(0);
        };
        if offset > *last {
            return Err(self.delivered.len());
        }
        let guess = offset.checked_sub(*first).and_then(|distance| usize::try_from(distance).ok());
        match guess.filter(|guess| self.delivered.get(*guess).is_some_and(|(at, _)| *at == offset)) {
            Some(guess) => Ok(guess),
            None => self.delivered.binary_search_by_key(&offset, |(at, _)| *at),
        }
    }

    fn lowest_unresolved(&self) -> Option<Offset> {
        self.delivered.front().map(|(offset, _)| *offset)
    }

    /// The position up to which everything delivered is resolved.
    pub(super) fn watermark(&self) -> Option<Offset> {
        let last = self.last.map(|last| last + i64::from(mutant::is(Mutant::CommitsPastTheEnd)));
        if mutant::is(Mutant::CommitsBeforeHandling) {
            return last.map(|last| last + 1);
        } else if mutant::is(Mutant::CommitsOverGaps)
            && let Some((finished, _)) = self.delivered.iter().rev().find(|(_, resolved)| *resolved)
        {
            return Some(finished + 1);
        } else if mutant::is(Mutant::CommitsTheLastHandled) {
            return self.lowest_unresolved().or(last);
        }
        self.lowest_unresolved().or_else(|| last.map(|last| last.saturating_add(1)))
    }

    /// Takes note of what an earlier owner had finished.
    pub(super) fn remember(&mut self, runs: Vec<Run>) {
        self.remembered = runs.into();
    }

    /// Whether an earlier owner had finished this offset. Asked in the order of the log, once for each.
    pub(super) fn was_finished(&mut self, offset: Offset) -> bool {
        while self.remembered.front().is_some_and(|(_, last)| *last < offset) {
            self.remembered.pop_front();
        }
        self.remembered.front().is_some_and(|(first, _)| *first <= offset)
    }

    /// What is finished beyond the watermark.
    pub(super) fn finished_beyond(&self) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let mut unbroken = false;
        for (offset, resolved) in &self.delivered {
            match runs.last_mut().filter(|_| *resolved && unbroken) {
                // Between two records that were delivered one after the other there is nothing.
                Some((_, last)) => *last = *offset,
                None if *resolved => runs.push((*offset, *offset)),
                None => {}
            }
            unbroken = *resolved;
        }
        let ahead = self.remembered.iter().filter(|(_, last)| Some(*last) > self.last);
        runs.extend(ahead.map(|(first, last)| ((*first).max(self.last.map_or(*first, |at| at + 1)), *last)));
        runs
    }

    /// The watermark, if it was committed but not all that is finished beyond it.
    pub(super) fn news_beyond(&self) -> Option<Offset> {
        self.watermark().filter(|_| self.out_of_turn > self.told && !self.delivered.is_empty())
    }

    /// As [`Ledger::news_beyond`], going by what is known to be committed.
    pub(super) fn last_news_beyond(&self) -> Option<Offset> {
        self.watermark().filter(|_| self.out_of_turn > self.known && !self.delivered.is_empty())
    }

    /// The position worth committing, if it is ahead of what was sent already. Never goes back within an epoch.
    pub(super) fn commitable(&self) -> Option<Offset> {
        let behind = self.sent.max(self.first);
        self.watermark().filter(|mark| Some(*mark) > behind)
    }

    /// The position to leave behind, unless a commit is known to have left it already.
    pub(super) fn last_word(&self) -> Option<Offset> {
        let behind = self.acked.max(self.first);
        if mutant::is(Mutant::RewindsOnRevoke) {
            return self.first;
        }
        self.watermark().filter(|mark| Some(*mark) > behind)
    }

    pub(super) fn sent(&mut self, position: Offset) {
        self.sent = self.sent.max(Some(position));
        self.told = self.out_of_turn;
    }

    pub(super) fn confirmed(&mut self, position: Offset) {
        self.acked = self.acked.max(Some(position));
        self.known = self.told;
    }

    /// A commit failed: what was sent counts for nothing beyond what was confirmed.
    pub(super) fn refused(&mut self) {
        if mutant::is(Mutant::NeverRepeatsFailedCommits) {
            return;
        }
        self.sent = self.acked;
        self.told = self.known;
    }

    /// How far the last delivered offset is ahead of the watermark: what a crash would deliver again.
    pub(super) fn span(&self) -> u64 {
        match (self.lowest_unresolved(), self.last) {
            (Some(first), Some(last)) => last.abs_diff(first).saturating_add(1),
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
    fn what_is_finished_beyond_the_watermark_is_told_once_and_remembered() {
        let mut ledger = delivered(&[10, 11, 12, 15, 16]);
        assert_eq!((ledger.news_beyond(), ledger.finished_beyond()), (None, vec![]));
        for offset in [11, 12, 16] {
            ledger.resolve(offset);
        }
        assert_eq!((ledger.news_beyond(), ledger.finished_beyond()), (Some(10), vec![(11, 12), (16, 16)]));
        ledger.sent(10);
        assert_eq!((ledger.news_beyond(), ledger.last_news_beyond()), (None, Some(10)));
        ledger.confirmed(10);
        assert_eq!(ledger.last_news_beyond(), None);

        let mut next = Ledger::default();
        next.remember(vec![(11, 12), (16, 16)]);
        let again: Vec<_> = [10, 11, 12, 15].into_iter().filter(|offset| !next.was_finished(*offset)).collect();
        assert_eq!(again, [10, 15]);
        assert!(next.deliver(10));
        assert_eq!(next.finished_beyond(), [(16, 16)], "what was not read again yet is not forgotten");
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
