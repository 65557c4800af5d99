//! The order in which Java walks a `HashMap`, where Kafka's results depend on it: by slot, ties in order of insertion.

use crate::wire::Uuid;

/// A table has this many slots at least (`HashMap.DEFAULT_INITIAL_CAPACITY`).
const SLOTS_MIN: usize = 16;

/// Where a Java `HashMap` that grew to this many entries keeps a string.
pub(super) fn slot_of_text(key: &str, entries: usize) -> u32 {
    slot(hash_of_text(key), slots_grown(entries))
}

/// Where a Java `HashMap` that grew to this many entries keeps a Kafka `Uuid`.
pub(super) fn slot_of_id(id: Uuid, entries: usize) -> u32 {
    slot(hash_of_id(id), slots_grown(entries))
}

/// Where a Java `HashSet` that was copied from a collection of this size keeps a Kafka `Uuid`.
pub(super) fn slot_of_copied_id(id: Uuid, entries: usize) -> u32 {
    slot(hash_of_id(id), slots_copied(entries))
}

/// Where a Java `HashSet` that was copied from a collection of this size keeps an `Integer`.
pub(super) fn slot_of_copied_number(number: i32, entries: usize) -> u32 {
    slot(number, slots_copied(entries))
}

/// Where a Java `HashMap` made for this many entries, and one more, keeps a Kafka `TopicIdPartition`.
pub(super) fn slot_of_partition(topic: Uuid, index: i32, entries: usize) -> u32 {
    slot(hash_of_id(topic).wrapping_mul(31).wrapping_add(index), slots_copied(entries + 1))
}

/// The two halves of an id as Java compares them: signed.
pub(super) fn halves(id: Uuid) -> (i64, i64) {
    let number = u128::from_be_bytes(*id.as_bytes());
    ((number >> 64) as u64 as i64, number as u64 as i64)
}

/// Java's `String.hashCode`.
fn hash_of_text(text: &str) -> i32 {
    text.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

/// Kafka's `Uuid.hashCode`.
fn hash_of_id(id: Uuid) -> i32 {
    let (high, low) = halves(id);
    let mixed = high ^ low;
    (mixed >> 32) as i32 ^ mixed as i32
}

/// The table doubles when it is more than three quarters full.
fn slots_grown(entries: usize) -> usize {
    let mut slots = SLOTS_MIN;
    while entries > slots / 4 * 3 {
        slots *= 2;
    }
    slots
}

/// `HashSet(Collection)` makes room for one third more than it is given.
fn slots_copied(entries: usize) -> usize {
    (entries * 4 / 3 + 1).max(SLOTS_MIN).next_power_of_two()
}

fn slot(hash: i32, slots: usize) -> u32 {
    let hash = hash.cast_unsigned();
    (hash ^ (hash >> 16)) & u32::try_from(slots - 1).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_javas() {
        assert_eq!(hash_of_text("uniform"), -286926412);
        assert_eq!(hash_of_text("range"), 108280125);
    }

    #[test]
    fn tables_grow_at_three_quarters_and_copies_are_made_to_fit() {
        assert_eq!([12, 13, 24, 25].map(slots_grown), [16, 32, 32, 64]);
        assert_eq!([1, 11, 12, 23, 24].map(slots_copied), [16, 16, 32, 32, 64]);
    }
}
