//! The cluster behind its lock, with what a driver adds: a clock, a mailbox for every connection, and whoever waits for
//! something to become true.

use crate::cluster::{Admission, Cluster, Peer, Refused};
use crate::config::{ClusterConfig, ConfigError};
use crate::control::{Command, CommandError};
use crate::output::{ConnId, Frame, Output};
use crate::session::{Incoming, Session};
use crate::state::nodes::NodeId;
use crate::time::Time;
use crate::wire::Response;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What all connections of a server share.
#[derive(Debug)]
pub(crate) struct Shared {
    core: Mutex<Core>,
    clock: Clock,
    earlier: Notify,
    /// A connection has gone.
    freed: Notify,
}

#[derive(Debug)]
struct Core {
    cluster: Cluster,
    mailboxes: BTreeMap<ConnId, UnboundedSender<Delivery>>,
    watchers: Vec<Box<dyn Watcher>>,
    /// When the keeper of time will wake; it is told when something becomes due before.
    armed: Option<Time>,
    /// Nobody keeps the time any more, so nobody may wait.
    stopped: bool,
    /// The latest time the cluster was told.
    latest: Time,
}

/// What the cluster has for a connection. At most one request is in hand, so a mailbox holds few of them.
#[derive(Debug)]
pub(crate) enum Delivery {
    /// The answer to the request in hand, and how to send it.
    Answer(Option<Box<Response>>, Frame),
    /// The connection is to be closed.
    Close(String),
}

/// Somebody who waits for the cluster to be in some state. Looks after every step, under the cluster's lock.
pub(crate) trait Watcher: Send + std::fmt::Debug {
    /// Whether the wait is over.
    fn look(&mut self, cluster: &Cluster, now: Time) -> bool;
    /// When to look again though nothing has happened.
    fn due(&self) -> Time;
}

impl Shared {
    pub(crate) fn new(config: &ClusterConfig, clock: Clock) -> Result<Self, ConfigError> {
        let core = Core {
            cluster: Cluster::new(config)?,
            mailboxes: BTreeMap::new(),
            watchers: Vec::new(),
            armed: None,
            stopped: false,
            latest: clock.now(),
        };
        Ok(Self { core: Mutex::new(core), clock, earlier: Notify::new(), freed: Notify::new() })
    }

