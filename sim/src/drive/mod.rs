//! Joins the simulator's two halves: carries a [`Plan`] out with the real bus in virtual time, and judges what happened.
//!
//! A run has two phases. While faults rage, safety is at stake; at the end of the plan's chaos everything is healed, and
//! then everything has to come to rest within its `settle` – else a sentence says who is stuck on what.
//!
//! Every run is a process of its own, forked from this one; what comes back is a [`Verdict`]. [`search()`] runs many,
//! makes the plan of the first failure small, and tells.
//!
//! ```no_run
//! use rehearsal_sim::drive::{Drive, search};
//!
//! let drive = Drive::default();
//! let found = search(&drive, 0..100, rehearsal_sim::runner::jobs(), |_| std::ops::ControlFlow::Continue(()));
//! assert!(found.broken.is_empty());
//! ```
//!
//! `faults.rs` says what each fault does to the world, and what cannot be done yet; `nodes.rs` what the programs do;
//! `witness.rs` and `evidence.rs` write it down; `orphans.rs` is the one place where somebody helps; `search.rs` goes from
//! seeds to reports.

pub(crate) mod evidence;
pub(crate) mod faults;
mod hunt;
mod nodes;
mod orphans;
mod search;
pub(crate) mod witness;

use crate::check::{Kafka, Setup};
use crate::checkers::{self, Checker, Judgement, Signature, Violation};
use crate::coverage::Coverage;
use crate::history::{Event, GroupTerms, History};
use crate::name::Name;
use crate::plan::{self, Entry, Family, Plan};
use crate::report;
use crate::runner::{self, Run};
use crate::swarm::{self, Settings};
use crate::world::{Runtime, World};
use evidence::Evidence;
use faults::Faults;
use nodes::{Due, Publisher, Shift, Worker};
use rehearsal_bus::config::Limits;
use rehearsal_bus::mutant;
use rehearsal_mockbroker::config::{ClusterConfig, TopicConfig};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use witness::Witness;

pub use faults::{Unsupported, unsupported};
pub use hunt::{Caught, Hunted, Left, hunt, rows as hunted_rows, table as hunted_table};
pub use rehearsal_bus::mutant::{Mutant, PLANTABLE};
pub use rehearsal_sim_kernel::config::HandOver;
pub use search::{Broken, Found, Progress, Told, search, tell};

/// What is added to a worker's name for the process that takes its place.
const TWIN: &str = "-twin";

/// How much longer a run goes on once everything is answered and committed: what comes late shows now.
const AFTERMATH: Duration = Duration::from_secs(2);

/// How old librdkafka lets its metadata become.
const METADATA_AGE: Duration = Duration::from_secs(300);

/// What is run: which plans are drawn, and what the workers do with them.
#[derive(Debug, Clone, Default)]
pub struct Drive {
    /// What plans are drawn from seeds. By default the standard run.
    pub settings: Settings,
    /// Run this plan with every seed, instead of drawing one from it. Default none.
    pub plan: Option<Plan>,
    /// Whether what nobody but the operator can prevent breaks a promise too. Default no.
    pub strict: bool,
    /// A bug planted into the bus, to see that it is found; needs [`PLANTABLE`]. Default none.
    pub mutant: Option<Mutant>,
    /// How the turn passes between threads: that of the kernel's default, unless the two are to be compared.
    pub hand_over: HandOver,
}

/// What a run came to, as its process sends it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Verdict {
    /// The promise that was broken first, if one was.
    pub broken: Option<Violation>,
    /// Other ways in which promises were broken.
    pub others: Vec<Signature>,
    /// What was tried.
    pub coverage: Coverage,
    /// How often faults of each family struck.
    pub hits: BTreeMap<Family, u64>,
    /// How many events there are in the history.
    pub events: usize,
    /// How many records the plan had publishers send.
    pub records: u64,
    /// The reports, if they were asked for.
    pub told: Option<Told>,
}

/// What came of one run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What its process said; empty but for [`Verdict::broken`] when it did not come to its end.
    pub verdict: Verdict,
    /// Sums up every step; `None` when it did not come to its end.
    pub hash: Option<u64>,
    /// How much virtual time passed.
    pub virtual_time: Duration,
}

impl Outcome {
    /// The way in which it failed first, if it did.
    pub fn signature(&self) -> Option<&Signature> {
        self.verdict.broken.as_ref().map(|broken| &broken.signature)
    }

