//! The controller as other nodes call it: its internal gRPC service, in this system's own words.
//!
//! Every call goes to whichever controller is the active one ([`LeaderChannel`]) and is repeated only where that is harmless. What the
//! controller refuses comes back as a typed [`Error`], of the whole call or of one of its items.

mod administration;
mod replicas;
mod session;

use std::collections::BTreeSet;
use std::ops::Range;

use thalweg_metadata_core::{ConfigTarget, Endpoint, NodeRole};
use thalweg_metadata_feed::codec;
use thalweg_proto::internal::controller::v1 as proto;
use thalweg_proto::internal::controller::v1::controller_client;
use thalweg_rpc::{Error, LeaderChannel};
use thalweg_types::{
    BrokerEpoch, ClusterId, DirId, ErrorCode, IncarnationId, LogIndex, NodeId, PartitionIndex,
    TopicId, TopicIdPartition, Uuid,
};

pub use session::{NodeSession, SessionOptions, Standing};

/// Cheap to clone: clones share one connection.
#[derive(Debug, Clone)]
pub struct ControllerClient {
    client: controller_client::ControllerClient<LeaderChannel>,
}

/// Who registers.
#[derive(Debug, Clone)]
pub struct Registering {
    pub role: NodeRole,
    pub dir_id: DirId,
    pub incarnation: IncarnationId,
    pub cluster_id: Option<ClusterId>,
    pub node_id: Option<NodeId>,
    /// The session that the clean-shutdown marker names.
    pub previous_broker_epoch: Option<BrokerEpoch>,
    pub endpoints: Vec<Endpoint>,
    pub rack: Option<String>,
    /// Replicas whose data cannot be trusted to be complete.
    pub suspect: BTreeSet<TopicIdPartition>,
}

/// A node's sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    pub node_id: NodeId,
    pub broker_epoch: BrokerEpoch,
    /// Metadata up to here has been taken over.
    pub applied: LogIndex,
    pub disk_full: bool,
    /// It wants to stop: what it leads is given to others (R12).
    pub want_shutdown: bool,
}

/// The controller's answer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BeatAnswer {
    pub fenced: bool,
    /// It leads nothing any more, everybody knows, and it may stop.
    pub may_shut_down: bool,
    /// An operator has asked for it to stop.
    pub shutdown_requested: bool,
    /// Metadata log index at which this holds.
    pub index: LogIndex,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registered {
    pub cluster_id: ClusterId,
    pub node_id: NodeId,
    pub broker_epoch: BrokerEpoch,
}

/// The answer to a call about several items: one result each, in the order asked.
#[derive(Debug)]
pub struct Answer<T> {
    /// Metadata log index at which the answer holds.
    pub index: LogIndex,
    pub items: Vec<Result<T, Error>>,
}

