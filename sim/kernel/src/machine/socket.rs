//! Stream sockets as programs see them: connect, accept, half-close, reset, back-pressure, pending errors.
//!
//! What readiness means and which error comes when follows Linux's `tcp_poll`, `tcp_recvmsg` and `tcp_sendmsg`.

use super::net::{Body, Listener};
use super::node::Node;
use super::object::{Kind, ObjectId, Patience, Sink, ready};
use super::pipe::{copy, drain};
use super::service::{Notice, ServiceId};
use super::trace::hash_bytes;
use super::{Errno, Kernel, Mark, Moment, Step, Stop, ThreadId};
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

/// What may be sent before the other end has read it: the socket buffers of both.
const WINDOW: usize = 256 * 1024;
/// `somaxconn`.
const BACKLOG_MAX: usize = 4_096;

const ACCEPT: Mark = Mark::new("accept");
const CONNECT: Mark = Mark::new("connect");
const RECEIVE: Mark = Mark::new("receive");
const SEND: Mark = Mark::new("send");
const SENT: Mark = Mark::new("sent");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Neither connected nor listening.
    Fresh,
    Listening,
    Connecting,
    Connected,
    /// The connection failed or was reset.
    Dead,
}

#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) state: State,
    pub(crate) local: Option<SocketAddrV4>,
    pub(crate) peer: Option<SocketAddrV4>,
    /// The other end.
    pub(crate) other: Option<ObjectId>,
    /// A pair within one node (`AF_UNIX`): what is sent is there at once.
    paired: bool,
    accepted: VecDeque<ObjectId>,
    backlog: usize,
    received: VecDeque<u8>,
    /// The other end sends no more.
    fin_received: bool,
    /// This end sends no more.
    fin_sent: bool,
    /// This end wants to read no more.
    reads_shut: bool,
    /// What `SO_ERROR` or the next call reports.
    error: Option<Errno>,
    /// Sent, and not read by the other end.
    unread: usize,
    /// When what was sent last arrives.
    last_arrival: Option<Moment>,
    /// Options as they were set, and read back.
    options: BTreeMap<(i32, i32), i32>,
    receive_timeout: Option<Duration>,
    send_timeout: Option<Duration>,
    /// Closing it resets the connection (`SO_LINGER` with no time).
    resets_on_close: bool,
    /// The service this end belongs to, and what that has not been able to send.
    service: Option<ServiceId>,
    unsent: VecDeque<u8>,
    closes_when_sent: bool,
}

/// What `setsockopt` can change that matters here.
#[derive(Debug, Clone, Copy)]
pub enum SocketOption {
    /// How long a read blocks; for ever when `None`.
    ReceiveTimeout(Option<Duration>),
    /// How long a write blocks; for ever when `None`.
    SendTimeout(Option<Duration>),
    /// Whether closing resets.
    ResetOnClose(bool),
    /// Remembered, without effect: level, name, value.
    Other(i32, i32, i32),
}

/// Which half of a connection to shut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// Read no more.
    Read,
    /// Send no more.
    Write,
    /// Neither.
    Both,
}

impl Socket {
    fn new(state: State) -> Self {
        Self {
            state,
            local: None,
            peer: None,
            other: None,
            paired: false,
            accepted: VecDeque::new(),
            backlog: 0,
            received: VecDeque::new(),
            fin_received: false,
            fin_sent: false,
            reads_shut: false,
            error: None,
            unread: 0,
            last_arrival: None,
            options: BTreeMap::new(),
            receive_timeout: None,
            send_timeout: None,
            resets_on_close: false,
            service: None,
            unsent: VecDeque::new(),
            closes_when_sent: false,
        }
    }

    pub(crate) fn readiness(&self) -> u32 {
        let error = if self.error.is_some() { ready::ERR } else { 0 };
        error
            | match self.state {
                State::Fresh => ready::WRITABLE | ready::HUP,
                State::Listening if self.accepted.is_empty() => 0,
                State::Listening => ready::READABLE,
                State::Connecting => 0,
                State::Dead => ready::READABLE | ready::WRITABLE | ready::RDHUP | ready::HUP,
                State::Connected => self.connected_readiness(),
            }
    }

