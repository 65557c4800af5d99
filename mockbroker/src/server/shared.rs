//! The cluster behind its lock, with what a driver adds: a clock, and a mailbox for every connection.

use crate::cluster::{Cluster, Refused};
use crate::config::{ClusterConfig, ConfigError};
use crate::control::{Command, CommandError};
use crate::output::{ConnId, Frame, Output};
use crate::session::Incoming;
use crate::state::nodes::NodeId;
use crate::time::Time;
use crate::view::View;
use crate::wire::Response;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What all connections of a server share.
#[derive(Debug)]
pub(super) struct Shared {
    core: Mutex<Core>,
    clock: Clock,
    earlier: Notify,
}

#[derive(Debug)]
struct Core {
    cluster: Cluster,
    mailboxes: BTreeMap<ConnId, UnboundedSender<Delivery>>,
    /// When the keeper of time will wake; it is told when something becomes due before.
    armed: Option<Time>,
}

/// What the cluster has for a connection. At most one request is in hand, so a mailbox holds at most one of each.
#[derive(Debug)]
pub(super) enum Delivery {
    /// The answer to the request in hand.
    Answer(Option<Box<Response>>, Frame),
    /// The connection is to be closed.
    Close(String),
}

impl Shared {
    pub(super) fn new(config: &ClusterConfig) -> Result<Self, ConfigError> {
        let core = Core { cluster: Cluster::new(config)?, mailboxes: BTreeMap::new(), armed: None };
        Ok(Self { core: Mutex::new(core), clock: Clock::start(), earlier: Notify::new() })
    }

    pub(super) fn connect(
        &self,
        node: NodeId,
        client_host: String,
    ) -> Result<(ConnId, UnboundedReceiver<Delivery>, usize), Refused> {
        let mut core = self.lock();
        let conn = core.cluster.connect(node, client_host)?;
        let (sender, mailbox) = unbounded_channel();
        core.mailboxes.insert(conn, sender);
        Ok((conn, mailbox, core.cluster.frame_bytes_max()))
    }

    pub(super) fn handle(&self, conn: ConnId, request: Incoming) {
        let now = self.clock.now();
        self.step(|cluster| cluster.handle(now, conn, request));
    }

    pub(super) fn disconnect(&self, conn: ConnId) {
        let now = self.clock.now();
        self.lock().mailboxes.remove(&conn);
        self.step(|cluster| cluster.disconnect(now, conn));
    }

    /// Carries out a command; returns what remains for the listeners.
    pub(super) fn control(&self, command: Command) -> Result<Vec<Output>, CommandError> {
        let mut core = self.lock();
        let outputs = core.cluster.control(self.clock.now(), command)?;
        let rest = core.deliver(outputs);
        self.rearm(&mut core);
        Ok(rest)
    }

    pub(super) fn view(&self) -> View {
        self.lock().cluster.view()
    }

    pub(super) fn stored_batches(&self, topic: &str, partition: i32) -> Option<Vec<bytes::Bytes>> {
        self.lock().cluster.stored_batches(topic, partition)
    }

    /// Wakes the cluster whenever something is due; never returns.
    pub(super) async fn keep_time(&self) {
        loop {
            let due = {
                let mut core = self.lock();
                core.armed = core.cluster.next_wake();
                core.armed
            };
            match due {
                None => self.earlier.notified().await,
                Some(due) => {
                    let wait = tokio::time::sleep(due.since(self.clock.now()));
                    tokio::select! {
                        biased;
                        () = wait => {
                            let now = self.clock.now();
                            self.step(|cluster| cluster.wake(now));
                        }
                        () = self.earlier.notified() => {}
                    }
                }
            }
        }
    }

    fn step(&self, act: impl FnOnce(&mut Cluster) -> Vec<Output>) {
        let mut core = self.lock();
        let outputs = act(&mut core.cluster);
        let rest = core.deliver(outputs);
        debug_assert!(rest.is_empty(), "only commands start and stop brokers");
        self.rearm(&mut core);
    }

    fn rearm(&self, core: &mut Core) {
        let next = core.cluster.next_wake();
        if next.is_some_and(|next| core.armed.is_none_or(|armed| next < armed)) {
            core.armed = next;
            self.earlier.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        // A panic in the core is a bug that its own thread has reported; other connections go on.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    /// Puts answers into mailboxes; returns what is not for a connection.
    fn deliver(&mut self, outputs: Vec<Output>) -> Vec<Output> {
        let mut rest = Vec::new();
        for output in outputs {
            match output {
                Output::Reply { conn, response, frame } => self.put(conn, Delivery::Answer(response, frame)),
                Output::Close { conn, reason } => {
                    self.put(conn, Delivery::Close(reason));
                    self.mailboxes.remove(&conn);
                }
                listening @ (Output::StopListening(_) | Output::Listen(_)) => rest.push(listening),
            }
        }
        rest
    }

    fn put(&mut self, conn: ConnId, delivery: Delivery) {
        if let Some(mailbox) = self.mailboxes.get(&conn) {
            // The connection may be closing at this moment; then nobody wants it any more.
            let _ = mailbox.send(delivery);
        }
    }
}

/// Wall-clock time that never goes back.
#[derive(Debug, Clone, Copy)]
struct Clock {
    epoch: Time,
    started: Instant,
}

impl Clock {
    fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self { epoch: Time::ZERO + since_epoch, started: Instant::now() }
    }

    fn now(&self) -> Time {
        self.epoch + self.started.elapsed()
    }
}
