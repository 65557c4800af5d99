//! How clients prove who they are, and what becomes of those who do not.

mod clients;

use base64::prelude::*;
use clients::{Answered, Kafka, body};
use rehearsal_mockbroker::cluster::Peer;
use rehearsal_mockbroker::config::{ClusterConfig, ListenerConfig, SaslMechanism, SecurityProtocol, UserConfig};
use rehearsal_mockbroker::error::ErrorCode;
use rehearsal_mockbroker::fault::Fault;
use rehearsal_mockbroker::output::{ConnId, Output};
use rehearsal_mockbroker::session::{Incoming, Session};
use rehearsal_mockbroker::state::nodes::{Endpoint, ListenerId, NodeId};
use rehearsal_mockbroker::state::security::Principal;
use rehearsal_mockbroker::wire::generated::alter_user_scram_credentials_request as alter_scram;
use rehearsal_mockbroker::wire::generated::alter_user_scram_credentials_response::AlterUserScramCredentialsResponse;
use rehearsal_mockbroker::wire::generated::api_versions_request::ApiVersionsRequest;
use rehearsal_mockbroker::wire::generated::describe_user_scram_credentials_request as describe_scram;
use rehearsal_mockbroker::wire::generated::describe_user_scram_credentials_response::DescribeUserScramCredentialsResponse;
use rehearsal_mockbroker::wire::generated::metadata_request::MetadataRequest;
use rehearsal_mockbroker::wire::generated::metadata_response::MetadataResponse;
use rehearsal_mockbroker::wire::generated::sasl_authenticate_request::SaslAuthenticateRequest;
use rehearsal_mockbroker::wire::generated::sasl_authenticate_response::SaslAuthenticateResponse;
use rehearsal_mockbroker::wire::generated::sasl_handshake_request::SaslHandshakeRequest;
use rehearsal_mockbroker::wire::generated::sasl_handshake_response::SaslHandshakeResponse;
use rehearsal_mockbroker::wire::{ApiKey, Request, Str};
use std::collections::BTreeMap;

body!(Metadata MetadataResponse);
body!(SaslHandshake SaslHandshakeResponse);
body!(SaslAuthenticate SaslAuthenticateResponse);
body!(AlterUserScramCredentials AlterUserScramCredentialsResponse);
body!(DescribeUserScramCredentials DescribeUserScramCredentialsResponse);

const SASL: ListenerId = ListenerId(1);

fn guarded(configs: &[(&str, &str)]) -> Kafka {
    let listener = |protocol, port| {
        let endpoint = Endpoint { host: "localhost".into(), port };
        ListenerConfig { endpoints: BTreeMap::from([(NodeId(1), endpoint)]), ..ListenerConfig::new(protocol) }
    };
    Kafka::of(ClusterConfig {
        listeners: vec![listener(SecurityProtocol::Plaintext, 9092), listener(SecurityProtocol::SaslPlaintext, 9093)],
        users: vec![
            UserConfig::new("alice", "wonderland"),
            UserConfig::new("bob", "builder").with_mechanism(SaslMechanism::ScramSha256),
        ],
        configs: configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..Default::default()
    })
}

trait AtTheDoor {
    fn knock(&mut self) -> ConnId;
    fn choose(&mut self, conn: ConnId, mechanism: &str) -> SaslHandshakeResponse;
    fn say(&mut self, conn: ConnId, token: impl AsRef<[u8]>) -> SaslAuthenticateResponse;
    fn log_in(&mut self, conn: ConnId, user: &str, password: &str) -> SaslAuthenticateResponse;
    fn is_closed_by(&mut self, conn: ConnId, request: impl Into<Request>) -> bool;
    fn is_inside(&mut self, conn: ConnId) -> bool;
}

impl AtTheDoor for Kafka {
    fn knock(&mut self) -> ConnId {
        let peer = Peer { host: "/127.0.0.1".into(), listener: SASL, certificate: None };
        self.cluster.connect_peer(NodeId(1), peer).expect("the broker runs")
    }

