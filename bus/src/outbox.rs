//! What handlers publish in exactly-once mode: kept back until the event they handle is resolved, then written in one
//! transaction with its position.
//!
//! A handler that fails has published nothing. One that succeeds has, as soon as its event's position is committed; both
//! happen, or neither does.

use crate::engine::finished::{self, Run};
use crate::engine::{Header, Offset, Partition, Ticket};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An event on its way, as bytes.
#[derive(Clone)]
pub(crate) struct Prepared {
    pub(crate) topic: Arc<str>,
    pub(crate) key: Bytes,
    pub(crate) value: Bytes,
    pub(crate) headers: Vec<Header>,
    /// Told where it is once it is there.
    pub(crate) acknowledged: Arc<dyn Fn(i32, i64) + Send + Sync>,
}

/// Where a handler's events go while it runs. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Tray {
    /// The brokers that the transaction is for: events for others cannot be part of it.
    pub(crate) bootstrap: Arc<str>,
    events: Arc<Mutex<Vec<Prepared>>>,
}

tokio::task_local! {
    /// The tray of the handler that is running.
    static TRAY: Tray;
}

impl Tray {
    pub(crate) fn new(bootstrap: Arc<str>) -> Self {
        Self { bootstrap, events: Arc::default() }
    }

    /// Runs a handler with this tray.
    pub(crate) async fn before<T>(self, handler: impl Future<Output = T>) -> T {
        TRAY.scope(self, handler).await
    }

    /// The tray of the handler that is running, if it is for these brokers.
    pub(crate) fn of_handler(bootstrap: &str) -> Option<Self> {
        TRAY.try_with(|tray| (*tray.bootstrap == *bootstrap).then(|| tray.clone())).ok().flatten()
    }

    pub(crate) fn put(&self, events: impl IntoIterator<Item = Prepared>) {
        lock(&self.events).extend(events);
    }

    pub(crate) fn take(&self) -> Vec<Prepared> {
        std::mem::take(&mut lock(&self.events))
    }
}

/// The name of a handled record.
type Name = (Partition, Offset, crate::engine::Epoch);

/// Events of handled records, by record.
#[derive(Default)]
pub(crate) struct Outbox {
    events: Mutex<BTreeMap<Name, Vec<Prepared>>>,
    /// What the group knows to be finished beyond the position of a partition. Its events are published, so it must never
    /// be forgotten again.
    told: Mutex<BTreeMap<Partition, Vec<Run>>>,
}

impl Outbox {
    /// The group knows of these runs: an earlier owner has told it, or a transaction of ours.
    pub(crate) fn told(&self, partition: Partition, finished: Vec<Run>) {
        lock(&self.told).insert(partition, finished);
    }

    /// Which of the finished runs the next transaction tells: all, or, where they have no room, those told before. What is
    /// not told is not published yet either.
    pub(crate) fn tellable(&self, partition: Partition, position: Offset, finished: &[Run]) -> Vec<Run> {
        let fits = |runs: &[Run]| finished::from_text(position, &finished::to_text(position, runs)) == runs;
        if fits(finished) {
            return finished.to_vec();
        }
        let told = lock(&self.told);
        let before = told.get(&partition).into_iter().flatten().copied();
        before.filter(|(first, _)| *first >= position).collect()
    }

    /// The handlers of an attempt that succeeded have published these, perhaps none. Said for every attempt, so that of a
    /// record handled under two assignments only the later one counts.
    pub(crate) fn put(&self, ticket: Ticket, events: Vec<Prepared>) {
        lock(&self.events).entry((ticket.partition, ticket.offset, ticket.epoch)).or_default().extend(events);
    }

    /// Takes what belongs into a transaction that commits this position, with these runs finished beyond it.
    pub(crate) fn take(&self, partition: Partition, position: Offset, finished: &[Run]) -> Batch {
        let mut events = lock(&self.events);
        let done = |offset: Offset| {
            offset < position || finished.iter().any(|(first, last)| (*first..=*last).contains(&offset))
        };
        let names: Vec<Name> = of(&events, partition).filter(|(_, offset, _)| done(*offset)).collect();
        let mut taken: Batch = Vec::new();
        for name in names {
            let Some(published) = events.remove(&name) else { continue };
            // In the order of the assignments: a later one of the same record replaces an earlier one.
            taken.retain(|((of, offset, _), _)| (*of, *offset) != (name.0, name.1));
            taken.push((name, published));
        }
        taken
    }

    /// A transaction came to nothing.
    pub(crate) fn put_back(&self, batch: Batch) {
        lock(&self.events).extend(batch);
    }

    /// What is left of a partition that goes belongs to whoever handles its records again.
    pub(crate) fn forget(&self, partition: Partition) {
        lock(&self.told).remove(&partition);
        let mut events = lock(&self.events);
        let names: Vec<Name> = of(&events, partition).collect();
        for name in names {
            events.remove(&name);
        }
    }
}

/// Events by the record whose handlers published them.
pub(crate) type Batch = Vec<(Name, Vec<Prepared>)>;

fn of(events: &BTreeMap<Name, Vec<Prepared>>, partition: Partition) -> impl Iterator<Item = Name> + '_ {
    events.keys().copied().filter(move |(of, ..)| *of == partition)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDERS: Partition = Partition { topic: 0, index: 0 };

    #[test]
    fn what_was_told_is_told_again_when_there_is_no_room_for_more() {
        let outbox = Outbox::default();
        let few: Vec<Run> = vec![(12, 14), (90_000, 90_007)];
        assert_eq!(outbox.tellable(ORDERS, 10, &few), few);
        outbox.told(ORDERS, few);
        let many: Vec<Run> = (0..5_000).map(|run| (20 + run * 10, 20 + run * 10 + 3)).collect();
        assert_eq!(outbox.tellable(ORDERS, 16, &many), [(90_000, 90_007)]);
    }
}
