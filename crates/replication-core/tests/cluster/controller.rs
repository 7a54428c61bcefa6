//! The controller: the real decisions, committed at once; and what brokers see of them.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_metadata_core::{
    AlterConfigs, AlterPartition, Candidate, ConfigAlteration, ConfigChange, ConfigTarget,
    CreateTopic, ElectUnclean, Endpoint, Heartbeat, Image, LeaderRecovery, NodeRole, Partition,
    PartitionReference, Policy, Position, Reassign, Record, RegisterNode,
};
use thalweg_replication_core as core;
use thalweg_types::{
    BrokerEpoch, ClusterId, DirId, ErrorCode, IncarnationId, LogIndex, NodeId, PartitionIndex,
    TopicId, TopicIdPartition, Uuid,
};

const TOPIC: &str = "t";

#[derive(Debug)]
pub(crate) struct Controller {
    pub(crate) image: Image,
    /// Entry n has index n + 1.
    pub(crate) entries: Vec<Vec<Record>>,
    policy: Policy,
}

pub(crate) fn uuid(number: u128) -> Uuid {
    Uuid::from_bytes((number + (1 << 100)).to_be_bytes())
}

pub(crate) fn partition_id() -> TopicIdPartition {
    TopicIdPartition { topic_id: TopicId(uuid(7000)), partition: PartitionIndex(0) }
}

impl Controller {
    pub(crate) fn new() -> Self {
        let policy = Policy::default();
        let mut controller = Self { image: Image::default(), entries: Vec::new(), policy };
        let cluster_id = ClusterId(uuid(0));
        let decision = controller.image.decide_activate(cluster_id, &controller.policy);
        controller.commit(decision.records);
        controller
    }

    pub(crate) fn create_topic(&mut self, replicas: &[NodeId], durability: &str, minimum: u32) {
        let topic = CreateTopic {
            name: TOPIC.to_owned(),
            partition_count: -1,
            replication_factor: -1,
            assignments: BTreeMap::from([(PartitionIndex(0), replicas.to_vec())]),
            configs: vec![
                ("thalweg.durability".to_owned(), Some(durability.to_owned())),
                ("min.insync.replicas".to_owned(), Some(minimum.to_string())),
            ],
            new_topic_id: partition_id().topic_id,
        };
        let decision = self.image.decide_create_topics(&[topic], false, 1, &self.policy);
        decision.response[0].as_ref().expect("a good topic");
        self.commit(decision.records);
    }

    pub(crate) fn partition(&self) -> &Partition {
        self.image.partition_by_id(partition_id()).expect("the topic exists")
    }

    fn commit(&mut self, records: Vec<Record>) {
        if records.is_empty() {
            return;
        }
        let position =
            Position { index: LogIndex(self.entries.len() as u64 + 1), ..self.image.position() };
        for record in &records {
            self.image.apply(position, record);
        }
        self.entries.push(records);
    }

    /// A process begins; its session.
    pub(crate) fn register(
        &mut self,
        disk: NodeId,
        marker: Option<BrokerEpoch>,
        suspect: bool,
    ) -> BrokerEpoch {
        let number = u128::from(disk.0.unsigned_abs());
        let request = RegisterNode {
            role: NodeRole::Broker,
            dir_id: DirId(uuid(number)),
            incarnation: IncarnationId(uuid(100 + self.entries.len() as u128)),
            cluster_id: None,
            node_id: None,
            previous_broker_epoch: marker,
            endpoints: vec![Endpoint {
                listener: Endpoint::INTERNAL.to_owned(),
                host: "broker".to_owned(),
                port: 1,
            }],
            rack: None,
            suspect: suspect.then(partition_id).into_iter().collect(),
        };
        let decision = self.image.decide_register_node(&request).expect("a good registration");
        assert_eq!(decision.response.node_id, disk, "a disk keeps its id");
        self.commit(decision.records);
        self.image.node(disk).expect("it is registered").broker_epoch
    }

    /// Whether the node may stop, if it asked for that.
    pub(crate) fn heartbeat(
        &mut self,
        node_id: NodeId,
        broker_epoch: BrokerEpoch,
        applied: LogIndex,
        shutdown: Option<Option<LogIndex>>,
    ) -> bool {
        let request = Heartbeat {
            node_id,
            broker_epoch,
            applied,
            want_shutdown: shutdown.is_some(),
            others_applied: shutdown.flatten(),
        };
        let Ok(decision) = self.image.decide_heartbeat(&request) else { return false };
        self.commit(decision.records);
        decision.response.may_shut_down
    }

