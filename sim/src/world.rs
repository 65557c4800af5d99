//! What exists in a running simulation – nodes, links, the cluster – and the one way to change it.

use crate::drive::witness::Witness;
use crate::history::Event;
use crate::host::{self, Brokers};
use rehearsal_mockbroker::cluster::Cluster;
use rehearsal_mockbroker::control::{Command, CommandError};
use rehearsal_mockbroker::state::nodes::NodeId;
use rehearsal_mockbroker::stored::StoredRecord;
use rehearsal_mockbroker::view::View;
use rehearsal_sim_kernel::front;
pub use rehearsal_sim_kernel::machine::MessageKind;
use rehearsal_sim_kernel::machine::{self, Latency, Moment, Node, ServiceId, ServiceNet};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// What a node runs: called when it starts, and again when it restarts after a crash.
pub type Main = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()>>> + Send + Sync>;

/// The tokio runtime a node's main runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// One thread does everything.
    CurrentThread,
    /// So many worker threads.
    MultiThread(usize),
}

/// A running simulation. Its nodes go by their names; brokers are `broker-1`, `broker-2` ….
///
/// Its methods take no virtual time, and work on any thread of the simulation.
///
/// # Panics
/// Methods that take a node's name panic when there is no such node: that ends the run and names it.
#[derive(Clone)]
pub struct World {
    brokers: Option<ServiceId>,
    services: Arc<BTreeMap<String, ServiceNode>>,
}

pub(crate) struct ServiceNode {
    pub(crate) main: Main,
    pub(crate) runtime: Runtime,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("nodes", &self.services.keys()).finish_non_exhaustive()
    }
}

/// How long the simulation this thread is part of has run, in virtual time.
pub(crate) fn now() -> Duration {
    front::kernel(|kernel, _| kernel.now()).since(Moment::START)
}

/// Something the network carried, in virtual time since the beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// When it was sent, or sent again.
    pub sent: Duration,
    /// When it arrived, later where a cut held it.
    pub arrived: Duration,
    /// The node it came from.
    pub from: String,
    /// The node it went to.
    pub to: String,
    /// What it was.
    pub kind: MessageKind,
}

impl World {
    pub(crate) fn new(brokers: Option<ServiceId>, services: BTreeMap<String, ServiceNode>) -> Self {
        Self { brokers, services: Arc::new(services) }
    }

    /// How long the simulation has run, in virtual time.
    pub fn elapsed(&self) -> Duration {
        now()
    }

    /// The names of the nodes that run a program, in order.
    pub fn programs(&self) -> impl Iterator<Item = &str> {
        self.services.keys().map(String::as_str)
    }

    /// Whether there is a node of this name.
    pub fn has(&self, name: &str) -> bool {
        front::kernel(|kernel, _| kernel.node_named(name)).is_some()
    }

    fn node(&self, name: &str) -> Node {
        let node = front::kernel(|kernel, _| kernel.node_named(name));
        node.unwrap_or_else(|| {
            panic!("there is no node '{name}'; there are the brokers, and {:?}", self.services.keys())
        })
    }

    fn service_of(&self, name: &str) -> &ServiceNode {
        let service = self.services.get(name);
        service.unwrap_or_else(|| panic!("node '{name}' runs no program; those that do are {:?}", self.services.keys()))
    }

    /// Nothing gets from either node to the other any more. What is sent is held, as TCP would send it again.
    pub fn cut(&self, a: &str, b: &str) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Nothing gets from one node to the other any more; the other way stays.
    pub fn cut_one_way(&self, from: &str, to: &str) {
        let (from, to) = (self.node(from), self.node(to));
        front::kernel(|kernel, _| kernel.cut(from, to));
    }

    /// Both ways work again. What was held arrives 200 to 600 ms from now, with the next retransmission.
    pub fn heal(&self, a: &str, b: &str) {
        let (a, b) = (self.node(a), self.node(b));
        front::kernel(|kernel, _| {
            kernel.heal(a, b);
            kernel.heal(b, a);
        });
    }

    /// What one node sends gets to the other again; the way back stays as it is.
    pub fn heal_one_way(&self, from: &str, to: &str) {
        let (from, to) = (self.node(from), self.node(to));
        front::kernel(|kernel, _| kernel.heal(from, to));
    }

