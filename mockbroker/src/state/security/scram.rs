//! What a server keeps to know a password by, and the sums of RFC 5802.

use crate::config::SaslMechanism;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::digest::Digest;
use sha2::{Sha256, Sha512};
use std::fmt;
use std::sync::OnceLock;
use subtle::ConstantTimeEq;

/// The hash a SCRAM mechanism is built on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScramHash {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// How often the password of a user from the configuration is hashed: the least Kafka takes.
pub const ITERATIONS_MIN: u32 = 4_096;
/// How often a password may be hashed at most (`ScramControlManager`).
pub const ITERATIONS_MAX: u32 = 16_384;

impl ScramHash {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// The mechanism that uses it.
    pub fn mechanism(self) -> SaslMechanism {
        match self {
            Self::Sha256 => SaslMechanism::ScramSha256,
            Self::Sha512 => SaslMechanism::ScramSha512,
        }
    }

    /// As administrators' requests number it (`ScramMechanism`).
    pub fn code(self) -> i8 {
        match self {
            Self::Sha256 => 1,
            Self::Sha512 => 2,
        }
    }

    /// The hash of this number.
    pub fn from_code(code: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|hash| hash.code() == code)
    }

    fn hmac(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        fn with<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
            let mut mac = <M as KeyInit>::new_from_slice(key).expect("a key of any length will do");
            mac.update(message);
            mac.finalize().into_bytes().to_vec()
        }
        match self {
            Self::Sha256 => with::<Hmac<Sha256>>(key, message),
            Self::Sha512 => with::<Hmac<Sha512>>(key, message),
        }
    }

    fn hash(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(message).to_vec(),
            Self::Sha512 => Sha512::digest(message).to_vec(),
        }
    }

    fn salted(self, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        match self {
            Self::Sha256 => {
                let mut out = vec![0; 32];
                pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut out);
                out
            }
            Self::Sha512 => {
                let mut out = vec![0; 64];
                pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, iterations, &mut out);
                out
            }
        }
    }
}

/// What is kept of a password. Neither it nor the keys are ever shown.
#[derive(Clone)]
pub struct ScramCredential {
    hash: ScramHash,
    /// What the password was salted with.
    pub salt: Vec<u8>,
    /// How often it was hashed.
    pub iterations: u32,
    origin: Origin,
    keys: OnceLock<Keys>,
}

#[derive(Clone)]
enum Origin {
    /// A password from the configuration. It is hashed when it is first needed, so that a cluster starts at once.
    Password(SecretString),
    /// An administrator's client has hashed it.
    Salted(Vec<u8>),
}

#[derive(Clone)]
struct Keys {
    stored: Vec<u8>,
    server: Vec<u8>,
}

impl ScramCredential {
    /// The credential of a password. Kafka does not prepare passwords either (RFC 4013 asks for it).
    pub fn of_password(hash: ScramHash, password: SecretString, salt: Vec<u8>) -> Self {
        Self { hash, salt, iterations: ITERATIONS_MIN, origin: Origin::Password(password), keys: OnceLock::new() }
    }

    /// The credential of a password that was salted elsewhere.
    pub fn of_salted(hash: ScramHash, salted: Vec<u8>, salt: Vec<u8>, iterations: u32) -> Self {
        Self { hash, salt, iterations, origin: Origin::Salted(salted), keys: OnceLock::new() }
    }

    /// Whether the proof fits what was said, and if so the server's own proof.
    pub fn verify(&self, said: &[u8], proof: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keys.get_or_init(|| self.derive());
        let signature = self.hash.hmac(&keys.stored, said);
        if proof.len() != signature.len() {
            return None;
        }
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(proof, signature)| proof ^ signature).collect();
        let fits: bool = self.hash.hash(&client_key).ct_eq(&keys.stored).into();
        fits.then(|| self.hash.hmac(&keys.server, said))
    }

    fn derive(&self) -> Keys {
        let salted = match &self.origin {
            Origin::Password(password) => {
                &self.hash.salted(password.expose_secret().as_bytes(), &self.salt, self.iterations)
            }
            Origin::Salted(salted) => salted,
        };
        let stored = self.hash.hash(&self.hash.hmac(salted, b"Client Key"));
        Keys { stored, server: self.hash.hmac(salted, b"Server Key") }
    }
}

impl fmt::Debug for ScramCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramCredential").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::prelude::*;

    /// The example of RFC 7677, section 3.
    #[test]
    fn the_example_of_the_standard_is_verified() {
        let salt = BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        let credential = ScramCredential::of_password(ScramHash::Sha256, SecretString::from("pencil"), salt);
        let said = "n=user,r=rOprNGfwEbeRWgbNEkqO,\
                    r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
                    c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let proof = BASE64_STANDARD.decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=").expect("base64");
        let server = credential.verify(said.as_bytes(), &proof).expect("the proof fits");
        assert_eq!(BASE64_STANDARD.encode(server), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        assert_eq!(credential.verify(b"something else", &proof), None);
        assert!(!format!("{credential:?}").contains("key"));
    }
}
