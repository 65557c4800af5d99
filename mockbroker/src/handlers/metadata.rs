//! Metadata (3), versions 0–13.
//!
//! Does: living brokers, the controller, topics by name or id or all, leaders, replicas, in-sync and offline
//! replicas, epochs; creates topics on demand where client and broker allow it.
//! Leaves out: nothing.
//! Differs from Apache Kafka: none known.

use super::access::To;
use super::{Answer, NO_OPERATIONS, address, ids, rack};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::fault::Part;
use crate::state::nodes::ListenerId;
use crate::state::security::acls::Operation;
use crate::state::topics::{self, Partition, Topic};
use crate::state::{NewTopic, State};
use crate::time::Time;
use crate::wire::generated::metadata_request::{MetadataRequest, MetadataRequestTopic};
use crate::wire::generated::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::wire::{Str, Uuid};
use indexmap::IndexMap;

pub(super) fn metadata(state: &mut State, _: Time, from: &Caller, request: MetadataRequest) -> Answer {
    let operations = request.include_topic_authorized_operations;
    let may_create =
        (from.version < 4 || request.allow_auto_topic_creation) && state.configs.broker_settings().auto_create_topics;
    let asked = asked(from, request.topics);
    if let Some(refused) = asked.as_deref().and_then(|asked| refused(from.version, asked)) {
        return Answer::now(refused);
    }
    let topics = match asked {
        None => {
            let seen = |topic: &&Topic| from.has_access(state, Operation::Describe, To::Topic(&topic.name));
            state.topics.iter().filter(seen).map(|topic| found(state, from, topic, operations)).collect()
        }
        Some(asked) => {
            let mut rows: IndexMap<(Option<Str>, Uuid), MetadataResponseTopic> = IndexMap::new();
            for topic in asked {
                let key = (topic.name.clone(), topic.topic_id);
                rows.entry(key).or_insert_with(|| one(state, from, topic, may_create, operations));
            }
            rows.into_values().collect()
        }
    };
    Answer::now(MetadataResponse {
        brokers: brokers(state, from.listener),
        cluster_id: Some(Str::from(state.cluster_id.as_str())),
        controller_id: state.nodes.controller().map_or(-1, |node| node.0),
        topics,
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            from.operations_on_cluster(state)
        } else {
            NO_OPERATIONS
        },
        ..Default::default()
    })
}

/// Versions 10 and 11 have the field for an id but answer by name only; later a topic needs one of both.
fn refused(version: i16, asked: &[MetadataRequestTopic]) -> Option<MetadataResponse> {
    let code = if version < 12 && asked.iter().any(|topic| topic.name.is_none()) {
        ErrorCode::InvalidRequest
    } else if asked.iter().any(|topic| topic.name.is_none() && topic.topic_id.is_zero()) {
        ErrorCode::UnknownServerError
    } else {
        return None;
    };
    let row =
        |topic: &MetadataRequestTopic| missing(Some(topic.name.clone().unwrap_or_default()), topic.topic_id, code);
    Some(MetadataResponse { topics: asked.iter().map(row).collect(), controller_id: -1, ..Default::default() })
}

/// In version 0 an empty list asks for everything, later ones say null.
fn asked(from: &Caller, topics: Option<Vec<MetadataRequestTopic>>) -> Option<Vec<MetadataRequestTopic>> {
    topics.filter(|topics| from.version > 0 || !topics.is_empty())
}

fn one(
    state: &mut State,
    from: &Caller,
    asked: MetadataRequestTopic,
    may_create: bool,
    operations: bool,
) -> MetadataResponseTopic {
    let name = match &asked.name {
        Some(name) => name.clone(),
        None => match state.topics.name_of(asked.topic_id) {
            Some(name) => Str::from(name),
            None => return missing(None, asked.topic_id, ErrorCode::UnknownTopicId),
        },
    };
    if let Err(reject) = from.check_access(state, Operation::Describe, To::Topic(&name)) {
        // Who asked by id learns no name.
        return missing(asked.name, asked.topic_id, reject.code);
    }
    if let Some(topic) = state.topics.get(&name) {
        return found(state, from, topic, operations);
    }
    if may_create && !from.may_create(state, &name) {
        let row = missing(Some(name.clone()), Uuid::ZERO, ErrorCode::TopicAuthorizationFailed);
        return MetadataResponseTopic { is_internal: topics::is_internal(&name), ..row };
    }
    // What is refused is not created; the error is put into the answer when it is whole.
    let may_create = may_create && from.is_spared(Part::Topic(&name));
    let reject = if may_create { create(state, &name) } else { topics::check_name(&name) };
    let code = reject.map_or_else(|reject| reject.code, |()| ErrorCode::UnknownTopicOrPartition);
    let topic_authorized_operations = told_operations(state, from, &name, operations);
    MetadataResponseTopic { topic_authorized_operations, ..missing(Some(name), Uuid::ZERO, code) }
}

/// Creates the topic; the client hears of it when it asks again, as with Kafka, whose controller needs a moment.
fn create(state: &mut State, name: &str) -> Result<(), Reject> {
    if topics::is_internal(name) {
        return state.coordinator(name, "").map(|_| ());
    }
    let new = NewTopic { name: name.to_owned(), ..Default::default() };
    state.create_topic(&new, false).map(|_| ())
}

fn missing(name: Option<Str>, topic_id: Uuid, code: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic { error_code: code.code(), name, topic_id, ..Default::default() }
}

fn found(state: &State, from: &Caller, topic: &Topic, operations: bool) -> MetadataResponseTopic {
    let partitions = topic.partitions.iter().enumerate();
    MetadataResponseTopic {
        name: Some(Str::from(topic.name.as_str())),
        topic_id: topic.id,
        is_internal: topic.is_internal(),
        partitions: partitions.map(|(index, partition)| row(state, index as i32, partition)).collect(),
        topic_authorized_operations: told_operations(state, from, &topic.name, operations),
        ..Default::default()
    }
}

/// What the caller may do to a topic, there or not, if that was asked.
fn told_operations(state: &State, from: &Caller, topic: &str, asked: bool) -> i32 {
    if asked { from.operations_on(state, To::Topic(topic)) } else { NO_OPERATIONS }
}

/// The brokers that run, as clients reach them that came by this listener.
pub(crate) fn brokers(state: &State, listener: ListenerId) -> Vec<MetadataResponseBroker> {
    let rows = state.nodes.alive().map(|node| {
        let (host, port) = address(node, listener);
        MetadataResponseBroker { node_id: node.id.0, host, port, rack: rack(node) }
    });
    rows.collect()
}

/// A partition as Metadata tells of it.
pub(crate) fn row(state: &State, index: i32, partition: &Partition) -> MetadataResponsePartition {
    let code = if partition.leader.is_none() { ErrorCode::LeaderNotAvailable } else { ErrorCode::None };
    MetadataResponsePartition {
        error_code: code.code(),
        partition_index: index,
        leader_id: partition.leader.map_or(-1, |node| node.0),
        leader_epoch: partition.leader_epoch,
        replica_nodes: ids(&partition.replicas),
        isr_nodes: ids(&partition.isr),
        offline_replicas: partition.offline_replicas(&state.nodes).map(|node| node.0).collect(),
    }
}
