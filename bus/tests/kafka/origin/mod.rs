//! The defects of the origin, eventsource-py, one test each: this bus keeps the promise, and a model of the origin's
//! algorithm, put to the same scenario against the same brokers, breaks it. Without the second half a test would not
//! show that it can fail.

mod model;

use crate::support::{Closed, Kafka, Paid, Seen, closed, connected, consume, kafka, paid, until, within};
use futures::FutureExt;
use futures::future::BoxFuture;
use model::{DirectExchange, Origin, Stream, injected_while_handling};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rehearsal_bus::config::KafkaEventBusConfig;
use rehearsal_bus::prelude::*;
use rehearsal_bus::{KafkaEventBus, RetryPolicy};
use rehearsal_mockbroker::fault::Fault;
use rehearsal_mockbroker::testing::MockCluster;
use rehearsal_mockbroker::wire::ApiKey;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::watch;

type Handler = Arc<dyn Fn(Paid) -> BoxFuture<'static, Result<(), &'static str>> + Send + Sync>;

/// A handler that is done when it is called.
fn handler(handle: impl Fn(Paid) -> Result<(), &'static str> + Send + Sync + 'static) -> Handler {
    Arc::new(move |event| std::future::ready(handle(event)).boxed())
}

/// A handler that is content with everything, and notes it.
fn noting(seen: &Seen<u32>) -> Handler {
    let seen = seen.clone();
    handler(move |event| {
        seen.note(event.number);
        Ok(())
    })
}

#[derive(Clone)]
struct Setup {
    bootstrap: String,
    group: &'static str,
    partitions: i32,
    max_retries: u32,
    delay: Duration,
}

const PREFIX: &str = "accounts";

impl Setup {
    fn new(kafka: &MockCluster, group: &'static str) -> Self {
        let delay = Duration::from_millis(50);
        Self { bootstrap: kafka.bootstrap_servers(), group, partitions: 1, max_retries: 3, delay }
    }

    fn topic(&self) -> String {
        format!("{PREFIX}.stream")
    }

    fn dlq(&self) -> String {
        format!("{PREFIX}.stream.dlq")
    }
}

/// A member of a group, of whichever bus.
trait Subject: Sized {
    /// One that has its partitions.
    async fn member(kafka: &MockCluster, setup: Setup, handlers: Vec<Handler>) -> Self;
    async fn put(&self, events: Vec<Paid>);
    fn rebalances(&self) -> u64;
    /// Failed attempts it has dealt with, in whatever way.
    fn failures(&self) -> u64;
    async fn dead_letters(&self) -> u64;
    async fn replay(&self, partition: i32, offset: i64) -> bool;
    /// Nothing more is finished, sent or committed.
    async fn crash(self);
}

impl Subject for KafkaEventBus {
    async fn member(_: &MockCluster, setup: Setup, handlers: Vec<Handler>) -> Self {
        let mut config = KafkaEventBusConfig::builder()
            .bootstrap_servers(setup.bootstrap)
            .topic_prefix(PREFIX)
            .consumer_group(setup.group)
            .topic_partitions(setup.partitions)
            .session_timeout_ms(10_000)
            .heartbeat_interval_ms(200)
            .commit_interval(Duration::from_millis(20))
            .build()
            .expect("a valid configuration");
        config.retry = RetryPolicy::exponential(setup.delay, setup.delay).jitter(0.0).max_retries(setup.max_retries);
        let bus = connected(config).await;
        for handler in handlers {
            let ask = move |event: Event<Paid>| {
                handler(event.payload().clone()).map(|ended| ended.map_err(HandlerError::retry))
            };
            bus.subscribe(ask).expect("a subscription");
        }
        consume(&bus).await;
        bus
    }

    async fn put(&self, events: Vec<Paid>) {
        self.publish(events).await.expect("an acknowledgement");
    }

    fn rebalances(&self) -> u64 {
        self.stats().rebalance_count
    }

    fn failures(&self) -> u64 {
        self.stats().handler_errors
    }

    async fn dead_letters(&self) -> u64 {
        self.get_dlq_message_count().await.expect("a count")
    }

    async fn replay(&self, partition: i32, offset: i64) -> bool {
        self.replay_dlq_message(partition, offset).await.expect("an answer").is_replayed()
    }

    async fn crash(self) {
        let _ = self.shutdown(Duration::ZERO).await;
    }
}

