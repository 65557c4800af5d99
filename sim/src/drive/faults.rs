//! From the words of a plan to what happens to the world: begins every fault at its time, heals it at its end, and
//! counts what it did.

use super::evidence::Evidence;
use super::witness::leader_of_group;
use crate::history::What;
use crate::name::Name;
use crate::plan::{self, Api, Damage, Entry, Node, Nodes, Plan, Setup};
use crate::world::World;
use rehearsal_mockbroker::control::Command;
use rehearsal_mockbroker::error::ErrorCode;
use rehearsal_mockbroker::fault::{Fault, FaultId, Lie, Requests};
use rehearsal_mockbroker::state::NewTopic;
use rehearsal_mockbroker::state::nodes::NodeId;
use rehearsal_mockbroker::wire::ApiKey;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// A line of a plan that cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line #{label} cannot be carried out: {why}")]
pub struct Unsupported {
    /// Its label.
    pub label: Name,
    /// Why.
    pub why: String,
}

/// Everything in this plan that cannot be carried out, with the reason. What this does not name is.
pub fn unsupported(plan: &Plan) -> Vec<Unsupported> {
    let reasons = plan.lines.iter().filter_map(|line| {
        let why = match &line.entry {
            Entry::Setup(Setup::Publisher { transactional: Some(_), .. }) => {
                "the bus has no transactions, and the broker does not coordinate any yet".to_owned()
            }
            Entry::Setup(Setup::Program { .. }) => "a program is run by `rehearsal run`".to_owned(),
            Entry::Fault { fault, .. } => why_not(plan, fault)?,
            _ => return None,
        };
        Some(Unsupported { label: line.label.clone(), why })
    });
    reasons.collect()
}

/// Why this fault cannot be carried out.
pub(crate) fn why_not(plan: &Plan, fault: &plan::Fault) -> Option<String> {
    match fault {
        plan::Fault::Cut { nodes, others, .. }
        | plan::Fault::CutOneWay { nodes, others, .. }
        | plan::Fault::Delay { nodes, others, .. }
        | plan::Fault::ResetConnections { nodes, others }
        | plan::Fault::Reorder { nodes, others, .. }
            if pairs(nodes, others).is_empty() =>
        {
            Some(
                "there is no connection between these nodes: brokers copy from each other by no network yet".to_owned(),
            )
        }
        plan::Fault::Garble { nodes, others, .. } => {
            let answers = nodes.0.iter().all(is_broker) && others.0.iter().all(|node| !is_broker(node));
            (!answers).then(|| "only what brokers answer can be damaged yet, not what clients ask".to_owned())
        }
        plan::Fault::ElectUnclean { .. } => Some(
            "the brokers elect a leader that is not in sync only where there is none, and choose it themselves"
                .to_owned(),
        ),
        plan::Fault::JumpClock { node: Node::Broker(_), .. } => Some("the brokers share one clock".to_owned()),
        plan::Fault::DriftClock { .. } => Some("all clocks of the simulated system run at one speed yet".to_owned()),
        plan::Fault::TakeOver { node, .. } => {
            let fixed = plan
                .setup()
                .any(|setup| matches!(setup, Setup::Worker { name, instance: Some(_), .. } if *name == node.0));
            (!fixed).then(|| format!("{} has no `instance` whose place another could take", node.0))
        }
        plan::Fault::Leave { node, .. } => {
            let works = plan.setup().any(|setup| matches!(setup, Setup::Worker { name, .. } if *name == node.0));
            (!works).then(|| format!("{} is in no group it could leave", node.0))
        }
        plan::Fault::LoseResponse { api, .. }
        | plan::Fault::Hold { api, .. }
        | plan::Fault::Refuse { api, .. }
        | plan::Fault::Throttle { api, .. } => {
            key(*api).is_none().then(|| format!("nobody in a plan asks {api:?} yet"))
        }
        _ => None,
    }
}

fn is_broker(node: &Node) -> bool {
    matches!(node, Node::Broker(_))
}

fn name_of(node: &Node) -> Name {
    match node {
        Node::Broker(id) => format!("broker-{id}").into(),
        Node::Named(name) => name.clone(),
    }
}

