//! Who may log in, and who may do what.
//!
//! These scripts play on brokers that ask: what sets the stage comes by the listener that does not, as a super user.

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_user_scram_credentials_request::UserName;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, AlterUserScramCredentialsRequest, ApiVersionsRequest, BrokerId,
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, CreateAclsRequest, CreatePartitionsRequest,
    CreateTopicsRequest, DeleteAclsRequest, DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    DescribeAclsRequest, DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest,
    DescribeProducersRequest, DescribeTransactionsRequest, DescribeUserScramCredentialsRequest, EndTxnRequest,
    FindCoordinatorRequest, GroupId, HeartbeatRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest,
    JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest, ProducerId, SaslAuthenticateRequest,
    SaslHandshakeRequest, SyncGroupRequest, TopicName, TransactionalId, TxnOffsetCommitRequest, WriteTxnMarkersRequest,
};
use kafka_protocol::protocol::StrBytes;
use tests::differential::{Link, Stage};

use crate::verbs::{batch, fetch, from, produce, text};

pub(crate) const TOPIC: i8 = 2;
pub(crate) const GROUP: i8 = 3;
const CLUSTER: i8 = 4;
const TRANSACTIONAL_ID: i8 = 5;
const LITERAL: i8 = 3;
const PREFIXED: i8 = 4;
const ANY: i8 = 1;
const MATCH: i8 = 2;
const ALL: i8 = 2;
pub(crate) const READ: i8 = 3;
const WRITE: i8 = 4;
pub(crate) const CREATE: i8 = 5;
pub(crate) const DELETE: i8 = 6;
pub(crate) const DESCRIBE: i8 = 8;
const DENY: i8 = 2;
const ALLOW: i8 = 3;

fn handshake(mechanism: &str) -> SaslHandshakeRequest {
    SaslHandshakeRequest::default().with_mechanism(text(mechanism))
}

fn token(token: &str) -> SaslAuthenticateRequest {
    SaslAuthenticateRequest::default().with_auth_bytes(token.as_bytes().to_vec().into())
}

pub(crate) fn sasl_refusals(stage: &mut Stage) {
    let versions = ApiVersionsRequest::default();
    let metadata = MetadataRequest::default();
    let link = stage.knock();
    stage.ask_on(link, "metadata before the login", 9, &metadata);
    stage.ask_on(link, "a token before the mechanism", 2, &token("\0alice\0alice-secret"));
    // Who is refused is shut out: each of these comes anew.
    let link = stage.knock();
    stage.ask_on(link, "a mechanism nobody has", 1, &handshake("NONSENSE"));
    let link = stage.knock();
    stage.ask_on(link, "a mechanism that is off", 1, &handshake("OAUTHBEARER"));
    let link = stage.knock();
    stage.quietly_on(link, 0, &versions);
    stage.ask_on(link, "versions twice", 0, &versions);
    for version in 0..=2 {
        for (label, said) in [
            ("wrong password", "\0alice\0wrong"),
            ("nobody's name", "\0nobody\0alice-secret"),
            ("no password", "\0alice\0"),
            ("no name", "\0\0alice-secret"),
            ("no parts", "alice"),
            ("somebody else's behalf", "bob\0alice\0alice-secret"),
        ] {
            let link = stage.knock();
            stage.ask_on(link, &format!("handshake before {label}, version {version}"), 1, &handshake("PLAIN"));
            stage.ask_on(link, &format!("{label}, version {version}"), version, &token(said));
        }
    }
    let link = stage.knock();
    stage.ask_on(link, "handshake before the versions", 1, &handshake("PLAIN"));
    stage.ask_on(link, "versions instead of a token", 0, &versions);
    let link = stage.knock();
    stage.ask_on(link, "handshake before another", 1, &handshake("PLAIN"));
    stage.ask_on(link, "a handshake instead of a token", 1, &handshake("PLAIN"));
    for (label, said) in
        [("unknown to SCRAM", "n,,n=nobody,r=abc"), ("no SCRAM", "nonsense"), ("a nonce that is none", "n,,n=alice,r=")]
    {
        let link = stage.knock();
        stage.ask_on(link, &format!("handshake before {label}"), 1, &handshake("SCRAM-SHA-256"));
        stage.ask_on(link, label, 2, &token(said));
    }
    let link = stage.knock();
    stage.ask_on(link, "handshake", 1, &handshake("PLAIN"));
    stage.ask_on(link, "login", 2, &token("\0alice\0alice-secret"));
    stage.ask_on(link, "a handshake once inside", 1, &handshake("PLAIN"));
    stage.ask_on(link, "a token once inside", 2, &token("\0alice\0alice-secret"));
    stage.ask("a handshake where nobody asks", 1, &handshake("PLAIN"));
    stage.ask("a token where nobody asks", 2, &token("\0alice\0alice-secret"));
}

