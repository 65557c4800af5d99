//! Coordinators at work: what they ask of partitions and groups, and the markers they write
//! (`TransactionCoordinator`, `TransactionMarkerChannelManager`, `AddPartitionsToTxnManager`).

use super::super::State;
use super::super::segments::{Incoming, RollAfter};
use super::super::topics::{OFFSETS_TOPIC, TRANSACTIONS_TOPIC};
use super::{Due, EPOCH_BUMP_FROM, Identity, Outcome, Written};
use crate::error::{ErrorCode, Reject};
use crate::parked::PartitionName;
use crate::state::nodes::NodeId;
use crate::time::Time;
use crate::wire::batch::TimestampType;
use crate::wire::marker::Marker;
use std::collections::BTreeSet;
use std::sync::Arc;
use tracing::{debug, info};

/// How a partition's leader asks the coordinator about a transaction it has no record of, by the version of the
/// client's request (`TransactionSupportedOperation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Participation {
    /// It asks; clients know no error for "not part of the transaction" of its own.
    Verified,
    /// It asks; clients know `TRANSACTION_ABORTABLE` (KIP-890).
    VerifiedAbortable,
    /// The partition joins by being written to (KIP-890 part 2).
    Implied,
}

/// What a producer's request says of its transaction.
#[derive(Debug, Clone, Copy)]
pub struct InTransaction<'a> {
    /// The transactional id.
    pub id: &'a str,
    /// The producer.
    pub who: Identity,
    /// How its partitions take part.
    pub participation: Participation,
}

impl State {
    /// The broker that coordinates this transactional id; `None` while nobody does.
    pub fn transaction_coordinator(&self, id: &str) -> Option<NodeId> {
        self.leader_for(TRANSACTIONS_TOPIC, id).filter(|leader| self.nodes.is_running(*leader))
    }

    /// Refuses unless this broker coordinates the transactional id.
    pub fn check_transaction_coordinator(&self, node: NodeId, id: &str) -> Result<(), Reject> {
        if self.transaction_coordinator(id) == Some(node) { Ok(()) } else { Err(ErrorCode::NotCoordinator.into()) }
    }

    /// A transactional producer comes, see [`super::Transactions::init`].
    pub fn init_transactions(
        &mut self,
        now: Time,
        node: NodeId,
        id: &str,
        timeout_ms: i32,
        expected: Option<Identity>,
    ) -> Result<Identity, Reject> {
        self.transactions.check_timeout(timeout_ms)?;
        self.check_transaction_coordinator(node, id)?;
        let now_ms = self.wall_clock_ms(now);
        self.transactions.init(now_ms, id, timeout_ms, expected, &mut self.producer_ids)
    }

    /// Partitions join a transaction, see [`super::Transactions::add`].
    pub fn add_to_transaction(
        &mut self,
        now: Time,
        node: NodeId,
        id: &str,
        who: Identity,
        partitions: &[PartitionName],
        version: i16,
    ) -> Result<(), Reject> {
        self.check_transaction_coordinator(node, id)?;
        let now_ms = self.wall_clock_ms(now);
        self.transactions.add(now_ms, id, who, partitions, version)
    }

    /// A producer ends its transaction, see [`super::Transactions::end`].
    pub fn end_transaction(
        &mut self,
        now: Time,
        node: NodeId,
        id: &str,
        who: Identity,
        outcome: Outcome,
        version: i16,
    ) -> Result<Identity, Reject> {
        self.check_transaction_coordinator(node, id)?;
        let now_ms = self.wall_clock_ms(now);
        self.transactions.end(now_ms, id, who, outcome, version, &mut self.producer_ids)
    }

    // ---- leaders of partitions ask ----

    /// Whether a partition's leader must ask the coordinator before it appends in this transaction; from then on it
    /// remembers having asked (`maybeStartTransactionVerification`). `sequence` is that of the first record, or −1.
    pub fn must_take_part(
        &mut self,
        now: Time,
        node: NodeId,
        (topic, index): (&str, i32),
        about: &InTransaction<'_>,
        sequence: i32,
    ) -> Result<bool, Reject> {
        let implied = about.participation == Participation::Implied;
        if !implied && !self.configs.broker_settings().transaction_partition_verification {
            return Ok(false);
        }
        let now_ms = self.wall_clock_ms(now);
        let partition = self.topics.led_by(node, topic, index)?;
        partition.producers.check_epoch(about.who)?;
        let open_since = partition.log.transactions().open_since(about.who.id);
        if partition.producers.has_open_transaction(about.who, open_since) {
            return Ok(false);
        }
        partition.producers.begin_verification(now_ms, about.who, sequence, implied);
        Ok(true)
    }

