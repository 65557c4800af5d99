//! What replication keeps, delays and loses, told through `Cluster`: three brokers, one partition.

use bytes::Bytes;
use proptest::prelude::*;
use rehearsal_mockbroker::cluster::Cluster;
use rehearsal_mockbroker::config::{ClusterConfig, TopicConfig};
use rehearsal_mockbroker::control::{Command, CommandError};
use rehearsal_mockbroker::error::ErrorCode;
use rehearsal_mockbroker::output::{ConnId, Output};
use rehearsal_mockbroker::session::Incoming;
use rehearsal_mockbroker::state::nodes::NodeId;
use rehearsal_mockbroker::time::{Time, millis};
use rehearsal_mockbroker::view::{PartitionView, ReplicaView};
use rehearsal_mockbroker::wire::batch::{BatchBuilder, records};
use rehearsal_mockbroker::wire::generated::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use rehearsal_mockbroker::wire::generated::fetch_response::PartitionData;
use rehearsal_mockbroker::wire::generated::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use rehearsal_mockbroker::wire::generated::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use rehearsal_mockbroker::wire::generated::metadata_request::MetadataRequest;
use rehearsal_mockbroker::wire::generated::metadata_response::MetadataResponse;
use rehearsal_mockbroker::wire::generated::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use rehearsal_mockbroker::wire::generated::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use rehearsal_mockbroker::wire::generated::produce_response::PartitionProduceResponse;
use rehearsal_mockbroker::wire::{Records, Request, Response, Str, Writer};
use std::time::Duration;

const TOPIC: &str = "orders";
const START_MS: i64 = 1_700_000_000_000;
const ALL: i16 = -1;
const LEADER: i16 = 1;
const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const THREE: NodeId = NodeId(3);

// ---- what is lost when a leader crashes ----

#[test]
fn what_only_the_leader_had_is_lost_when_it_crashes() {
    let mut kafka = Kafka::slow(100);
    kafka.produce(ALL, "kept").after(200);
    assert_eq!(kafka.produce(LEADER, "lost").now(), Ok(1), "acks=1 is answered before anybody copied");
    kafka.control(Command::Crash(ONE));

    assert_eq!(kafka.partition().leader, Some(TWO));
    assert_eq!(kafka.stored(), ["kept"]);
    assert_eq!(kafka.produce(LEADER, "instead").now(), Ok(1), "the offset is given out again");

    kafka.advance(1_000);
    kafka.control(Command::Start(ONE));
    assert_eq!(kafka.replica(ONE).diverges_at, Some(1), "it comes back with what nobody else has");
    kafka.advance(1_000);
    assert_eq!(kafka.replica(ONE).diverges_at, None, "and drops it");
    assert_eq!(kafka.partition().isr.len(), 3);
    kafka.control(Command::MoveLeader { topic: TOPIC.into(), partition: 0, to: ONE });
    assert_eq!(kafka.stored(), ["kept", "instead"]);
}

#[test]
fn what_every_in_sync_replica_acknowledged_survives_any_crash() {
    let mut kafka = Kafka::slow(100);
    assert_eq!(kafka.produce(ALL, "kept").after(100), Some(Ok(0)));
    for broker in [ONE, TWO] {
        kafka.control(Command::Crash(broker));
        assert_eq!(kafka.stored(), ["kept"]);
    }
    assert_eq!(kafka.partition().leader, Some(THREE));
}

#[test]
fn without_delay_a_crash_loses_nothing() {
    let mut kafka = Kafka::new();
    assert_eq!(kafka.produce(LEADER, "a").now(), Ok(0));
    kafka.control(Command::Crash(ONE));
    assert_eq!(kafka.stored(), ["a"]);
    assert_eq!(kafka.cluster.next_wake(), None, "nothing is left to do");
}

#[test]
fn a_producer_may_repeat_what_was_lost_and_not_what_was_kept() {
    let mut kafka = Kafka::slow(100);
    kafka.produce_batch(LEADER, batch("a").producer(7, 0, 0)).after(300);
    assert_eq!(kafka.produce_batch(LEADER, batch("b").producer(7, 0, 1)).now(), Ok(1));
    kafka.control(Command::Crash(ONE));

    assert_eq!(kafka.produce_batch(LEADER, batch("a").producer(7, 0, 0)).now(), Ok(0), "known, not stored again");
    assert_eq!(
        kafka.produce_batch(LEADER, batch("c").producer(7, 0, 2)).now(),
        Err(ErrorCode::OutOfOrderSequenceNumber)
    );
    assert_eq!(kafka.produce_batch(LEADER, batch("b").producer(7, 0, 1)).now(), Ok(1));
    assert_eq!(kafka.stored(), ["a", "b"]);
}

#[test]
fn a_stop_in_order_moves_the_leader_first() {
    let mut kafka = Kafka::new();
    assert_eq!(kafka.produce(LEADER, "a").now(), Ok(0));
    kafka.control(Command::Stop(ONE));
    assert_eq!((kafka.partition().leader, kafka.stored()), (Some(TWO), vec!["a".to_owned()]));
    assert_eq!(kafka.replica(ONE).flushed, 1);
    kafka.control(Command::Start(ONE));
    assert_eq!(kafka.partition().isr, [TWO, THREE, ONE]);
    assert_eq!(kafka.try_control(Command::Stop(NodeId(9))), Err(CommandError::UnknownBroker(NodeId(9))));
}

