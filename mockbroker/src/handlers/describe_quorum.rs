//! DescribeQuorum (55), versions 0–2.
//!
//! Does: a quorum of which every broker is a voter and the controller the leader; voters that do not run stay behind.
//! Leaves out: observers, voters' folders (the quorum is at `kraft.version` 0, as where voters are configured).
//! Differs from Apache Kafka: there is no metadata log; its offsets are what one would have that is written to twice a
//! second, as an idle controller does.

use super::access::To;
use super::{Answer, message};
use crate::cluster::Caller;
use crate::error::ErrorCode;
use crate::state::State;
use crate::state::nodes::Node as Broker;
use crate::state::security::acls::Operation;
use crate::time::Time;
use crate::wire::Str;
use crate::wire::generated::describe_quorum_request::DescribeQuorumRequest;
use crate::wire::generated::describe_quorum_response::{
    DescribeQuorumResponse, Listener, Node, PartitionData, ReplicaState, TopicData,
};

/// The topic of the one partition that has a quorum.
const METADATA_TOPIC: &str = "__cluster_metadata";
/// `metadata.max.idle.interval.ms`.
const IDLE_INTERVAL_MS: i64 = 500;

pub(super) fn describe_quorum(state: &mut State, now: Time, from: &Caller, request: DescribeQuorumRequest) -> Answer {
    if let Err(reject) = from.check_access(state, Operation::Describe, To::Cluster) {
        let error_message = if from.version >= 2 { message(&reject) } else { None };
        let error_code = reject.code.code();
        return Answer::now(DescribeQuorumResponse { error_code, error_message, ..Default::default() });
    }
    let one = match request.topics.as_slice() {
        [topic] if topic.topic_name.as_str() == METADATA_TOPIC => topic.partitions.as_slice(),
        _ => &[],
    };
    if !matches!(one, [partition] if partition.partition_index == 0) {
        return Answer::now(refusal(request, from.version));
    }
    let voters = state.nodes.iter().map(|node| voter(state, now, node)).collect();
    let partition = PartitionData {
        partition_index: 0,
        leader_id: state.nodes.controller().map_or(-1, |node| node.0),
        leader_epoch: state.nodes.controller_epoch(),
        high_watermark: end_offset(now),
        current_voters: voters,
        ..Default::default()
    };
    let topics = vec![TopicData { topic_name: Str::from(METADATA_TOPIC), partitions: vec![partition] }];
    let nodes = if from.version >= 2 { state.nodes.iter().map(node).collect() } else { Vec::new() };
    Answer::now(DescribeQuorumResponse { topics, nodes, ..Default::default() })
}

/// Whatever else is asked for is not known here (`KafkaRaftClient.handleDescribeQuorumRequest`).
fn refusal(request: DescribeQuorumRequest, version: i16) -> DescribeQuorumResponse {
    let code = ErrorCode::UnknownTopicOrPartition;
    let text = (version >= 2).then(|| Str::from(code.name()));
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|partition| PartitionData {
            partition_index: partition.partition_index,
            error_code: code.code(),
            error_message: text.clone(),
            ..Default::default()
        });
        TopicData { topic_name: topic.topic_name, partitions: partitions.collect() }
    });
    DescribeQuorumResponse { topics: topics.collect(), ..Default::default() }
}

fn voter(state: &State, now: Time, node: &Broker) -> ReplicaState {
    let running = node.running;
    // The leader leaves its own fetches unsaid; whoever is down has not been heard of since the leader began.
    let leads = state.nodes.controller() == Some(node.id);
    let heard = if running { now.as_millis() } else { -1 };
    ReplicaState {
        replica_id: node.id.0,
        log_end_offset: if running { end_offset(now) } else { -1 },
        last_fetch_timestamp: if leads { now.as_millis() } else { heard },
        last_caught_up_timestamp: if leads { now.as_millis() } else { heard },
        ..Default::default()
    }
}

fn node(node: &Broker) -> Node {
    let listener = Listener { name: Str::from("CONTROLLER"), host: Str::from(node.host.as_str()), port: node.port };
    Node { node_id: node.id.0, listeners: vec![listener] }
}

fn end_offset(now: Time) -> i64 {
    now.as_millis().div_euclid(IDLE_INTERVAL_MS)
}
