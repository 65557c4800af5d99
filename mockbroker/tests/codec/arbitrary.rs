//! Fills any message with pseudo-random values, such as its version can carry.

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rehearsal_mockbroker::wire::walk::{Array, Optional, ScalarMut, VisitorMut, Walk};
use rehearsal_mockbroker::wire::{Records, Str, Uuid};

/// The same values for the same seed.
pub(crate) fn fill(message: &mut dyn Walk, version: i16, seed: u64) {
    message.walk_mut(version, &mut Filler { rng: SmallRng::seed_from_u64(seed) });
}

struct Filler {
    rng: SmallRng,
}

impl VisitorMut for Filler {
    fn begin_array(&mut self, array: &mut dyn Array) {
        array.resize(self.rng.random_range(0..4));
    }

    fn optional(&mut self, value: &mut dyn Optional, nullable: bool) {
        if nullable && self.rng.random_ratio(1, 3) {
            value.set_null();
        } else {
            value.set_default();
        }
    }

    fn scalar(&mut self, value: ScalarMut<'_>) {
        let rng = &mut self.rng;
        if rng.random_ratio(1, 4) {
            return; // Default values matter: a tagged field that has one is left out.
        }
        match value {
            ScalarMut::Bool(value) => *value = rng.random(),
            ScalarMut::I8(value) => *value = rng.random(),
            ScalarMut::I16(value) => *value = rng.random(),
            ScalarMut::U16(value) => *value = rng.random(),
            ScalarMut::I32(value) => *value = rng.random(),
            ScalarMut::U32(value) => *value = rng.random(),
            ScalarMut::I64(value) => *value = rng.random(),
            ScalarMut::F64(value) => *value = rng.random(),
            ScalarMut::Uuid(value) => *value = Uuid::from_bytes(rng.random()),
            ScalarMut::Str(value) => *value = text(rng),
            ScalarMut::Bytes(value) => *value = bytes(rng, 300),
            ScalarMut::Records(value) => {
                *value = (0..rng.random_range(0..3)).map(|_| bytes(rng, 3000)).collect::<Records>();
            }
        }
    }
}

fn text(rng: &mut SmallRng) -> Str {
    // Long ones need a length of more than one byte.
    let len = if rng.random_ratio(1, 10) { rng.random_range(100..400) } else { rng.random_range(0..10) };
    (0..len).map(|_| ['a', 'Z', '-', 'ß', '事', '🐢'][rng.random_range(0..6)]).collect::<String>().into()
}

fn bytes(rng: &mut SmallRng, len_max: usize) -> Bytes {
    (0..rng.random_range(0..len_max)).map(|_| rng.random::<u8>()).collect()
}

/// One element in every array, nothing null.
#[allow(dead_code, reason = "not every test binary with this module needs it")]
pub(crate) fn fill_completely(message: &mut dyn Walk, version: i16) {
    struct Completely;

    impl VisitorMut for Completely {
        fn begin_array(&mut self, array: &mut dyn Array) {
            array.resize(1);
        }

        fn optional(&mut self, value: &mut dyn Optional, _: bool) {
            value.set_default();
        }
    }

    message.walk_mut(version, &mut Completely);
}
