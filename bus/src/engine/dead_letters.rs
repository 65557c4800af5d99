//! What a dead letter says about itself.
//!
//! Key, value and headers of the record stay byte for byte what they were; this module writes the headers added to
//! them. Letters that fail again after a replay have their old `dlq_*` headers replaced, not piled up.

use super::{Offset, Time};
use crate::mutant::{self, Mutant};
use bytes::Bytes;
use std::sync::Arc;

/// A record header; the value can be absent, which is not the same as empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Option<Bytes>,
}

impl Header {
    /// A header with a text value.
    pub fn text(name: &str, value: impl Into<String>) -> Self {
        Self { name: name.to_owned(), value: Some(Bytes::from(value.into())) }
    }
}

/// Why a record became a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CauseOfDeath {
    /// It cannot be read: undecodable bytes, no type, an unknown type.
    Poison,
    /// It failed as often as it may.
    Exhausted,
    /// A handler said that trying again is useless.
    Fatal,
    /// An earlier event of its key is dead, and nothing may be handled out of order.
    Sequence,
}

impl CauseOfDeath {
    /// The word in the header `dlq_disposition`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Poison => "poison",
            Self::Exhausted => "exhausted",
            Self::Fatal => "fatal",
            Self::Sequence => "sequence",
        }
    }

    /// The word in the header `dlq_reason`, as eventsource-py writes it.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Poison => "deserialization_error",
            Self::Exhausted => "max_retries_exceeded",
            Self::Fatal => "handler_error",
            Self::Sequence => "earlier_dead_letter",
        }
    }
}

/// What is known of a record's failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obituary {
    /// Why it is given up.
    pub cause: CauseOfDeath,
    /// The handlers it failed in; empty when it never reached one.
    pub handlers: Vec<Arc<str>>,
    /// The kind of the last error.
    pub error_type: String,
    /// The text of the last error.
    pub message: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it failed first.
    pub first_failed: Time,
    /// When it failed last.
    pub last_failed: Time,
}

impl Obituary {
    /// Of a record that cannot be read.
    pub fn poison(now: Time, error_type: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            cause: CauseOfDeath::Poison,
            handlers: Vec::new(),
            error_type: error_type.into(),
            message: message.into(),
            attempts: 0,
            first_failed: now,
            last_failed: now,
        }
    }
}

/// Where a dead letter comes from.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The topic it was read from.
    pub topic: &'a str,
    /// The partition it was read from.
    pub partition: i32,
    /// Its offset there.
    pub offset: Offset,
    /// The group that gave it up.
    pub group: &'a str,
    /// Its place in its key's sequence, where sequences are kept.
    pub place: Option<Offset>,
}

/// Every header this library adds to a dead letter begins with this.
pub const PREFIX: &str = "dlq_";

/// No text header is longer: an error text can hold a whole response body, and the letter must fit the topic.
const TEXT_CHARS_MAX: usize = 1_000;

/// The headers of a dead letter: the record's own, then ours.
pub fn headers(original: &[Header], origin: Origin<'_>, obituary: &Obituary, now: Time) -> Vec<Header> {
    let replays = original.iter().rfind(|header| header.name == "dlq_replay_count").cloned();
    let mut headers: Vec<Header> = original.iter().filter(|header| !header.name.starts_with(PREFIX)).cloned().collect();
    headers.retain(|_| !mutant::is(Mutant::LettersLoseTheirHeaders));
    let mut add = |name: &str, text: &str| headers.push(Header::text(name, capped(text)));
    add("dlq_reason", obituary.cause.reason());
    add("dlq_disposition", obituary.cause.name());
    add("dlq_error_type", &obituary.error_type);
    add("dlq_error_message", &obituary.message);
    add("dlq_handler", &obituary.handlers.join(","));
    add("dlq_retry_count", &obituary.attempts.saturating_sub(1).to_string());
    add("dlq_timestamp", &now.to_string());
    add("dlq_first_failure_at", &obituary.first_failed.to_string());
    add("dlq_last_failure_at", &obituary.last_failed.to_string());
    add("dlq_original_topic", origin.topic);
    add("dlq_original_partition", &origin.partition.to_string());
    add("dlq_original_offset", &origin.offset.to_string());
    add("dlq_consumer_group", origin.group);
    headers.extend(origin.place.map(|place| Header::text("dlq_sequence_offset", place.to_string())));
    headers.push(replays.unwrap_or_else(|| Header::text("dlq_replay_count", "0")));
    headers
}

fn capped(text: &str) -> &str {
    text.char_indices().nth(TEXT_CHARS_MAX).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(original: &[Header], obituary: &Obituary) -> Vec<Header> {
        let origin = Origin { topic: "orders.stream", partition: 3, offset: 42, group: "billing", place: None };
        headers(original, origin, obituary, Time::from_millis(1_700_000_000_000))
    }

    fn text<'a>(headers: &'a [Header], name: &str) -> Vec<&'a str> {
        let named = headers.iter().filter(|header| header.name == name);
        named.map(|header| std::str::from_utf8(header.value.as_deref().unwrap()).unwrap()).collect()
    }

    #[test]
    fn a_letter_keeps_its_headers_and_tells_its_story() {
        let original = [Header { name: "binary".into(), value: None }, Header::text("event_type", "OrderPlaced")];
        let obituary = Obituary {
            cause: CauseOfDeath::Exhausted,
            handlers: vec!["ship".into(), "bill".into()],
            attempts: 4,
            first_failed: Time::from_millis(1_699_999_999_000),
            ..Obituary::poison(Time::from_millis(1_700_000_000_000), "Timeout", "no answer")
        };
        let letter = letter(&original, &obituary);
        assert_eq!(letter[..2], original);
        assert_eq!(text(&letter, "dlq_reason"), ["max_retries_exceeded"]);
        assert_eq!(text(&letter, "dlq_handler"), ["ship,bill"]);
        assert_eq!(text(&letter, "dlq_retry_count"), ["3"]);
        assert_eq!(text(&letter, "dlq_first_failure_at"), ["2023-11-14T22:13:19Z"]);
        assert_eq!(text(&letter, "dlq_original_offset"), ["42"]);
    }

    #[test]
    fn a_second_death_replaces_the_first_and_keeps_the_replay_count() {
        let original = [Header::text("dlq_reason", "handler_error"), Header::text("dlq_replay_count", "2")];
        let letter = letter(&original, &Obituary::poison(Time::default(), "Json", "eof"));
        assert_eq!(text(&letter, "dlq_reason"), ["deserialization_error"]);
        assert_eq!(text(&letter, "dlq_replay_count"), ["2"]);
    }

    #[test]
    fn a_long_error_is_cut_between_characters() {
        let letter = letter(&[], &Obituary::poison(Time::default(), "Json", "ß".repeat(5_000)));
        assert_eq!(text(&letter, "dlq_error_message")[0].chars().count(), TEXT_CHARS_MAX);
    }
}
