//! Streams groups (KIP-1071) as members meet them: heartbeats through `Cluster::handle`.

mod clients;

use clients::{Answered, Kafka, body};
use rehearsal_mockbroker::error::ErrorCode;
use rehearsal_mockbroker::wire::Str;
use rehearsal_mockbroker::wire::generated::list_groups_request::ListGroupsRequest;
use rehearsal_mockbroker::wire::generated::list_groups_response::ListGroupsResponse;
use rehearsal_mockbroker::wire::generated::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use rehearsal_mockbroker::wire::generated::offset_commit_response::OffsetCommitResponse;
use rehearsal_mockbroker::wire::generated::streams_group_describe_request::StreamsGroupDescribeRequest;
use rehearsal_mockbroker::wire::generated::streams_group_describe_response::{
    DescribedGroup, StreamsGroupDescribeResponse,
};
use rehearsal_mockbroker::wire::generated::streams_group_heartbeat_request::{
    CopartitionGroup, Endpoint, StreamsGroupHeartbeatRequest, Subtopology, TaskIds, TopicInfo, Topology,
};
use rehearsal_mockbroker::wire::generated::streams_group_heartbeat_response::StreamsGroupHeartbeatResponse;

const GROUP: &str = "wordcount";
const STALE_TOPOLOGY: i8 = 0;
const MISSING_SOURCE_TOPICS: i8 = 1;
const INCORRECTLY_PARTITIONED: i8 = 2;
const MISSING_INTERNAL_TOPICS: i8 = 3;
const SHUTDOWN: i8 = 4;
const DELAYED: i8 = 5;

body!(StreamsGroupHeartbeat StreamsGroupHeartbeatResponse);
body!(StreamsGroupDescribe StreamsGroupDescribeResponse);
body!(ListGroups ListGroupsResponse);
body!(OffsetCommit OffsetCommitResponse);

#[test]
fn the_first_member_waits_for_others_then_gets_all_tasks() {
    let mut kafka = Kafka::with_topic("words", 3);
    let mut ann = Member::named("ann");
    let joined = ann.join(&mut kafka, stateless());
    assert_eq!((joined.error_code, joined.member_epoch, ann.tasks.len()), (0, 1, 0));
    assert_eq!(statuses(&joined), [DELAYED]);
    kafka.advance(3_000);
    let told = ann.beat(&mut kafka);
    assert_eq!((told.member_epoch, &ann.tasks, statuses(&told).len()), (2, &tasks("0", 0..3), 0));
    assert_eq!(ann.beat(&mut kafka).active_tasks, None, "nothing is new");
    assert_eq!(describe(&mut kafka).group_state, "Stable");
}

#[test]
fn internal_topics_are_made_before_tasks_are_dealt_out() {
    let mut kafka = at_once();
    kafka.create_topic("words", 2);
    let mut ann = Member::named("ann");
    let joined = ann.join(&mut kafka, counting());
    assert_eq!(statuses(&joined), [MISSING_INTERNAL_TOPICS]);
    assert_eq!(ann.tasks, []);
    assert_eq!(describe(&mut kafka).group_state, "NotReady");
    for topic in ["by-word", "counts"] {
        assert_eq!(kafka.cluster.partitions(topic).len(), 2, "{topic} is as large as what is read");
    }
    kafka.advance(1_000);
    ann.beat(&mut kafka);
    assert_eq!(ann.tasks, [tasks("0", 0..2), tasks("1", 0..2)].concat());
    let described = describe(&mut kafka);
    let parts = described.topology.expect("a topology").subtopologies.expect("its parts");
    assert_eq!(parts[1].state_changelog_topics[0].partitions, 2);
}

#[test]
fn members_are_told_what_hinders_their_group() {
    let mut kafka = at_once();
    let mut ann = Member::named("ann");
    assert_eq!(statuses(&ann.join(&mut kafka, stateless())), [MISSING_SOURCE_TOPICS]);
    kafka.create_topic("words", 1);
    kafka.advance(1_000);
    ann.beat(&mut kafka);
    assert_eq!(ann.tasks, tasks("0", 0..1), "the topic has come");
    kafka.create_topic("left", 1);
    kafka.create_topic("right", 2);
    let mut join = part("0", &["left", "right"]);
    join.copartition_groups = vec![CopartitionGroup { source_topics: vec![0, 1], ..Default::default() }];
    let mut ben = Member { group: "joining", ..Member::named("ben") };
    assert_eq!(statuses(&ben.join(&mut kafka, topology(vec![join]))), [INCORRECTLY_PARTITIONED]);
}

