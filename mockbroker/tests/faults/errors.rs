//! An error planned for a request: the code stands where its API has a place for it, in every version and every scope,
//! and nothing took effect.

use super::world::{BILLING, ORDERS, OTHER, SHIPPING, TEAM, World, batch, code_of, commit, hello, join, produce};
use rehearsal_mockbroker::error::ErrorCode;
use rehearsal_mockbroker::fault::{Fault, ImpossibleFault};
use rehearsal_mockbroker::wire::generated::alter_configs_request as alter_configs;
use rehearsal_mockbroker::wire::generated::create_partitions_request::{
    CreatePartitionsRequest, CreatePartitionsTopic,
};
use rehearsal_mockbroker::wire::generated::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use rehearsal_mockbroker::wire::generated::delete_groups_request::DeleteGroupsRequest;
use rehearsal_mockbroker::wire::generated::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use rehearsal_mockbroker::wire::generated::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use rehearsal_mockbroker::wire::generated::describe_cluster_request::DescribeClusterRequest;
use rehearsal_mockbroker::wire::generated::describe_configs_request::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use rehearsal_mockbroker::wire::generated::describe_groups_request::DescribeGroupsRequest;
use rehearsal_mockbroker::wire::generated::describe_topic_partitions_request::{
    DescribeTopicPartitionsRequest, TopicRequest,
};
use rehearsal_mockbroker::wire::generated::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use rehearsal_mockbroker::wire::generated::find_coordinator_request::FindCoordinatorRequest;
use rehearsal_mockbroker::wire::generated::heartbeat_request::HeartbeatRequest;
use rehearsal_mockbroker::wire::generated::incremental_alter_configs_request as incremental;
use rehearsal_mockbroker::wire::generated::init_producer_id_request::InitProducerIdRequest;
use rehearsal_mockbroker::wire::generated::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use rehearsal_mockbroker::wire::generated::list_config_resources_request::ListConfigResourcesRequest;
use rehearsal_mockbroker::wire::generated::list_groups_request::ListGroupsRequest;
use rehearsal_mockbroker::wire::generated::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use rehearsal_mockbroker::wire::generated::metadata_request::{MetadataRequest, MetadataRequestTopic};
use rehearsal_mockbroker::wire::generated::offset_delete_request::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use rehearsal_mockbroker::wire::generated::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use rehearsal_mockbroker::wire::generated::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use rehearsal_mockbroker::wire::generated::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use rehearsal_mockbroker::wire::generated::sync_group_request::SyncGroupRequest;
use rehearsal_mockbroker::wire::json::to_json;
use rehearsal_mockbroker::wire::{ApiKey, Request, Response, Str, Uuid};
use serde_json::Value;
use std::collections::BTreeSet;

/// An error no handler gives by itself.
const CODE: ErrorCode = ErrorCode::KafkaStorageError;
/// A topic that is not there yet.
const FRESH: &str = "fresh";

/// What changes something a look at the cluster shows, and so must not when it is refused.
const CHANGES: &[ApiKey] = &[
    ApiKey::Produce,
    ApiKey::OffsetCommit,
    ApiKey::JoinGroup,
    ApiKey::SyncGroup,
    ApiKey::LeaveGroup,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::DeleteRecords,
    ApiKey::CreatePartitions,
    ApiKey::DeleteGroups,
    ApiKey::OffsetDelete,
    ApiKey::AlterConfigs,
    ApiKey::IncrementalAlterConfigs,
];

