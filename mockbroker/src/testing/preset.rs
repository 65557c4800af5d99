//! Failures teams have met in production, one call each: those that need nothing but the broker. Made by
//! [`MockCluster::preset`].
//!
//! Each names what goes wrong, where it was met, and what a sound client or service does about it. Some strike at once;
//! those that need something written in between return a value with a method that does the rest.
//!
//! ```
//! use rehearsal_mockbroker::testing::MockCluster;
//!
//! let kafka = MockCluster::builder().brokers(3).topic("orders", 1).start()?;
//! let leader = kafka.preset().acks1_leader_crash("orders", 0)?;
//! // … the producer under test writes with acks=1 and is told that all is well …
//! leader.strike()?; // the only broker that had it dies
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::{MockCluster, PlannedFault};
use crate::control::{Command, CommandError};
use crate::error::ErrorCode;
use crate::fault::{Fault, ImpossibleFault, Lie};
use crate::state::nodes::NodeId;
use crate::state::topics::OFFSETS_TOPIC;
use crate::view::PartitionView;
use crate::wire::ApiKey;

/// The failures; see [`MockCluster::preset`].
#[derive(Debug, Clone, Copy)]
pub struct Presets<'a> {
    kafka: &'a MockCluster,
}

/// A failure cannot be had on this cluster. Nothing has changed that a later failure would notice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PresetError {
    /// The cluster lacks what it is about, or is not in the state for it.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The fault can never happen.
    #[error(transparent)]
    Fault(#[from] ImpossibleFault),
    /// The partition has no leader, or none of the replicas it takes.
    #[error("'{topic}' partition {partition} {lacks}; build the cluster with `.brokers(3)`")]
    Replicas {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// What is missing.
        lacks: &'static str,
    },
}

impl MockCluster {
    /// Failures teams have met in production, one call each.
    pub fn preset(&self) -> Presets<'_> {
        Presets { kafka: self }
    }
}

impl<'a> Presets<'a> {
    // ---- groups and offsets ----

    /// A member is put out of its group while it goes on working, as when a handler takes longer than
    /// `max.poll.interval.ms`: its partitions are handled elsewhere, and its commits are refused.
    ///
    /// `member` is a member id, group instance id or client id.
    ///
    /// # Errors
    /// There is no such group or member.
    pub fn slow_handler_zombie(self, group: &str, member: &str) -> Result<(), PresetError> {
        Ok(self.kafka.expire_member(group, member)?)
    }

    /// A client cannot reach its group's coordinator but goes on fetching: heartbeats, joins and commits are never
    /// answered (franz-go#1326). Release the faults to heal.
    ///
    /// # Errors
    /// None on a cluster that serves groups.
    pub fn coordinator_partition_zombie(self, client_id: &str) -> Result<Vec<PlannedFault>, PresetError> {
        let apis = [ApiKey::Heartbeat, ApiKey::JoinGroup, ApiKey::SyncGroup, ApiKey::OffsetCommit, ApiKey::LeaveGroup];
        let mut cut = Vec::new();
        for api in apis {
            // Which of them the client sends depends on its timing; that none gets through is the failure.
            cut.push(self.kafka.plan(Fault::on(api).client(client_id).hold().always().may_not_fire())?);
        }
        Ok(cut)
    }

