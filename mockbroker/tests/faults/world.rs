//! Two topics, three groups, one broker: something for every API to be about.

use bytes::Bytes;
use rehearsal_mockbroker::cluster::Cluster;
use rehearsal_mockbroker::config::{ClusterConfig, TopicConfig};
use rehearsal_mockbroker::control::{Command, CommandError};
use rehearsal_mockbroker::error::ErrorCode;
use rehearsal_mockbroker::fault::{Fault, FaultId, FaultView};
use rehearsal_mockbroker::output::{ConnId, Frame, Output};
use rehearsal_mockbroker::session::Incoming;
use rehearsal_mockbroker::state::nodes::NodeId;
use rehearsal_mockbroker::time::Time;
use rehearsal_mockbroker::wire::batch::BatchBuilder;
use rehearsal_mockbroker::wire::generated::api_versions_request::ApiVersionsRequest;
use rehearsal_mockbroker::wire::generated::describe_configs_request::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use rehearsal_mockbroker::wire::generated::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use rehearsal_mockbroker::wire::generated::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use rehearsal_mockbroker::wire::generated::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use rehearsal_mockbroker::wire::json::to_json;
use rehearsal_mockbroker::wire::{ApiKey, Records, Request, Response, Str, Uuid, Writer};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// The topic faults are planned for; partitions 0 and 1.
pub(crate) const ORDERS: &str = "orders";
/// A topic they leave alone; partition 0.
pub(crate) const OTHER: &str = "other";
/// Has committed offsets and no member.
pub(crate) const BILLING: &str = "billing";
/// As `BILLING`, and left alone.
pub(crate) const SHIPPING: &str = "shipping";
/// Has a member that has joined and not synced.
pub(crate) const TEAM: &str = "team";

const START_MS: i64 = 1_700_000_000_000;
const ONE: NodeId = NodeId(1);

pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) now: Time,
    pub(crate) member: Str,
    answers: BTreeMap<ConnId, Option<Response>>,
    frames: BTreeMap<ConnId, Frame>,
    closed: Vec<ConnId>,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut config = ClusterConfig::with_brokers(1);
        config.topics = vec![TopicConfig::new(ORDERS, 2), TopicConfig::new(OTHER, 1)];
        config.configs.insert("group.initial.rebalance.delay.ms".into(), "0".into());
        config.configs.insert("offsets.topic.num.partitions".into(), "1".into());
        Self::with(&config)
    }

    pub(crate) fn with(config: &ClusterConfig) -> Self {
        let mut world = Self::bare(config);
        let client = world.connect();
        for topic in [ORDERS, OTHER] {
            world.ask(client, 9, produce(topic, 0, "first"));
        }
        world.cluster.control(world.now, Command::MoveCoordinator { group: TEAM.into(), to: ONE }).expect("it exists");
        for group in [BILLING, SHIPPING] {
            world.ask(client, 9, commit(group, 1));
        }
        let joined = world.ask(client, 3, join(TEAM, ""));
        let Some(Response::JoinGroup(joined)) = joined else { panic!("not joined: {joined:?}") };
        assert_eq!(joined.error_code, 0);
        world.member = joined.member_id;
        world
    }

    /// A cluster nobody has asked anything.
    pub(crate) fn bare(config: &ClusterConfig) -> Self {
        Self {
            cluster: Cluster::new(config).expect("a good config"),
            now: Time::from_millis(START_MS),
            member: Str::default(),
            answers: BTreeMap::new(),
            frames: BTreeMap::new(),
            closed: Vec::new(),
        }
    }

    pub(crate) fn connect(&mut self) -> ConnId {
        self.cluster.connect(ONE, "/127.0.0.1").expect("it runs")
    }

    /// Asks; the answer, if there is one at once.
    pub(crate) fn ask(&mut self, conn: ConnId, version: i16, body: impl Into<Request>) -> Option<Response> {
        let request = Incoming { version, client_id: Str::from("teller"), body: body.into(), frame_bytes: 100 };
        let outputs = self.cluster.handle(self.now, conn, request);
        self.carry_out(outputs, Some(version));
        self.answer(conn)
    }

    /// The answer that came to this connection since it was last looked at.
    pub(crate) fn answer(&mut self, conn: ConnId) -> Option<Response> {
        self.answers.remove(&conn).flatten()
    }

    pub(crate) fn frame(&self, conn: ConnId) -> Option<Frame> {
        self.frames.get(&conn).copied()
    }

    pub(crate) fn is_closed(&self, conn: ConnId) -> bool {
        self.closed.contains(&conn)
    }

    pub(crate) fn advance(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
        let outputs = self.cluster.wake(self.now);
        self.carry_out(outputs, None);
    }

    pub(crate) fn disconnect(&mut self, conn: ConnId) {
        let outputs = self.cluster.disconnect(self.now, conn);
        self.carry_out(outputs, None);
    }

    pub(crate) fn try_control(&mut self, command: Command) -> Result<(), CommandError> {
        let outputs = self.cluster.control(self.now, command)?;
        self.carry_out(outputs, None);
        Ok(())
    }

    pub(crate) fn control(&mut self, command: Command) {
        self.try_control(command).expect("a command that can be done");
    }

    pub(crate) fn plan(&mut self, fault: Fault) -> FaultId {
        self.cluster.plan(fault).expect("it can happen")
    }

    pub(crate) fn fault(&self, id: FaultId) -> FaultView {
        self.cluster.faults().into_iter().find(|view| view.id == id).expect("it is planned")
    }

    pub(crate) fn end_offset(&self, topic: &str, partition: usize) -> i64 {
        self.cluster.view().topic(topic).expect("it exists").partitions[partition].log_end_offset
    }

    pub(crate) fn topic_id(&self, topic: &str) -> Uuid {
        self.cluster.view().topic(topic).expect("it exists").id.parse().expect("an id")
    }

    /// The APIs served, with their versions, as clients learn of them. Produce is advertised from 0 and served from 3.
    pub(crate) fn served(&mut self) -> Vec<(ApiKey, i16)> {
        let client = self.connect();
        let answer = self.ask(client, 3, hello());
        let Some(Response::ApiVersions(versions)) = answer else { panic!("no versions: {answer:?}") };
        let served = versions.api_keys.iter().flat_map(|row| {
            let api = ApiKey::from_code(row.api_key).expect("an API Kafka has");
            let versions = row.min_version.max(*api.request_versions().start())..=row.max_version;
            versions.map(move |version| (api, version))
        });
        let served: Vec<_> = served.collect();
        assert!(served.len() > 100, "every API in every version, not {served:?}");
        served
    }

    /// All of the state a request can change, without what is of connections and faults.
    pub(crate) fn fingerprint(&mut self) -> Value {
        let mut view = serde_json::to_value(self.cluster.view()).expect("a view is plain");
        let fields = view.as_object_mut().expect("an object");
        ["connections", "waiting_requests", "faults"].iter().for_each(|field| drop(fields.remove(*field)));
        let offsets = [BILLING, SHIPPING, TEAM, ""].map(|group| {
            let offsets = self.cluster.committed_offsets(group);
            let offsets = offsets.map(|(topic, index, committed)| format!("{topic}-{index} {}", committed.offset));
            offsets.collect::<Vec<_>>()
        });
        let groups = [BILLING, SHIPPING, TEAM].map(|group| {
            let view = self.cluster.group(group)?;
            let members: Vec<_> = view.members.iter().map(|member| member.member_id.clone()).collect();
            Some((view.state.name(), view.generation, members))
        });
        json!({ "view": view, "offsets": offsets, "groups": groups, "configs": self.configs() })
    }

    fn configs(&mut self) -> Value {
        let mut unfaulted = self.cluster.faults().is_empty().then(|| self.connect());
        // Faults on every API would concern this question too, so it is only asked where there are none.
        let Some(client) = unfaulted.take() else { return Value::Null };
        let resource = |name: &str| DescribeConfigsResource {
            resource_type: 2,
            resource_name: name.into(),
            configuration_keys: Some(vec!["retention.ms".into()]),
        };
        let resources = [ORDERS, OTHER].into_iter().filter(|name| self.cluster.view().topic(name).is_some());
        let request = DescribeConfigsRequest { resources: resources.map(resource).collect(), ..Default::default() };
        let answer = self.ask(client, 4, request).expect("an answer");
        self.disconnect(client);
        to_json(&answer, 4)
    }

    fn carry_out(&mut self, outputs: Vec<Output>, version: Option<i16>) {
        for output in outputs {
            match output {
                Output::Reply { conn, response, frame } => {
                    if let (Some(version), Some(response)) = (version, &response) {
                        let version = version.max(0);
                        response.encode(version, &mut Writer::new()).expect("an answer this version has room for");
                    }
                    self.frames.insert(conn, frame);
                    self.answers.insert(conn, response.map(|response| *response));
                }
                Output::Close { conn, .. } => self.closed.push(conn),
                Output::StopListening(_) | Output::Listen(_) => {}
            }
        }
    }
}

/// What clients say first.
pub(crate) fn hello() -> ApiVersionsRequest {
    ApiVersionsRequest {
        client_software_name: "teller".into(),
        client_software_version: "1".into(),
        ..Default::default()
    }
}

/// One record to one partition, with `acks=1`, in version 9.
pub(crate) fn produce(topic: &str, index: i32, value: &str) -> ProduceRequest {
    let partition = PartitionProduceData { index, records: Some(batch(value)) };
    let topic = TopicProduceData { name: topic.into(), topic_id: Uuid::ZERO, partition_data: vec![partition] };
    ProduceRequest { acks: 1, topic_data: vec![topic], ..Default::default() }
}

pub(crate) fn batch(value: &str) -> Records {
    let batch = BatchBuilder::new().record(START_MS, None, Some(value.as_bytes())).build().expect("a batch");
    Records::from(batch)
}

/// Commits this offset for partition 0 of both topics, from a consumer that assigns itself.
pub(crate) fn commit(group: &str, offset: i64) -> OffsetCommitRequest {
    let topic = |name: &str| OffsetCommitRequestTopic {
        name: name.into(),
        partitions: vec![OffsetCommitRequestPartition {
            partition_index: 0,
            committed_offset: offset,
            ..Default::default()
        }],
        ..Default::default()
    };
    let topics = vec![topic(ORDERS), topic(OTHER)];
    OffsetCommitRequest { group_id: group.into(), topics, ..Default::default() }
}

pub(crate) fn join(group: &str, member_id: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: group.into(),
        member_id: member_id.into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".into(), metadata: Bytes::from_static(b"range") }],
        ..Default::default()
    }
}

pub(crate) fn code_of(code: i64) -> ErrorCode {
    i16::try_from(code).ok().and_then(ErrorCode::from_code).expect("a code Kafka has")
}
