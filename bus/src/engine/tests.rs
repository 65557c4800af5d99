//! The engine against small worlds: a log, a group that remembers commits, handlers and a dead-letter queue that fail
//! as told.

use super::*;
use crate::error::Disposition;
use crate::handler::SubscriptionId;
use crate::retry::RetryScope;
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeSet;

const ORDERS: Partition = Partition { topic: 0, index: 0 };

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A driver that carries out nothing by itself: the tests say when handlers and brokers answer.
struct Driver {
    engine: Engine<Offset>,
    now: Time,
}

impl Driver {
    fn new(config: Config) -> Self {
        let mut driver = Self { engine: Engine::new(config, 7), now: Time::default() };
        driver.engine.handle(driver.now, Input::Assigned { partitions: vec![ORDERS] });
        driver
    }

    fn tell(&mut self, input: Input<Offset>) -> Vec<Action<Offset>> {
        self.engine.handle(self.now, input);
        std::iter::from_fn(|| self.engine.next_action()).collect()
    }

    fn deliver(&mut self, offset: Offset, key: &'static str) -> Vec<Action<Offset>> {
        self.tell(Input::Delivered(Delivered::new(ORDERS, offset, Some(key.into()), offset)))
    }

    fn finish(&mut self, start: &Start<Offset>, outcome: Outcome) -> Vec<Action<Offset>> {
        self.tell(Input::Finished { ticket: start.ticket, outcome })
    }

    fn wake(&mut self) -> Vec<Action<Offset>> {
        self.now = self.engine.next_wake().expect("something is due");
        self.tell(Input::Tick)
    }
}

fn started(actions: &[Action<Offset>]) -> Start<Offset> {
    match actions {
        [Action::Start(start)] => start.clone(),
        other => panic!("one start expected: {other:?}"),
    }
}

fn failed(verdict: Disposition) -> Outcome {
    let (name, error_type, message) = ("ship".into(), "Timeout".into(), "too late".into());
    Outcome::Failed(vec![HandlerFailure { handler: SubscriptionId(1), name, verdict, error_type, message }])
}

fn poison() -> Errand {
    Errand::Bury { error_type: "Json".into(), message: "eof".into() }
}

#[test]
fn a_failing_key_waits_alone() {
    let mut driver = Driver::new(Config::default());
    let first = started(&driver.deliver(0, "a"));
    assert_eq!(driver.deliver(1, "a"), []);
    assert_eq!(driver.finish(&first, failed(Disposition::Retry)), []);
    let other = started(&driver.deliver(2, "b"));
    assert_eq!(other.payload, 2);
    driver.finish(&other, Outcome::Done);

    while driver.engine.status().parked > 0 {
        let actions = driver.wake();
        if let Some(Action::Start(again)) = actions.iter().find(|action| matches!(action, Action::Start(_))) {
            assert_eq!((again.payload, again.ticket.attempt), (0, 2));
            assert_eq!(again.only_handlers, Some([SubscriptionId(1)].into()));
            assert_eq!(started(&driver.finish(&again.clone(), Outcome::Done)).payload, 1);
        }
    }
    assert_eq!(driver.engine.counters().retries, 1);
}

#[test]
fn a_record_is_resolved_only_when_its_letter_is_acknowledged() {
    let mut driver = Driver::new(Config { commit_every: 1, ..Config::default() });
    let start = started(&driver.deliver(0, "a"));
    let letter = driver.finish(&start, failed(Disposition::Fatal));
    let [Action::DeadLetter(letter)] = letter.as_slice() else { panic!("a letter expected: {letter:?}") };
    assert_eq!(driver.tell(Input::DeadLetterFailed { ticket: letter.ticket }), []);
    assert!(driver.engine.status().is_degraded());

    let again = driver.wake();
    assert_eq!(again, [Action::DeadLetter(letter.clone())]);
    let committed = driver.tell(Input::DeadLetterAcked { ticket: letter.ticket });
    assert!(matches!(&committed[..], [Action::Commit { offsets, .. }] if offsets == &[(ORDERS, 1)]));
    assert!(!driver.engine.status().is_degraded());
}

