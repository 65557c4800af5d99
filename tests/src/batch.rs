//! Record batches of format 2, written and read by hand, so that every field can be made wrong.

use anyhow::Result;
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::compression::{Compressor, Decompressor, Gzip, Lz4, Snappy, Zstd};
use serde_json::{Value, json};

/// Bytes of a batch up to and with its length field.
const PREFIX_BYTES: usize = 12;
/// Bytes of a batch before its records.
const HEADER_BYTES: usize = 61;
/// What the checksum covers starts here: the attributes.
const CHECKED_FROM: usize = 21;
/// Of the attributes: how the records are compressed.
const CODEC_BITS: i16 = 0b111;

/// One record: key, value and headers in their order, repeated keys included.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Null when `None`.
    pub key: Option<Bytes>,
    /// Null when `None`.
    pub value: Option<Bytes>,
    /// In their order; a key may occur twice.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// Milliseconds after the batch's base timestamp.
    pub timestamp_delta: i64,
}

/// A batch to be written; every field of its header can be set, right or wrong.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The first record's offset; producers write 0.
    pub base_offset: i64,
    /// Producers write -1.
    pub partition_leader_epoch: i32,
    /// 2 is the only one in use.
    pub magic: i8,
    /// Compression in bits 0–2, timestamp type 3, transactional 4, control 5.
    pub attributes: i16,
    /// The first record's time.
    pub base_timestamp: i64,
    /// -1 for a producer without idempotence.
    pub producer_id: i64,
    /// -1 for a producer without idempotence.
    pub producer_epoch: i16,
    /// -1 for a producer without idempotence.
    pub base_sequence: i32,
    /// Whether the records are compressed as the attributes say; otherwise they lie there plain, whatever is said.
    pub compressed: bool,
    /// The records.
    pub records: Vec<Record>,
    /// Written instead of the true number.
    pub claimed_count: Option<i32>,
    /// Written instead of the true last offset delta.
    pub claimed_last_offset_delta: Option<i32>,
    /// Written instead of the latest timestamp.
    pub claimed_max_timestamp: Option<i64>,
}

impl Batch {
    /// A batch of one record a value, all with time `timestamp`.
    #[must_use]
    pub fn of(timestamp: i64, values: &[&str]) -> Self {
        let record =
            |value: &&str| Record { value: Some(Bytes::copy_from_slice(value.as_bytes())), ..Record::default() };
        Self {
            base_offset: 0,
            partition_leader_epoch: -1,
            magic: 2,
            attributes: 0,
            base_timestamp: timestamp,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            compressed: false,
            records: values.iter().map(record).collect(),
            claimed_count: None,
            claimed_last_offset_delta: None,
            claimed_max_timestamp: None,
        }
    }

    /// From an idempotent producer.
    #[must_use]
    pub fn from_producer(mut self, producer_id: i64, producer_epoch: i16, base_sequence: i32) -> Self {
        self.producer_id = producer_id;
        self.producer_epoch = producer_epoch;
        self.base_sequence = base_sequence;
        self
    }

    /// Compressed: 1 is gzip, 2 snappy, 3 LZ4, 4 Zstandard; 0 is none.
    #[must_use]
    pub fn compressed_with(mut self, codec: i16) -> Self {
        self.attributes = self.attributes & !CODEC_BITS | codec;
        self.compressed = codec != 0;
        self
    }

    /// The same batch at another time.
    #[must_use]
    pub fn at(mut self, timestamp: i64) -> Self {
        self.base_timestamp = timestamp;
        self
    }

    /// Each record `step` milliseconds after the one before.
    #[must_use]
    pub fn spread(mut self, step: i64) -> Self {
        for (record, index) in self.records.iter_mut().zip(0_i64..) {
            record.timestamp_delta = index * step;
        }
        self
    }

    /// The batch as bytes, its length and checksum right.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut records = BytesMut::new();
        for (record, offset_delta) in self.records.iter().zip(0_i64..) {
            let body = encode_record(record, offset_delta);
            put_varint(&mut records, length(body.len()));
            records.put(body);
        }
        if self.compressed {
            records = compress(self.attributes & CODEC_BITS, &records).expect("records can be compressed");
        }
        let count = i32::try_from(self.records.len()).unwrap_or(i32::MAX);
        let latest = self.records.iter().map(|record| record.timestamp_delta).max().unwrap_or(0);

        let mut batch = BytesMut::with_capacity(HEADER_BYTES + records.len());
        batch.put_i64(self.base_offset);
        batch.put_i32(i32::try_from(HEADER_BYTES - PREFIX_BYTES + records.len()).unwrap_or(i32::MAX));
        batch.put_i32(self.partition_leader_epoch);
        batch.put_i8(self.magic);
        batch.put_u32(0);
        batch.put_i16(self.attributes);
        batch.put_i32(self.claimed_last_offset_delta.unwrap_or(count - 1));
        batch.put_i64(self.base_timestamp);
        batch.put_i64(self.claimed_max_timestamp.unwrap_or(self.base_timestamp + latest));
        batch.put_i64(self.producer_id);
        batch.put_i16(self.producer_epoch);
        batch.put_i32(self.base_sequence);
        batch.put_i32(self.claimed_count.unwrap_or(count));
        batch.put(records);
        stamp_checksum(&mut batch);
        batch.freeze()
    }
}

