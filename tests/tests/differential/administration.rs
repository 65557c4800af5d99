//! What an administrator asks: moving partitions, electing leaders, folders of logs, the quorum, features, quotas.

use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::{
    AlterClientQuotasRequest, AlterPartitionReassignmentsRequest, AlterReplicaLogDirsRequest, BrokerId,
    DescribeClientQuotasRequest, DescribeLogDirsRequest, DescribeQuorumRequest, ElectLeadersRequest,
    ListPartitionReassignmentsRequest, TopicName, UpdateFeaturesRequest,
};
use kafka_protocol::protocol::StrBytes;
use tests::differential::Stage;

use crate::verbs::{batch, fetch, from, produce, store, text};

fn reassignment(topic: &TopicName, rows: &[(i32, Option<&[i32]>)]) -> AlterPartitionReassignmentsRequest {
    let rows = rows.iter().map(|(index, replicas)| {
        let replicas = replicas.map(|replicas| replicas.iter().map(|id| BrokerId(*id)).collect());
        ReassignablePartition::default().with_partition_index(*index).with_replicas(replicas)
    });
    let topic = ReassignableTopic::default().with_name(topic.clone()).with_partitions(rows.collect());
    AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000)
}

pub(crate) fn reassignments(stage: &mut Stage) {
    let topic = stage.create_topic("orders", 2);
    let unknown = stage.topic("unknown");
    stage.ask("where it is", 0, &reassignment(&topic, &[(0, Some(&[1]))]));
    stage.ask("nothing to cancel", 0, &reassignment(&topic, &[(0, None), (1, None)]));
    stage.ask("an unknown partition", 0, &reassignment(&topic, &[(7, Some(&[1])), (7, None)]));
    stage.ask("an unknown topic", 0, &reassignment(&unknown, &[(0, Some(&[1]))]));
    stage.ask("no replicas", 0, &reassignment(&topic, &[(0, Some(&[]))]));
    stage.ask("a replica twice", 0, &reassignment(&topic, &[(0, Some(&[1, 1]))]));
    stage.ask("an unknown broker", 0, &reassignment(&topic, &[(0, Some(&[9])), (1, Some(&[-1]))]));
    let strict = reassignment(&topic, &[(0, Some(&[1, 9])), (1, Some(&[1]))]);
    stage.ask("another number of replicas", 1, &strict.with_allow_replication_factor_change(false));
    let lax = reassignment(&topic, &[(0, Some(&[1, 9])), (1, Some(&[1]))]);
    stage.ask("another number of replicas, allowed", 1, &lax.with_allow_replication_factor_change(true));
    stage.ask("nothing at all", 0, &AlterPartitionReassignmentsRequest::default());

    let list = ListPartitionReassignmentsRequest::default().with_timeout_ms(10_000);
    stage.ask("all moves", 0, &list.clone().with_topics(None));
    let rows = |topic: &TopicName| {
        ListPartitionReassignmentsTopics::default().with_name(topic.clone()).with_partition_indexes(vec![0, 9])
    };
    stage.ask("some moves", 0, &list.with_topics(Some(vec![rows(&topic), rows(&unknown)])));
}

pub(crate) fn elections(stage: &mut Stage) {
    let topic = stage.create_topic("orders", 2);
    let unknown = stage.topic("unknown");
    let rows = |topic: &TopicName| TopicPartitions::default().with_topic(topic.clone()).with_partitions(vec![0, 1, 7]);
    let elect = ElectLeadersRequest::default()
        .with_topic_partitions(Some(vec![rows(&topic), rows(&unknown)]))
        .with_timeout_ms(10_000);
    for version in 0..=2 {
        stage.ask(&format!("preferred leaders, version {version}"), version, &elect);
    }
    stage.ask("unclean leaders", 2, &elect.clone().with_election_type(1));
    stage.ask("an unknown kind", 2, &elect.clone().with_election_type(7));
    stage.ask_for_mine("all partitions", 2, &elect.with_topic_partitions(None));
}