#[test]
fn without_a_dead_letter_queue_a_drop_is_said_and_counted() {
    let mut driver = Driver::new(Config { dead_letters: DeadLetters::Drop, ..Config::default() });
    let bad = Delivered { errand: poison(), ..Delivered::new(ORDERS, 0, Some("a".into()), 0) };
    assert!(matches!(&driver.tell(Input::Delivered(bad))[..], [Action::Dropped(_)]));
    assert_eq!(started(&driver.deliver(1, "a")).payload, 1);
    assert_eq!(driver.engine.counters().dropped, 1);
}

#[test]
fn a_poisoned_record_waits_for_its_turn() {
    let mut driver = Driver::new(Config::default());
    let first = started(&driver.deliver(0, "a"));
    let bad = Delivered { errand: poison(), ..Delivered::new(ORDERS, 1, Some("a".into()), 1) };
    assert_eq!(driver.tell(Input::Delivered(bad)), []);
    assert!(matches!(&driver.finish(&first, Outcome::Done)[..], [Action::DeadLetter(_)]));
}

#[test]
fn records_without_a_key_do_not_wait_for_each_other_unless_the_partition_is_one_lane() {
    let unkeyed = |offset| Input::Delivered(Delivered::new(ORDERS, offset, None, offset));
    let mut driver = Driver::new(Config::default());
    assert_eq!((driver.tell(unkeyed(0)).len(), driver.tell(unkeyed(1)).len()), (1, 1));
    let mut driver =
        Driver::new(Config { retry: RetryPolicy::default().scope(RetryScope::Partition), ..Config::default() });
    assert_eq!((driver.tell(unkeyed(0)).len(), driver.tell(unkeyed(1)).len()), (1, 0));
}

#[test]
fn fetching_pauses_at_a_bound_and_resumes_at_four_fifths() {
    let limits = Limits { partition_records_max: 5, ..Limits::default() };
    let mut driver = Driver::new(Config { limits, ..Config::default() });
    let starts: Vec<_> =
        ["a", "b", "c", "d"].iter().zip(0..).map(|(key, at)| started(&driver.deliver(at, key))).collect();
    assert!(driver.deliver(4, "e").contains(&Action::Pause(vec![ORDERS])));
    assert_eq!(driver.finish(&starts[0], Outcome::Done), [Action::Resume(vec![ORDERS])]);
}

#[test]
fn no_more_handlers_run_than_allowed() {
    let limits = Limits { in_flight_max: 2, ..Limits::default() };
    let mut driver = Driver::new(Config { limits, ..Config::default() });
    let first = started(&driver.deliver(0, "a"));
    started(&driver.deliver(1, "b"));
    assert_eq!(driver.deliver(2, "c"), []);
    assert_eq!(started(&driver.finish(&first, Outcome::Done)).payload, 2);
}

#[test]
fn a_record_nobody_may_pass_halts_and_is_never_committed() {
    let mut driver = Driver::new(Config { commit_every: 1, ..Config::default() });
    let halt = Errand::Halt { reason: "unknown type".into() };
    let actions = driver.tell(Input::Delivered(Delivered { errand: halt, ..Delivered::new(ORDERS, 0, None, 0) }));
    assert!(matches!(&actions[..], [Action::Halt { offset: 0, .. }]));
    let next = started(&driver.deliver(1, "a"));
    let actions = driver.finish(&next, Outcome::Done);
    assert!(matches!(&actions[..], [Action::Commit { offsets, .. }] if offsets == &[(ORDERS, 0)]), "{actions:?}");
    assert_eq!(driver.engine.finished_beyond(ORDERS), [(1, 1)]);
}

