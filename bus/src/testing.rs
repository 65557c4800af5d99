//! How to guard the retries and dead letters of a service of yours: with a Kafka that fails when it is told to.
//!
//! Nothing is in this module but this page. What it describes is kept whole, and running, in
//! `bus/examples/guarding_retries`: a service that prints labels for parcels, told as a story by
//! `cargo run -p rehearsal-bus --example guarding_retries` and guarded by the tests beside it, one promise each. Every
//! snippet here is compiled and run.
//!
//! # What to bring
//!
//! ```toml
//! [dev-dependencies]
//! rehearsal-mockbroker = "0.1"
//! ```
//!
//! A `MockCluster` is a Kafka in the process, on ports of its own, up in under a millisecond and gone when it is dropped.
//! The service is given its address instead of a real one, short back-offs instead of long ones, and a stand-in for what
//! it works on. Nothing else of it changes.
//!
//! # A letter is acknowledged before its offset is committed
//!
//! The worst a dead-letter queue can do is to lose letters: the offset is committed, the process dies, and the letter was
//! never written. So hold the write of the letter, look at what is committed, and let it go.
//!
//! ```
//! use rehearsal_bus::config::KafkaEventBusConfig;
//! use rehearsal_bus::{KafkaEventBus, prelude::*};
//! use rehearsal_mockbroker::fault::Fault;
//! use rehearsal_mockbroker::testing::MockCluster;
//! use rehearsal_mockbroker::wire::ApiKey;
//! use std::time::Duration;
//!
//! #[derive(DomainEvent, serde::Serialize, serde::Deserialize)]
//! #[event(aggregate = "Order")]
//! struct ParcelPacked {
//!     #[event(aggregate_id)]
//!     order_id: String,
//!     parcel: u32,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let kafka = MockCluster::builder().brokers(3).start()?;
//! let config = KafkaEventBusConfig::builder()
//!     .bootstrap_servers(kafka.bootstrap_servers())
//!     .topic_prefix("parcels")
//!     .consumer_group("shipping")
//!     .topic_partitions(1)
//!     .commit_interval(Duration::from_millis(20))
//!     .build()?;
//! let (topic, dlq) = (config.topic_name(), config.dlq_topic_name());
//! let bus = KafkaEventBus::new(config);
//! bus.subscribe(|event: Event<ParcelPacked>| match event.parcel {
//!     1 => Ok(()),
//!     _ => Err(HandlerError::fatal("no such address")),
//! })?;
//! bus.connect().await?;
//!
//! let held = kafka.plan(Fault::on(ApiKey::Produce).topic(&dlq).hold())?;
//! bus.start_consuming_in_background()?;
//! let packed = |parcel| ParcelPacked { order_id: "o-1".into(), parcel };
//! bus.publish(vec![packed(1), packed(2)]).await?;
//!
//! kafka.wait_for().held(&held).await?; // the letter is on its way …
//! kafka.wait_for().committed("shipping", &topic, 0, 1).await?; // … what comes before it is done …
//! assert_eq!(kafka.committed("shipping", &topic, 0), Some(1)); // … and nothing else is.
//!
//! held.release();
//! kafka.wait_for().committed("shipping", &topic, 0, 2).await?;
//! assert_eq!(kafka.all_records(&dlq).len(), 1);
//! # bus.shutdown(Duration::from_secs(10)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! No line of it sleeps: a wait ends when a broker has seen what is waited for, and says what was there instead when it
//! does not come. A fault that never happened fails the test, so that a typing error in a topic's name cannot pass for
//! proof.
//!
//! # What else to break
//!
//! Each is one line in a test like the one above; `dlq` and `topic` are topics' names, `group` the consumer group's.
//!
//! ```
//! # use rehearsal_mockbroker::error::ErrorCode;
//! # use rehearsal_mockbroker::fault::Fault;
//! # use rehearsal_mockbroker::testing::MockCluster;
//! # use rehearsal_mockbroker::wire::ApiKey;
//! # let kafka = MockCluster::builder().brokers(3).topic("parcels.stream", 1).topic("parcels.stream.dlq", 1).start()?;
//! # let (topic, dlq, group) = ("parcels.stream", "parcels.stream.dlq", "shipping");
//! # let plan = |fault: Fault| kafka.plan(fault.may_not_fire());
//! // The dead-letter topic has no leader for a while, or we may not write to it: no letter is lost.
//! plan(Fault::on(ApiKey::Produce).topic(dlq).error(ErrorCode::NotLeaderOrFollower).times(3))?;
//! plan(Fault::on(ApiKey::Produce).topic(dlq).error(ErrorCode::TopicAuthorizationFailed).times(3))?;
//!
//! // A broker dies between a write and its answer: with idempotence, the event is there once.
//! plan(Fault::on(ApiKey::Produce).topic(topic).disconnect_after_effect())?;
//!
//! // A commit is refused, or its coordinator moves meanwhile: the event comes again, or the commit arrives.
//! plan(Fault::on(ApiKey::OffsetCommit).group(group).error(ErrorCode::TopicAuthorizationFailed).always())?;
//! kafka.move_coordinator(group, 2)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! And while a handler is in the middle of an event: `kafka.rebalance(group)`, a second member that joins,
//! `kafka.expire_member(group, name)`. What is to be seen then is that no event is missing, none overtakes another of its
//! aggregate, and that what the old owner did not finish comes to the new one.
//!
//! # Order under retry, without a clock
//!
//! A test of "other aggregates go on" that waits for a while proves little. Let the failing event fail *until* the others
//! are done: if it held them up, it would fail for ever.
//!
//! ```
//! use rehearsal_bus::prelude::*;
//! # fn may_print(order_id: &str, parcel: u32, good_labels: usize) -> Handled {
//! match (order_id, parcel) {
//!     ("bad", 1) if good_labels < 3 => Err(HandlerError::retry("jam")),
//!     _ => Ok(()),
//! }
//! # }
//! # assert!(may_print("bad", 1, 2).is_err() && may_print("bad", 2, 0).is_ok());
//! ```
