//! Transactions: coordinators, markers, what readers of committed records see, offsets in transactions.

use kafka_protocol::messages::add_partitions_to_txn_request::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction};
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, BrokerId, DescribeProducersRequest, DescribeTransactionsRequest,
    EndTxnRequest, FetchRequest, FindCoordinatorRequest, GroupId, InitProducerIdRequest, ListOffsetsRequest,
    ListTransactionsRequest, OffsetFetchRequest, ProduceRequest, ProducerId, TopicName, TransactionalId,
    TxnOffsetCommitRequest, WriteTxnMarkersRequest,
};
use std::time::{Duration, SystemTime};
use tests::batch::Batch;
use tests::differential::{EARLIER, Stage};

use crate::verbs::{batch, fetch, from, produce, produce_all, text};

pub(crate) const TRANSACTIONAL: i16 = 0b1_0000;
const COMMITTED: i8 = 1;
const TRANSACTIONAL_ID_NOT_FOUND: i16 = 105;

/// A transactional producer as a script drives it.
#[derive(Debug, Clone)]
pub(crate) struct Producer {
    pub(crate) transactional_id: TransactionalId,
    pub(crate) id: ProducerId,
    pub(crate) epoch: i16,
    pub(crate) sequence: i32,
}

impl Producer {
    /// The next batch of this producer.
    pub(crate) fn batch(&mut self, values: &[&str]) -> Batch {
        let mut batch = batch(values).from_producer(self.id.0, self.epoch, self.sequence);
        batch.attributes = TRANSACTIONAL;
        self.sequence += i32::try_from(values.len()).expect("few values");
        batch
    }

    pub(crate) fn write(&mut self, topic: &TopicName, partition: i32, values: &[&str]) -> ProduceRequest {
        let records = self.batch(values).encode();
        produce(topic, partition, records).with_transactional_id(Some(self.transactional_id.clone()))
    }

    pub(crate) fn add(&self, topic: &TopicName, partitions: &[i32]) -> AddPartitionsToTxnRequest {
        let topic = AddPartitionsToTxnTopic::default().with_name(topic.clone()).with_partitions(partitions.to_vec());
        AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(self.transactional_id.clone())
            .with_v3_and_below_producer_id(self.id)
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(vec![topic])
    }

    /// As brokers ask each other.
    fn verify(&self, topic: &TopicName, partitions: &[i32], verify_only: bool) -> AddPartitionsToTxnTransaction {
        let topic = AddPartitionsToTxnTopic::default().with_name(topic.clone()).with_partitions(partitions.to_vec());
        AddPartitionsToTxnTransaction::default()
            .with_transactional_id(self.transactional_id.clone())
            .with_producer_id(self.id)
            .with_producer_epoch(self.epoch)
            .with_verify_only(verify_only)
            .with_topics(vec![topic])
    }

    pub(crate) fn add_group(&self, group: &GroupId) -> AddOffsetsToTxnRequest {
        AddOffsetsToTxnRequest::default()
            .with_transactional_id(self.transactional_id.clone())
            .with_producer_id(self.id)
            .with_producer_epoch(self.epoch)
            .with_group_id(group.clone())
    }

    pub(crate) fn send_offsets(
        &self,
        group: &GroupId,
        topic: &TopicName,
        offsets: &[(i32, i64)],
    ) -> TxnOffsetCommitRequest {
        let row = |(index, offset): &(i32, i64)| {
            TxnOffsetCommitRequestPartition::default()
                .with_partition_index(*index)
                .with_committed_offset(*offset)
                .with_committed_leader_epoch(-1)
                .with_committed_metadata(Some(text("sent")))
        };
        let rows = offsets.iter().map(row).collect();
        let topic = TxnOffsetCommitRequestTopic::default().with_name(topic.clone()).with_partitions(rows);
        TxnOffsetCommitRequest::default()
            .with_transactional_id(self.transactional_id.clone())
            .with_group_id(group.clone())
            .with_producer_id(self.id)
            .with_producer_epoch(self.epoch)
            .with_generation_id(-1)
            .with_topics(vec![topic])
    }

