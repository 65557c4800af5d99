//! **Promise:** a record is delivered again only for a reason, and no more often than there are reasons.
//!
//! The only reason is a partition given anew, and then only what was not committed when it was given may come again. So
//! the number of duplicates is bounded by what was in hand at each take-over, and zero without one. Kinds:
//! - `without-cause`: a consumer was given a record twice within one assignment.
//! - `committed`: a record came again although its offset had been stored before the partition was given anew.
//! - `after-a-clean-handover`: it came again although its owner was done with it, gave the partition up in order, and no
//!   fault was there to keep it from committing. That it was told to leave is none: it may commit before it goes.
//! - `handled-again`: it was handled well twice within one delivery.
//! - `handled-twice-in-peace`: it was handled well twice, and there was no fault in the whole run.
//!
//! Scenarios: every zombie, a stale stored offset, an epoch that replays a week.
//!
//! **Needs** deliveries, assignments and commits. **Silent** about offsets that expired or were reset by right, topics created
//! anew, and programs that seek.

use std::collections::{BTreeMap, BTreeSet};

use super::view::{Lives, Offsets};
use super::{Checker, Findings};
use crate::history::{Event, Handled, History, Place, TopicPartition, What};
use crate::name::Name;
use crate::plan::Family;

/// Duplicates have a cause.
#[derive(Debug, Clone, Copy, Default)]
pub struct BoundedDuplicates;

type Consumer<'h> = (&'h Name, &'h Name, &'h TopicPartition);

#[derive(Debug, Default)]
struct Assignment {
    /// When it began.
    number: usize,
    /// What the group had stored when it began.
    stored: Option<i64>,
    /// The position was moved by right, or we do not know how it began.
    excused: bool,
}

#[derive(Debug)]
struct Given {
    event: usize,
    /// When the assignment began in which it was given.
    assignment: usize,
    /// When its owner gave the partition up in order, being done with it.
    handed_over: Option<usize>,
    /// … because it left the group.
    left: bool,
}

