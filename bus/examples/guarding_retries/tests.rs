//! One promise of the bus a test, each kept while Kafka does its worst. There is no sleep in here: every wait is for
//! something a broker or the printer has seen.

use crate::shipping::{ParcelPacked, Printer, RETRIES, configuration, packed, service};
use rehearsal_bus::config::KafkaEventBusConfig;
use rehearsal_bus::dlq::ReplayOutcome;
use rehearsal_bus::hooks::Hooks;
use rehearsal_bus::{KafkaEventBus, prelude::*};
use rehearsal_mockbroker::error::ErrorCode;
use rehearsal_mockbroker::fault::{Fault, Requests};
use rehearsal_mockbroker::testing::MockCluster;
use rehearsal_mockbroker::wire::ApiKey;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

const TOPIC: &str = "parcels.stream";
const DLQ: &str = "parcels.stream.dlq";
const GROUP: &str = "shipping";

// ---- order ----

#[tokio::test]
async fn a_jam_keeps_the_parcels_of_its_order_in_order_and_holds_up_no_other_order() {
    let kafka = kafka();
    let mut config = config(&kafka);
    config.retry.max_retries = 1_000;
    // The first parcel of "bad" fails until all of "good" are labelled: if it held them up, it would fail for ever.
    let (printer, labels) = printer(|labels, parcel, _| match (parcel.order_id.as_str(), parcel.parcel) {
        ("bad", 1) if labels.of("good").len() < 3 => Err(HandlerError::retry("jam")),
        _ => Ok(()),
    });
    let bus = start(config, printer).await;

    let parcels = [("bad", 1), ("good", 1), ("bad", 2), ("good", 2), ("bad", 3), ("good", 3)];
    bus.publish(parcels.map(|(order, parcel)| packed(order, parcel)).to_vec()).await.unwrap();

    labels.wait_for_count(6).await;
    assert_eq!(labels.of("good"), [1, 2, 3]);
    assert_eq!(labels.of("bad"), [1, 2, 3]);
    kafka.wait_for().committed(GROUP, TOPIC, 0, 6).await.unwrap();
    assert!(kafka.all_records(DLQ).is_empty());
}

// ---- retries ----

#[tokio::test]
async fn a_parcel_is_tried_as_often_and_as_late_as_configured() {
    let kafka = kafka();
    let attempts = Seen::default();
    let note = attempts.clone();
    let (printer, _) = printer(move |_, _, attempt| {
        note.note((attempt, Instant::now()));
        Err(HandlerError::retry("jam"))
    });
    let bus = start(config(&kafka), printer).await;

    bus.publish(packed("o-1", 1)).await.unwrap();
    kafka.wait_for().records(DLQ, 1).await.unwrap();

    let (numbers, times): (Vec<_>, Vec<_>) = attempts.all().into_iter().unzip();
    assert_eq!(numbers, [1, 2, 3], "one attempt and {} retries", RETRIES.max_retries);
    let waits: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits[0] >= RETRIES.base, "{waits:?}");
    assert!(waits[1] >= RETRIES.max, "doubled, and no more than the longest: {waits:?}");
}

// ---- dead letters ----

#[tokio::test]
async fn a_dead_letter_has_the_bytes_of_its_event_and_says_what_happened() {
    let kafka = kafka();
    let (printer, _) = printer(|_, _, _| Err(HandlerError::retry("jam")));
    let bus = start(config(&kafka), printer).await;

    bus.publish(packed("o-1", 1)).await.unwrap();
    let letter = kafka.wait_for().records(DLQ, 1).await.unwrap().remove(0);

    let event = kafka.records(TOPIC, 0).unwrap().remove(0);
    assert_eq!((letter.key(), letter.value()), (event.key(), event.value()));
    let (own, story) = letter.record.headers.split_at(event.record.headers.len());
    assert_eq!(own, event.record.headers, "its own headers first, as they were");
    assert!(story.iter().all(|(name, _)| name.starts_with(b"dlq_")), "{letter}");
    for (name, value) in [
        ("dlq_reason", "max_retries_exceeded"),
        ("dlq_error_message", "jam"),
        ("dlq_retry_count", "2"),
        ("dlq_original_topic", TOPIC),
        ("dlq_original_partition", "0"),
        ("dlq_original_offset", "0"),
        ("dlq_consumer_group", GROUP),
    ] {
        assert_eq!(letter.header(name), Some(value.as_bytes()), "{name}");
    }
}

