//! What a random sequence is made of, and how one is drawn.
//!
//! An operation is plain data that names slots – topic 0, producer 2, member 1 –, never what is in them, so that any other
//! operation can be dropped from a sequence and what is left still means something.

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

// Topics 0 and 1 exist from the start, with two partitions and one; 2 does not; 3 has a name no topic can have.
/// Producers 0 and 1 are idempotent, 2 and 3 transactional.
pub(super) const PRODUCERS: u8 = 4;
/// Members 0 and 1 belong to group 0, 2 and 3 to group 1; member 3 has a name of its own (KIP-345).
pub(super) const MEMBERS: u8 = 4;
/// Group 2 has members of the consumer protocol.
pub(super) const GROUPS: u8 = 3;
/// Who can be in a group of the consumer protocol.
pub(super) const CONSUMERS: [&str; 2] = ["ann", "bob"];

/// One thing to ask of a broker.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Op {
    Write(Write),
    Read {
        topic: u8,
        partition: i32,
        offset: i64,
        committed: bool,
        epoch: i32,
        version: i16,
    },
    Offsets {
        topic: u8,
        partition: i32,
        at: i64,
        committed: bool,
        epoch: i32,
        version: i16,
    },
    EpochEnd {
        topic: u8,
        partition: i32,
        current: i32,
        epoch: i32,
        version: i16,
    },
    DescribeProducers {
        topic: u8,
        partition: i32,
    },
    /// A fetch in a fetch session.
    Session {
        topic: u8,
        partition: i32,
        offset: i64,
        turn: Turn,
        committed: bool,
        version: i16,
    },
    Metadata {
        topic: u8,
        version: i16,
    },
    Partitions {
        topic: u8,
    },
    Create {
        topic: u8,
        partitions: i32,
        replicas: i16,
        setting: Option<Setting>,
        version: i16,
    },
    Delete {
        topic: u8,
        version: i16,
    },
    Grow {
        topic: u8,
        to: i32,
        version: i16,
    },
    Trim {
        topic: u8,
        partition: i32,
        before: i64,
        version: i16,
    },
    Configure {
        topic: u8,
        setting: Setting,
    },
    Settings {
        topic: u8,
    },
    Init {
        producer: u8,
        claim: Claim,
        timeout_ms: i32,
        version: i16,
    },
    Add {
        producer: u8,
        topic: u8,
        partition: i32,
        epoch: i16,
        version: i16,
    },
    AddGroup {
        producer: u8,
        group: u8,
        epoch: i16,
        version: i16,
    },
    SendOffsets {
        producer: u8,
        group: u8,
        topic: u8,
        offset: i64,
        epoch: i16,
        version: i16,
    },
    End {
        producer: u8,
        commit: bool,
        epoch: i16,
        version: i16,
    },
    /// A marker from nobody's coordinator.
    Mark {
        producer: u8,
        topic: u8,
        partition: i32,
        commit: bool,
        epoch: i16,
        coordinator_epoch: i32,
    },
    DescribeTransaction {
        producer: u8,
    },
    Join {
        member: u8,
        topic: u8,
        protocols: u8,
        anew: bool,
        version: i16,
    },
    Sync {
        member: u8,
        generation: i32,
        version: i16,
    },
    Beat {
        member: u8,
        generation: i32,
        version: i16,
    },
    Leave {
        member: u8,
        version: i16,
    },
    Commit {
        group: u8,
        member: Option<u8>,
        topic: u8,
        partition: i32,
        offset: i64,
        generation: i32,
        version: i16,
    },
    Committed {
        group: u8,
        topic: Option<u8>,
        stable: bool,
        version: i16,
    },
    Forget {
        group: u8,
        topic: u8,
        partition: i32,
    },
    DescribeGroup {
        group: u8,
        version: i16,
    },
    DeleteGroup {
        group: u8,
        version: i16,
    },
    ListGroups {
        version: i16,
    },
    Consume {
        group: u8,
        consumer: u8,
        word: Word,
        version: i16,
    },
    CommitAs {
        group: u8,
        consumer: u8,
        epoch: i32,
        topic: u8,
    },
    DescribeConsumers {
        group: u8,
        version: i16,
    },
    /// A request whose last bytes are missing, in a frame that claims no more.
    Cut {
        bytes: usize,
    },
}

/// A setting of a topic and its new value; the default again when `None`.
pub(super) type Setting = (&'static str, Option<&'static str>);

