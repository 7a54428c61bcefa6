//! A small cluster in one process: a controller, and brokers that replicate over real sockets.
//!
//! Every broker calls the controller through a pipe of its own, which a test may cut; its data directory outlives it.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use thalweg_broker::error::FetchError;
use thalweg_broker::fetch::{FetchCall, FetchPartition, Fetched, Replicas};
use thalweg_broker::{
    Broker, BrokerOptions, InternalService, InternalStreams, LogEvents, Metrics, Partition, Parts,
    TopicRef,
};
use thalweg_controller::{Controller, ControllerOptions, Handle};
use thalweg_controller_client::ControllerClient;
use thalweg_env::{OsRandom, Random, SystemClock, fs::RealFs};
use thalweg_metadata_core::{Endpoint, Image};
use thalweg_metadata_feed::{Feed, FeedOptions};
use thalweg_proto::internal::controller::v1 as proto;
use thalweg_record::{BatchBuilder, Batches, DecompressLimits, records};
use thalweg_rpc::{Routes, Server, ServerHandle, ServerOptions, channel_in_memory};
use thalweg_storage::{Chunk, Log, LogDir, LogDirOptions, OpenError, Reserve};
use thalweg_telemetry::Registry;
use thalweg_types::{
    Acks, CompressionType, IncarnationId, IsolationLevel, LeaderEpoch, NodeId, Offset,
    PartitionIndex, Timestamp, Uuid,
};

/// Far more than anything takes on a machine that does much else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Long enough that a busy machine seldom misses it, short enough to wait for.
const SESSION_TIMEOUT: Duration = Duration::from_secs(4);

pub(crate) struct Rig {
    dir: tempfile::TempDir,
    controller: Handle,
    pub(crate) nodes: BTreeMap<usize, Node>,
}

/// A broker that runs.
pub(crate) struct Node {
    pub(crate) broker: Arc<Broker>,
    log_dir: Weak<LogDir>,
    /// Its way to the controller.
    controller: Option<ServerHandle>,
    internal: ServerHandle,
    /// Those of gateways live as long as this.
    streams: InternalStreams,
}

impl Rig {
    /// With so many brokers.
    pub(crate) async fn new(count: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("metadata");
        std::fs::create_dir_all(&place).unwrap();
        let mut options = ControllerOptions::new(place, Arc::new(RealFs), Arc::new(OsRandom));
        options.session_timeout = SESSION_TIMEOUT;
        let controller = Controller::start(options).await.unwrap();
        let mut rig = Self { dir, controller, nodes: BTreeMap::new() };
        for number in 1..=count {
            rig.start(number).await;
        }
        rig
    }