    fn choose(&mut self, conn: ConnId, mechanism: &str) -> SaslHandshakeResponse {
        self.ask(conn, 1, SaslHandshakeRequest { mechanism: Str::from(mechanism) })
    }

    fn say(&mut self, conn: ConnId, token: impl AsRef<[u8]>) -> SaslAuthenticateResponse {
        self.ask(conn, 2, SaslAuthenticateRequest { auth_bytes: token.as_ref().to_vec().into() })
    }

    fn log_in(&mut self, conn: ConnId, user: &str, password: &str) -> SaslAuthenticateResponse {
        self.choose(conn, "PLAIN");
        self.say(conn, format!("\0{user}\0{password}"))
    }

    fn is_closed_by(&mut self, conn: ConnId, request: impl Into<Request>) -> bool {
        let request = Incoming { version: 0, client_id: Str::default(), body: request.into(), frame_bytes: 0 };
        let outputs = self.cluster.handle(self.now, conn, request);
        outputs.iter().any(|output| matches!(output, Output::Close { conn: closed, .. } if *closed == conn))
    }

    fn is_inside(&mut self, conn: ConnId) -> bool {
        !self.is_closed_by(conn, MetadataRequest::default())
    }
}

fn code(response: &SaslAuthenticateResponse) -> ErrorCode {
    ErrorCode::from_code(response.error_code).expect("a code Kafka has")
}

#[test]
fn every_listener_tells_its_own_addresses() {
    let mut kafka = guarded(&[]);
    let port = |response: MetadataResponse| response.brokers[0].port;
    let open = kafka.connect();
    assert_eq!(port(kafka.ask(open, 9, MetadataRequest::default())), 9092);
    let conn = kafka.knock();
    kafka.log_in(conn, "alice", "wonderland");
    assert_eq!(port(kafka.ask(conn, 9, MetadataRequest::default())), 9093);
}

#[test]
fn nothing_but_the_handshake_is_heard_from_somebody_unknown() {
    let mut kafka = guarded(&[]);
    let conn = kafka.knock();
    assert!(kafka.is_closed_by(conn, MetadataRequest::default()));
    let conn = kafka.knock();
    assert!(!kafka.is_closed_by(conn, ApiVersionsRequest::default()));
    assert!(kafka.is_closed_by(conn, ApiVersionsRequest::default()), "the versions are told once");
    let conn = kafka.knock();
    assert!(kafka.is_closed_by(conn, SaslAuthenticateRequest::default()), "a token of no mechanism");
}

