//! Topics and logs that change under their clients, and the brokers' wall clock.

use crate::scene::{ORDERS, Producer, Stage, next, one_broker, struck_or_not};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::message::Message;
use rehearsal_mockbroker::config::TopicConfig;
use rehearsal_mockbroker::control::Command;
use rehearsal_mockbroker::fault::Requests;
use rehearsal_mockbroker::testing::MockCluster;
use rehearsal_mockbroker::wire::ApiKey;

fn persistent(stage: &Stage<'_>) -> Producer {
    stage.producer(&[("retries", "100"), ("message.timeout.ms", "5000")])
}

#[test]
fn a_trimmed_log_begins_later() {
    let seen = struck_or_not(
        one_broker(),
        |kafka| kafka.trim(ORDERS, 0, 2).expect("they are there"),
        |stage| {
            let producer = persistent(stage);
            for value in ["a", "b", "c"] {
                producer.send(value).expect("it is written");
            }
            stage.strike();
            next(&stage.reader(ORDERS, 0, &[]))
        },
    );
    assert_eq!((seen.with, seen.without), (Ok((2, "c".into())), Ok((0, "a".into()))));
}

#[test]
fn a_recreated_topic_is_empty() {
    let recreate = |kafka: &MockCluster| {
        kafka.control(Command::RecreateTopic(ORDERS.into())).expect("it exists");
    };
    let seen = struck_or_not(one_broker(), recreate, |stage| {
        let producer = persistent(stage);
        producer.send("a").expect("it is written");
        stage.strike();
        let second = producer.send("b");
        (second, next(&stage.reader(ORDERS, 0, &[])))
    });
    assert_eq!((seen.with, seen.without), ((Ok(0), Ok((0, "b".into()))), (Ok(1), Ok((0, "a".into())))));
}

#[test]
fn a_deleted_topic_is_gone() {
    let delete = |kafka: &MockCluster| kafka.control(Command::DeleteTopic(ORDERS.into())).expect("it exists");
    let cluster = one_broker().config("auto.create.topics.enable", "false");
    let seen = struck_or_not(cluster, delete, |stage| {
        stage.strike();
        let told = stage.producer(&[]).metadata(Some(ORDERS)).expect("an answer");
        told.topics()[0].error().map(Code::from)
    });
    assert_eq!((seen.with, seen.without), (Some(Code::UnknownTopicOrPartition), None));
}

#[test]
fn added_partitions_can_be_written_to() {
    let seen = struck_or_not(
        one_broker(),
        |kafka| kafka.add_partitions(ORDERS, 3).expect("it has one"),
        |stage| {
            stage.strike();
            persistent(stage).send_to(ORDERS, 2, "a")
        },
    );
    assert_eq!((seen.with, seen.without), (Ok(0), Err(Code::UnknownPartition)));
}

#[test]
fn a_jump_of_the_wall_clock_shows_in_append_times() {
    const DAY_MS: i64 = 24 * 3_600_000;
    let mut topic = TopicConfig::new(ORDERS, 1);
    topic.configs.insert("message.timestamp.type".into(), "LogAppendTime".into());
    let jump = |kafka: &MockCluster| kafka.control(Command::JumpClock { by_ms: DAY_MS }).expect("clocks jump");
    let seen = struck_or_not(MockCluster::builder().topic_with(topic), jump, |stage| {
        let producer = persistent(stage);
        producer.send("a").expect("it is written");
        stage.strike();
        producer.send("b").expect("it is written");
        let reader = stage.reader(ORDERS, 0, &[]);
        let times = [(); 2].map(|()| {
            let message = reader.poll(crate::scene::PATIENCE).expect("a record").expect("no error");
            message.timestamp().to_millis().expect("a time")
        });
        (times[1] - times[0]) / DAY_MS
    });
    assert_eq!((seen.with, seen.without), (1, 0));
}

#[test]
fn a_fenced_idempotent_producer_begins_anew() {
    let fence = |kafka: &MockCluster| {
        let producer = kafka.producers(ORDERS, 0)[0].producer_id;
        kafka.control(Command::BumpProducerEpoch(producer)).expect("it has written");
    };
    let seen = struck_or_not(one_broker(), fence, |stage| {
        let producer = stage.producer(&[("enable.idempotence", "true"), ("retries", "10")]);
        producer.send("a").expect("it is written");
        stage.strike();
        let second = producer.send("b");
        (second, stage.count(Requests::of(ApiKey::Produce)))
    });
    assert_eq!(seen.without, (Ok(1), 2));
    assert_eq!(seen.with, (Err(Code::InvalidProducerEpoch), 2));
}

#[test]
fn a_reset_cluster_is_as_it_was_built() {
    let seen = struck_or_not(
        one_broker(),
        |kafka| kafka.reset().expect("no fault waits"),
        |stage| {
            let producer = persistent(stage);
            producer.send("a").expect("it is written");
            stage.kafka.create_topic("fresh", 1).expect("it is not there");
            stage.strike();
            let second = producer.send("b");
            let topics = producer.metadata(None).expect("an answer");
            let mut topics: Vec<_> = topics.topics().iter().map(|topic| topic.name().to_owned()).collect();
            topics.sort();
            (second, topics)
        },
    );
    assert_eq!(seen.with, (Ok(0), vec![ORDERS.into()]));
    assert_eq!(seen.without, (Ok(1), vec!["fresh".into(), ORDERS.into()]));
}
