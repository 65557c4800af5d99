//! **Promise:** a group's stored offset never passes a record it was given and is not done with, and never goes back.
//!
//! Kinds: `unfinished`, the offset passes a record that is neither handled nor dead-lettered nor passed over by rule, so
//! that a crash loses it; `went-back`, it is lower than before, so that a crash repeats what was done; `past-end`, it is
//! beyond the end of the log. Scenarios: a commit before the handling, parallel commits with a gap, a stale stored offset,
//! a dead letter nobody waited for, a coordinator that fails over and forgets.
//!
//! **Needs** commits and handlings; the logs for `past-end`. **Silent** after offsets expired, a topic was created anew or an
//! unclean leader cut the log, and after a program moved the position itself.

use std::collections::{BTreeMap, BTreeSet};

use super::view::{Lives, Offsets};
use super::{Checker, Findings};
use crate::history::{Handled, History, TopicPartition, What};
use crate::name::Name;

/// Commits follow the work.
#[derive(Debug, Clone, Copy, Default)]
pub struct CommitWatermark;

impl Checker for CommitWatermark {
    fn name(&self) -> &'static str {
        "commit-watermark"
    }

    fn promise(&self) -> &'static str {
        "a group's stored offset never passes a record it is not done with, and never goes back"
    }

    fn check(&self, history: &History, found: &mut Findings<'_>) {
        let mut offsets = Offsets::of(history);
        let mut last: BTreeMap<(&Name, &TopicPartition), usize> = BTreeMap::new();
        let mut lanes: BTreeMap<(&Name, &TopicPartition), Lane> = BTreeMap::new();
        let lives = Lives::last(history);
        let mut cut: BTreeSet<&TopicPartition> = BTreeSet::new();
        for (number, event) in history.numbered() {
            let what = &event.what;
            if let Some((group, tp, offset)) = offsets.commit(what) {
                let lane = lanes.entry((group, tp)).or_default();
                if let Some((open, given)) = lane.open.range(..offset).next() {
                    found.broken("unfinished", &[*given, number], || {
                        format!("{group} stored {offset} for {tp} and was not done with {}", tp.at(*open))
                    });
                }
                let before = offsets.get(group, tp);
                if let Some(before) = before.filter(|before| offset < *before && !lane.moved) {
                    let events: Vec<usize> = last.get(&(group, tp)).copied().into_iter().chain([number]).collect();
                    found.broken("went-back", &events, || {
                        format!("{group} had stored {before} for {tp} and then stored {offset}")
                    });
                }
                let log = history.truth.as_ref().and_then(|truth| truth.logs.get(tp));
                if let Some(log) = log.filter(|log| offset > log.end && lives.of(&tp.topic) == 0 && !cut.contains(tp)) {
                    found.broken("past-end", &[number], || {
                        format!("{group} stored {offset} for {tp}, which ends at {}", log.end)
                    });
                }
                lane.moved = false;
                last.insert((group, tp), number);
            }
            offsets.see(what);
            match what {
                // What a handler was begun for was given, also when nobody recorded the delivery.
                What::Delivered { group, at, .. } | What::Started { group, at, .. } => {
                    let lane = lanes.entry((group, &at.tp)).or_default();
                    if !lane.done.contains(&at.offset) {
                        lane.open.entry(at.offset).or_insert(number);
                    }
                }
                What::Finished { group, at, how: Handled::Well, .. }
                | What::DeadLettered { group, at, .. }
                | What::Skipped { group, at, .. } => {
                    let lane = lanes.entry((group, &at.tp)).or_default();
                    lane.open.remove(&at.offset);
                    lane.done.insert(at.offset);
                }
                What::Sought { group, partition, .. } => lanes.entry((group, partition)).or_default().moved = true,
                What::Recreated { topic } => lanes.retain(|(_, tp), _| tp.topic != *topic),
                What::Elected { partition, unclean: true, .. } => {
                    cut.insert(partition);
                    lanes.retain(|(_, tp), _| *tp != partition);
                }
                _ => {}
            }
        }
    }
}

/// What a group does with a partition.
#[derive(Debug, Default)]
struct Lane {
    /// Given and not done with: the delivery.
    open: BTreeMap<i64, usize>,
    done: BTreeSet<i64>,
    /// The position was moved since the last commit.
    moved: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::story::{Story, kinds};
    use crate::history::SoughtBy;

    const SILENT: [&str; 0] = [];

    fn two() -> Story {
        Story::new().sent("a-0", 0).sent("b-0", 1).assigned("w").read("w", "a-0", 0).read("w", "b-0", 1)
    }

    #[test]
    fn a_commit_past_an_unfinished_record_is_caught() {
        let story = two().handled("w", "b-0", 1);
        assert_eq!(kinds(&CommitWatermark, &story.clone().committed(2).over()), ["unfinished"]);
        assert_eq!(kinds(&CommitWatermark, &story.clone().committed(0).over()), SILENT);
        assert_eq!(kinds(&CommitWatermark, &story.handled("w", "a-0", 0).committed(2).over()), SILENT);
    }

    #[test]
    fn a_record_whose_delivery_nobody_saw_counts_from_its_handler_on() {
        let story = Story::new().sent("a-0", 0).started("w", "a-0", 0, 1);
        assert_eq!(kinds(&CommitWatermark, &story.committed(1).over()), ["unfinished"]);
    }

    #[test]
    fn a_failure_is_not_the_end_of_a_record() {
        let story = two().handled("w", "b-0", 1).failed("w", "a-0", 0, 1);
        assert_eq!(kinds(&CommitWatermark, &story.clone().committed(2).over()), ["unfinished"]);
        assert_eq!(kinds(&CommitWatermark, &story.gave_up("w", "a-0", 0, 0).committed(2).over()), SILENT);
    }

    #[test]
    fn an_old_owner_that_never_finished_does_not_matter_once_the_new_one_did() {
        let story = two().lost("w").assigned("v").read("v", "a-0", 0).read("v", "b-0", 1);
        let story = story.handled("v", "a-0", 0).handled("v", "b-0", 1).read("w", "a-0", 0).committed(2);
        assert_eq!(kinds(&CommitWatermark, &story.over()), SILENT);
    }

    #[test]
    fn an_offset_that_goes_back_is_caught() {
        let story = two().handled("w", "a-0", 0).handled("w", "b-0", 1).committed(2);
        assert_eq!(kinds(&CommitWatermark, &story.clone().committed(1).over()), ["went-back"]);
        assert_eq!(kinds(&CommitWatermark, &story.clone().committed(2).over()), SILENT);
        assert_eq!(kinds(&CommitWatermark, &story.clone().expired().committed(1).over()), SILENT);
        assert_eq!(kinds(&CommitWatermark, &story.sought("w", 0, SoughtBy::Program).committed(0).over()), SILENT);
    }

    #[test]
    fn an_offset_beyond_the_end_is_caught() {
        let story = two().handled("w", "a-0", 0).handled("w", "b-0", 1);
        assert_eq!(kinds(&CommitWatermark, &story.committed(3).over()), ["past-end"]);
    }
}
