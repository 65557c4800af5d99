//! A member of a streams group, and how it moves from the tasks it has to those it is to have (`StreamsGroupMember` and the
//! `CurrentAssignmentBuilder` of streams groups).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Partitions by part of the topology.
pub type Tasks = BTreeMap<String, BTreeSet<i32>>;

/// Tasks of all kinds.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct TaskSets {
    /// Those that are run.
    pub active: Tasks,
    /// Those whose state is kept, should another member fail.
    pub standby: Tasks,
    /// Those whose state is caught up with, to run them later.
    pub warmup: Tasks,
}

impl TaskSets {
    fn kinds(&self) -> [&Tasks; 3] {
        [&self.active, &self.standby, &self.warmup]
    }
}

/// Tasks a member has; the active ones with the epoch in which it was given each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) active: BTreeMap<String, BTreeMap<i32, i32>>,
    pub(super) standby: Tasks,
    pub(super) warmup: Tasks,
}

impl Held {
    fn is_empty(&self) -> bool {
        self.active.is_empty() && self.standby.is_empty() && self.warmup.is_empty()
    }

    pub(super) fn sets(&self) -> TaskSets {
        let active = self.active.iter().map(|(part, held)| (part.clone(), held.keys().copied().collect()));
        TaskSets { active: active.collect(), standby: self.standby.clone(), warmup: self.warmup.clone() }
    }

    /// Whether some of this is among what a member says it has.
    fn touches(&self, owned: &TaskSets) -> bool {
        self.sets().kinds().into_iter().zip(owned.kinds()).any(|(mine, theirs)| {
            mine.iter().any(|(part, held)| theirs.get(part).is_some_and(|other| !held.is_disjoint(other)))
        })
    }

    /// Whether all a member says it has is among this.
    pub(super) fn covers(&self, owned: &TaskSets) -> bool {
        self.sets().kinds().into_iter().zip(owned.kinds()).all(|(mine, theirs)| {
            theirs.iter().all(|(part, held)| mine.get(part).is_some_and(|own| held.is_subset(own)))
        })
    }
}

/// Where a member is between what it has and what it is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// It has what its epoch gives it.
    Stable,
    /// It has not given up what it must.
    Unrevoked,
    /// It waits for tasks others have.
    Unreleased,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) id: Arc<str>,
    pub(super) epoch: i32,
    pub(super) previous_epoch: i32,
    pub(super) progress: Progress,
    pub(super) rack: Option<String>,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) topology_epoch: i32,
    pub(super) process_id: String,
    pub(super) endpoint: Option<(String, u16)>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) assigned: Held,
    pub(super) revoking: Held,
}

/// Who has a task now, as far as that matters to one member.
pub(super) struct Others<'a> {
    /// Some member runs it.
    pub(super) is_active: &'a dyn Fn(&str, i32) -> bool,
    /// The member's own process runs it or keeps its state.
    pub(super) is_in_process: &'a dyn Fn(&str, i32) -> bool,
}

/// What the group wants of a member.
pub(super) struct Goal<'a> {
    pub(super) epoch: i32,
    pub(super) target: &'a TaskSets,
    /// What it says it has; `None` if it says nothing.
    pub(super) owned: Option<&'a TaskSets>,
}

impl Goal<'_> {
    /// Whether the member may still have some of this.
    fn may_hold(&self, held: &Held) -> bool {
        !held.is_empty() && self.owned.is_none_or(|owned| held.touches(owned))
    }
}

impl Member {
    pub(super) fn new(id: &str) -> Self {
        Self {
            id: Arc::from(id),
            epoch: 0,
            previous_epoch: 0,
            progress: Progress::Stable,
            rack: None,
            rebalance_timeout_ms: -1,
            client_id: String::new(),
            client_host: String::new(),
            topology_epoch: -1,
            process_id: String::new(),
            endpoint: None,
            tags: BTreeMap::new(),
            assigned: Held::default(),
            revoking: Held::default(),
        }
    }