    fn connected_readiness(&self) -> u32 {
        let no_more = self.fin_received || self.reads_shut;
        let mut readiness = 0;
        if no_more || !self.received.is_empty() {
            readiness |= ready::READABLE;
        }
        if no_more {
            readiness |= ready::RDHUP;
        }
        // Linux calls a socket writable again when a third of its buffer is free.
        if self.fin_sent || self.unread <= WINDOW / 3 * 2 {
            readiness |= ready::WRITABLE;
        }
        if no_more && self.fin_sent {
            readiness |= ready::HUP;
        }
        readiness
    }
}

impl Kernel {
    /// A new TCP socket.
    pub fn tcp_socket(&mut self, node: Node, nonblocking: bool) -> ObjectId {
        self.create(node, Kind::Socket(Box::new(Socket::new(State::Fresh))), nonblocking)
    }

    /// Two connected sockets of one node.
    pub fn socket_pair(&mut self, node: Node, nonblocking: bool) -> (ObjectId, ObjectId) {
        let pair = [0, 1].map(|_| {
            let mut socket = Socket::new(State::Connected);
            socket.paired = true;
            self.create(node, Kind::Socket(Box::new(socket)), nonblocking)
        });
        for (one, other) in [(pair[0], pair[1]), (pair[1], pair[0])] {
            if let Some(socket) = self.socket(one) {
                socket.other = Some(other);
            }
        }
        (pair[0], pair[1])
    }

    pub(crate) fn socket(&mut self, object: ObjectId) -> Option<&mut Socket> {
        match &mut self.objects[object.index()].kind {
            Kind::Socket(socket) => Some(socket),
            _ => None,
        }
    }

    fn try_socket(&mut self, object: ObjectId) -> Result<&mut Socket, Errno> {
        self.socket(object).ok_or(Errno::NOTSOCK)
    }

    fn node_of_object(&self, object: ObjectId) -> Node {
        self.objects[object.index()].node
    }

    /// Gives a socket its address. Port 0 takes a free one.
    pub fn bind(&mut self, object: ObjectId, address: SocketAddrV4) -> Result<(), Errno> {
        let node = self.node_of_object(object);
        let ip = *address.ip();
        if !ip.is_unspecified() && !ip.is_loopback() && ip != node.ip() {
            return Err(Errno::ADDRNOTAVAIL);
        }
        if self.try_socket(object)?.local.is_some() {
            return Err(Errno::INVAL);
        }
        let port = match address.port() {
            0 => self.free_port(node),
            taken if self.listeners.contains_key(&(node, taken)) => return Err(Errno::ADDRINUSE),
            port => port,
        };
        self.try_socket(object)?.local = Some(SocketAddrV4::new(ip, port));
        Ok(())
    }

    fn free_port(&mut self, node: Node) -> u16 {
        loop {
            let port = self.nodes[node.index()].next_port();
            if !self.listeners.contains_key(&(node, port)) {
                return port;
            }
        }
    }

