//! Consumer groups as clients meet them: requests of every version through `Cluster::handle`.

use bytes::Bytes;
use rehearsal_mockbroker::cluster::Cluster;
use rehearsal_mockbroker::config::{ClusterConfig, TopicConfig};
use rehearsal_mockbroker::control::Command;
use rehearsal_mockbroker::error::ErrorCode;
use rehearsal_mockbroker::output::{ConnId, Output};
use rehearsal_mockbroker::session::Incoming;
use rehearsal_mockbroker::state::nodes::NodeId;
use rehearsal_mockbroker::time::{Time, millis};
use rehearsal_mockbroker::wire::generated::delete_groups_request::DeleteGroupsRequest;
use rehearsal_mockbroker::wire::generated::describe_groups_request::DescribeGroupsRequest;
use rehearsal_mockbroker::wire::generated::describe_groups_response::DescribedGroup;
use rehearsal_mockbroker::wire::generated::find_coordinator_request::FindCoordinatorRequest;
use rehearsal_mockbroker::wire::generated::heartbeat_request::HeartbeatRequest;
use rehearsal_mockbroker::wire::generated::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use rehearsal_mockbroker::wire::generated::join_group_response::JoinGroupResponse;
use rehearsal_mockbroker::wire::generated::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use rehearsal_mockbroker::wire::generated::leave_group_response::LeaveGroupResponse;
use rehearsal_mockbroker::wire::generated::list_groups_request::ListGroupsRequest;
use rehearsal_mockbroker::wire::generated::list_groups_response::ListGroupsResponse;
use rehearsal_mockbroker::wire::generated::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use rehearsal_mockbroker::wire::generated::offset_commit_response::OffsetCommitResponse;
use rehearsal_mockbroker::wire::generated::offset_delete_request::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use rehearsal_mockbroker::wire::generated::offset_delete_response::OffsetDeleteResponse;
use rehearsal_mockbroker::wire::generated::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use rehearsal_mockbroker::wire::generated::offset_fetch_response::OffsetFetchResponse;
use rehearsal_mockbroker::wire::generated::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};
use rehearsal_mockbroker::wire::generated::sync_group_response::SyncGroupResponse;
use rehearsal_mockbroker::wire::{Request, Response, Str, Uuid, Writer};
use std::collections::BTreeMap;

const GROUP: &str = "billing";

#[test]
fn a_lone_member_joins_syncs_beats_and_leaves_in_every_version() {
    for version in 0..=9 {
        let mut kafka = Kafka::with_topic("orders", 2);
        let client = kafka.connect();

        let joined = kafka.join_until_member(client, version, join());
        assert_eq!(joined.error_code, 0, "version {version}");
        assert_eq!((joined.generation_id, &joined.leader), (1, &joined.member_id));
        assert_eq!(joined.protocol_name.as_deref(), Some("range"));
        assert_eq!(joined.members.len(), 1);
        assert_eq!(joined.members[0].metadata, subscription("orders"));

        let synced = kafka.sync(client, version.min(5), &joined, &[(&joined.member_id, "both")]);
        assert_eq!((synced.error_code, synced.assignment), (0, Bytes::from("both")));
        assert_eq!(kafka.beat(client, version.min(4), &joined), ErrorCode::None);

        let left = kafka.leave(client, version.min(5), &joined.member_id);
        assert_eq!(left.error_code, 0);
        assert_eq!(left.members.len(), usize::from(version >= 3));
        assert_eq!(kafka.beat(client, version.min(4), &joined), ErrorCode::UnknownMemberId);
    }
}

