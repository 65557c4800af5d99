//! One transactional id: where its producer is in its transactions, and what it may do next.
//!
//! Kafka keeps a *pending* state beside the present one while a change is written to the transaction log. Here a change
//! is in the log the moment it is made, so there is none.

use super::{Identity, Outcome, ProducerIds};
use crate::error::{ErrorCode, Reject};
use crate::parked::PartitionName;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The level of `transaction.version` from which every end of a transaction raises the producer's epoch (KIP-890).
pub const EPOCH_BUMP_FROM: i16 = 2;
/// Kafka's "no time".
const NO_TIME: i64 = -1;
/// Kafka's "no producer".
const NO_PRODUCER_ID: i64 = -1;
/// Kafka's "no epoch".
const NO_EPOCH: i16 = -1;

/// Where a transaction is in its life (`TransactionState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Status {
    /// The producer is known and has not begun a transaction.
    Empty,
    /// Partitions have been added.
    Ongoing,
    /// It will be committed: what is missing are markers.
    PrepareCommit,
    /// It will be aborted: what is missing are markers.
    PrepareAbort,
    /// It was committed, everywhere.
    CompleteCommit,
    /// It was aborted, everywhere.
    CompleteAbort,
}

impl Status {
    /// All of them. Kafka has two more which never outlast a write to its log: `Dead` and `PrepareEpochFence`.
    pub const ALL: &[Self] = &[
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
    ];

    /// The name Kafka's tools show.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }

    /// How it is to end, once that is decided and not yet done.
    pub const fn ending(self) -> Option<Outcome> {
        match self {
            Self::PrepareCommit => Some(Outcome::Commit),
            Self::PrepareAbort => Some(Outcome::Abort),
            _ => None,
        }
    }
}

/// A marker in a leader's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// One past it: where the high watermark must be.
    pub end_offset: i64,
    /// The epoch of the leader that wrote it. Under another it must be written again.
    pub leader_epoch: i32,
}

/// What the coordinator knows of one transactional id (`TransactionMetadata`). Times are milliseconds of the brokers'
/// wall clock since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    producer: Identity,
    /// The producer id before the last change.
    previous_producer_id: i64,
    /// The producer id that takes over when the present transaction has ended, or −1.
    next_producer_id: i64,
    /// The epoch the producer had before, if a retry with it is to be recognised; else −1.
    last_epoch: i16,
    timeout_ms: i32,
    status: Status,
    partitions: BTreeSet<PartitionName>,
    /// Markers that a leader has and its replicas may not have yet.
    written: BTreeMap<PartitionName, Written>,
    started_ms: i64,
    updated_ms: i64,
    /// The `transaction.version` of who changed it last.
    version: i16,
}

impl Transaction {
    /// A transactional id nobody has used before.
    pub(super) fn new(now_ms: i64, producer_id: i64) -> Self {
        Self {
            producer: Identity { id: producer_id, epoch: NO_EPOCH },
            previous_producer_id: NO_PRODUCER_ID,
            next_producer_id: NO_PRODUCER_ID,
            last_epoch: NO_EPOCH,
            timeout_ms: 0,
            status: Status::Empty,
            partitions: BTreeSet::new(),
            written: BTreeMap::new(),
            started_ms: NO_TIME,
            updated_ms: now_ms,
            version: 0,
        }
    }

    /// Who may write for it.
    pub fn producer(&self) -> Identity {
        self.producer
    }

    #[cfg(test)]
    pub(super) fn set_producer(&mut self, producer: Identity) {
        self.producer = producer;
    }

    /// Where it is in its life.
    pub fn status(&self) -> Status {
        self.status
    }

    /// For how long a transaction may be open, in milliseconds.
    pub fn timeout_ms(&self) -> i32 {
        self.timeout_ms
    }

    /// When the present transaction began, or −1.
    pub fn started_ms(&self) -> i64 {
        self.started_ms
    }

    /// When anything last changed.
    pub fn updated_ms(&self) -> i64 {
        self.updated_ms
    }

    /// The partitions that take part; while it ends, those whose marker is missing.
    pub fn partitions(&self) -> &BTreeSet<PartitionName> {
        &self.partitions
    }

    /// The marker this partition's leader has written.
    pub fn marker_in(&self, partition: &PartitionName) -> Option<Written> {
        self.written.get(partition).copied()
    }

    /// The `transaction.version` its markers are written by.
    pub fn version(&self) -> i16 {
        self.version
    }

    /// A producer comes, or comes back with the identity it had (`prepareInitProducerIdTransit`, KIP-360). A
    /// transaction under way is aborted by [`Self::fence`] first, which the caller does.
    pub(super) fn init(
        &mut self,
        now_ms: i64,
        timeout_ms: i32,
        expected: Option<Identity>,
        ids: &mut ProducerIds,
    ) -> Result<Identity, Reject> {
        self.check_may_init(expected)?;
        let (producer, last_epoch) = self.next_identity(expected, ids)?;
        self.previous_producer_id = self.producer.id;
        self.producer = producer;
        self.last_epoch = last_epoch;
        self.timeout_ms = timeout_ms;
        self.status = Status::Empty;
        self.partitions.clear();
        self.started_ms = NO_TIME;
        self.updated_ms = now_ms;
        Ok(producer)
    }

