//! AlterPartitionReassignments and ListPartitionReassignments: moves of partitions to other replicas (KIP-455).

use std::collections::BTreeSet;

use thalweg_kafka::KafkaString;
use thalweg_kafka::messages::alter_partition_reassignments::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use thalweg_kafka::messages::list_partition_reassignments::{
    ListPartitionReassignmentsTopics, OngoingPartitionReassignment, OngoingTopicReassignment,
};
use thalweg_kafka::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};
use thalweg_metadata_core::{Image, OngoingReassignment, Reassign};
use thalweg_rpc::Error;
use thalweg_types::{ErrorCode, NodeId, PartitionIndex};

use crate::Member;
use crate::metadata::node_numbers;

pub(crate) async fn alter<M: Member>(
    member: &M,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let image = member.image();
    let keeps_factor = !request.allow_replication_factor_change;
    let mut steps = Vec::new();
    let mut refused = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let step = Reassign {
                topic: topic.name.to_string(),
                partition: PartitionIndex(partition.partition_index),
                target: partition
                    .replicas
                    .as_ref()
                    .map(|ids| ids.iter().copied().map(NodeId).collect()),
            };
            let refusal = keeps_factor.then(|| check_factor(&image, &step)).flatten();
            if refusal.is_none() {
                steps.push(step);
            }
            refused.push(refusal);
        }
    }
    let mut results = match member.controller().reassign(steps).await {
        Ok(answer) => {
            member.served(answer.index).await;
            answer.items.into_iter()
        }
        Err(error) => {
            return AlterPartitionReassignmentsResponse {
                error_code: error.code.code(),
                error_message: Some(error.message.into()),
                ..Default::default()
            };
        }
    };

    let mut refused = refused.into_iter();
    let responses = request.topics.into_iter().map(|topic| {
        let answer = |partition_index| match refused
            .next()
            .flatten()
            .map_or_else(|| results.next(), |refusal| Some(Err(refusal)))
        {
            Some(Err(error)) => ReassignablePartitionResponse {
                partition_index,
                error_code: error.code.code(),
                error_message: Some(error.message.into()),
            },
            _ => ReassignablePartitionResponse {
                partition_index,
                error_code: ErrorCode::None.code(),
                error_message: None,
            },
        };
        let partitions =
            topic.partitions.iter().map(|one| one.partition_index).map(answer).collect();
        ReassignableTopicResponse { name: topic.name, partitions }
    });
    AlterPartitionReassignmentsResponse {
        error_message: None,
        responses: responses.collect(),
        ..Default::default()
    }
}

/// A caller may forbid moves that would change the number of replicas (KIP-860).
fn check_factor(image: &Image, step: &Reassign) -> Option<Error> {
    let target = step.target.as_ref()?;
    let partition = image.partition(&step.topic, step.partition)?;
    let present = partition.replicas.len() - partition.adding.len();
    (target.len() != present).then(|| {
        let message =
            format!("the replication factor would change from {present} to {}", target.len());
        Error::new(ErrorCode::InvalidReplicationFactor, message).not_applied()
    })
}

/// From the image: a move that this node was asked for is in it.
pub(crate) fn list(
    image: &Image,
    request: &ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let wanted = request.topics.as_ref().map(|topics| wanted(topics));
    let is_wanted = |ongoing: &OngoingReassignment| match &wanted {
        Some(wanted) => wanted.contains(&(ongoing.topic.as_str(), ongoing.partition.0)),
        None => true,
    };
    let mut topics: Vec<OngoingTopicReassignment> = Vec::new();
    for ongoing in image.reassignments().filter(is_wanted) {
        let name = KafkaString::from(&ongoing.topic);
        let partition = OngoingPartitionReassignment {
            partition_index: ongoing.partition.0,
            replicas: node_numbers(&ongoing.replicas),
            adding_replicas: node_numbers(&ongoing.adding),
            removing_replicas: node_numbers(&ongoing.removing),
        };
        match topics.last_mut() {
            Some(last) if last.name == name => last.partitions.push(partition),
            _ => topics.push(OngoingTopicReassignment { name, partitions: vec![partition] }),
        }
    }
    ListPartitionReassignmentsResponse { error_message: None, topics, ..Default::default() }
}

fn wanted(topics: &[ListPartitionReassignmentsTopics]) -> BTreeSet<(&str, i32)> {
    let partitions = |topic: &'_ ListPartitionReassignmentsTopics| topic.partition_indexes.clone();
    topics
        .iter()
        .flat_map(|topic| partitions(topic).into_iter().map(move |index| (&*topic.name, index)))
        .collect()
}
