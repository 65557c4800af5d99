//! The bus on Kafka.
//!
//! Does: everything [`EventBus`] says, durable and between processes. Events are keyed by aggregate id and spread by
//! Java's partitioner; each group gets every event at least once, in order per aggregate, and commits only what is
//! resolved. A failing event is tried again without holding up other aggregates, and goes to the dead-letter topic when
//! it is given up.
//! Leaves out: exactly-once effects outside of Kafka. Handlers may see an event again after a crash, so let them be
//! idempotent; what they publish is written once with `exactly_once`.
//!
//! ```no_run
//! use rehearsal_bus::config::KafkaEventBusConfig;
//! use rehearsal_bus::{KafkaEventBus, prelude::*};
//! # #[derive(DomainEvent, serde::Serialize, serde::Deserialize)]
//! # #[event(aggregate = "Order")]
//! # struct OrderPlaced { #[event(aggregate_id)] order: u64 }
//!
//! # async fn run() -> Result<(), BusError> {
//! let config = KafkaEventBusConfig::builder().topic_prefix("orders").consumer_group("shipping").build()?;
//! let bus = KafkaEventBus::new(config);
//! bus.subscribe(|event: Event<OrderPlaced>| println!("order {}", event.order))?;
//! bus.connect().await?;
//! bus.start_consuming_in_background()?;
//! bus.publish(OrderPlaced { order: 7 }).await?;
//! bus.shutdown(std::time::Duration::from_secs(30)).await
//! # }
//! ```
//!
//! # What to choose
//!
//! - What waits while an event is retried ([`RetryScope`]): later events of its aggregate (the default), everything behind
//!   it in its partition, or nothing, which gives the order up.
//! - What a dead letter means ([`DlqScope`]): nothing for later events (the default), or that those of its aggregate follow
//!   it, until [`replay_dlq_key`](KafkaEventBus::replay_dlq_key) brings them back in order or
//!   [`evict_dlq_message`](KafkaEventBus::evict_dlq_message) lets them go on without it.
//! - Whether what handlers publish is written once (`exactly_once`). A handler that makes events into others then publishes
//!   as ever, here or on another bus with the same brokers; its events are readable when the position behind the event it
//!   handled is committed, and not at all when it fails:
//!
//! ```no_run
//! # use rehearsal_bus::config::KafkaEventBusConfig;
//! # use rehearsal_bus::{KafkaEventBus, prelude::*};
//! # #[derive(DomainEvent, serde::Serialize, serde::Deserialize)]
//! # #[event(aggregate = "Order")]
//! # struct OrderPlaced { #[event(aggregate_id)] order: u64 }
//! # #[derive(DomainEvent, serde::Serialize, serde::Deserialize)]
//! # #[event(aggregate = "Order")]
//! # struct InvoiceWritten { #[event(aggregate_id)] order: u64 }
//! # async fn run() -> Result<(), BusError> {
//! let of = |topics: &str| KafkaEventBusConfig::builder().topic_prefix(topics).consumer_group("billing");
//! let orders = KafkaEventBus::new(of("orders").consumer_name("billing-1").exactly_once(true).build()?);
//! let invoices = KafkaEventBus::new(of("invoices").build()?);
//! let out = invoices.clone();
//! orders.subscribe(move |event: Event<OrderPlaced>| {
//!     let out = out.clone();
//!     async move {
//!         out.publish(InvoiceWritten { order: event.order }).await?;
//!         Ok(())
//!     }
//! })?;
//! # Ok(())
//! # }
//! ```
//!
//! [`RetryScope`]: crate::RetryScope
//! [`DlqScope`]: crate::config::DlqScope
//!
//! Only this module names the Kafka client, and nothing of the client is in its interface.

mod client;
mod consume;
mod crew;
mod deferred;
mod letters;
mod poll;
mod publish;
mod record;
mod sources;
mod topics;
mod transact;

