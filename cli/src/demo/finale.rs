//! The finale: with events flowing, a broker crashes and a worker is killed. Then we count.

use super::events::OrderStepTaken;
use super::proof::{Ledger, Verdict};
use super::screen::{banner, say};
use super::stage::Stage;
use super::table::Row;
use super::worker::{Args, Report, SESSION_TIMEOUT_MS, Worker};
use super::{GRACE, PATIENCE};
use anyhow::{Context, bail, ensure};
use indicatif::HumanCount;
use rehearsal_bus::config::KafkaEventBusConfig;
use rehearsal_bus::{KafkaEventBus, prelude::*};
use rehearsal_mockbroker::state::nodes::NodeId;
use rehearsal_mockbroker::testing::MockCluster;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, PipeReader};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const PARTITIONS: i32 = 6;
const ORDERS: u32 = 200;
const STEPS: u32 = 100;
const EVENTS: u64 = ORDERS as u64 * STEPS as u64;
/// Events per call to `publish`, one for each of so many orders.
const WAVE: u32 = 50;
/// 2,000 events a second: the flow outlasts the crash, and the time the group takes to notice that a worker is dead.
const PACE: Duration = Duration::from_millis(25);
const CRASH_AT: u64 = EVENTS / 10;
const KILL_AT: u64 = EVENTS / 5;
const CRASHED: NodeId = NodeId(2);
const KILLED: usize = 1;
const SURVIVOR: usize = 2;

pub(super) async fn run(stage: &Stage) -> anyhow::Result<Row> {
    banner("Finale: A Broker Crashes, a Worker Dies");
    if stage.cluster.is_none() {
        say!("These brokers are not ours to crash: only the worker dies");
    }
    let began = Instant::now();
    let config = KafkaEventBusConfig::builder()
        .bootstrap_servers(stage.bootstrap())
        .topic_prefix(stage.name("finale"))
        .consumer_group(stage.name("finale-consumers"))
        .topic_partitions(PARTITIONS)
        .build()?;
    let bus = KafkaEventBus::new(config);
    bus.connect().await?;
    let mut play = Play::begin(stage, &bus)?;
    play.until_both_have_work().await?;

    let (events, orders) = (HumanCount(EVENTS), HumanCount(ORDERS.into()));
    say!("Publishing {events} events, steps 1 to {STEPS} of {orders} orders...");
    play.perform(&bus).await?;
    let verdict = play.end().await;
    conclude(stage, &verdict)?;
    bus.shutdown(GRACE).await?;
    let shown = format!("{} lost, {} out of order", verdict.lost, verdict.out_of_order);
    Ok(Row::new("5 Finale", EVENTS, began.elapsed(), shown))
}

fn conclude(stage: &Stage, verdict: &Verdict) -> anyhow::Result<()> {
    let what_broke = match stage.cluster {
        Some(_) => format!("with {CRASHED} crashed and worker {KILLED} killed"),
        None => format!("with worker {KILLED} killed"),
    };
    if !verdict.holds() {
        bail!("the proof does not hold {what_broke}: {}\n  {verdict}", verdict.complaint());
    }
    say!("\nPROOF: {verdict} {what_broke}");
    Ok(())
}

/// The finale while it goes on.
struct Play<'a> {
    stage: &'a Stage,
    victim: Option<Worker>,
    survivor: Worker,
    reports: mpsc::UnboundedReceiver<Report>,
    ledger: Ledger,
    /// Deliveries by worker, repeated ones included.
    handled: BTreeMap<usize, u64>,
    /// Partitions by worker.
    holds: BTreeMap<usize, usize>,
    crash_is_due: bool,
}

impl<'a> Play<'a> {
    fn begin(stage: &'a Stage, bus: &KafkaEventBus) -> anyhow::Result<Self> {
        let (reader, writer) = std::io::pipe().context("making a pipe for the workers' reports")?;
        let config = bus.config();
        let hire = |worker, reports| {
            let args = Args::new(stage.bootstrap(), &config.topic_prefix, &config.consumer_group, worker);
            Worker::start(&args, reports)
        };
        // Both write to one pipe, which keeps the order of their lines; it ends when the last of them is gone.
        let victim = Some(hire(KILLED, writer.try_clone().context("sharing the pipe")?)?);
        let survivor = hire(SURVIVOR, writer)?;
        Ok(Self {
            stage,
            victim,
            survivor,
            reports: read(reader),
            ledger: Ledger::default(),
            handled: BTreeMap::new(),
            holds: BTreeMap::new(),
            crash_is_due: stage.cluster.is_some(),
        })
    }

    /// The group first gives everything to whoever comes first, then shares: wait until it has.
    async fn until_both_have_work(&mut self) -> anyhow::Result<()> {
        loop {
            let [first, second] = [KILLED, SURVIVOR].map(|worker| self.holds.get(&worker).copied().unwrap_or(0));
            if first > 0 && second > 0 && first + second == PARTITIONS as usize {
                say!("Worker {KILLED} has {first} partitions, worker {SURVIVOR} has {second}; each is its own process");
                return Ok(());
            }
            self.next_report().await.context("the workers did not share the partitions")?;
        }
    }

