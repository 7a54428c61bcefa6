//! Between messages and the metadata core's requests and answers.

use thalweg_metadata_core::config::Entry;
use thalweg_metadata_core::{
    AlterConfigs, ConfigAlteration, ConfigChange, ConfigTarget, CreatePartitions, CreateTopic,
    CreatedTopic, Error as Refusal, FeatureUpdate, GrowTopic, Heartbeat, ItemResult, RegisterNode,
    Registered, RemovedTopic, TopicReference,
};
use thalweg_metadata_feed::codec::{
    endpoint_from_proto, node_role_from_proto, uuid_from_proto, uuid_to_proto,
};
use thalweg_proto::common::v1::ErrorDetail;
use thalweg_proto::internal::controller::v1 as proto;
use thalweg_rpc::Error as RpcError;
use thalweg_types::{
    BrokerEpoch, ClusterId, DirId, ErrorCode, IncarnationId, LogIndex, NodeId, PartitionIndex,
    TopicId, TopicIdPartition,
};
use tonic::Status;

use crate::error::{refused, unreadable};

/// Items of one request: beyond this no client of ours goes, and each costs an answer.
const ITEMS_MAX: usize = 10_000;

// ---- Nodes ----------------------------------------------------------------------------------------------------------------------

pub(super) fn register_node(request: proto::RegisterNodeRequest) -> Result<RegisterNode, Status> {
    let read = || {
        let cluster_id = request.cluster_id.as_deref();
        let suspect = request.suspect.iter().map(|replica| {
            Ok(TopicIdPartition {
                topic_id: TopicId(uuid_from_proto("topic_id", &replica.topic_id)?),
                partition: PartitionIndex(replica.partition),
            })
        });
        Ok(RegisterNode {
            role: node_role_from_proto(request.role)?,
            dir_id: DirId(uuid_from_proto("dir_id", &request.dir_id)?),
            incarnation: IncarnationId(uuid_from_proto("incarnation", &request.incarnation)?),
            cluster_id: cluster_id
                .map(|id| uuid_from_proto("cluster_id", id).map(ClusterId))
                .transpose()?,
            node_id: request.node_id.map(NodeId),
            previous_broker_epoch: request.previous_broker_epoch.map(BrokerEpoch),
            endpoints: request
                .endpoints
                .iter()
                .cloned()
                .map(endpoint_from_proto)
                .collect::<Result<_, _>>()?,
            rack: request.rack.clone(),
            suspect: suspect.collect::<Result<_, _>>()?,
        })
    };
    check_count(request.suspect.len())?;
    check_count(request.endpoints.len())?;
    read().map_err(|error| unreadable(&error).into())
}

pub(super) fn registered(index: LogIndex, registered: Registered) -> proto::RegisterNodeResponse {
    proto::RegisterNodeResponse {
        cluster_id: uuid_to_proto(registered.cluster_id.0),
        node_id: registered.node_id.0,
        broker_epoch: i64::try_from(index.0).unwrap_or(i64::MAX),
    }
}

pub(super) fn heartbeat(request: &proto::HeartbeatRequest) -> Heartbeat {
    Heartbeat {
        node_id: NodeId(request.node_id),
        broker_epoch: BrokerEpoch(request.broker_epoch),
        applied: LogIndex(request.applied_index),
        want_shutdown: request.want_shutdown,
        others_applied: None,
    }
}

// ---- Topics ---------------------------------------------------------------------------------------------------------------------

pub(super) fn new_topics(
    topics: Vec<proto::NewTopic>,
    new_topic_id: impl Fn() -> TopicId,
) -> Result<Vec<CreateTopic>, Status> {
    check_count(topics.len())?;
    topics.into_iter().map(|topic| new_topic(topic, new_topic_id())).collect()
}

fn new_topic(topic: proto::NewTopic, new_topic_id: TopicId) -> Result<CreateTopic, Status> {
    let mut assignments = std::collections::BTreeMap::new();
    for assignment in topic.assignments {
        let partition = PartitionIndex(assignment.partition);
        if assignments.insert(partition, node_ids(assignment.replicas)).is_some() {
            let message = format!("topic {:?} assigns partition {partition} twice", topic.name);
            let code = ErrorCode::InvalidReplicaAssignment;
            return Err(RpcError::new(code, message).not_applied().into());
        }
    }
    Ok(CreateTopic {
        partition_count: topic.partition_count,
        // A number too large for the protocol is no valid factor either.
        replication_factor: i16::try_from(topic.replication_factor).unwrap_or(i16::MIN),
        assignments,
        configs: topic.configs.into_iter().map(|entry| (entry.name, entry.value)).collect(),
        name: topic.name,
        new_topic_id,
    })
}

pub(super) fn created((name, result): (String, ItemResult<CreatedTopic>)) -> proto::CreatedTopic {
    match result {
        Ok(topic) => proto::CreatedTopic {
            name,
            topic_id: uuid_to_proto(topic.topic_id.0),
            partition_count: topic.partition_count,
            replication_factor: i32::from(topic.replication_factor),
            configs: topic.configs.into_iter().map(described).collect(),
            error: None,
        },
        Err(refusal) => {
            proto::CreatedTopic { name, error: refusal.to_detail(), ..Default::default() }
        }
    }
}

fn described(entry: Entry) -> proto::DescribedConfig {
    proto::DescribedConfig {
        name: entry.name.to_owned(),
        value: entry.value,
        source: i32::from(entry.source.wire_code()),
        read_only: entry.read_only,
    }
}

