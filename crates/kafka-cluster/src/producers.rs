//! InitProducerId for idempotent producers.

use thalweg_kafka::messages::{InitProducerIdRequest, InitProducerIdResponse};
use thalweg_types::{ErrorCode, ProducerEpoch, ProducerId};

use crate::Member;

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
