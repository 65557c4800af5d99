//! **Promise:** a record that was accepted is handled, dead-lettered or still in hand, and its dead letter is the record itself.
//!
//! Kinds:
//! - `in-neither`: a record failed for good, the group's stored offset passed it, and there is no dead letter. Scenario:
//!   the dead letter was sent and nobody waited.
//! - `copy-lost`: the bus says where the dead letter is, and it is not there.
//! - `altered`: its key, value or own headers differ from the original's.
//! - `wrong-attempts`: it does not say as many attempts as were made, or other than the policy asks for.
//! - `twice`: the same delivery was dead-lettered twice.
//! - `handled-too`: a delivery was handled well and dead-lettered.
//! - `not-advanced`: at rest the group's stored offset still stands before a dead-lettered record, so that a restart
//!   dead-letters it again.
//!
//! **Needs** deliveries and handlings; the brokers' logs for `copy-lost`, `altered` and `not-advanced`; rest for the last.
//! **Silent** about dead letters of several deliveries: a crash between dead letter and commit gives two, by right.

use std::collections::{BTreeMap, BTreeSet};

use super::view::{Lives, Offsets, kept};
use super::{Checker, Findings};
use crate::history::{Event, Handled, History, Place, TopicPartition, What};
use crate::name::Name;

/// Dead letters are conserved.
#[derive(Debug, Clone, Copy, Default)]
pub struct DlqConservation;

impl Checker for DlqConservation {
    fn name(&self) -> &'static str {
        "dlq-conservation"
    }

    fn promise(&self) -> &'static str {
        "what was accepted is handled, dead-lettered or in hand, and a dead letter is the record itself"
    }

    fn check(&self, history: &History, found: &mut Findings<'_>) {
        let mut deliveries: BTreeMap<(&Name, &Name, &Place), Delivery> = BTreeMap::new();
        let mut failed: BTreeMap<(&Name, &TopicPartition), BTreeMap<i64, usize>> = BTreeMap::new();
        let mut settled: BTreeSet<(&Name, &Place)> = BTreeSet::new();
        let mut offsets = Offsets::of(history);
        for (number, event) in history.numbered() {
            let Event { node, what, .. } = event;
            offsets.see(what);
            if let Some((group, tp, offset)) = offsets.commit(what) {
                let behind = failed.get(&(group, tp)).and_then(|failed| failed.range(..offset).next());
                if let Some((at, failure)) = behind {
                    found.broken("in-neither", &[*failure, number], || {
                        format!("{group} stored {offset} for {tp}, past {}, which it could not handle and did not dead-letter", tp.at(*at))
                    });
                }
            }
            match what {
                What::Delivered { group, at, .. } => drop(deliveries.insert((node, group, at), Delivery::default())),
                What::Started { group, at, .. } => deliveries.entry((node, group, at)).or_default().attempts += 1,
                What::Finished { group, at, how, .. } => {
                    let delivery = deliveries.entry((node, group, at)).or_default();
                    let behind = failed.entry((group, &at.tp)).or_default();
                    match how {
                        Handled::Well => {
                            delivery.well = Some(number);
                            behind.remove(&at.offset);
                            settled.insert((group, at));
                        }
                        Handled::Failed | Handled::Panicked if !settled.contains(&(group, at)) => {
                            behind.insert(at.offset, number);
                        }
                        _ => {}
                    }
                }
                What::Recreated { topic } => failed.retain(|(_, tp), _| tp.topic != *topic),
                What::DeadLettered { group, at, to, message, attempts } => {
                    settled.insert((group, at));
                    failed.entry((group, &at.tp)).or_default().remove(&at.offset);
                    let delivery = deliveries.entry((node, group, at)).or_default();
                    delivery.judge(history, found, number, event, (*attempts, message));
                    delivery.dead = Some(number);
                    copy(history, found, number, message, at, to.as_ref());
                }
                _ => {}
            }
        }
        if history.healed() && history.truth.is_some() {
            not_advanced(history, found);
        }
    }
}

