//! ApiVersions (18), versions 0–4.
//!
//! Does: advertises what is served; answers a version from the future in version 0 (KIP-511); refuses a client name
//! or version that is not one (KIP-511); features (KIP-584).
//! Leaves out: nothing.
//! Differs from Apache Kafka: only features that work here are finalised.

use super::{Answer, served};
use crate::cluster::Caller;
use crate::error::ErrorCode;
use crate::session::UNSUPPORTED;
use crate::state::State;
use crate::time::Time;
use crate::wire::generated::api_versions_request::ApiVersionsRequest;
use crate::wire::generated::api_versions_response::{
    ApiVersion, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use crate::wire::{ApiKey, Str};

pub(super) fn api_versions(state: &mut State, _: Time, from: &Caller, request: ApiVersionsRequest) -> Answer {
    if from.version == UNSUPPORTED {
        let own = served(state.features.release()).filter(|(api, ..)| *api == ApiKey::ApiVersions);
        return Answer::now(ApiVersionsResponse {
            error_code: ErrorCode::UnsupportedVersion.code(),
            api_keys: own.map(row).collect(),
            ..Default::default()
        });
    }
    if !is_valid(from.version, &request) {
        return Answer::now(ApiVersionsResponse { error_code: ErrorCode::InvalidRequest.code(), ..Default::default() });
    }
    Answer::now(ApiVersionsResponse {
        api_keys: served(state.features.release()).map(row).collect(),
        // Version 4 may say that a feature starts at level 0; before, clients choke on it (KIP-584, KAFKA-17011).
        supported_features: state
            .features
            .supported()
            .filter(|feature| from.version >= 4 || feature.min > 0)
            .map(|feature| SupportedFeatureKey {
                name: Str::from(feature.name),
                min_version: feature.min,
                max_version: feature.max,
            })
            .collect(),
        finalized_features_epoch: state.features.epoch(),
        finalized_features: state
            .features
            .finalised()
            .map(|(name, level)| FinalizedFeatureKey {
                name: Str::from(name),
                max_version_level: level,
                min_version_level: level,
            })
            .collect(),
        ..Default::default()
    })
}

fn row((api, min_version, max_version): (ApiKey, i16, i16)) -> ApiVersion {
    ApiVersion { api_key: api.code(), min_version, max_version }
}

/// Whether the client says what it is made of, as it must from version 3 on.
pub(crate) fn is_valid(version: i16, request: &ApiVersionsRequest) -> bool {
    version < 3 || (is_software(&request.client_software_name) && is_software(&request.client_software_version))
}

/// Letters and digits, with dots and dashes between them (KIP-511).
fn is_software(name: &str) -> bool {
    let edge = |c: char| c.is_ascii_alphanumeric();
    name.starts_with(edge) && name.ends_with(edge) && name.chars().all(|c| edge(c) || matches!(c, '.' | '-'))
}
