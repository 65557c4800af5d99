//! What has been tried, and when to stop.
//!
//! A seed is worth running if it does something no seed did before. What counts is not lines of code but what the world
//! was like: which family of faults acted while a group, and a transaction, was in which state. Besides, code may say of
//! itself what ought to happen *sometimes* in a search – "a dead letter was replayed while its broker was down" – and what
//! never did is reported: a simulator that never gets anywhere near the interesting states finds nothing and looks well.
//!
//! [`Coverage`] adds runs up, also from several shards; [`Plateau`] says when new seeds have stopped to add anything.
//!
//! ```
//! use rehearsal_sim::coverage::{Coverage, GroupState, Plateau, TransactionState};
//! use rehearsal_sim::plan::Family;
//!
//! let mut all = Coverage::expecting(["a retry crossed a rebalance"]);
//! let mut plateau = Plateau::after(100);
//! let mut run = Coverage::default();
//! run.met(Family::Crash, GroupState::Rebalancing, TransactionState::None);
//! run.sometimes("a retry crossed a rebalance", true);
//! let new = all.add(&run);
//! assert_eq!(new, 2);
//! assert!(!plateau.reached(new));
//! assert!(all.never().next().is_none());
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::history::{Event, Fate, History, What};
use crate::name::Name;
use crate::plan::Family;

/// What state a group was in, as its coordinator sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupState {
    /// It has no members.
    Empty,
    /// Partitions are being handed out: some have none.
    Rebalancing,
    /// Every member has what it was given.
    Stable,
    /// A member was put out and has not come back.
    MemberOut,
}

/// What state a transaction was in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TransactionState {
    /// There was none.
    None,
    /// Records are written, the end is not.
    Open,
    /// One has just been committed.
    Committed,
    /// One has just been aborted.
    Aborted,
}

impl GroupState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Empty, Self::Rebalancing, Self::Stable, Self::MemberOut];
}

impl TransactionState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::None, Self::Open, Self::Committed, Self::Aborted];
}

/// What one or many runs have tried. It can be sent between processes and kept in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Saved", into = "Saved")]
pub struct Coverage {
    met: BTreeMap<(Family, GroupState, TransactionState), u64>,
    sometimes: BTreeMap<Name, u64>,
    /// How many runs this is of.
    pub runs: u64,
}

impl Coverage {
    /// Nothing yet, with what ought to happen sometimes.
    pub fn expecting<N: Into<Name>>(what: impl IntoIterator<Item = N>) -> Self {
        Self { sometimes: what.into_iter().map(|what| (what.into(), 0)).collect(), ..Self::default() }
    }

    /// This family acted while a group and a transaction were in these states.
    pub fn met(&mut self, family: Family, group: GroupState, transaction: TransactionState) {
        *self.met.entry((family, group, transaction)).or_default() += 1;
    }

    /// Says of something that ought to happen sometimes whether it did just now. Naming it is enough to have it reported
    /// when it never happens.
    pub fn sometimes(&mut self, what: impl Into<Name>, happened: bool) {
        *self.sometimes.entry(what.into()).or_default() += u64::from(happened);
    }

