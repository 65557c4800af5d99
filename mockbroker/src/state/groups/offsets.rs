//! The offsets a group has committed.

use super::consumer::StaleCommit;
use crate::error::{ErrorCode, Reject};
use crate::time::Time;
use crate::wire::Uuid;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// An offset as the group committed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CommittedOffset {
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch of the last record read, or -1.
    pub leader_epoch: i32,
    /// Whatever the client wanted kept with it.
    pub metadata: String,
    /// The topic it was committed for, so that a topic created again under the same name does not inherit it.
    pub topic_id: Uuid,
    /// When it was committed.
    pub committed_at: Time,
    /// When it ends, if its client said so (OffsetCommit versions 2 to 4); otherwise the broker's retention decides.
    pub expires_at: Option<Time>,
    /// Which commit of all this was: of two for the same partition the later counts, whenever it takes effect.
    #[serde(skip)]
    pub(super) order: u64,
}

impl CommittedOffset {
    /// Whether it was committed for this topic. An id of zero on either side means that only the name is known.
    pub fn is_for(&self, topic_id: Uuid) -> bool {
        self.topic_id.is_zero() || topic_id.is_zero() || self.topic_id == topic_id
    }
}

/// An offset to be committed.
#[derive(Debug, Clone, Copy)]
pub struct NewOffset<'a> {
    /// The next offset to read.
    pub offset: i64,
    /// The leader epoch of the last record read, or -1.
    pub leader_epoch: i32,
    /// Whatever the client wants kept with it.
    pub metadata: Option<&'a str>,
}

/// The offsets of one group, by topic and partition.
///
/// Offsets sent within a transaction do not come here before the transaction commits: they wait beside this map, by
/// producer id, and enter through [`Offsets::put`] when its marker is written.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    by_topic: ByTopic,
    pending: BTreeMap<i64, ByTopic>,
}

type ByTopic = BTreeMap<String, BTreeMap<i32, CommittedOffset>>;

impl Offsets {
    pub(super) fn is_empty(&self) -> bool {
        self.by_topic.is_empty()
    }

    pub(super) fn get(&self, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.by_topic.get(topic)?.get(&partition)
    }

    pub(super) fn topics(&self) -> impl Iterator<Item = (&str, &BTreeMap<i32, CommittedOffset>)> {
        self.by_topic.iter().map(|(topic, partitions)| (topic.as_str(), partitions))
    }

    pub(super) fn put(&mut self, topic: &str, partition: i32, committed: CommittedOffset) {
        put(&mut self.by_topic, topic, partition, committed);
    }

    pub(super) fn remove(&mut self, topic: &str, partition: i32) {
        remove(&mut self.by_topic, topic, partition);
        for pending in self.pending.values_mut() {
            remove(pending, topic, partition);
        }
        self.pending.retain(|_, pending| !pending.is_empty());
    }

    pub(super) fn remove_topic(&mut self, topic: &str) {
        self.by_topic.remove(topic);
        self.pending.retain(|_, pending| {
            pending.remove(topic);
            !pending.is_empty()
        });
    }

    /// Keeps the offsets for which `keep` holds, and those for whose partition a transaction has sent another.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&str, &CommittedOffset) -> bool) {
        let pending = &self.pending;
        self.by_topic.retain(|topic, partitions| {
            partitions.retain(|index, committed| is_pending(pending, topic, *index) || keep(topic, committed));
            !partitions.is_empty()
        });
    }

    /// Forgets everything, and what open transactions have sent with it.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    // ---- transactions ----

    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(super) fn has_pending_of(&self, producer_id: i64) -> bool {
        self.pending.contains_key(&producer_id)
    }

    /// Whether an open transaction has sent an offset for this partition.
    pub(super) fn is_pending(&self, topic: &str, partition: i32) -> bool {
        is_pending(&self.pending, topic, partition)
    }

    /// A transaction has ended: what it sent takes effect, where nothing later was committed, or is forgotten.
    pub(super) fn end_pending(&mut self, producer_id: i64, committed: bool) {
        let sent = self.pending.remove(&producer_id).filter(|_| committed).unwrap_or_default();
        for (topic, partitions) in sent {
            for (index, sent) in partitions {
                if self.get(&topic, index).is_none_or(|present| present.order < sent.order) {
                    self.put(&topic, index, sent);
                }
            }
        }
    }
}

fn put(by_topic: &mut ByTopic, topic: &str, partition: i32, committed: CommittedOffset) {
    match by_topic.get_mut(topic) {
        Some(partitions) => partitions.insert(partition, committed),
        None => by_topic.entry(topic.to_owned()).or_default().insert(partition, committed),
    };
}

fn remove(by_topic: &mut ByTopic, topic: &str, partition: i32) {
    if let Some(partitions) = by_topic.get_mut(topic) {
        partitions.remove(&partition);
        if partitions.is_empty() {
            by_topic.remove(topic);
        }
    }
}

fn is_pending(pending: &BTreeMap<i64, ByTopic>, topic: &str, partition: i32) -> bool {
    pending.values().any(|sent| sent.get(topic).is_some_and(|partitions| partitions.contains_key(&partition)))
}

/// The right to commit offsets for a group, granted by [`super::Groups::begin_commit`] and
/// [`super::Groups::begin_transactional_commit`].
#[derive(Debug)]
pub struct Commit<'a> {
    pub(super) offsets: &'a mut Offsets,
    /// How many commits there have been.
    pub(super) commits: &'a mut u64,
    /// The producer whose transaction must commit before these offsets count.
    pub(super) transaction_of: Option<i64>,
    pub(super) now: Time,
    pub(super) metadata_max_chars: usize,
    pub(super) retention: Option<Duration>,
    /// The member is in a later epoch than it believes.
    pub(super) stale: Option<StaleCommit>,
}

impl Commit<'_> {
    /// Whether the member may commit this partition. Kafka refuses the whole request if it may not commit one.
    pub fn check(&self, topic_id: Uuid, partition: i32) -> Result<(), Reject> {
        self.stale.as_ref().map_or(Ok(()), |stale| stale.check(topic_id, partition))
    }

    /// Commits one partition's offset; another partition is not affected by its refusal.
    pub fn put(&mut self, topic: &str, topic_id: Uuid, partition: i32, new: NewOffset<'_>) -> Result<(), Reject> {
        let metadata = new.metadata.unwrap_or_default();
        // Kafka counts Java's chars, which are UTF-16 units.
        if metadata.encode_utf16().count() > self.metadata_max_chars {
            return Err(ErrorCode::OffsetMetadataTooLarge.into());
        }
        let committed = CommittedOffset {
            offset: new.offset,
            leader_epoch: new.leader_epoch,
            metadata: metadata.to_owned(),
            topic_id,
            committed_at: self.now,
            expires_at: self.retention.map(|span| self.now + span),
            order: *self.commits,
        };
        *self.commits += 1;
        match self.transaction_of {
            None => self.offsets.put(topic, partition, committed),
            Some(producer_id) => {
                put(self.offsets.pending.entry(producer_id).or_default(), topic, partition, committed);
            }
        }
        Ok(())
    }
}