// ---- waiting for replicas ----

#[test]
fn a_slow_follower_delays_the_answer_by_exactly_its_delay() {
    let mut kafka = Kafka::new();
    kafka.control(Command::SetFollowerDelay { node: THREE, delay: Duration::from_millis(70) });
    let produced = kafka.produce(ALL, "a");
    assert_eq!(produced.after(69), None);
    assert_eq!(kafka.partition().high_watermark, 0, "consumers do not see it yet");
    assert_eq!(kafka.read_all(), [""; 0]);
    kafka.advance(1);
    assert_eq!(kafka.answered(), Some(Ok(0)));
    assert_eq!(kafka.read_all(), ["a"]);
}

#[test]
fn a_waiting_consumer_is_served_when_the_high_watermark_passes() {
    let mut kafka = Kafka::slow(50);
    let reader = kafka.connect(ONE);
    assert!(kafka.fetch(reader, waiting(0, 30_000)).is_none());
    kafka.produce(LEADER, "a").now().expect("stored");
    kafka.advance(49);
    assert!(kafka.take_fetched(reader).is_none());
    kafka.advance(1);
    assert_eq!(values(&kafka.take_fetched(reader).expect("committed")), ["a"]);
}

#[test]
fn a_producer_is_told_when_its_time_is_up() {
    let mut kafka = Kafka::new();
    kafka.stop_copying(TWO);
    assert_eq!(kafka.produce(ALL, "a").after(999), None);
    kafka.advance(1);
    assert_eq!(kafka.answered(), Some(Err(ErrorCode::RequestTimedOut)));
    assert_eq!(kafka.stored(), ["a"], "it is in the log all the same");
    kafka.resume_copying(TWO);
    assert_eq!(kafka.read_all(), ["a"]);
}

#[test]
fn a_producer_that_waits_is_told_when_the_leader_moves() {
    let mut kafka = Kafka::new();
    kafka.stop_copying(THREE);
    let waiting = kafka.produce(ALL, "a");
    assert_eq!(waiting.after(10), None);
    kafka.control(Command::MoveLeader { topic: TOPIC.into(), partition: 0, to: TWO });
    assert_eq!(kafka.answered(), Some(Err(ErrorCode::NotLeaderOrFollower)));
}

// ---- who is in sync ----

#[test]
fn a_follower_that_lags_too_long_is_no_longer_waited_for() {
    let mut kafka = Kafka::new();
    kafka.stop_copying(TWO);
    kafka.produce(LEADER, "a").now().expect("stored");
    kafka.advance(30_000);
    assert_eq!(kafka.partition().isr, [ONE, TWO, THREE]);
    kafka.advance(1);
    assert_eq!(kafka.partition().isr, [ONE, THREE]);
    assert_eq!(kafka.partition().high_watermark, 1);
    kafka.resume_copying(TWO);
    assert_eq!(kafka.partition().isr, [ONE, THREE, TWO], "it has caught up");
}

#[test]
fn a_follower_without_anything_to_copy_stays_in_sync() {
    let mut kafka = Kafka::new();
    kafka.stop_copying(TWO);
    kafka.advance(60_000);
    assert_eq!(kafka.partition().isr.len(), 3);
}

#[test]
fn too_few_in_sync_replicas_refuse_a_careful_producer_and_commit_nothing() {
    let mut kafka = Kafka::with(&[("min.insync.replicas", "2")], |_| {});
    kafka.shrink(TWO);
    kafka.shrink(THREE);
    assert_eq!(kafka.produce(ALL, "a").now(), Err(ErrorCode::NotEnoughReplicas));
    assert_eq!(kafka.produce(LEADER, "b").now(), Ok(0));
    assert_eq!(kafka.partition().high_watermark, 0, "KIP-966: below min.insync.replicas nothing is committed");
    kafka.control(Command::ExpandIsr { topic: TOPIC.into(), partition: 0, node: TWO });
    assert_eq!(kafka.read_all(), ["b"]);
    assert_eq!(kafka.produce(ALL, "c").now(), Ok(1));
}

#[test]
fn a_batch_is_not_acknowledged_when_replicas_are_lost_after_it_was_appended() {
    let mut kafka = Kafka::with(&[("min.insync.replicas", "3")], |_| {});
    kafka.stop_copying(THREE);
    assert_eq!(kafka.produce(ALL, "a").after(10), None);
    kafka.shrink(THREE);
    assert_eq!(kafka.answered(), None, "two replicas have it, which is too few");
    kafka.advance(1_000);
    assert_eq!(kafka.answered(), Some(Err(ErrorCode::RequestTimedOut)));
    assert_eq!(kafka.stored(), ["a"]);
}

#[test]
fn leaders_and_strangers_cannot_be_taken_out_of_sync() {
    let mut kafka = Kafka::new();
    let shrink = |node| Command::ShrinkIsr { topic: TOPIC.into(), partition: 0, node };
    assert!(matches!(kafka.try_control(shrink(ONE)), Err(CommandError::NotAFollowerInSync { node: ONE, .. })));
    assert!(matches!(kafka.try_control(shrink(NodeId(4))), Err(CommandError::UnknownBroker(_))));
}

// ---- unclean election ----

