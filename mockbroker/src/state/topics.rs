//! Topics and their partitions: where they live, who leads them, and what they hold.

use super::configs::TopicSettings;
use super::log::Log;
use super::nodes::{NodeId, Nodes};
use super::producers::Producers;
use super::replication::Replica;
use crate::error::{ErrorCode, Reject};
use crate::time::Time;
use crate::wire::Uuid;
use std::collections::BTreeMap;

/// The topic that groups commit to.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// The topic that transactions are kept in.
pub const TRANSACTIONS_TOPIC: &str = "__transaction_state";
/// The longest name a topic may have.
const NAME_MAX: usize = 249;

/// All topics of the cluster.
#[derive(Debug, Clone, Default)]
pub struct Topics {
    by_name: BTreeMap<String, Topic>,
    names: BTreeMap<Uuid, String>,
    /// Where the next topic's first leader is taken from, so that leaders spread over brokers.
    next_leader: usize,
}

/// One topic.
#[derive(Debug, Clone)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id; a topic of the same name created later has another.
    pub id: Uuid,
    /// What its configs mean.
    pub settings: TopicSettings,
    /// Its partitions, by index.
    pub partitions: Vec<Partition>,
}

/// One partition.
#[derive(Debug, Clone)]
pub struct Partition {
    /// Who leads it; `None` while nobody can.
    pub leader: Option<NodeId>,
    /// Raised whenever the leader changes.
    pub leader_epoch: i32,
    /// Raised whenever leader or in-sync replicas change.
    pub partition_epoch: i32,
    /// Where its replicas live; the first is the preferred leader.
    pub replicas: Vec<NodeId>,
    /// The replicas that have everything acknowledged.
    pub isr: Vec<NodeId>,
    /// What its leader holds, or while there is none the last leader.
    pub log: Log,
    /// The idempotent producers that wrote to it.
    pub producers: Producers,
    /// Who may lead although they are not in sync, because nothing was committed without them (KIP-966).
    pub elr: Vec<NodeId>,
    /// Who led last, while nobody is in sync.
    pub last_known_leader: Option<NodeId>,
    /// Who is being added (KIP-455).
    pub adding: Vec<NodeId>,
    /// Who goes once those have copied.
    pub removing: Vec<NodeId>,
    /// Its replicas, in the order of assignment.
    pub(super) copies: Vec<Replica>,
    /// Whose log `log` is.
    pub(super) holder: NodeId,
    /// Where the present leader took over.
    pub(super) epoch_start: i64,
    /// The highest high watermark there has been, unless records were lost.
    pub(super) committed: i64,
    /// Whether a replica has lost what was not on disk.
    pub(super) lost_records: bool,
    /// When it is looked at next.
    pub(super) scheduled: Option<Time>,
}

/// Which brokers hold which partition of a topic about to be made.
pub type Placement = Vec<Vec<NodeId>>;

impl Topics {
    /// The topic of this name.
    pub fn get(&self, name: &str) -> Option<&Topic> {
        self.by_name.get(name)
    }

