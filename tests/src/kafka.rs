//! Apache Kafka 4.3.0 itself, as the reference.
//!
//! The jars come from Maven Central once and are kept in cargo's target folder. A broker is one Java process in
//! KRaft combined mode (broker and controller in one) on loopback; it dies with the process that started it, however that one ends.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kafka_protocol::messages::{ApiVersionsRequest, MetadataRequest};
use tempfile::TempDir;

use crate::raw::Connection;
use crate::runtime;

/// The version every difference is measured against.
pub const VERSION: &str = "4.3.0";

/// What every broker that is compared is told, ours too: one node is enough, and nobody waits for a second member.
pub const SETTINGS: [(&str, &str); 12] = [
    ("group.initial.rebalance.delay.ms", "0"),
    ("group.streams.initial.rebalance.delay.ms", "0"),
    // A second otherwise, for which every script of such a group would wait.
    ("group.consumer.assignment.interval.ms", "0"),
    ("group.share.assignment.interval.ms", "0"),
    ("group.streams.assignment.interval.ms", "0"),
    ("offsets.topic.replication.factor", "1"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("share.coordinator.state.topic.replication.factor", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
    // Fifty partitions are created at the first group otherwise, which takes seconds on two cores.
    ("offsets.topic.num.partitions", "1"),
    ("transaction.state.log.num.partitions", "1"),
];

/// Who can log in where clients are asked who they are, with their passwords.
pub const USERS: [(&str, &str); 3] = [("admin", "admin-secret"), ("alice", "alice-secret"), ("bob", "bob-secret")];

/// Who may do everything there. Who comes by the listener that asks nothing is nobody, and so are the brokers.
pub const SUPER_USERS: [&str; 2] = ["User:admin", "User:ANONYMOUS"];

/// What both brokers are told where clients are asked who they are.
pub const GUARDED_SETTINGS: [(&str, &str); 1] = [("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512")];

/// Runs the broker beside a guard that reads our pipe and ends the broker when the pipe does.
const WATCHER: &str = "exec 3<&0; \"$@\" </dev/null 3<&- & broker=$!; \
    (cat <&3 >/dev/null; kill -9 $broker) & guard=$!; wait $broker; kill $guard";

const START_TIMEOUT: Duration = Duration::from_secs(60);
const START_ATTEMPTS: usize = 3;

/// A running Apache Kafka with one node. Dropping it ends the node.
#[derive(Debug)]
pub struct ApacheKafka {
    bootstrap: String,
    guarded: String,
    // Held for its pipe: when it closes, by drop or by our death, the watcher ends the broker.
    watcher: Child,
    _home: TempDir,
}

impl ApacheKafka {
    /// The one instance this process shares, started at the first call; `None` (said aloud) where Java or Maven are missing.
    ///
    /// # Panics
    /// When it should start and does not, or when it cannot and `CI=true`.
    pub fn shared(suite: &str) -> Option<&'static Self> {
        static SHARED: OnceLock<Option<ApacheKafka>> = OnceLock::new();
        let kafka = SHARED.get_or_init(|| match missing_runtime() {
            Some(_) => None,
            None => Some(Self::start().expect("Apache Kafka starts where Java and Maven are present")),
        });
        if kafka.is_none() {
            runtime::skip(suite, missing_runtime().unwrap_or("Apache Kafka did not start"));
        }
        kafka.as_ref()
    }

    /// As [`ApacheKafka::shared`], one that asks who clients are and what they may do: a second listener for [`USERS`], and
    /// the standard authoriser, of which [`SUPER_USERS`] are exempt.
    ///
    /// # Panics
    /// As [`ApacheKafka::shared`].
    pub fn shared_guarded(suite: &str) -> Option<&'static Self> {
        static SHARED: OnceLock<Option<ApacheKafka>> = OnceLock::new();
        let kafka = SHARED.get_or_init(|| match missing_runtime() {
            Some(_) => None,
            None => Some(Self::start_guarded().expect("Apache Kafka starts where Java and Maven are present")),
        });
        if kafka.is_none() {
            runtime::skip(suite, missing_runtime().unwrap_or("Apache Kafka did not start"));
        }
        kafka.as_ref()
    }

    fn start_guarded() -> Result<Self> {
        let users: String = USERS.iter().map(|(name, password)| format!(" user_{name}=\"{password}\"")).collect();
        let plain = format!("org.apache.kafka.common.security.plain.PlainLoginModule required{users};");
        let super_users = SUPER_USERS.join(";");
        let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
        let [own] = GUARDED_SETTINGS;
        Self::start_with(&[
            own,
            ("listener.name.sasl_plaintext.plain.sasl.jaas.config", &plain),
            ("listener.name.sasl_plaintext.scram-sha-256.sasl.jaas.config", scram),
            ("listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config", scram),
            ("connection.failed.authentication.delay.ms", "0"),
            ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
            ("super.users", &super_users),
        ])
    }

    /// Fetches the jars if need be, formats a fresh storage folder and starts a broker on free ports.
    ///
    /// # Errors
    /// When the jars cannot be had or the broker does not answer; the error carries the end of its log.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// As [`ApacheKafka::start`], with more or other broker settings.
    ///
    /// # Errors
    /// As [`ApacheKafka::start`].
    pub fn start_with(settings: &[(&str, &str)]) -> Result<Self> {
        let libs = libs()?;
        let mut failure = None;
        // A port found free can be taken before the broker binds it, so a failed start is tried again on others.
        for _ in 0..START_ATTEMPTS {
            match Self::start_once(&libs, settings) {
                Ok(kafka) => return Ok(kafka),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.expect("at least one attempt was made"))
    }

    /// Where clients connect: `127.0.0.1:port`.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Where clients connect that say who they are: `127.0.0.1:port`.
    #[must_use]
    pub fn guarded(&self) -> &str {
        &self.guarded
    }

    fn start_once(libs: &Path, settings: &[(&str, &str)]) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("kafka-").tempdir().context("making a folder for Apache Kafka")?;
        let [port, controller_port, guarded_port] = free_ports()?;
        let properties = home.path().join("server.properties");
        fs::write(&properties, server_properties(home.path(), [port, controller_port, guarded_port], settings))?;
        format_storage(libs, &properties)?;

        let log_path = home.path().join("kafka.log");
        let watcher =
            watched(java(libs, "info").args(["-Xms256m", "-Xmx512m", "kafka.Kafka"]).arg(&properties), &log_path)?;
        let (bootstrap, guarded) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{guarded_port}"));
        let mut kafka = Self { bootstrap, guarded, watcher, _home: home };
        kafka.await_ready().with_context(|| format!("Apache Kafka's log ends with:\n{}", tail(&log_path)))?;
        Ok(kafka)
    }

    /// Asks until the broker answers and is in its own metadata.
    fn await_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Ok(true) = answers(&self.bootstrap) {
                return Ok(());
            }
            if let Some(status) = self.watcher.try_wait()? {
                bail!("Apache Kafka ended while starting ({status})");
            }
            if Instant::now() > deadline {
                bail!("Apache Kafka did not answer on {} within {START_TIMEOUT:?}", self.bootstrap);
            }
            runtime::breathe();
        }
    }
}

