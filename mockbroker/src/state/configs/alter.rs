//! Changing configs while the cluster runs: what may be set, by whom, and what Kafka refuses.

use super::keys::{Change, Key, Kind, Value, find};
use super::settings::GROUP_BOUNDS;
use super::{
    Configs, Effective, Entries, GroupView, InvalidConfig, MIN_INSYNC_REPLICAS, Resource, broker_key, listener_config,
    read_all, table,
};
use crate::error::{ErrorCode, Reject};
use std::collections::{BTreeMap, BTreeSet};

/// One change to one config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alteration<'a> {
    /// The config.
    pub name: &'a str,
    /// What is done with it.
    pub op: Op,
    /// The new value, or the elements to add or take away.
    pub value: Option<&'a str>,
}

/// What an [`Alteration`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Sets a value.
    Set,
    /// Goes back to what would hold without it.
    Delete,
    /// Adds elements to a list, unless they are there.
    Append,
    /// Takes elements out of a list.
    Subtract,
    /// An operation Kafka has no name for.
    Unknown(i8),
}

/// A change that was admitted and waits to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "nothing changes until it is made"]
pub struct Admitted {
    resource: Resource,
    next: Next,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Next {
    Entries(Entries),
    LogLevel(Option<String>),
}

impl Configs {
    /// Admits changes to some configs of a resource, all or none (IncrementalAlterConfigs).
    ///
    /// `judge` is the broker that checks them against its own configs: the one asked where brokers' configs
    /// change, else the controller. Whether a topic exists is the caller's question.
    pub fn admit_alterations(
        &self,
        judge: Option<i32>,
        resource: &Resource,
        alterations: &[Alteration<'_>],
    ) -> Result<Admitted, Reject> {
        check_request(alterations.iter().map(|a| (a.name, a.value.is_some() || a.op == Op::Delete)))?;
        if let Resource::BrokerLogger(_) = resource {
            let next = Next::LogLevel(log_level(alterations)?);
            return Ok(Admitted { resource: resource.clone(), next });
        }
        let mut next = self.entries(resource).cloned().unwrap_or_default();
        for alteration in alterations {
            apply(&mut next, resource, alteration)?;
        }
        self.admit(judge, resource, &next, alterations.iter().map(|alteration| alteration.name))?;
        Ok(Admitted { resource: resource.clone(), next: Next::Entries(next) })
    }

    /// Admits other configs in place of all a resource has (AlterConfigs): what is not named goes back to its
    /// default.
    pub fn admit_replacement(
        &self,
        judge: Option<i32>,
        resource: &Resource,
        entries: &[(&str, Option<&str>)],
    ) -> Result<Admitted, Reject> {
        check_request(entries.iter().map(|(name, value)| (*name, value.is_some())))?;
        if let Resource::BrokerLogger(_) = resource {
            return refuse("loggers can be altered only incrementally");
        }
        let next: Entries =
            entries.iter().filter_map(|(name, value)| Some(((*name).to_owned(), (*value)?.to_owned()))).collect();
        let before = self.entries(resource);
        let gone = before.into_iter().flat_map(Entries::keys).map(String::as_str);
        let gone = gone.filter(|name| !next.contains_key(*name));
        self.admit(judge, resource, &next, entries.iter().map(|(name, _)| *name).chain(gone))?;
        Ok(Admitted { resource: resource.clone(), next: Next::Entries(next) })
    }

    /// Makes a change.
    pub fn make(&mut self, admitted: Admitted) {
        match (admitted.resource, admitted.next) {
            (Resource::BrokerLogger(node), Next::LogLevel(Some(level))) => {
                self.log_levels.insert(node, level);
            }
            (resource, Next::Entries(next)) => self.store(resource, next),
            (_, Next::LogLevel(_)) => {}
        }
    }

    /// Asks whether `next` may become the configs of a resource, `altered` naming those that change.
    fn admit<'a>(
        &self,
        judge: Option<i32>,
        resource: &Resource,
        next: &Entries,
        altered: impl Iterator<Item = &'a str>,
    ) -> Result<(), Reject> {
        match resource {
            Resource::Broker(node) => self.admit_broker(judge, next, Some(*node), altered),
            Resource::DefaultBroker => self.admit_broker(judge, next, None, altered),
            Resource::Topic(_) => {
                check_lengths(next)?;
                Ok(self.check_topic_entries(judge, next)?)
            }
            Resource::Group(name) if name.is_empty() => refuse("a group must be named"),
            Resource::Group(_) => {
                check_lengths(next)?;
                Ok(self.check_group(judge, next)?)
            }
            Resource::ClientMetrics(name) if name.is_empty() => refuse("a subscription must be named"),
            Resource::ClientMetrics(_) => {
                check_lengths(next)?;
                check_client_metrics(next)
            }
            Resource::BrokerLogger(_) => Ok(()),
        }
    }

