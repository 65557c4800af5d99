//! StreamsGroupHeartbeat (88), version 0.
//!
//! Does: members of streams groups (KIP-1071) join with their topology, beat, learn their tasks, and leave; makes the
//! internal topics the topology needs; says what hinders the group.
//! Leaves out: what Kafka 4.3 refuses, too: static members, warm-up tasks, task offsets, expressions for source topics,
//! changes of the topology.
//! Differs from Apache Kafka: where several members would do, tasks go to the first by name, not to whichever comes first
//! out of a hash map; internal topics are there at once, where Kafka makes them beside the request.

use super::Answer;
use super::access::To;
use super::groups::{coordinated, explained, seeing_all, speaking_streams_protocol};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::state::groups::{
    EndpointPartitions, InternalTopic, StreamsBeat, StreamsBeaten, StreamsStatus, Subtopology, TaskSets, Tasks,
    Topology,
};
use crate::state::security::acls::Operation;
use crate::state::{NewTopic, State, topics};
use crate::time::Time;
use crate::wire::Str;
use crate::wire::generated::streams_group_heartbeat_request::{self as request, StreamsGroupHeartbeatRequest};
use crate::wire::generated::streams_group_heartbeat_response::{
    Endpoint, EndpointToPartitions, Status, StreamsGroupHeartbeatResponse, TaskIds, TopicPartition,
};
use std::collections::BTreeSet;

/// A member leaves.
const LEAVE: i32 = -1;
/// A static member leaves for a while.
const LEAVE_FOR_A_WHILE: i32 = -2;

pub(super) fn streams_group_heartbeat(
    state: &mut State,
    now: Time,
    from: &Caller,
    request: StreamsGroupHeartbeatRequest,
) -> Answer {
    Answer::now(beat(state, now, from, &request).unwrap_or_else(|reject| StreamsGroupHeartbeatResponse {
        error_code: reject.code.code(),
        error_message: explained(&reject),
        ..Default::default()
    }))
}

fn beat(
    state: &mut State,
    now: Time,
    from: &Caller,
    request: &StreamsGroupHeartbeatRequest,
) -> Result<StreamsGroupHeartbeatResponse, Reject> {
    speaking_streams_protocol(state)?;
    from.check_access(state, Operation::Read, To::Group(&request.group_id))?;
    check_topics(request)?;
    seeing_all(state, from, topics_of(request).map(|name| &**name))?;
    check_supported(request)?;
    check(request)?;
    coordinated(state, from, Operation::Read, &request.group_id)?;
    let answered = StreamsGroupHeartbeatResponse { member_id: request.member_id.clone(), ..Default::default() };
    if matches!(request.member_epoch, LEAVE | LEAVE_FOR_A_WHILE) {
        let shutdown = request.shutdown_application;
        state.groups.streams_leave(now, &request.group_id, &request.member_id, shutdown)?;
        let member_epoch = request.member_epoch;
        return Ok(StreamsGroupHeartbeatResponse { member_epoch, status: Some(Vec::new()), ..answered });
    }
    let pace = state.streams_pace(&request.group_id);
    let beat = StreamsBeat {
        group: &request.group_id,
        member_id: &request.member_id,
        epoch: request.member_epoch,
        rack: request.rack_id.as_deref(),
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        topology: request.topology.as_ref().map(topology).transpose()?,
        owned: owned(request),
        process_id: request.process_id.as_deref(),
        endpoint: request.user_endpoint.as_ref().map(|endpoint| (endpoint.host.to_string(), endpoint.port)),
        tags: request.client_tags.as_ref().map(|tags| pairs(tags).collect()),
        shutdown: request.shutdown_application,
        endpoint_epoch: request.endpoint_information_epoch,
        client_id: &from.client_id,
        client_host: &from.client_host,
    };
    let mut beaten = state.groups.streams_beat(now, &beat, &pace)?;
    make_all(state, from, &mut beaten);
    Ok(told(answered, beaten))
}

/// Refuses topologies with topics nobody may use (`KafkaApis.handleStreamsGroupHeartbeat`).
fn check_topics(request: &StreamsGroupHeartbeatRequest) -> Result<(), Reject> {
    for name in topics_of(request) {
        if topics::is_internal(name) || topics::check_name(name).is_err() {
            let message = format!("'{name}' cannot be a topic of an application");
            return Err(Reject::new(ErrorCode::StreamsInvalidTopology, message));
        }
    }
    Ok(())
}

