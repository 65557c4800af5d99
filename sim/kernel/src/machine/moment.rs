//! Virtual time.

use std::time::Duration;

/// A moment of virtual time: what a simulated machine's monotonic clock reads, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

/// What the wall clock reads when the monotonic clock reads zero: 2023-11-14, less the thousand seconds since boot.
const WALL_AT_ZERO: u64 = (1_700_000_000 - 1_000) * 1_000_000_000;

impl Moment {
    /// When a simulation begins: the machines have been up for a thousand seconds, so that programs may subtract from
    /// the clock.
    pub const START: Self = Self(1_000 * 1_000_000_000);

    /// From what the monotonic clock reads.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// What the monotonic clock reads.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// What the wall clock reads: nanoseconds since the Unix epoch, on a machine without clock skew.
    pub const fn wall_nanos(self) -> u64 {
        self.0.saturating_add(WALL_AT_ZERO)
    }

    /// The moment at which the wall clock reads this.
    pub const fn from_wall_nanos(nanos: u64) -> Self {
        Self(nanos.saturating_sub(WALL_AT_ZERO))
    }

    /// This many nanoseconds later.
    pub const fn after_nanos(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// This much later.
    pub fn after(self, span: Duration) -> Self {
        self.after_nanos(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
    }

    /// How long after `earlier` this is; zero when it is not later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}
