//! A connection to a broker without a socket.

use crate::cluster::Refused;
use crate::output::ConnId;
use crate::server::{Delivery, Shared};
use crate::session::Session;
use crate::state::nodes::NodeId;
use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc::UnboundedReceiver;

/// So many bytes may wait behind a request that is not answered; then writing waits too, as a socket would.
const BACKLOG_MAX: usize = 1024 * 1024;

/// A byte stream to one broker. What is written is answered within the same poll, so it works under a paused clock and
/// under any runtime; dropping it is a disconnect.
#[derive(Debug)]
pub struct BrokerStream {
    shared: Arc<Shared>,
    conn: ConnId,
    session: Session,
    mailbox: UnboundedReceiver<Delivery>,
    outgoing: VecDeque<Bytes>,
    in_hand: bool,
    /// The client writes no more; what it has asked is still answered.
    shut: bool,
    ended: Option<String>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl BrokerStream {
    pub(super) fn connect(shared: &Arc<Shared>, node: NodeId) -> Result<Self, Refused> {
        let (conn, mailbox, frame_bytes_max) = shared.connect(node, "/127.0.0.1".into())?;
        Ok(Self {
            shared: Arc::clone(shared),
            conn,
            session: Session::new(frame_bytes_max),
            mailbox,
            outgoing: VecDeque::new(),
            in_hand: false,
            shut: false,
            ended: None,
            reader: None,
            writer: None,
        })
    }

    /// Passes on what has arrived and takes in what is answered, until either waits for the other.
    fn pump(&mut self, context: &mut Context<'_>) {
        while self.ended.is_none() {
            if !self.in_hand {
                match self.session.next_request() {
                    Ok(Some(request)) => {
                        self.in_hand = true;
                        self.shared.handle(self.conn, request);
                    }
                    Ok(None) => {}
                    Err(violation) => {
                        tracing::warn!("closed the connection: {violation}");
                        self.end(violation.to_string());
                        break;
                    }
                }
            }
            match self.mailbox.poll_recv(context) {
                Poll::Pending => break,
                Poll::Ready(Some(Delivery::Answer(response, frame))) => {
                    self.in_hand = false;
                    match self.session.answer(response.as_deref(), frame) {
                        Ok(chunks) => self.outgoing.extend(chunks.into_iter().filter(|chunk| !chunk.is_empty())),
                        Err(violation) => self.end(violation.to_string()),
                    }
                }
                Poll::Ready(Some(Delivery::Close(reason))) => self.end(reason),
                Poll::Ready(None) => self.end("the cluster forgot this connection".into()),
            }
        }
        // Whoever reads and whoever writes may be two tasks: each wakes the other when there is something for it.
        if !self.outgoing.is_empty() || self.ended.is_some() {
            self.reader.take().into_iter().for_each(Waker::wake);
        }
        if self.may_write() {
            self.writer.take().into_iter().for_each(Waker::wake);
        }
    }

    fn end(&mut self, reason: String) {
        self.ended = Some(reason);
    }

    fn may_write(&self) -> bool {
        self.session.wants_bytes() || self.session.backlog() < BACKLOG_MAX
    }
}

impl AsyncRead for BrokerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.pump(context);
        let before = buffer.filled().len();
        while buffer.remaining() > 0
            && let Some(front) = self.outgoing.front_mut()
        {
            let some = front.len().min(buffer.remaining());
            buffer.put_slice(&front[..some]);
            front.advance(some);
            if front.is_empty() {
                self.outgoing.pop_front();
            }
        }
        let over = self.ended.is_some() || (self.shut && !self.in_hand);
        if buffer.filled().len() > before || buffer.remaining() == 0 || over {
            return Poll::Ready(Ok(()));
        }
        self.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for BrokerStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(reason) = &self.ended {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, reason.clone())));
        }
        if self.shut {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, "written after shutdown")));
        }
        if !self.may_write() {
            self.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        self.session.receive(bytes);
        self.pump(context);
        // The mailbox wakes whoever looked last; that must be the reader if there is one.
        if let Some(reader) = &self.reader {
            let reader = reader.clone();
            self.pump(&mut Context::from_waker(&reader));
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut = true;
        self.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }
}

impl Drop for BrokerStream {
    fn drop(&mut self) {
        self.shared.disconnect(self.conn);
    }
}
