//! A running gateway: its services behind one listener, with health and reflection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thalweg_proto::admin::v1::admin_server::AdminServer;
use thalweg_proto::consumer::v1::consumer_server::ConsumerServer;
use thalweg_proto::producer::v1::producer_server::ProducerServer;
use thalweg_rpc::{
    MESSAGE_BYTES_MAX, REQUEST_BYTES_MAX, Routes, Server, ServerHandle, ServerOptions,
};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::codec::CompressionEncoding::{Gzip, Zstd};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::admin::AdminService;
use crate::consumer::ConsumerService;
use crate::groups::figures;
use crate::port::BrokerPort;
use crate::producer::ProducerService;
use crate::shared::{Parts, Shared};

/// Reflection shows itself, too.
const REFLECTION_NAMES: [&str; 2] =
    ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];

/// What a gateway allows.
#[derive(Debug, Clone)]
pub struct GatewayOptions {
    pub server: ServerOptions,
    /// How long a stream of records waits for a partition's next leader before it reports the error and follows the partition no longer.
    pub leader_wait_max: Duration,
    /// How often the lag of groups is looked up for the figures.
    pub lag_interval: Duration,
}

impl Default for GatewayOptions {
    fn default() -> Self {
        Self {
            server: ServerOptions::default(),
            leader_wait_max: Duration::from_secs(60),
            lag_interval: Duration::from_secs(30),
        }
    }
}

/// The gateway could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the gRPC listener: {0}")]
    Listen(#[from] io::Error),
    #[error("the services' descriptors: {0}")]
    Descriptors(#[from] tonic_reflection::server::Error),
}

/// The public gRPC edge.
pub struct Gateway;

/// A running gateway. Dropping it stops it without waiting.
pub struct GatewayHandle {
    local_addr: SocketAddr,
    server: ServerHandle,
    stopping: watch::Sender<bool>,
    health: HealthReporter,
    service_names: Vec<&'static str>,
}

impl Gateway {
    /// Binds `address` (port 0: any free one) and serves there. Must be called within a tokio runtime, which then does the work.
    pub async fn serve<B: BrokerPort>(
        address: SocketAddr,
        options: GatewayOptions,
        parts: Parts<B>,
    ) -> Result<GatewayHandle, StartError> {
        Self::serve_on(TcpListener::bind(address).await?, options, parts).await
    }

    /// Serves on a listener that is already bound.
    pub async fn serve_on<B: BrokerPort>(
        listener: TcpListener,
        options: GatewayOptions,
        parts: Parts<B>,
    ) -> Result<GatewayHandle, StartError> {
        let local_addr = listener.local_addr()?;
        let (stopping, stopped) = watch::channel(false);
        let metrics = Arc::clone(&parts.metrics);
        let shared = Arc::new(Shared::new(parts, options.leader_wait_max, stopped));
        tokio::spawn(figures::keep(Arc::clone(&shared), options.lag_interval));
        let routes = services(shared);
        let service_names = routes.names();
        let (health, health_service) = tonic_health::server::health_reporter();
        let routes = with_reflection(routes.with(health_service))?;
        for name in &service_names {
            health.set_service_status(*name, ServingStatus::Serving).await;
        }
        let server = Server::new(options.server).observer(metrics).serve_on(listener, routes)?;
        Ok(GatewayHandle { local_addr, server, stopping, health, service_names })
    }
}

impl GatewayHandle {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Reports itself as not serving, ends its streams, stops accepting, lets calls finish for a while, then breaks off the rest.
    pub async fn shutdown(self) {
        self.health.set_service_status("", ServingStatus::NotServing).await;
        for name in &self.service_names {
            self.health.set_service_status(*name, ServingStatus::NotServing).await;
        }
        // Nobody listens if there never was a stream.
        let _ = self.stopping.send(true);
        self.server.shutdown().await;
    }
}

/// The public services, each with the limits and compressions of the edge.
fn services<B: BrokerPort>(shared: Arc<Shared<B>>) -> Routes {
    let producer = ProducerServer::new(ProducerService(Arc::clone(&shared)))
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
        .accept_compressed(Gzip)
        .accept_compressed(Zstd)
        .send_compressed(Zstd)
        .send_compressed(Gzip);
    let consumer = ConsumerServer::new(ConsumerService(Arc::clone(&shared)))
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .accept_compressed(Gzip)
        .accept_compressed(Zstd)
        .send_compressed(Zstd)
        .send_compressed(Gzip);
    let admin = AdminServer::new(AdminService(shared))
        .accept_compressed(Gzip)
        .accept_compressed(Zstd)
        .send_compressed(Zstd)
        .send_compressed(Gzip);
    Routes::new().with(producer).with(consumer).with(admin)
}

/// Lets clients such as grpcurl ask which services there are and how they are called. Both versions of the protocol: the older one is
/// what many clients still speak.
fn with_reflection(routes: Routes) -> Result<Routes, tonic_reflection::server::Error> {
    let builder = || {
        let described = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(thalweg_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        // Only what is served here: the descriptors also hold the services nodes use among themselves.
        routes
            .names()
            .into_iter()
            .chain(REFLECTION_NAMES)
            .fold(described, tonic_reflection::server::Builder::with_service_name)
    };
    let (v1, v1alpha) = (builder().build_v1()?, builder().build_v1alpha()?);
    Ok(routes.with(v1).with(v1alpha))
}
