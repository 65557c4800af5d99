//! ShareFetch (78), versions 1–2.
//!
//! Does: share sessions (KIP-932); acquires records for a member and waits until there are `min_bytes` of them;
//! acknowledgements that come with a fetch; limits of bytes and records, whole batches or, from version 2 on, strictly
//! (KIP-1206); renewals, which fetch nothing (KIP-1222); `share.isolation.level`.
//! Leaves out: quotas.
//! Differs from Apache Kafka: the first fetch of a partition reads at once, where Kafka loads its state beside the
//! request; what is left over when bytes are divided among partitions goes to the first of them, not to a random one.

use super::access::To;
use super::groups::speaking_share_protocol;
use super::sharing::{RENEWS_FROM, Said, Taken, endpoints, leader_named, names, take_in};
use super::{Answer, Waiting, rack};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::fault::Part;
use crate::state::State;
use crate::state::log::{Log, Slice};
use crate::state::nodes::NodeId;
use crate::state::security::acls::Operation;
use crate::state::share::{Acquired, Ask, FINAL_EPOCH, INITIAL_EPOCH, ReadBatch, Rules, ShareKey, SharePlace, Wanted};
use crate::state::transaction_index::AbortedTransaction;
use crate::time::{Time, millis};
use crate::wire::batch::BatchHeader;
use crate::wire::generated::share_fetch_request::{FetchTopic, ForgottenTopic, ShareFetchRequest};
use crate::wire::generated::share_fetch_response::{
    AcquiredRecords, LeaderIdAndEpoch, NodeEndpoint, PartitionData, ShareFetchResponse, ShareFetchableTopicResponse,
};
use crate::wire::marker::Marker;
use crate::wire::{Response, Str, Uuid};
use bytes::Bytes;
use indexmap::IndexMap;
use std::sync::Arc;

/// The mode that gives not a record more than asked for.
const STRICT: i8 = 1;

/// A share consumer's fetch that waits.
#[derive(Debug)]
pub(crate) struct WaitingShareFetch {
    group: Arc<str>,
    epoch: i32,
    node: NodeId,
    min_bytes: u64,
    max_bytes: usize,
    ask: Ask,
    /// What it reads, in this order.
    reading: Vec<SharePlace>,
    /// What it cannot read, and why.
    refused: Vec<((Uuid, i32), ErrorCode)>,
    /// What came of what it said.
    taken: Vec<Taken>,
    /// There is no room for another session: it learns so after its wait, lest it ask again at once.
    turned_away: bool,
    /// There is nothing to wait for.
    at_once: bool,
}

pub(super) fn share_fetch(state: &mut State, now: Time, from: &Caller, request: ShareFetchRequest) -> Answer {
    let max_wait_ms = request.max_wait_ms;
    let waiting = match begin(state, now, from, request) {
        Ok(waiting) => waiting,
        Err(reject) => return Answer::now(refusal(reject.code)),
    };
    if let Some(response) = resume(state, now, &waiting, max_wait_ms <= 0) {
        return Answer::Now(Box::new(response));
    }
    let name = |(_, key): &SharePlace| Some((state.topics.name_of(key.topic)?.to_owned(), key.index));
    Answer::Park {
        deadline: Some(now + millis(max_wait_ms)),
        partitions: waiting.reading.iter().filter_map(name).collect(),
        waiting: Waiting::ShareFetch(waiting),
    }
}

