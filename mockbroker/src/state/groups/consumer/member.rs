//! A member of a consumer group, and how it moves from what it has to what it is to have (`CurrentAssignmentBuilder`).
//!
//! ```text
//!            target has changed                  everything given up
//!   Stable ─────────────────────▶ Unrevoked ───────────────────────▶ Stable, or Unreleased while others still hold
//!      ▲                                                              some of what it is to have
//!      └───────────────────────────── Unreleased ◀──────────────────────┘
//! ```
//!
//! A member enters the group's epoch when it has given up what it must; only then, and only what nobody else holds, is
//! it given something new.

use super::super::asked::Protocol;
use super::super::assignors::Partitions;
use crate::wire::Uuid;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Partitions by topic, each with the epoch in which the member was given it.
pub(in super::super) type Held = BTreeMap<Uuid, BTreeMap<i32, i32>>;

/// A static member that has left for a while is in this epoch.
pub(in super::super) const LEFT_FOR_A_WHILE: i32 = -2;

/// Where a member is between what it has and what it is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Progress {
    /// It has what its epoch gives it.
    Stable,
    /// It has not given up what it must.
    Unrevoked,
    /// It waits for partitions others hold.
    Unreleased,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Member {
    pub(in super::super) id: Arc<str>,
    pub(in super::super) epoch: i32,
    pub(in super::super) previous_epoch: i32,
    pub(in super::super) progress: Progress,
    pub(in super::super) instance_id: Option<Arc<str>>,
    pub(in super::super) rack: Option<String>,
    pub(in super::super) rebalance_timeout_ms: i32,
    pub(in super::super) client_id: String,
    pub(in super::super) client_host: String,
    pub(in super::super) topics: BTreeSet<String>,
    /// Empty for none.
    pub(in super::super) regex: String,
    pub(in super::super) assignor: Option<String>,
    pub(in super::super) assigned: Held,
    pub(in super::super) revoking: Held,
    /// What it is known by in the classic protocol, if it speaks that.
    pub(in super::super) classic: Option<ClassicSide>,
}

/// What a member that speaks the classic protocol has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct ClassicSide {
    pub(in super::super) session_timeout_ms: i32,
    pub(in super::super) protocols: Vec<Protocol>,
}

/// What the group wants of a member.
pub(super) struct Goal<'a> {
    pub(super) epoch: i32,
    pub(super) target: &'a Partitions,
    /// The topics it subscribes to that exist.
    pub(super) topics: &'a BTreeSet<Uuid>,
    pub(super) subscription_changed: bool,
    /// What it says it holds; `None` if it says nothing.
    pub(super) owned: Option<&'a [(Uuid, Vec<i32>)]>,
    /// Whether another member holds this partition.
    pub(super) held_by_others: &'a dyn Fn(Uuid, i32) -> bool,
}

impl Member {
    pub(super) fn new(id: &str) -> Self {
        Self {
            id: Arc::from(id),
            epoch: 0,
            previous_epoch: -1,
            progress: Progress::Stable,
            instance_id: None,
            rack: None,
            rebalance_timeout_ms: -1,
            client_id: String::new(),
            client_host: String::new(),
            topics: BTreeSet::new(),
            regex: String::new(),
            assignor: None,
            assigned: Held::new(),
            revoking: Held::new(),
            classic: None,
        }
    }

