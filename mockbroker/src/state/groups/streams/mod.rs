//! A group of a Kafka Streams application (KIP-1071): members bring their topology, the coordinator makes internal topics
//! of it and deals out tasks.
//!
//! Epochs follow each other as in groups of the consumer protocol: the group's rises with every change, the assignment's
//! is the one for which tasks were dealt out, each member's the one it has reached. The rules are those of
//! `GroupMetadataManager.streamsGroupHeartbeat` and `StreamsGroup` in Apache Kafka 4.3.

mod member;
mod sticky;
mod topology;
mod view;

pub use member::{TaskSets, Tasks};
pub use topology::{InternalTopic, StreamsStatus, Subtopology, Topology};
pub use view::{EndpointPartitions, StreamsGroupView, StreamsMemberView};

use super::Claim;
use super::catalog::{Catalog, TopicFacts};
use super::consumer::{Pace, StaleCommit};
use super::env::Env;
use super::timers::{Event, Timer};
use crate::error::{ErrorCode, Reject};
use crate::time::Time;
use member::{Goal, Member, Others, Progress};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use sticky::Worker;
use topology::Configured;

/// After so long a time even an unchanged group looks at its topics again (`METADATA_REFRESH_INTERVAL_MS`).
const REFRESH_INTERVAL: Duration = Duration::from_millis(i32::MAX as u64);

/// A member's heartbeat: that it is there, and what has changed since its last.
#[derive(Debug, Clone, Default)]
pub struct StreamsBeat<'a> {
    /// The group.
    pub group: &'a str,
    /// The member's id, which it chose itself.
    pub member_id: &'a str,
    /// The epoch it is in: 0 to join, -1 to leave.
    pub epoch: i32,
    /// Its rack.
    pub rack: Option<&'a str>,
    /// How long it may take to give tasks up; -1 if that has not changed.
    pub rebalance_timeout_ms: i32,
    /// The topology of its application, when it joins.
    pub topology: Option<Topology>,
    /// What it has.
    pub owned: Option<TaskSets>,
    /// The process it runs in.
    pub process_id: Option<&'a str>,
    /// Where others can ask for its state.
    pub endpoint: Option<(String, u16)>,
    /// What its user tells it from others by.
    pub tags: Option<BTreeMap<String, String>>,
    /// It wants all members to stop.
    pub shutdown: bool,
    /// The epoch of the endpoints it knows.
    pub endpoint_epoch: i32,
    /// Its client id.
    pub client_id: &'a str,
    /// Its address as Kafka writes it: `/127.0.0.1`.
    pub client_host: &'a str,
}

/// How a streams group is timed and configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamsPace {
    /// As for other groups.
    pub pace: Pace,
    /// How long the first members wait for others.
    pub initial_delay: Duration,
    /// How many standby tasks each task with state has.
    pub standbys: i32,
}

/// What a member learns from its heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamsBeaten {
    /// The epoch it is in now.
    pub epoch: i32,
    /// How often it is to beat, in milliseconds.
    pub heartbeat_interval_ms: i32,
    /// What it is to have, if that is news to it.
    pub tasks: Option<TaskSets>,
    /// What else it should know.
    pub status: Vec<(StreamsStatus, String)>,
    /// The epoch of the endpoints.
    pub endpoint_epoch: i32,
    /// Where state can be asked for, if that is news to it.
    pub endpoints: Option<Vec<EndpointPartitions>>,
    /// Internal topics that are to be made.
    pub missing: Vec<InternalTopic>,
}

/// One streams group.
#[derive(Debug)]
pub(super) struct Streams {
    id: Arc<str>,
    epoch: i32,
    members: BTreeMap<Arc<str>, Member>,
    target: BTreeMap<Arc<str>, TaskSets>,
    assignment_epoch: i32,
    assigned_at: Option<Time>,
    topology: Option<Topology>,
    configured: Option<Configured>,
    /// The topology's epoch, once it fits the topics; -1 while it does not.
    validated: i32,
    /// The topics that matter, as they were when the group's epoch last followed them.
    known: BTreeMap<String, Arc<TopicFacts>>,
    /// Until when `known` need not be looked at; `None` if a topic has changed since.
    fresh_until: Option<Time>,
    /// The number of standby tasks for which tasks were last dealt out.
    standbys: Option<i32>,
    endpoint_epoch: i32,
    /// Who wants all to stop.
    shutdown: Option<Arc<str>>,
    /// The first members wait for others.
    is_delayed: bool,
    session_timeout: Duration,
    assignment_interval: Duration,
}

