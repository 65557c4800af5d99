//! The brokers' own word: looks at the cluster after every step that can have changed something, and writes down what
//! is otherwise than before. It reads and changes nothing, so a run goes the same way with it and without.
//!
//! What it writes has the time of the step. Whoever merges it with what the programs saw puts it first at equal times:
//! an answer takes a while to travel, so a cause is always earlier than what it causes.

use crate::history::{Event, Eviction, Place, Stamp, TopicPartition, What};
use crate::host::name_of;
use crate::name::Name;
use rehearsal_mockbroker::cluster::Cluster;
use rehearsal_mockbroker::state::groups::{GroupView, MemberView, State};
use rehearsal_mockbroker::state::topics::Partition;
use rehearsal_mockbroker::wire::batch::{self, BatchHeader, Record};
use rehearsal_mockbroker::wire::generated::consumer_protocol_assignment::ConsumerProtocolAssignment;
use rehearsal_mockbroker::wire::{ApiKey, Message, Reader};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// Remembers how everything was when it last looked.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    topics: Vec<Name>,
    groups: Vec<Name>,
    partitions: BTreeMap<TopicPartition, Known>,
    offsets: BTreeMap<(Name, TopicPartition), i64>,
    members: BTreeMap<Name, KnownGroup>,
    seen: Vec<Event>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Known {
    leader: Option<i32>,
    epoch: i32,
    start: i64,
    stable: i64,
    high: i64,
    end: i64,
}

#[derive(Debug, Default)]
struct KnownGroup {
    generation: i32,
    /// When that was.
    formed: Option<Duration>,
    /// By member id.
    members: BTreeMap<String, (Name, Option<String>)>,
}

impl Witness {
    /// One that looks at these topics, and at what these groups do with them.
    pub(crate) fn of(topics: Vec<Name>, groups: Vec<Name>) -> Self {
        Self { topics, groups, ..Self::default() }
    }

