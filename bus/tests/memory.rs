//! The bus in memory: what its users can see.

#![allow(clippy::disallowed_methods, reason = "the bans are for the engine")]

mod common;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{OrderPlaced, OrderShipped, Seen, placed, shipped};
use rehearsal_bus::hooks::{Hooks, Step};
use rehearsal_bus::prelude::*;
use rehearsal_bus::{HandlerSet, HealthStatus, Verdict};
use tokio::sync::{Notify, Semaphore};

fn noting(seen: &Seen) -> impl Fn(AnyEvent) + Send + Sync + use<> {
    let seen = seen.clone();
    move |event| seen.note(format!("{} {}", event.event_type(), event.aggregate_id()))
}

#[tokio::test]
async fn publishing_waits_for_the_handlers() -> Result<(), BusError> {
    let bus = InMemoryEventBus::new();
    let seen = Seen::default();
    let s = seen.clone();
    bus.subscribe(move |event: Event<OrderPlaced>| {
        let s = s.clone();
        async move {
            tokio::task::yield_now().await;
            s.note(event.aggregate_id().as_str());
        }
    })?;

    bus.publish([placed("o-1"), placed("o-2")]).await?;

    assert_eq!(seen.all(), ["o-1", "o-2"]);
    Ok(())
}

#[tokio::test]
async fn one_event_an_array_a_vec_and_a_mixed_list_can_be_published() -> Result<(), BusError> {
    let bus = InMemoryEventBus::new();
    let seen = Seen::default();
    bus.subscribe_to_all_events(noting(&seen))?;

    bus.publish(placed("one")).await?;
    bus.publish([placed("array")]).await?;
    bus.publish(vec![placed("vec")]).await?;
    bus.publish(events![placed("mixed"), shipped("mixed")]).await?;
    bus.publish(Event::new(placed("enveloped"))).await?;
    bus.publish(Vec::<AnyEvent>::new()).await?;

    let expected = ["OrderPlaced one", "OrderPlaced array", "OrderPlaced vec", "OrderPlaced mixed"];
    assert_eq!(seen.all()[..4], expected);
    assert_eq!(seen.all()[4..], ["OrderShipped mixed", "OrderPlaced enveloped"]);
    assert_eq!(bus.stats().events_published, 6);
    Ok(())
}

#[tokio::test]
async fn every_handler_of_a_type_runs_and_wildcards_get_everything() -> Result<(), BusError> {
    let bus = InMemoryEventBus::new();
    let (first, second, all) = (Seen::default(), Seen::default(), Seen::default());
    bus.subscribe_to(EventType::of::<OrderPlaced>(), noting(&first))?;
    bus.subscribe_to(EventType::of::<OrderPlaced>(), noting(&second))?;
    bus.subscribe_to_all_events(noting(&all))?;

    bus.publish(events![placed("o-1"), shipped("o-1")]).await?;

    assert_eq!(first.all(), ["OrderPlaced o-1"]);
    assert_eq!(second.all(), ["OrderPlaced o-1"]);
    assert_eq!(all.all(), ["OrderPlaced o-1", "OrderShipped o-1"]);
    Ok(())
}

#[tokio::test]
async fn a_failing_a_panicking_and_a_hanging_handler_do_not_keep_the_event_from_the_others() -> Result<(), BusError> {
    tokio::time::pause();
    let bus = InMemoryEventBus::builder().handler_timeout(Duration::from_secs(5)).build();
    let seen = Seen::default();
    bus.subscribe(|_: Event<OrderPlaced>| async { Err(HandlerError::fatal("no such customer")) })?;
    bus.subscribe(|_: Event<OrderPlaced>| -> Handled { panic!("bug") })?;
    bus.subscribe(|_: Event<OrderPlaced>| async { assert!(false_at_run_time(), "later bug") })?;
    bus.subscribe(|_: Event<OrderPlaced>| std::future::pending::<()>())?;
    bus.subscribe_to_all_events(noting(&seen))?;

    bus.publish(placed("o-1")).await?;

    assert_eq!(seen.all(), ["OrderPlaced o-1"]);
    let stats = bus.stats();
    assert_eq!((stats.handlers_invoked, stats.handler_errors), (5, 4));
    assert!(stats.last_error_at.is_some());
    Ok(())
}

