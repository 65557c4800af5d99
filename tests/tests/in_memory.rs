//! A cluster without a socket: clients that bring their own connector, raw bytes, virtual time, every kind of runtime and
//! none.
//!
//! Under `start_paused` tokio's clock is the cluster's: while everybody waits it leaps to whatever is due next, so hours
//! pass at once and a timeout is met to the millisecond.

use anyhow::Result;
use bytes::{Buf, Bytes};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiVersionsRequest, BrokerId, FetchRequest, FetchResponse, MetadataRequest, ProduceRequest, ResponseHeader,
    TopicName,
};
use kafka_protocol::protocol::{Decodable, HeaderVersion, Request, StrBytes};
use kafkit_client::{
    AdminConfig, ConnectedTcpStream, ConsumerConfig, KafkaAdmin, KafkaConsumer, KafkaMessage, KafkaProducer, NewTopic,
    ProducerConfig, TcpConnector, TopicPartition,
};
use rehearsal_mockbroker::error::ErrorCode;
use rehearsal_mockbroker::fault::{Fault, Requests};
use rehearsal_mockbroker::testing::{BrokerStream, ConnectError, MockCluster, PlannedFault, Wait};
use rehearsal_mockbroker::wire::ApiKey;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant as RealTime};
use tests::batch::Batch;
use tests::raw::frame_of;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

const HOUR: Duration = Duration::from_secs(3_600);

// ---- a client that takes a connector of one's own ----

/// Connects a client to brokers in this process.
#[derive(Debug, Clone)]
struct InProcess(Arc<MockCluster>);

impl TcpConnector for InProcess {
    fn connect<'a>(
        &'a self,
        address: &'a str,
        _timeout: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<ConnectedTcpStream>> + Send + 'a>> {
        Box::pin(async move { Ok(ConnectedTcpStream::Custom(Box::new(self.0.stream_to(address)?))) })
    }
}

impl InProcess {
    fn start() -> Self {
        let cluster = MockCluster::builder().brokers(3).topic("orders", 2).in_memory().start();
        Self(Arc::new(cluster.expect("nothing to bind, nothing to refuse")))
    }

    fn bootstrap(&self) -> Vec<String> {
        self.0.bootstrap_servers().split(',').map(str::to_owned).collect()
    }

    async fn producer(&self, change: impl FnOnce(ProducerConfig) -> ProducerConfig) -> KafkaProducer {
        let config = ProducerConfig::new("")
            .with_bootstrap_servers(self.bootstrap())
            .with_tcp_connector(Arc::new(self.clone()))
            .with_enable_idempotence(true)
            // Measured by the machine's clock, which a test does not wait for.
            .with_retry_backoff(Duration::ZERO);
        KafkaProducer::connect(change(config)).await.expect("the brokers answer")
    }

    async fn admin(&self) -> KafkaAdmin {
        let config = AdminConfig::new("").with_bootstrap_servers(self.bootstrap());
        KafkaAdmin::connect(config.with_tcp_connector(Arc::new(self.clone()))).await.expect("the brokers answer")
    }

    async fn consumer(&self, group: &str) -> KafkaConsumer {
        let config = ConsumerConfig::new("", group).with_bootstrap_servers(self.bootstrap());
        KafkaConsumer::connect(config.with_tcp_connector(Arc::new(self.clone()))).await.expect("the brokers answer")
    }
}

fn to_partition(partition: i32, value: &str) -> KafkaMessage {
    KafkaMessage::new(value.to_owned()).with_topic("orders").with_partition(partition)
}

