//! Groups of the consumer protocol (KIP-848) as members meet them: heartbeats through `Cluster::handle`.

mod clients;

use clients::{Answered, Kafka, body};
use rehearsal_mockbroker::control::Command;
use rehearsal_mockbroker::error::ErrorCode;
use rehearsal_mockbroker::wire::generated::consumer_group_describe_request::ConsumerGroupDescribeRequest;
use rehearsal_mockbroker::wire::generated::consumer_group_describe_response::{
    ConsumerGroupDescribeResponse, DescribedGroup,
};
use rehearsal_mockbroker::wire::generated::consumer_group_heartbeat_request::{
    ConsumerGroupHeartbeatRequest, TopicPartitions,
};
use rehearsal_mockbroker::wire::generated::consumer_group_heartbeat_response::ConsumerGroupHeartbeatResponse;
use rehearsal_mockbroker::wire::generated::delete_groups_request::DeleteGroupsRequest;
use rehearsal_mockbroker::wire::generated::delete_groups_response::DeleteGroupsResponse;
use rehearsal_mockbroker::wire::generated::heartbeat_request::HeartbeatRequest;
use rehearsal_mockbroker::wire::generated::heartbeat_response::HeartbeatResponse;
use rehearsal_mockbroker::wire::generated::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use rehearsal_mockbroker::wire::generated::join_group_response::JoinGroupResponse;
use rehearsal_mockbroker::wire::generated::list_groups_request::ListGroupsRequest;
use rehearsal_mockbroker::wire::generated::list_groups_response::ListGroupsResponse;
use rehearsal_mockbroker::wire::generated::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use rehearsal_mockbroker::wire::generated::offset_commit_response::OffsetCommitResponse;
use rehearsal_mockbroker::wire::generated::offset_fetch_request::{OffsetFetchRequest, OffsetFetchRequestGroup};
use rehearsal_mockbroker::wire::generated::offset_fetch_response::OffsetFetchResponse;
use rehearsal_mockbroker::wire::generated::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use rehearsal_mockbroker::wire::generated::sync_group_response::SyncGroupResponse;
use rehearsal_mockbroker::wire::{Str, Uuid};

const GROUP: &str = "billing";

body!(ConsumerGroupHeartbeat ConsumerGroupHeartbeatResponse);
body!(ConsumerGroupDescribe ConsumerGroupDescribeResponse);
body!(ListGroups ListGroupsResponse);
body!(DeleteGroups DeleteGroupsResponse);
body!(OffsetCommit OffsetCommitResponse);
body!(OffsetFetch OffsetFetchResponse);
body!(JoinGroup JoinGroupResponse);
body!(SyncGroup SyncGroupResponse);
body!(Heartbeat HeartbeatResponse);

#[test]
fn a_lone_member_gets_everything_with_its_first_heartbeat() {
    let mut kafka = Kafka::with_topic("orders", 3);
    let mut ann = Member::named("ann").reads("orders");
    let joined = ann.join(&mut kafka);
    assert_eq!((joined.error_code, joined.heartbeat_interval_ms), (0, 5_000));
    assert_eq!((ann.epoch, &ann.partitions), (2, &vec![0, 1, 2]));
    assert_eq!(ann.beat(&mut kafka).assignment, None, "nothing is new");
    assert_eq!(state(&mut kafka), "Stable");
}

#[test]
fn the_broker_names_members_that_have_no_name_in_version_0_only() {
    let mut kafka = Kafka::with_topic("orders", 1);
    let conn = kafka.connect_to_coordinator(GROUP);
    let request = Member::named("").reads("orders").joining();
    let named: ConsumerGroupHeartbeatResponse = kafka.ask(conn, 0, request.clone());
    assert_eq!(named.member_id.expect("an id").len(), 22);
    let refused: ConsumerGroupHeartbeatResponse = kafka.ask(conn, 1, request);
    assert_eq!(refused.error_code, ErrorCode::InvalidRequest.code());
    assert_eq!(refused.error_message.as_deref(), Some("member_id is blank"));
}

