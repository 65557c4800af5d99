//! Who gets an event, how often, in which order.

use crate::support::{Closed, Paid, Seen, closed, connected, consume, kafka, kafka_with, paid, until};
use rehearsal_bus::RetryScope;
use rehearsal_bus::config::UnknownType;
use rehearsal_bus::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn an_event_published_is_handled_and_counted() {
    let kafka = kafka();
    let bus = kafka.bus("g").await;
    let seen = Seen::default();
    let note = seen.clone();
    bus.subscribe(move |event: Event<Paid>, cx: Ctx| {
        note.note((event.payload().clone(), event.event_id(), cx.attempt(), cx.group().map(str::to_owned)));
    })
    .unwrap();
    consume(&bus).await;

    let event = Event::new(paid("a", 1));
    bus.publish(event.clone()).await.unwrap();

    assert_eq!(seen.count(1).await, [(paid("a", 1), event.event_id(), 1, Some(kafka.group("g")))]);
    until("count", || bus.stats().events_processed_success == 1).await;
    let stats = bus.stats();
    assert_eq!((stats.events_published, stats.events_consumed, stats.handlers_invoked), (1, 1, 1));
    assert_eq!((stats.events_processed_failed, stats.handler_errors, stats.messages_sent_to_dlq), (0, 0, 0));
    assert!(stats.last_publish_at.is_some() && stats.last_consume_at.is_some() && stats.connected_at.is_some());
    assert_eq!((stats.last_error_at, stats.rebalance_count), (None, 1));
    bus.shutdown(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_of_a_group_share_ten_events() {
    let kafka = kafka();
    let (one, two) = (kafka.bus("workers").await, kafka.bus("workers").await);
    let seen = Seen::default();
    for (name, worker) in [("one", &one), ("two", &two)] {
        let note = seen.clone();
        worker.subscribe(move |event: Event<Paid>| note.note((event.number, name))).unwrap();
    }
    let first = consume(&one).await;
    let second = consume(&two).await;
    until("even share", || first.partitions() == 2 && second.partitions() == 2).await;

    let events: Vec<_> = (0..10).map(|number| paid(&format!("account-{number}"), number)).collect();
    one.publish(events).await.unwrap();

    let seen = seen.count(10).await;
    assert_eq!(seen.iter().map(|(number, _)| *number).collect::<BTreeSet<_>>().len(), 10);
    assert_eq!(seen.iter().map(|(_, worker)| *worker).collect::<BTreeSet<_>>().len(), 2, "{seen:?}");
    until("count", || one.stats().events_processed_success + two.stats().events_processed_success == 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_group_gets_every_event_and_a_new_group_the_whole_history() {
    let kafka = kafka();
    let publisher = kafka.bus("publisher").await;
    publisher.publish([paid("a", 1), paid("b", 2)]).await.unwrap();
    for group in ["projections", "audit"] {
        let bus = kafka.bus(group).await;
        let seen = Seen::default();
        let note = seen.clone();
        bus.subscribe(move |event: Event<Paid>| note.note(event.number)).unwrap();
        consume(&bus).await;
        assert_eq!(BTreeSet::from_iter(seen.count(2).await), BTreeSet::from([1, 2]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_event_holds_up_its_own_aggregate_only() {
    let kafka = kafka();
    let mut config = kafka.config("g");
    config.topic_partitions = Some(1);
    let bus = connected(config).await;
    let seen = Seen::default();
    let note = seen.clone();
    bus.subscribe(move |event: Event<Paid>, cx: Ctx| {
        let note = note.clone();
        async move {
            note.note((event.account.clone(), event.number, cx.attempt()));
            match (event.account.as_str(), event.number, cx.attempt()) {
                // Not again before the others have all been seen.
                ("bad", 0, 1) => Err(HandlerError::retry_after(Duration::from_millis(500), "not yet")),
                ("bad", 0, 2) => Err(HandlerError::retry("not yet")),
                _ => Ok(()),
            }
        }
    })
    .unwrap();
    let events = [("bad", 0), ("good", 0), ("bad", 1), ("good", 1), ("good", 2)];
    bus.publish(events.map(|(account, number)| paid(account, number)).to_vec()).await.unwrap();
    consume(&bus).await;

    let seen = seen.count(7).await;
    let of = |name: &str| {
        seen.iter().filter(|(account, ..)| account == name).map(|seen| (seen.1, seen.2)).collect::<Vec<_>>()
    };
    assert_eq!(of("bad"), [(0, 1), (0, 2), (0, 3), (1, 1)]);
    assert_eq!(of("good"), [(0, 1), (1, 1), (2, 1)]);
    let last_good = seen.iter().rposition(|(account, ..)| account == "good").unwrap();
    let second_try = seen.iter().position(|(account, _, attempt)| account == "bad" && *attempt == 2).unwrap();
    assert!(last_good < second_try, "the good account waited for the bad one: {seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_handlers_that_failed_are_asked_again() {
    let kafka = kafka();
    let bus = kafka.bus("g").await;
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    bus.subscribe(move |_: Event<Paid>| {
        counted.fetch_add(1, Ordering::SeqCst);
    })
    .unwrap();
    let seen = Seen::default();
    let note = seen.clone();
    bus.subscribe(move |_: Event<Paid>, cx: Ctx| {
        note.note(cx.attempt());
        if cx.attempt() < 3 { Err(HandlerError::retry("not yet")) } else { Ok(()) }
    })
    .unwrap();
    consume(&bus).await;
    bus.publish(paid("a", 1)).await.unwrap();
    assert_eq!(seen.count(3).await, [1, 2, 3]);
    until("success", || bus.stats().events_processed_success == 1).await;
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!((bus.stats().events_consumed, bus.stats().handler_errors), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_a_group_goes_on_where_it_was() {
    let kafka = kafka();
    let seen = Seen::default();
    for round in 0..3 {
        let bus = kafka.bus("g").await;
        let note = seen.clone();
        bus.subscribe(move |event: Event<Paid>| note.note(event.number)).unwrap();
        consume(&bus).await;
        bus.publish([paid("a", 2 * round), paid("b", 2 * round + 1)]).await.unwrap();
        seen.count(2 * (round as usize + 1)).await;
        bus.shutdown(Duration::from_secs(10)).await.unwrap();
    }
    let mut seen = seen.all();
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_type_is_skipped_unless_the_policy_says_otherwise() {
    let kafka = kafka();
    let publisher = kafka.bus("publisher").await;
    publisher.publish(events![closed("a"), paid("a", 1)]).await.unwrap();

    let skipping = kafka.bus("skipping").await;
    let seen = Seen::default();
    let note = seen.clone();
    skipping.subscribe(move |event: Event<Paid>| note.note(event.number)).unwrap();
    consume(&skipping).await;
    assert_eq!(seen.count(1).await, [1]);
    assert_eq!((skipping.stats().events_skipped, skipping.stats().events_consumed), (1, 1));

    let mut config = kafka.config("keeping");
    config.unknown_type = UnknownType::DeadLetter;
    let keeping = connected(config).await;
    let seen = Seen::default();
    let note = seen.clone();
    keeping.subscribe(move |event: Event<Paid>| note.note(event.number)).unwrap();
    consume(&keeping).await;
    seen.count(1).await;
    until("dead letter", || keeping.stats().messages_sent_to_dlq == 1).await;
    let letters = keeping.get_dlq_messages(10).await.unwrap();
    assert_eq!((letters[0].event_type(), letters[0].error_type()), (Some("Closed"), "UnknownEventType"));

    let mut config = kafka.config("failing");
    config.unknown_type = UnknownType::Fail;
    let failing = connected(config).await;
    failing.subscribe(|_: Event<Paid>| ()).unwrap();
    let error = failing.start_consuming().await.unwrap_err();
    assert!(matches!(&error, BusError::Backend { source, .. } if source.to_string().contains("Closed")), "{error:?}");
    assert!(!failing.is_consuming());
    failing.subscribe(|_: Event<Closed>| ()).unwrap();
    consume(&failing).await;
    until("both handled", || failing.stats().events_processed_success >= 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_of_one_partition_are_handled_side_by_side_and_each_in_order() {
    let side_by_side = handle_slowly(RetryScope::Key, 10_000).await;
    // Fewer of those, at the same pace; measured, because a busy machine is late for every one of them.
    let one_by_one = handle_slowly(RetryScope::Partition, 200).await * 50;
    assert!(side_by_side * 10 < one_by_one, "{side_by_side:?}, and one by one {one_by_one:?}");
}

/// How long a group takes for so many events of 5 ms about a thousand accounts in one partition.
async fn handle_slowly(scope: RetryScope, events: u32) -> Duration {
    const KEYS: u32 = 1_000;
    const TAKES: Duration = Duration::from_millis(5);
    let kafka = kafka();
    let mut config = kafka.config("g");
    (config.topic_partitions, config.enable_tracing, config.retry) = (Some(1), false, config.retry.scope(scope));
    let bus = connected(config).await;
    let load: Vec<_> = (0..events).map(|number| paid(&format!("account-{}", number % KEYS), number)).collect();
    bus.publish(load).await.unwrap();
    let (order, (first, last)) = (Arc::new(Mutex::new(BTreeMap::new())), (Seen::default(), Seen::default()));
    let (note, begun, done, handled) = (order.clone(), first.clone(), last.clone(), Arc::new(AtomicU32::new(0)));
    bus.subscribe(move |event: Event<Paid>| {
        if event.number == 0 {
            begun.note(Instant::now());
        }
        let (note, done, handled) = (note.clone(), done.clone(), handled.clone());
        async move {
            tokio::time::sleep(TAKES).await;
            note.lock().unwrap().entry(event.number % KEYS).or_insert_with(Vec::new).push(event.number);
            if handled.fetch_add(1, Ordering::SeqCst) + 1 == events {
                done.note(Instant::now());
            }
        }
    })
    .unwrap();
    consume(&bus).await;
    let took = last.count(1).await[0] - first.count(1).await[0];
    assert!(order.lock().unwrap().values().all(|numbers| numbers.is_sorted()));
    assert_eq!(order.lock().unwrap().values().map(Vec::len).sum::<usize>(), events as usize);
    assert_eq!(bus.stats().rebalance_count, 1);
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn what_finished_behind_a_waiting_event_does_not_run_again_after_a_restart() {
    let kafka = kafka();
    let mut config = kafka.config("g");
    config.topic_partitions = Some(1);
    let bus = connected(config.clone()).await;
    let events = [("bad", 0), ("good", 1), ("other", 2), ("bad", 3), ("good", 4)];
    bus.publish(events.map(|(account, number)| paid(account, number)).to_vec()).await.unwrap();
    let seen = Seen::default();
    let note = seen.clone();
    bus.subscribe(move |event: Event<Paid>| {
        note.note(event.number);
        match event.number {
            0 => Err(HandlerError::retry_after(Duration::from_secs(600), "not yet")),
            _ => Ok(()),
        }
    })
    .unwrap();
    consume(&bus).await;
    let mut before = seen.count(4).await;
    before.sort_unstable();
    assert_eq!(before, [0, 1, 2, 4]);
    until("success", || bus.stats().events_processed_success == 3).await;
    bus.shutdown(Duration::from_secs(10)).await.unwrap();

    for round in 0..2 {
        let next = connected(config.clone()).await;
        let seen = Seen::default();
        let note = seen.clone();
        next.subscribe(move |event: Event<Paid>| {
            note.note(event.number);
            // Again it waits, and what was finished in the life before the last is still known in the next.
            if round == 0 { Err(HandlerError::retry_after(Duration::from_secs(600), "not yet")) } else { Ok(()) }
        })
        .unwrap();
        consume(&next).await;
        next.publish(paid("last", 9 + round)).await.unwrap();
        let expected: &[u32] = if round == 0 { &[0, 9] } else { &[0, 3, 9, 10] };
        let mut handled = seen.count(expected.len()).await;
        handled.sort_unstable();
        assert_eq!(handled, expected);
        next.shutdown(Duration::from_secs(10)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_take_no_metadata_get_positions_alone() {
    let kafka = kafka_with([("offset.metadata.max.bytes", "5")]);
    let mut config = kafka.config("g");
    config.topic_partitions = Some(1);
    let bus = connected(config.clone()).await;
    bus.publish([paid("good", 0), paid("bad", 1), paid("good", 2)]).await.unwrap();
    let seen = Seen::default();
    let note = seen.clone();
    bus.subscribe(move |event: Event<Paid>| {
        note.note(event.number);
        match event.number {
            1 => Err(HandlerError::retry_after(Duration::from_secs(600), "not yet")),
            _ => Ok(()),
        }
    })
    .unwrap();
    consume(&bus).await;
    seen.count(3).await;
    until("success", || bus.stats().events_processed_success == 2).await;
    bus.shutdown(Duration::from_secs(10)).await.unwrap();
    assert_eq!(kafka.committed(&config, 0), Some(1));
}
