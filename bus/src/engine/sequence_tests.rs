//! Sequences and retry topics against small worlds: a log, a dead-letter queue that grows and is replayed from, handlers
//! that fail as told, and members that die.

use super::*;
use crate::error::Disposition;
use crate::handler::SubscriptionId;
use proptest::prelude::*;
use std::collections::BTreeSet;

const ORDERS: Partition = Partition { topic: 0, index: 0 };

fn config() -> Config {
    let retry = RetryPolicy::exponential(Duration::from_millis(10), Duration::from_millis(10)).max_retries(1);
    let dead_letters = DeadLetters::Write(retry);
    Config { retry, dead_letters, sequences: true, commit_every: 1, commit_finished: false, ..Config::default() }
}

fn failed(verdict: Disposition) -> Outcome {
    let (name, error_type, message) = ("ship".into(), "Timeout".into(), "too late".into());
    Outcome::Failed(vec![HandlerFailure { handler: SubscriptionId(1), name, verdict, error_type, message }])
}

/// A record of the log.
#[derive(Debug, Clone, Copy)]
struct Entry {
    key: &'static str,
    place: Offset,
    role: Role,
}

#[derive(Debug)]
struct Letter {
    key: &'static str,
    place: Offset,
    resolved: Option<Resolved>,
}

#[derive(Debug, Clone, Copy)]
enum Resolved {
    /// By the replay at this offset.
    Replayed(Offset),
    /// Told at this offset.
    Evicted(Offset),
}

#[derive(Debug, Clone)]
enum Step {
    Publish {
        key: &'static str,
    },
    Read,
    Answer {
        which: usize,
        well: bool,
    },
    Commit,
    Replay {
        key: &'static str,
    },
    Evict {
        key: &'static str,
    },
    /// The member dies; of the letters it was writing, the first so many arrive all the same.
    Crash {
        letters: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = prop::sample::select(vec!["a", "b"]);
    let step = prop_oneof![
        5 => key.clone().prop_map(|key| Step::Publish { key }),
        8 => Just(Step::Read),
        9 => (any::<usize>(), prop::bool::weighted(0.7)).prop_map(|(which, well)| Step::Answer { which, well }),
        3 => Just(Step::Commit),
        3 => key.clone().prop_map(|key| Step::Replay { key }),
        1 => key.prop_map(|key| Step::Evict { key }),
        1 => (0..3_usize).prop_map(|letters| Step::Crash { letters }),
    ];
    prop::collection::vec(step, 0..150)
}

struct World {
    engine: Engine<Offset>,
    now: Time,
    log: Vec<Entry>,
    position: Offset,
    committed: Offset,
    commit: Option<(CommitId, Offset)>,
    under_way: Vec<Action<Offset>>,
    letters: Vec<Letter>,
    /// The places whose letters stand: neither evicted nor handled since.
    standing: BTreeSet<(&'static str, Offset)>,
    /// The places that were evicted. An eviction is of the event: a copy that a crash has delivered once more may leave
    /// another letter, which is in nobody's way.
    evicted: BTreeSet<(&'static str, Offset)>,
    /// The places in the order in which they were first handled.
    handled: Vec<(&'static str, Offset)>,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            engine: Engine::new(config(), 7),
            now: Time::default(),
            log: Vec::new(),
            position: 0,
            committed: 0,
            commit: None,
            under_way: Vec::new(),
            letters: Vec::new(),
            standing: BTreeSet::new(),
            evicted: BTreeSet::new(),
            handled: Vec::new(),
        };
        world.tell(Input::Assigned { partitions: vec![ORDERS] });
        world
    }

    fn append(&mut self, key: &'static str, place: Option<Offset>, role: Role) -> Offset {
        let offset = self.log.len() as Offset;
        self.log.push(Entry { key, place: place.unwrap_or(offset), role });
        offset
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Publish { key } => drop(self.append(key, None, Role::Original)),
            Step::Read => drop(self.read()),
            Step::Answer { which, well } if !self.under_way.is_empty() => {
                let attempt = self.under_way.remove(which % self.under_way.len());
                self.answer(attempt, well);
            }
            Step::Answer { .. } => {}
            Step::Commit => drop(self.confirm()),
            Step::Replay { key } => drop(self.replay(key)),
            Step::Evict { key } => {
                let found = self.letters.iter_mut().rfind(|letter| letter.key == key && letter.resolved.is_none());
                let Some(letter) = found else { return };
                letter.resolved = Some(Resolved::Evicted(self.log.len() as Offset));
                let place = letter.place;
                self.standing.remove(&(key, place));
                self.evicted.insert((key, place));
                self.append(key, Some(place), Role::Eviction);
            }
            Step::Crash { letters } => {
                let arriving = std::mem::take(&mut self.under_way).into_iter().filter_map(|action| match action {
                    Action::DeadLetter(letter) => Some(letter.payload),
                    _ => None,
                });
                for offset in arriving.take(letters).collect::<Vec<_>>() {
                    self.bury(offset);
                }
                (self.commit, self.position) = (None, self.committed);
                self.engine = Engine::new(config(), 7);
                self.tell(Input::Assigned { partitions: vec![ORDERS] });
            }
        }
    }