    /// What a run did, from its history: at every beginning of a fault, and at every turn of a group or a transaction while
    /// one acts.
    pub fn of(history: &History) -> Self {
        let mut coverage = Self { runs: 1, ..Self::default() };
        let mut acting: BTreeMap<&Name, Family> = BTreeMap::new();
        let mut groups: BTreeMap<&Name, Group<'_>> = BTreeMap::new();
        let mut open: BTreeSet<&Name> = BTreeSet::new();
        let mut transaction = TransactionState::None;
        for Event { node, what, .. } in history.events() {
            match what {
                What::FaultBegan { label, family, .. } => drop(acting.insert(label, *family)),
                What::FaultEnded { label } => {
                    acting.remove(label);
                    continue;
                }
                What::Healed => {
                    acting.clear();
                    continue;
                }
                What::Rebalanced { group, owners, .. } => {
                    let group = groups.entry(group).or_default();
                    let given = owners.iter().filter(|(_, partitions)| !partitions.is_empty());
                    group.waiting = given.map(|(member, _)| member).collect();
                    group.members = owners.iter().map(|(member, _)| member).collect();
                    group.out.retain(|member| !group.members.contains(member));
                }
                What::Assigned { group, .. } => drop(groups.entry(group).or_default().waiting.remove(node)),
                What::Revoked { group, .. } => drop(groups.entry(group).or_default().waiting.insert(node)),
                What::Evicted { group, member, .. } => {
                    let group = groups.entry(group).or_default();
                    group.members.remove(member);
                    group.waiting.remove(member);
                    group.out.insert(member);
                }
                What::Stored { transaction: Some(of), .. } => {
                    open.insert(of);
                    transaction = TransactionState::Open;
                }
                What::Marked { transaction: of, fate, .. } => {
                    open.remove(of);
                    transaction = match fate {
                        _ if !open.is_empty() => TransactionState::Open,
                        Fate::Aborted => TransactionState::Aborted,
                        _ => TransactionState::Committed,
                    };
                }
                _ => continue,
            }
            for family in acting.values() {
                if groups.is_empty() {
                    coverage.met(*family, GroupState::Empty, transaction);
                }
                for group in groups.values() {
                    coverage.met(*family, group.state(), transaction);
                }
            }
        }
        coverage
    }

    /// Adds what other runs did; the answer is how much of it is new.
    pub fn add(&mut self, other: &Self) -> usize {
        let mut new = 0;
        self.runs += other.runs;
        for (met, times) in &other.met {
            let known = self.met.entry(*met).or_default();
            new += usize::from(*known == 0 && *times > 0);
            *known += times;
        }
        for (what, times) in &other.sometimes {
            let known = self.sometimes.entry(what.clone()).or_default();
            new += usize::from(*known == 0 && *times > 0);
            *known += times;
        }
        new
    }

    /// How many different situations there were, and how many there could be.
    pub fn situations(&self) -> (usize, usize) {
        (self.met.len(), Family::ALL.len() * GroupState::ALL.len() * TransactionState::ALL.len())
    }

    /// Families that never acted.
    pub fn idle(&self) -> Vec<Family> {
        let acted: BTreeSet<Family> = self.met.keys().map(|(family, ..)| *family).collect();
        Family::ALL.into_iter().filter(|family| !acted.contains(family)).collect()
    }

    /// What ought to happen sometimes and never did.
    pub fn never(&self) -> impl Iterator<Item = &Name> {
        self.sometimes.iter().filter(|(_, times)| **times == 0).map(|(what, _)| what)
    }
}

/// As it is saved: a map by three words is no object in JSON.
#[derive(Serialize, Deserialize)]
struct Saved {
    met: Vec<(Family, GroupState, TransactionState, u64)>,
    sometimes: BTreeMap<Name, u64>,
    runs: u64,
}

impl From<Saved> for Coverage {
    fn from(saved: Saved) -> Self {
        let mut met = BTreeMap::new();
        for (family, group, transaction, times) in saved.met {
            *met.entry((family, group, transaction)).or_default() += times;
        }
        Self { met, sometimes: saved.sometimes, runs: saved.runs }
    }
}

impl From<Coverage> for Saved {
    fn from(Coverage { met, sometimes, runs }: Coverage) -> Self {
        let met = met.into_iter().map(|((family, group, transaction), times)| (family, group, transaction, times));
        Self { met: met.collect(), sometimes, runs }
    }
}

#[derive(Debug, Default)]
struct Group<'h> {
    members: BTreeSet<&'h Name>,
    /// Members that have not got what they were given, or gave something up.
    waiting: BTreeSet<&'h Name>,
    out: BTreeSet<&'h Name>,
}

