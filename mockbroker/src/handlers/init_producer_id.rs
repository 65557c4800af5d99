//! InitProducerId (22), versions 0–5.
//!
//! Does: hands out producer ids to idempotent producers; raises the epoch of transactional ones, fences whoever had it
//! before and aborts what they left open; lets a producer go on after an error (KIP-360); new ids for exhausted epochs.
//! Leaves out: two-phase commit (KIP-939), which needs version 6, not yet stable in Kafka.
//! Differs from Apache Kafka: ids count from 0; Kafka's come in blocks of 1,000 a broker.

use super::Answer;
use super::access::To;
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::fault::Part;
use crate::state::State;
use crate::state::security::acls::Operation;
use crate::state::transactions::Identity;
use crate::time::Time;
use crate::wire::generated::init_producer_id_request::InitProducerIdRequest;
use crate::wire::generated::init_producer_id_response::InitProducerIdResponse;

/// The first version whose clients know `PRODUCER_FENCED`.
const FENCED_FROM: i16 = 4;

pub(super) fn init_producer_id(state: &mut State, now: Time, from: &Caller, request: InitProducerIdRequest) -> Answer {
    let (code, who) = match init(state, now, from, &request) {
        Ok(who) => (ErrorCode::None, who),
        Err(reject) => (super::transactions::fenced(reject.code, from.version, FENCED_FROM), Identity::NONE),
    };
    Answer::now(InitProducerIdResponse {
        error_code: code.code(),
        producer_id: who.id,
        producer_epoch: who.epoch,
        ..Default::default()
    })
}

fn init(state: &mut State, now: Time, from: &Caller, request: &InitProducerIdRequest) -> Result<Identity, Reject> {
    let part = request.transactional_id.as_deref().map_or(Part::Whole, Part::Named);
    from.check_fault(part)?;
    match request.transactional_id.as_deref() {
        Some(id) => from.check_access(state, Operation::Write, To::TransactionalId(id))?,
        None if from.may_write_somewhere(state) => {}
        None => from.check_access(state, Operation::IdempotentWrite, To::Cluster)?,
    }
    let expected = match (request.producer_id, request.producer_epoch) {
        (-1, -1) => None,
        (-1, _) | (_, -1) => return Err(ErrorCode::InvalidRequest.into()),
        (id, epoch) => Some(Identity { id, epoch }),
    };
    match request.transactional_id.as_deref() {
        // Kafka asks no more of an idempotent producer, whatever id and epoch it says it had.
        None => Ok(Identity { id: state.new_producer_id(), epoch: 0 }),
        Some("") => Err(ErrorCode::InvalidRequest.into()),
        Some(id) => state.init_transactions(now, from.node, id, request.transaction_timeout_ms, expected),
    }
}
