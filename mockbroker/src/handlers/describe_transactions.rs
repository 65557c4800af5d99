//! DescribeTransactions (65), version 0.
//!
//! Does: each transactional id as its coordinator knows it, with the partitions that take part.
//! Leaves out: nothing.
//! Differs from Apache Kafka: none known.

use super::Answer;
use super::access::To;
use super::transactions::{by_topic, check_id};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::state::State;
use crate::state::security::acls::Operation;
use crate::time::Time;
use crate::wire::Str;
use crate::wire::generated::describe_transactions_request::DescribeTransactionsRequest;
use crate::wire::generated::describe_transactions_response::{
    DescribeTransactionsResponse, TopicData, TransactionState,
};

pub(super) fn describe_transactions(
    state: &mut State,
    _: Time,
    from: &Caller,
    request: DescribeTransactionsRequest,
) -> Answer {
    let rows = request.transactional_ids.into_iter().map(|id| {
        describe(state, from, &id).unwrap_or_else(|reject| TransactionState {
            error_code: reject.code.code(),
            transactional_id: id,
            ..Default::default()
        })
    });
    Answer::now(DescribeTransactionsResponse { transaction_states: rows.collect(), ..Default::default() })
}

fn describe(state: &State, from: &Caller, id: &Str) -> Result<TransactionState, Reject> {
    from.check_access(state, Operation::Describe, To::TransactionalId(id))?;
    check_id(id)?;
    state.check_transaction_coordinator(from.node, id)?;
    let transaction = state.transactions.get(id).ok_or(ErrorCode::TransactionalIdNotFound)?;
    let seen = |topic: &str| from.has_access(state, Operation::Describe, To::Topic(topic));
    let partitions = transaction
        .partitions()
        .iter()
        .filter(|(topic, _)| seen(topic))
        .map(|(topic, index)| (Str::from(topic.as_str()), *index));
    Ok(TransactionState {
        error_code: 0,
        transactional_id: id.clone(),
        transaction_state: Str::from(transaction.status().name()),
        transaction_timeout_ms: transaction.timeout_ms(),
        transaction_start_time_ms: transaction.started_ms(),
        producer_id: transaction.producer().id,
        producer_epoch: transaction.producer().epoch,
        topics: by_topic(partitions, |topic, partitions| TopicData { topic, partitions }),
    })
}
