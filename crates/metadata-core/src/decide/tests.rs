//! Decisions on a small cluster, each applied as it would be once committed.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_types::{
    BrokerEpoch, ClusterId, DirId, Durability, ErrorCode, IncarnationId, LogIndex, NodeId,
    PartitionIndex, ProducerId, TopicId, TopicIdPartition, Uuid,
};

use super::*;
use crate::{
    ConfigResource, Endpoint, Key, NodeRole, Partition, Position, RegisterNode, StaticConfigs,
};

mod alter_partition;
mod configs;
mod coordinators;
mod features;
mod leaders;
mod moves;
mod nodes;
mod properties;
mod reassignment;
mod topics;

fn uuid(number: u32) -> Uuid {
    Uuid::from_bytes((u128::from(number) + (1 << 100)).to_be_bytes())
}

/// A cluster under test: decisions are applied as soon as they are made, one log entry each.
#[derive(Debug, Clone)]
struct Cluster {
    image: Image,
    policy: Policy,
    topic_count: u32,
}

impl Cluster {
    fn new() -> Self {
        let mut cluster =
            Self { image: Image::default(), policy: Policy::default(), topic_count: 0 };
        cluster.activate();
        cluster
    }

    /// With `count` live brokers, of ids 1 and following.
    fn of_brokers(count: u32) -> Self {
        let mut cluster = Self::new();
        for disk in 1..=count {
            let node_id = cluster.register(&broker(disk)).unwrap().node_id;
            cluster.unfence(node_id);
        }
        cluster
    }

    fn with_settings(mut self, settings: &[(&str, &str)]) -> Self {
        self.policy.settings = StaticConfigs::new(settings.iter().copied()).unwrap();
        self
    }

    fn activate(&mut self) {
        let decision = self.image.decide_activate(ClusterId(uuid(0)), &self.policy);
        self.commit(&decision.records);
    }

    fn commit(&mut self, records: &[Record]) {
        let mut position = self.image.position();
        position.index.0 += 1;
        for record in records {
            self.image.apply(position, record);
        }
    }

    fn register(&mut self, request: &RegisterNode) -> Result<Registered, Error> {
        let decision = self.image.decide_register_node(request)?;
        self.commit(&decision.records);
        Ok(decision.response)
    }

    fn heartbeat(&mut self, node_id: NodeId, want_shutdown: bool) -> HeartbeatAnswer {
        let request = Heartbeat {
            node_id,
            broker_epoch: self.epoch(node_id),
            applied: self.image.position().index,
            want_shutdown,
            others_applied: None,
        };
        let decision = self.image.decide_heartbeat(&request).unwrap();
        self.commit(&decision.records);
        decision.response
    }

    fn unfence(&mut self, node_id: NodeId) {
        assert!(!self.heartbeat(node_id, false).fenced);
    }

    fn fence(&mut self, node_id: NodeId) {
        let decision = self.image.decide_fence(node_id).unwrap();
        self.commit(&decision.records);
    }

    fn epoch(&self, node_id: NodeId) -> BrokerEpoch {
        self.image.node(node_id).unwrap().broker_epoch
    }

    fn topic(&mut self, name: &str) -> CreateTopic {
        self.topic_count += 1;
        CreateTopic {
            name: name.to_owned(),
            partition_count: -1,
            replication_factor: -1,
            assignments: BTreeMap::new(),
            configs: Vec::new(),
            new_topic_id: TopicId(uuid(1000 + self.topic_count)),
        }
    }

    fn create(&mut self, topics: &[CreateTopic]) -> Vec<ItemResult<CreatedTopic>> {
        let decision = self.image.decide_create_topics(topics, false, 7, &self.policy);
        self.commit(&decision.records);
        decision.response
    }

    fn create_one(&mut self, topic: CreateTopic) -> Result<CreatedTopic, Error> {
        self.create(&[topic]).remove(0)
    }

    /// A topic whose only partition has these replicas.
    fn create_on(&mut self, name: &str, replicas: &[i32], configs: &[(&str, &str)]) -> TopicId {
        let mut topic = self.topic(name);
        topic.assignments.insert(PartitionIndex(0), nodes(replicas));
        topic.configs = configs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())))
            .collect();
        self.create_one(topic).unwrap().topic_id
    }

    fn id(&self, topic: &str) -> TopicIdPartition {
        let topic_id = self.image.topic(topic).unwrap().id;
        TopicIdPartition { topic_id, partition: PartitionIndex(0) }
    }

    /// The leader's proposal to have these in sync, as it should be.
    fn proposal(&self, topic: &str, isr: &[i32]) -> AlterPartition {
        let state = self.partition(topic);
        let leader = state.leader.unwrap();
        let session = |id: &i32| (NodeId(*id), self.image.node(NodeId(*id)).unwrap().broker_epoch);
        AlterPartition {
            id: self.id(topic),
            leader,
            broker_epoch: self.epoch(leader),
            leader_epoch: state.leader_epoch,
            partition_epoch: state.partition_epoch,
            isr: isr.iter().map(session).collect(),
            recovering: false,
            unfit: Vec::new(),
            proven: Vec::new(),
        }
    }

    fn alter_partition(&mut self, request: &AlterPartition) -> Result<Partition, Error> {
        let requests = std::slice::from_ref(request);
        let mut decision = self.image.decide_alter_partitions(requests, &self.policy);
        self.commit(&decision.records);
        decision.response.remove(0)
    }

    fn reassign(&mut self, topic: &str, target: Option<&[i32]>) -> Result<(), Error> {
        let target = target.map(nodes);
        let request = Reassign { topic: topic.to_owned(), partition: PartitionIndex(0), target };
        let mut decision = self.image.decide_reassign(&[request], &self.policy);
        self.commit(&decision.records);
        decision.response.remove(0)
    }

    fn partition(&self, topic: &str) -> &Partition {
        self.image.partition(topic, PartitionIndex(0)).unwrap()
    }
}

fn broker(disk: u32) -> RegisterNode {
    RegisterNode {
        role: NodeRole::Broker,
        dir_id: DirId(uuid(disk)),
        incarnation: IncarnationId(uuid(500)),
        cluster_id: None,
        node_id: None,
        previous_broker_epoch: None,
        endpoints: vec![Endpoint {
            listener: Endpoint::KAFKA.to_owned(),
            host: "127.0.0.1".to_owned(),
            port: 9092,
        }],
        rack: None,
        suspect: BTreeSet::new(),
    }
}

fn nodes(ids: &[i32]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}
