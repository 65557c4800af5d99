//! `rehearsal sim --mutants FILE`: plants every bug in turn, and keeps a table of how soon each is found.

use super::Args;
use super::inside::{Job, News};
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use rehearsal_sim::drive::{Hunted, Mutant, hunt, hunted_rows, hunted_table};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::ChildStdout;

/// In the process in which seeds run.
pub(super) fn hunt_all(job: &Job, say: impl Fn(&News)) {
    for mutant in job.hunt.iter().filter_map(|name| Mutant::named(name)) {
        say(&News::Hunted(hunt(mutant, job.to, job.jobs, job.shrink)));
    }
    say(&News::Over { left_out: BTreeMap::new() });
}

/// The bugs to hunt: the one that was named, or all.
pub(super) fn names(args: &Args) -> Vec<String> {
    match &args.mutant {
        Some(name) => vec![name.clone()],
        None => Mutant::ALL.iter().map(|mutant| mutant.name().to_owned()).collect(),
    }
}

/// In the process in front of the user: what is found goes into the table at once, in place of what it said before.
pub(super) fn listen(output: ChildStdout, file: &Path, many: usize) -> anyhow::Result<()> {
    let bar = ProgressBar::new(many as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} bugs  {msg}") {
        bar.set_style(style);
    }
    for line in BufReader::new(output).lines() {
        let line = line.context("listening to the simulator")?;
        match serde_json::from_str(&line).with_context(|| format!("the simulator said {line:.200}"))? {
            News::Hunted(hunted) => {
                bar.inc(1);
                bar.set_message(hunted.mutant.clone());
                enter(file, hunted)?;
            }
            News::Refused(why) => anyhow::bail!(why),
            _ => {}
        }
    }
    bar.finish_and_clear();
    Ok(())
}

fn enter(file: &Path, hunted: Hunted) -> anyhow::Result<()> {
    let mut rows = if file.exists() {
        hunted_rows(&std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?)
    } else {
        Vec::new()
    };
    rows.retain(|row| row.mutant != hunted.mutant);
    rows.push(hunted);
    std::fs::write(file, hunted_table(&rows)).with_context(|| format!("writing {}", file.display()))
}
