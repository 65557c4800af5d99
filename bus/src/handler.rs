//! What may be subscribed: closures, functions, objects, subscribers.
//!
//! A closure or function takes the event, and the context if it wants it, and is async or not:
//!
//! ```
//! # use rehearsal_bus::prelude::*;
//! # #[derive(DomainEvent, serde::Serialize, serde::Deserialize)]
//! # #[event(aggregate = "Order")]
//! # struct OrderPlaced { #[event(aggregate_id)] order: u64 }
//! # async fn ship(_: &OrderPlaced) -> std::io::Result<()> { Ok(()) }
//! # let bus = InMemoryEventBus::new();
//! bus.subscribe(|event: Event<OrderPlaced>| println!("order {}", event.order))?;
//! bus.subscribe(|event: Event<OrderPlaced>, cx: Ctx| async move {
//!     tracing::info!(attempt = cx.attempt(), "shipping");
//!     ship(&event).await?; // an error here means: try again later
//!     Ok(())
//! })?;
//! # Ok::<(), BusError>(())
//! ```
//!
//! Objects implement [`EventHandler`], for one type or for any; [`EventSubscriber`] when they also say for which
//! types; [`AsyncEventHandler`] when they also filter. All are generic traits with plain `async fn`s.

use std::any::type_name;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::future::{Future, ready};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::error::{Handled, HandlerError};
use crate::event::{AnyEvent, DomainEvent, Event, EventMetadata};
use crate::registry::EventType;

/// What a handler is told besides the event. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Ctx(Arc<Context>);

#[derive(Clone, Debug, Default)]
struct Context {
    /// Attempts before this one, so that the default is a first attempt.
    earlier_attempts: u32,
    source: Option<Source>,
    group: Option<Arc<str>>,
    /// Shared, because cloning a token takes a lock and every event has a context.
    cancellation: Arc<CancellationToken>,
    correlation_id: Option<Uuid>,
    event_id: Option<Uuid>,
}

/// Where in a log an event was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

impl Ctx {
    /// The context of a first attempt, from nowhere in particular.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, as attempt number `attempt`, counted from 1.
    #[must_use]
    pub fn with_attempt(self, attempt: u32) -> Self {
        self.map(|context| context.earlier_attempts = attempt.saturating_sub(1))
    }

    /// The same, read at `source`.
    #[must_use]
    pub fn with_source(self, source: Source) -> Self {
        self.map(|context| context.source = Some(source))
    }

    /// The same, for consumer group `group`.
    #[must_use]
    pub fn with_group(self, group: Arc<str>) -> Self {
        self.map(|context| context.group = Some(group))
    }

    /// The same, cancelled by `cancellation`.
    #[must_use]
    pub fn with_cancellation(self, cancellation: CancellationToken) -> Self {
        self.map(|context| context.cancellation = Arc::new(cancellation))
    }

    /// All that is known of an attempt at an event from a log, at once.
    #[cfg(feature = "kafka")]
    pub(crate) fn of_attempt(
        attempt: u32,
        source: Source,
        group: Arc<str>,
        cancellation: Arc<CancellationToken>,
        event: &EventMetadata,
    ) -> Self {
        Self(Arc::new(Context {
            earlier_attempts: attempt.saturating_sub(1),
            source: Some(source),
            group: Some(group),
            cancellation,
            correlation_id: Some(event.correlation_id),
            event_id: Some(event.event_id),
        }))
    }

    /// The same, about the event with this metadata.
    pub(crate) fn about(self, event: &EventMetadata) -> Self {
        if self.0.event_id == Some(event.event_id) && self.0.correlation_id == Some(event.correlation_id) {
            return self;
        }
        self.map(|context| {
            context.correlation_id = Some(event.correlation_id);
            context.event_id = Some(event.event_id);
        })
    }