impl Checker for BoundedDuplicates {
    fn name(&self) -> &'static str {
        "bounded-duplicates"
    }

    fn promise(&self) -> &'static str {
        "a record is delivered again only when its partition was given anew before its offset was stored"
    }

    fn check(&self, history: &History, found: &mut Findings<'_>) {
        let faults = history.faults();
        let mut lives = Lives::default();
        let mut offsets = Offsets::of(history);
        let mut assigned: BTreeMap<Consumer<'_>, Assignment> = BTreeMap::new();
        let mut given: BTreeMap<(&Name, u32, &Place), Given> = BTreeMap::new();
        let mut well: BTreeMap<(&Name, u32, &Place), usize> = BTreeMap::new();
        let mut done: BTreeSet<(&Name, &Name, &Place)> = BTreeSet::new();
        let mut settled: BTreeMap<(&Name, &Name, &Place), usize> = BTreeMap::new();
        let mut leaving: BTreeSet<&Name> = BTreeSet::new();
        for (number, event) in history.numbered() {
            let Event { node, what, at: now } = event;
            lives.see(what);
            offsets.see(what);
            match what {
                What::ShutdownBegan { .. } => drop(leaving.insert(node)),
                What::Assigned { group, partitions, .. } => {
                    leaving.remove(node);
                    for tp in partitions {
                        let stored = offsets.get(group, tp);
                        assigned.insert((node, group, tp), Assignment { number, stored, excused: false });
                    }
                }
                What::Sought { group, partition, .. } => {
                    let consumer = assigned.entry((node, group, partition)).or_default();
                    (consumer.number, consumer.excused) = (number, true);
                }
                What::OffsetsExpired { .. } | What::Elected { unclean: true, .. } => {
                    assigned.values_mut().for_each(|assignment| assignment.excused = true);
                }
                What::Revoked { group, partitions, lost } => {
                    for tp in partitions {
                        assigned.remove(&(node, group, tp));
                    }
                    let theirs =
                        given.iter_mut().filter(|((of, _, at), _)| *of == group && partitions.contains(&at.tp));
                    for ((_, _, at), given) in theirs.filter(|((.., at), _)| !lost && done.contains(&(node, group, at)))
                    {
                        // An offset that was stored is judged as such; this is about one that should have been.
                        let stored = offsets.get(group, &at.tp).is_some_and(|stored| stored > at.offset);
                        given.handed_over = (!stored).then_some(number);
                        given.left = leaving.contains(node);
                    }
                }
                What::NodeCrashed => {
                    assigned.retain(|(of, ..), _| *of != node);
                    settled.retain(|(of, ..), _| *of != node);
                }
                What::Delivered { group, at, message, .. } => {
                    settled.remove(&(node, group, at));
                    let key = (group, lives.of(&at.tp.topic), at);
                    let unknown = Assignment { excused: true, ..Assignment::default() };
                    let assignment = assigned.get(&(node, group, &at.tp)).unwrap_or(&unknown);
                    if let Some(before) = given.get(&key) {
                        let events = [before.event, number];
                        if assigned.contains_key(&(node, group, &at.tp)) && before.assignment == assignment.number {
                            found.broken("without-cause", &events, || {
                                format!("{group} was given {message} at {at} twice in one assignment of {node}")
                            });
                        } else if !assignment.excused && assignment.stored.is_some_and(|stored| stored > at.offset) {
                            found.broken("committed", &events, || {
                                let stored = assignment.stored.unwrap_or_default();
                                format!(
                                    "{group} was given {message} at {at} again, though {stored} was stored for {}",
                                    at.tp
                                )
                            });
                        } else if let Some(handed_over) = before.handed_over
                            && !assignment.excused
                            && !faults
                                .iter()
                                .filter(|fault| fault.family != Family::Churn || !before.left)
                                .any(|fault| fault.overlaps(history.events()[before.event].at, *now))
                        {
                            found.broken("after-a-clean-handover", &[before.event, handed_over, number], || {
                                format!("{group} was given {message} at {at} again, though its owner was done with it and gave {} up in order", at.tp)
                            });
                        }
                    }
                    given.insert(
                        key,
                        Given { event: number, assignment: assignment.number, handed_over: None, left: false },
                    );
                }
                What::Finished { group, at, message, how: Handled::Well, .. } => {
                    done.insert((node, group, at));
                    if let Some(before) = settled.insert((node, group, at), number) {
                        found.broken("handled-again", &[before, number], || {
                            format!("{group} handled {message} at {at} well, and then once more, of one delivery")
                        });
                    }
                    let before = well.insert((group, lives.of(&at.tp.topic), at), number);
                    if let Some(before) = before.filter(|_| faults.is_empty()) {
                        found.broken("handled-twice-in-peace", &[before, number], || {
                            format!("{group} handled {message} at {at} twice in a run without faults")
                        });
                    }
                }
                What::DeadLettered { group, at, .. } => drop(done.insert((node, group, at))),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::story::{Story, kinds};

    const SILENT: [&str; 0] = [];

    fn one() -> Story {
        Story::new().sent("a-0", 0).assigned("w").read("w", "a-0", 0)
    }

    #[test]
    fn a_second_delivery_within_an_assignment_is_caught() {
        assert_eq!(kinds(&BoundedDuplicates, &one().read("w", "a-0", 0).live()), ["without-cause"]);
    }

    #[test]
    fn one_after_the_owner_died_is_not() {
        assert_eq!(kinds(&BoundedDuplicates, &one().crashed("w").assigned("v").read("v", "a-0", 0).live()), SILENT);
    }

    #[test]
    fn one_of_a_stored_offset_is_caught() {
        let story = one().handled("w", "a-0", 0).committed(1).crashed("w").assigned("v").read("v", "a-0", 0);
        assert_eq!(kinds(&BoundedDuplicates, &story.live()), ["committed"]);
    }

    #[test]
    fn a_stale_owner_that_reads_on_is_not() {
        // `v` was given the partition before the offset was stored.
        let story = one().assigned("v").handled("w", "a-0", 0).committed(1).read("v", "a-0", 0);
        assert_eq!(kinds(&BoundedDuplicates, &story.live()), SILENT);
    }

    #[test]
    fn after_a_clean_handover_nothing_comes_again_unless_a_fault_kept_it_from_committing() {
        let handover = |story: Story| story.handled("w", "a-0", 0).revoked("w").assigned("v").read("v", "a-0", 0);
        assert_eq!(kinds(&BoundedDuplicates, &handover(one()).live()), ["after-a-clean-handover"]);
        let faulty = handover(one().fault("f1", Family::Partition, &["w"]));
        assert_eq!(kinds(&BoundedDuplicates, &faulty.live()), SILENT);
        let churn = one().fault("f1", Family::Churn, &["w"]);
        assert_eq!(kinds(&BoundedDuplicates, &handover(churn.clone()).live()), SILENT);
        let leaving = churn.note("w", What::ShutdownBegan { within: std::time::Duration::from_secs(40) });
        assert_eq!(kinds(&BoundedDuplicates, &handover(leaving).live()), ["after-a-clean-handover"]);
        let unfinished = one().revoked("w").assigned("v").read("v", "a-0", 0);
        assert_eq!(kinds(&BoundedDuplicates, &unfinished.live()), SILENT);
    }

    #[test]
    fn what_went_well_is_not_handled_again() {
        let again = one().fault("f1", Family::Pause, &["w"]).handled("w", "a-0", 0).handled("w", "a-0", 0);
        assert_eq!(kinds(&BoundedDuplicates, &again.live()), ["handled-again"]);
        let given_anew = one().fault("f1", Family::Pause, &["w"]).handled("w", "a-0", 0).lost("w").assigned("w");
        let given_anew = given_anew.read("w", "a-0", 0).handled("w", "a-0", 0);
        assert_eq!(kinds(&BoundedDuplicates, &given_anew.live()), SILENT);
    }

    #[test]
    fn in_peace_nothing_is_handled_twice() {
        let twice = |story: Story| {
            story.handled("w", "a-0", 0).lost("w").assigned("v").read("v", "a-0", 0).handled("v", "a-0", 0)
        };
        assert_eq!(kinds(&BoundedDuplicates, &twice(one()).live()), ["handled-twice-in-peace"]);
        assert_eq!(kinds(&BoundedDuplicates, &twice(one().fault("f1", Family::Pause, &["w"])).live()), SILENT);
    }
}
