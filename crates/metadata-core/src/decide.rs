//! Decisions: from a request and the latest image to facts, or a refusal.
//!
//! Nothing here changes an image. A request with several items is decided item by item: each gets its own answer, the facts of the
//! accepted ones are committed together.

mod alter_partition;
mod configs;
mod coordinators;
mod election;
mod features;
mod leaders;
mod nodes;
mod producer_ids;
mod reassignment;
mod topics;

pub use alter_partition::AlterPartition;
pub use configs::{AlterConfigs, AlteredResource, ConfigAlteration, ConfigChange, ConfigTarget};
pub use features::FeatureUpdate;
pub use leaders::{Candidate, ElectUnclean, ElectedUnclean, PartitionReference};
pub use nodes::{Heartbeat, HeartbeatAnswer, RegisterNode, Registered};
pub use producer_ids::{PRODUCER_ID_BLOCK_COUNT, ProducerIdBlock};
pub use reassignment::{OngoingReassignment, Reassign};
pub use topics::{
    CreatePartitions, CreateTopic, CreatedTopic, GrowTopic, PARTITIONS_PER_REQUEST_MAX,
    PARTITIONS_PER_TOPIC_MAX, RemovedTopic, TopicReference,
};

use crate::config::StaticConfigs;
use crate::error::Error;
use crate::image::Image;
use crate::record::Record;

/// What was decided: facts to commit, and the answer to give once they are.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision<R> {
    /// Empty when nothing changes.
    pub records: Vec<Record>,
    pub response: R,
}

/// Answer to one item of a request with several.
pub type ItemResult<T> = Result<T, Error>;

/// What the active controller goes by, besides the image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Defaults of topics and brokers, from the settings the cluster was started with.
    pub settings: StaticConfigs,
}

impl Image {
    /// This image with facts taken in that are decided but not yet committed: to decide on what follows from them.
    fn with(&self, records: &[Record]) -> Self {
        let mut image = self.clone();
        image.take_in(records);
        image
    }

    fn take_in(&mut self, records: &[Record]) {
        for record in records {
            self.apply(self.position(), record);
        }
    }
}

#[cfg(test)]
mod tests;
