//! What the share coordinator has written down of a partition, which outlives the broker that leads it
//! (`ShareCoordinatorShard`, `ShareGroupOffset`).

use super::in_flight::RecordState;
use std::collections::BTreeMap;

/// Records in one state, as they are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StateBatch {
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) state: RecordState,
    pub(super) count: i32,
}

/// A change of a partition that is to be written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) start_offset: i64,
    /// How many records from the start on need not be delivered any more.
    pub(super) complete: i32,
    pub(super) batches: Vec<StateBatch>,
}

/// One partition as it is written down.
#[derive(Debug, Clone)]
pub(super) struct Persisted {
    /// The epoch of the group when this was begun.
    pub(super) state_epoch: i32,
    /// The epoch of the last leader that read it, or 0.
    pub(super) leader_epoch: i32,
    /// `None` until a leader has written where it began.
    pub(super) start_offset: Option<i64>,
    pub(super) complete: Option<i32>,
    records: BTreeMap<i64, (RecordState, i32)>,
}

impl Persisted {
    pub(super) fn new(state_epoch: i32, start_offset: Option<i64>) -> Self {
        let complete = start_offset.map(|_| 0);
        Self { state_epoch, leader_epoch: 0, start_offset, complete, records: BTreeMap::new() }
    }

    pub(super) fn write(&mut self, write: &Write) {
        self.start_offset = Some(write.start_offset);
        self.complete = Some(write.complete);
        for batch in &write.batches {
            self.records.extend((batch.first..=batch.last).map(|offset| (offset, (batch.state, batch.count))));
        }
        self.records = self.records.split_off(&write.start_offset);
    }

    /// Neighbours in one state are one batch.
    pub(super) fn batches(&self) -> Vec<StateBatch> {
        let mut batches: Vec<StateBatch> = Vec::new();
        for (&offset, &(state, count)) in &self.records {
            match batches.last_mut() {
                Some(last) if last.last + 1 == offset && (last.state, last.count) == (state, count) => {
                    last.last = offset;
                }
                _ => batches.push(StateBatch { first: offset, last: offset, state, count }),
            }
        }
        batches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_in_one_state_become_one_batch_and_what_is_over_is_forgotten() {
        let batch = |first, last, state| StateBatch { first, last, state, count: 1 };
        let mut persisted = Persisted::new(3, None);
        let written = vec![batch(0, 4, RecordState::Acknowledged), batch(5, 6, RecordState::Available)];
        persisted.write(&Write { start_offset: 0, complete: 5, batches: written });
        persisted.write(&Write { start_offset: 2, complete: 4, batches: vec![batch(5, 5, RecordState::Acknowledged)] });
        let expected = [batch(2, 5, RecordState::Acknowledged), batch(6, 6, RecordState::Available)];
        assert_eq!(persisted.batches(), expected);
        assert_eq!((persisted.start_offset, persisted.complete), (Some(2), Some(4)));
    }
}
