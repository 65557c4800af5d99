//! What the cluster, its brokers, topics, groups and metric subscriptions are configured with.
//!
//! A broker's config is looked for in four layers: what was set while it runs, for this broker, then for
//! all; what it was started with; Kafka's default. A topic or a group without a setting of its own follows
//! its broker. Names, types and defaults are those of Apache Kafka 4.3.0 (`table.rs`); the one other
//! default is [`FIRST_REBALANCE_DELAY`].
//!
//! Left out: documentation texts (they are Kafka's prose), Java classes (a class name is taken as it is),
//! config providers (`${…}` is plain text).

mod alter;
mod describe;
mod keys;
mod settings;
mod table;

pub use crate::wire::batch::TimestampType;
pub use alter::{Admitted, Alteration, Op};
pub use describe::{DescribedConfig, Source, Synonym};
pub use keys::Kind;
pub(in crate::state) use keys::iso_8601;
pub use settings::{BrokerSettings, Compression, GroupSettings, TopicSettings};

use keys::{Key, Value, find};
use settings::GROUP_BOUNDS;
use std::collections::{BTreeMap, BTreeSet};

/// Kafka waits 3 s for more members before a new group's first rebalance. Here the first consumer of a group
/// is to have its first record in milliseconds, so unless the config is given the wait is 0.
pub const FIRST_REBALANCE_DELAY: (&str, &str) = ("group.initial.rebalance.delay.ms", "0");

const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";

/// Configs by name, as text.
pub type Entries = BTreeMap<String, String>;

/// All configs of the cluster.
#[derive(Debug, Clone)]
pub struct Configs {
    /// Given to every broker at start.
    given: Entries,
    /// Given to one broker at start: its id, listeners, rack.
    own: BTreeMap<i32, Entries>,
    /// Set while running, for all brokers.
    cluster: Entries,
    /// Set while running, for one broker.
    brokers: BTreeMap<i32, Entries>,
    topics: BTreeMap<String, Topic>,
    groups: BTreeMap<String, Entries>,
    client_metrics: BTreeMap<String, Entries>,
    /// The level of each broker's one logger, where it was changed.
    log_levels: BTreeMap<i32, String>,
    resolved: Resolved,
}

#[derive(Debug, Clone)]
struct Topic {
    overrides: Entries,
    settings: TopicSettings,
}

/// What follows from the brokers' configs; refreshed whenever they change.
#[derive(Debug, Clone)]
struct Resolved {
    broker: BrokerSettings,
    topic: TopicSettings,
    /// Brokers whose own configs could make a topic behave differently there.
    special: BTreeSet<i32>,
}

/// Something that has configs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// A topic.
    Topic(String),
    /// One broker.
    Broker(i32),
    /// All brokers: what is set here holds wherever a broker has nothing of its own.
    DefaultBroker,
    /// The loggers of one broker.
    BrokerLogger(i32),
    /// A subscription to clients' metrics.
    ClientMetrics(String),
    /// A group.
    Group(String),
}

/// Why a config was not accepted; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConfig {
    /// No config has this name.
    #[error("unknown {of} config {name}{}", .nearest.map(|n| format!("; the nearest known name is {n}")).unwrap_or_default())]
    Unknown {
        /// Whose config: `topic`, `broker`, `group`.
        of: &'static str,
        /// The name given.
        name: String,
        /// A known name that resembles it.
        nearest: Option<&'static str>,
    },
    /// The value is of the wrong type or out of range.
    #[error("{name} must be {expected}, not {value:?}")]
    Value {
        /// The config.
        name: String,
        /// The value given.
        value: String,
        /// What it accepts.
        expected: String,
    },
    /// Two configs contradict each other, or one may not be set this way.
    #[error("{0}")]
    Conflict(String),
}

