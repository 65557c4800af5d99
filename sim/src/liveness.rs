//! Who is stuck on what: the second phase of a run, as in TigerBeetle's VOPR.
//!
//! Safety is judged while faults rage. Then all faults are healed ([`What::Healed`]) and the run gets time to come to rest:
//! every publish answered, every visible record done with and its offset stored, every shutdown over. If it does not,
//! a sentence says who waits for what, so that nobody has to guess from a time-out.
//!
//! The nearest cause is named, in this order: an open transaction, no owner, a dead owner, a handler that runs, a retry
//! that waits, a record in hand, a record not read, an offset not stored.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::checkers::Findings;
use crate::history::{Event, Fate, Handled, History, Log, Place, TopicPartition, What};
use crate::name::Name;
use crate::plan::Time;

/// Its name among the checkers.
pub const NAME: &str = "liveness";

/// What is promised.
pub const PROMISE: &str = "once all faults are over, everything comes to rest";

/// Somebody who waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// For what, in a word: the kind of its [signature](crate::checkers::Signature).
    pub kind: &'static str,
    /// Who waits for what since when, in a sentence.
    pub sentence: String,
    /// The events that show it.
    pub events: Vec<usize>,
}

/// Everybody who waits at the end of this run.
pub fn who_is_stuck(history: &History) -> Vec<Stuck> {
    let mut stuck = unanswered(history);
    stuck.extend(shutdowns(history));
    let scene = Scene::of(history);
    for (tp, log) in history.truth.iter().flat_map(|truth| &truth.logs) {
        for (group, terms) in history.terms.groups.iter().filter(|(_, terms)| terms.topics.contains(&tp.topic)) {
            stuck.extend(scene.waits(history, group, terms.read_committed, tp, log));
        }
    }
    stuck
}

pub(crate) fn check(history: &History, found: &mut Findings<'_>) {
    if history.healed() {
        for stuck in who_is_stuck(history) {
            found.broken(stuck.kind, &stuck.events, || stuck.sentence);
        }
    }
}

/// Publishes nobody answered.
fn unanswered(history: &History) -> Vec<Stuck> {
    let mut open: BTreeMap<(&Name, &Name), usize> = BTreeMap::new();
    for (number, Event { node, what, .. }) in history.numbered() {
        match what {
            What::Attempted { message, .. } => drop(open.insert((node, message), number)),
            What::Acknowledged { message, .. } | What::NotSent { message, .. } => drop(open.remove(&(node, message))),
            What::NodeCrashed => open.retain(|(of, _), _| *of != node),
            _ => {}
        }
    }
    let stuck = |((node, message), number): ((&Name, &Name), usize)| Stuck {
        kind: "publish-unanswered",
        sentence: format!(
            "{node} has waited since {} for an answer about {message}",
            Time(history.events()[number].at)
        ),
        events: vec![number],
    };
    open.into_iter().map(stuck).collect()
}

/// Shutdowns past their deadline. Scenario: a close that waits for a coordinator which never comes back.
fn shutdowns(history: &History) -> Vec<Stuck> {
    let mut stuck = Vec::new();
    let mut open: BTreeMap<&Name, (usize, Duration)> = BTreeMap::new();
    let mut late = |node: &Name, (began, deadline): (usize, Duration), until: Duration, done: Option<usize>| {
        if until > deadline + history.terms.slack {
            let is = if done.is_some() { "shut down" } else { "has not shut down" };
            stuck.push(Stuck {
                kind: "shutdown-late",
                sentence: format!("{node} {is} by {}; its deadline was {}", Time(until), Time(deadline)),
                events: [began].into_iter().chain(done).collect(),
            });
        }
    };
    for (number, Event { at, node, what }) in history.numbered() {
        match what {
            What::ShutdownBegan { within } => drop(open.insert(node, (number, at.saturating_add(*within)))),
            What::ShutdownDone => {
                if let Some(began) = open.remove(node) {
                    late(node, began, *at, Some(number));
                }
            }
            What::NodeCrashed => drop(open.remove(node)),
            _ => {}
        }
    }
    for (node, began) in open {
        late(node, began, history.end(), None);
    }
    stuck
}

