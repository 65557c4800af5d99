//! Lawful histories, at random: a system that keeps every promise, in few lines, under crashes, rebalances, retries,
//! redelivery, aborted transactions, zombies and lost acknowledgements. No checker may fire on any of them.
//!
//! And a second property that keeps the first honest: the same system with one thing broken is caught.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use proptest::prelude::*;

use super::story::{billing, truth};
use super::{all, judge};
use crate::chance::Chance;
use crate::history::{Eviction, Fate, Handled, History, Place, Stamp, Terms, TopicPartition, What};
use crate::name::Name;
use crate::plan::Family;

/// What is broken in the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    CommitsWhatItWasGiven,
    StartsAtTheEnd,
    StartsAtZero,
    ForgetsTheDeadLetter,
    LosesAcknowledged,
    RetriesAtOnce,
    OvertakesARetry,
    ReadsAborted,
    KeepsHandlersOverRevocation,
}

const PARTITIONS: i32 = 2;
const WORKERS: [&str; 3] = ["worker-1", "worker-2", "worker-3"];

struct World {
    history: History,
    chance: Chance,
    bug: Bug,
    now: Duration,
    logs: BTreeMap<TopicPartition, Vec<Option<Record>>>,
    dead_letters: i64,
    stored: BTreeMap<TopicPartition, i64>,
    sequence: BTreeMap<TopicPartition, i32>,
    generation: i32,
    owners: BTreeMap<TopicPartition, Name>,
    workers: BTreeMap<Name, Worker>,
    published: u32,
    polls: u64,
}

#[derive(Clone)]
struct Record {
    message: Name,
    aggregate: Name,
    aborted: bool,
}

#[derive(Default)]
struct Worker {
    alive: bool,
    /// By partition: what it has in hand.
    hands: BTreeMap<TopicPartition, Hand>,
}

#[derive(Default)]
struct Hand {
    position: i64,
    /// Given and not done with, by aggregate, in order; the head with its attempts and when it may go on.
    lanes: BTreeMap<Name, VecDeque<i64>>,
    heads: BTreeMap<i64, (u32, Duration, bool)>,
    open: BTreeSet<i64>,
}

impl World {
    fn new(seed: u64, bug: Bug) -> Self {
        let terms = Terms { groups: BTreeMap::from([("billing".into(), billing())]), ..Terms::default() };
        let workers =
            WORKERS.iter().map(|name| ((*name).into(), Worker { alive: true, ..Worker::default() })).collect();
        let mut world = Self {
            history: History::on(terms),
            chance: Chance::of(seed, "model"),
            bug,
            now: Duration::ZERO,
            logs: (0..PARTITIONS).map(|partition| (TopicPartition::new("orders", partition), Vec::new())).collect(),
            dead_letters: 0,
            stored: BTreeMap::new(),
            sequence: BTreeMap::new(),
            generation: 0,
            owners: BTreeMap::new(),
            workers,
            published: 0,
            polls: 0,
        };
        world.note("world", What::FaultBegan { label: "f1".into(), family: Family::FailingHandler, nodes: vec![] });
        world.rebalance();
        world
    }

    fn note(&mut self, node: &str, what: What) {
        self.history.record(self.now, node, what);
    }

    fn run(mut self, steps: u32) -> History {
        for _ in 0..steps {
            self.now += Duration::from_millis(self.chance.between(1..=40));
            match self.chance.below(40) {
                0..10 => self.publish(),
                10..20 => self.poll(),
                20..32 => self.handle(),
                32..36 => self.commit(),
                36 => self.crash(),
                37 => self.rebalance(),
                38 => self.evict(),
                _ => self.mark(),
            }
        }
        self.settle();
        let mut history = self.history;
        history.truth = Some(truth(&history, 0));
        if self.bug == Bug::LosesAcknowledged {
            let logs = &mut history.truth.as_mut().unwrap().logs;
            logs.values_mut().next().unwrap().records.pop_first();
        }
        history
    }