pub(crate) fn scram_credentials(stage: &mut Stage) {
    let ann = stage.name("ann");
    let set = |name: &StrBytes, mechanism: i8, iterations: i32| {
        ScramCredentialUpsertion::default()
            .with_name(name.clone())
            .with_mechanism(mechanism)
            .with_iterations(iterations)
            .with_salt(vec![1; 16].into())
            .with_salted_password(vec![2; 32].into())
    };
    let remove = |name: &StrBytes, mechanism: i8| {
        ScramCredentialDeletion::default().with_name(name.clone()).with_mechanism(mechanism)
    };
    let alter = |deletions, upsertions| {
        AlterUserScramCredentialsRequest::default().with_deletions(deletions).with_upsertions(upsertions)
    };
    let describe = |names: &[&StrBytes]| {
        let users = names.iter().map(|name| UserName::default().with_name((*name).clone()));
        DescribeUserScramCredentialsRequest::default().with_users(Some(users.collect()))
    };
    let bea = stage.name("bea");
    stage.ask("nobody is known", 0, &describe(&[&ann]));
    stage.ask("set", 0, &alter(vec![], vec![set(&ann, 1, 4096)]));
    stage.ask("set by another mechanism", 0, &alter(vec![], vec![set(&ann, 2, 16384)]));
    stage.until("the credentials are known", |stage| {
        let described = stage.quietly(0, &describe(&[&ann])).unwrap_or_default();
        described.results.first().is_some_and(|row| row.credential_infos.len() == 2)
    });
    stage.ask("described", 0, &describe(&[&ann]));
    stage.ask("described twice", 0, &describe(&[&ann, &ann, &bea]));
    stage.ask("too few iterations", 0, &alter(vec![], vec![set(&bea, 1, 4095)]));
    stage.ask("too many iterations", 0, &alter(vec![], vec![set(&bea, 1, 16385)]));
    stage.ask("no name", 0, &alter(vec![], vec![set(&text(""), 1, 4096)]));
    stage.ask("a mechanism nobody has", 0, &alter(vec![], vec![set(&bea, 3, 4096)]));
    stage.ask("altered twice", 0, &alter(vec![remove(&ann, 1)], vec![set(&ann, 2, 4096)]));
    stage.ask("removed that is not there", 0, &alter(vec![remove(&bea, 1)], vec![]));
    stage.ask("removed", 0, &alter(vec![remove(&ann, 1)], vec![set(&bea, 2, 5000)]));
    let alice = stage.log_in("alice", "alice-secret");
    stage.ask_on(alice, "altered by nobody of note", 0, &alter(vec![remove(&ann, 2)], vec![set(&bea, 2, 5000)]));
    stage.ask_on(alice, "described by nobody of note", 0, &describe(&[&ann]));
}

/// Lets alice do something.
pub(crate) fn allow(kind: i8, name: &StrBytes, operation: i8) -> AclCreation {
    AclCreation::default()
        .with_resource_type(kind)
        .with_resource_name(name.clone())
        .with_resource_pattern_type(LITERAL)
        .with_principal(text("User:alice"))
        .with_host(text("*"))
        .with_operation(operation)
        .with_permission_type(ALLOW)
}