use crate::bus::{EventBus, PublishMode};
use crate::codec::{Json, Serializer};
use crate::config::{DlqScope, KafkaEventBusConfig};
use crate::dispatch::{Dispatcher, Subscription};
use crate::dlq::{DlqMessage, EvictOutcome, Replay, ReplayOutcome};
use crate::error::{BusError, NotAcknowledged};
use crate::event::{AnyEvent, IntoEvents};
use crate::handler::{Source, SubscriptionId};
use crate::health::Health;
use crate::hooks::{Hooks, Step};
use crate::outbox::{Outbox, Tray};
use crate::registry::EventRegistry;
use crate::stats::{Counters, Stats};
use crate::telemetry::{Note, Telemetry};
use bon::bon;
use bytes::Bytes;
use client::Watcher;
use consume::{Controls, Driver, Gauges};
use futures::FutureExt;
use futures::future::BoxFuture;
use letters::Letters;
use poll::{Remembers, Reporter};
use publish::{Courier, Delivery, Publisher, Sent};
use sources::Sources;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use topics::{Census, Topics, Wanted};
use transact::Transactor;

/// A bus on Kafka. Cloning shares it. See the [module](self).
///
/// Subscribe before or after [`connect`](Self::connect); publish after it; consume between
/// [`start_consuming`](Self::start_consuming) and [`stop_consuming`](Self::stop_consuming).
#[derive(Clone)]
pub struct KafkaEventBus(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    background: TaskTracker,
    background_tasks: AtomicUsize,
    closed: AtomicBool,
    state: Mutex<State>,
    /// Held while connecting, so that two callers do not connect twice.
    connecting: tokio::sync::Mutex<()>,
}

/// What both the bus and its running consumption need.
struct Shared {
    config: KafkaEventBusConfig,
    topic: Arc<str>,
    dlq_topic: Arc<str>,
    /// What is read.
    sources: Sources,
    group: Arc<str>,
    bootstrap: Arc<str>,
    /// What handlers have published, in exactly-once mode.
    outbox: Option<Outbox>,
    registry: EventRegistry,
    dispatcher: Dispatcher,
    codec: Arc<dyn Serializer>,
    hooks: Hooks,
    counters: Arc<Counters>,
    gauges: Gauges,
}

#[derive(Default)]
struct State {
    connection: Option<Connection>,
    consumption: Option<Controls>,
}

#[derive(Clone)]
struct Connection {
    publisher: Publisher,
    /// Acknowledged by all replicas, whatever the user chose for events.
    careful: Publisher,
    watcher: Watcher,
    letters: Arc<Letters>,
    dlq_partitions: i32,
    runtime: Handle,
}

/// A consumption that goes on in the background, whether this is kept or not.
#[derive(Debug)]
pub struct Consuming {
    task: JoinHandle<Result<(), BusError>>,
    partitions: watch::Receiver<Option<usize>>,
}

impl Consuming {
    /// Waits until the group has given this member its first partitions; how many they are.
    /// Zero when consuming ends before.
    pub async fn assigned(&mut self) -> usize {
        self.partitions.wait_for(Option::is_some).await.map_or(0, |count| count.unwrap_or(0))
    }

    /// How many partitions this member has now.
    pub fn partitions(&self) -> usize {
        self.partitions.borrow().unwrap_or(0)
    }

    /// Waits until consuming ends.
    ///
    /// # Errors
    /// When it did not end because it was asked to.
    pub async fn ended(self) -> Result<(), BusError> {
        match self.task.await {
            Ok(ended) => ended,
            Err(stopped) => Err(BusError::Backend { doing: "consuming", source: stopped.into() }),
        }
    }
}

/// Events that were sent by [`KafkaEventBus::publish_batch`], and how to learn what became of them. They are sent
/// whether this is kept or not; the statistics count them when [`answers`](Self::answers) has been awaited.
#[must_use = "whether the brokers have the events is only known here"]
pub struct Receipts {
    shared: Arc<Shared>,
    sent: Sent,
}

impl Receipts {
    /// How many events they are for.
    pub fn len(&self) -> usize {
        self.sent.len()
    }

