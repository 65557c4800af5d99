//! What an administrator asks, and what newer groups ask, in the name of somebody who may not.
//!
//! These scripts play on brokers that ask who clients are; see [`crate::security`].

use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use kafka_protocol::messages::alter_share_group_offsets_request::{
    AlterShareGroupOffsetsRequestPartition, AlterShareGroupOffsetsRequestTopic,
};
use kafka_protocol::messages::delete_share_group_offsets_request::DeleteShareGroupOffsetsRequestTopic;
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::describe_share_group_offsets_request::{
    DescribeShareGroupOffsetsRequestGroup, DescribeShareGroupOffsetsRequestTopic,
};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::{
    AlterClientQuotasRequest, AlterPartitionReassignmentsRequest, AlterReplicaLogDirsRequest,
    AlterShareGroupOffsetsRequest, BrokerId, DeleteShareGroupOffsetsRequest, DescribeClientQuotasRequest,
    DescribeLogDirsRequest, DescribeQuorumRequest, DescribeShareGroupOffsetsRequest, ElectLeadersRequest, GroupId,
    ListConfigResourcesRequest, ListPartitionReassignmentsRequest, ShareAcknowledgeRequest, ShareFetchRequest,
    ShareGroupDescribeRequest, ShareGroupHeartbeatRequest, TopicName, UpdateFeaturesRequest,
    share_acknowledge_request as acknowledging, share_fetch_request as fetching,
};
use rehearsal_mockbroker::wire::Str;
use rehearsal_mockbroker::wire::generated::streams_group_describe_request::StreamsGroupDescribeRequest;
use rehearsal_mockbroker::wire::generated::streams_group_heartbeat_request::{
    StreamsGroupHeartbeatRequest, Subtopology, TopicInfo, Topology,
};
use tests::differential::{Link, Stage, metadata_of};
use tests::own::Own;

use crate::security::{CREATE, DELETE, DESCRIBE, GROUP, READ, TOPIC, allow, grant};
use crate::verbs::text;

pub(crate) fn acl_administration(stage: &mut Stage) {
    let topic = stage.create_topic("orders", 1);
    let alice = stage.log_in("alice", "alice-secret");
    move_partitions(stage, alice, &topic);
    look_at_folders(stage, alice, &topic);
    set_quotas(stage, alice);
    let partition = PartitionData::default().with_partition_index(0);
    let quorum = TopicData::default().with_topic_name(text("__cluster_metadata").into());
    let quorum = DescribeQuorumRequest::default().with_topics(vec![quorum.with_partitions(vec![partition])]);
    let update = FeatureUpdateKey::default()
        .with_feature(text("transaction.version"))
        .with_max_version_level(2)
        .with_upgrade_type(1);
    let update = UpdateFeaturesRequest::default().with_feature_updates(vec![update]).with_timeout_ms(10_000);
    for version in 0..=2 {
        stage.ask_on(alice, &format!("the quorum, version {version}"), version, &quorum);
        if version > 0 {
            stage.ask_on(alice, &format!("features, version {version}"), version, &update);
        }
    }
    for version in 0..=1 {
        let resources = ListConfigResourcesRequest::default();
        stage.ask_on(alice, &format!("resources with configs, version {version}"), version, &resources);
    }
}

fn move_partitions(stage: &mut Stage, alice: Link, topic: &TopicName) {
    let rows = TopicPartitions::default().with_topic(topic.clone()).with_partitions(vec![0, 7]);
    let elect = ElectLeadersRequest::default().with_topic_partitions(Some(vec![rows])).with_timeout_ms(10_000);
    for version in 0..=2 {
        stage.ask_on(alice, &format!("elections, version {version}"), version, &elect);
    }
    stage.ask_on(alice, "all elections", 2, &elect.clone().with_topic_partitions(None));
    stage.ask_on(alice, "an unknown kind of election", 2, &elect.with_election_type(7));
    let row = ReassignablePartition::default().with_partition_index(0).with_replicas(Some(vec![BrokerId(1)]));
    let rows = ReassignableTopic::default().with_name(topic.clone()).with_partitions(vec![row]);
    let alter = AlterPartitionReassignmentsRequest::default().with_timeout_ms(10_000);
    stage.ask_on(alice, "a move", 0, &alter.clone().with_topics(vec![rows.clone()]));
    stage.ask_on(alice, "a move, version 1", 1, &alter.clone().with_topics(vec![rows]));
    stage.ask_on(alice, "no move", 0, &alter);
    let list = ListPartitionReassignmentsRequest::default().with_timeout_ms(10_000);
    let rows = ListPartitionReassignmentsTopics::default().with_name(topic.clone()).with_partition_indexes(vec![0, 9]);
    stage.ask_on(alice, "some moves", 0, &list.clone().with_topics(Some(vec![rows])));
    stage.ask_on(alice, "all moves", 0, &list.with_topics(None));
}