/// Runs a scenario on both, and says whether each has kept the promise.
macro_rules! kept_here_and_broken_there {
    ($scenario:ident) => {{
        let ours = within("end of ours", $scenario::<KafkaEventBus>()).await;
        assert!(ours.is_ok(), "broken: {ours:?}");
        let origin = within("end of the origin's", $scenario::<Origin>()).await;
        assert!(origin.is_err(), "the scenario shows nothing: the model of the origin passes it");
    }};
}

type Promise = Result<(), String>;

fn same<T: PartialEq + std::fmt::Debug>(is: T, should_be: T) -> Promise {
    if is == should_be { Ok(()) } else { Err(format!("{is:?} instead of {should_be:?}")) }
}

fn cluster() -> MockCluster {
    MockCluster::builder().brokers(1).start().expect("a cluster starts")
}

async fn produce(kafka: &MockCluster, topic: &str, key: &str, value: &str, event_type: Option<&str>) {
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", kafka.bootstrap_servers()).create().expect("a producer");
    let headers = event_type.map(|name| OwnedHeaders::new().insert(Header { key: "event_type", value: Some(name) }));
    let record = FutureRecord::to(topic).key(key).payload(value).headers(headers.unwrap_or_default());
    producer.send(record, Duration::from_secs(10)).await.expect("an acknowledgement");
}

#[tokio::test(flavor = "multi_thread")]
async fn o01_a_partition_is_given_up_after_its_event_is_done_and_committed() {
    async fn scenario<B: Subject>() -> Promise {
        let kafka = cluster();
        let setup = Setup { partitions: 2, ..Setup::new(&kafka, "g") };
        let (seen, (gate, open)) = (Seen::<u32>::default(), watch::channel(false));
        let handlers = || {
            let (seen, open) = (seen.clone(), open.clone());
            let handle: Handler = Arc::new(move |event| {
                let (seen, mut open) = (seen.clone(), open.clone());
                async move {
                    seen.note(event.number);
                    let _ = open.wait_for(|open| *open).await;
                    Ok(())
                }
                .boxed()
            });
            vec![handle]
        };
        let one = B::member(&kafka, setup.clone(), handlers()).await;
        // Enough accounts to have something in work of each partition.
        one.put((0..8).map(|number| paid(&format!("account-{number}"), number)).collect()).await;
        seen.count(1).await;
        // The other one joins while the first is in the middle of an event, which ends when the group has heard.
        let opened = async {
            until("a second member", || kafka.group("g").is_some_and(|group| group.members.len() == 2)).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            gate.send_replace(true);
        };
        let (two, ()) = tokio::join!(B::member(&kafka, setup, handlers()), opened);
        two.put(vec![paid("last", 100)]).await;
        until("the last event", || seen.all().contains(&100)).await;
        until("all events", || seen.all().iter().collect::<BTreeSet<_>>().len() == 9).await;
        if one.rebalances() == 0 {
            return Err("it did not notice the rebalance".into());
        }
        let mut all = seen.all();
        all.sort_unstable();
        same(all, (0..8).chain([100]).collect())
    }
    kept_here_and_broken_there!(scenario);
}

#[tokio::test(flavor = "multi_thread")]
async fn o02_a_retried_event_is_not_overtaken_by_its_aggregates_later_ones() {
    async fn scenario<B: Subject>() -> Promise {
        let kafka = cluster();
        let (done, failed) = (Seen::default(), AtomicU32::new(0));
        let note = done.clone();
        let handle = handler(move |event| match event.number == 0 && failed.fetch_add(1, Ordering::SeqCst) == 0 {
            true => Err("not yet"),
            false => {
                note.note(event.number);
                Ok(())
            }
        });
        let bus = B::member(&kafka, Setup::new(&kafka, "g"), vec![handle]).await;
        bus.put((0..3).map(|number| paid("a", number)).collect()).await;
        same(done.count(3).await, vec![0, 1, 2])
    }
    kept_here_and_broken_there!(scenario);
}

