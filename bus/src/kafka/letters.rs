//! Looking at the dead-letter topic, and replaying from it.
//!
//! Kafka cannot delete a record from the middle of a log. What was replayed is therefore noted in a ledger, a compacted
//! topic beside the dead-letter topic with one record per resolved letter, and counts are letters less resolutions.

use super::client::{Watcher, bystander, make};
use super::publish::{Copy, Publisher};
use super::record::{EVICTED, Record, SEQUENCE, TARGET_GROUP};
use super::topics::{Census, Topics, Wanted};
use crate::config::KafkaEventBusConfig;
use crate::dlq::{DlqMessage, EvictOutcome, Replay, ReplayOutcome};
use crate::engine::Header;
use crate::engine::dead_letters::PREFIX;
use crate::error::{BusError, NotAcknowledged};
use bytes::Bytes;
use jiff::Timestamp;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub(super) struct Letters {
    config: KafkaEventBusConfig,
    topic: Arc<str>,
    dlq_topic: Arc<str>,
    ledger_topic: String,
    topics: Topics,
    publisher: Publisher,
    watcher: Watcher,
    /// Made when first needed, then kept: joining in and taking leave are slow.
    bystander: Arc<Mutex<Option<Bystander>>>,
    /// One at a time, so that a second call for the same letter sees the first one's note.
    resolving: tokio::sync::Mutex<()>,
}

/// What is known of a name.
enum Found {
    Letter(DlqMessage),
    Resolved,
    Nothing,
}

type Bystander = BaseConsumer<Watcher>;

/// The name of a letter: its partition and offset in the dead-letter topic.
type Name = (i32, i64);

/// Where to begin reading, and how much.
#[derive(Clone, Copy)]
enum From {
    /// The whole topic.
    Beginning,
    /// One partition of it.
    Partition(i32),
    /// One partition, from an offset on.
    Place(Name),
}

/// The letters of one key that one group gave up.
struct Sequence {
    key: Bytes,
    group: String,
}

/// What the ledger says of a letter.
#[derive(serde::Deserialize)]
struct Note {
    outcome: String,
    /// Where in the main topic its replay is, or the word of its eviction.
    offset: i64,
}

/// What stands before later events of its key: the key of each, and its place in the key's sequence.
#[derive(Default)]
pub(super) struct Dead {
    pub(super) letters: Vec<(Bytes, i64)>,
    /// Those that are evicted, of which the log tells further on.
    pub(super) evicted: Vec<(Bytes, i64)>,
}

/// What the ledger says of a letter that was evicted.
const EVICTION: &str = "evicted";

