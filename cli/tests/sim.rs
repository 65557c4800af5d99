//! `rehearsal sim`, as a user runs it.
#![cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]

use std::path::Path;
use std::process::{Command, Output};

/// One record that a handler gives up; nothing else goes wrong.
const PLAN: &str = "\
rehearsal plan 1
seed 7
chaos 2s
settle 60s
brokers 1
topic orders partitions 1 replicas 1 #t-orders
group billing reads orders reset earliest isolation read-committed retries 1 base 1s max 60s jitter 0.1 session 45s #g-billing
publisher pub-1 acks all idempotent yes #n-pub-1
worker worker-1 in billing #n-worker-1
at 0s publish 1 of A1 by pub-1 to orders every 0s #w1
on w1 fail-always #h1
";

fn sim(directory: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rehearsal"));
    command.current_dir(directory).arg("sim").args(args).output().expect("the program runs")
}

fn directory(name: &str) -> std::path::PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).expect("a directory can be made");
    std::fs::write(directory.join("one.plan"), PLAN).expect("a file can be written");
    directory
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_plan_that_holds_is_told_and_the_exit_code_is_zero() {
    let directory = directory("holds");
    let ran = sim(&directory, &["--replay", "one.plan"]);
    assert!(ran.status.success(), "{}{}", text(&ran.stdout), text(&ran.stderr));
    assert!(text(&ran.stdout).starts_with("the bus: held with seed 7"), "{}", text(&ran.stdout));
}

#[test]
fn a_broken_promise_exits_with_one_and_the_command_it_names_shows_it_again() {
    let directory = directory("broken");
    let mutant = ["--mutant", "loses-dead-letters"];
    let ran =
        sim(&directory, &[&["--plan", "one.plan", "--seeds", "3..4", "--junit", "junit.xml"], &mutant[..]].concat());
    assert_eq!(ran.status.code(), Some(1), "{}", text(&ran.stdout));
    let again = "rehearsal sim --replay rehearsal-report/seed-3.plan --mutant loses-dead-letters";
    assert!(text(&ran.stdout).contains(again), "{}", text(&ran.stdout));
    let junit = std::fs::read_to_string(directory.join("junit.xml")).expect("it was written");
    assert!(junit.contains("failures=\"1\"") && junit.contains("seed 3"), "{junit}");
    assert!(directory.join("rehearsal-report/seed-3.html").exists());

    let replayed = sim(&directory, &[&["--replay", "rehearsal-report/seed-3.plan"], &mutant[..]].concat());
    assert_eq!(replayed.status.code(), Some(1), "{}", text(&replayed.stdout));
}

#[test]
fn hashes_do_not_depend_on_the_shell() {
    let directory = directory("hashes");
    for (file, jobs) in [("a", "1"), ("b", "2")] {
        let ran = sim(&directory, &["--plan", "one.plan", "--seeds", "0..4", "--hashes", file, "--jobs", jobs]);
        assert!(ran.status.success(), "{}{}", text(&ran.stdout), text(&ran.stderr));
    }
    let [a, b] = ["a", "b"].map(|file| std::fs::read_to_string(directory.join(file)).expect("it was written"));
    assert_eq!(a, b);
    assert_eq!(a.lines().count(), 4);
}

#[test]
fn what_cannot_be_carried_out_is_said_before_anything_runs() {
    let directory = directory("unsupported");
    let plan = format!("{PLAN}at 1s drift-clock worker-1 by +1ms every-second for 500ms #f1\n");
    std::fs::write(directory.join("drift.plan"), plan).expect("a file can be written");
    let ran = sim(&directory, &["--replay", "drift.plan"]);
    assert_eq!(ran.status.code(), Some(1));
    assert!(text(&ran.stderr).contains("line #f1 cannot be carried out"), "{}", text(&ran.stderr));
}
