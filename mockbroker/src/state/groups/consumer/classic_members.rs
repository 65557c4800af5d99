//! Members of a consumer group that speak the classic protocol, and groups that change from one protocol to the other
//! while they have members (KIP-848, "online migration").
//!
//! A classic member's join is its heartbeat that says everything, its sync fetches its assignment, its generation is its
//! member epoch. When the last member that speaks the consumer protocol goes, the group is a classic one again.

use super::super::asked::{Candidate, Claim, Leaver, SyncBy};
use super::super::catalog::Catalog;
use super::super::classic::Classic;
use super::super::env::Env;
use super::super::member::Member as ClassicMember;
use super::super::subscription::{Assigned, Malformed, Subscription};
use super::super::timers::{Event, Timer};
use super::super::{JoinRefusal, Joined, Synced, millis};
use super::member::{ClassicSide, Held, Member, Progress};
use super::{Consumer, Partitions, Place, RegexChange};
use crate::error::{ErrorCode, Reject};
use crate::wire::Uuid;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The protocol type of consumers.
const CONSUMER: &str = "consumer";

/// The classic group that a consumer group is to go on as.
#[derive(Debug)]
pub(in super::super) struct Downgrade {
    pub(in super::super) classic: Classic,
    /// Its members are to join again.
    pub(in super::super) rebalance: bool,
}

impl Consumer {
    // ---- requests of the classic protocol ----

    /// A classic member joins, or joins again.
    pub(in super::super) fn join(
        &mut self,
        env: &mut Env<'_>,
        rng: &mut impl rand::Rng,
        who: &Candidate<'_>,
    ) -> Result<Joined, JoinRefusal> {
        // A refusal here is an exception in Kafka, and its answer says nothing but the code.
        let refuse = |code: ErrorCode| JoinRefusal { code, member_id: String::new() };
        let is_new = who.member_id.is_empty();
        let id = if is_new { new_id(rng) } else { who.member_id.to_owned() };
        self.check_room(env, &id).map_err(|reject| refuse(reject.code))?;
        if !self.supports_classic(who) {
            return Err(refuse(ErrorCode::InconsistentGroupProtocol));
        }
        if is_new && who.instance_id.is_none() && who.knows_member_id_required {
            return Err(JoinRefusal { code: ErrorCode::MemberIdRequired, member_id: id });
        }
        let place = self.classic_place(who, &id).map_err(|reject| refuse(reject.code))?;
        let offered = who.protocols.first().map(|protocol| protocol.metadata.clone()).unwrap_or_default();
        let subscription = Subscription::read(offered).map_err(|_| refuse(ErrorCode::UnknownServerError))?;
        Ok(self.admit_classic(env, who, &place, &id, subscription))
    }

    fn admit_classic(
        &mut self,
        env: &mut Env<'_>,
        who: &Candidate<'_>,
        place: &Place,
        id: &str,
        subscription: Subscription,
    ) -> Joined {
        let before = self.before(place, id);
        let owned = by_id(env.catalog, &subscription.owned);
        let updated = with_classic_side(before.clone(), who, subscription);
        let id = Arc::clone(&updated.id);
        let epoch_before = self.epoch;
        let downgrade = who.instance_id.is_some() && self.may_downgrade_for(env, who.instance_id);
        if let Place::Replaces(old) = place {
            self.replace(env, old, &id);
        }
        let topics_changed = before.topics != updated.topics;
        let changed = topics_changed || self.regex_change(env, &before, &updated).0 != RegexChange::None;
        self.enrol(&before, updated);
        self.follow_topics_if(env, changed);
        let out_of_date = self.assignment_epoch < self.epoch;
        if !downgrade {
            self.assign_if_due(env);
        }
        if !(downgrade && out_of_date) {
            self.reconcile(env, &id, changed, Some(&owned));
        }
        env.cancel(&self.id, Event::Rejoin(Arc::clone(&id)));
        if downgrade {
            self.begin_downgrade(env, epoch_before, &BTreeSet::new(), out_of_date);
        } else {
            env.expect(&self.id, &id, millis(who.session_timeout_ms));
            env.schedule(&self.id, Event::Resync(Arc::clone(&id)), millis(who.rebalance_timeout_ms));
        }
        Joined {
            generation: self.members.get(&id).map_or(0, |member| member.epoch),
            protocol_type: Some(CONSUMER.to_owned()),
            protocol: who.protocols.first().map(|protocol| protocol.name.clone()),
            leader: String::new(),
            skip_assignment: false,
            member_id: id.to_string(),
            members: Vec::new(),
        }
    }

