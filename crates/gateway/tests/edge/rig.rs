//! A gateway on loopback, with everything it needs behind it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thalweg_env::SimClock;
use thalweg_gateway::port::CoordinatorPort;
use thalweg_gateway::{Gateway, GatewayHandle, GatewayOptions, Metrics, Parts};
use thalweg_metadata_core::{Image, NodeRole, Record, Registration};
use thalweg_metadata_feed::Feed;
use thalweg_proto::admin::v1 as admin;
use thalweg_proto::consumer::v1 as consumer;
use thalweg_proto::internal::controller::v1::controller_server::ControllerServer;
use thalweg_proto::producer::v1 as producer;
use thalweg_rpc::{
    Error, MESSAGE_BYTES_MAX, Routes, Server, ServerHandle, ServerOptions, channel,
    channel_in_memory,
};
use thalweg_telemetry::Registry;
use thalweg_types::{
    BrokerEpoch, ClusterId, CompressionType, DirId, ErrorCode, IncarnationId, NodeId, Outcome,
    Timestamp, Uuid,
};
use tonic::transport::Channel;

use crate::broker::MemoryBroker;
use crate::controller::{BROKER, MemoryController};
use crate::coordinator::MemoryCoordinator;
use crate::core::CoreCoordinator;
use admin::admin_client::AdminClient;
use consumer::consumer_client::ConsumerClient;
use producer::producer_client::ProducerClient;

pub(crate) const NOW_MS: i64 = 1_700_000_000_000;

pub(crate) struct Rig {
    pub(crate) broker: Arc<MemoryBroker>,
    pub(crate) coordinator: Arc<MemoryCoordinator>,
    pub(crate) registry: Registry,
    pub(crate) gateway: GatewayHandle,
    pub(crate) channel: Channel,
    pub(crate) controller: MemoryController,
    pub(crate) feed: Feed,
    _controller: ServerHandle,
}

impl Rig {
    /// With the topics given, of so many partitions each.
    pub(crate) async fn start(topics: &[(&str, u32)]) -> Self {
        Self::start_with(topics, |_| {}).await
    }

    pub(crate) async fn start_with(
        topics: &[(&str, u32)],
        adjust: impl FnOnce(&mut MemoryBroker),
    ) -> Self {
        Self::build(topics, adjust, |_, coordinator| Arc::clone(coordinator) as _).await
    }

    /// With a coordinator that decides by the real rules.
    pub(crate) async fn start_with_core(topics: &[(&str, u32)]) -> (Self, Arc<CoreCoordinator>) {
        let mut core = None;
        let rig = Self::build(
            topics,
            |_| {},
            |feed, _| {
                let coordinator = Arc::new(CoreCoordinator::new(feed.clone()));
                core = Some(Arc::clone(&coordinator));
                coordinator
            },
        )
        .await;
        (rig, core.unwrap())
    }

    async fn build(
        topics: &[(&str, u32)],
        adjust: impl FnOnce(&mut MemoryBroker),
        coordinators: impl FnOnce(&Feed, &Arc<MemoryCoordinator>) -> Arc<dyn CoordinatorPort>,
    ) -> Self {
        let (feed, publisher) = Feed::manual(Image::default());
        let controller = MemoryController::new(publisher);
        controller.publish(cluster());
        let mut broker = MemoryBroker::new(feed.clone());
        adjust(&mut broker);
        let broker = Arc::new(broker);
        let (served, connector) = Server::new(ServerOptions::default())
            .serve_in_memory(Routes::new().with(ControllerServer::new(controller.clone())));
        let registry = Registry::new();
        let coordinator = Arc::new(MemoryCoordinator::default());
        let parts = Parts {
            broker: Arc::clone(&broker),
            coordinators: coordinators(&feed, &coordinator),
            feed: feed.clone(),
            controller: channel_in_memory(connector).into(),
            clock: Arc::new(SimClock::new(Timestamp(NOW_MS))),
            metrics: Arc::new(Metrics::register(&registry)),
        };
        let address = "127.0.0.1:0".parse().unwrap();
        // Nobody will ever lead what the broker here does not.
        let options = GatewayOptions { leader_wait_max: Duration::ZERO, ..Default::default() };
        let gateway = Gateway::serve(address, options, parts).await.unwrap();
        let channel = channel(&gateway.local_addr().to_string()).unwrap();
        let rig = Self {
            broker,
            coordinator,
            registry,
            gateway,
            channel,
            controller,
            feed,
            _controller: served,
        };
        rig.create(topics).await;
        rig
    }

