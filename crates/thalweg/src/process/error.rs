//! Why a process did not start.

use std::io;
use std::net::SocketAddr;

use thalweg_gateway as gateway;
use thalweg_kafka::listener;

use super::data_dir::DataDirError;

/// What had been started by then is dropped, which stops it.
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
    #[error("cluster.controllers: {0}")]
    Controllers(#[from] thalweg_rpc::InvalidEndpoints),
    #[error("a setting that Kafka knows: {0}")]
    Config(#[from] thalweg_metadata_core::config::InvalidConfig),
    #[error("the controllers do not take this node: {0}")]
    Registration(thalweg_rpc::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}
