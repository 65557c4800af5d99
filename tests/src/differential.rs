//! One script, two brokers, no difference.
//!
//! A script is a function that plays a list of labelled requests on a [`Stage`]. It is played against our broker and against
//! Apache Kafka; ids, ports and clocks in the answers become symbols in the order they are first seen; then the answers are
//! compared field by field. What differs must be on the list of [`Known`] differences, and what is listed must differ.
//!
//! Of a message for people only its presence is compared: the words of our broker are its own.
//!
//! Arrays of rows that carry a name or an index are compared regardless of their order, which Kafka takes from hash
//! maps in many answers; where the order is promised (`ORDERED`), it counts.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{Debug, Write as _};
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kafka_protocol::messages::{
    ApiKey, BrokerId, CreateTopicsRequest, FindCoordinatorRequest, GroupId, ListOffsetsRequest, MetadataRequest,
    OffsetFetchRequest, SaslAuthenticateRequest, SaslHandshakeRequest, TopicName,
    create_topics_request::{CreatableTopic, CreatableTopicConfig},
    list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
    metadata_request::MetadataRequestTopic,
};
use kafka_protocol::protocol::{Request, StrBytes};
use serde_json::{Map, Value, json};

use crate::kafka::{ApacheKafka, missing_runtime};
use crate::known::Known;
use crate::raw::{Connection, NoAnswer, Pending};
use crate::runtime::skip;
use crate::target::Target;
use crate::{batch, tree};

/// A request a script can send and show; every request of the codec is one.
pub trait Ask: Request<Response: Default + Debug> + Debug {}

impl<R: Request<Response: Default + Debug> + Debug> Ask for R {}

/// A script: requests in an order, each with a label.
pub type Script = fn(&mut Stage);

/// One place where the answers part.
#[derive(Debug, Clone, Default)]
pub struct Difference {
    /// The label of the step.
    pub step: String,
    /// The request of that step, as it was sent to our broker.
    pub request: String,
    /// Where in the answer.
    pub path: String,
    /// What our broker said there.
    pub ours: String,
    /// What Apache Kafka said there.
    pub kafka: String,
}

/// Plays `script` against both brokers and fails on every difference that is not in `known`, and on every listed one
/// that does not occur.
///
/// Where Apache Kafka cannot run here, says so and returns.
///
/// # Panics
/// On such a difference, or when a broker cannot be reached.
pub fn check(name: &'static str, script: Script, known: &Known) {
    let Some(found) = compare_brokers(name, "", &script) else { return };
    judge(name, &found, known);
}

/// As [`check`], with brokers of the script's own that have more or other settings.
///
/// # Panics
/// As [`check`].
pub fn check_with(name: &'static str, script: Script, known: &Known, settings: &[(&str, &str)]) {
    if let Some(reason) = missing_runtime() {
        return skip(&format!("differential::{name}"), reason);
    }
    let kafka = ApacheKafka::start_with(settings).expect("Apache Kafka starts where Java and Maven are present");
    let ours = Target::ours_with(1, settings).expect("a broker to test");
    judge(name, &play_both(name, "", &script, [ours.first_node(), ""], [kafka.bootstrap(), ""]), known);
}

/// As [`check`], on brokers that ask who clients are and what they may do: [`Stage::log_in`].
///
/// # Panics
/// As [`check`].
pub fn check_guarded(name: &'static str, script: Script, known: &Known) {
    let Some(kafka) = ApacheKafka::shared_guarded(&format!("differential::{name}")) else { return };
    let ours = Target::guarded().expect("a broker to test");
    let ours = [ours.first_node(), ours.guarded_address()];
    judge(name, &play_both(name, "", &script, ours, [kafka.bootstrap(), kafka.guarded()]), known);
}

fn judge(name: &str, found: &[Difference], known: &Known) {
    let (unexpected, outlived) = known.judge(name, found);
    let mut report = describe_all(name, &unexpected);
    for entry in outlived {
        let _ = writeln!(report, "\n{name} / {} / {}: listed as known, but does not occur", entry.step, entry.path);
    }
    keep_report(name, &report);
    assert!(report.is_empty(), "our broker's answers differ from Apache Kafka's:\n{report}");
}