/// A topic to be created. -1 in either count means the cluster's default.
#[derive(Debug, Clone)]
pub struct NewTopic {
    pub name: String,
    pub partition_count: i32,
    pub replication_factor: i16,
    /// Chosen replicas by partition; empty lets the controller place them.
    pub assignments: Vec<(PartitionIndex, Vec<NodeId>)>,
    pub configs: Vec<(String, Option<String>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Created {
    pub topic_id: TopicId,
    pub partition_count: i32,
    pub replication_factor: i16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicSelector {
    Name(String),
    Id(TopicId),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    pub name: String,
    pub topic_id: TopicId,
}

/// A topic to be given more partitions.
#[derive(Debug, Clone)]
pub struct NewPartitions {
    pub topic: String,
    /// Partitions in all, afterwards.
    pub count: i32,
    /// Chosen replicas of each new partition; `None` lets the controller place them.
    pub assignments: Option<Vec<Vec<NodeId>>>,
}

/// Changes of the configs of one owner; they happen all or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alteration {
    pub owner: ConfigTarget,
    /// By name of config.
    pub edits: Vec<(String, ConfigEdit)>,
    /// What the edits do not name goes back to its default as well.
    pub replace: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigEdit {
    Set(String),
    /// Back to the default.
    Delete,
    /// Items to be added to the list that holds when the controller decides.
    Append(String),
    /// Items to be taken out of it.
    Subtract(String),
}

impl NewTopic {
    pub fn with_defaults(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            partition_count: -1,
            replication_factor: -1,
            assignments: Vec::new(),
            configs: Vec::new(),
        }
    }
}

impl ControllerClient {
    /// Over a channel to the only controller, or to whichever of several is the active one.
    pub fn new(channel: impl Into<LeaderChannel>) -> Self {
        Self { client: controller_client::ControllerClient::new(channel.into()) }
    }

    pub async fn register(&self, node: Registering) -> Result<Registered, Error> {
        let request = proto::RegisterNodeRequest {
            role: codec::node_role_to_proto(node.role).into(),
            dir_id: codec::uuid_to_proto(node.dir_id.0),
            incarnation: codec::uuid_to_proto(node.incarnation.0),
            cluster_id: node.cluster_id.map(|id| codec::uuid_to_proto(id.0)),
            node_id: node.node_id.map(|id| id.0),
            previous_broker_epoch: node.previous_broker_epoch.map(|epoch| epoch.0),
            endpoints: node.endpoints.iter().map(codec::endpoint_to_proto).collect(),
            rack: node.rack,
            suspect: node.suspect.iter().map(replicas::topic_id_partition).collect(),
        };
        let answer = self.client.clone().register_node(request).await?.into_inner();
        Ok(Registered {
            cluster_id: ClusterId(uuid(&answer.cluster_id)?),
            node_id: NodeId(answer.node_id),
            broker_epoch: BrokerEpoch(answer.broker_epoch),
        })
    }

    /// Tells the controller that this broker lives and what it has applied.
    pub async fn heartbeat(&self, beat: Beat) -> Result<BeatAnswer, Error> {
        let request = proto::HeartbeatRequest {
            node_id: beat.node_id.0,
            broker_epoch: beat.broker_epoch.0,
            applied_index: beat.applied.0,
            want_shutdown: beat.want_shutdown,
            disk_full: beat.disk_full,
        };
        let answer = self.client.clone().heartbeat(request).await?.into_inner();
        Ok(BeatAnswer {
            fenced: answer.fenced,
            may_shut_down: answer.may_shut_down,
            shutdown_requested: answer.shutdown_requested,
            index: LogIndex(answer.index),
        })
    }

    /// Holds the session until the stream is dropped, or ends because the active controller is gone.
    pub async fn hold_session(
        &self,
        node_id: NodeId,
        broker_epoch: BrokerEpoch,
    ) -> Result<tonic::Streaming<proto::HoldSessionResponse>, Error> {
        let request =
            proto::HoldSessionRequest { node_id: node_id.0, broker_epoch: broker_epoch.0 };
        Ok(self.client.clone().hold_session(request).await?.into_inner())
    }

    pub async fn create_topics(
        &self,
        topics: Vec<NewTopic>,
        validate_only: bool,
    ) -> Result<Answer<Created>, Error> {
        let topics = topics.into_iter().map(new_topic).collect();
        let request = proto::CreateTopicsRequest { topics, validate_only };
        let answer = self.client.clone().create_topics(request).await?.into_inner();
        let items = answer.topics.into_iter().map(|topic| match topic.error {
            Some(error) => Err(Error::from_detail(error)),
            None => Ok(Created {
                topic_id: TopicId(uuid(&topic.topic_id)?),
                partition_count: topic.partition_count,
                replication_factor: i16::try_from(topic.replication_factor).unwrap_or(i16::MAX),
            }),
        });
        Ok(Answer { index: LogIndex(answer.index), items: items.collect() })
    }

    pub async fn delete_topics(
        &self,
        topics: Vec<TopicSelector>,
    ) -> Result<Answer<Removed>, Error> {
        let topics = topics.into_iter().map(topic_reference).collect();
        let request = proto::DeleteTopicsRequest { topics };
        let answer = self.client.clone().delete_topics(request).await?.into_inner();
        let items = answer.topics.into_iter().map(|topic| match topic.error {
            Some(error) => Err(Error::from_detail(error)),
            None => Ok(Removed { name: topic.name, topic_id: TopicId(uuid(&topic.topic_id)?) }),
        });
        Ok(Answer { index: LogIndex(answer.index), items: items.collect() })
    }

    pub async fn create_partitions(
        &self,
        topics: Vec<NewPartitions>,
        validate_only: bool,
    ) -> Result<Answer<()>, Error> {
        let growth = |topic: NewPartitions| proto::TopicGrowth {
            name: topic.topic,
            partition_count: topic.count,
            assignments: topic
                .assignments
                .unwrap_or_default()
                .iter()
                .map(|replicas| assignment(PartitionIndex(0), replicas))
                .collect(),
        };
        let topics = topics.into_iter().map(growth).collect();
        let request = proto::CreatePartitionsRequest { topics, validate_only };
        let answer = self.client.clone().create_partitions(request).await?.into_inner();
        let items = answer.topics.into_iter().map(|topic| match topic.error {
            Some(error) => Err(Error::from_detail(error)),
            None => Ok(()),
        });
        Ok(Answer { index: LogIndex(answer.index), items: items.collect() })
    }

    pub async fn alter_configs(
        &self,
        alterations: Vec<Alteration>,
        validate_only: bool,
    ) -> Result<Answer<()>, Error> {
        let resources = alterations.into_iter().map(config_alteration).collect();
        let request = proto::AlterConfigsRequest { resources, validate_only };
        let answer = self.client.clone().alter_configs(request).await?.into_inner();
        let items = answer.resources.into_iter().map(|resource| match resource.error {
            Some(error) => Err(Error::from_detail(error)),
            None => Ok(()),
        });
        Ok(Answer { index: LogIndex(answer.index), items: items.collect() })
    }

    /// A block of producer ids that nobody else gets.
    pub async fn allocate_producer_ids(
        &self,
        node_id: NodeId,
        broker_epoch: BrokerEpoch,
    ) -> Result<Range<i64>, Error> {
        let request =
            proto::AllocateProducerIdsRequest { node_id: node_id.0, broker_epoch: broker_epoch.0 };
        let block = self.client.clone().allocate_producer_ids(request).await?.into_inner();
        Ok(block.first_producer_id..block.first_producer_id.saturating_add(block.count))
    }
}

fn new_topic(topic: NewTopic) -> proto::NewTopic {
    proto::NewTopic {
        name: topic.name,
        partition_count: topic.partition_count,
        replication_factor: i32::from(topic.replication_factor),
        assignments: topic
            .assignments
            .iter()
            .map(|(partition, replicas)| assignment(*partition, replicas))
            .collect(),
        configs: topic
            .configs
            .into_iter()
            .map(|(name, value)| proto::ConfigEntry { name, value })
            .collect(),
    }
}

fn assignment(partition: PartitionIndex, replicas: &[NodeId]) -> proto::Assignment {
    proto::Assignment {
        partition: partition.0,
        replicas: replicas.iter().map(|node| node.0).collect(),
    }
}

fn topic_reference(topic: TopicSelector) -> proto::TopicReference {
    use proto::topic_reference::Reference;
    let reference = match topic {
        TopicSelector::Name(name) => Reference::Name(name),
        TopicSelector::Id(id) => Reference::TopicId(codec::uuid_to_proto(id.0)),
    };
    proto::TopicReference { reference: Some(reference) }
}

fn config_alteration(alteration: Alteration) -> proto::ConfigAlteration {
    use proto::config_target::{Cluster, Target};
    let target = match alteration.owner {
        ConfigTarget::Topic(name) => Target::Topic(name),
        ConfigTarget::Broker(id) => Target::Broker(id.0),
        ConfigTarget::Cluster => Target::Cluster(Cluster {}),
    };
    let changes = alteration.edits.into_iter().map(|(name, edit)| {
        let (edit, value) = match edit {
            ConfigEdit::Set(value) => (proto::ConfigEdit::Unspecified, Some(value)),
            ConfigEdit::Delete => (proto::ConfigEdit::Unspecified, None),
            ConfigEdit::Append(items) => (proto::ConfigEdit::Append, Some(items)),
            ConfigEdit::Subtract(items) => (proto::ConfigEdit::Subtract, Some(items)),
        };
        proto::ConfigChange { name, value, edit: edit.into() }
    });
    proto::ConfigAlteration {
        target: Some(proto::ConfigTarget { target: Some(target) }),
        changes: changes.collect(),
        replace: alteration.replace,
    }
}

fn uuid(bytes: &[u8]) -> Result<Uuid, Error> {
    match bytes.try_into() {
        Ok(bytes) => Ok(Uuid::from_bytes(bytes)),
        Err(_) => Err(Error::new(
            ErrorCode::UnknownServerError,
            format!("the controller sent an identity of {} bytes", bytes.len()),
        )),
    }
}
