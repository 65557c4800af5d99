//! Who may do what: the standard authoriser's rules, and what those are told who may not.

mod clients;

use clients::{Answered, Kafka, body};
use rehearsal_mockbroker::cluster::Peer;
use rehearsal_mockbroker::config::{ClusterConfig, ListenerConfig, SecurityProtocol, TopicConfig, UserConfig};
use rehearsal_mockbroker::error::ErrorCode;
use rehearsal_mockbroker::output::ConnId;
use rehearsal_mockbroker::state::nodes::{ListenerId, NodeId};
use rehearsal_mockbroker::state::security::acls::{Operation, PatternKind, Permission, ResourceKind};
use rehearsal_mockbroker::wire::generated::create_acls_request::{AclCreation, CreateAclsRequest};
use rehearsal_mockbroker::wire::generated::create_acls_response::CreateAclsResponse;
use rehearsal_mockbroker::wire::generated::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use rehearsal_mockbroker::wire::generated::create_topics_response::CreateTopicsResponse;
use rehearsal_mockbroker::wire::generated::delete_acls_request::{DeleteAclsFilter, DeleteAclsRequest};
use rehearsal_mockbroker::wire::generated::delete_acls_response::DeleteAclsResponse;
use rehearsal_mockbroker::wire::generated::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use rehearsal_mockbroker::wire::generated::delete_topics_response::DeleteTopicsResponse;
use rehearsal_mockbroker::wire::generated::describe_acls_request::DescribeAclsRequest;
use rehearsal_mockbroker::wire::generated::describe_acls_response::DescribeAclsResponse;
use rehearsal_mockbroker::wire::generated::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use rehearsal_mockbroker::wire::generated::fetch_response::FetchResponse;
use rehearsal_mockbroker::wire::generated::find_coordinator_request::FindCoordinatorRequest;
use rehearsal_mockbroker::wire::generated::find_coordinator_response::FindCoordinatorResponse;
use rehearsal_mockbroker::wire::generated::init_producer_id_request::InitProducerIdRequest;
use rehearsal_mockbroker::wire::generated::init_producer_id_response::InitProducerIdResponse;
use rehearsal_mockbroker::wire::generated::metadata_request::{MetadataRequest, MetadataRequestTopic};
use rehearsal_mockbroker::wire::generated::metadata_response::MetadataResponse;
use rehearsal_mockbroker::wire::generated::sasl_authenticate_request::SaslAuthenticateRequest;
use rehearsal_mockbroker::wire::generated::sasl_handshake_request::SaslHandshakeRequest;
use rehearsal_mockbroker::wire::{Str, Uuid};

body!(CreateAcls CreateAclsResponse);
body!(CreateTopics CreateTopicsResponse);
body!(DeleteAcls DeleteAclsResponse);
body!(DeleteTopics DeleteTopicsResponse);
body!(DescribeAcls DescribeAclsResponse);
body!(Fetch FetchResponse);
body!(FindCoordinator FindCoordinatorResponse);
body!(InitProducerId InitProducerIdResponse);
body!(Metadata MetadataResponse);

const DENIED: i16 = ErrorCode::TopicAuthorizationFailed.code();
/// "Any", in a filter.
const ANY: i8 = 1;

/// A cluster with topics `orders` and `payments`, where only admin may do anything.
fn strict() -> (Kafka, ConnId) {
    let configs = [
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
        ("super.users", "User:admin"),
    ];
    let mut kafka = Kafka::of(ClusterConfig {
        listeners: vec![
            ListenerConfig::new(SecurityProtocol::Plaintext),
            ListenerConfig::new(SecurityProtocol::SaslPlaintext),
        ],
        users: ["admin", "alice", "bob"].map(|user| UserConfig::new(user, "secret")).to_vec(),
        topics: vec![TopicConfig::new("orders", 1), TopicConfig::new("payments", 1)],
        configs: configs.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        ..Default::default()
    });
    let admin = log_in(&mut kafka, "admin");
    (kafka, admin)
}

