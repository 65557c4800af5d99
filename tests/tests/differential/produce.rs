//! Writing: acknowledgements, refusals, idempotence.

use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{InitProducerIdRequest, ProduceRequest, ProducerId, TransactionalId};
use tests::batch::{Record, with_claimed_length, with_flipped_byte};
use tests::differential::{EARLIER, MAIN, Stage};

use crate::verbs::{batch, fetch, from, produce, produce_all, text};

pub(crate) fn produce_versions(stage: &mut Stage) {
    let orders = stage.create_topic("orders", 2);
    let id = stage.topic_id(&orders);
    for version in 3..=12 {
        stage.ask(
            &format!("two records, version {version}"),
            version,
            &produce(&orders, 0, batch(&["a", "b"]).encode()),
        );
    }
    let by_id = |id, partition, records: Bytes| {
        let row = PartitionProduceData::default().with_index(partition).with_records(Some(records));
        let topic = TopicProduceData::default().with_topic_id(id).with_partition_data(vec![row]);
        ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![topic])
    };
    stage.ask("two records, version 13", 13, &by_id(id, 1, batch(&["a", "b"]).encode()));
    stage.ask("an unknown id", 13, &by_id(uuid::Uuid::from_u128(0xfeed), 0, batch(&["a"]).encode()));
    stage.ask("the nil id", 13, &by_id(uuid::Uuid::nil(), 0, batch(&["a"]).encode()));
    stage.ask("an unknown partition, by id", 13, &by_id(id, 9, batch(&["a"]).encode()));
    let both = vec![(0, Some(batch(&["to 0"]).encode())), (1, Some(batch(&["to 1"]).encode()))];
    stage.ask("both partitions", 9, &produce_all(&orders, both));
    stage.ask("what is stored", 12, &fetch(&orders, vec![from(0, 0), from(1, 0)]));

    let mut rich = batch(&["value"]);
    rich.records[0].key = Some("key".into());
    rich.records[0].headers = vec![
        ("name".to_owned(), Some("one".into())),
        ("name".to_owned(), Some("two".into())),
        ("empty".to_owned(), Some(Bytes::new())),
        ("null".to_owned(), None),
    ];
    rich.records.push(Record { key: Some(Bytes::new()), value: None, ..Record::default() });
    rich.records.push(Record { value: Some(Bytes::new()), ..Record::default() });
    stage.ask("keys, headers, nulls", 9, &produce(&orders, 1, rich.encode()));
    stage.ask("they come back as they were", 12, &fetch(&orders, vec![from(1, 3)]));
}

pub(crate) fn produce_acks(stage: &mut Stage) {
    let orders = stage.create_topic("orders", 1);
    stage.ask("acks=1", 9, &produce(&orders, 0, batch(&["one"]).encode()).with_acks(1));
    stage.ask("acks=all", 9, &produce(&orders, 0, batch(&["all"]).encode()));
    for acks in [2, -2] {
        stage.ask(&format!("acks={acks}"), 9, &produce(&orders, 0, batch(&["odd"]).encode()).with_acks(acks));
    }
    let unanswered = produce(&orders, 0, batch(&["none"]).encode()).with_acks(0);
    stage.tell(MAIN, 9, &unanswered);
    stage.ask("after acks=0, on the same connection", 9, &produce(&orders, 0, batch(&["after"]).encode()));
    stage.ask("what is stored", 12, &fetch(&orders, vec![from(0, 0)]));
    let careless = stage.connect("careless");
    stage.tell(careless, 9, &produce(&stage.topic("unknown"), 0, batch(&["lost"]).encode()).with_acks(0));
    stage.expect_close(careless, "acks=0 to an unknown topic");
    stage.tell(careless, 9, &produce(&orders, 0, with_flipped_byte(&batch(&["lost"]).encode(), 70)).with_acks(0));
    stage.expect_close(careless, "acks=0 with a false checksum");
}