/// The offset of what need not be waited for.
const NOWHERE: i64 = -1;

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
            bystander: Arc::default(),
            resolving: tokio::sync::Mutex::default(),
        }
    }

    pub(super) async fn list(&self, limit: usize) -> Result<Vec<DlqMessage>, BusError> {
        let census = self.topics.census().await?;
        let resolved = self.resolved(&census).await?;
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut letters = self
            .read(&self.dlq_topic, &census, From::Beginning, Vec::new(), move |letters, record| {
                if !resolved.contains(&(record.partition, record.offset)) {
                    letters.push(letter(record));
                }
                if letters.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
            .await?;
        letters.sort_by_key(|letter| (letter.timestamp, letter.partition, letter.offset));
        Ok(letters)
    }

    pub(super) async fn count(&self) -> Result<u64, BusError> {
        let census = self.topics.census().await?;
        let resolved = self.resolved(&census).await?;
        let bounds = self.bounds(&self.dlq_topic, &census).await?;
        // A resolution may outlive its letter, which the topic's retention has deleted.
        let left = bounds.into_iter().map(|(partition, (low, high))| {
            let resolved = resolved.range((partition, low)..(partition, high)).count();
            u64::try_from(high - low).unwrap_or(0).saturating_sub(resolved as u64)
        });
        Ok(left.sum())
    }

    pub(super) async fn replay(&self, replay: Replay) -> Result<ReplayOutcome, BusError> {
        let _resolving = self.resolving.lock().await;
        let census = self.topics.census().await?;
        let letter = match self.find(&census, (replay.partition, replay.offset)).await? {
            Found::Letter(letter) => letter,
            Found::Resolved => return Ok(ReplayOutcome::AlreadyReplayed),
            Found::Nothing => return Ok(ReplayOutcome::NotFound),
        };
        if let Some(first) = self.first_of_sequence(&census, &letter).await? {
            return Ok(ReplayOutcome::Behind { partition: first.partition, offset: first.offset });
        }
        let replays = letter.replay_count();
        if replays >= self.config.dlq_max_replay_attempts && !replay.forced {
            return Ok(ReplayOutcome::TooOften { replays });
        }
        self.open_ledger(&census).await?;
        let known = census.get(&*self.topic).copied().unwrap_or(0);
        let not_written = |source| BusError::Backend { doing: "replaying a dead letter", source };
        let replayed = self
            .publisher
            .write(Copy {
                topic: &self.topic,
                // Where its key lies, so that it stays in order with the events of its aggregate.
                partition: letter.original_partition().filter(|partition| (0..known).contains(partition)),
                key: letter.key.as_ref(),
                value: replay.value.as_ref().or(letter.value.as_ref()),
                headers: &replayed_headers(&letter, &replay),
            })
            .await
            .map_err(|error| not_written(error.into()))?;
        let edited = replay.value.is_some();
        let note = serde_json::json!({ "outcome": "replayed", "offset": replayed.offset, "edited": edited });
        self.note(&letter, note).await.map_err(|error| {
            not_written(format!("it was replayed, but not noted, so it counts as a dead letter still: {error}").into())
        })?;
        Ok(ReplayOutcome::Replayed { partition: replayed.partition, offset: replayed.offset })
    }

    pub(super) async fn evict(&self, name: Name, why: &str) -> Result<EvictOutcome, BusError> {
        let _resolving = self.resolving.lock().await;
        let census = self.topics.census().await?;
        let letter = match self.find(&census, name).await? {
            Found::Letter(letter) => letter,
            Found::Resolved => return Ok(EvictOutcome::AlreadyResolved),
            Found::Nothing => return Ok(EvictOutcome::NotFound),
        };
        self.open_ledger(&census).await?;
        let not_written =
            |source: NotAcknowledged| BusError::Backend { doing: "evicting a dead letter", source: source.into() };
        // Before it is noted: a crash in between leaves a letter that can be evicted again.
        let told = self.tell_of_eviction(&letter).await.map_err(not_written)?;
        let note = serde_json::json!({ "outcome": EVICTION, "offset": told.unwrap_or(NOWHERE), "why": why });
        self.note(&letter, note).await.map_err(not_written)?;
        Ok(EvictOutcome::Evicted)
    }

    async fn find(&self, census: &Census, name: Name) -> Result<Found, BusError> {
        let (partition, offset) = name;
        if !partitions(census, &self.dlq_topic).any(|known| known == partition) || offset < 0 {
            return Ok(Found::Nothing);
        }
        if self.resolved(census).await?.contains(&name) {
            return Ok(Found::Resolved);
        }
        let found = self
            .read(&self.dlq_topic, census, From::Place(name), None, |found, record| {
                *found = Some(letter(record));
                ControlFlow::Break(())
            })
            .await?;
        // When there is none at this offset, the client goes on with another one.
        Ok(found.filter(|letter| letter.offset == offset).map_or(Found::Nothing, Found::Letter))
    }

    /// Sees to it that there is a ledger, before anything happens that must be noted in it.
    async fn open_ledger(&self, census: &Census) -> Result<(), BusError> {
        if census.contains_key(&self.ledger_topic) {
            return Ok(());
        }
        if !self.config.create_topics {
            let missing = format!(
                "there is no topic {} to note it in; create it with cleanup.policy=compact, or let create_topics be true",
                self.ledger_topic
            );
            return Err(BusError::Backend { doing: "resolving a dead letter", source: missing.into() });
        }
        let replication = self.config.topic_replication.unwrap_or(super::BROKER_DEFAULT).into();
        let ledger = Wanted { name: &self.ledger_topic, partitions: 1, replication, compacted: true };
        self.topics.create(ledger).await.map(drop)
    }

    /// Notes in the ledger that a letter is resolved.
    async fn note(&self, letter: &DlqMessage, mut note: Value) -> Result<(), NotAcknowledged> {
        let key = Bytes::from(format!("{}:{}", letter.partition, letter.offset));
        note["by"] = self.config.consumer_name.as_str().into();
        note["at"] = Timestamp::now().to_string().into();
        let value = Bytes::from(note.to_string());
        let copy =
            Copy { topic: &self.ledger_topic, partition: None, key: Some(&key), value: Some(&value), headers: &[] };
        self.publisher.write(copy).await.map(drop)
    }

    /// The names in the ledger.
    async fn resolved(&self, census: &Census) -> Result<BTreeSet<Name>, BusError> {
        Ok(self.notes(census).await?.into_keys().collect())
    }

    /// What the ledger says.
    async fn notes(&self, census: &Census) -> Result<BTreeMap<Name, Option<Note>>, BusError> {
        let topic = Arc::from(self.ledger_topic.as_str());
        self.read(&topic, census, From::Beginning, BTreeMap::new(), |notes, record| {
            if let Some(name) = record.key.as_deref().and_then(name) {
                match record.value {
                    Some(value) => notes.insert(name, serde_json::from_slice(&value).ok()),
                    None => notes.remove(&name),
                };
            }
            ControlFlow::Continue(())
        })
        .await
    }

    /// The letters of a partition's keys that still stand before later events: key and place in the key's sequence. A
    /// letter that was replayed or evicted does so until that is `handled`: what was to follow it does not overtake it.
    pub(super) async fn dead(
        &self,
        partition: i32,
        handled: impl Fn(i64) -> bool + Send + 'static,
    ) -> Result<Dead, BusError> {
        let census = self.topics.census().await?;
        let (notes, group) = (self.notes(&census).await?, self.config.consumer_group.clone());
        self.read(&self.dlq_topic, &census, From::Partition(partition), Dead::default(), move |dead, record| {
            let list = match notes.get(&(record.partition, record.offset)) {
                None => &mut dead.letters,
                Some(Some(note)) if !handled(note.offset) && note.outcome == EVICTION => &mut dead.evicted,
                Some(Some(note)) if !handled(note.offset) => &mut dead.letters,
                Some(_) => return ControlFlow::Continue(()),
            };
            let letter = letter(record);
            if let (Some(key), Some(place)) = (&letter.key, letter.sequence_offset())
                && letter.consumer_group() == Some(&group)
            {
                list.push((key.clone(), place));
            }
            ControlFlow::Continue(())
        })
        .await
    }

    /// The letters of a key that are not resolved, in the order of its sequence.
    async fn sequence(&self, census: &Census, of: Sequence) -> Result<Vec<DlqMessage>, BusError> {
        let resolved = self.resolved(census).await?;
        let mut letters = self
            .read(&self.dlq_topic, census, From::Beginning, Vec::new(), move |letters, record| {
                if !resolved.contains(&(record.partition, record.offset)) && record.key.as_ref() == Some(&of.key) {
                    let letter = letter(record);
                    if letter.consumer_group() == Some(&of.group) {
                        letters.push(letter);
                    }
                }
                ControlFlow::Continue(())
            })
            .await?;
        letters.sort_by_key(|letter| (letter.sequence_offset(), letter.partition, letter.offset));
        Ok(letters)
    }

    /// The letter that must come back before this one, if there is one.
    async fn first_of_sequence(&self, census: &Census, letter: &DlqMessage) -> Result<Option<DlqMessage>, BusError> {
        let (true, Some(key), Some(group)) =
            (letter.is_in_sequence(), letter.key.clone(), letter.consumer_group().map(str::to_owned))
        else {
            return Ok(None);
        };
        let first = self.sequence(census, Sequence { key, group }).await?.into_iter().next();
        Ok(first.filter(|first| first.sequence_offset() < letter.sequence_offset()))
    }

    /// Replays the letters of a key, in the order of its sequence; the names of the replayed ones and what came of each.
    pub(super) async fn replay_key(&self, key: Bytes) -> Result<Vec<(Name, ReplayOutcome)>, BusError> {
        let group = self.config.consumer_group.clone();
        let letters = self.sequence(&self.topics.census().await?, Sequence { key, group }).await?;
        let mut outcomes = Vec::new();
        for letter in letters {
            let outcome = self.replay(Replay::of(letter.partition, letter.offset)).await?;
            outcomes.push(((letter.partition, letter.offset), outcome));
            if !outcome.is_replayed() {
                break;
            }
        }
        Ok(outcomes)
    }

    /// Whoever owns the partition learns of an eviction in the order of its log, by a record that is no event; where that
    /// is.
    async fn tell_of_eviction(&self, letter: &DlqMessage) -> Result<Option<i64>, NotAcknowledged> {
        let (true, Some(key), Some(place), Some(group)) =
            (letter.is_in_sequence(), &letter.key, letter.sequence_offset(), letter.consumer_group())
        else {
            return Ok(None);
        };
        let word = Copy {
            topic: &self.topic,
            partition: letter.original_partition(),
            key: Some(key),
            // A record without a value would be taken for a deletion.
            value: Some(&Bytes::from_static(b"{}")),
            headers: &[Header::text(TARGET_GROUP, group), Header::text(EVICTED, place.to_string())],
        };
        self.publisher.write(word).await.map(|told| Some(told.offset))
    }

    /// The first offset of each partition that has any, and the one after its last.
    async fn bounds(&self, topic: &Arc<str>, census: &Census) -> Result<Bounds, BusError> {
        let (topic, partitions, patience) = (topic.clone(), partitions(census, topic), self.config.connect_timeout);
        self.with_bystander(move |reader| {
            let bounds =
                partitions.map(|partition| Ok((partition, reader.fetch_watermarks(&topic, partition, patience)?)));
            let bounds: Bounds = bounds.collect::<Result<_, KafkaError>>().map_err(unreadable)?;
            Ok(bounds.into_iter().filter(|(_, (low, high))| low < high).collect())
        })
        .await
    }

    /// Reads a topic from its beginning, or one partition from an offset, to the end or until `each` has enough.
    async fn read<T: Send + 'static>(
        &self,
        topic: &Arc<str>,
        census: &Census,
        from: From,
        mut into: T,
        mut each: impl FnMut(&mut T, Record) -> ControlFlow<()> + Send + 'static,
    ) -> Result<T, BusError> {
        let mut bounds = self.bounds(topic, census).await?;
        match from {
            From::Beginning => {}
            From::Partition(only) => bounds.retain(|partition, _| *partition == only),
            From::Place((only, offset)) => {
                bounds.retain(|partition, (low, high)| *partition == only && (*low..*high).contains(&offset));
            }
        }
        if bounds.is_empty() {
            return Ok(into);
        }
        let (topic, patience) = (topic.clone(), self.config.connect_timeout);
        self.with_bystander(move |reader| {
            let mut list = TopicPartitionList::new();
            for (partition, (low, _)) in &bounds {
                let start = Offset::Offset(if let From::Place((_, offset)) = from { offset } else { *low });
                list.add_partition_offset(&topic, *partition, start).map_err(unreadable)?;
            }
            reader.assign(&list).map_err(unreadable)?;
            let mut last_progress = Instant::now();
            while !bounds.is_empty() {
                match reader.poll(POLL) {
                    Some(Ok(message)) if message.topic() == &*topic => {
                        last_progress = Instant::now();
                        let (partition, offset) = (message.partition(), message.offset());
                        if each(&mut into, Record::read(&topic, &message)).is_break() {
                            break;
                        }
                        bounds.retain(|of, (_, high)| *of != partition || offset + 1 < *high);
                    }
                    // The last offsets can belong to markers of transactions, which are no records.
                    Some(Err(KafkaError::PartitionEOF(partition))) => {
                        last_progress = Instant::now();
                        bounds.remove(&partition);
                    }
                    Some(Err(error)) => tracing::warn!(%error, "reading dead letters failed; trying again"),
                    Some(Ok(_)) | None => {}
                }
                if last_progress.elapsed() > patience {
                    let silent = format!("{topic} could not be read for {patience:?}");
                    return Err(BusError::Backend { doing: "reading dead letters", source: silent.into() });
                }
            }
            reader.unassign().map_err(unreadable)?;
            Ok(into)
        })
        .await
    }

    /// Does something with the bystander where waiting is allowed; others wait for their turn.
    async fn with_bystander<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Bystander) -> Result<T, BusError> + Send + 'static,
    ) -> Result<T, BusError> {
        let (bystander, settings, watcher) = (self.bystander.clone(), bystander(&self.config), self.watcher.clone());
        blocking("reading dead letters", move || {
            let mut bystander = bystander.lock().unwrap_or_else(PoisonError::into_inner);
            let reader = match bystander.take() {
                Some(reader) => reader,
                None => make(&settings, watcher)?,
            };
            work(bystander.insert(reader))
        })
        .await
    }
}

