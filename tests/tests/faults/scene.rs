//! Plays a scene with a fault and without it, and the clients that are in it.

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rehearsal_mockbroker::fault::{Fault, Requests};
use rehearsal_mockbroker::testing::{Builder, MockCluster, PlannedFault};
use rehearsal_mockbroker::wire::ApiKey;
use std::cell::RefCell;
use std::fmt::Debug;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// The topic of most scenes.
pub(crate) const ORDERS: &str = "orders";
/// Longer than a client needs on a busy machine; nobody waits for it when all goes well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than any client waits for anything; only [`MockCluster::advance`] gets past it.
pub(crate) const LONG: Duration = Duration::from_secs(3_600);

/// What was seen with a fault and without it.
#[derive(Debug, PartialEq)]
pub(crate) struct Seen<T> {
    pub(crate) with: T,
    pub(crate) without: T,
}

/// Where a scene is played.
pub(crate) struct Stage<'a> {
    pub(crate) kafka: &'a MockCluster,
    fault: Option<PlannedFault>,
    act: &'a dyn Fn(&MockCluster),
    strikes: bool,
}

impl<'a> Stage<'a> {
    /// Without a fault.
    pub(crate) fn plain(kafka: &'a MockCluster) -> Self {
        Self { kafka, fault: None, act: &|_| {}, strikes: false }
    }

    /// Lets the cluster fault of this scene happen, if it is to.
    pub(crate) fn strike(&self) {
        if self.strikes {
            (self.act)(self.kafka);
        }
    }

    /// The fault, if it is planned.
    pub(crate) fn fault(&self) -> Option<&PlannedFault> {
        self.fault.as_ref()
    }

    /// Lets go of what the fault holds, once it does.
    pub(crate) fn release(&self) {
        if let Some(fault) = &self.fault {
            self.kafka.wait_up_to(PATIENCE).held(fault).blocking().expect("it holds something");
            fault.release();
        }
    }

    /// The values in a partition.
    pub(crate) fn stored(&self, topic: &str, partition: i32) -> Vec<String> {
        let records = self.kafka.records(topic, partition).expect("it exists");
        records.iter().map(|stored| String::from_utf8_lossy(stored.value().unwrap_or_default()).into_owned()).collect()
    }

    /// Waits for so many requests to have arrived.
    pub(crate) fn wait_for_requests(&self, which: Requests, count: usize) {
        self.kafka.wait_up_to(PATIENCE).requests(which, count).blocking().expect("they arrive");
    }

    pub(crate) fn count(&self, which: Requests) -> usize {
        self.kafka.requests(which).len()
    }

    /// The brokers all requests of an API went to, in order.
    pub(crate) fn asked(&self, api: ApiKey) -> Vec<i32> {
        self.kafka.requests(Requests::of(api)).iter().map(|request| request.node.0).collect()
    }

    /// The broker the last request of an API went to.
    pub(crate) fn last_asked(&self, api: ApiKey) -> i32 {
        self.kafka.requests(Requests::of(api)).last().expect("one arrived").node.0
    }

    pub(crate) fn leader(&self, topic: &str, partition: usize) -> i32 {
        self.kafka.view().topic(topic).expect("it exists").partitions[partition].leader.expect("one leads").0
    }

    /// A producer that does not try again unless it is told to.
    pub(crate) fn producer(&self, settings: &[(&str, &str)]) -> Producer {
        let once = [("retries", "0"), ("linger.ms", "0"), ("message.timeout.ms", "20000")];
        let (context, deliveries, stats) = Context::new();
        let config = config(self.kafka, &[&once, settings].concat());
        let client = BaseProducer::from_config_and_context(&config, context).expect("good settings");
        Producer { client, deliveries, stats }
    }

    /// A consumer of one partition, from its beginning, outside of any group.
    pub(crate) fn reader(&self, topic: &str, partition: i32, settings: &[(&str, &str)]) -> BaseConsumer {
        let alone = [("group.id", "nobody"), ("auto.offset.reset", "earliest"), ("enable.auto.commit", "false")];
        let consumer = self.consumer(&[&alone, settings].concat());
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(0)).expect("an offset");
        consumer.assign(&list).expect("nobody else assigns");
        consumer
    }

    pub(crate) fn consumer(&self, settings: &[(&str, &str)]) -> BaseConsumer {
        BaseConsumer::from_config(&config(self.kafka, settings)).expect("good settings")
    }
}

/// Settings of a client that gives up and comes back soon.
pub(crate) fn config(kafka: &MockCluster, settings: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", kafka.bootstrap_servers())
        .set("reconnect.backoff.ms", "10")
        .set("reconnect.backoff.max.ms", "50")
        .set("retry.backoff.ms", "10")
        .set("topic.metadata.refresh.fast.interval.ms", "20")
        .set("socket.timeout.ms", "10000")
        .set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg);
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config
}

/// One broker, and [`ORDERS`] with one partition.
pub(crate) fn one_broker() -> Builder {
    MockCluster::builder().topic(ORDERS, 1)
}

/// Two brokers, and [`ORDERS`] with one partition on both.
pub(crate) fn two_brokers() -> Builder {
    MockCluster::builder().brokers(2).topic(ORDERS, 1)
}

