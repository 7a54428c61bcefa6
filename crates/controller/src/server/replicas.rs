//! Calls about replicas: what leaders propose, what brokers report, moves and elections.

use std::collections::BTreeSet;

use thalweg_metadata_core::{
    AlterPartition, Decision, Error as Refusal, Image, ItemResult, Partition, PartitionReference,
    Reassign, Record, Staying,
};
use thalweg_metadata_feed::codec::{partition_to_proto, uuid_from_proto};
use thalweg_proto::internal::controller::v1 as proto;
use thalweg_types::{
    BrokerEpoch, LeaderEpoch, NodeId, PartitionEpoch, PartitionIndex, TopicId, TopicIdPartition,
};
use tonic::Status;

use super::Server;
use super::translate::{ToDetail as _, check_count, missing, node_ids};
use crate::error::unreadable;

/// Moves that one plan has at most: as many as one call can begin.
const PLANNED_MOVES_MAX: usize = 10_000;

/// Partitions of which a plan says why they stay.
const STAYING_MAX: usize = 1_000;

// ---- Proposals and reports ------------------------------------------------------------------------------------------------------

pub(super) async fn alter_partitions(
    server: &Server,
    request: proto::AlterPartitionsRequest,
) -> Result<proto::AlterPartitionsResponse, Status> {
    let proposals = read_proposals(request)?;
    let policy = server.policy.clone();
    let decided = server
        .calls
        .decide(move |image| Ok(image.decide_alter_partitions(&proposals, &policy)))
        .await;
    let (index, results) = decided.map_err(|error| server.status(error))?;
    let partitions = results.into_iter().map(altered).collect();
    Ok(proto::AlterPartitionsResponse { partitions, index: index.0 })
}

pub(super) fn read_proposals(
    request: proto::AlterPartitionsRequest,
) -> Result<Vec<AlterPartition>, Status> {
    check_count(request.proposals.len())?;
    let leader = NodeId(request.node_id);
    let broker_epoch = BrokerEpoch(request.broker_epoch);
    let read = |proposal: proto::Proposal| {
        let member = |member: proto::ProposedMember| {
            (NodeId(member.node_id), BrokerEpoch(member.broker_epoch))
        };
        Ok(AlterPartition {
            id: read_id(proposal.partition)?,
            leader,
            broker_epoch,
            leader_epoch: LeaderEpoch(proposal.leader_epoch),
            partition_epoch: PartitionEpoch(proposal.partition_epoch),
            isr: proposal.isr.into_iter().map(member).collect(),
            recovering: proposal.recovering,
            unfit: node_ids(proposal.unfit),
            proven: node_ids(proposal.proven),
        })
    };
    request.proposals.into_iter().map(read).collect()
}

fn altered(result: ItemResult<Partition>) -> proto::AlteredPartition {
    use proto::altered_partition::Result as Altered;
    let result = match result {
        Ok(state) => Some(Altered::State(partition_to_proto(&state))),
        Err(refusal) => refusal.to_detail().map(Altered::Error),
    };
    proto::AlteredPartition { result }
}

pub(super) async fn report_unfit(
    server: &Server,
    request: proto::ReportUnfitReplicasRequest,
) -> Result<proto::ReportUnfitReplicasResponse, Status> {
    let node_id = NodeId(request.node_id);
    let broker_epoch = BrokerEpoch(request.broker_epoch);
    let replicas = read_unfit(request)?;
    let count = replicas.len();
    let decided = server
        .calls
        .decide(move |image| image.decide_replicas_unfit(node_id, broker_epoch, &replicas))
        .await;
    let (index, ()) = decided.map_err(|error| server.status(error))?;
    tracing::warn!(%node_id, count, "replicas were reported to be incomplete");
    Ok(proto::ReportUnfitReplicasResponse { index: index.0 })
}

pub(super) fn read_unfit(
    request: proto::ReportUnfitReplicasRequest,
) -> Result<BTreeSet<TopicIdPartition>, Status> {
    check_count(request.replicas.len())?;
    request.replicas.into_iter().map(|replica| read_id(Some(replica))).collect()
}

fn read_id(id: Option<proto::TopicIdPartition>) -> Result<TopicIdPartition, Status> {
    let id = id.ok_or_else(|| missing("a partition must be named"))?;
    let topic_id = uuid_from_proto("topic_id", &id.topic_id)
        .map_err(|error| Status::from(unreadable(&error)))?;
    Ok(TopicIdPartition { topic_id: TopicId(topic_id), partition: PartitionIndex(id.partition) })
}

// ---- Moves ----------------------------------------------------------------------------------------------------------------------

pub(super) async fn reassign(
    server: &Server,
    request: proto::ReassignRequest,
) -> Result<proto::ReassignResponse, Status> {
    let moves = read_moves(request)?;
    let policy = server.policy.clone();
    let decided =
        server.calls.decide(move |image| Ok(image.decide_reassign(&moves, &policy))).await;
    let (index, results) = decided.map_err(|error| server.status(error))?;
    let partitions = results
        .into_iter()
        .map(|result| proto::ReassignedPartition { error: result.err().to_detail() })
        .collect();
    Ok(proto::ReassignResponse { partitions, index: index.0 })
}