#[test]
fn a_join_waits_for_the_others_and_each_connection_gets_its_own_answer() {
    let mut kafka = Kafka::with_topic("orders", 2);
    let (one, two) = (kafka.connect(), kafka.connect());
    let ann = kafka.join_until_member(one, 9, join());
    kafka.sync(one, 5, &ann, &[(&ann.member_id, "both")]);

    let new = kafka.join(two, 9, join()).unwrap();
    assert_eq!(ErrorCode::from_code(new.error_code), Some(ErrorCode::MemberIdRequired));
    assert!(kafka.join(two, 9, JoinGroupRequest { member_id: new.member_id.clone(), ..join() }).is_none());
    assert_eq!(kafka.beat(one, 4, &ann), ErrorCode::RebalanceInProgress);
    let ann = kafka.join(one, 9, JoinGroupRequest { member_id: ann.member_id, ..join() }).unwrap();
    let ben = kafka.answered::<JoinGroupResponse>(two).unwrap();
    assert_eq!((ann.generation_id, ann.members.len()), (2, 2));
    assert_eq!((ben.generation_id, ben.members.len(), &ben.member_id), (2, 0, &new.member_id));

    assert!(kafka.try_sync(two, 5, &ben, &[]).is_none());
    kafka.sync(one, 5, &ann, &[(&ann.member_id, "p0"), (&ben.member_id, "p1")]);
    assert_eq!(kafka.answered::<SyncGroupResponse>(two).unwrap().assignment, "p1");
}

#[test]
fn a_member_whose_connection_breaks_while_it_joins_stays_until_its_session_ends() {
    let mut kafka = Kafka::with_topic("orders", 2);
    let (one, two) = (kafka.connect(), kafka.connect());
    let ann = kafka.join_until_member(one, 3, join());
    kafka.join(two, 3, join());
    kafka.disconnect(two);

    let ann = kafka.join(one, 3, JoinGroupRequest { member_id: ann.member_id, ..join() }).unwrap();

    assert_eq!(ann.members.len(), 2, "nobody knows yet that the other is gone");
    kafka.sync(one, 3, &ann, &[]);
    kafka.advance(9_000);
    assert_eq!(kafka.beat(one, 3, &ann), ErrorCode::None);
    kafka.advance(1_000);
    assert_eq!(kafka.beat(one, 3, &ann), ErrorCode::RebalanceInProgress);
}

#[test]
fn refusals_have_the_form_of_their_version() {
    let mut kafka = Kafka::with_topic("orders", 2);
    let client = kafka.connect();
    let hasty = JoinGroupRequest { session_timeout_ms: 10, member_id: Str::from("me"), ..join() };

    let old = kafka.join(client, 6, hasty.clone()).unwrap();
    assert_eq!(ErrorCode::from_code(old.error_code), Some(ErrorCode::InvalidSessionTimeout));
    assert_eq!((old.protocol_name.as_deref(), old.generation_id, &*old.member_id), (Some(""), -1, "me"));
    let new = kafka.join(client, 7, hasty.clone()).unwrap();
    assert_eq!((new.protocol_name, new.leader), (None, Str::default()));
    let nameless = kafka.join(client, 9, JoinGroupRequest { group_id: Str::default(), ..hasty }).unwrap();
    assert_eq!(ErrorCode::from_code(nameless.error_code), Some(ErrorCode::InvalidGroupId));

    let joined = kafka.join_until_member(client, 9, join());
    let without_protocol = SyncGroupRequest { protocol_name: None, ..sync(&joined, &[]) };
    let refused: SyncGroupResponse = kafka.ask(client, 5, without_protocol).unwrap();
    assert_eq!(ErrorCode::from_code(refused.error_code), Some(ErrorCode::InconsistentGroupProtocol));

    let stranger = kafka.leave(client, 2, "stranger");
    assert_eq!(ErrorCode::from_code(stranger.error_code), Some(ErrorCode::UnknownMemberId));
    let stranger = kafka.leave(client, 3, "stranger");
    assert_eq!(stranger.error_code, 0);
    assert_eq!(ErrorCode::from_code(stranger.members[0].error_code), Some(ErrorCode::UnknownMemberId));
}

