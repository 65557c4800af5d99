//! What travels on a bus: the trait of your types, and the envelope around them.
//!
//! [`DomainEvent`] is what a type says about itself. [`Event<E>`] is one occurrence: the payload plus its
//! [`EventMetadata`], behind one `Arc`, so that ten handlers share one copy. [`AnyEvent`] is the same envelope
//! with the type forgotten; [`AnyEvent::downcast`] remembers it.
//!
//! In JSON an event is one flat object, metadata and payload side by side, which is what the Python library
//! this bus can share a topic with writes:
//!
//! ```json
//! {"event_id":"…","event_type":"OrderPlaced","aggregate_id":"…", … ,"customer_id":"cust-123","total":99.99}
//! ```

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use uuid::Uuid;

/// A fact about one aggregate, as your code names it.
///
/// Derive it: `#[derive(DomainEvent, Serialize, Deserialize)]`; see [`macro@crate::DomainEvent`].
pub trait DomainEvent: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name on the wire.
    const EVENT_TYPE: &'static str;
    /// What kind of aggregate this happened to.
    const AGGREGATE_TYPE: &'static str;
    /// The version of the payload's schema.
    const VERSION: u32 = 1;
    /// Other names under which events of this type may still arrive.
    const ALIASES: &'static [&'static str] = &[];

    /// The aggregate this happened to. It decides the partition, and with it the order.
    fn aggregate_id(&self) -> AggregateId;

    /// Brings the JSON of an older [`VERSION`](Self::VERSION) up to this one. Called before decoding, and only
    /// for events written at a lower version.
    fn upcast(_from_version: u32, payload: Value) -> Value {
        payload
    }
}

/// The identity of an aggregate, as text: a UUID, a number, a name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(from = "String")]
pub struct AggregateId(Arc<str>);

