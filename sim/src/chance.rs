//! Chance, from a seed and nothing else.
//!
//! A generator of our own, because `rand`'s small generator is another one on 32-bit machines and may change between
//! releases: a seed must mean the same plan on every machine, for years. SplitMix64 (Steele, Lea, Flood 2014) is
//! enough for drawing plans; it is pinned by a test.
//!
//! Every part of a plan draws from a stream named after it ([`Chance::of`]), so that a change to one part leaves the
//! draws of all others alone.

use std::ops::RangeInclusive;
use std::time::Duration;

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The stream of this name under this seed. Different names give unrelated streams.
    pub fn of(seed: u64, name: &str) -> Self {
        // FNV-1a of the name, then one round, so that near seeds and near names are far apart.
        let name = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        let mut chance = Self(seed ^ name.rotate_left(17));
        chance.0 = chance.next() ^ name;
        chance
    }

    /// The next 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        // The high half of the product: no division, and a bias below 2^-32 for the bounds a plan has.
        ((self.next() as u128 * bound as u128) >> 64) as u64
    }

    /// A number of this range; its start when the range is empty.
    pub fn between(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.below(range.end().saturating_sub(*range.start()).saturating_add(1))
    }

    /// A time of this range, in whole milliseconds, so that it reads well in a plan.
    pub fn time(&mut self, range: RangeInclusive<Duration>) -> Duration {
        let millis = |time: &Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.between(millis(range.start())..=millis(range.end())))
    }

    /// True `times` out of `of` times.
    pub const fn odds(&mut self, times: u64, of: u64) -> bool {
        self.below(of) < times
    }

    /// One of them; `None` when there is none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(usize::try_from(self.below(from.len() as u64)).ok()?)
    }

    /// Puts them in random order (Fisher–Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_numbers_on_every_machine() {
        let mut chance = Chance(1_234_567);
        assert_eq!(
            [chance.next(), chance.next(), chance.next()],
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn streams_of_other_names_and_seeds_are_unrelated() {
        let first = |seed, name| Chance::of(seed, name).next();
        let all = [first(1, "a"), first(1, "b"), first(2, "a"), first(2, "b")];
        for (index, one) in all.iter().enumerate() {
            assert!(!all[index + 1..].contains(one));
        }
    }

    #[test]
    fn draws_stay_in_their_range_and_reach_both_ends() {
        let mut chance = Chance::of(7, "range");
        let draws: Vec<u64> = (0..1000).map(|_| chance.between(3..=6)).collect();
        assert!(draws.iter().all(|draw| (3..=6).contains(draw)));
        assert!(draws.contains(&3) && draws.contains(&6));
        assert_eq!(chance.between(9..=9), 9);
        assert_eq!(chance.pick::<u8>(&[]), None);
    }
}
