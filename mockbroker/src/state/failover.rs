//! What the cluster does about its replicas as a whole: it lets time pass for those that copy slowly, and moves leaders
//! and coordinators when brokers stop, vanish and come back (`ReplicationControlManager`, `ClusterControlManager`).

use super::nodes::NodeId;
use super::replication::{Change, Rules};
use super::topics::{OFFSETS_TOPIC, Partition};
use super::{State, partition_for};
use crate::config::ClusterConfig;
use crate::error::ErrorCode;
use crate::parked::PartitionName;
use crate::time::{Time, millis};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tracing::debug;

/// Who vanished, and when something is copied.
#[derive(Debug, Default)]
pub(super) struct Replication {
    /// When something happens by itself in which partition.
    due: BTreeSet<(Time, PartitionName)>,
    /// When the controller notices that a broker is gone.
    fencings: BTreeSet<(Time, NodeId)>,
    /// Brokers that stopped without saying so, until they start again.
    unclean: BTreeSet<NodeId>,
    /// When the controller looks next for partitions without a leader that may elect anybody.
    unclean_election_at: Option<Time>,
    /// When brokers look next for logs to flush.
    flush_at: Option<Time>,
    failover_delay: Duration,
    eligible_leader_replicas: bool,
    truncate_to_high_watermark: bool,
}

impl Replication {
    pub(super) fn new(config: &ClusterConfig, eligible_leader_replicas: bool) -> Self {
        Self {
            failover_delay: config.failover_delay,
            eligible_leader_replicas,
            truncate_to_high_watermark: config.truncate_to_high_watermark,
            ..Default::default()
        }
    }
}

impl State {
    /// Lets happen what is due by `now`, in the order of time.
    pub(crate) fn replicate(&mut self, now: Time) {
        while let Some(at) = self.next_replication().filter(|at| *at <= now) {
            if self.replication.fencings.first().is_some_and(|(due, _)| *due == at) {
                let fenced = self.replication.fencings.pop_first();
                fenced.into_iter().for_each(|(_, node)| self.fence(at, node));
            } else if self.replication.unclean_election_at == Some(at) {
                self.replication.unclean_election_at = None;
                self.elect_where_anybody_may(at);
            } else if self.replication.flush_at == Some(at) {
                self.flush_older(at);
            } else if let Some((_, (topic, index))) = self.replication.due.pop_first() {
                if let Some(partition) = self.topics.get_mut(&topic).and_then(|topic| topic.partition_mut(index)) {
                    // An entry of a deleted topic of this name means nothing to its successor.
                    partition.scheduled = partition.scheduled.filter(|scheduled| *scheduled != at);
                }
                self.tend(at, &topic, index);
            }
        }
    }

    /// When something happens by itself.
    pub(crate) fn next_replication(&self) -> Option<Time> {
        let Replication { due, fencings, flush_at, unclean_election_at, .. } = &self.replication;
        let copying = due.first().map(|(at, _)| *at);
        let fencing = fencings.first().map(|(at, _)| *at);
        [copying, fencing, *flush_at, *unclean_election_at].into_iter().flatten().min()
    }

    /// Notes that the leader appended what lies behind `end_before`.
    pub(crate) fn appended(&mut self, now: Time, topic: &str, index: i32, end_before: i64) {
        self.at_partition(topic, index, |partition, rules| partition.appended(now, end_before, rules));
        self.expect_upkeep_of(now, topic, Some(index));
        if self.replication.flush_at.is_none() {
            self.replication.flush_at = self.flush_interval().map(|interval| now + interval);
        }
    }

    /// `log.flush.scheduler.interval.ms`; by default brokers never look for logs to flush.
    fn flush_interval(&self) -> Option<Duration> {
        let interval_ms = self.configs.broker_settings().log_flush_scheduler_interval_ms;
        (0 < interval_ms && interval_ms < i64::MAX).then(|| millis(interval_ms))
    }

    /// Brokers look for logs whose last flush is `flush.ms` ago (`LogManager.flushDirtyLogs`).
    fn flush_older(&mut self, at: Time) {
        let interval = self.flush_interval();
        let mut left = false;
        for topic in self.topics.iter_mut() {
            // Without a limit of its own a log is flushed whenever its broker looks.
            let age = match topic.settings.flush_ms {
                i64::MAX => interval.unwrap_or_default(),
                flush_ms => millis(flush_ms),
            };
            for partition in &mut topic.partitions {
                left |= partition.flush_older(at, age);
            }
        }
        self.replication.flush_at = interval.filter(|_| left).map(|interval| at + interval);
    }

