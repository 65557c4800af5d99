//! One connection: bytes in, requests out, replies back in order. Both drivers use it.
//!
//! A session has at most one request in hand. What a client sent ahead waits as bytes, as in Kafka, whose
//! socket server mutes a channel until its response is on the way.

use crate::error::Violation;
use crate::handlers;
use crate::wire::{ApiKey, Reader, Request, Response, Str, generated::api_versions_request::ApiVersionsRequest};
use crate::wire::{read_request_header, response_frame};
use bytes::{Buf, Bytes, BytesMut};

/// Bytes of a frame's length field.
const LENGTH_LEN: usize = 4;
/// What is made room for at once; a frame that claims more gets it as its bytes arrive.
const RESERVE_STEP: usize = 64 * 1024;

/// One connection's state between bytes.
#[derive(Debug)]
pub struct Session {
    received: BytesMut,
    in_hand: Option<InHand>,
    frame_bytes_max: usize,
}

/// A decoded request, for [`Cluster::handle`](crate::cluster::Cluster::handle).
#[derive(Debug, Clone, PartialEq)]
pub struct Incoming {
    /// The version it was sent in, which its answer is sent in too.
    pub version: i16,
    /// Who the client says it is; empty when it says nothing.
    pub client_id: Str,
    /// What it asks.
    pub body: Request,
}

#[derive(Debug, Clone, Copy)]
struct InHand {
    correlation_id: i32,
    version: i16,
}

impl Session {
    /// A fresh connection that accepts frames up to `frame_bytes_max` (`socket.request.max.bytes`).
    pub fn new(frame_bytes_max: usize) -> Self {
        Self { received: BytesMut::new(), in_hand: None, frame_bytes_max }
    }

    /// Where the driver reads into. Room is made for a little more than has arrived, never for what a frame claims.
    pub fn read_buffer(&mut self) -> &mut BytesMut {
        if self.received.capacity() - self.received.len() < RESERVE_STEP / 4 {
            self.received.reserve(RESERVE_STEP.max(self.received.len().min(self.frame_bytes_max)));
        }
        &mut self.received
    }

    /// Bytes that arrived, for drivers that do not read into [`Session::read_buffer`].
    pub fn receive(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
    }

    /// Bytes received and not yet understood.
    pub fn backlog(&self) -> usize {
        self.received.len()
    }

    /// Whether more bytes are wanted now: not while a full frame waits behind the request in hand.
    pub fn wants_bytes(&self) -> bool {
        self.in_hand.is_none()
            || !matches!(self.frame_len(), Ok(Some(length)) if self.received.len() >= LENGTH_LEN + length)
    }

    /// The next request, once it is whole and the one before is answered.
    ///
    /// # Errors
    /// No conforming client sends this; close the connection and log the line.
    pub fn next_request(&mut self) -> Result<Option<Incoming>, Violation> {
        if self.in_hand.is_some() {
            return Ok(None);
        }
        let Some(length) = self.frame_len()? else { return Ok(None) };
        if self.received.len() < LENGTH_LEN + length {
            return Ok(None);
        }
        self.received.advance(LENGTH_LEN);
        let frame = self.received.split_to(length).freeze();
        let (in_hand, incoming) = decode(frame)?;
        self.in_hand = Some(in_hand);
        Ok(Some(incoming))
    }

    /// The bytes that answer the request in hand, in pieces that share the log's memory; none when the client expects
    /// no answer.
    ///
    /// # Errors
    /// The answer has no form in the version asked for: our mistake, and the connection cannot go on.
    pub fn answer(&mut self, response: Option<&Response>) -> Result<Vec<Bytes>, Violation> {
        let Some(in_hand) = self.in_hand.take() else {
            return Err(Violation::new("an answer came without a request"));
        };
        match response {
            None => Ok(Vec::new()),
            Some(response) => response_frame(in_hand.correlation_id, response, in_hand.version)
                .map_err(|error| Violation::new(format!("cannot write the answer: {error}"))),
        }
    }

