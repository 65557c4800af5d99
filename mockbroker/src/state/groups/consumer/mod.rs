//! A group of the consumer protocol (KIP-848): the coordinator assigns, and members learn by heartbeats what to give up
//! and what they get.
//!
//! Three numbers follow each other. The *group epoch* rises whenever members, subscriptions or topics change; the
//! *assignment epoch* is the group epoch for which the target assignment was computed; each *member's epoch* is the
//! assignment epoch the member has reached. The rules are those of `GroupMetadataManager`, `ConsumerGroup` and
//! `CurrentAssignmentBuilder` in Apache Kafka 4.3.

mod classic_members;
mod member;
mod regex;

pub(super) use classic_members::Downgrade;

use super::assignors::{Assignor, Candidate, Partitions, Question};
use super::catalog::{Catalog, TopicFacts};
use super::env::Env;
use super::java;
use super::timers::Event;
use super::view::{ConsumerGroupView, ConsumerMemberView};
use super::{Claim, millis};
use crate::error::{ErrorCode, Reject};
use crate::time::Time;
use crate::wire::Uuid;
use member::{Goal, Held, LEFT_FOR_A_WHILE, Member, Progress};
use regex::Resolved;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// After so long a time even an unchanged group looks at its topics again (`METADATA_REFRESH_INTERVAL_MS`).
const REFRESH_INTERVAL: Duration = Duration::from_millis(i32::MAX as u64);
/// Expressions are not resolved more often than this (`REGEX_BATCH_REFRESH_MIN_INTERVAL_MS`).
const REGEX_INTERVAL_MIN: Duration = Duration::from_secs(10);

/// A member's heartbeat: that it is there, and what has changed since its last.
#[derive(Debug, Clone, Default)]
pub struct Beat<'a> {
    /// The group.
    pub group: &'a str,
    /// The member's id, which it chose itself.
    pub member_id: &'a str,
    /// The epoch it is in: 0 to join, -1 to leave, -2 for a static member that leaves for a while.
    pub epoch: i32,
    /// The id its user gave it, for a static member.
    pub instance_id: Option<&'a str>,
    /// Its rack.
    pub rack: Option<&'a str>,
    /// How long it may take to give partitions up; -1 if that has not changed.
    pub rebalance_timeout_ms: i32,
    /// The topics it subscribes to by name.
    pub topics: Option<BTreeSet<String>>,
    /// The expression it subscribes with; empty for none.
    pub regex: Option<&'a str>,
    /// The assignor it asks for.
    pub assignor: Option<&'a str>,
    /// What it holds.
    pub owned: Option<Vec<(Uuid, Vec<i32>)>>,
    /// Its client id.
    pub client_id: &'a str,
    /// Its address as Kafka writes it: `/127.0.0.1`.
    pub client_host: &'a str,
}

impl Beat<'_> {
    pub(super) fn joins(&self) -> bool {
        self.epoch == 0
    }

    /// It tells everything, so everything is told to it.
    fn is_full(&self) -> bool {
        self.rebalance_timeout_ms != -1 && (self.topics.is_some() || self.regex.is_some()) && self.owned.is_some()
    }
}

/// How a consumer group is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// For how long a member may be silent.
    pub session_timeout: Duration,
    /// How often members are to beat, in milliseconds.
    pub heartbeat_interval_ms: i32,
    /// The least time between two target assignments.
    pub assignment_interval: Duration,
}

/// What a member learns from its heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beaten {
    /// The epoch it is in now.
    pub epoch: i32,
    /// How often it is to beat, in milliseconds.
    pub heartbeat_interval_ms: i32,
    /// What it is to have, if that is news to it.
    pub assignment: Option<BTreeMap<Uuid, Vec<i32>>>,
}

/// Where a consumer group is in its life (`ConsumerGroupState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub enum ConsumerState {
    /// Nobody is in it.
    Empty,
    /// The target assignment is older than the group's epoch.
    Assigning,
    /// Not every member has what it is to have.
    Reconciling,
    /// Every member has what it is to have.
    Stable,
}