    /// Lets happen in a partition what is due.
    fn tend(&mut self, at: Time, topic: &str, index: i32) {
        self.at_partition(topic, index, |partition, rules| partition.advance(at, rules));
    }

    /// Does something to a partition which tells whether anybody waiting may care, and notes when to look at it again.
    pub(super) fn at_partition(&mut self, topic: &str, index: i32, act: impl FnOnce(&mut Partition, &Rules) -> bool) {
        let Some(settings) = self.topics.get(topic).map(|topic| topic.settings) else { return };
        let rules = Rules {
            min_insync_replicas: settings.min_insync_replicas,
            lag_time_max: millis(self.configs.broker_settings().replica_lag_time_max_ms),
            flush_messages: settings.flush_messages,
            checkpoint_interval: millis(self.configs.broker_settings().replica_high_watermark_checkpoint_interval_ms),
            unclean_leader_election: settings.unclean_leader_election,
            eligible_leader_replicas: self.replication.eligible_leader_replicas,
            truncate_to_high_watermark: self.replication.truncate_to_high_watermark,
        };
        let Some(partition) = self.topics.get_mut(topic).and_then(|topic| topic.partition_mut(index)) else { return };
        let changed = act(partition, &rules);
        let next = partition.next_due(&rules);
        let before = std::mem::replace(&mut partition.scheduled, next);
        if before != next {
            let due = &mut self.replication.due;
            before.map(|at| due.remove(&(at, (topic.to_owned(), index))));
            next.map(|at| due.insert((at, (topic.to_owned(), index))));
        }
        if changed {
            self.partition_changed(topic, index);
        }
    }

    /// The same in every partition that has a replica on this broker.
    fn at_partitions_of(&mut self, node: NodeId, mut act: impl FnMut(&mut Partition, &Rules) -> bool) {
        for (topic, index) in self.partitions_of(node) {
            self.at_partition(&topic, index, &mut act);
        }
    }

    fn partitions_of(&self, node: NodeId) -> Vec<PartitionName> {
        let mut names = Vec::new();
        for topic in self.topics.iter() {
            let on_node = topic.partitions.iter().enumerate().filter(|(_, p)| p.replicas.contains(&node));
            names.extend(on_node.map(|(index, _)| (topic.name.clone(), index as i32)));
        }
        names
    }

    /// Whether there are eligible leaders outside of the in-sync set, from now on.
    pub(super) fn set_eligible_leader_replicas(&mut self, on: bool) {
        self.replication.eligible_leader_replicas = on;
    }

    // ---- brokers ----

    /// A broker's process dies. Its records stay in the page cache, so it has them when it comes back, and knows the high
    /// watermark it wrote down last; the controller notices after the failover delay. With `power` gone it loses what it had not flushed. False when it does not run.
    pub(crate) fn crash(&mut self, now: Time, node: NodeId, power: bool) -> bool {
        if !self.nodes.set_running(node, false) {
            return false;
        }
        self.fetch_sessions.forget_node(node);
        self.shares.forget_node(node);
        self.replication.unclean.insert(node);
        self.with_coordinators(now, |state| {
            state.at_partitions_of(node, |partition, rules| {
                partition.set_up(node, false);
                partition.fall_back_to_checkpoint(now, node, rules);
                if power {
                    partition.lose_unflushed(node);
                }
                partition.advance(now, rules);
                true
            });
            match state.replication.failover_delay {
                Duration::ZERO => state.take_out(now, node),
                delay => {
                    state.replication.fencings.insert((now + delay, node));
                }
            }
        });
        true
    }

    /// A broker is told to stop: what it leads moves first, then it flushes and goes (controlled shutdown). What no
    /// follower has copied yet is lost to its partitions, as in Kafka, unless nobody else can lead them. False when it does
    /// not run.
    pub(crate) fn begin_stop(&mut self, now: Time, node: NodeId) -> bool {
        if !self.nodes.is_running(node) {
            return false;
        }
        self.with_coordinators(now, |state| state.take_out(now, node));
        true
    }

    /// The end of a controlled shutdown.
    pub(crate) fn finish_stop(&mut self, now: Time, node: NodeId) {
        self.nodes.set_running(node, false);
        self.fetch_sessions.forget_node(node);
        self.shares.forget_node(node);
        self.at_partitions_of(node, |partition, rules| {
            partition.flush(now, node);
            partition.set_up(node, false);
            partition.advance(now, rules);
            true
        });
    }

    /// The controller notices that a broker is gone.
    fn fence(&mut self, now: Time, node: NodeId) {
        self.with_coordinators(now, |state| state.take_out(now, node));
    }

