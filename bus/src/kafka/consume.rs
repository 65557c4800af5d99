//! The driver of the engine: carries out what it decides, and decides nothing itself.
//!
//! One task owns the engine. News from the reading thread and reports of finished work come in over channels;
//! attempts are made by the crew, dead letters and commits run on their own, so nothing here ever waits for a handler.

use super::crew::{Crew, Reports};
use super::letters::{Dead, Letters};
use super::poll::{BATCHES_MAX, Bell, Fetching, News, Reader, Sorter, committed, give_back, read, shared as share};
use super::publish::{Copy, Delivery, Publisher};
use super::record::Record;
use super::transact::{Failed, Transactor};
use super::{Shared, deferred};
use crate::config::DlqScope;
use crate::dispatch::DispatchOutcome;
use crate::engine::{
    self, Action, CommitId, DeadLetter, DeadLetters, Deferral, Engine, Epoch, Farewell, HandlerFailure, Input, Offset,
    Outcome, Partition, Release, Start, Ticket, Time, dead_letters, finished,
};
use crate::error::BusError;
use crate::event::{AnyEvent, WireMetadata};
use crate::handler::{Ctx, HandlerSet, Source};
use crate::hooks::Step;
use crate::mutant::{self, Mutant};
use crate::outbox::Batch;
use crate::telemetry::{Note, Remote};
use jiff::Timestamp;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use uuid::Uuid;

/// How long the client may take to leave the group. Leaving is a courtesy: the session would expire by itself.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// How often, and how long apart, the last commit before leaving is tried while the group rebalances.
const FAREWELL_TRIES: u32 = 20;
const FAREWELL_PAUSE: Duration = Duration::from_millis(100);

/// What others may know of a consumption.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    /// Records the dead-letter topic does not take.
    pub(super) unburied: AtomicUsize,
    /// Nothing is started, because too many events failed.
    pub(super) flooded: AtomicBool,
    /// Keys waiting for a retry.
    pub(super) parked: AtomicUsize,
    /// Events with their handlers.
    pub(super) in_work: AtomicUsize,
}

/// What a running consumption answers to.
pub(super) struct Controls {
    /// Set to the deadline by which it must end.
    pub(super) stop: watch::Sender<Option<Instant>>,
    /// How many partitions it has; `None` until the group has given it its first share, which may be none.
    pub(super) partitions: watch::Receiver<Option<usize>>,
    /// How many attempts were cut off at the deadline, once it has ended.
    pub(super) ended: watch::Receiver<Option<usize>>,
}

pub(super) struct Driver {
    shared: Arc<Shared>,
    publisher: Publisher,
    letters: Arc<Letters>,
    /// Partitions of the dead-letter topic: a letter goes to the partition its record came from, if there is one.
    dlq_partitions: i32,
    engine: Engine<Arc<Record>>,
    clock: Clock,
    reader: Arc<Reader>,
    reading: std::thread::JoinHandle<()>,
    stop_reading: StopReading,
    fetching: std::sync::mpsc::Sender<Fetching>,
    news: mpsc::Receiver<News>,
    reports: Arc<Reports>,
    stop: watch::Receiver<Option<Instant>>,
    partitions: watch::Sender<Option<usize>>,
    ended: watch::Sender<Option<usize>>,
    crew: Crew,
    /// Attempts on their way to the crew, which gets them all at once.
    starts: Vec<Start<Arc<Record>>>,
    burials: JoinSet<()>,
    clerk: Clerk,
    cancellation: CancellationToken,
    counted: engine::Counters,
    cut_off: usize,
    failure: Option<BusError>,
}

/// Ends the reading thread, also when the driver does not come to its end because its runtime is shut down.
struct StopReading {
    asked: Arc<AtomicBool>,
    bell: Bell,
}

impl Drop for StopReading {
    fn drop(&mut self) {
        self.asked.store(true, Ordering::Release);
        self.bell.ring();
    }
}

/// The engine's time: the wall clock's when it started, the monotonic clock's progress since.
#[derive(Clone, Copy)]
struct Clock {
    began: Instant,
    at: Time,
}

impl Clock {
    fn start() -> Self {
        let since_epoch = Duration::try_from(Timestamp::now().duration_since(Timestamp::UNIX_EPOCH));
        Self { began: Instant::now(), at: Time(since_epoch.unwrap_or_default()) }
    }

    fn now(&self) -> Time {
        self.at + self.began.elapsed()
    }

    fn instant(&self, time: Time) -> Instant {
        self.began + time.since(self.at)
    }

