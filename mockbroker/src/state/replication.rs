//! How the replicas of a partition copy from each other: what each of them has, who is in sync, who may lead, and what
//! is lost when one of them fails (`Partition`, `ReplicaManager`, `AbstractFetcherThread`, `PartitionChangeBuilder`).
//!
//! The records are kept once, in [`Partition::log`], which is the log of the leader, or of the last one there was. Every
//! other replica is a beginning of that log and a few numbers. Only where a replica holds batches that this log lacks –
//! a former leader that comes back – it keeps a tail of its own, which ends when it follows again.
//!
//! A follower has one fetch under way at a time, as in Kafka: it begins when the leader has news, takes the follower's
//! delay there and back, and brings what the leader had when it began. What the leader learns of the follower and what
//! the follower learns of the high watermark both wait for the next fetch.

use super::log::{LeaderEpochs, Log, StoredBatch};
use super::nodes::{NodeId, Nodes};
use super::topics::Partition;
use crate::time::Time;
use std::borrow::Cow;
use std::time::Duration;

/// Configs that decide how a partition replicates.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// `min.insync.replicas`.
    pub min_insync_replicas: i32,
    /// `replica.lag.time.max.ms`.
    pub lag_time_max: Duration,
    /// `flush.messages`.
    pub flush_messages: i64,
    /// `replica.high.watermark.checkpoint.interval.ms`.
    pub checkpoint_interval: Duration,
    /// `unclean.leader.election.enable`.
    pub unclean_leader_election: bool,
    /// Whether there are eligible leaders outside of the in-sync set (KIP-966).
    pub eligible_leader_replicas: bool,
    /// Whether new followers cut their log to the high watermark, as before KIP-101.
    pub truncate_to_high_watermark: bool,
}

/// One replica of a partition.
#[derive(Debug, Clone)]
pub struct Replica {
    /// Where it lives.
    pub node: NodeId,
    /// One past its last record; the holder's is its log's.
    end_offset: i64,
    high_watermark: i64,
    /// The high watermark it wrote down last, as of `high_watermark_moved_at`.
    checkpoint: i64,
    high_watermark_moved_at: Time,
    flushed: i64,
    last_flush: Time,
    /// What it has that the partition's log lacks.
    tail: Option<Box<Tail>>,
    /// What the leader knows it to have; nothing before its first fetch from this leader.
    acknowledged: Option<i64>,
    /// When it last had everything the leader had.
    caught_up_at: Time,
    fetch: Option<FollowerFetch>,
    delay: Duration,
    /// Whether its broker runs.
    up: bool,
    /// Whether the controller lets it lead and be in sync: its broker is neither fenced nor shutting down.
    active: bool,
    copying: bool,
    may_join: bool,
}

/// A follower's fetch under way.
#[derive(Debug, Clone, Copy)]
struct FollowerFetch {
    began: Time,
    due: Time,
    end_offset: i64,
    high_watermark: i64,
}

/// The end of a replica's log that the partition's log does not share.
#[derive(Debug, Clone)]
struct Tail {
    /// Where it begins: up to here the two logs are the same.
    from: i64,
    batches: Vec<StoredBatch>,
    /// The epochs of the replica's whole log.
    epochs: LeaderEpochs,
}

/// What a replica shows to the outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// Where it lives.
    pub node: NodeId,
    /// One past its last record.
    pub log_end_offset: i64,
    /// The high watermark as it knows it.
    pub high_watermark: i64,
    /// Everything before this offset is on disk; a loss of power takes the rest.
    pub flushed: i64,
    /// Whether it follows the leader; false for a leader, a replica that does not run, and one that was stopped.
    pub copying: bool,
    /// From this offset on it has records that the leader's log lacks.
    pub diverges_at: Option<i64>,
}

/// What can be read from one replica.
#[derive(Debug)]
pub struct ReplicaLog<'a> {
    log: Cow<'a, Log>,
    end_offset: i64,
    high_watermark: i64,
}

/// A change of a partition's in-sync replicas, and of its leader if need be.
#[derive(Debug, Clone, Default)]
pub(super) struct Change {
    /// Who is to be in sync.
    pub(super) isr: Vec<NodeId>,
    /// Who came back without having shut down in order, so that it may have lost records.
    pub(super) unclean_shutdown: Option<NodeId>,
    /// Whether somebody who is not in sync may lead.
    pub(super) unclean: bool,
    /// Whether the assignment changed already.
    pub(super) reassigned: bool,
}