#[test]
fn who_knows_the_password_is_let_in() {
    let mut kafka = guarded(&[]);
    let conn = kafka.knock();
    let told = kafka.choose(conn, "PLAIN");
    assert_eq!(told.error_code, 0);
    assert_eq!(told.mechanisms, ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"].map(Str::from));
    let inside = kafka.say(conn, "\0alice\0wonderland");
    assert_eq!((code(&inside), inside.session_lifetime_ms), (ErrorCode::None, 0));
    assert!(kafka.is_inside(conn));
    let last = kafka.cluster.last_requests(1).next().expect("a request").principal.clone();
    assert_eq!(last, Some(Principal::user("alice")));
    let again = kafka.choose(conn, "PLAIN");
    assert_eq!(again.error_code, ErrorCode::IllegalSaslState.code(), "once is enough where sessions last for ever");
}

#[test]
fn who_does_not_is_told_so_and_shut_out() {
    for (user, password) in [("alice", "wrong"), ("nobody", "wonderland"), ("bob", "builder"), ("alice", ""), ("", "x")]
    {
        let mut kafka = guarded(&[]);
        let conn = kafka.knock();
        let refused = kafka.log_in(conn, user, password);
        assert_eq!(code(&refused), ErrorCode::SaslAuthenticationFailed, "{user}");
        assert!(refused.error_message.is_some());
        assert_eq!(kafka.cluster.view().connections, 0, "{user} is shut out");
    }
}

#[test]
fn a_mechanism_that_is_not_on_is_refused_with_those_that_are() {
    let mut kafka = guarded(&[("sasl.enabled.mechanisms", "SCRAM-SHA-512,PLAIN")]);
    let conn = kafka.knock();
    let refused = kafka.choose(conn, "OAUTHBEARER");
    assert_eq!(refused.error_code, ErrorCode::UnsupportedSaslMechanism.code());
    assert_eq!(refused.mechanisms, ["SCRAM-SHA-512", "PLAIN"].map(Str::from));
    assert_eq!(kafka.cluster.view().connections, 0);
}

#[test]
fn a_login_a_fault_refuses_leaves_the_client_outside() {
    let mut kafka = guarded(&[]);
    let fault = Fault::on(ApiKey::SaslAuthenticate).error(ErrorCode::SaslAuthenticationFailed);
    let fault = kafka.cluster.plan(fault).expect("it can happen");
    let conn = kafka.knock();
    assert_eq!(code(&kafka.log_in(conn, "alice", "wonderland")), ErrorCode::SaslAuthenticationFailed);
    assert_eq!((kafka.cluster.hits(fault), kafka.cluster.view().connections), (Some(1), 0));
    let conn = kafka.knock();
    assert_eq!(code(&kafka.log_in(conn, "alice", "wonderland")), ErrorCode::None, "once was planned");
}

#[test]
fn the_journal_keeps_no_password() {
    let mut kafka = guarded(&[]);
    let conn = kafka.knock();
    kafka.log_in(conn, "alice", "wonderland");
    let journal = kafka.cluster.last_requests(10).map(|request| format!("{request:?}")).collect::<String>();
    assert!(journal.contains("SaslAuthenticate"));
    assert!(!journal.contains("wonderland") && !journal.contains(&BASE64_STANDARD.encode("\0alice\0wonderland")));
    assert!(!format!("{:?}", kafka.cluster).contains("wonderland"));
}

#[test]
fn a_session_ends_unless_it_is_renewed_by_the_same_user_and_mechanism() {
    let mut kafka = guarded(&[("connections.max.reauth.ms", "10000")]);
    let (renewed, forgotten) = (kafka.knock(), kafka.knock());
    assert_eq!(kafka.log_in(renewed, "alice", "wonderland").session_lifetime_ms, 10_000);
    kafka.log_in(forgotten, "alice", "wonderland");
    kafka.advance(9_000);
    assert_eq!(code(&kafka.log_in(renewed, "alice", "wonderland")), ErrorCode::None);
    kafka.advance(1_001);
    assert!(kafka.is_inside(renewed));
    assert!(!kafka.is_inside(forgotten), "its session has expired");

    assert_eq!(kafka.choose(renewed, "SCRAM-SHA-256").error_code, 0);
    assert!(kafka.is_closed_by(renewed, SaslAuthenticateRequest::default()), "not by another mechanism");
}

#[test]
fn a_token_speaks_for_its_subject_as_long_as_it_lives() {
    let mut kafka = guarded(&[]);
    let token = |claims: &str| {
        let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        format!("n,,\u{1}auth=Bearer {}.{}.\u{1}\u{1}", part(r#"{"alg":"none"}"#), part(claims))
    };
    let conn = kafka.knock();
    kafka.choose(conn, "OAUTHBEARER");
    let inside = kafka.say(conn, token(r#"{"sub":"carol","exp":4}"#));
    assert_eq!((code(&inside), inside.session_lifetime_ms), (ErrorCode::None, 3_000), "it is second 1 now");
    assert!(kafka.is_inside(conn));

    let conn = kafka.knock();
    kafka.choose(conn, "OAUTHBEARER");
    let invalid = kafka.say(conn, token(r#"{"sub":"carol","exp":1}"#));
    assert_eq!((code(&invalid), &invalid.auth_bytes[..]), (ErrorCode::None, &br#"{"status":"invalid_token"}"#[..]));
    assert_eq!(code(&kafka.say(conn, [1])), ErrorCode::SaslAuthenticationFailed);
}

#[test]
fn a_user_an_administrator_makes_can_log_in_at_once() {
    let mut kafka = guarded(&[]);
    let admin = kafka.connect();
    // The salted password of the example in RFC 7677: "pencil".
    let salt = BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
    let mut salted = [0; 32];
    pbkdf2::pbkdf2_hmac::<sha2::Sha256>(b"pencil", &salt, 4_096, &mut salted);
    let upsertion = |name: &str, iterations| alter_scram::ScramCredentialUpsertion {
        name: Str::from(name),
        mechanism: 1,
        iterations,
        salt: salt.clone().into(),
        salted_password: salted.to_vec().into(),
    };
    let request = alter_scram::AlterUserScramCredentialsRequest {
        upsertions: vec![upsertion("user", 4_096), upsertion("hasty", 4_095)],
        ..Default::default()
    };
    let altered: AlterUserScramCredentialsResponse = kafka.ask(admin, 0, request);
    let codes: Vec<_> = altered.results.iter().map(|row| (row.user.as_str(), row.error_code)).collect();
    assert_eq!(codes, [("user", 0), ("hasty", ErrorCode::UnacceptableCredential.code())]);

    let conn = kafka.knock();
    kafka.choose(conn, "SCRAM-SHA-256");
    let question = kafka.say(conn, "n,,n=user,r=fyko");
    let question = String::from_utf8(question.auth_bytes.to_vec()).expect("text");
    assert!(question.starts_with("r=fyko") && question.ends_with("s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"), "{question}");
    let nonce = question.split(',').next().expect("a nonce");
    let unproved = format!("c=biws,{nonce}");
    let said = format!("n=user,r=fyko,{question},{unproved}");
    let proof = proof(&salted, &said);
    let inside = kafka.say(conn, format!("{unproved},p={proof}"));
    assert_eq!(code(&inside), ErrorCode::None);
    assert!(inside.auth_bytes.starts_with(b"v="));
    assert!(kafka.is_inside(conn));

    let users = vec![describe_scram::UserName { name: Str::from("user") }];
    let request = describe_scram::DescribeUserScramCredentialsRequest { users: Some(users) };
    let described: DescribeUserScramCredentialsResponse = kafka.ask(admin, 0, request);
    assert_eq!(described.results[0].credential_infos[0].iterations, 4_096);
}

fn proof(salted: &[u8], said: &str) -> String {
    use hmac::{Hmac, KeyInit, Mac};
    use sha2::{Digest, Sha256};
    let hmac = |key: &[u8], message: &[u8]| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key");
        mac.update(message);
        mac.finalize().into_bytes()
    };
    let client_key = hmac(salted, b"Client Key");
    let signature = hmac(&Sha256::digest(client_key), said.as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, signature)| key ^ signature).collect();
    BASE64_STANDARD.encode(proof)
}

#[test]
fn clients_from_before_kip_152_send_bare_tokens() {
    let mut kafka = guarded(&[]);
    let conn = kafka.knock();
    let mut session = Session::new(10_000);
    let mut exchange = |frame: &[u8]| {
        let mut bytes = (frame.len() as u32).to_be_bytes().to_vec();
        bytes.extend(frame);
        session.receive(&bytes);
        let request = session.next_request().expect("no violation").expect("a whole frame");
        let outputs = kafka.cluster.handle(kafka.now, conn, request);
        let mut sent = Vec::new();
        for output in outputs {
            match output {
                Output::Reply { response, frame, .. } => {
                    for chunk in session.answer(response.as_deref(), frame).expect("an answer") {
                        sent.extend_from_slice(&chunk);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        sent
    };
    let handshake = exchange(b"\0\x11\0\0\0\0\0\x01\0\x01x\0\x05PLAIN");
    assert_eq!(handshake[4..10], [0, 0, 0, 1, 0, 0], "correlation id 1, no error");
    assert_eq!(exchange(b"\0alice\0wonderland"), [0, 0, 0, 0], "an empty token, and nothing else");
    let versions = exchange(b"\0\x12\0\0\0\0\0\x02\0\x01x");
    assert_eq!(versions[4..10], [0, 0, 0, 2, 0, 0], "requests again");
}
