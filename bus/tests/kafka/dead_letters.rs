//! Events that are given up: where they are kept, what they say, how they come back.

use crate::support::{Kafka, Paid, Seen, connected, consume, kafka, paid, until};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rehearsal_bus::dlq::{EvictOutcome, Replay, ReplayOutcome};
use rehearsal_bus::engine::FloodBreaker;
use rehearsal_bus::hooks::{Hooks, Step};
use rehearsal_bus::prelude::*;
use rehearsal_bus::{HealthStatus, KafkaEventBus};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A group whose handler fails for good, until told otherwise.
async fn failing(kafka: &Kafka, group: &str) -> (KafkaEventBus, Arc<AtomicBool>, Seen<(u32, u32)>) {
    let mut config = kafka.config(group);
    config.retry.max_retries = 2;
    let bus = connected(config).await;
    let (broken, seen) = (Arc::new(AtomicBool::new(true)), Seen::default());
    let (is_broken, note) = (broken.clone(), seen.clone());
    bus.subscribe(move |event: Event<Paid>, cx: Ctx| {
        note.note((event.number, cx.attempt()));
        if is_broken.load(Ordering::SeqCst) { Err(HandlerError::retry("the bank is closed")) } else { Ok(()) }
    })
    .unwrap();
    (bus, broken, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_keeps_failing_becomes_a_dead_letter_that_tells_its_story() {
    let kafka = kafka();
    let (bus, _, seen) = failing(&kafka, "bank").await;
    consume(&bus).await;
    let event = Event::new(paid("a", 1));
    bus.publish(event.clone()).await.unwrap();

    assert_eq!(seen.count(3).await, [(1, 1), (1, 2), (1, 3)]);
    until("dead letter", || bus.stats().messages_sent_to_dlq == 1).await;
    let letters = bus.get_dlq_messages(10).await.unwrap();
    let [letter] = &letters[..] else { panic!("one letter expected: {letters:?}") };
    assert_eq!((letter.event_type(), letter.error(), letter.retry_count()), (Some("Paid"), "the bank is closed", 2));
    assert_eq!((letter.reason(), letter.header("dlq_disposition")), ("max_retries_exceeded", Some("exhausted")));
    assert_eq!(
        (letter.consumer_group(), letter.original_topic()),
        (Some(&*kafka.group("bank")), Some(&*kafka.topic()))
    );
    assert_eq!(letter.original_partition(), Some(letter.partition), "the letter lies where its key lies");
    assert_eq!((letter.original_offset(), letter.replay_count()), (Some(0), 0));
    assert!(letter.first_failure_at() < letter.last_failure_at());
    assert_eq!(letter.handlers().count(), 1);
    assert_eq!(letter.key.as_deref(), Some(&b"a"[..]));
    assert_eq!(letter.header("event_id"), Some(&*event.event_id().to_string()));
    assert_eq!(letter.value.as_deref(), Some(&event.into_any().to_json().unwrap()[..]));
    let stats = bus.stats();
    assert_eq!((stats.events_consumed, stats.events_processed_failed, stats.handler_errors), (1, 1, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_is_replayed_once_and_only_to_the_group_that_gave_it_up() {
    let kafka = kafka();
    let (bus, broken, seen) = failing(&kafka, "bank").await;
    let other = kafka.bus("audit").await;
    let audited = Seen::default();
    let note = audited.clone();
    other.subscribe(move |event: Event<Paid>| note.note(event.number)).unwrap();
    consume(&bus).await;
    consume(&other).await;
    bus.publish([paid("a", 1), paid("b", 2)]).await.unwrap();
    until("dead letters", || bus.stats().messages_sent_to_dlq == 2).await;
    assert_eq!(bus.get_dlq_message_count().await.unwrap(), 2);
    assert_eq!(bus.get_dlq_messages(1).await.unwrap().len(), 1);
    assert_eq!(bus.get_dlq_messages(0).await.unwrap(), []);

    let letters = bus.get_dlq_messages(10).await.unwrap();
    let letter = letters.iter().find(|letter| letter.key.as_deref() == Some(b"a")).unwrap();
    broken.store(false, Ordering::SeqCst);
    let before = seen.all().len();
    assert!(bus.replay_dlq_message(letter.partition, letter.offset).await.unwrap().is_replayed());
    assert_eq!(seen.count(before + 1).await.last(), Some(&(1, 1)));

    assert_eq!(bus.replay_dlq_message(letter.partition, letter.offset).await.unwrap(), ReplayOutcome::AlreadyReplayed);
    assert_eq!(bus.replay_dlq_message(letter.partition, 999).await.unwrap(), ReplayOutcome::NotFound);
    assert_eq!(bus.replay_dlq_message(999, 0).await.unwrap(), ReplayOutcome::NotFound);
    assert_eq!(bus.get_dlq_message_count().await.unwrap(), 1);
    let left = bus.get_dlq_messages(10).await.unwrap();
    assert_eq!(left.iter().map(|letter| letter.key.as_deref()).collect::<Vec<_>>(), [Some(&b"b"[..])]);

    // The other group passes over the replay.
    until("skip", || other.events_skipped() == 1).await;
    let mut audited = audited.all();
    audited.sort_unstable();
    assert_eq!(audited, [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_comes_back_every_time_must_be_forced() {
    let kafka = kafka();
    let (bus, _, _) = failing(&kafka, "bank").await;
    consume(&bus).await;
    bus.publish(paid("a", 1)).await.unwrap();
    for round in 0..3 {
        until("dead letter", || bus.stats().messages_sent_to_dlq == round + 1).await;
        let letters = bus.get_dlq_messages(10).await.unwrap();
        assert_eq!((letters.len(), u64::from(letters[0].replay_count())), (1, round));
        assert!(bus.replay_dlq_message(letters[0].partition, letters[0].offset).await.unwrap().is_replayed());
    }
    until("dead letter", || bus.stats().messages_sent_to_dlq == 4).await;
    let letter = &bus.get_dlq_messages(10).await.unwrap()[0];
    let (partition, offset) = (letter.partition, letter.offset);
    assert_eq!(bus.replay_dlq_message(partition, offset).await.unwrap(), ReplayOutcome::TooOften { replays: 3 });
    assert!(bus.force_replay_dlq_message(partition, offset).await.unwrap().is_replayed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evicted_letter_is_resolved_and_says_why() {
    let kafka = kafka();
    let (bus, _, _) = failing(&kafka, "bank").await;
    consume(&bus).await;
    bus.publish(paid("a", 1)).await.unwrap();
    until("dead letter", || bus.stats().messages_sent_to_dlq == 1).await;
    let letter = &bus.get_dlq_messages(1).await.unwrap()[0];
    let (partition, offset) = (letter.partition, letter.offset);

    assert_eq!(bus.evict_dlq_message(partition, offset, "a test payment").await.unwrap(), EvictOutcome::Evicted);

    assert_eq!(bus.get_dlq_message_count().await.unwrap(), 0);
    assert_eq!(bus.get_dlq_messages(10).await.unwrap(), []);
    let again = bus.evict_dlq_message(partition, offset, "a test payment").await.unwrap();
    assert_eq!(again, EvictOutcome::AlreadyResolved);
    assert_eq!(bus.replay_dlq_message(partition, offset).await.unwrap(), ReplayOutcome::AlreadyReplayed);
    assert_eq!(bus.evict_dlq_message(partition, 999, "nothing").await.unwrap(), EvictOutcome::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_can_be_replayed_with_another_value_and_for_every_group() {
    let kafka = kafka();
    let (bus, broken, seen) = failing(&kafka, "bank").await;
    let other = kafka.bus("audit").await;
    let audited = Seen::default();
    let note = audited.clone();
    other.subscribe(move |event: Event<Paid>| note.note(event.number)).unwrap();
    consume(&bus).await;
    consume(&other).await;
    bus.publish(paid("a", 1)).await.unwrap();
    until("dead letter", || bus.stats().messages_sent_to_dlq == 1).await;
    let letter = &bus.get_dlq_messages(1).await.unwrap()[0];
    let value = String::from_utf8(letter.value.as_deref().unwrap().to_vec()).unwrap();
    let repaired = value.replace("\"number\":1", "\"number\":10");
    assert_ne!(value, repaired);
    broken.store(false, Ordering::SeqCst);

    let replay = Replay::of(letter.partition, letter.offset).with_value(repaired).to_every_group();
    assert!(bus.replay(replay).await.unwrap().is_replayed());

    assert_eq!(seen.count(4).await.last(), Some(&(10, 1)));
    assert_eq!(audited.count(2).await, [1, 10]);
    assert_eq!(other.events_skipped(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_nobody_can_read_are_kept_as_they_are() {
    let kafka = kafka();
    let bus = kafka.bus("g").await;
    let seen = Seen::default();
    let note = seen.clone();
    bus.subscribe(move |event: Event<Paid>| note.note(event.number)).unwrap();
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).create().unwrap();
    let garbage = [0xff, 0x00, b'{', 0xfe];
    let typed = OwnedHeaders::new()
        .insert(Header { key: "event_type", value: Some("Paid") })
        .insert(Header { key: "empty", value: None::<&str> });
    let topic = kafka.topic();
    let send = |record| async { producer.send(record, Duration::from_secs(10)).await.map(drop).unwrap() };
    send(FutureRecord::to(&topic).partition(0).key("k").payload(&garbage[..]).headers(typed.clone())).await;
    send(FutureRecord::to(&topic).partition(0).key("k").payload(&garbage[..])).await;
    let mut tombstone: FutureRecord<'_, str, [u8]> = FutureRecord::to(&topic).partition(0).key("k").headers(typed);
    tombstone.payload = None;
    send(tombstone).await;
    bus.publish(paid("fine", 7)).await.unwrap();
    consume(&bus).await;

    seen.count(1).await;
    until("dead letters", || bus.stats().messages_sent_to_dlq == 3).await;
    let letters = bus.get_dlq_messages(10).await.unwrap();
    let told: Vec<_> =
        letters.iter().map(|letter| (letter.error_type(), letter.header("dlq_disposition").unwrap())).collect();
    assert_eq!(told, [("Undecodable", "poison"), ("MissingEventType", "poison"), ("MissingValue", "poison")]);
    assert_eq!(letters[0].value.as_deref(), Some(&garbage[..]));
    assert_eq!(letters[0].headers.iter().find(|header| header.name == "empty").unwrap().value, None);
    assert_eq!((letters[1].value.as_deref(), letters[2].value.as_deref()), (Some(&garbage[..]), None));
    assert_eq!((letters[0].partition, letters[0].key.as_deref()), (0, Some(&b"k"[..])));
    assert_eq!(seen.all(), [7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fatal_error_is_not_tried_again_and_without_a_dead_letter_topic_it_is_dropped_and_counted() {
    let kafka = kafka();
    let mut config = kafka.config("g");
    config.enable_dlq = false;
    let bus = connected(config).await;
    let seen = Seen::default();
    let note = seen.clone();
    bus.subscribe(move |event: Event<Paid>| {
        note.note(event.number);
        if event.number == 1 { Err(HandlerError::fatal("no such account")) } else { Ok(()) }
    })
    .unwrap();
    consume(&bus).await;
    bus.publish([paid("a", 1), paid("a", 2)]).await.unwrap();
    assert_eq!(seen.count(2).await, [1, 2]);
    until("count", || bus.stats().events_processed_success == 1).await;
    assert_eq!((bus.stats().events_processed_failed, bus.stats().messages_sent_to_dlq), (1, 0));
    assert_eq!(bus.get_dlq_message_count().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_dead_letter_topic_takes_nothing_events_are_kept_and_the_bus_says_so() {
    let kafka = kafka();
    let mut config = kafka.config("g");
    config.topic_partitions = Some(1);
    let bus = connected(config.clone()).await;
    let seen = Seen::default();
    let note = seen.clone();
    bus.subscribe(move |event: Event<Paid>| {
        note.note(event.number);
        if event.number == 1 { Err(HandlerError::fatal("no such account")) } else { Ok(()) }
    })
    .unwrap();
    kafka.limit_records(&config.dlq_topic_name(), 1).await;
    consume(&bus).await;
    bus.publish([paid("a", 1), paid("b", 2), paid("a", 3)]).await.unwrap();

    until("degraded health", || bus.health().status == HealthStatus::Degraded).await;
    assert!(bus.health().error.unwrap().contains(&config.dlq_topic_name()));
    assert_eq!(BTreeSet::from_iter(seen.count(2).await), BTreeSet::from([1, 2]), "its own successor waits");
    assert_eq!(bus.stats().messages_sent_to_dlq, 0);
    // What finished beyond it may be noted with the position, but the position is still before it.
    assert_eq!(kafka.committed(&config, 0).unwrap_or(0), 0, "nothing may be committed past it");

    kafka.limit_records(&config.dlq_topic_name(), 1_000_000).await;
    assert_eq!(seen.count(3).await[2], 3);
    until("healthy", || bus.health().status == HealthStatus::Healthy).await;
    assert_eq!(bus.get_dlq_message_count().await.unwrap(), 1);
    bus.shutdown(Duration::from_secs(10)).await.unwrap();
    assert_eq!(kafka.committed(&config, 0), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_waited_out_instead_of_emptying_the_topic_into_the_dead_letters() {
    const EVENTS: u32 = 60;
    let kafka = kafka();
    let mut config = kafka.config("g");
    config.retry.max_retries = 0;
    let pause = Duration::from_millis(300);
    config.dlq_flood_breaker = Some(FloodBreaker { share: 0.5, window: 10, pause });
    let bus = connected(config).await;
    let (down, handled) = (Arc::new(AtomicBool::new(true)), Seen::default());
    let (is_down, note) = (down.clone(), handled.clone());
    bus.subscribe(move |event: Event<Paid>| match is_down.load(Ordering::SeqCst) {
        true => Err(HandlerError::retry("the bank is closed")),
        false => {
            note.note(event.number);
            Ok(())
        }
    })
    .unwrap();
    let events: Vec<_> = (0..EVENTS).map(|number| paid(&format!("account-{number}"), number)).collect();
    bus.publish(events).await.unwrap();
    consume(&bus).await;
    until("degraded health", || bus.health().status == HealthStatus::Degraded).await;
    assert!(bus.health().error.unwrap().contains("too many events fail"));

    down.store(false, Ordering::SeqCst);
    until("success", || {
        let stats = bus.stats();
        stats.events_processed_success + stats.messages_sent_to_dlq == u64::from(EVENTS)
    })
    .await;
    until("healthy", || bus.health().status == HealthStatus::Healthy).await;
    // A window's share before the first pause, and one more for each that passed before the bank opened.
    let letters = bus.get_dlq_message_count().await.unwrap();
    assert!(letters <= 30, "{letters} of {EVENTS} are dead");
    assert_eq!(handled.all().len() as u64, u64::from(EVENTS) - letters);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observer_learns_where_a_letter_went_and_which_attempts_were_cut_off() {
    let kafka = kafka();
    let steps = Seen::<String>::default();
    let note = steps.clone();
    let hooks = Hooks::observed_by(move |step: &Step<'_>| match step {
        Step::DeadLettered { at, to, attempts, .. } => {
            let same = at.partition == to.partition;
            note.note(format!("{} to {}@{} after {attempts}, {same}", at.topic, to.topic, to.offset));
        }
        Step::Aborted { attempt, .. } => note.note(format!("attempt {attempt} cut off")),
        Step::Revoked { lost, .. } if *lost => note.note("lost".into()),
        _ => {}
    });
    let mut config = kafka.config("g");
    config.retry.max_retries = 1;
    let bus = KafkaEventBus::builder(config).registry(EventRegistry::new()).hooks(hooks).build();
    bus.connect().await.unwrap();
    bus.subscribe(|event: Event<Paid>| async move {
        if event.number == 0 {
            return Err(HandlerError::retry("no"));
        }
        std::future::pending().await
    })
    .unwrap();
    consume(&bus).await;
    bus.publish(paid("a", 0)).await.unwrap();
    let topic = kafka.topic();
    assert_eq!(steps.count(1).await, [format!("{topic} to {topic}.dlq@0 after 2, true")]);
    bus.publish(paid("a", 1)).await.unwrap();
    until("the second event", || bus.stats().events_consumed == 2).await;
    assert!(bus.shutdown(Duration::from_millis(100)).await.is_err());
    assert_eq!(steps.count(2).await[1..], ["attempt 1 cut off"]);
}