fn create(creations: Vec<AclCreation>) -> CreateAclsRequest {
    CreateAclsRequest::default().with_creations(creations)
}

fn find(kind: i8, name: Option<&StrBytes>, pattern: i8) -> DescribeAclsRequest {
    DescribeAclsRequest::default()
        .with_resource_type_filter(kind)
        .with_resource_name_filter(name.cloned())
        .with_pattern_type_filter(pattern)
        .with_principal_filter(None)
        .with_host_filter(None)
        .with_operation(ANY)
        .with_permission_type(ANY)
}

fn delete(name: &StrBytes, pattern: i8) -> DeleteAclsFilter {
    DeleteAclsFilter::default()
        .with_resource_type_filter(ANY)
        .with_resource_name_filter(Some(name.clone()))
        .with_pattern_type_filter(pattern)
        .with_principal_filter(None)
        .with_host_filter(None)
        .with_operation(ANY)
        .with_permission_type(ANY)
}

/// Awaits that the broker knows so many rules about a name.
fn until_known(stage: &mut Stage, name: &StrBytes, rules: usize) {
    stage.until("the rules are known", |stage| {
        let found = stage.quietly(3, &find(ANY, Some(name), ANY)).unwrap_or_default();
        found.resources.iter().map(|resource| resource.acls.len()).sum::<usize>() == rules
    });
}

/// Lets alice do something more, and awaits that the broker knows.
pub(crate) fn grant(stage: &mut Stage, rules: Vec<AclCreation>) {
    for rule in rules {
        let name = rule.resource_name.clone();
        let known = stage.quietly(3, &find(ANY, Some(&name), ANY)).unwrap_or_default();
        let known = known.resources.iter().map(|resource| resource.acls.len()).sum::<usize>();
        stage.quietly(3, &create(vec![rule]));
        until_known(stage, &name, known + 1);
    }
}

pub(crate) fn acl_rules(stage: &mut Stage) {
    let (orders, prefix) = (stage.name("orders"), text("acl_rules-ord"));
    let good = allow(TOPIC, &orders, READ);
    for version in 1..=3 {
        stage.ask(&format!("create, version {version}"), version, &create(vec![good.clone()]));
    }
    // Not alice: whether she may write anywhere at all is asked by another script.
    let prefixed = allow(TOPIC, &prefix, WRITE).with_resource_pattern_type(PREFIXED).with_principal(text("User:carol"));
    let denied = allow(TOPIC, &orders, ALL).with_permission_type(DENY).with_host(text("10.0.0.1"));
    for (label, filter_like) in [
        ("any type", good.clone().with_resource_type(ANY)),
        ("a pattern of filters", good.clone().with_resource_pattern_type(MATCH)),
        ("any pattern", good.clone().with_resource_pattern_type(ANY)),
        ("any operation", good.clone().with_operation(ANY)),
        ("any permission", good.clone().with_permission_type(ANY)),
        ("an unknown type", good.clone().with_resource_type(77)),
        ("an unknown pattern", good.clone().with_resource_pattern_type(0)),
        ("an unknown operation", good.clone().with_operation(77)),
        ("an unknown permission", good.clone().with_permission_type(0)),
    ] {
        stage.ask(label, 3, &create(vec![prefixed.clone(), filter_like]));
    }
    stage.ask("an unknown type to find", 3, &find(77, Some(&orders), LITERAL));
    stage.ask("an unknown pattern to find", 3, &find(TOPIC, Some(&orders), 77));
    let unknown = delete(&orders, LITERAL).with_operation(77);
    stage.ask("an unknown operation to delete", 3, &DeleteAclsRequest::default().with_filters(vec![unknown]));
    stage.ask("an unsaid pattern to find", 3, &find(TOPIC, Some(&orders), 0));
    stage.ask("an unsaid pattern to delete", 3, &DeleteAclsRequest::default().with_filters(vec![delete(&orders, 0)]));
    let bad = vec![
        good.clone().with_resource_name(text("")),
        good.clone().with_principal(text("alice")),
        allow(CLUSTER, &text("another"), CREATE),
        prefixed.clone(),
        denied,
    ];
    stage.ask("good and bad", 3, &create(bad));
    until_known(stage, &orders, 2);
    until_known(stage, &prefix, 1);
    for version in 1..=3 {
        stage.ask(&format!("by name, version {version}"), version, &find(TOPIC, Some(&orders), LITERAL));
    }
    stage.ask("whatever its pattern", 3, &find(TOPIC, Some(&prefix), ANY));
    stage.ask("those that concern a topic", 3, &find(TOPIC, Some(&orders), MATCH));
    stage.ask("of another kind", 3, &find(GROUP, Some(&orders), MATCH));
    stage.ask("none", 3, &find(TOPIC, Some(&text("nothing")), LITERAL));
    let whose = find(TOPIC, Some(&orders), ANY).with_principal_filter(Some(text("User:bob")));
    stage.ask("somebody else's", 3, &whose);
    let alice = stage.log_in("alice", "alice-secret");
    stage.ask_on(alice, "described by nobody of note", 3, &find(TOPIC, Some(&orders), ANY));
    stage.ask_on(alice, "created by nobody of note", 3, &create(vec![good]));
    let filters = vec![delete(&orders, ANY), delete(&prefix, PREFIXED), delete(&text("nothing"), ANY)];
    let both = DeleteAclsRequest::default().with_filters(filters);
    stage.ask_on(alice, "deleted by nobody of note", 3, &both);
    stage.ask("deleted", 3, &both);
    until_known(stage, &orders, 0);
    stage.ask("gone", 3, &find(TOPIC, Some(&orders), ANY));
}