/// Plays `script` against both brokers at once and gives every difference, known or not; `None`, said aloud, where
/// Apache Kafka cannot run here.
///
/// `take` becomes part of every name the script invents, so that it can be played again on the same Kafka.
///
/// # Panics
/// When a broker cannot be reached.
pub fn compare_brokers(
    name: &'static str,
    take: &str,
    script: &(dyn Fn(&mut Stage) + Sync),
) -> Option<Vec<Difference>> {
    let kafka = ApacheKafka::shared(&format!("differential::{name}"))?;
    let ours = Target::ours(1).expect("a broker to test");
    Some(play_both(name, take, script, [ours.first_node(), ""], [kafka.bootstrap(), ""]))
}

/// Where a broker listens: for everybody, and for those who say who they are.
type Addresses<'a> = [&'a str; 2];

fn play_both(
    name: &'static str,
    take: &str,
    script: &(dyn Fn(&mut Stage) + Sync),
    ours: Addresses<'_>,
    kafka: Addresses<'_>,
) -> Vec<Difference> {
    let mark = format!("{}{take}", *RUN);
    let play = |addresses: Addresses<'_>| {
        let mut stage = Stage::new(name, &mark, addresses);
        script(&mut stage);
        stage.steps
    };
    let (ours, kafka) = std::thread::scope(|scope| {
        let ours = scope.spawn(|| play(ours));
        let kafka = scope.spawn(|| play(kafka));
        (
            ours.join().expect("the script plays against our broker"),
            kafka.join().expect("the script plays against Kafka"),
        )
    });
    differences(&ours, &kafka)
}

/// Differences as a person reads them: the step, its request, and what either broker said where.
#[must_use]
pub fn describe_all(name: &str, differences: &[&Difference]) -> String {
    let mut report = String::new();
    let mut request = "";
    for difference in differences {
        if difference.request != request {
            request = &difference.request;
            let _ = write!(report, "\n{name} / {}\n  {}\n", difference.step, difference.request);
        }
        let _ = writeln!(
            report,
            "    {}\n      ours  {}\n      kafka {}",
            difference.path, difference.ours, difference.kafka
        );
    }
    report
}

/// Puts what was found into the folder `REHEARSAL_REPORTS` names, a file a script.
///
/// # Panics
/// When the file cannot be written.
pub fn keep_report(name: &str, report: &str) {
    if let Some(folder) = std::env::var_os("REHEARSAL_REPORTS") {
        let file = Path::new(&folder).join(format!("{name}.txt"));
        std::fs::write(&file, report).unwrap_or_else(|error| panic!("writing {}: {error}", file.display()));
    }
}

/// The list of known differences kept beside the suites.
///
/// # Panics
/// When it is malformed.
#[must_use]
pub fn known() -> Known {
    Known::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("known.toml")).expect("known.toml can be read")
}

// ---- the stage -------------------------------------------------------------------------------------------------------

/// One step that was played.
#[derive(Debug)]
struct Step {
    label: String,
    request: String,
    answer: Value,
}

/// A connection of the stage, opened by [`Stage::connect`].
#[derive(Debug, Clone, Copy)]
pub struct Link(usize);

/// A request whose answer is collected later; see [`Stage::send`].
#[derive(Debug)]
#[must_use = "an answer that is never collected shifts all later ones"]
pub struct Awaited<R: Ask> {
    link: Link,
    request: String,
    pending: Option<Pending<R>>,
}

/// Where a script plays: one broker, some connections, and the record of what was answered.
///
/// A script never fails by itself. An answer that does not come is recorded as such, and the script goes on with an empty one.
#[derive(Debug)]
pub struct Stage {
    bootstrap: String,
    guarded: String,
    script: &'static str,
    /// Part of every name the script invents; never seen in a transcript.
    mark: String,
    links: Vec<(String, Option<Connection>)>,
    /// Who logs in on which link when it opens, with which password; `None` says nothing of itself.
    logins: BTreeMap<usize, Option<(&'static str, &'static str)>>,
    names: Names,
    steps: Vec<Step>,
    silences: usize,
    only_mine: bool,
}

/// The default connection, as client `script`.
pub const MAIN: Link = Link(0);

/// After this many requests without an answer the rest of a script is not worth its waiting time.
const SILENCES_MAX: usize = 2;

/// Within this time a broker has carried out what it accepted.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);

impl Stage {
    fn new(script: &'static str, mark: &str, [bootstrap, guarded]: Addresses<'_>) -> Self {
        let mut stage = Self {
            bootstrap: bootstrap.to_owned(),
            guarded: guarded.to_owned(),
            script,
            mark: mark.to_owned(),
            links: vec![("script".to_owned(), None)],
            logins: BTreeMap::new(),
            names: Names { mark: mark.to_owned(), ..Names::default() },
            steps: Vec::new(),
            silences: 0,
            only_mine: false,
        };
        stage.await_coordinator();
        stage
    }

