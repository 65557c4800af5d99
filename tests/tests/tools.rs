//! Apache Kafka's command-line tools for administration do their work on our broker: each exits 0 and prints what it should.
//!
//! Those of topics, configs of topics, groups and offsets are in `interop.rs`. Most run in one Java process, see
//! `interop/tools/Tools.java`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context, Result, ensure};
use tests::target::Target;
use tests::{kafka, runtime};

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";
const REASSIGN: &str = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand";
const ELECTION: &str = "org.apache.kafka.tools.LeaderElectionCommand";
const LOG_DIRS: &str = "org.apache.kafka.tools.LogDirsCommand";
const FEATURES: &str = "org.apache.kafka.tools.FeatureCommand";
const QUORUM: &str = "org.apache.kafka.tools.MetadataQuorumCommand";
const TRANSACTIONS: &str = "org.apache.kafka.tools.TransactionsCommand";
const METRICS: &str = "org.apache.kafka.tools.ClientMetricsCommand";

const TOPIC: &str = "orders";

#[test]
fn partitions_move_and_leaders_are_elected() {
    with_tools("moving partitions with Apache Kafka's tools", |tools| {
        tools.says(TOPICS, &["--create", "--topic", TOPIC, "--replica-assignment", "1:2,2:3"], "Created topic")?;
        let moves = file(&format!(
            r#"{{"version":1,"partitions":[{{"topic":"{TOPIC}","partition":0,"replicas":[3,1],"log_dirs":["any","any"]}}]}}"#
        ))?;
        let plan = ["--reassignment-json-file", path(&moves)?];
        let execute = [&plan[..], &["--execute", "--throttle", "10000000"]].concat();
        tools.says(REASSIGN, &execute, "Successfully started partition reassignment")?;
        tools.says(REASSIGN, &[&plan[..], &["--verify"]].concat(), "is completed")?;
        tools.says(REASSIGN, &["--list"], "No partition reassignments found")?;
        let topics = file(&format!(r#"{{"version":1,"topics":[{{"topic":"{TOPIC}"}}]}}"#))?;
        let generate = ["--generate", "--broker-list", "1,2,3", "--topics-to-move-json-file", path(&topics)?];
        tools.says(REASSIGN, &generate, "Proposed partition reassignment configuration")?;
        tools.says(TOPICS, &["--describe", "--topic", TOPIC], "Replicas: 3,1")?;

        tools.says(ELECTION, &["--election-type", "preferred", "--all-topic-partitions"], "")?;
        let one = ["--election-type", "preferred", "--topic", TOPIC, "--partition", "0"];
        tools.says(ELECTION, &one, "Valid replica already elected")?;
        tools.says(TOPICS, &["--describe", "--topic", TOPIC], "Leader: 3")?;
        tools.says(
            LOG_DIRS,
            &["--describe", "--broker-list", "1,2,3", "--topic-list", TOPIC],
            "\"partition\":\"orders-0\"",
        )
    });
}

#[test]
fn features_quorum_transactions_and_metrics_are_described_and_changed() {
    with_tools("describing a cluster with Apache Kafka's tools", |tools| {
        tools.says(FEATURES, &["describe"], "transaction.version")?;
        tools.says(
            FEATURES,
            &["downgrade", "--feature", "transaction.version=1"],
            "transaction.version was downgraded to 1",
        )?;
        tools.says(
            FEATURES,
            &["upgrade", "--feature", "transaction.version=2"],
            "transaction.version was upgraded to 2",
        )?;
        tools.says(QUORUM, &["describe", "--status"], "LeaderId:")?;
        tools.says(QUORUM, &["describe", "--replication"], "Leader")?;

        tools.says(TOPICS, &["--create", "--topic", TOPIC, "--partitions", "1"], "Created topic")?;
        tools.says(TRANSACTIONS, &["list"], "TransactionalId")?;
        tools.says(TRANSACTIONS, &["describe-producers", "--topic", TOPIC, "--partition", "0"], "ProducerId")?;
        tools.says(TRANSACTIONS, &["find-hanging", "--broker-id", "1"], "")?;

        let metrics = ["--metrics", "org.apache.kafka.producer.", "--interval", "60000"];
        tools.says(METRICS, &[&["--alter", "--name", "sub"], &metrics[..]].concat(), "")?;
        tools.says(METRICS, &["--list"], "sub")?;
        tools.says(METRICS, &["--describe", "--name", "sub"], "interval.ms=60000")?;
        tools.says(METRICS, &["--delete", "--name", "sub"], "")?;

        let client = ["--entity-type", "clients", "--entity-name", "app"];
        tools.says(
            CONFIGS,
            &[&["--alter", "--add-config", "producer_byte_rate=1000000"], &client[..]].concat(),
            "Completed",
        )?;
        tools.says(CONFIGS, &[&["--describe"], &client[..]].concat(), "producer_byte_rate=1000000")?;
        tools.says(
            CONFIGS,
            &[&["--alter", "--delete-config", "producer_byte_rate"], &client[..]].concat(),
            "Completed",
        )?;
        let users = ["--entity-type", "users", "--entity-default"];
        tools.says(
            CONFIGS,
            &[&["--alter", "--add-config", "request_percentage=200"], &users[..]].concat(),
            "Completed",
        )?;
        tools.says(CONFIGS, &[&["--describe"], &users[..]].concat(), "request_percentage=200")?;
        tools.says("org.apache.kafka.tools.consumer.group.ShareGroupCommand", &["--list"], "")?;
        tools.says("org.apache.kafka.tools.GroupsCommand", &["--list"], "")
    });
}

#[test]
fn tools_that_write_and_read_do() {
    with_tools("writing and reading with Apache Kafka's tools", |tools| {
        tools.says(TOPICS, &["--create", "--topic", TOPIC, "--partitions", "3"], "Created topic")?;
        let write = ["--topic", TOPIC, "--max-messages", "500"];
        let written = tools.alone("org.apache.kafka.tools.VerifiableProducer", &write, "\"acked\":500")?;
        ensure!(
            written.matches("producer_send_success").count() == 500,
            "not every record was acknowledged: {written}"
        );
        let read =
            ["--topic", TOPIC, "--group-id", "verifiable", "--reset-policy", "earliest", "--max-messages", "500"];
        let read = tools.alone("org.apache.kafka.tools.VerifiableConsumer", &read, "records_consumed")?;
        ensure!(read.contains("offsets_committed"), "nothing was committed: {read}");
        let measure = ["--topic", TOPIC, "--group", "perf", "--messages", "500", "--timeout", "30000"];
        tools.says("org.apache.kafka.tools.ConsumerPerformance", &measure, "nMsg.sec")?;
        let groups = tools.says("org.apache.kafka.tools.GroupsCommand", &["--list"], "verifiable")?;
        ensure!(groups.contains("perf"), "a group is missing: {groups}");
        Ok(groups)
    });
}

/// Tells a story of tools on a cluster of three brokers, unless Java is missing.
fn with_tools(suite: &str, story: impl FnOnce(&mut Tools) -> Result<String>) {
    if let Some(reason) = kafka::missing_runtime() {
        return runtime::skip(suite, reason);
    }
    let target = Target::ours(3).expect("a broker to test");
    let mut tools = Tools::start(&target).expect("Apache Kafka's tools start");
    story(&mut tools).expect("every tool does its work");
}

/// A process that runs tools.
struct Tools {
    bootstrap: String,
    java: Child,
    asked: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Tools {
    fn start(target: &Target) -> Result<Self> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/tools/Tools.java");
        let mut java = kafka::java(&kafka::libs()?, "warn");
        let mut java =
            java.arg(source).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting Java")?;
        let asked = java.stdin.take();
        let answers = BufReader::new(java.stdout.take().context("a pipe from Java")?);
        Ok(Self { bootstrap: target.bootstrap().to_owned(), java, asked, answers })
    }

    /// Runs a tool against the broker; it must exit 0 and say `expected`.
    fn says(&mut self, tool: &str, args: &[&str], expected: &str) -> Result<String> {
        let bootstrap = ["--bootstrap-server", &self.bootstrap];
        let line = [&[tool], &bootstrap[..], args].concat().join("\t");
        let asked = self.asked.as_mut().context("Java ended")?;
        writeln!(asked, "{line}").and_then(|()| asked.flush()).context("telling Java which tool to run")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer).context("reading what the tool said")?;
        let (status, said) =
            answer.trim_end_matches('\n').split_once(' ').with_context(|| format!("{tool} ended Java: {answer:?}"))?;
        let said = decoded(said).with_context(|| format!("what {tool} said"))?;
        ensure!(status == "0", "{tool} {args:?} exits {status}:\n{said}");
        ensure!(said.contains(expected), "{tool} {args:?} does not say {expected:?} but:\n{said}");
        Ok(said)
    }
}

impl Tools {
    /// The same in a process of its own, for tools that do part of their work when theirs ends.
    fn alone(&self, tool: &str, args: &[&str], expected: &str) -> Result<String> {
        let mut java = kafka::java(&kafka::libs()?, "warn");
        let output = runtime::run(java.args([tool, "--bootstrap-server", &self.bootstrap]).args(args))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(said.contains(expected), "{tool} {args:?} does not say {expected:?} but:\n{said}");
        Ok(said)
    }
}

impl Drop for Tools {
    fn drop(&mut self) {
        drop(self.asked.take());
        // It ends with its input; a tool that hangs does not.
        let _ = self.java.kill();
        let _ = self.java.wait();
    }
}

fn file(text: &str) -> Result<tempfile::NamedTempFile> {
    let file = tempfile::NamedTempFile::new().context("making a file")?;
    std::fs::write(file.path(), text).context("writing a file")?;
    Ok(file)
}

fn path(file: &tempfile::NamedTempFile) -> Result<&str> {
    file.path().to_str().context("a path of text")
}

/// Text in base64.
fn decoded(text: &str) -> Result<String> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for digit in text.bytes().filter(|digit| *digit != b'=') {
        let value = DIGITS.iter().position(|known| *known == digit).context("a digit of base64")?;
        bits = (bits << 6) | u32::try_from(value)?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
