//! `rehearsal dlq` as an operator uses it, on a bus whose handler fails.

use rehearsal_bus::config::KafkaEventBusConfig;
use rehearsal_bus::{HandlerError, KafkaEventBus, prelude::*};
use rehearsal_mockbroker::testing::MockCluster;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io::{BufRead, BufReader, Lines};
use std::process::{ChildStdout, Command, Output, Stdio};
use std::time::Duration;

#[derive(DomainEvent, Serialize, Deserialize)]
#[event(aggregate = "Order")]
struct OrderPlaced {
    #[event(aggregate_id)]
    order: String,
    total: u32,
}

fn placed(order: &str) -> OrderPlaced {
    OrderPlaced { order: order.into(), total: 0 }
}

/// A cluster, and a bus that gives up orders with a total of 0.
struct Shop {
    kafka: MockCluster,
    bus: KafkaEventBus,
}

impl Shop {
    async fn with_dead(orders: &[&str]) -> Self {
        let kafka = MockCluster::builder().topic("orders.stream", 1).start().expect("free ports");
        let config = KafkaEventBusConfig::builder()
            .bootstrap_servers(kafka.bootstrap_servers())
            .topic_prefix("orders")
            .consumer_group("shipping")
            .build()
            .expect("a configuration");
        let bus = KafkaEventBus::new(config);
        bus.subscribe(|event: Event<OrderPlaced>| match event.total {
            0 => Err(HandlerError::fatal("an order of nothing")),
            _ => Handled::Ok(()),
        })
        .expect("a subscription");
        bus.connect().await.expect("a broker");
        bus.start_consuming_in_background().expect("a connected bus");
        // One after the other, for aggregates do not wait for each other.
        for (buried, order) in orders.iter().enumerate() {
            bus.publish(placed(order)).await.expect("an answer");
            kafka.wait_for().records("orders.stream.dlq", buried + 1).await.expect("a dead letter");
        }
        Self { kafka, bus }
    }

    fn dlq(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rehearsal"));
        command.arg("dlq").args(arguments).args(["--topic-prefix", "orders"]);
        command.args(["--bootstrap", &self.kafka.bootstrap_servers()]).env_remove("RUST_LOG");
        command
    }