    /// A classic member asks for its assignment.
    pub(in super::super) fn sync(&mut self, env: &mut Env<'_>, by: &SyncBy<'_>) -> Result<Synced, ErrorCode> {
        let id = self.classic_member(&by.claim)?;
        let member = &self.members[&id];
        let side = member.classic.as_ref().ok_or(ErrorCode::UnknownMemberId)?;
        let protocol = side.protocols.first().ok_or(ErrorCode::InconsistentGroupProtocol)?;
        if by.protocol_type.is_some_and(|theirs| theirs != CONSUMER)
            || by.protocol.is_some_and(|theirs| theirs != protocol.name)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        if self.assignment_epoch > member.epoch && member.progress != Progress::Unrevoked {
            self.expect_rejoin(env, &id);
            return Err(ErrorCode::RebalanceInProgress);
        }
        let partitions = member.assigned.iter().map(|(topic, held)| (*topic, held.keys().copied().collect()));
        let assignment = written(env.catalog, partitions, &protocol.metadata);
        let session_timeout = millis(side.session_timeout_ms);
        env.cancel(&self.id, Event::Resync(Arc::clone(&id)));
        env.expect(&self.id, &id, session_timeout);
        Ok(Synced {
            protocol_type: by.protocol_type.map(str::to_owned),
            protocol: by.protocol.map(str::to_owned),
            assignment,
        })
    }

