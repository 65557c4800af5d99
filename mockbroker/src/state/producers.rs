//! What a partition remembers of its idempotent and transactional producers, so that a repeated batch is stored once and
//! a fenced producer writes nothing (`ProducerStateManager`, `ProducerAppendInfo`, KIP-98, KIP-360, KIP-890).
//!
//! Which of their transactions are open stands in the log's [`TransactionIndex`](super::transaction_index).

use super::log::StoredBatch;
use super::transactions::{EPOCH_BUMP_FROM, Identity};
use crate::error::{ErrorCode, Reject};
use crate::wire::batch::BatchHeader;
use crate::wire::marker::Marker;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How many batches of a producer can be recognised as repeated.
const BATCHES_REMEMBERED: usize = 5;

/// The producers of one partition.
#[derive(Debug, Clone, Default)]
pub struct Producers {
    by_id: BTreeMap<i64, Producer>,
    /// What is being found out about producers whose transaction has no record here yet.
    verifications: BTreeMap<i64, Verification>,
}

/// What is known of one producer.
#[derive(Debug, Clone)]
pub struct Producer {
    /// Its current epoch.
    pub epoch: i16,
    /// Its last batches of this epoch, oldest first; at most five.
    pub batches: VecDeque<RememberedBatch>,
    /// The timestamp of what it wrote last, or of the marker that ended its transaction: milliseconds since the Unix
    /// epoch.
    pub last_timestamp_ms: i64,
    /// The offset of what it wrote last, or of the marker that ended its transaction; −1 where neither left a record.
    pub last_offset: i64,
    /// The epoch of the coordinator that wrote the last marker, or −1.
    pub coordinator_epoch: i32,
    /// Whether its open transaction has sent offsets to this partition of the offsets topic. They leave no record.
    pub sent_offsets: bool,
}

/// Enough of a batch to recognise it and to answer again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RememberedBatch {
    /// Sequence of the first record.
    pub base_sequence: i32,
    /// Sequence of the last record.
    pub last_sequence: i32,
    /// Offset of the first record.
    pub base_offset: i64,
    /// Offset of the last record.
    pub last_offset: i64,
    /// Its maximum timestamp.
    pub timestamp: i64,
}

/// Whether a batch is to be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is new.
    Fresh,
    /// It is stored already.
    Duplicate(RememberedBatch),
}

/// What a partition remembers from the first batch of a transaction until one is appended (`VerificationStateEntry`).
#[derive(Debug, Clone, Copy)]
struct Verification {
    epoch: i16,
    lowest_sequence: i32,
    /// Whether the producer gets a new epoch with every transaction, so that it begins with sequence 0.
    bumps_epochs: bool,
    begun_ms: i64,
}

impl Producers {
    /// Decides whether a batch is new, repeated or out of order. Changes nothing. `open_since` is where the producer's
    /// open transaction begins.
    pub fn admit(&self, batch: &BatchHeader, open_since: Option<i64>) -> Result<Admission, Reject> {
        if !batch.has_producer_id() {
            return Ok(Admission::Fresh);
        }
        let producer = self.by_id.get(&batch.producer_id);
        if let Some(repeated) = producer.and_then(|producer| producer.find(batch)) {
            return Ok(Admission::Duplicate(repeated));
        }
        self.check_epoch(Identity { id: batch.producer_id, epoch: batch.producer_epoch })?;
        self.check_first_sequence(batch)?;
        if let Some(producer) = producer {
            producer.check_sequence(batch)?;
        }
        if open_since.is_some() && !batch.is_transactional() {
            let message = format!("producer {} has a transaction open and must write within it", batch.producer_id);
            return Err(Reject::new(ErrorCode::InvalidTxnState, message));
        }
        Ok(Admission::Fresh)
    }