    /// A group rebalances again and again under its members (each `strike`), so that partitions leave and return within
    /// one slow handler: offsets stored before must not be committed over newer ones (librdkafka 1.9.0).
    pub fn stale_stored_offset_rewind(self, group: &str) -> Rebalances<'a> {
        Rebalances { kafka: self.kafka, group: group.to_owned() }
    }

    /// The next commit of a group is on its way while the group begins a new generation (librdkafka#4059, KAFKA-14024).
    /// `strike` when it is held: the group rebalances, then the commit arrives.
    ///
    /// # Errors
    /// None on a cluster that serves groups.
    pub fn commit_during_rebalance(self, group: &str) -> Result<HeldAcrossRebalance<'a>, PresetError> {
        self.held_across_rebalance(ApiKey::OffsetCommit, group)
    }

    /// A member's SyncGroup is late: it arrives after the next rebalance has begun, and the member goes on with what it
    /// owned in a generation that is over (KAFKA-12984, KAFKA-13406).
    ///
    /// # Errors
    /// None on a cluster that serves groups.
    pub fn double_owner_stale_generation(self, group: &str) -> Result<HeldAcrossRebalance<'a>, PresetError> {
        self.held_across_rebalance(ApiKey::SyncGroup, group)
    }

    /// A group's offsets are within an open transaction: `times` fetches of them hear `UNSTABLE_OFFSET_COMMIT`
    /// (KIP-447).
    ///
    /// # Errors
    /// None on a cluster that serves groups.
    pub fn unstable_offset_fetch(self, group: &str, times: u64) -> Result<PlannedFault, PresetError> {
        let fault = Fault::on(ApiKey::OffsetFetch).group(group).error(ErrorCode::UnstableOffsetCommit);
        Ok(self.kafka.plan(fault.times(times))?)
    }

    /// A coordinator acknowledges the next commit of a group before it is durable, and fails over: the new one loads
    /// (`COORDINATOR_LOAD_IN_PROGRESS`) and knows only what was committed before (KAFKA-5600, KAFKA-8069). `strike` after
    /// the commit.
    ///
    /// # Errors
    /// None on a cluster that serves groups.
    pub fn coordinator_failover_offset_loss(self, group: &str) -> Result<CoordinatorFailover<'a>, PresetError> {
        let lost = self.kafka.plan(Fault::on(ApiKey::OffsetCommit).group(group).acknowledge_without_effect())?;
        Ok(CoordinatorFailover { kafka: self.kafka, group: group.to_owned(), lost })
    }

    /// A group was idle for longer than `offsets.retention.minutes`: its offsets are gone, and the reset policy decides
    /// between everything again and nothing of what it missed (KIP-211).
    ///
    /// # Errors
    /// There is no such group.
    pub fn offset_expiry_reset(self, group: &str) -> Result<(), PresetError> {
        Ok(self.kafka.control(Command::ExpireOffsets { group: group.to_owned() })?)
    }

    // ---- where a consumer goes on ----

    /// Partitions are added, and a client learns of them late: its metadata stays as it was until the fault is released.
    /// With `auto.offset.reset=latest` what was written in between is skipped (KIP-1327).
    ///
    /// # Errors
    /// There is no such topic, or it has that many partitions.
    pub fn latest_reset_new_partition(
        self,
        topic: &str,
        total: i32,
        client_id: &str,
    ) -> Result<PlannedFault, PresetError> {
        let stale = Fault::on(ApiKey::Metadata).client(client_id).stale_metadata().always().may_not_fire();
        let stale = self.kafka.plan(stale)?;
        match self.kafka.add_partitions(topic, total) {
            Ok(()) => Ok(stale),
            Err(error) => {
                stale.remove();
                Err(error.into())
            }
        }
    }

    /// Retention removes everything a partition holds: a consumer behind its end hears `OFFSET_OUT_OF_RANGE`
    /// (librdkafka#3745).
    ///
    /// # Errors
    /// There is no such partition.
    pub fn retention_overtakes_consumer(self, topic: &str, partition: i32) -> Result<(), PresetError> {
        Ok(self.kafka.trim(topic, partition, self.partition(topic, partition)?.high_watermark)?)
    }

    /// A partition's leader epoch rises and the records of the old epoch go: a commit that carries that epoch must not
    /// send its consumer back to the beginning (KAFKA-19902).
    ///
    /// # Errors
    /// There is no such partition.
    pub fn stale_epoch_replay(self, topic: &str, partition: i32) -> Result<(), PresetError> {
        self.kafka.control(Command::BumpLeaderEpoch { topic: topic.to_owned(), partition })?;
        self.retention_overtakes_consumer(topic, partition)
    }

    /// A topic is deleted and created again under its name: committed offsets and positions are of another log
    /// (KAFKA-12257, librdkafka#1582).
    ///
    /// # Errors
    /// There is no such topic.
    pub fn topic_recreate_offset_reuse(self, topic: &str) -> Result<(), PresetError> {
        Ok(self.kafka.control(Command::RecreateTopic(topic.to_owned()))?)
    }

    /// Looking up offsets fails `times` times for no lasting reason. That must never trigger `auto.offset.reset`
    /// (librdkafka 1.8.0, #4447).
    ///
    /// # Errors
    /// There is no such topic.
    pub fn transient_error_reset(self, topic: &str, times: u64) -> Result<PlannedFault, PresetError> {
        let fault = Fault::on(ApiKey::ListOffsets).topic(topic).error(ErrorCode::RequestTimedOut);
        Ok(self.kafka.plan(fault.times(times))?)
    }

    // ---- replication ----

    /// What is written from now on reaches the leader alone; `strike` kills it. With `acks=1` the producer was told that
    /// all is well, and its records are gone. With `acks=all` it was told nothing yet.
    ///
    /// # Errors
    /// There is no such partition, or nobody else has a replica of it.
    pub fn acks1_leader_crash(self, topic: &str, partition: i32) -> Result<LeaderCrash<'a>, PresetError> {
        let doomed = self.doomed(topic, partition)?;
        doomed.stop_copying()?;
        Ok(LeaderCrash(doomed))
    }

    /// The in-sync replicas shrink to the leader; `strike` kills it and lets a replica lead that lacks what was written
    /// meanwhile (`unclean.leader.election.enable`): acknowledged records are lost, and others take their offsets
    /// (aphyr.com/posts/293).
    ///
    /// # Errors
    /// There is no such partition, or nobody else has a replica of it.
    pub fn unclean_election(self, topic: &str, partition: i32) -> Result<UncleanElection<'a>, PresetError> {
        let doomed = self.doomed(topic, partition)?;
        doomed.shrink_isr()?;
        Ok(UncleanElection(doomed))
    }

    /// The in-sync replicas shrink to one; `strike` cuts its power, so that what it had not flushed is gone, and it comes
    /// back (KIP-966). With `min.insync.replicas=1` acknowledged records are lost.
    ///
    /// # Errors
    /// There is no such partition, or nobody else has a replica of it.
    pub fn last_replica_standing(self, topic: &str, partition: i32) -> Result<LastReplica<'a>, PresetError> {
        let doomed = self.doomed(topic, partition)?;
        doomed.shrink_isr()?;
        Ok(LastReplica(doomed))
    }

    /// The next batch for a partition fails for a moment while those behind it succeed. Without idempotence and with
    /// more than one request in flight the order is another (KAFKA-3197).
    ///
    /// # Errors
    /// There is no such partition.
    pub fn retry_reorder(self, topic: &str, partition: i32) -> Result<PlannedFault, PresetError> {
        let fault = Fault::on(ApiKey::Produce).topic(topic).partition(partition);
        Ok(self.kafka.plan(fault.error(ErrorCode::NotEnoughReplicas))?)
    }

    /// For `times` requests of metadata a topic does not exist, while it does (a broker that has just started): a client
    /// that forgets its partitions' state then starts its sequence numbers over (librdkafka 1.9.0).
    ///
    /// # Errors
    /// There is no such topic.
    pub fn topic_flicker_sequence_reuse(self, topic: &str, times: u64) -> Result<PlannedFault, PresetError> {
        let fault = Fault::on(ApiKey::Metadata).lie(Lie::NoTopic(topic.to_owned()));
        Ok(self.kafka.plan(fault.times(times))?)
    }

    // ---- transactions ----

    /// The next batch of a transactional producer is late: release the fault when its transaction has been aborted, and
    /// before KIP-890 the batch opens one that nobody will end, so that `read_committed` consumers stop (KAFKA-14402).
    ///
    /// # Errors
    /// There is no such topic.
    pub fn hanging_transaction(self, topic: &str, client_id: &str) -> Result<PlannedFault, PresetError> {
        Ok(self.kafka.plan(Fault::on(ApiKey::Produce).topic(topic).client(client_id).hold())?)
    }

    /// The end of a transaction is late: release the fault when the client has tried again and begun another, which the
    /// first end must not touch (Jepsen's analysis of Bufstream 0.1.0).
    ///
    /// # Errors
    /// Transactions are not served.
    pub fn delayed_endtxn(self, transactional_id: &str) -> Result<PlannedFault, PresetError> {
        Ok(self.kafka.plan(Fault::on(ApiKey::EndTxn).naming(transactional_id).hold())?)
    }

    // ---- dead letters and shutdown ----

    /// Writes to one topic, the dead-letter queue's, fail until the fault is removed, while everything else works. A
    /// service that does not wait for the letter commits the source offset all the same: the record is in neither place.
    ///
    /// # Errors
    /// There is no such topic.
    pub fn dlq_fire_and_forget(self, dlq_topic: &str) -> Result<PlannedFault, PresetError> {
        let fault = Fault::on(ApiKey::Produce).topic(dlq_topic).error(ErrorCode::LeaderNotAvailable);
        Ok(self.kafka.plan(fault.always())?)
    }

    /// Every broker is gone just before a consumer closes; a client may wait for ever for a coordinator to commit to
    /// (librdkafka#3740). [`MockCluster::start_broker`] brings them back.
    ///
    /// # Errors
    /// No broker runs.
    pub fn close_hangs_without_coordinator(self) -> Result<(), PresetError> {
        let running: Vec<NodeId> =
            self.kafka.view().brokers.iter().filter(|node| node.running).map(|node| node.id).collect();
        for node in running {
            self.kafka.control(Command::Crash(node))?;
        }
        Ok(())
    }

    fn held_across_rebalance(self, api: ApiKey, group: &str) -> Result<HeldAcrossRebalance<'a>, PresetError> {
        let held = self.kafka.plan(Fault::on(api).group(group).hold())?;
        Ok(HeldAcrossRebalance { kafka: self.kafka, group: group.to_owned(), held })
    }

    fn partition(self, topic: &str, partition: i32) -> Result<PartitionView, PresetError> {
        let unknown = || CommandError::UnknownPartition { topic: topic.to_owned(), partition };
        Ok(self.kafka.view().partition(topic, partition).cloned().ok_or_else(unknown)?)
    }

    /// The leader that is going to die, with its in-sync followers.
    fn doomed(self, topic: &str, partition: i32) -> Result<Doomed<'a>, PresetError> {
        let found = self.partition(topic, partition)?;
        let lacking = |lacks| PresetError::Replicas { topic: topic.to_owned(), partition, lacks };
        let leader = found.leader.ok_or_else(|| lacking("has no leader"))?;
        let followers: Vec<NodeId> = found.isr.into_iter().filter(|node| *node != leader).collect();
        if followers.is_empty() {
            return Err(lacking("is in sync on one broker only"));
        }
        Ok(Doomed { kafka: self.kafka, leader, followers, topic: topic.to_owned(), partition })
    }
}

