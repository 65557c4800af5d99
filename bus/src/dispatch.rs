//! Who gets an event, and what becomes of it there.
//!
//! Handlers are independent: one that fails, panics or hangs does not keep the event from the others. They run
//! side by side within the caller's task, and [`Dispatcher::dispatch`] returns when all are done. A second
//! attempt names the handlers it is for, so that those which succeeded are left alone.

use std::any::TypeId;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::FutureExt;
use futures::future::join_all;
use tokio::time::Instant;
use tracing::Instrument;

use crate::error::{BusError, Disposition, HandlerError};
use crate::event::{AnyEvent, BEING_HANDLED};
use crate::handler::{Ctx, EventSubscriber, Handler, HandlerOutcome, HandlerSet, SubscriptionId};
use crate::mutant::{self, Mutant};
#[cfg(feature = "kafka")]
use crate::outbox::{Prepared, Tray};
use crate::registry::EventType;

/// A handler, and the events it is for.
#[derive(Clone, Debug)]
pub struct Subscription {
    handler: Handler,
    /// `None`: all of them.
    types: Option<Vec<EventType>>,
}

impl Subscription {
    /// `handler`, for events of these types.
    pub fn to(types: impl IntoIterator<Item = EventType>, handler: Handler) -> Self {
        let mut distinct: Vec<EventType> = Vec::new();
        for kind in types {
            if !distinct.contains(&kind) {
                distinct.push(kind);
            }
        }
        Self { handler, types: Some(distinct) }
    }

    /// `handler`, for every event.
    pub fn to_all(handler: Handler) -> Self {
        Self { handler, types: None }
    }

    /// `subscriber`, for the types it declares.
    pub fn of(subscriber: impl EventSubscriber) -> Self {
        Self::to(subscriber.subscribed_to(), Handler::of_subscriber(subscriber))
    }

    /// The types it is for; none for a wildcard.
    pub fn types(&self) -> &[EventType] {
        self.types.as_deref().unwrap_or_default()
    }
}

/// The handlers of one bus. Subscribing and dispatching may happen on any thread at any time: a dispatch sees
/// the handlers there were when it began.
#[derive(Debug, Default)]
pub struct Dispatcher {
    table: ArcSwap<Table>,
    /// The last id given out; held while the table is replaced.
    writing: Mutex<u64>,
    handler_timeout: Option<Duration>,
    untraced: bool,
    /// The brokers for which what handlers publish is kept back.
    #[cfg(feature = "kafka")]
    keeps_back: Option<Arc<str>>,
}

#[derive(Clone, Debug, Default)]
struct Table {
    by_type: HashMap<TypeId, Vec<Entry>>,
    wildcard: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    id: SubscriptionId,
    name: Arc<str>,
    handler: Handler,
}

impl Dispatcher {
    /// No handlers yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, giving up on a handler after `timeout`. The handler's future is dropped, the failure retryable.
    #[must_use]
    pub fn with_handler_timeout(self, timeout: Option<Duration>) -> Self {
        Self { handler_timeout: timeout, ..self }
    }

    /// The same, keeping back what handlers publish to these brokers; [`HandlerResult`] has it.
    #[cfg(feature = "kafka")]
    pub(crate) fn keeping_back(self, bootstrap: Option<Arc<str>>) -> Self {
        Self { keeps_back: bootstrap, ..self }
    }

    /// The names of these subscriptions.
    #[cfg(feature = "kafka")]
    pub(crate) fn names_of(&self, ids: &HandlerSet) -> Vec<String> {
        let table = self.table.load();
        let mut names: Vec<_> =
            table.entries().filter(|entry| ids.contains(&entry.id)).map(|entry| entry.name.to_string()).collect();
        names.dedup();
        names
    }

    /// The subscriptions with these names: more than one, if several share one.
    #[cfg(feature = "kafka")]
    pub(crate) fn called(&self, names: &[String]) -> HandlerSet {
        let table = self.table.load();
        table.entries().filter(|entry| names.iter().any(|name| **name == *entry.name)).map(|entry| entry.id).collect()
    }

    /// The same, with or without a span around each handler.
    #[must_use]
    pub fn with_tracing(self, enabled: bool) -> Self {
        Self { untraced: !enabled, ..self }
    }

    /// Adds a subscription.
    ///
    /// # Errors
    /// When it is for no type at all: it would never be called.
    pub fn add(&self, subscription: Subscription) -> Result<SubscriptionId, BusError> {
        let name: Arc<str> = subscription.handler.name().into();
        if subscription.types.as_ref().is_some_and(Vec::is_empty) {
            return Err(BusError::NothingSubscribed { subscriber: name.to_string() });
        }
        Ok(self.write(|table, last_id| {
            *last_id += 1;
            let id = SubscriptionId(*last_id);
            let entry = Entry { id, name, handler: subscription.handler };
            match subscription.types {
                None => table.wildcard.push(entry),
                Some(types) => {
                    for kind in types {
                        table.by_type.entry(kind.id()).or_default().push(entry.clone());
                    }
                }
            }
            id
        }))
    }