#[test]
fn an_unclean_election_loses_records_and_consumers_can_tell() {
    let mut kafka = Kafka::new();
    kafka.produce(ALL, "a").now().expect("stored");
    for follower in [TWO, THREE] {
        kafka.stop_copying(follower);
        kafka.shrink(follower);
    }
    assert_eq!(kafka.produce(ALL, "b").now(), Ok(1), "one in-sync replica is enough by default");
    assert_eq!(kafka.read_all(), ["a", "b"]);
    kafka.control(Command::Crash(ONE));
    assert_eq!(kafka.partition().leader, None, "nobody else has all that was acknowledged");

    kafka.control(Command::ElectUnclean { topic: TOPIC.into(), partition: 0 });
    assert_eq!((kafka.partition().leader, kafka.partition().isr), (Some(TWO), vec![TWO]));
    assert_eq!(kafka.stored(), ["a"]);
    kafka.produce(LEADER, "c").now().expect("stored");

    // A consumer that has read b, written in epoch 0, learns that epoch 0 ended before it.
    let reader = kafka.connect(TWO);
    let mut request = waiting(2, 0);
    request.topics[0].partitions[0].last_fetched_epoch = 0;
    let row = kafka.fetch(reader, request).expect("an answer at once");
    assert_eq!((row.diverging_epoch.epoch, row.diverging_epoch.end_offset), (0, 1));
    assert_eq!(kafka.end_of_epoch(0), (0, 1));

    // The old leader follows the new one and drops b.
    kafka.control(Command::Start(ONE));
    assert_eq!(kafka.replica(ONE).log_end_offset, 2);
    assert_eq!(kafka.stored(), ["a", "c"]);
}

#[test]
fn an_election_is_unclean_by_itself_where_the_topic_allows_it() {
    let mut kafka = Kafka::with(&[("unclean.leader.election.enable", "true")], |_| {});
    for follower in [TWO, THREE] {
        kafka.stop_copying(follower);
        kafka.shrink(follower);
    }
    kafka.produce(ALL, "lost").now().expect("stored");
    kafka.control(Command::Crash(ONE));
    assert_eq!(kafka.partition().leader, Some(TWO));
    assert_eq!(kafka.stored(), [""; 0]);
}

#[test]
fn a_leaderless_partition_is_led_again_some_time_after_its_topic_allows_it() {
    let mut kafka = Kafka::new();
    for follower in [TWO, THREE] {
        kafka.shrink(follower);
    }
    kafka.control(Command::Crash(ONE));
    kafka.allow_unclean_election();
    assert_eq!(kafka.partition().leader, None);
    kafka.advance(300_000);
    assert_eq!(kafka.partition().leader, Some(TWO));
    assert_eq!(kafka.cluster.next_wake(), None);
}

#[test]
fn a_replica_nobody_followed_brings_its_records_back() {
    let mut kafka = Kafka::new();
    for follower in [TWO, THREE] {
        kafka.stop_copying(follower);
        kafka.shrink(follower);
    }
    kafka.produce(ALL, "a").now().expect("stored");
    kafka.control(Command::Crash(ONE));
    kafka.control(Command::ElectUnclean { topic: TOPIC.into(), partition: 0 });
    kafka.produce(LEADER, "b").now().expect("stored");
    kafka.control(Command::Crash(TWO));
    kafka.control(Command::Crash(THREE));

    // The first leader starts first, cannot lead by right, and is made to.
    kafka.control(Command::Start(ONE));
    kafka.control(Command::ElectUnclean { topic: TOPIC.into(), partition: 0 });
    assert_eq!(kafka.stored(), ["a"]);
    kafka.control(Command::Start(TWO));
    kafka.resume_copying(TWO);
    assert_eq!(kafka.replica(TWO).diverges_at, None);
    assert_eq!(kafka.stored(), ["a"]);
}

#[test]
fn a_leader_is_not_elected_twice() {
    let mut kafka = Kafka::new();
    let elect = Command::ElectUnclean { topic: TOPIC.into(), partition: 0 };
    assert!(
        matches!(kafka.try_control(elect), Err(CommandError::Refused(reject)) if reject.code == ErrorCode::ElectionNotNeeded)
    );
}

// ---- power ----

#[test]
fn a_single_replica_loses_what_was_not_flushed() {
    let mut kafka = Kafka::with(&[], |config| config.topics[0].replication_factor = Some(1));
    kafka.produce(ALL, "flushed").now().expect("stored");
    kafka.control(Command::Flush(ONE));
    kafka.produce(ALL, "lost").now().expect("acknowledged");
    kafka.control(Command::PowerLoss(ONE));
    kafka.control(Command::Start(ONE));
    assert_eq!(kafka.stored(), ["flushed"]);

    kafka.produce(ALL, "kept").now().expect("stored");
    kafka.control(Command::Crash(ONE));
    kafka.control(Command::Start(ONE));
    assert_eq!(kafka.stored(), ["flushed", "kept"], "the page cache survives the process");
}

#[test]
fn flushing_every_record_loses_none() {
    let mut kafka = Kafka::with(&[("flush.messages", "1")], |config| config.topics[0].replication_factor = Some(1));
    kafka.produce(ALL, "a").now().expect("stored");
    kafka.control(Command::PowerLoss(ONE));
    kafka.control(Command::Start(ONE));
    assert_eq!(kafka.stored(), ["a"]);
}

