//! A coordinator in a process of its own.
//!
//! ```text
//!   addresses bound ─► a controller found: the metadata is known ─► registered ─► Kafka, internal gRPC ─► partitions, as they are given
//! ```
//!
//! It keeps nothing on disk: what it knows is in the partitions that it is given, and any other coordinator can be given them.

use std::sync::Arc;
use std::time::Duration;

use thalweg_controller_client::{ControllerClient, NodeSession};
use thalweg_coordinator::{Brokers, InternalService, KafkaBackend};
use thalweg_kafka::listener::{Bound, ListenerHandle, ListenerOptions};
use thalweg_metadata_core::Endpoint;
use thalweg_metadata_feed::{Feed, FeedOptions, controllers};
use thalweg_rpc::{Routes, Server, ServerHandle, ServerOptions};
use thalweg_settings::{Loaded, Service, Settings};
use thalweg_types::{DirId, LogIndex, Uuid};
use tokio::net::TcpListener;

use super::broker::endpoints;
use super::composition::Composition;
use super::coordination::{self, Node};
use super::error::StartError;
use super::kafka_metrics::KafkaMetrics;
use super::machine::Machine;
use super::operations::{Operations, say};

/// How long a coordinator that stops waits for others to take over what it has.
const HAND_OVER_TIME_MAX: Duration = Duration::from_secs(10);

pub(super) struct Coordinator {
    kafka: ListenerHandle,
    internal: ServerHandle,
    coordinator: Arc<thalweg_coordinator::Coordinator>,
    session: Arc<NodeSession>,
    operations: Operations,
}

impl Composition for Coordinator {
    const SERVICE: Service = Service::Coordinator;

    async fn start(loaded: &Loaded) -> Result<Self, StartError> {
        let settings = &loaded.settings;
        let machine = Machine::real();
        let own = &settings.coordinator;
        let kafka = Bound::new(own.kafka.address)?;
        let address = own.internal.address;
        let listen = |source| StartError::Listen { what: "internal gRPC", address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let operations = Operations::serve(settings, &machine).await?;
        say(&format!("kafka listening on {}", kafka.local_addr()))?;
        say(&format!("internal listening on {}", listener.local_addr()?))?;
        operations.say_address()?;

        let controllers = controllers(self::endpoints(settings))?;
        let feed = Feed::start(controllers.clone(), FeedOptions::default());
        machine.check_metadata(&feed);
        // The feed goes on for as long as it is held here.
        let _ = feed.wait_for(LogIndex(1)).await;
        let node = Node {
            identity: DirId(Uuid::from_random_bits(machine.random.next_u128())),
            endpoints: advertised(settings, &kafka, listener.local_addr()?.port()),
        };
        let controller = ControllerClient::new(controllers);
        let brokers = Brokers::remote();
        let (coordinator, session) =
            coordination::start(settings, &machine, &feed, &controller, brokers, node);
        // Nobody comes before the metadata names this node, and the others are told about then.
        let routes = Routes::new().with(InternalService::new(Arc::clone(&coordinator)));
        let internal = Server::new(ServerOptions::default()).serve_on(listener, routes)?;
        let backend = KafkaBackend::new(Arc::clone(&coordinator));
        let kafka = serve(kafka, backend, &machine)?;
        session.registered().await.map_err(StartError::Registration)?;
        machine.check_session(&session);
        Operations::started(&machine);
        Ok(Self { kafka, internal, coordinator, session, operations })
    }

    async fn stop_requested(&self) -> &'static str {
        let mut requested = self.session.shutdown_requested();
        match requested.wait_for(|requested| *requested).await {
            Ok(_) => "asked for by an operator",
            // Nobody is left who could ask.
            Err(_) => std::future::pending().await,
        }
    }

    async fn shutdown(self) {
        self.operations.stopping();
        // Clients are still told who coordinates instead.
        if tokio::time::timeout(HAND_OVER_TIME_MAX, self.coordinator.leave()).await.is_err() {
            tracing::warn!("stops without having been let go");
        }
        self.coordinator.stop();
        tracing::debug!("partitions handed over");
        self.internal.shutdown().await;
        self.kafka.shutdown().await;
        tracing::debug!("listeners stopped");
        self.operations.shutdown().await;
    }
}

fn serve(
    bound: Bound,
    backend: KafkaBackend,
    machine: &Machine,
) -> Result<ListenerHandle, StartError> {
    let options = ListenerOptions::new(bound.local_addr());
    let handle = bound.start(options, Arc::new(backend))?;
    let metrics = KafkaMetrics(handle.counters());
    machine.registry.register(|registry| registry.register_collector(Box::new(metrics)));
    Ok(handle)
}

/// Where clients and gateways are told to connect to.
fn advertised(settings: &Settings, kafka: &Bound, internal_port: u16) -> Vec<Endpoint> {
    let own = &settings.coordinator;
    let endpoint = |listener: &str, host: &str, port: u16, bound: u16| Endpoint {
        listener: listener.to_owned(),
        host: host.to_owned(),
        port: if port == 0 { bound } else { port },
    };
    let (client, other) = (&own.kafka, &own.internal);
    let kafka_port = kafka.local_addr().port();
    vec![
        endpoint(Endpoint::KAFKA, &client.advertised_host, client.advertised_port, kafka_port),
        endpoint(Endpoint::INTERNAL, &other.advertised_host, other.advertised_port, internal_port),
    ]
}
