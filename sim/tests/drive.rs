//! The bus as it ships, on plans drawn from seeds.
#![cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]

use rehearsal_sim::check::alone;
use rehearsal_sim::drive::{Drive, Mutant, Progress, search, tell};
use rehearsal_sim::plan::Plan;
use rehearsal_sim::runner;
use rehearsal_sim::swarm::Settings;
use std::ops::ControlFlow;

fn calm() -> Settings {
    Settings { records: 60, aggregates: 12, ..Settings::calm() }
}

#[test]
fn a_calm_run_keeps_every_promise() {
    alone("a calm run", || {
        let drive = Drive { settings: calm(), ..Drive::default() };
        let (plan, _) = drive.plan(1);
        let started = std::time::Instant::now();
        let outcome = drive.run(&plan).map_err(|lines| format!("{lines:?}"))?;
        match &outcome.verdict.broken {
            None => {
                Ok(format!("{:?} {} events, {:?}", outcome.virtual_time, outcome.verdict.events, started.elapsed()))
            }
            Some(broken) => {
                let (_, told) = tell(&drive, &plan, &broken.signature, 0, "again");
                Err(format!("{broken:?}\n{}", told.map_or_else(String::new, |told| told.log)))
            }
        }
    });
}
