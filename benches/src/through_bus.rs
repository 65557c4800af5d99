//! The same load twice: through the bus, and through the client the bus is built on, with the same settings.

use crate::{PARTITIONS, Peer, Topic};
use anyhow::{Context, Result, ensure};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Header, Headers as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::util::Timeout;
use rdkafka::{ClientConfig, ClientContext, Message as _};
use rehearsal_bus::config::{Compression, KafkaEventBusConfig, TopicNaming};
use rehearsal_bus::{EventBus as _, KafkaEventBus, RetryScope, prelude::*};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// No step of a bench takes this long unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(120);
/// How many aggregates the events are about.
const ACCOUNTS: u64 = 1_000;
/// Events per call of `publish`.
const EVENTS_PER_CALL: u64 = 1_000;
/// Calls of `publish` under way at a time.
const CALLS: u64 = 8;
/// What a handler takes in [`handle_slowly`].
const SLOW_HANDLER: Duration = Duration::from_millis(5);
/// How often the bare client is given time to report deliveries.
const POLL_EVERY: u64 = 1_000;
/// Sizes and waits of the batches, for both sides: the bus's preset for throughput, acknowledged by all.
const BATCH_BYTES: u32 = 1_024 * 1_024;
const LINGER_MS: u32 = 20;

/// What travels: two fields and, beside it, the metadata of every event.
#[derive(DomainEvent, Serialize, Deserialize, Debug)]
#[event(aggregate = "Account")]
pub struct Paid {
    /// Whose account.
    #[event(aggregate_id)]
    pub account: String,
    /// Which payment.
    pub number: u64,
}

/// The `number`-th event of a load.
pub fn paid(number: u64) -> Paid {
    Paid { account: format!("account-{}", number % ACCOUNTS), number }
}

/// Makes events, as the bus would be asked to publish them.
fn events(numbers: std::ops::Range<u64>) -> Vec<AnyEvent> {
    numbers.map(|number| paid(number).into_event()).collect()
}

/// A bus on an existing topic, in a group of its own.
///
/// # Errors
/// When it cannot connect.
pub async fn bus(peer: &Peer, topic: &Topic<'_>) -> Result<KafkaEventBus> {
    let name = topic.name().to_owned();
    let config = KafkaEventBusConfig::builder()
        .bootstrap_servers(peer.bootstrap())
        .topic_naming(TopicNaming::custom(move |_| name.clone()))
        .consumer_group(fresh_group())
        .topic_partitions(PARTITIONS)
        .producer_batch_bytes(BATCH_BYTES)
        .producer_linger_ms(LINGER_MS)
        .compression(Compression::Lz4)
        .build()?;
    let bus = KafkaEventBus::with_registry(config, &EventRegistry::new());
    bus.connect().await?;
    Ok(bus)
}

