//! DescribeCluster (60), versions 0–2.
//!
//! Does: brokers with racks, the controller, stopped brokers on request (KIP-1073).
//! Leaves out: the controllers' own endpoints.
//! Differs from Apache Kafka: none known.

use super::{Answer, NO_OPERATIONS, address, rack};
use crate::cluster::Caller;
use crate::error::ErrorCode;
use crate::state::State;
use crate::time::Time;
use crate::wire::Str;
use crate::wire::generated::describe_cluster_request::DescribeClusterRequest;
use crate::wire::generated::describe_cluster_response::{DescribeClusterBroker, DescribeClusterResponse};

/// The endpoint type that asks for brokers.
const BROKERS: i8 = 1;
/// The endpoint type that asks for controllers, which only a controller answers.
const CONTROLLERS: i8 = 2;

pub(super) fn describe_cluster(state: &mut State, _: Time, from: &Caller, request: DescribeClusterRequest) -> Answer {
    if request.endpoint_type != BROKERS {
        let (code, message) = if request.endpoint_type == CONTROLLERS {
            (ErrorCode::MismatchedEndpointType, "this is a broker; it does not describe controllers")
        } else {
            (ErrorCode::UnsupportedEndpointType, "the endpoint type is neither 1 (brokers) nor 2 (controllers)")
        };
        return Answer::now(DescribeClusterResponse {
            error_code: code.code(),
            error_message: Some(Str::from(message)),
            ..Default::default()
        });
    }
    let brokers = state.nodes.iter().filter(|node| !node.fenced || request.include_fenced_brokers);
    Answer::now(DescribeClusterResponse {
        cluster_id: Str::from(state.cluster_id.as_str()),
        controller_id: state.nodes.controller().map_or(-1, |node| node.0),
        brokers: brokers
            .map(|node| {
                let (host, port) = address(node, from.listener);
                DescribeClusterBroker { broker_id: node.id.0, host, port, rack: rack(node), is_fenced: !node.running }
            })
            .collect(),
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            from.operations_on_cluster(state)
        } else {
            NO_OPERATIONS
        },
        ..Default::default()
    })
}
