//! What is kept under one group id: members of one kind, and offsets.

use super::classic::{Classic, RetentionStart};
use super::consumer::{Consumer, ConsumerState};
use super::offsets::Offsets;
use super::share::Share;
use super::streams::Streams;
use super::view::{GroupKind, State};
use crate::error::{ErrorCode, Reject};
use crate::time::Time;
use std::time::Duration;

/// What is kept under one group id.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) members: Members,
    pub(super) offsets: Offsets,
}

/// The members of a group, by the protocol they speak with the coordinator.
#[derive(Debug)]
pub(super) enum Members {
    Classic(Box<Classic>),
    Consumer(Box<Consumer>),
    Share(Box<Share>),
    Streams(Box<Streams>),
}

/// One kind of members.
pub(super) trait Kind {
    /// These members, if they are of this kind.
    fn of(members: &mut Members) -> Option<&mut Self>;
}

macro_rules! kinds {
    ($($kind:ident),*) => {
        $(impl Kind for $kind {
            fn of(members: &mut Members) -> Option<&mut Self> {
                match members {
                    Members::$kind(members) => Some(members),
                    _ => None,
                }
            }
        })*
    };
}

kinds!(Classic, Consumer, Share, Streams);

impl Group {
    pub(super) fn has_no_offsets(&self) -> bool {
        self.offsets.is_empty() && !self.offsets.has_pending()
    }

    pub(super) fn kind(&self) -> GroupKind {
        match &self.members {
            Members::Classic(_) => GroupKind::Classic,
            Members::Consumer(_) => GroupKind::Consumer,
            Members::Share(_) => GroupKind::Share,
            Members::Streams(_) => GroupKind::Streams,
        }
    }

    pub(super) fn protocol_type(&self) -> &str {
        match &self.members {
            Members::Classic(classic) => classic.protocol_type().unwrap_or_default(),
            Members::Consumer(_) => "consumer",
            Members::Share(_) => "share",
            Members::Streams(_) => "streams",
        }
    }

    pub(super) fn state_name(&self) -> &'static str {
        match &self.members {
            Members::Classic(classic) => classic.state().name(),
            Members::Consumer(consumer) => consumer.state().name(),
            Members::Share(share) => share.state_name(),
            Members::Streams(streams) => streams.state_name(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match &self.members {
            Members::Classic(classic) => classic.state() == State::Empty,
            Members::Consumer(consumer) => consumer.state() == ConsumerState::Empty,
            Members::Share(share) => share.is_empty(),
            Members::Streams(streams) => streams.is_empty(),
        }
    }

    /// Something of it would be there again after its coordinator is gone.
    pub(super) fn is_logged(&self) -> bool {
        match &self.members {
            Members::Classic(classic) => classic.is_logged() || !self.has_no_offsets(),
            Members::Consumer(_) | Members::Share(_) | Members::Streams(_) => true,
        }
    }

    pub(super) fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.members {
            Members::Classic(classic) => classic.is_subscribed_to(topic),
            Members::Consumer(consumer) => consumer.is_subscribed_to(topic),
            Members::Share(_) => false,
            Members::Streams(streams) => streams.is_subscribed_to(topic),
        }
    }

    pub(super) fn retention_starts(&self) -> Option<RetentionStart> {
        match &self.members {
            Members::Classic(classic) => classic.retention_starts(),
            Members::Consumer(_) | Members::Streams(_) => Some(RetentionStart::Commit),
            Members::Share(_) => None,
        }
    }

    pub(super) fn expire_offsets(&mut self, now: Time, retention: Duration) {
        let Some(start) = self.retention_starts() else { return };
        let mut offsets = std::mem::take(&mut self.offsets);
        offsets.retain(|topic, committed| {
            let ends_at = committed.expires_at.unwrap_or_else(|| match start {
                RetentionStart::Commit => committed.committed_at + retention,
                RetentionStart::At(since) => since + retention,
            });
            self.is_subscribed_to(topic) || now < ends_at
        });
        self.offsets = offsets;
    }
}

/// The right to delete offsets of a group, granted by [`Groups::begin_offset_delete`](super::Groups::begin_offset_delete).
#[derive(Debug)]
pub struct OffsetDelete<'a> {
    pub(super) group: &'a mut Group,
}

impl OffsetDelete<'_> {
    /// Deletes one partition's offset; it need not have one. Topics somebody in the group reads are refused.
    pub fn remove(&mut self, topic: &str, partition: i32) -> Result<(), Reject> {
        if self.group.is_subscribed_to(topic) {
            return Err(ErrorCode::GroupSubscribedToTopic.into());
        }
        self.group.offsets.remove(topic, partition);
        Ok(())
    }
}