    /// Whether nothing was sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until the brokers have answered for all; one answer per event, in the order sent: where it is in the log,
    /// or why it is not known to be there.
    pub async fn answers(self) -> Vec<Result<Source, NotAcknowledged>> {
        let (shared, sent) = (self.shared, self.sent);
        let (count, began) = (sent.len(), sent.began);
        let answers = sent.answered().await.map(|(event, answer)| {
            let Delivery { partition, offset } = answer?;
            shared.acknowledged(&event, Delivery { partition, offset });
            Ok(Source { topic: shared.topic.clone(), partition, offset })
        });
        let answers: Vec<Result<Source, NotAcknowledged>> = answers.collect();
        shared.counters.telemetry.note(|| Note::Publishing { events: count, took: began.elapsed() });
        let acknowledged = answers.iter().filter(|answer| answer.is_ok()).count();
        if acknowledged > 0 {
            shared.counters.published(acknowledged);
        }
        if acknowledged < count {
            shared.counters.publish_failed(count - acknowledged);
        }
        answers
    }
}

impl std::fmt::Debug for Receipts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receipts").field("events", &self.len()).finish_non_exhaustive()
    }
}

#[bon]
impl KafkaEventBus {
    /// A bus that reads the types in the global registry and those subscribed to.
    pub fn new(config: KafkaEventBusConfig) -> Self {
        Self::builder(config).build()
    }

    /// A bus that reads the types in `registry` and those subscribed to.
    pub fn with_registry(config: KafkaEventBusConfig, registry: &EventRegistry) -> Self {
        Self::builder(config).registry(registry.clone()).build()
    }

    /// A bus with more to choose.
    #[builder(start_fn = builder, finish_fn = build, builder_type = KafkaEventBusBuilder)]
    pub fn with_options(
        #[builder(start_fn)] config: KafkaEventBusConfig,
        /// The types it can read, besides those subscribed to. The global registry by default.
        registry: Option<EventRegistry>,
        /// How events become bytes. JSON by default.
        codec: Option<Arc<dyn Serializer>>,
        /// Who watches.
        hooks: Option<Hooks>,
        /// Where metrics are recorded. With `enable_metrics`, [`Telemetry::global`] by default.
        telemetry: Option<Telemetry>,
    ) -> Self {
        let telemetry = match config.enable_metrics {
            true => telemetry.unwrap_or_else(Telemetry::global),
            false => Telemetry::off(),
        };
        let registry = registry.unwrap_or_else(|| EventRegistry::global().clone());
        let bootstrap: Arc<str> = config.bootstrap_servers.as_str().into();
        let shared = Shared {
            topic: config.topic_name().into(),
            sources: Sources::of(&config),
            outbox: config.exactly_once.then(Outbox::default),
            dlq_topic: config.dlq_topic_name().into(),
            group: config.consumer_group.as_str().into(),
            // Its own layer: a subscription on this bus teaches other buses nothing.
            registry: EventRegistry::over(registry),
            dispatcher: Dispatcher::new()
                .with_tracing(config.enable_tracing)
                .with_handler_timeout(config.handler_timeout)
                .keeping_back(config.exactly_once.then(|| bootstrap.clone())),
            bootstrap,
            codec: codec.unwrap_or_else(|| Arc::new(Json)),
            hooks: hooks.unwrap_or_default(),
            counters: Arc::new(Counters::recorded_in(telemetry)),
            gauges: Gauges::default(),
            config,
        };
        Self(Arc::new(Inner {
            shared: Arc::new(shared),
            background: TaskTracker::new(),
            background_tasks: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            state: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        }))
    }

    /// What this bus was made with.
    pub fn config(&self) -> &KafkaEventBusConfig {
        &self.0.shared.config
    }

    /// Sends events and returns as soon as they are on their way, in the order of the calls; what became of each is told
    /// by [`Receipts::answers`]. So a caller can send the next events while the brokers still have these: one that
    /// awaits [`publish`](crate::EventBusExt::publish) instead waits out `producer_linger_ms` and a round trip per call.
    ///
    /// Memory is bounded by the client's queue (`queue.buffering.max.messages`, 100,000 by default, and
    /// `queue.buffering.max.kbytes`, 1 GiB): while it is full, this waits for room.
    ///
    /// # Errors
    /// When the bus is closed or not connected, an event cannot be serialised, or a handler calls it in exactly-once mode;
    /// then none was sent.
    pub async fn publish_batch(&self, events: impl IntoEvents) -> Result<Receipts, BusError> {
        let publisher = self.0.connection()?.publisher;
        if Tray::of_handler(&self.0.shared.bootstrap).is_some() {
            let why = "in exactly-once mode a handler's events are sent after it, so it cannot await their answers; publish them";
            return Err(BusError::Backend { doing: "sending a batch inside of a handler", source: why.into() });
        }
        let sent = self.0.shared.send(&publisher, events.into_events()).await?;
        Ok(Receipts { shared: self.0.shared.clone(), sent })
    }

