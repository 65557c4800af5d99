//! **Promise:** between two records of one transaction lies nothing else of the same publisher.
//!
//! Jepsen's `int-send-skip` fires on anything that lies between; but Kafka lets other producers' records in, and Jepsen
//! allows it for that reason. So the usual form asks only about the same publisher, which sends nothing else while its
//! transaction is open; the [strict](IntSendSkip::strict) form is Jepsen's.
//!
//! **Needs** the brokers' logs. **Silent** about sends nobody acknowledged.

use std::collections::BTreeMap;

use super::view::sends;
use super::{Checker, Evidence, Findings};
use crate::history::{History, What};
use crate::name::Name;

/// A transaction's records are not interleaved with others of its publisher.
#[derive(Debug, Clone, Copy, Default)]
pub struct IntSendSkip {
    strict: bool,
}

impl IntSendSkip {
    /// As Jepsen: nobody else's record either.
    pub const fn strict() -> Self {
        Self { strict: true }
    }
}

impl Checker for IntSendSkip {
    fn name(&self) -> &'static str {
        "int-send-skip"
    }

    fn promise(&self) -> &'static str {
        "between two records of one transaction lies nothing else of the same publisher"
    }

    fn needs(&self) -> &'static [Evidence] {
        &[Evidence::Truth]
    }

    fn check(&self, history: &History, found: &mut Findings<'_>) {
        let mut by: BTreeMap<&Name, (&Name, Option<&Name>)> = BTreeMap::new();
        for event in history.events() {
            if let What::Attempted { message, transaction, .. } = &event.what {
                by.insert(message, (&event.node, transaction.as_ref()));
            }
        }
        for ((node, ..), stream) in sends(history) {
            for pair in stream.windows(2) {
                let [first, second] = pair else { continue };
                let Some(transaction) = first.transaction.filter(|_| first.transaction == second.transaction) else {
                    continue;
                };
                let Some(log) = history.truth.as_ref().and_then(|truth| truth.logs.get(&first.at.tp)) else { continue };
                if second.at.offset <= first.at.offset {
                    continue;
                }
                let alien = |message: &Name| match by.get(message) {
                    Some((publisher, of)) => *of != Some(transaction) && (self.strict || *publisher == node),
                    None => self.strict,
                };
                let between =
                    log.records.range(first.at.offset + 1..second.at.offset).find(|(_, kept)| alien(&kept.message));
                if let Some((offset, kept)) = between {
                    found.broken("interleaved", &[first.acknowledged, second.acknowledged], || {
                        format!(
                            "{} at {offset} lies between {} and {} of transaction {transaction}",
                            kept.message, first.at, second.at
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

    fn torn() -> Story {
        Story::new()
            .attempted_in("a-0", "tx-1")
            .attempted_in("a-1", "tx-1")
            .stored("a-0", 0)
            .stored("a-1", 2)
            .acknowledged("a-0", 0)
            .acknowledged("a-1", 2)
    }

    #[test]
    fn another_transaction_of_the_same_publisher_in_between_is_caught() {
        let story = torn().attempted_in("b-0", "tx-2").stored("b-0", 1);
        assert_eq!(kinds(&IntSendSkip::default(), &story.over()), ["interleaved"]);
    }

    #[test]
    fn another_publisher_in_between_is_lawful_but_for_the_strict() {
        let story = torn().stored("b-0", 1);
        assert_eq!(kinds(&IntSendSkip::default(), &story.clone().over()), [""; 0]);
        assert_eq!(kinds(&IntSendSkip::strict(), &story.over()), ["interleaved"]);
    }

    #[test]
    fn the_transaction_itself_in_between_is_lawful() {
        let story = torn().attempted_in("b-0", "tx-1").stored("b-0", 1);
        assert_eq!(kinds(&IntSendSkip::strict(), &story.over()), [""; 0]);
    }
}