/// Requests that need a transaction, a group of the new protocol or several brokers before they make sense: tested with
/// those.
const TESTED_ELSEWHERE: &[ApiKey] = &[
    ApiKey::AddPartitionsToTxn,
    ApiKey::AddOffsetsToTxn,
    ApiKey::EndTxn,
    ApiKey::TxnOffsetCommit,
    ApiKey::WriteTxnMarkers,
    ApiKey::DescribeTransactions,
    ApiKey::ListTransactions,
    ApiKey::DescribeProducers,
    ApiKey::ConsumerGroupHeartbeat,
    ApiKey::ConsumerGroupDescribe,
    ApiKey::ShareGroupHeartbeat,
    ApiKey::ShareGroupDescribe,
    ApiKey::ShareFetch,
    ApiKey::ShareAcknowledge,
    ApiKey::DescribeShareGroupOffsets,
    ApiKey::AlterShareGroupOffsets,
    ApiKey::DeleteShareGroupOffsets,
    ApiKey::StreamsGroupHeartbeat,
    ApiKey::StreamsGroupDescribe,
    ApiKey::AlterReplicaLogDirs,
    ApiKey::DescribeLogDirs,
    ApiKey::ElectLeaders,
    ApiKey::AlterPartitionReassignments,
    ApiKey::ListPartitionReassignments,
    ApiKey::DescribeQuorum,
    ApiKey::UpdateFeatures,
    ApiKey::DescribeClientQuotas,
    ApiKey::AlterClientQuotas,
    // These need somebody at the door, or an authoriser.
    ApiKey::SaslHandshake,
    ApiKey::SaslAuthenticate,
    ApiKey::DescribeAcls,
    ApiKey::CreateAcls,
    ApiKey::DeleteAcls,
    ApiKey::DescribeUserScramCredentials,
    ApiKey::AlterUserScramCredentials,
];

#[test]
fn without_a_fault_every_request_succeeds_and_those_that_change_something_do() {
    for_every_request(|api, version, request| {
        let mut world = World::new();
        let before = world.fingerprint();
        let answer = ask(&mut world, version, request);
        // A member that is not known yet is only given an id from version 4 on.
        let only_named = api == ApiKey::JoinGroup && version >= 4;
        let expected = if only_named { ErrorCode::MemberIdRequired } else { ErrorCode::None };
        assert!(errors(&world, &answer, version).iter().all(|row| row.code == expected), "{answer:?}");
        let changed = world.fingerprint() != before;
        assert_eq!(changed, CHANGES.contains(&api) && !only_named, "{api} v{version}");
    });
}

#[test]
fn an_error_for_the_whole_stands_at_the_top_or_in_every_row_and_nothing_took_effect() {
    for_every_request(|api, version, request| {
        let (rows, unchanged) = refused(version, request, Fault::on(api).error(CODE));
        let whole: Vec<_> = rows.iter().filter(|row| row.is_whole()).collect();
        match whole.first() {
            Some(row) if row.code == CODE => {}
            // Fetch says only of its session that the whole has failed.
            top => {
                assert!(top.is_none() || api == ApiKey::Fetch, "{api} v{version}: {rows:?}");
                let below: Vec<_> = rows.iter().filter(|row| !row.is_whole()).collect();
                assert!(!below.is_empty() && below.iter().all(|row| row.code == CODE), "{api} v{version}: {rows:?}");
            }
        }
        assert!(unchanged, "{api} v{version} took effect");
    });
}

#[test]
fn an_error_for_a_topic_stands_in_its_rows_and_nothing_happened_to_it() {
    let mut with_topics = BTreeSet::new();
    for_every_request(|api, version, request| {
        let topic = if api == ApiKey::CreateTopics { FRESH } else { ORDERS };
        let Some((rows, unchanged)) = try_refused(version, request, Fault::on(api).topic(topic).error(CODE)) else {
            return;
        };
        with_topics.insert(api);
        let (meant, others): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.topic.as_deref() == Some(topic));
        assert!(!meant.is_empty() && meant.iter().all(|row| row.code == CODE), "{api} v{version}: {rows:?}");
        assert!(others.iter().all(|row| row.code == ErrorCode::None), "{api} v{version}: {rows:?}");
        assert_eq!(unchanged, !CHANGES.contains(&api), "{api} v{version}: the other topic is changed all the same");
    });
    let expected = [
        ApiKey::Produce,
        ApiKey::Fetch,
        ApiKey::ListOffsets,
        ApiKey::Metadata,
        ApiKey::OffsetCommit,
        ApiKey::OffsetFetch,
        ApiKey::CreateTopics,
        ApiKey::DeleteTopics,
        ApiKey::DeleteRecords,
        ApiKey::OffsetForLeaderEpoch,
        ApiKey::CreatePartitions,
        ApiKey::OffsetDelete,
        ApiKey::DescribeTopicPartitions,
    ];
    assert_eq!(with_topics, BTreeSet::from(expected));
}

