//! What the programs of a run see, gathered in memory all nodes share, and made a [`History`] of at the end.

use super::witness;
use crate::history::{Event, History, Kept, Log, Place, Terms, TopicPartition, Truth, What};
use crate::history::{Fate, WORLD};
use crate::name::Name;
use crate::world::{self, World};
use rehearsal_bus::Source;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Takes down what happens, in order. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Evidence(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    events: Vec<Event>,
    /// Nodes that are dead: they say nothing more.
    dead: BTreeSet<Name>,
    attempted: BTreeSet<Name>,
    /// Publishes nobody has answered yet: node and message.
    open: BTreeSet<(Name, Name)>,
    polls: u64,
}

impl Evidence {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This happened, now.
    pub(super) fn record(&self, node: &Name, what: What) {
        let mut inner = self.inner();
        match &what {
            What::NodeStarted => drop(inner.dead.remove(node)),
            _ if inner.dead.contains(node) => return,
            What::NodeCrashed => {
                inner.dead.insert(node.clone());
                inner.open.retain(|(of, _)| of != node);
            }
            What::Attempted { message, .. } => {
                inner.attempted.insert(message.clone());
                inner.open.insert((node.clone(), message.clone()));
            }
            What::Acknowledged { message, .. } | What::NotSent { message, .. } => {
                inner.open.remove(&(node.clone(), message.clone()));
            }
            _ => {}
        }
        // The time is taken with the lock in hand, so that times rise.
        let at = world::now();
        inner.events.push(Event { at, node: node.clone(), what });
    }

    /// This happened to everybody.
    pub(super) fn record_of_world(&self, what: What) {
        self.record(&WORLD.into(), what);
    }

    /// Whether a publisher was asked for this message already, in this life or one before.
    pub(super) fn was_attempted(&self, message: &Name) -> bool {
        self.inner().attempted.contains(message)
    }

    /// Whether all of so many messages were asked for, and every one answered that somebody still waits for.
    pub(super) fn all_answered(&self, messages: usize) -> bool {
        let inner = self.inner();
        inner.attempted.len() == messages && inner.open.is_empty()
    }

    /// Who cannot tell one poll from the next gives every delivery a number of its own.
    pub(super) fn next_poll(&self) -> u64 {
        let mut inner = self.inner();
        inner.polls += 1;
        inner.polls
    }

    /// The history of the run: what programs saw, the brokers' word, and what the brokers have now.
    pub(super) fn history(&self, world: &World, terms: Terms, topics: &[Name]) -> History {
        let mut events = world.take_seen();
        events.append(&mut self.inner().events);
        // Stable: at equal times the brokers' word comes first, and everybody's own order stays.
        events.sort_by_key(|event| event.at);
        let groups: Vec<Name> = terms.groups.keys().cloned().collect();
        let mut history = History::on(terms);
        for Event { at, node, what } in events {
            let what = named(&history, what);
            history.record(at, node, what);
        }
        history.truth = Some(truth(world, topics, &groups));
        history
    }
}

/// The bus's hooks know places and not names: the names are those of the records stored there.
fn named(history: &History, mut what: What) -> What {
    if let What::Delivered { at, message, .. } | What::DeadLettered { at, message, .. } = &mut what
        && message.is_empty()
        && let Some((stored, _)) = history.stored_at(at)
    {
        *message = stored.clone();
    }
    what
}

fn truth(world: &World, topics: &[Name], groups: &[Name]) -> Truth {
    world.cluster(|cluster| {
        let mut truth = Truth::default();
        for topic in topics {
            for (index, partition) in (0_i32..).zip(cluster.partitions(topic)) {
                let log = &partition.log;
                let kept = |(offset, _, record)| {
                    let (message, aggregate) = (witness::message(&record), witness::aggregate(&record));
                    (offset, Kept { message, aggregate, fate: Fate::Committed, digest: witness::digest(&record) })
                };
                let log = Log {
                    start: log.start_offset(),
                    stable: log.last_stable_offset(),
                    high: log.high_watermark(),
                    end: log.end_offset(),
                    records: witness::stored_from(partition, log.start_offset()).map(kept).collect::<BTreeMap<_, _>>(),
                };
                truth.logs.insert(TopicPartition::new(topic.clone(), index), log);
            }
        }
        for group in groups {
            for (topic, index, committed) in cluster.committed_offsets(group) {
                truth.offsets.insert((group.clone(), TopicPartition::new(topic, index)), committed.offset);
            }
        }
        truth
    })
}

/// A place as the bus names it.
pub(super) fn place(source: &Source) -> Place {
    Place::new(&*source.topic, source.partition, source.offset)
}
