//! From events to acknowledged records.
//!
//! A list is enqueued in its order and the acknowledgements are awaited together: each is entered where it belongs, and
//! whoever waits is woken once, by the last. When an event cannot even be enqueued, later events of the same aggregate
//! are not sent: they would be in the log without it.

use super::client::{Watcher, not_acknowledged};
use super::record::client_headers;
use crate::codec::{CodecError, Serializer};
use crate::engine::Header;
use crate::error::{BusError, NotAcknowledged, PublishFailure};
use crate::event::{AggregateId, AnyEvent};
use crate::mutant::{self, Mutant};
use crate::outbox::Prepared;
use crate::telemetry::each_trace_header;
use bytes::Bytes;
use futures::task::AtomicWaker;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header as ClientHeader, Message, OwnedHeaders, ToBytes};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;

pub(super) type Client = ThreadedProducer<Courier>;

#[derive(Clone)]
pub(super) struct Publisher {
    producer: Arc<Client>,
}

/// Brings the brokers' answers to those who wait for them.
pub(super) struct Courier {
    watcher: Watcher,
}

impl Courier {
    pub(super) fn new(watcher: Watcher) -> Self {
        Self { watcher }
    }
}

impl ClientContext for Courier {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.watcher.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.watcher.error(error, reason);
    }
}

impl ProducerContext for Courier {
    type DeliveryOpaque = Box<Stub>;

    fn delivery(&self, result: &DeliveryResult<'_>, mut stub: Box<Stub>) {
        stub.answer(match result {
            Ok(message) => {
                self.watcher.alive();
                Ok(Delivery { partition: message.partition(), offset: message.offset() })
            }
            Err((_, message)) if mutant::is(Mutant::TakesErrorsForAcknowledgements) => {
                Ok(Delivery { partition: message.partition(), offset: message.offset() })
            }
            Err((error, _)) => Err(not_acknowledged(error.clone())),
        });
    }
}

/// Where a record is in the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delivery {
    pub(super) partition: i32,
    pub(super) offset: i64,
}

type Answer = Result<Delivery, NotAcknowledged>;

/// The answers to records that were sent together.
struct Tally {
    answers: Mutex<Vec<Option<Answer>>>,
    missing: AtomicUsize,
    waiting: AtomicWaker,
}

impl Tally {
    fn of(records: usize) -> Arc<Self> {
        let answers = Mutex::new(std::iter::repeat_with(|| None).take(records).collect());
        Arc::new(Self { answers, missing: AtomicUsize::new(records), waiting: AtomicWaker::new() })
    }