#[test]
fn only_the_coordinator_answers_for_a_group() {
    let mut kafka = Kafka::new(3, "orders", 2);
    let coordinator = kafka.coordinator();
    let other = NodeId((1..=3).find(|id| NodeId(*id) != coordinator).unwrap());
    let client = kafka.connect_to(other);

    let refused = kafka.join(client, 9, join()).unwrap();
    assert_eq!(ErrorCode::from_code(refused.error_code), Some(ErrorCode::NotCoordinator));
    let rows = commit_codes(&kafka.commit(client, 9, commit(&[("orders", 0)])));
    assert_eq!(rows, [("orders".to_owned(), 0, ErrorCode::NotCoordinator)]);
    let fetched: OffsetFetchResponse = kafka.ask(client, 1, fetch_before_several("orders")).unwrap();
    assert_eq!(ErrorCode::from_code(fetched.topics[0].partitions[0].error_code), Some(ErrorCode::NotCoordinator));
    let fetched: OffsetFetchResponse = kafka.ask(client, 2, fetch_before_several("orders")).unwrap();
    assert_eq!(ErrorCode::from_code(fetched.error_code), Some(ErrorCode::NotCoordinator));

    let at_home = kafka.connect();
    kafka.commit(at_home, 9, commit(&[("orders", 0)]));
    assert_eq!(kafka.list(client, &[], &[]).groups, []);
    assert_eq!(kafka.list(at_home, &[], &[]).groups.len(), 1);
}

#[test]
fn members_go_on_at_the_next_coordinator_when_theirs_crashes() {
    let mut kafka = Kafka::new(3, "orders", 2);
    let (one, two) = (kafka.connect(), kafka.connect());
    let joined = kafka.join_until_member(one, 9, join());
    kafka.sync(one, 5, &joined, &[(&joined.member_id, "both")]);
    kafka.commit(
        one,
        9,
        OffsetCommitRequest {
            member_id: joined.member_id.clone(),
            generation_id_or_member_epoch: 1,
            ..commit(&[("orders", 0)])
        },
    );
    kafka.join(two, 3, join());

    let before = kafka.coordinator();
    kafka.control(Command::Crash(before));

    assert_ne!(kafka.coordinator(), before);
    let again = kafka.connect();
    assert_eq!(kafka.beat(again, 4, &joined), ErrorCode::None, "the rebalance that had begun is forgotten");
    assert_eq!(kafka.fetch_one(again, "orders", 0), 7);
}

#[test]
fn sessions_begin_again_at_every_new_coordinator() {
    let mut kafka = Kafka::new(3, "orders", 2);
    let client = kafka.connect();
    let joined = kafka.join_until_member(client, 9, join());
    kafka.sync(client, 5, &joined, &[(&joined.member_id, "both")]);

    for _ in 0..4 {
        kafka.advance(9_000);
        let before = kafka.coordinator();
        kafka.control(Command::Crash(before));
        kafka.control(Command::Start(before));
    }

    kafka.advance(9_000);
    let client = kafka.connect();
    assert_eq!(kafka.beat(client, 4, &joined), ErrorCode::None);
}

#[test]
fn offsets_are_committed_and_fetched_in_every_version() {
    for version in 2..=10 {
        let mut kafka = Kafka::with_topic("orders", 2);
        let client = kafka.connect();
        let topic_id = kafka.topic_id("orders");
        let request = commit(&[("orders", 0)]);
        let topics = request.topics.iter().map(|topic| match version {
            10 => OffsetCommitRequestTopic { name: Str::default(), topic_id, ..topic.clone() },
            _ => topic.clone(),
        });
        let response = kafka.commit(client, version, OffsetCommitRequest { topics: topics.collect(), ..request });
        assert_eq!(response.topics[0].partitions[0].error_code, 0, "version {version}");
        assert_eq!(response.topics[0].topic_id, if version == 10 { topic_id } else { Uuid::ZERO });

        for version in 1..=7 {
            let fetched: OffsetFetchResponse = kafka.ask(client, version, fetch_before_several("orders")).unwrap();
            let offsets = fetched.topics[0].partitions.iter().map(|p| p.committed_offset);
            assert_eq!(offsets.collect::<Vec<_>>(), [7, -1], "version {version}");
            assert_eq!(fetched.topics[0].partitions[1].metadata.as_deref(), Some(""));
        }
        for version in 8..=10 {
            let fetched = kafka.fetch(client, version, fetch(&["orders"], topic_id));
            let topic = &fetched.groups[0].topics[0];
            assert_eq!((topic.partitions[0].committed_offset, topic.partitions[1].committed_offset), (7, -1));
            assert_eq!(topic.partitions[0].metadata.as_deref(), Some("kept"));
        }
        for version in 2..=7 {
            let all = OffsetFetchRequest { topics: None, ..fetch_before_several("orders") };
            let fetched: OffsetFetchResponse = kafka.ask(client, version, all).unwrap();
            assert_eq!((fetched.topics.len(), fetched.topics[0].partitions.len()), (1, 1));
        }
        let all = OffsetFetchRequestGroup { group_id: Str::from(GROUP), topics: None, ..Default::default() };
        let fetched = kafka.fetch(client, 10, OffsetFetchRequest { groups: vec![all], ..Default::default() });
        assert_eq!(fetched.groups[0].topics[0].topic_id, topic_id);
    }
}

