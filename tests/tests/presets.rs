//! Every preset, and what librdkafka notices of it: each test is about one failure of the list in
//! `mockbroker/src/testing/preset.rs`.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};
use rehearsal_mockbroker::fault::Requests;
use rehearsal_mockbroker::testing::MockCluster;
use rehearsal_mockbroker::wire::ApiKey;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// A client that gives up soon and tries again soon.
fn client(kafka: &MockCluster) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", kafka.bootstrap_servers())
        .set("client.id", "under-test")
        .set("socket.timeout.ms", "1000")
        .set("reconnect.backoff.ms", "10")
        .set("retry.backoff.ms", "20")
        .set("topic.metadata.refresh.fast.interval.ms", "20");
    config
}

fn producer(kafka: &MockCluster, acks: &str, idempotent: bool) -> FutureProducer {
    let mut config = client(kafka);
    config.set("linger.ms", "0").set("acks", acks).set("enable.idempotence", idempotent.to_string());
    config.create().expect("a producer")
}

fn consumer(kafka: &MockCluster, reset: &str) -> StreamConsumer {
    let mut config = client(kafka);
    config
        .set("group.id", "billing")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", reset)
        .set("heartbeat.interval.ms", "50")
        .set("fetch.error.backoff.ms", "20")
        .set("fetch.wait.max.ms", "50");
    let consumer: StreamConsumer = config.create().expect("a consumer");
    consumer.subscribe(&["orders"]).expect("a subscription");
    consumer
}

async fn send(producer: &FutureProducer, value: &str) -> Result<(), KafkaError> {
    let record = FutureRecord::to("orders").partition(0).key("7").payload(value);
    producer.send(record, Duration::ZERO).await.map(drop).map_err(|(error, _)| error)
}

fn text(message: &BorrowedMessage<'_>) -> String {
    String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned()
}

fn values(kafka: &MockCluster) -> Vec<String> {
    let records = kafka.all_records("orders").into_iter();
    records.map(|record| String::from_utf8_lossy(record.value().unwrap_or_default()).into_owned()).collect()
}

fn one() -> MockCluster {
    MockCluster::builder().topic("orders", 1).start().expect("a cluster")
}

fn three() -> MockCluster {
    MockCluster::builder().brokers(3).topic("orders", 1).start().expect("a cluster")
}

#[tokio::test]
async fn slow_handler_zombie_the_commit_of_an_evicted_member_is_refused() -> Outcome {
    let kafka = one();
    send(&producer(&kafka, "all", false), "a").await?;
    let consumer = consumer(&kafka, "earliest");
    let message = consumer.recv().await?;
    kafka.wait_for().stable("billing", 1).await?;
    kafka.preset().slow_handler_zombie("billing", "under-test")?;
    assert!(consumer.commit_message(&message, CommitMode::Sync).is_err());
    assert_eq!(kafka.committed("billing", "orders", 0), None);
    Ok(())
}

#[tokio::test]
async fn coordinator_partition_zombie_fetches_go_on_while_commits_do_not_get_through() -> Outcome {
    let kafka = one();
    let producer = producer(&kafka, "all", false);
    send(&producer, "a").await?;
    let consumer = consumer(&kafka, "earliest");
    assert_eq!(text(&consumer.recv().await?), "a");
    let cut = kafka.preset().coordinator_partition_zombie("under-test")?;
    send(&producer, "b").await?;
    let message = consumer.recv().await?;
    assert_eq!(text(&message), "b", "fetching goes on");
    consumer.commit_message(&message, CommitMode::Async)?;
    kafka.wait_for().held(&cut[0]).await?; // a heartbeat
    assert_eq!(kafka.committed("billing", "orders", 0), None);
    cut.iter().for_each(|fault| fault.release());
    kafka.wait_for().committed("billing", "orders", 0, 2).await?;
    Ok(())
}

#[tokio::test]
async fn stale_stored_offset_rewind_the_group_rebalances_under_its_member() -> Outcome {
    let kafka = one();
    send(&producer(&kafka, "all", false), "a").await?;
    let consumer = consumer(&kafka, "earliest");
    consumer.recv().await?;
    let first = kafka.wait_for().stable("billing", 1).await?.generation;
    kafka.preset().stale_stored_offset_rewind("billing").strike()?;
    // The member notices while it polls.
    let polling = async { while consumer.recv().await.is_ok() {} };
    let again = kafka
        .wait_for()
        .until("a later generation", move |cluster| cluster.group("billing").filter(|group| group.generation > first));
    tokio::select! {
        () = polling => panic!("polling ends only with an error"),
        again = again => assert!(again?.generation > first),
    }
    Ok(())
}