    /// Whether a producer that says it had this identity is the one we know.
    pub(super) fn check_may_init(&self, expected: Option<Identity>) -> Result<(), Reject> {
        let known = |expected: Identity| {
            // No epoch: the id is new to this coordinator, and so is whatever the producer says.
            self.producer.epoch == NO_EPOCH
                || expected.id == self.producer.id
                // The answer that told it its new id got lost.
                || (expected.id == self.previous_producer_id && Identity::is_exhausted(expected.epoch))
        };
        if !expected.is_none_or(known) {
            return Err(ErrorCode::ProducerFenced.into());
        }
        match self.status.ending() {
            Some(_) => Err(ErrorCode::ConcurrentTransactions.into()),
            None => Ok(()),
        }
    }

    fn next_identity(&self, expected: Option<Identity>, ids: &mut ProducerIds) -> Result<(Identity, i16), Reject> {
        let Identity { id, epoch } = self.producer;
        if Identity::is_exhausted(epoch) && expected.is_none_or(|expected| expected.epoch == epoch) {
            let last_epoch = if expected.is_some() { epoch } else { NO_EPOCH };
            return Ok((Identity { id: ids.take(), epoch: 0 }, last_epoch));
        }
        let raised = Identity { id, epoch: epoch.saturating_add(1) };
        match expected {
            None => Ok((raised, NO_EPOCH)),
            Some(expected) if epoch == NO_EPOCH || expected.epoch == epoch => Ok((raised, epoch)),
            // The same request again: its answer got lost.
            Some(expected) if expected.epoch == self.last_epoch => Ok((self.producer, self.last_epoch)),
            Some(_) => Err(ErrorCode::ProducerFenced.into()),
        }
    }

    /// Partitions join the transaction, which begins with the first (`handleAddPartitionsToTransaction`).
    pub(super) fn add(
        &mut self,
        now_ms: i64,
        who: Identity,
        partitions: &[PartitionName],
        version: i16,
    ) -> Result<(), Reject> {
        self.check_may_write(who)?;
        let ongoing = self.status == Status::Ongoing;
        if ongoing && partitions.iter().all(|partition| self.partitions.contains(partition)) {
            return Ok(());
        }
        if !ongoing {
            self.started_ms = now_ms;
        }
        self.previous_producer_id = self.producer.id;
        self.status = Status::Ongoing;
        self.partitions.extend(partitions.iter().cloned());
        self.updated_ms = now_ms;
        self.version = version;
        Ok(())
    }

    /// Whether this producer may write, if only its partitions are part of the transaction.
    pub(super) fn check_may_write(&self, who: Identity) -> Result<(), Reject> {
        if self.producer.id != who.id {
            return Err(ErrorCode::InvalidProducerIdMapping.into());
        }
        if self.producer.epoch != who.epoch {
            return Err(ErrorCode::ProducerFenced.into());
        }
        match self.status.ending() {
            Some(_) => Err(ErrorCode::ConcurrentTransactions.into()),
            None => Ok(()),
        }
    }

    /// The producer ends its transaction; says who it is from now on (`handleEndTransaction`). Clients that do not know
    /// of `transaction.version` 2 stay who they are, and are told nothing.
    pub(super) fn end(
        &mut self,
        now_ms: i64,
        who: Identity,
        outcome: Outcome,
        version: i16,
        ids: &mut ProducerIds,
    ) -> Result<Identity, Reject> {
        if version < EPOCH_BUMP_FROM {
            if self.decide_to_end(who, outcome)? {
                self.prepare(now_ms, outcome, 0, NO_PRODUCER_ID);
            }
            return Ok(Identity::NONE);
        }
        match self.decide_to_end_and_bump(who, outcome)? {
            Ending::Retried => Ok(self.producer),
            Ending::Begins { empty } => {
                self.prepare_bumped(now_ms, outcome, empty, ids);
                Ok(self.after_completion())
            }
        }
    }

    /// Before KIP-890 a transaction's end leaves the epoch alone. False when it has ended so already.
    fn decide_to_end(&self, who: Identity, outcome: Outcome) -> Result<bool, Reject> {
        if self.producer.id != who.id {
            return Err(ErrorCode::InvalidProducerIdMapping.into());
        }
        if self.producer.epoch != who.epoch {
            return Err(ErrorCode::ProducerFenced.into());
        }
        match (self.status, outcome) {
            (Status::Ongoing, _) => Ok(true),
            (Status::CompleteCommit, Outcome::Commit) | (Status::CompleteAbort, Outcome::Abort) => Ok(false),
            (Status::PrepareCommit, Outcome::Commit) | (Status::PrepareAbort, Outcome::Abort) => {
                Err(ErrorCode::ConcurrentTransactions.into())
            }
            _ => Err(ErrorCode::InvalidTxnState.into()),
        }
    }