impl ConsumerState {
    /// The name in Kafka's spelling.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
        }
    }
}

/// One consumer group.
#[derive(Debug)]
pub(super) struct Consumer {
    id: Arc<str>,
    epoch: i32,
    members: BTreeMap<Arc<str>, Member>,
    /// Member ids by instance id.
    static_members: BTreeMap<Arc<str>, Arc<str>>,
    target: BTreeMap<Arc<str>, Partitions>,
    assignment_epoch: i32,
    assigned_at: Option<Time>,
    /// The topics subscribed to, as they were when the group's epoch last followed them.
    known: BTreeMap<String, Arc<TopicFacts>>,
    /// Until when `known` need not be looked at; `None` if a topic has changed since.
    fresh_until: Option<Time>,
    resolved: BTreeMap<String, Resolved>,
    /// For how long members may be silent, as the group was last told.
    session_timeout: Duration,
    /// The least time between two target assignments, as the group was last told.
    assignment_interval: Duration,
    /// It is to go on as a classic group.
    downgrade: Option<Downgrade>,
}

/// Where a beating member belongs.
enum Place {
    /// It is new.
    New,
    /// It is known.
    Known(Arc<str>),
    /// It takes over from this static member.
    Replaces(Arc<str>),
}

/// What became of a member's subscription by expression.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RegexChange {
    None,
    /// It is another, whose topics are not known yet.
    Updated,
    /// It is another, whose topics are known.
    UpdatedAndResolved,
}

impl Consumer {
    pub(super) fn new(id: &Arc<str>) -> Self {
        Self {
            id: Arc::clone(id),
            epoch: 1,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            target: BTreeMap::new(),
            assignment_epoch: 0,
            assigned_at: None,
            known: BTreeMap::new(),
            fresh_until: None,
            resolved: BTreeMap::new(),
            session_timeout: Duration::from_secs(45),
            assignment_interval: Duration::from_secs(1),
            downgrade: None,
        }
    }

    // ---- heartbeats ----

    /// A member is there, or joins.
    pub(super) fn beat(&mut self, env: &mut Env<'_>, beat: &Beat<'_>, pace: &Pace) -> Result<Beaten, Reject> {
        self.check_room(env, beat.member_id)?;
        let place = self.place(beat)?;
        let before = self.before(&place, beat.member_id);
        let updated = update(before.clone(), beat);
        self.check_regex(&before, &updated)?;
        // Nothing is refused from here on.
        self.session_timeout = pace.session_timeout;
        let id = Arc::clone(&updated.id);
        if let Place::Replaces(old) = place {
            self.replace(env, &old, &id);
        }
        let topics_changed = before.topics != updated.topics;
        let (regex_change, must_resolve) = self.regex_change(env, &before, &updated);
        self.enrol(&before, updated);
        self.follow_topics_if(env, topics_changed || regex_change == RegexChange::UpdatedAndResolved);
        self.assignment_interval = pace.assignment_interval;
        self.assign_if_due(env);
        self.reconcile(env, &id, topics_changed || regex_change != RegexChange::None, beat.owned.as_deref());
        env.expect(&self.id, &id, pace.session_timeout);
        let after = &self.members[&id];
        let tell = beat.joins() || beat.is_full() || before.assigned != after.assigned;
        let beaten = Beaten {
            epoch: after.epoch,
            heartbeat_interval_ms: pace.heartbeat_interval_ms,
            assignment: tell.then(|| listed(&after.assigned)),
        };
        // Kafka resolves beside the request; what comes of it shows in the next heartbeat.
        if must_resolve {
            self.resolve(env);
        }
        Ok(beaten)
    }

