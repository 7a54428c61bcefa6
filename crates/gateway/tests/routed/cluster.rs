//! Scripted brokers on loopback, the metadata that names them, and the gateway's way to them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use thalweg_gateway::port::{BrokerPort as _, ProduceCall, Produced};
use thalweg_gateway::{RoutedBrokers, RoutedOptions};
use thalweg_metadata_core::{
    Endpoint, Image, LeaderRecovery, NodeRole, Partition, Position, Record, Registration,
};
use thalweg_metadata_feed::{Feed, Publisher};
use thalweg_proto::internal::broker::v1::broker_server::BrokerServer;
use thalweg_record::{BatchBuilder, BatchHeader, DecompressLimits, records};
use thalweg_rpc::{Error, Routes, Server, ServerHandle, ServerOptions};
use thalweg_types::{
    Acks, BrokerEpoch, CompressionType, ControllerEpoch, DirId, Durability, IncarnationId,
    LeaderEpoch, LogIndex, NodeId, PartitionEpoch, PartitionIndex, ProducerEpoch, ProducerId,
    Sequence, Timestamp, TopicId, TopicName, Uuid,
};

use crate::brokers::{Logs, Script, ScriptedBroker};

/// Far more than anything takes on a machine that does much else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Cluster {
    pub(crate) logs: Arc<Logs>,
    pub(crate) routed: Arc<RoutedBrokers>,
    brokers: BTreeMap<i32, Running>,
    feed: Feed,
    publisher: Publisher,
    epoch: i32,
}

struct Running {
    broker: ScriptedBroker,
    server: ServerHandle,
}

impl Cluster {
    /// Brokers 1, 2, ... and a topic whose partition 0 is led by broker 1, partition 1 by broker 2, and so on.
    pub(crate) async fn start(brokers: i32, topic: &str) -> Self {
        Self::with_options(brokers, topic, RoutedOptions::default()).await
    }

    pub(crate) async fn with_options(brokers: i32, topic: &str, options: RoutedOptions) -> Self {
        let (feed, publisher) = Feed::manual(Image::default());
        let logs = Arc::new(Logs::default());
        let routed = Arc::new(RoutedBrokers::new(feed.clone(), options));
        let mut cluster =
            Self { logs, routed, brokers: BTreeMap::new(), feed, publisher, epoch: 1 };
        for id in 1..=brokers {
            let broker = ScriptedBroker::new(NodeId(id), Arc::clone(&cluster.logs));
            cluster.serve(id, broker);
        }
        let topic_id = id_of(topic);
        let name = TopicName::new(topic).unwrap();
        let mut facts = vec![Record::TopicCreated { topic_id, name }];
        for id in 1..=brokers {
            cluster.script(id).lead(topic, id - 1, 1);
            facts.push(Record::PartitionRegistered {
                topic_id,
                partition: PartitionIndex(id - 1),
                state: led_by(Some(id), 1, brokers),
            });
        }
        cluster.publish(facts);
        cluster
    }

    /// The metadata, as a gateway follows it.
    pub(crate) fn feed(&self) -> Feed {
        self.feed.clone()
    }

    pub(crate) fn script(&self, id: i32) -> Arc<Script> {
        Arc::clone(&self.brokers[&id].broker.script)
    }

    pub(crate) fn script_of(&self, dead: &Dead) -> Arc<Script> {
        Arc::clone(&dead.broker.script)
    }

    /// Lets the metadata say who leads; the brokers are not told.
    pub(crate) fn announce(&mut self, topic: &str, partition: i32, leader: Option<i32>) -> i32 {
        self.epoch += 1;
        let state = led_by(leader, self.epoch, i32::try_from(self.brokers.len()).unwrap());
        let topic_id = id_of(topic);
        let partition = PartitionIndex(partition);
        self.publish(vec![Record::PartitionChanged { topic_id, partition, state }]);
        self.epoch
    }

    pub(crate) fn delete(&self, topic: &str) {
        self.publish(vec![Record::TopicDeleted { topic_id: id_of(topic) }]);
    }

    /// Cuts every connection of a broker and takes its port away.
    pub(crate) fn kill(&mut self, id: i32) -> Dead {
        let Running { broker, server } = self.brokers.remove(&id).unwrap();
        drop(server);
        Dead { id, broker }
    }

