//! Nodes, quorum and replicas: questions about them from the image and the quorum, commands to the controller.

use std::collections::BTreeSet;
use std::time::Duration;

use thalweg_metadata_core::Image;
use thalweg_proto::admin::v1 as proto;
use thalweg_proto::internal::controller::v1 as controller;
use thalweg_rpc::{Deadline, Error};
use thalweg_types::{PartitionIndex, Uuid};

use super::changes::CHANGE_TIME_MAX;
use crate::port::BrokerPort;
use crate::shared::{Shared, on_behalf};
use crate::words;

/// Partitions of one call.
const PARTITIONS_MAX: usize = 10_000;

/// Brokers of one plan.
const BROKERS_MAX: usize = 1_000;

/// Moves of one plan.
const MOVES_MAX: u32 = 10_000;

/// Longest time for a voter to catch up.
const VOTER_TIME_MAX: Duration = Duration::from_secs(120);

// ---- Quorum ---------------------------------------------------------------------------------------------------------------------

pub(super) async fn describe_quorum<B: BrokerPort>(
    shared: &Shared<B>,
    deadline: Deadline,
) -> Result<proto::DescribeQuorumResponse, Error> {
    let call = on_behalf(controller::DescribeQuorumRequest {}, deadline, CHANGE_TIME_MAX);
    let quorum = shared.controller.clone().describe_quorum(call).await?.into_inner();
    let last_index = quorum.last_index;
    let member = |member: controller::QuorumMember| proto::QuorumMember {
        controller_id: member.node_id,
        dir_id: <[u8; 16]>::try_from(&member.dir_id[..])
            .map(|bytes| Uuid::from_bytes(bytes).to_string())
            .unwrap_or_default(),
        endpoint: member.endpoint,
        voter: member.voter,
        lag: member.matched_index.map(|matched| last_index.saturating_sub(matched)),
        last_heard_ms: member.last_heard_ms,
    };
    Ok(proto::DescribeQuorumResponse {
        leader_id: quorum.leader_id,
        controller_epoch: quorum.controller_epoch,
        committed_index: quorum.committed_index,
        answering_id: quorum.answering_id,
        members: quorum.members.into_iter().map(member).collect(),
    })
}

pub(super) async fn add_voter<B: BrokerPort>(
    shared: &Shared<B>,
    request: proto::AddVoterRequest,
    deadline: Deadline,
) -> Result<proto::AddVoterResponse, Error> {
    let proto::AddVoterRequest { controller_id, endpoint } = request;
    if controller_id == 0 {
        return Err(Error::invalid_request("controller_id must be at least 1").not_applied());
    }
    let message = controller::AddVoterRequest { node_id: controller_id, endpoint };
    let call = on_behalf(message, deadline, VOTER_TIME_MAX);
    shared.controller.clone().add_voter(call).await?;
    Ok(proto::AddVoterResponse {})
}

pub(super) async fn remove_voter<B: BrokerPort>(
    shared: &Shared<B>,
    request: proto::RemoveVoterRequest,
    deadline: Deadline,
) -> Result<proto::RemoveVoterResponse, Error> {
    let message = controller::RemoveVoterRequest { node_id: request.controller_id };
    let call = on_behalf(message, deadline, CHANGE_TIME_MAX);
    shared.controller.clone().remove_voter(call).await?;
    Ok(proto::RemoveVoterResponse {})
}

// ---- Replicas -------------------------------------------------------------------------------------------------------------------

pub(super) async fn reassign<B: BrokerPort>(
    shared: &Shared<B>,
    request: proto::ReassignRequest,
    deadline: Deadline,
) -> Result<proto::ReassignResponse, Error> {
    words::some_but_at_most("reassignments", request.reassignments.len(), PARTITIONS_MAX)?;
    let mut partitions = Vec::with_capacity(request.reassignments.len());
    let mut moves = Vec::with_capacity(request.reassignments.len());
    for reassignment in request.reassignments {
        let partition = named(reassignment.partition)?;
        let target = match reassignment.replicas {
            replicas if replicas.is_empty() => None,
            node_ids => Some(controller::NodeList { node_ids }),
        };
        moves.push(controller::Move {
            topic: partition.topic.clone(),
            partition: partition.partition,
            target,
        });
        partitions.push(partition);
    }
    let call = on_behalf(controller::ReassignRequest { moves }, deadline, CHANGE_TIME_MAX);
    let answer = shared.controller.clone().reassign(call).await?.into_inner();
    shared.see(answer.index, deadline).await;
    let result = |(partition, answer): (proto::TopicPartition, controller::ReassignedPartition)| {
        proto::PartitionResult { partition: Some(partition), error: answer.error }
    };
    let results = partitions.into_iter().zip(answer.partitions).map(result).collect();
    Ok(proto::ReassignResponse { results })
}

