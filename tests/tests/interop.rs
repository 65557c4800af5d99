//! Clients of five languages read what each other wrote, through groups, byte for byte.
//!
//! A client that cannot run on this machine is skipped aloud; with `CI=true` that is a failure.

mod clients;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use clients::{Client, Record, record};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::{CreateTopicsRequest, GroupId, OffsetFetchRequest};
use kafka_protocol::protocol::StrBytes;
use tests::kafka;
use tests::raw::Connection;
use tests::runtime;
use tests::target::Target;

/// Part of every topic and group, so that a second run on the same broker starts afresh.
fn run_mark() -> String {
    uuid::Uuid::new_v4().simple().to_string()[..8].to_owned()
}

#[test]
fn every_client_reads_what_every_other_wrote() {
    let target = Target::ours(3).expect("a broker to test");
    let ready = ready_clients();
    let mark = run_mark();
    let topic_of = |client: &dyn Client| format!("from-{}-{mark}", client.name());

    let written: BTreeMap<String, Vec<Record>> =
        ready.iter().map(|client| (topic_of(client.as_ref()), records_from(client.as_ref()))).collect();
    create_topics(&target, written.keys()).expect("topics to write to");
    let mut failures = for_each(&ready, |client| {
        let topic = topic_of(client);
        client.produce(target.bootstrap(), &topic, &written[&topic])
    });
    assert!(failures.is_empty(), "not every client could write: {failures:#?}");

    failures = for_each(&ready, |client| read_all(client, &target, &format!("{}-{mark}", client.name()), &written));
    assert!(failures.is_empty(), "not every client read what was written: {failures:#?}");
}

/// The clients this machine can run, each with all it needs.
fn ready_clients() -> Vec<Box<dyn Client>> {
    let (runnable, missing): (Vec<_>, Vec<_>) =
        clients::all().into_iter().partition(|client| client.missing().is_none());
    for client in missing {
        runtime::skip(&format!("interop with {}", client.name()), &client.missing().unwrap_or_default());
    }
    let failures = for_each(&runnable, |client| client.prepare());
    assert!(failures.is_empty(), "not every client could be installed: {failures:#?}");
    runnable
}

/// Does `work` with all clients at once and gives what failed.
fn for_each(clients: &[Box<dyn Client>], work: impl Fn(&dyn Client) -> Result<()> + Sync) -> Vec<String> {
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for client in clients {
            let (work, failures) = (&work, &failures);
            scope.spawn(move || {
                if let Err(error) = work(client.as_ref()) {
                    let failure = format!("{}: {error:#}", client.name());
                    failures.lock().expect("no client panics while reporting").push(failure);
                }
            });
        }
    });
    failures.into_inner().expect("no client panics while reporting")
}

/// What a client writes: everything its tool can say.
fn records_from(client: &dyn Client) -> Vec<Record> {
    let mut records = vec![
        record(Some(b"key"), Some("Grüße, 世界".as_bytes()))
            .header("name", Some(b"one"))
            .header("name", Some(b"two"))
            .header("empty", Some(b""))
            .header("null", None),
        record(None, Some(b"no key")),
        record(Some(b"tombstone"), None),
        record(Some(b""), Some(b"empty key")),
        record(Some(b"empty value"), Some(b"")),
        record(None, None),
    ];
    // Without the bytes that the tools which show text use to part records.
    let any: Vec<u8> = (0..=255).filter(|byte| !clients::SEPARATORS.contains(byte)).collect();
    records.push(record(Some(&[0xff, 0xfe, 0x80]), Some(&any)).header("bytes", Some(&[0xde, 0xad, 0xbe, 0xef])));
    records.retain(|record| client.can_write(record));
    records.into_iter().map(|record| record.header("from", Some(client.name().as_bytes()))).collect()
}

fn create_topics<'a>(target: &Target, names: impl Iterator<Item = &'a String>) -> Result<()> {
    let topic = |name: &String| {
        CreatableTopic::default()
            .with_name(StrBytes::from_string(name.clone()).into())
            .with_num_partitions(1)
            .with_replication_factor(1)
    };
    let request = CreateTopicsRequest::default().with_topics(names.map(topic).collect()).with_timeout_ms(10_000);
    let created = Connection::open(target.first_node(), "interop")?.call(5, &request)?;
    for topic in created.topics {
        ensure!(topic.error_code == 0, "creating {:?}: error {}", topic.name, topic.error_code);
    }
    Ok(())
}