/// See [`Presets::stale_stored_offset_rewind`].
#[derive(Debug)]
pub struct Rebalances<'a> {
    kafka: &'a MockCluster,
    group: String,
}

impl Rebalances<'_> {
    /// The group rebalances once more.
    ///
    /// # Errors
    /// There is no such group.
    pub fn strike(&self) -> Result<(), PresetError> {
        Ok(self.kafka.rebalance(&self.group)?)
    }
}

/// See [`Presets::commit_during_rebalance`] and [`Presets::double_owner_stale_generation`].
#[derive(Debug)]
#[must_use = "what is held stays held until it strikes"]
pub struct HeldAcrossRebalance<'a> {
    kafka: &'a MockCluster,
    group: String,
    held: PlannedFault,
}

impl HeldAcrossRebalance<'_> {
    /// The fault that holds the request; wait for it with [`WaitFor::held`](super::WaitFor::held).
    pub fn fault(&self) -> &PlannedFault {
        &self.held
    }

    /// The group rebalances, then the held request arrives.
    ///
    /// # Errors
    /// There is no such group.
    pub fn strike(self) -> Result<(), PresetError> {
        self.kafka.rebalance(&self.group)?;
        self.held.release();
        Ok(())
    }
}

/// See [`Presets::coordinator_failover_offset_loss`].
#[derive(Debug)]
#[must_use = "the coordinator fails over when it strikes"]
pub struct CoordinatorFailover<'a> {
    kafka: &'a MockCluster,
    group: String,
    lost: PlannedFault,
}

