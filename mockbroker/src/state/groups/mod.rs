//! Consumer groups: their members, their generations and the offsets they have committed.
//!
//! [`Groups`] holds the groups of the whole cluster; which broker coordinates a group is the caller's business. Nothing
//! here waits: joins and syncs bring a ticket, and whenever one can be answered, at once or in a later call, the answer
//! lies in [`Groups::take_answers`]. Time passes through [`Groups::expire`], which is due at [`Groups::next_deadline`].

mod asked;
mod classic;
mod member;
mod offsets;
mod subscription;
mod timers;
mod view;

#[cfg(test)]
mod tests;

pub use asked::{Candidate, Claim, Leaver, Protocol, SyncBy};
pub use offsets::{Commit, CommittedOffset, NewOffset};
pub use view::{GroupView, MemberView, State};

use crate::error::{ErrorCode, Reject};
use crate::parked::Ticket;
use crate::time::Time;
use crate::wire::Uuid;
use bytes::Bytes;
use classic::{Classic, Env, RetentionStart};
use offsets::Offsets;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use timers::{Event, Timer, Timers};

/// The name Kafka gives this kind of group in ListGroups.
pub const CLASSIC_GROUP_TYPE: &str = "classic";

/// What a request that waited learns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupAnswer {
    /// The answer to a join.
    Join(Result<Joined, JoinRefusal>),
    /// The answer to a sync.
    Sync(Result<Synced, ErrorCode>),
}

/// A member is in the group's new generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The generation.
    pub generation: i32,
    /// The kind of protocol.
    pub protocol_type: Option<String>,
    /// The protocol chosen by all.
    pub protocol: Option<String>,
    /// The member that assigns.
    pub leader: String,
    /// It leads, but the assignment stays as it is.
    pub skip_assignment: bool,
    /// Its own id.
    pub member_id: String,
    /// All members, for the leader; empty for others.
    pub members: Vec<JoinedMember>,
}

/// A member as the leader learns of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its member id.
    pub member_id: String,
    /// Its instance id, if it is static.
    pub group_instance_id: Option<String>,
    /// Its data for the chosen protocol.
    pub metadata: Bytes,
}

/// A join that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRefusal {
    /// Why.
    pub code: ErrorCode,
    /// The member id the answer carries: the new one with `MEMBER_ID_REQUIRED`, else mostly that of the request.
    pub member_id: String,
}

/// A member's assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    /// The kind of protocol.
    pub protocol_type: Option<String>,
    /// The protocol chosen by all.
    pub protocol: Option<String>,
    /// What the leader has assigned to it.
    pub assignment: Bytes,
}

/// A group as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<'a> {
    /// Its id.
    pub group_id: &'a str,
    /// The kind of its protocols; empty for a group that only has offsets.
    pub protocol_type: &'a str,
    /// Where it is in its life.
    pub state: State,
}

/// What can be configured about groups. The defaults are Kafka's, but for the initial delay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `group.min.session.timeout.ms`
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`
    pub max_session_timeout_ms: i32,
    /// `group.max.size`
    pub max_size: usize,
    /// `group.initial.rebalance.delay.ms`. Kafka's three seconds spare a rebalance when many members start at once;
    /// here a test would wait for them every time.
    pub initial_rebalance_delay: Duration,
    /// For how long a new member's first join may wait; not configurable in Kafka.
    pub new_member_join_timeout: Duration,
    /// `offset.metadata.max.bytes`, which Kafka counts in characters.
    pub offset_metadata_max_chars: usize,
    /// `offsets.retention.minutes`
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`
    pub offsets_retention_check_interval: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            max_size: i32::MAX as usize,
            initial_rebalance_delay: Duration::ZERO,
            new_member_join_timeout: Duration::from_secs(5 * 60),
            offset_metadata_max_chars: 4_096,
            offsets_retention: Duration::from_secs(7 * 24 * 60 * 60),
            offsets_retention_check_interval: Duration::from_secs(10 * 60),
        }
    }
}

/// All groups of a cluster.
#[derive(Debug)]
pub struct Groups {
    settings: Settings,
    groups: BTreeMap<Arc<str>, Group>,
    timers: Timers,
    answers: Vec<(Ticket, GroupAnswer)>,
    /// When to look for expired offsets next; `None` while there is no group.
    next_cleanup: Option<Time>,
    /// How many offsets have been committed or sent.
    commits: u64,
}

/// What is kept under one group id.
#[derive(Debug)]
struct Group {
    classic: Classic,
    offsets: Offsets,
}