#[test]
fn a_partition_is_given_up_before_another_member_gets_it() {
    let mut kafka = Kafka::with_topic("orders", 4);
    let (mut ann, mut ben) = (Member::named("ann").reads("orders"), Member::named("ben").reads("orders"));
    ann.join(&mut kafka);
    kafka.advance(1_000);

    ben.join(&mut kafka);
    assert_eq!((ben.epoch, ben.partitions.len()), (3, 0), "ann still holds everything");
    let told = ann.beat(&mut kafka);
    assert_eq!((told.member_epoch, ann.partitions.len()), (2, 2), "she is to give two up, and stays in her epoch");
    assert_eq!(ben.beat(&mut kafka).assignment, None);
    assert_eq!(state(&mut kafka), "Reconciling");

    ann.acknowledge(&mut kafka);
    assert_eq!(ann.epoch, 3);
    ben.beat(&mut kafka);
    assert_eq!(ben.partitions.len(), 2);
    assert_eq!(state(&mut kafka), "Stable");
}

#[test]
fn target_assignments_keep_their_distance_in_time() {
    let mut kafka = Kafka::with_topic("orders", 2);
    let (mut ann, mut ben) = (Member::named("ann").reads("orders"), Member::named("ben").reads("orders"));
    ann.join(&mut kafka);
    kafka.advance(999);
    ben.join(&mut kafka);
    assert_eq!(ben.epoch, 2, "a second has not passed since the last assignment");
    assert_eq!(state(&mut kafka), "Assigning");
    kafka.advance(1);
    ben.beat(&mut kafka);
    assert_eq!(ben.epoch, 3);
}

#[test]
fn who_does_not_give_up_in_time_is_fenced() {
    let mut kafka = Kafka::with_topic("orders", 2);
    let (mut ann, mut ben) = (Member::named("ann").reads("orders"), Member::named("ben").reads("orders"));
    ann.join(&mut kafka);
    kafka.advance(1_000);
    ben.join(&mut kafka);
    ann.beat(&mut kafka);
    kafka.advance(29_999);
    assert_eq!(code(&ann.beat(&mut kafka)), ErrorCode::None);
    kafka.advance(1);
    assert_eq!(code(&ann.beat(&mut kafka)), ErrorCode::UnknownMemberId);
    kafka.advance(1_000);
    ben.beat(&mut kafka);
    assert_eq!(ben.partitions, [0, 1]);
}

#[test]
fn a_silent_members_session_expires() {
    let mut kafka = Kafka::with_topic("orders", 1);
    let mut ann = Member::named("ann").reads("orders");
    ann.join(&mut kafka);
    kafka.advance(44_999);
    assert_eq!(members(&mut kafka), 1);
    kafka.advance(1);
    assert_eq!(state(&mut kafka), "Empty");
    let refused = ann.beat(&mut kafka);
    assert_eq!(code(&refused), ErrorCode::UnknownMemberId);
    assert_eq!(refused.error_message.as_deref(), Some("there is no member ann in group billing"));
}

#[test]
fn wrong_epochs_are_fenced_but_a_lost_answer_is_not_held_against_a_member() {
    let mut kafka = Kafka::with_topic("orders", 2);
    let mut ann = Member::named("ann").reads("orders");
    ann.join(&mut kafka);
    assert_eq!(code(&ann.at(7).beat(&mut kafka)), ErrorCode::FencedMemberEpoch);
    assert_eq!(code(&ann.at(1).beat(&mut kafka)), ErrorCode::FencedMemberEpoch);

    kafka.add_partitions("orders", 3);
    kafka.advance(1_000);
    let mut lost = ann.clone();
    lost.beat(&mut kafka);
    assert_eq!(lost.epoch, 3);
    let again = ann.full(&mut kafka);
    assert_eq!((code(&again), ann.epoch, ann.partitions.len()), (ErrorCode::None, 3, 3));
}

#[test]
fn topics_that_appear_grow_and_go_make_the_group_assign_anew() {
    let mut kafka = Kafka::with_topic("orders", 1);
    let mut ann = Member::named("ann").reads("orders").reads("refunds");
    ann.join(&mut kafka);
    assert_eq!(ann.partitions, [0]);
    kafka.create_topic("refunds", 2);
    kafka.advance(1_000);
    ann.beat(&mut kafka);
    assert_eq!((ann.epoch, ann.partitions.len()), (3, 3));
    kafka.add_partitions("orders", 2);
    kafka.advance(1_000);
    ann.beat(&mut kafka);
    assert_eq!((ann.epoch, ann.partitions.len()), (4, 4));
    kafka.delete_topic("refunds");
    kafka.advance(1_000);
    ann.beat(&mut kafka);
    ann.acknowledge(&mut kafka);
    assert_eq!((ann.epoch, ann.partitions.len()), (5, 2));
    // Leaders that move are no reason.
    assert_eq!(ann.beat(&mut kafka).assignment, None);
}

