//! From events to acknowledged records.
//!
//! A list is enqueued in its order and the acknowledgements are awaited together. When an event cannot even be
//! enqueued, later events of the same aggregate are not sent: they would be in the log without it.

use super::client::{Watcher, not_acknowledged};
use super::record::client_headers;
use crate::codec::{CodecError, Serializer};
use crate::engine::Header;
use crate::error::{BusError, NotAcknowledged, PublishFailure};
use crate::event::{AggregateId, AnyEvent};
use bytes::Bytes;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{OwnedHeaders, ToBytes};
use rdkafka::producer::future_producer::{Delivery, DeliveryFuture};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use std::collections::BTreeSet;
use std::time::Duration;

#[derive(Clone)]
pub(super) struct Publisher {
    producer: FutureProducer<Watcher>,
    watcher: Watcher,
}

/// Events on their way.
pub(super) struct Sent {
    events: Vec<AnyEvent>,
    deliveries: Vec<Result<DeliveryFuture, NotAcknowledged>>,
}

impl Sent {
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }
}

/// How long to wait before trying again when the client's queue is full.
const QUEUE_FULL: Duration = Duration::from_millis(5);

impl Publisher {
    pub(super) fn new(producer: FutureProducer<Watcher>, watcher: Watcher) -> Self {
        Self { producer, watcher }
    }

    /// Hands events to the client, in their order. They are on their way when this returns; it waits for nothing but
    /// room in the client's queue.
    pub(super) async fn send(
        &self,
        topic: &str,
        codec: &dyn Serializer,
        events: Vec<AnyEvent>,
    ) -> Result<Sent, BusError> {
        let values = events.iter().map(|event| serialized(codec, event)).collect::<Result<Vec<_>, _>>()?;
        let mut deliveries = Vec::with_capacity(events.len());
        let mut broken: BTreeSet<&AggregateId> = BTreeSet::new();
        for (event, value) in events.iter().zip(&values) {
            let key = event.aggregate_id();
            let delivery = match broken.contains(key) {
                true => Err(NotAcknowledged::NotSent("an earlier event of its aggregate was not sent".into())),
                false => {
                    let record = FutureRecord::to(topic).key(key.as_bytes()).payload(&value[..]);
                    self.enqueue(record.headers(headers(codec, event))).await
                }
            };
            if delivery.is_err() {
                broken.insert(key);
            }
            deliveries.push(delivery);
        }
        Ok(Sent { events, deliveries })
    }

    /// Waits until the brokers have what was sent.
    pub(super) async fn settle(
        &self,
        sent: Sent,
        mut acknowledged: impl FnMut(&AnyEvent, Delivery),
    ) -> Result<(), BusError> {
        let Sent { events, deliveries } = sent;
        let mut failures = Vec::new();
        for (index, (event, delivery)) in events.iter().zip(deliveries).enumerate() {
            let answer = match delivery {
                Ok(delivery) => self.judged(delivery.await),
                Err(why) => Err(why),
            };
            match answer {
                Ok(delivery) => acknowledged(event, delivery),
                Err(why) => failures.push(PublishFailure::new(index, event, why)),
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(BusError::NotPublished { total: events.len(), failures }) }
    }

    /// Writes one record as it is and waits until the brokers have it.
    pub(super) async fn write(&self, copy: Copy<'_>) -> Result<Delivery, NotAcknowledged> {
        let list = copy.headers.iter().map(|header| (header.name.as_str(), header.value.as_deref()));
        let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(copy.topic).headers(client_headers(list));
        record.key = copy.key.map(|key| &key[..]);
        record.payload = copy.value.map(|value| &value[..]);
        record.partition = copy.partition;
        self.judged(self.enqueue(record).await?.await)
    }

    /// Waits for room in the client's queue: what fills it is on its way, and every batch that leaves makes room.
    async fn enqueue<K: ToBytes + ?Sized, V: ToBytes + ?Sized>(
        &self,
        mut record: FutureRecord<'_, K, V>,
    ) -> Result<DeliveryFuture, NotAcknowledged> {
        loop {
            match self.producer.send_result(record) {
                Ok(delivery) => return Ok(delivery),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                    record = again;
                    tokio::time::sleep(QUEUE_FULL).await;
                }
                Err((error, _)) => return Err(not_acknowledged(error)),
            }
        }
    }

    fn judged(&self, answer: Answer) -> Result<Delivery, NotAcknowledged> {
        match answer {
            Ok(Ok(delivery)) => {
                self.watcher.alive();
                Ok(delivery)
            }
            Ok(Err((error, _))) => Err(not_acknowledged(error)),
            Err(_) => Err(NotAcknowledged::OutcomeUnknown("the client was closed before an answer came".into())),
        }
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

type Answer = <DeliveryFuture as Future>::Output;

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

fn headers(codec: &dyn Serializer, event: &AnyEvent) -> OwnedHeaders {
    let mut headers = event.metadata().to_headers();
    headers.push(("content-type", codec.content_type().to_owned()));
    client_headers(headers.iter().map(|(name, value)| (*name, Some(value.as_bytes()))))
}
