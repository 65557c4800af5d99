//! What becomes of a record after its handlers ran: done, once more, or to the dead-letter queue.

use super::Time;
use super::dead_letters::{Disposition, Obituary};
use rand::Rng;
use std::sync::Arc;
use std::time::Duration;

/// One registered handler, as the dispatcher counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HandlerId(pub u64);

/// What a handler's failure asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Try again after the usual back-off.
    Retry,
    /// Try again, but not before this has passed.
    RetryAfter(Duration),
    /// Trying again is useless.
    Fatal,
}

/// One handler that failed on a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerFailure {
    /// Which handler.
    pub handler: HandlerId,
    /// Its name, for people.
    pub name: Arc<str>,
    /// What should happen next.
    pub verdict: Verdict,
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

/// Exponential back-off with symmetric jitter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// The wait after the first failure.
    pub base: Duration,
    /// No wait is longer than this, jitter aside.
    pub max: Duration,
    /// The fraction by which a wait may differ from its plan, either way, so that a crowd that failed together does
    /// not come back together.
    pub jitter: f64,
}

impl Backoff {
    /// The wait after failure number `failure`, counted from 0: `min(base · 2^failure, max) · (1 ± jitter)`.
    pub fn delay(&self, failure: u32, chance: &mut impl Rng) -> Duration {
        let planned = self.base.checked_mul(2_u32.saturating_pow(failure)).map_or(self.max, |wait| wait.min(self.max));
        let jitter = self.jitter.clamp(0.0, 1.0);
        if jitter == 0.0 {
            return planned;
        }
        Duration::try_from_secs_f64(planned.as_secs_f64() * (1.0 + chance.random_range(-jitter..=jitter)))
            .unwrap_or(planned)
    }
}

/// How often, and how long apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// Attempts after the first one.
    pub max_retries: u32,
    /// The waits between them.
    pub backoff: Backoff,
}

/// How far a record has come: attempts made, handlers still asked, failures that are final.
#[derive(Debug, Default)]
pub(super) struct Course {
    pub(super) attempts: u32,
    /// The handlers to ask; all of them when `None`.
    pub(super) pending: Option<Vec<HandlerId>>,
    given_up: Vec<HandlerFailure>,
    exhausted: bool,
    first_failed: Option<Time>,
    /// Set once the record is on its way to the dead-letter queue.
    pub(super) obituary: Option<Arc<Obituary>>,
    /// Dead-letter writes that failed so far.
    pub(super) burials_failed: u32,
}