#[test]
fn logs_are_flushed_by_age_when_the_broker_looks() {
    let mut kafka = Kafka::with(&[("flush.ms", "1000")], |config| {
        config.configs.insert("log.flush.scheduler.interval.ms".into(), "400".into());
        config.topics[0].replication_factor = Some(1);
    });
    kafka.produce(ALL, "a").now().expect("stored");
    kafka.advance(400);
    kafka.control(Command::Flush(ONE));
    kafka.produce(ALL, "b").now().expect("stored");
    kafka.advance(800);
    assert_eq!(kafka.replica(ONE).flushed, 1);
    kafka.advance(400);
    assert_eq!(kafka.replica(ONE).flushed, 2);
    assert_eq!(kafka.cluster.next_wake(), None);
}

/// KIP-966's story: the in-sync set shrinks to one, which loses its page cache and is elected again.
fn last_replica_standing(eligible_leader_replicas: bool) -> (Kafka, Option<Result<i64, ErrorCode>>) {
    let mut kafka = Kafka::with(&[("min.insync.replicas", "2")], |config| {
        config.eligible_leader_replicas = eligible_leader_replicas;
        config.topics[0].replication_factor = Some(2);
    });
    let acknowledged = kafka.produce(ALL, "a").after(0);
    kafka.control(Command::Flush(TWO));
    kafka.control(Command::Crash(TWO));
    assert_eq!(kafka.partition().isr, [ONE]);
    kafka.control(Command::PowerLoss(ONE));
    kafka.control(Command::Start(ONE));
    (kafka, acknowledged)
}

#[test]
fn the_last_replica_standing_loses_what_was_acknowledged() {
    let (mut kafka, acknowledged) = last_replica_standing(false);
    assert_eq!(acknowledged, Some(Ok(0)));
    assert_eq!(kafka.partition().leader, Some(ONE), "it was the last in sync, so it leads again");
    assert_eq!(kafka.stored(), [""; 0]);
    kafka.control(Command::Start(TWO));
    assert_eq!(kafka.replica(TWO).log_end_offset, 0, "and the other one drops the record for it");
}

#[test]
fn an_eligible_leader_keeps_what_was_acknowledged() {
    let (mut kafka, acknowledged) = last_replica_standing(true);
    assert_eq!(acknowledged, Some(Ok(0)));
    kafka.control(Command::Start(TWO));
    // Both stopped without saying so, so neither is trusted; the last known leader is taken.
    assert_eq!(kafka.partition().leader, Some(ONE));

    let mut kafka = Kafka::with(&[("min.insync.replicas", "2")], |config| {
        config.topics[0].replication_factor = Some(2);
    });
    kafka.produce(ALL, "a").now().expect("acknowledged");
    kafka.control(Command::Stop(TWO));
    assert_eq!(kafka.partition().eligible_leaders, [TWO]);
    kafka.control(Command::PowerLoss(ONE));
    kafka.control(Command::Start(ONE));
    assert_eq!(kafka.partition().leader, None, "it may have lost records, and another has them");
    kafka.control(Command::Start(TWO));
    assert_eq!((kafka.partition().leader, kafka.stored()), (Some(TWO), vec!["a".to_owned()]));
}

// ---- the high watermark of followers ----

#[test]
fn a_follower_serves_only_what_it_knows_to_be_committed() {
    let mut kafka = Kafka::slow(100);
    let reader = kafka.connect(TWO);
    kafka.produce(LEADER, "a").now().expect("stored");
    kafka.advance(100);
    assert_eq!((kafka.replica(TWO).log_end_offset, kafka.replica(TWO).high_watermark), (1, 0));
    let row = kafka.fetch(reader, waiting(0, 0)).expect("an answer");
    assert_eq!((values(&row).len(), row.high_watermark), (0, 0), "it has the record and does not show it");
    let ahead = kafka.fetch(reader, waiting(2, 0)).expect("an answer");
    assert_eq!(code(ahead.error_code), ErrorCode::OffsetOutOfRange);
    kafka.advance(100);
    let row = kafka.fetch(reader, waiting(0, 0)).expect("an answer");
    assert_eq!(values(&row), ["a"]);
}

#[test]
fn a_consumer_that_waits_at_a_follower_is_served_with_its_next_fetch() {
    let mut kafka = Kafka::slow(50);
    let reader = kafka.connect(TWO);
    assert!(kafka.fetch(reader, waiting(0, 30_000)).is_none());
    kafka.produce(LEADER, "a").now().expect("stored");
    kafka.advance(99);
    assert!(kafka.take_fetched(reader).is_none());
    kafka.advance(1);
    assert_eq!(values(&kafka.take_fetched(reader).expect("known to be committed")), ["a"]);
}

#[test]
fn a_new_leader_does_not_say_where_the_log_ends_before_it_knows() {
    let mut kafka = Kafka::slow(100);
    kafka.produce(LEADER, "a").now().expect("stored");
    kafka.advance(100);
    kafka.control(Command::MoveLeader { topic: TOPIC.into(), partition: 0, to: TWO });
    assert_eq!(kafka.latest(), Err(ErrorCode::OffsetNotAvailable));
    kafka.advance(100);
    assert_eq!(kafka.latest(), Ok(1));
}