    pub(crate) fn fence(&mut self, node_id: NodeId) {
        let decision = self.image.decide_fence(node_id).expect("it is registered");
        self.commit(decision.records);
    }

    pub(crate) fn unfit(&mut self, node_id: NodeId, broker_epoch: BrokerEpoch) {
        let replicas = BTreeSet::from([partition_id()]);
        if let Ok(decision) = self.image.decide_replicas_unfit(node_id, broker_epoch, &replicas) {
            self.commit(decision.records);
        }
    }

    pub(crate) fn alter(&mut self, proposal: &core::Proposal) -> core::AlterOutcome {
        let request = AlterPartition {
            id: partition_id(),
            leader: proposal.leader,
            broker_epoch: proposal.broker_epoch,
            leader_epoch: proposal.leader_epoch,
            partition_epoch: proposal.partition_epoch,
            isr: proposal.isr.clone(),
            recovering: proposal.recovering,
            unfit: proposal.unfit.clone(),
            proven: proposal.proven.clone(),
        };
        let mut decision = self.image.decide_alter_partitions(&[request], &self.policy);
        self.commit(decision.records);
        match decision.response.remove(0) {
            Ok(state) => core::AlterOutcome::Committed(translate(&state)),
            Err(error) => core::AlterOutcome::Refused(error.code()),
        }
    }

    pub(crate) fn set_config(&mut self, name: &str, value: &str) {
        let (name, value) = (name.to_owned(), value.to_owned());
        let request = AlterConfigs {
            resources: vec![ConfigAlteration {
                target: ConfigTarget::Topic(TOPIC.to_owned()),
                changes: vec![ConfigChange::Set { name, value }],
                replace: false,
            }],
            validate_only: false,
        };
        let decision = self.image.decide_alter_configs(&request, &self.policy);
        self.commit(decision.records);
    }

    pub(crate) fn reassign(&mut self, target: Option<Vec<NodeId>>) -> Option<ErrorCode> {
        let partition = PartitionIndex(0);
        let request = Reassign { topic: TOPIC.to_owned(), partition, target };
        let mut decision = self.image.decide_reassign(&[request], &self.policy);
        self.commit(decision.records);
        decision.response.remove(0).err().map(|error| error.code())
    }

    /// R14: the replica that was made to lead, if one was.
    pub(crate) fn elect_unclean(&mut self, candidates: Vec<Candidate>) -> Option<NodeId> {
        let partition =
            PartitionReference { topic: TOPIC.to_owned(), partition: PartitionIndex(0) };
        let partition_epoch = self.partition().partition_epoch;
        let request = ElectUnclean { partition, partition_epoch, candidates };
        let decision = self.image.decide_elect_unclean(&request).ok()?;
        self.commit(decision.records);
        Some(decision.response.leader)
    }

    pub(crate) fn elect_preferred(&mut self) {
        let partition =
            PartitionReference { topic: TOPIC.to_owned(), partition: PartitionIndex(0) };
        let decision = self.image.decide_elect_preferred(&[partition]);
        self.commit(decision.records);
    }
}

/// A registration as replicas see it.
pub(crate) fn translate(state: &Partition) -> core::Partition {
    core::Partition {
        leader: state.leader,
        leader_epoch: state.leader_epoch,
        partition_epoch: state.partition_epoch,
        replicas: state.replicas.clone(),
        isr: state.isr.clone(),
        min_isr: state.min_isr,
        durability: state.durability,
        unproven: state.unproven.clone(),
        recovering: state.recovery == LeaderRecovery::Recovering,
        unclean_epoch: state.unclean_epoch,
    }
}

/// The assigned replicas that are registered.
pub(crate) fn peers(image: &Image, state: &Partition) -> Vec<core::Peer> {
    let nodes = state.replicas.iter().filter_map(|id| image.node(*id));
    nodes
        .map(|node| core::Peer {
            node: node.id,
            broker_epoch: node.broker_epoch,
            dir_id: node.dir_id,
            live: node.is_live(),
        })
        .collect()
}
