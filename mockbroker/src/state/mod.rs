//! Nouns: what the cluster knows. No request or response type appears here, so that it can be read and tested
//! without knowing the protocol.

mod compaction;
pub mod configs;
mod election;
mod failover;
pub mod features;
pub mod fetch_sessions;
pub mod groups;
pub mod log;
pub mod nodes;
pub mod producers;
pub mod quotas;
pub mod reassignment;
pub mod replication;
mod retention;
pub mod security;
pub mod segments;
pub mod share;
mod sharing;
pub mod topics;
pub mod transaction_index;
pub mod transactions;
mod upkeep;

use crate::config::{ClusterConfig, ConfigError, TopicConfig};
use crate::error::{ErrorCode, Reject};
use crate::parked::PartitionName;
use crate::time::{Time, millis};
use crate::wire::Uuid;
use configs::{BrokerSettings, Configs};
use failover::Replication;
use features::{ELIGIBLE_LEADER_REPLICAS, Features, TRANSACTION_VERSION};
use fetch_sessions::FetchSessions;
use groups::Groups;
use nodes::{ListenerId, Node, NodeId, Nodes};
use quotas::Quotas;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use security::Security;
use share::Shares;
use std::collections::{BTreeMap, BTreeSet};
use topics::{OFFSETS_TOPIC, Partition, Topics};
use transactions::{ProducerIds, Transactions};

/// Everything a cluster knows.
#[derive(Debug)]
pub struct State {
    /// The cluster's id, 22 characters of base64.
    pub cluster_id: String,
    /// The brokers.
    pub nodes: Nodes,
    /// Topics, partitions and their logs.
    pub topics: Topics,
    /// Broker, topic and group configs.
    pub configs: Configs,
    /// Consumer groups and their offsets.
    pub groups: Groups,
    /// Transactional ids and their transactions.
    pub transactions: Transactions,
    /// Features and their levels.
    pub features: Features,
    /// Client quotas, and what has been used of them.
    pub quotas: Quotas,
    /// Who may come in and what they may do.
    pub security: Security,
    /// Incremental fetch sessions.
    pub fetch_sessions: FetchSessions,
    /// What share groups read.
    pub shares: Shares,
    /// The cluster's only source of chance.
    pub rng: SmallRng,
    /// How far the brokers' wall clock, which stamps records, is off from the time they are told.
    pub wall_clock_offset_ms: i64,
    producer_ids: ProducerIds,
    /// When to look for producers that wrote nothing for long; `None` while there are none.
    next_producer_cleanup: Option<Time>,
    /// When logs are looked at.
    upkeep: upkeep::Upkeep,
    /// Who vanished and when something is copied.
    replication: Replication,
    changed: BTreeSet<PartitionName>,
}

/// A topic as it was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its id.
    pub id: Uuid,
    /// How many partitions it has.
    pub partitions: i32,
    /// How many replicas each has.
    pub replication_factor: i16,
}

/// A topic asked for; −1 and `None` take the broker's defaults.
#[derive(Debug, Clone, Default)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions.
    pub partitions: Option<i32>,
    /// How many replicas of each.
    pub replication_factor: Option<i16>,
    /// Replicas by partition, instead of the two numbers above.
    pub assignment: Option<Vec<Vec<NodeId>>>,
    /// Its configs; a null value is an error of the client's.
    pub configs: Vec<(String, Option<String>)>,
}

impl State {
    /// The state of a new cluster.
    pub fn new(config: &ClusterConfig) -> Result<Self, ConfigError> {
        config.check()?;
        let mut rng = SmallRng::seed_from_u64(config.seed);
        let mut given = config.configs.clone();
        given.retain(|name, _| !security::acls::OWN_CONFIGS.contains(&name.as_str()));
        let mut configs = Configs::new(given)?;
        for node in &config.nodes {
            let rack = node.rack.iter().map(|rack| ("broker.rack".to_owned(), rack.clone()));
            configs.introduce(node.id.0, rack.collect())?;
        }
        let features = Features::new(config);
        let eligible_leader_replicas = features.level(ELIGIBLE_LEADER_REPLICAS) > 0;
        let groups = Groups::new(group_settings(&configs));
        let transactions =
            Transactions::new(transaction_settings(configs.broker_settings(), features.level(TRANSACTION_VERSION)));
        let nodes = config.nodes.iter().map(|node| Node {
            id: node.id,
            host: config.address(node, ListenerId::default()).host,
            port: config.address(node, ListenerId::default()).port,
            other_endpoints: (1..config.listeners.len()).map(|at| config.address(node, ListenerId(at))).collect(),
            rack: node.rack.clone(),
            running: true,
            fenced: false,
            follower_delay: config.follower_delay,
        });
        let cluster_id = random_uuid(&mut rng).to_string();
        let mut state = Self {
            cluster_id,
            security: Security::new(config, &mut rng)?,
            nodes: Nodes::new(nodes),
            topics: Topics::default(),
            configs,
            groups,
            transactions,
            features,
            quotas: Quotas::default(),
            fetch_sessions: FetchSessions::default(),
            shares: Shares::default(),
            rng,
            wall_clock_offset_ms: 0,
            producer_ids: ProducerIds::default(),
            next_producer_cleanup: None,
            upkeep: Default::default(),
            replication: Replication::new(config, eligible_leader_replicas),
            changed: BTreeSet::new(),
        };
        for topic in &config.topics {
            state.create_initial(topic)?;
        }
        Ok(state)
    }

