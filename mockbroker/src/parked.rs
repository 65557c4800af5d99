//! Requests that wait: until when, and what wakes them.

use crate::handlers::Waiting;
use crate::output::ConnId;
use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet};

/// A request that was parked; what wakes it names it by this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Ticket(pub u64);

/// A partition by name.
pub(crate) type PartitionName = (String, i32);

/// All requests that wait.
#[derive(Debug, Default)]
pub(crate) struct Parked {
    requests: BTreeMap<Ticket, ParkedRequest>,
    of_connection: BTreeMap<ConnId, BTreeSet<Ticket>>,
    on_partition: BTreeMap<PartitionName, BTreeSet<Ticket>>,
    deadlines: BTreeSet<(Time, Ticket)>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct ParkedRequest {
    /// Where its answer goes.
    pub(crate) conn: ConnId,
    /// When it is answered at the latest; `None` when its state machine keeps the time.
    pub(crate) deadline: Option<Time>,
    /// Partitions whose change may answer it.
    pub(crate) partitions: Vec<PartitionName>,
    /// How to answer it.
    pub(crate) waiting: Waiting,
}

impl Parked {
    pub(crate) fn park(&mut self, ticket: Ticket, request: ParkedRequest) {
        for partition in &request.partitions {
            self.on_partition.entry(partition.clone()).or_default().insert(ticket);
        }
        if let Some(deadline) = request.deadline {
            self.deadlines.insert((deadline, ticket));
        }
        self.of_connection.entry(request.conn).or_default().insert(ticket);
        self.requests.insert(ticket, request);
    }

    pub(crate) fn get_mut(&mut self, ticket: Ticket) -> Option<&mut ParkedRequest> {
        self.requests.get_mut(&ticket)
    }

    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<ParkedRequest> {
        let request = self.requests.remove(&ticket)?;
        for partition in &request.partitions {
            remove_from(&mut self.on_partition, partition, ticket);
        }
        if let Some(deadline) = request.deadline {
            self.deadlines.remove(&(deadline, ticket));
        }
        remove_from(&mut self.of_connection, &request.conn, ticket);
        Some(request)
    }

    /// The requests of a connection, to be dropped with it.
    pub(crate) fn of_connection(&self, conn: ConnId) -> Vec<Ticket> {
        self.of_connection.get(&conn).into_iter().flatten().copied().collect()
    }

    /// The requests a change of this partition may answer.
    pub(crate) fn on_partition(&self, partition: &PartitionName) -> Vec<Ticket> {
        self.on_partition.get(partition).into_iter().flatten().copied().collect()
    }

    /// The requests whose time is up.
    pub(crate) fn due(&self, now: Time) -> Vec<Ticket> {
        self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now).map(|(_, ticket)| *ticket).collect()
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }
}

fn remove_from<K: Ord>(index: &mut BTreeMap<K, BTreeSet<Ticket>>, key: &K, ticket: Ticket) {
    if let Some(tickets) = index.get_mut(key) {
        tickets.remove(&ticket);
        if tickets.is_empty() {
            index.remove(key);
        }
    }
}