impl Configs {
    /// The configs of a new cluster, given those its brokers start with.
    ///
    /// Kafka logs an unknown name and goes on; here it is an error, since nobody reads a mock broker's log.
    pub fn new(mut given: Entries) -> Result<Self, InvalidConfig> {
        check_start(&given)?;
        given.entry(FIRST_REBALANCE_DELAY.0.to_owned()).or_insert_with(|| FIRST_REBALANCE_DELAY.1.to_owned());
        // Eligible leader replicas are on in 4.3: formatting stores the cluster's `min.insync.replicas`.
        let at_least = given.get(MIN_INSYNC_REPLICAS).map_or("1", |value| value.trim());
        let cluster = Entries::from([(MIN_INSYNC_REPLICAS.to_owned(), at_least.to_owned())]);
        let effective = Effective::of([&given, &cluster]);
        effective.check()?;
        // Kafka looks at these two together when it starts, and not when they change.
        let lag = |which: &str| effective.number(&format!("log.cleaner.{which}.compaction.lag.ms"));
        check_compaction_lags(lag("min"), lag("max"))?;
        let resolved = Resolved::from(&effective, BTreeSet::new());
        Ok(Self {
            given,
            own: BTreeMap::new(),
            cluster,
            brokers: BTreeMap::new(),
            topics: BTreeMap::new(),
            groups: BTreeMap::new(),
            client_metrics: BTreeMap::new(),
            log_levels: BTreeMap::new(),
            resolved,
        })
    }

    /// Adds what one broker alone was started with, such as `broker.rack`; its id needs no mention.
    pub fn introduce(&mut self, node: i32, mut own: Entries) -> Result<(), InvalidConfig> {
        check_start(&own)?;
        for name in ["node.id", "broker.id"] {
            own.insert(name.to_owned(), node.to_string());
        }
        self.own.insert(node, own);
        self.refresh();
        Ok(())
    }

    /// How the cluster's brokers behave.
    pub fn broker_settings(&self) -> &BrokerSettings {
        &self.resolved.broker
    }

    /// How one broker behaves, which may have configs of its own.
    pub fn broker_settings_at(&self, node: i32) -> BrokerSettings {
        match self.has_own(node) {
            true => BrokerSettings::from(&self.effective(Some(node))),
            false => self.resolved.broker,
        }
    }

    /// How a topic behaves.
    pub fn topic_settings(&self, topic: &str) -> TopicSettings {
        self.topics.get(topic).map_or(self.resolved.topic, |topic| topic.settings)
    }

    /// How a topic behaves on one broker, which may have configs of its own.
    pub fn topic_settings_at(&self, topic: &str, node: i32) -> TopicSettings {
        match self.resolved.special.contains(&node) {
            true => TopicSettings::from(&TopicView { broker: self.effective(Some(node)), own: self.overrides(topic) }),
            false => self.topic_settings(topic),
        }
    }

    /// How a group behaves.
    pub fn group_settings(&self, group: &str) -> GroupSettings {
        GroupSettings::from(&GroupView { broker: self.effective(None), own: self.groups.get(group) })
    }

    /// How many connections one address may have to a broker: `max.connections.per.ip` and its overrides.
    pub fn connections_per_ip(&self, node: i32, address: &str) -> i32 {
        let broker = self.effective(Some(node));
        let overrides = match broker.value("max.connections.per.ip.overrides") {
            Some(Value::Text(overrides)) => overrides,
            _ => String::new(),
        };
        let own = overrides.split(',').filter_map(|entry| entry.trim().rsplit_once(':'));
        let own = own.filter(|(host, _)| *host == address).find_map(|(_, count)| count.trim().parse().ok());
        own.unwrap_or_else(|| self.broker_settings_at(node).max_connections_per_ip)
    }

    /// The folder brokers say they keep logs in: the first of `log.dirs`, or `log.dir`.
    pub fn log_dir(&self) -> String {
        let broker = self.effective(None);
        let first = |name| match broker.value(name) {
            Some(Value::Text(dirs)) => dirs.split(',').next().map(|dir| dir.trim().to_owned()),
            Some(Value::List(dirs)) => dirs.first().cloned(),
            _ => None,
        };
        first("log.dirs").or_else(|| first("log.dir")).unwrap_or_else(|| "/tmp/kafka-logs".to_owned())
    }

