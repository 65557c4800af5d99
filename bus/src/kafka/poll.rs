//! The thread that reads: it polls the client, says what is to be done with each record, and passes both on.
//!
//! Rebalances arrive inside `poll`. Waiting there for handlers would wait for oneself, and returning at once would
//! lose the right to commit; so the callback only reports. The partitions stay ours until the driver, done with them,
//! hands them back.

use super::Shared;
use super::client::Watcher;
use super::record::{Record, TARGET_GROUP};
use crate::config::UnknownType;
use crate::engine::finished::{self, Run};
use crate::engine::{Delivered, Errand, Partition};
use crate::mutant::{self, Mutant};
use crate::registry::EventRegistry;
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread::Thread;
use std::time::Duration;
use tokio::sync::mpsc;

/// What the reading thread tells the driver, in the order in which it happened.
pub(super) enum News {
    /// These partitions are ours; of some is told what an earlier owner had finished beyond the committed position.
    Assigned(Vec<Partition>, Vec<(Partition, Vec<Run>)>),
    /// The group wants these back.
    Revoking(Vec<Partition>),
    /// These are gone already.
    Lost(Vec<Partition>),
    /// Records, in log order per partition.
    Records(Vec<Delivered<Arc<Record>>>),
    /// The client can go on no longer.
    Broken(KafkaError),
}

/// What the driver asks of the reading thread.
pub(super) enum Fetching {
    /// Take nothing from these partitions. The client goes on fetching ahead of us as far as its own bounds allow:
    /// telling it to pause would throw away what it has fetched, to fetch it again a moment later.
    Pause(Vec<Partition>),
    /// Take from them again.
    Resume(Vec<Partition>),
}

/// Batches on their way to the driver. Few: what waits here is not counted by the engine's bounds.
pub(super) const BATCHES_MAX: usize = 4;

/// Records passed on at a time. Enough to make the hand-over cheap, few enough not to overshoot a pause by much.
const BATCH_RECORDS_MAX: usize = 256;

/// How long the reading thread sleeps when nothing wakes it, far below any `max.poll.interval.ms`.
const NAP: Duration = Duration::from_millis(50);

/// How long a new owner waits to hear what is finished. Not long: nothing is polled meanwhile, and it only spares work.
const REMEMBER_PATIENCE: Duration = Duration::from_secs(2);

pub(super) type Reader = BaseConsumer<Reporter>;

/// Wakes the reading thread. Cloning shares it.
#[derive(Clone, Default)]
pub(super) struct Bell(Arc<OnceLock<Thread>>);

impl Bell {
    pub(super) fn ring(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}

/// The client's callbacks.
pub(super) struct Reporter {
    news: mpsc::Sender<News>,
    watcher: Watcher,
    closing: AtomicBool,
    bell: Bell,
    /// The client itself, once it is shared: a partition's queue needs it.
    reader: OnceLock<Weak<Reader>>,
    /// Whether to ask what was finished beyond the committed positions.
    remembers: bool,
    /// What the callback leaves for the reading thread, on which it runs.
    turns: Mutex<Vec<Turn>>,
}

enum Turn {
    Taken(i32, PartitionQueue<Reporter>),
    Gone(Vec<Partition>),
}

/// Shares a client between the threads that poll, commit and drive.
pub(super) fn shared(mut reader: Reader) -> (Arc<Reader>, Bell) {
    let bell = reader.context().bell.clone();
    let rung = bell.clone();
    reader.set_nonempty_callback(move || rung.ring());
    let reader = Arc::new(reader);
    let _ = reader.context().reader.set(Arc::downgrade(&reader));
    (reader, bell)
}

impl Reporter {
    pub(super) fn new(news: mpsc::Sender<News>, watcher: Watcher, remembers: bool) -> Self {
        let (closing, turns) = (AtomicBool::new(false), Mutex::default());
        Self { news, watcher, closing, bell: Bell::default(), reader: OnceLock::new(), remembers, turns }
    }

    /// Gives each partition a queue of its own, so that one that is full holds up no other and nothing of it has to be
    /// fetched twice. Called as soon as they are taken: fetching begins two requests later.
    fn split(&self, topic: &str, partitions: &[Partition]) {
        let Some(reader) = self.reader.get().and_then(Weak::upgrade) else { return };
        let mut turns = self.turns();
        for partition in partitions {
            match reader.split_partition_queue(topic, partition.index) {
                Some(mut queue) => {
                    let bell = self.bell.clone();
                    queue.set_nonempty_callback(move || bell.ring());
                    turns.push(Turn::Taken(partition.index, queue));
                }
                // Its records come with everything else the client has to say.
                None => tracing::error!(partition = partition.index, "no queue for a partition"),
            }
        }
    }

    /// What an earlier owner had finished beyond the positions it committed. When nobody tells, it runs again.
    fn remembered(&self, reader: &Reader, partitions: &TopicPartitionList) -> Vec<(Partition, Vec<Run>)> {
        if !self.remembers || partitions.count() == 0 {
            return Vec::new();
        }
        let committed = match reader.committed_offsets(partitions.clone(), REMEMBER_PATIENCE) {
            Ok(committed) => committed,
            Err(error) => {
                tracing::warn!(%error, "what was finished before is not known; it may run again");
                return Vec::new();
            }
        };
        let runs = committed.elements().into_iter().filter_map(|place| {
            // Anybody may have committed anything, and the client panics at what is no text.
            let text = std::panic::catch_unwind(|| place.metadata().to_owned()).unwrap_or_default();
            let finished = finished::from_text(place.offset().to_raw()?, &text);
            (!finished.is_empty()).then_some((Partition { topic: 0, index: place.partition() }, finished))
        });
        runs.collect()
    }

