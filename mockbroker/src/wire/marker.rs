//! The control batch that ends a transaction in one partition (`EndTransactionMarker`, KIP-98).

use super::batch::{BatchBuilder, BatchError, BatchHeader, Record, records};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The type in a control record's key that aborts.
const ABORT: i16 = 0;
/// The type that commits.
const COMMIT: i16 = 1;
/// The only version of key and value.
const VERSION: i16 = 0;

/// How and by whom a transaction was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    /// Who wrote in the transaction.
    pub producer_id: i64,
    /// The epoch that ends it.
    pub producer_epoch: i16,
    /// Whether what was written counts.
    pub committed: bool,
    /// The epoch of the coordinator that decided.
    pub coordinator_epoch: i32,
}

impl Marker {
    /// Reads the marker out of a control batch; `None` for any other batch.
    pub fn of(header: &BatchHeader, bytes: &Bytes) -> Option<Self> {
        if !header.is_control() {
            return None;
        }
        let record = records(bytes).ok()?.into_iter().next()?;
        let (mut key, mut value) = (record.key?, record.value?);
        if key.len() < 4 || value.len() < 6 {
            return None;
        }
        key.advance(2); // the version
        let committed = match key.get_i16() {
            ABORT => false,
            COMMIT => true,
            _ => return None,
        };
        value.advance(2);
        Some(Self {
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            committed,
            coordinator_epoch: value.get_i32(),
        })
    }

    /// The batch to append.
    ///
    /// # Errors
    /// None that can happen: a single small record always fits.
    pub fn batch(&self, timestamp_ms: i64) -> Result<Bytes, BatchError> {
        let mut key = BytesMut::with_capacity(4);
        key.put_i16(VERSION);
        key.put_i16(if self.committed { COMMIT } else { ABORT });
        let mut value = BytesMut::with_capacity(6);
        value.put_i16(VERSION);
        value.put_i32(self.coordinator_epoch);
        let record = Record {
            offset_delta: 0,
            timestamp: timestamp_ms,
            key: Some(key.freeze()),
            value: Some(value.freeze()),
            headers: Vec::new(),
        };
        BatchBuilder::control(record).producer(self.producer_id, self.producer_epoch, -1).build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_read_as_it_was_written() {
        for committed in [true, false] {
            let marker = Marker { producer_id: 7, producer_epoch: 3, committed, coordinator_epoch: 12 };
            let bytes = marker.batch(1_000).expect("a small batch");
            let header = BatchHeader::parse(&bytes).expect("a header");
            assert!(header.is_control() && header.is_transactional());
            assert_eq!((header.base_sequence, header.max_timestamp), (-1, 1_000));
            assert_eq!(Marker::of(&header, &bytes), Some(marker));
        }
    }

    #[test]
    fn records_are_no_markers() {
        let bytes = BatchBuilder::new().record(0, Some(b"\0\0\0\x01"), Some(b"\0\0\0\0\0\0")).build().expect("a batch");
        assert_eq!(Marker::of(&BatchHeader::parse(&bytes).expect("a header"), &bytes), None);
    }
}
