//! Thirty lines at most.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Report;
use crate::checkers::{Evidence, Judgement, Signature, Verdict, Violation};
use crate::coverage::Coverage;
use crate::plan::{Entry, Line, Plan, Setup};

/// More than this nobody reads, and it fits a screen.
const LINES_MAX: usize = 30;
const WIDTH_MAX: usize = 160;
const PLAN_LINES_MAX: usize = 8;

/// What came of a run, for a terminal: at most 30 lines of at most 160 characters.
pub fn terminal(report: &Report<'_>) -> String {
    let mut lines = match report.judgement.first() {
        None => held(report),
        Some(violation) => broken(report, violation),
    };
    lines.truncate(LINES_MAX);
    lines.iter().map(|line| clipped(line) + "\n").collect()
}

/// What came of a search over many seeds: how many held, which did not, and what was covered. At most 30 lines.
///
/// `broken` are the seeds that failed and how; `replay` makes the command that runs one again.
pub fn summary(name: &str, broken: &[(u64, Signature)], coverage: &Coverage, replay: impl Fn(u64) -> String) -> String {
    let runs = coverage.runs;
    let mut lines = vec![match broken.len() as u64 {
        0 => format!("{name}: {runs} of {runs} seeds held"),
        failed => format!("{name}: BROKEN by {failed} of {runs} seeds"),
    }];
    let mut kinds: BTreeMap<&Signature, Vec<u64>> = BTreeMap::new();
    for (seed, signature) in broken {
        kinds.entry(signature).or_default().push(*seed);
    }
    for (signature, seeds) in kinds.iter().take(KINDS_MAX) {
        let times = if seeds.len() == 1 { String::new() } else { format!(" ({} times)", seeds.len()) };
        lines.push(format!("  {signature}{times}, again: {}", replay(seeds[0])));
    }
    if kinds.len() > KINDS_MAX {
        lines.push(format!("  and {} kinds more", kinds.len() - KINDS_MAX));
    }
    lines.push(format!("  {coverage}"));
    lines.iter().map(|line| clipped(line) + "\n").collect()
}

const KINDS_MAX: usize = 20;

fn held(report: &Report<'_>) -> Vec<String> {
    let checked = report.judgement.judged.iter().filter(|judged| judged.verdict == Verdict::Held).count();
    let size = size(report.plan);
    let mut lines = vec![format!("{}: held with seed {}: {checked} promises, {size}", report.name, report.plan.seed)];
    lines.extend(unchecked(report.judgement));
    lines
}

fn broken(report: &Report<'_>, violation: &Violation) -> Vec<String> {
    let judged = report.judgement.judged.iter().find(|judged| violation.signature.checker == judged.checker);
    let promise = judged.map_or("", |judged| judged.promise);
    let mut lines = vec![
        format!("{}: BROKEN with seed {} by {}", report.name, report.plan.seed, violation.signature),
        String::new(),
        format!("  promised  {promise}"),
        format!("  but       {}", violation.sentence),
    ];
    if violation.more > 0 {
        lines.push(format!("            and {} more like it", violation.more));
    }
    lines.push(String::new());
    lines.push("  how it came to that".to_owned());
    let marked = |line: &String| {
        let own = violation.events.iter().filter_map(|event| report.history.events().get(*event));
        let mark = if own.map(ToString::to_string).any(|own| own == *line) { "▶" } else { " " };
        format!("  {mark} {line}")
    };
    lines.extend(violation.chain.iter().map(marked));
    let others: Vec<String> = report
        .judgement
        .violations()
        .filter(|other| *other != violation)
        .map(|other| other.signature.to_string())
        .collect();
    if !others.is_empty() {
        lines.push(format!("  also broken: {}", others.join(", ")));
    }
    lines.extend(unchecked(report.judgement));
    lines.push(String::new());
    let mut plan = format!("  the plan: {}", size(report.plan));
    if let Some((before, runs)) = report.shrunk_from {
        let _ = write!(plan, "; made small in {runs} runs from {}", size(before));
    }
    lines.push(plan);
    let hits = report.history.hits();
    let telling = |line: &Line| match hits.get(&line.label) {
        Some(0) | None => format!("    {line}"),
        Some(times) => format!("    {line}  (struck {times} times)"),
    };
    let telling: Vec<String> =
        report.plan.lines.iter().filter(|line| line.entry.family().is_some()).map(telling).collect();
    let room = LINES_MAX.saturating_sub(lines.len() + 2).min(PLAN_LINES_MAX);
    if telling.len() <= room {
        lines.extend(telling);
    } else {
        lines.extend(telling.iter().take(room.saturating_sub(1)).cloned());
        lines.push(format!("    and {} faults more", telling.len() - room.saturating_sub(1)));
    }
    lines.push(format!("  again: {}", report.replay));
    lines
}

/// A line for each reason.
fn unchecked(judgement: &Judgement) -> Vec<String> {
    let because = |reason: Evidence| {
        let checkers: Vec<&str> = judgement
            .judged
            .iter()
            .filter(|judged| judged.verdict == Verdict::Unchecked(reason))
            .map(|judged| judged.checker)
            .collect();
        (!checkers.is_empty()).then(|| format!("  not checked, for {}: {}", reason.missing(), checkers.join(", ")))
    };
    [Evidence::Truth, Evidence::Rest].into_iter().filter_map(because).collect()
}

/// `2 faults, 3 records, 4 nodes, 3 brokers`
fn size(plan: &Plan) -> String {
    let faults = plan.lines.iter().filter(|line| line.entry.family().is_some()).count();
    let node = |entry: &Entry| matches!(entry, Entry::Setup(Setup::Publisher { .. } | Setup::Worker { .. }));
    let nodes = plan.lines.iter().filter(|line| node(&line.entry)).count();
    let of = |many: usize, what: &str| format!("{many} {what}{}", if many == 1 { "" } else { "s" });
    let (records, brokers) = (plan.records().len(), plan.brokers as usize);
    [of(faults, "fault"), of(records, "record"), of(nodes, "node"), of(brokers, "broker")].join(", ")
}

/// One line of the terminal: no control characters, which could recolour it or worse, and no more than fits.
fn clipped(line: &str) -> String {
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let clipped: String = line.chars().take(WIDTH_MAX).map(clean).collect();
    if line.chars().count() > WIDTH_MAX {
        clipped.chars().take(WIDTH_MAX - 1).chain(['…']).collect()
    } else {
        clipped
    }
}
