//! Little histories for tests, told a step at a time: one group `billing` that reads `orders`, whose partition 0 all is
//! about. A message `a-3` is of aggregate `a`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Checker, Verdict, judge};
use crate::history::{
    Eviction, Fate, GroupTerms, Handled, History, Kept, Place, SoughtBy, Stamp, Terms, TopicPartition, Truth, What,
};
use crate::name::Name;
use crate::plan::Family;

/// The kinds of violations this checker finds; `(unchecked)` when it could not look.
pub(crate) fn kinds<C: Checker + Clone + 'static>(checker: &C, history: &History) -> Vec<String> {
    let judgement = judge(history, &[Box::new(checker.clone())]);
    match &judgement.judged[0].verdict {
        Verdict::Held => Vec::new(),
        Verdict::Unchecked(_) => vec!["(unchecked)".to_owned()],
        Verdict::Broken(violations) => {
            for violation in violations {
                assert!(!violation.sentence.is_empty() && violation.events.len() <= 4, "{violation:?}");
                assert!(violation.events.iter().all(|event| *event < history.events().len()));
                assert!(violation.chain.len() >= violation.events.len());
            }
            violations.iter().map(|violation| violation.signature.kind.to_string()).collect()
        }
    }
}

pub(crate) fn orders() -> TopicPartition {
    TopicPartition::new("orders", 0)
}

