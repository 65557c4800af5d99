//! How soon planted bugs are found: what the search is worth, as a table that is kept beside the code.

use super::{Drive, Mutant, search, tell};
use crate::checkers::Signature;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::ControlFlow;

/// A bug that was hunted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hunted {
    /// Its [name](Mutant::name).
    pub mutant: String,
    /// How many seeds were run until it was found, that one included; all of them when it was not.
    pub seeds: u64,
    /// How it was found, if it was.
    pub caught: Option<Caught>,
}

/// How a bug was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caught {
    /// `checker/kind`.
    pub signature: String,
    /// What was left of the plan when it was made small; `None` when it was not.
    pub left: Option<Left>,
}

/// What is left of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Its faults.
    pub faults: usize,
    /// Its records.
    pub records: usize,
}

/// Plants the bug and runs seeds from 0 on, so many at most, until one shows it; then makes its plan small, in at most
/// `shrink` runs, unless that is 0.
pub fn hunt(mutant: Mutant, seeds: u64, jobs: usize, shrink: usize) -> Hunted {
    let drive = Drive { mutant: Some(mutant), ..Drive::default() };
    let found = search(&drive, 0..seeds, jobs, |progress| match progress.outcome.signature() {
        None => ControlFlow::Continue(()),
        Some(_) => ControlFlow::Break(()),
    });
    let caught = found.broken.first().map(|broken| {
        let signature: &Signature = &broken.violation.signature;
        let left = (shrink > 0).then(|| {
            let (small, _) = tell(&drive, &drive.plan(broken.seed).0, signature, shrink, "");
            let faults = small.plan.lines.iter().filter(|line| line.entry.family().is_some()).count();
            Left { faults, records: small.plan.records().len() }
        });
        Caught { signature: signature.to_string(), left }
    });
    Hunted { mutant: mutant.name().to_owned(), seeds: found.runs, caught }
}

/// What tells a row of ours from the table's head.
const NOT_IN: &str = "not in ";

/// The table, as Markdown; bugs in their own order.
pub fn table(hunted: &[Hunted]) -> String {
    let rows: BTreeMap<&str, &Hunted> = hunted.iter().map(|hunted| (&*hunted.mutant, hunted)).collect();
    let mut text = head(hunted);
    for mutant in Mutant::ALL {
        let Some(Hunted { seeds, caught, .. }) = rows.get(mutant.name()) else { continue };
        let (name, about) = (mutant.name(), mutant.about());
        let _ = match caught {
            Some(Caught { signature, left: Some(Left { faults, records }) }) => {
                writeln!(text, "| `{name}` | {about} | {seeds} | {signature} | {faults} | {records} |")
            }
            Some(Caught { signature, left: None }) => {
                writeln!(text, "| `{name}` | {about} | {seeds} | {signature} | | |")
            }
            None => writeln!(text, "| `{name}` | {about} | {NOT_IN}{seeds} | | | |"),
        };
    }
    text
}

fn head(hunted: &[Hunted]) -> String {
    let caught: Vec<&Caught> = hunted.iter().filter_map(|hunted| hunted.caught.as_ref()).collect();
    let left = |of: fn(&Left) -> usize| {
        let median = median(caught.iter().filter_map(|caught| caught.left.as_ref()).map(of));
        median.map_or_else(|| "?".to_owned(), |median| median.to_string())
    };
    let needed = |hunted: &Hunted| if hunted.caught.is_some() { hunted.seeds } else { u64::MAX };
    let most = hunted.iter().map(|hunted| hunted.seeds).max().unwrap_or_default();
    format!(
        "# Planted bugs, and how soon they are found\n\n\
         <!-- Written by `rehearsal sim --mutants sim/MUTANTS.md`, `make nightly` with 500 seeds a bug; do not edit. -->\n\n\
         Each bug is planted into the bus alone and searched for with seeds from 0 on, on the plans `rehearsal sim` draws.\n\
         *Seeds* is how many runs it took, *checker* what noticed first, *faults* and *records* what was left of the plan\n\
         when it was made small, if it was. {} of {} were found, in {} seeds at most; the median is {} seeds, {} faults and {} records.\n\n\
         | bug | what is wrong | seeds | checker | faults | records |\n\
         |---|---|--:|---|--:|--:|\n",
        caught.len(),
        hunted.len(),
        most,
        median(hunted.iter().map(needed))
            .filter(|seeds| *seeds < u64::MAX)
            .map_or_else(|| "not known".to_owned(), |seeds| seeds.to_string()),
        left(|left| left.faults),
        left(|left| left.records),
    )
}

fn median<T: Ord + Copy>(all: impl Iterator<Item = T>) -> Option<T> {
    let mut all: Vec<T> = all.collect();
    all.sort_unstable();
    all.get(all.len().saturating_sub(1) / 2).copied()
}

/// The rows of such a table; what is none is passed over.
pub fn rows(table: &str) -> Vec<Hunted> {
    table.lines().filter_map(row).collect()
}

fn row(line: &str) -> Option<Hunted> {
    let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
    let [name, _, seeds, signature, faults, records] = cells.as_slice() else { return None };
    let mutant = Mutant::named(name.trim_matches('`'))?.name().to_owned();
    let caught = match seeds.strip_prefix(NOT_IN) {
        Some(_) => None,
        None => {
            let left = faults.parse().ok().zip(records.parse().ok()).map(|(faults, records)| Left { faults, records });
            Some(Caught { signature: (*signature).to_owned(), left })
        }
    };
    Some(Hunted { mutant, seeds: seeds.trim_start_matches(NOT_IN).parse().ok()?, caught })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hunted(mutant: Mutant, seeds: u64, left: Option<Left>) -> Hunted {
        let caught = (seeds < 500).then(|| Caught { signature: "lost-write/acked-lost".into(), left });
        Hunted { mutant: mutant.name().to_owned(), seeds, caught }
    }

    #[test]
    fn a_table_reads_back_in_the_order_of_the_bugs() {
        let three = [
            hunted(Mutant::LosesDeadLetters, 7, Some(Left { faults: 2, records: 1 })),
            hunted(Mutant::CommitsByItself, 9, None),
            hunted(Mutant::CommitsBeforeHandling, 500, None),
        ];
        let text = table(&three);
        assert!(
            text.contains("2 of 3 were found, in 500 seeds at most; the median is 9 seeds, 2 faults and 1 records"),
            "{text}"
        );
        assert_eq!(rows(&text), [three[2].clone(), three[1].clone(), three[0].clone()]);
    }

    #[test]
    fn every_bug_has_a_name_of_its_own() {
        for mutant in Mutant::ALL {
            assert_eq!(Mutant::named(mutant.name()), Some(*mutant));
            assert!(mutant.about().ends_with('.') && !mutant.about().contains('|'), "{mutant:?}");
        }
        assert!(Mutant::ALL.len() >= 40);
    }
}
