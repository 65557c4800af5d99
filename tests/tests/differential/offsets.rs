//! Committed offsets: stored, read back, refused, forgotten.

use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{
    GroupId, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, OffsetCommitRequest, OffsetDeleteRequest,
    OffsetFetchRequest, SyncGroupRequest, TopicName,
};
use tests::differential::Stage;

use crate::verbs::{subscription, text};

pub(crate) fn row(index: i32, offset: i64, metadata: Option<&str>) -> OffsetCommitRequestPartition {
    OffsetCommitRequestPartition::default()
        .with_partition_index(index)
        .with_committed_offset(offset)
        .with_committed_leader_epoch(-1)
        .with_committed_metadata(metadata.map(text))
}

/// A commit from outside the group's generations, as an admin makes.
pub(crate) fn commit(
    group: &GroupId,
    topic: &TopicName,
    rows: Vec<OffsetCommitRequestPartition>,
) -> OffsetCommitRequest {
    let topic = OffsetCommitRequestTopic::default().with_name(topic.clone()).with_partitions(rows);
    OffsetCommitRequest::default()
        .with_group_id(group.clone())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}

/// A commit of one partition by a member of a consumer group.
pub(crate) fn commit_as(group: &GroupId, member: &str, epoch: i32, topic: &TopicName) -> OffsetCommitRequest {
    commit(group, topic, vec![row(0, 7, None)]).with_member_id(text(member)).with_generation_id_or_member_epoch(epoch)
}

/// Up to version 7: one group; `None` asks for all its topics.
pub(crate) fn committed(group: &GroupId, topics: Option<&[(&TopicName, &[i32])]>) -> OffsetFetchRequest {
    let topic = |(name, partitions): &(&TopicName, &[i32])| {
        OffsetFetchRequestTopic::default().with_name((*name).clone()).with_partition_indexes(partitions.to_vec())
    };
    OffsetFetchRequest::default()
        .with_group_id(group.clone())
        .with_topics(topics.map(|topics| topics.iter().map(topic).collect()))
}

/// A group with the topics and partitions asked for; `None` asks for all its topics.
type Wanted<'a> = (&'a GroupId, Option<&'a [(&'a TopicName, &'a [i32])]>);

/// From version 8 on: several groups.
pub(crate) fn committed_by(groups: &[Wanted<'_>]) -> OffsetFetchRequest {
    let topic = |(name, partitions): &(&TopicName, &[i32])| {
        OffsetFetchRequestTopics::default().with_name((*name).clone()).with_partition_indexes(partitions.to_vec())
    };
    let group = |(group, topics): &Wanted<'_>| {
        OffsetFetchRequestGroup::default()
            .with_group_id((*group).clone())
            .with_topics(topics.map(|topics| topics.iter().map(topic).collect()))
    };
    OffsetFetchRequest::default().with_groups(groups.iter().map(group).collect())
}

/// A group of one member that subscribes to `topic`, joined and synced, unrecorded.
fn member_of(stage: &mut Stage, group: &GroupId, topic: &TopicName) -> JoinGroupResponse {
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(subscription(topic, ""));
    let join = JoinGroupRequest::default()
        .with_group_id(group.clone())
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(30_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    let joined = stage.quietly(3, &join).unwrap_or_default();
    let sync = SyncGroupRequest::default()
        .with_group_id(group.clone())
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone());
    stage.quietly(2, &sync);
    joined
}

