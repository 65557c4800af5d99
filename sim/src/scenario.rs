//! Failures of real projects, by name, each on demand: a plan that keeps its promises, and what makes it break them.
//!
//! A scenario is a file in `sim/scenarios`. It says what goes wrong and where that has happened, then which promises break
//! on the vulnerable side and what is vulnerable there – other lines of the plan in place of those with the same labels, or a
//! [bug planted](crate::drive::Mutant) where the fault was a client's –, and at last the plan of the safe side, on which
//! nothing may break:
//!
//! ```text
//! scenario acks1-leader-crash
//! # Acknowledged by the leader alone, which dies before a follower has the record.
//! fires lost-write/acked-lost
//! vulnerable line publisher pub-1 acks one idempotent no #n-pub-1
//! rehearsal plan 1
//! …
//! ```

use std::fmt;
use std::str::FromStr;

use rehearsal_bus::mutant::Mutant;

use crate::plan::{ParseError, Plan};

macro_rules! scenarios {
    ($($name:literal),* $(,)?) => {
        /// The text of every scenario there is, by its name.
        pub const TEXTS: &[(&str, &str)] = &[$(($name, include_str!(concat!("../scenarios/", $name, ".scenario")))),*];
    };
}

scenarios![
    "acks1-leader-crash",
    "autocommit-before-processing",
    "close-hangs-without-coordinator",
    "commit-during-coop-rebalance",
    "coordinator-partition-zombie",
    "dlq-fire-and-forget",
    "dlq-offset-not-advanced",
    "last-replica-standing",
    "latest-reset-new-partition",
    "offset-expiry-reset",
    "parallel-commit-gap",
    "retention-overtakes-consumer",
    "retry-reorder",
    "slow-handler-zombie",
    "stale-stored-offset-rewind",
    "transient-error-reset",
    "unclean-election",
];

/// A failure that has happened, on demand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// Its name: `acks1-leader-crash`.
    pub name: String,
    /// What goes wrong, and where that has happened.
    pub about: String,
    /// Which promises break, each as `checker/kind`.
    pub fires: Vec<String>,
    /// Whether what only an operator can prevent counts.
    pub strict: bool,
    /// On which nothing breaks.
    pub safe: Plan,
    /// On which they break.
    pub vulnerable: Plan,
    /// The bug that is vulnerable, if the plan alone is not.
    pub mutant: Option<Mutant>,
}

/// Why a text is no scenario.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    /// A line of its head says nothing known.
    #[error(
        "line {line}: expected `scenario`, `fires`, `strict`, `vulnerable plants`, `vulnerable line` or a plan, found `{found}`"
    )]
    Head {
        /// From 1.
        line: usize,
        /// What is there.
        found: String,
    },
    /// Its plan cannot be read, on one side or the other; lines count from the plan's first.
    #[error("the plan of the {side} side: {source}")]
    Plan {
        /// `safe` or `vulnerable`.
        side: &'static str,
        /// Why.
        source: ParseError,
    },
    /// It does not say what is vulnerable, or what breaks.
    #[error("it needs a name, what `fires`, and what is `vulnerable`")]
    OneSided,
}

impl Scenario {
    /// The scenario of this name; `None` when there is none.
    ///
    /// # Errors
    /// Its text is no scenario: a mistake in this crate.
    pub fn named(name: &str) -> Option<Result<Self, ScenarioError>> {
        let (_, text) = TEXTS.iter().find(|(known, _)| *known == name)?;
        Some(text.parse())
    }
}

impl FromStr for Scenario {
    type Err = ScenarioError;

    fn from_str(text: &str) -> Result<Self, ScenarioError> {
        let plan_at = text.find("rehearsal plan").unwrap_or(text.len());
        let (head, plan) = text.split_at(plan_at);
        let head = Head::read(head)?;
        let read = |side, text: &str| text.parse::<Plan>().map_err(|source| ScenarioError::Plan { side, source });
        if head.name.is_empty() || head.fires.is_empty() || (head.lines.is_empty() && head.mutant.is_none()) {
            return Err(ScenarioError::OneSided);
        }
        Ok(Self {
            safe: read("safe", plan)?,
            vulnerable: read("vulnerable", &with_lines(plan, &head.lines))?,
            name: head.name,
            about: head.about,
            fires: head.fires,
            strict: head.strict,
            mutant: head.mutant,
        })
    }
}

