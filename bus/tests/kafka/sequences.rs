//! Dead letters whose successors follow them: `DlqScope::Sequence`.

use crate::support::{Kafka, Paid, Seen, connected, consume, kafka, paid, until, within};
use rehearsal_bus::KafkaEventBus;
use rehearsal_bus::config::{ConfigError, DlqScope, KafkaEventBusConfig, TopicNaming};
use rehearsal_bus::dlq::{EvictOutcome, ReplayOutcome};
use rehearsal_bus::prelude::*;
use rehearsal_bus::{RetryPolicy, RetryScope};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The numbers of events that cannot be handled just now.
type Broken = Arc<Mutex<BTreeSet<u32>>>;

async fn member(kafka: &Kafka, broken: &Broken) -> (KafkaEventBus, Seen<u32>) {
    let mut config = kafka.config("bank");
    (config.dlq_scope, config.topic_partitions) = (DlqScope::Sequence, Some(2));
    let (bus, seen) = (connected(config).await, Seen::default());
    let (note, broken) = (seen.clone(), broken.clone());
    bus.subscribe(move |event: Event<Paid>| {
        note.note(event.number);
        if broken.lock().unwrap().contains(&event.number) {
            Err(HandlerError::fatal("no such account"))
        } else {
            Ok(())
        }
    })
    .unwrap();
    consume(&bus).await;
    (bus, seen)
}

fn broken(numbers: impl IntoIterator<Item = u32>) -> Broken {
    Arc::new(Mutex::new(numbers.into_iter().collect()))
}

async fn letters(bus: &KafkaEventBus) -> Vec<(i64, String)> {
    let letters = bus.get_dlq_messages(100).await.unwrap().into_iter();
    let mut letters: Vec<_> = letters
        .map(|letter| (letter.sequence_offset().unwrap(), letter.header("dlq_disposition").unwrap().into()))
        .collect();
    letters.sort();
    letters
}

