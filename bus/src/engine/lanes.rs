//! The lanes of one assigned partition: one per key, one record of a lane in work at a time.
//!
//! A record that must be tried again parks its own lane; the records of that key wait behind it, the other lanes
//! go on. That is what keeps an aggregate's events in order without holding up anybody else's.

use super::retry::Course;
use super::{Offset, Time};
use crate::config::Limits;
use crate::mutant::{self, Mutant};
use crate::retry::RetryScope;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// Which lane a record runs in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum LaneKey {
    /// The records of one key, in order.
    Key(Bytes),
    /// A record without a key has no order to keep: a lane of its own.
    Alone(Offset),
    /// The whole partition, in order ([`RetryScope::Partition`]).
    Whole,
}

impl LaneKey {
    /// `waits` for a record that is not to be tried yet: it has lost its turn, so it holds up nobody's.
    pub(super) fn of(scope: RetryScope, key: Option<Bytes>, offset: Offset, waits: bool) -> Self {
        match (scope, key) {
            _ if waits => Self::Alone(offset),
            (RetryScope::Partition, _) => Self::Whole,
            (RetryScope::Key | RetryScope::Topic, Some(key)) => Self::Key(key),
            (RetryScope::Key | RetryScope::Topic, None) => Self::Alone(offset),
        }
    }
}

/// A lane's place, and which of the lanes that were there it is: a name that costs nothing to copy and compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LaneId {
    place: usize,
    tenant: u64,
}

/// A record in a lane.
#[derive(Debug)]
pub(super) struct Job<P> {
    pub(super) offset: Offset,
    pub(super) payload: P,
    pub(super) course: Course,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gait {
    /// The first record may start.
    Idle,
    /// The first record is with its handlers or on its way to the dead-letter queue.
    Busy,
    /// The first record waits until then.
    Parked(Time),
}

#[derive(Debug)]
struct Lane<P> {
    id: LaneId,
    /// `None` for a record without a key: no other will ask for its lane.
    key: Option<LaneKey>,
    jobs: VecDeque<Job<P>>,
    gait: Gait,
}

#[derive(Debug)]
pub(super) struct Lanes<P> {
    lanes: Vec<Option<Lane<P>>>,
    free: Vec<usize>,
    tenants: u64,
    /// Only ever asked for one key, so its order is nowhere seen.
    by_key: HashMap<LaneKey, LaneId>,
    /// The lane of every record in work.
    busy: BTreeMap<Offset, LaneId>,
    /// The first record of every parked lane.
    parked: BTreeSet<Offset>,
    /// Lanes that have reached their bound and not yet fallen under the resume mark.
    long: BTreeSet<LaneId>,
    held: usize,
    /// The highest offset that was ever in work: what lies above it need not be finished when the partition goes.
    highest_started: Option<Offset>,
}

impl<P> Default for Lanes<P> {
    fn default() -> Self {
        Self {
            lanes: Vec::new(),
            free: Vec::new(),
            tenants: 0,
            by_key: HashMap::new(),
            busy: BTreeMap::new(),
            parked: BTreeSet::new(),
            long: BTreeSet::new(),
            held: 0,
            highest_started: None,
        }
    }
}

impl<P> Lanes<P> {
    /// Puts a record at the end of its lane; names the lane if it was empty, so that it can start.
    pub(super) fn push(&mut self, key: LaneKey, job: Job<P>, limits: &Limits) -> Option<LaneId> {
        self.held += 1;
        let id = match self.by_key.get(&key) {
            Some(id) => *id,
            None => self.open(key),
        };
        let lane = self.lane(id)?;
        lane.jobs.push_back(job);
        let len = lane.jobs.len();
        if len >= limits.lane_records_max {
            self.long.insert(id);
        }
        (len == 1).then_some(id)
    }

