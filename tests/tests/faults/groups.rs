//! Groups whose coordinator moves, whose members expire and whose offsets are forgotten.

use crate::scene::{ORDERS, PATIENCE, Stage, code, one_broker, struck_or_not};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rehearsal_mockbroker::control::Command;
use rehearsal_mockbroker::fault::Requests;
use rehearsal_mockbroker::testing::MockCluster;
use rehearsal_mockbroker::wire::ApiKey;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

const GROUP: &str = "billing";

/// A member of [`GROUP`] that reads all the time, as services do.
struct Member {
    values: Receiver<String>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Member {
    fn join(stage: &Stage<'_>, settings: &[(&str, &str)]) -> Self {
        let usual = [
            ("group.id", GROUP),
            ("auto.offset.reset", "earliest"),
            ("heartbeat.interval.ms", "50"),
            ("client.id", "ann"),
        ];
        let consumer: BaseConsumer = stage.consumer(&[&usual, settings].concat());
        consumer.subscribe(&[ORDERS]).expect("a topic's name");
        let (sender, values) = channel();
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                if let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) {
                    let _ = sender.send(String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned());
                }
            }
        });
        Self { values, over, thread: Some(thread) }
    }

    fn read(&self) -> String {
        self.values.recv_timeout(PATIENCE).expect("a record")
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it reports its own panic
        }
    }
}

/// The group's generation when a member has been in it, then something happened, and it has been heard of since.
fn generation_after(stage: &Stage<'_>) -> i32 {
    let _member = Member::join(stage, &[]);
    stable(stage);
    stage.strike();
    for _ in 0..2 {
        // The first beat may tell it to join again.
        let beats = stage.count(Requests::of(ApiKey::Heartbeat));
        stage.wait_for_requests(Requests::of(ApiKey::Heartbeat), beats + 2);
    }
    stable(stage)
}

fn stable(stage: &Stage<'_>) -> i32 {
    stage.kafka.wait_up_to(PATIENCE).stable(GROUP, 1).blocking().expect("a stable group").generation
}

#[test]
fn an_expired_member_joins_again() {
    let expire = |kafka: &MockCluster| kafka.expire_member(GROUP, "ann").expect("it is there");
    let seen = struck_or_not(one_broker(), expire, generation_after);
    assert_eq!(seen.without, 1);
    assert!(seen.with > 1, "{seen:?}");
}

#[test]
fn a_forced_rebalance_makes_members_join_again() {
    let rebalance = |kafka: &MockCluster| kafka.rebalance(GROUP).expect("it is there");
    let seen = struck_or_not(one_broker(), rebalance, generation_after);
    assert_eq!((seen.with, seen.without), (2, 1));
}

#[test]
fn a_session_ends_when_its_time_has_passed() {
    let pass = |kafka: &MockCluster| kafka.advance(Duration::from_secs(60));
    let seen = struck_or_not(one_broker(), pass, generation_after);
    assert_eq!(seen.without, 1);
    assert!(seen.with > 1, "{seen:?}");
}

fn offsets(offset: i64) -> TopicPartitionList {
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(ORDERS, 0, Offset::Offset(offset)).expect("an offset");
    offsets
}

#[test]
fn commits_go_to_the_new_coordinator() {
    let coordinator = |kafka: &MockCluster| {
        let view = kafka.view();
        let topic = view.topic("__consumer_offsets").expect("it is used");
        topic.partitions[0].leader.expect("one leads").0
    };
    let moved = |kafka: &MockCluster| kafka.move_coordinator(GROUP, 3 - coordinator(kafka)).expect("it is in sync");
    let cluster = crate::scene::two_brokers().config("offsets.topic.num.partitions", "1");
    let seen = struck_or_not(cluster, moved, |stage| {
        let consumer = stage.consumer(&[("group.id", GROUP)]);
        consumer.commit(&offsets(1), CommitMode::Sync).expect("it is committed");
        let before = stage.last_asked(ApiKey::OffsetCommit);
        stage.strike();
        // A commit that met the old coordinator may be told so; the next one goes to the new.
        while consumer.commit(&offsets(2), CommitMode::Sync).is_err() {}
        (stage.kafka.committed(GROUP, ORDERS, 0), stage.last_asked(ApiKey::OffsetCommit) == before)
    });
    assert_eq!((seen.with, seen.without), ((Some(2), false), (Some(2), true)));
}

#[test]
fn a_group_whose_offsets_expired_begins_anew() {
    let expire = |kafka: &MockCluster| {
        kafka.control(Command::ExpireOffsets { group: GROUP.into() }).expect("it has some");
    };
    let seen = struck_or_not(one_broker(), expire, |stage| {
        let producer = stage.producer(&[]);
        for value in ["a", "b"] {
            producer.send(value).expect("it is written");
        }
        let consumer = stage.consumer(&[("group.id", GROUP)]);
        consumer.commit(&offsets(1), CommitMode::Sync).expect("it is committed");
        stage.strike();
        let told = consumer.committed_offsets(offsets(0), PATIENCE).map_err(|error| code(&error));
        let told = told.expect("an answer").elements()[0].offset();
        (told, Member::join(stage, &[]).read())
    });
    assert_eq!((seen.with, seen.without), ((Offset::Invalid, "a".into()), (Offset::Offset(1), "b".into())));
}