    fn of(run: Run) -> Self {
        let verdict = match run.failure {
            None => serde_json::from_slice(&run.report).map_err(|error| format!("its verdict cannot be read: {error}")),
            Some(failure) => Err(failure),
        };
        Self {
            seed: run.seed,
            verdict: verdict.unwrap_or_else(|failure| Verdict { broken: Some(no_end(&failure)), ..Verdict::default() }),
            hash: run.stats.map(|stats| stats.hash),
            virtual_time: Duration::from_nanos(run.stats.map_or(0, |stats| stats.virtual_ns)),
        }
    }
}

/// A run that did not come to its end breaks a promise too.
fn no_end(failure: &str) -> Violation {
    let kinds = ["panicked", "deadlock", "livelock", "signal"];
    let kind = kinds.into_iter().find(|kind| failure.contains(kind)).unwrap_or("no-end");
    let mut lines = failure.lines().map(str::to_owned);
    Violation {
        signature: Signature { checker: "run".into(), kind: kind.into() },
        sentence: lines.next().unwrap_or_default(),
        events: Vec::new(),
        chain: lines.take(8).collect(),
        more: 0,
    }
}

impl Drive {
    /// The plan of this seed, without the lines that [cannot be carried out](unsupported) yet, and what those are.
    pub fn plan(&self, seed: u64) -> (Plan, Vec<Unsupported>) {
        let plan = match &self.plan {
            Some(plan) => Plan { seed, ..plan.clone() },
            None => swarm::draw(seed, &self.settings),
        };
        let left_out = unsupported(&plan);
        let labels: BTreeSet<Name> = left_out.iter().map(|line| line.label.clone()).collect();
        let plan = if labels.is_empty() { plan } else { plan.without(&labels) };
        (plan, left_out)
    }

    /// Carries a plan out.
    ///
    /// # Errors
    /// What in it cannot be carried out; nothing has run then.
    pub fn run(&self, plan: &Plan) -> Result<Outcome, Vec<Unsupported>> {
        self.run_telling(plan, None)
    }

    /// Carries a plan out and has its process write the reports. `replay` is the command that runs it again.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_and_tell(&self, plan: &Plan, replay: &str) -> Result<Outcome, Vec<Unsupported>> {
        self.run_telling(plan, Some(&Telling { replay, shrunk_from: None }))
    }

    /// Where two runs of a plan part, with both sides; `None` when they do not, as it should be.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn divergence(&self, plan: &Plan) -> Result<Option<String>, Vec<Unsupported>> {
        let unsupported = unsupported(plan);
        if !unsupported.is_empty() {
            return Err(unsupported);
        }
        let describe = |setup: &mut Setup| self.describe(plan, setup, None);
        Ok(runner::divergence(&describe, plan.seed))
    }

    fn run_telling(&self, plan: &Plan, telling: Option<&Telling<'_>>) -> Result<Outcome, Vec<Unsupported>> {
        let unsupported = unsupported(plan);
        if !unsupported.is_empty() {
            return Err(unsupported);
        }
        let describe = |setup: &mut Setup| self.describe(plan, setup, telling.map(Telling::owned));
        Ok(Outcome::of(runner::run_one(&describe, plan.seed)))
    }

    /// Sets a run of this plan up.
    fn describe(&self, plan: &Plan, setup: &mut Setup, telling: Option<OwnTelling>) {
        let evidence = Evidence::default();
        // Again in the process of the run, and there before any bus is made.
        mutant::plant(self.mutant);
        let bootstrap = setup.kafka(Kafka::from_config(cluster(plan)));
        kernel(plan, setup);
        setup.kernel().hand_over = self.hand_over;
        for publisher in publishers(plan, &bootstrap, &evidence) {
            let publisher = Arc::new(publisher);
            let name = publisher.name.clone();
            setup.node_on(&name, Runtime::CurrentThread, move || nodes::publish(Arc::clone(&publisher)));
        }
        for worker in workers(plan, &bootstrap, &evidence) {
            let worker = Arc::new(worker);
            let name = worker.name.clone();
            setup.node_on(&name, Runtime::MultiThread(2), move || nodes::work(Arc::clone(&worker)));
        }
        let (topics, groups) = (topics(plan), plan.terms().groups.keys().cloned().collect());
        let witness = Witness::of(topics.clone(), groups);
        setup.at(Duration::ZERO, move |world| world.watch_brokers(witness));
        let faults = Faults::of(plan, evidence.clone());
        for (at, due) in plan.agenda() {
            let faults = faults.clone();
            match due {
                plan::Due::Begins(label, fault) => {
                    let (label, fault) = (label.clone(), fault.clone());
                    setup.at(at, move |world| faults.begin(world, &label, &fault));
                }
                plan::Due::Ends(label, fault) => {
                    let (label, fault) = (label.clone(), fault.clone());
                    setup.at(at, move |world| faults.end(world, &label, &fault));
                }
                // The publishers know their hours themselves.
                plan::Due::Publish(_) => {}
            }
        }
        setup.at(plan.chaos, move |world| faults.heal_all(world));
        let (denials, reads) = (orphans::denials(plan), reads(plan));
        if !denials.is_empty() {
            let time = plan.chaos.saturating_add(orphans::LOOKS_AFTER);
            setup.at(time, move |world| orphans::help(world, &denials, &reads));
        }
        setup.duration(plan.chaos.saturating_add(settle(plan)));
        setup.ends_when(at_rest(plan, &evidence));
        let (plan, strict) = (plan.clone(), self.strict);
        setup.report(move |world| {
            let history = evidence.history(world, plan.terms(), &topics);
            let checkers = if strict { checkers::strict() } else { checkers::all() };
            let verdict = judge(&plan, &history, &checkers, telling);
            serde_json::to_vec(&verdict).unwrap_or_default()
        });
    }
}

