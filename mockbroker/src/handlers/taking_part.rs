//! What a produce finds out about its transaction before anything is appended (`ReplicaManager.handleProduceAppend`):
//! whether its partitions take part, asked of the coordinator; from version 12 on they join by this (KIP-890).

use super::access::permitted_topic;
use super::produce::{Refusal, one_batch};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::fault::Part;
use crate::parked::PartitionName;
use crate::state::State;
use crate::state::security::acls::Operation;
use crate::state::transactions::{Identity, InTransaction, Participation};
use crate::time::Time;
use crate::wire::batch::BatchHeader;
use crate::wire::generated::produce_request::{PartitionProduceData, ProduceRequest};
use std::collections::BTreeMap;

/// The first version whose clients know `TRANSACTION_ABORTABLE`.
const ABORTABLE_FROM: i16 = 11;
/// The first version that adds partitions by itself.
const IMPLIED_FROM: i16 = 12;

/// The partitions that are no part of the transaction, and why.
#[derive(Debug, Default)]
pub(super) struct Outside {
    implied: bool,
    refused: BTreeMap<PartitionName, Reject>,
}

impl Outside {
    /// Refuses what does not take part.
    pub(super) fn check(&self, topic: &str, index: i32) -> Result<(), Refusal> {
        if self.refused.is_empty() {
            return Ok(());
        }
        match self.refused.get(&(topic.to_owned(), index)) {
            None => Ok(()),
            Some(reject) => Err(self.as_leader(reject)),
        }
    }

    /// What a coordinator said, in words a client of a partition's leader understands and tries again on.
    fn as_leader(&self, reject: &Reject) -> Refusal {
        let unverified = |code: ErrorCode| {
            let message = format!("whether the partition is part of the transaction cannot be found out now: {code}");
            Refusal::explained(Reject::new(ErrorCode::NotEnoughReplicas, message))
        };
        match reject.code {
            ErrorCode::InvalidTxnState => {
                let message = "the partition is no part of the transaction";
                Refusal::explained(Reject::new(ErrorCode::InvalidTxnState, message))
            }
            code @ (ErrorCode::CoordinatorNotAvailable | ErrorCode::NotCoordinator) => unverified(code),
            code @ ErrorCode::ConcurrentTransactions if !self.implied => unverified(code),
            _ => reject.clone().into(),
        }
    }
}

/// Lets the partitions of a transactional produce take part in its transaction.
///
/// # Errors
/// The request speaks for more than one producer, which no client does.
pub(super) fn take_part(
    state: &mut State,
    now: Time,
    from: &Caller,
    request: &ProduceRequest,
) -> Result<Outside, Refusal> {
    let Some(id) = request.transactional_id.as_deref() else { return Ok(Outside::default()) };
    let written = transactional_batches(state, from, request);
    let Some(who) = written.first().map(|(_, batch)| producer_of(batch)) else { return Ok(Outside::default()) };
    if written.iter().any(|(_, batch)| producer_of(batch) != who) {
        let message = "the transactional batches of a request come from more than one producer";
        return Err(Refusal::explained(Reject::new(ErrorCode::InvalidProducerIdMapping, message)));
    }
    let participation = match from.version {
        IMPLIED_FROM.. => Participation::Implied,
        ABORTABLE_FROM => Participation::VerifiedAbortable,
        _ => Participation::Verified,
    };
    let about = InTransaction { id, who, participation };
    let mut outside = Outside { implied: participation == Participation::Implied, ..Outside::default() };
    let mut unsure = Vec::new();
    for (name, batch) in written {
        match state.must_take_part(now, from.node, (&name.0, name.1), &about, batch.base_sequence) {
            Ok(true) => unsure.push(name),
            Ok(false) => {}
            Err(reject) => drop(outside.refused.insert(name, reject)),
        }
    }
    if !unsure.is_empty() {
        let refused = state.take_part(now, &about, &unsure);
        outside.refused.extend(refused.into_iter().map(|(name, code)| (name, code.into())));
    }
    Ok(outside)
}

fn producer_of(batch: &BatchHeader) -> Identity {
    Identity { id: batch.producer_id, epoch: batch.producer_epoch }
}

/// The batches that belong to a transaction and are not refused for what they are.
fn transactional_batches(state: &State, from: &Caller, request: &ProduceRequest) -> Vec<(PartitionName, BatchHeader)> {
    let mut found = Vec::new();
    for topic in &request.topic_data {
        let by_id = from.version >= 13;
        let name = permitted_topic(state, from, Operation::Write, by_id, topic.topic_id, &topic.name);
        let Ok(name) = name else { continue };
        for partition in &topic.partition_data {
            if state.topics.partition(&name, partition.index).is_err() {
                continue;
            }
            let refused = from.check_fault(Part::Partition(&name, partition.index)).is_err();
            if let Some(batch) = transactional(from.version, partition).filter(|_| !refused) {
                found.push(((name.clone(), partition.index), batch));
            }
        }
    }
    found
}

fn transactional(version: i16, partition: &PartitionProduceData) -> Option<BatchHeader> {
    let bytes = one_batch(version, partition.records.clone()?).ok()?;
    let header = BatchHeader::parse(&bytes).ok()?;
    (header.is_transactional() && header.has_producer_id()).then_some(header)
}
