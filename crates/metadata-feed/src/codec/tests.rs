//! Every fact survives the way through bytes; bytes that are no fact are refused.

use thalweg_metadata_core::{
    ConfigResource, Endpoint, LeaderRecovery, NodeRole, Partition, Registration,
};
use thalweg_types::{
    BrokerEpoch, ClusterId, CoordinatorEpoch, DirId, Durability, IncarnationId, LeaderEpoch,
    LogIndex, NodeId, PartitionEpoch, PartitionIndex, ProducerId, TopicId, TopicName,
};

use super::*;

fn uuid(byte: u8) -> Uuid {
    Uuid::from_bytes([byte; 16])
}

fn partition() -> Partition {
    Partition {
        replicas: vec![NodeId(1), NodeId(2), NodeId(3)],
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
        unproven: vec![NodeId(1), NodeId(3)],
    }
}

fn registration() -> Registration {
    Registration {
        node_id: NodeId(7),
        role: NodeRole::Gateway,
        dir_id: DirId(uuid(1)),
        incarnation: IncarnationId(uuid(2)),
        broker_epoch: None,
        endpoints: vec![Endpoint {
            listener: Endpoint::KAFKA.to_owned(),
            host: "broker-7".to_owned(),
            port: 9092,
        }],
        rack: Some("r1".to_owned()),
        fenced: true,
        shutting_down_at: None,
    }
}

fn one_of_each() -> Vec<Record> {
    let topic_id = TopicId(uuid(3));
    let name = "retention.ms".to_owned();
    let registered_before = Registration {
        broker_epoch: Some(BrokerEpoch(0)),
        rack: None,
        shutting_down_at: Some(LogIndex(8)),
        ..registration()
    };
    let leaderless = Partition { leader: None, unclean_epoch: None, ..partition() };
    vec![
        Record::ClusterCreated { cluster_id: ClusterId(uuid(9)) },
        Record::NodeIdAllocated { dir_id: DirId(uuid(1)), node_id: NodeId(7) },
        Record::NodeRegistered(registration()),
        Record::NodeRegistered(registered_before),
        Record::NodeUnfenced { node_id: NodeId(7) },
        Record::NodeFenced { node_id: NodeId(7) },
        Record::NodeShuttingDown { node_id: NodeId(7) },
        Record::NodeUnregistered { node_id: NodeId(7) },
        Record::TopicCreated { topic_id, name: TopicName::new("orders").unwrap() },
        Record::PartitionRegistered { topic_id, partition: PartitionIndex(0), state: partition() },
        Record::PartitionChanged { topic_id, partition: PartitionIndex(5), state: leaderless },
        Record::CoordinatorAssigned {
            topic_id,
            partition: PartitionIndex(3),
            node: Some(NodeId(8)),
            epoch: CoordinatorEpoch(2),
        },
        Record::CoordinatorAssigned {
            topic_id,
            partition: PartitionIndex(3),
            node: None,
            epoch: CoordinatorEpoch(3),
        },
        Record::TopicDeleted { topic_id },
        Record::ConfigSet {
            resource: ConfigResource::Topic(topic_id),
            name: name.clone(),
            value: "5".to_owned(),
        },
        Record::ConfigSet {
            resource: ConfigResource::Cluster,
            name: name.clone(),
            value: String::new(),
        },
        Record::ConfigRemoved { resource: ConfigResource::Broker(NodeId(0)), name },
        Record::VoterRetired { voter_id: 3 },
        Record::FeatureSet { name: "group.version".to_owned(), level: 1 },
        Record::FeatureSet { name: "group.version".to_owned(), level: 0 },
        Record::ProducerIdsAllocated { next_producer_id: ProducerId(2000) },
    ]
}

#[test]
fn every_fact_survives_the_way_through_bytes() {
    for record in one_of_each() {
        assert_eq!(decode_record(encode_record(&record)), Ok(record));
    }
}

#[test]
fn a_fact_cut_short_or_unknown_is_refused() {
    assert_eq!(decode_record(Bytes::new()), Err(DecodeError::Missing { field: "fact" }));
    // Field 99, which no fact of this build has.
    let unknown = decode_record(Bytes::from_static(&[0x9a, 0x06, 0x00]));
    assert_eq!(unknown, Err(DecodeError::Missing { field: "fact" }));
    for record in one_of_each() {
        let whole = encode_record(&record);
        for length in 0..whole.len() {
            assert_ne!(decode_record(whole.slice(..length)), Ok(record.clone()), "{length}");
        }
    }
}

#[test]
fn an_identity_of_another_length_is_refused() {
    let message = proto::Record {
        fact: Some(proto::record::Fact::ClusterCreated(proto::ClusterCreated {
            cluster_id: Bytes::from_static(&[1; 15]),
        })),
    };
    let refused = DecodeError::Invalid { field: "cluster_id", value: "15 bytes".to_owned() };
    assert_eq!(record_from_proto(message), Err(refused));
}