pub(super) fn read_moves(request: proto::ReassignRequest) -> Result<Vec<Reassign>, Status> {
    check_count(request.moves.len())?;
    let read = |asked: proto::Move| Reassign {
        topic: asked.topic,
        partition: PartitionIndex(asked.partition),
        target: asked.target.map(|target| node_ids(target.node_ids)),
    };
    Ok(request.moves.into_iter().map(read).collect())
}

/// A plan is made on the image that holds everything decided, so it asks the task like a change.
pub(super) async fn plan_moves(
    server: &Server,
    request: proto::PlanMovesRequest,
) -> Result<proto::PlanMovesResponse, Status> {
    check_count(request.leaving.len())?;
    let leaving: BTreeSet<_> = node_ids(request.leaving).into_iter().collect();
    let moves_max = match usize::try_from(request.moves_max).unwrap_or(PLANNED_MOVES_MAX) {
        0 => PLANNED_MOVES_MAX,
        wanted => wanted.min(PLANNED_MOVES_MAX),
    };
    let seed = server.random.next_u64();
    let planned = move |image: &Image| {
        if let Some(unknown) = leaving.iter().find(|id| image.node(**id).is_none()) {
            return Err(Refusal::UnknownNode(*unknown));
        }
        let mut plan = match leaving.is_empty() {
            true => image.plan_balance(moves_max, seed),
            false => image.plan_evacuation(&leaving, seed),
        };
        let mut staying = image.staying_after(&leaving, &plan);
        staying.truncate(STAYING_MAX);
        plan.truncate(moves_max);
        Ok(Decision { records: Vec::new(), response: (plan, staying) })
    };
    let (_, (plan, staying)) =
        server.calls.decide(planned).await.map_err(|error| server.status(error))?;
    let planned = |step: Reassign| proto::Move {
        topic: step.topic,
        partition: step.partition.0,
        target: step
            .target
            .map(|target| proto::NodeList { node_ids: target.iter().map(|id| id.0).collect() }),
    };
    let stays = |Staying { topic, partition, reason }: Staying| proto::StayingPartition {
        partition: Some(proto::PartitionName { topic: topic.to_string(), partition: partition.0 }),
        reason: reason.to_string(),
    };
    Ok(proto::PlanMovesResponse {
        moves: plan.into_iter().map(planned).collect(),
        staying: staying.into_iter().map(stays).collect(),
    })
}

// ---- Elections ------------------------------------------------------------------------------------------------------------------

/// Partitions asked for, and whether each got another leader.
type Elected = Vec<(PartitionReference, ItemResult<()>)>;

pub(super) async fn elect_preferred(
    server: &Server,
    request: proto::ElectPreferredLeadersRequest,
) -> Result<proto::ElectPreferredLeadersResponse, Status> {
    let wanted = read_elections(request)?;
    let decided = server
        .calls
        .decide(move |image| {
            Ok(match wanted {
                Some(partitions) => elect_named(image, partitions),
                None => elect_all(image),
            })
        })
        .await;
    let (index, elected) = decided.map_err(|error| server.status(error))?;
    let partitions = elected
        .into_iter()
        .map(|(PartitionReference { topic, partition }, result)| proto::ElectedLeader {
            partition: Some(proto::PartitionName { topic, partition: partition.0 }),
            error: result.err().to_detail(),
        })
        .collect();
    Ok(proto::ElectPreferredLeadersResponse { partitions, index: index.0 })
}

/// `None`: all partitions.
pub(super) fn read_elections(
    request: proto::ElectPreferredLeadersRequest,
) -> Result<Option<Vec<PartitionReference>>, Status> {
    let proto::ElectPreferredLeadersRequest { partitions, all } = request;
    check_count(partitions.len())?;
    match (all, partitions.is_empty()) {
        (true, false) => Err(missing("either all partitions are meant, or those named")),
        (true, true) => Ok(None),
        (false, _) => Ok(Some(partitions.into_iter().map(reference).collect())),
    }
}

fn elect_named(image: &Image, partitions: Vec<PartitionReference>) -> Decision<Elected> {
    let Decision { records, response } = image.decide_elect_preferred(&partitions);
    Decision { records, response: partitions.into_iter().zip(response).collect() }
}

fn elect_all(image: &Image) -> Decision<Elected> {
    let Decision { records, .. } = image.decide_elect_all_preferred();
    let changed = records.iter().filter_map(|record| match record {
        Record::PartitionChanged { topic_id, partition, .. } => {
            let topic = image.topic_by_id(*topic_id)?.name.to_string();
            Some((PartitionReference { topic, partition: *partition }, Ok(())))
        }
        _ => None,
    });
    let response = changed.collect();
    Decision { records, response }
}

pub(super) fn reference(name: proto::PartitionName) -> PartitionReference {
    PartitionReference { topic: name.topic, partition: PartitionIndex(name.partition) }
}
