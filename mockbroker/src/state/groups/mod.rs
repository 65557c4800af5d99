//! Groups: their members – by the classic protocol, the consumer protocol (KIP-848), as share groups (KIP-932) or as threads
//! of a Kafka Streams application (KIP-1071) –, their generations and epochs, and the offsets they have committed.
//!
//! [`Groups`] holds the groups of the whole cluster; which broker coordinates a group is the caller's business. Nothing
//! here waits: joins and syncs bring a ticket, and whenever one can be answered, at once or in a later call, the answer
//! lies in [`Groups::take_answers`]. Time passes through [`Groups::expire`], which is due at [`Groups::next_deadline`].

mod asked;
mod assignors;
mod beats;
mod catalog;
mod classic;
mod commits;
mod consumer;
mod env;
mod group;
mod java;
mod member;
mod offsets;
mod share;
mod streams;
mod subscription;
mod timers;
mod view;

#[cfg(test)]
mod tests;

pub use asked::{Candidate, Claim, Leaver, Protocol, SyncBy};
pub use assignors::Assignor;
pub use catalog::TopicFacts;
pub use consumer::{Beat, Beaten, ConsumerState, Pace};
pub use group::OffsetDelete;
pub use offsets::{Commit, CommittedOffset, NewOffset};
pub use share::{SHARE_ASSIGNOR, ShareBeat};
pub use streams::{
    EndpointPartitions, InternalTopic, StreamsBeat, StreamsBeaten, StreamsGroupView, StreamsMemberView, StreamsPace,
    StreamsStatus, Subtopology, TaskSets, Tasks, Topology,
};
pub use view::{
    ConsumerGroupView, ConsumerMemberView, GroupKind, GroupView, MemberView, ShareGroupView, ShareMemberView, State,
    TopicShare,
};

use crate::error::{ErrorCode, Reject};
use crate::parked::Ticket;
use crate::time::Time;
use bytes::Bytes;
use catalog::Catalog;
use classic::Classic;
use consumer::{Consumer, Downgrade};
use env::Env;
use group::{Group, Kind, Members};
use offsets::Offsets;
use share::Share;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use streams::Streams;
use timers::{Event, Timer, Timers};

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
    /// What kind of group it is.
    pub kind: GroupKind,
    /// The kind of its protocols; empty for a group that only has offsets.
    pub protocol_type: &'a str,
    /// Where it is in its life, in Kafka's spelling.
    pub state: &'static str,
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
    /// `group.consumer.max.size`
    pub consumer_max_size: usize,
    /// `group.share.max.size`
    pub share_max_size: usize,
    /// `group.streams.max.size`
    pub streams_max_size: usize,
    /// `group.consumer.migration.policy` lets classic groups become consumer groups while they have members.
    pub may_upgrade: bool,
    /// `group.consumer.migration.policy` lets consumer groups of classic members become classic groups.
    pub may_downgrade: bool,
    /// `group.consumer.assignors`, the default first.
    pub assignors: Vec<Assignor>,
    /// `group.consumer.regex.refresh.interval.ms`
    pub regex_refresh_interval: Duration,
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
            consumer_max_size: i32::MAX as usize,
            share_max_size: 200,
            streams_max_size: i32::MAX as usize,
            may_upgrade: true,
            may_downgrade: true,
            assignors: vec![Assignor::Uniform, Assignor::Range],
            regex_refresh_interval: Duration::from_secs(10 * 60),
            offset_metadata_max_chars: 4_096,
            offsets_retention: Duration::from_secs(7 * 24 * 60 * 60),
            offsets_retention_check_interval: Duration::from_secs(10 * 60),
        }
    }
}

impl Settings {
    /// The assignor of groups whose members ask for none.
    fn default_assignor(&self) -> Assignor {
        self.assignors.first().copied().unwrap_or(Assignor::Uniform)
    }
}

