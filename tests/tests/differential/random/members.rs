//! Members of groups: what each was told, and which of them wait for their group.
//!
//! A member that waits says nothing more on its connection until it is answered; operations that would use it do nothing.
//! Who is released by an operation is collected right after it, in the order of the slots.

use std::time::{Duration, Instant};

use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatResponse, DeleteGroupsRequest, GroupId, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, ListGroupsRequest, OffsetDeleteRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;
use tests::differential::{Awaited, Link, Stage};

use super::draw::{CONSUMERS, GROUPS, MEMBERS, Op, Word};
use super::world::World;
use crate::verbs::{subscription, text};
use crate::{consumer_groups, groups, offsets};

/// Long enough that no session ends while a sequence is played.
const SESSION_MS: i32 = 900_000;
/// A member that is not answered within this time, in a group that goes on joining, waits for others. Kafka says for a
/// moment that a group joins even when nobody is waited for.
const PARKED_AFTER: Duration = Duration::from_millis(300);

/// Everybody who can be in a group.
pub(super) struct Members {
    classic: Vec<Member>,
    /// What each consumer of each group was last told.
    told: Vec<ConsumerGroupHeartbeatResponse>,
}

struct Member {
    link: Link,
    group: u8,
    /// Its name across restarts.
    instance: Option<StrBytes>,
    joined: JoinGroupResponse,
    waits: Option<Waits>,
}

enum Waits {
    Join(Awaited<JoinGroupRequest>),
    Sync(Awaited<SyncGroupRequest>),
}

impl Members {
    pub(super) fn new(stage: &mut Stage) -> Self {
        let member = |slot: u8| Member {
            link: stage.connect(&format!("m{slot}")),
            group: slot / 2,
            instance: (slot == 3).then(|| text("i3")),
            joined: JoinGroupResponse::default(),
            waits: None,
        };
        let told = vec![ConsumerGroupHeartbeatResponse::default(); usize::from(GROUPS) * CONSUMERS.len()];
        Self { classic: (0..MEMBERS).map(member).collect(), told }
    }

    pub(super) fn group(&self, stage: &Stage, slot: u8) -> GroupId {
        stage.group(&format!("g{slot}"))
    }

    fn told(&mut self, group: u8, consumer: u8) -> &mut ConsumerGroupHeartbeatResponse {
        &mut self.told[usize::from(group) * CONSUMERS.len() + usize::from(consumer)]
    }
}