impl Replica {
    /// A replica with nothing in it.
    pub(super) fn new(node: NodeId, nodes: &Nodes) -> Self {
        let at = nodes.get(node);
        Self {
            node,
            end_offset: 0,
            high_watermark: 0,
            checkpoint: 0,
            high_watermark_moved_at: Time::ZERO,
            flushed: 0,
            last_flush: Time::ZERO,
            tail: None,
            acknowledged: Some(0),
            caught_up_at: Time::ZERO,
            fetch: None,
            delay: at.map_or(Duration::ZERO, |node| node.follower_delay),
            up: at.is_some_and(|node| node.running),
            active: at.is_some_and(|node| !node.fenced),
            copying: true,
            may_join: true,
        }
    }

    /// A replica that has to copy everything first.
    pub(super) fn joining(node: NodeId, nodes: &Nodes) -> Self {
        Self { acknowledged: None, ..Self::new(node, nodes) }
    }

    /// Up to where its log is the partition's.
    fn shared(&self) -> i64 {
        self.tail.as_ref().map_or(self.end_offset, |tail| tail.from)
    }

    fn follows(&self) -> bool {
        self.up && self.copying
    }

    /// Cuts its log at `offset`.
    fn truncate(&mut self, offset: i64) {
        if let Some(tail) = &mut self.tail {
            tail.batches.retain(|batch| batch.header.base_offset < offset);
            tail.epochs.truncate(offset);
        }
        self.tail = self.tail.take().filter(|tail| !tail.batches.is_empty());
        self.end_offset = self.end_offset.min(offset);
        self.high_watermark = self.high_watermark.min(self.end_offset);
        self.flushed = self.flushed.min(self.end_offset);
        self.fetch = None;
        self.acknowledged = None;
    }

    /// Notes that the high watermark moves on from `before`. Brokers write theirs down at every full interval, so what
    /// counts is only whether one lies between this move and the last.
    fn high_watermark_moves(&mut self, before: i64, at: Time, rules: &Rules) {
        if checkpoints_by(at, rules) > checkpoints_by(self.high_watermark_moved_at, rules) {
            self.checkpoint = before;
        }
        self.high_watermark_moved_at = at;
    }

    fn flush_if_due(&mut self, end_offset: i64, at: Time, rules: &Rules) {
        if end_offset - self.flushed >= rules.flush_messages {
            self.flushed = end_offset;
            self.last_flush = at;
        }
    }
}

impl ReplicaLog<'_> {
    /// The log. It may go on beyond what this replica has: see [`ReplicaLog::end_offset`].
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// One past the replica's last record.
    pub fn end_offset(&self) -> i64 {
        self.end_offset
    }

    /// Up to where the replica lets consumers read.
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// Up to where it lets consumers read who want only what is decided.
    pub fn last_stable_offset(&self) -> i64 {
        self.log.last_stable_offset_at(self.high_watermark)
    }

    /// Where an epoch ended in the replica's log; see [`LeaderEpochs::end_offset_for`].
    pub fn end_of_epoch(&self, epoch: i32) -> Option<(i32, i64)> {
        if self.end_offset == self.log.end_offset() {
            return self.log.epochs().end_offset_for(epoch, self.end_offset);
        }
        let mut epochs = self.log.epochs().clone();
        epochs.truncate(self.end_offset);
        epochs.end_offset_for(epoch, self.end_offset)
    }
}

