//! Settings by name: which names mean which setting, and what happens when two of them disagree.

use std::collections::BTreeMap;

use config::Value;
use serde::Deserialize;

use super::ConfigError;
use super::settings::Settings;

const PREFIX: &str = "KAFKA_";

/// Other names, and the setting they mean. Everything not listed means itself.
const ALIASES: &[(&str, &str)] = &[
    ("brokers", "bootstrap_servers"),
    ("consumer_group_id", "consumer_group"),
    ("producer_acks", "acks"),
    ("compression_type", "compression"),
    ("producer_compression_type", "compression"),
    ("batch_size", "producer_batch_bytes"),
    ("producer_batch_size", "producer_batch_bytes"),
    ("producer_max_batch_bytes", "producer_batch_bytes"),
    ("linger_ms", "producer_linger_ms"),
    ("consumer_auto_offset_reset", "auto_offset_reset"),
    ("consumer_session_timeout_ms", "session_timeout_ms"),
    ("consumer_heartbeat_interval_ms", "heartbeat_interval_ms"),
    ("consumer_max_poll_interval_ms", "max_poll_interval_ms"),
    ("max_retry_attempts", "max_retries"),
    ("username", "sasl_username"),
    ("password", "sasl_password"),
    ("ca_file", "ssl_cafile"),
];

/// The settings an environment variable may set; `KAFKA_HOME` and the like are somebody else's.
const NAMES: &[&str] = &[
    "bootstrap_servers",
    "topic_prefix",
    "topic_naming",
    "consumer_group",
    "consumer_name",
    "service_name",
    "preset",
    "acks",
    "compression",
    "producer_batch_bytes",
    "producer_linger_ms",
    "enable_idempotence",
    "delivery_timeout",
    "background_publish_max",
    "auto_offset_reset",
    "session_timeout_ms",
    "heartbeat_interval_ms",
    "max_poll_interval_ms",
    "unknown_type",
    "handler_timeout",
    "commit_interval",
    "commit_records_max",
    "commit_finished",
    "exactly_once",
    "max_retries",
    "retry_base_delay",
    "retry_max_delay",
    "retry_jitter",
    "retry_scope",
    "enable_dlq",
    "dlq_topic_suffix",
    "dlq_scope",
    "dlq_flood_share",
    "dlq_flood_window",
    "dlq_flood_pause",
    "dlq_max_replay_attempts",
    "security_protocol",
    "sasl_mechanism",
    "sasl_username",
    "sasl_password",
    "ssl_cafile",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_check_hostname",
    "create_topics",
    "topic_partitions",
    "topic_replication",
    "enable_tracing",
    "enable_metrics",
    "connect_timeout",
    "shutdown_timeout",
    "rebalance_drain_timeout",
];

/// Reads environment variables. An empty one counts as unset.
pub(super) fn read(vars: impl IntoIterator<Item = (String, String)>) -> Result<Settings, ConfigError> {
    let mut gathered = Gathered::default();
    for (variable, text) in vars {
        let Some(name) = variable.strip_prefix(PREFIX).map(str::to_ascii_lowercase) else { continue };
        if let Some(setting) = setting_called(&name).filter(|_| !text.is_empty()) {
            gathered.add(setting, variable, text.into())?;
        }
    }
    gathered.settings(BTreeMap::new())
}

/// Reads settings of a file. Unlike in the environment, a name nobody knows is a mistake.
pub(super) fn read_named(named: BTreeMap<String, Value>) -> Result<Settings, ConfigError> {
    let mut gathered = Gathered::default();
    let mut others = BTreeMap::new();
    for (name, value) in named {
        match setting_called(&name) {
            Some(setting) => gathered.add(setting, name, value)?,
            None => drop(others.insert(name, value)),
        }
    }
    gathered.settings(others)
}

fn setting_called(name: &str) -> Option<&'static str> {
    let meant = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, setting)| setting);
    NAMES.iter().find(|known| **known == meant).copied()
}

/// Per setting the name it was given under, and the value.
#[derive(Default)]
struct Gathered(BTreeMap<&'static str, (String, Value)>);

impl Gathered {
    fn add(&mut self, setting: &'static str, name: String, value: Value) -> Result<(), ConfigError> {
        match self.0.get(setting) {
            Some((_, other)) if other.kind == value.kind => {}
            Some((one, _)) => return Err(ConfigError::Disagreement { setting, one: one.clone(), other: name }),
            None => drop(self.0.insert(setting, (name, value))),
        }
        Ok(())
    }

    fn settings(self, others: BTreeMap<String, Value>) -> Result<Settings, ConfigError> {
        let own = self.0.into_iter().map(|(setting, (_, value))| (setting.to_owned(), value));
        let table: config::Map<String, Value> = own.chain(others).collect();
        Settings::deserialize(Value::from(table))
            .map_err(|error| ConfigError::Unreadable { problem: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_of_text_has_its_name_listed() {
        // serde answers a misspelling with all the names there are.
        let misspelt = BTreeMap::from([("?".to_owned(), Value::from("?"))]);
        let fields = read_named(misspelt).unwrap_err().to_string();
        let all: Vec<&str> = fields.split('`').skip(3).step_by(2).collect();
        let unlisted: Vec<_> = all.iter().filter(|name| !NAMES.contains(name)).collect();

        assert_eq!(unlisted, [&"client_properties"], "a table, which no variable can hold");
        assert!(NAMES.iter().all(|name| all.contains(name)));
        assert!(ALIASES.iter().all(|(alias, setting)| NAMES.contains(setting) && !NAMES.contains(alias)));
    }
}