    fn enter(&self, index: usize, answer: Answer) {
        if let Some(slot) = self.answers.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index) {
            *slot = Some(answer);
        }
        if self.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.waiting.wake();
        }
    }

    async fn complete(&self) -> Vec<Option<Answer>> {
        poll_fn(|cx| {
            self.waiting.register(cx.waker());
            if self.missing.load(Ordering::Acquire) == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a record carries through the client, so that its answer finds its place.
pub(super) struct Stub {
    index: usize,
    /// Taken when it is answered.
    tally: Option<Arc<Tally>>,
    /// Ends with the answer.
    _span: tracing::Span,
}

impl Stub {
    fn new(index: usize, tally: &Arc<Tally>, span: tracing::Span) -> Box<Self> {
        Box::new(Self { index, tally: Some(tally.clone()), _span: span })
    }

    fn answer(&mut self, answer: Answer) {
        if let Some(tally) = self.tally.take() {
            tally.enter(self.index, answer);
        }
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.answer(Err(unanswered()));
    }
}

fn unanswered() -> NotAcknowledged {
    NotAcknowledged::OutcomeUnknown("the client was closed before an answer came".into())
}

/// Events on their way.
pub(super) struct Sent {
    pub(super) began: Instant,
    events: Vec<AnyEvent>,
    tally: Arc<Tally>,
}

impl Sent {
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Waits until the brokers have answered for every event.
    pub(super) async fn answered(self) -> impl Iterator<Item = (AnyEvent, Answer)> {
        let answers = self.tally.complete().await;
        let answers = answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(unanswered())));
        self.events.into_iter().zip(answers)
    }
}

/// Where events are that were sent together.
pub(super) struct Places(Arc<Tally>);

impl Places {
    /// One place an event, in the order sent; `None` for one that has not been acknowledged.
    pub(super) fn places(&self) -> Vec<Option<(i32, i64)>> {
        let answers = self.0.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let place = |answer: &Option<Answer>| match answer {
            Some(Ok(Delivery { partition, offset })) => Some((*partition, *offset)),
            _ => None,
        };
        answers.iter().map(place).collect()
    }
}

/// How long to wait before trying again when the client's queue is full.
const QUEUE_FULL: Duration = Duration::from_millis(5);

impl Publisher {
    pub(super) fn new(producer: Client) -> Self {
        Self { producer: Arc::new(producer) }
    }

    /// Hands events to the client, in their order. They are on their way when this returns; it waits for nothing but
    /// room in the client's queue.
    pub(super) async fn send(
        &self,
        topic: &str,
        codec: &dyn Serializer,
        events: Vec<AnyEvent>,
        traced: bool,
    ) -> Result<Sent, BusError> {
        let began = Instant::now();
        let values = events.iter().map(|event| serialized(codec, event)).collect::<Result<Vec<_>, _>>()?;
        let tally = Tally::of(events.len());
        let mut broken: BTreeSet<&AggregateId> = BTreeSet::new();
        for (index, (event, value)) in events.iter().zip(&values).enumerate() {
            let key = event.aggregate_id();
            let span = if traced { publish_span(topic, event) } else { tracing::Span::none() };
            let headers = span.in_scope(|| headers(codec, event));
            let mut stub = Stub::new(index, &tally, span);
            if broken.contains(key) {
                let why = "an earlier event of its aggregate was not sent";
                stub.answer(Err(NotAcknowledged::NotSent(why.into())));
                continue;
            }
            let mut record = BaseRecord::with_opaque_to(topic, stub).key(key.as_bytes()).payload(&value[..]);
            record.key = record.key.filter(|_| !mutant::is(Mutant::PublishesWithoutKey));
            if !self.enqueue(record.headers(headers)).await {
                broken.insert(key);
            }
        }
        Ok(Sent { began, events, tally })
    }

    /// Waits until the brokers have what was sent.
    pub(super) async fn settle(
        &self,
        sent: Sent,
        mut acknowledged: impl FnMut(&AnyEvent, Delivery),
    ) -> Result<(), BusError> {
        let (mut failures, total) = (Vec::new(), sent.len());
        for (index, (event, answer)) in sent.answered().await.enumerate() {
            match answer {
                Ok(delivery) => acknowledged(&event, delivery),
                Err(why) => failures.push(PublishFailure::new(index, &event, why)),
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(BusError::NotPublished { total, failures }) }
    }

    /// Writes one record as it is and waits until the brokers have it.
    pub(super) async fn write(&self, copy: Copy<'_>) -> Answer {
        let tally = Tally::of(1);
        let list = copy.headers.iter().map(|header| (header.name.as_str(), header.value.as_deref()));
        let stub = Stub::new(0, &tally, tracing::Span::none());
        let mut record: BaseRecord<'_, [u8], [u8], Box<Stub>> =
            BaseRecord::with_opaque_to(copy.topic, stub).headers(client_headers(list));
        record.key = copy.key.map(|key| &key[..]);
        record.payload = copy.value.map(|value| &value[..]);
        record.partition = copy.partition;
        self.enqueue(record).await;
        tally.complete().await.pop().flatten().unwrap_or_else(|| Err(unanswered()))
    }

    /// Waits for room in the client's queue: what fills it is on its way, and every batch that leaves makes room. Whether
    /// the client took the record; if not, that is its answer.
    async fn enqueue<K: ToBytes + ?Sized, V: ToBytes + ?Sized>(
        &self,
        mut record: BaseRecord<'_, K, V, Box<Stub>>,
    ) -> bool {
        loop {
            match self.producer.send(record) {
                Ok(()) => return true,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                    record = again;
                    tokio::time::sleep(QUEUE_FULL).await;
                }
                Err((error, mut refused)) => {
                    refused.delivery_opaque.answer(Err(not_acknowledged(error)));
                    return false;
                }
            }
        }
    }

    /// Makes an event into bytes, to be sent later.
    pub(super) fn prepare(
        topic: &Arc<str>,
        codec: &dyn Serializer,
        event: &AnyEvent,
        traced: bool,
        acknowledged: Arc<dyn Fn(i32, i64) + Send + Sync>,
    ) -> Result<Prepared, BusError> {
        let key = Bytes::copy_from_slice(event.aggregate_id().as_bytes());
        let value = serialized(codec, event)?;
        let span = if traced { publish_span(topic, event) } else { tracing::Span::none() };
        let mut headers = Vec::with_capacity(HEADERS_TYPICAL);
        span.in_scope(|| each_header(codec, event, &mut |name, text| headers.push(Header::text(name, text))));
        Ok(Prepared { topic: topic.clone(), key, value, headers, acknowledged })
    }

    /// Hands prepared events to a client, in their order, where waiting for room is allowed.
    #[expect(clippy::disallowed_methods, reason = "the committing thread may wait; the client does not tell of room")]
    pub(super) fn send_prepared(producer: &Client, events: &[&Prepared]) -> KafkaResult<Places> {
        let tally = Tally::of(events.len());
        for (index, event) in events.iter().enumerate() {
            let stub = Stub::new(index, &tally, tracing::Span::none());
            let record = BaseRecord::with_opaque_to(&event.topic, stub).key(&event.key[..]).payload(&event.value[..]);
            let headers = event.headers.iter().map(|header| (header.name.as_str(), header.value.as_deref()));
            let mut record = record.headers(client_headers(headers));
            while let Err((error, back)) = producer.send(record) {
                if !matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) {
                    return Err(error);
                }
                record = back;
                std::thread::sleep(QUEUE_FULL);
            }
        }
        Ok(Places(tally))
    }

    /// Waits until nothing is under way; how much was left when time ran out.
    pub(super) async fn flush(&self, patience: Duration) -> usize {
        let producer = self.producer.clone();
        let flushed = tokio::task::spawn_blocking(move || {
            let _ = producer.flush(patience);
            producer.in_flight_count()
        });
        flushed.await.map_or(0, |left| usize::try_from(left).unwrap_or(0))
    }
}

