//! Connecting, consuming, stopping, and doing these in the wrong order.

use crate::support::{Paid, Seen, connected, consume, kafka, paid, until, within};
use rehearsal_bus::config::KafkaEventBusConfig;
use rehearsal_bus::prelude::*;
use rehearsal_bus::{HealthStatus, KafkaEventBus};
use std::net::TcpListener;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn nobody_at_the_address_is_an_error_that_says_what_to_do() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let timeout = Duration::from_millis(800);
    let config = KafkaEventBusConfig::builder().bootstrap_servers(free.to_string()).connect_timeout(timeout).build();
    let bus = KafkaEventBus::new(config.unwrap());
    let asked = Instant::now();
    let error = bus.connect().await.unwrap_err();
    assert!(matches!(error, BusError::Unreachable { waited, .. } if waited == timeout), "{error:?}");
    assert!(error.to_string().contains("check that it runs there"), "{error}");
    assert!(asked.elapsed() < Duration::from_secs(5));
    assert!(!bus.is_connected());
    assert_eq!(bus.health().status, HealthStatus::Unhealthy);
}

#[tokio::test(flavor = "multi_thread")]
async fn doing_things_in_the_wrong_order_is_a_typed_error() {
    let kafka = kafka();
    let bus = KafkaEventBus::new(kafka.config("g"));
    assert!(matches!(bus.start_consuming().await, Err(BusError::NotConnected)));
    assert!(matches!(bus.publish(paid("a", 1)).await, Err(BusError::NotConnected)));
    assert!(matches!(bus.get_dlq_message_count().await, Err(BusError::NotConnected)));
    bus.stop_consuming().await.unwrap();

    bus.connect().await.unwrap();
    bus.connect().await.unwrap();
    consume(&bus).await;
    assert!(matches!(bus.start_consuming().await, Err(BusError::AlreadyConsuming)));

    bus.shutdown(Duration::from_secs(10)).await.unwrap();
    assert!(matches!(bus.connect().await, Err(BusError::Closed)));
    assert!(matches!(bus.publish(paid("a", 1)).await, Err(BusError::Closed)));
    assert!(matches!(bus.start_consuming().await, Err(BusError::Closed)));
    bus.shutdown(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_tells_how_it_is() {
    let kafka = kafka();
    let bus = kafka.bus("g").await;
    assert!(bus.is_connected() && !bus.is_consuming());
    consume(&bus).await;
    let health = bus.health();
    assert!(health.connected && health.consuming && health.status == HealthStatus::Healthy);
    bus.disconnect().await.unwrap();
    assert!(!bus.is_connected() && !bus.is_consuming());
    bus.connect().await.unwrap();
    assert!(bus.is_connected());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_running_handlers_finish_and_commits_what_they_did() {
    let kafka = kafka();
    let seen = Seen::default();
    let bus = kafka.bus("g").await;
    let note = seen.clone();
    bus.subscribe(move |event: Event<Paid>| {
        let note = note.clone();
        async move {
            note.note(("started", event.number));
            tokio::time::sleep(Duration::from_millis(300)).await;
            note.note(("done", event.number));
        }
    })
    .unwrap();
    let consuming = consume(&bus).await;
    bus.publish(paid("a", 1)).await.unwrap();
    seen.count(1).await;
    bus.stop_consuming().await.unwrap();
    assert_eq!(seen.all(), [("started", 1), ("done", 1)]);
    consuming.ended().await.unwrap();
    assert!(bus.is_connected() && !bus.is_consuming());

    bus.publish(paid("a", 2)).await.unwrap();
    consume(&bus).await;
    assert_eq!(seen.count(4).await[2..], [("started", 2), ("done", 2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_cuts_off_handlers_at_its_deadline_and_their_events_come_again() {
    let kafka = kafka();
    let seen = Seen::default();
    let bus = kafka.bus("g").await;
    let note = seen.clone();
    bus.subscribe(move |event: Event<Paid>| {
        note.note(event.number);
        std::future::pending::<()>()
    })
    .unwrap();
    consume(&bus).await;
    bus.publish(paid("a", 1)).await.unwrap();
    seen.count(1).await;
    let asked = Instant::now();
    let error = bus.shutdown(Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(error, BusError::DeadlinePassed { unfinished: 1, .. }), "{error:?}");
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());

    let next = kafka.bus("g").await;
    let note = seen.clone();
    next.subscribe(move |event: Event<Paid>| note.note(event.number)).unwrap();
    consume(&next).await;
    assert_eq!(seen.count(2).await, [1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_future_of_start_consuming_ends_it() {
    let kafka = kafka();
    let bus = kafka.bus("g").await;
    let running = bus.clone();
    let task = tokio::spawn(async move { running.start_consuming().await });
    until("consuming", || bus.is_consuming()).await;
    task.abort();
    until("end of consuming", || !bus.is_consuming()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_in_a_group_of_more_members_than_partitions_waits_without_any() {
    let kafka = kafka();
    let mut config = kafka.config("g");
    config.topic_partitions = Some(1);
    let (one, two) = (connected(config.clone()).await, connected(config).await);
    let first = consume(&one).await;
    let second = consume(&two).await;
    within("decision", async { until("one owner", || first.partitions() + second.partitions() == 1).await }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_without_its_dead_letter_topic_says_so() {
    let kafka = kafka();
    let mut config = kafka.config("g");
    (config.enable_dlq, config.topic_partitions) = (false, Some(1));
    let bus = connected(config.clone()).await;
    assert_eq!(bus.health().status, HealthStatus::Healthy);
    (config.enable_dlq, config.create_topics) = (true, false);
    let bus = connected(config.clone()).await;
    let health = bus.health();
    assert_eq!(health.status, HealthStatus::Degraded);
    assert!(health.error.unwrap().contains(&config.dlq_topic_name()));
}
