//! The algorithm of eventsource-py 0.14.0's Kafka bus, as far as its defects need it: one consumer per bus whose
//! messages are handled one after the other, all handlers of each in turn, one commit a message; a failed message is
//! produced once more, behind its successors, and slept over when it is read again; dead letters and retries are sent
//! and not awaited.

use super::{Handler, Setup, Subject};
use crate::support::{Paid, until};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use rehearsal_bus::prelude::*;
use rehearsal_mockbroker::testing::MockCluster;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub(super) struct Origin {
    setup: Setup,
    producer: FutureProducer,
    consumer: Arc<BaseConsumer>,
    stop: Arc<AtomicBool>,
    failures: Arc<AtomicU64>,
    polling: Option<std::thread::JoinHandle<()>>,
    handling: JoinHandle<()>,
}

impl Subject for Origin {
    async fn member(kafka: &MockCluster, setup: Setup, handlers: Vec<Handler>) -> Self {
        for (topic, partitions) in [(setup.topic(), setup.partitions), (setup.dlq(), setup.partitions)] {
            // The second member finds them there.
            let _ = kafka.create_topic(&topic, partitions);
        }
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", kafka.bootstrap_servers());
        // O11: no `enable.idempotence`, though order is promised.
        let producer: FutureProducer = client.clone().set("acks", "all").create().expect("a producer");
        client.set("group.id", setup.group).set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
        client.set("session.timeout.ms", "10000").set("heartbeat.interval.ms", "200");
        // O1: the listener that should commit before partitions go is made and never handed to the consumer.
        let consumer: Arc<BaseConsumer> = Arc::new(client.create().expect("a consumer"));
        consumer.subscribe(&[&setup.topic()]).expect("a subscription");

        // As with aiokafka, the group is kept company in the background whatever the loop is busy with.
        let (stop, (fetched, mut messages)) = (Arc::new(AtomicBool::new(false)), mpsc::unbounded_channel());
        let polling = std::thread::spawn({
            let (consumer, stop) = (consumer.clone(), stop.clone());
            move || {
                while !stop.load(Ordering::SeqCst) {
                    if let Some(Ok(message)) = consumer.poll(Duration::from_millis(5)) {
                        let _ = fetched.send(message.detach());
                    }
                }
            }
        });
        let failures = Arc::new(AtomicU64::new(0));
        let bus = Loop {
            setup: setup.clone(),
            producer: producer.clone(),
            consumer: consumer.clone(),
            failures: failures.clone(),
        };
        let handling = tokio::spawn(async move {
            while let Some(message) = messages.recv().await {
                if bus.owns(&message) {
                    bus.process(&message, &handlers).await;
                }
            }
        });
        let assigned = || consumer.assignment().is_ok_and(|partitions| partitions.count() > 0);
        until("partitions", assigned).await;
        Self { setup, producer, consumer, stop, failures, polling: Some(polling), handling }
    }

    async fn put(&self, events: Vec<Paid>) {
        for event in events {
            let event = event.into_event();
            let headers = OwnedHeaders::new().insert(Header { key: "event_type", value: Some("Paid") });
            let (topic, value) = (self.setup.topic(), event.to_json().expect("JSON"));
            let key = event.aggregate_id().as_str();
            let record = FutureRecord::to(&topic).key(key).payload(&value).headers(headers);
            self.producer.send(record, Duration::from_secs(30)).await.expect("an acknowledgement");
        }
    }

    fn rebalances(&self) -> u64 {
        // What its statistics say; only the listener would count.
        0
    }

    fn failures(&self) -> u64 {
        self.failures.load(Ordering::SeqCst)
    }

    async fn dead_letters(&self) -> u64 {
        // O10: the difference of the watermarks, which no replay makes smaller.
        let watermarks =
            |partition| self.consumer.fetch_watermarks(&self.setup.dlq(), partition, PATIENCE).expect("them");
        (0..self.setup.partitions).map(watermarks).map(|(low, high)| u64::try_from(high - low).unwrap_or(0)).sum()
    }

    async fn replay(&self, partition: i32, offset: i64) -> bool {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.setup.bootstrap).set("group.id", "throw-away");
        let reader: BaseConsumer = client.create().expect("a consumer");
        let mut place = TopicPartitionList::new();
        place.add_partition_offset(&self.setup.dlq(), partition, Offset::Offset(offset)).expect("a place");
        reader.assign(&place).expect("an assignment");
        let Some(Ok(letter)) = reader.poll(PATIENCE) else { return false };
        let kept = |name: &str| !name.starts_with("dlq_") && !name.starts_with("retry_");
        let headers = copied(letter.headers(), kept);
        let topic = self.setup.topic();
        let record = FutureRecord::to(&topic).key(letter.key().unwrap_or_default());
        let record = record.payload(letter.payload().unwrap_or_default()).headers(headers);
        // O5: `send`, which does not wait, and then the answer is "replayed".
        drop(self.producer.send_result(record).expect("room"));
        true
    }

    async fn crash(mut self) {
        self.end();
    }
}

impl Origin {
    fn end(&mut self) {
        self.handling.abort();
        self.stop.store(true, Ordering::SeqCst);
        if let Some(polling) = self.polling.take() {
            polling.join().expect("no panic");
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.end();
    }
}

const PATIENCE: Duration = Duration::from_secs(30);

struct Loop {
    setup: Setup,
    producer: FutureProducer,
    consumer: Arc<BaseConsumer>,
    failures: Arc<AtomicU64>,
}

impl Loop {
    /// What was fetched of a partition that has gone meanwhile is thrown away.
    fn owns(&self, message: &OwnedMessage) -> bool {
        let assigned = self.consumer.assignment();
        assigned.is_ok_and(|places| places.find_partition(message.topic(), message.partition()).is_some())
    }

