//! SASL PLAIN (RFC 4616): a name and its password (`PlainSaslServer`).

use super::{Failure, Proved, Step};
use crate::state::security::Security;
use bytes::Bytes;

pub(super) fn step(security: &Security, token: &[u8]) -> Result<Step, Failure> {
    let text = std::str::from_utf8(token).map_err(|_| Failure::hidden("the token is no text"))?;
    let mut parts = text.split('\0');
    let (Some(acting_for), Some(name), Some(password), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Failure::hidden("the token has not three parts"));
    };
    if name.is_empty() || password.is_empty() {
        return Err(Failure::told("a name and a password are needed"));
    }
    if !security.is_password(name, password) {
        return Err(Failure::told("the name or the password is wrong"));
    }
    if !acting_for.is_empty() && acting_for != name {
        return Err(Failure::told("nobody may act for somebody else"));
    }
    Ok(Step::Done(Bytes::new(), Proved { name: name.to_owned(), expires_ms: None }))
}
