//! How long to wait before trying again: exponential, bounded, with jitter.
//!
//! Pure: the randomness comes in as an argument.

use std::time::Duration;

use crate::mutant::{self, Mutant};
use rand::Rng;

/// When to try a failed handler again, and when to give up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// The wait after the first failure; doubled after each further one.
    pub base: Duration,
    /// The longest wait, before jitter.
    pub max: Duration,
    /// The share by which a wait is made longer or shorter at random, 0.0 to 1.0, so that consumers which failed
    /// together do not come back together.
    pub jitter: f64,
    /// Retries after the first attempt: 3 means four attempts.
    pub max_retries: u32,
    /// What else waits meanwhile.
    pub scope: RetryScope,
}

/// What waits while an event is retried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RetryScope {
    /// Later events of the same key; all others go on. Keeps the order within each aggregate.
    #[default]
    Key,
    /// Everything later in the same partition. Keeps the order of the log.
    Partition,
    /// Nothing: the event is written to a retry topic and comes back from there when it is due. Nothing ever waits for it,
    /// however long it fails, and **the order is lost**: later events of its aggregate are handled before it. For events
    /// that do not depend on each other. The topics are `{topic}.{group}.retry.1` and so on, one a retry up to the eighth,
    /// so that what comes back later never stands before what comes back sooner.
    Topic,
}

impl Default for RetryPolicy {
    /// Waits of about 1, 2 and 4 seconds, then the dead letters.
    fn default() -> Self {
        Self::exponential(Duration::from_secs(1), Duration::from_secs(60))
    }
}

impl RetryPolicy {
    /// Waits from `base`, doubling, up to `max`; with jitter 0.1, three retries, by key.
    pub const fn exponential(base: Duration, max: Duration) -> Self {
        Self { base, max, jitter: 0.1, max_retries: 3, scope: RetryScope::Key }
    }

    /// No second attempt.
    pub const fn never() -> Self {
        Self::exponential(Duration::ZERO, Duration::ZERO).max_retries(0)
    }

    /// The same with another [`jitter`](Self::jitter).
    #[must_use]
    pub const fn jitter(self, jitter: f64) -> Self {
        Self { jitter, ..self }
    }

    /// The same with another number of [`max_retries`](Self::max_retries).
    #[must_use]
    pub const fn max_retries(self, max_retries: u32) -> Self {
        Self { max_retries, ..self }
    }

    /// The same with another [`scope`](Self::scope).
    #[must_use]
    pub const fn scope(self, scope: RetryScope) -> Self {
        Self { scope, ..self }
    }

    /// The wait before retry number `attempt`, counted from 0:
    /// `min(base · 2^attempt, max) · (1 ± jitter)`.
    pub fn delay(&self, attempt: u32, rng: &mut impl Rng) -> Duration {
        let attempt = if mutant::is(Mutant::BackoffDoesNotGrow) { 0 } else { attempt };
        let factor = 1_u32.checked_shl(attempt).unwrap_or(u32::MAX);
        let steady = self.base.saturating_mul(factor).min(self.max);
        let steady = if mutant::is(Mutant::BackoffInTheWrongUnit) { steady / 1_000 } else { steady };
        let jitter = if self.jitter.is_finite() { self.jitter.clamp(0.0, 1.0) } else { 0.0 };
        let jitter = if mutant::is(Mutant::JitterOutOfRange) { jitter * 3.0 } else { jitter };
        let stretched = steady.as_secs_f64() * (1.0 + rng.random_range(-jitter..=jitter));
        Duration::try_from_secs_f64(stretched).unwrap_or(steady)
    }

    /// The wait after the `failures`-th failure of an event, counted from 1; `None` when it is time to give up.
    pub fn after_failure(&self, failures: u32, rng: &mut impl Rng) -> Option<Duration> {
        (failures <= self.max_retries).then(|| self.delay(failures.saturating_sub(1), rng))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    fn waits(policy: RetryPolicy) -> Vec<f64> {
        let mut rng = SmallRng::seed_from_u64(7);
        (1..).map_while(|failures| policy.after_failure(failures, &mut rng)).map(|wait| wait.as_secs_f64()).collect()
    }

    #[test]
    fn by_default_it_waits_about_1_2_and_4_seconds_and_gives_up_at_the_fourth_failure() {
        assert_eq!(waits(RetryPolicy::default().jitter(0.0)), [1.0, 2.0, 4.0]);
        for (wait, steady) in waits(RetryPolicy::default()).into_iter().zip([1.0, 2.0, 4.0]) {
            assert!((wait - steady).abs() <= steady * 0.1, "{wait} is not {steady} ± 10 %");
        }
    }

    #[test]
    fn the_custom_timeline_of_the_tutorial() {
        let policy = RetryPolicy::exponential(Duration::from_secs(2), Duration::from_secs(120)).max_retries(5);
        assert_eq!(waits(policy.jitter(0.0)), [2.0, 4.0, 8.0, 16.0, 32.0]);
    }

    #[test]
    fn never_means_one_attempt() {
        assert_eq!(waits(RetryPolicy::never()), [0.0; 0]);
    }

    #[test]
    fn consumers_that_fail_together_come_back_apart() {
        let wait = |seed| RetryPolicy::default().delay(3, &mut SmallRng::seed_from_u64(seed));
        assert_ne!(wait(1), wait(2));
    }

    proptest! {
        #[test]
        fn every_wait_lies_within_the_jitter_of_its_bounded_step(
            base_ms in 0_u64..1_000_000, max_ms in 0_u64..100_000_000, jitter in 0.0..=1.0, attempt: u32, seed: u64,
        ) {
            let policy = RetryPolicy::exponential(Duration::from_millis(base_ms), Duration::from_millis(max_ms));
            let wait = policy.jitter(jitter).delay(attempt, &mut SmallRng::seed_from_u64(seed)).as_secs_f64();
            let steady = (base_ms as f64 * 2_f64.powi(attempt.min(40) as i32)).min(max_ms as f64) / 1000.0;
            let slack = steady * jitter + 1e-6;
            prop_assert!((wait - steady).abs() <= slack, "{wait} is not {steady} ± {slack}");
        }

        #[test]
        fn no_setting_makes_it_panic(base: Duration, max: Duration, jitter: f64, attempt: u32, seed: u64) {
            RetryPolicy::exponential(base, max).jitter(jitter).delay(attempt, &mut SmallRng::seed_from_u64(seed));
        }
    }
}
