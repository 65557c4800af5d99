//! Listeners that encrypt, as clients see them over real sockets.

#![allow(clippy::disallowed_methods, reason = "the driver is tested over real sockets and in real time")]

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rehearsal_mockbroker::config::SecurityProtocol::{Plaintext, SaslSsl, Ssl};
use rehearsal_mockbroker::fault::Requests;
use rehearsal_mockbroker::server::{ClientAuth, StartError, TlsConfig};
use rehearsal_mockbroker::state::security::Principal;
use rehearsal_mockbroker::testing::{Builder, MockCluster};
use rehearsal_mockbroker::wire::ApiKey;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// ApiVersions version 0, correlation id 7, no client id.
const API_VERSIONS: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];

/// A certificate and its key, as PEM.
type Identity = (String, String);

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate"))
    }

    fn identify(&self, parts: &[(DnType, &str)]) -> Identity {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind.clone(), *value);
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    fn broker(&self) -> TlsConfig {
        let (certificate, key) = self.identify(&[(DnType::CommonName, "broker")]);
        TlsConfig::from_pem(certificate, key)
    }
}

fn connect(
    authority: &Authority,
    address: &str,
    identity: Option<&Identity>,
) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(authority.0.der().to_vec())).expect("an authority");
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("versions").with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<_, _>>().expect("PEM");
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
            builder.with_client_auth_cert(chain, key).expect("a certificate and its key")
        }
    };
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    let tls = ClientConnection::new(Arc::new(config), name).expect("a client");
    let stream = TcpStream::connect(address).expect("the broker listens");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    StreamOwned::new(tls, stream)
}

fn ask(stream: &mut (impl Read + Write)) -> std::io::Result<Vec<u8>> {
    stream.write_all(&API_VERSIONS)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut body = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut body)?;
    Ok(body)
}

fn start(builder: Builder) -> (MockCluster, String) {
    let kafka = builder.start().expect("free ports");
    let address = kafka.bootstrap_servers_of("SSL").expect("a listener");
    (kafka, address)
}

fn who_asked(kafka: &MockCluster) -> Option<Principal> {
    let requests = kafka.requests(Requests::of(ApiKey::ApiVersions));
    requests.last().expect("a request").principal.clone()
}

#[test]
fn one_cluster_has_listeners_that_encrypt_and_listeners_that_do_not() {
    let authority = Authority::new();
    let builder = MockCluster::builder().listeners([Plaintext, Ssl, SaslSsl]).tls(authority.broker());
    let (kafka, encrypted) = start(builder);
    let answer = ask(&mut connect(&authority, &encrypted, None)).expect("an answer");
    assert_eq!(answer[..6], [0, 0, 0, 7, 0, 0], "correlation id 7, no error");
    assert_eq!(who_asked(&kafka), Some(Principal::anonymous()));
    let login = kafka.bootstrap_servers_of("SASL_SSL").expect("a listener");
    ask(&mut connect(&authority, &login, None)).expect("an answer");
    assert_eq!(who_asked(&kafka), None, "nobody has logged in");
    ask(&mut TcpStream::connect(kafka.bootstrap_servers()).expect("it listens")).expect("an answer in the clear");
    let mut clear = TcpStream::connect(&encrypted).expect("it listens");
    clear.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    assert!(ask(&mut clear).is_err(), "no answer in the clear where it is encrypted");
}

#[test]
fn a_client_is_who_its_certificate_names_as_java_writes_it() {
    let authority = Authority::new();
    let tls = authority.broker().client_ca(authority.0.pem());
    let (kafka, address) = start(MockCluster::builder().listeners([Ssl]).tls(tls));
    let email = DnType::CustomDnType(vec![1, 2, 840, 113_549, 1, 9, 1]);
    let identity = authority.identify(&[
        (DnType::CountryName, "DE"),
        (DnType::OrganizationName, "Orders, Inc."),
        (email, "a@b"),
        (DnType::CommonName, "alice"),
    ]);
    ask(&mut connect(&authority, &address, Some(&identity))).expect("an answer");
    let name = r"CN=alice,1.2.840.113549.1.9.1=#0c03614062,O=Orders\, Inc.,C=DE";
    assert_eq!(who_asked(&kafka), Some(Principal::user(name)));
}

#[test]
fn whom_nobody_vouches_for_is_not_let_in_where_certificates_are_required() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let tls = authority.broker().client_ca(authority.0.pem());
    let (_kafka, address) = start(MockCluster::builder().listeners([Ssl]).tls(tls.clone()));
    assert!(ask(&mut connect(&authority, &address, None)).is_err(), "without a certificate");
    let identity = stranger.identify(&[(DnType::CommonName, "mallory")]);
    assert!(ask(&mut connect(&authority, &address, Some(&identity))).is_err(), "with a stranger's");

    let asked = tls.client_auth(ClientAuth::Requested);
    let (kafka, address) = start(MockCluster::builder().listeners([Ssl]).tls(asked));
    ask(&mut connect(&authority, &address, None)).expect("an answer");
    assert_eq!(who_asked(&kafka), Some(Principal::anonymous()));
}

#[test]
fn what_cannot_be_encrypted_does_not_start_and_says_why() {
    let error = |builder: Builder| builder.start().expect_err("it cannot");
    let none = error(MockCluster::builder().listeners([Ssl]));
    assert!(matches!(none, StartError::NoCertificate { .. }), "{none}");
    let (certificate, key) = Authority::new().identify(&[(DnType::CommonName, "broker")]);
    let nonsense = error(MockCluster::builder().listeners([Ssl]).tls(TlsConfig::from_pem("nonsense", key)));
    assert!(matches!(nonsense, StartError::Tls(_)), "{nonsense}");
    let (_, another) = Authority::new().identify(&[(DnType::CommonName, "broker")]);
    let unfit = TlsConfig::from_pem(certificate, another.clone());
    assert!(!format!("{unfit:?}").contains("PRIVATE"), "keys are not shown");
    assert!(matches!(error(MockCluster::builder().listeners([Ssl]).tls(unfit)), StartError::Tls(_)));
}