#[tokio::test]
async fn commit_during_rebalance_it_arrives_when_the_group_prepares_the_next_generation() -> Outcome {
    let kafka = one();
    send(&producer(&kafka, "all", false), "a").await?;
    let consumer = consumer(&kafka, "earliest");
    let message = consumer.recv().await?;
    let held = kafka.preset().commit_during_rebalance("billing")?;
    consumer.commit_message(&message, CommitMode::Async)?;
    kafka.wait_for().held(held.fault()).await?;
    assert_eq!(kafka.committed("billing", "orders", 0), None);
    held.strike()?;
    // A member of the generation that ends may still commit while the next one is prepared, as in Kafka.
    kafka.wait_for().committed("billing", "orders", 0, 1).await?;
    Ok(())
}

#[tokio::test]
async fn double_owner_stale_generation_a_late_sync_hears_that_its_generation_is_over() -> Outcome {
    let kafka = one();
    let late = kafka.preset().double_owner_stale_generation("billing")?;
    let consumer = consumer(&kafka, "earliest");
    let polling = async { consumer.recv().await.map(|message| text(&message)) };
    let story = async {
        kafka.wait_for().held(late.fault()).await?;
        late.strike()?;
        let syncs = kafka.wait_for().requests(Requests::of(ApiKey::SyncGroup), 2).await?;
        send(&producer(&kafka, "all", false), "a").await?;
        Ok::<_, Box<dyn std::error::Error>>(syncs.len())
    };
    let (polled, syncs) = tokio::join!(polling, story);
    assert_eq!(polled?, "a");
    assert!(syncs? >= 2, "the first sync was of a generation that was over; the member joined again");
    Ok(())
}

#[tokio::test]
async fn unstable_offset_fetch_a_consumer_waits_for_its_offsets() -> Outcome {
    let kafka = one();
    send(&producer(&kafka, "all", false), "a").await?;
    let unstable = kafka.preset().unstable_offset_fetch("billing", 2)?;
    let consumer = consumer(&kafka, "earliest");
    assert_eq!(text(&consumer.recv().await?), "a");
    assert_eq!(unstable.hits(), 2);
    Ok(())
}

#[tokio::test]
async fn coordinator_failover_offset_loss_an_acknowledged_commit_is_gone() -> Outcome {
    let kafka = three();
    send(&producer(&kafka, "all", false), "a").await?;
    let consumer = consumer(&kafka, "earliest");
    let message = consumer.recv().await?;
    let failover = kafka.preset().coordinator_failover_offset_loss("billing")?;
    consumer.commit_message(&message, CommitMode::Sync)?;
    assert_eq!(failover.fault().hits(), 1);
    failover.strike()?;
    assert_eq!(kafka.committed("billing", "orders", 0), None);
    drop(message);
    drop(consumer);
    // Its farewell may reach the coordinator that is no more.
    let _ = kafka.expire_member("billing", "under-test");
    let next = self::consumer(&kafka, "earliest");
    assert_eq!(text(&next.recv().await?), "a", "what was committed is read again");
    Ok(())
}

#[tokio::test]
async fn offset_expiry_reset_the_reset_policy_begins_anew() -> Outcome {
    let kafka = one();
    send(&producer(&kafka, "all", false), "a").await?;
    let before = consumer(&kafka, "earliest");
    let message = before.recv().await?;
    before.commit_message(&message, CommitMode::Sync)?;
    drop(message);
    drop(before);
    kafka.preset().offset_expiry_reset("billing")?;
    assert_eq!(text(&consumer(&kafka, "earliest").recv().await?), "a", "what was committed is read again");
    Ok(())
}

