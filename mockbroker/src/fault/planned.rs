//! The faults that are planned, and what they make of a request on its way in and of its answer on the way out.

use super::edits::{self, Snapshot};
use super::{Effect, Fault, FaultId, FaultView, ImpossibleFault, Refusal, Refusals, Times, When, names};
use crate::error::ErrorCode;
use crate::handlers;
use crate::journal::ReceivedRequest;
use crate::output::Frame;
use crate::state::State;
use crate::wire::{ApiKey, Response};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

/// All faults that are planned.
#[derive(Debug)]
pub(crate) struct Faults {
    planned: BTreeMap<FaultId, Planned>,
    last_id: u64,
    rng: SmallRng,
}

#[derive(Debug)]
struct Planned {
    fault: Fault,
    matched: u64,
    hits: u64,
    released: bool,
    /// How things stood when it was planned, for stale metadata.
    snapshot: Option<Snapshot>,
}

/// What is to become of a request.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// What keeps it from the broker, if anything does.
    pub(crate) arrival: Arrival,
    /// The errors its handler is to answer with.
    pub(crate) refusals: Refusals,
    /// Faults that concern its answer.
    pub(crate) later: Vec<FaultId>,
}

/// What becomes of a request before the broker looks at it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    #[default]
    Proceeds,
    Waits(Duration),
    Held(FaultId),
    Disconnects,
    Ignored,
}

/// What becomes of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Departure {
    Proceeds,
    Waits(Duration),
    Held(FaultId),
    Disconnects,
    Swallowed,
}

/// An answer on its way out.
#[derive(Debug)]
pub(crate) struct Leaving {
    pub(crate) departure: Departure,
    pub(crate) frame: Frame,
    /// For how long the connection's next request is left alone.
    pub(crate) mute: Duration,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        // Not the stream topic ids come from: a planned fault must not change them.
        Self { planned: BTreeMap::new(), last_id: 0, rng: SmallRng::seed_from_u64(seed ^ 0xfa17) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.planned.is_empty()
    }

    pub(crate) fn plan(&mut self, fault: Fault, state: &State) -> Result<FaultId, ImpossibleFault> {
        check(&fault, state)?;
        let stale = matches!(&fault.effect, Effect::Lie(super::Lie::Stale));
        let snapshot = stale.then(|| Snapshot::of(state));
        self.last_id += 1;
        let id = FaultId(self.last_id);
        self.planned.insert(id, Planned { fault, matched: 0, hits: 0, released: false, snapshot });
        Ok(id)
    }

    /// Takes a fault out of the plan.
    pub(crate) fn forget(&mut self, id: FaultId) {
        self.planned.remove(&id);
    }

    pub(crate) fn view(&self, holding: impl Fn(FaultId) -> usize) -> Vec<FaultView> {
        let view = |(id, planned): (&FaultId, &Planned)| FaultView {
            id: *id,
            fault: planned.fault.to_string(),
            matched: planned.matched,
            hits: planned.hits,
            holding: holding(*id),
            overdue: planned.hits == 0 && !planned.fault.may_not_fire,
        };
        self.planned.iter().map(view).collect()
    }

    /// How often it happened; `None` when it is not planned.
    pub(crate) fn hits(&self, id: FaultId) -> Option<u64> {
        self.planned.get(&id).map(|planned| planned.hits)
    }

    /// Lets it happen no more.
    pub(crate) fn spend(&mut self, id: FaultId) {
        if let Some(planned) = self.planned.get_mut(&id) {
            planned.released = true;
        }
    }

    /// Whether it has happened as often as it was to.
    pub(crate) fn is_spent(&self, id: FaultId) -> bool {
        self.planned.get(&id).is_none_or(Planned::is_spent)
    }

