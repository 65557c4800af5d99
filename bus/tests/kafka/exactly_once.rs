//! Consume, transform, produce: what handlers publish and the positions of what they handled, both or neither.

use crate::support::{
    Closed, Kafka, Paid, Seen, closed, connected, consume, kafka, kafka_made_by, not_run, paid, until, within,
};
use rehearsal_bus::config::{ConfigError, KafkaEventBusConfig};
use rehearsal_bus::prelude::*;
use rehearsal_bus::{EventMetadata, KafkaEventBus};
use rehearsal_mockbroker::fault::Fault;
use rehearsal_mockbroker::wire::ApiKey;
use std::sync::Arc;
use std::time::Duration;

/// A group that makes each `Paid` into a `Closed` on another topic; `handle` says what comes of it after that.
struct Works {
    input: KafkaEventBus,
    output: KafkaEventBus,
}

fn config(kafka: &Kafka, name: &str) -> KafkaEventBusConfig {
    let mut config = kafka.config("works");
    (config.exactly_once, config.topic_partitions, config.consumer_name) = (true, Some(1), name.into());
    config
}

fn output(kafka: &Kafka, group: &str) -> KafkaEventBusConfig {
    let mut config = kafka.config(group);
    config.topic_prefix = format!("{}.out", config.topic_prefix);
    config.topic_partitions = Some(1);
    config
}

async fn works<F>(kafka: &Kafka, name: &str, handle: F) -> Works
where
    F: Fn(u32, u32) -> Handled + Send + Sync + 'static,
{
    let (input, output) = (connected(config(kafka, name)).await, connected(output(kafka, "works")).await);
    let (products, handle) = (output.clone(), Arc::new(handle));
    input
        .subscribe(move |event: Event<Paid>, cx: Ctx| {
            let (products, handle) = (products.clone(), handle.clone());
            async move {
                products.publish(closed(&format!("{}", event.number))).await?;
                handle(event.number, cx.attempt())
            }
        })
        .unwrap();
    Works { input, output }
}

/// What a reader of committed events sees of the products.
async fn products(kafka: &Kafka) -> (KafkaEventBus, Seen<(String, EventMetadata)>) {
    let (bus, seen) = (connected(output(kafka, "readers")).await, Seen::default());
    let note = seen.clone();
    bus.subscribe(move |event: Event<Closed>| note.note((event.account.clone(), event.metadata().clone()))).unwrap();
    consume(&bus).await;
    (bus, seen)
}