fn look_at_folders(stage: &mut Stage, alice: Link, topic: &TopicName) {
    let rows = DescribableLogDirTopic::default().with_topic(topic.clone()).with_partitions(vec![0, 7]);
    for version in 1..=4 {
        let some = DescribeLogDirsRequest::default().with_topics(Some(vec![rows.clone()]));
        stage.ask_on(alice, &format!("folders, version {version}"), version, &some);
    }
    stage.ask_on(alice, "all folders", 4, &DescribeLogDirsRequest::default().with_topics(None));
    let rows = AlterReplicaLogDirTopic::default().with_name(topic.clone()).with_partitions(vec![0, 7]);
    let dir = AlterReplicaLogDir::default().with_path(text("/no/such/folder")).with_topics(vec![rows]);
    stage.ask_on(alice, "another folder", 2, &AlterReplicaLogDirsRequest::default().with_dirs(vec![dir]));
}

fn set_quotas(stage: &mut Stage, alice: Link) {
    let entity = |name: &str| EntityData::default().with_entity_type(text("user")).with_entity_name(Some(text(name)));
    let op = || vec![OpData::default().with_key(text("producer_byte_rate")).with_value(1e6)];
    let entry = |name: &str| EntryData::default().with_entity(vec![entity(name)]).with_ops(op());
    let alter = AlterClientQuotasRequest::default().with_entries(vec![entry("ann"), entry("ben")]);
    let part = ComponentData::default().with_entity_type(text("user")).with_match_type(2);
    let describe = DescribeClientQuotasRequest::default().with_components(vec![part]);
    for version in 0..=1 {
        stage.ask_on(alice, &format!("set quotas, version {version}"), version, &alter);
        stage.ask_on(alice, &format!("quotas, version {version}"), version, &describe);
    }
}

/// A share group and the topics it is asked about.
struct Sharing {
    group: GroupId,
    topic: TopicName,
    id: uuid::Uuid,
}

fn ask_about_sharing(stage: &mut Stage, alice: Link, when: &str, scene: &Sharing) {
    let label = |what: &str| format!("{what}, {when}");
    let Sharing { group, topic, id } = scene;
    let beat = ShareGroupHeartbeatRequest::default()
        .with_group_id(group.clone())
        .with_member_id(text("ann"))
        .with_member_epoch(7)
        .with_subscribed_topic_names(Some(vec![topic.clone()]));
    stage.ask_on(alice, &label("heartbeat"), 1, &beat);
    let described = ShareGroupDescribeRequest::default()
        .with_group_ids(vec![group.clone()])
        .with_include_authorized_operations(true);
    stage.ask_on(alice, &label("describe"), 1, &described);
    let fetched =
        fetching::FetchTopic::default().with_topic_id(*id).with_partitions(vec![fetching::FetchPartition::default()]);
    let fetch = ShareFetchRequest::default()
        .with_group_id(Some(group.clone()))
        .with_member_id(Some(text("ann")))
        .with_max_wait_ms(100)
        .with_max_bytes(1 << 20)
        .with_max_records(10)
        .with_batch_size(10)
        .with_topics(vec![fetched]);
    stage.ask_on(alice, &label("fetch"), 1, &fetch);
    let accepted = acknowledging::AcknowledgementBatch::default().with_acknowledge_types(vec![1]);
    let accepted = acknowledging::AcknowledgePartition::default().with_acknowledgement_batches(vec![accepted]);
    let accepted = acknowledging::AcknowledgeTopic::default().with_topic_id(*id).with_partitions(vec![accepted]);
    let acknowledge = ShareAcknowledgeRequest::default()
        .with_group_id(Some(group.clone()))
        .with_member_id(Some(text("ann")))
        .with_share_session_epoch(1)
        .with_topics(vec![accepted]);
    stage.ask_on(alice, &label("acknowledge"), 1, &acknowledge);
    ask_about_shared_offsets(stage, alice, when, scene);
}

fn ask_about_shared_offsets(stage: &mut Stage, alice: Link, when: &str, Sharing { group, topic, .. }: &Sharing) {
    let label = |what: &str| format!("{what}, {when}");
    let rows = DescribeShareGroupOffsetsRequestTopic::default().with_topic_name(topic.clone()).with_partitions(vec![0]);
    for (what, topics) in [("offsets", Some(vec![rows])), ("all offsets", None)] {
        let of_group =
            DescribeShareGroupOffsetsRequestGroup::default().with_group_id(group.clone()).with_topics(topics);
        let describe = DescribeShareGroupOffsetsRequest::default().with_groups(vec![of_group]);
        stage.ask_on(alice, &label(what), 0, &describe);
    }
    let row = AlterShareGroupOffsetsRequestPartition::default().with_start_offset(1);
    let rows = AlterShareGroupOffsetsRequestTopic::default().with_topic_name(topic.clone()).with_partitions(vec![row]);
    let alter = AlterShareGroupOffsetsRequest::default().with_group_id(group.clone()).with_topics(vec![rows]);
    stage.ask_on(alice, &label("alter offsets"), 0, &alter);
    let row = DeleteShareGroupOffsetsRequestTopic::default().with_topic_name(topic.clone());
    let delete = DeleteShareGroupOffsetsRequest::default().with_group_id(group.clone()).with_topics(vec![row]);
    stage.ask_on(alice, &label("delete offsets"), 0, &delete);
}

