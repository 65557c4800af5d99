//! What brokers do to logs from time to time: they look for what retention gives up, and compact
//! (`LogManager.cleanupLogs`, `LogCleaner`).

use super::State;
use super::topics::{Partition, Topic};
use crate::parked::PartitionName;
use crate::time::{Time, millis};

/// When something is looked at next; `None` while there is nothing to look for.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    retention_at: Option<Time>,
    cleaning_at: Option<Time>,
}

impl State {
    /// When brokers look at their logs next.
    pub(crate) fn next_upkeep(&self) -> Option<Time> {
        [self.upkeep.retention_at, self.upkeep.cleaning_at].into_iter().flatten().min()
    }

    /// Does what is due: retention every `log.retention.check.interval.ms`, compaction every `log.cleaner.backoff.ms`.
    pub(crate) fn keep_up(&mut self, now: Time) {
        let due = |at: Option<Time>| at.is_some_and(|at| at <= now);
        if due(self.upkeep.retention_at) {
            self.upkeep.retention_at = None;
            self.check_retention(now);
        }
        if due(self.upkeep.cleaning_at) {
            self.upkeep.cleaning_at = None;
            self.clean(now);
        }
        self.expect_upkeep(now);
    }

    /// Notes when to look next, if there is anything to look for. Kafka looks whether there is or not; a look that finds
    /// nothing is left out.
    pub(crate) fn expect_upkeep(&mut self, now: Time) {
        self.upkeep.retention_at = None;
        let topics: Vec<String> = self.topics.iter().map(|topic| topic.name.clone()).collect();
        for topic in topics {
            self.expect_upkeep_of(now, &topic, None);
        }
    }

    /// The same for one topic, of which perhaps only one partition was written to.
    pub(super) fn expect_upkeep_of(&mut self, now: Time, topic: &str, only: Option<i32>) {
        let Some(topic) = self.topics.get(topic) else { return };
        let settings = self.configs.broker_settings();
        let given_up_at = |partition: &Partition| partition.log.given_up_at(&topic.settings);
        let given_up_ms = match only {
            Some(index) => topic.partition(index).and_then(given_up_at),
            None => topic.partitions.iter().filter_map(given_up_at).min(),
        };
        if let Some(at_ms) = given_up_ms {
            let at_ms = at_ms.saturating_sub(self.wall_clock_offset_ms).max(now.as_millis());
            let at = next_look(at_ms, settings.log_retention_check_interval_ms);
            self.upkeep.retention_at = Some(self.upkeep.retention_at.map_or(at, |present| present.min(at)));
        }
        if settings.log_cleaner && self.upkeep.cleaning_at.is_none() && may_be_cleaned(topic) {
            // Without a pause between rounds it would never be over.
            self.upkeep.cleaning_at = Some(now + millis(settings.log_cleaner_backoff_ms).max(millis(1)));
        }
    }

    /// Gives up now what retention gives up.
    pub(crate) fn check_retention(&mut self, now: Time) {
        let now_ms = self.wall_clock_ms(now);
        for (topic, index) in self.kept_by_running_brokers() {
            let Some(found) = self.topics.get_mut(&topic) else { continue };
            let settings = found.settings;
            let given_up = found.partition_mut(index).is_some_and(|partition| partition.log.retain(now_ms, &settings));
            if given_up {
                self.partition_changed(&topic, index);
            }
        }
    }

    /// Compacts now what is dirty enough.
    fn clean(&mut self, now: Time) {
        let now_ms = self.wall_clock_ms(now);
        for (topic, index) in self.kept_by_running_brokers() {
            self.compact_partition(&topic, index, now_ms, false);
        }
    }

    /// Compacts a topic now, however little of it is dirty; what was written last is in a segment that ends now.
    pub(crate) fn compact_topic(&mut self, now: Time, topic: &str) {
        let now_ms = self.wall_clock_ms(now);
        for (name, index) in self.kept_by_running_brokers() {
            if name == topic {
                self.compact_partition(topic, index, now_ms, true);
            }
        }
    }

    fn compact_partition(&mut self, topic: &str, index: i32, now_ms: i64, at_once: bool) {
        let Some(found) = self.topics.get_mut(topic).filter(|topic| topic.settings.cleanup_compact) else { return };
        let settings = found.settings;
        let Some(partition) = found.partition_mut(index) else { return };
        if at_once {
            partition.log.roll(now_ms);
        }
        let dirt = partition.log.dirt(now_ms, &settings);
        if dirt.is_enough(&settings) || (at_once && dirt.is_some()) {
            partition.log.compact(&dirt, now_ms, &settings, &partition.producers);
            self.partition_changed(topic, index);
        }
    }

    fn kept_by_running_brokers(&self) -> Vec<PartitionName> {
        let running = |partition: &Partition| self.nodes.is_running(partition.holder);
        let mut names = Vec::new();
        for topic in self.topics.iter() {
            let kept = (0..).zip(&topic.partitions).filter(|(_, partition)| running(partition));
            names.extend(kept.map(|(index, _)| (topic.name.clone(), index)));
        }
        names
    }
}

/// When brokers look that look at every full interval, after `at_ms`.
fn next_look(at_ms: i64, interval_ms: i64) -> Time {
    let interval_ms = interval_ms.max(1);
    Time::from_millis(at_ms.div_euclid(interval_ms).saturating_add(1).saturating_mul(interval_ms))
}

/// Whether something may be compacted, some time.
fn may_be_cleaned(topic: &Topic) -> bool {
    topic.settings.cleanup_compact && topic.partitions.iter().any(|partition| partition.log.has_dirty_segments())
}