/// What everybody was doing at the end.
#[derive(Debug, Default)]
struct Scene<'h> {
    /// Who has which partition by the coordinator's word.
    owners: BTreeMap<(&'h Name, &'h TopicPartition), &'h Name>,
    /// The last generation of each group, by event.
    generations: BTreeMap<&'h Name, usize>,
    dead: BTreeMap<&'h Name, usize>,
    /// The last thing that happened to a record in a group.
    last: BTreeMap<(&'h Name, &'h Place), usize>,
    /// The last record a group read of a partition.
    read: BTreeMap<(&'h Name, &'h TopicPartition), usize>,
}

impl<'h> Scene<'h> {
    fn of(history: &'h History) -> Self {
        let mut scene = Self::default();
        for (number, Event { node, what, .. }) in history.numbered() {
            match what {
                What::Rebalanced { group, owners, .. } => {
                    scene.generations.insert(group, number);
                    scene.owners.retain(|(of, _), _| *of != group);
                    for (member, tp) in owners.iter().flat_map(|(member, tps)| tps.iter().map(move |tp| (member, tp))) {
                        scene.owners.insert((group, tp), member);
                    }
                }
                What::NodeCrashed => drop(scene.dead.insert(node, number)),
                What::NodeStarted => drop(scene.dead.remove(node)),
                What::Delivered { group, at, .. } => {
                    scene.read.insert((group, &at.tp), number);
                    scene.last.insert((group, at), number);
                }
                What::Started { group, at, .. }
                | What::Finished { group, at, .. }
                | What::Skipped { group, at, .. }
                | What::DeadLettered { group, at, .. } => drop(scene.last.insert((group, at), number)),
                _ => {}
            }
        }
        scene
    }

    /// What this group waits for in this partition, if it does.
    fn waits(&self, history: &History, group: &Name, committed: bool, tp: &TopicPartition, log: &Log) -> Option<Stuck> {
        let stuck =
            |kind, sentence, event: Option<usize>| Some(Stuck { kind, sentence, events: event.into_iter().collect() });
        let time = |event: usize| Time(history.events()[event].at);
        if committed && log.stable < log.high {
            let open = log.records.range(log.stable..).find(|(_, kept)| kept.fate == Fate::Open);
            let (open, event) = match open {
                Some((offset, kept)) => (
                    format!("the transaction of {} at {offset} is open", kept.message),
                    stored(history, &tp.at(*offset)),
                ),
                None => ("a transaction there is open".to_owned(), None),
            };
            let sentence =
                format!("{group} cannot read {tp} past {} (stable) to {} (high): {open}", log.stable, log.high);
            return stuck("lso-stuck", sentence, event);
        }
        let stored = history.truth.as_ref().and_then(|truth| truth.offsets.get(&(group.clone(), tp.clone())).copied());
        let from = stored.unwrap_or_default().max(log.start);
        let waiting: Vec<(i64, &Name)> = log
            .visible(committed)
            .filter(|(offset, _)| *offset >= from)
            .map(|(offset, kept)| (offset, &kept.message))
            .collect();
        let (offset, message) = *waiting.first()?;
        let many = match waiting.len() {
            1 => format!("{message} waits at {}", tp.at(offset)),
            many => format!("{many} records wait from {message} at {} on", tp.at(offset)),
        };
        let Some(owner) = self.owners.get(&(group, tp)).copied() else {
            return match self.generations.get(group) {
                Some(generation) => stuck(
                    "no-owner",
                    format!("{many}: {group} gave {tp} to nobody in its last generation"),
                    Some(*generation),
                ),
                // Nobody recorded who has what: then whoever read it last will do.
                None => self.in_hand(history, group, tp, offset, (&many, "nobody known")),
            };
        };
        if let Some(death) = self.dead.get(owner) {
            return stuck(
                "dead-owner",
                format!("{many}: {owner}, which has {tp}, died at {}", time(*death)),
                Some(*death),
            );
        }
        self.in_hand(history, group, tp, offset, (&many, owner))
    }