    fn turns(&self) -> std::sync::MutexGuard<'_, Vec<Turn>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn stats(&self, statistics: Statistics) {
        self.watcher.statistics(&statistics);
    }
}

impl ConsumerContext for Reporter {
    fn rebalance(&self, reader: &Reader, what: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let named = numbered(partitions);
        if self.closing.load(Ordering::Acquire) {
            log_failure("giving partitions back", give_back(reader, partitions));
        } else if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            tracing::info!(partitions = ?indexes(&named), "partitions assigned");
            // Before they are taken, so that nothing of them is read before it is known what need not run again.
            let remembered = self.remembered(reader, partitions);
            if mutant::is(Mutant::ResetsOnErrors)
                && reader.committed_offsets(partitions.clone(), REMEMBER_PATIENCE).is_err()
            {
                let _ = partitions.set_all_offsets(rdkafka::Offset::End);
            }
            log_failure("taking partitions", take(reader, partitions));
            if let Some(first) = partitions.elements().first() {
                self.split(first.topic(), &named);
            }
            self.report(News::Assigned(named, remembered));
        } else if reader.assignment_lost() {
            tracing::warn!(partitions = ?indexes(&named), "partitions lost; what was in work for them runs again elsewhere");
            self.turns().push(Turn::Gone(named.clone()));
            log_failure("giving partitions back", give_back(reader, partitions));
            self.report(News::Lost(named));
        } else {
            tracing::info!(partitions = ?indexes(&named), "partitions revoked; finishing what is in work");
            self.turns().push(Turn::Gone(named.clone()));
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

/// One partition's records, and whether they are wanted just now.
struct Outlet {
    queue: PartitionQueue<Reporter>,
    held: bool,
}

/// Reads until told to stop or until nobody listens any more.
pub(super) fn read(
    reader: &Reader,
    sorter: &Sorter,
    news: &mpsc::Sender<News>,
    asked: &std::sync::mpsc::Receiver<Fetching>,
    stop: &AtomicBool,
) {
    let _ = reader.context().bell.0.set(std::thread::current());
    let mut outlets = BTreeMap::new();
    let ended = read_on(reader, sorter, news, asked, stop, &mut outlets);
    if let Err(Some(error)) = ended {
        let _ = news.blocking_send(News::Broken(error));
    }
    // A queue holds the client, and the client its callbacks: neither would go.
    reader.context().turns().clear();
}

/// Ends with the client's error, or without one when nobody listens.
fn read_on(
    reader: &Reader,
    sorter: &Sorter,
    news: &mpsc::Sender<News>,
    asked: &std::sync::mpsc::Receiver<Fetching>,
    stop: &AtomicBool,
    outlets: &mut BTreeMap<i32, Outlet>,
) -> Result<(), Option<KafkaError>> {
    while !stop.load(Ordering::Acquire) {
        if mutant::is(Mutant::PollsBetweenHandlers) && sorter.shared.gauges.in_work.load(Ordering::Relaxed) > 0 {
            std::thread::park_timeout(NAP);
            continue;
        }
        let mut quiet = true;
        // Rebalances and errors first. A poll that serves one returns nothing, so it looks like the end; the bell has
        // rung for what comes after it.
        while let Some(read) = reader.poll(Duration::ZERO) {
            quiet = false;
            if let Some(record) = sorted(reader, sorter, read)? {
                news.blocking_send(News::Records(vec![record])).map_err(|_| None)?;
            }
        }
        for turn in reader.context().turns().drain(..) {
            quiet = false;
            match turn {
                Turn::Taken(index, queue) => drop(outlets.insert(index, Outlet { queue, held: false })),
                Turn::Gone(partitions) => partitions.iter().for_each(|gone| drop(outlets.remove(&gone.index))),
            }
        }
        for asked in asked.try_iter() {
            quiet = false;
            let (partitions, held) = match asked {
                Fetching::Pause(partitions) => (partitions, true),
                Fetching::Resume(partitions) => (partitions, false),
            };
            for partition in partitions {
                outlets.entry(partition.index).and_modify(|outlet| outlet.held = held);
            }
        }
        for outlet in outlets.values().filter(|outlet| !outlet.held) {
            let mut batch = Vec::new();
            while batch.len() < BATCH_RECORDS_MAX
                && let Some(read) = outlet.queue.poll(Duration::ZERO)
            {
                if batch.capacity() == 0 {
                    batch.reserve(BATCH_RECORDS_MAX);
                }
                batch.extend(sorted(reader, sorter, read)?);
            }
            if !batch.is_empty() {
                quiet = false;
                reader.context().alive();
                if mutant::is(Mutant::DropsBatchesWhenBusy) {
                    let _ = news.try_send(News::Records(batch));
                    continue;
                }
                news.blocking_send(News::Records(batch)).map_err(|_| None)?;
            }
        }
        if quiet {
            std::thread::park_timeout(NAP);
        }
    }
    Ok(())
}

/// What is to be done with what was read, if it is a record.
fn sorted(
    reader: &Reader,
    sorter: &Sorter,
    read: KafkaResult<BorrowedMessage<'_>>,
) -> Result<Option<Delivered<Arc<Record>>>, Option<KafkaError>> {
    match read {
        Ok(message) => Ok(Some(sorter.sort(&message))),
        Err(error @ KafkaError::MessageConsumptionFatal(_)) => Err(Some(error)),
        Err(error) => {
            reader.context().watcher.could_not_read(&error);
            Ok(None)
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
    pub(super) shared: Arc<Shared>,
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
