//! Making, growing, trimming and unmaking topics.

use kafka_protocol::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    DescribeTopicPartitionsRequest, TopicName,
};
use tests::differential::{Stage, metadata_of};

use crate::verbs::{batch, fetch, from, store, text};

/// Partitions with the brokers they are assigned to.
type Assignment<'a> = &'a [(i32, &'a [i32])];

pub(crate) fn new_topic(name: &TopicName, partitions: i32, replicas: i16) -> CreatableTopic {
    CreatableTopic::default().with_name(name.clone()).with_num_partitions(partitions).with_replication_factor(replicas)
}

pub(crate) fn create(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(10_000)
}

pub(crate) fn config(name: &str, value: Option<&str>) -> CreatableTopicConfig {
    CreatableTopicConfig::default().with_name(text(name)).with_value(value.map(text))
}

pub(crate) fn create_topics(stage: &mut Stage) {
    for version in 2..=7 {
        let name = stage.topic(&format!("by-version-{version}"));
        stage.ask(&format!("two partitions, version {version}"), version, &create(vec![new_topic(&name, 2, 1)]));
        stage.await_leaders(&name, 2);
        stage.ask(&format!("metadata after version {version}"), 9, &metadata_of(&name));
    }
    let defaults = stage.topic("defaults");
    stage.ask("the broker's defaults", 5, &create(vec![new_topic(&defaults, -1, -1)]));
    let only_checked = stage.topic("only-checked");
    let check = create(vec![new_topic(&only_checked, 4, 1)]).with_validate_only(true);
    for version in [2, 5, 7] {
        stage.ask(&format!("only checked, version {version}"), version, &check);
    }
    stage.ask("what was only checked is not there", 9, &metadata_of(&only_checked));
    let configured = new_topic(&stage.topic("configured"), 1, 1).with_configs(vec![
        config("cleanup.policy", Some("compact")),
        config("retention.ms", Some("60000")),
        config("max.message.bytes", Some("2048")),
    ]);
    stage.ask("with settings", 7, &create(vec![configured]));
    let several = ["one", "two", "three"].map(|base| new_topic(&stage.topic(base), 1, 1));
    stage.ask("three at once", 7, &create(several.to_vec()));
    stage.ask("none at all", 7, &create(vec![]));
}

pub(crate) fn create_topics_refused(stage: &mut Stage) {
    let taken = stage.create_topic("taken", 1);
    for version in [2, 5, 7] {
        stage.ask(&format!("a name in use, version {version}"), version, &create(vec![new_topic(&taken, 1, 1)]));
    }
    let check = create(vec![new_topic(&taken, 1, 1)]).with_validate_only(true);
    stage.ask("a name in use, only checked", 7, &check);
    let long = "x".repeat(250);
    for (label, name) in [
        ("an empty name", ""),
        ("a dot", "."),
        ("two dots", ".."),
        ("a blank in the name", "bad name"),
        ("a slash in the name", "bad/name"),
        ("an umlaut in the name", "bäd"),
        ("250 characters", long.as_str()),
    ] {
        stage.ask(label, 7, &create(vec![new_topic(&text(name).into(), 1, 1)]));
    }
    let dotted = stage.topic("a.b");
    let scored = stage.topic("a_b");
    stage.ask("a dotted name", 7, &create(vec![new_topic(&dotted, 1, 1)]));
    stage.ask("a name that collides with it", 7, &create(vec![new_topic(&scored, 1, 1)]));
    for (label, partitions, replicas) in [
        ("no partitions", 0, 1),
        ("fewer than no partitions", -2, 1),
        ("no replicas", 1, 0),
        ("neither partitions nor replicas", 0, 0),
        ("fewer than no replicas", 1, -2),
        ("more replicas than brokers", 1, 3),
    ] {
        for version in [2, 7] {
            let topic = new_topic(&stage.topic("refused"), partitions, replicas);
            stage.ask(&format!("{label}, version {version}"), version, &create(vec![topic]));
        }
    }
    let twice = new_topic(&stage.topic("twice"), 1, 1);
    stage.ask("the same name twice", 7, &create(vec![twice.clone(), twice]));
    for (label, key, value) in [
        ("an unknown setting", "no.such.setting", Some("1")),
        ("a setting that is no number", "retention.ms", Some("soon")),
        ("a setting out of range", "segment.bytes", Some("1")),
        ("a setting that is not in its list", "cleanup.policy", Some("shred")),
        ("a setting without a value", "retention.ms", None),
        ("an empty setting", "compression.type", Some("")),
    ] {
        let topic = new_topic(&stage.topic("misconfigured"), 1, 1).with_configs(vec![config(key, value)]);
        stage.ask(label, 7, &create(vec![topic]));
    }
    let repeated = vec![config("retention.ms", Some("1000")), config("retention.ms", Some("2000"))];
    stage.ask("a setting twice", 7, &create(vec![new_topic(&stage.topic("repeated"), 1, 1).with_configs(repeated)]));
    let good_and_bad = vec![new_topic(&stage.topic("good"), 1, 1), new_topic(&text("bad name").into(), 1, 1)];
    stage.ask("a good one beside a bad one", 7, &create(good_and_bad));
    stage.ask("internal name", 7, &create(vec![new_topic(&text("__consumer_offsets").into(), 1, 1)]));
}

pub(crate) fn create_topics_assigned(stage: &mut Stage) {
    let assigned = |name: TopicName, rows: &[(i32, &[i32])]| {
        let row = |(index, brokers): &(i32, &[i32])| {
            CreatableReplicaAssignment::default()
                .with_partition_index(*index)
                .with_broker_ids(brokers.iter().copied().map(BrokerId).collect())
        };
        create(vec![new_topic(&name, -1, -1).with_assignments(rows.iter().map(row).collect())])
    };
    let name = stage.topic("assigned");
    stage.ask("two partitions on broker 1", 7, &assigned(name.clone(), &[(0, &[1]), (1, &[1])]));
    stage.await_leaders(&name, 2);
    stage.ask("their metadata", 9, &metadata_of(&name));
    let refusals: [(&str, Assignment<'_>); 6] = [
        ("an unknown broker", &[(0, &[99])]),
        ("a broker twice", &[(0, &[1, 1])]),
        ("a gap in the indexes", &[(0, &[1]), (2, &[1])]),
        ("not starting at 0", &[(1, &[1])]),
        ("no brokers", &[(0, &[])]),
        ("an index twice", &[(0, &[1]), (0, &[1])]),
    ];
    for (label, rows) in refusals {
        stage.ask(label, 7, &assigned(stage.topic("misassigned"), rows));
    }
    let mut counted = assigned(stage.topic("counted"), &[(0, &[1])]);
    counted.topics[0].num_partitions = 1;
    stage.ask("a number of partitions too", 7, &counted);
    counted.topics[0].num_partitions = -1;
    counted.topics[0].replication_factor = 1;
    stage.ask("a number of replicas too", 7, &counted);
}

pub(crate) fn delete_topics(stage: &mut Stage) {
    for version in 1..=5 {
        let name = stage.create_topic(&format!("by-version-{version}"), 1);
        let request = DeleteTopicsRequest::default().with_topic_names(vec![name.clone()]).with_timeout_ms(10_000);
        stage.ask(&format!("version {version}"), version, &request);
        stage.await_gone(&name);
        stage.ask(&format!("once more, version {version}"), version, &request);
    }
    let by = |states| DeleteTopicsRequest::default().with_topics(states).with_timeout_ms(10_000);
    let named = |name: &TopicName| DeleteTopicState::default().with_name(Some(name.clone()));
    let with_id = |id| DeleteTopicState::default().with_name(None).with_topic_id(id);
    let first = stage.create_topic("first", 1);
    let second = stage.create_topic("second", 2);
    let second_id = stage.topic_id(&second);
    stage.ask("by name and by id, version 6", 6, &by(vec![named(&first), with_id(second_id)]));
    stage.await_gone(&first);
    stage.await_gone(&second);
    stage.ask("what is gone, by id", 6, &by(vec![with_id(second_id)]));
    stage.ask("an unknown name", 6, &by(vec![named(&stage.topic("unknown"))]));
    stage.ask("an unknown id", 6, &by(vec![with_id(uuid::Uuid::from_u128(0xfeed))]));
    stage.ask("neither name nor id", 6, &by(vec![with_id(uuid::Uuid::nil())]));
    let third = stage.create_topic("third", 1);
    let third_id = stage.topic_id(&third);
    stage.ask("name and id in one", 6, &by(vec![named(&third).with_topic_id(third_id)]));
    stage.ask("the same name twice", 6, &by(vec![named(&third), named(&third)]));
    stage.ask("the same topic by name and id", 6, &by(vec![named(&third), with_id(third_id)]));
    stage.ask("none at all", 6, &by(vec![]));
    stage.ask("an empty name", 6, &by(vec![named(&text("").into())]));
    stage.quietly(5, &DeleteTopicsRequest::default().with_topic_names(vec![third.clone()]).with_timeout_ms(10_000));
    stage.await_gone(&third);
    stage.create_topic("third", 1);
    let new_id = stage.topic_id(&third);
    stage.note("a topic made again has another id", new_id != third_id && !new_id.is_nil());
    stage.ask("fetch from the topic made again", 12, &fetch(&third, vec![from(0, 0)]));
}

pub(crate) fn create_partitions(stage: &mut Stage) {
    let orders = stage.create_topic("orders", 2);
    let grow = |name: &TopicName, count, rows: Option<&[&[i32]]>| {
        let row = |brokers: &&[i32]| {
            CreatePartitionsAssignment::default().with_broker_ids(brokers.iter().copied().map(BrokerId).collect())
        };
        let topic = CreatePartitionsTopic::default()
            .with_name(name.clone())
            .with_count(count)
            .with_assignments(rows.map(|rows| rows.iter().map(row).collect()));
        CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000)
    };
    for (version, count) in [(0, 3), (1, 4), (2, 5), (3, 6)] {
        stage.ask(&format!("one more, version {version}"), version, &grow(&orders, count, None));
        stage.await_leaders(&orders, count);
    }
    stage.ask("metadata", 9, &metadata_of(&orders));
    stage.ask("only checked", 3, &grow(&orders, 9, None).with_validate_only(true));
    stage.ask("as many as there are", 3, &grow(&orders, 6, None));
    stage.ask("fewer", 3, &grow(&orders, 1, None));
    stage.ask("none", 3, &grow(&orders, 0, None));
    stage.ask("less than none", 3, &grow(&orders, -1, None));
    stage.ask("an unknown topic", 3, &grow(&stage.topic("unknown"), 3, None));
    stage.ask("one assigned", 3, &grow(&orders, 7, Some(&[&[1]])));
    stage.await_leaders(&orders, 7);
    stage.ask("assigned to an unknown broker", 3, &grow(&orders, 8, Some(&[&[42]])));
    stage.ask("more assigned than added", 3, &grow(&orders, 8, Some(&[&[1], &[1]])));
    stage.ask("fewer assigned than added", 3, &grow(&orders, 9, Some(&[&[1]])));
    stage.ask("none assigned", 3, &grow(&orders, 8, Some(&[])));
    stage.ask("assigned to nobody", 3, &grow(&orders, 8, Some(&[&[]])));
    let mut twice = grow(&orders, 9, None);
    twice.topics.push(twice.topics[0].clone());
    stage.ask("the same topic twice", 3, &twice);
}

pub(crate) fn delete_records(stage: &mut Stage) {
    let orders = stage.create_topic("orders", 2);
    store(stage, &orders, 0, &batch(&["a", "b", "c"]));
    store(stage, &orders, 0, &batch(&["d", "e"]));
    let before = |name: &TopicName, rows: &[(i32, i64)]| {
        let row = |(index, offset): &(i32, i64)| {
            DeleteRecordsPartition::default().with_partition_index(*index).with_offset(*offset)
        };
        let topic =
            DeleteRecordsTopic::default().with_name(name.clone()).with_partitions(rows.iter().map(row).collect());
        DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000)
    };
    stage.ask("before offset 1, version 0", 0, &before(&orders, &[(0, 1)]));
    stage.ask("a fetch from 0", 12, &fetch(&orders, vec![from(0, 0)]));
    stage.ask("a fetch from 1", 12, &fetch(&orders, vec![from(0, 1)]));
    stage.ask("before what is gone, version 1", 1, &before(&orders, &[(0, 0)]));
    stage.ask("beyond the end, version 2", 2, &before(&orders, &[(0, 6)]));
    stage.ask("a negative offset", 2, &before(&orders, &[(0, -7)]));
    stage.ask("an unknown partition and an empty one", 2, &before(&orders, &[(7, 1), (1, 0)]));
    stage.ask("an unknown topic", 2, &before(&stage.topic("unknown"), &[(0, 1)]));
    stage.ask("all there are", 2, &before(&orders, &[(0, -1)]));
    stage.ask("a fetch from the end", 12, &fetch(&orders, vec![from(0, 5)]));
    stage.ask("a fetch from before", 12, &fetch(&orders, vec![from(0, 4)]));
    let compacted = stage.create_topic_with("compacted", 1, &[("cleanup.policy", "compact")]);
    stage.ask("from a compacted topic", 2, &before(&compacted, &[(0, 0)]));
    stage.ask("no topics", 2, &DeleteRecordsRequest::default().with_timeout_ms(10_000));
}

pub(crate) fn describe_topic_partitions(stage: &mut Stage) {
    let apples = stage.create_topic("apples", 3);
    let berries = stage.create_topic("berries", 2);
    let unknown = stage.topic("unknown");
    let ask = |names: &[&TopicName]| {
        let topics = names.iter().map(|name| TopicRequest::default().with_name((*name).clone())).collect();
        DescribeTopicPartitionsRequest::default().with_topics(topics).with_response_partition_limit(2000)
    };
    let at =
        |name: &TopicName, index| Some(Cursor::default().with_topic_name(name.clone()).with_partition_index(index));
    stage.ask("two topics, not in order", 0, &ask(&[&berries, &apples]));
    stage.ask("one twice", 0, &ask(&[&berries, &berries]));
    stage.ask("an unknown one among them", 0, &ask(&[&unknown, &apples]));
    stage.ask("at most two partitions", 0, &ask(&[&apples, &berries]).with_response_partition_limit(2));
    stage.ask("at most three partitions", 0, &ask(&[&apples, &berries]).with_response_partition_limit(3));
    stage.ask("from a cursor", 0, &ask(&[&apples, &berries]).with_cursor(at(&apples, 2)));
    stage.ask("from a cursor past a topic's end", 0, &ask(&[&apples, &berries]).with_cursor(at(&apples, 9)));
    stage.ask("from a cursor on a topic not asked for", 0, &ask(&[&berries]).with_cursor(at(&apples, 1)));
    stage.ask("from a negative cursor", 0, &ask(&[&apples]).with_cursor(at(&apples, -1)));
    stage.ask("no partitions wanted", 0, &ask(&[&apples]).with_response_partition_limit(0));
    stage.ask("an invalid name", 0, &ask(&[&text("no blanks allowed").into()]));
}
