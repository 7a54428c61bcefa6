//! What operators ask the controller, as their Kafka calls arrive here: moves, elections, nodes, the quorum.

use thalweg_metadata_core::{FeatureUpdate, PartitionReference, Reassign};
use thalweg_proto::internal::controller::v1 as proto;
use thalweg_rpc::Error;
use thalweg_types::{LogIndex, NodeId};

use crate::{Answer, ControllerClient};

impl ControllerClient {
    /// Starts, replaces or cancels moves.
    pub async fn reassign(&self, moves: Vec<Reassign>) -> Result<Answer<()>, Error> {
        let step = |step: Reassign| proto::Move {
            topic: step.topic,
            partition: step.partition.0,
            target: step
                .target
                .map(|target| proto::NodeList { node_ids: target.iter().map(|id| id.0).collect() }),
        };
        let request = proto::ReassignRequest { moves: moves.into_iter().map(step).collect() };
        let answer = self.client.clone().reassign(request).await?.into_inner();
        let items = answer.partitions.into_iter().map(|partition| match partition.error {
            Some(error) => Err(Error::from_detail(error)),
            None => Ok(()),
        });
        Ok(Answer { index: LogIndex(answer.index), items: items.collect() })
    }

    /// Gives leadership to the preferred leaders of these partitions.
    pub async fn elect_preferred_leaders(
        &self,
        partitions: &[PartitionReference],
    ) -> Result<Answer<()>, Error> {
        let request = proto::ElectPreferredLeadersRequest {
            partitions: partitions.iter().map(partition_name).collect(),
            all: false,
        };
        let answer = self.client.clone().elect_preferred_leaders(request).await?.into_inner();
        let items = answer.partitions.into_iter().map(|elected| match elected.error {
            Some(error) => Err(Error::from_detail(error)),
            None => Ok(()),
        });
        Ok(Answer { index: LogIndex(answer.index), items: items.collect() })
    }

    /// Makes those replicas of these partitions lead that have most of their logs; each partition may be named once.
    pub async fn elect_unclean_leaders(
        &self,
        partitions: &[PartitionReference],
    ) -> Result<Answer<()>, Error> {
        let request = proto::ElectUncleanLeadersRequest {
            partitions: partitions.iter().map(partition_name).collect(),
            validate_only: false,
        };
        let answer = self.client.clone().elect_unclean_leaders(request).await?.into_inner();
        let items = answer.partitions.into_iter().map(|election| match election.error {
            Some(error) => Err(Error::from_detail(error)),
            None => Ok(()),
        });
        Ok(Answer { index: LogIndex(answer.index), items: items.collect() })
    }

    /// Raises or lowers the levels of features, all or none; returns the metadata log index at which they hold.
    pub async fn update_features(
        &self,
        updates: Vec<FeatureUpdate>,
        validate_only: bool,
    ) -> Result<LogIndex, Error> {
        let update = |update: FeatureUpdate| proto::FeatureUpdate {
            name: update.name,
            level: update.level.into(),
            downgrade: update.may_lower,
        };
        let updates = updates.into_iter().map(update).collect();
        let request = proto::UpdateFeaturesRequest { updates, validate_only };
        let answer = self.client.clone().update_features(request).await?.into_inner();
        Ok(LogIndex(answer.index))
    }

    /// Forgets a node that is gone.
    pub async fn unregister_node(&self, node_id: NodeId) -> Result<LogIndex, Error> {
        let request = proto::UnregisterNodeRequest { node_id: node_id.0 };
        let answer = self.client.clone().unregister_node(request).await?.into_inner();
        Ok(LogIndex(answer.index))
    }

    /// The quorum, as its active voter sees it.
    pub async fn describe_quorum(&self) -> Result<proto::DescribeQuorumResponse, Error> {
        let request = proto::DescribeQuorumRequest {};
        Ok(self.client.clone().describe_quorum(request).await?.into_inner())
    }
}

fn partition_name(partition: &PartitionReference) -> proto::PartitionName {
    proto::PartitionName { topic: partition.topic.clone(), partition: partition.partition.0 }
}