/// The dead letter is where it should be, and is the record.
fn copy(history: &History, found: &mut Findings<'_>, number: usize, message: &Name, at: &Place, to: Option<&Place>) {
    let Some(truth) = &history.truth else { return };
    let topic = format!("{}{}", at.tp.topic, history.terms.dead_letters);
    let logs = truth.logs.iter().filter(|(tp, _)| to.map_or(tp.topic == *topic, |to| **tp == to.tp));
    let letters = logs.flat_map(|(_, log)| &log.records);
    let copies: Vec<u64> = letters
        .filter(|(offset, letter)| letter.message == *message && to.is_none_or(|to| to.offset == **offset))
        .map(|(_, letter)| letter.digest)
        .collect();
    if copies.is_empty() {
        let trimmed = to.and_then(|to| Some(truth.logs.get(&to.tp)?.start > to.offset)).unwrap_or_default();
        if !trimmed {
            found.broken("copy-lost", &[number], || {
                let place = to.map_or(topic, Place::to_string);
                format!("the dead letter of {message} is not in the log at {place}")
            });
        }
        return;
    }
    let stored = history.numbered().take(number).rev().find_map(|(stored, event)| match &event.what {
        What::Stored { at: there, message: of, digest, .. } if there == at && of == message => {
            Some((Some(stored), *digest))
        }
        _ => None,
    });
    let original =
        stored.or_else(|| kept(history, at).filter(|kept| kept.message == *message).map(|kept| (None, kept.digest)));
    if let Some((stored, _)) = original.filter(|(_, digest)| !copies.contains(digest)) {
        let events: Vec<usize> = stored.into_iter().chain([number]).collect();
        found.broken("altered", &events, || format!("the dead letter of {message} is not what was at {at}"));
    }
}

/// One delivery of a record to one consumer.
#[derive(Debug, Default)]
struct Delivery {
    attempts: u32,
    well: Option<usize>,
    dead: Option<usize>,
}

impl Delivery {
    fn judge(
        &self,
        history: &History,
        found: &mut Findings<'_>,
        number: usize,
        event: &Event,
        (says, message): (Option<u32>, &Name),
    ) {
        let Some(group) = event.what.group() else { return };
        if let Some(well) = self.well {
            found.broken("handled-too", &[well, number], || {
                format!("{group} handled {message} well and dead-lettered it")
            });
        }
        if let Some(dead) = self.dead {
            found.broken("twice", &[dead, number], || format!("{group} dead-lettered one delivery of {message} twice"));
        }
        // Without an attempt it was not fit for a handler: bytes nobody can read are given up at once.
        let policy = history.terms.groups.get(group).map(|terms| terms.retries.saturating_add(1));
        let lies = says.is_some_and(|says| says != self.attempts);
        let wrong = self.attempts > 0 && (lies || policy.is_some_and(|policy| policy != self.attempts));
        if wrong && self.dead.is_none() {
            found.broken("wrong-attempts", &[number], || {
                let policy = policy.map_or_else(String::new, |policy| format!(", the policy asks for {policy}"));
                let says = says.map_or_else(String::new, |says| format!(", its dead letter says {says}"));
                format!("{group} gave {message} up after {} attempts{says}{policy}", self.attempts)
            });
        }
    }
}