pub(super) fn topic_references(
    topics: Vec<proto::TopicReference>,
) -> Result<Vec<TopicReference>, Status> {
    use proto::topic_reference::Reference;
    check_count(topics.len())?;
    topics
        .into_iter()
        .map(|topic| match topic.reference {
            Some(Reference::Name(name)) => Ok(TopicReference::Name(name)),
            Some(Reference::TopicId(id)) => uuid_from_proto("topic_id", &id)
                .map(|id| TopicReference::Id(TopicId(id)))
                .map_err(|error| unreadable(&error).into()),
            None => Err(missing("a topic to delete needs a name or an id")),
        })
        .collect()
}

pub(super) fn deleted(
    (asked, result): (TopicReference, ItemResult<RemovedTopic>),
) -> proto::DeletedTopic {
    match (result, asked) {
        (Ok(topic), _) => proto::DeletedTopic {
            name: topic.name.to_string(),
            topic_id: uuid_to_proto(topic.topic_id.0),
            error: None,
        },
        (Err(refusal), TopicReference::Name(name)) => {
            proto::DeletedTopic { name, error: refusal.to_detail(), ..Default::default() }
        }
        (Err(refusal), TopicReference::Id(id)) => proto::DeletedTopic {
            topic_id: uuid_to_proto(id.0),
            error: refusal.to_detail(),
            ..Default::default()
        },
    }
}

pub(super) fn create_partitions(request: proto::CreatePartitionsRequest) -> CreatePartitions {
    let topics = request.topics.into_iter().map(|topic| GrowTopic {
        name: topic.name,
        partition_count: topic.partition_count,
        assignments: topic
            .assignments
            .into_iter()
            .map(|assignment| node_ids(assignment.replicas))
            .collect(),
    });
    CreatePartitions { topics: topics.collect(), validate_only: request.validate_only }
}

// ---- Configs --------------------------------------------------------------------------------------------------------------------

pub(super) fn alter_configs(request: proto::AlterConfigsRequest) -> Result<AlterConfigs, Status> {
    use proto::config_target::Target;
    check_count(request.resources.len())?;
    let resources = request.resources.into_iter().map(|alteration| {
        let target = match alteration.target.and_then(|target| target.target) {
            Some(Target::Cluster(_)) => ConfigTarget::Cluster,
            Some(Target::Broker(id)) => ConfigTarget::Broker(NodeId(id)),
            Some(Target::Topic(name)) => ConfigTarget::Topic(name),
            None => return Err(missing("an alteration needs a target")),
        };
        let changes =
            alteration.changes.into_iter().map(config_change).collect::<Result<_, _>>()?;
        Ok(ConfigAlteration { target, changes, replace: alteration.replace })
    });
    Ok(AlterConfigs {
        resources: resources.collect::<Result<_, _>>()?,
        validate_only: request.validate_only,
    })
}

fn config_change(change: proto::ConfigChange) -> Result<ConfigChange, Status> {
    use proto::ConfigEdit;
    let name = change.name;
    let Ok(edit) = ConfigEdit::try_from(change.edit) else {
        return Err(RpcError::invalid_request("unknown kind of config edit").not_applied().into());
    };
    match (edit, change.value) {
        (ConfigEdit::Unspecified, Some(value)) => Ok(ConfigChange::Set { name, value }),
        (ConfigEdit::Unspecified, None) => Ok(ConfigChange::Delete { name }),
        (ConfigEdit::Append, Some(items)) => Ok(ConfigChange::Append { name, items }),
        (ConfigEdit::Subtract, Some(items)) => Ok(ConfigChange::Subtract { name, items }),
        (ConfigEdit::Append | ConfigEdit::Subtract, None) => {
            Err(missing("an edit of a list needs a value"))
        }
    }
}

pub(super) fn feature_updates(
    updates: Vec<proto::FeatureUpdate>,
) -> Result<Vec<FeatureUpdate>, Status> {
    check_count(updates.len())?;
    let update = |update: proto::FeatureUpdate| {
        let level = i16::try_from(update.level).map_err(|_| {
            let message = format!("level {} of {:?} is none", update.level, update.name);
            Status::from(RpcError::new(ErrorCode::InvalidUpdateVersion, message).not_applied())
        })?;
        Ok(FeatureUpdate { name: update.name, level, may_lower: update.downgrade })
    };
    updates.into_iter().map(update).collect()
}

// ---- Parts ----------------------------------------------------------------------------------------------------------------------

/// An item's refusal as it travels in an answer.
pub(super) trait ToDetail {
    fn to_detail(&self) -> Option<ErrorDetail>;
}

impl ToDetail for Refusal {
    fn to_detail(&self) -> Option<ErrorDetail> {
        Some(refused(self).to_detail())
    }
}

impl ToDetail for Option<Refusal> {
    fn to_detail(&self) -> Option<ErrorDetail> {
        self.as_ref().and_then(ToDetail::to_detail)
    }
}

pub(super) fn node_ids(ids: Vec<i32>) -> Vec<NodeId> {
    ids.into_iter().map(NodeId).collect()
}

pub(super) fn missing(what: &str) -> Status {
    RpcError::invalid_request(what).not_applied().into()
}

pub(super) fn check_count(items: usize) -> Result<(), Status> {
    if items > ITEMS_MAX {
        let message = format!("a request has at most {ITEMS_MAX} items, this one has {items}");
        return Err(RpcError::invalid_request(message).not_applied().into());
    }
    Ok(())
}
