//! The error every call may end in, and its two wire forms.
//!
//! On the wire it is a `google.rpc.Status` with one `thalweg.common.v1.ErrorDetail` in the trailer `grpc-status-details-bin`, which
//! every language's gRPC library can read; in an answer about several partitions it is the `ErrorDetail` itself. A status that
//! comes without a detail (a broken connection, a proxy in between) still becomes an [`Error`], on the cautious side: unless the
//! call surely never reached a service, its outcome is unknown.

mod codes;
mod wire;

use std::fmt;
use std::time::Duration;

use thalweg_proto::common::v1 as proto;
use thalweg_types::{ErrorCode, LeaderEpoch, NodeId, Outcome, TopicPartition};
use tonic::{Code, Status};

/// Longest message for people; the rest is cut off. Details travel in a header list of limited size.
const MESSAGE_BYTES_MAX: usize = 1024;

/// What went wrong with a call, or with one partition of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub code: ErrorCode,
    /// Whether it may nevertheless have been applied.
    pub outcome: Outcome,
    /// Whether the same call may succeed later without being changed.
    pub retriable: bool,
    /// For people.
    pub message: String,
    /// The gRPC code, where that of `code` would not say what generic clients should know.
    pub status: Option<Code>,
    /// Where to go instead. Boxed, because it is rare and results are moved a lot.
    pub leader: Option<Box<LeaderHint>>,
}

/// The leader of a partition, as the refusing node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderHint {
    pub partition: TopicPartition,
    /// [`NodeId::NONE`]: no leader at present.
    pub node_id: NodeId,
    pub leader_epoch: LeaderEpoch,
    /// `host:port`, if known.
    pub endpoint: Option<String>,
}

impl Error {
    /// An error with the outcome and the retry flag its code has by itself.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        cut(&mut message, MESSAGE_BYTES_MAX);
        Self {
            code,
            outcome: code.outcome(),
            retriable: code.is_retriable(),
            message,
            status: None,
            leader: None,
        }
    }

    /// A request that breaks a documented rule; the message names the field, the value and the limit.
    pub fn invalid_request(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRequest, message)
    }

    /// The caller's time ran out before anything was tried.
    pub fn expired_before_start() -> Self {
        Self::new(ErrorCode::RequestTimedOut, "the deadline had passed before the call was begun")
            .not_applied()
    }

    /// The caller's time ran out while it waited.
    pub fn timed_out(after: Duration) -> Self {
        Self::new(ErrorCode::RequestTimedOut, format!("no result within {} ms", after.as_millis()))
    }

    /// This place knows that nothing was changed, whatever the code says in general.
    #[must_use]
    pub fn not_applied(self) -> Self {
        Self { outcome: Outcome::NotApplied, ..self }
    }

    /// This place knows that it may have been applied, whatever the code says in general.
    #[must_use]
    pub fn outcome_unknown(self) -> Self {
        Self { outcome: Outcome::Unknown, ..self }
    }

    /// Something is used up, and the same call may succeed when there is more of it.
    #[must_use]
    pub fn resource_exhausted(self) -> Self {
        Self { status: Some(Code::ResourceExhausted), ..self }
    }

    /// What was stored is damaged; trying again does not help.
    #[must_use]
    pub fn data_loss(self) -> Self {
        Self { status: Some(Code::DataLoss), retriable: false, ..self }
    }

    #[must_use]
    pub fn with_leader(self, leader: LeaderHint) -> Self {
        Self { leader: Some(Box::new(leader)), ..self }
    }

    /// The error behind a status that the gRPC library made itself because it could not read a request message: nothing was
    /// applied of that message. `None` for every other status.
    pub fn refused_by_library(status: &Status) -> Option<Self> {
        if !status.details().is_empty() {
            return None;
        }
        let code = codes::refused_message(status)?;
        Some(Self::new(code, status.message()).not_applied())
    }

    /// As a detail inside an answer.
    pub fn to_detail(&self) -> proto::ErrorDetail {
        wire::to_detail(self)
    }

    /// From a detail inside an answer. Codes this build does not know become [`ErrorCode::UnknownServerError`], keeping the rest.
    pub fn from_detail(detail: proto::ErrorDetail) -> Self {
        wire::from_detail(detail)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        match self.outcome {
            Outcome::NotApplied => Ok(()),
            Outcome::Unknown => f.write_str(" (it may have been applied)"),
        }
    }
}

impl std::error::Error for Error {}

impl From<ErrorCode> for Error {
    fn from(code: ErrorCode) -> Self {
        Self::new(code, code.name())
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        wire::to_status(&error)
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        wire::from_status(&status)
    }
}

/// Cuts a text to at most `bytes_max` bytes, at the end of a character.
fn cut(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
    }
}

#[cfg(test)]
mod tests;
