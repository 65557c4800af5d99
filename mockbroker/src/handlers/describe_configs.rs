//! DescribeConfigs (32), versions 1–4.
//!
//! Does: topics, brokers, all brokers together, groups, metric subscriptions, a broker's logger; names asked for;
//! synonyms with their sources; types; secrets kept.
//! Leaves out: documentation texts (they are Kafka's prose; the field is null), loggers other than `root`.
//! Differs from Apache Kafka: configs come sorted by name.

use super::config_resources::{ResourceKind, guarded, named};
use super::{Answer, message};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::state::State;
use crate::state::configs::{DescribedConfig, Resource, Source, Synonym};
use crate::state::security::acls::Operation;
use crate::time::Time;
use crate::wire::Str;
use crate::wire::generated::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use crate::wire::generated::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};

pub(super) fn describe_configs(state: &mut State, _: Time, from: &Caller, request: DescribeConfigsRequest) -> Answer {
    // One type Kafka cannot describe spoils the whole request.
    let spoilt = request.resources.iter().any(|asked| ResourceKind::from_code(asked.resource_type).is_none());
    let results = request.resources.into_iter().map(|asked| {
        let described = if spoilt { Err(ErrorCode::InvalidRequest.into()) } else { describe_one(state, from, &asked) };
        row(asked, described, request.include_synonyms)
    });
    Answer::now(DescribeConfigsResponse { results: results.collect(), ..Default::default() })
}

fn describe_one(state: &State, from: &Caller, asked: &DescribeConfigsResource) -> Result<Vec<DescribedConfig>, Reject> {
    let kind = ResourceKind::from_code(asked.resource_type).ok_or(ErrorCode::InvalidRequest)?;
    from.check_access(state, Operation::DescribeConfigs, guarded(kind, &asked.resource_name))?;
    let resource = named(from, kind, &asked.resource_name)?;
    if let Resource::Topic(topic) = &resource
        && state.topics.get(topic).is_none()
    {
        return Err(Reject::new(ErrorCode::UnknownTopicOrPartition, ""));
    }
    let keys: Option<Vec<String>> =
        asked.configuration_keys.as_ref().map(|keys| keys.iter().map(|key| key.to_string()).collect());
    Ok(state.configs.describe(&resource, from.node.0, keys.as_deref()))
}

fn row(
    asked: DescribeConfigsResource,
    described: Result<Vec<DescribedConfig>, Reject>,
    synonyms: bool,
) -> DescribeConfigsResult {
    let (code, text, configs) = match described {
        Ok(configs) => (ErrorCode::None, Some(Str::default()), configs),
        Err(reject) => (reject.code, message(&reject), Vec::new()),
    };
    DescribeConfigsResult {
        error_code: code.code(),
        error_message: text,
        resource_type: asked.resource_type,
        resource_name: asked.resource_name,
        configs: configs.into_iter().map(|config| config_row(config, synonyms)).collect(),
    }
}

fn config_row(config: DescribedConfig, synonyms: bool) -> DescribeConfigsResourceResult {
    let synonyms = config.synonyms.into_iter().filter(|_| synonyms).map(synonym_row).collect();
    DescribeConfigsResourceResult {
        name: Str::from(config.name),
        value: config.value.map(Str::from),
        read_only: config.read_only,
        config_source: config.source as i8,
        is_sensitive: config.sensitive,
        synonyms,
        config_type: config.kind.map_or(0, |kind| kind as i8),
        // Kafka's loggers have no documentation, and it says so with an empty text.
        documentation: (config.source == Source::BrokerLogger).then(Str::default),
    }
}

fn synonym_row(synonym: Synonym) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym {
        name: Str::from(synonym.name),
        value: synonym.value.map(Str::from),
        source: synonym.source as i8,
    }
}