    fn time(&self, instant: Instant) -> Time {
        self.at + instant.saturating_duration_since(self.began)
    }
}

impl Driver {
    /// Joins the group and starts reading.
    pub(super) fn start(
        shared: Arc<Shared>,
        publisher: Publisher,
        letters: Arc<Letters>,
        dlq_partitions: i32,
        transactor: Option<Transactor>,
        make_reader: impl FnOnce(mpsc::Sender<News>) -> Result<Reader, BusError>,
    ) -> Result<(Self, Controls), BusError> {
        let (tell, news) = mpsc::channel(BATCHES_MAX);
        let (reader, bell) = share(make_reader(tell.clone())?);
        reader
            .subscribe(&shared.sources.names())
            .map_err(|error| BusError::Backend { doing: "subscribing to the topic", source: error.into() })?;
        let sorter = Sorter { shared: shared.clone() };
        let stop_reading = StopReading { asked: Arc::new(AtomicBool::new(false)), bell };
        // Unbounded, for the engine asks again only when things have changed.
        let (fetching, asked) = std::sync::mpsc::channel();
        let reading = {
            let (reader, stop) = (reader.clone(), stop_reading.asked.clone());
            std::thread::Builder::new()
                .name(format!("read {}", shared.topic))
                .spawn(move || read(&reader, &sorter, &tell, &asked, &stop))
                .map_err(|error| BusError::Backend { doing: "starting the reading thread", source: error.into() })?
        };
        let (reports, cancellation) = (Arc::<Reports>::default(), CancellationToken::new());
        let (stop, stop_asked) = watch::channel(None);
        let (partitions, partitions_seen) = watch::channel(None);
        let (ended, end_seen) = watch::channel(None);
        let clerk = Clerk::start(shared.clone(), reader.clone(), reports.clone(), transactor)
            .map_err(|error| BusError::Backend { doing: "starting the committing thread", source: error.into() })?;
        let driver = Self {
            publisher,
            letters,
            dlq_partitions,
            engine: Engine::new(engine_config(&shared), rand::random()),
            clock: Clock::start(),
            reader,
            reading,
            stop_reading,
            fetching,
            news,
            crew: Crew::new(shared.clone(), reports.clone(), cancellation.clone()),
            starts: Vec::new(),
            reports,
            stop: stop_asked,
            partitions,
            ended,
            burials: JoinSet::new(),
            clerk,
            cancellation,
            counted: engine::Counters::default(),
            cut_off: 0,
            failure: None,
            shared,
        };
        Ok((driver, Controls { stop, partitions: partitions_seen, ended: end_seen }))
    }

    /// Consumes until it is told to stop, or cannot go on.
    pub(super) async fn run(mut self) -> Result<(), BusError> {
        let (mut finished, mut deserted) = (Vec::new(), false);
        loop {
            let wake = self.engine.next_wake().map(|time| self.clock.instant(time));
            tokio::select! {
                biased;
                asked = self.stop.changed(), if !deserted => {
                    // Nobody left to ask means that the bus was dropped.
                    deserted = asked.is_err();
                    let deadline = self.stop.borrow_and_update().unwrap_or_else(Instant::now);
                    self.tell(Input::Stop { deadline: self.clock.time(deadline) });
                }
                () = self.reports.arrived() => {
                    self.reports.take(&mut finished);
                    let now = self.clock.now();
                    self.engine.handle_all(now, finished.drain(..));
                }
                Some(news) = self.news.recv() => self.heard(news),
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {
                    self.tell(Input::Tick);
                }
                Some(_) = self.burials.join_next() => {}
            }
            if let Some(error) = self.clerk.take_failure() {
                self.failure
                    .get_or_insert(BusError::Backend { doing: "committing a transaction", source: error.into() });
                self.tell(Input::Stop { deadline: self.clock.now() });
            }
            let stopped = self.carry_out();
            self.count();
            if stopped {
                return self.end().await;
            }
        }
    }

    fn tell(&mut self, input: Input<Arc<Record>>) {
        self.engine.handle(self.clock.now(), input);
    }

