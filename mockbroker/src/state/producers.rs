//! What a partition remembers of its idempotent producers, so that a repeated batch is stored once
//! (`ProducerStateManager`, `ProducerAppendInfo`, KIP-98, KIP-360).

use crate::error::{ErrorCode, Reject};
use crate::time::Time;
use crate::wire::batch::BatchHeader;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How many batches of a producer can be recognised as repeated.
const BATCHES_REMEMBERED: usize = 5;

/// The producers of one partition.
#[derive(Debug, Clone, Default)]
pub struct Producers(BTreeMap<i64, Producer>);

/// What is known of one producer.
#[derive(Debug, Clone)]
pub struct Producer {
    /// Its current epoch.
    pub epoch: i16,
    /// Its last batches, oldest first; at most five.
    pub batches: VecDeque<RememberedBatch>,
    /// When it last wrote.
    pub last_written: Time,
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

impl Producers {
    /// Decides whether a batch is new, repeated or out of order. Changes nothing.
    pub fn admit(&self, batch: &BatchHeader) -> Result<Admission, Reject> {
        if !batch.has_producer_id() {
            return Ok(Admission::Fresh);
        }
        let Some(producer) = self.0.get(&batch.producer_id) else {
            // After retention or DeleteRecords a producer may come back in the middle of its sequence.
            return Ok(Admission::Fresh);
        };
        if let Some(repeated) = producer.find(batch) {
            return Ok(Admission::Duplicate(repeated));
        }
        producer.check(batch)?;
        Ok(Admission::Fresh)
    }

    /// Remembers a batch that has been appended; its header carries the offsets it got.
    pub fn remember(&mut self, batch: &BatchHeader, now: Time) {
        if !batch.has_producer_id() {
            return;
        }
        let producer = self.0.entry(batch.producer_id).or_insert_with(|| Producer {
            epoch: batch.producer_epoch,
            batches: VecDeque::new(),
            last_written: now,
        });
        if producer.epoch != batch.producer_epoch {
            producer.epoch = batch.producer_epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == BATCHES_REMEMBERED {
            producer.batches.pop_front();
        }
        producer.last_written = now;
        producer.batches.push_back(RememberedBatch {
            base_sequence: batch.base_sequence,
            last_sequence: batch.last_sequence(),
            base_offset: batch.base_offset,
            last_offset: batch.last_offset(),
            timestamp: batch.max_timestamp,
        });
    }

    /// Expects a higher epoch of this producer from now on; `None` when it has not written here.
    pub fn bump_epoch(&mut self, producer_id: i64) -> Option<i16> {
        let producer = self.0.get_mut(&producer_id)?;
        producer.epoch = producer.epoch.saturating_add(1);
        producer.batches.clear();
        Some(producer.epoch)
    }

    /// Forgets what was written at `end_offset` or later; `kept` are the headers of the batches that are left, oldest
    /// first, from which a producer that lost a batch is remembered again (`ProducerStateManager.truncateAndReload`).
    pub fn truncate<'a>(&mut self, end_offset: i64, kept: impl Iterator<Item = &'a BatchHeader>) {
        let lost = |producer: &Producer| producer.batches.iter().any(|batch| batch.last_offset >= end_offset);
        let affected: BTreeSet<i64> = self.0.iter().filter(|(_, producer)| lost(producer)).map(|(id, _)| *id).collect();
        if affected.is_empty() {
            return;
        }
        self.0.retain(|id, _| !affected.contains(id));
        for header in kept.filter(|header| affected.contains(&header.producer_id)) {
            self.remember_stored(header);
        }
    }

    /// Remembers a batch found in the log, at the time it says itself.
    pub fn remember_stored(&mut self, header: &BatchHeader) {
        if !header.is_control() {
            self.remember(header, Time::from_millis(header.max_timestamp));
        }
    }

    /// Everyone remembered, by producer id.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Producer)> {
        self.0.iter().map(|(id, producer)| (*id, producer))
    }

    /// Forgets producers that wrote nothing since `oldest` (`producer.id.expiration.ms`).
    pub fn expire(&mut self, oldest: Time) {
        self.0.retain(|_, producer| producer.last_written > oldest);
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

    fn check(&self, batch: &BatchHeader) -> Result<(), Reject> {
        if batch.producer_epoch < self.epoch {
            let message = format!(
                "epoch {} of producer {} is older than the last one seen, {}",
                batch.producer_epoch, batch.producer_id, self.epoch
            );
            return Err(Reject::new(ErrorCode::InvalidProducerEpoch, message));
        }
        let in_order = if batch.producer_epoch == self.epoch {
            self.batches.back().is_none_or(|last| follows(last.last_sequence, batch.base_sequence))
        } else {
            batch.base_sequence == 0 // KIP-360: a new epoch starts over
        };
        if in_order {
            return Ok(());
        }
        let last = self.batches.back().map_or(-1, |last| last.last_sequence);
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
            producers.remember(batch, Time::ZERO);
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
                matches!(producers.admit(known), Ok(Admission::Duplicate(found)) if found.base_offset == known.base_offset)
            );
        }
        assert_eq!(code(producers.admit(&sent[0])), ErrorCode::OutOfOrderSequenceNumber);
    }

    #[test]
    fn a_gap_is_refused() {
        let producers = after(&[batch(0, 0, 0)]);
        assert_eq!(producers.admit(&batch(0, 2, 0)), Ok(Admission::Fresh));
        assert_eq!(code(producers.admit(&batch(0, 3, 0))), ErrorCode::OutOfOrderSequenceNumber);
    }

    #[test]
    fn a_new_epoch_starts_over_and_fences_the_old_one() {
        let mut producers = after(&[batch(0, 0, 0)]);
        assert_eq!(code(producers.admit(&batch(1, 2, 0))), ErrorCode::OutOfOrderSequenceNumber);
        assert_eq!(producers.admit(&batch(1, 0, 0)), Ok(Admission::Fresh));
        producers.remember(&batch(1, 0, 2), Time::ZERO);
        assert_eq!(code(producers.admit(&batch(0, 2, 0))), ErrorCode::InvalidProducerEpoch);
    }

    #[test]
    fn an_unknown_producer_may_start_anywhere() {
        assert_eq!(Producers::default().admit(&batch(3, 17, 0)), Ok(Admission::Fresh));
    }
}
