//! The backends by name, for programs that choose one when they start.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::bus::EventBus;
use crate::config::KafkaEventBusConfig;
use crate::error::BusError;
use crate::memory::InMemoryEventBus;

/// Where events go.
///
/// ```
/// use rehearsal_bus::{Backend, BusError, EventBusExt};
///
/// let backend: Backend = "memory".parse()?;
/// assert!(backend.is_available());
/// let bus = backend.open()?; // the rest of the program need not know which
/// assert_eq!(bus.stats().events_published, 0);
///
/// let unknown = "carrier-pigeon".parse::<Backend>().unwrap_err();
/// assert_eq!(unknown.to_string(), "there is no backend \"carrier-pigeon\"; choose memory or kafka");
/// # Ok::<(), BusError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// [`InMemoryEventBus`]; always there.
    Memory,
    /// `KafkaEventBus`, behind the feature `kafka`.
    Kafka,
}

impl Backend {
    /// Whether this program was built with it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Memory => true,
            Self::Kafka => cfg!(feature = "kafka"),
        }
    }

    /// A bus of this kind; Kafka's is configured by the environment, see [`KafkaEventBusConfig::from_env`]. It is
    /// not connected yet.
    ///
    /// # Errors
    /// [`BusError::NotAvailable`] when the backend is not built in; [`BusError::Config`] when the environment
    /// contradicts itself.
    pub fn open(self) -> Result<Arc<dyn EventBus>, BusError> {
        match self {
            Self::Memory => Ok(InMemoryEventBus::new().into()),
            Self::Kafka => open_kafka(KafkaEventBusConfig::from_env()?),
        }
    }
}

#[cfg(feature = "kafka")]
fn open_kafka(config: KafkaEventBusConfig) -> Result<Arc<dyn EventBus>, BusError> {
    Ok(crate::kafka::KafkaEventBus::new(config).into())
}

#[cfg(not(feature = "kafka"))]
fn open_kafka(_: KafkaEventBusConfig) -> Result<Arc<dyn EventBus>, BusError> {
    Err(BusError::NotAvailable { backend: "Kafka", feature: "kafka" })
}

impl FromStr for Backend {
    type Err = BusError;

    fn from_str(name: &str) -> Result<Self, BusError> {
        match name.to_ascii_lowercase().as_str() {
            "memory" | "in-memory" | "inmemory" => Ok(Self::Memory),
            "kafka" => Ok(Self::Kafka),
            _ => Err(BusError::UnknownBackend { name: name.to_owned() }),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Kafka => "kafka",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for backend in [Backend::Memory, Backend::Kafka] {
            assert_eq!(backend.to_string().parse::<Backend>().unwrap(), backend);
        }
        assert!(matches!("redis".parse::<Backend>(), Err(BusError::UnknownBackend { name }) if name == "redis"));
    }

    #[test]
    #[cfg(not(feature = "kafka"))]
    fn a_backend_that_is_not_built_in_says_how_to_get_it() {
        assert!(!Backend::Kafka.is_available());
        let Err(error) = Backend::Kafka.open() else { panic!("there is no Kafka in this build") };
        assert!(error.to_string().contains("--features kafka"), "{error}");
    }
}
