//! Groups of Kafka Streams applications (KIP-1071).
//!
//! Where several members would do, Kafka gives a task to whichever comes first out of a hash map; scripts leave no choice.

use kafka_protocol::messages::{DeleteGroupsRequest, GroupId, ListGroupsRequest, TopicName};
use rehearsal_mockbroker::wire::Str;
use rehearsal_mockbroker::wire::generated::streams_group_describe_request::StreamsGroupDescribeRequest;
use rehearsal_mockbroker::wire::generated::streams_group_heartbeat_request::{
    CopartitionGroup, Endpoint, KeyValue, StreamsGroupHeartbeatRequest, Subtopology, TaskIds, TopicInfo, Topology,
};
use tests::differential::Stage;
use tests::own::Own;

use crate::verbs::text;

fn beat(group: &GroupId, member: &str, epoch: i32) -> StreamsGroupHeartbeatRequest {
    StreamsGroupHeartbeatRequest {
        group_id: Str::from(group.0.as_str()),
        member_id: Str::from(member),
        member_epoch: epoch,
        ..Default::default()
    }
}

fn join(group: &GroupId, member: &str, topology: Topology) -> StreamsGroupHeartbeatRequest {
    StreamsGroupHeartbeatRequest {
        rebalance_timeout_ms: 30_000,
        topology: Some(topology),
        active_tasks: Some(Vec::new()),
        standby_tasks: Some(Vec::new()),
        warmup_tasks: Some(Vec::new()),
        process_id: Some(Str::from(member)),
        ..beat(group, member, 0)
    }
}

fn owning(request: StreamsGroupHeartbeatRequest, part: &str, partitions: &[i32]) -> StreamsGroupHeartbeatRequest {
    let ids = TaskIds { subtopology_id: Str::from(part), partitions: partitions.to_vec() };
    StreamsGroupHeartbeatRequest {
        active_tasks: Some(vec![ids]),
        standby_tasks: Some(Vec::new()),
        warmup_tasks: Some(Vec::new()),
        ..request
    }
}

fn topology(subtopologies: Vec<Subtopology>) -> Topology {
    Topology { epoch: 0, subtopologies }
}

fn part(id: &str, sources: &[&TopicName]) -> Subtopology {
    Subtopology {
        subtopology_id: Str::from(id),
        source_topics: sources.iter().map(|topic| Str::from(topic.0.as_str())).collect(),
        ..Default::default()
    }
}

fn internal(topic: &TopicName) -> TopicInfo {
    let config = KeyValue { key: Str::from("cleanup.policy"), value: Str::from("compact") };
    TopicInfo { name: Str::from(topic.0.as_str()), topic_configs: vec![config], ..Default::default() }
}

fn describe(group: &GroupId) -> Own<StreamsGroupDescribeRequest> {
    let group_ids = vec![Str::from(group.0.as_str())];
    Own(StreamsGroupDescribeRequest { group_ids, include_authorized_operations: true })
}

pub(crate) fn streams_group_members(stage: &mut Stage) {
    let topic = stage.create_topic("words", 2);
    let group = stage.group("counting");
    let parts = || topology(vec![part("0", &[&topic])]);
    let ann = |epoch| beat(&group, "ann", epoch);
    let ben = |epoch| beat(&group, "ben", epoch);
    let joined = stage.ask("join", 0, &Own(join(&group, "ann", parts()))).0;
    stage.ask("beat", 0, &Own(ann(joined.member_epoch)));
    stage.ask("described", 0, &describe(&group));
    let with_endpoint = StreamsGroupHeartbeatRequest {
        user_endpoint: Some(Endpoint { host: Str::from("ben.local"), port: 8080 }),
        client_tags: Some(vec![KeyValue { key: Str::from("zone"), value: Str::from("a") }]),
        ..join(&group, "ben", parts())
    };
    stage.ask("another joins", 0, &Own(with_endpoint));
    stage.ask("the first is to give one up", 0, &Own(ann(joined.member_epoch)));
    stage.ask("described in between", 0, &describe(&group));
    stage.ask("it has given it up", 0, &Own(owning(ann(joined.member_epoch), "0", &[0])));
    stage.ask("the other gets it", 0, &Own(ben(joined.member_epoch + 1)));
    stage.ask("described with two", 0, &describe(&group));
    stage.ask_for_mine("listed", 5, &ListGroupsRequest::default().with_types_filter(vec![text("streams")]));
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group.clone()]);
    stage.ask("not to be deleted", 2, &delete);
    stage.ask("one leaves", 0, &Own(ben(-1)));
    stage.ask("the other gets all", 0, &Own(owning(ann(joined.member_epoch + 1), "0", &[0])));
    let shutdown = StreamsGroupHeartbeatRequest { shutdown_application: true, ..ann(joined.member_epoch + 2) };
    stage.ask("it wants all to stop", 0, &Own(shutdown));
    stage.ask("the other, too", 0, &Own(ann(-1)));
    stage.ask("described empty", 0, &describe(&group));
    stage.ask("deleted", 2, &delete);
}