    fn map(mut self, change: impl FnOnce(&mut Context)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Which attempt this is; 1 is the first.
    pub fn attempt(&self) -> u32 {
        self.0.earlier_attempts.saturating_add(1)
    }

    /// Where the event was read, when it came from a log.
    pub fn source(&self) -> Option<&Source> {
        self.0.source.as_ref()
    }

    /// The consumer group it is handled for.
    pub fn group(&self) -> Option<&str> {
        self.0.group.as_deref()
    }

    /// Cancelled when the bus wants the handler to stop: at a hard shutdown, or when the partition is taken away.
    pub fn cancellation(&self) -> &CancellationToken {
        &self.0.cancellation
    }

    /// The correlation id of the event.
    pub fn correlation_id(&self) -> Option<Uuid> {
        self.0.correlation_id
    }

    /// The id of the event: what to name as the cause of anything that follows.
    pub fn event_id(&self) -> Option<Uuid> {
        self.0.event_id
    }
}

/// What a handler may return: nothing, or [`Handled`].
pub trait IntoHandled {
    /// As [`Handled`].
    fn into_handled(self) -> Handled;
}

impl IntoHandled for () {
    fn into_handled(self) -> Handled {
        Ok(())
    }
}

// Only this one `Result`, so that the error type of a closure that ends in `Ok(())` is inferred.
impl IntoHandled for Handled {
    fn into_handled(self) -> Handled {
        self
    }
}

/// How a handler takes its event: as [`Event<E>`], or as [`AnyEvent`].
pub trait EventArgument: Sized + Send + 'static {
    /// The event as this; `None` when it is of another type.
    fn from_event(event: AnyEvent) -> Option<Self>;
}

impl EventArgument for AnyEvent {
    fn from_event(event: AnyEvent) -> Option<Self> {
        Some(event)
    }
}

impl<E: DomainEvent> EventArgument for Event<E> {
    fn from_event(event: AnyEvent) -> Option<Self> {
        event.downcast()
    }
}

/// An object that handles events: of one type as `EventHandler<Event<E>>`, or of any type.
///
/// ```
/// # use rehearsal_bus::prelude::*;
/// struct AuditLogger;
///
/// impl EventHandler for AuditLogger {
///     async fn handle(&self, event: AnyEvent, _cx: Ctx) -> Handled {
///         println!("{} {} {}", event.event_type(), event.aggregate_id(), event.occurred_at());
///         Ok(())
///     }
/// }
/// # InMemoryEventBus::new().subscribe_to_all_events(AuditLogger)?;
/// # Ok::<(), BusError>(())
/// ```
pub trait EventHandler<A: EventArgument = AnyEvent>: Send + Sync + 'static {
    /// Handles one event.
    fn handle(&self, event: A, cx: Ctx) -> impl Future<Output = Handled> + Send;

    /// What to call this handler in logs and dead letters; the type's name by default.
    fn name(&self) -> Cow<'static, str> {
        type_name::<Self>().into()
    }
}

impl<A: EventArgument, T: EventHandler<A>> EventHandler<A> for Arc<T> {
    fn handle(&self, event: A, cx: Ctx) -> impl Future<Output = Handled> + Send {
        T::handle(self, event, cx)
    }

    fn name(&self) -> Cow<'static, str> {
        T::name(self)
    }
}

/// An object that handles events and says which.
///
/// Usually written by [`#[subscriber]`](crate::subscriber).
pub trait EventSubscriber: Send + Sync + 'static {
    /// The types it wants. Asked once, when it is subscribed.
    fn subscribed_to(&self) -> Vec<EventType>;

    /// Handles one event of one of these types.
    fn handle(&self, event: AnyEvent, cx: Ctx) -> impl Future<Output = Handled> + Send;

    /// Whether it wants this one. Asked for every event of the types it named.
    fn wants(&self, _event: &AnyEvent) -> bool {
        true
    }

    /// What to call this subscriber in logs and dead letters; the type's name by default.
    fn name(&self) -> Cow<'static, str> {
        type_name::<Self>().into()
    }
}

impl<T: EventSubscriber> EventSubscriber for Arc<T> {
    fn subscribed_to(&self) -> Vec<EventType> {
        T::subscribed_to(self)
    }

    fn handle(&self, event: AnyEvent, cx: Ctx) -> impl Future<Output = Handled> + Send {
        T::handle(self, event, cx)
    }

    fn wants(&self, event: &AnyEvent) -> bool {
        T::wants(self, event)
    }