#[tokio::test]
async fn latest_reset_new_partition_what_is_written_before_it_is_known_is_skipped() -> Outcome {
    let kafka = one();
    let consumer = consumer(&kafka, "latest");
    let waiting = async { consumer.recv().await.map(|message| text(&message)) };
    let story = async {
        kafka.wait_for().stable("billing", 1).await?;
        let stale = kafka.preset().latest_reset_new_partition("orders", 2, "under-test")?;
        let other: FutureProducer = client(&kafka).set("client.id", "other").create()?;
        let to = |partition, value| FutureRecord::<str, str>::to("orders").partition(partition).payload(value);
        other.send(to(1, "skipped"), Duration::ZERO).await.map_err(|(error, _)| error)?;
        stale.remove();
        Ok::<_, Box<dyn std::error::Error>>(kafka.all_records("orders").len())
    };
    tokio::pin!(waiting);
    let stored = tokio::select! {
        got = &mut waiting => panic!("the consumer does not know the partition: {got:?}"),
        stored = story => stored?,
    };
    assert_eq!(stored, 1, "it is stored, but the consumer will begin behind it");
    Ok(())
}

#[tokio::test]
async fn retention_overtakes_consumer_it_hears_out_of_range_and_resets() -> Outcome {
    let kafka = one();
    let producer = producer(&kafka, "all", false);
    for value in ["a", "b", "c"] {
        send(&producer, value).await?;
    }
    kafka.preset().retention_overtakes_consumer("orders", 0)?;
    send(&producer, "d").await?;
    let consumer: BaseConsumer =
        client(&kafka).set("group.id", "billing").set("auto.offset.reset", "error").create()?;
    let mut from_start = TopicPartitionList::new();
    from_start.add_partition_offset("orders", 0, Offset::Offset(1))?;
    consumer.assign(&from_start)?;
    let heard = consumer.poll(Duration::from_secs(10)).expect("an event");
    assert!(matches!(heard, Err(KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset))), "{heard:?}");
    Ok(())
}

#[tokio::test]
async fn stale_epoch_replay_the_epoch_of_a_commit_is_no_more() -> Outcome {
    let kafka = one();
    let producer = producer(&kafka, "all", false);
    send(&producer, "a").await?;
    kafka.preset().stale_epoch_replay("orders", 0)?;
    send(&producer, "b").await?;
    let partition = kafka.view().topic("orders").expect("the topic").partitions[0].clone();
    assert_eq!((partition.leader_epoch, partition.log_start_offset), (1, 1));
    assert_eq!(values(&kafka), ["b"]);
    Ok(())
}

#[tokio::test]
async fn topic_recreate_offset_reuse_a_committed_offset_is_of_another_log() -> Outcome {
    let kafka = one();
    let producer = producer(&kafka, "all", false);
    send(&producer, "a").await?;
    let id = kafka.view().topic("orders").expect("the topic").id.clone();
    let consumer = consumer(&kafka, "earliest");
    let message = consumer.recv().await?;
    consumer.commit_message(&message, CommitMode::Sync)?;
    kafka.preset().topic_recreate_offset_reuse("orders")?;
    assert_ne!(kafka.view().topic("orders").expect("the topic").id, id);
    assert_eq!(kafka.committed("billing", "orders", 0), None, "Kafka forgets the offsets with the topic");
    assert!(values(&kafka).is_empty());
    Ok(())
}

#[tokio::test]
async fn transient_error_reset_a_failing_lookup_does_not_reset() -> Outcome {
    let kafka = one();
    send(&producer(&kafka, "all", false), "a").await?;
    let failing = kafka.preset().transient_error_reset("orders", 2)?;
    assert_eq!(text(&consumer(&kafka, "earliest").recv().await?), "a");
    assert_eq!(failing.hits(), 2);
    Ok(())
}

#[tokio::test]
async fn acks1_leader_crash_loses_what_the_leader_alone_had_and_acks_all_does_not() -> Outcome {
    let kafka = three();
    let careless = producer(&kafka, "1", false);
    send(&careless, "kept").await?;
    let crash = kafka.preset().acks1_leader_crash("orders", 0)?;
    send(&careless, "acknowledged").await?;
    crash.strike()?;
    assert_eq!(values(&kafka), ["kept"]);

    let kafka = three();
    let careful = producer(&kafka, "all", true);
    send(&careful, "kept").await?;
    let crash = kafka.preset().acks1_leader_crash("orders", 0)?;
    let second = send(&careful, "acknowledged");
    let strike = async {
        kafka.wait_for().requests(Requests::of(ApiKey::Produce), 2).await?;
        crash.strike().map_err(Box::<dyn std::error::Error>::from)
    };
    let (sent, struck) = tokio::join!(second, strike);
    sent?;
    struck?;
    assert_eq!(values(&kafka), ["kept", "acknowledged"]);
    Ok(())
}

