//! One promise each: a checker looks for a counter-example to its promise in a [`History`].
//!
//! A file a promise. Its head says what exactly is promised, what evidence the checker needs, and when it is silent. A
//! checker never guesses: without its evidence the verdict is [`Verdict::Unchecked`], and what a system cannot know (a
//! member that stands still while another takes over) is excused in its file, with the reason.
//!
//! The first thirteen are those of Jepsen's Kafka workload, by its names; that workload has to switch two of them off
//! when consumers subscribe, because it cannot know who had which partition when. Here every assignment and generation
//! is evidence, so all are checked through rebalances. The other nine are ours.
//!
//! ```
//! use rehearsal_sim::checkers;
//! use rehearsal_sim::history::{History, Place, What};
//!
//! let mut history = History::default();
//! let at = std::time::Duration::ZERO;
//! history.record(at, "pub-1", What::Acknowledged { message: "w1/0".into(), at: Place::new("orders", 0, 5) });
//! history.record(at, "pub-1", What::Acknowledged { message: "w2/0".into(), at: Place::new("orders", 0, 5) });
//!
//! let judgement = checkers::judge(&history, &checkers::all());
//! let broken = judgement.first().expect("two records cannot be at one place");
//! assert_eq!(broken.signature.to_string(), "inconsistent-offsets/two-records");
//! assert_eq!(broken.sentence, "orders/0@5 holds w1/0 for some and w2/0 for others");
//! ```

mod acked_is_settled;
mod aggregate_order;
mod bounded_duplicates;
mod broker_self_check;
mod commit_watermark;
mod dlq_conservation;
mod duplicate;
mod g1a;
mod inconsistent_offsets;
mod int_nonmonotonic_poll;
mod int_nonmonotonic_send;
mod int_poll_skip;
mod int_send_skip;
mod lost_write;
mod no_concurrent_handling;
mod nonmonotonic_poll;
mod nonmonotonic_send;
mod poll_skip;
mod precommitted_read;
mod rebalance_storm;
mod retry_timing;
mod unseen;
mod view;

#[cfg(test)]
mod model;
#[cfg(test)]
pub(crate) mod story;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use acked_is_settled::AckedIsSettled;
pub use aggregate_order::AggregateOrder;
pub use bounded_duplicates::BoundedDuplicates;
pub use broker_self_check::BrokerSelfCheck;
pub use commit_watermark::CommitWatermark;
pub use dlq_conservation::DlqConservation;
pub use duplicate::Duplicate;
pub use g1a::G1a;
pub use inconsistent_offsets::InconsistentOffsets;
pub use int_nonmonotonic_poll::IntNonmonotonicPoll;
pub use int_nonmonotonic_send::IntNonmonotonicSend;
pub use int_poll_skip::IntPollSkip;
pub use int_send_skip::IntSendSkip;
pub use lost_write::LostWrite;
pub use no_concurrent_handling::NoConcurrentHandling;
pub use nonmonotonic_poll::NonmonotonicPoll;
pub use nonmonotonic_send::NonmonotonicSend;
pub use poll_skip::PollSkip;
pub use precommitted_read::PrecommittedRead;
pub use rebalance_storm::RebalanceStorm;
pub use retry_timing::RetryTiming;
pub use unseen::Unseen;

use crate::history::History;
use crate::liveness;
use crate::name::Name;

/// Looks for a counter-example to one promise.
pub trait Checker: fmt::Debug + Send + Sync {
    /// Its name in reports, options and signatures.
    fn name(&self) -> &'static str;

    /// What is promised, in one sentence.
    fn promise(&self) -> &'static str;

    /// What it cannot judge without.
    fn needs(&self) -> &'static [Evidence] {
        &[]
    }

    /// Looks, and says what it found.
    fn check(&self, history: &History, found: &mut Findings<'_>);
}

/// What a checker may not be able to judge without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// The brokers' logs at the end.
    Truth,
    /// A run whose faults were healed and which then had time to come to rest.
    Rest,
}

/// Every checker, with its usual strictness: Jepsen's thirteen, then our nine.
pub fn all() -> Vec<Box<dyn Checker>> {
    vec![
        Box::new(Duplicate),
        Box::new(InconsistentOffsets),
        Box::new(LostWrite),
        Box::new(Unseen),
        Box::new(G1a),
        Box::new(PrecommittedRead),
        Box::new(PollSkip::default()),
        Box::new(NonmonotonicPoll),
        Box::new(IntPollSkip),
        Box::new(IntNonmonotonicPoll),
        Box::new(NonmonotonicSend),
        Box::new(IntNonmonotonicSend),
        Box::new(IntSendSkip::default()),
        Box::new(AggregateOrder),
        Box::new(NoConcurrentHandling::default()),
        Box::new(AckedIsSettled),
        Box::new(DlqConservation),
        Box::new(CommitWatermark),
        Box::new(BoundedDuplicates),
        Box::new(RetryTiming),
        Box::new(RebalanceStorm),
        Box::new(BrokerSelfCheck),
    ]
}

/// As [`all`], and a record that retention removed before it was read counts as skipped: Kafka promises nothing else, but
/// its operator might.
pub fn strict() -> Vec<Box<dyn Checker>> {
    let of_retention = |checker: Box<dyn Checker>| -> Box<dyn Checker> {
        if checker.name() == PollSkip::default().name() { Box::new(PollSkip::trimmed_too()) } else { checker }
    };
    all().into_iter().map(of_retention).collect()
}

