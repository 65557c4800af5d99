//! CreateTopics (19), versions 2–7.
//!
//! Does: names, counts, manual assignments, configs; validation only; the configs in force in the answer (KIP-525).
//! Leaves out: create-topic policies, controller mutation quotas.
//! Differs from Apache Kafka: a topic is there when the answer is, on every broker.

use super::access::To;
use super::{Answer, message};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::fault::Part;
use crate::state::configs::{DescribedConfig, Entries};
use crate::state::nodes::NodeId;
use crate::state::security::acls::Operation;
use crate::state::{CreatedTopic, NewTopic, State};
use crate::time::Time;
use crate::wire::Str;
use crate::wire::generated::create_topics_request::{CreatableReplicaAssignment, CreatableTopic, CreateTopicsRequest};
use crate::wire::generated::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult, CreateTopicsResponse,
};
use std::collections::BTreeMap;

/// The topic the controllers keep the cluster's metadata in.
const METADATA_TOPIC: &str = "__cluster_metadata";

pub(super) fn create_topics(state: &mut State, _: Time, from: &Caller, request: CreateTopicsRequest) -> Answer {
    let mut times_named: BTreeMap<Str, u32> = BTreeMap::new();
    for topic in &request.topics {
        *times_named.entry(topic.name.clone()).or_default() += 1;
    }
    let mut topics = Vec::new();
    for topic in request.topics {
        let name = topic.name.clone();
        let overrides = overrides(&topic);
        let created = match times_named.get_mut(&name) {
            Some(1) => create_one(state, from, topic, request.validate_only),
            // A name given twice is refused once, in one row.
            Some(times @ 2..) => {
                *times = 0;
                Err(Reject::new(ErrorCode::InvalidRequest, "the request names this topic twice"))
            }
            _ => continue,
        };
        let sees_configs = from.has_access(state, Operation::DescribeConfigs, To::Topic(&name));
        topics.push(match row(state, name, &overrides, created) {
            created if created.error_code == 0 && !sees_configs => without_configs(created),
            row => row,
        });
    }
    Answer::now(CreateTopicsResponse { topics, ..Default::default() })
}

fn create_one(
    state: &mut State,
    from: &Caller,
    topic: CreatableTopic,
    validate_only: bool,
) -> Result<CreatedTopic, Reject> {
    from.check_fault(Part::Topic(&topic.name))?;
    if topic.name.as_str() == METADATA_TOPIC {
        let message = "this topic belongs to the controllers; it cannot be created";
        return Err(Reject::new(ErrorCode::InvalidRequest, message));
    }
    if !from.has_access(state, Operation::Create, To::Cluster) {
        from.check_access(state, Operation::Create, To::Topic(&topic.name))?;
    }
    let assignment = manual_assignment(&topic)?;
    let new = NewTopic {
        name: topic.name.to_string(),
        partitions: (topic.num_partitions != -1).then_some(topic.num_partitions),
        replication_factor: (topic.replication_factor != -1).then_some(topic.replication_factor),
        assignment,
        configs: topic
            .configs
            .into_iter()
            .map(|c| (c.name.to_string(), c.value.map(|value| value.to_string())))
            .collect(),
    };
    state.create_topic(&new, validate_only)
}

fn manual_assignment(topic: &CreatableTopic) -> Result<Option<Vec<Vec<NodeId>>>, Reject> {
    if topic.assignments.is_empty() {
        return Ok(None);
    }
    if topic.num_partitions != -1 || topic.replication_factor != -1 {
        let message = "with a manual assignment the numbers of partitions and replicas must be -1";
        return Err(Reject::new(ErrorCode::InvalidRequest, message));
    }
    let by_index: BTreeMap<i32, &CreatableReplicaAssignment> =
        topic.assignments.iter().map(|assigned| (assigned.partition_index, assigned)).collect();
    let consecutive =
        by_index.len() == topic.assignments.len() && by_index.keys().copied().eq(0..by_index.len() as i32);
    if !consecutive {
        let message = "a manual assignment must name the partitions from 0 on, each once";
        return Err(Reject::new(ErrorCode::InvalidReplicaAssignment, message));
    }
    Ok(Some(by_index.values().map(|assigned| assigned.broker_ids.iter().copied().map(NodeId).collect()).collect()))
}

fn row(state: &State, name: Str, overrides: &Entries, created: Result<CreatedTopic, Reject>) -> CreatableTopicResult {
    match created {
        Ok(created) => CreatableTopicResult {
            configs: Some(configs(state, overrides)),
            name,
            topic_id: created.id,
            num_partitions: created.partitions,
            replication_factor: created.replication_factor,
            error_message: None,
            ..Default::default()
        },
        Err(reject) => CreatableTopicResult {
            name,
            error_code: reject.code.code(),
            error_message: message(&reject),
            configs: Some(Vec::new()),
            ..Default::default()
        },
    }
}

/// The row of a topic whose configs the caller may create but not see.
fn without_configs(created: CreatableTopicResult) -> CreatableTopicResult {
    CreatableTopicResult {
        name: created.name,
        topic_id: created.topic_id,
        topic_config_error_code: ErrorCode::TopicAuthorizationFailed.code(),
        ..Default::default()
    }
}

/// The configs the request gives, those without a value aside, for which the topic is refused.
fn overrides(topic: &CreatableTopic) -> Entries {
    let given = topic.configs.iter();
    given.filter_map(|config| Some((config.name.to_string(), config.value.as_ref()?.to_string()))).collect()
}

fn configs(state: &State, overrides: &Entries) -> Vec<CreatableTopicConfigs> {
    let controller = state.nodes.controller().map(|node| node.0);
    let created = state.configs.describe_created(controller, overrides).into_iter();
    let row = |config: DescribedConfig| CreatableTopicConfigs {
        name: Str::from(config.name),
        value: config.value.map(Str::from),
        read_only: config.read_only,
        config_source: config.source as i8,
        is_sensitive: config.sensitive,
    };
    created.map(row).collect()
}