/// All topics of the topology, those the group makes for itself, too.
fn topics_of(request: &StreamsGroupHeartbeatRequest) -> impl Iterator<Item = &Str> {
    let parts = || request.topology.iter().flat_map(|topology| &topology.subtopologies);
    let internal = parts().flat_map(|part| part.repartition_source_topics.iter().chain(&part.state_changelog_topics));
    let named = parts().flat_map(|part| part.source_topics.iter().chain(&part.repartition_sink_topics));
    named.chain(internal.map(|topic| &topic.name))
}

/// Refuses what Kafka 4.3 does not do yet.
fn check_supported(request: &StreamsGroupHeartbeatRequest) -> Result<(), Reject> {
    let mut parts = request.topology.iter().flat_map(|topology| &topology.subtopologies);
    let problem = if request.instance_id.is_some() {
        "there are no static members in streams groups"
    } else if request.task_offsets.is_some() || request.task_end_offsets.is_some() {
        "offsets of tasks are not looked at"
    } else if request.warmup_tasks.as_ref().is_some_and(|tasks| !tasks.is_empty()) {
        "there are no warm-up tasks"
    } else if parts.any(|part| !part.source_topic_regex.is_empty()) {
        "source topics cannot be named by expressions"
    } else {
        return Ok(());
    };
    Err(Reject::new(ErrorCode::InvalidRequest, problem))
}

/// Refuses what no client should send (`GroupCoordinatorService.throwIfStreamsGroupHeartbeatRequestIsInvalid`).
fn check(request: &StreamsGroupHeartbeatRequest) -> Result<(), Reject> {
    let is_blank = |text: &str| text.trim().is_empty();
    let kinds = [&request.active_tasks, &request.standby_tasks, &request.warmup_tasks];
    let said = kinds.iter().filter(|kind| kind.is_some()).count();
    let problem = if is_blank(&request.member_id) {
        "member_id is blank"
    } else if is_blank(&request.group_id) {
        "group_id is blank"
    } else if request.rack_id.as_deref().is_some_and(is_blank) {
        "rack_id is blank"
    } else if request.member_epoch == 0 {
        return check_join(request);
    } else if request.member_epoch == LEAVE_FOR_A_WHILE {
        "only a member with an instance_id can leave for a while"
    } else if request.member_epoch < LEAVE_FOR_A_WHILE {
        "no member can be in this member_epoch"
    } else if said != 0 && said != kinds.len() {
        "who names tasks of one kind must name those of all"
    } else if request.topology.is_some() {
        "only who joins brings a topology"
    } else {
        return Ok(());
    };
    Err(Reject::new(ErrorCode::InvalidRequest, problem))
}

fn check_join(request: &StreamsGroupHeartbeatRequest) -> Result<(), Reject> {
    let kinds = [&request.active_tasks, &request.standby_tasks, &request.warmup_tasks];
    let is_empty = |kind: &Option<Vec<request::TaskIds>>| kind.as_ref().is_some_and(Vec::is_empty);
    let topology = request.topology.as_ref();
    let problem = if request.rebalance_timeout_ms == -1 {
        "who joins must say its rebalance_timeout_ms"
    } else if !kinds.into_iter().all(is_empty) {
        "who joins has no tasks"
    } else if topology.is_none() {
        "who joins must bring a topology"
    } else {
        let mut changelogs = topology.iter().flat_map(|topology| &topology.subtopologies);
        if changelogs.any(|part| part.state_changelog_topics.iter().any(|topic| topic.partitions != 0)) {
            let problem = "how many partitions a changelog has is for the group to decide";
            return Err(Reject::new(ErrorCode::StreamsInvalidTopology, problem));
        }
        return Ok(());
    };
    Err(Reject::new(ErrorCode::InvalidRequest, problem))
}

fn topology(topology: &request::Topology) -> Result<Topology, Reject> {
    let part = |part: &request::Subtopology| Ok((part.subtopology_id.to_string(), subtopology(part)?));
    let parts = topology.subtopologies.iter().map(part).collect::<Result<_, Reject>>()?;
    Ok(Topology { epoch: topology.epoch, parts })
}

