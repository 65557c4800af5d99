//! Fetch (1), versions 4–18.
//!
//! Does: waits until `min_bytes` are there and answers the moment they are; several batches a partition; byte limits of
//! request and partition; incremental sessions (KIP-227); leader epochs and divergence (KIP-320, KIP-595); the new
//! leader in the answer (KIP-951); reads from any replica from version 11 on, as far as it knows them to be committed
//! (KIP-392).
//! Leaves out: preferred replicas.
//! Differs from Apache Kafka: never sends the cut-off batch at the end of a limit, which clients throw away.

use super::access::To;
use super::{Answer, address, named_topic, rack};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::fault::Part;
use crate::state::fetch_sessions::{Context, FetchKey, NO_SESSION, Seen, Wanted};
use crate::state::nodes::{ListenerId, Node, NodeId};
use crate::state::quotas::Limited;
use crate::state::replication::ReplicaLog;
use crate::state::security::acls::Operation;
use crate::state::topics::Partition;
use crate::state::{self, State};
use crate::time::{Time, millis};
use crate::wire::generated::fetch_request::{FetchRequest, FetchTopic, ForgottenTopic};
use crate::wire::generated::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint,
    PartitionData,
};
use crate::wire::{Records, Response, Str};
use indexmap::IndexMap;

/// A fetch that waits for bytes.
#[derive(Debug)]
pub(crate) struct WaitingFetch {
    node: NodeId,
    listener: ListenerId,
    version: i16,
    min_bytes: u64,
    max_bytes: usize,
    committed_only: bool,
    /// Whether it has been parked: then the log answers, where before the request itself was judged.
    waited: bool,
    context: Context,
    /// Partitions that are refused whatever is in them.
    refusals: Vec<(FetchKey, ErrorCode)>,
    wanted: Vec<(FetchKey, Wanted)>,
}

pub(super) fn fetch(state: &mut State, now: Time, from: &Caller, request: FetchRequest) -> Answer {
    let by_id = uses_topic_ids(from.version);
    let session = (request.session_id, request.session_epoch);
    // Of a partition named twice Kafka takes the last.
    let wanted: IndexMap<_, _> = request.topics.into_iter().flat_map(wanted).collect();
    let wanted = wanted.into_iter().collect();
    let forgotten = request.forgotten_topics_data.into_iter().flat_map(forgotten).collect();
    if let Some(code) = from.check_fault(Part::FetchSession).err().map(|reject| reject.code) {
        return Answer::now(FetchResponse { error_code: code.code(), ..Default::default() });
    }
    let (context, wanted) = match state.fetch_sessions.begin(now, from.node, session, by_id, wanted, forgotten) {
        Ok(begun) => begun,
        Err(reject) => {
            return Answer::now(FetchResponse { error_code: reject.code.code(), ..Default::default() });
        }
    };
    remember_names(state, from.node, &context);
    let limit = usize::try_from(state.configs.broker_settings().fetch_max_bytes).unwrap_or(0);
    // A client gets no more at once than its quota gives it in the time that is measured.
    let quota = state.quotas.most_at_once(&from.principal.name, &from.client_id, Limited::Fetch);
    let limit = quota.map_or(limit, |most| limit.min(most as usize));
    if !matches!(request.isolation_level, 0 | 1) {
        return Answer::now(unknown_isolation(&wanted));
    }
    let waiting = WaitingFetch {
        node: from.node,
        listener: from.listener,
        version: from.version,
        min_bytes: u64::try_from(request.min_bytes).unwrap_or(0),
        max_bytes: usize::try_from(request.max_bytes).unwrap_or(0).min(limit),
        committed_only: request.isolation_level == 1,
        waited: false,
        context,
        refusals: refusals(state, from, by_id, &wanted),
        wanted,
    };
    let impatient = request.max_wait_ms <= 0;
    if let Some(response) = resume(state, now, &waiting, impatient) {
        return Answer::Now(Box::new(response));
    }
    Answer::Park {
        deadline: Some(now + millis(request.max_wait_ms)),
        partitions: waiting.wanted.iter().filter_map(|(key, _)| partition_name(state, by_id, key)).collect(),
        waiting: super::Waiting::Fetch(WaitingFetch { waited: true, ..waiting }),
    }
}

