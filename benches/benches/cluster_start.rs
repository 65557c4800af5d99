//! How long until clients can connect to a fresh cluster? At most 1 ms, so that every test can have its own.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rehearsal_mockbroker::testing::MockCluster;
use std::hint::black_box;
use std::time::{Duration, Instant};

fn cluster_start(c: &mut Criterion) {
    let mut group = c.benchmark_group("cluster_start");
    for brokers in [1, 3] {
        group.bench_with_input(BenchmarkId::new("rehearsal", named(brokers)), &brokers, |b, &brokers| {
            b.iter_custom(|count| (0..count).map(|_| start(brokers)).sum());
        });
        group.bench_with_input(BenchmarkId::new("rehearsal-and-stop", named(brokers)), &brokers, |b, &brokers| {
            b.iter(|| cluster(brokers));
        });
    }
    group.finish();
}

fn named(brokers: i32) -> String {
    if brokers == 1 { "1 broker".to_owned() } else { format!("{brokers} brokers") }
}

/// Stopping is not timed, but happens before the next start, so that no two clusters live at once.
fn start(brokers: i32) -> Duration {
    let started = Instant::now();
    let cluster = black_box(cluster(brokers));
    let elapsed = started.elapsed();
    drop(cluster);
    elapsed
}

fn cluster(brokers: i32) -> MockCluster {
    MockCluster::builder().brokers(brokers).topic("orders", 6).start().expect("free ports")
}

criterion_group!(benches, cluster_start);
criterion_main!(benches);
