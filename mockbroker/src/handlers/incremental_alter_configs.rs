//! IncrementalAlterConfigs (44), versions 0–1.
//!
//! Does: set, delete, append, subtract, for every kind of resource; validation only; in force when the answer is.
//! Leaves out: alter-config policies, effects of configs the broker does not act upon.
//! Differs from Apache Kafka: Java classes are not looked for, so any class name is accepted.

use super::Answer;
use super::config_resources::{alter_each, code, text};
use crate::cluster::Caller;
use crate::state::State;
use crate::state::configs::{Alteration, Configs, Op, Resource};
use crate::time::Time;
use crate::wire::generated::incremental_alter_configs_request::{AlterableConfig, IncrementalAlterConfigsRequest};
use crate::wire::generated::incremental_alter_configs_response::{
    AlterConfigsResourceResponse, IncrementalAlterConfigsResponse,
};

pub(super) fn incremental_alter_configs(
    state: &mut State,
    now: Time,
    from: &Caller,
    request: IncrementalAlterConfigsRequest,
) -> Answer {
    let resources = request.resources.into_iter();
    let resources = resources.map(|asked| ((asked.resource_type, asked.resource_name), asked.configs)).collect();
    let admit = |configs: &Configs, judge, resource: &Resource, asked: Vec<AlterableConfig>| {
        let alterations: Vec<_> = asked.iter().map(alteration).collect();
        configs.admit_alterations(judge, resource, &alterations)
    };
    let outcomes = alter_each(state, now, from, resources, request.validate_only, admit);
    let responses = outcomes.into_iter().map(|((resource_type, resource_name), outcome)| {
        let (error_code, error_message) = (code(&outcome), text(&outcome));
        AlterConfigsResourceResponse { error_code, error_message, resource_type, resource_name }
    });
    Answer::now(IncrementalAlterConfigsResponse { responses: responses.collect(), ..Default::default() })
}

fn alteration(config: &AlterableConfig) -> Alteration<'_> {
    let op = match config.config_operation {
        0 => Op::Set,
        1 => Op::Delete,
        2 => Op::Append,
        3 => Op::Subtract,
        unknown => Op::Unknown(unknown),
    };
    Alteration { name: &config.name, op, value: config.value.as_deref() }
}
