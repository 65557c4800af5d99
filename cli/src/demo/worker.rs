//! A worker of the finale: a process of its own, so that killing it is killing it. No `Drop` runs, no goodbye is said to
//! the group, nothing in hand is committed.
//!
//! It writes a line about each event it has handled to standard output, in one write, before the bus learns that the
//! event is done. All workers share one pipe, so the order of the lines is the order of handling, across workers and
//! across the death of one. It ends when its standard input does: a worker does not outlive the demo.

use super::GRACE;
use super::events::OrderStepTaken;
use anyhow::Context;
use rehearsal_bus::config::KafkaEventBusConfig;
use rehearsal_bus::hooks::{Hooks, Step};
use rehearsal_bus::{KafkaEventBus, prelude::*};
use serde::{Deserialize, Serialize};
use std::io::{PipeWriter, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::oneshot;

/// The shortest session a broker allows unless told otherwise: how long a killed worker holds its partitions.
pub(super) const SESSION_TIMEOUT_MS: u32 = 6_000;
/// How soon the others hear that it is gone.
const HEARTBEAT_INTERVAL_MS: u32 = 1_000;

/// Where to work, and as whom.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    bootstrap: String,
    #[arg(long)]
    topic_prefix: String,
    #[arg(long)]
    group: String,
    #[arg(long)]
    worker: usize,
}

/// A line of a worker's report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Report {
    /// It has so many partitions now.
    Holds { worker: usize, partitions: usize },
    /// It has handled an event.
    Handled { worker: usize, order: u32, step: u32 },
}

/// Works until standard input ends.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting")?;
    runtime.block_on(work(args))
}

async fn work(args: Args) -> anyhow::Result<()> {
    let worker = args.worker;
    let config = KafkaEventBusConfig::builder()
        .bootstrap_servers(args.bootstrap)
        .topic_prefix(args.topic_prefix)
        .consumer_group(args.group)
        .consumer_name(format!("worker-{worker}"))
        .session_timeout_ms(SESSION_TIMEOUT_MS)
        .heartbeat_interval_ms(HEARTBEAT_INTERVAL_MS)
        .build()?;
    let bus = KafkaEventBus::builder(config).hooks(report_share(worker)).build();
    bus.subscribe(move |event: Event<OrderStepTaken>| -> Handled {
        report(Report::Handled { worker, order: event.order, step: event.step })?;
        Ok(())
    })?;
    bus.connect().await?;
    let consuming = bus.start_consuming_in_background()?;
    tokio::select! {
        biased;
        // Whether it ended or cannot be read: nobody is there any more.
        _ = end_of_input() => {}
        ended = consuming.ended() => ended.context("consuming ended early")?,
    }
    Ok(bus.shutdown(GRACE).await?)
}

fn report_share(worker: usize) -> Hooks {
    let held = AtomicUsize::new(0);
    Hooks::observed_by(move |step: &Step<'_>| {
        let partitions = match step {
            Step::Assigned { .. } => held.fetch_add(1, Ordering::Relaxed) + 1,
            Step::Revoked { .. } => held.fetch_sub(1, Ordering::Relaxed).saturating_sub(1),
            _ => return,
        };
        // When nobody reads any more, standard input has ended as well.
        let _ = report(Report::Holds { worker, partitions });
    })
}

/// One line in one write: short enough for a pipe to keep it whole among those of other processes.
fn report(report: Report) -> std::io::Result<()> {
    let mut line = serde_json::to_string(&report)?;
    line.push('\n');
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.flush()
}

fn end_of_input() -> oneshot::Receiver<()> {
    let (ended, end) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
        let _ = ended.send(());
    });
    end
}

/// A worker as the demo sees it. Killed when dropped.
pub(super) struct Worker {
    process: Child,
}

impl Worker {
    pub(super) fn start(args: &Args, reports: PipeWriter) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("finding this program, to run it as a worker")?;
        let process = Command::new(program)
            .args(["worker", "--bootstrap", &args.bootstrap])
            .args(["--topic-prefix", &args.topic_prefix, "--group", &args.group])
            .args(["--worker", &args.worker.to_string()])
            .stdin(Stdio::piped())
            .stdout(reports)
            .spawn()
            .with_context(|| format!("starting worker {}", args.worker))?;
        Ok(Self { process })
    }

    /// Ends it in the middle of whatever it does.
    pub(super) fn kill(mut self) -> anyhow::Result<()> {
        self.process.kill().context("killing a worker")?;
        self.process.wait().context("waiting for a killed worker")?;
        Ok(())
    }

    /// Lets it finish what it has in hand and leave.
    pub(super) fn dismiss(&mut self) {
        drop(self.process.stdin.take());
    }
}

impl Args {
    pub(super) fn new(bootstrap: &str, topic_prefix: &str, group: &str, worker: usize) -> Self {
        let [bootstrap, topic_prefix, group] = [bootstrap, topic_prefix, group].map(str::to_owned);
        Self { bootstrap, topic_prefix, group, worker }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
