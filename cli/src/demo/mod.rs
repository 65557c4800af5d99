//! `rehearsal demo`: the tutorial's four demos and a finale, on a cluster inside this process or on anybody's Kafka; then
//! a hundred seeds of chaos in virtual time.

mod chaos;
mod consumer_group;
mod events;
mod finale;
mod projections;
mod proof;
mod publish_subscribe;
mod screen;
mod share;
mod stage;
mod table;
mod tally;
mod throughput;
pub(crate) mod worker;

use anyhow::Context;
use rehearsal_bus::BusError;
use screen::{banner, say};
use stage::Stage;
use std::time::Duration;

/// How long to wait for something that is bound to come. Only what is broken takes so long.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a bus may take to finish what it has in hand.
const GRACE: Duration = Duration::from_secs(10);

/// Where to play, and how much.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run on the Kafka at HOST:PORT instead of the cluster inside this process
    #[arg(long, value_name = "HOST:PORT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    bootstrap: Option<String>,
    /// How many events the second run of the throughput demo publishes and consumes
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    events: u64,
}

/// Runs all demos; fails unless the finale's proof holds and no seed breaks a promise.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting")?;
    runtime.block_on(play(args)).map_err(|error| match error.downcast_ref() {
        Some(BusError::Unreachable { .. }) => error
            .context("make sure Kafka is running and --bootstrap is right; without --bootstrap, no Kafka is needed"),
        _ => error,
    })
}

async fn play(args: Args) -> anyhow::Result<()> {
    banner("Tutorial 18: Kafka Event Bus");
    let stage = match args.bootstrap {
        Some(bootstrap) => Stage::at(bootstrap),
        None => Stage::embedded()?,
    };
    let mut rows = vec![publish_subscribe::run(&stage).await?, consumer_group::run(&stage).await?];
    rows.extend(throughput::run(&stage, args.events).await?);
    rows.push(projections::run(&stage).await?);
    rows.push(finale::run(&stage).await?);
    if crate::sim::IS_HERE && stage.cluster.is_some() {
        rows.push(chaos::run().await?);
    }
    banner("Tutorial 18 Complete!");
    table::print(&rows);
    say!();
    Ok(())
}
