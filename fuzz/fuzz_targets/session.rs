//! A cluster among strangers: a few connections send what the bytes say, time passes, and nothing panics, no invariant
//! breaks, and every answer can be written.
//!
//! The bytes are read as steps, because a fuzzer alone would take very long to find a frame, a checksum, a group's name:
//! raw bytes; a body in a frame that is right; a request filled at random with names that exist; a batch that is sealed; time.
#![no_main]

#[path = "../../mockbroker/tests/codec/arbitrary.rs"]
#[allow(dead_code, reason = "the codec's tests fill messages in more ways")]
mod arbitrary;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use rehearsal_mockbroker::cluster::Cluster;
use rehearsal_mockbroker::config::{ClusterConfig, TopicConfig};
use rehearsal_mockbroker::output::{ConnId, Frame, Output};
use rehearsal_mockbroker::session::Session;
use rehearsal_mockbroker::state::nodes::NodeId;
use rehearsal_mockbroker::time::Time;
use rehearsal_mockbroker::wire::batch::BatchBuilder;
use rehearsal_mockbroker::wire::compression::Codec;
use rehearsal_mockbroker::wire::generated::request_header::RequestHeader;
use rehearsal_mockbroker::wire::walk::{Array, Optional, ScalarMut, VisitorMut, Walk};
use rehearsal_mockbroker::wire::{ApiKey, Message, Records, Request, Response, Str, Writer, request_header_version};
use std::time::Duration;

/// Enough for a group with two members and an outsider.
const CONNECTIONS: usize = 3;
/// Longer inputs only repeat themselves.
const STEPS_MAX: usize = 64;

fuzz_target!(|data: &[u8]| {
    let mut world = World::new();
    let mut input = Input(data);
    for _ in 0..STEPS_MAX {
        let Some(kind) = input.byte() else { break };
        world.step(kind, &mut input);
    }
});

/// What is left of the bytes.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// Zero where nothing is left.
    fn number(&mut self) -> usize {
        usize::from(self.byte().unwrap_or(0))
    }

    /// As many bytes as the next one says.
    fn bytes(&mut self) -> &'a [u8] {
        let length = self.number().min(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn api_and_version(&mut self) -> (ApiKey, i16) {
        let api = ApiKey::ALL[self.number() % ApiKey::ALL.len()];
        let versions: Vec<i16> = api.request_versions().collect();
        (api, versions[self.number() % versions.len()])
    }
}

struct World {
    cluster: Cluster,
    now: Time,
    peers: Vec<Peer>,
    /// The newest member id, producer id and epoch any answer held: what the next request may use.
    told: Told,
}

struct Peer {
    conn: ConnId,
    session: Session,
}

#[derive(Default)]
struct Told {
    member: Str,
    producer: i64,
    epoch: i16,
    generation: i32,
}

impl World {
    fn new() -> Self {
        let mut config = ClusterConfig::with_brokers(2);
        config.topics.push(TopicConfig::new("a", 2));
        let mut cluster = Cluster::new(&config).expect("a plain cluster");
        let peers = (0..CONNECTIONS).map(|_| Peer::connect(&mut cluster)).collect();
        Self { cluster, now: Time::from_millis(1_700_000_000_000), peers, told: Told::default() }
    }

    fn step(&mut self, kind: u8, input: &mut Input<'_>) {
        let at = usize::from(kind >> 4) % CONNECTIONS;
        match kind & 0xf {
            0 => self.send(at, input.bytes()),
            1..=4 => {
                let (api, version) = input.api_and_version();
                self.send(at, &framed(api, version, input.bytes()));
            }
            5..=10 => {
                let (api, version) = input.api_and_version();
                let mut request = Request::default_of(api);
                let seed = input.number() as u64 | (input.number() as u64) << 8;
                arbitrary::fill(&mut request, version, seed);
                let choices = input.bytes();
                request.walk_mut(
                    version,
                    &mut Sensible { told: &self.told, choices: choices.iter(), batch: &batch(choices) },
                );
                let mut writer = Writer::new();
                if request.encode(version, &mut writer).is_ok() {
                    let body = writer.into_bytes();
                    self.send(at, &framed(api, version, &body));
                }
            }
            11 => self.pass(Duration::from_millis(input.number() as u64)),
            12 => self.pass(Duration::from_secs(input.number() as u64)),
            13 => self.pass(self.cluster.next_wake().map_or(Duration::ZERO, |due| due.since(self.now))),
            _ => self.reconnect(at),
        }
    }

    fn send(&mut self, at: usize, bytes: &[u8]) {
        self.peers[at].session.receive(bytes);
        self.work(at);
    }

