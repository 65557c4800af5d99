//! Small programs beside this suite, in other languages. All take and give records as lines of JSON.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{python, runtime};

use super::{Client, Record};

/// franz-go, by a program in Go.
pub(crate) struct FranzGo;

impl Client for FranzGo {
    fn name(&self) -> &'static str {
        "franz-go"
    }

    fn missing(&self) -> Option<String> {
        (!runtime::has_program("go", "version")).then(|| "no `go` on the path".to_owned())
    }

    fn prepare(&self) -> Result<()> {
        let built = built_program()?;
        runtime::run(Command::new("go").current_dir(sources("go")).args(["build", "-o"]).arg(built).arg("."))?;
        Ok(())
    }

    fn produce(&self, bootstrap: &str, topic: &str, records: &[Record]) -> Result<()> {
        feed(Command::new(built_program()?).args(["produce", bootstrap, topic]), topic, records)
    }

    fn consume(&self, bootstrap: &str, group: &str, topics: &[&str], count: usize) -> Result<Vec<String>> {
        let count = count.to_string();
        read(Command::new(built_program()?).args(["consume", bootstrap, group, &count]).args(topics))
    }

    fn shown(&self, topic: &str, _offset: usize, record: &Record) -> String {
        shown_as_json(topic, record)
    }
}

/// A client from PyPI, by a script; all share one environment.
pub(crate) struct Python {
    name: &'static str,
    script: &'static str,
}

impl Python {
    pub(crate) fn aiokafka() -> Self {
        Self { name: "aiokafka", script: "aio.py" }
    }

    pub(crate) fn confluent() -> Self {
        Self { name: "confluent-kafka", script: "confluent.py" }
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new(python::environment()?.join("bin").join("python"));
        // Compiled scripts stay out of the sources.
        command.arg("-B").arg(sources("python").join(self.script));
        Ok(command)
    }
}

impl Client for Python {
    fn name(&self) -> &'static str {
        self.name
    }

    fn missing(&self) -> Option<String> {
        python::missing()
    }

    fn prepare(&self) -> Result<()> {
        python::environment().map(drop)
    }

    /// aiokafka refuses a record with neither key nor value.
    fn can_write(&self, record: &Record) -> bool {
        self.name != "aiokafka" || record.key.is_some() || record.value.is_some()
    }

    fn produce(&self, bootstrap: &str, topic: &str, records: &[Record]) -> Result<()> {
        feed(self.command()?.args(["produce", bootstrap, topic]), topic, records)
    }

    fn consume(&self, bootstrap: &str, group: &str, topics: &[&str], count: usize) -> Result<Vec<String>> {
        let count = count.to_string();
        read(self.command()?.args(["consume", bootstrap, group, &count]).args(topics))
    }

    fn shown(&self, topic: &str, _offset: usize, record: &Record) -> String {
        shown_as_json(topic, record)
    }
}

/// A record as one line; the same form goes in and comes out.
pub(crate) fn shown_as_json(topic: &str, record: &Record) -> String {
    let headers: Vec<Value> = record.headers.iter().map(|(name, value)| json!([name, hex(value.as_deref())])).collect();
    json!({
        "topic": topic,
        "key": hex(record.key.as_deref()),
        "value": hex(record.value.as_deref()),
        "headers": headers,
    })
    .to_string()
}

fn hex(bytes: Option<&[u8]>) -> Option<String> {
    use std::fmt::Write as _;
    bytes.map(|bytes| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    })
}

fn sources(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("interop").join(language)
}

fn built_program() -> Result<PathBuf> {
    Ok(runtime::target_dir()?.join("interop").join("franz-go"))
}

/// Runs a program with the records on its standard input.
fn feed(command: &mut Command, topic: &str, records: &[Record]) -> Result<()> {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {shown}"))?;
    let mut lines = child.stdin.take().context("the program's standard input")?;
    for record in records {
        // A program that ended early says why itself.
        let _ = writeln!(lines, "{}", shown_as_json(topic, record));
    }
    drop(lines);
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "{shown} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Runs a program and gives the records on its standard output, each in our own way of writing it.
fn read(command: &mut Command) -> Result<Vec<String>> {
    let output = runtime::run(command)?;
    let text = String::from_utf8(output.stdout)?;
    text.lines().map(|line| Ok(serde_json::from_str::<Value>(line)?.to_string())).collect()
}