fn begin(state: &mut State, now: Time, from: &Caller, request: ShareFetchRequest) -> Result<WaitingShareFetch, Reject> {
    speaking_share_protocol(state)?;
    let (group, member) = names(request.group_id.as_ref(), request.member_id.as_ref())?;
    from.check_access(state, Operation::Read, To::Group(&group))?;
    from.check_fault(Part::Named(&group))?;
    let renews = from.version >= RENEWS_FROM && request.is_renew_ack;
    check(&request, renews)?;
    let limit = state.configs.broker_settings().fetch_max_bytes;
    let max_bytes = request.max_bytes.min(limit);
    let mut waiting = WaitingShareFetch {
        group: Arc::clone(&group),
        epoch: request.share_session_epoch,
        node: from.node,
        min_bytes: u64::try_from(request.min_bytes.min(max_bytes)).unwrap_or(0),
        max_bytes: usize::try_from(max_bytes).unwrap_or(0),
        ask: Ask {
            member: Arc::clone(&member),
            strict: request.share_acquire_mode == STRICT,
            batch_size: request.batch_size,
            max_records: request.max_records,
        },
        reading: Vec::new(),
        refused: Vec::new(),
        taken: Vec::new(),
        turned_away: false,
        at_once: renews || request.max_records == 0 || max_bytes == 0,
    };
    let wanted = match enter_session(state, from, &waiting, &request) {
        Ok(wanted) => wanted,
        Err(reject) if reject.code == ErrorCode::ShareSessionLimitReached => {
            waiting.turned_away = true;
            return Ok(waiting);
        }
        Err(reject) => return Err(reject),
    };
    // Kafka fails on its own over topics without a name, but after the session has moved on.
    if wanted.iter().any(|wanted| wanted.name.is_none())
        || request.topics.iter().any(|topic| state.topics.name_of(topic.topic_id).is_none())
    {
        return Err(ErrorCode::UnknownServerError.into());
    }
    let says_something = says_something(&request);
    let said: Vec<_> = request.topics.into_iter().flat_map(said).collect();
    if says_something {
        waiting.taken = take_in(state, now, from, (&group, &member), request.is_renew_ack, said);
    }
    if !renews {
        waiting.open(state, now, from, wanted);
    }
    Ok(waiting)
}

/// Refuses what no client should send.
fn check(request: &ShareFetchRequest, renews: bool) -> Result<(), Reject> {
    let fetches = [request.max_bytes, request.min_bytes, request.max_records, request.max_wait_ms] != [0; 4];
    if renews && fetches {
        return Err(ErrorCode::InvalidRequest.into());
    }
    // Kafka fails on its own here, as it has no such mode.
    if ![0, STRICT].contains(&request.share_acquire_mode) {
        return Err(ErrorCode::UnknownServerError.into());
    }
    Ok(())
}

fn says_something(request: &ShareFetchRequest) -> bool {
    let mut partitions = request.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.any(|partition| !partition.acknowledgement_batches.is_empty())
}

/// Opens the session, goes on with it, or ends it (`SharePartitionManager.newContext`); the partitions it has then.
fn enter_session(
    state: &mut State,
    from: &Caller,
    waiting: &WaitingShareFetch,
    request: &ShareFetchRequest,
) -> Result<Vec<Wanted>, Reject> {
    let who = (from.node, &*waiting.group, &*waiting.ask.member);
    let wanted: Vec<Wanted> = request.topics.iter().flat_map(|topic| wanted(state, topic)).collect();
    match request.share_session_epoch {
        FINAL_EPOCH => state.shares.check_session(who).map(|()| Vec::new()),
        INITIAL_EPOCH if says_something(request) => Err(ErrorCode::InvalidRequest.into()),
        INITIAL_EPOCH => {
            let max = usize::try_from(state.configs.broker_settings().share_sessions_max).unwrap_or(0);
            state.shares.open_session(who, from.conn, &wanted, max).map(|()| wanted)
        }
        epoch => {
            let forgotten: Vec<_> = request.forgotten_topics_data.iter().flat_map(forgotten).collect();
            state.shares.advance_session(who, epoch, &wanted, &forgotten)
        }
    }
}