#[test]
fn what_a_topics_fault_refuses_is_not_done_to_that_topic() {
    let done = |fault: bool| {
        let mut world = World::new();
        if fault {
            for api in [ApiKey::Produce, ApiKey::DeleteRecords, ApiKey::OffsetCommit, ApiKey::OffsetDelete] {
                world.plan(Fault::on(api).topic(ORDERS).error(CODE));
            }
        }
        for (api, version) in
            [(ApiKey::OffsetDelete, 0), (ApiKey::OffsetCommit, 9), (ApiKey::Produce, 9), (ApiKey::DeleteRecords, 2)]
        {
            let request = request(&world, api, version).expect("a request");
            ask(&mut world, version, request);
        }
        let view = world.cluster.view();
        let logs = [ORDERS, OTHER].map(|topic| {
            let first = &view.topic(topic).expect("it exists").partitions[0];
            (first.log_start_offset, first.log_end_offset)
        });
        (logs, [ORDERS, OTHER].map(|topic| world.cluster.committed(BILLING, topic, 0).map(|found| found.offset)))
    };
    assert_eq!(done(false), ([(2, 2), (2, 2)], [Some(9), Some(9)]));
    assert_eq!(done(true), ([(0, 1), (2, 2)], [Some(1), Some(9)]));
}

#[test]
fn deleted_offsets_of_a_refused_topic_are_still_there() {
    let mut world = World::new();
    world.plan(Fault::on(ApiKey::OffsetDelete).topic(ORDERS).error(CODE));
    let request = request(&world, ApiKey::OffsetDelete, 0).expect("a request");
    ask(&mut world, 0, request);
    assert!(world.cluster.committed(BILLING, ORDERS, 0).is_some());
    assert!(world.cluster.committed(BILLING, OTHER, 0).is_none());
}

#[test]
fn a_topic_that_metadata_is_refused_for_is_not_created_on_demand() {
    for (fault, created) in [(None, true), (Some(Fault::on(ApiKey::Metadata).topic(FRESH).error(CODE)), false)] {
        let mut world = World::new();
        fault.map(|fault| world.plan(fault));
        let client = world.connect();
        let topics = Some(vec![MetadataRequestTopic { name: Some(FRESH.into()), ..Default::default() }]);
        let request = MetadataRequest { topics, allow_auto_topic_creation: true, ..Default::default() };
        world.ask(client, 12, request);
        assert_eq!(world.cluster.view().topic(FRESH).is_some(), created);
    }
}

#[test]
fn an_error_for_a_partition_stands_in_its_row_alone() {
    let mut with_partitions = BTreeSet::new();
    for_every_request(|api, version, request| {
        let fault = Fault::on(api).topic(ORDERS).partition(0).error(CODE);
        let Some((rows, _)) = try_refused(version, request, fault) else { return };
        with_partitions.insert(api);
        let (meant, others): (Vec<_>, Vec<_>) =
            rows.iter().partition(|row| row.topic.as_deref() == Some(ORDERS) && row.partition == Some(0));
        assert!(meant.len() == 1 && meant[0].code == CODE, "{api} v{version}: {rows:?}");
        assert!(
            !others.is_empty() && others.iter().all(|row| row.code == ErrorCode::None),
            "{api} v{version}: {rows:?}"
        );
    });
    let expected = [
        ApiKey::Produce,
        ApiKey::Fetch,
        ApiKey::ListOffsets,
        ApiKey::Metadata,
        ApiKey::OffsetCommit,
        ApiKey::OffsetFetch,
        ApiKey::DeleteRecords,
        ApiKey::OffsetForLeaderEpoch,
        ApiKey::OffsetDelete,
    ];
    assert_eq!(with_partitions, BTreeSet::from(expected));
}

