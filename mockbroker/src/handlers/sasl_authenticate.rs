//! SaslAuthenticate (36), versions 0–2.
//!
//! Does: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER with unsecured tokens; how long the session lasts
//! (`connections.max.reauth.ms`, a token's expiry); bare tokens after a SaslHandshake of version 0; where nothing is to be
//! proved, refuses as `KafkaApis` does. `src/sasl` is the door itself.
//! Leaves out: GSSAPI, delegation tokens, signed tokens of OAUTHBEARER and their key sets.
//! Differs from Apache Kafka: a refused client is told at once, whatever `connection.failed.authentication.delay.ms`
//! says; where a client asks for something else in the midst of it, only ApiVersions and SaslHandshake are answered
//! before the connection closes.

use super::Answer;
use crate::cluster::Caller;
use crate::error::ErrorCode;
use crate::state::State;
use crate::time::Time;
use crate::wire::Str;
use crate::wire::generated::sasl_authenticate_request::SaslAuthenticateRequest;
use crate::wire::generated::sasl_authenticate_response::SaslAuthenticateResponse;

pub(super) fn sasl_authenticate(_: &mut State, _: Time, _: &Caller, _: SaslAuthenticateRequest) -> Answer {
    Answer::now(SaslAuthenticateResponse {
        error_code: ErrorCode::IllegalSaslState.code(),
        error_message: Some(Str::from_static("the client is inside already")),
        ..Default::default()
    })
}