impl WaitingShareFetch {
    /// Opens what is to be read; each request begins with another partition, so that all get their turn.
    fn open(&mut self, state: &mut State, now: Time, from: &Caller, mut wanted: Vec<Wanted>) {
        if !wanted.is_empty() {
            let turn = usize::try_from(self.epoch).unwrap_or(0) % wanted.len();
            wanted.rotate_left(turn);
        }
        let mut loading = false;
        for wanted in wanted {
            let key = ShareKey { group: Arc::clone(&self.group), topic: wanted.topic, index: wanted.index };
            let place = (from.node, key);
            let Err(reject) = open_one(state, now, from, &wanted, &place) else {
                self.reading.push(place);
                continue;
            };
            // What goes wrong when a partition's state is read is known only later.
            loading |= ![ErrorCode::UnknownTopicOrPartition, ErrorCode::NotLeaderOrFollower].contains(&reject.code);
            self.refused.push(((wanted.topic, wanted.index), reject.code));
        }
        self.at_once |= self.reading.is_empty() && !loading;
    }

    fn who(&self) -> (NodeId, &str, &str) {
        (self.node, &self.group, &self.ask.member)
    }
}

fn open_one(state: &mut State, now: Time, from: &Caller, wanted: &Wanted, place: &SharePlace) -> Result<(), Reject> {
    let name = wanted.name.as_deref().ok_or(ErrorCode::UnknownTopicOrPartition)?;
    from.check_access(state, Operation::Read, To::Topic(name))?;
    from.check_fault(Part::Partition(name, wanted.index))?;
    state.open_share(now, place)
}

/// The response, if there is enough to answer with (`DelayedShareFetch`).
pub(crate) fn resume(state: &mut State, now: Time, fetch: &WaitingShareFetch, time_is_up: bool) -> Option<Response> {
    let over = time_is_up || fetch.at_once;
    if fetch.turned_away {
        return time_is_up.then(|| refusal(ErrorCode::ShareSessionLimitReached).into());
    }
    let rules = state.share_rules(&fetch.group);
    let mut open = Vec::new();
    for place in &fetch.reading {
        if state.served_share(place).is_some()
            && let Some(from) = state.shares.next_fetch_offset(place, &rules)
        {
            open.push((place, from));
        }
    }
    if !over && (open.is_empty() || !is_enough(state, fetch, &open)) {
        return None;
    }
    Some(respond(state, now, fetch, &rules, &open).into())
}

fn is_enough(state: &mut State, fetch: &WaitingShareFetch, open: &[(&SharePlace, i64)]) -> bool {
    let each = (fetch.max_bytes / open.len()) as u64;
    let committed = reads_committed(state, fetch);
    let mut readable = 0;
    for (place, from) in open {
        let Some(partition) = state.served_share(place) else { continue };
        let log = &partition.log;
        let upper = upper(log, committed);
        if !log.contains_position(*from) || *from > upper {
            return true;
        }
        readable += log.readable_bytes(*from, upper).min(each);
    }
    readable >= fetch.min_bytes
}

fn reads_committed(state: &State, fetch: &WaitingShareFetch) -> bool {
    state.configs.group_settings(&fetch.group).share_read_committed
}

fn upper(log: &Log, committed: bool) -> i64 {
    if committed { log.last_stable_offset() } else { log.high_watermark() }
}

