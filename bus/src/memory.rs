//! The bus within one process: for development, tests, and programs that need no more.
//!
//! Does: runs the handlers when an event is published, in the publisher's task, or in a task of its own in the
//! background.
//! Leaves out: durability, retry, dead letters. A failing handler is logged and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bon::bon;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::Instrument;

use crate::bus::{EventBus, PublishMode};
use crate::dispatch::{Dispatcher, HandlerResult};
use crate::error::BusError;
use crate::event::AnyEvent;
use crate::handler::Ctx;
use crate::health::Health;
use crate::hooks::{Hooks, Step};
use crate::stats::{Counters, Stats};

/// A bus within one process. Cloning shares it.
///
/// ```
/// use rehearsal_bus::prelude::*;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(DomainEvent, Serialize, Deserialize)]
/// #[event(aggregate = "Order")]
/// struct OrderPlaced {
///     #[event(aggregate_id)]
///     order_id: String,
///     total: f64,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BusError> {
/// let bus = InMemoryEventBus::new();
/// bus.subscribe(|event: Event<OrderPlaced>| println!("{} for {}", event.order_id, event.total))?;
/// bus.publish(OrderPlaced { order_id: "o-1".into(), total: 99.99 }).await?;
/// assert_eq!(bus.stats().handlers_invoked, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct InMemoryEventBus(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    dispatcher: Dispatcher,
    counters: Counters,
    hooks: Hooks,
    untraced: bool,
    background: TaskTracker,
    background_tasks_max: usize,
    background_tasks: AtomicUsize,
    /// Cancelled at the end of a shutdown; handlers see it in their context.
    cancellation: CancellationToken,
}

/// Enough that callers hardly ever wait, few enough that a stuck handler is noticed before memory is.
const BACKGROUND_TASKS_MAX: usize = 1000;

#[bon]
impl InMemoryEventBus {
    /// A bus with the defaults of [`builder`](Self::builder).
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A bus with options.
    #[builder(start_fn = builder, finish_fn = build, builder_type = InMemoryEventBusBuilder)]
    pub fn with_options(
        /// Spans around publishing and handling, for whichever `tracing` subscriber listens.
        #[builder(default = true)]
        enable_tracing: bool,
        /// Give up on a handler after this long; never, by default.
        handler_timeout: Option<Duration>,
        /// How many `publish_background` calls may be under way; beyond it they wait.
        #[builder(default = BACKGROUND_TASKS_MAX)]
        background_tasks_max: usize,
        /// Who watches; nobody, by default.
        #[builder(default)]
        hooks: Hooks,
    ) -> Self {
        let dispatcher = Dispatcher::new().with_tracing(enable_tracing).with_handler_timeout(handler_timeout);
        let untraced = !enable_tracing;
        Self(Arc::new(Inner { dispatcher, hooks, untraced, background_tasks_max, ..Inner::default() }))
    }

    /// How many `publish_background` calls are under way.
    pub fn get_background_task_count(&self) -> usize {
        self.0.background_tasks.load(Ordering::Acquire)
    }
}

impl Default for InMemoryEventBus {
    fn default() -> Self {
        Self::new()
    }
}

impl EventBus for InMemoryEventBus {
    fn dispatcher(&self) -> &Dispatcher {
        &self.0.dispatcher
    }

    fn publish_events(&self, events: Vec<AnyEvent>, mode: PublishMode) -> BoxFuture<'_, Result<(), BusError>> {
        if self.0.background.is_closed() {
            return ready(Err(BusError::Closed)).boxed();
        }
        match mode {
            PublishMode::Wait => self.0.deliver(events).map(Ok).boxed(),
            PublishMode::Background => match self.0.background_task() {
                // The place was taken before the bus closed, or the bus is closed by now; never in between.
                Some(_) if self.0.background.is_closed() => ready(Err(BusError::Closed)).boxed(),
                Some(task) => {
                    task.start(events);
                    ready(Ok(())).boxed()
                }
                None => self.0.deliver(events).map(Ok).boxed(),
            },
        }
    }

    fn stats(&self) -> Stats {
        self.0.counters.snapshot()
    }

    fn health(&self) -> Health {
        let open = !self.0.background.is_closed();
        let health = Health::healthy(open, open, &self.stats());
        if open { health } else { health.unhealthy("the bus is shut down") }
    }

    fn shutdown(&self, timeout: Duration) -> BoxFuture<'_, Result<(), BusError>> {
        let bus = &self.0;
        async move {
            bus.background.close();
            let drained = tokio::time::timeout(timeout, bus.background.wait()).await;
            let unfinished = bus.background_tasks.load(Ordering::Acquire);
            // Those that are still under way are dropped at their next await.
            bus.cancellation.cancel();
            drained.map_err(|_| BusError::DeadlinePassed { what: "background publishing", waited: timeout, unfinished })
        }
        .boxed()
    }
}

impl Inner {
    async fn deliver(&self, events: Vec<AnyEvent>) {
        let cx = Ctx::new().with_cancellation(self.cancellation.clone());
        for event in events {
            let event_id = event.event_id();
            self.hooks.tell(|| Step::Attempted { event_id, aggregate_id: event.aggregate_id().as_str() });
            self.counters.published(1);
            self.hooks.tell(|| Step::Started { event_id, at: None, attempt: 1 });
            let outcome = self.dispatcher.dispatch(&event, &cx, None).instrument(self.span(&event)).await;
            self.counters.dispatched(&event, &outcome);
            for HandlerResult { name, outcome, .. } in outcome.results() {
                self.hooks.tell(|| Step::Finished { event_id, at: None, handler: name, outcome });
            }
        }
    }

    fn span(&self, event: &AnyEvent) -> tracing::Span {
        match self.untraced {
            true => tracing::Span::none(),
            false => {
                let (event_type, event_id) = (event.event_type(), event.event_id());
                tracing::info_span!("publish", otel.name = format!("publish {event_type}"), event_type, %event_id)
            }
        }
    }

    /// A place for one more background task; `None` at the bound, or where no runtime could run it.
    fn background_task(self: &Arc<Self>) -> Option<BackgroundTask> {
        let runtime = Handle::try_current().ok()?;
        let below_bound = |running: usize| (running < self.background_tasks_max).then_some(running + 1);
        self.background_tasks.fetch_update(Ordering::AcqRel, Ordering::Acquire, below_bound).ok()?;
        Some(BackgroundTask { _waited_for: self.background.token(), bus: Arc::clone(self), runtime })
    }
}

/// A place among the background tasks, given back when dropped.
struct BackgroundTask {
    bus: Arc<Inner>,
    runtime: Handle,
    _waited_for: TaskTrackerToken,
}

impl BackgroundTask {
    fn start(self, events: Vec<AnyEvent>) {
        self.bus.counters.background_tasks_created.fetch_add(1, Ordering::Relaxed);
        self.runtime.clone().spawn(async move {
            let cancelled = self.bus.cancellation.clone();
            cancelled.run_until_cancelled(self.bus.deliver(events)).await;
        });
    }
}

impl Drop for BackgroundTask {
    fn drop(&mut self) {
        self.bus.background_tasks.fetch_sub(1, Ordering::AcqRel);
    }
}

impl From<InMemoryEventBus> for Arc<dyn EventBus> {
    fn from(bus: InMemoryEventBus) -> Self {
        Arc::new(bus)
    }
}
