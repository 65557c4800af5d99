//! Faults a test plans: *which* requests × *what* happens to them × *how often*.
//!
//! [`Requests`] says which, its last method what, [`Fault`] how often:
//!
//! ```
//! use rehearsal_mockbroker::error::ErrorCode;
//! use rehearsal_mockbroker::fault::Fault;
//! use rehearsal_mockbroker::wire::ApiKey;
//!
//! // The next two attempts to write to partition 0 hear that the leader is elsewhere. Nothing is written by them.
//! let fault = Fault::on(ApiKey::Produce).topic("orders").partition(0).error(ErrorCode::NotLeaderOrFollower).times(2);
//! assert_eq!(fault.to_string(), "Produce to 'orders' partition 0: NOT_LEADER_OR_FOLLOWER instead, 2 times");
//! ```
//!
//! [`Cluster::plan`](crate::cluster::Cluster::plan) takes it, counts its hits, and refuses what can never happen. Faults
//! that match the same request all apply, in the order in which they were planned. Where only one can, the first does
//! and the others wait for the next request: of several errors for the same part, and of several that keep a request or
//! an answer back for good. So `error(A)` and then `error(B)` are heard one after the other.
//!
//! What happens to brokers, leaders, groups and topics rather than to requests is a
//! [`Command`](crate::control::Command).

mod edits;
mod names;
mod planned;
mod requests;

pub use edits::Lie;
pub use requests::Requests;

pub(crate) use edits::{is_of_fetch_session, put_error, throttle as set_throttle};
pub(crate) use planned::{Arrival, Departure, Faults};

use crate::error::{ErrorCode, Reject};
use crate::output::Frame;
use crate::wire::{ApiKey, Response};
use serde::Serialize;
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A fault to plan.
#[derive(Debug, Clone)]
pub struct Fault {
    pub(crate) which: Requests,
    pub(crate) effect: Effect,
    pub(crate) times: Times,
    pub(crate) probability: f64,
    pub(crate) may_not_fire: bool,
}

/// Names a planned fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct FaultId(pub u64);

/// How often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Times {
    Exactly(u64),
    Always,
}

/// Before or after the request took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Before,
    After,
}

/// What happens.
#[derive(Clone)]
pub(crate) enum Effect {
    Refuse(ErrorCode),
    /// Nothing is done, and nothing is said of that.
    Pretend,
    Misreport(ErrorCode),
    Delay(When, Duration),
    Hold(When),
    Disconnect(When),
    Silence(When),
    Throttle(Duration),
    Frame(Frame),
    CorruptBatch,
    Lie(Lie),
    Rewrite(Arc<dyn Fn(&mut Response) + Send + Sync>),
}

impl Fault {
    /// Begins with the API whose requests are meant.
    pub fn on(api: ApiKey) -> Requests {
        Requests::of(api)
    }

    /// Begins with requests of every API.
    pub fn on_any() -> Requests {
        Requests::any()
    }

    /// Happens to the first `count` requests that match. Once is the default.
    pub fn times(mut self, count: u64) -> Self {
        self.times = Times::Exactly(count);
        self
    }

    /// Happens to every request that matches, until it is removed.
    pub fn always(mut self) -> Self {
        self.times = Times::Always;
        self
    }

    /// Happens to each matching request with probability `p` of the cluster's seed, for as long as it is planned;
    /// [`Fault::times`] after this bounds how often.
    pub fn probability(mut self, p: f64) -> Self {
        self.probability = p;
        self.always()
    }

    /// The test does not fail when this never happens. Without it, a planned fault that never fired does.
    pub fn may_not_fire(mut self) -> Self {
        self.may_not_fire = true;
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}, ", self.which, self.effect)?;
        match self.times {
            Times::Exactly(1) => f.write_str("once")?,
            Times::Exactly(count) => write!(f, "{count} times")?,
            Times::Always => f.write_str("always")?,
        }
        if self.probability < 1.0 {
            write!(f, " with probability {}", self.probability)?;
        }
        Ok(())
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "before it takes effect",
            Self::After => "after it took effect",
        })
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pretend => f.write_str("acknowledged without effect"),
            Self::Refuse(code) => write!(f, "{code} instead"),
            Self::Misreport(code) => write!(f, "{code} told after it took effect"),
            Self::Delay(when, by) => write!(f, "delayed {by:?} {when}"),
            Self::Hold(when) => write!(f, "held {when}"),
            Self::Disconnect(when) => write!(f, "connection closed {when}"),
            Self::Silence(When::Before) => f.write_str("ignored"),
            Self::Silence(When::After) => f.write_str("never answered"),
            Self::Throttle(by) => write!(f, "throttled {by:?}"),
            Self::Frame(Frame::Garbled { .. }) => f.write_str("answer garbled"),
            Self::Frame(Frame::CutShort) => f.write_str("answer cut short, then the connection closed"),
            Self::Frame(Frame::Twice) => f.write_str("answer sent twice"),
            Self::Frame(Frame::Whole | Frame::Token { .. }) => f.write_str("answer sent"),
            Self::CorruptBatch => f.write_str("a fetched batch fails its checksum"),
            Self::Lie(lie) => write!(f, "{lie}"),
            Self::Rewrite(_) => f.write_str("answer rewritten"),
        }
    }
}

