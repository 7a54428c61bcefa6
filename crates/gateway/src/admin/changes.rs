//! Changes: checked, handed to the controller, and answered when this node has seen them too.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use thalweg_proto::admin::v1 as proto;
use thalweg_proto::internal::controller::v1 as controller;
use thalweg_rpc::{Deadline, Error};
use thalweg_types::{TopicId, Uuid};

use super::TOPICS_MAX;
use crate::port::BrokerPort;
use crate::shared::{Shared, on_behalf};
use crate::words;

/// Longest time a change may take.
pub(super) const CHANGE_TIME_MAX: Duration = Duration::from_secs(30);

/// Longest time a question about the quorum may take: the rest of the answer does not need it.
const QUESTION_TIME_MAX: Duration = Duration::from_secs(2);

/// Partitions of one topic.
const PARTITIONS_MAX: u32 = 10_000;

/// The controller's way of saying "by default".
const DEFAULT: i32 = -1;

pub(super) async fn create_topics<B: BrokerPort>(
    shared: &Shared<B>,
    request: proto::CreateTopicsRequest,
    deadline: Deadline,
) -> Result<proto::CreateTopicsResponse, Error> {
    words::some_but_at_most("topics", request.topics.len(), TOPICS_MAX)?;
    let topics = request.topics.into_iter().map(new_topic).collect::<Result<Vec<_>, _>>()?;
    let message = controller::CreateTopicsRequest { topics, validate_only: request.validate_only };
    let call = on_behalf(message, deadline, CHANGE_TIME_MAX);
    let answer = shared.controller.clone().create_topics(call).await?.into_inner();
    shared.see(answer.index, deadline).await;
    let topics = answer
        .topics
        .into_iter()
        .map(|topic| proto::CreatedTopic {
            name: topic.name,
            topic_id: topic_id_text(&topic.topic_id),
            partition_count: u32::try_from(topic.partition_count).unwrap_or(0),
            replication_factor: u32::try_from(topic.replication_factor).unwrap_or(0),
            error: topic.error,
        })
        .collect();
    Ok(proto::CreateTopicsResponse { topics })
}