/// Plays a scene with a fault planned from the start, and without.
pub(crate) fn with_and_without<T: PartialEq + Debug>(
    cluster: Builder,
    fault: Fault,
    scene: impl Fn(&Stage<'_>) -> T,
) -> Seen<T> {
    let play = |fault: Option<Fault>| {
        let kafka = cluster.clone().start().expect("free ports");
        let fault = fault.map(|fault| kafka.plan(fault).expect("it can happen"));
        scene(&Stage { kafka: &kafka, fault, act: &|_| {}, strikes: false })
        // Dropping the cluster fails where the fault never fired.
    };
    different(Seen { with: play(Some(fault)), without: play(None) })
}

/// Plays a scene in which [`Stage::strike`] does this to the cluster, and one in which it does nothing.
pub(crate) fn struck_or_not<T: PartialEq + Debug>(
    cluster: Builder,
    act: impl Fn(&MockCluster),
    scene: impl Fn(&Stage<'_>) -> T,
) -> Seen<T> {
    let play = |strikes| {
        let kafka = cluster.clone().start().expect("free ports");
        scene(&Stage { kafka: &kafka, fault: None, act: &act, strikes })
    };
    different(Seen { with: play(true), without: play(false) })
}

fn different<T: PartialEq + Debug>(seen: Seen<T>) -> Seen<T> {
    assert_ne!(seen.with, seen.without, "the fault makes no difference to the client");
    seen
}

// ---- a producer ----

/// What became of a record: its offset, or why it has none.
pub(crate) type Sent = Result<i64, RDKafkaErrorCode>;

/// A producer whose deliveries are awaited one by one.
pub(crate) struct Producer {
    client: BaseProducer<Context>,
    deliveries: Receiver<(String, Sent)>,
    stats: Receiver<Statistics>,
}

impl Producer {
    /// Sends to partition 0 of [`ORDERS`] and waits.
    pub(crate) fn send(&self, value: &str) -> Sent {
        self.send_to(ORDERS, 0, value)
    }

    pub(crate) fn send_to(&self, topic: &str, partition: i32, value: &str) -> Sent {
        // What a client knows to be impossible it says before it asks.
        match self.try_begin(topic, partition, value) {
            Ok(()) => self.delivered().1,
            Err(refused) => Err(refused),
        }
    }

    /// Sends without waiting.
    pub(crate) fn begin(&self, topic: &str, partition: i32, value: &str) {
        self.try_begin(topic, partition, value).expect("the queue has room");
    }

    fn try_begin(&self, topic: &str, partition: i32, value: &str) -> Result<(), RDKafkaErrorCode> {
        let record = BaseRecord::<(), str>::to(topic).partition(partition).payload(value);
        self.client.send(record).map_err(|(error, _)| code(&error))
    }

    /// The next delivery: what was sent, and what became of it.
    pub(crate) fn delivered(&self) -> (String, Sent) {
        self.heard(&self.deliveries).expect("every record is delivered or given up")
    }

    /// What became of the record sent last, if anything has yet.
    pub(crate) fn delivered_yet(&self) -> Option<Sent> {
        self.client.poll(Duration::ZERO);
        self.deliveries.try_recv().ok().map(|(_, sent)| sent)
    }

    /// Waits for statistics that fit. Needs `statistics.interval.ms`.
    pub(crate) fn stats_until(&self, fits: impl Fn(&Statistics) -> bool) {
        while !fits(&self.heard(&self.stats).expect("statistics that fit")) {}
    }

    /// Waits for the next statistics.
    pub(crate) fn next_stats(&self) -> Statistics {
        self.stats.try_iter().for_each(drop);
        self.heard(&self.stats).expect("statistics")
    }

    /// Serves the client's callbacks until one of them says something.
    fn heard<T>(&self, from: &Receiver<T>) -> Option<T> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            match from.try_recv() {
                Ok(told) => return Some(told),
                // It returns when its time is up, whatever has come meanwhile.
                Err(_) => self.client.poll(Duration::from_millis(2)),
            };
        }
        None
    }

    pub(crate) fn metadata(&self, topic: Option<&str>) -> Result<rdkafka::metadata::Metadata, RDKafkaErrorCode> {
        self.client.client().fetch_metadata(topic, PATIENCE).map_err(|error| code(&error))
    }
}

pub(crate) struct Context {
    deliveries: Sender<(String, Sent)>,
    stats: Sender<Statistics>,
}

impl Context {
    fn new() -> (Self, Receiver<(String, Sent)>, Receiver<Statistics>) {
        let ((deliveries, delivered), (stats, told)) = (channel(), channel());
        (Self { deliveries, stats }, delivered, told)
    }
}

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        let _ = self.stats.send(statistics); // the test may be over
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let value = |message: &dyn Fn() -> Option<Vec<u8>>| {
            String::from_utf8_lossy(&message().unwrap_or_default()).into_owned()
        };
        let told = match result {
            Ok(message) => (value(&|| message.payload().map(<[u8]>::to_vec)), Ok(message.offset())),
            Err((error, message)) => (value(&|| message.payload().map(<[u8]>::to_vec)), Err(code(error))),
        };
        let _ = self.deliveries.send(told); // the test may be over
    }
}

pub(crate) fn code(error: &KafkaError) -> RDKafkaErrorCode {
    error.rdkafka_error_code().unwrap_or_else(|| panic!("an error without a code: {error}"))
}

// ---- a consumer ----

/// The next record: offset and value; or the error the client is told.
pub(crate) fn next(consumer: &BaseConsumer) -> Result<(i64, String), RDKafkaErrorCode> {
    match consumer.poll(PATIENCE).expect("a record or an error") {
        Ok(message) => {
            Ok((message.offset(), String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned()))
        }
        Err(error) => Err(code(&error)),
    }
}

thread_local! {
    static RUNTIME: RefCell<tokio::runtime::Runtime> =
        RefCell::new(tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"));
}

/// Waits for what only comes as a future: the answers an administrator gets.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.with_borrow(|runtime| runtime.block_on(future))
}
