//! What a Kafka Streams application consists of, and what that means for the topics there are: how many tasks, which
//! internal topics (`StreamsTopology`, `InternalTopicManager`).

use super::super::catalog::{Catalog, TopicFacts};
use crate::error::{ErrorCode, Reject};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A topology as members send it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Topology {
    /// Rises with every change of the application.
    pub epoch: i32,
    /// Its parts by their ids.
    pub parts: BTreeMap<String, Subtopology>,
}

/// A part of a topology: each of its tasks reads one partition of each of its topics.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Subtopology {
    /// The topics it reads that others write.
    pub source_topics: Vec<String>,
    /// The internal topics it writes for other parts.
    pub sink_topics: Vec<String>,
    /// The topics that keep its state.
    pub changelogs: Vec<InternalTopic>,
    /// The internal topics it reads.
    pub repartition_topics: Vec<InternalTopic>,
    /// Topics that must have equally many partitions.
    pub copartitioned: Vec<BTreeSet<String>>,
}

/// A topic the group makes for itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct InternalTopic {
    /// Its name.
    pub name: String,
    /// How many partitions it has; 0 to leave that to the group.
    pub partitions: i32,
    /// How many replicas; 0 for the broker's default.
    pub replication_factor: i16,
    /// Its configs.
    pub configs: Vec<(String, String)>,
}

/// What a member is told beside its tasks (`StreamsGroupHeartbeatResponse.Status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[repr(i8)]
pub enum StreamsStatus {
    /// Its topology is older than the group's.
    StaleTopology = 0,
    /// Topics it reads do not exist.
    MissingSourceTopics = 1,
    /// Topics have not the numbers of partitions they should have.
    IncorrectlyPartitionedTopics = 2,
    /// Topics the group makes for itself do not exist yet.
    MissingInternalTopics = 3,
    /// A member wants all to stop.
    ShutdownApplication = 4,
    /// Tasks are given later.
    AssignmentDelayed = 5,
}

/// A topology as it fits the topics there are.
#[derive(Debug, Clone, Default)]
pub(super) struct Configured {
    /// Its parts; none while that cannot be said.
    pub(super) parts: BTreeMap<String, Part>,
    /// Internal topics that do not exist yet.
    pub(super) missing: Vec<InternalTopic>,
    /// Why no tasks can be given.
    pub(super) problem: Option<(StreamsStatus, String)>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Part {
    pub(super) tasks: i32,
    /// It has state, so that others can stand by.
    pub(super) stateful: bool,
    /// All topics it reads.
    pub(super) reads: BTreeSet<String>,
    /// Its internal topics with the numbers of partitions they are to have.
    pub(super) changelogs: Vec<InternalTopic>,
    pub(super) repartition_topics: Vec<InternalTopic>,
}

impl Topology {
    /// The topics whose changes matter, as they are.
    pub(super) fn known_topics(&self, catalog: &Catalog) -> BTreeMap<String, Arc<TopicFacts>> {
        let names = self.parts.values().flat_map(|part| part.reads().chain(names_of(&part.changelogs)));
        names.filter_map(|name| catalog.get(name).map(|facts| (name.to_owned(), Arc::clone(facts)))).collect()
    }

    /// Whether this topic is one it reads or keeps its state in.
    pub(super) fn concerns(&self, topic: &str) -> bool {
        self.reads(topic) || self.parts.values().flat_map(|part| names_of(&part.changelogs)).any(|name| name == topic)
    }

    /// Whether a part of it reads this topic.
    pub(super) fn reads(&self, topic: &str) -> bool {
        self.parts.values().any(|part| part.reads().any(|name| name == topic))
    }

    /// Fits it to the topics there are.
    pub(super) fn configured(&self, catalog: &Catalog) -> Result<Configured, Reject> {
        match self.try_configure(catalog) {
            Ok(configured) => Ok(configured),
            Err(Misfit::Status(status, why)) => {
                Ok(Configured { problem: Some((status, why)), ..Configured::default() })
            }
            Err(Misfit::Invalid(why)) => Err(Reject::new(ErrorCode::StreamsInvalidTopology, why)),
        }
    }

