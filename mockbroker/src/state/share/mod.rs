//! What share groups read (KIP-932): share sessions, partitions with the records that are under way, and what the share
//! coordinator has written down of them.
//!
//! A partition lives at the broker that leads it, as long as that broker does; [`Shares`] keeps those of all brokers. What
//! members have settled is written down at once. Which broker leads, and what the log holds, is the caller's business.

mod acknowledge;
mod acquire;
mod in_flight;
mod partition;
mod persisted;
mod sessions;

pub use acknowledge::{Acknowledgement, Outcome};
pub use acquire::{Acquired, Ask, ReadBatch};
pub use partition::Rules;
pub use sessions::{FINAL_EPOCH, INITIAL_EPOCH, Wanted};

use super::nodes::NodeId;
use super::transaction_index::AbortedTransaction;
use crate::error::{ErrorCode, Reject};
use crate::output::ConnId;
use crate::time::Time;
use crate::wire::Uuid;
use partition::SharePartition;
use persisted::{Persisted, Write};
use sessions::Sessions;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A partition as one group reads it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShareKey {
    /// The group.
    pub group: Arc<str>,
    /// The topic.
    pub topic: Uuid,
    /// The partition.
    pub index: i32,
}

/// Such a partition at one broker.
pub type SharePlace = (NodeId, ShareKey);

/// How far a group has come with a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Everything before this is over; `None` until the partition was read.
    pub start_offset: Option<i64>,
    /// The epoch of the leader that last began to read it, or 0.
    pub leader_epoch: i32,
    /// How many records from the start on need not be delivered any more.
    pub complete: Option<i32>,
}

/// Everything share groups read, at all brokers.
#[derive(Debug, Default)]
pub struct Shares {
    sessions: Sessions,
    live: BTreeMap<SharePlace, SharePartition>,
    persisted: BTreeMap<ShareKey, Persisted>,
    /// When locks end: one entry for each partition that has any.
    due: BTreeSet<(Time, SharePlace)>,
}

impl Shares {
    // ---- what is written down ----

    /// Begins to write down how far a group comes with a partition, from `start_offset` on if it is given. `state_epoch` is
    /// that of the group.
    pub fn initialize(&mut self, key: ShareKey, state_epoch: i32, start_offset: Option<i64>) {
        self.persisted.insert(key, Persisted::new(state_epoch, start_offset));
    }

    /// Whether it is written down how far a group has come with a partition.
    pub fn is_initialized(&self, key: &ShareKey) -> bool {
        self.persisted.contains_key(key)
    }

    /// How far a group has come with a partition.
    pub fn progress(&self, key: &ShareKey) -> Option<Progress> {
        let persisted = self.persisted.get(key)?;
        Some(Progress {
            start_offset: persisted.start_offset,
            leader_epoch: persisted.leader_epoch,
            complete: persisted.complete,
        })
    }

    /// Forgets how far groups have come with the partitions that are meant.
    pub fn forget(&mut self, is_meant: impl Fn(&ShareKey) -> bool) {
        self.persisted.retain(|key, _| !is_meant(key));
    }

    // ---- partitions at brokers ----

    /// Lets a broker serve a partition. Where it is not written down from where on, `begin` says so.
    pub fn open(
        &mut self,
        place: &SharePlace,
        leader_epoch: i32,
        begin: impl FnOnce() -> Result<i64, Reject>,
    ) -> Result<(), Reject> {
        if self.live.contains_key(place) {
            return Ok(());
        }
        let persisted = self.persisted.get_mut(&place.1).ok_or(ErrorCode::UnknownServerError)?;
        if persisted.leader_epoch > leader_epoch {
            return Err(ErrorCode::NotLeaderOrFollower.into());
        }
        persisted.leader_epoch = leader_epoch;
        let start_offset = persisted.start_offset.map_or_else(begin, Ok)?;
        self.live.insert(place.clone(), SharePartition::load(persisted, start_offset, leader_epoch));
        Ok(())
    }

    /// The epoch of leadership in which a broker serves a partition, if it does.
    pub fn served_in(&self, place: &SharePlace) -> Option<i32> {
        self.live.get(place).map(|partition| partition.leader_epoch)
    }

    /// The partitions brokers serve.
    pub fn served(&self) -> impl Iterator<Item = &SharePlace> {
        self.live.keys()
    }

    /// A broker does not serve this partition any more; what was under way is written down as it was before.
    pub fn drop_place(&mut self, place: &SharePlace) {
        if let Some(partition) = self.live.remove(place)
            && let Some(at) = partition.scheduled
        {
            self.due.remove(&(at, place.clone()));
        }
    }

    /// From where on a fetch may find something to acquire; `None` when it cannot.
    pub fn next_fetch_offset(&mut self, place: &SharePlace, rules: &Rules) -> Option<i64> {
        let partition = self.live.get_mut(place)?;
        partition.can_acquire(rules).then(|| partition.next_fetch_offset())
    }

    /// Gives a member records of what was read from `from` on.
    #[expect(clippy::too_many_arguments, reason = "each is a thing of its own that the rules of acquiring ask for")]
    pub fn acquire(
        &mut self,
        now: Time,
        place: &SharePlace,
        rules: &Rules,
        ask: &Ask,
        from: i64,
        read: &[ReadBatch],
        aborted: &[AbortedTransaction],
    ) -> Vec<Acquired> {
        let acquired = self.change(place, |partition| (partition.acquire(now, rules, ask, from, read, aborted), None));
        acquired.unwrap_or_default()
    }