#[tokio::test(flavor = "multi_thread")]
async fn o03_a_retry_in_one_group_is_no_business_of_another() {
    async fn scenario<B: Subject>() -> Promise {
        let kafka = cluster();
        let failed = AtomicU32::new(0);
        let failing = handler(move |_| match failed.fetch_add(1, Ordering::SeqCst) {
            0 => Err("not yet"),
            _ => Ok(()),
        });
        let (seen, settled) = (Seen::default(), Seen::default());
        let bank = B::member(&kafka, Setup::new(&kafka, "bank"), vec![failing, noting(&settled)]).await;
        let audit = noting(&seen);
        let _audit = B::member(&kafka, Setup::new(&kafka, "audit"), vec![audit]).await;
        bank.put(vec![paid("a", 0)]).await;
        until("the failure", || bank.failures() == 1).await;
        bank.put(vec![paid("a", 1)]).await;
        until("the last event", || settled.all().contains(&1)).await;
        until("the last event there", || seen.all().contains(&1)).await;
        same(seen.all(), vec![0, 1])
    }
    kept_here_and_broken_there!(scenario);
}

#[tokio::test(flavor = "multi_thread")]
async fn o04_a_back_off_holds_up_no_other_aggregate() {
    async fn scenario<B: Subject>() -> Promise {
        let kafka = cluster();
        let seen = Seen::default();
        let note = seen.clone();
        let handle = handler(move |event| {
            note.note(event.account.clone());
            if event.account == "bad" { Err("not yet") } else { Ok(()) }
        });
        let setup = Setup { partitions: 4, delay: Duration::from_secs(1), ..Setup::new(&kafka, "g") };
        let bus = B::member(&kafka, setup, vec![handle]).await;
        bus.put(vec![paid("bad", 0)]).await;
        until("the failure", || bus.failures() == 1).await;
        // Whatever the failure has led to is done by now, or asleep.
        tokio::time::sleep(Duration::from_millis(100)).await;
        bus.put(vec![paid("good", 1)]).await;
        same(seen.count(2).await, vec!["bad".into(), "good".into()])
    }
    kept_here_and_broken_there!(scenario);
}

#[tokio::test(flavor = "multi_thread")]
async fn o05_nothing_is_committed_before_its_dead_letter_is_acknowledged() {
    async fn scenario<B: Subject>() -> Promise {
        let kafka = cluster();
        let setup = Setup { max_retries: 0, ..Setup::new(&kafka, "g") };
        let seen = Seen::default();
        let handle = || {
            let note = seen.clone();
            handler(move |event| {
                note.note(event.number);
                if event.number == 1 { Err("never") } else { Ok(()) }
            })
        };
        let bus = B::member(&kafka, setup.clone(), vec![handle()]).await;
        let lost = kafka.plan(Fault::on(ApiKey::Produce).topic(setup.dlq()).ignore().always()).expect("a fault");
        bus.put(vec![paid("a", 0), paid("a", 1)]).await;
        kafka.wait_for().hits(&lost, 1).await.expect("the letter is on its way");
        // Time to commit what should not be committed.
        let _ = kafka.wait_up_to(Duration::from_millis(500)).committed("g", &setup.topic(), 0, 2).await;
        bus.crash().await;
        lost.remove();

        let next = B::member(&kafka, setup, vec![handle()]).await;
        next.put(vec![paid("a", 2)]).await;
        until("the last event", || seen.all().contains(&2)).await;
        same(next.dead_letters().await, 1)
    }
    kept_here_and_broken_there!(scenario);
}

#[tokio::test(flavor = "multi_thread")]
async fn o06_a_record_without_a_type_is_kept() {
    async fn scenario<B: Subject>() -> Promise {
        let kafka = cluster();
        let (setup, seen) = (Setup::new(&kafka, "g"), Seen::default());
        let bus = B::member(&kafka, setup.clone(), vec![noting(&seen)]).await;
        produce(&kafka, &setup.topic(), "a", "{}", None).await;
        bus.put(vec![paid("a", 1)]).await;
        seen.count(1).await;
        same(bus.dead_letters().await, 1)
    }
    kept_here_and_broken_there!(scenario);
}

