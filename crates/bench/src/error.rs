//! What can go wrong between a file, a socket and a server.

use std::io;

use thalweg_record::BatchError;
use thalweg_types::ErrorCode;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the broker answered {}", name(*.0))]
    Broker(i16),
    #[error("the gateway answered: {0}")]
    Gateway(String),
    #[error("the server's answer makes no sense: {0}")]
    Malformed(&'static str),
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error("there is nothing to send")]
    NothingToSend,
    #[error("{0} was not ready after {1} seconds; see {2}")]
    NotReady(&'static str, u64, String),
    #[error("no partition is led after {0} tries")]
    NotLed(u32),
}

fn name(code: i16) -> String {
    ErrorCode::from_code(code)
        .map_or_else(|| format!("error {code}"), |code| code.name().to_owned())
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        Self::Gateway(format!("{}: {}", status.code(), status.message()))
    }
}

impl From<thalweg_rpc::InvalidEndpoint> for Error {
    fn from(error: thalweg_rpc::InvalidEndpoint) -> Self {
        Self::Gateway(error.to_string())
    }
}

impl From<thalweg_proto::common::v1::ErrorDetail> for Error {
    fn from(detail: thalweg_proto::common::v1::ErrorDetail) -> Self {
        Self::Gateway(detail.message)
    }
}
