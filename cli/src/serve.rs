//! `rehearsal serve`: the stand-in broker alone, until it is told to stop.

mod security;

use anyhow::{Context, bail};
use rehearsal_mockbroker::config::{SecurityProtocol, TopicConfig};
use rehearsal_mockbroker::release::Release;
use rehearsal_mockbroker::testing::{Builder, MockCluster};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;
use std::str::FromStr;

/// Brokers a cluster may have: more than anyone rehearses with, few enough for the system's limit of open files.
const BROKERS_MAX: i64 = 100;
/// The cluster is one state behind one lock; more threads than this only wait for it.
const THREADS_MAX: usize = 4;

/// What to serve, and where.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many brokers
    #[arg(long, value_name = "N", default_value_t = 1, allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(i32).range(1..=BROKERS_MAX))]
    brokers: i32,
    /// Broker i (counted from 0) listens on P + i; 0 takes free ports
    #[arg(long, value_name = "P", default_value_t = 9092)]
    port: u16,
    /// The first broker's id; the others count up from it
    #[arg(long, value_name = "I", default_value_t = 1, allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(i32).range(0..=i64::from(i32::MAX) - BROKERS_MAX))]
    first_id: i32,
    /// The address to listen on; 0.0.0.0 for every interface
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    bind: IpAddr,
    /// The host clients are told, instead of the address listened on
    #[arg(long, value_name = "H", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    advertise_host: Option<String>,
    /// Broker i tells clients port Q + i, instead of the one it listens on
    #[arg(long, value_name = "Q", value_parser = clap::value_parser!(u16).range(1..))]
    advertise_port: Option<u16>,
    /// A topic that exists from the start; may be given several times
    #[arg(long = "topic", value_name = "NAME:PARTITIONS[:REPLICATION]")]
    topics: Vec<TopicArg>,
    /// Partitions of topics that are created without a number; `--config num.partitions=N` in short
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    default_partitions: Option<i32>,
    /// Whether a topic is created when a client first asks for it (Kafka's default: true);
    /// `--config auto.create.topics.enable=BOOL` in short
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set)]
    auto_create: Option<bool>,
    /// A broker config by Kafka's name, the same on every broker; may be given several times
    #[arg(long = "config", value_name = "KEY=VALUE")]
    configs: Vec<ConfigArg>,
    /// Put no broker in a rack, instead of each in its own
    #[arg(long)]
    no_racks: bool,
    /// Stand in for an older release of Kafka, 2.8 to 4.3: only the API versions and features it had are served
    #[arg(long = "as", value_name = "RELEASE", default_value_t)]
    release: Release,
    #[command(flatten)]
    security: security::SecurityArgs,
}

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let builder = describe(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting")?;
    runtime.block_on(async {
        // Before the ready line: whoever reads it may stop us at once.
        let stop = StopSignals::listen().context("listening for SIGTERM and SIGINT")?;
        let kafka = builder.start().context("starting the cluster")?;
        announce(&Ready::of(&kafka))?;
        let why = stop.first().await;
        tracing::info!("stopping: {why}");
        Ok(())
    })
}

fn describe(args: Args) -> anyhow::Result<Builder> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let mut builder = MockCluster::builder()
        .brokers(args.brokers)
        .first_id(args.first_id)
        .port(args.port)
        .bind(args.bind)
        .release(args.release)
        .threads(threads);
    if args.no_racks {
        builder = builder.no_racks();
    }
    if let Some(host) = &args.advertise_host {
        builder = builder.advertise_host(host);
    }
    if let Some(port) = args.advertise_port {
        builder = builder.advertise_port(port);
    }
    for (key, value) in configs(&args)? {
        builder = builder.config(key, value);
    }
    builder = args.security.apply(builder)?;
    Ok(args.topics.into_iter().fold(builder, |builder, topic| builder.topic_with(topic.0)))
}

