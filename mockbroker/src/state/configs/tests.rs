use super::*;
use crate::error::{ErrorCode, Reject};
use crate::wire::batch::TimestampType;

/// A cluster whose brokers were started with these configs.
fn started_with<const N: usize>(given: [(&str, &str); N]) -> Configs {
    Configs::new(entries(given)).expect("Kafka starts with these")
}

fn entries<const N: usize>(pairs: [(&str, &str); N]) -> Entries {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

impl Configs {
    fn create<const N: usize>(&mut self, topic: &str, overrides: [(&str, &str); N]) -> Result<(), InvalidConfig> {
        let overrides = self.check_topic(None, overrides.map(|(name, value)| (name, Some(value))))?;
        self.set_topic(topic, overrides);
        Ok(())
    }

    fn alter(
        &mut self,
        judge: Option<i32>,
        resource: &Resource,
        changes: &[Alteration<'_>],
        dry: bool,
    ) -> Result<(), Reject> {
        let admitted = self.admit_alterations(judge, resource, changes)?;
        if !dry {
            self.make(admitted);
        }
        Ok(())
    }

    fn replace(&mut self, resource: &Resource, entries: &[(&str, Option<&str>)]) -> Result<(), Reject> {
        let admitted = self.admit_replacement(None, resource, entries)?;
        self.make(admitted);
        Ok(())
    }

    fn set(&mut self, resource: &Resource, name: &str, value: &str) -> Result<(), ErrorCode> {
        self.one(resource, name, Op::Set, Some(value))
    }

    fn one(&mut self, resource: &Resource, name: &str, op: Op, value: Option<&str>) -> Result<(), ErrorCode> {
        self.alter(None, resource, &[Alteration { name, op, value }], false).map_err(|reject| reject.code)
    }

    /// Value and source of one config, as broker 1 describes it.
    fn shows(&self, resource: &Resource, name: &str) -> Option<(Option<String>, Source)> {
        let found = self.describe(resource, 1, Some(&[name.to_owned()]));
        found.into_iter().next().map(|config| (config.value, config.source))
    }

    fn synonyms_of(&self, resource: &Resource, name: &str) -> Vec<String> {
        let found = self.describe(resource, 1, Some(&[name.to_owned()]));
        let text = |s: &Synonym| format!("{}={} {:?}", s.name, s.value.as_deref().unwrap_or("?"), s.source);
        found.iter().flat_map(|config| &config.synonyms).map(text).collect()
    }
}

fn orders() -> Resource {
    Resource::Topic("orders".into())
}

fn group() -> Resource {
    Resource::Group("payments".into())
}

fn is(value: &str, source: Source) -> Option<(Option<String>, Source)> {
    Some((Some(value.to_owned()), source))
}

#[test]
fn every_table_is_sorted_and_accepts_its_own_defaults() {
    for table in [table::TOPIC, table::BROKER, table::BROKER_DYNAMIC_ONLY, table::GROUP, table::CLIENT_METRICS] {
        assert!(table.is_sorted_by(|a, b| a.name < b.name));
        for key in table {
            if let Some(default) = key.default {
                assert_eq!(key.read(default).map(|value| value.to_string()), Ok(default.to_owned()), "{}", key.name);
            }
            if let Some(broker) = key.inherits {
                assert!(find(table::BROKER, broker).is_some(), "{} follows {broker}", key.name);
            }
        }
    }
    assert_eq!((table::TOPIC.len(), table::BROKER.len(), table::GROUP.len()), (34, 360, 17));
}

#[test]
fn a_cluster_started_with_nothing_behaves_like_kafka_but_for_the_first_rebalance() {
    let configs = started_with([]);

    let broker = configs.broker_settings();
    assert!(broker.auto_create_topics);
    assert_eq!((broker.num_partitions, broker.default_replication_factor), (1, 1));
    assert_eq!((broker.group_min_session_timeout_ms, broker.group_max_session_timeout_ms), (6_000, 1_800_000));
    assert_eq!((broker.socket_request_max_bytes, broker.fetch_max_bytes), (104_857_600, 57_671_680));
    assert_eq!((broker.offset_metadata_max_bytes, broker.offsets_retention_minutes), (4_096, 10_080));
    assert_eq!(broker.group_initial_rebalance_delay_ms, 0);

    let topic = configs.topic_settings("any");
    assert_eq!((topic.retention_ms, topic.retention_bytes, topic.max_message_bytes), (604_800_000, -1, 1_048_588));
    assert_eq!((topic.segment_ms, topic.segment_bytes), (604_800_000, 1_073_741_824));
    assert_eq!((topic.cleanup_delete, topic.cleanup_compact), (true, false));
    assert_eq!((topic.timestamp_type, topic.compression), (TimestampType::CreateTime, Compression::Producer));
    assert_eq!((topic.timestamp_before_max_ms, topic.timestamp_after_max_ms), (i64::MAX, 3_600_000));
}

#[test]
fn a_misspelt_broker_config_is_refused_with_the_name_that_was_meant() {
    let refused = |name: &str| Configs::new(entries([(name, "1")])).expect_err("nobody knows it").to_string();

    assert_eq!(
        refused("num.partition"),
        "unknown broker config num.partition; the nearest known name is num.partitions"
    );
    assert_eq!(
        refused("retention.ms"),
        "unknown broker config retention.ms; the nearest known name is log.retention.ms"
    );
    assert_eq!(refused("x"), "unknown broker config x");
}

#[test]
fn a_broker_does_not_start_with_configs_that_contradict_each_other() {
    let refused = |given| Configs::new(given).expect_err("Kafka would not start").to_string();

    assert_eq!(refused(entries([("num.partitions", "0")])), r#"num.partitions must be at least 1, not "0""#);
    assert_eq!(refused(entries([("ssl.key.password", "p"), ("num.io.threads", "many")])).find("\"p\""), None);
    assert!(refused(entries([("log.retention.hours", "0")])).contains("log retention"));
    assert!(refused(entries([("queued.max.request.bytes", "5")])).contains("socket.request.max.bytes"));
}

#[test]
fn a_topic_follows_its_brokers_whatever_the_unit() {
    let configs = started_with([("log.retention.hours", "24"), ("log.roll.hours", "1"), ("message.max.bytes", "5000")]);

    let topic = configs.topic_settings("orders");
    assert_eq!((topic.retention_ms, topic.segment_ms, topic.max_message_bytes), (86_400_000, 3_600_000, 5_000));

    let minutes = started_with([("log.retention.hours", "24"), ("log.retention.minutes", "2")]);
    assert_eq!(minutes.topic_settings("orders").retention_ms, 120_000);
    assert_eq!(started_with([("log.retention.hours", "-1")]).topic_settings("orders").retention_ms, -1);
}

#[test]
fn a_topics_own_configs_win_and_go_with_it() {
    let mut configs = started_with([]);

    configs.create("orders", [("cleanup.policy", "compact , delete"), ("compression.type", "zstd")]).unwrap();
    let topic = configs.topic_settings("orders");
    assert!(topic.cleanup_compact && topic.cleanup_delete);
    assert_eq!(topic.compression, Compression::Zstd(3));

    configs.remove_topic("orders");
    assert!(!configs.topic_settings("orders").cleanup_compact);
}

#[test]
fn a_topic_is_not_created_with_configs_kafka_refuses() {
    let mut configs = started_with([]);

    let mut refused = |overrides| configs.create("orders", [overrides]).expect_err("refused").to_string();
    assert_eq!(refused(("bogus", "1")), "unknown topic config bogus");
    assert_eq!(refused(("retention.ms", "-5")), r#"retention.ms must be at least -1, not "-5""#);
    assert_eq!(refused(("segment.bytes", "1g")), r#"segment.bytes must be a 32-bit integer, not "1g""#);
    assert_eq!(
        refused(("cleanup.policy", "burn")),
        r#"cleanup.policy must be a list of none or more of compact, delete, not "burn""#
    );
    assert!(refused(("max.compaction.lag.ms", "0")).contains("at least 1"));
    assert!(refused(("remote.storage.enable", "true")).contains("tiered storage"));
    assert!(refused(("leader.replication.throttled.replicas", "0:1,x")).contains("partition:broker"));
    assert!(refused(("preallocate", "yes")).contains("true or false"));

    assert!(configs.create("orders", [("min.compaction.lag.ms", "9"), ("max.compaction.lag.ms", "8")]).is_err());
    assert!(configs.check_topic(None, [("retention.ms", None)]).is_err());
    assert!(
        configs.create("orders", [("retention.ms", " 5 "), ("follower.replication.throttled.replicas", "*")]).is_ok()
    );
}

#[test]
fn a_topic_says_where_each_value_comes_from() {
    let mut configs = started_with([("message.max.bytes", "5000")]);
    configs.create("orders", [("retention.ms", " 5 "), ("min.cleanable.dirty.ratio", "1")]).unwrap();

    assert_eq!(configs.shows(&orders(), "retention.ms"), is("5", Source::Topic));
    assert_eq!(configs.shows(&orders(), "min.cleanable.dirty.ratio"), is("1.0", Source::Topic));
    assert_eq!(configs.shows(&orders(), "max.message.bytes"), is("5000", Source::Static));
    assert_eq!(configs.shows(&orders(), "min.insync.replicas"), is("1", Source::DefaultBroker));
    assert_eq!(configs.shows(&orders(), "segment.ms"), is("604800000", Source::Default));
    assert_eq!(configs.shows(&orders(), "internal.segment.bytes"), None);
    assert_eq!(configs.describe(&orders(), 1, None).len(), 33);

    assert_eq!(configs.synonyms_of(&orders(), "retention.ms"), ["retention.ms=5 Topic"]);
    let ratio = ["min.cleanable.dirty.ratio=1.0 Topic", "log.cleaner.min.cleanable.ratio=0.5 Default"];
    assert_eq!(configs.synonyms_of(&orders(), "min.cleanable.dirty.ratio"), ratio);
    let isr = ["min.insync.replicas=1 DefaultBroker", "min.insync.replicas=1 Default"];
    assert_eq!(configs.synonyms_of(&orders(), "min.insync.replicas"), isr);
}

#[test]
fn what_is_set_for_all_brokers_reaches_every_topic_at_once() {
    let mut configs = started_with([("log.retention.hours", "24")]);
    configs.create("orders", []).unwrap();

    configs.set(&Resource::DefaultBroker, "log.retention.ms", "77777").unwrap();

    assert_eq!(configs.topic_settings("orders").retention_ms, 77_777);
    assert_eq!(configs.shows(&orders(), "retention.ms"), is("77777", Source::DefaultBroker));
    let layers =
        ["log.retention.ms=77777 DefaultBroker", "log.retention.hours=24 Static", "log.retention.hours=168 Default"];
    assert_eq!(configs.synonyms_of(&orders(), "retention.ms"), layers);

    configs.one(&Resource::DefaultBroker, "log.retention.ms", Op::Delete, None).unwrap();
    assert_eq!(configs.topic_settings("orders").retention_ms, 86_400_000);
}

#[test]
fn what_is_set_for_one_broker_stays_there() {
    let mut configs = started_with([]);
    configs.create("orders", []).unwrap();

    configs.set(&Resource::Broker(1), "message.max.bytes", "2000000").unwrap();

    assert_eq!(configs.topic_settings_at("orders", 1).max_message_bytes, 2_000_000);
    assert_eq!(configs.topic_settings_at("orders", 2).max_message_bytes, 1_048_588);
    assert_eq!(configs.broker_settings_at(1).message_max_bytes, 2_000_000);
    assert_eq!(configs.shows(&Resource::Broker(1), "message.max.bytes"), is("2000000", Source::Broker));
    assert_eq!(configs.shows(&Resource::Broker(2), "message.max.bytes"), is("1048588", Source::Default));
}

#[test]
fn lists_grow_and_shrink_by_elements() {
    let mut configs = started_with([]);
    configs.create("orders", []).unwrap();

    configs.one(&orders(), "cleanup.policy", Op::Append, Some("compact,delete")).unwrap();
    assert_eq!(configs.shows(&orders(), "cleanup.policy"), is("delete,compact", Source::Topic));
    configs.one(&orders(), "cleanup.policy", Op::Subtract, Some("delete,compact")).unwrap();
    assert_eq!(configs.shows(&orders(), "cleanup.policy"), is("", Source::Topic));

    let append = configs.one(&orders(), "retention.ms", Op::Append, Some("1"));
    assert_eq!(append, Err(ErrorCode::InvalidConfig));
}

#[test]
fn an_alteration_is_refused_whole() {
    let mut configs = started_with([]);
    configs.create("orders", []).unwrap();
    let set = |name, value| Alteration { name, op: Op::Set, value };
    let code = |configs: &mut Configs, changes: &[_]| configs.alter(None, &orders(), changes, false).unwrap_err().code;

    let good_and_bad = [set("retention.ms", Some("1")), set("segment.ms", Some("0"))];
    assert_eq!(code(&mut configs, &good_and_bad), ErrorCode::InvalidConfig);
    let twice = [set("retention.ms", Some("1")), set("retention.ms", Some("2"))];
    assert_eq!(code(&mut configs, &twice), ErrorCode::InvalidRequest);
    assert_eq!(code(&mut configs, &[set("retention.ms", None)]), ErrorCode::InvalidRequest);
    let unknown = Alteration { name: "retention.ms", op: Op::Unknown(9), value: Some("1") };
    assert_eq!(code(&mut configs, &[unknown]), ErrorCode::UnknownServerError);
    assert_eq!(configs.alter(None, &orders(), &[set("retention.ms", Some("1"))], true), Ok(()));

    assert_eq!(configs.shows(&orders(), "retention.ms"), is("604800000", Source::Default));
}

#[test]
fn replacing_a_topics_configs_forgets_those_not_named() {
    let mut configs = started_with([]);
    configs.create("orders", [("retention.ms", "99")]).unwrap();

    configs.replace(&orders(), &[("segment.ms", Some("7"))]).unwrap();

    assert_eq!(configs.topic_settings("orders").retention_ms, 604_800_000);
    assert_eq!(configs.topic_settings("orders").segment_ms, 7);
    let empty = configs.replace(&orders(), &[("segment.ms", None)]);
    assert_eq!(empty.unwrap_err().code, ErrorCode::InvalidRequest);
}

#[test]
fn a_running_broker_changes_only_what_kafka_lets_it() {
    let mut configs = started_with([]);
    let (one, all) = (Resource::Broker(1), Resource::DefaultBroker);

    assert_eq!(configs.set(&one, "num.partitions", "5"), Err(ErrorCode::InvalidRequest));
    assert_eq!(configs.set(&one, "log.retention.ms", "x"), Err(ErrorCode::InvalidRequest));
    assert_eq!(configs.set(&one, "num.io.threads", "500"), Err(ErrorCode::InvalidRequest));
    assert_eq!(configs.set(&one, "num.io.threads", "16"), Ok(()));
    assert_eq!(configs.set(&one, "num.io.threads", "32"), Ok(()));
    assert_eq!(configs.set(&one, "ssl.keystore.location", "/x"), Err(ErrorCode::InvalidRequest));
    assert_eq!(configs.set(&all, "listener.name.plain.ssl.keystore.location", "/x"), Err(ErrorCode::InvalidRequest));
    assert_eq!(configs.one(&one, "num.partitions", Op::Append, Some("5")), Err(ErrorCode::InvalidConfig));
    assert_eq!(configs.one(&one, "log.retention.ms", Op::Unknown(9), Some("5")), Err(ErrorCode::InvalidRequest));

    assert_eq!(configs.set(&one, "min.insync.replicas", "1"), Err(ErrorCode::InvalidConfig));
    assert_eq!(configs.one(&all, "min.insync.replicas", Op::Delete, None), Err(ErrorCode::InvalidConfig));
    assert_eq!(configs.replace(&all, &[]).unwrap_err().code, ErrorCode::InvalidConfig);
    assert_eq!(configs.set(&all, "min.insync.replicas", "2"), Ok(()));
    assert_eq!(configs.topic_settings("orders").min_insync_replicas, 2);
}

#[test]
fn a_name_kafka_does_not_know_is_kept_for_plugins_and_shown_to_nobody() {
    let mut configs = started_with([]);

    configs.set(&Resource::DefaultBroker, "bogus.name", "7").unwrap();

    assert_eq!(configs.shows(&Resource::DefaultBroker, "bogus.name"), Some((None, Source::DefaultBroker)));
    assert_eq!(configs.synonyms_of(&Resource::Broker(1), "bogus.name"), ["bogus.name=? DefaultBroker"]);
    assert!(configs.describe(&Resource::Broker(1), 1, Some(&["bogus.name".into()]))[0].sensitive);
}

#[test]
fn a_broker_describes_what_it_was_started_with_and_no_secret() {
    let mut configs = started_with([("ssl.key.password", "secret"), ("offsets.topic.num.partitions", "3")]);
    configs.introduce(2, entries([("broker.rack", "r2")])).unwrap();

    let (two, three) = (Resource::Broker(2), Resource::Broker(3));
    assert_eq!(configs.shows(&two, "broker.rack"), is("r2", Source::Static));
    assert_eq!(configs.shows(&three, "broker.rack"), Some((None, Source::Default)));
    assert_eq!(configs.shows(&two, "node.id"), is("2", Source::Static));
    assert_eq!(configs.shows(&two, "ssl.key.password"), Some((None, Source::Static)));
    assert_eq!(configs.shows(&two, "log.roll.ms"), Some((None, Source::Default)));
    let layers = ["offsets.topic.num.partitions=3 Static", "offsets.topic.num.partitions=50 Default"];
    assert_eq!(configs.synonyms_of(&two, "offsets.topic.num.partitions"), layers);
    assert_eq!(configs.describe(&two, 2, None).len(), 340);
}

#[test]
fn what_is_set_for_all_brokers_is_checked_by_the_broker_that_was_asked() {
    let mut configs = started_with([]);
    configs.set(&Resource::Broker(1), "num.io.threads", "16").unwrap();

    let set = [Alteration { name: "num.io.threads", op: Op::Set, value: Some("32") }];
    assert!(configs.alter(Some(2), &Resource::DefaultBroker, &set, true).is_err());
    assert!(configs.alter(Some(1), &Resource::DefaultBroker, &set, true).is_ok());
}

#[test]
fn a_group_keeps_within_its_brokers_bounds() {
    let mut configs = started_with([]);

    assert_eq!(configs.set(&group(), "consumer.session.timeout.ms", "5"), Err(ErrorCode::InvalidConfig));
    assert_eq!(configs.set(&group(), "zap", "5"), Err(ErrorCode::InvalidConfig));
    assert_eq!(configs.set(&group(), "share.auto.offset.reset", "never"), Err(ErrorCode::InvalidConfig));
    assert_eq!(configs.set(&group(), "share.auto.offset.reset", "by_duration:P1DT2H"), Ok(()));
    assert_eq!(configs.set(&group(), "consumer.session.timeout.ms", "50000"), Ok(()));
    assert_eq!(configs.one(&Resource::Group("".into()), "zap", Op::Delete, None), Err(ErrorCode::InvalidRequest));

    assert_eq!(configs.group_settings("payments").consumer_session_timeout_ms, 50_000);
    assert_eq!(configs.group_settings("others").consumer_session_timeout_ms, 45_000);
    assert_eq!(configs.shows(&group(), "consumer.session.timeout.ms"), is("50000", Source::Group));
    let layers = ["consumer.session.timeout.ms=50000 Group", "group.consumer.session.timeout.ms=45000 Default"];
    assert_eq!(configs.synonyms_of(&group(), "consumer.session.timeout.ms"), layers);
    assert_eq!(configs.groups().collect::<Vec<_>>(), ["payments"]);
}

#[test]
fn a_metrics_subscription_names_clients_and_an_interval() {
    let mut configs = started_with([]);
    let slow = Resource::ClientMetrics("slow".into());

    assert_eq!(configs.set(&slow, "interval.ms", "5"), Err(ErrorCode::InvalidRequest));
    assert_eq!(configs.set(&slow, "interval.ms", "x"), Err(ErrorCode::InvalidConfig));
    assert_eq!(configs.set(&slow, "zap", "5"), Err(ErrorCode::InvalidRequest));
    assert_eq!(configs.set(&slow, "match", "nope=x"), Err(ErrorCode::InvalidConfig));
    assert_eq!(configs.set(&slow, "match", "client_id=x.*"), Ok(()));
    assert_eq!(configs.one(&slow, "metrics", Op::Append, Some("a")), Err(ErrorCode::InvalidConfig));

    assert_eq!(configs.shows(&slow, "match"), is("client_id=x.*", Source::ClientMetrics));
    assert_eq!(configs.shows(&slow, "interval.ms"), is("300000", Source::Default));
}

#[test]
fn a_created_topic_reports_values_as_given_and_as_followed() {
    let configs = started_with([("log.retention.hours", "24")]);

    let created = configs.describe_created(None, &entries([("cleanup.policy", "compact , delete")]));

    let shown = |name: &str| created.iter().find(|c| c.name == name).map(|c| (c.value.as_deref(), c.source));
    assert_eq!(shown("cleanup.policy"), Some((Some("compact , delete"), Source::Topic)));
    assert_eq!(shown("retention.ms"), Some((Some("86400000"), Source::Static)));
    assert_eq!(shown("min.insync.replicas"), Some((Some("1"), Source::DefaultBroker)));
    assert_eq!(created.len(), 33);
}

#[test]
fn numbers_are_spelled_as_java_spells_them() {
    let spelled = |value: f64| Value::Double(value).to_string();

    assert_eq!(spelled(0.5), "0.5");
    assert_eq!(spelled(1.0), "1.0");
    assert_eq!(spelled(0.00001), "1.0E-5");
    assert_eq!(spelled(1.25e7), "1.25E7");
    assert_eq!(spelled(f64::MAX), "1.7976931348623157E308");
}