/// A record to write byte for byte.
pub(super) struct Copy<'a> {
    pub(super) topic: &'a str,
    /// Where to; by key when `None`.
    pub(super) partition: Option<i32>,
    pub(super) key: Option<&'a Bytes>,
    pub(super) value: Option<&'a Bytes>,
    pub(super) headers: &'a [Header],
}

fn serialized(codec: &dyn Serializer, event: &AnyEvent) -> Result<Bytes, BusError> {
    codec.serialize(event).map_err(|error: CodecError| BusError::Serialize {
        event_type: event.event_type().to_owned(),
        source: error.into(),
    })
}

fn publish_span(topic: &str, event: &AnyEvent) -> tracing::Span {
    tracing::info_span!(
        "kafka.publish",
        otel.name = format!("kafka.publish {}", event.event_type()),
        otel.kind = "producer",
        event_type = event.event_type(),
        messaging.system = "kafka",
        messaging.operation.name = "send",
        messaging.operation.type = "send",
        messaging.destination.name = topic,
        messaging.message.id = %event.event_id(),
        messaging.message.conversation_id = %event.metadata().correlation_id,
    )
}

fn headers(codec: &dyn Serializer, event: &AnyEvent) -> OwnedHeaders {
    // A list is handed from header to header, and none is empty.
    let mut list = None;
    let mut add = |key: &str, value: &str| {
        let before = list.take().unwrap_or_else(|| OwnedHeaders::new_with_capacity(HEADERS_TYPICAL));
        list = Some(before.insert(ClientHeader { key, value: Some(value) }));
    };
    each_header(codec, event, &mut add);
    list.unwrap_or_default()
}

/// Shows each header an event is sent with; within the span of its publishing, for the trace it belongs to.
fn each_header(codec: &dyn Serializer, event: &AnyEvent, each: &mut impl FnMut(&str, &str)) {
    event.metadata().each_header(each);
    each_trace_header(each);
    each("content-type", codec.content_type());
}

const HEADERS_TYPICAL: usize = 12;
