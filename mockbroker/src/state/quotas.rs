//! Client quotas: who may do how much a second, and how long who did more has to wait (`ClientQuotaManager`,
//! `ClientQuotaControlManager`, KIP-13, KIP-55, KIP-124, KIP-257).

mod rate;

use super::nodes::NodeId;
use crate::error::{ErrorCode, Reject};
use crate::time::Time;
use rate::Rate;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a part of an entity is, by Kafka's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntityType {
    /// `user`.
    User,
    /// `client-id`.
    ClientId,
    /// `ip`.
    Ip,
}

/// Whom a quota is for: names by type; no name is the default for all that have none of their own.
pub type Entity = BTreeMap<EntityType, Option<String>>;

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limited {
    /// Bytes of produce requests a second, `producer_byte_rate`.
    Produce,
    /// Bytes of fetch responses a second, `consumer_byte_rate`.
    Fetch,
    /// Percent of a thread's time, `request_percentage`.
    Request,
}

/// Quotas as they are set, and what has been used of them.
#[derive(Debug, Default)]
pub struct Quotas {
    set: BTreeMap<Entity, BTreeMap<String, f64>>,
    /// Every broker counts for itself.
    used: BTreeMap<(NodeId, Limited, Entity), Rate>,
}

/// A change to one quota: its key, and its value unless it goes.
pub type Op<'a> = (&'a str, Option<f64>);

/// The quotas of users and clients; whole numbers where the flag is set.
const CLIENT_KEYS: &[(&str, bool)] = &[
    ("producer_byte_rate", true),
    ("consumer_byte_rate", true),
    ("request_percentage", false),
    ("controller_mutation_rate", false),
];
/// The quotas of addresses.
const IP_KEYS: &[(&str, bool)] = &[("connection_creation_rate", true)];

/// Nobody waits longer than this for having used too much of the threads' time.
const REQUEST_THROTTLE_MAX: Duration = Duration::from_secs(1);

impl EntityType {
    /// The type of this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::User, Self::ClientId, Self::Ip].into_iter().find(|kind| kind.name() == name)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::ClientId => "client-id",
            Self::Ip => "ip",
        }
    }
}

impl Limited {
    const fn key(self) -> &'static str {
        match self {
            Self::Produce => "producer_byte_rate",
            Self::Fetch => "consumer_byte_rate",
            Self::Request => "request_percentage",
        }
    }
}

impl Quotas {
    /// All quotas, by entity and key.
    pub fn iter(&self) -> impl Iterator<Item = (&Entity, &BTreeMap<String, f64>)> {
        self.set.iter()
    }

    /// Whether nobody is limited.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Changes an entity's quotas, all or none; with `validate_only` none.
    pub fn alter(&mut self, entity: &Entity, ops: &[Op<'_>], validate_only: bool) -> Result<(), Reject> {
        check_entity(entity)?;
        for (at, (key, value)) in ops.iter().enumerate() {
            if ops[..at].iter().any(|(other, _)| other == key) {
                return invalid(format!("{key} is named twice"));
            }
            value.map_or(Ok(()), |value| check_value(entity, key, value))?;
        }
        if validate_only {
            return Ok(());
        }
        let quotas = self.set.entry(entity.clone()).or_default();
        for (key, value) in ops {
            match value {
                Some(value) => quotas.insert((*key).to_owned(), *value),
                None => quotas.remove(*key),
            };
        }
        self.set.retain(|_, quotas| !quotas.is_empty());
        Ok(())
    }

    /// Counts what a client used of a broker, and says how long it must wait for having used too much; zero while it may
    /// go on.
    pub fn record(
        &mut self,
        now: Time,
        node: NodeId,
        (user, client_id): (&str, &str),
        limited: Limited,
        amount: f64,
    ) -> Duration {
        let Some((entity, bound)) = self.bound(user, client_id, limited) else { return Duration::ZERO };
        let rate = self.used.entry((node, limited, entity)).or_default();
        rate.record(now, amount);
        let throttle = rate.wait_for(now, bound);
        if limited == Limited::Request { throttle.min(REQUEST_THROTTLE_MAX) } else { throttle }
    }

    /// Takes back what was counted and then not given.
    pub fn take_back(
        &mut self,
        now: Time,
        node: NodeId,
        (user, client_id): (&str, &str),
        limited: Limited,
        amount: f64,
    ) {
        if let Some((entity, _)) = self.bound(user, client_id, limited)
            && let Some(rate) = self.used.get_mut(&(node, limited, entity))
        {
            rate.record(now, -amount);
        }
    }

    /// The most a client may use at once: what its quota gives in the time over which it is measured.
    pub fn most_at_once(&self, user: &str, client_id: &str, limited: Limited) -> Option<f64> {
        self.bound(user, client_id, limited).map(|(_, bound)| bound * rate::WHOLE_WINDOWS as f64)
    }

    /// The quota that holds for a client, and whom it shares it with: the most special one there is
    /// (`DefaultQuotaCallback`).
    fn bound(&self, user: &str, client_id: &str, limited: Limited) -> Option<(Entity, f64)> {
        let (some_user, some_client) = (Some(user), Some(client_id));
        let levels: [&[(EntityType, Option<&str>)]; 8] = [
            &[(EntityType::User, some_user), (EntityType::ClientId, some_client)],
            &[(EntityType::User, some_user), (EntityType::ClientId, None)],
            &[(EntityType::User, some_user)],
            &[(EntityType::User, None), (EntityType::ClientId, some_client)],
            &[(EntityType::User, None), (EntityType::ClientId, None)],
            &[(EntityType::User, None)],
            &[(EntityType::ClientId, some_client)],
            &[(EntityType::ClientId, None)],
        ];
        levels.into_iter().find_map(|level| {
            let entity: Entity = level.iter().map(|(kind, name)| (*kind, name.map(str::to_owned))).collect();
            let bound = *self.set.get(&entity)?.get(limited.key())?;
            // A default is a quota of its own for everybody it holds for.
            let own = |kind: &EntityType| Some(if *kind == EntityType::User { user } else { client_id }.to_owned());
            Some((entity.keys().map(|kind| (*kind, own(kind))).collect(), bound))
        })
    }
}

fn check_entity(entity: &Entity) -> Result<(), Reject> {
    if entity.is_empty() {
        return invalid("a quota must be for somebody");
    }
    if let Some((kind, _)) = entity.iter().find(|(_, name)| name.as_deref() == Some("")) {
        return invalid(format!("the name of the {} is empty", kind.name()));
    }
    if entity.contains_key(&EntityType::Ip) && entity.len() > 1 {
        return invalid("a quota for an address is for no user and no client id");
    }
    Ok(())
}

fn check_value(entity: &Entity, key: &str, value: f64) -> Result<(), Reject> {
    let known = if entity.contains_key(&EntityType::Ip) { IP_KEYS } else { CLIENT_KEYS };
    let Some((_, whole)) = known.iter().find(|(name, _)| *name == key) else {
        return invalid(format!("there is no quota '{key}' for this"));
    };
    let max = if entity.contains_key(&EntityType::Ip) { f64::from(i32::MAX) } else { i64::MAX as f64 };
    // As in Kafka a NaN is neither too small nor too large.
    if value <= 0.0 {
        return invalid(format!("{key} must be more than 0"));
    }
    if *whole && (value > max || (value % 1.0).abs() > 1e-6) {
        return invalid(format!("{key} must be a whole number up to {max}"));
    }
    Ok(())
}

fn invalid<T>(why: impl Into<std::borrow::Cow<'static, str>>) -> Result<T, Reject> {
    Err(Reject::new(ErrorCode::InvalidRequest, why))
}
