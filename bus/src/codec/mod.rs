//! How events become bytes and bytes events.

use std::error::Error;
use std::fmt;

use bytes::Bytes;

use crate::event::{AnyEvent, WireMetadata};
use crate::registry::EventType;

/// A format. [`Json`] is the default; implement this for others.
pub trait Serializer: fmt::Debug + Send + Sync + 'static {
    /// The media type, for the `content-type` header.
    fn content_type(&self) -> &'static str;

    /// Writes an event. The metadata travels in headers as well, so a format may leave it out.
    ///
    /// # Errors
    /// When the payload cannot be written in this format.
    fn serialize(&self, event: &AnyEvent) -> Result<Bytes, CodecError>;

    /// Reads an event that is of type `kind`, whose headers said `headers`.
    ///
    /// # Errors
    /// When these bytes are not one. They will not become one, so this is never retried.
    fn deserialize(&self, bytes: &[u8], kind: &EventType, headers: WireMetadata) -> Result<AnyEvent, CodecError>;
}

/// Why something could not be written or read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CodecError(#[source] Box<dyn Error + Send + Sync>);

impl CodecError {
    /// For this reason.
    pub fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

/// One flat JSON object, metadata beside the payload; see [`AnyEvent::to_json`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

impl Serializer for Json {
    fn content_type(&self) -> &'static str {
        "application/json"
    }

    fn serialize(&self, event: &AnyEvent) -> Result<Bytes, CodecError> {
        event.to_json().map(Bytes::from).map_err(CodecError::new)
    }

    fn deserialize(&self, bytes: &[u8], kind: &EventType, headers: WireMetadata) -> Result<AnyEvent, CodecError> {
        kind.read_json(bytes, headers).map_err(CodecError::new)
    }
}