pub(crate) fn billing() -> GroupTerms {
    GroupTerms {
        topics: vec!["orders".into()],
        read_committed: true,
        from_earliest: true,
        retries: 3,
        base: Duration::from_secs(1),
        max: Duration::from_secs(60),
        jitter: 0.1,
        session: Duration::from_secs(45),
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Story {
    history: History,
    now: Duration,
    polls: u64,
    start: i64,
}

fn place(offset: i64) -> Place {
    orders().at(offset)
}

fn aggregate(message: &str) -> Option<Name> {
    message.split_once('-').map(|(aggregate, _)| aggregate.into())
}

fn digest(message: &str) -> u64 {
    message.bytes().map(u64::from).sum()
}

impl Story {
    pub(crate) fn new() -> Self {
        let groups = BTreeMap::from([("billing".into(), billing())]);
        Self { history: History::on(Terms { groups, ..Terms::default() }), now: Duration::ZERO, polls: 0, start: 0 }
    }

    pub(crate) fn note(mut self, node: &str, what: What) -> Self {
        // Nothing takes time here but what says so, or waits could not be told exactly.
        self.history.record(self.now, node, what);
        self
    }

    pub(crate) fn later(mut self, millis: u64) -> Self {
        self.now += Duration::from_millis(millis);
        self
    }

    pub(crate) fn starting_at_the_end(mut self) -> Self {
        self.terms().from_earliest = false;
        self
    }

    pub(crate) fn uncommitted(mut self) -> Self {
        self.terms().read_committed = false;
        self
    }

    fn terms(&mut self) -> &mut GroupTerms {
        self.history.terms.groups.get_mut("billing").unwrap()
    }

    // Publishers.

    pub(crate) fn attempted(self, message: &str) -> Self {
        self.attempt(message, None)
    }

    pub(crate) fn attempted_in(self, message: &str, transaction: &str) -> Self {
        self.attempt(message, Some(transaction.into()))
    }

    fn attempt(self, message: &str, transaction: Option<Name>) -> Self {
        let topic = "orders".into();
        self.note(
            "pub-1",
            What::Attempted { message: message.into(), topic, aggregate: aggregate(message), transaction },
        )
    }

    pub(crate) fn acknowledged(self, message: &str, offset: i64) -> Self {
        self.note("pub-1", What::Acknowledged { message: message.into(), at: place(offset) })
    }

    pub(crate) fn sent(self, message: &str, offset: i64) -> Self {
        self.attempted(message).stored(message, offset).acknowledged(message, offset)
    }

    // Brokers.

    pub(crate) fn stored(self, message: &str, offset: i64) -> Self {
        self.store(place(offset), message, None, None)
    }

    pub(crate) fn stored_in(self, message: &str, offset: i64, transaction: &str) -> Self {
        self.store(place(offset), message, Some(transaction.into()), None)
    }

    pub(crate) fn stamped(self, message: &str, offset: i64, sequence: i32) -> Self {
        self.store(place(offset), message, None, Some(Stamp { producer: 7, epoch: 0, sequence }))
    }

    fn store(self, at: Place, message: &str, transaction: Option<Name>, stamp: Option<Stamp>) -> Self {
        let digest = digest(message);
        let aggregate = aggregate(message);
        self.note(
            "broker-1",
            What::Stored { at, message: message.into(), aggregate, stamp, transaction, leader_epoch: 0, digest },
        )
    }

    pub(crate) fn ended(self, transaction: &str, fate: Fate) -> Self {
        self.note("broker-1", What::Marked { partition: orders(), transaction: transaction.into(), fate })
    }

    pub(crate) fn elected(self, leader: &str, epoch: i32, unclean: bool) -> Self {
        self.note("broker-2", What::Elected { partition: orders(), leader: leader.into(), epoch, unclean })
    }

    pub(crate) fn recreated(self) -> Self {
        self.note("broker-1", What::Recreated { topic: "orders".into() })
    }

    pub(crate) fn trimmed(mut self, start: i64) -> Self {
        self.start = start;
        self
    }

    pub(crate) fn committed(self, offset: i64) -> Self {
        self.note(
            "broker-1",
            What::OffsetStored { group: "billing".into(), partition: orders(), offset, generation: 1 },
        )
    }

    pub(crate) fn expired(self) -> Self {
        self.note("broker-1", What::OffsetsExpired { group: "billing".into() })
    }

    pub(crate) fn rebalanced(self, generation: i32, members: &[&str]) -> Self {
        let owners = members
            .iter()
            .enumerate()
            .map(|(index, member)| ((*member).into(), if index == 0 { vec![orders()] } else { Vec::new() }));
        let owners = owners.collect();
        self.note("broker-1", What::Rebalanced { group: "billing".into(), generation, owners })
    }

    pub(crate) fn evicted(self, member: &str, why: Eviction) -> Self {
        self.note("broker-1", What::Evicted { group: "billing".into(), member: member.into(), why })
    }

    // Consumers.

    pub(crate) fn assigned(self, node: &str) -> Self {
        self.note(node, What::Assigned { group: "billing".into(), partitions: vec![orders()], generation: 1 })
    }

    pub(crate) fn revoked(self, node: &str) -> Self {
        self.note(node, What::Revoked { group: "billing".into(), partitions: vec![orders()], lost: false })
    }

    pub(crate) fn lost(self, node: &str) -> Self {
        self.note(node, What::Revoked { group: "billing".into(), partitions: vec![orders()], lost: true })
    }

    pub(crate) fn sought(self, node: &str, to: i64, by: SoughtBy) -> Self {
        self.note(node, What::Sought { group: "billing".into(), partition: orders(), to, by })
    }

    pub(crate) fn read(self, node: &str, message: &str, offset: i64) -> Self {
        self.poll(node, &[(message, offset)])
    }

    pub(crate) fn poll(mut self, node: &str, records: &[(&str, i64)]) -> Self {
        self.polls += 1;
        let poll = self.polls;
        records.iter().fold(self, |story, (message, offset)| story.deliver(node, message, *offset, poll, None))
    }

    pub(crate) fn read_in(mut self, node: &str, message: &str, offset: i64, transaction: &str) -> Self {
        self.polls += 1;
        let poll = self.polls;
        self.deliver(node, message, offset, poll, Some(transaction.into()))
    }

    fn deliver(self, node: &str, message: &str, offset: i64, poll: u64, transaction: Option<Name>) -> Self {
        let (group, at) = ("billing".into(), place(offset));
        self.note(node, What::Delivered { group, at, message: message.into(), poll, transaction })
    }

    pub(crate) fn skipped(self, node: &str, message: &str, offset: i64) -> Self {
        let (group, at) = ("billing".into(), place(offset));
        self.note(node, What::Skipped { group, at, message: message.into(), why: "for another group".into() })
    }

    pub(crate) fn started(self, node: &str, message: &str, offset: i64, attempt: u32) -> Self {
        let (group, at, aggregate) = ("billing".into(), place(offset), aggregate(message));
        self.note(node, What::Started { group, at, message: message.into(), aggregate, attempt })
    }

    fn finished(self, node: &str, message: &str, offset: i64, attempt: u32, how: Handled) -> Self {
        let (group, at, aggregate) = ("billing".into(), place(offset), aggregate(message));
        self.note(node, What::Finished { group, at, message: message.into(), aggregate, attempt, how })
    }

    pub(crate) fn handled(self, node: &str, message: &str, offset: i64) -> Self {
        self.handled_at(node, message, offset, 1)
    }

    pub(crate) fn handled_at(self, node: &str, message: &str, offset: i64, attempt: u32) -> Self {
        self.started(node, message, offset, attempt).finished(node, message, offset, attempt, Handled::Well)
    }

    pub(crate) fn failed(self, node: &str, message: &str, offset: i64, attempt: u32) -> Self {
        self.started(node, message, offset, attempt).finished(node, message, offset, attempt, Handled::Failed)
    }

    pub(crate) fn cancelled(self, node: &str, message: &str, offset: i64, attempt: u32) -> Self {
        self.finished(node, message, offset, attempt, Handled::Cancelled)
    }

    pub(crate) fn gave_up(self, node: &str, message: &str, offset: i64, to: i64) -> Self {
        self.gave_up_after(node, message, offset, to, 4)
    }

    pub(crate) fn gave_up_after(self, node: &str, message: &str, offset: i64, to: i64, attempts: u32) -> Self {
        let copy = Place::new("orders.dlq", 0, to);
        let (group, at) = ("billing".into(), place(offset));
        self.store(copy.clone(), message, None, None).note(
            node,
            What::DeadLettered { group, at, to: Some(copy), message: message.into(), attempts: Some(attempts) },
        )
    }

    pub(crate) fn copied(self, message: &str, to: i64) -> Self {
        self.store(Place::new("orders.dlq", 0, to), message, None, None)
    }

    // The world.

    pub(crate) fn crashed(self, node: &str) -> Self {
        self.note(node, What::NodeCrashed)
    }

    pub(crate) fn fault(self, label: &str, family: Family, nodes: &[&str]) -> Self {
        let nodes = nodes.iter().map(|node| (*node).into()).collect();
        self.note("world", What::FaultBegan { label: label.into(), family, nodes })
    }

    pub(crate) fn healed(self) -> Self {
        self.note("world", What::Healed)
    }

    /// Against brokers nobody can look into.
    pub(crate) fn live(self) -> History {
        self.history
    }

    /// With the logs as what was stored, and when a transaction ended, left them.
    pub(crate) fn over(self) -> History {
        let mut history = self.history;
        history.truth = Some(truth(&history, self.start));
        history
    }
}

pub(crate) fn truth(history: &History, start: i64) -> Truth {
    let mut truth = Truth::default();
    let mut open: BTreeMap<Name, Vec<Place>> = BTreeMap::new();
    for event in history.events() {
        match &event.what {
            What::Recreated { topic } => truth.logs.retain(|tp, _| tp.topic != *topic),
            What::Stored { at, message, aggregate, transaction, digest, .. } => {
                let fate = if transaction.is_some() { Fate::Open } else { Fate::Committed };
                let kept = Kept { message: message.clone(), aggregate: aggregate.clone(), fate, digest: *digest };
                truth.logs.entry(at.tp.clone()).or_default().records.insert(at.offset, kept);
                if let Some(transaction) = transaction {
                    open.entry(transaction.clone()).or_default().push(at.clone());
                }
            }
            What::Marked { transaction, fate, .. } => {
                for at in open.remove(transaction).unwrap_or_default() {
                    truth.logs.get_mut(&at.tp).unwrap().records.get_mut(&at.offset).unwrap().fate = *fate;
                }
            }
            // Markers take offsets too, and are no records.
            What::Watermarks { partition, end, .. } => truth.logs.entry(partition.clone()).or_default().end = *end,
            What::OffsetStored { group, partition, offset, .. } => {
                truth.offsets.insert((group.clone(), partition.clone()), *offset);
            }
            _ => {}
        }
    }
    for (tp, log) in &mut truth.logs {
        log.end = log.records.last_key_value().map_or(0, |(offset, _)| offset + 1).max(log.end);
        log.high = log.end;
        log.stable =
            log.records.iter().find(|(_, kept)| kept.fate == Fate::Open).map_or(log.end, |(offset, _)| *offset);
        if *tp == orders() {
            log.start = start;
            log.records.retain(|offset, _| *offset >= start);
        }
    }
    truth
}