fn log_in(kafka: &mut Kafka, user: &str) -> ConnId {
    let peer = Peer { host: "/127.0.0.1".into(), listener: ListenerId(1), certificate: None };
    let conn = kafka.cluster.connect_peer(NodeId(1), peer).expect("the broker runs");
    kafka.ask_any(conn, 1, SaslHandshakeRequest { mechanism: Str::from("PLAIN") }.into());
    let token = format!("\0{user}\0secret").into_bytes().into();
    kafka.ask_any(conn, 2, SaslAuthenticateRequest { auth_bytes: token }.into());
    conn
}

fn rule(kind: ResourceKind, name: &str, principal: &str, operation: Operation) -> AclCreation {
    AclCreation {
        resource_type: kind.code(),
        resource_name: Str::from(name),
        resource_pattern_type: PatternKind::Literal.code(),
        principal: Str::from(principal),
        host: Str::from("*"),
        operation: operation.code(),
        permission_type: Permission::Allow.code(),
    }
}

fn on_topic(name: &str, principal: &str, operation: Operation) -> AclCreation {
    rule(ResourceKind::Topic, name, principal, operation)
}

fn allow(kafka: &mut Kafka, admin: ConnId, rules: Vec<AclCreation>) {
    let created: CreateAclsResponse = kafka.ask(admin, 3, CreateAclsRequest { creations: rules });
    assert!(created.results.iter().all(|row| row.error_code == 0), "{created:?}");
}

fn metadata_of(topics: &[&str]) -> MetadataRequest {
    let topics = topics.iter().map(|name| MetadataRequestTopic { name: Some(Str::from(*name)), ..Default::default() });
    MetadataRequest {
        topics: Some(topics.collect()),
        allow_auto_topic_creation: true,
        include_topic_authorized_operations: true,
        ..Default::default()
    }
}

fn fetch(topic: &str) -> FetchRequest {
    let partition = FetchPartition { partition_max_bytes: 1_000, ..Default::default() };
    FetchRequest {
        topics: vec![FetchTopic { topic: Str::from(topic), partitions: vec![partition], ..Default::default() }],
        ..Default::default()
    }
}

#[test]
fn without_an_authoriser_there_are_no_rules() {
    let mut kafka = Kafka::with_topic("orders", 1);
    let conn = kafka.connect();
    let disabled = ErrorCode::SecurityDisabled.code();
    let all_rules = DescribeAclsRequest {
        resource_type_filter: ANY,
        resource_name_filter: None,
        pattern_type_filter: ANY,
        principal_filter: None,
        host_filter: None,
        operation: ANY,
        permission_type: ANY,
    };
    let described: DescribeAclsResponse = kafka.ask(conn, 3, all_rules);
    assert_eq!(described.error_code, disabled);
    let creations = vec![on_topic("orders", "User:alice", Operation::Read)];
    let created: CreateAclsResponse = kafka.ask(conn, 3, CreateAclsRequest { creations });
    assert_eq!(created.results[0].error_code, disabled);
    let all_rules = DeleteAclsFilter {
        resource_type_filter: ANY,
        pattern_type_filter: ANY,
        operation: ANY,
        permission_type: ANY,
        ..DeleteAclsFilter::default()
    };
    let filters = vec![all_rules];
    let deleted: DeleteAclsResponse = kafka.ask(conn, 3, DeleteAclsRequest { filters });
    assert_eq!(deleted.filter_results[0].error_code, disabled);
}

#[test]
fn who_may_not_see_a_topic_does_not_learn_whether_it_exists() {
    let (mut kafka, _) = strict();
    let alice = log_in(&mut kafka, "alice");
    let told: MetadataResponse = kafka.ask(alice, 9, metadata_of(&["orders", "imagined"]));
    let rows: Vec<_> = told.topics.iter().map(|row| (row.error_code, row.topic_id, row.partitions.len())).collect();
    assert_eq!(rows, [(DENIED, Uuid::ZERO, 0); 2]);
    let all: MetadataResponse = kafka.ask(alice, 9, MetadataRequest { topics: None, ..Default::default() });
    assert!(all.topics.is_empty(), "{all:?}");
    for topic in ["orders", "imagined"] {
        let fetched: FetchResponse = kafka.ask(alice, 12, fetch(topic));
        assert_eq!(fetched.responses[0].partitions[0].error_code, DENIED);
    }
    let by_id = DeleteTopicState { name: None, topic_id: kafka.topic_id("orders") };
    let request = DeleteTopicsRequest { topics: vec![by_id], ..Default::default() };
    let deleted: DeleteTopicsResponse = kafka.ask(alice, 6, request);
    assert_eq!((deleted.responses[0].error_code, &deleted.responses[0].name), (DENIED, &None));
}