    /// Another connection, as client `client_id`; opened with the first request on it.
    pub fn connect(&mut self, client_id: &str) -> Link {
        self.links.push((client_id.to_owned(), None));
        Link(self.links.len() - 1)
    }

    /// Another connection, by the listener that asks who clients are; logs in when it opens.
    pub fn log_in(&mut self, name: &'static str, password: &'static str) -> Link {
        let link = self.connect(name);
        self.logins.insert(link.0, Some((name, password)));
        link
    }

    /// Another connection, by the listener that asks who clients are; says nothing of itself.
    pub fn knock(&mut self) -> Link {
        let link = self.connect("stranger");
        self.logins.insert(link.0, None);
        link
    }

    /// A name of this script's own, on a broker other scripts use too.
    #[must_use]
    pub fn name(&self, base: &str) -> StrBytes {
        StrBytes::from_string(format!("{}-{base}{}", self.script, self.mark))
    }

    /// A topic's name of this script's own.
    #[must_use]
    pub fn topic(&self, base: &str) -> TopicName {
        self.name(base).into()
    }

    /// A group's name of this script's own.
    #[must_use]
    pub fn group(&self, base: &str) -> GroupId {
        self.name(base).into()
    }

    /// Asks on the default connection; the answer is compared.
    pub fn ask<R: Ask>(&mut self, label: &str, version: i16, request: &R) -> R::Response {
        self.ask_on(MAIN, label, version, request)
    }

    /// Asks on a connection; the answer is compared.
    pub fn ask_on<R: Ask>(&mut self, link: Link, label: &str, version: i16, request: &R) -> R::Response {
        let awaited = self.send(link, version, request);
        self.collect(label, awaited)
    }

    /// Asks on the default connection; of the answer's rows only those with this script's names are compared.
    pub fn ask_for_mine<R: Ask>(&mut self, label: &str, version: i16, request: &R) -> R::Response {
        self.ask_for_mine_on(MAIN, label, version, request)
    }

    /// The same on another connection.
    pub fn ask_for_mine_on<R: Ask>(&mut self, link: Link, label: &str, version: i16, request: &R) -> R::Response {
        self.only_mine = true;
        let answer = self.ask_on(link, label, version, request);
        self.only_mine = false;
        answer
    }

    /// Sends a request whose answer is collected later.
    pub fn send<R: Ask>(&mut self, link: Link, version: i16, request: &R) -> Awaited<R> {
        let shown = describe_request(version, request).replace(&self.mark, "");
        let pending = self.connection(link).and_then(|connection| connection.send(version, request));
        match pending {
            Ok(pending) => Awaited { link, request: shown, pending: Some(pending) },
            Err(why) => {
                self.links[link.0].1 = None;
                Awaited { link, request: format!("{shown} ({why})"), pending: None }
            }
        }
    }

    /// Collects the answer to a request sent before; it is compared.
    pub fn collect<R: Ask>(&mut self, label: &str, awaited: Awaited<R>) -> R::Response {
        let Awaited { link, request, pending } = awaited;
        let answered = pending.ok_or(NoAnswer::Closed).and_then(|pending| self.connection(link)?.receive(pending));
        let (mut tree, answer) = match answered {
            Ok(answer) => (tree::tree_of(&answer).expect("derived debug text can be read back"), answer),
            Err(why) => {
                self.links[link.0].1 = None;
                self.silences += usize::from(why == NoAnswer::Silent);
                (Value::String(why.to_string()), R::Response::default())
            }
        };
        if self.only_mine {
            keep_rows_of(&format!("{}-", self.script), &self.mark, &mut tree);
        }
        let answer_tree = self.names.normalised(R::KEY, tree);
        self.steps.push(Step { label: label.to_owned(), request, answer: answer_tree });
        answer
    }

    /// Whether something to read arrives on `link` within this time; a closed connection counts.
    pub fn answers_within(&mut self, link: Link, wait: Duration) -> bool {
        self.connection(link).is_ok_and(|connection| connection.answers_within(wait))
    }

    /// Sends a request that has no answer.
    pub fn tell<R: Ask>(&mut self, link: Link, version: i16, request: &R) {
        // The pending answer is dropped: a produce with `acks=0` has none.
        drop(self.send(link, version, request));
    }