#[test]
fn tasks_are_given_up_before_another_member_gets_them() {
    let mut kafka = at_once();
    kafka.create_topic("words", 2);
    let (mut ann, mut ben) = (Member::named("ann"), Member::named("ben"));
    ann.join(&mut kafka, stateless());
    assert_eq!(ann.tasks.len(), 2);
    kafka.advance(1_000);
    ben.join(&mut kafka, stateless());
    assert_eq!((ben.epoch, ben.tasks.len()), (3, 0), "ann still has everything");
    ann.beat(&mut kafka);
    assert_eq!((ann.epoch, ann.tasks.len()), (2, 1), "she is to give one up, and stays in her epoch");
    assert_eq!(describe(&mut kafka).group_state, "Reconciling");
    ann.owns(&mut kafka);
    assert_eq!(ann.epoch, 3);
    ben.beat(&mut kafka);
    assert_eq!((ann.tasks, ben.tasks), (tasks("0", 0..1), tasks("0", 1..2)));
    assert_eq!(describe(&mut kafka).group_state, "Stable");
}

#[test]
fn who_does_not_give_tasks_up_in_time_is_fenced() {
    let mut kafka = at_once();
    kafka.create_topic("words", 2);
    let (mut ann, mut ben) = (Member::named("ann"), Member::named("ben"));
    ann.join(&mut kafka, stateless());
    kafka.advance(1_000);
    ben.join(&mut kafka, stateless());
    ann.beat(&mut kafka);
    kafka.advance(29_999);
    assert_eq!(code(&ann.beat(&mut kafka)), ErrorCode::None);
    kafka.advance(1);
    assert_eq!(code(&ann.beat(&mut kafka)), ErrorCode::UnknownMemberId);
}

#[test]
fn standby_tasks_are_kept_by_another_process() {
    let mut kafka = at_once();
    kafka.configure_group(GROUP, &[("streams.num.standby.replicas", "1")]);
    kafka.create_topic("words", 1);
    let mut stateful = part("0", &["words"]);
    stateful.state_changelog_topics = vec![internal("counts")];
    let topology = topology(vec![stateful]);
    let (mut ann, mut ben) = (Member::named("ann"), Member::named("ben"));
    ann.join(&mut kafka, topology.clone());
    kafka.advance(1_000);
    ann.beat(&mut kafka);
    assert_eq!((ann.tasks.len(), ann.standby.len()), (1, 0), "nobody else is there");
    kafka.advance(1_000);
    ben.join(&mut kafka, topology);
    assert_eq!((ben.tasks.len(), ben.standby), (0, tasks("0", 0..1)));
}

#[test]
fn a_silent_member_goes_and_one_that_leaves_leaves_its_tasks() {
    let mut kafka = at_once();
    kafka.create_topic("words", 2);
    let (mut ann, mut ben) = (Member::named("ann"), Member::named("ben"));
    ann.join(&mut kafka, stateless());
    kafka.advance(1_000);
    ben.join(&mut kafka, stateless());
    let left = ben.leave(&mut kafka);
    assert_eq!((left.error_code, left.member_epoch), (0, -1));
    kafka.advance(1_000);
    ann.beat(&mut kafka);
    assert_eq!(ann.tasks.len(), 2);
    kafka.advance(45_000);
    assert_eq!(describe(&mut kafka).group_state, "Empty");
    assert_eq!(code(&ann.beat(&mut kafka)), ErrorCode::UnknownMemberId);
}

#[test]
fn a_member_that_fails_for_good_stops_all() {
    let mut kafka = at_once();
    kafka.create_topic("words", 2);
    let (mut ann, mut ben) = (Member::named("ann"), Member::named("ben"));
    ann.join(&mut kafka, stateless());
    ben.join(&mut kafka, stateless());
    let request = StreamsGroupHeartbeatRequest { shutdown_application: true, ..ben.request(-1) };
    ben.send(&mut kafka, request);
    assert!(statuses(&ann.beat(&mut kafka)).contains(&SHUTDOWN));
}

#[test]
fn endpoints_are_told_when_they_change() {
    let mut kafka = at_once();
    kafka.create_topic("words", 1);
    let mut ann = Member::named("ann");
    let endpoint = Endpoint { host: Str::from("ann.local"), port: 8080 };
    let joining = ann.joining(stateless());
    ann.send(&mut kafka, StreamsGroupHeartbeatRequest { user_endpoint: Some(endpoint), ..joining });
    let mut ben = Member::named("ben");
    kafka.advance(1_000);
    let told = ben.join(&mut kafka, stateless());
    assert_eq!(told.partitions_by_user_endpoint, None, "what is told is up to date");
    let ahead = StreamsGroupHeartbeatRequest { endpoint_information_epoch: -1, ..ben.request(ben.epoch) };
    let endpoints = ben.send(&mut kafka, ahead).partitions_by_user_endpoint.expect("they are asked for");
    assert_eq!(endpoints[0].user_endpoint.host, "ann.local");
    assert_eq!(endpoints[0].active_partitions[0].topic, "words");
}

