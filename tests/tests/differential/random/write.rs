//! Batches, sound and harmed, and the requests that carry them.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use tests::batch::{Batch, with_flipped_byte};
use tests::differential::EARLIER;

use super::draw::{Harm, Write};
use super::world::World;
use crate::transactions::TRANSACTIONAL;

impl World<'_> {
    /// Writes one batch; the producer's next sequence is what the broker's answer makes of it.
    pub(super) fn write(&mut self, label: &str, write: &Write) {
        let (batch, transactional_id) = self.batch(write);
        let records = harmed(&batch, write.harm);
        let row = PartitionProduceData::default().with_index(write.partition).with_records(Some(records));
        let topic = match write.version {
            13.. => TopicProduceData::default().with_topic_id(self.topic_id(write.topic)),
            _ => TopicProduceData::default().with_name(self.topic(write.topic)),
        };
        let request = ProduceRequest::default()
            .with_acks(write.acks)
            .with_timeout_ms(10_000)
            .with_transactional_id(transactional_id)
            .with_topic_data(vec![topic.with_partition_data(vec![row])]);
        let answer = self.stage.ask(label, write.version, &request);
        let mut rows = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
        if let (Some(slot), true) =
            (write.producer, rows.all(|row| row.error_code == 0) && !answer.responses.is_empty())
        {
            let next = batch.base_sequence + i32::try_from(batch.records.len()).expect("few records");
            self.written(slot, write.topic, write.partition, next);
        }
    }

    fn batch(&self, write: &Write) -> (Batch, Option<kafka_protocol::messages::TransactionalId>) {
        let mut batch = Batch::of(*EARLIER + write.time, &write.values).spread(write.step).compressed_with(write.codec);
        if write.keyed {
            batch.records.iter_mut().for_each(|record| record.key = Some(Bytes::from_static(b"key")));
        }
        let Some(slot) = write.producer else { return (batch, None) };
        let producer = self.skewed(slot, write.epoch);
        let sequence = self.due(slot, write.topic, write.partition) + write.sequence;
        let mut batch = batch.from_producer(producer.id.0, producer.epoch, sequence);
        let (_, transactional) = self.producer(slot);
        if transactional {
            batch.attributes |= TRANSACTIONAL;
        }
        (batch, transactional.then_some(producer.transactional_id))
    }
}

fn harmed(batch: &Batch, harm: Harm) -> Bytes {
    let mut wrong = batch.clone();
    let count = i32::try_from(batch.records.len()).expect("few records");
    match harm {
        Harm::None | Harm::Flipped(_) | Harm::CutOff(_) | Harm::Twice | Harm::Empty => {}
        Harm::Count => wrong.claimed_count = Some(count + 1),
        Harm::LastOffset => wrong.claimed_last_offset_delta = Some(count + 3),
        Harm::Latest => wrong.claimed_max_timestamp = Some(batch.base_timestamp + 77),
        Harm::Magic => wrong.magic = 1,
        Harm::Control => wrong.attributes |= 0b10_0000,
        Harm::Transactional => wrong.attributes |= TRANSACTIONAL,
    }
    let bytes = wrong.encode();
    match harm {
        Harm::Flipped(at) => with_flipped_byte(&bytes, at.min(bytes.len() - 1)),
        Harm::CutOff(count) => bytes.slice(..bytes.len().saturating_sub(count)),
        Harm::Twice => BytesMut::from_iter(bytes.iter().chain(&bytes)).freeze(),
        Harm::Empty => Bytes::new(),
        _ => bytes,
    }
}
