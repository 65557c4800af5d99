//! The door of a listener that asks who one is: SaslHandshake and SaslAuthenticate before anything else, and again when
//! a session grows old (KIP-43, KIP-152, KIP-368; `SaslServerAuthenticator`).

mod oauth_bearer;
mod plain;
mod scram;

use crate::cluster::Caller;
use crate::config::{SaslMechanism, SecurityProtocol};
use crate::error::ErrorCode;
use crate::fault::Part;
use crate::handlers::{Answer, is_valid_api_versions};
use crate::session::{RAW_TOKEN, UNSUPPORTED};
use crate::state::State;
use crate::state::security::Principal;
use crate::state::security::scram::ScramHash;
use crate::time::{Time, millis};
use crate::wire::generated::api_versions_response::ApiVersionsResponse;
use crate::wire::generated::sasl_authenticate_response::SaslAuthenticateResponse;
use crate::wire::generated::sasl_handshake_response::SaslHandshakeResponse;
use crate::wire::{ApiKey, Request, Response, Str};
use bytes::Bytes;
use std::time::Duration;

/// How far somebody has come in proving who they are.
#[derive(Debug)]
pub(crate) struct Door {
    stage: Stage,
    /// What was proved last, and how.
    inside: Option<Inside>,
    /// When somebody last began to prove it again.
    knocked_again: Option<Time>,
}

#[derive(Debug, Clone)]
struct Inside {
    principal: Principal,
    /// `None` on listeners without SASL.
    mechanism: Option<SaslMechanism>,
    /// When the session ends unless it is renewed; `None` is never.
    expires: Option<Time>,
}

#[derive(Debug)]
enum Stage {
    /// Nothing has been said.
    Hello,
    /// The versions have been asked.
    Handshake,
    /// A mechanism was chosen.
    Exchange { exchange: Exchange, mechanism: SaslMechanism },
    /// Somebody wants to renew a session by another mechanism.
    OtherMechanism,
    /// Open.
    Open,
}

#[derive(Debug)]
enum Exchange {
    Plain,
    Scram(scram::Exchange),
    OauthBearer(oauth_bearer::Exchange),
}

/// What comes of a token.
enum Step {
    /// The client is to say more.
    More(Bytes),
    /// That will do.
    Done(Bytes, Proved),
}

/// Who a client has proved to be.
struct Proved {
    name: String,
    /// When that ends to be so, by the wall clock.
    expires_ms: Option<i64>,
}

/// Why somebody stays outside.
struct Failure {
    why: &'static str,
    /// Whether they are told. Who fails at a secret is not, lest they learn which users there are.
    told: bool,
}

impl Failure {
    fn told(why: &'static str) -> Self {
        Self { why, told: true }
    }

    fn hidden(why: &'static str) -> Self {
        Self { why, told: false }
    }
}

/// A session may not be renewed more often.
const BETWEEN_RENEWALS: Duration = Duration::from_secs(1);

impl Door {
    /// The door of a listener. Whoever comes through TLS with a certificate is who it says.
    pub(crate) fn of(protocol: SecurityProtocol, certificate: Option<String>) -> Self {
        if protocol.uses_sasl() {
            return Self { stage: Stage::Hello, inside: None, knocked_again: None };
        }
        let principal = certificate.map_or_else(Principal::anonymous, Principal::user);
        let inside = Inside { principal, mechanism: None, expires: None };
        Self { stage: Stage::Open, inside: Some(inside), knocked_again: None }
    }

    /// Who is inside; `None` while nobody is.
    pub(crate) fn principal(&self) -> Option<&Principal> {
        self.inside.as_ref().map(|inside| &inside.principal)
    }

    /// Looks at a request before any handler does; `None` lets it through.
    pub(crate) fn pass(&mut self, now: Time, state: &mut State, from: &Caller, request: &Request) -> Option<Answer> {
        match &self.stage {
            Stage::Open => self.look_after(now, state, from, request),
            Stage::Hello | Stage::Handshake => self.shake_hands(state, from, request),
            Stage::Exchange { .. } => Some(self.hear(now, state, from, request)),
            Stage::OtherMechanism => Some(Answer::Close("a session cannot be renewed by another mechanism".into())),
        }
    }

    /// A session that has expired is closed, unless it is being renewed.
    fn look_after(&mut self, now: Time, state: &State, from: &Caller, request: &Request) -> Option<Answer> {
        let expires = self.inside.as_ref().and_then(|inside| inside.expires)?;
        let may_renew = self.knocked_again.is_none_or(|last| now.since(last) >= BETWEEN_RENEWALS);
        if matches!(request, Request::SaslHandshake(_)) && may_renew {
            self.knocked_again = Some(now);
            return self.shake_hands(state, from, request);
        }
        (expires < now).then(|| Answer::Close("the session has expired and was not renewed".into()))
    }

    fn shake_hands(&mut self, state: &State, from: &Caller, request: &Request) -> Option<Answer> {
        match request {
            Request::ApiVersions(_) if !matches!(self.stage, Stage::Hello) => {
                Some(Answer::Close("the client asked for the versions again before it said who it is".into()))
            }
            Request::ApiVersions(asked) => {
                if from.version != UNSUPPORTED && is_valid_api_versions(from.version, asked) {
                    self.stage = Stage::Handshake;
                }
                None
            }
            Request::SaslHandshake(asked) => Some(self.choose(state, from, &asked.mechanism)),
            other => {
                Some(Answer::Close(format!("the client asked for {} before it said who it is", other.api_key().name())))
            }
        }
    }