    /// Sends raw bytes and records whether an answer came, and how many bytes it had.
    pub fn ask_bytes(&mut self, label: &str, bytes: &[u8]) {
        let answered = self.connection(MAIN).and_then(|connection| {
            connection.send_bytes(bytes)?;
            connection.receive_frame()
        });
        let answer = match answered {
            Ok(frame) => json!({ "bytes": frame.len() }),
            Err(why) => {
                self.links[MAIN.0].1 = None;
                Value::String(why.to_string())
            }
        };
        self.note(label, answer);
    }

    /// Whether the broker has closed `link` by now or does so soon: recorded, as for a produce with `acks=0` gone wrong.
    pub fn expect_close(&mut self, link: Link, label: &str) {
        let answered = self.connection(link).and_then(Connection::receive_frame);
        self.links[link.0].1 = None;
        self.note(label, Value::String(answered.map_or_else(|why| why.to_string(), |_| "an answer".to_owned())));
    }

    /// Asks without recording: for setting the stage.
    pub fn quietly<R: Ask>(&mut self, version: i16, request: &R) -> Option<R::Response> {
        self.quietly_on(MAIN, version, request)
    }

    /// The same on another connection.
    pub fn quietly_on<R: Ask>(&mut self, link: Link, version: i16, request: &R) -> Option<R::Response> {
        let answered = self.connection(link).and_then(|connection| connection.call(version, request));
        if answered.is_err() {
            self.links[link.0].1 = None;
        }
        answered.ok()
    }

    /// Records an observation of the script's own.
    pub fn note(&mut self, label: &str, observed: impl Into<Value>) {
        self.steps.push(Step { label: label.to_owned(), request: String::new(), answer: observed.into() });
    }

    /// Repeats `settled` until it holds; Kafka carries out what it accepted a moment later.
    pub fn until(&mut self, what: &str, mut settled: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + SETTLED_WITHIN;
        while !settled(self) {
            if Instant::now() > deadline || self.silences >= SILENCES_MAX {
                self.note(what, "did not happen");
                return;
            }
            crate::runtime::breathe();
        }
    }

    /// Creates a topic, unrecorded, and awaits its leaders.
    pub fn create_topic(&mut self, base: &str, partitions: i32) -> TopicName {
        self.create_topic_with(base, partitions, &[])
    }

    /// Creates a topic with settings of its own, unrecorded, and awaits its leaders.
    pub fn create_topic_with(&mut self, base: &str, partitions: i32, configs: &[(&str, &str)]) -> TopicName {
        let name = self.topic(base);
        let config = |(key, value): &(&str, &str)| {
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_string((*key).to_owned()))
                .with_value(Some(StrBytes::from_string((*value).to_owned())))
        };
        let topic = CreatableTopic::default()
            .with_name(name.clone())
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(configs.iter().map(config).collect());
        self.quietly(5, &CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000));
        self.await_leaders(&name, partitions);
        name
    }

    /// Awaits that `topic` has `partitions` partitions, each with a leader that serves it.
    ///
    /// Both must be asked: Kafka's metadata name a leader a moment before that leader has opened its log.
    pub fn await_leaders(&mut self, topic: &TopicName, partitions: i32) {
        let led = usize::try_from(partitions).unwrap_or(0);
        let ends = latest_offsets(topic, partitions);
        self.until("the topic's leaders serve", |stage| {
            let answer = stage.quietly(5, &ends);
            answer.is_some_and(|answer| {
                let rows = answer.topics.iter().flat_map(|topic| &topic.partitions);
                rows.filter(|row| row.error_code == 0).count() == led
            })
        });
        self.until("the topic's leaders", |stage| {
            let answer = stage.quietly(9, &metadata_of(topic));
            answer.is_some_and(|answer| {
                answer.topics.iter().any(|topic| {
                    topic
                        .partitions
                        .iter()
                        .filter(|partition| partition.error_code == 0 && partition.leader_id.0 >= 0)
                        .count()
                        == led
                })
            })
        });
    }

    /// Awaits that `topic` is gone.
    pub fn await_gone(&mut self, topic: &TopicName) {
        self.until("the topic's end", |stage| {
            let answer = stage.quietly(9, &metadata_of(topic));
            answer.is_some_and(|answer| answer.topics.iter().all(|topic| topic.error_code != 0))
        });
    }

    /// The id Kafka gave to `topic`.
    pub fn topic_id(&mut self, topic: &TopicName) -> uuid::Uuid {
        let answer = self.quietly(12, &metadata_of(topic)).unwrap_or_default();
        answer.topics.first().map(|topic| topic.topic_id).unwrap_or_default()
    }

    /// The first group makes Kafka create the topic of offsets; scripts start after that.
    fn await_coordinator(&mut self) {
        let find = FindCoordinatorRequest::default().with_key("warm-up".into());
        let fetch =
            OffsetFetchRequest::default().with_group_id(StrBytes::from_static_str("warm-up").into()).with_topics(None);
        self.until("a coordinator", |stage| {
            stage.quietly(1, &find).is_some_and(|found| found.error_code == 0)
                && stage.quietly(5, &fetch).is_some_and(|fetched| fetched.error_code == 0)
        });
    }

    fn connection(&mut self, link: Link) -> Result<&mut Connection, NoAnswer> {
        if self.silences >= SILENCES_MAX {
            return Err(NoAnswer::Unsent(format!("given up after {SILENCES_MAX} requests without an answer")));
        }
        let login = self.logins.get(&link.0);
        let address = if login.is_some() { &self.guarded } else { &self.bootstrap };
        let (client_id, connection) = &mut self.links[link.0];
        if connection.is_none() {
            let opened = Connection::open(address, client_id);
            let mut opened = opened.map_err(|error| NoAnswer::Unsent(format!("{error:#}")))?;
            if let Some(Some((user, password))) = login {
                let token = format!("\0{user}\0{password}").into_bytes();
                opened.call(1, &SaslHandshakeRequest::default().with_mechanism("PLAIN".into()))?;
                opened.call(2, &SaslAuthenticateRequest::default().with_auth_bytes(token.into()))?;
            }
            *connection = Some(opened);
        }
        connection.as_mut().ok_or(NoAnswer::Closed)
    }
}

