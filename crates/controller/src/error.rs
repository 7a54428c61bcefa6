//! Why a call failed, and how callers are told.

use thalweg_metadata_core::Error as Refusal;
use thalweg_metadata_feed::DecodeError;
use thalweg_raft::{ProposeError, ReadError};
use thalweg_rpc::Error as RpcError;
use thalweg_types::ErrorCode;

/// A call to the active controller did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// The rules forbid it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The decision could not be committed, or its outcome is unknown.
    #[error(transparent)]
    Uncommitted(#[from] ProposeError),
    /// This node cannot prove that it knows everything decided before.
    #[error(transparent)]
    NotCurrent(#[from] ReadError),
    /// This node is not the active controller at present.
    #[error("this node is not the active controller")]
    NotActive,
    /// A new partition would find no room.
    #[error("the disk of every broker is full: free space or lower retention first")]
    NoRoom,
    /// It leads, but a majority of the quorum has not confirmed that lately.
    #[error("this controller has lost contact with the quorum")]
    Unconfirmed,
    #[error("the controller is shutting down")]
    Stopping,
    /// The deciding task ended in the middle.
    #[error("the controller stopped before it answered")]
    Lost,
}

impl From<CallError> for RpcError {
    fn from(error: CallError) -> Self {
        let message = error.to_string();
        match error {
            CallError::Refused(refusal) => refused(&refusal),
            CallError::Uncommitted(ProposeError::TooLarge { .. }) => {
                Self::new(ErrorCode::PolicyViolation, message).not_applied()
            }
            CallError::NoRoom => {
                Self::new(ErrorCode::KafkaStorageError, message).not_applied().resource_exhausted()
            }
            CallError::Uncommitted(ProposeError::OutcomeUnknown { .. }) | CallError::Lost => {
                Self::new(ErrorCode::RequestTimedOut, message).outcome_unknown()
            }
            CallError::Uncommitted(
                ProposeError::NotLeader { .. } | ProposeError::Stopped { .. },
            )
            | CallError::NotCurrent(_)
            | CallError::NotActive
            | CallError::Unconfirmed
            | CallError::Stopping => Self::new(ErrorCode::NotController, message).not_applied(),
        }
    }
}

/// A refusal, of a call or of one item of it: nothing was changed.
pub(crate) fn refused(refusal: &Refusal) -> RpcError {
    RpcError::new(refusal.code(), refusal.to_string()).not_applied()
}

/// A request that cannot be read.
pub(crate) fn unreadable(error: &DecodeError) -> RpcError {
    RpcError::invalid_request(error.to_string()).not_applied()
}
