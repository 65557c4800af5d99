//! What does the bus cost? Events through it, and the same records through the bare client with the same settings.
//!
//! The bare client moves bytes (`bare`) or makes events of them as the bus must (`bare-with-codec`). Every pass through
//! the bus follows one of each, so that the ratios printed at the end come from the same minute of the same machine.

use anyhow::Result;
use benches::{Bare, Peer, bus, handle_through_the_bus, publish_through_the_bus, sized};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use std::time::Duration;
use tokio::runtime::Runtime;

/// How long the three ways took, one after the other.
struct Pass {
    bytes: Duration,
    codec: Duration,
    bus: Duration,
}

fn publish(c: &mut Criterion) {
    let (peer, runtime, events) = (Peer::rehearsal().expect("a broker"), runtime(), sized(200_000));
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
            rehearsal_bus::EventBus::shutdown(&bus, Duration::from_secs(10)).await?;
            anyhow::Ok(took)
        })?;
        Ok(Pass { bytes, codec, bus })
    });
}

fn consume(c: &mut Criterion) {
    let (peer, runtime, events) = (Peer::rehearsal().expect("a broker"), runtime(), sized(200_000));
    let topic = peer.fresh_topic().expect("a topic");
    Bare::connect(&peer).and_then(|bare| bare.publish(&topic, events, true)).expect("events to handle");
    compare(c, "bus-consume", events, || {
        let (bytes, codec) = (Bare::read(&peer, &topic, events, false)?, Bare::read(&peer, &topic, events, true)?);
        let bus = runtime.block_on(async {
            let bus = bus(&peer, &topic).await?;
            let took = handle_through_the_bus(&bus, events).await?;
            rehearsal_bus::EventBus::shutdown(&bus, Duration::from_secs(10)).await?;
            anyhow::Ok(took)
        })?;
        Ok(Pass { bytes, codec, bus })
    });
}

/// Criterion keeps each way's times; the ratios of every pass are printed.
fn compare(c: &mut Criterion, question: &str, events: u64, mut pass: impl FnMut() -> Result<Pass>) {
    let mut passes = Vec::new();
    let mut group = c.benchmark_group(question);
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_secs(1));
    group.throughput(Throughput::Elements(events));
    let ways: [(&str, fn(&Pass) -> Duration); 3] =
        [("bare", |pass| pass.bytes), ("bare-with-codec", |pass| pass.codec), ("bus", |pass| pass.bus)];
    for (way, (name, took)) in ways.iter().enumerate() {
        group.bench_function(*name, |b| {
            let mut at = 0;
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

#[expect(clippy::print_stdout, reason = "a bench whose answer is a ratio")]
fn report(question: &str, events: u64, passes: &[Pass]) {
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let rate = |took: Duration| events as f64 / took.as_secs_f64();
    let of = |bare: fn(&Pass) -> Duration| {
        median(passes.iter().map(|pass| bare(pass).as_secs_f64() / pass.bus.as_secs_f64()).collect())
    };
    let rates = |way: fn(&Pass) -> Duration| median(passes.iter().map(|pass| rate(way(pass))).collect());
    println!(
        "{question}: bare {:.0}/s, with codec {:.0}/s, bus {:.0}/s: {:.2} × bare, {:.2} × bare with codec (medians of {})",
        rates(|pass| pass.bytes),
        rates(|pass| pass.codec),
        rates(|pass| pass.bus),
        of(|pass| pass.bytes),
        of(|pass| pass.codec),
        passes.len(),
    );
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

criterion_group!(benches, publish, consume);
criterion_main!(benches);
