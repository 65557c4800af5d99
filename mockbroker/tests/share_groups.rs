//! Share groups (KIP-932) as members meet them: heartbeats through `Cluster::handle`.

mod clients;

use clients::{Answered, Kafka, body};
use rehearsal_mockbroker::error::ErrorCode;
use rehearsal_mockbroker::wire::Str;
use rehearsal_mockbroker::wire::generated::consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest;
use rehearsal_mockbroker::wire::generated::consumer_group_heartbeat_response::ConsumerGroupHeartbeatResponse;
use rehearsal_mockbroker::wire::generated::delete_groups_request::DeleteGroupsRequest;
use rehearsal_mockbroker::wire::generated::delete_groups_response::DeleteGroupsResponse;
use rehearsal_mockbroker::wire::generated::list_groups_request::ListGroupsRequest;
use rehearsal_mockbroker::wire::generated::list_groups_response::ListGroupsResponse;
use rehearsal_mockbroker::wire::generated::share_group_describe_request::ShareGroupDescribeRequest;
use rehearsal_mockbroker::wire::generated::share_group_describe_response::{
    DescribedGroup, ShareGroupDescribeResponse,
};
use rehearsal_mockbroker::wire::generated::share_group_heartbeat_request::ShareGroupHeartbeatRequest;
use rehearsal_mockbroker::wire::generated::share_group_heartbeat_response::ShareGroupHeartbeatResponse;

const GROUP: &str = "workers";

body!(ShareGroupHeartbeat ShareGroupHeartbeatResponse);
body!(ShareGroupDescribe ShareGroupDescribeResponse);
body!(ConsumerGroupHeartbeat ConsumerGroupHeartbeatResponse);
body!(ListGroups ListGroupsResponse);
body!(DeleteGroups DeleteGroupsResponse);

#[test]
fn partitions_come_with_the_heartbeat_after_the_first() {
    let mut kafka = Kafka::with_topic("jobs", 3);
    let mut ann = Member::named("ann");
    let joined = ann.join(&mut kafka, &["jobs"]);
    assert_eq!((joined.error_code, joined.member_epoch, joined.heartbeat_interval_ms), (0, 2, 5_000));
    assert_eq!(ann.partitions, [0; 0], "their state is being initialised");
    kafka.advance(1_000);
    ann.beat(&mut kafka);
    assert_eq!((ann.epoch, &ann.partitions), (3, &vec![0, 1, 2]));
    assert_eq!(ann.beat(&mut kafka).assignment, None, "nothing is new");
}

#[test]
fn members_share_a_partition_when_there_are_more_of_them() {
    let mut kafka = Kafka::with_topic("jobs", 1);
    let (mut ann, mut ben) = (Member::named("ann"), Member::named("ben"));
    ann.join(&mut kafka, &["jobs"]);
    kafka.advance(1_000);
    ben.join(&mut kafka, &["jobs"]);
    kafka.advance(1_000);
    ann.beat(&mut kafka);
    ben.beat(&mut kafka);
    assert_eq!((&ann.partitions, &ben.partitions), (&vec![0], &vec![0]));
}

#[test]
fn members_have_equally_many_partitions() {
    let mut kafka = Kafka::with_topic("jobs", 4);
    let (mut ann, mut ben) = (Member::named("ann"), Member::named("ben"));
    ann.join(&mut kafka, &["jobs"]);
    kafka.advance(1_000);
    ann.beat(&mut kafka);
    assert_eq!(ann.partitions.len(), 4);
    kafka.advance(1_000);
    ben.join(&mut kafka, &["jobs"]);
    ann.beat(&mut kafka);
    assert_eq!((ann.partitions.len(), ben.partitions.len()), (2, 2));
    ben.leave(&mut kafka);
    kafka.advance(1_000);
    ann.beat(&mut kafka);
    assert_eq!(ann.partitions, [0, 1, 2, 3]);
}

#[test]
fn differing_subscriptions_are_dealt_out_topic_by_topic() {
    let mut kafka = Kafka::with_topic("jobs", 2);
    kafka.create_topic("mails", 2);
    let (mut ann, mut ben) = (Member::named("ann"), Member::named("ben"));
    ann.join(&mut kafka, &["jobs"]);
    ben.join(&mut kafka, &["jobs", "mails"]);
    kafka.advance(1_000);
    ann.beat(&mut kafka);
    ben.beat(&mut kafka);
    kafka.advance(1_000);
    ann.beat(&mut kafka);
    ben.beat(&mut kafka);
    assert_eq!((ann.partitions.len(), ben.partitions.len()), (1, 3));
}

