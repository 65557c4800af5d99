//! Waiting for the cluster to be in some state: no polling, no sleeping, and when it takes too long a report of what was
//! there instead.

use super::{MockCluster, PlannedFault, StoredRecord, stored_records};
use crate::cluster::Cluster;
use crate::fault::Requests;
use crate::journal::ReceivedRequest;
use crate::server::{Shared, Watcher};
use crate::state::groups::{GroupView, State as GroupState};
use crate::time::Time;
use crate::view::ProducerView;
use std::fmt::{self, Write};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;
use tokio::sync::oneshot;

/// For how long to wait when nothing is said: longer than a rebalance, shorter than a person's patience.
pub(super) const USUAL: Duration = Duration::from_secs(10);
/// How many requests and records a report shows.
const SHOWN_MAX: usize = 10;

/// What to wait for. Made by [`MockCluster::wait_for`] and [`MockCluster::wait_up_to`].
#[derive(Debug)]
pub struct WaitFor<'a> {
    pub(super) cluster: &'a MockCluster,
    pub(super) within: Duration,
}

/// A wait under way: await it, or [`Wait::blocking`] where there is no runtime.
#[derive(Debug)]
#[must_use = "nobody waits until it is awaited, or told to block"]
pub struct Wait<T> {
    outcome: oneshot::Receiver<Result<T, WaitError>>,
}

/// What was waited for did not come, or cannot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// It did not come in time.
    #[error("waited {within:?} for {what}, in vain\n{saw}")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// For how long.
        within: Duration,
        /// What was there instead, for a person to read.
        saw: String,
    },
    /// It cannot come, so nobody waited.
    #[error("waiting for {what} would be in vain: {why}")]
    Hopeless {
        /// What was waited for.
        what: String,
        /// Why.
        why: String,
    },
    /// The cluster is gone.
    #[error("the cluster stopped meanwhile")]
    Stopped,
}

