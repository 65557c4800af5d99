//! The bus as it ships – rdkafka, tokio, its own threads – under faults in virtual time: no order loses or reorders a
//! step.
#![cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]

use rehearsal_bus::config::KafkaEventBusConfig;
use rehearsal_bus::{KafkaEventBus, prelude::*};
use rehearsal_sim::check::{Kafka, Setup, check};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const ORDERS: u32 = 10;
const STEPS: u32 = 20;

#[derive(DomainEvent, Serialize, Deserialize)]
#[event(aggregate = "Order")]
struct Step {
    #[event(aggregate_id)]
    order: String,
    number: u32,
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn bus(bootstrap: &str) -> KafkaEventBus {
    let config = KafkaEventBusConfig::builder()
        .bootstrap_servers(bootstrap)
        .topic_prefix("orders")
        .consumer_group("shipping")
        .build()
        .expect("a configuration");
    KafkaEventBus::new(config)
}

/// What each order has seen so far, on whichever node. A step may come again, but never before one that it follows.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<BTreeMap<String, Vec<u32>>>>);

impl Seen {
    fn note(&self, order: &str, number: u32) {
        let mut orders = self.0.lock().expect("no poison");
        let steps = orders.entry(order.to_owned()).or_default();
        let next = steps.len() as u32;
        assert!(number <= next, "{order}: step {number} came when step {next} was due");
        if number == next {
            steps.push(number);
        }
    }

    fn is_complete(&self) -> bool {
        let orders = self.0.lock().expect("no poison");
        orders.len() == ORDERS as usize && orders.values().all(|steps| steps.len() == STEPS as usize)
    }
}

async fn publish(bootstrap: String) {
    let bus = bus(&bootstrap);
    bus.connect().await.expect("three brokers");
    for number in 0..STEPS {
        let steps: Vec<Step> = (0..ORDERS).map(|order| Step { order: format!("o-{order}"), number }).collect();
        bus.publish(steps).await.expect("the brokers come back");
        tokio::time::sleep(secs(3)).await;
    }
}

async fn work(bootstrap: String, seen: Seen) {
    let bus = bus(&bootstrap);
    bus.subscribe(move |step: Event<Step>| -> Handled {
        seen.note(&step.order, step.number);
        Ok(())
    })
    .expect("a subscription");
    bus.connect().await.expect("three brokers");
    bus.start_consuming_in_background().expect("a connected bus");
    std::future::pending::<()>().await;
}

/// A publisher and two workers; every step is handled in the end, each order's in turn.
fn shop(setup: &mut Setup) {
    let seen = Seen::default();
    let bootstrap = setup.kafka(Kafka::brokers(3).topic("orders.stream", 6));
    let to = bootstrap.clone();
    setup.duration(secs(400)).node("publisher", move || publish(to.clone()));
    let notes = seen.clone();
    setup.nodes("worker", 2, move |_| work(bootstrap.clone(), notes.clone()));
    let all = seen.clone();
    setup.ends_when(move |_| all.is_complete());
    setup.finally(move |_| assert!(seen.is_complete(), "some steps are missing: {:?}", seen.0));
}

#[test]
fn nothing_happens() {
    check("the bus, and nothing happens", |setup| {
        setup.seeds(3).twice();
        shop(setup);
    });
}

#[test]
fn workers_crash_and_stand_still_and_links_are_cut() {
    check("the bus, while workers crash and stand still and links are cut", |setup| {
        setup.seeds(6).twice();
        shop(setup);
        let after = |at: u64, jitter: u64| secs(at) + Duration::from_millis(jitter * 137 % 5_000);
        let seed = setup.seed();
        setup.at(after(10, seed), |world| world.crash("worker-1"));
        setup.at(after(25, seed), |world| world.restart("worker-1"));
        setup.at(after(30, seed), |world| world.cut("worker-2", "broker-2"));
        setup.at(after(35, seed), |world| world.cut_one_way("broker-1", "publisher"));
        setup.at(after(50, seed), |world| world.pause("worker-2"));
        setup.at(after(60, seed), |world| world.crash_broker(3).expect("it runs"));
        setup.at(after(110, seed), |world| world.heal_all());
    });
}
