//! AlterClientQuotas (49), versions 0–1.
//!
//! Does: quotas of users, client ids and both, each of a name or of all that have none of their own; producer and consumer
//! byte rates and the request percentage act, per broker: too much is answered with a throttle time, for which the
//! connection's next request waits (KIP-219).
//! Leaves out: effects of `controller_mutation_rate` and `connection_creation_rate`.
//! Differs from Apache Kafka: a request counts as a tenth of a millisecond of a thread's time; any name of an address is
//! taken, resolvable or not.

use super::access::To;
use super::{Answer, message};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::fault::Part;
use crate::state::State;
use crate::state::quotas::{Entity, EntityType, Op};
use crate::state::security::acls::Operation;
use crate::time::Time;
use crate::wire::Str;
use crate::wire::generated::alter_client_quotas_request as asked;
use crate::wire::generated::alter_client_quotas_response::{AlterClientQuotasResponse, EntityData, EntryData};

pub(super) fn alter_client_quotas(
    state: &mut State,
    _: Time,
    from: &Caller,
    request: asked::AlterClientQuotasRequest,
) -> Answer {
    let entries = request.entries.into_iter().map(|entry| {
        let altered = alter(state, from, &entry, request.validate_only);
        row(entry.entity, altered)
    });
    let entries = entries.collect();
    Answer::now(AlterClientQuotasResponse { entries, ..Default::default() })
}

fn alter(state: &mut State, from: &Caller, entry: &asked::EntryData, validate_only: bool) -> Result<(), Reject> {
    from.check_access(state, Operation::AlterConfigs, To::Cluster)?;
    from.check_fault(Part::Whole)?;
    let mut entity = Entity::new();
    for part in &entry.entity {
        let invalid = |why: String| Reject::new(ErrorCode::InvalidRequest, why);
        let kind = EntityType::named(&part.entity_type);
        let kind = kind.ok_or_else(|| invalid(format!("there are no quotas for a '{}'", part.entity_type)))?;
        entity.insert(kind, part.entity_name.as_ref().map(Str::to_string));
    }
    let ops: Vec<Op<'_>> = entry.ops.iter().map(|op| (&*op.key, (!op.remove).then_some(op.value))).collect();
    state.quotas.alter(&entity, &ops, validate_only)
}

fn row(entity: Vec<asked::EntityData>, altered: Result<(), Reject>) -> EntryData {
    let named = entity.into_iter();
    let entity =
        named.map(|part| EntityData { entity_type: part.entity_type, entity_name: part.entity_name }).collect();
    match altered {
        Ok(()) => EntryData { entity, error_code: 0, error_message: None },
        Err(reject) => EntryData { entity, error_code: reject.code.code(), error_message: message(&reject) },
    }
}
