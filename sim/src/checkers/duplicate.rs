//! **Promise:** a record is in a partition once, or as often as the program asked for it.
//!
//! An idempotent producer's retries leave no second copy (KIP-98). Copies are lawful when the program itself sent the
//! message again, and when a dead letter was replayed. Jepsen's `duplicate`.
//!
//! **Needs** the brokers' logs. **Silent** about aborted copies and about dead-letter topics, where
//! [`DlqConservation`](super::DlqConservation) counts.

use std::collections::BTreeMap;

use super::view::is_dead_letters;
use super::{Checker, Evidence, Findings};
use crate::history::{Fate, History, What};
use crate::name::Name;

/// A record is in a partition once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Duplicate;

impl Checker for Duplicate {
    fn name(&self) -> &'static str {
        "duplicate"
    }

    fn promise(&self) -> &'static str {
        "a record is in a partition once, or as often as it was sent"
    }

    fn needs(&self) -> &'static [Evidence] {
        &[Evidence::Truth]
    }

    fn check(&self, history: &History, found: &mut Findings<'_>) {
        let mut asked: BTreeMap<&Name, Vec<usize>> = BTreeMap::new();
        let mut shown: BTreeMap<&Name, Vec<usize>> = BTreeMap::new();
        for (number, event) in history.numbered() {
            match &event.what {
                What::Attempted { message, .. } | What::Replayed { message, .. } => {
                    asked.entry(message).or_default().push(number);
                }
                What::Stored { message, .. } => shown.entry(message).or_default().push(number),
                _ => {}
            }
        }
        let logs = history.truth.iter().flat_map(|truth| &truth.logs);
        for (tp, log) in logs.filter(|(tp, _)| !is_dead_letters(history, &tp.topic)) {
            let mut copies: BTreeMap<&Name, Vec<i64>> = BTreeMap::new();
            for (offset, kept) in log.records.iter().filter(|(_, kept)| kept.fate == Fate::Committed) {
                copies.entry(&kept.message).or_default().push(*offset);
            }
            for (message, offsets) in copies {
                // Nobody recorded the attempt: then at least one was made.
                let allowed = asked.get(message).map_or(1, Vec::len);
                if offsets.len() > allowed {
                    let events: Vec<usize> =
                        [&asked, &shown].iter().filter_map(|map| map.get(message)).flatten().copied().collect();
                    found.broken("stored-twice", &events, || {
                        format!(
                            "{message} was sent {allowed} times and is {} times in {tp}, at {offsets:?}",
                            offsets.len()
                        )
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
    fn a_second_copy_is_caught() {
        let story = Story::new().sent("a-0", 0).stored("a-0", 1);
        assert_eq!(kinds(&Duplicate, &story.over()), ["stored-twice"]);
    }

    #[test]
    fn a_copy_the_program_asked_for_is_not() {
        let story = Story::new().sent("a-0", 0).sent("a-0", 1);
        assert_eq!(kinds(&Duplicate, &story.over()), [""; 0]);
    }

    #[test]
    fn nor_one_that_was_aborted() {
        let story = Story::new().sent("a-0", 0).stored_in("a-0", 1, "tx-1").ended("tx-1", Fate::Aborted);
        assert_eq!(kinds(&Duplicate, &story.over()), [""; 0]);
    }
}