    /// A member leaves, for ever or for a while.
    pub(super) fn leave(&mut self, env: &mut Env<'_>, beat: &Beat<'_>) -> Result<(), Reject> {
        let id = match beat.instance_id {
            None => self.known_member(beat.member_id)?,
            Some(instance) => self.static_member(instance, beat.member_id)?,
        };
        if beat.instance_id.is_some() && beat.epoch == LEFT_FOR_A_WHILE {
            tracing::debug!(group = %self.id, member = %id, "a static member has left for a while");
            if let Some(member) = self.members.get_mut(&id) {
                member.leave_for_a_while();
            }
        } else {
            self.dismiss(env, &BTreeSet::from([id]), "it has left");
        }
        Ok(())
    }

    fn check_room(&self, env: &Env<'_>, member_id: &str) -> Result<(), Reject> {
        let max = env.settings.consumer_max_size;
        if self.members.len() < max || self.members.contains_key(member_id) {
            return Ok(());
        }
        let message = format!("group.consumer.max.size allows {max} members, and that many are in the group");
        Err(Reject::new(ErrorCode::GroupMaxSizeReached, message))
    }

    fn place(&self, beat: &Beat<'_>) -> Result<Place, Reject> {
        let Some(instance) = beat.instance_id else {
            return match self.members.get(beat.member_id) {
                None if beat.joins() => Ok(Place::New),
                None => Err(self.unknown_member(beat.member_id)),
                Some(member) => check_epoch(member, beat).map(|()| Place::Known(Arc::clone(&member.id))),
            };
        };
        match self.static_members.get(instance).and_then(|id| self.members.get(id)) {
            None if beat.joins() => Ok(match self.members.get(beat.member_id) {
                Some(member) => Place::Known(Arc::clone(&member.id)),
                None => Place::New,
            }),
            Some(member) if beat.joins() => {
                check_released(member, beat.member_id, instance)?;
                Ok(Place::Replaces(Arc::clone(&member.id)))
            }
            _ => {
                let id = self.static_member(instance, beat.member_id)?;
                check_epoch(&self.members[&id], beat).map(|()| Place::Known(id))
            }
        }
    }

    /// The member as it was, under the id it has now.
    fn before(&self, place: &Place, member_id: &str) -> Member {
        match place {
            Place::New => Member::new(member_id),
            Place::Known(id) => self.members[id].clone(),
            Place::Replaces(old) => {
                Member { id: Arc::from(member_id), epoch: 0, previous_epoch: 0, ..self.members[old].clone() }
            }
        }
    }

    fn replace(&mut self, env: &mut Env<'_>, old: &Arc<str>, new: &Arc<str>) {
        tracing::debug!(group = %self.id, %old, %new, "a static member is back under another id");
        self.cancel_timers(env, old);
        self.members.remove(old);
        let target = self.target.remove(old).unwrap_or_default();
        self.target.insert(Arc::clone(new), target);
    }

    fn enrol(&mut self, before: &Member, updated: Member) {
        if before.regex != updated.regex && self.readers_of(&before.regex) <= 1 {
            self.resolved.remove(&before.regex);
        }
        if let Some(instance) = &updated.instance_id {
            self.static_members.insert(Arc::clone(instance), Arc::clone(&updated.id));
        }
        self.members.insert(Arc::clone(&updated.id), updated);
    }

    // ---- subscriptions ----

    fn check_regex(&self, before: &Member, updated: &Member) -> Result<(), Reject> {
        let is_new = before.regex != updated.regex && !updated.regex.is_empty() && self.readers_of(&updated.regex) == 0;
        if is_new { regex::check(&updated.regex) } else { Ok(()) }
    }

