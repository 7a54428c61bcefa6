//! The image: everything the committed facts amount to, whole and immutable.
//!
//! Cloning an image shares all of it; applying a fact copies only the map it changes, and only while somebody else holds the older
//! image. Readers keep an image for as long as they need one consistent view.

mod coordinators;
mod features;
mod parts;
mod voters;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use thalweg_types::{
    BrokerEpoch, ClusterId, ControllerEpoch, CoordinatorEpoch, DirId, Durability, IncarnationId,
    LeaderEpoch, LogIndex, NodeId, PartitionEpoch, PartitionIndex, ProducerId, TopicId,
    TopicIdPartition, TopicName,
};

use crate::key::Key;
use crate::record::{ConfigResource, Endpoint, LeaderRecovery, NodeRole, Record};

/// First node id: 0 is left out, so that a field nobody filled in is no node.
const FIRST_NODE_ID: NodeId = NodeId(1);

/// The cluster as of [`Image::position`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    position: Position,
    cluster_id: Option<ClusterId>,
    next_node_id: NodeId,
    next_producer_id: ProducerId,
    node_ids: Arc<BTreeMap<DirId, NodeId>>,
    nodes: Arc<BTreeMap<NodeId, Arc<Node>>>,
    topics: Arc<BTreeMap<TopicId, Arc<Topic>>>,
    topic_ids: Arc<BTreeMap<TopicName, TopicId>>,
    /// Of partitions of internal topics that were ever assigned.
    coordinators: Arc<BTreeMap<TopicIdPartition, Coordinator>>,
    configs: Arc<BTreeMap<ConfigResource, Arc<BTreeMap<String, String>>>>,
    /// Levels above 0.
    features: Arc<BTreeMap<String, i16>>,
    /// In the quorum's own id space.
    retired_voters: Arc<BTreeSet<u64>>,
}

/// Where in the metadata log an image or fact stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Index of the last entry applied; 0 before the first.
    pub index: LogIndex,
    /// The active controller that wrote it.
    pub controller_epoch: ControllerEpoch,
}

/// A registered node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub id: NodeId,
    pub role: NodeRole,
    pub dir_id: DirId,
    pub incarnation: IncarnationId,
    /// Metadata log index of its latest registration.
    pub broker_epoch: BrokerEpoch,
    pub endpoints: Vec<Endpoint>,
    pub rack: Option<String>,
    /// Neither leads nor is in sync.
    pub fenced: bool,
    /// It has asked to stop, and neither leads nor is in sync: the log index at which others were told (R12).
    pub shutting_down_at: Option<LogIndex>,
}

/// A topic and its partitions. Partition indexes are dense from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    pub id: TopicId,
    pub name: TopicName,
    pub partitions: BTreeMap<PartitionIndex, Partition>,
}

/// One partition's registration: what rules R1 to R15 of replication call the partition record.
///
/// Always: leader in `isr`; `isr` and `elr` are disjoint and within `replicas`; `elr` is empty while `isr` has `min_isr` members.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Partition {
    /// Assigned replicas; the first one is the preferred leader.
    pub replicas: Vec<NodeId>,
    /// Replicas a reassignment is adding; also in `replicas`.
    pub adding: Vec<NodeId>,
    /// Replicas a reassignment will remove; still in `replicas`.
    pub removing: Vec<NodeId>,
    /// Committed in-sync replicas.
    pub isr: Vec<NodeId>,
    /// Eligible leader replicas: out of sync, but known to be complete (KIP-966).
    pub elr: Vec<NodeId>,
    /// `None` while no eligible replica lives.
    pub leader: Option<NodeId>,
    /// Raised whenever `leader` changes.
    pub leader_epoch: LeaderEpoch,
    /// Raised by every change.
    pub partition_epoch: PartitionEpoch,
    /// Effective `min.insync.replicas`: the configured value, at most the number of assigned replicas. Leaders take it from here only.
    pub min_isr: u32,
    /// `thalweg.durability` as it binds leaders and followers.
    pub durability: Durability,
    pub recovery: LeaderRecovery,
    /// Epoch of the last unclean election, if there ever was one.
    pub unclean_epoch: Option<LeaderEpoch>,
    /// Replicas that have not yet shown that what was committed before `durability` became `fsync` is on their disks (R19). After an
    /// unclean restart they count as on a `replicated` topic.
    pub unproven: Vec<NodeId>,
}

