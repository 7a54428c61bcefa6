//! ConsumerGroupDescribe: a group as tools show it.

use std::sync::Arc;

use thalweg_types::ErrorCode;

use super::group::Group;
use super::member::Member;
use super::partitions::PartitionSet;
use crate::config::GroupConfig;
use crate::response::{DescribedConsumerGroup, DescribedConsumerMember, DescribedPartitions};
use crate::topics::Topics;

impl Group {
    pub(crate) fn describe(
        &self,
        config: &GroupConfig,
        topics: &dyn Topics,
    ) -> DescribedConsumerGroup {
        let members = self.members.iter().map(|(id, member)| {
            let Member { metadata, current, .. } = member;
            DescribedConsumerMember {
                member: id.clone(),
                instance: metadata.instance.clone(),
                rack: metadata.rack.clone(),
                member_epoch: current.epoch,
                client_id: Arc::clone(&metadata.client_id),
                client_host: Arc::clone(&metadata.client_host),
                subscribed_names: metadata.subscribed_names.clone(),
                subscribed_regex: metadata.subscribed_regex.clone(),
                assignment: described(&current.assigned, topics),
                target: described(self.target(id), topics),
                member_type: if metadata.classic.is_some() { 0 } else { 1 },
            }
        });
        DescribedConsumerGroup {
            group: self.id.clone(),
            error: ErrorCode::None,
            error_message: None,
            state: self.state().name(),
            group_epoch: self.epoch,
            assignment_epoch: self.assignment_epoch,
            assignor: self.assignor(config.consumer_assignor).name().into(),
            members: members.collect(),
        }
    }
}

/// Topics that do not exist any more have no name, and are left out.
fn described(partitions: &PartitionSet, topics: &dyn Topics) -> Vec<DescribedPartitions> {
    let of_topic = |(topic_id, partitions): (_, &[_])| {
        let topic = topics.name_of(topic_id)?;
        Some(DescribedPartitions { topic_id, topic, partitions: partitions.to_vec() })
    };
    partitions.topics().filter_map(of_topic).collect()
}
