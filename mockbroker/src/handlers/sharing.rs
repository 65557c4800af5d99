//! What the handlers of share consumers have in common: who they are, and what they say became of records.

use super::access::To;
use super::message;
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::fault::Part;
use crate::state::State;
use crate::state::nodes::Node;
use crate::state::security::acls::Operation;
use crate::state::share::{Acknowledgement, Outcome, ShareKey};
use crate::time::Time;
use crate::wire::{Str, Uuid};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The first version in which locks can be renewed and records limited (KIP-1222, KIP-1206).
pub(super) const RENEWS_FROM: i16 = 2;
/// What a renewal has in place of an outcome.
const RENEW: i8 = 4;

/// What a member says of some records of one partition, as it was sent.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) outcomes: Vec<i8>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) topic: Uuid,
    pub(super) index: i32,
    pub(super) error_code: i16,
    pub(super) error_message: Option<Str>,
}

/// The group and the member of a request, if they can be that.
pub(super) fn names(group: Option<&Str>, member: Option<&Str>) -> Result<(Arc<str>, Arc<str>), Reject> {
    let group = group.ok_or(ErrorCode::InvalidRequest)?;
    let member = member.filter(|id| is_valid_id(id)).ok_or(ErrorCode::InvalidRequest)?;
    Ok((Arc::from(group.as_str()), Arc::from(member.as_str())))
}

/// Neither empty nor longer than a UUID (`KafkaApis.isMemberIdValid`).
pub(super) fn is_valid_id(id: &str) -> bool {
    !id.is_empty() && id.encode_utf16().count() <= 36
}

/// Takes in what a member says, partition by partition (`KafkaApis.handleAcknowledgements`).
pub(super) fn take_in(
    state: &mut State,
    now: Time,
    from: &Caller,
    (group, member): (&Arc<str>, &str),
    renews: bool,
    said: Vec<(Uuid, i32, Vec<Said>)>,
) -> Vec<Taken> {
    let mut taken = Vec::new();
    let mut silent = Vec::new();
    let mut anything = false;
    for (topic, index, said) in said {
        let row = |reject: Option<Reject>, explained: bool| Taken {
            topic,
            index,
            error_code: reject.as_ref().map_or(ErrorCode::None, |reject| reject.code).code(),
            error_message: reject.as_ref().filter(|_| explained).and_then(message),
        };
        let checked = check(state, from, topic, index, renews, &said);
        match checked {
            Err(reject) => taken.push(row(Some(reject), false)),
            Ok(meant) if meant.is_empty() => silent.push(row(None, false)),
            Ok(_) if !may_read(state, from, topic) => {
                taken.push(row(Some(ErrorCode::TopicAuthorizationFailed.into()), false));
            }
            Ok(meant) => {
                anything = true;
                let key = ShareKey { group: Arc::clone(group), topic, index };
                taken.push(row(acknowledge(state, now, from, key, member, &meant).err(), true));
            }
        }
    }
    // Kafka mentions partitions of which nothing was said only beside others.
    taken.extend(silent.into_iter().filter(|_| anything));
    taken
}

/// Whether the caller may read the topic; one that is not there is no secret.
fn may_read(state: &State, from: &Caller, topic: Uuid) -> bool {
    state.topics.name_of(topic).is_none_or(|name| from.has_access(state, Operation::Read, To::Topic(name)))
}

fn acknowledge(
    state: &mut State,
    now: Time,
    from: &Caller,
    key: ShareKey,
    member: &str,
    meant: &[Acknowledgement],
) -> Result<(), Reject> {
    let name = state.topics.name_of(key.topic).map(str::to_owned).unwrap_or_default();
    from.check_fault(Part::Partition(&name, key.index))?;
    let rules = state.share_rules(&key.group);
    let place = (from.node, key);
    state.served_share(&place).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let acknowledged = state.shares.acknowledge(now, &place, &rules, member, meant);
    state.share_changed(&place.1);
    acknowledged
}

/// Refuses what no client should send (`KafkaApis.validateAcknowledgementBatches`).
fn check(
    state: &State,
    from: &Caller,
    topic: Uuid,
    index: i32,
    renews: bool,
    said: &[Said],
) -> Result<Vec<Acknowledgement>, Reject> {
    let name = state.topics.name_of(topic).ok_or(ErrorCode::UnknownTopicId)?;
    let mut last = -1;
    let mut meant = Vec::with_capacity(said.len());
    for said in said {
        let records = said.last.saturating_sub(said.first).saturating_add(1);
        let fits = said.outcomes.len() == 1 || i64::try_from(said.outcomes.len()).is_ok_and(|each| each == records);
        let known = |outcome: &i8| match *outcome {
            RENEW => renews && from.version >= RENEWS_FROM,
            outcome => (0..RENEW).contains(&outcome),
        };
        if said.first > said.last || said.first < last || !fits || !said.outcomes.iter().all(known) {
            return Err(ErrorCode::InvalidRequest.into());
        }
        last = said.last;
        let outcomes = said.outcomes.iter().filter_map(|outcome| Outcome::of(*outcome)).collect();
        meant.push(Acknowledgement { first: said.first, last: said.last, outcomes });
    }
    state.topics.partition(name, index)?;
    Ok(meant)
}

/// Who leads a partition, for rows that say it is another: id and epoch.
pub(super) fn leader_named(state: &State, error_code: i16, topic: Uuid, index: i32) -> Option<(i32, i32)> {
    let moved = [ErrorCode::NotLeaderOrFollower.code(), ErrorCode::FencedLeaderEpoch.code()].contains(&error_code);
    let partition = state.topics.partition(state.topics.name_of(topic)?, index).ok().filter(|_| moved)?;
    Some((partition.leader.map_or(-1, |node| node.0), partition.leader_epoch))
}

/// The brokers with these ids.
pub(super) fn endpoints(state: &State, ids: impl Iterator<Item = i32>) -> Vec<&Node> {
    let ids: BTreeSet<i32> = ids.collect();
    state.nodes.iter().filter(|node| ids.contains(&node.id.0)).collect()
}
