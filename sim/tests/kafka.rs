//! The real rdkafka, unmodified, in virtual time against the stand-in brokers.
#![cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]

use futures::stream::{FuturesUnordered, StreamExt};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance, StreamConsumer};
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientContext, TopicPartitionList};
use rehearsal_sim::check::{Kafka, Setup, alone, check};
use rehearsal_sim::runner;
use rehearsal_sim::world::Runtime;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const TOPIC: &str = "orders";
const PARTITIONS: i32 = 4;
const TOTAL: u32 = 300;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What the nodes of a run tell its test.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    produced: u32,
    /// Which consumer received what, in order.
    received: Vec<(usize, u32)>,
    /// The partitions each consumer has.
    assigned: BTreeMap<usize, Vec<i32>>,
}

impl Ledger {
    fn note<R>(&self, act: impl FnOnce(&mut Inner) -> R) -> R {
        act(&mut self.0.lock().expect("no poison"))
    }

    fn all_received(&self) -> bool {
        self.note(|inner| {
            let mut numbers: Vec<u32> = inner.received.iter().map(|(_, number)| *number).collect();
            numbers.sort_unstable();
            numbers.dedup();
            numbers.len() == TOTAL as usize
        })
    }
}

fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("socket.timeout.ms", "10000");
    config
}

/// Produces all over 80 seconds, and awaits every delivery.
async fn produce(bootstrap: String, ledger: Ledger) {
    let producer: FutureProducer = client(&bootstrap)
        .set("linger.ms", "5")
        .set("enable.idempotence", "true")
        .create()
        .expect("a valid configuration");
    for batch in 0..20 {
        let mut deliveries: FuturesUnordered<_> = (batch * TOTAL / 20..(batch + 1) * TOTAL / 20)
            .map(|number| {
                let producer = producer.clone();
                async move {
                    let (key, payload) = (format!("key-{}", number % 17), number.to_string());
                    let record = FutureRecord::to(TOPIC).key(&key).payload(&payload);
                    producer.send(record, secs(300)).await.expect("the brokers come back")
                }
            })
            .collect();
        while deliveries.next().await.is_some() {
            ledger.note(|inner| inner.produced += 1);
        }
        tokio::time::sleep(secs(4)).await;
    }
}

struct Watcher {
    number: usize,
    ledger: Ledger,
}

impl ClientContext for Watcher {}

impl ConsumerContext for Watcher {
    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, _: &Rebalance<'_>) {
        let assigned = consumer.assignment().unwrap_or_else(|_| TopicPartitionList::new());
        let assigned = assigned.elements().iter().map(|partition| partition.partition()).collect();
        self.ledger.note(|inner| inner.assigned.insert(self.number, assigned));
    }
}

/// Consumes in a group, for ever.
async fn consume(bootstrap: String, number: usize, ledger: Ledger) {
    let consumer: StreamConsumer<Watcher> = client(&bootstrap)
        .set("group.id", "workers")
        .set("auto.offset.reset", "earliest")
        .set("session.timeout.ms", "10000")
        .set("heartbeat.interval.ms", "2000")
        .set("auto.commit.interval.ms", "1000")
        .create_with_context(Watcher { number, ledger: ledger.clone() })
        .expect("a valid configuration");
    consumer.subscribe(&[TOPIC]).expect("a topic name");
    loop {
        if let Ok(message) = consumer.recv().await {
            let payload = message.payload().and_then(|payload| std::str::from_utf8(payload).ok());
            let received = payload.and_then(|payload| payload.parse().ok()).expect("a number");
            ledger.note(|inner| inner.received.push((number, received)));
        }
    }
}

/// Three brokers, a producer, and so many consumers; all that was produced is received in the end.
fn workload(setup: &mut Setup, consumers: usize, runtime: Runtime) -> Ledger {
    let ledger = Ledger::default();
    let bootstrap = setup.kafka(Kafka::brokers(3).topic(TOPIC, PARTITIONS));
    setup.duration(secs(300)).kernel().wall_max = secs(60);
    let (to, notes) = (bootstrap.clone(), ledger.clone());
    setup.node_on("producer", runtime, move || produce(to.clone(), notes.clone()));
    for number in 1..=consumers {
        let (to, notes) = (bootstrap.clone(), ledger.clone());
        setup.node_on(&format!("worker-{number}"), runtime, move || consume(to.clone(), number, notes.clone()));
    }
    let seen = ledger.clone();
    setup.ends_when(move |world| world.elapsed() > secs(90) && seen.all_received());
    let seen = ledger.clone();
    setup.finally(move |world| {
        let stored: usize =
            (0..PARTITIONS).map(|partition| world.records(TOPIC, partition).map_or(0, |r| r.len())).sum();
        seen.note(|inner| assert_eq!(inner.produced, TOTAL));
        assert_eq!(stored, TOTAL as usize, "an idempotent producer stores once");
        assert!(seen.all_received(), "received {} of {TOTAL}", seen.note(|inner| inner.received.len()));
    });
    ledger
}

#[test]
fn a_quiet_run_on_several_threads() {
    check("a quiet run on several threads", |setup| {
        setup.seeds(4).twice();
        workload(setup, 2, Runtime::MultiThread(3));
    });
}

