//! Share sessions (KIP-932): which partitions a member reads at a broker, and that its requests come in order
//! (`ShareSession`, `ShareSessionCache`).

use crate::error::{ErrorCode, Reject};
use crate::output::ConnId;
use crate::state::nodes::NodeId;
use crate::wire::Uuid;
use indexmap::IndexMap;
use std::collections::BTreeMap;

/// The epoch that opens a session.
pub const INITIAL_EPOCH: i32 = 0;
/// The epoch that ends it.
pub const FINAL_EPOCH: i32 = -1;

/// A partition a member asked for; the name of its topic at that time, if it had one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The topic.
    pub topic: Uuid,
    /// Its name.
    pub name: Option<String>,
    /// The partition.
    pub index: i32,
}

/// Whose session it is: a member of a group at a broker.
type SessionKey = (NodeId, String, String);

#[derive(Debug)]
struct Session {
    epoch: i32,
    conn: ConnId,
    partitions: IndexMap<(Uuid, i32), Followed>,
}

#[derive(Debug)]
struct Followed {
    name: Option<String>,
    /// It is mentioned in the next answer whatever there is to say.
    due: bool,
}

/// The sessions of all brokers.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    sessions: BTreeMap<SessionKey, Session>,
    /// The session last opened over each connection: when that closes, Kafka looks whether its group has sessions left.
    last_opened: BTreeMap<ConnId, SessionKey>,
}

impl Sessions {
    /// Opens a session in place of an earlier one; at most `max` a broker.
    pub(super) fn open(
        &mut self,
        (node, group, member): (NodeId, &str, &str),
        conn: ConnId,
        wanted: &[Wanted],
        max: usize,
    ) -> Result<(), Reject> {
        let key = key(node, group, member);
        self.sessions.remove(&key);
        if self.sessions.keys().filter(|(owner, ..)| *owner == node).count() >= max {
            return Err(ErrorCode::ShareSessionLimitReached.into());
        }
        let follow =
            |wanted: &Wanted| ((wanted.topic, wanted.index), Followed { name: wanted.name.clone(), due: false });
        self.last_opened.insert(conn, key.clone());
        self.sessions.insert(key, Session { epoch: 1, conn, partitions: wanted.iter().map(follow).collect() });
        Ok(())
    }

    /// Goes on with a session: more partitions, fewer, and the next epoch.
    pub(super) fn advance(
        &mut self,
        (node, group, member): (NodeId, &str, &str),
        epoch: i32,
        wanted: &[Wanted],
        forgotten: &[(Uuid, i32)],
    ) -> Result<Vec<Wanted>, Reject> {
        let session = self.sessions.get_mut(&key(node, group, member)).ok_or(ErrorCode::ShareSessionNotFound)?;
        if session.epoch != epoch {
            return Err(ErrorCode::InvalidShareSessionEpoch.into());
        }
        for wanted in wanted {
            let new = || Followed { name: wanted.name.clone(), due: true };
            session.partitions.entry((wanted.topic, wanted.index)).or_insert_with(new);
        }
        for partition in forgotten {
            session.partitions.shift_remove(partition);
        }
        session.epoch = next_epoch(epoch);
        let followed = session.partitions.iter();
        Ok(followed
            .map(|((topic, index), followed)| Wanted { topic: *topic, name: followed.name.clone(), index: *index })
            .collect())
    }

    /// Whether there is a session that an answer to a fetch of this epoch still fits.
    pub(super) fn is_at(&self, node: NodeId, group: &str, member: &str, epoch: i32) -> bool {
        self.sessions.get(&key(node, group, member)).is_some_and(|session| session.epoch == next_epoch(epoch))
    }

    pub(super) fn exists(&self, node: NodeId, group: &str, member: &str) -> bool {
        self.sessions.contains_key(&key(node, group, member))
    }

    /// Whether an answer mentions a partition: it has records, an error, or is mentioned for the first time. Those with
    /// records go to the end, so that others get their turn.
    pub(super) fn tell(
        &mut self,
        (node, group, member): (NodeId, &str, &str),
        partition: (Uuid, i32),
        has_records: bool,
        has_error: bool,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(&key(node, group, member)) else { return true };
        let Some(followed) = session.partitions.get_mut(&partition) else { return true };
        let mention = has_records || has_error || followed.due;
        followed.due = has_error;
        if has_records && let Some((partition, followed)) = session.partitions.shift_remove_entry(&partition) {
            session.partitions.insert(partition, followed);
        }
        mention
    }

    /// Ends a session; the partitions it had.
    pub(super) fn close(&mut self, node: NodeId, group: &str, member: &str) -> Option<Vec<(Uuid, i32)>> {
        let session = self.sessions.remove(&key(node, group, member))?;
        Some(session.partitions.into_keys().collect())
    }

    /// A connection has closed: the member whose session it was, and the group that session was in.
    pub(super) fn disconnected(&mut self, conn: ConnId) -> Option<(NodeId, String, Option<String>)> {
        let key = self.last_opened.remove(&conn)?;
        let lasts = self.sessions.get(&key).is_some_and(|session| session.conn == conn);
        let (node, group, member) = key;
        Some((node, group, Some(member).filter(|_| lasts)))
    }

    pub(super) fn has_any(&self, node: NodeId, group: &str) -> bool {
        self.sessions.keys().any(|(owner, of, _)| *owner == node && of == group)
    }

    pub(super) fn forget_node(&mut self, node: NodeId) {
        self.sessions.retain(|(owner, ..), _| *owner != node);
        self.last_opened.retain(|_, (owner, ..)| *owner != node);
    }
}

fn key(node: NodeId, group: &str, member: &str) -> SessionKey {
    (node, group.to_owned(), member.to_owned())
}

fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}
