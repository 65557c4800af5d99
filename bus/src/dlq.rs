//! Dead letters, as one looks at them and replays them.

use crate::engine::Header;
use bytes::Bytes;
use jiff::Timestamp;

/// An event that was given up: the record as it was, and what it died of.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DlqMessage {
    /// Its partition in the dead-letter topic.
    pub partition: i32,
    /// Its offset there. Partition and offset name it.
    pub offset: i64,
    /// When it was written there.
    pub timestamp: Option<Timestamp>,
    /// The record's key.
    pub key: Option<Bytes>,
    /// The record's value, byte for byte.
    pub value: Option<Bytes>,
    /// The record's headers, and those that tell its story.
    pub headers: Vec<Header>,
}

impl DlqMessage {
    /// The text of a header; of the last one, if there are several of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().rfind(|header| header.name == name)?;
        std::str::from_utf8(header.value.as_deref()?).ok()
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.header(name)?.parse().ok()
    }

    /// The type of the event, if the record told.
    pub fn event_type(&self) -> Option<&str> {
        self.header("event_type")
    }

    /// The text of the last error.
    pub fn error(&self) -> &str {
        self.header("dlq_error_message").unwrap_or_default()
    }

    /// The kind of the last error.
    pub fn error_type(&self) -> &str {
        self.header("dlq_error_type").unwrap_or_default()
    }

    /// Why it was given up: `max_retries_exceeded`, `handler_error` or `deserialization_error`.
    pub fn reason(&self) -> &str {
        self.header("dlq_reason").unwrap_or_default()
    }

    /// The handlers it failed in, by name.
    pub fn handlers(&self) -> impl Iterator<Item = &str> {
        self.header("dlq_handler").unwrap_or_default().split(',').filter(|name| !name.is_empty())
    }

    /// How often it was tried again before it was given up.
    pub fn retry_count(&self) -> u32 {
        self.number("dlq_retry_count").unwrap_or(0)
    }

    /// How often it had been replayed before.
    pub fn replay_count(&self) -> u32 {
        self.number("dlq_replay_count").unwrap_or(0)
    }

    /// The group that gave it up.
    pub fn consumer_group(&self) -> Option<&str> {
        self.header("dlq_consumer_group")
    }

    /// The topic it was read from.
    pub fn original_topic(&self) -> Option<&str> {
        self.header("dlq_original_topic")
    }

    /// Its partition there.
    pub fn original_partition(&self) -> Option<i32> {
        self.number("dlq_original_partition")
    }

    /// Its offset there.
    pub fn original_offset(&self) -> Option<i64> {
        self.number("dlq_original_offset")
    }

    /// Its place in its key's sequence: the offset at which its event was published first, however often it was replayed
    /// since.
    pub fn sequence_offset(&self) -> Option<i64> {
        self.number("dlq_sequence_offset").or_else(|| self.original_offset())
    }

    /// Whether the group that gave it up holds back later events of its key
    /// ([`DlqScope::Sequence`](crate::config::DlqScope::Sequence)).
    pub fn is_in_sequence(&self) -> bool {
        self.header("dlq_sequence_offset").is_some()
    }

    /// When it failed first.
    pub fn first_failure_at(&self) -> Option<Timestamp> {
        self.number("dlq_first_failure_at")
    }

    /// When it failed last.
    pub fn last_failure_at(&self) -> Option<Timestamp> {
        self.number("dlq_last_failure_at")
    }
}

/// A dead letter to be published once more, and how.
///
/// ```
/// use rehearsal_bus::dlq::Replay;
///
/// // For the group that gave it up, unless it came back too often.
/// let usual = Replay::of(2, 17);
/// // With its value put right, for everybody, however often it came back.
/// let repaired = Replay::of(2, 17).with_value(r#"{"order": 7}"#).to_every_group().forced();
/// # let _ = (usual, repaired);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "nothing happens until a bus is given it"]
pub struct Replay {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) value: Option<Bytes>,
    pub(crate) to_every_group: bool,
    pub(crate) forced: bool,
}

impl Replay {
    /// The letter at this place of the dead-letter topic, as it is, for the group that gave it up.
    pub fn of(partition: i32, offset: i64) -> Self {
        Self { partition, offset, value: None, to_every_group: false, forced: false }
    }

    /// With this value instead of its own. The header `dlq_edited` of the replay says so, and the ledger.
    pub fn with_value(self, value: impl Into<Bytes>) -> Self {
        Self { value: Some(value.into()), ..self }
    }

    /// For every group that reads the main topic: those that had handled the event get it a second time.
    pub fn to_every_group(self) -> Self {
        Self { to_every_group: true, ..self }
    }

    /// Also when it was replayed more than `dlq_max_replay_attempts` times before.
    pub fn forced(self) -> Self {
        Self { forced: true, ..self }
    }
}

/// What came of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplayOutcome {
    /// It is in the main topic once more.
    Replayed {
        /// Its partition there.
        partition: i32,
        /// Its offset there.
        offset: i64,
    },
    /// It was resolved before. Nothing was done.
    AlreadyReplayed,
    /// There is no such dead letter. Nothing was done.
    NotFound,
    /// This one, of the same key, must be replayed or evicted first ([`DlqScope::Sequence`]). Nothing was done.
    ///
    /// [`DlqScope::Sequence`]: crate::config::DlqScope::Sequence
    Behind {
        /// Its partition in the dead-letter topic.
        partition: i32,
        /// Its offset there.
        offset: i64,
    },
    /// It was replayed so often, and came back every time, that another time must be forced. Nothing was done.
    TooOften {
        /// How often.
        replays: u32,
    },
}

/// What came of an eviction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EvictOutcome {
    /// It counts as resolved from now on.
    Evicted,
    /// It was resolved before. Nothing was done.
    AlreadyResolved,
    /// There is no such dead letter. Nothing was done.
    NotFound,
}

impl ReplayOutcome {
    /// Whether this call replayed it.
    pub fn is_replayed(self) -> bool {
        matches!(self, Self::Replayed { .. })
    }
}
