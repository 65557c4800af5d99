//! Elections an administrator asks for (`ReplicationControlManager.electLeader`), and features' levels, which decide how
//! the cluster elects.

use super::State;
use super::features::{Direction, ELIGIBLE_LEADER_REPLICAS, TRANSACTION_VERSION};
use super::nodes::NodeId;
use crate::error::{ErrorCode, Reject};
use crate::time::Time;

impl State {
    /// Gives a partition back to the broker it was assigned to first.
    pub fn elect_preferred(&mut self, now: Time, topic: &str, index: i32) -> Result<(), Reject> {
        let partition = self.topics.partition(topic, index)?;
        let preferred: Option<NodeId> = partition.replicas.first().copied();
        if partition.leader == preferred {
            return Err(ErrorCode::ElectionNotNeeded.into());
        }
        let moved = preferred.filter(|node| self.nodes.get(*node).is_some_and(|node| !node.fenced));
        let moved = moved.and_then(|node| self.move_leader(now, topic, index, node));
        moved.ok_or_else(|| ErrorCode::PreferredLeaderNotAvailable.into())
    }

    /// Changes the levels of features, all or none; with `validate_only` none.
    pub fn update_features(&mut self, updates: &[(&str, i16, Direction)], validate_only: bool) -> Result<(), Reject> {
        let checked = updates.iter().map(|(name, level, direction)| {
            let name = self.features.check(name, *level, *direction)?;
            Ok((name, *level))
        });
        let checked: Vec<_> = checked.collect::<Result<_, Reject>>()?;
        if validate_only {
            return Ok(());
        }
        self.features.set(checked);
        self.set_eligible_leader_replicas(self.features.level(ELIGIBLE_LEADER_REPLICAS) > 0);
        let version = self.features.level(TRANSACTION_VERSION);
        let settings = super::transaction_settings(self.configs.broker_settings(), version);
        self.transactions.configure(settings);
        Ok(())
    }
}
