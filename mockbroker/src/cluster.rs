//! The whole core API: a cluster of brokers as one deterministic state machine.

use crate::config::{ClusterConfig, ConfigError};
use crate::control::{Command, CommandError};
use crate::handlers::{self, Answer, Waiting};
use crate::output::{ConnId, Output};
use crate::parked::{Parked, ParkedRequest, Ticket};
use crate::session::Incoming;
use crate::state::State;
use crate::state::groups::GroupAnswer;
use crate::state::nodes::NodeId;
use crate::state::topics::Partition;
use crate::time::Time;
use crate::view::View;
use crate::wire::{Response, Str};
use std::collections::BTreeMap;
use tracing::debug;

/// A cluster of brokers. It is told what time it is, who connected and what was asked; it returns what a driver must
/// carry out. It opens nothing, spawns nothing and reads no clock.
///
/// Equal configs, times and requests give equal outputs.
#[derive(Debug)]
pub struct Cluster {
    state: State,
    connections: BTreeMap<ConnId, Connection>,
    parked: Parked,
    last_connection: u64,
    last_ticket: u64,
}

/// Who is connected to which broker.
#[derive(Debug, Clone)]
struct Connection {
    node: NodeId,
    client_host: String,
}

/// Who asks, as handlers see it.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The broker that was asked.
    pub(crate) node: NodeId,
    /// The client's id, as it says.
    pub(crate) client_id: Str,
    /// The client's address in Kafka's form, e.g. `/127.0.0.1`.
    pub(crate) client_host: String,
    /// The version of the request.
    pub(crate) version: i16,
    /// Names this request, should it wait.
    pub(crate) ticket: Ticket,
}

/// This broker does not run, so nobody can connect to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} does not run")]
pub struct Refused(pub NodeId);

