//! Makes the plan of a failing run small, so that a human can see what matters.
//!
//! Delta debugging (Zeller, Hildebrandt 2002) over the lines of a plan, in the order in which a reader cares: fewer faults,
//! then fewer records, then fewer members, then a shorter run; over again until nothing more can go. A candidate counts
//! only if it breaks the same promise in the same way – the same [`Signature`] – because a plan that fails otherwise is
//! another bug. Lines go together with what needs them ([`Plan::without`]), and no other line changes its meaning.
//!
//! The runs are the caller's: a function from a plan to the signature of what it breaks. The same plan and function give
//! the same result; no candidate is run twice; the number of runs is bounded.
//!
//! ```
//! use rehearsal_sim::{checkers::Signature, plan::Family, shrink::shrink, swarm::{Settings, draw}};
//!
//! // A "system" that breaks whenever a broker crashes.
//! let bug = Signature { checker: "lost-write".into(), kind: "acked-lost".into() };
//! let breaks = |plan: &rehearsal_sim::plan::Plan| plan.families().contains(&Family::Crash).then(|| bug.clone());
//!
//! let plan = (0..).map(|seed| draw(seed, &Settings::default())).find(|plan| breaks(plan).is_some()).unwrap();
//! let small = shrink(&plan, &bug, 500, breaks);
//! assert_eq!(small.plan.faults().count(), 1);
//! assert_eq!(small.plan.records().len(), 0);
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use crate::checkers::Signature;
use crate::name::Name;
use crate::plan::{Behaviour, Entry, Plan, Setup, Work};

/// A plan made small.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shrunk {
    /// The smallest plan found that still fails in the same way.
    pub plan: Plan,
    /// How many plans were run.
    pub runs: usize,
    /// Whether it stopped because the runs were used up; then there may be a smaller one.
    pub exhausted: bool,
}

/// How long a fault lasts at least: shorter ones do nothing, see [`swarm`](crate::swarm).
const SHORTEST: Duration = Duration::from_millis(500);

/// The smallest plan found, in at most `runs` runs, for which `run` gives this signature. `plan` itself is taken to do so.
pub fn shrink(plan: &Plan, signature: &Signature, runs: usize, run: impl FnMut(&Plan) -> Option<Signature>) -> Shrunk {
    let mut search = Search { best: plan.clone(), signature, left: runs, runs: 0, known: BTreeSet::new(), run };
    loop {
        let before = search.best.clone();
        search.fewer(|entry| matches!(entry, Entry::Fault { .. } | Entry::Behaviour { .. }));
        search.fewer(|entry| matches!(entry, Entry::Work { .. }));
        search.fewer_in_each_burst();
        search.fewer(|entry| matches!(entry, Entry::Setup(_)));
        search.smaller_cluster();
        search.shorter();
        if search.best == before || search.left == 0 {
            break;
        }
    }
    Shrunk { plan: search.best, runs: search.runs, exhausted: search.left == 0 }
}

struct Search<'a, R> {
    best: Plan,
    signature: &'a Signature,
    left: usize,
    runs: usize,
    /// What was run already.
    known: BTreeSet<String>,
    run: R,
}