/// What replication asks of a partition and does to it.
impl Partition {
    /// What this broker's replica can show a reader; `None` when it has none.
    pub fn replica_log(&self, node: NodeId) -> Option<ReplicaLog<'_>> {
        if node == self.holder {
            let log = Cow::Borrowed(&self.log);
            return Some(ReplicaLog {
                log,
                end_offset: self.log.end_offset(),
                high_watermark: self.log.high_watermark(),
            });
        }
        let replica = self.copies.iter().find(|replica| replica.node == node)?;
        let log = match &replica.tail {
            None => Cow::Borrowed(&self.log),
            Some(tail) => {
                let mut log = self.log.clone();
                log.split_off(tail.from);
                log.append_stored(tail.batches.iter().cloned(), &tail.epochs);
                Cow::Owned(log)
            }
        };
        let high_watermark = replica.high_watermark.max(self.log.start_offset()).min(replica.end_offset);
        Some(ReplicaLog { log, end_offset: replica.end_offset, high_watermark })
    }

    /// Every replica as it stands, in the order of assignment.
    pub fn replica_status(&self) -> impl Iterator<Item = ReplicaStatus> + '_ {
        self.copies.iter().map(|replica| {
            let holds = replica.node == self.holder;
            ReplicaStatus {
                node: replica.node,
                log_end_offset: if holds { self.log.end_offset() } else { replica.end_offset },
                high_watermark: if holds { self.log.high_watermark() } else { replica.high_watermark },
                flushed: replica.flushed,
                copying: replica.follows() && self.leader.is_some_and(|leader| leader != replica.node),
                diverges_at: replica.tail.as_ref().map(|tail| tail.from),
            }
        })
    }

    /// The bytes this broker's replica takes; `None` when it has none.
    pub fn bytes_on(&self, node: NodeId) -> Option<u64> {
        let replica = self.replica_log(node)?;
        Some(replica.log().size_below(replica.end_offset()))
    }

    /// How many replicas must be in sync for `acks=all`: never more than there are (`effectiveMinIsr`).
    pub fn min_isr(&self, min_insync_replicas: i32) -> usize {
        usize::try_from(min_insync_replicas).unwrap_or(1).clamp(1, self.replicas.len().max(1))
    }

    /// Whether a new leader does not know yet how far its predecessor let consumers read, so that it must not say where
    /// the log ends for them (KIP-207).
    pub fn high_watermark_lags(&self) -> bool {
        self.epoch_start > self.log.high_watermark()
    }

    /// Notes that the leader appended what lies behind `end_before`, and lets whoever copies at once copy. True when
    /// consumers can read more.
    pub(super) fn appended(&mut self, now: Time, end_before: i64, rules: &Rules) -> bool {
        let (holder, end_offset) = (self.holder, self.log.end_offset());
        for replica in &mut self.copies {
            if replica.node == holder {
                replica.flush_if_due(end_offset, now, rules);
            } else if replica.acknowledged.is_some_and(|known| known >= end_before) {
                replica.caught_up_at = now;
            }
        }
        self.advance(now, rules)
    }

    /// Lets happen whatever is due: followers' fetches arrive, the in-sync set shrinks and grows, the high watermark
    /// rises. True when a reader or a waiting producer may care.
    pub(super) fn advance(&mut self, at: Time, rules: &Rules) -> bool {
        let led = self.leader.is_some_and(|leader| self.copies.iter().any(|r| r.node == leader && r.up));
        if !led {
            for replica in &mut self.copies {
                replica.fetch = None;
            }
            return false;
        }
        let mut news = false;
        loop {
            let mut moved = false;
            for index in 0..self.copies.len() {
                moved |= self.follow(index, at, rules);
            }
            moved |= self.admit_to_isr(at, rules);
            moved |= self.dismiss_from_isr(at, rules);
            moved |= self.raise_high_watermark(at, rules);
            if !moved {
                return news;
            }
            news = true;
        }
    }

    /// When something happens by itself.
    pub(super) fn next_due(&self, rules: &Rules) -> Option<Time> {
        let leader = self.leader?;
        let end_offset = self.log.end_offset();
        let fetches = self.copies.iter().filter_map(|replica| Some(replica.fetch?.due));
        let lags = |replica: &&Replica| {
            replica.node != leader
                && replica.acknowledged.is_none_or(|known| known < end_offset)
                && self.isr.contains(&replica.node)
        };
        let led = self.copies.iter().any(|replica| replica.node == leader && replica.up);
        let lagging = self.copies.iter().filter(|_| led).filter(lags);
        fetches.chain(lagging.map(|replica| replica.caught_up_at + rules.lag_time_max + JUST_LONGER)).min()
    }

    /// One follower: its fetch arrives if it is due, and the next one begins if there is something to fetch.
    fn follow(&mut self, index: usize, at: Time, rules: &Rules) -> bool {
        let (end_offset, high_watermark) = (self.log.end_offset(), self.log.high_watermark());
        let replica = &mut self.copies[index];
        if Some(replica.node) == self.leader {
            return false;
        }
        if !replica.follows() {
            replica.fetch = None;
            return false;
        }
        let mut arrived = false;
        loop {
            if let Some(fetch) = replica.fetch {
                if fetch.due > at {
                    return arrived;
                }
                arrived = true;
                replica.fetch = None;
                if let Some(tail) = &replica.tail {
                    // The leader answers where the logs part, the follower cuts its own there (KIP-279, KIP-595).
                    let from = tail.from;
                    replica.truncate(from);
                } else {
                    replica.end_offset = fetch.end_offset.min(end_offset);
                    replica.high_watermark_moves(replica.high_watermark, at, rules);
                    replica.high_watermark = fetch.high_watermark.min(replica.end_offset);
                    replica.acknowledged = Some(replica.end_offset);
                    replica.flush_if_due(replica.end_offset, at, rules);
                    let caught_up = if replica.end_offset >= end_offset { at } else { fetch.began };
                    replica.caught_up_at = replica.caught_up_at.max(caught_up);
                }
            }
            let news = replica.tail.is_some()
                || replica.acknowledged != Some(end_offset)
                || replica.high_watermark != high_watermark;
            if !news {
                return arrived;
            }
            replica.fetch = Some(FollowerFetch { began: at, due: at + replica.delay, end_offset, high_watermark });
        }
    }

    /// Takes followers that have caught up into the in-sync set (`maybeExpandIsr`). One that would be dropped again at
    /// once is left out, where Kafka's would go in and out.
    fn admit_to_isr(&mut self, at: Time, rules: &Rules) -> bool {
        let enough = self.log.high_watermark().max(self.epoch_start);
        let ready = |replica: &&Replica| {
            replica.may_join
                && replica.active
                && replica.follows()
                && replica.acknowledged.is_some_and(|known| known >= enough)
                && self.keeps_up(replica, at, rules)
                && !self.isr.contains(&replica.node)
        };
        let joining: Vec<NodeId> = self.copies.iter().filter(ready).map(|replica| replica.node).collect();
        if joining.is_empty() {
            return false;
        }
        let isr = self.isr.iter().copied().chain(joining).collect();
        self.change(at, Change { isr, ..Default::default() }, rules)
    }

    /// Drops followers that have lagged for too long (`maybeShrinkIsr`). Kafka looks twice in that time, so there it takes
    /// up to half as long again.
    fn dismiss_from_isr(&mut self, at: Time, rules: &Rules) -> bool {
        let kept = |replica: &Replica| Some(replica.node) == self.leader || self.keeps_up(replica, at, rules);
        let lagging = |replica: &&Replica| !kept(replica) && self.isr.contains(&replica.node);
        let dismissed: Vec<NodeId> = self.copies.iter().filter(lagging).map(|replica| replica.node).collect();
        if dismissed.is_empty() {
            return false;
        }
        let isr = self.isr.iter().copied().filter(|node| !dismissed.contains(node)).collect();
        self.change(at, Change { isr, ..Default::default() }, rules)
    }

    fn keeps_up(&self, replica: &Replica, at: Time, rules: &Rules) -> bool {
        replica.acknowledged.is_some_and(|known| known >= self.log.end_offset())
            || at < replica.caught_up_at + rules.lag_time_max + JUST_LONGER
    }

    /// Lets consumers read what every in-sync replica has (`maybeIncrementLeaderHW`).
    fn raise_high_watermark(&mut self, at: Time, rules: &Rules) -> bool {
        if self.isr.len() < self.min_isr(rules.min_insync_replicas) {
            return false; // KIP-966: with too few in-sync replicas nothing is committed
        }
        let end_offset = self.log.end_offset();
        let mut committed = end_offset;
        for replica in self.copies.iter().filter(|replica| Some(replica.node) != self.leader) {
            let known = replica.acknowledged.unwrap_or(-1);
            // Whoever is about to join is waited for, or under constant load it would never catch up.
            let joins = || replica.may_join && replica.active && at < replica.caught_up_at + rules.lag_time_max;
            if known < committed && (self.isr.contains(&replica.node) || joins()) {
                committed = known;
            }
        }
        let before = self.log.high_watermark();
        self.log.advance_high_watermark(committed);
        if before == self.log.high_watermark() {
            return false;
        }
        self.committed = self.committed.max(self.log.high_watermark());
        self.with_replica(self.holder, |leader| leader.high_watermark_moves(before, at, rules));
        true
    }

    /// What the controller does about a partition: sets its in-sync replicas, and elects a leader where the present one
    /// may not go on (`PartitionChangeBuilder`). True when anything changed.
    pub(super) fn change(&mut self, now: Time, change: Change, rules: &Rules) -> bool {
        let mut isr = change.isr;
        let settled = self.settle_reassignment(&mut isr);
        let leaves = self.copies.iter().any(|replica| !self.replicas.contains(&replica.node));
        let mut elr = self.eligible_leaders_beside(&isr, change.unclean_shutdown, rules);
        let (leader, unclean) = self.elect(&isr, &elr, change.unclean, rules);
        if leader != self.leader
            && let Some(leader) = leader
        {
            if unclean {
                isr = vec![leader];
                elr.clear();
            } else if elr.contains(&leader) {
                isr = vec![leader];
                elr.retain(|node| *node != leader);
            }
        }
        if isr.is_empty() && !rules.eligible_leader_replicas {
            isr.clone_from(&self.isr); // whoever was in sync last is waited for
        }
        let emptied = isr.is_empty() && !self.isr.is_empty();
        let changed = change.reassigned || settled || isr != self.isr || elr != self.elr || leader != self.leader;
        if rules.eligible_leader_replicas {
            if emptied && self.leader.is_some() {
                self.last_known_leader = self.leader;
            } else if leader.is_some() {
                self.last_known_leader = None;
            }
        }
        self.isr = isr;
        self.elr = elr;
        // Whoever goes must not be taken for a replica any more, so the epoch rises even where the leader stays.
        if leader != self.leader || leaves {
            self.lead(now, leader, unclean, rules);
            self.dismiss_strangers();
        } else if changed {
            self.partition_epoch += 1;
        }
        changed
    }

    /// Forgets the replicas of brokers the partition is no longer assigned to. Without a leader, whoever held the log
    /// leaves it to the first that stays.
    fn dismiss_strangers(&mut self) {
        if !self.replicas.contains(&self.holder)
            && let Some(heir) = self.replicas.first().copied()
        {
            self.hold(heir);
        }
        self.copies.retain(|replica| self.replicas.contains(&replica.node));
    }

    /// Who may lead without being in sync: while there are fewer in sync than `min.insync.replicas` nothing is committed,
    /// so whoever was in sync before still has everything that is (KIP-966).
    fn eligible_leaders_beside(&self, isr: &[NodeId], unclean_shutdown: Option<NodeId>, rules: &Rules) -> Vec<NodeId> {
        if !rules.eligible_leader_replicas || isr.len() >= self.min_isr(rules.min_insync_replicas) {
            return Vec::new();
        }
        let eligible = |node: &NodeId| {
            (self.isr.contains(node) || self.elr.contains(node))
                && !isr.contains(node)
                && Some(*node) != unclean_shutdown
        };
        self.replicas.iter().copied().filter(eligible).collect()
    }

    /// Who is to lead, and whether that may lose records.
    fn elect(&self, isr: &[NodeId], elr: &[NodeId], unclean: bool, rules: &Rules) -> (Option<NodeId>, bool) {
        let active = |node: &NodeId| self.copies.iter().any(|replica| replica.node == *node && replica.active);
        let valid = |node: &NodeId| active(node) && (isr.contains(node) || (isr.is_empty() && elr.contains(node)));
        let clean = self.leader.filter(valid).or_else(|| self.replicas.iter().copied().find(valid));
        if clean.is_some() {
            return (clean, false);
        }
        let last_known = self.last_known_leader.filter(active);
        if rules.eligible_leader_replicas && isr.is_empty() && elr.is_empty() && last_known.is_some() {
            return (last_known, true);
        }
        let anyone = if unclean { self.replicas.iter().copied().find(active) } else { None };
        (anyone, anyone.is_some())
    }

    /// Makes a broker the leader, in a new epoch; `None` leaves the partition without one. What the new leader lacks is
    /// no longer in the log, and nobody reads it again unless its last holder is elected.
    pub(super) fn lead(&mut self, now: Time, leader: Option<NodeId>, unclean: bool, rules: &Rules) {
        self.leader = leader;
        self.leader_epoch += 1;
        self.partition_epoch += 1;
        for replica in &mut self.copies {
            replica.fetch = None;
            replica.acknowledged = None;
        }
        let Some(leader) = leader else { return };
        self.hold(leader);
        if unclean || rules.truncate_to_high_watermark || self.lost_records {
            // Only then may a leader lack what was committed.
            self.committed = self.committed.min(self.log.end_offset());
        }
        self.epoch_start = self.log.end_offset();
        self.log.begin_epoch(self.leader_epoch);
        for replica in &mut self.copies {
            replica.caught_up_at = if self.isr.contains(&replica.node) { now } else { Time::ZERO };
        }
        if rules.truncate_to_high_watermark {
            let up: Vec<NodeId> = self.copies.iter().filter(|r| r.up).map(|r| r.node).collect();
            up.into_iter().for_each(|node| self.cut_follower_to_high_watermark(node));
        }
    }

    /// What a follower did before KIP-101 when it learned of a leader or started.
    pub(super) fn cut_follower_to_high_watermark(&mut self, node: NodeId) {
        if node != self.holder {
            self.with_replica(node, |replica| replica.truncate(replica.high_watermark));
        }
    }

    /// Makes a replica's log the partition's. Batches it lacks stay with the replicas that have them.
    fn hold(&mut self, node: NodeId) {
        let Some(next) = self.copies.iter().position(|replica| replica.node == node) else { return };
        if node == self.holder {
            return;
        }
        self.set_down();
        let cut = self.copies[next].shared();
        self.part_at(cut);
        if let Some(tail) = self.copies[next].tail.take() {
            self.log.append_stored(tail.batches, &tail.epochs);
            for batch in self.log.batches().filter(|batch| batch.header.base_offset >= cut) {
                self.producers.remember_stored(batch);
            }
        }
        self.holder = node;
        self.log.reset_high_watermark(self.copies[next].high_watermark);
        self.join_tails();
    }

    /// Writes the log's numbers into its holder's replica, which only then can be compared with others.
    fn set_down(&mut self) {
        let (holder, end_offset, high_watermark) = (self.holder, self.log.end_offset(), self.log.high_watermark());
        if let Some(replica) = self.copies.iter_mut().find(|replica| replica.node == holder) {
            replica.end_offset = end_offset;
            replica.high_watermark = high_watermark;
        }
    }

    /// Cuts the partition's log at `cut`; replicas that have more of it keep that as a tail of their own.
    fn part_at(&mut self, cut: i64) {
        if cut >= self.log.end_offset() {
            return;
        }
        let epochs = self.log.epochs().clone();
        let removed = self.log.split_off(cut);
        self.producers.truncate(cut, self.log.batches());
        for replica in self.copies.iter_mut().filter(|replica| replica.shared() > cut) {
            let shared = replica.shared();
            let own = removed.iter().take_while(|batch| batch.header.base_offset < shared).cloned();
            replica.tail = Some(Box::new(match replica.tail.take() {
                Some(tail) => Tail { from: cut, batches: own.chain(tail.batches).collect(), ..*tail },
                None => {
                    let mut epochs = epochs.clone();
                    epochs.truncate(replica.end_offset);
                    Tail { from: cut, batches: own.collect(), epochs }
                }
            }));
        }
    }

    /// Shortens tails by what the partition's log has as well: the same offset and epoch are the same records.
    fn join_tails(&mut self) {
        for replica in &mut self.copies {
            let Some(tail) = &mut replica.tail else { continue };
            let same = |batch: &&StoredBatch| {
                let ours = self.log.batch_at(batch.header.base_offset);
                ours.is_some_and(|ours| {
                    ours.header.partition_leader_epoch == batch.header.partition_leader_epoch
                        && ours.header.last_offset_delta == batch.header.last_offset_delta
                })
            };
            let joined = tail.batches.iter().take_while(same).count();
            if let Some(last) = tail.batches.drain(..joined).next_back() {
                tail.from = last.header.last_offset() + 1;
            }
            if tail.batches.is_empty() {
                replica.tail = None;
            }
        }
    }

    /// The broker's process is gone or back; what its replica holds stays.
    pub(super) fn set_up(&mut self, node: NodeId, up: bool) {
        self.with_replica(node, |replica| {
            replica.up = up;
            replica.fetch = None;
            replica.acknowledged = None;
        });
    }

    /// The broker forgets the high watermark but for what it wrote down last (`replication-offset-checkpoint`).
    pub(super) fn fall_back_to_checkpoint(&mut self, now: Time, node: NodeId, rules: &Rules) {
        self.set_down();
        self.with_replica(node, |replica| {
            replica.high_watermark_moves(replica.high_watermark, now, rules);
            replica.high_watermark = replica.checkpoint.min(replica.high_watermark);
        });
        if node == self.holder
            && let Some(holder) = self.copies.iter().find(|replica| replica.node == node)
        {
            self.log.reset_high_watermark(holder.high_watermark);
        }
    }

    /// What the controller thinks of a broker.
    pub(super) fn set_active(&mut self, node: NodeId, active: bool) {
        self.with_replica(node, |replica| replica.active = active);
    }

    /// Changes how long a broker's replica takes to copy, from its next fetch on.
    pub(super) fn set_delay(&mut self, node: NodeId, delay: Duration) {
        self.with_replica(node, |replica| replica.delay = delay);
    }

    /// Stops or resumes a follower's copying.
    pub(super) fn set_copying(&mut self, node: NodeId, copying: bool) {
        self.with_replica(node, |replica| replica.copying = copying);
    }

    /// Keeps a follower out of the in-sync set, or lets it back in when it has caught up.
    pub(super) fn set_may_join(&mut self, node: NodeId, may_join: bool) {
        self.with_replica(node, |replica| replica.may_join = may_join);
    }

    /// Writes to disk all this broker's replica has.
    pub(super) fn flush(&mut self, now: Time, node: NodeId) {
        self.set_down();
        self.with_replica(node, |replica| {
            replica.flushed = replica.end_offset;
            replica.last_flush = now;
        });
    }

    /// Flushes the running replicas whose last flush is `age` ago; true when something is left for later.
    pub(super) fn flush_older(&mut self, now: Time, age: Duration) -> bool {
        self.set_down();
        let mut left = false;
        for replica in self.copies.iter_mut().filter(|replica| replica.up) {
            if now >= replica.last_flush + age {
                replica.flushed = replica.end_offset;
                replica.last_flush = now;
            }
            left |= replica.flushed < replica.end_offset;
        }
        left
    }

    /// The broker lost its power: its replica is what is on its disk.
    pub(super) fn lose_unflushed(&mut self, node: NodeId) {
        self.set_down();
        let Some(index) = self.copies.iter().position(|replica| replica.node == node) else { return };
        let end_offset = self.copies[index].end_offset;
        let flushed = self.copies[index].flushed;
        if flushed >= end_offset {
            return;
        }
        self.lost_records = true;
        self.copies[index].truncate(flushed);
        if node == self.holder {
            // Other replicas keep what they have of it.
            self.part_at(flushed);
            self.committed = self.committed.min(self.log.end_offset());
        }
    }

    /// # Panics
    /// When replicas contradict each other or the log.
    #[cfg(debug_assertions)]
    pub(crate) fn check(&self, topic: &str, index: usize) {
        let end_offset = self.log.end_offset();
        assert!(
            self.leader.is_none_or(|leader| leader == self.holder),
            "the log of {topic}-{index} is not its leader's"
        );
        assert!(
            self.committed <= end_offset,
            "{topic}-{index} was committed up to {} and ends at {end_offset}",
            self.committed
        );
        assert!(
            self.log.epochs().latest().is_none_or(|latest| latest <= self.leader_epoch),
            "{topic}-{index} has records of an epoch that has not begun"
        );
        for replica in self.copies.iter().filter(|replica| replica.node != self.holder) {
            let node = replica.node;
            let of_tail = replica.tail.as_ref().and_then(|tail| tail.batches.last());
            let end = of_tail.map_or(replica.end_offset, |last| last.header.last_offset() + 1);
            assert!(end == replica.end_offset, "{node}'s tail of {topic}-{index} does not end where it says");
            assert!(replica.shared() <= end_offset, "{node} has more of {topic}-{index} than there is");
            assert!(
                replica.high_watermark <= replica.end_offset,
                "{node}'s watermark of {topic}-{index} is past its end"
            );
            assert!(replica.flushed <= replica.end_offset, "{node} flushed more of {topic}-{index} than it has");
            if self.leader.is_some() && self.isr.contains(&node) && replica.acknowledged.is_some() {
                assert!(
                    replica.end_offset >= self.log.high_watermark(),
                    "{node} is in sync in {topic}-{index} without all that is committed"
                );
            }
        }
    }

    fn with_replica(&mut self, node: NodeId, act: impl FnOnce(&mut Replica)) {
        if let Some(replica) = self.copies.iter_mut().find(|replica| replica.node == node) {
            act(replica);
        }
    }
}

