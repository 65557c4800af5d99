//! What a configuration accepts, refuses and defaults to.

#![allow(clippy::disallowed_methods, reason = "the bans are for the engine")]

use std::time::Duration;

use rehearsal_bus::config::{
    Acks, AutoOffsetReset, Compression, DlqScope, KafkaEventBusConfig, Preset, SaslMechanism, SecurityProtocol,
    TopicNaming, UnknownType,
};
use rehearsal_bus::{ConfigError, RetryPolicy, RetryScope};
use secrecy::ExposeSecret;

fn from_vars<const N: usize>(vars: [(&str, &str); N]) -> Result<KafkaEventBusConfig, ConfigError> {
    KafkaEventBusConfig::from_vars(vars.map(|(name, value)| (name.to_owned(), value.to_owned())))
}

#[test]
fn every_default_is_the_documented_one() {
    let config = KafkaEventBusConfig::default();

    assert_eq!(config.bootstrap_servers, "localhost:9092");
    assert_eq!(config.topic_prefix, "events");
    assert_eq!(config.consumer_group, "default");
    assert_eq!(config.topic_name(), "events.stream");
    assert_eq!(config.dlq_topic_name(), "events.stream.dlq");
    assert_eq!(config.acks, Acks::All);
    assert_eq!(config.compression, Compression::Gzip);
    assert_eq!(config.producer_batch_bytes, 16_384);
    assert_eq!(config.producer_linger_ms, 5);
    assert!(config.enable_idempotence);
    assert_eq!(config.auto_offset_reset, AutoOffsetReset::Earliest);
    assert_eq!(config.session_timeout_ms, 30_000);
    assert_eq!(config.heartbeat_interval_ms, 10_000);
    assert_eq!(config.max_poll_interval_ms, 300_000);
    assert_eq!(config.retry, RetryPolicy::default());
    assert_eq!(config.retry.max_retries, 3);
    assert_eq!(config.retry.base, Duration::from_secs(1));
    assert_eq!(config.retry.max, Duration::from_secs(60));
    assert_eq!(config.retry.jitter, 0.1);
    assert_eq!(config.retry.scope, RetryScope::Key);
    assert!(config.enable_dlq);
    assert_eq!(config.dlq_topic_suffix, ".dlq");
    assert_eq!(config.dlq_scope, DlqScope::Event);
    assert_eq!(config.unknown_type, UnknownType::Skip);
    assert_eq!(config.security_protocol, SecurityProtocol::Plaintext);
    assert_eq!(config.sasl_mechanism, None);
    assert_eq!(config.sasl_username, None);
    assert!(config.sasl_password.is_none());
    assert_eq!(config.ssl_cafile, None);
    assert_eq!(config.ssl_certfile, None);
    assert_eq!(config.ssl_keyfile, None);
    assert!(config.ssl_check_hostname);
    assert!(config.enable_tracing);
    assert!(config.enable_metrics);
    assert_eq!(config.shutdown_timeout, Duration::from_secs(30));
}

#[test]
fn a_consumer_without_a_name_gets_one_of_its_own() {
    let [one, other] = [(); 2].map(|()| KafkaEventBusConfig::default().consumer_name);
    assert_ne!(one, other);
    let (_, uuid) = one.split_at(one.len() - 36);
    assert!(uuid.parse::<uuid::Uuid>().is_ok(), "{one} does not end in a uuid");
}

#[test]
fn topics_are_named_by_the_chosen_strategy() {
    let topic = |naming| {
        let config = KafkaEventBusConfig::builder().topic_prefix("user").topic_naming(naming).build().unwrap();
        (config.topic_name(), config.dlq_topic_name())
    };
    assert_eq!(topic(TopicNaming::Stream), ("user.stream".into(), "user.stream.dlq".into()));
    assert_eq!(topic(TopicNaming::Domain).0, "user.events");
    assert_eq!(topic(TopicNaming::Integration).0, "integration-events.user");
    assert_eq!(topic(TopicNaming::custom(|prefix| format!("{prefix}.created.v1"))).0, "user.created.v1");
}

#[test]
fn the_presets_are_those_of_the_tutorial() {
    let producer = |preset| {
        let config = KafkaEventBusConfig::builder().preset(preset).build().unwrap();
        (config.producer_batch_bytes, config.producer_linger_ms, config.compression, config.acks)
    };
    assert_eq!(producer(Preset::MaxThroughput), (1 << 20, 100, Compression::Lz4, Acks::Leader));
    assert_eq!(producer(Preset::MinLatency), (16_384, 0, Compression::None, Acks::Leader));
    assert_eq!(producer(Preset::Balanced), (32_768, 10, Compression::Gzip, Acks::All));
}