#[tokio::test]
async fn nothing_is_committed_past_a_dead_letter_that_is_not_acknowledged() {
    let kafka = kafka();
    let (printer, labels) = printer(|_, parcel, _| match parcel.order_id.as_str() {
        "bad" => Err(HandlerError::fatal("no such address")),
        _ => Ok(()),
    });
    let bus = start(config(&kafka), printer).await;
    let held = kafka.plan(Fault::on(ApiKey::Produce).topic(DLQ).hold()).unwrap();

    bus.publish([packed("good", 1), packed("bad", 1), packed("good", 2)]).await.unwrap();
    kafka.wait_for().held(&held).await.unwrap();
    labels.wait_for_count(2).await;
    kafka.wait_for().committed(GROUP, TOPIC, 0, 1).await.unwrap();

    // Heartbeats are five times as slow as commits: after three more, whatever could be committed would have been.
    heartbeats(&kafka, 3).await;
    assert_eq!(kafka.committed(GROUP, TOPIC, 0), Some(1), "what comes before the letter, and nothing else");
    assert!(kafka.all_records(DLQ).is_empty());

    held.release();
    kafka.wait_for().committed(GROUP, TOPIC, 0, 3).await.unwrap();
    assert_eq!(kafka.all_records(DLQ).len(), 1);
}

#[tokio::test]
async fn a_dead_letter_topic_without_a_leader_for_a_while_loses_nothing() {
    refused_letters_are_written_later(ErrorCode::NotLeaderOrFollower).await;
}

/// The client gives up at once on this one: it is the bus that tries again.
#[tokio::test]
async fn a_dead_letter_topic_we_may_not_write_to_for_a_while_loses_nothing() {
    refused_letters_are_written_later(ErrorCode::TopicAuthorizationFailed).await;
}

async fn refused_letters_are_written_later(why: ErrorCode) {
    let kafka = kafka();
    let (printer, labels) = printer(|_, parcel, _| match parcel.parcel {
        1 => Err(HandlerError::fatal("no such address")),
        _ => Ok(()),
    });
    let bus = start(config(&kafka), printer).await;
    let refused = kafka.plan(Fault::on(ApiKey::Produce).topic(DLQ).error(why).times(3)).unwrap();

    bus.publish([packed("o-1", 1), packed("o-1", 2)]).await.unwrap();
    kafka.wait_for().committed(GROUP, TOPIC, 0, 2).await.unwrap();

    assert_eq!(refused.hits(), 3);
    assert_eq!(kafka.all_records(DLQ).len(), 1, "one letter, and one only");
    assert_eq!(labels.of("o-1"), [2]);
}

#[tokio::test]
async fn a_dead_letter_is_replayed_once_and_handled_once() {
    let kafka = kafka();
    let (printer, labels) = printer(|labels, parcel, _| match parcel.parcel {
        1 if labels.of("o-1").is_empty() => Err(HandlerError::fatal("no such address")),
        _ => Ok(()),
    });
    let bus = start(config(&kafka), printer).await;
    bus.publish([packed("o-1", 1), packed("o-1", 2)]).await.unwrap();
    // The second parcel's label stands for: the address is known by now.
    kafka.wait_for().committed(GROUP, TOPIC, 0, 2).await.unwrap();

    let letters = bus.get_dlq_messages(10).await.unwrap();
    let (partition, offset) = (letters[0].partition, letters[0].offset);
    assert!(bus.replay_dlq_message(partition, offset).await.unwrap().is_replayed());
    assert_eq!(bus.replay_dlq_message(partition, offset).await.unwrap(), ReplayOutcome::AlreadyReplayed);
    assert_eq!(bus.get_dlq_message_count().await.unwrap(), 0);

    // Behind the replay in the same partition: when it is done, so is every replay there could have been.
    bus.publish(packed("o-1", 3)).await.unwrap();
    kafka.wait_for().committed(GROUP, TOPIC, 0, 4).await.unwrap();
    assert_eq!(labels.of("o-1"), [2, 1, 3]);
}

// ---- writes whose answer is lost ----