    /// The assignors of consumer groups by name, the default first: `group.consumer.assignors`.
    pub fn consumer_assignors(&self) -> Vec<String> {
        self.effective(None).value("group.consumer.assignors").map(|list| list.items().to_vec()).unwrap_or_default()
    }

    /// Whether groups may change from the classic protocol to the consumer protocol, and back, while they have members:
    /// `group.consumer.migration.policy`.
    pub fn consumer_migration(&self) -> (bool, bool) {
        match self.effective(None).value("group.consumer.migration.policy") {
            Some(Value::Text(policy)) => match policy.to_lowercase().as_str() {
                "bidirectional" => (true, true),
                "upgrade" => (true, false),
                "downgrade" => (false, true),
                _ => (false, false),
            },
            _ => (false, false),
        }
    }

    /// Checks the configs a topic is to be created with, beside those of the broker that is the controller, and
    /// returns them as they will be stored.
    pub fn check_topic<'a>(
        &self,
        controller: Option<i32>,
        overrides: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Result<Entries, InvalidConfig> {
        let mut entries = Entries::new();
        for (name, value) in overrides {
            let value = value.ok_or_else(|| InvalidConfig::Conflict(format!("topic config {name} has no value")))?;
            alter::check_length(name, value)?;
            entries.insert(name.to_owned(), value.to_owned());
        }
        self.check_topic_entries(controller, &entries)?;
        Ok(entries)
    }

    /// Stores the configs of a topic, which passed [`Self::check_topic`].
    pub fn set_topic(&mut self, topic: &str, overrides: Entries) {
        let settings = TopicSettings::from(&TopicView { broker: self.effective(None), own: Some(&overrides) });
        self.topics.insert(topic.to_owned(), Topic { overrides, settings });
    }

    /// What was configured for a topic itself, by name.
    pub fn topic_overrides(&self, topic: &str) -> Entries {
        self.topics.get(topic).map(|topic| topic.overrides.clone()).unwrap_or_default()
    }

    /// Forgets the configs of a deleted topic.
    pub fn remove_topic(&mut self, topic: &str) {
        self.topics.remove(topic);
    }

    /// Groups that have configs of their own.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.keys().map(String::as_str)
    }

    /// Subscriptions to clients' metrics.
    pub fn client_metrics(&self) -> impl Iterator<Item = &str> {
        self.client_metrics.keys().map(String::as_str)
    }

    fn check_topic_entries(&self, judge: Option<i32>, entries: &Entries) -> Result<(), InvalidConfig> {
        read_all("topic", table::TOPIC, entries)?;
        let view = TopicView { broker: self.effective(judge), own: Some(entries) };
        check_compaction_lags(view.number("min.compaction.lag.ms"), view.number("max.compaction.lag.ms"))?;
        if view.flag("remote.storage.enable") {
            return Err(InvalidConfig::Conflict("remote.storage.enable needs tiered storage, which is off".into()));
        }
        Ok(())
    }

    fn overrides(&self, topic: &str) -> Option<&Entries> {
        self.topics.get(topic).map(|topic| &topic.overrides)
    }

    /// What holds for a broker; for `None`, for one with nothing of its own.
    fn effective(&self, node: Option<i32>) -> Effective<'_> {
        Effective::of(self.layers(node))
    }

    /// The layers of a broker, the strongest last: given to all, given to it, set for all, set for it.
    fn layers(&self, node: Option<i32>) -> [&Entries; 4] {
        static NOTHING: Entries = Entries::new();
        let own = node.and_then(|node| self.own.get(&node)).unwrap_or(&NOTHING);
        let set = node.and_then(|node| self.brokers.get(&node)).unwrap_or(&NOTHING);
        [&self.given, own, &self.cluster, set]
    }

    fn has_own(&self, node: i32) -> bool {
        self.own.contains_key(&node) || self.brokers.contains_key(&node)
    }

    fn refresh(&mut self) {
        let special = self.own.iter().chain(&self.brokers).filter(|(_, entries)| concern_topics(entries));
        let special = special.map(|(node, _)| *node).collect();
        self.resolved = Resolved::from(&self.effective(None), special);
        let mut topics = std::mem::take(&mut self.topics);
        for topic in topics.values_mut() {
            let view = TopicView { broker: self.effective(None), own: Some(&topic.overrides) };
            topic.settings = TopicSettings::from(&view);
        }
        self.topics = topics;
    }
}

