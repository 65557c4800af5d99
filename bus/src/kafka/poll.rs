//! The thread that reads: it polls the client, says what is to be done with each record, and passes both on.
//!
//! Rebalances arrive inside `poll`. Waiting there for handlers would wait for oneself, and returning at once would
//! lose the right to commit; so the callback only reports. The partitions stay ours until the driver, done with them,
//! hands them back.

use super::client::Watcher;
use super::record::{EVICTED, Record, SEQUENCE, TARGET_GROUP};
use super::sources::Sources;
use super::{Shared, deferred};
use crate::config::{KafkaEventBusConfig, UnknownType};
use crate::engine::finished::{self, Run};
use crate::engine::{Delivered, Errand, Offset, Partition, Past};
use crate::mutant::{self, Mutant};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Message, TopicPartitionList};
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

/// How often it asks when the coordinator has just moved, and how long it waits in between.
const REMEMBER_TRIES: u32 = 8;
const REMEMBER_PAUSE: Duration = Duration::from_millis(250);

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
    sources: Sources,
    closing: AtomicBool,
    bell: Bell,
    /// The client itself, once it is shared: a partition's queue needs it.
    reader: OnceLock<Weak<Reader>>,
    /// Whether to ask what was finished beyond the committed positions.
    remembers: Remembers,
    /// What the callback leaves for the reading thread, on which it runs.
    turns: Mutex<Vec<Turn>>,
}

/// What a new owner of a partition asks of what is finished beyond its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remembers {
    /// Nothing.
    Nothing,
    /// What is told at once.
    IfTold,
    /// Everything, however long it takes to hear.
    All,
}

impl Remembers {
    pub(super) fn of(config: &KafkaEventBusConfig) -> Self {
        match (config.commit_finished, config.exactly_once) {
            (false, _) => Self::Nothing,
            (true, false) => Self::IfTold,
            (true, true) => Self::All,
        }
    }
}

enum Turn {
    Taken(Partition, PartitionQueue<Reporter>),
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
    pub(super) fn new(news: mpsc::Sender<News>, watcher: Watcher, sources: Sources, remembers: Remembers) -> Self {
        let (closing, turns) = (AtomicBool::new(false), Mutex::default());
        Self { news, watcher, sources, closing, bell: Bell::default(), reader: OnceLock::new(), remembers, turns }
    }

    /// Gives each partition a queue of its own, so that one that is full holds up no other and nothing of it has to be
    /// fetched twice. Called as soon as they are taken: fetching begins two requests later.
    fn split(&self, partitions: &[Partition]) {
        let Some(reader) = self.reader.get().and_then(Weak::upgrade) else { return };
        let mut turns = self.turns();
        for partition in partitions {
            match reader.split_partition_queue(self.sources.name(partition.topic), partition.index) {
                Some(mut queue) => {
                    let bell = self.bell.clone();
                    queue.set_nonempty_callback(move || bell.ring());
                    turns.push(Turn::Taken(*partition, queue));
                }
                // Its records come with everything else the client has to say.
                None => tracing::error!(partition = partition.index, "no queue for a partition"),
            }
        }
    }