/// Creates, writes, reads: what a service does in a day.
async fn a_client_creates_writes_and_reads() {
    let kafka = InProcess::start();
    let admin = kafka.admin().await;
    admin.create_topics([NewTopic::new("audit", 1, 3)]).await.unwrap();
    let mut topics: Vec<_> = admin.list_topics().await.unwrap().into_iter().map(|topic| topic.name).collect();
    topics.sort();
    assert_eq!(topics, ["audit", "orders"]);

    let producer = kafka.producer(|config| config).await;
    for (offset, value) in ["placed", "paid", "shipped"].into_iter().enumerate() {
        let written = producer.send(to_partition(1, value)).await.unwrap();
        assert_eq!((written.partition, written.offset), (1, offset as i64));
    }
    producer.shutdown().await.unwrap();

    let consumer = kafka.consumer("shipping").await;
    let partition = TopicPartition::new("orders", 1);
    consumer.assign(vec![partition.clone()]).await.unwrap();
    consumer.seek_to_beginning(vec![partition]).await.unwrap();
    let mut read = Vec::new();
    while read.len() < 3 {
        let records = consumer.poll_for(Duration::from_secs(10)).await.unwrap();
        read.extend(records.iter().map(|record| record.value.clone().unwrap()));
    }
    assert_eq!(read, ["placed", "paid", "shipped"]);
    consumer.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_without_sockets_under_a_paused_clock() {
    a_client_creates_writes_and_reads().await;
}

#[tokio::test]
async fn a_client_without_sockets_on_one_thread() {
    a_client_creates_writes_and_reads().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_client_without_sockets_on_many_threads() {
    a_client_creates_writes_and_reads().await;
}

// ---- hours that pass at once ----

#[tokio::test(start_paused = true)]
async fn an_answer_that_takes_an_hour_takes_no_time() {
    let kafka = InProcess::start();
    let producer = kafka.producer(|config| config).await;
    let slow = kafka.0.plan(Fault::on(ApiKey::Produce).topic("orders").delay_answer(HOUR)).unwrap();
    let (virtually, really) = (Instant::now(), RealTime::now());

    let written = producer.send(to_partition(0, "placed")).await.unwrap();

    assert_eq!((written.offset, slow.hits()), (0, 1));
    assert!((HOUR..HOUR + Duration::from_secs(1)).contains(&virtually.elapsed()), "{:?}", virtually.elapsed());
    assert!(really.elapsed() < Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn a_timeout_shorter_than_the_delay_gives_up_and_a_longer_one_does_not() {
    for (max_block, enough) in [(HOUR / 2, false), (HOUR * 2, true)] {
        let kafka = InProcess::start();
        let producer = kafka.producer(|config| config.with_max_block(max_block)).await;
        kafka.0.plan(Fault::on(ApiKey::Metadata).topic("orders").delay_answer(HOUR)).unwrap();
        let began = Instant::now();

        let partitions = producer.partitions_for("orders").await;

        assert_eq!(partitions.is_ok(), enough, "{partitions:?}");
        let waited = began.elapsed();
        let expected = max_block.min(HOUR);
        assert!((expected..expected + Duration::from_secs(1)).contains(&waited), "{waited:?} of {expected:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_loses_its_connection_after_the_write_writes_it_once() {
    let kafka = InProcess::start();
    let producer = kafka.producer(|config| config).await;
    let cut = kafka.0.plan(Fault::on(ApiKey::Produce).topic("orders").disconnect_after_effect()).unwrap();

    let written = producer.send(to_partition(0, "placed")).await.unwrap();

    assert_eq!((written.offset, cut.hits()), (0, 1));
    assert_eq!(kafka.0.records("orders", 0).unwrap().len(), 1);
    assert_eq!(kafka.0.requests(Requests::of(ApiKey::Produce)).len(), 2, "it was sent twice, and stored once");
}

#[tokio::test(start_paused = true)]
async fn a_client_follows_a_leader_that_crashes() {
    let kafka = InProcess::start();
    let producer = kafka.producer(|config| config).await;
    producer.send(to_partition(0, "placed")).await.unwrap();
    let leader = kafka.0.view().topic("orders").unwrap().partitions[0].leader.unwrap().0;
    kafka.0.crash(leader).unwrap();

    let written = producer.send(to_partition(0, "paid")).await.unwrap();

    assert_eq!(written.offset, 1);
    let (_, address) = kafka.0.advertised().iter().find(|(node, _)| node.0 == leader).unwrap().clone();
    assert!(matches!(kafka.0.stream_to(&address), Err(ConnectError::Refused(_))), "nobody answers there");
    kafka.0.start_broker(leader).unwrap();
    assert!(kafka.0.stream_to(&address).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_day_without_a_record_is_a_wait_in_vain_that_takes_no_time() {
    let kafka = InProcess::start();
    let began = RealTime::now();
    let error = kafka.0.wait_up_to(24 * HOUR).records("orders", 1).await.unwrap_err();
    assert!(error.to_string().starts_with("waited 86400s for 1 record in 'orders', in vain"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(30));
}

// ---- raw bytes ----

/// A connection that says exactly what it is told.
struct Raw {
    stream: BrokerStream,
    sent: i32,
    received: i32,
}

impl Raw {
    fn open(kafka: &MockCluster, broker: i32) -> Self {
        Self { stream: kafka.stream(broker).expect("it runs"), sent: 0, received: 0 }
    }

    async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(version, request).await;
        self.receive::<R>(version).await
    }

    async fn send<R: Request>(&mut self, version: i16, request: &R) {
        self.sent += 1;
        let frame = frame_of("raw", self.sent, version, request).unwrap();
        self.stream.write_all(&frame).await.unwrap();
    }

    async fn receive<R: Request>(&mut self, version: i16) -> R::Response {
        let length = self.stream.read_i32().await.unwrap();
        let mut frame = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut frame).await.unwrap();
        let mut frame = Bytes::from(frame);
        self.received += 1;
        let header = ResponseHeader::decode(&mut frame, R::Response::header_version(version)).unwrap();
        assert_eq!(header.correlation_id, self.received);
        let response = R::Response::decode(&mut frame, version).unwrap();
        assert!(!frame.has_remaining());
        response
    }
}

fn topic(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn produce(values: &[&str]) -> ProduceRequest {
    let data = PartitionProduceData::default().with_records(Some(Batch::of(1_000, values).encode()));
    let data = TopicProduceData::default().with_name(topic("orders")).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![data])
}

fn fetch(offset: i64, max_wait: Duration) -> FetchRequest {
    let partition = FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
    let topics = FetchTopic::default().with_topic(topic("orders")).with_partitions(vec![partition]);
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(i32::try_from(max_wait.as_millis()).unwrap())
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_topics(vec![topics])
}

fn bytes_of(response: &FetchResponse) -> usize {
    response
        .responses
        .iter()
        .flat_map(|topic| &topic.partitions)
        .filter_map(|data| data.records.as_ref())
        .map(Bytes::len)
        .sum()
}

fn one_broker() -> MockCluster {
    MockCluster::builder().topic("orders", 1).in_memory().start().unwrap()
}

#[tokio::test(start_paused = true)]
async fn bytes_in_bytes_out() {
    let kafka = one_broker();
    let mut raw = Raw::open(&kafka, 1);
    let versions = raw
        .call(
            3,
            &ApiVersionsRequest::default()
                .with_client_software_name("raw".into())
                .with_client_software_version("1".into()),
        )
        .await;
    assert_eq!(versions.error_code, 0);
    assert!(versions.api_keys.iter().any(|api| api.api_key == ApiKey::Produce as i16));

    let written = raw.call(9, &produce(&["a", "b"])).await;
    assert_eq!((written.responses[0].partition_responses[0].error_code, kafka.all_records("orders").len()), (0, 2));

    let read = raw.call(12, &fetch(0, Duration::ZERO)).await;
    let stored = kafka.records("orders", 0).unwrap();
    assert_eq!(stored.iter().map(|record| record.value().unwrap()).collect::<Vec<_>>(), [b"a", b"b"]);
    assert_ne!(bytes_of(&read), 0);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_waits_as_long_as_it_says_and_no_longer() {
    let kafka = one_broker();
    let mut raw = Raw::open(&kafka, 1);
    let began = Instant::now();
    let nothing = raw.call(12, &fetch(0, 20 * HOUR)).await;
    assert_eq!(bytes_of(&nothing), 0);
    assert!((20 * HOUR..20 * HOUR + Duration::from_secs(1)).contains(&began.elapsed()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_waits_is_answered_when_somebody_else_writes() {
    let kafka = one_broker();
    let (mut reader, mut writer) = (Raw::open(&kafka, 1), Raw::open(&kafka, 1));
    reader.send(12, &fetch(0, 20 * HOUR)).await;
    let began = Instant::now();
    let write = async {
        tokio::time::sleep(HOUR).await;
        writer.call(9, &produce(&["a"])).await
    };
    let (read, _) = tokio::join!(reader.receive::<FetchRequest>(12), write);
    assert_ne!(bytes_of(&read), 0);
    assert!((HOUR..HOUR + Duration::from_secs(1)).contains(&began.elapsed()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn requests_sent_ahead_are_answered_in_order_one_after_the_other() {
    let kafka = one_broker();
    let mut raw = Raw::open(&kafka, 1);
    raw.send(12, &fetch(0, HOUR)).await;
    raw.send(9, &produce(&["a"])).await;
    let began = Instant::now();
    assert_eq!(bytes_of(&raw.receive::<FetchRequest>(12).await), 0, "the write behind it had not been looked at");
    assert!(began.elapsed() >= HOUR);
    assert_eq!(raw.receive::<ProduceRequest>(9).await.responses[0].partition_responses[0].error_code, 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_be_read_in_any_pieces_and_with_the_next_one_not_yet_there() {
    let kafka = one_broker();
    let mut raw = Raw::open(&kafka, 1);
    raw.send(12, &fetch(0, HOUR)).await;
    raw.send(12, &fetch(0, HOUR)).await;
    // Both answers in one read: its first half is there an hour before the second.
    let first = raw.receive::<FetchRequest>(12).await;
    raw.send(12, &fetch(0, HOUR)).await;
    let size = 4 + frame_bytes(&first);
    let mut both = vec![0; 2 * size];
    let began = Instant::now();
    raw.stream.read_exact(&mut both).await.unwrap();
    assert!(began.elapsed() >= 2 * HOUR);
    assert_eq!(both[..4], both[size..size + 4]);
}

/// How long an answer to a version 12 fetch is, its length field not counted.
fn frame_bytes(response: &FetchResponse) -> usize {
    use kafka_protocol::protocol::Encodable;
    let header = ResponseHeader::default().compute_size(FetchResponse::header_version(12)).unwrap();
    header + response.compute_size(12).unwrap()
}

#[tokio::test(start_paused = true)]
async fn reading_into_a_full_buffer_reads_nothing_and_is_not_the_end() {
    let kafka = one_broker();
    let mut raw = Raw::open(&kafka, 1);
    assert_eq!(raw.stream.read(&mut []).await.unwrap(), 0);
    let written = raw.call(9, &produce(&["a"])).await;
    assert_eq!(written.responses[0].partition_responses[0].error_code, 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_before_a_half_close_is_answered_and_then_reads_end() {
    let kafka = one_broker();
    let mut raw = Raw::open(&kafka, 1);
    raw.send(12, &fetch(0, HOUR)).await;
    raw.send(9, &produce(&["a"])).await;
    raw.stream.shutdown().await.unwrap();
    assert_eq!(raw.stream.write(b"more").await.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    raw.receive::<FetchRequest>(12).await;
    raw.receive::<ProduceRequest>(9).await;
    assert_eq!(raw.stream.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(kafka.all_records("orders").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_may_write_for_as_long_as_it_likes_before_it_reads() {
    const REQUESTS: i32 = 3_000;
    let kafka = one_broker();
    let mut raw = Raw::open(&kafka, 1);
    // More than may wait behind a request that is not answered: writing waits for the hour too.
    raw.send(12, &fetch(0, HOUR)).await;
    let began = Instant::now();
    let value = "x".repeat(1_000);
    for _ in 0..REQUESTS {
        raw.send(9, &produce(&[&value])).await;
    }
    assert!(began.elapsed() >= HOUR);
    raw.receive::<FetchRequest>(12).await;
    for _ in 0..REQUESTS {
        raw.receive::<ProduceRequest>(9).await;
    }
    assert_eq!(kafka.all_records("orders").len(), REQUESTS as usize);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_task_may_write_while_another_reads() {
    const REQUESTS: i32 = 2_000;
    let kafka = one_broker();
    let (mut reader, mut writer) = tokio::io::split(kafka.stream(1).unwrap());
    let writing = tokio::spawn(async move {
        for number in 1..=REQUESTS {
            let frame = frame_of("raw", number, 9, &produce(&["a"])).unwrap();
            writer.write_all(&frame).await.unwrap();
        }
        writer
    });
    for number in 1..=REQUESTS {
        let length = reader.read_i32().await.unwrap();
        let mut frame = vec![0; usize::try_from(length).unwrap()];
        reader.read_exact(&mut frame).await.unwrap();
        assert_eq!(frame[..4], number.to_be_bytes());
    }
    drop(writing.await.unwrap());
    assert_eq!(kafka.all_records("orders").len(), REQUESTS as usize);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_stream_is_a_disconnect_and_a_cut_one_ends() {
    let kafka = one_broker();
    let connections = |kafka: &MockCluster| kafka.view().connections;
    let mut first = Raw::open(&kafka, 1);
    let second = Raw::open(&kafka, 1);
    assert_eq!(connections(&kafka), 2);
    drop(second);
    assert_eq!(connections(&kafka), 1);

    first.send(12, &fetch(0, HOUR)).await;
    let began = Instant::now();
    let (read, ()) = tokio::join!(
        async {
            let mut some = [0];
            first.stream.read(&mut some).await
        },
        async {
            tokio::time::sleep(HOUR / 2).await;
            kafka.crash(1).unwrap();
        }
    );
    assert_eq!(read.unwrap(), 0, "the connection ends without an answer");
    assert!(began.elapsed() < HOUR);
    assert_eq!(first.stream.write(b"more").await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(connections(&kafka), 0);
}

#[tokio::test(start_paused = true)]
async fn nonsense_closes_the_connection_and_no_other() {
    let kafka = one_broker();
    let (mut rude, mut polite) = (Raw::open(&kafka, 1), Raw::open(&kafka, 1));
    rude.stream.write_all(&[0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff]).await.unwrap();
    assert_eq!(rude.stream.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(kafka.view().connections, 1, "though the client has not let go of it");
    let answer = polite.call(9, &produce(&["a"])).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_is_gone_ends_its_streams_and_its_waits() {
    let kafka = one_broker();
    let mut raw = Raw::open(&kafka, 1);
    let wait = kafka.wait_up_to(HOUR).records("orders", 1);
    let fault = kafka.plan(Fault::on(ApiKey::Produce).disconnect().may_not_fire()).unwrap();
    drop(kafka);
    assert_eq!(raw.stream.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(wait.await.unwrap_err().to_string(), "the cluster stopped meanwhile");
    assert_eq!(fault.hits(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_thread_outside_the_runtime_does_not_turn_the_clock_back() {
    let kafka = one_broker();
    let mut raw = Raw::open(&kafka, 1);
    tokio::time::sleep(20 * HOUR).await;
    let other = Raw::open(&kafka, 1);
    raw.call(9, &produce(&["a"])).await;
    // There the machine's clock is read, which is twenty hours behind.
    std::thread::scope(|scope| scope.spawn(move || drop(other)).join().unwrap());
    std::thread::scope(|scope| scope.spawn(|| kafka.create_topic("audit", 1).unwrap()).join().unwrap());
    let began = Instant::now();
    raw.call(12, &fetch(1, HOUR)).await;
    assert!((HOUR..HOUR + Duration::from_secs(1)).contains(&began.elapsed()), "{:?}", began.elapsed());
}

// ---- any runtime, and none ----

#[test]
fn a_test_without_a_runtime_holds_a_cluster_and_waits_on_its_thread() {
    let kafka = MockCluster::builder().topic("orders", 1).start().unwrap();
    let refused = kafka.plan(Fault::on(ApiKey::Metadata).topic("orders").error(ErrorCode::LeaderNotAvailable)).unwrap();
    let mut raw = tests::raw::Connection::open(&kafka.bootstrap_servers(), "blocking").unwrap();
    let metadata = || {
        let orders = MetadataRequestTopic::default().with_name(Some(topic("orders")));
        MetadataRequest::default().with_topics(Some(vec![orders]))
    };
    let answers = [(); 2].map(|()| raw.call(9, &metadata()).unwrap().topics[0].error_code);
    assert_eq!(answers, [ErrorCode::LeaderNotAvailable as i16, 0]);
    assert_eq!(kafka.wait_for().hits(&refused, 1).blocking().unwrap(), 1);

    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| kafka.wait_for().records("orders", 2).blocking());
        raw.call(9, &produce(&["a", "b"])).unwrap();
        assert_eq!(waiting.join().unwrap().unwrap().len(), 2);
    });
}

async fn a_cluster_with_ports_serves() {
    let kafka = MockCluster::builder().topic("orders", 1).start().unwrap();
    let address = kafka.bootstrap_servers();
    let client = tokio::task::spawn_blocking(move || {
        let mut raw = tests::raw::Connection::open(&address, "flavour").unwrap();
        raw.call(9, &produce(&["a"])).unwrap()
    });
    assert_eq!(kafka.wait_for().records("orders", 1).await.unwrap().len(), 1);
    assert_eq!(client.await.unwrap().responses[0].partition_responses[0].error_code, 0);
}

#[tokio::test(flavor = "current_thread")]
async fn a_cluster_with_ports_serves_a_current_thread_runtime() {
    a_cluster_with_ports_serves().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_with_ports_serves_a_multi_thread_runtime() {
    a_cluster_with_ports_serves().await;
}

/// The cluster has a clock of its own: pausing the test's does not stop it.
#[tokio::test(start_paused = true)]
async fn a_cluster_with_ports_serves_under_a_paused_clock() {
    a_cluster_with_ports_serves().await;
}

#[test]
fn a_local_set_will_do() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let kafka = one_broker();
        let task = tokio::task::spawn_local(async move {
            let answer = Raw::open(&kafka, 1).call(9, &produce(&["a"])).await;
            (kafka, answer)
        });
        let (kafka, answer) = task.await.unwrap();
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
        assert_eq!(kafka.all_records("orders").len(), 1);
    });
}

/// Compiles, or does not.
#[test]
fn what_a_test_holds_may_be_shared_between_threads() {
    const fn shared<T: Send + Sync + 'static>() {}
    const fn sent<T: Send + Unpin + 'static>() {}
    const {
        shared::<MockCluster>();
        shared::<PlannedFault>();
        shared::<Fault>();
        shared::<Requests>();
        sent::<BrokerStream>();
        sent::<Wait<()>>();
    }
}