#[tokio::test(flavor = "multi_thread")]
async fn o07_a_type_of_another_groups_is_no_dead_letter_here() {
    async fn scenario<B: Subject>() -> Promise {
        let kafka = cluster();
        let (setup, seen) = (Setup::new(&kafka, "g"), Seen::default());
        let bus = B::member(&kafka, setup.clone(), vec![noting(&seen)]).await;
        produce(&kafka, &setup.topic(), "a", r#"{"account":"a"}"#, Some("Closed")).await;
        bus.put(vec![paid("a", 1)]).await;
        seen.count(1).await;
        // A letter that is only sent, and not awaited, takes a moment.
        tokio::time::sleep(Duration::from_millis(100)).await;
        same(bus.dead_letters().await, 0)
    }
    kept_here_and_broken_there!(scenario);
}

#[tokio::test(flavor = "multi_thread")]
async fn o08_a_handler_that_succeeded_is_not_asked_again() {
    async fn scenario<B: Subject>() -> Promise {
        let kafka = cluster();
        let (calls, failing) = (Seen::default(), Seen::default());
        let tries = failing.clone();
        let content = noting(&calls);
        let failing_once = handler(move |event| {
            tries.note(event.number);
            if tries.all().len() == 1 { Err("not yet") } else { Ok(()) }
        });
        let bus = B::member(&kafka, Setup::new(&kafka, "g"), vec![content, failing_once]).await;
        bus.put(vec![paid("a", 0)]).await;
        failing.count(2).await;
        same(calls.all(), vec![0])
    }
    kept_here_and_broken_there!(scenario);
}

#[tokio::test(flavor = "multi_thread")]
async fn o09_what_a_handler_publishes_belongs_to_the_trace_of_what_it_handles() {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let kafka = kafka();
    let bus = kafka.bus("g").await;
    let (seen, publisher) = (Seen::default(), bus.clone());
    bus.subscribe(move |event: Event<Paid>| {
        let bus = publisher.clone();
        async move {
            bus.publish(closed(&event.account)).await?;
            Ok(())
        }
    })
    .unwrap();
    let note = seen.clone();
    bus.subscribe(move |event: Event<Closed>| {
        let metadata = event.metadata();
        note.note((metadata.headers.get("traceparent").cloned(), metadata.causation_id, metadata.correlation_id));
    })
    .unwrap();
    consume(&bus).await;
    let handled =
        Event::with(paid("a", 0), |metadata| drop(metadata.headers.insert("traceparent".into(), TRACE.into())));
    bus.publish(handled.clone()).await.unwrap();

    let expected = (Some(TRACE.to_owned()), Some(handled.event_id()), handled.metadata().correlation_id);
    assert_eq!(seen.count(1).await, [expected]);
    assert_eq!(injected_while_handling(&[("traceparent", TRACE)], None), None, "the model of the origin passes it");
}

#[tokio::test(flavor = "multi_thread")]
async fn o10_the_count_of_dead_letters_falls_with_a_replay_and_a_second_one_changes_nothing() {
    async fn scenario<B: Subject>() -> Promise {
        let kafka = cluster();
        let (seen, broken) = (Seen::default(), Arc::new(std::sync::atomic::AtomicBool::new(true)));
        let (note, is_broken) = (seen.clone(), broken.clone());
        let handle = handler(move |event| {
            note.note(event.number);
            if is_broken.load(Ordering::SeqCst) { Err("never") } else { Ok(()) }
        });
        let bus = B::member(&kafka, Setup { max_retries: 0, ..Setup::new(&kafka, "g") }, vec![handle]).await;
        bus.put(vec![paid("a", 0)]).await;
        kafka.wait_for().records(&Setup::new(&kafka, "g").dlq(), 1).await.expect("a letter");
        broken.store(false, Ordering::SeqCst);
        same(bus.replay(0, 0).await, true)?;
        seen.count(2).await;
        same(bus.dead_letters().await, 0)?;
        bus.replay(0, 0).await;
        bus.put(vec![paid("a", 1)]).await;
        until("the last event", || seen.all().contains(&1)).await;
        same(seen.all(), vec![0, 0, 1])
    }
    kept_here_and_broken_there!(scenario);
    // It is not only the count: replayed twice, the origin's event is handled twice.
    async fn twice<B: Subject>() -> Promise {
        let kafka = cluster();
        let seen = Seen::default();
        let note = seen.clone();
        let handle = handler(move |event| {
            note.note(event.number);
            if note.all().len() == 1 { Err("never") } else { Ok(()) }
        });
        let bus = B::member(&kafka, Setup { max_retries: 0, ..Setup::new(&kafka, "g") }, vec![handle]).await;
        bus.put(vec![paid("a", 0)]).await;
        kafka.wait_for().records(&Setup::new(&kafka, "g").dlq(), 1).await.expect("a letter");
        bus.replay(0, 0).await;
        bus.replay(0, 0).await;
        seen.count(2).await;
        bus.put(vec![paid("a", 1)]).await;
        until("the last event", || seen.all().contains(&1)).await;
        same(seen.all(), vec![0, 0, 1])
    }
    kept_here_and_broken_there!(twice);
}

#[tokio::test(flavor = "multi_thread")]
async fn o11_an_answer_that_is_lost_does_not_double_an_event() {
    async fn scenario<B: Subject>() -> Promise {
        let kafka = cluster();
        let (setup, seen) = (Setup::new(&kafka, "g"), Seen::default());
        let bus = B::member(&kafka, setup.clone(), vec![noting(&seen)]).await;
        bus.put(vec![paid("a", 0)]).await;
        kafka.plan(Fault::on(ApiKey::Produce).topic(setup.topic()).disconnect_after_effect()).expect("a fault");
        bus.put(vec![paid("a", 1)]).await;
        bus.put(vec![paid("a", 2)]).await;
        until("the last event", || seen.all().contains(&2)).await;
        same(seen.all(), vec![0, 1, 2])
    }
    kept_here_and_broken_there!(scenario);
}

#[test]
fn o12_an_option_without_code_behind_it_is_refused() {
    let asked = |name: &str| {
        let settings = [("topic_prefix".to_owned(), "accounts".into()), (name.to_owned(), "10".into())];
        let settings: serde_json::Map<String, serde_json::Value> = settings.into_iter().collect();
        serde_json::from_value::<KafkaEventBusConfig>(settings.into())
    };
    let refused = asked("stream_max_len").unwrap_err().to_string();
    assert!(refused.contains("stream_max_len"), "{refused}");

    let mut origin = Stream::configured("stream_max_len", "10").expect("the model of the origin takes it");
    (0..20).for_each(|entry| origin.add(entry));
    assert!(origin.entries.len() > origin.trim_to.unwrap(), "the model of the origin passes it");
}

#[tokio::test(flavor = "multi_thread")]
async fn o13_what_is_published_by_default_reaches_who_subscribes_by_default() {
    let kafka: Kafka = kafka();
    let config = || {
        let config = KafkaEventBusConfig::builder().bootstrap_servers(kafka.bootstrap()).topic_prefix(kafka.topic());
        config.build().expect("the defaults are valid")
    };
    let (one, two, seen) = (connected(config()).await, connected(config()).await, Seen::default());
    for worker in [&one, &two] {
        let note = seen.clone();
        worker.subscribe(move |event: Event<Paid>| note.note(event.number)).unwrap();
        consume(worker).await;
    }
    one.publish((0..10).map(|number| paid(&format!("account-{number}"), number)).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(BTreeSet::from_iter(seen.count(10).await), (0..10).collect());

    let mut origin = DirectExchange::default();
    origin.work_queue("order-workers");
    (0..10).for_each(|number| origin.publish("Account", "Paid", number));
    assert_eq!(origin.delivered(), 0, "the model of the origin passes it");
}

#[tokio::test(flavor = "multi_thread")]
async fn o14_a_replay_reaches_only_the_group_that_gave_the_event_up() {
    async fn scenario<B: Subject>() -> Promise {
        let kafka = cluster();
        let (seen, audited) = (Seen::default(), Seen::default());
        let note = seen.clone();
        let failing_once = handler(move |event| {
            note.note(event.number);
            if note.all().len() == 1 { Err("never") } else { Ok(()) }
        });
        let bank = Setup { max_retries: 0, ..Setup::new(&kafka, "bank") };
        let bank = B::member(&kafka, bank, vec![failing_once]).await;
        let audit = noting(&audited);
        let _audit = B::member(&kafka, Setup::new(&kafka, "audit"), vec![audit]).await;
        bank.put(vec![paid("a", 0)]).await;
        kafka.wait_for().records(&Setup::new(&kafka, "bank").dlq(), 1).await.expect("a letter");
        bank.replay(0, 0).await;
        seen.count(2).await;
        bank.put(vec![paid("a", 1)]).await;
        until("the last event there", || audited.all().contains(&1)).await;
        same(audited.all(), vec![0, 1])
    }
    kept_here_and_broken_there!(scenario);
}
