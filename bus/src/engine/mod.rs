//! The consuming engine: records go in, what is to be done with them comes out.
//!
//! It decides everything that at-least-once delivery and order per key hang on — what may start, what is tried again
//! and when, what becomes a dead letter, how far may be committed, when partitions may be let go — and does none of it.
//! There is no Kafka client, no runtime, no clock in here: a driver feeds [`Input`]s together with the time, carries
//! out the [`Action`]s, and calls again at [`Engine::next_wake`]. The same inputs give the same actions.
//!
//! ```
//! use rehearsal_bus::engine::{Action, Config, Delivered, Engine, Input, Outcome, Partition, Time};
//!
//! let (now, orders) = (Time::default(), Partition { topic: 0, index: 3 });
//! let mut engine = Engine::new(Config::default(), 1);
//! engine.handle(now, Input::Assigned { partitions: vec![orders] });
//! engine.handle(now, Input::Delivered(Delivered::new(orders, 42, Some("order 7".into()), "placed")));
//!
//! let Some(Action::Start(start)) = engine.next_action() else { panic!("nothing else is in work") };
//! assert_eq!(start.payload, "placed");
//! engine.handle(now, Input::Finished { ticket: start.ticket, outcome: Outcome::Done });
//!
//! let later = engine.next_wake().unwrap();
//! engine.handle(later, Input::Tick);
//! let Some(Action::Commit { offsets, .. }) = engine.next_action() else { panic!("it is time to commit") };
//! assert_eq!(offsets, [(orders, 43)]);
//! ```

#![deny(clippy::disallowed_methods, reason = "the engine is given the time and its chance")]

pub mod dead_letters;
mod drain;
pub mod finished;
mod flood;
mod io;
mod lanes;
mod ledger;
mod retry;
mod sequence;

pub use dead_letters::{CauseOfDeath, Header, Obituary};
pub use drain::Farewell;
pub use flood::FloodBreaker;
pub use io::{
    Action, CommitId, DeadLetter, Deferral, Delivered, Epoch, Errand, Input, Offset, Partition, Past, Release, Start,
    Ticket, Time,
};
pub use retry::{HandlerFailure, Outcome};

use crate::config::Limits;
use crate::mutant::{self, Mutant};
use crate::retry::{RetryPolicy, RetryScope};
use bytes::Bytes;
use drain::{Drain, Worth};
use finished::Run;
use flood::Flood;
use lanes::{Job, LaneId, LaneKey, Lanes};
use ledger::Ledger;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use retry::{Course, Decision, decide};
use sequence::{Dead, Fate, Role, Standing};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// What becomes of a record that is given up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DeadLetters {
    /// It is written to the dead-letter queue; while that fails, its lane waits between attempts as this says (as often as
    /// it takes: there is no other place for the record).
    Write(RetryPolicy),
    /// It is dropped, and counted.
    Drop,
}

/// How the engine behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Config {
    /// How often and how long apart a failing record is tried, and what waits meanwhile.
    pub retry: RetryPolicy,
    /// What becomes of a record that is given up.
    pub dead_letters: DeadLetters,
    /// Whether the later records of a key follow one that was given up, until it is replayed or evicted.
    pub sequences: bool,
    /// Resolved records are committed at the latest after this.
    pub commit_interval: Duration,
    /// … or as soon as this many are.
    pub commit_every: usize,
    /// Whether what is finished beyond the position is committed too, so that it does not run again after a restart.
    pub commit_finished: bool,
    /// What stops a flood of dead letters; nothing when `None`.
    pub flood_breaker: Option<FloodBreaker>,
    /// The bounds.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            retry: RetryPolicy::default(),
            dead_letters: DeadLetters::Write(RetryPolicy::default()),
            sequences: false,
            // A crash repeats at most this much work; a commit is one small request.
            commit_interval: Duration::from_millis(500),
            commit_every: 10_000,
            commit_finished: true,
            flood_breaker: None,
            limits: Limits::default(),
        }
    }
}

