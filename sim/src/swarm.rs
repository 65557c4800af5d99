//! Draws a plan from a seed: swarm testing (Groce et al., 2012).
//!
//! Not every run gets every fault. Each seed switches a random half of the allowed families on and the others off,
//! because faults hide each other: a cluster that crashes all the time never gets far enough to lose an offset. Then it
//! draws a number of faults from the families that are on. Every fault lasts at least [`Settings::lasts`]'s start –
//! shorter ones fall between two heartbeats and do nothing – and is over before the chaos is, so that what comes after
//! is a healthy system that has to come to rest.
//!
//! The same seed and settings give the same plan on every machine ([`Chance`]); each part draws from a stream of its
//! own, so that adding a family changes only the plans in which it is on.
//!
//! ```
//! use rehearsal_sim::swarm::{Settings, draw};
//!
//! let settings = Settings { records: 20, aggregates: 5, ..Settings::default() };
//! let plan = draw(7, &settings);
//! assert_eq!(plan, draw(7, &settings));
//! assert_eq!(plan.records().len(), 20);
//! ```

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::chance::Chance;
use crate::name::Name;
use crate::plan::{
    Acks, Api, Behaviour, Broker, Client, Damage, Entry, ErrorName, Family, Fault, Group, Isolation, Lasting, Line,
    Node, Nodes, Partition, Plan, Records, Reset, Setup, Share, Shift, Switch, Topic, Work,
};

/// What plans are drawn: their size, and what may go wrong. The default is the standard run of the benchmarks.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Brokers, from 1. Topics get a replica on each, three at most. Default 3.
    pub brokers: u32,
    /// Partitions of the topic. Default 6.
    pub partitions: u32,
    /// Publishers, from 1. Default 2.
    pub publishers: u32,
    /// Workers, from 1. Default 4.
    pub workers: u32,
    /// Groups; workers are dealt out to them in turn. Default 1.
    pub groups: u32,
    /// Keys. Default 200.
    pub aggregates: u32,
    /// Records in all. Default 500.
    pub records: u32,
    /// How long faults may rage. Default 60 s.
    pub chaos: Duration,
    /// How long the run may then take to come to rest. Default 120 s: a session timeout of 45 s, and then some.
    pub settle: Duration,
    /// How many faults. Default 5 to 15.
    pub faults: RangeInclusive<u32>,
    /// How long each lasts. Default 500 ms to 15 s.
    pub lasts: RangeInclusive<Duration>,
    /// Which families may be on. Default: all in which Kafka, set up well, keeps its own promises
    /// ([`Family::breaks_kafkas_own_promises`]).
    pub families: BTreeSet<Family>,
    /// Whether publishers use transactions. Default no.
    pub transactions: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            brokers: 3,
            partitions: 6,
            publishers: 2,
            workers: 4,
            groups: 1,
            aggregates: 200,
            records: 500,
            chaos: Duration::from_secs(60),
            settle: Duration::from_secs(120),
            faults: 5..=15,
            lasts: Duration::from_millis(500)..=Duration::from_secs(15),
            families: Family::ALL.into_iter().filter(|family| !family.breaks_kafkas_own_promises()).collect(),
            transactions: false,
        }
    }
}

impl Settings {
    /// Nothing goes wrong.
    pub fn calm() -> Self {
        Self { families: BTreeSet::new(), faults: 0..=0, ..Self::default() }
    }

    /// All 29 families, also those in which Kafka breaks its own promises; with transactions.
    pub fn everything() -> Self {
        Self { families: Family::ALL.into(), transactions: true, ..Self::default() }
    }
}

/// The plan of this seed.
pub fn draw(seed: u64, settings: &Settings) -> Plan {
    let mut drawing = Drawing { seed, settings, plan: empty(seed, settings), away: Vec::new() };
    drawing.set_up();
    drawing.publish();
    let on = drawing.families();
    drawing.faults(&on);
    debug_assert_eq!(drawing.plan.check(), Ok(()), "a drawn plan holds together");
    drawing.plan
}

const TOPIC: &str = "orders";

