//! Who may connect, and how long a connection may be silent (`ConnectionQuotas`, `Selector.IdleExpiryManager`).

use super::{Cluster, Peer, Refused};
use crate::output::{ConnId, Output};
use crate::state::nodes::NodeId;
use crate::time::{Time, millis};
use std::time::Duration;

/// What becomes of somebody who connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Nothing is in the way.
    Welcome,
    /// The broker has `max.connections`: it accepts, and then does nothing until another connection has gone.
    Waits,
    /// The address has `max.connections.per.ip`: the connection is closed at once.
    TooMany,
}

impl Cluster {
    /// Whether one more connection fits. A driver asks this before [`Cluster::connect_at`].
    pub fn admission(&self, node: NodeId, client_host: &str) -> Admission {
        let settings = self.state.configs.broker_settings_at(node.0);
        let of_node = || self.connections.values().filter(|connection| connection.node == node);
        let address = client_host.trim_start_matches('/');
        let of_address = of_node().filter(|connection| connection.client_host == client_host).count();
        if of_address as i64 >= i64::from(self.state.configs.connections_per_ip(node.0, address)) {
            Admission::TooMany
        } else if of_node().count() as i64 >= i64::from(settings.max_connections) {
            Admission::Waits
        } else {
            Admission::Welcome
        }
    }

    /// As [`Cluster::connect_peer`], for drivers that want `connections.max.idle.ms` to hold: a connection on which nothing is
    /// sent or received for so long is closed. Time that [`Command::Advance`](crate::control::Command::Advance) skips does
    /// not count, since nobody could have used it.
    ///
    /// # Errors
    /// The broker does not run, or has no such listener.
    pub fn connect_at(&mut self, now: Time, node: NodeId, peer: Peer) -> Result<ConnId, Refused> {
        let conn = self.connect_peer(node, peer)?;
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.active_at = Some(now);
        }
        if self.idle_check_at.is_none() {
            self.idle_check_at = self.idle_max().map(|idle_max| now + idle_max);
        }
        Ok(conn)
    }

    /// Notes that a connection is in use; `now` is the driver's.
    pub(super) fn note_use(&mut self, now: Time, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.active_at = connection.active_at.map(|_| now);
        }
    }

    /// Closes connections that were silent for too long; `now` is the driver's.
    pub(super) fn close_idle(&mut self, now: Time, outputs: &mut Vec<Output>) {
        if self.idle_check_at.is_none_or(|at| now < at) {
            return;
        }
        let idle_max = self.idle_max();
        let expiries =
            self.connections.iter().filter_map(|(conn, connection)| Some((connection.active_at? + idle_max?, *conn)));
        let (over, left): (Vec<_>, Vec<_>) = expiries.partition(|(at, _)| *at <= now);
        self.idle_check_at = left.into_iter().map(|(at, _)| at).min();
        for (_, conn) in over {
            self.close(conn, "it was idle for connections.max.idle.ms".into(), outputs);
        }
    }

    /// `connections.max.idle.ms`; negative is for ever.
    fn idle_max(&self) -> Option<Duration> {
        let idle_max_ms = self.state.configs.broker_settings().connections_max_idle_ms;
        (idle_max_ms >= 0).then(|| millis(idle_max_ms))
    }
}
