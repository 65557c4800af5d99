//! Groups of the consumer protocol (KIP-848).
//!
//! The codec knows ConsumerGroupHeartbeat and ConsumerGroupDescribe in the versions Kafka 4.3 has (0 and 1).

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, DeleteGroupsRequest,
    DescribeGroupsRequest, GroupId, JoinGroupRequest, JoinGroupResponse, ListGroupsRequest, OffsetFetchRequest,
    SyncGroupRequest, TopicName, offset_fetch_request::OffsetFetchRequestGroup,
};
use kafka_protocol::protocol::StrBytes;
use tests::differential::Stage;

use crate::groups::beat as classic_beat;
use crate::offsets::commit_as;
use crate::verbs::text;

/// Everything a joining member says. Names are part of what assignors go by, so they are the same on every broker.
pub(crate) fn join(group: &GroupId, member: &str, topics: &[&TopicName]) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group.clone())
        .with_member_id(text(member))
        .with_member_epoch(0)
        .with_rebalance_timeout_ms(30_000)
        .with_subscribed_topic_names(Some(topics.iter().map(|topic| (*topic).clone()).collect()))
        .with_topic_partitions(Some(Vec::new()))
}

pub(crate) fn beat(group: &GroupId, member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group.clone())
        .with_member_id(text(member))
        .with_member_epoch(epoch)
        .with_rebalance_timeout_ms(-1)
}

/// A heartbeat that says the member holds what it was told to have.
pub(crate) fn holding(group: &GroupId, told: &ConsumerGroupHeartbeatResponse) -> ConsumerGroupHeartbeatRequest {
    let member = told.member_id.clone().unwrap_or_default();
    let held = told.assignment.iter().flat_map(|assignment| &assignment.topic_partitions).map(|topic| {
        TopicPartitions::default().with_topic_id(topic.topic_id).with_partitions(topic.partitions.clone())
    });
    beat(group, &member, told.member_epoch).with_topic_partitions(Some(held.collect()))
}

pub(crate) fn describe(groups: &[&GroupId]) -> ConsumerGroupDescribeRequest {
    ConsumerGroupDescribeRequest::default()
        .with_group_ids(groups.iter().map(|group| (*group).clone()).collect())
        .with_include_authorized_operations(true)
}

pub(crate) fn consumer_group_alone(stage: &mut Stage) {
    for version in 0..=1 {
        let topic = stage.create_topic(&format!("orders-{version}"), 3);
        let group = stage.group(&format!("alone-{version}"));
        let joined = stage.ask(&format!("join, {version}"), version, &join(&group, "ann", &[&topic]));
        stage.ask(&format!("beat, {version}"), version, &beat(&group, "ann", joined.member_epoch));
        stage.ask(&format!("beat holding, {version}"), version, &holding(&group, &joined));
        stage.ask(&format!("described, {version}"), version, &describe(&[&group]));
        stage.ask_for_mine(
            &format!("listed, {version}"),
            5,
            &ListGroupsRequest::default()
                .with_types_filter(vec![text("consumer")])
                .with_states_filter(vec![text("stable")]),
        );
        stage.ask(&format!("join again, {version}"), version, &join(&group, "ann", &[&topic]));
        stage.ask(&format!("leave, {version}"), version, &beat(&group, "ann", -1));
        stage.ask(&format!("described empty, {version}"), version, &describe(&[&group]));
        let delete = DeleteGroupsRequest::default().with_groups_names(vec![group.clone()]);
        stage.ask(&format!("deleted, {version}"), 2, &delete);
        stage.ask(&format!("described gone, {version}"), version, &describe(&[&group]));
    }
}

