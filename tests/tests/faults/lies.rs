//! Metadata that is not so.

use crate::scene::{ORDERS, Producer, Stage, block_on, config, one_broker, with_and_without};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::FromClientConfig;
use rdkafka::error::RDKafkaErrorCode as Code;
use rehearsal_mockbroker::fault::{Fault, Lie, Requests};
use rehearsal_mockbroker::state::nodes::NodeId;
use rehearsal_mockbroker::testing::MockCluster;
use rehearsal_mockbroker::wire::ApiKey;

fn metadata() -> Requests {
    Fault::on(ApiKey::Metadata)
}

fn two_of_everything() -> rehearsal_mockbroker::testing::Builder {
    MockCluster::builder().brokers(2).topic(ORDERS, 2)
}

/// Partitions of [`ORDERS`] with their leaders, or why it has none.
fn leaders(producer: &Producer) -> Result<Vec<i32>, Code> {
    let metadata = producer.metadata(Some(ORDERS))?;
    let topic = &metadata.topics()[0];
    match topic.error() {
        Some(error) => Err(error.into()),
        None => Ok(topic.partitions().iter().map(|partition| partition.leader()).collect()),
    }
}

#[test]
fn a_topic_that_is_there_does_not_exist() {
    let fault = metadata().lie(Lie::NoTopic(ORDERS.into())).always();
    let seen = with_and_without(one_broker(), fault, |stage| leaders(&stage.producer(&[])));
    assert_eq!((seen.with, seen.without), (Err(Code::UnknownTopicOrPartition), Ok(vec![1])));
}

#[test]
fn a_topic_has_fewer_partitions() {
    let fault = metadata().lie(Lie::Partitions { topic: ORDERS.into(), count: 1 }).always();
    let seen = with_and_without(two_of_everything(), fault, |stage| {
        let producer = stage.producer(&[("message.timeout.ms", "2000")]);
        (leaders(&producer).map(|leaders| leaders.len()), producer.send_to(ORDERS, 1, "a"))
    });
    assert_eq!((seen.with, seen.without), ((Ok(1), Err(Code::UnknownPartition)), (Ok(2), Ok(0))));
}

#[test]
fn another_broker_leads() {
    let cluster = two_of_everything().start().expect("free ports");
    let leader = cluster.view().topic(ORDERS).expect("it exists").partitions[0].leader.expect("one leads").0;
    let other = 3 - leader;
    let fault = metadata().lie(Lie::Leader { topic: ORDERS.into(), partition: 0, leader: NodeId(other) }).always();
    let seen = with_and_without(two_of_everything(), fault, |stage| {
        let sent = stage.producer(&[]).send("a");
        // Before it hears who leads it may ask once more.
        let mut asked = stage.asked(ApiKey::Produce);
        asked.dedup();
        (sent, asked)
    });
    assert_eq!(seen.with, (Ok(0), vec![other, leader]), "that broker says who does (KIP-951)");
    assert_eq!(seen.without, (Ok(0), vec![leader]));
}

#[test]
fn a_broker_that_is_there_does_not_exist() {
    let fault = metadata().lie(Lie::NoBroker(NodeId(2))).always();
    let seen = with_and_without(two_of_everything(), fault, |stage| {
        stage.producer(&[]).metadata(None).map(|metadata| metadata.brokers().len())
    });
    assert_eq!((seen.with, seen.without), (Ok(1), Ok(2)));
}

#[test]
fn another_broker_is_the_controller() {
    let fault = metadata().lie(Lie::Controller(NodeId(2))).always();
    let seen = with_and_without(two_of_everything(), fault, |stage| {
        create_topic(stage);
        stage.last_asked(ApiKey::CreateTopics)
    });
    assert_eq!((seen.with, seen.without), (2, 1));
}

#[test]
fn everything_is_as_it_was() {
    let seen = with_and_without(one_broker(), metadata().stale_metadata().always(), |stage| {
        stage.kafka.add_partitions(ORDERS, 3).expect("it has one");
        leaders(&stage.producer(&[])).map(|leaders| leaders.len())
    });
    assert_eq!((seen.with, seen.without), (Ok(1), Ok(3)));
}

/// As an administrator would.
pub(crate) fn create_topic(stage: &Stage<'_>) {
    let admin = AdminClient::<DefaultClientContext>::from_config(&config(stage.kafka, &[])).expect("good settings");
    let topic = NewTopic::new("fresh", 1, TopicReplication::Fixed(1));
    // Whether it is created is not asked here: a broker that is not the controller may refuse.
    let _ = block_on(admin.create_topics([&topic], &AdminOptions::new()));
}
