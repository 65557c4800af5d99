//! What a check says when something is wrong, and what a world can do to programs without Kafka.
#![cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]

use rehearsal_sim::check::{Kafka, Setup, alone, check};
use rehearsal_sim::runner;
use rehearsal_sim::world::MessageKind;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
#[should_panic(expected = "'a promise is broken' fails with seed 3: the simulation panicked")]
fn a_broken_promise_is_told_with_its_seed() {
    check("a promise is broken", |setup| {
        setup.duration(secs(1)).seeds(5);
        let seed = setup.seed();
        setup.finally(move |_| assert_ne!(seed, 3, "seed 3 is unlucky"));
    });
}

#[test]
#[should_panic(expected = "node 'clumsy' panicked: it slipped")]
fn a_node_that_panics_ends_the_run() {
    check("a node panics", |setup| {
        setup.seeds(1).node("clumsy", || async {
            tokio::time::sleep(secs(5)).await;
            panic!("it slipped");
        });
    });
}

#[test]
#[should_panic(expected = "two runs of seed 0 part at step")]
fn two_runs_that_differ_are_told_with_where_they_part() {
    check("runs differ", |setup| {
        setup.seeds(1).twice().duration(secs(1)).node("curious", || async {
            // Its own real process, which no two runs share.
            let _ = std::fs::read("/proc/self/stat");
        });
    });
}

#[test]
fn where_two_runs_part_is_told_with_both_sides() {
    alone("both sides", || {
        let differs = |setup: &mut Setup| {
            setup.duration(secs(1)).node("curious", || async {
                let _ = std::fs::read("/proc/self/stat");
            });
        };
        let agrees = |setup: &mut Setup| {
            setup.duration(secs(1)).node("calm", || async { tokio::time::sleep(secs(1)).await });
        };
        let parts = runner::divergence(&differs, 0).ok_or("they do not part")?;
        let told: Vec<&str> = parts.lines().collect();
        let [step, one, other] = told[..] else { return Err(parts) };
        let (one, other) = (one.trim_start().strip_prefix("one run:"), other.trim_start().strip_prefix("the other:"));
        let both = one.zip(other).is_some_and(|(one, other)| one.trim() != other.trim());
        if !step.starts_with("step ") || !both {
            return Err(parts);
        }
        match runner::divergence(&agrees, 0) {
            None => Ok(parts),
            Some(parts) => Err(format!("equal runs part at {parts}")),
        }
    });
}

#[test]
#[should_panic(expected = "there is no node 'nobody'")]
fn a_fault_for_nobody_is_a_mistake() {
    check("a fault for nobody", |setup| {
        setup.seeds(1).at(secs(1), |world| world.pause("nobody"));
    });
}

/// Counts up once a second, on whatever connection comes.
async fn counter() {
    let listener = TcpListener::bind(("0.0.0.0", 80)).await.expect("the port is free");
    loop {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        tokio::spawn(async move {
            for number in 0_u8.. {
                if stream.write_all(&[number]).await.is_err() {
                    return;
                }
                tokio::time::sleep(secs(1)).await;
            }
        });
    }
}

/// When something came, in seconds since the beginning; what ended it last.
type Arrivals = Arc<Mutex<(Vec<u64>, Option<std::io::ErrorKind>)>>;

async fn listen_to_counter(arrivals: Arrivals) {
    let started = Instant::now();
    loop {
        tokio::time::sleep(secs(1)).await;
        let Ok(mut stream) = TcpStream::connect(("counter", 80)).await else { continue };
        loop {
            match stream.read_u8().await {
                Ok(_) => arrivals.lock().expect("no poison").0.push(started.elapsed().as_secs()),
                Err(error) => break arrivals.lock().expect("no poison").1 = Some(error.kind()),
            }
        }
    }
}

fn counting(setup: &mut Setup) -> Arrivals {
    let arrivals = Arrivals::default();
    let notes = Arc::clone(&arrivals);
    setup.seeds(3).twice().duration(secs(40));
    setup.node("counter", counter).node("listener", move || listen_to_counter(Arc::clone(&notes)));
    arrivals
}