/// How often brokers have written down their high watermarks by then.
fn checkpoints_by(at: Time, rules: &Rules) -> i64 {
    let interval_us = i64::try_from(rules.checkpoint_interval.as_micros()).unwrap_or(i64::MAX).max(1);
    at.as_micros().div_euclid(interval_us)
}

/// Kafka counts milliseconds and asks for more than the limit.
const JUST_LONGER: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::super::nodes::Node;
    use super::*;
    use crate::wire::batch::BatchBuilder;
    use proptest::prelude::*;

    const RULES: Rules = Rules {
        min_insync_replicas: 1,
        lag_time_max: Duration::from_secs(30),
        flush_messages: i64::MAX,
        checkpoint_interval: Duration::from_secs(5),
        unclean_leader_election: true,
        eligible_leader_replicas: false,
        truncate_to_high_watermark: false,
    };

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Append(u8),
        Copy(usize),
        Lead(usize),
        Flush(usize),
        LosePower(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (1..4_u8).prop_map(Step::Append),
            3 => (0..4_usize).prop_map(Step::Copy),
            2 => (0..4_usize).prop_map(Step::Lead),
            1 => (0..4_usize).prop_map(Step::Flush),
            1 => (0..4_usize).prop_map(Step::LosePower),
        ];
        proptest::collection::vec(step, 1..80)
    }

    /// Replicas as plain lists: of every record the offset is its place, and what stands there is the epoch and the key
    /// of its batch.
    #[derive(Default)]
    struct Plain {
        logs: [Vec<(i32, i32)>; 4],
        flushed: [usize; 4],
    }

    impl Plain {
        fn truncate(&mut self, node: usize, to: usize) {
            self.logs[node].truncate(to);
            self.flushed[node] = self.flushed[node].min(to);
        }

        fn copy(&mut self, from: usize, to: usize) {
            let same = self.logs[from].iter().zip(&self.logs[to]).take_while(|(a, b)| a == b).count();
            self.truncate(to, same);
            self.logs[to] = self.logs[from].clone();
        }
    }

    fn records(partition: &Partition, node: NodeId) -> Vec<(i32, i32)> {
        let replica = partition.replica_log(node).expect("a replica");
        let mut found = Vec::new();
        for batch in replica.log().batches().filter(|batch| batch.header.base_offset < replica.end_offset()) {
            let record = (batch.header.partition_leader_epoch, batch.header.base_timestamp as i32);
            found.extend(std::iter::repeat_n(record, batch.header.records_count as usize));
        }
        assert_eq!(found.len() as i64, replica.end_offset(), "{node} says where its log ends");
        found
    }

    proptest! {
        #[test]
        fn shared_logs_hold_what_separate_logs_would(steps in steps()) {
            let ids = [1, 2, 3, 4].map(NodeId);
            let nodes = Nodes::new(ids.map(|id| Node {
                id,
                host: "localhost".into(),
                port: 9092,
                other_endpoints: Vec::new(),
                rack: None,
                running: true,
                fenced: false,
                follower_delay: Duration::ZERO,
            }));
            let (now, mut plain) = (Time::ZERO, Plain::default());
            let mut partition = Partition::new(ids.to_vec(), &nodes);
            ids.into_iter().for_each(|id| partition.set_copying(id, false));
            let mut leader = 0;
            for (turn, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Append(count) => {
                        let key = turn as i32;
                        let record = |batch: BatchBuilder, _| batch.record(i64::from(key), None, None);
                        let batch = (0..count).fold(BatchBuilder::new().producer(7, 0, key), record);
                        let (epoch, end) = (partition.leader_epoch, partition.log.end_offset());
                        let bytes = batch.build().expect("a batch").into();
                        let header = partition.log.append(bytes, epoch, None).clone();
                        partition.producers.remember(&header);
                        partition.appended(now, end, &RULES);
                        plain.logs[leader].extend(std::iter::repeat_n((epoch, key), count.into()));
                    }
                    Step::Copy(node) if node == leader => {}
                    Step::Copy(node) => {
                        partition.set_copying(ids[node], true);
                        partition.advance(now, &RULES);
                        partition.set_copying(ids[node], false);
                        plain.copy(leader, node);
                    }
                    Step::Lead(node) => {
                        partition.lead(now, Some(ids[node]), true, &RULES);
                        leader = node;
                    }
                    Step::Flush(node) => {
                        partition.flush(now, ids[node]);
                        plain.flushed[node] = plain.logs[node].len();
                    }
                    Step::LosePower(node) => {
                        partition.lose_unflushed(ids[node]);
                        let flushed = plain.flushed[node];
                        plain.truncate(node, flushed);
                        if node == leader {
                            partition.lead(now, Some(ids[node]), true, &RULES);
                        }
                    }
                }
                partition.check("orders", 0);
                for (node, log) in plain.logs.iter().enumerate() {
                    prop_assert_eq!(&records(&partition, ids[node]), log);
                }
                // Of its producer the leader remembers the last five batches of its own log.
                let mut batches: Vec<i64> =
                    partition.log.batches().rev().take(5).map(|batch| batch.header.base_offset).collect();
                batches.reverse();
                let remembered: Vec<i64> =
                    partition.producers.iter().flat_map(|(_, producer)| &producer.batches).map(|b| b.base_offset).collect();
                prop_assert_eq!(remembered, batches);
            }
        }
    }
}
