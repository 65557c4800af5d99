//! Views of a history that several checkers share.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::history::{Event, GroupTerms, History, Kept, Place, SoughtBy, TopicPartition, What};
use crate::name::Name;

/// Which life a topic is in: a topic that was deleted and created anew is another one of the same name.
#[derive(Debug, Default)]
pub(super) struct Lives(BTreeMap<Name, u32>);

impl Lives {
    pub(super) fn see(&mut self, what: &What) {
        if let What::Recreated { topic } = what {
            *self.0.entry(topic.clone()).or_default() += 1;
        }
    }

    pub(super) fn of(&self, topic: &Name) -> u32 {
        self.0.get(topic).copied().unwrap_or_default()
    }

    /// The last life of every topic.
    pub(super) fn last(history: &History) -> Self {
        let mut lives = Self::default();
        history.events().iter().for_each(|event| lives.see(&event.what));
        lives
    }
}

/// Whether this is a topic of dead letters.
pub(super) fn is_dead_letters(history: &History, topic: &Name) -> bool {
    topic.ends_with(&*history.terms.dead_letters)
}

/// The groups that read this topic, with their terms.
pub(super) fn readers<'h>(history: &'h History, topic: &'h Name) -> impl Iterator<Item = (&'h Name, &'h GroupTerms)> {
    history.terms.groups.iter().filter(move |(_, terms)| terms.topics.contains(topic))
}

/// Whether this group sees only what was committed; `true` when its terms are not known, as librdkafka's default.
pub(super) fn reads_committed(history: &History, group: &Name) -> bool {
    history.terms.groups.get(group).is_none_or(|terms| terms.read_committed)
}

/// The record at a place, if the brokers have one there.
pub(super) fn kept<'h>(history: &'h History, at: &Place) -> Option<&'h Kept> {
    history.truth.as_ref()?.logs.get(&at.tp)?.records.get(&at.offset)
}

/// What one consumer reads of one partition, from its assignment until it gives it up, with what came before.
#[derive(Debug)]
pub(super) struct Read<'h> {
    /// The number of the delivery.
    pub(super) event: usize,
    pub(super) group: &'h Name,
    pub(super) at: &'h Place,
    pub(super) message: &'h Name,
    /// The delivery before in the same assignment, and whether it came with the same poll.
    pub(super) before: Option<Before<'h>>,
    /// Where the group could lawfully go on when this is the first delivery of an assignment: the lowest and the highest
    /// offset stored while it might have asked. `None` when there was none, or it does not matter.
    pub(super) stored: Option<(i64, i64)>,
    /// Whether the position was moved since, by right.
    pub(super) moved: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Before<'h> {
    pub(super) event: usize,
    pub(super) at: &'h Place,
    pub(super) same_poll: bool,
}

/// Every delivery, in order, with where its consumer was.
///
/// An assignment begins with [`What::Assigned`] and ends with [`What::Revoked`] or the node's death. A deliberate move of
/// the position ([`SoughtBy::Program`]) starts afresh, and so does a reset, provided the group had no stored offset to go
/// on from; a reset despite one is no excuse.
pub(super) fn reads(history: &History) -> Vec<Read<'_>> {
    let mut reads = Vec::new();
    let mut consumers: BTreeMap<(&Name, &Name, &TopicPartition), Consumer<'_>> = BTreeMap::new();
    let mut offsets = Offsets::of(history);
    for (number, Event { node, what, .. }) in history.numbered() {
        offsets.see(what);
        match what {
            What::Assigned { group, partitions, .. } => {
                for tp in partitions {
                    consumers.insert(
                        (node, group, tp),
                        Consumer { since: offsets.stored(group, tp), ..Consumer::default() },
                    );
                }
            }
            What::Revoked { group, partitions, .. } => {
                for tp in partitions {
                    consumers.remove(&(node, group, tp));
                }
            }
            What::NodeCrashed => consumers.retain(|(of, ..), _| *of != node),
            What::Recreated { topic } => consumers.retain(|(.., tp), _| tp.topic != *topic),
            What::OffsetStored { group, partition, offset, .. } | What::Committed { group, partition, offset } => {
                for ((_, of, tp), consumer) in &mut consumers {
                    if *of == group && *tp == partition && consumer.before.is_none() {
                        consumer.since = Some(
                            consumer
                                .since
                                .map_or((*offset, *offset), |(low, high)| (low.min(*offset), high.max(*offset))),
                        );
                    }
                }
            }
            What::Sought { group, partition, by, .. } => {
                let lawful = *by == SoughtBy::Program || offsets.stored(group, partition).is_none();
                if lawful {
                    consumers.insert((node, group, partition), Consumer { moved: true, ..Consumer::default() });
                }
            }
            // What is passed over by rule was read too, with the poll before.
            What::Skipped { group, at, .. } => {
                let consumer = consumers.entry((node, group, &at.tp)).or_default();
                if consumer.before.is_none_or(|(_, before, _)| before.offset < at.offset) {
                    let poll = consumer.before.map_or(0, |(.., poll)| poll);
                    *consumer = Consumer { before: Some((number, at, poll)), since: None, moved: false };
                }
            }
            What::Delivered { group, at, message, poll, .. } => {
                let unassigned = || Consumer { moved: true, ..Consumer::default() };
                let consumer = consumers.entry((node, group, &at.tp)).or_insert_with(unassigned);
                let before = consumer.before.map(|(event, at, last)| Before { event, at, same_poll: last == *poll });
                let stored = if before.is_none() { consumer.since } else { None };
                reads.push(Read { event: number, group, at, message, before, stored, moved: consumer.moved });
                *consumer = Consumer { before: Some((number, at, *poll)), since: None, moved: false };
            }
            _ => {}
        }
    }
    reads
}