/// Who talks to whom: clients to brokers, and brokers to clients.
fn pairs(nodes: &Nodes, others: &Nodes) -> Vec<(Name, Name)> {
    let talk = |a: &Node, b: &Node| is_broker(a) != is_broker(b);
    let each = nodes.0.iter().flat_map(|a| others.0.iter().filter(move |b| talk(a, b)).map(move |b| (a, b)));
    each.map(|(a, b)| (name_of(a), name_of(b))).collect()
}

/// The API of this name, if somebody in a plan asks it.
fn key(api: Api) -> Option<ApiKey> {
    Some(match api {
        Api::Produce => ApiKey::Produce,
        Api::Fetch => ApiKey::Fetch,
        Api::ListOffsets => ApiKey::ListOffsets,
        Api::Metadata => ApiKey::Metadata,
        Api::OffsetCommit => ApiKey::OffsetCommit,
        Api::OffsetFetch => ApiKey::OffsetFetch,
        Api::FindCoordinator => ApiKey::FindCoordinator,
        Api::JoinGroup => ApiKey::JoinGroup,
        Api::Heartbeat => ApiKey::Heartbeat,
        Api::LeaveGroup => ApiKey::LeaveGroup,
        Api::SyncGroup => ApiKey::SyncGroup,
        Api::ApiVersions => ApiKey::ApiVersions,
        Api::CreateTopics => ApiKey::CreateTopics,
        Api::InitProducerId => ApiKey::InitProducerId,
        Api::OffsetForLeaderEpoch => ApiKey::OffsetForLeaderEpoch,
        Api::AddPartitionsToTxn
        | Api::AddOffsetsToTxn
        | Api::EndTxn
        | Api::TxnOffsetCommit
        | Api::ConsumerGroupHeartbeat => return None,
    })
}

/// What members of a group ask of its coordinator.
const OF_COORDINATORS: [ApiKey; 5] =
    [ApiKey::JoinGroup, ApiKey::SyncGroup, ApiKey::Heartbeat, ApiKey::OffsetCommit, ApiKey::OffsetFetch];

/// Carries faults out. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Faults {
    evidence: Evidence,
    /// The topics as they were set up, for one that is created anew.
    topics: Rc<BTreeMap<Name, Setup>>,
    acting: Rc<RefCell<Acting>>,
}

#[derive(Default)]
struct Acting {
    /// What the cluster was told to do, by the fault's label.
    planned: BTreeMap<Name, Vec<FaultId>>,
    /// How many faults cut each link.
    cut: BTreeMap<(Name, Name), u32>,
    dead: BTreeMap<Name, u32>,
    paused: BTreeMap<Name, u32>,
    /// How far each wall clock is off.
    skewed: BTreeMap<Name, i64>,
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").finish_non_exhaustive()
    }
}

impl Faults {
    pub(crate) fn of(plan: &Plan, evidence: Evidence) -> Self {
        let topics = plan.setup().filter(|setup| matches!(setup, Setup::Topic { .. }));
        let topics = Rc::new(topics.map(|topic| (topic.name().clone(), topic.clone())).collect());
        Self { evidence, topics, acting: Rc::default() }
    }

    /// It begins.
    pub(crate) fn begin(&self, world: &World, label: &Name, fault: &plan::Fault) {
        let began = What::FaultBegan { label: label.clone(), family: fault.family(), nodes: nodes_of(fault) };
        self.evidence.record_of_world(began);
        if self.act(world, label, fault) {
            self.evidence.record_of_world(What::FaultHit { label: label.clone() });
        }
        if fault.lasts().is_zero() {
            self.evidence.record_of_world(What::FaultEnded { label: label.clone() });
        }
    }

