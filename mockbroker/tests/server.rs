//! The TCP driver as a client sees it.

#![allow(clippy::disallowed_methods, reason = "the driver is tested over real sockets and in real time")]

use rehearsal_mockbroker::fault::Fault;
use rehearsal_mockbroker::testing::{MockCluster, WaitError};
use rehearsal_mockbroker::wire::ApiKey;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// ApiVersions version 0, correlation id 7, no client id.
const API_VERSIONS: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the broker listens");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    stream
}

fn ask(stream: &mut TcpStream, frame: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(frame)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut body = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut body)?;
    Ok(body)
}

fn only_address(kafka: &MockCluster) -> String {
    kafka.advertised()[0].1.clone()
}

#[test]
fn a_broker_answers_as_soon_as_it_has_started() {
    let kafka = MockCluster::builder().start().expect("a free port");
    let answer = ask(&mut connect(&only_address(&kafka)), &API_VERSIONS).expect("an answer");
    assert_eq!(answer[..6], [0, 0, 0, 7, 0, 0], "correlation id 7, no error");
}

#[test]
fn hostile_bytes_close_one_connection_and_no_other() {
    let kafka = MockCluster::builder().start().expect("a free port");
    let address = only_address(&kafka);
    let mut honest = connect(&address);
    for hostile in [&[0x7f, 0xff, 0xff, 0xff][..], &[0, 0, 0, 10, 0x7f, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff]] {
        let closed = ask(&mut connect(&address), hostile).expect_err("the connection is closed");
        assert!(
            matches!(closed.kind(), std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset),
            "{closed}"
        );
        ask(&mut honest, &API_VERSIONS).expect("the honest connection goes on");
    }
}

#[test]
fn an_address_with_all_its_connections_gets_no_more() {
    let kafka = MockCluster::builder().config("max.connections.per.ip", "2").start().expect("a free port");
    let address = only_address(&kafka);
    let (mut first, mut second) = (connect(&address), connect(&address));
    ask(&mut first, &API_VERSIONS).expect("the first is welcome");
    ask(&mut second, &API_VERSIONS).expect("so is the second");
    assert!(ask(&mut connect(&address), &API_VERSIONS).is_err(), "the third is closed");
    ask(&mut first, &API_VERSIONS).expect("the others go on");
}

#[test]
fn a_broker_with_all_its_connections_lets_more_wait() {
    let kafka = MockCluster::builder().config("max.connections", "1").start().expect("a free port");
    let address = only_address(&kafka);
    let mut first = connect(&address);
    ask(&mut first, &API_VERSIONS).expect("the first is welcome");
    let second = std::thread::spawn(move || ask(&mut connect(&address), &API_VERSIONS));
    ask(&mut first, &API_VERSIONS).expect("the first goes on");
    drop(first);
    second.join().expect("no panic").expect("the second is served when the first has gone");
}

#[test]
fn a_crashed_broker_refuses_and_a_restarted_one_answers_on_its_port() {
    let kafka = MockCluster::builder().brokers(2).start().expect("free ports");
    let address = kafka.advertised()[1].1.clone();
    let mut open = connect(&address);
    ask(&mut open, &API_VERSIONS).expect("it runs");

    kafka.crash(2).expect("it runs");
    assert!(ask(&mut open, &API_VERSIONS).is_err(), "open connections are cut");
    assert!(TcpStream::connect(&address).is_err(), "nobody listens any more when the call returns");

    kafka.start_broker(2).expect("it is down");
    ask(&mut connect(&address), &API_VERSIONS).expect("it runs again");
}

#[test]
fn a_broker_listens_again_however_soon_it_is_restarted() {
    let kafka = MockCluster::builder().start().expect("a free port");
    let address = only_address(&kafka);
    for _ in 0..200 {
        kafka.crash(1).expect("it runs");
        kafka.start_broker(1).expect("it is down");
        ask(&mut connect(&address), &API_VERSIONS).expect("it runs again");
    }
}

#[test]
fn whoever_still_waits_when_the_cluster_is_dropped_hears_that_it_stopped() {
    let kafka = MockCluster::builder().topic("orders", 1).start().expect("a free port");
    let fault = kafka.plan(Fault::on(ApiKey::Produce).disconnect().may_not_fire()).expect("it can happen");
    let wait = kafka.wait_for().hits(&fault, 1);
    let mut stream = kafka.stream(1).expect("it runs");
    drop(kafka);
    assert_eq!(wait.blocking(), Err(WaitError::Stopped), "though the fault's handle is still here");
    assert_eq!(fault.hits(), 0);

    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let read = runtime.block_on(tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 8]));
    assert_eq!(read.expect("the end of the stream"), 0);
}

#[test]
fn a_dropped_cluster_frees_its_ports_at_once() {
    let kafka = MockCluster::builder().start().expect("a free port");
    let address = only_address(&kafka);
    drop(kafka);
    assert!(TcpStream::connect(&address).is_err());
    std::net::TcpListener::bind(&address).expect("the port is free");
}

#[test]
fn ports_past_the_last_one_are_refused_with_advice() {
    let error = MockCluster::builder().brokers(3).port(65_534).start().expect_err("65536 is no port");
    assert!(error.to_string().contains("lower base port"), "{error}");
}
