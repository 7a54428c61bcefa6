//! Why a client command ended early, in words for the person who typed it.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use thalweg_proto::common::v1::ErrorDetail;
use thalweg_rpc::Error;
use thalweg_types::ErrorCode;

/// Ends a command. The text is the whole message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The server could not be reached.
    #[error("cannot reach {uri}: {reason}")]
    Unreachable { uri: String, reason: String },
    /// A call, or the part of it that `what` names, was refused.
    #[error("{}{error}", if what.is_empty() { String::new() } else { format!("{what}: ") })]
    Refused { what: String, error: Error },
    /// Some parts of a call were refused; they were told one by one already.
    #[error("{failed} of {asked} failed")]
    Partly { failed: usize, asked: usize },
    /// Records were sent again and again and never acknowledged.
    #[error(
        "{records} records were not acknowledged within {} s, and some of them may be stored; the last error: {last}",
        time_max.as_secs_f64()
    )]
    Undelivered { records: u64, time_max: Duration, last: String },
    /// What was looked for was found, and that is no good news; it was told already.
    #[error("{0}")]
    Found(String),
    /// What was waited for did not happen in time. It may still.
    #[error("{0}")]
    TimedOut(String),
    /// The server answered something that makes no sense.
    #[error("unexpected answer: {0}")]
    Protocol(String),
    /// Stored records that cannot be read.
    #[error("{0}")]
    Records(String),
    #[error("{path}: {source}")]
    File { path: String, source: io::Error },
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The arguments do not fit what is there.
    #[error("{0}")]
    Usage(String),
}

impl Failure {
    pub(crate) fn refused(what: impl Into<String>, detail: ErrorDetail) -> Self {
        Self::Refused { what: what.into(), error: Error::from_detail(detail) }
    }

    pub(crate) fn from_status(uri: &str, status: tonic::Status) -> Self {
        match connection_reason(&status) {
            Some(reason) => Self::Unreachable { uri: uri.to_owned(), reason },
            None => Self::Refused { what: String::new(), error: Error::from(status) },
        }
    }

    /// Whether the server refused with this code.
    pub(crate) fn is(&self, code: ErrorCode) -> bool {
        matches!(self, Self::Refused { error, .. } if error.code == code)
    }

    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            _ => 1,
        }
    }
}

/// The innermost cause, if the call never got to a server or lost it.
fn connection_reason(status: &tonic::Status) -> Option<String> {
    let transport = status.source()?;
    transport.downcast_ref::<tonic::transport::Error>()?;
    let mut cause = transport;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    Some(cause.to_string())
}
