//! Verbs: one file an API. A handler reads a request, asks the state, fills in a response; it never touches another
//! request.
//!
//! The table below is the only list of APIs: what is in it is advertised, decoded and answered, in these versions.

mod add_offsets_to_txn;
mod add_partitions_to_txn;
mod alter_configs;
mod alter_share_group_offsets;
mod api_versions;
mod config_resources;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_share_group_offsets;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_producers;
mod describe_share_group_offsets;
mod describe_topic_partitions;
mod describe_transactions;
mod end_txn;
mod fetch;
mod find_coordinator;
mod groups;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_transactions;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod share_acknowledge;
mod share_fetch;
mod share_group_describe;
mod share_group_heartbeat;
mod sharing;
mod sync_group;
mod taking_part;
mod transactions;
mod txn_offset_commit;
mod write_txn_markers;

use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::parked::PartitionName;
use crate::state::State;
use crate::state::groups::GroupAnswer;
use crate::state::nodes::{Node, NodeId};
use crate::time::Time;
use crate::wire::{ApiKey, Request, Response, Str, Uuid};

/// What a handler makes of a request.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The response.
    Now(Box<Response>),
    /// The client expects none.
    Nothing,
    /// Kafka would close the connection, for this reason.
    Close(String),
    /// Nothing can be said yet.
    Park {
        /// When it is to be answered at the latest; `None` when the state keeps the time.
        deadline: Option<Time>,
        /// Partitions whose change may answer it.
        partitions: Vec<PartitionName>,
        /// How to answer it.
        waiting: Waiting,
    },
}

/// A request that waits, with what is needed to answer it.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// A fetch that has not enough bytes.
    Fetch(fetch::WaitingFetch),
    /// A produce whose records have not been copied by all that are in sync.
    Produce(produce::WaitingProduce),
    /// A share consumer's fetch that has not enough bytes.
    ShareFetch(share_fetch::WaitingShareFetch),
    /// A member that waits for its group.
    Group(GroupResponder),
}

/// Turns a group's answer into the response of the API and version that asked.
pub(crate) struct GroupResponder(Box<dyn Fn(GroupAnswer) -> Response + Send + Sync>);

impl GroupResponder {
    pub(crate) fn new(respond: impl Fn(GroupAnswer) -> Response + Send + Sync + 'static) -> Self {
        Self(Box::new(respond))
    }

    pub(crate) fn respond(&self, answer: GroupAnswer) -> Response {
        (self.0)(answer)
    }
}

impl std::fmt::Debug for GroupResponder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GroupResponder")
    }
}

impl Answer {
    /// A response, now.
    pub(crate) fn now(response: impl Into<Response>) -> Self {
        Self::Now(Box::new(response.into()))
    }
}

/// Declares the table once: which versions are served, and who answers.
macro_rules! apis {
    ($($api:ident $min:literal ..= $max:literal => $handler:path;)*) => {
        /// The APIs served, with the versions advertised, in numeric order.
        pub(crate) const SERVED: &[(ApiKey, i16, i16)] = &[$((ApiKey::$api, $min, $max),)*];

        /// Answers a request that [`serves`] approved.
        pub(crate) fn answer(state: &mut State, now: Time, from: &Caller, request: Request) -> Answer {
            match request {
                $(Request::$api(request) => $handler(state, now, from, request),)*
                other => Answer::Close(format!("{:?} is not served", other.api_key())),
            }
        }
    };
}

