//! Random sequences of requests: what no script thought of.
//!
//! A seed makes a sequence; it is played against both brokers like any script. The first step whose answers differ counts,
//! later ones may only follow from it. A difference is played again before it is believed, then operations are dropped
//! for as long as it stays, and what is left is printed as a short script.
//!
//! - `REHEARSAL_RANDOM_SEQUENCES` says how many sequences are played (a few unless said);
//! - `REHEARSAL_RANDOM_SEED` says where the seeds start: one failing seed with one sequence repeats a failure;
//! - `REHEARSAL_RANDOM_LENGTH` says how many operations a sequence has, 200 unless said.

mod draw;
mod members;
mod read;
mod world;
mod write;

use std::fmt::{Debug, Write as _};
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tests::differential::{Difference, Stage, compare_brokers, describe_all, keep_report, known};
use tests::known::Known;

use draw::{Op, sequence};
use world::World;

/// What `known.toml` calls these sequences.
pub(crate) const NAME: &str = "random";

/// Enough for every push; they take about half a minute beside a Kafka that has started.
const SEQUENCES: u64 = 3;
const LENGTH: usize = 200;
/// So often a difference must come again: ids that Kafka invents can make one by chance.
const CONFIRMATIONS: usize = 2;
/// A failure is shrunk for so long: whoever waits for it wants it short, but wants it.
const SHRINK_WITHIN: Duration = Duration::from_secs(120);

#[test]
#[expect(
    clippy::print_stderr,
    reason = "a difference that does not come twice must still be seen, and so must progress"
)]
fn random_sequences_are_answered_as_kafka_answers_them() {
    let known = known();
    let first = setting("REHEARSAL_RANDOM_SEED", 1);
    let length = setting("REHEARSAL_RANDOM_LENGTH", LENGTH);
    let mut failures = String::new();
    for seed in first..first + setting("REHEARSAL_RANDOM_SEQUENCES", SEQUENCES) {
        let Some(verdict) = judge(&sequence(seed, length), &known) else { return };
        match verdict {
            Verdict::Alike => eprintln!("seed {seed}: alike"),
            Verdict::Unsteady(report) => eprintln!("seed {seed}: differed once, but not again:\n{report}"),
            Verdict::Different(report) => {
                let _ = writeln!(failures, "\nseed {seed}:\n{report}");
                eprintln!("seed {seed}:\n{report}");
            }
        }
    }
    keep_report(NAME, &failures);
    assert!(failures.is_empty(), "our broker's answers differ from Apache Kafka's:\n{failures}");
}

fn setting<T: FromStr<Err: Debug>>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error:?}")),
        Err(_) => default,
    }
}

/// What became of a sequence.
enum Verdict {
    Alike,
    Unsteady(String),
    Different(String),
}

/// Plays a sequence; `None` where Apache Kafka cannot run.
#[expect(clippy::print_stderr, reason = "shortening takes its time")]
fn judge(ops: &[Op], known: &Known) -> Option<Verdict> {
    let Some(parted) = play(ops, known)? else { return Some(Verdict::Alike) };
    eprintln!("playing again, and shortening:\n{}", parted.report);
    let ops = &ops[..=parted.at];
    for _ in 0..CONFIRMATIONS {
        if play(ops, known)?.is_none_or(|again| !again.is(&parted)) {
            return Some(Verdict::Unsteady(parted.report));
        }
    }
    let (ops, parted) = shrink(ops.to_vec(), parted, known);
    let mut report = parted.report;
    let _ = writeln!(report, "  after:");
    ops.iter().enumerate().for_each(|(at, op)| {
        let _ = writeln!(report, "    {at:3}. {op:?}");
    });
    Some(Verdict::Different(report))
}

/// Where two brokers part.
struct Parted {
    /// The operation that is answered differently.
    at: usize,
    /// What it is and where in its answer they part: what stays the same while a sequence is shrunk.
    what: String,
    report: String,
}

impl Parted {
    fn is(&self, other: &Self) -> bool {
        self.what == other.what
    }
}

/// Drops operations, half of them first and single ones last, for as long as the brokers part in the same way.
fn shrink(mut ops: Vec<Op>, mut parted: Parted, known: &Known) -> (Vec<Op>, Parted) {
    let deadline = Instant::now() + SHRINK_WITHIN;
    let mut chunk = ops.len() / 2;
    while chunk > 0 && Instant::now() < deadline {
        // From the end, where what matters is nearest; the last operation is the one that shows it.
        let mut end = ops.len() - 1;
        while end > 0 && Instant::now() < deadline {
            let start = end.saturating_sub(chunk);
            let mut fewer = ops.clone();
            fewer.drain(start..end);
            if let Some(Some(still)) = play(&fewer, known).filter(|still| still.as_ref().is_some_and(|s| s.is(&parted)))
            {
                fewer.truncate(still.at + 1);
                ops = fewer;
                parted = still;
            }
            end = start.min(ops.len() - 1);
        }
        chunk /= 2;
    }
    (ops, parted)
}

/// Plays a sequence against both brokers; `None` where Apache Kafka cannot run, `Some(None)` when nothing differs.
fn play(ops: &[Op], known: &Known) -> Option<Option<Parted>> {
    static TAKE: AtomicU32 = AtomicU32::new(0);
    let take = format!("-{}", TAKE.fetch_add(1, Ordering::Relaxed));
    let found = compare_brokers(NAME, &take, &|stage: &mut Stage| {
        let mut world = World::new(stage);
        for (at, op) in ops.iter().enumerate() {
            world.perform(&format!("{at}. {op:?}"), op);
        }
    })?;
    let (unexpected, _) = known.judge(NAME, &found);
    let Some(first) = unexpected.first() else { return Some(None) };
    let there: Vec<&Difference> = unexpected.iter().filter(|other| other.step == first.step).copied().collect();
    let at = first.step.split_once('.').and_then(|(at, _)| at.parse().ok()).unwrap_or(ops.len() - 1);
    let api = first.request.split_whitespace().next().unwrap_or_default();
    let what = format!("{api} {} {} {}", without_indices(&first.path), first.ours, first.kafka);
    Some(Some(Parted { at, what, report: describe_all(NAME, &there) }))
}

fn without_indices(path: &str) -> String {
    path.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect()
}
