//! From seeds to reports: runs many, makes the plan of a failure small, and tells.

use super::{Drive, Outcome, Telling};
use crate::check::Setup;
use crate::checkers::{Signature, Violation};
use crate::coverage::Coverage;
use crate::plan::{Family, Plan};
use crate::runner;
use crate::shrink::{Shrunk, shrink};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

/// A run, told in four ways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// For a terminal: thirty lines at most.
    pub terminal: String,
    /// For a browser: one page.
    pub html: String,
    /// For a trace viewer: Chrome's format.
    pub perfetto: String,
    /// Every event, a line each.
    pub log: String,
}

/// How far a search has come, after each run.
#[derive(Debug)]
pub struct Progress<'a> {
    /// The run that has just ended.
    pub outcome: &'a Outcome,
    /// What all runs have shown so far.
    pub found: &'a Found,
}

/// What a search has found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// How many seeds have run.
    pub runs: u64,
    /// The seeds that failed, in the order in which they ended.
    pub broken: Vec<Broken>,
    /// What all of them covered.
    pub coverage: Coverage,
    /// How often faults of each family struck.
    pub hits: BTreeMap<Family, u64>,
    /// How much virtual time passed.
    pub virtual_time: Duration,
    /// What plans asked for and could not be carried out, by the reason, with how often.
    pub left_out: BTreeMap<String, u64>,
}

/// A seed that failed.
#[derive(Debug, Clone)]
pub struct Broken {
    /// The seed.
    pub seed: u64,
    /// How.
    pub violation: Violation,
}

/// Runs the plans of these seeds, `jobs` at once, until `each` says that it is enough.
pub fn search(
    drive: &Drive,
    seeds: impl IntoIterator<Item = u64>,
    jobs: usize,
    mut each: impl FnMut(Progress<'_>) -> ControlFlow<()>,
) -> Found {
    let mut found = Found::default();
    let describe = |setup: &mut Setup| {
        let (plan, _) = drive.plan(setup.seed());
        drive.describe(&plan, setup, None);
    };
    let _ = runner::run_many(&describe, seeds, jobs, |run| {
        for line in drive.plan(run.seed).1 {
            *found.left_out.entry(line.why).or_default() += 1;
        }
        let outcome = Outcome::of(run);
        found.add(&outcome);
        each(Progress { outcome: &outcome, found: &found })
    });
    found
}

impl Found {
    /// Adds what one more run has shown; the answer is how much of what it covered is new.
    pub fn add(&mut self, outcome: &Outcome) -> usize {
        self.runs += 1;
        self.virtual_time += outcome.virtual_time;
        let new = self.coverage.add(&outcome.verdict.coverage);
        for (family, times) in &outcome.verdict.hits {
            *self.hits.entry(*family).or_default() += times;
        }
        if let Some(violation) = &outcome.verdict.broken {
            self.broken.push(Broken { seed: outcome.seed, violation: violation.clone() });
        }
        new
    }
}

/// Makes the plan of a failing run small, in at most so many runs, and tells what the small one does. `replay` makes the
/// command that runs a plan again.
///
/// When the plan holds after all, which a deterministic run never does, it is told as it is.
pub fn tell(drive: &Drive, plan: &Plan, signature: &Signature, runs: usize, replay: &str) -> (Shrunk, Option<Told>) {
    let small = shrink(plan, signature, runs, |candidate| {
        drive.run(candidate).ok().and_then(|outcome| outcome.signature().cloned())
    });
    let telling = Telling { replay, shrunk_from: (small.plan != *plan).then_some((plan, small.runs)) };
    let outcome = drive.run_telling(&small.plan, Some(&telling));
    let told = outcome.ok().and_then(|outcome| outcome.verdict.told);
    (small, told)
}