    fn choose(&mut self, state: &State, from: &Caller, name: &str) -> Answer {
        let mechanisms = &state.security.mechanisms;
        let told = |code: ErrorCode| SaslHandshakeResponse {
            error_code: code.code(),
            mechanisms: mechanisms.iter().map(|mechanism| Str::from_static(mechanism.name())).collect(),
        };
        if let Err(reject) = from.check_fault(Part::Whole) {
            return Answer::last(told(reject.code), "a planned fault refused the handshake".into());
        }
        let Some(mechanism) = mechanisms.iter().copied().find(|mechanism| mechanism.name() == name) else {
            let response = told(ErrorCode::UnsupportedSaslMechanism);
            return Answer::last(response, format!("the client wants to log in by '{name}', which is not on"));
        };
        let before = self.inside.as_ref().and_then(|inside| inside.mechanism);
        self.stage = match before {
            Some(before) if before != mechanism => Stage::OtherMechanism,
            _ => Stage::Exchange { exchange: Exchange::of(mechanism), mechanism },
        };
        Answer::now(told(ErrorCode::None))
    }

    /// Hears a token.
    fn hear(&mut self, now: Time, state: &mut State, from: &Caller, request: &Request) -> Answer {
        let Stage::Exchange { exchange, mechanism } = &mut self.stage else {
            return Answer::Close("a token came too early".into());
        };
        let mechanism = *mechanism;
        let Request::SaslAuthenticate(said) = request else { return out_of_order(request) };
        let version = from.version;
        if let Err(reject) = from.check_fault(Part::Whole) {
            return refuse(version, reject.code, mechanism, &Failure::told("a planned fault refused the login"));
        }
        match exchange.step(now, state, &said.auth_bytes) {
            Ok(Step::More(token)) => answer(version, token, 0, false),
            Ok(Step::Done(token, proved)) => match self.let_in(now, state, mechanism, proved) {
                Ok(lifetime) => answer(version, token, i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX), true),
                Err(failure) => refuse(version, ErrorCode::SaslAuthenticationFailed, mechanism, &failure),
            },
            Err(failure) => refuse(version, ErrorCode::SaslAuthenticationFailed, mechanism, &failure),
        }
    }

    /// Opens; returns how long the session lasts, zero where it does for ever.
    fn let_in(
        &mut self,
        now: Time,
        state: &State,
        mechanism: SaslMechanism,
        proved: Proved,
    ) -> Result<Duration, Failure> {
        let principal = Principal::user(proved.name);
        if self.principal().is_some_and(|before| *before != principal) {
            return Err(Failure::told("a session cannot be renewed by somebody else"));
        }
        let token = proved.expires_ms.map(|at| millis(at.saturating_sub(state.wall_clock_ms(now))));
        let broker = state.configs.broker_settings().connections_max_reauth_ms;
        let broker = (broker > 0).then(|| millis(broker));
        let lifetime = token.into_iter().chain(broker).min();
        self.inside =
            Some(Inside { principal, mechanism: Some(mechanism), expires: lifetime.map(|lifetime| now + lifetime) });
        self.stage = Stage::Open;
        Ok(lifetime.unwrap_or_default())
    }
}

impl Exchange {
    fn of(mechanism: SaslMechanism) -> Self {
        match mechanism {
            SaslMechanism::Plain => Self::Plain,
            SaslMechanism::ScramSha256 => Self::Scram(scram::Exchange::Hello(ScramHash::Sha256)),
            SaslMechanism::ScramSha512 => Self::Scram(scram::Exchange::Hello(ScramHash::Sha512)),
            SaslMechanism::OauthBearer => Self::OauthBearer(oauth_bearer::Exchange::default()),
        }
    }

    fn step(&mut self, now: Time, state: &mut State, token: &[u8]) -> Result<Step, Failure> {
        match self {
            Self::Plain => plain::step(&state.security, token),
            Self::Scram(exchange) => exchange.step(state, token),
            Self::OauthBearer(exchange) => exchange.step(state.wall_clock_ms(now), token),
        }
    }
}

fn answer(version: i16, token: Bytes, session_lifetime_ms: i64, last: bool) -> Answer {
    let response = SaslAuthenticateResponse { auth_bytes: token, session_lifetime_ms, ..Default::default() };
    match version {
        RAW_TOKEN => Answer::Token { response: Box::new(response.into()), last },
        _ => Answer::now(response),
    }
}

fn refuse(version: i16, code: ErrorCode, mechanism: SaslMechanism, failure: &Failure) -> Answer {
    let reason = format!("a client failed to log in by {mechanism}: {}", failure.why);
    if version == RAW_TOKEN {
        // Before KIP-152 there was no way to say it.
        return Answer::Close(reason);
    }
    let message = if failure.told { failure.why } else { "the credentials are not valid" };
    let response = SaslAuthenticateResponse {
        error_code: code.code(),
        error_message: Some(Str::from(format!("{mechanism}: {message}"))),
        ..Default::default()
    };
    Answer::last(response, reason)
}

/// Somebody who is to prove who they are asks for something else.
fn out_of_order(request: &Request) -> Answer {
    let api = request.api_key();
    let reason = format!("the client asked for {} while it was to prove who it is", api.name());
    let error_code = ErrorCode::IllegalSaslState.code();
    let response: Response = match api {
        ApiKey::ApiVersions => ApiVersionsResponse { error_code, ..Default::default() }.into(),
        ApiKey::SaslHandshake => SaslHandshakeResponse { error_code, ..Default::default() }.into(),
        _ => return Answer::Close(reason),
    };
    Answer::last(response, reason)
}