#[test]
fn nonsense_is_refused() {
    let mut kafka = at_once();
    kafka.create_topic("words", 1);
    let mut ann = Member::named("ann");
    assert_eq!(code(&ann.beat(&mut kafka)), ErrorCode::InvalidRequest, "who joins brings a topology");
    ann.epoch = 3;
    assert_eq!(code(&ann.beat(&mut kafka)), ErrorCode::GroupIdNotFound);
    let invalid = part("0", &["__consumer_offsets"]);
    assert_eq!(code(&ann.join(&mut kafka, topology(vec![invalid]))), ErrorCode::StreamsInvalidTopology);
    let is_static = StreamsGroupHeartbeatRequest { instance_id: Some(Str::from("one")), ..ann.joining(stateless()) };
    assert_eq!(code(&ann.send(&mut kafka, is_static)), ErrorCode::InvalidRequest);
    assert_eq!(code(&ann.join(&mut kafka, stateless())), ErrorCode::None);
    ann.epoch = 7;
    assert_eq!(code(&ann.beat(&mut kafka)), ErrorCode::FencedMemberEpoch);
    ann.epoch = 2;
    ann.tasks = tasks("0", 4..5);
    assert_eq!(code(&ann.owns(&mut kafka)), ErrorCode::InvalidRequest, "there is no such task");
    let mut other = stateless();
    other.epoch = 1;
    assert_eq!(code(&Member::named("ben").join(&mut kafka, other)), ErrorCode::InvalidRequest);
}

#[test]
fn an_older_topology_is_told_to_be_stale() {
    let mut kafka = at_once();
    kafka.create_topic("words", 1);
    let mut newer = stateless();
    newer.epoch = 2;
    Member::named("ann").join(&mut kafka, newer);
    assert_eq!(statuses(&Member::named("ben").join(&mut kafka, stateless()))[..1], [STALE_TOPOLOGY]);
}

#[test]
fn offsets_are_committed_by_members_in_their_epoch() {
    let mut kafka = at_once();
    kafka.create_topic("words", 1);
    let mut ann = Member::named("ann");
    ann.join(&mut kafka, stateless());
    assert_eq!(ann.commit(&mut kafka, 2), ErrorCode::None);
    assert_eq!(ann.commit(&mut kafka, 1), ErrorCode::StaleMemberEpoch, "she has the task since epoch 2");
    assert_eq!(ann.commit(&mut kafka, 3), ErrorCode::StaleMemberEpoch);
    assert_eq!(Member::named("bob").commit(&mut kafka, 2), ErrorCode::UnknownMemberId);
    let conn = kafka.connect_to_coordinator(GROUP);
    let listed: ListGroupsResponse = kafka.ask(conn, 5, ListGroupsRequest::default());
    assert_eq!((listed.groups[0].group_type.as_str(), listed.groups[0].protocol_type.as_str()), ("streams", "streams"));
}

// ---- verbs ----

/// A thread of a Kafka Streams application, alone in its process.
#[derive(Debug, Clone)]
struct Member {
    id: &'static str,
    group: &'static str,
    epoch: i32,
    tasks: Vec<(String, i32)>,
    standby: Vec<(String, i32)>,
}

impl Member {
    fn named(id: &'static str) -> Self {
        Self { id, group: GROUP, epoch: 0, tasks: Vec::new(), standby: Vec::new() }
    }

    fn join(&mut self, kafka: &mut Kafka, topology: Topology) -> StreamsGroupHeartbeatResponse {
        let request = self.joining(topology);
        self.send(kafka, request)
    }

    fn joining(&self, topology: Topology) -> StreamsGroupHeartbeatRequest {
        StreamsGroupHeartbeatRequest {
            rebalance_timeout_ms: 30_000,
            topology: Some(topology),
            active_tasks: Some(Vec::new()),
            standby_tasks: Some(Vec::new()),
            warmup_tasks: Some(Vec::new()),
            process_id: Some(Str::from(format!("process of {}", self.id))),
            ..self.request(0)
        }
    }

    fn beat(&mut self, kafka: &mut Kafka) -> StreamsGroupHeartbeatResponse {
        self.send(kafka, self.request(self.epoch))
    }