    /// Refuses a producer whose epoch is over.
    pub fn check_epoch(&self, who: Identity) -> Result<(), Reject> {
        match self.by_id.get(&who.id) {
            Some(known) if who.epoch < known.epoch => {
                let message = format!(
                    "epoch {} of producer {} is older than the last one seen, {}",
                    who.epoch, who.id, known.epoch
                );
                Err(Reject::new(ErrorCode::InvalidProducerEpoch, message))
            }
            _ => Ok(()),
        }
    }

    /// What the verification of a transaction demands of its first batch.
    fn check_first_sequence(&self, batch: &BatchHeader) -> Result<(), Reject> {
        let Some(verification) = self.verifications.get(&batch.producer_id) else { return Ok(()) };
        let empty = self.by_id.get(&batch.producer_id).is_none_or(|known| known.batches.is_empty());
        let begins = verification.bumps_epochs && empty;
        if (begins && batch.base_sequence != 0) || batch.base_sequence > verification.lowest_sequence {
            let message = format!(
                "sequence {} of producer {} cannot be the first of its transaction",
                batch.base_sequence, batch.producer_id
            );
            return Err(Reject::new(ErrorCode::OutOfOrderSequenceNumber, message));
        }
        Ok(())
    }

    /// Whether this producer, with this epoch, has a transaction open here (`hasOngoingTransaction`).
    pub fn has_open_transaction(&self, who: Identity, open_since: Option<i64>) -> bool {
        let known = self.by_id.get(&who.id);
        known.is_some_and(|known| known.epoch == who.epoch && (open_since.is_some() || known.sent_offsets))
    }

    /// A transaction's first batch is about to be verified with its coordinator.
    pub fn begin_verification(&mut self, now_ms: i64, who: Identity, sequence: i32, bumps_epochs: bool) {
        let begun = Verification { epoch: who.epoch, lowest_sequence: sequence, bumps_epochs, begun_ms: now_ms };
        let known = self.verifications.entry(who.id).or_insert(begun);
        if who.epoch == known.epoch {
            known.lowest_sequence = known.lowest_sequence.min(sequence);
        } else if who.epoch > known.epoch {
            known.epoch = who.epoch;
            known.lowest_sequence = sequence;
        }
    }

    /// Remembers a batch of records that has been appended; its header carries the offsets it got.
    pub fn remember(&mut self, batch: &BatchHeader) {
        if !batch.has_producer_id() || batch.is_control() {
            return;
        }
        if batch.is_transactional() {
            self.verifications.remove(&batch.producer_id);
        }
        let producer = self.enter(Identity { id: batch.producer_id, epoch: batch.producer_epoch });
        if producer.batches.len() == BATCHES_REMEMBERED {
            producer.batches.pop_front();
        }
        producer.last_timestamp_ms = batch.max_timestamp;
        producer.last_offset = batch.last_offset();
        producer.batches.push_back(RememberedBatch {
            base_sequence: batch.base_sequence,
            last_sequence: batch.last_sequence(),
            base_offset: batch.base_offset,
            last_offset: batch.last_offset(),
            timestamp: batch.max_timestamp,
        });
    }

    /// Remembers that a transaction sent offsets here.
    pub fn remember_offsets(&mut self, now_ms: i64, who: Identity) {
        self.verifications.remove(&who.id);
        let producer = self.enter(who);
        producer.last_timestamp_ms = now_ms;
        producer.sent_offsets = true;
    }

