//! **Promise:** a group that reads only what was committed is never given an aborted record.
//!
//! Adya's G1a, as in Jepsen's workload: an aborted read. Scenario: an EndTxn that comes late ends the next transaction.
//!
//! **Needs** nothing; the better the brokers' word (`Stored`, `Marked`, the logs), the more it sees. **Silent** about
//! groups that read everything, and about transactions of which nobody knows how they ended.

use std::collections::BTreeMap;

use super::view::{Lives, kept, reads_committed, transactions};
use super::{Checker, Findings};
use crate::history::{Fate, History, What};
use crate::name::Name;

/// No aborted record is read.
#[derive(Debug, Clone, Copy, Default)]
pub struct G1a;

impl Checker for G1a {
    fn name(&self) -> &'static str {
        "G1a"
    }

    fn promise(&self) -> &'static str {
        "a group that reads only what was committed is never given an aborted record"
    }

    fn check(&self, history: &History, found: &mut Findings<'_>) {
        let of_place = transactions(history);
        let mut aborted: BTreeMap<&Name, usize> = BTreeMap::new();
        for (number, event) in history.numbered() {
            let (What::Marked { transaction, fate, .. } | What::TransactionEnded { transaction, fate }) = &event.what
            else {
                continue;
            };
            if *fate == Fate::Aborted {
                aborted.entry(transaction).or_insert(number);
            }
        }
        let last = Lives::last(history);
        let mut lives = Lives::default();
        for (number, event) in history.numbered() {
            lives.see(&event.what);
            let What::Delivered { group, at, message, .. } = &event.what else { continue };
            if !reads_committed(history, group) {
                continue;
            }
            let transaction = of_place.get(at).copied();
            let ended = transaction.and_then(|transaction| aborted.get(transaction)).copied();
            let in_log = lives.of(&at.tp.topic) == last.of(&at.tp.topic)
                && kept(history, at).is_some_and(|kept| kept.fate == Fate::Aborted && kept.message == *message);
            if ended.is_some() || in_log {
                let events: Vec<usize> = ended.into_iter().chain([number]).collect();
                found.broken("aborted-read", &events, || {
                    let whose =
                        transaction.map(|transaction| format!(" of transaction {transaction}")).unwrap_or_default();
                    format!("{group} was given {message} at {at}{whose}, which was aborted")
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
    fn an_aborted_record_that_was_read_is_caught() {
        let story = Story::new().stored_in("a-0", 0, "tx").ended("tx", Fate::Aborted).read("worker-1", "a-0", 0);
        assert_eq!(kinds(&G1a, &story.clone().over()), ["aborted-read"]);
        assert_eq!(kinds(&G1a, &story.live()), ["aborted-read"]);
    }

    #[test]
    fn a_committed_one_is_not() {
        let story = Story::new().stored_in("a-0", 0, "tx").ended("tx", Fate::Committed).read("worker-1", "a-0", 0);
        assert_eq!(kinds(&G1a, &story.over()), [""; 0]);
    }

    #[test]
    fn nor_is_an_aborted_one_for_who_reads_everything() {
        let story =
            Story::new().uncommitted().stored_in("a-0", 0, "tx").ended("tx", Fate::Aborted).read("worker-1", "a-0", 0);
        assert_eq!(kinds(&G1a, &story.over()), [""; 0]);
    }

    #[test]
    fn nor_a_message_that_was_aborted_once_and_committed_when_it_was_sent_again() {
        let story = Story::new()
            .stored_in("a-0", 0, "tx-1")
            .ended("tx-1", Fate::Aborted)
            .stored_in("a-0", 2, "tx-2")
            .ended("tx-2", Fate::Committed)
            .read("worker-1", "a-0", 2);
        assert_eq!(kinds(&G1a, &story.over()), [""; 0]);
    }
}
