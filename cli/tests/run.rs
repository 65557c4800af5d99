//! `rehearsal run`, as a user runs it: programs of other languages in virtual time, and what is refused.
#![cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]

use object::{Object, ObjectSymbol};
use rehearsal_sim_kernel::front::table::SYMBOLS;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tests::{kafka, python, runtime};

/// The broker is out of reach for twenty seconds, twice as long as the session.
const CUT: &str = "\
rehearsal plan 1
seed 1
chaos 60s
settle 60s
brokers 1
program shop #n-shop
at 25s cut broker-1 from shop for 20s #f1
";

/// A run, as its user sees it.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
    took: Duration,
    /// Processor time, of the program too: the same whatever else the machine does.
    worked: Duration,
}

impl Ran {
    /// What the program wrote, and the hash that `--hash` wrote after it.
    fn split(&self) -> (&str, &str) {
        let (program, last) = self.out.trim_end().rsplit_once('\n').unwrap_or(("", self.out.trim_end()));
        (program, last)
    }
}

fn run<S: AsRef<OsStr>>(options: &[&str], command: impl IntoIterator<Item = S>) -> Ran {
    // The shell says at the end what its children took.
    let mut shell = Command::new("sh");
    shell.args(["-c", "\"$@\"; code=$?; times >&2; exit $code", "sh", env!("CARGO_BIN_EXE_rehearsal"), "run"]);
    shell.args(options).arg("--").args(command).stdin(Stdio::null());
    let began = Instant::now();
    let Output { status, stdout, stderr } = shell.output().expect("it runs");
    let took = began.elapsed();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (out, mut err) = (text(stdout), text(stderr));
    let times = err.trim_end().rmatch_indices('\n').nth(1).map_or(0, |(end, _)| end + 1);
    let worked = err[times..].lines().nth(1).map(|line| line.split_whitespace().map(time).sum());
    err.truncate(times);
    Ran { code: status.code(), out, err, took, worked: worked.expect("the shell's times") }
}

/// As the shell writes it: `1m2.345s`.
fn time(text: &str) -> Duration {
    let parts = text.trim_end_matches('s').split_once('m');
    let (minutes, seconds) = parts.expect("minutes and seconds");
    let seconds: f64 = seconds.parse().expect("seconds");
    Duration::from_secs_f64(60.0 * minutes.parse::<f64>().expect("minutes") + seconds)
}

fn programs() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs"))
}

fn scratch(file: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(file)
}

fn compile(to: &Path, flags: &[&str]) {
    let mut compiler = Command::new("cc");
    let compiler = compiler.args(["-O1", "-pthread", "-w", "-o"]).arg(to).arg(programs().join("does.c")).args(flags);
    runtime::run(compiler).expect("the C compiler that building librdkafka needs");
}

/// The program in C that does many things.
fn does(what: &str) -> [String; 2] {
    static COMPILED: OnceLock<PathBuf> = OnceLock::new();
    let program = COMPILED.get_or_init(|| {
        let program = scratch("does");
        compile(&program, &[]);
        program
    });
    [program.display().to_string(), what.to_owned()]
}

#[test]
fn an_hour_takes_no_time_and_the_exit_code_is_the_programs() {
    let ran = run(&["--seed", "7"], does("sleeps"));
    assert_eq!(ran.out, "began at 1700000000\nslept 3600 s\n", "{}", ran.err);
    assert_eq!(ran.code, Some(3));
    assert!(ran.err.starts_with("rehearsal: seed 7, 3600."), "{}", ran.err);
    assert!(ran.took < Duration::from_secs(60));
    assert_eq!(run(&[], does("leaves")).code, Some(4), "without a word to libc, too");
}

#[test]
fn a_seed_decides_who_prints_when_and_what_is_random() {
    for what in ["prints", "draws"] {
        let of = |seed: &str| {
            let ran = run(&["--seed", seed, "--hash"], does(what));
            assert_eq!(ran.code, Some(0), "{}", ran.err);
            let (program, hash) = ran.split();
            let (said, hash) = hash.split_once(' ').expect("a seed and a hash");
            assert_eq!((said, hash.len()), (seed, 16), "{hash}");
            (program.to_owned(), hash.to_owned())
        };
        let first = of("7");
        assert_eq!(first, of("7"));
        let other = of("8");
        assert!(first.0 != other.0 && first.1 != other.1, "{what}");
    }
    let printed = run(&[], does("prints")).out;
    assert_eq!(printed.lines().collect::<BTreeSet<_>>().len(), 2_000, "lines stay whole");
}

