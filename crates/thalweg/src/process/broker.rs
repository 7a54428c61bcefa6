//! A broker in a process of its own.
//!
//! ```text
//!   addresses bound ─► a controller found ─► log directory opened (recovery) ─► registered, unfenced ─► Kafka, internal gRPC
//! ```
//!
//! Without a controller it waits, and says in its readiness what for: only the cluster tells whether the records are its own.

use std::sync::Arc;
use std::time::Duration;

use thalweg_broker::{BrokerOptions, InternalService, InternalStreams, LogEvents, Parts};
use thalweg_controller_client::ControllerClient;
use thalweg_kafka::listener::{Bound, ListenerHandle};
use thalweg_metadata_core::{Endpoint, StaticConfigs};
use thalweg_metadata_feed::{Feed, FeedOptions, controllers};
use thalweg_rpc::{Routes, Server, ServerHandle, ServerOptions};
use thalweg_settings::{Loaded, Service, Settings};
use thalweg_types::{IncarnationId, Uuid};
use tokio::net::TcpListener;

use super::composition::Composition;
use super::data_dir::{BrokerDir, Slot};
use super::error::StartError;
use super::machine::Machine;
use super::operations::{Operations, say};
use super::{kafka, log_dir};

/// How long a broker that stops waits for others to take over what it leads.
const HAND_OVER_TIME_MAX: Duration = Duration::from_secs(20);

pub(super) struct Broker {
    kafka: ListenerHandle,
    /// Of gateways, on the internal listener.
    streams: InternalStreams,
    internal: ServerHandle,
    broker: Arc<thalweg_broker::Broker>,
    operations: Operations,
    /// Where its data directory is one of several: held until the broker is closed.
    slot: Slot,
}

impl Composition for Broker {
    const SERVICE: Service = Service::Broker;

    async fn start(loaded: &Loaded) -> Result<Self, StartError> {
        let settings = &loaded.settings;
        let machine = Machine::real();
        let logs = BrokerDir::examine(&*machine.fs, &settings.broker.data_dir)?;
        let kafka = Bound::new(settings.broker.kafka.address)?;
        let address = settings.broker.internal.address;
        let listen = |source| StartError::Listen { what: "internal gRPC", address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let operations = Operations::serve(settings, &machine).await?;
        say(&format!("kafka listening on {}", kafka.local_addr()))?;
        say(&format!("internal listening on {}", listener.local_addr()?))?;
        operations.say_address()?;

        let configs = StaticConfigs::new(loaded.broker_configs())?;
        let events = LogEvents::new();
        let controllers = controllers(endpoints(settings))?;
        let feed = Feed::start(controllers.clone(), FeedOptions::default());
        machine.check_metadata(&feed);
        logs.require_cluster(&feed).await?;
        let log_dir = log_dir::open(settings, &logs.path, &machine, Arc::clone(&events)).await?;

        let endpoints = vec![
            kafka::endpoint(&settings.broker.kafka, &kafka),
            internal_endpoint(settings, listener.local_addr()?.port()),
        ];
        let broker = thalweg_broker::Broker::start(Parts {
            options: options(settings, configs, endpoints, &machine),
            log_dir,
            events,
            feed,
            controller: ControllerClient::new(controllers),
            metrics: machine.registry.register(thalweg_broker::Metrics::register),
            clock: Arc::clone(&machine.clock),
        })
        .await?;
        machine.check_broker(&broker);
        let (gateways, streams) = InternalService::new(Arc::clone(&broker));
        let replication = broker.replication_service().into_server();
        let routes = Routes::new().with(gateways).with(replication);
        let internal = Server::new(ServerOptions::default()).serve_on(listener, routes)?;
        let backend = kafka::backend(&broker, &machine);
        let kafka = kafka::serve(&settings.broker.kafka, kafka, backend, &machine)?;
        Operations::started(&machine);
        Ok(Self { kafka, streams, internal, broker, operations, slot: logs.slot })
    }

    async fn stop_requested(&self) -> &'static str {
        self.broker.shutdown_requested().await;
        "asked for by an operator"
    }

    async fn shutdown(self) {
        self.operations.stopping();
        // Clients are still told who leads instead.
        self.broker.hand_over(HAND_OVER_TIME_MAX).await;
        tracing::debug!("leaderships handed over");
        // Ends the streams that the server would otherwise wait for.
        self.streams.close();
        self.internal.shutdown().await;
        tracing::debug!("internal listener stopped");
        self.kafka.shutdown().await;
        tracing::debug!("Kafka listener stopped");
        self.broker.shutdown().await;
        tracing::debug!("broker stopped");
        drop(self.broker);
        drop(self.slot);
        self.operations.shutdown().await;
    }
}

/// Where the settings say the controllers are.
pub(super) fn endpoints(settings: &Settings) -> Vec<String> {
    settings.cluster.controllers.iter().map(ToString::to_string).collect()
}

/// What a broker needs in any process.
pub(super) fn options(
    settings: &Settings,
    configs: StaticConfigs,
    endpoints: Vec<Endpoint>,
    machine: &Machine,
) -> BrokerOptions {
    let broker = &settings.broker;
    let incarnation = IncarnationId(Uuid::from_random_bits(machine.random.next_u128()));
    BrokerOptions {
        rack: Some(broker.rack.clone()).filter(|rack| !rack.is_empty()),
        static_configs: configs,
        auto_create_topics: broker.auto_create_topics,
        fetch_bytes_max: broker.fetch_bytes_max,
        fetch_sessions_max: broker.fetch_sessions_max,
        // What is left is for other answers.
        fetch_memory_bytes_max: broker.kafka.unsent_bytes_max / 4 * 3,
        heartbeat_interval: Duration::from_millis(broker.heartbeat_interval_ms),
        session_timeout: Duration::from_millis(broker.session_timeout_ms),
        return_timeout: Duration::from_millis(broker.return_timeout_ms),
        retention_check_interval: Duration::from_millis(broker.log.retention_check_interval_ms),
        ..BrokerOptions::new(incarnation, endpoints)
    }
}

fn internal_endpoint(settings: &Settings, port: u16) -> Endpoint {
    let internal = &settings.broker.internal;
    let port = if internal.advertised_port == 0 { port } else { internal.advertised_port };
    let host = internal.advertised_host.clone();
    Endpoint { listener: Endpoint::INTERNAL.to_owned(), host, port }
}