pub(crate) fn produce_refused(stage: &mut Stage) {
    let orders = stage.create_topic_with("orders", 1, &[("max.message.bytes", "2000")]);
    let good = batch(&["fine"]).encode();
    let mut old = batch(&["old"]);
    old.magic = 1;
    let mut strange = batch(&["strange"]);
    strange.magic = 7;
    let mut empty = batch(&[]);
    empty.claimed_last_offset_delta = Some(0);
    let mut more = batch(&["a", "b"]);
    more.claimed_count = Some(3);
    let mut fewer = batch(&["a", "b"]);
    fewer.claimed_count = Some(1);
    let mut none = batch(&["a"]);
    none.claimed_count = Some(0);
    let mut negative = batch(&["a"]);
    negative.claimed_count = Some(-1);
    let mut delta = batch(&["a", "b"]);
    delta.claimed_last_offset_delta = Some(7);
    let mut control = batch(&["control"]);
    control.attributes = 0b10_0000;
    let mut transactional = batch(&["transactional"]);
    transactional.attributes = 0b1_0000;
    let mut codec = batch(&["codec"]);
    codec.attributes = 5;
    let mut garbled = batch(&["garbled"]);
    garbled.attributes = 1;
    let mut based = batch(&["based"]);
    based.base_offset = 55;
    based.partition_leader_epoch = 3;
    let two = [good.clone(), batch(&["second"]).encode()].concat();
    let large = batch(&[&"x".repeat(3000)]).encode();
    for (label, records) in [
        ("a false checksum", with_flipped_byte(&good, 17)),
        ("a changed record", with_flipped_byte(&good, good.len() - 2)),
        ("a length too long", with_claimed_length(&good, 500)),
        ("a length too short", with_claimed_length(&good, 50)),
        ("a length below the header", with_claimed_length(&good, 10)),
        ("a negative length", with_claimed_length(&good, -1)),
        ("cut off in its header", good.slice(..30)),
        ("cut off in its record", good.slice(..good.len() - 3)),
        ("no bytes", Bytes::new()),
        ("an old format", old.encode()),
        ("an unknown format", strange.encode()),
        ("no records", empty.encode()),
        ("fewer records than claimed", more.encode()),
        ("more records than claimed", fewer.encode()),
        ("claims no records", none.encode()),
        ("claims a negative number of records", negative.encode()),
        ("a false last offset", delta.encode()),
        ("two batches", two.into()),
        ("bytes after the batch", [&good[..], b"more"].concat().into()),
        ("too large", large),
        ("a control batch", control.encode()),
        ("transactional without a transaction", transactional.encode()),
        ("an unknown compression", codec.encode()),
        ("compressed, but not gzip", garbled.encode()),
        ("a base offset of its own", based.encode()),
    ] {
        stage.ask(label, 9, &produce(&orders, 0, records));
    }
    // Records that are null are left out: Apache Kafka never answers them.
    for version in [3, 8, 12] {
        let unknown = produce(&stage.topic("unknown"), 0, good.clone());
        stage.ask(&format!("an unknown topic, version {version}"), version, &unknown);
        stage.ask(&format!("an unknown partition, version {version}"), version, &produce(&orders, 5, good.clone()));
        let corrupt = produce(&orders, 0, with_flipped_byte(&good, 17));
        stage.ask(&format!("a false checksum, version {version}"), version, &corrupt);
    }
    stage.ask("a negative partition", 9, &produce(&orders, -1, good.clone()));
    let nowhere = vec![(5, Some(with_claimed_length(&good, -1))), (0, Some(good.clone()))];
    stage.ask("a negative length beside a good batch", 9, &produce_all(&orders, nowhere));
    let nowhere = produce(&stage.topic("unknown"), 0, transactional.encode());
    stage.ask("transactional without a transaction, to an unknown topic", 9, &nowhere);
    stage.ask("half a batch for an unknown partition", 9, &produce(&orders, 5, good.slice(..30)));
    let mixed = vec![(0, Some(good.clone())), (4, Some(good.clone()))];
    stage.ask("a good partition beside an unknown one", 9, &produce_all(&orders, mixed));
    let twice = vec![(0, Some(good.clone())), (0, Some(good.clone()))];
    stage.ask("the same partition twice", 9, &produce_all(&orders, twice));
    stage.ask("an invalid topic", 9, &produce(&text("bad name").into(), 0, good.clone()));
    stage.ask("an internal topic", 9, &produce(&text("__consumer_offsets").into(), 0, good.clone()));
    stage.ask("no topics", 9, &ProduceRequest::default().with_acks(-1).with_timeout_ms(1000));
    let transactional = TransactionalId(stage.name("transaction"));
    stage.ask(
        "a transactional id, but no transactional batch",
        9,
        &produce(&orders, 0, good).with_transactional_id(Some(transactional)),
    );
    stage.ask("what is stored", 12, &fetch(&orders, vec![from(0, 0)]));
}

