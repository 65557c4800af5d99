//! A streams group as others may see it.

use super::member::{Member, TaskSets, Tasks};
use super::topology::Topology;
use super::{Streams, Subtopology};
use serde::Serialize;

/// A streams group as others may see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamsGroupView {
    /// Its id.
    pub group_id: String,
    /// `Empty`, `NotReady`, `Assigning`, `Reconciling` or `Stable`.
    pub state: &'static str,
    /// How often members, topology or topics have changed.
    pub epoch: i32,
    /// The epoch its tasks were dealt out for.
    pub assignment_epoch: i32,
    /// Its topology; internal topics have the sizes the group decided on, once it did.
    pub topology: Option<Topology>,
    /// Its members, by id.
    pub members: Vec<StreamsMemberView>,
}

/// A member of a streams group as others may see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamsMemberView {
    /// The id it chose.
    pub member_id: String,
    /// Its rack.
    pub rack: Option<String>,
    /// The epoch it has reached.
    pub epoch: i32,
    /// Its client id.
    pub client_id: String,
    /// Where it beats from, as Kafka writes addresses: `/127.0.0.1`.
    pub client_host: String,
    /// The epoch of the topology it brought.
    pub topology_epoch: i32,
    /// The process it runs in.
    pub process_id: String,
    /// Where others can ask for its state.
    pub endpoint: Option<(String, u16)>,
    /// What its user tells it from others by.
    pub tags: Vec<(String, String)>,
    /// What it has.
    pub assignment: TaskSets,
    /// What it is to have.
    pub target: TaskSets,
}

/// Where state can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointPartitions {
    /// Host and port.
    pub endpoint: (String, u16),
    /// Partitions of topics whose state is made there.
    pub active: Vec<(String, Vec<i32>)>,
    /// Partitions of topics whose state is kept there.
    pub standby: Vec<(String, Vec<i32>)>,
}

impl Streams {
    pub(in super::super) fn view(&self) -> StreamsGroupView {
        StreamsGroupView {
            group_id: self.id.to_string(),
            state: self.state_name(),
            epoch: self.epoch,
            assignment_epoch: self.assignment_epoch,
            topology: self.described_topology(),
            members: self.members.values().map(|member| self.member_view(member)).collect(),
        }
    }

    fn member_view(&self, member: &Member) -> StreamsMemberView {
        StreamsMemberView {
            member_id: member.id.to_string(),
            rack: member.rack.clone(),
            epoch: member.epoch,
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            topology_epoch: member.topology_epoch,
            process_id: member.process_id.clone(),
            endpoint: member.endpoint.clone(),
            tags: member.tags.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            assignment: member.assigned.sets(),
            target: self.target.get(&member.id).cloned().unwrap_or_default(),
        }
    }

    fn described_topology(&self) -> Option<Topology> {
        let topology = self.topology.as_ref()?;
        let ready = self.configured.as_ref().filter(|configured| configured.problem.is_none());
        let parts = topology.parts.iter().map(|(id, part)| {
            let fitted = ready.and_then(|configured| configured.parts.get(id));
            let mut described = Subtopology {
                changelogs: fitted.map_or_else(|| part.changelogs.clone(), |fitted| fitted.changelogs.clone()),
                repartition_topics: fitted
                    .map_or_else(|| part.repartition_topics.clone(), |fitted| fitted.repartition_topics.clone()),
                ..part.clone()
            };
            described.source_topics.sort();
            described.sink_topics.sort();
            described.changelogs.sort_by(|a, b| a.name.cmp(&b.name));
            described.repartition_topics.sort_by(|a, b| a.name.cmp(&b.name));
            (id.clone(), described)
        });
        Some(Topology { epoch: topology.epoch, parts: parts.collect() })
    }

    /// Where the state of all members that say so can be asked for.
    pub(super) fn endpoints(&self) -> Vec<EndpointPartitions> {
        let reachable = self.members.values().filter_map(|member| Some((member.endpoint.clone()?, member)));
        let endpoints = reachable.map(|(endpoint, member)| {
            let tasks = member.assigned.sets();
            EndpointPartitions {
                endpoint,
                active: self.partitions_of(&tasks.active),
                standby: self.partitions_of(&tasks.standby),
            }
        });
        endpoints.collect()
    }

    /// The partitions tasks read; a topic has no more than there are of it.
    fn partitions_of(&self, tasks: &Tasks) -> Vec<(String, Vec<i32>)> {
        let mut partitions = Vec::new();
        for (id, indices) in tasks {
            let part = self.configured.as_ref().and_then(|configured| configured.parts.get(id));
            for topic in part.iter().flat_map(|part| &part.reads) {
                let size = self.known.get(topic).map_or(0, |facts| usize::try_from(facts.partitions).unwrap_or(0));
                partitions.push((topic.clone(), indices.iter().copied().take(size).collect()));
            }
        }
        partitions
    }
}

impl Member {
    /// Whether it runs a task, or still has to give it up.
    pub(super) fn runs(&self, part: &str, index: i32) -> bool {
        [&self.assigned, &self.revoking]
            .iter()
            .any(|held| held.active.get(part).is_some_and(|t| t.contains_key(&index)))
    }

    /// Whether it has a task in any way, or still has to give it up.
    pub(super) fn has(&self, part: &str, index: i32) -> bool {
        let kept = |tasks: &Tasks| tasks.get(part).is_some_and(|indices| indices.contains(&index));
        self.runs(part, index)
            || [&self.assigned, &self.revoking].iter().any(|held| kept(&held.standby) || kept(&held.warmup))
    }
}
