//! Incremental fetch sessions (KIP-227): the partitions a consumer follows, remembered so that neither side
//! repeats what has not changed (`FetchSession`, `FetchManager`).

use super::nodes::NodeId;
use crate::error::{ErrorCode, Reject};
use crate::time::Time;
use crate::wire::Uuid;
use indexmap::IndexMap;
use std::collections::BTreeMap;
use std::time::Duration;

/// Sessions one broker keeps (`max.incremental.fetch.session.cache.slots`).
const SLOTS: usize = 1_000;
/// How long a session must be idle before another may take its slot (`FetchSession.MinIncrementalFetchSessionEvictionMs`).
const EVICTABLE_AFTER: Duration = Duration::from_secs(120);
/// The session id of a fetch without a session.
pub const NO_SESSION: i32 = 0;
/// The epoch that asks for a new session.
const INITIAL_EPOCH: i32 = 0;
/// The epoch that asks for no session, and ends the one named.
const FINAL_EPOCH: i32 = -1;

/// A partition by the names its client uses: an id from version 13 on, a name before.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FetchKey {
    /// The topic's id, or zero.
    pub topic_id: Uuid,
    /// The topic's name, or empty.
    pub topic: String,
    /// The partition.
    pub index: i32,
}

/// What a client wants of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// From where on.
    pub fetch_offset: i64,
    /// At most this many bytes.
    pub max_bytes: i32,
    /// The leader epoch the client knows, or −1.
    pub current_leader_epoch: i32,
    /// The epoch of the last record the client has, or −1.
    pub last_fetched_epoch: i32,
}

/// What decides whether a partition is worth mentioning again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The high watermark last told.
    pub high_watermark: i64,
    /// The log start offset last told.
    pub log_start_offset: i64,
}

/// How a fetch is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// Every partition asked for is answered; nothing is remembered.
    Sessionless,
    /// Every partition is answered, and a session is opened if there is room.
    Opening,
    /// Only what changed is answered.
    Incremental {
        /// The session's id.
        session_id: i32,
    },
}

#[derive(Debug, Clone)]
struct Session {
    epoch: i32,
    uses_topic_ids: bool,
    last_used: Time,
    partitions: IndexMap<FetchKey, Followed>,
}

/// A partition in a session.
#[derive(Debug, Clone)]
struct Followed {
    wanted: Wanted,
    /// What the client was told last.
    told: Option<Seen>,
    /// What a topic known by its id is called, once that could be found out: Kafka never looks again.
    name: Option<String>,
}

/// The sessions of all brokers.
#[derive(Debug, Clone, Default)]
pub struct FetchSessions {
    sessions: BTreeMap<(NodeId, i32), Session>,
    last_id: i32,
}

impl FetchSessions {
    /// Applies a fetch request to its session and says what to read: the partitions, in order.
    pub fn begin(
        &mut self,
        now: Time,
        node: NodeId,
        session: (i32, i32),
        uses_topic_ids: bool,
        wanted: Vec<(FetchKey, Wanted)>,
        forgotten: Vec<FetchKey>,
    ) -> Result<(Context, Vec<(FetchKey, Wanted)>), Reject> {
        let (session_id, session_epoch) = session;
        if matches!(session_epoch, INITIAL_EPOCH | FINAL_EPOCH) {
            self.sessions.remove(&(node, session_id));
            let context = if session_epoch == FINAL_EPOCH { Context::Sessionless } else { Context::Opening };
            return Ok((context, wanted));
        }
        let session = self.sessions.get_mut(&(node, session_id)).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.epoch != session_epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch.into());
        }
        if session.uses_topic_ids != uses_topic_ids {
            return Err(ErrorCode::FetchSessionTopicIdError.into());
        }
        session.update(wanted.clone(), &forgotten);
        if session.partitions.is_empty() {
            self.sessions.remove(&(node, session_id));
            return Ok((Context::Sessionless, wanted));
        }
        session.last_used = now;
        session.epoch = session.epoch.checked_add(1).unwrap_or(1);
        let all = session.partitions.iter().map(|(key, followed)| (key.clone(), followed.wanted)).collect();
        Ok((Context::Incremental { session_id }, all))
    }

    /// Opens a session for partitions that have just been answered in full; its id, or [`NO_SESSION`] when all slots
    /// are in use.
    pub fn open(
        &mut self,
        now: Time,
        node: NodeId,
        uses_topic_ids: bool,
        partitions: impl IntoIterator<Item = (FetchKey, Wanted, Seen)>,
    ) -> i32 {
        if !self.make_room(now, node) {
            return NO_SESSION;
        }
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        let follow = |(key, wanted, seen)| (key, Followed { wanted, told: Some(seen), name: None });
        let partitions = partitions.into_iter().map(follow).collect();
        let session = Session { epoch: 1, uses_topic_ids, last_used: now, partitions };
        self.sessions.insert((node, self.last_id), session);
        self.last_id
    }

    /// Whether an answer about this partition tells a session anything new; remembers it as told. A partition that
    /// had data goes to the end, so that others get their turn under a byte limit.
    pub fn tell(&mut self, node: NodeId, session_id: i32, key: &FetchKey, seen: Seen, has_data: bool) -> bool {
        let Some(session) = self.sessions.get_mut(&(node, session_id)) else { return true };
        let Some(followed) = session.partitions.get_mut(key) else { return true };
        let changed = has_data || followed.told != Some(seen);
        followed.told = Some(seen);
        if has_data && let Some((key, value)) = session.partitions.shift_remove_entry(key) {
            session.partitions.insert(key, value);
        }
        changed
    }

    /// Notes what the topics of a session are called, where that is not known yet (`CachedPartition.maybeResolveUnknownName`).
    pub fn remember_names(&mut self, node: NodeId, session_id: i32, name_of: impl Fn(Uuid) -> Option<String>) {
        let Some(session) = self.sessions.get_mut(&(node, session_id)).filter(|session| session.uses_topic_ids) else {
            return;
        };
        for (key, followed) in &mut session.partitions {
            if followed.name.is_none() {
                followed.name = name_of(key.topic_id);
            }
        }
    }

    /// What the topic of a partition in a session was called when that was noted.
    pub fn name_of(&self, node: NodeId, session_id: i32, key: &FetchKey) -> Option<&str> {
        self.sessions.get(&(node, session_id))?.partitions.get(key)?.name.as_deref()
    }

    /// The partitions of a session; none when there is no such session.
    pub fn partitions(&self, node: NodeId, session_id: i32) -> impl Iterator<Item = &FetchKey> {
        self.sessions.get(&(node, session_id)).into_iter().flat_map(|session| session.partitions.keys())
    }

    /// Forgets a broker's sessions, as its restart does.
    pub fn forget_node(&mut self, node: NodeId) {
        self.sessions.retain(|(owner, _), _| *owner != node);
    }

    fn make_room(&mut self, now: Time, node: NodeId) -> bool {
        let of_node = (node, i32::MIN)..=(node, i32::MAX);
        if self.sessions.range(of_node.clone()).count() < SLOTS {
            return true;
        }
        let oldest = self.sessions.range(of_node).min_by_key(|(_, session)| session.last_used);
        match oldest {
            Some((key, session)) if now.since(session.last_used) > EVICTABLE_AFTER => {
                let key = *key;
                self.sessions.remove(&key);
                true
            }
            _ => false,
        }
    }
}

