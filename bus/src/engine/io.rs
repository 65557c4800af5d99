//! What goes into the engine and what comes out, and the words both are made of.

use super::Obituary;
use super::drain::Farewell;
use super::finished::Run;
use super::retry::{HandlerFailure, Outcome};
use crate::handler::HandlerSet;
use bytes::Bytes;
use std::fmt;
use std::ops::Add;
use std::sync::Arc;
use std::time::Duration;

/// A position in a partition's log.
pub type Offset = i64;

/// A moment: the time since the Unix epoch as the driver tells it. The driver's time never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time(pub Duration);

impl Time {
    /// So many milliseconds after the epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// How long ago `earlier` was; zero if it is still to come.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Time {
    type Output = Self;
    fn add(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait))
    }
}

/// ISO 8601 in UTC.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let timestamp = jiff::Timestamp::new(self.0.as_secs().try_into().unwrap_or(i64::MAX), 0)
            .and_then(|whole| whole.checked_add(jiff::Span::new().nanoseconds(i64::from(self.0.subsec_nanos()))));
        write!(f, "{}", timestamp.unwrap_or(jiff::Timestamp::MAX))
    }
}

/// A partition of a topic; the driver numbers its topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// The driver's number for the topic.
    pub topic: u32,
    /// The partition's index.
    pub index: i32,
}

/// Counts assignments: what was begun under an earlier one has no say in a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub(super) u64);

/// One attempt at one record, under one assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    /// The record's partition.
    pub partition: Partition,
    /// The assignment it was started under.
    pub epoch: Epoch,
    /// The record's offset.
    pub offset: Offset,
    /// Which attempt this is, counted from 1; 0 for a record that no handler is asked about.
    pub attempt: u32,
}

/// Names a commit until it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId(pub(super) u64);

/// What is to be done with a delivered record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Errand {
    /// Hand it to its handlers.
    Handle,
    /// It is not for us; it counts as done.
    Skip,
    /// Write it to the dead-letter queue without asking anybody, when its turn comes.
    Bury {
        /// The kind of error, for grouping.
        error_type: String,
        /// The error's text.
        message: String,
    },
    /// It is no event, but word that the dead letter whose place it names ([`Past::replays`]) was evicted.
    Absolve,
    /// Stop consuming: the policy forbids going past such a record.
    Halt {
        /// Why.
        reason: String,
    },
}

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered<P> {
    /// Where it was read.
    pub partition: Partition,
    /// Its offset there.
    pub offset: Offset,
    /// Its key, which decides its lane.
    pub key: Option<Bytes>,
    /// What the driver wants back to handle it.
    pub payload: P,
    /// What is to be done with it.
    pub errand: Errand,
    /// What it brings along, if this is not its first appearance.
    pub past: Option<Box<Past>>,
}

impl<P> Delivered<P> {
    /// A record for the handlers.
    pub fn new(partition: Partition, offset: Offset, key: Option<Bytes>, payload: P) -> Self {
        Self { partition, offset, key, payload, errand: Errand::Handle, past: None }
    }
}

