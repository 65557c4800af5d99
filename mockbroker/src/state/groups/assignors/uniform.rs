//! Uniform shares when all members subscribe to the same topics (`UniformHomogeneousAssignmentBuilder`).
//!
//! Every member keeps what it has up to its quota; what is left over goes to those who lack something, in order.

use super::{Partitions, Question, Shares, java};
use crate::wire::Uuid;
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) fn assign(question: &Question) -> Shares {
    let Some(topics) = question.members.first().map(|member| &member.topics).filter(|topics| !topics.is_empty()) else {
        return Shares::new();
    };
    let total: usize = topics.iter().map(|topic| usize::try_from(question.size(*topic)).unwrap_or(0)).sum();
    let members = question.members.len();
    let mut left_over = never_assigned(question, topics);
    let mut quotas = Quotas { least: total / members, extras: total % members };
    let mut shares = Shares::new();
    let mut wanting: Vec<(&Arc<str>, usize)> = Vec::new();
    for (index, member) in question.members.iter().enumerate() {
        let (share, wants) = quotas.keep(&member.before, topics, members - index, &mut left_over);
        if wants > 0 {
            wanting.push((&member.id, wants));
        }
        shares.insert(Arc::clone(&member.id), share);
    }
    let mut left_over = left_over.into_iter();
    for (id, wants) in wanting {
        let share = shares.entry(Arc::clone(id)).or_default();
        for (topic, index) in left_over.by_ref().take(wants) {
            share.entry(topic).or_default().insert(index);
        }
    }
    shares
}

/// How much each member may have.
struct Quotas {
    least: usize,
    /// How many members may still have one more.
    extras: usize,
}

impl Quotas {
    /// What of its former share a member keeps, and how much it lacks; the rest is left over.
    fn keep(
        &mut self,
        before: &Partitions,
        topics: &BTreeSet<Uuid>,
        members_from_here: usize,
        left_over: &mut Vec<(Uuid, i32)>,
    ) -> (Partitions, usize) {
        let mut has_extra = self.extras > 0;
        let mut quota = self.least + usize::from(has_extra);
        let mut share = before.clone();
        share.retain(|topic, _| topics.contains(topic));
        let entries = before.len();
        let mut walk: Vec<&Uuid> = before.keys().filter(|topic| topics.contains(topic)).collect();
        walk.sort_by_key(|topic| java::slot_of_id(**topic, entries));
        for topic in walk {
            let partitions = &before[topic];
            if partitions.len() <= quota {
                quota -= partitions.len();
                continue;
            }
            let mut order: Vec<i32> = partitions.iter().copied().collect();
            order.sort_by_key(|index| java::slot_of_copied_number(*index, partitions.len()));
            let given_up = order.split_off(quota);
            quota = 0;
            let kept: BTreeSet<i32> = order.into_iter().collect();
            if kept.is_empty() {
                share.remove(topic)
            } else {
                share.insert(*topic, kept)
            };
            left_over.extend(given_up.into_iter().map(|index| (*topic, index)));
        }
        // The extra one goes to somebody who has it already, while enough members are left to take the others.
        if quota > 0 && has_extra && members_from_here > self.extras {
            quota -= 1;
            has_extra = false;
        }
        self.extras -= usize::from(has_extra);
        (share, quota)
    }
}

fn never_assigned(question: &Question, topics: &BTreeSet<Uuid>) -> Vec<(Uuid, i32)> {
    let assigned: BTreeSet<(Uuid, i32)> = question.members.iter().flat_map(|member| all_of(&member.before)).collect();
    let mut order: Vec<Uuid> = topics.iter().copied().collect();
    order.sort_by_key(|topic| java::slot_of_copied_id(*topic, topics.len()));
    let partitions = order.into_iter().flat_map(|topic| (0..question.size(topic)).map(move |index| (topic, index)));
    partitions.filter(|partition| !assigned.contains(partition)).collect()
}

fn all_of(partitions: &Partitions) -> impl Iterator<Item = (Uuid, i32)> {
    partitions.iter().flat_map(|(topic, indices)| indices.iter().map(|index| (*topic, *index)))
}