#[test]
fn a_drain_finishes_what_lies_below_finished_records_and_drops_the_rest() {
    let mut driver = Driver::new(Config::default());
    let a0 = started(&driver.deliver(0, "a"));
    driver.deliver(1, "a");
    let b2 = started(&driver.deliver(2, "b"));
    driver.deliver(3, "b");
    driver.finish(&b2, failed(Disposition::Fatal)); // offset 3 still waits behind the letter of offset 2
    let deadline = driver.now + millis(1_000);
    assert_eq!(driver.tell(Input::Revoking { partitions: vec![ORDERS], deadline }), [Action::Pause(vec![ORDERS])]);
    assert_eq!(driver.tell(Input::DeadLetterAcked { ticket: b2.ticket }), []);
    let a1 = started(&driver.finish(&a0, Outcome::Done));
    let release = driver.finish(&a1, Outcome::Done);
    let expected = Release {
        why: Farewell::Revoked,
        partitions: vec![ORDERS],
        commit: vec![(ORDERS, 3)],
        finished: vec![],
        abandoned: 0,
    };
    assert_eq!(release, [Action::Release(expected)]);
}

#[test]
fn at_the_deadline_work_is_cut_off_and_its_report_fenced() {
    let mut driver = Driver::new(Config::default());
    let slow = started(&driver.deliver(0, "a"));
    let deadline = driver.now + millis(1_000);
    driver.tell(Input::Revoking { partitions: vec![ORDERS], deadline });
    let actions = driver.wake();
    assert_eq!(actions[0], Action::Abandon(slow.ticket));
    assert!(matches!(&actions[1], Action::Release(release) if release.commit.is_empty() && release.abandoned == 1));
    driver.tell(Input::Assigned { partitions: vec![ORDERS] });
    started(&driver.deliver(0, "a"));
    assert_eq!(driver.finish(&slow, Outcome::Done), []);
    assert_eq!((driver.engine.counters().fenced, driver.engine.status().in_flight), (1, 1));
}

#[test]
fn a_flood_of_dead_letters_is_stopped_and_what_would_have_been_buried_is_tried_again() {
    let breaker = FloodBreaker { share: 0.5, window: 4, pause: millis(60_000) };
    let mut driver = Driver::new(Config { flood_breaker: Some(breaker), ..Config::default() });
    let keys = ["a", "b", "c", "d"];
    let starts: Vec<_> = keys.iter().zip(0..).map(|(key, at)| started(&driver.deliver(at, key))).collect();
    driver.finish(&starts[0], Outcome::Done);
    for start in &starts[1..3] {
        assert!(matches!(&driver.finish(start, failed(Disposition::Fatal))[..], [Action::DeadLetter(_)]));
    }
    assert_eq!(driver.finish(&starts[3], failed(Disposition::Fatal)), [], "three of the last four");
    assert_eq!(driver.deliver(4, "e"), []);
    let status = driver.engine.status();
    assert!(status.flooded && status.is_degraded());
    assert_eq!((status.parked, driver.engine.counters().floods), (1, 1));

    driver.now = driver.now + breaker.pause;
    let actions = driver.tell(Input::Tick);
    let again = actions.iter().filter_map(|action| match action {
        Action::Start(start) => Some((start.payload, start.ticket.attempt, start.only_handlers.clone())),
        _ => None,
    });
    let again: BTreeSet<_> = again.collect();
    assert_eq!(again, [(3, 2, Some([SubscriptionId(1)].into())), (4, 1, None)].into());
    assert!(!driver.engine.status().flooded);
}

#[test]
fn a_stop_does_not_wait_for_the_end_of_a_flood() {
    let breaker = FloodBreaker { share: 0.0, window: 1, pause: millis(60_000) };
    let mut driver = Driver::new(Config { flood_breaker: Some(breaker), ..Config::default() });
    let start = started(&driver.deliver(0, "a"));
    driver.deliver(1, "a");
    driver.finish(&start, failed(Disposition::Fatal));
    let deadline = driver.now + millis(1_000);
    let actions = driver.tell(Input::Stop { deadline });
    assert!(matches!(&actions[..], [Action::Pause(_), Action::Release(_), Action::Stopped]), "{actions:?}");
}

