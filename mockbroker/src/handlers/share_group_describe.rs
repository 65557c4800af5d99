//! ShareGroupDescribe (77), version 1.
//!
//! Does: epochs and members of share groups (KIP-932) with what they may read.
//! Leaves out: nothing.
//! Differs from Apache Kafka: the answer has the order of the request.

use super::access::To;
use super::groups::{coordinated, optional, seeing_all, speaking_share_protocol, unseen_topics};
use super::{Answer, NO_OPERATIONS, message};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::state::State;
use crate::state::groups::{SHARE_ASSIGNOR, ShareGroupView, ShareMemberView};
use crate::state::security::acls::Operation;
use crate::time::Time;
use crate::wire::Str;
use crate::wire::generated::share_group_describe_request::ShareGroupDescribeRequest;
use crate::wire::generated::share_group_describe_response::{
    Assignment, DescribedGroup, Member, ShareGroupDescribeResponse, TopicPartitions,
};

pub(super) fn share_group_describe(
    state: &mut State,
    _: Time,
    from: &Caller,
    request: ShareGroupDescribeRequest,
) -> Answer {
    let asks = request.include_authorized_operations;
    let groups = request.group_ids.into_iter().map(|group_id| match describe(state, from, &group_id) {
        Ok(view) => DescribedGroup {
            authorized_operations: if asks { from.operations_on(state, To::Group(&group_id)) } else { NO_OPERATIONS },
            group_id,
            ..described(view)
        },
        Err(reject) => refused(group_id, &reject),
    });
    Answer::now(ShareGroupDescribeResponse { groups: groups.collect(), ..Default::default() })
}

fn describe(state: &State, from: &Caller, group: &str) -> Result<ShareGroupView, Reject> {
    speaking_share_protocol(state)?;
    coordinated(state, from, Operation::Describe, group)?;
    let view = state.groups.describe_share(group)?;
    let assigned = view.members.iter().flat_map(|member| &member.assignment);
    seeing_all(state, from, assigned.map(|(topic, ..)| topic.as_str())).map_err(|_| unseen_topics())?;
    Ok(view)
}

fn described(view: ShareGroupView) -> DescribedGroup {
    DescribedGroup {
        group_state: Str::from(view.state),
        group_epoch: view.epoch,
        assignment_epoch: view.assignment_epoch,
        assignor_name: Str::from(SHARE_ASSIGNOR),
        members: view.members.into_iter().map(member).collect(),
        ..Default::default()
    }
}

fn member(member: ShareMemberView) -> Member {
    let topics = member.assignment.into_iter().map(|(name, topic_id, partitions)| TopicPartitions {
        topic_id,
        topic_name: Str::from(name),
        partitions,
    });
    Member {
        member_id: Str::from(member.member_id),
        rack_id: optional(member.rack),
        member_epoch: member.epoch,
        client_id: Str::from(member.client_id),
        client_host: Str::from(member.client_host),
        subscribed_topic_names: member.topics.into_iter().map(Str::from).collect(),
        assignment: Assignment { topic_partitions: topics.collect() },
    }
}

/// Only a group that is not there, or reads what may not be seen, is explained.
fn refused(group_id: Str, reject: &Reject) -> DescribedGroup {
    let error_message = message(reject)
        .filter(|_| matches!(reject.code, ErrorCode::GroupIdNotFound | ErrorCode::TopicAuthorizationFailed));
    DescribedGroup { group_id, error_code: reject.code.code(), error_message, ..Default::default() }
}
