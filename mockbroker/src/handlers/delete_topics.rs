//! DeleteTopics (20), versions 1–6.
//!
//! Does: by name, and by id from version 6 on (KIP-516).
//! Leaves out: controller mutation quotas.
//! Differs from Apache Kafka: a topic is gone when the answer is there, on every broker.

use super::{Answer, message};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::state::State;
use crate::time::Time;
use crate::wire::generated::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use crate::wire::generated::delete_topics_response::{DeletableTopicResult, DeleteTopicsResponse};
use crate::wire::{Str, Uuid};
use std::collections::BTreeSet;

pub(super) fn delete_topics(state: &mut State, _: Time, from: &Caller, request: DeleteTopicsRequest) -> Answer {
    let asked: Vec<DeleteTopicState> = if from.version >= 6 {
        request.topics
    } else {
        let named = request.topic_names.into_iter();
        named.map(|name| DeleteTopicState { name: Some(name), topic_id: Uuid::ZERO }).collect()
    };
    let mut seen = BTreeSet::new();
    let responses = asked.into_iter().map(|topic| {
        let found = resolve(state, &topic)
            .and_then(|name| if seen.insert(name.clone()) { Ok(name) } else { Err(ErrorCode::InvalidRequest.into()) });
        delete_one(state, topic, found)
    });
    let responses = responses.collect();
    Answer::now(DeleteTopicsResponse { responses, ..Default::default() })
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
