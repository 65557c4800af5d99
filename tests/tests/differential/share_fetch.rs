//! What share consumers (KIP-932) read and acknowledge, and how far their groups come.
//!
//! The codec knows ShareFetch, ShareAcknowledge and the APIs of offsets in their first versions, not those of Kafka 4.3 (2
//! and 1); what is new in them is tested against the core only.

use kafka_protocol::messages::alter_share_group_offsets_request::{
    AlterShareGroupOffsetsRequestPartition, AlterShareGroupOffsetsRequestTopic,
};
use kafka_protocol::messages::delete_share_group_offsets_request::DeleteShareGroupOffsetsRequestTopic;
use kafka_protocol::messages::describe_share_group_offsets_request::{
    DescribeShareGroupOffsetsRequestGroup, DescribeShareGroupOffsetsRequestTopic,
};
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::share_acknowledge_request::{
    AcknowledgePartition, AcknowledgeTopic, AcknowledgementBatch,
};
use kafka_protocol::messages::share_fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{
    AlterShareGroupOffsetsRequest, DeleteGroupsRequest, DeleteShareGroupOffsetsRequest,
    DescribeShareGroupOffsetsRequest, GroupId, IncrementalAlterConfigsRequest, ShareAcknowledgeRequest,
    ShareFetchRequest, ShareGroupHeartbeatRequest, TopicName, share_fetch_request,
};
use tests::differential::Stage;
use uuid::Uuid;

use crate::share_groups::until_assigned;
use crate::verbs::{batch, store, text};

const ACCEPT: i8 = 1;
const RELEASE: i8 = 2;
const REJECT: i8 = 3;

/// One consumer of one partition.
struct Reader {
    group: GroupId,
    member: &'static str,
    topic: Uuid,
    epoch: i32,
    max_records: i32,
}

impl Reader {
    fn fetch(&self, said: &[(i64, i64, &[i8])]) -> ShareFetchRequest {
        let batch = |(first, last, types): &(i64, i64, &[i8])| {
            share_fetch_request::AcknowledgementBatch::default()
                .with_first_offset(*first)
                .with_last_offset(*last)
                .with_acknowledge_types(types.to_vec())
        };
        let partition = FetchPartition::default().with_acknowledgement_batches(said.iter().map(batch).collect());
        let topic = FetchTopic::default().with_topic_id(self.topic).with_partitions(vec![partition]);
        ShareFetchRequest::default()
            .with_group_id(Some(self.group.clone()))
            .with_member_id(Some(text(self.member)))
            .with_share_session_epoch(self.epoch)
            .with_max_wait_ms(500)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_max_records(self.max_records)
            .with_batch_size(self.max_records)
            .with_topics(vec![topic])
    }

    fn acknowledge(&self, said: &[(i64, i64, &[i8])]) -> ShareAcknowledgeRequest {
        let batch = |(first, last, types): &(i64, i64, &[i8])| {
            AcknowledgementBatch::default()
                .with_first_offset(*first)
                .with_last_offset(*last)
                .with_acknowledge_types(types.to_vec())
        };
        let batches = said.iter().map(batch).collect();
        let partition = AcknowledgePartition::default().with_acknowledgement_batches(batches);
        let topic = AcknowledgeTopic::default().with_topic_id(self.topic).with_partitions(vec![partition]);
        ShareAcknowledgeRequest::default()
            .with_group_id(Some(self.group.clone()))
            .with_member_id(Some(text(self.member)))
            .with_share_session_epoch(self.epoch)
            .with_topics(vec![topic])
    }

    /// Fetches; the answer is compared.
    fn reads(&mut self, stage: &mut Stage, label: &str) {
        self.says_and_reads(stage, label, &[]);
    }

    fn says_and_reads(&mut self, stage: &mut Stage, label: &str, said: &[(i64, i64, &[i8])]) {
        stage.ask(label, 1, &self.fetch(said));
        self.epoch += 1;
    }

    /// Acknowledges; the answer is compared.
    fn says(&mut self, stage: &mut Stage, label: &str, said: &[(i64, i64, &[i8])]) {
        stage.ask(label, 1, &self.acknowledge(said));
        self.epoch += 1;
    }

    /// Opens a session, unrecorded; Kafka loads a partition beside its first fetch, whose answer is therefore empty or not.
    fn opens(&mut self, stage: &mut Stage) {
        self.epoch = 0;
        stage.quietly(1, &self.fetch(&[]).with_max_records(-1).with_max_wait_ms(2_000));
        self.epoch = 1;
    }
}

/// A group that begins at the beginning, with a member whose partitions are initialised.
fn reader(stage: &mut Stage, base: &str, member: &'static str, topic: &TopicName) -> Reader {
    let group = stage.group(base);
    configure(stage, &group, "share.auto.offset.reset", "earliest");
    let join = ShareGroupHeartbeatRequest::default()
        .with_group_id(group.clone())
        .with_member_id(text(member))
        .with_subscribed_topic_names(Some(vec![topic.clone()]));
    stage.quietly(1, &join);
    until_assigned(stage, &group, member, 1);
    let topic = stage.topic_id(topic);
    Reader { group, member, topic, epoch: 0, max_records: 10 }
}

