//! Produce (0), versions 3–13.
//!
//! Does: appends at once; checks leader, size, checksum, header, every record, timestamps, in-sync replicas, producer
//! epoch and sequence; recompresses and stamps where the topic's config demands it; `acks` 0, 1 and −1, which waits for
//! the high watermark, `timeout_ms` at most; verifies with the coordinator that a partition is part of the transaction,
//! or from version 12 on adds it (KIP-890).
//! Leaves out: nothing.
//! Differs from Apache Kafka: none known.

use super::access::{To, permitted_topic};
use super::taking_part::take_part;
use super::{Answer, address, message, rack};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::fault::Part;
use crate::state::State;
use crate::state::configs::{Compression, TopicSettings};
use crate::state::nodes::{ListenerId, NodeId};
use crate::state::producers::Admission;
use crate::state::security::acls::Operation;
use crate::state::segments::{Incoming, RollAfter};
use crate::state::topics;
use crate::time::{Time, millis};
use crate::wire::batch::{self, BatchBuilder, BatchError, BatchHeader, TimestampType};
use crate::wire::compression::Codec;
use crate::wire::generated::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use crate::wire::generated::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, ProduceResponse,
    TopicProduceResponse,
};
use crate::wire::{Records, Response, Str};
use bytes::{Bytes, BytesMut};
use indexmap::IndexMap;
use std::collections::BTreeSet;
use tracing::debug;

/// The client id that may write to internal topics, as in Kafka.
const ADMIN_CLIENT: &str = "__admin_client";
/// The first version whose clients know Zstandard.
const ZSTD_FROM: i16 = 7;
/// From this size on a frame has memory of its own; see [`Session::read_buffer`](crate::session::Session::read_buffer).
const KEPT_BYTES_MIN: usize = 64 * 1024;

pub(super) fn produce(state: &mut State, now: Time, from: &Caller, request: ProduceRequest) -> Answer {
    let allowed = transactional_records_need_an_id(state, from, &request);
    let admitted = allowed.clone().and_then(|()| take_part(state, now, from, &request));
    let mut refusals = Vec::new();
    let mut waiting_for = Vec::new();
    let mut responses = Vec::with_capacity(request.topic_data.len());
    let alone = matches!(&request.topic_data[..], [topic] if topic.partition_data.len() == 1);
    for topic in request.topic_data {
        // A name that shares the frame's memory would keep the log from taking it over.
        let topic = TopicProduceData { name: topic.name.detached(), ..topic };
        let by_id = from.version >= 13;
        let name = permitted_topic(state, from, Operation::Write, by_id, topic.topic_id, &topic.name);
        let mut rows = Vec::new();
        // Of a partition named twice Kafka takes the last.
        let by_index: IndexMap<i32, PartitionProduceData> =
            topic.partition_data.into_iter().map(|partition| (partition.index, partition)).collect();
        for partition in by_index.into_values() {
            let index = partition.index;
            let appended = allowed
                .clone()
                .and_then(|()| name.clone().map_err(Refusal::from))
                .and_then(|name| match &admitted {
                    Ok(outside) => outside.check(&name, index).map(|()| name),
                    Err(refusal) => Err(refusal.clone()),
                })
                .and_then(|name| append_one(state, now, from, request.acks, &name, partition, alone));
            rows.push(match appended {
                Ok(appended) => {
                    if request.acks == -1
                        && let Ok(name) = &name
                    {
                        let (topic, required) = (name.clone(), appended.end_offset);
                        let leader_epoch = appended.leader_epoch;
                        let row = (responses.len(), rows.len());
                        waiting_for.push(Unacknowledged { row, topic, index, required, leader_epoch });
                    }
                    accepted(index, appended)
                }
                Err(refusal) => {
                    refusals.push(refusal.reject.clone());
                    let row = refused(index, refusal);
                    match &name {
                        Ok(name) if from.version >= 10 => with_leader(state, name, row),
                        _ => row,
                    }
                }
            });
        }
        responses.push(TopicProduceResponse { name: topic.name, topic_id: topic.topic_id, partition_responses: rows });
    }
    if request.acks == 0 {
        // A client that wants no answers learns of a failure only by losing its connection.
        return match refusals.iter().find(|reject| reject.code != ErrorCode::None) {
            None => Answer::Nothing,
            Some(reject) => {
                Answer::Close(format!("produce with acks=0 from client '{}' failed: {reject}", from.client_id))
            }
        };
    }
    let response = ProduceResponse { responses, ..Default::default() };
    let mut waiting =
        WaitingProduce { node: from.node, listener: from.listener, version: from.version, response, waiting_for };
    if let Some(response) = resume(state, &mut waiting, request.timeout_ms <= 0) {
        return Answer::Now(Box::new(response));
    }
    Answer::Park {
        deadline: Some(now + millis(request.timeout_ms)),
        partitions: waiting.waiting_for.iter().map(|one| (one.topic.clone(), one.index)).collect(),
        waiting: super::Waiting::Produce(waiting),
    }
}