impl AggregateId {
    /// The identity anything printable stands for.
    pub fn new(id: impl fmt::Display) -> Self {
        Self(id.to_string().into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The bytes of the text: the Kafka record's key.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Display for AggregateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AggregateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl Serialize for AggregateId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl From<&str> for AggregateId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

impl From<String> for AggregateId {
    fn from(id: String) -> Self {
        Self(id.into())
    }
}

impl From<Uuid> for AggregateId {
    fn from(id: Uuid) -> Self {
        Self::new(id)
    }
}

/// What is known about an event besides its payload.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct EventMetadata {
    /// Unique to this event; time-ordered (UUID v7). The thing to deduplicate on.
    pub event_id: Uuid,
    /// The type's name on the wire.
    pub event_type: &'static str,
    /// The version of the payload's schema it was created with.
    pub event_version: u32,
    /// The aggregate it happened to.
    pub aggregate_id: AggregateId,
    /// What kind of aggregate that is.
    pub aggregate_type: &'static str,
    /// The aggregate's version after this event; 1 for an event nobody versioned.
    pub aggregate_version: u64,
    /// When it happened.
    #[serde(serialize_with = "with_offset")]
    pub occurred_at: Timestamp,
    /// Shared by everything that follows from one cause; the event's own id at the root of a chain.
    pub correlation_id: Uuid,
    /// The event that directly caused this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub causation_id: Option<Uuid>,
    /// On whose behalf, in a multi-tenant system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    /// Who did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor_id: Option<String>,
    /// Whatever else should travel beside the payload. Not part of the JSON body.
    #[serde(skip)]
    pub headers: BTreeMap<String, String>,
}

/// The names of the metadata, in JSON bodies and in record headers alike.
const METADATA_KEYS: [&str; 11] = [
    "event_id",
    "event_type",
    "event_version",
    "aggregate_id",
    "aggregate_type",
    "aggregate_version",
    "occurred_at",
    "correlation_id",
    "causation_id",
    "tenant_id",
    "actor_id",
];

/// What a trace travels in (W3C Trace Context and Baggage). The first names the trace; the others belong to it.
const TRACE_HEADERS: [&str; 3] = ["traceparent", "tracestate", "baggage"];

impl EventMetadata {
    fn of<E: DomainEvent>(payload: &E) -> Self {
        let event_id = Uuid::now_v7();
        Self {
            event_id,
            event_type: E::EVENT_TYPE,
            event_version: E::VERSION,
            aggregate_id: payload.aggregate_id(),
            aggregate_type: E::AGGREGATE_TYPE,
            aggregate_version: 1,
            occurred_at: Timestamp::now(),
            correlation_id: event_id,
            causation_id: None,
            tenant_id: None,
            actor_id: None,
            headers: BTreeMap::new(),
        }
    }

    /// Makes this a consequence of `cause`: same correlation, tenant, actor and trace, caused by it. A trace header
    /// that is there already is kept: who has a span of its own knows better.
    pub fn caused_by(&mut self, cause: &EventMetadata) {
        self.correlation_id = cause.correlation_id;
        self.causation_id = Some(cause.event_id);
        self.tenant_id = cause.tenant_id.clone().or(self.tenant_id.take());
        self.actor_id = cause.actor_id.clone().or(self.actor_id.take());
        if !self.headers.contains_key(TRACE_HEADERS[0]) {
            let told = TRACE_HEADERS.iter().filter_map(|name| cause.headers.get_key_value(*name));
            self.headers.extend(told.map(|(name, value)| (name.clone(), value.clone())));
        }
    }

    /// The metadata as text headers, custom headers last. [`WireMetadata::from_headers`] reads them back.
    pub fn to_headers(&self) -> Vec<(&str, String)> {
        let mut headers = Vec::with_capacity(12);
        self.each_header(&mut |name, value| headers.push((name, value.to_owned())));
        headers
    }

    /// Shows each header there is, in the order of [`to_headers`](Self::to_headers), without owning any.
    pub(crate) fn each_header<'a>(&'a self, each: &mut impl FnMut(&'a str, &str)) {
        let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
        each("event_id", self.event_id.as_hyphenated().encode_lower(&mut id));
        each("event_type", self.event_type);
        each("event_version", &self.event_version.to_string());
        each("aggregate_id", self.aggregate_id.as_str());
        each("aggregate_type", self.aggregate_type);
        each("aggregate_version", &self.aggregate_version.to_string());
        each("occurred_at", &offset_text(&self.occurred_at));
        each("correlation_id", self.correlation_id.as_hyphenated().encode_lower(&mut id));
        if let Some(causation_id) = self.causation_id {
            each("causation_id", causation_id.as_hyphenated().encode_lower(&mut id));
        }
        for (name, value) in [("tenant_id", &self.tenant_id), ("actor_id", &self.actor_id)] {
            if let Some(value) = value {
                each(name, value);
            }
        }
        for (name, value) in self.headers.iter().filter(|(name, _)| !METADATA_KEYS.contains(&name.as_str())) {
            each(name, value);
        }
    }
}

/// What the wire said about an event; any part may be missing.
///
/// A value that does not parse is treated as missing, never as a reason to refuse the event: metadata is
/// written by many programs, and the payload is what the handlers need.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct WireMetadata {
    /// See [`EventMetadata::event_id`]. When missing, the event gets a new one.
    #[serde(default, deserialize_with = "lenient")]
    pub event_id: Option<Uuid>,
    /// The name the event was written under, perhaps an alias.
    #[serde(default, deserialize_with = "lenient")]
    pub event_type: Option<String>,
    /// See [`EventMetadata::event_version`].
    #[serde(default, deserialize_with = "lenient")]
    pub event_version: Option<u32>,
    /// See [`EventMetadata::aggregate_version`].
    #[serde(default, deserialize_with = "lenient")]
    pub aggregate_version: Option<u64>,
    /// See [`EventMetadata::occurred_at`].
    #[serde(default, deserialize_with = "lenient")]
    pub occurred_at: Option<Timestamp>,
    /// See [`EventMetadata::correlation_id`].
    #[serde(default, deserialize_with = "lenient")]
    pub correlation_id: Option<Uuid>,
    /// See [`EventMetadata::causation_id`].
    #[serde(default, deserialize_with = "lenient")]
    pub causation_id: Option<Uuid>,
    /// See [`EventMetadata::tenant_id`].
    #[serde(default, deserialize_with = "lenient")]
    pub tenant_id: Option<String>,
    /// See [`EventMetadata::actor_id`].
    #[serde(default, deserialize_with = "lenient")]
    pub actor_id: Option<String>,
    /// Headers that are no metadata, and metadata that did not parse.
    #[serde(skip)]
    pub headers: BTreeMap<String, String>,
}

impl WireMetadata {
    /// Reads text headers. The first of several with one name counts; a header that is not UTF-8 is left out.
    pub fn from_headers<'a>(headers: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut wire = Self::default();
        for (name, value) in headers {
            if let Ok(value) = std::str::from_utf8(value) {
                wire.take_header(name, value);
            }
        }
        wire
    }

