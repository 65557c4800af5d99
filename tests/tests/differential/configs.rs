//! Settings: read, changed, and what changing them does.

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest, TopicName};
use tests::differential::Stage;

use crate::verbs::{batch, fetch, from, produce, text};

pub(crate) const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const GROUP: i8 = 32;

pub(crate) const SET: i8 = 0;
pub(crate) const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

pub(crate) fn describe(kind: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsRequest {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(keys.map(|keys| keys.iter().map(|key| text(key)).collect()));
    DescribeConfigsRequest::default().with_resources(vec![resource])
}

pub(crate) fn alter(kind: i8, name: &str, changes: &[(&str, i8, Option<&str>)]) -> IncrementalAlterConfigsRequest {
    let change = |(key, operation, value): &(&str, i8, Option<&str>)| {
        AlterableConfig::default().with_name(text(key)).with_config_operation(*operation).with_value(value.map(text))
    };
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(changes.iter().map(change).collect());
    IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
}

/// Awaits that the broker's own picture of a topic holds `value`.
pub(crate) fn await_config(stage: &mut Stage, topic: &TopicName, key: &str, value: &str) {
    stage.until("the setting's effect", |stage| {
        let answer = stage.quietly(4, &describe(TOPIC, topic, Some(&[key]))).unwrap_or_default();
        let configs = answer.results.iter().flat_map(|result| &result.configs);
        configs.into_iter().any(|config| config.value.as_deref() == Some(value))
    });
}

pub(crate) fn describe_topic_configs(stage: &mut Stage) {
    let plain = stage.create_topic("plain", 1);
    let set = stage.create_topic_with("set", 1, &[("retention.ms", "60000"), ("cleanup.policy", "compact,delete")]);
    for version in 1..=4 {
        stage.ask(&format!("all, version {version}"), version, &describe(TOPIC, &plain, None));
    }
    let synonyms = describe(TOPIC, &plain, None).with_include_synonyms(true);
    stage.ask("all, with their sources", 4, &synonyms);
    stage.ask("a changed topic, with their sources", 4, &describe(TOPIC, &set, None).with_include_synonyms(true));
    stage.ask("two keys", 4, &describe(TOPIC, &set, Some(&["retention.ms", "segment.bytes"])));
    stage.ask("no keys", 4, &describe(TOPIC, &set, Some(&[])));
    stage.ask("an unknown key", 4, &describe(TOPIC, &set, Some(&["no.such.setting"])));
    let unknown = stage.topic("unknown");
    for version in [1, 4] {
        stage.ask(&format!("an unknown topic, version {version}"), version, &describe(TOPIC, &unknown, None));
    }
    stage.ask("an invalid name", 4, &describe(TOPIC, "bad name", None));
    stage.ask("an empty name", 4, &describe(TOPIC, "", None));
    stage.ask("an unknown kind", 4, &describe(99, "x", None));
    let mut both = describe(TOPIC, &plain, Some(&["retention.ms"]));
    both.resources.extend(describe(TOPIC, &unknown, None).resources);
    stage.ask("a known and an unknown topic", 4, &both);
    stage.ask("no resources", 4, &DescribeConfigsRequest::default());
}

pub(crate) fn describe_broker_configs(stage: &mut Stage) {
    stage.ask("broker 1", 4, &describe(BROKER, "1", None));
    let keys = ["num.partitions", "message.max.bytes", "auto.create.topics.enable", "log.retention.ms"];
    stage.ask("some keys, with their sources", 4, &describe(BROKER, "1", Some(&keys)).with_include_synonyms(true));
    stage.ask("the default of all brokers", 4, &describe(BROKER, "", None));
    stage.ask("an unknown broker", 4, &describe(BROKER, "99", None));
    stage.ask("no number", 4, &describe(BROKER, "one", None));
    stage.ask("a group", 4, &describe(GROUP, &stage.name("group"), None).with_include_synonyms(true));
    stage.ask("a logger of an unknown broker", 4, &describe(BROKER_LOGGER, "99", None));
}

pub(crate) fn incremental_alter_configs(stage: &mut Stage) {
    let orders = stage.create_topic("orders", 1);
    let changed = ["retention.ms", "cleanup.policy", "max.message.bytes"];
    let see = |stage: &mut Stage, label: &str| {
        let request = describe(TOPIC, &orders, Some(&changed)).with_include_synonyms(true);
        stage.ask(label, 4, &request);
    };
    stage.ask("set, version 0", 0, &alter(TOPIC, &orders, &[("retention.ms", SET, Some("1000000"))]));
    await_config(stage, &orders, "retention.ms", "1000000");
    see(stage, "after set");
    stage.ask("append, version 1", 1, &alter(TOPIC, &orders, &[("cleanup.policy", APPEND, Some("compact"))]));
    await_config(stage, &orders, "cleanup.policy", "delete,compact");
    see(stage, "after append");
    stage.ask("append what is there", 1, &alter(TOPIC, &orders, &[("cleanup.policy", APPEND, Some("compact"))]));
    stage.ask("subtract", 1, &alter(TOPIC, &orders, &[("cleanup.policy", SUBTRACT, Some("delete"))]));
    await_config(stage, &orders, "cleanup.policy", "compact");
    see(stage, "after subtract");
    stage.ask("subtract what is not there", 1, &alter(TOPIC, &orders, &[("cleanup.policy", SUBTRACT, Some("delete"))]));
    stage.ask("delete", 1, &alter(TOPIC, &orders, &[("retention.ms", DELETE, None)]));
    await_config(stage, &orders, "retention.ms", "604800000");
    see(stage, "after delete");
    stage.ask("delete what is not set", 1, &alter(TOPIC, &orders, &[("segment.bytes", DELETE, None)]));
    let check = alter(TOPIC, &orders, &[("retention.ms", SET, Some("5"))]).with_validate_only(true);
    stage.ask("only checked", 1, &check);
    see(stage, "after only checking");
    for (label, key, operation, value) in [
        ("an unknown setting", "no.such.setting", SET, Some("1")),
        ("no number", "retention.ms", SET, Some("soon")),
        ("out of range", "segment.bytes", SET, Some("1")),
        ("no value", "retention.ms", SET, None),
        ("append to what is no list", "retention.ms", APPEND, Some("1")),
        ("subtract from what is no list", "retention.ms", SUBTRACT, Some("1")),
        ("an unknown operation", "retention.ms", 9, Some("1")),
        ("an unknown element", "cleanup.policy", APPEND, Some("shred")),
    ] {
        for version in [0, 1] {
            stage.ask(
                &format!("{label}, version {version}"),
                version,
                &alter(TOPIC, &orders, &[(key, operation, value)]),
            );
        }
    }
    let twice = [("retention.ms", SET, Some("1")), ("retention.ms", SET, Some("2"))];
    stage.ask("the same setting twice", 1, &alter(TOPIC, &orders, &twice));
    let half = [("retention.ms", SET, Some("77")), ("segment.bytes", SET, Some("1"))];
    stage.ask("a good one beside a bad one", 1, &alter(TOPIC, &orders, &half));
    see(stage, "neither took effect");
    stage.ask("an unknown topic", 1, &alter(TOPIC, &stage.topic("unknown"), &[("retention.ms", SET, Some("1"))]));
    stage.ask("an unknown kind", 1, &alter(99, "x", &[("retention.ms", SET, Some("1"))]));
    let mut both = alter(TOPIC, &orders, &[("retention.ms", SET, Some("123456"))]);
    both.resources.push(both.resources[0].clone());
    stage.ask("the same topic twice", 1, &both);
    stage.ask("an unknown broker", 1, &alter(BROKER, "99", &[("log.cleaner.threads", SET, Some("1"))]));
    stage.ask(
        "a broker's name that is no number",
        1,
        &alter(BROKER, "one", &[("log.cleaner.threads", SET, Some("1"))]),
    );
    stage.ask("a broker's read-only setting", 1, &alter(BROKER, "1", &[("node.id", SET, Some("5"))]));
    stage.ask("nothing to change", 1, &alter(TOPIC, &orders, &[]));
    stage.ask("no resources", 1, &IncrementalAlterConfigsRequest::default());
}

pub(crate) fn alter_configs_act(stage: &mut Stage) {
    let orders = stage.create_topic("orders", 1);
    let large = "x".repeat(500);
    stage.quietly(1, &alter(TOPIC, &orders, &[("max.message.bytes", SET, Some("300"))]));
    await_config(stage, &orders, "max.message.bytes", "300");
    stage.ask("a batch that is now too large", 9, &produce(&orders, 0, batch(&[&large]).encode()));
    stage.ask("a batch that is not", 9, &produce(&orders, 0, batch(&["small"]).encode()));
    stage.quietly(1, &alter(TOPIC, &orders, &[("max.message.bytes", DELETE, None)]));
    await_config(stage, &orders, "max.message.bytes", "1048588");
    stage.ask("no longer too large", 9, &produce(&orders, 0, batch(&[&large]).encode()));
    stage.quietly(1, &alter(TOPIC, &orders, &[("message.timestamp.type", SET, Some("LogAppendTime"))]));
    await_config(stage, &orders, "message.timestamp.type", "LogAppendTime");
    stage.ask("with the broker's time", 9, &produce(&orders, 0, batch(&["stamped"]).encode()));
    stage.ask("what is stored", 12, &fetch(&orders, vec![from(0, 0)]));
    stage.quietly(1, &alter(TOPIC, &orders, &[("min.insync.replicas", SET, Some("2"))]));
    await_config(stage, &orders, "min.insync.replicas", "2");
    stage.ask("not enough replicas", 9, &produce(&orders, 0, batch(&["unsafe"]).encode()));
    stage.ask("not enough replicas, acks=1", 9, &produce(&orders, 0, batch(&["safe"]).encode()).with_acks(1));
    let compacted = stage.create_topic_with("compacted", 1, &[("cleanup.policy", "compact")]);
    stage.ask("no key in a compacted topic", 9, &produce(&compacted, 0, batch(&["keyless"]).encode()));
    let mut keyed = batch(&["keyed"]);
    keyed.records[0].key = Some("key".into());
    stage.ask("a key in a compacted topic", 9, &produce(&compacted, 0, keyed.encode()));
}
