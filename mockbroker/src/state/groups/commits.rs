//! Offsets of groups: who may commit, ask for and delete them.

use super::Groups;
use super::asked::Claim;
use super::classic::Classic;
use super::group::{Members, OffsetDelete};
use super::not_of_kind;
use super::offsets::{Commit, CommittedOffset};
use super::view::GroupKind;
use crate::error::{ErrorCode, Reject};
use crate::time::Time;
use crate::wire::Uuid;
use std::collections::BTreeMap;
use std::time::Duration;

impl Groups {
    /// Whether this member may ask for offsets of this group. Anybody may who claims to be no member.
    pub fn check_offset_fetch(&self, group: &str, member_id: Option<&str>, epoch: i32) -> Result<(), Reject> {
        match self.groups.get(group).map(|group| &group.members) {
            Some(Members::Consumer(consumer)) => consumer.check_offset_fetch(member_id, epoch)?,
            Some(Members::Streams(streams)) => streams.check_offset_fetch(member_id, epoch)?,
            _ => {}
        }
        Ok(())
    }

    /// Whether this is a member that speaks the consumer protocol, whose epochs old versions of requests do not know.
    pub fn speaks_consumer_protocol(&self, group: &str, member_id: &str) -> bool {
        self.consumer(group).is_some_and(|consumer| consumer.speaks_consumer_protocol(member_id))
    }

    /// Whether offsets may be committed by this claim, and the means to do so.
    ///
    /// A group that does not exist is created for a consumer that assigns itself (one without a generation); to any
    /// other, `if_unknown` is the answer, which depends on the version of the request.
    pub fn begin_commit(
        &mut self,
        now: Time,
        group: &str,
        claim: &Claim<'_>,
        retention: Option<Duration>,
        if_unknown: ErrorCode,
    ) -> Result<Commit<'_>, Reject> {
        self.expire(now);
        if !self.groups.contains_key(group) {
            if claim.generation >= 0 {
                return Err(if_unknown.into());
            }
            self.create(now, group);
        }
        let stale = match self.consumer(group) {
            Some(consumer) => consumer.admit_commit(claim)?,
            None if self.streams(group).is_some() => {
                let streams = self.streams(group).ok_or(if_unknown)?;
                streams.admit_commit(&self.catalog, claim)?
            }
            None if self.is_share(group) => return Err(not_of_kind(group, GroupKind::Consumer)),
            None => {
                self.act(now, group, |classic: &mut Classic, env| classic.admit_commit(env, claim))
                    .unwrap_or(Err(if_unknown))?;
                None
            }
        };
        let metadata_max_chars = self.settings.offset_metadata_max_chars;
        let group = self.groups.get_mut(group).ok_or(if_unknown)?;
        let (offsets, commits) = (&mut group.offsets, &mut self.commits);
        Ok(Commit { offsets, commits, transaction_of: None, now, metadata_max_chars, retention, stale })
    }

    /// Whether offsets may be sent by this claim within a transaction of this producer, and the means to do so. They
    /// count when the transaction commits: see [`Self::end_pending_offsets`].
    pub fn begin_transactional_commit(
        &mut self,
        now: Time,
        group: &str,
        claim: &Claim<'_>,
        producer_id: i64,
    ) -> Result<Commit<'_>, Reject> {
        self.expire(now);
        if !self.groups.contains_key(group) {
            if claim.generation >= 0 {
                return Err(ErrorCode::IllegalGeneration.into());
            }
            self.create(now, group);
        }
        let metadata_max_chars = self.settings.offset_metadata_max_chars;
        let group = self.groups.get_mut(group).ok_or(ErrorCode::IllegalGeneration)?;
        let stale = match &group.members {
            Members::Classic(classic) => classic.check_transactional_commit(claim).map(|()| None)?,
            Members::Consumer(consumer) => consumer.admit_transactional_commit(claim)?,
            // Who claims to be nobody may always send offsets within a transaction.
            Members::Streams(_) if claim.generation < 0 && claim.member_id.is_empty() => None,
            Members::Streams(streams) => streams.admit_commit(&self.catalog, claim)?,
            Members::Share(_) => return Err(ErrorCode::GroupIdNotFound.into()),
        };
        Ok(Commit {
            offsets: &mut group.offsets,
            commits: &mut self.commits,
            transaction_of: Some(producer_id),
            now,
            metadata_max_chars,
            retention: None,
            stale,
        })
    }

    /// The groups to which an open transaction of this producer has sent offsets.
    pub fn with_pending_offsets_of(&self, producer_id: i64) -> Vec<String> {
        let sent = self.groups.iter().filter(|(_, group)| group.offsets.has_pending_of(producer_id));
        sent.map(|(id, _)| id.to_string()).collect()
    }

    /// The producer's transaction has ended: the offsets it sent take effect or are forgotten.
    pub fn end_pending_offsets(&mut self, group: &str, producer_id: i64, committed: bool) {
        if let Some(group) = self.groups.get_mut(group) {
            group.offsets.end_pending(producer_id, committed);
        }
    }

    /// Whether an open transaction has sent an offset for this partition, so that the committed one is about to change.
    pub fn is_unstable(&self, group: &str, topic: &str, partition: i32) -> bool {
        self.groups.get(group).is_some_and(|group| group.offsets.is_pending(topic, partition))
    }

    /// The committed offset of a partition, if there is one for this topic.
    pub fn offset(&self, group: &str, topic: &str, topic_id: Uuid, partition: i32) -> Option<&CommittedOffset> {
        self.groups.get(group)?.offsets.get(topic, partition).filter(|committed| committed.is_for(topic_id))
    }

    /// Every committed offset of a group, by topic and partition. A group that does not exist has none.
    pub fn offsets(&self, group: &str) -> impl Iterator<Item = (&str, &BTreeMap<i32, CommittedOffset>)> {
        self.groups.get(group).into_iter().flat_map(|group| group.offsets.topics())
    }

    /// Whether offsets of this group may be deleted at all.
    pub fn begin_offset_delete(&mut self, group: &str) -> Result<OffsetDelete<'_>, Reject> {
        let group = self.groups.get_mut(group).ok_or(ErrorCode::GroupIdNotFound)?;
        match &group.members {
            Members::Classic(classic) => classic.check_offset_delete()?,
            Members::Consumer(_) | Members::Streams(_) => {}
            Members::Share(_) => return Err(ErrorCode::GroupIdNotFound.into()),
        }
        Ok(OffsetDelete { group })
    }
}
