//! The controller: the real decisions, committed at once; and what brokers see of them, one registration after the other.
//!
//! That a quorum stands behind it is left out: what is decided here is committed. Its answers and its metadata are late as long as the
//! checker likes, which is what a change of controllers amounts to for a partition.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use thalweg_invariants::EPOCHS;
use thalweg_metadata_core::{
    AlterConfigs, AlterPartition, ConfigAlteration, ConfigChange, ConfigTarget, CreateTopic,
    Endpoint, Heartbeat, Image, LeaderRecovery, NodeRole, Partition, PartitionReference, Policy,
    Position, Record, RegisterNode,
};
use thalweg_replication_core as core;
use thalweg_types::{
    BrokerEpoch, ClusterId, DirId, Durability, IncarnationId, LogIndex, NodeId, PartitionIndex,
    TopicId, TopicIdPartition, Uuid,
};

const TOPIC: &str = "t";

#[derive(Debug, Clone)]
pub(crate) struct Controller {
    pub(crate) image: Image,
    /// What brokers have yet to learn, oldest first, each with its index in the metadata log.
    views: Vec<Arc<View>>,
    policy: Arc<Policy>,
}

/// The metadata as of one entry, as far as replicas look at it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct View {
    pub(crate) index: u64,
    pub(crate) partition: core::Partition,
    pub(crate) peers: Vec<core::Peer>,
}

impl Hash for Controller {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.image.position().index.0.hash(state);
        self.partition().hash(state);
        for node in self.image.nodes() {
            (node.id, node.broker_epoch, node.fenced, node.shutting_down_at).hash(state);
        }
        self.views.hash(state);
    }
}

fn uuid(number: u128) -> Uuid {
    Uuid::from_bytes((number + (1 << 100)).to_be_bytes())
}

/// The identity of a node's disk.
pub(crate) fn dir_id(node: NodeId) -> DirId {
    DirId(uuid(u128::from(node.0.unsigned_abs())))
}

fn partition_id() -> TopicIdPartition {
    TopicIdPartition { topic_id: TopicId(uuid(7000)), partition: PartitionIndex(0) }
}

impl Controller {
    /// Of a new cluster without brokers.
    pub(crate) fn new() -> Self {
        let policy = Arc::new(Policy::default());
        let mut controller = Self { image: Image::default(), views: Vec::new(), policy };
        let decision = controller.image.decide_activate(ClusterId(uuid(0)), &controller.policy);
        controller.commit(&decision.records);
        controller
    }

    pub(crate) fn create_topic(
        &mut self,
        replicas: &[NodeId],
        durability: Durability,
        min_isr: u32,
    ) {
        let durability = match durability {
            Durability::Fsync => "fsync",
            Durability::Replicated => "replicated",
        };
        let topic = CreateTopic {
            name: TOPIC.to_owned(),
            partition_count: -1,
            replication_factor: -1,
            assignments: BTreeMap::from([(PartitionIndex(0), replicas.to_vec())]),
            configs: vec![
                ("thalweg.durability".to_owned(), Some(durability.to_owned())),
                ("min.insync.replicas".to_owned(), Some(min_isr.to_string())),
            ],
            new_topic_id: partition_id().topic_id,
        };
        let decision = self.image.decide_create_topics(&[topic], false, 1, &self.policy);
        self.commit(&decision.records);
    }

    pub(crate) fn partition(&self) -> &Partition {
        self.image.partition_by_id(partition_id()).expect("the topic is created at the beginning")
    }

    pub(crate) fn index(&self) -> u64 {
        self.image.position().index.0
    }

    /// The first registration after the entry `applied`.
    pub(crate) fn view_after(&self, applied: u64) -> Option<&Arc<View>> {
        self.views.iter().find(|view| view.index > applied)
    }

    /// Everybody has learned what is up to here.
    pub(crate) fn forget_views_to(&mut self, index: u64) {
        self.views.retain(|view| view.index > index);
    }

