//! Two hundred tests in one binary, each with a cluster of its own, all at once and unlike in what they do and when.
//! Repeated by `make nightly`: not one may fail by chance.

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use kafka_protocol::messages::{BrokerId, GroupId, TopicName};
use kafka_protocol::protocol::StrBytes;
use rehearsal_mockbroker::error::ErrorCode;
use rehearsal_mockbroker::fault::Fault;
use rehearsal_mockbroker::testing::{MockCluster, PlannedFault};
use rehearsal_mockbroker::wire::ApiKey;
use std::time::Duration;
use tests::batch::Batch;
use tests::raw::{Connection, NoAnswer};

const TOPIC: &str = "orders";
const PRODUCE_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 11;
const COMMIT_VERSION: i16 = 8;
const HOUR: Duration = Duration::from_secs(3_600);

/// Ten tests a line, twenty lines.
macro_rules! two_hundred {
    ($($tens:ident $first:literal)*) => {$(
        mod $tens {
            #[test] fn n0() { super::round_trip($first); }
            #[test] fn n1() { super::round_trip($first + 1); }
            #[test] fn n2() { super::round_trip($first + 2); }
            #[test] fn n3() { super::round_trip($first + 3); }
            #[test] fn n4() { super::round_trip($first + 4); }
            #[test] fn n5() { super::round_trip($first + 5); }
            #[test] fn n6() { super::round_trip($first + 6); }
            #[test] fn n7() { super::round_trip($first + 7); }
            #[test] fn n8() { super::round_trip($first + 8); }
            #[test] fn n9() { super::round_trip($first + 9); }
        }
    )*};
}

two_hundred! {
    t000 0 t010 10 t020 20 t030 30 t040 40 t050 50 t060 60 t070 70 t080 80 t090 90
    t100 100 t110 110 t120 120 t130 130 t140 140 t150 150 t160 160 t170 170 t180 180 t190 190
}

/// Writes, meets a fault, reads, commits and looks; what and how much depends on the number.
fn round_trip(number: usize) {
    let brokers = 1 + number % 3;
    let partitions = 1 + number % 4;
    let cluster = MockCluster::builder().brokers(brokers as i32).topic(TOPIC, partitions as i32).seed(number as u64);
    // The records say they are old, and some of these tests advance the clock to where that is looked at.
    let cluster = cluster.config("log.retention.ms", "-1");
    let kafka = cluster.start().expect("free ports");
    let partition = (number % partitions) as i32;
    let (leader, address) = leader(&kafka, partition);

    let mut written = 0;
    let mut client = Connection::open(&address, "writer").expect("it listens");
    for round in 0..1 + number % 5 {
        assert_eq!(produce(&mut client, partition, round), Ok((0, written)));
        written += 1;
    }
    client = meet_fault(number, &kafka, leader, &address, partition, client, &mut written);
    if number.is_multiple_of(5) {
        kafka.crash(leader).expect("it runs");
        assert_eq!(produce(&mut client, partition, 0), Err(NoAnswer::Closed));
        assert!(Connection::open(&address, "writer").is_err());
        kafka.start_broker(leader).expect("it is down");
        client = Connection::open(&address, "writer").expect("it listens again");
        kafka.move_leader(TOPIC, partition, leader).expect("it is in sync again");
        assert_eq!(produce(&mut client, partition, 9), Ok((0, written)));
        written += 1;
    }
    assert_eq!(count_fetched(&mut client, partition), written as usize);
    let records = kafka.wait_for().records(TOPIC, written as usize).blocking().expect("they are there");
    assert_eq!(records.len(), written as usize);
    commit(&kafka, number, written);
}

