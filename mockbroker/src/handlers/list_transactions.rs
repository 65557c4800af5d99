//! ListTransactions (66), versions 0–2.
//!
//! Does: the transactional ids this broker coordinates; filters by producer id, state, age (KIP-994) and pattern
//! (KIP-1152).
//! Leaves out: nothing.
//! Differs from Apache Kafka: patterns are those of Rust's `regex`, which has no look-around and no back-references.

use super::Answer;
use super::access::To;
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::fault::Part;
use crate::state::State;
use crate::state::security::acls::Operation;
use crate::state::transactions::{Filter, Status};
use crate::time::Time;
use crate::wire::Str;
use crate::wire::generated::list_transactions_request::ListTransactionsRequest;
use crate::wire::generated::list_transactions_response::{ListTransactionsResponse, TransactionState};
use regex::Regex;

pub(super) fn list_transactions(
    state: &mut State,
    now: Time,
    from: &Caller,
    request: ListTransactionsRequest,
) -> Answer {
    Answer::now(
        list(state, now, from, &request)
            .unwrap_or_else(|reject| ListTransactionsResponse { error_code: reject.code.code(), ..Default::default() }),
    )
}

fn list(
    state: &State,
    now: Time,
    from: &Caller,
    request: &ListTransactionsRequest,
) -> Result<ListTransactionsResponse, Reject> {
    from.check_fault(Part::Whole)?;
    let pattern = pattern(request.transactional_id_pattern.as_deref())?;
    let named = |name: &Str| Status::ALL.iter().copied().find(|status| status.name() == name.as_str());
    // Two states that Kafka knows never last long enough to be seen.
    let known = |name: &&Str| named(name).is_some() || matches!(name.as_str(), "Dead" | "PrepareEpochFence");
    let filter = Filter {
        producer_ids: request.producer_id_filters.clone(),
        statuses: (!request.state_filters.is_empty()).then(|| request.state_filters.iter().filter_map(named).collect()),
        older_than_ms: Some(request.duration_filter).filter(|ms| *ms >= 0),
    };
    let found = state.transactions.list(state.wall_clock_ms(now), &filter);
    let mine = found
        .filter(|(id, _)| state.transaction_coordinator(id) == Some(from.node))
        .filter(|(id, _)| from.has_access(state, Operation::Describe, To::TransactionalId(id)))
        .filter(|(id, _)| pattern.as_ref().is_none_or(|pattern| pattern.is_match(id)));
    let transaction_states = mine.map(|(id, transaction)| TransactionState {
        transactional_id: Str::from(id),
        producer_id: transaction.producer().id,
        transaction_state: Str::from(transaction.status().name()),
    });
    Ok(ListTransactionsResponse {
        transaction_states: transaction_states.collect(),
        unknown_state_filters: request.state_filters.iter().filter(|name| !known(name)).cloned().collect(),
        ..Default::default()
    })
}

/// The pattern a whole id must match; an empty one is none.
fn pattern(pattern: Option<&str>) -> Result<Option<Regex>, Reject> {
    let Some(pattern) = pattern.filter(|pattern| !pattern.is_empty()) else { return Ok(None) };
    let compiled = Regex::new(&format!("^(?:{pattern})$"));
    compiled.map(Some).map_err(|_| ErrorCode::InvalidRegularExpression.into())
}
