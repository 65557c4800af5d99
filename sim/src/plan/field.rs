//! The values a plan's lines are made of: how each reads, prints, and what it refers to.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::text::{ParseError, Words};
use crate::name::Name;

/// One value of a line.
pub(super) trait Field: Sized {
    /// What a reader should have written here, for error messages.
    const EXPECTED: &'static str;

    /// Reads one word.
    fn from_word(word: &str) -> Option<Self>;

    /// Writes what [`from_word`](Self::from_word) reads.
    fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;

    /// Reads the next word or says what was expected there.
    fn parse(words: &mut Words<'_>) -> Result<Self, ParseError> {
        words.field(Self::EXPECTED, Self::from_word)
    }

    /// What it refers to.
    fn refers(&self, _to: &mut Vec<Reference>) {}

    /// The time for which a fault lasts, when it is that.
    fn lasting(&mut self) -> Option<&mut Duration> {
        None
    }
}

/// Something a line needs another line for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    /// A broker of the cluster, from 1.
    Broker(u32),
    /// A publisher or worker.
    Node(Name),
    /// A topic.
    Topic(Name),
    /// A partition of a topic.
    Partition(Name, u32),
    /// A consumer group.
    Group(Name),
    /// Another line.
    Line(Name),
}

/// A node, as a fault names it: `broker-2`, or a publisher's or worker's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    /// A broker, counted from 1.
    Broker(u32),
    /// A publisher or worker.
    Named(Name),
}

/// One or more nodes: `broker-1,broker-3,worker-2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nodes(pub Vec<Node>);

/// A broker's number, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Broker(pub u32);

/// The name of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Topic(pub Name);

/// The name of a consumer group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group(pub Name);

/// The name of a publisher or worker, where no broker will do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Client(pub Name);

/// A partition: `orders/3`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Partition {
    /// The topic.
    pub topic: Name,
    /// Its index.
    pub index: u32,
}

/// Records of a `publish` line: `w17/3` is its third (from 0), `w17` all of them.
///
/// A record is named by the line it comes from and not by its place in the whole, so that it keeps its name when other
/// lines go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Records {
    /// The label of the `publish` line.
    pub line: Name,
    /// Which of its records, from 0; all of them when absent.
    pub index: Option<u32>,
}

/// How long a fault lasts. It is healed when it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lasting(pub Duration);

/// A time that may be negative: how far a clock jumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shift {
    /// Whether the clock goes back.
    pub back: bool,
    /// How far.
    pub by: Duration,
}

/// A share from 0 to 1, in thousandths: `0.1` is 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share {
    /// Thousandths.
    pub thousandths: u16,
}

impl Share {
    /// As a fraction.
    pub fn get(self) -> f64 {
        f64::from(self.thousandths) / 1000.0
    }
}

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident, $expected:literal: $($(#[$variant_doc:meta])* $variant:ident = $word:literal),* $(,)?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_doc])* $variant),* }

        impl $name {
            /// All there are.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// As a plan writes it.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl Field for $name {
            const EXPECTED: &'static str = $expected;

            fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)* _ => None }
            }

            fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

choice! {
    /// Whose acknowledgement a publisher waits for.
    Acks, "`all`, `one` or `none`":
    /// All in-sync replicas.
    All = "all",
    /// The leader alone: it may die with the record.
    One = "one",
    /// Nobody.
    None = "none",
}

choice! {
    /// What a consumer sees of transactions.
    Isolation, "`read-committed` or `read-uncommitted`":
    /// Only what was committed.
    ReadCommitted = "read-committed",
    /// Everything.
    ReadUncommitted = "read-uncommitted",
}

choice! {
    /// Where a group starts without a committed offset.
    Reset, "`earliest` or `latest`":
    /// At the oldest record.
    Earliest = "earliest",
    /// At the end: what was there before is not for this group.
    Latest = "latest",
}

choice! {
    /// On or off.
    Switch, "`yes` or `no`":
    /// On.
    Yes = "yes",
    /// Off.
    No = "no",
}

choice! {
    /// How a frame is damaged.
    Damage, "`short` or `flipped`":
    /// It ends too early, then the connection closes.
    Short = "short",
    /// One bit of it is another.
    Flipped = "flipped",
}