impl Groups {
    /// No groups yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            groups: BTreeMap::new(),
            timers: Timers::default(),
            answers: Vec::new(),
            next_cleanup: None,
            commits: 0,
        }
    }

    /// Changes the settings; deadlines that are already set stay.
    pub fn configure(&mut self, settings: Settings) {
        self.settings = settings;
    }

    // ---- membership ----

    /// Whether a join can be considered at all, wherever its group is coordinated.
    pub fn check_candidate(&self, who: &Candidate<'_>) -> Result<(), Reject> {
        let session_timeouts = self.settings.min_session_timeout_ms..=self.settings.max_session_timeout_ms;
        if !session_timeouts.contains(&who.session_timeout_ms) {
            return Err(ErrorCode::InvalidSessionTimeout.into());
        }
        Ok(())
    }

    /// A member joins, or joins again. The answer comes through [`Self::take_answers`], and not before the group has
    /// agreed on its next generation.
    pub fn join(&mut self, now: Time, rng: &mut impl rand::Rng, who: Candidate<'_>, ticket: Ticket) {
        self.expire(now);
        if !self.groups.contains_key(who.group) {
            if !who.member_id.is_empty() {
                let refusal = JoinRefusal { code: ErrorCode::UnknownMemberId, member_id: who.member_id.to_owned() };
                return self.answers.push((ticket, GroupAnswer::Join(Err(refusal))));
            }
            self.create(now, who.group).classic.log_creation();
        }
        self.act(now, who.group, |classic, env| classic.join(env, rng, who, ticket));
    }

    /// A member asks for its assignment; the leader brings everybody's. The answer comes through
    /// [`Self::take_answers`], and not before the leader has asked.
    pub fn sync(&mut self, now: Time, group: &str, by: &SyncBy<'_>, ticket: Ticket) {
        self.expire(now);
        if self.act(now, group, |classic, env| classic.sync(env, by, ticket)).is_none() {
            self.answers.push((ticket, GroupAnswer::Sync(Err(ErrorCode::UnknownMemberId))));
        }
    }

    /// A member says that it is alive, and learns whether it must join again.
    pub fn heartbeat(&mut self, now: Time, group: &str, claim: &Claim<'_>) -> Result<(), Reject> {
        self.expire(now);
        let beat = self.act(now, group, |classic, env| classic.heartbeat(env, claim));
        Ok(beat.unwrap_or(Err(ErrorCode::UnknownMemberId))?)
    }

    /// Members leave; each learns for itself whether it was there.
    pub fn leave(
        &mut self,
        now: Time,
        group: &str,
        leavers: &[Leaver<'_>],
    ) -> Result<Vec<Result<(), ErrorCode>>, Reject> {
        self.expire(now);
        match self.act(now, group, |classic, env| classic.leave(env, leavers)) {
            Some(results) => Ok(results?),
            None => Ok(leavers.iter().map(|_| Err(ErrorCode::UnknownMemberId)).collect()),
        }
    }

    // ---- offsets ----

    /// Whether offsets may be committed by this claim, and the means to do so.
    ///
    /// A group that does not exist is created for a consumer that assigns itself (one without a generation); to any
    /// other, `if_unknown` is the answer, which depends on the version of the request.
    pub fn begin_commit(
        &mut self,
        now: Time,
        group: &str,
        claim: &Claim<'_>,
        retention: Option<Duration>,
        if_unknown: ErrorCode,
    ) -> Result<Commit<'_>, Reject> {
        self.expire(now);
        if !self.groups.contains_key(group) {
            if claim.generation >= 0 {
                return Err(if_unknown.into());
            }
            self.create(now, group);
        }
        self.act(now, group, |classic, env| classic.admit_commit(env, claim)).unwrap_or(Err(if_unknown))?;
        let metadata_max_chars = self.settings.offset_metadata_max_chars;
        let group = self.groups.get_mut(group).ok_or(if_unknown)?;
        let (offsets, commits) = (&mut group.offsets, &mut self.commits);
        Ok(Commit { offsets, commits, transaction_of: None, now, metadata_max_chars, retention })
    }

    /// Whether offsets may be sent by this claim within a transaction of this producer, and the means to do so. They
    /// count when the transaction commits: see [`Self::end_pending_offsets`].
    pub fn begin_transactional_commit(
        &mut self,
        now: Time,
        group: &str,
        claim: &Claim<'_>,
        producer_id: i64,
    ) -> Result<Commit<'_>, Reject> {
        self.expire(now);
        if !self.groups.contains_key(group) {
            if claim.generation >= 0 {
                return Err(ErrorCode::IllegalGeneration.into());
            }
            self.create(now, group);
        }
        let metadata_max_chars = self.settings.offset_metadata_max_chars;
        let group = self.groups.get_mut(group).ok_or(ErrorCode::IllegalGeneration)?;
        group.classic.check_transactional_commit(claim)?;
        let (offsets, commits) = (&mut group.offsets, &mut self.commits);
        Ok(Commit { offsets, commits, transaction_of: Some(producer_id), now, metadata_max_chars, retention: None })
    }

    /// The groups to which an open transaction of this producer has sent offsets.
    pub fn with_pending_offsets_of(&self, producer_id: i64) -> Vec<String> {
        let sent = self.groups.iter().filter(|(_, group)| group.offsets.has_pending_of(producer_id));
        sent.map(|(id, _)| id.to_string()).collect()
    }

    /// The producer's transaction has ended: the offsets it sent take effect or are forgotten.
    pub fn end_pending_offsets(&mut self, group: &str, producer_id: i64, committed: bool) {
        if let Some(group) = self.groups.get_mut(group) {
            group.offsets.end_pending(producer_id, committed);
        }
    }

    /// Whether an open transaction has sent an offset for this partition, so that the committed one is about to change.
    pub fn is_unstable(&self, group: &str, topic: &str, partition: i32) -> bool {
        self.groups.get(group).is_some_and(|group| group.offsets.is_pending(topic, partition))
    }

    /// The committed offset of a partition, if there is one for this topic.
    pub fn offset(&self, group: &str, topic: &str, topic_id: Uuid, partition: i32) -> Option<&CommittedOffset> {
        self.groups.get(group)?.offsets.get(topic, partition).filter(|committed| committed.is_for(topic_id))
    }

    /// Every committed offset of a group, by topic and partition. A group that does not exist has none.
    pub fn offsets(&self, group: &str) -> impl Iterator<Item = (&str, &BTreeMap<i32, CommittedOffset>)> {
        self.groups.get(group).into_iter().flat_map(|group| group.offsets.topics())
    }

    /// Whether offsets of this group may be deleted at all.
    pub fn begin_offset_delete(&mut self, group: &str) -> Result<OffsetDelete<'_>, Reject> {
        let group = self.groups.get_mut(group).ok_or(ErrorCode::GroupIdNotFound)?;
        group.classic.check_offset_delete()?;
        Ok(OffsetDelete { group })
    }

    /// A topic is gone, and the offsets committed for it with it.
    pub fn topic_deleted(&mut self, topic: &str) {
        for group in self.groups.values_mut() {
            group.offsets.remove_topic(topic);
        }
    }

    // ---- seeing and deleting groups ----

    /// A group as it is now.
    pub fn describe(&self, group: &str) -> Result<GroupView, Reject> {
        self.groups.get(group).map(|group| group.classic.view()).ok_or_else(|| not_found(group))
    }

    /// All groups in these states, or all if none is named. States are compared as Kafka does, without regard to case.
    pub fn list(&self, states: &[&str]) -> impl Iterator<Item = Listed<'_>> {
        let states: Vec<String> = states.iter().map(|state| state.trim().to_lowercase()).collect();
        self.groups
            .iter()
            .map(|(id, group)| Listed {
                group_id: id,
                protocol_type: group.classic.protocol_type().unwrap_or_default(),
                state: group.classic.state(),
            })
            .filter(move |group| states.is_empty() || states.contains(&group.state.name().to_lowercase()))
    }

    /// Deletes a group nobody is in, with its offsets.
    pub fn delete(&mut self, group: &str) -> Result<(), Reject> {
        self.groups.get(group).ok_or_else(|| not_found(group))?.classic.check_delete()?;
        self.remove(group);
        Ok(())
    }

    // ---- the coordinator ----

    /// The ids of all groups.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.groups.keys().map(|id| &**id)
    }

    /// The group's coordinator stops: whoever waits is answered `NOT_COORDINATOR`, and until [`Self::load`] the group
    /// is [`State::Dead`].
    pub fn unload(&mut self, now: Time, group: &str) {
        self.act(now, group, |classic, env| classic.unload(env));
    }

    /// A coordinator takes the group over with what the log has kept: the last generation whose assignment was known,
    /// its members with a fresh session each, and the offsets. A rebalance that was under way is forgotten.
    pub fn load(&mut self, now: Time, group: &str) {
        self.act(now, group, |classic, env| classic.load(env));
        if self.groups.get(group).is_some_and(|group| !group.classic.is_logged() && group.has_no_offsets()) {
            self.remove(group);
        }
    }

    /// [`Self::unload`] and [`Self::load`]: the coordinator moves, or its broker restarts.
    pub fn reload(&mut self, now: Time, group: &str) {
        self.unload(now, group);
        self.load(now, group);
    }

    // ---- from outside ----

    /// Ends a member's session as if it had not been heard of for too long.
    pub fn expire_member(&mut self, now: Time, group: &str, member: &str) {
        self.act(now, group, |classic, env| classic.session_is_due(env, member));
    }

    /// Makes the members join again, if there are any.
    pub fn rebalance(&mut self, now: Time, group: &str) {
        self.act(now, group, |classic, env| classic.rebalance_on_demand(env));
    }

    /// Forgets everything a group has committed.
    pub fn drop_offsets(&mut self, group: &str) {
        if let Some(group) = self.groups.get_mut(group) {
            group.offsets.clear();
        }
    }

    // ---- time and answers ----

    /// When something will happen by itself, unless something else happens before.
    pub fn next_deadline(&self) -> Option<Time> {
        self.timers.next().into_iter().chain(self.next_cleanup).min()
    }

    /// Lets everything happen that is due.
    pub fn expire(&mut self, now: Time) {
        while let Some(Timer { group, event }) = self.timers.pop_due(now) {
            self.act(now, &group, |classic, env| match event {
                Event::Join => classic.join_is_due(env),
                Event::Sync => classic.sync_is_due(env),
                Event::Session(member) => classic.session_is_due(env, &member),
            });
        }
        if self.next_cleanup.is_some_and(|at| at <= now) {
            self.expire_offsets(now);
        }
    }

    /// Takes the answers that have become due, oldest first. The one who waited may be gone by now: a group learns of
    /// that only when the member's session expires, as in Kafka.
    pub fn take_answers(&mut self) -> Vec<(Ticket, GroupAnswer)> {
        std::mem::take(&mut self.answers)
    }

    /// Drops offsets whose retention is over, then groups without members and offsets.
    fn expire_offsets(&mut self, now: Time) {
        let retention = self.settings.offsets_retention;
        let mut ended = Vec::new();
        for (id, group) in &mut self.groups {
            group.expire_offsets(now, retention);
            if group.has_no_offsets() && group.classic.state() == State::Empty {
                ended.push(Arc::clone(id));
            }
        }
        self.next_cleanup = Some(now + self.settings.offsets_retention_check_interval);
        for id in ended {
            tracing::debug!(group = %id, "removed, it has neither members nor offsets");
            self.remove(&id);
        }
    }

    fn create(&mut self, now: Time, id: &str) -> &mut Group {
        let id: Arc<str> = Arc::from(id);
        self.next_cleanup.get_or_insert(now + self.settings.offsets_retention_check_interval);
        let group = Group { classic: Classic::new(&id, now), offsets: Offsets::default() };
        self.groups.entry(id).or_insert(group)
    }

    fn remove(&mut self, id: &str) {
        if let Some((id, _)) = self.groups.remove_entry(id) {
            self.timers.cancel_all_of(&id);
        }
        if self.groups.is_empty() {
            self.next_cleanup = None;
        }
    }

    fn act<R>(&mut self, now: Time, group: &str, act: impl FnOnce(&mut Classic, &mut Env<'_>) -> R) -> Option<R> {
        let mut env = Env { now, settings: &self.settings, timers: &mut self.timers, answers: &mut self.answers };
        self.groups.get_mut(group).map(|group| act(&mut group.classic, &mut env))
    }
}

