//! The whole system in one process.
//!
//! The services are wired as in a cluster, only closer: controller and broker talk gRPC, over a pipe in memory instead of TCP, and the
//! gateway calls the broker directly instead of over the network. Nothing in them knows the difference.
//!
//! ```text
//!   addresses bound ─► log directory opened (recovery), controller ─► metadata feed ─► broker registered, unfenced
//!                                                                                          ├─► Kafka listener
//!                                                                                          └─► gateway
//! ```
//!
//! All addresses are taken first: a port that is in use ends the start before anything has been written, the broker can register
//! the port it will really have, and clients that connect early wait instead of being refused.

use std::sync::Arc;

use thalweg_broker::{Broker, InternalService, InternalStreams, LogEvents, Parts};
use thalweg_controller::{Controller, ControllerOptions};
use thalweg_controller_client::ControllerClient;
use thalweg_coordinator::{Brokers, Coordinator, KafkaBackend};
use thalweg_gateway::GatewayHandle;
use thalweg_kafka::listener::{Bound, ListenerHandle};
use thalweg_metadata_core::{Endpoint, StaticConfigs};
use thalweg_metadata_feed::{Feed, FeedOptions};
use thalweg_rpc::{Routes, Server, ServerHandle, ServerOptions, channel_in_memory};
use thalweg_settings::{Loaded, Service, Settings};
use thalweg_storage::LogDir;
use tokio::net::TcpListener;

use super::broker_port::LocalBroker;
use super::composition::Composition;
use super::coordination::{self, BothBackends, LocalCoordinator, Node};
use super::data_dir::StandaloneDir;
use super::error::StartError;
use super::machine::Machine;
use super::operations::{Operations, say};
use super::{broker, controller, gateway, kafka, log_dir};

/// Everything that runs.
pub(super) struct Standalone {
    gateway: GatewayHandle,
    kafka: ListenerHandle,
    coordination: Coordination,
    broker: Arc<Broker>,
    /// Serves the controller's calls in memory.
    internal: ServerHandle,
    controller: thalweg_controller::Handle,
    operations: Operations,
}

struct Coordination {
    coordinator: Arc<Coordinator>,
    /// From the coordinator to the broker.
    streams: InternalStreams,
    between: ServerHandle,
}

/// Addresses taken, nothing served yet.
struct Addresses {
    kafka: Bound,
    grpc: TcpListener,
}

impl Composition for Standalone {
    const SERVICE: Service = Service::Standalone;

    async fn start(loaded: &Loaded) -> Result<Self, StartError> {
        let settings = &loaded.settings;
        let machine = Machine::real();
        let data_dir = StandaloneDir::examine(&*machine.fs, &settings.standalone.data_dir)?;
        let (addresses, operations) = listen(settings, &machine).await?;

        let configs = StaticConfigs::new(loaded.broker_configs())?;
        let events = LogEvents::new();
        let (controller, log_dir) =
            open_data_dir(settings, &data_dir, &machine, &configs, &events).await?;
        let (internal, connector) = Server::new(ServerOptions::default())
            .serve_in_memory(Routes::new().with(controller.service()));
        let channel = channel_in_memory(connector);
        let feed = Feed::start(channel.clone(), FeedOptions::default());
        machine.check_metadata(&feed);

        let endpoints = endpoints(settings, &addresses)?;
        let identity = coordination::identity_beside(log_dir.meta().dir_id);
        let broker = Broker::start(Parts {
            options: broker::options(settings, configs, endpoints, &machine),
            log_dir,
            events,
            feed: feed.clone(),
            controller: ControllerClient::new(channel.clone()),
            metrics: machine.registry.register(thalweg_broker::Metrics::register),
            clock: Arc::clone(&machine.clock),
        })
        .await?;
        machine.check_broker(&broker);

        // The coordinator reaches its partitions as it would in a cluster, and clients reach it where they reach the broker.
        let (service, streams) = InternalService::new(Arc::clone(&broker));
        let (between, connector) =
            Server::new(ServerOptions::default()).serve_in_memory(Routes::new().with(service));
        let (coordinator, session) = coordination::start(
            settings,
            &machine,
            &feed,
            &ControllerClient::new(channel.clone()),
            Brokers::local(channel_in_memory(connector)),
            Node {
                identity,
                endpoints: vec![kafka::endpoint(&settings.broker.kafka, &addresses.kafka)],
            },
        );
        session.registered().await.map_err(StartError::Registration)?;
        let backend = BothBackends::new(
            kafka::backend(&broker, &machine),
            KafkaBackend::new(Arc::clone(&coordinator)),
        );
        let kafka = kafka::serve(&settings.broker.kafka, addresses.kafka, backend, &machine)?;
        let port = Arc::new(LocalBroker::new(Arc::clone(&broker)));
        let groups = Arc::new(LocalCoordinator(Arc::clone(&coordinator)));
        let gateway =
            gateway::serve(settings, addresses.grpc, channel, feed, port, groups, &machine).await?;
        Operations::started(&machine);
        let coordination = Coordination { coordinator, streams, between };
        Ok(Self { gateway, kafka, coordination, broker, internal, controller, operations })
    }

    async fn shutdown(self) {
        self.operations.stopping();
        self.gateway.shutdown().await;
        tracing::debug!("gateway stopped");
        self.kafka.shutdown().await;
        tracing::debug!("Kafka listener stopped");
        let Coordination { coordinator, streams, between } = self.coordination;
        coordinator.stop();
        drop(coordinator);
        streams.close();
        between.shutdown().await;
        tracing::debug!("coordinator stopped");
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

/// Takes all addresses and tells them.
async fn listen(
    settings: &Settings,
    machine: &Machine,
) -> Result<(Addresses, Operations), StartError> {
    let kafka = Bound::new(settings.broker.kafka.address)?;
    let grpc = gateway::bind(settings).await?;
    let operations = Operations::serve(settings, machine).await?;
    say(&format!("kafka listening on {}", kafka.local_addr()))?;
    say(&format!("grpc listening on {}", grpc.local_addr()?))?;
    operations.say_address()?;
    Ok((Addresses { kafka, grpc }, operations))
}

fn endpoints(settings: &Settings, addresses: &Addresses) -> Result<Vec<Endpoint>, StartError> {
    let kafka = kafka::endpoint(&settings.broker.kafka, &addresses.kafka);
    let public = Endpoint {
        listener: Endpoint::PUBLIC.to_owned(),
        port: addresses.grpc.local_addr()?.port(),
        ..kafka.clone()
    };
    Ok(vec![kafka, public])
}

/// Controller and log directory. The metadata is asked whose it is before records that may be another cluster's are touched; in a new
/// directory the logs come first, so that metadata without logs can only be a loss.
async fn open_data_dir(
    settings: &Settings,
    data_dir: &StandaloneDir,
    machine: &Machine,
    configs: &StaticConfigs,
    events: &Arc<LogEvents>,
) -> Result<(thalweg_controller::Handle, Arc<LogDir>), StartError> {
    let options: ControllerOptions =
        controller::options(settings, data_dir.metadata.clone(), machine, configs.clone());
    let open_logs = || log_dir::open(settings, &data_dir.logs, machine, Arc::clone(events));
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
