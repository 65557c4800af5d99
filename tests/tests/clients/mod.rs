//! The clients of the interop suite: what each needs, how it writes, how it reads and how it shows what it read.

mod console;
mod kcat;
mod program;
mod rust;

use anyhow::Result;

/// Bytes with which the tools that show text part fields and records; no record holds them.
pub(crate) const SEPARATORS: [u8; 5] = [0x00, b'\t', b'\n', 0x1e, 0x1f];

/// A record as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

pub(crate) fn record(key: Option<&[u8]>, value: Option<&[u8]>) -> Record {
    Record { key: key.map(<[u8]>::to_vec), value: value.map(<[u8]>::to_vec), headers: Vec::new() }
}

impl Record {
    pub(crate) fn header(mut self, name: &str, value: Option<&[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.map(<[u8]>::to_vec)));
        self
    }
}

/// How a client is in a group: its members assign, or the coordinator does (KIP-848).
#[derive(Debug, Clone, Copy)]
pub(crate) enum GroupProtocol {
    Classic,
    Consumer,
}

impl GroupProtocol {
    /// What `group.protocol` is set to.
    fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
        }
    }
}

/// A foreign client.
pub(crate) trait Client: Send + Sync {
    /// Its name, fit for a topic.
    fn name(&self) -> &'static str;

    /// Why it cannot run on this machine, if it cannot.
    fn missing(&self) -> Option<String>;

    /// Installs or builds what is not there yet.
    fn prepare(&self) -> Result<()>;

    /// Whether its interface can say `record` at all.
    fn can_write(&self, _record: &Record) -> bool {
        true
    }

    /// Writes the records to partition 0, in order.
    fn produce(&self, bootstrap: &str, topic: &str, records: &[Record]) -> Result<()>;

    /// Reads `count` records of the topics in a group, commits, leaves; gives each as the client shows it.
    fn consume(&self, bootstrap: &str, group: &str, topics: &[&str], count: usize) -> Result<Vec<String>>;

    /// How the client shows a record when it read it right.
    fn shown(&self, topic: &str, offset: usize, record: &Record) -> String;
}

pub(crate) fn all() -> Vec<Box<dyn Client>> {
    vec![
        Box::new(kcat::Kcat),
        Box::new(console::Console::new(GroupProtocol::Classic)),
        Box::new(console::Console::new(GroupProtocol::Consumer)),
        Box::new(program::FranzGo),
        Box::new(program::Python::aiokafka()),
        Box::new(program::Python::confluent()),
        Box::new(rust::Rdkafka::new(GroupProtocol::Classic)),
        Box::new(rust::Rdkafka::new(GroupProtocol::Consumer)),
    ]
}