impl WaitFor<'_> {
    /// At least so many records in a topic, in all its partitions together; all that are there then, by partition and
    /// offset.
    pub fn records(self, topic: &str, at_least: usize) -> Wait<Vec<StoredRecord>> {
        let name = topic.to_owned();
        let what = format!("{} in '{topic}'", counted(at_least, "record"));
        if let Some(why) = self.no_such_topic(topic, None) {
            return Wait::hopeless(what, why);
        }
        let look = when_written(topic, move |cluster| {
            Some(records_of(cluster, &name)).filter(|records| records.len() >= at_least)
        });
        let name = topic.to_owned();
        self.until_with(what, look, move |cluster| describe_topic(cluster, &name))
    }

    /// A record in a topic that fits; the first in partition and offset order.
    pub fn record(self, topic: &str, fits: impl Fn(&StoredRecord) -> bool + Send + 'static) -> Wait<StoredRecord> {
        let name = topic.to_owned();
        let what = format!("a record in '{topic}' that fits");
        if let Some(why) = self.no_such_topic(topic, None) {
            return Wait::hopeless(what, why);
        }
        let look =
            when_written(topic, move |cluster| records_of(cluster, &name).into_iter().find(|record| fits(record)));
        let name = topic.to_owned();
        self.until_with(what, look, move |cluster| describe_topic(cluster, &name))
    }

    /// Nothing written to a topic for so long.
    pub fn quiet(self, topic: &str, span: Duration) -> Wait<()> {
        let what = format!("nothing to be written to '{topic}' for {span:?}");
        if let Some(why) = self.no_such_topic(topic, None) {
            return Wait::hopeless(what, why);
        }
        if span >= self.within {
            let why = format!("that takes longer than the {:?} this wait has; use wait_up_to", self.within);
            return Wait::hopeless(what, why);
        }
        let (name, shown) = (topic.to_owned(), topic.to_owned());
        let mut since: Option<(i64, Time)> = None;
        let shared = self.shared();
        let deadline = shared.now() + self.within;
        let next = Arc::new(std::sync::Mutex::new(deadline));
        let due = Arc::clone(&next);
        let look = move |cluster: &Cluster, now: Time| {
            let ends: i64 = cluster.log_bounds(&name).into_iter().map(|(_, end)| end).sum();
            let start = match since {
                Some((before, start)) if before == ends => start,
                _ => now,
            };
            since = Some((ends, start));
            *next.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = start + span;
            (now.since(start) >= span).then_some(())
        };
        self.begin(what, look, move |cluster| describe_topic(cluster, &shown), Some(due))
    }

    /// A group's committed offset of a partition to reach `offset`; the offset then.
    pub fn committed(self, group: &str, topic: &str, partition: i32, offset: i64) -> Wait<i64> {
        let what = format!("group '{group}' to commit offset {offset} of '{topic}' partition {partition}");
        if let Some(why) = self.no_such_topic(topic, Some(partition)) {
            return Wait::hopeless(what, why);
        }
        let (id, name) = (group.to_owned(), topic.to_owned());
        let look = move |cluster: &Cluster| {
            let committed = cluster.committed(&id, &name, partition)?.offset;
            (committed >= offset).then_some(committed)
        };
        let id = group.to_owned();
        self.until_with(what, look, move |cluster| describe_group(cluster, &id))
    }

    /// A group to be stable with exactly so many members.
    pub fn stable(self, group: &str, members: usize) -> Wait<GroupView> {
        let id = group.to_owned();
        let look = move |cluster: &Cluster| {
            let view = cluster.group(&id)?;
            (view.state == GroupState::Stable && view.members.len() == members).then_some(view)
        };
        let id = group.to_owned();
        let what = format!("group '{group}' to be stable with {}", counted(members, "member"));
        self.until_with(what, look, move |cluster| describe_group(cluster, &id))
    }

    /// A member to be gone from a group: by its member id, group instance id or client id.
    pub fn member_gone(self, group: &str, member: &str) -> Wait<()> {
        let (id, who) = (group.to_owned(), member.to_owned());
        let look = move |cluster: &Cluster| {
            let members = cluster.group(&id).map(|view| view.members).unwrap_or_default();
            let there = members.iter().any(|known| {
                known.member_id == who
                    || known.group_instance_id.as_deref() == Some(who.as_str())
                    || known.client_id == who
            });
            (!there).then_some(())
        };
        let id = group.to_owned();
        self.until_with(format!("'{member}' to be gone from group '{group}'"), look, move |cluster| {
            describe_group(cluster, &id)
        })
    }

    /// A request to have arrived, before or from now on; the first that fits.
    pub fn request(self, which: Requests) -> Wait<Arc<ReceivedRequest>> {
        let what = format!("a request: {which}");
        if let Err(impossible) = self.shared().with(|cluster| cluster.check_requests(&which)) {
            return Wait::hopeless(what, impossible.to_string());
        }
        self.until_with(what, move |cluster| cluster.requests(&which).next().cloned(), describe_requests)
    }

    /// So many requests to have arrived, before or from now on.
    pub fn requests(self, which: Requests, at_least: usize) -> Wait<Vec<Arc<ReceivedRequest>>> {
        let what = format!("{}: {which}", counted(at_least, "request"));
        if let Err(impossible) = self.shared().with(|cluster| cluster.check_requests(&which)) {
            return Wait::hopeless(what, impossible.to_string());
        }
        let look = move |cluster: &Cluster| {
            let found: Vec<_> = cluster.requests(&which).cloned().collect();
            (found.len() >= at_least).then_some(found)
        };
        self.until_with(what, look, describe_requests)
    }

    /// A fault to have happened so often.
    pub fn hits(self, fault: &PlannedFault, at_least: u64) -> Wait<u64> {
        let id = fault.id();
        let what = format!("'{}' to have happened {}", fault.words(), counted(at_least, "time"));
        if let Some(why) = self.shared().with(|cluster| cluster.cannot_happen(id, at_least)) {
            return Wait::hopeless(what, why);
        }
        self.until_with(what, move |cluster| cluster.hits(id).filter(|hits| *hits >= at_least), describe_faults)
    }

    /// A fault to hold something.
    pub fn held(self, fault: &PlannedFault) -> Wait<()> {
        let id = fault.id();
        let look = move |cluster: &Cluster| {
            cluster.faults().iter().any(|view| view.id == id && view.holding > 0).then_some(())
        };
        let what = format!("'{}' to hold something", fault.words());
        if let Some(why) = self.shared().with(|cluster| cluster.cannot_hold(id)) {
            return Wait::hopeless(what, why);
        }
        self.until_with(what, look, describe_faults)
    }

    /// A partition's high watermark to reach `offset`; the high watermark then.
    pub fn high_watermark(self, topic: &str, partition: i32, offset: i64) -> Wait<i64> {
        let what = format!("the high watermark of '{topic}' partition {partition} to reach {offset}");
        if let Some(why) = self.no_such_topic(topic, Some(partition)) {
            return Wait::hopeless(what, why);
        }
        let (name, shown) = (topic.to_owned(), topic.to_owned());
        let look = move |cluster: &Cluster| {
            let view = cluster.view();
            let partition = view.topic(&name)?.partitions.get(usize::try_from(partition).ok()?)?;
            (partition.high_watermark >= offset).then_some(partition.high_watermark)
        };
        self.until_with(what, look, move |cluster| describe_topic(cluster, &shown))
    }

    /// A partition to remember so many idempotent producers.
    pub fn producers(self, topic: &str, partition: i32, at_least: usize) -> Wait<Vec<ProducerView>> {
        let what = format!("{at_least} producers at '{topic}' partition {partition}");
        if let Some(why) = self.no_such_topic(topic, Some(partition)) {
            return Wait::hopeless(what, why);
        }
        let (name, shown) = (topic.to_owned(), topic.to_owned());
        let look = move |cluster: &Cluster| {
            Some(cluster.producers(&name, partition)).filter(|producers| producers.len() >= at_least)
        };
        self.until_with(what, look, move |cluster| describe_topic(cluster, &shown))
    }

    /// A leader for a partition, other than none.
    pub fn leader(self, topic: &str, partition: i32) -> Wait<i32> {
        let what = format!("a leader of '{topic}' partition {partition}");
        if let Some(why) = self.no_such_topic(topic, Some(partition)) {
            return Wait::hopeless(what, why);
        }
        let (name, shown) = (topic.to_owned(), topic.to_owned());
        let look = move |cluster: &Cluster| {
            let view = cluster.view();
            Some(view.topic(&name)?.partitions.get(usize::try_from(partition).ok()?)?.leader?.0)
        };
        self.until_with(what, look, move |cluster| describe_topic(cluster, &shown))
    }

    /// Anything: `look` is called after every step of the cluster, until it finds what it looks for.
    pub fn until<T: Send + 'static>(
        self,
        what: impl Into<String>,
        look: impl FnMut(&Cluster) -> Option<T> + Send + 'static,
    ) -> Wait<T> {
        self.until_with(what.into(), look, describe_requests)
    }

    fn until_with<T: Send + 'static>(
        self,
        what: String,
        mut look: impl FnMut(&Cluster) -> Option<T> + Send + 'static,
        describe: impl Fn(&Cluster) -> String + Send + 'static,
    ) -> Wait<T> {
        self.begin(what, move |cluster, _| look(cluster), describe, None)
    }

    fn begin<T: Send + 'static>(
        self,
        what: String,
        look: impl FnMut(&Cluster, Time) -> Option<T> + Send + 'static,
        describe: impl Fn(&Cluster) -> String + Send + 'static,
        due: Option<Arc<std::sync::Mutex<Time>>>,
    ) -> Wait<T> {
        let (sender, outcome) = oneshot::channel();
        let shared = self.shared();
        let watcher = OneWait {
            what,
            within: self.within,
            deadline: shared.now() + self.within,
            due,
            look: Box::new(look),
            describe: Box::new(describe),
            done: Some(sender),
        };
        shared.watch(Box::new(watcher));
        Wait { outcome }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.cluster.shared
    }

    fn no_such_topic(&self, topic: &str, partition: Option<i32>) -> Option<String> {
        self.shared().with(|cluster| cluster.lacks(topic, partition))
    }
}