#[derive(Debug, Default)]
struct Consumer<'h> {
    before: Option<(usize, &'h Place, u64)>,
    since: Option<(i64, i64)>,
    moved: bool,
}

/// The offsets the coordinators have stored for each group: by their own word if anybody recorded it, else by the word of
/// the consumers that committed.
#[derive(Debug)]
pub(super) struct Offsets<'h> {
    by_coordinator: bool,
    stored: BTreeMap<(&'h Name, &'h TopicPartition), i64>,
}

impl<'h> Offsets<'h> {
    pub(super) fn of(history: &History) -> Self {
        let by_coordinator = history.events().iter().any(|event| matches!(event.what, What::OffsetStored { .. }));
        Self { by_coordinator, stored: BTreeMap::new() }
    }

    /// The commit that takes effect with this event, if one does.
    pub(super) fn commit(&self, what: &'h What) -> Option<(&'h Name, &'h TopicPartition, i64)> {
        match what {
            What::OffsetStored { group, partition, offset, .. } if self.by_coordinator => {
                Some((group, partition, *offset))
            }
            What::Committed { group, partition, offset } if !self.by_coordinator => Some((group, partition, *offset)),
            _ => None,
        }
    }

    pub(super) fn see(&mut self, what: &'h What) {
        if let Some((group, partition, offset)) = self.commit(what) {
            self.stored.insert((group, partition), offset);
        }
        match what {
            What::OffsetsExpired { group } => self.stored.retain(|(of, _), _| *of != group),
            What::Recreated { topic } => self.stored.retain(|(_, tp), _| tp.topic != *topic),
            What::Watermarks { partition, start, .. } => {
                self.stored.retain(|(_, tp), offset| *tp != partition || *offset >= *start);
            }
            // What was committed may lie beyond the new leader's end; then the client resets, by right.
            What::Elected { partition, unclean: true, .. } => self.stored.retain(|(_, tp), _| *tp != partition),
            _ => {}
        }
    }

    /// As lowest and highest.
    pub(super) fn stored(&self, group: &'h Name, tp: &'h TopicPartition) -> Option<(i64, i64)> {
        self.stored.get(&(group, tp)).map(|offset| (*offset, *offset))
    }

    pub(super) fn get(&self, group: &'h Name, tp: &'h TopicPartition) -> Option<i64> {
        self.stored.get(&(group, tp)).copied()
    }
}

/// The first record between two offsets, both excluded, that this group may see.
pub(super) fn visible_between<'h>(
    history: &'h History,
    group: &Name,
    tp: &TopicPartition,
    after: i64,
    before: i64,
) -> Option<(i64, &'h Kept)> {
    if after.saturating_add(1) >= before {
        return None;
    }
    let committed = reads_committed(history, group);
    let log = history.truth.as_ref()?.logs.get(tp)?;
    let mut between = log.records.range((Bound::Excluded(after), Bound::Excluded(before)));
    between
        .find(|(offset, kept)| **offset >= log.start && (!committed || kept.fate == crate::history::Fate::Committed))
        .map(|(offset, kept)| (*offset, kept))
}