    fn take_header(&mut self, name: &str, value: &str) {
        let understood = match name {
            "event_id" => parse_into(&mut self.event_id, value),
            "event_type" => parse_into(&mut self.event_type, value),
            "event_version" => parse_into(&mut self.event_version, value),
            "aggregate_version" => parse_into(&mut self.aggregate_version, value),
            "occurred_at" => parse_into(&mut self.occurred_at, value),
            "correlation_id" => parse_into(&mut self.correlation_id, value),
            "causation_id" => parse_into(&mut self.causation_id, value),
            "tenant_id" => parse_into(&mut self.tenant_id, value),
            "actor_id" => parse_into(&mut self.actor_id, value),
            // Both follow from the payload and its type, and the last from how it was written.
            "aggregate_id" | "aggregate_type" | "content-type" => true,
            _ => false,
        };
        if !understood {
            self.headers.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
    }

    /// Whether the body need not be asked. Our own headers carry all three; the rest is optional.
    fn is_complete(&self) -> bool {
        self.event_id.is_some() && self.occurred_at.is_some() && self.event_version.is_some()
    }

    fn or(self, other: Self) -> Self {
        Self {
            event_id: self.event_id.or(other.event_id),
            event_type: self.event_type.or(other.event_type),
            event_version: self.event_version.or(other.event_version),
            aggregate_version: self.aggregate_version.or(other.aggregate_version),
            occurred_at: self.occurred_at.or(other.occurred_at),
            correlation_id: self.correlation_id.or(other.correlation_id),
            causation_id: self.causation_id.or(other.causation_id),
            tenant_id: self.tenant_id.or(other.tenant_id),
            actor_id: self.actor_id.or(other.actor_id),
            headers: self.headers,
        }
    }

    /// The metadata of an event that was read. Nothing is made up that the wire has told: ids cost randomness.
    fn of<E: DomainEvent>(self, payload: &E) -> EventMetadata {
        let event_id = self.event_id.unwrap_or_else(Uuid::now_v7);
        EventMetadata {
            event_id,
            event_type: E::EVENT_TYPE,
            event_version: self.event_version.unwrap_or(E::VERSION),
            aggregate_id: payload.aggregate_id(),
            aggregate_type: E::AGGREGATE_TYPE,
            aggregate_version: self.aggregate_version.unwrap_or(1),
            occurred_at: self.occurred_at.unwrap_or_else(Timestamp::now),
            correlation_id: self.correlation_id.unwrap_or(event_id),
            causation_id: self.causation_id,
            tenant_id: self.tenant_id,
            actor_id: self.actor_id,
            headers: self.headers,
        }
    }
}

fn parse_into<T: std::str::FromStr>(slot: &mut Option<T>, text: &str) -> bool {
    if slot.is_none() {
        *slot = text.parse().ok();
    }
    slot.is_some()
}

fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(from)?).ok())
}

fn with_offset<S: Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&time.display_with_offset(jiff::tz::Offset::UTC))
}

/// RFC 3339 with `+00:00` rather than `Z`: Python before 3.11 cannot read the latter.
pub(crate) fn offset_text(time: &Timestamp) -> String {
    time.display_with_offset(jiff::tz::Offset::UTC).to_string()
}