    /// Whether somebody may connect; waits while the broker has all the connections it may have.
    pub(crate) async fn admits(&self, node: NodeId, client_host: &str) -> bool {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // Before looking: whoever goes in between must be noticed.
            freed.as_mut().enable();
            let admission = self.lock().cluster.admission(node, client_host);
            match admission {
                Admission::Welcome => return true,
                Admission::TooMany => return false,
                Admission::Waits => freed.await,
            }
        }
    }

    pub(crate) fn connect(
        &self,
        node: NodeId,
        peer: Peer,
    ) -> Result<(ConnId, UnboundedReceiver<Delivery>, Session), Refused> {
        let mut core = self.lock();
        if core.stopped {
            return Err(Refused(node));
        }
        let now = core.time(&self.clock);
        let conn = match self.clock {
            Clock::Wall { .. } => core.cluster.connect_at(now, node, peer)?,
            // A paused clock goes on to whatever is due next, and so would make everybody idle at once.
            Clock::Tokio { .. } => core.cluster.connect_peer(node, peer)?,
        };
        self.rearm(&mut core);
        let (sender, mailbox) = unbounded_channel();
        core.mailboxes.insert(conn, sender);
        Ok((conn, mailbox, core.cluster.session()))
    }

    pub(crate) fn handle(&self, conn: ConnId, request: Incoming) {
        self.step(|cluster, now| cluster.handle(now, conn, request));
    }

    pub(crate) fn disconnect(&self, conn: ConnId) {
        self.lock().mailboxes.remove(&conn);
        self.step(|cluster, now| cluster.disconnect(now, conn));
        self.freed.notify_waiters();
    }

    /// Carries out a command; returns what remains for the listeners.
    pub(crate) fn control(&self, command: Command) -> Result<Vec<Output>, CommandError> {
        self.change(|cluster, now| cluster.control(now, command))
    }

    /// Empties the cluster; returns what remains for the listeners.
    pub(crate) fn reset(&self) -> Result<Vec<Output>, ConfigError> {
        self.change(Cluster::reset)
    }

    /// Looks at the cluster, or changes it in a way that concerns no connection.
    pub(crate) fn with<R>(&self, look: impl FnOnce(&mut Cluster) -> R) -> R {
        look(&mut self.lock().cluster)
    }

    /// Lets somebody wait. It looks at once, and then whenever something has happened.
    pub(crate) fn watch(&self, mut watcher: Box<dyn Watcher>) {
        let mut core = self.lock();
        let now = core.time(&self.clock);
        if watcher.look(&core.cluster, now) {
            return;
        }
        core.watchers.push(watcher);
        self.rearm(&mut core);
    }

    pub(crate) fn now(&self) -> Time {
        self.lock().time(&self.clock)
    }

    /// Closes every connection and lets nobody wait any longer: whoever started the cluster has let go of it.
    pub(crate) fn stop(&self) {
        let mut core = self.lock();
        for (_, mailbox) in std::mem::take(&mut core.mailboxes) {
            let _ = mailbox.send(Delivery::Close("the cluster stopped".into())); // or it closed first
        }
        core.watchers.clear();
        core.stopped = true;
    }

    /// Wakes the cluster whenever something is due; never returns.
    pub(crate) async fn keep_time(&self) {
        loop {
            let due = {
                let mut core = self.lock();
                core.armed = core.next_due();
                core.armed
            };
            match due {
                None => self.earlier.notified().await,
                Some(due) => {
                    let wait = tokio::time::sleep(due.since(self.clock.now()));
                    tokio::select! {
                        biased;
                        () = wait => self.step(Cluster::wake),
                        () = self.earlier.notified() => {}
                    }
                }
            }
        }
    }

    fn step(&self, act: impl FnOnce(&mut Cluster, Time) -> Vec<Output>) {
        let rest = self.change(|cluster, now| Ok::<_, std::convert::Infallible>(act(cluster, now)));
        let Ok(rest) = rest;
        debug_assert!(rest.is_empty(), "only commands start and stop brokers");
    }

    fn change<E>(&self, act: impl FnOnce(&mut Cluster, Time) -> Result<Vec<Output>, E>) -> Result<Vec<Output>, E> {
        let mut core = self.lock();
        let now = core.time(&self.clock);
        let outputs = act(&mut core.cluster, now)?;
        let rest = core.deliver(outputs);
        core.show(now);
        self.rearm(&mut core);
        Ok(rest)
    }

    fn rearm(&self, core: &mut Core) {
        let next = core.next_due();
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
    /// The time, which never goes back: a paused clock is ahead of the one that threads outside its runtime read.
    fn time(&mut self, clock: &Clock) -> Time {
        self.latest = self.latest.max(clock.now());
        self.latest
    }

    fn next_due(&self) -> Option<Time> {
        self.watchers.iter().map(|watcher| watcher.due()).chain(self.cluster.next_wake()).min()
    }

    /// Lets everybody look who waits.
    fn show(&mut self, now: Time) {
        let cluster = &self.cluster;
        self.watchers.retain_mut(|watcher| !watcher.look(cluster, now));
    }

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

/// Time that never goes back.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Clock {
    /// The machine's.
    Wall { epoch: Time, started: Instant },
    /// That of the tokio runtime it is read in, which a test may pause.
    Tokio { epoch: Time, started: tokio::time::Instant },
}

impl Clock {
    /// The machine's clock.
    pub(crate) fn wall() -> Self {
        Self::Wall { epoch: epoch(), started: Instant::now() }
    }

    /// The clock of the current tokio runtime.
    pub(crate) fn tokio() -> Self {
        Self::Tokio { epoch: epoch(), started: tokio::time::Instant::now() }
    }

    fn now(&self) -> Time {
        match self {
            Self::Wall { epoch, started } => *epoch + started.elapsed(),
            Self::Tokio { epoch, started } => *epoch + started.elapsed(),
        }
    }
}

fn epoch() -> Time {
    Time::ZERO + SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO)
}
