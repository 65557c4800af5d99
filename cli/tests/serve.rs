//! `rehearsal serve` as another program sees it: flags in, one JSON line out, sockets, signals, exit codes.

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::metadata::Metadata;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Long enough for a busy machine; only a broken program takes it.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn the_ready_line_names_every_broker_as_clients_are_told() {
    let server = Server::start(&["--brokers", "3", "--port", "0", "--first-id", "7"]);

    let brokers = server.ready["brokers"].as_array().unwrap();
    let ids: Vec<_> = brokers.iter().map(|broker| broker["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, [7, 8, 9]);
    let addresses: Vec<_> = brokers.iter().map(address).collect();
    assert_eq!(server.ready["bootstrap"], addresses.join(","));
    let racks: Vec<_> = brokers.iter().map(|broker| broker["rack"].as_str().unwrap()).collect();
    assert_eq!(racks, ["rack-7", "rack-8", "rack-9"]);
    for address in addresses {
        TcpStream::connect(address).unwrap();
    }
}

#[test]
fn topics_and_defaults_are_what_the_flags_say() {
    let server = Server::start(&[
        "--brokers=3",
        "--port=0",
        "--topic=orders:6",
        "--topic=audit:2:1",
        "--default-partitions=4",
        "--auto-create=true",
    ]);

    let metadata = server.metadata(None);
    assert_eq!(metadata.brokers().len(), 3);
    assert_eq!(shape(&metadata, "orders"), Some((6, 3)));
    assert_eq!(shape(&metadata, "audit"), Some((2, 1)));

    server.metadata(Some("invoices"));
    assert_eq!(shape(&server.metadata(None), "invoices").map(|(partitions, _)| partitions), Some(4));
}

#[test]
fn without_auto_create_a_topic_nobody_made_stays_away() {
    let server = Server::start(&["--port=0", "--auto-create", "false"]);

    server.metadata(Some("invoices"));

    assert_eq!(shape(&server.metadata(None), "invoices"), None);
}

#[test]
fn a_broker_config_by_kafkas_name_is_in_force() {
    let server = Server::start(&["--port=0", "--config", "num.partitions=5"]);

    server.metadata(Some("invoices"));

    assert_eq!(shape(&server.metadata(None), "invoices").map(|(partitions, _)| partitions), Some(5));
}

#[test]
fn advertised_addresses_are_told_instead_of_those_listened_on() {
    let server =
        Server::start(&["--brokers=2", "--port=0", "--advertise-host=kafka.example", "--advertise-port=19092"]);

    assert_eq!(server.ready["bootstrap"], "kafka.example:19092,kafka.example:19093");
}

#[test]
fn without_racks_a_broker_is_in_none() {
    let server = Server::start(&["--port=0", "--no-racks"]);

    assert_eq!(server.ready["brokers"][0]["rack"], Value::Null);
}

#[test]
#[cfg(unix)]
fn sigterm_and_sigint_end_it_cleanly_and_free_its_ports() {
    for signal in ["-TERM", "-INT"] {
        let server = Server::start(&["--brokers=2", "--port=0"]);
        let addresses: Vec<_> = server.ready["brokers"].as_array().unwrap().iter().map(address).collect();
        let _held_open = TcpStream::connect(&addresses[0]).unwrap();

        let rest = server.signal(signal);

        assert_eq!(rest.status.code(), Some(0), "after {signal}: {}", String::from_utf8_lossy(&rest.stderr));
        assert!(rest.stdout.is_empty(), "standard output holds the ready line alone");
        for address in addresses {
            assert!(TcpStream::connect(&address).is_err(), "{address} still answers after {signal}");
        }
    }
}

#[test]
fn a_port_in_use_is_named_together_with_the_way_out() {
    let server = Server::start(&["--port=0"]);
    let port = server.ready["brokers"][0]["port"].to_string();

    let refused = run(&["serve", "--port", &port]);

    assert_eq!(refused.status.code(), Some(1));
    let said = said(&refused);
    assert!(said.contains(&port) && said.contains("choose another port"), "{said}");
    assert!(refused.stdout.is_empty());
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused_with_what_to_say_instead() {
    let cases: [(&[&str], i32, &str); 14] = [
        (&["--brokers", "0"], 2, "1..=100"),
        (&["--brokers", "many"], 2, "invalid value 'many'"),
        (&["--first-id", "-1"], 2, "--first-id"),
        (&["--port", "70000"], 2, "0..=65535"),
        (&["--topic", "orders"], 2, "orders:6:3"),
        (&["--topic", "orders:none"], 2, "'none' is no number of partitions"),
        (&["--topic", "orders:6:0"], 2, "'0' is no number of replicas"),
        (&["--topic", "orders:6:3", "--port", "0"], 1, "orders"),
        (&["--auto-create", "maybe"], 2, "[possible values: true, false]"),
        (&["--config", "num.partitions"], 2, "KEY=VALUE"),
        (&["--config", "num.partitions=none", "--port", "0"], 1, "num.partitions"),
        (&["--config", "num.partitions=2", "--default-partitions", "3"], 1, "keep one"),
        (&["--brokers", "3", "--port", "65534"], 1, "lower base port"),
        (&["--as", "1.0"], 2, "say one of 2.8, 3.0"),
    ];
    for (flags, code, hint) in cases {
        let refused = run(&[&["serve"], flags].concat());

        let said = said(&refused);
        assert_eq!(refused.status.code(), Some(code), "{flags:?}: {said}");
        assert!(said.contains(hint), "{flags:?} should hint at '{hint}': {said}");
        assert!(refused.stdout.is_empty(), "{flags:?} printed to standard output");
    }
}

#[test]
fn a_client_logs_in_where_it_must_and_sees_what_it_may() {
    let server = Server::start(&[
        "--listen=PLAINTEXT://127.0.0.1:0,SASL_PLAINTEXT://127.0.0.1:0",
        "--user=admin:s3:cret:PLAIN",
        "--user=alice:alice-secret",
        "--authorizer=standard",
        "--super-user=User:admin",
        "--topic=orders:2",
    ]);
    let listeners = &server.ready["listeners"];
    assert_eq!(server.ready["bootstrap"], listeners["PLAINTEXT"]);
    let topics_of = |user: &str, password: &str| {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", listeners["SASL_PLAINTEXT"].as_str().unwrap())
            .set("group.id", "curious")
            .set("security.protocol", "sasl_plaintext")
            .set("sasl.mechanisms", "PLAIN")
            .set("sasl.username", user)
            .set("sasl.password", password)
            .create()
            .unwrap();
        let metadata = consumer.fetch_metadata(None, PATIENCE).unwrap();
        let names = metadata.topics().iter().map(|topic| topic.name().to_owned());
        // The groups' own topic is there as soon as the client has looked for its coordinator.
        names.filter(|name| name != "__consumer_offsets").collect::<Vec<_>>()
    };

    assert_eq!(topics_of("admin", "s3:cret"), ["orders"], "a super user; the password holds a colon");
    assert!(topics_of("alice", "alice-secret").is_empty(), "nobody has allowed her anything");
    assert!(server.metadata(None).topics().is_empty(), "nor those who say nothing of themselves");
}

#[test]
fn no_message_repeats_a_password() {
    let sasl = "--listen=SASL_PLAINTEXT://127.0.0.1:0";
    let cases: [(&[&str], &str); 5] = [
        (&[sasl, "--user=hunter2"], "has no colon"),
        (&[sasl, "--user=:hunter2"], "lacks its name"),
        (&[sasl, "--user=alice:hunter2:OAUTHBEARER"], "OAUTHBEARER"),
        (&["--user=alice:hunter2"], "nobody logs in anywhere"),
        (&["--listen=SSL://127.0.0.1:0", "--user=alice:hunter2"], "--listen a SASL_PLAINTEXT"),
    ];
    for (flags, hint) in cases {
        let refused = run(&[&["serve"], flags].concat());

        let said = said(&refused);
        assert_eq!(refused.status.code(), Some(1), "{flags:?}: {said}");
        assert!(said.contains(hint) && !said.contains("hunter2"), "{flags:?}: {said}");
    }
}

#[test]
fn listeners_and_certificates_that_do_not_fit_are_refused_with_what_to_say_instead() {
    let plain = "--listen=PLAINTEXT://127.0.0.1:0";
    let cases: [(&[&str], i32, &str); 9] = [
        (&["--listen=127.0.0.1:9092"], 2, "PROTOCOL://ADDRESS:PORT"),
        (&["--listen=HTTP://127.0.0.1:9092"], 2, "SASL_PLAINTEXT and SASL_SSL"),
        (&["--listen=PLAINTEXT://nowhere:9092"], 2, "'nowhere' is no address"),
        (&[plain, "--port=9092"], 2, "cannot be used with"),
        (&["--listen=PLAINTEXT://127.0.0.1:0,PLAINTEXT://127.0.0.1:0"], 1, "give each a name of its own"),
        (&["--listen=SSL://127.0.0.1:0"], 1, "needs --tls-cert and --tls-key"),
        (&[plain, "--tls-cert=a.pem", "--tls-key=b.pem"], 1, "nothing is encrypted"),
        (&["--listen=SSL://127.0.0.1:0", "--tls-cert=/nowhere.pem", "--tls-key=/nowhere.pem"], 1, "/nowhere.pem"),
        (&["--super-user=User:admin"], 2, "--authorizer"),
    ];
    for (flags, code, hint) in cases {
        let refused = run(&[&["serve"], flags].concat());

        let said = said(&refused);
        assert_eq!(refused.status.code(), Some(code), "{flags:?}: {said}");
        assert!(said.contains(hint), "{flags:?} should hint at '{hint}': {said}");
    }
}

/// A running `rehearsal serve`; killed when a test is done with it.
struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    ready: Value,
}

impl Server {
    fn start(flags: &[&str]) -> Self {
        let mut child = command().arg("serve").args(flags).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|error| {
            let _ = child.kill();
            panic!("the ready line is no JSON ({error}): {line:?}; {flags:?}")
        });
        Self { child, stdout, ready }
    }

    /// What librdkafka learns from it: of all topics, or of one, which it thereby asks for.
    fn metadata(&self, topic: Option<&str>) -> Metadata {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.ready["bootstrap"].as_str().unwrap())
            .set("group.id", "curious")
            .set("allow.auto.create.topics", "true")
            .create()
            .unwrap();
        consumer.fetch_metadata(topic, PATIENCE).unwrap()
    }

    #[cfg(unix)]
    fn signal(mut self, signal: &str) -> Output {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let mut stdout = Vec::new();
        self.stdout.read_to_end(&mut stdout).unwrap();
        let status = self.child.wait().unwrap();
        let mut stderr = Vec::new();
        self.child.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
        Output { status, stdout, stderr }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the program to its end; one that goes on past [`PATIENCE`] is killed.
fn run(args: &[&str]) -> Output {
    let mut child = command().args(args).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (done, ended) = mpsc::channel();
    let readers = std::thread::spawn(move || {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        stdout.read_to_end(&mut out).unwrap();
        stderr.read_to_end(&mut err).unwrap();
        let _ = done.send(());
        (out, err)
    });
    let in_time = ended.recv_timeout(PATIENCE).is_ok();
    if !in_time {
        let _ = child.kill();
    }
    let status = child.wait().unwrap();
    let (stdout, stderr) = readers.join().unwrap();
    assert!(in_time, "{args:?} went on: {}", String::from_utf8_lossy(&stdout));
    Output { status, stdout, stderr }
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rehearsal"));
    command.stdin(Stdio::null()).stderr(Stdio::piped()).env_remove("RUST_LOG");
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn address(broker: &Value) -> String {
    format!("{}:{}", broker["host"].as_str().unwrap(), broker["port"])
}

/// Partitions and replicas of a topic, if it exists.
fn shape(metadata: &Metadata, topic: &str) -> Option<(usize, usize)> {
    let topic = metadata.topics().iter().find(|known| known.name() == topic)?;
    Some((topic.partitions().len(), topic.partitions().first()?.replicas().len()))
}