    /// Says which tasks it has.
    fn owns(&mut self, kafka: &mut Kafka) -> StreamsGroupHeartbeatResponse {
        let ids = |(part, index): &(String, i32)| TaskIds {
            subtopology_id: Str::from(part.as_str()),
            partitions: vec![*index],
        };
        let request = StreamsGroupHeartbeatRequest {
            active_tasks: Some(self.tasks.iter().map(ids).collect()),
            standby_tasks: Some(self.standby.iter().map(ids).collect()),
            warmup_tasks: Some(Vec::new()),
            ..self.request(self.epoch)
        };
        self.send(kafka, request)
    }

    fn leave(&mut self, kafka: &mut Kafka) -> StreamsGroupHeartbeatResponse {
        self.send(kafka, self.request(-1))
    }

    fn request(&self, member_epoch: i32) -> StreamsGroupHeartbeatRequest {
        StreamsGroupHeartbeatRequest {
            group_id: Str::from(self.group),
            member_id: Str::from(self.id),
            member_epoch,
            endpoint_information_epoch: 0,
            rebalance_timeout_ms: -1,
            ..Default::default()
        }
    }

    fn send(&mut self, kafka: &mut Kafka, request: StreamsGroupHeartbeatRequest) -> StreamsGroupHeartbeatResponse {
        let conn = kafka.connect_to_coordinator(self.group);
        let response: StreamsGroupHeartbeatResponse = kafka.ask(conn, 0, request);
        if response.error_code == 0 {
            self.epoch = response.member_epoch;
        }
        let flat = |ids: &Vec<_>| {
            let ids: &Vec<rehearsal_mockbroker::wire::generated::streams_group_heartbeat_response::TaskIds> = ids;
            ids.iter().flat_map(|ids| ids.partitions.iter().map(|i| (ids.subtopology_id.to_string(), *i))).collect()
        };
        if let (Some(active), Some(standby)) = (&response.active_tasks, &response.standby_tasks) {
            (self.tasks, self.standby) = (flat(active), flat(standby));
        }
        response
    }

    fn commit(&self, kafka: &mut Kafka, epoch: i32) -> ErrorCode {
        let partition = OffsetCommitRequestPartition { committed_offset: 1, ..Default::default() };
        let topic =
            OffsetCommitRequestTopic { name: Str::from("words"), partitions: vec![partition], ..Default::default() };
        let request = OffsetCommitRequest {
            group_id: Str::from(self.group),
            generation_id_or_member_epoch: epoch,
            member_id: Str::from(self.id),
            topics: vec![topic],
            ..Default::default()
        };
        let conn = kafka.connect_to_coordinator(self.group);
        let committed: OffsetCommitResponse = kafka.ask(conn, 9, request);
        ErrorCode::from_code(committed.topics[0].partitions[0].error_code).expect("a code Kafka has")
    }
}

/// A cluster whose groups do not wait for others at first.
fn at_once() -> Kafka {
    Kafka::with_configs(&[("group.streams.initial.rebalance.delay.ms", "0")])
}

fn topology(subtopologies: Vec<Subtopology>) -> Topology {
    Topology { epoch: 0, subtopologies }
}

/// One part that reads the words.
fn stateless() -> Topology {
    topology(vec![part("0", &["words"])])
}

/// One part that sends words by themselves to another, which counts them.
fn counting() -> Topology {
    let splitting = Subtopology { repartition_sink_topics: vec![Str::from("by-word")], ..part("0", &["words"]) };
    let counting = Subtopology {
        repartition_source_topics: vec![internal("by-word")],
        state_changelog_topics: vec![internal("counts")],
        ..part("1", &[])
    };
    topology(vec![splitting, counting])
}

fn part(id: &str, sources: &[&str]) -> Subtopology {
    Subtopology {
        subtopology_id: Str::from(id),
        source_topics: sources.iter().map(|topic| Str::from(*topic)).collect(),
        ..Default::default()
    }
}

fn internal(name: &str) -> TopicInfo {
    TopicInfo { name: Str::from(name), ..Default::default() }
}

fn tasks(part: &str, indices: std::ops::Range<i32>) -> Vec<(String, i32)> {
    indices.map(|index| (part.to_owned(), index)).collect()
}

fn statuses(response: &StreamsGroupHeartbeatResponse) -> Vec<i8> {
    response.status.iter().flatten().map(|status| status.status_code).collect()
}

fn code(response: &StreamsGroupHeartbeatResponse) -> ErrorCode {
    ErrorCode::from_code(response.error_code).expect("a code Kafka has")
}

fn describe(kafka: &mut Kafka) -> DescribedGroup {
    let conn = kafka.connect_to_coordinator(GROUP);
    let request = StreamsGroupDescribeRequest { group_ids: vec![Str::from(GROUP)], ..Default::default() };
    let mut response: StreamsGroupDescribeResponse = kafka.ask(conn, 0, request);
    response.groups.remove(0)
}