/// What has happened so far. Every delivered record is counted once under `delivered` and, when it is resolved, once
/// under `succeeded`, `skipped`, `deferred`, `dead_lettered` or `dropped`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Records taken in.
    pub delivered: u64,
    /// Records all handlers were content with.
    pub succeeded: u64,
    /// Records that were not for us.
    pub skipped: u64,
    /// Records acknowledged by a retry topic, from where they are delivered again.
    pub deferred: u64,
    /// Records acknowledged by the dead-letter queue.
    pub dead_lettered: u64,
    /// Records given up without a dead-letter queue.
    pub dropped: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Letters the dead-letter queue did not take, and records a retry topic did not.
    pub dead_letter_failures: u64,
    /// Floods of dead letters that were stopped.
    pub floods: u64,
    /// Commits that failed.
    pub commit_failures: u64,
    /// Records an earlier owner had finished; they count nowhere else.
    pub remembered: u64,
    /// Reports that came too late: the assignment they belong to is over.
    pub fenced: u64,
}

/// How things stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status {
    /// Partitions held.
    pub partitions: usize,
    /// Records with their handlers or on their way to the dead-letter queue.
    pub in_flight: usize,
    /// Records held, waiting ones included.
    pub held: usize,
    /// Lanes that wait for a retry.
    pub parked: usize,
    /// Partitions not fetched from.
    pub paused: usize,
    /// Records the dead-letter queue or a retry topic has refused at least once and not taken since: nothing is lost,
    /// nothing of them is committed, and somebody should look.
    pub unburied: usize,
    /// Keys whose events follow a dead one.
    pub dead_keys: usize,
    /// Whether nothing is started because too many records failed; see [`FloodBreaker`].
    pub flooded: bool,
}

impl Status {
    /// Whether dead letters cannot be written, or too many would be.
    pub fn is_degraded(&self) -> bool {
        self.unburied > 0 || self.flooded
    }
}

/// The engine. See the [module](self).
#[derive(Debug)]
pub struct Engine<P> {
    config: Config,
    chance: SmallRng,
    assignments: BTreeMap<Partition, Assignment<P>>,
    epochs: u64,
    /// Lanes whose first record may start, in the order in which they became so.
    ready: VecDeque<(Partition, Epoch, LaneId)>,
    parked: BTreeSet<(Time, Partition, Epoch, LaneId)>,
    in_flight: usize,
    drains: Vec<Drain>,
    stopping: bool,
    commits: Commits,
    unburied: BTreeSet<(Partition, Offset)>,
    flood: Flood,
    counters: Counters,
    actions: VecDeque<Action<P>>,
}

#[derive(Debug)]
struct Assignment<P> {
    epoch: Epoch,
    ledger: Ledger,
    lanes: Lanes<P>,
    paused: bool,
    leaving: Option<Worth>,
    dead: Dead,
    /// Lanes that may start as soon as it is known which keys are dead; `None` once it is.
    recalling: Option<Vec<LaneId>>,
}

/// A position to commit, and the assignment it was reached under.
type Position = (Partition, Epoch, Offset);

#[derive(Debug, Default)]
struct Commits {
    issued: u64,
    /// The one commit under way: a second one could overtake it.
    under_way: Option<(CommitId, Vec<Position>)>,
    resolved: usize,
    due: Option<Time>,
}

impl<P: Clone> Engine<P> {
    /// An engine without partitions; `seed` decides its jitter.
    pub fn new(config: Config, seed: u64) -> Self {
        Self {
            config,
            chance: SmallRng::seed_from_u64(seed),
            assignments: BTreeMap::new(),
            epochs: 0,
            ready: VecDeque::new(),
            parked: BTreeSet::new(),
            in_flight: 0,
            drains: Vec::new(),
            stopping: false,
            commits: Commits::default(),
            unburied: BTreeSet::new(),
            flood: Flood::default(),
            counters: Counters::default(),
            actions: VecDeque::new(),
        }
    }

    /// Takes note of what happened; what follows from it is told by [`Engine::next_action`].
    pub fn handle(&mut self, now: Time, input: Input<P>) {
        self.note(now, input);
        self.advance(now);
    }

    /// As [`Engine::handle`] for many at once, which is cheaper: what follows from all of them is decided once.
    pub fn handle_all(&mut self, now: Time, inputs: impl IntoIterator<Item = Input<P>>) {
        for input in inputs {
            self.note(now, input);
        }
        self.advance(now);
    }