    /// Whether it did something at once; what the brokers do to requests is counted at its end.
    fn act(&self, world: &World, label: &Name, fault: &plan::Fault) -> bool {
        use plan::Fault as F;
        match fault {
            F::Cut { nodes, others, .. } => {
                pairs(nodes, others).into_iter().for_each(|(a, b)| {
                    self.cut(world, &a, &b);
                    self.cut(world, &b, &a);
                });
                true
            }
            F::CutOneWay { nodes, others, .. } => {
                pairs(nodes, others).iter().for_each(|(a, b)| self.cut(world, a, b));
                true
            }
            F::Delay { nodes, others, by, tail, .. } => delay(world, &pairs(nodes, others), *by, *tail),
            F::Reorder { nodes, others, within, .. } => delay(world, &pairs(nodes, others), Duration::ZERO, *within),
            F::ResetConnections { nodes, others } => {
                pairs(nodes, others).iter().for_each(|(a, b)| world.reset(a, b));
                true
            }
            F::LoseResponse { api, broker, times, .. } => {
                self.plan(world, label, *api, broker.0, |at| at.disconnect_after_effect().times((*times).into()))
            }
            F::Hold { api, broker, .. } => self.plan(world, label, *api, broker.0, |at| at.hold().always()),
            F::Throttle { api, broker, by, .. } => {
                self.plan(world, label, *api, broker.0, |at| at.throttle(*by).always())
            }
            F::Refuse { api, broker, error, times, .. } => {
                let code = ErrorCode::from_code(error.code()).unwrap_or(ErrorCode::UnknownServerError);
                self.plan(world, label, *api, broker.0, |at| at.error(code).times((*times).into()))
            }
            F::Garble { damage, nodes, others, times, .. } => {
                for broker in nodes.0.iter().filter_map(broker_id) {
                    for client in &others.0 {
                        let answers = Requests::any().broker(broker).client(&*name_of(client));
                        let fault = match damage {
                            Damage::Short => answers.cut_short(),
                            Damage::Flipped => answers.garble(),
                        };
                        self.plan_this(world, label, fault.times((*times).into()));
                    }
                }
                false
            }
            F::Crash { broker, .. } => world.control(Command::PowerLoss(id(broker.0))).is_ok(),
            F::Restart { broker, .. } => world.control(Command::Stop(id(broker.0))).is_ok(),
            F::Pause { node, .. } => {
                let name = name_of(node);
                *self.acting.borrow_mut().paused.entry(name.clone()).or_default() += 1;
                world.pause(&name);
                self.evidence.record(&name, What::NodePaused);
                true
            }
            F::MoveLeader { partition, broker } => {
                let (topic, partition) = at(partition);
                world.control(Command::MoveLeader { topic, partition, to: id(broker.0) }).is_ok()
            }
            F::ShrinkIsr { partition, broker, .. } => {
                let (topic, partition) = at(partition);
                world.control(Command::ShrinkIsr { topic, partition, node: id(broker.0) }).is_ok()
            }
            F::Lag { partition, broker, .. } => {
                let (topic, partition) = at(partition);
                world.control(Command::StopCopying { topic, partition, node: id(broker.0) }).is_ok()
            }
            F::MoveCoordinator { group, .. } => self.move_coordinator(world, label, &group.0),
            F::StaleMetadata { broker, .. } => {
                self.plan(world, label, Api::Metadata, broker.0, |at| at.stale_metadata().always())
            }
            F::DenyTopic { topic, broker, .. } => {
                let lie = Lie::NoTopic(topic.0.to_string());
                self.plan(world, label, Api::Metadata, broker.0, |at| at.lie(lie).always())
            }
            F::DeleteRecords { partition, keep } => {
                let (topic, partition) = at(partition);
                let index = usize::try_from(partition).unwrap_or_default();
                let high = world.cluster(|cluster| {
                    cluster.partitions(&topic).get(index).map_or(0, |partition| partition.log.high_watermark())
                });
                let before = high.saturating_sub((*keep).into()).max(0);
                world.control(Command::Trim { topic, partition, before }).is_ok()
            }
            F::Recreate { topic, .. } => world.control(Command::DeleteTopic(topic.0.to_string())).is_ok(),
            F::AddPartitions { topic, partitions } => {
                let total = i32::try_from(*partitions).unwrap_or(i32::MAX);
                world.control(Command::AddPartitions { topic: topic.0.to_string(), total }).is_ok()
            }
            F::ExpireOffsets { group } => world.control(Command::ExpireOffsets { group: group.0.to_string() }).is_ok(),
            F::Kill { node, .. } => {
                let mut acting = self.acting.borrow_mut();
                let deaths = acting.dead.entry(node.0.clone()).or_default();
                *deaths += 1;
                if *deaths == 1 {
                    world.crash(&node.0);
                    self.evidence.record(&node.0, What::NodeCrashed);
                }
                true
            }
            // The worker, and who takes its place, know their hours themselves.
            F::Leave { .. } | F::TakeOver { .. } => true,
            F::JumpClock { node, by } => {
                let name = name_of(node);
                let millis = i64::try_from(by.by.as_millis()).unwrap_or(i64::MAX);
                let mut acting = self.acting.borrow_mut();
                let skew = acting.skewed.entry(name.clone()).or_default();
                *skew = skew.saturating_add(if by.back { -millis } else { millis });
                world.skew_clock(&name, *skew);
                true
            }
            // These are told apart before the run.
            F::ElectUnclean { .. } | F::DriftClock { .. } => false,
        }
    }

