//! From facts to messages.

use thalweg_metadata_core::{
    ConfigResource, Endpoint, LeaderRecovery, NodeRole, Partition, Record, Registration,
};
use thalweg_proto::internal::metadata::v1::{self as proto, record::Fact};
use thalweg_types::{Durability, NodeId};

use super::uuid_to_proto;

pub fn record_to_proto(record: &Record) -> proto::Record {
    let fact = match record {
        Record::ClusterCreated { cluster_id } => {
            Fact::ClusterCreated(proto::ClusterCreated { cluster_id: uuid_to_proto(cluster_id.0) })
        }
        Record::NodeIdAllocated { dir_id, node_id } => {
            let dir_id = uuid_to_proto(dir_id.0);
            Fact::NodeIdAllocated(proto::NodeIdAllocated { dir_id, node_id: node_id.0 })
        }
        Record::NodeRegistered(registration) => Fact::NodeRegistered(registered(registration)),
        Record::NodeUnfenced { node_id } => {
            Fact::NodeUnfenced(proto::NodeUnfenced { node_id: node_id.0 })
        }
        Record::NodeFenced { node_id } => {
            Fact::NodeFenced(proto::NodeFenced { node_id: node_id.0 })
        }
        Record::NodeShuttingDown { node_id } => {
            Fact::NodeShuttingDown(proto::NodeShuttingDown { node_id: node_id.0 })
        }
        Record::NodeUnregistered { node_id } => {
            Fact::NodeUnregistered(proto::NodeUnregistered { node_id: node_id.0 })
        }
        Record::TopicCreated { topic_id, name } => Fact::TopicCreated(proto::TopicCreated {
            topic_id: uuid_to_proto(topic_id.0),
            name: name.as_str().to_owned(),
        }),
        Record::PartitionRegistered { topic_id, partition, state } => {
            Fact::PartitionRegistered(proto::PartitionRegistered {
                topic_id: uuid_to_proto(topic_id.0),
                partition: partition.0,
                state: Some(partition_to_proto(state)),
            })
        }
        Record::PartitionChanged { topic_id, partition, state } => {
            Fact::PartitionChanged(proto::PartitionChanged {
                topic_id: uuid_to_proto(topic_id.0),
                partition: partition.0,
                state: Some(partition_to_proto(state)),
            })
        }
        Record::CoordinatorAssigned { topic_id, partition, node, epoch } => {
            Fact::CoordinatorAssigned(proto::CoordinatorAssigned {
                topic_id: uuid_to_proto(topic_id.0),
                partition: partition.0,
                node_id: node.map(|node| node.0),
                coordinator_epoch: epoch.0,
            })
        }
        Record::TopicDeleted { topic_id } => {
            Fact::TopicDeleted(proto::TopicDeleted { topic_id: uuid_to_proto(topic_id.0) })
        }
        Record::ConfigSet { resource, name, value } => Fact::ConfigSet(proto::ConfigSet {
            resource: Some(config_resource(resource)),
            name: name.clone(),
            value: value.clone(),
        }),
        Record::ConfigRemoved { resource, name } => Fact::ConfigRemoved(proto::ConfigRemoved {
            resource: Some(config_resource(resource)),
            name: name.clone(),
        }),
        Record::VoterRetired { voter_id } => {
            Fact::VoterRetired(proto::VoterRetired { voter_id: *voter_id })
        }
        Record::FeatureSet { name, level } => {
            Fact::FeatureSet(proto::FeatureSet { name: name.clone(), level: i32::from(*level) })
        }
        Record::ProducerIdsAllocated { next_producer_id } => {
            Fact::ProducerIdsAllocated(proto::ProducerIdsAllocated {
                next_producer_id: next_producer_id.0,
            })
        }
    };
    proto::Record { fact: Some(fact) }
}

fn registered(registration: &Registration) -> proto::NodeRegistered {
    proto::NodeRegistered {
        node_id: registration.node_id.0,
        role: node_role_to_proto(registration.role).into(),
        dir_id: uuid_to_proto(registration.dir_id.0),
        incarnation: uuid_to_proto(registration.incarnation.0),
        broker_epoch: registration.broker_epoch.map(|epoch| epoch.0),
        endpoints: registration.endpoints.iter().map(endpoint_to_proto).collect(),
        rack: registration.rack.clone(),
        fenced: registration.fenced,
        shutting_down_at: registration.shutting_down_at.map(|index| index.0),
    }
}

pub fn node_role_to_proto(role: NodeRole) -> proto::NodeRole {
    match role {
        NodeRole::Broker => proto::NodeRole::Broker,
        NodeRole::Coordinator => proto::NodeRole::Coordinator,
        NodeRole::Gateway => proto::NodeRole::Gateway,
    }
}

pub fn endpoint_to_proto(endpoint: &Endpoint) -> proto::Endpoint {
    proto::Endpoint {
        listener: endpoint.listener.clone(),
        host: endpoint.host.clone(),
        port: u32::from(endpoint.port),
    }
}

/// One partition's registration, whole.
pub fn partition_to_proto(state: &Partition) -> proto::Partition {
    let ids = |nodes: &[NodeId]| nodes.iter().map(|id| id.0).collect();
    let durability = match state.durability {
        Durability::Fsync => proto::Durability::Fsync,
        Durability::Replicated => proto::Durability::Replicated,
    };
    let recovery = match state.recovery {
        LeaderRecovery::Recovered => proto::LeaderRecovery::Recovered,
        LeaderRecovery::Recovering => proto::LeaderRecovery::Recovering,
    };
    proto::Partition {
        replicas: ids(&state.replicas),
        adding: ids(&state.adding),
        removing: ids(&state.removing),
        isr: ids(&state.isr),
        elr: ids(&state.elr),
        leader: state.leader.map(|id| id.0),
        leader_epoch: state.leader_epoch.0,
        partition_epoch: state.partition_epoch.0,
        min_isr: state.min_isr,
        durability: durability.into(),
        recovery: recovery.into(),
        unclean_epoch: state.unclean_epoch.map(|epoch| epoch.0),
        unproven: ids(&state.unproven),
    }
}

fn config_resource(resource: &ConfigResource) -> proto::ConfigResource {
    use proto::config_resource::{Cluster, Resource};
    let resource = match resource {
        ConfigResource::Cluster => Resource::Cluster(Cluster {}),
        ConfigResource::Broker(id) => Resource::Broker(id.0),
        ConfigResource::Topic(id) => Resource::Topic(uuid_to_proto(id.0)),
    };
    proto::ConfigResource { resource: Some(resource) }
}