    fn note(&mut self, now: Time, input: Input<P>) {
        match input {
            Input::Assigned { partitions } => self.assigned(partitions),
            Input::Remembered { partition, finished } => self.remembered(partition, finished),
            Input::Delivered(record) => self.delivered(now, record),
            Input::Finished { ticket, outcome } => self.finished(now, ticket, outcome),
            Input::DeadLetterAcked { ticket } => self.buried(now, ticket),
            Input::DeadLetterFailed { ticket } => self.not_buried(now, ticket),
            Input::Deferred { ticket } => self.deferred(now, ticket),
            Input::DeferralFailed { ticket } => self.not_deferred(now, ticket),
            Input::Recalled { partition, epoch, letters, evicted } => {
                self.recalled(partition, epoch, letters, evicted);
            }
            Input::CommitDone { id, confirmed } => self.committed(now, id, confirmed),
            Input::Revoking { partitions, deadline } => self.leave(Farewell::Revoked, partitions, deadline),
            Input::Lost { partitions } => self.lost(partitions),
            Input::Stop { deadline } => self.stop(deadline),
            Input::Tick => {}
        }
    }

    /// The next thing to do, in the order in which things are to be done.
    pub fn next_action(&mut self) -> Option<Action<P>> {
        self.actions.pop_front()
    }

    /// When the engine wants to be called at the latest, if nothing happens before.
    pub fn next_wake(&self) -> Option<Time> {
        let parked = self.parked.first().map(|(due, ..)| *due).filter(|_| !mutant::is(Mutant::ForgetsTheRetryTimer));
        let commit = self.commits.due.filter(|_| self.commits.under_way.is_none());
        let commit = commit.filter(|_| !mutant::is(Mutant::ForgetsTheCommitTimer));
        let drain = self.drains.iter().map(|drain| drain.deadline).min();
        [parked, commit, drain, self.flood.until()].into_iter().flatten().min()
    }

    /// What has happened so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How things stand.
    pub fn status(&self) -> Status {
        let assignments = self.assignments.values();
        Status {
            partitions: assignments.len(),
            in_flight: self.in_flight,
            held: assignments.clone().map(|assignment| assignment.lanes.held()).sum(),
            parked: assignments.clone().map(|assignment| assignment.lanes.parked_len()).sum(),
            dead_keys: assignments.clone().map(|assignment| assignment.dead.keys()).sum(),
            paused: assignments.filter(|assignment| assignment.paused).count(),
            unburied: self.unburied.len(),
            flooded: self.flood.until().is_some(),
        }
    }

    /// What is finished in a partition beyond the position its commit would name now, in ascending order.
    pub fn finished_beyond(&self, partition: Partition) -> Vec<Run> {
        let assignment = self.assignments.get(&partition).filter(|_| self.config.commit_finished);
        assignment.map(|assignment| assignment.ledger.finished_beyond()).unwrap_or_default()
    }

    /// What follows from the time that has passed and from whatever was just noted.
    fn advance(&mut self, now: Time) {
        self.unpark(now);
        self.start_ready(now);
        self.let_go(now);
        self.commit(now);
    }

    // ── assignment ──────────────────────────────────────────────────────────────────────────────────────────────

    fn assigned(&mut self, partitions: Vec<Partition>) {
        if self.stopping {
            return;
        }
        if !mutant::is(Mutant::ReleasesWhatWasGivenAnew) {
            self.leave_drains(&partitions);
        }
        if mutant::is(Mutant::LosesTheLedger) {
            self.assignments.values_mut().for_each(|assignment| assignment.ledger = Ledger::default());
        }
        self.epochs += 1;
        let epoch = Epoch(self.epochs);
        for partition in partitions {
            self.abandon(partition);
            let fresh = Assignment {
                epoch,
                ledger: Ledger::default(),
                lanes: Lanes::default(),
                paused: false,
                leaving: None,
                dead: Dead::default(),
                recalling: self.config.sequences.then(Vec::new),
            };
            self.assignments.insert(partition, fresh);
            if self.config.sequences {
                self.actions.push_back(Action::Recall { partition, epoch });
            }
        }
        // The client forgets across a rebalance what it had paused (KAFKA-13425).
        let paused: Vec<_> = self
            .assignments
            .iter()
            .filter(|(_, assignment)| assignment.paused)
            .map(|(partition, _)| *partition)
            .collect();
        if !paused.is_empty() {
            self.actions.push_back(Action::Pause(paused));
        }
    }