/// The longest time in which nothing came.
fn longest_silence(arrivals: &Arrivals) -> u64 {
    let times = &arrivals.lock().expect("no poison").0;
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(u64::MAX)
}

#[test]
fn a_cut_is_a_silence_that_loses_nothing() {
    check("a cut is a silence", |setup| {
        let arrivals = counting(setup);
        setup.at(secs(10), |world| {
            world.cut("counter", "listener");
            world.at(secs(20), |world| world.heal("counter", "listener"));
        });
        setup.finally(move |_| {
            assert!((9..=12).contains(&longest_silence(&arrivals)));
            assert!(arrivals.lock().expect("no poison").0.len() >= 37);
        });
    });
}

#[test]
fn a_crash_resets_and_a_restart_begins_anew() {
    check("a crash resets", |setup| {
        let arrivals = counting(setup);
        setup.at(secs(10), |world| world.crash("counter"));
        setup.at(secs(20), |world| world.restart("counter"));
        setup.finally(move |_| {
            assert_eq!(arrivals.lock().expect("no poison").1, Some(std::io::ErrorKind::ConnectionReset));
            assert!(longest_silence(&arrivals) >= 9);
        });
    });
}

#[test]
fn a_pause_is_a_silence_too() {
    check("a pause is a silence", |setup| {
        let arrivals = counting(setup);
        setup.at(secs(10), |world| world.pause("counter"));
        setup.at(secs(25), |world| world.heal_all());
        setup.finally(move |world| {
            assert!(world.runs("counter"));
            assert!((14..=17).contains(&longest_silence(&arrivals)));
        });
    });
}

#[test]
fn a_wall_clock_may_be_wrong_while_time_goes_on_as_it_does() {
    check("a wall clock is wrong", |setup| {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&seen);
        let clock = move || {
            let notes = Arc::clone(&notes);
            async move {
                let started = Instant::now();
                for _ in 0..4 {
                    let wall = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
                    notes.lock().expect("no poison").push((started.elapsed().as_secs(), wall));
                    tokio::time::sleep(secs(10)).await;
                }
            }
        };
        setup.seeds(1).duration(secs(35)).node("watch", clock);
        setup.at(secs(15), |world| world.skew_clock("watch", -3_600_000));
        setup.finally(move |_| {
            let seen = seen.lock().expect("no poison");
            let (elapsed, wall): (Vec<u64>, Vec<u64>) = seen.iter().copied().unzip();
            assert_eq!(elapsed, [0, 10, 20, 30]);
            assert_eq!([wall[1] - wall[0], wall[1] + 10 - wall[2], wall[3] - wall[2]], [10, 3_600, 10]);
        });
    });
}

#[test]
fn what_the_network_carried_can_be_looked_at() {
    check("what the network carried", |setup| {
        let _ = counting(setup);
        setup.kernel().record_messages = true;
        setup.at(secs(10), |world| world.cut_one_way("counter", "listener"));
        setup.at(secs(20), |world| world.heal("counter", "listener"));
        setup.finally(|world| {
            let messages = world.take_messages();
            let first = messages.iter().find(|message| message.from == "listener").expect("it connects");
            assert_eq!((first.to.as_str(), first.kind), ("counter", MessageKind::Connect));
            let held = messages.iter().filter(|message| message.arrived - message.sent > secs(1)).count();
            assert!((8..=10).contains(&held), "{held} were held");
        });
    });
}

#[test]
fn a_run_can_carry_something_out() {
    alone("a report", || {
        let describe = |setup: &mut Setup| {
            setup.kafka(Kafka::brokers(2).topic("orders", 3));
            setup.duration(secs(1)).report(|world| world.view().topics.len().to_string().into_bytes());
        };
        match runner::run_one(&describe, 1).report.as_slice() {
            b"1" => Ok("one topic, as the run has told".into()),
            other => Err(format!("one topic was expected: {other:?}")),
        }
    });
}