    /// Starts a broker on its directory, for the first time or again.
    pub(crate) async fn start(&mut self, number: usize) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (controller, connector) = Server::new(ServerOptions::default())
            .serve_in_memory(Routes::new().with(self.controller.service()));
        let channel = channel_in_memory(connector);
        let events = LogEvents::new();
        let place = self.place(number);
        let log_dir = Arc::new(open(&place, &events).await);
        let kept = Arc::downgrade(&log_dir);
        let broker = Broker::start(Parts {
            options: options(address),
            log_dir,
            events,
            feed: Feed::start(channel.clone(), FeedOptions::default()),
            controller: ControllerClient::new(channel),
            metrics: Registry::new().register(Metrics::register),
            clock: Arc::new(SystemClock::new()),
        })
        .await
        .unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let server = ServerOptions {
            drain_time_max: Duration::from_millis(100),
            ..ServerOptions::default()
        };
        let (service, streams) = InternalService::new(Arc::clone(&broker));
        let routes = Routes::new().with(broker.replication_service().into_server()).with(service);
        let internal = Server::new(server).serve_on(listener, routes).unwrap();
        let controller = Some(controller);
        let node = Node { broker, log_dir: kept, controller, internal, streams };
        self.nodes.insert(number, node);
    }

    /// Where a broker keeps its logs.
    pub(crate) fn place(&self, number: usize) -> PathBuf {
        self.dir.path().join(number.to_string())
    }

    /// The process dies: nobody is told, and nothing is finished.
    pub(crate) async fn kill(&mut self, number: usize) {
        let Node { broker, log_dir, controller, internal, streams } =
            self.nodes.remove(&number).unwrap();
        drop((internal, streams, controller, broker));
        // Whoever is still in the middle of something has let go of it then.
        self.until("dead", || log_dir.strong_count() == 0).await;
    }

    /// The broker cannot reach the controller any more, nor hear of it.
    pub(crate) fn cut_from_controller(&mut self, number: usize) {
        self.nodes.get_mut(&number).unwrap().controller = None;
    }

    pub(crate) async fn stop_one(&mut self, number: usize) {
        let Node { broker, log_dir, controller, internal, streams } =
            self.nodes.remove(&number).unwrap();
        drop(streams);
        internal.shutdown().await;
        broker.shutdown().await;
        drop((broker, controller));
        self.until("stopped", || log_dir.strong_count() == 0).await;
    }

    pub(crate) async fn stop(mut self) {
        for (_, node) in std::mem::take(&mut self.nodes) {
            node.internal.shutdown().await;
            node.broker.shutdown().await;
        }
        self.controller.shutdown().await;
    }

    /// Where other brokers call this one.
    pub(crate) fn internal(&self, number: usize) -> String {
        let endpoint = &self.nodes[&number].broker.options().endpoints[0];
        format!("{}:{}", endpoint.host, endpoint.port)
    }

    // ---- Metadata ----

    pub(crate) fn image(&self) -> Arc<Image> {
        self.controller.feed().image()
    }

    /// A topic of one partition, with replicas on these brokers, the first as its leader.
    pub(crate) async fn create(&self, name: &str, replicas: &[usize], min_isr: usize) {
        let assignment = proto::Assignment {
            partition: 0,
            replicas: replicas.iter().map(|number| self.nodes[number].broker.node_id().0).collect(),
        };
        let topic = proto::NewTopic {
            name: name.to_owned(),
            partition_count: -1,
            replication_factor: -1,
            assignments: vec![assignment],
            configs: vec![proto::ConfigEntry {
                name: "min.insync.replicas".to_owned(),
                value: Some(min_isr.to_string()),
            }],
        };
        let request = proto::CreateTopicsRequest { topics: vec![topic], validate_only: false };
        let answer = self.controller_client().create_topics(request).await.unwrap().into_inner();
        assert_eq!(answer.topics[0].error, None);
        let created = thalweg_types::LogIndex(answer.index);
        for node in self.nodes.values() {
            node.broker.served(created).await;
        }
    }

    /// Lets the replica lead that has most.
    pub(crate) async fn elect_unclean(
        &self,
        topic: &str,
        validate_only: bool,
    ) -> proto::UncleanElection {
        let partition = proto::PartitionName { topic: topic.to_owned(), partition: 0 };
        let request =
            proto::ElectUncleanLeadersRequest { partitions: vec![partition], validate_only };
        let answer = self.controller_client().elect_unclean_leaders(request).await.unwrap();
        answer.into_inner().partitions.remove(0)
    }

    /// Sets a config of all brokers, and waits until they go by it.
    pub(crate) async fn configure_all(&self, name: &str, value: &str) {
        let target = proto::config_target::Target::Cluster(proto::config_target::Cluster {});
        let change = proto::ConfigChange {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            edit: proto::ConfigEdit::Unspecified.into(),
        };
        let resource = proto::ConfigAlteration {
            target: Some(proto::ConfigTarget { target: Some(target) }),
            changes: vec![change],
            replace: false,
        };
        let request =
            proto::AlterConfigsRequest { resources: vec![resource], validate_only: false };
        let answer = self.controller_client().alter_configs(request).await.unwrap().into_inner();
        assert_eq!(answer.resources[0].error, None);
        for node in self.nodes.values() {
            node.broker.served(thalweg_types::LogIndex(answer.index)).await;
        }
    }

    fn controller_client(
        &self,
    ) -> proto::controller_client::ControllerClient<tonic::transport::Channel> {
        let (server, connector) = Server::new(ServerOptions::default())
            .serve_in_memory(Routes::new().with(self.controller.service()));
        // Serves to the end of the test.
        std::mem::forget(server);
        proto::controller_client::ControllerClient::new(channel_in_memory(connector))
    }

    pub(crate) fn leader(&self, topic: &str) -> Option<usize> {
        let leader = self.state(topic).leader?;
        self.nodes.iter().find(|(_, node)| node.broker.node_id() == leader).map(|(at, _)| *at)
    }

    pub(crate) fn state(&self, topic: &str) -> thalweg_metadata_core::Partition {
        self.image().topic(topic).unwrap().partitions[&PartitionIndex(0)].clone()
    }

    /// Waits until so many replicas are in sync.
    pub(crate) async fn in_sync(&self, topic: &str, count: usize) {
        self.until(&format!("{count} in sync"), || self.state(topic).isr.len() == count).await;
    }

    pub(crate) async fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let began = tokio::time::Instant::now();
        while !is_so() {
            let state: Vec<_> = self.image().topics().cloned().collect();
            assert!(began.elapsed() < PATIENCE, "never: {what}; {state:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    // ---- Records ----

    pub(crate) fn partition(&self, number: usize, topic: &str) -> Arc<Partition> {
        self.nodes[&number].broker.partition(&TopicRef::Name(topic), PartitionIndex(0)).unwrap()
    }

    pub(crate) fn log(&self, number: usize, topic: &str) -> Arc<Log> {
        Arc::clone(self.partition(number, topic).log())
    }

    /// To read from a broker at once, as the leader only or as what it is.
    pub(crate) fn reading(
        &self,
        number: usize,
        topic: &str,
        from: i64,
        followers_too: bool,
    ) -> FetchCall {
        let wanted = FetchPartition {
            target: Ok(self.partition(number, topic)),
            offset: Offset(from),
            max_bytes: 1 << 20,
            reader_epoch: LeaderEpoch::NONE,
        };
        FetchCall {
            partitions: vec![wanted],
            first: 0,
            min_bytes: 0,
            max_bytes: 1 << 20,
            max_wait: Duration::ZERO,
            isolation: IsolationLevel::ReadUncommitted,
            replicas: Replicas { followers_too, ..Replicas::default() },
        }
    }

    pub(crate) async fn fetch(
        &self,
        number: usize,
        call: FetchCall,
    ) -> Result<Fetched, FetchError> {
        self.nodes[&number].broker.fetch(&call).await.remove(0)
    }

    /// One try. `None` without an acknowledgement.
    pub(crate) async fn try_produce(
        &self,
        number: usize,
        topic: &str,
        value: &[u8],
        acks: Acks,
    ) -> Option<Offset> {
        let broker = Arc::clone(&self.nodes[&number].broker);
        let partition = broker.partition(&TopicRef::Name(topic), PartitionIndex(0)).ok()?;
        let pending = broker.append(&partition, batch(value), acks).await.ok()?;
        let acknowledged = broker.acknowledged(pending, Duration::from_secs(5)).await;
        acknowledged.ok().map(|appended| appended.base_offset)
    }

    /// Tries until it is acknowledged by every in-sync replica; returns where it is.
    pub(crate) async fn produce(&self, topic: &str, value: &[u8]) -> Offset {
        let began = tokio::time::Instant::now();
        loop {
            if let Some(leader) = self.leader(topic)
                && let Some(offset) = self.try_produce(leader, topic, value, Acks::All).await
            {
                return offset;
            }
            assert!(began.elapsed() < PATIENCE, "never acknowledged: {:?}", self.state(topic));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// As [`Self::produce`], but each try must be acknowledged or definitely refused.
    pub(crate) async fn produce_surely(&self, value: &[u8], topic: &str) -> Offset {
        let began = tokio::time::Instant::now();
        loop {
            if let Some(leader) = self.leader(topic) {
                let broker = Arc::clone(&self.nodes[&leader].broker);
                let partition =
                    broker.partition(&TopicRef::Name(topic), PartitionIndex(0)).unwrap();
                if let Ok(pending) = broker.append(&partition, batch(value), Acks::All).await {
                    let acknowledged = broker.acknowledged(pending, PATIENCE).await.unwrap();
                    return acknowledged.base_offset;
                }
            }
            assert!(began.elapsed() < PATIENCE, "never appended: {:?}", self.state(topic));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until the logs of these brokers are the same to the byte and wholly committed.
    pub(crate) async fn converged(&self, topic: &str, numbers: &[usize]) -> Vec<Bytes> {
        let logs: Vec<_> = numbers.iter().map(|number| self.log(*number, topic)).collect();
        let ends = || logs.iter().map(|log| log.offsets().log_end()).collect::<Vec<_>>();
        let committed = || logs.iter().all(|log| log.offsets().high_watermark() == ends()[0]);
        let alike = || ends().iter().all(|end| *end == ends()[0]) && committed();
        self.until("the logs end alike", alike).await;
        let batches: Vec<_> = logs.iter().map(|log| batches_of(log)).collect();
        for other in &batches {
            assert!(*other == batches[0], "the logs of {topic} differ");
        }
        batches.into_iter().next().unwrap()
    }
}

fn options(internal: SocketAddr) -> BrokerOptions {
    let endpoint = Endpoint {
        listener: Endpoint::INTERNAL.to_owned(),
        host: internal.ip().to_string(),
        port: internal.port(),
    };
    let incarnation = IncarnationId(Uuid::from_random_bits(OsRandom.next_u128()));
    BrokerOptions {
        heartbeat_interval: Duration::from_millis(200),
        session_timeout: SESSION_TIMEOUT,
        ..BrokerOptions::new(incarnation, vec![endpoint])
    }
}

/// The last owner's threads may need a moment to let go.
async fn open(place: &Path, events: &Arc<LogEvents>) -> LogDir {
    let began = tokio::time::Instant::now();
    loop {
        let options = LogDirOptions {
            journal_file_bytes: 8 << 20,
            journal_bytes_max: 64 << 20,
            tail_bytes_max: 16 << 20,
            reserve: Reserve::Bytes(0),
            ..LogDirOptions::new(
                place.to_owned(),
                Arc::new(RealFs),
                Arc::new(SystemClock::new()),
                Arc::new(OsRandom),
                Arc::clone(events) as _,
            )
        };
        match tokio::task::spawn_blocking(|| LogDir::open(options)).await.unwrap() {
            Ok(log_dir) => return log_dir,
            Err(OpenError::InUse { .. }) if began.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn batch(value: &[u8]) -> BytesMut {
    let mut builder = BatchBuilder::new(CompressionType::None);
    builder.push(Timestamp(1_000), None, Some(value), &[]).unwrap();
    builder.finish().unwrap()
}

/// Everything a log holds, batch by batch.
pub(crate) fn batches_of(log: &Log) -> Vec<Bytes> {
    let mut batches = Vec::new();
    let offsets = log.offsets();
    let mut from = offsets.log_start();
    while from < offsets.log_end() {
        let slice = log.read(from, offsets.log_end(), 1 << 20, true).unwrap();
        for chunk in slice.chunks {
            let bytes = match chunk {
                Chunk::Tail(bytes) => bytes,
                Chunk::File(range) => range.read().unwrap().bytes,
            };
            for batch in Batches::new(&bytes) {
                let (header, batch) = batch.unwrap();
                from = header.next_offset();
                batches.push(bytes.slice_ref(batch));
            }
        }
    }
    batches
}

/// The value of a batch's only record.
pub(crate) fn value_of(batch: &[u8]) -> Vec<u8> {
    let records = records(batch, &DecompressLimits::default()).unwrap();
    records.iter().next().unwrap().unwrap().value.unwrap().to_vec()
}

pub(crate) fn node_id(rig: &Rig, number: usize) -> NodeId {
    rig.nodes[&number].broker.node_id()
}