#[test]
fn an_error_for_a_name_leaves_other_names_alone() {
    let mut with_names = BTreeSet::new();
    for_every_request(|api, version, request| {
        let name = named(&request).to_string();
        if name.is_empty() {
            let never = World::new().cluster.plan(Fault::on(api).naming("anything").error(CODE));
            let may_be_transactional = matches!(api, ApiKey::Produce | ApiKey::InitProducerId);
            assert_eq!(matches!(never, Err(ImpossibleFault::NamesNone { .. })), !may_be_transactional, "{api}");
            return;
        }
        with_names.insert(api);
        let (rows, _) = refused(version, request.clone(), Fault::on(api).naming(name.as_str()).error(CODE));
        let (others, meant): (Vec<_>, Vec<_>) =
            rows.iter().partition(|row| row.name.as_ref().is_some_and(|own| *own != name));
        assert!(meant.iter().any(|row| row.code == CODE), "{api} v{version}: {rows:?}");
        if !meant[0].is_whole() {
            assert!(others.iter().all(|row| row.code == ErrorCode::None), "{api} v{version}: {rows:?}");
        }

        // Somebody else's fault does nothing.
        let mut world = World::new();
        let fault = world.plan(Fault::on(api).naming("somebody-else").error(CODE));
        ask(&mut world, version, request);
        assert_eq!(world.fault(fault).hits, 0, "{api} v{version}");
    });
    assert_eq!(with_names.len(), 13, "{with_names:?}");
}

#[test]
fn an_error_told_after_the_effect_stands_in_the_same_places_and_all_took_effect() {
    for_every_request(|api, version, request| {
        let mut world = World::new();
        let truth = errors_after(&mut World::new(), version, request.clone());
        let fault = world.plan(Fault::on(api).error_after_effect(CODE));
        let told = errors_after(&mut world, version, request.clone());
        assert_eq!(world.fault(fault).hits, 1, "{api} v{version}");
        assert!(told.iter().any(|row| row.code == CODE), "{api} v{version}: {told:?}");
        assert_eq!(told.len(), truth.len(), "the rows are those of the truth");

        world.control(rehearsal_mockbroker::control::Command::Forget(fault));
        let mut unfaulted = World::new();
        ask(&mut unfaulted, version, request);
        assert_eq!(world.fingerprint(), unfaulted.fingerprint(), "{api} v{version}");
    });
}

#[test]
fn errors_for_the_same_part_are_heard_one_after_the_other() {
    let mut world = World::new();
    let first = world.plan(Fault::on(ApiKey::Produce).topic(ORDERS).partition(0).error(CODE));
    let second = world.plan(Fault::on(ApiKey::Produce).topic(ORDERS).partition(0).error(ErrorCode::RequestTimedOut));
    let client = world.connect();
    let mut heard = || {
        let answer = world.ask(client, 9, produce(ORDERS, 0, "x")).expect("an answer");
        errors(&world, &answer, 9)[0].code
    };
    assert_eq!([heard(), heard(), heard()], [CODE, ErrorCode::RequestTimedOut, ErrorCode::None]);
    assert_eq!((world.fault(first).hits, world.fault(second).hits), (1, 1));
}

#[test]
fn errors_for_different_parts_are_all_told_in_one_answer() {
    let mut world = World::new();
    world.plan(Fault::on(ApiKey::ListOffsets).topic(ORDERS).partition(1).error(CODE));
    world.plan(Fault::on(ApiKey::ListOffsets).topic(OTHER).error(ErrorCode::NotLeaderOrFollower));
    let request = request(&world, ApiKey::ListOffsets, 7).expect("a request");
    let codes: Vec<_> = errors_after(&mut world, 7, request).into_iter().map(|row| row.code).collect();
    assert_eq!(codes, [ErrorCode::None, CODE, ErrorCode::NotLeaderOrFollower]);

    // The same where the handler has a say in one of them and none in the other.
    let mut world = World::new();
    world.plan(Fault::on(ApiKey::OffsetDelete).topic(ORDERS).partition(0).error(CODE));
    world.plan(Fault::on(ApiKey::OffsetDelete).topic(OTHER).error(ErrorCode::GroupSubscribedToTopic));
    let request = self::request(&world, ApiKey::OffsetDelete, 0).expect("a request");
    let codes: Vec<_> = errors_after(&mut world, 0, request).into_iter().map(|row| row.code).collect();
    assert_eq!(codes, [ErrorCode::None, CODE, ErrorCode::GroupSubscribedToTopic]);
}