    pub(crate) fn end(&self, committed: bool) -> EndTxnRequest {
        EndTxnRequest::default()
            .with_transactional_id(self.transactional_id.clone())
            .with_producer_id(self.id)
            .with_producer_epoch(self.epoch)
            .with_committed(committed)
    }
}

pub(crate) fn init(id: &TransactionalId) -> InitProducerIdRequest {
    InitProducerIdRequest::default()
        .with_transactional_id(Some(id.clone()))
        .with_transaction_timeout_ms(60_000)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1)
}

pub(crate) fn describe(id: &TransactionalId) -> DescribeTransactionsRequest {
    DescribeTransactionsRequest::default().with_transactional_ids(vec![id.clone()])
}

pub(crate) fn producers(topic: &TopicName, partitions: &[i32]) -> DescribeProducersRequest {
    let topic = TopicRequest::default().with_name(topic.clone()).with_partition_indexes(partitions.to_vec());
    DescribeProducersRequest::default().with_topics(vec![topic])
}

fn committed(topic: &TopicName, partitions: Vec<FetchPartition>) -> FetchRequest {
    fetch(topic, partitions).with_isolation_level(COMMITTED)
}

fn offsets(topic: &TopicName, isolation: i8, timestamp: i64) -> ListOffsetsRequest {
    let row = ListOffsetsPartition::default().with_timestamp(timestamp).with_current_leader_epoch(-1);
    let topic = ListOffsetsTopic::default().with_name(topic.clone()).with_partitions(vec![row]);
    ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_isolation_level(isolation).with_topics(vec![topic])
}

fn sent_for(group: &GroupId, topic: &TopicName, stable: bool) -> OffsetFetchRequest {
    let topic = OffsetFetchRequestTopic::default().with_name(topic.clone()).with_partition_indexes(vec![0, 1]);
    OffsetFetchRequest::default()
        .with_group_id(group.clone())
        .with_topics(Some(vec![topic]))
        .with_require_stable(stable)
}

/// Awaits that somebody coordinates transactions.
pub(crate) fn await_transactions(stage: &mut Stage) {
    let id = TransactionalId(stage.name("nobody"));
    stage.until("a transaction coordinator", |stage| {
        let find = FindCoordinatorRequest::default().with_key(id.0.clone()).with_key_type(1);
        let found = stage.quietly(3, &find).is_some_and(|answer| answer.error_code == 0);
        let asked = stage.quietly(0, &describe(&id)).unwrap_or_default();
        found && asked.transaction_states.first().is_some_and(|state| state.error_code == TRANSACTIONAL_ID_NOT_FOUND)
    });
}

/// A producer under a name of its own, initialised and unrecorded.
fn producer(stage: &mut Stage, base: &str) -> Producer {
    await_transactions(stage);
    let transactional_id = TransactionalId(stage.name(base));
    let mut found = None;
    stage.until("a transactional producer", |stage| {
        let answer = stage.quietly(4, &init(&transactional_id)).filter(|answer| answer.error_code == 0);
        found = answer;
        found.is_some()
    });
    let answer = found.unwrap_or_default();
    Producer { transactional_id, id: answer.producer_id, epoch: answer.producer_epoch, sequence: 0 }
}

/// Awaits that the last transaction's markers are written.
fn settle(stage: &mut Stage, producer: &Producer) {
    stage.until("the markers", |stage| {
        let answer = stage.quietly(0, &describe(&producer.transactional_id)).unwrap_or_default();
        answer.transaction_states.first().is_some_and(|state| state.transaction_state.starts_with("Complete"))
    });
}