#[test]
fn a_crashed_broker_knows_the_high_watermark_it_wrote_down_last() {
    let mut kafka = Kafka::with(&[("min.insync.replicas", "2")], |_| {});
    kafka.produce(ALL, "a").now().expect("stored");
    kafka.advance(5_000);
    kafka.produce(ALL, "b").now().expect("stored");
    for broker in [ONE, TWO, THREE] {
        kafka.control(Command::Crash(broker));
    }
    assert_eq!(kafka.replica(THREE).log_end_offset, 2);
    kafka.stop_copying(TWO);
    kafka.control(Command::Start(THREE));
    assert_eq!(kafka.partition().leader, None, "another is eligible, and may have what this one lost");
    kafka.control(Command::Start(TWO));
    assert_eq!(kafka.partition().leader, Some(THREE), "neither is trusted, so the last one known to lead does");
    assert_eq!(kafka.read_all(), ["a"], "alone it commits nothing");
    kafka.resume_copying(TWO);
    assert_eq!(kafka.read_all(), ["a", "b"]);
}

/// KIP-101's story: the leader moves while followers do not know yet what is committed, and then the new one dies.
fn two_leaders_in_a_row(truncate_to_high_watermark: bool) -> Kafka {
    let mut kafka = Kafka::with(&[], |config| {
        config.truncate_to_high_watermark = truncate_to_high_watermark;
        config.follower_delay = Duration::from_millis(100);
    });
    assert_eq!(kafka.produce(ALL, "a").after(100), Some(Ok(0)));
    assert_eq!(kafka.replica(TWO).high_watermark, 0);
    kafka.control(Command::MoveLeader { topic: TOPIC.into(), partition: 0, to: TWO });
    kafka.control(Command::Crash(ONE));
    kafka.control(Command::Crash(TWO));
    assert_eq!(kafka.partition().leader, Some(THREE));
    kafka
}

#[test]
fn truncation_to_the_high_watermark_loses_what_was_acknowledged() {
    assert_eq!(two_leaders_in_a_row(true).stored(), [""; 0]);
}

#[test]
fn truncation_by_epoch_keeps_what_was_acknowledged() {
    assert_eq!(two_leaders_in_a_row(false).stored(), ["a"]);
}

// ---- the controller ----

#[test]
fn metadata_names_a_dead_leader_until_the_controller_notices() {
    let mut kafka = Kafka::with(&[], |config| config.failover_delay = Duration::from_secs(9));
    kafka.produce(ALL, "a").now().expect("stored");
    kafka.control(Command::Crash(ONE));
    assert_eq!(kafka.partition().leader, Some(ONE));
    let metadata = kafka.metadata(TWO);
    assert_eq!((metadata.brokers.len(), metadata.topics[0].partitions[0].leader_id), (3, 1));
    kafka.advance(8_999);
    assert_eq!(kafka.partition().leader, Some(ONE));
    kafka.advance(1);
    assert_eq!(kafka.partition().leader, Some(TWO));
    let metadata = kafka.metadata(TWO);
    assert_eq!((metadata.brokers.len(), metadata.topics[0].partitions[0].offline_replicas.as_slice()), (2, &[1][..]));
}

#[test]
fn a_broker_that_is_back_before_the_controller_notices_has_lost_its_place() {
    let mut kafka = Kafka::with(&[], |config| config.failover_delay = Duration::from_secs(9));
    kafka.control(Command::Crash(ONE));
    kafka.advance(1_000);
    kafka.control(Command::Start(ONE));
    assert_eq!((kafka.partition().leader, kafka.partition().leader_epoch), (Some(TWO), 1));
    assert_eq!(kafka.partition().isr, [TWO, THREE, ONE]);
    kafka.advance(20_000);
    assert_eq!(kafka.partition().leader_epoch, 1, "nothing is left to notice");
}

#[test]
fn a_lone_replica_leaves_its_partition_leaderless_until_it_returns() {
    let mut kafka = Kafka::with(&[], |config| config.topics[0].replication_factor = Some(1));
    kafka.produce(ALL, "a").now().expect("stored");
    kafka.control(Command::Crash(ONE));
    assert_eq!((kafka.partition().leader, kafka.partition().isr.len()), (None, 0));
    kafka.control(Command::Start(ONE));
    assert_eq!((kafka.partition().leader, kafka.partition().isr), (Some(ONE), vec![ONE]));
    assert_eq!(kafka.stored(), ["a"]);
}

#[test]
fn a_follower_slower_than_the_lag_it_may_have_does_not_join() {
    let mut kafka = Kafka::with(&[("min.insync.replicas", "3")], |_| {});
    kafka.stop_copying(THREE);
    kafka.produce(LEADER, "a").now().expect("stored");
    kafka.advance(31_000);
    assert_eq!(kafka.partition().isr, [ONE, TWO]);
    kafka.control(Command::SetFollowerDelay { node: THREE, delay: Duration::from_secs(40) });
    kafka.resume_copying(THREE);
    kafka.advance(20_000);
    kafka.produce(LEADER, "b").now().expect("stored");
    kafka.advance(20_000);
    assert_eq!((kafka.replica(THREE).log_end_offset, kafka.partition().isr.len()), (1, 2));
    kafka.advance(40_000);
    assert_eq!(kafka.partition().isr, [ONE, TWO, THREE], "it has everything");
}

// ---- whatever happens ----

/// What a hostile week does to a cluster. Brokers and values are small numbers, delays milliseconds.
#[derive(Debug, Clone)]
enum Blow {
    Produce(bool),
    Pass(i32),
    Crash(i32),
    Stop(i32),
    Start(i32),
    Delay(i32, u64),
    Copying(i32, bool),
    Shrink(i32),
    Expand(i32),
    Move(i32),
    PowerLoss(i32),
    Flush(i32),
    ElectUnclean,
}

