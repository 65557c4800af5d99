//! What a configuration must satisfy.

use super::{ConfigError, DlqScope, KafkaEventBusConfig, SaslMechanism};
use crate::retry::RetryScope;

impl KafkaEventBusConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.check_names()?;
        self.check_consumer()?;
        self.check_retry()?;
        self.check_guarantees()?;
        self.check_security()?;
        self.check_bounds()
    }

    fn check_names(&self) -> Result<(), ConfigError> {
        check_bootstrap(&self.bootstrap_servers)?;
        if self.consumer_group.trim().is_empty() {
            return Err(missing("consumer_group", "members of one group share the events between them; name yours"));
        }
        if self.consumer_name.trim().is_empty() {
            return Err(missing("consumer_name", "give it a name, or leave the setting out for a unique one"));
        }
        if self.topic_prefix.is_empty() {
            return Err(missing("topic_prefix", "the topics are named after it, such as orders → orders.stream"));
        }
        check_topic("topic_prefix", &self.topic_name())?;
        if self.enable_dlq && self.dlq_topic_suffix.is_empty() {
            let because = "without it dead letters would go to the main topic; use .dlq, or set enable_dlq to false";
            return Err(missing("dlq_topic_suffix", because));
        }
        check_topic("dlq_topic_suffix", &self.dlq_topic_name())
    }

    fn check_consumer(&self) -> Result<(), ConfigError> {
        let session = self.session_timeout_ms;
        if session == 0 {
            return Err(ConfigError::invalid("session_timeout_ms", 0, "30000 suits most"));
        }
        if self.heartbeat_interval_ms == 0 {
            return Err(ConfigError::invalid("heartbeat_interval_ms", 0, "a third of session_timeout_ms suits most"));
        }
        if self.heartbeat_interval_ms > session / 3 {
            return Err(ConfigError::contradiction(
                format_args!("heartbeat_interval_ms = {}", self.heartbeat_interval_ms),
                format_args!("session_timeout_ms = {session}"),
                "two lost heartbeats must not cost the session: beat at least three times in it",
            ));
        }
        if self.max_poll_interval_ms < session {
            return Err(ConfigError::contradiction(
                format_args!("max_poll_interval_ms = {}", self.max_poll_interval_ms),
                format_args!("session_timeout_ms = {session}"),
                "make max_poll_interval_ms the larger",
            ));
        }
        if self.rebalance_drain_timeout.as_millis() >= u128::from(session) {
            return Err(ConfigError::contradiction(
                format_args!("rebalance_drain_timeout = {:?}", self.rebalance_drain_timeout),
                format_args!("session_timeout_ms = {session}"),
                "the group forgets a member that drains longer than the session: make it shorter",
            ));
        }
        Ok(())
    }

    fn check_retry(&self) -> Result<(), ConfigError> {
        let retry = &self.retry;
        if !(0.0..=1.0).contains(&retry.jitter) {
            return Err(ConfigError::invalid("retry_jitter", retry.jitter, "it is a share, from 0.0 to 1.0"));
        }
        if let Some(breaker) = &self.dlq_flood_breaker {
            if !(0.0..=1.0).contains(&breaker.share) {
                return Err(ConfigError::invalid("dlq_flood_share", breaker.share, "it is a share, from 0.0 to 1.0"));
            }
            if breaker.window == 0 {
                return Err(ConfigError::invalid(
                    "dlq_flood_window",
                    0,
                    "how many recent events count; 100 suits most",
                ));
            }
        }
        if retry.base > retry.max {
            return Err(ConfigError::contradiction(
                format_args!("retry_base_delay = {:?}", retry.base),
                format_args!("retry_max_delay = {:?}", retry.max),
                "the first wait cannot be longer than the longest",
            ));
        }
        Ok(())
    }

    /// Promises that cannot be kept together.
    fn check_guarantees(&self) -> Result<(), ConfigError> {
        let unordered = self.retry.scope == RetryScope::Topic;
        if unordered && self.dlq_scope == DlqScope::Sequence {
            return Err(ConfigError::contradiction(
                "retry_scope = topic",
                "dlq_scope = sequence",
                "a retry topic gives the order up that a sequence keeps: use retry_scope = key",
            ));
        }
        if self.dlq_scope == DlqScope::Sequence && !self.enable_dlq {
            return Err(ConfigError::contradiction(
                "dlq_scope = sequence",
                "enable_dlq = false",
                "later events follow a dead letter into its topic: enable it",
            ));
        }
        if unordered {
            check_topic("consumer_group", &format!("{}.{}.retry.1", self.topic_name(), self.consumer_group))?;
        }
        if !self.exactly_once {
            return Ok(());
        }
        if unordered {
            return Err(ConfigError::contradiction(
                "exactly_once = true",
                "retry_scope = topic",
                "an event that waits in a retry topic can be there twice: use retry_scope = key",
            ));
        }
        if !self.enable_idempotence {
            return Err(ConfigError::contradiction(
                "exactly_once = true",
                "enable_idempotence = false",
                "a transaction needs it: leave it on, and acks at all",
            ));
        }
        Ok(())
    }

    fn check_security(&self) -> Result<(), ConfigError> {
        let protocol = self.security_protocol;
        if protocol.uses_sasl() {
            if self.sasl_mechanism.is_none() {
                return Err(missing("sasl_mechanism", "security_protocol wants credentials; SCRAM-SHA-512 is best"));
            }
            if self.sasl_username.as_deref().unwrap_or_default().is_empty() {
                return Err(missing("sasl_username", "security_protocol wants credentials"));
            }
            if self.sasl_password.is_none() {
                return Err(missing("sasl_password", "security_protocol wants credentials"));
            }
            if self.sasl_mechanism == Some(SaslMechanism::Plain) && !protocol.uses_tls() {
                tracing::warn!("the password travels in the clear: use SASL_SSL, or a SCRAM mechanism");
            }
        } else if self.sasl_username.is_some() || self.sasl_password.is_some() {
            return Err(ConfigError::contradiction(
                "sasl_username or sasl_password",
                format_args!("security_protocol = {protocol}"),
                "credentials are only sent with SASL_SSL or SASL_PLAINTEXT",
            ));
        }
        match (&self.ssl_certfile, &self.ssl_keyfile) {
            (None, Some(_)) => Err(missing("ssl_certfile", "ssl_keyfile is the key of a certificate")),
            (Some(_), None) => Err(missing("ssl_keyfile", "a certificate is of no use without its key")),
            _ => Ok(()),
        }
    }

    fn check_bounds(&self) -> Result<(), ConfigError> {
        let limits = &self.limits;
        let at_least_one = [
            ("producer_batch_bytes", self.producer_batch_bytes as usize),
            ("commit_records_max", self.commit_records_max),
            ("limits.in_flight_max", limits.in_flight_max),
            ("limits.partition_records_max", limits.partition_records_max),
            ("limits.parked_keys_max", limits.parked_keys_max),
            ("limits.lane_records_max", limits.lane_records_max),
            ("limits.watermark_span_max", usize::try_from(limits.watermark_span_max).unwrap_or(usize::MAX)),
        ];
        if let Some((setting, _)) = at_least_one.into_iter().find(|(_, bound)| *bound == 0) {
            return Err(ConfigError::invalid(setting, 0, "nothing would ever pass; use at least 1"));
        }
        if self.handler_timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err(ConfigError::invalid("handler_timeout", "0s", "leave it out to wait for ever"));
        }
        if self.topic_partitions.is_some_and(|partitions| partitions < 1) {
            return Err(ConfigError::invalid(
                "topic_partitions",
                "less than 1",
                "leave it out for the brokers' default",
            ));
        }
        if self.topic_replication.is_some_and(|replicas| replicas < 1) {
            return Err(ConfigError::invalid(
                "topic_replication",
                "less than 1",
                "leave it out for the brokers' default",
            ));
        }
        Ok(())
    }
}