/// What alice asks about.
struct Scene {
    topic: TopicName,
    absent: TopicName,
    group: GroupId,
    transactional_id: TransactionalId,
}

fn metadata(topics: &[&TopicName]) -> MetadataRequest {
    let topic = |name: &&TopicName| MetadataRequestTopic::default().with_name(Some((*name).clone()));
    MetadataRequest::default()
        .with_topics(Some(topics.iter().map(topic).collect()))
        .with_allow_auto_topic_creation(false)
        .with_include_topic_authorized_operations(true)
        .with_include_cluster_authorized_operations(true)
}

/// Asks about topics, as somebody who may or may not.
fn ask_about_topics(stage: &mut Stage, as_alice: Link, when: &str, scene: &Scene) {
    let label = |what: &str| format!("{what}, {when}");
    let both = [&scene.topic, &scene.absent];
    stage.ask_on(as_alice, &label("metadata"), 9, &metadata(&both));
    for name in both {
        stage.ask_on(as_alice, &label("produce"), 9, &produce(name, 0, batch(&["a"]).encode()));
        stage.ask_on(as_alice, &label("fetch"), 11, &fetch(name, vec![from(0, 0)]));
        let row = ListOffsetsPartition::default().with_partition_index(0).with_timestamp(-1);
        let offsets = ListOffsetsTopic::default().with_name(name.clone()).with_partitions(vec![row]);
        let offsets = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![offsets]);
        stage.ask_on(as_alice, &label("list offsets"), 7, &offsets);
        let row = OffsetForLeaderPartition::default().with_leader_epoch(0).with_current_leader_epoch(-1);
        let epochs = OffsetForLeaderTopic::default().with_topic(name.clone()).with_partitions(vec![row]);
        let epochs = OffsetForLeaderEpochRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![epochs]);
        stage.ask_on(as_alice, &label("end of an epoch"), 4, &epochs);
        let trimmed = DeleteRecordsPartition::default().with_partition_index(0).with_offset(0);
        let trimmed = DeleteRecordsTopic::default().with_name(name.clone()).with_partitions(vec![trimmed]);
        let trimmed = DeleteRecordsRequest::default().with_topics(vec![trimmed]).with_timeout_ms(5_000);
        stage.ask_on(as_alice, &label("delete records"), 2, &trimmed);
        let producers = TopicRequest::default().with_name(name.clone()).with_partition_indexes(vec![0]);
        let producers = DescribeProducersRequest::default().with_topics(vec![producers]);
        stage.ask_on(as_alice, &label("producers"), 0, &producers);
        let more = CreatePartitionsTopic::default().with_name(name.clone()).with_count(3).with_assignments(None);
        let more = CreatePartitionsRequest::default().with_topics(vec![more]).with_validate_only(true);
        stage.ask_on(as_alice, &label("more partitions"), 3, &more.with_timeout_ms(5_000));
        for resource_type in [2, 32] {
            let configs = DescribeConfigsResource::default()
                .with_resource_type(resource_type)
                .with_resource_name(name.0.clone())
                .with_configuration_keys(Some(vec![text("retention.ms")]));
            let configs = DescribeConfigsRequest::default().with_resources(vec![configs]);
            stage.ask_on(as_alice, &label("describe configs"), 4, &configs);
        }
        let config = AlterableConfig::default()
            .with_name(text("retention.ms"))
            .with_config_operation(0)
            .with_value(Some(text("60000")));
        let configs = AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(name.0.clone())
            .with_configs(vec![config]);
        let configs = IncrementalAlterConfigsRequest::default().with_resources(vec![configs]).with_validate_only(true);
        stage.ask_on(as_alice, &label("alter configs"), 1, &configs);
    }
    let fresh =
        CreatableTopic::default().with_name(scene.absent.clone()).with_num_partitions(1).with_replication_factor(1);
    let fresh = CreateTopicsRequest::default().with_topics(vec![fresh]).with_timeout_ms(5_000);
    stage.ask_on(as_alice, &label("create topic"), 7, &fresh.with_validate_only(true));
}