    /// The topic of this name, to change.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Topic> {
        self.by_name.get_mut(name)
    }

    /// The name of the topic with this id.
    pub fn name_of(&self, id: Uuid) -> Option<&str> {
        self.names.get(&id).map(String::as_str)
    }

    /// All topics, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.by_name.values()
    }

    /// All topics, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Topic> {
        self.by_name.values_mut()
    }

    /// The partition, wherever it lives.
    pub fn partition(&self, topic: &str, index: i32) -> Result<&Partition, Reject> {
        let partition = self.get(topic).and_then(|topic| topic.partition(index));
        partition.ok_or_else(|| ErrorCode::UnknownTopicOrPartition.into())
    }

    /// The partition, if this broker leads it.
    pub fn led_by(&mut self, node: NodeId, topic: &str, index: i32) -> Result<&mut Partition, Reject> {
        let partition = self.get_mut(topic).and_then(|topic| topic.partition_mut(index));
        let partition = partition.ok_or(ErrorCode::UnknownTopicOrPartition)?;
        if partition.leader == Some(node) { Ok(partition) } else { Err(ErrorCode::NotLeaderOrFollower.into()) }
    }

    /// Whether a topic of this name could be made, and why not (`Topic.validate`, `ReplicationControlManager`).
    pub fn check_new_name(&self, name: &str) -> Result<(), Reject> {
        check_name(name)?;
        if self.get(name).is_some() {
            return Err(Reject::new(ErrorCode::TopicAlreadyExists, format!("topic '{name}' exists already")));
        }
        let collides = |other: &&String| other.replace('.', "_") == name.replace('.', "_");
        if let Some(other) = self.by_name.keys().find(collides) {
            let message = format!("'{name}' and the existing topic '{other}' would have the same metric names");
            return Err(Reject::new(ErrorCode::InvalidTopicException, message));
        }
        Ok(())
    }

    /// Chooses brokers for the partitions of a new topic: leaders and replicas spread over brokers and racks.
    pub fn place(&mut self, nodes: &Nodes, partitions: i32, replication_factor: i16) -> Result<Placement, Reject> {
        let order = nodes.interleaved_by_rack();
        if replication_factor <= 0 {
            let message = "the replication factor must be at least 1";
            return Err(Reject::new(ErrorCode::InvalidReplicationFactor, message));
        }
        let wanted = replication_factor as usize;
        if wanted > order.len() {
            let message = format!("{wanted} replicas need {wanted} running brokers, and there are {}", order.len());
            return Err(Reject::new(ErrorCode::InvalidReplicationFactor, message));
        }
        let start = self.next_leader;
        self.next_leader += 1;
        let replicas =
            |partition: usize| (0..wanted).map(|replica| order[(start + partition + replica) % order.len()]).collect();
        Ok((0..partitions.max(0) as usize).map(replicas).collect())
    }

    /// Adds a topic with empty partitions.
    pub fn create(&mut self, name: &str, id: Uuid, placement: Placement, settings: TopicSettings, nodes: &Nodes) {
        let partitions = placement.into_iter().map(|replicas| Partition::new(replicas, nodes)).collect();
        self.names.insert(id, name.to_owned());
        self.by_name.insert(name.to_owned(), Topic { name: name.to_owned(), id, settings, partitions });
    }

    /// Removes a topic and everything in it.
    pub fn delete(&mut self, name: &str) -> Option<Topic> {
        let topic = self.by_name.remove(name)?;
        self.names.remove(&topic.id);
        Some(topic)
    }
}

impl Topic {
    /// The partition with this index.
    pub fn partition(&self, index: i32) -> Option<&Partition> {
        usize::try_from(index).ok().and_then(|index| self.partitions.get(index))
    }

    /// The partition with this index, to change.
    pub fn partition_mut(&mut self, index: i32) -> Option<&mut Partition> {
        usize::try_from(index).ok().and_then(|index| self.partitions.get_mut(index))
    }

    /// Whether it belongs to Kafka itself.
    pub fn is_internal(&self) -> bool {
        is_internal(&self.name)
    }
}

impl Partition {
    /// An empty partition on these brokers.
    pub fn new(replicas: Vec<NodeId>, nodes: &Nodes) -> Self {
        let alive = |node: &NodeId| nodes.get(*node).is_some_and(|node| !node.fenced);
        let isr: Vec<NodeId> = replicas.iter().copied().filter(alive).collect();
        let leader = isr.first().copied();
        let mut log = Log::default();
        log.begin_epoch(0);
        Self {
            leader,
            leader_epoch: 0,
            partition_epoch: 0,
            holder: leader.or_else(|| replicas.first().copied()).unwrap_or(NodeId(-1)),
            copies: replicas.iter().map(|node| Replica::new(*node, nodes)).collect(),
            isr: if isr.is_empty() { replicas.clone() } else { isr },
            replicas,
            log,
            producers: Producers::default(),
            elr: Vec::new(),
            last_known_leader: None,
            adding: Vec::new(),
            removing: Vec::new(),
            epoch_start: 0,
            committed: 0,
            lost_records: false,
            scheduled: None,
        }
    }

