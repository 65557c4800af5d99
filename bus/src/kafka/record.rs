//! A record as it was read, owned, and the way from events to records.

use crate::engine::Header;
use crate::event::AnyEvent;
use bytes::Bytes;
use rdkafka::message::{Header as ClientHeader, Headers, Message, OwnedHeaders};
use std::sync::{Arc, OnceLock};

/// Names the only group a replayed record is for. Other groups of this library skip it.
pub(crate) const TARGET_GROUP: &str = "bus-target-group";

#[derive(Debug)]
pub(super) struct Record {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// Milliseconds since 1970, if the broker told.
    pub(super) timestamp: Option<i64>,
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    pub(super) headers: Vec<Header>,
    /// The event in it, once somebody has read it: retries need not decode again.
    pub(super) event: OnceLock<AnyEvent>,
}

impl Record {
    pub(super) fn read(topic: &Arc<str>, message: &impl Message) -> Self {
        let headers = message.headers().map(|headers| headers.iter().map(owned).collect());
        Self {
            topic: topic.clone(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis(),
            key: message.key().map(Bytes::copy_from_slice),
            value: message.payload().map(Bytes::copy_from_slice),
            headers: headers.unwrap_or_default(),
            event: OnceLock::new(),
        }
    }

    /// The last header of this name: a header added later speaks for the record as it is now.
    pub(super) fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().rfind(|header| header.name == name)?.value.as_deref()
    }

    pub(super) fn event_type(&self) -> Option<&str> {
        std::str::from_utf8(self.header("event_type")?).ok()
    }
}

fn owned(header: ClientHeader<'_, &[u8]>) -> Header {
    Header { name: header.key.to_owned(), value: header.value.map(Bytes::copy_from_slice) }
}

/// Headers the way the client wants them.
pub(super) fn client_headers<'a>(headers: impl ExactSizeIterator<Item = (&'a str, Option<&'a [u8]>)>) -> OwnedHeaders {
    let list = OwnedHeaders::new_with_capacity(headers.len());
    headers.fold(list, |list, (key, value)| list.insert(ClientHeader { key, value }))
}
