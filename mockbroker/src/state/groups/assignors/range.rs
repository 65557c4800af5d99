//! A range of each topic for every member that subscribes to it (`RangeAssignor`).

use super::{Candidate, Question, Shares};
use crate::wire::Uuid;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One topic as it is being dealt out.
struct Dealing {
    partitions: i32,
    quota: i32,
    /// How many members still get one more.
    extras: i32,
    next: i32,
}

pub(super) fn assign(question: &Question) -> Shares {
    let mut members: Vec<&Candidate> = question.members.iter().collect();
    members.sort_by(|a, b| static_first(a, b));
    let mut readers: BTreeMap<Uuid, i32> = BTreeMap::new();
    for topic in members.iter().flat_map(|member| &member.topics) {
        *readers.entry(*topic).or_default() += 1;
    }
    let dealing = |(topic, readers): (&Uuid, &i32)| {
        let partitions = question.size(*topic);
        (*topic, Dealing { partitions, quota: partitions / readers, extras: partitions % readers, next: 0 })
    };
    let mut topics: BTreeMap<Uuid, Dealing> = readers.iter().map(dealing).collect();
    let mut shares = Shares::new();
    for member in members {
        let share = shares.entry(Arc::clone(&member.id)).or_default();
        for topic in &member.topics {
            let range = topics.get_mut(topic).map(Dealing::deal).unwrap_or_default();
            if !range.is_empty() {
                share.insert(*topic, range.collect());
            }
        }
    }
    shares
}

impl Dealing {
    fn deal(&mut self) -> std::ops::Range<i32> {
        let extra = i32::from(self.extras > 0);
        self.extras -= extra;
        let start = self.next;
        self.next = (start + self.quota + extra).min(self.partitions);
        start..self.next
    }
}

/// Static members by their instance ids, then the others by their member ids: who restarts keeps its range.
fn static_first(a: &Candidate, b: &Candidate) -> Ordering {
    match (&a.instance_id, &b.instance_id) {
        (Some(a), Some(b)) => a.cmp(b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.id.cmp(&b.id),
    }
}
