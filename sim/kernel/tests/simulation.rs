//! What a simulation promises: virtual time, one hash a seed, nodes that crash and pause, links that are cut.
#![cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
#![allow(clippy::disallowed_methods, reason = "the programs here sleep, in virtual time")]

use rehearsal_sim_kernel::config::Config;
use rehearsal_sim_kernel::front::child::{Child, Outcome};
use rehearsal_sim_kernel::front::table::SYMBOLS;
use rehearsal_sim_kernel::front::{audit, kernel, on_node};
use rehearsal_sim_kernel::machine::Node;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Runs a program in a simulation of this seed; it must come to its end.
fn run(seed: u64, program: impl FnOnce() -> String + Send + 'static) -> (Outcome, String) {
    let outcome = run_with(Config { preempt: 200, split: 2_000, ..Config::with_seed(seed) }, program);
    assert_eq!(outcome.failure, None);
    let returned = String::from_utf8(outcome.returned.clone()).expect("text");
    (outcome, returned)
}

fn run_with(config: Config, program: impl FnOnce() -> String + Send + 'static) -> Outcome {
    Child::start(config, Box::new(move || program().into_bytes())).expect("a child").wait()
}

#[test]
fn an_hour_of_sleep_takes_no_time() {
    let started = Instant::now();
    let (outcome, slept) = run(1, || {
        let before = Instant::now();
        thread::sleep(Duration::from_secs(3_600));
        before.elapsed().as_secs().to_string()
    });
    assert_eq!(slept, "3600");
    assert!(outcome.stats.is_some_and(|stats| stats.virtual_ns >= 3_600_000_000_000));
    assert!(started.elapsed() < Duration::from_secs(30));
}

/// Threads that fight for a lock and tell each other by every means std has.
fn contention() -> String {
    let order = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
    let turns = Arc::new(AtomicU32::new(0));
    let (sender, receiver) = mpsc::sync_channel(2);
    let threads: Vec<_> = (0..8)
        .map(|number| {
            let (order, turns, sender) = (Arc::clone(&order), Arc::clone(&turns), sender.clone());
            thread::spawn(move || {
                for _ in 0..20 {
                    thread::sleep(Duration::from_micros(50));
                    order.0.lock().expect("no poison").push(number);
                    order.1.notify_one();
                    turns.fetch_add(1, Ordering::SeqCst);
                    sender.send(number).expect("a receiver");
                }
            })
        })
        .collect();
    drop(sender);
    let received: Vec<i32> = receiver.iter().collect();
    for thread in threads {
        thread.join().expect("no panic");
    }
    let mut all = order.0.lock().expect("no poison");
    while all.len() < 160 {
        all = order.1.wait(all).expect("no poison");
    }
    format!("{all:?} {received:?}")
}

#[test]
fn a_seed_decides_everything() {
    let (first, order) = run(7, contention);
    let (again, same_order) = run(7, contention);
    let (other, other_order) = run(8, contention);
    assert_eq!(order, same_order);
    assert_eq!(first.stats, again.stats);
    assert_ne!(order, other_order);
    assert_ne!(first.stats.map(|stats| stats.hash), other.stats.map(|stats| stats.hash));
}

fn echo_server() {
    let listener = TcpListener::bind(("0.0.0.0", 7)).expect("the port is free");
    for stream in listener.incoming() {
        let mut stream = stream.expect("a connection");
        thread::spawn(move || {
            let mut buffer = [0; 1_000];
            while let Ok(read @ 1..) = stream.read(&mut buffer) {
                if stream.write_all(&buffer[..read]).is_err() {
                    return;
                }
            }
        });
    }
}

fn echo_node() -> Node {
    let node = kernel(|kernel, _| kernel.add_node("echo"));
    on_node(node, || thread::spawn(echo_server));
    thread::sleep(Duration::from_millis(1));
    node
}

fn echo(stream: &mut TcpStream, text: &str) -> std::io::Result<String> {
    stream.write_all(text.as_bytes())?;
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back)?;
    Ok(String::from_utf8_lossy(&back).into_owned())
}

#[test]
fn a_cut_link_holds_what_is_sent_until_it_heals() {
    let (_, took) = run(3, || {
        let node = echo_node();
        let mut stream = TcpStream::connect(("echo", 7)).expect("it listens");
        assert_eq!(echo(&mut stream, "before").expect("an echo"), "before");
        kernel(|kernel, _| kernel.cut(Node::CONTROL, node));
        let healer = thread::spawn(move || {
            thread::sleep(Duration::from_secs(20));
            kernel(|kernel, _| kernel.heal(Node::CONTROL, node));
        });
        let before = Instant::now();
        assert_eq!(echo(&mut stream, "after").expect("an echo"), "after");
        healer.join().expect("no panic");
        before.elapsed().as_secs().to_string()
    });
    assert_eq!(took, "20");
}

#[test]
fn one_way_is_enough_to_keep_answers_away() {
    run(3, || {
        let node = echo_node();
        let mut stream = TcpStream::connect(("echo", 7)).expect("it listens");
        kernel(|kernel, _| kernel.cut(node, Node::CONTROL));
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a socket");
        let error = echo(&mut stream, "lost").expect_err("nothing comes back");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        String::new()
    });
}

