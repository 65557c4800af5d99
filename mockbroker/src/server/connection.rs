//! One connection: reads, passes requests on, writes answers.

use super::shared::{Delivery, Shared};
#[cfg(feature = "tls")]
use super::tls::Acceptors;
use crate::cluster::Peer;
#[cfg(feature = "tls")]
use crate::config::SecurityProtocol;
use crate::error::Violation;
use crate::output::Frame;
use crate::session::{Incoming, Session};
use crate::state::nodes::{ListenerId, NodeId};
use crate::wire::Response;
use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tracing::{debug, warn};

/// Why a connection ended.
enum Ended {
    /// The client went away.
    Gone,
    /// The client sent what no conforming client sends.
    Hostile(Violation),
    /// The cluster closed it.
    Closed(String),
    /// The network failed.
    Broken(io::Error),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl From<Violation> for Ended {
    fn from(violation: Violation) -> Self {
        Self::Hostile(violation)
    }
}

/// How a listener's bytes travel.
#[derive(Clone)]
pub(super) enum Transport {
    /// As they are.
    Plain,
    /// Encrypted.
    #[cfg(feature = "tls")]
    Tls(tokio_rustls::TlsAcceptor),
}

impl Transport {
    /// What this protocol asks for.
    #[cfg(feature = "tls")]
    pub(super) fn of(protocol: SecurityProtocol, acceptors: &Acceptors) -> Self {
        match protocol {
            SecurityProtocol::Plaintext | SecurityProtocol::SaslPlaintext => Self::Plain,
            SecurityProtocol::Ssl => Self::Tls(acceptors.certified.clone()),
            SecurityProtocol::SaslSsl => Self::Tls(acceptors.uncertified.clone()),
        }
    }
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain => "Plain",
            #[cfg(feature = "tls")]
            Self::Tls(_) => "Tls",
        })
    }
}

/// By which listener somebody comes, and how.
#[derive(Debug, Clone)]
pub(super) struct By {
    pub(super) listener: ListenerId,
    pub(super) transport: Transport,
}

/// Serves a connection to a broker until it ends.
pub(super) async fn serve(node: NodeId, by: By, mut stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true); // best effort: without it answers are only slower
    #[cfg_attr(not(feature = "tls"), expect(unused_mut, reason = "without TLS nobody shows a certificate"))]
    let mut peer = Peer { host: format!("/{}", peer.ip()), listener: by.listener, certificate: None };
    if !shared.admits(node, &peer.host).await {
        return debug!(
            host = peer.host, %node,
            "closed: the address has all the connections it may have (max.connections.per.ip)"
        );
    }
    match by.transport {
        Transport::Plain => {
            let (reader, writer) = stream.split();
            converse(node, peer, (reader, writer), &shared).await;
        }
        #[cfg(feature = "tls")]
        Transport::Tls(acceptor) => match acceptor.accept(stream).await {
            Ok(stream) => {
                let (_, tls) = stream.get_ref();
                peer.certificate = tls.peer_certificates().and_then(|chain| super::tls::subject(chain.first()?));
                let mut writer = converse(node, peer, tokio::io::split(stream), &shared).await;
                if let Some(writer) = &mut writer {
                    let _ = writer.shutdown().await; // says goodbye, if anybody still listens
                }
            }
            Err(error) => debug!(host = peer.host, %node, %error, "no TLS came about"),
        },
    }
}

/// Returns the writing half when the conversation is over; `None` when it never began.
async fn converse<R, W>(node: NodeId, peer: Peer, (reader, writer): (R, W), shared: &Shared) -> Option<W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let host = peer.host.clone();
    let (conn, mailbox, session) = shared.connect(node, peer).ok()?;
    let mut conversation = Conversation { session, reader, writer, mailbox };
    match conversation.run(|request| shared.handle(conn, request)).await {
        Ended::Gone => debug!(%host, %node, "the client disconnected"),
        Ended::Closed(reason) => debug!(%host, %node, %reason, "closed"),
        Ended::Broken(error) => debug!(%host, %node, %error, "the connection broke"),
        Ended::Hostile(violation) => warn!(%host, %node, "closed the connection: {violation}"),
    }
    shared.disconnect(conn);
    Some(conversation.writer)
}

struct Conversation<R, W> {
    session: Session,
    reader: R,
    writer: W,
    mailbox: UnboundedReceiver<Delivery>,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Conversation<R, W> {
    async fn run(&mut self, handle: impl Fn(Incoming)) -> Ended {
        loop {
            if let Err(ended) = self.turn(&handle).await {
                return ended;
            }
        }
    }

    /// Answers every whole request there is, then reads more.
    async fn turn(&mut self, handle: &impl Fn(Incoming)) -> Result<(), Ended> {
        while let Some(request) = self.session.next_request()? {
            handle(request);
            let (response, frame) = self.answer().await?;
            let chunks = self.session.answer(response.as_deref(), frame)?;
            if !chunks.is_empty() {
                self.writer.write_all_buf(&mut Chunks::from(chunks)).await?;
            }
        }
        tokio::select! {
            biased;
            delivery = self.mailbox.recv() => Err(closed(delivery)),
            read = read(&mut self.reader, &mut self.session) => at_least_one(read),
        }
    }

    /// Waits for the answer to the request in hand, and notices when the client goes away meanwhile.
    async fn answer(&mut self) -> Result<(Option<Box<Response>>, Frame), Ended> {
        loop {
            let wants_bytes = self.session.wants_bytes();
            tokio::select! {
                biased;
                delivery = self.mailbox.recv() => match delivery {
                    Some(Delivery::Answer(response, frame)) => return Ok((response, frame)),
                    other => return Err(closed(other)),
                },
                read = read(&mut self.reader, &mut self.session), if wants_bytes => at_least_one(read)?,
            }
        }
    }
}

async fn read(reader: &mut (impl AsyncRead + Unpin), session: &mut Session) -> io::Result<usize> {
    reader.read_buf(&mut session.read_buffer()).await
}

fn closed(delivery: Option<Delivery>) -> Ended {
    match delivery {
        Some(Delivery::Close(reason)) => Ended::Closed(reason),
        Some(Delivery::Answer(..)) => Ended::Hostile(Violation::new("an answer came without a request")),
        None => Ended::Closed("the cluster forgot this connection".into()),
    }
}

fn at_least_one(read: io::Result<usize>) -> Result<(), Ended> {
    if read? == 0 { Err(Ended::Gone) } else { Ok(()) }
}

/// An answer in pieces, written with one system call where the system can.
struct Chunks {
    chunks: VecDeque<Bytes>,
    remaining: usize,
}

impl From<Vec<Bytes>> for Chunks {
    fn from(chunks: Vec<Bytes>) -> Self {
        let chunks: VecDeque<_> = chunks.into_iter().filter(|chunk| !chunk.is_empty()).collect();
        let remaining = chunks.iter().map(Bytes::len).sum();
        Self { chunks, remaining }
    }
}

impl Buf for Chunks {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| chunk)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.iter_mut().zip(&self.chunks).map(|(slice, chunk)| *slice = IoSlice::new(chunk));
        filled.count()
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.remaining, "advanced past the end of an answer");
        self.remaining -= count;
        while let Some(front) = self.chunks.front_mut() {
            if count < front.len() {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.chunks.pop_front();
        }
    }
}
