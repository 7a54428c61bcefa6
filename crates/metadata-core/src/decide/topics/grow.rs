//! More partitions for topics that exist.

use thalweg_types::{NodeId, PartitionIndex};

use super::{GrowTopic, PARTITIONS_PER_REQUEST_MAX, PARTITIONS_PER_TOPIC_MAX, assignment};
use crate::config::TopicConfig;
use crate::decide::{ItemResult, Policy};
use crate::error::Error;
use crate::image::{Image, Partition, Topic};
use crate::placement::Placement;
use crate::record::Record;

/// Topics of one request, as far as they have been decided.
pub(super) struct Growth<'a> {
    image: &'a Image,
    policy: &'a Policy,
    placement: Placement,
    records: Vec<Record>,
}

impl<'a> Growth<'a> {
    pub(super) fn new(image: &'a Image, seed: u64, policy: &'a Policy) -> Self {
        Self { image, policy, placement: Placement::new(image, seed), records: Vec::new() }
    }

    pub(super) fn into_records(self) -> Vec<Record> {
        self.records
    }

    pub(super) fn decide(&mut self, request: &GrowTopic) -> ItemResult<i32> {
        let topic = self
            .image
            .topic(&request.name)
            .ok_or_else(|| Error::UnknownTopicName(request.name.clone()))?;
        // A group is where the hash of its name says, for as long as the topic lives.
        if topic.name.is_internal() {
            return Err(Error::FixedPartitionCount(topic.name.clone()));
        }
        let added = added_count(topic, request.partition_count)?;
        let total = self.records.len() + added;
        if total > PARTITIONS_PER_REQUEST_MAX {
            return Err(Error::TooManyPartitions { given: total, max: PARTITIONS_PER_REQUEST_MAX });
        }
        let assigned = self.replicas(topic, added, request)?;
        let config = TopicConfig::resolve(self.image, topic.id, None, &self.policy.settings);
        for (partition, replicas) in (topic.partition_count()..).map(PartitionIndex).zip(assigned) {
            let is_live = |id| self.image.is_live(id);
            let minimum = config.min_in_sync_replicas;
            let state = Partition::new(replicas, is_live, minimum, config.durability);
            self.records.push(Record::PartitionRegistered { topic_id: topic.id, partition, state });
        }
        Ok(request.partition_count)
    }

    /// Replicas of each new partition, in order of index.
    fn replicas(
        &mut self,
        topic: &Topic,
        added: usize,
        request: &GrowTopic,
    ) -> ItemResult<Vec<Vec<NodeId>>> {
        let factor = topic.replication_factor();
        if request.assignments.is_empty() {
            return assignment::place(self.image, &mut self.placement, added, factor);
        }
        let first = topic.partition_count();
        if request.assignments.len() != added {
            let expected = format!("{first} to {}", request.partition_count - 1);
            return Err(Error::AssignedPartitionsNotDense { expected });
        }
        let replica_count = usize::try_from(factor).ok();
        for (partition, replicas) in (first..).map(PartitionIndex).zip(&request.assignments) {
            assignment::check(self.image, partition, replicas, replica_count)?;
        }
        for replicas in &request.assignments {
            self.placement.count(replicas);
        }
        Ok(request.assignments.clone())
    }
}

fn added_count(topic: &Topic, given: i32) -> ItemResult<usize> {
    let current = topic.partition_count();
    if given > PARTITIONS_PER_TOPIC_MAX {
        return Err(Error::InvalidPartitionCount { given, max: PARTITIONS_PER_TOPIC_MAX });
    }
    match usize::try_from(i64::from(given) - i64::from(current)) {
        Ok(added) if added > 0 => Ok(added),
        _ => Err(Error::PartitionCountNotIncreased { current, given }),
    }
}
