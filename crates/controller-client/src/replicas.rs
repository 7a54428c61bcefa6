//! What brokers tell the controller about replicas.

use std::collections::BTreeSet;

use thalweg_metadata_core::{AlterPartition, Partition};
use thalweg_metadata_feed::codec;
use thalweg_proto::internal::controller::v1 as proto;
use thalweg_rpc::Error;
use thalweg_types::{BrokerEpoch, ErrorCode, LogIndex, NodeId, TopicIdPartition};

use crate::ControllerClient;

impl ControllerClient {
    /// AlterPartition (R7), of one leader and for several partitions: each as it is once the change is committed, or why nothing was
    /// changed. An error of the whole call leaves it open whether anything was applied, unless it says otherwise; it must not be
    /// repeated as it is (R8).
    pub async fn alter_partitions(
        &self,
        node_id: NodeId,
        broker_epoch: BrokerEpoch,
        proposals: &[AlterPartition],
    ) -> Result<Vec<Result<Partition, Error>>, Error> {
        let request = proto::AlterPartitionsRequest {
            node_id: node_id.0,
            broker_epoch: broker_epoch.0,
            proposals: proposals.iter().map(proposal).collect(),
        };
        let answer = self.client.clone().alter_partitions(request).await?.into_inner();
        if answer.partitions.len() != proposals.len() {
            return Err(unreadable("an answer for another number of partitions"));
        }
        Ok(answer.partitions.into_iter().map(altered).collect())
    }

    /// Tells the controller of replicas on this broker whose data may be incomplete (R13); returns the metadata log index at which they
    /// are neither in sync nor eligible any more.
    pub async fn report_unfit_replicas(
        &self,
        node_id: NodeId,
        broker_epoch: BrokerEpoch,
        replicas: &BTreeSet<TopicIdPartition>,
    ) -> Result<LogIndex, Error> {
        let request = proto::ReportUnfitReplicasRequest {
            node_id: node_id.0,
            broker_epoch: broker_epoch.0,
            replicas: replicas.iter().map(topic_id_partition).collect(),
        };
        let answer = self.client.clone().report_unfit_replicas(request).await?.into_inner();
        Ok(LogIndex(answer.index))
    }
}

fn proposal(proposal: &AlterPartition) -> proto::Proposal {
    let ids = |ids: &[NodeId]| ids.iter().map(|id| id.0).collect();
    let member = |(id, epoch): &(NodeId, BrokerEpoch)| proto::ProposedMember {
        node_id: id.0,
        broker_epoch: epoch.0,
    };
    proto::Proposal {
        partition: Some(topic_id_partition(&proposal.id)),
        leader_epoch: proposal.leader_epoch.0,
        partition_epoch: proposal.partition_epoch.0,
        isr: proposal.isr.iter().map(member).collect(),
        recovering: proposal.recovering,
        unfit: ids(&proposal.unfit),
        proven: ids(&proposal.proven),
    }
}

fn altered(partition: proto::AlteredPartition) -> Result<Partition, Error> {
    use proto::altered_partition::Result as Altered;
    match partition.result {
        Some(Altered::State(state)) => {
            codec::partition_from_proto(state).map_err(|error| unreadable(&error.to_string()))
        }
        Some(Altered::Error(error)) => Err(Error::from_detail(error)),
        None => Err(unreadable("neither a partition nor an error")),
    }
}

pub(super) fn topic_id_partition(id: &TopicIdPartition) -> proto::TopicIdPartition {
    proto::TopicIdPartition {
        topic_id: codec::uuid_to_proto(id.topic_id.0),
        partition: id.partition.0,
    }
}

/// Of an answer: what was asked may have been done.
pub(super) fn unreadable(what: &str) -> Error {
    Error::new(ErrorCode::UnknownServerError, format!("the controller sent {what}"))
}
