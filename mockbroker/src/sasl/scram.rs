//! SASL SCRAM (RFC 5802): both sides prove that they know a password, and neither says it (`ScramSaslServer`).

use super::{Failure, Proved, Step};
use crate::state::State;
use crate::state::security::scram::{ITERATIONS_MIN, ScramCredential, ScramHash};
use base64::prelude::*;
use bytes::Bytes;
use rand::Rng;
use rand::distr::Alphanumeric;

/// How far the conversation has come.
#[derive(Debug)]
pub(super) enum Exchange {
    /// The client is to say who it is.
    Hello(ScramHash),
    /// The client is to prove it.
    Proof(Box<Challenge>),
    /// Over.
    Over,
}

/// What the client was asked, and what it is measured by.
#[derive(Debug)]
pub(super) struct Challenge {
    name: String,
    credential: ScramCredential,
    nonce: String,
    /// What the client said first, without its header.
    hello: String,
    /// What it was asked.
    question: String,
}

/// Characters the server adds to the client's nonce.
const NONCE_CHARS: usize = 24;

impl Exchange {
    pub(super) fn step(&mut self, state: &mut State, token: &[u8]) -> Result<Step, Failure> {
        let text = std::str::from_utf8(token).map_err(|_| Failure::hidden("the message is no text"))?;
        match std::mem::replace(self, Self::Over) {
            Self::Hello(hash) => {
                let challenge = ask(state, hash, text)?;
                let question = Bytes::from(challenge.question.clone());
                *self = Self::Proof(Box::new(challenge));
                Ok(Step::More(question))
            }
            Self::Proof(challenge) => challenge.judge(text),
            Self::Over => Err(Failure::hidden("the conversation is over")),
        }
    }
}

/// Reads the client's first message, `n,[a=…],n=name,r=nonce[,extensions]`, and thinks of a question.
fn ask(state: &mut State, hash: ScramHash, text: &str) -> Result<Challenge, Failure> {
    let malformed = || Failure::hidden("the first message is malformed");
    let (acting_for, hello) = text.strip_prefix("n,").and_then(|rest| rest.split_once(',')).ok_or_else(malformed)?;
    let acting_for = match acting_for.strip_prefix("a=") {
        Some(name) => name,
        None if acting_for.is_empty() => "",
        None => return Err(malformed()),
    };
    let mut parts = hello.split(',');
    let name = parts.next().and_then(|part| part.strip_prefix("n=")).and_then(unescaped).ok_or_else(malformed)?;
    let nonce = parts.next().and_then(|part| part.strip_prefix("r=")).ok_or_else(malformed)?;
    if nonce.is_empty() || !nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(malformed());
    }
    if parts.any(|extension| extension.eq_ignore_ascii_case("tokenauth=true")) {
        return Err(Failure::hidden("there are no delegation tokens"));
    }
    let credential = state.security.scram(hash, &name).cloned();
    let credential = credential.ok_or_else(|| Failure::hidden("there is no such user"))?;
    if !acting_for.is_empty() && unescaped(acting_for).as_deref() != Some(&name) {
        return Err(Failure::told("nobody may act for somebody else"));
    }
    if credential.iterations < ITERATIONS_MIN {
        return Err(Failure::hidden("the credential was made with too few iterations"));
    }
    let own = (&mut state.rng).sample_iter(Alphanumeric).take(NONCE_CHARS).map(char::from);
    let nonce: String = nonce.chars().chain(own).collect();
    let question = format!("r={nonce},s={},i={}", BASE64_STANDARD.encode(&credential.salt), credential.iterations);
    Ok(Challenge { name, credential, nonce, hello: hello.to_owned(), question })
}

impl Challenge {
    /// Reads the client's last message, `c=…,r=nonce[,extensions],p=proof`.
    fn judge(&self, text: &str) -> Result<Step, Failure> {
        let malformed = || Failure::hidden("the last message is malformed");
        let (unproved, proof) = text.rsplit_once(",p=").ok_or_else(malformed)?;
        let proof = BASE64_STANDARD.decode(proof).map_err(|_| malformed())?;
        let mut parts = unproved.split(',');
        parts.next().filter(|part| part.starts_with("c=")).ok_or_else(malformed)?;
        let nonce = parts.next().and_then(|part| part.strip_prefix("r=")).ok_or_else(malformed)?;
        if nonce != self.nonce {
            return Err(Failure::hidden("the nonce is another"));
        }
        let said = format!("{},{},{unproved}", self.hello, self.question);
        let signature = self.credential.verify(said.as_bytes(), &proof);
        let signature = signature.ok_or_else(|| Failure::hidden("the password is wrong"))?;
        let token = Bytes::from(format!("v={}", BASE64_STANDARD.encode(signature)));
        Ok(Step::Done(token, Proved { name: self.name.clone(), expires_ms: None }))
    }
}

/// A name with its commas and equals signs back; `None` when it is written wrongly.
fn unescaped(name: &str) -> Option<String> {
    let plain = name.replace("=2C", ",").replace("=3D", "=");
    let escapes = name.matches("=2C").count() + name.matches("=3D").count();
    (!name.is_empty() && name.matches('=').count() == escapes).then_some(plain)
}