    fn heard(&mut self, news: News) {
        match news {
            News::Assigned(partitions, remembered) => {
                self.shared.counters.rebalanced();
                self.shared.hooks_about(&partitions, |topic, partition| Step::Assigned { topic, partition });
                self.partitions.send_modify(|count| *count = Some(count.unwrap_or(0) + of_main(&partitions)));
                // A pause asked for under an earlier assignment may only be obeyed now; this outranks it.
                self.ask(Fetching::Resume(partitions.clone()));
                self.tell(Input::Assigned { partitions });
                for (partition, finished) in remembered {
                    if let Some(outbox) = &self.shared.outbox {
                        outbox.told(partition, finished.clone());
                    }
                    self.tell(Input::Remembered { partition, finished });
                }
            }
            News::Revoking(partitions) => {
                self.shared.counters.rebalanced();
                let deadline = self.clock.now() + self.shared.config.rebalance_drain_timeout;
                self.tell(Input::Revoking { partitions, deadline });
            }
            News::Lost(partitions) => {
                self.shared.counters.rebalanced();
                self.tell(Input::Lost { partitions });
            }
            News::Records(records) => {
                let now = self.clock.now();
                let telemetry = &self.shared.counters.telemetry;
                if self.shared.hooks.is_observed() || telemetry.is_on() {
                    for record in records.iter().filter(|record| record.errand != engine::Errand::Skip) {
                        let at = source(&record.payload);
                        self.shared.hooks.tell(|| Step::Delivered { at: &at, key: record.payload.key.as_deref() });
                        let event_type = || record.payload.event_type().unwrap_or_default();
                        telemetry.note(|| Note::Consumed { event_type: event_type() });
                    }
                }
                self.engine.handle_all(now, records.into_iter().map(Input::Delivered));
            }
            News::Broken(error) => {
                self.failure = Some(BusError::Backend { doing: "reading", source: error.into() });
                self.tell(Input::Stop { deadline: self.clock.now() });
            }
        }
    }

    /// Does what the engine wants done; whether it has stopped.
    fn carry_out(&mut self) -> bool {
        while let Some(action) = self.engine.next_action() {
            match action {
                Action::Start(start) => self.starts.push(start),
                Action::Abandon(ticket) => {
                    self.crew.hand_over(&mut self.starts);
                    self.crew.abandon(ticket);
                }
                Action::DeadLetter(letter) => self.bury(letter),
                Action::Defer(deferral) => self.defer(deferral),
                Action::Recall { partition, epoch } => self.recall(partition, epoch),
                Action::Dropped(letter) => {
                    self.shared.counters.failed();
                    let DeadLetter { ticket, obituary, .. } = letter;
                    tracing::error!(
                        ?ticket,
                        error = obituary.message,
                        "event given up and dropped: there is no dead-letter topic"
                    );
                }
                Action::Commit { id, offsets } => {
                    let places = offsets.into_iter().map(|(partition, offset)| Place {
                        partition,
                        offset,
                        finished: self.engine.finished_beyond(partition),
                    });
                    self.clerk.ask(Chore::Commit { id, places: places.collect() });
                }
                Action::Pause(partitions) => self.ask(Fetching::Pause(partitions)),
                Action::Resume(partitions) => self.ask(Fetching::Resume(partitions)),
                Action::Release(release) => self.release(release),
                Action::Halt { partition, offset, reason } => {
                    let topic = self.shared.sources.name(partition.topic);
                    let at = format!("{topic}-{}@{offset}: {reason}", partition.index);
                    tracing::error!(at, "consuming stops: the policy for unknown types is to fail");
                    self.failure.get_or_insert(BusError::Backend { doing: "consuming", source: at.into() });
                    let deadline = self.clock.now() + self.shared.config.rebalance_drain_timeout;
                    self.tell(Input::Stop { deadline });
                }
                Action::Stopped => return true,
            }
        }
        if !self.starts.is_empty() {
            self.crew.hand_over(&mut self.starts);
        }
        false
    }