#[test]
fn an_error_there_is_no_place_for_has_not_happened() {
    let mut world = World::new();
    let fault = world.plan(Fault::on(ApiKey::Metadata).error(CODE));
    let client = world.connect();
    // Who asks only for brokers gets an answer without a single error code, before version 13.
    world.ask(client, 9, MetadataRequest { topics: Some(Vec::new()), ..Default::default() });
    assert_eq!((world.fault(fault).matched, world.fault(fault).hits), (1, 0));
    world.ask(client, 9, MetadataRequest { topics: None, ..Default::default() });
    assert_eq!((world.fault(fault).matched, world.fault(fault).hits), (2, 1));
}

#[test]
fn a_session_error_is_the_whole_fetchs_and_any_other_its_partitions() {
    for (code, whole) in [(ErrorCode::FetchSessionIdNotFound, true), (ErrorCode::NotLeaderOrFollower, false)] {
        let world = World::new();
        let request = request(&world, ApiKey::Fetch, 12).expect("a request");
        let (rows, _) = refused(12, request, Fault::on(ApiKey::Fetch).error(code));
        assert_eq!(rows[0].code == code, whole, "{rows:?}");
        assert_eq!(rows.len() > 1 && rows[1..].iter().all(|row| row.code == code), !whole, "{rows:?}");
    }
}

#[test]
fn a_produce_nobody_wants_answered_closes_the_connection_when_it_is_refused() {
    let mut world = World::new();
    world.plan(Fault::on(ApiKey::Produce).error(CODE));
    let client = world.connect();
    let request = ProduceRequest { acks: 0, ..produce(ORDERS, 0, "x") };
    assert_eq!(world.ask(client, 9, request), None);
    assert!(world.is_closed(client), "as Kafka does, there being no other way to say so");
    assert_eq!(world.end_offset(ORDERS, 0), 1);
}

// ---- the frame ----

fn for_every_request(mut each: impl FnMut(ApiKey, i16, Request)) {
    let mut world = World::new();
    let served = world.served();
    for (api, version) in served {
        match request(&world, api, version) {
            Some(request) => each(api, version, request),
            None => assert!(TESTED_ELSEWHERE.contains(&api), "say in `request` what {api} may ask"),
        }
    }
}

fn ask(world: &mut World, version: i16, request: Request) -> Response {
    let client = world.connect();
    match world.ask(client, version, request) {
        Some(answer) => answer,
        None => {
            // A join waits for others as long as its group is told to.
            world.advance(60_000);
            world.answer(client).expect("an answer by then")
        }
    }
}

fn errors_after(world: &mut World, version: i16, request: Request) -> Vec<Row> {
    let answer = ask(world, version, request);
    errors(world, &answer, version)
}

/// Asks under a fault: the errors told, and whether all is as it was.
fn refused(version: i16, request: Request, fault: Fault) -> (Vec<Row>, bool) {
    let words = fault.to_string();
    try_refused(version, request, fault).unwrap_or_else(|| panic!("{words} cannot be planned"))
}

/// `None` when requests of this API do not name what the fault is about.
fn try_refused(version: i16, request: Request, fault: Fault) -> Option<(Vec<Row>, bool)> {
    let mut world = World::new();
    let before = world.fingerprint();
    let fault = match world.cluster.plan(fault) {
        Ok(fault) => fault,
        Err(ImpossibleFault::NamesNone { .. }) => return None,
        Err(impossible) => panic!("{impossible}"),
    };
    let rows = errors_after(&mut world, version, request);
    assert_eq!(world.fault(fault).hits, 1, "{rows:?}");
    world.control(rehearsal_mockbroker::control::Command::Forget(fault));
    Some((rows, world.fingerprint() == before))
}

/// An error code in an answer, with what is said around it.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    topic: Option<String>,
    partition: Option<i64>,
    name: Option<String>,
    depth: usize,
    code: ErrorCode,
}

impl Row {
    fn is_whole(&self) -> bool {
        self.depth == 0
    }
}

fn errors(world: &World, answer: &Response, version: i16) -> Vec<Row> {
    let mut rows = Vec::new();
    let none = Row { topic: None, partition: None, name: None, depth: 0, code: ErrorCode::None };
    collect(world, &to_json(answer, version), &none, &mut rows);
    rows
}

