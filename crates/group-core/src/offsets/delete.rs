//! OffsetDelete, and what a deleted group leaves.

use thalweg_types::{ErrorCode, GroupId, PartitionIndex, TopicName};

use super::{Offsets, resolve};
use crate::record::OffsetKey;
use crate::request::DeleteOffsets;
use crate::response::TopicErrors;
use crate::step::Step;

impl Offsets {
    /// Deletes what nobody reads; where there is nothing, that is fine as well.
    pub(crate) fn delete(
        &mut self,
        step: &mut Step<'_>,
        delete: &DeleteOffsets,
        is_subscribed: impl Fn(&TopicName) -> bool,
    ) -> Vec<TopicErrors> {
        let mut answer = Vec::with_capacity(delete.topics.len());
        for topic in &delete.topics {
            let name = resolve(&topic.topic, step.topics);
            let error = match &name {
                None => ErrorCode::UnknownTopicOrPartition,
                Some(name) if is_subscribed(name) => ErrorCode::GroupSubscribedToTopic,
                Some(_) => ErrorCode::None,
            };
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                if let Some(name) = name.as_ref().filter(|_| error == ErrorCode::None) {
                    self.delete_one(step, &delete.group, name, *partition);
                }
                partitions.push((*partition, error));
            }
            answer.push(TopicErrors { topic: topic.topic.clone(), partitions });
        }
        answer
    }

    fn delete_one(
        &mut self,
        step: &mut Step<'_>,
        group: &GroupId,
        topic: &TopicName,
        partition: PartitionIndex,
    ) {
        if self.get(group, topic, partition).is_some() {
            let key = OffsetKey { group: group.clone(), topic: topic.clone(), partition };
            let record = self.tombstone(key);
            step.record(record);
        }
    }

    /// Everything that the group has committed.
    pub(crate) fn delete_group(&mut self, step: &mut Step<'_>, group: &GroupId) {
        let keys: Vec<OffsetKey> = self
            .groups
            .get(group)
            .into_iter()
            .flatten()
            .flat_map(|(topic, partitions)| {
                partitions.keys().map(|partition| OffsetKey {
                    group: group.clone(),
                    topic: topic.clone(),
                    partition: *partition,
                })
            })
            .collect();
        for key in keys {
            let record = self.tombstone(key);
            step.record(record);
        }
    }
}
