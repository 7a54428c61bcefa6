//! Producer ids, handed out from blocks that the controller allots.
//!
//! A block belongs to this process's life: what is left of it at the end is never used, so an id is never given out twice.

use std::ops::Range;

use thalweg_rpc::Error;
use thalweg_types::{BrokerEpoch, NodeId, ProducerId};
use tokio::sync::Mutex;

use thalweg_controller_client::ControllerClient;

#[derive(Debug, Default)]
pub(crate) struct ProducerIds {
    /// Held while a new block is fetched, so that one block is fetched at a time.
    block: Mutex<Range<i64>>,
}

impl ProducerIds {
    pub(crate) async fn next(
        &self,
        controller: &ControllerClient,
        node_id: NodeId,
        broker_epoch: BrokerEpoch,
    ) -> Result<ProducerId, Error> {
        let mut block = self.block.lock().await;
        loop {
            if let Some(id) = block.next() {
                return Ok(ProducerId(id));
            }
            *block = controller.allocate_producer_ids(node_id, broker_epoch).await?;
        }
    }
}