    fn frame_len(&self) -> Result<Option<usize>, Violation> {
        let Some(length) = self.received.first_chunk::<LENGTH_LEN>() else { return Ok(None) };
        let length = i32::from_be_bytes(*length);
        match usize::try_from(length) {
            Ok(length) if length <= self.frame_bytes_max => Ok(Some(length)),
            _ => Err(Violation::new(format!(
                "a frame claims {length} bytes, and at most {} are accepted (socket.request.max.bytes)",
                self.frame_bytes_max
            ))),
        }
    }
}

fn decode(frame: Bytes) -> Result<(InHand, Incoming), Violation> {
    let mut reader = Reader::new(frame);
    let header =
        read_request_header(&mut reader).map_err(|error| Violation::new(format!("request header: {error}")))?;
    let (key, version) = (header.request_api_key, header.request_api_version);
    let client_id = header.client_id.map(|id| id.detached()).unwrap_or_default();
    let correlation_id = header.correlation_id;
    let Some(api) = ApiKey::from_code(key) else {
        return Err(Violation::new(format!("client '{client_id}' asked for API {key}, which Kafka 4.3 does not have")));
    };
    if handlers::serves(api, version) {
        let body = Request::decode(api, version, &mut reader)
            .map_err(|error| Violation::new(format!("client '{client_id}' sent a request we cannot read: {error}")))?;
        return Ok((InHand { correlation_id, version }, Incoming { version, client_id, body }));
    }
    if api == ApiKey::ApiVersions {
        // KIP-511: a client from the future learns in version 0 which versions there are.
        let body = Request::ApiVersions(ApiVersionsRequest::default());
        return Ok((InHand { correlation_id, version: 0 }, Incoming { version: UNSUPPORTED, client_id, body }));
    }
    Err(Violation::new(format!("client '{client_id}' asked for {api:?} version {version}, which is not supported")))
}

/// The version an ApiVersions request is handed on with when its own is not one we know.
pub(crate) const UNSUPPORTED: i16 = -1;

#[cfg(test)]
mod tests {
    use super::*;

    fn api_versions(version: i16) -> Vec<u8> {
        let mut frame = vec![0, 18];
        frame.extend(version.to_be_bytes());
        frame.extend([0, 0, 0, 7, 0xff, 0xff]);
        if version >= 3 {
            frame.push(0); // no tagged fields
        }
        let mut out = (frame.len() as i32).to_be_bytes().to_vec();
        out.extend(frame);
        out
    }

    #[test]
    fn requests_come_out_one_at_a_time_and_in_order() {
        let mut session = Session::new(1_000);
        let frame = api_versions(0);
        session.receive(&frame[..5]);
        assert_eq!(session.next_request(), Ok(None), "half a frame is no request");
        session.receive(&frame[5..]);
        session.receive(&frame);
        assert!(matches!(session.next_request(), Ok(Some(_))));
        assert_eq!(session.next_request(), Ok(None), "the second waits for the first");
        assert!(!session.wants_bytes());
        session.answer(None).expect("a request is in hand");
        assert!(matches!(session.next_request(), Ok(Some(_))));
    }

    #[test]
    fn a_client_from_the_future_is_answered_in_version_0() {
        let mut session = Session::new(1_000);
        session.receive(&api_versions(99));
        let incoming = session.next_request().expect("no violation").expect("a request");
        assert_eq!(incoming.version, UNSUPPORTED);
    }

    #[test]
    fn lying_lengths_reserve_nothing_and_end_the_connection() {
        for length in [-1, 1_001, i32::MAX] {
            let mut session = Session::new(1_000);
            session.receive(&length.to_be_bytes());
            assert!(session.next_request().is_err(), "{length}");
            assert!(session.received.capacity() < 2 * RESERVE_STEP);
        }
    }

    #[test]
    fn unknown_apis_are_named_in_the_log_line() {
        let mut session = Session::new(1_000);
        session.receive(&[0, 0, 0, 10, 0x7f, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff]);
        let violation = session.next_request().expect_err("there is no API 32767");
        assert!(violation.to_string().contains("API 32767"), "{violation}");
    }
}