    async fn create(&self, topics: &[(&str, u32)]) {
        if topics.is_empty() {
            return;
        }
        let topics = topics.iter().map(|(name, partition_count)| admin::NewTopic {
            name: (*name).to_owned(),
            partition_count: *partition_count,
            ..Default::default()
        });
        let request = admin::CreateTopicsRequest { topics: topics.collect(), validate_only: false };
        let answer = self.admin().create_topics(request).await.unwrap().into_inner();
        assert!(answer.topics.iter().all(|topic| topic.error.is_none()), "{answer:?}");
    }

    pub(crate) fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel.clone())
    }

    pub(crate) fn producer(&self) -> ProducerClient<Channel> {
        ProducerClient::new(self.channel.clone()).max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn consumer(&self) -> ConsumerClient<Channel> {
        ConsumerClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Produces and expects success.
    pub(crate) async fn produce(
        &self,
        request: producer::ProduceRequest,
    ) -> producer::ProduceResponse {
        self.producer().produce(request).await.unwrap().into_inner()
    }

    /// Produces and expects a refusal.
    pub(crate) async fn refused(&self, request: producer::ProduceRequest) -> Error {
        Error::from(self.producer().produce(request).await.unwrap_err())
    }
}

/// A cluster of one broker.
fn cluster() -> Vec<Record> {
    let id = |byte| Uuid::from_bytes([byte; 16]);
    vec![
        Record::ClusterCreated { cluster_id: ClusterId(id(200)) },
        Record::NodeRegistered(Registration {
            node_id: BROKER,
            role: NodeRole::Broker,
            dir_id: DirId(id(201)),
            incarnation: IncarnationId(id(202)),
            broker_epoch: Some(BrokerEpoch(1)),
            endpoints: vec![thalweg_metadata_core::Endpoint {
                listener: "kafka".to_owned(),
                host: "127.0.0.1".to_owned(),
                port: 9092,
            }],
            rack: None,
            fenced: false,
            shutting_down_at: None,
        }),
        Record::NodeUnfenced { node_id: NodeId(BROKER.0) },
    ]
}

// ------------------------------------------------------------------- Builders

pub(crate) fn record(key: Option<&str>, value: &str) -> producer::Record {
    producer::Record {
        key: key.map(|key| Bytes::copy_from_slice(key.as_bytes())),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        ..Default::default()
    }
}

/// To partition 0.
pub(crate) fn values(topic: &str, values: &[&str]) -> producer::ProduceRequest {
    let records = values.iter().map(|value| record(None, value)).collect();
    producer::ProduceRequest { partition: Some(0), ..records_to(topic, records) }
}

pub(crate) fn records_to(topic: &str, records: Vec<producer::Record>) -> producer::ProduceRequest {
    producer::ProduceRequest {
        topic: topic.to_owned(),
        payload: Some(producer::produce_request::Payload::Records(producer::Records { records })),
        ..Default::default()
    }
}

pub(crate) fn batch_to(topic: &str, batch: Bytes) -> producer::ProduceRequest {
    producer::ProduceRequest {
        topic: topic.to_owned(),
        partition: Some(0),
        payload: Some(producer::produce_request::Payload::Batch(batch)),
        ..Default::default()
    }
}

pub(crate) fn batch(compression: CompressionType, values: &[&str]) -> Bytes {
    let mut builder = thalweg_record::BatchBuilder::new(compression);
    for value in values {
        builder.push(Timestamp(NOW_MS), None, Some(value.as_bytes()), &[]).unwrap();
    }
    builder.finish().unwrap().freeze()
}

pub(crate) fn from(topic: &str, partition: i32, offset: i64) -> consumer::FetchPartition {
    consumer::FetchPartition { topic: topic.to_owned(), partition, offset, ..Default::default() }
}

pub(crate) fn texts(partition: &consumer::FetchedPartition) -> Vec<String> {
    let text = |record: &consumer::Record| {
        String::from_utf8(record.value.as_ref().unwrap().to_vec()).unwrap()
    };
    partition.records.iter().map(text).collect()
}

pub(crate) fn assert_refused(error: &Error, code: ErrorCode) {
    assert_eq!((error.code, error.outcome), (code, Outcome::NotApplied), "{error}");
}
