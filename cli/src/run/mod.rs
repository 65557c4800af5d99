//! `rehearsal run`: a program as it is, in virtual time, with the cluster it talks to.
//!
//! The simulated operating system is preloaded into the program (`sim/preload`), so nothing in it is changed and nothing
//! needs to be rebuilt. [`program`] finds it and says what cannot be carried; [`outside`] starts it and tells what came
//! of it.

#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
mod outside;
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
mod program;

#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
pub(crate) use outside::run;

use std::ffi::OsString;
use std::num::NonZeroU64;
use std::path::PathBuf;

/// What to run, and in what world.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Where all chance comes from: the same seed gives the same run
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many brokers there are; what the plan says, or 1
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    brokers: Option<u32>,
    /// A topic there is from the start, and how many partitions it has
    #[arg(long = "topic", value_name = "NAME:PARTITIONS", value_parser = topic)]
    topics: Vec<(String, u32)>,
    /// The plan whose topics there are and whose faults happen
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Write `SEED HASH` to the standard output at the end: equal hashes are equal runs
    #[arg(long)]
    hash: bool,
    /// Give the run up after so many seconds of real time
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    time_limit: NonZeroU64,
    /// Write a line for every step, to find where two runs part
    #[arg(long, hide = true, value_name = "FILE")]
    steps: Option<PathBuf>,
    /// The program and its arguments; it finds the brokers in KAFKA_BOOTSTRAP_SERVERS
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

fn topic(text: &str) -> Result<(String, u32), String> {
    let parts = text.rsplit_once(':').and_then(|(name, count)| Some((name.to_owned(), count.parse().ok()?)));
    match parts {
        Some((name, partitions @ 1..)) if !name.is_empty() => Ok((name, partitions)),
        _ => Err("expected a topic such as orders:6".to_owned()),
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64")))]
pub(crate) fn run(_: Args) -> anyhow::Result<std::process::ExitCode> {
    anyhow::bail!("the simulator runs on x86-64 Linux with glibc; in a container of such a system it runs anywhere")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_have_a_name_and_partitions() {
        assert_eq!(topic("orders:6"), Ok(("orders".to_owned(), 6)));
        assert!(topic("orders").is_err());
        assert!(topic("orders:0").is_err());
        assert!(topic(":6").is_err());
    }
}
