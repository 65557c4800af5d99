//! Which requests a plan means, how often it happens, what can never happen, and what is remembered of requests.

use super::world::{ORDERS, World, hello, produce};
use rehearsal_mockbroker::config::{ClusterConfig, TopicConfig};
use rehearsal_mockbroker::control::Command;
use rehearsal_mockbroker::error::ErrorCode;
use rehearsal_mockbroker::fault::{Fault, FaultId, Lie, Requests};
use rehearsal_mockbroker::state::nodes::NodeId;
use rehearsal_mockbroker::wire::generated::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use rehearsal_mockbroker::wire::{ApiKey, Request, Response};

const CODE: ErrorCode = ErrorCode::KafkaStorageError;

fn is_refused(answer: Option<Response>) -> bool {
    match answer {
        Some(Response::Produce(produced)) => produced.responses[0].partition_responses[0].error_code == CODE.code(),
        other => panic!("not produced: {other:?}"),
    }
}

/// Which of these many requests a fault refuses.
fn hits(fault: Fault, requests: usize) -> Vec<usize> {
    let mut world = World::new();
    world.plan(fault);
    let client = world.connect();
    (0..requests).filter(|_| is_refused(world.ask(client, 9, produce(ORDERS, 0, "x")))).collect()
}

#[test]
fn once_is_the_default_and_more_often_is_said() {
    let produce = || Fault::on(ApiKey::Produce);
    assert_eq!(hits(produce().error(CODE), 5), [0]);
    assert_eq!(hits(produce().error(CODE).times(3), 5), [0, 1, 2]);
    assert_eq!(hits(produce().error(CODE).always(), 5), [0, 1, 2, 3, 4]);
    assert_eq!(hits(produce().skip(2).error(CODE), 5), [2]);
    assert_eq!(hits(produce().skip(1).error(CODE).times(2), 5), [1, 2]);
}

#[test]
fn chance_is_the_seeds_and_about_as_likely_as_said() {
    let fault = || Fault::on(ApiKey::Produce).error(CODE).probability(0.25);
    let hit = hits(fault(), 400);
    assert_eq!(hit, hits(fault(), 400), "equal seeds, equal chance");
    assert!((60..=140).contains(&hit.len()), "{} of 400 at 25 %", hit.len());
    assert_eq!(hits(fault().times(2), 400), hit[..2]);
}

#[test]
fn every_word_narrows_what_is_meant() {
    let produce = || Fault::on(ApiKey::Produce);
    let none: [usize; 0] = [];
    assert_eq!(hits(produce().client("teller").error(CODE), 1), [0]);
    assert_eq!(hits(produce().client("somebody").error(CODE), 1), none);
    assert_eq!(hits(produce().broker(1).error(CODE), 1), [0]);
    assert_eq!(hits(produce().versions(9..=9).error(CODE), 1), [0]);
    assert_eq!(hits(produce().versions(10..=13).error(CODE), 1), none);
    assert_eq!(hits(produce().topic("other").error(CODE), 1), none);
    assert_eq!(hits(produce().partition(1).error(CODE), 1), none);
    assert_eq!(hits(produce().partition(0).error(CODE), 1), [0]);
    let acks = |wanted: i16| move |request: &Request| matches!(request, Request::Produce(body) if body.acks == wanted);
    assert_eq!(hits(produce().matching(acks(1)).error(CODE), 1), [0]);
    assert_eq!(hits(produce().matching(acks(-1)).error(CODE), 1), none);
    assert_eq!(hits(Fault::on_any().topic(ORDERS).error(CODE), 1), [0]);
}

#[test]
fn an_incremental_fetch_names_what_its_session_does() {
    let mut world = World::new();
    let client = world.connect();
    let partition = FetchPartition {
        partition_max_bytes: 1_000,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        fetch_offset: 1,
        ..Default::default()
    };
    let topic = FetchTopic { topic: ORDERS.into(), partitions: vec![partition], ..Default::default() };
    let opening = FetchRequest { max_bytes: 1_000, session_epoch: 0, topics: vec![topic], ..Default::default() };
    let Some(Response::Fetch(opened)) = world.ask(client, 12, opening) else { panic!("no session") };
    let fault = world.plan(Fault::on(ApiKey::Fetch).topic(ORDERS).partition(0).error(CODE));

    let session_id = opened.session_id;
    assert_ne!(session_id, 0);
    let next = FetchRequest { max_bytes: 1_000, session_id, session_epoch: 1, ..Default::default() };
    let Some(Response::Fetch(fetched)) = world.ask(client, 12, next) else { panic!("no answer") };
    assert_eq!(fetched.responses[0].partitions[0].error_code, CODE.code());
    assert_eq!(world.fault(fault).hits, 1);
}