pub(crate) fn commit_and_fetch(stage: &mut Stage) {
    let orders = stage.create_topic("orders", 3);
    let bills = stage.create_topic("bills", 1);
    for version in 2..=9 {
        let group = stage.group(&format!("by-version-{version}"));
        let request = commit(&group, &orders, vec![row(0, 10, Some("ten")), row(1, 0, Some("")), row(2, 5, None)]);
        stage.ask(&format!("commit, version {version}"), version, &request);
        stage.ask(&format!("fetch after version {version}"), 5, &committed(&group, Some(&[(&orders, &[0, 1, 2])])));
    }
    let group = stage.group("by-version-6");
    let mut with_epoch = row(0, 11, Some("with an epoch"));
    with_epoch.committed_leader_epoch = 0;
    stage.ask("commit with an epoch", 8, &commit(&group, &orders, vec![with_epoch]));
    stage.ask("commit to another topic", 8, &commit(&group, &bills, vec![row(0, 3, None)]));
    for version in 1..=7 {
        let some = committed(&group, Some(&[(&orders, &[0, 2]), (&bills, &[0])]));
        stage.ask(&format!("fetch some, version {version}"), version, &some);
    }
    for version in 2..=7 {
        stage.ask(&format!("fetch all, version {version}"), version, &committed(&group, None));
    }
    let unseen = stage.group("unseen");
    for version in 8..=9 {
        let both = committed_by(&[(&group, None), (&unseen, Some(&[(&orders, &[0])]))]);
        stage.ask(&format!("fetch from two groups, version {version}"), version, &both);
        let some = committed_by(&[(&group, Some(&[(&orders, &[0, 1]), (&bills, &[0])]))]);
        stage.ask(&format!("fetch some, version {version}"), version, &some);
        stage.ask(&format!("fetch no groups, version {version}"), version, &committed_by(&[]));
    }
    stage.ask("require stable", 7, &committed(&group, None).with_require_stable(true));
    stage.ask("commit an earlier offset", 8, &commit(&group, &orders, vec![row(0, 1, Some("back"))]));
    stage.ask("it counts", 7, &committed(&group, Some(&[(&orders, &[0])])));
    stage.ask("commit beyond the log's end", 8, &commit(&group, &orders, vec![row(0, 1_000_000, None)]));
    stage.ask(
        "no topics to commit",
        8,
        &OffsetCommitRequest::default().with_group_id(group.clone()).with_generation_id_or_member_epoch(-1),
    );
    let member = member_of(stage, &stage.group("members"), &orders);
    let of_member = commit(&stage.group("members"), &orders, vec![row(0, 4, Some("mine"))])
        .with_member_id(member.member_id.clone())
        .with_generation_id_or_member_epoch(member.generation_id);
    for version in [2, 5, 9] {
        stage.ask(&format!("commit of a member, version {version}"), version, &of_member);
    }
    stage.ask("what the member committed", 7, &committed(&stage.group("members"), None));
}

pub(crate) fn commit_refused(stage: &mut Stage) {
    let orders = stage.create_topic("orders", 1);
    let group = stage.group("group");
    let unseen = stage.group("unseen");
    let unknown = stage.topic("unknown");
    let good = commit(&group, &orders, vec![row(0, 1, None)]);
    for version in [2, 6, 9] {
        let label = |what: &str| format!("{what}, version {version}");
        stage.ask(&label("an unknown topic"), version, &commit(&group, &unknown, vec![row(0, 1, None)]));
        stage.ask(&label("an unknown partition"), version, &commit(&group, &orders, vec![row(9, 1, None)]));
        stage.ask(
            &label("good beside unknown"),
            version,
            &commit(&group, &orders, vec![row(0, 1, None), row(9, 1, None)]),
        );
        let mut nameless = good.clone();
        nameless.group_id = text("").into();
        // Kafka lets nameless groups commit; no other script may look at that group, for the reference is shared.
        stage.ask(&label("an empty group"), version, &nameless);
        let large = "x".repeat(5000);
        stage.ask(&label("metadata too large"), version, &commit(&group, &orders, vec![row(0, 1, Some(&large))]));
        let mut ghost = commit(&unseen, &orders, vec![row(0, 1, None)]);
        ghost.generation_id_or_member_epoch = 3;
        ghost.member_id = text("ghost");
        stage.ask(&label("a member of a group nobody knows"), version, &ghost);
    }
    let joined = member_of(stage, &group, &orders);
    let of_member = |generation, member: &str| {
        commit(&group, &orders, vec![row(0, 1, None)])
            .with_generation_id_or_member_epoch(generation)
            .with_member_id(text(member))
    };
    for version in [2, 6, 9] {
        let label = |what: &str| format!("{what}, version {version}");
        stage.ask(&label("from outside a group with members"), version, &good);
        stage.ask(&label("an older generation"), version, &of_member(joined.generation_id - 1, &joined.member_id));
        stage.ask(&label("a later generation"), version, &of_member(joined.generation_id + 1, &joined.member_id));
        stage.ask(&label("no generation, but a member"), version, &of_member(-1, &joined.member_id));
        stage.ask(&label("an unknown member"), version, &of_member(joined.generation_id, "ghost"));
    }
    let named = of_member(joined.generation_id, &joined.member_id).with_group_instance_id(Some(text("stranger")));
    stage.ask("an unknown instance", 7, &named);
    stage.ask(
        "a negative offset",
        8,
        &of_member(joined.generation_id, &joined.member_id).with_topics(vec![
            OffsetCommitRequestTopic::default().with_name(orders.clone()).with_partitions(vec![row(0, -5, None)]),
        ]),
    );
    let leave = LeaveGroupRequest::default().with_group_id(group.clone()).with_member_id(joined.member_id.clone());
    stage.quietly(2, &leave);
    stage.ask("a zombie's commit", 8, &of_member(joined.generation_id, &joined.member_id));
    stage.ask("from outside the empty group", 8, &good);
}

