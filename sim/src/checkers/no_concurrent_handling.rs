//! **Promise:** a group never runs two handlers of one aggregate at once.
//!
//! Two kinds: `same-node`, one consumer lets two records of an aggregate overlap; `take-over`, a partition changed hands
//! and the old owner's handler still ran when the new owner's began. Scenarios: zombies behind a slow handler, or behind
//! a cut between member and coordinator; a revocation without a drain.
//!
//! **Needs** the beginning and end of handlings, with their aggregates. **Silent** about one thing no client can prevent: a
//! member the coordinator put out for want of heartbeats, or for another with its instance id, while its handler ran, and
//! what it begins before it can know: until it is given partitions anew, or its session is over by its own clock too. It
//! cannot know at once, and its peer cannot wait for it. The [strict](NoConcurrentHandling::strict) form asks for this too, as a
//! fencing store would give. Silent also about records without a key, and between partitions.

use std::collections::BTreeMap;
use std::time::Duration;

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
        let mut out: BTreeMap<(&Name, &Name), Duration> = BTreeMap::new();
        for (number, Event { at: now, node, what }) in history.numbered() {
            match what {
                What::Started { group, at, aggregate: Some(aggregate), message, .. } => {
                    let session = history.terms.groups.get(group).map_or(Duration::ZERO, |terms| terms.session);
                    let knows_by = out.get(&(group, node)).map(|since| since.saturating_add(session));
                    let cannot_know = knows_by.is_some_and(|knows_by| *now <= knows_by);
                    let lane = running.entry((group, &at.tp, aggregate)).or_default();
                    let excused = |other: &Running<'_>| other.could_not_know || (cannot_know && other.node != node);
                    for other in lane.iter().filter(|other| self.strict || !excused(other)) {
                        let kind = if other.node == node { "same-node" } else { "take-over" };
                        found.broken(kind, &[other.event, number], || {
                            format!(
                                "{group} handled {message} of {aggregate} on {node} while {} still ran on {}",
                                other.message, other.node
                            )
                        });
                    }
                    lane.push(Running { event: number, node, at, message, could_not_know: cannot_know });
                }
                What::Finished { group, at, aggregate: Some(aggregate), .. } => {
                    if let Some(lane) = running.get_mut(&(group, &at.tp, aggregate)) {
                        lane.retain(|running| running.node != node || running.at != at);
                    }
                }
                What::Assigned { group, .. } => drop(out.remove(&(group, node))),
                What::Evicted { group, member, why } if *why != Eviction::Left => {
                    out.insert((group, member), *now);
                    let lanes = running.iter_mut().filter(|((of, ..), _)| *of == group).map(|(_, lane)| lane);
                    lanes
                        .flatten()
                        .filter(|running| running.node == member)
                        .for_each(|running| running.could_not_know = true);
                }
                What::NodeCrashed => {
                    out.retain(|(_, member), _| *member != node);
                    running.values_mut().for_each(|lane| lane.retain(|running| running.node != node));
                }
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
    fn what_a_member_begins_before_it_can_know_that_it_is_out_is_excused() {
        let checker = NoConcurrentHandling::default();
        let out = Story::new()
            .assigned("w")
            .handled("w", "a-0", 0)
            .evicted("w", Eviction::Replaced)
            .started("v", "a-1", 1, 1);
        assert_eq!(kinds(&checker, &out.clone().started("w", "a-1", 1, 1).live()), SILENT);
        assert_eq!(
            kinds(&NoConcurrentHandling::strict(), &out.clone().started("w", "a-1", 1, 1).live()),
            ["take-over"]
        );
        assert_eq!(kinds(&checker, &out.clone().later(60_000).started("w", "a-1", 1, 1).live()), ["take-over"]);
        assert_eq!(kinds(&checker, &out.assigned("w").started("w", "a-1", 1, 1).live()), ["take-over"]);
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