    /// What an earlier owner had finished beyond the positions it committed; when nobody tells, it runs again. The positions
    /// themselves are entered into the list.
    ///
    /// So the client need not ask for them. Where a coordinator that has just moved refuses it three times, it would never
    /// read these partitions (`rd_kafka_assignment_handle_OffsetFetch`, librdkafka 2.12: the answer names no partition, so
    /// none is taken off the list of those it waits for).
    #[expect(clippy::disallowed_methods, reason = "the reading thread; nothing tells when a coordinator is ready")]
    fn remembered(&self, reader: &Reader, partitions: &mut TopicPartitionList) -> Vec<(Partition, Vec<Run>)> {
        if self.remembers == Remembers::Nothing || partitions.count() == 0 {
            return Vec::new();
        }
        for attempt in 1.. {
            match committed(reader, &self.sources, partitions) {
                Ok(committed) => return self.enter(committed, partitions),
                // What it has published must not be published again. A transaction that an earlier owner left open hides
                // it until the brokers abort that; the group does not miss us meanwhile.
                Err(error) if self.remembers == Remembers::All && !self.closing.load(Ordering::Acquire) => {
                    tracing::warn!(%error, "what was finished before is not known yet; asking again");
                }
                Err(error) if attempt < REMEMBER_TRIES && has_moved(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "what was finished before is not known; it may run again");
                    break;
                }
            }
            std::thread::sleep(REMEMBER_PAUSE);
        }
        Vec::new()
    }

    /// Enters the committed positions; what is finished beyond them.
    fn enter(
        &self,
        committed: Vec<(Partition, Offset, Vec<Run>)>,
        partitions: &mut TopicPartitionList,
    ) -> Vec<(Partition, Vec<Run>)> {
        for (partition, position, _) in &committed {
            let name = self.sources.name(partition.topic);
            if let Some(mut place) = partitions.find_partition(name, partition.index) {
                log_failure("entering a position", place.set_offset(rdkafka::Offset::Offset(*position)));
            }
        }
        let runs = committed.into_iter().map(|(partition, _, finished)| (partition, finished));
        runs.filter(|(_, finished)| !finished.is_empty()).collect()
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

/// The positions a group has committed, and what is finished beyond each.
pub(super) fn committed(
    reader: &Reader,
    sources: &Sources,
    partitions: &TopicPartitionList,
) -> KafkaResult<Vec<(Partition, Offset, Vec<Run>)>> {
    let committed = reader.committed_offsets(partitions.clone(), REMEMBER_PATIENCE)?;
    let places = committed.elements().into_iter().filter_map(|place| {
        // Anybody may have committed anything, and the client panics at what is no text.
        let text = std::panic::catch_unwind(|| place.metadata().to_owned()).unwrap_or_default();
        let position = place.offset().to_raw().filter(|position| *position >= 0)?;
        let partition = sources.partition(place.topic(), place.partition())?;
        Some((partition, position, finished::from_text(position, &text)))
    });
    Ok(places.collect())
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
        let named = self.sources.numbered(partitions);
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
            self.split(&named);
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

/// Whether the group's coordinator is elsewhere, or not ready yet.
fn has_moved(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
    let code = error.rdkafka_error_code();
    matches!(code, Some(NotCoordinator | CoordinatorNotAvailable | CoordinatorLoadInProgress))
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
    outlets: &mut BTreeMap<Partition, Outlet>,
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
            let partition = read
                .as_ref()
                .ok()
                .and_then(|message| reader.context().sources.partition(message.topic(), message.partition()));
            if let Some(record) = sorted(reader, sorter, partition.unwrap_or(MAIN), read)? {
                news.blocking_send(News::Records(vec![record])).map_err(|_| None)?;
            }
        }
        for turn in reader.context().turns().drain(..) {
            quiet = false;
            match turn {
                Turn::Taken(partition, queue) => drop(outlets.insert(partition, Outlet { queue, held: false })),
                Turn::Gone(partitions) => partitions.iter().for_each(|gone| drop(outlets.remove(gone))),
            }
        }
        for asked in asked.try_iter() {
            quiet = false;
            let (partitions, held) = match asked {
                Fetching::Pause(partitions) => (partitions, true),
                Fetching::Resume(partitions) => (partitions, false),
            };
            for partition in partitions {
                outlets.entry(partition).and_modify(|outlet| outlet.held = held);
            }
        }
        for (partition, outlet) in outlets.iter().filter(|(_, outlet)| !outlet.held) {
            let mut batch = Vec::new();
            while batch.len() < BATCH_RECORDS_MAX
                && let Some(read) = outlet.queue.poll(Duration::ZERO)
            {
                if batch.capacity() == 0 {
                    batch.reserve(BATCH_RECORDS_MAX);
                }
                batch.extend(sorted(reader, sorter, *partition, read)?);
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
    partition: Partition,
    read: KafkaResult<BorrowedMessage<'_>>,
) -> Result<Option<Delivered<Arc<Record>>>, Option<KafkaError>> {
    match read {
        Ok(message) => Ok(Some(sorter.sort(partition, &message))),
        Err(error @ KafkaError::MessageConsumptionFatal(_)) => Err(Some(error)),
        Err(error) => {
            reader.context().watcher.could_not_read(&error);
            Ok(None)
        }
    }
}

/// What the client has no queue of its own for is of the only topic there is.
const MAIN: Partition = Partition { topic: 0, index: 0 };

/// Decides from a record's headers alone what is to be done with it.
pub(super) struct Sorter {
    pub(super) shared: Arc<Shared>,
}

impl Sorter {
    fn sort(&self, partition: Partition, message: &BorrowedMessage<'_>) -> Delivered<Arc<Record>> {
        let record = Record::read(self.shared.sources.name(partition.topic), message);
        let (errand, past) = match record.header(TARGET_GROUP) {
            // The retry topics are the group's own.
            _ if partition.topic > 0 => (self.errand(&record), deferred::past(&record, &self.shared.dispatcher)),
            Some(group) if group != self.shared.group.as_bytes() => (Errand::Skip, None),
            Some(_) => self.come_back(&record),
            None => (self.errand(&record), None),
        };
        Delivered {
            partition: Partition { index: record.partition, ..partition },
            offset: record.offset,
            key: record.key.clone(),
            payload: Arc::new(record),
            errand,
            past: past.map(Box::new),
        }
    }

    /// A record about one of our dead letters: its replay, or word that it was evicted.
    fn come_back(&self, record: &Record) -> (Errand, Option<Past>) {
        let place = |name| std::str::from_utf8(record.header(name)?).ok()?.parse().ok();
        let about = |place| Past { replays: Some(place), ..Past::default() };
        match place(EVICTED) {
            Some(evicted) => (Errand::Absolve, Some(about(evicted))),
            None => (self.errand(record), place(SEQUENCE).map(about)),
        }
    }

    fn errand(&self, record: &Record) -> Errand {
        let Some(event_type) = record.event_type() else {
            return bury("MissingEventType", "the record has no readable event_type header");
        };
        if record.value.is_none() {
            return bury("MissingValue", "the record has no value");
        }
        if let Some(kind) = self.shared.registry.get(event_type) {
            record.kind.get_or_init(|| kind);
            return Errand::Handle;
        }
        let problem = format!("no event type {event_type:?} is registered here");
        match self.shared.config.unknown_type {
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