pub(crate) fn log_dirs(stage: &mut Stage) {
    let topic = stage.create_topic("orders", 2);
    store(stage, &topic, 0, &batch(&["a", "b"]));
    let asked = DescribableLogDirTopic::default().with_topic(topic.clone()).with_partitions(vec![0, 1, 7]);
    let unknown = DescribableLogDirTopic::default().with_topic(stage.topic("unknown")).with_partitions(vec![0]);
    let some = DescribeLogDirsRequest::default().with_topics(Some(vec![asked, unknown.clone()]));
    for version in 1..=4 {
        stage.ask(&format!("some partitions, version {version}"), version, &some);
    }
    stage.ask("unknown ones only", 4, &DescribeLogDirsRequest::default().with_topics(Some(vec![unknown])));
    stage.ask("no topics", 4, &DescribeLogDirsRequest::default().with_topics(Some(vec![])));

    let to = |path: &str| {
        let topic = AlterReplicaLogDirTopic::default().with_name(topic.clone()).with_partitions(vec![0, 7]);
        let dir = AlterReplicaLogDir::default().with_path(text(path)).with_topics(vec![topic]);
        AlterReplicaLogDirsRequest::default().with_dirs(vec![dir])
    };
    stage.ask("to an unknown folder", 2, &to("/no/such/folder"));
    stage.ask("to a relative folder", 1, &to("folder"));
}

pub(crate) fn quorum(stage: &mut Stage) {
    let one = |topic: &str, index: i32| {
        let partition = PartitionData::default().with_partition_index(index);
        let topic = TopicData::default().with_topic_name(text(topic).into()).with_partitions(vec![partition]);
        DescribeQuorumRequest::default().with_topics(vec![topic])
    };
    for version in 0..=2 {
        stage.ask(&format!("another partition, version {version}"), version, &one("__cluster_metadata", 1));
        stage.ask(&format!("another topic, version {version}"), version, &one("orders", 0));
    }
    stage.ask("no topic", 2, &DescribeQuorumRequest::default());
    for version in 0..=2 {
        let answer = stage.quietly(version, &one("__cluster_metadata", 0)).unwrap_or_default();
        let partition = answer.topics.first().and_then(|topic| topic.partitions.first()).cloned().unwrap_or_default();
        let voters = partition.current_voters.iter();
        let voters: Vec<_> = voters
            .map(|voter| {
                let heard = voter.last_fetch_timestamp > 0 && voter.last_caught_up_timestamp > 0;
                (voter.replica_id.0, voter.replica_directory_id.to_string(), voter.log_end_offset > 0, heard)
            })
            .collect();
        let nodes: Vec<_> = answer.nodes.iter().map(|node| (node.node_id.0, node.listeners.len())).collect();
        let seen = format!(
            "error {} {}, leader {}, epoch past 0 {}, watermark past 0 {}, {voters:?}, observers {:?}, nodes {nodes:?}",
            answer.error_code,
            partition.error_code,
            partition.leader_id.0,
            partition.leader_epoch > 0,
            partition.high_watermark > 0,
            partition.observers,
        );
        stage.note(&format!("the quorum, version {version}"), seen);
    }
}