pub(crate) fn consumer_group_refusals(stage: &mut Stage) {
    let topic = stage.create_topic("orders", 1);
    let group = stage.group("refusing");
    let nobody = GroupId(text(""));
    stage.ask("beat of an unknown group", 1, &beat(&group, "ann", 3));
    stage.ask("leave an unknown group", 1, &beat(&group, "ann", -1));
    stage.ask("no group id", 1, &join(&nobody, "ann", &[&topic]));
    stage.ask("no member id", 1, &join(&group, "", &[&topic]));
    stage.ask("no member id later on, version 0", 0, &beat(&group, "", 1));
    stage.ask("no rebalance timeout", 1, &join(&group, "ann", &[&topic]).with_rebalance_timeout_ms(-1));
    stage.ask("no list of partitions", 1, &join(&group, "ann", &[&topic]).with_topic_partitions(None));
    stage.ask("no subscription", 1, &join(&group, "ann", &[]).with_subscribed_topic_names(None));
    stage.ask("an empty instance id", 1, &join(&group, "ann", &[&topic]).with_instance_id(Some(text(""))));
    stage.ask("an empty rack", 1, &join(&group, "ann", &[&topic]).with_rack_id(Some(text(" "))));
    stage.ask("an unknown assignor", 1, &join(&group, "ann", &[&topic]).with_server_assignor(Some(text("sticky"))));
    stage.ask("leave for a while without an instance id", 1, &beat(&group, "ann", -2));
    stage.ask("an epoch that is none", 1, &beat(&group, "ann", -3));
    stage.ask("a bad expression", 1, &join(&group, "ann", &[]).with_subscribed_topic_regex(Some(text("a["))));
    stage.ask("nothing came of it", 1, &describe(&[&group, &nobody]));
    let joined = stage.ask("join", 1, &join(&group, "ann", &[&topic]));
    stage.ask("an epoch too high", 1, &beat(&group, "ann", joined.member_epoch + 1));
    stage.ask("an epoch too low", 1, &beat(&group, "ann", joined.member_epoch - 1));
    stage.ask("a stranger", 1, &beat(&group, "bob", joined.member_epoch));
    stage.ask("a strange instance", 1, &beat(&group, "ann", joined.member_epoch).with_instance_id(Some(text("i"))));
    stage.ask("a stranger leaves", 1, &beat(&group, "bob", -1));
    let classic = DescribeGroupsRequest::default().with_groups(vec![group.clone()]);
    stage.ask("described as a classic group, version 5", 5, &classic);
    stage.ask("described as a classic group, version 6", 6, &classic);
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group]);
    stage.ask("not to be deleted", 2, &delete);
}

pub(crate) fn consumer_group_rebalances(stage: &mut Stage) {
    let (orders, refunds) = (stage.create_topic("orders", 4), stage.create_topic("refunds", 2));
    for assignor in ["uniform", "range"] {
        let group = stage.group(assignor);
        let label = |what: &str| format!("{assignor}: {what}");
        let join = |member: &str, topics: &[&TopicName]| {
            join(&group, member, topics).with_server_assignor(Some(text(assignor)))
        };
        let ann = stage.ask(&label("ann joins"), 1, &join("ann", &[&orders]));
        let ben = stage.ask(&label("ben joins"), 1, &join("ben", &[&orders]));
        stage.ask(&label("described while reconciling"), 1, &describe(&[&group]));
        let told = stage.ask(&label("ann is to give up"), 1, &beat(&group, "ann", ann.member_epoch));
        let ann = stage.ask(&label("ann has given up"), 1, &holding(&group, &told));
        stage.ask(&label("ben gets it"), 1, &beat(&group, "ben", ben.member_epoch));
        stage.ask(&label("described stable"), 1, &describe(&[&group]));
        let change = beat(&group, "ben", ben.member_epoch)
            .with_subscribed_topic_names(Some(vec![orders.clone(), refunds.clone()]));
        let ben = stage.ask(&label("ben reads more"), 1, &change);
        stage.ask(&label("described with differing subscriptions"), 1, &describe(&[&group]));
        let told = stage.ask(&label("ann hears of it"), 1, &beat(&group, "ann", ann.member_epoch));
        stage.ask(&label("ann holds what she was told"), 1, &holding(&group, &told));
        stage.ask(&label("ben again"), 1, &beat(&group, "ben", ben.member_epoch));
        stage.ask(&label("described in the end"), 1, &describe(&[&group]));
        stage.ask(&label("ann leaves"), 1, &beat(&group, "ann", -1));
        stage.ask(&label("described after she left"), 1, &describe(&[&group]));
        stage.ask(&label("ben gets the rest"), 1, &beat(&group, "ben", ben.member_epoch));
        stage.ask(&label("described with ben alone"), 1, &describe(&[&group]));
    }
}

