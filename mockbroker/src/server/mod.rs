//! The TCP driver: moves bytes for a [`Cluster`](crate::cluster::Cluster) and decides nothing.
//!
//! A server lives on a thread and a tokio runtime of its own, so that it goes on while the caller's runtime is blocked,
//! paused, or not there at all. Dropping it closes every socket before `drop` returns.

#![expect(clippy::disallowed_methods, reason = "the driver is the seam to sockets, threads and clocks")]

mod connection;
mod listeners;
mod shared;
#[cfg(feature = "tls")]
mod tls;

pub(crate) use shared::{Clock, Delivery, Shared, Watcher};
#[cfg(feature = "tls")]
pub use tls::{ClientAuth, TlsConfig, TlsError};

use crate::config::{ClusterConfig, ConfigError};
use crate::control::{Command, CommandError};
use crate::output::Output;
use crate::state::nodes::{Endpoint, ListenerId, NodeId};
use crate::view::View;
use connection::Transport;
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
    /// Where the listeners after the first are; those left out take free ports of `bind`.
    pub other_listeners: Vec<ListenAt>,
    /// What the brokers show to clients of listeners that encrypt.
    #[cfg(feature = "tls")]
    pub tls: Option<TlsConfig>,
    /// Threads that serve connections; at least 1.
    pub threads: usize,
}

