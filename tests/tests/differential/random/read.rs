//! Reading: records, in and out of fetch sessions, offsets, ends of epochs.

use kafka_protocol::messages::fetch_request::{FetchTopic, ForgottenTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{FetchRequest, OffsetForLeaderEpochRequest};
use tests::differential::EARLIER;
use uuid::Uuid;

use super::draw::{Op, Turn};
use super::world::World;
use crate::fetch::{by_id, offsets_at};
use crate::transactions::producers;
use crate::verbs::{fetch, fetch_topics, from};

impl World<'_> {
    pub(super) fn read(&mut self, label: &str, op: &Op) {
        match *op {
            Op::Read { topic, partition, offset, committed, epoch, version } => {
                let row = from(partition, offset).with_current_leader_epoch(epoch);
                let request = match version {
                    13.. => by_id(self.topic_id(topic), vec![row]),
                    _ => fetch(&self.topic(topic), vec![row]),
                };
                self.stage.ask(label, version, &request.with_isolation_level(i8::from(committed)));
            }
            Op::Session { topic, partition, offset, turn, committed, version } => {
                let request = self.in_session(topic, partition, offset, turn);
                let answer = self.stage.ask(label, version, &request.with_isolation_level(i8::from(committed)));
                let (id, due) = self.session;
                self.session = match turn {
                    _ if answer.error_code != 0 => (id, due),
                    Turn::Open => (answer.session_id, 1),
                    Turn::Add | Turn::Next | Turn::Forget | Turn::Skewed(_) => (id, due + 1),
                    Turn::Close => (id, due),
                };
            }
            Op::Offsets { topic, partition, at, committed, epoch, version } => {
                let at = if at > 0 { *EARLIER + at } else { at };
                let mut request = offsets_at(&self.topic(topic), &[(partition, at)]);
                request.topics[0].partitions[0].current_leader_epoch = epoch;
                self.stage.ask(label, version, &request.with_isolation_level(i8::from(committed)));
            }
            Op::EpochEnd { topic, partition, current, epoch, version } => {
                let row = OffsetForLeaderPartition::default()
                    .with_partition(partition)
                    .with_current_leader_epoch(current)
                    .with_leader_epoch(epoch);
                let row = OffsetForLeaderTopic::default().with_topic(self.topic(topic)).with_partitions(vec![row]);
                self.stage.ask(label, version, &OffsetForLeaderEpochRequest::default().with_topics(vec![row]));
            }
            Op::DescribeProducers { topic, partition } => {
                self.stage.ask(label, 0, &producers(&self.topic(topic), &[partition]));
            }
            _ => unreachable!("{op:?} reads nothing"),
        }
    }

    fn in_session(&mut self, topic: u8, partition: i32, offset: i64, turn: Turn) -> FetchRequest {
        // Kafka fails on the nil id once it is in a session, sooner or later; so an unknown topic has an unknown id here.
        let topic = Some(self.topic_id(topic)).filter(|id| !id.is_nil()).unwrap_or(Uuid::from_u128(0xfeed));
        let (id, due) = self.session;
        let (id, epoch) = match turn {
            Turn::Open => (0, 0),
            Turn::Add | Turn::Next | Turn::Forget => (id, due),
            Turn::Skewed(by) => (id, due + by),
            Turn::Close => (id, -1),
        };
        let rows = match turn {
            Turn::Open | Turn::Add => {
                vec![FetchTopic::default().with_topic_id(topic).with_partitions(vec![from(partition, offset)])]
            }
            _ => Vec::new(),
        };
        let forgotten = ForgottenTopic::default().with_topic_id(topic).with_partitions(vec![partition]);
        let forgotten = if turn == Turn::Forget { vec![forgotten] } else { Vec::new() };
        fetch_topics(rows).with_session_id(id).with_session_epoch(epoch).with_forgotten_topics_data(forgotten)
    }
}