    /// It is over.
    pub(crate) fn end(&self, world: &World, label: &Name, fault: &plan::Fault) {
        use plan::Fault as F;
        match fault {
            F::Cut { nodes, others, .. } => pairs(nodes, others).iter().for_each(|(a, b)| {
                self.heal(world, a, b);
                self.heal(world, b, a);
            }),
            F::CutOneWay { nodes, others, .. } => {
                pairs(nodes, others).iter().for_each(|(a, b)| self.heal(world, a, b));
            }
            F::Delay { nodes, others, .. } | F::Reorder { nodes, others, .. } => {
                for (a, b) in pairs(nodes, others) {
                    world.reset_latency(&a, &b);
                    world.reset_latency(&b, &a);
                }
            }
            // It runs already when another fault has ended before.
            F::Crash { broker, .. } | F::Restart { broker, .. } => drop(world.control(Command::Start(id(broker.0)))),
            F::Pause { node, .. } => {
                let name = name_of(node);
                let mut acting = self.acting.borrow_mut();
                let pauses = acting.paused.entry(name.clone()).or_default();
                *pauses = pauses.saturating_sub(1);
                if *pauses == 0 {
                    world.resume(&name);
                    self.evidence.record(&name, What::NodeResumed);
                }
            }
            F::ShrinkIsr { partition, broker, .. } => {
                let (topic, partition) = at(partition);
                drop(world.control(Command::ExpandIsr { topic, partition, node: id(broker.0) }));
            }
            F::Lag { partition, broker, .. } => {
                let (topic, partition) = at(partition);
                drop(world.control(Command::ResumeCopying { topic, partition, node: id(broker.0) }));
            }
            F::Recreate { topic, .. } => self.create(world, &topic.0),
            F::Kill { node, .. } => {
                let mut acting = self.acting.borrow_mut();
                let deaths = acting.dead.entry(node.0.clone()).or_default();
                *deaths = deaths.saturating_sub(1);
                if *deaths == 0 {
                    world.restart(&node.0);
                }
            }
            _ => {}
        }
        self.forget(world, label);
        self.evidence.record_of_world(What::FaultEnded { label: label.clone() });
    }

    /// Everything is over.
    pub(crate) fn heal_all(&self, world: &World) {
        let labels: Vec<Name> = self.acting.borrow().planned.keys().cloned().collect();
        labels.iter().for_each(|label| self.forget(world, label));
        for name in self.acting.borrow().skewed.keys() {
            world.skew_clock(name, 0);
        }
        self.evidence.record_of_world(What::Healed);
    }

    fn cut(&self, world: &World, from: &Name, to: &Name) {
        let mut acting = self.acting.borrow_mut();
        *acting.cut.entry((from.clone(), to.clone())).or_default() += 1;
        world.cut_one_way(from, to);
    }

    fn heal(&self, world: &World, from: &Name, to: &Name) {
        let mut acting = self.acting.borrow_mut();
        let cuts = acting.cut.entry((from.clone(), to.clone())).or_default();
        *cuts = cuts.saturating_sub(1);
        if *cuts == 0 {
            world.heal_one_way(from, to);
        }
    }

    fn plan(&self, world: &World, label: &Name, api: Api, broker: u32, what: impl FnOnce(Requests) -> Fault) -> bool {
        if let Some(api) = key(api) {
            let broker = i32::try_from(broker).unwrap_or_default();
            self.plan_this(world, label, what(Requests::of(api).broker(broker)));
        }
        false
    }