    /// How often it will have happened at most; `None` when there is no end to it.
    pub(crate) fn hits_max(&self, id: FaultId) -> Option<u64> {
        let Some(planned) = self.planned.get(&id) else { return Some(0) };
        match planned.fault.times {
            _ if planned.released => Some(planned.hits),
            Times::Exactly(count) => Some(count),
            Times::Always => None,
        }
    }

    /// Whether it is one that keeps things until it is released.
    pub(crate) fn is_hold(&self, id: FaultId) -> bool {
        self.planned.get(&id).is_some_and(|planned| matches!(planned.fault.effect, Effect::Hold(_)))
    }

    /// Decides about a request that arrived.
    pub(crate) fn judge(&mut self, request: &ReceivedRequest, state: &State) -> Verdict {
        let mut arrival = Arrival::Proceeds;
        let (mut refusals, mut later) = (Vec::new(), Vec::new());
        for (id, planned) in &mut self.planned {
            if planned.is_spent() || !planned.fault.which.covers(request, state) {
                continue;
            }
            planned.matched += 1;
            let fault = &planned.fault;
            if planned.matched <= fault.which.skip
                || (fault.probability < 1.0 && !self.rng.random_bool(fault.probability))
            {
                continue;
            }
            match &fault.effect {
                Effect::Refuse(_) | Effect::Pretend => {
                    let refusal = Refusal {
                        fault: *id,
                        code: if let Effect::Refuse(code) = &fault.effect { *code } else { ErrorCode::None },
                        topic: fault.which.topic.clone(),
                        partition: fault.which.partition,
                        name: fault.which.name.clone().filter(|_| names::may_name_several(request.api())),
                        told: Cell::new(false),
                    };
                    if is_lost(arrival) || refusals.iter().any(|other: &Refusal| other.is_beside(&refusal)) {
                        continue;
                    }
                    refusals.push(refusal);
                }
                Effect::Delay(When::Before, by) => match &mut arrival {
                    Arrival::Proceeds => arrival = Arrival::Waits(*by),
                    Arrival::Waits(already) => *already += *by,
                    _ => continue,
                },
                Effect::Hold(When::Before) if arrival_open(arrival) => arrival = Arrival::Held(*id),
                Effect::Disconnect(When::Before) if arrival_open(arrival) => arrival = Arrival::Disconnects,
                Effect::Silence(When::Before) if arrival_open(arrival) => arrival = Arrival::Ignored,
                Effect::Hold(When::Before) | Effect::Disconnect(When::Before) | Effect::Silence(When::Before) => {
                    continue;
                }
                // Counted when the answer leaves: only then is it known whether there is anything to do.
                _ => {
                    later.push(*id);
                    continue;
                }
            }
            planned.hits += 1;
        }
        Verdict { arrival, refusals: Refusals::new(refusals), later }
    }

    /// Takes a hit back: the answer had no place for what was to happen.
    pub(crate) fn take_back(&mut self, id: FaultId) {
        if let Some(planned) = self.planned.get_mut(&id) {
            planned.hits = planned.hits.saturating_sub(1);
        }
    }

    /// Plans nothing any more; ids are not given out again, so that who holds an old one cannot mistake it.
    pub(crate) fn begin_after(&mut self, earlier: &Self) {
        self.last_id = earlier.last_id;
    }

