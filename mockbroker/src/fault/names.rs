//! What a request is about: the topics, partitions, groups and other things it names.

use crate::journal::ReceivedRequest;
use crate::state::State;
use crate::wire::walk::{Scalar, Visitor, Walk};
use crate::wire::{ApiKey, Request, Str};

/// What one request names.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Topics with the partitions named of each; no partition means all of them.
    pub(super) topics: Vec<(String, Vec<i32>)>,
    /// The request means every topic there is.
    pub(super) every_topic: bool,
    /// Groups, transactional ids, coordinator keys, config resources, members.
    pub(super) others: Vec<Str>,
}

impl Names {
    /// Whether this topic and partition are among what is named.
    pub(super) fn has(&self, topic: Option<&str>, partition: Option<i32>) -> bool {
        let fits = |(name, partitions): &(String, Vec<i32>)| {
            topic.is_none_or(|topic| topic == name)
                && partition.is_none_or(|index| partitions.is_empty() || partitions.contains(&index))
        };
        self.every_topic || self.topics.iter().any(fits)
    }
}

/// What this request names. Ids are looked up; an incremental fetch names its whole session.
pub(crate) fn of(request: &ReceivedRequest, state: &State) -> Names {
    let mut reader = NameReader { state, topics: has_topics(request.api()), names: Names::default(), next: "" };
    request.body.walk(request.version.max(0), &mut reader);
    let mut names = reader.names;
    match &request.body {
        Request::Fetch(fetch) => {
            for key in state.fetch_sessions.partitions(request.node, fetch.session_id) {
                let name =
                    if key.topic_id.is_zero() { Some(key.topic.as_str()) } else { state.topics.name_of(key.topic_id) };
                names.topics.extend(name.map(|name| (name.to_owned(), vec![key.index])));
            }
        }
        Request::Metadata(metadata) => {
            let none_named = metadata.topics.as_ref().is_none_or(Vec::is_empty);
            names.every_topic = metadata.topics.is_none() || (request.version == 0 && none_named);
        }
        Request::OffsetFetch(fetch) => {
            names.every_topic = if request.version >= 8 {
                fetch.groups.iter().any(|group| group.topics.is_none())
            } else {
                fetch.topics.is_none()
            };
        }
        _ => {}
    }
    names
}

/// Whether requests of this API name topics.
pub(super) fn has_topics(api: ApiKey) -> bool {
    has_partitions(api)
        || matches!(
            api,
            ApiKey::Metadata
                | ApiKey::CreateTopics
                | ApiKey::DeleteTopics
                | ApiKey::DescribeTopicPartitions
                | ApiKey::CreatePartitions
        )
}

/// Whether requests of this API name partitions. Metadata does not, but its answer has a row and an error for each.
pub(super) fn has_partitions(api: ApiKey) -> bool {
    matches!(
        api,
        ApiKey::Produce
            | ApiKey::Fetch
            | ApiKey::ListOffsets
            | ApiKey::Metadata
            | ApiKey::OffsetCommit
            | ApiKey::OffsetFetch
            | ApiKey::DeleteRecords
            | ApiKey::OffsetForLeaderEpoch
            | ApiKey::OffsetDelete
            | ApiKey::AddPartitionsToTxn
            | ApiKey::TxnOffsetCommit
            | ApiKey::WriteTxnMarkers
            | ApiKey::DescribeProducers
            | ApiKey::DescribeLogDirs
            | ApiKey::AlterReplicaLogDirs
            | ApiKey::ElectLeaders
            | ApiKey::AlterPartitionReassignments
            | ApiKey::ListPartitionReassignments
            | ApiKey::ShareFetch
            | ApiKey::ShareAcknowledge
            | ApiKey::DescribeShareGroupOffsets
            | ApiKey::AlterShareGroupOffsets
    )
}

