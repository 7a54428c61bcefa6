//! Producer ids: given out in blocks, so that brokers rarely have to ask.

use thalweg_types::{BrokerEpoch, NodeId, ProducerId};

use super::Decision;
use crate::error::Error;
use crate::image::Image;
use crate::record::Record;

/// Ids per block. A block is lost when its broker stops, which is nothing against 2^63.
pub const PRODUCER_ID_BLOCK_COUNT: i64 = 1000;

/// Ids that nobody else gets, now or later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerIdBlock {
    pub first: ProducerId,
    pub count: i64,
}

impl Image {
    pub fn decide_allocate_producer_ids(
        &self,
        node_id: NodeId,
        broker_epoch: BrokerEpoch,
    ) -> Result<Decision<ProducerIdBlock>, Error> {
        self.registered(node_id, broker_epoch)?;
        let first = self.next_producer_id();
        let next =
            first.0.checked_add(PRODUCER_ID_BLOCK_COUNT).ok_or(Error::ProducerIdsExhausted)?;
        let record = Record::ProducerIdsAllocated { next_producer_id: ProducerId(next) };
        let response = ProducerIdBlock { first, count: PRODUCER_ID_BLOCK_COUNT };
        Ok(Decision { records: vec![record], response })
    }
}