/// A send of a publisher that was acknowledged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Send<'h> {
    /// The number of its attempt.
    pub(super) attempted: usize,
    /// The number of its acknowledgement.
    pub(super) acknowledged: usize,
    pub(super) message: &'h Name,
    pub(super) at: &'h Place,
    pub(super) transaction: Option<&'h Name>,
}

/// Which stream of sends has an order: publisher and its life, place and its life, and the aggregate. The bus promises
/// nothing between aggregates, whose sends different tasks may hand over in any order.
type Stream<'h> = (&'h Name, u32, &'h TopicPartition, u32, Option<&'h Name>);

/// The acknowledged sends of each publisher to each partition for each aggregate, in the order in which they were asked
/// for. A message that was asked for twice has no one place in that order and is left out.
pub(super) fn sends(history: &History) -> BTreeMap<Stream<'_>, Vec<Send<'_>>> {
    struct Attempt<'h> {
        number: usize,
        life: u32,
        aggregate: Option<&'h Name>,
        transaction: Option<&'h Name>,
    }
    let mut attempts: BTreeMap<(&Name, &Name), Attempt<'_>> = BTreeMap::new();
    let mut twice: BTreeSet<(&Name, &Name)> = BTreeSet::new();
    let mut nodes: BTreeMap<&Name, u32> = BTreeMap::new();
    let mut lives = Lives::default();
    let mut sends: BTreeMap<Stream<'_>, Vec<Send<'_>>> = BTreeMap::new();
    for (number, Event { node, what, .. }) in history.numbered() {
        lives.see(what);
        match what {
            What::NodeCrashed => *nodes.entry(node).or_default() += 1,
            What::Attempted { message, aggregate, transaction, .. } => {
                let life = nodes.get(node).copied().unwrap_or_default();
                let attempt =
                    Attempt { number, life, aggregate: aggregate.as_ref(), transaction: transaction.as_ref() };
                if attempts.insert((node, message), attempt).is_some() {
                    twice.insert((node, message));
                }
            }
            What::Acknowledged { message, at } => {
                if let Some(attempt) = attempts.get(&(node, message)) {
                    let stream = (node, attempt.life, &at.tp, lives.of(&at.tp.topic), attempt.aggregate);
                    sends.entry(stream).or_default().push(Send {
                        attempted: attempt.number,
                        acknowledged: number,
                        message,
                        at,
                        transaction: attempt.transaction,
                    });
                }
            }
            _ => {}
        }
    }
    for ((node, ..), stream) in &mut sends {
        stream.retain(|send| !twice.contains(&(*node, send.message)));
        stream.sort_by_key(|send| send.attempted);
    }
    sends
}

/// Which transaction each record at each place belongs to: by the broker that stored it, else by the publisher whose
/// acknowledgement names the place.
pub(super) fn transactions(history: &History) -> BTreeMap<&Place, &Name> {
    let mut by_message: BTreeMap<&Name, &Name> = BTreeMap::new();
    let mut by_place = BTreeMap::new();
    for event in history.events() {
        match &event.what {
            What::Attempted { message, transaction, .. } => match transaction {
                Some(transaction) => drop(by_message.insert(message, transaction)),
                None => drop(by_message.remove(message)),
            },
            What::Stored { at, transaction: Some(transaction), .. } => drop(by_place.insert(at, transaction)),
            What::Acknowledged { message, at } => {
                if let Some(transaction) = by_message.get(message) {
                    by_place.entry(at).or_insert(transaction);
                }
            }
            _ => {}
        }
    }
    by_place
}

/// Who has which partition, as sessions: one number from an assignment to its end, unique in the run.
#[derive(Debug, Default)]
pub(super) struct Sessions<'h> {
    open: BTreeMap<(&'h Name, &'h Name, &'h TopicPartition), u32>,
    count: u32,
}

impl<'h> Sessions<'h> {
    pub(super) fn see(&mut self, Event { node, what, .. }: &'h Event) {
        match what {
            What::Assigned { group, partitions, .. } => {
                for tp in partitions {
                    self.count += 1;
                    self.open.insert((node, group, tp), self.count);
                }
            }
            What::NodeCrashed => self.open.retain(|(of, ..), _| *of != node),
            // A handler may finish after its partition went; it still belongs to the session it began in, so the session
            // stays known until there is another.
            _ => {}
        }
    }

    pub(super) fn of(&mut self, node: &'h Name, group: &'h Name, tp: &'h TopicPartition) -> u32 {
        let count = &mut self.count;
        *self.open.entry((node, group, tp)).or_insert_with(|| {
            *count += 1;
            *count
        })
    }
}
