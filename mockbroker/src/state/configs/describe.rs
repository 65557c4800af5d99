//! What a resource is configured with, and where each value comes from.

use super::alter::ROOT_LOGGER;
use super::keys::{Change, Key, Kind, find};
use super::{
    Configs, Effective, Entries, GroupView, Resource, TopicView, broker_key, family, resolve, synonyms, table,
};

/// One config as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedConfig {
    /// Its name.
    pub name: String,
    /// Its value; `None` where there is none or nobody may read it.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: Source,
    /// Whether it cannot change while the broker runs.
    pub read_only: bool,
    /// Whether its value is kept from readers.
    pub sensitive: bool,
    /// Its type; `None` for names Kafka does not know.
    pub kind: Option<Kind>,
    /// Everything that has been set for it, the strongest first, under this name or another.
    pub synonyms: Vec<Synonym>,
}

/// One place where a config is set, possibly hidden by a stronger one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synonym {
    /// The name it is set under.
    pub name: String,
    /// The value set there.
    pub value: Option<String>,
    /// The place.
    pub source: Source,
}

/// Where a value comes from, numbered as Kafka numbers it (`DescribeConfigsResponse.ConfigSource`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum Source {
    /// Set for the topic.
    Topic = 1,
    /// Set for this broker while it runs.
    Broker = 2,
    /// Set for all brokers while they run.
    DefaultBroker = 3,
    /// Given to the broker at start.
    Static = 4,
    /// Kafka's default.
    Default = 5,
    /// The level of a broker's logger.
    BrokerLogger = 6,
    /// Set for the subscription to clients' metrics.
    ClientMetrics = 7,
    /// Set for the group.
    Group = 8,
}

impl DescribedConfig {
    /// Whether nobody has set it.
    pub fn is_default(&self) -> bool {
        self.source == Source::Default
    }
}

impl Configs {
    /// All configs of a resource as broker `node` sees them, or those named; by name. An empty list of names
    /// asks for all, as does none; names without a config are passed over.
    pub fn describe(&self, resource: &Resource, node: i32, names: Option<&[String]>) -> Vec<DescribedConfig> {
        let mut all = match resource {
            Resource::Topic(name) => self.describe_topic(name, node),
            Resource::Broker(node) => self.describe_broker(*node),
            Resource::DefaultBroker => self.describe_default_broker(),
            Resource::BrokerLogger(node) => vec![self.describe_logger(*node)],
            Resource::ClientMetrics(name) => self.describe_client_metrics(name),
            Resource::Group(name) => self.describe_group(name, node),
        };
        if let Some(names) = names.filter(|names| !names.is_empty()) {
            all.retain(|config| names.contains(&config.name));
        }
        all
    }

    /// The configs of a topic as CreateTopics reports them: values as given, what they follow as the broker that
    /// is the controller resolves it, no synonyms.
    pub fn describe_created(&self, controller: Option<i32>, overrides: &Entries) -> Vec<DescribedConfig> {
        let shown = table::TOPIC.iter().filter(|key| !key.hidden || overrides.contains_key(key.name));
        shown.map(|key| self.describe_created_one(controller, key, overrides)).collect()
    }

    fn describe_created_one(&self, controller: Option<i32>, key: &'static Key, overrides: &Entries) -> DescribedConfig {
        let (value, source) = match overrides.get(key.name) {
            Some(value) => (Some(value.clone()), Source::Topic),
            None => self.follow(controller, key).unwrap_or((key.default.map(str::to_owned), Source::Default)),
        };
        let kind = Some(key.kind);
        let synonyms = Vec::new();
        DescribedConfig { name: key.name.into(), value, source, read_only: false, sensitive: false, kind, synonyms }
    }

    /// The value a topic's config takes over from its brokers, converted to its own unit.
    fn follow(&self, controller: Option<i32>, key: &Key) -> Option<(Option<String>, Source)> {
        let name = key.inherits?;
        let names = match family(name) {
            [] => &[(name, 1)],
            family => family,
        };
        let own = controller.and_then(|node| self.brokers.get(&node)).map(|own| (own, Source::Broker));
        let layers = [(&self.cluster, Source::DefaultBroker), (&self.given, Source::Static)];
        own.into_iter().chain(layers).find_map(|(layer, source)| {
            let (raw, unit) = names.iter().find_map(|(name, unit)| Some((layer.get(*name)?, *unit)))?;
            let in_ms = || raw.trim().parse().map_or_else(|_| raw.clone(), |n: i64| n.saturating_mul(unit).to_string());
            Some((Some(if unit == 1 { raw.clone() } else { in_ms() }), source))
        })
    }

    fn describe_topic(&self, topic: &str, node: i32) -> Vec<DescribedConfig> {
        let own = self.overrides(topic);
        let view = TopicView { broker: self.effective(Some(node)), own };
        described(table::TOPIC, own, Source::Topic, |key| {
            let value = view.value(key).map(|value| value.to_string());
            (value, key.inherits.map_or(Vec::new(), |name| self.broker_synonyms(node, name)))
        })
    }

    fn describe_group(&self, group: &str, node: i32) -> Vec<DescribedConfig> {
        let own = self.groups.get(group);
        let view = GroupView { broker: self.effective(Some(node)), own };
        described(table::GROUP, own, Source::Group, |key| {
            let value = view.value(key).map(|value| value.to_string());
            let default = || key.default.map(|value| synonym(key.name, value, false, Source::Default));
            let synonyms =
                key.inherits.map_or_else(|| default().into_iter().collect(), |n| self.broker_synonyms(node, n));
            (value, synonyms)
        })
    }

