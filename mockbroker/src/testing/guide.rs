//! Fifteen things tests of Kafka code ask for, each with an example that runs.
//!
//! The client in all of them is rdkafka, unmodified; any other client, in any language, sees the same. The first example
//! is whole, the others begin where it has connected.
//!
//! # 1. A cluster of its own for every test
//! Up in under a millisecond, on free ports, gone when the handle is dropped, on a thread of its own: no runtime is
//! needed and a paused one does no harm.
//!
//! ```
//! use rdkafka::ClientConfig;
//! use rdkafka::producer::{FutureProducer, FutureRecord};
//! use rehearsal_mockbroker::testing::MockCluster;
//! use std::time::Duration;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let kafka = MockCluster::builder().topic("orders", 1).start()?;
//!
//!     let producer: FutureProducer =
//!         ClientConfig::new().set("bootstrap.servers", kafka.bootstrap_servers()).create()?;
//!     producer.send(FutureRecord::to("orders").key("7").payload("paid"), Duration::ZERO).await.unwrap();
//!
//!     assert_eq!(kafka.all_records("orders")[0].value(), Some(&b"paid"[..]));
//!     Ok(())
//! }
//! ```
//!
//! # 2. An error code, in the field the API has for it
//! Of a whole request, a topic or a single partition; the request does nothing.
//!
//! ```
#![doc = include_str!("guide/producer.md")]
//! // The leader says twice that it is not the leader; the client asks for metadata and tries again.
//! let moved = Fault::on(ApiKey::Produce).topic("orders").partition(0).error(ErrorCode::NotLeaderOrFollower);
//! let moved = kafka.plan(moved.times(2))?;
//!
//! send(&producer, "paid").await?;
//!
//! assert_eq!(moved.hits(), 2);
//! assert_eq!(kafka.all_records("orders").len(), 1);
//! # Ok(()) }
//! ```
//!
//! # 3. Just the requests that are meant
//! By API, version, client, broker, topic, partition, group, decoded body, and by how many came before; once, so often,
//! always, or with a probability of the cluster's seed.
//!
//! ```
#![doc = include_str!("guide/producer.md")]
//! let third = Fault::on(ApiKey::Produce).client("checkout").broker(1).skip(2);
//! let third = kafka.plan(third.error(ErrorCode::InvalidRecord))?;
//!
//! assert!(send(&producer, "1st").await.is_ok());
//! assert!(send(&producer, "2nd").await.is_ok());
//! assert!(send(&producer, "3rd").await.is_err());
//! assert!(send(&producer, "4th").await.is_ok());
//! # assert_eq!(third.hits(), 1);
//! # Ok(()) }
//! ```
//!
//! # 4. An answer that is lost, before or after the effect
//! After the effect is the hard case: a client that tries again writes twice, unless it is idempotent.
//!
//! ```
#![doc = include_str!("guide/producer.md")]
//! kafka.plan(Fault::on(ApiKey::Produce).disconnect_after_effect())?;
//!
//! send(&producer, "paid").await?;
//!
//! // `enable.idempotence` is off by default in librdkafka.
//! assert_eq!(kafka.all_records("orders").len(), 2);
//! # Ok(()) }
//! ```
//!
//! # 5. Hold a request, let it go
//! To bring about an order of events that otherwise comes up once a month.
//!
//! ```
#![doc = include_str!("guide/producer.md")]
//! let held = kafka.plan(Fault::on(ApiKey::Produce).hold())?;
//!
//! let sending = send(&producer, "paid");
//! let meanwhile = async {
//!     kafka.wait_for().held(&held).await?;
//!     assert!(kafka.all_records("orders").is_empty());
//!     held.release();
//!     Ok::<_, Box<dyn std::error::Error>>(())
//! };
//! let (sent, looked) = tokio::join!(sending, meanwhile);
//! # sent?; looked?;
//! assert_eq!(kafka.all_records("orders").len(), 1);
//! # Ok(()) }
//! ```
//!
//! # 6. A slow broker, a throttling broker
//!
//! ```
#![doc = include_str!("guide/producer.md")]
//! kafka.plan(Fault::on(ApiKey::Produce).delay_answer(Duration::from_millis(50)))?;
//! let started = Instant::now();
//! send(&producer, "paid").await?;
//! assert!(started.elapsed() >= Duration::from_millis(50));
//!
//! let quota = kafka.plan(Fault::on(ApiKey::Produce).throttle(Duration::from_millis(20)))?;
//! send(&producer, "shipped").await?;
//! assert_eq!(quota.hits(), 1);
//! # Ok(()) }
//! ```
//!
//! # 7. No answer at all
//! The connection stays open; only the client's own timeout ends the wait. `ignore` does nothing, `never_answer` does it.
//!
//! ```
#![doc = include_str!("guide/producer.md")]
//! // The example's client gives up on a request after a second and asks again.
//! kafka.plan(Fault::on(ApiKey::Produce).ignore())?;
//! send(&producer, "paid").await?;
//! assert_eq!(kafka.requests(Requests::of(ApiKey::Produce)).len(), 2);
//! assert_eq!(kafka.all_records("orders").len(), 1);
//! # Ok(()) }
//! ```
//!
//! # 8. Bytes that are not as they should be
//! Answers garbled, cut short or sent twice; a fetched batch that fails its checksum while the log stays intact.
//!
//! ```
#![doc = include_str!("guide/producer.md")]
//! let cut = kafka.plan(Fault::on(ApiKey::Produce).cut_short())?;
//! send(&producer, "paid").await?;
//! assert_eq!(cut.hits(), 1);
//!
//! let spoilt = kafka.plan(Fault::on(ApiKey::Fetch).topic("orders").corrupt_batch())?;
//! let consumer = consumer(&kafka, "billing")?;
//! // With `check.crcs=true` the client notices, says so, and reads the batch again.
//! assert!(consumer.recv().await.is_err());
//! assert_eq!(consumer.recv().await?.payload(), Some(&b"paid"[..]));
//! assert_eq!(spoilt.hits(), 1);
//! # Ok(()) }
//! ```
//!
//! # 9. Metadata that is old, or not true
//!
//! ```
#![doc = include_str!("guide/producer.md")]
//! let flicker = kafka.plan(Fault::on(ApiKey::Metadata).lie(Lie::NoTopic("orders".into())).times(2))?;
//! send(&producer, "paid").await?; // the client waits until the topic is there again
//! assert_eq!(flicker.hits(), 2);
//! # Ok(()) }
//! ```
//!
//! # 10. Brokers that crash, lose power, freeze
//! A crash keeps what was stored, a power loss only what was flushed; a frozen broker keeps its connections.
//!
//! ```
#![doc = include_str!("guide/producer.md")]
//! let kafka = MockCluster::builder().brokers(3).topic("orders", 1).start()?;
//! let producer = connect(&kafka)?;
//! let leader = kafka.wait_for().leader("orders", 0).await?;
//!
//! kafka.crash(leader)?;
//! send(&producer, "paid").await?; // another broker leads
//! kafka.start_broker(leader)?;
//!
//! assert_eq!(kafka.all_records("orders").len(), 1);
//! # Ok(()) }
//! ```
//!
//! # 11. Leaders, coordinators, in-sync replicas, epochs
//! Every one is a [`Command`](crate::control::Command); followers can lag ([`Builder::follower_delay`]), the controller
//! can be slow to notice ([`Builder::failover_delay`]), and a replica that lacks records can be made to lead.
//!
//! ```
#![doc = include_str!("guide/producer.md")]
//! let kafka = MockCluster::builder().brokers(3).topic("orders", 1).start()?;
//! let producer = connect(&kafka)?;
//! send(&producer, "paid").await?;
//!
//! // Written to the leader alone, acknowledged (acks=1), lost with it.
//! let alone = kafka.preset().acks1_leader_crash("orders", 0)?;
//! let careless = with(&kafka, "acks", "1")?;
//! send(&careless, "shipped").await?;
//! alone.strike()?;
//!
//! assert_eq!(kafka.all_records("orders").len(), 1);
//! # Ok(()) }
//! ```
//!
//! # 12. Rebalances, evictions, offsets that are gone
//!
//! ```
#![doc = include_str!("guide/producer.md")]
//! let consumer = consumer(&kafka, "billing")?;
//! send(&producer, "paid").await?;
//! let paid = consumer.recv().await?;
//! let before = kafka.wait_for().stable("billing", 1).await?.generation;
//!
//! kafka.expire_member("billing", "checkout")?; // as if its handler had taken too long
//! let late = consumer.commit_message(&paid, CommitMode::Sync);
//! assert!(late.is_err(), "a member that was put out cannot commit");
//! # drop(paid);
//! # Ok(()) }
//! ```
//!
//! # 13. Topics that are trimmed, deleted and made again, or grow
//!
//! ```
#![doc = include_str!("guide/producer.md")]
//! send(&producer, "paid").await?;
//! send(&producer, "shipped").await?;
//!
//! kafka.trim("orders", 0, 1)?;
//! assert_eq!(kafka.all_records("orders")[0].value(), Some(&b"shipped"[..]));
//!
//! kafka.add_partitions("orders", 3)?;
//! kafka.preset().topic_recreate_offset_reuse("orders")?;
//! assert_eq!(kafka.view().topic("orders").unwrap().partitions.len(), 3);
//! assert!(kafka.all_records("orders").is_empty());
//! # Ok(()) }
//! ```
//!
//! # 14. See everything
//! Requests with their decoded bodies, records by topic, partition, key and header, watermarks, commits, groups with
//! members and assignments, producers.
//!
//! ```
#![doc = include_str!("guide/producer.md")]
//! send(&producer, "paid").await?;
//!
//! let produced = kafka.requests(Requests::of(ApiKey::Produce).topic("orders"));
//! assert_eq!(produced[0].client_id.as_str(), "checkout");
//! assert_eq!(produced[0].body_json()["acks"], -1);
//!
//! assert_eq!(kafka.records_with_key("orders", "7").len(), 1);
//! assert_eq!(kafka.view().topic("orders").unwrap().partitions[0].high_watermark, 1);
//! assert_eq!(kafka.committed("billing", "orders", 0), None);
//! # Ok(()) }
//! ```
//!
//! # 15. Wait for anything, without polling, and hear what was there instead
//! Under a runtime, or [`blocking`](super::Wait::blocking) without one. What cannot come is an error at once.
//!
//! ```
#![doc = include_str!("guide/producer.md")]
//! let consumer = consumer(&kafka, "billing")?;
//! send(&producer, "paid").await?;
//! let paid = consumer.recv().await?;
//! consumer.commit_message(&paid, CommitMode::Async)?;
//! kafka.wait_for().committed("billing", "orders", 0, 1).await?;
//! kafka.wait_for().high_watermark("orders", 0, 1).await?;
//!
//! let never = kafka.wait_up_to(Duration::from_millis(1)).records("orders", 2).await.unwrap_err();
//! assert!(never.to_string().contains("orders-0: offsets 0..1"));
//! let typo = kafka.wait_for().committed("billing", "orders", 7, 1).await.unwrap_err();
//! assert!(typo.to_string().contains("the last partition of topic 'orders' is 0"));
//! # Ok(()) }
//! ```
//!
//! # And a test that cannot lie
//! A fault that was planned and never happened fails the test, unless it says [`may_not_fire`](crate::fault::Fault::may_not_fire):
//!
//! ```should_panic
//! # use rehearsal_mockbroker::{fault::Fault, testing::MockCluster, wire::ApiKey};
//! let kafka = MockCluster::builder().topic("orders", 1).start().unwrap();
//! kafka.plan(Fault::on(ApiKey::Produce).topic("orders").disconnect()).unwrap();
//! // Nobody writes: dropping `kafka` panics with "planned faults never happened, so the test did not test them".
//! ```

#[cfg(doc)]
use super::Builder;
