//! What happened: the evidence that checkers judge and reports show.
//!
//! Anyone who sees something records it, in the order in which it happened, with the virtual time and the node: the
//! bus's hooks (attempted, acknowledged, delivered, started, finished, committed, dead-lettered, replayed, assigned,
//! revoked), the world (nodes and faults), and the brokers themselves, whose word is the ground truth. At the end the
//! brokers' logs are added whole ([`History::truth`]); a live run against a real Kafka has none, and then the checkers
//! that need it say so instead of guessing.
//!
//! ```
//! use std::time::Duration;
//! use rehearsal_sim::history::{History, Place, What};
//!
//! let mut history = History::default();
//! history.record(Duration::from_millis(1200), "pub-1", What::Acknowledged {
//!     message: "w17/3".into(),
//!     at: Place::new("orders", 2, 41),
//! });
//! assert_eq!(history.events()[0].to_string(), "1.2s pub-1: w17/3 acknowledged at orders/2@41");
//! ```
//!
//! Rules for those who record:
//! - A **message** has one name for its whole life, `w17/3`, given by the plan and carried in a header. Its copy in a
//!   dead-letter topic has the same.
//! - A topic that was deleted and created anew is another topic; record [`What::Recreated`] in between.
//! - A node that died says nothing more: record [`What::NodeCrashed`], and none of its handlers runs from then on. A node
//!   that starts again says [`What::NodeStarted`].
//! - An attempt at a record begins and ends once, however many handlers it has: [`What::Started`] before the first,
//!   [`What::Finished`] after the last, [`Handled::Well`] only if all went well. A handler that ran out of time has
//!   [failed](Handled::Failed).
//! - A handler that is dropped half way, as at a revocation, ends too: [`Handled::Cancelled`], best recorded by a guard
//!   inside the handler, for the bus has nobody left to tell.
//! - Every [`What::Attempted`] is answered by [`What::Acknowledged`] or [`What::NotSent`]; what is not is stuck.
//! - Who cannot tell one poll from the next gives every delivery a number of its own.
//! - Brokers record [`What::Stored`] before anybody can have read it, and a coordinator [`What::OffsetStored`] before the
//!   commit is answered, so that the order of the events is an order of causes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::name::Name;
use crate::plan::{Family, Time};

/// One run, as evidence.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// What was promised to whom.
    pub terms: Terms,
    events: Vec<Event>,
    /// What was last stored at each place, and its key.
    stored: BTreeMap<Place, (Name, Option<Name>)>,
    /// Frames that went between nodes, for the space-time diagram only; no checker reads them.
    pub frames: Vec<Frame>,
    /// What the brokers had at the end. `None` for a run against brokers we cannot look into.
    pub truth: Option<Truth>,
}

/// What was promised to whom: what checkers must know and no event says.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// The groups, by name.
    pub groups: BTreeMap<Name, GroupTerms>,
    /// What is added to a topic's name for its dead letters: `.dlq`.
    pub dead_letters: Name,
    /// How much later than planned a timer may fire when nothing is wrong. Default 1 s.
    pub slack: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self { groups: BTreeMap::new(), dead_letters: ".dlq".into(), slack: Duration::from_secs(1) }
    }
}

/// The terms on which a group handles.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupTerms {
    /// What it reads.
    pub topics: Vec<Name>,
    /// Whether it sees only what was committed.
    pub read_committed: bool,
    /// Whether it starts at the oldest record when it has no committed offset.
    pub from_earliest: bool,
    /// Retries after the first attempt.
    pub retries: u32,
    /// The wait after the first failure; doubled after each further one.
    pub base: Duration,
    /// The longest wait, before jitter.
    pub max: Duration,
    /// By which share a wait may differ, 0 to 1.
    pub jitter: f64,
    /// After this long without a heartbeat a member is put out.
    pub session: Duration,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When, since the start of the run.
    #[serde(serialize_with = "as_nanos")]
    pub at: Duration,
    /// On which node, or `world` for what happened to all.
    pub node: Name,
    /// What.
    pub what: What,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Name,
    /// Its index.
    pub partition: i32,
}

/// Where a record is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Place {
    /// The partition.
    #[serde(flatten)]
    pub tp: TopicPartition,
    /// Its offset.
    pub offset: i64,
}