impl<R: FnMut(&Plan) -> Option<Signature>> Search<'_, R> {
    /// Runs the candidate, and goes on from it if it fails in the same way.
    fn try_out(&mut self, candidate: Plan) -> bool {
        if candidate == self.best || self.left == 0 || candidate.check().is_err() {
            return false;
        }
        // A group nobody works in leaves everything undone, whatever the bug was.
        if deserted(&candidate) && !deserted(&self.best) {
            return false;
        }
        if !self.known.insert(candidate.to_string()) {
            return false;
        }
        self.left -= 1;
        self.runs += 1;
        let same = (self.run)(&candidate).as_ref() == Some(self.signature);
        if same {
            self.best = candidate;
        }
        same
    }

    fn labels(&self, of: impl Fn(&Entry) -> bool) -> Vec<Name> {
        self.best.lines.iter().filter(|line| of(&line.entry)).map(|line| line.label.clone()).collect()
    }

    /// Takes lines of a kind away, in halves, quarters and so on, until none of them can go by itself.
    fn fewer(&mut self, of: impl Fn(&Entry) -> bool) {
        let mut pieces = 1_usize;
        loop {
            let labels = self.labels(&of);
            if labels.is_empty() || self.left == 0 {
                return;
            }
            pieces = pieces.min(labels.len());
            let size = labels.len().div_ceil(pieces);
            let removed = labels.chunks(size).any(|piece| {
                let candidate = self.best.without(&piece.iter().cloned().collect());
                self.try_out(candidate)
            });
            match removed {
                // What is left is cut as finely as before, or a little coarser: there is less of it.
                true => pieces = pieces.saturating_sub(1).max(2),
                false if pieces >= labels.len() => return,
                false => pieces *= 2,
            }
        }
    }

    /// Fewer records in each burst: one, else half of them, and so on.
    fn fewer_in_each_burst(&mut self) {
        for label in self.labels(|entry| matches!(entry, Entry::Work { .. })) {
            let one = with_one_record(&self.best, &label);
            if self.try_out(one) {
                continue;
            }
            loop {
                let mut candidate = self.best.clone();
                for line in candidate.lines.iter_mut().filter(|line| line.label == label) {
                    if let Entry::Work { work: Work::Publish { records, .. }, .. } = &mut line.entry {
                        *records = records.div_ceil(2);
                    }
                }
                if !self.try_out(candidate) {
                    break;
                }
            }
        }
    }

    /// Fewer brokers and partitions.
    fn smaller_cluster(&mut self) {
        for brokers in 1..self.best.brokers {
            let mut candidate = Plan { brokers, ..self.best.clone() };
            for line in &mut candidate.lines {
                if let Entry::Setup(Setup::Topic { replicas, min_isr, .. }) = &mut line.entry {
                    *replicas = brokers.min(*replicas);
                    *min_isr = min_isr.map(|min_isr| min_isr.min(brokers));
                }
            }
            if self.try_out(candidate) {
                break;
            }
        }
        for few in [1, 2] {
            let mut candidate = self.best.clone();
            for line in &mut candidate.lines {
                if let Entry::Setup(Setup::Topic { partitions, .. }) = &mut line.entry {
                    *partitions = few.min(*partitions);
                }
            }
            if self.try_out(candidate) {
                break;
            }
        }
    }

    /// Shorter faults, bursts without gaps, workers that start at once, everything earlier, and a chaos no longer than it
    /// need be.
    fn shorter(&mut self) {
        for label in self.labels(|_| true) {
            while self.change(&label, shorten) {}
            self.change(&label, |entry| match entry {
                Entry::Work { work: Work::Publish { every, .. }, .. } => *every = Duration::ZERO,
                Entry::Setup(Setup::Worker { start, .. }) => *start = None,
                _ => {}
            });
        }
        let first = self.best.lines.iter().filter_map(|line| time(&line.entry)).min().unwrap_or_default();
        let mut earlier = self.best.clone();
        for line in &mut earlier.lines {
            if let Entry::Work { at, .. } | Entry::Fault { at, .. } = &mut line.entry {
                *at = at.saturating_sub(first);
            }
        }
        self.try_out(earlier);
        let faults = self.best.faults().map(|(_, at, fault)| at + fault.lasts());
        let records = self.best.records().into_iter().map(|record| record.at).max();
        let end = faults.chain(records).max().unwrap_or_default();
        let chaos = Duration::from_secs(end.as_secs() + 1).min(self.best.chaos);
        let candidate = Plan { chaos, ..self.best.clone() };
        self.try_out(candidate);
    }

    fn change(&mut self, label: &Name, change: impl Fn(&mut Entry)) -> bool {
        let mut candidate = self.best.clone();
        candidate.lines.iter_mut().filter(|line| line.label == *label).for_each(|line| change(&mut line.entry));
        self.try_out(candidate)
    }
}

/// Whether there is a group without a worker.
fn deserted(plan: &Plan) -> bool {
    let worked_in: BTreeSet<&Name> = plan
        .setup()
        .filter_map(|setup| match setup {
            Setup::Worker { group, .. } => Some(&group.0),
            _ => None,
        })
        .collect();
    plan.setup().any(|setup| matches!(setup, Setup::Group { name, .. } if !worked_in.contains(name)))
}

