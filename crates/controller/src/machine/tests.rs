//! The state machine under the quorum: facts in, stored keys out, and back again.

use thalweg_metadata_core::{ConfigResource, Endpoint, NodeRole, Registration};
use thalweg_types::{
    BrokerEpoch, ClusterId, DirId, IncarnationId, NodeId, TopicId, TopicName, Uuid,
};

use super::*;

fn uuid(byte: u8) -> Uuid {
    Uuid::from_bytes([byte; 16])
}

fn registered() -> Record {
    Record::NodeRegistered(Registration {
        node_id: NodeId(1),
        role: NodeRole::Broker,
        dir_id: DirId(uuid(2)),
        incarnation: IncarnationId(uuid(3)),
        broker_epoch: None,
        endpoints: vec![Endpoint {
            listener: Endpoint::KAFKA.to_owned(),
            host: "h".to_owned(),
            port: 1,
        }],
        rack: None,
        fenced: true,
        shutting_down_at: None,
    })
}

/// A machine, its state, and what a store made of its changes holds.
struct Stored {
    machine: Machine,
    state: State,
    entries: std::collections::BTreeMap<Bytes, Bytes>,
}

impl Stored {
    fn new() -> Self {
        let (machine, state) = Machine::new();
        Self { machine, state, entries: Default::default() }
    }

    fn apply(&mut self, index: u64, records: &[Record]) {
        let facts: Vec<_> = records.iter().map(encode_record).collect();
        let at = thalweg_raft::Position { index: LogIndex(index), epoch: LogIndex(3) };
        for change in self.machine.apply(at, &facts) {
            match change {
                KvChange::Put { key, value } => self.entries.insert(key, value),
                KvChange::Delete { key } => self.entries.remove(&key),
            };
        }
    }

    fn image(&self) -> Arc<Image> {
        self.state.feed.image()
    }
}

#[test]
fn what_is_stored_rebuilds_the_image_position_and_broker_epochs_included() {
    let mut first = Stored::new();
    let topic_id = TopicId(uuid(5));
    let name = TopicName::new("t").unwrap();
    let config = Record::ConfigSet {
        resource: ConfigResource::Topic(topic_id),
        name: "retention.ms".to_owned(),
        value: "1".to_owned(),
    };
    first.apply(2, &[Record::ClusterCreated { cluster_id: ClusterId(uuid(1)) }]);
    first.apply(7, &[registered()]);
    first.apply(8, &[Record::NodeUnfenced { node_id: NodeId(1) }]);
    first.apply(9, &[Record::TopicCreated { topic_id, name }, config]);
    assert_eq!(first.entries.len(), 5);

    let mut second = Stored::new();
    second.machine.load(first.entries.clone().into_iter().collect()).unwrap();
    assert_eq!(second.image(), first.image());
    assert_eq!(second.image().position().index, LogIndex(9));
    let node = second.image().node(NodeId(1)).cloned().unwrap();
    assert_eq!((node.broker_epoch, node.fenced), (BrokerEpoch(7), false));

    // A deleted topic leaves nothing behind, and a topic that came and went in one entry neither.
    let other = TopicId(uuid(6));
    let name = TopicName::new("u").unwrap();
    let gone = [
        Record::TopicDeleted { topic_id },
        Record::TopicCreated { topic_id: other, name },
        Record::TopicDeleted { topic_id: other },
    ];
    first.apply(10, &gone);
    assert_eq!(first.entries.len(), 3);
}

#[test]
fn stored_values_that_nobody_wrote_are_refused() {
    let (mut machine, _state) = Machine::new();
    let value = encode_record(&registered());
    let key = |key: Key| Bytes::from(key.to_bytes());
    let position = Bytes::from_static(POSITION_KEY);
    for entry in [
        (key(Key::Node(NodeId(1))), Bytes::from_static(b"\xff\xff")),
        (key(Key::Node(NodeId(2))), value),
        (position, Bytes::from_static(b"short")),
    ] {
        assert!(machine.load(vec![entry]).is_err());
    }
}
