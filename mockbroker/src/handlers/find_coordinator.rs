//! FindCoordinator (10), versions 0–6.
//!
//! Does: the broker that leads the key's partition of the groups' or transactions' internal topic; several keys at once
//! from version 4 on (KIP-699).
//! Leaves out: share coordinators.
//! Differs from Apache Kafka: the internal topic is there the moment it is first asked for, so nobody has to ask twice.

use super::access::To;
use super::{Answer, address};
use crate::cluster::Caller;
use crate::error::{ErrorCode, Reject};
use crate::fault::Part;
use crate::state::State;
use crate::state::nodes::Node;
use crate::state::security::acls::Operation;
use crate::state::topics::{OFFSETS_TOPIC, TRANSACTIONS_TOPIC};
use crate::time::Time;
use crate::wire::Str;
use crate::wire::generated::find_coordinator_request::FindCoordinatorRequest;
use crate::wire::generated::find_coordinator_response::{Coordinator, FindCoordinatorResponse};

/// The first version that asks for several keys.
const SEVERAL_FROM: i16 = 4;

pub(super) fn find_coordinator(state: &mut State, _: Time, from: &Caller, request: FindCoordinatorRequest) -> Answer {
    let key_type = request.key_type;
    if from.version >= SEVERAL_FROM {
        let rows = request.coordinator_keys.into_iter().map(|key| row(from, find(state, from, key_type, &key), key));
        return Answer::now(FindCoordinatorResponse { coordinators: rows.collect(), ..Default::default() });
    }
    let one = row(from, find(state, from, key_type, &request.key), request.key);
    Answer::now(FindCoordinatorResponse {
        error_code: one.error_code,
        // Kafka says so in words where nothing is wrong.
        error_message: one.error_message.filter(|text| !text.is_empty()).or(Some(Str::from_static("NONE"))),
        node_id: one.node_id,
        host: one.host,
        port: one.port,
        ..Default::default()
    })
}

fn find(state: &mut State, from: &Caller, key_type: i8, key: &str) -> Result<Node, Reject> {
    from.check_fault(Part::Named(key))?;
    let (topic, resource) = match key_type {
        0 => (OFFSETS_TOPIC, To::Group(key)),
        1 => (TRANSACTIONS_TOPIC, To::TransactionalId(key)),
        _ => return Err(ErrorCode::InvalidRequest.into()),
    };
    from.check_access(state, Operation::Describe, resource)?;
    let id = state.coordinator(topic, key)?;
    state.nodes.get(id).cloned().ok_or_else(|| ErrorCode::CoordinatorNotAvailable.into())
}

fn row(from: &Caller, found: Result<Node, Reject>, key: Str) -> Coordinator {
    match found {
        Ok(node) => {
            let (host, port) = address(&node, from.listener);
            Coordinator { key, node_id: node.id.0, host, port, error_code: 0, error_message: Some(Str::default()) }
        }
        Err(reject) => Coordinator {
            key,
            node_id: -1,
            host: Str::default(),
            port: -1,
            error_code: reject.code.code(),
            // Of several at once Kafka explains none, but for a key type it does not know.
            error_message: match reject.code {
                ErrorCode::InvalidRequest => super::message(&reject),
                _ if from.version >= SEVERAL_FROM => Some(Str::default()),
                _ => super::message(&reject),
            },
        },
    }
}
