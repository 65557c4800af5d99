//! Members that come and go while handlers run.

use crate::support::{Paid, Seen, connected, consume, kafka, kafka_with, paid, until};
use rehearsal_bus::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::watch;

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
async fn a_partition_that_was_full_when_it_was_given_away_is_read_again_when_it_comes_back() {
    let kafka = kafka();
    let (seen, (gate, open)) = (Seen::<u32>::default(), watch::channel(false));
    let worker = async || {
        let mut config = kafka.config("workers");
        config.limits.partition_records_max = 4;
        config.rebalance_drain_timeout = Duration::from_millis(200);
        let bus = connected(config).await;
        let (note, open) = (seen.clone(), open.clone());
        bus.subscribe(move |event: Event<Paid>| {
            let (note, mut open) = (note.clone(), open.clone());
            async move {
                let _ = open.wait_for(|open| *open).await;
                note.note(event.number);
            }
        })
        .unwrap();
        bus
    };
    let one = worker().await;
    // Enough accounts to fill every partition.
    one.publish((0..100).map(|number| paid(&format!("account-{number}"), number)).collect::<Vec<_>>()).await.unwrap();
    let first = consume(&one).await;
    until("full partitions", || one.stats().events_consumed >= 16).await;

    let two = worker().await;
    let second = consume(&two).await;
    until("even share", || first.partitions() == 2 && second.partitions() == 2).await;
    until("full partitions there", || two.stats().events_consumed >= 8).await;
    // Nothing was handled, so all of it comes back.
    assert!(two.shutdown(Duration::from_millis(50)).await.is_err());
    until("all partitions back", || first.partitions() == 4).await;
    assert!(seen.all().is_empty());

    gate.send_replace(true);
    let handled: BTreeSet<_> = seen.count(100).await.into_iter().collect();
    assert_eq!(handled, (0..100).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_ten_times_slower_than_the_poll_interval_costs_no_rebalance_and_no_repetition() {
    let kafka = kafka_with([("group.min.session.timeout.ms", "500")]);
    // The shortest a broker with Kafka's own settings allows is six seconds.
    let interval_ms = if kafka.is_ours() { 1_000 } else { 6_000 };
    let mut config = kafka.config("g");
    (config.session_timeout_ms, config.max_poll_interval_ms) = (interval_ms, interval_ms);
    // More than may be in hand, so that fetching has stopped while the handlers run.
    config.limits.partition_records_max = 2;
    config.topic_partitions = Some(1);
    let bus = connected(config).await;
    let seen = Seen::default();
    let note = seen.clone();
    bus.subscribe(move |event: Event<Paid>| {
        let note = note.clone();
        async move {
            if event.number < 2 {
                tokio::time::sleep(Duration::from_millis(10 * u64::from(interval_ms))).await;
            }
            note.note(event.number);
        }
    })
    .unwrap();
    consume(&bus).await;
    bus.publish((0..6).map(|number| paid(&format!("account-{number}"), number)).collect::<Vec<_>>()).await.unwrap();
    let mut handled = seen.count(6).await;
    until("success", || bus.stats().events_processed_success == 6).await;
    handled.sort_unstable();
    assert_eq!(handled, [0, 1, 2, 3, 4, 5]);
    assert_eq!((bus.stats().rebalance_count, bus.stats().events_consumed), (1, 6));
}