/// Asks about groups, as somebody who may or may not.
fn ask_about_groups(stage: &mut Stage, as_alice: Link, when: &str, scene: &Scene) {
    let label = |what: &str| format!("{what}, {when}");
    let group = &scene.group;
    let coordinator = FindCoordinatorRequest::default().with_key(group.0.clone());
    stage.ask_on(as_alice, &label("find coordinator, version 3"), 3, &coordinator);
    let coordinators = FindCoordinatorRequest::default().with_coordinator_keys(vec![group.0.clone()]);
    stage.ask_on(as_alice, &label("find coordinator"), 4, &coordinators);
    let beat = HeartbeatRequest::default().with_group_id(group.clone()).with_member_id(text("ann"));
    stage.ask_on(as_alice, &label("heartbeat"), 4, &beat);
    let leave = LeaveGroupRequest::default().with_group_id(group.clone()).with_member_id(text("ann"));
    stage.ask_on(as_alice, &label("leave"), 2, &leave);
    let sync = SyncGroupRequest::default().with_group_id(group.clone()).with_member_id(text("ann"));
    stage.ask_on(as_alice, &label("sync"), 4, &sync);
    let join = JoinGroupRequest::default()
        .with_group_id(group.clone())
        .with_member_id(text("ann"))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_protocol_type(text("consumer"));
    stage.ask_on(as_alice, &label("join"), 5, &join);
    let described =
        DescribeGroupsRequest::default().with_groups(vec![group.clone()]).with_include_authorized_operations(true);
    stage.ask_on(as_alice, &label("describe group"), 5, &described);
    for name in [&scene.topic, &scene.absent] {
        let row = OffsetCommitRequestPartition::default().with_committed_offset(1).with_committed_leader_epoch(-1);
        let commit = OffsetCommitRequestTopic::default().with_name(name.clone()).with_partitions(vec![row]);
        let commit = OffsetCommitRequest::default()
            .with_group_id(group.clone())
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![commit]);
        stage.ask_on(as_alice, &label("commit"), 8, &commit);
        let asked = OffsetFetchRequestTopics::default().with_name(name.clone()).with_partition_indexes(vec![0]);
        let asked = OffsetFetchRequestGroup::default().with_group_id(group.clone()).with_topics(Some(vec![asked]));
        let all = OffsetFetchRequestGroup::default().with_group_id(group.clone()).with_topics(None);
        let committed = |group| OffsetFetchRequest::default().with_groups(vec![group]);
        stage.ask_on(as_alice, &label("committed"), 8, &committed(asked));
        stage.ask_on(as_alice, &label("all committed"), 8, &committed(all));
        let row = OffsetDeleteRequestPartition::default().with_partition_index(0);
        let forget = OffsetDeleteRequestTopic::default().with_name(name.clone()).with_partitions(vec![row]);
        let forget = OffsetDeleteRequest::default().with_group_id(group.clone()).with_topics(vec![forget]);
        stage.ask_on(as_alice, &label("delete offsets"), 0, &forget);
        let beat = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(group.clone())
            .with_member_id(text("ann"))
            .with_member_epoch(3)
            .with_subscribed_topic_names(Some(vec![name.clone()]));
        stage.ask_on(as_alice, &label("consumer heartbeat"), 0, &beat);
    }
    let consumer = ConsumerGroupDescribeRequest::default()
        .with_group_ids(vec![group.clone()])
        .with_include_authorized_operations(true);
    stage.ask_on(as_alice, &label("describe consumer group"), 0, &consumer);
    let gone = DeleteGroupsRequest::default().with_groups_names(vec![group.clone()]);
    stage.ask_on(as_alice, &label("delete group"), 2, &gone);
}

