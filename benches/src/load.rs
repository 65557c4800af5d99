//! One client configuration for every broker, and the loads the benches put on them.

use crate::{PARTITIONS, Peer, Topic};
use anyhow::{Context, Result, bail, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::util::Timeout;
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Size of every record's value; there is no key and no header.
pub const RECORD_BYTES: usize = 100;
/// No step of a bench takes this long unless something is wrong.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the client is given time to report deliveries.
const POLL_EVERY: u64 = 1_000;

/// A producer with `acks=all` and idempotence, otherwise librdkafka's defaults.
pub struct Producer(BaseProducer<Deliveries>);

#[derive(Default)]
struct Deliveries {
    good: AtomicU64,
    bad: AtomicU64,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let counter = if result.is_ok() { &self.good } else { &self.bad };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Producer {
    /// Connects to a broker.
    ///
    /// # Errors
    /// When the client cannot be made.
    pub fn connect(peer: &Peer) -> Result<Self> {
        let mut config = client(peer);
        config.set("acks", "all").set("enable.idempotence", "true");
        Ok(Self(config.create_with_context(Deliveries::default())?))
    }

    /// Writes one record to every partition, so that connections and metadata are there before anything is timed.
    ///
    /// # Errors
    /// As [`Producer::send`].
    pub fn warm_up(&self, topic: &Topic<'_>) -> Result<()> {
        self.0.client().fetch_metadata(Some(topic.name()), PATIENCE)?;
        self.send(topic, PARTITIONS as u64)
    }

    /// Writes records round robin over the partitions, and returns when all are acknowledged.
    ///
    /// # Errors
    /// When one of them is not.
    pub fn send(&self, topic: &Topic<'_>, records: u64) -> Result<()> {
        let deliveries = self.0.context();
        let before = deliveries.good.load(Ordering::Relaxed);
        let value = [b'x'; RECORD_BYTES];
        for count in 0..records {
            let partition = (count % PARTITIONS as u64) as i32;
            self.send_one(BaseRecord::to(topic.name()).partition(partition).payload(&value[..]))?;
            if count % POLL_EVERY == 0 {
                self.0.poll(Duration::ZERO);
            }
        }
        self.0.flush(PATIENCE).context("not everything was acknowledged")?;
        let acknowledged = deliveries.good.load(Ordering::Relaxed) - before;
        ensure!(deliveries.bad.load(Ordering::Relaxed) == 0, "a record was refused");
        ensure!(acknowledged == records, "{acknowledged} of {records} records were acknowledged");
        Ok(())
    }

    fn send_one(&self, mut record: BaseRecord<'_, (), [u8]>) -> Result<()> {
        loop {
            match self.0.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    self.0.poll(Timeout::After(Duration::from_millis(100)));
                    record = back;
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }
}

/// A consumer that reads assigned partitions from their beginning.
pub struct Consumer(BaseConsumer);

impl Consumer {
    /// Connects to a broker.
    ///
    /// # Errors
    /// When the client cannot be made, or the broker does not answer.
    pub fn connect(peer: &Peer) -> Result<Self> {
        let mut config = client(peer);
        config.set("group.id", "bench").set("enable.auto.commit", "false");
        // By default the client stops fetching for a second whenever 100,000 records wait to be polled; then it would
        // be that pause which is measured, not the broker.
        config.set("queued.min.messages", "10000000").set("queued.max.messages.kbytes", "2097151");
        let consumer: BaseConsumer = config.create()?;
        consumer.fetch_metadata(None, PATIENCE)?;
        Ok(Self(consumer))
    }

    /// Reads the first `records` records of a topic.
    ///
    /// # Errors
    /// When they do not come.
    pub fn read(&self, topic: &Topic<'_>, records: u64) -> Result<()> {
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition_range(topic.name(), 0, PARTITIONS - 1);
        partitions.set_all_offsets(Offset::Beginning)?;
        self.0.assign(&partitions)?;
        for count in 0..records {
            let message =
                self.0.poll(PATIENCE).with_context(|| format!("record {count} of {records} does not come"))?;
            ensure!(message?.payload_len() == RECORD_BYTES, "record {count} is not what was written");
        }
        self.0.unassign()?;
        Ok(())
    }
}

/// How long a new member of a new group waits for its first record: connect, find the coordinator, join, sync, fetch.
///
/// # Errors
/// When no record comes.
pub fn first_record_through_a_group(peer: &Peer, topic: &Topic<'_>) -> Result<Duration> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let group = format!("bench-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let mut config = client(peer);
    config.set("group.id", group).set("auto.offset.reset", "earliest").set("enable.auto.commit", "false");
    let started = Instant::now();
    let consumer: BaseConsumer = config.create()?;
    consumer.subscribe(&[topic.name()])?;
    while started.elapsed() < PATIENCE {
        // An assignment ends a poll early and without a record.
        if let Some(message) = consumer.poll(PATIENCE) {
            return message.map(|_| started.elapsed()).map_err(Into::into);
        }
    }
    bail!("no record came through the group within {PATIENCE:?}")
}

fn client(peer: &Peer) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", peer.bootstrap());
    config
}
