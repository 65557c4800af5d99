//! The same requests to our broker and to Apache Kafka 4.3.0; the answers must not differ.
//!
//! A script is a function over a [`Stage`]; its name is the test's. Accepted differences stand in `known.toml`.

mod administration;
mod cluster;
mod configs;
mod consumer_groups;
mod fetch;
mod groups;
mod guarded_administration;
mod offsets;
mod produce;
mod random;
mod security;
mod share_fetch;
mod share_groups;
mod streams_groups;
mod topics;
mod transactions;
mod upkeep;
mod verbs;

use tests::differential::{Stage, check, check_guarded, check_with, known};

macro_rules! scripts {
    ($list:ident by $check:ident: $($module:ident: $($script:ident),+ $(,)?;)*) => {
        const $list: &[&str] = &[$($(stringify!($script)),+),*];
        $($(
            #[test]
            fn $script() {
                $check(stringify!($script), $module::$script as fn(&mut Stage), &known());
            }
        )+)*
    };
}

scripts! {
    GUARDED by check_guarded:
    security: sasl_refusals, scram_credentials, acl_rules, acl_refusals, acl_hidden_topics;
    guarded_administration: acl_administration, acl_share_groups, acl_streams_groups;
}

scripts! {
    SCRIPTS by check:
    cluster: api_versions, describe_cluster, metadata, metadata_auto_creation, find_coordinator, unsupported_versions;
    topics: create_topics, create_topics_refused, create_topics_assigned, delete_topics, create_partitions,
        delete_records, describe_topic_partitions;
    configs: describe_topic_configs, describe_broker_configs, incremental_alter_configs, alter_configs_act;
    produce: produce_versions, produce_acks, produce_refused, produce_timestamps, init_producer_id,
        idempotent_produce, producer_epochs;
    fetch: fetch_versions, fetch_long_poll, fetch_byte_limits, fetch_refused, fetch_sessions, list_offsets,
        list_offsets_by_time, offset_for_leader_epoch;
    groups: join_alone, two_eager_members, static_members, group_refusals, heartbeats, leave_group, describe_groups,
        list_groups, delete_groups;
    consumer_groups: consumer_group_alone, consumer_group_refusals, consumer_group_rebalances,
        consumer_group_static_members, consumer_group_commits, consumer_group_expressions, consumer_group_migration;
    share_groups: share_group_members, share_group_refusals;
    share_fetch: share_fetch_and_acknowledge, share_fetch_in_parts, share_fetch_refused, share_group_offsets;
    streams_groups: streams_group_members, streams_group_topologies, streams_group_refusals;
    offsets: commit_and_fetch, commit_refused, fetch_offsets_of_strangers, offset_delete;
    administration: reassignments, elections, log_dirs, quorum, features, quotas,
        throttled_clients;
    transactions: transactions_of_older_clients, transactions_of_newer_clients, transactions_refused, transactions_fenced,
        aborted_transactions, transactional_offsets, list_transactions, hanging_transactions;
}

#[test]
fn log_upkeep() {
    check_with("log_upkeep", upkeep::log_upkeep, &known(), upkeep::SETTINGS);
}

#[test]
fn every_known_difference_names_a_script() {
    let known = known();
    let strangers: Vec<&str> = known
        .scripts()
        .filter(|script| ![SCRIPTS, GUARDED].concat().contains(script) && *script != random::NAME)
        .collect();
    assert!(strangers.is_empty(), "known.toml names scripts that do not exist: {strangers:?}");
}