    /// What changes for a member that is not yet enrolled, and whether expressions must be resolved
    /// (`GroupMetadataManager.maybeUpdateRegularExpressions`).
    fn regex_change(&self, env: &Env<'_>, before: &Member, updated: &Member) -> (RegexChange, bool) {
        let mut must_resolve = false;
        let change = if before.regex == updated.regex {
            RegexChange::None
        } else if updated.regex.is_empty() || self.resolved.contains_key(&updated.regex) {
            RegexChange::UpdatedAndResolved
        } else {
            must_resolve = self.readers_of(&updated.regex) == 0;
            RegexChange::Updated
        };
        let subscribed = self.expressions();
        if !must_resolve && subscribed.is_empty() {
            return (change, false);
        }
        let last = self.resolved.values().next();
        if last.is_some_and(|last| env.now <= last.at + REGEX_INTERVAL_MIN) {
            return (change, false);
        }
        let mut expressions = subscribed;
        if self.readers_of(&before.regex) <= 1 {
            expressions.remove(before.regex.as_str());
        }
        if !updated.regex.is_empty() {
            expressions.insert(&updated.regex);
        }
        must_resolve |= expressions.len() != self.resolved.len();
        must_resolve |= last.map_or(0, |last| last.version) < env.catalog.created();
        must_resolve |= last.is_none_or(|last| env.now > last.at + env.settings.regex_refresh_interval);
        (change, must_resolve && !expressions.is_empty())
    }

    fn expressions(&self) -> BTreeSet<&str> {
        self.members.values().map(|member| member.regex.as_str()).filter(|regex| !regex.is_empty()).collect()
    }

    /// How many members subscribe with this expression.
    fn readers_of(&self, regex: &str) -> usize {
        self.members.values().filter(|member| member.regex == regex).count()
    }

    fn resolve(&mut self, env: &mut Env<'_>) {
        let mut bump = false;
        let expressions: Vec<String> = self.expressions().into_iter().map(str::to_owned).collect();
        for expression in expressions {
            let resolved = Resolved::now(&expression, env.catalog, env.now);
            let before = self.resolved.get(&expression).map(|before| &before.topics);
            bump |= before.unwrap_or(&BTreeSet::new()) != &resolved.topics;
            self.resolved.insert(expression, resolved);
        }
        let known = self.known_topics(env.catalog);
        if bump || known != self.known {
            self.known = known;
            self.epoch += 1;
            self.fresh_until = Some(env.now + REFRESH_INTERVAL);
        }
    }

    /// The names a member subscribes to, by itself and through its expression.
    fn subscription<'a>(&'a self, member: &'a Member) -> impl Iterator<Item = &'a str> {
        let resolved = self.resolved.get(&member.regex).into_iter().flat_map(|resolved| &resolved.topics);
        member.topics.iter().chain(resolved).map(String::as_str)
    }

    fn topic_ids(&self, catalog: &Catalog, member: &Member) -> BTreeSet<Uuid> {
        self.subscription(member).filter_map(|name| catalog.get(name)).map(|facts| facts.id).collect()
    }

    fn known_topics(&self, catalog: &Catalog) -> BTreeMap<String, Arc<TopicFacts>> {
        let names = self.members.values().flat_map(|member| self.subscription(member));
        names.filter_map(|name| catalog.get(name).map(|facts| (name.to_owned(), Arc::clone(facts)))).collect()
    }

    fn follow_topics_if(&mut self, env: &Env<'_>, bump: bool) {
        if bump || self.fresh_until.is_none_or(|until| until <= env.now) {
            self.follow_topics(env, bump);
        }
    }

    /// Raises the group's epoch if it is to be, or if a topic somebody reads is another than before.
    fn follow_topics(&mut self, env: &Env<'_>, bump: bool) {
        let known = self.known_topics(env.catalog);
        if bump || known != self.known {
            self.epoch += 1;
            self.known = known;
        }
        self.fresh_until = Some(env.now + REFRESH_INTERVAL);
    }

    /// A topic was created, deleted or changed.
    pub(super) fn topic_changed(&mut self, name: &str) {
        if self.is_subscribed_to(name) {
            self.fresh_until = None;
        }
    }

    pub(super) fn is_subscribed_to(&self, topic: &str) -> bool {
        let by_regex = |resolved: &Resolved| resolved.topics.contains(topic);
        self.members.values().any(|member| member.topics.contains(topic)) || self.resolved.values().any(by_regex)
    }

    // ---- assigning ----

