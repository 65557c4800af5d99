//! The stand-in brokers on the simulated network: the broker's core behind sessions, one host a broker, without a
//! thread or socket of their own. It moves bytes and decides nothing, as the TCP driver does.

use crate::drive::witness::Witness;
use crate::history::Event;
use rehearsal_mockbroker::cluster::Cluster;
use rehearsal_mockbroker::config::{ClusterConfig, ConfigError};
use rehearsal_mockbroker::control::{Command, CommandError};
use rehearsal_mockbroker::error::Violation;
use rehearsal_mockbroker::output::{ConnId, Output};
use rehearsal_mockbroker::session::Session;
use rehearsal_mockbroker::state::nodes::NodeId;
use rehearsal_mockbroker::time::Time;
use rehearsal_mockbroker::wire::ApiKey;
use rehearsal_sim_kernel::machine::{Connection, Kernel, Moment, Node, Service, ServiceId, ServiceNet};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddrV4;
use std::time::Duration;
use tracing::subscriber::NoSubscriber;

/// The port every broker listens on, at its own address.
pub(crate) const PORT: u16 = 9092;

/// The name of a broker's node: `broker-1` for the broker with id 1.
pub(crate) fn name_of(broker: NodeId) -> String {
    format!("broker-{}", broker.0)
}

/// A cluster on the network.
pub(crate) struct Brokers {
    cluster: Cluster,
    nodes: BTreeMap<NodeId, Node>,
    conversations: BTreeMap<Connection, Conversation>,
    connections: BTreeMap<ConnId, Connection>,
    /// Whether connections are reset, not closed, because a broker is crashing.
    crashing: bool,
    /// Who writes down what the brokers do, if anybody does.
    witness: Option<Witness>,
}

struct Conversation {
    conn: ConnId,
    session: Session,
}

impl Brokers {
    /// Puts a cluster on the network: a node a broker, listening. Hosts and ports of the config are set to theirs.
    pub(crate) fn install(kernel: &mut Kernel, mut config: ClusterConfig) -> Result<ServiceId, ConfigError> {
        let mut nodes = BTreeMap::new();
        for broker in &mut config.nodes {
            (broker.host, broker.port) = (name_of(broker.id), PORT);
        }
        let cluster = Cluster::new(&config)?;
        for broker in &config.nodes {
            nodes.insert(broker.id, kernel.add_node(name_of(broker.id)));
        }
        let listening: Vec<Node> = nodes.values().copied().collect();
        let (conversations, connections) = (BTreeMap::new(), BTreeMap::new());
        let brokers = Self { cluster, nodes, conversations, connections, crashing: false, witness: None };
        let service = kernel.add_service(Box::new(brokers));
        kernel.with_service(service, |brokers: &mut Self, net| {
            for node in listening {
                // The nodes are new, so their ports are free.
                let _ = net.listen(node, PORT);
            }
            brokers.arm(net);
        });
        Ok(service)
    }

    /// Changes the cluster from outside.
    pub(crate) fn control(&mut self, net: &mut ServiceNet<'_>, command: Command) -> Result<(), CommandError> {
        quietly(|| {
            self.crashing = matches!(command, Command::Crash(_) | Command::PowerLoss(_));
            let outputs = self.cluster.control(time(net.now()), command);
            self.look(net.now(), None);
            let result = outputs.map(|outputs| self.carry_out(net, outputs));
            self.crashing = false;
            result
        })
    }

    /// From now on this one writes down what the brokers do.
    pub(crate) fn watch(&mut self, witness: Witness) {
        self.witness = Some(witness);
    }

    /// What was written down so far.
    pub(crate) fn take_seen(&mut self) -> Vec<Event> {
        self.witness.as_mut().map(Witness::take_seen).unwrap_or_default()
    }

    /// When this group's members last agreed on who has what, if anybody writes that down.
    pub(crate) fn formed(&self, group: &str) -> Option<Duration> {
        self.witness.as_ref()?.formed(group)
    }

    fn look(&mut self, now: Moment, asked: Option<(ApiKey, &str)>) {
        if let Some(witness) = &mut self.witness {
            witness.look(&self.cluster, now.since(Moment::START), asked);
        }
    }

    /// The cluster itself, to plan faults and to read. What makes it answer somebody goes through [`Self::control`].
    pub(crate) fn cluster(&mut self) -> &mut Cluster {
        &mut self.cluster
    }

