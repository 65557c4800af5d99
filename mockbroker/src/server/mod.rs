//! The TCP driver: moves bytes for a [`Cluster`](crate::cluster::Cluster) and decides nothing.
//!
//! A server lives on a thread and a tokio runtime of its own, so that it goes on while the caller's runtime is blocked,
//! paused, or not there at all. Dropping it closes every socket before `drop` returns.

#![expect(clippy::disallowed_methods, reason = "the driver is the seam to sockets, threads and clocks")]

mod connection;
mod listeners;
mod shared;

pub(crate) use shared::{Clock, Delivery, Shared, Watcher};

use crate::config::{ClusterConfig, ConfigError, NodeConfig};
use crate::control::{Command, CommandError};
use crate::output::Output;
use crate::state::nodes::NodeId;
use crate::view::View;
use listeners::Listeners;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// Where and how to serve a cluster.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The cluster.
    pub cluster: ClusterConfig,
    /// The address to listen on; loopback unless told otherwise.
    pub bind: IpAddr,
    /// Broker `i` (counted from 0) listens on `base_port + i`; 0 takes free ports.
    pub base_port: u16,
    /// The host clients are told instead of the address listened on.
    pub advertise_host: Option<String>,
    /// Broker `i` tells clients `advertise_port + i` instead of the port it listens on.
    pub advertise_port: Option<u16>,
    /// Threads that serve connections; at least 1.
    pub threads: usize,
}

impl ServerConfig {
    /// This cluster on free ports of the loopback interface, served by one thread.
    pub fn new(cluster: ClusterConfig) -> Self {
        Self {
            cluster,
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            base_port: 0,
            advertise_host: None,
            advertise_port: None,
            threads: 1,
        }
    }
}

/// Why a server did not start. Nothing is left listening.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The cluster cannot be made.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A port cannot be had.
    #[error("{node} cannot listen on {address}; choose another port, or 0 for a free one")]
    Listen {
        /// The broker.
        node: NodeId,
        /// The address it wanted.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The ports asked for run past 65535.
    #[error("broker {index} would have port {base} + {index}, which is past 65535; choose a lower base port")]
    PortRange {
        /// The base port.
        base: u16,
        /// Which broker, counted from 0.
        index: usize,
    },
    /// The system gave no thread or no event queue.
    #[error("cannot start the server's thread")]
    Thread(#[source] io::Error),
}

/// A running cluster.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    listeners: Mutex<Listeners>,
    advertised: Vec<(NodeId, String)>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Binds, listens and serves; clients may connect when this returns. Takes well under a millisecond.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(config: ServerConfig) -> Result<Self, StartError> {
        let ServerConfig { mut cluster, bind, base_port, advertise_host, advertise_port, threads } = config;
        let mut bound = Vec::new();
        for (index, node) in cluster.nodes.iter_mut().enumerate() {
            let port = if base_port == 0 { 0 } else { nth_port(base_port, index)? };
            let address = SocketAddr::new(bind, port);
            let refused = |source| StartError::Listen { node: node.id, address: address.to_string(), source };
            let socket = std::net::TcpListener::bind(address).map_err(refused)?;
            let local = socket.local_addr().map_err(refused)?;
            node.host = advertise_host.clone().unwrap_or_else(|| reachable(local.ip()));
            node.port = advertise_port.map_or(Ok(local.port()), |base| nth_port(base, index))?;
            bound.push((node.id, local, socket));
        }
        let advertised = advertised(&cluster.nodes);
        let shared = Arc::new(Shared::new(&cluster, Clock::wall())?);
        let runtime = runtime(threads).map_err(StartError::Thread)?;
        let mut listeners = Listeners::new(runtime.handle().clone(), Arc::clone(&shared));
        for (node, address, socket) in bound {
            let refused = |source| StartError::Listen { node, address: address.to_string(), source };
            listeners.adopt(node, socket).map_err(refused)?;
        }
        let (stop, stopped) = oneshot::channel();
        let keeper = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("mockbroker".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    biased;
                    _ = stopped => {}
                    () = keeper.keep_time() => {}
                }
            });
        });
        let thread = thread.map_err(StartError::Thread)?;
        Ok(Self { shared, listeners: Mutex::new(listeners), advertised, stop: Some(stop), thread: Some(thread) })
    }

    /// What a client's `bootstrap.servers` wants: every broker's address, comma-separated.
    pub fn bootstrap_servers(&self) -> String {
        bootstrap_servers(&self.advertised)
    }

    /// Every broker with the address clients are told.
    pub fn advertised(&self) -> &[(NodeId, String)] {
        &self.advertised
    }

    /// Changes the cluster; what follows for connections and listeners has happened when this returns.
    ///
    /// # Errors
    /// The command is impossible; nothing has changed.
    pub fn control(&self, command: Command) -> Result<(), CommandError> {
        // Taken first, so that of two commands given at once the sockets follow the one that came last.
        let mut listeners = self.listeners();
        listen_as_told(&mut listeners, self.shared.control(command)?);
        Ok(())
    }

    /// Empties the cluster; see [`Cluster::reset`](crate::cluster::Cluster::reset).
    ///
    /// # Errors
    /// As when it was started.
    pub fn reset(&self) -> Result<(), ConfigError> {
        let mut listeners = self.listeners();
        listen_as_told(&mut listeners, self.shared.reset()?);
        Ok(())
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the cluster looks like now.
    pub fn view(&self) -> View {
        self.shared.with(|cluster| cluster.view())
    }

    /// A partition's batches as they are stored; `None` when there is no such partition.
    pub fn stored_batches(&self, topic: &str, partition: i32) -> Option<Vec<bytes::Bytes>> {
        self.shared.with(|cluster| cluster.stored_batches(topic, partition))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The thread only ever waits for the sender just dropped, so this takes microseconds.
            let _ = thread.join();
        }
    }
}

fn listen_as_told(listeners: &mut Listeners, outputs: Vec<Output>) {
    for output in outputs {
        match output {
            Output::StopListening(node) => listeners.close(node),
            Output::Listen(node) => listeners.reopen(node),
            Output::Reply { .. } | Output::Close { .. } => unreachable!("the shared state delivers these itself"),
        }
    }
}

/// The address clients are told of each broker.
pub(crate) fn advertised(nodes: &[NodeConfig]) -> Vec<(NodeId, String)> {
    nodes.iter().map(|node| (node.id, format!("{}:{}", node.host, node.port))).collect()
}

/// What a client's `bootstrap.servers` wants.
pub(crate) fn bootstrap_servers(advertised: &[(NodeId, String)]) -> String {
    let addresses: Vec<_> = advertised.iter().map(|(_, address)| address.as_str()).collect();
    addresses.join(",")
}

fn nth_port(base: u16, index: usize) -> Result<u16, StartError> {
    u16::try_from(index).ok().and_then(|index| base.checked_add(index)).ok_or(StartError::PortRange { base, index })
}

/// An address a client on this machine can connect to.
fn reachable(listening: IpAddr) -> String {
    if listening.is_unspecified() { Ipv4Addr::LOCALHOST.to_string() } else { listening.to_string() }
}

fn runtime(threads: usize) -> io::Result<tokio::runtime::Runtime> {
    let mut builder = if threads <= 1 {
        tokio::runtime::Builder::new_current_thread()
    } else {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(threads).thread_name("mockbroker-worker");
        builder
    };
    builder.enable_io().enable_time().build()
}
