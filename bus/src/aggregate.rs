//! Aggregates, and the repository that saves their events and then publishes them.
//!
//! Small on purpose: enough to show where events come from, and to try an event-sourced design on. Saving and
//! publishing are two steps: a crash between them leaves events that are saved but not published.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::bus::{EventBus, PublishMode};
use crate::error::BusError;
use crate::event::{AggregateId, AnyEvent, DomainEvent, Event};

/// The state of one kind of aggregate, and how events change it.
///
/// ```
/// # use rehearsal_bus::aggregate::*;
/// # use rehearsal_bus::prelude::*;
/// #[derive(DomainEvent, serde::Serialize, serde::Deserialize)]
/// #[event(aggregate = "Order")]
/// struct OrderPlaced {
///     #[event(aggregate_id)]
///     order_id: AggregateId,
/// }
///
/// #[derive(Default)]
/// struct Order {
///     placed: bool,
/// }
///
/// impl AggregateState for Order {
///     const AGGREGATE_TYPE: &'static str = "Order";
///
///     fn apply(&mut self, event: &AnyEvent) {
///         if event.is::<OrderPlaced>() {
///             self.placed = true;
///         }
///     }
/// }
///
/// fn place(order: &mut AggregateRoot<Order>) -> Result<(), &'static str> {
///     if order.state().placed {
///         return Err("Order already placed");
///     }
///     let order_id = order.id().clone();
///     order.record(OrderPlaced { order_id });
///     Ok(())
/// }
///
/// let mut order = AggregateRoot::<Order>::new("o-1");
/// assert_eq!(place(&mut order), Ok(()));
/// assert_eq!(place(&mut order), Err("Order already placed"));
/// assert_eq!(order.version(), 1);
/// # use rehearsal_bus::AggregateId;
/// ```
pub trait AggregateState: Default + Send + 'static {
    /// What kind of aggregate this is.
    const AGGREGATE_TYPE: &'static str;

    /// Takes one event in. It has happened: refusing is not possible, only ignoring.
    fn apply(&mut self, event: &AnyEvent);
}

/// One aggregate: its state, its version, and the events it has not saved yet.
#[derive(Debug)]
pub struct AggregateRoot<S> {
    id: AggregateId,
    version: u64,
    state: S,
    unsaved: Vec<AnyEvent>,
}

impl<S: AggregateState> AggregateRoot<S> {
    /// An aggregate to which nothing has happened.
    pub fn new(id: impl Into<AggregateId>) -> Self {
        Self { id: id.into(), version: 0, state: S::default(), unsaved: Vec::new() }
    }

    /// The aggregate these events have made.
    pub fn replay(id: impl Into<AggregateId>, history: &[AnyEvent]) -> Self {
        let mut aggregate = Self::new(id);
        for event in history {
            aggregate.state.apply(event);
            aggregate.version = event.metadata().aggregate_version;
        }
        aggregate
    }

    /// Its identity.
    pub fn id(&self) -> &AggregateId {
        &self.id
    }

    /// The version of its last event; 0 if nothing has happened.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The version its next event will have.
    pub fn next_version(&self) -> u64 {
        self.version + 1
    }

    /// Its state.
    pub fn state(&self) -> &S {
        &self.state
    }

    /// The events it has not saved yet.
    pub fn unsaved(&self) -> &[AnyEvent] {
        &self.unsaved
    }

    /// Records that this happened, at the next version.
    pub fn record<E: DomainEvent>(&mut self, payload: E) -> Event<E> {
        self.version = self.next_version();
        let event = Event::with(payload, |metadata| metadata.aggregate_version = self.version);
        let any = event.clone().into_any();
        self.state.apply(&any);
        self.unsaved.push(any);
        event
    }
}

/// Where events are kept.
pub trait EventStore: fmt::Debug + Send + Sync + 'static {
    /// Appends events to an aggregate's history if it is still at `expected_version`.
    ///
    /// # Errors
    /// When somebody else was faster, or the store fails. Nothing was appended then.
    fn append(
        &self,
        aggregate: &Key,
        expected_version: u64,
        events: Vec<AnyEvent>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// An aggregate's history, oldest first; empty if there is none.
    ///
    /// # Errors
    /// When the store fails.
    fn history(&self, aggregate: &Key) -> impl Future<Output = Result<Vec<AnyEvent>, StoreError>> + Send;
}

