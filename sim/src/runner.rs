//! Runs seeds, each in a process of its own, forked from this one.

use crate::check::Setup;
use rehearsal_sim_kernel::config::{Config, Stats};
use rehearsal_sim_kernel::front::child::{self, Child, Outcome};
use std::ops::ControlFlow;
use std::thread::available_parallelism;

/// A description of a simulation: called anew for every seed, in the simulation of that seed.
pub type Describe<'a> = &'a (dyn Fn(&mut Setup) + Sync);

/// What became of one seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The seed.
    pub seed: u64,
    /// What was measured; absent when the run did not come to its end.
    pub stats: Option<Stats>,
    /// What [`Setup::report`] gave.
    pub report: Vec<u8>,
    /// Why it did not come to its end: a panic, a deadlock, a call that escaped.
    pub failure: Option<String>,
    /// One line a step, if they were asked for.
    pub steps: String,
}

/// How many simulations run at once unless told otherwise: one a processor.
pub fn jobs() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// Runs one seed.
pub fn run_one(describe: Describe<'_>, seed: u64) -> Run {
    let config = settings(describe, seed).kernel_config();
    finish(seed, start(describe, config).map(Child::wait))
}

/// Runs many, `jobs` at once, and hands each over when it is done, in no particular order; stops when told to.
pub fn run_many(
    describe: Describe<'_>,
    seeds: impl IntoIterator<Item = u64>,
    jobs: usize,
    mut each: impl FnMut(Run) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let (mut children, mut running) = (Vec::new(), Vec::new());
    let mut free: Vec<usize> = (0..jobs.max(1)).collect();
    let mut waiting = seeds.into_iter();
    loop {
        while !free.is_empty()
            && let Some(seed) = waiting.next()
        {
            let processor = free.pop();
            let config = Config { processor, ..settings(describe, seed).kernel_config() };
            match start(describe, config) {
                Ok(child) => {
                    children.push(child);
                    running.push((seed, processor));
                }
                Err(failure) => {
                    free.extend(processor);
                    each(finish(seed, Err(failure)))?;
                }
            }
        }
        if running.is_empty() {
            return ControlFlow::Continue(());
        }
        let (place, outcome) = child::wait_any(&mut children);
        let (seed, processor) = running.remove(place);
        free.extend(processor);
        each(finish(seed, Ok(outcome)))?;
    }
}

/// Where two runs of a seed part, with both sides; `None` when they do not.
pub fn divergence(describe: Describe<'_>, seed: u64) -> Option<String> {
    let config = Config { log_steps: true, ..settings(describe, seed).kernel_config() };
    let [one, other] = [(); 2].map(|()| finish(seed, start(describe, config.clone()).map(Child::wait)));
    let mut before = "the beginning";
    for (number, (one, other)) in one.steps.lines().zip(other.steps.lines()).enumerate() {
        if one != other {
            return Some(format!("step {number}, after {before}:\n  one run:   {one}\n  the other: {other}"));
        }
        before = one;
    }
    let (one, other) = (one.steps.lines().count(), other.steps.lines().count());
    (one != other).then(|| format!("one run ends after {one} steps, the other after {other}, the last being {before}"))
}

/// What the description asks for, without running it.
pub(crate) fn settings(describe: Describe<'_>, seed: u64) -> Setup {
    let mut setup = Setup::new(seed);
    describe(&mut setup);
    setup
}

fn start(describe: Describe<'_>, config: Config) -> Result<Child, String> {
    let seed = config.seed;
    let program = move || {
        let mut setup = Setup::new(seed);
        describe(&mut setup);
        setup.run()
    };
    Child::start(config, Box::new(program)).map_err(|error| format!("cannot start a process: {error}"))
}

fn finish(seed: u64, outcome: Result<Outcome, String>) -> Run {
    match outcome {
        Ok(Outcome { stats, returned, steps, failure, .. }) => Run { seed, stats, report: returned, failure, steps },
        Err(failure) => Run { seed, stats: None, report: Vec::new(), failure: Some(failure), steps: String::new() },
    }
}