/// `batch` with the byte at `index` flipped, checksum left as it was.
#[must_use]
pub fn with_flipped_byte(batch: &Bytes, index: usize) -> Bytes {
    let mut bytes = batch.to_vec();
    bytes[index] ^= 0xff;
    bytes.into()
}

/// `batch` claiming to be `length` bytes long, checksum left as it was.
#[must_use]
pub fn with_claimed_length(batch: &Bytes, length: i32) -> Bytes {
    let mut bytes = batch.to_vec();
    bytes[8..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
    bytes.into()
}

fn compress(codec: i16, records: &[u8]) -> Result<BytesMut> {
    let mut compressed = BytesMut::new();
    let write = |buffer: &mut BytesMut| {
        buffer.put(records);
        Ok(())
    };
    match codec {
        1 => Gzip::compress(&mut compressed, write)?,
        2 => Snappy::compress(&mut compressed, write)?,
        3 => Lz4::compress(&mut compressed, write)?,
        4 => Zstd::compress(&mut compressed, write)?,
        _ => anyhow::bail!("{codec} is no codec"),
    }
    Ok(compressed)
}

fn decompress(codec: i16, records: &[u8]) -> Result<Bytes> {
    let mut records = Bytes::copy_from_slice(records);
    let read = |buffer: &mut Bytes| Ok(buffer.clone());
    match codec {
        1 => Gzip::decompress(&mut records, read),
        2 => Snappy::decompress(&mut records, read),
        3 => Lz4::decompress(&mut records, read),
        4 => Zstd::decompress(&mut records, read),
        _ => anyhow::bail!("{codec} is no codec"),
    }
}

fn stamp_checksum(batch: &mut [u8]) {
    let checksum = crc32c::crc32c(&batch[CHECKED_FROM..]);
    batch[17..CHECKED_FROM].copy_from_slice(&checksum.to_be_bytes());
}

fn encode_record(record: &Record, offset_delta: i64) -> BytesMut {
    let mut body = BytesMut::new();
    body.put_i8(0);
    put_varint(&mut body, record.timestamp_delta);
    put_varint(&mut body, offset_delta);
    put_nullable(&mut body, record.key.as_ref());
    put_nullable(&mut body, record.value.as_ref());
    put_varint(&mut body, length(record.headers.len()));
    for (key, value) in &record.headers {
        put_varint(&mut body, length(key.len()));
        body.put(key.as_bytes());
        put_nullable(&mut body, value.as_ref());
    }
    body
}

fn put_nullable(body: &mut BytesMut, bytes: Option<&Bytes>) {
    match bytes {
        None => put_varint(body, -1),
        Some(bytes) => {
            put_varint(body, length(bytes.len()));
            body.put(bytes.clone());
        }
    }
}

fn length(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// A zigzag variable-length integer.
fn put_varint(buffer: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        buffer.put_u8(u8::try_from(rest & 0x7f).unwrap_or(0) | 0x80);
        rest >>= 7;
    }
    buffer.put_u8(u8::try_from(rest).unwrap_or(0));
}

/// The batches in `bytes` as trees, header field by header field, the records as they lie or, where they were compressed,
/// as they were before: two libraries may compress the same to different bytes. A cut-off rest by its size.
#[must_use]
pub fn describe(mut bytes: &[u8]) -> Value {
    let mut batches = Vec::new();
    while !bytes.is_empty() {
        let Some(batch) = first_batch(bytes) else {
            batches.push(json!({ "cut_off_bytes": bytes.len() }));
            break;
        };
        batches.push(describe_one(batch));
        bytes = &bytes[batch.len()..];
    }
    Value::Array(batches)
}

fn first_batch(bytes: &[u8]) -> Option<&[u8]> {
    let claimed = i32::from_be_bytes(*bytes.get(8..PREFIX_BYTES)?.first_chunk()?);
    let whole = PREFIX_BYTES.checked_add(usize::try_from(claimed).ok()?)?;
    bytes.get(..whole).filter(|batch| batch.len() >= HEADER_BYTES)
}

fn describe_one(batch: &[u8]) -> Value {
    let i16_at = |at: usize| i16::from_be_bytes([batch[at], batch[at + 1]]);
    let i32_at = |at: usize| i32::from_be_bytes(*batch[at..].first_chunk().expect("the header is whole"));
    let i64_at = |at: usize| i64::from_be_bytes(*batch[at..].first_chunk().expect("the header is whole"));
    let checksum = crc32c::crc32c(&batch[CHECKED_FROM..]);
    let lying = &batch[HEADER_BYTES..];
    let unpacked = decompress(i16_at(21) & CODEC_BITS, lying);
    json!({
        "base_offset": i64_at(0),
        "bytes": if unpacked.is_ok() { Value::Null } else { batch.len().into() },
        "partition_leader_epoch": i32_at(12),
        "magic": batch[16],
        "checksum_holds": checksum.to_be_bytes() == batch[17..CHECKED_FROM],
        "attributes": i16_at(21),
        "last_offset_delta": i32_at(23),
        "base_timestamp": i64_at(27),
        "max_timestamp": i64_at(35),
        "producer_id": i64_at(43),
        "producer_epoch": i16_at(51),
        "base_sequence": i32_at(53),
        "count": i32_at(57),
        "records": unpacked.as_deref().unwrap_or(lying).escape_ascii().to_string(),
    })
}
