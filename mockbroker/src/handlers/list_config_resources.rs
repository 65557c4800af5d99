//! ListConfigResources (74), versions 0–1.
//!
//! Does: everything that has configs, or the types asked for; version 0 knows only metric subscriptions.
//! Leaves out: nothing.
//! Differs from Apache Kafka: resources of a type come sorted.

use super::Answer;
use super::access::To;
use super::config_resources::ResourceKind;
use crate::cluster::Caller;
use crate::error::ErrorCode;
use crate::state::State;
use crate::state::security::acls::Operation;
use crate::time::Time;
use crate::wire::Str;
use crate::wire::generated::list_config_resources_request::ListConfigResourcesRequest;
use crate::wire::generated::list_config_resources_response::{ConfigResource, ListConfigResourcesResponse};

pub(super) fn list_config_resources(
    state: &mut State,
    _: Time,
    from: &Caller,
    request: ListConfigResourcesRequest,
) -> Answer {
    if let Err(reject) = from.check_access(state, Operation::DescribeConfigs, To::Cluster) {
        return Answer::now(ListConfigResourcesResponse { error_code: reject.code.code(), ..Default::default() });
    }
    let asked = request.resource_types;
    if asked.iter().any(|kind| ResourceKind::from_code(*kind).is_none()) {
        let error_code = ErrorCode::UnsupportedVersion.code();
        return Answer::now(ListConfigResourcesResponse { error_code, ..Default::default() });
    }
    let wanted = |kind: &ResourceKind| match from.version {
        0 => *kind == ResourceKind::ClientMetrics,
        _ => asked.is_empty() || asked.contains(&(*kind as i8)),
    };
    let config_resources = ResourceKind::ALL.into_iter().filter(wanted).flat_map(|kind| rows(state, kind)).collect();
    Answer::now(ListConfigResourcesResponse { config_resources, ..Default::default() })
}

fn rows(state: &State, kind: ResourceKind) -> Vec<ConfigResource> {
    let names: Vec<Str> = match kind {
        ResourceKind::Group => state.configs.groups().map(Str::from).collect(),
        ResourceKind::ClientMetrics => state.configs.client_metrics().map(Str::from).collect(),
        ResourceKind::Broker | ResourceKind::BrokerLogger => {
            state.nodes.alive().map(|node| Str::from(node.id.0.to_string())).collect()
        }
        ResourceKind::Topic => state.topics.iter().map(|topic| Str::from(topic.name.as_str())).collect(),
    };
    names.into_iter().map(|resource_name| ConfigResource { resource_name, resource_type: kind as i8 }).collect()
}