    pub(crate) fn has_views_to(&self, index: u64) -> bool {
        self.views.first().is_some_and(|view| view.index <= index)
    }

    fn commit(&mut self, records: &[Record]) {
        if records.is_empty() {
            return;
        }
        let before = self.image.partition_by_id(partition_id()).cloned();
        let index = LogIndex(self.index() + 1);
        let position = Position { index, ..self.image.position() };
        for record in records {
            self.image.apply(position, record);
        }
        if let Some(after) = self.image.partition_by_id(partition_id()) {
            if let Some(before) = before.filter(|before| before != after) {
                thalweg_invariants::check!(
                    EPOCHS,
                    after.partition_epoch > before.partition_epoch
                        && after.leader_epoch >= before.leader_epoch,
                    "{before:?} became {after:?}"
                );
            }
            let peers = peers(&self.image, after);
            let view = View { index: index.0, partition: translate(after), peers };
            self.views.push(Arc::new(view));
        }
    }

    // ---- What brokers ask ----

    /// A process begins, after no clean shutdown; its session.
    pub(crate) fn register(&mut self, node: NodeId) -> BrokerEpoch {
        let incarnation = u128::from(self.index());
        let request = RegisterNode {
            role: NodeRole::Broker,
            dir_id: dir_id(node),
            incarnation: IncarnationId(uuid(100 + incarnation)),
            cluster_id: None,
            node_id: None,
            previous_broker_epoch: None,
            endpoints: vec![Endpoint {
                listener: Endpoint::INTERNAL.to_owned(),
                host: "broker".to_owned(),
                port: 1,
            }],
            rack: None,
            suspect: std::collections::BTreeSet::new(),
        };
        let decision = self.image.decide_register_node(&request).expect("a good registration");
        self.commit(&decision.records);
        self.image.node(node).map_or(BrokerEpoch::NONE, |node| node.broker_epoch)
    }

    /// A broker is alive and has applied its registration.
    pub(crate) fn heartbeat(&mut self, node_id: NodeId, broker_epoch: BrokerEpoch, applied: u64) {
        let request = Heartbeat {
            node_id,
            broker_epoch,
            applied: LogIndex(applied),
            want_shutdown: false,
            others_applied: None,
        };
        if let Ok(decision) = self.image.decide_heartbeat(&request) {
            self.commit(&decision.records);
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
        self.commit(&decision.records);
        match decision.response.pop() {
            Some(Ok(state)) => core::AlterOutcome::Committed(translate(&state)),
            Some(Err(error)) => core::AlterOutcome::Refused(error.code()),
            None => core::AlterOutcome::Lost,
        }
    }

    // ---- What it finds or is told ----

    pub(crate) fn fence(&mut self, node: NodeId) {
        if let Ok(decision) = self.image.decide_fence(node) {
            self.commit(&decision.records);
        }
    }

    pub(crate) fn elect_preferred(&mut self) {
        let partition =
            PartitionReference { topic: TOPIC.to_owned(), partition: PartitionIndex(0) };
        let decision = self.image.decide_elect_preferred(&[partition]);
        self.commit(&decision.records);
    }

    pub(crate) fn set_min_isr(&mut self, min_isr: u32) {
        let name = "min.insync.replicas".to_owned();
        let request = AlterConfigs {
            resources: vec![ConfigAlteration {
                target: ConfigTarget::Topic(TOPIC.to_owned()),
                changes: vec![ConfigChange::Set { name, value: min_isr.to_string() }],
                replace: false,
            }],
            validate_only: false,
        };
        let decision = self.image.decide_alter_configs(&request, &self.policy);
        self.commit(&decision.records);
    }
}

/// A registration as replicas see it.
fn translate(state: &Partition) -> core::Partition {
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
fn peers(image: &Image, state: &Partition) -> Vec<core::Peer> {
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