/// The verdicts of these checkers over this run, and who is stuck on what if it did not come to rest.
pub fn judge(history: &History, checkers: &[Box<dyn Checker>]) -> Judgement {
    let verdict = |checker: &dyn Checker| {
        let missing = checker.needs().iter().find(|need| !need.given(history));
        let verdict = match missing {
            Some(missing) => Verdict::Unchecked(*missing),
            None => {
                let mut found = Findings::of(checker.name(), history);
                checker.check(history, &mut found);
                found.verdict()
            }
        };
        let at_rest = checker.needs().contains(&Evidence::Rest);
        Judged { checker: checker.name(), promise: checker.promise(), at_rest, verdict }
    };
    let mut judged: Vec<Judged> = checkers.iter().map(|checker| verdict(checker.as_ref())).collect();
    let mut stuck = Findings::of(liveness::NAME, history);
    liveness::check(history, &mut stuck);
    let verdict = if history.healed() { stuck.verdict() } else { Verdict::Unchecked(Evidence::Rest) };
    judged.push(Judged { checker: liveness::NAME, promise: liveness::PROMISE, at_rest: true, verdict });
    Judgement { judged }
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// A verdict a checker, in the order of the checkers; liveness last.
    pub judged: Vec<Judged>,
}

/// One checker's verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Its name.
    pub checker: &'static str,
    /// Its promise.
    pub promise: &'static str,
    /// Whether it can only judge a run at rest: what it finds then has its cause earlier.
    pub at_rest: bool,
    /// What it found.
    pub verdict: Verdict,
}

/// What a checker found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// No counter-example.
    Held,
    /// It could not look: this was missing.
    Unchecked(Evidence),
    /// Counter-examples, at least one. One of each kind is worked out in full; of the rest there is the number.
    Broken(Vec<Violation>),
}

/// A counter-example. It can be sent from the process that ran a seed to the one that asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Which promise, and which way of breaking it. Shrinking keeps it.
    pub signature: Signature,
    /// What happened, in one sentence.
    pub sentence: String,
    /// The events that show it, by their numbers in the history, in order.
    pub events: Vec<usize>,
    /// What led to it, a line each, ending in those events.
    pub chain: Vec<String>,
    /// How many more of this kind there are in this run.
    pub more: usize,
}

/// A way of breaking a promise: the same bug gives the same signature, whatever else is in the run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Signature {
    /// The checker.
    pub checker: Name,
    /// The kind of violation, of those the checker knows.
    pub kind: Name,
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.checker, self.kind)
    }
}

impl Judgement {
    /// All counter-examples.
    pub fn violations(&self) -> impl Iterator<Item = &Violation> {
        self.judged.iter().flat_map(|judged| match &judged.verdict {
            Verdict::Broken(violations) => violations.as_slice(),
            _ => &[],
        })
    }

    /// The counter-example to report: the one that shows first, for what follows may be its consequence. What is only
    /// missing at the end comes after all that was wrong before.
    pub fn first(&self) -> Option<&Violation> {
        let found = self.judged.iter().flat_map(|judged| match &judged.verdict {
            Verdict::Broken(violations) => violations.iter().map(|violation| (judged.at_rest, violation)).collect(),
            _ => Vec::new(),
        });
        let shows = |(at_rest, violation): &(bool, &Violation)| {
            (*at_rest, violation.events.last().copied().unwrap_or(usize::MAX))
        };
        found.min_by_key(shows).map(|(_, violation)| violation)
    }

    /// Whether no promise was broken.
    pub fn held(&self) -> bool {
        self.violations().next().is_none()
    }
}

impl Evidence {
    fn given(self, history: &History) -> bool {
        match self {
            Self::Truth => history.truth.is_some(),
            Self::Rest => history.healed(),
        }
    }

    /// For reports: `not checked: …`.
    pub const fn missing(self) -> &'static str {
        match self {
            Self::Truth => "the brokers' logs are not known",
            Self::Rest => "the run did not come to rest",
        }
    }
}

/// What a checker has found so far.
#[derive(Debug)]
pub struct Findings<'h> {
    checker: &'static str,
    history: &'h History,
    /// By kind, in the order found.
    kinds: BTreeMap<&'static str, Violation>,
}

impl<'h> Findings<'h> {
    fn of(checker: &'static str, history: &'h History) -> Self {
        Self { checker, history, kinds: BTreeMap::new() }
    }

    /// A counter-example of this kind. `events` show it; the first of each kind is worked out, the others are counted.
    pub fn broken(&mut self, kind: &'static str, events: &[usize], sentence: impl FnOnce() -> String) {
        if let Some(known) = self.kinds.get_mut(kind) {
            known.more += 1;
            return;
        }
        let mut events = events.to_vec();
        events.sort_unstable();
        events.dedup();
        let chain = self.history.chain(&events);
        let signature = Signature { checker: self.checker.into(), kind: kind.into() };
        self.kinds.insert(kind, Violation { signature, sentence: sentence(), events, chain, more: 0 });
    }

    fn verdict(self) -> Verdict {
        let mut violations: Vec<Violation> = self.kinds.into_values().collect();
        violations.sort_by(|a, b| a.events.last().cmp(&b.events.last()));
        if violations.is_empty() { Verdict::Held } else { Verdict::Broken(violations) }
    }
}
