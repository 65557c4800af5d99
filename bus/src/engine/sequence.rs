//! Sequences: once a record of a key is dead, the later ones of that key follow it ([`DlqScope::Sequence`]).
//!
//! A record's place in its key's sequence is its offset in the main topic; a replay has the place of the letter it is a
//! replay of. The rule is one for all: a record is handled when nothing of its key that has an earlier place is dead.
//! So letters come back in order, the first that fails again takes the rest with it, and what is published meanwhile
//! queues up behind.
//!
//! [`DlqScope::Sequence`]: crate::config::DlqScope::Sequence

use super::Offset;
use super::dead_letters::{CauseOfDeath, Obituary};
use super::io::Time;
use bytes::Bytes;
use std::collections::{BTreeSet, HashMap};

/// Where a record stands.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) key: Bytes,
    pub(super) place: Offset,
    pub(super) role: Role,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A record as it was published.
    Original,
    /// A dead letter that came back.
    Replay,
    /// Word that the dead letter of this place is evicted. No event.
    Eviction,
}

/// What becomes of a record whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its handlers are asked.
    Free,
    /// It follows this one to the dead letters.
    Follows(Offset),
    /// It lies there already: an earlier owner wrote it and could not commit any more.
    LiesThere,
    /// It was about a letter, and no letter is in the way any more.
    Settled,
}

/// The dead of one partition, by key. Grows with the letters that are not resolved: a key and a number each.
#[derive(Debug, Default)]
pub(super) struct Dead {
    /// Only ever asked for one key, so its order is nowhere seen.
    by_key: HashMap<Bytes, BTreeSet<Offset>>,
    /// Those of them that are evicted, which is not told in the log yet: what they are the letters of may be delivered
    /// again before it is, and is not to die once more.
    evicted: BTreeSet<(Bytes, Offset)>,
}

impl Dead {
    pub(super) fn add(&mut self, key: Bytes, place: Offset) {
        self.by_key.entry(key).or_default().insert(place);
    }

    pub(super) fn add_evicted(&mut self, key: Bytes, place: Offset) {
        self.evicted.insert((key.clone(), place));
        self.add(key, place);
    }

    pub(super) fn remove(&mut self, standing: &Standing) {
        if !self.evicted.is_empty() {
            self.evicted.remove(&(standing.key.clone(), standing.place));
        }
        if let Some(places) = self.by_key.get_mut(&standing.key) {
            places.remove(&standing.place);
            if places.is_empty() {
                self.by_key.remove(&standing.key);
            }
        }
    }

    pub(super) fn fate(&self, standing: &Standing) -> Fate {
        if standing.role == Role::Eviction {
            return Fate::Settled;
        }
        let Some(places) = self.by_key.get(&standing.key) else { return Fate::Free };
        if !self.evicted.is_empty() && self.evicted.contains(&(standing.key.clone(), standing.place)) {
            return Fate::LiesThere;
        }
        match places.first() {
            Some(first) if *first < standing.place => match standing.role {
                Role::Original if places.contains(&standing.place) => Fate::LiesThere,
                _ => Fate::Follows(*first),
            },
            Some(first) if *first == standing.place && standing.role == Role::Original => Fate::LiesThere,
            _ => Fate::Free,
        }
    }

    pub(super) fn keys(&self) -> usize {
        self.by_key.len()
    }
}

/// What a record says that died because an earlier one did.
pub(super) fn obituary(now: Time, after: Offset) -> Obituary {
    let message = format!("the event at offset {after} is a dead letter, and this one comes after it");
    Obituary { cause: CauseOfDeath::Sequence, ..Obituary::poison(now, "EarlierDeadLetter", message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(place: Offset, role: Role) -> Standing {
        Standing { key: Bytes::from_static(b"k"), place, role }
    }

    #[test]
    fn letters_come_back_in_order_and_what_comes_later_waits_behind_them() {
        let mut dead = Dead::default();
        dead.add(Bytes::from_static(b"k"), 3);
        dead.add(Bytes::from_static(b"k"), 5);
        assert_eq!(dead.fate(&standing(2, Role::Original)), Fate::Free, "handled before, delivered again");
        assert_eq!(dead.fate(&standing(3, Role::Original)), Fate::LiesThere);
        assert_eq!(dead.fate(&standing(5, Role::Original)), Fate::LiesThere);
        assert_eq!(dead.fate(&standing(5, Role::Replay)), Fate::Follows(3));
        assert_eq!(dead.fate(&standing(9, Role::Original)), Fate::Follows(3));
        assert_eq!(dead.fate(&standing(3, Role::Replay)), Fate::Free);
        dead.remove(&standing(3, Role::Replay));
        assert_eq!(dead.fate(&standing(5, Role::Replay)), Fate::Free);
        assert_eq!(dead.fate(&standing(9, Role::Original)), Fate::Follows(5));
        dead.remove(&standing(5, Role::Eviction));
        assert_eq!((dead.fate(&standing(9, Role::Original)), dead.keys()), (Fate::Free, 0));
    }
}