fn blows(harsh: bool) -> impl Strategy<Value = Vec<Blow>> {
    let broker = || 1..=3_i32;
    let fair = prop_oneof![
        6 => any::<bool>().prop_map(Blow::Produce),
        4 => (1..400_i32).prop_map(Blow::Pass),
        1 => (30_000..40_000_i32).prop_map(Blow::Pass),
        2 => broker().prop_map(Blow::Crash),
        1 => broker().prop_map(Blow::Stop),
        3 => broker().prop_map(Blow::Start),
        1 => (broker(), 0..300_u64).prop_map(|(node, ms)| Blow::Delay(node, ms)),
        2 => (broker(), any::<bool>()).prop_map(|(node, on)| Blow::Copying(node, on)),
        1 => broker().prop_map(Blow::Shrink),
        1 => broker().prop_map(Blow::Expand),
        2 => broker().prop_map(Blow::Move),
    ];
    let unfair =
        prop_oneof![broker().prop_map(Blow::PowerLoss), broker().prop_map(Blow::Flush), Just(Blow::ElectUnclean),];
    let blow = if harsh { prop_oneof![4 => fair, 1 => unfair].boxed() } else { fair.boxed() };
    proptest::collection::vec(blow, 1..60)
}

impl Kafka {
    /// Deals one blow; what cannot be done is not. Returns the value that was produced, if one was.
    fn suffer(&mut self, blow: &Blow, value: &str) {
        let (topic, partition) = (TOPIC.to_owned(), 0);
        let command = match *blow {
            Blow::Produce(careful) => {
                if self.partition().leader.is_some_and(|leader| self.runs(leader)) {
                    self.produce(if careful { ALL } else { LEADER }, value);
                }
                return;
            }
            Blow::Pass(ms) => return self.advance(ms),
            Blow::Crash(node) => Command::Crash(NodeId(node)),
            Blow::Stop(node) => Command::Stop(NodeId(node)),
            Blow::Start(node) => Command::Start(NodeId(node)),
            Blow::Delay(node, ms) => Command::SetFollowerDelay { node: NodeId(node), delay: Duration::from_millis(ms) },
            Blow::Copying(node, true) => Command::ResumeCopying { topic, partition, node: NodeId(node) },
            Blow::Copying(node, false) => Command::StopCopying { topic, partition, node: NodeId(node) },
            Blow::Shrink(node) => Command::ShrinkIsr { topic, partition, node: NodeId(node) },
            Blow::Expand(node) => Command::ExpandIsr { topic, partition, node: NodeId(node) },
            Blow::Move(node) => Command::MoveLeader { topic, partition, to: NodeId(node) },
            Blow::PowerLoss(node) => Command::PowerLoss(NodeId(node)),
            Blow::Flush(node) => Command::Flush(NodeId(node)),
            Blow::ElectUnclean => Command::ElectUnclean { topic, partition },
        };
        let _impossible = self.try_control(command);
    }

    fn runs(&self, node: NodeId) -> bool {
        self.cluster.view().brokers.iter().any(|broker| broker.id == node && broker.running)
    }

    /// Starts and resumes everything and gives it time.
    fn recover(&mut self) {
        for broker in 1..=3 {
            for blow in [Blow::Start(broker), Blow::Copying(broker, true), Blow::Expand(broker), Blow::Delay(broker, 1)]
            {
                self.suffer(&blow, "");
            }
        }
        self.advance(60_000);
    }

    /// The values whose producers were told, with `acks=-1`, that all is well.
    fn acknowledged(&mut self, sent: &[(ConnId, String)]) -> Vec<String> {
        let told = |conn: ConnId| {
            self.answers.iter().any(|(to, answer)| {
                let Response::Produce(produced) = answer else { return false };
                *to == conn && produced.responses[0].partition_responses[0].error_code == 0
            })
        };
        sent.iter().filter(|(conn, _)| told(*conn)).map(|(_, value)| value.clone()).collect()
    }
}

proptest! {
    #[test]
    fn what_was_acknowledged_by_all_survives_all_that_is_fair(
        blows in blows(false),
        failover_ms in prop_oneof![Just(0_u64), 1..500_u64],
        min_isr in 1..=3_i32,
    ) {
        let mut kafka = Kafka::with(&[("min.insync.replicas", &min_isr.to_string())], |config| {
            config.failover_delay = Duration::from_millis(failover_ms);
        });
        let mut sent = Vec::new();
        for (turn, blow) in blows.iter().enumerate() {
            let value = turn.to_string();
            let before = kafka.producer;
            kafka.suffer(blow, &value);
            if matches!(blow, Blow::Produce(true)) && kafka.producer != before {
                sent.push((kafka.producer, value));
            }
        }
        kafka.recover();
        let stored = kafka.stored();
        for value in kafka.acknowledged(&sent) {
            prop_assert!(stored.contains(&value), "{value} was acknowledged and is not in {stored:?}");
        }
    }

    #[test]
    fn replicas_agree_in_the_end(blows in blows(true), eligible_leader_replicas: bool, truncate: bool) {
        let mut kafka = Kafka::with(&[("min.insync.replicas", "2")], |config| {
            config.eligible_leader_replicas = eligible_leader_replicas;
            config.truncate_to_high_watermark = truncate;
        });
        for (turn, blow) in blows.iter().enumerate() {
            kafka.suffer(blow, &turn.to_string());
        }
        kafka.recover();
        if kafka.partition().leader.is_none() {
            kafka.control(Command::ElectUnclean { topic: TOPIC.into(), partition: 0 });
            kafka.advance(1_000);
        }
        let partition = kafka.partition();
        prop_assert_eq!(partition.isr.len(), 3);
        prop_assert_eq!(partition.high_watermark, partition.log_end_offset);
        for replica in &partition.replica_logs {
            prop_assert_eq!(replica.log_end_offset, partition.log_end_offset);
            prop_assert_eq!(replica.diverges_at, None);
        }
        prop_assert_eq!(kafka.cluster.next_wake(), None);
    }
}