/// Asks for one topic and creates none.
#[must_use]
pub fn metadata_of(topic: &TopicName) -> MetadataRequest {
    let topic = MetadataRequestTopic::default().with_name(Some(topic.clone()));
    MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(false)
}

fn latest_offsets(topic: &TopicName, partitions: i32) -> ListOffsetsRequest {
    let row = |index| ListOffsetsPartition::default().with_partition_index(index).with_timestamp(-1);
    let topic =
        ListOffsetsTopic::default().with_name(topic.clone()).with_partitions((0..partitions).map(row).collect());
    ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic])
}

fn describe_request<R: Ask>(version: i16, request: &R) -> String {
    let api = ApiKey::try_from(R::KEY).map_or_else(|()| format!("api {}", R::KEY), |api| format!("{api:?}"));
    let text = format!("{request:?}").replace(", unknown_tagged_fields: {}", "");
    format!("{api} v{version} {text}")
}

/// Keeps, in every array at the top of an answer, the rows whose name starts and ends as the script's own do.
fn keep_rows_of(prefix: &str, mark: &str, answer: &mut Value) {
    let Value::Object(fields) = answer else { return };
    for value in fields.values_mut() {
        if let Value::Array(rows) = value {
            rows.retain(|row| {
                let name = ["name", "group_id", "topic"].iter().find_map(|key| row.get(key)?.as_str());
                name.is_none_or(|name| name.starts_with(prefix) && name.ends_with(mark))
            });
        }
    }
}

// ---- what is not compared --------------------------------------------------------------------------------------------

/// Part of every name a script invents, so that a second run on the same broker starts afresh; never seen in a transcript.
static RUN: LazyLock<String> = LazyLock::new(|| format!("-{:08x}", (now_ms() & 0xffff_ffff).cast_unsigned()));

/// An hour ago, to the second: the time of a script's first record. The same for both brokers.
pub static EARLIER: LazyLock<i64> = LazyLock::new(|| now_ms() / 1000 * 1000 - 3_600_000);

/// Times later than this were taken from a broker's clock.
static SCRIPTED_TIMES_END: LazyLock<i64> = LazyLock::new(|| *EARLIER + 1_800_000);

/// Answers in which the order of the rows is promised.
const ORDERED: [ApiKey; 1] = [ApiKey::DescribeTopicPartitions];

/// Answers whose numbers come out of hash sets.
const UNORDERED_NUMBERS: [ApiKey; 1] = [ApiKey::DescribeTransactions];

