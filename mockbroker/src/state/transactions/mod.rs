//! Transactions as their coordinators know them: who may write for a transactional id, which partitions take part, how
//! it ends (`TransactionCoordinator`, `TransactionStateManager`, KIP-98, KIP-360, KIP-890).
//!
//! [`Transactions`] holds those of the whole cluster; which broker coordinates an id is the caller's business, and so
//! are the markers: [`Transactions::unfinished`] says what is missing, [`Transactions::marked`] that it was written.
//! Time is the brokers' wall clock in milliseconds, as in Kafka; it passes through [`Transactions::take_due`], which is
//! due at [`Transactions::next_deadline_ms`].

mod coordination;
mod transaction;

#[cfg(test)]
mod tests;

pub use coordination::{InTransaction, Participation};
pub use transaction::{EPOCH_BUMP_FROM, Status, Transaction, Written};

use crate::error::{ErrorCode, Reject};
use crate::parked::PartitionName;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A producer: its id, and how often it, or another under the same id, has begun anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Identity {
    /// The producer id.
    pub id: i64,
    /// The epoch.
    pub epoch: i16,
}

impl Identity {
    /// Nobody, as it is written on the wire.
    pub const NONE: Self = Self { id: -1, epoch: -1 };

    /// Whether a producer with this epoch must get a new id instead of a higher epoch: one is left for fencing it.
    pub const fn is_exhausted(epoch: i16) -> bool {
        epoch >= i16::MAX - 1
    }
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Outcome {
    /// What was written counts.
    Commit,
    /// What was written does not.
    Abort,
}

impl From<bool> for Outcome {
    /// As requests say it: true commits.
    fn from(committed: bool) -> Self {
        if committed { Self::Commit } else { Self::Abort }
    }
}

/// Hands out producer ids.
#[derive(Debug, Default)]
pub struct ProducerIds(i64);

impl ProducerIds {
    /// An id no one has had.
    pub fn take(&mut self) -> i64 {
        self.0 += 1;
        self.0 - 1
    }
}

/// What can be configured about transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// `transaction.max.timeout.ms`
    pub max_timeout_ms: i32,
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`: how often coordinators look for transactions that
    /// are open for too long. They look at multiples of this.
    pub abort_interval_ms: i32,
    /// `transactional.id.expiration.ms`
    pub id_expiration_ms: i32,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`
    pub remove_expired_interval_ms: i32,
    /// The level of the feature `transaction.version` that is in force, 0 to 2.
    pub version: i16,
}

/// Which transactional ids to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only those with one of these producer ids; all when empty.
    pub producer_ids: Vec<i64>,
    /// Only those in one of these states; `None` for all.
    pub statuses: Option<Vec<Status>>,
    /// Only those that began longer ago than this, in milliseconds.
    pub older_than_ms: Option<i64>,
}

/// Why a transactional id comes up by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Its transaction is open for too long.
    TimedOut,
    /// Nobody has used it for too long.
    Expired,
}

/// All transactional ids of a cluster.
#[derive(Debug)]
pub struct Transactions {
    settings: Settings,
    by_id: BTreeMap<Arc<str>, Transaction>,
    /// Transactions whose end is decided and not yet done.
    unfinished: BTreeSet<Arc<str>>,
    /// Of those, the ones whose markers were refused for good; their coordinator gives up until it is loaded again.
    given_up: BTreeSet<Arc<str>>,
    /// When to look at an id by itself, each at most once.
    deadlines: BTreeSet<(i64, Arc<str>)>,
}

