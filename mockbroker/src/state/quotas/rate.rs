//! How much a second, measured over the last eleven windows of a second each (`Rate`, `SampledStat`;
//! `quota.window.num` and `quota.window.size.seconds` are not looked at).

use crate::time::Time;
use std::collections::VecDeque;
use std::time::Duration;

/// How long a window is.
const WINDOW: Duration = Duration::from_secs(1);
/// How many windows are looked at: the present one, and so many that are over.
pub(super) const WHOLE_WINDOWS: u32 = 10;

/// What was used in the last windows, oldest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Rate(VecDeque<(Time, f64)>);

impl Rate {
    /// Counts something.
    pub(super) fn record(&mut self, now: Time, amount: f64) {
        self.0.retain(|(began, _)| now.since(*began) < WINDOW * (WHOLE_WINDOWS + 1));
        match self.0.back_mut().filter(|(began, _)| now.since(*began) < WINDOW) {
            Some((_, used)) => *used += amount,
            None => self.0.push_back((now, amount)),
        }
    }

    /// How long nothing may be used until the rate is `bound` a second (`QuotaUtils.throttleTime`).
    pub(super) fn wait_for(&self, now: Time, bound: f64) -> Duration {
        let measured = self.measured_over(now).as_secs_f64();
        let rate = self.0.iter().map(|(_, used)| used).sum::<f64>() / measured;
        if rate <= bound {
            return Duration::ZERO;
        }
        let wait_ms = ((rate - bound) / bound * measured * 1_000.0).round();
        Duration::from_millis(wait_ms.clamp(0.0, f64::from(i32::MAX)) as u64)
    }

    /// Since the oldest window began, and ten windows at least.
    fn measured_over(&self, now: Time) -> Duration {
        let since = self.0.front().map_or(Duration::ZERO, |(began, _)| now.since(*began));
        let whole = u32::try_from(since.as_millis() / WINDOW.as_millis()).unwrap_or(u32::MAX);
        since + WINDOW * WHOLE_WINDOWS.saturating_sub(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_for_ten_seconds_is_waited_for() {
        let at = |ms: i64| Time::from_millis(1_000_000 + ms);
        let mut rate = Rate::default();
        rate.record(at(0), 1_000.0);
        assert_eq!(rate.wait_for(at(0), 100.0), Duration::ZERO, "100 a second, for ten seconds");
        rate.record(at(0), 500.0);
        assert_eq!(rate.wait_for(at(0), 100.0), Duration::from_secs(5));
        assert_eq!(rate.wait_for(at(5_500), 100.0), Duration::from_millis(4_500), "measured over 10.5 seconds");
        rate.record(at(20_000), 10.0);
        assert_eq!(rate.wait_for(at(20_000), 100.0), Duration::ZERO, "what is long ago is forgotten");
    }
}
