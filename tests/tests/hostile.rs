//! Hostile bytes over a real socket: the connection they came on closes, or answers as Kafka does; all others go on.

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, MetadataRequest, ProduceRequest};
use kafka_protocol::protocol::StrBytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tests::raw::{Connection, NoAnswer, frame_of};
use tests::target::Target;

const UNSUPPORTED_VERSION: i16 = 35;

/// A broker, and a client that connected before any harm was done.
struct Scene {
    target: Target,
    bystander: Connection,
}

impl Scene {
    fn new() -> Self {
        let target = Target::ours(1).expect("a broker to test");
        let bystander = Connection::open(target.first_node(), "bystander").expect("the broker listens");
        Self { target, bystander }
    }

    fn connect(&self) -> Connection {
        Connection::open(self.target.first_node(), "hostile").expect("the broker goes on listening")
    }

    /// Sends `bytes` on a connection of their own and says what came of it.
    fn answer_to(&self, bytes: &[u8]) -> Result<usize, NoAnswer> {
        let mut hostile = self.connect();
        // The broker may close before it has read all; that is an answer too.
        let _ = hostile.send_bytes(bytes);
        hostile.receive_frame().map(|frame| frame.len())
    }

    /// The bystander is served, and so is whoever connects now.
    fn others_go_on(&mut self) {
        let served = self.bystander.call(1, &MetadataRequest::default().with_topics(None));
        assert!(served.is_ok(), "a connection that did no harm: {served:?}");
        let served = self.connect().call(0, &ApiVersionsRequest::default());
        assert!(served.is_ok(), "a new connection: {served:?}");
    }
}

fn frame(body: &[u8]) -> Vec<u8> {
    let mut frame = BytesMut::new();
    frame.put_i32(i32::try_from(body.len()).expect("a short body"));
    frame.put(body);
    frame.to_vec()
}

/// The start of every request: api, version, correlation id, client id.
fn header(api_key: i16, version: i16) -> BytesMut {
    let mut header = BytesMut::new();
    header.put_i16(api_key);
    header.put_i16(version);
    header.put_i32(7);
    header.put_i16(4);
    header.put(&b"test"[..]);
    header
}

#[test]
fn a_frame_of_a_length_nobody_sends_closes_its_connection() {
    let mut scene = Scene::new();
    for length in [i32::MAX, i32::MAX - 1, 1 << 30, -1, i32::MIN] {
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.extend(header(3, 1));
        assert_eq!(scene.answer_to(&bytes), Err(NoAnswer::Closed), "a frame of {length} bytes");
        scene.others_go_on();
    }
}

#[test]
fn a_frame_too_short_for_a_header_closes_its_connection() {
    let mut scene = Scene::new();
    let whole = header(3, 1);
    for length in 0..8 {
        assert_eq!(scene.answer_to(&frame(&whole[..length])), Err(NoAnswer::Closed), "a frame of {length} bytes");
    }
    scene.others_go_on();
}

#[test]
fn an_unknown_api_closes_its_connection() {
    let mut scene = Scene::new();
    for api_key in [-1, 4, 5, 6, 7, 52, 56, 500, 9_999, i16::MAX, i16::MIN] {
        assert_eq!(scene.answer_to(&frame(&header(api_key, 0))), Err(NoAnswer::Closed), "api {api_key}");
    }
    scene.others_go_on();
}

