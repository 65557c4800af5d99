//! What a plan's lines can say: the set-up, the records to publish, what handlers do, and the 29 families of faults.
//!
//! Each kind of line is declared once, as its words and fields in the order they are written; reading, printing and the
//! list of what a line refers to all come from that declaration.

use std::fmt;
use std::time::Duration;

use super::field::*;
use super::text::{ParseError, Words};
use crate::name::Name;

/// Declares an enum of lines: `/// doc Variant { fields } = "verb" (field "word" field ["word" optional]);`
macro_rules! lines {
    (
        $(#[$doc:meta])* $enum:ident, $expected:literal:
        $($(#[$variant_doc:meta])* $variant:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)? }
            = $verb:literal ($($part:tt)*);)*
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum $enum { $($(#[$variant_doc])* $variant { $($(#[$field_doc])* $field: $type),* }),* }

        impl $enum {
            /// The first words of all of them.
            pub const VERBS: &'static [&'static str] = &[$($verb),*];

            /// Its first word.
            pub const fn verb(&self) -> &'static str {
                match self { $(Self::$variant { .. } => $verb),* }
            }

            lines!(@parse $enum, $expected; $($variant { $($field),* } = $verb $({$part})*;)*);

            /// What it needs other lines for.
            pub fn references(&self) -> Vec<Reference> {
                let mut to = Vec::new();
                match self { $(Self::$variant { $($field),* } => { $(Refers::refers($field, &mut to);)* }),* }
                to
            }

            /// For how long it lasts, to be changed; `None` when it happens at one moment.
            pub(super) fn lasting_mut(&mut self) -> Option<&mut Duration> {
                match self { $(Self::$variant { $($field),* } => {
                    let fields: Vec<Option<&mut Duration>> = vec![$(Refers::lasting($field)),*];
                    fields.into_iter().flatten().next()
                }),* }
            }
        }

        impl fmt::Display for $enum {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $(Self::$variant { $($field),* } => {
                    f.write_str($verb)?;
                    $(lines!(@print f $part);)*
                    Ok(())
                }),* }
            }
        }
    };

    (@parse $enum:ident, $expected:literal; $($variant:ident { $($field:ident),* } = $verb:literal $({$part:tt})*;)*) => {
        pub(super) fn parse(words: &mut Words<'_>) -> Result<Self, ParseError> {
            match words.verb() {
                $(Some($verb) => { words.next(); $(lines!(@read words $part);)* Ok(Self::$variant { $($field),* }) })*
                _ => Err(words.expected($expected, Self::VERBS)),
            }
        }
    };
    (@read $words:ident $word:literal) => { $words.literal($word)?; };
    (@read $words:ident $field:ident) => { let $field = Field::parse($words)?; };
    (@read $words:ident [$word:literal $field:ident]) => {
        let $field = if $words.take($word) { Some(Field::parse($words)?) } else { None };
    };
    (@print $f:ident $word:literal) => { write!($f, " {}", $word)?; };
    (@print $f:ident $field:ident) => { $f.write_str(" ")?; Field::print($field, $f)?; };
    (@print $f:ident [$word:literal $field:ident]) => {
        if let Some(field) = $field { write!($f, " {} ", $word)?; Field::print(field, $f)?; }
    };
}

/// What a field, or a field that may be absent, refers to.
trait Refers {
    fn refers(&self, to: &mut Vec<Reference>);
    fn lasting(&mut self) -> Option<&mut Duration>;
}

impl<F: Field> Refers for F {
    fn refers(&self, to: &mut Vec<Reference>) {
        Field::refers(self, to);
    }

    fn lasting(&mut self) -> Option<&mut Duration> {
        Field::lasting(self)
    }
}

impl<F: Field> Refers for Option<F> {
    fn refers(&self, to: &mut Vec<Reference>) {
        self.iter().for_each(|field| Field::refers(field, to));
    }

    fn lasting(&mut self) -> Option<&mut Duration> {
        self.as_mut().and_then(Field::lasting)
    }
}

lines! {
    /// What there is from the start.
    Setup, "a line of the set-up":
    /// A topic.
    Topic {
        /// Its name.
        name: Name,
        /// How many partitions it has.
        partitions: u32,
        /// How many brokers hold each.
        replicas: u32,
        /// `min.insync.replicas`; Kafka's default, 1, when absent.
        min_isr: Option<u32>,
        /// `unclean.leader.election.enable`; Kafka's default, no, when absent.
        unclean: Option<Switch>
    } = "topic" (name "partitions" partitions "replicas" replicas ["min-isr" min_isr] ["unclean" unclean]);
    /// A group of workers, and the terms on which it handles.
    Group {
        /// Its name.
        name: Name,
        /// The topic it reads.
        topic: Topic,
        /// Where it starts without a committed offset.
        reset: Reset,
        /// What it sees of transactions.
        isolation: Isolation,
        /// Retries after the first attempt.
        retries: u32,
        /// The wait after the first failure; doubled after each further one.
        base: Duration,
        /// The longest wait, before jitter.
        max: Duration,
        /// By which share a wait may differ.
        jitter: Share,
        /// After this long without a heartbeat a member is put out.
        session: Duration,
        /// After this long without a poll a member leaves by itself (`max.poll.interval.ms`); five minutes when absent.
        poll: Option<Duration>,
        /// A handler that takes longer has failed; half a minute when absent.
        handler: Option<Duration>
    } = "group" (name "reads" topic "reset" reset "isolation" isolation "retries" retries "base" base "max" max "jitter" jitter
        "session" session ["poll" poll] ["handler" handler]);
    /// A node that publishes.
    Publisher {
        /// Its name.
        name: Name,
        /// Whose acknowledgement it waits for.
        acks: Acks,
        /// Whether it is idempotent.
        idempotent: Switch,
        /// Its transactional id; each of its `publish` lines is one transaction then.
        transactional: Option<Name>
    } = "publisher" (name "acks" acks "idempotent" idempotent ["transactional" transactional]);
    /// A node that handles.
    Worker {
        /// Its name.
        name: Name,
        /// Its group.
        group: Group,
        /// Its `group.instance.id`.
        instance: Option<Name>,
        /// When it starts; at once when absent.
        start: Option<Duration>
    } = "worker" (name "in" group ["instance" instance] ["start" start]);
    /// A program of the user's own, which `rehearsal run` carries as it is. One at most.
    Program {
        /// Its name.
        name: Name
    } = "program" (name);
}

lines! {
    /// What publishers do.
    Work, "`publish` or a fault":
    /// Records of one aggregate are published, one after another.
    Publish {
        /// How many.
        records: u32,
        /// Their key.
        aggregate: Name,
        /// Who publishes them.
        publisher: Client,
        /// Where.
        topic: Topic,
        /// How long after the one before each follows.
        every: Duration
    } = "publish" (records "of" aggregate "by" publisher "to" topic "every" every);
}

lines! {
    /// What handlers do with records; what is not named is handled at once and well.
    Behaviour, "what the handler does":
    /// It takes this long, then succeeds.
    Slow {
        /// How long.
        by: Duration
    } = "slow" (by);
    /// Its first attempts fail.
    Fail {
        /// How many of them.
        times: u32
    } = "fail" (times "times");
    /// Every attempt fails: a poison pill.
    FailAlways {} = "fail-always" ();
    /// It never comes to the handler: its value cannot be read.
    Unreadable {} = "unreadable" ();
    /// Its first attempts panic.
    Panic {
        /// How many of them.
        times: u32
    } = "panic" (times "times");
    /// Its first attempts never return by themselves.
    Hang {
        /// How many of them.
        times: u32
    } = "hang" (times "times");
    /// Its first attempts are given up half way, as by a timeout of the handler's own.
    Cancel {
        /// How many of them.
        times: u32
    } = "cancel" (times "times");
}

lines! {
    /// What goes wrong at a moment, and for how long.
    Fault, "`publish` or a fault":
    /// No message passes between the two sides.
    Cut {
        /// One side.
        nodes: Nodes,
        /// The other.
        others: Nodes,
        /// For how long.
        lasts: Lasting
    } = "cut" (nodes "from" others "for" lasts);
    /// No message passes from the first side to the other; the way back is open.
    CutOneWay {
        /// Where messages come from.
        nodes: Nodes,
        /// Where they should go.
        others: Nodes,
        /// For how long.
        lasts: Lasting
    } = "cut-one-way" (nodes "to" others "for" lasts);
    /// Messages take longer, one in twenty by the tail.
    Delay {
        /// One side.
        nodes: Nodes,
        /// The other.
        others: Nodes,
        /// By how much.
        by: Duration,
        /// By how much the slowest.
        tail: Duration,
        /// For how long.
        lasts: Lasting
    } = "delay" (nodes "to" others "by" by "tail" tail "for" lasts);
    /// All connections between the two are reset.
    ResetConnections {
        /// One side.
        nodes: Nodes,
        /// The other.
        others: Nodes
    } = "reset" (nodes "to" others);
    /// The broker does what it is asked, but the answer is lost and its connection with it.
    LoseResponse {
        /// Which answers.
        api: Api,
        /// Whose.
        broker: Broker,
        /// How many of them.
        times: u32,
        /// For how long at most.
        lasts: Lasting
    } = "lose-response" (api "from" "broker" broker "times" times "for" lasts);
    /// Requests of a kind wait before the broker until this is over; others overtake them.
    Hold {
        /// Which requests.
        api: Api,
        /// Where.
        broker: Broker,
        /// For how long.
        lasts: Lasting
    } = "hold" (api "at" "broker" broker "for" lasts);
    /// Messages of different connections overtake each other.
    Reorder {
        /// One side.
        nodes: Nodes,
        /// The other.
        others: Nodes,
        /// By how much at most.
        within: Duration,
        /// For how long.
        lasts: Lasting
    } = "reorder" (nodes "to" others "within" within "for" lasts);
    /// Frames are damaged.
    Garble {
        /// How.
        damage: Damage,
        /// Who sends them.
        nodes: Nodes,
        /// Who gets them.
        others: Nodes,
        /// How many.
        times: u32,
        /// For how long at most.
        lasts: Lasting
    } = "garble" (damage nodes "to" others "times" times "for" lasts);
    /// A broker dies; what it had not flushed is lost. It starts again when this is over.
    Crash {
        /// Which.
        broker: Broker,
        /// For how long it is away.
        lasts: Lasting
    } = "crash" ("broker" broker "for" lasts);
    /// A broker is stopped in order and started again.
    Restart {
        /// Which.
        broker: Broker,
        /// For how long it is away.
        lasts: Lasting
    } = "restart" ("broker" broker "for" lasts);
    /// A node stands still, then goes on as if nothing had been.
    Pause {
        /// Which.
        node: Node,
        /// For how long.
        lasts: Lasting
    } = "pause" (node "for" lasts);
    /// Another in-sync replica leads.
    MoveLeader {
        /// Of which partition.
        partition: Partition,
        /// Which.
        broker: Broker
    } = "move-leader" (partition "to" "broker" broker);
    /// A replica that is not in sync leads: acknowledged records may be lost.
    ElectUnclean {
        /// Of which partition.
        partition: Partition,
        /// Which.
        broker: Broker
    } = "elect-unclean" (partition "to" "broker" broker);
    /// A follower falls out of the in-sync replicas, and comes back when this is over.
    ShrinkIsr {
        /// Of which partition.
        partition: Partition,
        /// Which follower.
        broker: Broker,
        /// For how long.
        lasts: Lasting
    } = "shrink-isr" (partition "without" "broker" broker "for" lasts);
    /// A follower stops copying, so that it lacks what the leader has; it goes on when this is over.
    Lag {
        /// Of which partition.
        partition: Partition,
        /// Which follower.
        broker: Broker,
        /// For how long.
        lasts: Lasting
    } = "lag" (partition "at" "broker" broker "for" lasts);
    /// A group's coordinator moves to the next broker, and takes this long to load.
    MoveCoordinator {
        /// Which group's.
        group: Group,
        /// For how long the new one loads.
        lasts: Lasting
    } = "move-coordinator" ("of" group "loading" lasts);
    /// A broker answers with the metadata of the moment this began.
    StaleMetadata {
        /// Which.
        broker: Broker,
        /// For how long.
        lasts: Lasting
    } = "stale-metadata" ("at" "broker" broker "for" lasts);
    /// A broker says that a topic does not exist.
    DenyTopic {
        /// Which topic.
        topic: Topic,
        /// Which broker.
        broker: Broker,
        /// For how long.
        lasts: Lasting
    } = "deny-topic" (topic "at" "broker" broker "for" lasts);
    /// A broker answers with an error and does nothing.
    Refuse {
        /// Which requests.
        api: Api,
        /// Where.
        broker: Broker,
        /// With which error.
        error: ErrorName,
        /// How many of them.
        times: u32,
        /// For how long at most.
        lasts: Lasting
    } = "refuse" (api "at" "broker" broker "with" error "times" times "for" lasts);
    /// A broker makes clients wait (`throttle_time_ms`, and a muted connection).
    Throttle {
        /// Which requests.
        api: Api,
        /// Where.
        broker: Broker,
        /// For how long each.
        by: Duration,
        /// For how long.
        lasts: Lasting
    } = "throttle" (api "at" "broker" broker "by" by "for" lasts);
    /// All but the newest records of a partition are deleted.
    DeleteRecords {
        /// Of which partition.
        partition: Partition,
        /// How many stay.
        keep: u32
    } = "delete-records" (partition "keep" keep);
    /// A topic is deleted, and created anew when this is over.
    Recreate {
        /// Which.
        topic: Topic,
        /// After how long.
        lasts: Lasting
    } = "recreate" (topic "after" lasts);
    /// A topic gets more partitions.
    AddPartitions {
        /// Which.
        topic: Topic,
        /// How many it has then.
        partitions: u32
    } = "add-partitions" (topic "to" partitions);
    /// The committed offsets of a group expire.
    ExpireOffsets {
        /// Which.
        group: Group
    } = "expire-offsets" ("of" group);
    /// A publisher's or worker's process dies, and starts again when this is over.
    Kill {
        /// Which.
        node: Client,
        /// For how long it is away.
        lasts: Lasting
    } = "kill" (node "for" lasts);
    /// A worker leaves its group in order, and comes back when this is over.
    Leave {
        /// Which.
        node: Client,
        /// For how long it is away.
        lasts: Lasting
    } = "leave" (node "for" lasts);
    /// A second process takes a worker's place, with the same `group.instance.id`, until this is over.
    TakeOver {
        /// Whose.
        node: Client,
        /// For how long.
        lasts: Lasting
    } = "take-over" (node "for" lasts);
    /// A node's wall clock jumps.
    JumpClock {
        /// Which.
        node: Node,
        /// How far.
        by: Shift
    } = "jump-clock" (node "by" by);
    /// A node's clocks run faster or slower.
    DriftClock {
        /// Which.
        node: Node,
        /// By how much every second.
        by: Shift,
        /// For how long.
        lasts: Lasting
    } = "drift-clock" (node "by" by "every-second" "for" lasts);
}

macro_rules! families {
    ($($(#[$doc:meta])* $family:ident = $name:literal;)*) => {
        /// The 29 families of faults.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Family { $($(#[$doc])* $family),* }

        impl Family {
            /// All of them.
            pub const ALL: [Self; 29] = [$(Self::$family),*];

            /// As reports and options write it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$family => $name),* }
            }

            /// The family of this name.
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|family| family.name() == name)
            }
        }
    };
}