    async fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = self.dlq(arguments);
        let ran = tokio::task::spawn_blocking(move || command.output().expect("our own binary"));
        let Output { status, stdout, stderr } = ran.await.expect("it does not panic");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (status.code().expect("no signal"), text(stdout), text(stderr))
    }

    async fn listed(&self, filter: &[&str]) -> Vec<Value> {
        let (code, out, err) = self.run(&[&["list", "--json"], filter].concat()).await;
        assert_eq!(code, 0, "{err}");
        out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_listed_and_shown_with_their_story() {
    let shop = Shop::with_dead(&["o-1", "o-2"]).await;

    let (code, out, _) = shop.run(&["list"]).await;
    assert_eq!(code, 0);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 2, "{out}");
    assert!(lines[0].starts_with("0:0  2"), "{out}");
    assert!(lines[0].ends_with("  OrderPlaced  o-1  handler_error after 0 retries: an order of nothing"), "{out}");

    assert_eq!(shop.listed(&["--key", "o-2"]).await.len(), 1);
    assert_eq!(shop.listed(&["--event-type", "OrderShipped"]).await.len(), 0);
    assert_eq!(shop.listed(&["--error", "of nothing", "--group", "shipping", "--limit", "1"]).await[0]["offset"], 0);

    let (code, out, _) = shop.run(&["show", "0:1"]).await;
    let letter: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &letter["key"], &letter["group"]), (0, &"o-2".into(), &"shipping".into()));
    assert!(letter["value"].as_str().expect("text").contains("\"total\":0"), "{letter}");
    assert!(letter["headers"].as_array().expect("a list").iter().any(|header| header["name"] == "dlq_reason"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_put_right_is_handled_and_one_evicted_is_gone() {
    let shop = Shop::with_dead(&["o-1", "o-2", "o-3"]).await;
    let letter = &shop.listed(&["--key", "o-1"]).await[0];
    let repaired = std::env::temp_dir().join(format!("rehearsal-dlq-{}", std::process::id()));
    let value = letter["value"].as_str().expect("text").replace("\"total\":0", "\"total\":7");
    std::fs::write(&repaired, value).expect("a file");

    let file = repaired.to_str().expect("text");
    let (code, out, err) = shop.run(&["replay", "0:0", "--value", file]).await;
    std::fs::remove_file(&repaired).expect("it is ours");
    assert_eq!((code, out.as_str()), (0, "0:0  replayed, now at 0:3\n"), "{err}");
    shop.kafka.wait_for().committed("shipping", "orders.stream", 0, 4).await.expect("it is handled");
    assert_eq!(shop.bus.stats().messages_sent_to_dlq, 3, "the replay did not come back");

    let (code, out, _) = shop.run(&["evict", "0:1", "--why", "a test order"]).await;
    assert_eq!((code, out.as_str()), (0, "0:1  evicted\n"));
    let (code, out, err) = shop.run(&["replay", "0:0", "0:1", "0:9"]).await;
    assert_eq!(code, 1);
    assert_eq!(out, "0:0  was resolved before\n0:1  was resolved before\n0:9  not found\n");
    assert_eq!(err, "error: 3 of 3 were not replayed\n");

    assert_eq!(shop.listed(&[]).await.len(), 1);
    let (code, out, _) = shop.run(&["replay", "--all", "--group", "shipping"]).await;
    assert_eq!((code, out.as_str()), (0, "0:2  replayed, now at 0:4\n"));
}

/// The next line, and those after it.
async fn next(mut lines: Lines<BufReader<ChildStdout>>) -> (String, Lines<BufReader<ChildStdout>>) {
    let read = tokio::task::spawn_blocking(move || (lines.next().expect("it goes on").expect("text"), lines));
    tokio::time::timeout(Duration::from_secs(60), read).await.expect("in time").expect("it does not panic")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_shows_each_letter_as_it_comes() {
    let shop = Shop::with_dead(&["o-1"]).await;
    let mut watching = shop.dlq(&["watch"]).stdout(Stdio::piped()).spawn().expect("our own binary");
    let lines = BufReader::new(watching.stdout.take().expect("piped")).lines();

    let (first, lines) = next(lines).await;
    assert!(first.contains("  o-1  "), "{first}");
    shop.bus.publish(placed("o-2")).await.expect("an answer");
    let (second, _) = next(lines).await;
    assert!(second.contains("  o-2  "), "{second}");
    watching.kill().expect("it runs");
    watching.wait().expect("it was killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_meant_is_said_and_nothing_is_created() {
    let shop = Shop::with_dead(&["o-1"]).await;

    let (code, _, err) = shop.run(&["list", "--topic-prefix", "oders"]).await;
    assert_eq!(code, 2, "{err}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_rehearsal"));
    command.args(["dlq", "list", "--topic-prefix", "oders", "--bootstrap", &shop.kafka.bootstrap_servers()]);
    let misspelt = tokio::task::spawn_blocking(move || command.output().expect("our own binary")).await.expect("ran");
    let err = String::from_utf8(misspelt.stderr).expect("text");
    assert_eq!(misspelt.status.code(), Some(1), "{err}");
    assert!(err.contains("there is no topic oders.stream.dlq on ") && err.contains("--topic-prefix"), "{err}");
    let topics: Vec<_> = shop.kafka.view().topics.iter().map(|topic| topic.name.clone()).collect();
    assert!(!topics.iter().any(|name| name.starts_with("oders")), "{topics:?}");

    let (code, _, err) = shop.run(&["show", "seventeen"]).await;
    assert_eq!(code, 2);
    assert!(err.contains("named by its partition and offset, such as 0:17"), "{err}");
    let (code, _, err) = shop.run(&["show", "0:5"]).await;
    assert_eq!((code, err.as_str()), (1, "error: there is no dead letter 0:5, or it is resolved\n"));
    let (code, _, err) = shop.run(&["replay"]).await;
    assert_eq!(code, 2, "{err}");
}