    /// Begins to accept connections, as many as `backlog` unasked.
    pub fn listen(&mut self, object: ObjectId, backlog: i32) -> Result<(), Errno> {
        let node = self.node_of_object(object);
        let backlog = usize::try_from(backlog).unwrap_or(BACKLOG_MAX).min(BACKLOG_MAX);
        let socket = self.try_socket(object)?;
        match socket.state {
            State::Listening => socket.backlog = backlog,
            State::Fresh => {
                if socket.local.is_none() {
                    self.bind(object, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))?;
                }
                let port = self.try_socket(object)?.local.map_or(0, |local| local.port());
                if self.listeners.contains_key(&(node, port)) {
                    return Err(Errno::ADDRINUSE);
                }
                self.listeners.insert((node, port), Listener::Socket(object));
                let socket = self.try_socket(object)?;
                (socket.state, socket.backlog) = (State::Listening, backlog);
            }
            _ => return Err(Errno::INVAL),
        }
        Ok(())
    }

    /// Whether a listening socket's address is the one a client asked for.
    pub(crate) fn listens_at(&mut self, listening: ObjectId, asked: SocketAddrV4) -> bool {
        let node = self.node_of_object(listening);
        let Some(local) = self.socket(listening).and_then(|socket| socket.local) else { return false };
        let to_self = asked.ip().is_unspecified() && (local.ip().is_loopback() || *local.ip() == node.ip());
        local.ip().is_unspecified() || local.ip() == asked.ip() || to_self
    }

    pub(crate) fn backlog_is_full(&mut self, listening: ObjectId) -> bool {
        self.socket(listening).is_some_and(|socket| socket.accepted.len() > socket.backlog)
    }

    /// Begins to connect. [`Kernel::connected`] tells how it went.
    pub fn connect(&mut self, object: ObjectId, address: SocketAddrV4) -> Result<(), Errno> {
        let node = self.node_of_object(object);
        let socket = self.try_socket(object)?;
        match socket.state {
            State::Fresh => {}
            State::Connecting => return Err(Errno::ALREADY),
            State::Dead => return Err(socket.error.take().unwrap_or(Errno::CONNABORTED)),
            State::Connected | State::Listening => return Err(Errno::ISCONN),
        }
        let to = self.node_at(*address.ip(), node).ok_or(Errno::NETUNREACH)?;
        if self.try_socket(object)?.local.is_none() {
            let own = if address.ip().is_loopback() { Ipv4Addr::LOCALHOST } else { node.ip() };
            let port = self.free_port(node);
            self.try_socket(object)?.local = Some(SocketAddrV4::new(own, port));
        }
        let socket = self.try_socket(object)?;
        (socket.state, socket.peer) = (State::Connecting, Some(address));
        self.post(node, to, None, Body::Syn { client: object, address, attempt: 0 });
        Ok(())
    }

    /// Waits until the connection begun is there or has failed.
    pub fn connected(&mut self, thread: ThreadId, object: ObjectId) -> Step<()> {
        let socket = self.try_socket(object)?;
        match socket.state {
            State::Connected => Ok(()),
            State::Connecting => {
                self.wait_on_objects(thread, CONNECT, [object], None);
                Err(Stop::Block)
            }
            _ => Err(socket.error.take().unwrap_or(Errno::CONNABORTED).into()),
        }
    }

    pub(crate) fn accept_syn(
        &mut self,
        node: Node,
        client: ObjectId,
        asked: SocketAddrV4,
        peer: SocketAddrV4,
    ) -> ObjectId {
        let own = if asked.ip().is_unspecified() { node.ip() } else { *asked.ip() };
        let mut socket = Socket::new(State::Connected);
        socket.local = Some(SocketAddrV4::new(own, asked.port()));
        socket.peer = Some(peer);
        socket.other = Some(client);
        let server = self.create(node, Kind::Socket(Box::new(socket)), false);
        let client_node = self.node_of_object(client);
        let arrival = self.post(node, client_node, None, Body::SynAck { client, server });
        if let Some(socket) = self.socket(server) {
            socket.last_arrival = Some(arrival);
        }
        server
    }

    pub(crate) fn queue_accepted(&mut self, listening: ObjectId, server: ObjectId) {
        if let Some(socket) = self.socket(listening) {
            socket.accepted.push_back(server);
        }
        self.changed(listening);
    }

    /// The next connection. Blocks while there is none, unless told otherwise.
    pub fn accept(&mut self, thread: ThreadId, object: ObjectId) -> Step<ObjectId> {
        let socket = self.try_socket(object)?;
        if socket.state != State::Listening {
            return Err(Errno::INVAL.into());
        }
        if let Some(accepted) = socket.accepted.pop_front() {
            return Ok(accepted);
        }
        match self.wait_for(thread, ACCEPT, object, Patience::default())? {}
    }

    pub(crate) fn arrived_syn_ack(&mut self, client: ObjectId, server: ObjectId) {
        match self.socket(client) {
            Some(socket) if socket.state == State::Connecting => {
                (socket.state, socket.other) = (State::Connected, Some(server));
                self.changed(client);
            }
            _ => self.post_rst(client, server),
        }
    }

    pub(crate) fn connect_failed(&mut self, client: ObjectId, why: Errno) {
        if let Some(socket) = self.socket(client)
            && socket.state == State::Connecting
        {
            (socket.state, socket.error) = (State::Dead, Some(why));
            self.changed(client);
        }
    }

    pub(crate) fn arrived_data(&mut self, object: ObjectId, bytes: &[u8]) {
        let Some(socket) = self.socket(object) else {
            // Closed with bytes still coming: the sender learns that nobody reads them.
            let other = self.last_other.get(&object).copied();
            if let Some(other) = other {
                self.post_rst(object, other);
            }
            return;
        };
        if socket.state == State::Connected {
            socket.received.extend(bytes);
            self.readable(object);
        }
    }

    pub(crate) fn arrived_credit(&mut self, object: ObjectId, bytes: usize) {
        let Some(socket) = self.socket(object) else { return };
        socket.unread = socket.unread.saturating_sub(bytes);
        if socket.service.is_some() {
            self.send_unsent(object);
        } else {
            self.changed(object);
        }
    }

    pub(crate) fn arrived_fin(&mut self, object: ObjectId) {
        if let Some(socket) = self.socket(object) {
            socket.fin_received = true;
            self.readable(object);
        }
    }

    pub(crate) fn arrived_rst(&mut self, object: ObjectId) {
        let Some(socket) = self.socket(object) else { return };
        if matches!(socket.state, State::Connected | State::Connecting) {
            // What arrived before can still be read. After the other end's FIN, Linux says EPIPE.
            socket.error = Some(if socket.fin_received { Errno::PIPE } else { Errno::CONNRESET });
            socket.state = State::Dead;
            self.readable(object);
        }
    }

    /// Threads or the service at this end look again.
    fn readable(&mut self, object: ObjectId) {
        match self.socket(object).and_then(|socket| socket.service) {
            Some(service) => self.notify_service(service, Notice::Readable(object)),
            None => self.changed(object),
        }
    }

    fn post_rst(&mut self, from: ObjectId, to: ObjectId) {
        let (from, to_node) = (self.node_of_object(from), self.node_of_object(to));
        self.post(from, to_node, None, Body::Rst { to });
    }

    pub(crate) fn receive(
        &mut self,
        thread: ThreadId,
        object: ObjectId,
        into: &mut dyn Sink,
        how: Patience,
    ) -> Step<usize> {
        let socket = self.try_socket(object)?;
        if !socket.received.is_empty() {
            if how.peek {
                return Ok(copy(&socket.received, into));
            }
            let given = drain(&mut socket.received, into);
            self.give_credit(object, given);
            return Ok(given);
        }
        if let (State::Dead, Some(error)) = (socket.state, socket.error.take()) {
            return Err(error.into());
        }
        let ended = socket.fin_received || socket.reads_shut || socket.state == State::Dead;
        if ended || (into.room() == 0 && socket.state == State::Connected) {
            return Ok(0);
        }
        if matches!(socket.state, State::Fresh | State::Listening) {
            return Err(Errno::NOTCONN.into());
        }
        match self.wait_for(thread, RECEIVE, object, how)? {}
    }

    /// Tells the other end that so much was read. That takes no time, but not if the way back is cut.
    fn give_credit(&mut self, object: ObjectId, bytes: usize) {
        let Some(other) = self.socket(object).and_then(|socket| socket.other) else { return };
        let (from, to) = (self.node_of_object(object), self.node_of_object(other));
        if self.is_cut(from, to) {
            self.post(from, to, None, Body::Credit { to: other, bytes });
        } else {
            self.arrived_credit(other, bytes);
        }
    }

    pub(crate) fn send(&mut self, thread: ThreadId, object: ObjectId, bytes: &[u8], how: Patience) -> Step<usize> {
        let socket = self.try_socket(object)?;
        match socket.state {
            State::Dead => return Err(socket.error.take().unwrap_or(Errno::PIPE).into()),
            State::Fresh | State::Listening => return Err(Errno::PIPE.into()),
            State::Connected if socket.fin_sent => return Err(Errno::PIPE.into()),
            State::Connected if bytes.is_empty() => return Ok(0),
            State::Connected if socket.unread < WINDOW => return Ok(self.transmit(object, bytes)),
            State::Connected | State::Connecting => {}
        }
        match self.wait_for(thread, SEND, object, how)? {}
    }

    /// Sends as much as the window allows.
    fn transmit(&mut self, object: ObjectId, bytes: &[u8]) -> usize {
        let now = self.now;
        let Some(socket) = self.socket(object) else { return 0 };
        let Some(other) = socket.other else { return 0 };
        let sent = bytes.len().min(WINDOW.saturating_sub(socket.unread));
        socket.unread += sent;
        let (paired, mut arrival) = (socket.paired, socket.last_arrival);
        self.trace.step(now, None, SENT, object.number(), hash_bytes(&bytes[..sent]));
        if paired {
            self.arrived_data(other, &bytes[..sent]);
            return sent;
        }
        let (from, to) = (self.node_of_object(object), self.node_of_object(other));
        let mut rest = &bytes[..sent];
        while !rest.is_empty() {
            let (first, more) = rest.split_at(self.segment(rest.len()));
            arrival = Some(self.post(from, to, arrival, Body::Data { to: other, bytes: first.to_vec() }));
            rest = more;
        }
        if let Some(socket) = self.socket(object) {
            socket.last_arrival = arrival;
        }
        sent
    }

    /// How many of `length` bytes arrive at once. Pieces are made here, not by short reads: to an edge-triggered
    /// reader a short read means that there is no more.
    fn segment(&mut self, length: usize) -> usize {
        if length > 1 && self.random.network.chance(self.config.split) {
            1 + self.random.network.below(length as u64 - 1) as usize
        } else {
            length
        }
    }

    /// Shuts one half of a connection, or both.
    pub fn shutdown(&mut self, object: ObjectId, half: Half) -> Result<(), Errno> {
        let socket = self.try_socket(object)?;
        if socket.state != State::Connected {
            return Err(Errno::NOTCONN);
        }
        if half != Half::Write {
            socket.reads_shut = true;
        }
        if half != Half::Read && !socket.fin_sent {
            socket.fin_sent = true;
            self.send_fin(object);
        }
        self.changed(object);
        Ok(())
    }

    fn send_fin(&mut self, object: ObjectId) {
        let Some(socket) = self.socket(object) else { return };
        let (Some(other), arrival, paired) = (socket.other, socket.last_arrival, socket.paired) else { return };
        if paired {
            return self.arrived_fin(other);
        }
        let (from, to) = (self.node_of_object(object), self.node_of_object(other));
        let arrival = self.post(from, to, arrival, Body::Fin { to: other });
        if let Some(socket) = self.socket(object) {
            socket.last_arrival = Some(arrival);
        }
    }

    /// The last descriptor of a socket is closed.
    pub(crate) fn socket_released(&mut self, object: ObjectId, socket: Socket) {
        let node = self.node_of_object(object);
        if socket.state == State::Listening {
            if let Some(local) = socket.local {
                self.listeners.remove(&(node, local.port()));
            }
            for accepted in socket.accepted {
                self.abort(accepted);
            }
        }
        let (State::Connected, Some(other)) = (socket.state, socket.other) else { return };
        self.last_other.insert(object, other);
        let to = self.node_of_object(other);
        // Linux resets when bytes are left unread.
        let reset = socket.resets_on_close || !socket.received.is_empty();
        if socket.paired {
            if let Some(alone) = self.socket(other) {
                alone.fin_sent = true; // nobody reads what it sends
            }
            if reset { self.arrived_rst(other) } else { self.arrived_fin(other) }
        } else if reset {
            self.post(node, to, None, Body::Rst { to: other });
        } else if !socket.fin_sent {
            self.post(node, to, socket.last_arrival, Body::Fin { to: other });
        }
    }

    /// Ends an object without ceremony: the other end of a connection is reset.
    pub(crate) fn abort(&mut self, object: ObjectId) {
        if let Some(socket) = self.socket(object) {
            socket.resets_on_close = true;
        }
        self.release(object);
    }

    /// What a socket's own address is; unspecified when it has none.
    pub fn local_address(&mut self, object: ObjectId) -> Result<SocketAddrV4, Errno> {
        Ok(self.try_socket(object)?.local.unwrap_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)))
    }

    /// Whom a socket is connected to.
    pub fn peer_address(&mut self, object: ObjectId) -> Result<SocketAddrV4, Errno> {
        let socket = self.try_socket(object)?;
        match socket.state {
            State::Connected => socket.peer.ok_or(Errno::NOTCONN),
            _ => Err(Errno::NOTCONN),
        }
    }

    /// Takes a socket's pending error, as `SO_ERROR` does.
    pub fn take_error(&mut self, object: ObjectId) -> Result<Option<Errno>, Errno> {
        Ok(self.try_socket(object)?.error.take())
    }

    /// How many bytes could be read at once.
    pub fn available(&mut self, object: ObjectId) -> Result<usize, Errno> {
        Ok(self.try_socket(object)?.received.len())
    }

    /// Changes how a socket behaves.
    pub fn set_option(&mut self, object: ObjectId, option: SocketOption) -> Result<(), Errno> {
        let socket = self.try_socket(object)?;
        match option {
            SocketOption::ReceiveTimeout(limit) => socket.receive_timeout = limit,
            SocketOption::SendTimeout(limit) => socket.send_timeout = limit,
            SocketOption::ResetOnClose(resets) => socket.resets_on_close = resets,
            SocketOption::Other(level, name, value) => {
                socket.options.insert((level, name), value);
            }
        }
        Ok(())
    }

    /// What an option without effect was set to.
    pub fn option(&mut self, object: ObjectId, level: i32, name: i32) -> Result<Option<i32>, Errno> {
        Ok(self.try_socket(object)?.options.get(&(level, name)).copied())
    }

    /// Whether a socket listens.
    pub fn is_listening(&mut self, object: ObjectId) -> Result<bool, Errno> {
        Ok(self.try_socket(object)?.state == State::Listening)
    }

    /// When a read (or a write) that begins now gives up, if the object is a socket with a time limit.
    pub fn time_limit(&mut self, object: ObjectId, reading: bool) -> Option<Moment> {
        let now = self.now;
        let socket = self.socket(object)?;
        let limit = if reading { socket.receive_timeout } else { socket.send_timeout };
        limit.map(|limit| now.after(limit))
    }

    // What services do with their ends of connections.

    pub(crate) fn give_to_service(&mut self, object: ObjectId, service: ServiceId) {
        if let Some(socket) = self.socket(object) {
            socket.service = Some(service);
        }
    }

    pub(crate) fn service_of(&mut self, object: ObjectId) -> Option<ServiceId> {
        self.socket(object)?.service
    }

    /// Takes what has arrived; true when nothing more will come.
    pub(crate) fn service_read(&mut self, object: ObjectId, take: &mut dyn FnMut(&[u8])) -> bool {
        let Some(socket) = self.socket(object) else { return true };
        let ended = socket.fin_received || socket.state != State::Connected;
        let received = std::mem::take(&mut socket.received);
        if !received.is_empty() {
            let (first, second) = received.as_slices();
            take(first);
            take(second);
            self.give_credit(object, received.len());
        }
        ended
    }

    pub(crate) fn service_send(&mut self, object: ObjectId, bytes: &[u8]) {
        if let Some(socket) = self.socket(object)
            && socket.state == State::Connected
        {
            socket.unsent.extend(bytes);
            self.send_unsent(object);
        }
    }

    pub(crate) fn service_close(&mut self, object: ObjectId) {
        if let Some(socket) = self.socket(object) {
            socket.closes_when_sent = true;
            self.send_unsent(object);
        }
    }

    /// Sends what waits for room, unless the node stands still.
    pub(crate) fn send_unsent(&mut self, object: ObjectId) {
        if !self.runs(self.node_of_object(object)) {
            return;
        }
        let Some(socket) = self.socket(object) else { return };
        let mut unsent = std::mem::take(&mut socket.unsent);
        let sent = self.transmit_what_fits(object, unsent.make_contiguous());
        unsent.drain(..sent);
        let Some(socket) = self.socket(object) else { return };
        let closes = socket.closes_when_sent && (unsent.is_empty() || socket.state != State::Connected);
        socket.unsent = unsent;
        if closes {
            self.release(object);
        }
    }

    fn transmit_what_fits(&mut self, object: ObjectId, bytes: &[u8]) -> usize {
        let connected = self.socket(object).is_some_and(|socket| socket.state == State::Connected);
        if connected && !bytes.is_empty() { self.transmit(object, bytes) } else { 0 }
    }
}