// ---- the harness ----

struct Kafka {
    cluster: Cluster,
    now: Time,
    /// Where the last produce went.
    producer: ConnId,
    answers: Vec<(ConnId, Response)>,
}

/// A produce that was sent.
struct Produced<'a>(&'a mut Kafka);

impl Produced<'_> {
    /// The answer, which must be there.
    fn now(self) -> Result<i64, ErrorCode> {
        self.0.answered().expect("an answer at once")
    }

    /// The answer, if there is one so many milliseconds later.
    fn after(self, ms: i32) -> Option<Result<i64, ErrorCode>> {
        self.0.advance(ms);
        self.0.answered()
    }
}

impl Kafka {
    fn new() -> Self {
        Self::with(&[], |_| {})
    }

    /// Followers take so many milliseconds to copy.
    fn slow(delay_ms: u64) -> Self {
        Self::with(&[], |config| config.follower_delay = Duration::from_millis(delay_ms))
    }

    fn with(topic_configs: &[(&str, &str)], adapt: impl FnOnce(&mut ClusterConfig)) -> Self {
        let configs = topic_configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let topics = vec![TopicConfig { configs, ..TopicConfig::new(TOPIC, 1) }];
        let mut config = ClusterConfig { topics, ..ClusterConfig::with_brokers(3) };
        // Nothing is to happen but replication.
        config.configs.insert("log.retention.ms".into(), "-1".into());
        adapt(&mut config);
        let cluster = Cluster::new(&config).expect("a cluster");
        Self { cluster, now: Time::from_millis(START_MS), producer: ConnId(0), answers: Vec::new() }
    }

    fn partition(&self) -> PartitionView {
        self.cluster.view().topic(TOPIC).expect("the topic").partitions[0].clone()
    }

    fn replica(&self, node: NodeId) -> ReplicaView {
        let found = self.partition().replica_logs.into_iter().find(|replica| replica.node == node);
        found.expect("a replica there")
    }

    fn connect(&mut self, node: NodeId) -> ConnId {
        self.cluster.connect(node, "/127.0.0.1").expect("the broker runs")
    }

    fn connect_to_leader(&mut self) -> ConnId {
        let leader = self.partition().leader.expect("a leader");
        self.connect(leader)
    }

    /// Lets time pass as a driver does: it wakes the cluster whenever it wants to be woken.
    fn advance(&mut self, ms: i32) {
        let until = self.now + millis(ms);
        while let Some(due) = self.cluster.next_wake().filter(|due| *due <= until) {
            let outputs = self.cluster.wake(due);
            self.carry_out(outputs);
        }
        self.now = until;
        let outputs = self.cluster.wake(until);
        self.carry_out(outputs);
    }

    fn control(&mut self, command: Command) {
        self.try_control(command).expect("a command that can be done");
    }

    fn try_control(&mut self, command: Command) -> Result<(), CommandError> {
        let outputs = self.cluster.control(self.now, command)?;
        self.carry_out(outputs);
        Ok(())
    }

    fn stop_copying(&mut self, node: NodeId) {
        self.control(Command::StopCopying { topic: TOPIC.into(), partition: 0, node });
    }

    fn resume_copying(&mut self, node: NodeId) {
        self.control(Command::ResumeCopying { topic: TOPIC.into(), partition: 0, node });
    }

    fn shrink(&mut self, node: NodeId) {
        self.control(Command::ShrinkIsr { topic: TOPIC.into(), partition: 0, node });
    }