/// A produce with `acks=-1` that waits for replicas (`DelayedProduce`).
#[derive(Debug)]
pub(crate) struct WaitingProduce {
    node: NodeId,
    listener: ListenerId,
    version: i16,
    /// The answer as it is if all goes well.
    response: ProduceResponse,
    waiting_for: Vec<Unacknowledged>,
}

/// A batch that not all in-sync replicas have.
#[derive(Debug)]
struct Unacknowledged {
    /// Which topic and which partition of the response.
    row: (usize, usize),
    topic: String,
    index: i32,
    /// Where the high watermark must be.
    required: i64,
    leader_epoch: i32,
}

/// The response, once every batch is copied or cannot be, or the time is up. A batch whose fate is known keeps it.
pub(crate) fn resume(state: &State, produce: &mut WaitingProduce, time_is_up: bool) -> Option<Response> {
    let mut waiting_for = std::mem::take(&mut produce.waiting_for);
    waiting_for.retain(|one| {
        let fate = match acknowledged(state, produce.node, one) {
            Ok(true) => return false,
            Ok(false) if !time_is_up => return true,
            Ok(false) => ErrorCode::RequestTimedOut,
            Err(code) => code,
        };
        debug!(topic = one.topic, partition = one.index, fate = fate.name(), "a batch is stored but not acknowledged");
        let row = &mut produce.response.responses[one.row.0].partition_responses[one.row.1];
        *row = PartitionProduceResponse { error_code: fate.code(), ..std::mem::take(row) };
        if produce.version >= 10 {
            *row = with_leader(state, &one.topic, std::mem::take(row));
        }
        false
    });
    produce.waiting_for = waiting_for;
    if !produce.waiting_for.is_empty() {
        return None;
    }
    let mut response = std::mem::take(&mut produce.response);
    response.node_endpoints = leaders_named(state, produce.listener, &response);
    Some(response.into())
}

