//! Demo 2: two workers of one group share what is to be done.

use super::events::OrderPlaced;
use super::screen::{banner, say};
use super::share::Share;
use super::stage::Stage;
use super::table::Row;
use super::tally::Tally;
use super::{GRACE, PATIENCE};
use anyhow::{Context, ensure};
use rehearsal_bus::config::KafkaEventBusConfig;
use rehearsal_bus::hooks::Hooks;
use rehearsal_bus::{KafkaEventBus, prelude::*};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use uuid::Uuid;

const EVENTS: u64 = 10;
const PARTITIONS: i32 = 6;
/// A member hears with a heartbeat that another has joined: often, so that nobody watching has to wait.
const HEARTBEAT_INTERVAL_MS: u32 = 500;

pub(super) async fn run(stage: &Stage) -> anyhow::Result<Row> {
    banner("Demo 2: Consumer Groups and Load Balancing");
    let began = Instant::now();
    let processed = Processed::default();
    let first = Worker::hire(stage, 1, &processed).await?;
    let second = Worker::hire(stage, 2, &processed).await?;
    say!("Both workers connected");
    show_leaders(stage, &first.bus.config().topic_name());

    first.bus.start_consuming_in_background()?;
    second.bus.start_consuming_in_background()?;
    both_have_work(&first, &second).await?;

    say!("\nPublishing {EVENTS} events...");
    for number in 0..EVENTS {
        let (order_id, customer_id) = (Uuid::new_v4(), format!("cust-{number}"));
        let total_amount = 10.0 * (number + 1) as f64;
        first.bus.publish(OrderPlaced { order_id, customer_id, total_amount }).await?;
    }
    processed.tally.reach(EVENTS, "events processed").await?;
    first.bus.shutdown(GRACE).await?;
    second.bus.shutdown(GRACE).await?;

    let (by_first, by_second) = (first.done.count(), second.done.count());
    say!("\nResults:");
    say!("  Worker 1 processed: {by_first} events");
    say!("  Worker 2 processed: {by_second} events");
    say!("  Total: {} events", by_first + by_second);
    ensure!(by_first + by_second == EVENTS, "the workers' totals should add up to {EVENTS}");
    let shown = format!("{by_first} + {by_second} = {EVENTS}");
    Ok(Row::new("2 Consumer group", EVENTS, began.elapsed(), shown))
}

struct Worker {
    bus: KafkaEventBus,
    done: Tally,
    share: Share,
}

/// What the group has processed. The bus delivers at least once; whoever must act once looks at the event's id.
#[derive(Clone, Default)]
struct Processed {
    ids: Arc<Mutex<HashSet<Uuid>>>,
    tally: Tally,
}

impl Processed {
    fn is_new(&self, event_id: Uuid) -> bool {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).insert(event_id)
    }
}

impl Worker {
    async fn hire(stage: &Stage, number: usize, processed: &Processed) -> anyhow::Result<Self> {
        let config = KafkaEventBusConfig::builder()
            .bootstrap_servers(stage.bootstrap())
            .topic_prefix(stage.name("demo2"))
            .consumer_group(stage.name("load-balanced-consumers"))
            .consumer_name(format!("worker-{number}"))
            .topic_partitions(PARTITIONS)
            .heartbeat_interval_ms(HEARTBEAT_INTERVAL_MS)
            .build()?;
        let share = Share::default();
        let bus = KafkaEventBus::builder(config).hooks(Hooks::observed_by(share.clone())).build();
        let worker = Self { bus, done: Tally::default(), share };
        let (tally, processed) = (worker.done.clone(), processed.clone());
        worker.bus.subscribe(move |event: Event<OrderPlaced>| {
            if processed.is_new(event.event_id()) {
                say!("  Worker {number} processed: {}", event.aggregate_id());
                tally.add(1);
                processed.tally.add(1);
            }
        })?;
        worker.bus.connect().await?;
        Ok(worker)
    }
}

/// The group first gives everything to whoever comes first, then shares: wait until it has.
async fn both_have_work(first: &Worker, second: &Worker) -> anyhow::Result<()> {
    let shared = async {
        let (mut one, mut two) = (first.share.watch(), second.share.watch());
        loop {
            let (first, second) = (*one.borrow_and_update(), *two.borrow_and_update());
            if first > 0 && second > 0 && first + second == PARTITIONS as usize {
                return (first, second);
            }
            tokio::select! {
                biased;
                _ = one.changed() => {}
                _ = two.changed() => {}
            }
        }
    };
    let (first, second) = tokio::time::timeout(PATIENCE, shared)
        .await
        .with_context(|| format!("the group did not share its partitions within {PATIENCE:?}"))?;
    say!("Worker 1 has {first} partitions, worker 2 has {second}");
    Ok(())
}

/// Who leads which partition. Only the embedded cluster can be asked: the bus keeps its client to itself.
fn show_leaders(stage: &Stage, topic: &str) {
    let Some(cluster) = &stage.cluster else { return };
    let view = cluster.view();
    let Some(topic) = view.topic(topic) else { return };
    let led = topic.partitions.iter().filter_map(|partition| Some((partition.index, partition.leader?)));
    let led: Vec<_> = led.map(|(index, leader)| format!("{index} on {leader}")).collect();
    say!("Partitions of {}: {}", topic.name, led.join(", "));
}
