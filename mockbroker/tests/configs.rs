//! Configs as administrators meet them: requests of every version through `Cluster::handle`.

use rehearsal_mockbroker::cluster::Cluster;
use rehearsal_mockbroker::config::{ClusterConfig, TopicConfig};
use rehearsal_mockbroker::error::ErrorCode;
use rehearsal_mockbroker::output::{ConnId, Output};
use rehearsal_mockbroker::session::Incoming;
use rehearsal_mockbroker::state::nodes::NodeId;
use rehearsal_mockbroker::time::Time;
use rehearsal_mockbroker::wire::generated::alter_configs_request as replace;
use rehearsal_mockbroker::wire::generated::create_topics_request::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use rehearsal_mockbroker::wire::generated::describe_configs_request::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use rehearsal_mockbroker::wire::generated::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use rehearsal_mockbroker::wire::generated::incremental_alter_configs_request as alter;
use rehearsal_mockbroker::wire::generated::list_config_resources_request::ListConfigResourcesRequest;
use rehearsal_mockbroker::wire::{Request, Response, Str, Writer};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const METRICS: i8 = 16;
const GROUP: i8 = 32;

const SET: i8 = 0;
const DELETE: i8 = 1;

const FROM_TOPIC: i8 = 1;
const FROM_START: i8 = 4;
const FROM_DEFAULT: i8 = 5;

#[test]
fn a_topic_describes_every_config_in_every_version() {
    for version in 1..=4 {
        let mut kafka = Kafka::with_topic("orders");

        let described = kafka.describe(version, TOPIC, "orders", &[]);

        assert_eq!((described.error_code, described.configs.len()), (0, 33), "version {version}");
        let retention = one(&described, "retention.ms");
        assert_eq!((retention.value.as_deref(), retention.config_source), (Some("604800000"), FROM_DEFAULT));
        assert_eq!((retention.read_only, retention.is_sensitive), (false, false));
    }
}

#[test]
fn a_changed_config_is_in_force_at_once_until_it_is_taken_back() {
    let mut kafka = Kafka::with_topic("orders");

    assert_eq!(kafka.alter(TOPIC, "orders", "max.message.bytes", SET, Some("2000")), ErrorCode::None);
    let described = kafka.describe(4, TOPIC, "orders", &["max.message.bytes", "no.such.name"]);
    assert_eq!(described.configs.len(), 1);
    let limit = one(&described, "max.message.bytes");
    assert_eq!((limit.value.as_deref(), limit.config_source), (Some("2000"), FROM_TOPIC));
    let synonyms: Vec<_> = limit.synonyms.iter().map(|synonym| (synonym.name.as_str(), synonym.source)).collect();
    assert_eq!(synonyms, [("max.message.bytes", FROM_TOPIC), ("message.max.bytes", FROM_DEFAULT)]);

    assert_eq!(kafka.alter(TOPIC, "orders", "max.message.bytes", DELETE, None), ErrorCode::None);
    let described = kafka.describe(4, TOPIC, "orders", &["max.message.bytes"]);
    assert_eq!(one(&described, "max.message.bytes").value.as_deref(), Some("1048588"));
}