/// What a record brings from earlier in its life: from a retry topic, or from the dead-letter queue.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Past {
    /// No handler is asked before this.
    pub not_before: Option<Time>,
    /// Attempts made so far.
    pub attempts: u32,
    /// When the first of them failed.
    pub first_failed: Option<Time>,
    /// The handlers still to ask; all of them when `None`.
    pub pending: Option<HandlerSet>,
    /// Failures that are final.
    pub given_up: Vec<HandlerFailure>,
    /// The place, in its key's sequence, of the letter it is a replay of.
    pub replays: Option<Offset>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input<P> {
    /// These partitions are ours from now on.
    Assigned {
        /// Which.
        partitions: Vec<Partition>,
    },
    /// What an earlier owner of a partition had finished beyond the position it committed, as it was found beside that
    /// position. Comes after the assignment and before the partition's records.
    Remembered {
        /// Whose.
        partition: Partition,
        /// The runs, in ascending order.
        finished: Vec<Run>,
    },
    /// A record was read.
    Delivered(Delivered<P>),
    /// An attempt ended.
    Finished {
        /// Which.
        ticket: Ticket,
        /// How.
        outcome: Outcome,
    },
    /// The dead-letter queue has acknowledged a letter.
    DeadLetterAcked {
        /// Which.
        ticket: Ticket,
    },
    /// The dead-letter queue has not taken a letter.
    DeadLetterFailed {
        /// Which.
        ticket: Ticket,
    },
    /// A retry topic has acknowledged a record.
    Deferred {
        /// Which.
        ticket: Ticket,
    },
    /// A retry topic has not taken a record.
    DeferralFailed {
        /// Which.
        ticket: Ticket,
    },
    /// The unresolved letters of a partition, as asked for by [`Action::Recall`].
    Recalled {
        /// Whose.
        partition: Partition,
        /// The assignment they were asked for under.
        epoch: Epoch,
        /// The key of each, and its place in the key's sequence.
        letters: Vec<(Bytes, Offset)>,
        /// The same of letters that are evicted, of which the log tells further on.
        evicted: Vec<(Bytes, Offset)>,
    },
    /// A commit was answered.
    CommitDone {
        /// Which.
        id: CommitId,
        /// Whether the group has it.
        confirmed: bool,
    },
    /// The group wants these partitions back.
    Revoking {
        /// Which.
        partitions: Vec<Partition>,
        /// Until when work on them may go on.
        deadline: Time,
    },
    /// The group has given these partitions to somebody else already.
    Lost {
        /// Which.
        partitions: Vec<Partition>,
    },
    /// Consuming ends.
    Stop {
        /// Until when work may go on.
        deadline: Time,
    },
    /// Nothing but that time has passed.
    Tick,
}

/// An attempt to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start<P> {
    /// Its name, to be given back with its outcome.
    pub ticket: Ticket,
    /// The record.
    pub payload: P,
    /// The handlers to ask: those that failed the last time. All of them when `None`.
    pub only_handlers: Option<HandlerSet>,
}

/// A letter to write to the dead-letter queue, or, without one, a record that is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter<P> {
    /// Its name, to be given back when it is acknowledged or has failed.
    pub ticket: Ticket,
    /// The record.
    pub payload: P,
    /// What it died of.
    pub obituary: Arc<Obituary>,
    /// Its place in its key's sequence, where sequences are kept.
    pub place: Option<Offset>,
}

/// A record to write to a retry topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deferral<P> {
    /// Its name, to be given back when it is acknowledged or has failed.
    pub ticket: Ticket,
    /// The record.
    pub payload: P,
    /// What it is to bring along when it comes back.
    pub past: Arc<Past>,
}

/// Partitions to let go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Why.
    pub why: Farewell,
    /// Which.
    pub partitions: Vec<Partition>,
    /// What to commit, synchronously, before they go.
    pub commit: Vec<(Partition, Offset)>,
    /// What is finished beyond those positions, to be committed beside them.
    pub finished: Vec<(Partition, Vec<Run>)>,
    /// How many attempts were cut off.
    pub abandoned: usize,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<P> {
    /// Make an attempt.
    Start(Start<P>),
    /// Cut an attempt off: its partition is gone, and its successor may be at work elsewhere.
    Abandon(Ticket),
    /// Write a dead letter and report its acknowledgement.
    DeadLetter(DeadLetter<P>),
    /// Write a record to a retry topic and report its acknowledgement ([`RetryScope::Topic`]).
    ///
    /// [`RetryScope::Topic`]: crate::RetryScope::Topic
    Defer(Deferral<P>),
    /// Find the unresolved letters of a partition in the dead-letter queue; until they are told, nothing of it starts.
    Recall {
        /// Whose.
        partition: Partition,
        /// To be given back with them.
        epoch: Epoch,
    },
    /// A record was given up and there is no dead-letter queue. Say so; nothing is to be reported back.
    Dropped(DeadLetter<P>),
    /// Commit, and report the answer. Beside each position goes what [`Engine::finished_beyond`] tells of its partition.
    ///
    /// [`Engine::finished_beyond`]: super::Engine::finished_beyond
    Commit {
        /// Its name.
        id: CommitId,
        /// The positions.
        offsets: Vec<(Partition, Offset)>,
    },
    /// Stop fetching from these partitions.
    Pause(Vec<Partition>),
    /// Fetch from them again.
    Resume(Vec<Partition>),
    /// Let these partitions go.
    Release(Release),
    /// Stop consuming with this error: the policy forbids going past this record.
    Halt {
        /// The record's partition.
        partition: Partition,
        /// Its offset.
        offset: Offset,
        /// Why.
        reason: String,
    },
    /// The drain asked for by [`Input::Stop`] is over.
    Stopped,
}
