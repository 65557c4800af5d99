//! One listening socket a broker and listener, closed while the broker is down.

use super::connection::{self, By, Transport};
use super::shared::Shared;
use crate::state::nodes::{ListenerId, NodeId};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tracing::{debug, error};

/// The listening sockets of a cluster.
#[derive(Debug)]
pub(super) struct Listeners {
    handle: Handle,
    shared: Arc<Shared>,
    transports: Vec<Transport>,
    of: BTreeMap<(NodeId, ListenerId), Listening>,
}

/// A broker's port.
#[derive(Debug)]
struct Listening {
    address: SocketAddr,
    now: Now,
}

#[derive(Debug)]
enum Now {
    /// Connections are accepted by this task; the channel closes when its socket has.
    Accepting { task: AbortHandle, closed: Receiver<()> },
    /// Connections are refused. A socket that does not listen keeps the port from being given to somebody else; without
    /// one, as good as that is, the port is free to take.
    Refusing { _kept: Option<TcpSocket> },
}

/// A listening socket that tells when it is closed.
struct Socket {
    listener: TcpListener,
    // Dropped after the listener.
    _open: Sender<()>,
}

impl Listeners {
    /// No socket yet; `transports` says how the bytes of each listener travel.
    pub(super) fn new(handle: Handle, shared: Arc<Shared>, transports: Vec<Transport>) -> Self {
        Self { handle, shared, transports, of: BTreeMap::new() }
    }

    /// Accepts connections to a broker's listener on this socket.
    pub(super) fn adopt(
        &mut self,
        node: NodeId,
        listener: ListenerId,
        socket: std::net::TcpListener,
    ) -> io::Result<()> {
        let address = socket.local_addr()?;
        socket.set_nonblocking(true)?;
        let _in_runtime = self.handle.enter();
        let (open, closed) = channel();
        let transport = self.transports.get(listener.0).cloned().unwrap_or(Transport::Plain);
        let by = By { listener, transport };
        let socket = Socket { listener: TcpListener::from_std(socket)?, _open: open };
        let task = self.handle.spawn(accept(node, by, socket, Arc::clone(&self.shared))).abort_handle();
        self.of.insert((node, listener), Listening { address, now: Now::Accepting { task, closed } });
        Ok(())
    }

    /// Refuses connections to a broker from now on. Its sockets are closed when this returns, so that no client is
    /// accepted by a broker that is down, and the broker can listen on its ports again at once.
    pub(super) fn close(&mut self, node: NodeId) {
        for (_, listening) in self.of.iter_mut().filter(|((own, _), _)| *own == node) {
            if let Now::Accepting { task, closed } = &listening.now {
                task.abort();
                let _ = closed.recv(); // nothing is ever sent: it ends when the socket is gone
                listening.now = Now::Refusing { _kept: keep(listening.address).ok() };
            }
        }
    }

    /// Accepts connections to a broker again, where it listened before.
    pub(super) fn reopen(&mut self, node: NodeId) {
        let own = self.of.iter().filter(|((own, _), _)| *own == node);
        let own: Vec<_> = own.map(|((_, listener), listening)| (*listener, listening.address)).collect();
        for (listener, address) in own {
            // Lets go of the port that was kept.
            self.of.remove(&(node, listener));
            let adopted = std::net::TcpListener::bind(address).and_then(|socket| self.adopt(node, listener, socket));
            if let Err(reason) = adopted {
                self.of.insert((node, listener), Listening { address, now: Now::Refusing { _kept: None } });
                error!(%node, %address, %reason, "the restarted broker cannot listen where it did; another program took its port");
            }
        }
    }
}

/// Takes a port without listening on it.
fn keep(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn accept(node: NodeId, by: By, socket: Socket, shared: Arc<Shared>) {
    loop {
        match socket.listener.accept().await {
            Ok((stream, peer)) => {
                tokio::spawn(connection::serve(node, by.clone(), stream, peer, Arc::clone(&shared)));
            }
            Err(reason) => {
                // Out of descriptors, or the peer is gone already: either passes when something else moves.
                debug!(%node, %reason, "cannot accept");
                tokio::task::yield_now().await;
            }
        }
    }
}
