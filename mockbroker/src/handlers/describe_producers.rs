//! DescribeProducers (61), version 0.
//!
//! Does: the producers a partition's leader remembers, with the transactions they have open there (KIP-664).
//! Leaves out: nothing.
//! Differs from Apache Kafka: in the offsets topic every open transaction begins at the log's end: offsets leave no
//! records there.

use super::access::To;
use super::{Answer, message};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::state::State;
use crate::state::security::acls::Operation;
use crate::state::topics::{Partition, check_name};
use crate::time::Time;
use crate::wire::generated::describe_producers_request::{DescribeProducersRequest, TopicRequest};
use crate::wire::generated::describe_producers_response::{
    DescribeProducersResponse, PartitionResponse, ProducerState, TopicResponse,
};

pub(super) fn describe_producers(
    state: &mut State,
    _: Time,
    from: &Caller,
    request: DescribeProducersRequest,
) -> Answer {
    let topics = request.topics.into_iter().map(|topic| {
        let unknown = check_topic(state, from, &topic).err();
        let partitions = topic.partition_indexes.iter().map(|index| match &unknown {
            Some(reject) => PartitionResponse { error_message: message(reject), ..refused(*index, reject.code) },
            None => match state.topics.led_by(from.node, &topic.name, *index) {
                Ok(partition) => described(*index, partition),
                Err(reject) => refused(*index, reject.code),
            },
        });
        let partitions = partitions.collect();
        TopicResponse { name: topic.name, partitions }
    });
    let topics = topics.collect();
    Answer::now(DescribeProducersResponse { topics, ..Default::default() })
}

fn check_topic(state: &State, from: &Caller, topic: &TopicRequest) -> Result<(), Reject> {
    check_name(&topic.name)?;
    from.check_access(state, Operation::Read, To::Topic(&topic.name))?;
    match state.topics.get(&topic.name) {
        Some(_) => Ok(()),
        None => Err(ErrorCode::UnknownTopicOrPartition.into()),
    }
}

fn described(partition_index: i32, partition: &Partition) -> PartitionResponse {
    let producers = partition.producers.iter().map(|(producer_id, producer)| {
        let records = partition.log.transactions().open_since(producer_id);
        let offsets = producer.sent_offsets.then(|| partition.log.end_offset());
        ProducerState {
            producer_id,
            producer_epoch: i32::from(producer.epoch),
            last_sequence: producer.batches.back().map_or(-1, |batch| batch.last_sequence),
            last_timestamp: producer.last_timestamp_ms,
            coordinator_epoch: producer.coordinator_epoch,
            current_txn_start_offset: records.or(offsets).unwrap_or(-1),
        }
    });
    PartitionResponse { partition_index, active_producers: producers.collect(), ..Default::default() }
}

fn refused(partition_index: i32, code: ErrorCode) -> PartitionResponse {
    PartitionResponse { partition_index, error_code: code.code(), ..Default::default() }
}
