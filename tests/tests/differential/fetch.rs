//! Reading: records, limits, waiting, sessions, offsets by time and by epoch.

use std::time::{Duration, Instant};

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{
    BrokerId, DeleteTopicsRequest, FetchRequest, ListOffsetsRequest, OffsetForLeaderEpochRequest, TopicName,
};
use tests::differential::{EARLIER, MAIN, Stage};
use uuid::Uuid;

use crate::verbs::{batch, fetch, fetch_topics, from, produce, store, text};

pub(crate) fn by_id(id: Uuid, partitions: Vec<FetchPartition>) -> FetchRequest {
    fetch_topics(vec![FetchTopic::default().with_topic_id(id).with_partitions(partitions)])
}

pub(crate) fn fetch_versions(stage: &mut Stage) {
    let orders = stage.create_topic("orders", 2);
    let id = stage.topic_id(&orders);
    store(stage, &orders, 0, &batch(&["a", "b"]));
    store(stage, &orders, 0, &batch(&["c"]).from_producer(77, 0, 0));
    store(stage, &orders, 1, &batch(&["d"]));
    for version in 4..=12 {
        let request = fetch(&orders, vec![from(0, 0), from(1, 0)]);
        stage.ask(&format!("both partitions, version {version}"), version, &request);
    }
    for version in 13..=18 {
        let request = by_id(id, vec![from(0, 0), from(1, 0)]);
        stage.ask(&format!("both partitions, version {version}"), version, &request);
    }
    for version in [4, 12] {
        stage.ask(&format!("inside a batch, version {version}"), version, &fetch(&orders, vec![from(0, 1)]));
        stage.ask(&format!("at the end, version {version}"), version, &fetch(&orders, vec![from(0, 3)]));
        let committed = fetch(&orders, vec![from(0, 0)]).with_isolation_level(1);
        stage.ask(&format!("read committed, version {version}"), version, &committed);
    }
    stage.ask("no topics", 12, &fetch_topics(vec![]));
    stage.ask("with a rack", 12, &fetch(&orders, vec![from(0, 0)]).with_rack_id(text("here")));
    stage.ask("the same partition twice", 12, &fetch(&orders, vec![from(0, 0), from(0, 2)]));
}

pub(crate) fn fetch_long_poll(stage: &mut Stage) {
    let orders = stage.create_topic("orders", 2);
    let waiting =
        |offset, min_bytes| fetch(&orders, vec![from(0, offset)]).with_max_wait_ms(8_000).with_min_bytes(min_bytes);
    let reader = stage.connect("reader");

    let asked = Instant::now();
    stage.ask("a wait that ends empty", 12, &waiting(0, 1).with_max_wait_ms(300));
    stage.note("waited as long as asked", asked.elapsed() >= Duration::from_millis(290));

    let asked = Instant::now();
    let awaited = stage.send(reader, 12, &waiting(0, 1));
    store(stage, &orders, 0, &batch(&["wakes it"]));
    stage.collect("woken by a record", awaited);
    stage.note("woken at once", asked.elapsed() < Duration::from_secs(4));

    let asked = Instant::now();
    let awaited = stage.send(reader, 12, &waiting(1, 150));
    store(stage, &orders, 0, &batch(&["too little"]));
    store(stage, &orders, 1, &batch(&["elsewhere"]));
    store(stage, &orders, 0, &batch(&["enough together with this much longer one, of some more bytes than before"]));
    stage.collect("woken by enough bytes", awaited);
    stage.note("woken by bytes at once", asked.elapsed() < Duration::from_secs(4));

    let first = stage.send(reader, 12, &waiting(3, 1));
    let second = stage.send(reader, 12, &fetch(&orders, vec![from(0, 0)]));
    store(stage, &orders, 0, &batch(&["releases both"]));
    stage.collect("the waiting one is answered first", first);
    stage.collect("the one behind it second", second);

    let asked = Instant::now();
    let error = fetch(&orders, vec![from(0, 99)]).with_max_wait_ms(8_000).with_min_bytes(1);
    stage.ask("an error does not wait", 12, &error);
    stage.ask("no partitions do not wait", 12, &fetch_topics(vec![]).with_max_wait_ms(8_000).with_min_bytes(1));
    stage.note("answered at once", asked.elapsed() < Duration::from_secs(4));

    let doomed = stage.create_topic("doomed", 1);
    let awaited = stage.send(reader, 12, &fetch(&doomed, vec![from(0, 0)]).with_max_wait_ms(2_000).with_min_bytes(1));
    stage.quietly(5, &DeleteTopicsRequest::default().with_topic_names(vec![doomed.clone()]).with_timeout_ms(10_000));
    stage.collect("the topic goes while it waits", awaited);
}

