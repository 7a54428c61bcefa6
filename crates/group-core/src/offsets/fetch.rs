//! OffsetFetch: what a group has committed.

use std::sync::Arc;

use thalweg_types::{ErrorCode, LeaderEpoch, Offset, PartitionIndex, TopicId, TopicName};

use super::{Offsets, resolve};
use crate::record::CommittedOffset;
use crate::request::{FetchOffsets, TopicPartitions, TopicRef};
use crate::response::{FetchedOffset, FetchedTopic};
use crate::step::Step;
use crate::topics::Topics;

impl Offsets {
    /// Every offset here is stable: none is committed by transactions yet, so whoever requires that gets the same.
    pub(crate) fn fetch(&self, step: &Step<'_>, fetch: &FetchOffsets) -> Vec<FetchedTopic> {
        match &fetch.topics {
            Some(topics) => {
                topics.iter().map(|topic| self.fetch_topic(step, fetch, topic)).collect()
            }
            None => self.fetch_all(step, fetch),
        }
    }

    fn fetch_topic(
        &self,
        step: &Step<'_>,
        fetch: &FetchOffsets,
        topic: &TopicPartitions,
    ) -> FetchedTopic {
        let name = resolve(&topic.topic, step.topics);
        let unknown = name.is_none() && matches!(topic.topic, TopicRef::Id(_));
        let one = |partition: &PartitionIndex| {
            if unknown {
                return nothing(*partition, ErrorCode::UnknownTopicId);
            }
            let found = name.as_ref().and_then(|name| {
                self.get(&fetch.group, name, *partition)
                    .filter(|found| is_of_this_topic(found, name, step.topics))
            });
            found.map_or_else(
                || nothing(*partition, ErrorCode::None),
                |found| some(*partition, found),
            )
        };
        FetchedTopic {
            topic: topic.topic.clone(),
            partitions: topic.partitions.iter().map(one).collect(),
        }
    }

    fn fetch_all(&self, step: &Step<'_>, fetch: &FetchOffsets) -> Vec<FetchedTopic> {
        let mut topics = Vec::new();
        for (name, partitions) in self.groups.get(&fetch.group).into_iter().flatten() {
            let current = partitions
                .iter()
                .filter(|(_, found)| is_of_this_topic(found, name, step.topics))
                .map(|(partition, found)| some(*partition, found))
                .collect::<Vec<_>>();
            if !current.is_empty() {
                let topic = TopicRef::Name(Arc::from(name.as_str()));
                topics.push(FetchedTopic { topic, partitions: current });
            }
        }
        topics
    }
}

/// Not of a topic that had the same name before. Where an identity is not known, the name has to do.
fn is_of_this_topic(found: &CommittedOffset, name: &TopicName, topics: &dyn Topics) -> bool {
    let current = topics.topic(name.as_str()).map_or(TopicId::ZERO, |facts| facts.id);
    found.topic_id.is_zero() || current.is_zero() || found.topic_id == current
}

fn some(partition: PartitionIndex, found: &CommittedOffset) -> FetchedOffset {
    FetchedOffset {
        partition,
        offset: found.offset,
        leader_epoch: found.leader_epoch,
        metadata: Arc::clone(&found.metadata),
        error: ErrorCode::None,
    }
}

fn nothing(partition: PartitionIndex, error: ErrorCode) -> FetchedOffset {
    FetchedOffset {
        partition,
        offset: Offset::NONE,
        leader_epoch: LeaderEpoch::NONE,
        metadata: Arc::default(),
        error,
    }
}
