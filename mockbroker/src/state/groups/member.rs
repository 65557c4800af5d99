//! A member of a classic group.

use super::asked::Protocol;
use super::view::MemberView;
use crate::parked::Ticket;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// One member. It exists from its first admitted join until it leaves, expires or is replaced.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) id: Arc<str>,
    pub(super) instance_id: Option<Arc<str>>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    pub(super) protocols: Vec<Protocol>,
    pub(super) assignment: Bytes,
    pub(super) awaiting_join: Option<Ticket>,
    pub(super) awaiting_sync: Option<Ticket>,
    /// It has not completed a join phase yet. It does not know its id, so it cannot send heartbeats and nothing but its
    /// long first deadline tells whether it is still there.
    pub(super) is_new: bool,
}

impl Member {
    pub(super) fn is_static(&self) -> bool {
        self.instance_id.is_some()
    }

    pub(super) fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|p| p.name == protocol)
    }

    /// What the member said under this protocol; empty if it does not know the protocol.
    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols.iter().find(|p| p.name == protocol).map(|p| p.metadata.clone()).unwrap_or_default()
    }

    /// The protocol it likes best among the candidates.
    pub(super) fn vote(&self, is_candidate: impl Fn(&str) -> bool) -> Option<&str> {
        self.protocols.iter().map(|p| p.name.as_str()).find(|name| is_candidate(name))
    }

    /// While its join or sync request waits here, the member cannot send heartbeats and is taken to be alive.
    pub(super) fn need_not_beat(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }

    pub(super) fn view(&self, protocol: Option<&str>) -> MemberView {
        MemberView {
            member_id: self.id.to_string(),
            group_instance_id: self.instance_id.as_ref().map(ToString::to_string),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            metadata: protocol.map(|name| self.metadata(name)).unwrap_or_default(),
            assignment: self.assignment.clone(),
        }
    }
}
