//! A record batch (magic 2) as the log sees it: its header, its checksum, and a walk over its records.
//!
//! Layout as in `org.apache.kafka.common.record.DefaultRecordBatch`. Batches stay the client's bytes; only the
//! base offset and the leader epoch, which the checksum does not cover, are stamped.

use super::compression::{self, Codec};
use bytes::Bytes;
use std::fmt;
use std::ops::Range;

/// Bytes before the records of a batch.
pub const HEADER_LEN: usize = 61;
/// Bytes of base offset and length, which the length itself does not count.
pub const LOG_OVERHEAD: usize = 12;
/// The producer id of a batch without one.
pub const NO_PRODUCER_ID: i64 = -1;
/// The timestamp of a record without one.
pub const NO_TIMESTAMP: i64 = -1;
/// The attribute that says that the base timestamp is the time at which tombstones may go.
const DELETE_HORIZON: i16 = 0x40;
/// What one batch may grow to when it is decompressed; a guard against bombs, ten times Kafka's largest default.
const DECOMPRESSED_MAX: usize = 512 << 20;

/// Which clock a batch's timestamps come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// The broker's, when it appended.
    LogAppendTime,
}

/// The fixed fields at the front of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Bytes of the whole batch, overhead included.
    pub size: usize,
    /// Epoch of the leader that appended it.
    pub partition_leader_epoch: i32,
    /// CRC-32C over everything from `attributes` on.
    pub crc: u32,
    /// Compression, timestamp type, transactional and control bits.
    pub attributes: i16,
    /// Offset of the last record, relative to the first.
    pub last_offset_delta: i32,
    /// Timestamp the records' deltas refer to.
    pub base_timestamp: i64,
    /// Largest timestamp in the batch.
    pub max_timestamp: i64,
    /// Producer id, or −1.
    pub producer_id: i64,
    /// Producer epoch, or −1.
    pub producer_epoch: i16,
    /// Sequence of the first record, or −1.
    pub base_sequence: i32,
    /// Number of records the header claims.
    pub records_count: i32,
}

/// Why bytes are not a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchError {
    /// Fewer bytes than the header or its length field asks for, or a length below the least.
    Truncated,
    /// The format is older (or newer) than 2.
    Magic(i8),
    /// The checksum does not match.
    Crc {
        /// As stored.
        stored: u32,
        /// As computed.
        computed: u32,
    },
    /// The records inside do not parse.
    Malformed(String),
    /// The records do not decompress.
    Packed(String),
    /// The compression id is not one Kafka knows.
    Compression(i16),
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("record batch is shorter than its length field says"),
            Self::Magic(magic) => write!(f, "record batch has magic {magic}, not 2"),
            Self::Crc { stored, computed } => {
                write!(f, "record batch is corrupt (stored crc = {stored}, computed crc = {computed})")
            }
            Self::Packed(what) => write!(f, "record batch does not decompress: {what}"),
            Self::Malformed(what) => write!(f, "malformed record batch: {what}"),
            Self::Compression(id) => write!(f, "unknown compression type {id}"),
        }
    }
}

impl std::error::Error for BatchError {}