    /// Packets from one node to another travel as long as they do between any two again.
    pub fn reset_latency(&self, from: &str, to: &str) {
        let Latency { base, jitter } = Latency::NETWORK;
        self.set_latency(from, to, base, jitter);
    }

    /// Sets how long packets from one node to another travel: `base`, and up to `jitter` more.
    pub fn set_latency(&self, from: &str, to: &str, base: Duration, jitter: Duration) {
        let (from, to) = (self.node(from), self.node(to));
        front::kernel(|kernel, _| kernel.set_latency(from, to, Latency { base, jitter }));
    }

    /// Resets every connection between two nodes.
    pub fn reset(&self, a: &str, b: &str) {
        let (a, b) = (self.node(a), self.node(b));
        front::kernel(|kernel, _| kernel.reset_connections(a, b));
    }

    /// Starts a node's program.
    pub(crate) fn start(&self, name: &str) {
        let ServiceNode { main, runtime } = self.service_of(name);
        let (main, runtime, node) = (Arc::clone(main), *runtime, self.node(name));
        let thread = std::thread::Builder::new().name(name.to_owned());
        let name = name.to_owned();
        let started = front::on_node(node, || thread.spawn(move || run_node(&name, &main, runtime)));
        if let Err(error) = started {
            front::fail(format_args!("no thread for a node: {error}\n"));
        }
    }

    /// A node's program dies at once: its threads never run again, its connections are reset.
    pub fn crash(&self, name: &str) {
        self.service_of(name);
        let node = self.node(name);
        front::kernel(|kernel, _| kernel.crash(node));
    }

    /// A crashed node's program starts again.
    pub fn restart(&self, name: &str) {
        let node = self.node(name);
        front::kernel(|kernel, _| kernel.restart(node));
        self.start(name);
    }

    /// A node stands still, as in a long garbage collection or on a stopped machine; its connections stay. Works for
    /// brokers too: they answer nothing meanwhile.
    pub fn pause(&self, name: &str) {
        let node = self.node(name);
        front::kernel(|kernel, _| kernel.pause(node));
    }

    /// A paused node goes on.
    pub fn resume(&self, name: &str) {
        let node = self.node(name);
        front::kernel(|kernel, _| kernel.resume(node));
    }

    /// Whether a node is neither crashed nor paused.
    pub fn runs(&self, name: &str) -> bool {
        let node = self.node(name);
        front::kernel(|kernel, _| kernel.runs(node))
    }

    /// Sets how far a node's wall clock is off, in milliseconds; positive is ahead. Its monotonic clock stays true.
    pub fn skew_clock(&self, name: &str, millis: i64) {
        let node = self.node(name);
        front::kernel(|kernel, _| kernel.skew_wall_clock(node, millis.saturating_mul(1_000_000)));
    }

    /// A broker's process dies: connections to it are reset, new ones refused, leaders move. See [`Command::Crash`].
    ///
    /// # Errors
    /// There is no such broker, or it does not run.
    pub fn crash_broker(&self, id: i32) -> Result<(), CommandError> {
        self.control(Command::Crash(NodeId(id)))
    }

    /// A crashed broker starts again, at its old address. See [`Command::Start`].
    ///
    /// # Errors
    /// There is no such broker, or it runs.
    pub fn start_broker(&self, id: i32) -> Result<(), CommandError> {
        self.control(Command::Start(NodeId(id)))
    }

    /// Carries out any command on the cluster.
    ///
    /// # Errors
    /// The command is impossible; nothing has changed.
    pub fn control(&self, command: Command) -> Result<(), CommandError> {
        self.with_brokers(|brokers, net| brokers.control(net, command))
    }

    /// What the cluster looks like now.
    pub fn view(&self) -> View {
        self.cluster(|cluster| cluster.view())
    }

    /// The records of a partition as stored, oldest first: the ground truth. `None` when there is no such partition.
    pub fn records(&self, topic: &str, partition: i32) -> Option<Vec<StoredRecord>> {
        self.cluster(|cluster| cluster.records(topic, partition))
    }

