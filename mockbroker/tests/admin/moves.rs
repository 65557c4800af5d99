//! Partitions move to other brokers, leaders to preferred ones; what brokers say of their replicas.

use crate::kafka::{Kafka, START_MS, body, code, ids};
use rehearsal_mockbroker::config::{ClusterConfig, TopicConfig};
use rehearsal_mockbroker::control::Command;
use rehearsal_mockbroker::error::ErrorCode;
use rehearsal_mockbroker::fault::Fault;
use rehearsal_mockbroker::state::nodes::NodeId;
use rehearsal_mockbroker::time::millis;
use rehearsal_mockbroker::wire::batch::BatchBuilder;
use rehearsal_mockbroker::wire::generated::alter_partition_reassignments_request::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use rehearsal_mockbroker::wire::generated::describe_log_dirs_request::DescribeLogDirsRequest;
use rehearsal_mockbroker::wire::generated::describe_quorum_request::{DescribeQuorumRequest, PartitionData, TopicData};
use rehearsal_mockbroker::wire::generated::elect_leaders_request::{ElectLeadersRequest, TopicPartitions};
use rehearsal_mockbroker::wire::generated::list_partition_reassignments_request::ListPartitionReassignmentsRequest;
use rehearsal_mockbroker::wire::{ApiKey, Response, Str};

const TOPIC: &str = "orders";

/// Four brokers whose followers take a second to copy; one partition on brokers 1 and 2, three records in it.
fn kafka() -> Kafka {
    let config = ClusterConfig { follower_delay: millis(1_000), ..ClusterConfig::with_brokers(4) };
    let mut kafka = Kafka::new(&config);
    let assignment = Some(vec![vec![NodeId(1), NodeId(2)]]);
    let new = rehearsal_mockbroker::state::NewTopic { name: TOPIC.into(), assignment, ..Default::default() };
    kafka.control(Command::CreateTopic(new));
    kafka.produce(TOPIC, 0, values(["a", "b", "c"]));
    kafka.advance(millis(2_000));
    kafka
}

fn values<const N: usize>(values: [&str; N]) -> BatchBuilder {
    values.iter().fold(BatchBuilder::new(), |batch, value| batch.record(START_MS, None, Some(value.as_bytes())))
}

fn reassign_with(kafka: &mut Kafka, replicas: Option<&[i32]>, other_count: bool) -> ErrorCode {
    let partitions = vec![ReassignablePartition { partition_index: 0, replicas: replicas.map(<[i32]>::to_vec) }];
    let topics = vec![ReassignableTopic { name: Str::from(TOPIC), partitions }];
    let request = AlterPartitionReassignmentsRequest {
        topics,
        allow_replication_factor_change: other_count,
        ..Default::default()
    };
    let answer = body!(kafka.ask(1, 1, request), AlterPartitionReassignments);
    code(answer.responses[0].partitions[0].error_code)
}

fn reassign(kafka: &mut Kafka, replicas: &[i32]) -> ErrorCode {
    reassign_with(kafka, Some(replicas), true)
}

/// Replicas, who is added and who goes, of what is being moved.
fn moving(kafka: &mut Kafka) -> Option<[Vec<i32>; 3]> {
    let request = ListPartitionReassignmentsRequest { topics: None, ..Default::default() };
    let mut topics = body!(kafka.ask(1, 0, request), ListPartitionReassignments).topics;
    let row = topics.pop()?.partitions.remove(0);
    Some([row.replicas, row.adding_replicas, row.removing_replicas])
}