#[derive(Default)]
struct Head {
    name: String,
    about: String,
    fires: Vec<String>,
    strict: bool,
    lines: Vec<String>,
    mutant: Option<Mutant>,
}

impl Head {
    fn read(text: &str) -> Result<Self, ScenarioError> {
        let mut head = Self::default();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let unknown = || ScenarioError::Head { line: index + 1, found: line.to_owned() };
            if let Some(prose) = line.strip_prefix("# ") {
                head.about.push_str(prose);
                head.about.push('\n');
            } else if let Some(name) = line.strip_prefix("scenario ") {
                head.name = name.to_owned();
            } else if let Some(signature) = line.strip_prefix("fires ") {
                head.fires.push(signature.to_owned());
            } else if line == "strict" {
                head.strict = true;
            } else if let Some(mutant) = line.strip_prefix("vulnerable plants ") {
                head.mutant = Some(Mutant::named(mutant).ok_or_else(unknown)?);
            } else if let Some(line) = line.strip_prefix("vulnerable line ") {
                head.lines.push(line.to_owned());
            } else {
                return Err(unknown());
            }
        }
        Ok(head)
    }
}

/// The plan's text with these lines, each in place of the one with its label.
fn with_lines(plan: &str, lines: &[String]) -> String {
    let label = |line: &str| line.rsplit_once('#').map(|(_, label)| label.to_owned());
    let mut text: Vec<String> = plan.lines().map(str::to_owned).collect();
    for line in lines {
        match text.iter_mut().find(|old| label(old).is_some() && label(old) == label(line)) {
            Some(old) => old.clone_from(line),
            None => text.push(line.clone()),
        }
    }
    text.join("\n") + "\n"
}

/// What is vulnerable, for people.
impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.name, self.about.trim_end().replace('\n', "\n  "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
scenario little
# Something goes wrong.
fires lost-write/acked-lost
vulnerable line publisher pub-1 acks one idempotent no #n-pub-1
rehearsal plan 1
seed 7
chaos 2s
settle 60s
brokers 1
topic orders partitions 1 replicas 1 #t-orders
publisher pub-1 acks all idempotent yes #n-pub-1
";

    #[test]
    fn the_vulnerable_side_has_its_lines_in_place_of_the_safe_ones() {
        let scenario: Scenario = TEXT.parse().unwrap();
        let publisher = |plan: &Plan| plan.lines[1].entry.clone();
        assert_ne!(publisher(&scenario.safe), publisher(&scenario.vulnerable));
        assert_eq!(scenario.safe.lines.len(), scenario.vulnerable.lines.len());
        assert_eq!(scenario.about, "Something goes wrong.\n");
    }

    #[test]
    fn a_scenario_has_two_sides() {
        let safe_only = TEXT.lines().filter(|line| !line.starts_with("vulnerable")).collect::<Vec<_>>().join("\n");
        assert_eq!(safe_only.parse::<Scenario>(), Err(ScenarioError::OneSided));
        let unknown = TEXT.replace("vulnerable line", "vulnerable plants nothing\nvulnerable line");
        assert!(matches!(unknown.parse::<Scenario>(), Err(ScenarioError::Head { line: 4, .. })));
    }

    #[test]
    fn every_scenario_can_be_read_and_carries_its_name() {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut files: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".scenario").map(str::to_owned))
            .collect();
        files.sort();
        let mut names: Vec<&str> = TEXTS.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        assert_eq!(files, names);
        for name in names {
            let scenario = Scenario::named(name).unwrap().unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(scenario.name, name);
            assert!(!scenario.about.is_empty());
        }
    }
}
