//! Exactly-once mode: what handlers have published and the positions of what they handled, in one transaction.
//!
//! The positions go to the group's coordinator with the member's generation (KIP-447), so a member that has been replaced
//! can commit nothing any more; what is finished beyond a position travels with it, so keys still run side by side.
//! Handlers' doings outside of Kafka are at least once as ever, and so are dead letters, which are written before.

use super::client::{Watcher, make, transactional};
use super::publish::{Client, Courier, Publisher};
use crate::config::KafkaEventBusConfig;
use crate::error::BusError;
use crate::outbox::{Batch, Prepared};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::Producer;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(super) struct Transactor {
    producer: Client,
    patience: Duration,
    /// Nobody waits for us any more: what a broker does not answer now is left to the broker.
    closing: AtomicBool,
}

/// How a transaction failed.
pub(super) enum Failed {
    /// It was aborted; another one may do better.
    Aborted(KafkaError),
    /// Somebody else has our transactional id, or the client can go on no longer.
    Fenced(KafkaError),
}

impl Transactor {
    /// A transactional producer that has not spoken to its coordinator yet.
    pub(super) fn new(config: &KafkaEventBusConfig, watcher: Watcher) -> Result<Self, BusError> {
        let producer = make(&transactional(config), Courier::new(watcher))?;
        Ok(Self { producer, patience: config.connect_timeout, closing: AtomicBool::new(false) })
    }

    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Takes over the transactional id: what an earlier holder left unfinished is aborted.
    pub(super) fn begin(&self) -> KafkaResult<()> {
        self.persist(|| self.producer.init_transactions(self.patience))
    }

    /// Writes events and positions, all or none.
    pub(super) fn commit(
        &self,
        batch: &Batch,
        positions: &TopicPartitionList,
        member: &ConsumerGroupMetadata,
    ) -> Result<(), Failed> {
        let events: Vec<&Prepared> = batch.iter().flat_map(|(_, events)| events).collect();
        self.attempt(&events, positions, member).map_err(|error| self.abort(error))
    }

    fn attempt(
        &self,
        events: &[&Prepared],
        positions: &TopicPartitionList,
        member: &ConsumerGroupMetadata,
    ) -> KafkaResult<()> {
        self.producer.begin_transaction()?;
        let sent = Publisher::send_prepared(&self.producer, events)?;
        self.persist(|| self.producer.send_offsets_to_transaction(positions, member, self.patience))?;
        self.persist(|| self.producer.commit_transaction(self.patience))?;
        for (event, place) in events.iter().zip(sent.places()) {
            if let Some((partition, offset)) = place {
                (event.acknowledged)(partition, offset);
            }
        }
        Ok(())
    }

    fn abort(&self, error: KafkaError) -> Failed {
        if is_fatal(&error) {
            return Failed::Fenced(error);
        }
        if self.closing.load(Ordering::Acquire) {
            return Failed::Aborted(error);
        }
        match self.persist(|| self.producer.abort_transaction(self.patience)) {
            Err(again) if is_fatal(&again) => Failed::Fenced(again),
            _ => Failed::Aborted(error),
        }
    }

    /// The client says of some errors that the same call may be repeated.
    fn persist(&self, call: impl Fn() -> KafkaResult<()>) -> KafkaResult<()> {
        let mut tries = TRIES;
        loop {
            tries -= 1;
            let again = tries > 0 && !self.closing.load(Ordering::Acquire);
            match call() {
                Err(KafkaError::Transaction(error)) if error.is_retriable() && again => {}
                ended => return ended,
            }
        }
    }
}

/// Each waits as long as `connect_timeout`.
const TRIES: usize = 5;

fn is_fatal(error: &KafkaError) -> bool {
    matches!(error, KafkaError::Transaction(error) if error.is_fatal())
}