#[test]
fn a_crashed_node_resets_refuses_and_comes_back() {
    run(4, || {
        let node = echo_node();
        let mut stream = TcpStream::connect(("echo", 7)).expect("it listens");
        assert_eq!(echo(&mut stream, "a").expect("an echo"), "a");
        kernel(|kernel, _| kernel.crash(node));
        let error = echo(&mut stream, "b").expect_err("it is gone");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        kernel(|kernel, _| kernel.restart(node));
        let error = TcpStream::connect(("echo", 7)).expect_err("nobody listens yet");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        on_node(node, || thread::spawn(echo_server));
        thread::sleep(Duration::from_millis(1));
        let mut stream = TcpStream::connect(("echo", 7)).expect("it listens again");
        assert_eq!(echo(&mut stream, "c").expect("an echo"), "c");
        String::new()
    });
}

#[test]
fn a_paused_node_goes_on_where_it_was() {
    let (_, took) = run(5, || {
        let node = echo_node();
        let mut stream = TcpStream::connect(("echo", 7)).expect("it listens");
        kernel(|kernel, _| kernel.pause(node));
        let waker = thread::spawn(move || {
            thread::sleep(Duration::from_secs(7));
            kernel(|kernel, _| kernel.resume(node));
        });
        let before = Instant::now();
        assert_eq!(echo(&mut stream, "hello").expect("an echo"), "hello");
        waker.join().expect("no panic");
        before.elapsed().as_secs().to_string()
    });
    assert_eq!(took, "7");
}

#[test]
fn resets_reach_both_ends() {
    run(6, || {
        let node = echo_node();
        let mut stream = TcpStream::connect(("echo", 7)).expect("it listens");
        assert_eq!(echo(&mut stream, "a").expect("an echo"), "a");
        kernel(|kernel, _| kernel.reset_connections(Node::CONTROL, node));
        assert_eq!(echo(&mut stream, "b").expect_err("it was reset").kind(), ErrorKind::ConnectionReset);
        String::new()
    });
}

#[test]
fn a_reader_that_does_not_read_holds_the_writer_up() {
    let (_, before_it_was_read) = run(9, || {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("bound");
        let written = Arc::new(AtomicU32::new(0));
        let writer = {
            let written = Arc::clone(&written);
            thread::spawn(move || {
                let mut stream = TcpStream::connect(address).expect("it listens");
                for _ in 0..1_000 {
                    stream.write_all(&[7; 1_024]).expect("a reader");
                    written.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        let (mut stream, _) = listener.accept().expect("a connection");
        thread::sleep(Duration::from_secs(1));
        let before = written.load(Ordering::SeqCst);
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("all of it");
        assert_eq!(all.len(), 1_000 * 1_024);
        writer.join().expect("no panic");
        before.to_string()
    });
    assert_eq!(before_it_was_read, "256");
}

#[test]
fn tokio_runs_on_one_thread_and_on_several() {
    async fn conversation() -> u64 {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                tokio::spawn(async move {
                    let (mut reader, mut writer) = stream.split();
                    let _ = tokio::io::copy(&mut reader, &mut writer).await;
                });
            }
        });
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..10_u64 {
            tasks.spawn(async move {
                let mut stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
                for _ in 0..10 {
                    tokio::time::sleep(Duration::from_millis(500 + number)).await;
                    stream.write_all(&[number as u8; 5_000]).await.expect("it reads");
                    let mut back = [0; 5_000];
                    stream.read_exact(&mut back).await.expect("an echo");
                    assert_eq!(back, [number as u8; 5_000]);
                }
                number
            });
        }
        tasks.join_all().await.into_iter().sum()
    }
    let on_one = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(conversation()).to_string()
    };
    let on_several = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(3).enable_all().build().expect("a runtime");
        runtime.block_on(conversation()).to_string()
    };
    for seed in 0..5 {
        for program in [on_one, on_several] {
            let (first, sum) = run(seed, program);
            let (again, _) = run(seed, program);
            assert_eq!(sum, "45");
            assert_eq!(first.stats, again.stats);
        }
    }
}

#[test]
fn random_numbers_come_from_the_seed() {
    fn draw() -> String {
        use std::hash::{BuildHasher, RandomState};
        let mut bytes = [0; 8];
        std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).expect("random bytes");
        let threads = thread::spawn(|| RandomState::new().hash_one(1)).join().expect("no panic");
        format!("{} {threads} {bytes:?} {}", RandomState::new().hash_one(1), std::process::id())
    }
    assert_eq!(run(1, draw).1, run(1, draw).1);
    assert_ne!(run(1, draw).1, run(2, draw).1);
}

#[test]
fn a_deadlock_is_named() {
    let outcome = run_with(Config::default(), || {
        let (_sender, receiver) = mpsc::channel::<()>();
        let _ = receiver.recv();
        String::new()
    });
    let failure = outcome.failure.expect("nobody ever sends");
    assert!(failure.contains("deadlock") && failure.contains("thread 0 of control"), "{failure}");
}

