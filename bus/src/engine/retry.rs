//! What becomes of a record after its handlers ran: done, once more, or to the dead-letter queue.

use super::Time;
use super::dead_letters::{CauseOfDeath, Obituary};
use super::io::Past;
use super::sequence::Standing;
use crate::error::Disposition;
use crate::handler::{HandlerSet, SubscriptionId};
use crate::mutant::{self, Mutant};
use crate::retry::RetryPolicy;
use rand::Rng;
use std::sync::Arc;
use std::time::Duration;

/// One handler that failed on a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerFailure {
    /// Which handler.
    pub handler: SubscriptionId,
    /// Its name, for people.
    pub name: Arc<str>,
    /// What should happen next.
    pub verdict: Disposition,
    /// The kind of error, for grouping.
    pub error_type: String,
    /// The error's text.
    pub message: String,
}

/// How one attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every handler that was asked is content.
    Done,
    /// These handlers failed; the others succeeded and are not asked again.
    Failed(Vec<HandlerFailure>),
    /// The record cannot be read, so no handler saw it and none ever will.
    Poison {
        /// The kind of error, for grouping.
        error_type: String,
        /// The error's text.
        message: String,
    },
}

/// How far a record has come: attempts made, handlers still asked, failures that are final.
#[derive(Debug, Default)]
pub(super) struct Course {
    pub(super) attempts: u32,
    /// The handlers to ask; all of them when `None`.
    pub(super) pending: Option<HandlerSet>,
    given_up: Vec<HandlerFailure>,
    exhausted: bool,
    first_failed: Option<Time>,
    /// Set once the record is on its way to the dead-letter queue.
    pub(super) obituary: Option<Arc<Obituary>>,
    /// Set once the record is on its way to a retry topic.
    pub(super) deferral: Option<Arc<Past>>,
    /// Writes to a dead-letter or retry topic that failed so far.
    pub(super) writes_failed: u32,
    /// No handler is asked before this.
    pub(super) not_before: Option<Time>,
    /// Where it stands in its key's sequence, where sequences are kept.
    pub(super) standing: Option<Box<Standing>>,
}

impl Course {
    /// Whether it is with its handlers, and on its way to no topic.
    pub(super) fn awaits_handlers(&self) -> bool {
        self.obituary.is_none() && self.deferral.is_none()
    }

    /// It is not given up after all: the handlers it was given up for are asked once more.
    pub(super) fn spare(&mut self) {
        let failed = std::mem::take(&mut self.given_up);
        self.exhausted = false;
        if !failed.is_empty() {
            self.pending = Some(failed.into_iter().map(|failure| failure.handler).collect());
        }
    }

    /// The course of a record that has been on one before.
    pub(super) fn resumed(past: Past) -> Self {
        let Past { not_before, attempts, first_failed, pending, given_up, replays: _ } = past;
        let exhausted = given_up.iter().any(|failure| failure.verdict != Disposition::Fatal);
        Self { attempts, pending, given_up, exhausted, first_failed, not_before, ..Self::default() }
    }

    /// What another one needs to go on where this one is.
    pub(super) fn to_be_resumed(&self, not_before: Time) -> Past {
        Past {
            not_before: Some(not_before),
            attempts: self.attempts,
            first_failed: self.first_failed,
            pending: self.pending.clone(),
            given_up: self.given_up.clone(),
            replays: None,
        }
    }

    /// The course of a record that is not for any handler.
    pub(super) fn buried(obituary: Obituary) -> Self {
        Self { obituary: Some(Arc::new(obituary)), ..Self::default() }
    }
}

#[derive(Debug, PartialEq)]
pub(super) enum Decision {
    Resolved,
    Again { after: Duration },
    Bury(Obituary),
}