    fn describe_client_metrics(&self, subscription: &str) -> Vec<DescribedConfig> {
        let own = self.client_metrics.get(subscription);
        described(table::CLIENT_METRICS, own, Source::ClientMetrics, |key| {
            let value = resolve(key, own, &Effective::of([]));
            (value.map(|value| value.to_string()), Vec::new())
        })
    }

    fn describe_broker(&self, node: i32) -> Vec<DescribedConfig> {
        let effective = self.effective(Some(node));
        let known = table::BROKER.iter().filter(|key| !key.hidden).map(|key| key.name);
        let mut names: Vec<_> = known.chain(effective.set.keys().copied()).collect();
        names.sort_unstable();
        names.dedup();
        let describe = |name: &str| {
            let value = match effective.value(name) {
                Some(value) => Some(value.to_string()),
                None => effective.set.get(name).map(|raw| (*raw).to_owned()),
            };
            described_broker(name, value, self.broker_synonyms(node, name))
        };
        names.into_iter().map(describe).collect()
    }

    fn describe_default_broker(&self) -> Vec<DescribedConfig> {
        let describe = |(name, value): (&String, &String)| {
            let sensitive = is_sensitive(name);
            // A weaker name set for all brokers counts, too: log.retention.hours behind log.retention.ms.
            let names = synonyms(name).into_iter().skip_while(|other| other != name);
            let set = names.filter_map(|name| Some((name, self.cluster.get(name)?)));
            let synonyms = set.map(|(name, value)| synonym(name, value, sensitive, Source::DefaultBroker)).collect();
            described_broker(name, Some(value.clone()), synonyms)
        };
        self.cluster.iter().map(describe).collect()
    }

    fn describe_logger(&self, node: i32) -> DescribedConfig {
        DescribedConfig {
            name: ROOT_LOGGER.to_owned(),
            value: Some(self.log_levels.get(&node).map_or("INFO", String::as_str).to_owned()),
            source: Source::BrokerLogger,
            read_only: false,
            sensitive: false,
            kind: None,
            synonyms: Vec::new(),
        }
    }

    /// Everything set for a broker's config, layer by layer, beginning where it is set under its own name.
    /// What stands before that Kafka leaves out, though it may be what counts.
    fn broker_synonyms(&self, node: i32, name: &str) -> Vec<Synonym> {
        let (names, sensitive) = (synonyms(name), is_sensitive(name));
        let mut all = Vec::new();
        for layer in [Source::Broker, Source::DefaultBroker, Source::Static, Source::Default] {
            let set =
                names.iter().filter_map(|name| Some(synonym(name, self.set_in(layer, node, name)?, sensitive, layer)));
            all.extend(set);
        }
        let first = all.iter().position(|synonym| synonym.name == name).unwrap_or(all.len());
        all.split_off(first)
    }

    fn set_in(&self, layer: Source, node: i32, name: &str) -> Option<&str> {
        let set = match layer {
            Source::Broker => self.brokers.get(&node)?.get(name),
            Source::DefaultBroker => self.cluster.get(name),
            Source::Static => self.own.get(&node).and_then(|own| own.get(name)).or_else(|| self.given.get(name)),
            _ => return find(table::BROKER, name)?.default,
        };
        set.map(String::as_str)
    }
}

/// The configs of a table, each with its own setting in front of what `inherited` says.
fn described(
    table: &'static [Key],
    own: Option<&Entries>,
    source: Source,
    inherited: impl Fn(&'static Key) -> (Option<String>, Vec<Synonym>),
) -> Vec<DescribedConfig> {
    let is_set = |key: &Key| own.is_some_and(|own| own.contains_key(key.name));
    let shown = table.iter().filter(|key| !key.hidden || is_set(key));
    shown
        .map(|key| {
            let (value, mut synonyms) = inherited(key);
            if is_set(key) {
                synonyms.insert(0, Synonym { name: key.name.into(), value: value.clone(), source });
            }
            let source = synonyms.first().map_or(Source::Default, |synonym| synonym.source);
            let kind = Some(key.kind);
            DescribedConfig { name: key.name.into(), value, source, read_only: false, sensitive: false, kind, synonyms }
        })
        .collect()
}

fn described_broker(name: &str, value: Option<String>, synonyms: Vec<Synonym>) -> DescribedConfig {
    let sensitive = is_sensitive(name);
    let dynamic = |key: &Key| key.name == name && key.change != Change::ReadOnly;
    DescribedConfig {
        name: name.to_owned(),
        value: value.filter(|_| !sensitive),
        source: synonyms.first().map_or(Source::Default, |synonym| synonym.source),
        read_only: !broker_key(name).is_some_and(dynamic),
        sensitive,
        kind: broker_key(name).map(|key| key.kind),
        synonyms,
    }
}

fn synonym(name: &str, value: &str, sensitive: bool, source: Source) -> Synonym {
    Synonym { name: name.to_owned(), value: (!sensitive).then(|| value.to_owned()), source }
}

/// Passwords are, and whatever Kafka does not know might be.
fn is_sensitive(name: &str) -> bool {
    broker_key(name).is_none_or(Key::is_sensitive)
}