#[test]
fn an_explicit_setting_outranks_the_preset() {
    let config = KafkaEventBusConfig::builder().preset(Preset::MaxThroughput).acks(Acks::All).build().unwrap();
    assert_eq!(config.compression, Compression::Lz4);
    assert_eq!(config.acks, Acks::All);
    assert!(config.enable_idempotence);
}

#[test]
fn a_retry_policy_can_be_given_whole_and_refined() {
    let policy =
        RetryPolicy::exponential(Duration::from_secs(2), Duration::from_secs(120)).scope(RetryScope::Partition);
    let config = KafkaEventBusConfig::builder().retry(policy).max_retries(5).build().unwrap();
    assert_eq!(config.retry, policy.max_retries(5));
}

#[test]
fn what_cannot_work_is_refused_with_a_remedy() {
    let builder = KafkaEventBusConfig::builder;
    let says = |config: Result<KafkaEventBusConfig, ConfigError>| config.unwrap_err().to_string();

    assert_eq!(
        says(builder().bootstrap_servers(" ").build()),
        "bootstrap_servers is missing: name at least one broker, such as localhost:9092"
    );
    assert_eq!(
        says(builder().bootstrap_servers("kafka-1:9092,kafka-2").build()),
        "bootstrap_servers cannot be \"kafka-2\": write host:port, several with commas between them: kafka-1:9092,kafka-2:9092"
    );
    assert_eq!(
        says(builder().acks(Acks::Leader).enable_idempotence(true).build()),
        "enable_idempotence = true and acks = 1 contradict each other: set acks to all, or enable_idempotence to false"
    );
    assert_eq!(
        says(builder().heartbeat_interval_ms(10_001).build()),
        "heartbeat_interval_ms = 10001 and session_timeout_ms = 30000 contradict each other: \
         two lost heartbeats must not cost the session: beat at least three times in it"
    );
    assert_eq!(
        says(builder().max_poll_interval_ms(1000).build()),
        "max_poll_interval_ms = 1000 and session_timeout_ms = 30000 contradict each other: make max_poll_interval_ms the larger"
    );
    assert_eq!(
        says(builder().rebalance_drain_timeout(Duration::from_secs(30)).build()),
        "rebalance_drain_timeout = 30s and session_timeout_ms = 30000 contradict each other: \
         the group forgets a member that drains longer than the session: make it shorter"
    );
    assert_eq!(
        says(builder().retry_jitter(1.5).build()),
        "retry_jitter cannot be \"1.5\": it is a share, from 0.0 to 1.0"
    );
    assert!(says(builder().retry_jitter(f64::NAN).build()).starts_with("retry_jitter cannot be"));
    assert_eq!(
        says(builder().retry_base_delay(Duration::from_secs(61)).build()),
        "retry_base_delay = 61s and retry_max_delay = 60s contradict each other: the first wait cannot be longer than the longest"
    );
    assert_eq!(
        says(builder().dlq_topic_suffix("").build()),
        "dlq_topic_suffix is missing: without it dead letters would go to the main topic; use .dlq, or set enable_dlq to false"
    );
    assert_eq!(
        says(builder().topic_prefix("my orders").build()),
        "topic_prefix cannot be \"my orders.stream\": topic names are 1 to 249 of a-z, A-Z, 0-9, dot, underscore and dash"
    );
    assert_eq!(
        says(builder().consumer_group("").build()),
        "consumer_group is missing: members of one group share the events between them; name yours"
    );
    assert_eq!(
        says(builder().security_protocol(SecurityProtocol::SaslSsl).build()),
        "sasl_mechanism is missing: security_protocol wants credentials; SCRAM-SHA-512 is best"
    );
    let sasl = || builder().security_protocol(SecurityProtocol::SaslSsl).sasl_mechanism(SaslMechanism::Plain);
    assert_eq!(says(sasl().build()), "sasl_username is missing: security_protocol wants credentials");
    assert_eq!(
        says(sasl().sasl_username("me").build()),
        "sasl_password is missing: security_protocol wants credentials"
    );
    assert_eq!(
        says(builder().sasl_password("hush").build()),
        "sasl_username or sasl_password and security_protocol = PLAINTEXT contradict each other: \
         credentials are only sent with SASL_SSL or SASL_PLAINTEXT"
    );
    assert_eq!(
        says(builder().ssl_keyfile("/client.key").build()),
        "ssl_certfile is missing: ssl_keyfile is the key of a certificate"
    );
    assert_eq!(
        says(builder().ssl_certfile("/client.crt").build()),
        "ssl_keyfile is missing: a certificate is of no use without its key"
    );
}