    fn assign_if_due(&mut self, env: &Env<'_>) {
        let due = self.assigned_at.is_none_or(|at| env.now >= at + self.assignment_interval);
        if due && self.assignment_epoch < self.epoch {
            self.assign(env);
        }
    }

    fn assign(&mut self, env: &Env<'_>) {
        let assignor = self.assignor().unwrap_or(env.settings.default_assignor());
        let candidate = |member: &Member| Candidate {
            id: Arc::clone(&member.id),
            instance_id: member.instance_id.clone(),
            topics: self.topic_ids(env.catalog, member),
            before: self.target.get(&member.id).cloned().unwrap_or_default(),
        };
        let candidates: Vec<Candidate> = self.members.values().map(candidate).collect();
        let topics = candidates.iter().flat_map(|candidate| &candidate.topics);
        let sizes = topics.map(|topic| (*topic, env.catalog.partitions(*topic))).collect();
        let mut shares = assignor.assign(Question::new(candidates, self.is_homogeneous(), sizes));
        self.target = self.members.keys().map(|id| (Arc::clone(id), shares.remove(id).unwrap_or_default())).collect();
        self.assignment_epoch = self.epoch;
        self.assigned_at = Some(env.now);
        tracing::debug!(group = %self.id, epoch = self.epoch, assignor = assignor.name(), "a new target assignment");
    }

