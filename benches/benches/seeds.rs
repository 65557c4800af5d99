//! How many standard runs of the simulator does one core do in a minute? Three brokers, four workers, 200 aggregates, 500
//! records, 60 virtual seconds, 5 to 15 faults, all checkers: what `rehearsal sim` draws.
//!
//! `carried` is how it is; `woken` passes the turn by futexes, as where the processor does not allow the former.

#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
mod on_linux {
    use benches::is_trial;
    use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
    use rehearsal_sim::drive::{Drive, HandOver};
    use std::time::{Duration, Instant};

    /// As different from each other as seeds are; every sample runs all of them.
    const SEEDS: std::ops::Range<u64> = 0..20;

    pub(crate) fn seeds(c: &mut Criterion) {
        let mut group = c.benchmark_group("seeds");
        group.sample_size(10).sampling_mode(SamplingMode::Flat).measurement_time(Duration::from_secs(20));
        let seeds = if is_trial() { 0..1 } else { SEEDS };
        group.throughput(Throughput::Elements(seeds.end - seeds.start));
        for (name, hand_over) in [("carried", HandOver::Carry), ("woken", HandOver::Wake)] {
            let drive = Drive { hand_over, ..Drive::default() };
            let plans: Vec<_> = seeds.clone().map(|seed| drive.plan(seed).0).collect();
            group.bench_function(BenchmarkId::new("standard-run", name), |b| {
                b.iter_custom(|times| {
                    let began = Instant::now();
                    for plan in (0..times).flat_map(|_| &plans) {
                        let outcome = drive.run(plan).expect("plans without what cannot be carried out");
                        assert!(outcome.hash.is_some(), "{:?}", outcome.verdict.broken);
                    }
                    began.elapsed()
                });
            });
        }
        group.finish();
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
criterion::criterion_group!(benches, on_linux::seeds);
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
criterion::criterion_main!(benches);

#[cfg(not(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64")))]
fn main() {}
