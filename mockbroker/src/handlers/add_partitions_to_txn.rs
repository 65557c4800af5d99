//! AddPartitionsToTxn (24), versions 0–5.
//!
//! Does: partitions join a transaction, all or none; several transactions at once, and mere verification, from version
//! 4 on, as brokers ask each other (KIP-890).
//! Leaves out: nothing.
//! Differs from Apache Kafka: a request of version 4 or later without any transaction is answered; Kafka never does.

use super::Answer;
use super::access::To;
use super::transactions::{check_id, fenced};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::fault::Part;
use crate::parked::PartitionName;
use crate::state::State;
use crate::state::security::acls::Operation;
use crate::state::transactions::{EPOCH_BUMP_FROM, Identity};
use crate::time::Time;
use crate::wire::generated::add_partitions_to_txn_request::{AddPartitionsToTxnRequest, AddPartitionsToTxnTransaction};
use crate::wire::generated::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResponse, AddPartitionsToTxnResult,
    AddPartitionsToTxnTopicResult,
};

/// The first version that names several transactions.
const SEVERAL_FROM: i16 = 4;
/// The first version whose clients know `PRODUCER_FENCED`.
const FENCED_FROM: i16 = 2;

pub(super) fn add_partitions_to_txn(
    state: &mut State,
    now: Time,
    from: &Caller,
    request: AddPartitionsToTxnRequest,
) -> Answer {
    if from.version >= SEVERAL_FROM {
        // Only brokers ask so.
        if let Err(reject) = from.check_access(state, Operation::ClusterAction, To::Cluster) {
            let error_code = reject.code.code();
            return Answer::now(AddPartitionsToTxnResponse { error_code, ..Default::default() });
        }
        let results = request.transactions.into_iter().map(|transaction| AddPartitionsToTxnResult {
            topic_results: one_transaction(state, now, from, &transaction),
            transactional_id: transaction.transactional_id,
        });
        let results_by_transaction = results.collect();
        return Answer::now(AddPartitionsToTxnResponse { results_by_transaction, ..Default::default() });
    }
    let only = AddPartitionsToTxnTransaction {
        transactional_id: request.v3_and_below_transactional_id,
        producer_id: request.v3_and_below_producer_id,
        producer_epoch: request.v3_and_below_producer_epoch,
        verify_only: false,
        topics: request.v3_and_below_topics,
    };
    Answer::now(AddPartitionsToTxnResponse {
        results_by_topic_v3_and_below: one_transaction(state, now, from, &only),
        ..Default::default()
    })
}

fn one_transaction(
    state: &mut State,
    now: Time,
    from: &Caller,
    transaction: &AddPartitionsToTxnTransaction,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let partitions: Vec<PartitionName> = transaction
        .topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|index| (topic.name.to_string(), *index)))
        .collect();
    let codes = match add(state, now, from, transaction, &partitions) {
        Ok(codes) => codes,
        Err(reject) => vec![fenced(reject.code, from.version, FENCED_FROM); partitions.len()],
    };
    let mut codes = codes.into_iter();
    let topics = transaction.topics.iter().map(|topic| {
        let rows = topic.partitions.iter().zip(&mut codes).map(|(index, code)| AddPartitionsToTxnPartitionResult {
            partition_index: *index,
            partition_error_code: code.code(),
        });
        AddPartitionsToTxnTopicResult { name: topic.name.clone(), results_by_partition: rows.collect() }
    });
    topics.collect()
}

/// A code for each partition, or one for all of them.
fn add(
    state: &mut State,
    now: Time,
    from: &Caller,
    transaction: &AddPartitionsToTxnTransaction,
    partitions: &[PartitionName],
) -> Result<Vec<ErrorCode>, Reject> {
    let id = &transaction.transactional_id;
    from.check_fault(Part::Named(id))?;
    if from.version < SEVERAL_FROM {
        from.check_access(state, Operation::Write, To::TransactionalId(id))?;
    }
    let checked: Vec<ErrorCode> = partitions.iter().map(|partition| check(state, from, partition)).collect();
    if checked.iter().any(|code| *code != ErrorCode::None) {
        let spared = |code| if code == ErrorCode::None { ErrorCode::OperationNotAttempted } else { code };
        return Ok(checked.into_iter().map(spared).collect());
    }
    check_id(id)?;
    let who = Identity { id: transaction.producer_id, epoch: transaction.producer_epoch };
    if !transaction.verify_only {
        let version = if from.version >= SEVERAL_FROM { EPOCH_BUMP_FROM } else { 0 };
        state.add_to_transaction(now, from.node, id, who, partitions, version)?;
        return Ok(checked);
    }
    state.check_transaction_coordinator(from.node, id)?;
    let takes_part = state.transactions.verify(id, who)?.partitions();
    let code = |name| if takes_part.contains(name) { ErrorCode::None } else { ErrorCode::TransactionAbortable };
    Ok(partitions.iter().map(code).collect())
}

fn check(state: &State, from: &Caller, (topic, index): &PartitionName) -> ErrorCode {
    let fault = from.check_fault(Part::Partition(topic, *index));
    let permitted = fault.and_then(|()| match from.version {
        ..SEVERAL_FROM => from.check_access(state, Operation::Write, To::Topic(topic)),
        _ => Ok(()),
    });
    let known = permitted.and_then(|()| state.topics.partition(topic, *index).map(|_| ()));
    known.map_or_else(|reject| reject.code, |()| ErrorCode::None)
}