/// What came of a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Handled {
    /// It succeeded.
    Well,
    /// It failed.
    Failed,
    /// It panicked.
    Panicked,
    /// It was stopped from outside, by a revocation or a shutdown, and has no further effect.
    Cancelled,
}

/// What became of a transaction, as its producer knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// Its records count.
    Committed,
    /// Its records never were.
    Aborted,
    /// Nobody answered.
    Unknown,
    /// It is neither committed nor aborted.
    Open,
}

/// Who moved a consumer's position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SoughtBy {
    /// The client's `auto.offset.reset`, for want of an offset, or of one that is in range.
    Reset,
    /// The program, which asked for it.
    Program,
}

/// Why a coordinator put a member out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Eviction {
    /// No heartbeat for the session timeout. The member cannot have known at once.
    Session,
    /// It did not join in time.
    Rebalance,
    /// It left: it knew.
    Left,
    /// Another with the same `group.instance.id` took its place.
    Replaced,
}

/// Producer id, epoch and sequence, as an idempotent producer stamps them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Stamp {
    /// The producer id.
    pub producer: i64,
    /// Its epoch.
    pub epoch: i16,
    /// The record's sequence number in this partition.
    pub sequence: i32,
}

/// What happened. Field names say what they mean: `group`, `message`, `aggregate` (the key) are names, `at` and `to`
/// are places, `generation` is the group's, `attempt` counts from 1.
#[expect(missing_docs, reason = "the fields are the same words throughout and explained once, above")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum What {
    /// A publisher was asked to send this.
    Attempted { message: Name, topic: Name, aggregate: Option<Name>, transaction: Option<Name> },
    /// The brokers have it.
    Acknowledged { message: Name, at: Place },
    /// Sending failed; with `unknown` it may be in the log all the same.
    NotSent { message: Name, unknown: bool },
    /// A publisher ended its transaction. `transaction` is one transaction, not a transactional id.
    TransactionEnded { transaction: Name, fate: Fate },

    /// A consumer was given partitions.
    Assigned { group: Name, partitions: Vec<TopicPartition>, generation: i32 },
    /// A consumer gave partitions up; with `lost` it had lost them before it could.
    Revoked { group: Name, partitions: Vec<TopicPartition>, lost: bool },
    /// A consumer's position was moved.
    Sought { group: Name, partition: TopicPartition, to: i64, by: SoughtBy },
    /// A consumer read a record. Records of one answer have the same `poll`, which counts up on each node.
    /// `transaction` is the consumer's own, when it reads inside one.
    Delivered { group: Name, at: Place, message: Name, poll: u64, transaction: Option<Name> },
    /// A handler began.
    Started { group: Name, at: Place, message: Name, aggregate: Option<Name>, attempt: u32 },
    /// A handler is over.
    Finished { group: Name, at: Place, message: Name, aggregate: Option<Name>, attempt: u32, how: Handled },
    /// A record was passed over by rule: another group's replay, a type nobody handles.
    Skipped { group: Name, at: Place, message: Name, why: Name },
    /// A consumer knows its commit was accepted: it goes on from `offset`.
    Committed { group: Name, partition: TopicPartition, offset: i64 },
    /// A copy is in the dead-letter topic and acknowledged. `to` is where, and `attempts` what the copy says of itself,
    /// for those who know.
    DeadLettered { group: Name, at: Place, to: Option<Place>, message: Name, attempts: Option<u32> },
    /// A dead letter went back.
    Replayed { group: Name, from: Place, to: Place, message: Name },
    /// A node began to shut down and has this long.
    ShutdownBegan { within: Duration },
    /// It has shut down.
    ShutdownDone,

    /// A node runs.
    NodeStarted,
    /// A node is dead: none of its threads runs again.
    NodeCrashed,
    /// A node stands still.
    NodePaused,
    /// It goes on.
    NodeResumed,
    /// A fault of the plan began to act on these nodes; on all when none is named. Also what a handler was told to do by
    /// the plan, on the node where it does it.
    FaultBegan { label: Name, family: Family, nodes: Vec<Name> },
    /// It did something: a message was dropped, an answer lost, a request held.
    FaultHit { label: Name },
    /// It is healed.
    FaultEnded { label: Name },
    /// All faults are over. From here on the run has to come to rest.
    Healed,

    /// A broker appended a record. `digest` is of key, value and headers.
    Stored {
        at: Place,
        message: Name,
        aggregate: Option<Name>,
        stamp: Option<Stamp>,
        transaction: Option<Name>,
        leader_epoch: i32,
        digest: u64,
    },
    /// A leader's watermarks changed.
    Watermarks { partition: TopicPartition, leader_epoch: i32, start: i64, stable: i64, high: i64, end: i64 },
    /// A partition has a new leader.
    Elected { partition: TopicPartition, leader: Name, epoch: i32, unclean: bool },
    /// A transaction's end was written into a partition.
    Marked { partition: TopicPartition, transaction: Name, fate: Fate },
    /// A coordinator stored a group's offset.
    OffsetStored { group: Name, partition: TopicPartition, offset: i64, generation: i32 },
    /// A coordinator forgot a group's offsets.
    OffsetsExpired { group: Name },
    /// A coordinator handed out the partitions anew: member's node and what it got.
    Rebalanced { group: Name, generation: i32, owners: Vec<(Name, Vec<TopicPartition>)> },
    /// A coordinator put a member out. `member` is its node.
    Evicted { group: Name, member: Name, why: Eviction },
    /// A topic was deleted and there is a new one of this name.
    Recreated { topic: Name },
}

