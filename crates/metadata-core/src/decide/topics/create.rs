//! Creation of topics, one after the other: each sees the names and the placement of those before it.

use std::collections::BTreeSet;

use thalweg_types::{Durability, NodeId, PartitionIndex, TopicId, TopicName};

use super::{
    CreateTopic, CreatedTopic, PARTITIONS_PER_REQUEST_MAX, PARTITIONS_PER_TOPIC_MAX, assignment,
    internal, static_value,
};
use crate::config::{InvalidConfig, TopicConfig, describe_topic, topic_config};
use crate::decide::{ItemResult, Policy};
use crate::error::Error;
use crate::image::{Image, Partition};
use crate::placement::Placement;
use crate::record::{ConfigResource, Record};

/// Topics of one request, as far as they have been decided.
pub(super) struct Creation<'a> {
    policy: &'a Policy,
    /// With the topics accepted so far.
    image: Image,
    placement: Placement,
    records: Vec<Record>,
    partition_count: usize,
}

impl<'a> Creation<'a> {
    pub(super) fn new(image: &Image, seed: u64, policy: &'a Policy) -> Self {
        let placement = Placement::new(image, seed);
        let image = image.clone();
        Self { policy, image, placement, records: Vec::new(), partition_count: 0 }
    }

    pub(super) fn into_records(self) -> Vec<Record> {
        self.records
    }

    pub(super) fn decide(&mut self, request: &CreateTopic) -> ItemResult<CreatedTopic> {
        let name = self.check_name(&request.name)?;
        self.check_id(request)?;
        let request = &*internal::completed(&self.image, request, self.policy);
        let mut records =
            vec![Record::TopicCreated { topic_id: request.new_topic_id, name: name.clone() }];
        records.extend(config_records(request)?);
        let assigned = self.replicas(request)?;
        self.reserve(assigned.len())?;

        // Nothing is refused from here on.
        self.image.take_in(&records);
        self.image.take_in(&first_partition(request.new_topic_id, &assigned));
        let settings = &self.policy.settings;
        let topic_id = request.new_topic_id;
        let config = TopicConfig::resolve(&self.image, topic_id, None, settings);
        let created = CreatedTopic {
            name,
            topic_id,
            partition_count: i32::try_from(assigned.len()).unwrap_or(i32::MAX),
            replication_factor: assigned
                .first()
                .map_or(0, |replicas| i16::try_from(replicas.len()).unwrap_or(i16::MAX)),
            configs: describe_topic(&self.image, topic_id, None, settings),
        };
        for (partition, replicas) in (0..).map(PartitionIndex).zip(assigned) {
            let is_live = |id| self.image.is_live(id);
            let minimum = config.min_in_sync_replicas;
            let state = Partition::new(replicas, is_live, minimum, config.durability);
            records.push(Record::PartitionRegistered { topic_id, partition, state });
        }
        self.records.append(&mut records);
        Ok(created)
    }

    fn check_name(&self, given: &str) -> ItemResult<TopicName> {
        let name = TopicName::new(given).map_err(|reason| Error::InvalidTopicName {
            name: given.chars().take(thalweg_types::TOPIC_NAME_BYTES_MAX + 1).collect(),
            reason,
        })?;
        if self.image.topic(given).is_some() {
            return Err(Error::TopicExists(name));
        }
        // Only names with a '.' or '_' can collide.
        if given.contains(['.', '_'])
            && let Some(existing) =
                self.image.topics().find(|topic| topic.name.collides_with(&name))
        {
            return Err(Error::CollidingTopicName { name, existing: existing.name.clone() });
        }
        Ok(name)
    }

    fn check_id(&self, request: &CreateTopic) -> ItemResult<()> {
        let id = request.new_topic_id;
        if id.is_zero() || self.image.topic_by_id(id).is_some() {
            return Err(Error::TopicIdTaken);
        }
        Ok(())
    }