    /// Everything comes to rest.
    fn settle(&mut self) {
        self.note("world", What::Healed);
        self.rebalance();
        for _ in 0..2000 {
            self.now += Duration::from_millis(50);
            self.poll();
            self.handle();
            self.handle();
            self.handle();
        }
        for _ in 0..200 {
            self.commit();
            self.mark();
        }
    }

    fn some_partition(&mut self) -> TopicPartition {
        TopicPartition::new("orders", self.chance.below(PARTITIONS as u64) as i32)
    }

    fn publish(&mut self) {
        let tp = self.some_partition();
        self.published += 1;
        let message = Name::from(format!("m{}", self.published));
        // An aggregate keeps to its partition.
        let aggregate = Name::from(format!("A{}-{}", tp.partition, self.chance.below(3)));
        let transaction = self.chance.odds(1, 4).then(|| Name::from(format!("tx-{}", self.published)));
        let aborted = transaction.is_some() && self.chance.odds(1, 2);
        let topic = tp.topic.clone();
        self.note(
            "pub-1",
            What::Attempted {
                message: message.clone(),
                topic,
                aggregate: Some(aggregate.clone()),
                transaction: transaction.clone(),
            },
        );
        if self.chance.odds(1, 20) {
            self.note("pub-1", What::NotSent { message, unknown: false });
            return;
        }
        let offset = self.logs[&tp].len() as i64;
        let at = tp.at(offset);
        let sequence = self.sequence.entry(tp.clone()).or_default();
        let stamp = Some(Stamp { producer: 1, epoch: 0, sequence: *sequence });
        *sequence += 1;
        self.note(
            "broker-1",
            What::Stored {
                at: at.clone(),
                message: message.clone(),
                aggregate: Some(aggregate.clone()),
                stamp,
                transaction: transaction.clone(),
                leader_epoch: 0,
                digest: u64::from(self.published),
            },
        );
        if let Some(transaction) = &transaction {
            let fate = if aborted { Fate::Aborted } else { Fate::Committed };
            self.note("broker-1", What::Marked { partition: tp.clone(), transaction: transaction.clone(), fate });
        }
        let log = self.logs.get_mut(&tp).unwrap();
        log.push(Some(Record { message: message.clone(), aggregate, aborted }));
        if transaction.is_some() {
            log.push(None);
        }
        if self.chance.odds(9, 10) {
            self.note("pub-1", What::Acknowledged { message, at });
        } else {
            self.note("pub-1", What::NotSent { message, unknown: true });
        }
    }

    fn rebalance(&mut self) {
        // In order: who gives a partition up stops its handlers, commits, and only then lets go.
        for (tp, owner) in std::mem::take(&mut self.owners) {
            self.commit_of(&owner, &tp);
            self.stop(&owner, &tp);
            let partitions = vec![tp];
            self.note(&owner, What::Revoked { group: "billing".into(), partitions, lost: false });
        }
        self.assign();
    }

    fn assign(&mut self) {
        self.generation += 1;
        let alive: Vec<Name> =
            self.workers.iter().filter(|(_, worker)| worker.alive).map(|(name, _)| name.clone()).collect();
        let mut owners: BTreeMap<Name, Vec<TopicPartition>> =
            alive.iter().map(|name| (name.clone(), Vec::new())).collect();
        for tp in self.logs.keys().cloned().collect::<Vec<_>>() {
            let owner = self.chance.pick(&alive).unwrap().clone();
            owners.get_mut(&owner).unwrap().push(tp.clone());
            self.owners.insert(tp, owner);
        }
        let handed = owners.iter().map(|(name, partitions)| (name.clone(), partitions.clone())).collect();
        self.note("broker-1", What::Evicted { group: "billing".into(), member: "nobody".into(), why: Eviction::Left });
        self.note(
            "broker-1",
            What::Rebalanced { group: "billing".into(), generation: self.generation, owners: handed },
        );
        for (name, partitions) in owners.into_iter().filter(|(_, partitions)| !partitions.is_empty()) {
            for tp in &partitions {
                let position = match self.bug {
                    Bug::StartsAtTheEnd => self.logs[tp].len() as i64,
                    Bug::StartsAtZero => 0,
                    _ => self.stored.get(tp).copied().unwrap_or_default(),
                };
                let worker = self.workers.get_mut(&name).unwrap();
                worker.hands.insert(tp.clone(), Hand { position, ..Hand::default() });
            }
            let generation = self.generation;
            self.note(&name, What::Assigned { group: "billing".into(), partitions, generation });
        }
    }

