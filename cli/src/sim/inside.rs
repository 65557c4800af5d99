//! The process in which seeds run. What it is to do comes as one line on standard input, what it has to say goes as
//! lines to standard output.

use super::mutants;
use rehearsal_sim::drive::{Drive, Hunted, Mutant, Outcome, PLANTABLE, Progress, Told, search, tell};
use rehearsal_sim::plan::Plan;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Marks this process.
pub(super) const ROLE: (&str, &str) = ("REHEARSAL_SIM", "search");

/// Of how many ways to fail the first plan is made small; the others are only named.
const TOLD_MAX: usize = 3;

/// What to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) every: u64,
    pub(super) plan: Option<String>,
    pub(super) strict: bool,
    /// Tell of the run whatever comes of it.
    pub(super) tell: bool,
    pub(super) jobs: usize,
    pub(super) budget: Option<Duration>,
    pub(super) keep_going: bool,
    pub(super) shrink: usize,
    pub(super) mutant: Option<String>,
    /// Bugs to hunt, one after the other.
    pub(super) hunt: Vec<String>,
    /// The command that runs it again, where there is another one than by its plan.
    pub(super) again: Option<String>,
    /// Where plans are written, for the command that replays one.
    pub(super) report: String,
}

/// What has happened.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum News {
    /// A seed has run.
    Ran(Box<Outcome>),
    /// The plan of a failure is being made small.
    Shrinking(u64),
    /// A run, told.
    Told { seed: u64, plan: String, told: Box<Told> },
    /// A bug was found, or was not.
    Hunted(Hunted),
    /// Nothing more will happen.
    Over { left_out: BTreeMap<String, u64> },
    /// It does not work.
    Refused(String),
}

/// Whether this is that process.
pub(crate) fn is_inside() -> bool {
    std::env::var(ROLE.0).is_ok_and(|role| role == ROLE.1)
}

/// Does what standard input says.
pub(crate) fn run() -> ExitCode {
    let mut line = String::new();
    let job = std::io::stdin().read_line(&mut line).ok().and_then(|_| serde_json::from_str::<Job>(&line).ok());
    let Some(job) = job else { return ExitCode::FAILURE };
    match work(&job) {
        Ok(()) => {}
        Err(refusal) => say(&News::Refused(refusal)),
    }
    ExitCode::SUCCESS
}

/// When nobody listens any more there is nobody to tell, and the next line ends the search.
fn say(news: &News) {
    let mut line = serde_json::to_string(news).unwrap_or_default();
    line.push('\n');
    let mut out = std::io::stdout().lock();
    if out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

fn work(job: &Job) -> Result<(), String> {
    let drive = drive(job)?;
    if !job.hunt.is_empty() {
        mutants::hunt_all(job, say);
        return Ok(());
    }
    if job.tell {
        return replay(job, &drive);
    }
    let began = Instant::now();
    let seeds = (job.from..job.to).step_by(usize::try_from(job.every).unwrap_or(usize::MAX));
    let found = search(&drive, seeds, job.jobs, |Progress { outcome, .. }| {
        say(&News::Ran(Box::new(outcome.clone())));
        let enough = (outcome.signature().is_some() && !job.keep_going)
            || job.budget.is_some_and(|budget| began.elapsed() >= budget);
        if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let mut known = BTreeSet::new();
    for broken in &found.broken {
        if known.len() < TOLD_MAX && known.insert(&broken.violation.signature) {
            say(&News::Shrinking(broken.seed));
            let (plan, _) = drive.plan(broken.seed);
            let command = replay_command(job, broken.seed);
            let (small, told) = tell(&drive, &plan, &broken.violation.signature, job.shrink, &command);
            let told = told.unwrap_or_else(|| untold(&broken.violation, &command));
            say(&News::Told { seed: broken.seed, plan: small.plan.to_string(), told: Box::new(told) });
        }
    }
    say(&News::Over { left_out: found.left_out });
    Ok(())
}

fn drive(job: &Job) -> Result<Drive, String> {
    let plan = job.plan.as_deref().map(str::parse::<Plan>).transpose().map_err(|error| error.to_string())?;
    if let Some(line) = plan.iter().flat_map(rehearsal_sim::drive::unsupported).next() {
        return Err(line.to_string());
    }
    let mutant = match &job.mutant {
        None => None,
        Some(name) => Some(Mutant::named(name).ok_or_else(|| {
            let all: Vec<_> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
            format!("there is no mutant '{name}'; there are {}", all.join(", "))
        })?),
    };
    if !PLANTABLE && (mutant.is_some() || !job.hunt.is_empty()) {
        return Err("this program was built without bugs to plant; build it with `--features mutants`".to_owned());
    }
    Ok(Drive { plan, mutant, strict: job.strict, ..Drive::default() })
}

fn replay(job: &Job, drive: &Drive) -> Result<(), String> {
    let plan = drive.plan.as_ref().ok_or("there is no plan to replay")?;
    let command = replay_command(job, plan.seed);
    let mut outcome = drive
        .run_and_tell(plan, &command)
        .map_err(|lines| lines.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    let told = outcome.verdict.told.take();
    let told = told.or_else(|| outcome.verdict.broken.as_ref().map(|broken| untold(broken, &command)));
    let seed = outcome.seed;
    say(&News::Ran(Box::new(outcome)));
    if let Some(told) = told {
        say(&News::Told { seed, plan: plan.to_string(), told: Box::new(told) });
    }
    say(&News::Over { left_out: BTreeMap::new() });
    Ok(())
}

fn replay_command(job: &Job, seed: u64) -> String {
    if let Some(again) = &job.again {
        return again.clone();
    }
    let mutant = job.mutant.as_ref().map_or_else(String::new, |mutant| format!(" --mutant {mutant}"));
    format!("rehearsal sim --replay {}/seed-{seed}.plan{mutant}", job.report)
}

/// Of a run that did not come to its end nothing is known but how it ended.
fn untold(broken: &rehearsal_sim::checkers::Violation, command: &str) -> Told {
    let mut terminal = format!("BROKEN by {}: {}\n", broken.signature, broken.sentence);
    for line in &broken.chain {
        terminal.push_str(&format!("  {line}\n"));
    }
    terminal.push_str(&format!("  again: {command}\n"));
    Told { terminal, html: String::new(), perfetto: String::new(), log: String::new() }
}
