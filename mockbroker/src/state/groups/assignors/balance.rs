//! Uniform shares when members subscribe to different topics (`UniformHeterogeneousAssignmentBuilder`).
//!
//! What is free goes, topic by topic, to whoever has least; then, round after round, partitions move from those who have
//! most to those who have least among the readers of their topic.

use super::{Partitions, Question, Shares, java};
use crate::wire::Uuid;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

/// So many rounds of balancing are enough.
const ROUNDS_MAX: usize = 16;

pub(super) fn assign(question: &Question) -> Shares {
    let mut shares = Balance::of(question);
    if shares.readers.is_empty() {
        return Shares::new();
    }
    shares.deal_out_free();
    shares.even_out();
    let members = question.members.iter().map(|member| Arc::clone(&member.id));
    members.zip(shares.shares).collect()
}

/// The shares as they come to be; members go by their index.
struct Balance<'a> {
    question: &'a Question,
    /// Who subscribes to each topic.
    readers: BTreeMap<Uuid, Vec<usize>>,
    owners: BTreeMap<Uuid, Vec<Option<usize>>>,
    /// How much each member has.
    sizes: Vec<usize>,
    shares: Vec<Partitions>,
}

impl<'a> Balance<'a> {
    fn of(question: &'a Question) -> Self {
        let mut readers: BTreeMap<Uuid, Vec<usize>> = BTreeMap::new();
        for (index, member) in question.members.iter().enumerate() {
            for topic in &member.topics {
                readers.entry(*topic).or_default().push(index);
            }
        }
        let nobody = |topic: &Uuid| vec![None; usize::try_from(question.size(*topic)).unwrap_or(0)];
        let mut owners: BTreeMap<Uuid, Vec<Option<usize>>> =
            readers.keys().map(|topic| (*topic, nobody(topic))).collect();
        let mut sizes = vec![0; question.members.len()];
        let mut shares = Vec::with_capacity(question.members.len());
        for (index, member) in question.members.iter().enumerate() {
            let mut kept = member.before.clone();
            kept.retain(|topic, _| member.topics.contains(topic));
            for (topic, partitions) in &kept {
                sizes[index] += partitions.len();
                for partition in partitions {
                    let owner =
                        owners.get_mut(topic).and_then(|owners| owners.get_mut(usize::try_from(*partition).ok()?));
                    if let Some(owner) = owner {
                        *owner = Some(index);
                    }
                }
            }
            shares.push(kept);
        }
        Self { question, readers, owners, sizes, shares }
    }

    fn deal_out_free(&mut self) {
        let free = |owners: &Vec<Option<usize>>| owners.iter().any(Option::is_none);
        let topics = self.owners.iter().filter(|(_, owners)| free(owners)).map(|(topic, _)| *topic).collect();
        for topic in self.hardest_first(topics) {
            let owners = self.owners[&topic].iter().enumerate();
            let free: Vec<usize> = owners.filter(|(_, owner)| owner.is_none()).map(|(index, _)| index).collect();
            let mut line = Line::of(&self.readers[&topic], &self.sizes);
            for partition in free {
                let least = line.next_least_loaded(&self.sizes);
                self.give(topic, partition, least);
            }
        }
    }

    fn even_out(&mut self) {
        let shared = self.readers.iter().filter(|(_, readers)| readers.len() >= 2).map(|(topic, _)| *topic).collect();
        let topics = self.hardest_first(shared);
        let mut last_changed = None;
        for _ in 0..ROUNDS_MAX {
            for (index, topic) in topics.iter().enumerate() {
                if last_changed == Some(index) {
                    return;
                }
                if self.even_out_topic(*topic) > 0 || last_changed.is_none() {
                    last_changed = Some(index);
                }
            }
        }
    }

    /// Moves partitions of one topic; how many have moved.
    fn even_out_topic(&mut self, topic: Uuid) -> usize {
        let mut line = Line::of(&self.readers[&topic], &self.sizes);
        if line.imbalance(&self.sizes) <= 1 {
            return 0;
        }
        // Only what a member has now can move; what it is given on the way stays with it.
        let mut held: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (partition, owner) in self.owners[&topic].iter().enumerate() {
            if let Some(owner) = owner {
                held.entry(*owner).or_default().push(partition);
            }
        }
        let mut moved = 0;
        while !line.is_balanced() {
            let Some((_, partition)) = next_movable(&mut line, &mut held, &self.sizes) else { break };
            let least = line.next_least_loaded(&self.sizes);
            if line.is_balanced() {
                break;
            }
            self.give(topic, partition, least);
            moved += 1;
        }
        moved
    }

