//! Kafka's messages on the wire: every API of a 4.3 broker, every version of it.
//!
//! The structs and their codecs in [`generated`] are written by `mockbroker/codegen` from the facts in
//! `codegen/schemas.json`; names are the schemas' own. Everything around them is here:
//!
//! - [`Reader`] takes a frame apart. It never panics, never trusts a length, copies nothing (strings, bytes and
//!   records are slices of the frame) and says where it stopped.
//! - [`Writer`] puts a frame together. Stored batches are handed on as they are, not copied.
//! - [`Message`] is a struct with a codec, [`Request`] and [`Response`] are one variant an API, and [`ApiKey`] is the
//!   one table of APIs and versions.
//! - [`walk`] visits any message without knowing its type; [`json`] and [`error_fields`] are built on it.
//!
//! ```
//! use rehearsal_mockbroker::wire::{Message, Reader, Writer, generated::metadata_request::MetadataRequest};
//!
//! let asked = MetadataRequest { topics: None, ..Default::default() };
//! let mut writer = Writer::new();
//! asked.encode(&mut writer, 13).unwrap();
//! assert_eq!(MetadataRequest::decode(&mut Reader::new(writer.into_bytes()), 13).unwrap(), asked);
//! ```

mod api;
pub mod batch;
pub mod codec;
pub mod compression;
pub mod error_fields;
pub mod generated;
mod header;
pub mod json;
pub mod marker;
mod reader;
mod records;
mod text;
pub mod uuid;
pub mod walk;
mod writer;

pub use codec::Message;
pub use generated::{ApiKey, Request, Response};
pub use header::{read_request_header, request_header_version, response_frame, response_header_version};
pub use reader::{DecodeError, DecodeProblem, Reader};
pub use records::Records;
pub use text::Str;
pub use uuid::Uuid;
pub use writer::{EncodeError, EncodeProblem, Writer};
