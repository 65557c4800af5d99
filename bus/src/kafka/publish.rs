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
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::future_producer::{Delivery, DeliveryFuture};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

#[derive(Clone)]
pub(super) struct Publisher {
    producer: FutureProducer<Watcher>,
    watcher: Watcher,
}

/// How long to wait before trying again when the client's queue is full of other callers' records.
const QUEUE_FULL: Duration = Duration::from_millis(5);

impl Publisher {
    pub(super) fn new(producer: FutureProducer<Watcher>, watcher: Watcher) -> Self {
        Self { producer, watcher }
    }

    /// Writes events to a topic and waits until the brokers have them.
    pub(super) async fn publish(
        &self,
        topic: &str,
        codec: &dyn Serializer,
        events: &[AnyEvent],
        mut acknowledged: impl FnMut(&AnyEvent, Delivery),
    ) -> Result<(), BusError> {
        let values = events.iter().map(|event| serialized(codec, event)).collect::<Result<Vec<_>, _>>()?;
        let mut failures = Vec::new();
        let mut broken: BTreeSet<&AggregateId> = BTreeSet::new();
        let mut waiting: VecDeque<(usize, DeliveryFuture)> = VecDeque::new();
        let mut settle = |index: usize, answer: Answer, failures: &mut Vec<PublishFailure>| match self.judged(answer) {
            Ok(delivery) => acknowledged(&events[index], delivery),
            Err(why) => failures.push(PublishFailure::new(index, &events[index], why)),
        };
        for (index, (event, value)) in events.iter().zip(&values).enumerate() {
            if broken.contains(event.aggregate_id()) {
                let why = NotAcknowledged::NotSent("an earlier event of its aggregate was not sent".into());
                failures.push(PublishFailure::new(index, event, why));
                continue;
            }
            loop {
                let key = event.aggregate_id().as_bytes();
                let record = FutureRecord::to(topic).key(key).payload(&value[..]).headers(headers(codec, event));
                match self.producer.send_result(record) {
                    Ok(delivery) => waiting.push_back((index, delivery)),
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                        match waiting.pop_front() {
                            Some((first, delivery)) => settle(first, delivery.await, &mut failures),
                            None => tokio::time::sleep(QUEUE_FULL).await,
                        }
                        continue;
                    }
                    Err((error, _)) => {
                        broken.insert(event.aggregate_id());
                        failures.push(PublishFailure::new(index, event, not_acknowledged(error)));
                    }
                }
                break;
            }
        }
        for (index, delivery) in waiting {
            settle(index, delivery.await, &mut failures);
        }
        if failures.is_empty() {
            return Ok(());
        }
        failures.sort_by_key(|failure| failure.index);
        Err(BusError::NotPublished { total: events.len(), failures })
    }

    /// Writes one record as it is and waits until the brokers have it.
    pub(super) async fn write(&self, copy: Copy<'_>) -> Result<Delivery, NotAcknowledged> {
        let list = copy.headers.iter().map(|header| (header.name.as_str(), header.value.as_deref()));
        let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(copy.topic).headers(client_headers(list));
        record.key = copy.key.map(|key| &key[..]);
        record.payload = copy.value.map(|value| &value[..]);
        record.partition = copy.partition;
        loop {
            match self.producer.send_result(record) {
                Ok(delivery) => return self.judged(delivery.await),
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