    /// Publishes, breaks things on the way, and waits until everything is handled, or nothing comes any more.
    async fn perform(&mut self, bus: &KafkaEventBus) -> anyhow::Result<()> {
        let mut publishing = tokio::spawn(publish(bus.clone()));
        let mut published = false;
        while !(published && self.ledger.distinct() >= EVENTS) {
            tokio::select! {
                biased;
                reported = self.next_report() => match reported {
                    Ok(()) => self.break_what_is_due()?,
                    // Nothing comes any more: what is missing now is lost, which is for the verdict to say.
                    Err(_) if published => break,
                    Err(silence) => {
                        publishing.abort();
                        let acknowledged = HumanCount(bus.stats().events_published);
                        return Err(silence.context(format!("publishing stalled after {acknowledged} acknowledged events")));
                    }
                },
                done = &mut publishing, if !published => {
                    done.context("publishing")??;
                    published = true;
                }
            }
        }
        ensure!(!self.crash_is_due, "the proof proves nothing: {CRASHED} was never crashed");
        ensure!(self.victim.is_none(), "the proof proves nothing: worker {KILLED} was never killed");
        for (worker, handled) in &self.handled {
            let fate = if *worker == KILLED { ", then it was killed" } else { "" };
            say!("Worker {worker} handled {} events{fate}", HumanCount(*handled));
        }
        Ok(())
    }

    fn break_what_is_due(&mut self) -> anyhow::Result<()> {
        let so_far = self.ledger.distinct();
        if self.crash_is_due && so_far >= CRASH_AT {
            self.crash_is_due = false;
            if let Some(cluster) = &self.stage.cluster {
                crash(cluster, so_far)?;
            }
        }
        if so_far >= KILL_AT
            && self.handled.contains_key(&KILLED)
            && let Some(victim) = self.victim.take()
        {
            victim.kill()?;
            let session = Duration::from_millis(SESSION_TIMEOUT_MS.into());
            say!(
                "  {:>6} handled: killed worker {KILLED}; the group will miss it after {session:?}",
                HumanCount(so_far)
            );
        }
        Ok(())
    }

    /// Takes in the next report. Fails when none comes for [`PATIENCE`], or all workers are gone.
    async fn next_report(&mut self) -> anyhow::Result<()> {
        let next = tokio::time::timeout(PATIENCE, self.reports.recv()).await;
        match next.with_context(|| format!("no report for {PATIENCE:?}"))?.context("all workers are gone")? {
            Report::Holds { worker, partitions } => {
                self.holds.insert(worker, partitions);
                if worker == SURVIVOR && self.victim.is_none() && partitions == PARTITIONS as usize {
                    let so_far = HumanCount(self.ledger.distinct());
                    say!("  {so_far:>6} handled: worker {SURVIVOR} has taken over all {PARTITIONS} partitions");
                }
            }
            Report::Handled { worker, order, step } => {
                *self.handled.entry(worker).or_default() += 1;
                self.ledger.handled(order, step);
            }
        }
        Ok(())
    }

    /// Sends the last worker home, takes in its last words, and judges.
    async fn end(mut self) -> Verdict {
        self.survivor.dismiss();
        while self.next_report().await.is_ok() {}
        self.ledger.judge(ORDERS, STEPS)
    }
}

fn crash(cluster: &MockCluster, so_far: u64) -> anyhow::Result<()> {
    let view = cluster.view();
    let partitions = view.topics.iter().filter(|topic| !topic.internal).flat_map(|topic| &topic.partitions);
    let led = partitions.filter(|partition| partition.leader == Some(CRASHED)).count();
    cluster.crash(CRASHED.0).context("crashing a broker")?;
    say!("  {:>6} handled: crashed {CRASHED}, the leader of {led} partitions", HumanCount(so_far));
    Ok(())
}

/// Every order takes a step before any takes the next, a wave of orders at a time.
async fn publish(bus: KafkaEventBus) -> Result<(), BusError> {
    let mut pace = tokio::time::interval(PACE);
    for step in 1..=STEPS {
        for first in (1..=ORDERS).step_by(WAVE as usize) {
            pace.tick().await;
            let wave: Vec<_> = (first..first + WAVE).map(|order| OrderStepTaken { order, step }).collect();
            bus.publish(wave).await?;
        }
    }
    Ok(())
}

/// The workers' reports, in the order in which they were written; closed when all workers are gone.
fn read(pipe: PipeReader) -> mpsc::UnboundedReceiver<Report> {
    let (tell, reports) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(report) => {
                    if tell.send(report).is_err() {
                        return;
                    }
                }
                Err(error) => tracing::warn!(line, %error, "a worker said something else"),
            }
        }
    });
    reports
}