#[test]
fn what_cannot_be_described_says_why() {
    let mut kafka = Kafka::with_topic("orders");
    let mut code = |kind, name: &str| ErrorCode::from_code(kafka.describe(4, kind, name, &[]).error_code).unwrap();

    assert_eq!(code(TOPIC, "payments"), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(code(TOPIC, "no name"), ErrorCode::InvalidTopicException);
    assert_eq!(code(BROKER, "2"), ErrorCode::InvalidRequest, "broker 1 was asked");
    assert_eq!(code(BROKER, "one"), ErrorCode::InvalidRequest);
    assert_eq!(code(BROKER_LOGGER, ""), ErrorCode::InvalidRequest);
    assert_eq!(code(GROUP, ""), ErrorCode::InvalidRequest);
    assert_eq!(code(METRICS, ""), ErrorCode::InvalidRequest);
    assert_eq!(code(3, "orders"), ErrorCode::InvalidRequest);
}

#[test]
fn a_broker_answers_for_itself_and_for_all() {
    let mut kafka = Kafka::with_topic("orders");

    let own = kafka.describe(4, BROKER, "1", &["broker.rack", "node.id"]);
    assert_eq!(one(&own, "broker.rack").value.as_deref(), Some("rack-1"));
    assert_eq!((one(&own, "node.id").read_only, one(&own, "node.id").config_source), (true, FROM_START));

    assert_eq!(kafka.alter(BROKER, "", "log.retention.ms", SET, Some("5000")), ErrorCode::None);
    assert_eq!(kafka.describe(4, BROKER, "", &["log.retention.ms"]).configs.len(), 1);
    let followed = kafka.describe(4, TOPIC, "orders", &["retention.ms"]);
    assert_eq!(one(&followed, "retention.ms").value.as_deref(), Some("5000"));
}

#[test]
fn an_alteration_kafka_refuses_is_refused_with_its_code() {
    let mut kafka = Kafka::with_topic("orders");

    assert_eq!(kafka.alter(TOPIC, "orders", "retention.ms", SET, Some("-7")), ErrorCode::InvalidConfig);
    assert_eq!(kafka.alter(TOPIC, "orders", "retention.ms", SET, None), ErrorCode::InvalidRequest);
    assert_eq!(kafka.alter(TOPIC, "orders", "retention.ms", 9, Some("1")), ErrorCode::UnknownServerError);
    assert_eq!(kafka.alter(TOPIC, "payments", "retention.ms", SET, Some("-7")), ErrorCode::InvalidConfig);
    assert_eq!(kafka.alter(TOPIC, "payments", "retention.ms", SET, Some("7")), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(kafka.alter(TOPIC, "", "retention.ms", SET, Some("7")), ErrorCode::InvalidRequest);
    assert_eq!(kafka.alter(BROKER, "1", "num.partitions", SET, Some("7")), ErrorCode::InvalidRequest);
    assert_eq!(kafka.alter(BROKER, "2", "num.io.threads", SET, Some("9")), ErrorCode::InvalidRequest);
    assert_eq!(kafka.alter(BROKER_LOGGER, "1", "root", SET, Some("LOUD")), ErrorCode::InvalidConfig);
    assert_eq!(kafka.alter(BROKER_LOGGER, "1", "root", SET, Some("DEBUG")), ErrorCode::None);
    assert_eq!(kafka.alter(5, "orders", "retention.ms", SET, Some("7")), ErrorCode::InvalidRequest);

    assert_eq!(kafka.describe(4, TOPIC, "payments", &[]).error_code, ErrorCode::UnknownTopicOrPartition.code());
}

#[test]
fn a_resource_named_twice_is_not_changed_at_all() {
    let mut kafka = Kafka::with_topic("orders");
    let request = |value: &str| alter_one(TOPIC, "orders", "retention.ms", SET, Some(value));
    let resources = vec![request("1"), request("2")];

    let codes = kafka.alter_all(1, alter::IncrementalAlterConfigsRequest { resources, ..Default::default() });

    assert_eq!(codes, [ErrorCode::InvalidRequest; 2]);
    let described = kafka.describe(4, TOPIC, "orders", &["retention.ms"]);
    assert_eq!(one(&described, "retention.ms").config_source, FROM_DEFAULT);
}

#[test]
fn changes_of_one_request_do_not_see_each_other() {
    let mut kafka = Kafka::with_topic("orders");
    kafka.alter(BROKER, "1", "num.io.threads", SET, Some("16"));
    let resources = vec![
        alter_one(BROKER, "1", "num.io.threads", DELETE, None),
        // Twice the default of 8 and more: admitted because broker 1 has a number of its own, still.
        alter_one(BROKER, "", "num.io.threads", SET, Some("32")),
    ];

    let request = alter::IncrementalAlterConfigsRequest { resources, ..Default::default() };

    assert_eq!(kafka.alter_all(1, request), [ErrorCode::None; 2]);
}

#[test]
fn validation_alone_changes_nothing() {
    let mut kafka = Kafka::with_topic("orders");
    for version in 0..=1 {
        let resources = vec![alter_one(TOPIC, "orders", "retention.ms", SET, Some("1"))];
        let request = alter::IncrementalAlterConfigsRequest { resources, validate_only: true };
        assert_eq!(kafka.alter_all(version, request), [ErrorCode::None]);
    }
    let described = kafka.describe(4, TOPIC, "orders", &["retention.ms"]);
    assert_eq!(one(&described, "retention.ms").config_source, FROM_DEFAULT);
}

#[test]
fn the_old_request_replaces_everything() {
    for version in 0..=2 {
        let mut kafka = Kafka::with_topic("orders");
        kafka.alter(TOPIC, "orders", "retention.ms", SET, Some("1"));

        assert_eq!(kafka.replace(version, TOPIC, "orders", "segment.ms", Some("9")), ErrorCode::None);

        let described = kafka.describe(4, TOPIC, "orders", &["retention.ms", "segment.ms"]);
        assert_eq!(one(&described, "retention.ms").config_source, FROM_DEFAULT, "version {version}");
        assert_eq!(one(&described, "segment.ms").value.as_deref(), Some("9"));
        assert_eq!(kafka.replace(version, TOPIC, "orders", "segment.ms", None), ErrorCode::InvalidRequest);
        assert_eq!(kafka.replace(version, BROKER_LOGGER, "1", "root", Some("INFO")), ErrorCode::InvalidRequest);
    }
}

#[test]
fn everything_that_has_configs_is_listed() {
    let mut kafka = Kafka::with_topic("orders");
    assert_eq!(kafka.alter(GROUP, "billing", "consumer.session.timeout.ms", SET, Some("50000")), ErrorCode::None);
    assert_eq!(kafka.alter(METRICS, "slow", "interval.ms", SET, Some("1000")), ErrorCode::None);

    let all = [(GROUP, "billing"), (METRICS, "slow"), (BROKER_LOGGER, "1"), (BROKER, "1"), (TOPIC, "orders")];
    assert_eq!(kafka.list(1, &[]), Ok(all.map(|(kind, name)| (kind, name.to_owned())).to_vec()));
    assert_eq!(kafka.list(1, &[TOPIC, TOPIC]), Ok(vec![(TOPIC, "orders".to_owned())]));
    assert_eq!(kafka.list(1, &[TOPIC, 3]), Err(ErrorCode::UnsupportedVersion));
    // Version 0 listed nothing but metric subscriptions, and its rows have no type.
    assert_eq!(kafka.list(0, &[]), Ok(vec![(METRICS, "slow".to_owned())]));
}

#[test]
fn a_topic_is_created_with_its_configs_and_reports_them() {
    let mut kafka = Kafka::with_topic("orders");

    let reported = kafka.create("payments", "cleanup.policy", "compact , delete", true);
    assert_eq!(reported, Some(("compact , delete".to_owned(), FROM_TOPIC)));
    assert_eq!(kafka.describe(4, TOPIC, "payments", &[]).error_code, ErrorCode::UnknownTopicOrPartition.code());

    kafka.create("payments", "cleanup.policy", "compact , delete", false);
    let described = kafka.describe(4, TOPIC, "payments", &["cleanup.policy"]);
    assert_eq!(one(&described, "cleanup.policy").value.as_deref(), Some("compact,delete"));
}

/// A cluster of one broker with one client; every answer is also encoded in the version it was asked in.
struct Kafka {
    cluster: Cluster,
    client: ConnId,
}

impl Kafka {
    fn with_topic(topic: &str) -> Self {
        let config = ClusterConfig { topics: vec![TopicConfig::new(topic, 1)], ..ClusterConfig::with_brokers(1) };
        let mut cluster = Cluster::new(&config).expect("a cluster");
        let client = cluster.connect(NodeId(1), "/127.0.0.1").expect("the broker runs");
        Self { cluster, client }
    }

    fn ask(&mut self, version: i16, body: impl Into<Request>) -> Response {
        let request = Incoming { version, client_id: Str::from("admin"), body: body.into(), frame_bytes: 0 };
        let outputs = self.cluster.handle(Time::from_millis(1_000), self.client, request);
        let reply = outputs.into_iter().find_map(|output| match output {
            Output::Reply { response, .. } => response,
            _ => None,
        });
        let response = *reply.expect("configs are answered at once");
        response.encode(version, &mut Writer::new()).expect("an answer this version has room for");
        response
    }

    fn describe(&mut self, version: i16, kind: i8, name: &str, keys: &[&str]) -> DescribeConfigsResult {
        let keys = (!keys.is_empty()).then(|| keys.iter().copied().map(Str::from).collect());
        let resource =
            DescribeConfigsResource { resource_type: kind, resource_name: Str::from(name), configuration_keys: keys };
        let request =
            DescribeConfigsRequest { resources: vec![resource], include_synonyms: true, ..Default::default() };
        match self.ask(version, request) {
            Response::DescribeConfigs(answer) => answer.results.into_iter().next().expect("a row"),
            other => panic!("not a description: {other:?}"),
        }
    }

    fn alter(&mut self, kind: i8, name: &str, key: &str, operation: i8, value: Option<&str>) -> ErrorCode {
        let resources = vec![alter_one(kind, name, key, operation, value)];
        let request = alter::IncrementalAlterConfigsRequest { resources, ..Default::default() };
        self.alter_all(1, request)[0]
    }

    fn alter_all(&mut self, version: i16, request: alter::IncrementalAlterConfigsRequest) -> Vec<ErrorCode> {
        match self.ask(version, request) {
            Response::IncrementalAlterConfigs(answer) => answer.responses.iter().map(|r| code(r.error_code)).collect(),
            other => panic!("not an alteration: {other:?}"),
        }
    }

    fn replace(&mut self, version: i16, kind: i8, name: &str, key: &str, value: Option<&str>) -> ErrorCode {
        let config = replace::AlterableConfig { name: Str::from(key), value: value.map(Str::from) };
        let resource = replace::AlterConfigsResource {
            resource_type: kind,
            resource_name: Str::from(name),
            configs: vec![config],
        };
        match self.ask(version, replace::AlterConfigsRequest { resources: vec![resource], ..Default::default() }) {
            Response::AlterConfigs(answer) => code(answer.responses[0].error_code),
            other => panic!("not an alteration: {other:?}"),
        }
    }

    fn list(&mut self, version: i16, kinds: &[i8]) -> Result<Vec<(i8, String)>, ErrorCode> {
        match self.ask(version, ListConfigResourcesRequest { resource_types: kinds.to_vec() }) {
            Response::ListConfigResources(answer) if answer.error_code == 0 => {
                let rows = answer.config_resources.into_iter();
                Ok(rows.map(|row| (row.resource_type, row.resource_name.to_string())).collect())
            }
            Response::ListConfigResources(answer) => Err(code(answer.error_code)),
            other => panic!("not a list: {other:?}"),
        }
    }

    /// The config's value and source as the answer reports them.
    fn create(&mut self, topic: &str, key: &str, value: &str, validate_only: bool) -> Option<(String, i8)> {
        let config = CreatableTopicConfig { name: Str::from(key), value: Some(Str::from(value)) };
        let topic = CreatableTopic {
            name: Str::from(topic),
            num_partitions: 1,
            replication_factor: 1,
            configs: vec![config],
            ..Default::default()
        };
        match self.ask(7, CreateTopicsRequest { topics: vec![topic], validate_only, ..Default::default() }) {
            Response::CreateTopics(answer) => {
                assert_eq!(answer.topics[0].error_code, 0);
                let configs = answer.topics[0].configs.iter().flatten();
                let found = configs.into_iter().find(|config| config.name.as_str() == key)?;
                Some((found.value.as_ref()?.to_string(), found.config_source))
            }
            other => panic!("not a creation: {other:?}"),
        }
    }
}

fn alter_one(kind: i8, name: &str, key: &str, operation: i8, value: Option<&str>) -> alter::AlterConfigsResource {
    let config =
        alter::AlterableConfig { name: Str::from(key), config_operation: operation, value: value.map(Str::from) };
    alter::AlterConfigsResource { resource_type: kind, resource_name: Str::from(name), configs: vec![config] }
}

fn one<'a>(described: &'a DescribeConfigsResult, name: &str) -> &'a DescribeConfigsResourceResult {
    described.configs.iter().find(|config| config.name.as_str() == name).expect("the config is described")
}

fn code(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).expect("a code Kafka has")
}