families! {
    /// Network: no message passes, either way.
    Partition = "partition";
    /// Network: no message passes one way.
    OneWayPartition = "one-way-partition";
    /// Network: some messages take long.
    LatencyTail = "latency-tail";
    /// Network: connections are reset.
    ConnectionReset = "connection-reset";
    /// Network: done, but the answer is lost.
    ResponseLost = "response-lost";
    /// Network: requests of one kind are held back.
    ApiHold = "api-hold";
    /// Network: connections overtake each other.
    Reorder = "reorder";
    /// Network: frames come short or damaged.
    Garble = "garble";
    /// Broker: it dies, with what was not flushed.
    Crash = "crash";
    /// Broker: it restarts in order.
    Restart = "restart";
    /// Broker or client: it stands still.
    Pause = "pause";
    /// Broker: leaders move.
    LeaderMove = "leader-move";
    /// Broker: a stale replica leads.
    UncleanElection = "unclean-election";
    /// Broker: followers fall behind.
    IsrShrink = "isr-shrink";
    /// Broker: coordinators move and load.
    CoordinatorMove = "coordinator-move";
    /// Broker: metadata is old or wrong.
    StaleMetadata = "stale-metadata";
    /// Broker: answers with errors.
    ErrorInjection = "error-injection";
    /// Broker: makes clients wait.
    Throttle = "throttle";
    /// Log: records are deleted.
    Retention = "retention";
    /// Log: topics are deleted and created anew.
    TopicRecreate = "topic-recreate";
    /// Log: topics get more partitions.
    AddPartitions = "add-partitions";
    /// Log: committed offsets expire.
    OffsetExpiry = "offset-expiry";
    /// Application: handlers are slow.
    SlowHandler = "slow-handler";
    /// Application: handlers hang or are cancelled.
    HungHandler = "hung-handler";
    /// Application: handlers fail or panic.
    FailingHandler = "failing-handler";
    /// Application: processes die.
    ProcessCrash = "process-crash";
    /// Application: members come, go and take over from each other.
    Churn = "churn";
    /// Time: wall clocks jump.
    ClockJump = "clock-jump";
    /// Time: clocks run at different speeds.
    ClockDrift = "clock-drift";
}

