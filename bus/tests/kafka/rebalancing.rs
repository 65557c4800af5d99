//! Members that come and go while handlers run.

use crate::support::{Paid, Seen, consume, kafka, paid, until};
use rehearsal_bus::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_joins_while_handlers_run_loses_and_repeats_nothing() {
    const EVENTS: u32 = 300;
    let kafka = kafka();
    let seen = Seen::default();
    let worker = async || {
        let bus = kafka.bus("workers").await;
        let note = seen.clone();
        bus.subscribe(move |event: Event<Paid>| {
            let note = note.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                note.note((event.account.clone(), event.number));
            }
        })
        .unwrap();
        bus
    };
    let publish = async |bus: &rehearsal_bus::KafkaEventBus, numbers: std::ops::Range<u32>| {
        let events: Vec<_> = numbers.map(|number| paid(&format!("account-{}", number % 10), number)).collect();
        bus.publish(events).await.unwrap();
    };
    let one = worker().await;
    publish(&one, 0..EVENTS / 2).await;
    let first = consume(&one).await;
    seen.count(20).await;

    // One joins in the middle of the first half, the other leaves in the middle of the second.
    let two = worker().await;
    let second = consume(&two).await;
    until("even share", || first.partitions() == 2 && second.partitions() == 2).await;
    publish(&two, EVENTS / 2..EVENTS).await;
    seen.count(EVENTS as usize / 2 + 20).await;
    one.shutdown(Duration::from_secs(10)).await.unwrap();

    let seen = seen.count(EVENTS as usize).await;
    until("everything", || {
        two.stats().events_processed_success + one.stats().events_processed_success >= u64::from(EVENTS)
    })
    .await;
    assert_eq!(seen.len(), EVENTS as usize, "some were handled twice");
    let mut last = BTreeMap::new();
    for (account, number) in seen {
        assert!(last.insert(account.clone(), number).is_none_or(|before| before < number), "{account} out of order");
    }
    assert!(one.stats().rebalance_count >= 2 && two.stats().rebalance_count >= 1);
    assert!(two.stats().events_consumed > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_vanishes_is_replaced_and_its_aggregates_stay_in_order() {
    let kafka = kafka();
    let seen = Seen::default();
    let mut config = kafka.config("workers");
    config.session_timeout_ms = 6_000;
    let one = crate::support::connected(config).await;
    let note = seen.clone();
    one.subscribe(move |event: Event<Paid>| {
        note.note(event.number);
        // It never comes back from its third event.
        let stuck = event.number >= 2;
        async move {
            if stuck {
                std::future::pending::<()>().await;
            }
        }
    })
    .unwrap();
    consume(&one).await;
    one.publish((0..5).map(|number| paid("a", number)).collect::<Vec<_>>()).await.unwrap();
    seen.count(3).await;
    until("commit", || one.stats().events_processed_success == 2).await;
    // The deadline is over at once: the third event is cut off and belongs to whoever comes next.
    assert!(one.shutdown(Duration::ZERO).await.is_err());

    let two = kafka.bus("workers").await;
    let note = seen.clone();
    two.subscribe(move |event: Event<Paid>| note.note(event.number)).unwrap();
    consume(&two).await;
    assert_eq!(seen.count(6).await, [0, 1, 2, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_was_given_away_and_comes_back_is_read_again() {
    let kafka = kafka();
    let seen = Seen::default();
    let worker = async || {
        let bus = kafka.bus("workers").await;
        let note = seen.clone();
        bus.subscribe(move |event: Event<Paid>| note.note(event.number)).unwrap();
        bus
    };
    let one = worker().await;
    let first = consume(&one).await;
    let two = worker().await;
    let second = consume(&two).await;
    until("even share", || first.partitions() == 2 && second.partitions() == 2).await;
    two.shutdown(Duration::from_secs(10)).await.unwrap();
    until("all partitions back", || first.partitions() == 4).await;

    // Enough accounts to fall on every partition.
    one.publish((0..100).map(|number| paid(&format!("account-{number}"), number)).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(seen.count(100).await.len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_slower_than_the_poll_interval_costs_no_rebalance_and_no_repetition() {
    let kafka = kafka();
    let mut config = kafka.config("g");
    // The shortest the brokers allow.
    (config.session_timeout_ms, config.max_poll_interval_ms) = (6_000, 6_000);
    let bus = crate::support::connected(config).await;
    let seen = Seen::default();
    let note = seen.clone();
    bus.subscribe(move |event: Event<Paid>| {
        let note = note.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(7_500)).await;
            note.note(event.number);
        }
    })
    .unwrap();
    consume(&bus).await;
    bus.publish(paid("a", 1)).await.unwrap();
    assert_eq!(seen.count(1).await, [1]);
    until("success", || bus.stats().events_processed_success == 1).await;
    assert_eq!((bus.stats().rebalance_count, bus.stats().events_consumed), (1, 1));
}