    fn bury(&mut self, letter: DeadLetter<Arc<Record>>) {
        let (shared, publisher, reports) = (self.shared.clone(), self.publisher.clone(), self.reports.clone());
        let (partitions, now) = (self.dlq_partitions, self.clock.now());
        self.burials.spawn(async move {
            let DeadLetter { ticket, payload: record, obituary, place } = letter;
            let (group, (partition, offset)) = (&shared.group, deferred::origin(&record));
            let origin = dead_letters::Origin { topic: &shared.topic, partition, offset, group, place };
            let copy = Copy {
                topic: &shared.dlq_topic,
                partition: Some(partition).filter(|partition| (0..partitions).contains(partition)),
                key: record.key.as_ref().filter(|_| !mutant::is(Mutant::LettersLoseTheirKey)),
                value: record.value.as_ref().filter(|_| !mutant::is(Mutant::LettersLoseTheirValue)),
                headers: &dead_letters::headers(&deferred::own_headers(&record), origin, &obituary, now),
            };
            let report_of = match publisher.write(copy).await {
                Ok(Delivery { partition, offset }) => {
                    tracing::warn!(?ticket, cause = obituary.cause.name(), error = obituary.message, "event dead-lettered");
                    let (at, to) = (source(&record), Source { topic: shared.dlq_topic.clone(), partition, offset });
                    let (reason, attempts) = (obituary.cause.reason(), obituary.attempts);
                    shared.hooks.tell(|| Step::DeadLettered { at: &at, reason, to: &to, attempts });
                    shared.counters.telemetry.note(|| Note::DeadLettered { reason: obituary.cause.name() });
                    Input::DeadLetterAcked { ticket }
                }
                Err(_) if mutant::is(Mutant::TakesRefusedLettersForWritten) => Input::DeadLetterAcked { ticket },
                Err(error) => {
                    shared.counters.failed();
                    tracing::error!(?ticket, %error, "the dead-letter topic does not take an event; it is kept, and its key waits");
                    Input::DeadLetterFailed { ticket }
                }
            };
            reports.send(report_of);
        });
    }

    /// Writes a record to the retry topic of its attempt.
    fn defer(&mut self, deferral: Deferral<Arc<Record>>) {
        let (shared, publisher, reports) = (self.shared.clone(), self.publisher.clone(), self.reports.clone());
        self.burials.spawn(async move {
            let Deferral { ticket, payload: record, past } = deferral;
            // Without a retry the engine does not ask for one.
            let Some(topic) = shared.sources.tier(past.attempts) else { return };
            let copy = Copy {
                topic,
                partition: Some(record.partition),
                key: record.key.as_ref(),
                value: record.value.as_ref(),
                headers: &deferred::headers(&record, &past, &shared.dispatcher),
            };
            reports.send(match publisher.write(copy).await {
                Ok(Delivery { partition, offset }) => {
                    let (at, to) = (source(&record), Source { topic: topic.clone(), partition, offset });
                    shared.hooks.tell(|| Step::Deferred { at: &at, to: &to, attempts: past.attempts });
                    Input::Deferred { ticket }
                }
                Err(error) => {
                    shared.counters.failed();
                    tracing::error!(?ticket, %error, "a retry topic does not take an event; it is kept, and its key waits");
                    Input::DeferralFailed { ticket }
                }
            });
        });
    }

    /// Finds out which keys of a new partition are dead, as often as it takes: without knowing, nothing may start.
    fn recall(&mut self, partition: Partition, epoch: Epoch) {
        let (shared, reader, reports) = (self.shared.clone(), self.reader.clone(), self.reports.clone());
        let letters = self.letters.clone();
        self.burials.spawn(async move {
            loop {
                match dead(&shared, &reader, &letters, partition).await {
                    Ok(Dead { letters, evicted }) => {
                        return reports.send(Input::Recalled { partition, epoch, letters, evicted });
                    }
                    Err(error) => {
                        shared.counters.failed();
                        tracing::error!(%error, ?partition, "the dead letters cannot be read; nothing of the partition is handled");
                    }
                }
                tokio::time::sleep(RECALL_PAUSE).await;
            }
        });
    }

    fn ask(&self, fetching: Fetching) {
        // The reading thread ends only when it is told to, or has told that it is broken.
        let _ = self.fetching.send(fetching);
        self.stop_reading.bell.ring();
    }

    fn release(&mut self, release: Release) {
        let Release { why, partitions, commit, mut finished, abandoned } = release;
        if abandoned > 0 {
            tracing::warn!(abandoned, ?why, "attempts cut off; their events will be delivered again");
            self.cut_off += abandoned;
        }
        self.partitions.send_modify(|count| *count = count.map(|count| count.saturating_sub(of_main(&partitions))));
        let places = commit.into_iter().map(|(partition, offset)| {
            let runs = finished.iter_mut().find(|(of, _)| *of == partition).map(|(_, runs)| std::mem::take(runs));
            Place { partition, offset, finished: runs.unwrap_or_default() }
        });
        self.clerk.ask(Chore::Release { why, partitions, places: places.collect() });
    }

