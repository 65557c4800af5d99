//! Retries and dead letters, guarded by tests that make Kafka fail.
//!
//! `cargo run -p rehearsal-bus --example guarding_retries` tells the story below on a cluster in this process.
//! `cargo test -p rehearsal-bus --example guarding_retries` runs [`tests`], which are there to be copied: one promise of
//! the bus each, kept while the broker does its worst. [`shipping`] is the service they guard.

#![allow(clippy::print_stdout, reason = "it tells a story")]
#![allow(clippy::disallowed_methods, reason = "the bans are for the engine")]

mod shipping;
#[cfg(test)]
mod tests;

use rehearsal_bus::hooks::{Hooks, Step};
use rehearsal_bus::prelude::*;
use rehearsal_mockbroker::fault::{Fault, Requests};
use rehearsal_mockbroker::testing::MockCluster;
use rehearsal_mockbroker::wire::ApiKey;
use shipping::{ParcelPacked, Printer, configuration, packed, service};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Jams on one order until it is repaired.
#[derive(Clone, Default)]
struct JammingPrinter {
    repaired: Arc<AtomicBool>,
}

impl Printer for JammingPrinter {
    async fn print(&self, parcel: &ParcelPacked, attempt: u32) -> Handled {
        let ParcelPacked { order_id, parcel } = parcel;
        if order_id == "o-1" && *parcel == 1 && !self.repaired.load(Ordering::SeqCst) {
            println!("  {order_id}/{parcel}: the printer jams (attempt {attempt})");
            return Err(HandlerError::retry("the printer jams"));
        }
        println!("  {order_id}/{parcel}: label printed");
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let kafka = MockCluster::builder().brokers(3).start()?;
    let config = configuration(kafka.bootstrap_servers())?;
    let (topic, dlq, group) = (config.topic_name(), config.dlq_topic_name(), config.consumer_group.clone());
    let committed = || kafka.committed(&group, &topic, 0).unwrap_or(0);
    let hooks = Hooks::observed_by(|step: &Step<'_>| {
        if let Step::DeadLettered { at, reason, .. } = step {
            println!("  offset {} is a dead letter: {reason}", at.offset);
        }
    });
    let printer = JammingPrinter::default();
    let repaired = printer.repaired.clone();
    let bus = service(config, printer, hooks).await?;

    println!("Parcels of two orders are packed. The printer jams on the first parcel of o-1,");
    println!("and the dead-letter topic answers nothing for now.");
    let held = kafka.plan(Fault::on(ApiKey::Produce).topic(&dlq).hold())?;
    bus.publish([packed("o-2", 1), packed("o-1", 1), packed("o-2", 2), packed("o-1", 2)]).await?;
    bus.start_consuming_in_background()?;
    kafka.wait_for().held(&held).await?;
    kafka.wait_for().committed(&group, &topic, 0, 1).await?;
    println!("The letter is on its way; the group has committed {} of 4: not past what could be lost.", committed());

    held.release();
    kafka.wait_for().committed(&group, &topic, 0, 4).await?;
    println!("The letter is acknowledged; the group has committed {}.", committed());

    let letters = bus.get_dlq_messages(10).await?;
    let letter = letters.first().ok_or("a letter is there")?;
    println!("It says: '{}' after {} retries. The printer is repaired.", letter.error(), letter.retry_count());
    repaired.store(true, Ordering::SeqCst);
    bus.replay_dlq_message(letter.partition, letter.offset).await?;
    kafka.wait_for().committed(&group, &topic, 0, 5).await?;
    println!("A second replay: {:?}.", bus.replay_dlq_message(letter.partition, letter.offset).await?);

    let commits = kafka.requests(Requests::of(ApiKey::OffsetCommit).group(&group));
    println!("The brokers were asked {} times to commit, and held {} write.", commits.len(), held.hits());
    bus.shutdown(Duration::from_secs(10)).await?;
    Ok(())
}