fn respond(
    state: &mut State,
    now: Time,
    fetch: &WaitingShareFetch,
    rules: &Rules,
    open: &[(&SharePlace, i64)],
) -> ShareFetchResponse {
    let lock_ms = i32::try_from(rules.lock.as_millis()).unwrap_or(i32::MAX);
    if fetch.epoch > 0 && !state.shares.session_is_at(fetch.who(), fetch.epoch) {
        let error_code = ErrorCode::InvalidShareSessionEpoch.code();
        let response = ShareFetchResponse { error_code, acquisition_lock_timeout_ms: lock_ms, ..Default::default() };
        return with_acknowledgements(response, &fetch.taken);
    }
    let mut rows = read_all(state, now, fetch, rules, open);
    rows.extend(fetch.refused.iter().map(|((topic, index), code)| (*topic, refused(state, *topic, *index, *code))));
    if fetch.epoch > 0 {
        rows.retain(|(topic, row)| {
            let has_records = !row.records.is_empty();
            state.shares.tell(fetch.who(), (*topic, row.partition_index), has_records, row.error_code != 0)
        });
    }
    if fetch.epoch == FINAL_EPOCH {
        state.release_share_session(fetch.node, &fetch.group, &fetch.ask.member);
    }
    let leaders = rows.iter().map(|(_, row)| row.current_leader.leader_id).filter(|id| *id > 0);
    let node_endpoints = endpoints(state, leaders).into_iter().map(|node| NodeEndpoint {
        node_id: node.id.0,
        host: Str::from(node.host.as_str()),
        port: i32::from(node.port),
        rack: rack(node),
    });
    let response = ShareFetchResponse {
        acquisition_lock_timeout_ms: lock_ms,
        node_endpoints: node_endpoints.collect(),
        responses: grouped(rows),
        ..Default::default()
    };
    with_acknowledgements(response, &fetch.taken)
}

fn read_all(
    state: &mut State,
    now: Time,
    fetch: &WaitingShareFetch,
    rules: &Rules,
    open: &[(&SharePlace, i64)],
) -> Vec<(Uuid, PartitionData)> {
    let mut left = fetch.max_bytes;
    let mut ask = fetch.ask.clone();
    let mut rows = Vec::new();
    if fetch.at_once {
        return rows;
    }
    for (number, (place, from)) in open.iter().enumerate() {
        let extra = if number == 0 { fetch.max_bytes % open.len() } else { 0 };
        let max_bytes = (fetch.max_bytes / open.len() + extra).min(left);
        let nothing_yet = left == fetch.max_bytes;
        let found = read(state, fetch, place, *from, max_bytes, nothing_yet);
        left = left.saturating_sub(found.slice.bytes);
        let acquired = state.shares.acquire(now, place, rules, &ask, *from, &found.batches, &found.aborted);
        let given: i64 = acquired.iter().map(Acquired::records).sum();
        ask.max_records = ask.max_records.saturating_sub(i32::try_from(given).unwrap_or(i32::MAX));
        rows.push((place.1.topic, row(place.1.index, &found, &acquired)));
    }
    rows
}

/// What a read found.
#[derive(Default)]
struct Found {
    slice: Slice,
    batches: Vec<ReadBatch>,
    aborted: Vec<AbortedTransaction>,
}

fn read(
    state: &mut State,
    fetch: &WaitingShareFetch,
    place: &SharePlace,
    from: i64,
    max_bytes: usize,
    at_least_one: bool,
) -> Found {
    let committed = reads_committed(state, fetch);
    let Some(partition) = state.served_share(place) else { return Found::default() };
    let log = &partition.log;
    if !log.contains_position(from) {
        let log_start = log.start_offset();
        state.shares.follow_log_start(place, log_start);
        return Found::default();
    }
    let slice = log.read(from, upper(log, committed), max_bytes, at_least_one);
    let batches: Vec<ReadBatch> = slice.chunks.iter().filter_map(read_batch).collect();
    let end = batches.last().map_or(from, |batch| batch.last + 1);
    let aborted = if committed { log.transactions().aborted(from, end) } else { Vec::new() };
    Found { slice, batches, aborted }
}

fn read_batch(bytes: &Bytes) -> Option<ReadBatch> {
    let header = BatchHeader::parse(bytes).ok()?;
    Some(ReadBatch {
        first: header.base_offset,
        last: header.last_offset(),
        transaction_of: (header.is_transactional() && header.has_producer_id()).then_some(header.producer_id),
        aborts: Marker::of(&header, bytes).is_some_and(|marker| !marker.committed),
    })
}

