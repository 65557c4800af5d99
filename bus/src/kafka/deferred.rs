//! Records on their way through a retry topic: what they bring along, as headers.
//!
//! `retry_count` and `retry_after` are for people and other programs, in the origin's words; `bus-retry` is for us. What
//! cannot be read there makes the record a first attempt: at worst it is tried more often.

use super::record::Record;
use crate::dispatch::Dispatcher;
use crate::engine::{HandlerFailure, Header, Offset, Past, Time};
use crate::error::Disposition;
use crate::handler::SubscriptionId;
use serde::{Deserialize, Serialize};

/// The header for ourselves.
const NOTE: &str = "bus-retry";
const OURS: [&str; 3] = ["retry_count", "retry_after", NOTE];

#[derive(Serialize, Deserialize)]
struct Note {
    /// Where it was read first.
    partition: i32,
    offset: Offset,
    attempts: u32,
    not_before_ms: u64,
    #[serde(default)]
    first_failed_ms: Option<u64>,
    /// By name: the numbers of subscriptions are a process's own.
    #[serde(default)]
    pending: Option<Vec<String>>,
    #[serde(default)]
    given_up: Vec<Final>,
}

#[derive(Serialize, Deserialize)]
struct Final {
    handler: String,
    fatal: bool,
    error_type: String,
    message: String,
}

/// The headers of the copy in the retry topic: the record's own, then ours.
pub(super) fn headers(record: &Record, past: &Past, dispatcher: &Dispatcher) -> Vec<Header> {
    let (partition, offset) = origin(record);
    let due = past.not_before.unwrap_or_default();
    let given_up = past.given_up.iter().map(|failure| Final {
        handler: failure.name.to_string(),
        fatal: failure.verdict == Disposition::Fatal,
        error_type: failure.error_type.clone(),
        message: failure.message.clone(),
    });
    let note = Note {
        partition,
        offset,
        attempts: past.attempts,
        not_before_ms: millis(due),
        first_failed_ms: past.first_failed.map(millis),
        pending: past.pending.as_ref().map(|handlers| dispatcher.names_of(handlers)),
        given_up: given_up.collect(),
    };
    let mut headers = own_headers(record);
    headers.push(Header::text(OURS[0], past.attempts.to_string()));
    headers.push(Header::text(OURS[1], due.to_string()));
    // Numbers and texts always serialise.
    headers.push(Header::text(NOTE, serde_json::to_string(&note).unwrap_or_default()));
    headers
}

/// The record's own headers, without those of a retry.
pub(super) fn own_headers(record: &Record) -> Vec<Header> {
    let mut headers = record.headers();
    headers.retain(|header| !OURS.contains(&header.name.as_str()));
    headers
}

/// Partition and offset where it was read first.
pub(super) fn origin(record: &Record) -> (i32, Offset) {
    note(record).map_or((record.partition, record.offset), |note| (note.partition, note.offset))
}

/// What a record from a retry topic brings along.
pub(super) fn past(record: &Record, dispatcher: &Dispatcher) -> Option<Past> {
    let note = note(record)?;
    let given_up = note.given_up.into_iter().map(|failure| {
        let ids = dispatcher.called(std::slice::from_ref(&failure.handler));
        HandlerFailure {
            handler: ids.first().copied().unwrap_or(SubscriptionId(0)),
            name: failure.handler.into(),
            verdict: if failure.fatal { Disposition::Fatal } else { Disposition::Retry },
            error_type: failure.error_type,
            message: failure.message,
        }
    });
    // When none of them is subscribed any more, better all handlers than none.
    let pending = note.pending.map(|names| dispatcher.called(&names)).filter(|handlers| !handlers.is_empty());
    Some(Past {
        not_before: Some(Time::from_millis(note.not_before_ms)),
        attempts: note.attempts,
        first_failed: note.first_failed_ms.map(Time::from_millis),
        pending,
        given_up: given_up.collect(),
        replays: None,
    })
}

fn note(record: &Record) -> Option<Note> {
    serde_json::from_slice(record.header(NOTE)?).ok()
}

fn millis(time: Time) -> u64 {
    u64::try_from(time.0.as_millis()).unwrap_or(u64::MAX)
}