pub(super) fn list_reassignments(
    image: &Image,
    request: proto::ListReassignmentsRequest,
) -> Result<proto::ListReassignmentsResponse, Error> {
    words::at_most("the number of partitions", request.partitions.len(), PARTITIONS_MAX)?;
    let wanted = request.partitions.into_iter().map(|partition| {
        named(Some(partition))
            .map(|partition| (partition.topic, PartitionIndex(partition.partition)))
    });
    let wanted = wanted.collect::<Result<BTreeSet<_>, _>>()?;
    let ongoing = image.reassignments().filter(|ongoing| {
        wanted.is_empty() || wanted.contains(&(ongoing.topic.to_string(), ongoing.partition))
    });
    let ids = |nodes: &[thalweg_types::NodeId]| nodes.iter().map(|node| node.0).collect();
    let ongoing = ongoing.map(|ongoing| {
        let state = image.partition(ongoing.topic.as_str(), ongoing.partition);
        proto::OngoingReassignment {
            partition: Some(proto::TopicPartition {
                topic: ongoing.topic.to_string(),
                partition: ongoing.partition.0,
            }),
            replicas: ids(&ongoing.replicas),
            adding: ids(&ongoing.adding),
            removing: ids(&ongoing.removing),
            in_sync_replicas: state.map(|state| ids(&state.isr)).unwrap_or_default(),
        }
    });
    Ok(proto::ListReassignmentsResponse { reassignments: ongoing.collect() })
}

pub(super) async fn plan_reassignment<B: BrokerPort>(
    shared: &Shared<B>,
    request: proto::PlanReassignmentRequest,
    deadline: Deadline,
) -> Result<proto::PlanReassignmentResponse, Error> {
    words::at_most("the number of leaving", request.leaving.len(), BROKERS_MAX)?;
    let moves_max = words::at_most("moves_max", request.moves_max, MOVES_MAX)?;
    let message = controller::PlanMovesRequest { leaving: request.leaving, moves_max };
    let call = on_behalf(message, deadline, CHANGE_TIME_MAX);
    let answer = shared.controller.clone().plan_moves(call).await?.into_inner();
    let planned = |step: controller::Move| proto::Reassignment {
        partition: Some(proto::TopicPartition { topic: step.topic, partition: step.partition }),
        replicas: step.target.map(|target| target.node_ids).unwrap_or_default(),
    };
    let stays = |one: controller::StayingPartition| proto::StayingPartition {
        partition: one
            .partition
            .map(|name| proto::TopicPartition { topic: name.topic, partition: name.partition }),
        reason: one.reason,
    };
    Ok(proto::PlanReassignmentResponse {
        reassignments: answer.moves.into_iter().map(planned).collect(),
        staying: answer.staying.into_iter().map(stays).collect(),
    })
}

pub(super) async fn elect_preferred_leaders<B: BrokerPort>(
    shared: &Shared<B>,
    request: proto::ElectPreferredLeadersRequest,
    deadline: Deadline,
) -> Result<proto::ElectPreferredLeadersResponse, Error> {
    words::at_most("the number of partitions", request.partitions.len(), PARTITIONS_MAX)?;
    let all = request.partitions.is_empty();
    let partitions = request.partitions.into_iter().map(|partition| {
        named(Some(partition)).map(|partition| controller::PartitionName {
            topic: partition.topic,
            partition: partition.partition,
        })
    });
    let partitions = partitions.collect::<Result<_, _>>()?;
    let message = controller::ElectPreferredLeadersRequest { partitions, all };
    let call = on_behalf(message, deadline, CHANGE_TIME_MAX);
    let answer = shared.controller.clone().elect_preferred_leaders(call).await?.into_inner();
    shared.see(answer.index, deadline).await;
    let result = |elected: controller::ElectedLeader| proto::PartitionResult {
        partition: elected
            .partition
            .map(|name| proto::TopicPartition { topic: name.topic, partition: name.partition }),
        error: elected.error,
    };
    let results = answer.partitions.into_iter().map(result).collect();
    Ok(proto::ElectPreferredLeadersResponse { results })
}

/// A partition that can be meant.
pub(super) fn named(
    partition: Option<proto::TopicPartition>,
) -> Result<proto::TopicPartition, Error> {
    let partition =
        partition.ok_or_else(|| Error::invalid_request("partition must be given").not_applied())?;
    words::topic_name(&partition.topic)?;
    words::partition(partition.partition)?;
    Ok(partition)
}

// ---- Nodes ----------------------------------------------------------------------------------------------------------------------

pub(super) async fn shut_down_broker<B: BrokerPort>(
    shared: &Shared<B>,
    request: proto::ShutDownBrokerRequest,
    deadline: Deadline,
) -> Result<proto::ShutDownBrokerResponse, Error> {
    let message = controller::RequestShutdownRequest { node_id: request.node_id };
    let call = on_behalf(message, deadline, CHANGE_TIME_MAX);
    let answer = shared.controller.clone().request_shutdown(call).await?.into_inner();
    Ok(proto::ShutDownBrokerResponse { broker_epoch: answer.broker_epoch })
}

pub(super) async fn unregister_broker<B: BrokerPort>(
    shared: &Shared<B>,
    request: proto::UnregisterBrokerRequest,
    deadline: Deadline,
) -> Result<proto::UnregisterBrokerResponse, Error> {
    let message = controller::UnregisterNodeRequest { node_id: request.node_id };
    let call = on_behalf(message, deadline, CHANGE_TIME_MAX);
    let answer = shared.controller.clone().unregister_node(call).await?.into_inner();
    shared.see(answer.index, deadline).await;
    Ok(proto::UnregisterBrokerResponse {})
}