fn row(partition_index: i32, found: &Found, acquired: &[Acquired]) -> PartitionData {
    let (Some(first), Some(last)) = (acquired.first(), acquired.last()) else {
        return PartitionData { partition_index, ..Default::default() };
    };
    // Batches before and behind what was acquired are left out.
    let begin = found.batches.iter().rposition(|batch| batch.first <= first.first).unwrap_or(0);
    let wanted = found.batches.iter().zip(&found.slice.chunks).skip(begin);
    let wanted = wanted.take_while(|(batch, _)| batch.first <= last.last);
    PartitionData {
        partition_index,
        records: wanted.map(|(_, chunk)| chunk.clone()).collect(),
        acquired_records: acquired.iter().map(acquired_row).collect(),
        ..Default::default()
    }
}

fn acquired_row(acquired: &Acquired) -> AcquiredRecords {
    AcquiredRecords {
        first_offset: acquired.first,
        last_offset: acquired.last,
        delivery_count: i16::try_from(acquired.count).unwrap_or(i16::MAX),
    }
}

fn refused(state: &State, topic: Uuid, partition_index: i32, code: ErrorCode) -> PartitionData {
    let leader = leader_named(state, code.code(), topic, partition_index);
    let current_leader =
        leader.map_or_else(Default::default, |(leader_id, leader_epoch)| LeaderIdAndEpoch { leader_id, leader_epoch });
    PartitionData { partition_index, error_code: code.code(), current_leader, ..Default::default() }
}

fn grouped(rows: Vec<(Uuid, PartitionData)>) -> Vec<ShareFetchableTopicResponse> {
    let mut topics: IndexMap<Uuid, Vec<PartitionData>> = IndexMap::new();
    for (topic, row) in rows {
        topics.entry(topic).or_default().push(row);
    }
    topics.into_iter().map(|(topic_id, partitions)| ShareFetchableTopicResponse { topic_id, partitions }).collect()
}

/// Adds what came of acknowledgements, beside what was read or in rows of their own.
fn with_acknowledgements(mut response: ShareFetchResponse, taken: &[Taken]) -> ShareFetchResponse {
    for taken in taken {
        let at = response.responses.iter().position(|topic| topic.topic_id == taken.topic).unwrap_or_else(|| {
            let partitions = Vec::new();
            response.responses.push(ShareFetchableTopicResponse { topic_id: taken.topic, partitions });
            response.responses.len() - 1
        });
        let rows = &mut response.responses[at].partitions;
        let at = rows.iter().position(|row| row.partition_index == taken.index).unwrap_or_else(|| {
            rows.push(PartitionData { partition_index: taken.index, ..Default::default() });
            rows.len() - 1
        });
        rows[at].acknowledge_error_code = taken.error_code;
        rows[at].acknowledge_error_message.clone_from(&taken.error_message);
    }
    response
}

fn refusal(code: ErrorCode) -> ShareFetchResponse {
    ShareFetchResponse { error_code: code.code(), ..Default::default() }
}

fn wanted<'a>(state: &'a State, topic: &'a FetchTopic) -> impl Iterator<Item = Wanted> + 'a {
    topic.partitions.iter().map(|partition| Wanted {
        topic: topic.topic_id,
        name: state.topics.name_of(topic.topic_id).map(str::to_owned),
        index: partition.partition_index,
    })
}

fn forgotten(topic: &ForgottenTopic) -> impl Iterator<Item = (Uuid, i32)> + '_ {
    topic.partitions.iter().map(|index| (topic.topic_id, *index))
}

fn said(topic: FetchTopic) -> impl Iterator<Item = (Uuid, i32, Vec<Said>)> {
    topic.partitions.into_iter().map(move |partition| {
        let batches = partition.acknowledgement_batches.into_iter();
        let said = batches.map(|batch| Said {
            first: batch.first_offset,
            last: batch.last_offset,
            outcomes: batch.acknowledge_types,
        });
        (topic.topic_id, partition.partition_index, said.collect())
    })
}
