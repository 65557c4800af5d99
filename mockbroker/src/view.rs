//! The one serialisable picture of a cluster: for tests, the command line and, later, the web page.

use crate::fault::FaultView;
use crate::state::State;
use crate::state::nodes::{Node, NodeId};
use crate::state::producers::Producer;
use crate::state::topics::{Partition, Topic};
use crate::state::transactions::{Identity, Status, Transaction};
use serde::Serialize;

/// A cluster at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct View {
    /// The cluster's id.
    pub cluster_id: String,
    /// The broker administration goes to.
    pub controller: Option<NodeId>,
    /// All brokers.
    pub brokers: Vec<Node>,
    /// All topics, by name, internal ones included.
    pub topics: Vec<TopicView>,
    /// Ids of all groups.
    pub groups: Vec<String>,
    /// Transactional ids, by name.
    pub transactions: Vec<TransactionView>,
    /// Open connections.
    pub connections: usize,
    /// Requests that wait for data, time, each other or a fault's release.
    pub waiting_requests: usize,
    /// Brokers that are frozen.
    pub paused: Vec<NodeId>,
    /// Faults that are planned.
    pub faults: Vec<FaultView>,
}

/// A topic.
#[derive(Debug, Clone, Serialize)]
pub struct TopicView {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Whether it belongs to Kafka itself.
    pub internal: bool,
    /// Its partitions, by index.
    pub partitions: Vec<PartitionView>,
}

/// A partition.
#[derive(Debug, Clone, Serialize)]
pub struct PartitionView {
    /// Its index.
    pub index: i32,
    /// Who leads it.
    pub leader: Option<NodeId>,
    /// How often the leader has changed.
    pub leader_epoch: i32,
    /// Where its replicas live.
    pub replicas: Vec<NodeId>,
    /// Which of them are in sync.
    pub isr: Vec<NodeId>,
    /// The first offset there is.
    pub log_start_offset: i64,
    /// One past the last record all in-sync replicas have.
    pub high_watermark: i64,
    /// One past the last record no open transaction precedes.
    pub last_stable_offset: i64,
    /// One past the last record.
    pub log_end_offset: i64,
    /// Bytes at rest.
    pub bytes: u64,
    /// Who may lead without being in sync (KIP-966).
    pub eligible_leaders: Vec<NodeId>,
    /// What each replica has, in the order of `replicas`.
    pub replica_logs: Vec<ReplicaView>,
}

/// A replica of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReplicaView {
    /// Where it lives.
    pub node: NodeId,
    /// One past its last record.
    pub log_end_offset: i64,
    /// The high watermark as it knows it; followers learn of it with their next fetch.
    pub high_watermark: i64,
    /// Everything before this offset is on its disk; a loss of power takes the rest.
    pub flushed: i64,
    /// Whether it is in sync.
    pub in_sync: bool,
    /// Whether it follows the leader: false for the leader itself, and where copying was stopped or the broker is down.
    pub copying: bool,
    /// From this offset on it has records which the leader lacks, and which it drops when it follows again.
    pub diverges_at: Option<i64>,
}

/// A transactional id, as its coordinator knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TransactionView {
    /// The id.
    pub transactional_id: String,
    /// Who writes for it.
    pub producer: Identity,
    /// Where its transaction is in its life.
    pub status: Status,
    /// The partitions that take part; while it ends, those whose marker is missing.
    pub partitions: Vec<(String, i32)>,
    /// When the transaction began, in milliseconds of the brokers' clock since the Unix epoch; −1 for none.
    pub started_ms: i64,
}

impl TransactionView {
    fn of((id, transaction): (&str, &Transaction)) -> Self {
        Self {
            transactional_id: id.to_owned(),
            producer: transaction.producer(),
            status: transaction.status(),
            partitions: transaction.partitions().iter().cloned().collect(),
            started_ms: transaction.started_ms(),
        }
    }
}

impl View {
    pub(crate) fn of(
        state: &State,
        connections: usize,
        waiting_requests: usize,
        paused: Vec<NodeId>,
        faults: Vec<FaultView>,
    ) -> Self {
        Self {
            cluster_id: state.cluster_id.clone(),
            controller: state.nodes.controller(),
            brokers: state.nodes.iter().cloned().collect(),
            topics: state.topics.iter().map(TopicView::of).collect(),
            groups: state.groups.ids().map(str::to_owned).collect(),
            transactions: state.transactions.iter().map(TransactionView::of).collect(),
            connections,
            waiting_requests,
            paused,
            faults,
        }
    }

    /// The topic of this name.
    pub fn topic(&self, name: &str) -> Option<&TopicView> {
        self.topics.iter().find(|topic| topic.name == name)
    }

    /// A partition of the topic of this name.
    pub fn partition(&self, topic: &str, index: i32) -> Option<&PartitionView> {
        self.topic(topic)?.partitions.get(usize::try_from(index).ok()?)
    }
}

impl TopicView {
    fn of(topic: &Topic) -> Self {
        let partitions = topic.partitions.iter().enumerate();
        Self {
            name: topic.name.clone(),
            id: topic.id.to_string(),
            internal: topic.is_internal(),
            partitions: partitions.map(|(index, partition)| PartitionView::of(index as i32, partition)).collect(),
        }
    }
}

impl PartitionView {
    fn of(index: i32, partition: &Partition) -> Self {
        Self {
            index,
            leader: partition.leader,
            leader_epoch: partition.leader_epoch,
            replicas: partition.replicas.clone(),
            isr: partition.isr.clone(),
            log_start_offset: partition.log.start_offset(),
            high_watermark: partition.log.high_watermark(),
            last_stable_offset: partition.log.last_stable_offset(),
            log_end_offset: partition.log.end_offset(),
            bytes: partition.log.size(),
            eligible_leaders: partition.elr.clone(),
            replica_logs: partition
                .replica_status()
                .map(|replica| ReplicaView {
                    node: replica.node,
                    log_end_offset: replica.log_end_offset,
                    high_watermark: replica.high_watermark,
                    flushed: replica.flushed,
                    in_sync: partition.isr.contains(&replica.node),
                    copying: replica.copying,
                    diverges_at: replica.diverges_at,
                })
                .collect(),
        }
    }
}

/// An idempotent producer as a partition remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProducerView {
    /// Its id.
    pub producer_id: i64,
    /// Its current epoch.
    pub epoch: i16,
    /// The last sequence number written; −1 when none is known.
    pub last_sequence: i32,
    /// The offset of the last record written; −1 when none is known.
    pub last_offset: i64,
}

impl ProducerView {
    pub(crate) fn of((producer_id, producer): (i64, &Producer)) -> Self {
        let last = producer.batches.back();
        Self {
            producer_id,
            epoch: producer.epoch,
            last_sequence: last.map_or(-1, |batch| batch.last_sequence),
            last_offset: last.map_or(-1, |batch| batch.last_offset),
        }
    }
}