#[test]
fn an_expression_subscribes_to_what_matches_now_and_later() {
    let mut kafka = Kafka::with_topic("orders-eu", 1);
    let mut ann = Member::named("ann").matching("orders-.*");
    let joined = ann.join(&mut kafka);
    assert_eq!((joined.member_epoch, ann.partitions.len()), (1, 0), "the topics are looked up after the answer");
    kafka.advance(1_000);
    ann.beat(&mut kafka);
    assert_eq!((ann.epoch, ann.partitions.len()), (2, 1));

    kafka.create_topic("orders-us", 1);
    kafka.create_topic("my-orders-", 1);
    kafka.advance(11_000);
    ann.beat(&mut kafka);
    ann.beat(&mut kafka);
    assert_eq!((ann.epoch, ann.partitions.len()), (3, 2));
}

#[test]
fn a_bad_expression_is_refused() {
    let mut kafka = Kafka::with_topic("orders", 1);
    let refused = Member::named("ann").matching("orders[").join(&mut kafka);
    assert_eq!(code(&refused), ErrorCode::InvalidRegularExpression);
    assert!(refused.error_message.expect("a reason").starts_with("`orders[` is no expression of RE2: "));
    assert_eq!(describe(&mut kafka).error_code, ErrorCode::GroupIdNotFound.code(), "there is no group");
}

#[test]
fn a_static_member_keeps_its_share_while_it_is_away() {
    let mut kafka = Kafka::with_topic("orders", 2);
    let mut ann = Member::named("ann").instance("a").reads("orders");
    let mut ben = Member::named("ben").reads("orders");
    ann.join(&mut kafka);
    kafka.advance(1_000);
    ben.join(&mut kafka);
    ann.beat(&mut kafka);
    ann.acknowledge(&mut kafka);
    ben.beat(&mut kafka);
    let share = ann.partitions.clone();

    let mut again = Member::named("ann-2").instance("a").reads("orders");
    let refused = again.join(&mut kafka);
    assert_eq!(code(&refused), ErrorCode::UnreleasedInstanceId);
    assert_eq!(code(&ann.leave(&mut kafka, -2)), ErrorCode::None);
    kafka.advance(1_000);
    ben.beat(&mut kafka);
    assert_eq!((ben.epoch, ben.partitions.len()), (3, 1), "nothing moves");

    again.join(&mut kafka);
    assert_eq!((again.epoch, &again.partitions), (3, &share));
    assert_eq!(code(&ann.at(3).beat(&mut kafka)), ErrorCode::FencedInstanceId);
}

#[test]
fn a_static_member_that_stays_away_expires() {
    let mut kafka = Kafka::with_topic("orders", 2);
    let mut ann = Member::named("ann").instance("a").reads("orders");
    ann.join(&mut kafka);
    ann.leave(&mut kafka, -2);
    assert_eq!(describe(&mut kafka).members[0].member_epoch, -2);
    kafka.advance(45_000);
    assert_eq!(state(&mut kafka), "Empty");
}

#[test]
fn a_leaver_is_gone_at_once() {
    let mut kafka = Kafka::with_topic("orders", 2);
    let mut ann = Member::named("ann").reads("orders");
    ann.join(&mut kafka);
    let left = ann.leave(&mut kafka, -1);
    assert_eq!((left.error_code, left.member_epoch, left.heartbeat_interval_ms), (0, -1, 0));
    assert_eq!(state(&mut kafka), "Empty");
    assert_eq!(code(&ann.leave(&mut kafka, -1)), ErrorCode::UnknownMemberId);
}