/// What a run's process is told to write reports with.
#[derive(Debug, Clone, Copy)]
struct Telling<'a> {
    replay: &'a str,
    shrunk_from: Option<(&'a Plan, usize)>,
}

struct OwnTelling {
    replay: String,
    shrunk_from: Option<(Plan, usize)>,
}

impl Telling<'_> {
    fn owned(&self) -> OwnTelling {
        let shrunk_from = self.shrunk_from.map(|(plan, runs)| (plan.clone(), runs));
        OwnTelling { replay: self.replay.to_owned(), shrunk_from }
    }
}

/// What is tested, in reports.
const NAME: &str = "the bus";

fn judge(plan: &Plan, history: &History, checkers: &[Box<dyn Checker>], telling: Option<OwnTelling>) -> Verdict {
    let judgement = checkers::judge(history, checkers);
    let broken = judgement.first().cloned();
    let others = judgement.violations().filter(|other| Some(*other) != broken.as_ref());
    let mut hits: BTreeMap<Family, u64> = BTreeMap::new();
    let families: BTreeMap<&Name, Family> =
        plan.lines.iter().filter_map(|line| Some((&line.label, line.entry.family()?))).collect();
    for (label, times) in history.hits() {
        if let Some(family) = families.get(label) {
            *hits.entry(*family).or_default() += times;
        }
    }
    Verdict {
        others: others.map(|other| other.signature.clone()).collect(),
        broken,
        coverage: Coverage::of(history),
        hits,
        events: history.events().len(),
        records: plan.records().len() as u64,
        told: telling.map(|telling| told(plan, history, &judgement, &telling)),
    }
}

fn told(plan: &Plan, history: &History, judgement: &Judgement, telling: &OwnTelling) -> Told {
    let report = report::Report {
        name: NAME,
        plan,
        history,
        judgement,
        replay: &telling.replay,
        shrunk_from: telling.shrunk_from.as_ref().map(|(plan, runs)| (plan, *runs)),
    };
    let log = history.events().iter().map(Event::to_string).collect::<Vec<_>>().join("\n");
    Told {
        terminal: report::terminal(&report),
        html: report::html(&report),
        perfetto: report::perfetto(&report),
        log: log + "\n",
    }
}

/// The cluster a plan asks for: its topics, and their dead letters, kept as safely.
fn cluster(plan: &Plan) -> ClusterConfig {
    let mut config = ClusterConfig::with_brokers(i32::try_from(plan.brokers).unwrap_or(i32::MAX));
    config.requests_kept = 0;
    // Otherwise every group waits three seconds for its first members.
    config.configs.insert("group.initial.rebalance.delay.ms".to_owned(), "500".to_owned());
    for topic in topics_of(plan) {
        let letters = TopicConfig { name: dead_letters(&topic.name), ..topic.clone() };
        config.topics.extend([topic, letters]);
    }
    config
}

/// The topics a plan asks for.
pub(crate) fn topics_of(plan: &Plan) -> impl Iterator<Item = TopicConfig> {
    plan.setup().filter_map(|setup| {
        let plan::Setup::Topic { name, partitions, replicas, min_isr, unclean } = setup else { return None };
        let mut topic = TopicConfig::new(name.to_string(), i32::try_from(*partitions).unwrap_or(i32::MAX));
        topic.replication_factor = i16::try_from(*replicas).ok();
        topic.configs.extend(min_isr.map(|min| ("min.insync.replicas".to_owned(), min.to_string())));
        let unclean = unclean.map(|unclean| (unclean == plan::Switch::Yes).to_string());
        topic.configs.extend(unclean.map(|unclean| ("unclean.leader.election.enable".to_owned(), unclean)));
        Some(topic)
    })
}

