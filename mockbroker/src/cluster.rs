//! The whole core API: a cluster of brokers as one deterministic state machine.

mod admission;
mod commands;
mod throttle;

pub use admission::Admission;

use crate::config::{ClusterConfig, ConfigError};
use crate::control::{Command, CommandError};
use crate::error::Reject;
use crate::fault::{
    Arrival, Departure, Fault, FaultId, FaultView, Faults, ImpossibleFault, Part, Refusals, Requests, put_error,
};
use crate::handlers::{self, Answer, Waiting};
use crate::held::{Held, KeptBack, Until};
use crate::journal::{Journal, ReceivedRequest};
use crate::output::{ConnId, Frame, Output};
use crate::parked::{Parked, ParkedRequest, Ticket};
use crate::session::{Incoming, Session};
use crate::state::State;
use crate::state::groups::{CommittedOffset, ConsumerGroupView, GroupAnswer, GroupView};
use crate::state::nodes::NodeId;
use crate::state::topics::Partition;
use crate::stored::{self, StoredRecord};
use crate::time::Time;
use crate::view::{ProducerView, View};
use crate::wire::{ApiKey, Response, Str};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tracing::debug;

/// A cluster of brokers. It is told what time it is, who connected and what was asked; it returns what a driver must
/// carry out. It opens nothing, spawns nothing and reads no clock.
///
/// Equal configs, times and requests give equal outputs.
#[derive(Debug)]
pub struct Cluster {
    config: ClusterConfig,
    state: State,
    connections: BTreeMap<ConnId, Connection>,
    parked: Parked,
    kept_back: KeptBack,
    paused: BTreeSet<NodeId>,
    faults: Faults,
    journal: Journal,
    /// How far the cluster's time is ahead of the driver's, see [`Command::Advance`].
    ahead: Duration,
    /// When connections are looked at that may have been silent for too long, in the driver's time.
    idle_check_at: Option<Time>,
    last_connection: u64,
    last_ticket: u64,
    /// What a refused command found due and could not hand out with its error.
    undelivered: Vec<Output>,
}

/// Who is connected to which broker.
#[derive(Debug, Clone)]
struct Connection {
    node: NodeId,
    client_host: String,
    client_id: Str,
    in_hand: Option<InHand>,
    /// When it was used last, in the driver's time; `None` where nobody keeps count.
    active_at: Option<Time>,
    /// The next request is not looked at before (KIP-219).
    muted_until: Option<Time>,
}

/// The request that is to be answered next.
#[derive(Debug, Clone)]
struct InHand {
    ticket: Ticket,
    api: ApiKey,
    version: i16,
    /// How large it was, its length field not counted.
    bytes: usize,
    /// Faults that concern the answer.
    later: Vec<FaultId>,
}

/// Who asks, as handlers see it.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The broker that was asked.
    pub(crate) node: NodeId,
    /// Who the client is, as its quotas see it.
    pub(crate) user: Str,
    /// The client's id, as it says.
    pub(crate) client_id: Str,
    /// The client's address in Kafka's form, e.g. `/127.0.0.1`.
    pub(crate) client_host: String,
    /// The version of the request.
    pub(crate) version: i16,
    /// Names this request, should it wait.
    pub(crate) ticket: Ticket,
    refusals: Refusals,
}

impl Caller {
    /// Refuses if a fault was planned for this part of the request. Handlers that change something, or that wait, ask
    /// this before they do.
    pub(crate) fn check_fault(&self, part: Part<'_>) -> Result<(), Reject> {
        self.refusals.check(part)
    }

    /// Whether no fault refuses this part, for handlers that leave it to others to say so.
    pub(crate) fn is_spared(&self, part: Part<'_>) -> bool {
        self.refusals.spare(part)
    }
}

