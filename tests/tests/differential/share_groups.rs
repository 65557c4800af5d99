//! Share groups (KIP-932): who is in them.
//!
//! The codec knows ShareGroupHeartbeat and ShareGroupDescribe in the version Kafka 4.3 has (1).

use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, DeleteGroupsRequest, GroupId, ListGroupsRequest, ShareGroupDescribeRequest,
    ShareGroupHeartbeatRequest, TopicName,
};
use tests::differential::Stage;

use crate::verbs::text;

fn beat(group: &GroupId, member: &str, epoch: i32) -> ShareGroupHeartbeatRequest {
    ShareGroupHeartbeatRequest::default()
        .with_group_id(group.clone())
        .with_member_id(text(member))
        .with_member_epoch(epoch)
}

fn join(group: &GroupId, member: &str, topics: &[&TopicName]) -> ShareGroupHeartbeatRequest {
    beat(group, member, 0).with_subscribed_topic_names(Some(topics.iter().map(|topic| (*topic).clone()).collect()))
}

fn describe(groups: &[&GroupId]) -> ShareGroupDescribeRequest {
    ShareGroupDescribeRequest::default()
        .with_group_ids(groups.iter().map(|group| (*group).clone()).collect())
        .with_include_authorized_operations(true)
}

/// Beats until the member has something; its epoch then. The partitions' state is initialised beside the heartbeats.
pub(crate) fn until_assigned(stage: &mut Stage, group: &GroupId, member: &str, mut epoch: i32) -> i32 {
    stage.until("the member has partitions", |stage| {
        let beaten = stage.quietly(1, &beat(group, member, epoch)).unwrap_or_default();
        epoch = beaten.member_epoch.max(epoch);
        beaten.assignment.is_some_and(|assignment| !assignment.topic_partitions.is_empty())
    });
    epoch
}

pub(crate) fn share_group_members(stage: &mut Stage) {
    let topic = stage.create_topic("jobs", 1);
    let group = stage.group("sharing");
    let joined = stage.ask("join", 1, &join(&group, "ann", &[&topic]));
    let epoch = until_assigned(stage, &group, "ann", joined.member_epoch);
    stage.ask("beat", 1, &beat(&group, "ann", epoch));
    stage.ask("described", 1, &describe(&[&group]));
    stage.ask("another joins", 1, &join(&group, "ben", &[&topic]));
    stage.ask("described with two", 1, &describe(&[&group]));
    stage.ask("the first hears of it", 1, &beat(&group, "ann", epoch));
    stage.ask_for_mine("listed", 5, &ListGroupsRequest::default().with_types_filter(vec![text("share")]));
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group.clone()]);
    stage.ask("not to be deleted", 2, &delete);
    let consumer = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group.clone()]);
    stage.ask("described as a consumer group", 1, &consumer);
    stage.ask("one leaves", 1, &beat(&group, "ann", -1));
    stage.ask("the other, too", 1, &beat(&group, "ben", -1));
    stage.ask("described empty", 1, &describe(&[&group]));
}

pub(crate) fn share_group_refusals(stage: &mut Stage) {
    let topic = stage.create_topic("jobs", 1);
    let group = stage.group("refusing");
    let nobody = GroupId(text(""));
    stage.ask("beat of an unknown group", 1, &beat(&group, "ann", 3));
    stage.ask("leave an unknown group", 1, &beat(&group, "ann", -1));
    stage.ask("no group id", 1, &join(&nobody, "ann", &[&topic]));
    stage.ask("no member id", 1, &join(&group, "", &[&topic]));
    stage.ask("no subscription", 1, &join(&group, "ann", &[]));
    stage.ask("an epoch that is none", 1, &beat(&group, "ann", -2));
    stage.ask("an empty rack", 1, &join(&group, "ann", &[&topic]).with_rack_id(Some(text(""))));
    stage.ask("nothing came of it", 1, &describe(&[&group, &nobody]));
    let joined = stage.ask("join", 1, &join(&group, "ann", &[&topic]));
    stage.ask("an epoch too high", 1, &beat(&group, "ann", joined.member_epoch + 1));
    stage.ask("an epoch too low", 1, &beat(&group, "ann", joined.member_epoch - 1));
    stage.ask("a stranger", 1, &beat(&group, "bob", joined.member_epoch));
    stage.ask("a stranger leaves", 1, &beat(&group, "bob", -1));
}