fn not_advanced(history: &History, found: &mut Findings<'_>) {
    let Some(truth) = &history.truth else { return };
    let last = Lives::last(history);
    let mut lives = Lives::default();
    for (number, event) in history.numbered() {
        lives.see(&event.what);
        let What::DeadLettered { group, at, message, .. } = &event.what else { continue };
        let current = lives.of(&at.tp.topic) == last.of(&at.tp.topic);
        let stored = truth.offsets.get(&(group.clone(), at.tp.clone())).copied();
        if current && stored.is_some_and(|stored| stored <= at.offset) {
            found.broken("not-advanced", &[number], || {
                format!(
                    "{message} at {at} is dead-lettered and {group} would read it again from {}",
                    stored.unwrap_or_default()
                )
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::story::{Story, kinds};

    const SILENT: [&str; 0] = [];

    /// Four failures, as the policy asks for.
    fn hopeless() -> Story {
        let story = Story::new().sent("a-0", 0).assigned("w").read("w", "a-0", 0);
        (1..=4).fold(story, |story, attempt| story.failed("w", "a-0", 0, attempt))
    }

    #[test]
    fn a_record_given_up_and_kept_is_lawful() {
        let story = hopeless().gave_up("w", "a-0", 0, 0).committed(1).healed();
        assert_eq!(kinds(&DlqConservation, &story.over()), SILENT);
    }

    #[test]
    fn a_commit_past_a_failure_without_a_dead_letter_is_caught() {
        assert_eq!(kinds(&DlqConservation, &hopeless().committed(1).over()), ["in-neither"]);
        assert_eq!(kinds(&DlqConservation, &hopeless().committed(0).over()), SILENT);
    }

    #[test]
    fn a_copy_that_is_not_there_is_caught() {
        let story = hopeless().gave_up("w", "a-0", 0, 0).committed(1);
        let mut history = story.over();
        history.truth.as_mut().unwrap().logs.get_mut(&TopicPartition::new("orders.dlq", 0)).unwrap().records.clear();
        assert_eq!(kinds(&DlqConservation, &history), ["copy-lost"]);
    }

    #[test]
    fn a_copy_that_is_another_is_caught() {
        let mut history = hopeless().gave_up("w", "a-0", 0, 0).committed(1).over();
        let log = history.truth.as_mut().unwrap().logs.get_mut(&TopicPartition::new("orders.dlq", 0)).unwrap();
        log.records.get_mut(&0).unwrap().digest += 1;
        assert_eq!(kinds(&DlqConservation, &history), ["altered"]);
    }

    #[test]
    fn a_copy_is_found_by_its_name_when_nobody_knows_its_place() {
        let gave_up = What::DeadLettered {
            group: "billing".into(),
            at: Place::new("orders", 0, 0),
            to: None,
            message: "a-0".into(),
            attempts: None,
        };
        let story = hopeless().note("w", gave_up).committed(1);
        assert_eq!(kinds(&DlqConservation, &story.clone().over()), ["copy-lost"]);
        assert_eq!(kinds(&DlqConservation, &story.copied("a-0", 0).over()), SILENT);
    }

    #[test]
    fn attempts_that_were_not_made_are_caught() {
        assert_eq!(kinds(&DlqConservation, &hopeless().gave_up_after("w", "a-0", 0, 0, 3).over()), ["wrong-attempts"]);
        let early = Story::new().sent("a-0", 0).read("w", "a-0", 0).failed("w", "a-0", 0, 1);
        assert_eq!(kinds(&DlqConservation, &early.gave_up_after("w", "a-0", 0, 0, 1).over()), ["wrong-attempts"]);
        let unreadable = Story::new().sent("a-0", 0).read("w", "a-0", 0);
        assert_eq!(kinds(&DlqConservation, &unreadable.gave_up_after("w", "a-0", 0, 0, 0).over()), SILENT);
    }

    #[test]
    fn a_delivery_is_dead_lettered_once_and_a_second_delivery_may_be_again() {
        let once = hopeless().gave_up("w", "a-0", 0, 0);
        assert_eq!(kinds(&DlqConservation, &once.clone().gave_up("w", "a-0", 0, 1).over()), ["twice"]);
        let again = once.crashed("w").assigned("v").read("v", "a-0", 0);
        let again =
            (1..=4).fold(again, |story, attempt| story.failed("v", "a-0", 0, attempt)).gave_up("v", "a-0", 0, 1);
        assert_eq!(kinds(&DlqConservation, &again.over()), SILENT);
    }

    #[test]
    fn a_record_that_was_handled_needs_no_dead_letter() {
        let story = Story::new().sent("a-0", 0).read("w", "a-0", 0).handled("w", "a-0", 0);
        assert!(
            kinds(&DlqConservation, &story.gave_up_after("w", "a-0", 0, 0, 1).over())
                .contains(&"handled-too".to_owned())
        );
    }

    #[test]
    fn an_offset_that_stays_before_a_dead_letter_is_caught_at_rest() {
        let story = hopeless().gave_up("w", "a-0", 0, 0).committed(0);
        assert_eq!(kinds(&DlqConservation, &story.clone().healed().over()), ["not-advanced"]);
        assert_eq!(kinds(&DlqConservation, &story.over()), SILENT);
    }
}
