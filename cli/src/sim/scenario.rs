//! `rehearsal sim --scenario NAME`: a failure of a real project, on its vulnerable side and on its safe one.

use super::inside::{Job, News};
use super::outside::{send, start};
use anyhow::Context;
use rehearsal_sim::checkers::Signature;
use rehearsal_sim::drive::Outcome;
use rehearsal_sim::plan::Plan;
use rehearsal_sim::scenario::{Scenario, TEXTS};
use std::io::{BufRead, BufReader, Write};

/// Shows both sides; an error when one of them is not what it should be.
pub(super) fn show(name: &str) -> anyhow::Result<()> {
    let Some(scenario) = Scenario::named(name) else {
        let names: Vec<&str> = TEXTS.iter().map(|(name, _)| *name).collect();
        anyhow::bail!("there is no scenario '{name}'; there are {}", names.join(", "));
    };
    let scenario = scenario?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{scenario}\n── the vulnerable side ──")?;
    let vulnerable = side(&scenario, &scenario.vulnerable, scenario.mutant.map(|mutant| mutant.name()))?;
    writeln!(out, "\n── the safe side ──")?;
    let safe = side(&scenario, &scenario.safe, None)?;
    let broken: Vec<String> = signatures(&vulnerable).map(ToString::to_string).collect();
    for expected in &scenario.fires {
        anyhow::ensure!(broken.contains(expected), "the vulnerable side should break {expected}, and broke {broken:?}");
    }
    if let Some(broken) = signatures(&safe).next() {
        anyhow::bail!("the safe side should break nothing, and broke {broken}");
    }
    Ok(())
}

fn signatures(outcome: &Outcome) -> impl Iterator<Item = &Signature> {
    outcome.signature().into_iter().chain(&outcome.verdict.others)
}

fn side(scenario: &Scenario, plan: &Plan, mutant: Option<&str>) -> anyhow::Result<Outcome> {
    let (mut search, input, output) = start()?;
    let job = Job {
        from: plan.seed,
        to: plan.seed + 1,
        every: 1,
        plan: Some(plan.to_string()),
        strict: scenario.strict,
        tell: true,
        jobs: 1,
        budget: None,
        keep_going: false,
        shrink: 0,
        mutant: mutant.map(str::to_owned),
        hunt: Vec::new(),
        again: Some(format!("rehearsal sim --scenario {}", scenario.name)),
        report: String::new(),
    };
    send(input, &job)?;
    let mut ran = None;
    for line in BufReader::new(output).lines() {
        let line = line.context("listening to the simulator")?;
        match serde_json::from_str(&line).with_context(|| format!("the simulator said {line:.200}"))? {
            News::Ran(outcome) => ran = Some(*outcome),
            News::Told { told, .. } => writeln!(std::io::stdout().lock(), "{}", told.terminal.trim_end())?,
            News::Refused(why) => anyhow::bail!(why),
            _ => {}
        }
    }
    search.wait().context("waiting for the simulator")?;
    ran.context("the simulator ended early")
}
