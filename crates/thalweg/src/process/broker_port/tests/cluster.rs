//! A controller and brokers in this process, on temporary directories, with their internal listeners on loopback.

use std::sync::Arc;
use std::time::Duration;

use thalweg_broker::{
    Broker, BrokerOptions, InternalService, InternalStreams, LogEvents, Metrics, Parts,
};
use thalweg_controller::{Controller, ControllerOptions, Handle};
use thalweg_controller_client::ControllerClient;
use thalweg_env::fs::RealFs;
use thalweg_env::{OsRandom, Random as _, SystemClock};
use thalweg_metadata_core::Endpoint;
use thalweg_metadata_feed::{Feed, FeedOptions};
use thalweg_proto::internal::controller::v1 as proto;
use thalweg_proto::internal::controller::v1::controller_client;
use thalweg_rpc::{Routes, Server, ServerHandle, ServerOptions, channel_in_memory};
use thalweg_storage::{LogDir, LogDirOptions, Reserve};
use thalweg_telemetry::Registry;
use thalweg_types::{IncarnationId, LogIndex, Uuid};
use tokio::net::TcpListener;
use tonic::transport::Channel;

/// Far more than anything takes on a machine that does much else.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Cluster {
    place: tempfile::TempDir,
    controller: Handle,
    internal: ServerHandle,
    channel: Channel,
    brokers: Vec<Running>,
}

struct Running {
    broker: Arc<Broker>,
    streams: InternalStreams,
    server: ServerHandle,
}

impl Cluster {
    pub(super) async fn start(brokers: usize) -> Self {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("metadata");
        std::fs::create_dir_all(&dir).unwrap();
        let options = ControllerOptions::new(dir, Arc::new(RealFs), Arc::new(OsRandom));
        let controller = Controller::start(options).await.unwrap();
        let (internal, connector) = Server::new(ServerOptions::default())
            .serve_in_memory(Routes::new().with(controller.service()));
        let channel = channel_in_memory(connector);
        let mut cluster = Self { place, controller, internal, channel, brokers: Vec::new() };
        for number in 0..brokers {
            let running = cluster.start_broker(number).await;
            cluster.brokers.push(running);
        }
        cluster
    }

    /// A feed of its own, as a gateway elsewhere has it, that knows what the brokers know.
    pub(super) async fn feed(&self) -> Feed {
        let feed = Feed::start(self.channel.clone(), FeedOptions::default());
        let known = self.brokers.iter().map(|running| running.broker.image().position().index);
        feed.wait_for(known.max().unwrap_or(LogIndex::ZERO)).await.unwrap();
        feed
    }

    pub(super) fn broker(&self, number: usize) -> Arc<Broker> {
        Arc::clone(&self.brokers[number].broker)
    }

    /// To the controller.
    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(super) fn close_streams(&self, number: usize) {
        self.brokers[number].streams.close();
    }

    /// Creates a topic of one replica, and waits until every broker goes by that.
    pub(super) async fn create(&self, topic: &str, partition_count: i32) {
        let index = self.create_unseen(topic, partition_count).await;
        for running in &self.brokers {
            running.broker.served(LogIndex(index)).await;
        }
    }

    /// Creates a topic; returns the index in the metadata log from which on it is there.
    pub(super) async fn create_unseen(&self, topic: &str, partition_count: i32) -> u64 {
        let topic = proto::NewTopic {
            name: topic.to_owned(),
            partition_count,
            replication_factor: 1,
            ..Default::default()
        };
        let request = proto::CreateTopicsRequest { topics: vec![topic], validate_only: false };
        let mut client = controller_client::ControllerClient::new(self.channel.clone());
        let answer = client.create_topics(request).await.unwrap().into_inner();
        assert!(answer.topics[0].error.is_none(), "{answer:?}");
        answer.index
    }

    /// Stops a broker in good order and starts it again on its disk, at another port.
    pub(super) async fn restart(&mut self, number: usize) {
        let stopped = self.brokers.remove(number);
        stopped.stop().await;
        let running = self.start_broker(number).await;
        self.brokers.insert(number, running);
    }

    pub(super) async fn stop(self) {
        for running in self.brokers {
            running.stop().await;
        }
        self.controller.shutdown().await;
        self.internal.shutdown().await;
    }

    async fn start_broker(&self, number: usize) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint {
            listener: Endpoint::INTERNAL.to_owned(),
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr().unwrap().port(),
        };
        let incarnation = IncarnationId(Uuid::from_random_bits(OsRandom.next_u128()));
        let events = LogEvents::new();
        let broker = Broker::start(Parts {
            options: BrokerOptions {
                heartbeat_interval: Duration::from_millis(100),
                ..BrokerOptions::new(incarnation, vec![endpoint])
            },
            log_dir: self.open_log_dir(number, Arc::clone(&events)).await,
            events,
            feed: Feed::start(self.channel.clone(), FeedOptions::default()),
            controller: ControllerClient::new(self.channel.clone()),
            metrics: Registry::new().register(Metrics::register),
            clock: Arc::new(SystemClock::new()),
        })
        .await
        .unwrap();
        let (service, streams) = InternalService::new(Arc::clone(&broker));
        let options = ServerOptions { drain_time_max: PATIENCE, ..ServerOptions::default() };
        let server = Server::new(options).serve_on(listener, Routes::new().with(service)).unwrap();
        Running { broker, streams, server }
    }

    async fn open_log_dir(&self, number: usize, events: Arc<LogEvents>) -> Arc<LogDir> {
        let mut options = LogDirOptions::new(
            self.place.path().join(format!("logs-{number}")),
            Arc::new(RealFs),
            Arc::new(SystemClock::new()),
            Arc::new(OsRandom),
            events,
        );
        options.journal_file_bytes = 4 << 20;
        options.journal_bytes_max = 32 << 20;
        options.reserve = Reserve::Bytes(0);
        let opened = tokio::task::spawn_blocking(move || LogDir::open(options)).await;
        Arc::new(opened.unwrap().unwrap())
    }
}

impl Running {
    /// The same order as in a process.
    async fn stop(self) {
        self.streams.close();
        self.server.shutdown().await;
        self.broker.shutdown().await;
    }
}