/// Which aggregate: its kind and identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// What kind.
    pub aggregate_type: &'static str,
    /// Which one.
    pub aggregate_id: AggregateId,
}

/// What an event store refuses or fails to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Load the aggregate again and decide again.
    #[error("{aggregate_type} {aggregate_id} is at version {actual}, not {expected}: somebody else changed it")]
    Conflict {
        /// What kind of aggregate.
        aggregate_type: &'static str,
        /// Which one.
        aggregate_id: AggregateId,
        /// The version it was thought to have.
        expected: u64,
        /// The version it has.
        actual: u64,
    },
    /// The store itself failed.
    #[error("the event store failed")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// An event store in memory. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct InMemoryEventStore(Arc<Mutex<HashMap<Key, Vec<AnyEvent>>>>);

impl InMemoryEventStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many events it holds.
    pub fn event_count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().map(Vec::len).sum()
    }
}

impl EventStore for InMemoryEventStore {
    async fn append(&self, aggregate: &Key, expected: u64, events: Vec<AnyEvent>) -> Result<(), StoreError> {
        let mut histories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let history = histories.entry(aggregate.clone()).or_default();
        let actual = history.last().map_or(0, |event| event.metadata().aggregate_version);
        if actual != expected {
            let Key { aggregate_type, aggregate_id } = aggregate.clone();
            return Err(StoreError::Conflict { aggregate_type, aggregate_id, expected, actual });
        }
        history.extend(events);
        Ok(())
    }

    async fn history(&self, aggregate: &Key) -> Result<Vec<AnyEvent>, StoreError> {
        let histories = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(histories.get(aggregate).cloned().unwrap_or_default())
    }
}

/// Loads aggregates from a store, and saves them: events to the store first, then to the bus.
pub struct AggregateRepository<S, T> {
    store: T,
    publisher: Option<Arc<dyn EventBus>>,
    state: std::marker::PhantomData<fn() -> S>,
}

/// Why an aggregate was not saved, or its events not published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// Nothing was saved or published.
    #[error("the events were not saved")]
    NotSaved(#[from] StoreError),
    /// The events are saved. Publish them again; see the source for which.
    #[error("the events are saved but not published")]
    NotPublished {
        /// What was saved.
        saved: Vec<AnyEvent>,
        /// Why it was not published.
        source: BusError,
    },
}

impl<S: AggregateState, T: EventStore> AggregateRepository<S, T> {
    /// A repository that publishes nothing.
    pub fn new(store: T) -> Self {
        Self { store, publisher: None, state: std::marker::PhantomData }
    }

    /// The same, publishing what it saves to `bus`.
    #[must_use]
    pub fn publishing_to(self, bus: impl Into<Arc<dyn EventBus>>) -> Self {
        Self { publisher: Some(bus.into()), ..self }
    }

    /// The aggregate, or `None` if nothing ever happened to it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn load(&self, id: impl Into<AggregateId>) -> Result<Option<AggregateRoot<S>>, StoreError> {
        let key = Self::key(id.into());
        let history = self.store.history(&key).await?;
        Ok((!history.is_empty()).then(|| AggregateRoot::replay(key.aggregate_id, &history)))
    }

    /// Saves the aggregate's new events, then publishes them.
    ///
    /// # Errors
    /// When they were not saved, or were saved but not published: the variants tell which.
    pub async fn save(&self, aggregate: &mut AggregateRoot<S>) -> Result<(), SaveError> {
        let events = aggregate.unsaved.clone();
        let Some(first) = events.first() else { return Ok(()) };
        let expected_version = first.metadata().aggregate_version - 1;
        self.store.append(&Self::key(aggregate.id.clone()), expected_version, events.clone()).await?;
        aggregate.unsaved.clear();
        let Some(bus) = &self.publisher else { return Ok(()) };
        let published = bus.publish_events(events.clone(), PublishMode::Wait).await;
        published.map_err(|source| SaveError::NotPublished { saved: events, source })
    }

    fn key(aggregate_id: AggregateId) -> Key {
        Key { aggregate_type: S::AGGREGATE_TYPE, aggregate_id }
    }
}

impl<S, T: fmt::Debug> fmt::Debug for AggregateRepository<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let publishes = self.publisher.is_some();
        f.debug_struct("AggregateRepository").field("store", &self.store).field("publishes", &publishes).finish()
    }
}
