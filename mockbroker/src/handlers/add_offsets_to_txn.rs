//! AddOffsetsToTxn (25), versions 0–4.
//!
//! Does: the partition of the offsets topic which a group falls on joins a transaction.
//! Leaves out: nothing.
//! Differs from Apache Kafka: none known.

use super::Answer;
use super::access::To;
use super::transactions::{check_id, fenced};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::fault::Part;
use crate::state::State;
use crate::state::security::acls::Operation;
use crate::state::topics::OFFSETS_TOPIC;
use crate::state::transactions::Identity;
use crate::time::Time;
use crate::wire::generated::add_offsets_to_txn_request::AddOffsetsToTxnRequest;
use crate::wire::generated::add_offsets_to_txn_response::AddOffsetsToTxnResponse;

/// The first version whose clients know `PRODUCER_FENCED`.
const FENCED_FROM: i16 = 2;

pub(super) fn add_offsets_to_txn(
    state: &mut State,
    now: Time,
    from: &Caller,
    request: AddOffsetsToTxnRequest,
) -> Answer {
    let code = match add(state, now, from, &request) {
        Ok(()) => ErrorCode::None,
        Err(reject) => fenced(reject.code, from.version, FENCED_FROM),
    };
    Answer::now(AddOffsetsToTxnResponse { error_code: code.code(), ..Default::default() })
}

fn add(state: &mut State, now: Time, from: &Caller, request: &AddOffsetsToTxnRequest) -> Result<(), Reject> {
    let id = &request.transactional_id;
    from.check_fault(Part::Named(id))?;
    from.check_fault(Part::Named(&request.group_id))?;
    from.check_access(state, Operation::Write, To::TransactionalId(id))?;
    from.check_access(state, Operation::Read, To::Group(&request.group_id))?;
    check_id(id)?;
    let who = Identity { id: request.producer_id, epoch: request.producer_epoch };
    let partition = (OFFSETS_TOPIC.to_owned(), state.coordinator_partition(&request.group_id));
    // Clients that know of transaction.version 2 do not ask this.
    state.add_to_transaction(now, from.node, id, who, &[partition], 0)
}
