//! DescribeClientQuotas (48), versions 0–1.
//!
//! Does: quotas by exact name, by default or by type, strictly or not.
//! Leaves out: nothing.
//! Differs from Apache Kafka: none known.

use super::access::To;
use super::{Answer, message};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::fault::Part;
use crate::state::State;
use crate::state::quotas::{Entity, EntityType};
use crate::state::security::acls::Operation;
use crate::time::Time;
use crate::wire::Str;
use crate::wire::generated::describe_client_quotas_request::{ComponentData, DescribeClientQuotasRequest};
use crate::wire::generated::describe_client_quotas_response::{
    DescribeClientQuotasResponse, EntityData, EntryData, ValueData,
};
use std::collections::BTreeMap;

/// What an entity must have of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    /// This name, or the default.
    Name(Option<String>),
    Any,
}

pub(super) fn describe_client_quotas(
    state: &mut State,
    _: Time,
    from: &Caller,
    request: DescribeClientQuotasRequest,
) -> Answer {
    let access = from.check_access(state, Operation::DescribeConfigs, To::Cluster);
    let wanted = access.and_then(|()| from.check_fault(Part::Whole)).and_then(|()| read(&request.components));
    Answer::now(match wanted {
        Ok(wanted) => {
            let meant = state.quotas.iter().filter(|(entity, _)| matches(entity, &wanted, request.strict));
            let entries = meant.map(|(entity, quotas)| EntryData {
                entity: entity.iter().map(|(kind, name)| part(*kind, name.as_deref())).collect(),
                values: quotas
                    .iter()
                    .map(|(key, value)| ValueData { key: Str::from(key.as_str()), value: *value })
                    .collect(),
            });
            DescribeClientQuotasResponse { entries: Some(entries.collect()), ..Default::default() }
        }
        Err(reject) => DescribeClientQuotasResponse {
            error_code: reject.code.code(),
            error_message: message(&reject).filter(|_| reject.code != ErrorCode::ClusterAuthorizationFailed),
            entries: None,
            ..Default::default()
        },
    })
}

fn read(components: &[ComponentData]) -> Result<BTreeMap<EntityType, Wanted>, Reject> {
    let mut wanted = BTreeMap::new();
    for component in components {
        let name = component.entity_type.as_str();
        if name.is_empty() {
            return invalid("the type of the entity is empty");
        }
        let kind = EntityType::named(name)
            .ok_or_else(|| Reject::new(ErrorCode::UnsupportedVersion, format!("there are no quotas for a '{name}'")))?;
        let meant = match (component.match_type, &component.match_) {
            (0, Some(name)) => Wanted::Name(Some(name.to_string())),
            (1, None) => Wanted::Name(None),
            (2, None) => Wanted::Any,
            _ => return invalid("the match type is unknown, or does not fit what is to be matched"),
        };
        if wanted.insert(kind, meant).is_some() {
            return invalid(format!("the filter names '{name}' twice"));
        }
    }
    if wanted.contains_key(&EntityType::Ip) && wanted.len() > 1 {
        return invalid("quotas for addresses are for no user and no client id");
    }
    Ok(wanted)
}

fn matches(entity: &Entity, wanted: &BTreeMap<EntityType, Wanted>, strict: bool) -> bool {
    let fits = |(kind, wanted): (&EntityType, &Wanted)| match (entity.get(kind), wanted) {
        (None, _) => false,
        (Some(_), Wanted::Any) => true,
        (Some(name), Wanted::Name(wanted)) => name == wanted,
    };
    wanted.iter().all(fits) && (!strict || entity.len() == wanted.len())
}

fn part(kind: EntityType, name: Option<&str>) -> EntityData {
    EntityData { entity_type: Str::from(kind.name()), entity_name: name.map(Str::from) }
}

fn invalid<T>(why: impl Into<std::borrow::Cow<'static, str>>) -> Result<T, Reject> {
    Err(Reject::new(ErrorCode::InvalidRequest, why))
}