    /// Creates a topic, or says why Kafka would not; with `validate_only` nothing changes.
    pub fn create_topic(&mut self, new: &NewTopic, validate_only: bool) -> Result<CreatedTopic, Reject> {
        self.topics.check_new_name(&new.name)?;
        let overrides = new.configs.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
        let invalid = |error: configs::InvalidConfig| Reject::new(ErrorCode::InvalidConfig, error.to_string());
        let overrides =
            self.configs.check_topic(self.nodes.controller().map(|node| node.0), overrides).map_err(invalid)?;
        let placement = match &new.assignment {
            Some(assignment) => self.check_assignment(assignment)?,
            None => self.place(new)?,
        };
        let created = CreatedTopic {
            id: random_uuid(&mut self.rng),
            partitions: placement.len() as i32,
            replication_factor: placement.first().map_or(0, Vec::len) as i16,
        };
        if !validate_only {
            self.configs.set_topic(&new.name, overrides);
            let settings = self.configs.topic_settings(&new.name);
            self.topics.create(&new.name, created.id, placement, settings, &self.nodes);
            self.tell_groups_of_topic(&new.name);
        }
        Ok(created)
    }

    /// Deletes a topic with everything in it, its configs and its committed offsets.
    pub fn delete_topic(&mut self, name: &str) -> Result<Uuid, Reject> {
        let topic = self.topics.delete(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        self.configs.remove_topic(name);
        self.groups.topic_deleted(name);
        self.shares.forget(|key| key.topic == topic.id);
        for index in 0..topic.partitions.len() {
            self.changed.insert((name.to_owned(), index as i32));
        }
        Ok(topic.id)
    }

    /// Adds partitions up to `total`.
    pub fn add_partitions(
        &mut self,
        name: &str,
        total: i32,
        assignment: Option<Vec<Vec<NodeId>>>,
        validate_only: bool,
    ) -> Result<(), Reject> {
        let topic = self.topics.get(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let present = topic.partitions.len() as i32;
        let replication_factor = topic.partitions.first().map_or(1, |partition| partition.replicas.len()) as i16;
        if total <= present {
            let message = if total == present {
                format!("'{name}' has {present} partitions already")
            } else {
                format!("'{name}' has {present} partitions; {total} would be fewer")
            };
            return Err(Reject::new(ErrorCode::InvalidPartitions, message));
        }
        let missing = total - present;
        check_partition_count(missing)?;
        let added = match assignment {
            Some(assignment) if assignment.len() != missing as usize => {
                let message =
                    format!("{missing} partitions are to be added, but {} assignments are given", assignment.len());
                return Err(Reject::new(ErrorCode::InvalidReplicaAssignment, message));
            }
            Some(assignment) => self.check_assignment(&assignment)?,
            None => self.topics.place(&self.nodes, missing, replication_factor)?,
        };
        if !validate_only && let Some(topic) = self.topics.get_mut(name) {
            topic.partitions.extend(added.into_iter().map(|replicas| topics::Partition::new(replicas, &self.nodes)));
            self.tell_groups_of_topic(name);
        }
        Ok(())
    }

    /// A topic is new, or its partitions are more or live elsewhere: groups whose coordinator assigns take that in.
    fn tell_groups_of_topic(&mut self, name: &str) {
        let Some(topic) = self.topics.get(name) else { return };
        let racks = |partition: &topics::Partition| {
            let nodes = partition.replicas.iter().filter_map(|node| self.nodes.get(*node));
            nodes.filter_map(|node| node.rack.clone()).collect()
        };
        let facts = groups::TopicFacts {
            id: topic.id,
            partitions: topic.partitions.len() as i32,
            racks: topic.partitions.iter().map(racks).collect(),
        };
        self.groups.topic_changed(name, facts);
    }

    /// How the groups of the consumer protocol are timed (KIP-848).
    pub fn consumer_pace(&self, group: &str) -> groups::Pace {
        let settings = self.configs.group_settings(group);
        groups::Pace {
            session_timeout: millis(settings.consumer_session_timeout_ms),
            heartbeat_interval_ms: settings.consumer_heartbeat_interval_ms,
            assignment_interval: millis(settings.consumer_assignment_interval_ms),
        }
    }

    /// How share groups are timed (KIP-932).
    pub fn share_pace(&self, group: &str) -> groups::Pace {
        let settings = self.configs.group_settings(group);
        groups::Pace {
            session_timeout: millis(settings.share_session_timeout_ms),
            heartbeat_interval_ms: settings.share_heartbeat_interval_ms,
            assignment_interval: millis(settings.share_assignment_interval_ms),
        }
    }

    /// How streams groups are timed and configured (KIP-1071).
    pub fn streams_pace(&self, group: &str) -> groups::StreamsPace {
        let settings = self.configs.group_settings(group);
        groups::StreamsPace {
            pace: groups::Pace {
                session_timeout: millis(settings.streams_session_timeout_ms),
                heartbeat_interval_ms: settings.streams_heartbeat_interval_ms,
                assignment_interval: millis(settings.streams_assignment_interval_ms),
            },
            initial_delay: millis(settings.streams_initial_rebalance_delay_ms),
            standbys: settings.streams_num_standby_replicas,
        }
    }

    /// An id no one has had.
    pub fn new_id(&mut self) -> Uuid {
        random_uuid(&mut self.rng)
    }

    /// Takes over topic configs that have changed.
    pub fn configs_changed(&mut self, now: Time) {
        for topic in self.topics.iter_mut() {
            topic.settings = self.configs.topic_settings(&topic.name);
        }
        self.groups.configure(group_settings(&self.configs));
        let version = self.transactions.settings().version;
        self.transactions.configure(transaction_settings(self.configs.broker_settings(), version));
        self.watch_leaderless(now);
        self.expect_upkeep(now);
    }

    /// A producer id no one has had.
    pub fn new_producer_id(&mut self) -> i64 {
        self.producer_ids.take()
    }

    /// The broker that coordinates this group, making the offsets topic if this is the first to ask.
    pub fn group_coordinator(&mut self, group: &str) -> Result<NodeId, Reject> {
        self.coordinator(OFFSETS_TOPIC, group)
    }

    /// Refuses unless this broker coordinates the group.
    pub fn check_coordinator(&self, node: NodeId, group: &str) -> Result<(), Reject> {
        if self.leader_for(OFFSETS_TOPIC, group) == Some(node) { Ok(()) } else { Err(ErrorCode::NotCoordinator.into()) }
    }

    /// The broker that leads the partition of an internal topic which `key` falls on, if there is one.
    fn leader_for(&self, topic: &str, key: &str) -> Option<NodeId> {
        self.partition_for(topic, key)?.leader
    }

    /// The partition of an internal topic which `key` falls on.
    fn partition_for(&self, topic: &str, key: &str) -> Option<&Partition> {
        let topic = self.topics.get(topic)?;
        topic.partition(partition_for(key, topic.partitions.len() as i32))
    }

    /// The broker that leads the partition of an internal topic which `key` falls on.
    pub fn coordinator(&mut self, topic: &str, key: &str) -> Result<NodeId, Reject> {
        if self.topics.get(topic).is_none() {
            self.create_internal(topic)?;
        }
        let topic = self.topics.get(topic).ok_or(ErrorCode::CoordinatorNotAvailable)?;
        let partition = topic.partition(partition_for(key, topic.partitions.len() as i32));
        partition.and_then(|partition| partition.leader).ok_or_else(|| ErrorCode::CoordinatorNotAvailable.into())
    }

    /// What the brokers' wall clock shows, in milliseconds since the Unix epoch.
    pub fn wall_clock_ms(&self, now: Time) -> i64 {
        now.as_millis().saturating_add(self.wall_clock_offset_ms)
    }

    /// The partition of the offsets topic a group falls on, or will fall on once there is such a topic.
    pub fn coordinator_partition(&self, group: &str) -> i32 {
        let configured = self.configs.broker_settings().offsets_topic_num_partitions;
        let partitions = self.topics.get(OFFSETS_TOPIC).map_or(configured, |topic| topic.partitions.len() as i32);
        partition_for(group, partitions)
    }

    /// Notes that a producer wrote somewhere: it is forgotten when it has been silent for long.
    pub(crate) fn expect_producer_cleanup(&mut self, now: Time) {
        if self.next_producer_cleanup.is_none() {
            let interval = millis(self.configs.broker_settings().producer_id_expiration_check_interval_ms);
            self.next_producer_cleanup = Some(now + interval);
        }
    }

    /// When producers that were silent for long are forgotten next.
    pub(crate) fn next_producer_cleanup(&self) -> Option<Time> {
        self.next_producer_cleanup
    }

    /// Forgets producers that were silent for `producer.id.expiration.ms`, partition by partition.
    pub(crate) fn expire_producers(&mut self, now: Time) {
        if self.next_producer_cleanup.is_none_or(|at| now < at) {
            return;
        }
        self.next_producer_cleanup = None;
        let oldest_ms = self.wall_clock_ms(now) - i64::from(self.configs.broker_settings().producer_id_expiration_ms);
        let mut left = false;
        for partition in self.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            let transactions = partition.log.transactions();
            partition.producers.expire(oldest_ms, |id| transactions.open_since(id).is_some());
            left |= partition.producers.iter().next().is_some();
        }
        if left {
            self.expect_producer_cleanup(now);
        }
    }

    /// Notes that a partition changed in a way a waiting fetch may care about.
    pub fn partition_changed(&mut self, topic: &str, index: i32) {
        self.changed.insert((topic.to_owned(), index));
    }

    pub(crate) fn take_changed(&mut self) -> BTreeSet<PartitionName> {
        std::mem::take(&mut self.changed)
    }

    fn create_initial(&mut self, topic: &TopicConfig) -> Result<(), ConfigError> {
        let new = NewTopic {
            name: topic.name.clone(),
            partitions: topic.partitions,
            replication_factor: Some(topic.replication_factor.unwrap_or_else(|| self.usual_replication())),
            assignment: None,
            configs: topic.configs.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect(),
        };
        self.create_topic(&new, false)
            .map(|_| ())
            .map_err(|reject| ConfigError::Topic { topic: topic.name.clone(), reason: reject.to_string() })
    }

    /// `default.replication.factor` where it was set, else three or as many as there are brokers: a test that names
    /// no factor wants its topic to survive the broker it crashes.
    fn usual_replication(&self) -> i16 {
        let configured = self.configs.broker_settings().default_replication_factor;
        if configured > 1 { configured } else { self.nodes.iter().count().min(3) as i16 }
    }

    fn create_internal(&mut self, name: &str) -> Result<(), Reject> {
        let settings = self.configs.broker_settings();
        let partitions = if name == OFFSETS_TOPIC {
            settings.offsets_topic_num_partitions
        } else {
            settings.transaction_state_log_num_partitions
        };
        let alive = self.nodes.alive().count().min(3) as i16;
        let placement = self.topics.place(&self.nodes, partitions, alive)?;
        let configs = [("cleanup.policy", "compact"), ("compression.type", "producer"), ("segment.bytes", "104857600")];
        let configs: BTreeMap<_, _> =
            configs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        self.configs.set_topic(name, configs);
        let id = random_uuid(&mut self.rng);
        self.topics.create(name, id, placement, self.configs.topic_settings(name), &self.nodes);
        self.tell_groups_of_topic(name);
        Ok(())
    }

    fn place(&mut self, new: &NewTopic) -> Result<topics::Placement, Reject> {
        let settings = self.configs.broker_settings();
        let partitions = new.partitions.unwrap_or(settings.num_partitions);
        let replication_factor = new.replication_factor.unwrap_or(settings.default_replication_factor);
        // Whether there are as many brokers is asked later (`ReplicationControlManager.createTopic`).
        if replication_factor <= 0 {
            let message = "the replication factor must be at least 1";
            return Err(Reject::new(ErrorCode::InvalidReplicationFactor, message));
        }
        if partitions <= 0 {
            let message = "a topic needs at least one partition";
            return Err(Reject::new(ErrorCode::InvalidPartitions, message));
        }
        check_partition_count(partitions)?;
        self.topics.place(&self.nodes, partitions, replication_factor)
    }

    fn check_assignment(&self, assignment: &[Vec<NodeId>]) -> Result<topics::Placement, Reject> {
        let refuse = |message: String| Err(Reject::new(ErrorCode::InvalidReplicaAssignment, message));
        let width = assignment.first().map_or(0, Vec::len);
        for replicas in assignment {
            if replicas.is_empty() {
                return refuse("a partition is assigned to no broker".into());
            }
            let unique: BTreeSet<_> = replicas.iter().collect();
            if unique.len() != replicas.len() {
                return refuse("a partition is assigned to the same broker twice".into());
            }
            if let Some(unknown) = replicas.iter().find(|id| self.nodes.get(**id).is_none()) {
                return refuse(format!("a partition is assigned to {unknown}, which does not exist"));
            }
            if replicas.len() != width {
                return refuse(format!(
                    "one partition is assigned to {width} brokers and another to {}",
                    replicas.len()
                ));
            }
        }
        Ok(assignment.to_vec())
    }
}

/// One request may make so many partitions (`ReplicationControlManager`, since Kafka 4.0).
const PARTITIONS_PER_REQUEST_MAX: i32 = 10_000;

fn check_partition_count(count: i32) -> Result<(), Reject> {
    if count <= PARTITIONS_PER_REQUEST_MAX {
        return Ok(());
    }
    let message = format!("a request can make {PARTITIONS_PER_REQUEST_MAX} partitions at most, not {count}");
    Err(Reject::new(ErrorCode::PolicyViolation, message))
}

/// The partition of a coordinator's topic that a key falls on: Java's `String.hashCode`, made positive as Kafka does.
fn partition_for(key: &str, partitions: i32) -> i32 {
    let hash = key.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // The smallest integer has no positive twin; Kafka maps it to 0.
    hash.checked_abs().unwrap_or(0) % partitions.max(1)
}

fn group_settings(configs: &Configs) -> groups::Settings {
    let broker = configs.broker_settings();
    let (may_upgrade, may_downgrade) = configs.consumer_migration();
    let at_least_zero = |number: i32| usize::try_from(number).unwrap_or(0);
    groups::Settings {
        min_session_timeout_ms: broker.group_min_session_timeout_ms,
        max_session_timeout_ms: broker.group_max_session_timeout_ms,
        max_size: at_least_zero(broker.group_max_size),
        consumer_max_size: at_least_zero(broker.consumer_group_max_size),
        share_max_size: at_least_zero(broker.share_group_max_size),
        streams_max_size: at_least_zero(broker.streams_group_max_size),
        may_upgrade,
        may_downgrade,
        assignors: configs.consumer_assignors().iter().filter_map(|name| groups::Assignor::named(name)).collect(),
        regex_refresh_interval: millis(broker.consumer_group_regex_refresh_interval_ms),
        initial_rebalance_delay: millis(broker.group_initial_rebalance_delay_ms),
        offset_metadata_max_chars: at_least_zero(broker.offset_metadata_max_bytes),
        offsets_retention: millis(i64::from(broker.offsets_retention_minutes) * 60_000),
        offsets_retention_check_interval: millis(broker.offsets_retention_check_interval_ms),
        ..Default::default()
    }
}

fn transaction_settings(broker: &BrokerSettings, version: i16) -> transactions::Settings {
    transactions::Settings {
        max_timeout_ms: broker.transaction_max_timeout_ms,
        abort_interval_ms: broker.transaction_abort_timed_out_interval_ms,
        id_expiration_ms: broker.transactional_id_expiration_ms,
        remove_expired_interval_ms: broker.transaction_remove_expired_interval_ms,
        version,
    }
}

fn random_uuid(rng: &mut SmallRng) -> Uuid {
    loop {
        let mut bytes: [u8; 16] = rng.random();
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let id = Uuid::from_bytes(bytes);
        // Kafka keeps ids whose text starts with a dash for itself: they read as options on a command line.
        if !id.to_string().starts_with('-') {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_fall_on_the_partition_kafka_would_choose() {
        assert_eq!(partition_for("my-consumer-group", 50), 13);
        // A plain string, one whose hash is negative, and the well-known one whose hash is the smallest integer.
        assert_eq!(partition_for("orders", 50), 31);
        assert_eq!(partition_for("polygenelubricants", 50), 0);
    }
}