#[test]
fn wrong_epochs_and_strangers_are_refused() {
    let mut kafka = Kafka::with_topic("jobs", 1);
    let mut ann = Member::named("ann");
    assert_eq!(code(&ann.at(1).beat(&mut kafka)), ErrorCode::GroupIdNotFound);
    ann.join(&mut kafka, &["jobs"]);
    kafka.advance(1_000);
    ann.beat(&mut kafka);
    assert_eq!(code(&ann.at(2).beat(&mut kafka)), ErrorCode::None, "the answer may have been lost");
    assert_eq!(code(&ann.at(1).beat(&mut kafka)), ErrorCode::FencedMemberEpoch);
    assert_eq!(code(&ann.at(4).beat(&mut kafka)), ErrorCode::FencedMemberEpoch);
    assert_eq!(code(&Member::named("bob").at(3).beat(&mut kafka)), ErrorCode::UnknownMemberId);
    assert_eq!(code(&Member::named("").join(&mut kafka, &["jobs"])), ErrorCode::InvalidRequest);
    assert_eq!(code(&Member::named("bob").join(&mut kafka, &[])), ErrorCode::InvalidRequest);
}

#[test]
fn a_silent_members_session_expires() {
    let mut kafka = Kafka::with_topic("jobs", 1);
    let mut ann = Member::named("ann");
    ann.join(&mut kafka, &["jobs"]);
    kafka.advance(44_999);
    assert_eq!(describe(&mut kafka).group_state, "Stable");
    kafka.advance(1);
    assert_eq!(describe(&mut kafka).group_state, "Empty");
}

#[test]
fn a_share_group_is_no_other_group() {
    let mut kafka = Kafka::with_topic("jobs", 1);
    let mut ann = Member::named("ann");
    ann.join(&mut kafka, &["jobs"]);
    let conn = kafka.connect_to_coordinator(GROUP);
    let request = ConsumerGroupHeartbeatRequest {
        group_id: Str::from(GROUP),
        member_id: Str::from("eve"),
        rebalance_timeout_ms: 1_000,
        subscribed_topic_names: Some(vec![Str::from("jobs")]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    let refused: ConsumerGroupHeartbeatResponse = kafka.ask(conn, 1, request);
    assert_eq!(refused.error_code, ErrorCode::GroupIdNotFound.code());
    let listed: ListGroupsResponse = kafka.ask(conn, 5, ListGroupsRequest::default());
    assert_eq!((listed.groups[0].group_type.as_str(), listed.groups[0].protocol_type.as_str()), ("share", "share"));
    let delete = || DeleteGroupsRequest { groups_names: vec![Str::from(GROUP)] };
    let kept: DeleteGroupsResponse = kafka.ask(conn, 2, delete());
    assert_eq!(kept.results[0].error_code, ErrorCode::NonEmptyGroup.code());
    ann.leave(&mut kafka);
    let deleted: DeleteGroupsResponse = kafka.ask(conn, 2, delete());
    assert_eq!(deleted.results[0].error_code, 0);
}

// ---- verbs ----

/// A share consumer.
#[derive(Debug, Clone, Default)]
struct Member {
    id: String,
    epoch: i32,
    partitions: Vec<i32>,
}

impl Member {
    fn named(id: &str) -> Self {
        Self { id: id.to_owned(), ..Self::default() }
    }

    fn at(&self, epoch: i32) -> Self {
        Self { epoch, ..self.clone() }
    }

    fn join(&mut self, kafka: &mut Kafka, topics: &[&str]) -> ShareGroupHeartbeatResponse {
        let topics = topics.iter().map(|topic| Str::from(*topic)).collect();
        self.send(kafka, ShareGroupHeartbeatRequest { subscribed_topic_names: Some(topics), ..self.request(0) })
    }

    fn beat(&mut self, kafka: &mut Kafka) -> ShareGroupHeartbeatResponse {
        self.send(kafka, self.request(self.epoch))
    }

    fn leave(&mut self, kafka: &mut Kafka) {
        let left = self.send(kafka, self.request(-1));
        assert_eq!((left.error_code, left.member_epoch), (0, -1));
    }

    fn request(&self, member_epoch: i32) -> ShareGroupHeartbeatRequest {
        ShareGroupHeartbeatRequest {
            group_id: Str::from(GROUP),
            member_id: Str::from(self.id.as_str()),
            member_epoch,
            ..Default::default()
        }
    }

    fn send(&mut self, kafka: &mut Kafka, request: ShareGroupHeartbeatRequest) -> ShareGroupHeartbeatResponse {
        let conn = kafka.connect_to_coordinator(GROUP);
        let response: ShareGroupHeartbeatResponse = kafka.ask(conn, 1, request);
        if response.error_code == 0 {
            self.epoch = response.member_epoch;
        }
        if let Some(assignment) = &response.assignment {
            let topics = assignment.topic_partitions.iter();
            self.partitions = topics.flat_map(|topic| topic.partitions.iter().copied()).collect();
        }
        response
    }
}

fn code(response: &ShareGroupHeartbeatResponse) -> ErrorCode {
    ErrorCode::from_code(response.error_code).expect("a code Kafka has")
}

fn describe(kafka: &mut Kafka) -> DescribedGroup {
    let conn = kafka.connect_to_coordinator(GROUP);
    let request = ShareGroupDescribeRequest { group_ids: vec![Str::from(GROUP)], include_authorized_operations: true };
    let mut response: ShareGroupDescribeResponse = kafka.ask(conn, 1, request);
    response.groups.remove(0)
}