fn empty(seed: u64, settings: &Settings) -> Plan {
    Plan {
        seed,
        chaos: settings.chaos,
        settle: settings.settle,
        brokers: settings.brokers.clamp(1, 100),
        lines: Vec::new(),
    }
}

struct Drawing<'a> {
    seed: u64,
    settings: &'a Settings,
    plan: Plan,
    /// When a replica is away, with the time it needs to catch up. No two at once: acknowledged records may be lost
    /// when the last in-sync replica goes (KIP-966), and that would be Kafka's fault and not the user's.
    away: Vec<(Duration, Duration)>,
}

impl Drawing<'_> {
    fn chance(&self, name: &str) -> Chance {
        Chance::of(self.seed, &format!("swarm/{name}"))
    }

    fn line(&mut self, label: impl Into<Name>, entry: Entry) {
        self.plan.lines.push(Line { label: label.into(), entry });
    }

    fn set_up(&mut self) {
        let replicas = self.plan.brokers.min(3);
        let min_isr = (replicas > 2).then_some(2);
        let partitions = self.settings.partitions.max(1);
        let topic = Setup::Topic { name: TOPIC.into(), partitions, replicas, min_isr, unclean: None };
        self.line("t-orders", Entry::Setup(topic));
        for group in 0..self.settings.groups.max(1) {
            let group = Setup::Group {
                name: group_name(group),
                topic: Topic(TOPIC.into()),
                reset: Reset::Earliest,
                isolation: Isolation::ReadCommitted,
                retries: 3,
                base: Duration::from_secs(1),
                max: Duration::from_secs(60),
                jitter: Share { thousandths: 100 },
                session: Duration::from_secs(45),
                poll: None,
                handler: None,
            };
            self.line(format!("g-{}", group.name()), Entry::Setup(group));
        }
        for publisher in 1..=self.settings.publishers.max(1) {
            let name = Name::from(format!("pub-{publisher}"));
            let transactional = self.settings.transactions.then(|| format!("tx-{publisher}").into());
            let label = format!("n-{name}");
            let publisher = Setup::Publisher { name, acks: Acks::All, idempotent: Switch::Yes, transactional };
            self.line(label, Entry::Setup(publisher));
        }
        let mut chance = self.chance("instances");
        let fixed = chance.odds(1, 4);
        for worker in 1..=self.settings.workers.max(1) {
            let name = Name::from(format!("worker-{worker}"));
            let group = Group(group_name((worker - 1) % self.settings.groups.max(1)));
            let instance = fixed.then(|| format!("instance-{worker}").into());
            let start = chance.odds(1, 4).then(|| chance.time(Duration::ZERO..=self.settings.chaos / 6));
            self.line(format!("n-{name}"), Entry::Setup(Setup::Worker { name, group, instance, start }));
        }
    }

    /// Every aggregate gets a burst in turn until all records are dealt out, spread over most of the chaos.
    fn publish(&mut self) {
        let mut chance = self.chance("work");
        let aggregates = self.settings.aggregates.max(1);
        let typical = (self.settings.records / aggregates).max(1);
        let mut left = self.settings.records;
        for line in 1.. {
            if left == 0 {
                break;
            }
            let records = (chance.between(1..=u64::from(typical) * 2 - 1) as u32).min(left);
            left -= records;
            let aggregate = match line {
                line if line <= aggregates => line,
                _ => chance.between(1..=u64::from(aggregates)) as u32,
            };
            // One publisher an aggregate: two would race, and there would be no order to keep.
            let publisher = aggregate % self.settings.publishers.max(1) + 1;
            let work = Work::Publish {
                records,
                aggregate: format!("A{aggregate}").into(),
                publisher: Client(format!("pub-{publisher}").into()),
                topic: Topic(TOPIC.into()),
                every: chance.time(Duration::ZERO..=Duration::from_millis(500)),
            };
            let at = chance.time(Duration::ZERO..=self.settings.chaos * 3 / 4);
            self.line(format!("w{line}"), Entry::Work { at, work });
        }
    }

    /// Each allowed family is on in half of all plans.
    fn families(&self) -> Vec<Family> {
        let on = |family: &Family| self.chance(&format!("family/{family}")).odds(1, 2);
        let on: Vec<Family> = self.settings.families.iter().copied().filter(on).collect();
        if on.is_empty() { self.settings.families.iter().copied().take(1).collect() } else { on }
    }

    fn faults(&mut self, on: &[Family]) {
        let mut chance = self.chance("faults");
        let many = chance.between(u64::from(*self.settings.faults.start())..=u64::from(*self.settings.faults.end()));
        let mut partitions = self.settings.partitions.max(1);
        for number in 1..=many {
            let Some(family) = chance.pick(on) else { return };
            let mut chance = self.chance(&format!("fault/{number}/{family}"));
            let label = format!("f{number}");
            if let Some(behaviour) = behaviour(*family, &mut chance) {
                if let Some(records) = self.some_records(&mut chance) {
                    let unreadable = self.chance(&format!("unreadable/{number}")).odds(1, 3);
                    let behaviour = match behaviour {
                        Behaviour::FailAlways {} if unreadable => Behaviour::Unreadable {},
                        other => other,
                    };
                    self.line(label, Entry::Behaviour { records, group: None, behaviour });
                }
                continue;
            }
            if let Some((at, fault)) = self.fault(*family, &mut chance, &mut partitions) {
                self.line(label, Entry::Fault { at, fault });
            }
        }
    }

    /// One record, or a whole burst.
    fn some_records(&self, chance: &mut Chance) -> Option<Records> {
        let published = |line: &Line| match &line.entry {
            Entry::Work { work: Work::Publish { records, .. }, .. } => Some((line.label.clone(), *records)),
            _ => None,
        };
        let lines: Vec<(Name, u32)> = self.plan.lines.iter().filter_map(published).collect();
        let (line, records) = chance.pick(&lines)?.clone();
        let index = chance.odds(3, 4).then(|| chance.below(u64::from(records)) as u32);
        Some(Records { line, index })
    }

    /// `None` when there is no place for it in this plan.
    fn fault(&mut self, family: Family, chance: &mut Chance, partitions: &mut u32) -> Option<(Duration, Fault)> {
        let longest = (*self.settings.lasts.end()).min(self.settings.chaos / 2);
        let shortest =
            (*self.settings.lasts.start()).clamp(Duration::from_millis(1), longest.max(Duration::from_millis(1)));
        // A few tries to find a time at which no other replica is away.
        for _ in 0..8 {
            let lasts = chance.time(shortest..=longest.max(shortest));
            let at = chance.time(self.settings.chaos / 20..=self.settings.chaos.checked_sub(lasts)?);
            let fault = self.fault_of(family, chance, Lasting(lasts), *partitions)?;
            if takes_a_replica_away(&fault) && !family.breaks_kafkas_own_promises() {
                let until = at + lasts + CATCH_UP;
                if self.plan.brokers < 3 && matches!(fault, Fault::Crash { .. }) {
                    return None;
                }
                if self.away.iter().any(|(from, to)| at < *to && *from < until) {
                    continue;
                }
                self.away.push((at, until));
            }
            if let Fault::AddPartitions { partitions: now, .. } = &fault {
                *partitions = *now;
            }
            return Some((at, fault));
        }
        None
    }

    fn fault_of(&self, family: Family, chance: &mut Chance, lasts: Lasting, partitions: u32) -> Option<Fault> {
        let broker = Broker(chance.between(1..=u64::from(self.plan.brokers)) as u32);
        let worker = Client(format!("worker-{}", chance.between(1..=u64::from(self.settings.workers.max(1)))).into());
        let group = Group(group_name(chance.below(u64::from(self.settings.groups.max(1))) as u32));
        let topic = || Topic(TOPIC.into());
        // Only partitions there are from the start: which of those added later exist depends on the time.
        let index = chance.below(u64::from(self.settings.partitions.max(1))) as u32;
        let partition = Partition { topic: TOPIC.into(), index };
        let times = chance.between(1..=5) as u32;
        let small = chance.time(Duration::from_millis(5)..=Duration::from_millis(100));
        let tail = chance.time(Duration::from_millis(200)..=Duration::from_secs(5));
        let api = *chance.pick(Api::ALL)?;
        Some(match family {
            Family::Partition => {
                let (nodes, others) = self.sides(chance);
                Fault::Cut { nodes, others, lasts }
            }
            Family::OneWayPartition => {
                let (nodes, others) = self.sides(chance);
                let (nodes, others) = if chance.odds(1, 2) { (nodes, others) } else { (others, nodes) };
                Fault::CutOneWay { nodes, others, lasts }
            }
            Family::LatencyTail => {
                let (nodes, others) = self.sides(chance);
                Fault::Delay { nodes, others, by: small, tail, lasts }
            }
            Family::ConnectionReset => {
                let (nodes, others) = self.sides(chance);
                Fault::ResetConnections { nodes, others }
            }
            Family::ResponseLost => Fault::LoseResponse { api, broker, times, lasts },
            Family::ApiHold => Fault::Hold { api, broker, lasts },
            Family::Reorder => {
                let (nodes, others) = self.sides(chance);
                Fault::Reorder { nodes, others, within: small, lasts }
            }
            Family::Garble => {
                let (nodes, others) = self.sides(chance);
                let damage = *chance.pick(Damage::ALL)?;
                Fault::Garble { damage, nodes, others, times, lasts }
            }
            Family::Crash => Fault::Crash { broker, lasts },
            Family::Restart => Fault::Restart { broker, lasts },
            Family::Pause if chance.odds(1, 2) => Fault::Pause { node: Node::Named(worker.0), lasts },
            Family::Pause => Fault::Pause { node: Node::Broker(broker.0), lasts },
            Family::LeaderMove => Fault::MoveLeader { partition, broker },
            Family::UncleanElection => Fault::ElectUnclean { partition, broker },
            Family::IsrShrink => Fault::ShrinkIsr { partition, broker, lasts },
            Family::CoordinatorMove => {
                Fault::MoveCoordinator { group, lasts: Lasting(lasts.0.min(Duration::from_secs(5))) }
            }
            Family::StaleMetadata if chance.odds(1, 2) => Fault::StaleMetadata { broker, lasts },
            Family::StaleMetadata => Fault::DenyTopic { topic: topic(), broker, lasts },
            Family::ErrorInjection => {
                let (api, error) = *chance.pick(REFUSALS)?;
                Fault::Refuse { api, broker, error, times, lasts }
            }
            Family::Throttle => Fault::Throttle { api, broker, by: tail, lasts },
            Family::Retention => Fault::DeleteRecords { partition, keep: times },
            Family::TopicRecreate => {
                Fault::Recreate { topic: topic(), lasts: Lasting(lasts.0.min(Duration::from_secs(2))) }
            }
            Family::AddPartitions => Fault::AddPartitions { topic: topic(), partitions: partitions + times },
            Family::OffsetExpiry => Fault::ExpireOffsets { group },
            Family::ProcessCrash => Fault::Kill { node: worker, lasts },
            Family::Churn if chance.odds(1, 2) => Fault::Leave { node: worker, lasts },
            Family::Churn => Fault::TakeOver { node: worker, lasts },
            Family::ClockJump => {
                let by = Shift { back: chance.odds(1, 2), by: tail * 12 };
                Fault::JumpClock { node: self.any_node(chance), by }
            }
            Family::ClockDrift => {
                let by = Shift { back: chance.odds(1, 2), by: small / 10 };
                Fault::DriftClock { node: self.any_node(chance), by, lasts }
            }
            Family::SlowHandler | Family::HungHandler | Family::FailingHandler => return None,
        })
    }

    fn any_node(&self, chance: &mut Chance) -> Node {
        let nodes: Vec<Node> = self.brokers().into_iter().chain(self.clients()).collect();
        chance.pick(&nodes).cloned().unwrap_or(Node::Broker(1))
    }

    fn brokers(&self) -> Vec<Node> {
        (1..=self.plan.brokers).map(Node::Broker).collect()
    }

    fn clients(&self) -> Vec<Node> {
        let name = |setup: &Setup| match setup {
            Setup::Publisher { name, .. } | Setup::Worker { name, .. } => Some(Node::Named(name.clone())),
            _ => None,
        };
        self.plan.setup().filter_map(name).collect()
    }

    /// One broker against the rest, a client against all brokers, or a client against one broker.
    fn sides(&self, chance: &mut Chance) -> (Nodes, Nodes) {
        let (brokers, clients) = (self.brokers(), self.clients());
        let client = chance.pick(&clients).cloned().into_iter().collect::<Vec<_>>();
        match chance.below(3) {
            0 if brokers.len() > 1 => {
                let alone = chance.below(brokers.len() as u64) as usize;
                let rest =
                    brokers.iter().enumerate().filter(|(index, _)| *index != alone).map(|(_, node)| node.clone());
                (Nodes(vec![brokers[alone].clone()]), Nodes(rest.chain(clients).collect()))
            }
            1 => (Nodes(client), Nodes(brokers)),
            _ => (Nodes(client), Nodes(chance.pick(&brokers).cloned().into_iter().collect())),
        }
    }
}