#[tokio::test]
async fn a_broker_that_dies_between_write_and_answer_has_the_event_once() {
    let kafka = kafka();
    let (printer, labels) = printer(|_, _, _| Ok(()));
    let bus = start(config(&kafka), printer).await;
    let cut = kafka.plan(Fault::on(ApiKey::Produce).topic(TOPIC).disconnect_after_effect()).unwrap();

    bus.publish(packed("o-1", 1)).await.unwrap();
    bus.publish(packed("o-1", 2)).await.unwrap();

    kafka.wait_for().committed(GROUP, TOPIC, 0, 2).await.unwrap();
    assert_eq!((cut.hits(), kafka.records(TOPIC, 0).unwrap().len()), (1, 2));
    assert_eq!(labels.of("o-1"), [1, 2]);
}

/// Why idempotence is on by default: the same fault without it.
#[tokio::test]
async fn without_idempotence_such_an_event_is_there_twice() {
    let kafka = kafka();
    let (printer, labels) = printer(|_, _, _| Ok(()));
    let mut config = config(&kafka);
    config.enable_idempotence = false;
    let bus = start(config, printer).await;
    kafka.plan(Fault::on(ApiKey::Produce).topic(TOPIC).disconnect_after_effect()).unwrap();

    bus.publish(packed("o-1", 1)).await.unwrap();

    kafka.wait_for().committed(GROUP, TOPIC, 0, 2).await.unwrap();
    assert_eq!(labels.of("o-1"), [1, 1]);
}

#[tokio::test]
async fn a_dead_letter_whose_acknowledgement_is_lost_is_there_once() {
    let kafka = kafka();
    let (printer, _) = printer(|_, _, _| Err(HandlerError::fatal("no such address")));
    let bus = start(config(&kafka), printer).await;
    let cut = kafka.plan(Fault::on(ApiKey::Produce).topic(DLQ).disconnect_after_effect()).unwrap();

    bus.publish(packed("o-1", 1)).await.unwrap();

    kafka.wait_for().committed(GROUP, TOPIC, 0, 1).await.unwrap();
    assert_eq!((cut.hits(), kafka.all_records(DLQ).len()), (1, 1));
}

// ---- commits that are lost ----