#[tokio::test]
async fn a_skipped_event_counts_as_handled() -> Result<(), BusError> {
    let bus = InMemoryEventBus::new();
    bus.subscribe(|_: Event<OrderPlaced>| Err(HandlerError::skip()))?;
    bus.publish(placed("o-1")).await?;
    assert_eq!(bus.stats().handler_errors, 0);
    Ok(())
}

#[tokio::test]
async fn what_is_unsubscribed_is_not_called_again() -> Result<(), BusError> {
    let bus = InMemoryEventBus::new();
    let seen = Seen::default();
    let typed = bus.subscribe_to(EventType::of::<OrderPlaced>(), noting(&seen))?;
    let wildcard = bus.subscribe_to_all_events(noting(&seen))?;

    assert!(!bus.unsubscribe_from_all_events(typed), "it is no wildcard");
    assert!(bus.unsubscribe(typed));
    assert!(!bus.unsubscribe(typed), "it is gone");
    assert!(bus.unsubscribe_from_all_events(wildcard));
    assert!(!bus.unsubscribe_from_all_events(wildcard));

    bus.publish(placed("o-1")).await?;
    assert!(seen.all().is_empty());
    Ok(())
}

#[test]
fn subscribers_are_counted_by_type_and_cleared_together() -> Result<(), BusError> {
    let bus = InMemoryEventBus::new();
    bus.subscribe(|_: Event<OrderPlaced>| ())?;
    bus.subscribe(|_: Event<OrderPlaced>| ())?;
    bus.subscribe_to_all_events(|_: AnyEvent| ())?;
    assert_eq!(bus.get_subscriber_count::<OrderPlaced>(), 2);
    assert_eq!(bus.get_subscriber_count::<OrderShipped>(), 0);
    assert_eq!(bus.get_wildcard_subscriber_count(), 1);

    bus.clear_subscribers();

    assert_eq!(bus.get_subscriber_count::<OrderPlaced>(), 0);
    assert_eq!(bus.get_wildcard_subscriber_count(), 0);
    Ok(())
}