impl Group {
    fn has_no_offsets(&self) -> bool {
        self.offsets.is_empty() && !self.offsets.has_pending()
    }

    fn expire_offsets(&mut self, now: Time, retention: Duration) {
        let Some(start) = self.classic.retention_starts() else { return };
        let classic = &self.classic;
        self.offsets.retain(|topic, committed| {
            let ends_at = committed.expires_at.unwrap_or_else(|| match start {
                RetentionStart::Commit => committed.committed_at + retention,
                RetentionStart::At(since) => since + retention,
            });
            classic.is_subscribed_to(topic) || now < ends_at
        });
    }
}

/// The right to delete offsets of a group, granted by [`Groups::begin_offset_delete`].
#[derive(Debug)]
pub struct OffsetDelete<'a> {
    group: &'a mut Group,
}

impl OffsetDelete<'_> {
    /// Deletes one partition's offset; it need not have one. Topics somebody in the group reads are refused.
    pub fn remove(&mut self, topic: &str, partition: i32) -> Result<(), Reject> {
        if self.group.classic.is_subscribed_to(topic) {
            return Err(ErrorCode::GroupSubscribedToTopic.into());
        }
        self.group.offsets.remove(topic, partition);
        Ok(())
    }
}

/// Java's `String.hashCode`.
fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

/// Where a Java `HashMap` of this many entries keeps a string: iteration goes by slot.
fn java_hash_map_slot(key: &str, entries: usize) -> u32 {
    let mut slots = 16;
    while entries > slots / 4 * 3 {
        slots *= 2;
    }
    let hash = java_hash(key).cast_unsigned();
    (hash ^ (hash >> 16)) & u32::try_from(slots - 1).unwrap_or(u32::MAX)
}

fn not_found(group: &str) -> Reject {
    Reject::new(ErrorCode::GroupIdNotFound, format!("Group {group} not found."))
}