#[tokio::test]
async fn what_could_not_be_committed_is_delivered_again_to_whoever_comes_next() {
    let kafka = kafka();
    let (printer, labels) = printer(|_, _, _| Ok(()));
    let bus = start(config(&kafka), printer.clone()).await;
    let commit = || Fault::on(ApiKey::OffsetCommit).group(GROUP);
    let refused = kafka.plan(commit().error(ErrorCode::TopicAuthorizationFailed).always()).unwrap();

    bus.publish([packed("o-1", 1), packed("o-1", 2)]).await.unwrap();
    labels.wait_for_count(2).await;
    kafka.wait_for().hits(&refused, 1).await.unwrap();
    // Killed: it leaves as it is.
    let _ = bus.shutdown(Duration::ZERO).await;
    assert_eq!(kafka.committed(GROUP, TOPIC, 0), None);
    refused.remove();

    let next = start(config(&kafka), printer).await;
    kafka.wait_for().committed(GROUP, TOPIC, 0, 2).await.unwrap();
    assert_eq!(labels.of("o-1"), [1, 2, 1, 2], "again, in order, and none is missing");
    next.shutdown(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test]
async fn a_commit_whose_coordinator_moves_meanwhile_arrives_at_the_next_one() {
    let kafka = kafka();
    let (printer, labels) = printer(|_, _, _| Ok(()));
    let bus = start(config(&kafka), printer).await;
    let held = kafka.plan(Fault::on(ApiKey::OffsetCommit).group(GROUP).hold()).unwrap();

    bus.publish([packed("o-1", 1), packed("o-1", 2)]).await.unwrap();
    let commit = kafka.wait_for().request(Requests::of(ApiKey::OffsetCommit).group(GROUP)).await.unwrap();
    kafka.wait_for().held(&held).await.unwrap();
    let elsewhere = commit.node.0 % 3 + 1;
    kafka.move_coordinator(GROUP, elsewhere).unwrap();
    held.release();

    kafka.wait_for().committed(GROUP, TOPIC, 0, 2).await.unwrap();
    bus.publish(packed("o-1", 3)).await.unwrap();
    kafka.wait_for().committed(GROUP, TOPIC, 0, 3).await.unwrap();
    assert_eq!(labels.of("o-1"), [1, 2, 3]);
    let commits = kafka.requests(Requests::of(ApiKey::OffsetCommit).group(GROUP).broker(elsewhere));
    assert!(!commits.is_empty(), "it was committed at the new coordinator");
}

// ---- rebalances in the middle of a handler ----

#[tokio::test]
async fn a_rebalance_in_the_middle_of_a_handler_neither_loses_nor_repeats_nor_reorders() {
    let kafka = kafka();
    let gate = Gate::default();
    let bus = start(config(&kafka), gate.clone()).await;
    bus.publish([packed("o-1", 1), packed("o-1", 2), packed("o-1", 3)]).await.unwrap();
    gate.begun.wait_for_count(1).await;

    let generation = kafka.group(GROUP).unwrap().generation;
    kafka.rebalance(GROUP).unwrap();
    kafka
        .wait_for()
        .until("the group to be stable again", move |cluster| {
            let group = cluster.group(GROUP)?;
            (group.generation > generation && !group.members[0].assignment.is_empty()).then_some(())
        })
        .await
        .unwrap();
    assert_eq!(gate.begun.of("o-1"), [1], "the handler is in the middle of it still");
    gate.open.send_replace(true);

    kafka.wait_for().committed(GROUP, TOPIC, 0, 3).await.unwrap();
    assert_eq!(gate.begun.of("o-1"), [1, 2, 3]);
    assert_eq!(gate.done.of("o-1"), [1, 2, 3]);
}

#[tokio::test]
async fn a_second_worker_takes_over_only_what_the_first_has_finished() {
    const ORDERS: usize = 10;
    let kafka = kafka();
    let mut config = config(&kafka);
    config.topic_partitions = Some(2);
    let gate = Gate::default();
    let first = service(config.clone(), gate.clone(), Hooks::none()).await.unwrap();
    let orders: Vec<_> = (0..ORDERS).map(|order| format!("o-{order}")).collect();
    let parcels = [1, 2, 3].map(|parcel| orders.iter().map(move |order| packed(order, parcel)));
    first.publish(parcels.into_iter().flatten().collect::<Vec<_>>()).await.unwrap();
    let mut consuming = first.start_consuming_in_background().unwrap();
    assert_eq!(consuming.assigned().await, 2);
    gate.begun.wait_for_count(ORDERS).await;

    // It has to give one of its partitions away, and is in the middle of handlers on both.
    let generation = kafka.group(GROUP).unwrap().generation;
    config.consumer_name = "shipping-2".into();
    let second = service(config, gate.clone(), Hooks::none()).await.unwrap();
    second.start_consuming_in_background().unwrap();
    kafka
        .wait_for()
        .until("the group to decide who has what", move |cluster| {
            let group = cluster.group(GROUP)?;
            (group.generation > generation && group.members.iter().all(|member| !member.assignment.is_empty()))
                .then_some(())
        })
        .await
        .unwrap();
    // By its second heartbeat from now the first has long heard of it.
    heartbeats(&kafka, 2).await;
    gate.open.send_replace(true);
    gate.done.wait_for_count(3 * ORDERS).await;

    kafka.wait_for().stable(GROUP, 2).await.unwrap();
    first.publish(orders.iter().map(|order| packed(order, 4)).collect::<Vec<_>>()).await.unwrap();
    for partition in [0, 1] {
        let end = kafka.records(TOPIC, partition).unwrap().len() as i64;
        kafka.wait_for().committed(GROUP, TOPIC, partition, end).await.unwrap();
    }
    for order in &orders {
        assert_eq!(gate.begun.of(order), [1, 2, 3, 4], "{order}: nothing was cut off and begun again");
        assert_eq!(gate.done.of(order), [1, 2, 3, 4], "{order}");
    }
    assert_ne!(second.stats().events_consumed, 0, "the second worker has its share");
}

#[tokio::test]
async fn a_worker_declared_dead_in_the_middle_of_a_handler_commits_nothing_it_may_not_and_its_parcels_come_again() {
    let kafka = kafka();
    let gate = Gate::default();
    let bus = start(config(&kafka), gate.clone()).await;
    bus.publish([packed("o-1", 1), packed("o-1", 2)]).await.unwrap();
    gate.begun.wait_for_count(1).await;

    kafka.expire_member(GROUP, "shipping-1").unwrap();
    // It learns of it by its next heartbeat, joins again, and is given the parcel once more.
    gate.begun.wait_for_count(2).await;
    assert_eq!(kafka.committed(GROUP, TOPIC, 0), None);
    gate.open.send_replace(true);

    kafka.wait_for().committed(GROUP, TOPIC, 0, 2).await.unwrap();
    assert_eq!(gate.begun.of("o-1"), [1, 1, 2]);
    assert_eq!(gate.done.of("o-1"), [1, 2], "what was begun before is cut off, not finished twice");
}

// ---- what the tests hold in their hands ----

fn kafka() -> MockCluster {
    MockCluster::builder().brokers(3).start().expect("three free ports")
}

fn config(kafka: &MockCluster) -> KafkaEventBusConfig {
    configuration(kafka.bootstrap_servers()).expect("a valid configuration")
}

/// The service, consuming, once the group has given it its partition.
async fn start(config: KafkaEventBusConfig, printer: impl Printer) -> KafkaEventBus {
    let bus = service(config, printer, Hooks::none()).await.expect("the brokers answer");
    let mut consuming = bus.start_consuming_in_background().expect("it is connected");
    assert_eq!(consuming.assigned().await, 1);
    bus
}

/// Waits for so many more heartbeats of the group.
async fn heartbeats(kafka: &MockCluster, more: usize) {
    let heartbeats = || Requests::of(ApiKey::Heartbeat).group(GROUP);
    let before = kafka.requests(heartbeats()).len();
    kafka.wait_for().requests(heartbeats(), before + more).await.unwrap();
}

/// What was seen, in order. Cloning shares it.
#[derive(Clone)]
struct Seen<T>(Arc<watch::Sender<Vec<T>>>);

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Vec::new())))
    }
}