/// Fields by which a row is told from its neighbours.
const ROW_NAMES: [&str; 21] = [
    "user",
    "mechanism",
    "principal",
    "operation",
    "api_key",
    "name",
    "topic",
    "topic_id",
    "group_id",
    "transactional_id",
    "resource_name",
    "partition_index",
    "index",
    "partition",
    "node_id",
    "broker_id",
    "group_instance_id",
    "subtopology_id",
    "key",
    "entity_type",
    "entity_name",
];

/// Settings that say where a broker lives.
const PLACES: [&str; 5] = ["advertised.listeners", "controller.quorum.voters", "listeners", "log.dir", "log.dirs"];

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    i64::try_from(since.as_millis()).expect("the clock is before the year 292 million")
}

/// The symbols given so far on one broker.
#[derive(Debug, Default)]
struct Names {
    /// The run's mark, which is left out of every text.
    mark: String,
    given: HashMap<(&'static str, String), String>,
    counts: BTreeMap<&'static str, usize>,
}

impl Names {
    fn normalised(&mut self, api_key: i16, mut tree: Value) -> Value {
        let ordered = ORDERED.iter().any(|api| *api as i16 == api_key);
        read_records(&mut tree);
        if !ordered {
            self.sort_rows(&mut tree);
        }
        if UNORDERED_NUMBERS.iter().any(|api| *api as i16 == api_key) {
            sort_numbers(&mut tree);
        }
        self.replace("", &mut tree);
        tree
    }

    /// Puts every array of named rows into the order of those names, inner arrays first.
    fn sort_rows(&self, tree: &mut Value) {
        match tree {
            Value::Object(fields) => {
                for (name, value) in fields.iter_mut() {
                    match value {
                        // A set in Java: its order is another each time Kafka starts (`Set.copyOf`).
                        Value::Array(names) if matches!(name.as_str(), "subscribed_topic_names" | "mechanisms") => {
                            names.sort_by_key(Value::to_string);
                        }
                        // The sources of a setting come in the order of precedence.
                        _ if name == "synonyms" => {}
                        _ => self.sort_rows(value),
                    }
                }
            }
            Value::Array(rows) => {
                rows.iter_mut().for_each(|row| self.sort_rows(row));
                rows.sort_by_cached_key(|row| self.row_key(row));
            }
            _ => {}
        }
    }

    /// What a row is called, unknown ids left out: those are named in the order that comes of this.
    fn row_key(&self, row: &Value) -> Vec<String> {
        let part = |name: &&str| match row.get(*name) {
            Some(Value::Number(number)) => format!("{:012}", number.as_i64().unwrap_or(0)),
            Some(Value::String(text)) => match id_kind(name) {
                Some(kind) => self.given.get(&(kind, text.clone())).cloned().unwrap_or_default(),
                None => text.clone(),
            },
            _ => String::new(),
        };
        let producer = row.get("producer_id").map(Value::to_string).unwrap_or_default();
        let producer = self.given.get(&("producer", producer)).cloned().unwrap_or_default();
        ROW_NAMES.iter().chain(&["member_id", "client_id", "metadata"]).map(part).chain([producer]).collect()
    }

    fn replace(&mut self, field: &str, tree: &mut Value) {
        match tree {
            Value::Object(fields) => self.replace_fields(fields),
            Value::Array(rows) => rows.iter_mut().for_each(|row| self.replace(field, row)),
            _ => {
                if let Some(symbol) = self.symbol(field, tree) {
                    *tree = symbol;
                } else if let Value::String(text) = tree {
                    *text = self.readable(text);
                }
            }
        }
    }

    fn replace_fields(&mut self, fields: &mut Map<String, Value>) {
        fields.remove("throttle_time_ms");
        fields.retain(|name, value| {
            name != "unknown_tagged_fields" || value.as_object().is_some_and(|tags| !tags.is_empty())
        });
        let is_own_place = fields.get("name").and_then(Value::as_str).is_some_and(|name| PLACES.contains(&name));
        for (name, value) in fields.iter_mut() {
            match is_own_place && name == "value" && !value.is_null() {
                true => *value = "its own".into(),
                false => self.replace(name, value),
            }
        }
    }