/// A topology that has been fitted to the topics there are.
struct Fitted {
    topology: Topology,
    configured: Configured,
    known: BTreeMap<String, Arc<TopicFacts>>,
    validated: i32,
}

impl Streams {
    pub(super) fn new(id: &Arc<str>) -> Self {
        Self {
            id: Arc::clone(id),
            epoch: 1,
            members: BTreeMap::new(),
            target: BTreeMap::new(),
            assignment_epoch: 1,
            assigned_at: None,
            topology: None,
            configured: None,
            validated: 0,
            known: BTreeMap::new(),
            fresh_until: None,
            standbys: None,
            endpoint_epoch: 0,
            shutdown: None,
            is_delayed: false,
            session_timeout: Duration::from_secs(45),
            assignment_interval: Duration::from_secs(1),
        }
    }

    // ---- heartbeats ----

    /// A member is there, or joins.
    pub(super) fn beat(
        &mut self,
        env: &mut Env<'_>,
        beat: &StreamsBeat<'_>,
        pace: &StreamsPace,
    ) -> Result<StreamsBeaten, Reject> {
        let before = self.member_before(env, beat)?;
        check_epoch(&before, beat)?;
        let updated = updated(before.clone(), beat);
        let mut status = self.staleness(&updated);
        let fitted = self.fit(env, beat)?;
        // Nothing is refused from here on.
        self.session_timeout = pace.pace.session_timeout;
        self.assignment_interval = pace.pace.assignment_interval;
        let changed = before != updated || fitted.known != self.known || fitted.validated != self.validated;
        if changed || self.standbys != Some(pace.standbys) {
            self.epoch += 1;
            self.standbys = Some(pace.standbys);
        }
        self.take_over(env, fitted);
        if self.members.is_empty() && !pace.initial_delay.is_zero() {
            let timer = Timer { group: Arc::clone(&self.id), event: Event::Assign };
            env.timers.schedule_if_absent(timer, env.now + pace.initial_delay);
            self.is_delayed = true;
        }
        let id = Arc::clone(&updated.id);
        self.members.insert(Arc::clone(&id), updated);
        if !self.assign_if_due(env) {
            let why = "tasks are dealt out a little later, when more is known";
            status.push((StreamsStatus::AssignmentDelayed, why.to_owned()));
        }
        self.reconcile(env, &id, beat.owned.as_ref());
        env.expect(&self.id, &id, pace.pace.session_timeout);
        if beat.shutdown {
            self.shutdown = Some(Arc::clone(&id));
        }
        status.extend(self.configured.iter().find_map(|configured| configured.problem.clone()));
        Ok(self.told(beat, &before, &id, status, pace))
    }

    fn member_before(&self, env: &Env<'_>, beat: &StreamsBeat<'_>) -> Result<Member, Reject> {
        if beat.epoch != 0 {
            return self.members.get(beat.member_id).cloned().ok_or_else(|| self.unknown_member(beat.member_id));
        }
        let max = env.settings.streams_max_size;
        if self.members.len() >= max {
            let message = format!("group.streams.max.size allows {max} members, and that many are in the group");
            return Err(Reject::new(ErrorCode::GroupMaxSizeReached, message));
        }
        Ok(self.members.get(beat.member_id).cloned().unwrap_or_else(|| Member::new(beat.member_id)))
    }

    fn staleness(&self, member: &Member) -> Vec<(StreamsStatus, String)> {
        let newer = self.topology.iter().filter(|topology| member.topology_epoch < topology.epoch);
        let status = newer.map(|topology| {
            let why =
                format!("the member's topology is of epoch {}, the group's {}", member.topology_epoch, topology.epoch);
            (StreamsStatus::StaleTopology, why)
        });
        status.collect()
    }