/// The plan with one record in this burst, which takes over what handlers do with any of them.
fn with_one_record(plan: &Plan, burst: &Name) -> Plan {
    let mut plan = plan.clone();
    for line in &mut plan.lines {
        match &mut line.entry {
            Entry::Work { work: Work::Publish { records, .. }, .. } if line.label == *burst => *records = 1,
            Entry::Behaviour { records, .. } if records.line == *burst => records.index = records.index.map(|_| 0),
            _ => {}
        }
    }
    plan
}

/// Half as long, or half as often, in steps a reader likes.
fn shorten(entry: &mut Entry) {
    if let Entry::Behaviour { behaviour, .. } = entry {
        match behaviour {
            Behaviour::Fail { times }
            | Behaviour::Panic { times }
            | Behaviour::Hang { times }
            | Behaviour::Cancel { times } => {
                *times = times.div_ceil(2);
            }
            Behaviour::Slow { by } if *by > SHORTEST => *by = half(*by),
            Behaviour::Slow { .. } | Behaviour::FailAlways {} | Behaviour::Unreadable {} => {}
        }
    } else if let Some(lasts) = entry.lasting_mut().filter(|lasts| **lasts > SHORTEST) {
        *lasts = half(*lasts);
    }
}

fn half(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis() / 2).unwrap_or(u64::MAX)).max(SHORTEST)
}