    /// Replicas of each partition, in order of index.
    fn replicas(&mut self, request: &CreateTopic) -> ItemResult<Vec<Vec<NodeId>>> {
        if !request.assignments.is_empty() {
            return self.assigned(request);
        }
        let partition_count = self.partition_count(request.partition_count)?;
        let replication_factor = self.replication_factor(request.replication_factor)?;
        if self.partition_count + partition_count > PARTITIONS_PER_REQUEST_MAX {
            return Err(too_many(self.partition_count + partition_count));
        }
        assignment::place(&self.image, &mut self.placement, partition_count, replication_factor)
    }

    fn assigned(&mut self, request: &CreateTopic) -> ItemResult<Vec<Vec<NodeId>>> {
        if request.partition_count != -1 || request.replication_factor != -1 {
            return Err(Error::AssignmentAndCount);
        }
        let count = i32::try_from(request.assignments.len()).unwrap_or(i32::MAX);
        if count > PARTITIONS_PER_TOPIC_MAX {
            return Err(Error::InvalidPartitionCount {
                given: count,
                max: PARTITIONS_PER_TOPIC_MAX,
            });
        }
        if !request.assignments.keys().copied().eq((0..count).map(PartitionIndex)) {
            let expected = format!("0 to {}", count - 1);
            return Err(Error::AssignedPartitionsNotDense { expected });
        }
        let replica_count = request.assignments.values().next().map(Vec::len);
        for (partition, replicas) in &request.assignments {
            assignment::check(&self.image, *partition, replicas, replica_count)?;
        }
        for replicas in request.assignments.values() {
            self.placement.count(replicas);
        }
        Ok(request.assignments.values().cloned().collect())
    }

    fn partition_count(&self, given: i32) -> ItemResult<usize> {
        let max = PARTITIONS_PER_TOPIC_MAX;
        let count = if given == -1 { self.default("num.partitions") } else { Some(given) };
        count
            .filter(|count| (1..=max).contains(count))
            .and_then(|count| usize::try_from(count).ok())
            .ok_or(Error::InvalidPartitionCount { given, max })
    }

    fn replication_factor(&self, given: i16) -> ItemResult<i16> {
        let factor =
            if given == -1 { self.default("default.replication.factor") } else { Some(given) };
        factor.filter(|factor| *factor >= 1).ok_or(Error::InvalidReplicationFactor(given))
    }

    fn default<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        static_value(self.policy, name)?.trim().parse().ok()
    }

    fn reserve(&mut self, partition_count: usize) -> ItemResult<()> {
        let total = self.partition_count + partition_count;
        if total > PARTITIONS_PER_REQUEST_MAX {
            return Err(too_many(total));
        }
        self.partition_count = total;
        Ok(())
    }
}

fn too_many(given: usize) -> Error {
    Error::TooManyPartitions { given, max: PARTITIONS_PER_REQUEST_MAX }
}

/// The first partition as far as configs depend on it, by how many replicas it has; what it becomes depends on them in turn.
fn first_partition(topic_id: TopicId, assigned: &[Vec<NodeId>]) -> Vec<Record> {
    let registered = |replicas: &Vec<NodeId>| Record::PartitionRegistered {
        topic_id,
        partition: PartitionIndex(0),
        state: Partition::new(replicas.clone(), |_| false, 1, Durability::default()),
    };
    assigned.first().map(registered).into_iter().collect()
}

fn config_records(request: &CreateTopic) -> ItemResult<Vec<Record>> {
    let resource = ConfigResource::Topic(request.new_topic_id);
    let mut names = BTreeSet::new();
    let mut records = Vec::with_capacity(request.configs.len());
    for (name, value) in &request.configs {
        let definition =
            topic_config(name).ok_or_else(|| InvalidConfig::unknown_of_topics(name))?;
        let value = value.clone().ok_or(InvalidConfig::Missing { name: definition.name })?;
        definition.check(&value)?;
        if !names.insert(definition.name) {
            return Err(Error::DuplicateConfig(name.clone()));
        }
        records.push(Record::ConfigSet { resource, name: name.clone(), value });
    }
    Ok(records)
}
