//! Quotas at work: an answer that was too much says how long to wait, and the connection's next request waits so long
//! whatever its client makes of that (KIP-219, `ClientQuotaManager.throttle`).

use super::{Connection, InHand};
use crate::fault::set_throttle;
use crate::state::State;
use crate::state::quotas::Limited;
use crate::time::Time;
use crate::wire::generated::fetch_response::FetchResponse;
use crate::wire::{ApiKey, Response, Str, Writer};
use std::time::Duration;

/// What a request uses of a thread's time, in percent of a second: a tenth of a millisecond.
const REQUEST_PERCENT: f64 = 0.01;
/// An answer's length field does not count, its correlation id does.
const HEADER_BYTES: usize = 4;

impl Connection {
    /// Who the client is: whom quotas of users hold for.
    pub(super) fn user(&self) -> Str {
        Str::from_static("ANONYMOUS")
    }

    /// Lets the next request wait.
    pub(super) fn mute(&mut self, now: Time, wait: Duration) {
        if !wait.is_zero() {
            self.muted_until = self.muted_until.max(Some(now + wait));
        }
    }
}

impl State {
    /// Counts an answer that is about to leave; one that is too much is told so, and of a fetch nothing else is left.
    pub(super) fn throttle(
        &mut self,
        now: Time,
        connection: &Connection,
        in_hand: &InHand,
        response: &mut Option<Box<Response>>,
    ) -> Duration {
        let (node, user) = (connection.node, connection.user());
        let who = (user.as_str(), connection.client_id.as_str());
        let limited = match (in_hand.api, response.as_deref()) {
            (ApiKey::Produce, _) => Some((Limited::Produce, in_hand.bytes as f64)),
            (ApiKey::Fetch, Some(answer)) => Some((Limited::Fetch, size_of(answer, in_hand.version) as f64)),
            _ => None,
        };
        let mut record = |limited, amount| self.quotas.record(now, node, who, limited, amount);
        let by_bytes = limited.map_or(Duration::ZERO, |(limited, bytes)| record(limited, bytes));
        let Some(response) = response else { return by_bytes };
        let throttle = by_bytes.max(record(Limited::Request, REQUEST_PERCENT));
        if !throttle.is_zero() {
            if let Some((Limited::Fetch, bytes)) = limited {
                self.quotas.take_back(now, node, who, Limited::Fetch, bytes);
                withhold(response);
            }
            set_throttle(response, in_hand.version, throttle);
        }
        throttle
    }
}

/// Leaves of a fetch only its session: what was read is read again (`FetchContext.getThrottledResponse`).
fn withhold(response: &mut Response) {
    if let Response::Fetch(fetch) = response {
        *fetch = FetchResponse { session_id: fetch.session_id, error_code: fetch.error_code, ..Default::default() };
    }
}

fn size_of(response: &Response, version: i16) -> usize {
    let mut writer = Writer::new();
    response.encode(version, &mut writer).map_or(0, |()| HEADER_BYTES + writer.len())
}