/// A frame on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Frame {
    /// Who sent it.
    pub from: Name,
    /// Who it was for.
    pub to: Name,
    /// When it was sent.
    #[serde(serialize_with = "as_nanos")]
    pub sent: Duration,
    /// When it arrived; `None` when it never did.
    #[serde(serialize_with = "as_optional_nanos")]
    pub received: Option<Duration>,
    /// What it was: `produce`, `fetch response`.
    pub what: Name,
}

/// What the brokers had at the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Truth {
    /// The logs of the leaders, dead-letter topics included.
    pub logs: BTreeMap<TopicPartition, Log>,
    /// The committed offsets of each group.
    pub offsets: BTreeMap<(Name, TopicPartition), i64>,
}

/// A partition's log at the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log {
    /// The first offset there is.
    pub start: i64,
    /// One past the last record no open transaction precedes.
    pub stable: i64,
    /// One past the last record all in-sync replicas have.
    pub high: i64,
    /// One past the last record.
    pub end: i64,
    /// The records, by offset; control records are left out.
    pub records: BTreeMap<i64, Kept>,
}

/// A record at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its name.
    pub message: Name,
    /// Its key.
    pub aggregate: Option<Name>,
    /// What became of its transaction; [`Fate::Committed`] without one.
    pub fate: Fate,
    /// Of key, value and headers. In a dead-letter topic: of those that came from the original.
    pub digest: u64,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    pub fn new(topic: impl Into<Name>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }

    /// The place at this offset.
    pub fn at(&self, offset: i64) -> Place {
        Place { tp: self.clone(), offset }
    }
}

impl Place {
    /// Offset `offset` of partition `partition` of `topic`.
    pub fn new(topic: impl Into<Name>, partition: i32, offset: i64) -> Self {
        TopicPartition::new(topic, partition).at(offset)
    }
}

impl GroupTerms {
    /// The shortest and longest wait after the `failures`-th failure, counted from 1; `None` when no attempt follows.
    pub fn wait(&self, failures: u32) -> Option<(Duration, Duration)> {
        if failures == 0 || failures > self.retries {
            return None;
        }
        let factor = 1_u32.checked_shl(failures - 1).unwrap_or(u32::MAX);
        let steady = self.base.saturating_mul(factor).min(self.max).as_secs_f64();
        let jitter = if self.jitter.is_finite() { self.jitter.clamp(0.0, 1.0) } else { 0.0 };
        let time = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or(self.max);
        Some((time(steady * (1.0 - jitter)), time(steady * (1.0 + jitter))))
    }
}

impl Log {
    /// The records a consumer may see: below the last stable offset and not aborted, or all below the high watermark.
    pub fn visible(&self, read_committed: bool) -> impl Iterator<Item = (i64, &Kept)> {
        let end = if read_committed { self.stable } else { self.high };
        self.records
            .range(self.start..end.max(self.start))
            .filter(move |(_, kept)| !read_committed || kept.fate == Fate::Committed)
            .map(|(offset, kept)| (*offset, kept))
    }
}

impl History {
    /// A history on these terms.
    pub fn on(terms: Terms) -> Self {
        Self { terms, ..Self::default() }
    }