#[test]
fn a_group_never_seen_has_no_offsets_and_no_error() {
    let mut kafka = Kafka::with_topic("orders", 2);
    let client = kafka.connect();

    let fetched = kafka.fetch(client, 8, fetch(&["orders", "no such topic"], Uuid::ZERO));
    assert_eq!(fetched.groups[0].error_code, 0);
    for topic in &fetched.groups[0].topics {
        assert_eq!((topic.partitions[0].committed_offset, topic.partitions[0].error_code), (-1, 0));
    }
    let by_unknown_id = kafka.fetch(client, 10, fetch(&["orders"], Uuid::from_bytes([9; 16])));
    let row = &by_unknown_id.groups[0].topics[0].partitions[0];
    assert_eq!(ErrorCode::from_code(row.error_code), Some(ErrorCode::UnknownTopicId));
    assert_eq!((row.committed_offset, row.metadata.as_deref()), (-1, Some("")));
    assert_eq!(kafka.list(client, &[], &[]).groups, []);
}

#[test]
fn commits_for_topics_that_do_not_exist_are_refused_row_by_row() {
    let mut kafka = Kafka::with_topic("orders", 2);
    let client = kafka.connect();

    let response = kafka.commit(client, 9, commit(&[("orders", 1), ("orders", 2), ("invoices", 0)]));

    assert_eq!(
        commit_codes(&response),
        [
            ("orders".to_owned(), 2, ErrorCode::UnknownTopicOrPartition),
            ("orders".to_owned(), 1, ErrorCode::None),
            ("invoices".to_owned(), 0, ErrorCode::UnknownTopicOrPartition),
        ]
    );
    let by_id =
        OffsetCommitRequestTopic { topic_id: Uuid::from_bytes([9; 16]), ..commit(&[("x", 0)]).topics[0].clone() };
    let response = kafka.commit(client, 10, OffsetCommitRequest { topics: vec![by_id], ..commit(&[]) });
    assert_eq!(ErrorCode::from_code(response.topics[0].partitions[0].error_code), Some(ErrorCode::UnknownTopicId));
}

#[test]
fn a_commit_of_a_member_of_no_group_is_refused_as_its_version_knows() {
    let mut kafka = Kafka::with_topic("orders", 2);
    let client = kafka.connect();
    let zombie = OffsetCommitRequest {
        generation_id_or_member_epoch: 3,
        member_id: Str::from("zombie"),
        ..commit(&[("orders", 0)])
    };
    for (version, code) in [(8, ErrorCode::IllegalGeneration), (9, ErrorCode::GroupIdNotFound)] {
        assert_eq!(commit_codes(&kafka.commit(client, version, zombie.clone()))[0].2, code);
    }
}

#[test]
fn offsets_vanish_with_their_topic() {
    let mut kafka = Kafka::with_topic("orders", 2);
    let client = kafka.connect();
    kafka.commit(client, 9, commit(&[("orders", 0)]));
    assert_eq!(kafka.fetch_one(client, "orders", 0), 7);

    kafka.control(Command::DeleteTopic("orders".into()));

    assert_eq!(kafka.fetch_one(client, "orders", 0), -1);
}

