//! Frames that lie. Whatever the bytes are, decoding ends in a value or an error, and the memory it takes is bounded
//! by the bytes there are. This binary has an allocator that counts, so it holds nothing else.

#[path = "codec/arbitrary.rs"]
mod arbitrary;

use bytes::Bytes;
use peakmem_alloc::{INSTRUMENTED_SYSTEM, PeakMemAlloc, PeakMemAllocTrait};
use proptest::prelude::*;
use rehearsal_mockbroker::wire::codec::AMPLIFICATION_MAX;
use rehearsal_mockbroker::wire::{ApiKey, Reader, Request, Response, Writer, read_request_header};
use std::alloc::System;
use std::sync::Mutex;

#[global_allocator]
static ALLOCATOR: &PeakMemAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The counting is for all threads, so the tests take turns.
static TURN: Mutex<()> = Mutex::new(());

/// Bytes of memory a byte may cost when all of a frame is made of the emptiest elements there are. The compiler
/// guarantees [`AMPLIFICATION_MAX`] for elements as such; what was ever measured is 27.
const WORST: usize = 48;
const _: () = assert!(WORST < AMPLIFICATION_MAX);

/// Bytes of memory a byte may cost when an array claims elements that are not there. Measured: 2.
const LIE: usize = 4;

/// A few elements are reserved before the first one was read, and an error allocates its path.
const SLACK: usize = 16 << 10;

/// Decodes a frame as a request and as a response, which must take at most so many times its memory.
fn decode_bounded(api: ApiKey, version: i16, frame: &Bytes, times: usize) {
    let allowed = times * frame.len() + SLACK;
    ALLOCATOR.reset_peak_memory();
    let request = Request::decode(api, version, &mut Reader::new(frame.clone()));
    let response = Response::decode(api, version, &mut Reader::new(frame.clone()));
    let _ = read_request_header(&mut Reader::new(frame.clone()));
    let peak = ALLOCATOR.get_peak_memory();
    drop((request, response));
    assert!(peak <= allowed, "{api} {version}: {} bytes took {peak} of memory", frame.len());
}

fn valid(api: ApiKey, version: i16, seed: u64) -> Vec<u8> {
    let mut request = Request::default_of(api);
    arbitrary::fill(&mut request, version, seed);
    let mut writer = Writer::new();
    request.encode(version, &mut writer).expect("a filled request can be encoded");
    writer.into_bytes().to_vec()
}

fn every_version() -> impl Iterator<Item = (ApiKey, i16)> {
    ApiKey::ALL.iter().flat_map(|&api| api.request_versions().map(move |version| (api, version)))
}

#[test]
fn every_prefix_of_a_request_is_refused_or_read_within_bounds() {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    for (api, version) in every_version() {
        let frame = Bytes::from(valid(api, version, 1));
        for len in 0..frame.len().min(600) {
            decode_bounded(api, version, &frame.slice(..len), WORST);
        }
    }
}

#[test]
fn a_giant_length_anywhere_reserves_nothing() {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let giants: [&[u8]; 5] =
        [&[0x7f, 0xff, 0xff, 0xff], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[0xff, 0xff, 0x03], &[0x7f, 0xff], &[0xff; 5]];
    for (api, version) in every_version() {
        let frame = valid(api, version, 2);
        for at in 0..frame.len().min(300) {
            for giant in giants {
                let mut lying = frame.clone();
                let end = (at + giant.len()).min(lying.len());
                lying.splice(at..end, giant.iter().copied());
                decode_bounded(api, version, &lying.into(), WORST);
            }
        }
    }
}

#[test]
fn a_believable_length_costs_only_what_is_read_until_the_lie_is_found() {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    // So many elements could be in a tail of this length, but strings in it claim to be longer than it is.
    let claims: [&[u8]; 3] = [&[0, 0, 0x1f, 0xff], &[0x80, 0x40], &[0xff, 0x3f]];
    for (api, version) in every_version() {
        let frame = valid(api, version, 3);
        for at in 0..frame.len().min(200) {
            for claim in claims {
                let mut lying = frame[..at].to_vec();
                lying.extend(claim);
                lying.resize(at + 9000, 0x7f);
                decode_bounded(api, version, &lying.into(), LIE);
            }
        }
    }
}

#[test]
fn a_frame_of_the_smallest_elements_there_are_stays_within_bounds() {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    for (api, version) in every_version() {
        for filler in [0_u8, 1, 2, 0x7f] {
            for claim in [&[0xf0, 0x7f][..], &[0, 0, 0x20, 0], &[0, 0, 0, 0, 0x20, 0]] {
                let mut frame = claim.to_vec();
                frame.resize(20_000, filler);
                decode_bounded(api, version, &frame.into(), WORST);
            }
        }
    }
}

fn api_and_version() -> impl Strategy<Value = (ApiKey, i16)> {
    prop::sample::select(every_version().collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn mutated_requests_never_panic((api, version) in api_and_version(), seed: u64,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<Option<prop::sample::Index>>(),
        tail in prop::collection::vec(any::<u8>(), 0..64))
    {
        let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut frame = valid(api, version, seed);
        if let Some(cut) = cut {
            frame.truncate(cut.index(frame.len() + 1));
        }
        frame.extend(tail);
        if !frame.is_empty() {
            for (at, byte) in edits {
                let at = at.index(frame.len());
                frame[at] = byte;
            }
        }
        decode_bounded(api, version, &frame.into(), WORST);
    }

    #[test]
    fn noise_never_panics((api, version) in api_and_version(), frame in prop::collection::vec(any::<u8>(), 0..512)) {
        let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        decode_bounded(api, version, &frame.into(), WORST);
    }

    #[test]
    fn unknown_versions_are_refused(api in prop::sample::select(ApiKey::ALL), version: i16) {
        prop_assume!(!api.request_versions().contains(&version));
        prop_assert!(Request::decode(api, version, &mut Reader::new(vec![0; 64])).is_err());
    }
}