    /// The broker is back at another port, and the metadata says so.
    pub(crate) fn revive(&mut self, dead: Dead) {
        self.serve(dead.id, dead.broker);
    }

    fn serve(&mut self, id: i32, broker: ScriptedBroker) {
        let routes = Routes::new().with(BrokerServer::new(broker.clone()));
        let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let server = Server::new(ServerOptions::default()).serve(address, routes).unwrap();
        let port = server.local_addr().unwrap().port();
        self.publish(vec![registered(id, port), Record::NodeUnfenced { node_id: NodeId(id) }]);
        self.brokers.insert(id, Running { broker, server });
    }

    fn publish(&self, facts: Vec<Record>) {
        let index = LogIndex(self.publisher.image().position().index.0 + 1);
        let position = Position { index, controller_epoch: ControllerEpoch(1) };
        self.publisher.apply(position, facts);
    }

    pub(crate) async fn produce(&self, call: ProduceCall) -> Result<Produced, Error> {
        tokio::time::timeout(PATIENCE, self.routed.produce(call)).await.expect("it takes less")
    }

    /// The numbers in a partition's log, in order.
    pub(crate) fn numbers(&self, topic: &str, partition: i32) -> Vec<i32> {
        let number = |batch: &bytes::Bytes| {
            let records = records(batch, &DecompressLimits::default()).unwrap();
            let record = records.iter().next().unwrap().unwrap();
            String::from_utf8(record.value.unwrap().to_vec()).unwrap().parse().unwrap()
        };
        self.logs.of(topic, partition).iter().map(number).collect()
    }
}

/// A broker that was killed, to be revived.
pub(crate) struct Dead {
    id: i32,
    broker: ScriptedBroker,
}

/// To partition 0, with a number as its only record.
pub(crate) fn numbered(topic: &str, number: i32) -> ProduceCall {
    call(topic, BatchBuilder::new(CompressionType::None), number)
}

/// The same from an idempotent producer.
pub(crate) fn idempotent(topic: &str, number: i32) -> ProduceCall {
    let builder = BatchBuilder::new(CompressionType::None).producer(
        ProducerId(7),
        ProducerEpoch(0),
        Sequence(number),
    );
    call(topic, builder, number)
}

fn call(topic: &str, mut builder: BatchBuilder, number: i32) -> ProduceCall {
    builder.push(Timestamp(1), None, Some(number.to_string().as_bytes()), &[]).unwrap();
    let batch: BytesMut = builder.finish().unwrap();
    assert_eq!(BatchHeader::parse(&batch).unwrap().record_count, 1);
    ProduceCall {
        topic: TopicName::new(topic).unwrap(),
        partition: PartitionIndex(0),
        batch,
        acks: Acks::All,
        timeout: PATIENCE,
        expected_offset: None,
    }
}

fn registered(id: i32, port: u16) -> Record {
    let byte = u8::try_from(id).unwrap();
    Record::NodeRegistered(Registration {
        node_id: NodeId(id),
        role: NodeRole::Broker,
        dir_id: DirId(Uuid::from_bytes([byte; 16])),
        incarnation: IncarnationId(Uuid::from_bytes([byte + 100; 16])),
        broker_epoch: Some(BrokerEpoch(1)),
        endpoints: vec![Endpoint {
            listener: Endpoint::INTERNAL.to_owned(),
            host: "127.0.0.1".to_owned(),
            port,
        }],
        rack: None,
        fenced: true,
        shutting_down_at: None,
    })
}

fn led_by(leader: Option<i32>, epoch: i32, brokers: i32) -> Partition {
    let replicas: Vec<NodeId> = (1..=brokers).map(NodeId).collect();
    Partition {
        isr: replicas.clone(),
        replicas,
        adding: Vec::new(),
        removing: Vec::new(),
        elr: Vec::new(),
        leader: leader.map(NodeId),
        leader_epoch: LeaderEpoch(epoch),
        partition_epoch: PartitionEpoch(epoch),
        min_isr: 1,
        durability: Durability::Fsync,
        recovery: LeaderRecovery::Recovered,
        unclean_epoch: None,
        unproven: Vec::new(),
    }
}

/// One topic has one id.
fn id_of(topic: &str) -> TopicId {
    TopicId(Uuid::from_bytes([topic.len().try_into().unwrap(); 16]))
}
