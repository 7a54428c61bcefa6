//! What can go wrong between a file, a socket and a broker.

use std::io;

use thalweg_record::BatchError;
use thalweg_types::ErrorCode;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the broker answered {}", name(*.0))]
    Broker(i16),
    #[error("the broker's answer makes no sense: {0}")]
    Malformed(&'static str),
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error("there is nothing to send")]
    NothingToSend,
}

fn name(code: i16) -> String {
    ErrorCode::from_code(code)
        .map_or_else(|| format!("error {code}"), |code| code.name().to_owned())
}
