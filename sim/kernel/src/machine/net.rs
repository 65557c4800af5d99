//! The network: links between nodes, and what travels on them.
//!
//! A link has a direction. A cut link loses nothing that TCP would send again: what arrives while it is cut is held and
//! arrives a retransmission later than the link heals. Only a connection's first packet gives up.

use super::node::Node;
use super::object::{Kind, ObjectId};
use super::service::ServiceId;
use super::socket::State;
use super::timetable::Event;
use super::{Errno, Kernel, Mark, Moment};
use std::net::SocketAddrV4;
use std::time::Duration;

/// How long a packet travels: `base` and up to `jitter` more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    /// At least this long.
    pub base: Duration,
    /// And up to this much longer.
    pub jitter: Duration,
}

impl Latency {
    /// Between two nodes unless told otherwise: 0.3 to 1 ms, a data centre.
    pub const NETWORK: Self = Self { base: Duration::from_micros(300), jitter: Duration::from_micros(700) };
    /// Within a node: 20 to 30 µs.
    pub const LOOPBACK: Self = Self { base: Duration::from_micros(20), jitter: Duration::from_micros(10) };
}

#[derive(Debug, Default)]
pub(crate) struct Link {
    latency: Option<Latency>,
    cut: bool,
    /// Nothing arrives before: retransmission takes this long after a cut.
    resumes: Option<Moment>,
    held: Vec<Packet>,
}

#[derive(Debug)]
pub(crate) struct Packet {
    sent: Moment,
    /// The node it comes from.
    pub(crate) from: Node,
    /// The node it goes to.
    pub(crate) to: Node,
    /// Whether it waited for a healed link already.
    released: bool,
    pub(crate) body: Body,
}

#[derive(Debug)]
pub(crate) enum Body {
    /// A connection is asked for, for the nth time.
    Syn { client: ObjectId, address: SocketAddrV4, attempt: u32 },
    /// It is there.
    SynAck { client: ObjectId, server: ObjectId },
    /// Nobody listens.
    Refused { client: ObjectId },
    /// Bytes.
    Data { to: ObjectId, bytes: Vec<u8> },
    /// The other end has read so much.
    Credit { to: ObjectId, bytes: usize },
    /// No more bytes will come.
    Fin { to: ObjectId },
    /// The connection is no more.
    Rst { to: ObjectId },
}

/// Something the network carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// When it was sent, or sent again.
    pub sent: Moment,
    /// When it arrived, later where a cut held it.
    pub arrived: Moment,
    /// The node it came from.
    pub from: Node,
    /// The node it went to.
    pub to: Node,
    /// What it was.
    pub kind: MessageKind,
}

/// What the network carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// A connection is asked for.
    Connect,
    /// A connection is there.
    Accept,
    /// Nobody listens.
    Refuse,
    /// So many bytes.
    Data(usize),
    /// No more bytes will come.
    Finish,
    /// The connection is no more.
    Reset,
}

/// Who accepts connections to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listener {
    Socket(ObjectId),
    Service(ServiceId),
}

/// Linux tries a connection six times more, after 1, 2, 4 … seconds (`tcp_syn_retries`), and gives up 127 s after the first.
const SYN_RETRIES: u32 = 6;
/// How long after a link heals the next retransmission may be: Linux's smallest timeout is 200 ms, and it doubles.
const RETRANSMISSION: Latency = Latency { base: Duration::from_millis(200), jitter: Duration::from_millis(400) };

const ARRIVE: Mark = Mark::new("arrive");
const HELD: Mark = Mark::new("held");
const CUT: Mark = Mark::new("cut");
const HEAL: Mark = Mark::new("heal");

impl Kernel {
    fn link(&mut self, from: Node, to: Node) -> &mut Link {
        self.links.entry((from, to)).or_default()
    }

    /// Sets how long packets from one node to another travel.
    pub fn set_latency(&mut self, from: Node, to: Node, latency: Latency) {
        self.link(from, to).latency = Some(latency);
    }

    /// Nothing gets from one node to another any more. The other direction stays.
    pub fn cut(&mut self, from: Node, to: Node) {
        self.trace.step(self.now, None, CUT, from.0.into(), to.0.into());
        self.link(from, to).cut = true;
    }

    /// What was held arrives with the next retransmission, 200 to 600 ms from now.
    pub fn heal(&mut self, from: Node, to: Node) {
        if !self.links.get(&(from, to)).is_some_and(|link| link.cut) {
            return;
        }
        self.trace.step(self.now, None, HEAL, from.0.into(), to.0.into());
        let resumes = self.now.after_nanos(self.travel_ns(RETRANSMISSION));
        let link = self.link(from, to);
        link.cut = false;
        link.resumes = Some(resumes);
        for mut packet in std::mem::take(&mut link.held) {
            packet.released = true;
            self.timetable.plan(resumes, Event::Arrival(packet));
        }
    }

    /// Whether the link from one node to another is cut.
    pub fn is_cut(&self, from: Node, to: Node) -> bool {
        self.links.get(&(from, to)).is_some_and(|link| link.cut)
    }

    /// Resets every connection between two nodes, as a firewall that forgets them does.
    pub fn reset_connections(&mut self, a: Node, b: Node) {
        for number in 0..self.objects.len() {
            let object = ObjectId::from_index(number);
            let at = self.objects[number].node;
            if let Kind::Socket(socket) = &self.objects[number].kind
                && let Some(other) = socket.other
                && [(a, b), (b, a)].contains(&(at, self.objects[other.index()].node))
            {
                self.arrived_rst(object);
            }
        }
    }

