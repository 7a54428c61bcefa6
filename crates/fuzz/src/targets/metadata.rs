//! The facts of the controller's log.

use bytes::Bytes;
use thalweg_metadata_core::{
    ConfigResource, Endpoint, LeaderRecovery, NodeRole, Partition, Record, Registration,
};
use thalweg_metadata_feed::codec::{decode_record, encode_record};
use thalweg_types::{
    BrokerEpoch, ClusterId, CoordinatorEpoch, DirId, Durability, IncarnationId, LeaderEpoch,
    LogIndex, NodeId, PartitionEpoch, PartitionIndex, ProducerId, TopicId, TopicName, Uuid,
};

use super::numbered;
use crate::{Seeds, peak};

/// An empty endpoint is two bytes on the wire and two strings here.
const FACTOR: usize = 128;

pub(super) fn fact(input: &[u8]) {
    let decode = |bytes: Bytes| peak::times(FACTOR, input, || decode_record(bytes));
    let Ok(record) = decode(Bytes::copy_from_slice(input)) else { return };
    assert_eq!(decode_record(encode_record(&record)), Ok(record));
}

pub(super) fn fact_seeds() -> Seeds {
    let uuid = |byte| Uuid::from_bytes([byte; 16]);
    let topic_id = TopicId(uuid(3));
    let partition = Partition {
        replicas: vec![NodeId(1), NodeId(2)],
        adding: vec![NodeId(3)],
        removing: vec![NodeId(2)],
        isr: vec![NodeId(1)],
        elr: vec![NodeId(2)],
        leader: Some(NodeId(1)),
        leader_epoch: LeaderEpoch(4),
        partition_epoch: PartitionEpoch(9),
        min_isr: 2,
        durability: Durability::Replicated,
        recovery: LeaderRecovery::Recovering,
        unclean_epoch: Some(LeaderEpoch(3)),
        unproven: vec![NodeId(1)],
    };
    let endpoint =
        Endpoint { listener: Endpoint::KAFKA.to_owned(), host: "broker-7".to_owned(), port: 9092 };
    let registration = Registration {
        node_id: NodeId(7),
        role: NodeRole::Broker,
        dir_id: DirId(uuid(1)),
        incarnation: IncarnationId(uuid(2)),
        broker_epoch: Some(BrokerEpoch(5)),
        endpoints: vec![endpoint],
        rack: Some("r1".to_owned()),
        fenced: true,
        shutting_down_at: Some(LogIndex(12)),
    };
    let name = "retention.ms".to_owned();
    let topic = ConfigResource::Topic(topic_id);
    let facts = [
        Record::ClusterCreated { cluster_id: ClusterId(uuid(9)) },
        Record::NodeIdAllocated { dir_id: DirId(uuid(1)), node_id: NodeId(7) },
        Record::NodeRegistered(registration),
        Record::NodeUnfenced { node_id: NodeId(7) },
        Record::NodeFenced { node_id: NodeId(7) },
        Record::TopicCreated { topic_id, name: TopicName::new("orders").expect("a good name") },
        Record::PartitionRegistered {
            topic_id,
            partition: PartitionIndex(0),
            state: partition.clone(),
        },
        Record::PartitionChanged { topic_id, partition: PartitionIndex(5), state: partition },
        Record::VoterRetired { voter_id: 3 },
        Record::FeatureSet { name: "group.version".to_owned(), level: 1 },
        Record::CoordinatorAssigned {
            topic_id,
            partition: PartitionIndex(5),
            node: Some(NodeId(8)),
            epoch: CoordinatorEpoch(2),
        },
        Record::TopicDeleted { topic_id },
        Record::ConfigSet { resource: topic, name: name.clone(), value: "5".to_owned() },
        Record::ConfigRemoved { resource: ConfigResource::Broker(NodeId(0)), name },
        Record::ProducerIdsAllocated { next_producer_id: ProducerId(2000) },
    ];
    numbered(facts.map(|fact| encode_record(&fact).to_vec()))
}
