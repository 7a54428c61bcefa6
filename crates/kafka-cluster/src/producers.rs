//! InitProducerId for idempotent producers, and FindCoordinator.

use thalweg_kafka::KafkaString;
use thalweg_kafka::messages::find_coordinator::Coordinator;
use thalweg_kafka::messages::{
    FindCoordinatorRequest, FindCoordinatorResponse, InitProducerIdRequest, InitProducerIdResponse,
};
use thalweg_types::{ErrorCode, NodeId, ProducerEpoch, ProducerId};

use crate::Member;

/// First version that asks for several coordinators at once (KIP-699).
const MANY_KEYS_SINCE: i16 = 4;

/// What a client is told while no coordinator serves groups or transactions: it may ask again.
const NO_COORDINATOR: &str = "no coordinator serves groups or transactions in this cluster";

pub(crate) async fn init_producer_id<M: Member>(
    member: &M,
    request: &InitProducerIdRequest,
) -> InitProducerIdResponse {
    let refused = |code: ErrorCode| InitProducerIdResponse {
        error_code: code.code(),
        producer_id: ProducerId::NONE.0,
        producer_epoch: ProducerEpoch::NONE.0,
        ..Default::default()
    };
    if request.transactional_id.is_some() {
        return refused(ErrorCode::CoordinatorNotAvailable);
    }
    match member.new_producer_id().await {
        Ok(id) => {
            InitProducerIdResponse { producer_id: id.0, producer_epoch: 0, ..Default::default() }
        }
        Err(error) => {
            tracing::warn!(%error, "no producer id to be had");
            refused(ErrorCode::CoordinatorLoadInProgress)
        }
    }
}

pub(crate) fn find_coordinator(
    version: i16,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let code = ErrorCode::CoordinatorNotAvailable.code();
    let message = Some(KafkaString::from(NO_COORDINATOR));
    if version < MANY_KEYS_SINCE {
        return FindCoordinatorResponse {
            error_code: code,
            error_message: message,
            node_id: NodeId::NONE.0,
            port: -1,
            ..Default::default()
        };
    }
    let coordinators = request.coordinator_keys.into_iter().map(|key| Coordinator {
        key,
        node_id: NodeId::NONE.0,
        port: -1,
        error_code: code,
        error_message: message.clone(),
        ..Default::default()
    });
    FindCoordinatorResponse { coordinators: coordinators.collect(), ..Default::default() }
}
