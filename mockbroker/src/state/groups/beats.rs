//! Membership by heartbeats: consumer, share and streams groups.

use super::Groups;
use super::classic::Classic;
use super::consumer::{Beat, Beaten, Consumer, Pace};
use super::env::Env;
use super::group::Members;
use super::share::{Share, ShareBeat};
use super::streams::{Streams, StreamsBeat, StreamsBeaten, StreamsPace};
use super::view::GroupKind;
use super::{not_found, not_of_kind};
use crate::error::{ErrorCode, Reject};
use crate::time::Time;
use std::sync::Arc;

impl Groups {
    /// A member of a consumer group is there, joins or leaves (KIP-848). A classic group nobody is in becomes a consumer
    /// group when somebody joins it so.
    pub fn beat(&mut self, now: Time, beat: &Beat<'_>, pace: &Pace) -> Result<Beaten, Reject> {
        self.expire(now);
        if beat.epoch < 0 {
            return self.leave_by_beat(now, beat);
        }
        if let Some(outcome) = self.act(now, beat.group, |consumer: &mut Consumer, env| consumer.beat(env, beat, pace))
        {
            return outcome;
        }
        if !beat.joins() {
            return Err(match self.groups.contains_key(beat.group) {
                true => not_of_kind(beat.group, GroupKind::Consumer),
                false => Reject::new(ErrorCode::GroupIdNotFound, format!("there is no consumer group {}", beat.group)),
            });
        }
        if self.groups.get(beat.group).is_some_and(|group| !group.is_empty() || group.kind() == GroupKind::Share) {
            return self.upgrade(now, beat, pace);
        }
        self.found(now, beat, pace)
    }

    /// A member of the consumer protocol joins a classic group, whose members go on as members of a consumer group.
    fn upgrade(&mut self, now: Time, beat: &Beat<'_>, pace: &Pace) -> Result<Beaten, Reject> {
        let upgraded =
            self.act(now, beat.group, |classic: &mut Classic, env| Consumer::upgraded(classic, env, beat.group));
        let consumer = upgraded.unwrap_or_else(|| Err(not_of_kind(beat.group, GroupKind::Consumer)))?;
        let id = Arc::from(beat.group);
        self.timers.cancel_all_of(&id);
        self.put(now, id, Members::Consumer(Box::new(consumer)));
        self.act(now, beat.group, |consumer: &mut Consumer, env| {
            consumer.expect_all(env);
            consumer.beat(env, beat, pace)
        })
        .unwrap_or_else(|| Err(not_of_kind(beat.group, GroupKind::Consumer)))
    }

    /// The first member joins. If it is refused there is no group.
    fn found(&mut self, now: Time, beat: &Beat<'_>, pace: &Pace) -> Result<Beaten, Reject> {
        let id: Arc<str> = Arc::from(beat.group);
        let mut consumer = Consumer::new(&id);
        let mut env = Env {
            now,
            settings: &self.settings,
            catalog: &self.catalog,
            timers: &mut self.timers,
            answers: &mut self.answers,
        };
        let beaten = consumer.beat(&mut env, beat, pace)?;
        self.put(now, id, Members::Consumer(Box::new(consumer)));
        Ok(beaten)
    }

    /// A member of a share group is there, joins or leaves (KIP-932).
    pub fn share_beat(&mut self, now: Time, beat: &ShareBeat<'_>, pace: &Pace) -> Result<Beaten, Reject> {
        self.expire(now);
        if beat.epoch < 0 {
            let left = self.act(now, beat.group, |share: &mut Share, env| share.leave(env, beat.member_id));
            left.unwrap_or_else(|| {
                Err(self.describe_share(beat.group).err().unwrap_or_else(|| not_found(beat.group)))
            })?;
            return Ok(Beaten { epoch: beat.epoch, heartbeat_interval_ms: 0, assignment: None });
        }
        if let Some(outcome) = self.act(now, beat.group, |share: &mut Share, env| share.beat(env, beat, pace)) {
            return outcome;
        }
        if self.groups.contains_key(beat.group) {
            return Err(not_of_kind(beat.group, GroupKind::Share));
        }
        if beat.epoch != 0 {
            let message = format!("there is no share group {}", beat.group);
            return Err(Reject::new(ErrorCode::GroupIdNotFound, message));
        }
        let id: Arc<str> = Arc::from(beat.group);
        let mut share = Share::new(&id);
        let mut env = Env {
            now,
            settings: &self.settings,
            catalog: &self.catalog,
            timers: &mut self.timers,
            answers: &mut self.answers,
        };
        let beaten = share.beat(&mut env, beat, pace)?;
        self.put(now, id, Members::Share(Box::new(share)));
        Ok(beaten)
    }

    fn leave_by_beat(&mut self, now: Time, beat: &Beat<'_>) -> Result<Beaten, Reject> {
        let left = self.act(now, beat.group, |consumer: &mut Consumer, env| consumer.leave(env, beat));
        let Some(left) = left else {
            let known = self.groups.contains_key(beat.group);
            return Err(if known { not_of_kind(beat.group, GroupKind::Consumer) } else { not_found(beat.group) });
        };
        left?;
        Ok(Beaten { epoch: beat.epoch, heartbeat_interval_ms: 0, assignment: None })
    }

    /// A member of a streams group is there, joins or leaves (KIP-1071). A classic group nobody is in becomes a streams
    /// group when somebody joins it so.
    pub fn streams_beat(
        &mut self,
        now: Time,
        beat: &StreamsBeat<'_>,
        pace: &StreamsPace,
    ) -> Result<StreamsBeaten, Reject> {
        self.expire(now);
        let known = self.act(now, beat.group, |streams: &mut Streams, env| streams.beat(env, beat, pace));
        if let Some(outcome) = known {
            return outcome;
        }
        let is_empty_classic =
            self.groups.get(beat.group).is_some_and(|group| group.is_empty() && group.kind() == GroupKind::Classic);
        if self.groups.contains_key(beat.group) && !(beat.epoch == 0 && is_empty_classic) {
            return Err(not_of_kind(beat.group, GroupKind::Streams));
        }
        if beat.epoch != 0 {
            return Err(not_found(beat.group));
        }
        let id: Arc<str> = Arc::from(beat.group);
        let mut streams = Streams::new(&id);
        let mut env = Env {
            now,
            settings: &self.settings,
            catalog: &self.catalog,
            timers: &mut self.timers,
            answers: &mut self.answers,
        };
        let beaten = streams.beat(&mut env, beat, pace)?;
        streams.founded();
        self.put(now, id, Members::Streams(Box::new(streams)));
        Ok(StreamsBeaten { endpoint_epoch: 0, ..beaten })
    }

    /// A member of a streams group leaves; with `shutdown` it wants the others to stop, too.
    pub fn streams_leave(&mut self, now: Time, group: &str, member: &str, shutdown: bool) -> Result<(), Reject> {
        self.expire(now);
        let left = self.act(now, group, |streams: &mut Streams, env| streams.leave(env, member, shutdown));
        left.unwrap_or_else(|| Err(self.describe_streams(group).err().unwrap_or_else(|| not_found(group))))
    }
}