impl Resolved {
    fn from(broker: &Effective<'_>, special: BTreeSet<i32>) -> Self {
        let topic = TopicSettings::from(&TopicView { broker: broker.clone(), own: None });
        Self { broker: BrokerSettings::from(broker), topic, special }
    }
}

/// What holds for a broker once its layers are merged.
#[derive(Debug, Clone)]
struct Effective<'a> {
    set: BTreeMap<&'a str, &'a str>,
}

impl<'a> Effective<'a> {
    /// Merges layers, the strongest last. A stronger layer's `log.retention.ms` hides a weaker one's
    /// `log.retention.hours`, whatever their units.
    fn of<const N: usize>(layers: [&'a Entries; N]) -> Self {
        let mut set = BTreeMap::new();
        for layer in layers {
            for name in layer.keys() {
                for other in family(name) {
                    set.remove(other.0);
                }
            }
            set.extend(layer.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        }
        Self { set }
    }

    fn value(&self, name: &str) -> Option<Value> {
        let key = broker_key(name)?;
        match self.set.get(name) {
            Some(raw) => key.read(raw).ok(),
            None => key.default_value(),
        }
    }

    fn optional(&self, name: &str) -> Option<i64> {
        self.value(name)?.number()
    }

    /// A number that is set or has a default.
    fn number(&self, name: &str) -> i64 {
        self.optional(name).unwrap_or_else(|| panic!("the table has no number {name}"))
    }

    fn flag(&self, name: &str) -> bool {
        self.value(name) == Some(Value::Boolean(true))
    }

    /// What a topic or group without a setting of its own takes over.
    fn inherited(&self, name: &str) -> Option<Value> {
        let Some(family) = FAMILIES.iter().find(|family| family[0].0 == name) else {
            return self.value(name);
        };
        let millis = family.iter().find_map(|(name, unit)| Some(self.optional(name)?.saturating_mul(*unit)))?;
        // Any negative retention means none.
        Some(Value::Number(if name == "log.retention.ms" && millis < 0 { -1 } else { millis }))
    }

    /// What Kafka demands of a broker's configs taken together.
    fn check(&self) -> Result<(), InvalidConfig> {
        let conflict = |text: &str| Err(InvalidConfig::Conflict(text.to_owned()));
        if self.inherited("log.retention.ms") == Some(Value::Number(0)) {
            return conflict("log retention must be unlimited (-1) or more than 0");
        }
        if self.number("log.cleaner.dedupe.buffer.size") / self.number("log.cleaner.threads").max(1) <= 1 << 20 {
            return conflict("log.cleaner.dedupe.buffer.size must be more than 1 MiB for each of log.cleaner.threads");
        }
        for longer in ["replica.socket.timeout.ms", "replica.lag.time.max.ms"] {
            if self.number("replica.fetch.wait.max.ms") > self.number(longer) {
                return conflict(&format!("replica.fetch.wait.max.ms must not exceed {longer}"));
            }
        }
        let queued = self.number("queued.max.request.bytes");
        if queued > 0 && queued < self.number("socket.request.max.bytes") {
            return conflict("queued.max.request.bytes must be at least socket.request.max.bytes");
        }
        if self.inherited("log.roll.ms").and_then(|value| value.number()) < Some(1) {
            return conflict("log.roll.ms must be at least 1");
        }
        if self.inherited("log.roll.jitter.ms").and_then(|value| value.number()) < Some(0) {
            return conflict("log.roll.jitter.ms must be at least 0");
        }
        self.check_group_bounds()?;
        self.check_connections_per_ip()
    }
}

impl Effective<'_> {
    /// What groups take over must lie within the bounds their own configs have.
    fn check_group_bounds(&self) -> Result<(), InvalidConfig> {
        for bounds in GROUP_BOUNDS {
            let Some(name) = find(table::GROUP, bounds.config).and_then(|key| key.inherits) else { continue };
            let ((min, max), value) = (bounds.range(self), self.number(name));
            if !(min..=max).contains(&value) {
                return Err(InvalidConfig::Conflict(format!("{name} must be {min} to {max}, not {value}")));
            }
        }
        Ok(())
    }

    fn check_connections_per_ip(&self) -> Result<(), InvalidConfig> {
        let name = "max.connections.per.ip.overrides";
        let overrides = self.value(name).map(|value| value.to_string()).unwrap_or_default();
        let limit = |item: &str| item.rsplit_once(':').is_some_and(|(_, count)| count.trim().parse::<i32>().is_ok());
        if !overrides.is_empty() && !overrides.split(',').all(limit) {
            return Err(InvalidConfig::Conflict(format!("{name} must be a list of address:count, not {overrides:?}")));
        }
        if overrides.is_empty() && self.number("max.connections.per.ip") == 0 {
            return Err(InvalidConfig::Conflict(format!("max.connections.per.ip can be 0 only with {name}")));
        }
        Ok(())
    }
}

/// A topic's configs: its own, else its broker's, else the defaults.
struct TopicView<'a> {
    broker: Effective<'a>,
    own: Option<&'a Entries>,
}

