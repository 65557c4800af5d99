//! Older releases of Kafka, and features.

use crate::kafka::{Kafka, body, code};
use rehearsal_mockbroker::config::ClusterConfig;
use rehearsal_mockbroker::error::ErrorCode;
use rehearsal_mockbroker::release::Release;
use rehearsal_mockbroker::wire::generated::api_versions_request::ApiVersionsRequest;
use rehearsal_mockbroker::wire::generated::api_versions_response::ApiVersionsResponse;
use rehearsal_mockbroker::wire::generated::consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest;
use rehearsal_mockbroker::wire::generated::metadata_request::MetadataRequest;
use rehearsal_mockbroker::wire::generated::update_features_request::{FeatureUpdateKey, UpdateFeaturesRequest};
use rehearsal_mockbroker::wire::{ApiKey, Request, Response, Str, Writer};

fn as_of(release: Release) -> Kafka {
    Kafka::new(&ClusterConfig { release, ..ClusterConfig::default() })
}

fn versions(kafka: &mut Kafka) -> ApiVersionsResponse {
    let software = Str::from("tests");
    let request = ApiVersionsRequest { client_software_name: software.clone(), client_software_version: software };
    body!(kafka.ask(1, 3, request), ApiVersions)
}

fn max_of(versions: &ApiVersionsResponse, api: ApiKey) -> Option<i16> {
    versions.api_keys.iter().find(|row| row.api_key == api.code()).map(|row| row.max_version)
}

fn level_of(versions: &ApiVersionsResponse, feature: &str) -> Option<i16> {
    versions.finalized_features.iter().find(|row| row.name == feature).map(|row| row.max_version_level)
}

#[test]
fn an_older_release_advertises_what_it_had() {
    let old = versions(&mut as_of(Release::V2_8));
    assert_eq!(max_of(&old, ApiKey::Produce), Some(9));
    assert_eq!(max_of(&old, ApiKey::Fetch), Some(12));
    assert_eq!(max_of(&old, ApiKey::DescribeTransactions), None, "it came with 3.0 (KIP-664)");
    assert_eq!(max_of(&old, ApiKey::ConsumerGroupHeartbeat), None);
    assert!(old.finalized_features.is_empty());

    let middle = versions(&mut as_of(Release::V3_9));
    assert_eq!(max_of(&middle, ApiKey::Produce), Some(11));
    assert_eq!((level_of(&middle, "metadata.version"), level_of(&middle, "transaction.version")), (Some(21), None));

    let new = versions(&mut as_of(Release::V4_3));
    assert_eq!(max_of(&new, ApiKey::Produce), Some(13));
    assert_eq!(level_of(&new, "transaction.version"), Some(2));
}

#[test]
fn later_versions_close_the_connection_of_an_older_release() {
    for (release, version, understood) in
        [(Release::V2_8, 11, true), (Release::V2_8, 12, false), (Release::V3_1, 12, true)]
    {
        let mut session = as_of(release).cluster.session();
        session.receive(&metadata_frame(version));
        assert_eq!(session.next_request().is_ok(), understood, "Metadata {version} as {release}");
    }
}

fn metadata_frame(version: i16) -> Vec<u8> {
    let mut frame = ApiKey::Metadata.code().to_be_bytes().to_vec();
    frame.extend(version.to_be_bytes());
    frame.extend([0, 0, 0, 7, 0xff, 0xff, 0]);
    let mut body = Writer::new();
    let request = MetadataRequest { topics: None, ..Default::default() };
    Request::from(request).encode(version, &mut body).expect("a request");
    frame.extend(body.into_bytes());
    let mut out = u32::try_from(frame.len()).expect("a short frame").to_be_bytes().to_vec();
    out.extend(frame);
    out
}

#[test]
fn the_consumer_protocol_is_off_before_4_0() {
    let heartbeat = ConsumerGroupHeartbeatRequest { group_id: Str::from("group"), ..Default::default() };
    let answer = as_of(Release::V3_9).ask(1, 0, heartbeat);
    assert_eq!(code(body!(answer, ConsumerGroupHeartbeat).error_code), ErrorCode::UnsupportedVersion);
}

fn update(kafka: &mut Kafka, feature: &str, level: i16, upgrade_type: i8) -> ErrorCode {
    let update =
        FeatureUpdateKey { feature: Str::from(feature), max_version_level: level, upgrade_type, ..Default::default() };
    let request = UpdateFeaturesRequest { feature_updates: vec![update], ..Default::default() };
    code(body!(kafka.ask(1, 2, request), UpdateFeatures).error_code)
}

#[test]
fn features_go_up_and_down_when_told_which_way() {
    let mut kafka = as_of(Release::V4_3);
    assert_eq!(update(&mut kafka, "transaction.version", 1, 1), ErrorCode::InvalidUpdateVersion, "that is down");
    assert_eq!(update(&mut kafka, "transaction.version", 1, 2), ErrorCode::None);
    assert_eq!(level_of(&versions(&mut kafka), "transaction.version"), Some(1));
    assert_eq!(update(&mut kafka, "transaction.version", 3, 1), ErrorCode::InvalidUpdateVersion);
    assert_eq!(update(&mut kafka, "no.such.version", 1, 1), ErrorCode::InvalidUpdateVersion);
    assert_eq!(update(&mut kafka, "transaction.version", 2, 1), ErrorCode::None);
    assert_eq!(level_of(&versions(&mut kafka), "transaction.version"), Some(2));
}
