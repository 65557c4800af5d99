//! How a bus is, for liveness and readiness probes.

use serde::Serialize;

use crate::stats::Stats;

/// How a bus is. Serialises to the object a health endpoint would return.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// The short answer.
    pub status: HealthStatus,
    /// Whether events can be published.
    pub connected: bool,
    /// Whether events are being read.
    pub consuming: bool,
    /// See [`Stats::events_published`].
    pub events_published: u64,
    /// See [`Stats::events_consumed`].
    pub events_consumed: u64,
    /// See [`Stats::handler_errors`].
    pub handler_errors: u64,
    /// Records this bus has put into the dead-letter topic.
    pub dlq_messages: u64,
    /// What is wrong, unless `status` is healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The short answer to "how are you".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// All is well.
    Healthy,
    /// It works, but something needs attention, such as a dead-letter topic that refuses writes.
    Degraded,
    /// It does not work.
    Unhealthy,
}

impl Health {
    /// A healthy bus with these numbers.
    pub fn healthy(connected: bool, consuming: bool, stats: &Stats) -> Self {
        Self {
            status: HealthStatus::Healthy,
            connected,
            consuming,
            events_published: stats.events_published,
            events_consumed: stats.events_consumed,
            handler_errors: stats.handler_errors,
            dlq_messages: stats.messages_sent_to_dlq,
            error: None,
        }
    }

    /// The same bus, working but with a problem.
    #[must_use]
    pub fn degraded(self, error: impl Into<String>) -> Self {
        Self { status: HealthStatus::Degraded, error: Some(error.into()), ..self }
    }

    /// The same bus, not working.
    #[must_use]
    pub fn unhealthy(self, error: impl Into<String>) -> Self {
        Self { status: HealthStatus::Unhealthy, error: Some(error.into()), ..self }
    }

    /// Whether it works, with or without a problem.
    pub fn is_working(&self) -> bool {
        self.status != HealthStatus::Unhealthy
    }
}
