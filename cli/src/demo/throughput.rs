//! Demo 3: a thousand events, then a million, published and consumed.

use super::GRACE;
use super::events::OrderPlaced;
use super::screen::{banner, say};
use super::stage::Stage;
use super::table::{Row, per_second};
use super::tally::Tally;
use anyhow::Context;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use rehearsal_bus::config::{Acks, Compression, KafkaEventBusConfig, Preset};
use rehearsal_bus::{KafkaEventBus, prelude::*};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use uuid::Uuid;

const FEW: u64 = 1_000;
const FEW_PER_PUBLISH: usize = 100;
const PARTITIONS: i32 = 6;
/// Calls to `publish` under way at a time: one waits for the brokers while the others fill batches.
const PUBLISHERS: usize = 4;
/// Events per call: a large batch for each partition, so that waiting for company costs little.
const MANY_PER_PUBLISH: u64 = 10_000;
const REDRAW: Duration = Duration::from_millis(100);

pub(super) async fn run(stage: &Stage, many: u64) -> anyhow::Result<[Row; 2]> {
    banner("Demo 3: High-Throughput Publishing");
    Ok([publish_few(stage).await?, publish_and_consume_many(stage, many).await?])
}

/// One call after the other, a hundred events each; small batches that wait for company, gzip.
async fn publish_few(stage: &Stage) -> anyhow::Result<Row> {
    let config = KafkaEventBusConfig::builder()
        .bootstrap_servers(stage.bootstrap())
        .topic_prefix(stage.name("demo3"))
        .consumer_group(stage.name("throughput-consumers"))
        .producer_batch_bytes(32_768)
        .producer_linger_ms(10)
        .compression(Compression::Gzip)
        .build()?;
    let bus = KafkaEventBus::new(config);
    bus.connect().await?;
    say!("Connected to Kafka");
    let began = Instant::now();
    let mut events = orders(0..FEW);
    while !events.is_empty() {
        let rest = events.split_off(FEW_PER_PUBLISH.min(events.len()));
        bus.publish(std::mem::replace(&mut events, rest)).await?;
    }
    let took = began.elapsed();
    say!("Published {FEW} events in {:.3}s", took.as_secs_f64());
    say!("Throughput: {} events/sec", per_second(FEW, took));
    say!("\nStatistics:");
    say!("  Events published: {}", bus.stats().events_published);
    bus.shutdown(GRACE).await?;
    Ok(Row::new("3 Throughput, publish", FEW, took, format!("batches of {FEW_PER_PUBLISH}, gzip")))
}

/// Publishing and consuming at the same time; done when every event was handled.
async fn publish_and_consume_many(stage: &Stage, many: u64) -> anyhow::Result<Row> {
    let config = KafkaEventBusConfig::builder()
        .bootstrap_servers(stage.bootstrap())
        .topic_prefix(stage.name("demo3-many"))
        .consumer_group(stage.name("throughput-consumers-many"))
        .topic_partitions(PARTITIONS)
        .preset(Preset::MaxThroughput)
        // What the preset trades away: a million events are no use if some of them can be lost.
        .acks(Acks::All)
        .producer_linger_ms(20)
        .build()?;
    let bus = KafkaEventBus::new(config);
    let handled = Tally::default();
    let tally = handled.clone();
    bus.subscribe(move |_: Event<OrderPlaced>| tally.add(1))?;
    bus.connect().await?;
    bus.start_consuming_in_background()?.assigned().await;
    say!("\nPublishing and consuming {} events...", HumanCount(many));
    let began = Instant::now();
    let published = Arc::new(AtomicU64::new(0));
    let mut publishers = Publishers::start(&bus, many, &published);
    let all_handled = handled.reach(many, "events handled");
    tokio::pin!(all_handled);
    let bar = progress_bar(many);
    let mut redraw = tokio::time::interval(REDRAW);
    let mut published_in = None;
    let handled_in = loop {
        tokio::select! {
            biased;
            all_ended = publishers.next(), if published_in.is_none() => {
                if all_ended? {
                    published_in = Some(began.elapsed());
                }
            }
            done = &mut all_handled => {
                done?;
                break began.elapsed();
            }
            _ = redraw.tick() => {
                bar.set_message(HumanCount(published.load(Ordering::Relaxed)).to_string());
                bar.set_position(handled.count());
            }
        }
    };
    bar.finish_and_clear();
    let published_in = published_in.unwrap_or(handled_in);
    let rate = |took| HumanCount(per_second(many, took));
    let many_text = HumanCount(many);
    say!("Published {many_text} events in {:.3}s ({} events/sec)", published_in.as_secs_f64(), rate(published_in));
    say!("Handled   {many_text} events in {:.3}s ({} events/sec)", handled_in.as_secs_f64(), rate(handled_in));
    // The last handler has begun to return; afterwards it is counted as well.
    bus.shutdown(GRACE).await?;
    say!("\nStatistics:");
    let stats = bus.stats();
    say!("  Events published: {}", HumanCount(stats.events_published));
    say!("  Events consumed: {}", HumanCount(stats.events_consumed));
    say!("  Handlers invoked: {}", HumanCount(stats.handlers_invoked));
    Ok(Row::new("3 Throughput, publish + consume", many, handled_in, "all handled".into()))
}

/// Tasks that publish side by side.
struct Publishers(JoinSet<Result<(), BusError>>);

impl Publishers {
    fn start(bus: &KafkaEventBus, many: u64, published: &Arc<AtomicU64>) -> Self {
        let claimed = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..PUBLISHERS {
            let (bus, claimed, published) = (bus.clone(), claimed.clone(), published.clone());
            tasks.spawn(async move {
                loop {
                    let first = claimed.fetch_add(MANY_PER_PUBLISH, Ordering::Relaxed);
                    if first >= many {
                        return Ok(());
                    }
                    let batch = first..many.min(first + MANY_PER_PUBLISH);
                    let count = batch.end - batch.start;
                    bus.publish(orders(batch)).await?;
                    published.fetch_add(count, Ordering::Relaxed);
                }
            });
        }
        Self(tasks)
    }

    /// Waits for one of them to end; whether all have.
    async fn next(&mut self) -> anyhow::Result<bool> {
        match self.0.join_next().await {
            None => Ok(true),
            Some(ended) => {
                ended.context("publishing")??;
                Ok(false)
            }
        }
    }
}

fn orders(numbers: Range<u64>) -> Vec<OrderPlaced> {
    let order = |number| OrderPlaced {
        order_id: Uuid::new_v4(),
        customer_id: format!("cust-{number}"),
        total_amount: (number * 10) as f64,
    };
    numbers.map(order).collect()
}

/// Shown on standard error, and only if that is a terminal.
fn progress_bar(many: u64) -> ProgressBar {
    let template = "{bar:40} {human_pos} of {human_len} handled, {msg} published";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(many).with_style(style)
}