    fn recalled(
        &mut self,
        partition: Partition,
        epoch: Epoch,
        letters: Vec<(Bytes, Offset)>,
        evicted: Vec<(Bytes, Offset)>,
    ) {
        let assignment = self.assignments.get_mut(&partition).filter(|assignment| assignment.epoch == epoch);
        let Some(assignment) = assignment else { return };
        let Some(waiting) = assignment.recalling.take() else { return };
        for (key, place) in letters {
            assignment.dead.add(key, place);
        }
        for (key, place) in evicted {
            assignment.dead.add_evicted(key, place);
        }
        self.ready.extend(waiting.into_iter().map(|lane| (partition, epoch, lane)));
    }

    fn remembered(&mut self, partition: Partition, finished: Vec<Run>) {
        if let Some(assignment) = self.assignments.get_mut(&partition).filter(|_| self.config.commit_finished) {
            assignment.ledger.remember(finished);
        }
    }

    fn lost(&mut self, partitions: Vec<Partition>) {
        self.leave_drains(&partitions);
        let gone = partitions.iter().filter(|_| !mutant::is(Mutant::HandlesWhatItLost));
        let abandoned = gone.map(|partition| self.abandon(*partition)).sum();
        let release = Release { why: Farewell::Lost, partitions, commit: Vec::new(), finished: Vec::new(), abandoned };
        self.actions.push_back(Action::Release(release));
    }

    fn stop(&mut self, deadline: Time) {
        self.stopping = true;
        for drain in &mut self.drains {
            drain.deadline = drain.deadline.min(deadline);
        }
        let staying = self.assignments.iter().filter(|(_, assignment)| assignment.leaving.is_none());
        let staying = staying.map(|(partition, _)| *partition).collect();
        self.leave(Farewell::Stopping, staying, deadline);
    }

    /// Begins the drain of these partitions. One that is on its way out already changes over to this drain.
    fn leave(&mut self, why: Farewell, partitions: Vec<Partition>, deadline: Time) {
        self.leave_drains(&partitions);
        let mut fetching = Vec::new();
        for partition in &partitions {
            let Some(assignment) = self.assignments.get_mut(partition) else { continue };
            if let Some(parked) =
                assignment.lanes.lowest_parked().filter(|_| mutant::is(Mutant::ForgetsRetriesOnRevoke))
            {
                assignment.ledger.resolve(parked);
            }
            assignment.leaving.get_or_insert(Worth::until(assignment.lanes.highest_started()));
            if !assignment.paused {
                assignment.paused = true;
                fetching.push(*partition);
            }
        }
        if !fetching.is_empty() {
            self.actions.push_back(Action::Pause(fetching));
        }
        self.drains.push(Drain { why, partitions: partitions.into_iter().collect(), deadline });
    }

    fn leave_drains(&mut self, partitions: &[Partition]) {
        for drain in &mut self.drains {
            drain.partitions.retain(|partition| !partitions.contains(partition));
        }
    }

    /// Releases the partitions whose drain is over.
    fn let_go(&mut self, now: Time) {
        for drain in std::mem::take(&mut self.drains) {
            if drain.deadline > now && !self.is_drained(&drain) {
                self.drains.push(drain);
                continue;
            }
            let owned =
                drain.partitions.iter().filter_map(|partition| Some((*partition, self.assignments.get(partition)?)));
            let (mut commit, mut finished) = (Vec::new(), Vec::new());
            for (partition, owned) in owned {
                let news = owned.ledger.last_news_beyond().filter(|_| self.config.commit_finished);
                if let Some(position) = owned.ledger.last_word().or(news) {
                    commit.push((partition, position));
                    finished.push((partition, self.finished_beyond(partition)));
                }
            }
            finished.retain(|(_, runs)| !runs.is_empty());
            let abandoned = drain.partitions.iter().map(|partition| self.abandon(*partition)).sum();
            let partitions: Vec<_> = drain.partitions.into_iter().collect();
            // A stop whose partitions were all revoked meanwhile has nothing to let go.
            if drain.why != Farewell::Stopping || !partitions.is_empty() {
                self.actions.push_back(Action::Release(Release {
                    why: drain.why,
                    partitions,
                    commit,
                    finished,
                    abandoned,
                }));
            }
        }
        if self.stopping && self.drains.is_empty() && self.assignments.is_empty() {
            self.stopping = false;
            self.actions.push_back(Action::Stopped);
        }
    }