pub(crate) fn fetch_byte_limits(stage: &mut Stage) {
    let orders = stage.create_topic("orders", 3);
    let hundred = "x".repeat(100);
    for partition in 0..3 {
        for _ in 0..4 {
            store(stage, &orders, partition, &batch(&[&hundred]));
        }
    }
    let one = |max| from(0, 0).with_partition_max_bytes(max);
    for max in [0, 1, 100, 173, 174, 400, 1000] {
        stage.ask(&format!("{max} bytes a partition"), 12, &fetch(&orders, vec![one(max)]));
        let all = fetch(&orders, vec![from(0, 0), from(1, 0), from(2, 0)]).with_max_bytes(max);
        stage.ask(&format!("{max} bytes in all"), 12, &all);
    }
    let three = vec![one(300), from(1, 0).with_partition_max_bytes(10), from(2, 2).with_partition_max_bytes(10)];
    stage.ask("small limits for the second and third", 12, &fetch(&orders, three));
    let after_empty =
        vec![from(0, 4), from(1, 0).with_partition_max_bytes(10), from(2, 0).with_partition_max_bytes(10)];
    stage.ask("the first has nothing", 12, &fetch(&orders, after_empty));
    stage.ask("from the middle", 12, &fetch(&orders, vec![from(0, 2).with_partition_max_bytes(200)]));
    stage.ask("a negative limit", 12, &fetch(&orders, vec![one(-1)]));
    let two = |min| fetch(&orders, vec![from(0, 0)]).with_min_bytes(min).with_max_wait_ms(200);
    stage.ask("more at least than there is", 12, &two(100_000));
}

pub(crate) fn fetch_refused(stage: &mut Stage) {
    let orders = stage.create_topic("orders", 1);
    let id = stage.topic_id(&orders);
    store(stage, &orders, 0, &batch(&["a", "b", "c"]));
    for version in [4, 8, 12] {
        let ask = |partition| fetch(&orders, vec![partition]);
        stage.ask(&format!("beyond the end, version {version}"), version, &ask(from(0, 4)));
        stage.ask(&format!("a negative offset, version {version}"), version, &ask(from(0, -1)));
        stage.ask(&format!("an unknown partition, version {version}"), version, &ask(from(7, 0)));
        let unknown = fetch(&stage.topic("unknown"), vec![from(0, 0)]);
        stage.ask(&format!("an unknown topic, version {version}"), version, &unknown);
    }
    for version in [13, 18] {
        let unknown = by_id(Uuid::from_u128(0xfeed), vec![from(0, 0)]);
        stage.ask(&format!("an unknown id, version {version}"), version, &unknown);
        stage.ask(&format!("the nil id, version {version}"), version, &by_id(Uuid::nil(), vec![from(0, 0)]));
        stage.ask(&format!("an unknown partition by id, version {version}"), version, &by_id(id, vec![from(7, 0)]));
    }
    for epoch in [0, 1, 5] {
        let partition = from(0, 0).with_current_leader_epoch(epoch);
        stage.ask(&format!("current epoch {epoch}"), 12, &fetch(&orders, vec![partition]));
    }
    for epoch in [0, 1, 5] {
        let partition = from(0, 1).with_last_fetched_epoch(epoch);
        stage.ask(&format!("last fetched epoch {epoch}"), 12, &fetch(&orders, vec![partition]));
    }
    for (label, partition) in
        [("beyond the end", from(0, 9)), ("a later epoch", from(0, 0).with_current_leader_epoch(5))]
    {
        let committed = fetch(&orders, vec![partition]).with_isolation_level(1);
        stage.ask(&format!("{label}, read committed"), 12, &committed);
    }
    stage.ask("an unknown isolation", 12, &fetch(&orders, vec![from(0, 0)]).with_isolation_level(9));
    let mixed = vec![from(0, 0), from(0, 99), from(5, 0)];
    stage.ask("good, beyond and unknown together", 12, &fetch(&orders, mixed));
    stage.ask("an invalid topic", 12, &fetch(&text("bad name").into(), vec![from(0, 0)]));
    stage.ask("an empty topic name", 12, &fetch(&text("").into(), vec![from(0, 0)]));
}

