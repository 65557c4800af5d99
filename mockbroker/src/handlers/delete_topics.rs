//! DeleteTopics (20), versions 1–6.
//!
//! Does: by name, and by id from version 6 on (KIP-516).
//! Leaves out: controller mutation quotas.
//! Differs from Apache Kafka: a topic is gone when the answer is there, on every broker.

use super::access::To;
use super::{Answer, message};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::fault::Part;
use crate::state::State;
use crate::state::security::acls::Operation;
use crate::time::Time;
use crate::wire::generated::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use crate::wire::generated::delete_topics_response::{DeletableTopicResult, DeleteTopicsResponse};
use crate::wire::{Str, Uuid};
use indexmap::IndexMap;

pub(super) fn delete_topics(state: &mut State, _: Time, from: &Caller, request: DeleteTopicsRequest) -> Answer {
    let asked: Vec<DeleteTopicState> = if from.version >= 6 {
        request.topics
    } else {
        let named = request.topic_names.into_iter();
        named.map(|name| DeleteTopicState { name: Some(name), topic_id: Uuid::ZERO }).collect()
    };
    let mut times: IndexMap<Option<String>, u32> = IndexMap::new();
    let named: Vec<_> = asked.into_iter().map(|topic| (name_in(state, &topic), topic)).collect();
    let by_id: Vec<Uuid> = named.iter().map(|(_, topic)| topic.topic_id).filter(|id| !id.is_zero()).collect();
    for (name, _) in &named {
        *times.entry(name.clone()).or_default() += 1;
    }
    let mut responses = Vec::new();
    for (name, topic) in named {
        match times.get_mut(&name) {
            // A topic named twice, be it once by name and once by id, is refused once and stays.
            Some(count @ 2..) if name.is_some() => {
                *count = 0;
                let by_id = by_id.iter().find(|id| state.topics.name_of(**id) == name.as_deref());
                responses.push(named_twice(name.unwrap_or_default(), by_id.copied().unwrap_or(Uuid::ZERO)));
            }
            Some(0) => {}
            _ => {
                let found = permitted(state, from, &topic).and_then(|()| resolve(state, &topic));
                let found = found.and_then(|name| from.check_fault(Part::Topic(&name)).map(|()| name));
                let topic = DeleteTopicState { name: shown(state, from, &topic, &found), ..topic };
                responses.push(delete_one(state, topic, found));
            }
        }
    }
    Answer::now(DeleteTopicsResponse { responses, ..Default::default() })
}

fn name_in(state: &State, topic: &DeleteTopicState) -> Option<String> {
    match &topic.name {
        Some(name) => Some(name.to_string()),
        None => state.topics.name_of(topic.topic_id).map(str::to_owned),
    }
}

fn named_twice(name: String, topic_id: Uuid) -> DeletableTopicResult {
    DeletableTopicResult {
        name: Some(Str::from(name)),
        topic_id,
        error_code: ErrorCode::InvalidRequest.code(),
        error_message: Some(Str::from_static("the request names this topic twice")),
    }
}

fn resolve(state: &State, topic: &DeleteTopicState) -> Result<String, Reject> {
    match (&topic.name, topic.topic_id.is_zero()) {
        (Some(name), true) => match state.topics.get(name) {
            Some(_) => Ok(name.to_string()),
            None => Err(ErrorCode::UnknownTopicOrPartition.into()),
        },
        (None, false) => {
            state.topics.name_of(topic.topic_id).map(str::to_owned).ok_or_else(|| ErrorCode::UnknownTopicId.into())
        }
        (Some(_), false) => {
            Err(Reject::new(ErrorCode::InvalidRequest, "name a topic by its name or by its id, not by both"))
        }
        (None, true) => Err(Reject::new(ErrorCode::InvalidRequest, "name a topic by its name or by its id")),
    }
}

/// Refuses what the caller may not delete before it is said whether it exists. Ids are no secret.
fn permitted(state: &State, from: &Caller, topic: &DeleteTopicState) -> Result<(), Reject> {
    let Some(name) = name_in(state, topic) else { return Ok(()) };
    if from.has_access(state, Operation::Delete, To::Cluster) {
        return Ok(());
    }
    let exists = state.topics.get(&name).is_some();
    // Who may see that there is no such topic is told so.
    let operation = if exists { Operation::Delete } else { Operation::Describe };
    from.check_access(state, operation, To::Topic(&name))
}

/// The name in an answer: the one asked for; of a topic asked for by id, its own, to those who may see it, when they may
/// not delete it.
fn shown(state: &State, from: &Caller, topic: &DeleteTopicState, found: &Result<String, Reject>) -> Option<Str> {
    let refused = found.as_ref().is_err_and(|reject| reject.code == ErrorCode::TopicAuthorizationFailed);
    let own = state.topics.name_of(topic.topic_id).filter(|_| refused);
    let visible = own.filter(|name| from.has_access(state, Operation::Describe, To::Topic(name)));
    topic.name.clone().or_else(|| visible.map(Str::from))
}

fn delete_one(state: &mut State, topic: DeleteTopicState, found: Result<String, Reject>) -> DeletableTopicResult {
    match found.and_then(|name| state.delete_topic(&name).map(|id| (name, id))) {
        Ok((name, topic_id)) => DeletableTopicResult { name: Some(Str::from(name)), topic_id, ..Default::default() },
        Err(reject) => DeletableTopicResult {
            name: topic.name,
            topic_id: topic.topic_id,
            error_code: reject.code.code(),
            error_message: message(&reject),
        },
    }
}