    fn read(&mut self) -> bool {
        let Some(entry) = self.log.get(self.position as usize).copied() else { return false };
        let past = Past { replays: Some(entry.place), ..Past::default() };
        let record = Delivered {
            errand: if entry.role == Role::Eviction { Errand::Absolve } else { Errand::Handle },
            past: (entry.role != Role::Original).then(|| Box::new(past)),
            ..Delivered::new(ORDERS, self.position, Some(entry.key.into()), self.position)
        };
        self.position += 1;
        self.tell(Input::Delivered(record));
        true
    }

    fn replay(&mut self, key: &'static str) -> bool {
        let unresolved = self.letters.iter_mut().filter(|letter| letter.key == key && letter.resolved.is_none());
        let Some(letter) = unresolved.min_by_key(|letter| letter.place) else { return false };
        letter.resolved = Some(Resolved::Replayed(self.log.len() as Offset));
        let place = letter.place;
        self.append(key, Some(place), Role::Replay);
        true
    }

    fn bury(&mut self, offset: Offset) {
        let Entry { key, place, .. } = self.log[offset as usize];
        self.letters.push(Letter { key, place, resolved: None });
        if !self.evicted.contains(&(key, place)) {
            self.standing.insert((key, place));
        }
    }

    fn answer(&mut self, attempt: Action<Offset>, well: bool) {
        match attempt {
            Action::Start(Start { ticket, payload, .. }) if well => {
                let Entry { key, place, .. } = self.log[payload as usize];
                self.standing.remove(&(key, place));
                if !self.handled.contains(&(key, place)) {
                    self.handled.push((key, place));
                }
                self.tell(Input::Finished { ticket, outcome: Outcome::Done });
            }
            Action::Start(Start { ticket, .. }) => {
                self.tell(Input::Finished { ticket, outcome: failed(Disposition::Fatal) });
            }
            Action::DeadLetter(letter) => {
                self.bury(letter.payload);
                self.tell(Input::DeadLetterAcked { ticket: letter.ticket });
            }
            other => panic!("not an attempt: {other:?}"),
        }
    }

    fn confirm(&mut self) -> bool {
        let Some((id, position)) = self.commit.take() else { return false };
        self.committed = position;
        self.tell(Input::CommitDone { id, confirmed: true });
        true
    }

    fn tell(&mut self, input: Input<Offset>) {
        self.engine.handle(self.now, input);
        while let Some(action) = self.engine.next_action() {
            match action {
                Action::Start(ref start) => {
                    self.check_turn(self.log[start.payload as usize]);
                    self.under_way.push(action);
                }
                Action::DeadLetter(_) => self.under_way.push(action),
                Action::Commit { id, offsets } => self.commit = Some((id, offsets[0].1)),
                Action::Recall { partition, epoch } => {
                    let (mut letters, mut evicted) = (Vec::new(), Vec::new());
                    for letter in &self.letters {
                        let name = (letter.key.into(), letter.place);
                        match letter.resolved {
                            Some(Resolved::Replayed(at) | Resolved::Evicted(at)) if at < self.committed => {}
                            Some(Resolved::Evicted(_)) => evicted.push(name),
                            _ => letters.push(name),
                        }
                    }
                    self.engine.handle(self.now, Input::Recalled { partition, epoch, letters, evicted });
                }
                other => panic!("nobody asked for {other:?}"),
            }
        }
    }