    /// Handles what is whole on a connection.
    fn work(&mut self, at: usize) {
        loop {
            match self.peers[at].session.next_request() {
                Ok(None) => break,
                Ok(Some(request)) => {
                    let outputs = self.cluster.handle(self.now, self.peers[at].conn, request);
                    self.carry_out(outputs);
                }
                Err(_) => return self.reconnect(at),
            }
        }
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now + span;
        let outputs = self.cluster.wake(self.now);
        self.carry_out(outputs);
        (0..CONNECTIONS).for_each(|at| self.work(at));
    }

    fn reconnect(&mut self, at: usize) {
        let outputs = self.cluster.disconnect(self.now, self.peers[at].conn);
        self.peers[at] = Peer::connect(&mut self.cluster);
        self.carry_out(outputs);
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Reply { conn, response, frame } => self.reply(conn, response.as_deref(), frame),
                Output::Close { conn, .. } => {
                    if let Some(at) = self.peers.iter().position(|peer| peer.conn == conn) {
                        self.peers[at] = Peer::connect(&mut self.cluster);
                    }
                }
                Output::StopListening(_) | Output::Listen(_) => panic!("no client can stop a broker"),
            }
        }
    }

    fn reply(&mut self, conn: ConnId, response: Option<&Response>, frame: Frame) {
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.conn == conn) {
            peer.session.answer(response, frame).expect("every answer has a form");
        }
        match response {
            Some(Response::JoinGroup(joined)) => {
                self.told.member = joined.member_id.clone();
                self.told.generation = joined.generation_id;
            }
            Some(Response::InitProducerId(given)) => {
                (self.told.producer, self.told.epoch) = (given.producer_id, given.producer_epoch);
            }
            _ => {}
        }
    }
}

impl Peer {
    fn connect(cluster: &mut Cluster) -> Self {
        let conn = cluster.connect(NodeId(1), "/127.0.0.1").expect("the broker runs");
        Self { conn, session: cluster.session() }
    }
}

/// A frame whose length and header are right.
fn framed(api: ApiKey, version: i16, body: &[u8]) -> Vec<u8> {
    let header = RequestHeader {
        request_api_key: api.code(),
        request_api_version: version,
        correlation_id: 7,
        client_id: Some(Str::from("stranger")),
    };
    let mut writer = Writer::new();
    header.encode(&mut writer, request_header_version(api, version)).expect("a header");
    let header = writer.into_bytes();
    let length = u32::try_from(header.len() + body.len()).expect("a short frame");
    [&length.to_be_bytes()[..], &header, body].concat()
}

/// A batch a producer could write.
fn batch(choices: &[u8]) -> Bytes {
    let choice = |at: usize| choices.get(at).copied().unwrap_or(0);
    let mut batch = BatchBuilder::new();
    if choice(0) & 1 == 1 {
        batch = batch.producer(i64::from(choice(1)), i16::from(choice(2) % 4), i32::from(choice(3) % 8));
    }
    if choice(0) & 2 == 2 {
        batch = batch.transactional();
    }
    let codecs = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
    let batch = batch.codec(codecs[usize::from(choice(0) >> 2) % codecs.len()]);
    let records = 1 + usize::from(choice(4) % 3);
    let batch =
        (0..records).fold(batch, |batch, at| batch.record(1_700_000_000_000 + at as i64, Some(b"k"), Some(b"v")));
    batch.build().expect("a small batch")
}

/// Puts names, ids and sizes that mean something into a request, where the choices say so.
struct Sensible<'a> {
    told: &'a Told,
    choices: std::slice::Iter<'a, u8>,
    batch: &'a Bytes,
}

impl Sensible<'_> {
    fn choice(&mut self) -> u8 {
        self.choices.next().copied().unwrap_or(0)
    }
}

impl VisitorMut for Sensible<'_> {
    fn begin_array(&mut self, _: &mut dyn Array) {}

    fn optional(&mut self, _: &mut dyn Optional, _: bool) {}

    fn scalar(&mut self, value: ScalarMut<'_>) {
        let choice = self.choice();
        match value {
            ScalarMut::Str(value) => match choice % 6 {
                0 => *value = Str::from("a"),
                1 => *value = Str::from("g"),
                2 => *value = self.told.member.clone(),
                3 => *value = Str::from(""),
                4 => *value = Str::from("consumer"),
                _ => {}
            },
            ScalarMut::I32(value) => match choice % 6 {
                0 => *value = 0,
                1 => *value = 1,
                2 => *value = self.told.generation,
                3 => *value = 10_000,
                4 => *value = -1,
                _ => {}
            },
            ScalarMut::I16(value) if choice % 2 == 0 => *value = self.told.epoch,
            ScalarMut::I64(value) => match choice % 4 {
                0 => *value = 0,
                1 => *value = self.told.producer,
                2 => *value = i64::from(choice),
                _ => {}
            },
            ScalarMut::Records(value) if choice % 4 != 0 => {
                *value = std::iter::once(self.batch.clone()).collect::<Records>()
            }
            _ => {}
        }
    }
}
