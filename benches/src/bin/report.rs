//! Prints what criterion measured as the table of `README.md`, with the machine and the day.
//!
//! `cargo run -p benches --bin report [criterion's folder]`, after `cargo bench -p benches`.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whom the others are compared with, where it was there.
const REFERENCE: &str = "apache-kafka";

/// One broker's answer to one question.
struct Measured {
    broker: String,
    median_ns: f64,
    best_ns: f64,
    worst_ns: f64,
    /// How many records one pass moves; `None` where time itself is the answer.
    records: Option<f64>,
}

#[expect(clippy::print_stdout, reason = "a program whose output is a table")]
fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).map_or_else(default_folder, PathBuf::from);
    let questions =
        read_all(&folder).with_context(|| format!("reading criterion's results in {}", folder.display()))?;
    if questions.is_empty() {
        bail!("{} holds no results; run `cargo bench -p benches` first", folder.display());
    }
    println!("{}\n", machine());
    println!("| question | broker | median | best–worst | of Apache Kafka |");
    println!("|---|---|---:|---:|---:|");
    for (question, answers) in &questions {
        for answer in answers {
            println!("{}", row(question, answer, answers));
        }
    }
    Ok(())
}

fn default_folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    target.join("criterion")
}

/// Criterion keeps `group/function[/parameter]/new/{benchmark,estimates,sample}.json`.
fn read_all(folder: &Path) -> Result<BTreeMap<String, Vec<Measured>>> {
    let mut questions: BTreeMap<String, Vec<Measured>> = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.ends_with("new") {
                let (question, measured) = read_one(&path).with_context(|| path.display().to_string())?;
                questions.entry(question).or_default().push(measured);
            } else if path.is_dir() {
                folders.push(path);
            }
        }
    }
    for answers in questions.values_mut() {
        answers.sort_by(|a, b| a.median_ns.total_cmp(&b.median_ns));
    }
    Ok(questions)
}

fn read_one(folder: &Path) -> Result<(String, Measured)> {
    let benchmark = json(&folder.join("benchmark.json"))?;
    let estimates = json(&folder.join("estimates.json"))?;
    let sample = json(&folder.join("sample.json"))?;
    let group = benchmark["group_id"].as_str().context("no group")?;
    let passes: Vec<f64> = numbers(&sample["times"]).zip(numbers(&sample["iters"])).map(|(t, n)| t / n).collect();
    let question = match benchmark["value_str"].as_str() {
        Some(variant) => format!("{group}, {variant}"),
        None => group.to_owned(),
    };
    let measured = Measured {
        broker: benchmark["function_id"].as_str().context("no function")?.to_owned(),
        median_ns: estimates["median"]["point_estimate"].as_f64().context("no median")?,
        best_ns: passes.iter().copied().fold(f64::INFINITY, f64::min),
        worst_ns: passes.iter().copied().fold(0.0, f64::max),
        records: benchmark["throughput"]["Elements"].as_f64(),
    };
    Ok((question, measured))
}

fn json(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path)?;
    Ok(serde_json::from_str(&text)?)
}

fn numbers(array: &Value) -> impl Iterator<Item = f64> {
    array.as_array().into_iter().flatten().filter_map(Value::as_f64)
}

fn row(question: &str, answer: &Measured, all: &[Measured]) -> String {
    let reference = all.iter().find(|other| other.broker == REFERENCE);
    let ratio = reference.map_or_else(|| "–".to_owned(), |reference| ratio(answer, reference));
    let (broker, median) = (&answer.broker, answer.shown(answer.median_ns));
    let (best, worst) = (answer.shown(answer.best_ns), answer.shown(answer.worst_ns));
    format!("| {question} | {broker} | {median} | {best} – {worst} | {ratio} |")
}

/// Above 1 is more records a second, or, where time is the answer, less of it.
fn ratio(answer: &Measured, reference: &Measured) -> String {
    let work = |measured: &Measured| measured.records.unwrap_or(1.0) / measured.median_ns;
    format!("{:.2} ×", work(answer) / work(reference))
}

impl Measured {
    fn shown(&self, ns: f64) -> String {
        match self.records {
            Some(records) => format!("{:.0} k/s", records / ns * 1e6),
            None if ns < 1e6 => format!("{:.0} µs", ns / 1e3),
            None => format!("{:.1} ms", ns / 1e6),
        }
    }
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches(['\t', ' ', ':']);
    let said_by = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output().ok();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    };
    let (system, day) = (said_by("uname", "-sr"), said_by("date", "+%Y-%m-%d"));
    format!("Measured on {day}: {cores} cores ({model}), {system}.")
}
