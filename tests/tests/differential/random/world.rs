//! A sequence carried out on one broker: what the slots hold there, and the request each operation becomes.
//!
//! All that is remembered – ids, epochs, sequences – comes from that broker's own answers. What Kafka does a moment after it
//! answered – markers, new settings, new topics – is awaited, so that the next answer does not depend on the moment.

use std::collections::HashMap;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::describe_topic_partitions_request::TopicRequest;
use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeTopicPartitionsRequest,
    InitProducerIdRequest, ProducerId, TopicName, TransactionalId, WriteTxnMarkersRequest,
};
use tests::differential::{Stage, metadata_of};
use tests::raw::frame_of;

use super::draw::{Claim, GROUPS, Op, Setting};
use super::members::Members;
use crate::configs::{DELETE, SET, TOPIC, alter, await_config, describe as describe_config};
use crate::fetch::offsets_at;
use crate::offsets::committed;
use crate::topics::{config, create, new_topic};
use crate::transactions::{self, Producer, await_transactions, init};
use crate::verbs::text;

/// A broker, and what the slots hold on it.
pub(super) struct World<'a> {
    pub(super) stage: &'a mut Stage,
    producers: Vec<Slot>,
    /// The fetch session's id and the epoch that is due in it.
    pub(super) session: (i32, i32),
    pub(super) members: Members,
}

/// A producer with the sequence due in each partition it wrote to.
struct Slot {
    producer: Producer,
    transactional: bool,
    due: HashMap<(u8, i32), i32>,
}

impl<'a> World<'a> {
    pub(super) fn new(stage: &'a mut Stage) -> Self {
        stage.create_topic("t0", 2);
        stage.create_topic("t1", 1);
        await_transactions(stage);
        // A broker's first producer has the id 0, which also stands for none in some answers.
        stage.until("producer ids", |stage| {
            stage.quietly(4, &plain_init()).is_some_and(|answer| answer.error_code == 0)
        });
        let members = Members::new(stage);
        let mut world = Self { stage, producers: Vec::new(), session: (0, 0), members };
        world.producers = (0..super::draw::PRODUCERS).map(|slot| world.initialised(slot)).collect();
        world
    }

    /// Recorded, so that producers have their names before answers list them in an order of their own.
    fn initialised(&mut self, slot: u8) -> Slot {
        let transactional = slot >= 2;
        let transactional_id = TransactionalId(self.stage.name(&format!("p{slot}")));
        let request = if transactional { init(&transactional_id) } else { plain_init() };
        let request = request.with_transaction_timeout_ms(600_000);
        let given = self.stage.ask(&format!("producer {slot}"), 4, &request);
        let producer = Producer { transactional_id, id: given.producer_id, epoch: given.producer_epoch, sequence: 0 };
        Slot { producer, transactional, due: HashMap::new() }
    }

    /// Asks what `op` says, under `label`, and awaits what it sets off.
    pub(super) fn perform(&mut self, label: &str, op: &Op) {
        match op {
            Op::Write(write) => self.write(label, write),
            Op::Read { .. }
            | Op::Session { .. }
            | Op::Offsets { .. }
            | Op::EpochEnd { .. }
            | Op::DescribeProducers { .. } => self.read(label, op),
            &Op::Metadata { topic, version } => {
                self.stage.ask(label, version, &metadata_of(&self.topic(topic)));
            }
            &Op::Partitions { topic } => {
                let row = TopicRequest::default().with_name(self.topic(topic));
                let request = DescribeTopicPartitionsRequest::default().with_topics(vec![row]);
                self.stage.ask(label, 0, &request.with_response_partition_limit(2_000).with_cursor(None));
            }
            Op::Create { .. } | Op::Delete { .. } | Op::Grow { .. } | Op::Trim { .. } => self.change_topic(label, op),
            &Op::Configure { topic, setting } => self.configure(label, topic, setting),
            &Op::Settings { topic } => {
                let request = describe_config(TOPIC, &self.topic(topic), None).with_include_synonyms(true);
                self.stage.ask(label, 4, &request);
            }
            Op::Init { .. }
            | Op::Add { .. }
            | Op::AddGroup { .. }
            | Op::SendOffsets { .. }
            | Op::End { .. }
            | Op::Mark { .. }
            | Op::DescribeTransaction { .. } => self.transact(label, op),
            &Op::Cut { bytes } => self.cut(label, bytes),
            _ => self.in_group(label, op),
        }
    }

    // ---- topics ------------------------------------------------------------------------------------------------------

    pub(super) fn topic(&self, slot: u8) -> TopicName {
        match slot {
            3 => text("no such name!").into(),
            _ => self.stage.topic(&format!("t{slot}")),
        }
    }

