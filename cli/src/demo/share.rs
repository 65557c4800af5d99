//! How many partitions a consumer holds, as it changes.

use rehearsal_bus::hooks::{Observer, Step};
use tokio::sync::watch;

/// Watches a bus through its hooks. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub(super) struct Share(watch::Sender<usize>);

impl Share {
    pub(super) fn watch(&self) -> watch::Receiver<usize> {
        self.0.subscribe()
    }
}

impl Observer for Share {
    fn step(&self, step: &Step<'_>) {
        match step {
            Step::Assigned { .. } => self.0.send_modify(|held| *held += 1),
            Step::Revoked { .. } => self.0.send_modify(|held| *held = held.saturating_sub(1)),
            _ => {}
        }
    }
}
