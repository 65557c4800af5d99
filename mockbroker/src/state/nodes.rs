//! The brokers of the cluster: who they are, where they listen, whether they run.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// A broker's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct NodeId(pub i32);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broker {}", self.0)
    }
}

/// A listener, by its place in [`ClusterConfig::listeners`](crate::config::ClusterConfig::listeners). The first is the
/// one meant where none is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct ListenerId(pub usize);

/// Where a broker is reached.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Endpoint {
    /// The host clients connect to.
    pub host: String,
    /// The port clients connect to.
    pub port: u16,
}

/// A broker as clients are told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// The host clients of the first listener connect to.
    pub host: String,
    /// The port clients of the first listener connect to.
    pub port: u16,
    /// Where it is reached by the other listeners, in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other_endpoints: Vec<Endpoint>,
    /// Its rack, if it has one.
    pub rack: Option<String>,
    /// Whether it runs.
    pub running: bool,
    /// Whether the controller takes it for gone. A crashed broker is fenced only when the controller has noticed, and
    /// until then clients are still told of it.
    pub fenced: bool,
    /// How long its replicas take to copy what a leader has.
    #[serde(serialize_with = "as_micros")]
    pub follower_delay: Duration,
}

fn as_micros<S: serde::Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
}

impl Node {
    /// The host and port a client is told that came by this listener.
    pub fn address(&self, listener: ListenerId) -> (&str, u16) {
        let other = listener.0.checked_sub(1).and_then(|at| self.other_endpoints.get(at));
        other.map_or((&self.host, self.port), |endpoint| (&endpoint.host, endpoint.port))
    }
}

/// All brokers, running or not.
#[derive(Debug, Clone, Serialize)]
pub struct Nodes {
    by_id: BTreeMap<NodeId, Node>,
    controller: Option<NodeId>,
    controller_epoch: i32,
}

impl Nodes {
    /// A cluster of these brokers; the first running one is the controller.
    pub fn new(nodes: impl IntoIterator<Item = Node>) -> Self {
        let by_id: BTreeMap<_, _> = nodes.into_iter().map(|node| (node.id, node)).collect();
        let mut nodes = Self { by_id, controller: None, controller_epoch: 0 };
        nodes.elect_controller();
        nodes
    }

    /// The broker with this id.
    pub fn get(&self, id: NodeId) -> Option<&Node> {
        self.by_id.get(&id)
    }

    /// All brokers, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Node> {
        self.by_id.values()
    }

    /// The brokers that run, by id.
    pub fn running(&self) -> impl Iterator<Item = &Node> {
        self.iter().filter(|node| node.running)
    }

    /// The brokers the controller takes for alive, by id: those clients are told of.
    pub fn alive(&self) -> impl Iterator<Item = &Node> {
        self.iter().filter(|node| !node.fenced)
    }

    /// Notes what the controller thinks of a broker.
    pub fn set_fenced(&mut self, id: NodeId, fenced: bool) {
        if let Some(node) = self.by_id.get_mut(&id) {
            node.fenced = fenced;
        }
    }

    /// Changes how long a broker's replicas take to copy; false when there is no such broker.
    pub fn set_follower_delay(&mut self, id: NodeId, delay: Duration) -> bool {
        self.by_id.get_mut(&id).map(|node| node.follower_delay = delay).is_some()
    }

    /// Whether this broker runs.
    pub fn is_running(&self, id: NodeId) -> bool {
        self.get(id).is_some_and(|node| node.running)
    }

    /// Whom clients are told to send administration to; `None` when no broker runs.
    pub fn controller(&self) -> Option<NodeId> {
        self.controller
    }

    /// How often there has been another controller, counted from 1.
    pub fn controller_epoch(&self) -> i32 {
        self.controller_epoch
    }

    /// Starts or stops a broker; false when there is no such broker or nothing changed.
    pub fn set_running(&mut self, id: NodeId, running: bool) -> bool {
        let Some(node) = self.by_id.get_mut(&id).filter(|node| node.running != running) else { return false };
        node.running = running;
        if !self.controller.is_some_and(|controller| self.is_running(controller)) {
            self.elect_controller();
        }
        true
    }

    /// Changes the address clients of the first listener are told, once a driver knows it.
    pub fn advertise(&mut self, id: NodeId, host: String, port: u16) {
        if let Some(node) = self.by_id.get_mut(&id) {
            node.host = host;
            node.port = port;
        }
    }

    /// Takes over the addresses clients were told of the same brokers.
    pub fn advertise_as(&mut self, told: &Self) {
        for node in self.by_id.values_mut() {
            if let Some(told) = told.get(node.id) {
                node.host.clone_from(&told.host);
                node.port = told.port;
                node.other_endpoints.clone_from(&told.other_endpoints);
            }
        }
    }

    /// Living brokers ordered so that neighbours are in different racks where racks allow it.
    pub fn interleaved_by_rack(&self) -> Vec<NodeId> {
        let mut racks: BTreeMap<Option<&str>, Vec<NodeId>> = BTreeMap::new();
        for node in self.alive() {
            racks.entry(node.rack.as_deref()).or_default().push(node.id);
        }
        let longest = racks.values().map(Vec::len).max().unwrap_or(0);
        (0..longest).flat_map(|turn| racks.values().filter_map(move |rack| rack.get(turn).copied())).collect()
    }

    /// Makes a broker the controller; `false` when it does not run.
    pub fn make_controller(&mut self, id: NodeId) -> bool {
        let running = self.is_running(id);
        if running {
            self.controller_epoch += i32::from(self.controller != Some(id));
            self.controller = Some(id);
        }
        running
    }

    fn elect_controller(&mut self) {
        let first = self.running().map(|node| node.id).next();
        self.controller_epoch += i32::from(first.is_some() && first != self.controller);
        self.controller = first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: i32, rack: &str) -> Node {
        Node {
            id: NodeId(id),
            host: "h".into(),
            port: 9092,
            other_endpoints: Vec::new(),
            rack: Some(rack.into()),
            running: true,
            fenced: false,
            follower_delay: Duration::ZERO,
        }
    }

    #[test]
    fn neighbours_are_in_different_racks() {
        let nodes = Nodes::new([node(1, "a"), node(2, "a"), node(3, "b"), node(4, "b")]);
        assert_eq!(nodes.interleaved_by_rack(), [NodeId(1), NodeId(3), NodeId(2), NodeId(4)]);
    }

    #[test]
    fn the_controller_moves_when_its_broker_stops() {
        let mut nodes = Nodes::new([node(1, "a"), node(2, "b")]);
        assert_eq!(nodes.controller(), Some(NodeId(1)));
        assert!(nodes.set_running(NodeId(1), false));
        assert_eq!(nodes.controller(), Some(NodeId(2)));
        nodes.set_running(NodeId(2), false);
        assert_eq!(nodes.controller(), None);
        nodes.set_running(NodeId(1), true);
        assert_eq!(nodes.controller(), Some(NodeId(1)));
    }
}