pub(crate) fn fetch_offsets_of_strangers(stage: &mut Stage) {
    let orders = stage.create_topic("orders", 1);
    let unknown = stage.topic("unknown");
    let unseen = stage.group("unseen");
    for version in [1, 2, 5, 7] {
        let label = |what: &str| format!("{what}, version {version}");
        stage.ask(&label("a group nobody knows"), version, &committed(&unseen, Some(&[(&orders, &[0])])));
        stage.ask(&label("an unknown topic"), version, &committed(&unseen, Some(&[(&unknown, &[0])])));
        stage.ask(&label("an unknown partition"), version, &committed(&unseen, Some(&[(&orders, &[0, 9])])));
        stage.ask(&label("no topics"), version, &committed(&unseen, Some(&[])));
    }
    for version in [8, 9] {
        let label = |what: &str| format!("{what}, version {version}");
        stage.ask(&label("a group nobody knows"), version, &committed_by(&[(&unseen, Some(&[(&orders, &[0])]))]));
        stage.ask(&label("all of a group nobody knows"), version, &committed_by(&[(&unseen, None)]));
        stage.ask(&label("an unknown topic"), version, &committed_by(&[(&unseen, Some(&[(&unknown, &[0])]))]));
    }
    let mut ghost = committed_by(&[(&unseen, None)]);
    ghost.groups[0].member_id = Some(text("ghost"));
    ghost.groups[0].member_epoch = 2;
    stage.ask("as a member of a group nobody knows", 9, &ghost);
}

pub(crate) fn offset_delete(stage: &mut Stage) {
    let orders = stage.create_topic("orders", 3);
    let bills = stage.create_topic("bills", 1);
    let group = stage.group("group");
    let delete = |group: &GroupId, topic: &TopicName, partitions: &[i32]| {
        let rows = partitions.iter().map(|index| OffsetDeleteRequestPartition::default().with_partition_index(*index));
        let topic = OffsetDeleteRequestTopic::default().with_name(topic.clone()).with_partitions(rows.collect());
        OffsetDeleteRequest::default().with_group_id(group.clone()).with_topics(vec![topic])
    };
    stage.quietly(8, &commit(&group, &orders, vec![row(0, 1, None), row(1, 2, None), row(2, 3, None)]));
    stage.quietly(8, &commit(&group, &bills, vec![row(0, 7, None)]));
    stage.ask("one of three", 0, &delete(&group, &orders, &[1]));
    stage.ask("what is left", 7, &committed(&group, None));
    stage.ask("one that is not there", 0, &delete(&group, &orders, &[1]));
    stage.ask("an unknown partition", 0, &delete(&group, &orders, &[9]));
    stage.ask("an unknown topic", 0, &delete(&group, &stage.topic("unknown"), &[0]));
    stage.ask("an unknown group", 0, &delete(&stage.group("unknown"), &orders, &[0]));
    stage.ask("an empty group", 0, &delete(&text("").into(), &orders, &[0]));
    stage.ask("no topics", 0, &OffsetDeleteRequest::default().with_group_id(group.clone()));
    let joined = member_of(stage, &group, &orders);
    stage.ask("a topic a member subscribes to", 0, &delete(&group, &orders, &[0]));
    stage.ask("a topic none subscribes to", 0, &delete(&group, &bills, &[0]));
    stage.ask("what is left beside a member", 7, &committed(&group, None));
    let leave = LeaveGroupRequest::default().with_group_id(group.clone()).with_member_id(joined.member_id);
    stage.quietly(2, &leave);
    stage.ask("after the member left", 0, &delete(&group, &orders, &[0, 2]));
    stage.ask("nothing is left", 7, &committed(&group, None));
}