fn configure(stage: &mut Stage, group: &GroupId, name: &str, value: &str) {
    const GROUP: i8 = 32;
    let config = AlterableConfig::default().with_name(text(name)).with_value(Some(text(value)));
    let resource = AlterConfigsResource::default()
        .with_resource_type(GROUP)
        .with_resource_name(group.0.clone())
        .with_configs(vec![config]);
    stage.quietly(1, &IncrementalAlterConfigsRequest::default().with_resources(vec![resource]));
}

fn describe(group: &GroupId, topics: Option<&[(&TopicName, &[i32])]>) -> DescribeShareGroupOffsetsRequest {
    let topic = |(name, partitions): &(&TopicName, &[i32])| {
        DescribeShareGroupOffsetsRequestTopic::default()
            .with_topic_name((*name).clone())
            .with_partitions(partitions.to_vec())
    };
    let group = DescribeShareGroupOffsetsRequestGroup::default()
        .with_group_id(group.clone())
        .with_topics(topics.map(|topics| topics.iter().map(topic).collect()));
    DescribeShareGroupOffsetsRequest::default().with_groups(vec![group])
}

pub(crate) fn share_fetch_and_acknowledge(stage: &mut Stage) {
    let topic = stage.create_topic("jobs", 1);
    let mut ann = reader(stage, "fetching", "ann", &topic);
    store(stage, &topic, 0, &batch(&["a", "b", "c"]));
    store(stage, &topic, 0, &batch(&["d"]));
    ann.opens(stage);
    ann.reads(stage, "two batches");
    ann.reads(stage, "nothing more");
    ann.says(stage, "one each", &[(0, 2, &[ACCEPT, RELEASE, REJECT]), (3, 3, &[RELEASE])]);
    ann.reads(stage, "released records again");
    ann.says_and_reads(stage, "said with a fetch", &[(1, 1, &[ACCEPT])]);
    ann.says(stage, "before the start", &[(0, 0, &[ACCEPT])]);
    ann.says(stage, "what nobody has", &[(7, 9, &[ACCEPT])]);
    ann.says(stage, "too much", &[(3, 9, &[ACCEPT])]);
    ann.says(stage, "a gap", &[(3, 3, &[0])]);
    store(stage, &topic, 0, &batch(&["e", "f"]));
    ann.max_records = 1;
    ann.reads(stage, "a batch although one record is wanted");
    ann.epoch = -1;
    stage.ask("the session ends", 1, &ann.acknowledge(&[(4, 4, &[ACCEPT])]));
    ann.opens(stage);
    ann.max_records = 10;
    ann.reads(stage, "the rest was released");
}

pub(crate) fn share_fetch_in_parts(stage: &mut Stage) {
    let topic = stage.create_topic("jobs", 1);
    let mut ann = reader(stage, "parts", "ann", &topic);
    let mut ben = reader(stage, "parts", "ben", &topic);
    for values in [["a", "b"], ["c", "d"], ["e", "f"], ["g", "h"]] {
        store(stage, &topic, 0, &batch(&values));
    }
    ann.opens(stage);
    ben.opens(stage);
    ann.max_records = 3;
    ann.reads(stage, "as many batches as hold three records");
    ben.reads(stage, "the others");
    ann.says(stage, "released in part", &[(1, 2, &[RELEASE])]);
    ben.reads(stage, "records out of batches");
    ann.says(stage, "not hers any more", &[(1, 1, &[ACCEPT])]);
    ben.says(stage, "his", &[(1, 2, &[ACCEPT])]);
    ann.says(stage, "the rest of hers", &[(0, 0, &[ACCEPT]), (3, 3, &[RELEASE])]);
    ann.reads(stage, "one came back");
    ben.says(stage, "one by one", &[(4, 4, &[RELEASE]), (5, 5, &[ACCEPT]), (6, 7, &[RELEASE])]);
    ben.reads(stage, "one and two");
}