impl fmt::Debug for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A planned fault as others may see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FaultView {
    /// Names it.
    pub id: FaultId,
    /// The fault in words.
    pub fault: String,
    /// How many requests matched it so far.
    pub matched: u64,
    /// How often it happened.
    pub hits: u64,
    /// How many requests or answers it keeps at this moment.
    pub holding: usize,
    /// It never fired, and the one who planned it wants to hear of that.
    pub overdue: bool,
}

/// Why a fault cannot be planned: it could never happen, or say nothing a client could notice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImpossibleFault {
    /// The API is not served, so nobody can ask for it.
    #[error("'{fault}' can never happen: {api} is not served, so clients never ask for it")]
    NotServed {
        /// The fault in words.
        fault: String,
        /// The API.
        api: ApiKey,
    },
    /// The API is served, but in other versions.
    #[error("'{fault}' can never happen: {api} is served in versions {min} to {max}")]
    Version {
        /// The fault in words.
        fault: String,
        /// The API.
        api: ApiKey,
        /// The lowest version served.
        min: i16,
        /// The highest version served.
        max: i16,
    },
    /// Requests of this API do not say what the fault looks for.
    #[error("'{fault}' can never happen: {api} requests name no {what}; leave it out, or fault another API")]
    NamesNone {
        /// The fault in words.
        fault: String,
        /// The API.
        api: ApiKey,
        /// What they do not name: topic, partition, group.
        what: &'static str,
    },
    /// The topic does not exist and nothing will create it.
    #[error(
        "'{fault}' can never happen: there is no topic '{topic}' (there are: {present}) and none is created on demand"
    )]
    NoTopic {
        /// The fault in words.
        fault: String,
        /// The topic.
        topic: String,
        /// Those there are, comma-separated.
        present: String,
    },
    /// The topic has fewer partitions.
    #[error("'{fault}' can never happen: topic '{topic}' has partitions 0 to {last}")]
    NoPartition {
        /// The fault in words.
        fault: String,
        /// The topic.
        topic: String,
        /// Its last partition.
        last: i32,
    },
    /// There is no such broker.
    #[error("'{fault}' can never happen: there is no {node}")]
    NoBroker {
        /// The fault in words.
        fault: String,
        /// The broker.
        node: crate::state::nodes::NodeId,
    },
    /// What happens makes no sense for this API.
    #[error("'{fault}' can never happen: {why}")]
    Senseless {
        /// The fault in words.
        fault: String,
        /// Why.
        why: &'static str,
    },
    /// A number is out of range.
    #[error("'{fault}' can never happen: {why}")]
    Range {
        /// The fault in words.
        fault: String,
        /// Which number, and what it may be.
        why: String,
    },
}

/// Which part of a request an error is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part<'a> {
    /// What has no name of its own.
    Whole,
    /// A topic.
    Topic(&'a str),
    /// A partition of a topic.
    Partition(&'a str, i32),
    /// A group, transactional id, or resource.
    Named(&'a str),
    /// The session of a fetch: its errors are the only ones a fetch has for itself.
    FetchSession,
}

/// The errors planned for one request, for the handler to put where they belong.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refusals {
    list: Vec<Refusal>,
}

#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) fault: FaultId,
    pub(crate) code: ErrorCode,
    pub(crate) topic: Option<String>,
    pub(crate) partition: Option<i32>,
    /// Of several things the request names, this one is meant.
    pub(crate) name: Option<String>,
    /// The handler has put it into its answer, or another in its place.
    pub(crate) told: Cell<bool>,
}

impl Refusals {
    pub(crate) fn new(list: Vec<Refusal>) -> Self {
        Self { list }
    }

    /// Whether a planned fault refuses this part of the request. A handler that changes something asks before it does;
    /// one that only reads need not, see [`Refusals::left_to_do`].
    pub(crate) fn check(&self, part: Part<'_>) -> Result<(), Reject> {
        let mut covering =
            self.list.iter().filter(|refusal| refusal.covers(part)).inspect(|refusal| refusal.told.set(true));
        let Some(first) = covering.next() else { return Ok(()) };
        covering.for_each(drop);
        Err(Reject::new(first.code, "a planned fault"))
    }

    /// Whether no planned fault refuses this part of the request, for a handler that leaves the error to others and only
    /// must not do what it would.
    pub(crate) fn spare(&self, part: Part<'_>) -> bool {
        !self.list.iter().any(|refusal| refusal.covers(part))
    }

    /// The errors the handler did not ask for: they are put into its finished answer.
    pub(crate) fn left_to_do(&self) -> impl Iterator<Item = &Refusal> {
        self.list.iter().filter(|refusal| !refusal.told.get())
    }
}

impl Refusal {
    /// Whether both are for the same part, so that a client could hear of one only.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        (&self.topic, self.partition, &self.name) == (&other.topic, other.partition, &other.name)
    }

    fn covers(&self, part: Part<'_>) -> bool {
        match (self.topic.as_deref(), self.partition, part) {
            (None, None, Part::FetchSession) => is_of_fetch_session(self.code),
            (_, _, Part::FetchSession) => false,
            (None, None, Part::Named(name)) => self.name.as_deref().is_none_or(|meant| meant == name),
            // What names a topic or partition leaves the rest of the request alone.
            (None, None, _) => true,
            (Some(topic), None, Part::Topic(name) | Part::Partition(name, _)) => topic == name,
            (topic, Some(partition), Part::Partition(name, index)) => {
                topic.is_none_or(|topic| topic == name) && partition == index
            }
            _ => false,
        }
    }
}
