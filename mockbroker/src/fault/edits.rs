//! What faults change in an answer.

use super::Requests;
use crate::error::ErrorCode;
use crate::state::State;
use crate::state::nodes::{ListenerId, NodeId};
use crate::wire::error_fields::{Target, Topic, set_error_code};
use crate::wire::generated::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::wire::walk::{ScalarMut, VisitorMut, Walk};
use crate::wire::{Records, Response, Uuid};
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Metadata that is not so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lie {
    /// Everything is as it was when the fault was planned: brokers (by their addresses of the first listener), topics,
    /// partitions, leaders.
    Stale,
    /// This topic does not exist.
    NoTopic(String),
    /// This topic has only its first so many partitions.
    Partitions {
        /// The topic.
        topic: String,
        /// How many are told of.
        count: i32,
    },
    /// Another broker leads a partition.
    Leader {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Who is said to lead it.
        leader: NodeId,
    },
    /// This broker does not exist.
    NoBroker(NodeId),
    /// Another broker is the controller.
    Controller(NodeId),
}

impl fmt::Display for Lie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stale => f.write_str("metadata as of when this was planned"),
            Self::NoTopic(topic) => write!(f, "metadata without topic '{topic}'"),
            Self::Partitions { topic, count } => write!(f, "metadata with {count} partitions of '{topic}'"),
            Self::Leader { topic, partition, leader } => {
                write!(f, "metadata with {leader} as leader of '{topic}' partition {partition}")
            }
            Self::NoBroker(node) => write!(f, "metadata without {node}"),
            Self::Controller(node) => write!(f, "metadata with {node} as controller"),
        }
    }
}

/// Whether this lie is one, i.e. what it is about is there.
pub(super) fn check_lie(lie: &Lie, state: &State) -> Option<&'static str> {
    let topic_missing = |topic: &str| {
        (state.topics.get(topic).is_none() && !state.configs.broker_settings().auto_create_topics)
            .then_some("the topic does not exist, so this would be the truth or nonsense")
    };
    let node_missing = |node: NodeId| state.nodes.get(node).is_none().then_some("there is no such broker");
    match lie {
        Lie::Stale => None,
        Lie::NoTopic(topic) => topic_missing(topic),
        Lie::Partitions { topic, count } => {
            let there = state.topics.get(topic).map_or(usize::MAX, |topic| topic.partitions.len());
            let fewer = usize::try_from(*count).is_ok_and(|count| count < there);
            topic_missing(topic).or((!fewer).then_some("the number told must be from 0 to one less than there are"))
        }
        Lie::Leader { topic, partition, leader } => {
            let partition_missing = state.topics.get(topic).is_some_and(|topic| topic.partition(*partition).is_none());
            topic_missing(topic)
                .or(partition_missing.then_some("the topic has no such partition"))
                .or(node_missing(*leader))
        }
        Lie::NoBroker(node) | Lie::Controller(node) => node_missing(*node),
    }
}

/// How things stood at some moment, as far as Metadata tells of them.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    brokers: Vec<MetadataResponseBroker>,
    controller_id: i32,
    topics: BTreeMap<String, (Uuid, Vec<MetadataResponsePartition>)>,
}

impl Snapshot {
    pub(super) fn of(state: &State) -> Self {
        let topics = state.topics.iter().map(|topic| {
            let rows = (0_i32..).zip(&topic.partitions);
            let rows = rows.map(|(index, partition)| crate::handlers::metadata_row(state, index, partition));
            (topic.name.clone(), (topic.id, rows.collect()))
        });
        Self {
            brokers: crate::handlers::metadata_brokers(state, ListenerId::default()),
            controller_id: state.nodes.controller().map_or(-1, |node| node.0),
            topics: topics.collect(),
        }
    }

    fn impose(&self, metadata: &mut MetadataResponse) {
        metadata.brokers.clone_from(&self.brokers);
        metadata.controller_id = self.controller_id;
        for row in &mut metadata.topics {
            match row.name.as_ref().and_then(|name| self.topics.get(name.as_str())) {
                Some((id, partitions)) => {
                    row.error_code = 0;
                    row.topic_id = *id;
                    row.partitions.clone_from(partitions);
                }
                None => make_missing(row),
            }
        }
    }
}

/// Tells the lie; says whether it made a difference.
pub(super) fn lie(response: &mut Response, lie: &Lie, snapshot: Option<&Snapshot>) -> bool {
    let Response::Metadata(metadata) = response else { return false };
    let before = metadata.clone();
    match lie {
        Lie::Stale => {
            if let Some(snapshot) = snapshot {
                snapshot.impose(metadata);
            }
        }
        Lie::NoTopic(name) => of_topic(metadata, name).for_each(make_missing),
        Lie::Partitions { topic, count } => {
            let count = usize::try_from(*count).unwrap_or(0);
            of_topic(metadata, topic).for_each(|row| row.partitions.truncate(count));
        }
        Lie::Leader { topic, partition, leader } => {
            let rows = of_topic(metadata, topic).flat_map(|row| &mut row.partitions);
            for row in rows.filter(|row| row.partition_index == *partition) {
                row.leader_id = leader.0;
                row.error_code = 0;
            }
        }
        Lie::NoBroker(node) => metadata.brokers.retain(|broker| broker.node_id != node.0),
        Lie::Controller(node) => metadata.controller_id = node.0,
    }
    *metadata != before
}