    /// No later event of a key is handled while an earlier one is dead.
    fn check_turn(&self, entry: Entry) {
        let earlier = self.standing.range((entry.key, 0)..(entry.key, entry.place)).next();
        assert_eq!(earlier, None, "{entry:?} is handled before it");
    }

    /// From now on everything succeeds, and all letters are replayed.
    fn come_to_rest(&mut self) {
        for _ in 0..10_000 {
            if let Some(attempt) = self.under_way.pop() {
                self.answer(attempt, true);
            } else if self.read() || self.confirm() {
            } else if let Some(wake) = self.engine.next_wake() {
                self.now = wake;
                self.tell(Input::Tick);
            } else if !self.replay("a") && !self.replay("b") {
                return;
            }
        }
        panic!("it never comes to rest: {:?}", self.engine.status());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn no_later_event_of_a_key_is_handled_while_an_earlier_one_is_dead(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        world.come_to_rest();
        for key in ["a", "b"] {
            let in_sequence = world.handled.iter().filter(|(of, _)| *of == key).filter(|at| !world.evicted.contains(at));
            let places: Vec<_> = in_sequence.map(|(_, place)| *place).collect();
            prop_assert!(places.is_sorted(), "{key} was handled in the order {places:?}");
        }
        let evicted = world.letters.iter().filter(|letter| matches!(letter.resolved, Some(Resolved::Evicted(_))));
        let evicted: BTreeSet<_> = evicted.map(|letter| (letter.key, letter.place)).collect();
        for entry in world.log.iter().filter(|entry| entry.role == Role::Original) {
            let at = (entry.key, entry.place);
            prop_assert!(world.handled.contains(&at) || evicted.contains(&at), "{entry:?} is lost");
        }
        prop_assert_eq!(world.engine.status(), Status { partitions: 1, ..Status::default() });
        prop_assert_eq!(world.committed, world.log.len() as Offset);
    }
}

#[test]
fn nothing_starts_before_it_is_known_which_keys_are_dead() {
    let mut engine = Engine::new(config(), 7);
    let now = Time::default();
    engine.handle(now, Input::Assigned { partitions: vec![ORDERS] });
    let Some(Action::Recall { partition, epoch }) = engine.next_action() else { panic!("it asks for the dead") };
    for (offset, key) in [(7, "dead"), (8, "alive")] {
        engine.handle(now, Input::Delivered(Delivered::new(ORDERS, offset, Some(key.into()), offset)));
    }
    assert_eq!(engine.next_action(), None);
    engine.handle(now, Input::Recalled { partition, epoch, letters: vec![("dead".into(), 3)], evicted: vec![] });
    let Some(Action::DeadLetter(letter)) = engine.next_action() else { panic!("the later one follows") };
    assert_eq!((letter.payload, letter.place, letter.obituary.cause), (7, Some(7), CauseOfDeath::Sequence));
    assert!(matches!(engine.next_action(), Some(Action::Start(start)) if start.payload == 8));
}

// ── retry topics ────────────────────────────────────────────────────────────────────────────────────────────────

const TIER: Partition = Partition { topic: 1, index: 0 };

fn by_topic() -> Engine<Offset> {
    let retry = config().retry.scope(RetryScope::Topic);
    let mut engine = Engine::new(Config { retry, sequences: false, ..config() }, 7);
    engine.handle(Time::default(), Input::Assigned { partitions: vec![ORDERS, TIER] });
    engine
}

fn deferred(engine: &mut Engine<Offset>, now: Time) -> Deferral<Offset> {
    let Some(Action::Start(start)) = engine.next_action() else { panic!("it starts") };
    engine.handle(now, Input::Finished { ticket: start.ticket, outcome: failed(Disposition::Retry) });
    let Some(Action::Defer(deferral)) = engine.next_action() else { panic!("it is written to a retry topic") };
    deferral
}

#[test]
fn a_deferred_record_is_resolved_when_its_copy_is_acknowledged_and_then_holds_up_nobody() {
    let (mut engine, now) = (by_topic(), Time::default());
    for offset in [0, 1] {
        engine.handle(now, Input::Delivered(Delivered::new(ORDERS, offset, Some("a".into()), offset)));
    }
    let deferral = deferred(&mut engine, now);
    assert_eq!(engine.next_action(), None, "its successor waits for the acknowledgement");
    engine.handle(now, Input::DeferralFailed { ticket: deferral.ticket });
    assert_eq!((engine.next_action(), engine.status().is_degraded()), (None, true));
    let later = engine.next_wake().unwrap();
    engine.handle(later, Input::Tick);
    assert_eq!(engine.next_action(), Some(Action::Defer(deferral.clone())));
    engine.handle(later, Input::Deferred { ticket: deferral.ticket });
    let actions: Vec<_> = std::iter::from_fn(|| engine.next_action()).collect();
    assert!(
        matches!(&actions[..], [Action::Start(next), Action::Commit { offsets, .. }]
        if next.payload == 1 && *offsets == [(ORDERS, 1)]),
        "{actions:?}"
    );
    assert_eq!((engine.counters().deferred, engine.status().is_degraded()), (1, false));
}

#[test]
fn a_record_from_a_retry_topic_waits_until_it_is_due_and_goes_on_where_it_was() {
    let (mut engine, now) = (by_topic(), Time::from_millis(1_000));
    engine.handle(now, Input::Delivered(Delivered::new(ORDERS, 0, Some("a".into()), 0)));
    let deferral = deferred(&mut engine, now);
    engine.handle(now, Input::Deferred { ticket: deferral.ticket });
    while engine.next_action().is_some() {}

    let due = deferral.past.not_before.unwrap();
    assert!(due > now);
    let past = Some(Box::new((*deferral.past).clone()));
    engine.handle(now, Input::Delivered(Delivered { past, ..Delivered::new(TIER, 0, Some("a".into()), 0) }));
    engine.handle(now, Input::Delivered(Delivered::new(ORDERS, 1, Some("a".into()), 1)));
    assert!(matches!(engine.next_action(), Some(Action::Start(start)) if start.payload == 1), "it waits for nobody");
    engine.handle(due, Input::Tick);
    let actions: Vec<_> = std::iter::from_fn(|| engine.next_action()).collect();
    let starts = actions.iter().find_map(|action| match action {
        Action::Start(start) => Some(start),
        _ => None,
    });
    let start = starts.expect("it is due");
    assert_eq!((start.ticket.partition, start.ticket.attempt), (TIER, 2));
    assert_eq!(start.only_handlers, Some([SubscriptionId(1)].into()));
    engine.handle(due, Input::Finished { ticket: start.ticket, outcome: failed(Disposition::Retry) });
    let letters = std::iter::from_fn(|| engine.next_action()).find_map(|action| match action {
        Action::DeadLetter(letter) => Some(letter),
        _ => None,
    });
    let obituary = letters.expect("one retry was all").obituary;
    assert_eq!((obituary.cause, obituary.attempts), (CauseOfDeath::Exhausted, 2));
    assert_eq!(obituary.first_failed, now);
}

#[derive(Debug, Clone)]
enum Turn {
    Read {
        tier: bool,
    },
    Answer {
        which: usize,
        well: bool,
    },
    Commit,
    Wake,
    /// The member dies; of the copies it was writing, the first so many arrive all the same.
    Crash {
        copies: usize,
    },
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = prop_oneof![
        6 => any::<bool>().prop_map(|tier| Turn::Read { tier }),
        9 => (any::<usize>(), any::<bool>()).prop_map(|(which, well)| Turn::Answer { which, well }),
        3 => Just(Turn::Commit),
        2 => Just(Turn::Wake),
        1 => (0..3_usize).prop_map(|copies| Turn::Crash { copies }),
    ];
    prop::collection::vec(turn, 0..120)
}

/// Records of a main topic and what was written to its retry topic, each naming the record it is a copy of.
struct Tiers {
    engine: Engine<Offset>,
    now: Time,
    logs: [Vec<(Offset, Past)>; 2],
    position: [usize; 2],
    committed: [usize; 2],
    commit: Option<(CommitId, Vec<(Partition, Offset)>)>,
    under_way: Vec<Action<Offset>>,
    handled: BTreeSet<Offset>,
    dead: BTreeSet<Offset>,
}

impl Tiers {
    const RECORDS: Offset = 8;

