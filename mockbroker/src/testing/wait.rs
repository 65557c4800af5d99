//! Waiting for the cluster to be in some state: no polling, no sleeping, and when it takes too long a report of what was
//! there instead.

use super::{MockCluster, PlannedFault, StoredRecord};
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
        let what = format!("{} in '{topic}'", counted(at_least, "record"));
        let look = when_written(topic, move |records| Some(records).filter(|records| records.len() >= at_least));
        self.at_topic(what, topic, None, look)
    }

    /// A record in a topic that fits; the first in partition and offset order.
    pub fn record(self, topic: &str, fits: impl Fn(&StoredRecord) -> bool + Send + 'static) -> Wait<StoredRecord> {
        let what = format!("a record in '{topic}' that fits");
        let look = when_written(topic, move |records| records.into_iter().find(|record| fits(record)));
        self.at_topic(what, topic, None, look)
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
        let name = topic.to_owned();
        let mut since: Option<(i64, Time)> = None;
        let look = move |cluster: &Cluster, now: Time| {
            let ends = cluster.partitions(&name).iter().map(|partition| partition.log.end_offset()).sum();
            let start = match since {
                Some((before, start)) if before == ends => start,
                _ => now,
            };
            since = Some((ends, start));
            if now.since(start) >= span { Seen::Found(()) } else { Seen::LookAgain(start + span) }
        };
        let name = topic.to_owned();
        self.begin(what, look, move |cluster| describe_topic(cluster, &name))
    }

    /// A group's committed offset of a partition to reach `offset`; the offset then.
    pub fn committed(self, group: &str, topic: &str, partition: i32, offset: i64) -> Wait<i64> {
        let what = format!("group '{group}' to commit offset {offset} of '{topic}' partition {partition}");
        if let Some(why) = self.no_such_topic(topic, Some(partition)) {
            return Wait::hopeless(what, why);
        }
        let name = topic.to_owned();
        self.at_group(what, group, move |cluster, group| {
            let committed = cluster.committed(group, &name, partition)?.offset;
            (committed >= offset).then_some(committed)
        })
    }

    /// A group to be stable with exactly so many members.
    pub fn stable(self, group: &str, members: usize) -> Wait<GroupView> {
        let what = format!("group '{group}' to be stable with {}", counted(members, "member"));
        self.at_group(what, group, move |cluster, group| {
            let view = cluster.group(group)?;
            (view.state == GroupState::Stable && view.members.len() == members).then_some(view)
        })
    }

    /// A member to be gone from a group: by its member id, group instance id or client id.
    pub fn member_gone(self, group: &str, member: &str) -> Wait<()> {
        let who = member.to_owned();
        self.at_group(format!("'{member}' to be gone from group '{group}'"), group, move |cluster, group| {
            let members = cluster.group(group).map(|view| view.members).unwrap_or_default();
            let there = members.iter().any(|known| {
                known.member_id == who
                    || known.group_instance_id.as_deref() == Some(who.as_str())
                    || known.client_id == who
            });
            (!there).then_some(())
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
        let name = topic.to_owned();
        self.at_topic(what, topic, Some(partition), move |cluster| {
            let high_watermark = cluster.partition(&name, partition)?.log.high_watermark();
            (high_watermark >= offset).then_some(high_watermark)
        })
    }

    /// A partition to remember so many idempotent producers.
    pub fn producers(self, topic: &str, partition: i32, at_least: usize) -> Wait<Vec<ProducerView>> {
        let what = format!("{at_least} producers at '{topic}' partition {partition}");
        let name = topic.to_owned();
        self.at_topic(what, topic, Some(partition), move |cluster| {
            Some(cluster.producers(&name, partition)).filter(|producers| producers.len() >= at_least)
        })
    }

    /// A leader for a partition, other than none.
    pub fn leader(self, topic: &str, partition: i32) -> Wait<i32> {
        let what = format!("a leader of '{topic}' partition {partition}");
        let name = topic.to_owned();
        self.at_topic(what, topic, Some(partition), move |cluster| Some(cluster.partition(&name, partition)?.leader?.0))
    }

    /// Anything: `look` is called after every step of the cluster, until it finds what it looks for.
    pub fn until<T: Send + 'static>(
        self,
        what: impl Into<String>,
        look: impl FnMut(&Cluster) -> Option<T> + Send + 'static,
    ) -> Wait<T> {
        self.until_with(what.into(), look, describe_requests)
    }

    /// Something about a topic or partition; hopeless when there is no such one.
    fn at_topic<T: Send + 'static>(
        self,
        what: String,
        topic: &str,
        partition: Option<i32>,
        look: impl FnMut(&Cluster) -> Option<T> + Send + 'static,
    ) -> Wait<T> {
        if let Some(why) = self.no_such_topic(topic, partition) {
            return Wait::hopeless(what, why);
        }
        let topic = topic.to_owned();
        self.until_with(what, look, move |cluster| describe_topic(cluster, &topic))
    }

    /// Something about a group, which need not be there yet.
    fn at_group<T: Send + 'static>(
        self,
        what: String,
        group: &str,
        mut look: impl FnMut(&Cluster, &str) -> Option<T> + Send + 'static,
    ) -> Wait<T> {
        let (looked_at, shown) = (group.to_owned(), group.to_owned());
        let look = move |cluster: &Cluster| look(cluster, &looked_at);
        self.until_with(what, look, move |cluster| describe_group(cluster, &shown))
    }

    fn until_with<T: Send + 'static>(
        self,
        what: String,
        mut look: impl FnMut(&Cluster) -> Option<T> + Send + 'static,
        describe: impl Fn(&Cluster) -> String + Send + 'static,
    ) -> Wait<T> {
        self.begin(what, move |cluster, _| look(cluster).map_or(Seen::Nothing, Seen::Found), describe)
    }

    fn begin<T: Send + 'static>(
        self,
        what: String,
        look: impl FnMut(&Cluster, Time) -> Seen<T> + Send + 'static,
        describe: impl Fn(&Cluster) -> String + Send + 'static,
    ) -> Wait<T> {
        let (sender, outcome) = oneshot::channel();
        let shared = self.shared();
        let deadline = shared.now() + self.within;
        let watcher = OneWait {
            what,
            within: self.within,
            deadline,
            due: deadline,
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

/// What a look at the cluster has brought.
enum Seen<T> {
    Found(T),
    /// Not there; it comes with something that happens.
    Nothing,
    /// Not there; it comes with this time unless something happens before.
    LookAgain(Time),
}

type Look<T> = Box<dyn FnMut(&Cluster, Time) -> Seen<T> + Send>;

/// A wait as the cluster's driver sees it.
struct OneWait<T> {
    what: String,
    within: Duration,
    deadline: Time,
    /// When to look though nothing has happened; at the deadline at the latest.
    due: Time,
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
            Seen::Found(found) => Ok(found),
            _ if now >= self.deadline => Err(WaitError::TimedOut {
                what: std::mem::take(&mut self.what),
                within: self.within,
                saw: (self.describe)(cluster),
            }),
            Seen::LookAgain(at) => {
                self.due = at.min(self.deadline);
                return false;
            }
            Seen::Nothing => return false,
        };
        if let Some(done) = self.done.take() {
            let _ = done.send(outcome); // whoever waited may have given up at this moment
        }
        true
    }

    fn due(&self) -> Time {
        self.due
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

/// Looks at a topic's records only when its logs are other than at the last look: decoding them at every step of the
/// cluster would cost more than writing them.
fn when_written<T, F: FnMut(Vec<StoredRecord>) -> Option<T>>(
    topic: &str,
    mut look: F,
) -> impl FnMut(&Cluster) -> Option<T> + use<T, F> {
    let topic = topic.to_owned();
    let mut seen = None;
    move |cluster| {
        let logs = cluster.partitions(&topic).iter().map(|partition| &partition.log);
        let now: Vec<_> = logs.map(|log| (log.start_offset(), log.end_offset(), log.epochs().latest())).collect();
        if seen.as_ref() == Some(&now) {
            return None;
        }
        seen = Some(now);
        look(cluster.all_records(&topic))
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
    let records = cluster.all_records(topic);
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