    /// Finds the brokers and sees to it that the topics exist. Connecting twice is fine.
    ///
    /// # Errors
    /// [`BusError::Unreachable`] when nobody answers within `connect_timeout`, [`BusError::Unauthenticated`] when they
    /// do not let us in, [`BusError::Config`] when the client refuses a setting, [`BusError::Closed`] after a shutdown.
    pub async fn connect(&self) -> Result<(), BusError> {
        let _connecting = self.0.connecting.lock().await;
        if self.0.closed.load(Ordering::Acquire) {
            return Err(BusError::Closed);
        }
        if self.is_connected() {
            return Ok(());
        }
        let connection = self.0.shared.connect().await?;
        self.0.state().connection = Some(connection);
        self.0.shared.counters.connected();
        tracing::info!(bootstrap = self.config().bootstrap_servers, topic = &*self.0.shared.topic, "connected");
        Ok(())
    }

    /// Stops consuming, waits for the acknowledgements under way up to `shutdown_timeout`, and lets go of the brokers.
    /// [`connect`](Self::connect) again to go on.
    ///
    /// # Errors
    /// When something did not finish in time.
    pub async fn disconnect(&self) -> Result<(), BusError> {
        self.0.wind_down(self.config().shutdown_timeout).await
    }

    /// Consumes until [`stop_consuming`](Self::stop_consuming). When the future is dropped, consuming ends at once.
    ///
    /// # Errors
    /// As [`start_consuming_in_background`](Self::start_consuming_in_background); also when reading cannot go on.
    pub async fn start_consuming(&self) -> Result<(), BusError> {
        let consuming = self.start_consuming_in_background()?;
        let stop_if_dropped = StopIfDropped(self);
        let ended = consuming.ended().await;
        std::mem::forget(stop_if_dropped);
        ended
    }

    /// Consumes in the background until [`stop_consuming`](Self::stop_consuming).
    ///
    /// # Errors
    /// [`BusError::NotConnected`], [`BusError::AlreadyConsuming`] or [`BusError::Closed`] when the bus is.
    pub fn start_consuming_in_background(&self) -> Result<Consuming, BusError> {
        let mut state = self.0.state();
        if self.0.closed.load(Ordering::Acquire) {
            return Err(BusError::Closed);
        }
        let connection = state.connection.clone().ok_or(BusError::NotConnected)?;
        if state.consumption.as_ref().is_some_and(Controls::is_running) {
            return Err(BusError::AlreadyConsuming);
        }
        let shared = self.0.shared.clone();
        let settings = client::consumer(&shared.config, shared.counters.telemetry.is_on());
        let _runtime = connection.runtime.enter();
        let remembers = Remembers::of(&shared.config);
        let exactly_once = shared.config.exactly_once;
        let transactor =
            exactly_once.then(|| Transactor::new(&shared.config, connection.watcher.clone())).transpose()?;
        let Connection { careful, letters, dlq_partitions, watcher, .. } = connection.clone();
        let sources = shared.sources.clone();
        let (driver, controls) = Driver::start(shared, careful, letters, dlq_partitions, transactor, |news| {
            client::make(&settings, Reporter::new(news, watcher, sources, remembers))
        })?;
        let partitions = controls.partitions.clone();
        let task = connection.runtime.spawn(async move {
            let ended = driver.run().await;
            if let Err(error) = &ended {
                tracing::error!(%error, "consuming ended");
            }
            ended
        });
        state.consumption = Some(controls);
        Ok(Consuming { task, partitions })
    }

    /// Finishes what is in work, up to `shutdown_timeout`, commits it, and leaves the group. Fine when not consuming.
    ///
    /// # Errors
    /// [`BusError::DeadlinePassed`] when handlers had to be cut off; their events will be delivered again.
    pub async fn stop_consuming(&self) -> Result<(), BusError> {
        let patience = self.config().shutdown_timeout;
        self.0.stop_consuming(patience, Instant::now() + patience).await
    }

    /// Whether the bus is connected.
    pub fn is_connected(&self) -> bool {
        self.0.state().connection.is_some()
    }