    fn name(&self) -> Cow<'static, str> {
        T::name(self)
    }
}

/// A subscriber with a filter of its own. Subscribe it with [`subscribe_all`](crate::EventBusExt::subscribe_all).
pub trait AsyncEventHandler: Send + Sync + 'static {
    /// The types it wants. Asked once, when it is subscribed.
    fn event_types(&self) -> Vec<EventType>;

    /// Handles one event that [`can_handle`](Self::can_handle) let through.
    fn handle(&self, event: AnyEvent, cx: Ctx) -> impl Future<Output = Handled> + Send;

    /// Whether it wants this one; by default every event of its types.
    fn can_handle(&self, event: &AnyEvent) -> bool {
        self.event_types().iter().any(|kind| kind.id() == event.payload_type())
    }

    /// What to call this handler in logs and dead letters; the type's name by default.
    fn name(&self) -> Cow<'static, str> {
        type_name::<Self>().into()
    }
}

impl<T: AsyncEventHandler> EventSubscriber for T {
    fn subscribed_to(&self) -> Vec<EventType> {
        self.event_types()
    }

    fn handle(&self, event: AnyEvent, cx: Ctx) -> impl Future<Output = Handled> + Send {
        AsyncEventHandler::handle(self, event, cx)
    }

    fn wants(&self, event: &AnyEvent) -> bool {
        self.can_handle(event)
    }

    fn name(&self) -> Cow<'static, str> {
        AsyncEventHandler::name(self)
    }
}

/// Any handler, with its type forgotten. Cloning shares it.
#[derive(Clone)]
pub struct Handler(Arc<dyn ErasedHandler>);

/// A handler written as a plain function over any event.
pub type EventHandlerFunc = fn(AnyEvent) -> Handled;

trait ErasedHandler: Send + Sync {
    fn call(&self, event: AnyEvent, cx: Ctx) -> BoxFuture<'_, Handled>;
    fn wants(&self, event: &AnyEvent) -> bool;
    fn name(&self) -> Cow<'static, str>;
}

impl Handler {
    /// Calls the handler.
    pub fn call(&self, event: AnyEvent, cx: Ctx) -> BoxFuture<'_, Handled> {
        self.0.call(event, cx)
    }

    /// Whether the handler wants this event, given that it is of a type it subscribed to.
    pub fn wants(&self, event: &AnyEvent) -> bool {
        self.0.wants(event)
    }

    /// What to call it in logs and dead letters.
    pub fn name(&self) -> Cow<'static, str> {
        self.0.name()
    }

    /// The handler a subscriber is.
    pub fn of_subscriber(subscriber: impl EventSubscriber) -> Self {
        Self(Arc::new(OfSubscriber(subscriber)))
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handler({})", self.name())
    }
}

struct OfSubscriber<T>(T);

impl<T: EventSubscriber> ErasedHandler for OfSubscriber<T> {
    fn call(&self, event: AnyEvent, cx: Ctx) -> BoxFuture<'_, Handled> {
        self.0.handle(event, cx).boxed()
    }

    fn wants(&self, event: &AnyEvent) -> bool {
        self.0.wants(event)
    }

    fn name(&self) -> Cow<'static, str> {
        self.0.name()
    }
}

struct OfObject<T, A>(T, std::marker::PhantomData<fn(A)>);

impl<A: EventArgument, T: EventHandler<A>> ErasedHandler for OfObject<T, A> {
    fn call(&self, event: AnyEvent, cx: Ctx) -> BoxFuture<'_, Handled> {
        match A::from_event(event) {
            Some(event) => self.0.handle(event, cx).boxed(),
            None => ready(Ok(())).boxed(),
        }
    }

    fn wants(&self, _event: &AnyEvent) -> bool {
        true
    }

    fn name(&self) -> Cow<'static, str> {
        self.0.name()
    }
}

/// A closure, already reduced to what every closure can be reduced to.
struct OfClosure<F> {
    call: F,
    name: &'static str,
}

