//! Looking at the dead-letter topic, and replaying from it.
//!
//! Kafka cannot delete a record from the middle of a log. What was replayed is therefore noted in a ledger, a compacted
//! topic beside the dead-letter topic with one record per resolved letter, and counts are letters less resolutions.

use super::client::{Watcher, bystander, make};
use super::publish::{Copy, Publisher};
use super::record::{Record, TARGET_GROUP};
use super::topics::{Census, Topics, Wanted};
use crate::config::KafkaEventBusConfig;
use crate::dlq::{DlqMessage, ReplayOutcome};
use crate::engine::Header;
use crate::engine::dead_letters::PREFIX;
use crate::error::BusError;
use bytes::Bytes;
use jiff::Timestamp;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) struct Letters {
    config: KafkaEventBusConfig,
    topic: Arc<str>,
    dlq_topic: Arc<str>,
    ledger_topic: String,
    topics: Topics,
    publisher: Publisher,
    watcher: Watcher,
    /// One replay at a time, so that a second call for the same letter sees the first one's note.
    replaying: tokio::sync::Mutex<()>,
}

/// The name of a letter: its partition and offset in the dead-letter topic.
type Name = (i32, i64);

/// How long one poll waits; the end of a partition ends it at once.
const POLL: Duration = Duration::from_millis(100);

impl Letters {
    pub(super) fn new(config: &KafkaEventBusConfig, topics: Topics, publisher: Publisher, watcher: Watcher) -> Self {
        let (topic, dlq_topic) = (config.topic_name().into(), config.dlq_topic_name());
        Self {
            config: config.clone(),
            topic,
            ledger_topic: format!("{dlq_topic}.ledger"),
            dlq_topic: dlq_topic.into(),
            topics,
            publisher,
            watcher,
            replaying: tokio::sync::Mutex::default(),
        }
    }

    pub(super) async fn list(&self, limit: usize) -> Result<Vec<DlqMessage>, BusError> {
        let census = self.topics.census().await?;
        let resolved = self.resolved(&census).await?;
        let mut letters = Vec::new();
        if limit > 0 {
            let starts = partitions(&census, &self.dlq_topic).map(|partition| (partition, Offset::Beginning)).collect();
            letters = self
                .read(&self.dlq_topic, starts, Vec::new(), move |letters, record| {
                    if !resolved.contains(&(record.partition, record.offset)) {
                        letters.push(letter(record));
                    }
                    if letters.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                })
                .await?;
        }
        letters.sort_by_key(|letter| (letter.timestamp, letter.partition, letter.offset));
        Ok(letters)
    }

    pub(super) async fn count(&self) -> Result<u64, BusError> {
        let census = self.topics.census().await?;
        let resolved = self.resolved(&census).await?;
        let partitions: Vec<_> = partitions(&census, &self.dlq_topic).collect();
        let (reader, topic, patience) = (self.reader()?, self.dlq_topic.clone(), self.config.connect_timeout);
        blocking("counting dead letters", move || {
            let mut count = 0;
            for partition in partitions {
                let (low, high) = reader.fetch_watermarks(&topic, partition, patience).map_err(unreadable)?;
                // A resolution may outlive its letter, which the topic's retention has deleted.
                let resolved = resolved.range((partition, low)..(partition, high)).count();
                count += u64::try_from(high - low).unwrap_or(0).saturating_sub(resolved as u64);
            }
            Ok(count)
        })
        .await
    }

    pub(super) async fn replay(&self, partition: i32, offset: i64, force: bool) -> Result<ReplayOutcome, BusError> {
        let _replaying = self.replaying.lock().await;
        let census = self.topics.census().await?;
        if !partitions(&census, &self.dlq_topic).any(|known| known == partition) || offset < 0 {
            return Ok(ReplayOutcome::NotFound);
        }
        if self.resolved(&census).await?.contains(&(partition, offset)) {
            return Ok(ReplayOutcome::AlreadyReplayed);
        }
        let starts = vec![(partition, Offset::Offset(offset))];
        let found = self
            .read(&self.dlq_topic, starts, None, |found, record| {
                *found = Some(letter(record));
                ControlFlow::Break(())
            })
            .await?;
        // When there is none at this offset, the client goes on with another one.
        let Some(letter) = found.filter(|letter| letter.offset == offset) else { return Ok(ReplayOutcome::NotFound) };
        let replays = letter.replay_count();
        if replays >= self.config.dlq_max_replay_attempts && !force {
            return Ok(ReplayOutcome::TooOften { replays });
        }
        if self.config.create_topics && !census.contains_key(&self.ledger_topic) {
            let replication = self.config.topic_replication.unwrap_or(super::BROKER_DEFAULT).into();
            let ledger = Wanted { name: &self.ledger_topic, partitions: 1, replication, compacted: true };
            self.topics.create(ledger).await?;
        }
        let known = census.get(&*self.topic).copied().unwrap_or(0);
        let not_written = |source| BusError::Backend { doing: "replaying a dead letter", source };
        let replayed = self
            .publisher
            .write(Copy {
                topic: &self.topic,
                // Where its key lies, so that it stays in order with the events of its aggregate.
                partition: letter.original_partition().filter(|partition| (0..known).contains(partition)),
                key: letter.key.as_ref(),
                value: letter.value.as_ref(),
                headers: &replayed_headers(&letter),
            })
            .await
            .map_err(|error| not_written(error.into()))?;
        self.note(&letter, replayed.offset).await.map_err(|error| {
            not_written(format!("it was replayed, but not noted, so it counts as a dead letter still: {error}").into())
        })?;
        Ok(ReplayOutcome::Replayed { partition: replayed.partition, offset: replayed.offset })
    }

