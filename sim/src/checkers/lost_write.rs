//! **Promise:** what was acknowledged is in the log, and a group that read on past it has read it.
//!
//! Jepsen's `lost-write`, in two kinds: `acked-lost`, the log at the end has another record or none at the place the
//! publisher was told (scenarios: one acknowledgement and a dead leader, unclean election, the last replica standing,
//! sequences reused); `read-past`, the record is there, but a group delivered later ones of the partition and never this
//! (scenarios: `latest` on a new partition, a commit before the handling).
//!
//! **Needs** the logs for `acked-lost`, nothing for `read-past`. **Silent** about records that retention removed, about
//! topics that were deleted, about aborted records, and, in a group, about what lies before the first record it ever
//! read when it starts at the end.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::view::{Lives, is_dead_letters, kept, reads_committed};
use super::{Checker, Findings};
use crate::history::{Fate, History, Place, TopicPartition, What};
use crate::name::Name;

/// What was acknowledged is in the log and is read.
#[derive(Debug, Clone, Copy, Default)]
pub struct LostWrite;

impl Checker for LostWrite {
    fn name(&self) -> &'static str {
        "lost-write"
    }

    fn promise(&self) -> &'static str {
        "what was acknowledged is in the log, and a group that read past it has read it"
    }

    fn check(&self, history: &History, found: &mut Findings<'_>) {
        let last = Lives::last(history);
        let mut lives = Lives::default();
        let mut acked: Vec<(usize, &Name, &Place)> = Vec::new();
        let mut groups: BTreeMap<(&Name, &TopicPartition), Seen> = BTreeMap::new();
        for (number, event) in history.numbered() {
            lives.see(&event.what);
            let current = |at: &Place| lives.of(&at.tp.topic) == last.of(&at.tp.topic);
            match &event.what {
                What::Acknowledged { message, at } if current(at) => acked.push((number, message, at)),
                What::Delivered { group, at, .. } if current(at) => {
                    groups.entry((group, &at.tp)).or_default().see(at.offset, number);
                }
                What::Skipped { group, at, .. } if current(at) => {
                    groups.entry((group, &at.tp)).or_default().offsets.insert(at.offset);
                }
                _ => {}
            }
        }
        for (number, message, at) in acked.into_iter().filter(|(.., at)| !is_dead_letters(history, &at.tp.topic)) {
            if gone(history, message, at) {
                found.broken("acked-lost", &[number], || {
                    format!("{message} was acknowledged at {at}, where the log has {} at the end", there(history, at))
                });
                continue;
            }
            for ((group, tp), seen) in groups.iter().filter(|((_, tp), _)| **tp == at.tp) {
                let from = history.terms.groups.get(*group);
                let theirs = from.is_none_or(|terms| terms.from_earliest) || seen.offsets.first() < Some(&at.offset);
                let visible = kept(history, at)
                    .is_none_or(|kept| kept.fate == Fate::Committed || !reads_committed(history, group));
                if theirs && visible && !trimmed(history, at) && seen.passed(at.offset) {
                    found.broken("read-past", &[number, seen.furthest_event], || {
                        format!("{group} read {tp} up to {} and never {message} at {at}", seen.furthest)
                    });
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct Seen {
    offsets: BTreeSet<i64>,
    furthest: i64,
    furthest_event: usize,
}

impl Seen {
    fn see(&mut self, offset: i64, event: usize) {
        self.offsets.insert(offset);
        if offset >= self.furthest {
            (self.furthest, self.furthest_event) = (offset, event);
        }
    }

    fn passed(&self, offset: i64) -> bool {
        self.furthest > offset && !self.offsets.contains(&offset)
    }
}

fn trimmed(history: &History, at: &Place) -> bool {
    let log = history.truth.as_ref().and_then(|truth| truth.logs.get(&at.tp));
    log.is_some_and(|log| at.offset < log.start)
}

fn gone(history: &History, message: &Name, at: &Place) -> bool {
    history.truth.is_some() && !trimmed(history, at) && kept(history, at).is_none_or(|kept| kept.message != *message)
}

fn there(history: &History, at: &Place) -> String {
    kept(history, at).map_or_else(|| "nothing".to_owned(), |kept| kept.message.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::story::{Story, kinds};

    #[test]
    fn an_acknowledged_record_that_is_not_in_the_log_is_caught() {
        let story = Story::new().sent("a-0", 0).acknowledged("b-0", 1);
        assert_eq!(kinds(&LostWrite, &story.over()), ["acked-lost"]);
    }

    #[test]
    fn one_nobody_acknowledged_may_be_missing() {
        let story = Story::new().sent("a-0", 0).attempted("b-0");
        assert_eq!(kinds(&LostWrite, &story.over()), [""; 0]);
    }

    #[test]
    fn one_that_retention_removed_may_be_missing() {
        let story = Story::new().sent("a-0", 0).sent("a-1", 1).trimmed(1);
        assert_eq!(kinds(&LostWrite, &story.over()), [""; 0]);
    }

    #[test]
    fn a_group_that_read_past_a_record_is_caught() {
        let story = Story::new()
            .sent("a-0", 0)
            .sent("a-1", 1)
            .sent("a-2", 2)
            .read("worker-1", "a-0", 0)
            .read("worker-2", "a-2", 2);
        assert_eq!(kinds(&LostWrite, &story.over()), ["read-past"]);
        let story = Story::new().sent("a-0", 0).sent("a-1", 1).read("worker-1", "a-1", 1);
        assert_eq!(kinds(&LostWrite, &story.live()), ["read-past"], "also without the brokers' logs");
    }

    #[test]
    fn one_that_has_not_come_to_it_yet_is_not() {
        let story = Story::new().sent("a-0", 0).sent("a-1", 1).read("worker-1", "a-0", 0);
        assert_eq!(kinds(&LostWrite, &story.over()), [""; 0]);
    }

    #[test]
    fn a_group_that_starts_at_the_end_need_not_read_what_was_before() {
        let story = Story::new().starting_at_the_end().sent("a-0", 0).sent("a-1", 1).read("worker-1", "a-1", 1);
        assert_eq!(kinds(&LostWrite, &story.over()), [""; 0]);
    }
}