type Look<T> = Box<dyn FnMut(&Cluster, Time) -> Option<T> + Send>;

/// A wait as the cluster's driver sees it.
struct OneWait<T> {
    what: String,
    within: Duration,
    deadline: Time,
    /// When something becomes true by mere waiting.
    due: Option<Arc<std::sync::Mutex<Time>>>,
    look: Look<T>,
    describe: Box<dyn Fn(&Cluster) -> String + Send>,
    done: Option<oneshot::Sender<Result<T, WaitError>>>,
}

impl<T: Send> Watcher for OneWait<T> {
    fn look(&mut self, cluster: &Cluster, now: Time) -> bool {
        if self.done.as_ref().is_none_or(oneshot::Sender::is_closed) {
            return true; // nobody waits any more
        }
        let outcome = match (self.look)(cluster, now) {
            Some(found) => Ok(found),
            None if now >= self.deadline => Err(WaitError::TimedOut {
                what: std::mem::take(&mut self.what),
                within: self.within,
                saw: (self.describe)(cluster),
            }),
            None => return false,
        };
        if let Some(done) = self.done.take() {
            let _ = done.send(outcome); // whoever waited may have given up at this moment
        }
        true
    }

    fn due(&self) -> Time {
        let due = self.due.as_ref().map(|due| *due.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        due.map_or(self.deadline, |due| due.min(self.deadline))
    }
}

impl<T> fmt::Debug for OneWait<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "waiting for {}", self.what)
    }
}

