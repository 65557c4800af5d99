//! ShareAcknowledge (79), versions 1–2.
//!
//! Does: accepts, releases, rejects and, from version 2 on, renews (KIP-1222) what a member of a share group has acquired;
//! gaps; share sessions and their end, which releases the rest.
//! Leaves out: quotas.
//! Differs from Apache Kafka: none known.

use super::access::To;
use super::groups::speaking_share_protocol;
use super::sharing::{Said, Taken, endpoints, leader_named, names, take_in};
use super::{Answer, rack};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::fault::Part;
use crate::state::State;
use crate::state::security::acls::Operation;
use crate::state::share::{FINAL_EPOCH, INITIAL_EPOCH};
use crate::time::Time;
use crate::wire::generated::share_acknowledge_request::{AcknowledgeTopic, ShareAcknowledgeRequest};
use crate::wire::generated::share_acknowledge_response::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionData, ShareAcknowledgeResponse, ShareAcknowledgeTopicResponse,
};
use crate::wire::{Str, Uuid};
use indexmap::IndexMap;

pub(super) fn share_acknowledge(
    state: &mut State,
    now: Time,
    from: &Caller,
    request: ShareAcknowledgeRequest,
) -> Answer {
    Answer::now(
        acknowledge(state, now, from, request)
            .unwrap_or_else(|reject| ShareAcknowledgeResponse { error_code: reject.code.code(), ..Default::default() }),
    )
}

fn acknowledge(
    state: &mut State,
    now: Time,
    from: &Caller,
    request: ShareAcknowledgeRequest,
) -> Result<ShareAcknowledgeResponse, Reject> {
    speaking_share_protocol(state)?;
    let (group, member) = names(request.group_id.as_ref(), request.member_id.as_ref())?;
    from.check_access(state, Operation::Read, To::Group(&group))?;
    from.check_fault(Part::Named(&group))?;
    let who = (from.node, &*group, &*member);
    match request.share_session_epoch {
        INITIAL_EPOCH => return Err(ErrorCode::InvalidShareSessionEpoch.into()),
        FINAL_EPOCH => state.shares.check_session(who)?,
        epoch => drop(state.shares.advance_session(who, epoch, &[], &[])?),
    }
    let said = request.topics.into_iter().flat_map(said).collect();
    let taken = take_in(state, now, from, (&group, &member), request.is_renew_ack, said);
    if request.share_session_epoch == FINAL_EPOCH {
        state.release_share_session(from.node, &group, &member);
    }
    let lock = state.share_rules(&group).lock;
    Ok(ShareAcknowledgeResponse {
        acquisition_lock_timeout_ms: i32::try_from(lock.as_millis()).unwrap_or(i32::MAX),
        ..answered(state, taken)
    })
}

fn said(topic: AcknowledgeTopic) -> impl Iterator<Item = (Uuid, i32, Vec<Said>)> {
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

fn answered(state: &State, taken: Vec<Taken>) -> ShareAcknowledgeResponse {
    let mut topics: IndexMap<Uuid, Vec<PartitionData>> = IndexMap::new();
    for row in taken {
        let leader = leader_named(state, row.error_code, row.topic, row.index);
        let current_leader = leader
            .map_or_else(Default::default, |(leader_id, leader_epoch)| LeaderIdAndEpoch { leader_id, leader_epoch });
        topics.entry(row.topic).or_default().push(PartitionData {
            partition_index: row.index,
            error_code: row.error_code,
            error_message: row.error_message,
            current_leader,
        });
    }
    let leaders = topics.values().flatten().map(|row| row.current_leader.leader_id).filter(|id| *id > 0);
    let node_endpoints = endpoints(state, leaders).into_iter().map(|node| NodeEndpoint {
        node_id: node.id.0,
        host: Str::from(node.host.as_str()),
        port: i32::from(node.port),
        rack: rack(node),
    });
    let node_endpoints = node_endpoints.collect();
    let responses =
        topics.into_iter().map(|(topic_id, partitions)| ShareAcknowledgeTopicResponse { topic_id, partitions });
    ShareAcknowledgeResponse { node_endpoints, responses: responses.collect(), ..Default::default() }
}