tokio::task_local! {
    /// The event whose handler is running.
    pub(crate) static BEING_HANDLED: AnyEvent;
}

struct Envelope<E: ?Sized> {
    metadata: EventMetadata,
    payload: E,
}

/// One event of type `E`. Cloning shares it; `*event` and `event.field` reach the payload.
pub struct Event<E>(Arc<Envelope<E>>);

impl<E: DomainEvent> Event<E> {
    /// An event that happened now. Made within a handler, it is a consequence of the event handled: see
    /// [`caused_by`](Self::caused_by).
    pub fn new(payload: E) -> Self {
        Self::with(payload, |_| ())
    }

    /// As [`new`](Self::new), with the metadata adjusted.
    ///
    /// ```
    /// # use rehearsal_bus::prelude::*;
    /// # #[derive(DomainEvent, serde::Serialize, serde::Deserialize)]
    /// # #[event(aggregate = "Order")]
    /// # struct OrderPlaced { #[event(aggregate_id)] order_id: String }
    /// let event = Event::with(OrderPlaced { order_id: "o-1".into() }, |m| {
    ///     m.aggregate_version = 7;
    ///     m.tenant_id = Some("acme".into());
    /// });
    /// assert_eq!(event.metadata().aggregate_version, 7);
    /// ```
    pub fn with(payload: E, adjust: impl FnOnce(&mut EventMetadata)) -> Self {
        let mut metadata = EventMetadata::of(&payload);
        // Outside a handler there is no cause.
        let _ = BEING_HANDLED.try_with(|cause| metadata.caused_by(cause.metadata()));
        adjust(&mut metadata);
        Self(Arc::new(Envelope { metadata, payload }))
    }

    /// A consequence of `cause`: it carries the correlation on and names its cause. Only needed where the handler
    /// does not make the event itself, such as in a task it spawned.
    pub fn caused_by(cause: &EventMetadata, payload: E) -> Self {
        Self::with(payload, |metadata| metadata.caused_by(cause))
    }

    /// The same event with its type forgotten.
    pub fn into_any(self) -> AnyEvent {
        AnyEvent(self.0)
    }
}

impl<E> Event<E> {
    /// What is known besides the payload.
    pub fn metadata(&self) -> &EventMetadata {
        &self.0.metadata
    }

    /// The payload.
    pub fn payload(&self) -> &E {
        &self.0.payload
    }

    /// See [`EventMetadata::event_id`].
    pub fn event_id(&self) -> Uuid {
        self.0.metadata.event_id
    }

    /// The type's name on the wire.
    pub fn event_type(&self) -> &'static str {
        self.0.metadata.event_type
    }

    /// The aggregate it happened to.
    pub fn aggregate_id(&self) -> &AggregateId {
        &self.0.metadata.aggregate_id
    }

    /// When it happened.
    pub fn occurred_at(&self) -> Timestamp {
        self.0.metadata.occurred_at
    }
}

impl<E> Clone for Event<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E> Deref for Event<E> {
    type Target = E;

    fn deref(&self) -> &E {
        &self.0.payload
    }
}

impl<E: fmt::Debug> fmt::Debug for Event<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("metadata", &self.0.metadata).field("payload", &self.0.payload).finish()
    }
}

/// An event whose type is known only at run time. Cloning shares it.
#[derive(Clone)]
pub struct AnyEvent(Arc<dyn Erased>);

trait Erased: Any + Send + Sync {
    fn metadata(&self) -> &EventMetadata;
    fn payload_type(&self) -> TypeId;
    fn payload_json(&self) -> serde_json::Result<String>;
}

impl<E: DomainEvent> Erased for Envelope<E> {
    fn metadata(&self) -> &EventMetadata {
        &self.metadata
    }

    fn payload_type(&self) -> TypeId {
        TypeId::of::<E>()
    }

    fn payload_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(&self.payload)
    }
}

impl AnyEvent {
    /// What is known besides the payload.
    pub fn metadata(&self) -> &EventMetadata {
        self.0.metadata()
    }

    /// See [`EventMetadata::event_id`].
    pub fn event_id(&self) -> Uuid {
        self.metadata().event_id
    }