    /// A classic member is there, and learns whether it must join again.
    pub(in super::super) fn classic_beat(&mut self, env: &mut Env<'_>, claim: &Claim<'_>) -> Result<(), ErrorCode> {
        let id = self.classic_member(claim)?;
        let member = &self.members[&id];
        let session_timeout = member.classic.as_ref().map_or(0, |side| side.session_timeout_ms);
        env.expect(&self.id, &id, millis(session_timeout));
        let must_rejoin = member.epoch < self.assignment_epoch
            || member.progress == Progress::Unrevoked
            || (member.progress == Progress::Unreleased && !self.waits_for_others(member));
        if must_rejoin {
            self.expect_rejoin(env, &id);
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// Members leave by the classic request, whichever protocol they speak.
    pub(in super::super) fn classic_leave(
        &mut self,
        env: &mut Env<'_>,
        leavers: &[Leaver<'_>],
    ) -> Vec<Result<(), ErrorCode>> {
        let find = |leaver: &Leaver<'_>| match leaver.instance_id {
            None => self.known_member(leaver.member_id).map_err(|reject| reject.code),
            Some(instance) if leaver.member_id.is_empty() => {
                self.static_members.get(instance).map(Arc::clone).ok_or(ErrorCode::UnknownMemberId)
            }
            Some(instance) => self.static_member(instance, leaver.member_id).map_err(|reject| reject.code),
        };
        let found: Vec<Result<Arc<str>, ErrorCode>> = leavers.iter().map(find).collect();
        let ids: BTreeSet<Arc<str>> = found.iter().flatten().cloned().collect();
        self.dismiss(env, &ids, "it has left");
        found.into_iter().map(|found| found.map(|_| ())).collect()
    }

    pub(in super::super) fn rejoin_is_due(&mut self, env: &mut Env<'_>, id: &str) {
        self.dismiss_known(env, id, "it has not joined again in time");
    }

    pub(in super::super) fn resync_is_due(&mut self, env: &mut Env<'_>, id: &str) {
        self.dismiss_known(env, id, "it has not asked for its assignment in time");
    }

    // ---- from classic to consumer ----

    /// The members of a classic group as a consumer group (`ConsumerGroup.fromClassicGroup`).
    pub(in super::super) fn upgraded(classic: &mut Classic, env: &mut Env<'_>, group: &str) -> Result<Self, Reject> {
        let refuse = |why: &str| {
            let message = format!("classic group {group} cannot go on as a consumer group: {why}");
            Err(Reject::new(ErrorCode::GroupIdNotFound, message))
        };
        if !env.settings.may_upgrade {
            return refuse("group.consumer.migration.policy forbids it");
        }
        if !classic.is_of_consumers() {
            return refuse("its protocol is not that of consumers");
        }
        if classic.size() > env.settings.consumer_max_size {
            return refuse("it has more members than group.consumer.max.size allows");
        }
        let (generation, protocol, members) = classic.upgrade(env);
        let mut consumer = Self { epoch: generation, assignment_epoch: generation, ..Self::new(&Arc::from(group)) };
        for classic in members {
            let assigned = Assigned::read(classic.assignment.clone());
            let read = assigned.and_then(|assigned| Ok((assigned, Subscription::read(classic.metadata(&protocol))?)));
            let (assigned, subscription) = match read {
                Ok(read) => read,
                Err(Malformed::Short) => return refuse("a subscription or an assignment cannot be read"),
                // Kafka expects the end of the bytes, but not a length that is not true.
                Err(Malformed::Lie) => return Err(ErrorCode::UnknownServerError.into()),
            };
            if !assigned.user_data.is_empty() {
                return refuse(
                    "an unsupported custom assignor is in use. Please refer to the documentation or switch to a \
                     default assignor before re-attempting the upgrade.",
                );
            }
            consumer.take_in(env.catalog, classic, generation, subscription, &assigned);
        }
        consumer.known = consumer.known_topics(env.catalog);
        Ok(consumer)
    }

    fn take_in(
        &mut self,
        catalog: &Catalog,
        classic: ClassicMember,
        generation: i32,
        subscription: Subscription,
        assigned: &Assigned,
    ) {
        let share: Partitions = by_id(catalog, &assigned.partitions)
            .into_iter()
            .map(|(topic, indices)| (topic, indices.into_iter().collect()))
            .collect();
        let with_epoch = |indices: &BTreeSet<i32>| indices.iter().map(|index| (*index, generation)).collect();
        let held: Held = share.iter().map(|(topic, indices)| (*topic, with_epoch(indices))).collect();
        let member = Member {
            epoch: generation,
            previous_epoch: generation,
            instance_id: classic.instance_id,
            rack: subscription.rack.filter(|rack| !rack.is_empty()),
            rebalance_timeout_ms: in_ms(classic.rebalance_timeout),
            client_id: classic.client_id,
            client_host: classic.client_host,
            topics: subscription.topics.into_iter().collect(),
            assigned: held,
            classic: Some(ClassicSide {
                session_timeout_ms: in_ms(classic.session_timeout),
                protocols: classic.protocols,
            }),
            ..Member::new(&classic.id)
        };
        self.target.insert(Arc::clone(&member.id), share);
        self.enrol(&member.clone(), member);
    }

    /// Begins to expect the members of what was a classic group.
    pub(in super::super) fn expect_all(&self, env: &mut Env<'_>) {
        for member in self.members.values() {
            let session_timeout = member.classic.as_ref().map_or(0, |side| side.session_timeout_ms);
            env.expect(&self.id, &member.id, millis(session_timeout));
        }
    }

    // ---- from consumer to classic ----

    pub(in super::super) fn take_downgrade(&mut self) -> Option<Downgrade> {
        self.downgrade.take()
    }

    /// Whether only classic members are left when these go.
    pub(super) fn may_downgrade_without(&self, env: &Env<'_>, leaving: &BTreeSet<Arc<str>>) -> bool {
        let mut staying = self.members.values().filter(|member| !leaving.contains(&member.id)).peekable();
        staying.peek().is_some()
            && staying.all(Member::uses_classic)
            && env.settings.may_downgrade
            && self.members.len() - leaving.len() <= env.settings.max_size
    }

    pub(super) fn downgrade_without(&mut self, env: &mut Env<'_>, leaving: &BTreeSet<Arc<str>>) {
        self.begin_downgrade(env, self.epoch, leaving, true);
    }

    /// Whether only classic members are left when this static member is replaced by one.
    fn may_downgrade_for(&self, env: &Env<'_>, instance: Option<&str>) -> bool {
        let replaced = instance.and_then(|instance| self.static_members.get(instance));
        replaced.is_some_and(|replaced| {
            !self.members[replaced].uses_classic()
                && self.members.values().all(|member| member.id == *replaced || member.uses_classic())
                && env.settings.may_downgrade
                && self.members.len() <= env.settings.max_size
        })
    }

    fn begin_downgrade(&mut self, env: &mut Env<'_>, epoch: i32, leaving: &BTreeSet<Arc<str>>, rebalance: bool) {
        tracing::debug!(group = %self.id, epoch, "goes on as a classic group");
        let staying = self.members.values().filter(|member| !leaving.contains(&member.id));
        let mut members: Vec<ClassicMember> = staying.filter_map(as_classic).collect();
        env.timers.cancel_all_of(&self.id);
        let chosen = Classic::downgraded(&self.id, env.now, epoch, members.clone()).chosen_protocol();
        for member in &mut members {
            let target = self.target.get(&member.id).into_iter().flatten();
            let partitions = target.map(|(topic, indices)| (*topic, indices.iter().copied().collect()));
            member.assignment = written(env.catalog, partitions, &member.metadata(&chosen));
        }
        let classic = Classic::downgraded(&self.id, env.now, epoch, members);
        self.downgrade = Some(Downgrade { classic, rebalance });
    }

    // ---- small facts and steps ----

    fn classic_place(&self, who: &Candidate<'_>, id: &str) -> Result<Place, Reject> {
        let known = |id: &str| self.members.get(id).map_or(Place::New, |member| Place::Known(Arc::clone(&member.id)));
        let Some(instance) = who.instance_id else { return Ok(known(id)) };
        match self.static_members.get(instance) {
            None if who.member_id.is_empty() => Ok(known(id)),
            Some(current) if who.member_id.is_empty() => Ok(Place::Replaces(Arc::clone(current))),
            _ => self.static_member(instance, who.member_id).map(Place::Known),
        }
    }

    /// Whether all classic members have one of the joining member's protocols.
    fn supports_classic(&self, who: &Candidate<'_>) -> bool {
        let sides: Vec<&ClassicSide> = self.members.values().filter_map(|member| member.classic.as_ref()).collect();
        let all_have = |name: &str| sides.iter().all(|side| side.protocols.iter().any(|p| p.name == name));
        who.protocol_type == CONSUMER && who.protocols.iter().any(|protocol| all_have(&protocol.name))
    }

    fn classic_member(&self, claim: &Claim<'_>) -> Result<Arc<str>, ErrorCode> {
        let id = match claim.instance_id {
            None => self.known_member(claim.member_id),
            Some(instance) => self.static_member(instance, claim.member_id),
        };
        let id = id.map_err(|reject| reject.code)?;
        let member = &self.members[&id];
        if !member.uses_classic() {
            return Err(ErrorCode::UnknownMemberId);
        }
        if member.epoch != claim.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        Ok(id)
    }

    fn waits_for_others(&self, member: &Member) -> bool {
        let target = self.target.get(&member.id).into_iter().flatten();
        let mut missing = target.flat_map(|(topic, indices)| indices.iter().map(move |index| (*topic, *index)));
        missing.any(|(topic, index)| {
            !member.assigned.get(&topic).is_some_and(|held| held.contains_key(&index))
                && self.members.values().any(|other| other.holds(topic, index))
        })
    }

    fn expect_rejoin(&self, env: &mut Env<'_>, id: &Arc<str>) {
        let within = millis(self.members[id].rebalance_timeout_ms);
        let timer = Timer { group: Arc::clone(&self.id), event: Event::Rejoin(Arc::clone(id)) };
        env.timers.schedule_if_absent(timer, env.now + within);
    }
}

fn with_classic_side(mut member: Member, who: &Candidate<'_>, subscription: Subscription) -> Member {
    if let Some(instance) = who.instance_id {
        member.instance_id = Some(Arc::from(instance));
    }
    if let Some(rack) = subscription.rack.filter(|rack| !rack.is_empty()) {
        member.rack = Some(rack);
    }
    if who.rebalance_timeout_ms != -1 {
        member.rebalance_timeout_ms = who.rebalance_timeout_ms;
    }
    member.topics = subscription.topics.into_iter().collect();
    member.regex.clear();
    who.client_id.clone_into(&mut member.client_id);
    who.client_host.clone_into(&mut member.client_host);
    member.classic = Some(ClassicSide { session_timeout_ms: who.session_timeout_ms, protocols: who.protocols.clone() });
    member
}

fn as_classic(member: &Member) -> Option<ClassicMember> {
    let side = member.classic.as_ref()?;
    Some(ClassicMember {
        id: Arc::clone(&member.id),
        instance_id: member.instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        session_timeout: millis(side.session_timeout_ms),
        rebalance_timeout: millis(member.rebalance_timeout_ms),
        protocols: side.protocols.clone(),
        assignment: Bytes::new(),
        awaiting_join: None,
        awaiting_sync: None,
        is_new: false,
    })
}

/// Partitions of topics that exist, by id.
fn by_id(catalog: &Catalog, partitions: &[(String, Vec<i32>)]) -> Vec<(Uuid, Vec<i32>)> {
    let named = partitions.iter();
    named.filter_map(|(name, indices)| catalog.get(name).map(|facts| (facts.id, indices.clone()))).collect()
}

/// Partitions of topics that exist as an assignment of the classic protocol, in the version of the subscription.
fn written(catalog: &Catalog, shares: impl Iterator<Item = (Uuid, Vec<i32>)>, subscription: &Bytes) -> Bytes {
    let version = subscription.first_chunk().map_or(0, |bytes| i16::from_be_bytes(*bytes));
    let partitions =
        shares.filter_map(|(topic, indices)| catalog.name_of(topic).map(|name| (name.to_owned(), indices)));
    Assigned { partitions: partitions.collect(), user_data: Bytes::new() }.write(version)
}

fn in_ms(span: std::time::Duration) -> i32 {
    i32::try_from(span.as_millis()).unwrap_or(i32::MAX)
}

/// An id as Kafka's own, since it is the coordinator that names a classic member.
fn new_id(rng: &mut impl rand::Rng) -> String {
    Uuid::from_bytes(rng.random()).to_string()
}
