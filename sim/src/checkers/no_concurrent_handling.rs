//! **Promise:** a group never runs two handlers of one aggregate at once.
//!
//! Two kinds: `same-node`, one consumer lets two records of an aggregate overlap; `take-over`, a partition changed hands
//! and the old owner's handler still ran when the new owner's began. Scenarios: zombies behind a slow handler, or behind
//! a cut between member and coordinator; a revocation without a drain.
//!
//! **Needs** the beginning and end of handlings, with their aggregates. **Silent** about one thing no client can prevent: a
//! member the coordinator put out for want of heartbeats, or for another with its instance id, while its handler ran. It
//! cannot know at once, and its peer cannot wait for it. The [strict](NoConcurrentHandling::strict) form asks for this too, as a
//! fencing store would give. Silent also about records without a key, and between partitions.

use std::collections::BTreeMap;

use super::{Checker, Findings};
use crate::history::{Event, Eviction, History, Place, TopicPartition, What};
use crate::name::Name;

/// No two handlers of one aggregate run at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoConcurrentHandling {
    strict: bool,
}

impl NoConcurrentHandling {
    /// Also when a member was put out and could not know.
    pub const fn strict() -> Self {
        Self { strict: true }
    }
}

impl Checker for NoConcurrentHandling {
    fn name(&self) -> &'static str {
        "no-concurrent-handling"
    }

    fn promise(&self) -> &'static str {
        "a group never runs two handlers of one aggregate at once"
    }

    fn check(&self, history: &History, found: &mut Findings<'_>) {
        let mut running: BTreeMap<(&Name, &TopicPartition, &Name), Vec<Running<'_>>> = BTreeMap::new();
        for (number, Event { node, what, .. }) in history.numbered() {
            match what {
                What::Started { group, at, aggregate: Some(aggregate), message, .. } => {
                    let lane = running.entry((group, &at.tp, aggregate)).or_default();
                    for other in lane.iter().filter(|other| !other.could_not_know || self.strict) {
                        let kind = if other.node == node { "same-node" } else { "take-over" };
                        found.broken(kind, &[other.event, number], || {
                            format!(
                                "{group} handled {message} of {aggregate} on {node} while {} still ran on {}",
                                other.message, other.node
                            )
                        });
                    }
                    lane.push(Running { event: number, node, at, message, could_not_know: false });
                }
                What::Finished { group, at, aggregate: Some(aggregate), .. } => {
                    if let Some(lane) = running.get_mut(&(group, &at.tp, aggregate)) {
                        lane.retain(|running| running.node != node || running.at != at);
                    }
                }
                What::Evicted { group, member, why } if *why != Eviction::Left => {
                    let lanes = running.iter_mut().filter(|((of, ..), _)| *of == group).map(|(_, lane)| lane);
                    lanes
                        .flatten()
                        .filter(|running| running.node == member)
                        .for_each(|running| running.could_not_know = true);
                }
                What::NodeCrashed => running.values_mut().for_each(|lane| lane.retain(|running| running.node != node)),
                _ => {}
            }
        }
    }
}

#[derive(Debug)]
struct Running<'h> {
    event: usize,
    node: &'h Name,
    at: &'h Place,
    message: &'h Name,
    could_not_know: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::story::{Story, kinds};

    const SILENT: [&str; 0] = [];

    fn begun() -> Story {
        Story::new().assigned("w").started("w", "a-0", 0, 1)
    }

    #[test]
    fn two_at_once_on_one_node_are_caught() {
        assert_eq!(kinds(&NoConcurrentHandling::default(), &begun().started("w", "a-1", 1, 1).live()), ["same-node"]);
        assert_eq!(kinds(&NoConcurrentHandling::default(), &begun().started("w", "b-0", 1, 1).live()), SILENT);
    }

    #[test]
    fn a_retry_of_the_same_is_not() {
        let story = Story::new().failed("w", "a-0", 0, 1).started("w", "a-0", 0, 2);
        assert_eq!(kinds(&NoConcurrentHandling::default(), &story.live()), SILENT);
    }

    #[test]
    fn a_partition_given_up_while_its_handler_runs_is_caught() {
        let story = begun().revoked("w").assigned("v").started("v", "a-0", 0, 1);
        assert_eq!(kinds(&NoConcurrentHandling::default(), &story.live()), ["take-over"]);
    }

    #[test]
    fn one_whose_handler_was_stopped_or_whose_node_died_is_not() {
        let stopped = begun().cancelled("w", "a-0", 0, 1).revoked("w").assigned("v").started("v", "a-0", 0, 1);
        assert_eq!(kinds(&NoConcurrentHandling::default(), &stopped.live()), SILENT);
        let died = begun().crashed("w").assigned("v").started("v", "a-0", 0, 1);
        assert_eq!(kinds(&NoConcurrentHandling::default(), &died.live()), SILENT);
    }

    #[test]
    fn a_member_that_was_put_out_cannot_know() {
        let story = begun().evicted("w", Eviction::Session).assigned("v").started("v", "a-0", 0, 1);
        assert_eq!(kinds(&NoConcurrentHandling::default(), &story.clone().live()), SILENT);
        assert_eq!(kinds(&NoConcurrentHandling::strict(), &story.live()), ["take-over"]);
        let left = begun().evicted("w", Eviction::Left).assigned("v").started("v", "a-0", 0, 1);
        assert_eq!(kinds(&NoConcurrentHandling::default(), &left.live()), ["take-over"]);
    }
}
