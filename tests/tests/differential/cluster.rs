//! What a client asks first: versions, brokers, topics, coordinators.

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiVersionsRequest, DescribeClusterRequest, FindCoordinatorRequest, InitProducerIdRequest, ListOffsetsRequest,
    MetadataRequest, TopicName, TransactionalId,
};
use tests::differential::{Stage, metadata_of};
use tests::raw::frame_of;

use crate::verbs::text;

pub(crate) fn api_versions(stage: &mut Stage) {
    for version in 0..=2 {
        stage.ask(&format!("version {version}"), version, &ApiVersionsRequest::default());
    }
    let client = ApiVersionsRequest::default()
        .with_client_software_name(text("rehearsal-tests"))
        .with_client_software_version(text("1.0.0"));
    stage.ask("version 3", 3, &client);
    stage.ask("version 4", 4, &client);
    stage.ask("an empty software name", 3, &client.clone().with_client_software_name(text("")));
    stage.ask("a software name with blanks", 3, &client.clone().with_client_software_name(text("not a name")));
    stage.ask("an empty software version", 4, &client.with_client_software_version(text("")));
}

pub(crate) fn describe_cluster(stage: &mut Stage) {
    for version in 0..=2 {
        stage.ask(&format!("version {version}"), version, &DescribeClusterRequest::default());
    }
    let request = DescribeClusterRequest::default();
    stage.ask("authorised operations", 1, &request.clone().with_include_cluster_authorized_operations(true));
    stage.ask("controllers", 1, &request.clone().with_endpoint_type(2));
    stage.ask("an unknown endpoint type", 1, &request.clone().with_endpoint_type(7));
    stage.ask("fenced brokers too", 2, &request.with_include_fenced_brokers(true));
}

pub(crate) fn metadata(stage: &mut Stage) {
    let orders = stage.create_topic("orders", 3);
    let empty = stage.create_topic("single", 1);
    let ask = |names: &[&TopicName]| {
        let topics =
            names.iter().map(|name| MetadataRequestTopic::default().with_name(Some((**name).clone()))).collect();
        MetadataRequest::default().with_topics(Some(topics)).with_allow_auto_topic_creation(true)
    };
    for version in 0..=12 {
        stage.ask(&format!("two topics, version {version}"), version, &ask(&[&orders, &empty]));
    }
    stage.ask("two topics, version 13", 13, &ask(&[&orders, &empty]));
    for version in [4, 9, 12] {
        stage.ask(&format!("an unknown topic, version {version}"), version, &metadata_of(&stage.topic("unknown")));
    }
    for version in [1, 8, 12] {
        stage.ask_for_mine(
            &format!("all topics, version {version}"),
            version,
            &MetadataRequest::default().with_topics(None),
        );
    }
    stage.ask_for_mine("all topics, version 0", 0, &MetadataRequest::default().with_topics(Some(vec![])));
    stage.ask("no topics, version 1", 1, &MetadataRequest::default().with_topics(Some(vec![])));
    stage.ask("the same topic twice", 9, &ask(&[&orders, &orders]));
    let operations = ask(&[&orders]).with_include_topic_authorized_operations(true);
    stage.ask("authorised operations of a topic", 8, &operations);
    stage.ask("authorised operations of the cluster", 8, &operations.with_include_cluster_authorized_operations(true));

    let id = stage.topic_id(&orders);
    let by_id = |id| {
        let topic = MetadataRequestTopic::default().with_name(None).with_topic_id(id);
        MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(false)
    };
    stage.ask("by id, version 12", 12, &by_id(id));
    stage.ask("by an unknown id, version 12", 12, &by_id(uuid::Uuid::from_u128(0xfeed)));
    stage.ask("by the nil id without a name", 12, &by_id(uuid::Uuid::nil()));
    stage.ask("by id, version 10", 10, &by_id(id));
    let both = MetadataRequestTopic::default().with_name(Some(orders.clone())).with_topic_id(id);
    stage.ask("by name and id", 12, &MetadataRequest::default().with_topics(Some(vec![both])));
    stage.ask("an invalid name", 9, &metadata_of(&text("no blanks allowed").into()));
    stage.ask("an empty name", 9, &metadata_of(&text("").into()));
}

pub(crate) fn metadata_auto_creation(stage: &mut Stage) {
    let name = stage.topic("asked-for");
    stage.ask("creation not allowed", 4, &metadata_of(&name));
    stage.ask("creation allowed", 4, &metadata_of(&name).with_allow_auto_topic_creation(true));
    stage.await_leaders(&name, 1);
    stage.ask("a moment later", 4, &metadata_of(&name));
    let invalid = text("what?").into();
    stage.ask("an invalid name", 4, &metadata_of(&invalid).with_allow_auto_topic_creation(true));
    let old = stage.topic("asked-for-by-an-old-client");
    stage.ask("version 1 always creates", 1, &metadata_of(&old).with_allow_auto_topic_creation(true));
    stage.await_leaders(&old, 1);
    stage.ask("version 1, a moment later", 1, &metadata_of(&old).with_allow_auto_topic_creation(true));
    let internal = text("__consumer_offsets").into();
    stage.ask("the topic of offsets", 9, &metadata_of(&internal));
}

pub(crate) fn find_coordinator(stage: &mut Stage) {
    let group = stage.name("group");
    let one = FindCoordinatorRequest::default().with_key(group.clone());
    for version in 0..=3 {
        stage.ask(&format!("version {version}"), version, &one);
    }
    let several = FindCoordinatorRequest::default().with_coordinator_keys(vec![group.clone(), stage.name("another")]);
    for version in 4..=6 {
        stage.ask(&format!("two groups, version {version}"), version, &several);
    }
    stage.ask("no keys", 4, &FindCoordinatorRequest::default());
    stage.ask("an unknown type, version 1", 1, &one.clone().with_key_type(9));
    stage.ask("an unknown type, version 4", 4, &several.clone().with_key_type(9));
    stage.ask("an empty group, version 1", 1, &one.with_key(text("")));
    stage.ask("an empty group, version 4", 4, &FindCoordinatorRequest::default().with_coordinator_keys(vec![text("")]));
}

pub(crate) fn unsupported_versions(stage: &mut Stage) {
    let versions = frame_of("script", 1, 4, &ApiVersionsRequest::default()).expect("a frame");
    stage.ask_bytes("ApiVersions 99", &with_version(&versions, 99));
    stage.ask_bytes("ApiVersions -1", &with_version(&versions, -1));
    let metadata = frame_of("script", 1, 9, &MetadataRequest::default().with_topics(None)).expect("a frame");
    stage.ask_bytes("Metadata 99", &with_version(&metadata, 99));
    let offsets = frame_of("script", 1, 1, &ListOffsetsRequest::default()).expect("a frame");
    stage.ask_bytes("ListOffsets 0", &with_version(&offsets, 0));
    let producer = InitProducerIdRequest::default().with_transactional_id(None::<TransactionalId>);
    let producer = frame_of("script", 1, 4, &producer).expect("a frame");
    stage.ask_bytes("an unknown api", &with_api_key(&producer, 999));
    stage.ask_bytes("a negative api", &with_api_key(&producer, -5));
    stage.ask_bytes("an api of brokers", &with_api_key(&producer, 56));
}

fn with_api_key(frame: &[u8], api_key: i16) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[4..6].copy_from_slice(&api_key.to_be_bytes());
    frame
}

fn with_version(frame: &[u8], version: i16) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[6..8].copy_from_slice(&version.to_be_bytes());
    frame
}
