//! A share group's members (KIP-932): who may read which partitions. Unlike in other groups several members may have one
//! partition, so nobody waits for another to give something up.
//!
//! A partition is assigned once its state is initialised, which Kafka does beside the heartbeat that first asks for it: a
//! new group's first heartbeat assigns nothing. The rules are those of `GroupMetadataManager.shareGroupHeartbeat` and
//! `ShareGroup` in Apache Kafka 4.3.

mod offsets;

use super::assignors::{Candidate, Partitions, Question, assign_shared};
use super::catalog::{Catalog, TopicFacts};
use super::consumer::{Beaten, Pace};
use super::env::Env;
use super::timers::Event;
use super::view::{ShareGroupView, ShareMemberView};
use crate::error::{ErrorCode, Reject};
use crate::time::Time;
use crate::wire::Uuid;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// The only assignor of share groups, `group.share.assignors`.
pub const SHARE_ASSIGNOR: &str = "simple";
/// After so long a time even an unchanged group looks at its topics again (`METADATA_REFRESH_INTERVAL_MS`).
const REFRESH_INTERVAL: Duration = Duration::from_millis(i32::MAX as u64);

/// A member's heartbeat: that it is there, and what has changed since its last.
#[derive(Debug, Clone, Default)]
pub struct ShareBeat<'a> {
    /// The group.
    pub group: &'a str,
    /// The member's id, which it chose itself.
    pub member_id: &'a str,
    /// The epoch it is in: 0 to join, -1 to leave.
    pub epoch: i32,
    /// Its rack.
    pub rack: Option<&'a str>,
    /// The topics it subscribes to, if that has changed.
    pub topics: Option<BTreeSet<String>>,
    /// Its client id.
    pub client_id: &'a str,
    /// Its address as Kafka writes it: `/127.0.0.1`.
    pub client_host: &'a str,
}

/// One share group.
#[derive(Debug)]
pub(super) struct Share {
    id: Arc<str>,
    epoch: i32,
    members: BTreeMap<Arc<str>, Member>,
    target: BTreeMap<Arc<str>, Partitions>,
    assignment_epoch: i32,
    assigned_at: Option<Time>,
    /// The topics subscribed to, as they were when the group's epoch last followed them.
    known: BTreeMap<String, Arc<TopicFacts>>,
    /// Until when `known` need not be looked at; `None` if a topic has changed since.
    fresh_until: Option<Time>,
    /// Partitions whose state is initialised, so that they can be assigned.
    initialized: Partitions,
    /// For how long members may be silent, as the group was last told.
    session_timeout: Duration,
}

#[derive(Debug, Clone)]
struct Member {
    id: Arc<str>,
    epoch: i32,
    previous_epoch: i32,
    rack: Option<String>,
    client_id: String,
    client_host: String,
    topics: BTreeSet<String>,
    assigned: Partitions,
}

impl Share {
    pub(super) fn new(id: &Arc<str>) -> Self {
        Self {
            id: Arc::clone(id),
            epoch: 1,
            members: BTreeMap::new(),
            target: BTreeMap::new(),
            assignment_epoch: 1,
            assigned_at: None,
            known: BTreeMap::new(),
            fresh_until: None,
            initialized: Partitions::new(),
            session_timeout: Duration::from_secs(45),
        }
    }

    /// A member is there, or joins.
    pub(super) fn beat(&mut self, env: &mut Env<'_>, beat: &ShareBeat<'_>, pace: &Pace) -> Result<Beaten, Reject> {
        self.check_room(env, beat.member_id)?;
        let before = match self.members.get(beat.member_id) {
            Some(member) => member.clone(),
            None if beat.epoch == 0 => Member::new(beat.member_id),
            None => return Err(self.unknown_member(beat.member_id)),
        };
        check_epoch(&before, beat.epoch)?;
        // Nothing is refused from here on.
        self.session_timeout = pace.session_timeout;
        let id = Arc::clone(&before.id);
        let assigned_is_current = self.assignment_epoch >= self.epoch;
        let must_assign_more = assigned_is_current && self.initialized_but_not_assigned(env.catalog);
        let updated = before.clone().updated(beat);
        let changed = before.topics != updated.topics || must_assign_more;
        self.members.insert(Arc::clone(&id), updated);
        if changed || self.fresh_until.is_none_or(|until| until <= env.now) {
            let known = self.known_topics(env.catalog);
            if changed || known != self.known {
                self.epoch += 1;
                self.known = known;
            }
            self.fresh_until = Some(env.now + REFRESH_INTERVAL);
        }
        let due = self.assigned_at.is_none_or(|at| env.now >= at + pace.assignment_interval);
        if due && self.assignment_epoch < self.epoch {
            self.assign(env);
        }
        self.reconcile(env.catalog, &id, changed);
        env.expect(&self.id, &id, pace.session_timeout);
        let after = &self.members[&id];
        let tell = beat.epoch == 0 || beat.topics.is_some() || before.assigned != after.assigned;
        let beaten = Beaten {
            epoch: after.epoch,
            heartbeat_interval_ms: pace.heartbeat_interval_ms,
            assignment: tell.then(|| listed(&after.assigned)),
        };
        self.initialize(env.catalog);
        Ok(beaten)
    }