fn dead_letters(topic: &str) -> String {
    format!("{topic}{}", crate::history::Terms::default().dead_letters)
}

fn topics(plan: &Plan) -> Vec<Name> {
    let topic = |setup: &plan::Setup| match setup {
        plan::Setup::Topic { name, .. } => Some([name.clone(), dead_letters(name).into()]),
        _ => None,
    };
    plan.setup().filter_map(topic).flatten().collect()
}

/// How long a run may take to come to rest: what the plan says; and until clients that know nothing of new partitions, or
/// were told that there is no such topic, ask for metadata by themselves; and twice what handlers are told to take for the records of one aggregate, which wait for
/// each other – once before a worker dies or stands still, and once after.
fn settle(plan: &Plan) -> Duration {
    let families = plan.families();
    let misled = [Family::AddPartitions, Family::StaleMetadata].iter().any(|family| families.contains(family));
    let mut takes: BTreeMap<(&Name, &Name), Duration> = BTreeMap::new();
    let groups = plan.terms().groups;
    for record in plan.records() {
        for setup in plan.setup() {
            let plan::Setup::Group { name, .. } = setup else { continue };
            let Some(terms) = groups.get(name) else { continue };
            let timeout = nodes::handler_timeout(setup);
            for (_, behaviour) in plan.behaviours(name, &record.message) {
                let taken = takes.entry((name, record.aggregate)).or_default();
                *taken = taken.saturating_add(longest(behaviour, terms, timeout));
            }
        }
    }
    let handlers = takes.into_values().max().unwrap_or_default().saturating_mul(2);
    plan.settle.saturating_add(handlers).saturating_add(if misled { METADATA_AGE } else { Duration::ZERO })
}

/// The longest a record with this behaviour may take, all attempts and the waits between them together.
fn longest(behaviour: &plan::Behaviour, terms: &GroupTerms, timeout: Duration) -> Duration {
    let attempts = terms.retries.saturating_add(1);
    let (each, failures) = match behaviour {
        plan::Behaviour::Slow { by } => (*by, 0),
        plan::Behaviour::Hang { times } => (timeout, *times),
        plan::Behaviour::Fail { times } | plan::Behaviour::Panic { times } | plan::Behaviour::Cancel { times } => {
            (Duration::from_secs(1), *times)
        }
        plan::Behaviour::FailAlways {} => (Duration::ZERO, attempts),
        plan::Behaviour::Unreadable {} => (Duration::ZERO, 0),
    };
    let waits = (1..=failures.min(attempts)).filter_map(|failure| terms.wait(failure)).map(|(_, longest)| longest);
    each.saturating_mul(attempts).saturating_add(waits.sum())
}

/// How much room buses have. Half of all runs have little, so that what happens at a bound happens in small runs too; a
/// plan says nothing of it, for nothing that is promised depends on it.
#[derive(Debug, Clone, Copy)]
struct Room {
    limits: Limits,
}

impl Room {
    fn of(plan: &Plan) -> Self {
        let mut chance = plan.chance("room");
        let tight = Limits {
            in_flight_max: 4,
            partition_records_max: 8,
            parked_keys_max: 2,
            lane_records_max: 3,
            watermark_span_max: 16,
        };
        Self { limits: if chance.odds(1, 2) { tight } else { Limits::default() } }
    }
}

/// Half of all runs change threads at locks, and half see what is sent arrive in pieces.
fn kernel(plan: &Plan, setup: &mut Setup) {
    let mut chance = plan.chance("kernel");
    let config = setup.kernel();
    config.preempt = if chance.odds(1, 2) { 256 } else { 0 };
    config.split = if chance.odds(1, 2) { 2_048 } else { 0 };
    config.wall_max = Duration::from_secs(120);
}

fn publishers<'a>(plan: &'a Plan, bootstrap: &'a str, evidence: &'a Evidence) -> impl Iterator<Item = Publisher> + 'a {
    plan.setup().filter_map(move |setup| {
        let plan::Setup::Publisher { name, acks, idempotent, .. } = setup else { return None };
        let mut records: BTreeMap<Name, Vec<Due>> = BTreeMap::new();
        for record in plan.records().into_iter().filter(|record| record.publisher == name) {
            // In no group in particular: a record is what it is for all of them.
            let unreadable = plan.behaviours("", &record.message).any(|(_, of)| *of == plan::Behaviour::Unreadable {});
            let due =
                Due { at: record.at, message: record.message.clone(), aggregate: record.aggregate.clone(), unreadable };
            records.entry(record.topic.clone()).or_default().push(due);
        }
        let (bootstrap, evidence) = (bootstrap.to_owned(), evidence.clone());
        Some(Publisher { name: name.clone(), bootstrap, acks: *acks, idempotent: *idempotent, records, evidence })
    })
}