#[test]
fn the_range_assignor_is_there_for_the_asking_and_others_are_not() {
    let mut kafka = Kafka::with_topic("orders", 3);
    let mut ann = Member::named("ann").assignor("range").reads("orders");
    ann.join(&mut kafka);
    assert_eq!(describe(&mut kafka).assignor_name, "range");
    let refused = Member::named("ben").assignor("sticky").reads("orders").join(&mut kafka);
    assert_eq!(code(&refused), ErrorCode::UnsupportedAssignor);
    assert_eq!(refused.error_message.as_deref(), Some("there is no assignor sticky, but uniform, range"));
}

#[test]
fn a_cluster_without_the_protocol_says_so() {
    let mut kafka = Kafka::with_configs(&[("group.coordinator.rebalance.protocols", "classic")]);
    let refused = Member::named("ann").reads("orders").join(&mut kafka);
    assert_eq!(code(&refused), ErrorCode::UnsupportedVersion);
    assert_eq!(describe(&mut kafka).error_code, ErrorCode::UnsupportedVersion.code());
}

#[test]
fn a_full_group_takes_nobody_in() {
    let mut kafka = Kafka::with_configs(&[("group.consumer.max.size", "1")]);
    kafka.create_topic("orders", 1);
    Member::named("ann").reads("orders").join(&mut kafka);
    let refused = Member::named("ben").reads("orders").join(&mut kafka);
    assert_eq!(code(&refused), ErrorCode::GroupMaxSizeReached);
}