#[test]
fn to_be_let_read_is_enough_to_read_and_to_see() {
    let (mut kafka, admin) = strict();
    let alice = log_in(&mut kafka, "alice");
    allow(&mut kafka, admin, vec![on_topic("orders", "User:alice", Operation::Read)]);
    let fetched: FetchResponse = kafka.ask(alice, 12, fetch("orders"));
    assert_eq!(fetched.responses[0].partitions[0].error_code, 0);
    let told: MetadataResponse = kafka.ask(alice, 9, metadata_of(&["orders"]));
    let operations = told.topics[0].topic_authorized_operations;
    assert_eq!(operations, 1 << Operation::Read.code() | 1 << Operation::Describe.code());
    let all: MetadataResponse = kafka.ask(alice, 9, MetadataRequest { topics: None, ..Default::default() });
    let names: Vec<_> = all.topics.iter().filter_map(|row| row.name.as_deref()).collect();
    assert_eq!(names, ["orders"]);
}

#[test]
fn who_may_not_create_a_topic_gets_none_on_demand() {
    let (mut kafka, admin) = strict();
    let alice = log_in(&mut kafka, "alice");
    allow(&mut kafka, admin, vec![on_topic("fresh", "User:alice", Operation::Describe)]);
    let told: MetadataResponse = kafka.ask(alice, 9, metadata_of(&["fresh"]));
    assert_eq!(told.topics[0].error_code, DENIED);
    assert!(kafka.cluster.view().topic("fresh").is_none());
    let create = || {
        let topic =
            CreatableTopic { name: Str::from("fresh"), num_partitions: 1, replication_factor: 1, ..Default::default() };
        CreateTopicsRequest { topics: vec![topic], ..Default::default() }
    };
    let created: CreateTopicsResponse = kafka.ask(alice, 7, create());
    assert_eq!(created.topics[0].error_code, DENIED);

    allow(&mut kafka, admin, vec![on_topic("fresh", "User:alice", Operation::Create)]);
    let created: CreateTopicsResponse = kafka.ask(alice, 7, create());
    let row = &created.topics[0];
    assert_eq!(
        (row.error_code, row.topic_config_error_code, row.num_partitions),
        (0, DENIED, -1),
        "configs are hidden"
    );
    assert!(kafka.cluster.view().topic("fresh").is_some());
}

#[test]
fn groups_and_transactions_have_refusals_of_their_own() {
    let (mut kafka, admin) = strict();
    let alice = log_in(&mut kafka, "alice");
    let find = |key_type| FindCoordinatorRequest { key: Str::from("team"), key_type, ..Default::default() };
    let group: FindCoordinatorResponse = kafka.ask(alice, 3, find(0));
    assert_eq!(group.error_code, ErrorCode::GroupAuthorizationFailed.code());
    let transaction: FindCoordinatorResponse = kafka.ask(alice, 3, find(1));
    assert_eq!(transaction.error_code, ErrorCode::TransactionalIdAuthorizationFailed.code());
    let idempotent =
        InitProducerIdRequest { transactional_id: None, producer_id: -1, producer_epoch: -1, ..Default::default() };
    let refused: InitProducerIdResponse = kafka.ask(alice, 4, idempotent.clone());
    assert_eq!((refused.error_code, refused.producer_id), (ErrorCode::ClusterAuthorizationFailed.code(), -1));
    allow(&mut kafka, admin, vec![on_topic("orders", "User:alice", Operation::Write)]);
    let given: InitProducerIdResponse = kafka.ask(alice, 4, idempotent);
    assert_eq!(given.error_code, 0, "who may write somewhere may do so idempotently (KIP-679)");
}