type Parts<'a> = &'a [(&'a str, Option<&'a str>)];
type Ops<'a> = &'a [(&'a str, Option<f64>)];

fn quota(stage: &Stage, parts: Parts<'_>, ops: Ops<'_>) -> AlterClientQuotasRequest {
    let parts = parts.iter().map(|(kind, name)| {
        // An empty name stays as it is, any other becomes the script's own.
        let name = name.map(|name| if name.is_empty() || *kind == "ip" { text(name) } else { stage.name(name) });
        EntityData::default().with_entity_type(text(kind)).with_entity_name(name)
    });
    let ops = ops.iter().map(|(key, value)| {
        let op = OpData::default().with_key(text(key));
        value.map_or(op.clone().with_remove(true), |value| op.with_value(value))
    });
    let entry = EntryData::default().with_entity(parts.collect()).with_ops(ops.collect());
    AlterClientQuotasRequest::default().with_entries(vec![entry])
}

pub(crate) fn quotas(stage: &mut Stage) {
    const RATE: &str = "producer_byte_rate";
    let changes: &[(&str, Parts<'_>, Ops<'_>)] = &[
        ("a user", &[("user", Some("alice"))], &[(RATE, Some(1e6)), ("request_percentage", Some(12.5))]),
        ("a user's client", &[("user", Some("alice")), ("client-id", Some("app"))], &[(RATE, Some(2e6))]),
        ("a client", &[("client-id", Some("app"))], &[("consumer_byte_rate", Some(3e6))]),
        ("an address", &[("ip", Some("10.1.2.3"))], &[("connection_creation_rate", Some(50.0))]),
        ("the same again", &[("user", Some("alice"))], &[(RATE, Some(1e6))]),
        ("nobody", &[], &[(RATE, Some(1e6))]),
        ("an unknown kind", &[("group", Some("team"))], &[(RATE, Some(1e6))]),
        ("an empty name", &[("user", Some(""))], &[(RATE, Some(1e6))]),
        ("a user's address", &[("user", Some("alice")), ("ip", Some("10.1.2.3"))], &[(RATE, Some(1e6))]),
        ("an unknown key", &[("user", Some("bob"))], &[("rate", Some(1e6))]),
        ("a key of addresses", &[("user", Some("bob"))], &[("connection_creation_rate", Some(1.0))]),
        ("a key of users", &[("ip", Some("10.1.2.3"))], &[(RATE, Some(1.0))]),
        ("nothing at all", &[("user", Some("bob"))], &[(RATE, Some(0.0))]),
        ("less than nothing", &[("user", Some("bob"))], &[(RATE, Some(-1.0))]),
        ("half a byte", &[("user", Some("bob"))], &[(RATE, Some(1.5))]),
        ("one of two wrong", &[("user", Some("bob"))], &[(RATE, Some(1.0)), ("rate", Some(2.0))]),
        ("removal of what is not there", &[("user", Some("carol"))], &[(RATE, None)]),
        ("removal of an unknown key", &[("user", Some("alice"))], &[("rate", None)]),
        ("removal", &[("user", Some("alice"))], &[("request_percentage", None)]),
        ("no change", &[("user", Some("alice"))], &[]),
    ];
    for (label, parts, ops) in changes {
        let request = quota(stage, parts, ops);
        stage.ask(label, 1, &request);
    }
    let request = quota(stage, &[("user", Some("dave"))], &[(RATE, Some(1e6))]);
    stage.ask("only to try, version 0", 0, &request.with_validate_only(true));
    describe_quotas(stage);
    for (parts, key) in [
        (&[("user", Some("alice"))] as Parts<'_>, RATE),
        (&[("user", Some("alice")), ("client-id", Some("app"))], RATE),
        (&[("client-id", Some("app"))], "consumer_byte_rate"),
        (&[("ip", Some("10.1.2.3"))], "connection_creation_rate"),
    ] {
        let request = quota(stage, parts, &[(key, None)]);
        stage.ask(&format!("{parts:?} as before"), 1, &request);
    }
}

fn describe_quotas(stage: &mut Stage) {
    let part = |kind: &str, how: i8, name: Option<StrBytes>| {
        ComponentData::default().with_entity_type(text(kind)).with_match_type(how).with_match(name)
    };
    let (alice, app, dave) = (stage.name("alice"), stage.name("app"), stage.name("dave"));
    let ours = || stage.name("alice");
    // Changes reach the broker a moment after the controller has accepted them.
    let wanted = DescribeClientQuotasRequest::default().with_components(vec![part("user", 0, Some(ours()))]);
    stage.until("the quotas are known", |stage| {
        let answer = stage.quietly(1, &wanted);
        answer
            .and_then(|answer| answer.entries)
            .is_some_and(|entries| entries.len() == 2 && entries.iter().all(|entry| entry.values.len() == 1))
    });
    for version in [0, 1] {
        let filters = [
            ("one user alone", vec![part("user", 0, Some(alice.clone()))], true),
            ("one client alone", vec![part("client-id", 0, Some(app.clone()))], true),
            ("a user's client", vec![part("user", 0, Some(alice.clone())), part("client-id", 2, None)], true),
            ("one never set", vec![part("user", 0, Some(dave.clone()))], false),
            ("the default of users", vec![part("user", 1, None)], false),
            ("addresses", vec![part("ip", 0, Some(text("10.1.2.3")))], false),
            ("an unknown kind", vec![part("group", 2, None)], false),
            ("no kind", vec![part("", 2, None)], false),
            ("a kind twice", vec![part("user", 2, None), part("user", 1, None)], false),
            ("an unknown way", vec![part("user", 3, None)], false),
            ("exactly nobody", vec![part("user", 0, None)], false),
            ("the default by name", vec![part("user", 1, Some(alice.clone()))], false),
            ("users' addresses", vec![part("user", 2, None), part("ip", 2, None)], false),
        ];
        // Which entity comes first is a matter of Java's hash maps.
        let client =
            DescribeClientQuotasRequest::default().with_components(vec![part("client-id", 0, Some(app.clone()))]);
        let entries = stage.quietly(version, &client).and_then(|answer| answer.entries).unwrap_or_default();
        stage.note(&format!("how many quotas concern one client, version {version}"), entries.len());
        for (label, parts, strict) in filters {
            let filter = DescribeClientQuotasRequest::default().with_components(parts).with_strict(strict);
            stage.ask(&format!("describe {label}, version {version}"), version, &filter);
        }
    }
}

pub(crate) fn throttled_clients(stage: &mut Stage) {
    let topic = stage.create_topic("orders", 1);
    let slow = stage.name("slow").to_string();
    let client = |rate: &str, value: Option<f64>| {
        let part = EntityData::default().with_entity_type(text("client-id")).with_entity_name(Some(text(&slow)));
        let op = OpData::default().with_key(text(rate));
        let op = value.map_or(op.clone().with_remove(true), |value| op.with_value(value));
        let entry = EntryData::default().with_entity(vec![part]).with_ops(vec![op]);
        AlterClientQuotasRequest::default().with_entries(vec![entry])
    };
    stage.quietly(1, &client("producer_byte_rate", Some(1_000.0)));
    stage.quietly(1, &client("consumer_byte_rate", Some(100.0)));
    // The last quota set is known once a fetch, which it allows, is counted; nothing tells of that, but a description.
    let part = ComponentData::default().with_entity_type(text("client-id")).with_match(Some(text(&slow)));
    let wanted = DescribeClientQuotasRequest::default().with_components(vec![part]);
    stage.until("the quotas are known", |stage| {
        let entries = stage.quietly(1, &wanted).and_then(|answer| answer.entries);
        entries.is_some_and(|entries| entries.first().is_some_and(|entry| entry.values.len() == 2))
    });
    let link = stage.connect(&slow);
    // Ten seconds' worth is free; this is a second more.
    let large = "x".repeat(11_000);
    let sent = stage.send(link, 9, &produce(&topic, 0, batch(&[&large]).encode()));
    let stored = stage.collect("a batch that is too much is stored all the same", sent);
    stage.note("its client has to wait", (1_000..2_000).contains(&stored.throttle_time_ms));
    let began = std::time::Instant::now();
    let sent = stage.send(link, 4, &fetch(&topic, vec![from(0, 0)]));
    let fetched = stage.collect("a fetch of too much brings nothing", sent);
    let waited_ms = i32::try_from(began.elapsed().as_millis()).unwrap_or(i32::MAX);
    stage.note("the next request waited", waited_ms + 100 >= stored.throttle_time_ms);
    stage.note("and it has to wait itself", fetched.throttle_time_ms > 0);
    stage.quietly(1, &client("producer_byte_rate", None));
    stage.quietly(1, &client("consumer_byte_rate", None));
}

pub(crate) fn features(stage: &mut Stage) {
    let update = |feature: &str, level: i16, way: i8| {
        let update = FeatureUpdateKey::default()
            .with_feature(text(feature))
            .with_max_version_level(level)
            .with_upgrade_type(way);
        UpdateFeaturesRequest::default().with_feature_updates(vec![update]).with_timeout_ms(10_000)
    };
    for (label, feature, level, way) in [
        ("the level it has", "transaction.version", 2, 1),
        ("a level it does not have", "transaction.version", 3, 1),
        ("a negative level", "transaction.version", -1, 2),
        ("down without saying so", "transaction.version", 1, 1),
        ("up while saying down", "kraft.version", 1, 2),
        ("an unknown way", "transaction.version", 1, 7),
        ("no way", "transaction.version", 1, 0),
        ("an unknown feature", "no.such.version", 1, 1),
        ("an unknown feature, off", "no.such.version", 0, 2),
        ("metadata unsafely", "metadata.version", 7, 3),
        ("metadata below its lowest", "metadata.version", 1, 3),
        ("without metadata", "metadata.version", 0, 3),
    ] {
        for version in [1, 2] {
            stage.ask(
                &format!("{label}, version {version}"),
                version,
                &update(feature, level, way).with_validate_only(true),
            );
        }
    }
    stage.ask("down, only to try", 2, &update("transaction.version", 1, 2).with_validate_only(true));
    stage.ask("no updates", 2, &UpdateFeaturesRequest::default());
}
