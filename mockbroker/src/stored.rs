//! Records as a partition's log holds them, for whoever looks from outside.

use crate::state::topics::Partition;
use crate::wire::batch::{self, Record};
use bytes::Bytes;
use std::fmt;

/// A record as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Key, value, headers and timestamp.
    pub record: Record,
}

/// The records of a partition from its log start on, oldest first. The markers of transactions are nobody's records.
pub(crate) fn records(index: i32, partition: &Partition) -> Vec<StoredRecord> {
    let log = &partition.log;
    let batches = log.batches().filter(|stored| !stored.header.is_control());
    let records = batches.flat_map(|stored| {
        let records = batch::records(&stored.bytes).unwrap_or_default().into_iter();
        records.map(|record| StoredRecord {
            partition: index,
            offset: stored.header.base_offset + i64::from(record.offset_delta),
            record,
        })
    });
    // The first batch may begin before the log does.
    records.filter(|record| record.offset >= log.start_offset()).collect()
}

impl StoredRecord {
    /// Its key.
    pub fn key(&self) -> Option<&[u8]> {
        self.record.key.as_deref()
    }

    /// Its value; `None` is a tombstone.
    pub fn value(&self) -> Option<&[u8]> {
        self.record.value.as_deref()
    }

    /// The value of its first header of this name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let found = self.record.headers.iter().find(|(own, _)| own == name.as_bytes());
        found.and_then(|(_, value)| value.as_deref())
    }
}

/// One line: `3@12 key=order-7 value={"id":7} trace=…`.
impl fmt::Display for StoredRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.partition, self.offset)?;
        let mut show = |name: &str, bytes: Option<&Bytes>| match bytes {
            Some(bytes) => write!(f, " {name}={}", shortened(bytes)),
            None => write!(f, " {name}=null"),
        };
        show("key", self.record.key.as_ref())?;
        show("value", self.record.value.as_ref())?;
        for (name, value) in &self.record.headers {
            show(&String::from_utf8_lossy(name), value.as_ref())?;
        }
        Ok(())
    }
}

fn shortened(bytes: &Bytes) -> String {
    const SHOWN_MAX: usize = 60;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_MAX)]).escape_debug().to_string();
    if bytes.len() > SHOWN_MAX { format!("{text}… ({} bytes)", bytes.len()) } else { text }
}
