//! kcat, from Debian.

use std::process::Command;

use anyhow::{Context, Result};
use tests::runtime;

use super::{Client, Record};

pub(crate) struct Kcat;

/// Topic, offset, length and bytes of the key, length and bytes of the value, headers.
const FORMAT: &str = "%t\\x1f%o\\x1f%K\\x1f%k\\x1f%S\\x1f%s\\x1f%h\\x1e";

impl Client for Kcat {
    fn name(&self) -> &'static str {
        "kcat"
    }

    fn missing(&self) -> Option<String> {
        let installable = || runtime::has_program("apt-get", "--version") && is_root();
        (!is_installed() && !installable()).then(|| "no `kcat` on the path, and no right to install it".to_owned())
    }

    fn prepare(&self) -> Result<()> {
        if !is_installed() {
            runtime::run(Command::new("apt-get").arg("update"))?;
            runtime::run(Command::new("apt-get").args(["install", "-y", "--no-install-recommends", "kcat"]))?;
        }
        Ok(())
    }

    /// One run a record: headers and key are given once for all that a run writes.
    fn produce(&self, bootstrap: &str, topic: &str, records: &[Record]) -> Result<()> {
        let folder = tempfile::tempdir().context("a folder for values")?;
        for record in records {
            let value = folder.path().join("value");
            std::fs::write(&value, record.value.as_deref().unwrap_or_default())?;
            let mut command = kcat(bootstrap);
            command.args(["-P", "-t", topic, "-p", "0"]);
            for (name, value) in &record.headers {
                let shown =
                    value.as_deref().map_or(name.as_bytes().to_vec(), |value| [name.as_bytes(), b"=", value].concat());
                command.arg("-H").arg(os_string(shown));
            }
            if let Some(key) = &record.key {
                command.arg("-k").arg(os_string(key.clone()));
            }
            if record.value.is_none() {
                command.arg("-Z");
            }
            runtime::run(command.arg(value))?;
        }
        Ok(())
    }

    fn consume(&self, bootstrap: &str, group: &str, topics: &[&str], count: usize) -> Result<Vec<String>> {
        let mut command = kcat(bootstrap);
        command.args(["-u", "-Z", "-f", FORMAT, "-c", &count.to_string(), "-X", "auto.offset.reset=earliest"]);
        let output = runtime::run(command.args(["-G", group]).args(topics))?;
        let records = output.stdout.split(|byte| *byte == 0x1e).filter(|record| !record.is_empty());
        Ok(records.map(|record| record.escape_ascii().to_string()).collect())
    }

    fn shown(&self, topic: &str, offset: usize, record: &Record) -> String {
        let mut shown = format!("{topic}\x1f{offset}").into_bytes();
        for part in [&record.key, &record.value] {
            let length = part.as_ref().map_or("-1".to_owned(), |part| part.len().to_string());
            shown.extend([b"\x1f", length.as_bytes(), b"\x1f", part.as_deref().unwrap_or(b"NULL")].concat());
        }
        let header = |(name, value): &(String, Option<Vec<u8>>)| {
            [name.as_bytes(), b"=", value.as_deref().unwrap_or(b"NULL")].concat()
        };
        shown.push(0x1f);
        shown.extend(record.headers.iter().map(header).collect::<Vec<_>>().join(&b","[..]));
        shown.escape_ascii().to_string()
    }
}

fn kcat(bootstrap: &str) -> Command {
    // It has no time limit of its own.
    let mut command = Command::new("timeout");
    command.args(["60", "kcat", "-q", "-b", bootstrap]);
    command
}

fn is_installed() -> bool {
    runtime::has_program("kcat", "-V")
}

fn is_root() -> bool {
    let asked = Command::new("id").arg("-u").output();
    asked.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

#[cfg(unix)]
fn os_string(bytes: Vec<u8>) -> std::ffi::OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes)
}