impl CoordinatorFailover<'_> {
    /// The fault that loses the commit; wait for it with [`WaitFor::hits`](super::WaitFor::hits).
    pub fn fault(&self) -> &PlannedFault {
        &self.lost
    }

    /// The coordinator moves to another broker where there is one; the new one loads for a moment.
    ///
    /// # Errors
    /// The group's coordinator cannot be found.
    pub fn strike(self) -> Result<(), PresetError> {
        let loading = |api| {
            let fault = Fault::on(api).group(self.group.clone()).error(ErrorCode::CoordinatorLoadInProgress);
            self.kafka.plan(fault.may_not_fire())
        };
        loading(ApiKey::OffsetFetch)?;
        loading(ApiKey::JoinGroup)?;
        let partition = self.kafka.shared.with(|cluster| cluster.coordinator_partition(&self.group));
        let view = self.kafka.view();
        let at = view.partition(OFFSETS_TOPIC, partition);
        let others = at.map(|at| at.isr.iter().copied().filter(|node| Some(*node) != at.leader));
        match others.and_then(|mut others| others.next()) {
            Some(to) => Ok(self.kafka.control(Command::MoveCoordinator { group: self.group.clone(), to })?),
            // With one broker its coordinator restarts.
            None => Ok(self.kafka.control(Command::BumpLeaderEpoch { topic: OFFSETS_TOPIC.to_owned(), partition })?),
        }
    }
}