#[test]
fn rules_are_found_by_filters_and_deleted() {
    let (mut kafka, admin) = strict();
    let alice = log_in(&mut kafka, "alice");
    let prefix = AclCreation {
        resource_pattern_type: PatternKind::Prefixed.code(),
        ..on_topic("ord", "User:alice", Operation::Write)
    };
    allow(&mut kafka, admin, vec![on_topic("orders", "User:alice", Operation::Read), prefix.clone(), prefix]);
    let describe = |pattern_type_filter| DescribeAclsRequest {
        resource_type_filter: ResourceKind::Topic.code(),
        resource_name_filter: Some(Str::from("orders")),
        pattern_type_filter,
        principal_filter: None,
        host_filter: None,
        operation: ANY,
        permission_type: ANY,
    };
    let named: DescribeAclsResponse = kafka.ask(admin, 3, describe(PatternKind::Literal.code()));
    assert_eq!(named.resources.len(), 1);
    let concerning: DescribeAclsResponse = kafka.ask(admin, 3, describe(2));
    let mut found: Vec<_> =
        concerning.resources.iter().map(|row| (row.resource_name.as_str(), row.acls.len())).collect();
    found.sort_unstable();
    assert_eq!(found, [("ord", 1), ("orders", 1)], "a rule made twice is there once");
    let hidden: DescribeAclsResponse = kafka.ask(alice, 3, describe(2));
    assert_eq!(hidden.error_code, ErrorCode::ClusterAuthorizationFailed.code());

    let everything = DeleteAclsFilter {
        resource_type_filter: ANY,
        resource_name_filter: None,
        pattern_type_filter: ANY,
        principal_filter: None,
        host_filter: None,
        operation: ANY,
        permission_type: ANY,
    };
    let deleted: DeleteAclsResponse = kafka.ask(admin, 3, DeleteAclsRequest { filters: vec![everything] });
    assert_eq!(deleted.filter_results[0].matching_acls.len(), 2);
    let fetched: FetchResponse = kafka.ask(alice, 12, fetch("orders"));
    assert_eq!(fetched.responses[0].partitions[0].error_code, DENIED, "what was allowed is no more");
}

#[test]
fn a_rule_that_makes_no_sense_is_refused_alone() {
    let (mut kafka, admin) = strict();
    let good = on_topic("orders", "User:alice", Operation::Read);
    let creations = vec![
        AclCreation { resource_name: Str::default(), ..good.clone() },
        AclCreation { operation: 77, ..good.clone() },
        AclCreation { principal: Str::from_static("alice"), ..good.clone() },
        rule(ResourceKind::Cluster, "another", "User:alice", Operation::Alter),
        good,
    ];
    let created: CreateAclsResponse = kafka.ask(admin, 3, CreateAclsRequest { creations });
    let invalid = ErrorCode::InvalidRequest.code();
    let codes: Vec<_> = created.results.iter().map(|row| row.error_code).collect();
    assert_eq!(codes, [invalid, invalid, invalid, invalid, 0]);
}

#[test]
fn what_only_a_filter_can_say_fails_all_rules_beside_it() {
    let (mut kafka, admin) = strict();
    let good = on_topic("orders", "User:alice", Operation::Read);
    for odd in [
        AclCreation { operation: ANY, ..good.clone() },
        AclCreation { resource_type: ANY, ..good.clone() },
        AclCreation { resource_pattern_type: 2, ..good.clone() },
    ] {
        let creations = vec![good.clone(), odd];
        let created: CreateAclsResponse = kafka.ask(admin, 3, CreateAclsRequest { creations });
        let rows: Vec<_> = created.results.iter().map(|row| (row.error_code, row.error_message.is_some())).collect();
        assert_eq!(rows, [(ErrorCode::UnknownServerError.code(), false); 2]);
    }
}