/// Reads all topics in one group, compares every record, and the group's committed offsets.
fn read_all(client: &dyn Client, target: &Target, group: &str, written: &BTreeMap<String, Vec<Record>>) -> Result<()> {
    let topics: Vec<&str> = written.keys().map(String::as_str).collect();
    let count = written.values().map(Vec::len).sum();
    let mut seen = client.consume(target.bootstrap(), group, &topics, count)?;
    let mut expected: Vec<String> = written
        .iter()
        .flat_map(|(topic, records)| {
            records.iter().enumerate().map(|(offset, record)| client.shown(topic, offset, record))
        })
        .collect();
    seen.sort();
    expected.sort();
    let missing: Vec<&String> = expected.iter().filter(|shown| !seen.contains(shown)).collect();
    let surplus: Vec<&String> = seen.iter().filter(|shown| !expected.contains(shown)).collect();
    ensure!(
        missing.is_empty() && surplus.is_empty() && seen.len() == expected.len(),
        "{} of {} records read; not read: {missing:#?}; read instead: {surplus:#?}",
        seen.len(),
        expected.len()
    );
    let committed = committed(target, group).context("asking for the group's offsets")?;
    for (topic, records) in written {
        let end = i64::try_from(records.len())?;
        ensure!(committed.get(topic) == Some(&end), "committed {:?} of {end} in {topic}", committed.get(topic));
    }
    Ok(())
}

/// The committed offset of partition 0 of each topic.
fn committed(target: &Target, group: &str) -> Result<BTreeMap<String, i64>> {
    let group: GroupId = StrBytes::from_string(group.to_owned()).into();
    let request = OffsetFetchRequest::default().with_group_id(group).with_topics(None);
    // The coordinator is on one of the nodes; the others refuse.
    for node in target.bootstrap().split(',') {
        let answer = Connection::open(node, "interop")?.call(5, &request)?;
        if answer.error_code == 0 {
            let row = |topic: &kafka_protocol::messages::offset_fetch_response::OffsetFetchResponseTopic| {
                (topic.name.to_string(), topic.partitions.first().map_or(-1, |partition| partition.committed_offset))
            };
            return Ok(answer.topics.iter().map(row).collect());
        }
    }
    anyhow::bail!("no node coordinates the group")
}

#[test]
fn the_command_line_tools_of_apache_kafka_are_served() {
    if let Some(reason) = kafka::missing_runtime() {
        return runtime::skip("interop with Apache Kafka's tools", reason);
    }
    let libs = kafka::libs().expect("Apache Kafka's jars");
    let target = Target::ours(3).expect("a broker to test");
    let mark = run_mark();
    let tools = Tools { libs: &libs, bootstrap: target.bootstrap() };
    let (topic, group) = (format!("tools-{mark}"), format!("tools-group-{mark}"));
    tools.story(&topic, &group).expect("every tool does its work");
}

struct Tools<'a> {
    libs: &'a Path,
    bootstrap: &'a str,
}

impl Tools<'_> {
    /// What an operator does with a topic in its life.
    fn story(&self, topic: &str, group: &str) -> Result<()> {
        const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
        const CONFIGS: &str = "kafka.admin.ConfigCommand";
        const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
        const OFFSETS: &str = "org.apache.kafka.tools.GetOffsetShell";

        self.says("org.apache.kafka.tools.BrokerApiVersionsCommand", &[], "Metadata(3): 0 to 13")?;
        self.says("org.apache.kafka.tools.ClusterTool", &["cluster-id"], "Cluster ID:")?;
        self.says(TOPICS, &["--create", "--topic", topic, "--partitions", "2"], "Created topic")?;
        self.says(TOPICS, &["--alter", "--topic", topic, "--partitions", "3"], "")?;
        self.says(TOPICS, &["--describe", "--topic", topic], "PartitionCount: 3")?;
        self.says(TOPICS, &["--list"], topic)?;

        let entity = ["--entity-type", "topics", "--entity-name", topic];
        self.says(
            CONFIGS,
            &[&["--alter", "--add-config", "retention.ms=86400000"], &entity[..]].concat(),
            "Completed",
        )?;
        self.says(CONFIGS, &[&["--describe"], &entity[..]].concat(), "retention.ms=86400000")?;
        self.says(CONFIGS, &[&["--alter", "--delete-config", "retention.ms"], &entity[..]].concat(), "Completed")?;

        let bootstrap = format!("bootstrap.servers={}", self.bootstrap);
        let load = ["--topic", topic, "--num-records", "1000", "--record-size", "100", "--throughput", "-1"];
        let load = [&load[..], &["--producer-props", &bootstrap]].concat();
        self.run("org.apache.kafka.tools.ProducerPerformance", &load, "1000 records sent")?;
        let ends = self.says(OFFSETS, &["--topic", topic, "--time", "latest"], topic)?;
        let total: i64 = ends.lines().filter_map(|line| line.rsplit(':').next()?.parse::<i64>().ok()).sum();
        ensure!(total == 1000, "the ends of the partitions add up to {total}: {ends}");
        self.says(OFFSETS, &["--topic", topic, "--time", "max-timestamp"], topic)?;

        let read = ["--topic", topic, "--group", group, "--from-beginning", "--max-messages", "1000"];
        let read = [&read[..], &["--timeout-ms", "30000"]].concat();
        self.says("org.apache.kafka.tools.consumer.ConsoleConsumer", &read, "")?;
        self.says(GROUPS, &["--list"], group)?;
        let lags = self.says(GROUPS, &["--describe", "--group", group], topic)?;
        let read: i64 = lags.lines().filter_map(|line| line.split_whitespace().nth(3)?.parse::<i64>().ok()).sum();
        ensure!(read == 1000, "the group's offsets add up to {read}: {lags}");
        self.says(GROUPS, &["--describe", "--state", "--group", group], "Empty")?;
        self.says(GROUPS, &["--reset-offsets", "--to-earliest", "--execute", "--all-topics", "--group", group], topic)?;
        self.says(GROUPS, &["--delete-offsets", "--group", group, "--topic", topic], "Successful")?;
        self.says(GROUPS, &["--delete", "--group", group], "successful")?;

        let trim = tempfile::NamedTempFile::new()?;
        let rows = format!(r#"{{"partitions":[{{"topic":"{topic}","partition":0,"offset":-1}}],"version":1}}"#);
        std::fs::write(trim.path(), rows)?;
        let file = trim.path().to_str().context("a path of text")?;
        self.says("org.apache.kafka.tools.DeleteRecordsCommand", &["--offset-json-file", file], "low_watermark")?;
        self.says(TOPICS, &["--delete", "--topic", topic], "")?;
        let left = self.says(TOPICS, &["--list"], "")?;
        ensure!(!left.lines().any(|line| line == topic), "the deleted topic is still listed: {left}");
        Ok(())
    }

    /// Runs a tool against the broker; it must say `expected`.
    fn says(&self, tool: &str, args: &[&str], expected: &str) -> Result<String> {
        let (verbs, args) = match args {
            // A tool with verbs takes its options after them.
            [verb, rest @ ..] if !verb.starts_with('-') => (vec![*verb], rest),
            _ => (vec![], args),
        };
        self.run(tool, &[&verbs[..], &["--bootstrap-server", self.bootstrap], args].concat(), expected)
    }

    fn run(&self, tool: &str, args: &[&str], expected: &str) -> Result<String> {
        let output = runtime::run(kafka::java(self.libs, "warn").arg(tool).args(args))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            said.contains(expected),
            "{tool} {args:?} does not say {expected:?} but:\n{said}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(said)
    }
}

