//! Any bytes as a request and as a response of any API in any version: a value or an error, never a panic; and what could
//! be read can be written, and then reads as the same.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use rehearsal_mockbroker::wire::{ApiKey, Reader, Request, Response, Writer, read_request_header};

fuzz_target!(|data: &[u8]| {
    let [api, version, bytes @ ..] = data else { return };
    let api = ApiKey::ALL[usize::from(*api) % ApiKey::ALL.len()];
    let versions: Vec<i16> = api.request_versions().collect();
    let version = versions[usize::from(*version) % versions.len()];
    let bytes = Bytes::copy_from_slice(bytes);

    let _ = read_request_header(&mut Reader::new(bytes.clone()));
    if let Ok(request) = Request::decode(api, version, &mut Reader::new(bytes.clone())) {
        let mut writer = Writer::new();
        request.encode(version, &mut writer).expect("what was read can be written");
        let written = writer.into_bytes();
        let again = Request::decode(api, version, &mut Reader::new(written)).expect("what was written can be read");
        // A float that is not a number does not equal itself, its text does.
        assert_eq!(format!("{request:?}"), format!("{again:?}"));
    }
    if let Ok(response) = Response::decode(api, version, &mut Reader::new(bytes)) {
        let mut writer = Writer::new();
        response.encode(version, &mut writer).expect("what was read can be written");
        let written = writer.into_bytes();
        let again = Response::decode(api, version, &mut Reader::new(written)).expect("what was written can be read");
        assert_eq!(format!("{response:?}"), format!("{again:?}"));
    }
});