#[tokio::test]
async fn unclean_election_loses_acknowledged_records_and_reuses_their_offsets() -> Outcome {
    let kafka = three();
    let producer = producer(&kafka, "all", false);
    send(&producer, "kept").await?;
    let election = kafka.preset().unclean_election("orders", 0)?;
    send(&producer, "acknowledged by all in sync").await?;
    election.strike()?;
    assert_eq!(values(&kafka), ["kept"]);
    send(&producer, "another").await?;
    assert_eq!(values(&kafka), ["kept", "another"]);
    Ok(())
}

#[tokio::test]
async fn last_replica_standing_loses_what_was_not_flushed() -> Outcome {
    let kafka = three();
    let producer = producer(&kafka, "all", false);
    let last = kafka.preset().last_replica_standing("orders", 0)?;
    send(&producer, "acknowledged").await?;
    assert_eq!(values(&kafka), ["acknowledged"]);
    last.strike()?;
    kafka.wait_for().leader("orders", 0).await?;
    assert!(values(&kafka).is_empty());
    Ok(())
}

#[tokio::test]
async fn retry_reorder_without_idempotence_only() -> Outcome {
    for (idempotent, order) in [(false, ["first", "b", "a"]), (true, ["first", "a", "b"])] {
        let kafka = one();
        let mut config = client(&kafka);
        config.set("linger.ms", "0").set("batch.num.messages", "1").set("max.in.flight", "5");
        config.set("enable.idempotence", idempotent.to_string());
        let producer: FutureProducer = config.create()?;
        // A broker that has never heard of a producer takes any sequence number, as Kafka does.
        send(&producer, "first").await?;
        let failing = kafka.preset().retry_reorder("orders", 0)?;
        let (first, second) = tokio::join!(send(&producer, "a"), send(&producer, "b"));
        first?;
        second?;
        assert_eq!(failing.hits(), 1);
        assert_eq!(values(&kafka), order, "idempotent: {idempotent}");
    }
    Ok(())
}

#[tokio::test]
async fn topic_flicker_the_producer_waits_for_the_topic() -> Outcome {
    let kafka = one();
    let flicker = kafka.preset().topic_flicker_sequence_reuse("orders", 2)?;
    send(&producer(&kafka, "all", true), "a").await?;
    assert_eq!(flicker.hits(), 2);
    assert_eq!(values(&kafka), ["a"]);
    Ok(())
}

#[tokio::test]
async fn dlq_fire_and_forget_only_the_dead_letters_fail() -> Outcome {
    let kafka = MockCluster::builder().topic("orders", 1).topic("orders.dlq", 1).start()?;
    let refusing = kafka.preset().dlq_fire_and_forget("orders.dlq")?;
    let producer: FutureProducer = client(&kafka).set("message.timeout.ms", "1000").create()?;
    send(&producer, "an order").await?;
    let letter = FutureRecord::<str, str>::to("orders.dlq").payload("a dead letter");
    assert!(producer.send(letter, Duration::ZERO).await.is_err());
    assert!(refusing.hits() > 0);
    assert!(kafka.all_records("orders.dlq").is_empty());
    Ok(())
}

#[tokio::test]
async fn close_hangs_without_coordinator_nobody_answers_any_more() -> Outcome {
    let kafka = three();
    send(&producer(&kafka, "all", false), "a").await?;
    kafka.preset().close_hangs_without_coordinator()?;
    let lonely: FutureProducer = client(&kafka).set("message.timeout.ms", "300").create()?;
    assert!(send(&lonely, "b").await.is_err());
    kafka.start_broker(1)?;
    kafka.start_broker(2)?;
    kafka.start_broker(3)?;
    kafka.wait_for().leader("orders", 0).await?;
    send(&producer(&kafka, "all", false), "c").await?;
    assert_eq!(values(&kafka), ["a", "c"]);
    Ok(())
}

#[test]
fn what_a_preset_needs_is_said() {
    let kafka = one();
    let error = kafka.preset().acks1_leader_crash("orders", 0).expect_err("one broker has no followers");
    assert_eq!(
        error.to_string(),
        "'orders' partition 0 is in sync on one broker only; build the cluster with `.brokers(3)`"
    );
    let error = kafka.preset().retention_overtakes_consumer("orders", 9).expect_err("no such partition");
    assert_eq!(error.to_string(), "there is no partition 9 of topic 'orders'");
}