    /// Carries what the engine has counted over to the bus's statistics.
    fn count(&mut self) {
        let (before, now) = (self.counted, self.engine.counters());
        if now == before {
            return;
        }
        self.counted = now;
        let counters = &self.shared.counters;
        let add = |counter: &AtomicU64, amount: u64| {
            if amount > 0 {
                counter.fetch_add(amount, Ordering::Relaxed);
            }
        };
        let skipped = now.skipped - before.skipped;
        let consumed = now.delivered - before.delivered - skipped;
        if consumed > 0 {
            counters.consumed(usize::try_from(consumed).unwrap_or(usize::MAX));
        }
        let buried = now.dead_lettered - before.dead_lettered;
        add(&counters.events_processed_success, now.succeeded - before.succeeded);
        add(&counters.events_processed_failed, buried + now.dropped - before.dropped);
        add(&counters.messages_sent_to_dlq, buried);
        add(&counters.events_skipped, skipped);
        if now.floods > before.floods {
            counters.failed();
            tracing::error!("too many events fail; nothing is handled for a while, and none of them is given up yet");
        }
        let status = self.engine.status();
        self.shared.gauges.flooded.store(status.flooded, Ordering::Relaxed);
        self.shared.gauges.unburied.store(status.unburied, Ordering::Relaxed);
        self.shared.gauges.parked.store(status.parked, Ordering::Relaxed);
        counters.telemetry.note(|| Note::Parked { keys: status.parked });
        self.shared.gauges.in_work.store(status.in_flight, Ordering::Relaxed);
    }

    /// Leaves the group. What is still running after the deadline is cut off.
    async fn end(mut self) -> Result<(), BusError> {
        self.cancellation.cancel();
        let patience = if mutant::is(Mutant::ClosesWithoutDeadline) { Duration::MAX } else { CLOSE_PATIENCE };
        if !self.clerk.finish(patience).await {
            tracing::warn!("the last commit is not answered; its events will be delivered again");
        }
        self.reader.context().close();
        drop(self.stop_reading);
        // What the group asked back meanwhile is free, and it waits to hear that.
        self.news.close();
        while let Ok(news) = self.news.try_recv() {
            if let News::Revoking(partitions) = news {
                let freed = self.shared.sources.list(&partitions);
                if let Err(error) = give_back(&self.reader, &freed) {
                    tracing::warn!(%error, "giving partitions back failed");
                }
            }
        }
        let (closed, close) = oneshot::channel();
        let (reading, reader) = (self.reading, self.reader);
        // Closing waits for the group's coordinator, which may never answer.
        let closing = std::thread::Builder::new().name("leave the group".into()).spawn(move || {
            let _ = reading.join();
            drop(reader);
            let _ = closed.send(());
        });
        let patience = if mutant::is(Mutant::ClosesWithoutDeadline) { Duration::MAX } else { CLOSE_PATIENCE };
        if closing.is_err() || tokio::time::timeout(patience, close).await.is_err() {
            tracing::warn!("the Kafka client does not close; it is left behind, and the group will notice by itself");
        }
        self.shared.gauges.unburied.store(0, Ordering::Relaxed);
        self.shared.gauges.parked.store(0, Ordering::Relaxed);
        self.shared.gauges.flooded.store(false, Ordering::Relaxed);
        self.ended.send_replace(Some(self.cut_off));
        self.failure.map_or(Ok(()), Err)
    }
}

fn engine_config(shared: &Shared) -> engine::Config {
    let config = &shared.config;
    engine::Config {
        retry: config.retry,
        sequences: config.dlq_scope == DlqScope::Sequence,
        dead_letters: if config.enable_dlq && !mutant::is(Mutant::LosesDeadLetters) {
            DeadLetters::Write(config.retry)
        } else {
            DeadLetters::Drop
        },
        commit_interval: config.commit_interval,
        commit_every: config.commit_records_max,
        commit_finished: config.commit_finished,
        flood_breaker: config.dlq_flood_breaker,
        limits: config.limits,
    }
}

