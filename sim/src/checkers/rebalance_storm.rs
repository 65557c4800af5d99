//! **Promise:** a group rebalances because something happened, a bounded number of times, and then stops.
//!
//! A member that comes, goes, dies or is put out costs two generations at most under the cooperative protocol (KIP-429:
//! one to give partitions up, one to hand them out); a fault that begins or ends may put every member out once. Kinds:
//! `storm`, more generations in the whole run than two for each cause and member; `unsettled`, the group still makes new
//! generations long after the last cause.
//!
//! **Needs** the coordinators' word ([`What::Rebalanced`]). **Silent** without it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Checker, Findings};
use crate::history::{Event, History, What};
use crate::name::Name;
use crate::plan::Family;

/// Rebalances stop.
#[derive(Debug, Clone, Copy, Default)]
pub struct RebalanceStorm;

/// Clients learn of new partitions when they ask for metadata again, after five minutes at most
/// (`topic.metadata.refresh.interval.ms`, `metadata.max.age.ms`).
const METADATA_AGE: Duration = Duration::from_secs(300);

/// After the last cause a member may still run into its session timeout (45 s), and the group wait for it once more
/// (`max.poll.interval.ms` bounds a rebalance; 60 s is what the bus uses under simulation).
const SETTLED_AFTER: Duration = Duration::from_secs(105);

impl Checker for RebalanceStorm {
    fn name(&self) -> &'static str {
        "rebalance-storm"
    }

    fn promise(&self) -> &'static str {
        "a group rebalances because something happened, a bounded number of times, and then stops"
    }

    fn check(&self, history: &History, found: &mut Findings<'_>) {
        let mut groups: BTreeMap<&Name, Group<'_>> = BTreeMap::new();
        let mut causes = 0_usize;
        let mut last_cause = Duration::ZERO;
        for (number, Event { at: now, what, .. }) in history.numbered() {
            match what {
                What::Rebalanced { group, owners, .. } => {
                    let of = groups.entry(group).or_default();
                    of.generations.push(number);
                    of.members.extend(owners.iter().map(|(member, _)| member));
                    let allowed = 2 * (causes + of.members.len()) + 2;
                    if of.generations.len() > allowed {
                        found.broken("storm", &of.last_few(), || {
                            let (many, members) = (of.generations.len(), of.members.len());
                            format!("{group} is in its {many}. generation with {members} members after {causes} causes; at most {allowed} are lawful")
                        });
                    } else if now.saturating_sub(last_cause) > SETTLED_AFTER && of.generations.len() > 1 {
                        found.broken("unsettled", &of.last_few(), || {
                            format!(
                                "{group} made a new generation {} s after the last cause",
                                now.saturating_sub(last_cause).as_secs()
                            )
                        });
                    }
                }
                What::FaultBegan { family: Family::AddPartitions | Family::StaleMetadata, .. } => {
                    causes += 1;
                    last_cause = last_cause.max(*now + METADATA_AGE);
                }
                What::NodeStarted
                | What::NodeCrashed
                | What::NodeResumed
                | What::ShutdownBegan { .. }
                | What::FaultBegan { .. }
                | What::FaultEnded { .. }
                | What::Healed
                | What::Evicted { .. }
                | What::Recreated { .. } => {
                    causes += 1;
                    last_cause = last_cause.max(*now);
                }
                _ => {}
            }
        }
    }
}

#[derive(Debug, Default)]
struct Group<'h> {
    generations: Vec<usize>,
    members: BTreeSet<&'h Name>,
}

impl Group<'_> {
    fn last_few(&self) -> Vec<usize> {
        self.generations.iter().rev().take(4).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::story::{Story, kinds};
    use crate::history::Eviction;

    fn generations(story: Story, range: std::ops::Range<i32>) -> Story {
        range.fold(story, |story, generation| story.later(1000).rebalanced(generation, &["v", "w"]))
    }

    #[test]
    fn generations_without_a_cause_are_caught() {
        assert_eq!(kinds(&RebalanceStorm, &generations(Story::new(), 1..6).live()), [""; 0]);
        assert_eq!(kinds(&RebalanceStorm, &generations(Story::new(), 1..20).live()), ["storm"]);
    }

    #[test]
    fn every_cause_pays_for_two() {
        let story = (0..10).fold(Story::new(), |story, round| {
            generations(story.evicted("w", Eviction::Session), 2 * round..2 * round + 2)
        });
        assert_eq!(kinds(&RebalanceStorm, &story.live()), [""; 0]);
    }

    #[test]
    fn a_group_that_goes_on_long_after_the_last_cause_is_caught() {
        let story = generations(Story::new(), 1..3).healed();
        assert_eq!(kinds(&RebalanceStorm, &generations(story.clone().later(20_000), 3..4).live()), [""; 0]);
        assert_eq!(kinds(&RebalanceStorm, &generations(story.clone().later(120_000), 3..4).live()), ["unsettled"]);
        let grown = story.fault("f1", Family::AddPartitions, &[]).later(290_000);
        assert_eq!(kinds(&RebalanceStorm, &generations(grown, 3..4).live()), [""; 0]);
    }
}