    /// Replicas whose broker the controller takes for gone.
    pub fn offline_replicas<'a>(&'a self, nodes: &'a Nodes) -> impl Iterator<Item = NodeId> + 'a {
        self.replicas.iter().copied().filter(|id| nodes.get(*id).is_none_or(|node| node.fenced))
    }

    /// Compares the epoch a client knows with ours: it may be behind or ahead (KIP-320); −1 asks for no check.
    pub fn check_leader_epoch(&self, known_to_client: i32) -> Result<(), Reject> {
        match known_to_client {
            -1 => Ok(()),
            behind if behind < self.leader_epoch => Err(ErrorCode::FencedLeaderEpoch.into()),
            ahead if ahead > self.leader_epoch => Err(ErrorCode::UnknownLeaderEpoch.into()),
            _ => Ok(()),
        }
    }
}

/// Whether topics of this name belong to Kafka itself.
pub fn is_internal(name: &str) -> bool {
    matches!(name, OFFSETS_TOPIC | TRANSACTIONS_TOPIC | "__share_group_state")
}

/// Whether a topic may have this name (`org.apache.kafka.common.internals.Topic`).
pub fn check_name(name: &str) -> Result<(), Reject> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let problem = if name.is_empty() {
        "it is empty".to_owned()
    } else if matches!(name, "." | "..") {
        format!("'{name}' names a folder")
    } else if name.len() > NAME_MAX {
        format!("it is longer than {NAME_MAX} characters")
    } else if !name.chars().all(legal) {
        format!("'{name}' has characters other than ASCII letters, digits, '.', '_' and '-'")
    } else {
        return Ok(());
    };
    Err(Reject::new(ErrorCode::InvalidTopicException, format!("not a topic name: {problem}")))
}

#[cfg(test)]
mod tests {
    use super::super::configs::Configs;
    use super::super::nodes::Node;
    use super::*;

    fn three() -> Nodes {
        Nodes::new((1..=3).map(|id| Node {
            id: NodeId(id),
            host: "localhost".into(),
            port: 9092,
            other_endpoints: Vec::new(),
            rack: None,
            running: true,
            fenced: false,
            follower_delay: std::time::Duration::ZERO,
        }))
    }

    fn leaders(topics: &Topics, name: &str) -> Vec<Option<i32>> {
        let topic = topics.get(name).expect("the topic");
        topic.partitions.iter().map(|partition| partition.leader.map(|node| node.0)).collect()
    }

    fn with_topic(replication_factor: i16) -> (Topics, Nodes) {
        let (mut topics, nodes) = (Topics::default(), three());
        let placement = topics.place(&nodes, 3, replication_factor).expect("enough brokers");
        let settings = Configs::new(BTreeMap::new()).expect("Kafka's defaults").topic_settings("orders");
        topics.create("orders", Uuid::ZERO, placement, settings, &nodes);
        (topics, nodes)
    }

    #[test]
    fn leaders_spread_over_the_brokers() {
        let (topics, _) = with_topic(2);
        assert_eq!(leaders(&topics, "orders"), [Some(1), Some(2), Some(3)]);
    }

    #[test]
    fn names_follow_kafkas_rules() {
        let topics = with_topic(1).0;
        for bad in ["", ".", "..", "a b", "ä", &"x".repeat(250)] {
            assert_eq!(topics.check_new_name(bad).expect_err(bad).code, ErrorCode::InvalidTopicException);
        }
        assert_eq!(topics.check_new_name("orders").expect_err("taken").code, ErrorCode::TopicAlreadyExists);
        assert_eq!(topics.check_new_name("orders-2"), Ok(()));
    }
}
