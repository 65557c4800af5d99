//! EndTxn (26), versions 0–5.
//!
//! Does: decides how a transaction ends and answers; the markers follow at once, where leaders are there to write them.
//! From version 5 on every end raises the producer's epoch, or gives it a new id (KIP-890).
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
use crate::state::transactions::{EPOCH_BUMP_FROM, Identity, Outcome};
use crate::time::Time;
use crate::wire::generated::end_txn_request::EndTxnRequest;
use crate::wire::generated::end_txn_response::EndTxnResponse;

/// The first version whose clients know `PRODUCER_FENCED`.
const FENCED_FROM: i16 = 2;
/// The first version whose clients get a new epoch with every transaction.
const EPOCH_BUMP_VERSION: i16 = 5;

pub(super) fn end_txn(state: &mut State, now: Time, from: &Caller, request: EndTxnRequest) -> Answer {
    let (code, who) = match end(state, now, from, &request) {
        Ok(who) => (ErrorCode::None, who),
        Err(reject) => (fenced(reject.code, from.version, FENCED_FROM), Identity::NONE),
    };
    Answer::now(EndTxnResponse {
        error_code: code.code(),
        producer_id: who.id,
        producer_epoch: who.epoch,
        ..Default::default()
    })
}

fn end(state: &mut State, now: Time, from: &Caller, request: &EndTxnRequest) -> Result<Identity, Reject> {
    let id = &request.transactional_id;
    from.check_fault(Part::Named(id))?;
    from.check_access(state, Operation::Write, To::TransactionalId(id))?;
    check_id(id)?;
    let who = Identity { id: request.producer_id, epoch: request.producer_epoch };
    let version = if from.version >= EPOCH_BUMP_VERSION { EPOCH_BUMP_FROM } else { 0 };
    state.end_transaction(now, from.node, id, who, Outcome::from(request.committed), version)
}