pub(crate) fn consumer_group_static_members(stage: &mut Stage) {
    let topic = stage.create_topic("orders", 2);
    let group = stage.group("static");
    let instance = |request: ConsumerGroupHeartbeatRequest| request.with_instance_id(Some(text("i")));
    let joined = stage.ask("join", 1, &instance(join(&group, "ann", &[&topic])));
    stage.ask("another with its instance id", 1, &instance(join(&group, "ben", &[&topic])));
    stage.ask("itself again", 1, &instance(join(&group, "ann", &[&topic])));
    stage.ask("leave for a while", 1, &instance(beat(&group, "ann", -2)));
    stage.ask("described while away", 1, &describe(&[&group]));
    let back = stage.ask("back under another id", 1, &instance(join(&group, "ben", &[&topic])));
    stage.ask("the old id", 1, &instance(beat(&group, "ann", joined.member_epoch)));
    stage.ask("the new id", 1, &instance(beat(&group, "ben", back.member_epoch)));
    stage.ask("described when back", 1, &describe(&[&group]));
    stage.ask("leave for ever", 1, &instance(beat(&group, "ben", -1)));
    stage.ask("described empty", 1, &describe(&[&group]));
}

pub(crate) fn consumer_group_commits(stage: &mut Stage) {
    let topic = stage.create_topic("orders", 2);
    let group = stage.group("committing");
    let joined = stage.ask("join", 1, &join(&group, "ann", &[&topic]));
    let epoch = joined.member_epoch;
    for (label, version, member, epoch) in [
        ("commit", 9, "ann", epoch),
        ("commit in an older version", 8, "ann", epoch),
        ("commit from the future", 9, "ann", epoch + 1),
        ("commit from before the member had it", 9, "ann", epoch - 1),
        ("commit of a stranger", 9, "bob", epoch),
        ("commit of nobody", 9, "", -1),
    ] {
        stage.ask(label, version, &commit_as(&group, member, epoch, &topic));
    }
    for (label, member, epoch) in [
        ("fetch", Some("ann"), epoch),
        ("fetch of nobody", None, -1),
        ("fetch with a wrong epoch", Some("ann"), epoch + 1),
        ("fetch of a stranger", Some("bob"), epoch),
    ] {
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(group.clone())
            .with_member_id(member.map(|member: &str| StrBytes::from_string(member.to_owned())))
            .with_member_epoch(epoch)
            .with_topics(None);
        stage.ask(label, 9, &OffsetFetchRequest::default().with_groups(vec![group]));
    }
}

pub(crate) fn consumer_group_expressions(stage: &mut Stage) {
    let group = stage.group("matching");
    let topic = stage.create_topic("matched", 2);
    let expression = text(&format!("{}.*", topic.as_str()));
    let joined = stage.ask("join", 1, &join(&group, "ann", &[]).with_subscribed_topic_regex(Some(expression)));
    stage.until("the topics are looked up", |stage| {
        let described = stage.quietly(1, &describe(&[&group])).unwrap_or_default();
        described.groups.first().is_some_and(|group| group.group_epoch > 1)
    });
    stage.ask("the topics are known", 1, &beat(&group, "ann", joined.member_epoch));
    stage.ask("described", 1, &describe(&[&group]));
}

/// A subscription (version 1) or an assignment of the classic protocol; what a consumer holds is in both.
fn classic_words(subscribed: Option<&TopicName>, topic: &TopicName, held: &[i32]) -> Bytes {
    let name = topic.as_bytes();
    let put_name = |bytes: &mut BytesMut| {
        bytes.put_i16(i16::try_from(name.len()).expect("a short name"));
        bytes.put_slice(name);
    };
    let mut bytes = BytesMut::new();
    bytes.put_i16(1);
    if subscribed.is_some() {
        bytes.put_i32(1);
        put_name(&mut bytes);
        bytes.put_i32(-1);
    }
    bytes.put_i32(1);
    put_name(&mut bytes);
    bytes.put_i32(i32::try_from(held.len()).expect("a few partitions"));
    held.iter().for_each(|index| bytes.put_i32(*index));
    if subscribed.is_none() {
        bytes.put_i32(-1);
    }
    bytes.freeze()
}

fn classic_join(group: &GroupId, member: &StrBytes, topic: &TopicName, held: &[i32]) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(classic_words(
        Some(topic),
        topic,
        held,
    ));
    JoinGroupRequest::default()
        .with_group_id(group.clone())
        .with_session_timeout_ms(45_000)
        .with_rebalance_timeout_ms(60_000)
        .with_member_id(member.clone())
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