    /// Whether it consumes.
    pub fn is_consuming(&self) -> bool {
        self.0.state().consumption.as_ref().is_some_and(Controls::is_running)
    }

    /// Whether the dead-letter topic existed when the bus connected; false before that.
    pub fn has_dlq_topic(&self) -> bool {
        self.0.state().connection.as_ref().is_some_and(|connection| connection.dlq_partitions > 0)
    }

    /// As [`Stats::events_skipped`].
    pub fn events_skipped(&self) -> u64 {
        self.0.shared.counters.events_skipped.load(Ordering::Relaxed)
    }

    /// Calls to [`publish_background`](crate::EventBusExt::publish_background) under way.
    pub fn get_background_task_count(&self) -> usize {
        self.0.background_tasks.load(Ordering::Acquire)
    }

    /// Up to `limit` dead letters that are not resolved yet, oldest first.
    ///
    /// # Errors
    /// When the bus is not connected or the topics cannot be read.
    pub async fn get_dlq_messages(&self, limit: usize) -> Result<Vec<DlqMessage>, BusError> {
        self.0.letters()?.list(limit).await
    }

    /// How many dead letters are not resolved yet.
    ///
    /// # Errors
    /// As [`get_dlq_messages`](Self::get_dlq_messages).
    pub async fn get_dlq_message_count(&self) -> Result<u64, BusError> {
        self.0.letters()?.count().await
    }

    /// Publishes a dead letter once more, for the group that gave it up; other groups of this library skip it.
    ///
    /// The replay and the note that it was made are two writes. A crash between them, or two programs replaying the
    /// same letter at the same moment, can replay it twice.
    ///
    /// # Errors
    /// As [`get_dlq_messages`](Self::get_dlq_messages); also when the replay is not acknowledged.
    pub async fn replay_dlq_message(&self, partition: i32, offset: i64) -> Result<ReplayOutcome, BusError> {
        self.replay(Replay::of(partition, offset)).await
    }

    /// As [`replay_dlq_message`](Self::replay_dlq_message), also when the event was replayed more than
    /// `dlq_max_replay_attempts` times before.
    ///
    /// # Errors
    /// As [`replay_dlq_message`](Self::replay_dlq_message).
    pub async fn force_replay_dlq_message(&self, partition: i32, offset: i64) -> Result<ReplayOutcome, BusError> {
        self.replay(Replay::of(partition, offset).forced()).await
    }

    /// Counts a dead letter as resolved without replaying it. The letter stays where it is, for as long as the topic
    /// keeps it, but stands before no later event of its key; the ledger says `why`, who, and when.
    ///
    /// # Errors
    /// As [`get_dlq_messages`](Self::get_dlq_messages); also when the note is not acknowledged.
    pub async fn evict_dlq_message(&self, partition: i32, offset: i64, why: &str) -> Result<EvictOutcome, BusError> {
        self.0.letters()?.evict((partition, offset), why).await
    }

    /// Replays the dead letters of a key that this group gave up, in the order in which its events were published: what
    /// to do with [`DlqScope::Sequence`] once the cause is mended. Each is handled only when those before it were; when
    /// one fails again, the rest follows it back. What came of each, up to the first that could not be replayed.
    ///
    /// # Errors
    /// As [`replay_dlq_message`](Self::replay_dlq_message).
    pub async fn replay_dlq_key(&self, key: impl AsRef<[u8]>) -> Result<Vec<ReplayOutcome>, BusError> {
        let key = Bytes::copy_from_slice(key.as_ref());
        let outcomes = self.0.letters()?.replay_key(key).await?;
        Ok(outcomes
            .into_iter()
            .map(|((partition, offset), outcome)| {
                self.tell_of_replay(partition, offset, outcome);
                outcome
            })
            .collect())
    }

    /// Replays a dead letter the way it says: see [`replay_dlq_message`](Self::replay_dlq_message).
    ///
    /// # Errors
    /// As [`replay_dlq_message`](Self::replay_dlq_message).
    pub async fn replay(&self, replay: Replay) -> Result<ReplayOutcome, BusError> {
        let Replay { partition, offset, .. } = replay;
        let outcome = self.0.letters()?.replay(replay).await?;
        self.tell_of_replay(partition, offset, outcome);
        Ok(outcome)
    }

