//! Partitions for the members of a share group, several members to a partition if there are more members
//! (`SimpleAssignor`, KIP-932).
//!
//! Every partition is to have equally many members and every member equally many partitions. What fits stays where it is,
//! what is too much is taken away, what is missing is dealt out in turn.

use super::{Partitions, Question, Shares, java};
use crate::wire::Uuid;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

type Partition = (Uuid, i32);

/// What each member is to have, of the partitions that can be assigned.
pub(in super::super) fn assign(question: &Question, assignable: &Partitions) -> Shares {
    let topics: BTreeSet<Uuid> = question.members.iter().flat_map(|member| &member.topics).copied().collect();
    if topics.is_empty() {
        return Shares::new();
    }
    let before = |member: &super::Candidate| {
        let kept = member.before.iter().filter(|(topic, _)| topics.contains(topic));
        kept.flat_map(|(topic, indices)| indices.iter().map(|index| (*topic, *index))).collect()
    };
    let mut held: Vec<BTreeSet<Partition>> = question.members.iter().map(before).collect();
    if question.homogeneous {
        Pool::of(question, assignable, &topics).deal(&mut held);
    } else {
        for topic in &topics {
            Pool::of(question, assignable, &BTreeSet::from([*topic])).deal(&mut held);
        }
    }
    let members = question.members.iter().map(|member| Arc::clone(&member.id));
    members.zip(held.into_iter().map(by_topic)).collect()
}

/// Partitions that are dealt out together, and the members they are for, by index.
struct Pool {
    partitions: Vec<Partition>,
    topics: BTreeSet<Uuid>,
    members: Vec<usize>,
    /// How many members each partition is to have.
    sharing: usize,
    /// How many partitions each member is to have.
    quotas: BTreeMap<usize, usize>,
}

impl Pool {
    fn of(question: &Question, assignable: &Partitions, topics: &BTreeSet<Uuid>) -> Self {
        let members = question.members.iter().enumerate();
        let readers = members.filter(|(_, member)| member.topics.iter().any(|topic| topics.contains(topic)));
        let members: Vec<usize> = readers.map(|(index, _)| index).collect();
        let in_topic = |topic: &Uuid| {
            let indices = assignable.get(topic).into_iter().flatten().filter(|index| **index < question.size(*topic));
            indices.map(|index| (*topic, *index)).collect::<Vec<_>>()
        };
        let mut partitions: Vec<Partition> = topics.iter().flat_map(in_topic).collect();
        let entries = partitions.len();
        if question.homogeneous {
            partitions.sort_by_key(|(topic, index)| java::slot_of_partition(*topic, *index, entries));
        }
        let sharing = if entries == 0 { 0 } else { members.len().div_ceil(entries) };
        let assignments = sharing * entries;
        let up_to = |place: usize| (assignments * place).div_ceil(members.len().max(1));
        let quotas = members.iter().enumerate().map(|(place, member)| (*member, up_to(place + 1) - up_to(place)));
        Self { quotas: quotas.collect(), partitions, topics: topics.clone(), members, sharing }
    }

    fn deal(&self, held: &mut [BTreeSet<Partition>]) {
        self.take_what_is_too_much(held);
        let mut wanting: Vec<usize> =
            self.members.iter().copied().filter(|member| self.held_by(&held[*member]) < self.quotas[member]).collect();
        let mut next = 0;
        let mut dealt_in_turn = false;
        for partition in &self.partitions {
            let mut missing = self.sharing.saturating_sub(owners(held, partition));
            while missing > 0 && !wanting.is_empty() {
                if next >= wanting.len() {
                    if !dealt_in_turn {
                        break;
                    }
                    (next, dealt_in_turn) = (0, false);
                }
                let member = wanting[next];
                next += 1;
                if held[member].insert(*partition) {
                    missing -= 1;
                    dealt_in_turn = true;
                    if self.held_by(&held[member]) >= self.quotas[&member] {
                        next -= 1;
                        wanting.remove(next);
                    }
                }
            }
        }
    }

    /// From members that have more than their quota, then from partitions that have more members than they are to have.
    fn take_what_is_too_much(&self, held: &mut [BTreeSet<Partition>]) {
        for (member, held) in held.iter_mut().enumerate() {
            let quota = self.quotas.get(&member).copied().unwrap_or(0);
            let assignable: BTreeSet<&Partition> = self.partitions.iter().collect();
            held.retain(|partition| !self.topics.contains(&partition.0) || assignable.contains(partition));
            let surplus = self.held_by(held).saturating_sub(quota);
            let mine = self.partitions.iter().filter(|partition| held.contains(*partition)).take(surplus).copied();
            for partition in mine.collect::<Vec<_>>() {
                held.remove(&partition);
            }
        }
        for partition in &self.partitions {
            let surplus = owners(held, partition).saturating_sub(self.sharing);
            for held in held.iter_mut().filter(|held| held.contains(partition)).take(surplus) {
                held.remove(partition);
            }
        }
    }

    fn held_by(&self, held: &BTreeSet<Partition>) -> usize {
        held.iter().filter(|(topic, _)| self.topics.contains(topic)).count()
    }
}

fn owners(held: &[BTreeSet<Partition>], partition: &Partition) -> usize {
    held.iter().filter(|held| held.contains(partition)).count()
}

fn by_topic(held: BTreeSet<Partition>) -> Partitions {
    let mut partitions = Partitions::new();
    for (topic, index) in held {
        partitions.entry(topic).or_default().insert(index);
    }
    partitions
}