    fn admit_broker<'a>(
        &self,
        judge: Option<i32>,
        next: &Entries,
        node: Option<i32>,
        mut altered: impl Iterator<Item = &'a str>,
    ) -> Result<(), Reject> {
        check_dynamic(next, node.is_some())?;
        self.check_together(judge, next, node)
            .map_err(|invalid| Reject::new(ErrorCode::InvalidRequest, invalid.to_string()))?;
        let altered_isr = altered.any(|name| name == MIN_INSYNC_REPLICAS);
        // Eligible leader replicas (KIP-966) need one cluster-wide value, always.
        if altered_isr && node.is_some() {
            return Err(InvalidConfig::Conflict("min.insync.replicas cannot differ by broker".into()).into());
        }
        if altered_isr && !next.contains_key(MIN_INSYNC_REPLICAS) {
            return Err(InvalidConfig::Conflict("the cluster's min.insync.replicas cannot be removed".into()).into());
        }
        Ok(check_lengths(next)?)
    }

    /// Checks the configs a broker would have if `next` was set for it, or the judge if it was set for all.
    fn check_together(&self, judge: Option<i32>, next: &Entries, node: Option<i32>) -> Result<(), InvalidConfig> {
        let seen_by = node.or(judge);
        let [given, own, cluster, set] = self.layers(seen_by);
        let now = Effective::of([given, own, cluster, set]);
        let then = match node {
            Some(_) => Effective::of([given, own, cluster, next]),
            None => Effective::of([given, own, next, set]),
        };
        check_thread_counts(&now, &then)?;
        check_unchangeable(next)?;
        check_running(&then)?;
        then.check()
    }

    fn check_group(&self, judge: Option<i32>, next: &Entries) -> Result<(), InvalidConfig> {
        read_all("group", table::GROUP, next)?;
        let group = GroupView { broker: self.effective(judge), own: Some(next) };
        for bounds in GROUP_BOUNDS {
            let (min, max) = bounds.range(&group.broker);
            let value = group.number(bounds.config);
            if !(min..=max).contains(&value) {
                let text = format!("{} must be {min} to {max}, as its brokers demand, not {value}", bounds.config);
                return Err(InvalidConfig::Conflict(text));
            }
        }
        for of in ["consumer", "share", "streams"] {
            let (session, heartbeat) = (format!("{of}.session.timeout.ms"), format!("{of}.heartbeat.interval.ms"));
            if group.number(&session) <= group.number(&heartbeat) {
                return Err(InvalidConfig::Conflict(format!("{session} must exceed {heartbeat}")));
            }
        }
        Ok(())
    }

    pub(super) fn entries(&self, resource: &Resource) -> Option<&Entries> {
        match resource {
            Resource::Topic(name) => self.overrides(name),
            Resource::Broker(node) => self.brokers.get(node),
            Resource::DefaultBroker => Some(&self.cluster),
            Resource::ClientMetrics(name) => self.client_metrics.get(name),
            Resource::Group(name) => self.groups.get(name),
            Resource::BrokerLogger(_) => None,
        }
    }

