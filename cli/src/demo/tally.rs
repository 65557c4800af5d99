//! Counting across tasks, and waiting for a count.

use super::PATIENCE;
use anyhow::bail;
use tokio::sync::watch;

/// A count that can be waited for. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally(watch::Sender<u64>);

impl Tally {
    pub(super) fn add(&self, count: u64) {
        self.0.send_modify(|total| *total += count);
    }

    pub(super) fn count(&self) -> u64 {
        *self.0.borrow()
    }

    /// Waits for so many, as long as they keep coming: gives up when [`PATIENCE`] passes without one.
    pub(super) async fn reach(&self, goal: u64, what: &str) -> anyhow::Result<()> {
        let mut seen = self.0.subscribe();
        while *seen.borrow_and_update() < goal {
            // It cannot be closed while `self` holds its other end.
            if tokio::time::timeout(PATIENCE, seen.changed()).await.is_err() {
                bail!("{} of {goal} {what} after {PATIENCE:?} without another one", self.count());
            }
        }
        Ok(())
    }
}
