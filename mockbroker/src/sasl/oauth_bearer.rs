//! SASL OAUTHBEARER (RFC 7628) with tokens nobody has signed (`OAuthBearerSaslServer`,
//! `OAuthBearerUnsecuredValidatorCallbackHandler`).

use super::{Failure, Proved, Step};
use base64::prelude::*;
use bytes::Bytes;
use serde_json::Value;

/// How far the conversation has come.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// The client was told that its token is no good, and is to acknowledge that.
    refused: bool,
}

/// What a client is told whose token is no good.
const INVALID_TOKEN: &[u8] = br#"{"status":"invalid_token"}"#;
/// What the parts of a message stand between.
const MARK: char = '\u{1}';

impl Exchange {
    pub(super) fn step(&mut self, now_ms: i64, message: &[u8]) -> Result<Step, Failure> {
        if self.refused && message == [1] {
            return Err(Failure::told("the token is not valid"));
        }
        let text = std::str::from_utf8(message).map_err(|_| Failure::hidden("the message is no text"))?;
        let (acting_for, token) = parse(text).ok_or_else(|| Failure::hidden("the message is malformed"))?;
        let Some(proved) = read_token(token, now_ms) else {
            self.refused = true;
            return Ok(Step::More(Bytes::from_static(INVALID_TOKEN)));
        };
        if !acting_for.is_empty() && acting_for != proved.name {
            return Err(Failure::told("nobody may act for somebody else"));
        }
        Ok(Step::Done(Bytes::new(), proved))
    }
}

/// Whom the client acts for, and its token, out of `n,[a=…],^Aauth=Bearer …^A[key=value^A]…^A`.
fn parse(message: &str) -> Option<(&str, &str)> {
    let (acting_for, rest) = message.strip_prefix("n,")?.split_once(',')?;
    let acting_for = if acting_for.is_empty() { "" } else { acting_for.strip_prefix("a=")? };
    let pairs = rest.strip_prefix(MARK)?.strip_suffix(MARK)?;
    let auth = pairs.split_terminator(MARK).find_map(|pair| pair.strip_prefix("auth="))?;
    let (scheme, token) = auth.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some((acting_for, token.trim()))
}

/// Whom an unsecured token is about and when it expires; `None` when it is none, or has expired.
fn read_token(token: &str, now_ms: i64) -> Option<Proved> {
    let mut parts = token.split('.');
    let (header, claims) = (json(parts.next()?)?, json(parts.next()?)?);
    if parts.next() != Some("") || parts.next().is_some() || header.get("alg")? != "none" {
        return None;
    }
    let milliseconds = |claim: &Value| claim.as_f64().map(|seconds| (seconds * 1_000.0).round() as i64);
    let expires_ms = milliseconds(claims.get("exp")?)?;
    let issued_ms = match claims.get("iat") {
        Some(issued) => Some(milliseconds(issued)?),
        None => None,
    };
    let lives = now_ms < expires_ms && issued_ms.is_none_or(|issued| issued <= now_ms && issued < expires_ms);
    let name = claims.get("sub")?.as_str().filter(|name| !name.trim().is_empty())?;
    lives.then(|| Proved { name: name.to_owned(), expires_ms: Some(expires_ms) })
}

fn json(part: &str) -> Option<Value> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&bytes).ok().filter(Value::is_object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, claims: &str) -> String {
        let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.", part(header), part(claims))
    }

    #[test]
    fn a_token_speaks_for_its_subject_until_it_expires() {
        let token = token(r#"{"alg":"none"}"#, r#"{"sub":"alice","exp":100,"iat":1.5}"#);
        let proved = read_token(&token, 99_999).expect("it has not expired");
        assert_eq!((proved.name.as_str(), proved.expires_ms), ("alice", Some(100_000)));
        assert!(read_token(&token, 100_000).is_none(), "it has expired");
        assert!(read_token(&token, 1_000).is_none(), "it is from the future");
    }

    #[test]
    fn what_is_no_unsecured_token_is_refused() {
        let claims = r#"{"sub":"alice","exp":100}"#;
        let good = token(r#"{"alg":"none"}"#, claims);
        for bad in [
            token(r#"{"alg":"RS256"}"#, claims),
            token(r#"{"alg":"none"}"#, r#"{"exp":100}"#),
            token(r#"{"alg":"none"}"#, r#"{"sub":"alice"}"#),
            token(r#"{"alg":"none"}"#, "[]"),
            format!("{good}c2lnbmF0dXJl"),
            "nonsense".into(),
            String::new(),
        ] {
            assert!(read_token(&bad, 1).is_none(), "{bad}");
        }
        assert!(read_token(&good, 1).is_some());
    }
}