    fn try_configure(&self, catalog: &Catalog) -> Result<Configured, Misfit> {
        let sources = self.parts.values().flat_map(|part| &part.source_topics);
        let absent: BTreeSet<&str> = sources.map(String::as_str).filter(|name| catalog.get(name).is_none()).collect();
        if !absent.is_empty() {
            let why = format!("there is no topic {}", listed(&absent));
            return Err(Misfit::Status(StreamsStatus::MissingSourceTopics, why));
        }
        let mut sizes = Sizes { catalog, decided: self.repartition_sizes(catalog)? };
        self.equalise(&mut sizes)?;
        let mut parts = BTreeMap::new();
        for (id, part) in &self.parts {
            parts.insert(id.clone(), part.fitted(&sizes)?);
        }
        let missing = missing_topics(&parts, catalog)?;
        let problem = (!missing.is_empty()).then(|| {
            let names = missing.iter().map(|topic| topic.name.as_str()).collect();
            (StreamsStatus::MissingInternalTopics, format!("there is no topic {} yet", listed(&names)))
        });
        Ok(Configured { parts, missing, problem })
    }

    /// How many partitions repartition topics are to have: as they say, or as many as their writers read
    /// (`RepartitionTopics`).
    fn repartition_sizes(&self, catalog: &Catalog) -> Result<BTreeMap<String, i32>, Misfit> {
        let internal = || self.parts.values().flat_map(|part| &part.repartition_topics);
        let said = internal().filter(|topic| topic.partitions != 0);
        let mut sizes: BTreeMap<String, i32> = said.map(|topic| (topic.name.clone(), topic.partitions)).collect();
        loop {
            let before = sizes.len();
            let mut open = false;
            for part in self.parts.values() {
                for sink in &part.sink_topics {
                    if sizes.contains_key(sink) {
                        continue;
                    }
                    let inner = part.repartition_topics.iter().filter_map(|topic| sizes.get(&topic.name).copied());
                    let outer = part.source_topics.iter().filter_map(|name| Some(catalog.get(name)?.partitions));
                    match inner.chain(outer).max() {
                        Some(size) => drop(sizes.insert(sink.clone(), size)),
                        None => open = true,
                    }
                }
            }
            if !open {
                break;
            }
            if sizes.len() == before {
                return Err(Misfit::Invalid("repartition topics that only depend on each other have no size"));
            }
        }
        if internal().any(|topic| !sizes.contains_key(&topic.name)) {
            return Err(Misfit::Invalid("a repartition topic is read that no part writes"));
        }
        Ok(sizes)
    }

    /// Makes copartitioned topics equally large where their sizes are free (`CopartitionedTopicsEnforcer`).
    fn equalise(&self, sizes: &mut Sizes<'_>) -> Result<(), Misfit> {
        let internal = || self.parts.values().flat_map(|part| &part.repartition_topics);
        let fixed: BTreeSet<&str> = internal().filter(|topic| topic.partitions != 0).map(|t| t.name.as_str()).collect();
        let internal: BTreeSet<&str> = internal().map(|topic| topic.name.as_str()).collect();
        for group in self.parts.values().flat_map(|part| &part.copartitioned) {
            let (inner, outer): (Vec<&str>, Vec<&str>) =
                group.iter().map(String::as_str).partition(|name| internal.contains(name));
            let size = if !outer.is_empty() {
                sizes.common(outer.iter().copied(), group)?
            } else if !fixed.is_empty() {
                sizes.common(fixed.iter().copied(), group)?
            } else {
                inner.iter().map(|name| sizes.of(name)).collect::<Result<BTreeSet<i32>, _>>()?.last().copied()
            };
            let Some(size) = size else { continue };
            for name in inner {
                if fixed.contains(name) && sizes.of(name)? != size {
                    return Err(differing(group));
                }
                sizes.decided.insert(name.to_owned(), size);
            }
        }
        Ok(())
    }
}

/// Why a topology does not fit.
enum Misfit {
    /// Its members are told, and wait.
    Status(StreamsStatus, String),
    /// It is refused.
    Invalid(&'static str),
}

/// How many partitions topics have, or are to have.
struct Sizes<'a> {
    catalog: &'a Catalog,
    decided: BTreeMap<String, i32>,
}

impl Sizes<'_> {
    fn of(&self, topic: &str) -> Result<i32, Misfit> {
        let existing = self.catalog.get(topic).map(|facts| facts.partitions);
        existing.or_else(|| self.decided.get(topic).copied()).ok_or(Misfit::Invalid("a topic has no size"))
    }