#[test]
fn groups_are_described() {
    let mut kafka = Kafka::with_topic("orders", 2);
    let client = kafka.connect();
    let joined = kafka.join_until_member(client, 9, join());
    let rebalancing = kafka.describe(client, 6);
    assert_eq!((&*rebalancing.group_state, &*rebalancing.protocol_data), ("CompletingRebalance", ""));
    assert_eq!(rebalancing.members[0].member_metadata, "");
    kafka.sync(client, 5, &joined, &[(&joined.member_id, "both")]);

    for version in 0..=6 {
        let stable = kafka.describe(client, version);
        assert_eq!(
            (&*stable.group_state, &*stable.protocol_type, &*stable.protocol_data),
            ("Stable", "consumer", "range")
        );
        let member = &stable.members[0];
        assert_eq!((&*member.client_id, &*member.client_host), ("worker", "/127.0.0.1"));
        assert_eq!(
            (&member.member_metadata, &member.member_assignment),
            (&subscription("orders"), &Bytes::from("both"))
        );
        let operations = if version >= 3 { 0b1101_0100_1000 } else { i32::MIN };
        assert_eq!(stable.authorized_operations, operations);
    }
}

#[test]
fn a_group_that_does_not_exist_is_dead_and_later_an_error() {
    let mut kafka = Kafka::with_topic("orders", 2);
    let client = kafka.connect();

    let old = kafka.describe(client, 5);
    assert_eq!((old.error_code, &*old.group_state, old.members.len()), (0, "Dead", 0));
    let new = kafka.describe(client, 6);
    assert_eq!(ErrorCode::from_code(new.error_code), Some(ErrorCode::GroupIdNotFound));
    assert_eq!((&*new.group_state, new.error_message.as_deref()), ("Dead", Some("there is no group billing")));
    assert_eq!(new.authorized_operations, i32::MIN);
}

#[test]
fn groups_are_listed_by_state_and_type() {
    let mut kafka = Kafka::with_topic("orders", 2);
    let client = kafka.connect();
    kafka.commit(client, 9, commit(&[("orders", 0)]));
    let count = |kafka: &mut Kafka, states: &[&str], types: &[&str]| kafka.list(client, states, types).groups.len();

    let listed = kafka.list(client, &[], &[]);
    let group = &listed.groups[0];
    assert_eq!((&*group.group_id, &*group.protocol_type), (GROUP, ""));
    assert_eq!((&*group.group_state, &*group.group_type), ("Empty", "classic"));
    assert_eq!(count(&mut kafka, &["empty"], &["CLASSIC"]), 1);
    assert_eq!(count(&mut kafka, &["Stable"], &[]), 0);
    assert_eq!(count(&mut kafka, &[], &["consumer"]), 0);
    assert_eq!(count(&mut kafka, &[], &["nonsense"]), 0);
}

#[test]
fn groups_are_deleted_once_and_each_for_itself() {
    let mut kafka = Kafka::with_topic("orders", 2);
    let client = kafka.connect();
    let joined = kafka.join_until_member(client, 9, join());
    let codes = |kafka: &mut Kafka| {
        let groups_names = [GROUP, "unknown", GROUP].map(Str::from).to_vec();
        match kafka.ask_any(client, 2, Request::DeleteGroups(DeleteGroupsRequest { groups_names })) {
            Some(Response::DeleteGroups(response)) => {
                response.results.iter().map(|row| ErrorCode::from_code(row.error_code).unwrap()).collect::<Vec<_>>()
            }
            other => panic!("not deleted: {other:?}"),
        }
    };

    assert_eq!(codes(&mut kafka), [ErrorCode::NonEmptyGroup, ErrorCode::GroupIdNotFound]);
    kafka.leave(client, 5, &joined.member_id);
    assert_eq!(codes(&mut kafka), [ErrorCode::None, ErrorCode::GroupIdNotFound]);
    assert_eq!(kafka.list(client, &[], &[]).groups, []);
}

