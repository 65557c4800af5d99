//! **Promise:** within one poll, the offsets of a partition rise.
//!
//! Jepsen's `int-nonmonotonic-poll`. **Needs** polls that are recorded as such
//! ([`Delivered::poll`](crate::history::What::Delivered)). Never silent.

use super::view::reads;
use super::{Checker, Findings};
use crate::history::History;

/// Offsets rise within a poll.
#[derive(Debug, Clone, Copy, Default)]
pub struct IntNonmonotonicPoll;

impl Checker for IntNonmonotonicPoll {
    fn name(&self) -> &'static str {
        "int-nonmonotonic-poll"
    }

    fn promise(&self) -> &'static str {
        "within one poll, the offsets of a partition rise"
    }

    fn check(&self, history: &History, found: &mut Findings<'_>) {
        for read in reads(history) {
            let before = read.before.filter(|before| before.same_poll && read.at.offset <= before.at.offset);
            if let Some(before) = before {
                found.broken("went-back", &[before.event, read.event], || {
                    format!("one poll of {} gave {} and then {}", read.group, before.at, read.at)
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::NonmonotonicPoll;
    use crate::checkers::story::{Story, kinds};

    #[test]
    fn a_poll_that_goes_back_within_itself_is_caught_here_and_only_here() {
        let story = Story::new().assigned("worker-1");
        let history = story.clone().poll("worker-1", &[("a-1", 1), ("a-0", 0)]).live();
        assert_eq!(kinds(&IntNonmonotonicPoll, &history), ["went-back"]);
        assert_eq!(kinds(&NonmonotonicPoll, &history), [""; 0]);
        let history = story.poll("worker-1", &[("a-0", 0), ("a-1", 1)]).live();
        assert_eq!(kinds(&IntNonmonotonicPoll, &history), [""; 0]);
    }
}