#[test]
fn broker_addresses_may_be_names_v4_and_v6() {
    for servers in ["kafka:9092", "10.0.0.1:9092, 10.0.0.2:9092", "[::1]:9092"] {
        assert!(KafkaEventBusConfig::builder().bootstrap_servers(servers).build().is_ok(), "{servers}");
    }
    for servers in ["kafka", "kafka:", ":9092", "kafka:0", "kafka:65536", "a:1,,b:2", "::1:9092", "http://kafka:9092"] {
        assert!(KafkaEventBusConfig::builder().bootstrap_servers(servers).build().is_err(), "{servers}");
    }
}

#[test]
fn fewer_acks_turn_the_idempotent_producer_off() {
    let config = KafkaEventBusConfig::builder().acks(Acks::Zero).build().unwrap();
    assert!(!config.enable_idempotence);
}

#[test]
fn a_shorter_session_takes_its_heartbeat_and_drain_along() {
    let config = KafkaEventBusConfig::builder().session_timeout_ms(6_000).build().unwrap();
    assert_eq!(config.heartbeat_interval_ms, 2_000);
    assert_eq!(config.rebalance_drain_timeout, Duration::from_secs(3));
}

#[test]
fn secrets_are_never_printed() {
    let config = KafkaEventBusConfig::builder()
        .security_protocol(SecurityProtocol::SaslSsl)
        .sasl_mechanism(SaslMechanism::ScramSha512)
        .sasl_username("me")
        .sasl_password("hush-hush")
        .client_properties([("ssl.key.password", "also-hush")])
        .build()
        .unwrap();

    let printed = format!("{config:?} {config:#?}");

    assert!(!printed.contains("hush"), "{printed}");
    assert!(printed.contains("ssl.key.password"));
    assert_eq!(config.sasl_password.unwrap().expose_secret(), "hush-hush");
}