/// How long a replica needs to be in sync again, at most: `replica.lag.time.max.ms` is 30 s, but a follower that is back
/// is in sync as soon as it has what the leader has.
const CATCH_UP: Duration = Duration::from_secs(3);

/// Errors where Kafka gives them, so that clients know what to do.
const REFUSALS: &[(Api, ErrorName)] = &[
    (Api::Produce, ErrorName::NotLeaderOrFollower),
    (Api::Produce, ErrorName::NotEnoughReplicas),
    (Api::Produce, ErrorName::NotEnoughReplicasAfterAppend),
    (Api::Produce, ErrorName::RequestTimedOut),
    (Api::Produce, ErrorName::UnknownTopicOrPartition),
    (Api::Fetch, ErrorName::NotLeaderOrFollower),
    (Api::Fetch, ErrorName::FencedLeaderEpoch),
    (Api::Fetch, ErrorName::KafkaStorageError),
    (Api::ListOffsets, ErrorName::LeaderNotAvailable),
    (Api::Metadata, ErrorName::LeaderNotAvailable),
    (Api::FindCoordinator, ErrorName::CoordinatorNotAvailable),
    (Api::JoinGroup, ErrorName::CoordinatorLoadInProgress),
    (Api::SyncGroup, ErrorName::RebalanceInProgress),
    (Api::Heartbeat, ErrorName::RebalanceInProgress),
    (Api::Heartbeat, ErrorName::UnknownMemberId),
    (Api::Heartbeat, ErrorName::IllegalGeneration),
    (Api::OffsetCommit, ErrorName::NotCoordinator),
    (Api::OffsetCommit, ErrorName::CoordinatorLoadInProgress),
    (Api::OffsetCommit, ErrorName::RebalanceInProgress),
    (Api::OffsetFetch, ErrorName::UnstableOffsetCommit),
    (Api::OffsetFetch, ErrorName::NotCoordinator),
    (Api::EndTxn, ErrorName::ConcurrentTransactions),
    (Api::InitProducerId, ErrorName::CoordinatorNotAvailable),
];

