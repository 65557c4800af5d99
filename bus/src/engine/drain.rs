//! Giving partitions up: what is still finished, and until when.
//!
//! Finishing everything that was delivered would take long; finishing only what is in work would leave records
//! below a finished one unresolved, and the next owner would handle the finished one again. So a drain finishes every
//! record below the highest one that was ever in work, unless a parked record holds the watermark below it anyway.

use super::{Offset, Partition, Time};
use std::collections::BTreeSet;

/// Why partitions are released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    /// The group gives them to somebody else.
    Revoked,
    /// They are somebody else's already; nothing may be committed.
    Lost,
    /// This member stops consuming.
    Stopping,
}

/// Partitions that leave together.
#[derive(Debug)]
pub(super) struct Drain {
    pub(super) why: Farewell,
    pub(super) partitions: BTreeSet<Partition>,
    pub(super) deadline: Time,
}

/// Up to where a leaving partition is worth finishing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Worth {
    highest_started: Option<Offset>,
}

impl Worth {
    pub(super) fn until(highest_started: Option<Offset>) -> Self {
        Self { highest_started }
    }

    pub(super) fn finishing(self, offset: Offset, lowest_parked: Option<Offset>) -> bool {
        Some(offset) < self.highest_started && lowest_parked.is_none_or(|parked| offset < parked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_below_the_highest_started_are_worth_finishing() {
        let worth = Worth::until(Some(10));
        assert!(worth.finishing(9, None));
        assert!(!worth.finishing(11, None));
        assert!(!Worth::until(None).finishing(0, None));
    }

    #[test]
    fn nothing_behind_a_parked_record_is_worth_finishing() {
        let worth = Worth::until(Some(10));
        assert!(worth.finishing(4, Some(5)));
        assert!(!worth.finishing(6, Some(5)));
    }
}