#[test]
fn a_quiet_run_on_one_thread() {
    check("a quiet run on one thread", |setup| {
        setup.seeds(4).twice();
        workload(setup, 1, Runtime::CurrentThread);
    });
}

#[test]
fn every_seed_is_a_run_of_its_own() {
    // Seeds are forked, and the test harness has threads: a fork between two of its locks would wait for ever.
    alone("seeds together and alone", || {
        let describe = |setup: &mut Setup| {
            workload(setup, 1, Runtime::MultiThread(2));
        };
        let mut together = BTreeMap::new();
        let _ = runner::run_many(&describe, 100..104, 2, |run| {
            together.insert(run.seed, run.stats.expect("every run comes to its end").hash);
            ControlFlow::Continue(())
        });
        if together.values().collect::<BTreeSet<_>>().len() != 4 {
            return Err(format!("different seeds are different runs: {together:?}"));
        }
        let one = runner::run_one(&describe, 103).stats.map(|stats| stats.hash);
        if one != together.get(&103).copied() {
            return Err(format!("a seed alone runs as it does among others: {one:?} {together:?}"));
        }
        Ok("four seeds, four runs".into())
    });
}

#[test]
fn threads_may_yield_anywhere_and_bytes_arrive_in_pieces() {
    check("threads may yield anywhere and bytes arrive in pieces", |setup| {
        setup.seeds(4).twice();
        workload(setup, 2, Runtime::MultiThread(3));
        let kernel = setup.kernel();
        (kernel.preempt, kernel.split, kernel.quantum) = (500, 5_000, 100);
    });
}

/// The same seeds in another process, with another environment and from another directory.
#[test]
fn a_run_does_not_depend_on_where_it_runs() {
    let hash = |directory: &str, name: &str| {
        let mut binary = std::process::Command::new(std::env::current_exe().expect("the running binary"));
        binary.current_dir(directory).env(name, "x").env("REHEARSAL_SEEDS", "2");
        let output = binary.args(["a_crashed_worker_starts_again", "--exact", "--nocapture"]).output().expect("runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let hash = said.split_once("hash ").map(|(_, hash)| hash.lines().next().unwrap_or("").to_owned());
        hash.unwrap_or_else(|| panic!("no hash in {said}"))
    };
    assert_eq!(hash("/", "A"), hash("/tmp", "A_MUCH_LONGER_NAME_WHICH_MOVES_THE_STACK"));
}

#[test]
fn a_cut_of_twenty_seconds_loses_nothing() {
    check("a cut of twenty seconds loses nothing", |setup| {
        setup.seeds(4);
        workload(setup, 1, Runtime::MultiThread(2));
        for broker in ["broker-1", "broker-2", "broker-3"] {
            for node in ["producer", "worker-1"] {
                setup.at(secs(15), move |world| world.cut(node, broker));
                setup.at(secs(35), move |world| world.heal(node, broker));
            }
        }
    });
}

#[test]
fn a_node_that_stands_still_past_its_session_is_taken_over() {
    check("a node that stands still past its session is taken over", |setup| {
        setup.seeds(4);
        let ledger = workload(setup, 2, Runtime::MultiThread(2));
        let before = ledger.clone();
        setup.at(secs(30), move |world| {
            assert_eq!(before.note(|inner| inner.assigned.values().map(Vec::len).sum::<usize>()), 4);
            world.pause("worker-1");
        });
        let after = ledger.clone();
        setup.at(secs(55), move |world| {
            assert_eq!(after.note(|inner| inner.assigned[&2].len()), PARTITIONS as usize);
            world.resume("worker-1");
        });
    });
}

#[test]
fn a_crashed_worker_starts_again() {
    check("a crashed worker starts again", |setup| {
        setup.seeds(4);
        workload(setup, 2, Runtime::MultiThread(2));
        setup.at(secs(20), |world| world.crash("worker-1"));
        setup.at(secs(50), |world| world.restart("worker-1"));
    });
}

#[test]
fn a_crashed_broker_starts_again() {
    check("a crashed broker starts again", |setup| {
        setup.seeds(4).twice();
        workload(setup, 2, Runtime::MultiThread(2));
        for (number, time) in [(1, 20), (2, 40), (3, 60)] {
            setup.at(secs(time), move |world| world.crash_broker(number).expect("it runs"));
            setup.at(secs(time + 15), move |world| world.start_broker(number).expect("it does not run"));
        }
    });
}

/// What librdkafka, tokio and std take from the C library is in the kernel's table, or known to do no harm: a new
/// release that waits in a new way is found here.
#[test]
fn every_imported_function_is_simulated_or_known_to_do_no_harm() {
    use object::{Object, ObjectSymbol};
    let binary = std::env::current_exe().and_then(std::fs::read).expect("the running binary");
    let elf = object::File::parse(&*binary).expect("an ELF file");
    let undefined = elf.dynamic_symbols().filter(|symbol| symbol.is_undefined());
    let names: Vec<&str> = undefined.filter_map(|symbol| symbol.name().ok()).filter(|name| !name.is_empty()).collect();
    assert!(names.contains(&"malloc"), "that is not the list of imports");
    assert_eq!(rehearsal_sim_kernel::front::audit::unknown(names), Vec::<&str>::new());
}
