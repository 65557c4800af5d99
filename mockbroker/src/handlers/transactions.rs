//! What the handlers of transactions have in common.

use crate::error::{ErrorCode, Reject};
use crate::wire::Str;
use indexmap::IndexMap;

/// The code for clients of this version: older ones know `PRODUCER_FENCED` by another name (KIP-588).
pub(super) fn fenced(code: ErrorCode, version: i16, since: i16) -> ErrorCode {
    if code == ErrorCode::ProducerFenced && version < since { ErrorCode::InvalidProducerEpoch } else { code }
}

/// Refuses a transactional id that is none.
pub(super) fn check_id(id: &str) -> Result<(), Reject> {
    if id.is_empty() { Err(ErrorCode::InvalidRequest.into()) } else { Ok(()) }
}

/// Rows of partitions below one row a topic, topics in the order in which they first come.
pub(super) fn by_topic<P, T>(rows: impl IntoIterator<Item = (Str, P)>, topic: impl Fn(Str, Vec<P>) -> T) -> Vec<T> {
    let mut topics: IndexMap<Str, Vec<P>> = IndexMap::new();
    for (name, row) in rows {
        topics.entry(name).or_default().push(row);
    }
    topics.into_iter().map(|(name, rows)| topic(name, rows)).collect()
}
