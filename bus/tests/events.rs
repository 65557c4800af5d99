//! Events, how they are written, and how they are found again.

#![allow(clippy::disallowed_methods, reason = "the bans are for the engine")]

mod common;

use bytes::Bytes;
use common::{OrderPlaced, OrderShipped, placed, shipped};
use proptest::prelude::*;
use rehearsal_bus::codec::{Json, Serializer};
use rehearsal_bus::prelude::*;
use rehearsal_bus::{DecodeError, WireMetadata};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

/// Writes the event and reads it back, with no help from headers.
fn there_and_back<E: DomainEvent>(event: &AnyEvent) -> Event<E> {
    let bytes = Json.serialize(event).unwrap();
    let read = Json.deserialize(&bytes, &EventType::of::<E>(), WireMetadata::default()).unwrap();
    assert_eq!(read.metadata(), event.metadata());
    read.downcast().unwrap()
}

#[test]
fn an_event_is_one_flat_json_object() {
    let event = Event::with(placed("o-1"), |metadata| {
        metadata.event_id = Uuid::from_u128(1);
        metadata.correlation_id = Uuid::from_u128(2);
        metadata.occurred_at = "2025-12-07T10:30:00Z".parse().unwrap();
        metadata.aggregate_version = 3;
        metadata.tenant_id = Some("acme".into());
    });

    let json: Value = serde_json::from_slice(&event.into_any().to_json().unwrap()).unwrap();

    assert_eq!(
        json,
        json!({
            "event_id": "00000000-0000-0000-0000-000000000001",
            "event_type": "OrderPlaced",
            "event_version": 1,
            "aggregate_id": "o-1",
            "aggregate_type": "Order",
            "aggregate_version": 3,
            "occurred_at": "2025-12-07T10:30:00+00:00",
            "correlation_id": "00000000-0000-0000-0000-000000000002",
            "tenant_id": "acme",
            "order_id": "o-1",
            "customer_id": "cust-123",
            "total": 99.99,
        })
    );
}

#[test]
fn an_event_of_the_python_library_can_be_read() {
    let written_there = br#"{
        "event_id": "2f1f3a53-6d0f-4f43-9c8f-0d5f3a1b2c3d", "event_type": "OrderPlaced", "event_version": 1,
        "occurred_at": "2025-12-07T10:30:00.123456Z", "aggregate_id": "5ad1", "aggregate_type": "Order",
        "aggregate_version": 2, "tenant_id": null, "actor_id": "alice", "causation_id": null,
        "correlation_id": "9c8f0d5f-3a1b-4c3d-8f1f-2f1f3a536d0f", "metadata": {},
        "order_id": "o-1", "customer_id": "cust-123", "total": 99.99 }"#;

    let event = EventType::of::<OrderPlaced>().read_json(written_there, WireMetadata::default()).unwrap();

    assert_eq!(event.payload::<OrderPlaced>(), Some(&placed("o-1")));
    assert_eq!(event.event_id().to_string(), "2f1f3a53-6d0f-4f43-9c8f-0d5f3a1b2c3d");
    assert_eq!(event.metadata().aggregate_version, 2);
    assert_eq!(event.metadata().actor_id.as_deref(), Some("alice"));
    assert_eq!(event.occurred_at().to_string(), "2025-12-07T10:30:00.123456Z");
}