/// Bytes of a frame's length field.
const LENGTH_BYTES: usize = 4;

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
            kept_back: KeptBack::default(),
            paused: BTreeSet::new(),
            faults: Faults::new(config.seed),
            journal: Journal::new(config.requests_kept),
            ahead: Duration::ZERO,
            idle_check_at: None,
            last_connection: 0,
            last_ticket: 0,
            undelivered: Vec::new(),
            config: config.clone(),
        })
    }

    /// Somebody connected to a broker. `client_host` is the address as `DescribeGroups` shows it, e.g. `/127.0.0.1`.
    pub fn connect(&mut self, node: NodeId, client_host: impl Into<String>) -> Result<ConnId, Refused> {
        if !self.state.nodes.is_running(node) {
            return Err(Refused(node));
        }
        self.last_connection += 1;
        let conn = ConnId(self.last_connection);
        let client_host = client_host.into();
        let connection = Connection {
            node,
            client_host,
            client_id: Str::default(),
            in_hand: None,
            active_at: None,
            muted_until: None,
        };
        self.connections.insert(conn, connection);
        Ok(conn)
    }

    /// A request arrived. A connection has at most one request in hand: the next is passed when this one is answered,
    /// as Kafka does by muting the channel.
    pub fn handle(&mut self, now: Time, conn: ConnId, request: Incoming) -> Vec<Output> {
        self.note_use(now, conn);
        let now = now + self.ahead;
        let Some(connection) = self.connections.get_mut(&conn) else { return Vec::new() };
        self.last_ticket += 1;
        connection.client_id = request.client_id.clone();
        let frame_bytes = request.frame_bytes;
        let request = Arc::new(ReceivedRequest {
            number: self.last_ticket,
            at: now,
            node: connection.node,
            conn,
            client_id: request.client_id,
            client_host: connection.client_host.clone(),
            version: request.version,
            body: request.body,
        });
        if self.journal.is_on() {
            self.journal.note(Arc::clone(&request), frame_bytes);
        }
        let mut outputs = std::mem::take(&mut self.undelivered);
        self.replicate(now, &mut outputs);
        self.admit(now, request, frame_bytes, &mut outputs);
        self.settle(now, &mut outputs);
        outputs
    }

    /// A connection is gone. What it waited for is forgotten, but not what it asked: a broker finishes what it has
    /// received. A group keeps its member until the session expires.
    pub fn disconnect(&mut self, now: Time, conn: ConnId) -> Vec<Output> {
        let now = now + self.ahead;
        self.forget(conn);
        let mut outputs = std::mem::take(&mut self.undelivered);
        self.settle(now, &mut outputs);
        outputs
    }

    /// Time passed: call this at [`Cluster::next_wake`], or later.
    pub fn wake(&mut self, now: Time) -> Vec<Output> {
        let mut outputs = std::mem::take(&mut self.undelivered);
        self.close_idle(now, &mut outputs);
        let now = now + self.ahead;
        self.pass_time(now, &mut outputs);
        self.settle(now, &mut outputs);
        outputs
    }

    /// When something happens by itself: a waiting fetch runs out of time, a member's session expires, a delayed
    /// answer is due.
    pub fn next_wake(&self) -> Option<Time> {
        let deadlines = [
            self.parked.next_deadline(),
            self.state.groups.next_deadline(),
            self.state.next_transaction_deadline(),
            self.state.next_producer_cleanup(),
            self.state.next_replication(),
            self.state.next_upkeep(),
            self.kept_back.next_deadline(),
            self.idle_check_at.map(|at| at + self.ahead),
            (!self.undelivered.is_empty()).then_some(Time::ZERO + self.ahead),
        ];
        deadlines.into_iter().flatten().min().map(|at| at - self.ahead)
    }

    // ---- faults ----

    /// Plans a fault; from the next request on it happens as it says.
    ///
    /// # Errors
    /// It can never happen: what it names does not exist or is not served. Nothing is planned then.
    pub fn plan(&mut self, fault: Fault) -> Result<FaultId, ImpossibleFault> {
        self.faults.plan(fault, &self.state)
    }

    /// The faults that are planned, with their hits.
    pub fn faults(&self) -> Vec<FaultView> {
        self.faults.view(|id| self.kept_back.held_by(id))
    }

    /// How often a fault has happened; `None` when it is not planned (any more).
    pub fn hits(&self, fault: FaultId) -> Option<u64> {
        self.faults.hits(fault)
    }

    /// The requests that arrived and are still kept, oldest first; see [`ClusterConfig::requests_kept`].
    pub fn requests<'a>(&'a self, which: &'a Requests) -> impl Iterator<Item = &'a Arc<ReceivedRequest>> {
        let skip = usize::try_from(which.skip).unwrap_or(usize::MAX);
        self.journal.iter().filter(|request| which.covers(request, &self.state)).skip(skip)
    }

    /// The most recent `count` requests, oldest first.
    pub fn last_requests(&self, count: usize) -> impl Iterator<Item = &Arc<ReceivedRequest>> {
        self.journal.last(count)
    }

    /// How many requests were kept once and are not any more.
    pub fn requests_dropped(&self) -> u64 {
        self.journal.dropped()
    }

    /// Whether a fault has happened as often as it was to, so that it never will again.
    pub fn is_spent(&self, fault: FaultId) -> bool {
        self.faults.is_spent(fault)
    }

    /// Why a fault cannot have happened so often, ever; `None` when it can.
    pub fn cannot_happen(&self, fault: FaultId, times: u64) -> Option<String> {
        let Some(hits) = self.hits(fault) else { return Some("it is not planned any more".into()) };
        let most = self.faults.hits_max(fault).filter(|most| *most < times)?;
        let so_far = if most == hits { "and has" } else { "at most" };
        Some(format!("it happens {} {so_far}", if most == 1 { "once".into() } else { format!("{most} times") }))
    }

    /// Why a fault holds nothing and never will; `None` when it can.
    pub fn cannot_hold(&self, fault: FaultId) -> Option<String> {
        if self.hits(fault).is_none() {
            Some("it is not planned any more".into())
        } else if !self.faults.is_hold(fault) {
            Some("it is no fault that holds; say `.hold()` or `.hold_answer()`".into())
        } else if self.is_spent(fault) && self.kept_back.held_by(fault) == 0 {
            Some("what it held is released".into())
        } else {
            None
        }
    }

    /// Whether requests like these can arrive at all.
    ///
    /// # Errors
    /// They name what does not exist or is not served.
    pub fn check_requests(&self, which: &Requests) -> Result<(), ImpossibleFault> {
        which.check(&self.state, &|| which.to_string())
    }

    // ---- what a test can see beside the view ----

    /// A group of the consumer protocol as it is now; `None` when there is none of this name.
    pub fn consumer_group(&self, id: &str) -> Option<ConsumerGroupView> {
        self.state.groups.describe_consumer(id).ok()
    }

    /// A classic group as it is now; `None` when there is none of this name.
    pub fn group(&self, id: &str) -> Option<GroupView> {
        self.state.groups.describe(id).ok()
    }

    /// What a group has committed for a partition.
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        let id = self.state.topics.get(topic)?.id;
        self.state.groups.offset(group, topic, id, partition)
    }

    /// Everything a group has committed: topic, partition, offset.
    pub fn committed_offsets<'a>(
        &'a self,
        group: &'a str,
    ) -> impl Iterator<Item = (&'a str, i32, &'a CommittedOffset)> {
        let topics = self.state.groups.offsets(group);
        topics
            .flat_map(|(topic, partitions)| partitions.iter().map(move |(index, committed)| (topic, *index, committed)))
    }

    /// The partition of the offsets topic a group falls on.
    pub fn coordinator_partition(&self, group: &str) -> i32 {
        self.state.coordinator_partition(group)
    }

    /// The idempotent producers a partition remembers, by producer id.
    pub fn producers(&self, topic: &str, partition: i32) -> Vec<ProducerView> {
        let found = self.partition(topic, partition);
        found.map(|partition| partition.producers.iter().map(ProducerView::of).collect()).unwrap_or_default()
    }

    /// Why there is no such topic or partition and will be none unless somebody creates it; `None` when there is, or
    /// when writing to it creates it.
    pub fn lacks(&self, topic: &str, partition: Option<i32>) -> Option<String> {
        match self.state.topics.get(topic) {
            None if self.state.configs.broker_settings().auto_create_topics => None,
            None => Some(format!("there is no topic '{topic}', and none is created on demand")),
            Some(found) => match partition {
                Some(index) if found.partition(index).is_none() => {
                    Some(format!("the last partition of topic '{topic}' is {}", found.partitions.len() - 1))
                }
                _ => None,
            },
        }
    }

    /// Decides what becomes of a request that arrived.
    fn admit(&mut self, now: Time, request: Arc<ReceivedRequest>, frame_bytes: usize, outputs: &mut Vec<Output>) {
        let ticket = request.ticket();
        let verdict =
            if self.faults.is_empty() { Default::default() } else { self.faults.judge(&request, &self.state) };
        let muted_until = match self.connections.get_mut(&request.conn) {
            None => None,
            Some(connection) => {
                connection.in_hand = Some(InHand {
                    ticket,
                    api: request.api(),
                    version: request.version,
                    bytes: frame_bytes.saturating_sub(LENGTH_BYTES),
                    later: verdict.later,
                });
                connection.muted_until.take().filter(|until| *until > now)
            }
        };
        let until = match verdict.arrival {
            Arrival::Disconnects => {
                return self.close(request.conn, "a planned fault closed the connection".into(), outputs);
            }
            Arrival::Ignored => return,
            Arrival::Held(fault) => Some(Until::Released(fault)),
            Arrival::Waits(by) => Some(Until::Time(muted_until.unwrap_or(now).max(now) + by)),
            Arrival::Proceeds if self.paused.contains(&request.node) => Some(Until::Resumed(request.node)),
            Arrival::Proceeds => muted_until.map(Until::Time),
        };
        match until {
            Some(until) => self.kept_back.keep(ticket, until, Held::Request { request, refusals: verdict.refusals }),
            None => self.execute(now, request, verdict.refusals, outputs),
        }
    }

    /// The broker looks at a request. Its connection may be gone by now.
    fn execute(&mut self, now: Time, request: Arc<ReceivedRequest>, refusals: Refusals, outputs: &mut Vec<Output>) {
        let (conn, ticket) = (request.conn, request.ticket());
        let caller = Caller {
            node: request.node,
            user: self.connections.get(&conn).map(Connection::user).unwrap_or_default(),
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            version: request.version,
            ticket,
            refusals,
        };
        let body = Arc::try_unwrap(request).map_or_else(|shared| shared.body.clone(), |request| request.body);
        match handlers::answer(&mut self.state, now, &caller, body) {
            Answer::Now(mut response) => {
                for refusal in caller.refusals.left_to_do() {
                    let (topic, partition) = (refusal.topic.as_deref(), refusal.partition);
                    let name = refusal.name.as_deref();
                    let code = refusal.code;
                    if put_error(&mut response, caller.version, code, topic, partition, name, &self.state) == 0 {
                        self.faults.take_back(refusal.fault);
                    }
                }
                self.reply(now, conn, ticket, Some(response), outputs);
            }
            Answer::Nothing => self.reply(now, conn, ticket, None, outputs),
            Answer::Close(reason) => self.close(conn, reason, outputs),
            Answer::Park { deadline, partitions, waiting } => {
                self.parked.park(ticket, ParkedRequest { conn, deadline, partitions, waiting });
            }
        }
    }

    /// An answer is ready. Faults may still keep it, change it or lose it.
    fn reply(
        &mut self,
        now: Time,
        conn: ConnId,
        ticket: Ticket,
        mut response: Option<Box<Response>>,
        outputs: &mut Vec<Output>,
    ) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        let Some(in_hand) = connection.in_hand.take_if(|in_hand| in_hand.ticket == ticket) else { return };
        let node = connection.node;
        if !self.state.quotas.is_empty() {
            let throttle = self.state.throttle(now, connection, &in_hand, &mut response);
            connection.mute(now, throttle);
        }
        connection.active_at = connection.active_at.map(|_| now - self.ahead);
        let mut frame = Frame::Whole;
        let mut until = self.paused.contains(&node).then_some(Until::Resumed(node));
        if !in_hand.later.is_empty() {
            let leaving = self.faults.see_off(&in_hand.later, in_hand.version, &mut response, &self.state);
            frame = leaving.frame;
            connection.mute(now, leaving.mute);
            match leaving.departure {
                Departure::Proceeds => {}
                Departure::Waits(by) => until = Some(Until::Time(now + by)),
                Departure::Held(fault) => until = Some(Until::Released(fault)),
                Departure::Disconnects => {
                    return self.close(conn, "a planned fault closed the connection".into(), outputs);
                }
                Departure::Swallowed => return,
            }
        }
        match until {
            Some(until) => self.kept_back.keep(ticket, until, Held::Answer { conn, response, frame }),
            None => self.send(conn, response, frame, outputs),
        }
    }

    fn send(&mut self, conn: ConnId, response: Option<Box<Response>>, frame: Frame, outputs: &mut Vec<Output>) {
        outputs.push(Output::Reply { conn, response, frame });
        if frame == Frame::CutShort {
            self.close(conn, "a planned fault cut an answer short".into(), outputs);
        }
    }

    /// Lets go of what need not be kept back any longer.
    fn let_go(&mut self, now: Time, over: impl FnMut(Until) -> bool, outputs: &mut Vec<Output>) {
        for (ticket, held) in self.kept_back.take(over) {
            if let Some(node) = self.frozen(&held) {
                // Its time is up, or its fault released, but the broker does nothing until it goes on.
                self.kept_back.keep(ticket, Until::Resumed(node), held);
                continue;
            }
            match held {
                Held::Request { request, refusals } => self.execute(now, request, refusals, outputs),
                Held::Answer { conn, response, frame } if self.connections.contains_key(&conn) => {
                    self.send(conn, response, frame, outputs);
                }
                Held::Answer { .. } => {}
            }
        }
    }

    /// The broker that has this in hand, if it is paused.
    fn frozen(&self, held: &Held) -> Option<NodeId> {
        let node = match held {
            Held::Request { request, .. } => request.node,
            Held::Answer { conn, .. } => self.connections.get(conn)?.node,
        };
        self.paused.contains(&node).then_some(node)
    }

    fn pass_time(&mut self, now: Time, outputs: &mut Vec<Output>) {
        self.replicate(now, outputs);
        self.let_go(now, |until| matches!(until, Until::Time(at) if at <= now), outputs);
        for ticket in self.parked.due(now) {
            self.resume(now, ticket, true, outputs);
        }
        self.state.groups.expire(now);
        self.state.expire_transactions(now, &self.paused);
        self.state.expire_producers(now);
        if self.state.next_upkeep().is_some_and(|due| due <= now) {
            self.state.keep_up(now);
        }
    }

    /// Changes the cluster from outside.
    ///
    /// # Errors
    /// The command names what does not exist, or asks for what Kafka would refuse; nothing has changed then.
    pub fn control(&mut self, now: Time, command: Command) -> Result<Vec<Output>, CommandError> {
        let now = now + self.ahead;
        let mut outputs = std::mem::take(&mut self.undelivered);
        self.replicate(now, &mut outputs);
        match self.carry_out(now, command, &mut outputs) {
            Ok(now) => {
                self.settle(now, &mut outputs);
                Ok(outputs)
            }
            Err(impossible) => {
                // Answers that became due meanwhile go out with the next step, which `next_wake` asks for at once.
                self.undelivered = outputs;
                Err(impossible)
            }
        }
    }

    /// Empties the cluster: no topics but those it was configured with, no groups, no faults, no requests. Every
    /// connection closes, every broker runs. Addresses and time stay.
    ///
    /// # Errors
    /// As [`Cluster::new`].
    pub fn reset(&mut self, now: Time) -> Result<Vec<Output>, ConfigError> {
        let mut fresh = Self::new(&self.config)?;
        fresh.ahead = self.ahead;
        fresh.last_connection = self.last_connection;
        fresh.last_ticket = self.last_ticket;
        fresh.faults.begin_after(&self.faults);
        let mut outputs = std::mem::take(&mut self.undelivered);
        for node in self.state.nodes.iter() {
            fresh.state.nodes.advertise(node.id, node.host.clone(), node.port);
            if !node.running {
                outputs.push(Output::Listen(node.id));
            }
        }
        for conn in self.connections.keys() {
            outputs.push(Output::Close { conn: *conn, reason: "the cluster was reset".into() });
        }
        *self = fresh;
        self.settle(now + self.ahead, &mut outputs);
        Ok(outputs)
    }

    /// What the cluster looks like.
    pub fn view(&self) -> View {
        View::of(
            &self.state,
            self.connections.len(),
            self.parked.len() + self.kept_back.len(),
            self.paused.iter().copied().collect(),
            self.faults(),
        )
    }

    /// A topic's partitions, by index; none when there is no such topic.
    pub fn partitions(&self, topic: &str) -> &[Partition] {
        self.state.topics.get(topic).map_or(&[], |topic| &topic.partitions)
    }

    /// A partition; `None` when there is no such partition.
    pub fn partition(&self, topic: &str, partition: i32) -> Option<&Partition> {
        self.state.topics.partition(topic, partition).ok()
    }

    /// The records of a partition, oldest first; `None` when there is no such partition.
    pub fn records(&self, topic: &str, partition: i32) -> Option<Vec<StoredRecord>> {
        Some(stored::records(partition, self.partition(topic, partition)?))
    }

    /// The records of a topic, by partition and offset; none when there is no such topic.
    pub fn all_records(&self, topic: &str) -> Vec<StoredRecord> {
        (0..).zip(self.partitions(topic)).flat_map(|(index, partition)| stored::records(index, partition)).collect()
    }

    /// The partition's batches as they are stored, from its log start on; `None` when there is no such partition.
    pub fn stored_batches(&self, topic: &str, partition: i32) -> Option<Vec<bytes::Bytes>> {
        let partition = self.partition(topic, partition)?;
        Some(partition.log.batches().map(|batch| batch.bytes.clone()).collect())
    }

    /// A session for a new connection: frames up to `socket.request.max.bytes`, versions of the configured release.
    pub fn session(&self) -> Session {
        let frame_bytes_max = usize::try_from(self.state.configs.broker_settings().socket_request_max_bytes);
        Session::new(frame_bytes_max.unwrap_or(0)).limited_to(self.state.features.release())
    }

    fn close(&mut self, conn: ConnId, reason: String, outputs: &mut Vec<Output>) {
        self.forget(conn);
        outputs.push(Output::Close { conn, reason });
    }

    fn forget(&mut self, conn: ConnId) {
        for ticket in self.parked.of_connection(conn) {
            self.parked.remove(ticket);
        }
        self.kept_back.forget_answers(conn);
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
        self.state.finish_transactions(now, &self.paused);
        for partition in self.state.take_changed() {
            for ticket in self.parked.on_partition(&partition) {
                self.resume(now, ticket, false, outputs);
            }
        }
        for (ticket, answer) in self.state.groups.take_answers() {
            self.answer_group(now, ticket, answer, outputs);
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
            self.reply(now, conn, ticket, Some(Box::new(response)), outputs);
        }
    }

    fn answer_group(&mut self, now: Time, ticket: Ticket, answer: GroupAnswer, outputs: &mut Vec<Output>) {
        let Some(parked) = self.parked.remove(ticket) else {
            debug!(?ticket, "nobody waits for this answer of a group");
            return;
        };
        let response: Response = match parked.waiting {
            Waiting::Group(responder) => responder.respond(answer),
            Waiting::Fetch(_) | Waiting::Produce(_) => unreachable!("groups never hear of records"),
        };
        self.reply(now, parked.conn, ticket, Some(Box::new(response)), outputs);
    }
}