pub(crate) fn transactions_of_older_clients(stage: &mut Stage) {
    let orders = stage.create_topic("orders", 2);
    let mut payments = producer(stage, "payments");
    stage.ask("before the first", 0, &describe(&payments.transactional_id));
    for version in 0..=4 {
        let label = |what: &str| format!("{what}, version {version}");
        let commits = version % 2 == 0;
        stage.ask(&label("add both"), version.min(3), &payments.add(&orders, &[0, 1]));
        stage.ask(&label("add one again"), version.min(3), &payments.add(&orders, &[1]));
        stage.ask(&label("write"), 9, &payments.write(&orders, 0, &["a", "b"]));
        stage.ask(&label("write more"), 9, &payments.write(&orders, 0, &["c"]));
        stage.ask(&label("how it stands"), 0, &describe(&payments.transactional_id));
        stage.ask(&label("its producers"), 0, &producers(&orders, &[0, 1]));
        stage.ask(&label("all there is"), 12, &fetch(&orders, vec![from(0, 0)]));
        stage.ask(&label("what is decided"), 12, &committed(&orders, vec![from(0, 0)]));
        for isolation in [0, COMMITTED] {
            stage.ask(&label(&format!("latest, isolation {isolation}")), 5, &offsets(&orders, isolation, -1));
            stage.ask(&label(&format!("by time, isolation {isolation}")), 5, &offsets(&orders, isolation, *EARLIER));
        }
        stage.ask(&label("end"), version, &payments.end(commits));
        settle(stage, &payments);
        stage.ask(&label("end again"), version, &payments.end(commits));
        stage.ask(&label("end otherwise"), version, &payments.end(!commits));
        stage.ask(&label("how it ended"), 0, &describe(&payments.transactional_id));
        stage.ask(&label("its producers then"), 0, &producers(&orders, &[0, 1]));
        stage.ask(&label("what is decided then"), 12, &committed(&orders, vec![from(0, 0), from(1, 0)]));
    }
    stage.ask("come again", 4, &init(&payments.transactional_id));
    stage.ask("as it was", 0, &describe(&payments.transactional_id));
}

pub(crate) fn transactions_of_newer_clients(stage: &mut Stage) {
    let orders = stage.create_topic("orders", 2);
    let mut payments = producer(stage, "payments");
    stage.ask("commit nothing", 5, &payments.end(true));
    for (round, commits) in [true, false, true, true].into_iter().enumerate() {
        let label = |what: &str| format!("{what}, round {round}");
        payments.sequence = 0;
        stage.ask(&label("write"), 12, &payments.write(&orders, 0, &["a", "b"]));
        stage.ask(&label("write elsewhere"), 12, &payments.write(&orders, 1, &["elsewhere"]).with_acks(1));
        stage.ask(&label("how it stands"), 0, &describe(&payments.transactional_id));
        stage.ask(&label("what is decided"), 12, &committed(&orders, vec![from(0, 0)]));
        let ended = stage.ask(&label("end"), 5, &payments.end(commits));
        settle(stage, &payments);
        stage.ask(&label("end again"), 5, &payments.end(commits));
        stage.ask(&label("end otherwise, late"), 5, &payments.end(!commits));
        stage.ask(&label("write late"), 12, &payments.write(&orders, 0, &["late"]));
        (payments.id, payments.epoch) = (ended.producer_id, ended.producer_epoch);
        stage.ask(&label("commit once more"), 5, &payments.end(true));
        stage.ask(&label("its producers then"), 0, &producers(&orders, &[0, 1]));
        stage.ask(&label("what is decided then"), 12, &committed(&orders, vec![from(0, 0), from(1, 0)]));
        payments.sequence = 5;
        stage.ask(&label("begin with sequence 5"), 12, &payments.write(&orders, 0, &["five"]));
        payments.sequence = 0;
    }
    let aborted = stage.ask("abort what has begun", 5, &payments.end(false));
    settle(stage, &payments);
    payments.epoch = aborted.producer_epoch;
    stage.ask("abort nothing", 5, &payments.end(false));
    settle(stage, &payments);
    stage.ask("how it ended", 0, &describe(&payments.transactional_id));
    let mut apart = payments.clone();
    apart.epoch += 1;
    apart.sequence = 0;
    let both = vec![(0, Some(apart.batch(&["x"]).encode())), (1, Some(payments.batch(&["y"]).encode()))];
    let id = Some(payments.transactional_id.clone());
    stage.ask("two epochs in one request", 12, &produce_all(&orders, both).with_transactional_id(id));
}

