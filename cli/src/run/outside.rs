//! Starts the program with the library preloaded, waits for its end, and tells.

use super::Args;
use super::program::{self, Found};
use anyhow::{Context, bail, ensure};
use rehearsal_sim::program::{Checked, Settings};
use rehearsal_sim_kernel::front::child::Outcome;
use rehearsal_sim_kernel::front::program::{Started, start};
use std::ffi::OsString;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Runs the program. The exit code is the program's own.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let checked = settings(&args)?;
    let library = library()?;
    let [name, arguments @ ..] = args.command.as_slice() else { bail!("there is no command to run") };
    let found = program::find(Path::new(name))?;
    let command = command(&found, arguments, &checked);
    let began = Instant::now();
    let started = start(command, &library, &checked.text());
    let Started { child, stdout, stderr } = started.with_context(|| format!("starting {}", found.program.display()))?;
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| pass_on(stdout, &mut std::io::stdout()));
        scope.spawn(|| pass_on(stderr, &mut std::io::stderr()));
        child.wait()
    });
    if let Some(file) = &args.steps {
        std::fs::write(file, &outcome.steps).with_context(|| format!("writing {}", file.display()))?;
    }
    tell(&args, outcome, began.elapsed())
}

fn settings(args: &Args) -> anyhow::Result<Checked> {
    let read = |path: &PathBuf| std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()));
    let settings = Settings {
        seed: args.seed,
        brokers: args.brokers,
        topics: args.topics.clone(),
        plan: args.plan.as_ref().map(read).transpose()?,
        wall_seconds: args.time_limit.get(),
        log_steps: args.steps.is_some(),
    };
    settings.check().map_err(anyhow::Error::msg)
}

/// The file to preload.
const LIBRARY: &str = "librehearsal_sim_preload.so";

/// Beside this program; where cargo leaves it; or where packages put libraries.
fn library() -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("finding this program")?;
    let beside = this.parent().context("finding this program's directory")?;
    let places = ["deps", ".", "../lib/rehearsal", "../lib"].map(|place| beside.join(place).join(LIBRARY));
    let Some(library) = places.into_iter().find(|place| place.is_file()) else {
        bail!(
            "{LIBRARY} is not beside {}: build it with `cargo build --release -p rehearsal-sim-preload`, and put it there",
            this.display()
        )
    };
    let library = library.canonicalize().context("finding the library to preload")?;
    // The loader takes both for the end of a name.
    ensure!(
        !library.to_string_lossy().contains([' ', ':']),
        "{} cannot be preloaded from there: put it where no directory has a space or a colon in its name",
        library.display()
    );
    Ok(library)
}

/// OpenSSL asks the processor for random numbers and time; it is told that this one gives neither.
const NO_RDRAND: &str = "~0x4000000000000010:~0x40000";

/// What Java is told: the simulated network is IPv4, no files are shared with other machines of Java, and compiling
/// less takes less time where all threads share a processor.
const JAVA: &str = "-Djava.net.preferIPv4Stack=true -XX:-UsePerfData -XX:TieredStopAtLevel=1";
/// The collector with the fewest threads, unless the program chooses one: Java refuses to be told of two.
const JAVA_COLLECTOR: &str = "-XX:+UseSerialGC";

fn java_options(arguments: &[OsString]) -> String {
    let own = std::env::var("JAVA_TOOL_OPTIONS").unwrap_or_default();
    let chooses = |text: &str| text.contains("-XX:+Use") && text.contains("GC");
    let chosen = chooses(&own) || arguments.iter().any(|argument| chooses(&argument.to_string_lossy()));
    let collector = if chosen { "" } else { JAVA_COLLECTOR };
    [JAVA, collector, &own].into_iter().filter(|options| !options.is_empty()).collect::<Vec<_>>().join(" ")
}

fn command(found: &Found, arguments: &[OsString], checked: &Checked) -> Command {
    let mut command = Command::new(&found.program);
    command.args(&found.before).args(arguments);
    command.stdin(input()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("KAFKA_BOOTSTRAP_SERVERS", checked.bootstrap_servers());
    command
        .env("TZ", "UTC")
        .env("PYTHONHASHSEED", "0")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("OPENSSL_ia32cap", NO_RDRAND);
    command.env("JAVA_TOOL_OPTIONS", java_options(arguments));
    command
}

/// What the program writes goes through a pipe: where it would go otherwise, a terminal or a file, is something programs
/// go by, and runs are to be equal in every shell.
fn pass_on(from: Option<impl Read>, to: &mut impl Write) {
    let (Some(mut from), mut buffer) = (from, vec![0; 65_536]) else { return };
    while let Ok(some @ 1..) = from.read(&mut buffer) {
        // Nobody may be left to read it; the program goes on.
        let _ = to.write_all(&buffer[..some]).and_then(|()| to.flush());
    }
}

/// What the program may read: what is piped to it. A terminal would make it another run.
fn input() -> Stdio {
    if std::io::stdin().is_terminal() { Stdio::null() } else { Stdio::inherit() }
}

fn tell(args: &Args, outcome: Outcome, took: Duration) -> anyhow::Result<ExitCode> {
    let Outcome { stats, returned, failure, begun, .. } = outcome;
    if !begun {
        bail!(
            "the simulation did not begin: nothing could be preloaded into the program, which ran as it always does or \
             not at all"
        );
    }
    if let Some(failure) = failure {
        bail!("with seed {}: {failure}", args.seed);
    }
    let stats = stats.context("the program ended and left no word")?;
    let passed = Duration::from_nanos(stats.virtual_ns);
    let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
    writeln!(
        err,
        "rehearsal: seed {}, {:.3} s in {:.3} s, {} calls, {} threads, hash {:016x}",
        args.seed,
        passed.as_secs_f64(),
        took.as_secs_f64(),
        stats.calls,
        stats.threads,
        stats.hash
    )?;
    if args.hash {
        writeln!(out, "{} {:016x}", args.seed, stats.hash)?;
    }
    let status = returned.first_chunk::<4>().map_or(0, |status| i32::from_le_bytes(*status));
    // What the system keeps of it.
    Ok(ExitCode::from(status.to_le_bytes()[0]))
}
