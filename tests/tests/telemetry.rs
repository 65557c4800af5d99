//! What an operator sees of a bus: metrics under their names, in Prometheus' form too, and one trace across services.

use opentelemetry::metrics::MeterProvider as _;
use opentelemetry::trace::{SpanKind, TracerProvider as _};
use opentelemetry::{KeyValue, global};
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, SdkMeterProvider};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use rehearsal_bus::config::KafkaEventBusConfig;
use rehearsal_bus::telemetry::{Names, Telemetry};
use rehearsal_bus::{HandlerError, KafkaEventBus, RetryPolicy, prelude::*};
use rehearsal_mockbroker::testing::MockCluster;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing_subscriber::layer::SubscriberExt;

/// Longer than anything here takes, so that a test fails rather than hangs.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(DomainEvent, Serialize, Deserialize)]
#[event(aggregate = "Order")]
struct OrderPlaced {
    #[event(aggregate_id)]
    order: String,
}

#[derive(DomainEvent, Serialize, Deserialize)]
#[event(aggregate = "Parcel")]
struct ParcelSent {
    #[event(aggregate_id)]
    order: String,
}

fn placed(order: impl ToString) -> OrderPlaced {
    OrderPlaced { order: order.to_string() }
}

fn config(kafka: &MockCluster, group: &str) -> KafkaEventBusConfig {
    KafkaEventBusConfig::builder()
        .bootstrap_servers(kafka.bootstrap_servers())
        .topic_prefix("orders")
        .consumer_group(group)
        .retry(RetryPolicy::exponential(Duration::from_millis(1), Duration::from_millis(1)).max_retries(1))
        .build()
        .expect("a configuration")
}

/// A service that meters itself, and what it has metered.
struct Metered {
    provider: SdkMeterProvider,
    exporter: InMemoryMetricExporter,
}

impl Metered {
    fn new() -> Self {
        let exporter = InMemoryMetricExporter::default();
        Self { provider: SdkMeterProvider::builder().with_periodic_exporter(exporter.clone()).build(), exporter }
    }

    fn bus(&self, config: KafkaEventBusConfig, names: Names) -> KafkaEventBus {
        let telemetry = Telemetry::with_names(&self.provider.meter("shop"), names);
        KafkaEventBus::builder(config).telemetry(telemetry).build()
    }

    /// Per instrument its points: attributes, and the value or the count of values.
    fn collected(&self) -> BTreeMap<String, BTreeMap<String, u64>> {
        self.exporter.reset();
        self.provider.force_flush().expect("an exporter in memory");
        let collected = self.exporter.get_finished_metrics().expect("an exporter in memory");
        let metrics = collected.iter().flat_map(ResourceMetrics::scope_metrics).flat_map(|scope| scope.metrics());
        metrics.map(|metric| (metric.name().to_owned(), points(metric.data()))).collect()
    }
}

fn points(data: &AggregatedMetrics) -> BTreeMap<String, u64> {
    match data {
        AggregatedMetrics::U64(MetricData::Sum(sum)) => {
            sum.data_points().map(|point| (text(point.attributes()), point.value())).collect()
        }
        AggregatedMetrics::U64(MetricData::Gauge(gauge)) => {
            gauge.data_points().map(|point| (text(point.attributes()), point.value())).collect()
        }
        AggregatedMetrics::U64(MetricData::Histogram(histogram)) => {
            histogram.data_points().map(|point| (text(point.attributes()), point.count())).collect()
        }
        AggregatedMetrics::F64(MetricData::Histogram(histogram)) => {
            histogram.data_points().map(|point| (text(point.attributes()), point.count())).collect()
        }
        other => panic!("no instrument of ours is like this: {other:?}"),
    }
}

fn text<'a>(attributes: impl Iterator<Item = &'a KeyValue>) -> String {
    let pairs: BTreeSet<String> = attributes.map(|pair| format!("{}={}", pair.key, pair.value)).collect();
    pairs.into_iter().collect::<Vec<_>>().join(" ")
}

