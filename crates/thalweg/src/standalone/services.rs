//! Starting the services in the order they need each other, and stopping them the other way round.
//!
//! ```text
//!   addresses bound ─► log directory opened (recovery), controller ─► metadata feed ─► broker registered, unfenced
//!                                                                                          ├─► Kafka listener
//!                                                                                          └─► gateway
//! ```
//!
//! All addresses are taken first: a port that is in use ends the start before anything has been written, the broker can register
//! the port it will really have, and clients that connect early wait instead of being refused.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use thalweg_broker::{Broker, BrokerOptions, ControllerClient, KafkaBackend, LogEvents, Parts};
use thalweg_controller::{Controller, ControllerOptions};
use thalweg_env::fs::{Fs, RealFs};
use thalweg_env::{Clock, OsRandom, Random, SystemClock};
use thalweg_gateway as gateway;
use thalweg_kafka::listener::{self, Bound, ListenerOptions};
use thalweg_metadata_core::{Endpoint, StaticConfigs};
use thalweg_metadata_feed::{Feed, FeedOptions};
use thalweg_rpc::{Routes, Server, ServerHandle, ServerOptions, channel_in_memory};
use thalweg_settings::{Loaded, Settings};
use thalweg_storage::{LogDir, LogDirOptions, Reserve};
use thalweg_telemetry::ops::{self, OpsHandle};
use thalweg_telemetry::{Readiness, Registry};
use thalweg_types::{IncarnationId, LogIndex, Uuid};
use tokio::net::TcpListener;
use tonic::transport::Channel;

use super::broker_port::LocalBroker;
use super::data_dir::{DataDir, DataDirError};
use super::kafka_metrics::KafkaMetrics;
use super::say;