    /// How far the first record that waits has come.
    fn in_hand(
        &self,
        history: &History,
        group: &Name,
        tp: &TopicPartition,
        offset: i64,
        (many, owner): (&str, &str),
    ) -> Option<Stuck> {
        let at = tp.at(offset);
        let Some(last) = self.last.get(&(group, &at)).copied() else {
            let read = self.read.get(&(group, tp)).copied();
            let since = read.map_or("has read nothing of it".to_owned(), |read| {
                let event = &history.events()[read];
                let read = event.what.place().map_or_else(String::new, Place::to_string);
                format!("last read {read} at {}", Time(event.at))
            });
            let sentence = format!("{many}: {owner} has {tp} for {group} and {since}");
            return Some(Stuck { kind: "not-read", sentence, events: read.into_iter().collect() });
        };
        let Event { at: since, node, what } = &history.events()[last];
        let since = Time(*since);
        let (kind, sentence) = match what {
            What::Started { message, attempt, .. } => {
                ("handler-running", format!("{many}: {node} has handled {message} since {since}, attempt {attempt}"))
            }
            What::Finished { how: Handled::Well, .. } | What::DeadLettered { .. } | What::Skipped { .. } => (
                "not-committed",
                format!("{many}, though {node} was done with it at {since}: its offset is not stored"),
            ),
            What::Finished { attempt, how, .. } => (
                "retry-waiting",
                format!("{many}: attempt {attempt} on {node} {} at {since} and no other followed", how.word()),
            ),
            _ => ("not-started", format!("{many}: {node} read it at {since} and has not begun to handle it")),
        };
        Some(Stuck { kind, sentence, events: vec![last] })
    }
}

fn stored(history: &History, place: &Place) -> Option<usize> {
    history
        .numbered()
        .rev()
        .find(|(_, event)| matches!(&event.what, What::Stored { at, .. } if at == place))
        .map(|(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::story::Story;

    fn sentence(story: Story) -> String {
        let stuck = who_is_stuck(&story.healed().over());
        stuck.iter().map(|stuck| format!("{}: {}", stuck.kind, stuck.sentence)).collect::<Vec<_>>().join("\n")
    }

    fn owned() -> Story {
        Story::new().sent("a-0", 0).sent("a-1", 1).rebalanced(1, &["w"]).assigned("w").later(1500)
    }

    #[test]
    fn a_sentence_says_who_is_stuck_on_what() {
        let sentences = [
            sentence(Story::new().sent("a-0", 0).rebalanced(1, &[])),
            sentence(owned()),
            sentence(owned().crashed("w")),
            sentence(owned().read("w", "a-0", 0).committed(1)),
            sentence(owned().read("w", "a-0", 0)),
            sentence(owned().started("w", "a-0", 0, 2)),
            sentence(owned().failed("w", "a-0", 0, 2)),
            sentence(owned().handled("w", "a-0", 0)),
            sentence(Story::new().stored_in("a-0", 0, "tx")),
            sentence(Story::new().attempted("a-0")),
            sentence(Story::new().note("w", What::ShutdownBegan { within: Duration::from_secs(5) }).later(9000)),
            sentence(
                Story::new()
                    .note("w", What::ShutdownBegan { within: Duration::from_secs(5) })
                    .later(9000)
                    .note("w", What::ShutdownDone),
            ),
        ];
        insta::assert_snapshot!(sentences.join("\n"));
    }

    #[test]
    fn what_came_to_rest_is_not_stuck() {
        let rest =
            owned().read("w", "a-0", 0).handled("w", "a-0", 0).read("w", "a-1", 1).handled("w", "a-1", 1).committed(2);
        assert_eq!(sentence(rest), "");
        let shutdown = Story::new().note("w", What::ShutdownBegan { within: Duration::from_secs(5) }).later(4000);
        assert_eq!(sentence(shutdown.note("w", What::ShutdownDone)), "");
        let died =
            Story::new().note("w", What::ShutdownBegan { within: Duration::from_secs(5) }).crashed("w").later(90_000);
        assert_eq!(sentence(died), "");
    }
}