/// Asks about transactions, as somebody who may or may not.
fn ask_about_transactions(stage: &mut Stage, as_alice: Link, when: &str, scene: &Scene) {
    let label = |what: &str| format!("{what}, {when}");
    let (id, none) = (&scene.transactional_id, ProducerId(-1));
    let key = FindCoordinatorRequest::default().with_key_type(1).with_coordinator_keys(vec![id.0.clone()]);
    stage.ask_on(as_alice, &label("find transaction coordinator"), 4, &key);
    for transactional_id in [None, Some(id.clone())] {
        let init = InitProducerIdRequest::default()
            .with_transactional_id(transactional_id.clone())
            .with_transaction_timeout_ms(60_000)
            .with_producer_id(none)
            .with_producer_epoch(-1);
        let what = if transactional_id.is_some() { "transactional producer" } else { "idempotent producer" };
        stage.ask_on(as_alice, &label(what), 4, &init);
    }
    for name in [&scene.topic, &scene.absent] {
        let add = AddPartitionsToTxnTopic::default().with_name(name.clone()).with_partitions(vec![0]);
        let add = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(id.clone())
            .with_v3_and_below_producer_id(ProducerId(77))
            .with_v3_and_below_topics(vec![add]);
        stage.ask_on(as_alice, &label("add partitions"), 3, &add);
        let row = TxnOffsetCommitRequestPartition::default().with_committed_offset(1).with_committed_leader_epoch(-1);
        let send = TxnOffsetCommitRequestTopic::default().with_name(name.clone()).with_partitions(vec![row]);
        let send = TxnOffsetCommitRequest::default()
            .with_transactional_id(id.clone())
            .with_group_id(scene.group.clone())
            .with_producer_id(ProducerId(77))
            .with_generation_id(-1)
            .with_topics(vec![send]);
        stage.ask_on(as_alice, &label("send offsets"), 3, &send);
        let marked = WritableTxnMarkerTopic::default().with_name(name.clone()).with_partition_indexes(vec![0]);
        let marker = WritableTxnMarker::default().with_producer_id(ProducerId(77)).with_topics(vec![marked]);
        let markers = WriteTxnMarkersRequest::default().with_markers(vec![marker]);
        stage.ask_on(as_alice, &label("write markers"), 1, &markers);
    }
    let offsets = AddOffsetsToTxnRequest::default()
        .with_transactional_id(id.clone())
        .with_group_id(scene.group.clone())
        .with_producer_id(ProducerId(77));
    stage.ask_on(as_alice, &label("add offsets"), 3, &offsets);
    let end = EndTxnRequest::default().with_transactional_id(id.clone()).with_producer_id(ProducerId(77));
    stage.ask_on(as_alice, &label("end"), 3, &end);
    let described = DescribeTransactionsRequest::default().with_transactional_ids(vec![id.clone()]);
    stage.ask_on(as_alice, &label("describe transaction"), 0, &described);
}