    /// What the coordinator says of partitions whose leader must ask: nothing of those that take part, an error for the
    /// others. The errors are those a client of a partition's leader understands.
    pub fn take_part(
        &mut self,
        now: Time,
        about: &InTransaction<'_>,
        partitions: &[PartitionName],
    ) -> Vec<(PartitionName, ErrorCode)> {
        let translate = |code: ErrorCode| match code {
            ErrorCode::ProducerFenced => ErrorCode::InvalidProducerEpoch,
            ErrorCode::TransactionAbortable if about.participation == Participation::Verified => {
                ErrorCode::InvalidTxnState
            }
            other => other,
        };
        match self.ask_coordinator(now, about, partitions) {
            Ok(missing) => missing.into_iter().map(|name| (name, translate(ErrorCode::TransactionAbortable))).collect(),
            Err(reject) => partitions.iter().map(|name| (name.clone(), translate(reject.code))).collect(),
        }
    }

    /// The partitions that do not take part.
    fn ask_coordinator(
        &mut self,
        now: Time,
        about: &InTransaction<'_>,
        partitions: &[PartitionName],
    ) -> Result<Vec<PartitionName>, Reject> {
        self.transaction_coordinator(about.id).ok_or(ErrorCode::CoordinatorNotAvailable)?;
        if about.id.is_empty() {
            return Err(ErrorCode::InvalidRequest.into());
        }
        if about.participation == Participation::Implied {
            let now_ms = self.wall_clock_ms(now);
            self.transactions.add(now_ms, about.id, about.who, partitions, EPOCH_BUMP_FROM)?;
            return Ok(Vec::new());
        }
        let transaction = self.transactions.verify(about.id, about.who)?;
        let missing = partitions.iter().filter(|name| !transaction.partitions().contains(*name));
        Ok(missing.cloned().collect())
    }

    // ---- markers ----

    /// Writes every marker that can be written. What is missing then waits for a leader, or for in-sync replicas. Brokers
    /// that are frozen neither send markers nor take them.
    pub(crate) fn finish_transactions(&mut self, now: Time, frozen: &BTreeSet<NodeId>) {
        let unfinished: Vec<Arc<str>> = self.transactions.unfinished().cloned().collect();
        for id in unfinished {
            if self.transaction_coordinator(&id).is_some_and(|coordinator| !frozen.contains(&coordinator)) {
                self.finish_transaction(now, &id, frozen);
            }
        }
    }

    fn finish_transaction(&mut self, now: Time, id: &str, frozen: &BTreeSet<NodeId>) {
        let (Some(coordinator_epoch), Some(transaction)) = (self.coordinator_epoch(id), self.transactions.get(id))
        else {
            return;
        };
        let Some(outcome) = transaction.status().ending() else { return };
        let (producer, version) = (transaction.producer(), transaction.version());
        let marker = Marker {
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            committed: outcome == Outcome::Commit,
            coordinator_epoch,
        };
        let reachable = |(topic, index): &&PartitionName| {
            let leader = self.topics.partition(topic, *index).ok().and_then(|partition| partition.leader);
            leader.is_none_or(|leader| !frozen.contains(&leader))
        };
        let names: Vec<PartitionName> = transaction.partitions().iter().filter(reachable).cloned().collect();
        for name in names {
            match self.mark(now, id, &name, &marker, version) {
                Ok(true) => self.transactions.marked(id, &name),
                Ok(false) => {}
                // It was deleted, and its records with it.
                Err(reject) if reject.code == ErrorCode::UnknownTopicOrPartition => {
                    self.transactions.marked(id, &name);
                }
                Err(reject) if is_final(reject.code) => {
                    info!(transactional_id = id, %reject, "a marker is refused for good; this coordinator sends no more");
                    return self.transactions.give_up(id);
                }
                Err(reject) => debug!(transactional_id = id, %reject, "a marker must wait"),
            }
        }
        let now_ms = self.wall_clock_ms(now);
        self.transactions.complete(now_ms, id);
    }

    /// Writes a marker unless the present leader has it; true once the in-sync replicas have it too.
    fn mark(
        &mut self,
        now: Time,
        id: &str,
        name: &PartitionName,
        marker: &Marker,
        version: i16,
    ) -> Result<bool, Reject> {
        let present = self.topics.partition(&name.0, name.1)?.leader_epoch;
        let earlier = self.transactions.get(id).and_then(|transaction| transaction.marker_in(name));
        let written = match earlier.filter(|written| written.leader_epoch == present) {
            Some(written) => written,
            None => {
                let written = self.write_marker(now, name, marker, version)?;
                self.transactions.written(id, name, written);
                written
            }
        };
        Ok(self.topics.partition(&name.0, name.1)?.log.high_watermark() >= written.end_offset)
    }