#[test]
fn an_unknown_version_closes_its_connection() {
    let mut scene = Scene::new();
    for api in ApiKey::iter().filter(|api| *api != ApiKey::ApiVersions) {
        for version in [-1, 99, i16::MAX] {
            let bytes = frame(&header(api as i16, version));
            assert_eq!(scene.answer_to(&bytes), Err(NoAnswer::Closed), "{api:?} at version {version}");
        }
    }
    scene.others_go_on();
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_at_version_0() {
    let mut scene = Scene::new();
    for version in [5, 99, i16::MAX, -1] {
        let mut newer = scene.connect();
        let mut bytes = frame_of("newer", 7, 4, &ApiVersionsRequest::default()).expect("a frame").to_vec();
        bytes[6..8].copy_from_slice(&i16::to_be_bytes(version));
        newer.send_bytes(&bytes).expect("the broker reads");

        let answer = newer.receive_frame().unwrap_or_else(|why| panic!("version {version}: {why}"));

        assert_eq!(answer[..4], 7_i32.to_be_bytes(), "the correlation id, for version {version}");
        assert_eq!(answer[4..6], UNSUPPORTED_VERSION.to_be_bytes(), "for version {version}");
        let served = newer.call(0, &ApiVersionsRequest::default());
        assert!(served.is_ok(), "the connection goes on at a version both know: {served:?}");
    }
    scene.others_go_on();
}

#[test]
fn a_body_cut_short_closes_its_connection() {
    let mut scene = Scene::new();
    let rows = PartitionProduceData::default().with_records(Some(vec![7_u8; 40].into()));
    let topic = TopicProduceData::default()
        .with_name(StrBytes::from_static_str("orders").into())
        .with_partition_data(vec![rows]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(1000).with_topic_data(vec![topic]);
    for version in [3, 9] {
        let whole = frame_of("test", 7, version, &request).expect("a frame");
        let header = 4 + header(0, version).len();
        for end in header..whole.len() - 1 {
            let cut = frame(&whole[4..end]);
            assert_eq!(scene.answer_to(&cut), Err(NoAnswer::Closed), "version {version}, cut at {end}");
        }
    }
    scene.others_go_on();
}

#[test]
fn a_count_beyond_the_frame_closes_its_connection() {
    let mut scene = Scene::new();
    for count in [i32::MAX, 1 << 24, -2] {
        let mut body = header(3, 1);
        body.put_i32(count);
        assert_eq!(scene.answer_to(&frame(&body)), Err(NoAnswer::Closed), "an array of {count} topics");
    }
    let mut compact = header(3, 9);
    compact.put(&[0, 0xff, 0xff, 0xff, 0xff, 0x0f][..]);
    assert_eq!(scene.answer_to(&frame(&compact)), Err(NoAnswer::Closed), "a compact array of 4 Gi topics");
    scene.others_go_on();
}

#[test]
fn a_connection_that_never_ends_its_frame_holds_up_nobody() {
    let mut scene = Scene::new();
    let mut slow = scene.connect();
    slow.send_bytes(&1000_i32.to_be_bytes()).expect("the broker reads");
    slow.send_bytes(&header(3, 1)).expect("the broker reads");
    scene.others_go_on();

    slow.finish_sending();

    assert_eq!(slow.receive_frame().map(|frame| frame.len()), Err(NoAnswer::Closed));
    scene.others_go_on();
}

#[test]
fn what_was_asked_before_the_harm_is_answered() {
    let scene = Scene::new();
    let mut client = scene.connect();
    let good = client.send(1, &MetadataRequest::default().with_topics(None)).expect("the broker reads");
    client.send_bytes(&frame(&header(999, 0))).expect("the broker reads");

    assert!(client.receive(good).is_ok());
    assert_eq!(client.receive_frame().map(|frame| frame.len()), Err(NoAnswer::Closed));
}

#[test]
fn other_protocols_are_turned_away() {
    let mut scene = Scene::new();
    let tls_hello = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
    for greeting in [&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], b"SSH-2.0-OpenSSH_9.2\r\n", &tls_hello] {
        assert_eq!(scene.answer_to(greeting), Err(NoAnswer::Closed), "{}", greeting.escape_ascii());
    }
    scene.others_go_on();
}

#[test]
fn random_bytes_never_stop_the_broker() {
    let mut scene = Scene::new();
    // A connection apiece over a real socket: some hundreds are enough here; the session's own proptest does the rest.
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    let request = (0_i16..100, -1_i16..20, proptest::collection::vec(any::<u8>(), 0..200));
    let address = scene.target.first_node().to_owned();
    let played = runner.run(&request, |(api_key, version, body)| {
        let mut bytes = header(api_key, version);
        bytes.put(&body[..]);
        let mut socket = TcpStream::connect(&address).expect("the broker goes on listening");
        std::io::Write::write_all(&mut socket, &frame(&bytes)).expect("the broker reads");
        socket.shutdown(std::net::Shutdown::Write).expect("the socket is open");
        socket.set_read_timeout(Some(Duration::from_secs(15))).expect("a time limit");
        // Whatever comes, the connection ends: by an answer and our closing, or at once.
        let mut answer = Vec::new();
        match socket.read_to_end(&mut answer) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(()),
            Err(error) => Err(TestCaseError::fail(format!("api {api_key} version {version}: {error}"))),
        }
    });
    scene.others_go_on();
    played.expect("every connection ends");
}