    fn store(&mut self, resource: Resource, next: Entries) {
        match resource {
            Resource::Topic(name) => self.set_topic(&name, next),
            Resource::Broker(node) => {
                keep_unless_empty(&mut self.brokers, node, next);
                self.refresh();
            }
            Resource::DefaultBroker => {
                self.cluster = next;
                self.refresh();
            }
            Resource::ClientMetrics(name) => keep_unless_empty(&mut self.client_metrics, name, next),
            Resource::Group(name) => keep_unless_empty(&mut self.groups, name, next),
            Resource::BrokerLogger(_) => {}
        }
    }
}

/// The one logger a broker here has; its level is remembered and means nothing.
pub(super) const ROOT_LOGGER: &str = "root";
const LOG_LEVELS: [&str; 6] = ["DEBUG", "ERROR", "FATAL", "INFO", "TRACE", "WARN"];

/// The level these alterations give the one logger, if any.
fn log_level(alterations: &[Alteration<'_>]) -> Result<Option<String>, Reject> {
    for change in alterations {
        if let Op::Unknown(_) = change.op {
            return Err(ErrorCode::UnknownServerError.into());
        }
        if matches!(change.op, Op::Append | Op::Subtract) {
            return refuse("a log level is not a list");
        }
        if change.name != ROOT_LOGGER {
            return Err(InvalidConfig::Conflict(format!("there is no logger {}", change.name)).into());
        }
        match change.value {
            _ if change.op == Op::Delete => return refuse("the root logger must have a level"),
            Some(level) if LOG_LEVELS.contains(&level) => {}
            _ => return Err(InvalidConfig::Conflict(format!("a log level is one of {LOG_LEVELS:?}")).into()),
        }
    }
    Ok(alterations.iter().find_map(|change| change.value).map(str::to_owned))
}

/// Every config once, each with the value its operation needs.
fn check_request<'a>(named: impl Iterator<Item = (&'a str, bool)>) -> Result<(), Reject> {
    let (mut seen, mut without) = (BTreeSet::new(), Vec::new());
    for (name, has_value) in named {
        if !seen.insert(name) {
            return refuse(format!("{name} is named twice"));
        }
        if !has_value {
            without.push(name);
        }
    }
    if without.is_empty() { Ok(()) } else { refuse(format!("no value for {}", without.join(", "))) }
}

fn apply(entries: &mut Entries, resource: &Resource, change: &Alteration<'_>) -> Result<(), Reject> {
    let (name, value) = (change.name, change.value.unwrap_or_default());
    let next = match change.op {
        Op::Set => value.to_owned(),
        Op::Delete => {
            entries.remove(name);
            return Ok(());
        }
        Op::Append => {
            let mut items = items(entries, list_key(resource, name)?);
            for item in elements(value) {
                if !items.iter().any(|present| present == item) {
                    items.push(item.to_owned());
                }
            }
            items.join(",")
        }
        Op::Subtract => {
            let mut items = items(entries, list_key(resource, name)?);
            for item in elements(value) {
                if let Some(at) = items.iter().position(|present| present == item) {
                    items.remove(at);
                }
            }
            items.join(",")
        }
        // A broker's preprocessing knows better than the controller, which fails in the middle.
        Op::Unknown(op) if matches!(resource, Resource::Broker(_) | Resource::DefaultBroker) => {
            return refuse(format!("there is no operation {op}"));
        }
        Op::Unknown(_) => return Err(ErrorCode::UnknownServerError.into()),
    };
    entries.insert(name.to_owned(), next);
    Ok(())
}

/// The key of a list that can be appended to. Kafka's controller knows no lists of groups and metrics.
fn list_key(resource: &Resource, name: &str) -> Result<&'static Key, Reject> {
    let key = match resource {
        Resource::Topic(_) => find(table::TOPIC, name),
        Resource::Broker(_) | Resource::DefaultBroker => find(table::BROKER, name),
        _ => None,
    };
    let list = key.filter(|key| key.kind == Kind::List);
    list.ok_or_else(|| InvalidConfig::Conflict(format!("{name} is not a list to add to or take from")).into())
}

