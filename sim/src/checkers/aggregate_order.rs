//! **Promise:** a group is done with the records of an aggregate in the order of the log, and handles again only a suffix.
//!
//! Done with a record is who first handled it well or gave it up to the dead letters. Two kinds: `inverted`, a group was
//! done with a later record before an earlier one of the same aggregate; `replay-skips`, a consumer that was given records
//! again handled a later one before an earlier one it had been given too, so that what it handles again is no suffix.
//! Scenarios: retries that go round the lane, parallel commits with a gap.
//!
//! **Needs** deliveries and handlings with their aggregates. **Silent** about records without a key, and between partitions:
//! when partitions are added a key may move, and Kafka promises nothing across the move.

use std::collections::BTreeMap;

use super::view::{Lives, Sessions};
use super::{Checker, Findings};
use crate::history::{Event, Handled, History, TopicPartition, What};
use crate::name::Name;

/// Each aggregate's records are handled in order.
#[derive(Debug, Clone, Copy, Default)]
pub struct AggregateOrder;

impl Checker for AggregateOrder {
    fn name(&self) -> &'static str {
        "aggregate-order"
    }

    fn promise(&self) -> &'static str {
        "a group is done with the records of an aggregate in the order of the log, and handles again only a suffix"
    }

    fn check(&self, history: &History, found: &mut Findings<'_>) {
        let mut lives = Lives::default();
        let mut sessions = Sessions::default();
        let keys = aggregates(history);
        let mut lanes: BTreeMap<(&Name, u32, &TopicPartition, &Name), Lane> = BTreeMap::new();
        for (number, event) in history.numbered() {
            lives.see(&event.what);
            sessions.see(event);
            let (group, at) = match &event.what {
                What::Delivered { group, at, .. }
                | What::Started { group, at, .. }
                | What::Finished { group, at, .. }
                | What::DeadLettered { group, at, .. }
                | What::Skipped { group, at, .. } => (group, at),
                _ => continue,
            };
            let life = lives.of(&at.tp.topic);
            let Some(aggregate) = keys.get(&(life, &at.tp, at.offset)) else { continue };
            let session = sessions.of(&event.node, group, &at.tp);
            let lane = lanes.entry((group, life, &at.tp, aggregate)).or_default();
            match event.what {
                What::Delivered { .. } => {
                    lane.give(session, at.offset, number);
                    continue;
                }
                // What a handler was begun for was given, and the last that happened to it is what a reader wants to see.
                What::Started { .. }
                | What::Finished { how: Handled::Failed | Handled::Panicked | Handled::Cancelled, .. } => {
                    lane.given.entry(session).or_default().insert(at.offset, number);
                    continue;
                }
                _ => {}
            }
            if !matches!(event.what, What::Skipped { .. })
                && let Some((other, last, kind)) = lane.out_of_turn(session, at.offset)
            {
                found.broken(kind, &[last, number], || {
                    let (first, second) = if other < at.offset { (at.offset, other) } else { (other, at.offset) };
                    format!("{group} was done with {} of {aggregate} before {}", at.tp.at(first), at.tp.at(second))
                });
            }
            lane.done(session, at.offset, number);
        }
    }
}

/// The records of one aggregate in one partition, as one group sees them.
#[derive(Debug, Default)]
struct Lane {
    /// What each session was given and is not done with, with the last event about it.
    given: BTreeMap<u32, BTreeMap<i64, usize>>,
    /// What each session was done with since it was given it.
    went: BTreeMap<u32, BTreeMap<i64, usize>>,
    /// What anybody was first done with, and when.
    done: BTreeMap<i64, usize>,
}

impl Lane {
    /// It reads from here on, perhaps again.
    fn give(&mut self, session: u32, offset: i64, event: usize) {
        self.given.entry(session).or_default().insert(offset, event);
        if let Some(went) = self.went.get_mut(&session) {
            went.split_off(&offset);
        }
    }

    /// An earlier record that should have come first, or a later one that came before this.
    fn out_of_turn(&self, session: u32, offset: i64) -> Option<(i64, usize, &'static str)> {
        let kind = if self.done.contains_key(&offset) { "replay-skips" } else { "inverted" };
        let given = self.given.get(&session).into_iter().flatten();
        let mut open = given.take_while(|(earlier, _)| **earlier < offset);
        if let Some((earlier, last)) = open.find(|(earlier, _)| !self.done.contains_key(earlier)) {
            return Some((*earlier, *last, kind));
        }
        // Whoever had the later one was not given this, or had it in another assignment.
        let later = if kind == "inverted" { Some(&self.done) } else { self.went.get(&session) };
        let (later, done) = later?.range(offset + 1..).next()?;
        Some((*later, *done, kind))
    }