#[tokio::test(flavor = "multi_thread")]
async fn later_events_of_a_dead_ones_key_follow_it_and_come_back_in_their_order() {
    let (kafka, broken) = (kafka(), broken([1]));
    let (bus, seen) = member(&kafka, &broken).await;
    bus.publish([paid("a", 1), paid("a", 2), paid("a", 3)]).await.unwrap();
    bus.publish(paid("b", 4)).await.unwrap();
    until("dead letters", || bus.stats().messages_sent_to_dlq == 3).await;
    bus.publish(paid("a", 5)).await.unwrap();
    until("dead letters", || bus.stats().messages_sent_to_dlq == 4).await;
    let mut handled = seen.count(2).await;
    handled.sort_unstable();
    assert_eq!(handled, [1, 4]);
    let dispositions: Vec<_> = letters(&bus).await.into_iter().map(|(_, disposition)| disposition).collect();
    assert_eq!(dispositions, ["fatal", "sequence", "sequence", "sequence"]);

    let mut all = bus.get_dlq_messages(10).await.unwrap();
    all.sort_by_key(|letter| letter.sequence_offset());
    let behind = bus.replay_dlq_message(all[1].partition, all[1].offset).await.unwrap();
    assert_eq!(behind, ReplayOutcome::Behind { partition: all[0].partition, offset: all[0].offset });

    broken.lock().unwrap().clear();
    let outcomes = bus.replay_dlq_key("a").await.unwrap();
    assert!(outcomes.len() == 4 && outcomes.iter().all(|outcome| outcome.is_replayed()), "{outcomes:?}");
    assert_eq!(seen.count(6).await[2..], [1, 2, 3, 5]);
    assert_eq!(bus.get_dlq_message_count().await.unwrap(), 0);
    bus.publish(paid("a", 6)).await.unwrap();
    assert_eq!(seen.count(7).await[6], 6, "the key is free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_fails_again_takes_what_comes_after_it_back() {
    let (kafka, broken) = (kafka(), broken([1]));
    let (bus, seen) = member(&kafka, &broken).await;
    bus.publish([paid("a", 1), paid("a", 2)]).await.unwrap();
    until("dead letters", || bus.stats().messages_sent_to_dlq == 2).await;
    let before = letters(&bus).await;
    let outcomes = bus.replay_dlq_key("a").await.unwrap();
    // Whether the second one was replayed before the first had failed again or not.
    assert!(matches!(outcomes[..], [ReplayOutcome::Replayed { .. }, _]), "{outcomes:?}");
    within("the same letters", async {
        while letters(&bus).await != before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(seen.all(), [1, 1], "the second one was not handled");

    broken.lock().unwrap().clear();
    bus.replay_dlq_key("a").await.unwrap();
    assert_eq!(seen.count(4).await[2..], [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_a_partition_over_knows_which_keys_are_dead() {
    let (kafka, broken) = (kafka(), broken([1]));
    let (one, _) = member(&kafka, &broken).await;
    one.publish([paid("a", 1), paid("a", 2)]).await.unwrap();
    until("dead letters", || one.stats().messages_sent_to_dlq == 2).await;
    // Whether or not their positions were committed before the end, none is written twice.
    let _ = one.shutdown(Duration::ZERO).await;

    let (two, seen) = member(&kafka, &broken).await;
    broken.lock().unwrap().clear();
    two.publish([paid("a", 3), paid("b", 4)]).await.unwrap();
    assert_eq!(seen.count(1).await, [4]);
    until("third letter", || two.stats().events_processed_failed >= 1).await;
    let places: Vec<_> = letters(&two).await.into_iter().map(|(place, _)| place).collect();
    assert_eq!(places.len(), 3, "{places:?}");
    // Replayed while nobody is there, handled by whoever comes, and in order with what was published meanwhile.
    let closer = connected(two.config().clone()).await;
    two.shutdown(Duration::from_secs(10)).await.unwrap();
    closer.publish(paid("a", 5)).await.unwrap();
    closer.replay_dlq_key("a").await.unwrap();
    let (three, seen) = member(&kafka, &broken).await;
    assert_eq!(seen.count(3).await, [1, 2, 3]);
    until("its follower", || three.stats().messages_sent_to_dlq >= 1).await;
    three.replay_dlq_key("a").await.unwrap();
    assert_eq!(seen.count(4).await[3], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_stays_dead_when_its_partition_moves_to_another_member() {
    let (kafka, broken) = (kafka(), broken([0, 1]));
    let (one, seen) = member(&kafka, &broken).await;
    // Two accounts, so that whichever partition moves there is a dead key in it.
    one.publish([paid("a", 0), paid("b", 1), paid("c", 2), paid("d", 3)]).await.unwrap();
    until("dead letters", || one.stats().messages_sent_to_dlq == 2).await;
    let (two, theirs) = member(&kafka, &broken).await;
    until("a share for each", || two.stats().rebalance_count >= 1 && one.stats().rebalance_count >= 2).await;
    broken.lock().unwrap().clear();
    one.publish([paid("a", 10), paid("b", 11), paid("c", 12), paid("d", 13)]).await.unwrap();
    until("followers", || one.stats().messages_sent_to_dlq + two.stats().messages_sent_to_dlq >= 4).await;
    one.replay_dlq_key("a").await.unwrap();
    one.replay_dlq_key("b").await.unwrap();
    let all = || seen.all().into_iter().chain(theirs.all()).collect::<Vec<_>>();
    until("everything", || all().len() == 10).await;
    for (first, second) in [(0, 10), (1, 11)] {
        // The first time it failed.
        let at = |number| all().iter().rposition(|seen| *seen == number);
        assert!(at(first) < at(second), "{:?}", all());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_lets_the_key_go_on_without_its_dead_event() {
    let (kafka, broken) = (kafka(), broken([1]));
    let (bus, seen) = member(&kafka, &broken).await;
    bus.publish(paid("a", 1)).await.unwrap();
    until("dead letter", || bus.stats().messages_sent_to_dlq == 1).await;
    let letter = &bus.get_dlq_messages(1).await.unwrap()[0];
    let evict = async |offset| bus.evict_dlq_message(letter.partition, offset, "a test").await.unwrap();
    assert_eq!(evict(letter.offset).await, EvictOutcome::Evicted);
    assert_eq!(evict(letter.offset).await, EvictOutcome::AlreadyResolved);
    assert_eq!(evict(999).await, EvictOutcome::NotFound);
    assert_eq!(bus.get_dlq_message_count().await.unwrap(), 0);
    let again = bus.replay_dlq_message(letter.partition, letter.offset).await.unwrap();
    assert_eq!(again, ReplayOutcome::AlreadyReplayed);
    bus.publish(paid("a", 2)).await.unwrap();
    assert_eq!(seen.count(2).await, [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_needs_a_dead_letter_topic_of_as_many_partitions_and_an_order_to_keep() {
    let kafka = kafka();
    let mut config = kafka.config("g");
    let mut fewer = config.clone();
    // A bus whose main topic is what the other one takes for its dead letters.
    (fewer.topic_naming, fewer.topic_prefix) = (TopicNaming::custom(str::to_owned), config.dlq_topic_name());
    (fewer.topic_partitions, fewer.enable_dlq) = (Some(1), false);
    connected(fewer).await;
    config.dlq_scope = DlqScope::Sequence;
    let error = KafkaEventBus::new(config).connect().await.unwrap_err();
    assert!(
        matches!(&error, BusError::Backend { source, .. } if source.to_string().contains("partitions")),
        "{error:?}"
    );

    let unordered = RetryPolicy::default().scope(RetryScope::Topic);
    let refused = KafkaEventBusConfig::builder().dlq_scope(DlqScope::Sequence).retry(unordered).build();
    assert!(matches!(refused, Err(ConfigError::Contradiction { .. })), "{refused:?}");
    let refused = KafkaEventBusConfig::builder().dlq_scope(DlqScope::Sequence).enable_dlq(false).build();
    assert!(matches!(refused, Err(ConfigError::Contradiction { .. })), "{refused:?}");
}