/// All groups of a cluster.
#[derive(Debug)]
pub struct Groups {
    settings: Settings,
    groups: BTreeMap<Arc<str>, Group>,
    catalog: Catalog,
    timers: Timers,
    answers: Vec<(Ticket, GroupAnswer)>,
    /// When to look for expired offsets next; `None` while there is no group.
    next_cleanup: Option<Time>,
    /// How many offsets have been committed or sent.
    commits: u64,
}

impl Groups {
    /// No groups yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            groups: BTreeMap::new(),
            catalog: Catalog::default(),
            timers: Timers::default(),
            answers: Vec::new(),
            next_cleanup: None,
            commits: 0,
        }
    }

    /// What can be configured, as it is now.
    pub fn settings(&self) -> &Settings {
        &self.settings
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
        if self.is_empty_consumer(who.group) {
            self.forget_members(now, who.group);
        }
        if let Some(joined) = self.act(now, who.group, |consumer: &mut Consumer, env| consumer.join(env, rng, &who)) {
            return self.answers.push((ticket, GroupAnswer::Join(joined)));
        }
        if !self.groups.contains_key(who.group) {
            if !who.member_id.is_empty() {
                let refusal = JoinRefusal { code: ErrorCode::UnknownMemberId, member_id: who.member_id.to_owned() };
                return self.answers.push((ticket, GroupAnswer::Join(Err(refusal))));
            }
            self.create(now, who.group);
            self.act(now, who.group, |classic: &mut Classic, _| classic.log_creation());
        }
        let group = who.group;
        if self.act(now, group, |classic: &mut Classic, env| classic.join(env, rng, who, ticket)).is_none() {
            let refusal = JoinRefusal { code: ErrorCode::InconsistentGroupProtocol, member_id: String::new() };
            self.answers.push((ticket, GroupAnswer::Join(Err(refusal))));
        }
    }

    /// A member asks for its assignment; the leader brings everybody's. The answer comes through
    /// [`Self::take_answers`], and not before the leader has asked.
    pub fn sync(&mut self, now: Time, group: &str, by: &SyncBy<'_>, ticket: Ticket) {
        self.expire(now);
        if let Some(synced) = self.act(now, group, |consumer: &mut Consumer, env| consumer.sync(env, by)) {
            self.answers.push((ticket, GroupAnswer::Sync(synced)));
        } else if self.act(now, group, |classic: &mut Classic, env| classic.sync(env, by, ticket)).is_none() {
            self.answers.push((ticket, GroupAnswer::Sync(Err(ErrorCode::UnknownMemberId))));
        }
    }

    /// A member says that it is alive, and learns whether it must join again.
    pub fn heartbeat(&mut self, now: Time, group: &str, claim: &Claim<'_>) -> Result<(), Reject> {
        self.expire(now);
        let as_classic = self.act(now, group, |classic: &mut Classic, env| classic.heartbeat(env, claim));
        let beat =
            as_classic.or_else(|| self.act(now, group, |group: &mut Consumer, env| group.classic_beat(env, claim)));
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
        if let Some(results) = self.act(now, group, |consumer: &mut Consumer, env| consumer.classic_leave(env, leavers))
        {
            return Ok(results);
        }
        match self.act(now, group, |classic: &mut Classic, env| classic.leave(env, leavers)) {
            Some(results) => Ok(results?),
            None => Ok(leavers.iter().map(|_| Err(ErrorCode::UnknownMemberId)).collect()),
        }
    }

    // ---- topics ----

    /// A topic is gone, and the offsets committed for it with it.
    pub fn topic_deleted(&mut self, topic: &str) {
        self.catalog.remove(topic);
        for group in self.groups.values_mut() {
            group.offsets.remove_topic(topic);
            match &mut group.members {
                Members::Classic(_) => {}
                Members::Consumer(consumer) => consumer.topic_changed(topic),
                Members::Share(share) => share.topic_changed(&self.catalog, topic),
                Members::Streams(streams) => streams.topic_changed(topic),
            }
        }
    }

    /// A topic is new, or has more partitions, or lives elsewhere: groups that assign it look at it again.
    pub fn topic_changed(&mut self, topic: &str, facts: TopicFacts) {
        self.catalog.put(topic, facts);
        for group in self.groups.values_mut() {
            match &mut group.members {
                Members::Classic(_) => {}
                Members::Consumer(consumer) => consumer.topic_changed(topic),
                Members::Share(share) => share.topic_changed(&self.catalog, topic),
                Members::Streams(streams) => streams.topic_changed(topic),
            }
        }
    }

    // ---- seeing and deleting groups ----

    /// A classic group as it is now.
    pub fn describe(&self, group: &str) -> Result<GroupView, Reject> {
        match &self.groups.get(group).ok_or_else(|| not_found(group))?.members {
            Members::Classic(classic) => Ok(classic.view()),
            _ => Err(not_of_kind(group, GroupKind::Classic)),
        }
    }

    /// A group of the consumer protocol as it is now.
    pub fn describe_consumer(&self, group: &str) -> Result<ConsumerGroupView, Reject> {
        match &self.groups.get(group).ok_or_else(|| not_found(group))?.members {
            Members::Consumer(consumer) => Ok(consumer.view(&self.catalog, self.settings.default_assignor())),
            _ => Err(not_of_kind(group, GroupKind::Consumer)),
        }
    }

    /// A share group as it is now.
    pub fn describe_share(&self, group: &str) -> Result<ShareGroupView, Reject> {
        match &self.groups.get(group).ok_or_else(|| not_found(group))?.members {
            Members::Share(share) => Ok(share.view(&self.catalog)),
            _ => Err(not_of_kind(group, GroupKind::Share)),
        }
    }

    /// A streams group as it is now.
    pub fn describe_streams(&self, group: &str) -> Result<StreamsGroupView, Reject> {
        match &self.groups.get(group).ok_or_else(|| not_found(group))?.members {
            Members::Streams(streams) => Ok(streams.view()),
            _ => Err(not_of_kind(group, GroupKind::Streams)),
        }
    }

    /// All groups in these states, or all if none is named. States are compared as Kafka does, without regard to case.
    pub fn list(&self, states: &[&str]) -> impl Iterator<Item = Listed<'_>> {
        let states: Vec<String> = states.iter().map(|state| state.trim().to_lowercase()).collect();
        self.groups
            .iter()
            .map(|(id, group)| Listed {
                group_id: id,
                kind: group.kind(),
                protocol_type: group.protocol_type(),
                state: group.state_name(),
            })
            .filter(move |group| states.is_empty() || states.contains(&group.state.to_lowercase()))
    }

    /// Deletes a group nobody is in, with its offsets.
    pub fn delete(&mut self, group: &str) -> Result<(), Reject> {
        match &self.groups.get(group).ok_or_else(|| not_found(group))?.members {
            Members::Classic(classic) => classic.check_delete()?,
            Members::Consumer(consumer) if consumer.state() == ConsumerState::Empty => {}
            Members::Share(share) if share.is_empty() => {}
            Members::Streams(streams) if streams.is_empty() => {}
            Members::Consumer(_) | Members::Share(_) | Members::Streams(_) => {
                return Err(ErrorCode::NonEmptyGroup.into());
            }
        }
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
        self.act(now, group, |classic: &mut Classic, env| classic.unload(env));
        self.act(now, group, |consumer: &mut Consumer, env| consumer.unload(env));
        self.act(now, group, |share: &mut Share, env| share.unload(env));
        self.act(now, group, |streams: &mut Streams, env| streams.unload(env));
    }

    /// A coordinator takes the group over with what the log has kept: the last generation whose assignment was known,
    /// its members with a fresh session each, and the offsets. A rebalance that was under way is forgotten.
    pub fn load(&mut self, now: Time, group: &str) {
        self.act(now, group, |classic: &mut Classic, env| classic.load(env));
        self.act(now, group, |consumer: &mut Consumer, env| consumer.load(env));
        self.act(now, group, |share: &mut Share, env| share.load(env));
        self.act(now, group, |streams: &mut Streams, env| streams.load(env));
        if self.groups.get(group).is_some_and(|group| !group.is_logged()) {
            self.remove(group);
        }
    }

    /// [`Self::unload`] and [`Self::load`]: the coordinator moves, or its broker restarts.
    pub fn reload(&mut self, now: Time, group: &str) {
        self.unload(now, group);
        self.load(now, group);
    }

    // ---- from outside ----

    /// The id of the member that has this member id, instance id or client id.
    pub fn member_meant(&self, group: &str, name: &str) -> Option<String> {
        let meant =
            |id: &str, instance: Option<&str>, client: &str| id == name || instance == Some(name) || client == name;
        match &self.groups.get(group)?.members {
            Members::Classic(classic) => {
                let mut members = classic.view().members.into_iter();
                members.find(|m| meant(&m.member_id, m.group_instance_id.as_deref(), &m.client_id)).map(|m| m.member_id)
            }
            Members::Consumer(consumer) => {
                let mut members = consumer.view(&self.catalog, self.settings.default_assignor()).members.into_iter();
                members.find(|m| meant(&m.member_id, m.group_instance_id.as_deref(), &m.client_id)).map(|m| m.member_id)
            }
            Members::Share(share) => {
                let mut members = share.view(&self.catalog).members.into_iter();
                members.find(|m| meant(&m.member_id, None, &m.client_id)).map(|m| m.member_id)
            }
            Members::Streams(streams) => {
                let mut members = streams.view().members.into_iter();
                members.find(|m| meant(&m.member_id, None, &m.client_id)).map(|m| m.member_id)
            }
        }
    }

    /// Ends a member's session as if it had not been heard of for too long.
    pub fn expire_member(&mut self, now: Time, group: &str, member: &str) {
        self.act(now, group, |classic: &mut Classic, env| classic.session_is_due(env, member));
        self.act(now, group, |consumer: &mut Consumer, env| consumer.session_is_due(env, member));
        self.act(now, group, |share: &mut Share, env| share.session_is_due(env, member));
        self.act(now, group, |streams: &mut Streams, env| streams.session_is_due(env, member));
    }

    /// Makes the members join again, if there are any.
    pub fn rebalance(&mut self, now: Time, group: &str) {
        self.act(now, group, |classic: &mut Classic, env| classic.rebalance_on_demand(env));
        self.act(now, group, |consumer: &mut Consumer, _| consumer.rebalance_on_demand());
        self.act(now, group, |share: &mut Share, _| share.rebalance_on_demand());
        self.act(now, group, |streams: &mut Streams, _| streams.rebalance_on_demand());
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
            self.act(now, &group, |classic: &mut Classic, env| match &event {
                Event::Join => classic.join_is_due(env),
                Event::Sync => classic.sync_is_due(env),
                Event::Session(member) => classic.session_is_due(env, member),
                Event::Assign | Event::Rebalance(_) | Event::Rejoin(_) | Event::Resync(_) => {}
            });
            self.act(now, &group, |consumer: &mut Consumer, env| match &event {
                Event::Session(member) => consumer.session_is_due(env, member),
                Event::Rebalance(member) => consumer.rebalance_is_due(env, member),
                Event::Rejoin(member) => consumer.rejoin_is_due(env, member),
                Event::Resync(member) => consumer.resync_is_due(env, member),
                Event::Join | Event::Sync | Event::Assign => {}
            });
            self.act(now, &group, |streams: &mut Streams, env| match &event {
                Event::Assign => streams.delay_is_over(env),
                Event::Session(member) => streams.session_is_due(env, member),
                Event::Rebalance(member) => streams.rebalance_is_due(env, member),
                Event::Join | Event::Sync | Event::Rejoin(_) | Event::Resync(_) => {}
            });
            self.act(now, &group, |share: &mut Share, env| {
                if let Event::Session(member) = &event {
                    share.session_is_due(env, member);
                }
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
            if group.has_no_offsets() && group.is_empty() && group.kind() != GroupKind::Share {
                ended.push(Arc::clone(id));
            }
        }
        self.next_cleanup = Some(now + self.settings.offsets_retention_check_interval);
        for id in ended {
            tracing::debug!(group = %id, "removed, it has neither members nor offsets");
            self.remove(&id);
        }
    }

    fn create(&mut self, now: Time, id: &str) {
        let id: Arc<str> = Arc::from(id);
        let classic = Classic::new(&id, now);
        self.put(now, id, Members::Classic(Box::new(classic)));
    }

    /// Gives a group other members; its offsets stay.
    fn put(&mut self, now: Time, id: Arc<str>, members: Members) {
        self.next_cleanup.get_or_insert(now + self.settings.offsets_retention_check_interval);
        match self.groups.get_mut(&id) {
            Some(group) => group.members = members,
            None => {
                self.groups.insert(id, Group { members, offsets: Offsets::default() });
            }
        }
    }

    /// An empty group of another protocol becomes an empty classic one.
    fn forget_members(&mut self, now: Time, id: &str) {
        let id: Arc<str> = Arc::from(id);
        self.timers.cancel_all_of(&id);
        let classic = Classic::new(&id, now);
        self.put(now, id, Members::Classic(Box::new(classic)));
    }

    fn consumer(&self, group: &str) -> Option<&Consumer> {
        match &self.groups.get(group)?.members {
            Members::Consumer(consumer) => Some(consumer),
            _ => None,
        }
    }

    fn share(&self, group: &str) -> Option<&Share> {
        match &self.groups.get(group)?.members {
            Members::Share(share) => Some(share),
            _ => None,
        }
    }

    fn streams(&self, group: &str) -> Option<&Streams> {
        match &self.groups.get(group)?.members {
            Members::Streams(streams) => Some(streams),
            _ => None,
        }
    }

    fn is_share(&self, group: &str) -> bool {
        self.groups.get(group).is_some_and(|group| group.kind() == GroupKind::Share)
    }

    fn is_empty_consumer(&self, group: &str) -> bool {
        self.consumer(group).is_some_and(|consumer| consumer.state() == ConsumerState::Empty)
    }

    fn remove(&mut self, id: &str) {
        if let Some((id, _)) = self.groups.remove_entry(id) {
            self.timers.cancel_all_of(&id);
        }
        if self.groups.is_empty() {
            self.next_cleanup = None;
        }
    }

    /// Lets the members of a group act, if they are of this kind.
    fn act<K: Kind, R>(&mut self, now: Time, group: &str, act: impl FnOnce(&mut K, &mut Env<'_>) -> R) -> Option<R> {
        let mut env = Env {
            now,
            settings: &self.settings,
            catalog: &self.catalog,
            timers: &mut self.timers,
            answers: &mut self.answers,
        };
        let members = &mut self.groups.get_mut(group)?.members;
        let outcome = act(K::of(members)?, &mut env);
        if let Some(Downgrade { mut classic, rebalance }) = Consumer::of(members).and_then(Consumer::take_downgrade) {
            classic.take_over(&mut env, rebalance);
            *members = Members::Classic(Box::new(classic));
        }
        Some(outcome)
    }
}

fn millis(ms: i32) -> Duration {
    crate::time::millis(ms)
}

fn not_of_kind(group: &str, kind: GroupKind) -> Reject {
    Reject::new(ErrorCode::GroupIdNotFound, format!("group {group} is no {} group", kind.name()))
}

fn not_found(group: &str) -> Reject {
    Reject::new(ErrorCode::GroupIdNotFound, format!("there is no group {group}"))
}
