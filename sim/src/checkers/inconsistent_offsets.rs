//! **Promise:** an offset holds one record, whoever looks, whenever.
//!
//! Everybody who names a record at a place – a publisher told where its record went, a consumer that read it, the log at
//! the end – names the same. Jepsen's `inconsistent-offsets`. Scenario: an unclean election.
//!
//! **Needs** nothing. **Silent** about what was only stored, on a leader that then lost it: before the high watermark
//! passes it nobody was told. A topic created anew has offsets of its own.

use std::collections::BTreeMap;

use super::view::Lives;
use super::{Checker, Findings};
use crate::history::{History, Place, What};
use crate::name::Name;

/// An offset holds one record.
#[derive(Debug, Clone, Copy, Default)]
pub struct InconsistentOffsets;

impl Checker for InconsistentOffsets {
    fn name(&self) -> &'static str {
        "inconsistent-offsets"
    }

    fn promise(&self) -> &'static str {
        "an offset holds one record, whoever looks, whenever"
    }

    fn check(&self, history: &History, found: &mut Findings<'_>) {
        let mut lives = Lives::default();
        let mut claims: BTreeMap<(u32, &Place), (usize, &Name)> = BTreeMap::new();
        for (number, event) in history.numbered() {
            lives.see(&event.what);
            let (What::Acknowledged { message, at } | What::Delivered { message, at, .. }) = &event.what else {
                continue;
            };
            let (first, claimed) = claims.entry((lives.of(&at.tp.topic), at)).or_insert((number, message));
            if *claimed != message {
                found.broken("two-records", &[*first, number], || {
                    format!("{at} holds {claimed} for some and {message} for others")
                });
            }
        }
        let last = Lives::last(history);
        for (tp, log) in history.truth.iter().flat_map(|truth| &truth.logs) {
            for (offset, kept) in &log.records {
                let at = tp.at(*offset);
                if let Some((event, claimed)) = claims.get(&(last.of(&tp.topic), &at))
                    && **claimed != kept.message
                {
                    found.broken("another-in-the-log", &[*event], || {
                        format!("{at} held {claimed} for those who asked, and holds {} at the end", kept.message)
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
    fn two_records_at_one_place_are_caught() {
        let story = Story::new().sent("a-0", 0).read("worker-1", "b-0", 0);
        assert_eq!(kinds(&InconsistentOffsets, &story.live()), ["two-records"]);
    }

    #[test]
    fn a_record_that_was_replaced_in_the_log_is_caught() {
        let story = Story::new().sent("a-0", 0).stored("b-0", 0);
        assert_eq!(kinds(&InconsistentOffsets, &story.over()), ["another-in-the-log"]);
    }

    #[test]
    fn one_that_was_replaced_before_anybody_was_told_is_not() {
        let story =
            Story::new().stored("a-0", 0).elected("broker-2", 1, false).sent("b-0", 0).read("worker-1", "b-0", 0);
        assert_eq!(kinds(&InconsistentOffsets, &story.over()), [""; 0]);
    }

    #[test]
    fn nor_is_the_same_offset_of_a_topic_created_anew() {
        let story = Story::new()
            .sent("a-0", 0)
            .read("worker-1", "a-0", 0)
            .recreated()
            .sent("b-0", 0)
            .read("worker-1", "b-0", 0);
        assert_eq!(kinds(&InconsistentOffsets, &story.over()), [""; 0]);
    }
}
