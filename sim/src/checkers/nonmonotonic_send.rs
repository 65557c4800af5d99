//! **Promise:** what a publisher sends for an aggregate is in the log in the order in which it was sent.
//!
//! Jepsen's `nonmonotonic-send`: consecutive sends of a publisher to a partition get rising offsets. We ask it of each
//! aggregate by itself, because different tasks of one publisher may hand different aggregates over in any order; sends
//! without an aggregate are one stream a partition. Scenario: a retry without idempotence overtakes.
//!
//! **Needs** nothing. **Silent** about sends nobody acknowledged, messages the program sent twice, and sends of one
//! transaction ([`IntNonmonotonicSend`](super::IntNonmonotonicSend)).

use super::view::sends;
use super::{Checker, Findings};
use crate::history::History;

/// Sends keep their order.
#[derive(Debug, Clone, Copy, Default)]
pub struct NonmonotonicSend;

impl Checker for NonmonotonicSend {
    fn name(&self) -> &'static str {
        "nonmonotonic-send"
    }

    fn promise(&self) -> &'static str {
        "what a publisher sends for an aggregate is in the log in the order in which it was sent"
    }

    fn check(&self, history: &History, found: &mut Findings<'_>) {
        check(history, found, false);
    }
}

/// Both this checker and its twin for within a transaction.
pub(super) fn check(history: &History, found: &mut Findings<'_>, within: bool) {
    for ((node, ..), stream) in sends(history) {
        for pair in stream.windows(2) {
            let [first, second] = pair else { continue };
            let together = first.transaction.is_some() && first.transaction == second.transaction;
            if together == within && second.at.offset <= first.at.offset {
                found.broken(
                    "went-back",
                    &[first.attempted, second.attempted, first.acknowledged, second.acknowledged],
                    || {
                        format!(
                            "{node} sent {} before {}, which is before it in the log: {} and {}",
                            first.message, second.message, first.at, second.at
                        )
                    },
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::story::{Story, kinds};

    #[test]
    fn a_send_that_overtook_the_one_before_is_caught() {
        let story = Story::new().attempted("a-0").attempted("a-1").stored("a-1", 0).stored("a-0", 1);
        let story = story.acknowledged("a-1", 0).acknowledged("a-0", 1);
        assert_eq!(kinds(&NonmonotonicSend, &story.live()), ["went-back"]);
    }

    #[test]
    fn acknowledgements_may_come_in_any_order() {
        let story = Story::new().attempted("a-0").attempted("a-1").stored("a-0", 0).stored("a-1", 1);
        let story = story.acknowledged("a-1", 1).acknowledged("a-0", 0);
        assert_eq!(kinds(&NonmonotonicSend, &story.live()), [""; 0]);
    }

    #[test]
    fn so_may_sends_of_different_aggregates() {
        let story = Story::new().attempted("a-0").attempted("b-0").acknowledged("b-0", 0).acknowledged("a-0", 1);
        assert_eq!(kinds(&NonmonotonicSend, &story.live()), [""; 0]);
    }

    #[test]
    fn a_message_the_program_sent_again_has_no_one_place() {
        let story = Story::new()
            .attempted("a-0")
            .attempted("a-1")
            .acknowledged("a-1", 0)
            .attempted("a-0")
            .acknowledged("a-0", 1);
        assert_eq!(kinds(&NonmonotonicSend, &story.live()), [""; 0]);
    }
}
