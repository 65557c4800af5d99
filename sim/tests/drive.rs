//! The bus as it ships, on plans drawn from seeds.
#![cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]

use rehearsal_sim::check::alone;
use rehearsal_sim::drive::{Drive, Found, HandOver, Mutant, search, tell};
use rehearsal_sim::plan::{Family, Plan};
use rehearsal_sim::runner;
use rehearsal_sim::swarm::Settings;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::{ControlFlow, Range};
use std::path::Path;

/// Runs all seeds up to the first failure.
fn until_broken(drive: &Drive, seeds: Range<u64>) -> Found {
    search(drive, seeds, runner::jobs(), |progress| match progress.outcome.signature() {
        None => ControlFlow::Continue(()),
        Some(_) => ControlFlow::Break(()),
    })
}

/// What a failing seed did, with its plan.
fn told(drive: &Drive, plan: &Plan) -> String {
    match drive.run_and_tell(plan, "rehearsal sim --replay, with this plan") {
        Ok(outcome) => {
            let told =
                outcome.verdict.told.map_or_else(|| format!("{:?}", outcome.verdict.broken), |told| told.terminal);
            format!("{told}\n{plan}")
        }
        Err(lines) => format!("{lines:?}"),
    }
}

#[test]
fn thirty_seeds_of_the_standard_run_break_no_promise() {
    alone("thirty seeds", || {
        let drive = Drive::default();
        let found = until_broken(&drive, 0..30);
        match found.broken.first() {
            None => Ok(format!("{}", found.coverage)),
            Some(broken) => Err(told(&drive, &drive.plan(broken.seed).0)),
        }
    });
}

#[test]
fn planted_bugs_are_found_and_their_plans_made_small() {
    alone("planted bugs", || {
        let mut summary = String::new();
        for mutant in [Mutant::CommitsBeforeHandling, Mutant::LosesDeadLetters] {
            let families =
                [Family::SlowHandler, Family::HungHandler, Family::FailingHandler, Family::ProcessCrash].into();
            let settings = Settings { records: 60, aggregates: 30, families, ..Settings::default() };
            let drive = Drive { settings, mutant: Some(mutant), ..Drive::default() };
            let found = until_broken(&drive, 0..100);
            let name = mutant.name();
            let broken = found.broken.first().ok_or_else(|| format!("{name} was not found in {} seeds", found.runs))?;
            let (plan, _) = drive.plan(broken.seed);
            let (small, told) = tell(&drive, &plan, &broken.violation.signature, 60, "again");
            let told = told.ok_or_else(|| format!("{name}: nothing was told"))?;
            let lines = told.terminal.lines().count();
            let signature = broken.violation.signature.to_string();
            if lines > 30 || !told.terminal.contains(&signature) || !told.html.contains(&signature) {
                return Err(format!("{name} is told in {lines} lines:\n{}", told.terminal));
            }
            let (faults, records) = (small.plan.families().len(), small.plan.records().len());
            if faults > 3 || records > 5 {
                return Err(format!("{name} is still large after {} runs:\n{}", small.runs, small.plan));
            }
            let _ = write!(summary, "{name}: {signature} after {} seeds, small in {} runs. ", found.runs, small.runs);
        }
        Ok(summary)
    });
}

/// As many as an unoptimised build does in a minute; `make nightly` compares ten thousand.
const EQUAL: Range<u64> = 0..40;

#[test]
fn equal_seeds_are_equal_runs() {
    alone("equal seeds", || {
        let drive = Drive::default();
        let hashes = [0, 1].map(|_| {
            let mut hashes = BTreeMap::new();
            search(&drive, EQUAL, runner::jobs(), |progress| {
                hashes.insert(progress.outcome.seed, progress.outcome.hash);
                ControlFlow::Continue(())
            });
            hashes
        });
        let [one, other] = &hashes;
        let equal = |seed: &u64| matches!(one.get(seed), Some(Some(_))) && one.get(seed) == other.get(seed);
        match EQUAL.into_iter().find(|seed| !equal(seed)) {
            None => Ok(format!("{} runs", one.len())),
            Some(seed) => {
                let parts = drive.divergence(&drive.plan(seed).0);
                Err(format!("seed {seed}: {:?} and {:?}; {parts:?}", one.get(&seed), other.get(&seed)))
            }
        }
    });
}

/// Threads that are carried and threads that wake each other take the same steps.
#[test]
fn how_the_turn_passes_does_not_matter() {
    alone("hand-over", || {
        for seed in 0..4 {
            let hashes = [HandOver::Carry, HandOver::Wake].map(|hand_over| {
                let drive = Drive { hand_over, ..Drive::default() };
                drive.run(&drive.plan(seed).0).ok().and_then(|outcome| outcome.hash)
            });
            let [carried, woken] = hashes;
            if carried.is_none() || carried != woken {
                return Err(format!("seed {seed}: {carried:x?} carried, {woken:x?} woken"));
            }
        }
        Ok("4 seeds".into())
    });
}

/// What once failed and was put right stays right.
#[test]
fn every_regression_holds() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    alone("regressions", || {
        let mut files: Vec<_> = std::fs::read_dir(&directory)
            .map_err(|error| format!("{}: {error}", directory.display()))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "plan"))
            .collect();
        files.sort();
        let drive = Drive::default();
        for file in &files {
            let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
            let plan: Plan = text.parse().map_err(|error| format!("{}: {error}", file.display()))?;
            let outcome = drive.run(&plan).map_err(|lines| format!("{}: {lines:?}", file.display()))?;
            if outcome.signature().is_some() {
                return Err(format!("{}\n{}", file.display(), told(&drive, &plan)));
            }
        }
        Ok(format!("{} plans hold", files.len()))
    });
}
