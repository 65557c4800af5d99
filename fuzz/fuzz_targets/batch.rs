//! Any bytes as a record batch, sealed so that no checksum stands before what is behind it: its records come out whole or
//! not at all, whatever they claim.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use rehearsal_mockbroker::wire::batch::{self, BatchBuilder, BatchHeader};

/// Bytes of a batch before its records.
const HEADER_LEN: usize = 61;
/// Bytes of a batch that its length field does not count.
const UNCOUNTED: usize = 12;

fuzz_target!(|data: &[u8]| {
    let _ = BatchHeader::parse(data);
    let [attributes, count, last, body @ ..] = data else { return };
    let mut bytes = vec![0; HEADER_LEN];
    bytes.extend(body);
    let length = i32::try_from(bytes.len() - UNCOUNTED).unwrap_or(i32::MAX);
    bytes[8..UNCOUNTED].copy_from_slice(&length.to_be_bytes());
    bytes[16] = 2;
    bytes[22] = *attributes;
    bytes[26] = *last;
    bytes[60] = *count;
    batch::seal(&mut bytes);
    let bytes = Bytes::from(bytes);
    let Ok(header) = BatchHeader::parse(&bytes) else { return };
    batch::check_crc(&header, &bytes).expect("a sealed batch has its checksum");
    let mut seen = 0;
    let scanned = batch::scan(&header, &bytes, |_| seen += 1);
    let Ok(records) = batch::records(&bytes) else { return };
    if scanned.is_ok() {
        assert_eq!(records.len(), seen, "two ways to count the same records");
    }
    if let Ok(again) = BatchBuilder::like(&header, records.clone()).build() {
        let again = batch::records(&again).expect("what was built can be read");
        assert_eq!(again.len(), records.len());
    }
});