#[test]
fn commits_need_the_members_epoch_or_one_since_it_holds_the_partition() {
    let mut kafka = Kafka::with_topic("orders", 2);
    let mut ann = Member::named("ann").reads("orders");
    ann.join(&mut kafka);
    kafka.advance(1_000);
    kafka.add_partitions("orders", 3);
    ann.beat(&mut kafka);
    assert_eq!(ann.epoch, 3);

    assert_eq!(ann.commit(&mut kafka, 9, 0), ErrorCode::None);
    assert_eq!(ann.at(2).commit(&mut kafka, 9, 0), ErrorCode::None, "she has held it since epoch 2");
    assert_eq!(ann.at(2).commit(&mut kafka, 9, 2), ErrorCode::StaleMemberEpoch, "this one came with epoch 3");
    assert_eq!(ann.at(4).commit(&mut kafka, 9, 0), ErrorCode::StaleMemberEpoch);
    assert_eq!(ann.commit(&mut kafka, 8, 0), ErrorCode::UnsupportedVersion);
    assert_eq!(Member::named("eve").commit(&mut kafka, 9, 0), ErrorCode::UnknownMemberId);
    assert_eq!(Member::named("").at(-1).commit(&mut kafka, 9, 0), ErrorCode::UnknownMemberId);

    assert_eq!(ann.fetch_offset(&mut kafka), Ok(7));
    assert_eq!(ann.at(2).fetch_offset(&mut kafka), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(Member::named("eve").at(3).fetch_offset(&mut kafka), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn admins_see_it_as_what_it_is() {
    let mut kafka = Kafka::with_topic("orders", 2);
    let mut ann = Member::named("ann").rack("r1").reads("orders");
    ann.join(&mut kafka);
    let group = describe(&mut kafka);
    assert_eq!((group.group_epoch, group.assignment_epoch, group.assignor_name.as_str()), (2, 2, "uniform"));
    let member = &group.members[0];
    assert_eq!((member.member_id.as_str(), member.member_epoch, member.member_type), ("ann", 2, 1));
    assert_eq!((member.rack_id.as_deref(), member.client_host.as_str()), (Some("r1"), "/127.0.0.1"));
    assert_eq!(member.assignment.topic_partitions[0].topic_name, "orders");
    assert_eq!(member.assignment, member.target_assignment);

    let conn = kafka.connect_to_coordinator(GROUP);
    let types_filter = vec![Str::from("Consumer")];
    let listed: ListGroupsResponse = kafka.ask(conn, 5, ListGroupsRequest { types_filter, ..Default::default() });
    assert_eq!(listed.groups.len(), 1);
    let row = &listed.groups[0];
    assert_eq!((row.group_state.as_str(), row.group_type.as_str()), ("Stable", "consumer"));
    assert_eq!(delete(&mut kafka), ErrorCode::NonEmptyGroup);
    ann.leave(&mut kafka, -1);
    assert_eq!(delete(&mut kafka), ErrorCode::None);
    assert_eq!(describe(&mut kafka).error_code, ErrorCode::GroupIdNotFound.code());
}

#[test]
fn a_group_outlives_its_coordinator() {
    let mut kafka = Kafka::of_brokers(2);
    kafka.create_topic("orders", 2);
    let mut ann = Member::named("ann").reads("orders");
    ann.join(&mut kafka);
    kafka.advance(44_000);
    kafka.crash_coordinator(GROUP);
    kafka.advance(44_000);
    assert_eq!(code(&ann.beat(&mut kafka)), ErrorCode::None, "her session began anew");
    assert_eq!((ann.epoch, ann.partitions.len()), (2, 2));
}

#[test]
fn a_test_can_expire_a_member_and_ask_for_a_new_assignment() {
    let mut kafka = Kafka::with_topic("orders", 2);
    let mut ann = Member::named("ann").reads("orders");
    ann.join(&mut kafka);
    kafka.advance(1_000);
    kafka.control(Command::Rebalance { group: GROUP.into() });
    ann.beat(&mut kafka);
    assert_eq!((ann.epoch, ann.partitions.len()), (3, 2));
    kafka.control(Command::ExpireMember { group: GROUP.into(), member: "ann".into() });
    assert_eq!(code(&ann.beat(&mut kafka)), ErrorCode::UnknownMemberId);
}

#[test]
fn a_group_has_its_own_pace() {
    let mut kafka = Kafka::with_topic("orders", 1);
    kafka.configure_group(
        GROUP,
        &[("consumer.session.timeout.ms", "50000"), ("consumer.heartbeat.interval.ms", "7000")],
    );
    let mut ann = Member::named("ann").reads("orders");
    assert_eq!(ann.join(&mut kafka).heartbeat_interval_ms, 7_000);
    kafka.advance(49_999);
    assert_eq!(members(&mut kafka), 1);
    kafka.advance(1);
    assert_eq!(members(&mut kafka), 0);
}

#[test]
fn a_classic_group_goes_on_as_a_consumer_group_and_back() {
    let mut kafka = Kafka::with_topic("orders", 2);
    let mut old = Classic::default();
    old.join(&mut kafka);
    old.sync(&mut kafka, Some(&[0, 1]));
    assert_eq!(old.beat(&mut kafka), ErrorCode::None);

    let mut new = Member::named("new").reads("orders");
    assert_eq!(code(&new.join(&mut kafka)), ErrorCode::None);
    assert_eq!((new.epoch, new.partitions.len()), (2, 0), "the old member holds everything");
    let types = describe(&mut kafka).members.iter().map(|member| member.member_type).collect::<Vec<_>>();
    assert_eq!(types.iter().sum::<i8>(), 1);
    assert_eq!(old.beat(&mut kafka), ErrorCode::RebalanceInProgress);
    old.join(&mut kafka);
    assert_eq!((old.sync(&mut kafka, None), old.generation), (1, 1), "it is to give one up, and stays in its epoch");
    assert_eq!(old.beat(&mut kafka), ErrorCode::RebalanceInProgress);
    old.join(&mut kafka);
    assert_eq!((old.sync(&mut kafka, None), old.generation), (1, 2));
    new.beat(&mut kafka);
    assert_eq!(new.partitions.len(), 1);
    assert_eq!(old.beat(&mut kafka), ErrorCode::None);

    new.leave(&mut kafka, -1);
    assert_eq!(describe(&mut kafka).error_code, ErrorCode::GroupIdNotFound.code(), "it is a classic group again");
    assert_eq!(old.beat(&mut kafka), ErrorCode::RebalanceInProgress);
    old.join(&mut kafka);
    assert_eq!((old.sync(&mut kafka, Some(&[0, 1])), old.generation), (2, 3));
}

#[test]
fn a_policy_forbids_migration() {
    let mut kafka = Kafka::with_configs(&[("group.consumer.migration.policy", "disabled")]);
    kafka.create_topic("orders", 2);
    let mut old = Classic::default();
    old.join(&mut kafka);
    old.sync(&mut kafka, Some(&[0, 1]));
    let refused = Member::named("new").reads("orders").join(&mut kafka);
    assert_eq!(code(&refused), ErrorCode::GroupIdNotFound);
    assert_eq!(
        refused.error_message.as_deref(),
        Some("classic group billing cannot go on as a consumer group: group.consumer.migration.policy forbids it")
    );
}

#[test]
fn an_assignment_that_cannot_be_read_forbids_migration_as_it_does_in_kafka() {
    for (assignment, expected) in
        [(&b"all"[..], ErrorCode::GroupIdNotFound), (b"\0\0\x7f\0\0\0", ErrorCode::UnknownServerError)]
    {
        let mut kafka = Kafka::with_topic("orders", 2);
        let mut old = Classic::default();
        old.join(&mut kafka);
        old.sync_with(&mut kafka, Some(assignment.to_vec()));
        let refused = Member::named("new").reads("orders").join(&mut kafka);
        assert_eq!(code(&refused), expected);
        assert_eq!(refused.error_message.is_some(), expected == ErrorCode::GroupIdNotFound);
        assert_eq!(old.beat(&mut kafka), ErrorCode::None, "the classic group goes on");
    }
}

#[test]
fn a_classic_member_that_a_consumer_group_refuses_is_told_no_id() {
    let mut kafka = Kafka::with_topic("orders", 2);
    Member::named("new").reads("orders").join(&mut kafka);
    let conn = kafka.connect_to_coordinator(GROUP);
    let request = JoinGroupRequest {
        group_id: Str::from(GROUP),
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: Str::from("consumer"),
        member_id: Str::from("somebody"),
        ..Default::default()
    };
    let refused: JoinGroupResponse = kafka.ask(conn, 5, request);
    assert_eq!(refused.error_code, ErrorCode::InconsistentGroupProtocol.code());
    assert_eq!(refused.member_id, Str::from(""));
}

#[test]
fn an_empty_group_takes_whichever_protocol_comes() {
    let mut kafka = Kafka::with_topic("orders", 2);
    let mut new = Member::named("new").reads("orders");
    new.join(&mut kafka);
    new.leave(&mut kafka, -1);
    let mut old = Classic::default();
    old.join(&mut kafka);
    old.sync(&mut kafka, Some(&[0, 1]));
    assert_eq!(old.generation, 1);
}

// ---- verbs ----

/// A consumer of the classic protocol, alone or the only one of its kind.
#[derive(Debug, Default)]
struct Classic {
    id: Str,
    generation: i32,
    owned: Vec<i32>,
}

impl Classic {
    /// Joins with what it owns, again with the id it is given.
    fn join(&mut self, kafka: &mut Kafka) {
        let conn = kafka.connect_to_coordinator(GROUP);
        let mut metadata = vec![0, 1, 0, 0, 0, 1, 0, 6];
        metadata.extend(b"orders");
        metadata.extend([0xff; 4]);
        metadata.extend(of_orders(&self.owned));
        let protocol = JoinGroupRequestProtocol { name: Str::from("range"), metadata: metadata.into() };
        let mut request = JoinGroupRequest {
            group_id: Str::from(GROUP),
            session_timeout_ms: 45_000,
            rebalance_timeout_ms: 60_000,
            protocol_type: Str::from("consumer"),
            protocols: vec![protocol],
            member_id: self.id.clone(),
            ..Default::default()
        };
        let mut joined: JoinGroupResponse = kafka.ask(conn, 5, request.clone());
        if joined.error_code == ErrorCode::MemberIdRequired.code() {
            request.member_id = joined.member_id.clone();
            joined = kafka.ask(conn, 5, request);
        }
        assert_eq!(joined.error_code, 0);
        (self.id, self.generation) = (joined.member_id, joined.generation_id);
    }

    /// Asks for its assignment, or assigns; how many partitions it has then.
    fn sync(&mut self, kafka: &mut Kafka, assign: Option<&[i32]>) -> usize {
        let assign = assign.map(|partitions| [&[0, 1][..], &of_orders(partitions), &[0xff; 4]].concat());
        let assignment = self.sync_with(kafka, assign);
        // The version, one topic with its name, how many partitions; the user's data at the end.
        let indices = assignment.get(18..assignment.len() - 4).unwrap_or_default();
        self.owned = indices.chunks_exact(4).map(|index| i32::from(index[3])).collect();
        self.owned.len()
    }

    /// Asks for its assignment, or assigns itself these bytes.
    fn sync_with(&self, kafka: &mut Kafka, assign: Option<Vec<u8>>) -> Vec<u8> {
        let conn = kafka.connect_to_coordinator(GROUP);
        let assignment =
            assign.map(|bytes| SyncGroupRequestAssignment { member_id: self.id.clone(), assignment: bytes.into() });
        let request = SyncGroupRequest {
            group_id: Str::from(GROUP),
            generation_id: self.generation,
            member_id: self.id.clone(),
            assignments: assignment.into_iter().collect(),
            ..Default::default()
        };
        let synced: SyncGroupResponse = kafka.ask(conn, 3, request);
        assert_eq!(synced.error_code, 0);
        synced.assignment.to_vec()
    }

    fn beat(&mut self, kafka: &mut Kafka) -> ErrorCode {
        let conn = kafka.connect_to_coordinator(GROUP);
        let request = HeartbeatRequest {
            group_id: Str::from(GROUP),
            generation_id: self.generation,
            member_id: self.id.clone(),
            ..Default::default()
        };
        let beaten: HeartbeatResponse = kafka.ask(conn, 3, request);
        ErrorCode::from_code(beaten.error_code).expect("a code Kafka has")
    }
}

/// A consumer: what it wants, and what it believes.
#[derive(Debug, Clone, Default)]
struct Member {
    id: String,
    instance: Option<String>,
    rack: Option<String>,
    assignor: Option<String>,
    topics: Option<Vec<String>>,
    regex: Option<String>,
    epoch: i32,
    owned: Vec<(Uuid, Vec<i32>)>,
    /// The partitions of all topics.
    partitions: Vec<i32>,
}

impl Member {
    fn named(id: &str) -> Self {
        Self { id: id.to_owned(), ..Self::default() }
    }

    fn instance(self, id: &str) -> Self {
        Self { instance: Some(id.to_owned()), ..self }
    }

    fn rack(self, rack: &str) -> Self {
        Self { rack: Some(rack.to_owned()), ..self }
    }

    fn assignor(self, name: &str) -> Self {
        Self { assignor: Some(name.to_owned()), ..self }
    }

    fn reads(mut self, topic: &str) -> Self {
        self.topics.get_or_insert_default().push(topic.to_owned());
        self
    }

    fn matching(self, regex: &str) -> Self {
        Self { regex: Some(regex.to_owned()), ..self }
    }

    fn at(&self, epoch: i32) -> Self {
        Self { epoch, ..self.clone() }
    }

    fn joining(&self) -> ConsumerGroupHeartbeatRequest {
        let str = |text: &Option<String>| text.as_deref().map(Str::from);
        ConsumerGroupHeartbeatRequest {
            group_id: Str::from(GROUP),
            member_id: Str::from(self.id.as_str()),
            instance_id: str(&self.instance),
            rack_id: str(&self.rack),
            rebalance_timeout_ms: 30_000,
            subscribed_topic_names: self
                .topics
                .as_ref()
                .map(|topics| topics.iter().map(|t| Str::from(t.as_str())).collect()),
            subscribed_topic_regex: str(&self.regex),
            server_assignor: str(&self.assignor),
            topic_partitions: Some(Vec::new()),
            ..Default::default()
        }
    }

    /// The least a heartbeat says.
    fn beating(&self) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest {
            group_id: Str::from(GROUP),
            member_id: Str::from(self.id.as_str()),
            instance_id: self.instance.as_deref().map(Str::from),
            member_epoch: self.epoch,
            ..Default::default()
        }
    }

    fn owning(&self) -> Option<Vec<TopicPartitions>> {
        let owned = self.owned.iter().cloned();
        Some(owned.map(|(topic_id, partitions)| TopicPartitions { topic_id, partitions }).collect())
    }

    fn join(&mut self, kafka: &mut Kafka) -> ConsumerGroupHeartbeatResponse {
        self.send(kafka, self.joining())
    }

    fn beat(&mut self, kafka: &mut Kafka) -> ConsumerGroupHeartbeatResponse {
        self.send(kafka, self.beating())
    }

    /// Says what it holds now.
    fn acknowledge(&mut self, kafka: &mut Kafka) -> ConsumerGroupHeartbeatResponse {
        self.send(kafka, ConsumerGroupHeartbeatRequest { topic_partitions: self.owning(), ..self.beating() })
    }

    /// Says everything.
    fn full(&mut self, kafka: &mut Kafka) -> ConsumerGroupHeartbeatResponse {
        let topic_partitions = self.owning();
        self.send(kafka, ConsumerGroupHeartbeatRequest { topic_partitions, member_epoch: self.epoch, ..self.joining() })
    }

    fn leave(&mut self, kafka: &mut Kafka, epoch: i32) -> ConsumerGroupHeartbeatResponse {
        let request = ConsumerGroupHeartbeatRequest { member_epoch: epoch, ..self.beating() };
        let conn = kafka.connect_to_coordinator(GROUP);
        kafka.ask(conn, 1, request)
    }

    fn send(&mut self, kafka: &mut Kafka, request: ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
        let conn = kafka.connect_to_coordinator(GROUP);
        let response: ConsumerGroupHeartbeatResponse = kafka.ask(conn, 1, request);
        if response.error_code == 0 {
            self.epoch = response.member_epoch;
        }
        if let Some(assignment) = &response.assignment {
            self.owned = assignment.topic_partitions.iter().map(|t| (t.topic_id, t.partitions.clone())).collect();
            self.partitions = self.owned.iter().flat_map(|(_, partitions)| partitions).copied().collect();
        }
        response
    }

    /// Commits offset 7 of one partition of `orders`.
    fn commit(&self, kafka: &mut Kafka, version: i16, partition_index: i32) -> ErrorCode {
        let partition = OffsetCommitRequestPartition { partition_index, committed_offset: 7, ..Default::default() };
        let topic =
            OffsetCommitRequestTopic { name: Str::from("orders"), partitions: vec![partition], ..Default::default() };
        let conn = kafka.connect_to_coordinator(GROUP);
        let request = OffsetCommitRequest {
            group_id: Str::from(GROUP),
            generation_id_or_member_epoch: self.epoch,
            member_id: Str::from(self.id.as_str()),
            topics: vec![topic],
            ..Default::default()
        };
        let response: OffsetCommitResponse = kafka.ask(conn, version, request);
        ErrorCode::from_code(response.topics[0].partitions[0].error_code).expect("a code Kafka has")
    }

    /// The offset of the first partition of all the group has committed.
    fn fetch_offset(&self, kafka: &mut Kafka) -> Result<i64, ErrorCode> {
        let group = OffsetFetchRequestGroup {
            group_id: Str::from(GROUP),
            member_id: Some(Str::from(self.id.as_str())),
            member_epoch: self.epoch,
            topics: None,
        };
        let conn = kafka.connect_to_coordinator(GROUP);
        let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
        let response: OffsetFetchResponse = kafka.ask(conn, 9, request);
        match response.groups[0].error_code {
            0 => Ok(response.groups[0].topics[0].partitions[0].committed_offset),
            code => Err(ErrorCode::from_code(code).expect("a code Kafka has")),
        }
    }
}

/// Partitions of `orders` as the classic protocol writes them.
fn of_orders(partitions: &[i32]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 1, 0, 6];
    bytes.extend(b"orders");
    bytes.extend((partitions.len() as i32).to_be_bytes());
    bytes.extend(partitions.iter().flat_map(|index| index.to_be_bytes()));
    bytes
}

fn code(response: &ConsumerGroupHeartbeatResponse) -> ErrorCode {
    ErrorCode::from_code(response.error_code).expect("a code Kafka has")
}

fn describe(kafka: &mut Kafka) -> DescribedGroup {
    let conn = kafka.connect_to_coordinator(GROUP);
    let request =
        ConsumerGroupDescribeRequest { group_ids: vec![Str::from(GROUP)], include_authorized_operations: true };
    let mut response: ConsumerGroupDescribeResponse = kafka.ask(conn, 1, request);
    response.groups.remove(0)
}

fn state(kafka: &mut Kafka) -> String {
    describe(kafka).group_state.to_string()
}

fn members(kafka: &mut Kafka) -> usize {
    describe(kafka).members.len()
}

fn delete(kafka: &mut Kafka) -> ErrorCode {
    let conn = kafka.connect_to_coordinator(GROUP);
    let response: DeleteGroupsResponse =
        kafka.ask(conn, 2, DeleteGroupsRequest { groups_names: vec![Str::from(GROUP)] });
    ErrorCode::from_code(response.results[0].error_code).expect("a code Kafka has")
}