#[test]
fn lost_partitions_are_not_committed() {
    let mut driver = Driver::new(Config::default());
    let start = started(&driver.deliver(0, "a"));
    driver.finish(&start, Outcome::Done);
    let actions = driver.tell(Input::Lost { partitions: vec![ORDERS] });
    assert!(matches!(&actions[..], [Action::Release(release)] if release.commit.is_empty()));
    driver.wake();
    assert_eq!(driver.engine.next_wake(), None);
}

#[test]
fn a_stop_does_not_wait_for_parked_keys() {
    let mut driver = Driver::new(Config::default());
    let start = started(&driver.deliver(0, "a"));
    driver.finish(&start, failed(Disposition::Retry));
    let deadline = driver.now + millis(60_000);
    let actions = driver.tell(Input::Stop { deadline });
    assert!(matches!(&actions[..], [Action::Pause(_), Action::Release(_), Action::Stopped]), "{actions:?}");
}

#[test]
fn a_release_waits_for_the_commit_under_way() {
    let mut driver = Driver::new(Config { commit_every: 1, ..Config::default() });
    let start = started(&driver.deliver(0, "a"));
    let actions = driver.finish(&start, Outcome::Done);
    let [Action::Commit { id, .. }] = actions[..] else { panic!("a commit expected: {actions:?}") };
    let deadline = driver.now + millis(1_000);
    assert_eq!(driver.tell(Input::Revoking { partitions: vec![ORDERS], deadline }).len(), 1);
    let actions = driver.tell(Input::CommitDone { id, confirmed: false });
    assert!(matches!(&actions[..], [Action::Release(release)] if release.commit == [(ORDERS, 1)]));
}

// ── any schedule ────────────────────────────────────────────────────────────────────────────────────────────────

#[derive(Debug, Clone)]
enum Step {
    /// The next record of the log is read.
    Read,
    /// One of the attempts under way ends.
    Answer { which: usize, how: How },
    /// Time passes.
    Wait(u64),
    /// The commit under way is answered.
    Commit { confirmed: bool },
    /// The partition goes, by a drain until a deadline, and comes back to where it was committed.
    Rebalance { patience: u64 },
    /// An attempt that was cut off reports.
    LateReport,
    /// The partition is lost and comes back.
    Lose,
    /// The process dies and another one takes over.
    Crash,
}

#[derive(Debug, Clone, Copy)]
enum How {
    Done,
    Retry,
    Fatal,
    Poison,
    /// For a letter under way: the dead-letter queue refuses it. For a handler: as `Retry`.
    Refused,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let how = prop_oneof![
        6 => Just(How::Done), 3 => Just(How::Retry), 1 => Just(How::Fatal), 1 => Just(How::Poison), 2 => Just(How::Refused)
    ];
    let step = prop_oneof![
        10 => Just(Step::Read),
        10 => (any::<usize>(), how).prop_map(|(which, how)| Step::Answer { which, how }),
        4 => (0..400_u64).prop_map(Step::Wait),
        4 => any::<bool>().prop_map(|confirmed| Step::Commit { confirmed }),
        1 => (0..2_000_u64).prop_map(|patience| Step::Rebalance { patience }),
        3 => Just(Step::LateReport),
        1 => Just(Step::Lose),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 0..200)
}