pub(super) async fn delete_topics<B: BrokerPort>(
    shared: &Shared<B>,
    request: proto::DeleteTopicsRequest,
    deadline: Deadline,
) -> Result<proto::DeleteTopicsResponse, Error> {
    use controller::topic_reference::Reference;
    let count = request.names.len() + request.topic_ids.len();
    words::some_but_at_most("names and topic_ids", count, TOPICS_MAX)?;
    let by_name = request.names.into_iter().map(|name| Ok(Reference::Name(name)));
    let by_id = request.topic_ids.iter().map(|text| {
        let id = words::topic_id(text)?;
        Ok(Reference::TopicId(Bytes::copy_from_slice(id.0.as_bytes())))
    });
    let topics = by_name
        .chain(by_id)
        .map(|reference| {
            reference.map(|reference| controller::TopicReference { reference: Some(reference) })
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let message = controller::DeleteTopicsRequest { topics };
    let call = on_behalf(message, deadline, CHANGE_TIME_MAX);
    let answer = shared.controller.clone().delete_topics(call).await?.into_inner();
    shared.see(answer.index, deadline).await;
    let topics = answer
        .topics
        .into_iter()
        .map(|topic| proto::DeletedTopic {
            name: topic.name,
            topic_id: topic_id_text(&topic.topic_id),
            error: topic.error,
        })
        .collect();
    Ok(proto::DeleteTopicsResponse { topics })
}

pub(super) async fn create_partitions<B: BrokerPort>(
    shared: &Shared<B>,
    request: proto::CreatePartitionsRequest,
    deadline: Deadline,
) -> Result<proto::CreatePartitionsResponse, Error> {
    words::some_but_at_most("topics", request.topics.len(), TOPICS_MAX)?;
    let topics = request
        .topics
        .into_iter()
        .map(|topic| {
            let count = words::at_most("partition_count", topic.partition_count, PARTITIONS_MAX)?;
            Ok(controller::TopicGrowth {
                name: topic.topic,
                partition_count: count.cast_signed(),
                assignments: topic.assignments.into_iter().map(assignment).collect(),
            })
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let message =
        controller::CreatePartitionsRequest { topics, validate_only: request.validate_only };
    let call = on_behalf(message, deadline, CHANGE_TIME_MAX);
    let answer = shared.controller.clone().create_partitions(call).await?.into_inner();
    shared.see(answer.index, deadline).await;
    let topics = answer
        .topics
        .into_iter()
        .map(|topic| proto::CreatedPartitions { topic: topic.name, error: topic.error })
        .collect();
    Ok(proto::CreatePartitionsResponse { topics })
}

/// Who leads the quorum; `None` if that cannot be learnt now.
pub(super) async fn active_controller<B: BrokerPort>(
    shared: &Shared<B>,
    deadline: Deadline,
) -> Option<u64> {
    let call = on_behalf(controller::DescribeQuorumRequest {}, deadline, QUESTION_TIME_MAX);
    match shared.controller.clone().describe_quorum(call).await {
        Ok(answer) => answer.into_inner().leader_id,
        Err(status) => {
            tracing::debug!(%status, "the quorum could not be described");
            None
        }
    }
}

fn new_topic(topic: proto::NewTopic) -> Result<controller::NewTopic, Error> {
    let partitions = words::at_most("partition_count", topic.partition_count, PARTITIONS_MAX)?;
    let replicas = words::at_most("replication_factor", topic.replication_factor, i16::MAX as u32)?;
    check_assignments(&topic, partitions, replicas)?;
    let (partition_count, replication_factor) = match topic.assignments.is_empty() {
        true => (count_or_default(partitions), count_or_default(replicas)),
        false => (DEFAULT, DEFAULT),
    };
    Ok(controller::NewTopic {
        name: topic.name,
        partition_count,
        replication_factor,
        assignments: topic.assignments.into_iter().map(assignment).collect(),
        configs: config_entries(topic.configs),
    })
}

/// Counts beside assignments must say the same.
fn check_assignments(topic: &proto::NewTopic, partitions: u32, replicas: u32) -> Result<(), Error> {
    let assignments = &topic.assignments;
    if assignments.is_empty() {
        return Ok(());
    }
    if partitions != 0 && partitions as usize != assignments.len() {
        return Err(Error::invalid_request(format!(
            "topic {}: partition_count {partitions} is not the number of assignments, {}",
            topic.name,
            assignments.len()
        )));
    }
    let differs =
        |assignment: &proto::ReplicaAssignment| assignment.replicas.len() != replicas as usize;
    if replicas != 0 && assignments.iter().any(differs) {
        return Err(Error::invalid_request(format!(
            "topic {}: replication_factor {replicas} is not that of every assignment",
            topic.name
        )));
    }
    Ok(())
}

fn assignment(assignment: proto::ReplicaAssignment) -> controller::Assignment {
    controller::Assignment { partition: assignment.partition, replicas: assignment.replicas }
}

/// In order of the name, so that the same request always reads the same.
fn config_entries(configs: HashMap<String, String>) -> Vec<controller::ConfigEntry> {
    let mut entries: Vec<_> = configs
        .into_iter()
        .map(|(name, value)| controller::ConfigEntry { name, value: Some(value) })
        .collect();
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    entries
}

fn count_or_default(count: u32) -> i32 {
    match count {
        0 => DEFAULT,
        count => i32::try_from(count).unwrap_or(i32::MAX),
    }
}

/// Empty for none.
fn topic_id_text(bytes: &[u8]) -> String {
    match <[u8; 16]>::try_from(bytes).map(Uuid::from_bytes) {
        Ok(id) if !id.is_zero() => TopicId(id).to_string(),
        _ => String::new(),
    }
}