apis! {
    // Advertised from 0 as Kafka does, for librdkafka's sake; the schema starts at 3.
    Produce 0..=13 => produce::produce;
    Fetch 4..=18 => fetch::fetch;
    ListOffsets 1..=11 => list_offsets::list_offsets;
    Metadata 0..=13 => metadata::metadata;
    OffsetCommit 2..=10 => offset_commit::offset_commit;
    OffsetFetch 1..=10 => offset_fetch::offset_fetch;
    FindCoordinator 0..=6 => find_coordinator::find_coordinator;
    JoinGroup 0..=9 => join_group::join_group;
    Heartbeat 0..=4 => heartbeat::heartbeat;
    LeaveGroup 0..=5 => leave_group::leave_group;
    SyncGroup 0..=5 => sync_group::sync_group;
    DescribeGroups 0..=6 => describe_groups::describe_groups;
    ListGroups 0..=5 => list_groups::list_groups;
    ApiVersions 0..=4 => api_versions::api_versions;
    CreateTopics 2..=7 => create_topics::create_topics;
    DeleteTopics 1..=6 => delete_topics::delete_topics;
    DeleteRecords 0..=2 => delete_records::delete_records;
    InitProducerId 0..=5 => init_producer_id::init_producer_id;
    OffsetForLeaderEpoch 2..=4 => offset_for_leader_epoch::offset_for_leader_epoch;
    AddPartitionsToTxn 0..=5 => add_partitions_to_txn::add_partitions_to_txn;
    AddOffsetsToTxn 0..=4 => add_offsets_to_txn::add_offsets_to_txn;
    EndTxn 0..=5 => end_txn::end_txn;
    WriteTxnMarkers 1..=2 => write_txn_markers::write_txn_markers;
    TxnOffsetCommit 0..=5 => txn_offset_commit::txn_offset_commit;
    DescribeConfigs 1..=4 => describe_configs::describe_configs;
    AlterConfigs 0..=2 => alter_configs::alter_configs;
    CreatePartitions 0..=3 => create_partitions::create_partitions;
    DeleteGroups 0..=2 => delete_groups::delete_groups;
    OffsetDelete 0..=0 => offset_delete::offset_delete;
    IncrementalAlterConfigs 0..=1 => incremental_alter_configs::incremental_alter_configs;
    DescribeCluster 0..=2 => describe_cluster::describe_cluster;
    DescribeProducers 0..=0 => describe_producers::describe_producers;
    DescribeTransactions 0..=0 => describe_transactions::describe_transactions;
    ListTransactions 0..=2 => list_transactions::list_transactions;
    ConsumerGroupHeartbeat 0..=1 => consumer_group_heartbeat::consumer_group_heartbeat;
    ConsumerGroupDescribe 0..=1 => consumer_group_describe::consumer_group_describe;
    ListConfigResources 0..=1 => list_config_resources::list_config_resources;
    DescribeTopicPartitions 0..=0 => describe_topic_partitions::describe_topic_partitions;
    ShareGroupHeartbeat 1..=1 => share_group_heartbeat::share_group_heartbeat;
    ShareGroupDescribe 1..=1 => share_group_describe::share_group_describe;
    ShareFetch 1..=2 => share_fetch::share_fetch;
    ShareAcknowledge 1..=2 => share_acknowledge::share_acknowledge;
    DescribeShareGroupOffsets 0..=1 => describe_share_group_offsets::describe_share_group_offsets;
    AlterShareGroupOffsets 0..=0 => alter_share_group_offsets::alter_share_group_offsets;
    DeleteShareGroupOffsets 0..=0 => delete_share_group_offsets::delete_share_group_offsets;
}

pub(crate) use fetch::resume as resume_fetch;
pub(crate) use metadata::{brokers as metadata_brokers, row as metadata_row};
pub(crate) use share_fetch::resume as resume_share_fetch;

/// The versions in which this API is served, if it is.
pub(crate) fn versions_of(api: ApiKey) -> Option<(i16, i16)> {
    SERVED.iter().find(|(served, ..)| *served == api).map(|(_, min, max)| (*min, *max))
}

/// Whether answers of this API tell a client to slow down.
pub(crate) fn can_throttle(api: ApiKey) -> bool {
    // The handshake alone has no such field among what clients ask.
    api != ApiKey::SaslHandshake
}
pub(crate) use produce::resume as resume_produce;

/// Whether requests of this API and version are answered.
pub(crate) fn serves(api: ApiKey, version: i16) -> bool {
    SERVED.iter().any(|(served, min, max)| *served == api && (*min..=*max).contains(&version))
        && api.request_versions().contains(&version)
}

/// All operations on a topic as a bit field, what a cluster without an authoriser allows everyone.
const TOPIC_OPERATIONS: i32 = operations(&[3, 4, 5, 6, 7, 8, 10, 11]);
/// All operations on a group: read, delete, describe, describe and alter its configs.
const GROUP_OPERATIONS: i32 = operations(&[3, 6, 8, 10, 11]);
/// All operations on the cluster.
const CLUSTER_OPERATIONS: i32 = operations(&[5, 7, 8, 9, 10, 11, 12]);
/// "Not asked for."
const NO_OPERATIONS: i32 = i32::MIN;

