//! Who gets which partition: the coordinator's own assignors (KIP-848, KIP-932), result for result those of Kafka.

mod balance;
mod range;
mod simple;
#[cfg(test)]
mod tests;
mod uniform;

pub(super) use simple::assign as assign_shared;

use super::java;
use crate::wire::Uuid;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Partitions by topic.
pub(super) type Partitions = BTreeMap<Uuid, BTreeSet<i32>>;

/// An assignor of consumer groups, by the name members ask for it with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignor {
    /// Shares of equal size that stay where they are (`UniformAssignor`).
    Uniform,
    /// A range of each topic; the same range of all topics if their sizes are the same (`RangeAssignor`).
    Range,
}

impl Assignor {
    /// The assignor of this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "uniform" => Some(Self::Uniform),
            "range" => Some(Self::Range),
            _ => None,
        }
    }

    /// Its name in requests and configs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// What each member is to have.
    pub(super) fn assign(self, question: Question) -> Shares {
        if question.members.is_empty() {
            return Shares::new();
        }
        match self {
            Self::Uniform if question.homogeneous => uniform::assign(&question),
            Self::Uniform => balance::assign(&question),
            Self::Range => range::assign(&question),
        }
    }
}

/// What each member is to have, by member id.
pub(super) type Shares = BTreeMap<Arc<str>, Partitions>;

/// What is to be assigned, and to whom.
#[derive(Debug)]
pub(super) struct Question {
    /// The members, in the order in which Java walks them.
    members: Vec<Candidate>,
    /// All subscribe to the same topics.
    homogeneous: bool,
    /// How many partitions each topic has.
    sizes: BTreeMap<Uuid, i32>,
}

/// A member to be given partitions.
#[derive(Debug, Clone, Default)]
pub(super) struct Candidate {
    pub(super) id: Arc<str>,
    pub(super) instance_id: Option<Arc<str>>,
    /// Topics it subscribes to and that exist.
    pub(super) topics: BTreeSet<Uuid>,
    /// What it was to have until now.
    pub(super) before: Partitions,
}

impl Question {
    /// Who is to share which topics; `sizes` has the number of partitions of every topic somebody subscribes to.
    pub(super) fn new(mut members: Vec<Candidate>, homogeneous: bool, sizes: BTreeMap<Uuid, i32>) -> Self {
        let entries = members.len();
        members.sort_by(|a, b| {
            let slot = |member: &Candidate| java::slot_of_text(&member.id, entries);
            (slot(a), &a.id).cmp(&(slot(b), &b.id))
        });
        Self { members, homogeneous, sizes }
    }

    fn size(&self, topic: Uuid) -> i32 {
        self.sizes.get(&topic).copied().unwrap_or(0)
    }
}