    /// Most partitions for each reader first, then fewest readers.
    fn hardest_first(&self, mut topics: Vec<Uuid>) -> Vec<Uuid> {
        let facts = |topic: &Uuid| (f64::from(self.question.size(*topic)), self.readers[topic].len());
        topics.sort_by(|a, b| {
            let ((a_partitions, a_readers), (b_partitions, b_readers)) = (facts(a), facts(b));
            (b_partitions / b_readers as f64)
                .partial_cmp(&(a_partitions / a_readers as f64))
                .unwrap_or(Ordering::Equal)
                .then(a_readers.cmp(&b_readers))
                .then(java::halves(*a).cmp(&java::halves(*b)))
        });
        topics
    }

    fn give(&mut self, topic: Uuid, partition: usize, to: usize) {
        let index = i32::try_from(partition).unwrap_or(i32::MAX);
        let Some(owner) = self.owners.get_mut(&topic).and_then(|owners| owners.get_mut(partition)) else { return };
        if let Some(from) = owner.replace(to) {
            if let Some(partitions) = self.shares[from].get_mut(&topic) {
                partitions.remove(&index);
                if partitions.is_empty() {
                    self.shares[from].remove(&topic);
                }
            }
            self.sizes[from] -= 1;
        }
        self.shares[to].entry(topic).or_default().insert(index);
        self.sizes[to] += 1;
    }
}

/// The last partition of the most loaded member that still has one to give.
fn next_movable(line: &mut Line, held: &mut BTreeMap<usize, Vec<usize>>, sizes: &[usize]) -> Option<(usize, usize)> {
    loop {
        let member = line.next_most_loaded(sizes)?;
        match held.get_mut(&member).and_then(Vec::pop) {
            Some(partition) => return Some((member, partition)),
            None => line.exclude_most_loaded(),
        }
    }
}

/// The readers of one topic from the least to the most loaded, walked from both ends at once
/// (`MemberAssignmentBalancer`). Loads in the ranges at both ends are levelled: one step up, one step down.
struct Line {
    members: Vec<usize>,
    least_end: usize,
    least_load: isize,
    next_least: usize,
    most_start: usize,
    most_end: usize,
    most_load: isize,
    /// One past the member that is next.
    next_most: usize,
}

impl Line {
    fn of(readers: &[usize], sizes: &[usize]) -> Self {
        let mut members = readers.to_vec();
        members.sort_by_key(|member| (sizes[*member], *member));
        let load = |member: Option<&usize>| member.map_or(0, |member| sizes[*member].cast_signed());
        Self {
            least_end: 0,
            least_load: load(members.first()) - 1,
            next_least: 0,
            most_start: members.len(),
            most_end: members.len(),
            most_load: load(members.last()) + 1,
            next_most: members.len(),
            members,
        }
    }

    fn imbalance(&self, sizes: &[usize]) -> usize {
        match (self.members.first(), self.members.last()) {
            (Some(first), Some(last)) => sizes[*last] - sizes[*first],
            _ => 0,
        }
    }

    fn load_at(&self, place: usize, sizes: &[usize]) -> isize {
        sizes[self.members[place]].cast_signed()
    }

    fn next_least_loaded(&mut self, sizes: &[usize]) -> usize {
        if self.next_least >= self.least_end {
            self.least_load += 1;
            while self.least_end < self.members.len() && self.load_at(self.least_end, sizes) == self.least_load {
                self.least_end += 1;
            }
            self.next_least = 0;
        }
        self.next_least += 1;
        self.members[self.next_least - 1]
    }

    fn next_most_loaded(&mut self, sizes: &[usize]) -> Option<usize> {
        if self.next_most <= self.most_start {
            if self.most_end <= self.most_start && self.most_start > 0 {
                self.most_load = self.load_at(self.most_start - 1, sizes);
            } else {
                self.most_load -= 1;
            }
            while self.most_start > 0 && self.load_at(self.most_start - 1, sizes) == self.most_load {
                self.most_start -= 1;
            }
            self.next_most = self.most_end;
        }
        self.next_most = self.next_most.checked_sub(1)?;
        Some(self.members[self.next_most])
    }

    /// The member that was just named has nothing to give: it goes to the end of its range, which shrinks by one.
    fn exclude_most_loaded(&mut self) {
        self.members.swap(self.next_most, self.most_end - 1);
        self.most_end -= 1;
    }

    fn is_balanced(&self) -> bool {
        self.most_load - self.least_load <= 1
    }
}