/// The response, if there is enough to answer with: `min_bytes`, or anything a client must hear of at once
/// (`ReplicaManager.fetchMessages`, `DelayedFetch.tryComplete`).
pub(crate) fn resume(state: &mut State, now: Time, fetch: &WaitingFetch, time_is_up: bool) -> Option<Response> {
    if !time_is_up && !fetch.wanted.is_empty() {
        let mut readable = 0;
        for (key, wanted) in &fetch.wanted {
            match look(state, fetch, key, wanted) {
                Ok(Found::Bytes(bytes)) => readable += bytes.min(u64::try_from(wanted.max_bytes).unwrap_or(0)),
                Ok(Found::Diverged(_) | Found::Uncommitted) | Err(_) => readable = u64::MAX,
            }
            if readable >= fetch.min_bytes {
                break;
            }
        }
        if readable < fetch.min_bytes {
            return None;
        }
    }
    Some(respond(state, now, fetch).into())
}

fn respond(state: &mut State, now: Time, fetch: &WaitingFetch) -> FetchResponse {
    let mut left = fetch.max_bytes;
    let mut rows = Vec::with_capacity(fetch.wanted.len());
    let mut anything = false;
    for (key, wanted) in &fetch.wanted {
        let row = match read(state, fetch, key, wanted, left, !anything) {
            Ok(row) => row,
            Err(reject) => refused(state, fetch, key, &reject),
        };
        let bytes = row.records.as_ref().map_or(0, Records::len);
        left = left.saturating_sub(bytes);
        anything |= bytes > 0;
        rows.push((key, *wanted, row));
    }
    rows.sort_by_key(|(_, _, row)| if fetch.waited { 0 } else { rank(row.error_code) });
    let session_id = match fetch.context {
        Context::Sessionless => NO_SESSION,
        Context::Opening => {
            let partitions = rows.iter().map(|(key, wanted, row)| ((*key).clone(), *wanted, seen(row)));
            let session_id = state.fetch_sessions.open(now, fetch.node, uses_topic_ids(fetch.version), partitions);
            remember_names(state, fetch.node, &Context::Incremental { session_id });
            session_id
        }
        Context::Incremental { session_id } => {
            rows.retain(|(key, _, row)| is_news(state, fetch.node, session_id, key, row));
            session_id
        }
    };
    let mut response = grouped(rows);
    response.session_id = session_id;
    response.node_endpoints = leaders_named(state, fetch.listener, &response);
    response
}

/// What Kafka refuses before it asks any log stands at the end of an answer, unknown ids first
/// (`KafkaApis.handleFetchRequest`).
fn rank(error_code: i16) -> u8 {
    match ErrorCode::from_code(error_code) {
        Some(ErrorCode::UnknownTopicId) => 1,
        Some(ErrorCode::UnknownTopicOrPartition) => 2,
        _ => 0,
    }
}

/// Lets a session note what the topics in it are called, as long as they are.
fn remember_names(state: &mut State, node: NodeId, context: &Context) {
    if let Context::Incremental { session_id } = *context {
        let topics = &state.topics;
        state.fetch_sessions.remember_names(node, session_id, |id| topics.name_of(id).map(str::to_owned));
    }
}

/// What becomes of a topic's id that is no more: its session may still know its name, and who goes by that.
fn in_its_session(state: &State, fetch: &WaitingFetch, key: &FetchKey, code: ErrorCode) -> ErrorCode {
    let Context::Incremental { session_id } = fetch.context else { return code };
    match state.fetch_sessions.name_of(fetch.node, session_id, key) {
        Some(name) if code == ErrorCode::UnknownTopicId => match state.topics.partition(name, key.index) {
            Ok(_) => ErrorCode::InconsistentTopicId,
            Err(_) => ErrorCode::UnknownTopicOrPartition,
        },
        _ => code,
    }
}

/// The partitions the caller may not read, or that a planned fault refuses.
fn refusals(state: &State, from: &Caller, by_id: bool, wanted: &[(FetchKey, Wanted)]) -> Vec<(FetchKey, ErrorCode)> {
    let refused = |(key, _): &(FetchKey, Wanted)| {
        let (topic, index) = partition_name(state, by_id, key)?;
        let permitted = from.check_access(state, Operation::Read, To::Topic(&topic));
        let reject = from.check_fault(Part::Partition(&topic, index)).and(permitted).err()?;
        Some((key.clone(), reject.code))
    };
    wanted.iter().filter_map(refused).collect()
}

/// What a look at a partition finds, before anything is read.
enum Found {
    /// This many bytes can be read.
    Bytes(u64),
    /// The client is past what it may read, as after a change of leaders: it is told so at once (`DelayedFetch`, case F).
    Uncommitted,
    /// The client's last record is not in our log.
    Diverged(EpochEndOffset),
}

