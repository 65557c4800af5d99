//! librdkafka through the `rdkafka` crate, in this process, in either protocol of groups.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{BorrowedMessage, Header, Headers, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::program::shown_as_json;
use super::{Client, GroupProtocol, Record};

pub(crate) struct Rdkafka {
    protocol: GroupProtocol,
}

impl Rdkafka {
    pub(crate) fn new(protocol: GroupProtocol) -> Self {
        Self { protocol }
    }
}

impl Client for Rdkafka {
    fn name(&self) -> &'static str {
        match self.protocol {
            GroupProtocol::Classic => "rdkafka",
            GroupProtocol::Consumer => "rdkafka-848",
        }
    }

    fn missing(&self) -> Option<String> {
        None
    }

    fn prepare(&self) -> Result<()> {
        Ok(())
    }

    fn produce(&self, bootstrap: &str, topic: &str, records: &[Record]) -> Result<()> {
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", bootstrap).set("enable.idempotence", "true").create()?;
        for record in records {
            let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header { key, value: value.as_ref() })
            });
            let mut written = BaseRecord::<[u8], [u8]>::to(topic).headers(headers);
            written.key = record.key.as_deref();
            written.payload = record.value.as_deref();
            producer.send(written).map_err(|(error, _)| error)?;
        }
        producer.flush(Duration::from_secs(30))?;
        Ok(())
    }

    fn consume(&self, bootstrap: &str, group: &str, topics: &[&str], count: usize) -> Result<Vec<String>> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", group)
            .set("group.protocol", self.protocol.name())
            .set("auto.offset.reset", "earliest")
            .create()?;
        consumer.subscribe(topics)?;
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut shown = Vec::with_capacity(count);
        while shown.len() < count {
            ensure!(Instant::now() < deadline, "only {} of {count} records", shown.len());
            if let Some(message) = consumer.poll(Duration::from_millis(500)) {
                let message = message?;
                shown.push(shown_as_json(message.topic(), &record_of(&message)));
            }
        }
        consumer.commit_consumer_state(CommitMode::Sync)?;
        Ok(shown)
    }

    fn shown(&self, topic: &str, _offset: usize, record: &Record) -> String {
        shown_as_json(topic, record)
    }
}

fn record_of(message: &BorrowedMessage<'_>) -> Record {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    Record {
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect(),
    }
}