pub(crate) fn transactions_refused(stage: &mut Stage) {
    let orders = stage.create_topic("orders", 2);
    let unknown = stage.topic("unknown");
    // A broker's first producer has the id 0, which also stands for none in some answers.
    producer(stage, "first");
    let mut payments = producer(stage, "payments");
    for version in 0..=5 {
        let label = |what: &str| format!("{what}, version {version}");
        for timeout in [0, -1, 900_001] {
            let request = init(&payments.transactional_id).with_transaction_timeout_ms(timeout);
            stage.ask(&label(&format!("a timeout of {timeout}")), version, &request);
        }
        if version >= 3 {
            let with = |id, epoch| init(&payments.transactional_id).with_producer_id(id).with_producer_epoch(epoch);
            stage.ask(&label("somebody else's id"), version, &with(ProducerId(payments.id.0 + 1_000_000), 0));
            stage.ask(&label("an epoch from the future"), version, &with(payments.id, 99));
        }
    }
    let odd = Producer { transactional_id: TransactionalId(text("")), ..payments.clone() };
    let nobody = Producer { transactional_id: TransactionalId(stage.name("nobody")), ..payments.clone() };
    let other = Producer { id: ProducerId(payments.id.0 + 1_000_000), ..payments.clone() };
    let ahead = Producer { epoch: payments.epoch + 1, ..payments.clone() };
    for version in 0..=3 {
        let label = |what: &str| format!("{what}, version {version}");
        stage.ask(&label("add an unknown topic"), version, &payments.add(&unknown, &[0]));
        stage.ask(&label("add an unknown partition too"), version, &payments.add(&orders, &[0, 9]));
        stage.ask(&label("add nothing"), version, &nobody.add(&orders, &[]));
        for (who, name) in [(&odd, "no id"), (&nobody, "nobody"), (&other, "another producer"), (&ahead, "ahead")] {
            stage.ask(&label(&format!("add as {name}")), version, &who.add(&orders, &[0]));
            stage.ask(&label(&format!("add a group as {name}")), version, &who.add_group(&stage.group("group")));
            stage.ask(&label(&format!("end as {name}")), version, &who.end(true));
        }
        stage.ask(&label("end what has not begun"), version, &payments.end(true));
        stage.ask(&label("abort what has not begun"), version, &payments.end(false));
    }
    for (who, name) in [(&odd, "no id"), (&nobody, "nobody"), (&other, "another producer"), (&ahead, "ahead")] {
        stage.ask(&format!("end as {name}, version 5"), 5, &who.end(true));
        stage.ask(&format!("describe as {name}"), 0, &describe(&who.transactional_id));
    }
    for version in [9, 10, 11] {
        stage.ask(&format!("write unasked, version {version}"), version, &payments.write(&orders, 0, &["a"]));
    }
    payments.sequence = 0;
    for version in [9, 11, 12] {
        for (who, name) in [(&odd, "no id"), (&nobody, "nobody"), (&other, "another producer"), (&ahead, "ahead")] {
            stage.ask(&format!("write as {name}, version {version}"), version, &who.clone().write(&orders, 0, &["a"]));
        }
        let mut without = payments.clone().write(&orders, 0, &["a"]);
        without.transactional_id = None;
        stage.ask(&format!("write without a transactional id, version {version}"), version, &without);
        stage.ask(&format!("write nowhere, version {version}"), version, &payments.clone().write(&unknown, 0, &["a"]));
    }
    stage.ask("producers of an unknown topic", 0, &producers(&unknown, &[0]));
    stage.ask("producers of an unknown partition", 0, &producers(&orders, &[0, 9]));
    stage.ask("producers of no topic", 0, &producers(&text("a b").into(), &[0]));
    for verify_only in [true, false] {
        for version in [4, 5] {
            let label = |what: &str| format!("{what}, verify {verify_only}, version {version}");
            let ask = |who: &Producer| {
                AddPartitionsToTxnRequest::default().with_transactions(vec![who.verify(&orders, &[0, 1], verify_only)])
            };
            stage.ask(&label("nobody"), version, &ask(&nobody));
            stage.ask(&label("another producer"), version, &ask(&other));
            stage.ask(&label("ahead"), version, &ask(&ahead));
            stage.ask(&label("the right one"), version, &ask(&payments));
        }
    }
    stage.ask("as it stands", 0, &describe(&payments.transactional_id));
    let mut plain = batch(&["plain"]).from_producer(payments.id.0, payments.epoch, 0);
    stage.ask("write", 9, &payments.write(&orders, 0, &["in"]));
    plain.base_sequence = payments.sequence;
    stage.ask("write outside of the open transaction", 9, &produce(&orders, 0, plain.encode()));
    stage.ask("what is stored", 12, &fetch(&orders, vec![from(0, 0)]));
}