fn look(state: &State, fetch: &WaitingFetch, key: &FetchKey, wanted: &Wanted) -> Result<Found, Reject> {
    if let Some((_, code)) = fetch.refusals.iter().find(|(refused, _)| refused == key) {
        return Err((*code).into());
    }
    let (partition, replica) = readable_partition(state, fetch, key)?;
    partition.check_leader_epoch(wanted.current_leader_epoch)?;
    if wanted.max_bytes < 0 {
        return Err(ErrorCode::UnknownServerError.into());
    }
    if let Some(diverged) = diverging(&replica, wanted)? {
        return Ok(Found::Diverged(diverged));
    }
    if !(replica.log().start_offset()..=replica.end_offset()).contains(&wanted.fetch_offset) {
        return Err(ErrorCode::OffsetOutOfRange.into());
    }
    if wanted.fetch_offset > replica.high_watermark() {
        return Ok(Found::Uncommitted);
    }
    Ok(Found::Bytes(replica.log().readable_bytes(wanted.fetch_offset, upper(fetch, &replica))))
}

/// Up to where this client reads.
fn upper(fetch: &WaitingFetch, replica: &ReplicaLog<'_>) -> i64 {
    if fetch.committed_only { replica.last_stable_offset() } else { replica.high_watermark() }
}

fn read(
    state: &State,
    fetch: &WaitingFetch,
    key: &FetchKey,
    wanted: &Wanted,
    left: usize,
    at_least_one: bool,
) -> Result<PartitionData, Reject> {
    let found = look(state, fetch, key, wanted)?;
    let (_, replica) = readable_partition(state, fetch, key)?;
    let log = replica.log();
    let mut row = PartitionData {
        partition_index: key.index,
        high_watermark: replica.high_watermark(),
        last_stable_offset: replica.last_stable_offset(),
        log_start_offset: log.start_offset(),
        records: Some(Records::default()),
        aborted_transactions: fetch.committed_only.then(Vec::new),
        ..Default::default()
    };
    match found {
        Found::Uncommitted => {}
        Found::Diverged(diverging_epoch) => row.diverging_epoch = diverging_epoch,
        Found::Bytes(_) => {
            let max_bytes = usize::try_from(wanted.max_bytes).unwrap_or(0).min(left);
            let slice = log.read(wanted.fetch_offset, upper(fetch, &replica), max_bytes, at_least_one);
            if fetch.committed_only && wanted.fetch_offset < upper(fetch, &replica) {
                row.aborted_transactions = Some(aborted(&replica, wanted.fetch_offset, slice.bytes));
            }
            row.records = Some(slice.chunks.into_iter().collect());
        }
    }
    Ok(row)
}

/// The aborted transactions a reader of so many bytes must know of, and some more, as Kafka's sparse index finds them.
fn aborted(replica: &ReplicaLog<'_>, offset: i64, bytes: usize) -> Vec<AbortedTransaction> {
    let upper = replica.log().offset_indexed_after(offset, bytes).unwrap_or(replica.end_offset());
    let found = replica.log().transactions().aborted(offset, upper.min(replica.end_offset()));
    let row = |aborted: state::transaction_index::AbortedTransaction| AbortedTransaction {
        producer_id: aborted.producer_id,
        first_offset: aborted.first_offset,
    };
    found.into_iter().map(row).collect()
}

/// The partition, if this broker may be read from: its leader, or from version 11 on any of its replicas.
fn readable_partition<'a>(
    state: &'a State,
    fetch: &WaitingFetch,
    key: &FetchKey,
) -> Result<(&'a Partition, ReplicaLog<'a>), Reject> {
    let by_id = uses_topic_ids(fetch.version);
    let name = named_topic(state, by_id, key.topic_id, &Str::from(key.topic.as_str()))?;
    let partition = state.topics.partition(&name, key.index)?;
    let readable = fetch.version >= 11 || partition.leader == Some(fetch.node);
    let replica = partition.replica_log(fetch.node).filter(|_| readable).ok_or(ErrorCode::NotLeaderOrFollower)?;
    Ok((partition, replica))
}

/// Where the client's log parts from ours, if it does (KIP-595's truncation on fetch).
fn diverging(replica: &ReplicaLog<'_>, wanted: &Wanted) -> Result<Option<EpochEndOffset>, Reject> {
    if wanted.last_fetched_epoch < 0 {
        return Ok(None);
    }
    let ended = replica.end_of_epoch(wanted.last_fetched_epoch);
    let (epoch, end_offset) = ended.ok_or(ErrorCode::OffsetOutOfRange)?;
    let parted = epoch < wanted.last_fetched_epoch || end_offset < wanted.fetch_offset;
    Ok(parted.then_some(EpochEndOffset { epoch, end_offset }))
}

/// What Kafka answers to an isolation level that does not exist: its own failure, everywhere.
fn unknown_isolation(wanted: &[(FetchKey, Wanted)]) -> FetchResponse {
    let code = ErrorCode::UnknownServerError.code();
    let rows = wanted.iter().map(|(key, wanted)| (key, *wanted, empty_row(key.index, code)));
    FetchResponse { error_code: code, ..grouped(rows.collect()) }
}

