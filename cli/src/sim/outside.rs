//! The process in front of the user: shows how far the search is, writes files, and says what came of it.

use super::inside::{Job, News, ROLE};
use super::{Args, Sample, Seeds};
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use rehearsal_sim::checkers::Signature;
use rehearsal_sim::drive::{Found, Outcome, Told};
use rehearsal_sim::plan::Plan;
use rehearsal_sim::report::{self, Case};
use rehearsal_sim::runner;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

/// Runs what was asked for.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let job = job(&args)?;
    watch(&args, &job)?.finish()
}

/// Runs so many seeds, and begins none after so long; shows how far it is and leaves it to the caller to say what came
/// of it. A failing plan is not made small.
pub(crate) fn sample(seeds: u64, budget: Duration) -> anyhow::Result<Sample> {
    let seeds = Seeds { from: 0, to: seeds };
    let args = Args { seeds, time_budget: Some(budget), shrink: 0, ..Args::default() };
    let job = job(&args)?;
    let watch = watch(&args, &job)?;
    watch.bar.finish_and_clear();
    let broken = watch.found.broken.first().map(|broken| {
        format!("seed {} broke {}: {}", broken.seed, broken.violation.signature, watch.again(broken.seed))
    });
    let found = &watch.found;
    let strikes = found.hits.values().sum();
    let records = watch.outcomes.iter().map(|(outcome, _)| outcome.verdict.records).sum();
    Ok(Sample { runs: found.runs, virtual_time: found.virtual_time, strikes, records, broken })
}

fn watch<'a>(args: &'a Args, job: &Job) -> anyhow::Result<Watch<'a>> {
    let (mut search, input, output) = start()?;
    send(input, job)?;
    let mut watch = Watch::of(args, job);
    let heard = watch.listen(output);
    let status = search.wait().context("waiting for the simulator")?;
    heard?;
    anyhow::ensure!(watch.over, "the simulator ended early, with {status}");
    Ok(watch)
}

fn job(args: &Args) -> anyhow::Result<Job> {
    let file = args.replay.as_ref().or(args.plan.as_ref());
    let read = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        // Its lines and columns are named best here, with the file's name.
        text.parse::<Plan>().with_context(|| format!("reading {}", path.display()))?;
        anyhow::Ok(text)
    };
    Ok(Job {
        from: args.seeds.from.saturating_add(args.shard.number - 1),
        to: args.seeds.to,
        every: args.shard.of,
        plan: file.map(read).transpose()?,
        tell: args.replay.is_some(),
        jobs: args.jobs.map_or_else(runner::jobs, NonZeroUsize::get),
        budget: args.time_budget,
        keep_going: args.keep_going,
        shrink: args.shrink,
        mutant: args.mutant.clone(),
        report: args.report.display().to_string(),
    })
}

fn start() -> anyhow::Result<(std::process::Child, ChildStdin, ChildStdout)> {
    let program = std::env::current_exe().context("finding this program")?;
    let mut command = rehearsal_sim::check::again(&program);
    command.env(ROLE.0, ROLE.1).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut search = command.spawn().with_context(|| format!("running {}", program.display()))?;
    let input = search.stdin.take().context("speaking to the simulator")?;
    let output = search.stdout.take().context("listening to the simulator")?;
    Ok((search, input, output))
}

fn send(mut input: ChildStdin, job: &Job) -> anyhow::Result<()> {
    let line = serde_json::to_string(job)? + "\n";
    input.write_all(line.as_bytes()).context("speaking to the simulator")
}

/// What was heard so far.
struct Watch<'a> {
    args: &'a Args,
    replay: bool,
    began: Instant,
    bar: ProgressBar,
    found: Found,
    outcomes: Vec<(Outcome, Duration)>,
    /// By seed: what is said about it.
    told: BTreeMap<u64, Told>,
    left_out: BTreeMap<String, u64>,
    over: bool,
    last: Instant,
}

