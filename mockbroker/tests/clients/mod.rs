//! A cluster in virtual time, and the little every suite of groups needs around it.

// Each suite is a crate of its own and uses a part of this.
#![allow(dead_code, reason = "shared by suites that each use a part of it")]

use rehearsal_mockbroker::cluster::Cluster;
use rehearsal_mockbroker::config::{ClusterConfig, NodeConfig, TopicConfig};
use rehearsal_mockbroker::control::Command;
use rehearsal_mockbroker::output::{ConnId, Output};
use rehearsal_mockbroker::session::Incoming;
use rehearsal_mockbroker::state::nodes::NodeId;
use rehearsal_mockbroker::time::{Time, millis};
use rehearsal_mockbroker::wire::generated::create_partitions_request::{
    CreatePartitionsRequest, CreatePartitionsTopic,
};
use rehearsal_mockbroker::wire::generated::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreateTopicsRequest,
};
use rehearsal_mockbroker::wire::generated::delete_topics_request::DeleteTopicsRequest;
use rehearsal_mockbroker::wire::generated::find_coordinator_request::FindCoordinatorRequest;
use rehearsal_mockbroker::wire::generated::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use rehearsal_mockbroker::wire::{Request, Response, Str, Uuid, Writer};
use std::collections::BTreeMap;

/// A cluster, its clock, and the answers that have come.
pub(crate) struct Kafka {
    pub(crate) cluster: Cluster,
    pub(crate) now: Time,
    versions: BTreeMap<ConnId, i16>,
    answers: BTreeMap<ConnId, Response>,
}

/// A response of one API.
pub(crate) trait Answered {
    fn of(response: Response) -> Self;
}

/// Says which variant of `Response` a body is.
macro_rules! body {
    ($variant:ident $body:ty) => {
        impl Answered for $body {
            fn of(response: rehearsal_mockbroker::wire::Response) -> Self {
                match response {
                    rehearsal_mockbroker::wire::Response::$variant(body) => body,
                    other => panic!("not the answer to {}: {other:?}", stringify!($variant)),
                }
            }
        }
    };
}
pub(crate) use body;

impl Kafka {
    pub(crate) fn with_topic(topic: &str, partitions: i32) -> Self {
        Self::of(ClusterConfig { topics: vec![TopicConfig::new(topic, partitions)], ..Default::default() })
    }

    pub(crate) fn with_configs(configs: &[(&str, &str)]) -> Self {
        let configs = configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self::of(ClusterConfig { configs, ..Default::default() })
    }

    pub(crate) fn of_brokers(brokers: i32) -> Self {
        let node = |id| NodeConfig { id: NodeId(id), host: "localhost".into(), port: 9092, rack: None };
        Self::of(ClusterConfig { nodes: (1..=brokers).map(node).collect(), ..Default::default() })
    }

    pub(crate) fn of(config: ClusterConfig) -> Self {
        let cluster = Cluster::new(&config).expect("a valid config");
        Self { cluster, now: Time::from_millis(1_000), versions: BTreeMap::new(), answers: BTreeMap::new() }
    }

    pub(crate) fn advance(&mut self, ms: i32) {
        self.now = self.now + millis(ms);
        let outputs = self.cluster.wake(self.now);
        self.carry_out(outputs);
    }

    pub(crate) fn connect(&mut self) -> ConnId {
        let anywhere = self.cluster.view().controller.expect("a broker runs");
        self.cluster.connect(anywhere, "/127.0.0.1").expect("the broker runs")
    }

    pub(crate) fn coordinator(&mut self, group: &str) -> NodeId {
        let conn = self.connect();
        let request = FindCoordinatorRequest { key: Str::from(group), ..Default::default() };
        match self.ask_any(conn, 3, request.into()) {
            Some(Response::FindCoordinator(found)) if found.error_code == 0 => NodeId(found.node_id),
            other => panic!("no coordinator: {other:?}"),
        }
    }

    pub(crate) fn connect_to_coordinator(&mut self, group: &str) -> ConnId {
        let coordinator = self.coordinator(group);
        self.cluster.connect(coordinator, "/127.0.0.1").expect("the broker runs")
    }

    /// Asks what is answered at once.
    pub(crate) fn ask<T: Answered>(&mut self, conn: ConnId, version: i16, request: impl Into<Request>) -> T {
        T::of(self.ask_any(conn, version, request.into()).expect("an answer at once"))
    }

    /// Asks; `None` while the request waits.
    pub(crate) fn try_ask<T: Answered>(
        &mut self,
        conn: ConnId,
        version: i16,
        request: impl Into<Request>,
    ) -> Option<T> {
        self.ask_any(conn, version, request.into()).map(T::of)
    }