    fn plan_this(&self, world: &World, label: &Name, fault: Fault) {
        // Refused is what can never happen, as a lie about a topic that is gone: then it has no hits.
        if let Ok(id) = world.cluster(|cluster| cluster.plan(fault.may_not_fire())) {
            self.acting.borrow_mut().planned.entry(label.clone()).or_default().push(id);
        }
    }

    /// Takes what the brokers were told back, and says how often it happened.
    fn forget(&self, world: &World, label: &Name) {
        let planned = self.acting.borrow_mut().planned.remove(label).unwrap_or_default();
        for id in planned {
            let hits = world.cluster(|cluster| cluster.hits(id)).unwrap_or_default();
            for _ in 0..hits.min(HITS_MAX) {
                self.evidence.record_of_world(What::FaultHit { label: label.clone() });
            }
            drop(world.control(Command::Forget(id)));
        }
    }

    fn move_coordinator(&self, world: &World, label: &Name, group: &Name) -> bool {
        let Some(now) = world.cluster(|cluster| leader_of_group(cluster, group)) else { return false };
        let brokers = i32::try_from(world.view().brokers.len()).unwrap_or(i32::MAX);
        let next = now % brokers + 1;
        let moved = world.control(Command::MoveCoordinator { group: group.to_string(), to: id(next.unsigned_abs()) });
        if moved.is_ok() {
            for api in OF_COORDINATORS {
                let loading = Requests::of(api).broker(next).group(&**group);
                self.plan_this(world, label, loading.error(ErrorCode::CoordinatorLoadInProgress).always());
            }
        }
        moved.is_ok()
    }

    fn create(&self, world: &World, topic: &Name) {
        let Some(Setup::Topic { partitions, replicas, min_isr, .. }) = self.topics.get(topic) else { return };
        let configs = min_isr.map(|min| ("min.insync.replicas".to_owned(), Some(min.to_string())));
        let new = NewTopic {
            name: topic.to_string(),
            partitions: i32::try_from(*partitions).ok(),
            replication_factor: i16::try_from(*replicas).ok(),
            configs: configs.into_iter().collect(),
            ..NewTopic::default()
        };
        if world.control(Command::CreateTopic(new)).is_ok() {
            self.evidence.record_of_world(What::Recreated { topic: topic.clone() });
        }
    }
}

/// A throttle can hit every request for a quarter of a minute; nobody counts further.
const HITS_MAX: u64 = 100;

fn id(broker: u32) -> NodeId {
    NodeId(i32::try_from(broker).unwrap_or(i32::MAX))
}

fn broker_id(node: &Node) -> Option<i32> {
    match node {
        Node::Broker(id) => i32::try_from(*id).ok(),
        Node::Named(_) => None,
    }
}

fn at(partition: &plan::Partition) -> (String, i32) {
    (partition.topic.to_string(), i32::try_from(partition.index).unwrap_or(i32::MAX))
}

/// Packets take `by` longer, and up to `tail` longer than that, evenly: the network has no other distribution yet.
fn delay(world: &World, pairs: &[(Name, Name)], by: Duration, tail: Duration) -> bool {
    for (a, b) in pairs {
        world.set_latency(a, b, by, tail);
        world.set_latency(b, a, by, tail);
    }
    true
}

/// On whom it acts; nobody named is everybody.
fn nodes_of(fault: &plan::Fault) -> Vec<Name> {
    use plan::Fault as F;
    let broker = |broker: &plan::Broker| vec![format!("broker-{}", broker.0).into()];
    match fault {
        F::Cut { nodes, others, .. }
        | F::CutOneWay { nodes, others, .. }
        | F::Delay { nodes, others, .. }
        | F::ResetConnections { nodes, others }
        | F::Reorder { nodes, others, .. }
        | F::Garble { nodes, others, .. } => nodes.0.iter().chain(&others.0).map(name_of).collect(),
        F::Crash { broker: of, .. } | F::Restart { broker: of, .. } => broker(of),
        F::Pause { node, .. } | F::JumpClock { node, .. } | F::DriftClock { node, .. } => vec![name_of(node)],
        F::Kill { node, .. } | F::Leave { node, .. } | F::TakeOver { node, .. } => vec![node.0.clone()],
        // What happens at one broker is felt by whoever talks to it.
        _ => Vec::new(),
    }
}