fn subtopology(part: &request::Subtopology) -> Result<Subtopology, Reject> {
    let names = |names: &[Str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut copartitioned = Vec::new();
    for group in &part.copartition_groups {
        // Kafka fails on its own over an index that names nothing.
        let at = |index: &i16| usize::try_from(*index).ok();
        let sources = group.source_topics.iter().map(|i| part.source_topics.get(at(i)?).map(ToString::to_string));
        let internal = group.repartition_source_topics.iter();
        let internal = internal.map(|i| part.repartition_source_topics.get(at(i)?).map(|topic| topic.name.to_string()));
        let names: Option<BTreeSet<String>> = sources.chain(internal).collect();
        copartitioned.push(names.ok_or(ErrorCode::UnknownServerError)?);
    }
    Ok(Subtopology {
        source_topics: names(&part.source_topics),
        sink_topics: names(&part.repartition_sink_topics),
        changelogs: part.state_changelog_topics.iter().map(internal_topic).collect(),
        repartition_topics: part.repartition_source_topics.iter().map(internal_topic).collect(),
        copartitioned,
    })
}

fn internal_topic(topic: &request::TopicInfo) -> InternalTopic {
    InternalTopic {
        name: topic.name.to_string(),
        partitions: topic.partitions,
        replication_factor: topic.replication_factor,
        configs: pairs(&topic.topic_configs).collect(),
    }
}

fn pairs(pairs: &[request::KeyValue]) -> impl Iterator<Item = (String, String)> {
    pairs.iter().map(|pair| (pair.key.to_string(), pair.value.to_string()))
}

/// What a member says it has, if it says so of all kinds of tasks.
fn owned(request: &StreamsGroupHeartbeatRequest) -> Option<TaskSets> {
    let tasks = |rows: &[request::TaskIds]| -> Tasks {
        let mut tasks = Tasks::new();
        for row in rows {
            tasks.entry(row.subtopology_id.to_string()).or_default().extend(&row.partitions);
        }
        tasks
    };
    Some(TaskSets {
        active: tasks(request.active_tasks.as_ref()?),
        standby: tasks(request.standby_tasks.as_ref()?),
        warmup: tasks(request.warmup_tasks.as_ref()?),
    })
}

/// Makes the internal topics that are missing, or none where the member may not make one of them, and tells it so.
fn make_all(state: &mut State, from: &Caller, beaten: &mut StreamsBeaten) {
    let forbidden = beaten.missing.iter().filter(|topic| !from.may_create(state, &topic.name));
    let forbidden: Vec<&str> = forbidden.map(|topic| topic.name.as_str()).collect();
    if forbidden.is_empty() {
        return beaten.missing.iter().for_each(|topic| make(state, topic));
    }
    let told = format!("you may not create {}", forbidden.join(", "));
    match beaten.status.iter_mut().find(|(code, _)| *code == StreamsStatus::MissingInternalTopics) {
        Some((_, detail)) => *detail = format!("{detail}; {told}"),
        None => beaten.status.push((StreamsStatus::MissingInternalTopics, told)),
    }
}

/// Makes an internal topic. If that fails, the group goes on missing it, and says so with every heartbeat.
fn make(state: &mut State, topic: &InternalTopic) {
    let new = NewTopic {
        name: topic.name.clone(),
        partitions: Some(topic.partitions),
        replication_factor: Some(topic.replication_factor).filter(|factor| *factor > 0),
        assignment: None,
        configs: topic.configs.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect(),
    };
    if let Err(reject) = state.create_topic(&new, false) {
        tracing::warn!(topic = %topic.name, %reject, "an internal topic cannot be made");
    }
}

fn told(answered: StreamsGroupHeartbeatResponse, beaten: StreamsBeaten) -> StreamsGroupHeartbeatResponse {
    let status = beaten
        .status
        .into_iter()
        .map(|(code, detail)| Status { status_code: code as i8, status_detail: Str::from(detail) });
    let kind = |tasks: fn(&TaskSets) -> &Tasks| beaten.tasks.as_ref().map(|sets| task_ids(tasks(sets)));
    StreamsGroupHeartbeatResponse {
        member_epoch: beaten.epoch,
        heartbeat_interval_ms: beaten.heartbeat_interval_ms,
        active_tasks: kind(|sets| &sets.active),
        standby_tasks: kind(|sets| &sets.standby),
        warmup_tasks: kind(|sets| &sets.warmup),
        status: Some(status.collect()),
        endpoint_information_epoch: beaten.endpoint_epoch,
        partitions_by_user_endpoint: beaten.endpoints.map(|all| all.into_iter().map(endpoint).collect()),
        ..answered
    }
}

fn task_ids(tasks: &Tasks) -> Vec<TaskIds> {
    let ids = tasks.iter().map(|(part, indices)| TaskIds {
        subtopology_id: Str::from(part.as_str()),
        partitions: indices.iter().copied().collect(),
    });
    ids.collect()
}

fn endpoint(endpoint: EndpointPartitions) -> EndpointToPartitions {
    let rows = |partitions: Vec<(String, Vec<i32>)>| {
        let row = |(topic, partitions)| TopicPartition { topic: Str::from(topic), partitions };
        partitions.into_iter().map(row).collect()
    };
    let (host, port) = endpoint.endpoint;
    EndpointToPartitions {
        user_endpoint: Endpoint { host: Str::from(host), port },
        active_partitions: rows(endpoint.active),
        standby_partitions: rows(endpoint.standby),
    }
}
