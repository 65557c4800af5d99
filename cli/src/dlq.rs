//! `rehearsal dlq`: looking at the dead letters of a bus on any Kafka, and dealing with them.

use anyhow::{Context, bail, ensure};
use clap::{Args as Group, Subcommand};
use rehearsal_bus::KafkaEventBus;
use rehearsal_bus::config::KafkaEventBusConfig;
use rehearsal_bus::dlq::{DlqMessage, EvictOutcome, Replay, ReplayOutcome};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// How often `watch` looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whose dead letters, and what to do with them.
#[derive(Debug, Group)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    of: Of,
}

/// The bus they belong to. What no flag says, the `KAFKA_…` variables of the bus's own configuration do.
#[derive(Debug, Group)]
struct Of {
    /// Brokers to ask first, with commas between them
    #[arg(long, global = true, value_name = "HOST:PORT")]
    bootstrap: Option<String>,
    /// The prefix of the bus's topics: its dead letters are in PREFIX.stream.dlq
    #[arg(long, global = true, value_name = "PREFIX")]
    topic_prefix: Option<String>,
    /// The name the ledger will know us by
    #[arg(long, global = true, value_name = "NAME", default_value = "rehearsal dlq")]
    by: String,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the dead letters that are not resolved, oldest first
    List {
        #[command(flatten)]
        which: Filter,
        /// No more than so many
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Show one whole: its story, its headers, its bytes
    Show {
        /// Its name, as `list` shows it
        #[arg(value_name = "PARTITION:OFFSET")]
        letter: Name,
    },
    /// Publish dead letters once more, for the group that gave them up
    Replay {
        #[command(flatten)]
        which: Chosen,
        /// For every group that reads the topic, not only the one that gave it up
        #[arg(long)]
        everywhere: bool,
        /// Also those that came back too often
        #[arg(long)]
        force: bool,
        /// With this file's bytes instead of its own value (one letter only)
        #[arg(long, value_name = "FILE")]
        value: Option<PathBuf>,
    },
    /// Count dead letters as resolved without replaying them
    Evict {
        #[command(flatten)]
        which: Chosen,
        /// The reason, for the ledger
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
    /// Print each dead letter as it comes, until stopped
    Watch {
        #[command(flatten)]
        which: Filter,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
}

/// Of all of them, those that fit.
#[derive(Debug, Default, Group)]
struct Filter {
    /// Of this type of event
    #[arg(long, value_name = "NAME")]
    event_type: Option<String>,
    /// With this key
    #[arg(long, value_name = "TEXT")]
    key: Option<String>,
    /// Given up by this group
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// With this in the text or the kind of its error
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,
}

impl Filter {
    fn fits(&self, letter: &DlqMessage) -> bool {
        let is = |wanted: &Option<String>, has: Option<&str>| wanted.is_none() || wanted.as_deref() == has;
        is(&self.event_type, letter.event_type())
            && is(&self.key, letter.key.as_deref().map(String::from_utf8_lossy).as_deref())
            && is(&self.group, letter.consumer_group())
            && self.error.as_ref().is_none_or(|text| {
                letter.error().contains(text.as_str()) || letter.error_type().contains(text.as_str())
            })
    }
}

/// Those named, or all that fit.
#[derive(Debug, Group)]
struct Chosen {
    /// Their names, as `list` shows them
    #[arg(value_name = "PARTITION:OFFSET", required_unless_present = "all", conflicts_with = "all")]
    letters: Vec<Name>,
    /// All there are; with --event-type, --key, --group or --error all that fit
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    which: Filter,
}

impl Chosen {
    async fn names(&self, bus: &KafkaEventBus) -> anyhow::Result<Vec<Name>> {
        if !self.all {
            return Ok(self.letters.clone());
        }
        let letters = bus.get_dlq_messages(usize::MAX).await?;
        Ok(letters.iter().filter(|letter| self.which.fits(letter)).map(Name::of).collect())
    }
}

/// A letter's partition and offset in the dead-letter topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    partition: i32,
    offset: i64,
}

impl Name {
    fn of(letter: &DlqMessage) -> Self {
        Self { partition: letter.partition, offset: letter.offset }
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once(':').and_then(|(partition, offset)| {
            Some(Self { partition: partition.parse().ok()?, offset: offset.parse().ok()? })
        });
        parsed.filter(|name| name.partition >= 0 && name.offset >= 0).ok_or_else(|| {
            "a dead letter is named by its partition and offset, such as 0:17; `rehearsal dlq list` shows them".into()
        })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}

/// Does what was asked.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().context("starting")?;
    runtime.block_on(async {
        let resolves = matches!(args.verb, Verb::Replay { .. } | Verb::Evict { .. });
        let bus = args.of.bus(resolves).await?;
        let done = carry_out(&bus, args.verb).await;
        // What is asked of the brokers is answered by now; their goodbye need not be waited for.
        let _ = bus.disconnect().await;
        done
    })
}

impl Of {
    /// A connected bus. Nothing is created but the ledger, and that only to `resolve` letters.
    async fn bus(&self, resolves: bool) -> anyhow::Result<KafkaEventBus> {
        let mut config = KafkaEventBusConfig::from_env()?;
        config.consumer_name.clone_from(&self.by);
        config.create_topics = false;
        if let Some(bootstrap) = &self.bootstrap {
            config.bootstrap_servers.clone_from(bootstrap);
        }
        if let Some(prefix) = &self.topic_prefix {
            config.topic_prefix.clone_from(prefix);
        }
        let (topic, brokers) = (config.dlq_topic_name(), config.bootstrap_servers.clone());
        let bus = KafkaEventBus::new(config.clone());
        bus.connect().await?;
        ensure!(
            bus.has_dlq_topic(),
            "there is no topic {topic} on {brokers}; --topic-prefix says whose dead letters are meant"
        );
        if !resolves {
            return Ok(bus);
        }
        bus.disconnect().await?;
        config.create_topics = true;
        let bus = KafkaEventBus::new(config);
        bus.connect().await?;
        Ok(bus)
    }
}

async fn carry_out(bus: &KafkaEventBus, verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::List { which, limit, json } => {
            let letters = bus.get_dlq_messages(usize::MAX).await?;
            for letter in letters.iter().filter(|letter| which.fits(letter)).take(limit) {
                say(line(letter, json))?;
            }
            Ok(())
        }
        Verb::Show { letter } => show(bus, letter).await,
        Verb::Replay { which, everywhere, force, value } => {
            let names = which.names(bus).await?;
            let value = value.map(|file| std::fs::read(&file).with_context(|| format!("reading {}", file.display())));
            let value = value.transpose()?;
            ensure!(value.is_none() || names.len() == 1, "--value is for one letter, and {} are meant", names.len());
            replay(bus, &names, |replay| {
                let replay = if everywhere { replay.to_every_group() } else { replay };
                let replay = if force { replay.forced() } else { replay };
                match value.clone() {
                    Some(value) => replay.with_value(value),
                    None => replay,
                }
            })
            .await
        }
        Verb::Evict { which, why } => evict(bus, &which.names(bus).await?, &why).await,
        Verb::Watch { which, json } => watch(bus, &which, json).await,
    }
}

async fn show(bus: &KafkaEventBus, name: Name) -> anyhow::Result<()> {
    let letters = bus.get_dlq_messages(usize::MAX).await?;
    let Some(letter) = letters.iter().find(|letter| Name::of(letter) == name) else {
        bail!("there is no dead letter {name}, or it is resolved");
    };
    say(serde_json::to_string_pretty(&described(letter))?)
}

async fn replay(bus: &KafkaEventBus, names: &[Name], how: impl Fn(Replay) -> Replay) -> anyhow::Result<()> {
    let mut left = 0;
    for name in names {
        let outcome = bus.replay(how(Replay::of(name.partition, name.offset))).await?;
        left += usize::from(!outcome.is_replayed());
        say(match outcome {
            ReplayOutcome::Replayed { partition, offset } => format!("{name}  replayed, now at {partition}:{offset}"),
            ReplayOutcome::AlreadyReplayed => format!("{name}  was resolved before"),
            ReplayOutcome::TooOften { replays } => {
                format!("{name}  came back {replays} times; --force replays it all the same")
            }
            ReplayOutcome::Behind { partition, offset } => {
                format!("{name}  must wait for {partition}:{offset}, an earlier event of its key")
            }
            _ => format!("{name}  not found"),
        })?;
    }
    ensure!(left == 0, "{left} of {} were not replayed", names.len());
    Ok(())
}

async fn evict(bus: &KafkaEventBus, names: &[Name], why: &str) -> anyhow::Result<()> {
    let mut left = 0;
    for name in names {
        let outcome = bus.evict_dlq_message(name.partition, name.offset, why).await?;
        left += usize::from(outcome != EvictOutcome::Evicted);
        say(match outcome {
            EvictOutcome::Evicted => format!("{name}  evicted"),
            EvictOutcome::AlreadyResolved => format!("{name}  was resolved before"),
            _ => format!("{name}  not found"),
        })?;
    }
    ensure!(left == 0, "{left} of {} were not evicted", names.len());
    Ok(())
}

async fn watch(bus: &KafkaEventBus, which: &Filter, json: bool) -> anyhow::Result<()> {
    let mut shown = BTreeSet::new();
    loop {
        for letter in bus.get_dlq_messages(usize::MAX).await? {
            if which.fits(&letter) && shown.insert(Name::of(&letter)) {
                say(line(&letter, json))?;
            }
        }
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(()),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// A letter in one line.
fn line(letter: &DlqMessage, json: bool) -> String {
    if json {
        return described(letter).to_string();
    }
    let when = letter.timestamp.map(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_default();
    let key = letter.key.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let (kind, reason, error) = (letter.event_type().unwrap_or("?"), letter.reason(), letter.error());
    format!("{}  {when}  {kind}  {key}  {reason} after {} retries: {error}", Name::of(letter), letter.retry_count())
}

/// A letter with everything there is; bytes that are no text as hexadecimal digits.
fn described(letter: &DlqMessage) -> Value {
    let headers: Vec<Value> = letter
        .headers
        .iter()
        .map(|header| json!({ "name": header.name, "value": header.value.as_deref().map(shown) }))
        .collect();
    json!({
        "partition": letter.partition,
        "offset": letter.offset,
        "timestamp": letter.timestamp.map(|time| time.to_string()),
        "event_type": letter.event_type(),
        "reason": letter.reason(),
        "error_type": letter.error_type(),
        "error": letter.error(),
        "retry_count": letter.retry_count(),
        "replay_count": letter.replay_count(),
        "group": letter.consumer_group(),
        "key": letter.key.as_deref().map(shown),
        "value": letter.value.as_deref().map(shown),
        "headers": headers,
    })
}

fn shown(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "hex": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() }),
    }
}

fn say(line: String) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("writing to standard output")
}