/// One partition of 60 records and five keys, with holes, and the group reading it.
struct World {
    driver: Driver,
    config: Config,
    log: Vec<(Offset, Option<&'static str>, Errand)>,
    position: usize,
    committed: Offset,
    /// The position at which the present assignment began.
    began: Offset,
    under_way: Vec<Action<Offset>>,
    /// Attempts that were cut off, and report nevertheless, late.
    cut_off: Vec<Ticket>,
    commit: Option<(CommitId, Offset)>,
    /// Resolved at any time, and under the present assignment.
    resolved: BTreeSet<Offset>,
    resolved_now: BTreeSet<Offset>,
    letters: BTreeSet<Offset>,
    owned: bool,
    /// Something had to be tried again under the present assignment, so a lane may be parked.
    stumbled: bool,
}

impl World {
    fn new(config: Config) -> Self {
        let keys = [Some("a"), Some("b"), Some("c"), Some("a"), None];
        let log = (0..60).map(|n| {
            let errand = match n % 13 {
                5 => Errand::Skip,
                9 => poison(),
                _ => Errand::Handle,
            };
            (n * 3 + n / 7, keys[n as usize % keys.len()], errand)
        });
        Self {
            driver: Driver::new(config),
            config,
            log: log.collect(),
            position: 0,
            committed: 0,
            began: 0,
            under_way: Vec::new(),
            cut_off: Vec::new(),
            commit: None,
            resolved: BTreeSet::new(),
            resolved_now: BTreeSet::new(),
            letters: BTreeSet::new(),
            owned: true,
            stumbled: false,
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Read => self.read(),
            Step::Answer { which, how } if !self.under_way.is_empty() => {
                let attempt = self.under_way.remove(which % self.under_way.len());
                self.answer(&attempt, *how);
            }
            Step::Answer { .. } => {}
            Step::Wait(passed) => {
                self.driver.now = self.driver.now + millis(*passed);
                self.tell(Input::Tick);
            }
            Step::Commit { confirmed } => self.answer_commit(*confirmed),
            Step::Rebalance { patience } => {
                let deadline = self.driver.now + millis(*patience);
                self.tell(Input::Revoking { partitions: vec![ORDERS], deadline });
                while self.owned {
                    match (self.under_way.pop(), self.commit.is_some()) {
                        (_, true) => self.answer_commit(true),
                        (Some(attempt), _) if *patience > 500 => self.answer(&attempt, How::Done),
                        _ => {
                            let actions = self.driver.wake();
                            self.carry_out(actions);
                        }
                    }
                }
                self.come_back();
            }
            Step::LateReport => self.report_late(),
            Step::Lose => {
                self.tell(Input::Lost { partitions: vec![ORDERS] });
                assert!(!self.owned);
                self.come_back();
            }
            Step::Crash => {
                let now = self.driver.now;
                self.driver = Driver { now, ..Driver::new(self.config) };
                // Its reports die with it.
                self.cut_off.clear();
                self.come_back();
            }
        }
    }

    fn read(&mut self) {
        let Some((offset, key, errand)) = self.log.get(self.position).cloned() else { return };
        self.position += 1;
        if errand == Errand::Skip {
            self.resolved.insert(offset);
            self.resolved_now.insert(offset);
        }
        let delivered = Delivered { errand, ..Delivered::new(ORDERS, offset, key.map(Bytes::from), offset) };
        self.tell(Input::Delivered(delivered));
    }

    fn answer(&mut self, attempt: &Action<Offset>, how: How) {
        self.stumbled |= matches!(how, How::Retry | How::Refused);
        let (ticket, input) = match (attempt, how) {
            (Action::DeadLetter(letter), How::Refused) => {
                (letter.ticket, Input::DeadLetterFailed { ticket: letter.ticket })
            }
            (Action::DeadLetter(letter), _) => {
                self.letters.insert(letter.payload);
                self.note_resolved(letter.payload);
                (letter.ticket, Input::DeadLetterAcked { ticket: letter.ticket })
            }
            (Action::Start(start), how) => {
                let outcome = match how {
                    How::Done => Outcome::Done,
                    How::Retry | How::Refused => failed(Disposition::Retry),
                    How::Fatal => failed(Disposition::Fatal),
                    How::Poison => Outcome::Poison { error_type: "Json".into(), message: "eof".into() },
                };
                if matches!(how, How::Done) {
                    self.note_resolved(start.payload);
                }
                (start.ticket, Input::Finished { ticket: start.ticket, outcome })
            }
            other => panic!("not an attempt: {other:?}"),
        };
        assert_eq!(ticket.partition, ORDERS);
        self.tell(input);
    }