    /// Decides about an answer and changes it as planned.
    pub(crate) fn see_off(
        &mut self,
        later: &[FaultId],
        version: i16,
        response: &mut Option<Box<Response>>,
        state: &State,
    ) -> Leaving {
        let mut leaving = Leaving { departure: Departure::Proceeds, frame: Frame::Whole, mute: Duration::ZERO };
        for id in later {
            let Some(planned) = self.planned.get_mut(id).filter(|planned| !planned.is_spent()) else { continue };
            let happened = match (&planned.fault.effect, response.as_deref_mut()) {
                (Effect::Delay(_, by), _) => leaving.depart(Departure::Waits(*by)),
                (Effect::Hold(_), _) => leaving.depart(Departure::Held(*id)),
                (Effect::Disconnect(_), _) => leaving.depart(Departure::Disconnects),
                (Effect::Silence(_), _) => leaving.depart(Departure::Swallowed),
                // What follows changes the answer, and a client may have asked for none.
                (_, None) => false,
                (Effect::Frame(frame), Some(_)) => {
                    leaving.frame = match frame {
                        Frame::Garbled { .. } => Frame::Garbled { seed: self.rng.random() },
                        other => *other,
                    };
                    true
                }
                (Effect::Throttle(by), Some(response)) => {
                    leaving.mute = leaving.mute.max(*by);
                    // Versions without the field are slowed down all the same.
                    edits::throttle(response, version, *by);
                    true
                }
                (Effect::Misreport(code), Some(response)) => {
                    edits::misreport(response, version, &planned.fault.which, *code, state)
                }
                (Effect::CorruptBatch, Some(response)) => {
                    edits::corrupt_batch(response, version, &planned.fault.which, state)
                }
                (Effect::Lie(lie), Some(response)) => edits::lie(response, lie, planned.snapshot.as_ref()),
                (Effect::Rewrite(edit), Some(response)) => {
                    edit(response);
                    true
                }
                (Effect::Refuse(_) | Effect::Pretend, Some(_)) => unreachable!("the request was judged by it"),
            };
            planned.hits += u64::from(happened);
        }
        leaving
    }
}

impl Leaving {
    /// The first that keeps an answer back wins.
    fn depart(&mut self, departure: Departure) -> bool {
        let first = self.departure == Departure::Proceeds;
        if first {
            self.departure = departure;
        }
        first
    }
}

impl Planned {
    fn is_spent(&self) -> bool {
        match self.fault.times {
            _ if self.released => true,
            Times::Always => false,
            Times::Exactly(count) => self.hits >= count,
        }
    }
}

fn arrival_open(arrival: Arrival) -> bool {
    matches!(arrival, Arrival::Proceeds | Arrival::Waits(_))
}

/// Whether the request never gets as far as an answer.
fn is_lost(arrival: Arrival) -> bool {
    matches!(arrival, Arrival::Disconnects | Arrival::Ignored)
}

/// Whether it can ever happen.
fn check(fault: &Fault, state: &State) -> Result<(), ImpossibleFault> {
    let words = || fault.to_string();
    let senseless = |why| Err(ImpossibleFault::Senseless { fault: words(), why });
    fault.which.check(state, &words)?;
    if fault.times == Times::Exactly(0) {
        return Err(ImpossibleFault::Range { fault: words(), why: "it is planned 0 times".into() });
    }
    if !(fault.probability > 0.0 && fault.probability <= 1.0) {
        let why = format!("a probability is above 0 and at most 1, not {}", fault.probability);
        return Err(ImpossibleFault::Range { fault: words(), why });
    }
    match (&fault.effect, fault.which.api) {
        (Effect::Refuse(ErrorCode::None) | Effect::Misreport(ErrorCode::None), _) => senseless("NONE is not an error"),
        (Effect::Pretend, api) if !matches!(api, Some(ApiKey::Produce | ApiKey::OffsetCommit)) => {
            senseless("only Produce and OffsetCommit can be acknowledged without effect")
        }
        (Effect::CorruptBatch, Some(api)) if api != ApiKey::Fetch => {
            senseless("only an answer to Fetch carries batches")
        }
        (Effect::CorruptBatch, None) => {
            senseless("only an answer to Fetch carries batches; begin with Fault::on(ApiKey::Fetch)")
        }
        (Effect::Lie(_), Some(api)) if api != ApiKey::Metadata => senseless("only an answer to Metadata can lie so"),
        (Effect::Lie(lie), _) => edits::check_lie(lie, state).map_or(Ok(()), senseless),
        (Effect::Throttle(_), Some(api)) if !handlers::can_throttle(api) => {
            senseless("answers of this API have no throttle time")
        }
        _ => Ok(()),
    }
}
