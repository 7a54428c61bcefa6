//! The public edge, over gRPC beside a broker, and over gRPC and the Kafka protocol in a process of its own.
//!
//! ```text
//!   addresses bound ─► a controller found: the metadata is known ─► registered ─► clients served
//! ```
//!
//! It keeps nothing, so any number of them serve one cluster. Without the metadata it waits, and says in its readiness what for. Kafka
//! clients are shown gateways by what these have registered: a gateway that stops leaves first, so that they go elsewhere.

use std::sync::Arc;
use std::time::Duration;

use thalweg_controller_client::{ControllerClient, NodeSession, SessionOptions};
use thalweg_gateway::port::{BrokerPort, CoordinatorPort};
use thalweg_gateway::{
    Advertised, GatewayHandle, GatewayOptions, KafkaBackend, KafkaOptions, KafkaParts, Metrics,
    Parts, RoutedBrokers, RoutedCoordinators, RoutedOptions,
};
use thalweg_kafka::listener::{Bound, ListenerHandle};
use thalweg_metadata_core::{Endpoint, NodeRole};
use thalweg_metadata_feed::{Feed, FeedOptions, controllers};
use thalweg_rpc::{LeaderChannel, ServerOptions};
use thalweg_settings::{Loaded, Service, Settings};
use thalweg_types::{DirId, IncarnationId, LogIndex, Uuid};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::broker::endpoints;
use super::composition::Composition;
use super::error::StartError;
use super::kafka;
use super::machine::Machine;
use super::operations::{Operations, say};

/// How long a gateway that stops waits for the controllers to forget it. Its session ends by itself otherwise.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(3);

pub(super) struct Gateway {
    session: Arc<NodeSession>,
    kafka: ListenerHandle,
    gateway: GatewayHandle,
    operations: Operations,
}

impl Composition for Gateway {
    const SERVICE: Service = Service::Gateway;

    async fn start(loaded: &Loaded) -> Result<Self, StartError> {
        let settings = &loaded.settings;
        let machine = Machine::real();
        let kafka = Bound::new(settings.gateway.kafka.address)?;
        let listener = bind(settings).await?;
        let operations = Operations::serve(settings, &machine).await?;
        say(&format!("kafka listening on {}", kafka.local_addr()))?;
        say(&format!("grpc listening on {}", listener.local_addr()?))?;
        operations.say_address()?;

        let controllers = controllers(endpoints(settings))?;
        let feed = Feed::start(controllers.clone(), FeedOptions::default());
        machine.check_metadata(&feed);
        // The feed goes on for as long as it is held here.
        let _ = feed.wait_for(LogIndex(1)).await;

        let brokers = Arc::new(RoutedBrokers::new(feed.clone(), RoutedOptions::default()));
        let coordinators = Arc::new(RoutedCoordinators::new(feed.clone()));
        let client = ControllerClient::new(controllers.clone());
        let endpoint = kafka::endpoint(&settings.gateway.kafka, &kafka);
        let options = session_options(settings, endpoint.clone(), &machine);
        let session = Arc::new(NodeSession::start(client.clone(), feed.clone(), options));
        session.registered().await.map_err(StartError::Registration)?;
        machine.check_session(&session);
        let parts = KafkaParts {
            brokers: Arc::clone(&brokers),
            coordinators: Arc::clone(&coordinators) as _,
            feed: feed.clone(),
            controller: client,
            standing: session.standing(),
            advertised: Advertised {
                host: endpoint.host,
                port: endpoint.port,
                rack: rack(settings),
            },
            clock: Arc::clone(&machine.clock),
            random: Arc::clone(&machine.random),
        };
        let backend = KafkaBackend::new(parts, kafka_options(settings));
        let kafka = kafka::serve(&settings.gateway.kafka, kafka, backend, &machine)?;
        let gateway =
            serve(settings, listener, controllers, feed, brokers, coordinators, &machine).await?;
        Operations::started(&machine);
        Ok(Self { session, kafka, gateway, operations })
    }

    async fn stop_requested(&self) -> &'static str {
        let mut requested = self.session.shutdown_requested();
        match requested.wait_for(|requested| *requested).await {
            Ok(_) => "asked for by an operator",
            // The session is kept as long as this lives; without it nobody could ask.
            Err(_) => std::future::pending().await,
        }
    }

    async fn shutdown(self) {
        self.operations.stopping();
        // Kafka clients are shown the others from now on.
        if timeout(LEAVE_TIME_MAX, self.session.leave()).await.is_err() {
            tracing::warn!("not let go in time");
        }
        self.kafka.shutdown().await;
        tracing::debug!("Kafka listener stopped");
        self.gateway.shutdown().await;
        self.operations.shutdown().await;
    }
}

fn session_options(settings: &Settings, endpoint: Endpoint, machine: &Machine) -> SessionOptions {
    let gateway = &settings.gateway;
    let random = || Uuid::from_random_bits(machine.random.next_u128());
    SessionOptions {
        role: NodeRole::Gateway,
        // Nothing is kept under it: every process is a node of its own.
        identity: DirId(random()),
        incarnation: IncarnationId(random()),
        endpoints: vec![endpoint],
        rack: rack(settings),
        heartbeat_interval: Duration::from_millis(gateway.heartbeat_interval_ms),
        session_timeout: Duration::from_millis(gateway.session_timeout_ms),
        clock: Arc::clone(&machine.clock),
    }
}

fn kafka_options(settings: &Settings) -> KafkaOptions {
    let gateway = &settings.gateway;
    KafkaOptions {
        auto_create_topics: gateway.auto_create_topics,
        fetch_bytes_max: gateway.fetch_bytes_max,
        // What is left is for other answers.
        fetch_memory_bytes_max: gateway.kafka.unsent_bytes_max / 4 * 3,
        fetch_sessions_max: gateway.fetch_sessions_max,
    }
}

fn rack(settings: &Settings) -> Option<String> {
    Some(settings.gateway.rack.clone()).filter(|rack| !rack.is_empty())
}

/// Takes the address.
pub(super) async fn bind(settings: &Settings) -> Result<TcpListener, StartError> {
    let address = settings.gateway.grpc.address;
    let listen = |source| StartError::Listen { what: "gRPC", address, source };
    TcpListener::bind(address).await.map_err(listen)
}

/// Serves the brokers behind a port over gRPC.
pub(super) async fn serve(
    settings: &Settings,
    listener: TcpListener,
    controller: impl Into<LeaderChannel>,
    feed: Feed,
    broker: Arc<impl BrokerPort>,
    coordinators: Arc<dyn CoordinatorPort>,
    machine: &Machine,
) -> Result<GatewayHandle, StartError> {
    let grpc = &settings.gateway.grpc;
    let server = ServerOptions {
        connections_max: grpc.connections_max,
        calls_max: grpc.calls_max,
        request_bytes_max: grpc.request_bytes_max,
        ..ServerOptions::default()
    };
    let parts = Parts {
        broker,
        coordinators,
        feed,
        controller: controller.into(),
        clock: Arc::clone(&machine.clock),
        metrics: Arc::new(Metrics::register(&machine.registry)),
    };
    let options = GatewayOptions { server, ..GatewayOptions::default() };
    Ok(thalweg_gateway::Gateway::serve_on(listener, options, parts).await?)
}
