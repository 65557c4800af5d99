//! `rehearsal`: the demo, the stand-in broker as a server, the simulator, for the bus and for any program, and the
//! dead-letter tools.
//!
//! Exit codes: 0 it did what was asked, 1 it could not and says why, or a promise was broken, 2 the command line makes no sense.
//! `rehearsal run` exits as the program does that it runs.

mod demo;
mod dlq;
mod run;
mod serve;
mod sim;

use clap::{Parser, Subcommand};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Kafka failures on demand: an event bus on Kafka, and the stand-in broker that rehearses it.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    demo: demo::Args,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the demos and the finale (this is what happens without a verb, too)
    Demo(demo::Args),
    /// Serve the stand-in broker alone, for any Kafka client in any language
    Serve(serve::Args),
    /// Search for a schedule of faults in which the bus breaks a promise, in virtual time
    Sim(sim::Args),
    /// Look at the dead letters of a bus on any Kafka; replay or evict them
    Dlq(dlq::Args),
    /// Run a program as it is, in any language, in virtual time, with the brokers it talks to and the faults of a plan
    Run(run::Args),
    /// A worker of the finale, started by it
    #[command(hide = true)]
    Worker(demo::worker::Args),
}

fn main() -> ExitCode {
    // Before anything else, so that a simulation's memory lies where it lay the last time.
    if sim::is_inside() {
        return sim::run_inside();
    }
    let cli = Cli::parse();
    // A demo crashes brokers on purpose; the client's warnings about it would drown the story.
    log_to_stderr(if matches!(cli.verb, Some(Verb::Serve(_))) { "info" } else { "error" });
    let outcome = match cli.verb.unwrap_or(Verb::Demo(cli.demo)) {
        Verb::Demo(args) => demo::run(args).map(|()| ExitCode::SUCCESS),
        Verb::Serve(args) => serve::run(args).map(|()| ExitCode::SUCCESS),
        Verb::Sim(args) => sim::run(args).map(|()| ExitCode::SUCCESS),
        Verb::Run(args) => run::run(args),
        Verb::Dlq(args) => dlq::run(args).map(|()| ExitCode::SUCCESS),
        Verb::Worker(args) => demo::worker::run(args).map(|()| ExitCode::SUCCESS),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            // Nobody is left to tell when standard error is closed; the exit code still says it.
            let _ = writeln!(std::io::stderr(), "error: {}", in_one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes, leaving out those whose words the error above has taken over.
fn in_one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !line.ends_with(&cause) {
            line.push_str(if line.is_empty() { "" } else { ": " });
            line.push_str(&cause);
        }
    }
    line
}

/// Standard output belongs to what was asked for, so logs go to standard error. `RUST_LOG` changes what is logged.
fn log_to_stderr(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).init();
}
