//! Where the demos play: the cluster inside this process, or somebody's Kafka.

use super::screen::say;
use anyhow::Context;
use rehearsal_mockbroker::testing::MockCluster;
use std::time::Instant;
use uuid::Uuid;

const BROKERS: i32 = 3;
/// Kafka's own default is one replica, and a broker that crashes takes its only replicas with it.
const REPLICATED: (&str, &str) = ("default.replication.factor", "3");

pub(super) struct Stage {
    bootstrap: String,
    prefix: String,
    /// The cluster, if it is ours to break.
    pub(super) cluster: Option<MockCluster>,
}

impl Stage {
    /// Starts three brokers inside this process, on free ports.
    pub(super) fn embedded() -> anyhow::Result<Self> {
        let began = Instant::now();
        let kafka = MockCluster::builder().brokers(BROKERS).config(REPLICATED.0, REPLICATED.1).start();
        let kafka = kafka.context("starting the embedded cluster")?;
        let took = began.elapsed();
        let bootstrap = kafka.bootstrap_servers();
        say!("{BROKERS} brokers inside this process: started in {} µs at {bootstrap}", took.as_micros());
        Ok(Self { bootstrap, prefix: String::new(), cluster: Some(kafka) })
    }

    /// Plays on brokers that run already. Topics and groups are named anew each time: what an earlier run left behind
    /// is none of this one's business.
    pub(super) fn at(bootstrap: String) -> Self {
        let run = Uuid::new_v4().simple().to_string();
        let prefix = format!("rehearsal-{}-", &run[..8]);
        say!("Kafka at {bootstrap}; topics and groups are named {prefix}*");
        Self { bootstrap, prefix, cluster: None }
    }

    pub(super) fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// What to call a topic or group here.
    pub(super) fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}