    /// The symbol for the value of a field that holds an id, an address or a time; `None` for what is compared as it is.
    fn symbol(&mut self, field: &str, value: &Value) -> Option<Value> {
        if matches!(field, "host" | "port" | "cluster_id") && !value.is_null() {
            return Some(Value::String(field.to_owned()));
        }
        if field == "log_dir" && !value.is_null() {
            return Some("its own".into());
        }
        if let Some(number) = value.as_i64() {
            let is_time = field.contains("timestamp") || field.ends_with("time_ms");
            return match field {
                _ if is_time && number > *SCRIPTED_TIMES_END => Some("the broker's time".into()),
                _ if is_time && number >= *EARLIER => Some(format!("start + {} ms", number - *EARLIER).into()),
                "total_bytes" | "usable_bytes" if number > 0 => Some("as much as the disk has".into()),
                "finalized_features_epoch" if number >= 0 => Some("an epoch".into()),
                "producer_id" if number >= 0 => Some(self.name_for("producer", number.to_string()).into()),
                "session_id" if number > 0 => Some(self.name_for("session", number.to_string()).into()),
                _ => None,
            };
        }
        if (field.ends_with("error_message") || field == "status_detail")
            && value.as_str().is_some_and(|text| !text.is_empty())
        {
            return Some("a message".into());
        }
        let text = value.as_str().filter(|text| !text.is_empty() && *text != NIL_UUID)?;
        id_kind(field).map(|kind| self.name_for(kind, text.to_owned()).into())
    }

    fn name_for(&mut self, kind: &'static str, id: String) -> String {
        let count = self.counts.entry(kind).or_default();
        self.given
            .entry((kind, id))
            .or_insert_with(|| {
                *count += 1;
                format!("{kind}#{count}")
            })
            .clone()
    }

    /// Free text with the run's mark and every id seen so far put into words.
    fn readable(&self, text: &str) -> String {
        let mut readable =
            without_times(&if self.mark.is_empty() { text.to_owned() } else { text.replace(&self.mark, "") });
        for ((kind, id), symbol) in &self.given {
            if matches!(*kind, "member" | "topic") {
                readable = readable.replace(id.as_str(), symbol);
            }
        }
        readable
    }
}

/// Puts the numbers of every array in order.
fn sort_numbers(tree: &mut Value) {
    match tree {
        Value::Object(fields) => fields.values_mut().for_each(sort_numbers),
        Value::Array(rows) => {
            rows.iter_mut().for_each(sort_numbers);
            rows.sort_by_key(Value::as_i64);
        }
        _ => {}
    }
}

/// Free text in which numbers as long as a time in milliseconds are put into words.
fn without_times(text: &str) -> String {
    let mut readable = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|char: char| char.is_ascii_digit()) {
        let (before, from) = rest.split_at(start);
        let (digits, after) = from.split_at(from.find(|char: char| !char.is_ascii_digit()).unwrap_or(from.len()));
        readable.push_str(before);
        match digits.parse::<i64>() {
            Ok(time) if (*EARLIER..*SCRIPTED_TIMES_END).contains(&time) => {
                let _ = write!(readable, "start + {} ms", time - *EARLIER);
            }
            _ if digits.len() >= TIME_DIGITS => readable.push_str("some time"),
            _ => readable.push_str(digits),
        }
        rest = after;
    }
    readable + rest
}

/// A time of this century in milliseconds has as many.
const TIME_DIGITS: usize = 13;

const NIL_UUID: &str = "00000000-0000-0000-0000-000000000000";

fn id_kind(field: &str) -> Option<&'static str> {
    match field {
        "topic_id" => Some("topic"),
        "member_id" | "leader" => Some("member"),
        _ => None,
    }
}

/// Replaces the bytes of every field of records by what the batches in them say.
fn read_records(tree: &mut Value) {
    match tree {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                match value.as_str().filter(|_| name == "records").and_then(tree::bytes_of) {
                    Some(bytes) => *value = batch::describe(&bytes),
                    None => read_records(value),
                }
            }
        }
        Value::Array(rows) => rows.iter_mut().for_each(read_records),
        _ => {}
    }
}

// ---- comparing -------------------------------------------------------------------------------------------------------

fn differences(ours: &[Step], kafka: &[Step]) -> Vec<Difference> {
    let mut found = Vec::new();
    for (ours, kafka) in ours.iter().zip(kafka) {
        if ours.label != kafka.label {
            found.push(Difference {
                step: kafka.label.clone(),
                request: kafka.request.clone(),
                path: "(step)".to_owned(),
                ours: ours.label.clone(),
                kafka: kafka.label.clone(),
            });
            return found;
        }
        if kafka.answer == NoAnswer::Silent.to_string() {
            // Two brokers that say nothing agree about nothing.
            found.push(Difference {
                step: ours.label.clone(),
                request: ours.request.clone(),
                path: "(silence)".to_owned(),
                ours: show(Some(&ours.answer)),
                kafka: show(Some(&kafka.answer)),
            });
            continue;
        }
        compare("", Some(&ours.answer), Some(&kafka.answer), &mut |path, left, right| {
            found.push(Difference {
                step: ours.label.clone(),
                request: ours.request.clone(),
                path: path.to_owned(),
                ours: show(left),
                kafka: show(right),
            });
        });
    }
    if ours.len() != kafka.len() {
        found.push(Difference {
            step: "(end)".to_owned(),
            request: String::new(),
            path: "(steps)".to_owned(),
            ours: ours.len().to_string(),
            kafka: kafka.len().to_string(),
        });
    }
    found
}