    fn is_drained(&self, drain: &Drain) -> bool {
        if mutant::is(Mutant::RevokesWithoutDraining) {
            return true;
        }
        // A commit under way could arrive after the last one and take the group back.
        let committing = self.commits.under_way.as_ref();
        let committing =
            committing.is_some_and(|(_, offsets)| offsets.iter().any(|(p, ..)| drain.partitions.contains(p)));
        let mut owned = drain.partitions.iter().filter_map(|partition| self.assignments.get(partition));
        // In a flood nothing starts, so nothing is worth waiting for.
        let flooded = self.flood.until().is_some();
        !committing
            && owned.all(|assignment| {
                assignment.lanes.busy_len() == 0 && (flooded || !assignment.has_work_worth_finishing())
            })
    }

    /// Forgets a partition. What is in work for it is cut off, and its reports will be fenced.
    fn abandon(&mut self, partition: Partition) -> usize {
        let Some(assignment) = self.assignments.remove(&partition) else { return 0 };
        self.unburied.retain(|(of, _)| *of != partition);
        self.in_flight -= assignment.lanes.busy_len();
        let runs_on = mutant::is(Mutant::KeepsHandlersOverRevocation) || mutant::is(Mutant::CountsLateCompletions);
        for (offset, attempt) in assignment.lanes.attempts().filter(|_| !runs_on) {
            self.actions.push_back(Action::Abandon(Ticket { partition, epoch: assignment.epoch, offset, attempt }));
        }
        assignment.lanes.busy_len()
    }

    // ── records ─────────────────────────────────────────────────────────────────────────────────────────────────

    fn delivered(&mut self, now: Time, record: Delivered<P>) {
        let Delivered { partition, offset, key, payload, errand, past } = record;
        let Some(assignment) = self.assignments.get_mut(&partition).filter(|assignment| assignment.leaving.is_none())
        else {
            // Fetched before the pause took hold: never in the books, so it is the next owner's.
            self.counters.fenced += 1;
            return;
        };
        if !assignment.ledger.deliver(offset) {
            self.counters.fenced += 1;
            return;
        }
        if assignment.ledger.was_finished(offset) {
            self.counters.remembered += 1;
            return self.resolve(now, partition, offset);
        }
        self.counters.delivered += 1;
        let standing =
            self.config.sequences.then(|| standing(&errand, key.as_ref(), offset, past.as_deref())).flatten();
        let mut course = match errand {
            Errand::Handle => past.map_or_else(Course::default, |past| Course::resumed(*past)),
            Errand::Absolve if standing.is_some() => Course::default(),
            Errand::Bury { error_type, message } => Course::buried(Obituary::poison(now, error_type, message)),
            Errand::Halt { reason } => return self.actions.push_back(Action::Halt { partition, offset, reason }),
            Errand::Skip | Errand::Absolve => {
                self.counters.skipped += 1;
                return self.resolve(now, partition, offset);
            }
        };
        if mutant::is(Mutant::DropsWhenFull) && assignment.lanes.at_a_bound(&self.config.limits, 0) {
            return self.resolve(now, partition, offset);
        }
        course.standing = standing;
        let key = key.filter(|_| !mutant::is(Mutant::RunsKeysSideBySide));
        let lane = LaneKey::of(self.config.retry.scope, key, offset, course.not_before.is_some());
        if let Some(lane) = assignment.lanes.push(lane, Job { offset, payload, course }, &self.config.limits) {
            self.ready.push_back((partition, assignment.epoch, lane));
        }
        self.pause_or_resume(partition);
    }

    fn unpark(&mut self, now: Time) {
        while self.parked.first().is_some_and(|(due, ..)| *due <= now) {
            let Some((due, partition, epoch, lane)) = self.parked.pop_first() else { break };
            let assignment = self.assignments.get_mut(&partition);
            let Some(assignment) = assignment.filter(|assignment| assignment.epoch == epoch) else { continue };
            // On the way out nothing is tried again: the record stays uncommitted for the next owner.
            if assignment.leaving.is_none() && assignment.lanes.unpark(lane, due) {
                self.ready.push_back((partition, epoch, lane));
            }
            self.pause_or_resume(partition);
        }
    }