impl Drop for ApacheKafka {
    fn drop(&mut self) {
        drop(self.watcher.stdin.take());
        // The watcher has nothing left to do but end; its status says nothing.
        let _ = self.watcher.wait();
    }
}

/// The folder of Apache Kafka's jars, fetched at the first call.
///
/// # Errors
/// When Maven is missing or cannot fetch them.
pub fn libs() -> Result<PathBuf> {
    static LIBS: OnceLock<PathBuf> = OnceLock::new();
    if let Some(libs) = LIBS.get() {
        return Ok(libs.clone());
    }
    let libs = fetch_libs()?;
    Ok(LIBS.get_or_init(|| libs).clone())
}

/// What is missing on this machine to run Apache Kafka, if anything.
#[must_use]
pub fn missing_runtime() -> Option<&'static str> {
    if !runtime::has_program("java", "-version") {
        return Some("no `java` on the path (Apache Kafka needs Java 17 or newer)");
    }
    let fetched = runtime::target_dir().is_ok_and(|target| libs_in(&target).exists());
    if !fetched && !runtime::has_program("mvn", "-version") {
        return Some("no `mvn` on the path to fetch Apache Kafka's jars");
    }
    None
}

/// A Java command with Apache Kafka's classes on its path, logging at `level` to standard error.
#[must_use]
pub fn java(libs: &Path, level: &str) -> Command {
    let mut command = Command::new("java");
    command
        .arg(format!("-Dorg.slf4j.simpleLogger.defaultLogLevel={level}"))
        // Short-lived processes: the cheap collector and the quick compiler win.
        .args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true", "-cp"])
        .arg(format!("{}/*", libs.display()));
    command
}