    /// Takes a broker out of every in-sync set and elects other leaders (`handleBrokerFenced`,
    /// `handleBrokerInControlledShutdown`).
    fn take_out(&mut self, now: Time, node: NodeId) {
        self.nodes.set_fenced(node, true);
        self.at_partitions_of(node, |partition, rules| {
            partition.set_active(node, false);
            if partition.isr.contains(&node) {
                let isr = partition.isr.iter().copied().filter(|id| *id != node).collect();
                let unclean = rules.unclean_leader_election;
                partition.change(now, Change { isr, unclean, ..Default::default() }, rules);
            }
            partition.advance(now, rules);
            true
        });
    }

    /// A broker starts with what it held. After a crash the controller trusts it no longer to have everything that was
    /// committed (KIP-966). False when it runs.
    pub(crate) fn start(&mut self, now: Time, node: NodeId) -> bool {
        if !self.nodes.set_running(node, true) {
            return false;
        }
        self.replication.fencings.retain(|(_, fenced)| *fenced != node);
        let unclean_shutdown = self.replication.unclean.remove(&node).then_some(node);
        self.with_coordinators(now, |state| {
            state.forget_in_sync(now, node, unclean_shutdown);
            state.nodes.set_fenced(node, false);
            state.at_partitions_of(node, |partition, rules| {
                partition.set_up(node, true);
                partition.set_active(node, true);
                if rules.truncate_to_high_watermark {
                    partition.cut_follower_to_high_watermark(node);
                }
                if partition.leader.is_none() {
                    let (isr, unclean) = (partition.isr.clone(), rules.unclean_leader_election);
                    partition.change(now, Change { isr, unclean, ..Default::default() }, rules);
                }
                partition.advance(now, rules);
                true
            });
        });
        true
    }

    /// A broker registers again: it is no longer in sync, and not eligible to lead if it did not shut down in order
    /// (`handleBrokerShutdown`).
    fn forget_in_sync(&mut self, now: Time, node: NodeId, unclean_shutdown: Option<NodeId>) {
        let elr = self.replication.eligible_leader_replicas;
        let noticed = self.nodes.get(node).is_some_and(|node| node.fenced);
        if noticed && (unclean_shutdown.is_none() || !elr) {
            return;
        }
        self.at_partitions_of(node, |partition, rules| {
            partition.set_active(node, false);
            if partition.isr.contains(&node) || partition.elr.contains(&node) {
                let isr = partition.isr.iter().copied().filter(|id| *id != node).collect();
                let unclean = rules.unclean_leader_election;
                partition.change(now, Change { isr, unclean_shutdown, unclean, ..Default::default() }, rules);
            }
            true
        });
    }

    /// Writes to disk all a broker's replicas hold.
    pub(crate) fn flush(&mut self, now: Time, node: NodeId) {
        self.at_partitions_of(node, |partition, _| {
            partition.flush(now, node);
            false
        });
    }

    /// Changes how long a broker's replicas take to copy.
    pub(crate) fn set_follower_delay(&mut self, now: Time, node: NodeId, delay: Duration) {
        self.nodes.set_follower_delay(node, delay);
        self.at_partitions_of(node, |partition, rules| {
            partition.set_delay(node, delay);
            partition.advance(now, rules)
        });
    }

    // ---- partitions ----

    /// Makes an in-sync replica the leader; the groups of a partition of the offsets topic move with it.
    pub(crate) fn move_leader(&mut self, now: Time, topic: &str, index: i32, to: NodeId) -> Option<()> {
        let running = self.nodes.is_running(to);
        let partition = self.topics.get(topic)?.partition(index)?;
        if !running || !partition.isr.contains(&to) {
            return None;
        }
        if partition.leader.is_some_and(|from| from != to) {
            self.with_coordinators(now, |state| {
                state.at_partition(topic, index, |partition, rules| {
                    partition.lead(now, Some(to), false, rules);
                    partition.advance(now, rules);
                    true
                });
            });
        }
        Some(())
    }

    /// Elects the leader a partition has once more, in a new epoch.
    pub(crate) fn bump_leader_epoch(&mut self, now: Time, topic: &str, index: i32) {
        self.at_partition(topic, index, |partition, rules| {
            let leader = partition.leader;
            partition.lead(now, leader, false, rules);
            partition.advance(now, rules);
            true
        });
    }