/// By partition: the first offset, and the one after the last.
type Bounds = BTreeMap<i32, (i64, i64)>;

impl Drop for Letters {
    /// The client closes by asking the group's coordinator, which may never answer: nobody waits for it.
    fn drop(&mut self) {
        let bystander = self.bystander.clone();
        let _ = std::thread::Builder::new().name("close the bystander".into()).spawn(move || {
            let reader = bystander.lock().unwrap_or_else(PoisonError::into_inner).take();
            drop(reader);
        });
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
        headers: record.headers(),
        partition: record.partition,
        offset: record.offset,
        timestamp: record.timestamp.and_then(|millis| Timestamp::from_millisecond(millis).ok()),
        key: record.key,
        value: record.value,
    }
}

fn name(key: &[u8]) -> Option<Name> {
    let (partition, offset) = std::str::from_utf8(key).ok()?.split_once(':')?;
    Some((partition.parse().ok()?, offset.parse().ok()?))
}

/// The record's own headers again, and for whom it is.
fn replayed_headers(letter: &DlqMessage, replay: &Replay) -> Vec<Header> {
    let own = letter
        .headers
        .iter()
        .filter(|header| !header.name.starts_with(PREFIX) && ![TARGET_GROUP, SEQUENCE].contains(&&*header.name));
    let mut headers: Vec<_> = own.cloned().collect();
    headers.push(Header::text("dlq_replay_count", (letter.replay_count() + 1).to_string()));
    if replay.value.is_some() {
        headers.push(Header::text("dlq_edited", "true"));
    }
    headers.extend(letter.sequence_offset().map(|place| Header::text(SEQUENCE, place.to_string())));
    let group = letter.consumer_group().filter(|_| !replay.to_every_group);
    headers.extend(group.map(|group| Header::text(TARGET_GROUP, group)));
    headers
}