    /// The type's name on the wire.
    pub fn event_type(&self) -> &'static str {
        self.metadata().event_type
    }

    /// The aggregate it happened to.
    pub fn aggregate_id(&self) -> &AggregateId {
        &self.metadata().aggregate_id
    }

    /// When it happened.
    pub fn occurred_at(&self) -> Timestamp {
        self.metadata().occurred_at
    }

    /// Whether the payload is an `E`.
    pub fn is<E: DomainEvent>(&self) -> bool {
        self.payload_type() == TypeId::of::<E>()
    }

    /// The event as what it is, sharing it; `None` when the payload is not an `E`.
    pub fn downcast<E: DomainEvent>(&self) -> Option<Event<E>> {
        let any: Arc<dyn Any + Send + Sync> = self.0.clone();
        any.downcast::<Envelope<E>>().ok().map(Event)
    }

    /// The payload, borrowed; `None` when it is not an `E`.
    ///
    /// ```
    /// # use rehearsal_bus::prelude::*;
    /// # #[derive(DomainEvent, serde::Serialize, serde::Deserialize)]
    /// # #[event(aggregate = "Order")]
    /// # struct OrderPlaced { #[event(aggregate_id)] order_id: String }
    /// let event = OrderPlaced { order_id: "o-1".into() }.into_event();
    /// if let Some(placed) = event.payload::<OrderPlaced>() {
    ///     assert_eq!(placed.order_id, "o-1");
    /// }
    /// ```
    pub fn payload<E: DomainEvent>(&self) -> Option<&E> {
        let any: &dyn Any = &*self.0;
        any.downcast_ref::<Envelope<E>>().map(|envelope| &envelope.payload)
    }

    /// The Rust type of the payload.
    pub fn payload_type(&self) -> TypeId {
        self.0.payload_type()
    }

    /// The payload alone, as JSON.
    ///
    /// # Errors
    /// When the payload's `Serialize` refuses, or it is nothing JSON can hold (a map with non-text keys).
    pub fn payload_json(&self) -> serde_json::Result<String> {
        self.0.payload_json()
    }

    /// The whole event as one flat JSON object.
    ///
    /// A payload field with the name of a piece of metadata keeps its place. A payload that is no object (a
    /// unit or tuple struct) goes under `data`.
    ///
    /// # Errors
    /// As [`payload_json`](Self::payload_json).
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let payload = self.payload_json()?;
        let metadata = self.metadata();
        if METADATA_KEYS.iter().any(|key| payload.contains(key)) {
            return merged(metadata, &payload);
        }
        // Almost every event: no name can clash, so splice the two texts rather than build a tree.
        let mut json = Vec::with_capacity(payload.len() + METADATA_BYTES_TYPICAL);
        serde_json::to_writer(&mut json, metadata)?;
        json.pop();
        match payload.strip_prefix('{') {
            Some("}") => json.push(b'}'),
            Some(fields) => {
                json.push(b',');
                json.extend_from_slice(fields.as_bytes());
            }
            None => {
                json.extend_from_slice(b",\"data\":");
                json.extend_from_slice(payload.as_bytes());
                json.push(b'}');
            }
        }
        Ok(json)
    }
}

const METADATA_BYTES_TYPICAL: usize = 420;

fn merged(metadata: &EventMetadata, payload: &str) -> serde_json::Result<Vec<u8>> {
    let mut object = match serde_json::from_str(payload)? {
        Value::Object(fields) => fields,
        data => Map::from_iter([("data".to_owned(), data)]),
    };
    if let Value::Object(fields) = serde_json::to_value(metadata)? {
        for (name, value) in fields {
            object.entry(name).or_insert(value);
        }
    }
    serde_json::to_vec(&object)
}

impl fmt::Debug for AnyEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyEvent").field("metadata", self.metadata()).finish_non_exhaustive()
    }
}