    /// Elects any live replica of a partition without a leader, whatever it lacks (`ElectLeaders` with type `UNCLEAN`).
    pub(crate) fn elect_unclean(&mut self, now: Time, topic: &str, index: i32) -> Result<(), ErrorCode> {
        let partition = self.topics.partition(topic, index).map_err(|reject| reject.code)?;
        if partition.leader.is_some() {
            return Err(ErrorCode::ElectionNotNeeded);
        }
        let mut elected = false;
        self.with_coordinators(now, |state| {
            state.at_partition(topic, index, |partition, rules| {
                let isr = partition.isr.clone();
                partition.change(now, Change { isr, unclean: true, ..Default::default() }, rules);
                elected = partition.leader.is_some();
                partition.advance(now, rules);
                true
            });
        });
        if elected { Ok(()) } else { Err(ErrorCode::EligibleLeadersNotAvailable) }
    }

    /// Once a topic allows unclean elections, the controller looks after its leaderless partitions when it next looks,
    /// every `unclean.leader.election.interval.ms` (`maybeElectUncleanLeaders`). Whoever becomes leaderless later is seen
    /// to at once.
    pub(super) fn watch_leaderless(&mut self, now: Time) {
        if self.replication.unclean_election_at.is_none() && !self.leaderless_where_anybody_may().is_empty() {
            let interval_ms = self.configs.broker_settings().unclean_leader_election_interval_ms;
            self.replication.unclean_election_at = Some(now + millis(interval_ms));
        }
    }

    fn leaderless_where_anybody_may(&self) -> Vec<PartitionName> {
        let topics = self.topics.iter().filter(|topic| topic.settings.unclean_leader_election);
        let leaderless = topics.flat_map(|topic| {
            let partitions = topic.partitions.iter().enumerate().filter(|(_, partition)| partition.leader.is_none());
            partitions.map(|(index, _)| (topic.name.clone(), index as i32))
        });
        leaderless.collect()
    }

    fn elect_where_anybody_may(&mut self, at: Time) {
        for (topic, index) in self.leaderless_where_anybody_may() {
            if let Err(code) = self.elect_unclean(at, &topic, index) {
                debug!(topic, index, code = code.name(), "nobody can lead this partition");
            }
        }
    }

    /// Stops or resumes the copying of a follower.
    pub(crate) fn set_copying(&mut self, now: Time, topic: &str, index: i32, node: NodeId, copying: bool) {
        self.at_partition(topic, index, |partition, rules| {
            partition.set_copying(node, copying);
            partition.advance(now, rules)
        });
    }

    /// Takes a follower out of the in-sync set and keeps it out; false for a leader or who is not in sync.
    pub(crate) fn shrink_isr(&mut self, now: Time, topic: &str, index: i32, node: NodeId) -> bool {
        let mut done = false;
        self.at_partition(topic, index, |partition, rules| {
            if partition.leader == Some(node) || !partition.isr.contains(&node) || partition.leader.is_none() {
                return false;
            }
            done = true;
            partition.set_may_join(node, false);
            let isr = partition.isr.iter().copied().filter(|id| *id != node).collect();
            partition.change(now, Change { isr, ..Default::default() }, rules);
            partition.advance(now, rules);
            true
        });
        done
    }

    /// Lets a follower back into the in-sync set, at once if it has caught up.
    pub(crate) fn expand_isr(&mut self, now: Time, topic: &str, index: i32, node: NodeId) {
        self.at_partition(topic, index, |partition, rules| {
            partition.set_may_join(node, true);
            partition.advance(now, rules)
        });
    }

    // ---- coordinators ----

    /// Does something that may move leaders; groups whose coordinator moved with them are unloaded and loaded. Sessions
    /// of members stand still while their group has no coordinator.
    pub(super) fn with_coordinators(&mut self, now: Time, act: impl FnOnce(&mut Self)) {
        let before: BTreeMap<String, Option<NodeId>> =
            self.groups.ids().map(|group| (group.to_owned(), self.coordinator_of(group))).collect();
        let given_up = self.transactions_given_up();
        act(self);
        self.take_up_transactions(given_up);
        for (group, from) in before {
            let to = self.coordinator_of(&group);
            match (from, to) {
                (from, to) if from == to => {}
                (Some(_), Some(_)) => self.groups.reload(now, &group),
                (Some(_), None) => self.groups.unload(now, &group),
                (None, _) => self.groups.load(now, &group),
            }
        }
    }

    fn coordinator_of(&self, group: &str) -> Option<NodeId> {
        let topic = self.topics.get(OFFSETS_TOPIC)?;
        let partition = topic.partition(partition_for(group, topic.partitions.len() as i32))?;
        partition.leader.filter(|leader| self.nodes.is_running(*leader))
    }
}