    /// Whether a marker may be written. From `transaction.version` 2 on it carries a higher epoch than the transaction's
    /// records did, and one that does not is late (KIP-890, KIP-1228).
    pub fn check_marker(&self, marker: &Marker, version: i16, open_since: Option<i64>) -> Result<(), Reject> {
        let Some(known) = self.by_id.get(&marker.producer_id) else { return Ok(()) };
        let epoch = marker.producer_epoch;
        let open = open_since.is_some() || known.sent_offsets;
        let strict = version >= EPOCH_BUMP_FROM;
        let again = strict && epoch == known.epoch && (!open || epoch == i16::MAX);
        let late = if strict { epoch <= known.epoch } else { epoch < known.epoch };
        if late && !again {
            let message = format!(
                "a marker with epoch {epoch} of producer {} comes after epoch {}",
                marker.producer_id, known.epoch
            );
            return Err(Reject::new(ErrorCode::InvalidProducerEpoch, message));
        }
        if marker.coordinator_epoch < known.coordinator_epoch {
            let message = format!(
                "coordinator epoch {} is older than the last one seen, {}",
                marker.coordinator_epoch, known.coordinator_epoch
            );
            return Err(Reject::new(ErrorCode::TransactionCoordinatorFenced, message));
        }
        Ok(())
    }

    /// Remembers a marker that has been written; its offset is −1 where it left no record.
    pub fn remember_marker(&mut self, marker: &Marker, timestamp_ms: i64, offset: i64) {
        let who = Identity { id: marker.producer_id, epoch: marker.producer_epoch };
        // The producer's next transaction may have begun while this one's marker was on its way.
        let next_has_begun = |next: &Verification| next.bumps_epochs && next.epoch == who.epoch;
        if !self.verifications.get(&who.id).is_some_and(next_has_begun) {
            self.verifications.remove(&who.id);
        }
        let producer = self.enter(who);
        producer.coordinator_epoch = marker.coordinator_epoch;
        producer.last_timestamp_ms = timestamp_ms;
        producer.last_offset = producer.last_offset.max(offset);
        producer.sent_offsets = false;
    }

    /// The producer with this epoch, whose batches of other epochs are forgotten.
    fn enter(&mut self, who: Identity) -> &mut Producer {
        let producer = self.by_id.entry(who.id).or_insert_with(|| Producer {
            epoch: who.epoch,
            batches: VecDeque::new(),
            last_timestamp_ms: -1,
            last_offset: -1,
            coordinator_epoch: -1,
            sent_offsets: false,
        });
        if producer.epoch != who.epoch {
            producer.epoch = who.epoch;
            producer.batches.clear();
        }
        producer
    }

    /// Expects a higher epoch of this producer from now on; `None` when it has not written here.
    pub fn bump_epoch(&mut self, producer_id: i64) -> Option<i16> {
        let producer = self.by_id.get_mut(&producer_id)?;
        producer.epoch = producer.epoch.saturating_add(1);
        producer.batches.clear();
        Some(producer.epoch)
    }

    /// Forgets what was written at `end_offset` or later; `kept` are the batches that are left, oldest first, from which a
    /// producer that lost one is remembered again (`ProducerStateManager.truncateAndReload`).
    pub fn truncate<'a>(&mut self, end_offset: i64, kept: impl Iterator<Item = &'a StoredBatch>) {
        let lost = self.by_id.iter().filter(|(_, producer)| producer.last_offset >= end_offset);
        let lost: BTreeSet<i64> = lost.map(|(id, _)| *id).collect();
        if lost.is_empty() {
            return;
        }
        self.by_id.retain(|id, _| !lost.contains(id));
        for batch in kept.filter(|batch| lost.contains(&batch.header.producer_id)) {
            self.remember_stored(batch);
        }
    }

    /// Remembers what is found in the log.
    pub fn remember_stored(&mut self, batch: &StoredBatch) {
        match Marker::of(&batch.header, &batch.bytes) {
            Some(marker) => self.remember_marker(&marker, batch.header.max_timestamp, batch.header.base_offset),
            None => self.remember(&batch.header),
        }
    }

    /// Everyone remembered, by producer id.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Producer)> {
        self.by_id.iter().map(|(id, producer)| (*id, producer))
    }

    /// Forgets producers that have no transaction open and wrote nothing after `oldest_ms`
    /// (`producer.id.expiration.ms`).
    pub fn expire(&mut self, oldest_ms: i64, is_open: impl Fn(i64) -> bool) {
        self.by_id
            .retain(|id, producer| producer.last_timestamp_ms > oldest_ms || producer.sent_offsets || is_open(*id));
        self.verifications.retain(|_, verification| verification.begun_ms > oldest_ms);
    }
}

