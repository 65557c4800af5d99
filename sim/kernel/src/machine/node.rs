//! Nodes: the machines of a simulation. Each has a name, an address, a wall clock of its own, threads and sockets.

use super::object::{Kind, ObjectId};
use super::service::Notice;
use super::{Kernel, Mark};
use std::net::Ipv4Addr;

/// A node, numbered from 0 in the order of creation. Node 0 is there from the start and directs the simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node(pub u32);

impl Node {
    /// The node that directs the simulation. No fault is meant for it.
    pub const CONTROL: Self = Self(0);

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }

    /// Its address: 10.0.x.y.
    pub fn ip(self) -> Ipv4Addr {
        Ipv4Addr::from(NETWORK + 1 + self.0)
    }
}

/// 10.0.0.0/16, so there is room for 65,534 nodes.
const NETWORK: u32 = 0x0a00_0000;

#[derive(Debug)]
pub(crate) struct NodeState {
    pub(crate) name: String,
    power: Power,
    /// Counts crashes.
    pub(crate) life: u32,
    /// The last port given to a socket that asked for any.
    pub(crate) last_port: u16,
    /// How far its wall clock is off, in nanoseconds.
    pub(crate) wall_skew_ns: i64,
    /// What services were not told because the node stood still.
    pub(crate) missed: Vec<Notice>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    Runs,
    Paused,
    Down,
}

/// The first port given to a socket that asks for any, less one; Linux's default range begins at 32,768.
const PORTS_FROM: u16 = 32_767;

const CRASH: Mark = Mark::new("node crash");
const RESTART: Mark = Mark::new("node restart");
const PAUSE: Mark = Mark::new("node pause");
const RESUME: Mark = Mark::new("node resume");

impl NodeState {
    pub(crate) fn new(name: String) -> Self {
        let (power, last_port) = (Power::Runs, PORTS_FROM);
        Self { name, power, life: 0, last_port, wall_skew_ns: 0, missed: Vec::new() }
    }

    pub(crate) fn runs(&self) -> bool {
        self.power == Power::Runs
    }

    pub(crate) fn is_down(&self) -> bool {
        self.power == Power::Down
    }

    pub(crate) fn next_port(&mut self) -> u16 {
        self.last_port = if self.last_port == u16::MAX { PORTS_FROM + 1 } else { self.last_port + 1 };
        self.last_port
    }
}

impl Kernel {
    /// A new node. Its name resolves to its address.
    pub fn add_node(&mut self, name: impl Into<String>) -> Node {
        let node = Node(u32::try_from(self.nodes.len()).expect("fewer than 2^32 nodes"));
        self.nodes.push(NodeState::new(name.into()));
        node
    }

    /// A node's name.
    pub fn name_of(&self, node: Node) -> &str {
        &self.nodes[node.index()].name
    }

    /// The node of this name.
    pub fn node_named(&self, name: &str) -> Option<Node> {
        let place = self.nodes.iter().position(|node| node.name == name)?;
        u32::try_from(place).ok().map(Node)
    }

    /// The node with this address, seen from `from`: loopback is oneself.
    pub(crate) fn node_at(&self, ip: Ipv4Addr, from: Node) -> Option<Node> {
        if ip.is_loopback() || ip.is_unspecified() {
            return Some(from);
        }
        let number = u32::from(ip).checked_sub(NETWORK + 1)?;
        (number < self.nodes.len() as u32).then_some(Node(number))
    }

    /// The process id programs on a node are told: it differs by node and by life.
    pub fn pid_of(&self, node: Node) -> i32 {
        1_000 + 1_000 * node.0 as i32 + self.nodes[node.index()].life as i32
    }

    /// Whether a node runs: it has not crashed and is not paused.
    pub fn runs(&self, node: Node) -> bool {
        self.nodes[node.index()].runs()
    }

    /// Sets how far a node's wall clock is ahead (positive) or behind (negative), in nanoseconds. Its monotonic clock
    /// stays true.
    pub fn skew_wall_clock(&mut self, node: Node, nanos: i64) {
        self.nodes[node.index()].wall_skew_ns = nanos;
    }

    /// How far a node's wall clock is ahead (positive) or behind, in nanoseconds.
    pub fn wall_skew(&self, node: Node) -> i64 {
        self.nodes[node.index()].wall_skew_ns
    }

    /// What a node's wall clock reads: nanoseconds since the Unix epoch.
    pub fn wall_nanos(&self, node: Node) -> u64 {
        self.now.wall_nanos().saturating_add_signed(self.nodes[node.index()].wall_skew_ns)
    }

    /// The node dies at once: its threads never run again, its connections are reset, its ports are free. Whatever
    /// memory it had is lost to the process.
    pub fn crash(&mut self, node: Node) {
        if self.nodes[node.index()].is_down() {
            return;
        }
        self.trace.step(self.now, None, CRASH, u64::from(node.0), 0);
        let state = &mut self.nodes[node.index()];
        state.power = Power::Down;
        state.life += 1;
        state.missed.clear();
        let (nodes_own, others): (Vec<_>, Vec<_>) =
            self.ready.iter().partition(|thread| self.node_of(**thread) == node);
        let holders = nodes_own.into_iter().filter(|thread| self.may_run(*thread));
        self.ready = others.into_iter().chain(holders).collect();
        for number in 0..self.objects.len() {
            let object = ObjectId::from_index(number);
            if self.objects[number].node == node && !matches!(self.objects[number].kind, Kind::Gone) {
                self.abort(object);
            }
        }
        self.listeners.retain(|(at, _), _| *at != node);
    }

    /// A crashed node may have threads again; whoever calls this starts them.
    pub fn restart(&mut self, node: Node) {
        let state = &mut self.nodes[node.index()];
        if state.is_down() {
            state.power = Power::Runs;
            self.trace.step(self.now, None, RESTART, u64::from(node.0), 0);
        }
    }

    /// The node stands still: none of its threads runs, its services are told nothing. Its connections stay, and what
    /// is sent to it waits there.
    pub fn pause(&mut self, node: Node) {
        let state = &mut self.nodes[node.index()];
        if state.runs() {
            state.power = Power::Paused;
            self.trace.step(self.now, None, PAUSE, u64::from(node.0), 0);
        }
    }

    /// A paused node goes on.
    pub fn resume(&mut self, node: Node) {
        let state = &mut self.nodes[node.index()];
        if state.power != Power::Paused {
            return;
        }
        state.power = Power::Runs;
        self.trace.step(self.now, None, RESUME, u64::from(node.0), 0);
        self.catch_up(node);
    }
}