/// The broker configs of all flags; saying two things about one config is a mistake better found now.
fn configs(args: &Args) -> anyhow::Result<BTreeMap<String, String>> {
    let mut configs = BTreeMap::new();
    for ConfigArg { key, value } in &args.configs {
        if configs.insert(key.clone(), value.clone()).is_some() {
            bail!("--config {key} is given twice; keep one");
        }
    }
    let shorthands = [
        ("--default-partitions", "num.partitions", args.default_partitions.map(|count| count.to_string())),
        ("--auto-create", "auto.create.topics.enable", args.auto_create.map(|on| on.to_string())),
    ];
    for (flag, key, value) in shorthands {
        let Some(value) = value else { continue };
        if configs.insert(key.to_owned(), value).is_some() {
            bail!("{flag} and --config {key} set the same config; keep one");
        }
    }
    Ok(configs)
}

/// The one line on standard output that says clients may connect, and where.
#[derive(Debug, Serialize)]
struct Ready {
    bootstrap: String,
    /// Where each listener is, where there are several.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    listeners: BTreeMap<String, String>,
    brokers: Vec<Broker>,
}

#[derive(Debug, Serialize)]
struct Broker {
    id: i32,
    host: String,
    port: u16,
    rack: Option<String>,
}

impl Ready {
    fn of(kafka: &MockCluster) -> Self {
        let view = kafka.view();
        let brokers = view.brokers.iter().map(|node| Broker {
            id: node.id.0,
            host: node.host.clone(),
            port: node.port,
            rack: node.rack.clone(),
        });
        let names = SecurityProtocol::ALL.map(SecurityProtocol::name);
        let listeners: BTreeMap<_, _> =
            names.iter().filter_map(|name| Some(((*name).to_owned(), kafka.bootstrap_servers_of(name)?))).collect();
        Self {
            bootstrap: kafka.bootstrap_servers(),
            listeners: if listeners.len() > 1 { listeners } else { BTreeMap::new() },
            brokers: brokers.collect(),
        }
    }
}

fn announce(ready: &Ready) -> anyhow::Result<()> {
    let line = serde_json::to_string(ready).context("writing the ready line")?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("writing the ready line to standard output")
}

/// `NAME:PARTITIONS[:REPLICATION]`.
#[derive(Debug, Clone)]
struct TopicArg(TopicConfig);

impl FromStr for TopicArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let (Some(name), Some(partitions), replication, None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err("say NAME:PARTITIONS or NAME:PARTITIONS:REPLICATION, e.g. orders:6 or orders:6:3".into());
        };
        if name.is_empty() {
            return Err("the topic has no name; say NAME:PARTITIONS, e.g. orders:6".into());
        }
        let mut topic = TopicConfig::new(name, at_least_one(partitions, "partitions")?);
        topic.replication_factor = replication.map(|text| at_least_one(text, "replicas")).transpose()?;
        Ok(Self(topic))
    }
}

fn at_least_one<N: FromStr + PartialOrd + From<u8>>(text: &str, of_what: &str) -> Result<N, String> {
    let number = text.parse().ok().filter(|number| *number >= N::from(1));
    number.ok_or_else(|| format!("'{text}' is no number of {of_what}; say 1 or more"))
}

/// `KEY=VALUE`.
#[derive(Debug, Clone)]
struct ConfigArg {
    key: String,
    value: String,
}

impl FromStr for ConfigArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                Ok(Self { key: key.trim().to_owned(), value: value.trim().to_owned() })
            }
            _ => Err("say KEY=VALUE with Kafka's name, e.g. log.retention.ms=60000".into()),
        }
    }
}

/// What asks a server to stop.
#[cfg(unix)]
struct StopSignals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl StopSignals {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn first(mut self) -> &'static str {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// What asks a server to stop.
#[cfg(not(unix))]
struct StopSignals;

#[cfg(not(unix))]
impl StopSignals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn first(self) -> &'static str {
        match tokio::signal::ctrl_c().await {
            Ok(()) => "Ctrl-C",
            // Without the handler there is nothing to wait for but being killed.
            Err(_) => std::future::pending().await,
        }
    }
}