    fn stop(&mut self, owner: &Name, tp: &TopicPartition) {
        let Some(hand) = self.workers.get_mut(owner).and_then(|worker| worker.hands.remove(tp)) else { return };
        if self.bug == Bug::KeepsHandlersOverRevocation {
            return;
        }
        for (offset, (attempt, ..)) in hand.heads.into_iter().filter(|(_, (.., running))| *running) {
            self.finished(owner, &tp.at(offset), attempt, Handled::Cancelled);
        }
    }

    fn poll(&mut self) {
        let tp = self.some_partition();
        let Some(owner) = self.owners.get(&tp).cloned() else { return };
        self.poll_of(&owner, &tp);
    }

    fn poll_of(&mut self, owner: &Name, tp: &TopicPartition) {
        self.polls += 1;
        let many = self.chance.between(1..=4);
        for _ in 0..many {
            let hand = self.workers.get_mut(owner).unwrap().hands.get_mut(tp).unwrap();
            let Some(slot) = self.logs[tp].get(hand.position as usize).cloned() else { return };
            let offset = hand.position;
            hand.position += 1;
            let Some(record) = slot.filter(|record| !record.aborted || self.bug == Bug::ReadsAborted) else { continue };
            hand.lanes.entry(record.aggregate.clone()).or_default().push_back(offset);
            hand.open.insert(offset);
            let (group, at, poll) = ("billing".into(), tp.at(offset), self.polls);
            self.note(owner, What::Delivered { group, at, message: record.message, poll, transaction: None });
        }
    }

    fn record_at(&self, at: &Place) -> Record {
        self.logs[&at.tp][at.offset as usize].clone().unwrap()
    }

    fn started(&mut self, node: &Name, at: &Place, attempt: u32) {
        let Record { message, aggregate, .. } = self.record_at(at);
        self.note(
            node,
            What::Started { group: "billing".into(), at: at.clone(), message, aggregate: Some(aggregate), attempt },
        );
    }

    fn finished(&mut self, node: &Name, at: &Place, attempt: u32, how: Handled) {
        let Record { message, aggregate, .. } = self.record_at(at);
        self.note(
            node,
            What::Finished {
                group: "billing".into(),
                at: at.clone(),
                message,
                aggregate: Some(aggregate),
                attempt,
                how,
            },
        );
    }

