//! **Promise:** from one poll to the next, a consumer passes over no record it may see.
//!
//! Jepsen's `poll-skip`, through rebalances: within an assignment every poll goes on where the one before ended (kind
//! `skipped`), and the first goes on at an offset the group had stored, or at the start of the log (kind
//! `skipped-at-assignment`). Scenarios: a reset without cause, a topic created anew, parallel commits with a gap.
//!
//! **Needs** the brokers' logs. **Silent** about deliberate seeks; about records that retention removed, unless it is made
//! [strict](PollSkip::trimmed_too) (kind `trimmed`); about aborted records and markers; and about the first poll of a
//! group without a stored offset that starts at the end.

use super::view::{reads, visible_between};
use super::{Checker, Evidence, Findings};
use crate::history::{History, TopicPartition, What};

/// Polls follow each other without a gap.
#[derive(Debug, Clone, Copy, Default)]
pub struct PollSkip {
    trimmed_too: bool,
}

impl PollSkip {
    /// One for which a record that retention removed before it was read is a record skipped.
    pub const fn trimmed_too() -> Self {
        Self { trimmed_too: true }
    }
}

impl Checker for PollSkip {
    fn name(&self) -> &'static str {
        "poll-skip"
    }

    fn promise(&self) -> &'static str {
        "from one poll to the next, a consumer passes over no record it may see"
    }

    fn needs(&self) -> &'static [Evidence] {
        &[Evidence::Truth]
    }

    fn check(&self, history: &History, found: &mut Findings<'_>) {
        for read in reads(history) {
            let (group, tp, offset) = (read.group, &read.at.tp, read.at.offset);
            let from_earliest = history.terms.groups.get(group).is_none_or(|terms| terms.from_earliest);
            let (kind, after, events) = match (read.before, read.stored) {
                (Some(before), _) if before.same_poll => continue,
                (Some(before), _) => ("skipped", before.at.offset, vec![before.event, read.event]),
                _ if read.moved => continue,
                // The stored offset is the next one to read.
                (None, Some((_, highest))) => ("skipped-at-assignment", highest - 1, vec![read.event]),
                (None, None) if from_earliest => ("skipped-at-assignment", -1, vec![read.event]),
                (None, None) => continue,
            };
            if let Some((missed, kept)) = visible_between(history, group, tp, after, offset) {
                found.broken(kind, &events, || {
                    format!("{group} went on at {offset} of {tp} and passed over {} at {missed}", kept.message)
                });
            } else if self.trimmed_too
                && let Some(missed) = trimmed_between(history, tp, after, offset)
            {
                found.broken("trimmed", &[missed, read.event], || {
                    format!("{group} went on at {offset} of {tp}; what was stored after {after} was trimmed before it was read")
                });
            }
        }
    }
}

fn trimmed_between(history: &History, tp: &TopicPartition, after: i64, before: i64) -> Option<usize> {
    let start = history.truth.as_ref()?.logs.get(tp)?.start;
    history
        .numbered()
        .find(|(_, event)| {
            matches!(&event.what, What::Stored { at, .. }
                if at.tp == *tp && at.offset > after && at.offset < before && at.offset < start)
        })
        .map(|(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::story::{Story, kinds};
    use crate::history::{Fate, SoughtBy};

    fn three() -> Story {
        Story::new().sent("a-0", 0).sent("a-1", 1).sent("a-2", 2).assigned("worker-1")
    }

    const SILENT: [&str; 0] = [];

    #[test]
    fn a_gap_between_polls_is_caught() {
        let story = three().read("worker-1", "a-0", 0).read("worker-1", "a-2", 2);
        assert_eq!(kinds(&PollSkip::default(), &story.over()), ["skipped"]);
    }

    #[test]
    fn a_gap_of_aborted_records_is_not() {
        let story = Story::new()
            .sent("a-0", 0)
            .stored_in("b-0", 1, "tx")
            .ended("tx", Fate::Aborted)
            .sent("a-1", 3)
            .assigned("worker-1")
            .read("worker-1", "a-0", 0)
            .read("worker-1", "a-1", 3);
        assert_eq!(kinds(&PollSkip::default(), &story.over()), SILENT);
    }

    #[test]
    fn nor_one_the_program_asked_for() {
        let story =
            three().read("worker-1", "a-0", 0).sought("worker-1", 2, SoughtBy::Program).read("worker-1", "a-2", 2);
        assert_eq!(kinds(&PollSkip::default(), &story.over()), SILENT);
    }

    #[test]
    fn nor_one_of_records_passed_over_by_rule() {
        let story = three().read("worker-1", "a-0", 0).skipped("worker-1", "a-1", 1).read("worker-1", "a-2", 2);
        assert_eq!(kinds(&PollSkip::default(), &story.over()), SILENT);
    }

    #[test]
    fn a_start_behind_the_stored_offset_is_caught() {
        let story = Story::new().sent("a-0", 0).sent("a-1", 1).sent("a-2", 2).committed(1).assigned("worker-1");
        assert_eq!(
            kinds(&PollSkip::default(), &story.clone().read("worker-1", "a-2", 2).over()),
            ["skipped-at-assignment"]
        );
        assert_eq!(kinds(&PollSkip::default(), &story.clone().read("worker-1", "a-1", 1).over()), SILENT);
        let late = story.committed(2).read("worker-1", "a-2", 2);
        assert_eq!(kinds(&PollSkip::default(), &late.over()), SILENT, "another's commit may come in between");
    }

    #[test]
    fn a_reset_excuses_a_gap_only_without_a_stored_offset() {
        let fresh = three().sought("worker-1", 2, SoughtBy::Reset).read("worker-1", "a-2", 2);
        assert_eq!(kinds(&PollSkip::default(), &fresh.over()), SILENT);
        let stored =
            three().committed(1).assigned("worker-1").sought("worker-1", 2, SoughtBy::Reset).read("worker-1", "a-2", 2);
        assert_eq!(kinds(&PollSkip::default(), &stored.over()), ["skipped-at-assignment"]);
    }

    #[test]
    fn what_retention_removed_is_skipped_only_for_the_strict() {
        let story = three().read("worker-1", "a-0", 0).trimmed(2).read("worker-1", "a-2", 2);
        assert_eq!(kinds(&PollSkip::default(), &story.clone().over()), SILENT);
        assert_eq!(kinds(&PollSkip::trimmed_too(), &story.over()), ["trimmed"]);
    }
}