    /// Removes a subscription of either sort. Whether there was one.
    pub fn remove(&self, id: SubscriptionId) -> bool {
        self.remove_wildcard(id)
            || self.write(|table, _| {
                let before = table.typed_len();
                table.by_type.retain(|_, entries| {
                    entries.retain(|entry| entry.id != id);
                    !entries.is_empty()
                });
                table.typed_len() < before
            })
    }

    /// Removes a wildcard subscription. Whether there was one.
    pub fn remove_wildcard(&self, id: SubscriptionId) -> bool {
        self.write(|table, _| {
            let before = table.wildcard.len();
            table.wildcard.retain(|entry| entry.id != id);
            table.wildcard.len() < before
        })
    }

    /// Removes all subscriptions.
    pub fn clear(&self) {
        self.write(|table, _| *table = Table::default());
    }

    /// How many handlers are subscribed to this type, wildcards not counted.
    pub fn subscriber_count(&self, kind: EventType) -> usize {
        self.table.load().by_type.get(&kind.id()).map_or(0, Vec::len)
    }

    /// How many wildcard handlers there are.
    pub fn wildcard_count(&self) -> usize {
        self.table.load().wildcard.len()
    }

    fn write<T>(&self, change: impl FnOnce(&mut Table, &mut u64) -> T) -> T {
        let mut last_id = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = Table::clone(&self.table.load());
        let result = change(&mut table, &mut last_id);
        self.table.store(Arc::new(table));
        result
    }

    /// Hands an event to its handlers, or to those of them in `only`, and waits for all.
    pub async fn dispatch(&self, event: &AnyEvent, cx: &Ctx, only: Option<&HandlerSet>) -> DispatchOutcome {
        let table = self.table.load_full();
        let cx = cx.clone().about(event.metadata());
        let mut calls = table
            .recipients(event)
            .filter(|entry| only.is_none_or(|only| only.contains(&entry.id)))
            .filter_map(|entry| self.call(entry, event, &cx));
        // Most events have one handler, and running several side by side has its price.
        let results = match (calls.next(), calls.next()) {
            (None, _) => Vec::new(),
            (Some(only), None) => vec![only.await],
            (Some(first), Some(second)) => join_all([first, second].into_iter().chain(calls)).await,
        };
        DispatchOutcome { results }
    }

    /// One handler's turn; `None` when it does not want the event.
    fn call(&self, entry: &Entry, event: &AnyEvent, cx: &Ctx) -> Option<impl Future<Output = HandlerResult> + use<>> {
        // `wants` is the user's code as well: if it panics, the handler runs into it below and is told so.
        let wanted = std::panic::catch_unwind(AssertUnwindSafe(|| entry.handler.wants(event)));
        let unwanted_because = match wanted {
            Ok(true) => None,
            Ok(false) => return None,
            Err(panic) => Some(HandlerError::panicked(panic_text(&*panic))),
        };
        let Entry { id, name, handler } = entry.clone();
        let (event, cx, limit) = (event.clone(), cx.clone(), self.handler_timeout);
        #[cfg(feature = "kafka")]
        let tray = self.keeps_back.clone().map(Tray::new);
        let span = match self.untraced {
            true => tracing::Span::none(),
            false => {
                tracing::info_span!("handle", otel.name = format!("handle {name}"), event_type = event.event_type())
            }
        };
        let turn = async move {
            let started = Instant::now();
            let outcome = match unwanted_because {
                Some(error) => Err(error),
                None => {
                    let handled = guarded(&handler, event.clone(), cx.clone(), limit);
                    #[cfg(feature = "kafka")]
                    let outcome = match tray.clone() {
                        Some(tray) => Box::pin(tray.before(handled)).await,
                        None => handled.await,
                    };
                    #[cfg(not(feature = "kafka"))]
                    let outcome = handled.await;
                    outcome
                }
            };
            if let Err(error) = &outcome {
                report(error, &name, &event, &cx);
            }
            #[cfg(feature = "kafka")]
            let published = tray.filter(|_| outcome.is_ok()).map(|tray| tray.take()).unwrap_or_default();
            HandlerResult {
                handler: id,
                name,
                outcome,
                took: started.elapsed(),
                #[cfg(feature = "kafka")]
                published,
            }
        };
        Some(turn.instrument(span))
    }
}

impl Table {
    fn recipients(&self, event: &AnyEvent) -> impl Iterator<Item = &Entry> {
        self.by_type.get(&event.payload_type()).into_iter().flatten().chain(&self.wildcard)
    }

    #[cfg(feature = "kafka")]
    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.by_type.values().flatten().chain(&self.wildcard)
    }

    fn typed_len(&self) -> usize {
        self.by_type.values().map(Vec::len).sum()
    }
}

