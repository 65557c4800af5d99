//! The topics a group reads: the main one, and with [`RetryScope::Topic`] its retry topics.

use crate::config::KafkaEventBusConfig;
use crate::engine::Partition;
use crate::retry::RetryScope;
use rdkafka::TopicPartitionList;
use std::sync::Arc;

/// Retry topics a group has at most: retries beyond share the last. With doubling waits the eighth is a hundred times as
/// long as the first, and mostly at its bound.
const TIERS_MAX: u32 = 8;

/// Topics by the number the engine knows them by: 0 is the main one, the others are retry topics, first retry first.
#[derive(Debug, Clone)]
pub(super) struct Sources(Arc<[Arc<str>]>);

impl Sources {
    pub(super) fn of(config: &KafkaEventBusConfig) -> Self {
        let (main, group) = (config.topic_name(), &config.consumer_group);
        let tiers = match config.retry.scope {
            RetryScope::Topic => config.retry.max_retries.min(TIERS_MAX),
            RetryScope::Key | RetryScope::Partition => 0,
        };
        let retries = (1..=tiers).map(|tier| format!("{main}.{group}.retry.{tier}").into());
        Self(std::iter::once(main.as_str().into()).chain(retries).collect())
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.0.iter().map(|name| &**name).collect()
    }

    /// The retry topics.
    pub(super) fn tiers(&self) -> &[Arc<str>] {
        self.0.get(1..).unwrap_or_default()
    }

    /// The retry topic for what was attempted so often.
    pub(super) fn tier(&self, attempts: u32) -> Option<&Arc<str>> {
        let last = self.tiers().len().checked_sub(1)?;
        self.tiers().get(usize::try_from(attempts.saturating_sub(1)).unwrap_or(last).min(last))
    }

    pub(super) fn name(&self, topic: u32) -> &Arc<str> {
        // The engine only names topics we have numbered.
        self.0.get(topic as usize).unwrap_or(&self.0[0])
    }

    fn number(&self, topic: &str) -> Option<u32> {
        self.0.iter().position(|name| **name == *topic)?.try_into().ok()
    }

    pub(super) fn partition(&self, topic: &str, index: i32) -> Option<Partition> {
        Some(Partition { topic: self.number(topic)?, index })
    }

    pub(super) fn numbered(&self, list: &TopicPartitionList) -> Vec<Partition> {
        list.elements().iter().filter_map(|place| self.partition(place.topic(), place.partition())).collect()
    }

    /// Partitions the way the client wants them.
    pub(super) fn list(&self, partitions: &[Partition]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for Partition { topic, index } in partitions {
            list.add_partition(self.name(*topic), *index);
        }
        list
    }
}
