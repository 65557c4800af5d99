//! How many records of 100 bytes a second does one client read of what is stored?

use benches::{Consumer, Peer, Producer, sized};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use std::time::{Duration, Instant};

fn consume(c: &mut Criterion) {
    let mut group = c.benchmark_group("consume");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(5));
    for peer in Peer::all().expect("brokers to compare") {
        let records = sized(1_000_000).min(peer.records_held_max());
        let topic = peer.fresh_topic().expect("a topic");
        Producer::connect(&peer).and_then(|producer| producer.send(&topic, records)).expect("records to read");
        group.throughput(Throughput::Elements(records));
        group.bench_function(peer.name(), |b| {
            b.iter_custom(|count| {
                let passes = (0..count).map(|_| {
                    let consumer = Consumer::connect(&peer).expect("a consumer");
                    let started = Instant::now();
                    consumer.read(&topic, records).expect("every record");
                    let elapsed: Duration = started.elapsed();
                    drop(consumer);
                    elapsed
                });
                passes.sum()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, consume);
criterion_main!(benches);