    fn carry_out(&mut self, net: &mut ServiceNet<'_>, outputs: Vec<Output>) {
        let mut outputs = VecDeque::from(outputs);
        while let Some(output) = outputs.pop_front() {
            match output {
                Output::Reply { conn, response, frame } => {
                    let Some(connection) = self.connections.get(&conn).copied() else { continue };
                    let Some(conversation) = self.conversations.get_mut(&connection) else { continue };
                    match conversation.session.answer(response.as_deref(), frame) {
                        Ok(pieces) => {
                            for piece in pieces {
                                net.send(connection, &piece);
                            }
                            outputs.extend(self.converse(net, connection));
                        }
                        Err(_) => outputs.extend(self.hang_up(net, connection)),
                    }
                }
                Output::Close { conn, .. } => {
                    if let Some(connection) = self.connections.remove(&conn) {
                        self.conversations.remove(&connection);
                        if self.crashing { net.reset(connection) } else { net.close(connection) }
                    }
                }
                Output::StopListening(broker) => net.stop_listening(self.nodes[&broker], PORT),
                // It listened there before, and nobody else can have taken the port.
                Output::Listen(broker) => drop(net.listen(self.nodes[&broker], PORT)),
            }
        }
        self.arm(net);
    }

    /// Reads what has arrived, and passes the next request on if there is one and the last is answered.
    fn converse(&mut self, net: &mut ServiceNet<'_>, connection: Connection) -> Vec<Output> {
        let Some(conversation) = self.conversations.get_mut(&connection) else { return Vec::new() };
        let Conversation { conn, session } = conversation;
        // What it does not want stays in the socket, and holds the sender up.
        let ended = session.wants_bytes() && net.read(connection, |bytes| session.receive(bytes));
        let mut outputs = match session.next_request() {
            Ok(Some(request)) => {
                let (asked, client) = (request.body.api_key(), request.client_id.clone());
                let outputs = self.cluster.handle(time(net.now()), *conn, request);
                self.look(net.now(), Some((asked, client.as_str())));
                outputs
            }
            Ok(None) => Vec::new(),
            Err(Violation { .. }) => return self.hang_up(net, connection),
        };
        if ended {
            outputs.extend(self.hang_up(net, connection));
        }
        outputs
    }

    fn hang_up(&mut self, net: &mut ServiceNet<'_>, connection: Connection) -> Vec<Output> {
        let Some(Conversation { conn, .. }) = self.conversations.remove(&connection) else { return Vec::new() };
        self.connections.remove(&conn);
        net.close(connection);
        self.cluster.disconnect(time(net.now()), conn)
    }

    fn arm(&mut self, net: &mut ServiceNet<'_>) {
        net.wake_at(self.cluster.next_wake().map(moment));
    }
}

impl Service for Brokers {
    fn connected(&mut self, net: &mut ServiceNet<'_>, connection: Connection, node: Node, peer: SocketAddrV4) {
        quietly(|| {
            let broker = self.nodes.iter().find(|(_, at)| **at == node).map(|(broker, _)| *broker);
            let accepted = broker.map(|broker| self.cluster.connect(broker, format!("/{}", peer.ip())));
            let Some(Ok(conn)) = accepted else { return net.reset(connection) };
            let session = self.cluster.session();
            self.connections.insert(conn, connection);
            self.conversations.insert(connection, Conversation { conn, session });
        });
    }

    fn readable(&mut self, net: &mut ServiceNet<'_>, connection: Connection) {
        quietly(|| {
            let outputs = self.converse(net, connection);
            self.carry_out(net, outputs);
        });
    }

    fn due(&mut self, net: &mut ServiceNet<'_>) {
        quietly(|| {
            let outputs = self.cluster.wake(time(net.now()));
            self.look(net.now(), None);
            self.carry_out(net, outputs);
        });
    }
}

fn time(moment: Moment) -> Time {
    Time::from_micros(i64::try_from(moment.wall_nanos() / 1_000).unwrap_or(i64::MAX))
}

fn moment(time: Time) -> Moment {
    Moment::from_wall_nanos(u64::try_from(time.as_micros()).unwrap_or(0).saturating_mul(1_000))
}

/// Without the program's log subscriber: a thread of the simulation may stand still within it, holding its locks.
fn quietly<R>(act: impl FnOnce() -> R) -> R {
    if tracing::dispatcher::has_been_set() {
        tracing::subscriber::with_default(NoSubscriber::default(), act)
    } else {
        act()
    }
}
