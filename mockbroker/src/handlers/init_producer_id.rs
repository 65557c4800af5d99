//! InitProducerId (22), versions 0–5.
//!
//! Does: hands out producer ids to idempotent producers.
//! Leaves out: transactional ids: they are refused until transactions are served.
//! Differs from Apache Kafka: ids count from 0; Kafka's come in blocks of 1,000 a broker.

use super::Answer;
use crate::cluster::Caller;
use crate::error::ErrorCode;
use crate::fault::Part;
use crate::state::State;
use crate::time::Time;
use crate::wire::generated::init_producer_id_request::InitProducerIdRequest;
use crate::wire::generated::init_producer_id_response::InitProducerIdResponse;

pub(super) fn init_producer_id(state: &mut State, _: Time, from: &Caller, request: InitProducerIdRequest) -> Answer {
    let refused = |code: ErrorCode| {
        Answer::now(InitProducerIdResponse { error_code: code.code(), producer_epoch: -1, ..Default::default() })
    };
    if let Err(reject) = from.check_fault(Part::Whole) {
        return refused(reject.code);
    }
    if (request.producer_id == -1) != (request.producer_epoch == -1) {
        return refused(ErrorCode::InvalidRequest);
    }
    match request.transactional_id {
        // Kafka asks no more of an idempotent producer, whatever id and epoch it says it had.
        None => Answer::now(InitProducerIdResponse {
            producer_id: state.new_producer_id(),
            producer_epoch: 0,
            ..Default::default()
        }),
        Some(id) if id.is_empty() => refused(ErrorCode::InvalidRequest),
        Some(id) => {
            tracing::warn!(client = %from.client_id, transactional_id = %id, "transactions are not served yet; refused");
            refused(ErrorCode::UnsupportedVersion)
        }
    }
}