    fn start_ready(&mut self, now: Time) {
        if self.flood.pause(now).is_some() {
            return;
        }
        while self.in_flight < self.config.limits.in_flight_max {
            let Some((partition, epoch, lane)) = self.ready.pop_front() else { break };
            let assignment = self.assignments.get_mut(&partition);
            let Some(assignment) = assignment.filter(|assignment| assignment.epoch == epoch) else { continue };
            if let Some(waiting) = &mut assignment.recalling {
                waiting.push(lane);
                continue;
            }
            let startable = assignment.lanes.startable(lane);
            if !startable.is_some_and(|offset| assignment.may_start(offset)) {
                continue;
            }
            let Some(job) = assignment.lanes.start(lane) else { continue };
            self.in_flight += 1;
            let ticket = Ticket { partition, epoch, offset: job.offset, attempt: job.course.attempts };
            if let Some(until) = job.course.not_before.take().filter(|until| *until > now) {
                self.park(ticket, until);
                continue;
            }
            let fate = job.course.standing.as_ref().map_or(Fate::Free, |standing| assignment.dead.fate(standing));
            match (fate, &job.course.obituary, &job.course.deferral) {
                (Fate::Settled, ..) => self.absolved(now, ticket),
                (Fate::LiesThere, ..) => {
                    self.counters.dead_lettered += 1;
                    self.done(now, ticket);
                }
                (_, Some(_), _) => self.bury(now, ticket),
                (Fate::Follows(first), ..) => {
                    job.course.obituary = Some(Arc::new(sequence::obituary(now, first)));
                    self.bury(now, ticket);
                }
                (Fate::Free, None, Some(past)) => {
                    let deferral = Deferral { ticket, payload: job.payload.clone(), past: past.clone() };
                    self.actions.push_back(Action::Defer(deferral));
                }
                (Fate::Free, None, None) => {
                    job.course.attempts += 1;
                    self.counters.retries += u64::from(job.course.attempts > 1);
                    self.actions.push_back(Action::Start(Start {
                        ticket: Ticket { attempt: job.course.attempts, ..ticket },
                        payload: job.payload.clone(),
                        only_handlers: job.course.pending.clone(),
                    }));
                }
            }
        }
    }

    fn finished(&mut self, now: Time, ticket: Ticket, outcome: Outcome) {
        let retry = self.config.retry;
        let chance = &mut self.chance;
        let job = in_work(&mut self.assignments, ticket).filter(|job| job.course.awaits_handlers());
        let Some(job) = job else {
            self.counters.fenced += 1;
            return;
        };
        match decide(&retry, now, &mut job.course, outcome, chance) {
            Decision::Resolved => {
                if let Some(breaker) = &self.config.flood_breaker {
                    self.flood.weigh(breaker, now, false);
                }
                self.counters.succeeded += 1;
                if self.config.sequences {
                    self.absolve(ticket);
                }
                self.done(now, ticket);
            }
            Decision::Again { .. } if mutant::is(Mutant::RetriesAtOnce) => self.park(ticket, now),
            Decision::Again { after } if retry.scope == RetryScope::Topic => {
                let past = Arc::new(job.course.to_be_resumed(now + after));
                job.course.deferral = Some(past.clone());
                self.actions.push_back(Action::Defer(Deferral { ticket, payload: job.payload.clone(), past }));
            }
            Decision::Again { after } => self.park(ticket, now + after),
            Decision::Bury(obituary) => {
                if let Some(breaker) = &self.config.flood_breaker {
                    self.counters.floods += u64::from(self.flood.weigh(breaker, now, true));
                    if let Some(until) = self.flood.pause(now) {
                        job.course.spare();
                        return self.park(ticket, until);
                    }
                }
                job.course.obituary = Some(Arc::new(obituary));
                self.bury(now, ticket);
            }
        }
    }

    /// The letter a record in work is about is in nobody's way any more.
    fn absolve(&mut self, ticket: Ticket) {
        let Some(assignment) = self.assignments.get_mut(&ticket.partition) else { return };
        let job = assignment.lanes.in_work(ticket.offset);
        if let Some(standing) = job.and_then(|job| job.course.standing.as_deref()) {
            assignment.dead.remove(standing);
        }
    }

    fn absolved(&mut self, now: Time, ticket: Ticket) {
        self.absolve(ticket);
        self.counters.skipped += 1;
        self.done(now, ticket);
    }

