//! One connection: bytes in, requests out, replies back in order. Both drivers use it.
//!
//! A session has at most one request in hand. What a client sent ahead waits as bytes, as in Kafka, whose
//! socket server mutes a channel until its response is on the way.

use crate::error::Violation;
use crate::handlers;
use crate::output::Frame;
use crate::release::Release;
use crate::wire::generated::api_versions_request::ApiVersionsRequest;
use crate::wire::generated::sasl_authenticate_request::SaslAuthenticateRequest;
use crate::wire::{ApiKey, Reader, Request, Response, Str};
use crate::wire::{read_request_header, response_frame};
use bytes::buf::Limit;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Bytes of a frame's length field.
const LENGTH_LEN: usize = 4;
/// What is made room for at once; a frame that claims more gets it as its bytes arrive. A longer frame gets memory of
/// its own, so that the log can keep it instead of a copy.
const RESERVE_STEP: usize = 64 * 1024;
/// How many times what has arrived of a long frame is made room for; each time, what has arrived is copied.
const RESERVE_GROWTH: usize = 4;

/// Length and correlation id stay as they are in a garbled answer.
const GARBLED_FROM: usize = LENGTH_LEN + 4;
/// How many of a garbled answer's bytes are others.
const GARBLED_SHARE: f64 = 0.1;

/// One connection's state between bytes.
#[derive(Debug)]
pub struct Session {
    received: BytesMut,
    /// `received` holds one long frame, or its beginning, and has no room for more than that.
    holds_long_frame: bool,
    in_hand: Option<InHand>,
    /// After a SaslHandshake of version 0 frames hold bare tokens until the client is inside; this is who sends them.
    tokens_from: Option<Str>,
    frame_bytes_max: usize,
    release: Release,
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
    /// How many bytes it had on the wire, its length field included.
    pub frame_bytes: usize,
}

#[derive(Debug, Clone)]
struct InHand {
    correlation_id: i32,
    version: i16,
    client_id: Str,
}

impl Session {
    /// A fresh connection that accepts frames up to `frame_bytes_max` (`socket.request.max.bytes`).
    pub fn new(frame_bytes_max: usize) -> Self {
        Self {
            received: BytesMut::new(),
            holds_long_frame: false,
            in_hand: None,
            tokens_from: None,
            frame_bytes_max,
            release: Release::default(),
        }
    }

    /// Understands only the versions that brokers of this release do; those of 4.3 unless told.
    pub fn limited_to(mut self, release: Release) -> Self {
        self.release = release;
        self
    }

    /// Where the driver reads into. Room is made for a little more than has arrived, never for what a frame claims.
    pub fn read_buffer(&mut self) -> Limit<&mut BytesMut> {
        match self.frame_len() {
            Ok(Some(length)) if LENGTH_LEN + length > self.received.len().max(RESERVE_STEP) => {
                self.make_room_for_long_frame(LENGTH_LEN + length);
            }
            _ if self.room() < RESERVE_STEP / 4 => self.received.reserve(RESERVE_STEP),
            _ => {}
        }
        let room = self.room();
        (&mut self.received).limit(room)
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
        let mut frame = self.take(LENGTH_LEN + length);
        frame.advance(LENGTH_LEN);
        let (in_hand, incoming) = match &self.tokens_from {
            Some(client_id) => token(frame, client_id.clone()),
            None => decode(frame, self.release)?,
        };
        self.in_hand = Some(in_hand);
        Ok(Some(incoming))
    }

    /// The bytes that answer the request in hand, in pieces that share the log's memory; none when the client expects
    /// no answer. `frame` is what the cluster's [`Output`](crate::output::Output) says.
    ///
    /// # Errors
    /// The answer has no form in the version asked for: our mistake, and the connection cannot go on.
    pub fn answer(&mut self, response: Option<&Response>, frame: Frame) -> Result<Vec<Bytes>, Violation> {
        let Some(in_hand) = self.in_hand.take() else {
            return Err(Violation::new("an answer came without a request"));
        };
        match response {
            None => Ok(Vec::new()),
            Some(Response::SaslAuthenticate(answer)) if in_hand.version == RAW_TOKEN => {
                if frame == (Frame::Token { last: true }) {
                    self.tokens_from = None;
                }
                let length = u32::try_from(answer.auth_bytes.len()).unwrap_or(u32::MAX);
                let chunks = vec![Bytes::copy_from_slice(&length.to_be_bytes()), answer.auth_bytes.clone()];
                Ok(framed(chunks, frame))
            }
            Some(response) => response_frame(in_hand.correlation_id, response, in_hand.version)
                .map(|chunks| {
                    if in_hand.version == 0
                        && matches!(response, Response::SaslHandshake(answer) if answer.error_code == 0)
                    {
                        self.tokens_from = Some(in_hand.client_id);
                    }
                    framed(chunks, frame)
                })
                .map_err(|error| Violation::new(format!("cannot write the answer: {error}"))),
        }
    }

    fn room(&self) -> usize {
        self.received.capacity() - self.received.len()
    }

    fn make_room_for_long_frame(&mut self, total: usize) {
        if self.holds_long_frame && self.room() > 0 {
            return;
        }
        let justified = RESERVE_STEP.max(self.received.len() * RESERVE_GROWTH);
        let mut roomier = BytesMut::with_capacity(total.min(justified));
        roomier.extend_from_slice(&self.received);
        self.received = roomier;
        self.holds_long_frame = true;
    }