    fn travel_ns(&mut self, latency: Latency) -> u64 {
        let whole = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        whole(latency.base).saturating_add(self.random.network.below(whole(latency.jitter)))
    }

    /// Puts a packet on its way, to arrive not before a moment; returns when it will.
    pub(crate) fn post(&mut self, from: Node, to: Node, not_before: Option<Moment>, body: Body) -> Moment {
        let usual = if from == to { Latency::LOOPBACK } else { Latency::NETWORK };
        let latency = self.links.get(&(from, to)).and_then(|link| link.latency).unwrap_or(usual);
        let travelled = self.now.after_nanos(self.travel_ns(latency));
        let arrival = not_before.map_or(travelled, |earliest| travelled.max(earliest.after_nanos(1)));
        self.packets += 1;
        self.timetable.plan(arrival, Event::Arrival(Packet { sent: self.now, from, to, released: false, body }));
        arrival
    }

    pub(crate) fn arrive(&mut self, mut packet: Packet) {
        if let Body::Syn { client, attempt, .. } = packet.body
            && attempt > SYN_RETRIES
        {
            return self.connect_failed(client, Errno::TIMEDOUT);
        }
        let now = self.now;
        if let Some(link) = self.links.get_mut(&(packet.from, packet.to)) {
            if link.cut {
                packet.released = false;
                self.trace.step(now, None, HELD, packet.from.0.into(), packet.to.0.into());
                match packet.body {
                    Body::Syn { client, address, attempt } => self.syn_lost(packet.from, client, address, attempt),
                    _ => link.held.push(packet),
                }
                return;
            }
            // What was sent before the link healed is not overtaken by what is sent after.
            if let Some(resumes) = link.resumes
                && now <= resumes
                && !packet.released
            {
                packet.released = true;
                self.timetable.plan(resumes, Event::Arrival(packet));
                return;
            }
        }
        self.deliver(packet);
    }

    /// What the network carried so far, if [`Config::record_messages`](crate::config::Config::record_messages) asked
    /// for it, in the order of arrival; once.
    pub fn take_messages(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.messages)
    }

    fn record(&mut self, packet: &Packet) {
        let kind = match &packet.body {
            Body::Syn { .. } => MessageKind::Connect,
            Body::SynAck { .. } => MessageKind::Accept,
            Body::Refused { .. } => MessageKind::Refuse,
            Body::Data { bytes, .. } => MessageKind::Data(bytes.len()),
            Body::Fin { .. } => MessageKind::Finish,
            Body::Rst { .. } => MessageKind::Reset,
            Body::Credit { .. } => return, // TCP's own business
        };
        let Packet { sent, from, to, .. } = *packet;
        self.messages.push(Message { sent, arrived: self.now, from, to, kind });
    }

    fn deliver(&mut self, packet: Packet) {
        if self.config.record_messages {
            self.record(&packet);
        }
        let Packet { from, to, body, .. } = packet;
        let (number, size) = match &body {
            Body::Syn { client, .. } | Body::SynAck { client, .. } | Body::Refused { client } => (client.number(), 0),
            Body::Data { to, bytes } => (to.number(), bytes.len() as u64),
            Body::Credit { to, bytes } => (to.number(), *bytes as u64),
            Body::Fin { to } | Body::Rst { to } => (to.number(), 0),
        };
        self.trace.step(self.now, None, ARRIVE, number, size);
        match body {
            Body::Syn { client, address, attempt } => self.arrived_syn(from, to, client, address, attempt),
            Body::SynAck { client, server } => self.arrived_syn_ack(client, server),
            Body::Refused { client } => self.connect_failed(client, Errno::CONNREFUSED),
            Body::Data { to, bytes } => self.arrived_data(to, &bytes),
            Body::Credit { to, bytes } => self.arrived_credit(to, bytes),
            Body::Fin { to } => self.arrived_fin(to),
            Body::Rst { to } => self.arrived_rst(to),
        }
    }

    pub(crate) fn syn_lost(&mut self, from: Node, client: ObjectId, address: SocketAddrV4, attempt: u32) {
        if let Some(to) = self.node_at(*address.ip(), from) {
            let again = self.now.after(Duration::from_secs(1 << attempt));
            let body = Body::Syn { client, address, attempt: attempt + 1 };
            let packet = Packet { sent: again, from, to, released: true, body };
            self.timetable.plan(again, Event::Arrival(packet));
        }
    }

    fn arrived_syn(&mut self, from: Node, to: Node, client: ObjectId, address: SocketAddrV4, attempt: u32) {
        let Some(peer) = self.socket(client).filter(|s| s.state == State::Connecting).and_then(|s| s.local) else {
            return;
        };
        if self.nodes[to.index()].is_down() {
            return self.syn_lost(from, client, address, attempt);
        }
        let listener = self.listeners.get(&(to, address.port())).copied();
        match listener {
            Some(Listener::Socket(listening)) if self.listens_at(listening, address) => {
                if self.backlog_is_full(listening) {
                    return self.syn_lost(from, client, address, attempt);
                }
                let server = self.accept_syn(to, client, address, peer);
                self.queue_accepted(listening, server);
            }
            Some(Listener::Service(service)) => {
                let server = self.accept_syn(to, client, address, peer);
                self.service_connected(service, server, from, peer);
            }
            _ => {
                self.post(to, from, None, Body::Refused { client });
            }
        }
    }
}