    /// The id the topic has now; nil when there is none.
    pub(super) fn topic_id(&mut self, slot: u8) -> uuid::Uuid {
        let topic = self.topic(slot);
        self.stage.topic_id(&topic)
    }

    fn change_topic(&mut self, label: &str, op: &Op) {
        match *op {
            Op::Create { topic, partitions, replicas, setting, version } => {
                let topic = self.topic(topic);
                let row = with_setting(new_topic(&topic, partitions, replicas), setting);
                let answer = self.stage.ask(label, version, &create(vec![row]));
                if answer.topics.iter().all(|topic| topic.error_code == 0) {
                    // -1 is the broker's default, which is one.
                    self.stage.await_leaders(&topic, partitions.max(1));
                    settle_metadata();
                }
            }
            Op::Delete { topic, version } => {
                let topic = self.topic(topic);
                let request =
                    DeleteTopicsRequest::default().with_topic_names(vec![topic.clone()]).with_timeout_ms(10_000);
                self.stage.ask(label, version, &request);
                self.stage.await_gone(&topic);
                self.await_offsets_gone(&topic);
                settle_metadata();
            }
            Op::Grow { topic, to, version } => {
                let topic = self.topic(topic);
                let row =
                    CreatePartitionsTopic::default().with_name(topic.clone()).with_count(to).with_assignments(None);
                let request = CreatePartitionsRequest::default().with_topics(vec![row]).with_timeout_ms(10_000);
                let answer = self.stage.ask(label, version, &request);
                if answer.results.iter().all(|result| result.error_code == 0) {
                    self.stage.await_leaders(&topic, to);
                    settle_metadata();
                }
            }
            Op::Trim { topic, partition, before, version } => {
                let row = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(before);
                let row = DeleteRecordsTopic::default().with_name(self.topic(topic)).with_partitions(vec![row]);
                let request = DeleteRecordsRequest::default().with_topics(vec![row]).with_timeout_ms(10_000);
                self.stage.ask(label, version, &request);
            }
            _ => {}
        }
    }

    /// Awaits that every group has forgotten what was committed for a topic that is gone.
    fn await_offsets_gone(&mut self, topic: &TopicName) {
        for group in 0..GROUPS {
            let request = committed(&self.members.group(self.stage, group), None);
            self.stage.until("a group forgets a topic", |stage| {
                let answer = stage.quietly(7, &request).unwrap_or_default();
                answer.topics.iter().all(|row| row.name != *topic)
            });
        }
    }

    fn configure(&mut self, label: &str, topic: u8, (key, value): Setting) {
        let topic = self.topic(topic);
        let operation = if value.is_some() { SET } else { DELETE };
        let answer = self.stage.ask(label, 1, &alter(TOPIC, &topic, &[(key, operation, value)]));
        if answer.responses.iter().all(|response| response.error_code == 0) {
            if let Some(effective) = value.or_else(|| default_of(key)) {
                await_config(self.stage, &topic, key, effective);
            }
            settle_metadata();
        }
    }

    // ---- producers ---------------------------------------------------------------------------------------------------

    /// Who writes without a slot.
    pub(super) fn producer(&self, slot: u8) -> (&Producer, bool) {
        let slot = &self.producers[usize::from(slot)];
        (&slot.producer, slot.transactional)
    }

    pub(super) fn due(&self, slot: u8, topic: u8, partition: i32) -> i32 {
        self.producers[usize::from(slot)].due.get(&(topic, partition)).copied().unwrap_or(0)
    }

    pub(super) fn written(&mut self, slot: u8, topic: u8, partition: i32, next: i32) {
        self.producers[usize::from(slot)].due.insert((topic, partition), next);
    }

    fn transact(&mut self, label: &str, op: &Op) {
        match *op {
            Op::Init { producer: slot, claim, timeout_ms, version } => {
                self.init(label, slot, claim, timeout_ms, version);
                self.settle(slot);
            }
            Op::Add { producer, topic, partition, epoch, version } => {
                let request = self.skewed(producer, epoch).add(&self.topic(topic), &[partition]);
                self.stage.ask(label, version, &request);
            }
            Op::AddGroup { producer, group, epoch, version } => {
                let group = self.members.group(self.stage, group);
                let request = self.skewed(producer, epoch).add_group(&group);
                self.stage.ask(label, version, &request);
            }
            Op::SendOffsets { producer, group, topic, offset, epoch, version } => {
                let group = self.members.group(self.stage, group);
                let request = self.skewed(producer, epoch).send_offsets(&group, &self.topic(topic), &[(0, offset)]);
                self.stage.ask(label, version, &request);
            }
            Op::End { producer, commit, epoch, version } => {
                let answer = self.stage.ask(label, version, &self.skewed(producer, epoch).end(commit));
                if version >= 5 && answer.error_code == 0 {
                    self.became(producer, answer.producer_id, answer.producer_epoch);
                }
                self.settle(producer);
            }
            Op::Mark { producer, topic, partition, commit, epoch, coordinator_epoch } => {
                let producer = self.skewed(producer, epoch);
                let row = WritableTxnMarkerTopic::default()
                    .with_name(self.topic(topic))
                    .with_partition_indexes(vec![partition]);
                let marker = WritableTxnMarker::default()
                    .with_producer_id(producer.id)
                    .with_producer_epoch(producer.epoch)
                    .with_coordinator_epoch(coordinator_epoch)
                    .with_transaction_result(commit)
                    .with_topics(vec![row]);
                self.stage.ask(label, 1, &WriteTxnMarkersRequest::default().with_markers(vec![marker]));
            }
            Op::DescribeTransaction { producer } => {
                let (producer, _) = self.producer(producer);
                let request = transactions::describe(&producer.transactional_id.clone());
                self.stage.ask(label, 0, &request);
            }
            _ => {}
        }
    }