    /// The assignor most members ask for; between equals the one Java finds first.
    fn assignor(&self) -> Option<Assignor> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for name in self.members.values().filter_map(|member| member.assignor.as_deref()) {
            *votes.entry(name).or_default() += 1;
        }
        let most = votes.values().copied().max()?;
        let entries = votes.len();
        let best = votes.into_iter().filter(|(_, count)| *count == most).map(|(name, _)| name);
        best.min_by_key(|name| java::slot_of_text(name, entries)).and_then(Assignor::named)
    }

    /// Whether Kafka takes all members to subscribe to the same (`ConsumerGroup.subscriptionType`).
    fn is_homogeneous(&self) -> bool {
        let expressions = self.expressions();
        let mut by_name: BTreeMap<&str, usize> = BTreeMap::new();
        for topic in self.members.values().flat_map(|member| &member.topics) {
            *by_name.entry(topic).or_default() += 1;
        }
        let mut by_regex: BTreeMap<&str, usize> = BTreeMap::new();
        for topic in self.resolved.values().flat_map(|resolved| &resolved.topics) {
            *by_regex.entry(topic).or_default() += 1;
        }
        match expressions.first() {
            None => by_regex.is_empty() && by_name.values().all(|count| *count == self.members.len()),
            Some(regex) => {
                self.readers_of(regex) == self.members.len()
                    && by_name.is_empty()
                    && by_regex.values().all(|count| *count == 1)
            }
        }
    }

    fn reconcile(&mut self, env: &mut Env<'_>, id: &Arc<str>, changed: bool, owned: Option<&[(Uuid, Vec<i32>)]>) {
        let Some(mut member) = self.members.get(id).cloned() else { return };
        let topics = self.topic_ids(env.catalog, &member);
        let no_target = Partitions::new();
        member.reconcile(&Goal {
            epoch: self.assignment_epoch,
            target: self.target.get(id).unwrap_or(&no_target),
            topics: &topics,
            subscription_changed: changed,
            owned,
            held_by_others: &|topic, index| {
                self.members.values().any(|other| other.id != *id && other.holds(topic, index))
            },
        });
        if self.members.get(id) == Some(&member) {
            return;
        }
        if !member.uses_classic() {
            let event = Event::Rebalance(Arc::clone(id));
            if member.progress == Progress::Unrevoked {
                env.schedule(&self.id, event, millis(member.rebalance_timeout_ms));
            } else {
                env.cancel(&self.id, event);
            }
        }
        self.members.insert(Arc::clone(id), member);
    }

    // ---- going ----

    /// A member was silent for too long.
    pub(super) fn session_is_due(&mut self, env: &mut Env<'_>, id: &str) {
        self.dismiss_known(env, id, "its session has expired");
    }

    /// A member has not given up in time what it must.
    pub(super) fn rebalance_is_due(&mut self, env: &mut Env<'_>, id: &str) {
        // One that has left for a while holds nothing that it could give up.
        if self.members.get(id).is_some_and(|member| member.progress == Progress::Unrevoked && member.epoch >= 0) {
            self.dismiss_known(env, id, "it has not given up its partitions in time");
        }
    }

    fn dismiss_known(&mut self, env: &mut Env<'_>, id: &str, reason: &'static str) {
        if let Some(member) = self.members.get(id) {
            let ids = BTreeSet::from([Arc::clone(&member.id)]);
            self.dismiss(env, &ids, reason);
        }
    }

    /// Removes members, and lets the others have what they held.
    fn dismiss(&mut self, env: &mut Env<'_>, ids: &BTreeSet<Arc<str>>, reason: &'static str) {
        if ids.is_empty() {
            return;
        }
        if self.may_downgrade_without(env, ids) {
            return self.downgrade_without(env, ids);
        }
        for id in ids {
            tracing::debug!(group = %self.id, member = %id, reason, "removed");
            self.cancel_timers(env, id);
            self.target.remove(id);
            if let Some(instance) = self.members.remove(id).and_then(|member| member.instance_id) {
                self.static_members.remove(&instance);
            }
        }
        let expressions: BTreeSet<String> = self.expressions().into_iter().map(str::to_owned).collect();
        self.resolved.retain(|expression, _| expressions.contains(expression));
        self.known = self.known_topics(env.catalog);
        self.epoch += 1;
    }

    fn cancel_timers(&self, env: &mut Env<'_>, id: &Arc<str>) {
        env.cancel(&self.id, Event::Session(Arc::clone(id)));
        env.cancel(&self.id, Event::Rebalance(Arc::clone(id)));
        env.cancel(&self.id, Event::Rejoin(Arc::clone(id)));
        env.cancel(&self.id, Event::Resync(Arc::clone(id)));
    }

    /// The coordinator is gone; sessions stand still.
    pub(super) fn unload(&mut self, env: &mut Env<'_>) {
        env.timers.cancel_all_of(&self.id);
    }

    /// A coordinator has read the group from the log, in which everything is but the sessions.
    pub(super) fn load(&mut self, env: &mut Env<'_>) {
        self.fresh_until = None;
        for member in self.members.values() {
            env.expect(&self.id, &member.id, self.session_timeout);
            if member.progress == Progress::Unrevoked {
                env.schedule(&self.id, Event::Rebalance(Arc::clone(&member.id)), millis(member.rebalance_timeout_ms));
            }
        }
    }

    /// Makes the members reconcile to a new assignment, though nothing has changed.
    pub(super) fn rebalance_on_demand(&mut self) {
        self.epoch += 1;
    }

    // ---- offsets ----

    /// Whether this member may commit, and from which partitions an older epoch is let through
    /// (`ConsumerGroup.validateOffsetCommit`, KIP-1251).
    pub(super) fn admit_commit(&self, claim: &Claim<'_>) -> Result<Option<StaleCommit>, ErrorCode> {
        // An administrator, or a consumer that assigns itself.
        if claim.generation < 0 && self.members.is_empty() {
            return Ok(None);
        }
        let member = self.members.get(claim.member_id).ok_or(ErrorCode::UnknownMemberId)?;
        let code = stale_code(member);
        match claim.generation {
            epoch if epoch == member.epoch => Ok(None),
            epoch if epoch > member.epoch => Err(code),
            epoch => {
                let held = member.revoking.iter().chain(&member.assigned);
                let held = held.flat_map(|(topic, partitions)| partitions.iter().map(|(i, e)| ((*topic, *i), *e)));
                Ok(Some(StaleCommit { epoch, code, given_in: held.collect() }))
            }
        }
    }

    /// The same for offsets sent in a transaction, whose clients need not say who they are, and know no epochs of members.
    pub(super) fn admit_transactional_commit(&self, claim: &Claim<'_>) -> Result<Option<StaleCommit>, ErrorCode> {
        if claim.generation < 0 && claim.member_id.is_empty() && claim.instance_id.is_none() {
            return Ok(None);
        }
        match self.admit_commit(claim) {
            Ok(stale) => Ok(stale.map(|stale| StaleCommit { code: ErrorCode::IllegalGeneration, ..stale })),
            Err(ErrorCode::StaleMemberEpoch) => Err(ErrorCode::IllegalGeneration),
            Err(code) => Err(code),
        }
    }

    /// Whether this member may ask for offsets; nobody in particular always may.
    pub(super) fn check_offset_fetch(&self, member_id: Option<&str>, epoch: i32) -> Result<(), ErrorCode> {
        if member_id.is_none() && epoch < 0 {
            return Ok(());
        }
        let member = self.members.get(member_id.unwrap_or_default()).ok_or(ErrorCode::UnknownMemberId)?;
        if member.epoch == epoch { Ok(()) } else { Err(stale_code(member)) }
    }

    /// Whether this is a member that does not speak the classic protocol.
    pub(super) fn speaks_consumer_protocol(&self, member_id: &str) -> bool {
        self.members.get(member_id).is_some_and(|member| !member.uses_classic())
    }

    // ---- what others see ----

    pub(super) fn state(&self) -> ConsumerState {
        if self.members.is_empty() {
            ConsumerState::Empty
        } else if self.epoch > self.assignment_epoch {
            ConsumerState::Assigning
        } else if self.members.values().all(|member| member.is_reconciled_to(self.assignment_epoch)) {
            ConsumerState::Stable
        } else {
            ConsumerState::Reconciling
        }
    }

    pub(super) fn view(&self, catalog: &Catalog, default: Assignor) -> ConsumerGroupView {
        let named = |partitions: &mut dyn Iterator<Item = (Uuid, i32)>| {
            let mut by_topic: BTreeMap<(String, Uuid), BTreeSet<i32>> = BTreeMap::new();
            for (topic, index) in partitions {
                // A topic that is gone has no name any more.
                if let Some(name) = catalog.name_of(topic) {
                    by_topic.entry((name.to_owned(), topic)).or_default().insert(index);
                }
            }
            by_topic.into_iter().map(|((name, id), indices)| (name, id, indices.into_iter().collect())).collect()
        };
        let member = |member: &Member| {
            let held = member.assigned.iter().chain(&member.revoking);
            let target = self.target.get(&member.id);
            ConsumerMemberView {
                member_id: member.id.to_string(),
                group_instance_id: member.instance_id.as_ref().map(ToString::to_string),
                rack: member.rack.clone(),
                epoch: member.epoch,
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                topics: member.topics.iter().cloned().collect(),
                regex: member.regex.clone(),
                assignment: named(&mut held.flat_map(|(topic, held)| held.keys().map(|index| (*topic, *index)))),
                target: named(
                    &mut target.into_iter().flatten().flat_map(|(topic, share)| share.iter().map(|i| (*topic, *i))),
                ),
                is_classic: member.uses_classic(),
            }
        };
        ConsumerGroupView {
            group_id: self.id.to_string(),
            state: self.state(),
            epoch: self.epoch,
            assignment_epoch: self.assignment_epoch,
            assignor: self.assignor().unwrap_or(default).name(),
            members: self.members.values().map(member).collect(),
        }
    }

    // ---- small facts and steps ----

    fn known_member(&self, id: &str) -> Result<Arc<str>, Reject> {
        self.members.get(id).map(|member| Arc::clone(&member.id)).ok_or_else(|| self.unknown_member(id))
    }

    fn unknown_member(&self, id: &str) -> Reject {
        Reject::new(ErrorCode::UnknownMemberId, format!("there is no member {id} in group {}", self.id))
    }

    /// The static member with this instance id, if it is this member.
    fn static_member(&self, instance: &str, id: &str) -> Result<Arc<str>, Reject> {
        let Some(current) = self.static_members.get(instance) else {
            return Err(Reject::new(
                ErrorCode::UnknownMemberId,
                format!("nobody in the group has the instance id {instance}"),
            ));
        };
        if **current != *id {
            let message = format!("the instance id {instance} belongs to member {current} now, not to {id}");
            return Err(Reject::new(ErrorCode::FencedInstanceId, message));
        }
        Ok(Arc::clone(current))
    }
}

