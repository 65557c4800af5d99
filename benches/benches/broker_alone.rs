//! How fast is a broker itself, when its client only moves bytes? One connection, five requests on their way.

use benches::{Frames, Peer, RawClient, is_trial, sized};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use std::time::{Duration, Instant};

/// Records in a batch that nearly fills the largest message Kafka accepts by default.
const LARGE: usize = 9_000;

fn broker_alone(c: &mut Criterion) {
    for peer in [Peer::rehearsal().map(Some), Peer::running_apache_kafka()] {
        if let Some(peer) = peer.expect("brokers to compare") {
            produce(c, &peer, "produce-large", LARGE, sized(300));
            produce(c, &peer, "produce-small", 1, sized(20_000));
            fetch(c, &peer, sized(300));
        }
    }
}

/// Batches of so many records, each in a request of its own.
fn produce(c: &mut Criterion, peer: &Peer, what: &str, records: usize, requests: u64) {
    let mut group = group(c);
    group.throughput(Throughput::Elements(records as u64 * requests));
    group.bench_function(BenchmarkId::new(peer.name(), what), |b| {
        b.iter_custom(|count| (0..count).map(|_| produce_once(peer, records, requests)).sum());
    });
    group.finish();
}

/// A topic of its own for every pass, so that no pass pays for what another left.
fn produce_once(peer: &Peer, records: usize, requests: u64) -> Duration {
    let topic = peer.fresh_topic().expect("a topic");
    let frames = Frames::produce(&topic, records).expect("batches that are not too large");
    let mut client = RawClient::connect(peer).expect("a broker that listens");
    timed(|| {
        client.ask(&frames, requests).expect("answers");
    })
}

/// Answers of about a mebibyte, always the same.
fn fetch(c: &mut Criterion, peer: &Peer, requests: u64) {
    let topic = peer.fresh_topic().expect("a topic");
    let mut client = RawClient::connect(peer).expect("a broker that listens");
    let stored = Frames::produce(&topic, if is_trial() { 1 } else { LARGE }).expect("batches that are not too large");
    client.ask(&stored, stored.count()).expect("answers");
    let frames = Frames::fetch(&topic).expect("requests");
    let mut group = group(c);
    group.throughput(Throughput::Elements(LARGE as u64 * requests));
    group.bench_function(BenchmarkId::new(peer.name(), "fetch-large"), |b| {
        b.iter_custom(|count| {
            let mut pass = || {
                let bytes = client.ask(&frames, requests).expect("answers");
                assert!(is_trial() || bytes > requests * stored.request_bytes() / 2, "{bytes} bytes came");
            };
            (0..count).map(|_| timed(&mut pass)).sum()
        });
    });
    group.finish();
}

fn group(c: &mut Criterion) -> criterion::BenchmarkGroup<'_, criterion::measurement::WallTime> {
    let mut group = c.benchmark_group("broker_alone");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    group
}

fn timed(pass: impl FnOnce()) -> Duration {
    let started = Instant::now();
    pass();
    started.elapsed()
}

criterion_group!(benches, broker_alone);
criterion_main!(benches);
