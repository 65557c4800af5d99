//! A record as it was read, owned, and the way from events to records.

use crate::engine::Header;
use crate::event::AnyEvent;
use crate::registry::EventType;
use bytes::{Bytes, BytesMut};
use rdkafka::message::{Header as ClientHeader, Headers, Message, OwnedHeaders};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// Names the only group a replayed record is for. Other groups of this library skip it.
pub(crate) const TARGET_GROUP: &str = "bus-target-group";

/// On a replay: the place of its letter in its key's sequence.
pub(crate) const SEQUENCE: &str = "bus-sequence";

/// On a record that is no event: the letter with this place in its key's sequence was evicted.
pub(crate) const EVICTED: &str = "bus-evicted";

/// Name and value of one of ours, such as an id: a guess that saves growing.
const HEADER_BYTES_TYPICAL: usize = 48;

/// Key, value and headers share one buffer: an event has a dozen headers, and each would be two allocations.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// Milliseconds since 1970, if the broker told.
    pub(super) timestamp: Option<i64>,
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    buffer: Bytes,
    /// Where each header's name and value lie in the buffer.
    headers: Vec<(Range<usize>, Option<Range<usize>>)>,
    /// The type its headers name, once it was looked up: its handlers need no second look.
    pub(super) kind: OnceLock<EventType>,
    /// The event in it, once somebody has read it: retries need not decode again.
    pub(super) event: OnceLock<AnyEvent>,
}

impl Record {
    pub(super) fn read(topic: &Arc<str>, message: &impl Message) -> Self {
        let (key, value, told) = (message.key(), message.payload(), message.headers());
        let count = told.map_or(0, Headers::count);
        let size = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len) + count * HEADER_BYTES_TYPICAL;
        let mut buffer = BytesMut::with_capacity(size);
        let mut put = |bytes: &[u8]| {
            let start = buffer.len();
            buffer.extend_from_slice(bytes);
            start..buffer.len()
        };
        let (key, value) = (key.map(&mut put), value.map(&mut put));
        let mut headers = Vec::with_capacity(count);
        for header in told.into_iter().flat_map(Headers::iter) {
            headers.push((put(header.key.as_bytes()), header.value.map(&mut put)));
        }
        let buffer = buffer.freeze();
        Self {
            topic: topic.clone(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis(),
            key: key.map(|key| buffer.slice(key)),
            value: value.map(|value| buffer.slice(value)),
            buffer,
            headers,
            kind: OnceLock::new(),
            event: OnceLock::new(),
        }
    }

    /// The value of a header; of the last one of this name, which speaks for the record as it is now.
    pub(super) fn header(&self, name: &str) -> Option<&[u8]> {
        let (_, value) = self.headers.iter().rfind(|(at, _)| &self.buffer[at.clone()] == name.as_bytes())?;
        value.clone().map(|value| &self.buffer[value])
    }

    pub(super) fn event_type(&self) -> Option<&str> {
        std::str::from_utf8(self.header("event_type")?).ok()
    }

    /// Names and values, without the headers that have no value.
    pub(super) fn header_values(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let valued = self.headers.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        valued.filter_map(|(name, value)| Some((self.name(name)?, &self.buffer[value.clone()])))
    }

    pub(super) fn headers(&self) -> Vec<Header> {
        let owned = self.headers.iter().map(|(name, value)| Header {
            name: self.name(name).unwrap_or_default().to_owned(),
            value: value.clone().map(|value| self.buffer.slice(value)),
        });
        owned.collect()
    }

    fn name(&self, at: &Range<usize>) -> Option<&str> {
        std::str::from_utf8(&self.buffer[at.clone()]).ok()
    }
}

/// Headers the way the client wants them.
pub(super) fn client_headers<'a>(headers: impl ExactSizeIterator<Item = (&'a str, Option<&'a [u8]>)>) -> OwnedHeaders {
    let list = OwnedHeaders::new_with_capacity(headers.len());
    headers.fold(list, |list, (key, value)| list.insert(ClientHeader { key, value }))
}
