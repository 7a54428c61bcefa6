//! The public gRPC edge.

use std::sync::Arc;

use thalweg_gateway::port::BrokerPort;
use thalweg_gateway::{Gateway, GatewayHandle, GatewayOptions, Metrics, Parts};
use thalweg_metadata_feed::Feed;
use thalweg_rpc::{LeaderChannel, ServerOptions};
use thalweg_settings::Settings;
use tokio::net::TcpListener;

use super::error::StartError;
use super::machine::Machine;

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
        feed,
        controller: controller.into(),
        clock: Arc::clone(&machine.clock),
        metrics: Arc::new(Metrics::register(&machine.registry)),
    };
    let options = GatewayOptions { server, ..GatewayOptions::default() };
    Ok(Gateway::serve_on(listener, options, parts).await?)
}