#[test]
fn a_panic_ends_the_run() {
    let outcome = run_with(Config::default(), || panic!("on purpose"));
    assert_eq!(outcome.failure.as_deref(), Some("the simulation panicked: on purpose"));
}

#[test]
fn a_livelock_is_given_up() {
    let outcome = run_with(Config { calls_max: 10_000, ..Config::default() }, || {
        loop {
            thread::yield_now();
        }
    });
    assert!(outcome.failure.is_some_and(|failure| failure.contains("livelock")));
}

#[test]
fn a_spin_without_calls_is_given_up() {
    let outcome = run_with(Config { wall_max: Duration::from_secs(1), ..Config::default() }, || {
        loop {
            std::hint::spin_loop();
        }
    });
    assert!(outcome.failure.is_some_and(|failure| failure.contains("no end after 1 s")));
}

#[test]
fn what_escapes_is_named() {
    let outcome = run_with(Config::default(), || {
        // SAFETY: getitimer(2) writes to the structure, which is ours. Nobody simulates it.
        unsafe {
            let mut value: libc::itimerval = std::mem::zeroed();
            libc::getitimer(libc::ITIMER_REAL, &mut value);
        }
        String::new()
    });
    let failure = outcome.failure.expect("it is not in the table");
    assert!(failure.contains("escaped") && failure.contains("SYS_getitimer"), "{failure}");
}

/// A system call as `rustix` makes it.
fn inline_system_call(number: libc::c_long, a: usize, b: usize, c: usize) -> isize {
    let mut result = number as isize;
    // SAFETY: the tests pass numbers, and pointers to buffers of theirs that are as long as they say.
    unsafe {
        std::arch::asm!(
            "syscall", inlateout("rax") result, in("rdi") a, in("rsi") b, in("rdx") c,
            out("rcx") _, out("r11") _, options(nostack)
        );
    }
    result
}

#[test]
fn system_calls_past_the_c_library_are_simulated_too() {
    fn program() -> String {
        let node = kernel(|kernel, _| kernel.add_node("machine"));
        let asked = on_node(node, || {
            thread::spawn(|| {
                let mut name = [0_u8; 6 * 65];
                assert_eq!(inline_system_call(libc::SYS_uname, name.as_mut_ptr().expose_provenance(), 0, 0), 0);
                let mut word = [0_u8; 8];
                let (address, length) = (word.as_mut_ptr().expose_provenance(), word.len());
                assert_eq!(inline_system_call(libc::SYS_getrandom, address, length, 0), 8);
                (name[65..72] == *b"machine", word)
            })
        });
        let (named, random) = asked.join().expect("no panic");
        assert!(named);
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        let (fd, mut buffer) = (std::os::fd::AsRawFd::as_raw_fd(&reader) as usize, [0_u8; 4]);
        let writes = thread::spawn(move || {
            thread::sleep(Duration::from_secs(3));
            writer.write_all(b"late").expect("a reader");
        });
        let before = Instant::now();
        assert_eq!(inline_system_call(libc::SYS_read, fd, buffer.as_mut_ptr().expose_provenance(), 4), 4);
        assert_eq!((&buffer, before.elapsed().as_secs()), (b"late", 3));
        writes.join().expect("no panic");
        assert_eq!(inline_system_call(libc::SYS_read, 9_999, 0, 0), -(libc::EBADF as isize));
        format!("{random:?}")
    }
    assert_eq!(run(1, program).1, run(1, program).1);
    assert_ne!(run(1, program).1, run(2, program).1);
}

#[test]
fn the_time_stamp_counter_counts_virtual_time() {
    let (_, passed) = run(1, || {
        // SAFETY: every x86-64 processor has the instruction.
        let read = || unsafe { std::arch::x86_64::_rdtsc() };
        let before = read();
        thread::sleep(Duration::from_secs(5));
        ((read() - before) / 1_000_000_000).to_string()
    });
    assert_eq!(passed, "5");
}

/// C functions this binary takes from libraries, ours not among them.
fn imports() -> Vec<String> {
    use object::{Object, ObjectSymbol};
    let binary = std::env::current_exe().and_then(std::fs::read).expect("the running binary");
    let elf = object::File::parse(&*binary).expect("an ELF file");
    let undefined = elf.dynamic_symbols().filter(|symbol| symbol.is_undefined());
    undefined.filter_map(|symbol| symbol.name().ok()).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[test]
fn every_imported_function_is_simulated_or_known_to_do_no_harm() {
    let imports = imports();
    assert!(imports.iter().any(|name| name == "malloc"), "that is not the list of imports");
    assert_eq!(audit::unknown(imports.iter().map(String::as_str)), Vec::<&str>::new());
}

#[test]
fn none_of_ours_is_taken_from_a_library() {
    let imports = imports();
    let taken: Vec<_> = SYMBOLS.iter().filter(|symbol| imports.iter().any(|name| name == symbol.name)).collect();
    assert!(taken.is_empty(), "{taken:?}");
}
