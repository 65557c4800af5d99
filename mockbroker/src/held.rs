//! Requests and answers that are kept back: by a delay, a fault that holds them, or a paused broker.

use crate::fault::{FaultId, Refusals};
use crate::journal::ReceivedRequest;
use crate::output::{ConnId, Frame};
use crate::parked::Ticket;
use crate::state::nodes::NodeId;
use crate::time::Time;
use crate::wire::Response;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is kept back.
#[derive(Debug)]
pub(crate) enum Held {
    /// A request the broker has not looked at. It takes effect even if its connection is gone by then.
    Request {
        /// The request.
        request: Arc<ReceivedRequest>,
        /// Errors planned for it.
        refusals: Refusals,
    },
    /// An answer to a request that took effect.
    Answer {
        /// Where it goes.
        conn: ConnId,
        /// The answer.
        response: Option<Box<Response>>,
        /// How it is sent.
        frame: Frame,
    },
}

/// What ends the wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// This moment.
    Time(Time),
    /// The fault's release.
    Released(FaultId),
    /// The broker goes on.
    Resumed(NodeId),
}

/// All that is kept back, in the order in which it came.
#[derive(Debug, Default)]
pub(crate) struct KeptBack(BTreeMap<Ticket, (Until, Held)>);

impl KeptBack {
    pub(crate) fn keep(&mut self, ticket: Ticket, until: Until, held: Held) {
        self.0.insert(ticket, (until, held));
    }

    /// Takes out what need not wait any longer, oldest first.
    pub(crate) fn take(&mut self, mut over: impl FnMut(Until) -> bool) -> Vec<(Ticket, Held)> {
        if self.0.is_empty() {
            return Vec::new();
        }
        self.0.extract_if(.., |_, (until, _)| over(*until)).map(|(ticket, (_, held))| (ticket, held)).collect()
    }

    /// The answers of a connection are gone with it; its requests are with the broker already.
    pub(crate) fn forget_answers(&mut self, conn: ConnId) {
        self.0.retain(|_, (_, held)| !matches!(held, Held::Answer { conn: to, .. } if *to == conn));
    }

    /// What a broker had in hand is gone when it dies.
    pub(crate) fn forget_node(&mut self, node: NodeId) {
        self.0.retain(|_, (_, held)| !matches!(held, Held::Request { request, .. } if request.node == node));
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let times = self.0.values().filter_map(|(until, _)| match until {
            Until::Time(time) => Some(*time),
            _ => None,
        });
        times.min()
    }

    pub(crate) fn held_by(&self, fault: FaultId) -> usize {
        self.0.values().filter(|(until, _)| *until == Until::Released(fault)).count()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
