//! CreateTopics, DeleteTopics and CreatePartitions: handed to the controller, answered item by item as they were asked.
//!
//! Any node takes them (clients send them to whatever node they believe to be the controller). An answer that reports success is
//! sent when this node goes by what was created, so that the client's next request finds it.

use std::collections::HashSet;

use thalweg_kafka::KafkaString;
use thalweg_kafka::messages::create_partitions::CreatePartitionsTopicResult;
use thalweg_kafka::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfigs, CreatableTopicResult,
};
use thalweg_kafka::messages::delete_topics::DeletableTopicResult;
use thalweg_kafka::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse,
};
use thalweg_rpc::Error;
use thalweg_types::{ErrorCode, NodeId, PartitionIndex, TopicId};

use crate::Member;
use thalweg_controller_client::{Created, NewPartitions, NewTopic, TopicSelector};

/// First version of DeleteTopics that may name topics by id.
const DELETE_BY_ID_SINCE: i16 = 6;

pub(crate) async fn create_topics<M: Member>(
    member: &M,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let names: Vec<_> = request.topics.iter().map(|topic| topic.name.clone()).collect();
    let (mut topics, mut refused) = (Vec::new(), Vec::new());
    for topic in request.topics {
        match new_topic(topic) {
            Ok(topic) => {
                topics.push(topic);
                refused.push(None);
            }
            Err(error) => refused.push(Some(error)),
        }
    }
    let asked = topics.len();
    let results = match member.controller().create_topics(topics, request.validate_only).await {
        Ok(answer) => {
            member.served(answer.index).await;
            answer.items
        }
        Err(error) => vec![Err(error); asked],
    };
    let mut results = results.into_iter();
    let topics = names.into_iter().zip(refused).filter_map(|(name, refused)| {
        let result = refused.map_or_else(|| results.next(), |error| Some(Err(error)))?;
        Some(creatable_result(member, name, result))
    });
    CreateTopicsResponse { topics: topics.collect(), ..Default::default() }
}

pub(crate) async fn delete_topics<M: Member>(
    member: &M,
    version: i16,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let wanted: Vec<(Option<KafkaString>, TopicSelector)> = if version >= DELETE_BY_ID_SINCE {
        let select = |topic: thalweg_kafka::messages::delete_topics::DeleteTopicState| {
            let selector = match &topic.name {
                Some(name) => TopicSelector::Name(name.to_string()),
                None => TopicSelector::Id(TopicId(topic.topic_id)),
            };
            (topic.name, selector)
        };
        request.topics.into_iter().map(select).collect()
    } else {
        let select = |name: KafkaString| {
            let selector = TopicSelector::Name(name.to_string());
            (Some(name), selector)
        };
        request.topic_names.into_iter().map(select).collect()
    };

    let selectors: Vec<TopicSelector> =
        wanted.iter().map(|(_, selector)| selector.clone()).collect();
    let results = match member.controller().delete_topics(selectors).await {
        Ok(answer) => {
            member.served(answer.index).await;
            answer.items
        }
        Err(error) => wanted.iter().map(|_| Err(error.clone())).collect(),
    };
    let responses =
        wanted.into_iter().zip(results).map(|((name, selector), result)| match result {
            Ok(removed) => DeletableTopicResult {
                name: Some(KafkaString::from(removed.name)),
                topic_id: removed.topic_id.0,
                ..Default::default()
            },
            Err(error) => DeletableTopicResult {
                name,
                topic_id: match selector {
                    TopicSelector::Id(id) => id.0,
                    TopicSelector::Name(_) => TopicId::ZERO.0,
                },
                error_code: error.code.code(),
                error_message: Some(KafkaString::from(error.message)),
            },
        });
    DeleteTopicsResponse { responses: responses.collect(), ..Default::default() }
}

pub(crate) async fn create_partitions<M: Member>(
    member: &M,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let names: Vec<_> = request.topics.iter().map(|topic| topic.name.clone()).collect();
    let topics = request
        .topics
        .into_iter()
        .map(|topic| NewPartitions {
            topic: topic.name.to_string(),
            count: topic.count,
            assignments: topic.assignments.map(|assignments| {
                assignments.into_iter().map(|assignment| nodes(&assignment.broker_ids)).collect()
            }),
        })
        .collect();
    let results = match member.controller().create_partitions(topics, request.validate_only).await {
        Ok(answer) => {
            member.served(answer.index).await;
            answer.items
        }
        Err(error) => names.iter().map(|_| Err(error.clone())).collect(),
    };
    let results = names
        .into_iter()
        .zip(results)
        .map(|(name, result)| match result {
            Ok(()) => CreatePartitionsTopicResult { name, ..Default::default() },
            Err(error) => CreatePartitionsTopicResult {
                name,
                error_code: error.code.code(),
                error_message: Some(KafkaString::from(error.message)),
            },
        })
        .collect();
    CreatePartitionsResponse { results, ..Default::default() }
}

/// The topic as the controller takes it, which cannot say that a partition is assigned twice.
fn new_topic(topic: CreatableTopic) -> Result<NewTopic, Error> {
    let mut partitions = HashSet::new();
    for assignment in &topic.assignments {
        let partition = assignment.partition_index;
        if !partitions.insert(partition) {
            let message = format!("partition {partition} is assigned twice");
            return Err(Error::new(ErrorCode::InvalidReplicaAssignment, message).not_applied());
        }
    }
    let assignment = |assignment: &CreatableReplicaAssignment| {
        (PartitionIndex(assignment.partition_index), nodes(&assignment.broker_ids))
    };
    Ok(NewTopic {
        name: topic.name.to_string(),
        partition_count: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic.assignments.iter().map(assignment).collect(),
        configs: topic
            .configs
            .into_iter()
            .map(|config| (config.name.to_string(), config.value.map(|value| value.to_string())))
            .collect(),
    })
}

fn nodes(ids: &[i32]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

fn creatable_result<M: Member>(
    member: &M,
    name: KafkaString,
    result: Result<Created, Error>,
) -> CreatableTopicResult {
    match result {
        Ok(created) => CreatableTopicResult {
            name,
            topic_id: created.topic_id.0,
            num_partitions: created.partition_count,
            replication_factor: created.replication_factor,
            configs: Some(effective_configs(member, created.topic_id)),
            ..Default::default()
        },
        Err(error) => CreatableTopicResult {
            name,
            error_code: error.code.code(),
            error_message: Some(KafkaString::from(error.message)),
            configs: None,
            ..Default::default()
        },
    }
}

/// What the new topic's configs came to (KIP-525).
fn effective_configs<M: Member>(member: &M, topic_id: TopicId) -> Vec<CreatableTopicConfigs> {
    member
        .topic_configs(topic_id)
        .into_iter()
        .map(|entry| CreatableTopicConfigs {
            name: entry.name.into(),
            value: entry.value.map(KafkaString::from),
            read_only: entry.read_only,
            config_source: entry.source.wire_code(),
            is_sensitive: false,
        })
        .collect()
}
