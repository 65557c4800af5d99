//! A connection to a broker without a socket.

use crate::cluster::{Peer, Refused};
use crate::error::Violation;
use crate::output::ConnId;
use crate::server::{Delivery, Shared};
use crate::session::Session;
use crate::state::nodes::{ListenerId, NodeId};
use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc::UnboundedReceiver;

/// So many bytes may wait behind a request that is not answered; then writing waits too, as a socket would.
const BACKLOG_MAX: usize = 1024 * 1024;

/// A byte stream to one broker. What is written is answered within the same poll, so it works under a paused clock and
/// under any runtime; dropping it is a disconnect.
///
/// `AsyncRead` and `AsyncWrite` as a socket's are: two tasks may hold a half each ([`tokio::io::split`]); after a
/// shutdown what was asked before is still answered; where the broker closes, reads end and writes fail with
/// [`io::ErrorKind::ConnectionReset`].
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
    halves: Arc<Halves>,
    /// Of `halves`: what the mailbox wakes.
    waker: Waker,
}

/// Who waits to read and who to write: they may be two tasks, and an answer concerns both.
#[derive(Debug, Default)]
struct Halves {
    reader: Mutex<Option<Waker>>,
    writer: Mutex<Option<Waker>>,
}

impl BrokerStream {
    pub(super) fn connect(shared: &Arc<Shared>, node: NodeId, listener: ListenerId) -> Result<Self, Refused> {
        let peer = Peer { host: "/127.0.0.1".into(), listener, certificate: None };
        let (conn, mailbox, session) = shared.connect(node, peer)?;
        let halves = Arc::new(Halves::default());
        Ok(Self {
            shared: Arc::clone(shared),
            conn,
            session,
            mailbox,
            outgoing: VecDeque::new(),
            in_hand: false,
            shut: false,
            ended: None,
            waker: Waker::from(Arc::clone(&halves)),
            halves,
        })
    }

    /// Passes on what has arrived and takes in what is answered, until either waits for the other.
    fn pump(&mut self) {
        while self.ended.is_none() {
            if !self.in_hand {
                match self.session.next_request() {
                    Ok(Some(request)) => {
                        self.in_hand = true;
                        self.shared.handle(self.conn, request);
                    }
                    Ok(None) => {}
                    Err(violation) => return self.refuse(&violation),
                }
            }
            match self.mailbox.poll_recv(&mut Context::from_waker(&self.waker)) {
                Poll::Pending => break,
                Poll::Ready(Some(Delivery::Answer(response, frame))) => {
                    self.in_hand = false;
                    match self.session.answer(response.as_deref(), frame) {
                        Ok(chunks) => self.outgoing.extend(chunks.into_iter().filter(|chunk| !chunk.is_empty())),
                        Err(violation) => return self.refuse(&violation),
                    }
                }
                Poll::Ready(Some(Delivery::Close(reason))) => self.ended = Some(reason),
                Poll::Ready(None) => self.ended = Some("the cluster forgot this connection".into()),
            }
        }
    }

    /// Closes from the broker's side.
    fn refuse(&mut self, violation: &Violation) {
        tracing::warn!("closed the connection: {violation}");
        self.ended = Some(violation.to_string());
        self.shared.disconnect(self.conn);
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
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        // Before the mailbox is asked, so that an answer that comes meanwhile finds somebody to wake.
        Halves::wait(&self.halves.reader, context);
        self.pump();
        if self.may_write() {
            Halves::wake(&self.halves.writer);
        }
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
        // The buffer may have come with something in it: nothing added is the end.
        if buffer.filled().len() > before || over { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl AsyncWrite for BrokerStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.shut {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, "written after shutdown")));
        }
        Halves::wait(&self.halves.writer, context);
        // Answers may have made room, and a client may write for long before it reads.
        self.pump();
        if let Some(reason) = &self.ended {
            Halves::wake(&self.halves.reader);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, reason.clone())));
        }
        if !self.may_write() {
            return Poll::Pending;
        }
        self.session.receive(bytes);
        self.pump();
        if !self.outgoing.is_empty() || self.ended.is_some() {
            Halves::wake(&self.halves.reader);
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut = true;
        Halves::wake(&self.halves.reader);
        Poll::Ready(Ok(()))
    }
}

impl Drop for BrokerStream {
    fn drop(&mut self) {
        self.shared.disconnect(self.conn);
    }
}

impl Halves {
    fn wait(half: &Mutex<Option<Waker>>, context: &Context<'_>) {
        let mut waiting = half.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *waiting {
            Some(waker) => waker.clone_from(context.waker()),
            None => *waiting = Some(context.waker().clone()),
        }
    }

    fn wake(half: &Mutex<Option<Waker>>) {
        let waiting = half.lock().unwrap_or_else(PoisonError::into_inner).take();
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Wake for Halves {
    fn wake(self: Arc<Self>) {
        Self::wake(&self.reader);
        Self::wake(&self.writer);
    }
}