/// A batch and who writes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Write {
    pub(super) topic: u8,
    pub(super) partition: i32,
    pub(super) producer: Option<u8>,
    /// Added to the producer's own epoch.
    pub(super) epoch: i16,
    /// Added to the sequence that is due.
    pub(super) sequence: i32,
    pub(super) values: Vec<&'static str>,
    pub(super) keyed: bool,
    /// Milliseconds after the script's time.
    pub(super) time: i64,
    /// Between one record and the next.
    pub(super) step: i64,
    pub(super) codec: i16,
    pub(super) harm: Harm,
    pub(super) acks: i16,
    pub(super) version: i16,
}

/// What is wrong with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Harm {
    None,
    /// One byte flipped, counted from the start.
    Flipped(usize),
    /// The last bytes missing.
    CutOff(usize),
    /// More records claimed than there are.
    Count,
    /// Another last offset claimed.
    LastOffset,
    /// Another latest timestamp claimed.
    Latest,
    /// Magic 1.
    Magic,
    /// A control batch, which only brokers write.
    Control,
    /// Transactional, whoever writes it.
    Transactional,
    /// The batch twice.
    Twice,
    /// No records at all.
    Empty,
}

/// Which id and epoch an `InitProducerId` says it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    Nothing,
    Own,
    OlderEpoch,
    NewerEpoch,
    AnotherId,
}

/// What a fetch makes of the fetch session (KIP-227).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// A new session takes the place of the one there is.
    Open,
    /// The next fetch, with another or a changed partition.
    Add,
    /// The next fetch, with nothing new.
    Next,
    /// The next fetch, without a partition.
    Forget,
    /// A fetch with another epoch.
    Skewed(i32),
    /// The last fetch.
    Close,
}

/// What a member of the consumer protocol says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// It joins, subscribed to a topic.
    Join(u8),
    /// It is there.
    Beat,
    /// It holds what it was last told to.
    Hold,
    /// It subscribes to another topic.
    Subscribe(u8),
    /// It is there, with another epoch.
    Skewed(i32),
    /// It leaves.
    Leave,
}

/// The sequence of this seed.
pub(super) fn sequence(seed: u64, length: usize) -> Vec<Op> {
    let mut draw = Draw(SmallRng::seed_from_u64(seed));
    (0..length).map(|_| draw.op()).collect()
}

const SETTINGS: [(&str, &[Option<&str>]); 8] = [
    ("max.message.bytes", &[Some("100"), Some("200"), None]),
    ("message.timestamp.type", &[Some("LogAppendTime"), Some("CreateTime"), None]),
    ("cleanup.policy", &[Some("compact"), Some("compact,delete"), None, None]),
    ("min.insync.replicas", &[Some("2"), None, None]),
    ("compression.type", &[Some("gzip"), Some("uncompressed"), Some("zstd"), Some("lz4"), Some("snappy"), None, None]),
    ("message.timestamp.before.max.ms", &[Some("1000"), None, None]),
    ("retention.ms", &[Some("soon"), Some("-1"), None]),
    ("no.such.setting", &[Some("1")]),
];

struct Draw(SmallRng);

impl Draw {
    fn op(&mut self) -> Op {
        match self.up_to(100) {
            0..20 => Op::Write(self.write()),
            20..34 => self.reading(),
            34..42 => self.admin(),
            42..62 => self.transaction(),
            62..80 => self.classic_group(),
            80..90 => self.offsets(),
            90..98 => self.consumer_group(),
            _ => Op::Cut { bytes: self.up_to(40) },
        }
    }