impl Family {
    /// Whether Kafka itself, set up well, may lose acknowledged records or replay old ones when this happens. Promises
    /// about loss are not to be asked for together with it, so [`Settings`](crate::swarm::Settings) leaves it out
    /// unless told otherwise.
    pub const fn breaks_kafkas_own_promises(self) -> bool {
        matches!(self, Self::UncleanElection | Self::Retention | Self::TopicRecreate | Self::OffsetExpiry)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Fault {
    /// Which family it is of.
    pub const fn family(&self) -> Family {
        match self {
            Self::Cut { .. } => Family::Partition,
            Self::CutOneWay { .. } => Family::OneWayPartition,
            Self::Delay { .. } => Family::LatencyTail,
            Self::ResetConnections { .. } => Family::ConnectionReset,
            Self::LoseResponse { .. } => Family::ResponseLost,
            Self::Hold { .. } => Family::ApiHold,
            Self::Reorder { .. } => Family::Reorder,
            Self::Garble { .. } => Family::Garble,
            Self::Crash { .. } => Family::Crash,
            Self::Restart { .. } => Family::Restart,
            Self::Pause { .. } => Family::Pause,
            Self::MoveLeader { .. } => Family::LeaderMove,
            Self::ElectUnclean { .. } => Family::UncleanElection,
            Self::ShrinkIsr { .. } | Self::Lag { .. } => Family::IsrShrink,
            Self::MoveCoordinator { .. } => Family::CoordinatorMove,
            Self::StaleMetadata { .. } | Self::DenyTopic { .. } => Family::StaleMetadata,
            Self::Refuse { .. } => Family::ErrorInjection,
            Self::Throttle { .. } => Family::Throttle,
            Self::DeleteRecords { .. } => Family::Retention,
            Self::Recreate { .. } => Family::TopicRecreate,
            Self::AddPartitions { .. } => Family::AddPartitions,
            Self::ExpireOffsets { .. } => Family::OffsetExpiry,
            Self::Kill { .. } => Family::ProcessCrash,
            Self::Leave { .. } | Self::TakeOver { .. } => Family::Churn,
            Self::JumpClock { .. } => Family::ClockJump,
            Self::DriftClock { .. } => Family::ClockDrift,
        }
    }

    /// Forgets nodes that are not there any more, as long as one is left on either side.
    pub(super) fn keep_nodes(&mut self, keep: impl Fn(&Node) -> bool) {
        let (Self::Cut { nodes, others, .. }
        | Self::CutOneWay { nodes, others, .. }
        | Self::Delay { nodes, others, .. }
        | Self::ResetConnections { nodes, others }
        | Self::Reorder { nodes, others, .. }
        | Self::Garble { nodes, others, .. }) = self
        else {
            return;
        };
        for side in [nodes, others] {
            if side.0.iter().any(&keep) {
                side.0.retain(&keep);
            }
        }
    }

    /// For how long it lasts; zero when it happens at one moment.
    pub fn lasts(&self) -> Duration {
        self.clone().lasting_mut().map_or(Duration::ZERO, |lasts| *lasts)
    }
}

impl Behaviour {
    /// Which family it is of.
    pub const fn family(&self) -> Family {
        match self {
            Self::Slow { .. } => Family::SlowHandler,
            Self::Hang { .. } | Self::Cancel { .. } => Family::HungHandler,
            Self::Fail { .. } | Self::FailAlways {} | Self::Unreadable {} | Self::Panic { .. } => {
                Family::FailingHandler
            }
        }
    }
}
