//! Facts: what the controller has decided, as its log holds it.
//!
//! A fact says what *is* from now on, never what somebody asked for, and it says it whole: applying it needs no other choice and
//! cannot fail. Facts of one log entry take effect together.

use std::fmt;
use std::str::FromStr;

use thalweg_types::{
    BrokerEpoch, ClusterId, CoordinatorEpoch, DirId, IncarnationId, LogIndex, NodeId,
    PartitionIndex, ProducerId, TopicId, TopicIdPartition, TopicName,
};

use crate::image::Partition;
use crate::key::Key;

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// The first fact of every cluster.
    ClusterCreated {
        cluster_id: ClusterId,
    },
    /// The disk has this node id for ever, even after the node is gone: an id is never given to another disk.
    NodeIdAllocated {
        dir_id: DirId,
        node_id: NodeId,
    },
    /// A node began an uptime session, or (in a snapshot) has one.
    NodeRegistered(Registration),
    /// The node may lead and be in sync.
    NodeUnfenced {
        node_id: NodeId,
    },
    /// The node may neither lead nor be in sync until it is unfenced.
    NodeFenced {
        node_id: NodeId,
    },
    /// The node wants to stop: it leads nothing and is in no in-sync set any more, and stays so until it registers again.
    NodeShuttingDown {
        node_id: NodeId,
    },
    /// The node is gone for good, until its disk registers again. Its id stays its disk's.
    NodeUnregistered {
        node_id: NodeId,
    },
    TopicCreated {
        topic_id: TopicId,
        name: TopicName,
    },
    /// A partition came into being.
    PartitionRegistered {
        topic_id: TopicId,
        partition: PartitionIndex,
        state: Partition,
    },
    /// The whole new state of a partition that exists.
    PartitionChanged {
        topic_id: TopicId,
        partition: PartitionIndex,
        state: Partition,
    },
    /// Who coordinates what a partition of an internal topic holds, from now on and until it is said anew.
    CoordinatorAssigned {
        topic_id: TopicId,
        partition: PartitionIndex,
        /// `None`: no coordinator is live.
        node: Option<NodeId>,
        /// Higher than at every assignment before.
        epoch: CoordinatorEpoch,
    },
    /// Takes the topic's partitions, coordinators and configs with it.
    TopicDeleted {
        topic_id: TopicId,
    },
    ConfigSet {
        resource: ConfigResource,
        name: String,
        value: String,
    },
    ConfigRemoved {
        resource: ConfigResource,
        name: String,
    },
    /// The whole cluster works at this level of the feature; 0: it is off.
    FeatureSet {
        name: String,
        level: i16,
    },
    /// The controller was, or is about to be, taken out of the quorum: its id is never used again.
    VoterRetired {
        /// In the quorum's own id space.
        voter_id: u64,
    },
    /// Producer ids below this one have been given out.
    ProducerIdsAllocated {
        next_producer_id: ProducerId,
    },
}

/// One uptime session of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    pub node_id: NodeId,
    pub role: NodeRole,
    /// The disk whose id this is.
    pub dir_id: DirId,
    /// The process that registered.
    pub incarnation: IncarnationId,
    /// `None`: the log index at which this fact is committed, which its author could not know. Snapshots carry it.
    pub broker_epoch: Option<BrokerEpoch>,
    pub endpoints: Vec<Endpoint>,
    pub rack: Option<String>,
    pub fenced: bool,
    /// Log index at which it began to shut down; only in snapshots.
    pub shutting_down_at: Option<LogIndex>,
}

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeRole {
    /// Stores partition replicas.
    Broker,
    /// Hosts groups and transactions; never leads a partition.
    Coordinator,
    /// Serves clients only.
    Gateway,
}

/// Where clients or other nodes reach a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Name of the listener: one of the constants below, or an operator's own.
    pub listener: String,
    pub host: String,
    pub port: u16,
}

/// Whether the leader's log can be trusted to be complete (KIP-704).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LeaderRecovery {
    #[default]
    Recovered,
    /// After an unclean election, until the leader reports that it has recovered.
    Recovering,
}

/// What a config entry belongs to. Topics by id, so that a topic made again under the same name starts without the old configs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigResource {
    /// Default of every broker.
    Cluster,
    Broker(NodeId),
    Topic(TopicId),
}

impl Record {
    /// The entity the fact is about.
    pub fn key(&self) -> Key {
        match self {
            Self::ClusterCreated { .. } => Key::Cluster,
            Self::NodeIdAllocated { dir_id, .. } => Key::NodeId(*dir_id),
            Self::NodeRegistered(registration) => Key::Node(registration.node_id),
            Self::NodeUnfenced { node_id }
            | Self::NodeFenced { node_id }
            | Self::NodeShuttingDown { node_id }
            | Self::NodeUnregistered { node_id } => Key::Node(*node_id),
            Self::TopicCreated { topic_id, .. } | Self::TopicDeleted { topic_id } => {
                Key::Topic(*topic_id)
            }
            Self::PartitionRegistered { topic_id, partition, .. }
            | Self::PartitionChanged { topic_id, partition, .. } => {
                Key::Partition(TopicIdPartition { topic_id: *topic_id, partition: *partition })
            }
            Self::CoordinatorAssigned { topic_id, partition, .. } => {
                Key::Coordinator(TopicIdPartition { topic_id: *topic_id, partition: *partition })
            }
            Self::ConfigSet { resource, name, .. } | Self::ConfigRemoved { resource, name } => {
                Key::Config(*resource, name.clone())
            }
            Self::FeatureSet { name, .. } => Key::Feature(name.clone()),
            Self::VoterRetired { voter_id } => Key::RetiredVoter(*voter_id),
            Self::ProducerIdsAllocated { .. } => Key::ProducerIds,
        }
    }

    /// Whose config the fact changes, if it is about one.
    pub fn config_resource(&self) -> Option<ConfigResource> {
        match self {
            Self::ConfigSet { resource, .. } | Self::ConfigRemoved { resource, .. } => {
                Some(*resource)
            }
            _ => None,
        }
    }
}

impl NodeRole {
    /// Whether its disk holds what must outlive its session. A node without one is forgotten with its session.
    pub fn keeps_data(self) -> bool {
        self == Self::Broker
    }
}

impl Endpoint {
    /// The listener that speaks the Kafka protocol.
    pub const KAFKA: &'static str = "kafka";
    /// Public gRPC.
    pub const PUBLIC: &'static str = "public";
    /// gRPC between nodes.
    pub const INTERNAL: &'static str = "internal";

    /// `host:port`, as a channel is opened to it.
    pub fn address(&self) -> String {
        let Self { host, port, .. } = self;
        match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for NodeRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Broker => "broker",
            Self::Coordinator => "coordinator",
            Self::Gateway => "gateway",
        })
    }
}

impl FromStr for NodeRole {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "broker" => Ok(Self::Broker),
            "coordinator" => Ok(Self::Coordinator),
            "gateway" => Ok(Self::Gateway),
            _ => Err(format!("{text:?} is not one of: broker, coordinator, gateway")),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.listener, self.host, self.port)
    }
}
