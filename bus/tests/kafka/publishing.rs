//! From `publish` to the log.

use crate::support::{Paid, Seen, connected, consume, kafka, paid, until};
use rehearsal_bus::NotAcknowledged;
use rehearsal_bus::prelude::*;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_too_large_takes_only_its_own_aggregates_later_events_with_it() {
    let kafka = kafka();
    let bus = kafka.bus("g").await;
    let huge = "x".repeat(2_000_000);
    let events = [paid("small", 1), paid(&huge, 2), paid(&huge, 3), paid("small", 4)];
    let error = bus.publish(events).await.unwrap_err();
    let BusError::NotPublished { total: 4, failures } = error else { panic!("{error:?}") };
    assert_eq!(failures.iter().map(|failure| failure.index).collect::<Vec<_>>(), [1, 2]);
    assert!(matches!(failures[0].why, NotAcknowledged::Rejected(_)));
    assert!(matches!(failures[1].why, NotAcknowledged::NotSent(_)));
    assert_eq!((bus.stats().events_published, bus.stats().publish_errors), (2, 2));

    let seen = Seen::default();
    let note = seen.clone();
    bus.subscribe(move |event: Event<Paid>| note.note(event.number)).unwrap();
    consume(&bus).await;
    assert_eq!(seen.count(2).await, [1, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_a_call_is_the_order_in_the_log_for_each_aggregate() {
    let kafka = kafka();
    let bus = kafka.bus("g").await;
    let events: Vec<_> = (0..400).map(|number| paid(&format!("account-{}", number % 7), number)).collect();
    bus.publish(events).await.unwrap();
    let seen = Seen::default();
    let note = seen.clone();
    bus.subscribe(move |event: Event<Paid>| note.note((event.account.clone(), event.number))).unwrap();
    consume(&bus).await;
    let mut last = std::collections::BTreeMap::new();
    for (account, number) in seen.count(400).await {
        assert!(last.insert(account, number).is_none_or(|before| before < number));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn publishing_in_the_background_returns_at_once_and_a_shutdown_waits_for_it() {
    let kafka = kafka();
    let mut config = kafka.config("g");
    config.producer_linger_ms = 200;
    config.background_publish_max = 3;
    let bus = connected(config).await;
    for number in 0..3 {
        bus.publish_background(paid("a", number)).await.unwrap();
    }
    assert_eq!((bus.stats().events_published, bus.get_background_task_count()), (0, 3));
    // At the bound it waits after all.
    bus.publish_background(paid("a", 3)).await.unwrap();
    assert!(bus.stats().events_published > 0);
    bus.publish_background(paid("a", 4)).await.unwrap();
    bus.shutdown(Duration::from_secs(10)).await.unwrap();
    assert_eq!((bus.stats().events_published, bus.get_background_task_count()), (5, 0));
    assert!(bus.stats().background_tasks_created >= 3);

    let reader = kafka.bus("reader").await;
    let seen = Seen::default();
    let note = seen.clone();
    reader.subscribe(move |event: Event<Paid>| note.note(event.number)).unwrap();
    consume(&reader).await;
    assert_eq!(seen.count(5).await, [0, 1, 2, 3, 4]);
    until("count", || reader.stats().events_consumed == 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_on_its_way_at_once_and_each_event_gets_its_own_answer() {
    let kafka = kafka();
    let mut config = kafka.config("g");
    (config.producer_linger_ms, config.topic_partitions) = (100, Some(1));
    let bus = connected(config).await;
    let huge = "x".repeat(2_000_000);
    let first = bus.publish_batch([paid("a", 1), paid(&huge, 2), paid("a", 3)]).await.unwrap();
    let second = bus.publish_batch(paid("a", 4)).await.unwrap();
    assert_eq!((first.len(), second.len(), bus.stats().events_published), (3, 1, 0));

    let second = second.answers().await;
    assert_eq!(second[0].as_ref().unwrap().offset, 2, "after the events of the call before");
    let first = first.answers().await;
    assert_eq!((first[0].as_ref().unwrap().offset, first[2].as_ref().unwrap().offset), (0, 1));
    assert!(matches!(first[1], Err(NotAcknowledged::Rejected(_))), "{first:?}");
    assert_eq!((bus.stats().events_published, bus.stats().publish_errors), (3, 1));
}
