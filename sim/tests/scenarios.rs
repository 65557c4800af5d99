//! Failures of real projects: each fires on its vulnerable side, and nothing does on its safe one.
#![cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]

use rehearsal_sim::check::alone;
use rehearsal_sim::drive::{Drive, Mutant, Outcome};
use rehearsal_sim::plan::Plan;
use rehearsal_sim::scenario::{Scenario, TEXTS};

macro_rules! scenarios {
    ($($test:ident = $name:literal;)*) => {
        $(#[test]
        fn $test() {
            alone($name, || is_two_sided($name));
        })*

        #[test]
        fn all_are_tested() {
            let mut tested = vec![$($name),*];
            tested.sort_unstable();
            let mut there: Vec<&str> = TEXTS.iter().map(|(name, _)| *name).collect();
            there.sort_unstable();
            assert_eq!(tested, there);
        }
    };
}

scenarios! {
    acks1_leader_crash = "acks1-leader-crash";
    autocommit_before_processing = "autocommit-before-processing";
    close_hangs_without_coordinator = "close-hangs-without-coordinator";
    commit_during_coop_rebalance = "commit-during-coop-rebalance";
    coordinator_partition_zombie = "coordinator-partition-zombie";
    dlq_fire_and_forget = "dlq-fire-and-forget";
    dlq_offset_not_advanced = "dlq-offset-not-advanced";
    last_replica_standing = "last-replica-standing";
    latest_reset_new_partition = "latest-reset-new-partition";
    offset_expiry_reset = "offset-expiry-reset";
    parallel_commit_gap = "parallel-commit-gap";
    retention_overtakes_consumer = "retention-overtakes-consumer";
    retry_reorder = "retry-reorder";
    slow_handler_zombie = "slow-handler-zombie";
    stale_stored_offset_rewind = "stale-stored-offset-rewind";
    transient_error_reset = "transient-error-reset";
    unclean_election = "unclean-election";
}

fn is_two_sided(name: &str) -> Result<String, String> {
    let scenario = Scenario::named(name).ok_or("there is no such scenario")?.map_err(|error| error.to_string())?;
    let vulnerable = run(&scenario, &scenario.vulnerable, scenario.mutant)?;
    let broken = signatures(&vulnerable);
    if let Some(expected) = scenario.fires.iter().find(|expected| !broken.contains(expected)) {
        return Err(format!("the vulnerable side should break {expected}, and broke {broken:?}"));
    }
    let safe = run(&scenario, &scenario.safe, None)?;
    match safe.verdict.broken {
        None => Ok(format!("{name}: {broken:?}, and nothing on the safe side")),
        Some(broken) => Err(format!("the safe side should break nothing, and broke {broken:?}")),
    }
}

fn run(scenario: &Scenario, plan: &Plan, mutant: Option<Mutant>) -> Result<Outcome, String> {
    let drive = Drive { strict: scenario.strict, mutant, ..Drive::default() };
    drive.run(plan).map_err(|lines| format!("{lines:?}"))
}

fn signatures(outcome: &Outcome) -> Vec<String> {
    outcome.signature().into_iter().chain(&outcome.verdict.others).map(ToString::to_string).collect()
}
