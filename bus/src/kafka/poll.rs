//! The thread that reads: it polls the client, says what is to be done with each record, and passes both on.
//!
//! Rebalances arrive inside `poll`. Waiting there for handlers would wait for oneself, and returning at once would
//! lose the right to commit; so the callback only reports. The partitions stay ours until the driver, done with them,
//! hands them back.

use super::client::Watcher;
use super::record::{Record, TARGET_GROUP};
use crate::config::UnknownType;
use crate::engine::{Delivered, Errand, Partition};
use crate::registry::EventRegistry;
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;
use rdkafka::types::RDKafkaRespErr;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// What the reading thread tells the driver, in the order in which it happened.
pub(super) enum News {
    /// These partitions are ours.
    Assigned(Vec<Partition>),
    /// The group wants these back.
    Revoking(Vec<Partition>),
    /// These are gone already.
    Lost(Vec<Partition>),
    /// Records, in log order per partition.
    Records(Vec<Delivered<Arc<Record>>>),
    /// The client can go on no longer.
    Broken(KafkaError),
}

/// What the driver asks of the reading thread. Pausing beside a poll would let the client forget that a record was
/// handed out just then, and hand it out again after the pause.
pub(super) enum Fetching {
    Pause(Vec<Partition>),
    Resume(Vec<Partition>),
}

/// Batches on their way to the driver. Few: what waits here is not counted by the engine's bounds.
pub(super) const BATCHES_MAX: usize = 4;

/// Records passed on at a time. Enough to make the hand-over cheap, few enough not to overshoot a pause by much.
const BATCH_RECORDS_MAX: usize = 256;

/// How long one poll waits. It bounds how late a stop is noticed; records and rebalances end it at once.
const POLL: Duration = Duration::from_millis(50);

/// The same while partitions are paused: it bounds how late they are resumed.
const POLL_PAUSED: Duration = Duration::from_millis(2);

pub(super) type Reader = BaseConsumer<Reporter>;

/// The client's callbacks.
pub(super) struct Reporter {
    news: mpsc::Sender<News>,
    watcher: Watcher,
    closing: AtomicBool,
}

impl Reporter {
    pub(super) fn new(news: mpsc::Sender<News>, watcher: Watcher) -> Self {
        Self { news, watcher, closing: AtomicBool::new(false) }
    }

    /// From now on partitions are handed back at once: nobody works on them any more.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// A broker has answered.
    pub(super) fn alive(&self) {
        self.watcher.alive();
    }

    fn report(&self, news: News) -> bool {
        self.news.blocking_send(news).is_ok()
    }
}

impl ClientContext for Reporter {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.watcher.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.watcher.error(error, reason);
    }
}

impl ConsumerContext for Reporter {
    fn rebalance(&self, reader: &Reader, what: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let named = numbered(partitions);
        if self.closing.load(Ordering::Acquire) {
            log_failure("giving partitions back", give_back(reader, partitions));
        } else if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            tracing::info!(partitions = ?indexes(&named), "partitions assigned");
            log_failure("taking partitions", take(reader, partitions));
            // The client keeps a partition paused over its revocation; one that comes back must be read again.
            log_failure("reading partitions again", reader.resume(partitions));
            self.report(News::Assigned(named));
        } else if reader.assignment_lost() {
            tracing::warn!(partitions = ?indexes(&named), "partitions lost; what was in work for them runs again elsewhere");
            log_failure("giving partitions back", give_back(reader, partitions));
            self.report(News::Lost(named));
        } else {
            tracing::info!(partitions = ?indexes(&named), "partitions revoked; finishing what is in work");
            log_failure("pausing partitions", reader.pause(partitions));
            if !self.report(News::Revoking(named)) {
                log_failure("giving partitions back", give_back(reader, partitions));
            }
        }
    }
}

fn take(reader: &Reader, partitions: &TopicPartitionList) -> KafkaResult<()> {
    match reader.rebalance_protocol() {
        RebalanceProtocol::Cooperative => reader.incremental_assign(partitions),
        RebalanceProtocol::Eager | RebalanceProtocol::None => reader.assign(partitions),
    }
}

/// Tells the group that these partitions are free.
pub(super) fn give_back(reader: &Reader, partitions: &TopicPartitionList) -> KafkaResult<()> {
    match reader.rebalance_protocol() {
        RebalanceProtocol::Cooperative => reader.incremental_unassign(partitions),
        RebalanceProtocol::Eager | RebalanceProtocol::None => reader.unassign(),
    }
}

