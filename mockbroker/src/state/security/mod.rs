//! Who may come in and what they may do: users, their credentials, the authoriser.

pub mod acls;
pub mod scram;

use crate::config::{ClusterConfig, ConfigError, SaslMechanism};
use acls::Authorizer;
use rand::Rng;
use scram::{ScramCredential, ScramHash};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use subtle::ConstantTimeEq;

/// Who somebody has proved to be, e.g. `User:alice`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Principal {
    /// `User`, unless an ACL says otherwise.
    pub kind: String,
    /// The name.
    pub name: String,
}

impl Principal {
    /// A user.
    pub fn user(name: impl Into<String>) -> Self {
        Self { kind: "User".into(), name: name.into() }
    }

    /// Whoever has not said who they are.
    pub fn anonymous() -> Self {
        Self::user("ANONYMOUS")
    }

    /// `User:alice`; `None` where there is no colon (`SecurityUtils.parseKafkaPrincipal`).
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once(':')?;
        Some(Self { kind: kind.into(), name: name.into() })
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.name)
    }
}

/// What the cluster knows of those who use it.
#[derive(Debug)]
pub struct Security {
    /// The mechanisms clients may log in by, in the order in which they are told (`sasl.enabled.mechanisms`).
    pub mechanisms: Vec<SaslMechanism>,
    /// Says who may do what; without one, everybody may do everything.
    pub authorizer: Option<Authorizer>,
    passwords: BTreeMap<String, SecretString>,
    scram: BTreeMap<(ScramHash, String), ScramCredential>,
}

/// The config that names the mechanisms. Kafka's own default is GSSAPI alone, which is not to be had here; unset, all
/// mechanisms we know are on.
const MECHANISMS: &str = "sasl.enabled.mechanisms";

impl Security {
    /// What a cluster configured so begins with. The salts of its users' credentials come from `rng`.
    pub fn new(config: &ClusterConfig, rng: &mut impl Rng) -> Result<Self, ConfigError> {
        let mut security = Self {
            mechanisms: match config.configs.get(MECHANISMS) {
                Some(names) => names.split(',').map(|name| name.trim().parse()).collect::<Result<_, _>>()?,
                None => SaslMechanism::ALL.to_vec(),
            },
            authorizer: Authorizer::of(&config.configs)?,
            passwords: BTreeMap::new(),
            scram: BTreeMap::new(),
        };
        for user in &config.users {
            if user.may_use(SaslMechanism::Plain) {
                security.passwords.insert(user.name.clone(), user.password.clone());
            }
            for hash in ScramHash::ALL.into_iter().filter(|hash| user.may_use(hash.mechanism())) {
                let mut salt = vec![0; SALT_BYTES];
                rng.fill(&mut salt[..]);
                let credential = ScramCredential::of_password(hash, user.password.clone(), salt);
                security.scram.insert((hash, user.name.clone()), credential);
            }
        }
        Ok(security)
    }

    /// Whether this is the user's password.
    pub fn is_password(&self, user: &str, password: &str) -> bool {
        let known = self.passwords.get(user);
        known.is_some_and(|known| known.expose_secret().as_bytes().ct_eq(password.as_bytes()).into())
    }

    /// The user's SCRAM credential.
    pub fn scram(&self, hash: ScramHash, user: &str) -> Option<&ScramCredential> {
        self.scram.get(&(hash, user.to_owned()))
    }

    /// Everybody who has SCRAM credentials, by hash and name.
    pub fn scram_users(&self) -> impl Iterator<Item = &str> {
        self.scram.keys().map(|(_, user)| user.as_str())
    }

    /// Gives a user a SCRAM credential.
    pub fn set_scram(&mut self, hash: ScramHash, user: &str, credential: ScramCredential) {
        self.scram.insert((hash, user.to_owned()), credential);
    }

    /// Takes a SCRAM credential away; `false` when there is none.
    pub fn remove_scram(&mut self, hash: ScramHash, user: &str) -> bool {
        self.scram.remove(&(hash, user.to_owned())).is_some()
    }
}

/// Long enough that no two users share one.
const SALT_BYTES: usize = 16;
