//! StreamsGroupDescribe (89), version 0.
//!
//! Does: epochs, topology and members of streams groups (KIP-1071) with the tasks they have and are to have.
//! Leaves out: offsets of tasks, which Kafka 4.3 does not look at either.
//! Differs from Apache Kafka: the answer has the order of the request.

use super::access::To;
use super::groups::{coordinated, optional, seeing_all, speaking_streams_protocol, unseen_topics};
use super::{Answer, NO_OPERATIONS, message};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::state::State;
use crate::state::groups::{InternalTopic, StreamsGroupView, StreamsMemberView, TaskSets, Tasks};
use crate::state::security::acls::Operation;
use crate::time::Time;
use crate::wire::Str;
use crate::wire::generated::streams_group_describe_request::StreamsGroupDescribeRequest;
use crate::wire::generated::streams_group_describe_response::{
    Assignment, DescribedGroup, Endpoint, KeyValue, Member, StreamsGroupDescribeResponse, Subtopology, TaskIds,
    TopicInfo, Topology,
};

pub(super) fn streams_group_describe(
    state: &mut State,
    _: Time,
    from: &Caller,
    request: StreamsGroupDescribeRequest,
) -> Answer {
    let asks = request.include_authorized_operations;
    let groups = request.group_ids.into_iter().map(|group_id| match describe(state, from, &group_id) {
        Ok(view) => DescribedGroup {
            authorized_operations: if asks { from.operations_on(state, To::Group(&group_id)) } else { NO_OPERATIONS },
            group_id,
            ..described(view)
        },
        Err(reject) => refused(group_id, &reject),
    });
    Answer::now(StreamsGroupDescribeResponse { groups: groups.collect(), ..Default::default() })
}

fn describe(state: &State, from: &Caller, group: &str) -> Result<StreamsGroupView, Reject> {
    speaking_streams_protocol(state)?;
    coordinated(state, from, Operation::Describe, group)?;
    let view = state.groups.describe_streams(group)?;
    let parts = view.topology.iter().flat_map(|topology| topology.parts.values());
    let topics = parts.flat_map(|part| {
        let internal = part.changelogs.iter().chain(&part.repartition_topics).map(|topic| topic.name.as_str());
        part.source_topics.iter().chain(&part.sink_topics).map(String::as_str).chain(internal)
    });
    seeing_all(state, from, topics).map_err(|_| unseen_topics())?;
    Ok(view)
}

fn described(view: StreamsGroupView) -> DescribedGroup {
    let topology = view.topology.map(|topology| {
        let parts = topology.parts.into_iter().map(|(id, part)| Subtopology {
            subtopology_id: Str::from(id),
            source_topics: part.source_topics.into_iter().map(Str::from).collect(),
            repartition_sink_topics: part.sink_topics.into_iter().map(Str::from).collect(),
            state_changelog_topics: part.changelogs.into_iter().map(internal_topic).collect(),
            repartition_source_topics: part.repartition_topics.into_iter().map(internal_topic).collect(),
        });
        Topology { epoch: topology.epoch, subtopologies: Some(parts.collect()) }
    });
    DescribedGroup {
        group_state: Str::from(view.state),
        group_epoch: view.epoch,
        assignment_epoch: view.assignment_epoch,
        topology,
        members: view.members.into_iter().map(member).collect(),
        ..Default::default()
    }
}

fn internal_topic(topic: InternalTopic) -> TopicInfo {
    TopicInfo {
        name: Str::from(topic.name),
        partitions: topic.partitions,
        replication_factor: topic.replication_factor,
        topic_configs: topic.configs.into_iter().map(pair).collect(),
    }
}

fn pair((key, value): (String, String)) -> KeyValue {
    KeyValue { key: Str::from(key), value: Str::from(value) }
}

fn member(member: StreamsMemberView) -> Member {
    Member {
        member_id: Str::from(member.member_id),
        member_epoch: member.epoch,
        rack_id: optional(member.rack),
        client_id: Str::from(member.client_id),
        client_host: Str::from(member.client_host),
        topology_epoch: member.topology_epoch,
        process_id: Str::from(member.process_id),
        user_endpoint: member.endpoint.map(|(host, port)| Endpoint { host: Str::from(host), port }),
        client_tags: member.tags.into_iter().map(pair).collect(),
        assignment: assignment(&member.assignment),
        target_assignment: assignment(&member.target),
        ..Default::default()
    }
}

fn assignment(tasks: &TaskSets) -> Assignment {
    Assignment {
        active_tasks: task_ids(&tasks.active),
        standby_tasks: task_ids(&tasks.standby),
        warmup_tasks: task_ids(&tasks.warmup),
    }
}

fn task_ids(tasks: &Tasks) -> Vec<TaskIds> {
    let ids = tasks.iter().map(|(part, indices)| TaskIds {
        subtopology_id: Str::from(part.as_str()),
        partitions: indices.iter().copied().collect(),
    });
    ids.collect()
}

/// Only a group that is not there, or reads what may not be seen, is explained.
fn refused(group_id: Str, reject: &Reject) -> DescribedGroup {
    let error_message = message(reject)
        .filter(|_| matches!(reject.code, ErrorCode::GroupIdNotFound | ErrorCode::TopicAuthorizationFailed));
    DescribedGroup { group_id, error_code: reject.code.code(), error_message, ..Default::default() }
}