pub(crate) fn fetch_sessions(stage: &mut Stage) {
    let orders = stage.create_topic("orders", 3);
    let id = stage.topic_id(&orders);
    store(stage, &orders, 0, &batch(&["a"]));
    let in_session = |session, epoch, partitions: Vec<FetchPartition>| {
        let topics = match partitions.is_empty() {
            true => vec![],
            false => vec![FetchTopic::default().with_topic_id(id).with_partitions(partitions)],
        };
        fetch_topics(topics).with_session_id(session).with_session_epoch(epoch)
    };
    let all = vec![from(0, 0), from(1, 0), from(2, 0)];
    let session = stage.ask("a new session", 17, &in_session(0, 0, all.clone())).session_id;
    stage.note("it has an id", session != 0);
    stage.ask("nothing changed but what was not read", 17, &in_session(session, 1, vec![]));
    stage.ask("an offset moved on", 17, &in_session(session, 2, vec![from(0, 1)]));
    stage.ask("nothing new", 17, &in_session(session, 3, vec![]));
    store(stage, &orders, 1, &batch(&["b"]));
    stage.ask("one partition has news", 17, &in_session(session, 4, vec![]));
    store(stage, &orders, 2, &batch(&["c"]));
    let forget = ForgottenTopic::default().with_topic_id(id).with_partitions(vec![1]);
    let forgetting = in_session(session, 5, vec![]).with_forgotten_topics_data(vec![forget.clone()]);
    stage.ask("one partition forgotten", 17, &forgetting);
    stage.ask("and added again", 17, &in_session(session, 6, vec![from(1, 0)]));
    stage.ask("a wrong epoch", 17, &in_session(session, 42, vec![]));
    stage.ask("an epoch gone by", 17, &in_session(session, 3, vec![]));
    stage.ask("an unknown session", 17, &in_session(session.wrapping_add(1).max(1), 1, vec![]));
    stage.ask("a wrong partition in a session", 17, &in_session(session, 7, vec![from(9, 0)]));
    stage.ask("its error is repeated", 17, &in_session(session, 8, vec![]));
    let forget_it = ForgottenTopic::default().with_topic_id(id).with_partitions(vec![9]);
    stage.ask("until forgotten", 17, &in_session(session, 9, vec![]).with_forgotten_topics_data(vec![forget_it]));
    let waits =
        in_session(session, 10, vec![from(0, 1), from(1, 1), from(2, 1)]).with_min_bytes(1).with_max_wait_ms(8_000);
    let reader = stage.connect("reader");
    let awaited = stage.send(reader, 17, &waits);
    store(stage, &orders, 2, &batch(&["d"]));
    stage.collect("a long poll in a session", awaited);
    stage.ask("made anew in its place", 17, &in_session(session, 0, vec![from(0, 0)]));
    stage.ask("the old one is gone", 17, &in_session(session, 1, vec![]));
    let last = stage.ask("another session", 17, &in_session(0, 0, vec![from(2, 0)])).session_id;
    stage.ask("closed", 17, &in_session(last, -1, vec![]));
    stage.ask("after closing", 17, &in_session(last, 1, vec![]));
    stage.ask("an id with no epoch", 17, &in_session(0, 5, vec![from(0, 0)]));

    let named =
        |session, epoch, partitions| fetch(&orders, partitions).with_session_id(session).with_session_epoch(epoch);
    let session = stage.ask("a session by names, version 7", 7, &named(0, 0, vec![from(0, 0), from(1, 0)])).session_id;
    stage.ask("its second fetch", 7, &named(session, 1, vec![from(0, 1), from(1, 1)]));
    stage.ask("by id in a session by name", 17, &in_session(session, 2, vec![from(0, 0)]));
    let unknown = stage.topic("unknown");
    let strangers = fetch(&unknown, vec![from(0, 0)]).with_session_id(0).with_session_epoch(0);
    stage.ask("a session on an unknown topic, version 12", 12, &strangers);
    let none = in_session(0, 0, vec![]);
    stage.ask("a session on nothing", 17, &none);

    let brief = stage.create_topic("brief", 2);
    let brief_id = stage.topic_id(&brief);
    let of = |id, partitions| FetchTopic::default().with_topic_id(id).with_partitions(partitions);
    let stranger = of(Uuid::from_u128(0xfeed), vec![from(0, 0)]);
    let rows = vec![of(brief_id, vec![from(9, 0)]), stranger, of(brief_id, vec![from(1, 0)]), of(id, vec![from(0, 0)])];
    let mixed = fetch_topics(rows).with_session_id(0).with_session_epoch(0);
    let session = stage.ask("good, unknown and strange ones among each other", 17, &mixed).session_id;
    stage.ask("they are repeated", 17, &in_session(session, 1, vec![]));
    let delete = DeleteTopicsRequest::default().with_topic_names(vec![brief.clone()]).with_timeout_ms(10_000);
    stage.ask("one topic goes", 5, &delete);
    stage.await_gone(&brief);
    stage.ask("its name is still known", 17, &in_session(session, 2, vec![]));
}