#[test]
fn new_replicas_copy_before_the_old_ones_go() {
    let mut kafka = kafka();
    let epoch = kafka.partition(TOPIC, 0).leader_epoch;
    assert_eq!(reassign(&mut kafka, &[3, 4]), ErrorCode::None);
    assert_eq!(moving(&mut kafka), Some([vec![3, 4, 1, 2], vec![3, 4], vec![1, 2]]));
    assert_eq!(kafka.leader(TOPIC, 0), 1, "nobody else has the records yet");

    kafka.advance(millis(999));
    assert!(moving(&mut kafka).is_some());
    kafka.advance(millis(1));
    let partition = kafka.partition(TOPIC, 0);
    assert_eq!(moving(&mut kafka), None);
    assert_eq!((ids(&partition.replicas), ids(&partition.isr), kafka.leader(TOPIC, 0)), (vec![3, 4], vec![3, 4], 3));
    assert!(partition.leader_epoch > epoch);
    assert_eq!(kafka.cluster.records(TOPIC, 0).expect("the partition").len(), 3, "nothing is lost on the way");
    assert_eq!(kafka.produce(TOPIC, 0, values(["d"])), 3);
}

#[test]
fn a_move_that_only_drops_or_reorders_is_done_at_once() {
    let mut kafka = kafka();
    assert_eq!(reassign(&mut kafka, &[2, 1]), ErrorCode::None);
    assert_eq!((moving(&mut kafka), kafka.leader(TOPIC, 0)), (None, 1), "the leader stays until an election");
    let epoch = kafka.partition(TOPIC, 0).leader_epoch;
    assert_eq!(reassign(&mut kafka, &[1]), ErrorCode::None);
    let partition = kafka.partition(TOPIC, 0);
    assert_eq!((ids(&partition.replicas), partition.leader_epoch), (vec![1], epoch + 1), "who goes is fenced");
}

#[test]
fn a_cancelled_move_leaves_the_partition_where_it_was() {
    let mut kafka = kafka();
    assert_eq!(reassign_with(&mut kafka, None, true), ErrorCode::NoReassignmentInProgress);
    assert_eq!(reassign(&mut kafka, &[3, 4]), ErrorCode::None);
    assert_eq!(reassign_with(&mut kafka, None, true), ErrorCode::None);
    kafka.advance(millis(10_000));
    let partition = kafka.partition(TOPIC, 0);
    assert_eq!((ids(&partition.replicas), ids(&partition.isr)), (vec![1, 2], vec![1, 2]));
}

#[test]
fn a_move_must_name_brokers_there_are_and_as_many_as_before_unless_told() {
    let mut kafka = kafka();
    assert_eq!(reassign(&mut kafka, &[]), ErrorCode::InvalidReplicaAssignment);
    assert_eq!(reassign(&mut kafka, &[1, 1]), ErrorCode::InvalidReplicaAssignment);
    assert_eq!(reassign(&mut kafka, &[1, 9]), ErrorCode::InvalidReplicaAssignment);
    assert_eq!(reassign_with(&mut kafka, Some(&[3]), false), ErrorCode::InvalidReplicationFactor);
    assert_eq!(reassign_with(&mut kafka, Some(&[1, 3]), false), ErrorCode::None);
}

#[test]
fn a_broker_that_dies_while_it_copies_holds_the_move_up() {
    let mut kafka = kafka();
    assert_eq!(reassign(&mut kafka, &[1, 3]), ErrorCode::None);
    kafka.control(Command::Crash(NodeId(3)));
    kafka.advance(millis(60_000));
    assert!(moving(&mut kafka).is_some());
    kafka.control(Command::Start(NodeId(3)));
    kafka.advance(millis(5_000));
    assert_eq!((moving(&mut kafka), ids(&kafka.partition(TOPIC, 0).isr)), (None, vec![1, 3]));
}

fn elect(kafka: &mut Kafka, election_type: i8) -> ErrorCode {
    let topics = vec![TopicPartitions { topic: Str::from(TOPIC), partitions: vec![0] }];
    let request = ElectLeadersRequest { election_type, topic_partitions: Some(topics), ..Default::default() };
    let answer = body!(kafka.ask(2, 2, request), ElectLeaders);
    code(answer.replica_election_results[0].partition_result[0].error_code)
}