#[test]
fn offsets_of_topics_somebody_reads_cannot_be_deleted() {
    let mut kafka = Kafka::with_topic("orders", 2);
    kafka.control(Command::CreateTopic(rehearsal_mockbroker::state::NewTopic {
        name: "invoices".into(),
        ..Default::default()
    }));
    let client = kafka.connect();
    kafka.commit(client, 9, commit(&[("orders", 0), ("invoices", 0)]));
    kafka.join_until_member(client, 9, join());

    let response = kafka.delete_offsets(client, GROUP, &["orders", "invoices", "no such topic"]);

    let codes = response
        .topics
        .iter()
        .map(|topic| (topic.name.as_str().to_owned(), ErrorCode::from_code(topic.partitions[0].error_code).unwrap()));
    assert_eq!(
        codes.collect::<BTreeMap<_, _>>(),
        BTreeMap::from([
            ("invoices".to_owned(), ErrorCode::None),
            ("no such topic".to_owned(), ErrorCode::UnknownTopicOrPartition),
            ("orders".to_owned(), ErrorCode::GroupSubscribedToTopic),
        ])
    );
    assert_eq!((kafka.fetch_one(client, "orders", 0), kafka.fetch_one(client, "invoices", 0)), (7, -1));
    let unknown = kafka.delete_offsets(client, "unknown", &["no such topic"]);
    assert_eq!(ErrorCode::from_code(unknown.error_code), Some(ErrorCode::GroupIdNotFound));
    assert_eq!(unknown.topics, []);
}

/// A cluster and its clock; every answer is also encoded in the version it was asked in.
struct Kafka {
    cluster: Cluster,
    now: Time,
    answers: BTreeMap<ConnId, Response>,
    versions: BTreeMap<ConnId, i16>,
}

impl Kafka {
    fn with_topic(topic: &str, partitions: i32) -> Self {
        Self::new(1, topic, partitions)
    }

    fn new(brokers: i32, topic: &str, partitions: i32) -> Self {
        let topics = vec![TopicConfig::new(topic, partitions)];
        let config = ClusterConfig { topics, ..ClusterConfig::with_brokers(brokers) };
        let cluster = Cluster::new(&config).expect("a cluster");
        Self { cluster, now: Time::from_millis(1_000), answers: BTreeMap::new(), versions: BTreeMap::new() }
    }

    fn coordinator(&mut self) -> NodeId {
        let anywhere = self.cluster.view().controller.expect("a broker runs");
        let client = self.connect_to(anywhere);
        let request = FindCoordinatorRequest { key: Str::from(GROUP), ..Default::default() };
        match self.ask_any(client, 3, Request::FindCoordinator(request)) {
            Some(Response::FindCoordinator(found)) if found.error_code == 0 => NodeId(found.node_id),
            other => panic!("no coordinator: {other:?}"),
        }
    }

    fn connect(&mut self) -> ConnId {
        let coordinator = self.coordinator();
        self.connect_to(coordinator)
    }

    fn connect_to(&mut self, node: NodeId) -> ConnId {
        self.cluster.connect(node, "/127.0.0.1").expect("the broker runs")
    }

    fn disconnect(&mut self, conn: ConnId) {
        let outputs = self.cluster.disconnect(self.now, conn);
        self.carry_out(outputs);
    }

    fn advance(&mut self, ms: i32) {
        self.now = self.now + millis(ms);
        let outputs = self.cluster.wake(self.now);
        self.carry_out(outputs);
    }

    fn control(&mut self, command: Command) {
        let outputs = self.cluster.control(self.now, command).expect("a command that can be done");
        self.carry_out(outputs);
    }

    fn topic_id(&self, topic: &str) -> Uuid {
        self.cluster.view().topic(topic).expect("the topic").id.parse().expect("an id")
    }

    fn ask_any(&mut self, conn: ConnId, version: i16, body: Request) -> Option<Response> {
        self.versions.insert(conn, version);
        let request = Incoming { version, client_id: Str::from("worker"), body, frame_bytes: 0 };
        let outputs = self.cluster.handle(self.now, conn, request);
        self.carry_out(outputs);
        self.answers.remove(&conn)
    }

    /// Asks; `None` while the request waits.
    fn ask<T: Body>(&mut self, conn: ConnId, version: i16, request: impl Into<Request>) -> Option<T> {
        self.ask_any(conn, version, request.into()).map(T::of)
    }