    /// What it has seen since this was last asked.
    pub(crate) fn take_seen(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.seen)
    }

    /// When a group's members last agreed on who has what, as far as it has looked.
    pub(crate) fn formed(&self, group: &str) -> Option<Duration> {
        self.members.get(group)?.formed
    }

    /// Looks. `asked` is the request that was just received, and from which client; `None` when time passed, or somebody
    /// gave a command.
    pub(crate) fn look(&mut self, cluster: &Cluster, at: Duration, asked: Option<(ApiKey, &str)>) {
        let client = asked.map(|(_, client)| client);
        let asked = asked.map(|(api, _)| api);
        use ApiKey::{Fetch, Heartbeat, JoinGroup, LeaveGroup, OffsetCommit, Produce, SyncGroup};
        if matches!(asked, None | Some(Produce | Fetch)) {
            self.look_at_logs(cluster, at);
        }
        if matches!(asked, None | Some(OffsetCommit | JoinGroup | SyncGroup | LeaveGroup | Heartbeat)) {
            self.look_at_groups(cluster, at, asked, client);
        }
    }

    fn look_at_logs(&mut self, cluster: &Cluster, at: Duration) {
        for topic in &self.topics {
            for (index, partition) in (0_i32..).zip(cluster.partitions(topic)) {
                let tp = TopicPartition::new(topic.clone(), index);
                let now = Known::of(partition);
                let before = self.partitions.get(&tp).cloned().unwrap_or_default();
                if now == before {
                    continue;
                }
                let node = now.leader.map_or_else(|| crate::history::WORLD.into(), broker);
                let mut see = |what| self.seen.push(Event { at, node: node.clone(), what });
                if let Some(leader) = now.leader.filter(|_| now.epoch != before.epoch || before.leader.is_none()) {
                    see(What::Elected {
                        partition: tp.clone(),
                        leader: broker(leader),
                        epoch: now.epoch,
                        unclean: false,
                    });
                }
                if now.end > before.end {
                    stored_from(partition, before.end).for_each(|(offset, header, record)| {
                        see(stored(&tp, offset, &header, &record));
                    });
                }
                let Known { epoch, start, stable, high, end, .. } = now;
                see(What::Watermarks { partition: tp.clone(), leader_epoch: epoch, start, stable, high, end });
                self.partitions.insert(tp, now);
            }
        }
    }

    fn look_at_groups(&mut self, cluster: &Cluster, at: Duration, asked: Option<ApiKey>, client: Option<&str>) {
        for group in self.groups.clone() {
            let view = cluster.group(&group);
            if asked != Some(ApiKey::Heartbeat) {
                self.look_at_offsets(cluster, at, &group, view.as_ref().map_or(-1, |view| view.generation));
            }
            if asked != Some(ApiKey::OffsetCommit)
                && let Some(view) = view
            {
                self.look_at_members(at, &group, &view, asked, client);
            }
        }
    }

    fn look_at_offsets(&mut self, cluster: &Cluster, at: Duration, group: &Name, generation: i32) {
        let mut there = false;
        for (topic, index, committed) in cluster.committed_offsets(group) {
            there = true;
            let partition = TopicPartition::new(topic, index);
            let key = (group.clone(), partition.clone());
            if self.offsets.get(&key) == Some(&committed.offset) {
                continue;
            }
            self.offsets.insert(key, committed.offset);
            let what = What::OffsetStored { group: group.clone(), partition, offset: committed.offset, generation };
            self.seen.push(Event { at, node: coordinator(cluster, group), what });
        }
        if !there && self.offsets.keys().any(|(of, _)| of == group) {
            self.offsets.retain(|(of, _), _| of != group);
            let what = What::OffsetsExpired { group: group.clone() };
            self.seen.push(Event { at, node: coordinator(cluster, group), what });
        }
    }

    fn look_at_members(
        &mut self,
        at: Duration,
        group: &Name,
        view: &GroupView,
        asked: Option<ApiKey>,
        client: Option<&str>,
    ) {
        let known = self.members.entry(group.clone()).or_default();
        // While its coordinator moves a group has no members to be seen, and nobody has been put out.
        if view.state == State::Dead {
            return;
        }
        let node: Name = format!("{group}'s coordinator").into();
        let mut see = |what| self.seen.push(Event { at, node: node.clone(), what });
        for (id, (member, instance)) in &known.members {
            if view.members.iter().any(|now| now.member_id == *id) {
                continue;
            }
            let replaced = instance.is_some() && view.members.iter().any(|now| now.group_instance_id == *instance);
            let why = match asked {
                _ if replaced => Eviction::Replaced,
                Some(ApiKey::LeaveGroup) => Eviction::Left,
                _ if view.state == State::PreparingRebalance => Eviction::Rebalance,
                _ => Eviction::Session,
            };
            see(What::Evicted { group: group.clone(), member: member.clone(), why });
        }
        // A member that takes another's place by its instance id keeps the client id of the one before
        // (`ClassicGroup.replaceStaticMember`): whose request it came with is the better word.
        let newcomer = client.filter(|_| asked == Some(ApiKey::JoinGroup));
        let named = |member: &MemberView| {
            let before = known.members.get(&member.member_id).map(|(node, _)| node.clone());
            let node = before.unwrap_or_else(|| newcomer.unwrap_or(&member.client_id).into());
            (member.member_id.clone(), (node, member.group_instance_id.clone()))
        };
        let members: BTreeMap<_, _> = view.members.iter().map(named).collect();
        known.members = members;
        if view.state == State::Stable && view.generation != known.generation {
            known.generation = view.generation;
            known.formed = Some(at);
            let owners =
                view.members.iter().map(|member| (member.client_id.as_str().into(), assigned(member))).collect();
            see(What::Rebalanced { group: group.clone(), generation: view.generation, owners });
        }
    }
}

