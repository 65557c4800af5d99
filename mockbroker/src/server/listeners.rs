//! One listening socket a broker, closed while the broker is down.

use super::connection;
use super::shared::Shared;
use crate::state::nodes::NodeId;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tracing::{debug, error};

/// The listening sockets of a cluster.
#[derive(Debug)]
pub(super) struct Listeners {
    handle: Handle,
    shared: Arc<Shared>,
    of: BTreeMap<NodeId, (SocketAddr, Option<AbortHandle>)>,
}

impl Listeners {
    pub(super) fn new(handle: Handle, shared: Arc<Shared>) -> Self {
        Self { handle, shared, of: BTreeMap::new() }
    }

    /// Accepts connections to a broker on this socket.
    pub(super) fn adopt(&mut self, node: NodeId, socket: std::net::TcpListener) -> io::Result<()> {
        let address = socket.local_addr()?;
        socket.set_nonblocking(true)?;
        let _in_runtime = self.handle.enter();
        let task = self.handle.spawn(accept(node, TcpListener::from_std(socket)?, Arc::clone(&self.shared)));
        self.of.insert(node, (address, Some(task.abort_handle())));
        Ok(())
    }

    /// Refuses connections to a broker from now on.
    pub(super) fn close(&mut self, node: NodeId) {
        if let Some((_, task)) = self.of.get_mut(&node)
            && let Some(task) = task.take()
        {
            task.abort();
        }
    }

    /// Accepts connections to a broker again, where it listened before.
    pub(super) fn reopen(&mut self, node: NodeId) {
        let Some((address, _)) = self.of.get(&node) else { return };
        let address = *address;
        let adopted = std::net::TcpListener::bind(address).and_then(|socket| self.adopt(node, socket));
        if let Err(reason) = adopted {
            error!(%node, %address, %reason, "the restarted broker cannot listen where it did; another program took its port");
        }
    }
}

async fn accept(node: NodeId, listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                tokio::spawn(connection::serve(node, stream, peer, Arc::clone(&shared)));
            }
            Err(reason) => {
                // Out of descriptors, or the peer is gone already: either passes when something else moves.
                debug!(%node, %reason, "cannot accept");
                tokio::task::yield_now().await;
            }
        }
    }
}