fn collect(world: &World, value: &Value, around: &Row, rows: &mut Vec<Row>) {
    match value {
        Value::Object(fields) => {
            let text = |names: &[&str]| {
                names.iter().find_map(|name| fields.get(*name)?.as_str()).filter(|text| !text.is_empty())
            };
            let mut here = around.clone();
            let by_id = text(&["topic_id"]).and_then(|id| {
                [ORDERS, OTHER]
                    .into_iter()
                    .find(|name| world.cluster.view().topic(name).is_some_and(|topic| topic.id == id))
            });
            here.topic = text(&["name", "topic", "topic_name"]).or(by_id).map(str::to_owned).or(here.topic);
            here.name = text(&["group_id", "key", "resource_name", "member_id"]).map(str::to_owned).or(here.name);
            let index = ["partition_index", "index", "partition"].iter().find_map(|name| fields.get(*name)?.as_i64());
            here.partition = index.or(here.partition);
            if let Some(code) = fields.get("error_code").and_then(Value::as_i64) {
                rows.push(Row { code: code_of(code), ..here.clone() });
            }
            here.depth += 1;
            fields.values().for_each(|field| collect(world, field, &here, rows));
        }
        Value::Array(elements) => elements.iter().for_each(|element| collect(world, element, around, rows)),
        _ => {}
    }
}

/// The first name, other than a topic's, that this request says.
fn named(request: &Request) -> Str {
    match request {
        Request::OffsetCommit(request) => request.group_id.clone(),
        Request::OffsetFetch(request) => {
            request.groups.first().map_or_else(|| request.group_id.clone(), |group| group.group_id.clone())
        }
        Request::FindCoordinator(request) => {
            request.coordinator_keys.first().cloned().unwrap_or_else(|| request.key.clone())
        }
        Request::JoinGroup(request) => request.group_id.clone(),
        Request::Heartbeat(request) => request.group_id.clone(),
        Request::LeaveGroup(request) => request.group_id.clone(),
        Request::SyncGroup(request) => request.group_id.clone(),
        Request::DescribeGroups(request) => request.groups[0].clone(),
        Request::DeleteGroups(request) => request.groups_names[0].clone(),
        Request::OffsetDelete(request) => request.group_id.clone(),
        Request::DescribeConfigs(request) => request.resources[0].resource_name.clone(),
        Request::AlterConfigs(request) => request.resources[0].resource_name.clone(),
        Request::IncrementalAlterConfigs(request) => request.resources[0].resource_name.clone(),
        // They may say transactional ids.
        Request::InitProducerId(request) => request.transactional_id.clone().unwrap_or_default(),
        Request::Produce(request) => request.transactional_id.clone().unwrap_or_default(),
        _ => Str::default(),
    }
}

