//! After the finale: the same bus, in virtual time, under more faults than anybody could stage.

use super::screen::{banner, say};
use super::table::Row;
use crate::sim::{Sample, sample};
use anyhow::{Context, bail};
use indicatif::HumanCount;
use std::time::{Duration, Instant};

const SEEDS: u64 = 100;
/// Where a hundred seeds take longer, there are fewer.
const BUDGET: Duration = Duration::from_secs(10);

pub(super) async fn run() -> anyhow::Result<Row> {
    banner("Chaos: a Hundred Seeds of Faults in Virtual Time");
    let (began, seconds) = (Instant::now(), BUDGET.as_secs());
    say!("Crashing, cutting, pausing and lying, with this same bus and client, for {seconds} seconds at most...");
    let searched = tokio::task::spawn_blocking(|| sample(SEEDS, BUDGET)).await.context("searching")?;
    let Sample { runs, virtual_time, strikes, records, broken } = searched?;
    let took = began.elapsed();
    if let Some(broken) = broken {
        bail!("a promise does not hold: {broken}");
    }
    if runs < SEEDS {
        say!("This machine does {runs} of {SEEDS} seeds in that time; `rehearsal sim` runs all");
    }
    let (minutes, seconds) = (virtual_time.as_secs() / 60, took.as_secs_f64());
    let (seeds, faults, events) = (HumanCount(runs), HumanCount(strikes), HumanCount(records));
    say!(
        "\nCHAOS: {seeds} seeds, {minutes} minutes of virtual time in {seconds:.1} s, {faults} faults: 0 promises broken"
    );
    say!("  {events} events published, each handled or dead-lettered, in order; `rehearsal sim` looks further");
    Ok(Row::new("6 Chaos", records, took, format!("{faults} faults, 0 promises broken")))
}