impl<'a> Watch<'a> {
    fn of(args: &'a Args, job: &Job) -> Self {
        let seeds = if job.tell { 1 } else { job.to.saturating_sub(job.from).div_ceil(job.every.max(1)) };
        // Shown on a terminal only; indicatif sees to that.
        let bar = ProgressBar::new(seeds);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} seeds  {msg}") {
            bar.set_style(style);
        }
        Self {
            args,
            replay: job.tell,
            began: Instant::now(),
            bar,
            found: Found::default(),
            outcomes: Vec::new(),
            told: BTreeMap::new(),
            left_out: BTreeMap::new(),
            over: false,
            last: Instant::now(),
        }
    }

    fn listen(&mut self, output: ChildStdout) -> anyhow::Result<()> {
        for line in BufReader::new(output).lines() {
            let line = line.context("listening to the simulator")?;
            let news = serde_json::from_str(&line).with_context(|| format!("the simulator said {line:.200}"))?;
            self.hear(news)?;
        }
        Ok(())
    }

    fn hear(&mut self, news: News) -> anyhow::Result<()> {
        match news {
            News::Ran(outcome) => {
                self.found.add(&outcome);
                let took = std::mem::replace(&mut self.last, Instant::now()).elapsed();
                self.outcomes.push((*outcome, took));
                self.bar.set_position(self.found.runs);
                self.bar.set_message(self.progress());
            }
            News::Shrinking(seed) => self.bar.set_message(format!("making the plan of seed {seed} small")),
            News::Told { seed, plan, told } => {
                if !self.replay {
                    write(&self.args.report, seed, "plan", &plan)?;
                }
                for (ending, text) in [("html", &told.html), ("trace.json", &told.perfetto), ("log", &told.log)] {
                    if !text.is_empty() {
                        write(&self.args.report, seed, ending, text)?;
                    }
                }
                self.told.insert(seed, *told);
            }
            News::Over { left_out } => (self.left_out, self.over) = (left_out, true),
            News::Refused(why) => {
                self.over = true;
                anyhow::bail!(why);
            }
        }
        Ok(())
    }

    /// `12.3 seeds/s, 410 faults struck, 95 of 464 situations`
    fn progress(&self) -> String {
        let rate = self.found.runs as f64 / self.began.elapsed().as_secs_f64().max(0.001);
        let hits: u64 = self.found.hits.values().sum();
        let (met, possible) = self.found.coverage.situations();
        format!("{rate:.1} seeds/s, {hits} faults struck, {met} of {possible} situations")
    }

    fn finish(self) -> anyhow::Result<()> {
        self.bar.finish_and_clear();
        if let Some(file) = &self.args.junit {
            let cases: Vec<Case<'_>> = self.outcomes.iter().map(|(outcome, took)| self.case(outcome, *took)).collect();
            std::fs::write(file, report::junit("rehearsal sim", &cases))
                .with_context(|| format!("writing {}", file.display()))?;
        }
        if let Some(file) = &self.args.hashes {
            std::fs::write(file, self.hashes()).with_context(|| format!("writing {}", file.display()))?;
        }
        let mut out = std::io::stdout().lock();
        for told in self.told.values() {
            writeln!(out, "{}", told.terminal.trim_end())?;
        }
        if !self.replay {
            write!(out, "{}", self.summary())?;
        }
        match self.found.broken.first() {
            None => Ok(()),
            Some(broken) => anyhow::bail!(
                "{} was broken{}; again: {}",
                broken.violation.signature,
                if self.replay { String::new() } else { format!(" by seed {}", broken.seed) },
                self.again(broken.seed)
            ),
        }
    }

    fn summary(&self) -> String {
        let broken: Vec<(u64, Signature)> =
            self.found.broken.iter().map(|broken| (broken.seed, broken.violation.signature.clone())).collect();
        let mut text = report::summary("the bus", &broken, &self.found.coverage, |seed| self.again(seed));
        let took = self.began.elapsed();
        let _ = writeln!(text, "  {:.0?} of virtual time in {took:.1?}: {}", self.found.virtual_time, self.progress());
        for (why, times) in &self.left_out {
            let _ = writeln!(text, "  left out {times} times: {why}");
        }
        text
    }

    /// The command that runs a seed again: by its plan where there is one.
    fn again(&self, seed: u64) -> String {
        let mutant = self.args.mutant.as_ref().map_or_else(String::new, |mutant| format!(" --mutant {mutant}"));
        if let Some(file) = &self.args.replay {
            return format!("rehearsal sim --replay {}{mutant}", file.display());
        }
        if self.told.contains_key(&seed) {
            return format!("rehearsal sim --replay {}/seed-{seed}.plan{mutant}", self.args.report.display());
        }
        let plan = self.args.plan.as_ref().map_or_else(String::new, |plan| format!(" --plan {}", plan.display()));
        format!("rehearsal sim --seeds {seed}..{}{plan}{mutant}", seed + 1)
    }

    fn case<'b>(&self, outcome: &'b Outcome, took: Duration) -> Case<'b> {
        let broken = outcome.verdict.broken.as_ref();
        Case { name: format!("seed {}", outcome.seed), took, broken, replay: self.again(outcome.seed) }
    }

    /// In the order of the seeds, which is not the order in which they ended.
    fn hashes(&self) -> String {
        let mut hashes: Vec<_> = self.outcomes.iter().map(|(outcome, _)| (outcome.seed, outcome.hash)).collect();
        hashes.sort_unstable();
        let line = |(seed, hash): (u64, Option<u64>)| match hash {
            Some(hash) => format!("{seed} {hash:016x}\n"),
            None => format!("{seed} -\n"),
        };
        hashes.into_iter().map(line).collect()
    }
}

fn write(directory: &Path, seed: u64, ending: &str, text: &str) -> anyhow::Result<()> {
    let file = directory.join(format!("seed-{seed}.{ending}"));
    std::fs::create_dir_all(directory)
        .and_then(|()| std::fs::write(&file, text))
        .with_context(|| format!("writing {}", file.display()))
}