/// A leader that is going to die, and what depends on it.
#[derive(Debug)]
struct Doomed<'a> {
    kafka: &'a MockCluster,
    leader: NodeId,
    followers: Vec<NodeId>,
    topic: String,
    partition: i32,
}

impl Doomed<'_> {
    /// What is written from now on stays with the leader.
    fn stop_copying(&self) -> Result<(), PresetError> {
        self.of_followers(|topic, partition, node| Command::StopCopying { topic, partition, node })
    }

    /// The leader is the only replica in sync, and what is written from now on stays with it.
    fn shrink_isr(&self) -> Result<(), PresetError> {
        self.of_followers(|topic, partition, node| Command::ShrinkIsr { topic, partition, node })?;
        self.stop_copying()
    }

    fn of_followers(&self, command: impl Fn(String, i32, NodeId) -> Command) -> Result<(), PresetError> {
        for node in &self.followers {
            self.kafka.control(command(self.topic.clone(), self.partition, *node))?;
        }
        Ok(())
    }

    /// Any living replica leads, unless one does.
    fn elect_anybody(&self) -> Result<(), PresetError> {
        let (topic, partition) = (self.topic.clone(), self.partition);
        match self.kafka.control(Command::ElectUnclean { topic, partition }) {
            Err(CommandError::Refused(reject)) if reject.code == ErrorCode::ElectionNotNeeded => Ok(()),
            other => Ok(other?),
        }
    }
}

/// See [`Presets::acks1_leader_crash`].
#[derive(Debug)]
#[must_use = "the leader dies when it strikes"]
pub struct LeaderCrash<'a>(Doomed<'a>);

impl LeaderCrash<'_> {
    /// The broker that is going to die.
    pub fn leader(&self) -> i32 {
        self.0.leader.0
    }

    /// The leader dies; a follower leads without what it had not copied, and the others copy from it again.
    ///
    /// # Errors
    /// It does not run any more.
    pub fn strike(self) -> Result<(), PresetError> {
        self.0.kafka.control(Command::Crash(self.0.leader))?;
        self.0.of_followers(|topic, partition, node| Command::ResumeCopying { topic, partition, node })
    }
}

/// See [`Presets::unclean_election`].
#[derive(Debug)]
#[must_use = "the leader dies when it strikes"]
pub struct UncleanElection<'a>(Doomed<'a>);

impl UncleanElection<'_> {
    /// The leader dies, and a replica that lacks records leads.
    ///
    /// # Errors
    /// The leader does not run any more, or no replica is left.
    pub fn strike(self) -> Result<(), PresetError> {
        self.0.kafka.control(Command::Crash(self.0.leader))?;
        self.0.elect_anybody() // where the topic's own config has not seen to it
    }
}

/// See [`Presets::last_replica_standing`].
#[derive(Debug)]
#[must_use = "the power goes when it strikes"]
pub struct LastReplica<'a>(Doomed<'a>);

impl LastReplica<'_> {
    /// The last replica loses its power and what it had not flushed, comes back and leads again.
    ///
    /// # Errors
    /// It does not run any more.
    pub fn strike(self) -> Result<(), PresetError> {
        self.0.kafka.control(Command::PowerLoss(self.0.leader))?;
        self.0.kafka.control(Command::Start(self.0.leader))?;
        self.0.elect_anybody()
    }
}