    fn ask(&mut self, conn: ConnId, version: i16, body: impl Into<Request>) -> Option<Response> {
        let request = Incoming { version, client_id: Str::from("test"), body: body.into(), frame_bytes: 0 };
        let outputs = self.cluster.handle(self.now, conn, request);
        for output in &outputs {
            if let Output::Reply { conn: to, response: Some(response), .. } = output
                && *to == conn
            {
                response.encode(version, &mut Writer::new()).expect("an answer this version has room for");
            }
        }
        self.carry_out(outputs);
        self.take(conn)
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            if let Output::Reply { conn, response: Some(response), .. } = output {
                self.answers.push((conn, *response));
            }
        }
    }

    fn take(&mut self, conn: ConnId) -> Option<Response> {
        let at = self.answers.iter().position(|(to, _)| *to == conn)?;
        Some(self.answers.remove(at).1)
    }

    fn produce(&mut self, acks: i16, value: &str) -> Produced<'_> {
        self.produce_batch(acks, batch(value))
    }

    fn produce_batch(&mut self, acks: i16, batch: BatchBuilder) -> Produced<'_> {
        let bytes: Bytes = batch.build().expect("a batch");
        let partition = PartitionProduceData { index: 0, records: Some(Records::from(bytes)) };
        let topic = TopicProduceData { name: Str::from(TOPIC), partition_data: vec![partition], ..Default::default() };
        let request = ProduceRequest { acks, timeout_ms: 1_000, topic_data: vec![topic], ..Default::default() };
        let conn = self.connect_to_leader();
        self.producer = conn;
        if let Some(answer) = self.ask(conn, 12, request) {
            self.answers.push((conn, answer));
        }
        Produced(self)
    }

    /// What the last produce was answered, if it was.
    fn answered(&mut self) -> Option<Result<i64, ErrorCode>> {
        let row = match self.take(self.producer)? {
            Response::Produce(mut produced) => produced.responses.remove(0).partition_responses.remove(0),
            other => panic!("not an answer to Produce: {other:?}"),
        };
        let PartitionProduceResponse { error_code, base_offset, .. } = row;
        Some(if error_code == 0 { Ok(base_offset) } else { Err(code(error_code)) })
    }

    fn fetch(&mut self, conn: ConnId, request: FetchRequest) -> Option<PartitionData> {
        self.ask(conn, 12, request).map(fetched)
    }

    fn take_fetched(&mut self, conn: ConnId) -> Option<PartitionData> {
        self.take(conn).map(fetched)
    }

    /// What a consumer of the leader can read.
    fn read_all(&mut self) -> Vec<String> {
        let reader = self.connect_to_leader();
        values(&self.fetch(reader, waiting(0, 0)).expect("an answer"))
    }

    /// What is in the leader's log, committed or not.
    fn stored(&self) -> Vec<String> {
        let batches = self.cluster.stored_batches(TOPIC, 0).expect("the partition");
        batches.iter().flat_map(values_of).collect()
    }

    fn allow_unclean_election(&mut self) {
        let name = Str::from("unclean.leader.election.enable");
        let config = AlterableConfig { name, value: Some(Str::from("true")), ..Default::default() };
        let resource =
            AlterConfigsResource { resource_type: 2, resource_name: Str::from(TOPIC), configs: vec![config] };
        let conn = self.connect(TWO);
        match self.ask(conn, 1, IncrementalAlterConfigsRequest { resources: vec![resource], ..Default::default() }) {
            Some(Response::IncrementalAlterConfigs(altered)) => assert_eq!(altered.responses[0].error_code, 0),
            other => panic!("not an answer to IncrementalAlterConfigs: {other:?}"),
        }
    }

    fn latest(&mut self) -> Result<i64, ErrorCode> {
        let partitions = vec![ListOffsetsPartition { timestamp: -1, ..Default::default() }];
        let topics = vec![ListOffsetsTopic { name: Str::from(TOPIC), partitions }];
        let conn = self.connect_to_leader();
        match self.ask(conn, 9, ListOffsetsRequest { replica_id: -1, topics, ..Default::default() }) {
            Some(Response::ListOffsets(listed)) => {
                let row = &listed.topics[0].partitions[0];
                if row.error_code == 0 { Ok(row.offset) } else { Err(code(row.error_code)) }
            }
            other => panic!("not an answer to ListOffsets: {other:?}"),
        }
    }

    fn end_of_epoch(&mut self, leader_epoch: i32) -> (i32, i64) {
        let partitions = vec![OffsetForLeaderPartition { leader_epoch, ..Default::default() }];
        let topics = vec![OffsetForLeaderTopic { topic: Str::from(TOPIC), partitions }];
        let conn = self.connect_to_leader();
        match self.ask(conn, 4, OffsetForLeaderEpochRequest { topics, ..Default::default() }) {
            Some(Response::OffsetForLeaderEpoch(found)) => {
                let row = &found.topics[0].partitions[0];
                (row.leader_epoch, row.end_offset)
            }
            other => panic!("not an answer to OffsetForLeaderEpoch: {other:?}"),
        }
    }

    fn metadata(&mut self, node: NodeId) -> MetadataResponse {
        let conn = self.connect(node);
        match self.ask(conn, 12, MetadataRequest { topics: None, ..Default::default() }) {
            Some(Response::Metadata(metadata)) => metadata,
            other => panic!("not an answer to Metadata: {other:?}"),
        }
    }
}

fn batch(value: &str) -> BatchBuilder {
    BatchBuilder::new().record(START_MS, None, Some(value.as_bytes()))
}

fn waiting(fetch_offset: i64, max_wait_ms: i32) -> FetchRequest {
    let partition = FetchPartition { fetch_offset, partition_max_bytes: 1 << 20, ..Default::default() };
    let topic = FetchTopic { topic: Str::from(TOPIC), partitions: vec![partition], ..Default::default() };
    FetchRequest { max_wait_ms, min_bytes: 1, topics: vec![topic], ..Default::default() }
}

fn fetched(response: Response) -> PartitionData {
    match response {
        Response::Fetch(mut fetched) => fetched.responses.remove(0).partitions.remove(0),
        other => panic!("not an answer to Fetch: {other:?}"),
    }
}

fn values(row: &PartitionData) -> Vec<String> {
    let chunks = row.records.iter().flat_map(Records::chunks);
    chunks.filter(|chunk| !chunk.is_empty()).flat_map(values_of).collect()
}

fn values_of(batch: &Bytes) -> Vec<String> {
    let records = records(batch).expect("stored records");
    let text = |value: Option<Bytes>| String::from_utf8_lossy(value.as_deref().unwrap_or_default()).into_owned();
    records.into_iter().map(|record| text(record.value)).collect()
}

fn code(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).expect("a code Kafka has")
}