/// Where a listener is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAt {
    /// The address to listen on.
    pub bind: IpAddr,
    /// Broker `i` (counted from 0) listens on `base_port + i`; 0 takes free ports.
    pub base_port: u16,
    /// Broker `i` tells clients `advertise_port + i` instead of the port it listens on.
    pub advertise_port: Option<u16>,
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
            other_listeners: Vec::new(),
            #[cfg(feature = "tls")]
            tls: None,
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
    /// A listener encrypts, and there is no certificate to do it with. A cluster in memory never encrypts.
    #[error("listener {listener} encrypts, which takes a certificate, its key, and a port")]
    NoCertificate {
        /// The listener's name.
        listener: String,
    },
    /// The certificates cannot be used.
    #[cfg(feature = "tls")]
    #[error("offering TLS")]
    Tls(#[from] TlsError),
    /// The system gave no thread or no event queue.
    #[error("cannot start the server's thread")]
    Thread(#[source] io::Error),
}

/// A running cluster.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    listeners: Mutex<Listeners>,
    advertised: Advertised,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Binds, listens and serves; clients may connect when this returns. Takes well under a millisecond.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(config: ServerConfig) -> Result<Self, StartError> {
        let threads = config.threads;
        let transports = transports(&config)?;
        let (cluster, bound) = bind_all(config)?;
        let advertised = Advertised::of(&cluster);
        let shared = Arc::new(Shared::new(&cluster, Clock::wall())?);
        let runtime = runtime(threads).map_err(StartError::Thread)?;
        let mut listeners = Listeners::new(runtime.handle().clone(), Arc::clone(&shared), transports);
        for Bound { node, listener, address, socket } in bound {
            let refused = |source| StartError::Listen { node, address: address.to_string(), source };
            listeners.adopt(node, listener, socket).map_err(refused)?;
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

    /// What a client's `bootstrap.servers` wants: every broker's address, comma-separated. Of the first listener.
    pub fn bootstrap_servers(&self) -> String {
        self.advertised.bootstrap_servers(ListenerId::default())
    }

    /// Every broker with the address clients of the first listener are told.
    pub fn advertised(&self) -> &[(NodeId, String)] {
        self.advertised.first()
    }

    pub(crate) fn all_advertised(&self) -> &Advertised {
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

/// How each listener's bytes travel.
fn transports(config: &ServerConfig) -> Result<Vec<Transport>, StartError> {
    let listeners = &config.cluster.listeners;
    let encrypted = listeners.iter().find(|listener| listener.protocol.uses_tls());
    #[cfg(feature = "tls")]
    if let Some(tls) = &config.tls {
        let acceptors = tls::Acceptors::new(tls)?;
        return Ok(listeners.iter().map(|listener| Transport::of(listener.protocol, &acceptors)).collect());
    }
    match encrypted {
        Some(listener) => Err(StartError::NoCertificate { listener: listener.name.clone() }),
        None => Ok(vec![Transport::Plain; listeners.len()]),
    }
}

/// A socket that is bound and not served yet.
struct Bound {
    node: NodeId,
    listener: ListenerId,
    address: SocketAddr,
    socket: std::net::TcpListener,
}

/// Binds every broker's listeners; returns the cluster with the addresses clients are told.
fn bind_all(config: ServerConfig) -> Result<(ClusterConfig, Vec<Bound>), StartError> {
    let ServerConfig { mut cluster, bind, base_port, advertise_host, advertise_port, other_listeners, .. } = config;
    let free = ListenAt { bind, base_port: 0, advertise_port: None };
    let places = std::iter::once(ListenAt { bind, base_port, advertise_port }).chain(other_listeners);
    let places: Vec<_> = places.chain(std::iter::repeat(free)).take(cluster.listeners.len()).collect();
    let mut bound = Vec::new();
    for (index, node) in cluster.nodes.iter_mut().enumerate() {
        for (listener, (place, told)) in places.iter().zip(&mut cluster.listeners).enumerate() {
            let port = if place.base_port == 0 { 0 } else { nth_port(place.base_port, index)? };
            let address = SocketAddr::new(place.bind, port);
            let refused = |source| StartError::Listen { node: node.id, address: address.to_string(), source };
            let socket = std::net::TcpListener::bind(address).map_err(refused)?;
            let local = socket.local_addr().map_err(refused)?;
            let host = advertise_host.clone().unwrap_or_else(|| reachable(local.ip()));
            let port = place.advertise_port.map_or(Ok(local.port()), |base| nth_port(base, index))?;
            if listener == 0 {
                (node.host, node.port) = (host.clone(), port);
            }
            told.endpoints.insert(node.id, Endpoint { host, port });
            bound.push(Bound { node: node.id, listener: ListenerId(listener), address: local, socket });
        }
    }
    Ok((cluster, bound))
}

/// The addresses clients are told, by listener and broker.
#[derive(Debug, Clone)]
pub(crate) struct Advertised {
    names: Vec<String>,
    by_listener: Vec<Vec<(NodeId, String)>>,
}

impl Advertised {
    pub(crate) fn of(cluster: &ClusterConfig) -> Self {
        let of_listener = |listener| {
            let nodes = cluster.nodes.iter();
            let addresses = nodes.map(|node| {
                let Endpoint { host, port } = cluster.address(node, ListenerId(listener));
                (node.id, format!("{host}:{port}"))
            });
            addresses.collect()
        };
        Self {
            names: cluster.listeners.iter().map(|listener| listener.name.clone()).collect(),
            by_listener: (0..cluster.listeners.len()).map(of_listener).collect(),
        }
    }

    /// The first listener's.
    pub(crate) fn first(&self) -> &[(NodeId, String)] {
        self.by_listener.first().map_or(&[], Vec::as_slice)
    }

    /// The listener of this name.
    pub(crate) fn named(&self, name: &str) -> Option<ListenerId> {
        self.names.iter().position(|own| own == name).map(ListenerId)
    }

    /// The broker and listener that have this address.
    pub(crate) fn at(&self, address: &str) -> Option<(NodeId, ListenerId)> {
        self.by_listener.iter().enumerate().find_map(|(listener, brokers)| {
            let (node, _) = brokers.iter().find(|(_, own)| own == address)?;
            Some((*node, ListenerId(listener)))
        })
    }

    /// What a client's `bootstrap.servers` wants.
    pub(crate) fn bootstrap_servers(&self, listener: ListenerId) -> String {
        let brokers = self.by_listener.get(listener.0).into_iter().flatten();
        brokers.map(|(_, address)| address.as_str()).collect::<Vec<_>>().join(",")
    }
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
