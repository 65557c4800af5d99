//! A client that costs nothing: its requests are encoded before the clock starts, and answers are only counted.

use crate::{PARTITIONS, Peer, Topic, load::RECORD_BYTES};
use anyhow::{Context, Result};
use rehearsal_mockbroker::wire::batch::BatchBuilder;
use rehearsal_mockbroker::wire::generated::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use rehearsal_mockbroker::wire::generated::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use rehearsal_mockbroker::wire::generated::request_header::RequestHeader;
use rehearsal_mockbroker::wire::{ApiKey, Message, Records, Request, Str, Writer, request_header_version};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};

/// The last versions that name topics instead of giving their ids.
const PRODUCE_VERSION: i16 = 12;
const FETCH_VERSION: i16 = 12;
/// Requests on their way at a time; what clients with idempotence send at most.
const IN_FLIGHT: usize = 5;

/// A connection to a broker.
pub struct RawClient {
    stream: TcpStream,
    answer: Vec<u8>,
}

/// Requests that are ready to be sent.
pub struct Frames {
    frames: Vec<Vec<u8>>,
}

impl RawClient {
    /// Connects to a broker.
    ///
    /// # Errors
    /// When it does not accept.
    pub fn connect(peer: &Peer) -> Result<Self> {
        let stream = TcpStream::connect(peer.bootstrap())?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, answer: Vec::new() })
    }

    /// Sends requests over and over until `count` are answered; returns how many bytes the answers had.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn ask(&mut self, requests: &Frames, count: u64) -> Result<u64> {
        let mut bytes = 0;
        let mut waiting = 0;
        for frame in requests.frames.iter().cycle().take(usize::try_from(count)?) {
            if waiting == IN_FLIGHT {
                bytes += self.answer()?;
                waiting -= 1;
            }
            self.stream.write_all(frame)?;
            waiting += 1;
        }
        for _ in 0..waiting {
            bytes += self.answer()?;
        }
        Ok(bytes)
    }

    fn answer(&mut self) -> Result<u64> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).context("the broker closed the connection")?;
        self.answer.resize(usize::try_from(i32::from_be_bytes(length))?, 0);
        self.stream.read_exact(&mut self.answer)?;
        Ok(self.answer.len() as u64)
    }
}

impl Frames {
    /// A produce request a partition, with one batch of so many records each.
    ///
    /// # Errors
    /// When a batch would be too large.
    pub fn produce(topic: &Topic<'_>, records: usize) -> Result<Self> {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
        let value = [b'x'; RECORD_BYTES];
        let batch = (0..records).fold(BatchBuilder::new(), |batch, _| batch.record(now_ms, None, Some(&value)));
        let batch = batch.build()?;
        let requests = (0..PARTITIONS).map(|index| {
            let data = PartitionProduceData { index, records: Some(Records::from(batch.clone())) };
            let topic =
                TopicProduceData { name: Str::from(topic.name()), partition_data: vec![data], ..Default::default() };
            let request =
                ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() };
            frame(ApiKey::Produce, PRODUCE_VERSION, &request.into())
        });
        Ok(Self { frames: requests.collect::<Result<_>>()? })
    }

    /// Fetch requests, each for up to a mebibyte from the beginning of a partition.
    ///
    /// # Errors
    /// None that a broker could cause.
    pub fn fetch(topic: &Topic<'_>) -> Result<Self> {
        let requests = (0..PARTITIONS).map(|partition| {
            let wanted = FetchPartition { partition, partition_max_bytes: 1 << 20, ..Default::default() };
            let topic = FetchTopic { topic: Str::from(topic.name()), partitions: vec![wanted], ..Default::default() };
            let request = FetchRequest {
                max_wait_ms: 500,
                min_bytes: 1,
                max_bytes: 50 << 20,
                session_epoch: -1,
                topics: vec![topic],
                ..Default::default()
            };
            frame(ApiKey::Fetch, FETCH_VERSION, &request.into())
        });
        Ok(Self { frames: requests.collect::<Result<_>>()? })
    }

    /// How many different requests there are.
    pub fn count(&self) -> u64 {
        self.frames.len() as u64
    }

    /// Bytes of one request.
    pub fn request_bytes(&self) -> u64 {
        self.frames.first().map_or(0, |frame| frame.len() as u64)
    }
}

fn frame(api: ApiKey, version: i16, request: &Request) -> Result<Vec<u8>> {
    let header = RequestHeader {
        request_api_key: api.code(),
        request_api_version: version,
        correlation_id: 1,
        client_id: Some(Str::from_static("raw")),
    };
    let mut writer = Writer::framed();
    header.encode(&mut writer, request_header_version(api, version))?;
    request.encode(version, &mut writer)?;
    Ok(writer.finish()?.concat())
}
