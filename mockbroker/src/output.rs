//! What a driver must carry out after a step of the cluster. It decides nothing itself.

use crate::state::nodes::NodeId;
use crate::wire::Response;

/// A connection, numbered by the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct ConnId(pub u64);

/// How the bytes of an answer are sent: whole, unless a fault was planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Frame {
    /// As they are.
    #[default]
    Whole,
    /// With other bytes here and there, chosen by this seed; the length stays right.
    Garbled {
        /// Where the choice comes from.
        seed: u64,
    },
    /// Only the first half; the connection closes after it.
    CutShort,
    /// Two times.
    Twice,
    /// Only the token of an answer to SaslAuthenticate, for clients from before KIP-152.
    Token {
        /// Whether requests follow instead of more tokens.
        last: bool,
    },
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// The request in hand on this connection is answered: pass this to its [`Session`](crate::session::Session).
    Reply {
        /// Where the request came from.
        conn: ConnId,
        /// The answer; `None` when the client expects none (Produce with `acks=0`).
        response: Option<Box<Response>>,
        /// How its bytes are sent.
        frame: Frame,
    },
    /// Close this connection; the cluster has forgotten it.
    Close {
        /// Which one.
        conn: ConnId,
        /// One plain line for the log.
        reason: String,
    },
    /// This broker stopped: refuse connections to it.
    StopListening(NodeId),
    /// This broker runs again: accept connections to it.
    Listen(NodeId),
}