/// A request about both topics, or both groups, that succeeds.
fn request(world: &World, api: ApiKey, version: i16) -> Option<Request> {
    let strs = |texts: &[&str]| texts.iter().map(|text| Str::from(*text)).collect::<Vec<_>>();
    let places = [(ORDERS, vec![0, 1]), (OTHER, vec![0])];
    let id = |topic: &str, from: i16| if version >= from { world.topic_id(topic) } else { Uuid::ZERO };
    Some(match api {
        ApiKey::Produce => {
            let topic_data = places.map(|(topic, indexes)| TopicProduceData {
                name: topic.into(),
                topic_id: id(topic, 13),
                partition_data: indexes
                    .into_iter()
                    .map(|index| PartitionProduceData { index, records: Some(batch("second")) })
                    .collect(),
            });
            ProduceRequest { acks: 1, topic_data: topic_data.into(), ..Default::default() }.into()
        }
        ApiKey::Fetch => {
            let topics = places.map(|(topic, indexes)| FetchTopic {
                topic: topic.into(),
                topic_id: id(topic, 13),
                partitions: indexes
                    .into_iter()
                    .map(|partition| FetchPartition {
                        partition,
                        partition_max_bytes: 1_000,
                        current_leader_epoch: -1,
                        last_fetched_epoch: -1,
                        ..Default::default()
                    })
                    .collect(),
            });
            let max_bytes = 10_000;
            FetchRequest { max_bytes, session_epoch: -1, topics: topics.into(), ..Default::default() }.into()
        }
        ApiKey::ListOffsets => {
            let topics = places.map(|(topic, indexes)| ListOffsetsTopic {
                name: topic.into(),
                partitions: indexes
                    .into_iter()
                    .map(|partition_index| ListOffsetsPartition {
                        partition_index,
                        current_leader_epoch: -1,
                        timestamp: -1,
                    })
                    .collect(),
            });
            ListOffsetsRequest { replica_id: -1, topics: topics.into(), ..Default::default() }.into()
        }
        ApiKey::Metadata => {
            let topics =
                [ORDERS, OTHER].map(|topic| MetadataRequestTopic { name: Some(topic.into()), ..Default::default() });
            MetadataRequest { topics: Some(topics.into()), ..Default::default() }.into()
        }
        ApiKey::OffsetCommit => {
            let mut request = commit(BILLING, 9);
            request.topics.iter_mut().for_each(|topic| topic.topic_id = id(&topic.name, 10));
            request.into()
        }
        ApiKey::OffsetFetch if version < 8 => {
            let topics = places
                .map(|(topic, partition_indexes)| OffsetFetchRequestTopic { name: topic.into(), partition_indexes });
            OffsetFetchRequest { group_id: BILLING.into(), topics: Some(topics.into()), ..Default::default() }.into()
        }
        ApiKey::OffsetFetch => {
            let topics = places.map(|(topic, partition_indexes)| OffsetFetchRequestTopics {
                name: topic.into(),
                topic_id: id(topic, 10),
                partition_indexes,
            });
            let group = OffsetFetchRequestGroup {
                group_id: BILLING.into(),
                member_epoch: -1,
                topics: Some(topics.into()),
                ..Default::default()
            };
            OffsetFetchRequest { groups: vec![group], ..Default::default() }.into()
        }
        ApiKey::FindCoordinator if version < 4 => {
            FindCoordinatorRequest { key: BILLING.into(), ..Default::default() }.into()
        }
        ApiKey::FindCoordinator => {
            FindCoordinatorRequest { coordinator_keys: strs(&[BILLING, SHIPPING]), ..Default::default() }.into()
        }
        // A lone member may join again and again; below version 4 a new one is in at once.
        ApiKey::JoinGroup => join(SHIPPING, "").into(),
        ApiKey::Heartbeat => {
            let member_id = world.member.clone();
            HeartbeatRequest { group_id: TEAM.into(), generation_id: 1, member_id, ..Default::default() }.into()
        }
        ApiKey::LeaveGroup if version < 3 => {
            LeaveGroupRequest { group_id: TEAM.into(), member_id: world.member.clone(), ..Default::default() }.into()
        }
        ApiKey::LeaveGroup => {
            let members = vec![MemberIdentity { member_id: world.member.clone(), ..Default::default() }];
            LeaveGroupRequest { group_id: TEAM.into(), members, ..Default::default() }.into()
        }
        ApiKey::SyncGroup => SyncGroupRequest {
            group_id: TEAM.into(),
            generation_id: 1,
            member_id: world.member.clone(),
            protocol_type: Some("consumer".into()),
            protocol_name: Some("range".into()),
            ..Default::default()
        }
        .into(),
        ApiKey::DescribeGroups => {
            DescribeGroupsRequest { groups: strs(&[BILLING, SHIPPING]), ..Default::default() }.into()
        }
        ApiKey::ListGroups => ListGroupsRequest::default().into(),
        ApiKey::ApiVersions => hello().into(),
        ApiKey::CreateTopics => {
            let topics = [FRESH, "fresh-too"].map(|name| CreatableTopic {
                name: name.into(),
                num_partitions: 1,
                replication_factor: 1,
                ..Default::default()
            });
            CreateTopicsRequest { topics: topics.into(), ..Default::default() }.into()
        }
        ApiKey::DeleteTopics if version < 6 => {
            DeleteTopicsRequest { topic_names: strs(&[ORDERS, OTHER]), ..Default::default() }.into()
        }
        ApiKey::DeleteTopics => {
            let by_name = DeleteTopicState { name: Some(OTHER.into()), topic_id: Uuid::ZERO };
            let by_id = DeleteTopicState { name: None, topic_id: world.topic_id(ORDERS) };
            DeleteTopicsRequest { topics: vec![by_id, by_name], ..Default::default() }.into()
        }
        ApiKey::DeleteRecords => {
            let partitions = |indexes: &[i32]| {
                let all = -1;
                indexes
                    .iter()
                    .map(|index| DeleteRecordsPartition { partition_index: *index, offset: all })
                    .collect::<Vec<_>>()
            };
            let topics = places
                .map(|(topic, indexes)| DeleteRecordsTopic { name: topic.into(), partitions: partitions(&indexes) });
            DeleteRecordsRequest { topics: topics.into(), timeout_ms: 1_000 }.into()
        }
        ApiKey::InitProducerId => {
            InitProducerIdRequest { transactional_id: None, producer_id: -1, producer_epoch: -1, ..Default::default() }
                .into()
        }
        ApiKey::OffsetForLeaderEpoch => {
            let topics = places.map(|(topic, indexes)| OffsetForLeaderTopic {
                topic: topic.into(),
                partitions: indexes
                    .into_iter()
                    .map(|partition| OffsetForLeaderPartition { partition, current_leader_epoch: -1, leader_epoch: 0 })
                    .collect(),
            });
            OffsetForLeaderEpochRequest { replica_id: -1, topics: topics.into() }.into()
        }
        ApiKey::DescribeConfigs => {
            let resources = [ORDERS, OTHER].map(|topic| DescribeConfigsResource {
                resource_type: 2,
                resource_name: topic.into(),
                configuration_keys: None,
            });
            DescribeConfigsRequest { resources: resources.into(), ..Default::default() }.into()
        }
        ApiKey::AlterConfigs => {
            let resources = [ORDERS, OTHER].map(|topic| alter_configs::AlterConfigsResource {
                resource_type: 2,
                resource_name: topic.into(),
                configs: vec![alter_configs::AlterableConfig {
                    name: "retention.ms".into(),
                    value: Some("60000".into()),
                }],
            });
            alter_configs::AlterConfigsRequest { resources: resources.into(), ..Default::default() }.into()
        }
        ApiKey::IncrementalAlterConfigs => {
            let resources = [ORDERS, OTHER].map(|topic| incremental::AlterConfigsResource {
                resource_type: 2,
                resource_name: topic.into(),
                configs: vec![incremental::AlterableConfig {
                    name: "retention.ms".into(),
                    config_operation: 0,
                    value: Some("60000".into()),
                }],
            });
            incremental::IncrementalAlterConfigsRequest { resources: resources.into(), ..Default::default() }.into()
        }
        ApiKey::CreatePartitions => {
            let topics =
                [ORDERS, OTHER].map(|topic| CreatePartitionsTopic { name: topic.into(), count: 5, assignments: None });
            CreatePartitionsRequest { topics: topics.into(), timeout_ms: 1_000, ..Default::default() }.into()
        }
        ApiKey::DeleteGroups => DeleteGroupsRequest { groups_names: strs(&[BILLING, SHIPPING]) }.into(),
        ApiKey::OffsetDelete => {
            let topics = [ORDERS, OTHER].map(|topic| OffsetDeleteRequestTopic {
                name: topic.into(),
                partitions: vec![OffsetDeleteRequestPartition { partition_index: 0 }],
            });
            OffsetDeleteRequest { group_id: BILLING.into(), topics: topics.into() }.into()
        }
        ApiKey::DescribeCluster => DescribeClusterRequest { endpoint_type: 1, ..Default::default() }.into(),
        ApiKey::ListConfigResources => ListConfigResourcesRequest::default().into(),
        ApiKey::DescribeTopicPartitions => {
            let topics = [ORDERS, OTHER].map(|name| TopicRequest { name: name.into() });
            DescribeTopicPartitionsRequest {
                topics: topics.into(),
                response_partition_limit: 100,
                ..Default::default()
            }
            .into()
        }
        _ => return None,
    })
}