    fn new() -> Self {
        let main = (0..Self::RECORDS).map(|record| (record, Past::default())).collect();
        let (now, logs) = (Time::default(), [main, Vec::new()]);
        Self {
            engine: by_topic(),
            now,
            logs,
            position: [0; 2],
            committed: [0; 2],
            commit: None,
            under_way: Vec::new(),
            handled: BTreeSet::new(),
            dead: BTreeSet::new(),
        }
    }

    fn take(&mut self, turn: &Turn) -> bool {
        match *turn {
            Turn::Read { tier } => {
                let topic = usize::from(tier);
                let Some((record, past)) = self.logs[topic].get(self.position[topic]).cloned() else { return false };
                let partition = if tier { TIER } else { ORDERS };
                let key = if record % 2 == 0 { "a" } else { "b" };
                let delivered = Delivered {
                    past: tier.then(|| Box::new(past)),
                    ..Delivered::new(partition, self.position[topic] as Offset, Some(key.into()), record)
                };
                self.position[topic] += 1;
                self.tell(Input::Delivered(delivered));
            }
            Turn::Answer { which, well } if !self.under_way.is_empty() => {
                let attempt = self.under_way.remove(which % self.under_way.len());
                self.answer(&attempt, well);
            }
            Turn::Answer { .. } => return false,
            Turn::Commit => {
                let Some((id, offsets)) = self.commit.take() else { return false };
                for (partition, offset) in offsets {
                    self.committed[partition.topic as usize] = offset as usize;
                }
                self.tell(Input::CommitDone { id, confirmed: true });
            }
            Turn::Wake => {
                let Some(wake) = self.engine.next_wake() else { return false };
                self.now = self.now.max(wake);
                self.tell(Input::Tick);
            }
            Turn::Crash { copies } => {
                let writing = std::mem::take(&mut self.under_way).into_iter();
                for action in writing.filter(|action| matches!(action, Action::Defer(_))).take(copies) {
                    self.write(&action);
                }
                (self.commit, self.position, self.engine) = (None, self.committed, by_topic());
            }
        }
        true
    }