pub(crate) fn transactions_fenced(stage: &mut Stage) {
    let orders = stage.create_topic("orders", 1);
    let mut zombie = producer(stage, "payments");
    stage.ask("write", 12, &zombie.write(&orders, 0, &["half"]));
    stage.ask("another comes", 4, &init(&zombie.transactional_id));
    settle(stage, &zombie);
    stage.ask("the first is over", 0, &describe(&zombie.transactional_id));
    stage.ask("its producers", 0, &producers(&orders, &[0]));
    for version in [0, 3, 4] {
        let label = |what: &str| format!("{what}, version {version}");
        let came = stage.ask(&label("the other comes again"), version, &init(&zombie.transactional_id));
        stage.ask(&label("the zombie writes"), 9, &zombie.clone().write(&orders, 0, &["more"]));
        stage.ask(&label("the zombie writes anew"), 12, &zombie.clone().write(&orders, 0, &["more"]));
        for end in [1, 2, 5] {
            stage.ask(&label(&format!("the zombie ends, version {end}")), end, &zombie.end(true));
        }
        stage.ask(&label("the zombie adds"), 1, &zombie.add(&orders, &[0]));
        stage.ask(
            &label("the zombie sends offsets"),
            3,
            &zombie.send_offsets(&stage.group("group"), &orders, &[(0, 1)]),
        );
        if version >= 3 {
            let on =
                |epoch| init(&zombie.transactional_id).with_producer_id(came.producer_id).with_producer_epoch(epoch);
            stage.ask(&label("goes on"), version, &on(came.producer_epoch));
            stage.ask(&label("goes on again"), version, &on(came.producer_epoch));
            stage.ask(&label("goes on from long ago"), version, &on(0));
        }
    }
    stage.ask("what is stored", 12, &committed(&orders, vec![from(0, 0)]));
}

pub(crate) fn aborted_transactions(stage: &mut Stage) {
    let orders = stage.create_topic("orders", 1);
    let mut names = Vec::new();
    for base in ["one", "two", "three"] {
        names.push(producer(stage, base));
    }
    let write = |stage: &mut Stage, who: &mut Producer, values: &[&str]| {
        stage.quietly(12, &who.write(&orders, 0, values));
    };
    let end = |stage: &mut Stage, who: &mut Producer, commits: bool| {
        let ended = stage.quietly(5, &who.end(commits)).unwrap_or_default();
        settle(stage, who);
        (who.id, who.epoch, who.sequence) = (ended.producer_id, ended.producer_epoch, 0);
    };
    let look = |stage: &mut Stage, what: &str, to: i64| {
        for offset in 0..=to {
            stage.ask(&format!("{what}, from {offset}"), 12, &committed(&orders, vec![from(0, offset)]));
        }
    };
    let [one, two, three] = &mut names[..] else { return };
    write(stage, one, &["1"]); // 0
    write(stage, two, &["2"]); // 1
    stage.quietly(9, &produce(&orders, 0, batch(&["plain"]).encode())); // 2
    end(stage, two, false); // 3
    look(stage, "two aborted behind one", 4);
    write(stage, three, &["3", "4"]); // 4, 5
    end(stage, one, false); // 6
    look(stage, "one aborted", 7);
    write(stage, two, &["5"]); // 7
    end(stage, three, true); // 8
    end(stage, two, false); // 9
    look(stage, "all are decided", 10);
    let limited = committed(&orders, vec![from(0, 0).with_partition_max_bytes(1)]);
    stage.ask("a small fetch hears of all of them", 12, &limited);
    let large = "x".repeat(3_000);
    for _ in 0..6 {
        write(stage, one, &[&large]);
        // Of two markers with the same timestamp the first would be found below.
        let later = SystemTime::now() + Duration::from_millis(2);
        while SystemTime::now() < later {
            std::thread::yield_now();
        }
        end(stage, one, false);
    }
    for offset in [0, 5, 10, 12, 15] {
        let limited = committed(&orders, vec![from(0, offset).with_partition_max_bytes(1)]);
        stage.ask(&format!("a small fetch among large batches, from {offset}"), 12, &limited);
    }
    for isolation in [0, COMMITTED] {
        stage.ask(&format!("the largest timestamp, isolation {isolation}"), 7, &offsets(&orders, isolation, -3));
    }
}