    fn tell_of_replay(&self, partition: i32, offset: i64, outcome: ReplayOutcome) {
        if let ReplayOutcome::Replayed { partition: to_partition, offset: to_offset } = outcome {
            let shared = &self.0.shared;
            let from = Source { topic: shared.dlq_topic.clone(), partition, offset };
            let to = Source { topic: shared.topic.clone(), partition: to_partition, offset: to_offset };
            shared.hooks.tell(|| Step::Replayed { from: &from, to: &to });
        }
    }
}

impl EventBus for KafkaEventBus {
    fn dispatcher(&self) -> &Dispatcher {
        &self.0.shared.dispatcher
    }

    fn publish_events(&self, events: Vec<AnyEvent>, mode: PublishMode) -> BoxFuture<'_, Result<(), BusError>> {
        async move {
            let publisher = self.0.connection()?.publisher;
            if let Some(tray) = Tray::of_handler(&self.0.shared.bootstrap) {
                return self.0.shared.keep_back(&tray, events);
            }
            match mode {
                PublishMode::Wait => {
                    let sent = self.0.shared.send(&publisher, events).await?;
                    self.0.shared.settle(&publisher, sent).await
                }
                PublishMode::Background => self.0.publish_in_background(publisher, events).await,
            }
        }
        .boxed()
    }

    fn add_subscription(&self, subscription: Subscription) -> Result<SubscriptionId, BusError> {
        for kind in subscription.types() {
            self.0.shared.registry.register_type(*kind)?;
        }
        self.0.shared.dispatcher.add(subscription)
    }

    fn stats(&self) -> Stats {
        self.0.shared.counters.snapshot()
    }

    fn health(&self) -> Health {
        let connection = self.0.state().connection.clone();
        let health = Health::healthy(connection.is_some(), self.is_consuming(), &self.stats());
        let Some(connection) = connection else {
            return health.unhealthy("not connected; call connect()");
        };
        if connection.watcher.is_down() {
            return health.unhealthy(connection.watcher.last_error().unwrap_or_else(|| "no broker answers".into()));
        }
        let shared = &self.0.shared;
        if shared.config.enable_dlq && connection.dlq_partitions == 0 {
            return health.degraded(format!(
                "there is no topic {}; an event that is given up cannot be written, and its key will wait",
                shared.dlq_topic
            ));
        }
        if shared.gauges.flooded.load(Ordering::Relaxed) {
            return health.degraded("too many events fail; nothing is handled for a while, and none is given up yet");
        }
        match shared.gauges.unburied.load(Ordering::Relaxed) {
            0 => health,
            letters => health.degraded(format!(
                "{letters} events cannot be written to {}; they are kept, and their keys wait",
                shared.dlq_topic
            )),
        }
    }

    fn shutdown(&self, timeout: Duration) -> BoxFuture<'_, Result<(), BusError>> {
        async move {
            self.0.closed.store(true, Ordering::Release);
            self.0.background.close();
            self.0.wind_down(timeout).await
        }
        .boxed()
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connection(&self) -> Result<Connection, BusError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(BusError::Closed);
        }
        self.state().connection.clone().ok_or(BusError::NotConnected)
    }

    fn letters(&self) -> Result<Arc<Letters>, BusError> {
        Ok(self.connection()?.letters)
    }

    /// Sends in the caller's task, so that the order of calls is the order in the log, and waits for the answers in a
    /// task of its own; at the bound, in the caller's.
    async fn publish_in_background(
        self: &Arc<Self>,
        publisher: Publisher,
        events: Vec<AnyEvent>,
    ) -> Result<(), BusError> {
        let sent = self.shared.send(&publisher, events).await?;
        let below_bound = |running: usize| (running < self.shared.config.background_publish_max).then_some(running + 1);
        if self.background_tasks.fetch_update(Ordering::AcqRel, Ordering::Acquire, below_bound).is_err() {
            return self.shared.settle(&publisher, sent).await;
        }
        self.shared.counters.background_tasks_created.fetch_add(1, Ordering::Relaxed);
        let bus = Arc::clone(self);
        self.background.spawn(async move {
            if let Err(error) = bus.shared.settle(&publisher, sent).await {
                tracing::error!(%error, "publishing in the background failed");
            }
            bus.background_tasks.fetch_sub(1, Ordering::AcqRel);
        });
        Ok(())
    }

    async fn stop_consuming(&self, patience: Duration, deadline: Instant) -> Result<(), BusError> {
        let mut ended = match &self.state().consumption {
            None => return Ok(()),
            Some(controls) => {
                controls.stop.send_replace(Some(deadline));
                controls.ended.clone()
            }
        };
        let unfinished = ended.wait_for(Option::is_some).await.map_or(0, |cut_off| cut_off.unwrap_or(0));
        let mut state = self.state();
        if state.consumption.as_ref().is_some_and(|controls| !controls.is_running()) {
            state.consumption = None;
        }
        match unfinished {
            0 => Ok(()),
            unfinished => Err(BusError::DeadlinePassed { what: "handling events", waited: patience, unfinished }),
        }
    }

    /// Everything that is under way gets until the deadline, in the order in which it depends on each other.
    async fn wind_down(&self, patience: Duration) -> Result<(), BusError> {
        let deadline = Instant::now() + patience;
        let consumed = self.stop_consuming(patience, deadline).await;
        self.background.close();
        let drained = tokio::time::timeout_at(deadline, self.background.wait()).await;
        let in_background = self.background_tasks.load(Ordering::Acquire);
        if !self.closed.load(Ordering::Acquire) {
            self.background.reopen();
        }
        let Some(connection) = self.state().connection.take() else { return consumed };
        self.shared.counters.telemetry.note(|| Note::Connected(false));
        let left = deadline.saturating_duration_since(Instant::now());
        let unsent = connection.publisher.flush(left).await + connection.careful.flush(Duration::ZERO).await;
        consumed?;
        let late = |what, unfinished| Err(BusError::DeadlinePassed { what, waited: patience, unfinished });
        if drained.is_err() {
            return late("publishing in the background", in_background);
        }
        if unsent > 0 {
            return late("sending events", unsent);
        }
        Ok(())
    }
}