/// One of seven faults, and what a client sees of it.
fn meet_fault(
    number: usize,
    kafka: &MockCluster,
    leader: i32,
    address: &str,
    partition: i32,
    mut client: Connection,
    written: &mut i64,
) -> Connection {
    let requests = || Fault::on(ApiKey::Produce).topic(TOPIC).partition(partition).broker(leader);
    let plan = |fault: Fault| -> PlannedFault { kafka.plan(fault).expect("it can happen") };
    let again = || Connection::open(address, "writer").expect("it listens");
    match number % 7 {
        0 => {
            plan(requests().error(ErrorCode::NotLeaderOrFollower));
            assert_eq!(produce(&mut client, partition, 7), Ok((ErrorCode::NotLeaderOrFollower.code(), -1)));
        }
        1 => {
            plan(requests().disconnect());
            assert_eq!(produce(&mut client, partition, 7), Err(NoAnswer::Closed));
            client = again();
        }
        2 => {
            plan(requests().disconnect_after_effect());
            assert_eq!(produce(&mut client, partition, 7), Err(NoAnswer::Closed));
            *written += 1;
            client = again();
        }
        3 => {
            let fault = plan(requests().hold());
            let pending = client.send(PRODUCE_VERSION, &produce_request(partition, 7)).expect("it is sent");
            kafka.wait_for().held(&fault).blocking().expect("it is held");
            fault.release();
            assert!(client.receive(pending).is_ok());
            *written += 1;
        }
        4 => {
            let fault = plan(requests().delay_answer(HOUR));
            let pending = client.send(PRODUCE_VERSION, &produce_request(partition, 7)).expect("it is sent");
            kafka.wait_for().hits(&fault, 1).blocking().expect("it is delayed");
            kafka.advance(HOUR);
            assert!(client.receive(pending).is_ok());
            *written += 1;
        }
        5 => {
            plan(requests().cut_short());
            assert_eq!(produce(&mut client, partition, 7), Err(NoAnswer::Closed));
            *written += 1;
            client = again();
        }
        _ => {
            kafka.pause(leader).expect("it runs");
            let pending = client.send(PRODUCE_VERSION, &produce_request(partition, 7)).expect("it is sent");
            let waits = kafka
                .wait_for()
                .until("a request to wait", |cluster| (cluster.view().waiting_requests == 1).then_some(()));
            waits.blocking().expect("it waits");
            kafka.resume(leader).expect("it is paused");
            assert!(client.receive(pending).is_ok());
            *written += 1;
        }
    }
    client
}

fn leader(kafka: &MockCluster, partition: i32) -> (i32, String) {
    let view = kafka.view();
    let leader = view.topic(TOPIC).expect("it exists").partitions[partition as usize].leader.expect("one leads");
    let (_, address) = kafka.advertised().iter().find(|(node, _)| *node == leader).expect("it listens");
    (leader.0, address.clone())
}

fn topic() -> TopicName {
    TopicName(StrBytes::from_static_str(TOPIC))
}

fn produce_request(partition: i32, round: usize) -> ProduceRequest {
    let batch = Batch::of(1_700_000_000_000, &[&format!("round {round}")]).encode();
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch));
    let data = TopicProduceData::default().with_name(topic()).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(5_000).with_topic_data(vec![data])
}

/// The code and the base offset told.
fn produce(client: &mut Connection, partition: i32, round: usize) -> Result<(i16, i64), NoAnswer> {
    let answer = client.call(PRODUCE_VERSION, &produce_request(partition, round))?;
    let row = &answer.responses[0].partition_responses[0];
    Ok((row.error_code, row.base_offset))
}

fn count_fetched(client: &mut Connection, partition: i32) -> usize {
    let wanted = FetchPartition::default().with_partition(partition).with_partition_max_bytes(1 << 20);
    let wanted = FetchTopic::default().with_topic(topic()).with_partitions(vec![wanted]);
    let request = FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(1_000)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![wanted]);
    let answer = client.call(FETCH_VERSION, &request).expect("an answer");
    let row = &answer.responses[0].partitions[0];
    assert_eq!(row.error_code, 0);
    let batches = tests::batch::describe(row.records.as_deref().unwrap_or_default());
    batches.as_array().map_or(0, Vec::len)
}

/// Commits as a consumer that assigns itself, at whoever coordinates the group, and waits for it to be seen.
fn commit(kafka: &MockCluster, number: usize, offset: i64) {
    let group = format!("group-{number}");
    let brokers = kafka.advertised().iter().map(|(_, address)| address.clone());
    let row = OffsetCommitRequestPartition::default().with_partition_index(0).with_committed_offset(offset);
    let row = OffsetCommitRequestTopic::default().with_name(topic()).with_partitions(vec![row]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(StrBytes::from_string(group.clone())))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![row]);
    kafka.move_coordinator(&group, kafka.advertised()[0].0.0).expect("it is in sync");
    let codes = brokers.map(|address| {
        let mut client = Connection::open(&address, "reader").expect("it listens");
        client.call(COMMIT_VERSION, &request).expect("an answer").topics[0].partitions[0].error_code
    });
    let codes: Vec<_> = codes.collect();
    assert_eq!(codes[0], 0, "{codes:?}");
    assert!(codes[1..].iter().all(|code| *code == ErrorCode::NotCoordinator.code()), "{codes:?}");
    kafka.wait_for().committed(&group, TOPIC, 0, offset).blocking().expect("it is committed");
}