pub(crate) fn transactional_offsets(stage: &mut Stage) {
    let orders = stage.create_topic("orders", 2);
    let unknown = stage.topic("unknown");
    let mut payments = producer(stage, "payments");
    for version in 0..=4 {
        let label = |what: &str| format!("{what}, version {version}");
        let group = stage.group(&format!("group-{version}"));
        stage.ask(&label("unasked"), version, &payments.send_offsets(&group, &orders, &[(0, 1)]));
        stage.ask(&label("add the group"), version.min(3), &payments.add_group(&group));
        let sent = payments.send_offsets(&group, &orders, &[(0, 11), (1, 12), (9, 13)]);
        stage.ask(&label("send"), version, &sent);
        stage.ask(&label("send for an unknown topic"), version, &payments.send_offsets(&group, &unknown, &[(0, 1)]));
        for stable in [false, true] {
            stage.ask(&label(&format!("while it is open, stable {stable}")), 7, &sent_for(&group, &orders, stable));
        }
        stage.ask(
            &label("everything while it is open"),
            7,
            &OffsetFetchRequest::default().with_group_id(group.clone()).with_topics(None).with_require_stable(true),
        );
        let mut late = payments.send_offsets(&group, &orders, &[(0, 1)]);
        late.generation_id = 3;
        late.member_id = text("ghost");
        if version >= 3 {
            stage.ask(&label("as a member nobody knows"), version, &late);
        }
        stage.ask(&label("end"), 3, &payments.end(version != 1));
        settle(stage, &payments);
        stage.ask(&label("then"), 7, &sent_for(&group, &orders, true));
    }
    let group = stage.group("implied");
    stage.ask("version 5 adds the group", 5, &payments.send_offsets(&group, &orders, &[(0, 21)]));
    stage.ask("while it is open", 7, &sent_for(&group, &orders, true));
    let ended = stage.ask("end", 5, &payments.end(true));
    settle(stage, &payments);
    stage.ask("late", 5, &payments.send_offsets(&group, &orders, &[(0, 99)]));
    (payments.id, payments.epoch) = (ended.producer_id, ended.producer_epoch);
    stage.ask("then", 7, &sent_for(&group, &orders, true));
    let nameless = GroupId(text(""));
    stage.ask("a nameless group", 5, &payments.send_offsets(&nameless, &orders, &[(0, 1)]));
    let nobody = Producer { transactional_id: TransactionalId(stage.name("nobody")), ..payments.clone() };
    let other = Producer { id: ProducerId(payments.id.0 + 1_000_000), ..payments.clone() };
    let ahead = Producer { epoch: payments.epoch + 1, ..payments.clone() };
    for version in [3, 4, 5] {
        for (who, name) in [(&nobody, "nobody"), (&other, "another producer"), (&ahead, "ahead")] {
            let sent = who.send_offsets(&group, &orders, &[(0, 1)]);
            stage.ask(&format!("as {name}, version {version}"), version, &sent);
        }
    }
    let mut large = payments.send_offsets(&group, &orders, &[(0, 1), (1, 2)]);
    large.topics[0].partitions[0].committed_metadata = Some(text(&"x".repeat(5_000)));
    stage.ask("metadata too large for one", 5, &large);
    stage.ask("abort", 5, &payments.end(false));
    settle(stage, &payments);
    stage.ask("nothing of it", 7, &sent_for(&group, &orders, true));
}