fn log_failure(doing: &str, result: KafkaResult<()>) {
    if let Err(error) = result {
        tracing::error!(%error, "{doing} failed");
    }
}

fn numbered(partitions: &TopicPartitionList) -> Vec<Partition> {
    partitions.elements().iter().map(|element| Partition { topic: 0, index: element.partition() }).collect()
}

fn indexes(partitions: &[Partition]) -> Vec<i32> {
    partitions.iter().map(|partition| partition.index).collect()
}

/// Reads until told to stop or until nobody listens any more.
pub(super) fn read(
    reader: &Reader,
    sorter: &Sorter,
    news: &mpsc::Sender<News>,
    asked: &std::sync::mpsc::Receiver<Fetching>,
    stop: &AtomicBool,
) {
    let mut paused = BTreeSet::new();
    while !stop.load(Ordering::Acquire) {
        for asked in asked.try_iter() {
            obey(reader, &sorter.topic, asked, &mut paused);
        }
        let mut batch = Vec::new();
        let mut next = reader.poll(if paused.is_empty() { POLL } else { POLL_PAUSED });
        // A rebalance makes `poll` return nothing, so no batch holds records from before and after one.
        while let Some(read) = next {
            match read {
                Ok(message) => {
                    reader.context().alive();
                    batch.push(sorter.sort(&message));
                }
                Err(error @ KafkaError::MessageConsumptionFatal(_)) => {
                    let _ = news.blocking_send(News::Broken(error));
                    return;
                }
                Err(error) => reader.context().watcher.could_not_read(&error),
            }
            next = if batch.len() < BATCH_RECORDS_MAX { reader.poll(Duration::ZERO) } else { None };
        }
        if !batch.is_empty() && news.blocking_send(News::Records(batch)).is_err() {
            return;
        }
    }
}

fn obey(reader: &Reader, topic: &str, asked: Fetching, paused: &mut BTreeSet<Partition>) {
    match asked {
        Fetching::Pause(partitions) => {
            log_failure("pausing partitions", reader.pause(&list(topic, &partitions)));
            paused.extend(partitions);
        }
        Fetching::Resume(partitions) => {
            log_failure("resuming partitions", reader.resume(&list(topic, &partitions)));
            paused.retain(|partition| !partitions.contains(partition));
        }
    }
}

/// Partitions the way the client wants them.
pub(super) fn list(topic: &str, partitions: &[Partition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(topic, partition.index);
    }
    list
}

/// Decides from a record's headers alone what is to be done with it.
pub(super) struct Sorter {
    pub(super) topic: Arc<str>,
    pub(super) group: Arc<str>,
    pub(super) registry: EventRegistry,
    pub(super) unknown_type: UnknownType,
}

impl Sorter {
    fn sort(&self, message: &BorrowedMessage<'_>) -> Delivered<Arc<Record>> {
        let record = Record::read(&self.topic, message);
        let errand = self.errand(&record);
        Delivered {
            partition: Partition { topic: 0, index: record.partition },
            offset: record.offset,
            key: record.key.clone(),
            payload: Arc::new(record),
            errand,
        }
    }

    fn errand(&self, record: &Record) -> Errand {
        if record.header(TARGET_GROUP).is_some_and(|group| group != self.group.as_bytes()) {
            return Errand::Skip;
        }
        let Some(event_type) = record.event_type() else {
            return bury("MissingEventType", "the record has no readable event_type header");
        };
        if record.value.is_none() {
            return bury("MissingValue", "the record has no value");
        }
        if self.registry.get(event_type).is_some() {
            return Errand::Handle;
        }
        let problem = format!("no event type {event_type:?} is registered here");
        match self.unknown_type {
            UnknownType::Skip => {
                tracing::debug!(
                    event_type,
                    partition = record.partition,
                    offset = record.offset,
                    "unknown type skipped"
                );
                Errand::Skip
            }
            UnknownType::DeadLetter => bury("UnknownEventType", problem),
            UnknownType::Fail => Errand::Halt { reason: problem },
        }
    }
}

fn bury(error_type: &str, message: impl Into<String>) -> Errand {
    Errand::Bury { error_type: error_type.to_owned(), message: message.into() }
}
