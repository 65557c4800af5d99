//! **Promise:** a failed record is tried again after the wait its group's policy asks for, and not more often.
//!
//! After the n-th failure the next attempt begins after `min(base · 2ⁿ⁻¹, max)`, longer or shorter by the jitter at most.
//! Kinds: `too-early`, `too-late` (by more than [`Terms::slack`](crate::history::Terms::slack)), `too-many` (an attempt the policy
//! does not give). In virtual time all of that is exact, an hour's wait included.
//!
//! **Needs** handlings, and the group's terms. **Silent** about the next attempt of another delivery, which starts to count
//! anew; about attempts that were cancelled; and about lateness while a fault acted on the node, or its clocks drifted.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Checker, Findings};
use crate::history::{ActiveFault, Event, Handled, History, Place, WORLD, What};
use crate::name::Name;
use crate::plan::{Family, Time};

/// Retries keep to their policy.
#[derive(Debug, Clone, Copy, Default)]
pub struct RetryTiming;

impl Checker for RetryTiming {
    fn name(&self) -> &'static str {
        "retry-timing"
    }

    fn promise(&self) -> &'static str {
        "a failed record is tried again after the wait its group's policy asks for, and not more often"
    }

    fn check(&self, history: &History, found: &mut Findings<'_>) {
        let faults = history.faults();
        let mut failures: BTreeMap<(&Name, &Name, &Place), (usize, Duration, u32)> = BTreeMap::new();
        for (number, Event { at: now, node, what }) in history.numbered() {
            match what {
                What::Delivered { group, at, .. } => drop(failures.remove(&(node, group, at))),
                What::NodeCrashed => failures.retain(|(of, ..), _| *of != node),
                What::Finished { group, at, attempt, how, .. } => match how {
                    Handled::Failed | Handled::Panicked => {
                        failures.insert((node, group, at), (number, *now, *attempt));
                    }
                    Handled::Well | Handled::Cancelled => drop(failures.remove(&(node, group, at))),
                },
                What::Started { group, at, message, attempt, .. } => {
                    let Some(terms) = history.terms.groups.get(group) else { continue };
                    let Some((failure, failed, before)) = failures.remove(&(node, group, at)) else { continue };
                    if *attempt != before.saturating_add(1) {
                        continue;
                    }
                    let Some((shortest, longest)) = terms.wait(before) else {
                        found.broken("too-many", &[failure, number], || {
                            format!(
                                "{group} tried {message} a {attempt}. time; its policy gives {} attempts",
                                terms.retries.saturating_add(1)
                            )
                        });
                        continue;
                    };
                    let waited = now.saturating_sub(failed);
                    let drifting = acting(&faults, node, failed, *now, |family| family == Family::ClockDrift);
                    let disturbed = acting(&faults, node, failed, *now, |_| true);
                    let sentence = |what: &str, bound: Duration| {
                        format!(
                            "{group} tried {message} again {} after failure {before}; {what} {} was asked for",
                            Time(waited),
                            Time(bound)
                        )
                    };
                    // A timer counts whole milliseconds.
                    if waited + Duration::from_millis(1) < shortest && !drifting {
                        found.broken("too-early", &[failure, number], || sentence("at least", shortest));
                    } else if waited > longest + history.terms.slack && !disturbed {
                        found.broken("too-late", &[failure, number], || sentence("at most", longest));
                    }
                }
                _ => {}
            }
        }
    }
}

/// Whether a fault of these families acted on this node in this time; one that names no node acts on all.
fn acting(
    faults: &[ActiveFault<'_>],
    node: &Name,
    from: Duration,
    until: Duration,
    family: impl Fn(Family) -> bool,
) -> bool {
    faults.iter().any(|fault| {
        let here = fault.nodes.is_empty() || fault.nodes.iter().any(|of| of == node || *of == WORLD);
        here && family(fault.family) && fault.overlaps(from, until)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::story::{Story, billing, kinds};
    use crate::history::GroupTerms;

    const SILENT: [&str; 0] = [];

    fn retried_after(attempt: u32, millis: u64) -> Story {
        Story::new().failed("w", "a-0", 0, attempt).later(millis).started("w", "a-0", 0, attempt + 1)
    }

    #[test]
    fn the_default_policy_waits_one_two_and_four_seconds_within_a_tenth() {
        for (attempt, millis) in [(1, 1000), (1, 905), (1, 1095), (2, 2000), (2, 1805), (3, 4395), (3, 3605)] {
            assert_eq!(kinds(&RetryTiming, &retried_after(attempt, millis).live()), SILENT, "{attempt}: {millis} ms");
        }
    }

    #[test]
    fn a_policy_of_ones_own_is_kept_to_the_millisecond_and_so_is_an_hour() {
        let wait = |retries, base, max, jitter: f64, failures| {
            let terms = GroupTerms {
                retries,
                base: Duration::from_secs(base),
                max: Duration::from_secs(max),
                jitter,
                ..billing()
            };
            terms.wait(failures).map(|(shortest, longest)| (shortest.as_millis(), longest.as_millis()))
        };
        let own: Vec<_> = (0..=6).map(|failures| wait(5, 2, 120, 0.2, failures)).collect();
        let bounds = |steady: u128| Some((steady * 8 / 10, steady * 12 / 10));
        assert_eq!(own, [None, bounds(2000), bounds(4000), bounds(8000), bounds(16_000), bounds(32_000), None]);
        assert_eq!(wait(9, 3600, 3600, 0.0, 9), Some((3_600_000, 3_600_000)));
        assert_eq!(wait(99, 1, 60, 0.0, 99), Some((60_000, 60_000)), "however often it doubles");
    }

    #[test]
    fn other_waits_are_caught() {
        assert_eq!(kinds(&RetryTiming, &retried_after(1, 500).live()), ["too-early"]);
        assert_eq!(kinds(&RetryTiming, &retried_after(1, 2500).live()), ["too-late"]);
        assert_eq!(kinds(&RetryTiming, &retried_after(3, 1000).live()), ["too-early"]);
        assert_eq!(kinds(&RetryTiming, &retried_after(4, 8000).live()), ["too-many"]);
    }

    #[test]
    fn a_node_that_stood_still_may_be_late_but_not_early() {
        let paused = |millis| {
            let story = Story::new().failed("w", "a-0", 0, 1).fault("f1", Family::Pause, &["w"]);
            story.later(millis).started("w", "a-0", 0, 2)
        };
        assert_eq!(kinds(&RetryTiming, &paused(9000).live()), SILENT);
        assert_eq!(kinds(&RetryTiming, &paused(300).live()), ["too-early"]);
        let other = Story::new().failed("w", "a-0", 0, 1).fault("f1", Family::Pause, &["v"]).later(9000);
        assert_eq!(kinds(&RetryTiming, &other.started("w", "a-0", 0, 2).live()), ["too-late"]);
    }

    #[test]
    fn a_new_delivery_counts_anew() {
        let story = Story::new().failed("w", "a-0", 0, 1).read("w", "a-0", 0).started("w", "a-0", 0, 1);
        assert_eq!(kinds(&RetryTiming, &story.live()), SILENT);
    }
}