    pub(super) fn leave(&mut self, env: &mut Env<'_>, member_id: &str) -> Result<(), Reject> {
        if !self.members.contains_key(member_id) {
            return Err(self.unknown_member(member_id));
        }
        self.dismiss(env, member_id, "it has left");
        Ok(())
    }

    /// A member was silent for too long.
    pub(super) fn session_is_due(&mut self, env: &mut Env<'_>, member_id: &str) {
        if self.members.contains_key(member_id) {
            self.dismiss(env, member_id, "its session has expired");
        }
    }

    fn dismiss(&mut self, env: &mut Env<'_>, member_id: &str, reason: &'static str) {
        tracing::debug!(group = %self.id, member = member_id, reason, "removed");
        self.members.remove(member_id);
        self.target.remove(member_id);
        env.cancel(&self.id, Event::Session(Arc::from(member_id)));
        self.known = self.known_topics(env.catalog);
        self.epoch += 1;
    }

    fn check_room(&self, env: &Env<'_>, member_id: &str) -> Result<(), Reject> {
        let max = env.settings.share_max_size;
        if self.members.len() < max || self.members.contains_key(member_id) {
            return Ok(());
        }
        let message = format!("group.share.max.size allows {max} members, and that many are in the group");
        Err(Reject::new(ErrorCode::GroupMaxSizeReached, message))
    }

    // ---- topics and assigning ----

    /// A topic was created, deleted or changed.
    pub(super) fn topic_changed(&mut self, catalog: &Catalog, name: &str) {
        if self.is_subscribed_to(name) {
            self.fresh_until = None;
        }
        self.initialized.retain(|topic, _| catalog.name_of(*topic).is_some());
    }

    fn is_subscribed_to(&self, topic: &str) -> bool {
        self.members.values().any(|member| member.topics.contains(topic))
    }

    fn known_topics(&self, catalog: &Catalog) -> BTreeMap<String, Arc<TopicFacts>> {
        let names = self.members.values().flat_map(|member| &member.topics);
        names.filter_map(|name| catalog.get(name).map(|facts| (name.clone(), Arc::clone(facts)))).collect()
    }

    /// Makes every partition of a subscribed topic assignable.
    fn initialize(&mut self, catalog: &Catalog) {
        for facts in self.known_topics(catalog).into_values() {
            self.initialized.entry(facts.id).or_default().extend(0..facts.partitions);
        }
    }

    pub(super) fn initialize_one(&mut self, topic: Uuid, index: i32) {
        self.initialized.entry(topic).or_default().insert(index);
    }

    pub(super) fn forget_topic(&mut self, topic: Uuid) -> bool {
        self.initialized.remove(&topic).is_some()
    }

    /// Whether members do not have all there is to be had of a topic somebody subscribes to.
    fn initialized_but_not_assigned(&self, catalog: &Catalog) -> bool {
        let mut assigned: BTreeMap<Uuid, BTreeSet<i32>> = BTreeMap::new();
        for (topic, indices) in self.target.values().flatten() {
            assigned.entry(*topic).or_default().extend(indices);
        }
        let subscribed = |topic: &Uuid| catalog.name_of(*topic).is_some_and(|name| self.is_subscribed_to(name));
        let mut initialized = self.initialized.iter().filter(|(topic, _)| subscribed(topic));
        initialized.any(|(topic, indices)| assigned.get(topic) != Some(indices))
    }

    fn assign(&mut self, env: &Env<'_>) {
        let candidate = |member: &Member| Candidate {
            id: Arc::clone(&member.id),
            instance_id: None,
            topics: topic_ids(env.catalog, &member.topics),
            before: self.target.get(&member.id).cloned().unwrap_or_default(),
        };
        let candidates: Vec<Candidate> = self.members.values().map(candidate).collect();
        let topics = candidates.iter().flat_map(|candidate| &candidate.topics);
        let sizes = topics.map(|topic| (*topic, env.catalog.partitions(*topic))).collect();
        let first = self.members.values().next().map(|member| &member.topics);
        let homogeneous = self.members.values().all(|member| Some(&member.topics) == first);
        let mut shares = assign_shared(&Question::new(candidates, homogeneous, sizes), &self.initialized);
        self.target = self.members.keys().map(|id| (Arc::clone(id), shares.remove(id).unwrap_or_default())).collect();
        self.assignment_epoch = self.epoch;
        self.assigned_at = Some(env.now);
        tracing::debug!(group = %self.id, epoch = self.epoch, "a new target assignment");
    }