/// Whether requests of this API name a group, a transactional id, a key, a resource or a member.
pub(super) fn has_others(api: ApiKey) -> bool {
    !matches!(
        api,
        ApiKey::Fetch
            | ApiKey::ListOffsets
            | ApiKey::Metadata
            | ApiKey::ApiVersions
            | ApiKey::CreateTopics
            | ApiKey::DeleteTopics
            | ApiKey::DeleteRecords
            | ApiKey::OffsetForLeaderEpoch
            | ApiKey::CreatePartitions
            | ApiKey::DescribeCluster
            | ApiKey::ListGroups
            | ApiKey::DescribeTopicPartitions
            | ApiKey::ListConfigResources
            | ApiKey::ListTransactions
            | ApiKey::DescribeProducers
            | ApiKey::WriteTxnMarkers
            | ApiKey::ElectLeaders
            | ApiKey::AlterPartitionReassignments
            | ApiKey::ListPartitionReassignments
            | ApiKey::DescribeLogDirs
            | ApiKey::AlterReplicaLogDirs
            | ApiKey::DescribeQuorum
            | ApiKey::UpdateFeatures
            | ApiKey::DescribeClientQuotas
            | ApiKey::AlterClientQuotas
    )
}

/// Whether one request of this API may name several groups, ids or resources, each with an error of its own.
pub(super) fn may_name_several(api: ApiKey) -> bool {
    matches!(
        api,
        ApiKey::DescribeGroups
            | ApiKey::DeleteGroups
            | ApiKey::OffsetFetch
            | ApiKey::FindCoordinator
            | ApiKey::DescribeConfigs
            | ApiKey::AlterConfigs
            | ApiKey::IncrementalAlterConfigs
            | ApiKey::ConsumerGroupDescribe
            | ApiKey::DescribeTransactions
            | ApiKey::AddPartitionsToTxn
    )
}

/// Whether clients ask this of topics that do not exist, as a matter of course.
pub(super) fn may_name_what_is_not_there(api: ApiKey) -> bool {
    matches!(api, ApiKey::CreateTopics | ApiKey::Metadata | ApiKey::DescribeTopicPartitions | ApiKey::DeleteTopics)
}

const TOPIC_NAMES: &[&str] = &["name", "topic", "topic_name", "topic_names"];
const PARTITION_INDICES: &[&str] = &["partition_index", "index", "partition", "partitions", "partition_indexes"];
const OTHER_NAMES: &[&str] = &[
    "group_id",
    "group",
    "groups",
    "groups_names",
    "group_ids",
    "key",
    "coordinator_keys",
    "transactional_id",
    "transactional_ids",
    "v3_and_below_transactional_id",
    "resource_name",
    "member_id",
    "user",
];

/// Hears a topic's name before its partitions: every request has them in this order.
struct NameReader<'a> {
    state: &'a State,
    topics: bool,
    names: Names,
    next: &'static str,
}

impl Visitor for NameReader<'_> {
    fn field(&mut self, name: &'static str) {
        self.next = name;
    }

    fn scalar(&mut self, value: Scalar<'_>) {
        match value {
            Scalar::Str(text) if OTHER_NAMES.contains(&self.next) => self.names.others.push(text.clone()),
            // A request that goes by ids has the name's field too, empty.
            Scalar::Str(text) if self.topics && TOPIC_NAMES.contains(&self.next) && !text.is_empty() => {
                self.names.topics.push((text.to_string(), Vec::new()));
            }
            Scalar::Uuid(id) if self.topics && matches!(self.next, "topic_id" | "topic_ids") && !id.is_zero() => {
                let name = self.state.topics.name_of(id).unwrap_or_default().to_owned();
                self.names.topics.push((name, Vec::new()));
            }
            Scalar::I32(index) if self.topics && PARTITION_INDICES.contains(&self.next) => {
                if let Some((_, partitions)) = self.names.topics.last_mut() {
                    partitions.push(index);
                }
            }
            _ => {}
        }
    }
}