/// The workers, and those that take their places for a while.
fn workers(plan: &Plan, bootstrap: &str, evidence: &Evidence) -> Vec<Worker> {
    let mut behaviours = plan.clone();
    behaviours.lines.retain(|line| matches!(line.entry, Entry::Behaviour { .. }));
    let groups: BTreeMap<&Name, &plan::Setup> = plan
        .setup()
        .filter(|setup| matches!(setup, plan::Setup::Group { .. }))
        .map(|group| (group.name(), group))
        .collect();
    let mut workers = Vec::new();
    for setup in plan.setup() {
        let plan::Setup::Worker { name, group, instance, start } = setup else { continue };
        let Some(group) = groups.get(&group.0) else { continue };
        let taken_over: Vec<Shift> =
            in_order(plan.faults().filter_map(|(_, at, fault)| take_over(name, at, fault)).collect());
        let worker = |name: Name, shifts: Vec<Shift>| Worker {
            taken_over: if name == *setup.name() { taken_over.clone() } else { Vec::new() },
            name,
            bootstrap: bootstrap.to_owned(),
            group: (*group).clone(),
            instance: instance.clone(),
            shifts,
            behaviours: behaviours.clone(),
            room: Room::of(plan),
            evidence: evidence.clone(),
        };
        workers.push(worker(name.clone(), shifts(plan, name, start.unwrap_or_default())));
        if !taken_over.is_empty() {
            workers.push(worker(format!("{name}{TWIN}").into(), taken_over.clone()));
        }
    }
    workers
}

/// When a worker works: from its start on, but for when it has left.
fn shifts(plan: &Plan, worker: &Name, start: Duration) -> Vec<Shift> {
    let absent = plan.faults().filter_map(|(_, at, fault)| match fault {
        plan::Fault::Leave { node, lasts } if node.0 == *worker => {
            Some(Shift { from: at, until: Some(at.saturating_add(lasts.0)) })
        }
        _ => None,
    });
    let mut shifts = Vec::new();
    let mut from = start;
    for absence in in_order(absent.collect()) {
        if from < absence.from {
            shifts.push(Shift { from, until: Some(absence.from) });
        }
        from = from.max(absence.until.unwrap_or(from));
    }
    shifts.push(Shift { from, until: None });
    shifts
}

fn take_over(worker: &Name, at: Duration, fault: &plan::Fault) -> Option<Shift> {
    match fault {
        plan::Fault::TakeOver { node, lasts } if node.0 == *worker => {
            Some(Shift { from: at, until: Some(at.saturating_add(lasts.0)) })
        }
        _ => None,
    }
}

fn in_order(mut shifts: Vec<Shift>) -> Vec<Shift> {
    shifts.sort_by_key(|shift| shift.from);
    shifts
}

/// Which topics each group reads.
fn reads(plan: &Plan) -> Vec<(Name, Vec<Name>)> {
    plan.terms().groups.into_iter().map(|(group, terms)| (group, terms.topics)).collect()
}

/// Whether everything was over, answered and committed a while ago.
fn at_rest(plan: &Plan, evidence: &Evidence) -> impl Fn(&World) -> bool + 'static {
    let (messages, chaos, evidence) = (plan.records().len(), plan.chaos, evidence.clone());
    let groups = reads(plan);
    let since = std::cell::Cell::new(None);
    move |world| {
        let rests = world.elapsed() > chaos && evidence.all_answered(messages) && all_committed(world, &groups);
        let began = since.get().filter(|_| rests).or_else(|| rests.then(|| world.elapsed()));
        since.set(began);
        began.is_some_and(|began| world.elapsed() >= began + AFTERMATH)
    }
}

fn all_committed(world: &World, groups: &[(Name, Vec<Name>)]) -> bool {
    world.cluster(|cluster| {
        groups.iter().flat_map(|(group, topics)| topics.iter().map(move |topic| (group, topic))).all(
            |(group, topic)| {
                (0_i32..).zip(cluster.partitions(topic)).all(|(index, partition)| {
                    let high = partition.log.high_watermark();
                    let committed = cluster.committed(group, topic, index).map_or(0, |committed| committed.offset);
                    partition.leader.is_some() && committed >= high && high >= partition.log.end_offset()
                })
            },
        )
    })
}