    fn reconcile(&mut self, catalog: &Catalog, id: &Arc<str>, changed: bool) {
        let Some(member) = self.members.get_mut(id) else { return };
        if member.epoch == self.assignment_epoch && !changed {
            return;
        }
        let topics = topic_ids(catalog, &member.topics);
        let mut assigned = self.target.get(id).cloned().unwrap_or_default();
        assigned.retain(|topic, _| topics.contains(topic));
        member.assigned = assigned;
        if member.epoch != self.assignment_epoch {
            member.previous_epoch = member.epoch;
            member.epoch = self.assignment_epoch;
        }
    }

    // ---- a coordinator that stops, and one that takes over ----

    /// The coordinator is gone; sessions stand still.
    pub(super) fn unload(&mut self, env: &mut Env<'_>) {
        env.timers.cancel_all_of(&self.id);
    }

    /// A coordinator has read the group from the log, in which everything is but the sessions.
    pub(super) fn load(&mut self, env: &mut Env<'_>) {
        self.fresh_until = None;
        for id in self.members.keys() {
            env.expect(&self.id, id, self.session_timeout);
        }
    }

    /// Makes the coordinator assign anew, though nothing has changed.
    pub(super) fn rebalance_on_demand(&mut self) {
        self.epoch += 1;
    }

    // ---- what others see ----

    pub(super) fn epoch(&self) -> i32 {
        self.epoch
    }

    /// The partitions that can be assigned.
    pub(super) fn initialized(&self) -> impl Iterator<Item = (Uuid, i32)> {
        self.initialized.iter().flat_map(|(topic, indices)| indices.iter().map(|index| (*topic, *index)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn state_name(&self) -> &'static str {
        if self.members.is_empty() { "Empty" } else { "Stable" }
    }

    pub(super) fn view(&self, catalog: &Catalog) -> ShareGroupView {
        let named = |(topic, indices): (&Uuid, &BTreeSet<i32>)| {
            catalog.name_of(*topic).map(|name| (name.to_owned(), *topic, indices.iter().copied().collect()))
        };
        let member = |member: &Member| ShareMemberView {
            member_id: member.id.to_string(),
            rack: member.rack.clone(),
            epoch: member.epoch,
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            topics: member.topics.iter().cloned().collect(),
            assignment: member.assigned.iter().filter_map(named).collect(),
        };
        ShareGroupView {
            group_id: self.id.to_string(),
            state: self.state_name(),
            epoch: self.epoch,
            assignment_epoch: self.assignment_epoch,
            members: self.members.values().map(member).collect(),
        }
    }

    // ---- small facts and steps ----

    fn unknown_member(&self, id: &str) -> Reject {
        Reject::new(ErrorCode::UnknownMemberId, format!("there is no member {id} in group {}", self.id))
    }
}

impl Member {
    fn new(id: &str) -> Self {
        Self {
            id: Arc::from(id),
            epoch: 0,
            previous_epoch: -1,
            rack: None,
            client_id: String::new(),
            client_host: String::new(),
            topics: BTreeSet::new(),
            assigned: Partitions::new(),
        }
    }

    /// The member with what its heartbeat says anew.
    fn updated(mut self, beat: &ShareBeat<'_>) -> Self {
        if let Some(rack) = beat.rack {
            self.rack = Some(rack.to_owned());
        }
        if let Some(topics) = &beat.topics {
            self.topics.clone_from(topics);
        }
        beat.client_id.clone_into(&mut self.client_id);
        beat.client_host.clone_into(&mut self.client_host);
        self
    }
}

fn check_epoch(member: &Member, received: i32) -> Result<(), Reject> {
    if received == 0 || received == member.epoch || (received < member.epoch && received == member.previous_epoch) {
        return Ok(());
    }
    let how = if received > member.epoch { "ahead of" } else { "behind" };
    let message = format!(
        "epoch {received} is {how} the member's own, {}; it must give up what it has and join again",
        member.epoch
    );
    Err(Reject::new(ErrorCode::FencedMemberEpoch, message))
}

fn topic_ids(catalog: &Catalog, names: &BTreeSet<String>) -> BTreeSet<Uuid> {
    names.iter().filter_map(|name| catalog.get(name)).map(|facts| facts.id).collect()
}

fn listed(partitions: &Partitions) -> BTreeMap<Uuid, Vec<i32>> {
    partitions.iter().map(|(topic, indices)| (*topic, indices.iter().copied().collect())).collect()
}