/// Reads what [`AnyEvent::to_json`] wrote, or any JSON `E` can be read from. Headers outrank the body.
pub(crate) fn from_json<E: DomainEvent>(json: &[u8], headers: WireMetadata) -> serde_json::Result<AnyEvent> {
    let wire =
        if headers.is_complete() { headers } else { headers.or(serde_json::from_slice(json).unwrap_or_default()) };
    let payload = payload_from_json::<E>(json, wire.event_version)?;
    let metadata = wire.of(&payload);
    Ok(Event(Arc::new(Envelope { metadata, payload })).into_any())
}

fn payload_from_json<E: DomainEvent>(json: &[u8], version: Option<u32>) -> serde_json::Result<E> {
    if let Some(version) = version.filter(|version| *version < E::VERSION) {
        return serde_json::from_value(E::upcast(version, without_metadata(json)?));
    }
    // The metadata beside the fields does not disturb most types. It does disturb enums and
    // `deny_unknown_fields`, and a payload that is no object lies under `data`.
    serde_json::from_slice(json).or_else(|first_error| {
        let alone = without_metadata(json)?;
        E::deserialize(&alone).or_else(|_| match alone.get("data") {
            Some(data) => E::deserialize(data).map_err(|_| first_error),
            None => Err(first_error),
        })
    })
}

fn without_metadata(json: &[u8]) -> serde_json::Result<Value> {
    let mut value: Value = serde_json::from_slice(json)?;
    if let Value::Object(fields) = &mut value {
        fields.retain(|name, _| !METADATA_KEYS.contains(&name.as_str()));
    }
    Ok(value)
}

/// What one event can be made of: a payload, an [`Event`], an [`AnyEvent`].
pub trait IntoEvent {
    /// The event.
    fn into_event(self) -> AnyEvent;
}

impl<E: DomainEvent> IntoEvent for E {
    fn into_event(self) -> AnyEvent {
        Event::new(self).into_any()
    }
}

impl<E: DomainEvent> IntoEvent for Event<E> {
    fn into_event(self) -> AnyEvent {
        self.into_any()
    }
}

impl IntoEvent for AnyEvent {
    fn into_event(self) -> AnyEvent {
        self
    }
}

/// What can be published: one event, an array or `Vec` of one type, or a mixed list made by
/// [`events!`](crate::events).
pub trait IntoEvents {
    /// The events, in the order to publish them.
    fn into_events(self) -> Vec<AnyEvent>;
}

impl<E: DomainEvent> IntoEvents for E {
    fn into_events(self) -> Vec<AnyEvent> {
        vec![self.into_event()]
    }
}

impl<E: DomainEvent> IntoEvents for Event<E> {
    fn into_events(self) -> Vec<AnyEvent> {
        vec![self.into_any()]
    }
}

impl IntoEvents for AnyEvent {
    fn into_events(self) -> Vec<AnyEvent> {
        vec![self]
    }
}

impl<T: IntoEvent, const N: usize> IntoEvents for [T; N] {
    fn into_events(self) -> Vec<AnyEvent> {
        self.into_iter().map(T::into_event).collect()
    }
}

impl<T: IntoEvent> IntoEvents for Vec<T> {
    fn into_events(self) -> Vec<AnyEvent> {
        self.into_iter().map(T::into_event).collect()
    }
}

/// A list of events of different types, for [`publish`](crate::EventBusExt::publish).
///
/// ```
/// # use rehearsal_bus::prelude::*;
/// # #[derive(DomainEvent, serde::Serialize, serde::Deserialize)]
/// # #[event(aggregate = "Order")]
/// # struct Placed { #[event(aggregate_id)] order: u64 }
/// # #[derive(DomainEvent, serde::Serialize, serde::Deserialize)]
/// # #[event(aggregate = "Order")]
/// # struct Shipped { #[event(aggregate_id)] order: u64 }
/// let list = events![Placed { order: 1 }, Shipped { order: 1 }];
/// assert_eq!(list[1].event_type(), "Shipped");
/// ```
#[macro_export]
macro_rules! events {
    ($($event:expr),* $(,)?) => {
        <[_]>::into_vec(::std::boxed::Box::new([$($crate::IntoEvent::into_event($event)),*])) as ::std::vec::Vec<$crate::AnyEvent>
    };
}