impl Producer {
    fn find(&self, batch: &BatchHeader) -> Option<RememberedBatch> {
        if batch.producer_epoch != self.epoch {
            return None;
        }
        self.batches
            .iter()
            .find(|known| known.base_sequence == batch.base_sequence && known.last_sequence == batch.last_sequence())
            .copied()
    }

    fn check_sequence(&self, batch: &BatchHeader) -> Result<(), Reject> {
        let last = self.batches.back().map_or(-1, |last| last.last_sequence);
        let in_order = if self.epoch < 0 {
            // Kafka takes a producer last seen without an epoch for one it does not know (`ProducerAppendInfo`).
            true
        } else if batch.producer_epoch == self.epoch {
            follows(last, batch.base_sequence)
        } else {
            batch.base_sequence == 0 // KIP-360: a new epoch starts over
        };
        if in_order {
            return Ok(());
        }
        let message =
            format!("sequence {} of producer {} does not follow {last}", batch.base_sequence, batch.producer_id);
        Err(Reject::new(ErrorCode::OutOfOrderSequenceNumber, message))
    }
}

fn follows(last: i32, next: i32) -> bool {
    last.checked_add(1).unwrap_or(0) == next
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::batch::BatchBuilder;

    fn batch(epoch: i16, sequence: i32, base_offset: i64) -> BatchHeader {
        let bytes = BatchBuilder::new()
            .producer(7, epoch, sequence)
            .record(0, None, None)
            .record(0, None, None)
            .build()
            .expect("a batch");
        BatchHeader { base_offset, ..BatchHeader::parse(&bytes).expect("a header") }
    }

    fn after(batches: &[BatchHeader]) -> Producers {
        let mut producers = Producers::default();
        for batch in batches {
            producers.remember(batch);
        }
        producers
    }

    fn code(result: Result<Admission, Reject>) -> ErrorCode {
        result.expect_err("a refusal").code
    }

    #[test]
    fn the_last_five_batches_are_recognised() {
        let sent: Vec<_> = (0..6).map(|n| batch(0, n * 2, i64::from(n) * 2)).collect();
        let producers = after(&sent);
        for known in &sent[1..] {
            assert!(
                matches!(producers.admit(known, None), Ok(Admission::Duplicate(found)) if found.base_offset == known.base_offset)
            );
        }
        assert_eq!(code(producers.admit(&sent[0], None)), ErrorCode::OutOfOrderSequenceNumber);
    }

    #[test]
    fn a_gap_is_refused() {
        let producers = after(&[batch(0, 0, 0)]);
        assert_eq!(producers.admit(&batch(0, 2, 0), None), Ok(Admission::Fresh));
        assert_eq!(code(producers.admit(&batch(0, 3, 0), None)), ErrorCode::OutOfOrderSequenceNumber);
    }

    #[test]
    fn a_new_epoch_starts_over_and_fences_the_old_one() {
        let mut producers = after(&[batch(0, 0, 0)]);
        assert_eq!(code(producers.admit(&batch(1, 2, 0), None)), ErrorCode::OutOfOrderSequenceNumber);
        assert_eq!(producers.admit(&batch(1, 0, 0), None), Ok(Admission::Fresh));
        producers.remember(&batch(1, 0, 2));
        assert_eq!(code(producers.admit(&batch(0, 2, 0), None)), ErrorCode::InvalidProducerEpoch);
    }

    #[test]
    fn an_unknown_producer_may_start_anywhere() {
        assert_eq!(Producers::default().admit(&batch(3, 17, 0), None), Ok(Admission::Fresh));
    }
}
