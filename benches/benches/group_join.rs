//! How long does a new member of a new group wait for its first record, with librdkafka? At most 300 ms.

use benches::{Peer, Producer, first_record_through_a_group};
use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use std::time::Duration;

fn group_join(c: &mut Criterion) {
    let mut group = c.benchmark_group("group_join");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_secs(3));
    for peer in Peer::all().expect("brokers to compare") {
        let topic = peer.fresh_topic().expect("a topic");
        Producer::connect(&peer).and_then(|producer| producer.warm_up(&topic)).expect("a record in every partition");
        group.bench_function(peer.name(), |b| {
            b.iter_custom(|count| {
                let joins = (0..count).map(|_| first_record_through_a_group(&peer, &topic).expect("a record"));
                joins.sum()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, group_join);
criterion_main!(benches);