choice! {
    /// A request, by its name in Kafka's protocol.
    Api, "a request such as `produce`, `fetch` or `end-txn`":
    /// Produce (0).
    Produce = "produce",
    /// Fetch (1).
    Fetch = "fetch",
    /// ListOffsets (2).
    ListOffsets = "list-offsets",
    /// Metadata (3).
    Metadata = "metadata",
    /// OffsetCommit (8).
    OffsetCommit = "offset-commit",
    /// OffsetFetch (9).
    OffsetFetch = "offset-fetch",
    /// FindCoordinator (10).
    FindCoordinator = "find-coordinator",
    /// JoinGroup (11).
    JoinGroup = "join-group",
    /// Heartbeat (12).
    Heartbeat = "heartbeat",
    /// LeaveGroup (13).
    LeaveGroup = "leave-group",
    /// SyncGroup (14).
    SyncGroup = "sync-group",
    /// ApiVersions (18).
    ApiVersions = "api-versions",
    /// CreateTopics (19).
    CreateTopics = "create-topics",
    /// InitProducerId (22).
    InitProducerId = "init-producer-id",
    /// OffsetForLeaderEpoch (23).
    OffsetForLeaderEpoch = "offset-for-leader-epoch",
    /// AddPartitionsToTxn (24).
    AddPartitionsToTxn = "add-partitions-to-txn",
    /// AddOffsetsToTxn (25).
    AddOffsetsToTxn = "add-offsets-to-txn",
    /// EndTxn (26).
    EndTxn = "end-txn",
    /// TxnOffsetCommit (28).
    TxnOffsetCommit = "txn-offset-commit",
    /// ConsumerGroupHeartbeat (68).
    ConsumerGroupHeartbeat = "consumer-group-heartbeat",
}

impl Api {
    /// Its key in Kafka's protocol.
    pub const fn key(self) -> i16 {
        match self {
            Self::Produce => 0,
            Self::Fetch => 1,
            Self::ListOffsets => 2,
            Self::Metadata => 3,
            Self::OffsetCommit => 8,
            Self::OffsetFetch => 9,
            Self::FindCoordinator => 10,
            Self::JoinGroup => 11,
            Self::Heartbeat => 12,
            Self::LeaveGroup => 13,
            Self::SyncGroup => 14,
            Self::ApiVersions => 18,
            Self::CreateTopics => 19,
            Self::InitProducerId => 22,
            Self::OffsetForLeaderEpoch => 23,
            Self::AddPartitionsToTxn => 24,
            Self::AddOffsetsToTxn => 25,
            Self::EndTxn => 26,
            Self::TxnOffsetCommit => 28,
            Self::ConsumerGroupHeartbeat => 68,
        }
    }
}

choice! {
    /// An error a broker may answer with, by its name in Kafka's protocol. Only those a client has to live through.
    ErrorName, "an error a client retries, such as `NOT_LEADER_OR_FOLLOWER`":
    /// 3
    UnknownTopicOrPartition = "UNKNOWN_TOPIC_OR_PARTITION",
    /// 5
    LeaderNotAvailable = "LEADER_NOT_AVAILABLE",
    /// 6
    NotLeaderOrFollower = "NOT_LEADER_OR_FOLLOWER",
    /// 7
    RequestTimedOut = "REQUEST_TIMED_OUT",
    /// 14
    CoordinatorLoadInProgress = "COORDINATOR_LOAD_IN_PROGRESS",
    /// 15
    CoordinatorNotAvailable = "COORDINATOR_NOT_AVAILABLE",
    /// 16
    NotCoordinator = "NOT_COORDINATOR",
    /// 19
    NotEnoughReplicas = "NOT_ENOUGH_REPLICAS",
    /// 20
    NotEnoughReplicasAfterAppend = "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
    /// 22
    IllegalGeneration = "ILLEGAL_GENERATION",
    /// 25
    UnknownMemberId = "UNKNOWN_MEMBER_ID",
    /// 27
    RebalanceInProgress = "REBALANCE_IN_PROGRESS",
    /// 51
    ConcurrentTransactions = "CONCURRENT_TRANSACTIONS",
    /// 56
    KafkaStorageError = "KAFKA_STORAGE_ERROR",
    /// 74
    FencedLeaderEpoch = "FENCED_LEADER_EPOCH",
    /// 88
    UnstableOffsetCommit = "UNSTABLE_OFFSET_COMMIT",
}

impl ErrorName {
    /// Its code in Kafka's protocol.
    pub const fn code(self) -> i16 {
        match self {
            Self::UnknownTopicOrPartition => 3,
            Self::LeaderNotAvailable => 5,
            Self::NotLeaderOrFollower => 6,
            Self::RequestTimedOut => 7,
            Self::CoordinatorLoadInProgress => 14,
            Self::CoordinatorNotAvailable => 15,
            Self::NotCoordinator => 16,
            Self::NotEnoughReplicas => 19,
            Self::NotEnoughReplicasAfterAppend => 20,
            Self::IllegalGeneration => 22,
            Self::UnknownMemberId => 25,
            Self::RebalanceInProgress => 27,
            Self::ConcurrentTransactions => 51,
            Self::KafkaStorageError => 56,
            Self::FencedLeaderEpoch => 74,
            Self::UnstableOffsetCommit => 88,
        }
    }
}

