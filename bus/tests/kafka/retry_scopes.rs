//! What waits while an event is retried: its key (see `delivery`), its partition, or nothing.

use crate::support::{Kafka, Paid, Seen, connected, consume, kafka, not_run, paid, until};
use rehearsal_bus::config::KafkaEventBusConfig;
use rehearsal_bus::prelude::*;
use rehearsal_bus::{KafkaEventBus, RetryScope};
use rehearsal_mockbroker::fault::Fault;
use rehearsal_mockbroker::wire::ApiKey;
use std::time::Duration;

/// A bus in whose group events of number 0 fail as often as told; it notes numbers and attempts.
async fn failing(config: KafkaEventBusConfig, times: u32) -> (KafkaEventBus, Seen<(u32, u32)>) {
    let (bus, seen) = (connected(config).await, Seen::default());
    let note = seen.clone();
    bus.subscribe(move |event: Event<Paid>, cx: Ctx| {
        note.note((event.number, cx.attempt()));
        if event.number == 0 && cx.attempt() <= times { Err(HandlerError::retry("not yet")) } else { Ok(()) }
    })
    .unwrap();
    (bus, seen)
}

fn config(kafka: &Kafka, scope: RetryScope) -> KafkaEventBusConfig {
    let mut config = kafka.config("g");
    config.topic_partitions = Some(1);
    config.retry = config.retry.scope(scope).jitter(0.0);
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn by_partition_everything_behind_a_failing_event_waits_for_it() {
    let kafka = kafka();
    let (bus, seen) = failing(config(&kafka, RetryScope::Partition), 2).await;
    bus.publish([paid("bad", 0), paid("good", 1), paid("bad", 2), paid("other", 3)]).await.unwrap();
    consume(&bus).await;
    assert_eq!(seen.count(6).await, [(0, 1), (0, 2), (0, 3), (1, 1), (2, 1), (3, 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn by_topic_nothing_waits_for_a_failing_event_and_only_its_handler_and_group_see_it_again() {
    let kafka = kafka();
    let mut config = config(&kafka, RetryScope::Topic);
    // Longer than the rest takes.
    config.retry.base = Duration::from_millis(400);
    let (bus, seen) = failing(config, 2).await;
    let content = Seen::default();
    let note = content.clone();
    bus.subscribe(move |event: Event<Paid>| note.note(event.number)).unwrap();
    let (other, others) = failing(kafka.config("other"), 0).await;
    bus.publish([paid("a", 0), paid("a", 1), paid("a", 2)]).await.unwrap();
    consume(&other).await;
    consume(&bus).await;
    assert_eq!(seen.count(5).await, [(0, 1), (1, 1), (2, 1), (0, 2), (0, 3)]);
    assert_eq!(content.all(), [0, 1, 2]);
    until("success", || bus.stats().events_processed_success == 3).await;
    assert_eq!((bus.stats().messages_sent_to_dlq, others.all()), (0, vec![(0, 1), (1, 1), (2, 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_in_every_retry_topic_becomes_a_dead_letter_of_the_main_one() {
    let kafka = kafka();
    let mut config = config(&kafka, RetryScope::Topic);
    config.retry.max_retries = 2;
    let (bus, seen) = failing(config, u32::MAX).await;
    bus.publish([paid("a", 1), paid("a", 0)]).await.unwrap();
    consume(&bus).await;
    seen.count(4).await;
    until("dead letter", || bus.stats().messages_sent_to_dlq == 1).await;
    let letters = bus.get_dlq_messages(10).await.unwrap();
    let [letter] = &letters[..] else { panic!("one letter expected: {letters:?}") };
    assert_eq!((letter.original_topic(), letter.original_offset()), (Some(&*kafka.topic()), Some(1)));
    assert_eq!((letter.retry_count(), letter.reason()), (2, "max_retries_exceeded"));
    assert!(letter.first_failure_at() < letter.last_failure_at());
    assert_eq!((letter.header("bus-retry"), letter.header("retry_after")), (None, None));
    assert_eq!(letter.header("event_type"), Some("Paid"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_in_a_retry_topic_survives_the_member_that_put_it_there() {
    let kafka = kafka();
    let mut config = config(&kafka, RetryScope::Topic);
    config.retry.base = Duration::from_millis(500);
    let (one, seen) = failing(config.clone(), 1).await;
    consume(&one).await;
    one.publish([paid("a", 0), paid("a", 1)]).await.unwrap();
    assert_eq!(seen.count(2).await, [(0, 1), (1, 1)]);
    until("success", || one.stats().events_processed_success == 1).await;
    one.shutdown(Duration::from_secs(10)).await.unwrap();

    let (two, seen) = failing(config, 1).await;
    consume(&two).await;
    assert_eq!(seen.count(1).await, [(0, 2)]);
    until("success", || two.stats().events_processed_success == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_committed_past_an_event_that_its_retry_topic_has_not_acknowledged() {
    let kafka = kafka();
    let Some(cluster) = kafka.cluster() else { return not_run("only our own brokers hold a request back") };
    let config = config(&kafka, RetryScope::Topic);
    let tier = format!("{}.{}.retry.1", kafka.topic(), config.consumer_group);
    let (bus, seen) = failing(config.clone(), 1).await;
    let held = cluster.plan(Fault::on(ApiKey::Produce).topic(&tier).hold()).unwrap();
    consume(&bus).await;
    bus.publish([paid("b", 1), paid("a", 0), paid("b", 2)]).await.unwrap();
    cluster.wait_for().held(&held).await.unwrap();
    seen.count(3).await;
    cluster.wait_for().committed(&config.consumer_group, &kafka.topic(), 0, 1).await.unwrap();
    until("success", || bus.stats().events_processed_success == 2).await;
    assert_eq!(kafka.committed(&config, 0), Some(1));
    held.release();
    cluster.wait_for().committed(&config.consumer_group, &kafka.topic(), 0, 3).await.unwrap();
    assert_eq!(seen.count(4).await.last(), Some(&(0, 2)));
}