pub(crate) fn acl_share_groups(stage: &mut Stage) {
    let topic = stage.create_topic("jobs", 1);
    let scene = Sharing { group: stage.group("workers"), id: stage.topic_id(&topic), topic };
    let join = ShareGroupHeartbeatRequest::default()
        .with_group_id(scene.group.clone())
        .with_member_id(text("ben"))
        .with_subscribed_topic_names(Some(vec![scene.topic.clone()]));
    stage.quietly(1, &join);
    crate::share_groups::until_assigned(stage, &scene.group, "ben", 1);
    let alice = stage.log_in("alice", "alice-secret");
    ask_about_sharing(stage, alice, "with no rights", &scene);
    let leave = join.clone().with_member_epoch(-1).with_subscribed_topic_names(None);
    for (when, operation) in [
        ("with a right to describe the group", DESCRIBE),
        ("with a right to read the group", READ),
        ("with a right to delete the group", DELETE),
    ] {
        if operation == DELETE {
            // Offsets can be changed once nobody is in the group.
            stage.quietly(1, &leave);
        }
        grant(stage, vec![allow(GROUP, &scene.group.0, operation)]);
        ask_about_sharing(stage, alice, when, &scene);
    }
    grant(stage, vec![allow(TOPIC, &scene.topic.0, DESCRIBE)]);
    ask_about_shared_offsets(stage, alice, "with a right to describe the topic", &scene);
}

pub(crate) fn acl_streams_groups(stage: &mut Stage) {
    let topic = stage.create_topic("clicks", 1);
    let made = stage.topic("made");
    let group = stage.group("app");
    let own = |name: &str| Str::from(name);
    let beat = |internal: bool| {
        let changelog = TopicInfo { name: own(&made), partitions: 0, ..Default::default() };
        let part = Subtopology {
            subtopology_id: own("part"),
            source_topics: vec![own(&topic)],
            state_changelog_topics: if internal { vec![changelog] } else { Vec::new() },
            ..Default::default()
        };
        Own(StreamsGroupHeartbeatRequest {
            group_id: own(&group.0),
            member_id: own("ann"),
            rebalance_timeout_ms: 30_000,
            topology: Some(Topology { epoch: 0, subtopologies: vec![part] }),
            active_tasks: Some(Vec::new()),
            standby_tasks: Some(Vec::new()),
            warmup_tasks: Some(Vec::new()),
            process_id: Some(own("ann")),
            ..Default::default()
        })
    };
    let describe =
        Own(StreamsGroupDescribeRequest { group_ids: vec![own(&group.0)], include_authorized_operations: true });
    let alice = stage.log_in("alice", "alice-secret");
    for (when, right) in [
        ("with no rights", None),
        ("with a right to describe the group", Some(allow(GROUP, &group.0, DESCRIBE))),
        ("with a right to read the group", Some(allow(GROUP, &group.0, READ))),
        ("with a right to describe the topic", Some(allow(TOPIC, &topic.0, DESCRIBE))),
        ("with a right to see the other", Some(allow(TOPIC, &made.0, DESCRIBE))),
        ("with a right to make the other", Some(allow(TOPIC, &made.0, CREATE))),
    ] {
        let right_to = right.as_ref().map_or(0, |right| right.operation);
        grant(stage, right.into_iter().collect());
        stage.ask_on(alice, &format!("heartbeat that needs a topic, {when}"), 0, &beat(true));
        if right_to != CREATE {
            stage.ask_on(alice, &format!("describe, {when}"), 0, &describe);
        }
    }
    stage.until("the other is made", |stage| {
        let made = stage.quietly(9, &metadata_of(&made)).unwrap_or_default();
        made.topics.first().is_some_and(|topic| topic.error_code == 0)
    });
    let deny = allow(TOPIC, &topic.0, DESCRIBE).with_permission_type(2);
    grant(stage, vec![deny]);
    stage.ask_on(alice, "describe a group of a hidden topic", 0, &describe);
    stage.ask_on(alice, "heartbeat of a hidden topic", 0, &beat(true));
}