fn ask_everything(stage: &mut Stage, as_alice: Link, when: &str, scene: &Scene) {
    ask_about_topics(stage, as_alice, when, scene);
    ask_about_groups(stage, as_alice, when, scene);
    ask_about_transactions(stage, as_alice, when, scene);
}

/// The transactions' topic is there before anybody asks in vain.
fn await_transactions(stage: &mut Stage) {
    let key = FindCoordinatorRequest::default().with_key_type(1).with_key(text("warm-up"));
    let init = InitProducerIdRequest::default()
        .with_transactional_id(Some(text("warm-up").into()))
        .with_transaction_timeout_ms(60_000)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    stage.until("a coordinator of transactions", |stage| {
        stage.quietly(3, &key).is_some_and(|found| found.error_code == 0)
            && stage.quietly(4, &init).is_some_and(|begun| begun.error_code == 0)
    });
}

pub(crate) fn acl_refusals(stage: &mut Stage) {
    await_transactions(stage);
    let scene = Scene {
        topic: stage.create_topic("orders", 1),
        absent: stage.topic("absent"),
        group: stage.group("team"),
        transactional_id: stage.name("tx").into(),
    };
    let alice = stage.log_in("alice", "alice-secret");
    ask_everything(stage, alice, "with no rights", &scene);

    let names = [(TOPIC, &scene.topic.0), (TOPIC, &scene.absent.0), (GROUP, &scene.group.0)];
    let transactional = (TRANSACTIONAL_ID, &scene.transactional_id.0);
    let describe = names.iter().chain([&transactional]).map(|(kind, name)| allow(*kind, name, DESCRIBE));
    grant(stage, describe.collect());
    ask_everything(stage, alice, "with a right to describe", &scene);

    let read = names.iter().map(|(kind, name)| allow(*kind, name, READ));
    grant(stage, read.collect());
    ask_about_groups(stage, alice, "with a right to read", &scene);

    grant(stage, vec![allow(TRANSACTIONAL_ID, &scene.transactional_id.0, WRITE)]);
    ask_about_transactions(stage, alice, "with a right to the transaction", &scene);
    let deny = allow(TOPIC, &scene.topic.0, DESCRIBE).with_permission_type(DENY);
    grant(stage, vec![deny]);
    stage.ask_on(alice, "metadata of what is forbidden and allowed", 9, &metadata(&[&scene.topic]));
}

pub(crate) fn acl_hidden_topics(stage: &mut Stage) {
    let seen = stage.create_topic("seen", 1);
    let hidden = stage.create_topic("hidden", 1);
    let alice = stage.log_in("alice", "alice-secret");
    grant(stage, vec![allow(TOPIC, &seen.0, DESCRIBE)]);
    stage.ask_for_mine_on(alice, "all topics", 9, &MetadataRequest::default().with_topics(None));
    for (label, name) in [("the one", &seen), ("the other", &hidden)] {
        let id = stage.topic_id(name);
        let by_id = DeleteTopicState::default().with_name(None).with_topic_id(id);
        let delete = DeleteTopicsRequest::default().with_topics(vec![by_id]).with_timeout_ms(5_000);
        stage.ask_on(alice, &format!("delete {label} by id"), 6, &delete);
        let by_name = DeleteTopicsRequest::default().with_topic_names(vec![name.clone()]).with_timeout_ms(5_000);
        stage.ask_on(alice, &format!("delete {label} by name"), 5, &by_name);
        let topic = MetadataRequestTopic::default().with_name(None).with_topic_id(id);
        let metadata = MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(false);
        stage.ask_on(alice, &format!("metadata of {label} by id"), 12, &metadata);
    }
    stage.ask_on(
        alice,
        "the cluster",
        0,
        &DescribeClusterRequest::default().with_include_cluster_authorized_operations(true),
    );
    stage.ask_for_mine_on(alice, "groups", 4, &ListGroupsRequest::default());
}
