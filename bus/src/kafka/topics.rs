//! The topics of a bus: they exist once it is connected.

use super::client::{Watcher, admin, make};
use crate::config::KafkaEventBusConfig;
use crate::error::BusError;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The administrator's client.
pub(super) struct Topics {
    admin: Arc<AdminClient<Watcher>>,
    watcher: Watcher,
    bootstrap: String,
    patience: Duration,
}

/// A topic to have.
pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    pub(super) partitions: i32,
    pub(super) replication: i32,
    pub(super) compacted: bool,
}

/// Partition counts by topic.
pub(super) type Census = BTreeMap<String, i32>;

/// How long to wait between looks at a topic that was just created.
const LOOK: Duration = Duration::from_millis(20);

impl Topics {
    pub(super) fn new(config: &KafkaEventBusConfig, watcher: &Watcher) -> Result<Self, BusError> {
        Ok(Self {
            admin: Arc::new(make(&admin(config), watcher.clone())?),
            watcher: watcher.clone(),
            bootstrap: config.bootstrap_servers.clone(),
            patience: config.connect_timeout,
        })
    }

    /// The topics there are. Asks for all of them, because asking for one by name may create it.
    pub(super) async fn census(&self) -> Result<Census, BusError> {
        let (admin, patience) = (self.admin.clone(), self.patience);
        let asked = tokio::task::spawn_blocking(move || admin.inner().fetch_metadata(None, patience)).await;
        match asked {
            Ok(Ok(metadata)) => {
                self.watcher.alive();
                Ok(count(&metadata))
            }
            Ok(Err(error)) => Err(self.watcher.unreachable(&self.bootstrap, patience, error)),
            Err(stopped) => Err(BusError::Backend { doing: "asking for the topics", source: stopped.into() }),
        }
    }

    /// Creates a topic, and waits until the brokers know its leaders. Having it already is fine.
    pub(super) async fn create(&self, topic: Wanted<'_>) -> Result<Census, BusError> {
        let mut new = NewTopic::new(topic.name, topic.partitions, TopicReplication::Fixed(topic.replication));
        if topic.compacted {
            new = new.set("cleanup.policy", "compact");
        }
        let options = AdminOptions::new().request_timeout(Some(self.patience)).operation_timeout(Some(self.patience));
        let failed = |source| BusError::Backend { doing: "creating a topic", source };
        for created in self.admin.create_topics([&new], &options).await.map_err(|error| failed(error.into()))? {
            match created {
                Ok(name) => tracing::info!(topic = name, "topic created"),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => {
                    return Err(failed(
                        format!("{name}: {}; create it yourself, or allow it", KafkaError::AdminOp(code)).into(),
                    ));
                }
            }
        }
        let deadline = Instant::now() + self.patience;
        loop {
            let census = self.census().await?;
            if census.contains_key(topic.name) {
                return Ok(census);
            }
            if Instant::now() > deadline {
                return Err(failed(format!("{} has no leaders after {:?}", topic.name, self.patience).into()));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Topics whose partitions all have leaders.
fn count(metadata: &Metadata) -> Census {
    let led = metadata.topics().iter().filter(|topic| {
        !topic.partitions().is_empty() && topic.partitions().iter().all(|partition| partition.leader() >= 0)
    });
    led.map(|topic| (topic.name().to_owned(), topic.partitions().len().try_into().unwrap_or(i32::MAX))).collect()
}