/// Asks the handlers.
pub(super) async fn attempt(
    shared: &Shared,
    record: &Record,
    ticket: Ticket,
    only: Option<&HandlerSet>,
    cancellation: &Arc<CancellationToken>,
) -> Outcome {
    let began = Instant::now();
    let event = match event_in(shared, record) {
        Ok(event) => event,
        Err((error_type, message)) => return Outcome::Poison { error_type: error_type.into(), message },
    };
    let (at, attempt) = (source(record), ticket.attempt);
    let cx = Ctx::of_attempt(attempt, at.clone(), shared.group.clone(), cancellation.clone(), event.metadata());
    shared.hooks.tell(|| Step::Started { event_id: event.event_id(), at: Some(&at), attempt });
    let span = match shared.config.enable_tracing {
        false => tracing::Span::none(),
        true => consume_span(shared, record, event, attempt),
    };
    let mut under_way = UnderWay { shared, event_id: event.event_id(), at: &at, attempt, ended: false };
    let mut results = shared.dispatcher.dispatch(event, &cx, only).instrument(span).await;
    under_way.ended = true;
    shared.counters.dispatched(event, &results);
    shared.counters.telemetry.note(|| {
        let (event_type, took) = (event.metadata().event_type, began.elapsed());
        Note::Attempted { event_type, took }
    });
    for result in results.results() {
        let (handler, outcome) = (&*result.name, &result.outcome);
        shared.hooks.tell(|| Step::Finished { event_id: event.event_id(), at: Some(&at), handler, outcome });
    }
    if let Some(outbox) = &shared.outbox {
        outbox.put(ticket, results.take_published());
    }
    outcome(&results)
}

/// The span of one attempt, within the trace the record came with.
fn consume_span(shared: &Shared, record: &Record, event: &AnyEvent, attempt: u32) -> tracing::Span {
    let _trace = Remote::enter(record.header_values());
    tracing::info_span!(
        "kafka.consume",
        otel.name = format!("kafka.consume {}", event.event_type()),
        otel.kind = "consumer",
        event_type = event.event_type(),
        attempt,
        messaging.system = "kafka",
        messaging.operation.name = "process",
        messaging.operation.type = "process",
        messaging.destination.name = &*record.topic,
        messaging.destination.partition.id = record.partition,
        messaging.kafka.offset = record.offset,
        messaging.consumer.group.name = &*shared.group,
        messaging.message.id = %event.event_id(),
        messaging.message.conversation_id = %event.metadata().correlation_id,
    )
}

/// Tells of an attempt that is dropped before it is over.
struct UnderWay<'a> {
    shared: &'a Shared,
    event_id: Uuid,
    at: &'a Source,
    attempt: u32,
    ended: bool,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let Self { shared, event_id, at, attempt, .. } = *self;
            shared.hooks.tell(|| Step::Aborted { event_id, at, attempt });
        }
    }
}

/// The keys of a partition that are dead, each with its place in the sequence.
async fn dead(
    shared: &Shared,
    reader: &Arc<Reader>,
    letters: &Letters,
    partition: Partition,
) -> Result<Dead, BusError> {
    let (asked, sources, reader) = (shared.sources.list(&[partition]), shared.sources.clone(), reader.clone());
    let committed = tokio::task::spawn_blocking(move || committed(&reader, &sources, &asked)).await;
    let failed = |source| BusError::Backend { doing: "asking for committed positions", source };
    let committed = committed.map_err(|stopped| failed(stopped.into()))?.map_err(|error| failed(error.into()))?;
    let (position, runs) = committed.into_iter().next().map_or((0, Vec::new()), |(_, position, runs)| (position, runs));
    let handled =
        move |offset| offset < position || runs.iter().any(|(first, last)| (*first..=*last).contains(&offset));
    letters.dead(partition.index, handled).await
}

fn of_main(partitions: &[Partition]) -> usize {
    partitions.iter().filter(|partition| partition.topic == 0).count()
}

/// How long to wait before reading the dead letters again.
const RECALL_PAUSE: Duration = Duration::from_millis(500);

fn outcome(results: &DispatchOutcome) -> Outcome {
    let failures: Vec<_> = results
        .failures()
        .map(|(result, error)| HandlerFailure {
            handler: result.handler,
            name: result.name.clone(),
            verdict: error.disposition(),
            error_type: error.error_type().to_owned(),
            message: error.to_string(),
        })
        .collect();
    if failures.is_empty() { Outcome::Done } else { Outcome::Failed(failures) }
}

/// The event in a record; an error's kind and text if there is none.
fn event_in<'a>(shared: &Shared, record: &'a Record) -> Result<&'a AnyEvent, (&'static str, String)> {
    if let Some(event) = record.event.get() {
        return Ok(event);
    }
    // Only what is of a known type is handed to handlers.
    let unknown = || ("UnknownEventType", format!("no event type {:?}", record.event_type().unwrap_or_default()));
    let kind = record.kind.get().ok_or_else(unknown)?;
    let headers = WireMetadata::from_headers(record.header_values());
    let event = shared
        .codec
        .deserialize(record.value.as_deref().unwrap_or_default(), kind, headers)
        .map_err(|error| ("Undecodable", error.to_string()))?;
    Ok(record.event.get_or_init(|| event))
}