    fn coordinator_epoch(&self, id: &str) -> Option<i32> {
        self.transaction_coordinator(id)?;
        self.partition_for(TRANSACTIONS_TOPIC, id).map(|partition| partition.leader_epoch)
    }

    /// Transactions whose coordinator sends no more markers, with its epoch.
    pub(in crate::state) fn transactions_given_up(&self) -> Vec<(Arc<str>, Option<i32>)> {
        self.transactions.given_up().map(|id| (Arc::clone(id), self.coordinator_epoch(id))).collect()
    }

    /// Leaders may have moved: a new coordinator tries again where the one before gave up.
    pub(in crate::state) fn take_up_transactions(&mut self, given_up: Vec<(Arc<str>, Option<i32>)>) {
        for (id, epoch) in given_up {
            if self.coordinator_epoch(&id) != epoch {
                self.transactions.take_up(&id);
            }
        }
    }

    /// Ends a transaction in one partition, wherever its leader is; `version` is the `transaction.version` that decides
    /// which epochs a marker may have.
    pub fn write_marker(
        &mut self,
        now: Time,
        (topic, index): &PartitionName,
        marker: &Marker,
        version: i16,
    ) -> Result<Written, Reject> {
        let now_ms = self.wall_clock_ms(now);
        let settings = self.topics.get(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?.settings;
        let partition = self.topics.get_mut(topic).and_then(|topic| topic.partition_mut(*index));
        let partition = partition.ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let (end_before, leader_epoch) = (partition.log.end_offset(), partition.leader_epoch);
        if !partition.leader.is_some_and(|leader| self.nodes.is_running(leader)) {
            return Err(ErrorCode::NotLeaderOrFollower.into());
        }
        if partition.isr.len() < partition.min_isr(settings.min_insync_replicas) {
            return Err(ErrorCode::NotEnoughReplicas.into());
        }
        let open_since = partition.log.transactions().open_since(marker.producer_id);
        partition.producers.check_marker(marker, version, open_since)?;
        if topic == OFFSETS_TOPIC {
            partition.producers.remember_marker(marker, now_ms, -1);
            self.end_offsets_of(*index, marker);
            return Ok(Written { end_offset: end_before, leader_epoch });
        }
        let batch =
            marker.batch(now_ms).map_err(|error| Reject::new(ErrorCode::UnknownServerError, error.to_string()))?;
        let append_time = (settings.timestamp_type == TimestampType::LogAppendTime).then_some(now_ms);
        let incoming = Incoming { bytes: batch.len() as u64, max_timestamp_ms: now_ms, now_ms };
        partition.log.roll_for(&incoming, &RollAfter::of(&settings));
        let stored = partition.log.append(batch.into(), leader_epoch, append_time);
        let (timestamp_ms, offset) = (stored.max_timestamp, stored.base_offset);
        partition.producers.remember_marker(marker, timestamp_ms, offset);
        self.expect_producer_cleanup(now);
        self.appended(now, topic, *index, end_before);
        self.partition_changed(topic, *index);
        Ok(Written { end_offset: offset + 1, leader_epoch })
    }

    /// Offsets sent in a transaction take effect, or are forgotten, in the groups of one partition of the offsets topic.
    fn end_offsets_of(&mut self, index: i32, marker: &Marker) {
        let ids = self.groups.with_pending_offsets_of(marker.producer_id);
        for group in ids {
            if self.coordinator_partition(&group) == index {
                self.groups.end_pending_offsets(&group, marker.producer_id, marker.committed);
            }
        }
    }

    // ---- time ----

    /// When a transaction times out or a transactional id expires.
    pub(crate) fn next_transaction_deadline(&self) -> Option<Time> {
        let at = self.transactions.next_deadline_ms()?;
        Some(Time::from_millis(at.saturating_sub(self.wall_clock_offset_ms)))
    }

    /// Aborts transactions that are open for too long, forgets ids nobody has used for too long.
    pub(crate) fn expire_transactions(&mut self, now: Time, frozen: &BTreeSet<NodeId>) {
        let now_ms = self.wall_clock_ms(now);
        while let Some((id, due)) = self.transactions.take_due(now_ms) {
            if self.transaction_coordinator(&id).is_none_or(|coordinator| frozen.contains(&coordinator)) {
                self.transactions.put_off(now_ms, &id, due);
                continue;
            }
            match due {
                Due::TimedOut => {
                    debug!(transactional_id = %id, "its transaction has timed out and is aborted");
                    self.transactions.abort(now_ms, &id, &mut self.producer_ids);
                }
                Due::Expired => self.transactions.remove(&id),
            }
        }
    }
}

/// Whether a marker that was refused like this is not sent again.
fn is_final(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::InvalidProducerEpoch | ErrorCode::TransactionCoordinatorFenced)
}