    /// What the network carried since the beginning or the last call, in the order of arrival, with the names of its
    /// nodes; nothing unless [`Config::record_messages`](rehearsal_sim_kernel::config::Config::record_messages) is set.
    pub fn take_messages(&self) -> Vec<Message> {
        front::kernel(|kernel, _| {
            let carried = kernel.take_messages().into_iter();
            let named = carried.map(|machine::Message { sent, arrived, from, to, kind }| Message {
                sent: sent.since(Moment::START),
                arrived: arrived.since(Moment::START),
                from: kernel.name_of(from).to_owned(),
                to: kernel.name_of(to).to_owned(),
                kind,
            });
            named.collect()
        })
    }

    /// The cluster itself, to plan faults and to read. What makes it answer somebody goes through [`Self::control`].
    pub(crate) fn cluster<R>(&self, act: impl FnOnce(&mut Cluster) -> R) -> R {
        self.with_brokers(|brokers, _| act(brokers.cluster()))
    }

    /// From now on this one writes down what the brokers do.
    pub(crate) fn watch_brokers(&self, witness: Witness) {
        self.with_brokers(|brokers, _| brokers.watch(witness));
    }

    /// What was written down so far.
    pub(crate) fn take_seen(&self) -> Vec<Event> {
        self.with_brokers(|brokers, _| brokers.take_seen())
    }

    /// When this group's members last agreed on who has what, if anybody writes that down.
    pub(crate) fn formed(&self, group: &str) -> Option<Duration> {
        self.with_brokers(|brokers, _| brokers.formed(group))
    }

    fn with_brokers<R>(&self, act: impl FnOnce(&mut Brokers, &mut ServiceNet<'_>) -> R) -> R {
        let service = self.brokers.expect("the simulation has no Kafka cluster; ask for one with `Setup::kafka`");
        let result = front::kernel(|kernel, _| kernel.with_service(service, act));
        result.expect("the cluster is not being called while a program runs")
    }

    /// At this time after the beginning – at once, if that is past –, this happens; on a thread of its own.
    pub fn at(&self, time: Duration, action: impl FnOnce(&Self) + Send + 'static) {
        let world = self.clone();
        let act = move || {
            crate::check::sleep_until(&world, time);
            action(&world);
        };
        let thread = std::thread::Builder::new().name(format!("at {time:?}"));
        if let Err(error) = front::on_node(Node::CONTROL, || thread.spawn(act)) {
            front::fail(format_args!("no thread for an action: {error}\n"));
        }
    }

    /// Ends every fault: links heal, paused nodes go on, crashed programs and brokers start again, clocks are right.
    pub fn heal_all(&self) {
        let programs: Vec<String> = self.programs().map(str::to_owned).collect();
        let brokers: Vec<_> = match self.brokers {
            Some(_) => self.view().brokers.iter().map(|broker| (broker.id, broker.running)).collect(),
            None => Vec::new(),
        };
        let all: Vec<String> =
            programs.iter().cloned().chain(brokers.iter().map(|(id, _)| host::name_of(*id))).collect();
        for (place, a) in all.iter().enumerate() {
            self.resume(a);
            self.skew_clock(a, 0);
            for b in &all[place + 1..] {
                self.heal(a, b);
            }
        }
        for (id, running) in brokers {
            if !running {
                // It does not run, so it can be started.
                let _ = self.control(Command::Start(id));
            }
        }
        for program in &programs {
            if !self.runs(program) {
                self.restart(program);
            }
        }
    }
}

/// Makes what all tokio runtimes of a process share – with its feature `signal`, a pipe – belong to no node: made by the
/// first that starts, it would be gone with that node's first crash.
pub(crate) fn share_signal_pipe() {
    drop(tokio::runtime::Builder::new_current_thread().enable_all().build());
}

/// A node's first thread.
fn run_node(name: &str, main: &Main, runtime: Runtime) {
    let mut builder = match runtime {
        Runtime::CurrentThread => tokio::runtime::Builder::new_current_thread(),
        Runtime::MultiThread(workers) => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(workers.max(1));
            builder
        }
    };
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| match builder.enable_all().build() {
        Ok(runtime) => runtime.block_on(main()),
        Err(error) => panic!("no tokio runtime: {error}"),
    }));
    if let Err(panic) = outcome {
        front::fail(format_args!("node '{name}' panicked: {}\n", crate::check::panic_text(panic.as_ref())));
    }
}