fn source(record: &Record) -> Source {
    Source { topic: record.topic.clone(), partition: record.partition, offset: record.offset }
}

/// What must be done with the group's coordinator, one after the other.
enum Chore {
    Commit { id: CommitId, places: Vec<Place> },
    Release { why: Farewell, partitions: Vec<Partition>, places: Vec<Place> },
}

/// A position to commit.
struct Place {
    partition: Partition,
    offset: Offset,
    /// What is finished beyond it; the commit's metadata.
    finished: Vec<finished::Run>,
}

/// Does the chores in order on a thread where waiting is allowed: a commit never overtakes another one, and partitions
/// are handed back after their last commit.
struct Clerk {
    chores: mpsc::UnboundedSender<Chore>,
    finished: oneshot::Receiver<()>,
    transactor: Option<Arc<Transactor>>,
    /// Why no transaction can be made any more.
    failure: Arc<Mutex<Option<KafkaError>>>,
}

impl Clerk {
    /// On a thread of its own: the client waits for the answer to a commit as long as it takes, and a runtime that is
    /// shut down waits for its blocking tasks.
    fn start(
        shared: Arc<Shared>,
        reader: Arc<Reader>,
        reports: Arc<Reports>,
        transactor: Option<Transactor>,
    ) -> std::io::Result<Self> {
        // Unbounded, for there is one commit at a time and a release per rebalance.
        let (chores, mut asked) = mpsc::unbounded_channel();
        let (finish, finished) = oneshot::channel();
        let (failure, transactor) = (Arc::<Mutex<_>>::default(), transactor.map(Arc::new));
        let desk = Desk {
            shared: shared.clone(),
            reader,
            transactor: transactor.clone(),
            failure: failure.clone(),
            reports: reports.clone(),
        };
        std::thread::Builder::new().name(format!("commit {}", shared.topic)).spawn(move || {
            desk.open();
            while let Some(chore) = asked.blocking_recv() {
                match chore {
                    Chore::Commit { id, places } => {
                        let confirmed = desk.commit(&places).is_ok();
                        let confirmed = confirmed || mutant::is(Mutant::AssumesCommitsSucceed);
                        reports.send(Input::CommitDone { id, confirmed });
                    }
                    Chore::Release { why, partitions, places } => {
                        desk.release(why, &partitions, &places);
                    }
                }
            }
            drop(desk);
            let _ = finish.send(());
        })?;
        Ok(Self { chores, finished, transactor, failure })
    }

    fn take_failure(&self) -> Option<KafkaError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn ask(&self, chore: Chore) {
        let _ = self.chores.send(chore);
    }

    /// Whether everything asked for was done in time.
    async fn finish(self, patience: Duration) -> bool {
        drop(self.chores);
        let in_time = tokio::time::timeout(patience, self.finished).await.is_ok();
        if let Some(transactor) = &self.transactor {
            transactor.close();
        }
        in_time
    }
}

/// What the clerk works with.
struct Desk {
    shared: Arc<Shared>,
    reader: Arc<Reader>,
    /// In exactly-once mode.
    transactor: Option<Arc<Transactor>>,
    failure: Arc<Mutex<Option<KafkaError>>>,
    reports: Arc<Reports>,
}

/// Nothing was committed; whether the group is between two generations, and trying again at once may help.
struct NotCommitted {
    rebalancing: bool,
}

impl Desk {
    fn open(&self) {
        if let Some(Err(error)) = self.transactor.as_ref().map(|transactor| transactor.begin()) {
            self.fail(error);
        }
    }

