//! A cluster with a clock, asked over connections to any of its brokers.

use rehearsal_mockbroker::cluster::Cluster;
use rehearsal_mockbroker::config::ClusterConfig;
use rehearsal_mockbroker::control::Command;
use rehearsal_mockbroker::error::ErrorCode;
use rehearsal_mockbroker::output::{ConnId, Output};
use rehearsal_mockbroker::session::Incoming;
use rehearsal_mockbroker::state::nodes::NodeId;
use rehearsal_mockbroker::time::Time;
use rehearsal_mockbroker::view::PartitionView;
use rehearsal_mockbroker::wire::batch::BatchBuilder;
use rehearsal_mockbroker::wire::generated::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use rehearsal_mockbroker::wire::{Records, Request, Response, Str, Writer};
use std::time::Duration;

/// When every test begins, in milliseconds.
pub(crate) const START_MS: i64 = 1_700_000_000_000;

pub(crate) struct Kafka {
    pub(crate) cluster: Cluster,
    pub(crate) now: Time,
    answers: Vec<(ConnId, Response)>,
    pub(crate) closed: Vec<ConnId>,
}

/// The body of the expected kind.
macro_rules! body {
    ($response:expr, $kind:ident) => {
        match $response {
            Response::$kind(body) => body,
            other => panic!("not an answer to {}: {other:?}", stringify!($kind)),
        }
    };
}
pub(crate) use body;

impl Kafka {
    pub(crate) fn new(config: &ClusterConfig) -> Self {
        let cluster = Cluster::new(config).expect("a cluster");
        Self { cluster, now: Time::from_millis(START_MS), answers: Vec::new(), closed: Vec::new() }
    }

    pub(crate) fn connect(&mut self, node: i32) -> ConnId {
        self.cluster.connect(NodeId(node), "/127.0.0.1").expect("the broker runs")
    }

    /// Lets time pass, waking the cluster whenever it wants to be.
    pub(crate) fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        while let Some(due) = self.cluster.next_wake().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            let outputs = self.cluster.wake(self.now);
            self.carry_out(outputs);
        }
        self.now = until;
    }

    pub(crate) fn control(&mut self, command: Command) {
        let outputs = self.cluster.control(self.now, command).expect("a command that can be done");
        self.carry_out(outputs);
    }

    /// Asks and is answered at once, on a connection of its own.
    pub(crate) fn ask(&mut self, node: i32, version: i16, body: impl Into<Request>) -> Response {
        let conn = self.connect(node);
        let answer = self.ask_on(conn, "test", version, body).expect("an answer at once");
        let outputs = self.cluster.disconnect(self.now, conn);
        self.carry_out(outputs);
        answer
    }

    /// Asks on a connection; the answer may come later, see [`Kafka::take`].
    pub(crate) fn ask_on(
        &mut self,
        conn: ConnId,
        client: &str,
        version: i16,
        body: impl Into<Request>,
    ) -> Option<Response> {
        self.ask_of_size(conn, client, version, body, 0)
    }

    /// The same in a frame of so many bytes.
    pub(crate) fn ask_of_size(
        &mut self,
        conn: ConnId,
        client: &str,
        version: i16,
        body: impl Into<Request>,
        frame_bytes: usize,
    ) -> Option<Response> {
        let request = Incoming { version, client_id: Str::from(client), body: body.into(), frame_bytes };
        let outputs = self.cluster.handle(self.now, conn, request);
        for output in &outputs {
            if let Output::Reply { conn: to, response: Some(response), .. } = output
                && *to == conn
            {
                response.encode(version, &mut Writer::new()).expect("an answer this version has room for");
            }
        }
        self.carry_out(outputs);
        self.take(conn)
    }

    pub(crate) fn take(&mut self, conn: ConnId) -> Option<Response> {
        let at = self.answers.iter().position(|(to, _)| *to == conn)?;
        Some(self.answers.remove(at).1)
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Reply { conn, response: Some(response), .. } => self.answers.push((conn, *response)),
                Output::Close { conn, .. } => self.closed.push(conn),
                _ => {}
            }
        }
    }

    pub(crate) fn partition(&self, topic: &str, index: i32) -> PartitionView {
        self.cluster.view().partition(topic, index).expect("the partition").clone()
    }

    pub(crate) fn leader(&self, topic: &str, index: i32) -> i32 {
        self.partition(topic, index).leader.map_or(-1, |node| node.0)
    }

    /// Appends a batch with `acks=1`; its base offset.
    pub(crate) fn produce(&mut self, topic: &str, index: i32, batch: BatchBuilder) -> i64 {
        let request = produce(topic, index, batch);
        let answer = self.ask(self.leader(topic, index), 11, request);
        let row = body!(answer, Produce).responses.remove(0).partition_responses.remove(0);
        assert_eq!(row.error_code, 0);
        row.base_offset
    }
}

pub(crate) fn produce(topic: &str, index: i32, batch: BatchBuilder) -> ProduceRequest {
    let records = Some(Records::from(batch.build().expect("a batch")));
    let partition_data = vec![PartitionProduceData { index, records }];
    let topic = TopicProduceData { name: Str::from(topic), partition_data, ..Default::default() };
    ProduceRequest { acks: 1, timeout_ms: 1_000, topic_data: vec![topic], ..Default::default() }
}

/// The error a code stands for.
pub(crate) fn code(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).expect("a code of Kafka's")
}

pub(crate) fn ids(nodes: &[NodeId]) -> Vec<i32> {
    nodes.iter().map(|node| node.0).collect()
}