/// Whether every in-sync replica has the batch (`Partition.checkEnoughReplicasReachOffset`).
fn acknowledged(state: &State, node: NodeId, one: &Unacknowledged) -> Result<bool, ErrorCode> {
    let topic = state.topics.get(&one.topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let partition = topic.partition(one.index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if partition.leader != Some(node) || partition.leader_epoch != one.leader_epoch {
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    if partition.log.high_watermark() < one.required {
        return Ok(false);
    }
    let min_isr = state.configs.topic_settings_at(&one.topic, node.0).min_insync_replicas;
    if partition.isr.len() < partition.min_isr(min_isr) {
        return Err(ErrorCode::NotEnoughReplicasAfterAppend);
    }
    Ok(true)
}

fn leaders_named(state: &State, listener: ListenerId, response: &ProduceResponse) -> Vec<NodeEndpoint> {
    let rows = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    let leaders: BTreeSet<_> = rows.map(|row| NodeId(row.current_leader.leader_id)).collect();
    let nodes = leaders.into_iter().filter_map(|id| state.nodes.get(id)).map(|node| {
        let (host, port) = address(node, listener);
        NodeEndpoint { node_id: node.id.0, host, port, rack: rack(node) }
    });
    nodes.collect()
}

/// A batch that belongs to a transaction, from a producer without a transactional id or not allowed to use it, forbids the
/// whole request; so does one that cannot be looked at for it (`RequestUtils.hasTransactionalRecords`).
fn transactional_records_need_an_id(state: &State, from: &Caller, request: &ProduceRequest) -> Result<(), Refusal> {
    let partitions = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
    for bytes in partitions.filter_map(|partition| partition.records.as_ref()?.chunks().next()) {
        let whole = whole_batch(bytes).map_err(Refusal::explained)?;
        if whole.is_some() && BatchHeader::parse(bytes).is_ok_and(|header| header.is_transactional()) {
            return match &request.transactional_id {
                None => Err(ErrorCode::TransactionalIdAuthorizationFailed.into()),
                Some(id) => Ok(from.check_access(state, Operation::Write, To::TransactionalId(id))?),
            };
        }
    }
    Ok(())
}

/// What a client is told of an accepted batch.
struct Appended {
    base_offset: i64,
    log_append_time_ms: i64,
    log_start_offset: i64,
    /// One past its last record.
    end_offset: i64,
    leader_epoch: i32,
}

/// What a client is told of a refused one.
#[derive(Clone)]
pub(super) struct Refusal {
    reject: Reject,
    log_start_offset: i64,
    records: Vec<(i32, &'static str)>,
    /// Whether the client is told in words: Kafka does for single records, for bytes that are no batch, and where a
    /// coordinator's answer is put in other words.
    explained: bool,
}

impl Refusal {
    /// A refusal whose words the client is told.
    pub(super) fn explained(reject: Reject) -> Self {
        Self { explained: true, ..reject.into() }
    }
}

impl From<Reject> for Refusal {
    fn from(reject: Reject) -> Self {
        Self { reject, log_start_offset: -1, records: Vec::new(), explained: false }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Reject::from(code).into()
    }
}

fn append_one(
    state: &mut State,
    now: Time,
    from: &Caller,
    acks: i16,
    topic: &str,
    data: PartitionProduceData,
    alone: bool,
) -> Result<Appended, Refusal> {
    from.check_fault(Part::Partition(topic, data.index))?;
    // Before the records are looked at (`KafkaApis.handleProduceRequest`).
    state.topics.partition(topic, data.index)?;
    let bytes = one_batch(from.version, data.records.unwrap_or_default()).map_err(|reject| {
        let explained = reject.code == ErrorCode::CorruptMessage;
        Refusal { explained, ..reject.into() }
    })?;
    if !matches!(acks, -1..=1) {
        return Err(ErrorCode::InvalidRequiredAcks.into());
    }
    if topics::is_internal(topic) && from.client_id.as_str() != ADMIN_CLIENT {
        let message = format!("'{topic}' belongs to Kafka itself; clients cannot write to it");
        return Err(Reject::new(ErrorCode::InvalidTopicException, message).into());
    }
    let wall_clock_ms = state.wall_clock_ms(now);
    let settings = state.configs.topic_settings_at(topic, from.node.0);
    let partition = state.topics.led_by(from.node, topic, data.index)?;
    if acks == -1 && partition.isr.len() < partition.min_isr(settings.min_insync_replicas) {
        let message = format!(
            "{} of {} replicas are in sync, and min.insync.replicas is {}",
            partition.isr.len(),
            partition.replicas.len(),
            settings.min_insync_replicas
        );
        return Err(Reject::new(ErrorCode::NotEnoughReplicas, message).into());
    }
    let log_start_offset = partition.log.start_offset();
    let header = check_batch(&bytes, &settings).map_err(|reject| {
        // Kafka knows the log start by the time it looks at the header, and tells it for some of the refusals.
        let known = if reject.code == ErrorCode::InvalidRecord { log_start_offset } else { -1 };
        Refusal { log_start_offset: known, ..reject.into() }
    })?;
    let checked =
        check_records(now, &header, bytes, &settings).map_err(|refusal| Refusal { log_start_offset, ..refusal })?;
    let open_since = partition.log.transactions().open_since(header.producer_id);
    let admission = partition
        .producers
        .admit(&header, open_since)
        .map_err(|reject| Refusal { log_start_offset, ..reject.into() })?;
    if let Admission::Duplicate(stored) = admission {
        return Ok(Appended {
            base_offset: stored.base_offset,
            log_append_time_ms: stored.timestamp,
            log_start_offset,
            end_offset: stored.last_offset + 1,
            leader_epoch: partition.leader_epoch,
        });
    }
    let append_time = (settings.timestamp_type == TimestampType::LogAppendTime).then_some(wall_clock_ms);
    let (end_before, leader_epoch) = (partition.log.end_offset(), partition.leader_epoch);
    let incoming = Incoming {
        bytes: header.size as u64,
        max_timestamp_ms: append_time.unwrap_or(header.max_timestamp),
        now_ms: wall_clock_ms,
    };
    partition.log.roll_for(&incoming, &RollAfter::of(&settings));
    let stored = partition.log.append(writable(checked, alone), leader_epoch, append_time).clone();
    partition.producers.remember(&stored);
    if stored.has_producer_id() {
        state.expect_producer_cleanup(now);
    }
    state.appended(now, topic, data.index, end_before);
    Ok(Appended {
        base_offset: stored.base_offset,
        log_append_time_ms: append_time.unwrap_or(-1),
        log_start_offset,
        end_offset: stored.last_offset() + 1,
        leader_epoch,
    })
}

/// The one batch a partition may carry since version 3 (`ProduceRequest.validateRecords`).
pub(super) fn one_batch(version: i16, records: Records) -> Result<Bytes, Reject> {
    let invalid = |what: &'static str| Err(Reject::new(ErrorCode::InvalidRecord, what));
    let bytes = records.to_bytes();
    let size = match whole_batch(&bytes)? {
        Some(size) => size,
        None => return invalid("there is no whole record batch for this partition"),
    };
    if bytes[16] != 2 {
        return invalid("record batches must have magic 2");
    }
    let codec = bytes[22] & 0x07; // the low byte of the attributes; `whole_batch` saw to the size
    if i16::from(codec) == Codec::Zstd.id() && version < ZSTD_FROM {
        let message = "clients before Produce version 7 cannot read Zstandard, so they must not write it";
        return Err(Reject::new(ErrorCode::UnsupportedCompressionType, message));
    }
    if whole_batch(&bytes[size..])?.is_some() {
        return invalid("there is more than one record batch for this partition");
    }
    Ok(bytes.slice(..size))
}

/// The size of the batch at the front of `bytes`; `None` when it is not whole (`ByteBufferLogInputStream`).
fn whole_batch(bytes: &[u8]) -> Result<Option<usize>, Reject> {
    let Some(length) = bytes.get(8..batch::LOG_OVERHEAD).and_then(|length| length.first_chunk::<4>()) else {
        return Ok(None);
    };
    let corrupt = |what: String| Err(Reject::new(ErrorCode::CorruptMessage, what));
    let length = i32::from_be_bytes(*length);
    if length < 14 {
        return corrupt(format!("a record batch claims {length} bytes, less than any batch has"));
    }
    match bytes.get(16) {
        None => return Ok(None),
        Some(0..=2) => {}
        Some(magic) => return corrupt(format!("there is no record format with magic {magic}")),
    }
    let size = batch::LOG_OVERHEAD + length as usize;
    if bytes[16] == 2 && size < batch::HEADER_LEN && bytes.len() >= size {
        return corrupt(format!("a record batch of {size} bytes is shorter than its header"));
    }
    Ok((bytes.len() >= size).then_some(size))
}

/// What is checked before offsets are assigned (`UnifiedLog.analyzeAndValidateRecords`).
fn check_batch(bytes: &[u8], settings: &TopicSettings) -> Result<BatchHeader, Reject> {
    let header = BatchHeader::parse(bytes).map_err(corrupt)?;
    if header.base_offset != 0 {
        let message = format!("the base offset of a produced batch must be 0, not {}", header.base_offset);
        return Err(Reject::new(ErrorCode::InvalidRecord, message));
    }
    if header.size > settings.max_message_bytes as usize {
        let message =
            format!("a batch of {} bytes exceeds max.message.bytes, {}", header.size, settings.max_message_bytes);
        return Err(Reject::new(ErrorCode::MessageTooLarge, message));
    }
    batch::check_crc(&header, bytes).map_err(corrupt)?;
    Ok(header)
}

fn corrupt(error: BatchError) -> Reject {
    Reject::new(ErrorCode::CorruptMessage, error.to_string())
}

/// What is checked record by record, and the bytes to store (`LogValidator`).
fn check_records(now: Time, header: &BatchHeader, bytes: Bytes, settings: &TopicSettings) -> Result<Bytes, Refusal> {
    let invalid = |what: String| Reject::new(ErrorCode::InvalidRecord, what);
    let range = i64::from(header.last_offset_delta) + 1;
    if range <= 0 || header.records_count <= 0 || range != i64::from(header.records_count) {
        let message = format!("a batch of {} records spans {range} offsets", header.records_count);
        return Err(invalid(message).into());
    }
    if header.is_control() {
        return Err(invalid("clients cannot write control records".into()).into());
    }
    if header.has_producer_id() && header.base_sequence < 0 {
        return Err(invalid("a batch with a producer id needs a sequence".into()).into());
    }
    let unreadable = |error: BatchError| Reject::new(ErrorCode::UnknownServerError, error.to_string());
    let source = header.codec().map_err(unreadable)?;
    let mut max_timestamp = batch::NO_TIMESTAMP;
    let mut rejected = Vec::new();
    let mut code = ErrorCode::InvalidRecord;
    let now_ms = now.as_millis();
    batch::scan(header, &bytes, |record| {
        max_timestamp = max_timestamp.max(record.timestamp);
        if settings.cleanup_compact && !record.has_key {
            rejected.push((record.offset_delta, "a compacted topic needs a key"));
        }
        let dated = settings.timestamp_type == TimestampType::CreateTime && record.timestamp != batch::NO_TIMESTAMP;
        if dated
            && (now_ms.saturating_sub(record.timestamp) > settings.timestamp_before_max_ms
                || record.timestamp.saturating_sub(now_ms) > settings.timestamp_after_max_ms)
        {
            code = ErrorCode::InvalidTimestamp;
            rejected.push((record.offset_delta, "the timestamp is too far from the broker's clock"));
        }
    })
    .map_err(|error| match error {
        BatchError::Compression(_) | BatchError::Packed(_) => unreadable(error),
        other => invalid(other.to_string()),
    })?;
    if !rejected.is_empty() {
        let reject = Reject::new(code, format!("{} of {} records are refused", rejected.len(), header.records_count));
        return Err(Refusal { records: rejected, explained: true, ..reject.into() });
    }
    let stored = match target_codec(settings.compression) {
        // Kafka's writer of batches knows no producer without an epoch, its reader does.
        Some(target) if target != source && header.has_producer_id() && header.producer_epoch < 0 => {
            let message = format!("producer {} writes without an epoch", header.producer_id);
            return Err(Reject::new(ErrorCode::UnknownServerError, message).into());
        }
        Some(target) if target != source => recompress(header, &bytes, target).map_err(corrupt)?,
        _ => bytes,
    };
    let lies = header.max_timestamp != max_timestamp || header.timestamp_type() != TimestampType::CreateTime;
    if settings.timestamp_type == TimestampType::CreateTime && lies {
        return Ok(batch::with_create_time(&stored, max_timestamp));
    }
    Ok(stored)
}

/// The batch in memory that can be stamped and kept: its frame's own, when the frame holds nothing else and was long
/// enough to get memory of its own; otherwise a copy, lest a small batch keeps a large buffer alive.
fn writable(batch: Bytes, alone: bool) -> BytesMut {
    if alone && batch.len() >= KEPT_BYTES_MIN {
        // Shared after all when something else of the request is still in use: then `from` copies.
        BytesMut::from(batch)
    } else {
        BytesMut::from(&batch[..])
    }
}

fn target_codec(compression: Compression) -> Option<Codec> {
    match compression {
        Compression::Producer => None,
        Compression::Uncompressed => Some(Codec::None),
        Compression::Gzip(_) => Some(Codec::Gzip),
        Compression::Snappy => Some(Codec::Snappy),
        Compression::Lz4(_) => Some(Codec::Lz4),
        Compression::Zstd(_) => Some(Codec::Zstd),
    }
}

fn recompress(header: &BatchHeader, bytes: &Bytes, target: Codec) -> Result<Bytes, BatchError> {
    BatchBuilder::like(header, batch::records(bytes)?).codec(target).build()
}

fn accepted(index: i32, appended: Appended) -> PartitionProduceResponse {
    PartitionProduceResponse {
        index,
        base_offset: appended.base_offset,
        log_append_time_ms: appended.log_append_time_ms,
        log_start_offset: appended.log_start_offset,
        ..Default::default()
    }
}

fn refused(index: i32, refusal: Refusal) -> PartitionProduceResponse {
    debug!(partition = index, reason = %refusal.reject, "refused a batch");
    let named = refusal.records.into_iter().map(|(batch_index, what)| BatchIndexAndErrorMessage {
        batch_index,
        batch_index_error_message: Some(Str::from(what)),
    });
    let records: Vec<_> = named.collect();
    PartitionProduceResponse {
        index,
        error_code: refusal.reject.code.code(),
        base_offset: -1,
        log_start_offset: refusal.log_start_offset,
        error_message: if refusal.explained { message(&refusal.reject) } else { None },
        record_errors: records,
        ..Default::default()
    }
}

/// Tells a client that asked the wrong broker whom to ask (KIP-951).
fn with_leader(state: &State, topic: &str, mut row: PartitionProduceResponse) -> PartitionProduceResponse {
    if row.error_code == ErrorCode::NotLeaderOrFollower.code()
        && let Ok(partition) = state.topics.partition(topic, row.index)
    {
        row.current_leader = LeaderIdAndEpoch {
            leader_id: partition.leader.map_or(-1, |node| node.0),
            leader_epoch: partition.leader_epoch,
        };
    }
    row
}
