//! What stands in front of a request or a response.

use super::codec::Message;
use super::generated::request_header::RequestHeader;
use super::generated::response_header::ResponseHeader;
use super::generated::{ApiKey, Response};
use super::reader::{DecodeError, Reader};
use super::writer::{EncodeError, Writer};
use bytes::Bytes;

/// The version of the header in front of a request of this version.
pub fn request_header_version(api: ApiKey, version: i16) -> i16 {
    if version >= api.request_flexible_from() { 2 } else { 1 }
}

/// The version of the header in front of a response of this version.
pub fn response_header_version(api: ApiKey, version: i16) -> i16 {
    // A client asks ApiVersions before it knows what the broker speaks (KIP-511).
    if api != ApiKey::ApiVersions && version >= api.response_flexible_from() { 1 } else { 0 }
}

/// Reads a request's header, whatever API and version it names: whether they exist is the caller's question.
pub fn read_request_header(reader: &mut Reader) -> Result<RequestHeader, DecodeError> {
    let mut ahead = reader.clone();
    let code = ahead.field("RequestHeader.request_api_key", INFLEXIBLE)?;
    let version = ahead.field("RequestHeader.request_api_version", INFLEXIBLE)?;
    let header_version = ApiKey::from_code(code).map_or(1, |api| request_header_version(api, version));
    RequestHeader::decode(reader, header_version)
}

const INFLEXIBLE: super::codec::Cx = super::codec::Cx { version: 1, flexible: false };

/// A response as it goes to the socket: its length, its header, its body.
pub fn response_frame(correlation_id: i32, response: &Response, version: i16) -> Result<Vec<Bytes>, EncodeError> {
    let mut writer = Writer::framed();
    ResponseHeader { correlation_id }.encode(&mut writer, response_header_version(response.api_key(), version))?;
    response.encode(version, &mut writer)?;
    writer.finish()
}