#[test]
fn no_error_shows_a_password_either() {
    let error = from_vars([("KAFKA_PASSWORD", "hush"), ("KAFKA_SASL_PASSWORD", "hush-hush")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "KAFKA_PASSWORD and KAFKA_SASL_PASSWORD both mean sasl_password but differ: remove one of them"
    );
    assert!(!format!("{error:?}").contains("hush"));
}

#[test]
fn the_environment_is_read_under_all_the_names_in_use() {
    let config = from_vars([
        ("KAFKA_BROKERS", "broker1:9092,broker2:9092"),
        ("KAFKA_TOPIC_PREFIX", "orders"),
        ("KAFKA_CONSUMER_GROUP_ID", "core-consumer-group"),
        ("KAFKA_SERVICE_NAME", "billing"),
        ("KAFKA_AUTO_OFFSET_RESET", "latest"),
        ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
        ("KAFKA_SASL_MECHANISM", "SCRAM-SHA-256"),
        ("KAFKA_USERNAME", "me"),
        ("KAFKA_PASSWORD", "hush"),
        ("KAFKA_CA_FILE", "/ca.crt"),
        ("KAFKA_ACKS", "1"),
        ("KAFKA_BATCH_SIZE", "32768"),
        ("KAFKA_RETRY_BASE_DELAY", "0.5"),
        ("KAFKA_MAX_RETRY_ATTEMPTS", "7"),
        ("KAFKA_ENABLE_DLQ", "false"),
        ("KAFKA_HOME", "/opt/kafka"),
        ("PATH", "/bin"),
    ])
    .unwrap();

    assert_eq!(config.bootstrap_servers, "broker1:9092,broker2:9092");
    assert_eq!(config.topic_name(), "orders.stream");
    assert_eq!(config.consumer_group, "core-consumer-group");
    assert_eq!(config.service_name.as_deref(), Some("billing"));
    assert_eq!(config.auto_offset_reset, AutoOffsetReset::Latest);
    assert_eq!(config.security_protocol, SecurityProtocol::SaslSsl);
    assert_eq!(config.sasl_mechanism, Some(SaslMechanism::ScramSha256));
    assert_eq!(config.sasl_username.as_deref(), Some("me"));
    assert_eq!(config.sasl_password.unwrap().expose_secret(), "hush");
    assert_eq!(config.ssl_cafile.unwrap().to_str(), Some("/ca.crt"));
    assert_eq!(config.acks, Acks::Leader);
    assert_eq!(config.producer_batch_bytes, 32_768);
    assert_eq!(config.retry.base, Duration::from_millis(500));
    assert_eq!(config.retry.max_retries, 7);
    assert!(!config.enable_dlq);
}

#[test]
fn an_empty_environment_gives_the_defaults() {
    let config = from_vars([("KAFKA_BROKERS", "")]).unwrap();
    assert_eq!(config.bootstrap_servers, "localhost:9092");
    assert_eq!(config.security_protocol, SecurityProtocol::Plaintext);
}

#[test]
fn two_names_may_agree_but_not_differ() {
    let both = |one, other| from_vars([("KAFKA_BROKERS", one), ("KAFKA_BOOTSTRAP_SERVERS", other)]);
    assert!(both("a:1", "a:1").is_ok());
    assert_eq!(
        both("a:1", "b:1").unwrap_err().to_string(),
        "KAFKA_BROKERS and KAFKA_BOOTSTRAP_SERVERS both mean bootstrap_servers but differ: remove one of them"
    );
}

#[test]
fn an_unreadable_variable_is_named() {
    let error = from_vars([("KAFKA_LINGER_MS", "soon")]).unwrap_err().to_string();
    assert!(error.contains("producer_linger_ms") && error.contains("soon"), "{error}");
    let error = from_vars([("KAFKA_ACKS", "most")]).unwrap_err().to_string();
    assert!(error.contains("most"), "{error}");
    let error = from_vars([("KAFKA_SHUTDOWN_TIMEOUT", "-1")]).unwrap_err().to_string();
    assert!(error.starts_with("cannot read the settings"), "{error}");
}

#[test]
fn production_has_defaults_of_its_own() {
    let vars = |pairs: &[(&str, &str)]| {
        let owned: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        KafkaEventBusConfig::production_from_vars(owned)
    };
    let config = vars(&[("HOSTNAME", "billing-7f9c"), ("KAFKA_USERNAME", "me"), ("KAFKA_PASSWORD", "hush")]).unwrap();

    assert_eq!(config.bootstrap_servers, "localhost:9092");
    assert_eq!(config.topic_prefix, "myapp.events");
    assert_eq!(config.consumer_group, "default");
    assert_eq!(config.consumer_name, "billing-7f9c");
    assert_eq!(config.security_protocol, SecurityProtocol::SaslSsl);
    assert_eq!(config.sasl_mechanism, Some(SaslMechanism::ScramSha512));
    assert_eq!(config.ssl_cafile.unwrap().to_str(), Some("/etc/kafka/ssl/ca.crt"));
    assert_eq!((config.producer_batch_bytes, config.producer_linger_ms), (32_768, 10));

    assert_eq!(
        vars(&[]).unwrap_err(),
        ConfigError::Missing { setting: "sasl_username", because: "security_protocol wants credentials" }
    );
}

#[test]
fn a_file_may_use_the_seeds_names_and_may_not_misspell_them() {
    let config: KafkaEventBusConfig = serde_json::from_str(
        r#"{ "bootstrap_servers": "kafka:9092", "acks": "all", "compression_type": "zstd", "batch_size": 32768,
             "linger_ms": 10, "retry_jitter": 0.2, "shutdown_timeout": 5, "retry_scope": "partition",
             "dlq_scope": "sequence", "client_properties": { "socket.keepalive.enable": "true" } }"#,
    )
    .unwrap();
    assert_eq!(config.compression, Compression::Zstd);
    assert_eq!(config.producer_batch_bytes, 32_768);
    assert_eq!(config.producer_linger_ms, 10);
    assert_eq!(config.shutdown_timeout, Duration::from_secs(5));
    assert_eq!(config.retry.scope, RetryScope::Partition);
    assert_eq!(config.dlq_scope, DlqScope::Sequence);
    assert_eq!(config.client_properties.iter().collect::<Vec<_>>(), [("socket.keepalive.enable", "true")]);

    let error = serde_json::from_str::<KafkaEventBusConfig>(r#"{ "topik_prefix": "orders" }"#).unwrap_err();
    assert!(error.to_string().contains("topik_prefix"), "{error}");
}