    fn open(&mut self, key: LaneKey) -> LaneId {
        self.tenants += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.lanes.push(None);
            self.lanes.len() - 1
        });
        let id = LaneId { place, tenant: self.tenants };
        let key = Some(key).filter(|key| !matches!(key, LaneKey::Alone(_)));
        if let Some(key) = &key {
            self.by_key.insert(key.clone(), id);
        }
        self.lanes[place] = Some(Lane { id, key, jobs: VecDeque::with_capacity(1), gait: Gait::Idle });
        id
    }

    fn close(&mut self, id: LaneId) {
        let closed = self.lanes.get_mut(id.place).and_then(Option::take);
        if let Some(key) = closed.and_then(|lane| lane.key) {
            self.by_key.remove(&key);
        }
        self.free.push(id.place);
    }

    fn lane(&mut self, id: LaneId) -> Option<&mut Lane<P>> {
        self.lanes.get_mut(id.place)?.as_mut().filter(|lane| lane.id == id)
    }

    /// The offset that would start next in an idle lane.
    pub(super) fn startable(&mut self, id: LaneId) -> Option<Offset> {
        let lane = self.lane(id).filter(|lane| lane.gait == Gait::Idle)?;
        lane.jobs.front().map(|job| job.offset)
    }

    /// Takes the first record of an idle lane into work.
    pub(super) fn start(&mut self, id: LaneId) -> Option<&mut Job<P>> {
        let offset = self.startable(id)?;
        self.busy.insert(offset, id);
        self.highest_started = self.highest_started.max(Some(offset));
        let lane = self.lane(id)?;
        lane.gait = Gait::Busy;
        lane.jobs.front_mut()
    }

    /// The record in work at this offset.
    pub(super) fn in_work(&mut self, offset: Offset) -> Option<&mut Job<P>> {
        let id = *self.busy.get(&offset)?;
        self.lane(id)?.jobs.front_mut()
    }

    /// Puts the record in work aside until `until`; its lane waits with it.
    pub(super) fn park(&mut self, offset: Offset, until: Time) -> Option<LaneId> {
        let id = self.leave_work(offset, Gait::Parked(until))?;
        if mutant::is(Mutant::RetriesBehindTheLane) {
            self.lane(id)?.jobs.rotate_left(1);
        }
        self.parked.insert(offset);
        Some(id)
    }

    /// The wait of a lane is over; `false` if it does not wait for this moment (any more).
    pub(super) fn unpark(&mut self, id: LaneId, until: Time) -> bool {
        let Some(lane) = self.lane(id).filter(|lane| lane.gait == Gait::Parked(until)) else {
            return false;
        };
        lane.gait = Gait::Idle;
        if let Some(offset) = lane.jobs.front().map(|job| job.offset) {
            self.parked.remove(&offset);
        }
        true
    }

    /// Takes the record in work out; names the lane if another record waits in it.
    pub(super) fn finish(&mut self, offset: Offset, limits: &Limits) -> Option<LaneId> {
        let id = self.leave_work(offset, Gait::Idle)?;
        let lane = self.lane(id)?;
        lane.jobs.pop_front()?;
        let left = lane.jobs.len();
        self.held -= 1;
        if left <= resume_mark(limits.lane_records_max) && !self.long.is_empty() {
            self.long.remove(&id);
        }
        if left == 0 {
            self.close(id);
            return None;
        }
        Some(id)
    }

    fn leave_work(&mut self, offset: Offset, gait: Gait) -> Option<LaneId> {
        let id = self.busy.remove(&offset)?;
        self.lane(id)?.gait = gait;
        Some(id)
    }

    /// The records in work, each with its attempt.
    pub(super) fn attempts(&self) -> impl Iterator<Item = (Offset, u32)> + '_ {
        self.busy.iter().filter_map(|(offset, id)| {
            let lane = self.lanes.get(id.place)?.as_ref()?;
            Some((*offset, lane.jobs.front()?.course.attempts))
        })
    }

    pub(super) fn busy_len(&self) -> usize {
        self.busy.len()
    }

    pub(super) fn parked_len(&self) -> usize {
        self.parked.len()
    }

    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// The lowest offset that waits in a parked lane.
    pub(super) fn lowest_parked(&self) -> Option<Offset> {
        self.parked.first().copied()
    }

    pub(super) fn highest_started(&self) -> Option<Offset> {
        self.highest_started
    }

    /// Whether an idle lane begins with a record that `wanted` asks for.
    pub(super) fn any_startable(&self, wanted: impl Fn(Offset) -> bool) -> bool {
        self.lanes
            .iter()
            .flatten()
            .any(|lane| lane.gait == Gait::Idle && lane.jobs.front().is_some_and(|job| wanted(job.offset)))
    }

    pub(super) fn at_a_bound(&self, limits: &Limits, span: u64) -> bool {
        self.held >= limits.partition_records_max
            || self.parked.len() >= limits.parked_keys_max
            || span >= limits.watermark_span_max
            || !self.long.is_empty()
    }

    pub(super) fn has_room(&self, limits: &Limits, span: u64) -> bool {
        self.held <= resume_mark(limits.partition_records_max)
            && self.parked.len() <= resume_mark(limits.parked_keys_max)
            && span <= limits.watermark_span_max - limits.watermark_span_max.div_ceil(5)
            && self.long.is_empty()
    }
}