impl Field for Name {
    const EXPECTED: &'static str = "a name of letters, digits, `.`, `_` and `-`";

    fn from_word(word: &str) -> Option<Self> {
        let lawful = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        (!word.is_empty() && word.len() <= NAME_MAX && word.chars().all(lawful)).then(|| word.into())
    }

    fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

/// As long as a topic's name may be in Kafka.
const NAME_MAX: usize = 249;

/// More partitions or records than any run carries; a slip of the finger should not fill the memory.
const NUMBER_MAX: u32 = 1_000_000;

impl Field for u32 {
    const EXPECTED: &'static str = "a whole number up to 1000000";

    fn from_word(word: &str) -> Option<Self> {
        let digits = word.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| word.parse().ok())?.filter(|number| *number <= NUMBER_MAX)
    }

    fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Field for Broker {
    const EXPECTED: &'static str = "the number of a broker, from 1";

    fn from_word(word: &str) -> Option<Self> {
        u32::from_word(word).map(Self)
    }

    fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.print(f)
    }

    fn refers(&self, to: &mut Vec<Reference>) {
        to.push(Reference::Broker(self.0));
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.print(f)
    }
}

impl Field for Node {
    const EXPECTED: &'static str = "a node such as `broker-2` or `worker-1`";

    fn from_word(word: &str) -> Option<Self> {
        match word.strip_prefix("broker-") {
            Some(number) => u32::from_word(number).map(Self::Broker),
            None => Name::from_word(word).map(Self::Named),
        }
    }

    fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broker(number) => write!(f, "broker-{number}"),
            Self::Named(name) => f.write_str(name),
        }
    }

    fn refers(&self, to: &mut Vec<Reference>) {
        to.push(match self {
            Self::Broker(number) => Reference::Broker(*number),
            Self::Named(name) => Reference::Node(name.clone()),
        });
    }
}

impl Field for Nodes {
    const EXPECTED: &'static str = "nodes such as `broker-1,worker-2`";

    fn from_word(word: &str) -> Option<Self> {
        word.split(',').map(Node::from_word).collect::<Option<_>>().map(Self)
    }

    fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, node) in self.0.iter().enumerate() {
            write!(f, "{}{node}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }

    fn refers(&self, to: &mut Vec<Reference>) {
        self.0.iter().for_each(|node| node.refers(to));
    }
}

macro_rules! named {
    ($($name:ident: $expected:literal, $reference:ident;)*) => {$(
        impl Field for $name {
            const EXPECTED: &'static str = $expected;

            fn from_word(word: &str) -> Option<Self> {
                Name::from_word(word).map(Self)
            }

            fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }

            fn refers(&self, to: &mut Vec<Reference>) {
                to.push(Reference::$reference(self.0.clone()));
            }
        }
    )*};
}

named! {
    Topic: "the name of a topic", Topic;
    Group: "the name of a group", Group;
    Client: "the name of a publisher or worker", Node;
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.index)
    }
}

impl Field for Partition {
    const EXPECTED: &'static str = "a partition such as `orders/3`";

    fn from_word(word: &str) -> Option<Self> {
        let (topic, index) = word.split_once('/')?;
        Some(Self { topic: Name::from_word(topic)?, index: u32::from_word(index)? })
    }

    fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }

    fn refers(&self, to: &mut Vec<Reference>) {
        to.push(Reference::Partition(self.topic.clone(), self.index));
    }
}

impl Field for Records {
    const EXPECTED: &'static str = "records such as `w17` or `w17/3`";

    fn from_word(word: &str) -> Option<Self> {
        match word.split_once('/') {
            None => Some(Self { line: Name::from_word(word)?, index: None }),
            Some((line, index)) => Some(Self { line: Name::from_word(line)?, index: Some(u32::from_word(index)?) }),
        }
    }

    fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            None => write!(f, "{}", self.line),
            Some(index) => write!(f, "{}/{index}", self.line),
        }
    }

    fn refers(&self, to: &mut Vec<Reference>) {
        to.push(Reference::Line(self.line.clone()));
    }
}

impl Field for Duration {
    const EXPECTED: &'static str = "a time such as `12.5s`, `250ms` or `7d`";

    fn from_word(word: &str) -> Option<Self> {
        parse_time(word)
    }

    fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Time(*self))
    }
}

impl Field for Lasting {
    const EXPECTED: &'static str = "how long it lasts, such as `4s`";