impl Group<'_> {
    fn state(&self) -> GroupState {
        match () {
            () if self.members.is_empty() => GroupState::Empty,
            () if !self.waiting.is_empty() => GroupState::Rebalancing,
            () if !self.out.is_empty() => GroupState::MemberOut,
            () => GroupState::Stable,
        }
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (met, possible) = self.situations();
        write!(f, "{} runs met {met} of {possible} situations (fault × group × transaction)", self.runs)?;
        let idle = self.idle();
        if !idle.is_empty() && idle.len() < Family::ALL.len() {
            let idle: Vec<&str> = idle.into_iter().map(Family::name).collect();
            write!(f, "; never acted: {}", idle.join(", "))?;
        }
        let never: Vec<&str> = self.never().map(|what| &**what).collect();
        if !never.is_empty() {
            write!(f, "; never happened: {}", never.join(", "))?;
        }
        Ok(())
    }
}

/// Stops a search when this many seeds in a row have shown nothing new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plateau {
    patience: u64,
    barren: u64,
}

impl Plateau {
    /// One that waits for this many barren seeds.
    pub const fn after(patience: u64) -> Self {
        Self { patience, barren: 0 }
    }

    /// Tells it how much a seed added; the answer is whether to stop.
    pub const fn reached(&mut self, new: usize) -> bool {
        self.barren = if new == 0 { self.barren + 1 } else { 0 };
        self.barren >= self.patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::story::Story;
    use crate::history::Eviction;

    #[test]
    fn a_run_is_covered_by_what_faults_met() {
        let story = Story::new()
            .fault("f1", Family::Crash, &["broker-1"])
            .rebalanced(1, &["w"])
            .assigned("w")
            .stored_in("a-0", 0, "tx")
            .ended("tx", Fate::Aborted)
            .evicted("w", Eviction::Session);
        let coverage = Coverage::of(&story.clone().live());
        let met: Vec<_> = coverage.met.keys().map(|(_, group, transaction)| (*group, *transaction)).collect();
        assert_eq!(
            met,
            [
                (GroupState::Empty, TransactionState::None),
                (GroupState::Empty, TransactionState::Aborted),
                (GroupState::Rebalancing, TransactionState::None),
                (GroupState::Stable, TransactionState::None),
                (GroupState::Stable, TransactionState::Open),
                (GroupState::Stable, TransactionState::Aborted),
            ]
        );
        let healed = Coverage::of(&story.healed().rebalanced(2, &["w"]).live());
        assert_eq!(healed.met, coverage.met, "what happens after the faults counts for nothing");
    }

    #[test]
    fn only_what_is_new_counts_as_new() {
        let run = Coverage::of(&Story::new().fault("f1", Family::Crash, &[]).rebalanced(1, &["w"]).live());
        let mut all = Coverage::default();
        assert_eq!(all.add(&run), 2);
        assert_eq!(all.add(&run), 0);
        assert_eq!(all.runs, 2);
    }

    #[test]
    fn it_is_the_same_after_a_journey() {
        let mut coverage = Coverage::of(&Story::new().fault("f1", Family::Crash, &[]).rebalanced(1, &["w"]).live());
        coverage.sometimes("a handler hung", true);
        let sent = serde_json::to_string(&coverage).unwrap();
        assert_eq!(
            sent,
            r#"{"met":[["crash","empty","none",1],["crash","rebalancing","none",1]],"sometimes":{"a handler hung":1},"runs":1}"#
        );
        assert_eq!(serde_json::from_str::<Coverage>(&sent).unwrap(), coverage);
    }

    #[test]
    fn what_never_happened_is_said() {
        let mut all = Coverage::expecting(["a dead letter was replayed", "a handler hung"]);
        let mut run = Coverage::of(&Story::new().fault("f1", Family::Crash, &[]).live());
        run.sometimes("a handler hung", true);
        run.sometimes("a clock went back", false);
        all.add(&run);
        assert_eq!(all.never().collect::<Vec<_>>(), ["a clock went back", "a dead letter was replayed"]);
        insta::assert_snapshot!(all);
    }

    #[test]
    fn the_search_stops_when_seeds_stay_barren() {
        let mut plateau = Plateau::after(3);
        let new = [5, 0, 0, 1, 0, 0, 0];
        let reached: Vec<bool> = new.into_iter().map(|new| plateau.reached(new)).collect();
        assert_eq!(reached, [false, false, false, false, false, false, true]);
    }
}
