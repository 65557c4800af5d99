//! A group of the classic protocol: members join, one of them assigns, all sync, then they beat until something changes.
//!
//! ```text
//!                 first member                 all joined, or time is up
//!        Empty ─────────────────▶ PreparingRebalance ─────────────────▶ CompletingRebalance
//!          ▲                        │    ▲      ▲                          │        │ the leader
//!          └── all gone ────────────┘    │      └──── somebody changes ────┘        ▼ synced
//!                                        └────────── somebody changes ─────────── Stable
//! ```
//!
//! The rules are those of `GroupMetadataManager` and `ClassicGroup` in Apache Kafka 4.3.

use super::asked::{Candidate, Claim, Leaver, Protocol, SyncBy};
use super::env::Env;
use super::member::Member;
use super::subscription::topics_of_subscription;
use super::timers::Event;
use super::view::{GroupView, State};
use super::{GroupAnswer, JoinRefusal, Joined, JoinedMember, Synced, java, millis};
use crate::error::ErrorCode;
use crate::parked::Ticket;
use crate::time::Time;
use bytes::Bytes;
use indexmap::IndexMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// The protocol type of consumers, whose subscriptions the coordinator can read.
const CONSUMER: &str = "consumer";

/// The time a group's first members still get to find each other.
#[derive(Debug, Clone, Copy)]
struct InitialDelay {
    delay: Duration,
    remaining: Duration,
}

/// What a coordinator that takes over reads from the log.
#[derive(Debug, Clone)]
struct Logged {
    generation: i32,
    protocol_type: Option<String>,
    protocol: Option<String>,
    leader: Option<Arc<str>>,
    since: Time,
    members: Vec<Member>,
}

/// One classic group.
#[derive(Debug)]
pub(super) struct Classic {
    id: Arc<str>,
    state: State,
    previous: State,
    /// Since when it has been in its state.
    since: Time,
    protocol_type: Option<String>,
    protocol: Option<String>,
    generation: i32,
    leader: Option<Arc<str>>,
    members: IndexMap<Arc<str>, Member>,
    /// Member ids by instance id.
    static_members: BTreeMap<Arc<str>, Arc<str>>,
    /// Ids that were given out and have not come back to join.
    pending_join: BTreeSet<Arc<str>>,
    /// Members of this generation that have not asked for their assignment.
    pending_sync: BTreeSet<Arc<str>>,
    /// The topics of all members, where they can be known.
    subscribed: Option<BTreeSet<String>>,
    initial_delay: Option<InitialDelay>,
    /// A member came during the initial delay, which therefore starts again.
    new_member_added: bool,
    logged: Option<Logged>,
}

impl Classic {
    pub(super) fn new(id: &Arc<str>, now: Time) -> Self {
        Self {
            id: Arc::clone(id),
            state: State::Empty,
            previous: State::Dead,
            since: now,
            protocol_type: None,
            protocol: None,
            generation: 0,
            leader: None,
            members: IndexMap::new(),
            static_members: BTreeMap::new(),
            pending_join: BTreeSet::new(),
            pending_sync: BTreeSet::new(),
            subscribed: None,
            initial_delay: None,
            new_member_added: false,
            logged: None,
        }
    }

    // ---- join ----

    pub(super) fn join(&mut self, env: &mut Env<'_>, rng: &mut impl rand::Rng, who: Candidate<'_>, ticket: Ticket) {
        if !self.has_room_for(who.member_id, env.settings.max_size) {
            self.remove(env, who.member_id);
            return refuse_join(env, ticket, ErrorCode::GroupMaxSizeReached, "");
        }
        if self.state == State::Dead {
            return refuse_join(env, ticket, ErrorCode::CoordinatorNotAvailable, who.member_id);
        }
        if !self.supports_any(who.protocol_type, &who.protocols) {
            return refuse_join(env, ticket, ErrorCode::InconsistentGroupProtocol, who.member_id);
        }
        if who.member_id.is_empty() {
            let id = Arc::from(new_member_id(rng, who.instance_id.unwrap_or(who.client_id)));
            self.join_without_id(env, who, id, ticket);
        } else {
            self.join_with_id(env, who, ticket);
        }
    }