fn compare(
    path: &str,
    ours: Option<&Value>,
    kafka: Option<&Value>,
    found: &mut impl FnMut(&str, Option<&Value>, Option<&Value>),
) {
    match (ours, kafka) {
        (Some(Value::Object(ours)), Some(Value::Object(kafka))) => {
            let names: std::collections::BTreeSet<&String> = ours.keys().chain(kafka.keys()).collect();
            for name in names {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                compare(&path, ours.get(name), kafka.get(name), found);
            }
        }
        (Some(Value::Array(ours)), Some(Value::Array(kafka))) => compare_rows(path, ours, kafka, found),
        _ if ours == kafka => {}
        _ => found(path, ours, kafka),
    }
}

/// Rows are paired by their names where both sides have them once, by position otherwise.
fn compare_rows(
    path: &str,
    ours: &[Value],
    kafka: &[Value],
    found: &mut impl FnMut(&str, Option<&Value>, Option<&Value>),
) {
    match (by_name(ours), by_name(kafka)) {
        (Some(ours), Some(kafka)) => {
            let names: std::collections::BTreeSet<&String> = ours.keys().chain(kafka.keys()).collect();
            for name in names {
                compare(&format!("{path}[{name}]"), ours.get(name).copied(), kafka.get(name).copied(), found);
            }
        }
        _ => {
            for index in 0..ours.len().max(kafka.len()) {
                compare(&format!("{path}[{index}]"), ours.get(index), kafka.get(index), found);
            }
        }
    }
}

/// The rows by the first of their naming fields that is set; `None` when one has none or two share it.
fn by_name(rows: &[Value]) -> Option<BTreeMap<String, &Value>> {
    let mut named = BTreeMap::new();
    for row in rows {
        let name = ROW_NAMES.iter().find_map(|field| match row.get(*field)? {
            Value::String(text) if !text.is_empty() && text != NIL_UUID => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })?;
        if named.insert(name, row).is_some() {
            return None;
        }
    }
    Some(named)
}

fn show(value: Option<&Value>) -> String {
    value.map_or_else(|| "(absent)".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(answer: Value) -> Vec<Step> {
        vec![Step {
            label: "a step".to_owned(),
            request: String::new(),
            answer: Names::default().normalised(3, answer),
        }]
    }

    fn paths(ours: Value, kafka: Value) -> Vec<String> {
        differences(&step(ours), &step(kafka)).into_iter().map(|difference| difference.path).collect()
    }

    #[test]
    fn rows_are_paired_by_name_and_differences_named_by_path() {
        let ours = json!({"topics": [{"name": "b", "error_code": 0}, {"name": "a", "error_code": 3}]});
        let kafka = json!({"topics": [{"name": "a", "error_code": 0}, {"name": "b", "error_code": 0}, {"name": "c"}]});

        assert_eq!(paths(ours, kafka), ["topics[a].error_code", "topics[c]"]);
    }

    #[test]
    fn ids_are_the_same_when_they_are_used_alike() {
        let one = "11111111-1111-1111-1111-111111111111";
        let two = "22222222-2222-2222-2222-222222222222";
        let rows =
            |first: &str, second: &str| json!({"rows": [{"x": 1, "topic_id": first}, {"x": 2, "topic_id": second}]});

        assert!(paths(rows(one, two), rows(two, one)).is_empty());
        assert_eq!(paths(rows(one, one), rows(one, two)), ["rows[1].topic_id"]);
    }

    #[test]
    fn clocks_and_addresses_are_not_compared_but_their_absence_is() {
        let at = |time: i64, port: i64| json!({"log_append_time_ms": time, "port": port, "throttle_time_ms": port});

        assert!(paths(at(now_ms(), 1), at(now_ms() - 1, 2)).is_empty());
        assert_eq!(paths(at(now_ms(), 1), at(-1, 2)), ["log_append_time_ms"]);
    }
}