const fn operations(codes: &[i32]) -> i32 {
    let mut bits = 0;
    let mut at = 0;
    while at < codes.len() {
        bits |= 1 << codes[at];
        at += 1;
    }
    bits
}

/// The topic a request names: by id where it has one, else by name.
fn named_topic(state: &State, by_id: bool, id: Uuid, name: &Str) -> Result<String, Reject> {
    if by_id {
        state.topics.name_of(id).map(str::to_owned).ok_or_else(|| ErrorCode::UnknownTopicId.into())
    } else if state.topics.get(name).is_some() {
        Ok(name.to_string())
    } else {
        Err(ErrorCode::UnknownTopicOrPartition.into())
    }
}

/// A reject's message for a nullable field; Kafka falls back to the code's own text, ours to its name. Of its own failures
/// Kafka tells nothing (`ApiError.fromThrowable`).
fn message(reject: &Reject) -> Option<Str> {
    match &reject.message {
        Some(message) => Some(Str::from(message.as_ref())),
        None if reject.code == ErrorCode::UnknownServerError => None,
        None => Some(Str::from(reject.code.name())),
    }
}

fn ids(nodes: &[NodeId]) -> Vec<i32> {
    nodes.iter().map(|node| node.0).collect()
}

fn rack(node: &Node) -> Option<Str> {
    node.rack.as_deref().map(Str::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;
    use std::path::Path;

    const README: &str = "README.md";
    const BEGIN: &str = "<!-- table -->\n";
    const END: &str = "<!-- /table -->";

    #[test]
    fn the_readme_has_the_table_of_what_is_served() {
        let readme = std::fs::read_to_string(README).expect("the README beside the manifest");
        let (before, rest) = readme.split_once(BEGIN).expect("a mark where the table begins");
        let (_, after) = rest.split_once(END).expect("a mark where the table ends");
        let current = format!("{before}{BEGIN}{}{END}{after}", table());
        if std::env::var_os("UPDATE_README").is_some() {
            std::fs::write(README, &current).expect("the README can be written");
        } else {
            assert!(readme == current, "the table is out of date: run this test with UPDATE_README=1");
        }
    }

    #[test]
    fn only_versions_kafka_calls_stable_are_served() {
        for (api, _, max) in SERVED {
            assert!(api.stable_versions().contains(max), "{api} {max}");
        }
    }

    fn table() -> String {
        let mut table = String::from(
            "| API | versions | leaves out | differs from Apache Kafka | handler |\n|---|---|---|---|---|\n",
        );
        for (api, min, max) in SERVED {
            let file = format!("src/handlers/{}.rs", snake_case(api.name()));
            assert!(Path::new(&file).exists(), "{api} has no file of its own at {file}");
            let head = head(&file);
            let (leaves_out, differs) = (part(&head, "Leaves out:"), part(&head, "Differs from Apache Kafka:"));
            writeln!(table, "| {api} ({}) | {min}–{max} | {leaves_out} | {differs} | [{file}]({file}) |", api.code())
                .expect("a string takes everything");
        }
        table
    }

    /// The comment a handler file opens with, on one line.
    fn head(file: &str) -> String {
        let source = std::fs::read_to_string(file).expect("the handler's source");
        let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
        lines.map(str::trim).collect::<Vec<_>>().join(" ")
    }

    /// What stands between this title and the next, or the end.
    fn part(head: &str, title: &str) -> String {
        let (_, rest) = head.split_once(title).unwrap_or_else(|| panic!("no {title:?} in {head:?}"));
        let end = ["Leaves out:", "Differs from Apache Kafka:"].iter().filter_map(|next| rest.find(next)).min();
        rest[..end.unwrap_or(rest.len())].trim().trim_end_matches('.').to_owned()
    }

    fn snake_case(name: &str) -> String {
        name.chars().enumerate().fold(String::new(), |mut out, (at, c)| {
            if c.is_uppercase() && at > 0 {
                out.push('_');
            }
            out.extend(c.to_lowercase());
            out
        })
    }
}
