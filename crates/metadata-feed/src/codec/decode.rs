//! From messages to facts.

use thalweg_metadata_core::{
    ConfigResource, Endpoint, LeaderRecovery, NodeRole, Partition, Record, Registration,
};
use thalweg_proto::internal::metadata::v1::{self as proto, record::Fact};
use thalweg_types::{
    BrokerEpoch, ClusterId, CoordinatorEpoch, DirId, Durability, IncarnationId, LeaderEpoch,
    LogIndex, NodeId, PartitionEpoch, PartitionIndex, ProducerId, TopicId, TopicName,
};

use super::{DecodeError, uuid_from_proto};

pub fn record_from_proto(record: proto::Record) -> Result<Record, DecodeError> {
    let fact = record.fact.ok_or(DecodeError::Missing { field: "fact" })?;
    Ok(match fact {
        Fact::ClusterCreated(fact) => Record::ClusterCreated {
            cluster_id: ClusterId(uuid_from_proto("cluster_id", &fact.cluster_id)?),
        },
        Fact::NodeIdAllocated(fact) => Record::NodeIdAllocated {
            dir_id: DirId(uuid_from_proto("dir_id", &fact.dir_id)?),
            node_id: NodeId(fact.node_id),
        },
        Fact::NodeRegistered(fact) => Record::NodeRegistered(registered(fact)?),
        Fact::NodeUnfenced(fact) => Record::NodeUnfenced { node_id: NodeId(fact.node_id) },
        Fact::NodeFenced(fact) => Record::NodeFenced { node_id: NodeId(fact.node_id) },
        Fact::NodeShuttingDown(fact) => Record::NodeShuttingDown { node_id: NodeId(fact.node_id) },
        Fact::NodeUnregistered(fact) => Record::NodeUnregistered { node_id: NodeId(fact.node_id) },
        Fact::TopicCreated(fact) => Record::TopicCreated {
            topic_id: topic_id(&fact.topic_id)?,
            name: TopicName::new(&fact.name).map_err(|_| invalid("name", &fact.name))?,
        },
        Fact::PartitionRegistered(fact) => Record::PartitionRegistered {
            topic_id: topic_id(&fact.topic_id)?,
            partition: partition_index(fact.partition)?,
            state: partition_state(fact.state)?,
        },
        Fact::PartitionChanged(fact) => Record::PartitionChanged {
            topic_id: topic_id(&fact.topic_id)?,
            partition: partition_index(fact.partition)?,
            state: partition_state(fact.state)?,
        },
        Fact::CoordinatorAssigned(fact) => Record::CoordinatorAssigned {
            topic_id: topic_id(&fact.topic_id)?,
            partition: partition_index(fact.partition)?,
            node: fact.node_id.map(NodeId),
            epoch: CoordinatorEpoch(fact.coordinator_epoch),
        },
        Fact::TopicDeleted(fact) => Record::TopicDeleted { topic_id: topic_id(&fact.topic_id)? },
        Fact::ConfigSet(fact) => Record::ConfigSet {
            resource: config_resource(fact.resource)?,
            name: fact.name,
            value: fact.value,
        },
        Fact::ConfigRemoved(fact) => {
            Record::ConfigRemoved { resource: config_resource(fact.resource)?, name: fact.name }
        }
        Fact::VoterRetired(fact) => Record::VoterRetired { voter_id: fact.voter_id },
        Fact::FeatureSet(fact) => {
            let level = i16::try_from(fact.level).ok().filter(|level| *level >= 0);
            let level = level.ok_or_else(|| invalid("level", fact.level))?;
            Record::FeatureSet { name: fact.name, level }
        }
        Fact::ProducerIdsAllocated(fact) => {
            Record::ProducerIdsAllocated { next_producer_id: ProducerId(fact.next_producer_id) }
        }
    })
}