    /// Goes on with the first record of some lane: begins it, or ends it one way or another.
    fn handle(&mut self) {
        let tp = self.some_partition();
        let Some(owner) = self.owners.get(&tp).cloned() else { return };
        let lanes: Vec<Name> = self.workers[&owner].hands[&tp].lanes.keys().cloned().collect();
        let Some(lane) = self.chance.pick(&lanes).cloned() else { return };
        let overtakes = self.bug == Bug::OvertakesARetry;
        let hand = self.workers.get_mut(&owner).unwrap().hands.get_mut(&tp).unwrap();
        let queue = hand.lanes.get_mut(&lane).unwrap();
        if overtakes && queue.len() > 1 && hand.heads.get(&queue[0]).is_some_and(|head| !head.2) {
            queue.rotate_left(1);
        }
        let Some(offset) = hand.lanes[&lane].front().copied() else { return };
        let at = tp.at(offset);
        let (attempt, ready, running) = hand.heads.get(&offset).copied().unwrap_or((1, Duration::ZERO, false));
        if !running {
            if self.now >= ready {
                // Timers fire on time, whenever this system gets round to it.
                let fires = if ready.is_zero() { self.now } else { ready + LATE.min(self.now - ready) };
                let now = std::mem::replace(&mut self.now, fires);
                self.started(&owner, &at, attempt);
                self.now = now;
                self.hand(&owner, &tp).heads.insert(offset, (attempt, ready, true));
            }
            return;
        }
        if self.chance.odds(7, 10) {
            self.finished(&owner, &at, attempt, Handled::Well);
            self.done(&owner, &tp, &lane, offset);
        } else if attempt <= 3 {
            self.finished(&owner, &at, attempt, Handled::Failed);
            let wait = Duration::from_secs(1 << (attempt - 1)) * self.chance.between(95..=105) as u32 / 100;
            let wait = if self.bug == Bug::RetriesAtOnce { Duration::from_millis(1) } else { wait };
            let again = (attempt + 1, self.now + wait, false);
            self.hand(&owner, &tp).heads.insert(offset, again);
        } else {
            self.finished(&owner, &at, attempt, Handled::Panicked);
            if self.bug != Bug::ForgetsTheDeadLetter {
                self.give_up(&owner, &at, attempt);
            }
            self.done(&owner, &tp, &lane, offset);
        }
    }

    fn hand(&mut self, owner: &Name, tp: &TopicPartition) -> &mut Hand {
        self.workers.get_mut(owner).unwrap().hands.get_mut(tp).unwrap()
    }

    fn give_up(&mut self, owner: &Name, at: &Place, attempts: u32) {
        let record = self.record_at(at);
        let to = Place::new("orders.dlq", 0, self.dead_letters);
        self.dead_letters += 1;
        let digest = record.message[1..].parse().unwrap();
        self.note(
            "broker-1",
            What::Stored {
                at: to.clone(),
                message: record.message.clone(),
                aggregate: Some(record.aggregate),
                stamp: None,
                transaction: None,
                leader_epoch: 0,
                digest,
            },
        );
        // A crash between the copy and the word about it: the next delivery makes another.
        self.note(
            owner,
            What::DeadLettered {
                group: "billing".into(),
                at: at.clone(),
                to: Some(to),
                message: record.message,
                attempts: Some(attempts),
            },
        );
    }

    fn done(&mut self, owner: &Name, tp: &TopicPartition, lane: &Name, offset: i64) {
        let hand = self.hand(owner, tp);
        hand.open.remove(&offset);
        hand.heads.remove(&offset);
        let queue = hand.lanes.get_mut(lane).unwrap();
        queue.retain(|of| *of != offset);
        if queue.is_empty() {
            hand.lanes.remove(lane);
        }
    }

    fn commit(&mut self) {
        let tp = self.some_partition();
        if let Some(owner) = self.owners.get(&tp).cloned() {
            self.commit_of(&owner, &tp);
        }
    }

    fn commit_of(&mut self, owner: &Name, tp: &TopicPartition) {
        let bug = self.bug;
        let hand = self.hand(owner, tp);
        let offset = hand.open.first().copied().filter(|_| bug != Bug::CommitsWhatItWasGiven).unwrap_or(hand.position);
        let before = self.stored.get(tp).copied();
        if before.is_none_or(|before| before < offset) && offset > 0 || bug == Bug::StartsAtZero {
            self.stored.insert(tp.clone(), offset);
            let (group, partition, generation): (Name, _, _) = ("billing".into(), tp.clone(), self.generation);
            self.note(
                "broker-1",
                What::OffsetStored { group: group.clone(), partition: partition.clone(), offset, generation },
            );
            if self.chance.odds(9, 10) {
                self.note(owner, What::Committed { group, partition, offset });
            }
        }
    }

