//! **Promise:** from one poll to the next, a consumer goes forward.
//!
//! Jepsen's `nonmonotonic-poll`, through rebalances: within an assignment no poll begins at or before what was read (kind
//! `went-back`), and the first does not begin before every offset the group had stored (kind `behind-commit`: records
//! committed as handled are handled again). Scenario: a stale stored offset rewinds a group.
//!
//! **Needs** nothing. **Silent** about deliberate seeks, resets for want of an offset, and partitions given anew: what was
//! read but not committed comes again, by right ([`BoundedDuplicates`](super::BoundedDuplicates) counts it).

use super::view::reads;
use super::{Checker, Findings};
use crate::history::History;

/// Polls go forward.
#[derive(Debug, Clone, Copy, Default)]
pub struct NonmonotonicPoll;

impl Checker for NonmonotonicPoll {
    fn name(&self) -> &'static str {
        "nonmonotonic-poll"
    }

    fn promise(&self) -> &'static str {
        "from one poll to the next, a consumer goes forward"
    }

    fn check(&self, history: &History, found: &mut Findings<'_>) {
        for read in reads(history) {
            let (group, at, message) = (read.group, read.at, read.message);
            match (read.before, read.stored) {
                (Some(before), _) if !before.same_poll && at.offset <= before.at.offset => {
                    found.broken("went-back", &[before.event, read.event], || {
                        format!("{group} read {}, and then {message} at {at} in a later poll", before.at)
                    });
                }
                (None, Some((lowest, _))) if !read.moved && at.offset < lowest => {
                    found.broken("behind-commit", &[read.event], || {
                        format!("{group} had stored {lowest} for {} and went on at {}", at.tp, at.offset)
                    });
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::story::{Story, kinds};
    use crate::history::SoughtBy;

    fn two() -> Story {
        Story::new()
            .sent("a-0", 0)
            .sent("a-1", 1)
            .assigned("worker-1")
            .read("worker-1", "a-0", 0)
            .read("worker-1", "a-1", 1)
    }

    #[test]
    fn a_poll_that_goes_back_is_caught() {
        assert_eq!(kinds(&NonmonotonicPoll, &two().read("worker-1", "a-0", 0).live()), ["went-back"]);
    }

    #[test]
    fn one_that_goes_back_because_the_partition_was_given_anew_is_not() {
        let story = two().revoked("worker-1").assigned("worker-1").read("worker-1", "a-0", 0);
        assert_eq!(kinds(&NonmonotonicPoll, &story.live()), [""; 0]);
        let story = two().sought("worker-1", 0, SoughtBy::Program).read("worker-1", "a-0", 0);
        assert_eq!(kinds(&NonmonotonicPoll, &story.live()), [""; 0]);
    }

    #[test]
    fn a_start_before_the_stored_offset_is_caught() {
        let story = two().committed(1).revoked("worker-1").assigned("worker-2");
        assert_eq!(kinds(&NonmonotonicPoll, &story.clone().read("worker-2", "a-0", 0).live()), ["behind-commit"]);
        assert_eq!(kinds(&NonmonotonicPoll, &story.clone().read("worker-2", "a-1", 1).live()), [""; 0]);
        let expired = two().committed(1).expired().revoked("worker-1").assigned("worker-2").read("worker-2", "a-0", 0);
        assert_eq!(kinds(&NonmonotonicPoll, &expired.live()), [""; 0]);
    }
}
