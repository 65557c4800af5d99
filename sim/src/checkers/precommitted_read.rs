//! **Promise:** a group that reads only what was committed is given no record before its transaction is committed.
//!
//! Two kinds: `own`, a transaction reads what it wrote itself, which is Jepsen's `precommitted-read`; and `early`, anybody
//! reads it while it is open, which only somebody who sees the brokers' markers can tell.
//!
//! **Needs** nothing for `own`; the markers ([`What::Marked`]) for `early`. **Silent** about groups that read everything,
//! and about transactions without a marker, which [`G1a`](super::G1a) and liveness judge.

use std::collections::BTreeMap;

use super::view::{reads_committed, transactions};
use super::{Checker, Findings};
use crate::history::{Fate, History, TopicPartition, What};
use crate::name::Name;

/// No record is read before its transaction is committed.
#[derive(Debug, Clone, Copy, Default)]
pub struct PrecommittedRead;

impl Checker for PrecommittedRead {
    fn name(&self) -> &'static str {
        "precommitted-read"
    }

    fn promise(&self) -> &'static str {
        "a group that reads only what was committed is given no record before its transaction is committed"
    }

    fn check(&self, history: &History, found: &mut Findings<'_>) {
        let of_place = transactions(history);
        let mut marked: BTreeMap<(&Name, &TopicPartition), usize> = BTreeMap::new();
        for (number, event) in history.numbered() {
            if let What::Marked { transaction, partition, fate: Fate::Committed } = &event.what {
                marked.entry((transaction, partition)).or_insert(number);
            }
        }
        for (number, event) in history.numbered() {
            let What::Delivered { group, at, message, transaction: reading, .. } = &event.what else { continue };
            let Some(writing) = of_place.get(at).filter(|_| reads_committed(history, group)) else { continue };
            if reading.as_ref() == Some(*writing) {
                found.broken("own", &[number], || {
                    format!("transaction {writing} read {message} at {at}, which it wrote itself")
                });
            } else if let Some(commit) = marked.get(&(*writing, &at.tp)).filter(|commit| **commit > number) {
                found.broken("early", &[number, *commit], || {
                    format!("{group} was given {message} at {at} before transaction {writing} was committed")
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::story::{Story, kinds};

    #[test]
    fn a_record_read_before_its_commit_is_caught() {
        let story = Story::new().stored_in("a-0", 0, "tx").read("worker-1", "a-0", 0).ended("tx", Fate::Committed);
        assert_eq!(kinds(&PrecommittedRead, &story.over()), ["early"]);
    }

    #[test]
    fn one_read_after_it_is_not() {
        let story = Story::new().stored_in("a-0", 0, "tx").ended("tx", Fate::Committed).read("worker-1", "a-0", 0);
        assert_eq!(kinds(&PrecommittedRead, &story.over()), [""; 0]);
    }

    #[test]
    fn a_transaction_that_reads_its_own_record_is_caught() {
        let story = Story::new().stored_in("a-0", 0, "tx").read_in("worker-1", "a-0", 0, "tx");
        assert_eq!(kinds(&PrecommittedRead, &story.live()), ["own"]);
        let story = Story::new()
            .stored_in("a-0", 0, "tx-1")
            .ended("tx-1", Fate::Committed)
            .read_in("worker-1", "a-0", 0, "tx-2");
        assert_eq!(kinds(&PrecommittedRead, &story.live()), [""; 0]);
    }
}
