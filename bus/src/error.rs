//! What can go wrong, one variant for each thing a caller would do differently.

use std::any::type_name;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::config::ConfigError;
use crate::registry::RegistryError;

type Cause = Box<dyn Error + Send + Sync>;

/// What a bus refuses or fails to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// The bus was shut down. Nothing was done; make a new bus.
    #[error("the bus is shut down")]
    Closed,

    /// Nothing was done; call `connect` first.
    #[error("the bus is not connected; call connect() first")]
    NotConnected,

    /// The bus consumes already; stop it first, or use a second bus.
    #[error("the bus is consuming already")]
    AlreadyConsuming,

    /// A setting is missing, malformed, or contradicts another.
    #[error("the configuration cannot be used")]
    Config(#[from] ConfigError),

    /// Two types want one name.
    #[error("the event type cannot be registered")]
    Registry(#[from] RegistryError),

    /// A subscriber named no event type, so it would never be called.
    #[error("{subscriber} subscribes to nothing; name at least one event type")]
    NothingSubscribed {
        /// The subscriber's name.
        subscriber: String,
    },

    /// No backend has this name.
    #[error("there is no backend {name:?}; choose memory or kafka")]
    UnknownBackend {
        /// The name given.
        name: String,
    },

    /// This program was built without the backend.
    #[error("the {backend} backend is not built in; enable it: cargo add rehearsal-bus --features {feature}")]
    NotAvailable {
        /// The backend.
        backend: &'static str,
        /// The cargo feature that has it.
        feature: &'static str,
    },

    /// An event cannot be written as bytes. None of the events of the call was published.
    #[error("cannot serialise event {event_type}")]
    Serialize {
        /// The event's type.
        event_type: String,
        /// What its serialiser said.
        source: Cause,
    },

    /// Nobody answers at the bootstrap addresses, or not in time. Nothing was done; trying again is safe.
    #[error("no broker answered at {bootstrap} within {waited:?}; check that it runs there and the port is right")]
    Unreachable {
        /// The addresses tried.
        bootstrap: String,
        /// How long.
        waited: Duration,
        /// What the client said last.
        source: Option<Cause>,
    },

    /// The brokers refuse the credentials or the certificate. Trying again is useless.
    #[error("the brokers refused to let us in")]
    Unauthenticated {
        /// What they said.
        source: Cause,
    },

    /// Some events were not acknowledged. Those that were, are in the log.
    #[error("{} of {total} events were not acknowledged; the first: {}", failures.len(), first_failure(failures))]
    NotPublished {
        /// How many the call was given.
        total: usize,
        /// The events that failed, in the order given.
        failures: Vec<PublishFailure>,
    },

    /// The deadline passed before everything was finished.
    #[error("{what} did not finish within {waited:?}; {unfinished} left")]
    DeadlinePassed {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        waited: Duration,
        /// How many of it were not finished.
        unfinished: usize,
    },

    /// The backend failed in a way that has no name here.
    #[error("{doing} failed")]
    Backend {
        /// What was being done.
        doing: &'static str,
        /// What the backend said.
        source: Cause,
    },
}

fn first_failure(failures: &[PublishFailure]) -> String {
    failures.first().map(ToString::to_string).unwrap_or_default()
}

/// One event of a `publish` call that was not acknowledged.
#[derive(Debug, thiserror::Error)]
#[error("event {index} ({event_type}): {why}")]
#[non_exhaustive]
pub struct PublishFailure {
    /// Its place in the call.
    pub index: usize,
    /// Its type.
    pub event_type: &'static str,
    /// Its id.
    pub event_id: uuid::Uuid,
    /// What became of it.
    #[source]
    pub why: NotAcknowledged,
}

impl PublishFailure {
    /// The event at `index` was not acknowledged.
    pub fn new(index: usize, event: &crate::AnyEvent, why: NotAcknowledged) -> Self {
        Self { index, event_type: event.event_type(), event_id: event.event_id(), why }
    }
}

/// Why an event was not acknowledged, and what that leaves behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotAcknowledged {
    /// The event is not in the log, and sending it again as it is will fail again (too large, no permission).
    #[error("rejected: {0}")]
    Rejected(Cause),
    /// The event was not sent; sending it again is safe.
    #[error("not sent: {0}")]
    NotSent(Cause),
    /// The event may or may not be in the log; sending it again can duplicate it.
    #[error("outcome unknown: {0}")]
    OutcomeUnknown(Cause),
}

/// What a handler answers. `?` on any error means "try again later".
pub type Handled = Result<(), HandlerError>;

/// Why a handler did not finish, and what should be done about it.
///
/// Deliberately no [`std::error::Error`], so that `?` can make one of any error; [`source`](Self::source) has it.
pub struct HandlerError {
    disposition: Disposition,
    error_type: &'static str,
    source: Cause,
}

/// What a failed handler asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Try again, with the usual back-off.
    Retry,
    /// Try again, not before this long.
    RetryAfter(Duration),
    /// Do not try again: straight to the dead letters.
    Fatal,
    /// Treat it as handled.
    Skip,
}

impl HandlerError {
    /// Try again, with the usual back-off.
    pub fn retry(cause: impl Into<Cause>) -> Self {
        Self::of(Disposition::Retry, cause)
    }

    /// Try again, not before `delay` has passed.
    pub fn retry_after(delay: Duration, cause: impl Into<Cause>) -> Self {
        Self::of(Disposition::RetryAfter(delay), cause)
    }

    /// It will never work: straight to the dead letters.
    pub fn fatal(cause: impl Into<Cause>) -> Self {
        Self::of(Disposition::Fatal, cause)
    }

    /// Nothing to do here; treat the event as handled.
    pub fn skip() -> Self {
        Self::of(Disposition::Skip, "skipped by the handler")
    }

    fn of<C: Into<Cause>>(disposition: Disposition, cause: C) -> Self {
        Self { disposition, error_type: short_name::<C>(), source: cause.into() }
    }

    pub(crate) fn panicked(message: String) -> Self {
        Self { disposition: Disposition::Retry, error_type: "Panic", source: message.into() }
    }

    pub(crate) fn timed_out(after: Duration) -> Self {
        let message = format!("the handler did not finish within {after:?}");
        Self { disposition: Disposition::Retry, error_type: "Timeout", source: message.into() }
    }

    /// What should be done.
    pub fn disposition(&self) -> Disposition {
        self.disposition
    }

    /// The name of the error's type, without its path; `Panic` and `Timeout` for those.
    pub fn error_type(&self) -> &'static str {
        self.error_type
    }

    /// The error itself.
    pub fn source(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.source
    }
}

/// The last segment of a type's path, without generics. Bare texts count as `HandlerError`.
fn short_name<T>() -> &'static str {
    let full = type_name::<T>();
    let path = full.split('<').next().unwrap_or(full);
    match path.rsplit("::").next().unwrap_or(path) {
        "&str" | "String" | "Box" | "Cow" => "HandlerError",
        name => name,
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self { disposition: Disposition::Retry, error_type: short_name::<E>(), source: Box::new(error) }
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source)?;
        let mut cause = self.source.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({}: {self})", self.disposition, self.error_type)
    }
}