/// Why the system did not start. What had been started by then is dropped, which stops it.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error("cannot listen on {address} for {what}: {source}")]
    Listen { what: &'static str, address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Kafka(#[from] listener::StartError),
    #[error("controller: {0}")]
    Controller(#[from] thalweg_controller::StartError),
    #[error("broker: {0}")]
    Broker(#[from] thalweg_broker::StartError),
    #[error("gateway: {0}")]
    Gateway(#[from] gateway::StartError),
    #[error("a setting that Kafka knows: {0}")]
    Config(#[from] thalweg_metadata_core::config::InvalidConfig),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Everything that runs.
pub(super) struct Services {
    gateway: gateway::GatewayHandle,
    kafka: listener::ListenerHandle,
    broker: Arc<Broker>,
    /// Serves the controller's calls in memory.
    internal: ServerHandle,
    controller: thalweg_controller::Handle,
    operations: OpsHandle,
    stopping: Arc<AtomicBool>,
}

/// What all services share.
struct Machine {
    fs: Arc<dyn Fs>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    registry: Arc<Registry>,
    readiness: Readiness,
}

/// Addresses taken, nothing served yet.
struct Addresses {
    kafka: Bound,
    grpc: TcpListener,
}

impl Services {
    /// Returns when clients are served.
    pub(super) async fn start(loaded: &Loaded) -> Result<Self, StartError> {
        let settings = &loaded.settings;
        let machine = Machine::real();
        let data_dir = DataDir::examine(&*machine.fs, &settings.standalone.data_dir)?;
        let stopping = Arc::new(AtomicBool::new(false));
        let (addresses, operations) = listen(settings, &machine, &stopping).await?;

        let configs = StaticConfigs::new(loaded.broker_configs())?;
        let events = LogEvents::new();
        let (controller, log_dir) =
            open_data_dir(settings, &data_dir, &machine, &configs, &events).await?;
        let (internal, connector) = Server::new(ServerOptions::default())
            .serve_in_memory(Routes::new().with(controller.service()));
        let channel = channel_in_memory(connector);
        let feed = Feed::start(channel.clone(), FeedOptions::default());
        machine.check_metadata(&feed);

        let broker = Broker::start(Parts {
            options: broker_options(settings, configs, &addresses, &machine)?,
            log_dir,
            events,
            feed: feed.clone(),
            controller: ControllerClient::new(channel.clone()),
            metrics: machine.registry.register(thalweg_broker::Metrics::register),
            clock: Arc::clone(&machine.clock),
        })
        .await?;
        machine.check_broker(Arc::clone(&broker));

        let kafka = serve_kafka(settings, addresses.kafka, &broker, &machine)?;
        let gateway =
            serve_grpc(settings, addresses.grpc, channel, feed, &broker, &machine).await?;
        machine.readiness.check("started", || Ok(()));
        Ok(Self { gateway, kafka, broker, internal, controller, operations, stopping })
    }

    /// From the outside in: first nobody is let in any more, then what was let in is finished, then it is closed. Health and metrics
    /// are there to the end.
    pub(super) async fn shutdown(self) {
        self.stopping.store(true, Ordering::Release);
        self.gateway.shutdown().await;
        tracing::debug!("gateway stopped");
        self.kafka.shutdown().await;
        tracing::debug!("Kafka listener stopped");
        self.broker.shutdown().await;
        tracing::debug!("broker stopped");
        drop(self.broker);
        // Ends the streams that the server would otherwise wait for.
        self.controller.shutdown().await;
        self.internal.shutdown().await;
        tracing::debug!("controller stopped");
        self.operations.shutdown().await;
    }
}

impl Machine {
    fn real() -> Self {
        Self {
            fs: Arc::new(RealFs),
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(OsRandom),
            registry: Arc::new(Registry::new()),
            readiness: Readiness::new(),
        }
    }

    fn check_metadata(&self, feed: &Feed) {
        // Not the feed itself, which ends with its last owner.
        let applied = feed.changed();
        self.readiness.check("metadata", move || match *applied.borrow() {
            LogIndex::ZERO => Err("nothing received from the controller yet".to_owned()),
            _ => Ok(()),
        });
    }

    fn check_broker(&self, broker: Arc<Broker>) {
        // Weak, so that an answer under way does not keep the log directory open.
        let broker = Arc::downgrade(&broker);
        self.readiness.check("log directory", move || match broker.upgrade() {
            Some(broker) if broker.log_dir_failed() => {
                Err("failed; nothing is acknowledged until a restart".to_owned())
            }
            Some(_) => Ok(()),
            None => Err("closed".to_owned()),
        });
    }
}

/// Takes all addresses and tells them.
async fn listen(
    settings: &Settings,
    machine: &Machine,
    stopping: &Arc<AtomicBool>,
) -> Result<(Addresses, OpsHandle), StartError> {
    let listen = |what, address| move |source| StartError::Listen { what, address, source };
    let kafka = Bound::new(settings.broker.kafka.address)?;
    let grpc_address = settings.gateway.grpc.address;
    let grpc = TcpListener::bind(grpc_address).await.map_err(listen("gRPC", grpc_address))?;
    let http_address = settings.operations.address;
    machine.readiness.check("started", || Err("the services are starting".to_owned()));
    let flag = Arc::clone(stopping);
    machine.readiness.check("running", move || match flag.load(Ordering::Acquire) {
        true => Err("the services are stopping".to_owned()),
        false => Ok(()),
    });
    let operations =
        ops::serve(http_address, Arc::clone(&machine.registry), machine.readiness.clone())
            .await
            .map_err(listen("HTTP", http_address))?;
    say(&format!("kafka listening on {}", kafka.local_addr()))?;
    say(&format!("grpc listening on {}", grpc.local_addr()?))?;
    say(&format!("http listening on {}", operations.local_address()))?;
    Ok((Addresses { kafka, grpc }, operations))
}

/// Controller and log directory. The metadata is asked whose it is before records that may be another cluster's are touched; in a new
/// directory the logs come first, so that metadata without logs can only be a loss.
async fn open_data_dir(
    settings: &Settings,
    data_dir: &DataDir,
    machine: &Machine,
    configs: &StaticConfigs,
    events: &Arc<LogEvents>,
) -> Result<(thalweg_controller::Handle, Arc<LogDir>), StartError> {
    let mut options = ControllerOptions::new(
        data_dir.metadata.clone(),
        Arc::clone(&machine.fs),
        Arc::clone(&machine.random),
    );
    options.configs = configs.clone();
    options.clock = Arc::clone(&machine.clock);
    options.session_timeout = Duration::from_millis(settings.broker.session_timeout_ms);
    options.quorum.snapshot_after_entries = settings.controller.snapshot_after_entries;
    let open_logs = || open_log_dir(settings, data_dir, machine, Arc::clone(events));
    if !data_dir.is_adopted() {
        let log_dir = open_logs().await?;
        return Ok((Controller::start(options).await?, log_dir));
    }
    let controller = Controller::start(options).await?;
    let opened = match data_dir.require_cluster(controller.cluster_id()) {
        Ok(()) => open_logs().await,
        Err(foreign) => Err(foreign.into()),
    };
    match opened {
        Ok(log_dir) => Ok((controller, log_dir)),
        Err(error) => {
            controller.shutdown().await;
            Err(error)
        }
    }
}

/// Recovers what the last life left, on a thread that may wait for the disk.
async fn open_log_dir(
    settings: &Settings,
    data_dir: &DataDir,
    machine: &Machine,
    events: Arc<LogEvents>,
) -> Result<Arc<LogDir>, StartError> {
    let mut options = LogDirOptions::new(
        data_dir.logs.clone(),
        Arc::clone(&machine.fs),
        Arc::clone(&machine.clock),
        Arc::clone(&machine.random),
        events,
    );
    options.journal_file_bytes = settings.broker.journal.file_bytes;
    options.journal_bytes_max = settings.broker.journal.space_bytes_max;
    options.tail_bytes_max = settings.broker.tail_bytes_max;
    options.reserve = disk_reserve(settings);
    let opened = tokio::task::spawn_blocking(move || LogDir::open(options)).await;
    let log_dir = opened
        .map_err(io::Error::other)?
        .map_err(|error| DataDir::not_opened(&data_dir.logs, error))?;
    for suspect in log_dir.suspects() {
        tracing::error!(partition = %suspect.name, reason = suspect.reason, "partition is damaged and not served");
    }
    Ok(Arc::new(log_dir))
}

fn disk_reserve(settings: &Settings) -> Reserve {
    let broker = &settings.broker;
    let segments_bytes = u64::from(broker.log.segment_bytes).saturating_mul(2);
    let bytes_min = segments_bytes.saturating_add(broker.journal.space_bytes_max);
    match u64::try_from(broker.disk_reserve_bytes) {
        Ok(bytes) => Reserve::Bytes(bytes),
        Err(_automatic) => Reserve::Automatic { bytes_min },
    }
}

fn broker_options(
    settings: &Settings,
    configs: StaticConfigs,
    addresses: &Addresses,
    machine: &Machine,
) -> Result<BrokerOptions, StartError> {
    let broker = &settings.broker;
    let kafka_port = match broker.kafka.advertised_port {
        0 => addresses.kafka.local_addr().port(),
        port => port,
    };
    let endpoint = |listener: &str, port| Endpoint {
        listener: listener.to_owned(),
        host: broker.kafka.advertised_host.clone(),
        port,
    };
    let endpoints = vec![
        endpoint(Endpoint::KAFKA, kafka_port),
        endpoint(Endpoint::PUBLIC, addresses.grpc.local_addr()?.port()),
    ];
    let incarnation = IncarnationId(Uuid::from_random_bits(machine.random.next_u128()));
    Ok(BrokerOptions {
        static_configs: configs,
        auto_create_topics: broker.auto_create_topics,
        fetch_bytes_max: broker.fetch_bytes_max,
        fetch_sessions_max: broker.fetch_sessions_max,
        // What is left is for other answers.
        fetch_memory_bytes_max: broker.kafka.unsent_bytes_max / 4 * 3,
        heartbeat_interval: Duration::from_millis(broker.heartbeat_interval_ms),
        retention_check_interval: Duration::from_millis(broker.log.retention_check_interval_ms),
        ..BrokerOptions::new(incarnation, endpoints)
    })
}

fn serve_kafka(
    settings: &Settings,
    bound: Bound,
    broker: &Arc<Broker>,
    machine: &Machine,
) -> Result<listener::ListenerHandle, StartError> {
    let kafka = &settings.broker.kafka;
    let options = ListenerOptions {
        runtimes: kafka.runtimes,
        frame_bytes_max: kafka.frame_bytes_max,
        in_flight_max: kafka.in_flight_max,
        request_bytes_max: kafka.request_bytes_max,
        unsent_bytes_max: kafka.unsent_bytes_max,
        connections_max: kafka.connections_max,
        connections_per_ip_max: kafka.connections_per_ip_max,
        idle_timeout: Duration::from_millis(kafka.idle_timeout_ms),
        ..ListenerOptions::new(bound.local_addr())
    };
    let backend = KafkaBackend::new(Arc::clone(broker), Arc::clone(&machine.random));
    let handle = bound.start(options, Arc::new(backend))?;
    let metrics = KafkaMetrics(handle.counters());
    machine.registry.register(|registry| registry.register_collector(Box::new(metrics)));
    Ok(handle)
}

async fn serve_grpc(
    settings: &Settings,
    listener: TcpListener,
    controller: Channel,
    feed: Feed,
    broker: &Arc<Broker>,
    machine: &Machine,
) -> Result<gateway::GatewayHandle, StartError> {
    let grpc = &settings.gateway.grpc;
    let server = ServerOptions {
        connections_max: grpc.connections_max,
        calls_max: grpc.calls_max,
        request_bytes_max: grpc.request_bytes_max,
        ..ServerOptions::default()
    };
    let parts = gateway::Parts {
        broker: Arc::new(LocalBroker::new(Arc::clone(broker))),
        feed,
        controller: controller.into(),
        clock: Arc::clone(&machine.clock),
        metrics: Arc::new(gateway::Metrics::register(&machine.registry)),
    };
    let options = gateway::GatewayOptions { server };
    Ok(gateway::Gateway::serve_on(listener, options, parts).await?)
}
