//! Share groups and the rest of the cluster: who leads what they read, what its log holds, and what is configured.

use super::State;
use super::configs::iso_8601;
use super::groups::{Beaten, Pace, ShareBeat};
use super::nodes::NodeId;
use super::share::{Rules, ShareKey, SharePlace};
use super::topics::Partition;
use crate::error::{ErrorCode, Reject};
use crate::output::ConnId;
use crate::time::{Time, millis};
use crate::wire::Uuid;
use std::sync::Arc;

impl State {
    /// How a group wants its records delivered.
    pub fn share_rules(&self, group: &str) -> Rules {
        let settings = self.configs.group_settings(group);
        Rules {
            lock: millis(settings.share_record_lock_duration_ms),
            delivery_limit: settings.share_delivery_count_limit,
            max_in_flight: settings.share_partition_max_record_locks,
            may_renew: settings.share_renew_acknowledge,
        }
    }

    /// A member of a share group is there, joins or leaves; partitions it is the first to ask for are initialised.
    pub fn share_beat(&mut self, now: Time, beat: &ShareBeat<'_>, pace: &Pace) -> Result<Beaten, Reject> {
        let beaten = self.groups.share_beat(now, beat, pace)?;
        let group: Arc<str> = Arc::from(beat.group);
        let (epoch, partitions) = self.groups.share_partitions(beat.group);
        let keys = partitions.map(|(topic, index)| ShareKey { group: Arc::clone(&group), topic, index });
        let new: Vec<ShareKey> = keys.filter(|key| !self.shares.is_initialized(key)).collect();
        for key in new {
            self.shares.initialize(key, epoch, None);
        }
        Ok(beaten)
    }

    /// Lets a group nobody is in go on with a partition from another offset; −1 is where it would begin by itself.
    pub fn begin_share_at(&mut self, group: &str, epoch: i32, topic: Uuid, index: i32, start_offset: i64) {
        self.groups.initialize_share(group, topic, index);
        let key = ShareKey { group: Arc::from(group), topic, index };
        self.shares.initialize(key, epoch, Some(start_offset).filter(|offset| *offset != -1));
    }

    /// Forgets how far a group has come with a topic; false when it has not read it.
    pub fn forget_share(&mut self, group: &str, topic: Uuid) -> bool {
        self.shares.forget(|key| *key.group == *group && key.topic == topic);
        self.groups.forget_share_topic(group, topic)
    }

    /// Lets the leader of a partition serve it to a group.
    pub fn open_share(&mut self, now: Time, place: &SharePlace) -> Result<(), Reject> {
        self.drop_stale_share(place);
        let (node, key) = place;
        let wall_clock_ms = self.wall_clock_ms(now);
        let partition = led(&self.topics, *node, key.topic, key.index)?;
        let reset = self.configs.group_settings(&key.group).share_auto_offset_reset;
        self.shares.open(place, partition.leader_epoch, || begin(partition, &reset, wall_clock_ms))
    }

    /// The leader's partition, if this broker still serves it to the group.
    pub fn served_share(&mut self, place: &SharePlace) -> Option<&Partition> {
        self.drop_stale_share(place);
        self.shares.served_in(place)?;
        led(&self.topics, place.0, place.1.topic, place.1.index).ok()
    }

    /// Who loses the lead of a partition serves it no longer (`SharePartitionListener`).
    fn drop_stale_share(&mut self, place: &SharePlace) {
        let Some(served_in) = self.shares.served_in(place) else { return };
        let led = led(&self.topics, place.0, place.1.topic, place.1.index);
        if led.is_err() || led.is_ok_and(|partition| partition.leader_epoch != served_in) {
            self.shares.drop_place(place);
        }
    }

    /// Something a waiting fetch of a group may care about happened to a partition.
    pub fn share_changed(&mut self, key: &ShareKey) {
        if let Some(name) = self.topics.name_of(key.topic).map(str::to_owned) {
            self.partition_changed(&name, key.index);
        }
    }

    /// Ends a member's session and takes back what it has.
    pub fn release_share_session(&mut self, node: NodeId, group: &str, member: &str) {
        let Some(partitions) = self.shares.close_session((node, group, member)) else { return };
        let rules = self.share_rules(group);
        let group: Arc<str> = Arc::from(group);
        for (topic, index) in partitions {
            let place = (node, ShareKey { group: Arc::clone(&group), topic, index });
            self.shares.release(&place, member, &rules);
            self.share_changed(&place.1);
        }
    }

    /// A connection has closed: the session opened over it ends, and a group without sessions is not served any more.
    pub(crate) fn share_connection_closed(&mut self, conn: ConnId) {
        let Some((node, group, member)) = self.shares.disconnected(conn) else { return };
        if let Some(member) = member {
            self.release_share_session(node, &group, &member);
        }
        self.shares.drop_unless_read(node, &group);
    }

    /// Lets locks end that are due.
    pub(crate) fn expire_shares(&mut self, now: Time) {
        while let Some(place) = self.shares.next_due(now) {
            self.drop_stale_share(&place);
            let rules = self.share_rules(&place.1.group);
            self.shares.expire(now, &place, &rules);
            self.share_changed(&place.1);
        }
    }

    /// Deletes a group nobody is in, with what it has committed and how far it has come.
    pub fn delete_group(&mut self, group: &str) -> Result<(), Reject> {
        self.groups.delete(group)?;
        self.shares.forget(|key| *key.group == *group);
        Ok(())
    }
}

fn led(topics: &super::Topics, node: NodeId, topic: Uuid, index: i32) -> Result<&Partition, Reject> {
    let name = topics.name_of(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let partition = topics.partition(name, index)?;
    if partition.leader == Some(node) { Ok(partition) } else { Err(ErrorCode::NotLeaderOrFollower.into()) }
}

/// Where a group begins that has never read a partition: `share.auto.offset.reset`.
fn begin(partition: &Partition, reset: &str, wall_clock_ms: i64) -> Result<i64, Reject> {
    let high_watermark = partition.log.high_watermark();
    match reset.strip_prefix("by_duration:").and_then(iso_8601) {
        Some(duration) => {
            let since = wall_clock_ms.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX));
            let found = partition.log.find_timestamp(since, high_watermark);
            found.map(|found| found.offset).ok_or_else(|| ErrorCode::OffsetNotAvailable.into())
        }
        None if reset == "earliest" => Ok(partition.log.start_offset()),
        None => Ok(high_watermark),
    }
}
