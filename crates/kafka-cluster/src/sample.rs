//! Images for tests.

use thalweg_metadata_core::{
    Endpoint, Image, LeaderRecovery, NodeRole, Partition as State, Position, Record,
    Registration as Node,
};
use thalweg_types::{
    BrokerEpoch, CoordinatorEpoch, DirId, Durability, IncarnationId, LeaderEpoch, NodeId,
    PartitionEpoch, PartitionIndex, TopicId, TopicName, Uuid,
};

/// Topics with so many partitions each, led by node 1, which lives; node 2 is another replica and does not.
pub(crate) fn image(topics: &[(&str, i32)]) -> Image {
    with_nodes(topics, &[])
}

/// The same with more nodes.
pub(crate) fn with_nodes(topics: &[(&str, i32)], nodes: &[Node]) -> Image {
    let mut records = vec![Record::NodeRegistered(node(1, NodeRole::Broker, false))];
    records.extend(nodes.iter().cloned().map(Record::NodeRegistered));
    for (number, (name, partition_count)) in (1..).zip(topics) {
        let topic_id = TopicId(Uuid::from_bytes([number; 16]));
        let name = TopicName::new(name).unwrap();
        records.push(Record::TopicCreated { topic_id, name });
        let register = |index| Record::PartitionRegistered {
            topic_id,
            partition: PartitionIndex(index),
            state: partition_state(),
        };
        records.extend((0..*partition_count).map(register));
    }
    let mut image = Image::default();
    records.iter().for_each(|record| image.apply(Position::START, record));
    image
}

pub(crate) fn gateway(id: i32, fenced: bool) -> Node {
    node(id, NodeRole::Gateway, fenced)
}

pub(crate) fn coordinator(id: i32, fenced: bool) -> Node {
    node(id, NodeRole::Coordinator, fenced)
}

/// The offsets' topic with so many partitions, which the given coordinators have in turn.
pub(crate) fn coordinated(partition_count: i32, nodes: &[Node]) -> Image {
    let mut image = with_nodes(&[("__consumer_offsets", partition_count)], nodes);
    let coordinators = nodes.iter().filter(|node| node.role == NodeRole::Coordinator);
    let topic_id = image.topic("__consumer_offsets").unwrap().id;
    for (index, node) in (0..partition_count).zip(coordinators.cycle()) {
        let assigned = Record::CoordinatorAssigned {
            topic_id,
            partition: PartitionIndex(index),
            node: Some(node.node_id),
            epoch: CoordinatorEpoch(1),
        };
        image.apply(Position::START, &assigned);
    }
    image
}

fn node(id: i32, role: NodeRole, fenced: bool) -> Node {
    let number = u8::try_from(id).unwrap();
    let endpoint =
        Endpoint { listener: Endpoint::KAFKA.to_owned(), host: format!("host-{id}"), port: 9092 };
    Node {
        node_id: NodeId(id),
        role,
        dir_id: DirId(Uuid::from_bytes([number; 16])),
        incarnation: IncarnationId(Uuid::from_bytes([number; 16])),
        broker_epoch: Some(BrokerEpoch(1)),
        endpoints: vec![endpoint],
        rack: None,
        fenced,
        shutting_down_at: None,
    }
}

fn partition_state() -> State {
    State {
        replicas: vec![NodeId(1), NodeId(2)],
        adding: Vec::new(),
        removing: Vec::new(),
        isr: vec![NodeId(1)],
        elr: vec![NodeId(2)],
        leader: Some(NodeId(1)),
        leader_epoch: LeaderEpoch(4),
        partition_epoch: PartitionEpoch(5),
        min_isr: 2,
        durability: Durability::Fsync,
        recovery: LeaderRecovery::Recovered,
        unclean_epoch: None,
        unproven: Vec::new(),
    }
}