impl Shared {
    async fn connect(&self) -> Result<Connection, BusError> {
        let config = &self.config;
        let watcher = Watcher::new(self.counters.clone());
        // Before the topics are looked at, so that the producers have found their brokers by the time they are needed.
        let producer = client::make(&client::producer(config), Courier::new(watcher.clone()))?;
        let careful = client::make(&client::careful_producer(config), Courier::new(watcher.clone()))?;
        let topics = Topics::new(config, &watcher)?;
        let mut census = topics.census().await?;
        let (replication, compacted) = (config.topic_replication.unwrap_or(BROKER_DEFAULT).into(), false);
        if config.create_topics && !census.contains_key(&*self.topic) {
            let partitions = config.topic_partitions.unwrap_or(BROKER_DEFAULT.into());
            census = topics.create(Wanted { name: &self.topic, partitions, replication, compacted }).await?;
        }
        if config.create_topics && config.enable_dlq && !census.contains_key(&*self.dlq_topic) {
            // As many partitions as the main topic, so that a letter lies where its key lies.
            let partitions = census.get(&*self.topic).copied().unwrap_or(BROKER_DEFAULT.into());
            census = topics.create(Wanted { name: &self.dlq_topic, partitions, replication, compacted }).await?;
        }
        for tier in self.sources.tiers().iter().filter(|_| config.create_topics) {
            if !census.contains_key(&**tier) {
                let partitions = census.get(&*self.topic).copied().unwrap_or(BROKER_DEFAULT.into());
                census = topics.create(Wanted { name: tier, partitions, replication, compacted }).await?;
            }
        }
        self.check_partitions(&census)?;
        let careful = Publisher::new(careful);
        let letters = Letters::new(config, topics, careful.clone(), watcher.clone());
        Ok(Connection {
            publisher: Publisher::new(producer),
            careful,
            letters: Arc::new(letters),
            dlq_partitions: census.get(&*self.dlq_topic).copied().unwrap_or(0),
            watcher,
            runtime: Handle::current(),
        })
    }