/// A commit from an earlier epoch: good for partitions the member has held since then.
#[derive(Debug)]
pub(super) struct StaleCommit {
    epoch: i32,
    code: ErrorCode,
    given_in: BTreeMap<(Uuid, i32), i32>,
}

impl StaleCommit {
    pub(super) fn new(epoch: i32, code: ErrorCode, given_in: BTreeMap<(Uuid, i32), i32>) -> Self {
        Self { epoch, code, given_in }
    }

    pub(super) fn check(&self, topic: Uuid, index: i32) -> Result<(), Reject> {
        match self.given_in.get(&(topic, index)) {
            Some(given_in) if self.epoch >= *given_in => Ok(()),
            _ => Err(self.code.into()),
        }
    }
}

fn stale_code(member: &Member) -> ErrorCode {
    if member.uses_classic() { ErrorCode::IllegalGeneration } else { ErrorCode::StaleMemberEpoch }
}

fn check_epoch(member: &Member, beat: &Beat<'_>) -> Result<(), Reject> {
    let fenced = |how: &str| {
        let message = format!(
            "epoch {} is {how} the member's own, {}; it must give up what it has and join again",
            beat.epoch, member.epoch
        );
        Err(Reject::new(ErrorCode::FencedMemberEpoch, message))
    };
    if beat.joins() || beat.epoch == member.epoch {
        return Ok(());
    }
    if beat.epoch > member.epoch {
        return fenced("ahead of");
    }
    // It may not have received the answer that moved it on; then it holds nothing that is not its own.
    let holds_its_own = beat.owned.as_ref().is_some_and(|owned| {
        owned.iter().all(|(topic, partitions)| {
            member.assigned.get(topic).is_some_and(|assigned| partitions.iter().all(|i| assigned.contains_key(i)))
        })
    });
    if beat.epoch == member.previous_epoch && holds_its_own { Ok(()) } else { fenced("behind") }
}