impl World<'_> {
    /// Asks what a group operation says, then collects the answers of whoever needs not wait any more.
    pub(super) fn in_group(&mut self, label: &str, op: &Op) {
        match *op {
            Op::Join { member, topic, protocols, anew, version } => {
                if let Some(request) = self.join_of(member, topic, protocols, anew, version) {
                    self.send_join(label, member, version, &request);
                }
            }
            Op::Sync { member, generation, version } => self.sync(label, member, generation, version),
            Op::Beat { member, generation, version } => self.beat(label, member, generation, version),
            Op::Leave { member, version } => self.leave(label, member, version),
            Op::Commit { .. } | Op::Committed { .. } | Op::Forget { .. } | Op::CommitAs { .. } => {
                self.on_offsets(label, op);
            }
            Op::DescribeGroup { group, version } => {
                let group = self.members.group(self.stage, group);
                self.stage.ask(label, version, &groups::describe(&[&group]));
            }
            Op::DeleteGroup { group, version } => {
                let group = self.members.group(self.stage, group);
                self.stage.ask(label, version, &DeleteGroupsRequest::default().with_groups_names(vec![group]));
            }
            Op::ListGroups { version } => {
                self.stage.ask_for_mine(label, version, &ListGroupsRequest::default());
            }
            Op::Consume { group, consumer, word, version } => self.consume(label, group, consumer, word, version),
            Op::DescribeConsumers { group, version } => {
                let group = self.members.group(self.stage, group);
                self.stage.ask(label, version, &consumer_groups::describe(&[&group]));
            }
            _ => unreachable!("{op:?} is no operation on a group"),
        }
        self.collect_released(label);
    }

    // ---- the classic protocol ----------------------------------------------------------------------------------------

    /// `None` when the member waits.
    fn join_of(&self, slot: u8, topic: u8, protocols: u8, anew: bool, version: i16) -> Option<JoinGroupRequest> {
        let member = self.free(slot)?;
        let names: &[&str] = match protocols {
            0 => &["range", "sticky"],
            1 => &["sticky", "range"],
            2 => &["range"],
            3 => &["sticky"],
            _ => &[],
        };
        let words = subscription(&self.topic(topic), &format!("m{slot}"));
        let protocol =
            |name: &&str| JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(words.clone());
        let request = JoinGroupRequest::default()
            .with_group_id(self.members.group(self.stage, member.group))
            .with_session_timeout_ms(SESSION_MS)
            .with_rebalance_timeout_ms(SESSION_MS)
            .with_member_id(if anew { StrBytes::default() } else { member.joined.member_id.clone() })
            .with_protocol_type(text("consumer"))
            .with_protocols(names.iter().map(protocol).collect());
        Some(match version {
            5.. => request.with_group_instance_id(member.instance.clone()),
            _ => request,
        })
    }

    fn send_join(&mut self, label: &str, slot: u8, version: i16, request: &JoinGroupRequest) {
        let Member { link, group, .. } = self.members.classic[usize::from(slot)];
        let awaited = self.stage.send(link, version, request);
        let sent = Instant::now();
        let parked = loop {
            if self.stage.answers_within(link, Duration::from_millis(20)) || sent.elapsed() > tests::raw::PATIENCE {
                break false;
            }
            if sent.elapsed() > PARKED_AFTER && self.state_of(group) == "PreparingRebalance" {
                break !self.stage.answers_within(link, Duration::from_millis(1));
            }
        };
        if parked {
            self.stage.note(label, "waits to join");
            self.members.classic[usize::from(slot)].waits = Some(Waits::Join(awaited));
        } else {
            let answer = self.stage.collect(label, awaited);
            self.joined(slot, answer);
        }
    }

    /// A member keeps the id it was given, also with the refusal to join without one.
    fn joined(&mut self, slot: u8, answer: JoinGroupResponse) {
        let member = &mut self.members.classic[usize::from(slot)];
        match answer.error_code {
            0 => member.joined = answer,
            79 => member.joined.member_id = answer.member_id,
            25 => member.joined.member_id = StrBytes::default(),
            _ => {}
        }
    }

    fn sync(&mut self, label: &str, slot: u8, generation: i32, version: i16) {
        let Some(member) = self.free(slot) else { return };
        let group = self.members.group(self.stage, member.group);
        let ids: Vec<StrBytes> = member.joined.members.iter().map(|member| member.member_id.clone()).collect();
        let shares: Vec<(&StrBytes, &str)> = ids.iter().map(|id| (id, "a share")).collect();
        let mut request = groups::sync(&group, &member.joined, &shares);
        request.generation_id += generation;
        if version >= 3 {
            request.group_instance_id = member.instance.clone();
        }
        if version >= 5 {
            request.protocol_type = Some(text("consumer"));
            request.protocol_name = member.joined.protocol_name.clone().or(Some(text("range")));
        }
        let link = member.link;
        let group = member.group;
        let awaited = self.stage.send(link, version, &request);
        let sent = Instant::now();
        let answered = loop {
            if self.stage.answers_within(link, Duration::from_millis(30)) {
                break true;
            }
            if self.state_of(group) == "CompletingRebalance" || sent.elapsed() > tests::raw::PATIENCE {
                break self.stage.answers_within(link, Duration::from_millis(30));
            }
        };
        if answered {
            self.stage.collect(label, awaited);
        } else {
            self.stage.note(label, "waits for its share");
            self.members.classic[usize::from(slot)].waits = Some(Waits::Sync(awaited));
        }
    }

    fn beat(&mut self, label: &str, slot: u8, generation: i32, version: i16) {
        let Some(member) = self.free(slot) else { return };
        let group = self.members.group(self.stage, member.group);
        let mut request = groups::beat(&group, member.joined.generation_id + generation, &member.joined.member_id);
        if version >= 3 {
            request.group_instance_id = member.instance.clone();
        }
        let link = member.link;
        self.stage.ask_on(link, label, version, &request);
    }

    fn leave(&mut self, label: &str, slot: u8, version: i16) {
        let member = &self.members.classic[usize::from(slot)];
        let group = self.members.group(self.stage, member.group);
        let id = member.joined.member_id.clone();
        let request = match version {
            3.. => {
                let identity =
                    MemberIdentity::default().with_member_id(id).with_group_instance_id(member.instance.clone());
                LeaveGroupRequest::default().with_group_id(group).with_members(vec![identity])
            }
            _ => LeaveGroupRequest::default().with_group_id(group).with_member_id(id),
        };
        self.stage.ask(label, version, &request);
    }

    /// The member, unless it waits.
    fn free(&self, slot: u8) -> Option<&Member> {
        Some(&self.members.classic[usize::from(slot)]).filter(|member| member.waits.is_none())
    }

    /// The state the broker says a group is in, unrecorded.
    fn state_of(&mut self, group: u8) -> String {
        let group = self.members.group(self.stage, group);
        let answer = self.stage.quietly(5, &groups::describe(&[&group])).unwrap_or_default();
        answer.groups.first().map(|group| group.group_state.to_string()).unwrap_or_default()
    }

    fn collect_released(&mut self, label: &str) {
        for slot in 0..MEMBERS {
            let member = &self.members.classic[usize::from(slot)];
            let (link, group) = (member.link, member.group);
            let goes_on_in = match &member.waits {
                None => continue,
                Some(Waits::Join(_)) => "PreparingRebalance",
                Some(Waits::Sync(_)) => "CompletingRebalance",
            };
            if self.state_of(group) == goes_on_in && !self.stage.answers_within(link, Duration::from_millis(30)) {
                continue;
            }
            let label = format!("{label}: member {slot} is released");
            match self.members.classic[usize::from(slot)].waits.take() {
                Some(Waits::Join(awaited)) => {
                    let answer = self.stage.collect(&label, awaited);
                    self.joined(slot, answer);
                }
                Some(Waits::Sync(awaited)) => drop(self.stage.collect(&label, awaited)),
                None => {}
            }
        }
    }

    // ---- offsets -----------------------------------------------------------------------------------------------------

    fn on_offsets(&mut self, label: &str, op: &Op) {
        match *op {
            Op::Commit { group, member, topic, partition, offset, generation, version } => {
                let row = offsets::row(partition, offset, Some("noted"));
                let group = self.members.group(self.stage, group);
                let mut request = offsets::commit(&group, &self.topic(topic), vec![row]);
                if let Some(member) = member.map(|slot| &self.members.classic[usize::from(slot)]) {
                    request.group_id = self.members.group(self.stage, member.group);
                    request.member_id = member.joined.member_id.clone();
                    request.generation_id_or_member_epoch = member.joined.generation_id + generation;
                    request.group_instance_id = member.instance.clone().filter(|_| version >= 7);
                }
                self.stage.ask(label, version, &request);
            }
            Op::Committed { group, topic, stable, version } => {
                let group = self.members.group(self.stage, group);
                let topic = topic.map(|topic| self.topic(topic));
                let wanted = topic.as_ref().map(|topic| [(topic, &[0, 1][..])]);
                let wanted = wanted.as_ref().map(|wanted| &wanted[..]);
                let request = match version {
                    8.. => offsets::committed_by(&[(&group, wanted)]),
                    // Version 1 cannot ask for all.
                    ..2 => offsets::committed(&group, wanted.or(Some(&[]))),
                    _ => offsets::committed(&group, wanted),
                };
                self.stage.ask(label, version, &request.with_require_stable(stable && version >= 7));
            }
            Op::Forget { group, topic, partition } => {
                let row = OffsetDeleteRequestPartition::default().with_partition_index(partition);
                let row = OffsetDeleteRequestTopic::default().with_name(self.topic(topic)).with_partitions(vec![row]);
                let group = self.members.group(self.stage, group);
                let request = OffsetDeleteRequest::default().with_group_id(group).with_topics(vec![row]);
                self.stage.ask(label, 0, &request);
            }
            Op::CommitAs { group, consumer, epoch, topic } => {
                let epoch = self.members.told(group, consumer).member_epoch + epoch;
                let group = self.members.group(self.stage, group);
                let request = offsets::commit_as(&group, CONSUMERS[usize::from(consumer)], epoch, &self.topic(topic));
                self.stage.ask(label, 9, &request);
            }
            _ => {}
        }
    }

    // ---- the consumer protocol ---------------------------------------------------------------------------------------

    fn consume(&mut self, label: &str, group: u8, consumer: u8, word: Word, version: i16) {
        let id = self.members.group(self.stage, group);
        let name = CONSUMERS[usize::from(consumer)];
        let told = self.members.told(group, consumer).clone();
        let beat = consumer_groups::beat(&id, name, told.member_epoch);
        let request = match word {
            Word::Join(topic) => consumer_groups::join(&id, name, &[&self.topic(topic)]),
            Word::Beat => beat,
            Word::Hold => {
                let mut told = told.clone();
                told.member_id = Some(text(name));
                consumer_groups::holding(&id, &told)
            }
            Word::Subscribe(topic) => beat.with_subscribed_topic_names(Some(vec![self.topic(topic)])),
            Word::Skewed(by) => beat.with_member_epoch(told.member_epoch + by),
            Word::Leave => beat.with_member_epoch(-1),
        };
        let answer = self.stage.ask(label, version, &request);
        if answer.error_code == 0 {
            // An assignment that is not repeated still holds.
            let assignment = answer.assignment.clone().or(told.assignment);
            let assignment = assignment.filter(|_| word != Word::Leave);
            *self.members.told(group, consumer) = answer.with_assignment(assignment);
        }
    }
}