    /// Writes the letter of a record in work; it stays there, and in the books, until the letter is acknowledged.
    fn bury(&mut self, now: Time, ticket: Ticket) {
        let Some(job) = in_work(&mut self.assignments, ticket) else { return };
        let Some(obituary) = job.course.obituary.clone() else { return };
        let place = job.course.standing.as_ref().map(|standing| standing.place);
        let letter = DeadLetter { ticket, payload: job.payload.clone(), obituary, place };
        match self.config.dead_letters {
            DeadLetters::Write(_) => {
                self.actions.push_back(Action::DeadLetter(letter));
                if mutant::is(Mutant::DoesNotAwaitDeadLetters) {
                    self.done(now, ticket);
                }
            }
            DeadLetters::Drop => {
                self.actions.push_back(Action::Dropped(letter));
                self.counters.dropped += 1;
                self.done(now, ticket);
            }
        }
    }

    fn buried(&mut self, now: Time, ticket: Ticket) {
        if in_work(&mut self.assignments, ticket).is_none_or(|job| job.course.obituary.is_none()) {
            self.counters.fenced += 1;
            return;
        }
        self.counters.dead_lettered += 1;
        self.unburied.remove(&(ticket.partition, ticket.offset));
        if let Some(assignment) = self.assignments.get_mut(&ticket.partition)
            && let Some(standing) = assignment.lanes.in_work(ticket.offset).and_then(|job| job.course.standing.take())
        {
            assignment.dead.add(standing.key, standing.place);
        }
        self.done(now, ticket);
        let assignment = self.assignments.get_mut(&ticket.partition);
        if let Some(assignment) = assignment.filter(|_| mutant::is(Mutant::NeverCommitsDeadLetters)) {
            assignment.ledger.deliver(ticket.offset);
        }
    }

    fn deferred(&mut self, now: Time, ticket: Ticket) {
        if in_work(&mut self.assignments, ticket).is_none_or(|job| job.course.deferral.is_none()) {
            self.counters.fenced += 1;
            return;
        }
        self.counters.deferred += 1;
        self.unburied.remove(&(ticket.partition, ticket.offset));
        self.done(now, ticket);
    }

    fn not_deferred(&mut self, now: Time, ticket: Ticket) {
        let backoff = self.config.retry;
        self.not_written(now, ticket, &backoff, |course| course.deferral.is_some());
    }

    fn not_buried(&mut self, now: Time, ticket: Ticket) {
        let DeadLetters::Write(backoff) = self.config.dead_letters else { return };
        self.not_written(now, ticket, &backoff, |course| course.obituary.is_some());
    }

    /// A letter or a deferral was not taken: it is written again later, and its lane waits.
    fn not_written(&mut self, now: Time, ticket: Ticket, backoff: &RetryPolicy, expected: fn(&Course) -> bool) {
        let Some(job) = in_work(&mut self.assignments, ticket).filter(|job| expected(&job.course)) else {
            self.counters.fenced += 1;
            return;
        };
        if mutant::is(Mutant::GivesUpOnRefusedLetters) {
            return self.done(now, ticket);
        }
        let wait = backoff.delay(job.course.writes_failed, &mut self.chance);
        job.course.writes_failed += 1;
        self.counters.dead_letter_failures += 1;
        self.unburied.insert((ticket.partition, ticket.offset));
        self.park(ticket, now + wait);
    }

    fn park(&mut self, ticket: Ticket, until: Time) {
        let Some(assignment) = self.assignments.get_mut(&ticket.partition) else { return };
        self.in_flight -= 1;
        if let Some(lane) = assignment.lanes.park(ticket.offset, until) {
            self.parked.insert((until, ticket.partition, ticket.epoch, lane));
        }
        if mutant::is(Mutant::CommitsOverRetries) {
            assignment.ledger.resolve(ticket.offset);
        }
        self.pause_or_resume(ticket.partition);
    }

    /// The record in work is resolved; the next of its lane may start.
    fn done(&mut self, now: Time, ticket: Ticket) {
        let Some(assignment) = self.assignments.get_mut(&ticket.partition) else { return };
        self.in_flight -= 1;
        if let Some(lane) = assignment.lanes.finish(ticket.offset, &self.config.limits) {
            self.ready.push_back((ticket.partition, ticket.epoch, lane));
        }
        self.resolve(now, ticket.partition, ticket.offset);
    }