#[test]
fn the_share_consumer_of_apache_kafka_is_served() {
    if let Some(reason) = kafka::missing_runtime() {
        return runtime::skip("interop with Apache Kafka's share consumer", reason);
    }
    let libs = kafka::libs().expect("Apache Kafka's jars");
    let target = Target::ours(3).expect("a broker to test");
    let mark = run_mark();
    let tools = Tools { libs: &libs, bootstrap: target.bootstrap() };
    let (topic, group) = (format!("shared-{mark}"), format!("sharing-{mark}"));
    tools.story_of_sharing(&topic, &group).expect("records are shared out and acknowledged");
}

impl Tools<'_> {
    /// A share group reads everything once, and its tool tells how far it has come.
    fn story_of_sharing(&self, topic: &str, group: &str) -> Result<()> {
        const SHARE_GROUPS: &str = "org.apache.kafka.tools.consumer.group.ShareGroupCommand";

        self.says("org.apache.kafka.tools.TopicCommand", &["--create", "--topic", topic, "--partitions", "1"], "")?;
        let entity = ["--alter", "--entity-type", "groups", "--entity-name", group];
        let earliest = [&entity[..], &["--add-config", "share.auto.offset.reset=earliest"]].concat();
        self.says("kafka.admin.ConfigCommand", &earliest, "Completed")?;
        let bootstrap = format!("bootstrap.servers={}", self.bootstrap);
        let load = ["--topic", topic, "--num-records", "1000", "--record-size", "100", "--throughput", "-1"];
        let load = [&load[..], &["--producer-props", &bootstrap]].concat();
        self.run("org.apache.kafka.tools.ProducerPerformance", &load, "1000 records sent")?;

        let read = ["--topic", topic, "--group", group, "--max-messages", "1000", "--timeout-ms", "60000"];
        let read = self.says("org.apache.kafka.tools.consumer.ConsoleShareConsumer", &read, "")?;
        let lines = read.lines().filter(|line| line.len() == 100).count();
        ensure!(lines == 1000, "{lines} of 1000 records were read: {read}");

        self.says(SHARE_GROUPS, &["--list"], group)?;
        let described = self.says(SHARE_GROUPS, &["--describe", "--offsets", "--group", group], topic)?;
        let lags =
            described.lines().filter(|line| line.contains(topic)).filter_map(|line| line.split_whitespace().last());
        ensure!(lags.eq(["0"]), "something is left: {described}");
        self.says(SHARE_GROUPS, &["--delete", "--group", group], "successful").map(drop)
    }
}