#[derive(DomainEvent, Serialize, Deserialize, Debug, PartialEq)]
#[event(aggregate = "Parcel")]
#[serde(deny_unknown_fields)]
enum ParcelMoved {
    Arrived {
        #[event(aggregate_id)]
        parcel: u64,
    },
    Left(#[event(aggregate_id)] u64),
}

#[derive(DomainEvent, Serialize, Deserialize, Debug, PartialEq)]
#[event(aggregate = "Sensor")]
struct Measured(#[event(aggregate_id)] String, f64);

#[derive(DomainEvent, Serialize, Deserialize, Debug, PartialEq)]
#[event(aggregate = "Saga")]
#[serde(deny_unknown_fields)]
struct NamedLikeMetadata {
    aggregate_id: String,
    occurred_at: String,
}

#[test]
fn enums_tuples_and_strict_types_survive_the_metadata_beside_them() {
    for moved in [ParcelMoved::Arrived { parcel: 7 }, ParcelMoved::Left(8)] {
        let event = moved.into_event();
        let read = there_and_back::<ParcelMoved>(&event);
        assert_eq!(Some(&*read), event.payload());
    }
    let read = there_and_back::<Measured>(&Measured("s-1".into(), 21.5).into_event());
    assert_eq!(*read, Measured("s-1".into(), 21.5));
}

#[test]
fn a_payload_field_named_like_metadata_keeps_its_value() {
    let event = NamedLikeMetadata { aggregate_id: "a-1".into(), occurred_at: "yesterday".into() }.into_event();
    let json: Value = serde_json::from_slice(&event.to_json().unwrap()).unwrap();
    assert_eq!(json["occurred_at"], "yesterday");
    assert_eq!(json["event_type"], "NamedLikeMetadata");
    assert_eq!(event.aggregate_id().as_str(), "a-1");
}

#[test]
fn headers_carry_the_metadata_and_outrank_the_body() {
    let event = Event::with(placed("o-1"), |metadata| {
        metadata.causation_id = Some(Uuid::from_u128(5));
        metadata.actor_id = Some("alice".into());
        metadata.headers.insert("traceparent".into(), "00-ab-cd-01".into());
        metadata.headers.insert("event_id".into(), "not the event's business".into());
    })
    .into_any();
    let headers = event.metadata().to_headers();
    let bytes: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();

    let body = placed("o-1").into_event().to_json().unwrap();
    let read = Json.deserialize(&body, &EventType::of::<OrderPlaced>(), WireMetadata::from_headers(bytes)).unwrap();

    assert_eq!(read.event_id(), event.event_id());
    assert_eq!(read.metadata().causation_id, event.metadata().causation_id);
    assert_eq!(read.metadata().actor_id, event.metadata().actor_id);
    assert_eq!(read.occurred_at(), event.occurred_at());
    assert_eq!(read.metadata().headers.iter().collect::<Vec<_>>(), [(&"traceparent".into(), &"00-ab-cd-01".into())]);
}

#[test]
fn metadata_nobody_understands_is_kept_and_no_reason_to_refuse_an_event() {
    let headers = [("correlation_id", b"order-7".as_slice()), ("event_version", b"two"), ("binary", &[0xff])];
    let wire = WireMetadata::from_headers(headers);
    assert_eq!(wire.headers["correlation_id"], "order-7");

    let body =
        br#"{"event_id": 5, "occurred_at": "yesterday", "order_id":"o-1","customer_id":"cust-123","total":99.99}"#;
    let event = EventType::of::<OrderPlaced>().read_json(body, wire).unwrap();

    assert_eq!(event.payload::<OrderPlaced>(), Some(&placed("o-1")));
    assert_eq!(event.metadata().headers["correlation_id"], "order-7");
    assert_eq!(event.metadata().correlation_id, event.event_id());
}

#[test]
fn a_consequence_names_its_cause_and_shares_its_correlation() {
    let cause = Event::with(placed("o-1"), |metadata| metadata.tenant_id = Some("acme".into()));
    let effect = Event::caused_by(cause.metadata(), shipped("o-1"));
    assert_eq!(cause.metadata().correlation_id, cause.event_id());
    assert_eq!(effect.metadata().correlation_id, cause.event_id());
    assert_eq!(effect.metadata().causation_id, Some(cause.event_id()));
    assert_eq!(effect.metadata().tenant_id.as_deref(), Some("acme"));
}

#[test]
fn a_consequence_belongs_to_the_trace_of_its_cause_unless_it_has_one_of_its_own() {
    let traced = |trace: &str| {
        let (trace, of) = (trace.to_owned(), format!("of={trace}"));
        Event::with(placed("o-1"), move |metadata| {
            metadata.headers.insert("traceparent".into(), trace);
            metadata.headers.insert("tracestate".into(), of);
            metadata.headers.insert("other".into(), "its own business".into());
        })
    };
    let effect = Event::caused_by(traced("00-a").metadata(), shipped("o-1"));
    assert_eq!(effect.metadata().headers["traceparent"], "00-a");
    assert_eq!(effect.metadata().headers["tracestate"], "of=00-a");
    assert!(!effect.metadata().headers.contains_key("other"));

    let mut own = traced("00-b").metadata().clone();
    own.caused_by(traced("00-a").metadata());
    assert_eq!((&*own.headers["traceparent"], &*own.headers["tracestate"]), ("00-b", "of=00-b"));
}

#[test]
fn event_ids_are_unique_and_sort_by_time() {
    let ids: Vec<Uuid> = (0..100).map(|_| placed("o-1").into_event().event_id()).collect();
    assert!(ids.is_sorted());
    assert!(ids.windows(2).all(|pair| pair[0] != pair[1]));
    assert_eq!(ids[0].get_version_num(), 7);
}

/// Version 1 had cents.
#[derive(DomainEvent, Serialize, Deserialize, Debug, PartialEq)]
#[event(name = "payment.received", aggregate = "Payment", version = 2, upcast = cents_to_euros)]
struct PaymentReceived {
    #[event(aggregate_id)]
    payment: u64,
    euros: f64,
}

fn cents_to_euros(from: u32, mut payload: Value) -> Value {
    assert_eq!(from, 1);
    if let Some(cents) = payload["cents"].as_f64() {
        payload["euros"] = json!(cents / 100.0);
    }
    payload
}

#[test]
fn an_older_version_is_brought_up_to_date_before_it_is_read() {
    let kind = EventType::of::<PaymentReceived>();
    let old = br#"{"event_version": 1, "payment": 7, "cents": 1250}"#;
    let event = kind.read_json(old, WireMetadata::default()).unwrap();
    assert_eq!(event.payload(), Some(&PaymentReceived { payment: 7, euros: 12.5 }));

    let current = PaymentReceived { payment: 7, euros: 12.5 }.into_event();
    assert_eq!(there_and_back::<PaymentReceived>(&current).euros, 12.5);
}

#[test]
fn the_registry_finds_types_by_name_and_alias_and_gives_unreadable_bytes_back() {
    let registry = EventRegistry::new();
    registry.register::<OrderPlaced>().unwrap().register::<OrderPlaced>().unwrap();
    let decode = |name: &str, json: &'static str| {
        registry.decode(name, &Bytes::from_static(json.as_bytes()), WireMetadata::default())
    };

    let event = decode("order.placed", r#"{"order_id":"o-1","customer_id":"cust-123","total":99.99}"#).unwrap();
    assert_eq!(event.event_type(), "OrderPlaced");

    let unknown = decode("OrderShipped", "{}").unwrap_err();
    assert!(matches!(unknown, DecodeError::UnknownType { .. }));
    assert_eq!(unknown.payload(), "{}");
    assert_eq!(
        unknown.to_string(),
        "no event type \"OrderShipped\" is registered; register it, or subscribe a handler for it"
    );

    let undecodable = decode("OrderPlaced", r#"{"order_id":"o-1"}"#).unwrap_err();
    let cause = std::error::Error::source(&undecodable).unwrap().to_string();
    assert!(cause.starts_with("missing field `customer_id`"), "{cause}");
    assert_eq!(undecodable.payload(), r#"{"order_id":"o-1"}"#);
}

mod elsewhere {
    use super::*;

    #[derive(DomainEvent, Serialize, Deserialize)]
    #[event(name = "order.placed", aggregate = "Order")]
    pub(crate) struct Impostor {
        #[event(aggregate_id)]
        pub(crate) order: u64,
    }
}

#[test]
fn two_types_cannot_have_one_name() {
    let registry = EventRegistry::new();
    registry.register::<OrderPlaced>().unwrap();
    let error = registry.register::<elsewhere::Impostor>().map(drop).unwrap_err();
    assert_eq!(
        error.to_string(),
        "event type name \"order.placed\" belongs to events::common::OrderPlaced, so \
         events::elsewhere::Impostor cannot have it; rename one with #[event(name = \"…\")]"
    );
}

#[test]
fn a_registry_over_the_global_one_adds_to_it_without_changing_it() {
    register_event::<OrderPlaced>().unwrap();
    let own = EventRegistry::over(EventRegistry::global().clone());
    own.register::<OrderShipped>().unwrap();
    assert_eq!(own.types(), [EventType::of::<OrderPlaced>(), EventType::of::<OrderShipped>()]);
    assert!(EventRegistry::global().get("OrderShipped").is_none());
}

proptest! {
    #[test]
    fn any_payload_survives_being_written_and_read(
        order_id in "\\PC*", customer_id in "\\PC*", total in -1e12..1e12_f64, version in 1..u64::MAX,
        tenant in proptest::option::of("\\PC*"),
    ) {
        let payload = OrderPlaced { order_id, customer_id, total };
        let event = Event::with(payload.clone(), |metadata| {
            metadata.aggregate_version = version;
            metadata.tenant_id = tenant;
        });
        prop_assert_eq!(&*there_and_back::<OrderPlaced>(&event.into_any()), &payload);
    }

    #[test]
    fn no_bytes_make_reading_panic(bytes: Vec<u8>, version: Option<u32>) {
        let mut headers = WireMetadata::default();
        headers.event_version = version;
        for kind in [EventType::of::<OrderPlaced>(), EventType::of::<ParcelMoved>(), EventType::of::<Measured>()] {
            let _ = kind.read_json(&bytes, headers.clone());
        }
    }
}