/// Weighs the outcome of an attempt.
pub(super) fn decide(
    policy: &RetryPolicy,
    now: Time,
    course: &mut Course,
    outcome: Outcome,
    chance: &mut impl Rng,
) -> Decision {
    let failures = match outcome {
        Outcome::Done if mutant::is(Mutant::RetriesAfterSuccess) && course.attempts == 2 => {
            return Decision::Again { after: policy.base };
        }
        Outcome::Done => Vec::new(),
        Outcome::Failed(failures) => {
            failures.into_iter().filter(|failure| failure.verdict != Disposition::Skip).collect()
        }
        Outcome::Poison { .. } if mutant::is(Mutant::DropsPoison) => return Decision::Resolved,
        Outcome::Poison { .. } if mutant::is(Mutant::RetriesPoison) => return Decision::Again { after: policy.base },
        Outcome::Poison { error_type, message } => {
            return Decision::Bury(Obituary::poison(now, error_type, message));
        }
    };
    if !failures.is_empty() {
        course.first_failed.get_or_insert(now);
    }
    let retries = policy.max_retries + u32::from(mutant::is(Mutant::RetriesOnceTooOften));
    let last_attempt = course.attempts > retries.saturating_sub(u32::from(mutant::is(Mutant::RetriesOnceTooFew)));
    let last_attempt = last_attempt && !mutant::is(Mutant::RetriesForEver);
    let (again, over): (Vec<_>, Vec<_>) =
        failures.into_iter().partition(|failure| failure.verdict != Disposition::Fatal && !last_attempt);
    course.exhausted |= over.iter().any(|failure| failure.verdict != Disposition::Fatal);
    course.given_up.extend(over);
    if !again.is_empty() {
        let planned = policy.delay(course.attempts.saturating_sub(1), chance);
        let after = again.iter().map(|failure| failure.wait(planned)).max().unwrap_or(planned);
        let asked = again.into_iter().filter(|_| !mutant::is(Mutant::RetriesAskNobody));
        course.pending = Some(asked.map(|failure| failure.handler).collect());
        return Decision::Again { after };
    }
    match course.given_up.last().filter(|_| !mutant::is(Mutant::GivesUpWithoutALetter)) {
        None => Decision::Resolved,
        Some(last) => Decision::Bury(Obituary {
            cause: if course.exhausted { CauseOfDeath::Exhausted } else { CauseOfDeath::Fatal },
            handlers: course.given_up.iter().map(|failure| failure.name.clone()).collect(),
            error_type: last.error_type.clone(),
            message: last.message.clone(),
            attempts: course.attempts,
            first_failed: course.first_failed.unwrap_or(now),
            last_failed: now,
        }),
    }
}

impl HandlerFailure {
    fn wait(&self, planned: Duration) -> Duration {
        match self.verdict {
            Disposition::RetryAfter(asked) => asked,
            Disposition::Retry | Disposition::Fatal | Disposition::Skip => planned,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    const EXACT: RetryPolicy = RetryPolicy::exponential(Duration::from_secs(1), Duration::from_secs(60)).jitter(0.0);

    fn failure(handler: u64, verdict: Disposition) -> HandlerFailure {
        HandlerFailure {
            handler: SubscriptionId(handler),
            name: format!("handler {handler}").into(),
            verdict,
            error_type: "Timeout".into(),
            message: "too late".into(),
        }
    }

    fn attempt(course: &mut Course, failures: Vec<HandlerFailure>) -> Decision {
        course.attempts += 1;
        decide(&EXACT, Time::default(), course, Outcome::Failed(failures), &mut SmallRng::seed_from_u64(1))
    }

    #[test]
    fn only_the_handlers_that_failed_are_asked_again() {
        let mut course = Course::default();
        let decision = attempt(&mut course, vec![failure(2, Disposition::Retry)]);
        assert_eq!(decision, Decision::Again { after: Duration::from_secs(1) });
        assert_eq!(course.pending, Some([SubscriptionId(2)].into()));
        assert_eq!(attempt(&mut course, vec![]), Decision::Resolved);
    }

    #[test]
    fn three_retries_are_four_attempts() {
        let mut course = Course::default();
        for _ in 0..3 {
            let decision = attempt(&mut course, vec![failure(1, Disposition::Retry)]);
            assert!(matches!(decision, Decision::Again { .. }));
        }
        let Decision::Bury(obituary) = attempt(&mut course, vec![failure(1, Disposition::Retry)]) else {
            panic!("the fourth failure is the last");
        };
        assert_eq!((obituary.cause, obituary.attempts), (CauseOfDeath::Exhausted, 4));
    }

    #[test]
    fn a_fatal_failure_waits_for_the_handlers_that_can_still_succeed() {
        let mut course = Course::default();
        let both = vec![failure(1, Disposition::Fatal), failure(2, Disposition::RetryAfter(Duration::from_secs(9)))];
        assert_eq!(attempt(&mut course, both), Decision::Again { after: Duration::from_secs(9) });
        assert_eq!(course.pending, Some([SubscriptionId(2)].into()));
        let Decision::Bury(obituary) = attempt(&mut course, vec![]) else {
            panic!("the fatal failure is not forgotten");
        };
        assert_eq!(obituary.cause, CauseOfDeath::Fatal);
        assert_eq!(obituary.handlers, ["handler 1".into()]);
    }
}
