//! TLS for the listeners that ask for it: certificates from PEM, and whom a client's certificate names.

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use secrecy::{ExposeSecret, SecretSlice};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;
use x509_parser::asn1_rs::ToDer;
use x509_parser::prelude::{AttributeTypeAndValue, FromDer, X509Certificate, X509Name};

/// What the brokers show to clients, and which clients' certificates they trust. The key is never shown.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    certificate: Vec<u8>,
    key: SecretSlice<u8>,
    client_ca: Option<Vec<u8>>,
    client_auth: ClientAuth,
}

/// Whether clients of an `SSL` listener show a certificate (`ssl.client.auth`). Those of `SASL_SSL` listeners are not
/// asked, as in Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    None,
    /// They may.
    Requested,
    /// They must.
    Required,
}

/// Why TLS cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The text holds no certificate.
    #[error("the {what} holds no certificate in PEM form")]
    NoCertificate {
        /// Which text.
        what: &'static str,
    },
    /// The text holds no key.
    #[error("the key file holds no private key in PEM form; a key behind a password must be decrypted first")]
    NoKey,
    /// The parts do not fit each other, or are of a kind that is not supported.
    #[error("the certificate and its key cannot be used together")]
    Unfit(#[from] rustls::Error),
    /// The clients' authority is not one.
    #[error("the certificate authority of clients cannot be used")]
    ClientCa(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl TlsConfig {
    /// A certificate (with those between it and its authority after it) and its key, as PEM.
    pub fn from_pem(certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        let key = SecretSlice::from(key.into());
        Self { certificate: certificate.into(), key, client_ca: None, client_auth: ClientAuth::None }
    }

    /// The same from files.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self::from_pem(read(certificate)?, read(key)?))
    }

    /// Trusts clients whose certificate comes from this authority (PEM), and makes every client of an `SSL` listener show
    /// one.
    pub fn client_ca(mut self, ca: impl Into<Vec<u8>>) -> Self {
        self.client_ca = Some(ca.into());
        self.client_auth = ClientAuth::Required;
        self
    }

    /// The same from a file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn client_ca_file(self, ca: &Path) -> Result<Self, TlsError> {
        Ok(self.client_ca(read(ca)?))
    }

    /// Whether clients show a certificate.
    pub fn client_auth(mut self, client_auth: ClientAuth) -> Self {
        self.client_auth = client_auth;
        self
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::File { path: path.to_owned(), source })
}

/// What makes a stream of bytes an encrypted one.
#[derive(Clone)]
pub(super) struct Acceptors {
    /// For `SSL`, where the certificate says who a client is.
    pub(super) certified: TlsAcceptor,
    /// For `SASL_SSL`.
    pub(super) uncertified: TlsAcceptor,
}

impl Acceptors {
    pub(super) fn new(config: &TlsConfig) -> Result<Self, TlsError> {
        let verifier = verifier(config)?;
        Ok(Self { certified: acceptor(config, verifier)?, uncertified: acceptor(config, None)? })
    }
}

fn acceptor(config: &TlsConfig, verifier: Option<Arc<dyn ClientCertVerifier>>) -> Result<TlsAcceptor, TlsError> {
    let chain = certificates(&config.certificate, "certificate file")?;
    let key = PrivateKeyDer::from_pem_slice(config.key.expose_secret()).map_err(|_| TlsError::NoKey)?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    Ok(TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key)?)))
}

fn verifier(config: &TlsConfig) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    if config.client_auth == ClientAuth::None {
        return Ok(None);
    }
    let mut roots = RootCertStore::empty();
    for certificate in certificates(config.client_ca.as_deref().unwrap_or_default(), "file of clients' authorities")? {
        roots.add(certificate)?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()));
    let builder = match config.client_auth {
        ClientAuth::Requested => builder.allow_unauthenticated(),
        ClientAuth::None | ClientAuth::Required => builder,
    };
    Ok(Some(builder.build().map_err(|error| TlsError::ClientCa(error.into()))?))
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or(TlsError::NoCertificate { what })
}

/// The distinguished name of a certificate's subject as Java's `X500Principal.getName` writes it (RFC 2253): the last
/// part first, and kinds of parts that RFC does not name by number, with their bytes.
pub(super) fn subject(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(name(certificate.subject()))
}

fn name(name: &X509Name<'_>) -> String {
    let parts = name.iter_rdn().map(|rdn| rdn.iter().map(part).collect::<Vec<_>>().join("+"));
    let mut parts: Vec<_> = parts.collect();
    parts.reverse();
    parts.join(",")
}

fn part(part: &AttributeTypeAndValue<'_>) -> String {
    let oid = part.attr_type().to_id_string();
    match (KEYWORDS.iter().find(|(known, _)| *known == oid), part.as_str()) {
        (Some((_, keyword)), Ok(value)) => format!("{keyword}={}", escaped(value)),
        _ => {
            let der = part.attr_value().to_der_vec().unwrap_or_default();
            let hex: String = der.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{oid}=#{hex}")
        }
    }
}

/// The kinds of parts RFC 2253 names.
const KEYWORDS: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

fn escaped(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut out = String::with_capacity(value.len());
    for (at, c) in value.chars().enumerate() {
        if matches!(c, ',' | '=' | '+' | '<' | '>' | '#' | ';' | '"' | '\\') || (c == ' ' && (at == 0 || at == last)) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