pub(crate) fn produce_timestamps(stage: &mut Stage) {
    let created = stage.create_topic("created", 1);
    let appended = stage.create_topic_with("appended", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let bounded = stage.create_topic_with("bounded", 1, &[("message.timestamp.before.max.ms", "1000")]);
    let hour = 3_600_000;
    let day = 24 * hour;
    for version in [3, 9] {
        stage.ask(&format!("create time, version {version}"), version, &produce(&created, 0, batch(&["a"]).encode()));
        stage.ask(&format!("append time, version {version}"), version, &produce(&appended, 0, batch(&["a"]).encode()));
    }
    let mut negative = batch(&["negative"]);
    negative.base_timestamp = -1;
    stage.ask("no timestamp", 9, &produce(&created, 0, negative.encode()));
    let mut future = batch(&["future"]);
    future.base_timestamp = *EARLIER + day;
    stage.ask("too far in the future", 9, &produce(&created, 0, future.encode()));
    stage.ask("too far in the future, append time", 9, &produce(&appended, 0, future.encode()));
    stage.ask("too long ago", 9, &produce(&bounded, 0, batch(&["late"]).encode()));
    let mut half = batch(&["good", "bad"]);
    half.records[1].timestamp_delta = day;
    stage.ask("one of two too far in the future", 9, &produce(&created, 0, half.encode()));
    let mut marked = batch(&["marked"]);
    marked.attributes = 0b1000;
    stage.ask("marked as append time by the client", 9, &produce(&created, 0, marked.encode()));
    let mut lying = batch(&["lying", "max"]).spread(10);
    lying.claimed_max_timestamp = Some(*EARLIER + 777);
    stage.ask("a false latest timestamp", 9, &produce(&created, 0, lying.encode()));
    stage.ask("stored with create time", 12, &fetch(&created, vec![from(0, 0)]));
    stage.ask("stored with append time", 12, &fetch(&appended, vec![from(0, 0)]));
}

fn init(transactional_id: Option<&str>) -> InitProducerIdRequest {
    InitProducerIdRequest::default()
        .with_transactional_id(transactional_id.map(|id| TransactionalId(text(id))))
        .with_transaction_timeout_ms(60_000)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1)
}

/// The id of a new idempotent producer, unrecorded; asked for until the broker has fetched its block of ids.
fn new_producer(stage: &mut Stage) -> i64 {
    let mut id = -1;
    stage.until("a producer's id", |stage| {
        let answer = stage.quietly(4, &init(None)).filter(|answer| answer.error_code == 0);
        id = answer.map_or(-1, |answer| answer.producer_id.0);
        id >= 0
    });
    id
}

pub(crate) fn init_producer_id(stage: &mut Stage) {
    new_producer(stage);
    let mut ids = Vec::new();
    for version in 0..=5 {
        let answer = stage.ask(&format!("without a transaction, version {version}"), version, &init(None));
        ids.push(answer.producer_id);
    }
    ids.dedup();
    stage.note("each has its own id", ids.len());
    let id = ids[0];
    let with = |id, epoch| init(None).with_producer_id(id).with_producer_epoch(epoch);
    stage.ask("with an id of its own", 4, &with(id, 0));
    stage.ask("with an id but no epoch", 4, &with(id, -1));
    stage.ask("with an epoch but no id", 4, &with(ProducerId(-1), 3));
    stage.ask("an empty transactional id", 4, &init(Some("")));
    stage.ask("a timeout of 0 without a transaction", 4, &init(None).with_transaction_timeout_ms(0));
}