impl<T: Clone> Seen<T> {
    fn note(&self, what: T) {
        self.0.send_modify(|seen| seen.push(what));
    }

    fn all(&self) -> Vec<T> {
        self.0.borrow().clone()
    }

    async fn wait_for_count(&self, count: usize) {
        let mut seen = self.0.subscribe();
        let reached = seen.wait_for(|seen| seen.len() >= count);
        let reached = tokio::time::timeout(Duration::from_secs(10), reached).await;
        assert!(reached.is_ok(), "{count} expected, {} seen", self.0.borrow().len());
    }
}

/// The labels printed so far.
type Labels = Seen<ParcelPacked>;

impl Labels {
    fn of(&self, order_id: &str) -> Vec<u32> {
        self.all().iter().filter(|label| label.order_id == order_id).map(|label| label.parcel).collect()
    }
}

/// Prints what `may` lets it.
struct TestPrinter<F> {
    labels: Labels,
    may: Arc<F>,
}

impl<F> Clone for TestPrinter<F> {
    fn clone(&self) -> Self {
        Self { labels: self.labels.clone(), may: self.may.clone() }
    }
}

fn printer<F>(may: F) -> (TestPrinter<F>, Labels)
where
    F: Fn(&Labels, &ParcelPacked, u32) -> Handled + Send + Sync + 'static,
{
    let labels = Labels::default();
    (TestPrinter { labels: labels.clone(), may: Arc::new(may) }, labels)
}

impl<F> Printer for TestPrinter<F>
where
    F: Fn(&Labels, &ParcelPacked, u32) -> Handled + Send + Sync + 'static,
{
    async fn print(&self, parcel: &ParcelPacked, attempt: u32) -> Handled {
        (self.may)(&self.labels, parcel, attempt)?;
        self.labels.note(parcel.clone());
        Ok(())
    }
}

/// Stays in the middle of a label until it is told to go on.
#[derive(Clone, Default)]
struct Gate {
    begun: Labels,
    done: Labels,
    open: Arc<watch::Sender<bool>>,
}

impl Printer for Gate {
    async fn print(&self, parcel: &ParcelPacked, _attempt: u32) -> Handled {
        self.begun.note(parcel.clone());
        let mut open = self.open.subscribe();
        open.wait_for(|open| *open).await?;
        self.done.note(parcel.clone());
        Ok(())
    }
}
