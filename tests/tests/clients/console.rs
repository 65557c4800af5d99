//! The console producer and consumer of Apache Kafka, in either protocol of groups.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use tests::{kafka, runtime};

use super::{Client, GroupProtocol, Record};

pub(crate) struct Console {
    protocol: GroupProtocol,
}

impl Console {
    pub(crate) fn new(protocol: GroupProtocol) -> Self {
        Self { protocol }
    }
}

/// Stands for null in what the tools read and write.
const NULL: &str = "<null>";

impl Client for Console {
    fn name(&self) -> &'static str {
        match self.protocol {
            GroupProtocol::Classic => "kafka-console",
            GroupProtocol::Consumer => "kafka-console-848",
        }
    }

    fn missing(&self) -> Option<String> {
        kafka::missing_runtime().map(str::to_owned)
    }

    fn prepare(&self) -> Result<()> {
        kafka::libs().map(drop)
    }

    /// It reads lines of text.
    fn can_write(&self, record: &Record) -> bool {
        let is_text = |part: &Option<Vec<u8>>| part.as_ref().is_none_or(|bytes| std::str::from_utf8(bytes).is_ok());
        is_text(&record.key) && is_text(&record.value) && record.headers.iter().all(|(_, value)| is_text(value))
    }

    fn produce(&self, bootstrap: &str, topic: &str, records: &[Record]) -> Result<()> {
        let mut command = tool("org.apache.kafka.tools.ConsoleProducer")?;
        command.args(["--bootstrap-server", bootstrap, "--topic", topic]);
        for property in ["parse.key=true", "parse.headers=true", &format!("null.marker={NULL}")] {
            command.args(["--reader-property", property]);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut lines = child.stdin.take().context("the tool's standard input")?;
        for record in records {
            lines.write_all(line(record).as_bytes())?;
            lines.write_all(b"\n")?;
        }
        drop(lines);
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() && !said.contains("ERROR"), "it ended with {}: {said}", output.status);
        Ok(())
    }

    fn consume(&self, bootstrap: &str, group: &str, topics: &[&str], count: usize) -> Result<Vec<String>> {
        let mut command = tool("org.apache.kafka.tools.consumer.ConsoleConsumer")?;
        command.args(["--bootstrap-server", bootstrap, "--group", group, "--include", &topics.join("|")]);
        command.args(["--command-property", &format!("group.protocol={}", self.protocol.name())]);
        command.args(["--from-beginning", "--timeout-ms", "60000", "--max-messages", &count.to_string()]);
        for property in ["print.offset=true", "print.headers=true", "print.key=true", &format!("null.literal={NULL}")] {
            command.args(["--formatter-property", property]);
        }
        let output = runtime::run(&mut command)?;
        let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        Ok(lines.map(|line| line.escape_ascii().to_string()).collect())
    }

    /// The tool shows no topic; the header `from` tells the writers apart.
    fn shown(&self, _topic: &str, offset: usize, record: &Record) -> String {
        let mut shown = format!("Offset:{offset}\t").into_bytes();
        shown.extend(headers(record));
        for part in [&record.key, &record.value] {
            shown.push(b'\t');
            shown.extend(part.as_deref().unwrap_or(NULL.as_bytes()));
        }
        shown.escape_ascii().to_string()
    }
}

fn tool(class: &str) -> Result<Command> {
    let mut command = kafka::java(&kafka::libs()?, "error");
    command.arg(class);
    Ok(command)
}

/// A record as the console producer reads it.
fn line(record: &Record) -> String {
    let mut line = String::from_utf8_lossy(&headers(record)).into_owned();
    for part in [&record.key, &record.value] {
        let text = part.as_deref().map_or(NULL.into(), String::from_utf8_lossy);
        let _ = write!(line, "\t{text}");
    }
    line
}

fn headers(record: &Record) -> Vec<u8> {
    let header = |(name, value): &(String, Option<Vec<u8>>)| {
        [name.as_bytes(), b":", value.as_deref().unwrap_or(NULL.as_bytes())].concat()
    };
    record.headers.iter().map(header).collect::<Vec<_>>().join(&b","[..])
}