    fn from_word(word: &str) -> Option<Self> {
        parse_time(word).filter(|time| !time.is_zero()).map(Self)
    }

    fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.print(f)
    }

    fn lasting(&mut self) -> Option<&mut Duration> {
        Some(&mut self.0)
    }
}

impl Field for Shift {
    const EXPECTED: &'static str = "a shift such as `+30s` or `-500ms`";

    fn from_word(word: &str) -> Option<Self> {
        let back = word.starts_with('-');
        let by = parse_time(word.strip_prefix(['-', '+'])?)?;
        Some(Self { back, by })
    }

    fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.back { "-" } else { "+" })?;
        self.by.print(f)
    }
}

impl Field for Share {
    const EXPECTED: &'static str = "a share from 0 to 1 such as `0.1`, to three places";

    fn from_word(word: &str) -> Option<Self> {
        let thousandths = parse_decimal(word, 3)?;
        u16::try_from(thousandths).ok().filter(|share| *share <= 1000).map(|thousandths| Self { thousandths })
    }

    fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print_decimal(f, u128::from(self.thousandths), 3)
    }
}

/// A time as people write it: `7d`, `1h`, `90s`, `12.5s`, `250ms`, `1.5us`. Exact; [`parse_time`] reads it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub Duration);

const UNITS: &[(&str, u128, u32)] = &[
    ("ns", 1, 0),
    ("us", 1_000, 3),
    ("ms", 1_000_000, 6),
    ("s", 1_000_000_000, 9),
    ("m", 60_000_000_000, 0),
    ("h", 3_600_000_000_000, 0),
    ("d", 86_400_000_000_000, 0),
];

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0s");
        }
        // Minutes only when there are many: 90 seconds read better as `90s` and an hour as `1h`.
        let whole = |size: u128| nanos.is_multiple_of(size);
        let (unit, size, places) = match nanos {
            n if whole(UNITS[6].1) && n >= UNITS[6].1 => UNITS[6],
            _ if whole(UNITS[5].1) => UNITS[5],
            n if whole(UNITS[4].1) && n >= 5 * UNITS[4].1 => UNITS[4],
            n if n >= UNITS[3].1 => UNITS[3],
            n if n >= UNITS[2].1 => UNITS[2],
            n if n >= UNITS[1].1 => UNITS[1],
            _ => UNITS[0],
        };
        if places == 0 {
            write!(f, "{}", nanos / size)?
        } else {
            print_decimal(f, nanos, places)?
        }
        f.write_str(unit)
    }
}

/// Reads a time such as `12.5s`. `None` when it is none, or finer than a nanosecond, or longer than a [`Duration`].
pub fn parse_time(word: &str) -> Option<Duration> {
    let number = word.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = word.split_at(number);
    let (_, size, places) = *UNITS.iter().find(|(name, ..)| *name == unit)?;
    let nanos = if places == 0 { parse_decimal(number, 0)?.checked_mul(size)? } else { parse_decimal(number, places)? };
    let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
    Some(Duration::new(seconds, (nanos % 1_000_000_000) as u32))
}

/// `12.5` to 3 places is 12500.
fn parse_decimal(text: &str, places: u32) -> Option<u128> {
    let (whole, part) = text.split_once('.').map_or((text, None), |(whole, part)| (whole, Some(part)));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || part.is_some_and(|part| !digits(part) || part.len() > places as usize) {
        return None;
    }
    let part = part.unwrap_or_default();
    let scale = 10_u128.pow(places);
    let low = if part.is_empty() { 0 } else { part.parse::<u128>().ok()? * 10_u128.pow(places - part.len() as u32) };
    whole.parse::<u128>().ok()?.checked_mul(scale)?.checked_add(low)
}

fn print_decimal(f: &mut fmt::Formatter<'_>, value: u128, places: u32) -> fmt::Result {
    let scale = 10_u128.pow(places);
    write!(f, "{}", value / scale)?;
    match value % scale {
        0 => Ok(()),
        part => {
            let part = format!("{part:0width$}", width = places as usize);
            write!(f, ".{}", part.trim_end_matches('0'))
        }
    }
}

/// The names among `known`, for an error message; at most a handful.
pub(super) fn listed<'a>(known: impl Iterator<Item = &'a Name>) -> String {
    let known: BTreeSet<&Name> = known.collect();
    match known.len() {
        0 => "there is none".to_owned(),
        many => {
            let shown: Vec<&str> = known.iter().take(8).map(|name| &***name).collect();
            format!("there is {}{}", shown.join(", "), if many > 8 { ", …" } else { "" })
        }
    }
}