fn names(products: &[(String, EventMetadata)]) -> Vec<&str> {
    let mut names: Vec<_> = products.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_handler_publishes_is_there_once_and_only_when_it_succeeds() {
    // However the brokers handle transactions: as before KIP-890, with its records, with its epochs.
    for level in 0..=2 {
        once_and_only_when_it_succeeds(&kafka_made_by(|brokers| brokers.transaction_version(level))).await;
    }
}

async fn once_and_only_when_it_succeeds(kafka: &Kafka) {
    let (_reader, seen) = products(kafka).await;
    let fails_twice =
        |number, attempt| if number == 0 && attempt < 3 { Err(HandlerError::retry("jam")) } else { Ok(()) };
    let works = works(kafka, "one", fails_twice).await;
    consume(&works.input).await;
    let handled = Event::new(paid("a", 0));
    works.input.publish(events![handled.clone(), paid("b", 1)]).await.unwrap();
    works.input.publish(paid("a", 2)).await.unwrap();
    seen.count(3).await;
    // Whatever would come twice has come when what was published after it has.
    works.output.publish(closed("last")).await.unwrap();
    let all = seen.count(4).await;
    assert_eq!(names(&all), ["0", "1", "2", "last"]);
    let (_, metadata) = all.iter().find(|(name, _)| name == "0").unwrap();
    assert_eq!(metadata.causation_id, Some(handled.event_id()));
    assert_eq!(metadata.correlation_id, handled.metadata().correlation_id);
    until("count", || works.output.stats().events_published == 4).await;
    works.input.shutdown(Duration::from_secs(10)).await.unwrap();
    assert_eq!(kafka.committed(&config(kafka, "one"), 0), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_given_up_has_published_nothing() {
    let kafka = kafka();
    let (_reader, seen) = products(&kafka).await;
    let fails = |number, _| if number == 0 { Err(HandlerError::fatal("no such order")) } else { Ok(()) };
    let works = works(&kafka, "one", fails).await;
    consume(&works.input).await;
    works.input.publish([paid("a", 0), paid("a", 1)]).await.unwrap();
    assert_eq!(names(&seen.count(1).await), ["1"]);
    assert_eq!(works.input.get_dlq_message_count().await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_dies_before_its_transaction_ends_has_published_nothing() {
    let kafka = kafka();
    let Some(cluster) = kafka.cluster() else { return not_run("only our own brokers lose a request") };
    let (_reader, seen) = products(&kafka).await;
    let handled = Seen::default();
    let note = handled.clone();
    let one = works(&kafka, "one", move |number, _| {
        note.note(number);
        Ok(())
    })
    .await;
    consume(&one.input).await;
    let lost = cluster.plan(Fault::on(ApiKey::EndTxn).ignore().always()).unwrap();
    one.input.publish([paid("a", 0), paid("b", 1)]).await.unwrap();
    handled.count(2).await;
    cluster.wait_for().hits(&lost, 1).await.unwrap();
    let _ = one.input.shutdown(Duration::ZERO).await;
    lost.remove();
    assert!(seen.all().is_empty());

    // Its successor of the same name ends what it left open.
    let note = handled.clone();
    let two = works(&kafka, "one", move |number, _| {
        note.note(number);
        Ok(())
    })
    .await;
    consume(&two.input).await;
    seen.count(2).await;
    two.output.publish(closed("last")).await.unwrap();
    assert_eq!(names(&seen.count(3).await), ["0", "1", "last"]);
    assert_eq!(handled.all().len(), 4, "handled twice, published once");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_finished_behind_a_waiting_event_is_published_once_over_a_restart() {
    let kafka = kafka();
    let (_reader, seen) = products(&kafka).await;
    let waits = |number, _| match number {
        1 => Err(HandlerError::retry_after(Duration::from_secs(600), "not yet")),
        _ => Ok(()),
    };
    let one = works(&kafka, "one", waits).await;
    consume(&one.input).await;
    one.input.publish([paid("good", 0), paid("bad", 1), paid("good", 2), paid("other", 3)]).await.unwrap();
    assert_eq!(names(&seen.count(3).await), ["0", "2", "3"], "the waiting one holds up nobody's products");
    one.input.shutdown(Duration::from_secs(10)).await.unwrap();

    let two = works(&kafka, "one", |_, _| Ok(())).await;
    consume(&two.input).await;
    seen.count(4).await;
    two.output.publish(closed("last")).await.unwrap();
    assert_eq!(names(&seen.count(5).await), ["0", "1", "2", "3", "last"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_name_somebody_else_takes_stops() {
    let kafka = kafka();
    let (_reader, seen) = products(&kafka).await;
    let one = works(&kafka, "same", |_, _| Ok(())).await;
    let consuming = consume(&one.input).await;
    one.input.publish(paid("a", 0)).await.unwrap();
    seen.count(1).await;
    let two = works(&kafka, "same", |_, _| Ok(())).await;
    let _second = two.input.start_consuming_in_background().unwrap();
    let publisher = connected(config(&kafka, "publisher")).await;
    let ended = tokio::spawn(consuming.ended());
    let mut number = 1;
    within("end", async {
        while !ended.is_finished() {
            publisher.publish(paid("a", number)).await.unwrap();
            number += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let error = ended.await.unwrap().unwrap_err();
    assert!(matches!(error, BusError::Backend { doing: "committing a transaction", .. }), "{error:?}");
    let all = seen.count(number as usize).await;
    let mut once = names(&all);
    once.dedup();
    assert_eq!(once.len(), all.len(), "some were published twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_once_asks_for_what_it_needs() {
    let refused = KafkaEventBusConfig::builder().exactly_once(true).enable_idempotence(false).build();
    assert!(matches!(refused, Err(ConfigError::Contradiction { .. })), "{refused:?}");

    let kafka = kafka();
    let bus = connected(config(&kafka, "one")).await;
    let (within, seen) = (bus.clone(), Seen::default());
    let note = seen.clone();
    bus.subscribe(move |_: Event<Paid>| {
        let (bus, note) = (within.clone(), note.clone());
        async move { note.note(bus.publish_batch(closed("a")).await.map(drop).unwrap_err().to_string()) }
    })
    .unwrap();
    consume(&bus).await;
    bus.publish(paid("a", 1)).await.unwrap();
    assert!(seen.count(1).await[0].contains("inside of a handler"));
}