    /// What is kept beside the main topic, partition by partition, needs as many as it.
    fn check_partitions(&self, census: &Census) -> Result<(), BusError> {
        let Some(partitions) = census.get(&*self.topic) else { return Ok(()) };
        let dlq = Some(&self.dlq_topic).filter(|_| self.config.dlq_scope == DlqScope::Sequence);
        for topic in self.sources.tiers().iter().chain(dlq) {
            let has = census.get(&**topic).copied().unwrap_or(0);
            if has < *partitions {
                let why = format!("{topic} has {has} partitions and {} has {partitions}; give it as many", self.topic);
                return Err(BusError::Backend { doing: "connecting", source: why.into() });
            }
        }
        Ok(())
    }

    /// Leaves a handler's events to be written with the position of the event it handles.
    fn keep_back(self: &Arc<Self>, tray: &Tray, events: Vec<AnyEvent>) -> Result<(), BusError> {
        let prepared = events.into_iter().map(|event| {
            let aggregate_id = event.aggregate_id().as_str();
            self.hooks.tell(|| Step::Attempted { event_id: event.event_id(), aggregate_id });
            let (shared, published) = (self.clone(), event.clone());
            let acknowledged = Arc::new(move |partition, offset| {
                shared.counters.published(1);
                shared.acknowledged(&published, Delivery { partition, offset });
            });
            Publisher::prepare(&self.topic, &*self.codec, &event, self.config.enable_tracing, acknowledged)
        });
        let prepared: Vec<_> = prepared.collect::<Result<_, _>>()?;
        tray.put(prepared);
        Ok(())
    }

    async fn send(&self, publisher: &Publisher, events: Vec<AnyEvent>) -> Result<Sent, BusError> {
        for event in events.iter().filter(|_| self.hooks.is_observed()) {
            let aggregate_id = event.aggregate_id().as_str();
            self.hooks.tell(|| Step::Attempted { event_id: event.event_id(), aggregate_id });
        }
        let count = events.len();
        let sent = publisher.send(&self.topic, &*self.codec, events, self.config.enable_tracing).await;
        if sent.is_err() {
            self.counters.publish_failed(count);
        }
        sent
    }

    async fn settle(&self, publisher: &Publisher, sent: Sent) -> Result<(), BusError> {
        let (mut acknowledged, count, began) = (0, sent.len(), sent.began);
        let settled = publisher.settle(sent, |event, delivery| {
            acknowledged += 1;
            self.acknowledged(event, delivery);
        });
        let settled = settled.await;
        self.counters.telemetry.note(|| Note::Publishing { events: count, took: began.elapsed() });
        if acknowledged > 0 {
            self.counters.published(acknowledged);
        }
        if settled.is_err() {
            self.counters.publish_failed(count - acknowledged);
        }
        settled
    }

    fn acknowledged(&self, event: &AnyEvent, delivery: Delivery) {
        self.counters.telemetry.note(|| Note::Published { event_type: event.metadata().event_type, events: 1 });
        if self.hooks.is_observed() {
            let at = Source { topic: self.topic.clone(), partition: delivery.partition, offset: delivery.offset };
            self.hooks.tell(|| Step::Acknowledged { event_id: event.event_id(), at: &at });
        }
    }

    fn hooks_about<'a>(&'a self, partitions: &[crate::engine::Partition], step: impl Fn(&'a str, i32) -> Step<'a>) {
        for partition in partitions {
            self.hooks.tell(|| step(self.sources.name(partition.topic), partition.index));
        }
    }
}

/// Asks the brokers for their own number of partitions or replicas.
const BROKER_DEFAULT: i16 = -1;

impl Controls {
    fn is_running(&self) -> bool {
        self.ended.borrow().is_none()
    }
}

struct StopIfDropped<'a>(&'a KafkaEventBus);

impl Drop for StopIfDropped<'_> {
    fn drop(&mut self) {
        if let Some(controls) = &self.0.0.state().consumption {
            controls.stop.send_replace(Some(Instant::now()));
        }
    }
}

impl std::fmt::Debug for KafkaEventBus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaEventBus")
            .field("config", &self.0.shared.config)
            .field("connected", &self.is_connected())
            .field("consuming", &self.is_consuming())
            .finish_non_exhaustive()
    }
}

impl From<KafkaEventBus> for Arc<dyn EventBus> {
    fn from(bus: KafkaEventBus) -> Self {
        Arc::new(bus)
    }
}