impl Course {
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

impl Retry {
    pub(super) fn decide(&self, now: Time, course: &mut Course, outcome: Outcome, chance: &mut impl Rng) -> Decision {
        let failures = match outcome {
            Outcome::Done => Vec::new(),
            Outcome::Failed(failures) => failures,
            Outcome::Poison { error_type, message } => {
                return Decision::Bury(Obituary::poison(now, error_type, message));
            }
        };
        if !failures.is_empty() {
            course.first_failed.get_or_insert(now);
        }
        let last_attempt = course.attempts > self.max_retries;
        let (again, over): (Vec<_>, Vec<_>) =
            failures.into_iter().partition(|failure| failure.verdict != Verdict::Fatal && !last_attempt);
        course.exhausted |= over.iter().any(|failure| failure.verdict != Verdict::Fatal);
        course.given_up.extend(over);
        if !again.is_empty() {
            let planned = self.backoff.delay(course.attempts.saturating_sub(1), chance);
            let after = again.iter().map(|failure| failure.wait(planned)).max().unwrap_or(planned);
            course.pending = Some(again.into_iter().map(|failure| failure.handler).collect());
            return Decision::Again { after };
        }
        match course.given_up.last() {
            None => Decision::Resolved,
            Some(last) => Decision::Bury(Obituary {
                disposition: if course.exhausted { Disposition::Exhausted } else { Disposition::Fatal },
                handlers: course.given_up.iter().map(|failure| failure.name.clone()).collect(),
                error_type: last.error_type.clone(),
                message: last.message.clone(),
                attempts: course.attempts,
                first_failed: course.first_failed.unwrap_or(now),
                last_failed: now,
            }),
        }
    }
}

impl HandlerFailure {
    fn wait(&self, planned: Duration) -> Duration {
        match self.verdict {
            Verdict::RetryAfter(asked) => asked,
            Verdict::Retry | Verdict::Fatal => planned,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    const EXACT: Backoff = Backoff { base: Duration::from_secs(1), max: Duration::from_secs(60), jitter: 0.0 };

    fn failure(handler: u64, verdict: Verdict) -> HandlerFailure {
        HandlerFailure {
            handler: HandlerId(handler),
            name: format!("handler {handler}").into(),
            verdict,
            error_type: "Timeout".into(),
            message: "too late".into(),
        }
    }

    fn attempt(retry: Retry, course: &mut Course, failures: Vec<HandlerFailure>) -> Decision {
        course.attempts += 1;
        retry.decide(Time::default(), course, Outcome::Failed(failures), &mut SmallRng::seed_from_u64(1))
    }

    #[test]
    fn waits_double_up_to_the_maximum() {
        let mut chance = SmallRng::seed_from_u64(1);
        let waits: Vec<_> = (0..8).map(|failure| EXACT.delay(failure, &mut chance).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(EXACT.delay(u32::MAX, &mut chance), EXACT.max);
    }

    #[test]
    fn jitter_stays_within_its_fraction_on_both_sides() {
        let jittered = Backoff { jitter: 0.1, ..EXACT };
        let mut chance = SmallRng::seed_from_u64(7);
        let waits: Vec<_> = (0..1_000).map(|_| jittered.delay(0, &mut chance).as_secs_f64()).collect();
        assert!(waits.iter().all(|wait| (0.9..=1.1).contains(wait)));
        assert!(waits.iter().any(|wait| *wait < 0.95) && waits.iter().any(|wait| *wait > 1.05));
    }

    #[test]
    fn only_the_handlers_that_failed_are_asked_again() {
        let retry = Retry { max_retries: 3, backoff: EXACT };
        let mut course = Course::default();
        let decision = attempt(retry, &mut course, vec![failure(2, Verdict::Retry)]);
        assert_eq!(decision, Decision::Again { after: Duration::from_secs(1) });
        assert_eq!(course.pending, Some(vec![HandlerId(2)]));
        assert_eq!(attempt(retry, &mut course, vec![]), Decision::Resolved);
    }

    #[test]
    fn three_retries_are_four_attempts() {
        let retry = Retry { max_retries: 3, backoff: EXACT };
        let mut course = Course::default();
        for _ in 0..3 {
            let decision = attempt(retry, &mut course, vec![failure(1, Verdict::Retry)]);
            assert!(matches!(decision, Decision::Again { .. }));
        }
        let Decision::Bury(obituary) = attempt(retry, &mut course, vec![failure(1, Verdict::Retry)]) else {
            panic!("the fourth failure is the last");
        };
        assert_eq!((obituary.disposition, obituary.attempts), (Disposition::Exhausted, 4));
    }

    #[test]
    fn a_fatal_failure_waits_for_the_handlers_that_can_still_succeed() {
        let retry = Retry { max_retries: 3, backoff: EXACT };
        let mut course = Course::default();
        let both = vec![failure(1, Verdict::Fatal), failure(2, Verdict::RetryAfter(Duration::from_secs(9)))];
        assert_eq!(attempt(retry, &mut course, both), Decision::Again { after: Duration::from_secs(9) });
        assert_eq!(course.pending, Some(vec![HandlerId(2)]));
        let Decision::Bury(obituary) = attempt(retry, &mut course, vec![]) else {
            panic!("the fatal failure is not forgotten");
        };
        assert_eq!(obituary.disposition, Disposition::Fatal);
        assert_eq!(obituary.handlers, ["handler 1".into()]);
    }
}
