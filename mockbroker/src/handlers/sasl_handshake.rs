//! SaslHandshake (17), versions 0–1.
//!
//! Does: the client chooses by which mechanism it proves who it is, before anything else and when its session grows old
//! (KIP-368); where nothing is to be proved, or not again, refuses as `KafkaApis` does. `src/sasl` is the door itself.
//! Leaves out: GSSAPI.
//! Differs from Apache Kafka: all mechanisms are on unless `sasl.enabled.mechanisms` is given; a refused client is told
//! at once, whatever `connection.failed.authentication.delay.ms` says.

use super::Answer;
use crate::cluster::Caller;
use crate::error::ErrorCode;
use crate::state::State;
use crate::time::Time;
use crate::wire::generated::sasl_handshake_request::SaslHandshakeRequest;
use crate::wire::generated::sasl_handshake_response::SaslHandshakeResponse;

pub(super) fn sasl_handshake(_: &mut State, _: Time, _: &Caller, _: SaslHandshakeRequest) -> Answer {
    Answer::now(SaslHandshakeResponse { error_code: ErrorCode::IllegalSaslState.code(), ..Default::default() })
}