fn check_released(member: &Member, id: &str, instance: &str) -> Result<(), Reject> {
    if member.uses_classic() || member.epoch == LEFT_FOR_A_WHILE {
        return Ok(());
    }
    let message = format!(
        "member {id} cannot have the instance id {instance} before member {} has left or its session is over",
        member.id
    );
    Err(Reject::new(ErrorCode::UnreleasedInstanceId, message))
}

/// The member with what its heartbeat says anew.
fn update(mut member: Member, beat: &Beat<'_>) -> Member {
    if let Some(instance) = beat.instance_id {
        member.instance_id = Some(Arc::from(instance));
    }
    if let Some(rack) = beat.rack {
        member.rack = Some(rack.to_owned());
    }
    if beat.rebalance_timeout_ms != -1 {
        member.rebalance_timeout_ms = beat.rebalance_timeout_ms;
    }
    if let Some(topics) = &beat.topics {
        member.topics.clone_from(topics);
    }
    if let Some(regex) = beat.regex {
        regex.clone_into(&mut member.regex);
    }
    if let Some(assignor) = beat.assignor {
        member.assignor = Some(assignor.to_owned());
    }
    beat.client_id.clone_into(&mut member.client_id);
    beat.client_host.clone_into(&mut member.client_host);
    member.classic = None;
    member
}

fn listed(held: &Held) -> BTreeMap<Uuid, Vec<i32>> {
    held.iter().map(|(topic, partitions)| (*topic, partitions.keys().copied().collect())).collect()
}