    /// A worker dies, and another takes its name.
    fn crash(&mut self) {
        let name = Name::from(*self.chance.pick(&WORKERS).unwrap());
        self.workers.get_mut(&name).unwrap().hands.clear();
        self.note(&name, What::NodeCrashed);
        self.owners.retain(|_, owner| *owner != name);
        self.note(&name, What::NodeStarted);
        self.rebalance();
    }

    /// A worker is cut off, is put out, and its partitions are given away while its handlers run; it learns of it late.
    fn evict(&mut self) {
        let name = Name::from(*self.chance.pick(&WORKERS).unwrap());
        let lost: Vec<TopicPartition> =
            self.owners.iter().filter(|(_, owner)| **owner == name).map(|(tp, _)| tp.clone()).collect();
        self.note("broker-1", What::Evicted { group: "billing".into(), member: name.clone(), why: Eviction::Session });
        let hands = std::mem::take(&mut self.workers.get_mut(&name).unwrap().hands);
        self.workers.get_mut(&name).unwrap().alive = false;
        self.owners.retain(|_, owner| *owner != name);
        self.rebalance();
        for _ in 0..5 {
            self.now += Duration::from_millis(7);
            self.poll();
            self.handle();
        }
        for (tp, hand) in hands {
            for (offset, (attempt, ..)) in hand.heads.into_iter().filter(|(_, (.., running))| *running) {
                // Its handler may have ended well before it learns.
                let how = if self.chance.odds(1, 2) { Handled::Well } else { Handled::Cancelled };
                self.finished(&name, &tp.at(offset), attempt, how);
            }
        }
        if !lost.is_empty() {
            self.note(&name, What::Revoked { group: "billing".into(), partitions: lost, lost: true });
        }
        self.workers.get_mut(&name).unwrap().alive = true;
    }

    fn mark(&mut self) {
        let partition = self.some_partition();
        let end = self.logs[&partition].len() as i64;
        self.note("broker-1", What::Watermarks { partition, leader_epoch: 0, start: 0, stable: end, high: end, end });
    }
}

/// How much later than planned this system's timers fire at most.
const LATE: Duration = Duration::from_millis(900);

fn broken(seed: u64, bug: Bug) -> Vec<String> {
    let history = World::new(seed, bug).run(250);
    let judgement = judge(&history, &all());
    judgement
        .violations()
        .map(|violation| format!("{}: {}\n{}", violation.signature, violation.sentence, violation.chain.join("\n")))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 3))]

    #[test]
    fn no_checker_fires_on_a_lawful_history(seed in any::<u64>()) {
        let broken = broken(seed, Bug::None);
        prop_assert!(broken.is_empty(), "{}", broken.join("\n\n"));
    }
}

#[test]
fn every_broken_thing_is_caught_by_the_checker_it_is_for() {
    let bugs = [
        (Bug::CommitsWhatItWasGiven, "commit-watermark/unfinished"),
        (Bug::StartsAtTheEnd, "poll-skip/skipped-at-assignment"),
        (Bug::StartsAtZero, "nonmonotonic-poll/behind-commit"),
        (Bug::ForgetsTheDeadLetter, "dlq-conservation/in-neither"),
        (Bug::LosesAcknowledged, "lost-write/acked-lost"),
        (Bug::RetriesAtOnce, "retry-timing/too-early"),
        (Bug::OvertakesARetry, "aggregate-order/inverted"),
        (Bug::ReadsAborted, "G1a/aborted-read"),
        (Bug::KeepsHandlersOverRevocation, "no-concurrent-handling/take-over"),
    ];
    for (bug, signature) in bugs {
        let caught =
            (0..8).filter(|seed| broken(*seed, bug).iter().any(|broken| broken.starts_with(signature))).count();
        assert!(caught >= 2, "{bug:?} was caught by {signature} in {caught} of 8 histories: {:#?}", broken(0, bug));
    }
}