fn group_name(index: u32) -> Name {
    ["billing", "shipping", "audit"]
        .get(index as usize)
        .map_or_else(|| format!("group-{index}").into(), |name| (*name).into())
}

fn behaviour(family: Family, chance: &mut Chance) -> Option<Behaviour> {
    let times = chance.between(1..=3) as u32;
    Some(match family {
        Family::SlowHandler => {
            Behaviour::Slow { by: chance.time(Duration::from_millis(500)..=Duration::from_secs(20)) }
        }
        Family::HungHandler if chance.odds(1, 2) => Behaviour::Hang { times },
        Family::HungHandler => Behaviour::Cancel { times },
        Family::FailingHandler => match chance.below(4) {
            0 => Behaviour::FailAlways {},
            1 => Behaviour::Panic { times },
            _ => Behaviour::Fail { times },
        },
        _ => return None,
    })
}

fn takes_a_replica_away(fault: &Fault) -> bool {
    let brokers = |nodes: &Nodes| nodes.0.iter().any(|node| matches!(node, Node::Broker(_)));
    match fault {
        Fault::Crash { .. }
        | Fault::Restart { .. }
        | Fault::Pause { node: Node::Broker(_), .. }
        | Fault::ShrinkIsr { .. } => true,
        Fault::Cut { nodes, others, .. }
        | Fault::CutOneWay { nodes, others, .. }
        | Fault::Delay { nodes, others, .. } => brokers(nodes) && brokers(others),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Many, with few records: those are not what these tests are about.
    fn plans(settings: &Settings) -> Vec<Plan> {
        let settings = Settings { records: 20, aggregates: 10, ..settings.clone() };
        (0..300).map(|seed| draw(seed, &settings)).collect()
    }

    #[test]
    fn a_seed_means_the_same_plan_for_ever() {
        // Changes only when the drawing itself is meant to change; saved plans are texts and do not care.
        let settings = Settings { records: 8, aggregates: 3, workers: 2, ..Settings::everything() };
        insta::assert_snapshot!(draw(7, &settings));
    }

    #[test]
    fn every_family_comes_up_and_none_is_always_on() {
        let plans = plans(&Settings::everything());
        for family in Family::ALL {
            let with = plans.iter().filter(|plan| plan.families().contains(&family)).count();
            assert!((1..250).contains(&with), "{family} is in {with} of 300 plans");
        }
    }

    #[test]
    fn every_kind_of_line_comes_up() {
        let mut verbs = BTreeSet::new();
        for line in plans(&Settings::everything()).iter().flat_map(|plan| &plan.lines) {
            match &line.entry {
                Entry::Fault { fault, .. } => drop(verbs.insert(fault.verb())),
                Entry::Behaviour { behaviour, .. } => drop(verbs.insert(behaviour.verb())),
                Entry::Setup(setup) => drop(verbs.insert(setup.verb())),
                Entry::Work { work, .. } => drop(verbs.insert(work.verb())),
            }
        }
        let all = [Fault::VERBS, Behaviour::VERBS, Setup::VERBS, Work::VERBS].concat();
        // For plans written by hand: a follower that lags (`shrink-isr` stands for its family), and a program.
        assert_eq!(verbs, all.into_iter().filter(|verb| !["lag", "program"].contains(verb)).collect());
    }

    #[test]
    fn by_default_nothing_happens_in_which_kafka_breaks_its_own_promises() {
        for plan in plans(&Settings::default()) {
            assert!(plan.families().iter().all(|family| !family.breaks_kafkas_own_promises()));
            assert!(plan.faults().all(|(_, at, fault)| at + fault.lasts() <= plan.chaos));
        }
    }

    #[test]
    fn no_two_replicas_are_away_at_once() {
        for plan in plans(&Settings::default()) {
            let mut away: Vec<(Duration, Duration)> = plan
                .faults()
                .filter(|(.., fault)| takes_a_replica_away(fault))
                .map(|(_, at, fault)| (at, at + fault.lasts()))
                .collect();
            away.sort();
            assert!(away.windows(2).all(|pair| pair[0].1 < pair[1].0), "seed {}: {away:?}", plan.seed);
        }
    }

    #[test]
    fn every_fault_lasts_long_enough_to_be_felt() {
        for plan in plans(&Settings::default()) {
            for (label, _, fault) in plan.faults() {
                let lasts = fault.lasts();
                assert!(lasts.is_zero() || lasts >= Duration::from_millis(500), "{label}");
            }
        }
    }

    #[test]
    fn a_calm_plan_has_records_and_no_faults() {
        let plan = draw(1, &Settings::calm());
        assert_eq!(plan.records().len(), 500);
        assert_eq!(plan.families().len(), 0);
    }

    #[test]
    fn a_family_that_is_not_allowed_leaves_the_workload_as_it_was() {
        let all = draw(9, &Settings::everything());
        let calm = draw(9, &Settings { transactions: true, ..Settings::calm() });
        assert_eq!(all.records(), calm.records());
    }

    #[test]
    fn odd_settings_give_a_plan_all_the_same() {
        for brokers in [0, 1, 2, 7] {
            let settings = Settings {
                brokers,
                partitions: 0,
                publishers: 0,
                workers: 0,
                groups: 5,
                aggregates: 0,
                records: 3,
                chaos: Duration::from_secs(1),
                ..Settings::everything()
            };
            for seed in 0..50 {
                assert_eq!(draw(seed, &settings).check(), Ok(()));
            }
        }
    }
}