async fn next<T>(from: &mut UnboundedReceiver<T>) -> T {
    tokio::time::timeout(PATIENCE, from.recv()).await.expect("in time").expect("the bus still runs")
}

/// Ships what can be shipped, and tells which.
struct Ship(UnboundedSender<String>);

impl EventHandler<Event<OrderPlaced>> for Ship {
    async fn handle(&self, event: Event<OrderPlaced>, _cx: Ctx) -> Handled {
        if event.order == "bad" {
            return Err(HandlerError::fatal(std::io::Error::other("no such address")));
        }
        Ok(self.0.send(event.order.clone())?)
    }

    fn name(&self) -> Cow<'static, str> {
        "ship".into()
    }
}

/// Publishes three orders, of which one cannot be handled; returns when that one is a dead letter and the others are done.
async fn three_orders_one_of_them_bad(kafka: &MockCluster, bus: &KafkaEventBus) {
    let (tell, mut shipped) = unbounded_channel();
    bus.subscribe(Ship(tell)).expect("a subscription");
    bus.connect().await.expect("a broker");
    bus.start_consuming_in_background().expect("a connected bus");
    bus.publish(vec![placed("o-1"), placed("bad"), placed("o-2")]).await.expect("a broker that answers");
    for _ in 0..2 {
        next(&mut shipped).await;
    }
    kafka.wait_for().records("orders.stream.dlq", 1).await.expect("a dead letter");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_instrument_has_its_name_and_counts() {
    let kafka = MockCluster::builder().start().expect("free ports");
    let metered = Metered::new();
    let bus = metered.bus(config(&kafka, "shipping"), Names::EventBus);
    three_orders_one_of_them_bad(&kafka, &bus).await;
    bus.disconnect().await.expect("a clean end");

    let seen = metered.collected();

    let of = |name: &str| {
        let points = seen.get(name).unwrap_or_else(|| panic!("no {name} among {:?}", seen.keys()));
        points.iter().map(|(of, value)| format!("{of}: {value}")).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(of("kafka.eventbus.messages.published"), "event_type=OrderPlaced: 3");
    assert_eq!(of("kafka.eventbus.messages.consumed"), "event_type=OrderPlaced: 3");
    assert_eq!(of("kafka.eventbus.handler.invocations"), "event_type=OrderPlaced handler=ship: 3");
    assert_eq!(of("kafka.eventbus.handler.errors"), "error.type=Error event_type=OrderPlaced handler=ship: 1");
    assert_eq!(of("kafka.eventbus.messages.dlq"), "reason=fatal: 1");
    assert_eq!(of("kafka.eventbus.publish.duration"), ": 1");
    assert_eq!(of("kafka.eventbus.batch.size"), ": 1");
    assert_eq!(of("kafka.eventbus.consume.duration"), "event_type=OrderPlaced: 3");
    assert_eq!(of("kafka.eventbus.handler.duration"), "event_type=OrderPlaced handler=ship: 3");
    assert_eq!(of("kafka.eventbus.connections.active"), ": 0");
    assert_eq!(of("kafka.eventbus.keys.parked"), ": 0");
    assert!(seen.contains_key("kafka.eventbus.rebalances"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_messaging_conventions_names_come_alone_or_beside_ours() {
    for (names, ours, theirs) in [(Names::Messaging, false, true), (Names::Both, true, true)] {
        let kafka = MockCluster::builder().start().expect("free ports");
        let metered = Metered::new();
        let bus = metered.bus(config(&kafka, "shipping"), names);
        three_orders_one_of_them_bad(&kafka, &bus).await;
        bus.disconnect().await.expect("a clean end");

        let seen = metered.collected();

        for (our, their, operation) in [
            ("messages.published", "client.sent.messages", "send"),
            ("messages.consumed", "client.consumed.messages", "poll"),
            ("publish.duration", "client.operation.duration", "send"),
            ("consume.duration", "process.duration", "process"),
        ] {
            assert_eq!(seen.contains_key(&format!("kafka.eventbus.{our}")), ours, "{names:?}: {our}");
            let standard = seen.get(&format!("messaging.{their}"));
            assert_eq!(standard.is_some(), theirs, "{names:?}: {their}");
            let attributes = format!("messaging.operation.name={operation} messaging.system=kafka");
            assert_eq!(standard.expect("as asserted").keys().collect::<Vec<_>>(), [&attributes]);
        }
        assert!(seen.contains_key("kafka.eventbus.handler.invocations"), "the conventions have no name for it");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aggregates_make_no_series() {
    let kafka = MockCluster::builder().start().expect("free ports");
    let metered = Metered::new();
    let bus = metered.bus(config(&kafka, "shipping"), Names::Both);
    let (tell, mut shipped) = unbounded_channel();
    bus.subscribe(Ship(tell)).expect("a subscription");
    bus.connect().await.expect("a broker");
    bus.start_consuming_in_background().expect("a connected bus");
    bus.publish((0..500).map(placed).collect::<Vec<_>>()).await.expect("a broker that answers");
    for _ in 0..500 {
        next(&mut shipped).await;
    }
    bus.disconnect().await.expect("a clean end");

    for (name, points) in metered.collected() {
        assert!(points.len() <= 1, "{name} has {} series: {:?}", points.len(), points.keys());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lag_is_what_is_not_committed_and_goes_when_the_partition_goes() {
    let kafka = MockCluster::builder().topic("orders.stream", 1).start().expect("free ports");
    let metered = Metered::new();
    let config = KafkaEventBusConfig::builder()
        .bootstrap_servers(kafka.bootstrap_servers())
        .topic_prefix("orders")
        .consumer_group("shipping")
        .client_properties([("statistics.interval.ms", "20")])
        .build()
        .expect("a configuration");
    let bus = metered.bus(config, Names::EventBus);
    let release = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let gate = release.clone();
    bus.subscribe(move |_: Event<OrderPlaced>| {
        let gate = gate.clone();
        async move {
            gate.acquire().await?.forget();
            Handled::Ok(())
        }
    })
    .expect("a subscription");
    bus.connect().await.expect("a broker");
    bus.start_consuming_in_background().expect("a connected bus").assigned().await;

    bus.publish(placed("o-1")).await.expect("a broker that answers");
    release.add_permits(1);
    kafka.wait_for().committed("shipping", "orders.stream", 0, 1).await.expect("the first is handled");
    bus.publish((0..7).map(placed).collect::<Vec<_>>()).await.expect("a broker that answers");
    until_lag(&metered, Some(7)).await;
    release.add_permits(7);
    until_lag(&metered, Some(0)).await;
    bus.shutdown(PATIENCE).await.expect("a clean end");
}

/// Nothing tells when a gauge changes but looking at it.
async fn until_lag(metered: &Metered, records: Option<u64>) {
    let reached = async {
        loop {
            let seen = metered.collected();
            let lag = seen.get("kafka.eventbus.consumer.lag").and_then(|points| points.get("partition=0").copied());
            if lag == records {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("the lag never was {records:?}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_recorded_when_metrics_are_off() {
    let kafka = MockCluster::builder().start().expect("free ports");
    let metered = Metered::new();
    let mut config = config(&kafka, "shipping");
    config.enable_metrics = false;
    let bus = metered.bus(config, Names::Both);
    three_orders_one_of_them_bad(&kafka, &bus).await;
    bus.disconnect().await.expect("a clean end");

    let recorded: Vec<_> = metered.collected().into_iter().filter(|(name, _)| name.ends_with("published")).collect();

    assert_eq!(recorded, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_shows_the_names_dashboards_are_built_on() {
    let kafka = MockCluster::builder().start().expect("free ports");
    let registry = prometheus::Registry::new();
    let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone()).build().expect("an exporter");
    let provider = SdkMeterProvider::builder().with_reader(exporter).build();
    let telemetry = Telemetry::with_names(&provider.meter("shop"), Names::EventBus);
    let bus = KafkaEventBus::builder(config(&kafka, "shipping")).telemetry(telemetry).build();
    three_orders_one_of_them_bad(&kafka, &bus).await;

    // The letter is counted when the bus hears of it; the end waits for that.
    bus.disconnect().await.expect("a clean end");
    let page = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).expect("a page");

    let series: BTreeSet<&str> = page.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
    for name in [
        "kafka_eventbus_messages_published_total",
        "kafka_eventbus_messages_consumed_total",
        "kafka_eventbus_messages_dlq_total",
        "kafka_eventbus_handler_errors_total",
        "kafka_eventbus_handler_duration_sum",
        "kafka_eventbus_handler_duration_count",
        "kafka_eventbus_rebalances_total",
        "kafka_eventbus_connections_active",
    ] {
        assert!(series.contains(name), "no {name} among {series:?}");
    }
}

/// The spans of the trace this one is in.
fn trace_of(name: &str, spans: Vec<SpanData>) -> Vec<SpanData> {
    let trace = one(&spans, name).span_context.trace_id();
    spans.into_iter().filter(|span| span.span_context.trace_id() == trace).collect()
}

fn one<'a>(spans: &'a [SpanData], name: &str) -> &'a SpanData {
    let mut named = spans.iter().filter(|span| span.name == name);
    match (named.next(), named.next()) {
        (Some(span), None) => span,
        _ => panic!("not one {name} among {:?}", spans.iter().map(|span| &span.name).collect::<Vec<_>>()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_leads_through_the_services_an_event_and_its_consequences_pass() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("shop"));
    // Of this process, for the services' threads are many.
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).expect("the only one here");
    global::set_text_map_propagator(TraceContextPropagator::new());

    let kafka = MockCluster::builder().start().expect("free ports");
    let (shop, stock) = (KafkaEventBus::new(config(&kafka, "shop")), KafkaEventBus::new(config(&kafka, "stock")));
    let (tell, mut sent) = unbounded_channel();
    shop.connect().await.expect("a broker");
    stock.connect().await.expect("a broker");
    let onward = stock.clone();
    let send = move |event: Event<OrderPlaced>| {
        let onward = onward.clone();
        async move { Handled::Ok(onward.publish(ParcelSent { order: event.order.clone() }).await?) }
    };
    stock.subscribe(send).expect("a subscription");
    shop.subscribe(move |event: Event<ParcelSent>| -> Handled { Ok(tell.send(event.order.clone())?) })
        .expect("a subscription");
    for bus in [&shop, &stock] {
        bus.start_consuming_in_background().expect("a connected bus").assigned().await;
    }

    shop.publish(placed("o-1")).await.expect("a broker that answers");
    next(&mut sent).await;
    for bus in [&shop, &stock] {
        bus.shutdown(PATIENCE).await.expect("a clean end");
    }

    let spans = exporter.get_finished_spans().expect("in memory");
    // The other tests here publish orders too, but no parcels.
    let trace = trace_of("kafka.publish ParcelSent", spans);
    let parent_of = |span: &SpanData| trace.iter().find(|other| other.span_context.span_id() == span.parent_span_id);
    let parent_name = |name: &str| parent_of(one(&trace, name)).map(|span| span.name.as_ref());
    assert_eq!(parent_name("kafka.publish OrderPlaced"), None);
    assert_eq!(parent_name("kafka.consume OrderPlaced"), Some("kafka.publish OrderPlaced"));
    assert_eq!(parent_name("kafka.consume ParcelSent"), Some("kafka.publish ParcelSent"));
    let handling = parent_of(one(&trace, "kafka.publish ParcelSent")).expect("the handler that published it");
    assert!(handling.name.starts_with("handle "), "{}", handling.name);
    assert_eq!(parent_of(handling).map(|span| span.name.as_ref()), Some("kafka.consume OrderPlaced"));
    assert_eq!(one(&trace, "kafka.publish OrderPlaced").span_kind, SpanKind::Producer);
    assert_eq!(one(&trace, "kafka.consume ParcelSent").span_kind, SpanKind::Consumer);
}
