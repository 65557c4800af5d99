//! A thousand clusters started and stopped in one process leave nothing behind, and none takes long.
//!
//! Alone in its binary: it counts the threads, descriptors and memory of the whole process.

use rehearsal_mockbroker::testing::MockCluster;
use std::hint::black_box;
use std::net::TcpListener;
use std::time::{Duration, Instant};
use tests::raw::Connection;

const CLUSTERS: usize = 1_000;
/// Before memory is measured: allocators keep what they once had.
const WARM_UP: usize = 200;
/// A leak of 10 KiB a cluster would be two and a half times this.
const GROWTH_MAX_KIB: usize = 4 * 1024;
/// Unoptimised, and beside other builds, a start takes longer than the millisecond it has in the bench.
const START_MAX: Duration = Duration::from_millis(if cfg!(debug_assertions) { 5 } else { 1 });

#[test]
fn a_thousand_clusters_leave_nothing_behind_and_none_takes_long() {
    check_that_the_measures_measure();
    let mut starting: Vec<Duration> = Vec::with_capacity(CLUSTERS);
    let mut before = None;
    for count in 0..WARM_UP + CLUSTERS {
        if count == WARM_UP {
            before = Some((threads(), descriptors(), resident_kib()));
        }
        let begun = Instant::now();
        let kafka = black_box(MockCluster::builder().topic("orders", 6).start().expect("a free port"));
        starting.push(begun.elapsed());
        let address = kafka.bootstrap_servers();
        if count % 10 == 0 {
            // One with a client connected, a request answered and a wait begun.
            let mut client = Connection::open(&address, "passer-by").expect("it listens");
            let request = kafka_protocol::messages::ApiVersionsRequest::default();
            client.call(0, &request).expect("an answer");
            drop(kafka.wait_for().records("orders", 1));
            drop(kafka);
            assert!(client.call(0, &request).is_err(), "its connections ended with it");
        } else {
            drop(kafka);
        }
        TcpListener::bind(&address).expect("its port is free again");
    }
    let (threads_before, descriptors_before, resident_before) = before.expect("there was a warm-up");
    assert_eq!(threads(), threads_before, "threads");
    assert_eq!(descriptors(), descriptors_before, "descriptors");
    let growth = resident_kib().saturating_sub(resident_before);
    assert!(growth < GROWTH_MAX_KIB, "{growth} KiB more are resident than {CLUSTERS} clusters ago");

    starting.sort_unstable();
    let median = starting[starting.len() / 2];
    assert!(median <= START_MAX, "half of the starts took longer than {median:?}");
}

/// Not a test of its own: two of them would count each other's.
fn check_that_the_measures_measure() {
    let (threads_before, descriptors_before, resident_before) = (threads(), descriptors(), resident_kib());
    let kafka = MockCluster::builder().start().expect("a free port");
    assert!(threads() > threads_before && descriptors() > descriptors_before);
    drop(kafka);
    let leaked = black_box(vec![1_u8; 10 * 1024 * CLUSTERS]);
    assert!(resident_kib() - resident_before >= GROWTH_MAX_KIB, "10 KiB a cluster would be noticed");
    drop(leaked);
}

fn threads() -> usize {
    entries("/proc/self/task")
}

fn descriptors() -> usize {
    entries("/proc/self/fd")
}

fn entries(folder: &str) -> usize {
    std::fs::read_dir(folder).expect("Linux shows a process to itself").count()
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux shows a process to itself");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
