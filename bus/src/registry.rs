//! Which Rust type a name on the wire stands for.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::event::{self, AnyEvent, DomainEvent, WireMetadata};

/// A type of event, as a value: what [`DomainEvent`] says about `E`, and how to read one.
#[derive(Clone, Copy)]
pub struct EventType {
    id: TypeId,
    rust_name: &'static str,
    name: &'static str,
    aggregate_type: &'static str,
    version: u32,
    aliases: &'static [&'static str],
    from_json: fn(&[u8], WireMetadata) -> serde_json::Result<AnyEvent>,
}

impl EventType {
    /// The type `E`.
    pub fn of<E: DomainEvent>() -> Self {
        Self {
            id: TypeId::of::<E>(),
            rust_name: std::any::type_name::<E>(),
            name: E::EVENT_TYPE,
            aggregate_type: E::AGGREGATE_TYPE,
            version: E::VERSION,
            aliases: E::ALIASES,
            from_json: event::from_json::<E>,
        }
    }

    /// The Rust type.
    pub fn id(&self) -> TypeId {
        self.id
    }

    /// The name on the wire.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What kind of aggregate its events happen to.
    pub fn aggregate_type(&self) -> &'static str {
        self.aggregate_type
    }

    /// The version of the payload's schema.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Other names its events may arrive under.
    pub fn aliases(&self) -> &'static [&'static str] {
        self.aliases
    }

    /// Reads one event of this type from JSON. `headers` outrank the metadata in the body.
    ///
    /// # Errors
    /// When the payload cannot be read from it.
    pub fn read_json(&self, json: &[u8], headers: WireMetadata) -> serde_json::Result<AnyEvent> {
        (self.from_json)(json, headers)
    }
}

impl PartialEq for EventType {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for EventType {}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventType({} = {})", self.name, self.rust_name)
    }
}

/// The types a bus can read, by name. Cloning shares it.
#[derive(Clone, Default)]
pub struct EventRegistry(Arc<Inner>);

#[derive(Default)]
struct Inner {
    names: ArcSwap<BTreeMap<&'static str, EventType>>,
    writing: Mutex<()>,
    parent: Option<EventRegistry>,
}

impl EventRegistry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// The registry of the whole process, filled by [`register_event`].
    pub fn global() -> &'static Self {
        static GLOBAL: LazyLock<EventRegistry> = LazyLock::new(EventRegistry::new);
        &GLOBAL
    }

    /// An empty registry that asks `parent` for what it does not know.
    pub fn over(parent: Self) -> Self {
        Self(Arc::new(Inner { parent: Some(parent), ..Inner::default() }))
    }

    /// Adds `E` under its name and aliases. Adding it again changes nothing.
    ///
    /// ```
    /// # use rehearsal_bus::prelude::*;
    /// # #[derive(DomainEvent, serde::Serialize, serde::Deserialize)]
    /// # #[event(aggregate = "Order", alias = "order.placed")]
    /// # struct OrderPlaced { #[event(aggregate_id)] order: u64 }
    /// let registry = EventRegistry::new();
    /// registry.register::<OrderPlaced>()?;
    /// assert_eq!(registry.get("order.placed").unwrap().name(), "OrderPlaced");
    /// # Ok::<(), rehearsal_bus::RegistryError>(())
    /// ```
    ///
    /// # Errors
    /// When another type has the name or an alias already; nothing is added then.
    pub fn register<E: DomainEvent>(&self) -> Result<&Self, RegistryError> {
        self.register_type(EventType::of::<E>())
    }

    /// As [`register`](Self::register), for a type known as a value.
    ///
    /// # Errors
    /// As [`register`](Self::register).
    pub fn register_type(&self, kind: EventType) -> Result<&Self, RegistryError> {
        let _writing = self.0.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names = BTreeMap::clone(&self.0.names.load());
        for name in std::iter::once(kind.name).chain(kind.aliases.iter().copied()) {
            match names.entry(name) {
                Entry::Vacant(free) => {
                    free.insert(kind);
                }
                Entry::Occupied(taken) if *taken.get() == kind => {}
                Entry::Occupied(taken) => {
                    return Err(RegistryError { name, taken_by: taken.get().rust_name, wanted_by: kind.rust_name });
                }
            }
        }
        self.0.names.store(Arc::new(names));
        Ok(self)
    }

    /// The type behind a name or alias.
    pub fn get(&self, name: &str) -> Option<EventType> {
        let own = self.0.names.load().get(name).copied();
        own.or_else(|| self.0.parent.as_ref()?.get(name))
    }

    /// Every type known, once each, by name; those of the parent included.
    pub fn types(&self) -> Vec<EventType> {
        let mut types: BTreeMap<&'static str, EventType> = BTreeMap::new();
        let mut registry = Some(self);
        while let Some(EventRegistry(inner)) = registry {
            for kind in inner.names.load().values() {
                types.entry(kind.name).or_insert(*kind);
            }
            registry = inner.parent.as_ref();
        }
        types.into_values().collect()
    }

    /// Reads one JSON event of the type called `name`. `headers` outrank the metadata in the body.
    ///
    /// # Errors
    /// When no type has that name, or the payload does not fit it. Both give the bytes back.
    pub fn decode(&self, name: &str, payload: &Bytes, headers: WireMetadata) -> Result<AnyEvent, DecodeError> {
        let Some(kind) = self.get(name) else {
            return Err(DecodeError::UnknownType { name: name.to_owned(), payload: payload.clone() });
        };
        kind.read_json(payload, headers).map_err(|source| DecodeError::Undecodable {
            name: name.to_owned(),
            payload: payload.clone(),
            source: source.into(),
        })
    }
}

impl fmt::Debug for EventRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EventRegistry").field(&self.types()).finish()
    }
}

/// Adds `E` to the registry of the process.
///
/// # Errors
/// When another type has its name or an alias already.
pub fn register_event<E: DomainEvent>() -> Result<(), RegistryError> {
    EventRegistry::global().register::<E>().map(drop)
}

/// Two types want one name. Give one of them another with `#[event(name = "…")]`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "event type name {name:?} belongs to {taken_by}, so {wanted_by} cannot have it; rename one with #[event(name = \"…\")]"
)]
#[non_exhaustive]
pub struct RegistryError {
    /// The name or alias.
    pub name: &'static str,
    /// The Rust type that has it.
    pub taken_by: &'static str,
    /// The Rust type that was to be added.
    pub wanted_by: &'static str,
}

/// Bytes that did not become an event. They are kept, so that they can go where someone will look at them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Perhaps another service's event, perhaps a type you forgot to register.
    #[error("no event type {name:?} is registered; register it, or subscribe a handler for it")]
    UnknownType {
        /// The name on the wire.
        name: String,
        /// The bytes, untouched.
        payload: Bytes,
    },
    /// The type is known, but these bytes are not one.
    #[error("cannot read the payload of an event {name:?}")]
    Undecodable {
        /// The name on the wire.
        name: String,
        /// The bytes, untouched.
        payload: Bytes,
        /// What was wrong with them.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl DecodeError {
    /// The bytes, untouched.
    pub fn payload(&self) -> &Bytes {
        match self {
            Self::UnknownType { payload, .. } | Self::Undecodable { payload, .. } => payload,
        }
    }
}
