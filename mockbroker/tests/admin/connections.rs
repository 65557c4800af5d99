//! How many may connect, and how long they may be silent.

use crate::kafka::Kafka;
use rehearsal_mockbroker::cluster::{Admission, Peer};
use rehearsal_mockbroker::config::ClusterConfig;
use rehearsal_mockbroker::control::Command;
use rehearsal_mockbroker::output::ConnId;
use rehearsal_mockbroker::state::nodes::NodeId;
use rehearsal_mockbroker::time::millis;
use rehearsal_mockbroker::wire::generated::api_versions_request::ApiVersionsRequest;

const NODE: NodeId = NodeId(1);
const HERE: &str = "/127.0.0.1";

fn kafka(configs: &[(&str, &str)]) -> Kafka {
    let configs = configs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Kafka::new(&ClusterConfig { configs, ..ClusterConfig::with_brokers(2) })
}

fn connect(kafka: &mut Kafka) -> ConnId {
    kafka.cluster.connect_at(kafka.now, NODE, Peer { host: HERE.into(), ..Peer::default() }).expect("it runs")
}

#[test]
fn an_address_has_so_many_connections_to_each_broker() {
    let mut kafka = kafka(&[("max.connections.per.ip", "1"), ("max.connections.per.ip.overrides", "10.0.0.7:2")]);
    connect(&mut kafka);
    assert_eq!(kafka.cluster.admission(NODE, HERE), Admission::TooMany);
    assert_eq!(kafka.cluster.admission(NodeId(2), HERE), Admission::Welcome);
    kafka.cluster.connect(NODE, "/10.0.0.7").expect("it runs");
    assert_eq!(kafka.cluster.admission(NODE, "/10.0.0.7"), Admission::Welcome);
}

#[test]
fn who_comes_when_the_broker_is_full_waits_until_somebody_goes() {
    let mut kafka = kafka(&[("max.connections", "1")]);
    let first = connect(&mut kafka);
    assert_eq!(kafka.cluster.admission(NODE, HERE), Admission::Waits);
    kafka.cluster.disconnect(kafka.now, first);
    assert_eq!(kafka.cluster.admission(NODE, HERE), Admission::Welcome);
}

#[test]
fn a_silent_connection_is_closed() {
    let mut kafka = kafka(&[("connections.max.idle.ms", "60000")]);
    let (busy, silent) = (connect(&mut kafka), connect(&mut kafka));
    kafka.advance(millis(40_000));
    kafka.ask_on(busy, "test", 0, ApiVersionsRequest::default());
    kafka.advance(millis(20_000));
    assert_eq!(kafka.closed, [silent]);
    kafka.advance(millis(40_000));
    assert_eq!(kafka.closed, [silent, busy]);
    assert_eq!(kafka.cluster.next_wake(), None, "nobody is left to look after");
}

#[test]
fn time_that_is_skipped_makes_nobody_idle() {
    let mut kafka = kafka(&[]);
    connect(&mut kafka);
    kafka.control(Command::Advance(millis(86_400_000)));
    kafka.advance(millis(1_000));
    assert_eq!(kafka.closed, []);
}
