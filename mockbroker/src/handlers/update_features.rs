//! UpdateFeatures (57), versions 0–2.
//!
//! Does: raises and lowers the levels of features, all or none; validation only; `transaction.version`, `group.version` and
//! `eligible.leader.replicas.version` act at once.
//! Leaves out: `timeout_ms` (nothing to wait for), the quorum's own `kraft.version`, going back to an older `metadata.version`.
//! Differs from Apache Kafka: none known.

use super::access::To;
use super::{Answer, message};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::fault::Part;
use crate::state::State;
use crate::state::features::Direction;
use crate::state::security::acls::Operation;
use crate::time::Time;
use crate::wire::generated::update_features_request::{FeatureUpdateKey, UpdateFeaturesRequest};
use crate::wire::generated::update_features_response::{UpdatableFeatureResult, UpdateFeaturesResponse};

pub(super) fn update_features(state: &mut State, _: Time, from: &Caller, request: UpdateFeaturesRequest) -> Answer {
    Answer::now(match update(state, from, &request) {
        Ok(()) if from.version >= 2 => UpdateFeaturesResponse { error_message: None, ..Default::default() },
        Ok(()) => {
            let named = request.feature_updates.into_iter();
            // Kafka explains even what went well.
            let text = message(&ErrorCode::None.into());
            let results = named.map(|named| UpdatableFeatureResult {
                feature: named.feature,
                error_code: 0,
                error_message: text.clone(),
            });
            UpdateFeaturesResponse { error_message: None, results: results.collect(), ..Default::default() }
        }
        Err(reject) => UpdateFeaturesResponse {
            error_code: reject.code.code(),
            error_message: message(&reject),
            ..Default::default()
        },
    })
}

fn update(state: &mut State, from: &Caller, request: &UpdateFeaturesRequest) -> Result<(), Reject> {
    from.check_access(state, Operation::Alter, To::Cluster)?;
    from.check_fault(Part::Whole)?;
    let asked = request.feature_updates.iter();
    let updates = asked.map(|asked| Ok((&*asked.feature, asked.max_version_level, direction(from.version, asked)?)));
    let updates: Vec<_> = updates.collect::<Result<_, Reject>>()?;
    state.update_features(&updates, request.validate_only)
}

fn direction(version: i16, asked: &FeatureUpdateKey) -> Result<Direction, Reject> {
    match asked.upgrade_type {
        _ if version == 0 && asked.allow_downgrade => Ok(Direction::SafeDowngrade),
        _ if version == 0 => Ok(Direction::Upgrade),
        1 => Ok(Direction::Upgrade),
        2 => Ok(Direction::SafeDowngrade),
        3 => Ok(Direction::UnsafeDowngrade),
        other => {
            let message = format!("{} is to be changed in the unknown way {other}", asked.feature);
            Err(Reject::new(ErrorCode::InvalidUpdateVersion, message))
        }
    }
}