/// A group's configs: its own, else its broker's, else the defaults.
struct GroupView<'a> {
    broker: Effective<'a>,
    own: Option<&'a Entries>,
}

impl TopicView<'_> {
    fn value(&self, key: &Key) -> Option<Value> {
        resolve(key, self.own, &self.broker)
    }

    fn named(&self, name: &str) -> Option<Value> {
        self.value(find(table::TOPIC, name)?)
    }

    fn number(&self, name: &str) -> i64 {
        self.named(name).and_then(|value| value.number()).unwrap_or_else(|| panic!("the table has no number {name}"))
    }

    fn flag(&self, name: &str) -> bool {
        self.named(name) == Some(Value::Boolean(true))
    }
}

impl GroupView<'_> {
    fn value(&self, key: &Key) -> Option<Value> {
        resolve(key, self.own, &self.broker)
    }

    fn number(&self, name: &str) -> i64 {
        let value = find(table::GROUP, name).and_then(|key| self.value(key)?.number());
        value.unwrap_or_else(|| panic!("the table has no number {name}"))
    }

    fn text(&self, name: &str) -> String {
        find(table::GROUP, name).and_then(|key| self.value(key)).map(|value| value.to_string()).unwrap_or_default()
    }
}

fn resolve(key: &Key, own: Option<&Entries>, broker: &Effective<'_>) -> Option<Value> {
    if let Some(raw) = own.and_then(|own| own.get(key.name)) {
        return key.read(raw).ok();
    }
    match key.inherits {
        Some(name) => broker.inherited(name),
        None => key.default_value(),
    }
}

/// The key of a broker's config, by its bare name or behind a listener's prefix.
fn broker_key(name: &str) -> Option<&'static Key> {
    let bare = listener_config(name).unwrap_or(name);
    find(table::BROKER, bare).or_else(|| find(table::BROKER_DYNAMIC_ONLY, bare))
}

/// `ssl.keystore.location` out of `listener.name.internal.ssl.keystore.location`; for configs of one SASL
/// mechanism that is in front as well, the config without it.
fn listener_config(name: &str) -> Option<&str> {
    let (_listener, config) = name.strip_prefix("listener.name.")?.split_once('.')?;
    let of_mechanism = MECHANISM_CONFIGS.into_iter().find(|known| config.ends_with(known));
    Some(of_mechanism.unwrap_or(config))
}