const fn time(entry: &Entry) -> Option<Duration> {
    match entry {
        Entry::Work { at, .. } | Entry::Fault { at, .. } => Some(*at),
        Entry::Setup(_) | Entry::Behaviour { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::{Family, Fault};
    use crate::swarm::{Settings, draw};

    fn signature(kind: &str) -> Signature {
        Signature { checker: "lost-write".into(), kind: kind.into() }
    }

    /// A plan with twelve faults at least.
    fn big() -> Plan {
        let settings = Settings { faults: 12..=12, ..Settings::default() };
        (0..).map(|seed| draw(seed, &settings)).find(|plan| plan.faults().count() == 12).unwrap()
    }

    fn has(plan: &Plan, label: &str) -> bool {
        plan.lines.iter().any(|line| line.label == label)
    }

    #[test]
    fn two_faults_of_twelve_and_nothing_else_are_left() {
        let plan = big();
        let bug = |plan: &Plan| (has(plan, "f3") && has(plan, "f9")).then(|| signature("acked-lost"));
        let small = shrink(&plan, &signature("acked-lost"), 1000, bug);
        let labels: Vec<&str> = small.plan.faults().map(|(label, ..)| &**label).collect();
        assert_eq!(labels, ["f3", "f9"]);
        assert_eq!(small.plan.records().len(), 0);
        assert!(small.runs < 80, "{} runs", small.runs);
        assert!(!small.exhausted);
        assert!(small.plan.lines.len() <= 5, "{}", small.plan);
    }

    #[test]
    fn the_records_that_matter_are_left() {
        let plan = big();
        let wanted: Vec<Name> = plan.records().iter().step_by(170).map(|record| record.line.clone()).collect();
        let bug = |plan: &Plan| wanted.iter().all(|label| has(plan, label)).then(|| signature("read-past"));
        let small = shrink(&plan, &signature("read-past"), 2000, bug);
        assert_eq!(small.plan.records().len(), wanted.len());
        assert_eq!(small.plan.faults().count(), 0);
        assert!(small.runs < 250, "{} runs", small.runs);
    }

    #[test]
    fn the_members_that_matter_are_left() {
        let members = |plan: &Plan| plan.setup().filter(|setup| matches!(setup, Setup::Worker { .. })).count();
        let bug = |plan: &Plan| (members(plan) >= 2 && plan.brokers >= 2).then(|| signature("acked-lost"));
        let small = shrink(&big(), &signature("acked-lost"), 1000, bug);
        assert_eq!((members(&small.plan), small.plan.brokers), (2, 2));
        assert_eq!(small.plan.setup().count(), 4, "two workers, their group, its topic: {}", small.plan);
    }

    #[test]
    fn a_group_keeps_a_worker() {
        // What nobody reads is not handled: with no worker at all, this would be the smallest plan.
        let unhandled = |plan: &Plan| {
            let group = plan.setup().any(|setup| matches!(setup, Setup::Group { .. }));
            (group && !plan.records().is_empty()).then(|| signature("not-handled"))
        };
        let small = shrink(&big(), &signature("not-handled"), 1000, unhandled);
        assert_eq!(small.plan.setup().filter(|setup| matches!(setup, Setup::Worker { .. })).count(), 1);
    }

    #[test]
    fn another_failure_does_not_count() {
        // Without f3 it breaks otherwise.
        let bug = |plan: &Plan| Some(signature(if has(plan, "f3") { "acked-lost" } else { "read-past" }));
        let small = shrink(&big(), &signature("acked-lost"), 1000, bug);
        assert!(has(&small.plan, "f3"));
        assert_eq!(small.plan.faults().count(), 1);
    }

    #[test]
    fn a_fault_is_as_short_as_it_may_be_and_the_run_ends_soon_after() {
        let plan = big();
        let (label, lasts) = plan
            .faults()
            .map(|(label, _, fault)| (label.clone(), fault.lasts()))
            .find(|(_, lasts)| *lasts > Duration::from_secs(4))
            .unwrap();
        let long = |fault: &Fault| fault.lasts() >= Duration::from_secs(2);
        let bug = |plan: &Plan| {
            plan.faults().any(|(of, _, fault)| *of == label && long(fault)).then(|| signature("acked-lost"))
        };
        let small = shrink(&plan, &signature("acked-lost"), 1000, bug);
        let (_, at, fault) = small.plan.faults().next().unwrap();
        assert!(
            fault.lasts() >= Duration::from_secs(2) && fault.lasts() < Duration::from_secs(4) && fault.lasts() < lasts
        );
        assert_eq!(at, Duration::ZERO);
        assert!(small.plan.chaos <= Duration::from_secs(5));
    }

    #[test]
    fn one_record_of_a_burst_takes_its_behaviour_with_it() {
        let settings = Settings {
            aggregates: 2,
            records: 20,
            families: [Family::FailingHandler].into(),
            faults: 3..=3,
            ..Settings::default()
        };
        let fails = |plan: &Plan| {
            let records = plan.records();
            let failing = records.iter().any(|record| plan.behaviours("billing", &record.message).next().is_some());
            failing.then(|| signature("acked-lost"))
        };
        let plan = (0..)
            .map(|seed| draw(seed, &settings))
            .find(|plan| fails(plan).is_some() && plan.records().len() > 10)
            .unwrap();
        let small = shrink(&plan, &signature("acked-lost"), 1000, fails);
        assert_eq!(small.plan.records().len(), 1);
        assert_eq!(small.plan.families().len(), 1);
    }

    #[test]
    fn the_runs_are_bounded_and_the_best_so_far_is_kept() {
        let mut asked = 0;
        let small = shrink(&big(), &signature("acked-lost"), 5, |plan| {
            asked += 1;
            has(plan, "f3").then(|| signature("acked-lost"))
        });
        assert_eq!((asked, small.runs, small.exhausted), (5, 5, true));
        assert!(has(&small.plan, "f3"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 10))]

        #[test]
        fn exactly_the_lines_that_matter_are_left(seed in 0..1000_u64, picks in prop::collection::vec(any::<prop::sample::Index>(), 1..4)) {
            let plan = draw(seed, &Settings { records: 40, aggregates: 20, faults: 12..=12, ..Settings::default() });
            let causes: Vec<Name> = plan
                .lines
                .iter()
                .filter(|line| matches!(line.entry, Entry::Fault { .. } | Entry::Work { .. }))
                .map(|line| line.label.clone())
                .collect();
            let wanted: BTreeSet<&Name> = picks.iter().map(|pick| pick.get(&causes)).collect();
            let bug = |plan: &Plan| wanted.iter().all(|label| has(plan, label)).then(|| signature("acked-lost"));
            let small = shrink(&plan, &signature("acked-lost"), 2000, bug);
            let left: BTreeSet<&Name> =
                causes.iter().filter(|label| has(&small.plan, label)).collect();
            prop_assert_eq!(left, wanted);
            prop_assert!(small.runs < 200, "{} runs", small.runs);
        }
    }

    #[test]
    fn the_same_failure_shrinks_the_same_way() {
        let bug = |plan: &Plan| (has(plan, "f3") && has(plan, "w7")).then(|| signature("acked-lost"));
        let shrunk = || shrink(&big(), &signature("acked-lost"), 1000, bug);
        assert_eq!(shrunk(), shrunk());
        assert_eq!(shrunk().plan.to_string().parse(), Ok(shrunk().plan));
    }
}