    fn has_room_for(&self, member_id: &str, max_size: usize) -> bool {
        match self.state {
            State::Empty | State::Dead => true,
            // Counting those who wait, not those who belong, turns away the last to rejoin when the limit was lowered.
            State::PreparingRebalance => {
                self.members.get(member_id).is_some_and(|m| m.awaiting_join.is_some())
                    || self.awaiting_join() < max_size
            }
            State::CompletingRebalance | State::Stable => {
                self.members.contains_key(member_id) || self.members.len() < max_size
            }
        }
    }

    fn supports_any(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type) && protocols.iter().any(|p| self.all_support(&p.name))
    }

    fn all_support(&self, protocol: &str) -> bool {
        self.members.values().all(|member| member.supports(protocol))
    }

    fn join_without_id(&mut self, env: &mut Env<'_>, who: Candidate<'_>, id: Arc<str>, ticket: Ticket) {
        match who.instance_id.and_then(|instance| self.static_members.get(instance)) {
            Some(before) => {
                let before = Arc::clone(before);
                self.replace_static(env, who, &before, &id, ticket);
            }
            None if who.instance_id.is_none() && who.knows_member_id_required => {
                self.pending_join.insert(Arc::clone(&id));
                env.expect(&self.id, &id, millis(who.session_timeout_ms));
                refuse_join(env, ticket, ErrorCode::MemberIdRequired, &id);
            }
            None => self.add(env, who, &id, ticket),
        }
    }

    fn join_with_id(&mut self, env: &mut Env<'_>, who: Candidate<'_>, ticket: Ticket) {
        if self.pending_join.contains(who.member_id) {
            // A static member never gets an id in advance, so Kafka fails on its own assertion here.
            if who.instance_id.is_some() {
                return refuse_join(env, ticket, ErrorCode::UnknownServerError, "");
            }
            let id = Arc::from(who.member_id);
            return self.add(env, who, &id, ticket);
        }
        if let Err(code) = self.check_member(who.member_id, who.instance_id) {
            return refuse_join(env, ticket, code, who.member_id);
        }
        let is_leader = self.is_leader(who.member_id);
        let unchanged = self.members[who.member_id].protocols == who.protocols;
        match self.state {
            // It may not have received the answer to its first join.
            State::CompletingRebalance if unchanged => self.tell_generation(env, who.member_id, ticket, is_leader),
            State::Stable if unchanged && !is_leader => self.tell_generation(env, who.member_id, ticket, false),
            // A leader that joins again wants to assign anew, be it only because its topics have changed.
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                self.update(&who, who.member_id, ticket);
                self.rebalance_or_complete(env, "a member joined again");
            }
            State::Empty | State::Dead => refuse_join(env, ticket, ErrorCode::UnknownMemberId, who.member_id),
        }
    }

    fn add(&mut self, env: &mut Env<'_>, who: Candidate<'_>, id: &Arc<str>, ticket: Ticket) {
        if self.state == State::PreparingRebalance && self.previous == State::Empty {
            self.new_member_added = true;
        }
        if self.members.is_empty() {
            self.protocol_type = Some(who.protocol_type.to_owned());
        }
        let instance_id = who.instance_id.map(Arc::from);
        if let Some(instance) = &instance_id {
            self.static_members.insert(Arc::clone(instance), Arc::clone(id));
        }
        self.leader.get_or_insert_with(|| Arc::clone(id));
        self.pending_join.remove(id);
        let member = Member {
            id: Arc::clone(id),
            instance_id,
            client_id: who.client_id.to_owned(),
            client_host: who.client_host.to_owned(),
            session_timeout: millis(who.session_timeout_ms),
            rebalance_timeout: millis(who.rebalance_timeout_ms),
            protocols: who.protocols,
            assignment: Bytes::new(),
            awaiting_join: Some(ticket),
            awaiting_sync: None,
            is_new: true,
        };
        self.members.insert(Arc::clone(id), member);
        // Its session cannot expire while it does not know its id; a client that went away would stay for ever.
        env.expect(&self.id, id, env.settings.new_member_join_timeout);
        self.rebalance_or_complete(env, "a new member joined");
    }

    fn update(&mut self, who: &Candidate<'_>, id: &str, ticket: Ticket) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.protocols = who.protocols.clone();
        member.session_timeout = millis(who.session_timeout_ms);
        member.rebalance_timeout = millis(who.rebalance_timeout_ms);
        member.awaiting_join = Some(ticket);
    }

    /// A static member came back without its member id: it gets a new one and keeps its place (KIP-345).
    fn replace_static(
        &mut self,
        env: &mut Env<'_>,
        who: Candidate<'_>,
        before: &Arc<str>,
        id: &Arc<str>,
        ticket: Ticket,
    ) {
        let leader_before = self.leader.clone();
        self.fence(env, before, id);
        self.expect_next_beat(env, id);
        self.update(&who, id, ticket);
        match self.state {
            State::Stable if self.select_protocol() == self.protocol => {
                self.log(self.members.values().cloned().collect());
                let leads = self.is_leader(id);
                let mut joined = self.joined(id, leads && who.knows_skip_assignment);
                if who.knows_skip_assignment {
                    // KIP-814: it leads, and must not assign anew because it was only away for a moment.
                    joined.skip_assignment = leads;
                } else {
                    // An old client would take itself for the leader and assign; so it is told of the one it was.
                    joined.leader = leader_before.map(|l| l.to_string()).unwrap_or_default();
                }
                self.complete_join(env, id, Ok(joined));
            }
            State::Stable => self.rebalance_or_complete(env, "a static member changes the chosen protocol"),
            // The leader may be assigning to the old member id right now.
            State::CompletingRebalance => self.prepare_rebalance(env, "a static member was replaced"),
            _ => self.maybe_complete_join(env),
        }
    }

    fn fence(&mut self, env: &mut Env<'_>, before: &Arc<str>, id: &Arc<str>) {
        let refusal = JoinRefusal { code: ErrorCode::FencedInstanceId, member_id: before.to_string() };
        self.complete_join(env, before, Err(refusal));
        self.complete_sync(env, before, Err(ErrorCode::FencedInstanceId));
        env.cancel(&self.id, Event::Session(Arc::clone(before)));
        let Some((place, _, mut member)) = self.members.shift_remove_full(before) else { return };
        member.id = Arc::clone(id);
        member.is_new = false;
        if let Some(instance) = &member.instance_id {
            self.static_members.insert(Arc::clone(instance), Arc::clone(id));
        }
        self.members.shift_insert(place, Arc::clone(id), member);
        if self.is_leader(before) {
            self.leader = Some(Arc::clone(id));
        }
    }

    fn tell_generation(&self, env: &mut Env<'_>, id: &str, ticket: Ticket, with_members: bool) {
        let joined = self.joined(id, with_members);
        env.answers.push((ticket, GroupAnswer::Join(Ok(joined))));
    }

    fn joined(&self, id: &str, with_members: bool) -> Joined {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.values().filter(|_| with_members).map(|member| JoinedMember {
            member_id: member.id.to_string(),
            group_instance_id: member.instance_id.as_ref().map(ToString::to_string),
            metadata: member.metadata(protocol),
        });
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.as_ref().map(ToString::to_string).unwrap_or_default(),
            skip_assignment: false,
            member_id: id.to_owned(),
            members: members.collect(),
        }
    }

    // ---- the join phase ----

    fn rebalance_or_complete(&mut self, env: &mut Env<'_>, reason: &'static str) {
        if self.state.can_rebalance() {
            self.prepare_rebalance(env, reason);
        } else {
            self.maybe_complete_join(env);
        }
    }

    fn prepare_rebalance(&mut self, env: &mut Env<'_>, reason: &'static str) {
        tracing::debug!(group = %self.id, generation = self.generation, reason, "preparing to rebalance");
        if self.state == State::CompletingRebalance {
            self.members.values_mut().for_each(|member| member.assignment = Bytes::new());
            self.propagate_assignments(env, Some(ErrorCode::RebalanceInProgress));
        }
        self.pending_sync.clear();
        env.cancel(&self.id, Event::Sync);

        let is_first = self.state == State::Empty;
        self.enter(env, State::PreparingRebalance);
        if is_first {
            let delay = env.settings.initial_rebalance_delay;
            let remaining = self.rebalance_timeout().saturating_sub(delay);
            self.wait_for_first_members(env, InitialDelay { delay, remaining });
        } else if self.all_joined() {
            self.complete_join_phase(env);
        } else {
            env.schedule(&self.id, Event::Join, self.rebalance_timeout());
        }
    }

    fn wait_for_first_members(&mut self, env: &mut Env<'_>, wait: InitialDelay) {
        if wait.delay.is_zero() {
            self.complete_join_phase(env);
        } else {
            self.initial_delay = Some(wait);
            env.schedule(&self.id, Event::Join, wait.delay);
        }
    }

    fn maybe_complete_join(&mut self, env: &mut Env<'_>) {
        let waits_for_first_members = self.previous == State::Empty;
        if self.state == State::PreparingRebalance && !waits_for_first_members && self.all_joined() {
            self.complete_join_phase(env);
        }
    }

    /// The time of the join phase is up.
    pub(super) fn join_is_due(&mut self, env: &mut Env<'_>) {
        match self.initial_delay.take() {
            Some(InitialDelay { delay, remaining }) if self.new_member_added && !remaining.is_zero() => {
                self.new_member_added = false;
                let next = InitialDelay {
                    delay: env.settings.initial_rebalance_delay.min(remaining),
                    remaining: remaining.saturating_sub(delay),
                };
                self.wait_for_first_members(env, next);
            }
            _ => self.complete_join_phase(env),
        }
    }

    /// Goes on with those who have come. A static member keeps its place even if it has not.
    fn complete_join_phase(&mut self, env: &mut Env<'_>) {
        env.cancel(&self.id, Event::Join);
        self.initial_delay = None;
        let late = self.members.values().filter(|m| m.awaiting_join.is_none() && !m.is_static());
        for id in late.map(|m| Arc::clone(&m.id)).collect::<Vec<_>>() {
            tracing::debug!(group = %self.id, member = %id, "removed, it has not joined again in time");
            self.remove(env, &id);
        }
        if !self.elect_from_joined() && !self.members.is_empty() {
            // Only static members are left and none has come: their sessions decide.
            // A millisecond at least: a client may have asked for no time at all, and would have us spin.
            return env.schedule(&self.id, Event::Join, self.rebalance_timeout().max(Duration::from_millis(1)));
        }
        self.begin_generation(env);
        for id in self.members.keys().cloned().collect::<Vec<_>>() {
            let joined = self.joined(&id, self.is_leader(&id));
            self.complete_join(env, &id, Ok(joined));
            self.expect_next_beat(env, &id);
            self.members[&id].is_new = false;
            self.pending_sync.insert(id);
        }
        if !self.members.is_empty() {
            env.schedule(&self.id, Event::Sync, self.rebalance_timeout());
        }
    }

    /// Makes sure that the leader is one who has joined this time; false if nobody has.
    fn elect_from_joined(&mut self) -> bool {
        let Some(leader) = &self.leader else { return false };
        if self.members.get(leader).is_some_and(|m| m.awaiting_join.is_some()) {
            return true;
        }
        match self.members.values().find(|m| m.awaiting_join.is_some()) {
            Some(member) => self.leader = Some(Arc::clone(&member.id)),
            None => return false,
        }
        true
    }

    fn begin_generation(&mut self, env: &mut Env<'_>) {
        self.generation += 1;
        self.protocol = self.select_protocol();
        self.subscribed = self.read_subscriptions();
        self.pending_sync.clear();
        let next = if self.members.is_empty() { State::Empty } else { State::CompletingRebalance };
        self.enter(env, next);
        tracing::debug!(group = %self.id, generation = self.generation, members = self.members.len(), "new generation");
        if next == State::Empty {
            self.log(Vec::new());
        }
    }

    /// Each member votes for the first of its protocols that all support; most votes win.
    fn select_protocol(&self) -> Option<String> {
        let mut votes: Vec<(&str, usize)> = Vec::new();
        for vote in self.members.values().filter_map(|member| member.vote(|name| self.all_support(name))) {
            match votes.iter_mut().find(|(name, _)| *name == vote) {
                Some((_, count)) => *count += 1,
                None => votes.push((vote, 1)),
            }
        }
        // Between equals Kafka takes the one that comes first in a Java HashMap.
        let entries = votes.len();
        votes.sort_by_key(|(name, _)| java::slot_of_text(name, entries));
        let most = votes.iter().map(|(_, count)| *count).max()?;
        votes.iter().find(|(_, count)| *count == most).map(|(name, _)| (*name).to_owned())
    }

    // ---- sync ----

    pub(super) fn sync(&mut self, env: &mut Env<'_>, by: &SyncBy<'_>, ticket: Ticket) {
        if let Err(code) = self.check_sync(by) {
            return env.answers.push((ticket, GroupAnswer::Sync(Err(code))));
        }
        let id = by.claim.member_id;
        self.pending_sync.remove(id);
        if self.pending_sync.is_empty() {
            env.cancel(&self.id, Event::Sync);
        }
        if self.state == State::Stable {
            let synced = self.synced(&self.members[id]);
            return env.answers.push((ticket, GroupAnswer::Sync(Ok(synced))));
        }
        self.members[id].awaiting_sync = Some(ticket);
        if self.is_leader(id) {
            self.assign(env, &by.assignments);
        }
    }

    fn check_sync(&self, by: &SyncBy<'_>) -> Result<(), ErrorCode> {
        match self.state {
            State::Dead => return Err(ErrorCode::CoordinatorNotAvailable),
            State::Empty => return Err(ErrorCode::UnknownMemberId),
            _ => {}
        }
        self.check_claim(&by.claim)?;
        let differs = |theirs: Option<&str>, ours: &Option<String>| {
            theirs.zip(ours.as_deref()).is_some_and(|(theirs, ours)| theirs != ours)
        };
        if differs(by.protocol_type, &self.protocol_type) || differs(by.protocol, &self.protocol) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        if self.state == State::PreparingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// The leader has spoken. Members it does not mention get an empty assignment.
    fn assign(&mut self, env: &mut Env<'_>, assignments: &[(String, Bytes)]) {
        for member in self.members.values_mut() {
            // Of two assignments for one member Kafka keeps the later.
            let given = assignments.iter().rev().find(|(id, _)| **id == *member.id);
            member.assignment = given.map(|(_, bytes)| bytes.clone()).unwrap_or_default();
        }
        self.log(self.members.values().cloned().collect());
        self.propagate_assignments(env, None);
        self.enter(env, State::Stable);
    }

    fn propagate_assignments(&mut self, env: &mut Env<'_>, error: Option<ErrorCode>) {
        let waiting = self.members.values().filter(|m| m.awaiting_sync.is_some()).map(|m| Arc::clone(&m.id));
        for id in waiting.collect::<Vec<_>>() {
            let result = error.map_or_else(|| Ok(self.synced(&self.members[&id])), Err);
            self.complete_sync(env, &id, result);
            // Its deadline may have passed unheeded while it waited.
            self.expect_next_beat(env, &id);
        }
    }

    fn synced(&self, member: &Member) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: member.assignment.clone(),
        }
    }

    /// Whoever has not asked for its assignment by now is dropped.
    pub(super) fn sync_is_due(&mut self, env: &mut Env<'_>) {
        let asked_for = matches!(self.state, State::CompletingRebalance | State::Stable);
        if !asked_for || self.pending_sync.is_empty() {
            return;
        }
        for id in std::mem::take(&mut self.pending_sync) {
            tracing::debug!(group = %self.id, member = %id, "removed, it has not synced in time");
            self.remove(env, &id);
        }
        self.prepare_rebalance(env, "members have not synced in time");
    }

    // ---- staying and leaving ----

    pub(super) fn heartbeat(&mut self, env: &mut Env<'_>, claim: &Claim<'_>) -> Result<(), ErrorCode> {
        if self.state == State::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        self.check_claim(claim)?;
        self.expect_next_beat(env, claim.member_id);
        match self.state {
            State::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// Removes members, each for itself; a rebalance follows once if any was removed.
    pub(super) fn leave(
        &mut self,
        env: &mut Env<'_>,
        leavers: &[Leaver<'_>],
    ) -> Result<Vec<Result<(), ErrorCode>>, ErrorCode> {
        if self.state == State::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        let results: Vec<_> = leavers.iter().map(|leaver| self.remove_leaver(env, leaver)).collect();
        if results.iter().any(Result::is_ok) {
            match self.state {
                State::Stable | State::CompletingRebalance => self.rebalance_or_complete(env, "members left"),
                _ => self.maybe_complete_join(env),
            }
        }
        Ok(results)
    }

    fn remove_leaver(&mut self, env: &mut Env<'_>, leaver: &Leaver<'_>) -> Result<(), ErrorCode> {
        let id: Arc<str> = if leaver.member_id.is_empty() {
            // An administrator removes a static member without knowing its member id.
            let instance = leaver.instance_id.ok_or(ErrorCode::UnknownMemberId)?;
            Arc::clone(self.static_members.get(instance).ok_or(ErrorCode::UnknownMemberId)?)
        } else {
            if !self.pending_join.contains(leaver.member_id) {
                self.check_member(leaver.member_id, leaver.instance_id)?;
            }
            Arc::from(leaver.member_id)
        };
        self.dismiss(env, &id);
        Ok(())
    }

    /// A member, or one only given its id, was silent for too long.
    pub(super) fn session_is_due(&mut self, env: &mut Env<'_>, id: &str) {
        if self.pending_join.remove(id) {
            tracing::debug!(group = %self.id, member = id, "forgotten, it has not joined with its new id");
        } else if self.members.get(id).is_some_and(|member| !member.need_not_beat()) {
            tracing::debug!(group = %self.id, member = id, "removed, its session has expired");
            self.dismiss(env, id);
            if matches!(self.state, State::Stable | State::CompletingRebalance) {
                return self.rebalance_or_complete(env, "a session expired");
            }
        } else {
            return;
        }
        if self.state == State::PreparingRebalance && self.all_joined() {
            self.complete_join_phase(env);
        }
    }

    /// The members are to join again, though nothing is wrong.
    pub(super) fn rebalance_on_demand(&mut self, env: &mut Env<'_>) {
        if matches!(self.state, State::Stable | State::CompletingRebalance) {
            self.rebalance_or_complete(env, "it was asked for");
        }
    }

    /// Removes a member. If its join waits here, it learns of it; a sync that waits is never answered, as in Kafka.
    fn dismiss(&mut self, env: &mut Env<'_>, id: &str) {
        let refusal = JoinRefusal { code: ErrorCode::UnknownMemberId, member_id: String::new() };
        self.complete_join(env, id, Err(refusal));
        self.remove(env, id);
    }

    fn remove(&mut self, env: &mut Env<'_>, id: &str) {
        env.cancel(&self.id, Event::Session(Arc::from(id)));
        if let Some(instance) = self.members.shift_remove(id).and_then(|member| member.instance_id) {
            self.static_members.remove(&instance);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.pending_join.remove(id);
        self.pending_sync.remove(id);
    }

    // ---- offsets ----

    /// Whether these offsets may be committed; doing so proves that the member is alive.
    pub(super) fn admit_commit(&mut self, env: &mut Env<'_>, claim: &Claim<'_>) -> Result<(), ErrorCode> {
        self.check_commit(claim)?;
        if matches!(self.state, State::Stable | State::PreparingRebalance) {
            self.expect_next_beat(env, claim.member_id);
        }
        Ok(())
    }

    /// Whether offsets may be sent within a transaction. Its older clients name no member, and the group may be in the
    /// middle of a rebalance (KIP-447).
    pub(super) fn check_transactional_commit(&self, claim: &Claim<'_>) -> Result<(), ErrorCode> {
        if self.state == State::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        if claim.generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        let names_somebody = claim.generation >= 0 || !claim.member_id.is_empty() || claim.instance_id.is_some();
        if names_somebody { self.check_claim(claim) } else { Ok(()) }
    }

    fn check_commit(&self, claim: &Claim<'_>) -> Result<(), ErrorCode> {
        if self.state == State::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        // An administrator, or a consumer that assigns itself.
        if claim.generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        if claim.generation >= 0 || !claim.member_id.is_empty() || claim.instance_id.is_some() {
            self.check_claim(claim)?;
        } else if self.state != State::Empty {
            return Err(ErrorCode::UnknownMemberId);
        }
        if self.state == State::CompletingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    pub(super) fn check_offset_delete(&self) -> Result<(), ErrorCode> {
        match self.state {
            State::Dead => Err(ErrorCode::GroupIdNotFound),
            State::Empty => Ok(()),
            _ if self.is_of_consumers() => Ok(()),
            _ => Err(ErrorCode::NonEmptyGroup),
        }
    }

    pub(super) fn check_delete(&self) -> Result<(), ErrorCode> {
        match self.state {
            State::Dead => Err(ErrorCode::GroupIdNotFound),
            State::Empty => Ok(()),
            _ => Err(ErrorCode::NonEmptyGroup),
        }
    }

    /// Consumers whose subscription cannot be read count as subscribed to everything.
    pub(super) fn is_subscribed_to(&self, topic: &str) -> bool {
        self.subscribed.as_ref().map_or_else(|| self.is_of_consumers(), |topics| topics.contains(topic))
    }

    /// From when an offset's retention counts; `None` while offsets do not expire.
    pub(super) fn retention_starts(&self) -> Option<RetentionStart> {
        match (&self.protocol_type, self.state) {
            // A consumer that assigns itself has only its commits to show that it is alive.
            (None, _) => Some(RetentionStart::Commit),
            (Some(_), State::Empty) => Some(RetentionStart::At(self.since)),
            (Some(_), State::Stable) if self.is_of_consumers() && self.subscribed.is_some() => {
                Some(RetentionStart::Commit)
            }
            _ => None,
        }
    }

    pub(super) fn is_of_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    fn read_subscriptions(&self) -> Option<BTreeSet<String>> {
        if !self.is_of_consumers() {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol.as_deref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(topics_of_subscription(member.metadata(protocol)).ok()?);
        }
        Some(topics)
    }

    // ---- a coordinator that stops, and one that takes over ----

    /// The coordinator is gone: whoever waits here learns that it must look for another.
    pub(super) fn unload(&mut self, env: &mut Env<'_>) {
        for id in self.members.keys().cloned().collect::<Vec<_>>() {
            let refusal = JoinRefusal { code: ErrorCode::NotCoordinator, member_id: id.to_string() };
            self.complete_join(env, &id, Err(refusal));
            self.complete_sync(env, &id, Err(ErrorCode::NotCoordinator));
        }
        env.timers.cancel_all_of(&self.id);
        self.enter(env, State::Dead);
    }

    /// A coordinator has read the group from the log: what was agreed is still true, what was being agreed is forgotten.
    pub(super) fn load(&mut self, env: &mut Env<'_>) {
        let mut fresh = Self::new(&self.id, env.now);
        if let Some(logged) = self.logged.take() {
            fresh.restore(logged);
        }
        *self = fresh;
        for id in self.members.keys().cloned().collect::<Vec<_>>() {
            self.expect_next_beat(env, &id);
        }
        if self.members.len() > env.settings.max_size {
            self.prepare_rebalance(env, "the group is larger than it may be");
        }
    }

    fn restore(&mut self, logged: Logged) {
        self.state = if logged.members.is_empty() { State::Empty } else { State::Stable };
        self.since = logged.since;
        self.generation = logged.generation;
        self.protocol_type.clone_from(&logged.protocol_type);
        self.protocol.clone_from(&logged.protocol);
        self.leader.clone_from(&logged.leader);
        for member in &logged.members {
            if let Some(instance) = &member.instance_id {
                self.static_members.insert(Arc::clone(instance), Arc::clone(&member.id));
            }
            self.members.insert(Arc::clone(&member.id), member.clone());
        }
        self.subscribed = self.read_subscriptions();
        self.logged = Some(logged);
    }

    /// Remembers what Kafka writes to `__consumer_offsets` here: of a member's protocols only the chosen one.
    fn log(&mut self, mut members: Vec<Member>) {
        for member in &mut members {
            member.protocols.retain(|p| Some(&p.name) == self.protocol.as_ref());
            member.awaiting_join = None;
            member.awaiting_sync = None;
            member.is_new = false;
        }
        self.logged = Some(Logged {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            since: self.since,
            members,
        });
    }

    /// A group is in the log, empty, as soon as somebody has tried to join it.
    pub(super) fn log_creation(&mut self) {
        self.log(Vec::new());
    }

    // ---- becoming a consumer group, and having been one ----

    /// The members of a group of consumers, with the generation and the protocol they agreed on, to be members of a
    /// consumer group from now on. Whoever waits here is told that there is a rebalance.
    pub(super) fn upgrade(&mut self, env: &mut Env<'_>) -> (i32, String, Vec<Member>) {
        for id in self.members.keys().cloned().collect::<Vec<_>>() {
            let refusal = JoinRefusal { code: ErrorCode::RebalanceInProgress, member_id: id.to_string() };
            self.complete_join(env, &id, Err(refusal));
            self.complete_sync(env, &id, Err(ErrorCode::RebalanceInProgress));
        }
        (self.generation, self.protocol.clone().unwrap_or_default(), self.members.values().cloned().collect())
    }

    /// The members of what was a consumer group, with what they are to have (`ClassicGroup.fromConsumerGroup`).
    pub(super) fn downgraded(id: &Arc<str>, now: Time, generation: i32, members: Vec<Member>) -> Self {
        let mut group = Self::new(id, now);
        group.state = State::Stable;
        group.generation = generation;
        group.protocol_type = Some(CONSUMER.to_owned());
        group.leader = members.first().map(|member| Arc::clone(&member.id));
        for member in members {
            if let Some(instance) = &member.instance_id {
                group.static_members.insert(Arc::clone(instance), Arc::clone(&member.id));
            }
            group.members.insert(Arc::clone(&member.id), member);
        }
        group.protocol = group.select_protocol();
        group.subscribed = group.read_subscriptions();
        group.log(group.members.values().cloned().collect());
        group
    }

    /// Begins to expect the members of what was a consumer group; they join again if what they have is out of date.
    pub(super) fn take_over(&mut self, env: &mut Env<'_>, rebalance: bool) {
        for id in self.members.keys().cloned().collect::<Vec<_>>() {
            self.expect_next_beat(env, &id);
        }
        if rebalance {
            self.prepare_rebalance(env, "it was a consumer group");
        }
    }

    pub(super) fn chosen_protocol(&self) -> String {
        self.protocol.clone().unwrap_or_default()
    }

    pub(super) fn size(&self) -> usize {
        self.members.len()
    }

    // ---- what others see ----

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Nothing but offsets would bring it back after its coordinator is gone.
    pub(super) fn is_logged(&self) -> bool {
        self.logged.is_some()
    }

    pub(super) fn protocol_type(&self) -> Option<&str> {
        self.protocol_type.as_deref()
    }

    pub(super) fn view(&self) -> GroupView {
        let chosen = self.protocol.as_deref().filter(|_| self.state == State::Stable);
        GroupView {
            group_id: self.id.to_string(),
            state: self.state,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            generation: self.generation,
            leader: self.leader.as_ref().map(ToString::to_string),
            members: self.members.values().map(|member| member.view(chosen)).collect(),
            pending_members: self.pending_join.iter().map(ToString::to_string).collect(),
        }
    }

    // ---- small facts and steps ----

    fn check_claim(&self, claim: &Claim<'_>) -> Result<(), ErrorCode> {
        self.check_member(claim.member_id, claim.instance_id)?;
        if claim.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        Ok(())
    }

    fn check_member(&self, id: &str, instance_id: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance_id {
            let current = self.static_members.get(instance).ok_or(ErrorCode::UnknownMemberId)?;
            if **current != *id {
                return Err(ErrorCode::FencedInstanceId);
            }
        }
        if self.members.contains_key(id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    fn is_leader(&self, id: &str) -> bool {
        self.leader.as_deref() == Some(id)
    }

    fn awaiting_join(&self) -> usize {
        self.members.values().filter(|member| member.awaiting_join.is_some()).count()
    }

    fn all_joined(&self) -> bool {
        self.pending_join.is_empty() && self.awaiting_join() == self.members.len()
    }

    /// The most patient member's.
    fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default()
    }

    fn enter(&mut self, env: &Env<'_>, state: State) {
        self.previous = std::mem::replace(&mut self.state, state);
        self.since = env.now;
    }

    fn complete_join(&mut self, env: &mut Env<'_>, id: &str, result: Result<Joined, JoinRefusal>) {
        if let Some(ticket) = self.members.get_mut(id).and_then(|member| member.awaiting_join.take()) {
            env.answers.push((ticket, GroupAnswer::Join(result)));
        }
    }

    fn complete_sync(&mut self, env: &mut Env<'_>, id: &str, result: Result<Synced, ErrorCode>) {
        if let Some(ticket) = self.members.get_mut(id).and_then(|member| member.awaiting_sync.take()) {
            env.answers.push((ticket, GroupAnswer::Sync(result)));
        }
    }

    fn expect_next_beat(&self, env: &mut Env<'_>, id: &str) {
        if let Some(member) = self.members.get(id) {
            env.expect(&self.id, &member.id, member.session_timeout);
        }
    }
}

/// From when an offset's retention counts.
#[derive(Debug, Clone, Copy)]
pub(super) enum RetentionStart {
    Commit,
    At(Time),
}

fn refuse_join(env: &mut Env<'_>, ticket: Ticket, code: ErrorCode, member_id: &str) {
    let refusal = JoinRefusal { code, member_id: member_id.to_owned() };
    env.answers.push((ticket, GroupAnswer::Join(Err(refusal))));
}

/// The client's or the instance's name and a random UUID of version 4.
fn new_member_id(rng: &mut impl rand::Rng, prefix: &str) -> String {
    let random: u128 = rng.random();
    let uuid = random & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{uuid:032x}");
    format!("{prefix}-{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