    /// Adds what happened. Call in the order in which it happened; the answer is the event's number.
    pub fn record(&mut self, at: Duration, node: impl Into<Name>, what: What) -> usize {
        if let What::Stored { at, message, aggregate, .. } = &what {
            self.stored.insert(at.clone(), (message.clone(), aggregate.clone()));
        }
        self.events.push(Event { at, node: node.into(), what });
        self.events.len() - 1
    }

    /// The record last stored at a place, and its key: for those who see places and not names, as the bus's hooks do.
    pub fn stored_at(&self, at: &Place) -> Option<(&Name, Option<&Name>)> {
        self.stored.get(at).map(|(message, aggregate)| (message, aggregate.as_ref()))
    }

    /// How often each fault struck, by label; 0 for one that began and did nothing.
    pub fn hits(&self) -> BTreeMap<&Name, u64> {
        let mut hits = BTreeMap::new();
        for event in &self.events {
            match &event.what {
                What::FaultBegan { label, .. } => drop(hits.entry(label).or_default()),
                What::FaultHit { label } => *hits.entry(label).or_default() += 1,
                _ => {}
            }
        }
        hits
    }

    /// All that happened, in order.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// With their numbers.
    pub fn numbered(&self) -> impl DoubleEndedIterator<Item = (usize, &Event)> + ExactSizeIterator {
        self.events.iter().enumerate()
    }

    /// When the last thing happened.
    pub fn end(&self) -> Duration {
        self.events.iter().map(|event| event.at).max().unwrap_or_default()
    }

    /// All nodes anything happened on, brokers last.
    pub fn nodes(&self) -> Vec<Name> {
        let frames = self.frames.iter().flat_map(|frame| [&frame.from, &frame.to]);
        let nodes: BTreeSet<&Name> = self.events.iter().map(|event| &event.node).chain(frames).collect();
        let (brokers, others): (Vec<&Name>, Vec<&Name>) =
            nodes.into_iter().filter(|node| **node != WORLD).partition(|node| node.starts_with("broker-"));
        others.into_iter().chain(brokers).cloned().collect()
    }

    /// Whether all faults are over and the run had time to come to rest.
    pub fn healed(&self) -> bool {
        self.events.iter().any(|event| event.what == What::Healed)
    }

    /// When each fault acted: label, family, nodes, from, and until when (the end of the run when it never ended).
    pub fn faults(&self) -> Vec<ActiveFault<'_>> {
        let mut faults: Vec<ActiveFault<'_>> = Vec::new();
        for event in &self.events {
            match &event.what {
                What::FaultBegan { label, family, nodes } => {
                    faults.push(ActiveFault { label, family: *family, nodes, from: event.at, until: None });
                }
                What::FaultEnded { label } => {
                    let open = faults.iter_mut().rev().find(|fault| fault.label == label && fault.until.is_none());
                    if let Some(fault) = open {
                        fault.until = Some(event.at);
                    }
                }
                What::Healed => {
                    faults
                        .iter_mut()
                        .filter(|fault| fault.until.is_none())
                        .for_each(|fault| fault.until = Some(event.at));
                }
                _ => {}
            }
        }
        faults
    }

    /// What led to these events, in a few lines: the faults, take-overs and deaths around them, and they themselves.
    pub fn chain(&self, events: &[usize]) -> Vec<String> {
        let (Some(first), Some(last)) = (events.iter().min(), events.iter().max()) else { return Vec::new() };
        let Some(from) = self.events.get(*first).map(|event| event.at.saturating_sub(LEAD)) else { return Vec::new() };
        let groups: BTreeSet<&Name> = events.iter().filter_map(|event| self.events.get(*event)?.what.group()).collect();
        let turns = self
            .numbered()
            .take(last + 1)
            .skip_while(|(_, event)| event.at < from)
            .filter(|(number, event)| !events.contains(number) && event.what.turns(&groups));
        // The latest turns explain most; the events themselves are always there.
        let mut turns: Vec<usize> = turns.map(|(number, _)| number).collect();
        let surplus = turns.len().saturating_sub(TURNS_MAX);
        turns.drain(..surplus);
        let mut chain: BTreeSet<usize> = events.iter().copied().take(EVENTS_MAX).collect();
        chain.extend(turns);
        chain.into_iter().filter_map(|number| self.events.get(number)).map(Event::to_string).collect()
    }
}

