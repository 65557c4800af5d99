//! `rehearsal demo` as an audience sees it. The throughput demo is cut short: what it proves does not depend on how long.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};

#[test]
fn without_a_word_it_runs_the_tutorial_and_proves_that_nothing_was_lost() {
    let played = run(&["--events", "3000"]);

    let out = text(&played.stdout);
    assert_eq!(played.status.code(), Some(0), "{out}\n{}", text(&played.stderr));
    for line in [
        "3 brokers inside this process: started in ",
        "Received 1 event(s)",
        "  Total: 10 events",
        "Published 1000 events in ",
        "Handled   3,000 events in ",
        "  Events published: 1000",
        "  Events published: 3,000",
        "  Handlers invoked: 3,000",
        "  Total revenue: $499.99",
        "Audit log entries: 2",
        "PROOF: 20,000 published, 20,000 handled, 0 lost, 0 out of order (",
        ") with broker 2 crashed and worker 1 killed",
        "CHAOS: ",
        " faults: 0 promises broken",
        "Tutorial 18 Complete!",
    ] {
        assert!(out.contains(line), "'{line}' is missing from:\n{out}");
    }
    let summary = out.split("Tutorial 18 Complete!").nth(1).unwrap();
    assert_eq!(summary.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_digit())).count(), 7);
}

#[test]
fn on_somebodys_kafka_only_the_worker_dies() {
    let kafka = Served::start();

    let played = run(&["demo", "--events", "3000", "--bootstrap", &kafka.bootstrap]);

    let out = text(&played.stdout);
    assert_eq!(played.status.code(), Some(0), "{out}\n{}", text(&played.stderr));
    assert!(out.contains("These brokers are not ours to crash: only the worker dies"), "{out}");
    assert!(out.contains("redelivered) with worker 1 killed"), "{out}");
}

#[test]
fn where_nobody_listens_it_says_what_to_do() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();

    let refused = run(&["--bootstrap", &format!("127.0.0.1:{port}")]);

    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("make sure Kafka is running") && said.contains(&format!("127.0.0.1:{port}")), "{said}");
}

#[test]
fn flags_that_make_no_sense_are_refused() {
    for (flags, hint) in [
        (&["--events", "0"][..], "1.."),
        (&["--bootstrap", ""], "--bootstrap"),
        (&["--bootstrap", "localhost:9092", "serve"], "serve"),
        (&["rehearse"], "rehearse"),
    ] {
        let refused = run(flags);

        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{flags:?}: {said}");
        assert!(said.contains(hint), "{flags:?} should hint at '{hint}': {said}");
    }
}

fn run(args: &[&str]) -> Output {
    command().args(args).output().unwrap()
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rehearsal"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).env_remove("RUST_LOG");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A cluster of another process; killed when a test is done with it.
struct Served {
    process: Child,
    bootstrap: String,
}

impl Served {
    fn start() -> Self {
        let flags = ["--brokers", "3", "--port", "0", "--config", "default.replication.factor=3"];
        let mut process = command().arg("serve").args(flags).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap().take(64 * 1024)).read_line(&mut line).unwrap();
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
        Self { process, bootstrap: ready["bootstrap"].as_str().unwrap().to_owned() }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
