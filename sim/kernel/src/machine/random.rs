//! Chance, all of it from the seed. One stream a purpose, so that a program which draws more does not shift latencies.

/// SplitMix64.
#[derive(Debug)]
pub(crate) struct Stream(u64);

/// Every stream there is.
#[derive(Debug)]
pub(crate) struct Random {
    /// Who runs next, and for how long.
    pub(crate) schedule: Stream,
    /// Latencies, and where bytes are cut.
    pub(crate) network: Stream,
    /// What the program is given when it asks for random numbers.
    pub(crate) program: Stream,
}

impl Random {
    pub(crate) fn from_seed(seed: u64) -> Self {
        Self { schedule: Stream::new(seed, 1), network: Stream::new(seed, 2), program: Stream::new(seed, 3) }
    }
}

impl Stream {
    fn new(seed: u64, purpose: u64) -> Self {
        let mut stream = Self(seed ^ purpose.wrapping_mul(0xD1B5_4A32_D192_ED03));
        stream.next();
        stream
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`; zero when `bound` is.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// True this many times in 65,536.
    pub(crate) fn chance(&mut self, in_65536: u32) -> bool {
        in_65536 != 0 && (self.next() & 0xffff) < u64::from(in_65536)
    }
}