pub(crate) fn offsets_at(topic: &TopicName, rows: &[(i32, i64)]) -> ListOffsetsRequest {
    let row = |(index, timestamp): &(i32, i64)| {
        ListOffsetsPartition::default()
            .with_partition_index(*index)
            .with_timestamp(*timestamp)
            .with_current_leader_epoch(-1)
    };
    let topic = ListOffsetsTopic::default().with_name(topic.clone()).with_partitions(rows.iter().map(row).collect());
    ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic])
}

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

pub(crate) fn list_offsets(stage: &mut Stage) {
    let orders = stage.create_topic("orders", 2);
    store(stage, &orders, 0, &batch(&["a", "b", "c"]).spread(10));
    for version in 1..=11 {
        stage.ask(&format!("latest, version {version}"), version, &offsets_at(&orders, &[(0, LATEST), (1, LATEST)]));
        stage.ask(
            &format!("earliest, version {version}"),
            version,
            &offsets_at(&orders, &[(0, EARLIEST), (1, EARLIEST)]),
        );
    }
    for version in [2, 10] {
        let committed = offsets_at(&orders, &[(0, LATEST)]).with_isolation_level(1);
        stage.ask(&format!("latest read committed, version {version}"), version, &committed);
    }
    for (label, special, first) in [
        ("max timestamp", MAX_TIMESTAMP, 7),
        ("earliest local", EARLIEST_LOCAL, 8),
        ("latest tiered", LATEST_TIERED, 9),
        ("earliest pending upload", EARLIEST_PENDING_UPLOAD, 11),
        ("an unknown special", -7, 11),
    ] {
        for version in [first - 1, first, 11] {
            let request = offsets_at(&orders, &[(0, special), (1, special)]);
            stage.ask(&format!("{label}, version {version}"), version, &request);
        }
    }
    stage.ask("an unknown partition", 10, &offsets_at(&orders, &[(9, LATEST)]));
    for version in [1, 4, 10] {
        let unknown = offsets_at(&stage.topic("unknown"), &[(0, LATEST)]);
        stage.ask(&format!("an unknown topic, version {version}"), version, &unknown);
    }
    stage.ask("a partition twice", 10, &offsets_at(&orders, &[(0, LATEST), (0, EARLIEST)]));
    for epoch in [0, 1, 9] {
        let mut request = offsets_at(&orders, &[(0, LATEST)]);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        stage.ask(&format!("current epoch {epoch}"), 10, &request);
    }
    stage.ask("as a follower that is none", 10, &offsets_at(&orders, &[(0, LATEST)]).with_replica_id(BrokerId(7)));
    stage.ask("as a debugging reader", 10, &offsets_at(&orders, &[(0, LATEST)]).with_replica_id(BrokerId(-2)));
    stage.ask("no topics", 10, &ListOffsetsRequest::default().with_replica_id(BrokerId(-1)));
    stage.ask("an invalid topic", 10, &offsets_at(&text("bad name").into(), &[(0, LATEST)]));
}

