//! What the cluster was asked: the most recent requests, as they were decoded.

use crate::output::ConnId;
use crate::parked::Ticket;
use crate::state::nodes::{ListenerId, NodeId};
use crate::state::security::Principal;
use crate::time::Time;
use crate::wire::json::to_json;
use crate::wire::{ApiKey, Request, Str};
use bytes::Bytes;
use serde::ser::SerializeStruct;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

/// Frames whose requests are kept hold at most this many bytes together, whatever their number: a journal must not
/// keep alive what the log has let go.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// A request as it arrived.
#[derive(Clone)]
pub struct ReceivedRequest {
    /// Counts all requests of the cluster, from 1; also names the request while it waits.
    pub number: u64,
    /// When it arrived.
    pub at: Time,
    /// The broker that was asked.
    pub node: NodeId,
    /// The connection it came on.
    pub conn: ConnId,
    /// The client's id, as it says.
    pub client_id: Str,
    /// The client's address in Kafka's form, e.g. `/127.0.0.1`.
    pub client_host: String,
    /// The listener it came by.
    pub listener: ListenerId,
    /// Who asked; `None` before they have proved who they are.
    pub principal: Option<Principal>,
    /// The version of the API; −2 for a bare token, from a client older than KIP-152; −1 for an ApiVersions request from a client newer than we are (KIP-511).
    pub version: i16,
    /// What it asks.
    pub body: Request,
}

impl ReceivedRequest {
    /// The API asked.
    pub fn api(&self) -> ApiKey {
        self.body.api_key()
    }

    /// What it asks as JSON with the schema's field names; see [`to_json`] for how bytes are shown.
    pub fn body_json(&self) -> serde_json::Value {
        to_json(&self.body, self.version.max(0))
    }

    /// The request as it is kept: without what proves who somebody is.
    pub(crate) fn without_secrets(self: &Arc<Self>) -> Arc<Self> {
        let mut kept = match &self.body {
            Request::SaslAuthenticate(_) | Request::AlterUserScramCredentials(_) => Self::clone(self),
            _ => return Arc::clone(self),
        };
        match &mut kept.body {
            Request::SaslAuthenticate(said) => said.auth_bytes = Bytes::new(),
            Request::AlterUserScramCredentials(asked) => {
                asked.upsertions.iter_mut().for_each(|one| one.salted_password = Bytes::new());
            }
            _ => {}
        }
        Arc::new(kept)
    }

    pub(crate) fn ticket(&self) -> Ticket {
        Ticket(self.number)
    }
}

impl serde::Serialize for ReceivedRequest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("ReceivedRequest", 9)?;
        out.serialize_field("number", &self.number)?;
        out.serialize_field("at", &self.at)?;
        out.serialize_field("node", &self.node)?;
        out.serialize_field("client_id", &self.client_id.as_str())?;
        out.serialize_field("client_host", &self.client_host)?;
        out.serialize_field("principal", &self.principal.as_ref().map(Principal::to_string))?;
        out.serialize_field("api", self.api().name())?;
        out.serialize_field("version", &self.version)?;
        out.serialize_field("body", &self.body_json())?;
        out.end()
    }
}

impl fmt::Debug for ReceivedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} {}", self.body_json())
    }
}

/// One line without the body: `#12 Produce v9 from 'orders' to broker 1`.
impl fmt::Display for ReceivedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "#{} {} v{} from '{}' to {}",
            self.number,
            self.api().name(),
            self.version,
            self.client_id.as_str(),
            self.node
        )
    }
}

/// The most recent requests.
#[derive(Debug)]
pub(crate) struct Journal {
    entries: VecDeque<(usize, Arc<ReceivedRequest>)>,
    entries_max: usize,
    bytes: usize,
    dropped: u64,
}

impl Journal {
    pub(crate) fn new(entries_max: usize) -> Self {
        Self { entries: VecDeque::new(), entries_max, bytes: 0, dropped: 0 }
    }

    /// Whether anything is kept at all.
    pub(crate) fn is_on(&self) -> bool {
        self.entries_max > 0
    }

    /// Notes a request whose frame had so many bytes.
    pub(crate) fn note(&mut self, request: Arc<ReceivedRequest>, frame_bytes: usize) {
        if !self.is_on() {
            return;
        }
        self.bytes += frame_bytes;
        self.entries.push_back((frame_bytes, request));
        while self.entries.len() > self.entries_max || (self.bytes > BYTES_MAX && self.entries.len() > 1) {
            let (bytes, _) = self.entries.pop_front().expect("there are more than one");
            self.bytes -= bytes;
            self.dropped += 1;
        }
    }

    /// Those kept, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<ReceivedRequest>> {
        self.entries.iter().map(|(_, request)| request)
    }

    /// The most recent ones, oldest first.
    pub(crate) fn last(&self, count: usize) -> impl Iterator<Item = &Arc<ReceivedRequest>> {
        let before = self.entries.len().saturating_sub(count);
        self.entries.range(before..).map(|(_, request)| request)
    }

    /// How many were kept once and are not any more.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }
}