fn missing(setting: &'static str, because: &'static str) -> ConfigError {
    ConfigError::Missing { setting, because }
}

fn check_bootstrap(servers: &str) -> Result<(), ConfigError> {
    if servers.trim().is_empty() {
        return Err(missing("bootstrap_servers", "name at least one broker, such as localhost:9092"));
    }
    match servers.split(',').map(str::trim).find(|server| !is_host_and_port(server)) {
        None => Ok(()),
        Some(malformed) => {
            let remedy = "write host:port, several with commas between them: kafka-1:9092,kafka-2:9092";
            Err(ConfigError::invalid("bootstrap_servers", malformed, remedy))
        }
    }
}

fn is_host_and_port(server: &str) -> bool {
    let Some((host, port)) = server.rsplit_once(':') else { return false };
    let bracketed = host.starts_with('[') && host.ends_with(']') && host.len() > 2;
    let plain = !host.is_empty() && !host.contains([':', '/', ' ', '[', ']', '@']);
    (bracketed || plain) && port.parse::<u16>().is_ok_and(|port| port != 0)
}

/// Kafka's rule for topic names; 249 because partition directories add to it.
fn check_topic(setting: &'static str, topic: &str) -> Result<(), ConfigError> {
    let legal = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-');
    if topic.len() <= 249 && topic != "." && topic != ".." && topic.chars().all(legal) && !topic.is_empty() {
        return Ok(());
    }
    let remedy = "topic names are 1 to 249 of a-z, A-Z, 0-9, dot, underscore and dash";
    Err(ConfigError::invalid(setting, topic, remedy))
}
