//! Topics: creation, deletion, more partitions.
//!
//! The checks and their order are Kafka's, so that its clients and tools see the codes they know.

mod assignment;
mod create;
mod grow;
mod internal;

pub(super) use assignment::check as check_replicas;

use std::collections::BTreeMap;

use thalweg_types::{NodeId, PartitionIndex, TopicId, TopicName};

use super::{Decision, ItemResult, Policy};
use crate::config::{Entry, broker_config};
use crate::error::Error;
use crate::image::{Image, Topic};
use crate::record::Record;

/// Partitions one topic may have: more would make its registration, and every image, too large to handle at once.
pub const PARTITIONS_PER_TOPIC_MAX: i32 = 10_000;

/// Partitions that one request may make: its facts are one entry of the metadata log.
pub const PARTITIONS_PER_REQUEST_MAX: usize = 10_000;

/// One topic to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTopic {
    /// As given: it is checked here.
    pub name: String,
    /// -1: the default.
    pub partition_count: i32,
    /// -1: the default.
    pub replication_factor: i16,
    /// Replicas of each partition, chosen by the client; empty to have them placed.
    pub assignments: BTreeMap<PartitionIndex, Vec<NodeId>>,
    pub configs: Vec<(String, Option<String>)>,
    /// A fresh random identity, for the case that the topic is created.
    pub new_topic_id: TopicId,
}

/// A topic that was created, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedTopic {
    pub name: TopicName,
    /// Zero when the request was only checked.
    pub topic_id: TopicId,
    pub partition_count: i32,
    pub replication_factor: i16,
    /// Every topic config as it holds for the topic.
    pub configs: Vec<Entry>,
}

/// A topic as a request names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicReference {
    Name(String),
    Id(TopicId),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovedTopic {
    pub name: TopicName,
    pub topic_id: TopicId,
}

/// Topics to give more partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatePartitions {
    pub topics: Vec<GrowTopic>,
    /// Check only.
    pub validate_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrowTopic {
    pub name: String,
    /// Partitions the topic shall have in all.
    pub partition_count: i32,
    /// Replicas of each new partition in order of index; empty to have them placed.
    pub assignments: Vec<Vec<NodeId>>,
}

impl Image {
    /// Creates topics. The answers are in the order of the request. `seed` turns the order of equally loaded brokers.
    pub fn decide_create_topics(
        &self,
        topics: &[CreateTopic],
        validate_only: bool,
        seed: u64,
        policy: &Policy,
    ) -> Decision<Vec<ItemResult<CreatedTopic>>> {
        let mut creation = create::Creation::new(self, seed, policy);
        let names = counted(topics.iter().map(|topic| topic.name.as_str()));
        let mut response = Vec::with_capacity(topics.len());
        for topic in topics {
            response.push(match names.get(topic.name.as_str()) {
                Some(1) => creation.decide(topic),
                _ => Err(Error::DuplicateTopic(topic.name.clone())),
            });
        }
        let mut records = self.with_coordinators(creation.into_records());
        if validate_only {
            records.clear();
            response.iter_mut().flatten().for_each(|created| created.topic_id = TopicId::ZERO);
        }
        Decision { records, response }
    }

    /// Deletes topics. The answers are in the order of the request.
    pub fn decide_delete_topics(
        &self,
        topics: &[TopicReference],
        policy: &Policy,
    ) -> Decision<Vec<ItemResult<RemovedTopic>>> {
        let found: Vec<_> = topics.iter().map(|reference| self.find(reference)).collect();
        let ids = counted(found.iter().flatten().map(|topic| topic.id));
        let disabled = static_value(policy, "delete.topic.enable") == Some("false");
        let mut records = Vec::new();
        let response = found
            .into_iter()
            .map(|topic| {
                let topic = topic?;
                if disabled {
                    return Err(Error::TopicDeletionDisabled);
                }
                if ids.get(&topic.id) != Some(&1) {
                    return Err(Error::DuplicateTopic(topic.name.to_string()));
                }
                records.push(Record::TopicDeleted { topic_id: topic.id });
                Ok(RemovedTopic { name: topic.name.clone(), topic_id: topic.id })
            })
            .collect();
        Decision { records, response }
    }

    /// Adds partitions to topics. The answers are in the order of the request: the number of partitions after it.
    pub fn decide_create_partitions(
        &self,
        request: &CreatePartitions,
        seed: u64,
        policy: &Policy,
    ) -> Decision<Vec<ItemResult<i32>>> {
        let mut growth = grow::Growth::new(self, seed, policy);
        let names = counted(request.topics.iter().map(|topic| topic.name.as_str()));
        let mut response = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            response.push(match names.get(topic.name.as_str()) {
                Some(1) => growth.decide(topic),
                _ => Err(Error::DuplicateTopic(topic.name.clone())),
            });
        }
        if request.validate_only {
            return Decision { records: Vec::new(), response };
        }
        Decision { records: growth.into_records(), response }
    }

    fn find(&self, reference: &TopicReference) -> Result<&Topic, Error> {
        let topic = match reference {
            TopicReference::Name(name) => {
                self.topic(name).ok_or_else(|| Error::UnknownTopicName(name.clone()))
            }
            TopicReference::Id(id) => self.topic_by_id(*id).ok_or(Error::UnknownTopicId(*id)),
        };
        topic.map(|topic| &**topic)
    }
}

/// How often each item occurs.
fn counted<T: Ord>(items: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    for item in items {
        *counts.entry(item).or_default() += 1;
    }
    counts
}

/// A read-only broker config as the cluster was started with it.
fn static_value<'a>(policy: &'a Policy, name: &str) -> Option<&'a str> {
    policy.settings.get(name).or_else(|| broker_config(name)?.default)
}