/// Fetching goes on at four fifths of a bound: `pause` throws the client's fetched records away, so pausing and
/// resuming at the same mark would fetch everything again and again.
fn resume_mark(bound: usize) -> usize {
    bound - bound.div_ceil(5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(offset: Offset) -> Job<()> {
        Job { offset, payload: (), course: Course::default() }
    }

    fn key(name: &'static str) -> LaneKey {
        LaneKey::Key(Bytes::from_static(name.as_bytes()))
    }

    #[test]
    fn a_key_has_one_record_in_work_and_the_next_waits() {
        let (limits, mut lanes) = (Limits::default(), Lanes::default());
        let a = lanes.push(key("a"), job(0), &limits).unwrap();
        assert_eq!(lanes.push(key("a"), job(1), &limits), None);
        let b = lanes.push(key("b"), job(2), &limits).unwrap();
        assert!(lanes.start(a).is_some());
        assert!(lanes.start(a).is_none());
        assert!(lanes.start(b).is_some());
        assert_eq!(lanes.finish(0, &limits), Some(a));
        assert_eq!(lanes.finish(2, &limits), None);
        assert_eq!(lanes.startable(a), Some(1));
    }

    #[test]
    fn a_parked_lane_starts_again_when_its_time_has_come() {
        let (limits, mut lanes) = (Limits::default(), Lanes::default());
        let noon = Time::from_millis(12);
        let a = lanes.push(key("a"), job(0), &limits).unwrap();
        lanes.start(a);
        lanes.park(0, noon);
        assert_eq!((lanes.lowest_parked(), lanes.startable(a)), (Some(0), None));
        assert!(!lanes.unpark(a, Time::from_millis(11)));
        assert!(lanes.unpark(a, noon));
        assert_eq!((lanes.lowest_parked(), lanes.startable(a)), (None, Some(0)));
    }

    #[test]
    fn a_long_lane_asks_for_a_pause_until_it_is_down_to_four_fifths() {
        let limits = Limits { lane_records_max: 5, ..Limits::default() };
        let mut lanes = Lanes::default();
        let opened: Vec<_> = (0..5).map(|offset| lanes.push(key("a"), job(offset), &limits)).collect();
        assert!(lanes.at_a_bound(&limits, 5));
        lanes.start(opened[0].unwrap());
        lanes.finish(0, &limits);
        assert!(!lanes.at_a_bound(&limits, 4) && lanes.has_room(&limits, 4));
    }

    #[test]
    fn a_lane_in_the_place_of_another_does_not_answer_to_its_name() {
        let (limits, mut lanes) = (Limits::default(), Lanes::default());
        let a = lanes.push(key("a"), job(0), &limits).unwrap();
        lanes.start(a);
        lanes.finish(0, &limits);
        let b = lanes.push(key("b"), job(1), &limits).unwrap();
        assert_eq!(a.place, b.place);
        assert!(lanes.start(a).is_none() && lanes.start(b).is_some());
    }
}
