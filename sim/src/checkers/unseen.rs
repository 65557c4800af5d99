//! **Promise:** once all is at rest, every group has been given every record it may see.
//!
//! Jepsen's `unseen`. Unlike [`LostWrite`](super::LostWrite) nobody need have read past the record: it may be the last.
//!
//! **Needs** the brokers' logs and a run at rest. **Silent** about records that are gone, or aborted, or before the first
//! a group ever read when it starts at the end; and about groups that never had a partition, which
//! [liveness](crate::liveness) reports.

use std::collections::{BTreeMap, BTreeSet};

use super::view::{Lives, is_dead_letters};
use super::{Checker, Evidence, Findings};
use crate::history::{History, TopicPartition, What};
use crate::name::Name;

/// Every group is given every record.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unseen;

impl Checker for Unseen {
    fn name(&self) -> &'static str {
        "unseen"
    }

    fn promise(&self) -> &'static str {
        "once all is at rest, every group has been given every record it may see"
    }

    fn needs(&self) -> &'static [Evidence] {
        &[Evidence::Truth, Evidence::Rest]
    }

    fn check(&self, history: &History, found: &mut Findings<'_>) {
        let last = Lives::last(history);
        let mut lives = Lives::default();
        let mut seen: BTreeMap<(&Name, &TopicPartition), BTreeSet<i64>> = BTreeMap::new();
        let mut stored: BTreeMap<(&TopicPartition, i64), usize> = BTreeMap::new();
        for (number, event) in history.numbered() {
            lives.see(&event.what);
            match &event.what {
                What::Delivered { group, at, .. } | What::Skipped { group, at, .. }
                    if lives.of(&at.tp.topic) == last.of(&at.tp.topic) =>
                {
                    seen.entry((group, &at.tp)).or_default().insert(at.offset);
                }
                What::Stored { at, .. } | What::Acknowledged { at, .. } => {
                    stored.insert((&at.tp, at.offset), number);
                }
                _ => {}
            }
        }
        let active: BTreeSet<&Name> = seen.keys().map(|(group, _)| *group).collect();
        let none = BTreeSet::new();
        for (group, terms) in history.terms.groups.iter().filter(|(group, _)| active.contains(group)) {
            for (tp, log) in history.truth.iter().flat_map(|truth| &truth.logs) {
                if !terms.topics.contains(&tp.topic) || is_dead_letters(history, &tp.topic) {
                    continue;
                }
                let seen = seen.get(&(group, tp)).unwrap_or(&none);
                if seen.is_empty() && !terms.from_earliest {
                    continue;
                }
                let from = if terms.from_earliest { log.start } else { seen.first().copied().unwrap_or(log.end) };
                for (offset, kept) in log.visible(terms.read_committed).filter(|(offset, _)| *offset >= from) {
                    if !seen.contains(&offset) {
                        let events: Vec<usize> = stored.get(&(tp, offset)).copied().into_iter().collect();
                        found.broken("unseen", &events, || {
                            format!(
                                "{} at {} is in the log and {group} was never given it",
                                kept.message,
                                tp.at(offset)
                            )
                        });
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::story::{Story, kinds};
    use crate::history::Fate;

    #[test]
    fn a_last_record_nobody_was_given_is_caught() {
        let story = Story::new().sent("a-0", 0).sent("a-1", 1).read("worker-1", "a-0", 0);
        assert_eq!(kinds(&Unseen, &story.healed().over()), ["unseen"]);
    }

    #[test]
    fn before_the_run_is_at_rest_it_may_still_come() {
        let story = Story::new().sent("a-0", 0).sent("a-1", 1).read("worker-1", "a-0", 0);
        assert_eq!(kinds(&Unseen, &story.over()), ["(unchecked)"]);
    }

    #[test]
    fn an_aborted_record_is_for_nobody() {
        let story =
            Story::new().sent("a-0", 0).read("worker-1", "a-0", 0).stored_in("b-0", 1, "tx").ended("tx", Fate::Aborted);
        assert_eq!(kinds(&Unseen, &story.healed().over()), [""; 0]);
    }
}
