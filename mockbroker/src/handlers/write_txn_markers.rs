//! WriteTxnMarkers (27), versions 1–2.
//!
//! Does: ends a transaction in the partitions named, as coordinators do and as an administrator does to one that hangs
//! (KIP-664); checks epochs by the version of transactions it is told (KIP-1228).
//! Leaves out: nothing.
//! Differs from Apache Kafka: answers without waiting for the followers.

use super::Answer;
use super::access::To;
use super::transactions::by_topic;
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::fault::Part;
use crate::parked::PartitionName;
use crate::state::State;
use crate::state::security::acls::Operation;
use crate::state::topics::OFFSETS_TOPIC;
use crate::state::transactions::Identity;
use crate::time::Time;
use crate::wire::Str;
use crate::wire::generated::write_txn_markers_request::{WritableTxnMarker, WriteTxnMarkersRequest};
use crate::wire::generated::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult, WriteTxnMarkersResponse,
};
use crate::wire::marker::Marker;
use indexmap::IndexMap;

pub(super) fn write_txn_markers(
    state: &mut State,
    now: Time,
    from: &Caller,
    request: WriteTxnMarkersRequest,
) -> Answer {
    // Of a partition named twice for a producer Kafka tells the last error.
    let mut producers: IndexMap<i64, IndexMap<PartitionName, ErrorCode>> = IndexMap::new();
    for asked in &request.markers {
        let codes = producers.entry(asked.producer_id).or_default();
        for name in partitions(asked) {
            let written = write_one(state, now, from, asked, &name);
            codes.insert(name, written.map_or_else(|reject| reject.code, |()| ErrorCode::None));
        }
    }
    let markers = producers.into_iter().map(|(producer_id, codes)| {
        let rows = codes.into_iter().map(|((topic, partition_index), code)| {
            (Str::from(topic), WritableTxnMarkerPartitionResult { partition_index, error_code: code.code() })
        });
        let topics = by_topic(rows, |name, partitions| WritableTxnMarkerTopicResult { name, partitions });
        WritableTxnMarkerResult { producer_id, topics }
    });
    Answer::now(WriteTxnMarkersResponse { markers: markers.collect() })
}

fn partitions(marker: &WritableTxnMarker) -> impl Iterator<Item = PartitionName> {
    let topics = marker.topics.iter();
    topics.flat_map(|topic| topic.partition_indexes.iter().map(|index| (topic.name.to_string(), *index)))
}

fn write_one(
    state: &mut State,
    now: Time,
    from: &Caller,
    asked: &WritableTxnMarker,
    name: &PartitionName,
) -> Result<(), Reject> {
    from.check_fault(Part::Partition(&name.0, name.1))?;
    if !from.has_access(state, Operation::Alter, To::Cluster) {
        from.check_access(state, Operation::ClusterAction, To::Cluster)?;
    }
    let partition = state.topics.partition(&name.0, name.1)?;
    if asked.producer_id == Identity::NONE.id || asked.producer_epoch == Identity::NONE.epoch {
        // Kafka cannot write such a marker and fails over it.
        return Err(ErrorCode::UnknownServerError.into());
    }
    if !partition.replicas.contains(&from.node) && name.0 != OFFSETS_TOPIC {
        return Err(ErrorCode::UnknownTopicOrPartition.into());
    }
    if partition.leader != Some(from.node) {
        return Err(ErrorCode::NotLeaderOrFollower.into());
    }
    let marker = Marker {
        producer_id: asked.producer_id,
        producer_epoch: asked.producer_epoch,
        committed: asked.transaction_result,
        coordinator_epoch: asked.coordinator_epoch,
    };
    state.write_marker(now, name, &marker, i16::from(asked.transaction_version))?;
    Ok(())
}