impl Transactions {
    /// No transactional ids yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            by_id: BTreeMap::new(),
            unfinished: BTreeSet::new(),
            given_up: BTreeSet::new(),
            deadlines: BTreeSet::new(),
        }
    }

    /// Changes the settings; deadlines that are already set stay.
    pub fn configure(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A transactional id as it is now.
    pub fn get(&self, id: &str) -> Option<&Transaction> {
        self.by_id.get(id)
    }

    /// All transactional ids, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Transaction)> {
        self.by_id.iter().map(|(id, transaction)| (&**id, transaction))
    }

    /// Those a filter lets through.
    pub fn list<'a>(&'a self, now_ms: i64, filter: &'a Filter) -> impl Iterator<Item = (&'a str, &'a Transaction)> {
        self.iter().filter(move |(_, transaction)| {
            (filter.producer_ids.is_empty() || filter.producer_ids.contains(&transaction.producer().id))
                && filter.statuses.as_ref().is_none_or(|statuses| statuses.contains(&transaction.status()))
                && filter.older_than_ms.is_none_or(|age| now_ms.saturating_sub(transaction.started_ms()) > age)
        })
    }

    // ---- producers ----

    /// Whether a producer may ask for this timeout.
    pub fn check_timeout(&self, timeout_ms: i32) -> Result<(), Reject> {
        if (1..=self.settings.max_timeout_ms).contains(&timeout_ms) {
            Ok(())
        } else {
            Err(ErrorCode::InvalidTransactionTimeout.into())
        }
    }

    /// A producer comes. `expected` is who it says it was; it may go on if nobody else came in between (KIP-360). A
    /// transaction that is open is aborted, and the producer told to come again.
    pub fn init(
        &mut self,
        now_ms: i64,
        id: &str,
        timeout_ms: i32,
        expected: Option<Identity>,
        ids: &mut ProducerIds,
    ) -> Result<Identity, Reject> {
        if !self.by_id.contains_key(id) {
            self.by_id.insert(Arc::from(id), Transaction::new(now_ms, ids.take()));
        }
        let version = self.settings.version;
        self.change(id, |transaction| {
            transaction.check_may_init(expected)?;
            if transaction.status() == Status::Ongoing {
                transaction.fence(now_ms, version, ids);
                return Err(ErrorCode::ConcurrentTransactions.into());
            }
            transaction.init(now_ms, timeout_ms, expected, ids)
        })
    }

    /// Partitions join a transaction, which begins with the first. `version` is the `transaction.version` the request
    /// speaks for.
    pub fn add(
        &mut self,
        now_ms: i64,
        id: &str,
        who: Identity,
        partitions: &[PartitionName],
        version: i16,
    ) -> Result<(), Reject> {
        self.change(id, |transaction| transaction.add(now_ms, who, partitions, version))
    }

    /// The transaction this producer may write in; which partitions take part stands in it
    /// (`handleVerifyPartitionsInTransaction`).
    pub fn verify(&self, id: &str, who: Identity) -> Result<&Transaction, Reject> {
        let transaction = self.by_id.get(id).ok_or(ErrorCode::InvalidProducerIdMapping)?;
        transaction.check_may_write(who)?;
        Ok(transaction)
    }

    /// A producer ends its transaction; says who it is from now on, or nobody when the request's version has no word for
    /// that.
    pub fn end(
        &mut self,
        now_ms: i64,
        id: &str,
        who: Identity,
        outcome: Outcome,
        version: i16,
        ids: &mut ProducerIds,
    ) -> Result<Identity, Reject> {
        self.change(id, |transaction| transaction.end(now_ms, who, outcome, version, ids))
    }

    /// Aborts the transaction under way, if there is one; its producer is fenced.
    pub fn abort(&mut self, now_ms: i64, id: &str, ids: &mut ProducerIds) {
        let version = self.settings.version;
        let aborted = self.change(id, |transaction| {
            if transaction.status() == Status::Ongoing {
                transaction.fence(now_ms, version, ids);
            }
            Ok(())
        });
        debug_assert!(aborted.is_ok() || !self.by_id.contains_key(id), "only an unknown id is refused");
    }

    // ---- markers ----

    /// Ids of transactions whose end is decided, and whose markers somebody should try to write.
    pub fn unfinished(&self) -> impl Iterator<Item = &Arc<str>> {
        self.unfinished.difference(&self.given_up)
    }

    /// A partition's leader has the marker; it counts once the replicas have it.
    pub fn written(&mut self, id: &str, partition: &PartitionName, written: Written) {
        if let Some(transaction) = self.by_id.get_mut(id) {
            transaction.written(partition, written);
        }
    }

    /// A partition has its marker, or needs none. The transaction is complete with the last.
    pub fn marked(&mut self, id: &str, partition: &PartitionName) {
        if let Some(transaction) = self.by_id.get_mut(id) {
            transaction.marked(partition);
        }
    }

    /// Completes a transaction that waits for no marker; false when it still does.
    pub fn complete(&mut self, now_ms: i64, id: &str) -> bool {
        let completed = self.change(id, |transaction| {
            let done = transaction.status().ending().is_some() && transaction.partitions().is_empty();
            if done {
                transaction.complete(now_ms);
            }
            Ok(done)
        });
        completed.unwrap_or(false)
    }

    /// A marker was refused for good, so the coordinator sends no more of them.
    pub fn give_up(&mut self, id: &str) {
        if let Some((id, _)) = self.by_id.get_key_value(id) {
            self.given_up.insert(Arc::clone(id));
        }
    }

    /// Ids whose coordinator gave up.
    pub fn given_up(&self) -> impl Iterator<Item = &Arc<str>> {
        self.given_up.iter()
    }

    /// Another coordinator takes over, or the same one comes back: it sends all markers that are missing.
    pub fn take_up(&mut self, id: &Arc<str>) {
        self.given_up.remove(id);
    }

    // ---- time ----

    /// When something happens by itself, unless something else happens before.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Takes an id that is due at this time.
    pub fn take_due(&mut self, now_ms: i64) -> Option<(Arc<str>, Due)> {
        while self.deadlines.first().is_some_and(|(at, _)| *at <= now_ms) {
            let Some((_, id)) = self.deadlines.pop_first() else { break };
            let due = self.by_id.get(&id).and_then(|transaction| self.due(transaction));
            match due {
                Some((at, due)) if at <= now_ms => return Some((id, due)),
                // Somebody changed the settings.
                Some((at, _)) => drop(self.deadlines.insert((at, id))),
                None => {}
            }
        }
        None
    }

    /// Looks at an id again at the next occasion: its coordinator does not run.
    pub fn put_off(&mut self, now_ms: i64, id: &Arc<str>, due: Due) {
        let interval_ms = match due {
            Due::TimedOut => self.settings.abort_interval_ms,
            Due::Expired => self.settings.remove_expired_interval_ms,
        };
        self.deadlines.insert((tick_after(now_ms, interval_ms), Arc::clone(id)));
    }

    /// Forgets an id.
    pub fn remove(&mut self, id: &str) {
        if let Some((id, transaction)) = self.by_id.remove_entry(id) {
            if let Some((at, _)) = self.due(&transaction) {
                self.deadlines.remove(&(at, Arc::clone(&id)));
            }
            self.unfinished.remove(&id);
            self.given_up.remove(&id);
        }
    }

    /// When to look at an id by itself.
    fn due(&self, transaction: &Transaction) -> Option<(i64, Due)> {
        match transaction.status() {
            Status::Ongoing => {
                let ends_ms = transaction.started_ms().saturating_add(i64::from(transaction.timeout_ms()));
                Some((tick_after(ends_ms, self.settings.abort_interval_ms), Due::TimedOut))
            }
            Status::PrepareCommit | Status::PrepareAbort => None,
            Status::Empty | Status::CompleteCommit | Status::CompleteAbort => {
                let ends_ms = transaction.updated_ms().saturating_add(i64::from(self.settings.id_expiration_ms));
                Some((tick_after(ends_ms - 1, self.settings.remove_expired_interval_ms), Due::Expired))
            }
        }
    }

    /// Does something to a transactional id, and notes when to look at it next.
    fn change<R>(&mut self, id: &str, act: impl FnOnce(&mut Transaction) -> Result<R, Reject>) -> Result<R, Reject> {
        let (id, mut transaction) = self.by_id.remove_entry(id).ok_or(ErrorCode::InvalidProducerIdMapping)?;
        if let Some((at, _)) = self.due(&transaction) {
            self.deadlines.remove(&(at, Arc::clone(&id)));
        }
        let result = act(&mut transaction);
        if let Some((at, _)) = self.due(&transaction) {
            self.deadlines.insert((at, Arc::clone(&id)));
        }
        if transaction.status().ending().is_some() {
            self.unfinished.insert(Arc::clone(&id));
        } else {
            self.unfinished.remove(&id);
            self.given_up.remove(&id);
        }
        self.by_id.insert(id, transaction);
        result
    }
}

/// The first multiple of `interval_ms` after this time.
fn tick_after(ms: i64, interval_ms: i32) -> i64 {
    let interval_ms = i64::from(interval_ms.max(1));
    (ms.div_euclid(interval_ms) + 1).saturating_mul(interval_ms)
}
