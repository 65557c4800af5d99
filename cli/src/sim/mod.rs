//! `rehearsal sim`: runs seeds in the simulator, makes the plan of a failure small, and tells.
//!
//! It runs itself again, with fixed addresses and an empty environment, so that the same seed gives the same run in
//! every shell. [`inside`] is that second process, which runs the seeds; [`outside`] is the first, which shows what is
//! going on and writes what was asked for. They speak by `Job` and `News`, a line of JSON each.

#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
mod inside;
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
mod mutants;
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
mod outside;
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
mod scenario;

use clap::ArgGroup;
use std::num::NonZeroUsize;
use std::path::PathBuf;

#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
pub(crate) use self::{
    inside::{is_inside, run as run_inside},
    outside::{run, sample},
};

/// Which seeds, and what to do with what they show.
#[derive(Debug, Clone, clap::Args)]
#[command(group = ArgGroup::new("what").args(["seeds", "replay"]))]
pub(crate) struct Args {
    /// Seeds to run: so many from 0 on, or from A to before B
    #[arg(long, value_name = "N|A..B", default_value_t = Seeds { from: 0, to: SEEDS }, value_parser = seeds)]
    seeds: Seeds,
    /// Run the plan in this file with every seed, instead of drawing one from it
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Run the plan in this file once, with its own seed, and tell what happens
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Show a failure of a real project by its name, on a vulnerable configuration and on a safe one
    #[arg(long, value_name = "NAME", conflicts_with_all = ["seeds", "plan", "replay", "mutants"])]
    scenario: Option<String>,
    /// Run only every n-th seed, beginning with the i-th: several machines share a search
    #[arg(long, value_name = "I/N", default_value = "1/1", value_parser = shard)]
    shard: Shard,
    /// How many seeds run at once; one a processor by default
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
    /// Begin no more seeds after this long, such as `90s` or `10m`
    #[arg(long, value_name = "TIME", value_parser = time)]
    time_budget: Option<std::time::Duration>,
    /// Go on after a failure
    #[arg(long)]
    keep_going: bool,
    /// How many runs may be spent on making a failing plan small
    #[arg(long, value_name = "RUNS", default_value_t = SHRINK)]
    shrink: usize,
    /// Where to write what a failing run did: its plan, a page, a trace, all events
    #[arg(long, value_name = "DIR", default_value = REPORT)]
    report: PathBuf,
    /// Write what came of every seed as JUnit's XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write a line `seed hash` for every seed: equal on every machine, or a run is not deterministic
    #[arg(long, value_name = "FILE")]
    hashes: Option<PathBuf>,
    /// Plant a bug, to see that it is found
    #[arg(long, value_name = "NAME", hide = true)]
    mutant: Option<String>,
    /// Plant every bug in turn, or the one of `--mutant`, and enter into this file how soon it is found
    #[arg(long, value_name = "FILE", hide = true)]
    mutants: Option<PathBuf>,
}

/// What the command line says when it says nothing.
impl Default for Args {
    fn default() -> Self {
        Self {
            seeds: Seeds { from: 0, to: SEEDS },
            plan: None,
            scenario: None,
            replay: None,
            shard: Shard { number: 1, of: 1 },
            jobs: None,
            time_budget: None,
            keep_going: false,
            shrink: SHRINK,
            report: REPORT.into(),
            junit: None,
            hashes: None,
            mutant: None,
            mutants: None,
        }
    }
}

const SEEDS: u64 = 100;
const SHRINK: usize = 200;
const REPORT: &str = "rehearsal-report";

/// From the first to before the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seeds {
    from: u64,
    to: u64,
}

impl std::fmt::Display for Seeds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.from {
            0 => write!(f, "{}", self.to),
            from => write!(f, "{from}..{}", self.to),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shard {
    number: u64,
    of: u64,
}

fn seeds(text: &str) -> Result<Seeds, String> {
    let number = |text: &str| {
        text.parse::<u64>().map_err(|_| "expected a number such as 100, or a range such as 100..200".to_owned())
    };
    match text.split_once("..") {
        None => Ok(Seeds { from: 0, to: number(text)? }),
        Some((from, to)) => Ok(Seeds { from: number(from)?, to: number(to)? }),
    }
}

fn shard(text: &str) -> Result<Shard, String> {
    let parts = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
    match parts {
        Some((number, of)) if (1..=of).contains(&number) => Ok(Shard { number, of }),
        _ => Err("expected a shard such as 3/16, counted from 1".to_owned()),
    }
}

fn time(text: &str) -> Result<std::time::Duration, String> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[number.len()..] {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("expected a time such as 90s, 10m or 1h".to_owned()),
    };
    let seconds = number.parse::<f64>().map_err(|_| "expected a time such as 90s, 10m or 1h".to_owned())?;
    std::time::Duration::try_from_secs_f64(seconds * unit).map_err(|error| error.to_string())
}

/// What a short search came to; see [`sample`].
#[derive(Debug)]
pub(crate) struct Sample {
    /// How many seeds ran.
    pub(crate) runs: u64,
    pub(crate) virtual_time: std::time::Duration,
    /// How often a fault struck.
    pub(crate) strikes: u64,
    /// How many records were published.
    pub(crate) records: u64,
    /// What was broken first, and the command that runs it again.
    pub(crate) broken: Option<String>,
}

/// Why there is no simulator here.
#[cfg(not(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64")))]
const ELSEWHERE: &str =
    "the simulator runs on x86-64 Linux with glibc; in a container of such a system it runs anywhere";

#[cfg(not(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64")))]
pub(crate) fn sample(_: u64, _: std::time::Duration) -> anyhow::Result<Sample> {
    anyhow::bail!(ELSEWHERE)
}

/// Whether there is a simulator here.
pub(crate) const IS_HERE: bool = cfg!(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"));

#[cfg(not(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64")))]
pub(crate) fn is_inside() -> bool {
    false
}

#[cfg(not(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64")))]
pub(crate) fn run_inside() -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}

#[cfg(not(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64")))]
pub(crate) fn run(_: Args) -> anyhow::Result<()> {
    anyhow::bail!(ELSEWHERE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_a_number_or_a_range() {
        assert_eq!(seeds("30"), Ok(Seeds { from: 0, to: 30 }));
        assert_eq!(seeds("7..9"), Ok(Seeds { from: 7, to: 9 }));
        assert!(seeds("..9").is_err());
    }

    #[test]
    fn shards_count_from_one() {
        assert_eq!(shard("3/16"), Ok(Shard { number: 3, of: 16 }));
        assert!(shard("0/4").is_err());
        assert!(shard("5/4").is_err());
    }

    #[test]
    fn times_have_a_unit() {
        assert_eq!(time("1.5m"), Ok(std::time::Duration::from_secs(90)));
        assert!(time("90").is_err());
    }
}
