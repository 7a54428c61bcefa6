//! The public gRPC edge, beside a broker or in a process of its own.
//!
//! ```text
//!   address bound ─► a controller found: the metadata is known ─► clients served
//! ```
//!
//! It keeps nothing, so any number of them serve one cluster. Without the metadata it waits, and says in its readiness what for.

use std::sync::Arc;

use thalweg_gateway::port::{BrokerPort, CoordinatorPort, NoCoordinators};
use thalweg_gateway::{GatewayHandle, GatewayOptions, Metrics, Parts};
use thalweg_gateway::{RoutedBrokers, RoutedOptions};
use thalweg_metadata_feed::{Feed, FeedOptions, controllers};
use thalweg_rpc::{LeaderChannel, ServerOptions};
use thalweg_settings::{Loaded, Service, Settings};
use thalweg_types::LogIndex;
use tokio::net::TcpListener;

use super::broker::endpoints;
use super::composition::Composition;
use super::error::StartError;
use super::machine::Machine;
use super::operations::{Operations, say};

pub(super) struct Gateway {
    gateway: GatewayHandle,
    operations: Operations,
}

impl Composition for Gateway {
    const SERVICE: Service = Service::Gateway;

    async fn start(loaded: &Loaded) -> Result<Self, StartError> {
        let settings = &loaded.settings;
        let machine = Machine::real();
        let listener = bind(settings).await?;
        let operations = Operations::serve(settings, &machine).await?;
        say(&format!("grpc listening on {}", listener.local_addr()?))?;
        operations.say_address()?;

        let controllers = controllers(endpoints(settings))?;
        let feed = Feed::start(controllers.clone(), FeedOptions::default());
        machine.check_metadata(&feed);
        // The feed goes on for as long as it is held here.
        let _ = feed.wait_for(LogIndex(1)).await;
        let port = RoutedBrokers::new(feed.clone(), RoutedOptions::default());
        let gateway =
            serve(settings, listener, controllers, feed, port, Arc::new(NoCoordinators), &machine)
                .await?;
        Operations::started(&machine);
        Ok(Self { gateway, operations })
    }

    async fn shutdown(self) {
        self.operations.stopping();
        self.gateway.shutdown().await;
        self.operations.shutdown().await;
    }
}

/// Takes the address.
pub(super) async fn bind(settings: &Settings) -> Result<TcpListener, StartError> {
    let address = settings.gateway.grpc.address;
    let listen = |source| StartError::Listen { what: "gRPC", address, source };
    TcpListener::bind(address).await.map_err(listen)
}

/// Serves the brokers behind `port`.
pub(super) async fn serve(
    settings: &Settings,
    listener: TcpListener,
    controller: impl Into<LeaderChannel>,
    feed: Feed,
    port: impl BrokerPort,
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
        broker: Arc::new(port),
        coordinators,
        feed,
        controller: controller.into(),
        clock: Arc::clone(&machine.clock),
        metrics: Arc::new(Metrics::register(&machine.registry)),
    };
    let options = GatewayOptions { server, ..GatewayOptions::default() };
    Ok(thalweg_gateway::Gateway::serve_on(listener, options, parts).await?)
}
