//! What does the bus cost? Events through it, and the same records through the bare client with the same settings.
//!
//! The bare client moves bytes (`bare`) or makes events of them as the bus must (`bare-with-codec`). Every pass through
//! the bus follows one of each, so that the ratios printed at the end come from the same minute of the same machine.

use anyhow::Result;
use benches::{Bare, Peer, bus, handle_slowly, handle_through_the_bus, publish_through_the_bus, sized};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use rehearsal_bus::{EventBus, RetryScope};
use std::time::Duration;
use tokio::runtime::Runtime;

/// How long the three ways took, one after the other.
struct Pass {
    bytes: Duration,
    codec: Duration,
    bus: Duration,
}

/// What a way is called, and how long it took in a pass.
type Way = (&'static str, fn(&Pass) -> Duration);

fn publish(c: &mut Criterion) {
    let (peer, runtime, events) = (Peer::rehearsal().expect("a broker"), runtime(), sized(100_000));
    compare(c, "bus-publish", events, || {
        let bare = |encoding| {
            let topic = peer.fresh_topic()?;
            Bare::connect(&peer)?.publish(&topic, events, encoding)
        };
        let (bytes, codec) = (bare(false)?, bare(true)?);
        let topic = peer.fresh_topic()?;
        let bus = runtime.block_on(async {
            let bus = bus(&peer, &topic).await?;
            let took = publish_through_the_bus(&bus, events).await?;
            bus.shutdown(Duration::from_secs(10)).await?;
            anyhow::Ok(took)
        })?;
        Ok(Pass { bytes, codec, bus })
    });
}

fn consume(c: &mut Criterion) {
    let (peer, runtime, events) = (Peer::rehearsal().expect("a broker"), runtime(), sized(100_000));
    let topic = peer.fresh_topic().expect("a topic");
    Bare::connect(&peer).and_then(|bare| bare.publish(&topic, events, true)).expect("events to handle");
    compare(c, "bus-consume", events, || {
        let (bytes, codec) = (Bare::read(&peer, &topic, events, false)?, Bare::read(&peer, &topic, events, true)?);
        let bus = runtime.block_on(async {
            let bus = bus(&peer, &topic).await?;
            let took = handle_through_the_bus(&bus, events).await?;
            bus.shutdown(Duration::from_secs(10)).await?;
            anyhow::Ok(took)
        })?;
        Ok(Pass { bytes, codec, bus })
    });
}

/// 10,000 events about 1,000 aggregates in one partition, 5 ms each: key by key, and one after the other (fewer of those).
fn by_key(c: &mut Criterion) {
    let (peer, runtime) = (Peer::rehearsal().expect("a broker"), runtime());
    let ways = [("by-key", RetryScope::Key, sized(10_000)), ("one-by-one", RetryScope::Partition, sized(500))];
    let mut group = c.benchmark_group("bus-slow-handlers");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_secs(1));
    let mut rates = Vec::new();
    for (name, scope, events) in ways {
        let mut best: f64 = 0.0;
        group.throughput(Throughput::Elements(events));
        group.bench_function(name, |b| {
            b.iter_custom(|count| {
                let pass = |_| {
                    let took = runtime.block_on(handle_slowly(&peer, events, scope)).expect("a pass");
                    best = best.max(rate(events, took));
                    took
                };
                (0..count).map(pass).sum()
            });
        });
        rates.push(best);
    }
    group.finish();
    say(&format!("bus-slow-handlers: by key {:.0}/s, one by one {:.0}/s (the best of each)", rates[0], rates[1]));
}

fn rate(events: u64, took: Duration) -> f64 {
    events as f64 / took.as_secs_f64()
}

/// Criterion keeps each way's times; the ratios of every pass are printed.
fn compare(c: &mut Criterion, question: &str, events: u64, mut pass: impl FnMut() -> Result<Pass>) {
    let mut passes = Vec::new();
    let mut group = c.benchmark_group(question);
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_secs(1));
    group.throughput(Throughput::Elements(events));
    let ways: [Way; 3] =
        [("bare", |pass| pass.bytes), ("bare-with-codec", |pass| pass.codec), ("bus", |pass| pass.bus)];
    for (way, (name, took)) in ways.iter().enumerate() {
        let mut at = 0;
        group.bench_function(*name, |b| {
            b.iter_custom(|count| {
                (0..count)
                    .map(|_| {
                        // The first way measured makes the passes; the others look up their share of the same ones.
                        if way == 0 || at == passes.len() {
                            passes.push(pass().expect("a pass"));
                            at = passes.len() - 1;
                        }
                        at += 1;
                        took(&passes[at - 1])
                    })
                    .sum()
            });
        });
    }
    group.finish();
    report(question, events, &passes);
}

/// Medians over the passes; nothing when the bench was filtered out.
fn report(question: &str, events: u64, passes: &[Pass]) {
    if passes.is_empty() {
        return;
    }
    let median = |value: &dyn Fn(&Pass) -> f64| {
        let mut values: Vec<_> = passes.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let of = |bare: fn(&Pass) -> Duration| median(&|pass| bare(pass).as_secs_f64() / pass.bus.as_secs_f64());
    let rates = |way: fn(&Pass) -> Duration| median(&|pass| rate(events, way(pass)));
    say(&format!(
        "{question}: bare {:.0}/s, with codec {:.0}/s, bus {:.0}/s: {:.2} × bare, {:.2} × bare with codec (medians of {})",
        rates(|pass| pass.bytes),
        rates(|pass| pass.codec),
        rates(|pass| pass.bus),
        of(|pass| pass.bytes),
        of(|pass| pass.codec),
        passes.len(),
    ));
}

#[expect(clippy::print_stdout, reason = "a bench whose answer is a ratio")]
fn say(line: &str) {
    println!("{line}");
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

criterion_group!(benches, publish, consume, by_key);
criterion_main!(benches);
