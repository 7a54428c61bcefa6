//! Who coordinates which partition of the internal topics.

use std::sync::Arc;

use thalweg_types::{CoordinatorEpoch, NodeId, PartitionIndex, TopicId, TopicIdPartition};

use super::{Coordinator, Image, Node, Topic};
use crate::key::Key;
use crate::record::{NodeRole, Record};

impl Image {
    pub(super) fn set_coordinator(
        &mut self,
        topic_id: TopicId,
        partition: PartitionIndex,
        coordinator: Coordinator,
    ) {
        let id = TopicIdPartition { topic_id, partition };
        if self.partition_by_id(id).is_some() {
            Arc::make_mut(&mut self.coordinators).insert(id, coordinator);
        }
    }

    pub(super) fn remove_coordinators(&mut self, topic: &Topic) {
        if self.coordinated_partitions(topic).next().is_some() {
            let coordinators = Arc::make_mut(&mut self.coordinators);
            coordinators.retain(|id, _| id.topic_id != topic.id);
        }
    }

    pub(super) fn coordinator_keys(&self, topic: &Topic) -> impl Iterator<Item = Key> {
        self.coordinated_partitions(topic).map(Key::Coordinator)
    }

    fn coordinated_partitions(&self, topic: &Topic) -> impl Iterator<Item = TopicIdPartition> {
        let id = |partition| TopicIdPartition { topic_id: topic.id, partition };
        let ids = id(PartitionIndex(0))..=id(PartitionIndex(i32::MAX));
        self.coordinators.range(ids).map(|(id, _)| *id)
    }

    /// Who coordinates a partition of an internal topic. `None`: it was never assigned.
    pub fn coordinator_of(&self, id: TopicIdPartition) -> Option<Coordinator> {
        self.coordinators.get(&id).copied()
    }

    /// The partition that holds a consumer group. `None`: there is no topic for groups yet.
    pub fn group_partition(&self, group: &str) -> Option<TopicIdPartition> {
        let topic = self.topic("__consumer_offsets")?;
        let partition = thalweg_types::coordinator_partition(group, topic.partition_count())?;
        Some(TopicIdPartition { topic_id: topic.id, partition })
    }

    /// The node that coordinates a partition of an internal topic, as long as it may be asked.
    pub fn coordinator_node(&self, id: TopicIdPartition) -> Option<&Arc<Node>> {
        self.node(self.coordinator_of(id)?.node?).filter(|node| node.is_live())
    }

    /// What a node coordinates, in order of topic id and partition.
    pub fn coordinated_by(
        &self,
        node: NodeId,
    ) -> impl Iterator<Item = (TopicIdPartition, CoordinatorEpoch)> {
        let of_node = self.coordinators.iter().filter(move |(_, c)| c.node == Some(node));
        of_node.map(|(id, coordinator)| (*id, coordinator.epoch))
    }

    /// Coordinators that may be assigned partitions, in order of id.
    pub fn live_coordinators(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes().filter(|node| node.role == NodeRole::Coordinator && node.is_live())
    }
}

impl Coordinator {
    pub(super) fn to_record(self, id: TopicIdPartition) -> Record {
        let TopicIdPartition { topic_id, partition } = id;
        Record::CoordinatorAssigned { topic_id, partition, node: self.node, epoch: self.epoch }
    }
}