    /// The one size all these have.
    fn common<'t>(
        &self,
        topics: impl Iterator<Item = &'t str>,
        group: &BTreeSet<String>,
    ) -> Result<Option<i32>, Misfit> {
        let sizes = topics.map(|name| self.of(name)).collect::<Result<BTreeSet<i32>, _>>()?;
        if sizes.len() > 1 { Err(differing(group)) } else { Ok(sizes.first().copied()) }
    }
}

impl Subtopology {
    fn reads(&self) -> impl Iterator<Item = &str> {
        self.source_topics.iter().map(String::as_str).chain(names_of(&self.repartition_topics))
    }

    fn fitted(&self, sizes: &Sizes<'_>) -> Result<Part, Misfit> {
        let tasks = self.reads().map(|name| sizes.of(name)).collect::<Result<Vec<i32>, _>>()?;
        let tasks = tasks.into_iter().max().ok_or(Misfit::Invalid("a part reads nothing"))?;
        let sized = |topic: &InternalTopic, size: i32| InternalTopic {
            partitions: if topic.partitions == 0 { size } else { topic.partitions },
            ..topic.clone()
        };
        let decided = |topic: &InternalTopic| sizes.decided.get(&topic.name).copied().unwrap_or(topic.partitions);
        Ok(Part {
            tasks,
            stateful: !self.changelogs.is_empty(),
            reads: self.reads().map(str::to_owned).collect(),
            changelogs: self.changelogs.iter().map(|topic| sized(topic, tasks)).collect(),
            repartition_topics: self.repartition_topics.iter().map(|topic| sized(topic, decided(topic))).collect(),
        })
    }
}

/// The internal topics that do not exist; those that do must have the right size.
fn missing_topics(parts: &BTreeMap<String, Part>, catalog: &Catalog) -> Result<Vec<InternalTopic>, Misfit> {
    let mut missing: BTreeMap<&str, &InternalTopic> = BTreeMap::new();
    for topic in parts.values().flat_map(|part| part.repartition_topics.iter().chain(&part.changelogs)) {
        match catalog.get(&topic.name) {
            None => drop(missing.insert(&topic.name, topic)),
            Some(facts) if facts.partitions != topic.partitions => {
                let (name, wanted, found) = (&topic.name, topic.partitions, facts.partitions);
                let why = format!("topic {name} has {found} partitions where {wanted} are needed");
                return Err(Misfit::Status(StreamsStatus::IncorrectlyPartitionedTopics, why));
            }
            Some(_) => {}
        }
    }
    Ok(missing.into_values().cloned().collect())
}

fn differing(group: &BTreeSet<String>) -> Misfit {
    let names = group.iter().map(String::as_str).collect();
    let why = format!("topics that are joined differ in their numbers of partitions: {}", listed(&names));
    Misfit::Status(StreamsStatus::IncorrectlyPartitionedTopics, why)
}

fn names_of(topics: &[InternalTopic]) -> impl Iterator<Item = &str> {
    topics.iter().map(|topic| topic.name.as_str())
}

/// The first few names.
fn listed(names: &BTreeSet<&str>) -> String {
    const SHOWN: usize = 3;
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}