    /// A member says what became of records. Nothing counts if something of it is refused.
    pub fn acknowledge(
        &mut self,
        now: Time,
        place: &SharePlace,
        rules: &Rules,
        member: &str,
        acknowledgements: &[Acknowledgement],
    ) -> Result<(), Reject> {
        let writable = self.check_writable(place);
        let acknowledged = self.change(place, |partition| {
            match partition.acknowledge(now, rules, member, acknowledgements, writable) {
                Ok(write) => (Ok(()), write),
                Err(reject) => (Err(reject), None),
            }
        });
        let result = acknowledged.unwrap_or_else(|| Err(ErrorCode::UnknownTopicOrPartition.into()));
        if result.as_ref().is_err_and(|reject| reject.code == ErrorCode::NotLeaderOrFollower) {
            self.drop_place(place);
        }
        result
    }

    /// The log begins at another offset.
    pub fn follow_log_start(&mut self, place: &SharePlace, log_start: i64) {
        self.change(place, |partition| (partition.follow_log_start(log_start), None));
    }

    /// Takes back what a member has of a partition.
    pub fn release(&mut self, place: &SharePlace, member: &str, rules: &Rules) {
        self.change(place, |partition| ((), partition.release(member, rules)));
    }

    /// Takes back records of a partition whose locks have ended.
    pub fn expire(&mut self, now: Time, place: &SharePlace, rules: &Rules) {
        self.change(place, |partition| ((), partition.expire(now, rules)));
    }

    /// When the next lock ends.
    pub fn next_deadline(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The partition whose lock has ended first.
    pub fn next_due(&self, now: Time) -> Option<SharePlace> {
        self.due.first().filter(|(at, _)| *at <= now).map(|(_, place)| place.clone())
    }

    fn check_writable(&self, (node, key): &SharePlace) -> Result<(), Reject> {
        let place = (*node, key.clone());
        let Some(partition) = self.live.get(&place) else { return Ok(()) };
        let persisted = self.persisted.get(key).ok_or(ErrorCode::UnknownServerError)?;
        let is_fenced =
            persisted.leader_epoch > partition.leader_epoch || persisted.state_epoch > partition.state_epoch;
        if is_fenced { Err(ErrorCode::NotLeaderOrFollower.into()) } else { Ok(()) }
    }

    /// Lets something happen to a partition, writes down what comes of it, and plans for its next lock.
    fn change<R>(
        &mut self,
        place: &SharePlace,
        act: impl FnOnce(&mut SharePartition) -> (R, Option<Write>),
    ) -> Option<R> {
        let writable = self.check_writable(place).is_ok();
        let partition = self.live.get_mut(place)?;
        let (outcome, write) = act(partition);
        let next = partition.next_lock();
        let before = std::mem::replace(&mut partition.scheduled, next);
        if before != next {
            before.map(|at| self.due.remove(&(at, place.clone())));
            next.map(|at| self.due.insert((at, place.clone())));
        }
        if let Some(write) = write.filter(|_| writable)
            && let Some(persisted) = self.persisted.get_mut(&place.1)
        {
            persisted.write(&write);
        }
        Some(outcome)
    }

    // ---- sessions ----

    /// Opens a member's session at a broker in place of an earlier one; at most `max` a broker.
    pub fn open_session(
        &mut self,
        who: (NodeId, &str, &str),
        conn: ConnId,
        wanted: &[Wanted],
        max: usize,
    ) -> Result<(), Reject> {
        self.sessions.open(who, conn, wanted, max)
    }

    /// Goes on with a session: the partitions it has then.
    pub fn advance_session(
        &mut self,
        who: (NodeId, &str, &str),
        epoch: i32,
        wanted: &[Wanted],
        forgotten: &[(Uuid, i32)],
    ) -> Result<Vec<Wanted>, Reject> {
        self.sessions.advance(who, epoch, wanted, forgotten)
    }

    /// Refuses unless the member has a session.
    pub fn check_session(&self, (node, group, member): (NodeId, &str, &str)) -> Result<(), Reject> {
        if self.sessions.exists(node, group, member) { Ok(()) } else { Err(ErrorCode::ShareSessionNotFound.into()) }
    }

    /// Whether an answer to a fetch of this epoch still fits the session.
    pub fn session_is_at(&self, (node, group, member): (NodeId, &str, &str), epoch: i32) -> bool {
        self.sessions.is_at(node, group, member, epoch)
    }

    /// Whether an answer within a session mentions a partition; takes it for told.
    pub fn tell(
        &mut self,
        who: (NodeId, &str, &str),
        partition: (Uuid, i32),
        has_records: bool,
        has_error: bool,
    ) -> bool {
        self.sessions.tell(who, partition, has_records, has_error)
    }

    /// Ends a member's session; the partitions it had.
    pub fn close_session(&mut self, (node, group, member): (NodeId, &str, &str)) -> Option<Vec<(Uuid, i32)>> {
        self.sessions.close(node, group, member)
    }

    /// A connection has closed: the group whose session was last opened over it, and the member if that session lasts.
    pub fn disconnected(&mut self, conn: ConnId) -> Option<(NodeId, String, Option<String>)> {
        self.sessions.disconnected(conn)
    }

    /// Drops what a broker serves for a group none of whose members has a session there.
    pub fn drop_unless_read(&mut self, node: NodeId, group: &str) {
        if self.sessions.has_any(node, group) {
            return;
        }
        let served: Vec<SharePlace> =
            self.live.keys().filter(|(at, key)| *at == node && *key.group == *group).cloned().collect();
        served.iter().for_each(|place| self.drop_place(place));
    }

    /// A broker's process is gone, and with it everything that is not written down.
    pub fn forget_node(&mut self, node: NodeId) {
        self.sessions.forget_node(node);
        self.live.retain(|(at, _), _| *at != node);
        self.due.retain(|(_, (at, _))| *at != node);
    }
}