#[tokio::test]
async fn background_publishing_returns_before_the_handlers_and_shutdown_waits_for_them() -> Result<(), BusError> {
    let bus = InMemoryEventBus::new();
    let seen = Seen::default();
    let go = Arc::new(Notify::new());
    let (s, gate) = (seen.clone(), Arc::clone(&go));
    bus.subscribe(move |event: Event<OrderPlaced>| {
        let (s, gate) = (s.clone(), Arc::clone(&gate));
        async move {
            gate.notified().await;
            s.note(event.aggregate_id().as_str());
        }
    })?;

    bus.publish_background(placed("o-1")).await?;
    assert!(seen.all().is_empty());
    assert_eq!(bus.get_background_task_count(), 1);

    go.notify_one();
    bus.shutdown(Duration::from_secs(30)).await?;
    assert_eq!(seen.all(), ["o-1"]);
    assert_eq!(bus.get_background_task_count(), 0);
    assert_eq!(bus.stats().background_tasks_created, 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn shutdown_says_what_did_not_finish_in_time_and_stops_it() -> Result<(), BusError> {
    let bus = InMemoryEventBus::new();
    let cancelled = Arc::new(Semaphore::new(0));
    let c = Arc::clone(&cancelled);
    bus.subscribe(move |_: Event<OrderPlaced>, cx: Ctx| {
        let told = OnDrop(Arc::clone(&c));
        async move {
            let _told = told;
            let _ = cx;
            std::future::pending::<()>().await;
        }
    })?;
    bus.publish_background(placed("o-1")).await?;

    let error = bus.shutdown(Duration::from_secs(30)).await.unwrap_err();

    assert_eq!(error.to_string(), "background publishing did not finish within 30s; 1 left");
    cancelled.acquire().await.unwrap().forget();
    Ok(())
}

/// Says when a handler's future is gone.
struct OnDrop(Arc<Semaphore>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

#[tokio::test]
async fn background_tasks_are_bounded_and_the_rest_is_done_at_once() -> Result<(), BusError> {
    let bus = InMemoryEventBus::builder().background_tasks_max(0).build();
    let seen = Seen::default();
    bus.subscribe_to_all_events(noting(&seen))?;
    bus.publish_background(placed("o-1")).await?;
    assert_eq!(seen.all(), ["OrderPlaced o-1"]);
    assert_eq!(bus.stats().background_tasks_created, 0);
    Ok(())
}

#[tokio::test]
async fn a_bus_that_is_shut_down_refuses_events_and_says_so() -> Result<(), BusError> {
    let bus = InMemoryEventBus::new();
    assert_eq!(bus.health().status, HealthStatus::Healthy);
    bus.shutdown(Duration::from_secs(1)).await?;
    bus.shutdown(Duration::from_secs(1)).await?;
    assert!(matches!(bus.publish(placed("o-1")).await, Err(BusError::Closed)));
    assert!(matches!(bus.publish_background(placed("o-1")).await, Err(BusError::Closed)));
    assert_eq!(bus.health().status, HealthStatus::Unhealthy);
    assert_eq!(serde_json::to_value(bus.health()).unwrap()["error"], "the bus is shut down");
    Ok(())
}

#[tokio::test]
async fn statistics_are_a_json_object_of_numbers_and_iso_times() -> Result<(), BusError> {
    let bus = InMemoryEventBus::new();
    bus.subscribe(|_: Event<OrderPlaced>| ())?;
    bus.publish([placed("o-1"), placed("o-2")]).await?;

    let stats = bus.get_stats_dict();

    assert_eq!(stats["events_published"], 2);
    assert_eq!(stats["handlers_invoked"], 2);
    assert_eq!(stats["handler_errors"], 0);
    assert_eq!(stats["background_tasks_created"], 0);
    assert!(stats["last_publish_at"].as_str().unwrap().ends_with("+00:00"));
    assert!(stats["connected_at"].is_null());
    for name in [
        "events_consumed",
        "events_skipped",
        "events_processed_success",
        "events_processed_failed",
        "messages_sent_to_dlq",
        "reconnections",
        "rebalance_count",
        "last_consume_at",
        "last_error_at",
    ] {
        assert!(stats.contains_key(name), "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn a_handler_may_publish_and_subscribe_on_the_bus_that_calls_it() -> Result<(), BusError> {
    let bus = InMemoryEventBus::new();
    let seen = Seen::default();
    let (b, s) = (bus.clone(), seen.clone());
    bus.subscribe(move |event: Event<OrderPlaced>| {
        let (b, s) = (b.clone(), s.clone());
        async move {
            b.subscribe_to(EventType::of::<OrderShipped>(), noting(&s))?;
            b.publish(shipped(&event.order_id)).await?;
            Ok(())
        }
    })?;

    bus.publish(placed("o-1")).await?;

    assert_eq!(seen.all(), ["OrderShipped o-1"]);
    Ok(())
}

#[tokio::test]
async fn what_a_handler_publishes_names_its_cause() -> Result<(), BusError> {
    let bus = InMemoryEventBus::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (b, s) = (bus.clone(), Arc::clone(&seen));
    bus.subscribe(move |event: Event<OrderPlaced>| {
        let b = b.clone();
        async move { b.publish(shipped(&event.order_id)).await.map_err(HandlerError::retry) }
    })?;
    bus.subscribe_to_all_events(move |event: AnyEvent| s.lock().unwrap().push(event.metadata().clone()))?;

    bus.publish([placed("o-1"), placed("o-2")]).await?;

    let seen = seen.lock().unwrap();
    let [effect, cause, _, unrelated] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((effect.event_type, cause.event_type), ("OrderShipped", "OrderPlaced"));
    assert_eq!(effect.causation_id, Some(cause.event_id));
    assert_eq!(effect.correlation_id, cause.correlation_id);
    assert_eq!((cause.causation_id, unrelated.causation_id), (None, None));
    Ok(())
}

#[tokio::test]
async fn an_observer_sees_each_event_start_and_each_handler_finish() -> Result<(), BusError> {
    let seen = Seen::default();
    let notes = seen.clone();
    let hooks = Hooks::observed_by(move |step: &Step<'_>| match step {
        Step::Attempted { aggregate_id, .. } => notes.note(format!("attempted {aggregate_id}")),
        Step::Started { attempt, .. } => notes.note(format!("started #{attempt}")),
        Step::Finished { outcome, .. } => notes.note(format!("finished, ok: {}", outcome.is_ok())),
        other => notes.note(format!("{other:?}")),
    });
    let bus = InMemoryEventBus::builder().hooks(hooks).build();
    bus.subscribe(|_: Event<OrderPlaced>| Err(HandlerError::fatal("no")))?;
    bus.subscribe_to_all_events(|_: AnyEvent| ())?;

    bus.publish(placed("o-1")).await?;

    assert_eq!(seen.all(), ["attempted o-1", "started #1", "finished, ok: false", "finished, ok: true"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribing_from_many_threads_while_events_flow_loses_nothing() -> Result<(), BusError> {
    let bus = InMemoryEventBus::new();
    let seen = Seen::default();
    bus.subscribe_to_all_events(noting(&seen))?;
    let tasks = (0..8).map(|task| {
        let bus = bus.clone();
        tokio::spawn(async move {
            for n in 0..50 {
                let id = bus.subscribe(|_: Event<OrderShipped>| ())?;
                bus.publish(placed(&format!("{task}-{n}"))).await?;
                assert!(bus.unsubscribe(id));
            }
            Ok::<_, BusError>(())
        })
    });
    for task in futures::future::join_all(tasks).await {
        task.unwrap()?;
    }

    assert_eq!(seen.all().len(), 400);
    assert_eq!(bus.get_subscriber_count::<OrderShipped>(), 0);
    Ok(())
}

#[tokio::test]
async fn the_backend_is_chosen_at_run_time() -> Result<(), BusError> {
    let bus: Arc<dyn EventBus> = InMemoryEventBus::new().into();
    let seen = Seen::default();
    bus.subscribe_to_all_events(noting(&seen))?;
    bus.publish(placed("o-1")).await?;
    assert_eq!(seen.all(), ["OrderPlaced o-1"]);
    bus.shutdown(Duration::from_secs(1)).await
}

#[tokio::test]
async fn only_the_handlers_that_failed_are_called_again() -> Result<(), BusError> {
    let bus = InMemoryEventBus::new();
    let seen = Seen::default();
    bus.subscribe_to(EventType::of::<OrderPlaced>(), noting(&seen))?;
    let failing = bus.subscribe(|_: Event<OrderPlaced>, cx: Ctx| async move {
        match cx.attempt() {
            1 => Err(io::Error::other("the database is away"))?,
            _ => Ok(()),
        }
    })?;
    let event = placed("o-1").into_event();

    let first = bus.dispatcher().dispatch(&event, &Ctx::new(), None).await;
    let (failed, error) = first.failures().next().unwrap();
    assert_eq!(failed.handler, failing);
    assert_eq!((error.error_type(), error.to_string().as_str()), ("Error", "the database is away"));
    let again = HandlerSet::from([failing]);
    assert_eq!(first.verdict(), Verdict::Retry { handlers: again.clone(), after: None });

    let second = bus.dispatcher().dispatch(&event, &Ctx::new().with_attempt(2), Some(&again)).await;
    assert_eq!(second.verdict(), Verdict::Settled);
    assert_eq!(second.invoked(), 1);
    assert_eq!(seen.all(), ["OrderPlaced o-1"]);
    Ok(())
}

#[tokio::test]
async fn a_verdict_waits_for_the_longest_and_remembers_the_fatal() -> Result<(), BusError> {
    let bus = InMemoryEventBus::new();
    let seconds = Duration::from_secs;
    let short = bus.subscribe(move |_: Event<OrderPlaced>| Err(HandlerError::retry_after(seconds(1), "busy")))?;
    let long = bus.subscribe(move |_: Event<OrderPlaced>| Err(HandlerError::retry_after(seconds(9), "busy")))?;
    let fatal = bus.subscribe(|_: Event<OrderPlaced>| Err(HandlerError::fatal("never")))?;

    let outcome = bus.dispatcher().dispatch(&placed("o-1").into_event(), &Ctx::new(), None).await;
    let retry = Verdict::Retry { handlers: HandlerSet::from([short, long]), after: Some(seconds(9)) };
    assert_eq!(outcome.verdict(), retry);
    assert_eq!(outcome.fatal(), HandlerSet::from([fatal]));

    let last = HandlerSet::from([fatal]);
    let outcome = bus.dispatcher().dispatch(&placed("o-1").into_event(), &Ctx::new(), Some(&last)).await;
    assert_eq!(outcome.verdict(), Verdict::Fatal);
    Ok(())
}

fn false_at_run_time() -> bool {
    std::hint::black_box(false)
}
