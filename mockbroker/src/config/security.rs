//! Who may connect, by which door, and how they prove who they are.

use super::ConfigError;
use crate::state::nodes::{Endpoint, NodeId};
use secrecy::{ExposeSecret, SecretString};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// What a listener asks of those who connect (`listener.security.protocol.map`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecurityProtocol {
    /// Nothing.
    Plaintext,
    /// TLS; with a client's certificate, whoever it names.
    Ssl,
    /// A name and its proof, in the clear.
    SaslPlaintext,
    /// A name and its proof, inside TLS.
    SaslSsl,
}

impl SecurityProtocol {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Plaintext, Self::Ssl, Self::SaslPlaintext, Self::SaslSsl];

    /// As Kafka spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }

    /// Whether connections are encrypted.
    pub fn uses_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }

    /// Whether clients log in.
    pub fn uses_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }
}

impl fmt::Display for SecurityProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SecurityProtocol {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|protocol| protocol.name().eq_ignore_ascii_case(name));
        found.ok_or_else(|| {
            format!("'{name}' is no security protocol; there are PLAINTEXT, SSL, SASL_PLAINTEXT and SASL_SSL")
        })
    }
}

/// A listener to be made, on every broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerConfig {
    /// Its name, unique in the cluster.
    pub name: String,
    /// What it asks.
    pub protocol: SecurityProtocol,
    /// What clients are told of each broker; of one left out, the broker's own host and port. A driver that picks free
    /// ports fills this in.
    pub endpoints: BTreeMap<NodeId, Endpoint>,
}

impl ListenerConfig {
    /// A listener named after its protocol, as Kafka's usual ones are.
    pub fn new(protocol: SecurityProtocol) -> Self {
        Self { name: protocol.name().to_owned(), protocol, endpoints: BTreeMap::new() }
    }
}

/// How a client proves by SASL who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SaslMechanism {
    /// By its password (RFC 4616).
    Plain,
    /// By knowing its password, without saying it (RFC 5802, RFC 7677).
    ScramSha256,
    /// The same with a longer hash.
    ScramSha512,
    /// By a token (RFC 7628), unsigned as `OAuthBearerUnsecuredValidatorCallbackHandler` takes it.
    OauthBearer,
}

impl SaslMechanism {
    /// All of them, in the order in which clients are told.
    pub const ALL: [Self; 4] = [Self::Plain, Self::ScramSha256, Self::ScramSha512, Self::OauthBearer];

    /// As it is registered.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OauthBearer => "OAUTHBEARER",
        }
    }
}

impl fmt::Display for SaslMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SaslMechanism {
    type Err = ConfigError;

    fn from_str(name: &str) -> Result<Self, ConfigError> {
        let found = Self::ALL.into_iter().find(|mechanism| mechanism.name() == name);
        found.ok_or_else(|| ConfigError::Mechanism(name.to_owned()))
    }
}

/// Somebody who can log in. The password is never shown.
#[derive(Debug, Clone)]
pub struct UserConfig {
    /// The name, which is the principal's too: `alice` is `User:alice`.
    pub name: String,
    /// The password.
    pub password: SecretString,
    /// By which mechanism the user can log in; `None` is every one that works with passwords.
    pub mechanism: Option<SaslMechanism>,
}

impl UserConfig {
    /// A user of every mechanism that works with passwords.
    pub fn new(name: impl Into<String>, password: impl Into<String>) -> Self {
        Self { name: name.into(), password: SecretString::from(password.into()), mechanism: None }
    }

    /// Only by this mechanism.
    pub fn with_mechanism(mut self, mechanism: SaslMechanism) -> Self {
        self.mechanism = Some(mechanism);
        self
    }

    pub(crate) fn may_use(&self, mechanism: SaslMechanism) -> bool {
        self.mechanism.is_none_or(|only| only == mechanism)
    }
}

pub(super) fn check(listeners: &[ListenerConfig], users: &[UserConfig]) -> Result<(), ConfigError> {
    if listeners.is_empty() {
        return Err(ConfigError::NoListeners);
    }
    let mut names = BTreeSet::new();
    if let Some(twice) = listeners.iter().find(|listener| !names.insert(&listener.name)) {
        return Err(ConfigError::ListenerTwice(twice.name.clone()));
    }
    match users.iter().any(|user| user.name.is_empty() || user.password.expose_secret().is_empty()) {
        true => Err(ConfigError::User),
        false => Ok(()),
    }
}
