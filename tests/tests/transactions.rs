//! librdkafka's transactional producer and its readers of committed records, against our broker over TCP.

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use rehearsal_mockbroker::testing::MockCluster;
use std::time::{Duration, Instant};

const ORDERS: &str = "orders";
const INVOICES: &str = "invoices";
/// Long enough for a client on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn kafka(brokers: usize) -> MockCluster {
    let brokers = i32::try_from(brokers).expect("a few");
    MockCluster::builder().brokers(brokers).topic(ORDERS, 1).topic(INVOICES, 3).start().expect("free ports")
}

fn producer(kafka: &MockCluster, transactional_id: &str) -> BaseProducer {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap_servers())
        .set("transactional.id", transactional_id)
        .create()
        .expect("a producer");
    producer.init_transactions(PATIENCE).expect("a coordinator");
    producer
}

fn consumer(kafka: &MockCluster, group: &str, topic: &str, isolation: &str) -> BaseConsumer {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap_servers())
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("isolation.level", isolation)
        .create()
        .expect("a consumer");
    consumer.subscribe(&[topic]).expect("a subscription");
    consumer
}

fn send(producer: &BaseProducer, topic: &str, value: &str) {
    producer.send(BaseRecord::<(), str>::to(topic).payload(value)).expect("room in the queue");
}

/// Reads until `last` has come.
fn read_until(consumer: &BaseConsumer, last: &str) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    let mut values = Vec::new();
    while values.last().is_none_or(|value| value != last) {
        assert!(Instant::now() < deadline, "'{last}' never came, but {values:?} did");
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            let message = message.expect("a record");
            values.push(String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned());
        }
    }
    values
}

#[test]
fn a_reader_of_committed_records_sees_whole_transactions_only() {
    let kafka = kafka(3);
    let payments = producer(&kafka, "payments");
    for round in 0..3 {
        payments.begin_transaction().expect("it begins");
        send(&payments, ORDERS, &format!("kept {round}"));
        payments.commit_transaction(PATIENCE).expect("it commits");
        payments.begin_transaction().expect("it begins");
        send(&payments, ORDERS, &format!("lost {round}"));
        payments.flush(PATIENCE).expect("it is written");
        payments.abort_transaction(PATIENCE).expect("it aborts");
    }
    payments.begin_transaction().expect("it begins");
    send(&payments, ORDERS, "last");
    payments.commit_transaction(PATIENCE).expect("it commits");

    let committed = read_until(&consumer(&kafka, "auditors", ORDERS, "read_committed"), "last");
    assert_eq!(committed, ["kept 0", "kept 1", "kept 2", "last"]);
    let everything = read_until(&consumer(&kafka, "gossips", ORDERS, "read_uncommitted"), "last");
    assert_eq!(everything.len(), 7);
}

#[test]
fn offsets_and_records_of_a_transaction_count_together() {
    let kafka = kafka(1);
    let feed = producer(&kafka, "feed");
    feed.begin_transaction().expect("it begins");
    for value in ["one", "two", "three"] {
        send(&feed, ORDERS, value);
    }
    feed.commit_transaction(PATIENCE).expect("it commits");

    let reader = consumer(&kafka, "billing", ORDERS, "read_committed");
    assert_eq!(read_until(&reader, "three"), ["one", "two", "three"]);
    let billing = producer(&kafka, "billing");
    let member = reader.group_metadata().expect("a member of a group");
    for (value, offset, commits) in [("invoice 1", 1, true), ("invoice 2", 2, false)] {
        billing.begin_transaction().expect("it begins");
        send(&billing, INVOICES, value);
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(ORDERS, 0, Offset::Offset(offset)).expect("an offset");
        billing.send_offsets_to_transaction(&offsets, &member, PATIENCE).expect("offsets are taken");
        if commits {
            billing.commit_transaction(PATIENCE).expect("it commits");
        } else {
            billing.flush(PATIENCE).expect("it is written");
            billing.abort_transaction(PATIENCE).expect("it aborts");
        }
    }

    let committed = reader.committed(PATIENCE).expect("offsets");
    let offset = committed.find_partition(ORDERS, 0).expect("the partition").offset();
    assert_eq!(offset, Offset::Offset(1), "the second transaction was aborted");
    assert_eq!(read_until(&consumer(&kafka, "auditors", INVOICES, "read_committed"), "invoice 1"), ["invoice 1"]);
}

#[test]
fn a_second_producer_of_the_same_name_fences_the_first() {
    let kafka = kafka(1);
    let zombie = producer(&kafka, "payments");
    zombie.begin_transaction().expect("it begins");
    send(&zombie, ORDERS, "half");
    zombie.flush(PATIENCE).expect("it is written");

    let heir = producer(&kafka, "payments");
    zombie.commit_transaction(PATIENCE).expect_err("its time is over");
    heir.begin_transaction().expect("it begins");
    send(&heir, ORDERS, "whole");
    heir.commit_transaction(PATIENCE).expect("it commits");
    assert_eq!(read_until(&consumer(&kafka, "auditors", ORDERS, "read_committed"), "whole"), ["whole"]);
}