    pub(super) fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.progress == Progress::Stable && self.epoch == epoch
    }

    pub(super) fn uses_classic(&self) -> bool {
        self.classic.is_some()
    }

    pub(super) fn holds(&self, topic: Uuid, index: i32) -> bool {
        self.epoch_of(topic, index).is_some()
    }

    /// In which epoch it was given a partition it has or is giving up.
    pub(super) fn epoch_of(&self, topic: Uuid, index: i32) -> Option<i32> {
        let of = |held: &Held| held.get(&topic).and_then(|partitions| partitions.get(&index)).copied();
        of(&self.assigned).or_else(|| of(&self.revoking))
    }

    /// It has left, but will be back under another member id.
    pub(super) fn leave_for_a_while(&mut self) {
        self.epoch = LEFT_FOR_A_WHILE;
        self.revoking.clear();
        self.assigned.values_mut().flat_map(|partitions| partitions.values_mut()).for_each(|epoch| *epoch = 0);
    }

    /// Goes one step towards the goal.
    pub(super) fn reconcile(&mut self, goal: &Goal<'_>) {
        if !goal.subscription_changed && self.is_reconciled_to(goal.epoch) {
            return;
        }
        match self.progress {
            Progress::Stable if self.epoch != goal.epoch => self.advance(goal),
            Progress::Stable if goal.subscription_changed => self.drop_unsubscribed(goal),
            Progress::Stable => {}
            Progress::Unrevoked if still_holds(goal.owned, &self.revoking) => {
                if goal.subscription_changed {
                    self.drop_unsubscribed(goal);
                }
            }
            Progress::Unrevoked | Progress::Unreleased => self.advance(goal),
        }
    }

    /// Gives up at once what it does not subscribe to any more, within its epoch.
    fn drop_unsubscribed(&mut self, goal: &Goal<'_>) {
        let dropped: Vec<Uuid> = self.assigned.keys().filter(|topic| !goal.topics.contains(topic)).copied().collect();
        if dropped.is_empty() {
            return;
        }
        let mut revoking = self.revoking.clone();
        for topic in dropped {
            revoking.entry(topic).or_default().extend(self.assigned.remove(&topic).unwrap_or_default());
        }
        if still_holds(goal.owned, &revoking) {
            self.progress = Progress::Unrevoked;
            self.revoking = revoking;
        }
        self.previous_epoch = self.epoch;
    }

    /// Computes what it keeps, gives up and gets.
    fn advance(&mut self, goal: &Goal<'_>) {
        let (mut assigned, mut revoking, mut pending) = (Held::new(), Held::new(), Vec::new());
        let mut unreleased = false;
        let no_partitions = BTreeSet::new();
        let not_held = BTreeMap::new();
        let topics: BTreeSet<Uuid> = goal.target.keys().chain(self.assigned.keys()).copied().collect();
        for topic in topics {
            let target = goal.target.get(&topic).filter(|_| goal.topics.contains(&topic)).unwrap_or(&no_partitions);
            let held = self.assigned.get(&topic).unwrap_or(&not_held);
            let (kept, given_up): (BTreeMap<i32, i32>, BTreeMap<i32, i32>) =
                held.iter().partition(|(index, _)| target.contains(index));
            for index in target.iter().filter(|index| !kept.contains_key(index)) {
                if (goal.held_by_others)(topic, *index) {
                    unreleased = true;
                } else {
                    pending.push((topic, *index));
                }
            }
            if !kept.is_empty() {
                assigned.insert(topic, kept);
            }
            if !given_up.is_empty() {
                revoking.insert(topic, given_up);
            }
        }
        self.previous_epoch = self.epoch;
        if still_holds(goal.owned, &revoking) {
            self.progress = Progress::Unrevoked;
            (self.assigned, self.revoking) = (assigned, revoking);
            return;
        }
        for (topic, index) in pending {
            assigned.entry(topic).or_default().insert(index, goal.epoch);
        }
        self.epoch = goal.epoch;
        self.progress = if unreleased { Progress::Unreleased } else { Progress::Stable };
        (self.assigned, self.revoking) = (assigned, Held::new());
    }
}

/// Whether a member may still hold some of what it is to give up: it says so, or says nothing.
fn still_holds(owned: Option<&[(Uuid, Vec<i32>)]>, revoking: &Held) -> bool {
    if revoking.is_empty() {
        return false;
    }
    let Some(owned) = owned else { return true };
    owned.iter().any(|(topic, partitions)| {
        revoking.get(topic).is_some_and(|revoking| partitions.iter().any(|index| revoking.contains_key(index)))
    })
}