fn items(entries: &Entries, key: &Key) -> Vec<String> {
    let present = entries.get(key.name).map(String::as_str).or(key.default).unwrap_or_default();
    present.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// What a request adds to a list or takes from it, split as Java splits: commas at the end are dropped, and an
/// empty text is one empty element, which most lists then refuse.
fn elements(value: &str) -> impl Iterator<Item = &str> {
    value.trim_end_matches(',').split(',').filter(move |_| value.is_empty() || value.contains(|c| c != ','))
}

/// What may be set while a broker runs. Names Kafka does not know pass: plugins have configs, too.
fn check_dynamic(next: &Entries, for_one_broker: bool) -> Result<(), Reject> {
    let of = |change: Change| move |name: &&String| find(table::BROKER, name).is_some_and(|key| key.change == change);
    refuse_if(next.keys().filter(of(Change::ReadOnly)), "cannot change while the broker runs")?;
    let security = next.keys().filter(|name| LISTENER_SECURITY.contains(&name.as_str()));
    refuse_if(security, "can change only for one listener, behind its prefix listener.name")?;
    // Kafka looks for config providers before it looks at values, and keeps them out of sight.
    for (name, value) in next.iter().filter(|(name, _)| !name.starts_with("config.providers")) {
        let read = broker_key(name).map(|key| key.read(value)).transpose();
        read.map_err(|invalid| Reject::new(ErrorCode::InvalidRequest, invalid.to_string()))?;
    }
    let single = next.keys().filter(|name| of(Change::PerBroker)(name) || belongs_to_one_listener(name));
    if for_one_broker { Ok(()) } else { refuse_if(single, "can change only for one broker") }
}

fn refuse_if<'a>(names: impl Iterator<Item = &'a String>, why: &str) -> Result<(), Reject> {
    let names: Vec<_> = names.map(String::as_str).collect();
    if names.is_empty() { Ok(()) } else { refuse(format!("{} {why}", names.join(", "))) }
}

fn belongs_to_one_listener(name: &str) -> bool {
    let for_all = ["max.connections", "max.connection.creation.rate", "num.network.threads"];
    listener_config(name).is_some_and(|config| !for_all.contains(&config))
}

/// Keys and certificates, which belong to a listener once the broker runs.
const LISTENER_SECURITY: [&str; 10] = [
    "ssl.key.password",
    "ssl.keystore.certificate.chain",
    "ssl.keystore.key",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.keystore.type",
    "ssl.truststore.certificates",
    "ssl.truststore.location",
    "ssl.truststore.password",
    "ssl.truststore.type",
];

/// A pool of threads may at most double or halve at a time.
fn check_thread_counts(now: &Effective<'_>, then: &Effective<'_>) -> Result<(), InvalidConfig> {
    for name in THREAD_COUNTS {
        let (before, after) = (now.number(name), then.number(name));
        if before != after && !((before / 2).max(1)..=before * 2).contains(&after) {
            let text = format!("{name} may at most halve or double at a time, not go from {before} to {after}");
            return Err(InvalidConfig::Conflict(text));
        }
    }
    Ok(())
}

const THREAD_COUNTS: [&str; 10] = [
    "background.threads",
    "log.cleaner.threads",
    "num.io.threads",
    "num.network.threads",
    "num.recovery.threads.per.data.dir",
    "num.replica.fetchers",
    "remote.log.manager.copier.thread.pool.size",
    "remote.log.manager.expiration.thread.pool.size",
    "remote.log.manager.follower.thread.pool.size",
    "remote.log.reader.threads",
];

/// What Kafka would change on a running broker and a stand-in cannot: its sockets and its Java classes.
fn check_unchangeable(next: &Entries) -> Result<(), InvalidConfig> {
    if let Some(name) = ["listeners", "listener.security.protocol.map"].iter().find(|name| next.contains_key(**name)) {
        return Err(InvalidConfig::Conflict(format!("{name} cannot change while this broker runs")));
    }
    let reporters = next.get("metric.reporters").into_iter().flat_map(|list| list.split(','));
    match reporters.map(str::trim).find(|class| !class.is_empty() && *class != JMX_REPORTER) {
        Some(class) => Err(InvalidConfig::Conflict(format!("there is no class {class} to report metrics"))),
        None => Ok(()),
    }
}