fn registered(fact: proto::NodeRegistered) -> Result<Registration, DecodeError> {
    Ok(Registration {
        node_id: NodeId(fact.node_id),
        role: node_role_from_proto(fact.role)?,
        dir_id: DirId(uuid_from_proto("dir_id", &fact.dir_id)?),
        incarnation: IncarnationId(uuid_from_proto("incarnation", &fact.incarnation)?),
        broker_epoch: fact.broker_epoch.map(BrokerEpoch),
        endpoints: fact.endpoints.into_iter().map(endpoint_from_proto).collect::<Result<_, _>>()?,
        rack: fact.rack,
        fenced: fact.fenced,
        shutting_down_at: fact.shutting_down_at.map(LogIndex),
    })
}

pub fn node_role_from_proto(role: i32) -> Result<NodeRole, DecodeError> {
    match proto::NodeRole::try_from(role) {
        Ok(proto::NodeRole::Broker) => Ok(NodeRole::Broker),
        Ok(proto::NodeRole::Coordinator) => Ok(NodeRole::Coordinator),
        Ok(proto::NodeRole::Gateway) => Ok(NodeRole::Gateway),
        Ok(proto::NodeRole::Unspecified) | Err(_) => Err(invalid("role", role)),
    }
}

pub fn endpoint_from_proto(endpoint: proto::Endpoint) -> Result<Endpoint, DecodeError> {
    let port = u16::try_from(endpoint.port).map_err(|_| invalid("port", endpoint.port))?;
    Ok(Endpoint { listener: endpoint.listener, host: endpoint.host, port })
}

fn partition_state(state: Option<proto::Partition>) -> Result<Partition, DecodeError> {
    partition_from_proto(state.ok_or(DecodeError::Missing { field: "state" })?)
}

/// One partition's registration, whole.
pub fn partition_from_proto(state: proto::Partition) -> Result<Partition, DecodeError> {
    let ids = |ids: Vec<i32>| ids.into_iter().map(NodeId).collect();
    let durability = match state.durability() {
        proto::Durability::Fsync => Durability::Fsync,
        proto::Durability::Replicated => Durability::Replicated,
        proto::Durability::Unspecified => return Err(invalid("durability", state.durability)),
    };
    let recovery = match state.recovery() {
        proto::LeaderRecovery::Recovered => LeaderRecovery::Recovered,
        proto::LeaderRecovery::Recovering => LeaderRecovery::Recovering,
        proto::LeaderRecovery::Unspecified => return Err(invalid("recovery", state.recovery)),
    };
    Ok(Partition {
        replicas: ids(state.replicas),
        adding: ids(state.adding),
        removing: ids(state.removing),
        isr: ids(state.isr),
        elr: ids(state.elr),
        leader: state.leader.map(NodeId),
        leader_epoch: LeaderEpoch(state.leader_epoch),
        partition_epoch: PartitionEpoch(state.partition_epoch),
        min_isr: state.min_isr,
        durability,
        recovery,
        unclean_epoch: state.unclean_epoch.map(LeaderEpoch),
        unproven: ids(state.unproven),
    })
}

fn config_resource(resource: Option<proto::ConfigResource>) -> Result<ConfigResource, DecodeError> {
    use proto::config_resource::Resource;
    match resource.and_then(|resource| resource.resource) {
        Some(Resource::Cluster(_)) => Ok(ConfigResource::Cluster),
        Some(Resource::Broker(id)) => Ok(ConfigResource::Broker(NodeId(id))),
        Some(Resource::Topic(id)) => Ok(ConfigResource::Topic(topic_id(&id)?)),
        None => Err(DecodeError::Missing { field: "resource" }),
    }
}

fn topic_id(bytes: &[u8]) -> Result<TopicId, DecodeError> {
    uuid_from_proto("topic_id", bytes).map(TopicId)
}

fn partition_index(index: i32) -> Result<PartitionIndex, DecodeError> {
    if index < 0 { Err(invalid("partition", index)) } else { Ok(PartitionIndex(index)) }
}

fn invalid(field: &'static str, value: impl ToString) -> DecodeError {
    DecodeError::Invalid { field, value: value.to_string() }
}