    async fn process(&self, message: &OwnedMessage, handlers: &[Handler]) {
        match header(message, "event_type").as_deref() {
            // O6: committed and dropped.
            None => {}
            Some("Paid") => {
                self.await_retry_after(message).await;
                self.dispatch(message, handlers).await;
            }
            // O7: a type of another group's is a dead letter here.
            Some(_) => self.send_to_dlq(message, "deserialization_error"),
        }
        let mut position = TopicPartitionList::new();
        let next = Offset::Offset(message.offset() + 1);
        position.add_partition_offset(message.topic(), message.partition(), next).expect("a place");
        // It may not be ours any more; the origin logs that and goes on.
        let _ = self.consumer.commit(&position, CommitMode::Async);
    }

    /// O4: sleeps in the loop, and with it every partition.
    async fn await_retry_after(&self, message: &OwnedMessage) {
        let due = header(message, "retry_after").and_then(|due| due.parse::<u64>().ok()).unwrap_or(0);
        tokio::time::sleep(Duration::from_millis(due.saturating_sub(now()))).await;
    }

    /// O8: all handlers run, also those that succeeded the last time.
    async fn dispatch(&self, message: &OwnedMessage, handlers: &[Handler]) {
        let event: Paid = serde_json::from_slice(message.payload().unwrap_or_default()).expect("an event");
        let mut failed = false;
        for handler in handlers {
            failed |= handler(event.clone()).await.is_err();
        }
        let retries: u32 = header(message, "retry_count").and_then(|count| count.parse().ok()).unwrap_or(0);
        match failed {
            false => return,
            true if retries < self.setup.max_retries => self.republish_for_retry(message, retries + 1),
            true => self.send_to_dlq(message, "max_retries_exceeded"),
        }
        self.failures.fetch_add(1, Ordering::SeqCst);
    }

    /// O2, O3: behind its successors, to the topic that all groups read.
    fn republish_for_retry(&self, message: &OwnedMessage, retries: u32) {
        let due = now() + u64::try_from(self.setup.delay.as_millis()).expect("a short delay");
        let headers = copied(message.headers(), |name| !name.starts_with("retry_"))
            .insert(Header { key: "retry_count", value: Some(&retries.to_string()) })
            .insert(Header { key: "retry_after", value: Some(&due.to_string()) });
        self.send(&self.setup.topic(), message, headers);
    }

    fn send_to_dlq(&self, message: &OwnedMessage, reason: &str) {
        let headers = copied(message.headers(), |_| true).insert(Header { key: "dlq_reason", value: Some(reason) });
        self.send(&self.setup.dlq(), message, headers);
    }

    /// O5: `send`, not `send_and_wait`.
    fn send(&self, topic: &str, message: &OwnedMessage, headers: OwnedHeaders) {
        let record = FutureRecord::to(topic).key(message.key().unwrap_or_default());
        let record = record.payload(message.payload().unwrap_or_default()).headers(headers);
        drop(self.producer.send_result(record).expect("room"));
    }
}

fn header(message: &OwnedMessage, name: &str) -> Option<String> {
    let header = message.headers()?.iter().find(|header| header.key == name)?;
    String::from_utf8(header.value?.to_vec()).ok()
}

fn copied(headers: Option<&impl Headers>, kept: impl Fn(&str) -> bool) -> OwnedHeaders {
    let all = headers.into_iter().flat_map(Headers::iter).filter(|header| kept(header.key));
    all.fold(OwnedHeaders::new(), |list, header| list.insert(Header { key: header.key, value: header.value }))
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970");
    u64::try_from(since.as_millis()).expect("a clock before the year 500,000,000")
}

/// O9: the span of a publish is started and never made current, so what is injected is the ambient context: in a
/// handler there is none.
pub(super) fn injected_while_handling(_handled: &[(&str, &str)], ambient: Option<&str>) -> Option<String> {
    ambient.map(str::to_owned)
}

/// O12: takes the option of a bound, and has no code that would obey it.
#[derive(Default)]
pub(super) struct Stream {
    pub(super) trim_to: Option<usize>,
    pub(super) entries: Vec<u32>,
}

impl Stream {
    pub(super) fn configured(option: &str, value: &str) -> Result<Self, String> {
        match option {
            "stream_max_len" => Ok(Self { trim_to: value.parse().ok(), ..Self::default() }),
            unknown => Err(format!("no option {unknown}")),
        }
    }

    pub(super) fn add(&mut self, entry: u32) {
        self.entries.push(entry);
    }
}

/// O13: a queue is bound to the direct exchange under its own name, and events are published under another.
#[derive(Default)]
pub(super) struct DirectExchange {
    bindings: std::collections::BTreeMap<String, Vec<u32>>,
}

impl DirectExchange {
    pub(super) fn work_queue(&mut self, queue: &str) {
        self.bindings.entry(queue.to_owned()).or_default();
    }

    pub(super) fn publish(&mut self, aggregate: &str, event: &str, number: u32) {
        if let Some(queue) = self.bindings.get_mut(&format!("{aggregate}.{event}")) {
            queue.push(number);
        }
    }

    pub(super) fn delivered(&self) -> usize {
        self.bindings.values().map(Vec::len).sum()
    }
}