    /// The answer to a request that had to wait.
    fn answered<T: Body>(&mut self, conn: ConnId) -> Option<T> {
        self.answers.remove(&conn).map(T::of)
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            if let Output::Reply { conn, response: Some(response), .. } = output {
                let version = self.versions[&conn];
                response.encode(version, &mut Writer::new()).expect("an answer this version has room for");
                self.answers.insert(conn, *response);
            }
        }
    }

    fn join(&mut self, conn: ConnId, version: i16, request: JoinGroupRequest) -> Option<JoinGroupResponse> {
        self.ask(conn, version, request)
    }

    /// Joins, again with the id it is told where the version has that.
    fn join_until_member(&mut self, conn: ConnId, version: i16, request: JoinGroupRequest) -> JoinGroupResponse {
        let first = self.join(conn, version, request.clone()).expect("nobody to wait for");
        assert_eq!(first.error_code != 0, version >= 4);
        if first.error_code == 0 {
            return first;
        }
        self.join(conn, version, JoinGroupRequest { member_id: first.member_id, ..request })
            .expect("nobody to wait for")
    }

    fn try_sync(
        &mut self,
        conn: ConnId,
        version: i16,
        joined: &JoinGroupResponse,
        assignments: &[(&str, &'static str)],
    ) -> Option<SyncGroupResponse> {
        self.ask(conn, version, sync(joined, assignments))
    }

    fn sync(
        &mut self,
        conn: ConnId,
        version: i16,
        joined: &JoinGroupResponse,
        assignments: &[(&str, &'static str)],
    ) -> SyncGroupResponse {
        self.try_sync(conn, version, joined, assignments).expect("the leader need not wait")
    }

    fn beat(&mut self, conn: ConnId, version: i16, joined: &JoinGroupResponse) -> ErrorCode {
        let request = HeartbeatRequest {
            group_id: Str::from(GROUP),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            ..Default::default()
        };
        match self.ask_any(conn, version, Request::Heartbeat(request)) {
            Some(Response::Heartbeat(beat)) => ErrorCode::from_code(beat.error_code).expect("a code Kafka has"),
            other => panic!("no answer to a heartbeat: {other:?}"),
        }
    }

    fn leave(&mut self, conn: ConnId, version: i16, member: &str) -> LeaveGroupResponse {
        let member_id = Str::from(member);
        let request = match version {
            0..=2 => LeaveGroupRequest { group_id: Str::from(GROUP), member_id, ..Default::default() },
            _ => LeaveGroupRequest {
                group_id: Str::from(GROUP),
                members: vec![MemberIdentity { member_id, ..Default::default() }],
                ..Default::default()
            },
        };
        self.ask(conn, version, request).expect("an answer")
    }

    fn commit(&mut self, conn: ConnId, version: i16, request: OffsetCommitRequest) -> OffsetCommitResponse {
        self.ask(conn, version, request).expect("an answer")
    }

    fn fetch(&mut self, conn: ConnId, version: i16, request: OffsetFetchRequest) -> OffsetFetchResponse {
        self.ask(conn, version, request).expect("an answer")
    }

    fn fetch_one(&mut self, conn: ConnId, topic: &str, partition: usize) -> i64 {
        let fetched = self.fetch(conn, 8, fetch(&[topic], Uuid::ZERO));
        fetched.groups[0].topics[0].partitions[partition].committed_offset
    }

    fn describe(&mut self, conn: ConnId, version: i16) -> DescribedGroup {
        let groups = vec![Str::from(GROUP)];
        let request = DescribeGroupsRequest { groups, include_authorized_operations: version >= 3 };
        match self.ask_any(conn, version, Request::DescribeGroups(request)) {
            Some(Response::DescribeGroups(mut described)) => described.groups.remove(0),
            other => panic!("not described: {other:?}"),
        }
    }

    fn list(&mut self, conn: ConnId, states: &[&str], types: &[&str]) -> ListGroupsResponse {
        let strs = |texts: &[&str]| texts.iter().map(|text| Str::from(*text)).collect();
        self.ask(conn, 5, ListGroupsRequest { states_filter: strs(states), types_filter: strs(types) })
            .expect("an answer")
    }

    fn delete_offsets(&mut self, conn: ConnId, group: &str, topics: &[&str]) -> OffsetDeleteResponse {
        let topics = topics.iter().map(|topic| OffsetDeleteRequestTopic {
            name: Str::from(*topic),
            partitions: vec![OffsetDeleteRequestPartition { partition_index: 0 }],
        });
        self.ask(conn, 0, OffsetDeleteRequest { group_id: Str::from(group), topics: topics.collect() })
            .expect("an answer")
    }
}

/// A response's body of one API.
trait Body {
    fn of(response: Response) -> Self;
}

macro_rules! bodies {
    ($($variant:ident $body:ty;)*) => {$(
        impl Body for $body {
            fn of(response: Response) -> Self {
                match response {
                    Response::$variant(body) => body,
                    other => panic!("not the answer to {}: {other:?}", stringify!($variant)),
                }
            }
        }
    )*};
}

bodies! {
    JoinGroup JoinGroupResponse;
    SyncGroup SyncGroupResponse;
    LeaveGroup LeaveGroupResponse;
    OffsetCommit OffsetCommitResponse;
    OffsetFetch OffsetFetchResponse;
    OffsetDelete OffsetDeleteResponse;
    ListGroups ListGroupsResponse;
}

fn join() -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: Str::from(GROUP),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: Str::from("consumer"),
        protocols: vec![JoinGroupRequestProtocol { name: Str::from("range"), metadata: subscription("orders") }],
        ..Default::default()
    }
}

/// A consumer's subscription to one topic, in version 0.
fn subscription(topic: &str) -> Bytes {
    let mut bytes = vec![0, 0, 0, 0, 0, 1, 0, u8::try_from(topic.len()).expect("a short name")];
    bytes.extend(topic.as_bytes());
    bytes.extend([0xff; 4]);
    bytes.into()
}

fn sync(joined: &JoinGroupResponse, assignments: &[(&str, &'static str)]) -> SyncGroupRequest {
    let assignments = assignments.iter().map(|(member, assignment)| SyncGroupRequestAssignment {
        member_id: Str::from(*member),
        assignment: Bytes::from(*assignment),
    });
    SyncGroupRequest {
        group_id: Str::from(GROUP),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        protocol_type: Some(Str::from("consumer")),
        protocol_name: Some(Str::from("range")),
        assignments: assignments.collect(),
        ..Default::default()
    }
}

/// Offset 7 for each of these partitions, from a consumer that assigns itself.
fn commit(partitions: &[(&str, i32)]) -> OffsetCommitRequest {
    let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
    for (topic, partition_index) in partitions {
        let partition = OffsetCommitRequestPartition {
            partition_index: *partition_index,
            committed_offset: 7,
            committed_metadata: Some(Str::from("kept")),
            ..Default::default()
        };
        match topics.iter_mut().find(|known| known.name == *topic) {
            Some(known) => known.partitions.push(partition),
            None => topics.push(OffsetCommitRequestTopic {
                name: Str::from(*topic),
                partitions: vec![partition],
                ..Default::default()
            }),
        }
    }
    OffsetCommitRequest { group_id: Str::from(GROUP), topics, ..Default::default() }
}

fn commit_codes(response: &OffsetCommitResponse) -> Vec<(String, i32, ErrorCode)> {
    let rows = response.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|row| {
            let code = ErrorCode::from_code(row.error_code).expect("a code Kafka has");
            (topic.name.as_str().to_owned(), row.partition_index, code)
        })
    });
    rows.collect()
}

/// Partitions 0 and 1 of each topic.
fn fetch(topics: &[&str], topic_id: Uuid) -> OffsetFetchRequest {
    let topics = topics.iter().map(|topic| OffsetFetchRequestTopics {
        name: Str::from(*topic),
        topic_id,
        partition_indexes: vec![0, 1],
    });
    let topics = Some(topics.collect());
    let group = OffsetFetchRequestGroup { group_id: Str::from(GROUP), topics, ..Default::default() };
    OffsetFetchRequest { groups: vec![group], ..Default::default() }
}

fn fetch_before_several(topic: &str) -> OffsetFetchRequest {
    let topic = OffsetFetchRequestTopic { name: Str::from(topic), partition_indexes: vec![0, 1] };
    OffsetFetchRequest { group_id: Str::from(GROUP), topics: Some(vec![topic]), ..Default::default() }
}