/// Who recorded what happened to everybody.
pub const WORLD: &str = "world";

/// How long before the first event of a counter-example its causes are looked for: a session timeout.
const LEAD: Duration = Duration::from_secs(45);

/// How many causes a chain names, and how many events: together with the rest of the report, thirty lines.
const TURNS_MAX: usize = 6;
const EVENTS_MAX: usize = 8;

/// A fault while it acted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveFault<'a> {
    /// Its label in the plan.
    pub label: &'a Name,
    /// Its family.
    pub family: Family,
    /// On whom it acted.
    pub nodes: &'a [Name],
    /// Since when.
    pub from: Duration,
    /// Until when; `None` when it never ended.
    pub until: Option<Duration>,
}

impl ActiveFault<'_> {
    /// Whether it acted at some moment from `from` to `until`.
    pub fn overlaps(&self, from: Duration, until: Duration) -> bool {
        self.from <= until && self.until.is_none_or(|end| end >= from)
    }
}

impl What {
    /// The group it is about.
    pub const fn group(&self) -> Option<&Name> {
        match self {
            Self::Assigned { group, .. }
            | Self::Revoked { group, .. }
            | Self::Sought { group, .. }
            | Self::Delivered { group, .. }
            | Self::Started { group, .. }
            | Self::Finished { group, .. }
            | Self::Skipped { group, .. }
            | Self::Committed { group, .. }
            | Self::DeadLettered { group, .. }
            | Self::Replayed { group, .. }
            | Self::OffsetStored { group, .. }
            | Self::OffsetsExpired { group }
            | Self::Rebalanced { group, .. }
            | Self::Evicted { group, .. } => Some(group),
            _ => None,
        }
    }

    /// The message it is about.
    pub const fn message(&self) -> Option<&Name> {
        match self {
            Self::Attempted { message, .. }
            | Self::Acknowledged { message, .. }
            | Self::NotSent { message, .. }
            | Self::Delivered { message, .. }
            | Self::Started { message, .. }
            | Self::Finished { message, .. }
            | Self::Skipped { message, .. }
            | Self::DeadLettered { message, .. }
            | Self::Replayed { message, .. }
            | Self::Stored { message, .. } => Some(message),
            _ => None,
        }
    }

    /// The place it is about.
    pub const fn place(&self) -> Option<&Place> {
        match self {
            Self::Acknowledged { at, .. }
            | Self::Delivered { at, .. }
            | Self::Started { at, .. }
            | Self::Finished { at, .. }
            | Self::Skipped { at, .. }
            | Self::DeadLettered { at, .. }
            | Self::Stored { at, .. } => Some(at),
            Self::Replayed { to, .. } => Some(to),
            _ => None,
        }
    }

    /// Whether it is a turn in the story of these groups: something after which things are otherwise.
    fn turns(&self, groups: &BTreeSet<&Name>) -> bool {
        match self {
            Self::FaultBegan { .. }
            | Self::NodeCrashed
            | Self::NodePaused
            | Self::Recreated { .. }
            | Self::Elected { unclean: true, .. } => true,
            Self::Revoked { .. } | Self::Rebalanced { .. } | Self::Evicted { .. } | Self::OffsetsExpired { .. } => {
                self.group().is_some_and(|group| groups.contains(group))
            }
            _ => false,
        }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.tp, self.offset)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", Time(self.at), self.node, self.what)
    }
}