fn be<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`, and checks that the whole batch is there.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        if bytes.len() < LOG_OVERHEAD + 5 {
            return Err(BatchError::Truncated);
        }
        let magic = bytes[16] as i8;
        if magic != 2 {
            return Err(BatchError::Magic(magic));
        }
        let length = i32::from_be_bytes(be(bytes, 8));
        let size = usize::try_from(length).map_err(|_| BatchError::Truncated)?.saturating_add(LOG_OVERHEAD);
        if size < HEADER_LEN || bytes.len() < size {
            return Err(BatchError::Truncated);
        }
        Ok(Self {
            base_offset: i64::from_be_bytes(be(bytes, 0)),
            size,
            partition_leader_epoch: i32::from_be_bytes(be(bytes, 12)),
            crc: u32::from_be_bytes(be(bytes, 17)),
            attributes: i16::from_be_bytes(be(bytes, 21)),
            last_offset_delta: i32::from_be_bytes(be(bytes, 23)),
            base_timestamp: i64::from_be_bytes(be(bytes, 27)),
            max_timestamp: i64::from_be_bytes(be(bytes, 35)),
            producer_id: i64::from_be_bytes(be(bytes, 43)),
            producer_epoch: i16::from_be_bytes(be(bytes, 51)),
            base_sequence: i32::from_be_bytes(be(bytes, 53)),
            records_count: i32::from_be_bytes(be(bytes, 57)),
        })
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// Sequence of the last record; sequences wrap from `i32::MAX` to 0.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        let last = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        (last % (1 << 31)) as i32
    }

    /// How the records are compressed.
    pub fn codec(&self) -> Result<Codec, BatchError> {
        Codec::from_id(self.attributes & 0x07).ok_or(BatchError::Compression(self.attributes & 0x07))
    }

    /// Which clock the timestamps come from.
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & 0x08 == 0 { TimestampType::CreateTime } else { TimestampType::LogAppendTime }
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & 0x10 != 0
    }

    /// Whether the batch holds a commit or abort marker rather than data.
    pub fn is_control(&self) -> bool {
        self.attributes & 0x20 != 0
    }

    /// When the batch's tombstones, or its marker, may go: set when compaction first meets them (KIP-534).
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }

    /// Whether the batch carries a producer id.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id > NO_PRODUCER_ID
    }
}

/// Checks the checksum of the batch at the front of `bytes`, whose header has been parsed.
pub fn check_crc(header: &BatchHeader, bytes: &[u8]) -> Result<(), BatchError> {
    let computed = crc32c::crc32c(&bytes[21..header.size]);
    if computed == header.crc { Ok(()) } else { Err(BatchError::Crc { stored: header.crc, computed }) }
}

/// Writes the broker's fields into a batch; the checksum does not cover them.
pub fn stamp(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    batch[0..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Rewrites attributes and maximum timestamp of a batch to log-append time, and its checksum with them.
pub fn stamp_append_time(batch: &mut [u8], now_ms: i64) {
    let attributes = i16::from_be_bytes(be(batch, 21)) | 0x08;
    batch[21..23].copy_from_slice(&attributes.to_be_bytes());
    batch[35..43].copy_from_slice(&now_ms.to_be_bytes());
    seal(batch);
}

/// The batch with the producers' clock and this maximum timestamp, sealed again.
pub fn with_create_time(batch: &[u8], max_timestamp: i64) -> Bytes {
    let mut batch = batch.to_vec();
    let attributes = i16::from_be_bytes(be(&batch, 21)) & !0x08;
    batch[21..23].copy_from_slice(&attributes.to_be_bytes());
    batch[35..43].copy_from_slice(&max_timestamp.to_be_bytes());
    seal(&mut batch);
    batch.into()
}

/// Writes the checksum of a batch whose covered bytes have changed.
pub fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// One record of a batch. Slices share the (decompressed) batch's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Offset relative to the batch's base offset.
    pub offset_delta: i32,
    /// Milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// The key, if there is one.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Headers in order, repeated names included.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// What a broker checks of a record without looking at what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordFacts {
    /// Offset relative to the batch's base offset.
    pub offset_delta: i32,
    /// Milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// Whether it has a key.
    pub has_key: bool,
}

/// Walks over the records of the batch at the front of `bytes` without keeping any.
pub fn scan(header: &BatchHeader, bytes: &Bytes, mut see: impl FnMut(RecordFacts)) -> Result<(), BatchError> {
    let body = body(header, bytes)?;
    each_record(header, &body, |record| {
        see(RecordFacts {
            offset_delta: record.offset_delta,
            timestamp: record.timestamp,
            has_key: record.key.is_some(),
        });
        Ok(())
    })
}

/// The records of the batch at the front of `bytes`, decompressed as needed.
pub fn records(bytes: &Bytes) -> Result<Vec<Record>, BatchError> {
    let header = BatchHeader::parse(bytes)?;
    let body = body(&header, bytes)?;
    let mut out = Vec::new();
    each_record(&header, &body, |record| {
        let mut headers = Vec::new();
        let mut cursor = Cursor { bytes: &body, at: record.headers_at };
        for _ in 0..record.headers_count {
            let name = cursor.nullable().and_then(|name| name.ok_or("null header key")).map_err(malformed)?;
            let value = cursor.nullable().map_err(malformed)?;
            headers.push((body.slice(name), value.map(|value| body.slice(value))));
        }
        out.push(Record {
            offset_delta: record.offset_delta,
            timestamp: record.timestamp,
            key: record.key.map(|key| body.slice(key)),
            value: record.value.map(|value| body.slice(value)),
            headers,
        });
        Ok(())
    })?;
    Ok(out)
}

fn body(header: &BatchHeader, bytes: &Bytes) -> Result<Bytes, BatchError> {
    let packed = bytes.slice(HEADER_LEN..header.size);
    match header.codec()? {
        Codec::None => Ok(packed),
        codec => compression::decompress(codec, &packed, DECOMPRESSED_MAX)
            .map(Bytes::from)
            .map_err(|error| BatchError::Packed(format!("{codec:?}: {error}"))),
    }
}

fn each_record(
    header: &BatchHeader,
    body: &[u8],
    mut see: impl FnMut(RawRecord) -> Result<(), BatchError>,
) -> Result<(), BatchError> {
    let append_time = (header.timestamp_type() == TimestampType::LogAppendTime).then_some(header.max_timestamp);
    let mut cursor = Cursor { bytes: body, at: 0 };
    for _ in 0..header.records_count.max(0) {
        see(cursor.record(header.base_timestamp, append_time).map_err(malformed)?)?;
    }
    if cursor.at == body.len() { Ok(()) } else { Err(malformed("bytes left over after the last record")) }
}

fn malformed(what: &str) -> BatchError {
    BatchError::Malformed(what.to_owned())
}

/// A record as places in the body.
struct RawRecord {
    offset_delta: i32,
    timestamp: i64,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers_at: usize,
    headers_count: i32,
}

/// What is wrong with a record. Not yet a [`BatchError`], because every integer of every record may be wrong, and
/// passing on a text that is allocated costs more than reading the integer.
type Flaw = &'static str;

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    #[inline(always)]
    fn record(&mut self, base_timestamp: i64, append_time: Option<i64>) -> Result<RawRecord, Flaw> {
        let length = usize::try_from(self.varint()?).map_err(|_| "negative record length")?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or("record runs past the batch")?;
        self.take(1)?; // attributes: unused
        let timestamp_delta = self.varlong()?;
        let offset_delta = self.varint()?;
        let key = self.nullable()?;
        let value = self.nullable()?;
        let headers_count = self.varint()?;
        if headers_count < 0 {
            return Err("negative header count");
        }
        let headers_at = self.at;
        for _ in 0..headers_count {
            self.nullable()?.ok_or("null header key")?;
            self.nullable()?;
        }
        if self.at != end {
            return Err("record length does not match its fields");
        }
        let timestamp = append_time.unwrap_or_else(|| base_timestamp.wrapping_add(timestamp_delta));
        Ok(RawRecord { offset_delta, timestamp, key, value, headers_at, headers_count })
    }

    #[inline(always)]
    fn nullable(&mut self) -> Result<Option<Range<usize>>, Flaw> {
        match usize::try_from(self.varint()?) {
            Ok(length) => self.take(length).map(Some),
            Err(_) => Ok(None),
        }
    }

    #[inline(always)]
    fn take(&mut self, length: usize) -> Result<Range<usize>, Flaw> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or("field runs past the batch")?;
        let out = self.at..end;
        self.at = end;
        Ok(out)
    }

    #[inline(always)]
    fn varint(&mut self) -> Result<i32, Flaw> {
        i32::try_from(self.varlong()?).map_err(|_| "variable-length integer is out of range")
    }

    /// Nearly every integer of a record takes one byte or two.
    #[inline(always)]
    fn varlong(&mut self) -> Result<i64, Flaw> {
        match *self.bytes.get(self.at..).unwrap_or_default() {
            [only, ..] if only < 0x80 => {
                self.at += 1;
                Ok(unzigzag(u64::from(only)))
            }
            [low, high, ..] if high < 0x80 => {
                self.at += 2;
                Ok(unzigzag(u64::from(low & 0x7f) | u64::from(high) << 7))
            }
            _ => self.longer_varlong(),
        }
    }

    #[inline(never)]
    fn longer_varlong(&mut self) -> Result<i64, Flaw> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or("integer runs past the batch")?;
            self.at += 1;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(unzigzag(value));
            }
        }
        Err("integer is longer than ten bytes")
    }
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Builds a batch from records: what tests, control markers and recompression need.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    header: BatchHeader,
    codec: Codec,
    records: Vec<Record>,
    /// What compaction keeps although the records do not say it: base timestamp, maximum timestamp, last offset delta.
    kept: Option<(i64, i64, i32)>,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// An empty batch without producer id or compression.
    pub fn new() -> Self {
        let header = BatchHeader {
            base_offset: 0,
            size: 0,
            partition_leader_epoch: -1,
            crc: 0,
            attributes: 0,
            last_offset_delta: 0,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: -1,
            base_sequence: -1,
            records_count: 0,
        };
        Self { header, codec: Codec::None, records: Vec::new(), kept: None }
    }

    /// A builder that rewrites the records of an existing batch, keeping its producer and its flags.
    pub fn like(header: &BatchHeader, records: Vec<Record>) -> Self {
        Self { header: header.clone(), codec: Codec::None, records, kept: None }
    }

    /// A builder of what compaction leaves of a batch: it goes on to cover the same offsets. `delete_horizon_ms` is when
    /// its tombstones, or its marker, may go (KIP-534).
    pub fn remaining(header: &BatchHeader, records: Vec<Record>, delete_horizon_ms: Option<i64>) -> Self {
        let mut header = header.clone();
        header.attributes &= !DELETE_HORIZON;
        header.attributes |= delete_horizon_ms.map_or(0, |_| DELETE_HORIZON);
        let first = records.first().map_or(NO_TIMESTAMP, |record| record.timestamp);
        let latest = records.iter().map(|record| record.timestamp).max();
        let max_timestamp = match header.timestamp_type() {
            TimestampType::CreateTime => latest.unwrap_or(header.max_timestamp),
            TimestampType::LogAppendTime => header.max_timestamp,
        };
        let kept = Some((delete_horizon_ms.unwrap_or(first), max_timestamp, header.last_offset_delta));
        Self { header, codec: Codec::None, records, kept }
    }

    /// A control batch of a transaction, which only brokers write.
    pub(super) fn control(record: Record) -> Self {
        let mut batch = Self::new();
        batch.header.attributes = 0x30;
        batch.records.push(record);
        batch
    }

    /// Makes the records part of a transaction of the producer named.
    pub fn transactional(mut self) -> Self {
        self.header.attributes |= 0x10;
        self
    }

    /// Names the producer and the sequence of the first record.
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Compresses the records.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Adds one record; its offset delta is its position.
    pub fn record(mut self, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Self {
        self.records.push(Record {
            offset_delta: self.records.len() as i32,
            timestamp,
            key: key.map(Bytes::copy_from_slice),
            value: value.map(Bytes::copy_from_slice),
            headers: Vec::new(),
        });
        self
    }

    /// The batch's bytes, sealed.
    pub fn build(self) -> Result<Bytes, BatchError> {
        let first_timestamp = self.records.first().map_or(0, |record| record.timestamp);
        let max_timestamp = self.records.iter().map(|record| record.timestamp).max().unwrap_or(NO_TIMESTAMP);
        let last_offset_delta = self.records.last().map_or(0, |record| record.offset_delta);
        let (base_timestamp, max_timestamp, last_offset_delta) =
            self.kept.unwrap_or((first_timestamp, max_timestamp, last_offset_delta));
        // Kafka writes what has no records without a codec.
        let codec = if self.kept.is_some() && self.records.is_empty() { Codec::None } else { self.codec };
        let mut body = Vec::new();
        for record in &self.records {
            put_record(&mut body, record, base_timestamp);
        }
        if codec != Codec::None {
            body = compression::compress(codec, &body)
                .map_err(|error| BatchError::Malformed(format!("cannot compress: {error}")))?;
        }
        let header = &self.header;
        let attributes = (header.attributes & !0x07) | codec.id();
        let length = i32::try_from(HEADER_LEN - LOG_OVERHEAD + body.len()).map_err(|_| malformed("batch too large"))?;
        let mut out = Vec::with_capacity(HEADER_LEN + body.len());
        out.extend(header.base_offset.to_be_bytes());
        out.extend(length.to_be_bytes());
        out.extend(header.partition_leader_epoch.to_be_bytes());
        out.push(2);
        out.extend([0; 4]);
        out.extend(attributes.to_be_bytes());
        out.extend(last_offset_delta.to_be_bytes());
        out.extend(base_timestamp.to_be_bytes());
        out.extend(max_timestamp.to_be_bytes());
        out.extend(header.producer_id.to_be_bytes());
        out.extend(header.producer_epoch.to_be_bytes());
        out.extend(header.base_sequence.to_be_bytes());
        out.extend((self.records.len() as i32).to_be_bytes());
        out.extend(body);
        seal(&mut out);
        Ok(out.into())
    }
}

fn put_record(out: &mut Vec<u8>, record: &Record, base_timestamp: i64) {
    let mut body = vec![0];
    put_varlong(&mut body, record.timestamp.wrapping_sub(base_timestamp));
    put_varlong(&mut body, i64::from(record.offset_delta));
    put_nullable(&mut body, record.key.as_ref());
    put_nullable(&mut body, record.value.as_ref());
    put_varlong(&mut body, record.headers.len() as i64);
    for (name, value) in &record.headers {
        put_nullable(&mut body, Some(name));
        put_nullable(&mut body, value.as_ref());
    }
    put_varlong(out, body.len() as i64);
    out.extend(body);
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&Bytes>) {
    match bytes {
        None => put_varlong(out, -1),
        Some(bytes) => {
            put_varlong(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}

fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(codec: Codec) -> Bytes {
        BatchBuilder::new()
            .codec(codec)
            .record(1_000, Some(b"k"), Some(b"v"))
            .record(1_500, None, None)
            .build()
            .expect("a small batch")
    }

    #[test]
    fn records_survive_every_compression() {
        for codec in Codec::ALL {
            let bytes = sample(*codec);
            let header = BatchHeader::parse(&bytes).expect("a header");
            check_crc(&header, &bytes).expect("a checksum");
            let records = records(&bytes).unwrap_or_else(|error| panic!("{codec:?}: {error}"));
            assert_eq!(records.len(), 2, "{codec:?}");
            assert_eq!(records[0].key.as_deref(), Some(&b"k"[..]));
            assert_eq!(records[1].value, None);
            assert_eq!(header.max_timestamp, 1_500);
        }
    }

    #[test]
    fn a_flipped_bit_is_found_by_the_checksum() {
        let mut bytes = sample(Codec::None).to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let header = BatchHeader::parse(&bytes).expect("the header is whole");
        assert!(matches!(check_crc(&header, &bytes), Err(BatchError::Crc { .. })));
    }

    #[test]
    fn truncated_and_lying_batches_are_errors() {
        let bytes = sample(Codec::None);
        for cut in 0..bytes.len() {
            assert!(BatchHeader::parse(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let mut lying = bytes.to_vec();
        lying[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
        assert!(records(&lying.into()).is_err());
    }

    #[test]
    fn sequences_wrap_at_the_largest_integer() {
        let bytes = BatchBuilder::new()
            .producer(1, 0, i32::MAX)
            .record(0, None, None)
            .record(0, None, None)
            .build()
            .expect("a small batch");
        assert_eq!(BatchHeader::parse(&bytes).expect("a header").last_sequence(), 0);
    }
}
