//! Moving a partition to other brokers: new replicas copy first, then the old ones go (KIP-455,
//! `PartitionReassignmentReplicas`, `PartitionReassignmentRevert`).

use super::State;
use super::nodes::{NodeId, Nodes};
use super::replication::{Change, Replica, Rules};
use super::topics::Partition;
use crate::error::{ErrorCode, Reject};
use crate::time::Time;
use std::collections::BTreeSet;

/// A partition that is being moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reassignment {
    /// The partition.
    pub index: i32,
    /// Where it lives meanwhile: the replicas it is to have, then those that go.
    pub replicas: Vec<NodeId>,
    /// Those that copy.
    pub adding: Vec<NodeId>,
    /// Those that go once the others have copied.
    pub removing: Vec<NodeId>,
}

impl State {
    /// Begins to move a partition to these brokers; what was under way before goes on from where it is.
    pub fn reassign(
        &mut self,
        now: Time,
        topic: &str,
        index: i32,
        target: &[NodeId],
        may_change_count: bool,
    ) -> Result<(), Reject> {
        let partition = self.partition_to_move(topic, index)?;
        self.check_target(target)?;
        if !may_change_count && partition.replicas_meant() != target.len() {
            let message = format!("there are {} replicas, not {}", partition.replicas_meant(), target.len());
            return Err(Reject::new(ErrorCode::InvalidReplicationFactor, message));
        }
        let nodes = self.nodes.clone();
        self.move_partition(now, topic, index, |partition, rules| partition.reassign(now, target, &nodes, rules));
        self.tell_groups_of_topic(topic);
        Ok(())
    }

    /// Gives up moving a partition: replicas that were still copying go.
    pub fn cancel_reassignment(&mut self, now: Time, topic: &str, index: i32) -> Result<(), Reject> {
        let partition = self.partition_to_move(topic, index)?;
        if !partition.is_moving() {
            return Err(ErrorCode::NoReassignmentInProgress.into());
        }
        let unclean = self.topics.get(topic).is_some_and(|topic| topic.settings.unclean_leader_election);
        if !unclean && partition.isr.iter().all(|node| partition.adding.contains(node)) {
            let message = "none of the replicas that were there before is in sync";
            return Err(Reject::new(ErrorCode::InvalidReplicaAssignment, message));
        }
        self.move_partition(now, topic, index, |partition, rules| partition.revert_reassignment(now, rules));
        self.tell_groups_of_topic(topic);
        Ok(())
    }

    /// The partitions of a topic that are being moved.
    pub fn reassignments(&self, topic: &str) -> impl Iterator<Item = Reassignment> {
        let partitions = self.topics.get(topic).into_iter().flat_map(|topic| (0..).zip(&topic.partitions));
        partitions.filter(|(_, partition)| partition.is_moving()).map(|(index, partition)| Reassignment {
            index,
            replicas: partition.replicas.clone(),
            adding: partition.adding.clone(),
            removing: partition.removing.clone(),
        })
    }

    fn move_partition(&mut self, now: Time, topic: &str, index: i32, act: impl FnOnce(&mut Partition, &Rules)) {
        self.with_coordinators(now, |state| {
            state.at_partition(topic, index, |partition, rules| {
                act(partition, rules);
                partition.advance(now, rules);
                true
            });
        });
    }

    fn partition_to_move(&self, topic: &str, index: i32) -> Result<&Partition, Reject> {
        let unknown = |_| {
            let message = format!("there is no partition {index} of topic '{topic}'");
            Reject::new(ErrorCode::UnknownTopicOrPartition, message)
        };
        self.topics.partition(topic, index).map_err(unknown)
    }

    fn check_target(&self, target: &[NodeId]) -> Result<(), Reject> {
        let unique: BTreeSet<_> = target.iter().collect();
        let unknown = target.iter().find(|node| self.nodes.get(**node).is_none());
        let message = match unknown {
            _ if target.is_empty() => "a partition needs a replica".to_owned(),
            _ if unique.len() != target.len() => "a broker is named twice".to_owned(),
            Some(unknown) => format!("there is no {unknown}"),
            None => return Ok(()),
        };
        Err(Reject::new(ErrorCode::InvalidReplicaAssignment, message))
    }
}

impl Partition {
    /// Whether it is being moved.
    pub fn is_moving(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }

    /// How many replicas it has, or will have once it is where it is being moved to.
    fn replicas_meant(&self) -> usize {
        self.replicas.iter().filter(|node| !self.removing.contains(node)).count()
    }

    fn reassign(&mut self, now: Time, target: &[NodeId], nodes: &Nodes, rules: &Rules) {
        let sorted = |nodes: &mut dyn Iterator<Item = &NodeId>| nodes.copied().collect::<BTreeSet<_>>();
        let removing = sorted(&mut self.replicas.iter().filter(|node| !target.contains(node)));
        let adding = sorted(&mut target.iter().filter(|node| !self.replicas.contains(node)));
        let replicas: Vec<_> = target.iter().chain(&removing).copied().collect();
        if replicas == self.replicas && self.adding.iter().eq(&adding) && self.removing.iter().eq(&removing) {
            return;
        }
        self.adding = adding.into_iter().collect();
        self.removing = removing.into_iter().collect();
        self.replicas = replicas;
        for node in &self.adding {
            self.copies.push(Replica::joining(*node, nodes));
        }
        let at = |node: NodeId| self.replicas.iter().position(|other| *other == node);
        self.copies.sort_by_key(|replica| at(replica.node));
        let change = Change { isr: self.isr.clone(), reassigned: true, ..Default::default() };
        self.change(now, change, rules);
    }

    fn revert_reassignment(&mut self, now: Time, rules: &Rules) {
        let adding = std::mem::take(&mut self.adding);
        self.removing.clear();
        self.replicas.retain(|node| !adding.contains(node));
        let mut isr = self.isr.clone();
        isr.retain(|node| !adding.contains(node));
        if isr.is_empty() {
            isr.extend(self.replicas.first());
        }
        let unclean = rules.unclean_leader_election;
        self.change(now, Change { isr, unclean, reassigned: true, ..Default::default() }, rules);
    }

    /// Ends a reassignment once everybody it adds is in sync, or would be with `isr`: who goes leaves replicas and `isr`.
    pub(super) fn settle_reassignment(&mut self, isr: &mut Vec<NodeId>) -> bool {
        if !self.is_moving() {
            return false;
        }
        let stays = |node: &&NodeId| !self.removing.contains(node);
        let (replicas, in_sync): (Vec<_>, Vec<_>) =
            (self.replicas.iter().filter(stays).copied().collect(), isr.iter().filter(stays).copied().collect());
        if in_sync.is_empty() || !replicas.iter().all(|node| in_sync.contains(node)) {
            return false;
        }
        self.replicas = replicas;
        *isr = in_sync;
        self.adding.clear();
        self.removing.clear();
        true
    }
}