impl Known {
    fn of(partition: &Partition) -> Self {
        Self {
            leader: partition.leader.map(|node| node.0),
            epoch: partition.leader_epoch,
            start: partition.log.start_offset(),
            stable: partition.log.last_stable_offset(),
            high: partition.log.high_watermark(),
            end: partition.log.end_offset(),
        }
    }
}

fn broker(id: i32) -> Name {
    name_of(rehearsal_mockbroker::state::nodes::NodeId(id)).into()
}

/// The broker that coordinates a group now.
fn coordinator(cluster: &Cluster, group: &str) -> Name {
    leader_of_group(cluster, group).map_or_else(|| crate::history::WORLD.into(), broker)
}

/// The id of the broker that coordinates a group now.
pub(super) fn leader_of_group(cluster: &Cluster, group: &str) -> Option<i32> {
    let index = usize::try_from(cluster.coordinator_partition(group)).ok()?;
    let partitions = cluster.partitions(rehearsal_mockbroker::state::topics::OFFSETS_TOPIC);
    partitions.get(index)?.leader.map(|node| node.0)
}

/// What a member has by the coordinator's word.
pub(super) fn assigned(member: &MemberView) -> Vec<TopicPartition> {
    // The version comes first, two bytes; what we read of it has been the same since version 0.
    let Some(body) = member.assignment.get(2..) else { return Vec::new() };
    let assignment = ConsumerProtocolAssignment::decode(&mut Reader::new(member.assignment.slice_ref(body)), 0);
    let topics = assignment.map(|assignment| assignment.assigned_partitions).unwrap_or_default();
    let each = topics.into_iter().flat_map(|topic| {
        topic.partitions.into_iter().map(move |index| TopicPartition::new(topic.topic.as_str(), index))
    });
    each.collect()
}

/// The records a partition has from this offset on, with the headers of their batches.
pub(super) fn stored_from(partition: &Partition, from: i64) -> impl Iterator<Item = (i64, BatchHeader, Record)> {
    let newest_first = partition.log.batches().rev().map(|batch| &batch.bytes);
    let mut batches: Vec<_> = newest_first
        .filter_map(|bytes| Some((BatchHeader::parse(bytes).ok()?, bytes)))
        .take_while(|(header, _)| header.last_offset() >= from)
        .collect();
    batches.reverse();
    batches.into_iter().filter(|(header, _)| !header.is_control()).flat_map(move |(header, bytes)| {
        let records = batch::records(bytes).unwrap_or_default();
        records
            .into_iter()
            .map(move |record| (header.base_offset + i64::from(record.offset_delta), header.clone(), record))
            .filter(move |(offset, ..)| *offset >= from)
    })
}

fn stored(tp: &TopicPartition, offset: i64, header: &BatchHeader, record: &Record) -> What {
    let stamp = header.has_producer_id().then(|| Stamp {
        producer: header.producer_id,
        epoch: header.producer_epoch,
        sequence: header.base_sequence.wrapping_add(record.offset_delta),
    });
    What::Stored {
        at: Place { tp: tp.clone(), offset },
        message: message(record),
        aggregate: aggregate(record),
        stamp,
        transaction: None,
        leader_epoch: header.partition_leader_epoch,
        digest: digest(record),
    }
}

/// The name of the message in a record.
pub(super) fn message(record: &Record) -> Name {
    #[derive(serde::Deserialize)]
    struct Named {
        message: String,
    }
    let value = record.value.as_deref().unwrap_or_default();
    serde_json::from_slice::<Named>(value).map_or_else(|_| "nameless".into(), |named| named.message.into())
}

/// Its key.
pub(super) fn aggregate(record: &Record) -> Option<Name> {
    Some(String::from_utf8_lossy(record.key.as_deref()?).into_owned().into())
}

/// Of key, value and headers, without those a dead letter adds.
pub(super) fn digest(record: &Record) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&record.key, &record.value).hash(&mut hasher);
    record.headers.iter().filter(|(name, _)| !name.starts_with(b"dlq_")).for_each(|header| header.hash(&mut hasher));
    hasher.finish()
}