    fn resolve(&mut self, now: Time, partition: Partition, offset: Offset) {
        let Some(assignment) = self.assignments.get_mut(&partition) else { return };
        assignment.ledger.resolve(offset);
        self.commits.resolved += 1;
        self.commits.due.get_or_insert(now + self.config.commit_interval);
        self.pause_or_resume(partition);
    }

    fn pause_or_resume(&mut self, partition: Partition) {
        let Some(assignment) = self.assignments.get_mut(&partition).filter(|assignment| assignment.leaving.is_none())
        else {
            return;
        };
        let (limits, span) = (&self.config.limits, assignment.ledger.span());
        if !assignment.paused && assignment.lanes.at_a_bound(limits, span) {
            assignment.paused = true;
            self.actions.push_back(Action::Pause(vec![partition]));
        } else if assignment.paused && assignment.lanes.has_room(limits, span) && !mutant::is(Mutant::NeverResumes) {
            assignment.paused = false;
            self.actions.push_back(Action::Resume(vec![partition]));
        }
    }

    // ── commits ─────────────────────────────────────────────────────────────────────────────────────────────────

    fn commit(&mut self, now: Time) {
        let due = self.commits.due.is_some_and(|due| due <= now) || self.commits.resolved >= self.config.commit_every;
        if !due || self.commits.under_way.is_some() {
            return;
        }
        self.commits.due = None;
        self.commits.resolved = 0;
        let mut positions = Vec::new();
        for (partition, assignment) in &mut self.assignments {
            // A leaving partition's last commit goes out with its release.
            let news = assignment.ledger.news_beyond().filter(|_| self.config.commit_finished);
            let position = assignment.ledger.commitable().or(news).filter(|_| assignment.leaving.is_none());
            if let Some(position) = position {
                assignment.ledger.sent(position);
                positions.push((*partition, assignment.epoch, position));
            }
        }
        if positions.is_empty() {
            return;
        }
        self.commits.issued += 1;
        let id = CommitId(self.commits.issued);
        let offsets = positions.iter().map(|(partition, _, position)| (*partition, *position)).collect();
        self.commits.under_way = Some((id, positions));
        self.actions.push_back(Action::Commit { id, offsets });
    }

    fn committed(&mut self, now: Time, id: CommitId, confirmed: bool) {
        let Some((_, positions)) = self.commits.under_way.take_if(|(under_way, _)| *under_way == id) else { return };
        for (partition, epoch, position) in positions {
            let assignment = self.assignments.get_mut(&partition);
            let Some(assignment) = assignment.filter(|assignment| assignment.epoch == epoch) else { continue };
            if confirmed {
                assignment.ledger.confirmed(position);
            } else {
                assignment.ledger.refused();
            }
        }
        if !confirmed {
            self.counters.commit_failures += 1;
            self.commits.due.get_or_insert(now + self.config.commit_interval);
        }
    }
}

impl<P> Assignment<P> {
    fn may_start(&self, offset: Offset) -> bool {
        self.leaving.is_none_or(|worth| worth.finishing(offset, self.lanes.lowest_parked()))
    }

    fn has_work_worth_finishing(&self) -> bool {
        self.lanes.any_startable(|offset| self.may_start(offset))
    }
}

/// Where a record stands in its key's sequence; one without a key stands in none.
fn standing(errand: &Errand, key: Option<&Bytes>, offset: Offset, past: Option<&Past>) -> Option<Box<Standing>> {
    let replays = past.and_then(|past| past.replays);
    let role = match (errand, replays) {
        (Errand::Absolve, Some(_)) => Role::Eviction,
        (Errand::Absolve, None) => return None,
        (_, Some(_)) => Role::Replay,
        (_, None) => Role::Original,
    };
    Some(Box::new(Standing { key: key?.clone(), place: replays.unwrap_or(offset), role }))
}

/// The record this ticket speaks of, if it is still the attempt in work under the same assignment.
fn in_work<P>(assignments: &mut BTreeMap<Partition, Assignment<P>>, ticket: Ticket) -> Option<&mut Job<P>> {
    let of_it = |epoch| epoch == ticket.epoch || mutant::is(Mutant::CountsLateCompletions);
    let assignment = assignments.get_mut(&ticket.partition).filter(|assignment| of_it(assignment.epoch))?;
    assignment.lanes.in_work(ticket.offset).filter(|job| job.course.attempts == ticket.attempt)
}

#[cfg(test)]
mod sequence_tests;
#[cfg(test)]
mod tests;