pub(crate) fn list_transactions(stage: &mut Stage) {
    let orders = stage.create_topic("orders", 1);
    let idle = producer(stage, "idle");
    let mut open = producer(stage, "open");
    let mut done = producer(stage, "done");
    stage.quietly(12, &open.write(&orders, 0, &["a"]));
    stage.quietly(12, &done.write(&orders, 0, &["b"]));
    stage.quietly(5, &done.end(true));
    settle(stage, &done);
    let mine = vec![idle.id, open.id, done.id];
    let all = ListTransactionsRequest::default().with_producer_id_filters(mine).with_duration_filter(-1);
    for version in 0..=2 {
        let label = |what: &str| format!("{what}, version {version}");
        stage.ask(&label("all"), version, &all);
        let states = |names: &[&str]| all.clone().with_state_filters(names.iter().map(|name| text(name)).collect());
        stage.ask(&label("ongoing"), version, &states(&["Ongoing"]));
        stage.ask(&label("several"), version, &states(&["Empty", "CompleteCommit", "Dead"]));
        stage.ask(&label("odd"), version, &states(&["Odd", "ongoing"]));
    }
    stage.ask("open for long", 1, &all.clone().with_duration_filter(60_000));
    for pattern in ["", ".*open.*", "open", "("] {
        let request = all.clone().with_transactional_id_pattern(Some(text(pattern)));
        stage.ask(&format!("pattern '{pattern}'"), 2, &request);
    }
}

pub(crate) fn hanging_transactions(stage: &mut Stage) {
    let orders = stage.create_topic("orders", 2);
    producer(stage, "payments");
    let mut payments = producer(stage, "payments");
    stage.ask("write", 12, &payments.write(&orders, 0, &["a"]));
    let marker = |who: &Producer, epoch: i16, coordinator_epoch: i32, partitions: &[i32], topic: &TopicName| {
        let topic =
            WritableTxnMarkerTopic::default().with_name(topic.clone()).with_partition_indexes(partitions.to_vec());
        let marker = WritableTxnMarker::default()
            .with_producer_id(who.id)
            .with_producer_epoch(epoch)
            .with_transaction_result(false)
            .with_coordinator_epoch(coordinator_epoch)
            .with_topics(vec![topic]);
        WriteTxnMarkersRequest::default().with_markers(vec![marker])
    };
    stage.ask("nowhere", 1, &marker(&payments, 0, 0, &[0], &stage.topic("unknown")));
    stage.ask("an unknown partition too", 1, &marker(&payments, 0, 0, &[1, 9], &orders));
    stage.ask("no epoch", 1, &marker(&payments, -1, 0, &[0], &orders));
    stage.ask("an epoch that is over", 1, &marker(&payments, payments.epoch - 1, 0, &[0], &orders));
    stage.ask("as it stands", 12, &committed(&orders, vec![from(0, 0)]));
    stage.ask("the right one", 1, &marker(&payments, payments.epoch, 5, &[0], &orders));
    stage.ask("it is over", 12, &committed(&orders, vec![from(0, 0)]));
    stage.ask("its producers", 0, &producers(&orders, &[0, 1]));
    stage.ask("again", 1, &marker(&payments, payments.epoch, 5, &[0], &orders));
    stage.ask("from an older coordinator", 1, &marker(&payments, payments.epoch, 4, &[0], &orders));
    stage.ask("nothing to write", 1, &WriteTxnMarkersRequest::default());
    stage.ask("what is stored", 12, &fetch(&orders, vec![from(0, 0), from(1, 0)]));
    stage.ask("write on, without asking anew", 9, &payments.write(&orders, 0, &["b"]));
}