    /// The topology of the group with what a member brings, fitted to the topics there are.
    fn fit(&self, env: &Env<'_>, beat: &StreamsBeat<'_>) -> Result<Fitted, Reject> {
        let topology = match (&self.topology, &beat.topology) {
            (None, None) => return Err(ErrorCode::UnknownServerError.into()),
            (None, Some(brought)) => brought.clone(),
            (Some(own), Some(brought)) if own.epoch <= brought.epoch && own != brought => {
                return Err(Reject::new(ErrorCode::InvalidRequest, "the group's topology cannot be changed"));
            }
            (Some(own), _) => own.clone(),
        };
        let is_fresh = self.fresh_until.is_some_and(|until| env.now < until);
        let known = if is_fresh { self.known.clone() } else { topology.known_topics(env.catalog) };
        let configured = match &self.configured {
            Some(configured) if known == self.known => configured.clone(),
            _ => topology.configured(env.catalog)?,
        };
        let is_ready = configured.problem.is_none();
        if is_ready {
            check_tasks(&configured, beat.owned.as_ref())?;
        }
        let validated = if is_ready { topology.epoch } else { -1 };
        Ok(Fitted { topology, configured, known, validated })
    }

    fn take_over(&mut self, env: &Env<'_>, fitted: Fitted) {
        self.topology = Some(fitted.topology);
        self.configured = Some(fitted.configured);
        self.known = fitted.known;
        self.validated = fitted.validated;
        self.fresh_until = Some(env.now + REFRESH_INTERVAL);
    }

    fn told(
        &mut self,
        beat: &StreamsBeat<'_>,
        before: &Member,
        id: &Arc<str>,
        mut status: Vec<(StreamsStatus, String)>,
        pace: &StreamsPace,
    ) -> StreamsBeaten {
        let after = self.members[id].clone();
        let tell = beat.epoch == 0 || before.assigned != after.assigned;
        if tell && after.endpoint.is_some() {
            self.endpoint_epoch += 1;
        }
        if let Some(member) = &self.shutdown {
            status.push((StreamsStatus::ShutdownApplication, format!("member {member} wants all members to stop")));
        }
        StreamsBeaten {
            epoch: after.epoch,
            heartbeat_interval_ms: pace.pace.heartbeat_interval_ms,
            tasks: tell.then(|| after.assigned.sets()),
            status,
            endpoint_epoch: self.endpoint_epoch,
            endpoints: (self.endpoint_epoch != beat.endpoint_epoch).then(|| self.endpoints()),
            missing: self.configured.iter().flat_map(|configured| configured.missing.clone()).collect(),
        }
    }

    /// The group was founded by the heartbeat before: as in Kafka, which endpoints there are is told from the next on.
    pub(super) fn founded(&mut self) {
        self.endpoint_epoch = 0;
        self.shutdown = None;
    }

    /// A member leaves.
    pub(super) fn leave(&mut self, env: &mut Env<'_>, member_id: &str, shutdown: bool) -> Result<(), Reject> {
        if shutdown {
            self.shutdown = Some(Arc::from(member_id));
        }
        if !self.members.contains_key(member_id) {
            return Err(self.unknown_member(member_id));
        }
        self.dismiss(env, member_id, "it has left");
        Ok(())
    }

    /// A member was silent for too long.
    pub(super) fn session_is_due(&mut self, env: &mut Env<'_>, member_id: &str) {
        self.dismiss(env, member_id, "its session has expired");
    }

    /// A member has not given up in time what it must.
    pub(super) fn rebalance_is_due(&mut self, env: &mut Env<'_>, member_id: &str) {
        self.dismiss(env, member_id, "it has not given up its tasks in time");
    }

    fn dismiss(&mut self, env: &mut Env<'_>, member_id: &str, reason: &'static str) {
        let Some(member) = self.members.remove(member_id) else { return };
        tracing::debug!(group = %self.id, member = member_id, reason, "removed");
        self.target.remove(member_id);
        env.cancel(&self.id, Event::Session(Arc::clone(&member.id)));
        env.cancel(&self.id, Event::Rebalance(member.id));
        self.epoch += 1;
        if self.members.is_empty() {
            self.shutdown = None;
        }
    }

    // ---- dealing out tasks ----

    /// The first members have waited for others.
    pub(super) fn delay_is_over(&mut self, env: &mut Env<'_>) {
        self.is_delayed = false;
        if !self.members.is_empty() && self.configured.is_some() {
            self.assign_if_due(env);
        }
    }