    fn done(&mut self, session: u32, offset: i64, event: usize) {
        self.done.entry(offset).or_insert(event);
        self.went.entry(session).or_default().insert(offset, event);
        if let Some(given) = self.given.get_mut(&session) {
            given.remove(&offset);
        }
    }
}

/// The key of every record, by everybody who named it.
fn aggregates(history: &History) -> BTreeMap<(u32, &TopicPartition, i64), &Name> {
    let mut lives = Lives::default();
    let mut keys = BTreeMap::new();
    let mut by_message = BTreeMap::new();
    for Event { what, .. } in history.events() {
        lives.see(what);
        match what {
            What::Attempted { message, aggregate: Some(aggregate), .. } => drop(by_message.insert(message, aggregate)),
            What::Started { at, aggregate: Some(aggregate), .. }
            | What::Finished { at, aggregate: Some(aggregate), .. }
            | What::Stored { at, aggregate: Some(aggregate), .. } => {
                keys.insert((lives.of(&at.tp.topic), &at.tp, at.offset), aggregate);
            }
            What::Delivered { at, message, .. } => {
                if let Some(aggregate) = by_message.get(message) {
                    keys.entry((lives.of(&at.tp.topic), &at.tp, at.offset)).or_insert(aggregate);
                }
            }
            _ => {}
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::story::{Story, kinds};

    fn two() -> Story {
        Story::new().sent("a-0", 0).sent("a-1", 1).assigned("w").read("w", "a-0", 0).read("w", "a-1", 1)
    }

    #[test]
    fn an_inversion_is_caught() {
        let story = two().handled("w", "a-1", 1).handled("w", "a-0", 0);
        assert_eq!(kinds(&AggregateOrder, &story.live()), ["inverted"]);
    }

    #[test]
    fn one_that_overtakes_a_retry_is_caught() {
        let story = two().failed("w", "a-0", 0, 1).handled("w", "a-1", 1).handled_at("w", "a-0", 0, 2);
        assert_eq!(kinds(&AggregateOrder, &story.live()), ["inverted"]);
    }

    #[test]
    fn one_across_assignments_is_caught() {
        let story =
            two().revoked("w").assigned("v").read("v", "a-1", 1).handled("v", "a-1", 1).revoked("v").assigned("u");
        let story = story.read("u", "a-0", 0).handled("u", "a-0", 0);
        assert_eq!(kinds(&AggregateOrder, &story.live()), ["inverted"]);
    }

    #[test]
    fn other_aggregates_may_overtake() {
        let story = Story::new().sent("a-0", 0).sent("b-0", 1).assigned("w").read("w", "a-0", 0).read("w", "b-0", 1);
        let story = story.handled("w", "b-0", 1).handled("w", "a-0", 0);
        assert_eq!(kinds(&AggregateOrder, &story.live()), [""; 0]);
    }

    #[test]
    fn so_may_what_follows_a_dead_letter() {
        let story = two().gave_up("w", "a-0", 0, 0).handled("w", "a-1", 1);
        assert_eq!(kinds(&AggregateOrder, &story.live()), [""; 0]);
    }

    #[test]
    fn handling_a_suffix_again_is_lawful_and_handling_it_with_a_gap_is_not() {
        let again = || {
            let first = two().handled("w", "a-0", 0).handled("w", "a-1", 1).revoked("w").assigned("v");
            first.read("v", "a-0", 0).read("v", "a-1", 1)
        };
        assert_eq!(kinds(&AggregateOrder, &again().handled("v", "a-0", 0).handled("v", "a-1", 1).live()), [""; 0]);
        assert_eq!(
            kinds(&AggregateOrder, &again().handled("v", "a-1", 1).handled("v", "a-0", 0).live()),
            ["replay-skips"]
        );
    }

    #[test]
    fn what_is_remembered_to_be_done_is_left_out() {
        let story = two().handled("w", "a-0", 0).revoked("w").assigned("v").read("v", "a-0", 0).read("v", "a-1", 1);
        assert_eq!(kinds(&AggregateOrder, &story.handled("v", "a-1", 1).live()), [""; 0]);
    }
}
