//! Members say what became of records (`SharePartition.acknowledge` in Apache Kafka 4.3): all of a request counts, or
//! nothing.

use super::in_flight::{Batch, Delivery, RecordState};
use super::partition::{Rules, SharePartition};
use super::persisted::{StateBatch, Write};
use crate::error::{ErrorCode, Reject};
use crate::time::Time;

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// There was no record at this offset.
    Gap,
    /// The member has dealt with it.
    Accept,
    /// Others may try.
    Release,
    /// Nobody should try again.
    Reject,
    /// The member needs more time (KIP-1222).
    Renew,
}

impl Outcome {
    /// The outcome with this number on the wire.
    pub fn of(number: i8) -> Option<Self> {
        Some(match number {
            0 => Self::Gap,
            1 => Self::Accept,
            2 => Self::Release,
            3 => Self::Reject,
            4 => Self::Renew,
            _ => return None,
        })
    }

    /// The state it leads to; none if it stays as it is.
    fn state(self) -> Option<RecordState> {
        match self {
            Self::Accept => Some(RecordState::Acknowledged),
            Self::Release => Some(RecordState::Available),
            Self::Gap | Self::Reject => Some(RecordState::Archived),
            Self::Renew => None,
        }
    }
}

/// What became of the records between two offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The first of them.
    pub first: i64,
    /// The last of them.
    pub last: i64,
    /// One outcome for all of them, or one for each.
    pub outcomes: Vec<Outcome>,
}

impl Acknowledgement {
    fn of(&self, offset: i64) -> Option<Outcome> {
        match self.outcomes.as_slice() {
            [one] => Some(*one),
            each => each.get(usize::try_from(offset - self.first).ok()?).copied(),
        }
    }
}

impl SharePartition {
    /// Takes in what a member says. `writable` is whether that can be written down; if not, nothing happens.
    pub(super) fn acknowledge(
        &mut self,
        now: Time,
        rules: &Rules,
        member: &str,
        acknowledgements: &[Acknowledgement],
        writable: Result<(), Reject>,
    ) -> Result<Option<Write>, Reject> {
        let mut turn =
            Turn { now, rules, member, start_offset: self.start_offset, before: Vec::new(), changed: Vec::new() };
        let taken = acknowledgements.iter().try_for_each(|acknowledgement| self.take_in(&mut turn, acknowledgement));
        if let Err(reject) = taken.and(if turn.changed.is_empty() { Ok(()) } else { writable }) {
            for (offset, delivery) in turn.before.into_iter().rev() {
                self.put_back(offset, delivery);
            }
            return Err(reject);
        }
        self.note_final(&turn.changed);
        Ok(self.finish(turn.changed))
    }

    fn take_in(&mut self, turn: &mut Turn<'_>, acknowledgement: &Acknowledgement) -> Result<(), Reject> {
        if acknowledgement.last < self.start_offset {
            return Ok(());
        }
        let from = self.first_batch_of(acknowledgement)?;
        let meant = self.batches.range(from..=acknowledgement.last).next_back();
        if meant.is_none_or(|(_, last)| last.last < acknowledgement.first || last.last < acknowledgement.last) {
            return Err(Reject::new(ErrorCode::InvalidRequest, "nobody was given all of these records"));
        }
        for batch in self.batches.range_mut(from..=acknowledgement.last).map(|(_, batch)| batch) {
            if batch.last >= turn.start_offset {
                turn.take_in_batch(batch, acknowledgement)?;
            }
        }
        Ok(())
    }

    fn first_batch_of(&self, acknowledgement: &Acknowledgement) -> Result<i64, Reject> {
        let floor = |offset: i64| self.batches.range(..=offset).next_back().map(|(key, _)| *key);
        let straddles = acknowledgement.first < self.start_offset && acknowledgement.last >= self.start_offset;
        let found = floor(acknowledgement.first).or_else(|| if straddles { floor(self.start_offset) } else { None });
        found.ok_or_else(|| invalid_state("these records are not under way"))
    }

    fn put_back(&mut self, offset: i64, before: Delivery) {
        let Some((_, batch)) = self.batches.range_mut(..=offset).next_back() else { return };
        let found = batch.spans_mut().find(|(first, ..)| *first == offset);
        if let Some((.., delivery)) = found {
            *delivery = before;
        }
    }
}

/// One member's turn, with what is needed to undo it.
struct Turn<'a> {
    now: Time,
    rules: &'a Rules,
    member: &'a str,
    start_offset: i64,
    before: Vec<(i64, Delivery)>,
    changed: Vec<StateBatch>,
}

impl Turn<'_> {
    fn take_in_batch(&mut self, batch: &mut Batch, acknowledgement: &Acknowledgement) -> Result<(), Reject> {
        if let Some(whole) = batch.as_whole() {
            self.check_owner(whole)?;
            let as_one = acknowledgement.outcomes.len() == 1
                && batch.is_within(acknowledgement.first, acknowledgement.last)
                && !batch.is_cut_by(self.start_offset);
            if !as_one {
                check_acquired(whole)?;
                batch.split();
            }
        }
        let from = acknowledgement.first.max(self.start_offset);
        for (first, last, delivery) in batch.spans_mut() {
            if last < from || first > acknowledgement.last {
                continue;
            }
            check_acquired(delivery)?;
            self.check_owner(delivery)?;
            let outcome = acknowledgement.of(first).ok_or(ErrorCode::InvalidRequest)?;
            self.settle(first, last, delivery, outcome)?;
        }
        Ok(())
    }

    fn check_owner(&self, delivery: &Delivery) -> Result<(), Reject> {
        if delivery.is_held_by(self.member) {
            Ok(())
        } else {
            Err(invalid_state("the member does not have these records"))
        }
    }

    fn settle(&mut self, first: i64, last: i64, delivery: &mut Delivery, outcome: Outcome) -> Result<(), Reject> {
        match outcome.state() {
            None if !self.rules.may_renew => {
                return Err(invalid_state("share.renew.acknowledge.enable forbids to renew"));
            }
            // As in Kafka, a lock stays renewed when the rest of the request is refused.
            None => delivery.lock_ends = Some(self.now + self.rules.lock),
            Some(state) => {
                self.before.push((first, delivery.clone()));
                delivery.settle(state, self.rules.delivery_limit);
                self.changed.push(StateBatch { first, last, state: delivery.state, count: delivery.count });
            }
        }
        Ok(())
    }
}

fn check_acquired(delivery: &Delivery) -> Result<(), Reject> {
    if delivery.state == RecordState::Acquired { Ok(()) } else { Err(invalid_state("nobody has these records")) }
}

fn invalid_state(why: &'static str) -> Reject {
    Reject::new(ErrorCode::InvalidRecordState, why)
}