    /// Deals out tasks if something has changed; false when that must wait.
    fn assign_if_due(&mut self, env: &Env<'_>) -> bool {
        if self.is_delayed {
            return false;
        }
        if self.assignment_epoch >= self.epoch {
            return true;
        }
        let interval = self.assignment_interval;
        let due = interval.is_zero() || self.assigned_at.is_none_or(|at| env.now >= at + interval);
        if due {
            self.assign(env);
        }
        due
    }

    fn assign(&mut self, env: &Env<'_>) {
        let worker = |member: &Member| Worker {
            id: Arc::clone(&member.id),
            process: member.process_id.clone(),
            before: self.target.get(&member.id).cloned().unwrap_or_default(),
        };
        let workers: Vec<Worker> = self.members.values().map(worker).collect();
        self.target = match &self.configured {
            Some(configured) if configured.problem.is_none() => {
                sticky::assign(&configured.parts, &workers, self.standbys.unwrap_or(0))
            }
            _ => self.members.keys().map(|id| (Arc::clone(id), TaskSets::default())).collect(),
        };
        self.assignment_epoch = self.epoch;
        self.assigned_at = Some(env.now);
        tracing::debug!(group = %self.id, epoch = self.epoch, "a new target assignment");
    }

    fn reconcile(&mut self, env: &mut Env<'_>, id: &Arc<str>, owned: Option<&TaskSets>) {
        let Some(mut member) = self.members.get(id).cloned() else { return };
        let nothing = TaskSets::default();
        let target = if self.is_delayed { &nothing } else { self.target.get(id).unwrap_or(&nothing) };
        let goal = Goal { epoch: self.assignment_epoch, target, owned };
        let process = member.process_id.clone();
        let others = Others {
            is_active: &|part, index| self.members.values().any(|other| other.runs(part, index)),
            is_in_process: &|part, index| {
                let mut inside = self.members.values().filter(|other| other.process_id == process);
                inside.any(|other| other.has(part, index))
            },
        };
        member.reconcile(&goal, &others);
        let before = self.members.insert(Arc::clone(id), member);
        let after = &self.members[id];
        if before.as_ref() == Some(after) {
            return;
        }
        if after.progress == Progress::Unrevoked {
            env.schedule(&self.id, Event::Rebalance(Arc::clone(id)), super::millis(after.rebalance_timeout_ms));
        } else {
            env.cancel(&self.id, Event::Rebalance(Arc::clone(id)));
        }
    }

    // ---- topics ----

    /// A topic was created, deleted or changed.
    pub(super) fn topic_changed(&mut self, name: &str) {
        if self.topology.as_ref().is_some_and(|topology| topology.concerns(name)) {
            self.fresh_until = None;
        }
    }

    /// Whether somebody in the group reads this topic.
    pub(super) fn is_subscribed_to(&self, topic: &str) -> bool {
        !self.members.is_empty() && self.topology.as_ref().is_some_and(|topology| topology.reads(topic))
    }

    // ---- offsets ----

    /// Whether this member may ask for offsets; nobody in particular always may.
    pub(super) fn check_offset_fetch(&self, member_id: Option<&str>, epoch: i32) -> Result<(), ErrorCode> {
        if member_id.is_none() && epoch < 0 {
            return Ok(());
        }
        let member = self.members.get(member_id.unwrap_or_default()).ok_or(ErrorCode::UnknownMemberId)?;
        if member.epoch == epoch { Ok(()) } else { Err(ErrorCode::StaleMemberEpoch) }
    }

    /// Whether offsets may be committed by this claim; from an earlier epoch, only of tasks the member has had since.
    pub(super) fn admit_commit(&self, catalog: &Catalog, claim: &Claim<'_>) -> Result<Option<StaleCommit>, ErrorCode> {
        if claim.generation < 0 && self.members.is_empty() {
            return Ok(None);
        }
        let member = self.members.get(claim.member_id).ok_or(ErrorCode::UnknownMemberId)?;
        if claim.generation == member.epoch {
            return Ok(None);
        }
        if claim.generation > member.epoch {
            return Err(ErrorCode::StaleMemberEpoch);
        }
        let mut given_in = BTreeMap::new();
        for (part, tasks) in &member.assigned.active {
            let reads = self.configured.iter().filter_map(|configured| configured.parts.get(part));
            for facts in reads.flat_map(|part| &part.reads).filter_map(|name| catalog.get(name)) {
                given_in.extend(tasks.iter().map(|(index, epoch)| ((facts.id, *index), *epoch)));
            }
        }
        Ok(Some(StaleCommit::new(claim.generation, ErrorCode::StaleMemberEpoch, given_in)))
    }