    /// The first bytes received; a long frame takes its memory along.
    fn take(&mut self, length: usize) -> Bytes {
        let alone = std::mem::take(&mut self.holds_long_frame) && self.received.len() == length;
        let taken = if alone { std::mem::take(&mut self.received) } else { self.received.split_to(length) };
        taken.freeze()
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

/// The bytes as a fault wants them.
fn framed(chunks: Vec<Bytes>, frame: Frame) -> Vec<Bytes> {
    match frame {
        Frame::Whole | Frame::Token { .. } => chunks,
        Frame::Twice => [chunks.clone(), chunks].concat(),
        Frame::CutShort => {
            let mut whole = joined(&chunks);
            whole.truncate(whole.len() / 2);
            vec![whole.freeze()]
        }
        Frame::Garbled { seed } => {
            let mut whole = joined(&chunks);
            let mut rng = SmallRng::seed_from_u64(seed);
            // The length stays right, and so does the correlation id: what is spoilt is the answer, not its address.
            if let Some(body) = whole.get_mut(GARBLED_FROM..) {
                body.iter_mut().filter(|_| rng.random_bool(GARBLED_SHARE)).for_each(|byte| *byte ^= 0xff);
                if let Some(first) = body.first_mut() {
                    *first ^= 0x55;
                }
            }
            vec![whole.freeze()]
        }
    }
}

fn joined(chunks: &[Bytes]) -> BytesMut {
    chunks.iter().fold(BytesMut::new(), |mut whole, chunk| {
        whole.extend_from_slice(chunk);
        whole
    })
}

/// A frame that is nothing but a token.
fn token(frame: Bytes, client_id: Str) -> (InHand, Incoming) {
    let frame_bytes = LENGTH_LEN + frame.len();
    let body = Request::SaslAuthenticate(SaslAuthenticateRequest { auth_bytes: frame });
    let in_hand = InHand { correlation_id: 0, version: RAW_TOKEN, client_id: client_id.clone() };
    (in_hand, Incoming { version: RAW_TOKEN, client_id, body, frame_bytes })
}

fn decode(frame: Bytes, release: Release) -> Result<(InHand, Incoming), Violation> {
    let frame_bytes = LENGTH_LEN + frame.len();
    let mut reader = Reader::new(frame);
    let header =
        read_request_header(&mut reader).map_err(|error| Violation::new(format!("request header: {error}")))?;
    let (key, version) = (header.request_api_key, header.request_api_version);
    let client_id = header.client_id.map(|id| id.detached()).unwrap_or_default();
    let correlation_id = header.correlation_id;
    let Some(api) = ApiKey::from_code(key) else {
        return Err(Violation::new(format!("client '{client_id}' asked for API {key}, which Kafka 4.3 does not have")));
    };
    if handlers::serves(release, api, version) {
        let body = Request::decode(api, version, &mut reader)
            .map_err(|error| Violation::new(format!("client '{client_id}' sent a request we cannot read: {error}")))?;
        let in_hand = InHand { correlation_id, version, client_id: client_id.clone() };
        return Ok((in_hand, Incoming { version, client_id, body, frame_bytes }));
    }
    if api == ApiKey::ApiVersions {
        // KIP-511: a client from the future learns in version 0 which versions there are.
        let body = Request::ApiVersions(ApiVersionsRequest::default());
        return Ok((
            InHand { correlation_id, version: 0, client_id: client_id.clone() },
            Incoming { version: UNSUPPORTED, client_id, body, frame_bytes },
        ));
    }
    Err(Violation::new(format!("client '{client_id}' asked for {api:?} version {version}, which is not supported")))
}

/// The version an ApiVersions request is handed on with when its own is not one we know.
pub(crate) const UNSUPPORTED: i16 = -1;

/// The version of a SaslAuthenticate that came as a bare token.
pub(crate) const RAW_TOKEN: i16 = -2;

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
        session.answer(None, Frame::Whole).expect("a request is in hand");
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
    fn a_long_frame_owns_exactly_its_memory() {
        let total = 10 * RESERVE_STEP + 1;
        let mut arriving = (total as i32 - LENGTH_LEN as i32).to_be_bytes().to_vec();
        arriving.resize(total + 7, 0);
        let mut arriving = &arriving[..];
        let mut session = Session::new(total);
        while session.received.len() < total {
            let arrived = session.received.len();
            let mut buffer = session.read_buffer();
            let some = buffer.remaining_mut().min(arriving.remaining()).min(30_000);
            buffer.put(arriving.copy_to_bytes(some));
            let justified = RESERVE_STEP.max(arrived * RESERVE_GROWTH);
            assert!(session.received.capacity() <= justified, "{arrived} bytes arrived");
        }
        assert_eq!(arriving.remaining(), 7, "the next frame's bytes stay in the socket");
        let frame = session.take(total);
        assert_eq!(frame.try_into_mut().map(|frame| frame.capacity()), Ok(total));
    }

    #[test]
    fn unknown_apis_are_named_in_the_log_line() {
        let mut session = Session::new(1_000);
        session.receive(&[0, 0, 0, 10, 0x7f, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff]);
        let violation = session.next_request().expect_err("there is no API 32767");
        assert!(violation.to_string().contains("API 32767"), "{violation}");
    }
}