const MECHANISM_CONFIGS: [&str; 5] = [
    "sasl.jaas.config",
    "sasl.login.callback.handler.class",
    "sasl.login.class",
    "sasl.server.callback.handler.class",
    "connections.max.reauth.ms",
];

/// Broker configs that say the same thing in different units, the strongest first, with the unit in ms.
const FAMILIES: &[&[(&str, i64)]] = &[
    &[("log.retention.ms", 1), ("log.retention.minutes", 60_000), ("log.retention.hours", 3_600_000)],
    &[("log.roll.ms", 1), ("log.roll.hours", 3_600_000)],
    &[("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", 3_600_000)],
    &[("log.flush.interval.ms", 1), ("log.flush.scheduler.interval.ms", 1)],
];

/// The family a broker config belongs to, if any.
fn family(name: &str) -> &'static [(&'static str, i64)] {
    // The scheduler's interval stands in for the flush interval, not the other way round.
    if name == "log.flush.scheduler.interval.ms" {
        return &[];
    }
    let family = FAMILIES.iter().find(|family| family.iter().any(|(member, _)| *member == name));
    family.copied().unwrap_or_default()
}

/// The names under which a broker config may be set, the strongest first.
fn synonyms(name: &str) -> Vec<&str> {
    match family(name) {
        [] => [name].into_iter().chain(listener_config(name)).collect(),
        family => family.iter().map(|(member, _)| *member).collect(),
    }
}

/// Whether a broker's configs have a say in how topics behave.
fn concern_topics(entries: &Entries) -> bool {
    let inherited = |name: &String| {
        let leads = FAMILIES.iter().find(|family| family.iter().any(|(member, _)| member == name));
        let name = leads.map_or(name.as_str(), |family| family[0].0);
        table::TOPIC.iter().any(|key| key.inherits == Some(name))
    };
    entries.keys().any(inherited)
}

fn check_compaction_lags(min: i64, max: i64) -> Result<(), InvalidConfig> {
    match min <= max {
        true => Ok(()),
        false => {
            Err(InvalidConfig::Conflict(format!("min.compaction.lag.ms ({min}) exceeds max.compaction.lag.ms ({max})")))
        }
    }
}

/// Checks configs a broker starts with: known names, values they accept.
fn check_start(given: &Entries) -> Result<(), InvalidConfig> {
    for (name, value) in given {
        let key = broker_key(name).ok_or_else(|| unknown_broker_config(name))?;
        key.read(value)?;
    }
    Ok(())
}

fn read_all(of: &'static str, table: &'static [Key], entries: &Entries) -> Result<(), InvalidConfig> {
    for (name, value) in entries {
        let unknown = || InvalidConfig::Unknown { of, name: name.clone(), nearest: nearest(name, table) };
        find(table, name).ok_or_else(unknown)?.read(value)?;
    }
    Ok(())
}

fn unknown_broker_config(name: &str) -> InvalidConfig {
    // A topic's name given to a broker is the likeliest slip.
    let of_topic = find(table::TOPIC, name).and_then(|key| key.inherits);
    let nearest = of_topic.or_else(|| nearest(name, table::BROKER));
    InvalidConfig::Unknown { of: "broker", name: name.to_owned(), nearest }
}

/// The known name with the fewest edits from this one, unless most of it would have to change.
fn nearest(name: &str, table: &'static [Key]) -> Option<&'static str> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let shown = table.iter().filter(|key| !key.hidden);
    let (edits, nearest) = shown.map(|key| (edits(name, key.name), key.name)).min()?;
    (edits <= name.chars().count() / 2).then_some(nearest)
}

/// Longer names are not compared: the longest known one has 61 bytes, and the effort is a product of lengths.
const NAME_BYTES_MAX: usize = 100;

/// How many letters must be put in, left out or replaced (Levenshtein).
fn edits(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.chars().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[row.len() - 1]
}

#[cfg(test)]
mod tests;