impl<T> Wait<T> {
    fn hopeless(what: String, why: String) -> Self {
        let (sender, outcome) = oneshot::channel();
        let _ = sender.send(Err(WaitError::Hopeless { what, why })); // the receiver is at hand
        Self { outcome }
    }

    /// Waits on this thread. For tests without a runtime; inside one it blocks the worker.
    ///
    /// # Errors
    /// As when it is awaited.
    pub fn blocking(mut self) -> Result<T, WaitError> {
        struct Unpark(Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(outcome) = Pin::new(&mut self).poll(&mut context) {
                return outcome;
            }
            std::thread::park();
        }
    }
}

impl<T> Future for Wait<T> {
    type Output = Result<T, WaitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // A oneshot needs no runtime, so this works under any, and under none.
        Pin::new(&mut self.outcome).poll(context).map(|outcome| outcome.unwrap_or(Err(WaitError::Stopped)))
    }
}

fn counted(count: impl fmt::Display, what: &str) -> String {
    let count = count.to_string();
    if count == "1" { format!("1 {what}") } else { format!("{count} {what}s") }
}

// ---- what was there instead ----

fn records_of(cluster: &Cluster, topic: &str) -> Vec<StoredRecord> {
    let partitions = cluster.view().topic(topic).map_or(0, |topic| topic.partitions.len());
    let partitions = 0..i32::try_from(partitions).unwrap_or(i32::MAX);
    partitions.flat_map(|index| stored_records(cluster, topic, index).unwrap_or_default()).collect()
}

/// Looks only when the topic's logs are other than at the last look: decoding records at every step of the cluster would
/// cost more than writing them.
fn when_written<T, F: FnMut(&Cluster) -> Option<T>>(
    topic: &str,
    mut look: F,
) -> impl FnMut(&Cluster) -> Option<T> + use<T, F> {
    let topic = topic.to_owned();
    let mut seen = None;
    move |cluster| {
        let now = Some(cluster.log_bounds(&topic));
        if seen == now {
            return None;
        }
        seen = now;
        look(cluster)
    }
}

fn describe_topic(cluster: &Cluster, topic: &str) -> String {
    let mut out = String::new();
    match cluster.view().topic(topic) {
        None => {
            let _ = writeln!(out, "  there is no topic '{topic}'");
        }
        Some(view) => {
            for partition in &view.partitions {
                let _ = writeln!(
                    out,
                    "  {topic}-{}: offsets {}..{}, high watermark {}, leader {}",
                    partition.index,
                    partition.log_start_offset,
                    partition.log_end_offset,
                    partition.high_watermark,
                    partition.leader.map_or("none".to_owned(), |node| node.0.to_string()),
                );
            }
        }
    }
    let records = records_of(cluster, topic);
    for record in records.iter().rev().take(SHOWN_MAX).rev() {
        let _ = writeln!(out, "  {record}");
    }
    out + &describe_requests(cluster)
}

fn describe_group(cluster: &Cluster, group: &str) -> String {
    let mut out = String::new();
    match cluster.group(group) {
        None => {
            let known = cluster.view().groups.join(", ");
            let known = if known.is_empty() { "none" } else { &known };
            let _ = writeln!(out, "  there is no group '{group}'; there are: {known}");
        }
        Some(view) => {
            let _ = writeln!(
                out,
                "  group '{group}' is {} in generation {} with {} members",
                view.state.name(),
                view.generation,
                view.members.len()
            );
            for member in &view.members {
                let _ = writeln!(out, "    {} (client '{}')", member.member_id, member.client_id);
            }
        }
    }
    for (topic, partition, committed) in cluster.committed_offsets(group) {
        let _ = writeln!(out, "  committed {topic}-{partition}: {}", committed.offset);
    }
    out + &describe_requests(cluster)
}

fn describe_faults(cluster: &Cluster) -> String {
    let mut out = String::new();
    for fault in cluster.faults() {
        let _ = writeln!(
            out,
            "  fault '{}': {} matched, happened {}, holds {}",
            fault.fault,
            counted(fault.matched, "request"),
            counted(fault.hits, "time"),
            fault.holding
        );
    }
    out + &describe_requests(cluster)
}

fn describe_requests(cluster: &Cluster) -> String {
    let mut last = cluster.last_requests(SHOWN_MAX).peekable();
    if last.peek().is_none() {
        return "  no request has arrived: is the client's bootstrap.servers that of this cluster?".into();
    }
    let mut out = String::from("  last requests:");
    for request in last {
        let _ = write!(out, "\n    {request}");
    }
    out
}