    fn note_resolved(&mut self, offset: Offset) {
        self.resolved.insert(offset);
        self.resolved_now.insert(offset);
    }

    fn answer_commit(&mut self, confirmed: bool) {
        let Some((id, position)) = self.commit.take() else { return };
        if confirmed {
            self.group_commits(position);
        }
        self.tell(Input::CommitDone { id, confirmed });
    }

    /// Committed ≤ everything unresolved, and never backwards.
    fn group_commits(&mut self, position: Offset) {
        assert!(position >= self.committed, "the commit went back from {} to {position}", self.committed);
        let below = self.log.iter().map(|(offset, ..)| *offset).filter(|offset| *offset < position);
        for offset in below {
            assert!(self.resolved.contains(&offset), "{position} committed past unresolved {offset}");
        }
        self.committed = position;
    }

    fn tell(&mut self, input: Input<Offset>) {
        let actions = self.driver.tell(input);
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Vec<Action<Offset>>) {
        for action in actions {
            match action {
                Action::Start(ref start) => {
                    self.check_turn(start.payload);
                    self.under_way.push(action);
                }
                Action::DeadLetter(ref letter) => {
                    self.check_turn(letter.payload);
                    self.under_way.push(action);
                }
                Action::Commit { id, offsets } => {
                    assert!(self.commit.is_none(), "two commits under way");
                    self.commit = Some((id, offsets[0].1));
                }
                Action::Release(release) => {
                    self.owned = false;
                    if let [(_, position)] = release.commit[..] {
                        self.group_commits(position);
                    }
                    if release.why == Farewell::Revoked && release.abandoned == 0 && !self.stumbled {
                        let again = self.resolved_now.iter().filter(|offset| !self.is_skip(**offset));
                        let again: Vec<_> = again.filter(|offset| **offset >= self.committed).collect();
                        assert!(again.is_empty(), "handled again after a clean drain: {again:?}");
                    }
                }
                Action::Abandon(ticket) => {
                    self.cut_off.push(ticket);
                    self.under_way.retain(|attempt| match attempt {
                        Action::Start(start) => start.ticket != ticket,
                        Action::DeadLetter(letter) => letter.ticket != ticket,
                        _ => true,
                    });
                }
                Action::Pause(_) | Action::Resume(_) => {}
                other => panic!("nobody asked for {other:?}"),
            }
        }
    }

    fn is_skip(&self, offset: Offset) -> bool {
        self.log.iter().any(|(at, _, errand)| *at == offset && *errand == Errand::Skip)
    }

    /// When a record's turn comes, every earlier one of its key is resolved and none is in work.
    fn check_turn(&self, offset: Offset) {
        let whole = self.config.retry.scope == RetryScope::Partition;
        let named = |key: Option<&'static str>| if whole { Some("the partition") } else { key };
        let key = |at: Offset| named(self.log.iter().find(|(other, ..)| *other == at).and_then(|(_, key, _)| *key));
        let Some(own) = key(offset) else { return };
        for (earlier, other, _) in self.log.iter().filter(|(at, ..)| (self.began..offset).contains(at)) {
            if named(*other) == Some(own) {
                assert!(self.resolved_now.contains(earlier), "{offset} started before {earlier} was resolved");
            }
        }
        let working = self.under_way.iter().map(|attempt| match attempt {
            Action::Start(start) => start.payload,
            Action::DeadLetter(letter) => letter.payload,
            other => panic!("not an attempt: {other:?}"),
        });
        assert!(working.into_iter().all(|at| key(at) != Some(own)), "two records of {own} in work");
    }