fn classic_sync(group: &GroupId, joined: &JoinGroupResponse, share: Option<Bytes>) -> SyncGroupRequest {
    let share = share.map(|share| {
        SyncGroupRequestAssignment::default().with_member_id(joined.member_id.clone()).with_assignment(share)
    });
    SyncGroupRequest::default()
        .with_group_id(group.clone())
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")))
        .with_assignments(share.into_iter().collect())
}

pub(crate) fn consumer_group_migration(stage: &mut Stage) {
    let topic = stage.create_topic("orders", 2);
    let group = stage.group("migrating");
    let given = stage.ask("an id for a classic member", 5, &classic_join(&group, &text(""), &topic, &[])).member_id;
    let joined = stage.ask("the classic member joins", 5, &classic_join(&group, &given, &topic, &[]));
    let everything = classic_words(None, &topic, &[0, 1]);
    stage.ask("it assigns itself everything", 5, &classic_sync(&group, &joined, Some(everything)));
    stage.ask("a consumer joins", 1, &join(&group, "new", &[&topic]));
    stage.ask("described as a consumer group", 1, &describe(&[&group]));
    stage.ask("the classic member is to join", 3, &classic_beat(&group, joined.generation_id, &given));
    let rejoined = stage.ask("it joins", 5, &classic_join(&group, &given, &topic, &[0, 1]));
    stage.ask("it learns what it keeps", 5, &classic_sync(&group, &rejoined, None));
    stage.ask("it is to join again", 3, &classic_beat(&group, rejoined.generation_id, &given));
    let mut rejoined = rejoined;
    for held in [[0], [1]] {
        rejoined = stage.ask(&format!("it holds {held:?}"), 5, &classic_join(&group, &given, &topic, &held));
    }
    stage.ask("it has joined", 5, &classic_sync(&group, &rejoined, None));
    stage.ask("it beats", 3, &classic_beat(&group, rejoined.generation_id, &given));
    stage.ask("it beats in a wrong generation", 3, &classic_beat(&group, rejoined.generation_id + 1, &given));
    stage.ask("a consumer beats as a classic member", 3, &classic_beat(&group, rejoined.generation_id, &text("new")));
    stage.ask("the consumer beats", 1, &beat(&group, "new", rejoined.generation_id));
    stage.ask("described when both have their share", 1, &describe(&[&group]));
    stage.ask("the consumer leaves", 1, &beat(&group, "new", -1));
    stage.ask("described no more", 1, &describe(&[&group]));
    stage.ask("described as a classic group", 5, &DescribeGroupsRequest::default().with_groups(vec![group.clone()]));
    stage.ask("the classic member hears of it", 3, &classic_beat(&group, rejoined.generation_id + 1, &given));
    let odd = stage.group("odd");
    let given = stage.ask("an id in another group", 5, &classic_join(&odd, &text(""), &topic, &[])).member_id;
    let joined = stage.ask("a classic member joins it", 5, &classic_join(&odd, &given, &topic, &[]));
    stage.ask("its assignment is none", 5, &classic_sync(&odd, &joined, Some(Bytes::from_static(b"all"))));
    stage.ask("no consumer can join", 1, &join(&odd, "new", &[&topic]));
    let lying = stage.group("lying");
    let given = stage.ask("an id in a third group", 5, &classic_join(&lying, &text(""), &topic, &[])).member_id;
    let joined = stage.ask("a classic member joins that", 5, &classic_join(&lying, &given, &topic, &[]));
    stage.ask("its assignment lies", 5, &classic_sync(&lying, &joined, Some(Bytes::from_static(b"a share"))));
    stage.ask("no consumer can join that either", 1, &join(&lying, "new", &[&topic]));
    let upgraded = stage.group("upgraded");
    stage.ask("a consumer is alone", 1, &join(&upgraded, "new", &[&topic]));
    let mut nothing = classic_join(&upgraded, &text("stranger"), &topic, &[]);
    stage.ask("an unknown classic member joins", 5, &nothing);
    nothing.protocols.clear();
    stage.ask("a classic member without protocols joins", 5, &nothing);
}
