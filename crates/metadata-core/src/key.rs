//! Names of the entities that facts are about, as keys of the quorum's key-value store.
//!
//! Byte order of keys is an order in which their facts can be applied: an entity sorts behind everything it refers to.
//!
//! ```text
//!  1                              the cluster
//!  2 dir_id[16]                   a disk's node id
//!  3 node_id[4]                   a node's registration
//!  4 topic_id[16]                 a topic
//!  5 topic_id[16] partition[4]    a partition
//!  6 kind[1] id[0|4|16] name      a config entry: kind 0 cluster, 1 broker, 2 topic
//!  7                              the next producer id
//!  8 topic_id[16] partition[4]    the coordinator of a partition of an internal topic
//!  9 name                         the level of a feature
//! 10 voter_id[8]                  a controller's id that is not used again
//! ```

use thalweg_types::{DirId, NodeId, TopicId, TopicIdPartition};

use crate::record::ConfigResource;

/// One entity of the metadata.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Cluster,
    NodeId(DirId),
    Node(NodeId),
    Topic(TopicId),
    Partition(TopicIdPartition),
    Config(ConfigResource, String),
    ProducerIds,
    Coordinator(TopicIdPartition),
    Feature(String),
    RetiredVoter(u64),
}

impl Key {
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(24);
        match self {
            Self::Cluster => bytes.push(1),
            Self::NodeId(dir_id) => {
                bytes.push(2);
                bytes.extend(dir_id.0.as_bytes());
            }
            Self::Node(node_id) => {
                bytes.push(3);
                bytes.extend(node_id.0.to_be_bytes());
            }
            Self::Topic(topic_id) => {
                bytes.push(4);
                bytes.extend(topic_id.0.as_bytes());
            }
            Self::Partition(id) => {
                bytes.push(5);
                push_partition(&mut bytes, id);
            }
            Self::Config(resource, name) => {
                bytes.push(6);
                push_resource(&mut bytes, resource);
                bytes.extend(name.as_bytes());
            }
            Self::ProducerIds => bytes.push(7),
            Self::Coordinator(id) => {
                bytes.push(8);
                push_partition(&mut bytes, id);
            }
            Self::RetiredVoter(voter_id) => {
                bytes.push(10);
                bytes.extend(voter_id.to_be_bytes());
            }
            Self::Feature(name) => {
                bytes.push(9);
                bytes.extend(name.as_bytes());
            }
        }
        bytes
    }
}

fn push_partition(bytes: &mut Vec<u8>, id: &TopicIdPartition) {
    bytes.extend(id.topic_id.0.as_bytes());
    bytes.extend(id.partition.0.to_be_bytes());
}

fn push_resource(bytes: &mut Vec<u8>, resource: &ConfigResource) {
    match resource {
        ConfigResource::Cluster => bytes.push(0),
        ConfigResource::Broker(node_id) => {
            bytes.push(1);
            bytes.extend(node_id.0.to_be_bytes());
        }
        ConfigResource::Topic(topic_id) => {
            bytes.push(2);
            bytes.extend(topic_id.0.as_bytes());
        }
    }
}