#[test]
fn what_can_never_happen_is_refused_with_the_reason() {
    let mut config = ClusterConfig::with_brokers(1);
    config.topics = vec![TopicConfig::new(ORDERS, 2)];
    config.configs.insert("auto.create.topics.enable".into(), "false".into());
    let mut cluster = rehearsal_mockbroker::cluster::Cluster::new(&config).expect("a good config");
    let lie = |lie| Fault::on(ApiKey::Metadata).lie(lie);
    let produce = || Fault::on(ApiKey::Produce);
    let impossible = [
        Fault::on(ApiKey::AddRaftVoter).disconnect(),
        produce().versions(90..=99).disconnect(),
        Fault::on(ApiKey::Heartbeat).topic(ORDERS).disconnect(),
        Fault::on(ApiKey::CreateTopics).partition(0).disconnect(),
        Fault::on(ApiKey::Metadata).group("billing").disconnect(),
        produce().topic("oders").disconnect(),
        produce().topic(ORDERS).partition(2).disconnect(),
        produce().broker(7).disconnect(),
        produce().error(CODE).times(0),
        produce().error(CODE).probability(1.5),
        produce().error(ErrorCode::None),
        produce().corrupt_batch(),
        produce().stale_metadata(),
        lie(Lie::NoTopic("oders".into())),
        lie(Lie::Partitions { topic: ORDERS.into(), count: 2 }),
        lie(Lie::Partitions { topic: ORDERS.into(), count: -1 }),
        lie(Lie::Leader { topic: ORDERS.into(), partition: 2, leader: NodeId(1) }),
        lie(Lie::Leader { topic: ORDERS.into(), partition: 0, leader: NodeId(7) }),
        lie(Lie::NoBroker(NodeId(7))),
    ];
    let told: Vec<_> = impossible
        .into_iter()
        .map(|fault| cluster.plan(fault).map_or_else(|impossible| impossible.to_string(), |_| "planned".into()))
        .collect();
    insta::assert_snapshot!(told.join("\n"));
    assert!(cluster.faults().is_empty());
}

#[test]
fn a_fault_is_overdue_until_it_has_happened_unless_it_may_not() {
    let mut world = World::new();
    let fault = world.plan(Fault::on(ApiKey::Produce).error(CODE));
    let maybe = world.plan(Fault::on(ApiKey::Fetch).error(CODE).may_not_fire());
    assert!(world.fault(fault).overdue && !world.fault(maybe).overdue);
    let client = world.connect();
    world.ask(client, 9, produce(ORDERS, 0, "x"));
    assert!(!world.fault(fault).overdue);
}

#[test]
fn a_reset_forgets_faults_and_gives_no_id_out_again() {
    let mut world = World::new();
    let old = world.plan(Fault::on(ApiKey::Produce).error(CODE));
    let client = world.connect();
    let outputs = world.cluster.reset(world.now).expect("it was built once");
    assert!(!outputs.is_empty());
    assert_eq!(world.cluster.hits(old), None);
    let new = world.plan(Fault::on(ApiKey::Produce).error(CODE));
    assert_ne!(new, old, "who holds the old one must not see the new one's hits");
    assert_eq!(world.ask(client, 9, produce(ORDERS, 0, "x")), None, "its connection is gone");
    assert!(world.try_control(Command::Release(FaultId(99))).is_err());
}

// ---- what is remembered ----

#[test]
fn the_journal_keeps_the_most_recent_requests_and_says_how_many_it_let_go() {
    let mut config = ClusterConfig::with_brokers(1);
    config.topics = vec![TopicConfig::new(ORDERS, 2), TopicConfig::new("other", 1)];
    config.configs.insert("group.initial.rebalance.delay.ms".into(), "0".into());
    config.requests_kept = 10;
    let mut world = World::with(&config);
    let client = world.connect();
    let asked_before = world.cluster.requests_dropped() + world.cluster.requests(&Requests::any()).count() as u64;
    for _ in 0..100 {
        world.ask(client, 3, hello());
    }
    let kept: Vec<_> = world.cluster.requests(&Requests::any()).map(|request| request.number).collect();
    assert_eq!(kept.len(), 10);
    assert!(kept.is_sorted() && kept[9] == asked_before + 100);
    assert_eq!(world.cluster.requests_dropped(), asked_before + 90);
}

#[test]
fn a_look_up_skips_as_a_fault_does() {
    let mut world = World::new();
    let client = world.connect();
    for value in ["a", "b", "c"] {
        world.ask(client, 9, produce("other", 0, value));
    }
    let which = Requests::of(ApiKey::Produce).topic("other");
    let all: Vec<_> = world.cluster.requests(&which).map(|request| request.number).collect();
    let later = which.skip(2);
    let rest: Vec<_> = world.cluster.requests(&later).map(|request| request.number).collect();
    assert_eq!((all.len(), &rest[..]), (4, &all[2..]), "the first is the one the world was made with");
}
