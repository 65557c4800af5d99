//! What an observer may watch: each step of an event's way, as it happens.
//!
//! For test histories, metrics and tracing of your own. A bus without an observer pays one branch per step: the
//! [`Step`] is not even built.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

use crate::handler::{HandlerOutcome, Source};

/// One step of an event's way through the bus.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Step<'a> {
    /// `publish` was asked to write this event.
    Attempted {
        /// The event.
        event_id: Uuid,
        /// Its key.
        aggregate_id: &'a str,
    },
    /// The brokers have the event. Not called when that is unknown.
    Acknowledged {
        /// The event.
        event_id: Uuid,
        /// Where it is.
        at: &'a Source,
    },
    /// A record was read and accepted for handling.
    Delivered {
        /// Where it is.
        at: &'a Source,
        /// Its key.
        key: Option<&'a [u8]>,
    },
    /// Handlers are about to run.
    Started {
        /// The event.
        event_id: Uuid,
        /// Where it is; `None` in memory.
        at: Option<&'a Source>,
        /// Which attempt this is, from 1.
        attempt: u32,
    },
    /// One handler has run.
    Finished {
        /// The event.
        event_id: Uuid,
        /// Where it is; `None` in memory.
        at: Option<&'a Source>,
        /// Its name.
        handler: &'a str,
        /// What came of it.
        outcome: &'a HandlerOutcome,
    },
    /// The group will not see records below `at.offset` again.
    Committed {
        /// The partition, and the offset to go on from.
        at: &'a Source,
    },
    /// An attempt was cut off before its handlers were done: the partition is taken away, or time ran out. The handlers
    /// that had not [`Finished`](Self::Finished) were dropped, and the event will be delivered again.
    Aborted {
        /// The event.
        event_id: Uuid,
        /// Where it is.
        at: &'a Source,
        /// Which attempt this was, from 1.
        attempt: u32,
    },
    /// The dead-letter topic has a copy of the record.
    #[non_exhaustive]
    DeadLettered {
        /// Where the original is.
        at: &'a Source,
        /// Why, as in the `dlq_reason` header.
        reason: &'a str,
        /// Where the copy is.
        to: &'a Source,
        /// How often handlers were asked, over all its retries.
        attempts: u32,
    },
    /// A retry topic has a copy of the record, which will be delivered from there.
    #[non_exhaustive]
    Deferred {
        /// Where the original is.
        at: &'a Source,
        /// Where the copy is.
        to: &'a Source,
        /// How often handlers were asked so far.
        attempts: u32,
    },
    /// A dead letter went back to the main topic.
    Replayed {
        /// Where the dead letter is.
        from: &'a Source,
        /// Where the replay is.
        to: &'a Source,
    },
    /// A partition was given to this consumer.
    Assigned {
        /// The topic.
        topic: &'a str,
        /// The partition.
        partition: i32,
    },
    /// A partition was given up; nothing of it is in hand any more.
    #[non_exhaustive]
    Revoked {
        /// The topic.
        topic: &'a str,
        /// The partition.
        partition: i32,
        /// Whether it was somebody else's already, so that nothing could be committed.
        lost: bool,
    },
}

/// Watches a bus. Called in the middle of its work, so it should be quick and must not block.
pub trait Observer: Send + Sync + 'static {
    /// Something happened.
    fn step(&self, step: &Step<'_>);
}

impl<F: Fn(&Step<'_>) + Send + Sync + 'static> Observer for F {
    fn step(&self, step: &Step<'_>) {
        self(step);
    }
}

/// A bus's observer, if it has one. Cloning shares it.
#[derive(Clone, Default)]
pub struct Hooks(Option<Arc<dyn Observer>>);

impl Hooks {
    /// Nobody watches.
    pub const fn none() -> Self {
        Self(None)
    }

    /// This one watches.
    pub fn observed_by(observer: impl Observer) -> Self {
        Self(Some(Arc::new(observer)))
    }

    /// Whether anybody watches: for what is dear to find out and only they would want to know.
    pub fn is_observed(&self) -> bool {
        self.0.is_some()
    }

    /// Tells the observer; builds the step only if there is one.
    pub fn tell<'a>(&self, step: impl FnOnce() -> Step<'a>) {
        if let Some(observer) = &self.0 {
            observer.step(&step());
        }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Hooks(observed)" } else { "Hooks(none)" })
    }
}