const JMX_REPORTER: &str = "org.apache.kafka.common.metrics.JmxReporter";

/// What Kafka demands of a running broker beyond what it demands at start.
fn check_running(then: &Effective<'_>) -> Result<(), InvalidConfig> {
    for name in ["max.connections", "max.connection.creation.rate"] {
        if then.number(name) <= 0 {
            return Err(InvalidConfig::Conflict(format!("{name} must be more than 0")));
        }
    }
    for (local, total) in
        [("log.local.retention.ms", "log.retention.ms"), ("log.local.retention.bytes", "log.retention.bytes")]
    {
        let kept = then.inherited(total).and_then(|value| value.number()).unwrap_or(-1);
        let (follows, no_limit) = (-2, -1);
        let here = then.number(local);
        if kept != no_limit && here != follows && (here == no_limit || here > kept) {
            return Err(InvalidConfig::Conflict(format!("{local} must not exceed {total}, {kept}")));
        }
    }
    let places: Vec<_> = ["log.dirs", "log.dir"]
        .into_iter()
        .find_map(|name| then.value(name))
        .iter()
        .flat_map(|v| v.items().to_vec())
        .collect();
    let cordoned = then.value("cordoned.log.dirs");
    match cordoned.iter().flat_map(|value| value.items()).find(|dir| !places.contains(dir)) {
        Some(dir) => Err(InvalidConfig::Conflict(format!("cordoned.log.dirs names {dir}, which is not in log.dirs"))),
        None => Ok(()),
    }
}

fn check_client_metrics(next: &Entries) -> Result<(), Reject> {
    read_all("client metrics", table::CLIENT_METRICS, next).map_err(|invalid| match invalid {
        InvalidConfig::Unknown { .. } => Reject::new(ErrorCode::InvalidRequest, invalid.to_string()),
        _ => invalid.into(),
    })?;
    let read = |name| find(table::CLIENT_METRICS, name).and_then(|key| key.read(next.get(name)?).ok());
    if let Some(Value::Number(ms)) = read("interval.ms")
        && !(100..=3_600_000).contains(&ms)
    {
        return refuse(format!("interval.ms must be 100 to 3600000, not {ms}"));
    }
    let patterns = read("match").unwrap_or(Value::List(Vec::new()));
    for pattern in patterns.items() {
        let param = pattern.split_once('=').filter(|(_, regex)| !regex.is_empty() && !regex.contains('='));
        if !param.is_some_and(|(param, _)| CLIENT_MATCHES.contains(&param.trim())) {
            return Err(InvalidConfig::Conflict(format!("{pattern} does not match clients by a known property")).into());
        }
    }
    Ok(())
}

const CLIENT_MATCHES: [&str; 6] = [
    "client_id",
    "client_instance_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];

/// Kafka stores no longer value.
const VALUE_CHARS_MAX: usize = i16::MAX as usize;

pub(super) fn check_length(name: &str, value: &str) -> Result<(), InvalidConfig> {
    if value.encode_utf16().count() <= VALUE_CHARS_MAX {
        return Ok(());
    }
    Err(InvalidConfig::Conflict(format!("the value of {name} is longer than {VALUE_CHARS_MAX}")))
}

fn check_lengths(entries: &Entries) -> Result<(), InvalidConfig> {
    entries.iter().try_for_each(|(name, value)| check_length(name, value))
}

fn keep_unless_empty<K: Ord>(all: &mut BTreeMap<K, Entries>, of: K, entries: Entries) {
    if entries.is_empty() {
        all.remove(&of);
    } else {
        all.insert(of, entries);
    }
}

fn refuse<T>(why: impl Into<std::borrow::Cow<'static, str>>) -> Result<T, Reject> {
    Err(Reject::new(ErrorCode::InvalidRequest, why))
}

impl From<InvalidConfig> for Reject {
    fn from(invalid: InvalidConfig) -> Self {
        Self::new(ErrorCode::InvalidConfig, invalid.to_string())
    }
}