    fn write(&mut self) -> Write {
        let producer = self.one_in(3).then_some(()).map_or_else(|| Some(self.slot(PRODUCERS)), |()| None);
        Write {
            topic: self.topic(),
            partition: self.partition(),
            producer,
            epoch: self.skew(),
            sequence: self.pick(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1, -2, -4, 1, 7, -100]),
            values: self.values(),
            keyed: !self.one_in(3),
            time: self.pick(&[0, 0, 10, 500, 1_000, 60_000, 1_000_000]),
            step: self.pick(&[0, 1, 10, -5]),
            codec: self.pick(&[0, 0, 0, 0, 1, 2, 3, 4]),
            harm: self.harm(),
            acks: self.pick(&[-1, -1, -1, 1, 1, 1, 2]),
            version: self.within(3, 13),
        }
    }

    fn values(&mut self) -> Vec<&'static str> {
        let count = self.pick(&[1, 1, 2, 3, 5]);
        (0..count)
            .map(|_| self.pick(&["a", "bb", "", "some longer text, some longer text, some longer text"]))
            .collect()
    }

    fn harm(&mut self) -> Harm {
        if !self.one_in(8) {
            return Harm::None;
        }
        match self.up_to(10) {
            0 | 1 => Harm::Flipped(self.up_to(90)),
            2 => Harm::CutOff(1 + self.up_to(70)),
            3 => Harm::Count,
            4 => Harm::LastOffset,
            5 => Harm::Latest,
            6 => self.pick(&[Harm::Magic, Harm::Empty]),
            7 => Harm::Control,
            8 => Harm::Transactional,
            _ => Harm::Twice,
        }
    }

    fn reading(&mut self) -> Op {
        let (topic, partition) = (self.topic(), self.partition());
        let committed = self.one_in(2);
        let epoch = self.pick(&[-1, -1, -1, -1, 0, 1]);
        let offset = self.pick(&[0, 0, 0, 1, 2, 3, 5, 8, -1, 1000]);
        match self.up_to(12) {
            0..4 => Op::Read { topic, partition, offset, committed, epoch, version: self.within(9, 17) },
            8..12 => {
                let skew = self.pick(&[-1, 1, 7]);
                let turn = self.pick(&[
                    Turn::Open,
                    Turn::Add,
                    Turn::Add,
                    Turn::Next,
                    Turn::Next,
                    Turn::Next,
                    Turn::Forget,
                    Turn::Skewed(skew),
                    Turn::Close,
                ]);
                Op::Session { topic, partition, offset, turn, committed, version: self.within(13, 17) }
            }
            4..6 => {
                let at = self.pick(&[-1, -1, -2, -3, -4, -5, -6, -9, 0, 5, 10, 501, 1_000, 2_000_000]);
                Op::Offsets { topic, partition, at, committed, epoch, version: self.within(4, 11) }
            }
            6 => {
                let current = epoch;
                let epoch = self.pick(&[0, 0, 1, -1, 5]);
                Op::EpochEnd { topic, partition, current, epoch, version: self.within(2, 4) }
            }
            _ => Op::DescribeProducers { topic, partition },
        }
    }

    fn admin(&mut self) -> Op {
        let topic = self.topic();
        match self.up_to(12) {
            0 if self.one_in(2) => Op::Partitions { topic },
            0 => Op::Metadata { topic, version: self.within(4, 13) },
            1 | 2 => {
                let partitions = self.pick(&[1, 2, 2, 3, 0, -1]);
                let replicas = self.pick(&[1, 1, 1, 1, -1, 2, 0]);
                let setting = self.one_in(3).then(|| self.setting());
                Op::Create { topic, partitions, replicas, setting, version: self.within(2, 7) }
            }
            3 => Op::Delete { topic, version: self.within(1, 5) },
            4 => Op::Grow { topic, to: self.pick(&[1, 2, 3, 3, 0, -1]), version: self.within(0, 3) },
            5 | 6 => {
                let before = self.pick(&[0, 1, 2, 3, 5, -1, -2, 1000]);
                Op::Trim { topic, partition: self.partition(), before, version: self.within(0, 2) }
            }
            7..11 => Op::Configure { topic, setting: self.setting() },
            _ => Op::Settings { topic },
        }
    }

    fn transaction(&mut self) -> Op {
        let producer = if self.one_in(12) { self.slot(2) } else { 2 + self.slot(2) };
        let (topic, partition, epoch) = (self.topic(), self.partition(), self.skew());
        let group = self.slot(GROUPS);
        match self.up_to(20) {
            0..6 => Op::Write(Write { producer: Some(producer), harm: Harm::None, sequence: 0, epoch, ..self.write() }),
            6..9 => Op::Add { producer, topic, partition, epoch, version: self.within(0, 3) },
            9 => Op::AddGroup { producer, group, epoch, version: self.within(0, 4) },
            10..12 => {
                let offset = self.pick(&[0, 1, 5, 9]);
                Op::SendOffsets { producer, group, topic, offset, epoch, version: self.within(0, 5) }
            }
            12..17 => {
                let version = self.pick(&[5, 5, 5, 4, 3, 1]);
                Op::End { producer, commit: !self.one_in(3), epoch, version }
            }
            17 => {
                let claim =
                    self.pick(&[Claim::Nothing, Claim::Own, Claim::OlderEpoch, Claim::NewerEpoch, Claim::AnotherId]);
                let timeout_ms = self.pick(&[600_000, 600_000, 600_000, 0, 1_000_000]);
                Op::Init { producer: self.slot(PRODUCERS), claim, timeout_ms, version: self.within(3, 5) }
            }
            18 if self.one_in(2) => {
                let (commit, coordinator_epoch) = (self.one_in(2), self.pick(&[0, 0, -1, 1]));
                Op::Mark { producer, topic, partition, commit, epoch, coordinator_epoch }
            }
            _ => Op::DescribeTransaction { producer },
        }
    }

    fn classic_group(&mut self) -> Op {
        let member = self.slot(MEMBERS);
        let generation = self.pick(&[0, 0, 0, 0, 0, 0, 0, -1, 1]);
        match self.up_to(20) {
            0..7 => {
                let protocols = self.pick(&[0, 0, 0, 1, 1, 2, 3, 4]);
                Op::Join { member, topic: self.slot(2), protocols, anew: self.one_in(15), version: self.within(0, 9) }
            }
            7..13 => Op::Sync { member, generation, version: self.within(0, 5) },
            13..16 => Op::Beat { member, generation, version: self.within(0, 4) },
            16 => Op::Leave { member, version: self.within(0, 5) },
            17 => Op::DescribeGroup { group: self.slot(GROUPS), version: self.within(0, 6) },
            18 => Op::DeleteGroup { group: self.slot(GROUPS), version: self.within(0, 2) },
            _ => Op::ListGroups { version: self.within(3, 5) },
        }
    }

    fn offsets(&mut self) -> Op {
        let group = self.slot(GROUPS);
        let (topic, partition) = (self.topic(), self.partition());
        match self.up_to(10) {
            0..5 => {
                let member = self.one_in(2).then(|| self.slot(MEMBERS));
                let generation = self.pick(&[0, 0, 0, 0, -1, 1]);
                let offset = self.pick(&[0, 1, 7, -1, 1_000]);
                Op::Commit { group, member, topic, partition, offset, generation, version: self.within(2, 9) }
            }
            5..9 => {
                let topic = (!self.one_in(3)).then_some(topic);
                Op::Committed { group, topic, stable: self.one_in(2), version: self.within(1, 9) }
            }
            _ => Op::Forget { group, topic, partition },
        }
    }

    fn consumer_group(&mut self) -> Op {
        let group = if self.one_in(10) { self.slot(GROUPS) } else { 2 };
        // Who gets which partition hangs on the members' ids, and those of classic members are the broker's invention: so
        // consumers that join them want a topic of their own.
        let topic = if group == 2 { self.slot(2) } else { 2 };
        let consumer = self.slot(2);
        let version = self.within(0, 1);
        match self.up_to(10) {
            0..7 => {
                let word = match self.up_to(9) {
                    0..3 => Word::Join(topic),
                    3 => Word::Beat,
                    4..6 => Word::Hold,
                    6 if group == 2 => Word::Subscribe(self.slot(3)),
                    6 => Word::Subscribe(2),
                    7 => Word::Skewed(self.pick(&[-1, 1, 5])),
                    _ => Word::Leave,
                };
                Op::Consume { group, consumer, word, version }
            }
            7 => Op::CommitAs { group, consumer, epoch: self.pick(&[0, 0, -1, 1]), topic: self.slot(2) },
            _ => Op::DescribeConsumers { group, version },
        }
    }

    fn setting(&mut self) -> Setting {
        let (key, values) = self.pick(&SETTINGS);
        (key, self.pick(values))
    }

    /// Mostly one that exists.
    fn topic(&mut self) -> u8 {
        self.pick(&[0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3])
    }

    /// Mostly one that exists.
    fn partition(&mut self) -> i32 {
        self.pick(&[0, 0, 0, 0, 0, 1, 1, 2, 9, -1])
    }

    /// Mostly none.
    fn skew(&mut self) -> i16 {
        self.pick(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1, 1])
    }

    fn slot(&mut self, count: u8) -> u8 {
        self.0.random_range(0..count)
    }

    fn up_to(&mut self, end: usize) -> usize {
        self.0.random_range(0..end)
    }

    fn within(&mut self, first: i16, last: i16) -> i16 {
        self.0.random_range(first..=last)
    }

    fn one_in(&mut self, times: u32) -> bool {
        self.0.random_ratio(1, times)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        *from.choose(&mut self.0).expect("something to pick from")
    }
}