    /// Since KIP-890 the epoch tells a retry, which comes with the one before, from the end of the next transaction.
    fn decide_to_end_and_bump(&self, who: Identity, outcome: Outcome) -> Result<Ending, Reject> {
        let current = self.producer.epoch;
        let over_a_new_id = self.previous_producer_id == who.id && who.epoch == i16::MAX - 1 && current == 0;
        let over_a_bump = i32::from(current) == i32::from(who.epoch) + 1;
        let retried = over_a_new_id || over_a_bump;
        if self.producer.id != who.id && !over_a_new_id {
            return Err(ErrorCode::InvalidProducerIdMapping.into());
        }
        let may_be_theirs = match self.status {
            Status::Ongoing | Status::Empty => who.epoch == current,
            Status::PrepareCommit | Status::PrepareAbort => over_a_bump,
            Status::CompleteCommit | Status::CompleteAbort => retried || who.epoch == current,
        };
        if !may_be_theirs {
            return Err(ErrorCode::ProducerFenced.into());
        }
        match (self.status, outcome) {
            (Status::Ongoing, _) => Ok(Ending::Begins { empty: false }),
            (Status::CompleteCommit, Outcome::Commit) | (Status::CompleteAbort, Outcome::Abort) if retried => {
                Ok(Ending::Retried)
            }
            (Status::CompleteCommit, Outcome::Abort) if retried => Err(ErrorCode::InvalidTxnState.into()),
            // A producer whose first write failed does not know whether there is anything to abort.
            (Status::Empty | Status::CompleteCommit | Status::CompleteAbort, Outcome::Abort) => {
                Ok(Ending::Begins { empty: true })
            }
            (Status::PrepareCommit, Outcome::Commit) | (Status::PrepareAbort, Outcome::Abort) => {
                Err(ErrorCode::ConcurrentTransactions.into())
            }
            _ => Err(ErrorCode::InvalidTxnState.into()),
        }
    }

    /// Aborts the transaction under way in a way that its producer learns of: its epoch is over. For a timeout, and for
    /// a producer that comes while another has a transaction open (`prepareFenceProducerEpoch`).
    pub(super) fn fence(&mut self, now_ms: i64, version: i16, ids: &mut ProducerIds) {
        if version >= EPOCH_BUMP_FROM {
            return self.prepare_bumped(now_ms, Outcome::Abort, false, ids);
        }
        self.producer.epoch = self.producer.epoch.saturating_add(1);
        self.last_epoch = NO_EPOCH;
        self.prepare(now_ms, Outcome::Abort, 0, NO_PRODUCER_ID);
    }

    fn prepare_bumped(&mut self, now_ms: i64, outcome: Outcome, empty: bool, ids: &mut ProducerIds) {
        let next_producer_id = if Identity::is_exhausted(self.producer.epoch) { ids.take() } else { NO_PRODUCER_ID };
        if empty {
            self.started_ms = now_ms;
        }
        self.last_epoch = self.producer.epoch;
        self.producer.epoch = self.producer.epoch.saturating_add(1);
        self.prepare(now_ms, outcome, EPOCH_BUMP_FROM, next_producer_id);
    }

    fn prepare(&mut self, now_ms: i64, outcome: Outcome, version: i16, next_producer_id: i64) {
        self.previous_producer_id = self.producer.id;
        self.next_producer_id = next_producer_id;
        self.status = match outcome {
            Outcome::Commit => Status::PrepareCommit,
            Outcome::Abort => Status::PrepareAbort,
        };
        self.version = version;
        self.updated_ms = now_ms;
    }

    /// Who the producer will be when all markers are written.
    fn after_completion(&self) -> Identity {
        if self.version >= EPOCH_BUMP_FROM && self.next_producer_id != NO_PRODUCER_ID {
            Identity { id: self.next_producer_id, epoch: 0 }
        } else {
            self.producer
        }
    }

    /// A partition needs no marker any more.
    pub(super) fn marked(&mut self, partition: &PartitionName) {
        self.partitions.remove(partition);
        self.written.remove(partition);
    }

    /// A partition's leader has the marker.
    pub(super) fn written(&mut self, partition: &PartitionName, written: Written) {
        self.written.insert(partition.clone(), written);
    }

    /// Every marker is written.
    pub(super) fn complete(&mut self, now_ms: i64) {
        self.status = match self.status {
            Status::PrepareCommit => Status::CompleteCommit,
            Status::PrepareAbort => Status::CompleteAbort,
            other => unreachable!("a transaction in {other:?} cannot be complete"),
        };
        self.previous_producer_id = self.producer.id;
        self.producer = self.after_completion();
        self.next_producer_id = NO_PRODUCER_ID;
        self.updated_ms = now_ms;
    }
}

/// What an end of a transaction amounts to.
enum Ending {
    /// It was ended before; the answer got lost.
    Retried,
    /// It ends now, perhaps without ever having begun.
    Begins { empty: bool },
}