fn list(items: impl IntoIterator<Item = impl fmt::Display>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    match items.len() {
        0 => "nothing".to_owned(),
        many if many > 8 => format!("{} and {} more", items[..7].join(", "), many - 7),
        _ => items.join(", "),
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attempted { message, topic, .. } => write!(f, "{message} is to be sent to {topic}"),
            Self::Acknowledged { message, at } => write!(f, "{message} acknowledged at {at}"),
            Self::NotSent { message, unknown: true } => write!(f, "nobody answered for {message}"),
            Self::NotSent { message, unknown: false } => write!(f, "{message} was refused"),
            Self::TransactionEnded { transaction, fate } => write!(f, "transaction {transaction}: {}", fate.word()),
            Self::Assigned { group, partitions, generation } => {
                write!(f, "given {} in generation {generation} of {group}", list(partitions))
            }
            Self::Revoked { group, partitions, lost } => {
                write!(f, "{} {} of {group}", if *lost { "lost" } else { "gave up" }, list(partitions))
            }
            Self::Sought { group, partition, to, by } => {
                write!(f, "{group} goes on at {partition}@{to}: {}", by.word())
            }
            Self::Delivered { group, at, message, .. } => write!(f, "{message} delivered to {group} from {at}"),
            Self::Started { group, at, message, attempt, .. } => {
                write!(f, "attempt {attempt} of {group} at {message} began ({at})")
            }
            Self::Finished { group, at, message, attempt, how, .. } => {
                write!(f, "attempt {attempt} of {group} at {message} {} ({at})", how.word())
            }
            Self::Skipped { group, message, why, .. } => write!(f, "{group} passed over {message}: {why}"),
            Self::Committed { group, partition, offset } => write!(f, "{group} committed {partition} up to {offset}"),
            Self::DeadLettered { group, at, to, message, attempts } => {
                write!(f, "{group} gave {message} up")?;
                if let Some(attempts) = attempts {
                    write!(f, " after {attempts} attempts")?;
                }
                match to {
                    Some(to) => write!(f, "; its copy is {to} ({at})"),
                    None => write!(f, " ({at})"),
                }
            }
            Self::Replayed { group, from, to, message } => {
                write!(f, "{message} replayed for {group} from {from} to {to}")
            }
            Self::ShutdownBegan { within } => write!(f, "begins to shut down, within {}", Time(*within)),
            Self::ShutdownDone => f.write_str("has shut down"),
            Self::NodeStarted => f.write_str("starts"),
            Self::NodeCrashed => f.write_str("dies"),
            Self::NodePaused => f.write_str("stands still"),
            Self::NodeResumed => f.write_str("goes on"),
            Self::FaultBegan { label, family, nodes } => write!(f, "{family} #{label} begins on {}", list(nodes)),
            Self::FaultHit { label } => write!(f, "#{label} strikes"),
            Self::FaultEnded { label } => write!(f, "#{label} is over"),
            Self::Healed => f.write_str("all faults are over"),
            Self::Stored { at, message, .. } => write!(f, "{message} stored at {at}"),
            Self::Watermarks { partition, start, stable, high, end, .. } => {
                write!(f, "{partition} has {start} ≤ {stable} (stable) ≤ {high} (high) ≤ {end}")
            }
            Self::Elected { partition, leader, epoch, unclean } => {
                let how = if *unclean { ", though not in sync" } else { "" };
                write!(f, "{leader} leads {partition} in epoch {epoch}{how}")
            }
            Self::Marked { partition, transaction, fate } => {
                write!(f, "transaction {transaction} {} in {partition}", fate.word())
            }
            Self::OffsetStored { group, partition, offset, generation } => {
                write!(f, "offset {offset} of {partition} stored for {group}, generation {generation}")
            }
            Self::OffsetsExpired { group } => write!(f, "the offsets of {group} expired"),
            Self::Rebalanced { group, generation, owners } => {
                let owners = owners.iter().map(|(node, partitions)| format!("{node} {}", partitions.len()));
                write!(f, "generation {generation} of {group}: {}", list(owners))
            }
            Self::Evicted { group, member, why } => write!(f, "{member} is out of {group}: {}", why.word()),
            Self::Recreated { topic } => write!(f, "{topic} was deleted and created anew"),
        }
    }
}

impl Handled {
    /// For sentences: `attempt 1 …`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Well => "succeeded",
            Self::Failed => "failed",
            Self::Panicked => "panicked",
            Self::Cancelled => "was cancelled",
        }
    }
}

impl Fate {
    /// For sentences: `transaction …`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Aborted => "aborted",
            Self::Unknown => "nobody knows how it ended",
            Self::Open => "still open",
        }
    }
}

impl SoughtBy {
    /// For sentences.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Reset => "its offset was reset",
            Self::Program => "the program asked for it",
        }
    }
}

impl Eviction {
    /// For sentences.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Session => "no heartbeat for the session timeout",
            Self::Rebalance => "did not join in time",
            Self::Left => "it left",
            Self::Replaced => "another took its place",
        }
    }
}

fn as_nanos<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

fn as_optional_nanos<S: serde::Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => as_nanos(time, serializer),
        None => serializer.serialize_none(),
    }
}
