//! A Kafka client that says exactly what it is told, well formed or not.
//!
//! Built on the `kafka-protocol` crate, a codec independent of the broker's own. One [`Connection`] is one blocking
//! socket; requests may be sent ahead and their answers collected later, which is how a script holds a long poll or a
//! join open.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

/// How long an answer is awaited before the broker counts as silent.
pub const PATIENCE: Duration = Duration::from_secs(12);

/// Larger than any answer the suites cause.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    /// The broker closed the connection.
    Closed,
    /// Nothing came within [`PATIENCE`].
    Silent,
    /// Something came that this codec cannot read.
    Unreadable(String),
    /// The request could not be sent.
    Unsent(String),
}

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed => f.write_str("the connection closed"),
            Self::Silent => write!(f, "no answer within {PATIENCE:?}"),
            Self::Unreadable(why) => write!(f, "the answer cannot be read: {why}"),
            Self::Unsent(why) => write!(f, "the request could not be sent: {why}"),
        }
    }
}

impl std::error::Error for NoAnswer {}

/// A request on its way; hand it back to [`Connection::receive`].
#[derive(Debug)]
#[must_use = "an answer that is never received shifts all later ones"]
pub struct Pending<R: Request> {
    correlation_id: i32,
    version: i16,
    request: std::marker::PhantomData<R>,
}

/// One connection to a broker.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    client_id: String,
    next_correlation_id: i32,
}

impl Connection {
    /// Connects to `host:port` as `client_id`.
    ///
    /// # Errors
    /// When the address does not resolve or nothing listens there.
    pub fn open(address: &str, client_id: &str) -> Result<Self> {
        let address = resolve(address)?;
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))
            .with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, client_id: client_id.to_owned(), next_correlation_id: 1 })
    }

    /// Sends one request and awaits its answer.
    ///
    /// # Errors
    /// See [`NoAnswer`].
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response, NoAnswer> {
        let pending = self.send(version, request)?;
        self.receive(pending)
    }

    /// Sends one request; its answer is collected with [`Connection::receive`], in the order of sending.
    ///
    /// # Errors
    /// When the codec refuses the request at this version or the socket is gone.
    pub fn send<R: Request>(&mut self, version: i16, request: &R) -> Result<Pending<R>, NoAnswer> {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id += 1;
        let frame = frame_of(&self.client_id, correlation_id, version, request)
            .map_err(|error| NoAnswer::Unsent(format!("{error:#}")))?;
        self.send_bytes(&frame)?;
        Ok(Pending { correlation_id, version, request: std::marker::PhantomData })
    }

    /// Awaits the answer to a request sent before.
    ///
    /// # Errors
    /// See [`NoAnswer`].
    pub fn receive<R: Request>(&mut self, pending: Pending<R>) -> Result<R::Response, NoAnswer> {
        let frame = self.receive_frame()?;
        read_answer::<R>(frame, &pending).map_err(|error| NoAnswer::Unreadable(format!("{error:#}")))
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the socket is gone.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), NoAnswer> {
        match self.stream.write_all(bytes) {
            Ok(()) => Ok(()),
            Err(error) if is_closed(error.kind()) => Err(NoAnswer::Closed),
            Err(error) => Err(NoAnswer::Unsent(error.to_string())),
        }
    }

    /// Awaits one frame and gives its body: what follows the length.
    ///
    /// # Errors
    /// See [`NoAnswer`].
    pub fn receive_frame(&mut self) -> Result<Bytes, NoAnswer> {
        let mut length = [0; 4];
        self.read_exact(&mut length)?;
        let length = i32::from_be_bytes(length);
        let length = usize::try_from(length).ok().filter(|length| *length <= ANSWER_BYTES_MAX);
        let Some(length) = length else {
            return Err(NoAnswer::Unreadable(format!("a frame of {length:?} bytes")));
        };
        let mut body = vec![0; length];
        self.read_exact(&mut body)?;
        Ok(body.into())
    }

    /// Whether something to read, or the end, arrives within this time; nothing is taken off.
    #[must_use]
    pub fn answers_within(&self, wait: Duration) -> bool {
        let restored = || self.stream.set_read_timeout(Some(PATIENCE));
        let arrived = self.stream.set_read_timeout(Some(wait)).and_then(|()| self.stream.peek(&mut [0]));
        restored().is_ok() && arrived.is_ok()
    }

    /// Says that nothing more will be sent; answers can still be received.
    pub fn finish_sending(&mut self) {
        // A socket the broker closed first has nothing left to shut.
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), NoAnswer> {
        self.stream.read_exact(buffer).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => NoAnswer::Silent,
            kind if is_closed(kind) => NoAnswer::Closed,
            _ => NoAnswer::Unreadable(error.to_string()),
        })
    }
}

/// A whole frame, length first, for `request` at `version`.
///
/// # Errors
/// When the codec refuses the request at this version.
pub fn frame_of<R: Request>(client_id: &str, correlation_id: i32, version: i16, request: &R) -> Result<Bytes> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_string(client_id.to_owned())));
    let mut body = BytesMut::new();
    header.encode(&mut body, R::header_version(version))?;
    request.encode(&mut body, codec_version(R::KEY, version))?;
    let mut frame = BytesMut::with_capacity(4 + body.len());
    frame.put_i32(i32::try_from(body.len())?);
    frame.put(body);
    Ok(frame.freeze())
}

fn read_answer<R: Request>(mut frame: Bytes, pending: &Pending<R>) -> Result<R::Response> {
    let header = ResponseHeader::decode(&mut frame, R::Response::header_version(pending.version))?;
    if header.correlation_id != pending.correlation_id {
        bail!("an answer to request {}, not to {}", header.correlation_id, pending.correlation_id);
    }
    // A broker that does not know the version of an ApiVersions request answers at version 0 (KIP-511).
    let version =
        if R::KEY == API_VERSIONS && frame.remaining() == VERSION_0_ERROR_BYTES { 0 } else { pending.version };
    let answer = R::Response::decode(&mut frame, codec_version(R::KEY, version))?;
    if frame.has_remaining() {
        bail!("{} bytes are left over after the answer", frame.remaining());
    }
    Ok(answer)
}

const API_VERSIONS: i16 = 18;
const LIST_OFFSETS: i16 = 2;

/// An error code and one advertised range: what a version 0 answer with `UNSUPPORTED_VERSION` holds.
const VERSION_0_ERROR_BYTES: usize = 2 + 4 + 6;

/// The version whose layout the codec knows for this one.
fn codec_version(api_key: i16, version: i16) -> i16 {
    match (api_key, version) {
        // Version 11 only allows one more special timestamp (KIP-1023); the codec stops at 10.
        (LIST_OFFSETS, 11) => 10,
        _ => version,
    }
}

fn is_closed(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe
    )
}

fn resolve(address: &str) -> Result<SocketAddr> {
    address
        .to_socket_addrs()
        .with_context(|| format!("resolving {address}"))?
        .next()
        .with_context(|| format!("{address} names no address"))
}