    fn fail(&self, error: KafkaError) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        // So that the driver looks.
        self.reports.send(Input::Tick);
    }

    #[expect(clippy::disallowed_methods, reason = "the clerk's own thread; nothing tells when a rebalance is over")]
    fn release(&self, why: Farewell, partitions: &[Partition], places: &[Place]) {
        let mut tries = FAREWELL_TRIES;
        let freed = self.shared.sources.list(partitions);
        let silent = match why {
            Farewell::Revoked => mutant::is(Mutant::RevokesWithoutCommitting),
            Farewell::Stopping => mutant::is(Mutant::StopsWithoutCommitting),
            Farewell::Lost => false,
        };
        if silent {
            tries = 0;
        } else if mutant::is(Mutant::GivesBackBeforeCommitting) && why == Farewell::Revoked {
            let _ = give_back(&self.reader, &freed);
        }
        while !places.is_empty() && tries > 0 {
            match self.commit(places) {
                // The reading thread sees the rebalance through.
                Err(NotCommitted { rebalancing: true }) if why == Farewell::Stopping => {
                    tries -= 1;
                    std::thread::sleep(FAREWELL_PAUSE);
                }
                Err(_) | Ok(()) => break,
            }
        }
        if let Some(outbox) = &self.shared.outbox {
            partitions.iter().for_each(|partition| outbox.forget(*partition));
        }
        if why == Farewell::Revoked
            && !mutant::is(Mutant::NeverGivesBack)
            && let Err(error) = give_back(&self.reader, &freed)
        {
            tracing::error!(%error, ?partitions, "giving partitions back failed");
        }
        let lost = why == Farewell::Lost;
        self.shared.hooks_about(partitions, |topic, partition| Step::Revoked { topic, partition, lost });
    }

    /// Commits and waits for the answer: the client never reports the end of a commit it was not asked to wait for
    /// (rust-rdkafka#856).
    fn commit(&self, places: &[Place]) -> Result<(), NotCommitted> {
        let committed = match &self.transactor {
            None => self.commit_positions(places),
            Some(transactor) => self.commit_transaction(transactor, places),
        };
        match committed {
            Ok(()) => {
                self.reader.context().alive();
                for Place { partition, offset, .. } in places.iter().filter(|_| self.shared.hooks.is_observed()) {
                    let topic = self.shared.sources.name(partition.topic).clone();
                    let at = Source { topic, partition: partition.index, offset: *offset };
                    self.shared.hooks.tell(|| Step::Committed { at: &at });
                }
                Ok(())
            }
            Err(error) => {
                self.shared.counters.failed();
                let offsets: Vec<_> = places.iter().map(|place| (place.partition, place.offset)).collect();
                tracing::warn!(%error, ?offsets, "a commit failed; it is repeated with the next one");
                let rebalancing = KafkaError::ConsumerCommit(RDKafkaErrorCode::RebalanceInProgress);
                Err(NotCommitted { rebalancing: error == rebalancing })
            }
        }
    }

    fn commit_positions(&self, places: &[Place]) -> KafkaResult<()> {
        match self.reader.commit(&self.list(places, true)?, CommitMode::Sync) {
            // These brokers take less than Kafka's by default do; the positions matter more than what lies beyond them.
            Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::OffsetMetadataTooLarge)) => {
                self.reader.commit(&self.list(places, false)?, CommitMode::Sync)
            }
            committed => committed,
        }
    }

    fn commit_transaction(&self, transactor: &Transactor, places: &[Place]) -> KafkaResult<()> {
        match self.try_transaction(transactor, places, true) {
            Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::OffsetMetadataTooLarge) => {
                self.try_transaction(transactor, places, false)
            }
            committed => committed,
        }
    }

    /// Beside the positions goes what the handlers of everything they cover have published.
    fn try_transaction(&self, transactor: &Transactor, places: &[Place], with_finished: bool) -> KafkaResult<()> {
        let gone = || KafkaError::ConsumerCommit(RDKafkaErrorCode::UnknownMemberId);
        let (Some(outbox), Some(member)) = (&self.shared.outbox, self.reader.group_metadata()) else {
            return Err(gone());
        };
        let tellable = |place: &Place| {
            let all: &[finished::Run] = if with_finished { &place.finished } else { &[] };
            Place { finished: outbox.tellable(place.partition, place.offset, all), ..*place }
        };
        let places: Vec<Place> = places.iter().map(tellable).collect();
        let positions = self.list(&places, with_finished)?;
        let batch = places.iter().flat_map(|place| outbox.take(place.partition, place.offset, &place.finished));
        let batch: Batch = batch.collect();
        match transactor.commit(&batch, &positions, &member) {
            Ok(()) => {
                places.into_iter().for_each(|place| outbox.told(place.partition, place.finished));
                Ok(())
            }
            Err(failed) => {
                outbox.put_back(batch);
                Err(match failed {
                    Failed::Aborted(error) => error,
                    Failed::Fenced(error) => {
                        self.fail(error.clone());
                        error
                    }
                })
            }
        }
    }

    fn list(&self, places: &[Place], with_finished: bool) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for Place { partition, offset, finished } in places {
            let mut place = list.add_partition(self.shared.sources.name(partition.topic), partition.index);
            place.set_offset(rdkafka::Offset::Offset(*offset))?;
            if with_finished && !finished.is_empty() {
                place.set_metadata(finished::to_text(*offset, finished));
            }
        }
        Ok(list)
    }
}
