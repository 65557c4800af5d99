//! **Promise:** within one transaction, what is sent for an aggregate is in the log in the order in which it was sent.
//!
//! Jepsen's `int-nonmonotonic-send`. Needs and is silent as [`NonmonotonicSend`](super::NonmonotonicSend).

use super::{Checker, Findings, nonmonotonic_send};
use crate::history::History;

/// Sends keep their order within a transaction.
#[derive(Debug, Clone, Copy, Default)]
pub struct IntNonmonotonicSend;

impl Checker for IntNonmonotonicSend {
    fn name(&self) -> &'static str {
        "int-nonmonotonic-send"
    }

    fn promise(&self) -> &'static str {
        "within one transaction, what is sent for an aggregate is in the log in the order in which it was sent"
    }

    fn check(&self, history: &History, found: &mut Findings<'_>) {
        nonmonotonic_send::check(history, found, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::NonmonotonicSend;
    use crate::checkers::story::{Story, kinds};

    #[test]
    fn an_inversion_within_a_transaction_is_caught_here_and_only_here() {
        let story = Story::new().attempted_in("a-0", "tx").attempted_in("a-1", "tx");
        let history = story.clone().acknowledged("a-0", 1).acknowledged("a-1", 0).live();
        assert_eq!(kinds(&IntNonmonotonicSend, &history), ["went-back"]);
        assert_eq!(kinds(&NonmonotonicSend, &history), [""; 0]);
        let history = story.acknowledged("a-0", 0).acknowledged("a-1", 1).live();
        assert_eq!(kinds(&IntNonmonotonicSend, &history), [""; 0]);
    }
}