fn of_topic<'a>(
    metadata: &'a mut MetadataResponse,
    name: &'a str,
) -> impl Iterator<Item = &'a mut MetadataResponseTopic> {
    metadata.topics.iter_mut().filter(move |row| row.name.as_ref().is_some_and(|own| own.as_str() == name))
}

fn make_missing(row: &mut MetadataResponseTopic) {
    row.error_code = ErrorCode::UnknownTopicOrPartition.code();
    row.topic_id = Uuid::ZERO;
    row.partitions.clear();
}

/// Puts an error into an answer whose request took effect; says whether there was a place for it.
pub(super) fn misreport(
    response: &mut Response,
    version: i16,
    which: &Requests,
    code: ErrorCode,
    state: &State,
) -> bool {
    put_error(response, version, code, which.topic.as_deref(), which.partition, which.name.as_deref(), state) > 0
}

/// Puts an error where it belongs: of the partition, topic or name that is given, else of the whole.
pub(crate) fn put_error(
    response: &mut Response,
    version: i16,
    code: ErrorCode,
    topic: Option<&str>,
    partition: Option<i32>,
    name: Option<&str>,
    state: &State,
) -> usize {
    let code_on_wire = code.code();
    let known = |name| Topic { name, id: state.topics.get(name).map(|topic| topic.id).unwrap_or_default() };
    let set = |response: &mut Response, target| set_error_code(response, version, target, code_on_wire);
    match (topic, partition, name) {
        (Some(topic), Some(index), _) => set(response, Target::Partition(known(topic), index)),
        (Some(topic), None, _) => set(response, Target::Topic(known(topic))),
        (None, Some(index), _) => {
            let names: Vec<&str> = state.topics.iter().map(|topic| topic.name.as_str()).collect();
            names.into_iter().map(|name| set(response, Target::Partition(known(name), index))).sum()
        }
        // An answer about one group only does not repeat its name.
        (None, None, Some(name)) => match set(response, Target::Named(name)) {
            0 => set(response, Target::Whole),
            count => count,
        },
        (None, None, None) => {
            let of_partitions = matches!(response, Response::Fetch(_)) && !is_of_fetch_session(code);
            let count = set_error_code(
                response,
                version,
                if of_partitions { Target::Every } else { Target::Whole },
                code_on_wire,
            );
            if let (Response::Fetch(fetch), true) = (response, of_partitions) {
                fetch.error_code = 0;
            }
            count
        }
    }
}

/// Whether Kafka says this of a whole fetch: everything else it says of partitions.
pub(crate) fn is_of_fetch_session(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::FetchSessionIdNotFound
            | ErrorCode::InvalidFetchSessionEpoch
            | ErrorCode::FetchSessionTopicIdError
            | ErrorCode::InconsistentTopicId
    )
}

/// Sets `throttle_time_ms` where this version has it.
pub(crate) fn throttle(response: &mut Response, version: i16, by: Duration) {
    struct Setter {
        ms: i32,
        here: bool,
    }
    impl VisitorMut for Setter {
        fn field(&mut self, name: &'static str) {
            self.here = name == "throttle_time_ms";
        }

        fn scalar(&mut self, value: ScalarMut<'_>) {
            if let (true, ScalarMut::I32(field)) = (std::mem::take(&mut self.here), value) {
                *field = self.ms;
            }
        }
    }
    let ms = i32::try_from(by.as_millis()).unwrap_or(i32::MAX);
    response.walk_mut(version, &mut Setter { ms, here: false });
}

/// Spoils the first batch of a fetch, of the named partition if there is one; says whether there was one.
pub(super) fn corrupt_batch(response: &mut Response, version: i16, which: &Requests, state: &State) -> bool {
    let Response::Fetch(fetch) = response else { return false };
    let by_id = version >= 13;
    for topic in &mut fetch.responses {
        let name = if by_id { state.topics.name_of(topic.topic_id).unwrap_or_default() } else { topic.topic.as_str() };
        if which.topic.as_deref().is_some_and(|wanted| wanted != name) {
            continue;
        }
        let rows = topic.partitions.iter_mut();
        for row in rows.filter(|row| which.partition.is_none_or(|wanted| wanted == row.partition_index)) {
            if let Some(records) = row.records.as_mut().filter(|records| !records.is_empty()) {
                *records = spoilt(records);
                return true;
            }
        }
    }
    false
}

/// The same batches, the last byte of the first one another. The log's own bytes are not touched.
fn spoilt(records: &Records) -> Records {
    let mut chunks = records.chunks().cloned();
    let mut out = Records::default();
    if let Some(first) = chunks.next() {
        let mut copy = BytesMut::from(&first[..]);
        // A chunk may hold several batches; the first ends where its length says.
        let end = crate::wire::batch::BatchHeader::parse(&copy).map_or(copy.len(), |header| header.size);
        if let Some(byte) = copy.get_mut(end.saturating_sub(1)) {
            *byte ^= 0x55;
        }
        out.push(copy.freeze());
    }
    chunks.for_each(|chunk: Bytes| out.push(chunk));
    out
}