    fn come_back(&mut self) {
        if let Some((id, position)) = self.commit.take() {
            // The answer comes when the partition is somebody else's: at worst it was confirmed.
            if position >= self.committed {
                self.group_commits(position);
            }
            self.tell(Input::CommitDone { id, confirmed: true });
        }
        self.under_way.clear();
        self.stumbled = false;
        self.resolved_now.clear();
        self.began = self.committed;
        self.position = self.log.partition_point(|(offset, ..)| *offset < self.committed);
        self.tell(Input::Assigned { partitions: vec![ORDERS] });
        self.owned = true;
    }

    /// A report that was overtaken by a rebalance: by now its record may be in work again.
    fn report_late(&mut self) {
        if let Some(ticket) = self.cut_off.pop() {
            self.tell(Input::Finished { ticket, outcome: Outcome::Done });
            self.tell(Input::DeadLetterAcked { ticket });
        }
    }

    /// From now on everything succeeds.
    fn come_to_rest(&mut self) {
        for _ in 0..5_000 {
            if self.position < self.log.len() {
                self.read();
            } else if let Some(attempt) = self.under_way.pop() {
                self.answer(&attempt, How::Done);
            } else if self.commit.is_some() {
                self.answer_commit(true);
            } else if self.driver.engine.next_wake().is_some() {
                let actions = self.driver.wake();
                self.carry_out(actions);
            } else {
                return;
            }
        }
        panic!("it never comes to rest: {:?}", self.driver.engine.status());
    }
}

fn quick(limits: Limits) -> Config {
    let retry = RetryPolicy::exponential(millis(50), millis(500)).jitter(0.2).max_retries(2);
    Config {
        retry,
        dead_letters: DeadLetters::Write(retry),
        commit_interval: millis(100),
        commit_every: 7,
        limits,
        ..Config::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn order_commits_and_completeness_hold_under_any_schedule(steps in steps(), strict: bool) {
        let limits = Limits { in_flight_max: 4, partition_records_max: 12, lane_records_max: 6, ..Limits::default() };
        let mut config = quick(limits);
        config.retry.scope = if strict { RetryScope::Partition } else { RetryScope::Key };
        let mut world = World::new(config);
        for step in &steps {
            world.take(step);
        }
        world.come_to_rest();
        let all: BTreeSet<_> = world.log.iter().map(|(offset, ..)| *offset).collect();
        prop_assert_eq!(&world.resolved, &all);
        prop_assert_eq!(world.committed, world.log.last().unwrap().0 + 1);
        prop_assert_eq!(world.driver.engine.status(), Status { partitions: 1, ..Status::default() });
    }

    #[test]
    fn while_the_dead_letter_queue_is_down_nothing_passes_a_dead_record(refusals in 1..30_usize) {
        let mut world = World::new(quick(Limits::default()));
        while world.position < world.log.len() {
            world.read();
        }
        let mut refused = 0;
        while refused < refusals {
            let letters = world.under_way.iter().position(|attempt| matches!(attempt, Action::DeadLetter(_)));
            if let Some(letter) = letters {
                let letter = world.under_way.remove(letter);
                world.answer(&letter, How::Refused);
                refused += 1;
                prop_assert!(world.driver.engine.status().is_degraded());
            } else if let Some(attempt) = world.under_way.pop() {
                world.answer(&attempt, How::Done);
            } else if world.commit.is_some() {
                world.answer_commit(true);
            } else {
                let actions = world.driver.wake();
                world.carry_out(actions);
            }
        }
        let first_dead = world.log.iter().find(|(_, _, errand)| *errand == poison()).unwrap().0;
        prop_assert!(world.committed <= first_dead);
        world.come_to_rest();
        prop_assert!(!world.driver.engine.status().is_degraded());
        prop_assert_eq!(world.letters.len(), world.log.iter().filter(|(_, _, errand)| *errand == poison()).count());
    }
}
