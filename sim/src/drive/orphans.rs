//! What an operator does when a group has left partitions to nobody because of a flaw of the client.
//!
//! The leader of a classic group asks a broker for the topic's partitions and shares them out. When that broker says that
//! there is no such topic, librdkafka 2.12 shares out nothing new: every member keeps what it had, the rest belongs to
//! nobody (`rd_kafka_cooperative_protocol_adjust_assignment`: "unknown but owned"). It supposes that its metadata will
//! change and make it join again; but this answer is kept apart from its metadata
//! (`rd_kafka_cgrp_handle_JoinGroup` asks with `cgrp_update` false), so nothing has changed, and the group stays as it is
//! until somebody joins or leaves. Java's leader keeps what it shared out by, and joins again when it learns better
//! (`ConsumerCoordinator.rejoinNeededOrPending`).
//!
//! A member does not see this unless it asks the coordinator who has what, which the bus does not do yet. So a run in which
//! it happened is not at fault; but it has to come to rest once the members join again, as they would when a person
//! restarts a worker. Only a generation that was formed while a broker denied the topic gets this help.

use super::witness::assigned;
use crate::history::TopicPartition;
use crate::name::Name;
use crate::plan::{Fault, Plan};
use crate::world::World;
use rehearsal_mockbroker::cluster::Cluster;
use rehearsal_mockbroker::control::Command;
use rehearsal_mockbroker::state::groups::State;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

/// When the operator looks, after all faults are over: groups have found together by then if they ever will.
pub(super) const LOOKS_AFTER: Duration = Duration::from_secs(30);

/// How long an answer may have been on its way when its broker tells the truth again.
const ON_ITS_WAY: Duration = Duration::from_secs(2);

/// When brokers denied topics.
pub(super) fn denials(plan: &Plan) -> Vec<RangeInclusive<Duration>> {
    let denial = |(_, at, fault): (&Name, Duration, &Fault)| match fault {
        Fault::DenyTopic { lasts, .. } => Some(at..=at + lasts.0 + ON_ITS_WAY),
        _ => None,
    };
    plan.faults().filter_map(denial).collect()
}

/// Makes those groups join again that were formed during one of these times and left partitions to nobody.
pub(super) fn help(world: &World, denials: &[RangeInclusive<Duration>], groups: &[(Name, Vec<Name>)]) {
    for (group, topics) in groups {
        let formed = world.formed(group);
        let misled = formed.is_some_and(|formed| denials.iter().any(|denial| denial.contains(&formed)));
        if misled && world.cluster(|cluster| leaves_out(cluster, group, topics)) {
            // It is there, or it would leave out nothing.
            let _ = world.control(Command::Rebalance { group: group.to_string() });
        }
    }
}

/// Whether a group that rests has given a partition to nobody.
fn leaves_out(cluster: &Cluster, group: &Name, topics: &[Name]) -> bool {
    let Some(view) = cluster.group(group).filter(|view| view.state == State::Stable) else { return false };
    let given: BTreeSet<TopicPartition> = view.members.iter().flat_map(assigned).collect();
    topics.iter().any(|topic| {
        let partitions = (0_i32..).zip(cluster.partitions(topic));
        partitions.into_iter().any(|(index, _)| !given.contains(&TopicPartition::new(topic.clone(), index)))
    })
}
