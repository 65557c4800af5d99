//! A broker among strangers: whatever arrives on one connection, nothing panics, every answer can be written in the
//! version asked for, and an honest client beside it goes on.

#[path = "codec/arbitrary.rs"]
mod arbitrary;

use bytes::Bytes;
use proptest::prelude::*;
use rehearsal_mockbroker::cluster::Cluster;
use rehearsal_mockbroker::config::{ClusterConfig, TopicConfig};
use rehearsal_mockbroker::output::{ConnId, Frame, Output};
use rehearsal_mockbroker::session::Session;
use rehearsal_mockbroker::state::nodes::NodeId;
use rehearsal_mockbroker::time::Time;
use rehearsal_mockbroker::wire::generated::request_header::RequestHeader;
use rehearsal_mockbroker::wire::{ApiKey, Message, Request, Str, Writer, request_header_version};
use std::time::Duration;

const NODE: NodeId = NodeId(1);

/// A cluster with two connections to one broker.
struct Broker {
    cluster: Cluster,
    now: Time,
    honest: Peer,
    stranger: Peer,
}

struct Peer {
    conn: ConnId,
    session: Session,
}

impl Broker {
    fn new() -> Self {
        let mut config = ClusterConfig::with_brokers(1);
        config.topics.push(TopicConfig::new("orders", 2));
        let mut cluster = Cluster::new(&config).expect("a plain cluster");
        let honest = Peer::connect(&mut cluster);
        let stranger = Peer::connect(&mut cluster);
        Self { cluster, now: Time::from_millis(1_700_000_000_000), honest, stranger }
    }

    /// Lets the stranger send bytes; a violation gives it a new connection.
    fn stranger_sends(&mut self, bytes: &[u8]) {
        self.stranger.session.receive(bytes);
        loop {
            match self.stranger.session.next_request() {
                Ok(None) => break,
                Ok(Some(request)) => {
                    let outputs = self.cluster.handle(self.now, self.stranger.conn, request);
                    self.carry_out(outputs);
                }
                Err(_) => {
                    let outputs = self.cluster.disconnect(self.now, self.stranger.conn);
                    self.carry_out(outputs);
                    self.stranger = Peer::connect(&mut self.cluster);
                    break;
                }
            }
        }
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
        let outputs = self.cluster.wake(self.now);
        self.carry_out(outputs);
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Reply { conn, response, frame } if conn == self.stranger.conn => {
                    self.stranger.session.answer(response.as_deref(), frame).expect("every answer has a form");
                }
                Output::Close { conn, .. } if conn == self.stranger.conn => {
                    self.stranger = Peer::connect(&mut self.cluster);
                }
                Output::Reply { .. } | Output::Close { .. } => {}
                Output::StopListening(_) | Output::Listen(_) => panic!("no client can stop a broker"),
            }
        }
    }

    /// The honest client asks for the versions, and is answered at once.
    fn honest_is_served(&mut self) {
        self.honest.session.receive(&framed(&Request::ApiVersions(Default::default()), 0, 1));
        let request = self.honest.session.next_request().expect("honest bytes").expect("a whole request");
        let outputs = self.cluster.handle(self.now, self.honest.conn, request);
        let answered = outputs.iter().find_map(|output| match output {
            Output::Reply { conn, response, .. } if *conn == self.honest.conn => response.as_deref(),
            _ => None,
        });
        let chunks = self.honest.session.answer(answered, Frame::Whole).expect("an answer");
        assert!(!chunks.is_empty(), "the honest client is answered");
    }
}

impl Peer {
    fn connect(cluster: &mut Cluster) -> Self {
        let conn = cluster.connect(NODE, "/127.0.0.1").expect("the broker runs");
        Self { conn, session: cluster.session() }
    }
}

/// A request as it goes to the socket.
fn framed(request: &Request, version: i16, correlation_id: i32) -> Vec<u8> {
    let api = request.api_key();
    let header = RequestHeader {
        request_api_key: api.code(),
        request_api_version: version,
        correlation_id,
        client_id: Some(Str::from("stranger")),
    };
    let mut writer = Writer::framed();
    header.encode(&mut writer, request_header_version(api, version)).expect("a header");
    request.encode(version, &mut writer).expect("a filled request can be encoded");
    writer.finish().expect("a small frame").concat()
}

fn arbitrary_request(api: ApiKey, version: i16, seed: u64) -> Vec<u8> {
    let mut request = Request::default_of(api);
    arbitrary::fill(&mut request, version, seed);
    framed(&request, version, 7)
}

fn api_and_version() -> impl Strategy<Value = (ApiKey, i16)> {
    prop::sample::select(ApiKey::ALL).prop_flat_map(|api| (Just(api), api.request_versions()))
}

#[test]
fn every_api_in_every_version_is_answered_or_closed() {
    let mut broker = Broker::new();
    for &api in ApiKey::ALL {
        for version in api.request_versions() {
            for seed in 0..20 {
                broker.stranger_sends(&arbitrary_request(api, version, seed));
                broker.pass(Duration::from_secs(1));
            }
        }
    }
    broker.honest_is_served();
}

proptest! {
    #[test]
    fn mutated_frames_hurt_nobody_else(
        requests in prop::collection::vec((api_and_version(), any::<u64>(), any::<prop::sample::Index>(), any::<u32>(), any::<bool>()), 1..12),
    ) {
        let mut broker = Broker::new();
        for ((api, version), seed, at, lie, cut) in requests {
            let mut frame = arbitrary_request(api, version, seed);
            let at = at.index(frame.len());
            if cut {
                frame.truncate(at);
                // The length is corrected, so that the body is what is short.
                let length = (frame.len().saturating_sub(4) as u32).to_be_bytes();
                let head = frame.len().min(4);
                frame[..head].copy_from_slice(&length[..head]);
            } else {
                let end = (at + 4).min(frame.len());
                frame[at..end].copy_from_slice(&lie.to_be_bytes()[..end - at]);
            }
            broker.stranger_sends(&frame);
            broker.honest_is_served();
            broker.pass(Duration::from_millis(u64::from(lie % 5_000)));
        }
    }

    #[test]
    fn equal_requests_get_equal_answers(requests in prop::collection::vec((api_and_version(), any::<u64>()), 1..12)) {
        let run = || {
            let mut broker = Broker::new();
            let mut transcript: Vec<Bytes> = Vec::new();
            for ((api, version), seed) in &requests {
                broker.stranger.session.receive(&arbitrary_request(*api, *version, *seed));
                while let Ok(Some(request)) = broker.stranger.session.next_request() {
                    let outputs = broker.cluster.handle(broker.now, broker.stranger.conn, request);
                    for output in &outputs {
                        transcript.push(format!("{output:?}").into());
                    }
                    broker.carry_out(outputs);
                }
                broker.pass(Duration::from_secs(1));
            }
            transcript
        };
        prop_assert_eq!(run(), run());
    }
}