impl<F> ErasedHandler for OfClosure<F>
where
    F: Fn(AnyEvent, Ctx) -> BoxFuture<'static, Handled> + Send + Sync + 'static,
{
    fn call(&self, event: AnyEvent, cx: Ctx) -> BoxFuture<'_, Handled> {
        (self.call)(event, cx)
    }

    fn wants(&self, _event: &AnyEvent) -> bool {
        true
    }

    fn name(&self) -> Cow<'static, str> {
        self.name.into()
    }
}

/// What can become a handler of events taken as `A`. `M` only tells the ways apart; leave it to inference.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler of `{A}`",
    note = "a handler is a closure `|event: Event<E>|` or `|event: Event<E>, cx: Ctx|`, async or not, \
            that returns `()` or `Handled`; or an object that implements `EventHandler`",
    note = "wildcard handlers take `AnyEvent`"
)]
pub trait IntoHandler<A, M> {
    /// The handler.
    fn into_handler(self) -> Handler;
}

/// How something becomes a handler; names for the parameter `M` of [`IntoHandler`].
pub mod via {
    /// An async closure of the event.
    #[derive(Debug)]
    pub struct Async1;
    /// An async closure of the event and the context.
    #[derive(Debug)]
    pub struct Async2;
    /// A closure of the event.
    #[derive(Debug)]
    pub struct Sync1;
    /// A closure of the event and the context.
    #[derive(Debug)]
    pub struct Sync2;
    /// An [`EventHandler`](super::EventHandler).
    #[derive(Debug)]
    pub struct Object;
    /// A [`Handler`](super::Handler) made before.
    #[derive(Debug)]
    pub struct Made;
}

fn closure<A, F>(name: &'static str, call: F) -> Handler
where
    A: EventArgument,
    F: Fn(A, Ctx) -> BoxFuture<'static, Handled> + Send + Sync + 'static,
{
    let call = move |event, cx| match A::from_event(event) {
        Some(event) => call(event, cx),
        None => ready(Ok(())).boxed(),
    };
    Handler(Arc::new(OfClosure { call, name }))
}

impl<A, F, Fut> IntoHandler<A, via::Async2> for F
where
    A: EventArgument,
    F: Fn(A, Ctx) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: IntoHandled> + Send + 'static,
{
    fn into_handler(self) -> Handler {
        closure::<A, _>(type_name::<F>(), move |event, cx| self(event, cx).map(IntoHandled::into_handled).boxed())
    }
}

impl<A, F, Fut> IntoHandler<A, via::Async1> for F
where
    A: EventArgument,
    F: Fn(A) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: IntoHandled> + Send + 'static,
{
    fn into_handler(self) -> Handler {
        closure::<A, _>(type_name::<F>(), move |event, _| self(event).map(IntoHandled::into_handled).boxed())
    }
}

impl<A, F, R> IntoHandler<A, via::Sync2> for F
where
    A: EventArgument,
    F: Fn(A, Ctx) -> R + Send + Sync + 'static,
    R: IntoHandled,
{
    fn into_handler(self) -> Handler {
        closure::<A, _>(type_name::<F>(), move |event, cx| ready(self(event, cx).into_handled()).boxed())
    }
}

impl<A, F, R> IntoHandler<A, via::Sync1> for F
where
    A: EventArgument,
    F: Fn(A) -> R + Send + Sync + 'static,
    R: IntoHandled,
{
    fn into_handler(self) -> Handler {
        closure::<A, _>(type_name::<F>(), move |event, _| ready(self(event).into_handled()).boxed())
    }
}

impl<A: EventArgument, T: EventHandler<A>> IntoHandler<A, via::Object> for T {
    fn into_handler(self) -> Handler {
        Handler(Arc::new(OfObject(self, std::marker::PhantomData)))
    }
}

impl<A> IntoHandler<A, via::Made> for Handler {
    fn into_handler(self) -> Handler {
        self
    }
}

/// Which subscription: what `subscribe` returns and `unsubscribe` wants. Unique within its bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(pub(crate) u64);

impl fmt::Display for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Some of the handlers of a bus, such as those that failed and are to be tried again.
pub type HandlerSet = BTreeSet<SubscriptionId>;

/// What one handler made of an event.
pub type HandlerOutcome = Result<(), HandlerError>;