    // ---- a coordinator that stops, and one that takes over ----

    /// The coordinator is gone; sessions stand still.
    pub(super) fn unload(&mut self, env: &mut Env<'_>) {
        env.timers.cancel_all_of(&self.id);
    }

    /// A coordinator has read the group from the log, in which everything is but what was only told.
    pub(super) fn load(&mut self, env: &mut Env<'_>) {
        self.fresh_until = None;
        self.configured = None;
        self.is_delayed = false;
        self.founded();
        for member in self.members.values() {
            env.expect(&self.id, &member.id, self.session_timeout);
            if member.progress == Progress::Unrevoked {
                let timeout = super::millis(member.rebalance_timeout_ms);
                env.schedule(&self.id, Event::Rebalance(Arc::clone(&member.id)), timeout);
            }
        }
    }

    /// Makes the coordinator assign anew, though nothing has changed.
    pub(super) fn rebalance_on_demand(&mut self) {
        self.epoch += 1;
    }

    // ---- small facts ----

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn state_name(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self.topology.as_ref().map(|topology| topology.epoch) != Some(self.validated) {
            "NotReady"
        } else if self.epoch > self.assignment_epoch {
            "Assigning"
        } else if self.members.values().all(|member| member.is_reconciled_to(self.assignment_epoch)) {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    fn unknown_member(&self, id: &str) -> Reject {
        Reject::new(ErrorCode::UnknownMemberId, format!("there is no member {id} in group {}", self.id))
    }
}

fn check_epoch(member: &Member, beat: &StreamsBeat<'_>) -> Result<(), Reject> {
    if beat.epoch == 0 || beat.epoch == member.epoch {
        return Ok(());
    }
    // It may not have received the answer that moved it on; then it has nothing that is not its own.
    let has_its_own = beat.owned.as_ref().is_some_and(|owned| member.assigned.covers(owned));
    if beat.epoch < member.epoch && beat.epoch == member.previous_epoch && has_its_own {
        return Ok(());
    }
    let how = if beat.epoch > member.epoch { "ahead of" } else { "behind" };
    let message = format!(
        "epoch {} is {how} the member's own, {}; it must give up what it has and join again",
        beat.epoch, member.epoch
    );
    Err(Reject::new(ErrorCode::FencedMemberEpoch, message))
}

/// Refuses tasks the topology does not have.
fn check_tasks(configured: &Configured, owned: Option<&TaskSets>) -> Result<(), Reject> {
    let kinds = owned.into_iter().flat_map(|owned| [&owned.active, &owned.standby, &owned.warmup]);
    for (part, indices) in kinds.flatten() {
        let tasks = configured.parts.get(part).map_or(0, |part| part.tasks);
        if indices.iter().any(|index| !(0..tasks).contains(index)) || !configured.parts.contains_key(part) {
            return Err(Reject::new(ErrorCode::InvalidRequest, format!("part {part} has no such task")));
        }
    }
    Ok(())
}

/// The member with what its heartbeat says anew.
fn updated(mut member: Member, beat: &StreamsBeat<'_>) -> Member {
    if let Some(rack) = beat.rack {
        member.rack = Some(rack.to_owned());
    }
    if beat.rebalance_timeout_ms != -1 {
        member.rebalance_timeout_ms = beat.rebalance_timeout_ms;
    }
    if let Some(topology) = &beat.topology {
        member.topology_epoch = topology.epoch;
    }
    if let Some(process_id) = beat.process_id {
        process_id.clone_into(&mut member.process_id);
    }
    if let Some(tags) = &beat.tags {
        member.tags.clone_from(tags);
    }
    if beat.endpoint.is_some() {
        member.endpoint.clone_from(&beat.endpoint);
    }
    beat.client_id.clone_into(&mut member.client_id);
    beat.client_host.clone_into(&mut member.client_host);
    member
}