impl Session {
    fn update(&mut self, wanted: Vec<(FetchKey, Wanted)>, forgotten: &[FetchKey]) {
        for (key, wanted) in wanted {
            match self.partitions.get_mut(&key) {
                Some(known) => known.wanted = wanted,
                None => {
                    self.partitions.insert(key, Followed { wanted, told: None, name: None });
                }
            }
        }
        for key in forgotten {
            self.partitions.shift_remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(1);
    const SEEN: Seen = Seen { high_watermark: 5, log_start_offset: 0 };

    fn key(index: i32) -> FetchKey {
        FetchKey { topic_id: Uuid::default(), topic: "orders".into(), index }
    }

    fn wanted(fetch_offset: i64) -> Wanted {
        Wanted { fetch_offset, max_bytes: 1, current_leader_epoch: -1, last_fetched_epoch: -1 }
    }

    fn opened() -> (FetchSessions, i32) {
        let mut sessions = FetchSessions::default();
        let id = sessions.open(Time::ZERO, NODE, false, [(key(0), wanted(0), SEEN), (key(1), wanted(0), SEEN)]);
        (sessions, id)
    }

    #[test]
    fn a_session_remembers_its_partitions() {
        let (mut sessions, id) = opened();
        let (context, all) =
            sessions.begin(Time::ZERO, NODE, (id, 1), false, vec![(key(1), wanted(7))], vec![]).expect("in step");
        assert_eq!(context, Context::Incremental { session_id: id });
        assert_eq!(all, [(key(0), wanted(0)), (key(1), wanted(7))]);
    }

    #[test]
    fn only_news_is_told() {
        let (mut sessions, id) = opened();
        assert!(!sessions.tell(NODE, id, &key(0), SEEN, false));
        assert!(sessions.tell(NODE, id, &key(0), Seen { high_watermark: 6, ..SEEN }, false));
        assert!(sessions.tell(NODE, id, &key(0), SEEN, true));
        let (_, all) = sessions.begin(Time::ZERO, NODE, (id, 1), false, vec![], vec![]).expect("in step");
        assert_eq!(all[1].0, key(0), "a partition that had data goes last");
    }

    #[test]
    fn a_client_out_of_step_is_told_so() {
        let (mut sessions, id) = opened();
        let mut begin = |session, ids| sessions.begin(Time::ZERO, NODE, session, ids, vec![], vec![]);
        assert_eq!(begin((id, 2), false).expect_err("ahead").code, ErrorCode::InvalidFetchSessionEpoch);
        assert_eq!(begin((id, 1), true).expect_err("ids").code, ErrorCode::FetchSessionTopicIdError);
        assert_eq!(begin((id + 1, 1), false).expect_err("unknown").code, ErrorCode::FetchSessionIdNotFound);
        assert_eq!(begin((id, -1), false).expect("final").0, Context::Sessionless);
        assert_eq!(begin((id, 1), false).expect_err("closed").code, ErrorCode::FetchSessionIdNotFound);
    }

    #[test]
    fn a_full_cache_opens_no_session_until_one_is_idle() {
        let mut sessions = FetchSessions::default();
        for _ in 0..SLOTS {
            assert_ne!(sessions.open(Time::ZERO, NODE, false, []), NO_SESSION);
        }
        assert_eq!(sessions.open(Time::ZERO, NODE, false, []), NO_SESSION);
        let later = Time::ZERO + EVICTABLE_AFTER + Duration::from_secs(1);
        assert_ne!(sessions.open(later, NODE, false, []), NO_SESSION);
    }
}