/// The handler, with its panics and its hanging made into errors.
async fn guarded(handler: &Handler, event: AnyEvent, cx: Ctx, limit: Option<Duration>) -> HandlerOutcome {
    // The call itself is inside too: a synchronous handler panics before there is a future.
    let call = BEING_HANDLED.scope(event.clone(), async move { handler.call(event, cx).await });
    let call = AssertUnwindSafe(call).catch_unwind();
    let outcome = match limit.filter(|_| !mutant::is(Mutant::WaitsForHandlersForEver)) {
        None => Ok(call.await),
        Some(limit) => tokio::time::timeout(limit, call).await.map_err(|_| HandlerError::timed_out(limit)),
    };
    match outcome {
        Ok(Ok(handled)) => skips_are_fine(handled),
        Ok(Err(_)) if mutant::is(Mutant::PanicsAreSuccess) => Ok(()),
        Err(_) if mutant::is(Mutant::TimeoutsAreSuccess) => Ok(()),
        Ok(Err(panic)) => Err(HandlerError::panicked(panic_text(&*panic))),
        Err(timeout) => Err(timeout),
    }
}

fn skips_are_fine(handled: HandlerOutcome) -> HandlerOutcome {
    match handled {
        Err(error) if error.disposition() == Disposition::Skip => Ok(()),
        other => other,
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the handler panicked: {}", text.unwrap_or("no message"))
}

fn report(error: &HandlerError, handler: &str, event: &AnyEvent, cx: &Ctx) {
    tracing::error!(
        handler,
        event_type = event.event_type(),
        event_id = %event.event_id(),
        attempt = cx.attempt(),
        disposition = ?error.disposition(),
        error_type = error.error_type(),
        %error,
        "event handler failed"
    );
}

/// What all handlers made of one event.
#[derive(Debug, Default)]
#[must_use = "a failed handler is only known here"]
pub struct DispatchOutcome {
    results: Vec<HandlerResult>,
}

/// What one handler made of an event.
#[non_exhaustive]
pub struct HandlerResult {
    /// Which one.
    pub handler: SubscriptionId,
    /// Its name.
    pub name: Arc<str>,
    /// Success, or the error; never one that asks to be skipped.
    pub outcome: HandlerOutcome,
    /// How long it ran.
    pub took: Duration,
    /// What it published and the bus has kept back.
    #[cfg(feature = "kafka")]
    published: Vec<Prepared>,
}

impl std::fmt::Debug for HandlerResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { handler, name, outcome, took, .. } = self;
        let mut shown = f.debug_struct("HandlerResult");
        shown.field("handler", handler).field("name", name).field("outcome", outcome).field("took", took);
        shown.finish_non_exhaustive()
    }
}

/// What to do with an event after a dispatch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: no handler failed.
    Settled,
    /// Try these handlers again, not before `after` if they said so.
    Retry {
        /// Those that failed and may succeed.
        handlers: HandlerSet,
        /// The longest wait any of them asked for.
        after: Option<Duration>,
    },
    /// Only handlers failed that say it will never work.
    Fatal,
}

impl DispatchOutcome {
    /// One result per handler called, in the order subscribed.
    pub fn results(&self) -> &[HandlerResult] {
        &self.results
    }

    /// Takes what the handlers that succeeded have published and the bus has kept back.
    #[cfg(feature = "kafka")]
    pub(crate) fn take_published(&mut self) -> Vec<Prepared> {
        self.results.iter_mut().flat_map(|result| std::mem::take(&mut result.published)).collect()
    }

    /// The failures.
    pub fn failures(&self) -> impl Iterator<Item = (&HandlerResult, &HandlerError)> {
        self.results.iter().filter_map(|result| Some((result, result.outcome.as_ref().err()?)))
    }

    /// How many handlers were called.
    pub fn invoked(&self) -> usize {
        self.results.len()
    }

    /// How many failed.
    pub fn failed(&self) -> usize {
        self.failures().count()
    }

    /// The handlers that failed for good.
    pub fn fatal(&self) -> HandlerSet {
        let fatal = self.failures().filter(|(_, error)| error.disposition() == Disposition::Fatal);
        fatal.map(|(result, _)| result.handler).collect()
    }

    /// What to do next. While some handlers are retried, the caller remembers those in [`fatal`](Self::fatal).
    pub fn verdict(&self) -> Verdict {
        let mut handlers = HandlerSet::new();
        let mut after = None;
        for (result, error) in self.failures() {
            match error.disposition() {
                Disposition::Fatal | Disposition::Skip => continue,
                Disposition::RetryAfter(delay) => after = after.max(Some(delay)),
                Disposition::Retry => {}
            }
            handlers.insert(result.handler);
        }
        match (handlers.is_empty(), self.failed()) {
            (false, _) => Verdict::Retry { handlers, after },
            (true, 0) => Verdict::Settled,
            (true, _) => Verdict::Fatal,
        }
    }
}