    pub(super) fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.progress == Progress::Stable && self.epoch == epoch
    }

    /// Goes one step towards what it is to have.
    pub(super) fn reconcile(&mut self, goal: &Goal<'_>, others: &Others<'_>) {
        match self.progress {
            Progress::Stable if self.epoch == goal.epoch => {}
            Progress::Unrevoked if goal.may_hold(&self.revoking) => {}
            Progress::Unrevoked => self.advance(self.epoch + 1, goal, others),
            Progress::Stable | Progress::Unreleased => self.advance(self.epoch, goal, others),
        }
    }

    fn advance(&mut self, own_epoch: i32, goal: &Goal<'_>, others: &Others<'_>) {
        let (held, target) = (self.assigned.sets(), goal.target);
        let active = Split::of(&held.active, &target.active, &|part, index| {
            (others.is_active)(part, index) || (others.is_in_process)(part, index)
        });
        let standby = Split::of(&held.standby, &target.standby, others.is_in_process);
        let warmup = Split::of(&held.warmup, &target.warmup, others.is_in_process);
        let unreleased = active.unreleased || standby.unreleased || warmup.unreleased;
        let revoking = Held {
            active: self.dated(&active.given_up, goal.epoch),
            standby: standby.given_up,
            warmup: warmup.given_up,
        };
        let mut assigned =
            Held { active: self.dated(&active.kept, goal.epoch), standby: standby.kept, warmup: warmup.kept };
        if goal.may_hold(&revoking) {
            self.progress = Progress::Unrevoked;
            self.previous_epoch = std::mem::replace(&mut self.epoch, own_epoch);
            (self.assigned, self.revoking) = (assigned, revoking);
            return;
        }
        for (part, new) in self.dated(&active.new, goal.epoch) {
            assigned.active.entry(part).or_default().extend(new);
        }
        for (kind, new) in [(&mut assigned.standby, standby.new), (&mut assigned.warmup, warmup.new)] {
            for (part, new) in new {
                kind.entry(part).or_default().extend(new);
            }
        }
        self.progress = if unreleased { Progress::Unreleased } else { Progress::Stable };
        self.previous_epoch = std::mem::replace(&mut self.epoch, goal.epoch);
        (self.assigned, self.revoking) = (assigned, Held::default());
    }

    /// Active tasks with the epoch in which it was given each: this one, for those it has not.
    fn dated(&self, tasks: &Tasks, epoch: i32) -> BTreeMap<String, BTreeMap<i32, i32>> {
        let since = |part: &str, index: &i32| {
            let held = self.assigned.active.get(part);
            (*index, held.and_then(|held| held.get(index)).copied().unwrap_or(epoch))
        };
        let dated =
            tasks.iter().map(|(part, indices)| (part.clone(), indices.iter().map(|i| since(part, i)).collect()));
        dated.collect()
    }
}

/// What a member keeps, gives up and gets of one kind of tasks.
#[derive(Default)]
struct Split {
    kept: Tasks,
    given_up: Tasks,
    new: Tasks,
    /// Others still have some of what it is to get.
    unreleased: bool,
}

impl Split {
    fn of(held: &Tasks, target: &Tasks, is_taken: &dyn Fn(&str, i32) -> bool) -> Self {
        let mut split = Self::default();
        let nothing = BTreeSet::new();
        let put = |into: &mut Tasks, part: &str, tasks: BTreeSet<i32>| {
            if !tasks.is_empty() {
                into.insert(part.to_owned(), tasks);
            }
        };
        for part in held.keys().chain(target.keys()).collect::<BTreeSet<_>>() {
            let (held, target) = (held.get(part).unwrap_or(&nothing), target.get(part).unwrap_or(&nothing));
            put(&mut split.kept, part, held.intersection(target).copied().collect());
            put(&mut split.given_up, part, held.difference(target).copied().collect());
            let (taken, new): (BTreeSet<i32>, BTreeSet<i32>) =
                target.difference(held).partition(|index| is_taken(part, **index));
            put(&mut split.new, part, new);
            split.unreleased |= !taken.is_empty();
        }
        split
    }
}
