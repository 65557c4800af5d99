//! **Promise:** once all is at rest, every acknowledged record has been handled or dead-lettered by every group that reads it.
//!
//! At-least-once, end to end (kind `not-handled`). Where [`LostWrite`](super::LostWrite) and [`Unseen`](super::Unseen) follow
//! records to the consumer, this one follows them through the handler. Scenarios: a commit before the handling, a dead
//! letter nobody waited for.
//!
//! **Needs** a run at rest; with the brokers' logs it does not ask for what is no longer there (a loss is
//! [`LostWrite`](super::LostWrite)'s) or aborted. **Silent** about groups that start at the end, for what was stored before they
//! came – a partition that is added later they read from its start, or they lose what it got first –, and about records passed over by rule.

use std::collections::{BTreeMap, BTreeSet};

use super::view::{Lives, is_dead_letters, kept, readers};
use super::{Checker, Evidence, Findings};
use crate::history::{Fate, Handled, History, TopicPartition, What};
use crate::name::Name;

/// What was acknowledged is handled or dead-lettered.
#[derive(Debug, Clone, Copy, Default)]
pub struct AckedIsSettled;

impl Checker for AckedIsSettled {
    fn name(&self) -> &'static str {
        "acked-is-settled"
    }

    fn promise(&self) -> &'static str {
        "once all is at rest, every acknowledged record has been handled or dead-lettered by every group that reads it"
    }

    fn needs(&self) -> &'static [Evidence] {
        &[Evidence::Rest]
    }

    fn check(&self, history: &History, found: &mut Findings<'_>) {
        let mut settled: BTreeSet<(&Name, &Name)> = BTreeSet::new();
        let mut latest: BTreeMap<(&Name, &Name), usize> = BTreeMap::new();
        let mut first: BTreeMap<(&Name, &TopicPartition), i64> = BTreeMap::new();
        let mut came: BTreeMap<&Name, usize> = BTreeMap::new();
        let mut made: BTreeMap<&TopicPartition, usize> = BTreeMap::new();
        for (number, event) in history.numbered() {
            match &event.what {
                What::Finished { group, message, how: Handled::Well, .. }
                | What::DeadLettered { group, message, .. }
                | What::Skipped { group, message, .. } => drop(settled.insert((group, message))),
                What::Delivered { group, message, at, .. } => {
                    latest.insert((group, message), number);
                    let first = first.entry((group, &at.tp)).or_insert(at.offset);
                    *first = at.offset.min(*first);
                }
                What::Assigned { group, .. } => drop(came.entry(group).or_insert(number)),
                What::Watermarks { partition, .. } => drop(made.entry(partition).or_insert(number)),
                What::Started { group, message, .. } | What::Finished { group, message, .. } => {
                    latest.insert((group, message), number);
                }
                _ => {}
            }
        }
        let last = Lives::last(history);
        let mut lives = Lives::default();
        for (number, event) in history.numbered() {
            lives.see(&event.what);
            let What::Acknowledged { message, at } = &event.what else { continue };
            let gone = lives.of(&at.tp.topic) != last.of(&at.tp.topic)
                || history.truth.is_some() && kept(history, at).is_none_or(|kept| kept.fate != Fate::Committed);
            if gone || is_dead_letters(history, &at.tp.topic) {
                continue;
            }
            for (group, terms) in readers(history, &at.tp.topic) {
                let theirs = terms.from_earliest
                    || first.get(&(group, &at.tp)).is_some_and(|first| *first <= at.offset)
                    || came.get(group).is_some_and(|came| made.get(&at.tp).is_some_and(|made| came < made));
                if theirs && !settled.contains(&(group, message)) {
                    let last = latest.get(&(group, message)).copied();
                    let events: Vec<usize> = [number].into_iter().chain(last).collect();
                    found.broken("not-handled", &events, || {
                        let seen = last.map_or("was never given it", |_| "was given it");
                        format!("{message} was acknowledged at {at}; {group} {seen} and neither handled nor dead-lettered it")
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::story::{Story, kinds};

    #[test]
    fn a_record_that_was_given_and_never_handled_is_caught() {
        let story = Story::new().sent("a-0", 0).read("w", "a-0", 0).failed("w", "a-0", 0, 1);
        assert_eq!(kinds(&AckedIsSettled, &story.clone().healed().live()), ["not-handled"]);
        assert_eq!(kinds(&AckedIsSettled, &story.live()), ["(unchecked)"]);
    }

    #[test]
    fn a_handled_and_a_dead_lettered_one_are_not() {
        let story = Story::new().sent("a-0", 0).sent("b-0", 1).read("w", "a-0", 0).read("w", "b-0", 1);
        let story = story.handled("w", "a-0", 0).gave_up("w", "b-0", 1, 0).healed();
        assert_eq!(kinds(&AckedIsSettled, &story.over()), [""; 0]);
    }

    #[test]
    fn nor_is_one_nobody_acknowledged_or_one_that_is_gone() {
        let story =
            Story::new().attempted("a-0").sent("b-0", 0).sent("b-1", 1).trimmed(1).handled("w", "b-1", 1).healed();
        assert_eq!(kinds(&AckedIsSettled, &story.over()), [""; 0]);
    }
}