    fn init(&mut self, label: &str, slot: u8, claim: Claim, timeout_ms: i32, version: i16) {
        let (producer, transactional) = self.producer(slot);
        let producer = producer.clone();
        let (id, epoch) = match claim {
            Claim::Nothing => (ProducerId(-1), -1),
            Claim::Own => (producer.id, producer.epoch),
            Claim::OlderEpoch => (producer.id, producer.epoch - 1),
            Claim::NewerEpoch => (producer.id, producer.epoch + 1),
            Claim::AnotherId => (ProducerId(producer.id.0 + 1_000_000), producer.epoch),
        };
        let request = if transactional { init(&producer.transactional_id) } else { plain_init() };
        let request = request.with_transaction_timeout_ms(timeout_ms).with_producer_id(id).with_producer_epoch(epoch);
        let answer = self.stage.ask(label, version, &request);
        if answer.error_code == 0 {
            self.became(slot, answer.producer_id, answer.producer_epoch);
        }
    }

    /// A producer's next epoch starts at sequence 0 everywhere.
    fn became(&mut self, slot: u8, id: ProducerId, epoch: i16) {
        let slot = &mut self.producers[usize::from(slot)];
        if (slot.producer.id, slot.producer.epoch) != (id, epoch) {
            (slot.producer.id, slot.producer.epoch) = (id, epoch);
            slot.due.clear();
        }
    }

    /// The producer with an epoch that may be wrong.
    pub(super) fn skewed(&self, slot: u8, by: i16) -> Producer {
        let (producer, _) = self.producer(slot);
        Producer { epoch: producer.epoch + by, ..producer.clone() }
    }

    /// Awaits that a transaction that was decided has its markers.
    fn settle(&mut self, slot: u8) {
        let (producer, transactional) = self.producer(slot);
        if !transactional {
            return;
        }
        let request = transactions::describe(&producer.transactional_id.clone());
        self.stage.until("the markers", |stage| {
            let answer = stage.quietly(0, &request).unwrap_or_default();
            answer.transaction_states.iter().all(|state| !state.transaction_state.starts_with("Prepare"))
        });
    }

    // ---- bad input ---------------------------------------------------------------------------------------------------

    fn cut(&mut self, label: &str, bytes: usize) {
        let request = offsets_at(&self.topic(0), &[(0, -1)]).with_replica_id(BrokerId(-1));
        let frame = frame_of("script", 1, 5, &request).expect("a request that can be written");
        let body = &frame[4..];
        let body = &body[..body.len().saturating_sub(bytes)];
        let mut cut = u32::try_from(body.len()).expect("a short request").to_be_bytes().to_vec();
        cut.extend(body);
        self.stage.ask_bytes(label, &cut);
    }
}

fn plain_init() -> InitProducerIdRequest {
    InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1)
}

fn with_setting(topic: CreatableTopic, setting: Option<Setting>) -> CreatableTopic {
    match setting {
        Some((key, value)) => topic.with_configs(vec![config(key, value)]),
        None => topic,
    }
}

/// What a broker shows for a setting that is not set.
fn default_of(key: &str) -> Option<&'static str> {
    Some(match key {
        "max.message.bytes" => "1048588",
        "message.timestamp.type" => "CreateTime",
        "cleanup.policy" => "delete",
        "min.insync.replicas" => "1",
        "compression.type" => "producer",
        "message.timestamp.before.max.ms" => "9223372036854775807",
        "retention.ms" => "604800000",
        _ => return None,
    })
}

/// Kafka shows new metadata a moment before all of its parts act on it, and says nothing when they do.
fn settle_metadata() {
    (0..3).for_each(|_| tests::runtime::breathe());
}