    fn write(&mut self, copy: &Action<Offset>) {
        match copy {
            Action::Defer(deferral) => self.logs[1].push((deferral.payload, (*deferral.past).clone())),
            Action::DeadLetter(letter) => drop(self.dead.insert(letter.payload)),
            other => panic!("no copy: {other:?}"),
        }
    }

    fn answer(&mut self, attempt: &Action<Offset>, well: bool) {
        let input = match attempt {
            Action::Start(Start { ticket, payload, .. }) => {
                assert!(ticket.attempt <= 2, "tried more often than the policy says");
                self.handled.extend(well.then_some(*payload));
                let outcome = if well { Outcome::Done } else { failed(Disposition::Retry) };
                Input::Finished { ticket: *ticket, outcome }
            }
            Action::Defer(Deferral { ticket, .. }) if !well => Input::DeferralFailed { ticket: *ticket },
            Action::DeadLetter(DeadLetter { ticket, .. }) if !well => Input::DeadLetterFailed { ticket: *ticket },
            Action::Defer(Deferral { ticket, .. }) => {
                self.write(attempt);
                Input::Deferred { ticket: *ticket }
            }
            Action::DeadLetter(DeadLetter { ticket, .. }) => {
                self.write(attempt);
                Input::DeadLetterAcked { ticket: *ticket }
            }
            other => panic!("not an attempt: {other:?}"),
        };
        self.tell(input);
    }

    fn tell(&mut self, input: Input<Offset>) {
        self.engine.handle(self.now, input);
        while let Some(action) = self.engine.next_action() {
            match action {
                Action::Commit { id, offsets } => self.commit = Some((id, offsets)),
                action => self.under_way.push(action),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_on_its_way_through_a_retry_topic(turns in turns()) {
        let mut world = Tiers::new();
        for turn in &turns {
            world.take(turn);
        }
        let rest = [
            Turn::Answer { which: 0, well: true },
            Turn::Read { tier: false },
            Turn::Read { tier: true },
            Turn::Commit,
            Turn::Wake,
        ];
        for _ in 0..5_000 {
            if !rest.iter().any(|turn| world.take(turn)) {
                break;
            }
        }
        let ended: BTreeSet<_> = world.handled.union(&world.dead).copied().collect();
        prop_assert_eq!(ended, (0..Tiers::RECORDS).collect());
        prop_assert_eq!(world.committed, [world.logs[0].len(), world.logs[1].len()]);
        prop_assert_eq!(world.engine.status(), Status { partitions: 2, ..Status::default() });
    }
}