pub(crate) fn share_fetch_refused(stage: &mut Stage) {
    let topic = stage.create_topic("jobs", 1);
    let mut ann = reader(stage, "refused", "ann", &topic);
    store(stage, &topic, 0, &batch(&["a", "b"]));
    ann.epoch = 1;
    stage.ask("no session", 1, &ann.fetch(&[]));
    stage.ask("no session to acknowledge in", 1, &ann.acknowledge(&[(0, 0, &[ACCEPT])]));
    ann.epoch = -1;
    stage.ask("no session to end", 1, &ann.fetch(&[]));
    ann.epoch = 0;
    stage.ask("acknowledging at once", 1, &ann.fetch(&[(0, 0, &[ACCEPT])]));
    stage.ask("acknowledging opens no session", 1, &ann.acknowledge(&[(0, 0, &[ACCEPT])]));
    stage.ask("no member", 1, &ann.fetch(&[]).with_member_id(None));
    stage.ask("no group", 1, &ann.fetch(&[]).with_group_id(None));
    stage.ask("a member of no name", 1, &ann.acknowledge(&[]).with_member_id(Some(text(""))));
    ann.opens(stage);
    ann.epoch = 5;
    stage.ask("out of order", 1, &ann.fetch(&[]));
    stage.ask("out of order, too", 1, &ann.acknowledge(&[]));
    ann.epoch = 1;
    ann.reads(stage, "in order");
    ann.says(stage, "backwards", &[(1, 0, &[ACCEPT])]);
    ann.says(stage, "no outcome", &[(0, 0, &[])]);
    ann.says(stage, "too many outcomes", &[(0, 0, &[ACCEPT, ACCEPT])]);
    ann.says(stage, "an outcome that is none", &[(0, 0, &[9])]);
    ann.says(stage, "an outcome of later versions", &[(0, 0, &[4])]);
    ann.says(stage, "out of order within", &[(1, 1, &[ACCEPT]), (0, 0, &[ACCEPT])]);
    ann.says(stage, "nothing", &[]);
    let known = std::mem::replace(&mut ann.topic, Uuid::from_u128(7));
    ann.says(stage, "an unknown topic", &[(0, 0, &[ACCEPT])]);
    ann.reads(stage, "an unknown topic to fetch");
    ann.topic = known;
    ann.says_and_reads(stage, "refused beside a fetch", &[(0, 7, &[ACCEPT])]);
    ann.says(stage, "still hers", &[(0, 1, &[ACCEPT])]);
}

pub(crate) fn share_group_offsets(stage: &mut Stage) {
    let topic = stage.create_topic("jobs", 2);
    let stranger = stage.topic("nowhere");
    let mut ann = reader(stage, "offsets", "ann", &topic);
    let group = ann.group.clone();
    store(stage, &topic, 0, &batch(&["a", "b", "c"]));
    stage.ask("before anything was read", 0, &describe(&group, None));
    stage.ask("of a group that is none", 0, &describe(&stage.group("nobody"), None));
    // Of a partition that does not exist Kafka answers nothing, ever.
    let asked: &[(&TopicName, &[i32])] = &[(&topic, &[0, 1]), (&stranger, &[0])];
    ann.opens(stage);
    ann.reads(stage, "read");
    ann.says(stage, "two accepted", &[(0, 1, &[ACCEPT])]);
    stage.ask("two are over", 0, &describe(&group, Some(asked)));
    ann.says(stage, "the last accepted", &[(2, 2, &[ACCEPT])]);
    stage.ask("all are over", 0, &describe(&group, None));
    let alter = |topic: &TopicName, rows: &[(i32, i64)]| {
        let row = |(index, offset): &(i32, i64)| {
            AlterShareGroupOffsetsRequestPartition::default().with_partition_index(*index).with_start_offset(*offset)
        };
        let topic = AlterShareGroupOffsetsRequestTopic::default()
            .with_topic_name(topic.clone())
            .with_partitions(rows.iter().map(row).collect());
        AlterShareGroupOffsetsRequest::default().with_group_id(group.clone()).with_topics(vec![topic])
    };
    let delete = |topics: &[&TopicName]| {
        let topic = |name: &&TopicName| DeleteShareGroupOffsetsRequestTopic::default().with_topic_name((*name).clone());
        DeleteShareGroupOffsetsRequest::default()
            .with_group_id(group.clone())
            .with_topics(topics.iter().map(topic).collect())
    };
    stage.ask("altered while somebody is in it", 0, &alter(&topic, &[(0, 1)]));
    stage.ask("deleted while somebody is in it", 0, &delete(&[&topic]));
    let leave = ShareGroupHeartbeatRequest::default()
        .with_group_id(group.clone())
        .with_member_id(text("ann"))
        .with_member_epoch(-1);
    stage.quietly(1, &leave);
    stage.ask("altered", 0, &alter(&topic, &[(0, 1), (7, 1)]));
    stage.ask("altered for no topic", 0, &alter(&stranger, &[(0, 1)]));
    stage.ask("as altered", 0, &describe(&group, None));
    stage.ask("deleted", 0, &delete(&[&topic, &stranger]));
    stage.ask("deleted again", 0, &delete(&[&topic]));
    stage.ask("as deleted", 0, &describe(&group, None));
    let of_nobody = delete(&[&topic]).with_group_id(stage.group("nobody"));
    stage.ask("deleted of a group that is none", 0, &of_nobody);
    stage.ask("the group deleted", 2, &DeleteGroupsRequest::default().with_groups_names(vec![group.clone()]));
    stage.ask("of the deleted group", 0, &describe(&group, Some(&[(&topic, &[0])])));
}
