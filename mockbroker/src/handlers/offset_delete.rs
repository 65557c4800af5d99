//! OffsetDelete (47), version 0.
//!
//! Does: deletes committed offsets of topics nobody in the group reads (KIP-496).
//! Leaves out: nothing.
//! Differs from Apache Kafka: none known.

use super::Answer;
use super::access::To;
use super::groups::{code, coordinated};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::fault::Part;
use crate::state::State;
use crate::state::groups::OffsetDelete;
use crate::state::security::acls::Operation;
use crate::time::Time;
use crate::wire::Str;
use crate::wire::generated::offset_delete_request::{OffsetDeleteRequest, OffsetDeleteRequestTopic};
use crate::wire::generated::offset_delete_response::{
    OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};

pub(super) fn offset_delete(state: &mut State, _: Time, from: &Caller, request: OffsetDeleteRequest) -> Answer {
    let mut rows = Rows::default();
    let mut known = Vec::new();
    for topic in &request.topics {
        known.extend(only_known(state, from, topic, &mut rows));
    }
    // A group whose offsets cannot be deleted is an error of the whole, whatever its topics.
    match begin(state, from, &request.group_id) {
        Ok(mut deletion) => {
            for (topic, indexes) in known {
                let deleted = indexes.into_iter().map(|index| {
                    let refused = from.check_fault(Part::Partition(&topic, index));
                    (index, code(refused.and_then(|()| deletion.remove(&topic, index))))
                });
                rows.add(&topic, deleted);
            }
            Answer::now(OffsetDeleteResponse { topics: rows.0, ..Default::default() })
        }
        Err(reject) => Answer::now(OffsetDeleteResponse { error_code: reject.code.code(), ..Default::default() }),
    }
}

/// The topic, if the caller may read it, with those of its partitions that exist; the others go straight to the answer.
fn only_known(
    state: &State,
    from: &Caller,
    topic: &OffsetDeleteRequestTopic,
    rows: &mut Rows,
) -> Option<(Str, Vec<i32>)> {
    let indexes = topic.partitions.iter().map(|partition| partition.partition_index);
    if let Err(reject) = from.check_access(state, Operation::Read, To::Topic(&topic.name)) {
        rows.add(&topic.name, indexes.map(|index| (index, reject.code.code())));
        return None;
    }
    let (known, unknown): (Vec<_>, Vec<_>) =
        indexes.partition(|index| state.topics.partition(&topic.name, *index).is_ok());
    rows.add(&topic.name, unknown.into_iter().map(|index| (index, ErrorCode::UnknownTopicOrPartition.code())));
    (!known.is_empty()).then(|| (topic.name.clone(), known))
}

fn begin<'a>(state: &'a mut State, from: &Caller, group: &str) -> Result<OffsetDelete<'a>, Reject> {
    coordinated(state, from, Operation::Delete, group)?;
    state.groups.begin_offset_delete(group)
}

/// The answer as it grows: one row a partition, below one row a topic.
#[derive(Default)]
struct Rows(Vec<OffsetDeleteResponseTopic>);

impl Rows {
    fn add(&mut self, topic: &Str, codes: impl Iterator<Item = (i32, i16)>) {
        let mut codes = codes.peekable();
        if codes.peek().is_none() {
            return;
        }
        let rows =
            codes.map(|(partition_index, error_code)| OffsetDeleteResponsePartition { partition_index, error_code });
        match self.0.iter_mut().find(|row| row.name == *topic) {
            Some(row) => row.partitions.extend(rows),
            None => self.0.push(OffsetDeleteResponseTopic { name: topic.clone(), partitions: rows.collect() }),
        }
    }
}
