//! **Promise:** within one poll, no record a consumer may see is passed over.
//!
//! Jepsen's `int-poll-skip`. **Needs** the brokers' logs, and polls that are recorded as such
//! ([`Delivered::poll`](crate::history::What::Delivered)). **Silent** about aborted records, markers and what is gone.

use super::view::{reads, visible_between};
use super::{Checker, Evidence, Findings};
use crate::history::History;

/// No gap within a poll.
#[derive(Debug, Clone, Copy, Default)]
pub struct IntPollSkip;

impl Checker for IntPollSkip {
    fn name(&self) -> &'static str {
        "int-poll-skip"
    }

    fn promise(&self) -> &'static str {
        "within one poll, no record a consumer may see is passed over"
    }

    fn needs(&self) -> &'static [Evidence] {
        &[Evidence::Truth]
    }

    fn check(&self, history: &History, found: &mut Findings<'_>) {
        for read in reads(history) {
            let Some(before) = read.before.filter(|before| before.same_poll) else { continue };
            let missed = visible_between(history, read.group, &read.at.tp, before.at.offset, read.at.offset);
            if let Some((missed, kept)) = missed {
                found.broken("skipped", &[before.event, read.event], || {
                    format!("one poll of {} passed over {} at {}", read.group, kept.message, read.at.tp.at(missed))
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::PollSkip;
    use crate::checkers::story::{Story, kinds};

    fn three() -> Story {
        Story::new().sent("a-0", 0).sent("a-1", 1).sent("a-2", 2).assigned("worker-1")
    }

    #[test]
    fn a_gap_within_a_poll_is_caught_here_and_only_here() {
        let history = three().poll("worker-1", &[("a-0", 0), ("a-2", 2)]).over();
        assert_eq!(kinds(&IntPollSkip, &history), ["skipped"]);
        assert_eq!(kinds(&PollSkip::default(), &history), [""; 0]);
    }

    #[test]
    fn a_whole_poll_is_not() {
        let history = three().poll("worker-1", &[("a-0", 0), ("a-1", 1), ("a-2", 2)]).over();
        assert_eq!(kinds(&IntPollSkip, &history), [""; 0]);
    }
}