pub(crate) fn list_offsets_by_time(stage: &mut Stage) {
    let orders = stage.create_topic("orders", 1);
    let at = |ms| batch(&["x", "y", "z"]).spread(10).at(*EARLIER + ms);
    store(stage, &orders, 0, &at(100));
    store(stage, &orders, 0, &at(400));
    store(stage, &orders, 0, &at(200));
    store(stage, &orders, 0, &at(800));
    for ms in [0, 100, 101, 110, 120, 121, 200, 215, 400, 410, 421, 500, 800, 815, 820, 821, 5000] {
        for version in [1, 10] {
            let request = offsets_at(&orders, &[(0, *EARLIER + ms)]);
            stage.ask(&format!("at {ms} ms, version {version}"), version, &request);
        }
    }
    stage.ask("at time 0", 10, &offsets_at(&orders, &[(0, 0)]));
    stage.ask("max timestamp", 10, &offsets_at(&orders, &[(0, MAX_TIMESTAMP)]));
    store(stage, &orders, 0, &at(300));
    stage.ask("max timestamp, an earlier one at the end", 10, &offsets_at(&orders, &[(0, MAX_TIMESTAMP)]));
    store(stage, &orders, 0, &at(800));
    stage.ask("max timestamp twice", 10, &offsets_at(&orders, &[(0, MAX_TIMESTAMP)]));
    let appended = stage.create_topic_with("appended", 1, &[("message.timestamp.type", "LogAppendTime")]);
    store(stage, &appended, 0, &at(0));
    stage.ask("append time: at the client's time", 10, &offsets_at(&appended, &[(0, *EARLIER)]));
    stage.ask("append time: max timestamp", 10, &offsets_at(&appended, &[(0, MAX_TIMESTAMP)]));
}

pub(crate) fn offset_for_leader_epoch(stage: &mut Stage) {
    let orders = stage.create_topic("orders", 2);
    store(stage, &orders, 0, &batch(&["a", "b"]));
    let ask = |topic: &TopicName, rows: &[(i32, i32, i32)]| {
        let row = |(partition, current, epoch): &(i32, i32, i32)| {
            OffsetForLeaderPartition::default()
                .with_partition(*partition)
                .with_current_leader_epoch(*current)
                .with_leader_epoch(*epoch)
        };
        let topic =
            OffsetForLeaderTopic::default().with_topic(topic.clone()).with_partitions(rows.iter().map(row).collect());
        OffsetForLeaderEpochRequest::default().with_topics(vec![topic])
    };
    for version in 2..=4 {
        stage.ask(&format!("epoch 0, version {version}"), version, &ask(&orders, &[(0, -1, 0), (1, -1, 0)]));
        stage.ask(&format!("an epoch to come, version {version}"), version, &ask(&orders, &[(0, -1, 5)]));
    }
    stage.ask("no epoch", 4, &ask(&orders, &[(0, -1, -1)]));
    stage.ask("current epoch right", 4, &ask(&orders, &[(0, 0, 0)]));
    stage.ask("current epoch to come", 4, &ask(&orders, &[(0, 3, 0)]));
    stage.ask("an unknown partition", 4, &ask(&orders, &[(5, -1, 0)]));
    stage.ask("an unknown topic", 4, &ask(&stage.topic("unknown"), &[(0, -1, 0)]));
    stage.ask("no topics", 4, &OffsetForLeaderEpochRequest::default());
    let awaited = stage.send(MAIN, 9, &produce(&orders, 0, batch(&["c"]).encode()));
    stage.collect("one more record", awaited);
    stage.ask("the epoch's end moves", 4, &ask(&orders, &[(0, -1, 0)]));
}
