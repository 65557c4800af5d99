//! AlterConfigs (33), versions 0–2.
//!
//! Does: replaces all configs of a resource by those named; validation only.
//! Leaves out: alter-config policies, effects of configs the broker does not act upon.
//! Differs from Apache Kafka: Java classes are not looked for, so any class name is accepted.

use super::Answer;
use super::config_resources::{alter_each, code, text};
use crate::cluster::Caller;
use crate::state::State;
use crate::state::configs::{Configs, Resource};
use crate::time::Time;
use crate::wire::generated::alter_configs_request::{AlterConfigsRequest, AlterableConfig};
use crate::wire::generated::alter_configs_response::{AlterConfigsResourceResponse, AlterConfigsResponse};

pub(super) fn alter_configs(state: &mut State, now: Time, from: &Caller, request: AlterConfigsRequest) -> Answer {
    let resources = request.resources.into_iter();
    let resources = resources.map(|asked| ((asked.resource_type, asked.resource_name), asked.configs)).collect();
    let admit = |configs: &Configs, judge, resource: &Resource, asked: Vec<AlterableConfig>| {
        let entries: Vec<_> = asked.iter().map(|config| (config.name.as_str(), config.value.as_deref())).collect();
        configs.admit_replacement(judge, resource, &entries)
    };
    let outcomes = alter_each(state, now, from, resources, request.validate_only, admit);
    let responses = outcomes.into_iter().map(|((resource_type, resource_name), outcome)| {
        let (error_code, error_message) = (code(&outcome), text(&outcome));
        AlterConfigsResourceResponse { error_code, error_message, resource_type, resource_name }
    });
    Answer::now(AlterConfigsResponse { responses: responses.collect(), ..Default::default() })
}