    /// Notes in the ledger that a letter is resolved.
    async fn note(&self, letter: &DlqMessage, offset: i64) -> Result<(), crate::error::NotAcknowledged> {
        let key = Bytes::from(format!("{}:{}", letter.partition, letter.offset));
        let by = &self.config.consumer_name;
        let at = Timestamp::now().to_string();
        let note = serde_json::json!({ "outcome": "replayed", "by": by, "at": at, "offset": offset });
        let value = Bytes::from(note.to_string());
        let copy =
            Copy { topic: &self.ledger_topic, partition: None, key: Some(&key), value: Some(&value), headers: &[] };
        self.publisher.write(copy).await.map(drop)
    }

    /// The names in the ledger.
    async fn resolved(&self, census: &Census) -> Result<BTreeSet<Name>, BusError> {
        let starts = partitions(census, &self.ledger_topic).map(|partition| (partition, Offset::Beginning)).collect();
        let topic = Arc::from(self.ledger_topic.as_str());
        self.read(&topic, starts, BTreeSet::new(), |resolved, record| {
            if let Some(name) = record.key.as_deref().and_then(name) {
                match record.value {
                    Some(_) => resolved.insert(name),
                    None => resolved.remove(&name),
                };
            }
            ControlFlow::Continue(())
        })
        .await
    }

    /// Reads from these positions to the end of each partition, or until `each` has enough.
    async fn read<T: Send + 'static>(
        &self,
        topic: &Arc<str>,
        starts: Vec<(i32, Offset)>,
        mut into: T,
        mut each: impl FnMut(&mut T, Record) -> ControlFlow<()> + Send + 'static,
    ) -> Result<T, BusError> {
        if starts.is_empty() {
            return Ok(into);
        }
        let (reader, topic, patience) = (self.reader()?, topic.clone(), self.config.connect_timeout);
        blocking("reading dead letters", move || {
            let mut list = TopicPartitionList::new();
            for (partition, start) in &starts {
                list.add_partition_offset(&topic, *partition, *start).map_err(unreadable)?;
            }
            reader.assign(&list).map_err(unreadable)?;
            let mut unread: BTreeSet<i32> = starts.iter().map(|(partition, _)| *partition).collect();
            let mut last_progress = Instant::now();
            while !unread.is_empty() {
                match reader.poll(POLL) {
                    Some(Ok(message)) => {
                        last_progress = Instant::now();
                        if unread.contains(&message.partition())
                            && each(&mut into, Record::read(&topic, &message)).is_break()
                        {
                            break;
                        }
                    }
                    Some(Err(KafkaError::PartitionEOF(partition))) => {
                        last_progress = Instant::now();
                        unread.remove(&partition);
                    }
                    Some(Err(error)) => tracing::warn!(%error, "reading dead letters failed; trying again"),
                    None => {}
                }
                if last_progress.elapsed() > patience {
                    let silent = format!("{topic} could not be read for {patience:?}");
                    return Err(BusError::Backend { doing: "reading dead letters", source: silent.into() });
                }
            }
            Ok(into)
        })
        .await
    }

    fn reader(&self) -> Result<BaseConsumer<Watcher>, BusError> {
        make(&bystander(&self.config), self.watcher.clone())
    }
}

async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> Result<T, BusError> + Send + 'static,
) -> Result<T, BusError> {
    let failed = |stopped: tokio::task::JoinError| Err(BusError::Backend { doing, source: stopped.into() });
    tokio::task::spawn_blocking(work).await.unwrap_or_else(failed)
}

fn unreadable(error: KafkaError) -> BusError {
    BusError::Backend { doing: "reading dead letters", source: error.into() }
}

fn partitions(census: &Census, topic: &str) -> impl Iterator<Item = i32> + use<> {
    0..census.get(topic).copied().unwrap_or(0)
}

fn letter(record: Record) -> DlqMessage {
    DlqMessage {
        partition: record.partition,
        offset: record.offset,
        timestamp: record.timestamp.and_then(|millis| Timestamp::from_millisecond(millis).ok()),
        key: record.key,
        value: record.value,
        headers: record.headers,
    }
}

fn name(key: &[u8]) -> Option<Name> {
    let (partition, offset) = std::str::from_utf8(key).ok()?.split_once(':')?;
    Some((partition.parse().ok()?, offset.parse().ok()?))
}

/// The record's own headers again, and for whom it is.
fn replayed_headers(letter: &DlqMessage) -> Vec<Header> {
    let own = letter.headers.iter().filter(|header| !header.name.starts_with(PREFIX) && header.name != TARGET_GROUP);
    let mut headers: Vec<_> = own.cloned().collect();
    headers.push(Header::text("dlq_replay_count", (letter.replay_count() + 1).to_string()));
    headers.extend(letter.consumer_group().map(|group| Header::text(TARGET_GROUP, group)));
    headers
}
