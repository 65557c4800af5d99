//! What the four config APIs share: which thing a request names, and how a change to it is answered.

use super::access::To;
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::fault::Part;
use crate::state::State;
use crate::state::configs::{Admitted, Configs, Resource};
use crate::state::security::acls::Operation;
use crate::state::topics;
use crate::time::Time;
use crate::wire::Str;
use std::collections::BTreeMap;

/// The kinds of things that have configs, by Kafka's numbers (`ConfigResource.Type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i8)]
pub(super) enum ResourceKind {
    Topic = 2,
    Broker = 4,
    BrokerLogger = 8,
    ClientMetrics = 16,
    Group = 32,
}

impl ResourceKind {
    /// All of them, in the order ListConfigResources names them.
    pub(super) const ALL: [Self; 5] = [Self::Group, Self::ClientMetrics, Self::BrokerLogger, Self::Broker, Self::Topic];

    pub(super) fn from_code(code: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as i8 == code)
    }
}

/// The resource of this kind and name. A broker answers only for itself and for all brokers together.
pub(super) fn named(from: &Caller, kind: ResourceKind, name: &str) -> Result<Resource, Reject> {
    match kind {
        ResourceKind::Topic => {
            topics::check_name(name)?;
            Ok(Resource::Topic(name.to_owned()))
        }
        ResourceKind::Broker if name.is_empty() => Ok(Resource::DefaultBroker),
        ResourceKind::Broker => Ok(Resource::Broker(own_id(from, name)?)),
        ResourceKind::BrokerLogger => Ok(Resource::BrokerLogger(own_id(from, name)?)),
        ResourceKind::ClientMetrics if name.is_empty() => invalid("a subscription to metrics needs a name"),
        ResourceKind::ClientMetrics => Ok(Resource::ClientMetrics(name.to_owned())),
        ResourceKind::Group if name.is_empty() => invalid("a group needs a name"),
        ResourceKind::Group => Ok(Resource::Group(name.to_owned())),
    }
}

/// What the authoriser is asked about for this kind and name.
pub(super) fn guarded(kind: ResourceKind, name: &str) -> To<'_> {
    match kind {
        ResourceKind::Topic => To::Topic(name),
        ResourceKind::Group => To::Group(name),
        ResourceKind::Broker | ResourceKind::BrokerLogger | ResourceKind::ClientMetrics => To::Cluster,
    }
}

fn own_id(from: &Caller, name: &str) -> Result<i32, Reject> {
    match name.parse::<i32>() {
        Ok(id) if id == from.node.0 => Ok(id),
        Ok(_) => invalid(format!("this is {}; ask broker {name} itself", from.node)),
        Err(_) => invalid(format!("'{name}' is not a broker's id")),
    }
}

/// A resource to be altered: its type and name as the request gives them.
pub(super) type Named = (i8, Str);

/// Alters the configs of several resources, each with its own outcome; one named twice is not changed at all.
///
/// `admit` is given the broker that judges. As in Kafka all are judged by what holds before the request, so
/// that no change sees another.
pub(super) fn alter_each<C>(
    state: &mut State,
    now: Time,
    from: &Caller,
    resources: Vec<(Named, C)>,
    validate_only: bool,
    admit: impl Fn(&Configs, Option<i32>, &Resource, C) -> Result<Admitted, Reject>,
) -> Vec<(Named, Result<(), Reject>)> {
    let mut times_named: BTreeMap<Named, u32> = BTreeMap::new();
    for (named, _) in &resources {
        *times_named.entry(named.clone()).or_default() += 1;
    }
    let judged = resources.into_iter().map(|(named, changes)| {
        let admitted = match times_named.get(&named) {
            Some(1) => {
                admit_one(state, from, &named, |judge, resource| admit(&state.configs, judge, resource, changes))
            }
            _ => invalid("the request names this resource twice"),
        };
        (named, admitted)
    });
    let judged: Vec<_> = judged.collect();
    let made = judged.into_iter().map(|(named, admitted)| {
        let outcome = admitted.map(|admitted| {
            if !validate_only {
                state.configs.make(admitted);
            }
        });
        (named, outcome)
    });
    let made = made.collect();
    state.configs_changed(now);
    made
}

fn admit_one(
    state: &State,
    from: &Caller,
    (kind, name): &Named,
    admit: impl FnOnce(Option<i32>, &Resource) -> Result<Admitted, Reject>,
) -> Result<Admitted, Reject> {
    from.check_fault(Part::Named(name))?;
    let unknown = || Reject::new(ErrorCode::InvalidRequest, format!("nothing of type {kind} has configs"));
    let kind = ResourceKind::from_code(*kind).ok_or_else(unknown)?;
    let operation = if kind == ResourceKind::BrokerLogger { Operation::ClusterAction } else { Operation::AlterConfigs };
    from.check_access(state, operation, guarded(kind, name))?;
    if kind == ResourceKind::Topic && name.is_empty() {
        return invalid("there are no configs for all topics together");
    }
    let resource = named(from, kind, name)?;
    let judge = match kind {
        ResourceKind::Broker | ResourceKind::BrokerLogger => Some(from.node),
        _ => state.nodes.controller(),
    };
    let admitted = admit(judge.map(|node| node.0), &resource)?;
    // Kafka looks at the values before it looks for the topic.
    match &resource {
        Resource::Topic(topic) if state.topics.get(topic).is_none() => {
            Err(Reject::new(ErrorCode::UnknownTopicOrPartition, format!("there is no topic '{topic}'")))
        }
        _ => Ok(admitted),
    }
}

/// The text that goes with an outcome: none for success, nor for an accident of the controller's.
pub(super) fn text(outcome: &Result<(), Reject>) -> Option<Str> {
    match outcome {
        Ok(()) => None,
        Err(reject) if reject.code == ErrorCode::UnknownServerError => None,
        Err(reject) => super::message(reject),
    }
}

pub(super) fn code(outcome: &Result<(), Reject>) -> i16 {
    outcome.as_ref().err().map_or(ErrorCode::None, |reject| reject.code).code()
}

fn invalid<T>(why: impl Into<std::borrow::Cow<'static, str>>) -> Result<T, Reject> {
    Err(Reject::new(ErrorCode::InvalidRequest, why))
}
