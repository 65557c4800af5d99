//! The topics there are, as the coordinator of groups looks at them.

use crate::wire::Uuid;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What of a topic makes groups assign anew when it changes (`Utils.computeTopicHash`, KIP-1101).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicFacts {
    /// The topic's id.
    pub id: Uuid,
    /// How many partitions it has.
    pub partitions: i32,
    /// The racks of each partition's replicas; empty where no broker has one.
    pub racks: Vec<BTreeSet<String>>,
}

/// All topics by name and by id.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    by_name: BTreeMap<String, Arc<TopicFacts>>,
    names: BTreeMap<Uuid, String>,
    /// How many topics have been created so far.
    created: u64,
}

impl Catalog {
    /// Takes over a topic that is new or has changed.
    pub(super) fn put(&mut self, name: &str, facts: TopicFacts) {
        if self.names.insert(facts.id, name.to_owned()).is_none() {
            self.created += 1;
        }
        self.by_name.insert(name.to_owned(), Arc::new(facts));
    }

    pub(super) fn remove(&mut self, name: &str) {
        if let Some(facts) = self.by_name.remove(name) {
            self.names.remove(&facts.id);
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Arc<TopicFacts>> {
        self.by_name.get(name)
    }

    pub(super) fn name_of(&self, id: Uuid) -> Option<&str> {
        self.names.get(&id).map(String::as_str)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// How many partitions the topic with this id has; none when it is gone.
    pub(super) fn partitions(&self, id: Uuid) -> i32 {
        self.name_of(id).and_then(|name| self.get(name)).map_or(0, |facts| facts.partitions)
    }

    pub(super) fn created(&self) -> u64 {
        self.created
    }
}