    /// The answer to a request that had to wait.
    pub(crate) fn answered<T: Answered>(&mut self, conn: ConnId) -> Option<T> {
        self.answers.remove(&conn).map(T::of)
    }

    pub(crate) fn ask_any(&mut self, conn: ConnId, version: i16, body: Request) -> Option<Response> {
        self.versions.insert(conn, version);
        let request = Incoming { version, client_id: Str::from("worker"), body, frame_bytes: 0 };
        let outputs = self.cluster.handle(self.now, conn, request);
        self.carry_out(outputs);
        self.answers.remove(&conn)
    }

    pub(crate) fn disconnect(&mut self, conn: ConnId) {
        let outputs = self.cluster.disconnect(self.now, conn);
        self.carry_out(outputs);
    }

    pub(crate) fn control(&mut self, command: Command) {
        let outputs = self.cluster.control(self.now, command).expect("a command that can be done");
        self.carry_out(outputs);
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            if let Output::Reply { conn, response: Some(response), .. } = output {
                let version = self.versions[&conn];
                response.encode(version, &mut Writer::new()).expect("an answer this version has room for");
                self.answers.insert(conn, *response);
            }
        }
    }

    // ---- administration ----

    pub(crate) fn topic_id(&self, topic: &str) -> Uuid {
        self.cluster.view().topic(topic).expect("the topic").id.parse().expect("an id")
    }

    pub(crate) fn create_topic(&mut self, name: &str, num_partitions: i32) {
        let topic =
            CreatableTopic { name: Str::from(name), num_partitions, replication_factor: -1, ..Default::default() };
        let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
        let conn = self.connect();
        match self.ask_any(conn, 7, request.into()) {
            Some(Response::CreateTopics(created)) => assert_eq!(created.topics[0].error_code, 0, "{created:?}"),
            other => panic!("no answer: {other:?}"),
        }
    }

    /// A topic whose partitions live on these brokers, the leader first.
    pub(crate) fn create_topic_with_replicas(&mut self, name: &str, replicas: &[&[i32]]) {
        let row = |(index, brokers): (i32, &&[i32])| CreatableReplicaAssignment {
            partition_index: index,
            broker_ids: brokers.to_vec(),
        };
        let topic = CreatableTopic {
            name: Str::from(name),
            num_partitions: -1,
            replication_factor: -1,
            assignments: (0..).zip(replicas).map(row).collect(),
            ..Default::default()
        };
        let conn = self.connect();
        let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
        match self.ask_any(conn, 7, request.into()) {
            Some(Response::CreateTopics(created)) => assert_eq!(created.topics[0].error_code, 0, "{created:?}"),
            other => panic!("no answer: {other:?}"),
        }
    }

    pub(crate) fn add_partitions(&mut self, name: &str, count: i32) {
        let topic = CreatePartitionsTopic { name: Str::from(name), count, assignments: None };
        let conn = self.connect();
        let request = CreatePartitionsRequest { topics: vec![topic], ..Default::default() };
        match self.ask_any(conn, 3, request.into()) {
            Some(Response::CreatePartitions(added)) => assert_eq!(added.results[0].error_code, 0, "{added:?}"),
            other => panic!("no answer: {other:?}"),
        }
    }

    pub(crate) fn delete_topic(&mut self, name: &str) {
        let conn = self.connect();
        let request = DeleteTopicsRequest { topic_names: vec![Str::from(name)], ..Default::default() };
        match self.ask_any(conn, 5, request.into()) {
            Some(Response::DeleteTopics(deleted)) => assert_eq!(deleted.responses[0].error_code, 0, "{deleted:?}"),
            other => panic!("no answer: {other:?}"),
        }
    }

    pub(crate) fn configure_group(&mut self, group: &str, configs: &[(&str, &str)]) {
        const GROUP: i8 = 32;
        let config = |(name, value): &(&str, &str)| AlterableConfig {
            name: Str::from(*name),
            value: Some(Str::from(*value)),
            ..Default::default()
        };
        let resource = AlterConfigsResource {
            resource_type: GROUP,
            resource_name: Str::from(group),
            configs: configs.iter().map(config).collect(),
        };
        let conn = self.connect();
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() };
        match self.ask_any(conn, 1, request.into()) {
            Some(Response::IncrementalAlterConfigs(altered)) => {
                assert_eq!(altered.responses[0].error_code, 0, "{altered:?}");
            }
            other => panic!("no answer: {other:?}"),
        }
    }

    pub(crate) fn crash_coordinator(&mut self, group: &str) {
        let node = self.coordinator(group);
        self.control(Command::Crash(node));
    }
}
