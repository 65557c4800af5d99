//! The driver of the engine: carries out what it decides, and decides nothing itself.
//!
//! One task owns the engine. News from the reading thread and reports of finished work come in over channels;
//! attempts are made by the crew, dead letters and commits run on their own, so nothing here ever waits for a handler.

use super::Shared;
use super::crew::{Crew, Reports};
use super::poll::{BATCHES_MAX, Bell, Fetching, News, Reader, Sorter, give_back, list, read, shared as share};
use super::publish::{Copy, Publisher};
use super::record::Record;
use crate::dispatch::DispatchOutcome;
use crate::engine::{
    self, Action, CommitId, DeadLetter, DeadLetters, Engine, Farewell, HandlerFailure, Input, Offset, Outcome,
    Partition, Release, Start, Time, dead_letters, finished,
};
use crate::error::BusError;
use crate::event::{AnyEvent, WireMetadata};
use crate::handler::{Ctx, HandlerSet, Source};
use crate::hooks::Step;
use crate::mutant::{self, Mutant};
use jiff::Timestamp;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

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
        dlq_partitions: i32,
        make_reader: impl FnOnce(mpsc::Sender<News>) -> Result<Reader, BusError>,
    ) -> Result<(Self, Controls), BusError> {
        let (tell, news) = mpsc::channel(BATCHES_MAX);
        let (reader, bell) = share(make_reader(tell.clone())?);
        reader
            .subscribe(&[&shared.topic])
            .map_err(|error| BusError::Backend { doing: "subscribing to the topic", source: error.into() })?;
        let sorter = Sorter {
            topic: shared.topic.clone(),
            group: shared.group.clone(),
            registry: shared.registry.clone(),
            unknown_type: shared.config.unknown_type,
            shared: shared.clone(),
        };
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
        let clerk = Clerk::start(shared.clone(), reader.clone(), reports.clone())
            .map_err(|error| BusError::Backend { doing: "starting the committing thread", source: error.into() })?;
        let driver = Self {
            publisher,
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
                self.shared.counters.rebalance_count.fetch_add(1, Ordering::Relaxed);
                self.shared.hooks_about(&partitions, |topic, partition| Step::Assigned { topic, partition });
                self.partitions.send_modify(|count| *count = Some(count.unwrap_or(0) + partitions.len()));
                // A pause asked for under an earlier assignment may only be obeyed now; this outranks it.
                self.ask(Fetching::Resume(partitions.clone()));
                self.tell(Input::Assigned { partitions });
                for (partition, finished) in remembered {
                    self.tell(Input::Remembered { partition, finished });
                }
            }
            News::Revoking(partitions) => {
                self.shared.counters.rebalance_count.fetch_add(1, Ordering::Relaxed);
                let deadline = self.clock.now() + self.shared.config.rebalance_drain_timeout;
                self.tell(Input::Revoking { partitions, deadline });
            }
            News::Lost(partitions) => {
                self.shared.counters.rebalance_count.fetch_add(1, Ordering::Relaxed);
                self.tell(Input::Lost { partitions });
            }
            News::Records(records) => {
                let now = self.clock.now();
                for record in records.iter().filter(|record| record.errand != engine::Errand::Skip) {
                    let at = source(&record.payload);
                    self.shared.hooks.tell(|| Step::Delivered { at: &at, key: record.payload.key.as_deref() });
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
                    let places = offsets.into_iter().map(|(partition, offset)| {
                        let finished = finished::to_text(offset, &self.engine.finished_beyond(partition));
                        Place { partition, offset, finished }
                    });
                    self.clerk.ask(Chore::Commit { id, places: places.collect() });
                }
                Action::Pause(partitions) => self.ask(Fetching::Pause(partitions)),
                Action::Resume(partitions) => self.ask(Fetching::Resume(partitions)),
                Action::Release(release) => self.release(release),
                Action::Halt { partition, offset, reason } => {
                    let at = format!("{}-{}@{offset}: {reason}", self.shared.topic, partition.index);
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
            let DeadLetter { ticket, payload: record, obituary } = letter;
            let (topic, group) = (&record.topic, &shared.group);
            let origin = dead_letters::Origin { topic, partition: record.partition, offset: record.offset, group };
            let copy = Copy {
                topic: &shared.dlq_topic,
                partition: Some(record.partition).filter(|partition| *partition < partitions),
                key: record.key.as_ref().filter(|_| !mutant::is(Mutant::LettersLoseTheirKey)),
                value: record.value.as_ref().filter(|_| !mutant::is(Mutant::LettersLoseTheirValue)),
                headers: &dead_letters::headers(&record.headers(), origin, &obituary, now),
            };
            let report_of = match publisher.write(copy).await {
                Ok(_) => {
                    tracing::warn!(?ticket, cause = obituary.cause.name(), error = obituary.message, "event dead-lettered");
                    let at = source(&record);
                    shared.hooks.tell(|| Step::DeadLettered { at: &at, reason: obituary.cause.reason() });
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
        self.partitions.send_modify(|count| *count = count.map(|count| count.saturating_sub(partitions.len())));
        let places = commit.into_iter().map(|(partition, offset)| {
            let runs = finished.iter_mut().find(|(of, _)| *of == partition).map(|(_, runs)| std::mem::take(runs));
            Place { partition, offset, finished: finished::to_text(offset, &runs.unwrap_or_default()) }
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
                let freed = list(&self.shared.topic, &partitions);
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
    attempt: u32,
    only: Option<&HandlerSet>,
    cancellation: &Arc<CancellationToken>,
) -> Outcome {
    let event = match event_in(shared, record) {
        Ok(event) => event,
        Err((error_type, message)) => return Outcome::Poison { error_type: error_type.into(), message },
    };
    let at = source(record);
    let cx = Ctx::of_attempt(attempt, at.clone(), shared.group.clone(), cancellation.clone(), event.metadata());
    shared.hooks.tell(|| Step::Started { event_id: event.event_id(), at: Some(&at), attempt });
    let span = match shared.config.enable_tracing {
        false => tracing::Span::none(),
        true => tracing::info_span!(
            "kafka.consume",
            otel.name = format!("kafka.consume {}", event.event_type()),
            event_type = event.event_type(),
            event_id = %event.event_id(),
            topic = &*at.topic,
            partition = at.partition,
            offset = at.offset,
            attempt,
        ),
    };
    let results = shared.dispatcher.dispatch(event, &cx, only).instrument(span).await;
    shared.counters.dispatched(&results);
    for result in results.results() {
        let (handler, outcome) = (&*result.name, &result.outcome);
        shared.hooks.tell(|| Step::Finished { event_id: event.event_id(), at: Some(&at), handler, outcome });
    }
    outcome(&results)
}

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
    let name = record.event_type().unwrap_or_default();
    let kind = shared.registry.get(name).ok_or_else(|| ("UnknownEventType", format!("no event type {name:?}")))?;
    let headers = WireMetadata::from_headers(record.header_values());
    let event = shared
        .codec
        .deserialize(record.value.as_deref().unwrap_or_default(), &kind, headers)
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
    finished: String,
}

/// Does the chores in order on a thread where waiting is allowed: a commit never overtakes another one, and partitions
/// are handed back after their last commit.
struct Clerk {
    chores: mpsc::UnboundedSender<Chore>,
    finished: oneshot::Receiver<()>,
}

impl Clerk {
    /// On a thread of its own: the client waits for the answer to a commit as long as it takes, and a runtime that is
    /// shut down waits for its blocking tasks.
    fn start(shared: Arc<Shared>, reader: Arc<Reader>, reports: Arc<Reports>) -> std::io::Result<Self> {
        // Unbounded, for there is one commit at a time and a release per rebalance.
        let (chores, mut asked) = mpsc::unbounded_channel();
        let (finish, finished) = oneshot::channel();
        std::thread::Builder::new().name(format!("commit {}", shared.topic)).spawn(move || {
            while let Some(chore) = asked.blocking_recv() {
                match chore {
                    Chore::Commit { id, places } => {
                        let confirmed = commit(&shared, &reader, &places).is_ok();
                        let confirmed = confirmed || mutant::is(Mutant::AssumesCommitsSucceed);
                        reports.send(Input::CommitDone { id, confirmed });
                    }
                    Chore::Release { why, partitions, places } => {
                        release(&shared, &reader, why, &partitions, &places);
                    }
                }
            }
            drop(reader);
            let _ = finish.send(());
        })?;
        Ok(Self { chores, finished })
    }

    fn ask(&self, chore: Chore) {
        let _ = self.chores.send(chore);
    }

    /// Whether everything asked for was done in time.
    async fn finish(self, patience: Duration) -> bool {
        drop(self.chores);
        tokio::time::timeout(patience, self.finished).await.is_ok()
    }
}

#[expect(clippy::disallowed_methods, reason = "the clerk's own thread; nothing tells when a rebalance is over")]
fn release(shared: &Shared, reader: &Reader, why: Farewell, partitions: &[Partition], places: &[Place]) {
    let mut tries = FAREWELL_TRIES;
    let silent = match why {
        Farewell::Revoked => mutant::is(Mutant::RevokesWithoutCommitting),
        Farewell::Stopping => mutant::is(Mutant::StopsWithoutCommitting),
        Farewell::Lost => false,
    };
    if silent {
        tries = 0;
    } else if mutant::is(Mutant::GivesBackBeforeCommitting) && why == Farewell::Revoked {
        let _ = give_back(reader, &list(&shared.topic, partitions));
    }
    while !places.is_empty() && tries > 0 {
        match commit(shared, reader, places) {
            // The group is between two generations; the reading thread sees it through.
            Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::RebalanceInProgress)) if why == Farewell::Stopping => {
                tries -= 1;
                std::thread::sleep(FAREWELL_PAUSE);
            }
            Err(_) | Ok(()) => break,
        }
    }
    if why == Farewell::Revoked && !mutant::is(Mutant::NeverGivesBack) {
        let freed = list(&shared.topic, partitions);
        if let Err(error) = give_back(reader, &freed) {
            tracing::error!(%error, ?partitions, "giving partitions back failed");
        }
    }
    shared.hooks_about(partitions, |topic, partition| Step::Revoked { topic, partition });
}

/// Commits and waits for the answer: the client never reports the end of a commit it was not asked to wait for
/// (rust-rdkafka#856).
fn commit(shared: &Shared, reader: &Reader, places: &[Place]) -> KafkaResult<()> {
    let list = |with_finished: bool| {
        let mut list = TopicPartitionList::new();
        for Place { partition, offset, finished } in places {
            let mut place = list.add_partition(&shared.topic, partition.index);
            place.set_offset(rdkafka::Offset::Offset(*offset))?;
            if with_finished && !finished.is_empty() {
                place.set_metadata(finished);
            }
        }
        Ok::<_, KafkaError>(list)
    };
    let committed = match reader.commit(&list(true)?, CommitMode::Sync) {
        // These brokers take less than Kafka's by default do; the positions matter more than what lies beyond them.
        Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::OffsetMetadataTooLarge)) => {
            reader.commit(&list(false)?, CommitMode::Sync)
        }
        committed => committed,
    };
    match &committed {
        Ok(()) => {
            reader.context().alive();
            for Place { partition, offset, .. } in places {
                let at = Source { topic: shared.topic.clone(), partition: partition.index, offset: *offset };
                shared.hooks.tell(|| Step::Committed { at: &at });
            }
        }
        Err(error) => {
            shared.counters.failed();
            let offsets: Vec<_> = places.iter().map(|place| (place.partition, place.offset)).collect();
            tracing::warn!(%error, ?offsets, "a commit failed; it is repeated with the next one");
        }
    }
    committed
}