impl Cluster {
    /// A cluster as configured, all brokers running.
    ///
    /// # Errors
    /// A configuration Kafka would not start with, or a topic it would not create.
    pub fn new(config: &ClusterConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            state: State::new(config)?,
            connections: BTreeMap::new(),
            parked: Parked::default(),
            last_connection: 0,
            last_ticket: 0,
        })
    }

    /// Somebody connected to a broker. `client_host` is the address as `DescribeGroups` shows it, e.g. `/127.0.0.1`.
    pub fn connect(&mut self, node: NodeId, client_host: impl Into<String>) -> Result<ConnId, Refused> {
        if !self.state.nodes.is_running(node) {
            return Err(Refused(node));
        }
        self.last_connection += 1;
        let conn = ConnId(self.last_connection);
        self.connections.insert(conn, Connection { node, client_host: client_host.into() });
        Ok(conn)
    }

    /// A request arrived. A connection has at most one request in hand: the next is passed when this one is answered,
    /// as Kafka does by muting the channel.
    pub fn handle(&mut self, now: Time, conn: ConnId, request: Incoming) -> Vec<Output> {
        let Some(connection) = self.connections.get(&conn) else { return Vec::new() };
        self.last_ticket += 1;
        let caller = Caller {
            node: connection.node,
            client_id: request.client_id,
            client_host: connection.client_host.clone(),
            version: request.version,
            ticket: Ticket(self.last_ticket),
        };
        let mut outputs = Vec::new();
        self.replicate(now, &mut outputs);
        match handlers::answer(&mut self.state, now, &caller, request.body) {
            Answer::Now(response) => outputs.push(Output::Reply { conn, response: Some(response) }),
            Answer::Nothing => outputs.push(Output::Reply { conn, response: None }),
            Answer::Close(reason) => self.close(conn, reason, &mut outputs),
            Answer::Park { deadline, partitions, waiting } => {
                let request = ParkedRequest { conn, deadline, partitions, waiting };
                self.parked.park(caller.ticket, request);
            }
        }
        self.settle(now, &mut outputs);
        outputs
    }

    /// A connection is gone. What it waited for is forgotten; a group keeps its member until the session expires.
    pub fn disconnect(&mut self, now: Time, conn: ConnId) -> Vec<Output> {
        self.forget(conn);
        let mut outputs = Vec::new();
        self.settle(now, &mut outputs);
        outputs
    }

    /// Time passed: call this at [`Cluster::next_wake`], or later.
    pub fn wake(&mut self, now: Time) -> Vec<Output> {
        let mut outputs = Vec::new();
        self.replicate(now, &mut outputs);
        for ticket in self.parked.due(now) {
            self.resume(now, ticket, true, &mut outputs);
        }
        self.state.groups.expire(now);
        self.settle(now, &mut outputs);
        outputs
    }

    /// When something happens by itself: a waiting fetch runs out of time, a member's session expires.
    pub fn next_wake(&self) -> Option<Time> {
        let replication = self.state.next_replication();
        [self.parked.next_deadline(), self.state.groups.next_deadline(), replication].into_iter().flatten().min()
    }

    /// Changes the cluster from outside.
    ///
    /// # Errors
    /// The command names what does not exist, or asks for what Kafka would refuse; nothing has changed then.
    pub fn control(&mut self, now: Time, command: Command) -> Result<Vec<Output>, CommandError> {
        let mut outputs = Vec::new();
        self.replicate(now, &mut outputs);
        match command {
            Command::CreateTopic(topic) => {
                self.state.create_topic(&topic, false).map_err(CommandError::Refused)?;
            }
            Command::DeleteTopic(name) => {
                self.state.delete_topic(&name).map_err(CommandError::Refused)?;
            }
            Command::Advertise { node, host, port } => {
                self.known(node)?;
                self.state.nodes.advertise(node, host, port);
            }
            Command::MoveLeader { topic, partition, to } => self.move_leader(now, &topic, partition, to)?,
            Command::Crash(node) => self.crash(now, node, false, &mut outputs)?,
            Command::Start(node) => self.start(now, node, &mut outputs)?,
            Command::Stop(node) => self.stop(now, node, &mut outputs)?,
            Command::PowerLoss(node) => self.crash(now, node, true, &mut outputs)?,
            Command::Flush(node) => {
                self.known(node)?;
                self.state.flush(now, node);
            }
            Command::SetFollowerDelay { node, delay } => {
                self.known(node)?;
                self.state.set_follower_delay(now, node, delay);
            }
            Command::StopCopying { topic, partition, node } => {
                self.replica(&topic, partition, node)?;
                self.state.set_copying(now, &topic, partition, node, false);
            }
            Command::ResumeCopying { topic, partition, node } => {
                self.replica(&topic, partition, node)?;
                self.state.set_copying(now, &topic, partition, node, true);
            }
            Command::ShrinkIsr { topic, partition, node } => {
                self.replica(&topic, partition, node)?;
                if !self.state.shrink_isr(now, &topic, partition, node) {
                    return Err(CommandError::NotAFollowerInSync { node, topic, partition });
                }
            }
            Command::ExpandIsr { topic, partition, node } => {
                self.replica(&topic, partition, node)?;
                self.state.expand_isr(now, &topic, partition, node);
            }
            Command::ElectUnclean { topic, partition } => {
                self.partition(&topic, partition)?;
                let elected = self.state.elect_unclean(now, &topic, partition);
                elected.map_err(|code| CommandError::Refused(code.into()))?;
            }
        }
        self.settle(now, &mut outputs);
        Ok(outputs)
    }

    /// What the cluster looks like.
    pub fn view(&self) -> View {
        View::of(&self.state, self.connections.len(), self.parked.len())
    }

    /// The partition's batches as they are stored, from its log start on; `None` when there is no such partition.
    pub fn stored_batches(&self, topic: &str, partition: i32) -> Option<Vec<bytes::Bytes>> {
        let partition = self.state.topics.partition(topic, partition).ok()?;
        Some(partition.log.batches().map(|batch| batch.bytes.clone()).collect())
    }

    /// The largest frame a session may accept, `socket.request.max.bytes`.
    pub fn frame_bytes_max(&self) -> usize {
        usize::try_from(self.state.configs.broker_settings().socket_request_max_bytes).unwrap_or(0)
    }

    fn known(&self, node: NodeId) -> Result<(), CommandError> {
        self.state.nodes.get(node).map(|_| ()).ok_or(CommandError::UnknownBroker(node))
    }

    fn partition(&self, topic: &str, partition: i32) -> Result<&Partition, CommandError> {
        let unknown = |_| CommandError::UnknownPartition { topic: topic.to_owned(), partition };
        self.state.topics.partition(topic, partition).map_err(unknown)
    }

    fn replica(&self, topic: &str, partition: i32, node: NodeId) -> Result<(), CommandError> {
        self.known(node)?;
        if self.partition(topic, partition)?.replicas.contains(&node) {
            return Ok(());
        }
        Err(CommandError::NoReplica { node, topic: topic.to_owned(), partition })
    }

    fn move_leader(&mut self, now: Time, topic: &str, partition: i32, to: NodeId) -> Result<(), CommandError> {
        self.partition(topic, partition)?;
        let moved = self.state.move_leader(now, topic, partition, to);
        moved.ok_or_else(|| CommandError::NotInSync { node: to, topic: topic.to_owned(), partition })
    }

    fn crash(&mut self, now: Time, node: NodeId, power: bool, outputs: &mut Vec<Output>) -> Result<(), CommandError> {
        self.known(node)?;
        if !self.state.crash(now, node, power) {
            return Err(CommandError::NotRunning(node));
        }
        self.cut_off(node, if power { "lost its power" } else { "crashed" }, outputs);
        Ok(())
    }

    fn stop(&mut self, now: Time, node: NodeId, outputs: &mut Vec<Output>) -> Result<(), CommandError> {
        self.known(node)?;
        if !self.state.begin_stop(now, node) {
            return Err(CommandError::NotRunning(node));
        }
        // Whoever waits at this broker is told of the new leader before the connection goes.
        self.settle(now, outputs);
        self.state.finish_stop(now, node);
        self.cut_off(node, "stopped", outputs);
        Ok(())
    }

    fn cut_off(&mut self, node: NodeId, why: &str, outputs: &mut Vec<Output>) {
        outputs.push(Output::StopListening(node));
        let cut: Vec<_> = self.connections.iter().filter(|(_, at)| at.node == node).map(|(conn, _)| *conn).collect();
        for conn in cut {
            self.close(conn, format!("{node} {why}"), outputs);
        }
    }

    fn start(&mut self, now: Time, node: NodeId, outputs: &mut Vec<Output>) -> Result<(), CommandError> {
        self.known(node)?;
        if !self.state.start(now, node) {
            return Err(CommandError::Running(node));
        }
        outputs.push(Output::Listen(node));
        Ok(())
    }

    fn close(&mut self, conn: ConnId, reason: String, outputs: &mut Vec<Output>) {
        self.forget(conn);
        outputs.push(Output::Close { conn, reason });
    }

    fn forget(&mut self, conn: ConnId) {
        for ticket in self.parked.of_connection(conn) {
            self.parked.remove(ticket);
        }
        self.connections.remove(&conn);
    }

    /// Lets followers copy what is due by now, and answers who waited for it.
    fn replicate(&mut self, now: Time, outputs: &mut Vec<Output>) {
        if self.state.next_replication().is_some_and(|due| due <= now) {
            self.state.replicate(now);
            self.settle(now, outputs);
        }
    }

    /// Answers whoever need not wait any more.
    fn settle(&mut self, now: Time, outputs: &mut Vec<Output>) {
        for partition in self.state.take_changed() {
            for ticket in self.parked.on_partition(&partition) {
                self.resume(now, ticket, false, outputs);
            }
        }
        for (ticket, answer) in self.state.groups.take_answers() {
            self.answer_group(ticket, answer, outputs);
        }
        #[cfg(debug_assertions)]
        crate::invariants::check(&self.state);
    }

    /// Tries to answer a waiting request; when its time is up it is answered with what there is.
    fn resume(&mut self, now: Time, ticket: Ticket, time_is_up: bool, outputs: &mut Vec<Output>) {
        let Some(parked) = self.parked.get_mut(ticket) else { return };
        let response = match &mut parked.waiting {
            Waiting::Fetch(fetch) => handlers::resume_fetch(&mut self.state, now, fetch, time_is_up),
            Waiting::Produce(produce) => handlers::resume_produce(&self.state, produce, time_is_up),
            Waiting::Group(_) => None,
        };
        if let Some(response) = response {
            let conn = parked.conn;
            self.parked.remove(ticket);
            outputs.push(Output::Reply { conn, response: Some(Box::new(response)) });
        }
    }

    fn answer_group(&mut self, ticket: Ticket, answer: GroupAnswer, outputs: &mut Vec<Output>) {
        let Some(parked) = self.parked.remove(ticket) else {
            debug!(?ticket, "nobody waits for this answer of a group");
            return;
        };
        let response: Response = match parked.waiting {
            Waiting::Group(responder) => responder.respond(answer),
            Waiting::Fetch(_) | Waiting::Produce(_) => unreachable!("groups never hear of records"),
        };
        outputs.push(Output::Reply { conn: parked.conn, response: Some(Box::new(response)) });
    }
}
