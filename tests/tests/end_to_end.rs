//! The bus over rdkafka over TCP against three of our brokers, while they crash under it.

use rehearsal_bus::config::KafkaEventBusConfig;
use rehearsal_bus::{KafkaEventBus, prelude::*};
use rehearsal_mockbroker::testing::MockCluster;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

const ORDERS: u32 = 20;
const STEPS: u32 = 30;
/// Long enough for a client that looks for a new leader on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(DomainEvent, Serialize, Deserialize)]
#[event(aggregate = "Order")]
struct Step {
    #[event(aggregate_id)]
    order: String,
    number: u32,
}

fn config(kafka: &MockCluster) -> KafkaEventBusConfig {
    KafkaEventBusConfig::builder()
        .bootstrap_servers(kafka.bootstrap_servers())
        .topic_prefix("orders")
        .consumer_group("shipping")
        .build()
        .expect("a configuration")
}

/// What each order has seen so far. A step may come again, but never before one that it follows.
#[derive(Default)]
struct Seen {
    steps: BTreeMap<String, Vec<u32>>,
    redelivered: usize,
}

impl Seen {
    fn note(&mut self, order: String, number: u32) {
        let steps = self.steps.entry(order).or_default();
        let next = steps.last().map_or(0, |last| last + 1);
        if number < next {
            self.redelivered += 1;
        } else {
            assert_eq!(number, next, "a step was lost or overtaken");
            steps.push(number);
        }
    }

    fn is_complete(&self) -> bool {
        self.steps.len() == ORDERS as usize && self.steps.values().all(|steps| steps.len() == STEPS as usize)
    }
}

async fn until_complete(seen: &mut Seen, handled: &mut UnboundedReceiver<(String, u32)>) {
    let all = async {
        while !seen.is_complete() {
            let (order, number) = handled.recv().await.expect("the bus still runs");
            seen.note(order, number);
        }
    };
    if tokio::time::timeout(PATIENCE, all).await.is_err() {
        panic!("after {PATIENCE:?} some steps are missing: {:?}", seen.steps);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_broker_crashes_once_and_no_order_loses_or_reorders_a_step() {
    let kafka = MockCluster::builder().brokers(3).topic("orders.stream", 6).start().expect("free ports");
    let bus = KafkaEventBus::new(config(&kafka));
    let (tell, mut handled) = unbounded_channel();
    bus.subscribe(move |step: Event<Step>| -> Handled {
        tell.send((step.order.clone(), step.number))?;
        Ok(())
    })
    .expect("a subscription");
    bus.connect().await.expect("three brokers");
    bus.start_consuming_in_background().expect("a connected bus");

    for number in 0..STEPS {
        if number % 10 == 4 {
            kafka.crash(number as i32 / 10 + 1).expect("it runs");
        }
        if number % 10 == 8 {
            kafka.start_broker(number as i32 / 10 + 1).expect("it is down");
        }
        let steps: Vec<Step> = (0..ORDERS).map(|order| Step { order: format!("o-{order}"), number }).collect();
        bus.publish(steps).await.expect("one of two brokers takes them");
    }

    let mut seen = Seen::default();
    until_complete(&mut seen, &mut handled).await;
    bus.shutdown(PATIENCE).await.expect("a clean end");

    let stored: usize =
        (0..6).filter_map(|partition| kafka.records("orders.stream", partition)).map(|log| log.len()).sum();
    assert_eq!(stored, (ORDERS * STEPS) as usize, "the idempotent producer stored every event once");
}