pub(crate) fn idempotent_produce(stage: &mut Stage) {
    let orders = stage.create_topic("orders", 2);
    let id = new_producer(stage);
    let at = |sequence, values: &[&str]| batch(values).from_producer(id, 0, sequence).encode();
    let put = |stage: &mut Stage, label: &str, sequence, values: &[&str]| {
        stage.ask(label, 9, &produce(&orders, 0, at(sequence, values)));
    };
    put(stage, "first", 0, &["0", "1"]);
    put(stage, "first again", 0, &["0", "1"]);
    put(stage, "second", 2, &["2"]);
    put(stage, "a gap", 9, &["9"]);
    put(stage, "first again, after second", 0, &["0", "1"]);
    for sequence in 3..8 {
        put(stage, &format!("sequence {sequence}"), sequence, &["next"]);
    }
    for sequence in 3..8 {
        put(stage, &format!("sequence {sequence} again"), sequence, &["next"]);
    }
    put(stage, "the sixth last again", 2, &["2"]);
    put(stage, "the first of all again", 0, &["0", "1"]);
    put(stage, "part of an old batch", 1, &["1"]);
    put(stage, "the last again, but longer", 7, &["next", "more"]);
    put(stage, "sequence 8 after all that", 8, &["8"]);
    put(stage, "a negative sequence", -1, &["?"]);
    put(stage, "sequence 0 again", 0, &["0"]);
    stage.ask("not from 0 on another partition", 9, &produce(&orders, 1, at(5, &["five"])));
    stage.ask("and on from there", 9, &produce(&orders, 1, at(6, &["six"])));
    let strange = batch(&["strange"]).from_producer(999_999, 0, 4).encode();
    stage.ask("a producer nobody knows, not from 0", 9, &produce(&orders, 1, strange));
    let strange = batch(&["strange"]).from_producer(999_998, 0, 0).encode();
    stage.ask("a producer nobody knows, from 0", 9, &produce(&orders, 1, strange));
    let nameless = batch(&["nameless"]).from_producer(-1, 0, 0).encode();
    stage.ask("a sequence without a producer", 9, &produce(&orders, 1, nameless));
    let late = batch(&["a", "b"]).from_producer(999_997, 0, i32::MAX).encode();
    stage.ask("a sequence at its end", 9, &produce(&orders, 1, late));
    let wrapped = batch(&["c"]).from_producer(999_997, 0, 1).encode();
    stage.ask("and wrapped", 9, &produce(&orders, 1, wrapped));
    for acks in [0, 1] {
        let careless = produce(&orders, 0, at(9 + i32::from(acks), &["careless"])).with_acks(acks);
        if acks == 0 {
            stage.tell(MAIN, 9, &careless);
        } else {
            stage.ask("idempotent with acks=1", 9, &careless);
        }
    }
    stage.ask("what is stored", 12, &fetch(&orders, vec![from(0, 0), from(1, 0)]));
}

pub(crate) fn producer_epochs(stage: &mut Stage) {
    let orders = stage.create_topic("orders", 1);
    let id = new_producer(stage);
    let put = |stage: &mut Stage, label: &str, epoch, sequence| {
        let records = batch(&["x"]).from_producer(id, epoch, sequence).encode();
        stage.ask(label, 9, &produce(&orders, 0, records));
    };
    put(stage, "epoch 0", 0, 0);
    put(stage, "a new epoch not from 0", 1, 1);
    put(stage, "a new epoch from 0", 1, 0);
    put(stage, "the old epoch", 0, 1);
    put(stage, "the old epoch's first again", 0, 0);
    put(stage, "on in the new epoch", 1, 1);
    put(stage, "an epoch left out", 5, 0);
    put(stage, "an epoch before it", 4, 0);
    put(stage, "a negative epoch", -1, 0);
    put(stage, "the last epoch", i16::MAX, 0);
    for version in [3, 9, 12] {
        let records = batch(&["x"]).from_producer(id, 0, 1).encode();
        stage.ask(&format!("a fenced epoch, version {version}"), version, &produce(&orders, 0, records));
        let records = batch(&["x"]).from_producer(id, i16::MAX, 9).encode();
        stage.ask(&format!("out of order, version {version}"), version, &produce(&orders, 0, records));
    }
    stage.ask("what is stored", 12, &fetch(&orders, vec![from(0, 0)]));
    let id = new_producer(stage);
    let packed = stage.create_topic_with("packed", 1, &[("compression.type", "gzip")]);
    for (label, epoch, sequence) in [
        ("another producer without an epoch", -1, 3),
        ("without an epoch, out of order", -1, 9),
        ("its first epoch, not from 0", 0, 5),
        ("its first epoch, out of order", 0, 9),
    ] {
        let records = batch(&["x"]).from_producer(id, epoch, sequence).encode();
        stage.ask(label, 9, &produce(&orders, 0, records.clone()));
        stage.ask(&format!("{label}, recompressed"), 9, &produce(&packed, 0, records));
    }
}