fn fresh_group() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("bench-bus-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Publishes `count` events through the bus, some calls side by side, and waits for their acknowledgements.
///
/// # Errors
/// When one of them is not acknowledged.
pub async fn publish_through_the_bus(bus: &KafkaEventBus, count: u64) -> Result<Duration> {
    bus.publish(events(0..PARTITIONS as u64)).await?;
    let started = Instant::now();
    let next = Arc::new(AtomicU64::new(0));
    let calls = (0..CALLS).map(|_| {
        let (bus, next) = (bus.clone(), next.clone());
        tokio::spawn(async move {
            loop {
                let first = next.fetch_add(EVENTS_PER_CALL, Ordering::Relaxed);
                if first >= count {
                    return Ok::<_, BusError>(());
                }
                bus.publish(events(first..count.min(first + EVENTS_PER_CALL))).await?;
            }
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await??;
    }
    Ok(started.elapsed())
}

/// Handles the `count` events of a topic through the bus; from the first one's handler to the last one's.
///
/// # Errors
/// When they do not come.
pub async fn handle_through_the_bus(bus: &KafkaEventBus, count: u64) -> Result<Duration> {
    let (handled, began, done) = (Arc::new(AtomicU64::new(0)), Arc::new(OnceLock::new()), Arc::new(Notify::new()));
    let (seen, first, all) = (handled.clone(), began.clone(), done.clone());
    bus.subscribe(move |_: Event<Paid>| {
        first.get_or_init(Instant::now);
        if seen.fetch_add(1, Ordering::Relaxed) + 1 == count {
            all.notify_one();
        }
    })?;
    bus.start_consuming_in_background()?.assigned().await;
    let ended = tokio::time::timeout(PATIENCE, done.notified()).await;
    ended.with_context(|| format!("{} of {count} events handled", handled.load(Ordering::Relaxed)))?;
    let took = began.get().context("no event")?.elapsed();
    bus.stop_consuming().await?;
    Ok(took)
}

/// Handles `count` events about a thousand aggregates in one partition, by handlers that take 5 ms each; from the first
/// one's start to the last one's end. `scope` decides what goes on side by side.
///
/// # Errors
/// When they do not come.
pub async fn handle_slowly(peer: &Peer, count: u64, scope: RetryScope) -> Result<Duration> {
    let config = KafkaEventBusConfig::builder()
        .bootstrap_servers(peer.bootstrap())
        .topic_prefix(fresh_group())
        .consumer_group(fresh_group())
        .topic_partitions(1)
        .retry_scope(scope)
        .build()?;
    let bus = KafkaEventBus::with_registry(config, &EventRegistry::new());
    bus.connect().await?;
    bus.publish(events(0..count)).await?;
    let (handled, began, done) = (Arc::new(AtomicU64::new(0)), Arc::new(OnceLock::new()), Arc::new(Notify::new()));
    let (first, all) = (began.clone(), done.clone());
    bus.subscribe(move |_: Event<Paid>| {
        first.get_or_init(Instant::now);
        let (handled, all) = (handled.clone(), all.clone());
        async move {
            tokio::time::sleep(SLOW_HANDLER).await;
            if handled.fetch_add(1, Ordering::Relaxed) + 1 == count {
                all.notify_one();
            }
        }
    })?;
    bus.start_consuming_in_background()?.assigned().await;
    tokio::time::timeout(PATIENCE, done.notified()).await.context("not all events were handled")?;
    let took = began.get().context("no event")?.elapsed();
    bus.shutdown(Duration::from_secs(10)).await?;
    Ok(took)
}

/// The client the bus is built on, asked directly.
pub struct Bare {
    producer: BaseProducer<Deliveries>,
}

#[derive(Default)]
struct Deliveries {
    good: AtomicU64,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        self.good.fetch_add(u64::from(result.is_ok()), Ordering::Relaxed);
    }
}

impl Bare {
    /// Connects to a broker with the settings of [`bus`].
    ///
    /// # Errors
    /// When the client cannot be made.
    pub fn connect(peer: &Peer) -> Result<Self> {
        let mut settings = ClientConfig::new();
        settings
            .set("bootstrap.servers", peer.bootstrap())
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("compression.type", "lz4")
            .set("batch.size", BATCH_BYTES.to_string())
            .set("linger.ms", LINGER_MS.to_string());
        Ok(Self { producer: settings.create_with_context(Deliveries::default())? })
    }

    /// Writes the records the bus would write for `count` events, and waits for their acknowledgements. With
    /// `encoding` it makes the records from events, as the bus does; without, from texts that were ready before.
    ///
    /// # Errors
    /// When one of them is not acknowledged.
    pub fn publish(&self, topic: &Topic<'_>, count: u64, encoding: bool) -> Result<Duration> {
        self.producer.client().fetch_metadata(Some(topic.name()), PATIENCE)?;
        let ready = Encoded::of(&paid(0).into_event())?;
        for number in 0..PARTITIONS as u64 {
            self.send(topic, &paid(number).account, &ready)?;
        }
        self.producer.flush(PATIENCE)?;
        let before = self.producer.context().good.load(Ordering::Relaxed);
        let started = Instant::now();
        for number in 0..count {
            let event = paid(number);
            if encoding {
                let event = event.into_event();
                self.send(topic, event.aggregate_id().as_str(), &Encoded::of(&event)?)?;
            } else {
                self.send(topic, &event.account, &ready)?;
            }
            if number % POLL_EVERY == 0 {
                self.producer.poll(Duration::ZERO);
            }
        }
        self.producer.flush(PATIENCE).context("not everything was acknowledged")?;
        let took = started.elapsed();
        let acknowledged = self.producer.context().good.load(Ordering::Relaxed) - before;
        ensure!(acknowledged == count, "{acknowledged} of {count} records were acknowledged");
        Ok(took)
    }

    fn send(&self, topic: &Topic<'_>, key: &str, encoded: &Encoded) -> Result<()> {
        let mut headers = OwnedHeaders::new_with_capacity(encoded.headers.len());
        for (name, value) in &encoded.headers {
            headers = headers.insert(Header { key: name, value: Some(value) });
        }
        let mut record = BaseRecord::to(topic.name()).key(key).payload(&encoded.value[..]).headers(headers);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    self.producer.poll(Timeout::After(Duration::from_millis(100)));
                    record = back;
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }

    /// Reads `count` records through a group, committing every half second; from the first to the last. With
    /// `decoding` it also makes each into an event again, as a handler needs it.
    ///
    /// # Errors
    /// When they do not come.
    pub fn read(peer: &Peer, topic: &Topic<'_>, count: u64, decoding: bool) -> Result<Duration> {
        let mut settings = ClientConfig::new();
        settings
            .set("bootstrap.servers", peer.bootstrap())
            .set("group.id", fresh_group())
            .set("auto.offset.reset", "earliest")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("enable.auto.commit", "false");
        let consumer: BaseConsumer = settings.create()?;
        consumer.subscribe(&[topic.name()])?;
        let kind = rehearsal_bus::EventType::of::<Paid>();
        let (mut seen, mut began, mut committed) = (0, None, Instant::now());
        let deadline = Instant::now() + PATIENCE;
        while seen < count {
            ensure!(Instant::now() < deadline, "{seen} of {count} records came");
            let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
            let message = message?;
            began.get_or_insert_with(Instant::now);
            if decoding {
                let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
                let headers = headers.filter_map(|header| Some((header.key, header.value?)));
                let wire = rehearsal_bus::WireMetadata::from_headers(headers);
                let event = kind.read_json(message.payload().unwrap_or_default(), wire)?;
                ensure!(event.is::<Paid>(), "an event of another type");
            }
            seen += 1;
            if committed.elapsed() > Duration::from_millis(500) {
                consumer.commit_consumer_state(CommitMode::Async)?;
                committed = Instant::now();
            }
        }
        Ok(began.context("no record")?.elapsed())
    }
}

/// A record's value and headers, as the bus writes them.
struct Encoded {
    value: Vec<u8>,
    headers: Vec<(String, String)>,
}

impl Encoded {
    fn of(event: &AnyEvent) -> Result<Self> {
        let headers = event.metadata().to_headers().into_iter();
        let mut headers: Vec<_> = headers.map(|(name, value)| (name.to_owned(), value)).collect();
        headers.push(("content-type".into(), "application/json".into()));
        Ok(Self { value: event.to_json()?, headers })
    }
}