pub(crate) fn streams_group_topologies(stage: &mut Stage) {
    let group = stage.group("counting");
    let (words, by_word, counts) = (stage.topic("words"), stage.topic("by-word"), stage.topic("counts"));
    let splitting =
        Subtopology { repartition_sink_topics: vec![Str::from(by_word.0.as_str())], ..part("0", &[&words]) };
    let counting = Subtopology {
        repartition_source_topics: vec![internal(&by_word)],
        state_changelog_topics: vec![internal(&counts)],
        ..part("1", &[])
    };
    let parts = topology(vec![splitting, counting]);
    let joined = stage.ask("no topic to read", 0, &Own(join(&group, "ann", parts))).0;
    stage.ask("described without topics", 0, &describe(&group));
    stage.create_topic("words", 2);
    let mut epoch = joined.member_epoch;
    stage.until("tasks are dealt out", |stage| {
        let beaten = stage.quietly(0, &Own(beat(&group, "ann", epoch))).unwrap_or_default().0;
        epoch = beaten.member_epoch.max(epoch);
        beaten.active_tasks.is_some_and(|tasks| !tasks.is_empty())
    });
    stage.await_leaders(&by_word, 2);
    stage.await_leaders(&counts, 2);
    let described = stage.quietly(0, &describe(&group)).unwrap_or_default().0;
    let group_row = described.groups.first();
    let topology = group_row.and_then(|group| group.topology.clone()).map(|topology| format!("{topology:?}"));
    stage.note("its parts", topology.unwrap_or_default().replace(group.0.as_str(), ""));
    let members = group_row.map(|group| group.members.clone()).unwrap_or_default();
    let tasks: Vec<String> = members.iter().map(|member| format!("{:?}", member.assignment.active_tasks)).collect();
    stage.note("its tasks", tasks.join(" "));
    let (left, right) = (stage.create_topic("left", 1), stage.create_topic("right", 2));
    let joining = Subtopology {
        copartition_groups: vec![CopartitionGroup { source_topics: vec![0, 1], ..Default::default() }],
        ..part("0", &[&left, &right])
    };
    let other = stage.group("joining");
    let parts = Topology { epoch: 0, subtopologies: vec![joining] };
    stage.ask("topics that do not fit", 0, &Own(join(&other, "ann", parts)));
}

pub(crate) fn streams_group_refusals(stage: &mut Stage) {
    let topic = stage.create_topic("words", 1);
    let group = stage.group("refusing");
    let parts = || topology(vec![part("0", &[&topic])]);
    let joining = || join(&group, "ann", parts());
    stage.ask("a group that is none", 0, &Own(beat(&group, "ann", 3)));
    stage.ask("leaving a group that is none", 0, &Own(beat(&group, "ann", -1)));
    stage.ask("no topology", 0, &Own(StreamsGroupHeartbeatRequest { topology: None, ..joining() }));
    stage.ask("no timeout", 0, &Own(StreamsGroupHeartbeatRequest { rebalance_timeout_ms: -1, ..joining() }));
    stage.ask("no group id", 0, &Own(join(&GroupId(text("")), "ann", parts())));
    stage.ask("no member id", 0, &Own(join(&group, "", parts())));
    stage.ask(
        "a static member",
        0,
        &Own(StreamsGroupHeartbeatRequest { instance_id: Some(Str::from("one")), ..joining() }),
    );
    let internal = topology(vec![part("0", &[&TopicName(text("__consumer_offsets"))])]);
    stage.ask("an internal topic of Kafka's", 0, &Own(join(&group, "ann", internal)));
    stage.ask("an invalid topic", 0, &Own(join(&group, "ann", topology(vec![part("0", &[&TopicName(text("a/b"))])]))));
    stage.ask("an epoch that is none", 0, &Own(beat(&group, "ann", -3)));
    stage.ask("described", 0, &describe(&group));
    let joined = stage.ask("join", 0, &Own(joining())).0;
    stage.ask("an epoch too high", 0, &Own(beat(&group, "ann", joined.member_epoch + 1)));
    stage.ask("an epoch too low", 0, &Own(beat(&group, "ann", joined.member_epoch - 1)));
    stage.ask("a stranger", 0, &Own(beat(&group, "bob", joined.member_epoch)));
    stage.ask("a stranger leaves", 0, &Own(beat(&group, "bob", -1)));
    stage.ask("no such task", 0, &Own(owning(beat(&group, "ann", joined.member_epoch), "0", &[7])));
    stage.ask("no such part", 0, &Own(owning(beat(&group, "ann", joined.member_epoch), "7", &[0])));
    let newer = Topology { epoch: 1, ..parts() };
    stage.ask("another topology", 0, &Own(join(&group, "ben", newer)));
    stage.ask("still there", 0, &Own(beat(&group, "ann", joined.member_epoch)));
}