/// Who coordinates what one partition of an internal topic holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Coordinator {
    /// `None`: no coordinator is live.
    pub node: Option<NodeId>,
    /// Raised by every assignment.
    pub epoch: CoordinatorEpoch,
}

// ---------------------------------------------------------------------------------------------------------------------------------
// Image
// ---------------------------------------------------------------------------------------------------------------------------------

impl Default for Image {
    /// Before the first fact.
    fn default() -> Self {
        Self {
            position: Position::START,
            cluster_id: None,
            next_node_id: FIRST_NODE_ID,
            next_producer_id: ProducerId(0),
            node_ids: Arc::default(),
            nodes: Arc::default(),
            topics: Arc::default(),
            topic_ids: Arc::default(),
            coordinators: Arc::default(),
            configs: Arc::default(),
            features: Arc::default(),
            retired_voters: Arc::default(),
        }
    }
}

/// Config that keeps new replicas off a broker.
const CORDON_CONFIG: &str = "cordoned.log.dirs";

impl Image {
    /// From the facts of a snapshot ([`Self::to_records`]) taken at `position`.
    pub fn restore<'a>(position: Position, records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut image = Self::default();
        for record in records {
            image.apply(position, record);
        }
        image.position = position;
        image
    }

    /// Takes in one committed fact. Total: a fact about something that is not there (which no controller writes) changes nothing.
    pub fn apply(&mut self, position: Position, record: &Record) {
        self.position = position;
        match record {
            Record::ClusterCreated { cluster_id } => self.cluster_id = Some(*cluster_id),
            Record::NodeIdAllocated { dir_id, node_id } => {
                Arc::make_mut(&mut self.node_ids).insert(*dir_id, *node_id);
                let following = NodeId(node_id.0.saturating_add(1));
                self.next_node_id = self.next_node_id.max(following);
            }
            Record::NodeRegistered(registration) => {
                let node = Node::registered(registration, position.index);
                Arc::make_mut(&mut self.nodes).insert(registration.node_id, Arc::new(node));
            }
            Record::NodeUnfenced { node_id } => self.set_fenced(*node_id, false),
            Record::NodeFenced { node_id } => self.set_fenced(*node_id, true),
            Record::NodeShuttingDown { node_id } => {
                if let Some(node) = Arc::make_mut(&mut self.nodes).get_mut(node_id) {
                    Arc::make_mut(node).shutting_down_at = Some(position.index);
                }
            }
            Record::NodeUnregistered { node_id } => {
                Arc::make_mut(&mut self.nodes).remove(node_id);
            }
            Record::TopicCreated { topic_id, name } => self.insert_topic(*topic_id, name),
            Record::PartitionRegistered { topic_id, partition, state }
            | Record::PartitionChanged { topic_id, partition, state } => {
                if let Some(topic) = Arc::make_mut(&mut self.topics).get_mut(topic_id) {
                    Arc::make_mut(topic).partitions.insert(*partition, state.clone());
                }
            }
            Record::CoordinatorAssigned { topic_id, partition, node, epoch } => {
                let coordinator = Coordinator { node: *node, epoch: *epoch };
                self.set_coordinator(*topic_id, *partition, coordinator);
            }
            Record::TopicDeleted { topic_id } => self.remove_topic(*topic_id),
            Record::ConfigSet { resource, name, value } => {
                let entries = Arc::make_mut(&mut self.configs).entry(*resource).or_default();
                Arc::make_mut(entries).insert(name.clone(), value.clone());
            }
            Record::ConfigRemoved { resource, name } => self.remove_config(resource, name),
            Record::FeatureSet { name, level } => self.set_feature(name, *level),
            Record::VoterRetired { voter_id } => self.retire_voter(*voter_id),
            Record::ProducerIdsAllocated { next_producer_id } => {
                self.next_producer_id = *next_producer_id;
            }
        }
    }

    /// Passes over an entry that holds no facts, such as a new leader's first one.
    pub fn advance(&mut self, position: Position) {
        self.position = position;
    }

    fn set_fenced(&mut self, node_id: NodeId, fenced: bool) {
        if let Some(node) = Arc::make_mut(&mut self.nodes).get_mut(&node_id) {
            Arc::make_mut(node).fenced = fenced;
        }
    }

    fn insert_topic(&mut self, id: TopicId, name: &TopicName) {
        let topic = Topic { id, name: name.clone(), partitions: BTreeMap::new() };
        Arc::make_mut(&mut self.topics).insert(id, Arc::new(topic));
        Arc::make_mut(&mut self.topic_ids).insert(name.clone(), id);
    }

    fn remove_topic(&mut self, id: TopicId) {
        if let Some(topic) = Arc::make_mut(&mut self.topics).remove(&id) {
            Arc::make_mut(&mut self.topic_ids).remove(&topic.name);
            Arc::make_mut(&mut self.configs).remove(&ConfigResource::Topic(id));
            self.remove_coordinators(&topic);
        }
    }

    fn remove_config(&mut self, resource: &ConfigResource, name: &str) {
        let configs = Arc::make_mut(&mut self.configs);
        if let Some(entries) = configs.get_mut(resource) {
            Arc::make_mut(entries).remove(name);
            if entries.is_empty() {
                configs.remove(resource);
            }
        }
    }

    // Snapshots -------------------------------------------------------------------------------------------------------------------

    /// The fewest facts that make this image, in an order in which they can be applied.
    pub fn to_records(&self) -> Vec<Record> {
        self.keys().iter().filter_map(|key| self.record_at(key)).collect()
    }

    /// The fact that alone says how the entity stands, or `None` when it does not exist: the value to store under the key.
    pub fn record_at(&self, key: &Key) -> Option<Record> {
        match key {
            Key::Cluster => self.cluster_id.map(|cluster_id| Record::ClusterCreated { cluster_id }),
            Key::NodeId(dir_id) => self
                .node_ids
                .get(dir_id)
                .map(|node_id| Record::NodeIdAllocated { dir_id: *dir_id, node_id: *node_id }),
            Key::Node(node_id) => {
                self.nodes.get(node_id).map(|node| Record::NodeRegistered(node.registration()))
            }
            Key::Topic(topic_id) => self.topics.get(topic_id).map(|topic| Record::TopicCreated {
                topic_id: *topic_id,
                name: topic.name.clone(),
            }),
            Key::Partition(TopicIdPartition { topic_id, partition }) => {
                let state = self.topics.get(topic_id)?.partitions.get(partition)?.clone();
                let (topic_id, partition) = (*topic_id, *partition);
                Some(Record::PartitionRegistered { topic_id, partition, state })
            }
            Key::Config(resource, name) => {
                let value = self.configs.get(resource)?.get(name)?.clone();
                Some(Record::ConfigSet { resource: *resource, name: name.clone(), value })
            }
            Key::Feature(name) => self
                .features
                .get(name)
                .map(|level| Record::FeatureSet { name: name.clone(), level: *level }),
            Key::RetiredVoter(voter_id) => self
                .retired_voters
                .contains(voter_id)
                .then_some(Record::VoterRetired { voter_id: *voter_id }),
            Key::Coordinator(id) => self.coordinators.get(id).map(|c| c.to_record(*id)),
            Key::ProducerIds => {
                (self.next_producer_id > ProducerId(0)).then_some(Record::ProducerIdsAllocated {
                    next_producer_id: self.next_producer_id,
                })
            }
        }
    }

    /// The entities that applying `record` to this image changes. Ask before applying: a deleted topic's partitions and configs are
    /// known only until then.
    pub fn keys_changed_by(&self, record: &Record) -> Vec<Key> {
        match record {
            Record::TopicDeleted { topic_id } => self.keys_of_topic(*topic_id),
            _ => vec![record.key()],
        }
    }

    fn keys(&self) -> Vec<Key> {
        let configs = self.configs.iter().flat_map(|(resource, entries)| {
            entries.keys().map(|name| Key::Config(*resource, name.clone()))
        });
        let partitions = self.topics.values().flat_map(|topic| topic.partition_keys());
        std::iter::once(Key::Cluster)
            .chain(self.node_ids.keys().copied().map(Key::NodeId))
            .chain(self.nodes.keys().copied().map(Key::Node))
            .chain(self.topics.keys().copied().map(Key::Topic))
            .chain(partitions)
            .chain(configs)
            .chain([Key::ProducerIds])
            .chain(self.coordinators.keys().copied().map(Key::Coordinator))
            .chain(self.features.keys().cloned().map(Key::Feature))
            .chain(self.retired_voters.iter().copied().map(Key::RetiredVoter))
            .collect()
    }

    fn keys_of_topic(&self, topic_id: TopicId) -> Vec<Key> {
        let resource = ConfigResource::Topic(topic_id);
        let configs = self.configs(&resource).map(|(name, _)| Key::Config(resource, name.into()));
        let topic = self.topics.get(&topic_id);
        let partitions = topic.into_iter().flat_map(|topic| topic.partition_keys());
        let coordinators = topic.into_iter().flat_map(|topic| self.coordinator_keys(topic));
        let parts = partitions.chain(coordinators).chain(configs);
        [Key::Topic(topic_id)].into_iter().chain(parts).collect()
    }

    // Accessors -------------------------------------------------------------------------------------------------------------------

    pub fn position(&self) -> Position {
        self.position
    }

    /// `None` before the cluster's first fact.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.cluster_id
    }

    /// Registered nodes of every role, fenced ones included, in order of id.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values()
    }

    pub fn node(&self, id: NodeId) -> Option<&Arc<Node>> {
        self.nodes.get(&id)
    }

    /// The node id that belongs to a disk, whether or not the node is registered now.
    pub fn node_id_of(&self, dir_id: DirId) -> Option<NodeId> {
        self.node_ids.get(&dir_id).copied()
    }

    /// Brokers that may lead, in order of id.
    pub fn live_brokers(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes().filter(|node| node.role == NodeRole::Broker && node.is_live())
    }

    /// Live brokers that may be given new replicas, in order of id.
    pub fn placeable_brokers(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.live_brokers().filter(|node| !self.is_cordoned(node.id))
    }

    /// Whether a broker shall get no new replicas (`cordoned.log.dirs`, KIP-1066). It keeps, leads and serves those it has.
    pub fn is_cordoned(&self, id: NodeId) -> bool {
        let of = |resource| self.config(&resource, CORDON_CONFIG);
        of(ConfigResource::Broker(id)).or_else(|| of(ConfigResource::Cluster)) == Some("*")
    }

    pub fn is_live(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.is_live())
    }

    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// In order of name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topic_ids.values().filter_map(|id| self.topics.get(id))
    }

    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(self.topic_ids.get(name)?)
    }

    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(&id)
    }

    pub fn partition(&self, topic: &str, partition: PartitionIndex) -> Option<&Partition> {
        self.topic(topic)?.partitions.get(&partition)
    }

    pub fn partition_by_id(&self, id: TopicIdPartition) -> Option<&Partition> {
        self.topics.get(&id.topic_id)?.partitions.get(&id.partition)
    }

    /// The entries set on a resource itself, in order of name; defaults are not among them.
    pub fn configs(&self, resource: &ConfigResource) -> impl Iterator<Item = (&str, &str)> {
        let entries = self.configs.get(resource).into_iter();
        entries.flat_map(|entries| entries.iter()).map(|(name, value)| (&**name, &**value))
    }

    pub fn config(&self, resource: &ConfigResource, name: &str) -> Option<&str> {
        self.configs.get(resource)?.get(name).map(String::as_str)
    }

    /// The id the next new disk's node gets.
    pub fn next_node_id(&self) -> NodeId {
        self.next_node_id
    }

    /// Producer ids from here on are free.
    pub fn next_producer_id(&self) -> ProducerId {
        self.next_producer_id
    }
}