#[test]
fn a_preferred_leader_leads_again_when_asked() {
    const PREFERRED: i8 = 0;
    const UNCLEAN: i8 = 1;
    let mut kafka = kafka();
    assert_eq!(elect(&mut kafka, PREFERRED), ErrorCode::ElectionNotNeeded);
    kafka.control(Command::Crash(NodeId(1)));
    assert_eq!(elect(&mut kafka, PREFERRED), ErrorCode::PreferredLeaderNotAvailable);
    assert_eq!(elect(&mut kafka, UNCLEAN), ErrorCode::ElectionNotNeeded, "broker 2 leads");
    kafka.control(Command::Start(NodeId(1)));
    kafka.advance(millis(5_000));
    assert_eq!((kafka.leader(TOPIC, 0), elect(&mut kafka, PREFERRED), kafka.leader(TOPIC, 0)), (2, ErrorCode::None, 1));
}

#[test]
fn an_election_of_all_partitions_answers_those_that_needed_one() {
    let topic = TopicConfig::new("other", 3);
    let mut kafka = Kafka::new(&ClusterConfig { topics: vec![topic], ..ClusterConfig::with_brokers(3) });
    let preferred = kafka.leader("other", 1);
    let other = ids(&kafka.partition("other", 1).isr)[1];
    kafka.control(Command::MoveLeader { topic: "other".into(), partition: 1, to: NodeId(other) });
    let request = ElectLeadersRequest { topic_partitions: None, ..Default::default() };
    let results = body!(kafka.ask(1, 2, request), ElectLeaders).replica_election_results;
    let rows: Vec<_> = results[0].partition_result.iter().map(|row| (row.partition_id, row.error_code)).collect();
    assert_eq!((rows, kafka.leader("other", 1)), (vec![(1, 0)], preferred));
}

#[test]
fn a_fault_for_one_partition_stops_its_move_or_election_alone() {
    const CODE: ErrorCode = ErrorCode::KafkaStorageError;
    let mut kafka = kafka();
    for api in [ApiKey::AlterPartitionReassignments, ApiKey::ElectLeaders] {
        kafka.cluster.plan(Fault::on(api).topic(TOPIC).partition(0).error(CODE)).expect("it can happen");
    }
    assert_eq!((reassign(&mut kafka, &[3, 4]), moving(&mut kafka)), (CODE, None));
    assert_eq!(
        (reassign(&mut kafka, &[2, 1]), elect(&mut kafka, 0), kafka.leader(TOPIC, 0)),
        (ErrorCode::None, CODE, 1)
    );
    assert_eq!((elect(&mut kafka, 0), kafka.leader(TOPIC, 0)), (ErrorCode::None, 2));
}

#[test]
fn a_broker_tells_the_size_of_its_own_replicas() {
    let mut kafka = kafka();
    let on = |kafka: &mut Kafka, node| {
        let answer = body!(kafka.ask(node, 4, DescribeLogDirsRequest { topics: None }), DescribeLogDirs);
        let dir = &answer.results[0];
        (dir.topics.first().map(|topic| topic.partitions[0].partition_size), dir.total_bytes - dir.usable_bytes)
    };
    let bytes = i64::try_from(kafka.partition(TOPIC, 0).bytes).expect("few bytes");
    assert_eq!(on(&mut kafka, 1), (Some(bytes), bytes));
    assert_eq!(on(&mut kafka, 3), (None, 0));
    kafka.produce(TOPIC, 0, values(["d"]));
    assert_eq!(on(&mut kafka, 2), (Some(bytes), bytes), "the follower has not copied it yet");
}

#[test]
fn the_quorum_is_led_by_the_controller() {
    let mut kafka = kafka();
    kafka.control(Command::MoveController(NodeId(2)));
    kafka.control(Command::Crash(NodeId(4)));
    let partitions = vec![PartitionData { partition_index: 0 }];
    let topics = vec![TopicData { topic_name: Str::from("__cluster_metadata"), partitions }];
    let quorum = body!(kafka.ask(1, 2, DescribeQuorumRequest { topics }), DescribeQuorum);
    let partition = &quorum.topics[0].partitions[0];
    let behind = partition.current_voters.iter().filter(|voter| voter.log_end_offset < partition.high_watermark);
    let behind: Vec<_> = behind.map(|voter| voter.replica_id).collect();
    assert_eq!((partition.leader_id, partition.current_voters.len(), behind), (2, 4, vec![4]));
}