fn libs_in(target: &Path) -> PathBuf {
    target.join(format!("kafka-{VERSION}")).join("libs")
}

fn fetch_libs() -> Result<PathBuf> {
    let libs = libs_in(&runtime::target_dir()?);
    if libs.exists() {
        return Ok(libs);
    }
    let home = libs.parent().expect("libs lies in a folder of its version");
    fs::create_dir_all(home)?;
    // Fetched aside and renamed whole, so that neither an interrupted fetch nor a second process leaves half a folder.
    let staging = tempfile::Builder::new().prefix("fetch-").tempdir_in(home)?;
    fs::write(staging.path().join("pom.xml"), pom())?;
    let fetched = staging.path().join("libs");
    runtime::run(
        Command::new("mvn")
            .current_dir(staging.path())
            .args(["-B", "-q", "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"])
            .arg(format!("-DoutputDirectory={}", fetched.display())),
    )
    .context("fetching Apache Kafka's jars from Maven Central")?;
    match fs::rename(&fetched, &libs) {
        Ok(()) => Ok(libs),
        Err(_) if libs.exists() => Ok(libs),
        Err(error) => Err(error).context("moving Apache Kafka's jars into place"),
    }
}

fn pom() -> String {
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>"
        )
    };
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>tests</groupId><artifactId>reference</artifactId><version>1</version><packaging>pom</packaging>\
         <dependencies>{}{}{}</dependencies></project>",
        dependency("org.apache.kafka", "kafka_2.13", VERSION),
        dependency("org.apache.kafka", "kafka-tools", VERSION),
        // Kafka logs through slf4j and brings no backend; this one writes to standard error.
        dependency("org.slf4j", "slf4j-simple", "1.7.36"),
    )
}

fn server_properties(
    home: &Path,
    [port, controller_port, guarded_port]: [u16; 3],
    settings: &[(&str, &str)],
) -> String {
    // Only who sets mechanisms wants the listener they are for.
    let is_guarded = settings.iter().any(|(key, _)| *key == "sasl.enabled.mechanisms");
    let guarded = if is_guarded { format!(",SASL_PLAINTEXT://127.0.0.1:{guarded_port}") } else { String::new() };
    let mut lines = vec![
        "process.roles=broker,controller".to_owned(),
        "node.id=1".to_owned(),
        format!("listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}{guarded}"),
        format!("advertised.listeners=PLAINTEXT://127.0.0.1:{port}{guarded}"),
        "controller.listener.names=CONTROLLER".to_owned(),
        format!("controller.quorum.voters=1@127.0.0.1:{controller_port}"),
        format!("log.dirs={}", home.join("data").display()),
    ];
    if is_guarded {
        let protocols = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT";
        lines.push(format!("listener.security.protocol.map={protocols}"));
    }
    lines.extend(SETTINGS.iter().chain(settings).map(|(key, value)| format!("{key}={value}")));
    lines.join("\n") + "\n"
}

fn format_storage(libs: &Path, properties: &Path) -> Result<()> {
    let cluster_id = "cmVoZWFyc2FsLXRlc3RzMQ";
    runtime::run(
        java(libs, "warn")
            .args(["kafka.tools.StorageTool", "format", "--cluster-id", cluster_id, "--config"])
            .arg(properties),
    )
    .context("formatting Apache Kafka's storage")?;
    Ok(())
}

/// Starts `command` under a shell that ends it as soon as our end of a pipe closes, so that no broker outlives its tests.
fn watched(command: &Command, log: &Path) -> Result<Child> {
    let out = File::create(log)?;
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg(WATCHER)
        .arg("watcher")
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::piped())
        .stdout(out.try_clone()?)
        .stderr(out);
    shell.spawn().context("starting Apache Kafka")
}

fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut held = Vec::with_capacity(N);
    for _ in 0..N {
        held.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("finding a free port")?);
    }
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

fn answers(bootstrap: &str) -> Result<bool> {
    let mut connection = Connection::open(bootstrap, "readiness")?;
    let versions = connection.call(0, &ApiVersionsRequest::default())?;
    let metadata = connection.call(1, &MetadataRequest::default().with_topics(None))?;
    Ok(versions.error_code == 0 && !metadata.brokers.is_empty())
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