/// A row without data.
fn empty_row(partition_index: i32, error_code: i16) -> PartitionData {
    PartitionData {
        partition_index,
        error_code,
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
        records: Some(Records::default()),
        aborted_transactions: Some(Vec::new()),
        ..Default::default()
    }
}

fn refused(state: &State, fetch: &WaitingFetch, key: &FetchKey, reject: &Reject) -> PartitionData {
    let code = in_its_session(state, fetch, key, reject.code);
    let mut row = empty_row(key.index, code.code());
    // Where the log refused, Kafka's list of aborted transactions is null, whatever the isolation; where there was no log to
    // ask, it is empty.
    let unasked = [ErrorCode::UnknownTopicOrPartition, ErrorCode::UnknownTopicId, ErrorCode::TopicAuthorizationFailed];
    if fetch.waited || !unasked.contains(&code) {
        row.aborted_transactions = None;
    }
    let moved = matches!(reject.code, ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch);
    if moved
        && fetch.version >= 16
        && let Some((topic, index)) = partition_name(state, uses_topic_ids(fetch.version), key)
        && let Ok(partition) = state.topics.partition(&topic, index)
    {
        row.current_leader = LeaderIdAndEpoch {
            leader_id: partition.leader.map_or(-1, |node| node.0),
            leader_epoch: partition.leader_epoch,
        };
    }
    row
}

fn leaders_named(state: &State, listener: ListenerId, response: &FetchResponse) -> Vec<NodeEndpoint> {
    let rows = response.responses.iter().flat_map(|topic| &topic.partitions);
    let leaders: std::collections::BTreeSet<_> = rows.map(|row| NodeId(row.current_leader.leader_id)).collect();
    let nodes = leaders.into_iter().filter_map(|id| state.nodes.get(id));
    let endpoint = |node: &Node| {
        let (host, port) = address(node, listener);
        NodeEndpoint { node_id: node.id.0, host, port, rack: rack(node) }
    };
    nodes.map(endpoint).collect()
}

fn is_news(state: &mut State, node: NodeId, session_id: i32, key: &FetchKey, row: &PartitionData) -> bool {
    let has_data = row.records.as_ref().is_some_and(|records| !records.is_empty());
    let changed = state.fetch_sessions.tell(node, session_id, key, seen(row), has_data);
    changed || row.error_code != 0 || row.diverging_epoch != EpochEndOffset::default()
}

fn seen(row: &PartitionData) -> Seen {
    Seen { high_watermark: row.high_watermark, log_start_offset: row.log_start_offset }
}

/// Neighbours of one topic share a row; rows that are not neighbours do not (`FetchResponse.toMessage`).
fn grouped(rows: Vec<(&FetchKey, Wanted, PartitionData)>) -> FetchResponse {
    let mut responses: Vec<FetchableTopicResponse> = Vec::new();
    for (key, _, row) in rows {
        match responses.last_mut() {
            Some(last) if last.topic_id == key.topic_id && *last.topic == *key.topic => last.partitions.push(row),
            _ => responses.push(FetchableTopicResponse {
                topic: Str::from(key.topic.as_str()),
                topic_id: key.topic_id,
                partitions: vec![row],
            }),
        }
    }
    FetchResponse { responses, ..Default::default() }
}

fn wanted(topic: FetchTopic) -> impl Iterator<Item = (FetchKey, Wanted)> {
    let (topic_id, name) = (topic.topic_id, topic.topic);
    topic.partitions.into_iter().map(move |partition| {
        let key = FetchKey { topic_id, topic: name.to_string(), index: partition.partition };
        let wanted = Wanted {
            fetch_offset: partition.fetch_offset,
            max_bytes: partition.partition_max_bytes,
            current_leader_epoch: partition.current_leader_epoch,
            last_fetched_epoch: partition.last_fetched_epoch,
        };
        (key, wanted)
    })
}

fn forgotten(topic: ForgottenTopic) -> impl Iterator<Item = FetchKey> {
    let (topic_id, name) = (topic.topic_id, topic.topic);
    topic.partitions.into_iter().map(move |index| FetchKey { topic_id, topic: name.to_string(), index })
}

fn uses_topic_ids(version: i16) -> bool {
    version >= 13
}

fn partition_name(state: &State, by_id: bool, key: &FetchKey) -> Option<(String, i32)> {
    let topic = if by_id { state.topics.name_of(key.topic_id)?.to_owned() } else { key.topic.clone() };
    Some((topic, key.index))
}
