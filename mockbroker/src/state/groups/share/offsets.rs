//! Where share groups begin to read: what is kept of it beside what is written down of each partition.

use super::super::group::{Kind, Members};
use super::super::{Groups, not_found};
use super::Share;
use crate::error::{ErrorCode, Reject};
use crate::time::Time;
use crate::wire::Uuid;
use std::sync::Arc;

impl Groups {
    /// A share group's epoch, and the partitions its members can be given.
    pub fn share_partitions(&self, group: &str) -> (i32, impl Iterator<Item = (Uuid, i32)>) {
        let share = self.share(group);
        (share.map_or(0, Share::epoch), share.into_iter().flat_map(Share::initialized))
    }

    /// Whether another beginning can be set for a share group, which nobody may be in; its epoch. If there is no such
    /// group and `create` asks for it, there is one then.
    pub fn begin_share_alteration(&mut self, now: Time, group: &str, create: bool) -> Result<i32, Reject> {
        if !self.groups.contains_key(group) {
            let id: Arc<str> = Arc::from(group);
            let share = Share::new(&id);
            let epoch = share.epoch();
            if create {
                self.put(now, id, Members::Share(Box::new(share)));
            }
            return Ok(epoch);
        }
        self.check_share_deletion(group)?;
        Ok(self.share(group).map_or(0, Share::epoch))
    }

    /// Whether it may be forgotten how far a share group has come: it exists, and nobody is in it.
    pub fn check_share_deletion(&self, group: &str) -> Result<(), Reject> {
        match self.share(group) {
            Some(share) if share.is_empty() => Ok(()),
            Some(_) => Err(ErrorCode::NonEmptyGroup.into()),
            None => Err(self.describe_share(group).err().unwrap_or_else(|| not_found(group))),
        }
    }

    /// Lets a partition be given to members of a share group.
    pub fn initialize_share(&mut self, group: &str, topic: Uuid, index: i32) {
        if let Some(share) = self.groups.get_mut(group).and_then(|group| Share::of(&mut group.members)) {
            share.initialize_one(topic, index);
        }
    }

    /// Lets a topic not be given to members of a share group until it is initialised again; false when it was not.
    pub fn forget_share_topic(&mut self, group: &str, topic: Uuid) -> bool {
        let share = self.groups.get_mut(group).and_then(|group| Share::of(&mut group.members));
        share.is_some_and(|share| share.forget_topic(topic))
    }
}