#[test]
fn output_is_part_of_the_hash() {
    let hash = |word: &str| run(&["--hash"], ["/bin/echo", word]).split().1.to_owned();
    assert_ne!(hash("orders"), hash("borers"));
}

#[test]
fn a_programs_own_faults_reach_it() {
    let ran = run(&[], does("faults"));
    assert_eq!((ran.out.as_str(), ran.code), ("caught three of its own\n", Some(0)), "{}", ran.err);
}

#[test]
fn a_run_that_cannot_end_says_why() {
    let stuck = run(&[], does("locks"));
    assert!(stuck.err.starts_with("error: with seed 1: deadlock: no thread can run"), "{}", stuck.err);
    let spun = run(&["--time-limit", "1"], does("spins"));
    assert!(spun.err.starts_with("error: with seed 1: no end after 1 s of real time"), "{}", spun.err);
    assert_eq!((stuck.code, spun.code), (Some(1), Some(1)));
}

/// The one line an unlucky user gets.
#[track_caller]
fn refusal<S: AsRef<OsStr>>(command: impl IntoIterator<Item = S>) -> String {
    let ran = run(&[], command);
    assert_eq!(ran.code, Some(1), "{}{}", ran.out, ran.err);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    ran.err
}

fn script(name: &str, text: &str, mode: u32) -> PathBuf {
    let file = scratch(name);
    std::fs::write(&file, text).expect("a file can be written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("it is ours");
    file
}

#[test]
fn other_processes_are_refused() {
    for what in ["forks", "shells"] {
        let said = refusal(does(what));
        assert!(said.contains("the program starts another process"), "{said}");
    }
    let said = refusal([script("two-commands.sh", "#!/bin/sh\n/bin/echo one\n/bin/echo two\n", 0o755)]);
    assert!(said.contains("the program starts another process"), "{said}");
}

#[test]
fn what_nothing_can_be_preloaded_into_is_refused_before_it_runs() {
    let said = refusal(["no-such-program"]);
    assert!(said.contains("there is no program 'no-such-program'"), "{said}");
    let said = refusal([script("text", "hello\n", 0o755)]);
    assert!(said.contains("neither a program of this system nor a script"), "{said}");
    let said = refusal([script("orphan.py", "#!/no/such/python\n", 0o755)]);
    assert!(said.contains("'/no/such/python', which"), "{said}");

    let orphan = scratch("does-orphaned");
    compile(&orphan, &["-Wl,--dynamic-linker=/no/such/ld.so"]);
    let said = refusal([orphan]);
    assert!(said.contains("'/no/such/ld.so', which") && said.contains("is not there"), "{said}");

    let owned = scratch("does-setuid");
    compile(&owned, &[]);
    std::fs::set_permissions(&owned, std::fs::Permissions::from_mode(0o4755)).expect("it is ours");
    let said = refusal([owned]);
    assert!(said.contains("(setuid)"), "{said}");
}

#[test]
fn static_programs_are_refused() {
    let program = scratch("does-static");
    let mut probe = Command::new("cc");
    let probe = probe.args(["-static", "-w", "-pthread", "-o"]).arg(&program).arg(programs().join("does.c"));
    if runtime::run(probe).is_err() {
        return runtime::skip("refusing static programs", "no static C library");
    }
    let said = refusal([program]);
    assert!(said.contains("is linked statically"), "{said}");
}

#[test]
fn go_programs_are_refused() {
    if !runtime::has_program("go", "version") {
        return runtime::skip("refusing Go programs", "no `go` on the path");
    }
    let source = scratch("hello.go");
    std::fs::write(&source, "package main\n\nfunc main() { println(1) }\n").expect("a file can be written");
    let program = scratch("hello-go");
    runtime::run(Command::new("go").args(["build", "-o"]).arg(&program).arg(&source)).expect("a Go program");
    let said = refusal([program]);
    assert!(said.contains("is a Go program"), "{said}");
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let plan = scratch("kills.plan");
    std::fs::write(&plan, CUT.replace("cut broker-1 from shop", "kill shop")).expect("a file can be written");
    let ran = run(&["--plan", &plan.display().to_string()], does("sleeps"));
    assert!(ran.err.contains("line #f1 of the plan cannot be carried out"), "{}", ran.err);
    let ran = run(&["--topic", "a/b:1"], does("sleeps"));
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{}", ran.err);
}

#[test]
fn the_library_takes_the_place_of_the_functions_in_the_table_and_of_no_others() {
    let library = Path::new(env!("CARGO_BIN_EXE_rehearsal")).with_file_name("deps").join("librehearsal_sim_preload.so");
    let bytes = std::fs::read(&library).expect("cargo builds it along");
    let file = object::read::elf::ElfFile64::<object::Endianness>::parse(&*bytes).expect("a shared object");
    let exported: BTreeSet<&str> = file
        .dynamic_symbols()
        .filter(|symbol| symbol.is_definition())
        .filter_map(|symbol| symbol.name().ok())
        .collect();
    let table = SYMBOLS.iter().map(|symbol| symbol.name).chain(["__libc_start_main"]).collect();
    assert_eq!(exported, table);
}

/// A service runs ten times through the cut, and each time it is the same.
fn ten_runs_are_one(name: &str, command: &[String], work_max: Duration) {
    let plan = scratch(&format!("{name}.plan"));
    std::fs::write(&plan, CUT).expect("a file can be written");
    let plan = plan.display().to_string();
    let options = ["--seed=7", "--hash", "--topic=orders:4", "--time-limit=600", "--plan", &plan];
    let mut told = BTreeSet::new();
    for _ in 0..10 {
        let ran = run(&options, command);
        assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
        assert!(ran.out.contains("\n1000 delivered, 1000 handled, it is 2023-11-14"), "{}", ran.out);
        assert!(ran.worked < work_max, "{name} took {:?}", ran.worked);
        told.insert(ran.out);
    }
    assert_eq!(told.len(), 1, "{told:#?}");
    let said = told.pop_first().unwrap_or_default();
    // Sent at 30 s, while the link was cut, and answered when it had healed.
    let second = said.lines().nth(1).and_then(|line| line.split('.').next()?.parse::<u64>().ok());
    assert!(second.is_some_and(|second| (45..60).contains(&second)), "{said}");
}

#[test]
fn a_python_service_on_confluent_kafka_is_carried_through_a_cut() {
    if let Some(missing) = python::missing() {
        return runtime::skip("running a Python service", &missing);
    }
    let python = python::environment().expect("confluent-kafka from PyPI").join("bin").join("python");
    let command = [python, programs().join("service.py")].map(|part| part.display().to_string());
    ten_runs_are_one("python", &command, Duration::from_secs(1));
}

#[test]
fn a_java_service_on_kafka_clients_is_carried_through_a_cut() {
    if let Some(missing) = kafka::missing_runtime() {
        return runtime::skip("running a Java service", missing);
    }
    let libs = kafka::libs().expect("Kafka's jars from Maven Central");
    let needed = ["kafka-clients-", "slf4j-api-", "lz4-java-", "snappy-java-", "zstd-jni-"];
    let jars = std::fs::read_dir(libs).expect("a folder of jars").flatten().map(|entry| entry.path());
    let wanted = |jar: &PathBuf| {
        let name = jar.file_name().unwrap_or_default().to_string_lossy().into_owned();
        needed.iter().any(|needed| name.starts_with(needed))
    };
    let mut path: Vec<String> = jars.filter(wanted).map(|jar| jar.display().to_string()).collect();
    path.sort();
    let classes = scratch("java-classes");
    path.push(classes.display().to_string());
    let path = path.join(":");
    let source = programs().join("Service.java");
    runtime::run(Command::new("javac").args(["-cp", &path, "-d"]).arg(&classes).arg(source)).expect("it compiles");
    let command = ["java", "-cp", &path, "Service"].map(str::to_owned);
    ten_runs_are_one("java", &command, Duration::from_secs(5));
}
