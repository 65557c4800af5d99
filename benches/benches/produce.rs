//! How many records of 100 bytes a second does a broker acknowledge, with `acks=all` and idempotence, to one client?

use benches::{Peer, Producer, sized};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use std::time::{Duration, Instant};

fn produce(c: &mut Criterion) {
    let records = sized(500_000);
    let mut group = c.benchmark_group("produce");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(5));
    group.throughput(Throughput::Elements(records));
    for peer in Peer::all().expect("brokers to compare") {
        let producer = Producer::connect(&peer).expect("a producer");
        group.bench_function(peer.name(), |b| {
            b.iter_custom(|count| (0..count).map(|_| once(&peer, &producer, records)).sum());
        });
    }
    group.finish();
}

/// A topic of its own for every pass, so that no pass pays for what another left.
fn once(peer: &Peer, producer: &Producer, records: u64) -> Duration {
    let topic = peer.fresh_topic().expect("a topic");
    producer.warm_up(&topic).expect("a record in every partition");
    let started = Instant::now();
    producer.send(&topic, records).expect("every record acknowledged");
    started.elapsed()
}

criterion_group!(benches, produce);
criterion_main!(benches);
